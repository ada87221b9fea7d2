"""The challenge's files: every form of every key, broken files, and files that attack."""

import contextlib
import io
import logging
import os
import pickle
import pickletools
import resource
import stat
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gamt.io.case import (
    Case,
    CaseError,
    read_case,
    read_spacing,
    read_truth,
    read_volume,
    write_case,
    write_segmentation,
)
from gamt.io.pickles import NpyError, load_plain
from gamt.prompts import Box, ClassPrompts, Click, box_of_mask
from gamt.windows import IntensityWindow

SHAPE = (30, 40, 50)
BOX = {
    "z_min": 3,
    "z_max": 12,
    "z_mid": 7,
    "z_mid_x_min": 20,
    "z_mid_y_min": 10,
    "z_mid_x_max": 45,
    "z_mid_y_max": 39,
}
# Inclusive in the file, half-open in the code: every maximum is one more; z_mid is an index.
BOX_READ = Box(z_min=3, z_max=13, z_mid=7, y_min=10, y_max=40, x_min=20, x_max=46)
CLICKS = {"fg": [[1, 2, 3], [4, 5, 6]], "bg": [[7, 8, 9]]}
FG1, FG2, BG1 = Click(1, 2, 3, True), Click(4, 5, 6, True), Click(7, 8, 9, False)


def objects(*entries: object) -> npt.NDArray[np.object_]:
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array


def scalar_object(value: object) -> npt.NDArray[np.object_]:
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def save(folder: Path, **arrays: Any) -> Path:
    """Saves a valid case of one class, with the given keys changed; None takes a key away."""
    path = folder / "scan.npz"
    content: dict[str, Any] = {
        "imgs": np.zeros(SHAPE, np.uint8),
        "spacing": np.ones(3),
        "boxes": objects(BOX),
    } | arrays
    kept = {key: value for key, value in content.items() if value is not None}
    np.savez_compressed(path, **kept)
    return path


def read(folder: Path, **arrays: Any) -> Case:
    return read_case(save(folder, **arrays))


def failure(folder: Path, **arrays: Any) -> CaseError:
    with pytest.raises(CaseError) as caught:
        read(folder, **arrays)
    return caught.value


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all((r.name, r.levelno) == ("gamt", logging.WARNING) for r in caplog.records)
    return [record.getMessage() for record in caplog.records]


# --- errors -------------------------------------------------------------------------------------


def test_error_names_file_key_found_and_expected(tmp_path: Path) -> None:
    error = failure(tmp_path, boxes=objects(BOX, None, BOX | {"z_min": 2.5}))
    assert str(error) == (
        "scan.npz: key 'boxes': found 'z_min' = 2.5 in entry 2, expected an integer in 0..29"
    )
    assert error.path == tmp_path / "scan.npz"
    assert error.key == "boxes"
    assert error.found == "'z_min' = 2.5 in entry 2"
    assert error.expected == "an integer in 0..29"
    assert isinstance(error, ValueError)


def test_error_survives_the_way_between_processes(tmp_path: Path) -> None:
    error = failure(tmp_path, imgs=None)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def not_there(path: Path) -> None:
    pass


def directory(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("not a zip file")


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (not_there, "no such file or directory"),
        (directory, "is a directory"),
        (empty, "no zip archive, or a damaged one"),
        (text, "no zip archive, or a damaged one"),
        (npy, "no zip archive, or a damaged one"),
    ],
)
def test_not_an_npz(tmp_path: Path, make: Callable[[Path], None], found: str) -> None:
    make(tmp_path / "scan.npz")
    with pytest.raises(CaseError) as caught:
        read_case(tmp_path / "scan.npz")
    assert str(caught.value) == f"scan.npz: found {found}, expected a readable npz file"


def test_truncated_file(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CaseError, match=r"^scan\.npz: found no zip archive"):
        read_case(path)


@pytest.mark.parametrize("key", ["imgs", "spacing", "boxes"])
@pytest.mark.parametrize("kept", [0, 5, 60, 128, 140])
def test_truncated_member(tmp_path: Path, key: str, kept: int) -> None:
    replace_member(path := save(tmp_path), key, lambda data: data[:kept])
    with pytest.raises(CaseError) as caught:
        read_case(path)
    assert caught.value.key == key
    assert caught.value.expected == "a complete array of plain values"


def test_damaged_member(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, imgs=np.zeros(SHAPE, np.uint8), boxes=objects(BOX))
    data = bytearray(path.read_bytes())
    data[5000] ^= 1  # within the image, stored as it is: only the checksum tells
    path.write_bytes(data)
    with pytest.raises(CaseError, match="key 'imgs': found damaged data"):
        read_case(path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_a_case_error_or_none(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "scan.npz"
    image = np.zeros((2, 3, 4), np.uint8)
    write_case(path, image, (1, 1, 1), [ClassPrompts(1, Box(0, 2, 1, 0, 3, 0, 4), (FG1,))])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(CaseError):
        assert read_case(path).image.shape == image.shape


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_forged_pickle_is_a_case_error_or_none(tmp_path: Path, data: st.DataObject) -> None:
    # As above, with the archive's checksums right: the damage gets as far as the unpickler.
    content = bytearray(npy_of(pickle.dumps(objects(numpy_ints(BOX)), 4)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    replace_member(path := save(tmp_path), "boxes", lambda _: bytes(content))
    with contextlib.suppress(CaseError):
        assert read_case(path).image.shape == SHAPE


def replace_member(path: Path, key: str, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[f"{key}.npy"] = change(members.get(f"{key}.npy", b""))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


# --- image, spacing, previous prediction, ground truth --------------------------------------------


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", ">i2", "i4", "u8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_image_of_any_number_type(tmp_path: Path, dtype: str, order: Any) -> None:
    image = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    box = dict.fromkeys(BOX, 1)
    case = read(tmp_path, imgs=image, boxes=objects(box))
    assert case.name == "scan"
    np.testing.assert_array_equal(case.image, image)
    assert case.image.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((3, 4)), "float64 of shape (3, 4)"),
        (np.zeros((1, 2, 3, 4), np.uint8), "uint8 of shape (1, 2, 3, 4)"),
        (np.zeros((0, 3, 4), np.uint8), "uint8 of shape (0, 3, 4)"),
        (np.zeros((2, 3, 4), complex), "complex128 of shape (2, 3, 4)"),
        (np.zeros((2, 3, 4), "U1"), "<U1 of shape (2, 3, 4)"),
        (np.zeros((2, 3, 4), object), "object of shape (2, 3, 4)"),
        (None, "no such key"),
    ],
)
def test_image_that_is_none(tmp_path: Path, image: Any, found: str) -> None:
    error = failure(tmp_path, imgs=image)
    assert (error.key, error.found) == ("imgs", found)
    assert "(D, H, W) volume" in error.expected


def test_structured_image(tmp_path: Path) -> None:
    for inner in ("u1", "O"):
        error = failure(tmp_path, imgs=np.zeros((2, 3, 4), [("a", inner)]))
        assert (error.key, error.found) == ("imgs", "a structured array")


@pytest.mark.parametrize(
    "spacing",
    [
        np.array([2.5, 0.5, 0.75]),
        np.array([2.5, 0.5, 0.75], np.float32),
        objects(2.5, np.float32(0.5), 0.75),
        scalar_object([2.5, 0.5, 0.75]),
        scalar_object((2.5, 0.5, 0.75)),
    ],
)
def test_spacing_is_read_as_it_stands(
    tmp_path: Path, spacing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(tmp_path, spacing=spacing).spacing_mm == (2.5, 0.5, 0.75)
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "spacing_mm",
    [
        (5.0, 0.7, 0.7),  # the in-plane axes agree as they stand
        (0.7, 5.0, 5.0),
        (1.0, 1.0, 1.0),  # isotropic: both orders agree, and are the same
        (1.0, 2.0, 3.0),  # neither order agrees
        (1.0, 2.0, 1.0),
        (0.7, 0.75, 5.0),  # nor here
        (1.0, 1.0, 1.0005),  # the two of either order agree within a thousandth
    ],
)
def test_spacing_of_unknown_order_stays_as_the_file_has_it(
    tmp_path: Path, spacing_mm: tuple[float, float, float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="gamt"):
        assert read(tmp_path, spacing=spacing_mm).spacing_mm == spacing_mm
    assert not caplog.records


@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7, 5.0), (0.7, 0.7003, 5.0), (5.0, 5.0, 0.7)])
def test_spacing_of_unknown_order_whose_first_two_agree_is_reversed_and_logged(
    tmp_path: Path, spacing_mm: tuple[float, float, float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="gamt"):
        assert read(tmp_path, spacing=spacing_mm).spacing_mm == spacing_mm[::-1]
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    # Four digits are enough to tell a scan by, and 0.7003 has four.
    numbers = ", ".join(f"{mm:.4g}" for mm in spacing_mm)
    assert f"spacing {numbers} read as x, y, z" in record.getMessage()


@pytest.mark.parametrize("order", [None, np.array("xyz"), np.array(["zyx"] * 2), np.array(3)])
def test_spacing_alone_is_ordered_as_a_case_is(tmp_path: Path, order: Any) -> None:
    path = save(tmp_path, spacing=(0.7, 0.7, 5.0), spacing_order=order, imgs=None)
    assert read_spacing(path) == (5.0, 0.7, 0.7)


def test_spacing_whose_order_the_file_says_is_not_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sagittal = (0.6, 0.6, 6.0)  # thick slices along x
    path = tmp_path / "scan.npz"
    write_case(path, np.zeros(SHAPE, np.uint8), sagittal, [ClassPrompts(1, BOX_READ)])
    with caplog.at_level(logging.INFO, logger="gamt"):
        assert read_case(path).spacing_mm == sagittal
        assert read_spacing(path) == sagittal
    assert not caplog.records


@pytest.mark.parametrize(
    ("spacing", "used", "message"),
    [
        (None, (1, 1, 1), "found no such key, used 1 mm"),
        (scalar_object(None), (1, 1, 1), "found no such key, used 1 mm"),
        ([3, 0, 2], (3, 1, 2), "found [3.0, 0.0, 2.0], used [3.0, 1.0, 2.0] mm"),
        ([-3, 2, np.nan], (1, 2, 1), "found [-3.0, 2.0, nan], used [1.0, 2.0, 1.0] mm"),
        ([3, 2, np.inf], (3, 2, 1), "found [3.0, 2.0, inf], used [3.0, 2.0, 1.0] mm"),
        (objects(10**400, 2, 3), (1, 2, 3), "found [inf, 2.0, 3.0], used [1.0, 2.0, 3.0] mm"),
        ([0, 0, 0], (1, 1, 1), "found [0.0, 0.0, 0.0], used [1.0, 1.0, 1.0] mm"),
        ([1e308, 2, 3], (1, 2, 3), "found [1e+308, 2.0, 3.0], used [1.0, 2.0, 3.0] mm"),
        ([9e3, 2, 3], (1, 1, 1), "found [9000.0, 2.0, 3.0], used [1.0, 1.0, 1.0] mm"),
    ],
)
def test_spacing_that_is_wrong_becomes_1_mm(
    tmp_path: Path,
    spacing: Any,
    used: tuple[float, ...],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert read(tmp_path, spacing=spacing).spacing_mm == used
    assert warnings(caplog) == [f"scan.npz: key 'spacing': {message}"]


@pytest.mark.parametrize(
    "spacing",
    [[1, 2], [1, 2, 3, 4], [[1, 2, 3]], 5.0, ["1", "2", "3"], [1j, 2, 3], [True] * 3, [1, None, 2]],
)
def test_spacing_that_is_not_three_numbers(tmp_path: Path, spacing: Any) -> None:
    error = failure(tmp_path, spacing=np.array(spacing))
    assert (error.key, error.expected) == ("spacing", "3 numbers, mm per voxel along z, y, x")


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4", "?"])
def test_previous_prediction_is_cast(tmp_path: Path, dtype: str) -> None:
    previous = np.zeros(SHAPE, dtype)
    previous[3, 4, 5] = 1
    read_back = read(tmp_path, prev_pred=previous).previous
    assert read_back is not None
    assert read_back.dtype == np.uint8
    assert np.argwhere(read_back).tolist() == [[3, 4, 5]]


def test_previous_prediction_of_zeros_is_kept(tmp_path: Path) -> None:
    previous = read(tmp_path, prev_pred=np.zeros(SHAPE, np.uint8)).previous
    assert previous is not None
    assert not previous.any()
    assert read(tmp_path).previous is None


def test_previous_prediction_of_another_shape(tmp_path: Path) -> None:
    error = failure(tmp_path, prev_pred=np.zeros((30, 50, 40), np.uint8))
    assert str(error) == (
        "scan.npz: key 'prev_pred': found uint8 of shape (30, 50, 40), "
        "expected the shape of 'imgs', (30, 40, 50)"
    )


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan, np.inf, 256, 257])
def test_previous_prediction_of_other_labels(tmp_path: Path, value: float) -> None:
    # One class, so 0 and 1 are the labels; 257 would be 1 as uint8.
    previous = np.zeros(SHAPE)
    previous[1, 2, 3] = value
    error = failure(tmp_path, prev_pred=previous)
    assert (error.key, error.expected) == ("prev_pred", "whole numbers, labels in 0..1, alone")


def test_ground_truth_is_never_read(tmp_path: Path) -> None:
    path = save(tmp_path, gts=np.zeros(SHAPE, np.uint8))
    replace_member(path, "gts", lambda data: b"neither an array nor a pickle")
    expected = read_case(path)
    # A trap that fires even if the member is only opened: its local header is no header.
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("gts.npy").header_offset
    path.write_bytes(data[:start] + b"XXXX" + data[start + 4 :])
    with zipfile.ZipFile(path) as archive, pytest.raises(zipfile.BadZipFile):
        archive.open("gts.npy")
    assert read_case(path).prompts == expected.prompts


# --- a volume alone -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "window"),
    [
        (None, None),
        (np.array([40, 400]), (-160, 240)),
        (np.array([0.5, 0.25], np.float32), (0.375, 0.625)),
        (np.array("lung"), (-1350, 150)),
    ],
)
def test_a_file_may_say_its_window(
    tmp_path: Path, stored: object, window: tuple[float, float] | None
) -> None:
    assert read(tmp_path, window=stored).window == window


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (np.array([40, 0]), "[40, 0]"),
        (np.array([40, -1.5]), "[40.0, -1.5]"),
        (np.array([np.nan, 400]), "[nan, 400.0]"),
        (np.array([40, np.inf]), "[40.0, inf]"),
        (np.array([1, 2, 3]), "[1, 2, 3]"),
        (np.array([[40, 400]]), "[[40, 400]]"),
        (np.array(["a", "b"]), "['a', 'b']"),
        (np.array("liver"), "'liver'"),
        (np.array(40), "40"),
    ],
)
def test_a_window_that_is_none_is_an_error(tmp_path: Path, stored: object, found: str) -> None:
    error = failure(tmp_path, window=stored)
    assert (error.key, error.found) == ("window", found)
    assert error.expected == (
        "2 finite numbers, level and width in the units of 'imgs', the width above 0, or "
        "one of soft-tissue, lung, bone, brain"
    )


def test_a_window_is_written_as_level_and_width(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    image, prompts = np.zeros(SHAPE, np.int16), [ClassPrompts(1, BOX_READ)]
    write_case(path, image, (1, 1, 1), prompts, window=IntensityWindow(-160, 240))
    with np.load(path) as file:
        assert file["window"].tolist() == [40, 400]
    assert read_case(path).window == (-160, 240)


@pytest.mark.parametrize("key", ["imgs", "gts", "segs", "prev_pred"])
def test_a_volume_is_read_by_its_key(tmp_path: Path, key: str) -> None:
    volume = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    path = save(tmp_path, **{key: volume}, boxes=None)
    np.testing.assert_array_equal(read_volume(path, key), volume)
    assert read_volume(path, key).dtype == np.int16


def test_without_a_key_the_volume_is_the_image_or_else_the_segmentation(tmp_path: Path) -> None:
    segmentation = np.ones(SHAPE, np.uint8)
    assert not read_volume(save(tmp_path, segs=segmentation)).any()
    assert read_volume(save(tmp_path, imgs=None, segs=segmentation)).all()


@pytest.mark.parametrize(
    ("key", "found"),
    [(None, "no such key"), ("gts", "no such key"), ("boxes", "object of shape (1,)")],
)
def test_key_without_a_volume(tmp_path: Path, key: str | None, found: str) -> None:
    with pytest.raises(CaseError) as caught:
        read_volume(save(tmp_path, imgs=None), key)
    assert (caught.value.key, caught.value.found) == (key or "segs", found)


def test_volume_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"^scan\.npz: found no such file"):
        read_volume(tmp_path / "scan.npz")


def test_spacing_alone_may_be_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_spacing(save(tmp_path, spacing=[3, 2, 1], imgs=None)) == (3, 2, 1)
    assert read_spacing(save(tmp_path, spacing=None)) is None
    assert warnings(caplog) == []


def test_the_truth_may_be_absent_but_not_of_another_shape(tmp_path: Path) -> None:
    assert read_truth(save(tmp_path), SHAPE) is None
    truth = np.zeros(SHAPE, np.int32)
    truth[1, 2, 3] = 2
    path = save(tmp_path, gts=truth)
    found = read_truth(path, SHAPE)
    assert found is not None
    np.testing.assert_array_equal(found, truth)
    with pytest.raises(CaseError, match=r"key 'gts': found int32 .* expected the shape of 'imgs'"):
        read_truth(path, (1, 2, 3))


# --- boxes ----------------------------------------------------------------------------------------


def test_box_of_a_bent_label_is_tight_on_the_middle_one_of_its_slices() -> None:
    # Slices 1, 2, 3, 6 and 7: the middle one is 3, where the middle of the range is 4.
    mask = np.zeros((9, 10, 12), bool)
    mask[1, 0, 0] = mask[2, 1, 1:3] = True
    mask[3, 2, 4] = mask[3, 4, 7] = True
    mask[6, 5:8, 9] = mask[7, 9, 11] = True
    assert box_of_mask(mask) == Box(z_min=1, z_max=8, z_mid=3, y_min=2, y_max=5, x_min=4, x_max=8)


def test_box_of_an_even_number_of_slices_is_on_the_upper_middle_one() -> None:
    mask = np.zeros((4, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = mask[3, 0, 2] = True
    assert box_of_mask(mask) == Box(0, 4, 2, 2, 3, 2, 3)


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(ValueError, match="empty"):
        box_of_mask(np.zeros(SHAPE, bool))


def numpy_ints(box: dict[str, int]) -> dict[str, object]:
    types = [np.int64, np.int32, np.uint8, np.int16, np.float64, np.float32, float]
    return {key: make(box[key]) for key, make in zip(box, types, strict=True)}


@pytest.mark.parametrize(
    "boxes",
    [
        objects(BOX),
        scalar_object([BOX]),
        scalar_object((BOX,)),
        scalar_object(BOX),
        scalar_object(objects(BOX)),
        objects(OrderedDict(BOX)),
        objects(numpy_ints(BOX)),
        objects(BOX | {"comment": "ignored"}),
    ],
)
def test_box_in_any_form(tmp_path: Path, boxes: Any) -> None:
    assert read(tmp_path, boxes=boxes).prompts == (ClassPrompts(1, BOX_READ),)


@pytest.mark.parametrize("wrap", [lambda entries: objects(*entries), scalar_object])
def test_boxes_are_labels_in_order(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    prompts = read(tmp_path, boxes=wrap([None, BOX, None])).prompts
    assert prompts == (ClassPrompts(1), ClassPrompts(2, BOX_READ), ClassPrompts(3))


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        # The volume is 30 x 40 x 50 voxels; the last ones are 29, 39 and 49.
        (
            {"z_min": -3},
            {"z_min": 0},
            "found 'z_min' = -3, 'z_max' = 12 in entry 0, used 0 and 12",
        ),
        (
            {"z_mid_x_max": 50},
            {"x_max": 50},
            "found 'z_mid_x_min' = 20, 'z_mid_x_max' = 50 in entry 0, used 20 and 49",
        ),
        (
            {"z_mid_y_min": -1, "z_mid_y_max": 40},
            {"y_min": 0, "y_max": 40},
            "found 'z_mid_y_min' = -1, 'z_mid_y_max' = 40 in entry 0, used 0 and 39",
        ),
        # z_mid is among the slices that were cut off: the nearest one that exists.
        (
            {"z_mid": 35, "z_max": 60},
            {"z_mid": 29, "z_max": 30},
            "found 'z_min' = 3, 'z_max' = 60 in entry 0, used 3 and 29",
        ),
    ],
)
def test_box_partly_outside_is_clipped(
    tmp_path: Path,
    change: dict[str, int],
    expected: dict[str, int],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = read(tmp_path, boxes=objects(BOX | change)).prompts[0].box
    fields = {name: getattr(BOX_READ, name) for name in Box.__slots__}
    assert box == Box(**(fields | expected))
    assert warnings(caplog) == [f"scan.npz: key 'boxes': {message}"]


def test_box_on_the_volumes_edge_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = {"z_min": 0, "z_max": 29, "z_mid": 15, "z_mid_y_min": 0, "z_mid_y_max": 39}
    box = (
        read(tmp_path, boxes=objects(whole | {"z_mid_x_min": 0, "z_mid_x_max": 49})).prompts[0].box
    )
    assert box is not None
    assert (box.low, box.high) == ((0, 0, 0), SHAPE)
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        (
            {"z_min": 30, "z_max": 35, "z_mid": 30},
            "'z_min' = 30, 'z_max' = 35",
            "a range, min <= max, that meets 0..29",
        ),
        (
            {"z_mid_x_min": -9, "z_mid_x_max": -1},
            "'z_mid_x_min' = -9, 'z_mid_x_max' = -1",
            "a range, min <= max, that meets 0..49",
        ),
        (
            {"z_mid_y_min": 11, "z_mid_y_max": 10},
            "'z_mid_y_min' = 11, 'z_mid_y_max' = 10",
            "a range, min <= max, that meets 0..39",
        ),
        ({"z_mid": 2}, "'z_mid' = 2", "an integer in 3..12"),
        ({"z_mid": 13}, "'z_mid' = 13", "an integer in 3..12"),
        ({"z_mid": 7.5}, "'z_mid' = 7.5", "an integer in 0..29"),
        ({"z_max": np.float32("nan")}, "'z_max' = nan", "an integer in 0..29"),
        ({"z_max": np.inf}, "'z_max' = inf", "an integer in 0..29"),
        ({"z_mid_x_min": "20"}, "'z_mid_x_min' = '20'", "an integer in 0..49"),
        ({"z_mid_y_min": None}, "'z_mid_y_min' = None", "an integer in 0..39"),
        ({"z_mid_y_min": True}, "'z_mid_y_min' = True", "an integer in 0..39"),
        ({"z_min": [3]}, "'z_min' = [3]", "an integer in 0..29"),
    ],
)
def test_box_that_makes_no_sense(
    tmp_path: Path, change: dict[str, Any], found: str, expected: str
) -> None:
    error = failure(tmp_path, boxes=objects(None, BOX | change))
    assert (error.key, error.found, error.expected) == ("boxes", f"{found} in entry 1", expected)


@pytest.mark.parametrize("key", BOX)
def test_box_without_one_of_its_keys(tmp_path: Path, key: str) -> None:
    box = {name: value for name, value in BOX.items() if name != key}
    error = failure(tmp_path, boxes=objects(box))
    assert str(error) == (
        f"scan.npz: key 'boxes': found no '{key}' in entry 0, expected the seven bounds of a box"
    )


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        (np.array([1.0, 2.0]), "1.0 in entry 0"),
        (scalar_object("boxes"), "'boxes'"),
        (scalar_object(7), "7"),
        (objects([BOX]), "[{'z_max': 12, 'z_mid': 7, 'z_mid_x_max': 45, 'z_mid_x_min': 20, ...}]"),
    ],
)
def test_boxes_that_are_none(tmp_path: Path, boxes: Any, found: str) -> None:
    error = failure(tmp_path, boxes=boxes)
    assert error.key == "boxes"
    assert error.found.startswith(found)


def test_messages_stay_short_whatever_the_file_holds(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(300):
        deep = [deep, "x" * 1000]
    for odd in (deep, 10**5000, 1 << 20000, {"z_min": deep}):
        assert len(str(failure(tmp_path, boxes=objects(odd)))) < 500
    assert len(str(failure(tmp_path, boxes=objects(BOX | {"z_min": 10**5000})))) < 500


# --- classes --------------------------------------------------------------------------------------


def test_no_prompts(tmp_path: Path) -> None:
    for missing in (None, objects(), scalar_object([]), scalar_object(None)):
        assert str(failure(tmp_path, boxes=missing)) == (
            "scan.npz: key 'boxes': found no prompts, "
            "expected an entry for each class here or in 'clicks'"
        )


@pytest.mark.parametrize(
    ("arrays", "key"),
    [
        ({"clicks": objects(CLICKS)}, "clicks"),
        ({"clicks_order": np.array([["fg"]])}, "clicks_order"),
    ],
)
def test_as_many_classes_in_every_key(tmp_path: Path, arrays: Any, key: str) -> None:
    error = failure(tmp_path, boxes=objects(BOX, BOX), **arrays)
    assert str(error) == (
        f"scan.npz: key '{key}': found 1 entries, expected one for each of the 2 classes"
    )


def test_as_many_classes_as_labels_fit(tmp_path: Path) -> None:
    case = read(tmp_path, boxes=objects(*[BOX] * 255))
    assert [one.label for one in case.prompts] == list(range(1, 256))
    for key in ("boxes", "clicks"):
        error = failure(tmp_path, **({"boxes": None} | {key: objects(*[None] * 256)}))
        assert str(error) == (
            f"scan.npz: key '{key}': found 256 classes, expected at most 255 (uint8)"
        )


# --- clicks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clicks",
    [
        objects(CLICKS),
        scalar_object([CLICKS]),
        scalar_object(CLICKS),
        objects({"fg": np.array(CLICKS["fg"]), "bg": np.array(CLICKS["bg"], np.uint8)}),
        objects({"fg": [np.array([1, 2, 3]), (4, 5.0, np.int16(6))], "bg": ((7, 8, 9),)}),
    ],
)
@pytest.mark.parametrize("boxes", [None, objects(BOX)])
def test_clicks_in_any_form(tmp_path: Path, clicks: Any, boxes: Any) -> None:
    (prompts,) = read(tmp_path, clicks=clicks, boxes=boxes).prompts
    # Without `clicks_order`: all positive ones, then all negative ones.
    assert prompts == ClassPrompts(1, None if boxes is None else BOX_READ, (FG1, FG2, BG1))


@pytest.mark.parametrize("entry", [None, {}, {"fg": [], "bg": []}, {"fg": np.zeros((0, 3), int)}])
def test_class_without_clicks(tmp_path: Path, entry: Any) -> None:
    assert read(tmp_path, clicks=objects(entry)).prompts == (ClassPrompts(1, BOX_READ),)


def test_class_with_clicks_of_one_kind(tmp_path: Path) -> None:
    (prompts,) = read(tmp_path, clicks=objects({"bg": [[7, 8, 9]]})).prompts
    assert prompts.clicks == (BG1,)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # A plain array of strings, as numpy makes it of equally long lists.
        (np.array([["fg", "bg", "fg"]]), (FG1, BG1, FG2)),
        (np.array([["bg", "fg", "fg"]]), (BG1, FG1, FG2)),
        # None: in that round the class was perfect.
        (np.array([["fg", None, "bg", "fg"]]), (FG1, BG1, FG2)),
        (objects([None, "bg", "fg", None, "fg"]), (BG1, FG1, FG2)),
        (objects(("bg", "fg", "fg")), (BG1, FG1, FG2)),
        (objects(np.array(["fg", "fg", "bg"])), (FG1, FG2, BG1)),
        (scalar_object([["fg", "bg", "fg"]]), (FG1, BG1, FG2)),
        (scalar_object(None), (FG1, FG2, BG1)),
    ],
)
def test_clicks_in_order_of_time(tmp_path: Path, order: Any, expected: tuple[Click, ...]) -> None:
    (prompts,) = read(tmp_path, clicks=objects(CLICKS), clicks_order=order).prompts
    assert prompts.clicks == expected


def test_clicks_of_several_classes(tmp_path: Path) -> None:
    case = read(
        tmp_path,
        boxes=None,
        clicks=objects({"fg": [[1, 2, 3]], "bg": []}, CLICKS, {"fg": [], "bg": []}),
        clicks_order=objects(["fg", None, None], ["bg", "fg", "fg"], [None]),
    )
    assert [one.clicks for one in case.prompts] == [(FG1,), (BG1, FG1, FG2), ()]
    assert [one.box for one in case.prompts] == [None, None, None]


def test_order_of_the_first_round_is_empty(tmp_path: Path) -> None:
    # Equally long lists again, of which numpy makes an array of floats, shape (1, 0).
    assert read(tmp_path, clicks_order=np.array([[]])).prompts == (ClassPrompts(1, BOX_READ),)


@pytest.mark.parametrize(
    ("order", "found", "expected"),
    [
        (["fg", "bg"], "1 'fg' and 1 'bg'", "2 and 1 as in 'clicks'"),
        (["fg", "bg", "fg", "bg"], "2 'fg' and 2 'bg'", "2 and 1 as in 'clicks'"),
        (None, "0 'fg' and 0 'bg'", "2 and 1 as in 'clicks'"),
        (["fg", "up", "bg"], "['fg', 'up', 'bg']", "a list of 'fg', 'bg' and None"),
        ([1, 0, 1], "[1, 0, 1]", "a list of 'fg', 'bg' and None"),
        ("fgfgbg", "'fgfgbg'", "a list of 'fg', 'bg' and None"),
        ([["fg"]], "[['fg']]", "a list of 'fg', 'bg' and None"),
    ],
)
def test_order_that_does_not_fit_the_clicks(
    tmp_path: Path, order: Any, found: str, expected: str
) -> None:
    boxes = objects(None, None)
    clicks = objects(None, CLICKS)
    error = failure(tmp_path, boxes=boxes, clicks=clicks, clicks_order=objects([], order))
    assert (error.key, error.expected) == ("clicks_order", expected)
    assert error.found == f"{found} in entry 1"


@pytest.mark.parametrize("name", ["fg", "bg"])
@pytest.mark.parametrize(
    "click",
    [
        [30, 0, 0],
        [0, 40, 0],
        [0, 0, 50],
        [-1, 0, 0],
        [0, 0],
        [0, 0, 0, 0],
        [0, 0.5, 0],
        [0, np.nan, 0],
        [0, "1", 0],
        [0, None, 0],
        [0, True, 0],
        7,
        "000",
    ],
)
def test_click_that_is_none(tmp_path: Path, name: str, click: Any) -> None:
    entry: dict[str, Any] = {"fg": [], "bg": []}
    entry[name] = [[29, 39, 49], click]
    error = failure(tmp_path, clicks=objects(entry))
    assert error.key == "clicks"
    assert error.expected == "[z, y, x] in (0, 0, 0)..(29, 39, 49)"
    assert error.found.endswith(" in entry 0")


def test_click_error_names_the_click(tmp_path: Path) -> None:
    error = failure(tmp_path, clicks=objects({"fg": [], "bg": [[1, 40, 2]]}))
    assert error.found == "'bg' click [1, 40, 2] in entry 0"


@pytest.mark.parametrize("clicks", [objects([[1, 2, 3]]), np.zeros((1, 3)), objects({"fg": 3})])
def test_clicks_that_are_none(tmp_path: Path, clicks: Any) -> None:
    assert failure(tmp_path, clicks=clicks).key == "clicks"


# --- writing --------------------------------------------------------------------------------------


def test_segmentation_as_the_evaluator_reads_it(tmp_path: Path) -> None:
    labels = np.arange(24).reshape(2, 3, 4)
    write_segmentation(tmp_path / "scan.npz", labels, "sam")
    with np.load(tmp_path / "scan.npz") as written:  # no pickles needed
        assert written.files == ["segs", "segmenter", "status"]
        assert str(written["status"]) == "complete"
        assert written["segs"].dtype == np.uint8
        np.testing.assert_array_equal(written["segs"], labels)
        assert str(written["segmenter"]) == "sam"


def test_segmentation_replaces_an_earlier_one(tmp_path: Path) -> None:
    for label in (1, 2):
        write_segmentation(tmp_path / "scan.npz", np.full((1, 2, 3), label), "sam")
    with np.load(tmp_path / "scan.npz") as written:
        assert written["segs"].tolist() == [[[2] * 3] * 2]
    assert names(tmp_path) == ["scan.npz"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o000, 0o666)])
def test_segmentation_respects_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_segmentation(tmp_path / "scan.npz", np.zeros((1, 2, 3)), "sam")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "scan.npz").stat().st_mode) == mode


def test_segmentation_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.npz"
    write_segmentation(path, np.ones((1, 2, 3)), "sam")
    before = path.read_bytes()
    seen: list[str] = []

    def fail(file: Any, *_arguments: Any, **_options: Any) -> None:
        file.write(b"half of it")
        seen.extend(names(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(KeyboardInterrupt):
        write_segmentation(path, np.zeros((1, 2, 3)), "sam")
    assert len(seen) == 2
    assert [name for name in seen if name.endswith(".npz")] == ["scan.npz"]
    assert names(tmp_path) == ["scan.npz"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["folder.npz", "missing/scan.npz", "file/scan.npz"])
def test_a_failed_write_names_the_file_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="directory") as caught:
        write_segmentation(tmp_path / name, np.zeros((1, 2, 3)), "sam")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / name), None)
    assert names(tmp_path) == ["file", "folder.npz"]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_segmentation(tmp_path / "scan.npz", np.zeros((1, 2, 3)), "sam")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "scan.npz")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "labels", [np.zeros((2, 3)), np.full((1, 2, 3), 256), np.full((1, 2, 3), 0.5), np.array("x")]
)
def test_segmentation_that_is_none(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \(D, H, W\) labels in 0\.\.255"):
        write_segmentation(tmp_path / "scan.npz", labels, "sam")
    assert names(tmp_path) == []


def test_case_as_the_official_files_look(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    image = np.zeros(SHAPE, np.uint8)
    prompts = [ClassPrompts(1, BOX_READ, (FG1, BG1, FG2)), ClassPrompts(2, None, (FG2,))]
    write_case(path, image, (3, 2, 1), prompts, gts=image, previous=image)
    with np.load(path, allow_pickle=True) as written:
        assert set(written.files) == {
            *("imgs", "spacing", "spacing_order", "gts"),
            *("boxes", "clicks", "clicks_order", "prev_pred"),
        }
        assert written["spacing"].tolist() == [3.0, 2.0, 1.0]
        assert written["boxes"].tolist() == [BOX, None]
        assert written["clicks"].shape == (2,)
        assert written["clicks"].tolist() == [CLICKS, {"fg": [[4, 5, 6]], "bg": []}]
        assert written["clicks_order"].tolist() == [["fg", "bg", "fg"], ["fg", None, None]]
        assert written["gts"].dtype == written["prev_pred"].dtype == np.uint8


def test_first_runs_file_has_no_clicks(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    write_case(path, np.zeros(SHAPE, np.uint8), (1, 1, 1), [ClassPrompts(1, BOX_READ)])
    with np.load(path) as written:
        assert written.files == ["imgs", "spacing", "spacing_order", "boxes"]


def test_file_without_boxes_has_no_such_key(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    write_case(path, np.zeros(SHAPE, np.uint8), (1, 1, 1), [ClassPrompts(1, clicks=(FG1,))])
    with np.load(path) as written:
        assert written.files == ["imgs", "spacing", "spacing_order", "clicks", "clicks_order"]


def test_file_of_classes_without_prompts_has_no_key_for_them(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    image = np.zeros(SHAPE, np.uint8)
    write_case(path, image, (1, 1, 1), [ClassPrompts(1), ClassPrompts(2)], gts=image)
    with np.load(path) as written:
        assert written.files == ["imgs", "spacing", "spacing_order", "gts"]
    with pytest.raises(CaseError, match="found no prompts"):
        read_case(path)


def test_case_with_neither_prompts_nor_ground_truth_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither boxes nor clicks"):
        write_case(tmp_path / "scan.npz", np.zeros(SHAPE), (1, 1, 1), [ClassPrompts(1)])
    assert names(tmp_path) == []


@pytest.mark.parametrize("labels", [[], [2], [1, 3], [2, 1], range(1, 257)])
def test_case_of_other_labels_is_not_written(tmp_path: Path, labels: Sequence[int]) -> None:
    prompts = [ClassPrompts(label, BOX_READ) for label in labels]
    with pytest.raises(ValueError, match=r"expected 1\.\.K"):
        write_case(tmp_path / "scan.npz", np.zeros(SHAPE), (1, 1, 1), prompts)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shape = tuple(draw(st.tuples(*[st.integers(1, 6)] * 3)))

    def span(size: int) -> tuple[int, int]:
        low, high = sorted(draw(st.tuples(*[st.integers(0, size - 1)] * 2)))
        return low, high + 1

    def box() -> Box:
        (z0, z1), (y0, y1), (x0, x1) = (span(size) for size in shape)
        return Box(z0, z1, draw(st.integers(z0, z1 - 1)), y0, y1, x0, x1)

    click = st.builds(Click, *(st.integers(0, size - 1) for size in shape), st.booleans())
    prompts = tuple(
        ClassPrompts(
            label,
            box() if draw(st.booleans()) else None,
            tuple(draw(st.lists(click, max_size=4))),
        )
        for label in range(1, draw(st.integers(1, 4)) + 1)
    )
    assume(any(one.box or one.clicks for one in prompts))
    dtypes = st.sampled_from(["?", "u1", "i2", "u2", "i8", "f4", "f8"])
    labels = hnp.arrays(np.uint8, shape, elements=st.integers(0, len(prompts)))
    return Case(
        name=draw(st.sampled_from(["CT_1", "a.b", "MR organ"])),
        image=draw(hnp.arrays(dtypes, shape)),
        spacing_mm=draw(st.tuples(*[st.floats(0.02, 20)] * 3)),
        prompts=prompts,
        previous=draw(st.none() | labels),
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_what_is_written_is_read(tmp_path: Path, case: Case) -> None:
    path = tmp_path / f"{case.name}.npz"
    write_case(path, case.image, case.spacing_mm, case.prompts, previous=case.previous)
    back = read_case(path)
    assert (back.name, back.spacing_mm, back.prompts) == (case.name, case.spacing_mm, case.prompts)
    assert back.image.dtype == case.image.dtype
    np.testing.assert_array_equal(back.image, case.image)
    assert (back.previous is None) == (case.previous is None)
    if back.previous is not None:
        assert back.previous.dtype == np.uint8
        np.testing.assert_array_equal(back.previous, case.previous)


# --- pickles --------------------------------------------------------------------------------------

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

PLAIN = [
    {"a": 1, "b": [1.5, None, "text", b"bytes", b"", True, (), {2, 3}, frozenset({4}), 10**30]},
    [np.bool_(True), np.int8(-1), np.uint64(2**64 - 1), np.float16(0.5), np.float64(-1.5)],
    [np.str_("text"), np.bytes_(b"ab"), np.dtype(">i4").type(7)],
    np.arange(6, dtype=">i2").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(1, 2, 0),
    np.zeros((0, 3), int),
    np.array(5),
    np.array(["fg", "bg"]),
    objects([1], None, objects(np.int64(3), {"x": np.zeros(2)})),
    scalar_object([{"a": 1}]),
    OrderedDict(a=1, b=2),
]


def foreign(data: bytes) -> bytes:
    """Renames the modules in a pickle to what numpy 1 writes (numpy 2, where numpy is 1)."""
    ours, theirs = (b"numpy._core.", b"numpy.core.")
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        ours, theirs = theirs, ours
    # Protocol 4 and 5 give a name's length before it.
    for module in (b"multiarray", b"numeric"):
        old, new = ours + module, theirs + module
        data = data.replace(
            b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new
        ).replace(b"c" + old + b"\n", b"c" + new + b"\n")
    if data[:2] in (b"\x80\x04", b"\x80\x05"):  # one frame, whose length comes after its opcode
        assert data[2:3] == b"\x95"
        data = data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]
    assert ours not in data
    return data


def unfolded(value: Any) -> Any:
    """All of a nested value, the types of its numbers and arrays included, for ``==``."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, [unfolded(v) for v in value.ravel()]
    if isinstance(value, list | tuple):
        return type(value), [unfolded(v) for v in value]
    if isinstance(value, dict):
        return [(k, unfolded(v)) for k, v in value.items()]
    return type(value), value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_plain_values_in_every_protocol(value: Any, protocol: int) -> None:
    ours = pickle.dumps(value, protocol)
    # What Python's own unpickler makes of it, but for OrderedDict, which becomes a dict.
    expected = unfolded(pickle.loads(ours))
    assert unfolded(load_plain(ours)) == expected
    assert unfolded(load_plain(foreign(ours))) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_case_written_by_the_other_numpy(tmp_path: Path, protocol: int) -> None:
    path = save(tmp_path)
    boxes = objects(numpy_ints(BOX), None)
    replace_member(path, "boxes", lambda _: npy_of(foreign(pickle.dumps(boxes, protocol))))
    assert read_case(path).prompts == (ClassPrompts(1, BOX_READ), ClassPrompts(2))


def npy_of(data: bytes) -> bytes:
    """An npy stream of an object array whose pickle is `data`."""
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


class Calls:
    """Pickles as the call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


SENTINEL = "code_ran"  # a file in the working directory, which is each test's own
CODE = f"__import__('pathlib').Path({SENTINEL!r}).touch()"


def dotted(module: str, name: str, *arguments: str) -> bytes:
    """A protocol 4 pickle that calls `module`'s attribute `name`, dots and all."""

    def string(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    call = b"(" + b"".join(map(string, arguments)) + b"tR"
    return b"\x80\x04" + string(module) + string(name) + b"\x93" + call + b"."


ATTACKS = {
    "os.system": pickle.dumps(Calls(os.system, f"touch {SENTINEL}")),
    "os.system by text": f"cos\nsystem\n(S'touch {SENTINEL}'\ntR.".encode(),
    "os.system by INST": f"(S'touch {SENTINEL}'\nios\nsystem\n.".encode(),
    "os.system by OBJ": f"(cos\nsystem\nS'touch {SENTINEL}'\no.".encode(),
    "eval": pickle.dumps(Calls(eval, CODE)),
    "exec": pickle.dumps(Calls(exec, CODE), 2),
    "open": pickle.dumps(Calls(open, SENTINEL, "w")),
    "getattr": pickle.dumps(Calls(getattr, np.dtype, "__class__")),
    "numpy.load": pickle.dumps(Calls(np.load, "x.npy", None, True)),
    "numpy.save": pickle.dumps(Calls(np.save, SENTINEL, [1])),
    "numpy runstring": f"cnumpy.testing\nruntests\n(S{CODE!r}\ntR.".encode(),
    "dtype.__class__": dotted("numpy", "dtype.__class__", "x"),
    "ndarray.tofile": dotted("numpy", "ndarray.tofile", SENTINEL),
    "core.multiarray.os": dotted("numpy._core.multiarray", "os.system", f"touch {SENTINEL}"),
    "set.__class__": dotted("builtins", "set.__class__", "x"),
    "codec by name": dotted("_codecs", "encode", "x", "zip_codec_that_does_not_exist"),
    "other codec": dotted("_codecs", "encode", "x", "utf-8"),
    "codec of ours": dotted("gamt.io.pickles", "os.system", f"touch {SENTINEL}"),
    "persistent id": b"Pid\n.",
    "persistent object": b"Nq\x00Q.",
    "extension registry": b"\x82\x01.",
    "in an object array": pickle.dumps(objects(Calls(os.system, f"touch {SENTINEL}"))),
    "in an inner object array": pickle.dumps(
        objects({"z_min": objects([objects(Calls(eval, CODE))])}), 2
    ),
    "in an inner object array, numpy 1": foreign(
        pickle.dumps(objects({"z_min": objects([objects(Calls(eval, CODE))])}))
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_file_runs_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NpyError):
        load_plain(ATTACKS[name])
    for key in ("imgs", "boxes", "clicks", "clicks_order", "spacing", "prev_pred"):
        path = save(tmp_path)
        replace_member(path, key, lambda _: npy_of(ATTACKS[name]))
        with pytest.raises(CaseError) as caught:
            read_case(path)
        assert caught.value.key == key
    assert names(tmp_path) == ["scan.npz"]


def test_attacks_do_run_code_in_an_unguarded_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise the test above would prove nothing.
    for name in ("os.system", "os.system by text", "eval", "in an inner object array"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        pickle.loads(ATTACKS[name])
        assert names(folder) == [SENTINEL]


def test_attack_is_named(tmp_path: Path) -> None:
    replace_member(path := save(tmp_path), "boxes", lambda _: npy_of(ATTACKS["eval"]))
    with pytest.raises(CaseError) as caught:
        read_case(path)
    assert str(caught.value) == (
        "scan.npz: key 'boxes': found a pickle that asks for 'builtins.eval', "
        "expected a complete array of plain values"
    )


def forged(*operations: bytes) -> bytes:
    return b"\x80\x04" + b"".join(operations) + b"."


DTYPE = b"cnumpy\ndtype\n"
NEW_ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n)R"
OBJECT_TYPE = DTYPE + b"(X\x02\x00\x00\x00O8tR"
INT_TYPE = DTYPE + b"(X\x02\x00\x00\x00i8tR"
FILL_INT = b"(K\x01K\x01\x85" + INT_TYPE + b"\x89C\x08\0\0\0\0\0\0\0\0tb"

SCALAR = b"cnumpy._core.multiarray\nscalar\n("
MISFIT = "data do not fit its"

# numpy's own functions take these at their word, and then read memory that is not the array's.
FORGERIES = {
    "fewer objects than the shape": (
        forged(NEW_ARRAY, b"(K\x01K\x63\x85", OBJECT_TYPE, b"\x89]tb"),
        MISFIT,
    ),
    "fewer bytes than the shape": (
        forged(NEW_ARRAY, b"(K\x01K\x63\x85", INT_TYPE, b"\x89C\x01\0tb"),
        MISFIT,
    ),
    "filled twice": (forged(NEW_ARRAY, FILL_INT, FILL_INT), "something else than an array"),
    "objects from bytes": (
        forged(
            b"cnumpy._core.numeric\n_frombuffer\n(C\x08ABCDEFGH",
            OBJECT_TYPE,
            b"K\x01\x85X\x01\0\0\0CtR",
        ),
        "array without its data",
    ),
    "object from bytes": (forged(SCALAR, OBJECT_TYPE, b"C\x08ABCDEFGHtR"), MISFIT),
    "number from too few bytes": (forged(SCALAR, INT_TYPE, b"C\x01AtR"), MISFIT),
    "structured type": (forged(DTYPE, b"(X\x05\0\0\0i8,i8tR"), "the array type 'i8,i8'"),
    "type with fields": (
        forged(INT_TYPE, b"(K\x03X\x01\0\0\0<N(X\x01\0\0\0at}K\x08K\x08K\0tb"),
        "a structured array",
    ),
    "type of absurd length": (forged(DTYPE, b"(X\x09\0\0\0S99999999tR"), "the array type"),
    "no type": (forged(SCALAR, b"K\x01C\x01AtR"), "without a type"),
    "array by its class": (forged(b"cnumpy\nndarray\n(K\x63\x85tR"), "calls numpy.ndarray"),
    "changed function": (forged(SCALAR[:-1], b"}b"), "something else than an array"),
    "bytes of any number": (forged(b"cbuiltins\nbytes\n(K\x63tR"), "is broken"),
    "memo of any size": (forged(b"Nr\xff\xff\xff\x7f"), "numbers more values"),
    "memo of any size, as text": (forged(b"Np99999999999\n"), "numbers more values"),
    "out-of-band data": (forged(b"\x97"), "uses NEXT_BUFFER"),
}


def test_honest_form_of_the_forgeries_is_read() -> None:
    array = load_plain(forged(NEW_ARRAY, FILL_INT))
    assert array.tolist() == [0]
    assert load_plain(forged(SCALAR, INT_TYPE, b"C\x08\x07\0\0\0\0\0\0\0tR")) == 7


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_arrays_are_refused(name: str) -> None:
    data, reason = FORGERIES[name]
    with pytest.raises(NpyError, match=reason):
        load_plain(data)


def test_pickle_of_something_else_than_an_array(tmp_path: Path) -> None:
    replace_member(path := save(tmp_path), "boxes", lambda _: npy_of(pickle.dumps([BOX])))
    with pytest.raises(CaseError, match="found a pickle that holds a list and no array"):
        read_case(path)


def test_list_within_itself(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    error = failure(tmp_path, boxes=objects(endless))
    assert error.found == "a pickle that holds a value that holds itself, or changes after its use"


def test_nothing_is_imported_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with pytest.raises(NpyError, match=r"asks for 'this\.d'"):
        load_plain(b"cthis\nd\n.")
    assert "this" not in sys.modules


def test_files_can_be_read_by_older_versions_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    prompts = (ClassPrompts(1, box=Box(0, 2, 1, 0, 3, 0, 4)),)
    write_case(path, np.zeros((2, 3, 4), np.uint8), (1, 1, 1), prompts)
    with zipfile.ZipFile(path) as archive:
        content = archive.read("boxes.npy")
    # The header ends in a line break; what follows is the pickle.
    pickled = content[content.index(b"\n") + 1 :]
    named = [str(value) for code, value, _ in pickletools.genops(pickled) if code.name == "GLOBAL"]
    assert any(name.startswith("numpy.core.") for name in named)
    # Before numpy 2 there was no such place.
    assert not any(name.startswith("numpy._core") for name in named)

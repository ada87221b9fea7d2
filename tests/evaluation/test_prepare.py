"""Challenge cases from images and labels."""

from math import inf, nan
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.prepare import PreparedCase, PrepareError, draw_box, prepare_folder
from gamt.io.case import read_case, read_spacing, read_volume
from gamt.io.image import read_image, read_labels, write_image
from gamt.io.npz import CaseError
from gamt.prompts import Box, box_of_mask
from tests.io.formats.dicom_series import write_series

SHAPE = (5, 24, 40)  # z, y, x
SPACING = (3.0, 0.75, 0.5)


class Shift(np.random.Generator):
    """A generator whose every whole number is one that the test chose."""

    def __init__(self, shift: int) -> None:
        super().__init__(np.random.PCG64(0))
        self.shift = shift

    def integers(self, *bounds: Any, **options: Any) -> Any:
        assert bounds == (6,)
        return self.shift


class Folders:
    """Folders of images and labels, to be filled, and one for cases."""

    def __init__(self, root: Path) -> None:
        self.images, self.labels, self.out = root / "images", root / "labels", root / "out"
        self.images.mkdir()
        self.labels.mkdir()

    def add(
        self,
        name: str,
        image: npt.NDArray[Any] | None = None,
        truth: npt.NDArray[Any] | None = None,
        label_name: str | None = None,
    ) -> None:
        """Writes a pair, both (z, y, x)."""
        image = ramp() if image is None else image
        truth = blocks() if truth is None else truth
        write(self.images / name, image)
        write(self.labels / (label_name or name), truth)

    def prepare(self, modality: str = "CT", **options: Any) -> list[PreparedCase]:
        return prepare_folder(self.images, self.labels, self.out, modality, **options)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def write(path: Path, volume: npt.NDArray[Any], affine: npt.NDArray[Any] | None = None) -> None:
    """Writes a volume (z, y, x) with the voxels of `SPACING`, as radiologists see it."""
    z, y, x = SPACING
    affine = np.diag([-x, -y, z, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(volume.T, affine), path)  # type: ignore[no-untyped-call]


def ramp() -> npt.NDArray[np.int16]:
    """Returns an image of 0..4799, each voxel another value."""
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def blocks() -> npt.NDArray[np.int16]:
    """Returns the labels 3 and 70."""
    truth = np.zeros(SHAPE, np.int16)
    truth[1:4, 5:9, 10:20] = 70
    truth[0:2, 15:20, 30:38] = 3
    return truth


def errors(results: list[PreparedCase]) -> list[str | None]:
    return [one.error for one in results]


# What a case holds


def test_a_case_holds_image_spacing_labels_and_boxes(folders: Folders) -> None:
    folders.add("a.nii.gz")
    [result] = folders.prepare(window=(0, 4799))
    assert (result.image, result.case) == ("a.nii.gz", "CT_a.npz")
    assert (result.labels, result.boxed, result.error) == ((3, 70), True, None)
    case = read_case(folders.out / "CT_a.npz")
    assert case.image.dtype == np.uint8
    assert case.image.shape == SHAPE
    assert (case.image.min(), case.image.max()) == (0, 255)
    assert case.spacing_mm == SPACING
    assert [one.box is None for one in case.prompts] == [False, False]


def test_labels_with_gaps_become_1_to_k_in_their_order(folders: Folders) -> None:
    folders.add("a.nii.gz")
    folders.prepare()
    gts = read_volume(folders.out / "CT_a.npz", "gts")
    truth = blocks()
    assert gts.dtype == np.uint8
    assert np.array_equal(gts, (truth == 3) + 2 * (truth == 70))


def test_boxes_are_those_of_the_labels_in_their_order(folders: Folders) -> None:
    # 24 and 40 pixels: the largest shift is 5 * 24 // 256 = 0 and 5 * 40 // 256 = 0.
    folders.add("a.nii.gz")
    folders.prepare()
    boxes = [one.box for one in read_case(folders.out / "CT_a.npz").prompts]
    # Label 3 is on slices 0 and 1: the middle one is the second. Label 70 is on 1, 2, 3.
    assert boxes == [Box(0, 2, 1, 15, 20, 30, 38), Box(1, 4, 2, 5, 9, 10, 20)]


def test_a_window_maps_its_ends_to_0_and_255_and_clips(folders: Folders) -> None:
    image = np.full(SHAPE, -1000, np.int16)
    image[0, 0, :5] = [-160, -80, 40, 240, 3000]
    folders.add("a.nii.gz", image)
    folders.prepare(window=(-160, 240))
    voxels = read_volume(folders.out / "CT_a.npz", "imgs")[0, 0, :6]
    # (-80 + 160) * 255 / 400 = 51, (40 + 160) * 255 / 400 = 127.5, which rounds to even.
    assert voxels.tolist() == [0, 51, 128, 255, 255, 0]


def test_without_a_window_the_percentiles_of_what_is_not_background_are_its_ends(
    folders: Folders,
) -> None:
    image = np.zeros(SHAPE, np.int32)
    image[2].flat[:201] = np.arange(1000, 1201)
    folders.add("a.nii.gz", image)
    folders.prepare()
    voxels = read_volume(folders.out / "CT_a.npz", "imgs")[2].flat[:202]
    # 0.5 % of the 200 steps between the 201 voxels is one step: 1001 becomes 0, 1199 becomes 255.
    # Between them, 1002 becomes 255 / 198 = 1.29, and 1100 becomes 99 / 198 * 255 = 127.5.
    assert voxels[[0, 1, 2, 100, 199, 200, 201]].tolist() == [0, 0, 1, 128, 255, 255, 0]


def test_an_image_lies_towards_head_back_and_left_whatever_its_axes(folders: Folders) -> None:
    upright = ramp()
    # Stored as (i, j, k) = (z down, x right, y front), for (z, y, x) towards head, back, left.
    affine = np.zeros((4, 4))
    z, y, x = SPACING
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -z, x, y, 1
    stored = np.transpose(upright, (0, 2, 1))[::-1, ::-1, ::-1]
    truth = np.transpose(blocks(), (0, 2, 1))[::-1, ::-1, ::-1]
    write(folders.images / "a.nii.gz", stored.T, affine)
    write(folders.labels / "a.nii.gz", truth.T, affine)
    assert errors(folders.prepare(window=(0, 4799))) == [None]
    path = folders.out / "CT_a.npz"
    expected = np.rint(upright.astype(float) * 255 / 4799)
    assert np.array_equal(read_volume(path, "imgs"), expected)
    assert np.array_equal(read_volume(path, "gts") > 0, blocks() > 0)
    assert read_spacing(path) == SPACING


def test_an_oblique_image_keeps_its_voxels(folders: Folders) -> None:
    # Turned by 20 degrees about the axis from foot to head.
    cos, sin = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    affine = np.eye(4)
    affine[:3, :3] = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]] @ np.diag(SPACING[::-1])
    affine[:, :2] *= -1  # towards left and back
    write(folders.images / "a.nii.gz", ramp(), affine)
    write(folders.labels / "a.nii.gz", blocks(), affine)
    assert errors(folders.prepare()) == [None]
    assert np.array_equal(read_volume(folders.out / "CT_a.npz", "gts") > 0, blocks() > 0)
    assert read_spacing(folders.out / "CT_a.npz") == pytest.approx(SPACING)


# Names


def test_a_label_of_nnunet_has_the_name_without_the_channel(folders: Folders) -> None:
    folders.add("liver_12_0000.nii.gz", label_name="liver_12.nii.gz")
    [result] = folders.prepare(modality="MR")
    assert (result.case, result.error) == ("MR_liver_12.npz", None)
    assert (folders.out / "MR_liver_12.npz").exists()


def test_a_label_of_exactly_the_images_name_goes_before(folders: Folders) -> None:
    only_label_9 = np.where(blocks() > 0, 9, 0).astype(np.int16)
    folders.add("a_0000.nii.gz", truth=only_label_9)
    write(folders.labels / "a.nii.gz", blocks())
    [result] = folders.prepare()
    assert (result.case, result.labels) == ("CT_a_0000.npz", (9,))


def test_image_and_label_may_be_compressed_or_not(folders: Folders) -> None:
    folders.add("a.nii", label_name="a.nii.gz")
    assert errors(folders.prepare()) == [None]


def test_a_name_that_begins_with_the_modality_does_not_get_it_twice(folders: Folders) -> None:
    folders.add("CT_a.nii.gz")
    assert folders.prepare()[0].case == "CT_a.npz"


def test_files_that_are_no_images_do_not_count(folders: Folders) -> None:
    folders.add("a.nii.gz")
    (folders.images / "notes.txt").write_text("")
    (folders.images / ".a.nii.gz").write_text("")
    assert [one.image for one in folders.prepare()] == ["a.nii.gz"]


# Boxes


def test_cases_of_a_listed_name_have_no_boxes(folders: Folders) -> None:
    folders.add("liver.nii.gz")
    folders.add("hepaticVessel_1.nii.gz")
    results = folders.prepare(no_boxes=["*vessel*"])
    assert {one.case: one.boxed for one in results} == {
        "CT_hepaticVessel_1.npz": False,
        "CT_liver.npz": True,
    }
    with pytest.raises(CaseError, match="no prompts"):
        read_case(folders.out / "CT_hepaticVessel_1.npz")
    assert read_volume(folders.out / "CT_hepaticVessel_1.npz", "gts").max() == 2


def test_microscopy_has_no_boxes_unless_asked_for(folders: Folders) -> None:
    folders.add("a.nii.gz")
    assert [one.boxed for one in folders.prepare(modality="Microscopy")] == [False]
    assert [one.boxed for one in folders.prepare(modality="Microscopy", no_boxes=[])] == [True]


def wide_mask() -> npt.NDArray[np.bool_]:
    """Returns a target in 4 x 512 x 1024 voxels, on slices 0, 2 and 3; the middle one is 2."""
    mask = np.zeros((4, 512, 1024), np.bool_)
    mask[0, 100:400, 50:900] = True
    mask[2, 200:300, 8:1000] = True
    mask[3, 10:20, 10:20] = True
    return mask


def test_a_box_moves_out_by_one_number_of_pixels_at_256() -> None:
    # 3 * 512 / 256 = 6 in y, 3 * 1024 / 256 = 12 in x; 8 - 12 is clamped to 0.
    box = draw_box(wide_mask(), Shift(3))
    assert box == Box(0, 4, 2, 200 - 6, 300 + 6, 0, 1000 + 12)


def test_a_box_ends_at_the_border_of_the_image() -> None:
    # 5 * 300 / 256 = 5.9, so 5 in y; 5 * 512 / 256 = 10 in x. 4 - 5 and 505 + 10 are outside.
    mask = np.zeros((2, 300, 512), np.bool_)
    mask[:, 4:290, 20:505] = True
    assert draw_box(mask, Shift(5)) == Box(0, 2, 1, 0, 295, 10, 512)


def test_a_shift_is_any_of_0_to_5() -> None:
    mask = np.zeros((1, 256, 256), np.bool_)
    mask[0, 100:150, 100:150] = True
    rng = np.random.default_rng(0)
    assert {100 - draw_box(mask, rng).x_min for _ in range(200)} == {0, 1, 2, 3, 4, 5}


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 300), st.integers(1, 700)),
    seed=st.integers(0, 2**32),
)
def test_a_box_is_around_the_tight_one_by_at_most_5_pixels_at_256(
    shape: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.bool_)
    mask.flat[rng.integers(mask.size, size=6)] = True  # so some slices between are without
    box, tight = draw_box(mask, rng), box_of_mask(mask)
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    assert (box.z_min, box.z_max) == (slices[0], slices[-1] + 1)
    assert mask[box.z_mid].any()
    _, height, width = mask.shape
    assert 0 <= tight.y_min - box.y_min <= 5 * height / 256
    assert 0 <= box.y_max - tight.y_max <= 5 * height / 256
    assert 0 <= tight.x_min - box.x_min <= 5 * width / 256
    assert 0 <= box.x_max - tight.x_max <= 5 * width / 256
    assert 0 <= box.y_min < box.y_max <= height
    assert 0 <= box.x_min < box.x_max <= width


def large(folders: Folders, *names: str) -> None:
    """Adds pairs on whose slices every shift is another number of pixels."""
    truth = np.zeros((2, 256, 512), np.uint8)
    for number in range(8):
        truth[:, 20 + 28 * number : 30 + 28 * number, 50:60] = number + 1
    for name in names:
        folders.add(f"{name}.nii.gz", truth.astype(np.int16), truth)


def boxes_of(folders: Folders, case: str) -> list[Box | None]:
    return [one.box for one in read_case(folders.out / f"{case}.npz").prompts]


def test_boxes_depend_neither_on_the_order_nor_on_other_cases(folders: Folders) -> None:
    large(folders, "b")
    folders.prepare()
    alone = boxes_of(folders, "CT_b")
    large(folders, "a", "c")
    folders.prepare()
    assert boxes_of(folders, "CT_b") == alone


def test_boxes_of_other_cases_and_of_other_seeds_are_others(folders: Folders) -> None:
    # Of 8 boxes each, all are equal by chance once in 6 ** 8 = 1.7 million.
    large(folders, "a", "b")
    folders.prepare(seed=1)
    a, b = boxes_of(folders, "CT_a"), boxes_of(folders, "CT_b")
    assert a != b
    folders.prepare(seed=2)
    assert boxes_of(folders, "CT_a") != a


# What goes wrong


def test_a_broken_pair_is_reported_and_the_others_are_done(folders: Folders) -> None:
    folders.add("a.nii.gz")
    folders.add("b.nii.gz")
    folders.add("c.nii.gz")
    (folders.images / "b.nii.gz").write_bytes(b"no gzip")
    told: list[tuple[int, int]] = []
    results = folders.prepare(progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [one.error is None for one in results] == [True, False, True]
    assert (results[1].error or "").startswith("b.nii.gz: can't be read: found no known image")
    assert results[1].labels == ()
    assert sorted(path.name for path in folders.out.iterdir()) == ["CT_a.npz", "CT_c.npz"]


def test_images_and_labels_may_be_of_any_format(folders: Folders) -> None:
    pytest.importorskip("SimpleITK")
    for name in ("a", "b", "c"):
        folders.add(f"{name}.nii.gz")
    nifti = read_image(folders.images / "a.nii.gz")
    write_image(folders.images / "a.nrrd", nifti.array, like=nifti)
    write_image(folders.images / "b.MHD", nifti.array, like=nifti)
    write_series(folders.images / "c", ramp().T, nifti.affine @ nifti.turn)
    for path in folders.images.glob("*.nii.gz"):
        path.unlink()
    labels = read_labels(folders.labels / "a.nii.gz", nifti)
    write_image(folders.labels / "a.seg.nrrd", labels, like=nifti)
    (folders.labels / "a.nii.gz").unlink()
    results = folders.prepare()
    assert errors(results) == [None] * 3
    assert [one.image for one in results] == ["a.nrrd", "b.MHD", "c"]
    for one in results:
        path = folders.out / one.case
        expected = np.where(blocks() == 3, 1, np.where(blocks() == 70, 2, 0))
        np.testing.assert_array_equal(read_volume(path, "gts"), expected)
        assert read_spacing(path) == pytest.approx(SPACING)


def test_of_images_with_several_volumes_one_is_chosen(folders: Folders) -> None:
    write(folders.labels / "a.nii.gz", blocks())
    z, y, x = SPACING
    series = np.stack([ramp().T, ramp().T[::-1]], axis=-1)
    affine = np.diag([-x, -y, z, 1.0])
    nib.save(nib.Nifti1Image(series, affine), folders.images / "a.nii.gz")  # type: ignore[no-untyped-call]
    (error,) = errors(folders.prepare())
    assert (error or "").startswith("a.nii.gz: found 2 volumes, expected one")
    assert errors(folders.prepare(volume=1)) == [None]
    image = read_volume(folders.out / "CT_a.npz")
    assert image[0, 0, 0] > image[0, 0, -1]  # along x the second one falls


def test_the_case_says_the_order_of_its_spacing(folders: Folders) -> None:
    sagittal = np.diag([-6.0, -0.6, 0.6, 1.0])  # thick slices along x
    write(folders.images / "a.nii.gz", ramp(), sagittal)
    write(folders.labels / "a.nii.gz", blocks(), sagittal)
    folders.prepare()
    assert read_case(folders.out / "CT_a.npz").spacing_mm == pytest.approx((0.6, 0.6, 6.0))


def test_an_image_without_a_label_is_reported(folders: Folders) -> None:
    write(folders.images / "a_0000.nii.gz", ramp())
    expected = (
        f"a_0000.nii.gz: found no label file in {folders.labels}, expected a.nii.gz or the like"
    )
    assert errors(folders.prepare()) == [expected]


def test_a_label_on_another_grid_is_reported(folders: Folders) -> None:
    folders.add("a.nii.gz")
    z, y, x = SPACING
    moved = np.diag([-x, -y, z, 1.0])
    moved[2, 3] = 1.0  # mm
    write(folders.labels / "a.nii.gz", blocks(), moved)
    shape = " x ".join(map(str, blocks().shape[::-1]))
    assert errors(folders.prepare()) == [
        "a.nii.gz: lies on another grid of voxels than a.nii.gz: "
        f"found as many, {shape}, at another place or of another size"
    ]


@pytest.mark.parametrize(
    ("count", "error"),
    [
        (0, "a.nii.gz: found 0 labels, expected 1 to 255 of them above 0"),
        (255, None),
        (256, "a.nii.gz: found 256 labels, expected 1 to 255 of them above 0"),
    ],
)
def test_a_case_has_1_to_255_labels(folders: Folders, count: int, error: str | None) -> None:
    truth = np.zeros(SHAPE, np.int16)
    truth.flat[: count + 1] = np.arange(count + 1) * 100
    folders.add("a.nii.gz", truth=truth)
    assert errors(folders.prepare()) == [error]


def test_two_images_of_one_case_are_reported(folders: Folders) -> None:
    folders.add("a.nii.gz")
    folders.add("a_0000.nii.gz", label_name="a.nii.gz")
    assert errors(folders.prepare()) == [None, "a_0000.nii.gz: would become CT_a, as a.nii.gz does"]


def test_an_unknown_modality_is_refused(folders: Folders) -> None:
    with pytest.raises(PrepareError, match="found modality 'XR', expected one of CT, MR, Micro"):
        folders.prepare(modality="XR")


def test_a_window_that_ends_below_its_start_is_refused(folders: Folders) -> None:
    with pytest.raises(PrepareError, match=r"window 240\.\.-160, expected low < high"):
        folders.prepare(window=(240, -160))


@pytest.mark.parametrize("window", [(0, inf), (-inf, 0), (-inf, inf), (nan, 1), (0, nan)])
def test_a_window_that_is_not_finite_is_refused(
    folders: Folders, window: tuple[float, float]
) -> None:
    with pytest.raises(PrepareError, match=r"expected low < high, both finite"):
        folders.prepare(window=window)
    assert not folders.out.exists()


def test_a_folder_that_is_not_there_is_named(folders: Folders) -> None:
    with pytest.raises(PrepareError, match=r"missing: No such file or directory"):
        prepare_folder(folders.images / "missing", folders.labels, folders.out, "CT")


def test_a_folder_without_images_is_named(folders: Folders) -> None:
    with pytest.raises(PrepareError, match=f"{folders.images}: found no"):
        folders.prepare()


def test_images_and_labels_in_one_folder_are_refused(folders: Folders) -> None:
    folders.add("a.nii.gz")
    with pytest.raises(PrepareError, match="in one folder"):
        prepare_folder(folders.images, folders.images, folders.out, "CT")


def test_an_output_that_is_a_file_is_named(folders: Folders) -> None:
    folders.add("a.nii.gz")
    folders.out.write_text("")
    with pytest.raises(PrepareError, match=f"{folders.out}: File exists"):
        folders.prepare()

"""Archives and headers that lie, and arrays of kinds that are rare."""

import gc
import os
import struct
import sys
import threading
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gamt.io import npz
from gamt.io.case import Case, CaseError, read_case, read_volume
from gamt.io.npz import Place, open_npz, read_member_shape, show, write_npz
from gamt.prompts import Box, ClassPrompts, Click
from tests.io.test_case import (
    BOX,
    SHAPE,
    failure,
    names,
    objects,
    read,
    replace_member,
    save,
    scalar_object,
)


def refused(path: Path) -> CaseError:
    """Reads a case that is refused, without taking much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CaseError) as caught:
            read_case(path)
        assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
    finally:
        tracemalloc.stop()
    return caught.value


def npy(header: str, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    size = len(header) if length is None else length
    prefix = struct.pack("<H", size) if version == 1 else struct.pack("<I", size)
    return b"\x93NUMPY" + bytes([version, 0]) + prefix + header.encode() + data


def header(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def write_zeros(path: Path, key: str, descr: str, shape: str, size: int) -> None:
    """Adds an array of `size` zero bytes, which take a thousandth of it in the file."""
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{key}.npy", "w") as file,
    ):
        file.write(npy(header(descr, shape)))
        for _ in range(size >> 20):
            file.write(bytes(2**20))


@pytest.mark.parametrize(
    ("key", "limit"),
    [
        ("boxes", "1.0 MB"),
        ("clicks", "67.1 MB"),
        ("clicks_order", "67.1 MB"),
        ("spacing", "0.1 MB"),
        ("spacing_order", "0.1 MB"),
        ("window", "0.1 MB"),
    ],
)
@pytest.mark.parametrize(("descr", "size"), [("'<f8'", "9175040"), ("'|O'", "1")])
def test_what_is_no_volume_is_small(
    tmp_path: Path, key: str, limit: str, descr: str, size: str
) -> None:
    path = save(tmp_path, **{key: None})
    write_zeros(path, key, descr, f"({size},)", 70 * 2**20)
    error = refused(path)
    assert (error.key, error.found) == (key, "73.4 MB of data")
    assert error.expected == f"at most {limit}"


@pytest.mark.parametrize("key", ["imgs", "prev_pred"])
def test_a_volume_is_as_large_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    path = save(tmp_path, **{key: np.zeros(SHAPE, np.float32)})
    monkeypatch.setattr("gamt.io.npy.available_bytes", lambda: 200_000)
    error = refused(path)
    # 30 x 40 x 50 voxels of 4 bytes
    assert (error.key, error.found) == (key, "0.2 MB of data")
    assert error.expected == "at most the free memory, 0.2 MB"


@pytest.mark.parametrize("key", ["imgs", "prev_pred"])
@pytest.mark.parametrize(
    ("descr", "shape"), [("'|u1'", "(70, 1048576)"), ("'<c8'", "(70, 131072, 1)")]
)
def test_what_should_be_a_volume_is_not_read_if_it_is_none(
    tmp_path: Path, key: str, descr: str, shape: str
) -> None:
    path = save(tmp_path, **{key: None})
    write_zeros(path, key, descr, shape, 70 * 2**20)
    tracemalloc.start()
    error = refused(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.key == key
    assert f"of shape {shape}" in error.found
    assert most < 10 * 2**20


# Archives of more than 65,535 members have further records at their end.
@pytest.mark.parametrize(
    ("count", "name_bytes"), [(2_000, 1_000), pytest.param(70_000, 9, marks=pytest.mark.slow)]
)
def test_a_list_of_very_many_arrays_is_not_read(
    tmp_path: Path, count: int, name_bytes: int
) -> None:
    path = tmp_path / "scan.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(zipfile.ZipInfo(f"{number:0{name_bytes}}"), b"")
    # Each takes 46 bytes and its name.
    assert refused(path).found == f"a list of arrays of {count * (46 + name_bytes)} bytes"


def test_rows_count_even_if_nothing_is_in_them(tmp_path: Path) -> None:
    path = save(tmp_path)
    replace_member(path, "clicks", lambda _: npy(header("'<i8'", "(9000000000, 0)")))
    assert refused(path).found == "9,000,000,000 elements and rows"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (npy("", version=2, length=2**30), "a header of 1073741824 bytes"),
        (npy("", version=2, length=100), "an array that ends within its header"),
        (npy("-" * 9000), "a header that is not numpy's"),
        (npy(header("'<i8'", "(-1,)")), "a header that is not numpy's"),
        (npy(header("'<i8'", "(3)") + "x"), "a header that is not numpy's"),
        (npy("{'descr': '<i8', 'shape': (3,)}"), "a header that is not numpy's"),
        (npy(header("'<i8'", f"({'9' * 30},)")), "an array of an impossible shape"),
        (npy(header("'<i8'", "(" + "1," * 40 + ")")), "an array of an impossible shape"),
        (npy(header("[('a', '<i8')]", "(1,)"), bytes(8)), "a structured array"),
        (npy(header("'<V8'", "(1,)"), bytes(8)), "the array type '<V8'"),
        (npy(header("'<M8[parsec]'", "(1,)"), bytes(8)), "the array type '<M8[parsec]'"),
        (npy(header("'<i8'", "(3,)"), bytes(20)), "20 of the 24 bytes of int64 of shape (3,)"),
        (npy(header("'<i8'", "(3,)"), bytes(30)), "30 of the 24 bytes of int64 of shape (3,)"),
        (
            npy(header("'<U1'", "(1,)"), b"\xff" * 4),
            "text of characters that don't exist",
        ),
        (npy(header("'<U99999999'", "(9,)")), "0 of the 3599999964 bytes of <U99999999"),
        (b"\x93NUMPY\x09\x00", "no npy array"),
        (b"", "no npy array"),
    ],
)
def test_header_that_lies(tmp_path: Path, content: bytes, found: str) -> None:
    replace_member(path := save(tmp_path), "spacing", lambda _: content)
    error = refused(path)
    assert error.key == "spacing"
    assert error.found.startswith(found)


@pytest.mark.parametrize(
    "text",
    [
        "{'shape': (3,), 'descr': '<f8', 'fortran_order': True}",
        '{"descr": "<f8", "fortran_order": False, "shape": (3L,), }   \n',
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_header_of_another_writer(tmp_path: Path, text: str, version: int) -> None:
    content = npy(text, np.array([3.0, 2.0, 1.0]).tobytes(), version)
    replace_member(path := save(tmp_path), "spacing", lambda _: content)
    assert read_case(path).spacing_mm == (3, 2, 1)


def changed(path: Path, name: bytes, offset: int, value: bytes) -> None:
    """Overwrites a field in the directory's entry of a member of an archive."""
    data = bytearray(path.read_bytes())
    at = data.rindex(name) - 46 + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "found"),
    [
        (8, b"\x01", "encrypted data"),
        (10, b"\x0e", "the compression method 14"),
        (10, b"\x63", "the compression method 99"),
        (24, b"\xf0\xff\xff\xff", "bytes that are said to become 4294967280"),
        (16, b"\0\0\0\0", "damaged data"),
    ],
)
def test_member_that_lies(tmp_path: Path, offset: int, value: bytes, found: str) -> None:
    path = save(tmp_path)
    changed(path, b"imgs.npy", offset, value)
    error = refused(path)
    assert error.key == "imgs"
    assert found in error.found


def test_a_key_has_one_array(tmp_path: Path) -> None:
    path = save(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of the duplicate
        archive.writestr("boxes.npy", b"")
    error = refused(path)
    assert (error.key, error.found, error.expected) == ("boxes", "2 arrays", "one")


def test_arrays_share_no_bytes(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, imgs=np.zeros(SHAPE, np.uint8), boxes=objects(BOX), spacing=np.ones(3))
    with zipfile.ZipFile(path) as archive:
        inside = archive.getinfo("imgs.npy").header_offset + 100
    changed(path, b"boxes.npy", 42, struct.pack("<I", inside))
    assert refused(path).found == "bytes that belong to another array"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.npz")
    errors: list[CaseError] = []
    reader = threading.Thread(
        target=lambda: errors.append(refused(tmp_path / "scan.npz")), daemon=True
    )
    reader.start()
    reader.join(60)
    assert [one.found for one in errors] == ["neither a file nor a folder"]


def test_names_and_text_of_a_file_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J\nb\udcff.npz"
    save(tmp_path, window=np.array("\x1b[2J\n")).replace(path)
    message = str(refused(path))
    assert message.isprintable()
    assert message.startswith(r"a\x1b[2J\nb\xff.npz: key 'window': found '\x1b[2J\n', expected")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((1000, 3)), "float64 of shape (1000, 3)"),
        ([np.zeros(3), 1], "[float64 of shape (3,), 1]"),
        (objects([1, 2]), "object of shape (1,)"),
        (np.int64(7), "7"),
        ([np.float64(0.5)], "[0.5]"),
        ([10**5000], "a list"),
    ],
)
def test_messages_describe_arrays_and_print_none(value: Any, text: str) -> None:
    assert show(value) == text


def test_a_longer_float_becomes_float64_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.full(SHAPE, np.finfo(np.longdouble).max)
    image[0] = 1.5
    case = read(tmp_path, imgs=image)
    assert case.image.dtype == np.float64
    assert case.image[0].max() == 1.5
    assert np.isinf(case.image[1]).all()
    assert caplog.messages == [f"scan.npz: key 'imgs': found {image.dtype}, used float64"]


def test_truths_of_other_bytes_are_true(tmp_path: Path) -> None:
    content = npy(header("'|b1'", "(2, 1, 2)"), b"\x00\x01\x02\xff")
    replace_member(path := save(tmp_path), "gts", lambda _: content)
    assert read_volume(path, "gts").view(np.uint8).ravel().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "arrays",
    [
        {"spacing_order": scalar_object(np.array([1, 2]))},
        {"spacing_order": scalar_object(scalar_object("zyx"))},
        {"window": None, "spacing": objects(1, 2.0, np.float32(3))},
    ],
)
def test_odd_forms_of_small_keys_are_read(tmp_path: Path, arrays: Any) -> None:
    assert isinstance(read(tmp_path, **arrays), Case)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("boxes", scalar_object(scalar_object(scalar_object(3)))),
        ("boxes", np.array(True)),
        ("boxes", objects(BOX | {"z_min": np.nan})),
        ("boxes", objects(BOX | {"z_min": np.bool_(True)})),
        ("boxes", objects(BOX | {"z_min": np.inf})),
        ("boxes", objects(BOX | {"z_min": np.array(3)})),
        ("clicks", np.array(3)),
        ("clicks", objects({"fg": np.array(3)})),
        ("clicks", objects({"fg": np.zeros((2, 3), "M8[s]")})),
        ("clicks", objects({"fg": np.ones((2, 3), bool)})),
        ("clicks_order", np.array("fg")),
        ("spacing", np.array(1.0)),
        ("spacing", np.ones(3, complex)),
        ("spacing", np.ones(3, bool)),
        ("spacing", np.ones(3, "m8[ns]")),
        ("imgs", np.zeros((2, 3, 4), "M8[s]")),
        ("window", np.ones(2, "m8[ns]")),
        ("window", scalar_object(scalar_object(None))),
        ("window", np.array([1.5e308, 1.5e308])),
        ("window", np.array([1e300, 1])),
    ],
)
def test_values_of_a_wrong_kind_name_their_key(tmp_path: Path, key: str, value: Any) -> None:
    assert failure(tmp_path, **{key: value}).key == key


@pytest.mark.parametrize("version", [1, 2])
def test_case_as_numpy_wrote_it(version: int) -> None:
    # Written by np.savez_compressed of numpy 1.26.4 and 2.4.6.
    case = read_case(Path(__file__).parent / f"numpy_{version}.npz")
    assert case.image.tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    assert case.spacing_mm == (3, 1, 1)
    assert case.prompts == (
        ClassPrompts(1, Box(0, 2, 1, 0, 3, 0, 4), (Click(0, 1, 2, True), Click(1, 2, 3, True))),
        ClassPrompts(2, None, (Click(1, 0, 0, False),)),
    )


def test_an_archive_is_closed_if_it_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("boxes.npy", b"")
    before = names(Path("/proc/self/fd"))
    with pytest.raises(CaseError):
        open_npz(path)
    assert len(names(Path("/proc/self/fd"))) == len(before)


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """Keeps what other tests have forgotten from being closed amid this one."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage")
def test_ctrl_c_at_whatever_line_of_a_write_leaves_nothing_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    arrays = {"segs": np.zeros((2, 3, 4), np.uint8), "status": np.array("complete")}

    def write_until(line: int) -> bool:
        """Says whether Ctrl-C came before the write was done."""
        passed = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal passed
            if frame.f_code.co_filename not in (zipfile.__file__, npz.__file__):
                return None
            if frame.f_code.co_name == "__del__":  # has no line to be interrupted at but its pass
                return None
            passed += event == "line"
            if passed == line:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            write_npz(tmp_path / "a.npz", arrays)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    for line in count(1):
        if not write_until(line):
            break
        assert [one.name for one in tmp_path.iterdir() if one.suffix == ".partial"] == []
    assert line > 100
    assert printed == []


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_shape_is_read_without_the_data(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "a.npz"
    write(path, imgs=np.zeros((3, 40, 50), np.int16), spacing=np.ones(3))
    with open_npz(path) as archive:
        assert read_member_shape(archive, Place(path, "imgs")) == (3, 40, 50)
        assert read_member_shape(archive, Place(path, "spacing")) == (3,)
        assert read_member_shape(archive, Place(path, "gts")) is None


def test_the_shape_of_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, imgs=np.array([None, "text"]))
    with open_npz(path) as archive, pytest.raises(CaseError, match="found an array of objects"):
        read_member_shape(archive, Place(path, "imgs"))


def test_a_shape_of_more_data_than_there_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 9, 9)}\n"
        content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(24)
        archive.writestr("imgs.npy", content)
    with open_npz(path) as archive, pytest.raises(CaseError, match="24 of the 729 bytes"):
        read_member_shape(archive, Place(path, "imgs"))

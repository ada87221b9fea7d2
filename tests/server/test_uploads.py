"""Forms, and npy files in them, from anyone."""

import contextlib
import gzip
import io
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.server.uploads import UploadError, read_compressed_npy, read_form, read_npy

FORM = "multipart/form-data; boundary=xyz"
SHAPE = (2, 3, 5)


def npy_of(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_declaring(shape: str, descr: str = "|u1") -> bytes:
    """Returns an npy file that declares something, and holds 30 bytes."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(30)


def read_image(data: bytes, most_bytes: int = 1000) -> npt.NDArray[Any]:
    return read_npy(memoryview(data), most_bytes)


def read_mask(data: bytes) -> npt.NDArray[Any]:
    return read_compressed_npy(memoryview(data), SHAPE)


def test_parts_are_told_apart_by_their_names() -> None:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\0\r\n--x\r\n'
        b'--xyz\r\ncontent-disposition: form-data; name="text"\r\n\r\n\r\n--xyz--\r\n'
    )
    parts = read_form(FORM, body)
    assert {name: bytes(part) for name, part in parts.items()} == {
        "file": b"\0\r\n--x",  # looks like the end of a part, and is none
        "text": b"",
    }


def test_a_part_that_breaks_off_is_left_out() -> None:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="one"\r\n\r\n1\r\n'
        b'--xyz\r\nContent-Disposition: form-data; name="two"\r\n\r\n2\r\n--x'
    )
    assert read_form(FORM, body).keys() == {"one"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--xyz--"),
        (FORM, b"no form"),
        (FORM, b"--xyz\r\nContent-Disposition: form-data\r\n\r\n\r\n" * 9),
    ],
)
def test_what_is_no_form_is_an_error(kind: str, body: bytes) -> None:
    with pytest.raises(UploadError, match="found"):
        read_form(kind, body)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["bool", "<i2", ">f4", "float64"])
def test_an_image_comes_out_as_it_was_saved(dtype: str, order: Any) -> None:
    image = np.arange(30).reshape(SHAPE).astype(dtype, order=order)
    np.testing.assert_array_equal(read_image(npy_of(image)), image)


def test_a_mask_comes_out_as_it_was_saved() -> None:
    mask = np.arange(30).reshape(SHAPE) % 3 == 0
    np.testing.assert_array_equal(read_mask(gzip.compress(npy_of(mask))), mask)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        npy_declaring("(2, 3)"),
        npy_declaring("(2, 3, 5, 1)"),
        npy_declaring("(2, -3, -5)"),
        npy_declaring("(0, 3, 5)"),
        npy_declaring("(2, 3, 6)"),  # holds less
        npy_declaring("(2, 3, 4)"),  # holds more
        npy_declaring("(2, 3, 5)", "|O"),
        npy_declaring("(2, 3, 5)", "|S1"),
        npy_declaring("(" * 3000),
    ],
)
def test_what_is_no_volume_of_numbers_is_an_error(data: bytes) -> None:
    with pytest.raises(UploadError, match="found"):
        read_image(data)
    with pytest.raises(UploadError, match="found"):
        read_mask(gzip.compress(data))


def test_an_image_larger_than_allowed_is_an_error() -> None:
    assert read_image(npy_declaring("(2, 3, 5)"), 30).size == 30
    with pytest.raises(UploadError, match="30 bytes, expected 29 at most"):
        read_image(npy_declaring("(2, 3, 5)"), 29)


def test_a_mask_of_another_shape_is_an_error() -> None:
    with pytest.raises(
        UploadError, match=r"shape \(3, 2, 5\), expected a mask of the image's shape"
    ):
        read_mask(gzip.compress(npy_declaring("(3, 2, 5)")))


@pytest.mark.parametrize("descr", ["<i2", "<f8"])
def test_a_mask_of_more_than_a_byte_a_voxel_is_an_error(descr: str) -> None:
    with pytest.raises(UploadError, match="expected a mask of a byte a voxel"):
        read_mask(gzip.compress(npy_declaring("(2, 3, 5)", descr)))


def test_an_image_of_longer_numbers_than_any_viewers_is_an_error() -> None:
    with pytest.raises(UploadError, match="expected numbers in three dimensions"):
        read_image(npy_declaring("(2, 3, 5)", "<f16"))


def test_a_mask_is_inflated_no_further_than_it_declares() -> None:
    bomb = gzip.compress(npy_declaring("(2, 3, 5)") + bytes(2**26))
    tracemalloc.start()
    try:
        with pytest.raises(UploadError, match="cut off or goes on"):
            read_mask(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@given(st.data())
def test_spoilt_files_end_in_the_one_error(data: st.DataObject) -> None:
    npy = npy_of(np.arange(30, dtype=np.uint8).reshape(SHAPE))
    file = bytearray(gzip.compress(npy) if data.draw(st.booleans(), "compressed") else npy)
    for _ in range(data.draw(st.integers(1, 4), "bytes changed")):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    del file[data.draw(st.integers(1, len(file))) :]
    for read in (read_image, read_mask):
        with contextlib.suppress(UploadError):
            assert read(bytes(file)).nbytes <= 1000

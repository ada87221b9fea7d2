"""What the legacy protocol uploads: forms of several parts, and arrays in them as npy files.

The bytes come from anyone. How large an array is, is known from its header before room is made for
it, and a compressed one is not inflated beyond that.
"""

import gzip
import io
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

NUMERIC = "biuf"
"""Kinds of numpy types that volumes may have: bool, integers and floats."""

NUMBER_BYTES = 8
"""The most that a number of a volume may have: no viewer's has more."""

HEADER_BYTES = 10 + 65535
"""Bytes within which the header of an npy file of version 1.0 ends."""

MAX_PARTS = 8
"""Parts that a form may have; the protocol knows two."""


class UploadError(ValueError):
    """An upload that can't be read; the text says what was found and what was expected."""


def read_form(content_type: str, body: bytes | bytearray) -> Mapping[str, memoryview]:
    """Takes a `multipart/form-data` body apart; nothing is copied.

    Args:
        content_type: the header's value, which names the boundary between parts.
        body: all of it.

    Returns:
        The content of each part by its name. A part that breaks off isn't among them.

    Raises:
        UploadError: it isn't such a body.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UploadError(f"found a body of type {content_type[:80]!r}, expected a form")
    form = _Form(body)
    try:
        # It reads a bytearray as well as bytes, though its types don't say so.
        MultipartParser(options[b"boundary"], form.callbacks()).write(body)  # type: ignore[arg-type]
    except FormParserError as error:
        raise UploadError(f"found a broken form: {error}") from None
    return form.parts


class _Form:
    """The parts of a form, as the parser comes across them."""

    def __init__(self, body: bytes | bytearray) -> None:
        self.parts: dict[str, memoryview] = {}
        self._body = memoryview(body)
        self._header = self._value = b""
        self._name: str | None = None
        self._start = self._end = 0
        self._begun = 0

    def callbacks(self) -> Any:
        """Returns what the parser is to call, by the names that it knows."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_to_header,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
        }

    def _begin_part(self) -> None:
        self._begun += 1
        if self._begun > MAX_PARTS:
            raise UploadError(f"found a form of more than {MAX_PARTS} parts")
        self._name = None
        self._start = self._end = 0

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"name", b"")
            self._name = name.decode("latin-1")
        self._header = self._value = b""

    def _add_data(self, _data: bytes, start: int, end: int) -> None:
        # The whole body is parsed at once, so that pieces of a part follow on each other.
        self._start, self._end = self._start or start, end

    def _end_part(self) -> None:
        if self._name is not None:
            self.parts[self._name] = self._body[self._start : self._end]


def read_npy(data: memoryview, most_bytes: int) -> npt.NDArray[Any]:
    """Reads an image.

    Args:
        data: an npy file.
        most_bytes: that the image may have.

    Returns:
        (z, y, x) numbers, a read-only view into `data`.

    Raises:
        UploadError: it isn't a whole npy file of three dimensions, or the image has more bytes.
    """
    file = io.BytesIO(data[:HEADER_BYTES])
    header = _read_header(file)
    if header.nbytes > most_bytes:
        raise UploadError(f"found {header}, {header.nbytes} bytes, expected {most_bytes} at most")
    content = data[file.tell() :]
    return header.as_array(content, len(content))


def read_compressed_npy(data: memoryview, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Reads a mask. Before its shape is known to be right, nothing is inflated but the header.

    Args:
        data: an npy file, compressed by gzip.
        shape: (z, y, x) of the image.

    Returns:
        (z, y, x) bool or integers of a byte, read-only.

    Raises:
        UploadError: it isn't such a file, not whole, or of another shape or type.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            header = _read_header(file)
            if header.shape != shape:
                raise UploadError(f"found {header}, expected a mask of the image's shape {shape}")
            if header.dtype.itemsize > 1:
                raise UploadError(f"found {header}, expected a mask of a byte a voxel")
            content = file.read(header.nbytes)
            found = len(content) + len(file.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise UploadError(f"found a broken gzip file: {error}") from None
    return header.as_array(content, found)


@dataclass(frozen=True, slots=True)
class _Header:
    """What an npy file declares."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"a volume of {self.dtype} and shape {self.shape}"

    def as_array(self, content: bytes | memoryview, found: int) -> npt.NDArray[Any]:
        """Returns the array, from the bytes after the header; the file has `found` of them."""
        if found != self.nbytes:
            raise UploadError(
                f"found {self} that is cut off or goes on, expected {self.nbytes} bytes"
            )
        order: Literal["F", "C"] = "F" if self.fortran_order else "C"
        return np.frombuffer(content, self.dtype).reshape(self.shape, order=order)


def _read_header(file: io.BytesIO | gzip.GzipFile) -> _Header:
    """Reads the header of an npy file, up to where the numbers begin."""
    try:
        # Later versions are for longer headers, which arrays of numbers don't have.
        if npy.read_magic(file) != (1, 0):
            raise UploadError("found another version of npy, expected 1.0")
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    except UploadError:
        raise
    except Exception as error:  # numpy evaluates the header as Python, which fails in many ways
        raise UploadError(f"found a file that is not npy: {error!s:.80}") from None
    header = _Header(shape, fortran_order, dtype)
    is_number = dtype.kind in NUMERIC and dtype.itemsize <= NUMBER_BYTES
    if not is_number or len(shape) != 3 or min(shape) < 1:
        raise UploadError(f"found {header}, expected numbers in three dimensions")
    return header

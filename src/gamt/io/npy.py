"""Arrays in numpy's own format, from streams that need no trust."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gamt.io.pickles import MOST_STEPS, NpyError, check_elements, count_lists, load_plain
from gamt.memory import available_bytes

Check = Callable[[np.dtype[Any], tuple[int, ...]], None]
"""Raises an NpyError where the type or the shape of an array isn't what it should be."""

MOST_PICKLE_BYTES = 64 * 2**20
"""Of an object array. 100,000 clicks take 1 to 6 MB, and up to 45 MB in the oldest protocol."""

_MOST_HEADER_BYTES = 10_000
"""As in numpy."""

_CHUNK_BYTES = 2**20

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}

# What numpy writes, blanks taken out; in any sequence. Python 2 wrote whole numbers with an L.
_HEADER = re.compile(
    r"\{(?:(?:'descr':'([^']*)'|'fortran_order':(True|False)|'shape':\(([\dL,]*)\)),?)+\}"
)
_PLAIN_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f(?:[248]|12|16)|c(?:8|16)|[SU][1-9]\d{0,8})")


@dataclass(frozen=True, slots=True)
class _Header:
    """What an npy stream says about its array.

    Attributes:
        dtype: of one element.
        shape: any number of axes.
        is_fortran: whether the first axis is the one whose neighbours are next to each other.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(
    file: IO[bytes],
    size_bytes: int,
    most_bytes: int | None = None,
    check: Check = lambda dtype, shape: None,
) -> npt.NDArray[Any]:
    """Reads one array.

    Nothing is allocated before the sizes that the stream declares are known to be true and allowed.

    Args:
        file: the stream, at its beginning.
        size_bytes: of the stream.
        most_bytes: that the array may have, and no more than `MOST_STEPS` elements with them; None
            for as many as there is free memory.
        check: called before the data are read. Of an array of objects it isn't called.

    Returns:
        An array of numbers, text, or objects. Objects are as `load_plain` says, and have at
        most `MOST_PICKLE_BYTES`.

    Raises:
        NpyError: the stream isn't a complete npy array, or more than is allowed.
    """
    header, header_bytes = _read_header(file)
    data_bytes = size_bytes - header_bytes
    if header.dtype.hasobject:
        most = MOST_PICKLE_BYTES if most_bytes is None else min(MOST_PICKLE_BYTES, most_bytes)
        if data_bytes > most:
            raise _too_large(data_bytes, f"at most {_describe(most)}")
        array = load_plain(file.read())
        if not isinstance(array, np.ndarray):
            raise NpyError(f"a pickle that holds a {type(array).__name__} and no array")
        return array
    check(header.dtype, header.shape)
    _check_size(header, data_bytes)
    if most_bytes is None:
        available = available_bytes()
        if header.bytes > available:
            raise _too_large(header.bytes, f"at most the free memory, {_describe(available)}")
    elif header.bytes > most_bytes:
        raise _too_large(header.bytes, f"at most {_describe(most_bytes)}")
    elif (count := count_lists(header.shape)) > MOST_STEPS:
        raise NpyError(f"{count:,} elements and rows", f"at most {MOST_STEPS:,}")
    return _read_data(file, header)


def read_shape(file: IO[bytes], size_bytes: int) -> tuple[int, ...]:
    """Reads the shape of an array of plain values, and no data.

    Args:
        file: the stream, at its beginning.
        size_bytes: of the stream.

    Raises:
        NpyError: the stream isn't an npy array of plain values, or not of its size.
    """
    header, header_bytes = _read_header(file)
    if header.dtype.hasobject:
        raise NpyError("an array of objects")
    _check_size(header, size_bytes - header_bytes)
    return header.shape


def _read_header(file: IO[bytes]) -> tuple[_Header, int]:
    """Returns the header, and how many bytes it takes."""
    start = file.read(len(_MAGIC) + 2)
    version = tuple(start[len(_MAGIC) :])
    if not start.startswith(_MAGIC) or version not in _LENGTH_BYTES:
        raise NpyError("no npy array")
    length_bytes = file.read(_LENGTH_BYTES[version])
    length = int.from_bytes(length_bytes, "little")
    if length > _MOST_HEADER_BYTES:
        raise NpyError(f"a header of {length} bytes", f"at most {_MOST_HEADER_BYTES}")
    raw = file.read(length)
    if len(raw) != length or not length:
        raise NpyError("an array that ends within its header")
    text = "".join(raw.decode("latin1").split()).replace('"', "'")
    if "[('" in text:
        raise NpyError("a structured array")
    match = _HEADER.fullmatch(text)
    if match is None or None in match.groups():
        raise NpyError("a header that is not numpy's")
    code, is_fortran, shape = match.groups()
    sizes = [one.rstrip("L") for one in shape.split(",") if one]
    if any(not 1 <= len(one) <= 18 for one in sizes) or len(sizes) > 32:
        raise NpyError("an array of an impossible shape")
    header = _Header(_parse_type(code), tuple(map(int, sizes)), is_fortran == "True")
    return header, len(start) + len(length_bytes) + length


def _check_size(header: _Header, data_bytes: int) -> None:
    if header.bytes != data_bytes:
        described = f"{header.dtype} of shape {header.shape}"
        raise NpyError(f"{data_bytes} of the {header.bytes} bytes of {described}")


def _parse_type(code: str) -> np.dtype[Any]:
    if code in ("|O", "O", "|O8"):
        return np.dtype(object)
    try:
        if _PLAIN_TYPE.fullmatch(code):
            return np.dtype(code)
    except (TypeError, ValueError):  # a size that numpy doesn't have here
        pass
    raise NpyError(f"the array type {code[:40]!r}")


def _read_data(file: IO[bytes], header: _Header) -> npt.NDArray[Any]:
    flat = np.empty(math.prod(header.shape), header.dtype)
    octets = flat.view(np.uint8)
    for start in range(0, octets.size, _CHUNK_BYTES):
        chunk = octets[start : start + _CHUNK_BYTES]
        if file.readinto(chunk.data) != chunk.size:  # type: ignore[attr-defined]
            raise NpyError("an array that ends too early")
    check_elements(flat)
    if header.dtype == np.bool_:
        # Other bytes than 0 and 1 are no truths that numpy can count with.
        np.not_equal(octets, 0, out=flat)
    if header.is_fortran:
        return flat.reshape(header.shape[::-1]).transpose()
    return flat.reshape(header.shape)


def _too_large(found_bytes: int, expected: str) -> NpyError:
    return NpyError(f"{_describe(found_bytes)} of data", expected)


def _describe(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:,.1f} GB"

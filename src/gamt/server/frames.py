"""Arrays as bytes on the wire: the NNIA frames of nnInteractive's protocol.

A frame is a header (magic, version, codec, dtype, shape) and the array's bytes in C order, cut into
chunks, each of which blosc2 has compressed. The client's own package reads and writes them too, but
is no basis for a server: it allocates whatever a header declares, and fails in many ways on frames
that are cut short. Here everything that a frame declares is checked before anything is allocated.
"""

import math
import reprlib
import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"NNIA"
VERSION = 1

CODECS = {1: "ZSTD", 2: "LZ4"}
"""What a frame may say that it is compressed by."""

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
"""Names of the dtypes that a frame may hold."""

MASK_DTYPES = ("bool", "int8", "uint8")
"""Those of drawings and segmentations."""

HEADER_BYTES = 8 + 255 + 4 * 8
"""Bytes within which the header of a frame ends, with the shape."""

MAX_DIMENSIONS = 4
"""An image's: channel, z, y, x."""

CHUNK_BYTES = 2**30
"""Of the array in a chunk, at most; blosc2 can't take 2^31 or more at once."""

MAX_AXIS = 2**31 - 1
"""Voxels along an axis, at most."""

_HEADER = struct.Struct("<4sBBBB")
_COUNT = struct.Struct("<I")
_CHUNK = struct.Struct("<QQ")

# The header of a chunk as blosc2 writes it: versions, flags, typesize, sizes, codes of the six
# filters, codec, filters' parameters, and more flags.
_BLOSC = struct.Struct("<BBBBiii6sBB6sBB")
_EXTENDED = 0b0000_0101  # flags: this is a header of blosc2, not of its predecessor
_COPIED = 0b0000_0010  # flags: the bytes are stored as they are
_FORMATS = (1, 4)  # the upper three bits of the flags: LZ4, ZSTD
_FILTERS = frozenset((0, 1, 2))  # none, shuffle, bitshuffle
_ZEROS, _NANS, _VALUE = 0x10, 0x20, 0x30  # last flags: all of the chunk is one value


class FrameError(ValueError):
    """Bytes that are no frame; the message says what was found and what was expected."""


class FrameSizeError(FrameError):
    """A frame whose array is larger than allowed."""


def load_blosc2() -> ModuleType:
    """Imports blosc2, which takes about a second the first time, so that it works beside others."""
    import blosc2

    blosc2.set_releasegil(True)
    module: ModuleType = blosc2
    return module


def pack(array: npt.NDArray[Any]) -> bytes:
    """Returns the frame of an array.

    Args:
        array: of up to four dimensions and a dtype named in `DTYPES`, in any memory order.
    """
    blosc2 = load_blosc2()
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    raw = array.reshape(-1).view(np.uint8).data
    name = array.dtype.name.encode()
    parts = [
        _HEADER.pack(MAGIC, VERSION, 2, array.ndim, len(name)),
        name,
        struct.pack(f"<{array.ndim}q", *array.shape),
        _COUNT.pack(-(-raw.nbytes // CHUNK_BYTES)),
    ]
    for start in range(0, raw.nbytes, CHUNK_BYTES):
        piece = raw[start : start + CHUNK_BYTES]
        chunk = blosc2.compress2(
            piece,
            typesize=array.itemsize,
            codec=blosc2.Codec.LZ4,
            clevel=3,
            filters=[blosc2.Filter.NOFILTER if array.itemsize == 1 else blosc2.Filter.SHUFFLE],
        )
        parts += [_CHUNK.pack(piece.nbytes, len(chunk)), chunk]
    return b"".join(parts)


def read_header(
    frame: bytes | bytearray, limit_bytes: int, dtypes: Sequence[str] = DTYPES
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Returns the dtype and the shape that a frame declares.

    Args:
        frame: as much of it as there is, from an untrusted source; `HEADER_BYTES` are enough.
        limit_bytes: of the array in memory.
        dtypes: names of those that it may have.

    Raises:
        FrameSizeError: the array is larger.
        FrameError: the bytes don't begin as such a frame does.
    """
    return _read_header(_Reader(memoryview(frame)), limit_bytes, dtypes)


def unpack(frame: bytes | bytearray, limit_bytes: int) -> npt.NDArray[Any]:
    """Returns the array in a frame, in native byte order.

    Args:
        frame: the bytes, from an untrusted source.
        limit_bytes: of the array in memory.

    Raises:
        FrameSizeError: the array is larger; nothing was allocated.
        FrameError: the bytes are no frame.
    """
    raw, dtype, shape = _decompress(frame, limit_bytes, DTYPES)
    if dtype == np.bool_:
        return _as_mask(raw).reshape(shape)
    little = raw.view(dtype.newbyteorder("<")).reshape(shape)
    return np.asarray(little, dtype)


def unpack_mask(frame: bytes | bytearray, limit_voxels: int) -> npt.NDArray[np.bool_]:
    """Returns the mask in a frame, True where it holds another number than 0.

    Args:
        frame: the bytes, from an untrusted source.
        limit_voxels: of the mask, which has a byte for each.

    Raises:
        FrameSizeError: the mask is larger; nothing was allocated.
        FrameError: the bytes are no frame of one of the types in `MASK_DTYPES`.
    """
    raw, _, shape = _decompress(frame, limit_voxels, MASK_DTYPES)
    return _as_mask(raw).reshape(shape)


def _as_mask(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Turns bytes into truth values in place: those above 1 are none yet."""
    return np.not_equal(raw, 0, out=raw.view(np.bool_))


def _decompress(
    frame: bytes | bytearray, limit_bytes: int, dtypes: Sequence[str]
) -> tuple[npt.NDArray[np.uint8], np.dtype[Any], tuple[int, ...]]:
    """Returns an array's bytes, and the dtype and the shape that the frame declares."""
    reader = _Reader(memoryview(frame))
    dtype, shape = _read_header(reader, limit_bytes, dtypes)
    size_bytes = math.prod(shape) * dtype.itemsize
    chunks = _read_chunks(reader, size_bytes, dtype.itemsize)
    raw = np.empty(size_bytes, np.uint8)
    blosc2 = load_blosc2()
    done = 0
    for chunk, length in chunks:
        try:
            blosc2.decompress2(chunk, dst=raw[done : done + length])
        except (ValueError, RuntimeError) as error:
            raise FrameError(f"found a chunk that can't be decompressed: {error}") from error
        done += length
    return raw, dtype, shape


class _Reader:
    """Takes bytes off the front of a frame."""

    def __init__(self, frame: memoryview) -> None:
        self._frame = frame
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._frame) - self._position

    def take(self, length: int, name: str) -> memoryview:
        if length > self.left:
            raise FrameError(f"found {self.left} bytes for {name}, expected {length}")
        self._position += length
        return self._frame[self._position - length : self._position]

    def unpack(self, form: struct.Struct, name: str) -> tuple[Any, ...]:
        return form.unpack(self.take(form.size, name))


def _read_header(
    reader: _Reader, limit_bytes: int, dtypes: Sequence[str]
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic, version, codec, dimensions, name_length = reader.unpack(_HEADER, "the frame's header")
    if magic != MAGIC:
        raise FrameError(f"found a frame that begins with {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise FrameError(f"found a frame of version {version}, expected {VERSION}")
    if codec not in CODECS:
        expected = " or ".join(f"{number} ({name})" for number, name in CODECS.items())
        raise FrameError(f"found the codec {codec}, expected {expected}")
    if dimensions > MAX_DIMENSIONS:
        raise FrameError(f"found {dimensions} dimensions, expected {MAX_DIMENSIONS} at most")
    name = bytes(reader.take(name_length, "the dtype's name")).decode("ascii", "replace")
    if name not in dtypes:
        raise FrameError(
            f"found the dtype {reprlib.repr(name)}, expected one of {', '.join(dtypes)}"
        )
    shape = reader.unpack(struct.Struct(f"<{dimensions}q"), "the shape")
    if not all(0 <= size <= MAX_AXIS for size in shape):
        raise FrameError(f"found the shape {shape}, expected 0 to {MAX_AXIS} along each axis")
    dtype = np.dtype(name)
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes > limit_bytes:
        raise FrameSizeError(
            f"found an array of shape {shape} and {dtype}, {size_bytes} bytes, "
            f"expected {limit_bytes} at most"
        )
    return dtype, shape


def _read_chunks(reader: _Reader, size_bytes: int, item_bytes: int) -> list[tuple[memoryview, int]]:
    """Returns each chunk with the bytes that it decompresses to; all of them make `size_bytes`."""
    (count,) = reader.unpack(_COUNT, "the number of chunks")
    chunks = []
    left = size_bytes
    for _ in range(count):
        length, compressed = reader.unpack(_CHUNK, "a chunk's sizes")
        if not 0 < length <= left or length % item_bytes:
            raise FrameError(
                f"found a chunk of {length} bytes, expected whole items of {item_bytes} bytes, "
                f"of which {left} bytes are missing"
            )
        chunk = reader.take(compressed, "a chunk")
        _check_chunk(chunk, length)
        chunks.append((chunk, length))
        left -= length
    if left:
        raise FrameError(f"found chunks of {size_bytes - left} bytes, expected {size_bytes}")
    if reader.left:
        raise FrameError(f"found {reader.left} bytes after the last chunk, expected none")
    return chunks


def _check_chunk(chunk: memoryview, length: int) -> None:
    """Refuses what blosc2 might trust, or have a plugin read, and no client has a reason to send.

    Raises:
        FrameError: the chunk's own header contradicts the frame's, or asks for something else than
            LZ4, ZSTD and shuffling.
    """
    if len(chunk) < _BLOSC.size:
        raise FrameError(f"found a chunk of {len(chunk)} bytes, expected {_BLOSC.size} or more")
    (_, _, flags, item_bytes, size, block, compressed, filters, _, _, _, more, last) = (
        _BLOSC.unpack_from(chunk)
    )
    if (size, compressed) != (length, len(chunk)):
        raise FrameError(
            f"found a chunk that says it is {compressed} bytes and holds {size}, "
            f"expected {len(chunk)} and {length}"
        )
    formats = (0, *_FORMATS) if flags & _COPIED else _FORMATS
    known = flags & _EXTENDED == _EXTENDED and flags >> 5 in formats
    if not known or not _FILTERS.issuperset(filters) or more:
        raise FrameError("found a chunk of another kind than LZ4 and ZSTD, shuffled or not")
    if not 0 < block <= size:
        raise FrameError(f"found blocks of {block} bytes in a chunk that holds {size}")
    fixed = {_ZEROS: _BLOSC.size, _NANS: _BLOSC.size, _VALUE: _BLOSC.size + item_bytes}
    if last and len(chunk) != fixed.get(last):
        raise FrameError(f"found a chunk with the flags {last:#x}, expected a plain one")

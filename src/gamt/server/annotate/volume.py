"""A scan as the page draws it: a NIfTI-1 file, made as it is sent."""

# nibabel has no types.
# mypy: allow-untyped-calls

import asyncio
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from gamt.annotation import grid
from gamt.io.image import Image

CHUNK_BYTES = 2**20
"""Of the file that are made, and sent, at a time."""

SLOW_BYTES_PER_SECOND = 4 * 2**20
"""A browser that takes less, as behind a network of 30 Mbit/s, gets what follows compressed. On
this machine it takes it as fast as it comes: there, to compress a scan of 256^3 voxels would only
cost most of a second on a core, and the browser a fifth of one to undo it."""

FLOAT32 = np.finfo(np.float32)


def choose_dtype(array: npt.NDArray[Any]) -> np.dtype[Any]:
    """Returns the smallest of uint8, int16 and float32 that holds an image's values.

    Args:
        array: (z, y, x) bool, integers or floats.
    """
    if array.dtype.kind == "f" and not all(_is_whole(one) for one in array):
        return np.dtype(np.float32)
    low, high = float(array.min()), float(array.max())
    for dtype in (np.uint8, np.int16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def _is_whole(plane: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(plane).all()) and np.array_equal(plane, np.rint(plane))


def make_nifti(image: Image, dtype: np.dtype[Any]) -> Iterator[bytes]:
    """Gives a scan as a NIfTI-1 file, in pieces: the header, then some slices at a time.

    Its axes are the page's (`grid`), and its affine says so and nothing more: a viewer that met an
    oblique one might turn the axes in a way of its own, and clicks would land elsewhere.

    Args:
        image: the scan.
        dtype: `choose_dtype` of its array.
    """
    volume = grid.turn(image.array)
    yield _header(volume.shape[::-1], image.spacing_mm[::-1], dtype)
    step = max(1, CHUNK_BYTES // (dtype.itemsize * volume[0].size))
    for first in range(0, len(volume), step):
        yield _convert(volume[first : first + step], dtype).tobytes()


def _header(shape: tuple[int, ...], spacing_mm: tuple[float, ...], dtype: np.dtype[Any]) -> bytes:
    header = nib.nifti1.Nifti1Header(endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(np.diag([*spacing_mm, 1.0]), code="aligned")
    header.set_zooms(spacing_mm)
    header.set_xyzt_units("mm")
    header["magic"] = b"n+1"
    header["vox_offset"] = header.single_vox_offset
    return bytes(header.binaryblock) + bytes(4)  # no extensions


def _convert(part: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Returns values as `dtype` holds them: infinite ones as the nearest, NaN as 0."""
    if dtype.kind == "f":
        low, high = float(FLOAT32.min), float(FLOAT32.max)
        exact = part.astype(np.promote_types(part.dtype, np.float32))
        part = np.nan_to_num(exact, nan=0.0, posinf=high, neginf=low).clip(low, high)
    return part.astype(dtype.newbyteorder("<"), copy=False)


async def stream(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Gives pieces as they come, in a thread of their own."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def stream_gzipped(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Gives pieces as one gzip file, in which those are compressed that the browser waits for.

    Whether one is, depends on how long the one before took to be sent: the others are stored as
    they are, which costs next to nothing on both sides.
    """
    yield b"\x1f\x8b\x08\x00" + bytes(4) + b"\x04\xff"  # gzip, deflated, no name, no time
    checksum = size = 0
    is_slow = False
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        checksum, size = zlib.crc32(piece, checksum), size + len(piece)
        block = await asyncio.to_thread(_deflate, piece, int(is_slow), zlib.Z_FULL_FLUSH)
        start = time.perf_counter()
        yield block
        is_slow = len(block) < SLOW_BYTES_PER_SECOND * (time.perf_counter() - start)
    yield _deflate(b"", 0, zlib.Z_FINISH) + struct.pack("<II", checksum, size % 2**32)


def _deflate(piece: bytes, level: int, flush: int) -> bytes:
    """Returns blocks of deflate that refer to nothing before them, so that they can be joined."""
    packer = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return packer.compress(piece) + packer.flush(flush)

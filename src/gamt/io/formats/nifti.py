"""NIfTI-1 and NIfTI-2, in one file or as a pair of header and image, compressed or not."""

# nibabel has types in part only.
# mypy: allow-untyped-calls

import gzip
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.imageglobals import LoggingOutputSuppressor

from gamt.io.format import (
    MOST_RATIO,
    ImageError,
    StoredImage,
    check_memory,
    check_size,
    choose_volume,
    reason,
)

NAME = "NIfTI"
SUFFIXES = (".nii", ".nii.gz")
PACKAGE = None

logger = logging.getLogger("gamt")

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_MOST_HEADER = 1 << 26
"""Bytes before the voxels: the header and its extensions, texts of some MiB at the most."""
_MOST_EXTENSIONS = 1000
"""Extensions of a header; files have one or two, and nibabel makes an object of each."""
_MOST_REST = 1 << 26
"""Bytes that may follow the voxels of a compressed file; none do in a right one."""
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by code: unknown, metre, millimetre, micron
_SAME_SIZE = 1e-3
"""Share by which the header's voxel size may differ from the affine's: headers round numbers."""


def recognises(path: Path, head: bytes) -> bool:
    """Says whether a file has NIfTI's magic number, be it compressed or not."""
    if path.suffix.lower() == ".img":  # the image of a pair, which begins in no way of its own
        return _header_beside(path) is not None
    return _kind(head) is not None


def read(path: Path, volume: int | None) -> StoredImage:
    """Reads an image; see `gamt.io.format.Format`.

    The affine that places the voxels decides: the sform, or else the qform.
    """
    with _opened(path) as file:
        shape = file.shape
        if len(shape) < 3 or min(shape) < 1:
            raise ImageError(path, f"found an image of shape {shape}, expected a 3-D volume")
        index = choose_volume(path, math.prod(shape[3:]), volume)
        end = _check_voxels(path, file)
        chosen = np.unravel_index(index, shape[3:]) if shape[3:] else ()
        try:
            array = np.asanyarray(file.dataobj[(..., *chosen)])
            _check_rest(file.file_map["image"].fileobj, end)
        except Exception as error:  # a broken file can make nibabel fail in many ways
            raise ImageError(path, f"can't be read to its end: {reason(error)}") from error
        header = file.header
        affine = np.asarray(file.affine, dtype=np.float64)
    unit_mm = _read_unit(path, header)
    spacing = _read_spacing(path, header, affine) * unit_mm
    scale = np.diag([unit_mm, unit_mm, unit_mm, 1.0])
    i, j, k = spacing.tolist()
    second = _read_qform(header)
    return StoredImage(
        array, scale @ affine, (i, j, k), header, None if second is None else scale @ second
    )


def check_name(path: Path) -> None:
    """Takes any name; see `gamt.io.format.WritableFormat`."""
    del path


def write(path: Path, image: StoredImage, names: Mapping[int, str]) -> None:
    """Writes an image; see `gamt.io.format.WritableFormat`."""
    del names
    array = image.array
    if isinstance(image.header, nib.Nifti1Header):
        shape = image.header.get_data_shape()
        if math.prod(shape) == array.size:  # keeps further axes of length 1
            array = array.reshape(shape)
        kind = nib.Nifti2Image if isinstance(image.header, nib.Nifti2Header) else nib.Nifti1Image
        # Without an affine of its own the image keeps the header's, codes and all.
        file = kind(array, None, image.header, dtype=array.dtype)
        file.header["cal_min"] = file.header["cal_max"] = 0  # a display range for other values
    else:
        file = nib.Nifti1Image(array, image.affine, dtype=array.dtype)
        file.header.set_xyzt_units("mm")
    data = file.to_bytes()
    if path.suffix.lower() == ".gz":
        data = gzip.compress(data, compresslevel=6, mtime=0)
    path.write_bytes(data)


def _kind(head: bytes) -> str | None:
    """Returns "single" or "pair" by the first bytes of a file; None if it isn't NIfTI."""
    if head.startswith(_GZIP):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:
            return None
    magics = {b"n+1\0": "single", b"ni1\0": "pair", b"n+2\0": "single", b"ni2\0": "pair"}
    return magics.get(head[344:348]) or magics.get(head[4:8])


def _header_beside(image: Path) -> Path | None:
    """Returns the header file of a pair's image; None without one."""
    header = image.with_suffix(".HDR" if image.suffix == ".IMG" else ".hdr")
    if not header.is_file():
        return None
    with header.open("rb") as file:
        return header if _kind(file.read(1024)) == "pair" else None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens an image, whose data can be read in the block.

    Raises:
        ImageError: the header makes no sense.
    """
    with path.open("rb") as raw:
        head = raw.read(1024)
        raw.seek(0)
        is_image = path.suffix.lower() == ".img"
        is_pair = is_image or _kind(head) == "pair"
        with (
            gzip.open(raw) if head.startswith(_GZIP) else raw as file,
            LoggingOutputSuppressor(),  # nibabel tells standard error what it makes of headers
            warnings.catch_warnings(action="ignore"),
        ):
            try:
                if is_pair:
                    header = _header_beside(path) if is_image else path
                    assert header is not None  # or it would not be recognised
                    with header.open("rb") as beside:
                        _check_header(path, beside)
                    image = nib.load(path)
                else:
                    _check_header(path, file)
                    file.seek(0)
                    holder = nib.FileHolder(fileobj=file)
                    start = file.read(8)
                    file.seek(0)
                    kind = nib.Nifti2Image if start[4:] == b"n+2\0" else nib.Nifti1Image
                    image = kind.from_file_map({"header": holder, "image": holder})
            except ImageError:
                raise
            except Exception as error:  # a broken file can make nibabel fail in many ways
                raise ImageError(path, f"can't be read as NIfTI: {reason(error)}") from error
            yield image


def _check_header(path: Path, file: BinaryIO | gzip.GzipFile) -> None:
    """Refuses a header whose extensions, or whose voxels, are nowhere near it.

    nibabel would read as much as an extension says it has.
    """
    start = file.read(4)
    file.seek(0)
    kind = nib.Nifti2Header if 540 in (_whole(start, "<"), _whole(start, ">")) else nib.Nifti1Header
    header = kind(file.read(kind.template_dtype.itemsize), check=False)
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _MOST_HEADER:
        expected = f"in the first {_MOST_HEADER >> 20} MiB"
        raise ImageError(
            path, f"found its voxels from byte {offset:g} on, expected them {expected}"
        )
    has_extensions = file.read(4)[:1] not in (b"", b"\0")
    count = 0
    while has_extensions and (size := _whole(file.read(4), header.endianness)) is not None:
        if not 8 <= size <= _MOST_HEADER:
            expected = f"8 to {_MOST_HEADER}"
            raise ImageError(path, f"found a header extension of {size} bytes, expected {expected}")
        count += 1
        if count > _MOST_EXTENSIONS:
            raise ImageError(path, f"found over {_MOST_EXTENSIONS} header extensions, expected few")
        file.seek(file.tell() - 4 + size)
        has_extensions = file.tell() < (offset or _MOST_HEADER)


def _whole(data: bytes, order: str) -> int | None:
    """Returns four bytes as a whole number; None if they are fewer."""
    return int(struct.unpack(f"{order}i", data)[0]) if len(data) == 4 else None


def _check_voxels(path: Path, file: Any) -> int:
    """Refuses more voxels than the file, or the memory, has room for; returns where they end."""
    header, shape = file.header, file.shape
    dtype = header.get_data_dtype()
    if dtype.kind not in "biuf":
        name = nib.nifti1.data_type_codes.label[dtype]
        raise ImageError(path, f"found voxels of type {name}, expected plain numbers")
    holder = file.file_map["image"]
    stored = path if holder.filename is None else Path(holder.filename)
    if not stored.is_file():
        raise ImageError(path, f"found no file {stored.name}, expected one with its voxels")
    is_packed = isinstance(holder.fileobj, gzip.GzipFile) or stored.suffix.lower() == ".gz"
    offset, size = file.dataobj.offset, stored.stat().st_size
    if is_packed:
        check_size(path, shape, dtype.itemsize, size, MOST_RATIO)
    else:
        check_size(path, shape, dtype.itemsize, max(0, size - offset))
    scaled = 0 if file.dataobj.slope == 1 and file.dataobj.inter == 0 else 3 * 8
    check_memory(path, shape[:3], (1 if scaled else 2) * dtype.itemsize + scaled)
    return int(offset + math.prod(shape) * dtype.itemsize)


def _check_rest(stream: BinaryIO | None, end: int) -> None:
    """Reads a compressed stream to its end, for only there is its checksum compared.

    Args:
        stream: where the voxels are from; None where there is none of our own.
        end: where they end. Not much may follow.

    Raises:
        OSError, EOFError, zlib.error: the stream is damaged, or goes on and on.
    """
    if isinstance(stream, gzip.GzipFile):
        while stream.read(_CHUNK):
            if stream.tell() > end + _MOST_REST:
                raise OSError(f"found over {_MOST_REST >> 20} MiB after the voxels, expected none")


def _read_unit(path: Path, header: nib.Nifti1Header) -> float:
    """Returns the millimetres of the file's unit of length."""
    code = int(header["xyzt_units"]) & 7
    if code not in _UNIT_MM:
        logger.warning("%s: found the unknown unit code %d, counted as mm", path.name, code)
    return _UNIT_MM.get(code, 1.0)


def _read_spacing(
    path: Path, header: nib.Nifti1Header, affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns the voxel's size along (i, j, k), in the file's unit."""
    stated = np.array(header["pixdim"][1:4], dtype=np.float64)
    placed: npt.NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(stated, placed, rtol=_SAME_SIZE, atol=0):
        return stated
    logger.warning(
        "%s: the header's voxel size %s isn't that of its affine, %s, which is used",
        *(path.name, *(" x ".join(f"{side:.4g}" for side in sides) for sides in (stated, placed))),
    )
    return placed


def _read_qform(header: nib.Nifti1Header) -> Any:
    """Returns the qform's affine, in the file's unit, where the sform decides; None without."""
    if int(header["sform_code"]) == 0 or int(header["qform_code"]) == 0:
        return None
    try:
        affine = header.get_qform()
        places = np.isfinite(affine).all() and np.linalg.matrix_rank(affine) == 4
        return affine if places else None
    except (nib.spatialimages.HeaderDataError, ValueError):  # numbers that are no rotation
        return None

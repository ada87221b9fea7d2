"""NIfTI images, turned on reading the way challenge files lie, and turned back on writing.

A NIfTI array's axes (i, j, k) may run along the patient's in any of 48 ways. Inside the package
every image is (z, y, x) with z towards the head, y towards the back and x towards the patient's
left, the nearest that the image's own axes come to this: so axial planes are axial, and slices
are the right way up for models that were trained on slices as radiologists see them. Nothing is
ever resampled, so an oblique image stays oblique.
"""

# nibabel has types in part only.
# mypy: allow-untyped-calls

import gzip
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from gamt.io.files import atomic_write
from gamt.prompts import Box

_LPS = axcodes2ornt(("L", "P", "S"))
_MM = {"meter": 1000.0, "micron": 0.001}
_SAME_MM = 0.01
"""Grids whose corners are closer than this are the same: headers round their numbers."""


class NiftiError(ValueError):
    """A NIfTI file that can't be read or written, or a place that isn't in its image."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(f"{path.name}: {found}")


@dataclass(frozen=True, slots=True, eq=False)
class NiftiImage:
    """An image as the package sees it, and what it takes to go back to the file's own form.

    Attributes:
        path: the file.
        array: (z, y, x) towards head, back and left; bool, integer or float, values as in the
            file, scaled if the header says so.
        spacing_mm: the voxel's size along the array axes (z, y, x); positive and finite.
        header: the file's.
        affine: (4, 4), takes voxel indices (x, y, z) of `array` to scanner RAS coordinates.
        turn: (4, 4), takes voxel indices (i, j, k) of the file to those of `array`, (x, y, z).
    """

    path: Path
    array: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    header: nib.Nifti1Header
    affine: npt.NDArray[np.float64]
    turn: npt.NDArray[np.float64]

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.name.removesuffix(".gz").removesuffix(".nii")

    def voxel(self, point: Sequence[float], ras: bool) -> tuple[int, int, int]:
        """Returns the voxel (z, y, x) at a place in the image.

        Args:
            point: voxel indices (i, j, k) of the file's array, whole numbers; or RAS coordinates.
            ras: whether `point` is in the scanner's RAS coordinates (mm), not in voxels.

        Raises:
            NiftiError: the place is outside of the image, or lies between voxels.
        """
        if not ras and not all(float(number).is_integer() for number in point):
            raise NiftiError(self.path, f"found voxel {_join(point)}, expected whole numbers")
        nearest = self._nearest(point, ras)
        if not all(0 <= n < size for n, size in zip(nearest, self.array.shape, strict=True)):
            corners = _apply(np.linalg.inv(self.turn), _corners(self.array.shape))
            if ras:
                corners = _apply(self.affine, _corners(self.array.shape))
            low, high = _join(corners.min(axis=0)), _join(corners.max(axis=0))
            unit = " mm (RAS)" if ras else ""
            raise NiftiError(
                self.path,
                f"{_join(point)}{unit} is outside of the image, which is from {low} to {high}",
            )
        z, y, x = nearest.astype(int).tolist()
        return z, y, x

    def box(self, corner: Sequence[float], opposite: Sequence[float], ras: bool) -> Box:
        """Returns the box between two opposite corners, with its middle slice as `z_mid`.

        In an oblique image, a box that is upright in RAS coordinates becomes the smallest box of
        voxels around it, as far as that is in the image.

        Args:
            corner: a place as for `voxel`; the voxel there belongs to the box.
            opposite: likewise.
            ras: whether they are in the scanner's RAS coordinates (mm).

        Raises:
            NiftiError: one of the two corners is outside of the image.
        """
        self.voxel(corner, ras), self.voxel(opposite, ras)
        last = np.subtract(self.array.shape, 1)
        points = product(*zip(corner, opposite, strict=True))
        voxels = np.clip([self._nearest(point, ras) for point in points], 0, last).astype(int)
        z_min, y_min, x_min = voxels.min(axis=0).tolist()
        z_max, y_max, x_max = voxels.max(axis=0).tolist()
        z_mid = (z_min + z_max) // 2
        return Box(z_min, z_max + 1, z_mid, y_min, y_max + 1, x_min, x_max + 1)

    def _nearest(self, point: Sequence[float], ras: bool) -> npt.NDArray[np.float64]:
        """Returns the index (z, y, x) of the voxel nearest to a place, in the image or not."""
        matrix = np.linalg.inv(self.affine) if ras else self.turn
        return np.rint(_apply(matrix, np.asarray(point, dtype=np.float64)))[::-1]


def read_image(path: str | os.PathLike[str]) -> NiftiImage:
    """Reads a 3-D image; further axes of length 1 are allowed.

    Raises:
        NiftiError: the file is missing, broken, or holds something else than one volume of
            numbers that lies somewhere in the scanner.
    """
    path = Path(path)
    try:
        file = nib.load(path)
    except Exception as error:  # a broken file can make nibabel fail in many ways
        raise NiftiError(path, f"can't be read as NIfTI: {_reason(error)}") from error
    if not isinstance(file, nib.Nifti1Pair):
        raise NiftiError(path, f"found {type(file).__name__}, expected NIfTI")
    shape = file.shape
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or 0 in shape:
        raise NiftiError(path, f"found an image of shape {shape}, expected one 3-D volume")
    affine = np.asarray(file.affine, dtype=np.float64)
    zooms = np.array(file.header.get_zooms()[:3], dtype=np.float64)
    if not (np.isfinite(affine).all() and np.linalg.matrix_rank(affine) == 4):
        raise NiftiError(path, "the header's affine doesn't place the voxels in space")
    if not all(0 < zoom < math.inf for zoom in zooms):
        raise NiftiError(path, f"found the voxel size {_join(zooms)}, expected positive numbers")
    try:
        stored = np.asanyarray(file.dataobj).reshape(shape[:3])
    except Exception as error:
        raise NiftiError(path, f"can't be read to its end: {_reason(error)}") from error
    if stored.dtype.kind not in "biuf":
        raise NiftiError(path, f"found voxels of type {stored.dtype}, expected plain numbers")
    orientation = ornt_transform(io_orientation(affine), _LPS)
    array = np.ascontiguousarray(apply_orientation(stored, orientation).T)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    back = inv_ornt_aff(orientation, shape[:3])
    unit_mm = _MM.get(file.header.get_xyzt_units()[0], 1.0)
    x, y, z = (abs(np.linalg.inv(back)[:3, :3]) @ zooms * unit_mm).tolist()
    return NiftiImage(path, array, (z, y, x), file.header, affine @ back, np.linalg.inv(back))


def read_labels(path: str | os.PathLike[str], grid: NiftiImage) -> npt.NDArray[np.int64]:
    """Reads a segmentation of an image.

    Args:
        path: the file. Its axes may run in other directions than the image's.
        grid: the image that it must lie on, voxel by voxel.

    Returns:
        (z, y, x), whole numbers from 0 on, in the order of `grid.array`.

    Raises:
        NiftiError: as for `read_image`, and if the grid is another or the values are no labels.
    """
    image = read_image(path)
    if image.array.shape != grid.array.shape or not _same_place(image, grid):
        raise NiftiError(image.path, f"lies on another grid of voxels than {grid.path.name}")
    finite = bool(np.isfinite(image.array).all())
    if not finite or image.array.min() < 0 or image.array.max() > np.iinfo(np.int32).max:
        raise NiftiError(image.path, "found values that are no labels, expected 0, 1, 2, ...")
    labels = image.array.astype(np.int64)
    if not np.array_equal(labels, image.array):
        raise NiftiError(image.path, "found fractions, expected whole numbers for labels")
    return labels


def write_image(
    path: str | os.PathLike[str],
    array: npt.NDArray[Any],
    like: NiftiImage | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> None:
    """Writes a volume; the file appears at once and whole, or not at all.

    Args:
        path: ends in ``.nii`` or ``.nii.gz``.
        array: (z, y, x) towards head, back and left; bool, integer or float.
        like: the image whose shape, axes, affine and header the file gets.
        spacing_mm: where there is none, the voxel's size (z, y, x). The first voxel then lies at
            the origin of the scanner's coordinates.

    Raises:
        NiftiError: the file can't be written.
        ValueError: `array` hasn't the shape of `like`.
    """
    stored = array.T
    if array.dtype == bool:
        stored = stored.astype(np.uint8)
    elif array.dtype == np.float16:  # NIfTI has none
        stored = stored.astype(np.float32)
    if like is None:
        z, y, x = spacing_mm
        affine = np.diag([-x, -y, z, 1.0])
        image = nib.Nifti1Image(stored, affine, dtype=stored.dtype)
        image.header.set_xyzt_units("mm")
    else:
        if array.shape != like.array.shape:
            raise ValueError(f"found shape {array.shape}, expected {like.array.shape}")
        back = ornt_transform(_LPS, io_orientation(like.header.get_best_affine()))
        stored = apply_orientation(stored, back).reshape(like.header.get_data_shape())
        kind = nib.Nifti2Image if isinstance(like.header, nib.Nifti2Header) else nib.Nifti1Image
        # Without an affine of its own the image keeps the header's, codes and all.
        image = kind(stored, None, like.header, dtype=stored.dtype)
        image.header["cal_min"] = image.header["cal_max"] = 0  # a display range for other values
    data = image.to_bytes()
    path = Path(path)
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=6, mtime=0)
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise NiftiError(path, f"can't be written: {_reason(error)}") from error


def _same_place(image: NiftiImage, other: NiftiImage) -> bool:
    """Whether two arrays of the same shape lie at the same place."""
    corners = _corners(image.array.shape)
    places = _apply(image.affine, corners), _apply(other.affine, corners)
    return bool(np.allclose(*places, rtol=0, atol=_SAME_MM))


def _corners(shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Returns the indices (x, y, z) of the eight corner voxels of an array of `shape` (z, y, x)."""
    return np.array(list(product(*((0, size - 1) for size in reversed(shape)))), dtype=np.float64)


def _apply(
    matrix: npt.NDArray[np.floating[Any]], points: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Applies a (4, 4) affine to points (..., 3)."""
    moved: npt.NDArray[np.float64] = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _join(numbers: Sequence[float] | npt.NDArray[Any]) -> str:
    return ",".join(f"{number + 0.0:g}" for number in numbers)  # + 0.0 makes 0 of -0


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    # nibabel's own messages name the file again, with its folder.
    return " ".join(str(error).split()) or type(error).__name__

"""Images, turned on reading the way challenge files lie, and turned back on writing.

The axes (i, j, k) of a file's array may run along the patient's in any of 48 ways. Inside the
package every image is (z, y, x) with z towards the head, y towards the back and x towards the
patient's left, the nearest that the image's own axes come to this: so axial planes are axial, and
slices are the right way up for models that were trained on slices as radiologists see them. No
image is ever resampled, so an oblique one stays oblique.
"""

# nibabel has types in part only.
# mypy: allow-untyped-calls

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from scipy.ndimage import affine_transform

from gamt.io import formats
from gamt.io.files import atomic_write_files
from gamt.io.format import ImageError, NamedFormat, StoredImage, reason
from gamt.prompts import Box
from gamt.spacing import EXPECTED, is_believable

logger = logging.getLogger("gamt")

_LPS = axcodes2ornt(("L", "P", "S"))
_UNTURNED = axcodes2ornt(("R", "A", "S"))
_SAME_VOXELS = 0.1
"""Grids whose corners are closer than this share of a voxel are the same: headers round."""
_ON_CENTRE = 1e-4
"""A border that is as close to a voxel's centre, in voxels, runs through it: coordinates round."""


class GridError(ImageError):
    """A segmentation that lies on other voxels than its image."""


class PlaceError(ImageError):
    """A place that is outside of the image, or lies between voxels.

    Attributes:
        index: which one it is, of several.
    """

    def __init__(self, path: Path, found: str, index: int) -> None:
        super().__init__(path, found)
        self.index = index


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image as the package sees it, and what it takes to go back to the file's own form.

    Attributes:
        path: the file, or the folder of a DICOM series.
        name: that of the file without its suffix.
        array: (z, y, x) towards head, back and left; bool, integer or float, values as in the
            file, scaled if the header says so.
        spacing_mm: the voxel's size along the array axes (z, y, x); positive and finite.
        affine: (4, 4), takes voxel indices (x, y, z) of `array` to scanner RAS coordinates (mm).
        turn: (4, 4), takes voxel indices (i, j, k) of the file to those of `array`, (x, y, z).
        header: the file's, for writing another in the same format; None if it has no more to say.
        second_affine: as `affine`: another place that the header gives for the same voxels, as
            NIfTI's qform may beside the sform; None if there is one alone.
    """

    path: Path
    name: str
    array: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    affine: npt.NDArray[np.float64]
    turn: npt.NDArray[np.float64]
    header: Any
    second_affine: npt.NDArray[np.float64] | None

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """The number of voxels along the axes (i, j, k) of the file's array."""
        i, j, k = self._along_file_axes(self.array.shape)
        return round(i), round(j), round(k)

    @property
    def file_spacing_mm(self) -> tuple[float, float, float]:
        """The voxel's size along the axes (i, j, k) of the file's array."""
        return self._along_file_axes(self.spacing_mm)

    @property
    def file_affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), takes voxel indices (i, j, k) of the file to scanner RAS coordinates (mm)."""
        return self.affine @ self.turn

    def file_voxel(self, voxel: Sequence[int]) -> tuple[int, int, int]:
        """Returns the indices (i, j, k) in the file of a voxel (z, y, x)."""
        place = np.array(voxel[::-1], dtype=np.float64)
        i, j, k = np.rint(_apply(np.linalg.inv(self.turn), place)).astype(int).tolist()
        return i, j, k

    def has_grid(self, shape: Sequence[int], affine: npt.NDArray[np.float64]) -> bool:
        """Says whether another array has the same voxels in the same order, header rounding aside.

        Args:
            shape: of the other array, (i, j, k) as in the file.
            affine: (4, 4), takes voxel indices (i, j, k) of the other array to scanner RAS
                coordinates (mm).
        """
        corners = _corners(self.file_shape[::-1])
        moved = _apply(np.linalg.inv(self.file_affine) @ affine, corners)
        return tuple(shape) == self.file_shape and np.allclose(moved, corners, 0, _SAME_VOXELS)

    def voxel(self, point: Sequence[float], ras: bool) -> tuple[int, int, int]:
        """Returns the voxel (z, y, x) at a place in the image.

        Args:
            point: voxel indices (i, j, k) of the file's array, whole numbers; or RAS coordinates.
            ras: whether `point` is in the scanner's RAS coordinates (mm), not in voxels.

        Raises:
            PlaceError: the place is outside of the image, or lies between voxels.
        """
        ((z, y, x),) = self.voxels([point], ras).tolist()
        return z, y, x

    def voxels(
        self, points: Sequence[Sequence[float]] | npt.NDArray[np.float64], ras: bool
    ) -> npt.NDArray[np.intp]:
        """Returns the voxels at places in the image.

        Args:
            points: (N, 3), each as for `voxel`.
            ras: as for `voxel`.

        Returns:
            (N, 3), indices (z, y, x).

        Raises:
            PlaceError: a place is outside of the image, or lies between voxels.
        """
        places = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        between = np.flatnonzero((np.rint(places) != places).any(axis=1))
        if between.size and not ras:
            index = int(between[0])
            found = f"found voxel {_join(places[index])}, expected whole numbers"
            raise PlaceError(self.path, found, index)
        nearest = self._nearest(places, ras)
        outside = np.flatnonzero(~((nearest >= 0) & (nearest < self.array.shape)).all(axis=1))
        if outside.size:
            index = int(outside[0])
            corners = _apply(np.linalg.inv(self.turn), _corners(self.array.shape))
            if ras:
                corners = _apply(self.affine, _corners(self.array.shape))
            low, high = _join(corners.min(axis=0)), _join(corners.max(axis=0))
            raise PlaceError(
                self.path,
                f"{_join(places[index])}{' mm (RAS)' if ras else ''} is outside of the image, "
                f"which is from {low} to {high}",
                index,
            )
        return nearest.astype(np.intp)

    def box(self, corner: Sequence[float], opposite: Sequence[float], ras: bool) -> Box:
        """Returns the box between two opposite corners, with its middle slice as `z_mid`.

        In an oblique image, a box that is upright in RAS coordinates becomes the smallest box of
        voxels around it, as far as that is in the image.

        Args:
            corner: a place as for `voxel`; the voxel there belongs to the box.
            opposite: likewise.
            ras: whether they are in the scanner's RAS coordinates (mm).

        Raises:
            PlaceError: one of the two corners is outside of the image.
        """
        self.voxels([corner, opposite], ras)
        last = np.subtract(self.array.shape, 1)
        points = np.array(list(product(*zip(corner, opposite, strict=True))), dtype=np.float64)
        voxels = np.clip(self._nearest(points, ras), 0, last).astype(int)
        z_min, y_min, x_min = voxels.min(axis=0).tolist()
        z_max, y_max, x_max = voxels.max(axis=0).tolist()
        z_mid = (z_min + z_max) // 2
        return Box(z_min, z_max + 1, z_mid, y_min, y_max + 1, x_min, x_max + 1)

    def box_within(self, corners_mm: npt.NDArray[np.float64]) -> Box:
        """Returns the voxels whose centres are in a cuboid, with their middle slice as `z_mid`.

        Of a cuboid that is oblique to the image's axes, these are the voxels in the smallest box
        around it that isn't. Along an axis where no centre is in it, the nearest voxel counts. What
        is beyond the image is left out.

        Args:
            corners_mm: (8, 3), in scanner RAS coordinates.

        Raises:
            ImageError: no part of the cuboid is in the image.
        """
        corners = _apply(np.linalg.inv(self.affine), corners_mm)[:, ::-1]
        low, high = corners.min(axis=0), corners.max(axis=0)
        first, last = np.ceil(low - _ON_CENTRE), np.floor(high + _ON_CENTRE)
        nearest = np.rint((low + high) / 2)
        first, last = np.where(first > last, nearest, [first, last])
        size = np.array(self.array.shape)
        if (last < 0).any() or (first >= size).any():
            raise ImageError(self.path, "the box is outside of the image")
        z_min, y_min, x_min = first.clip(0).astype(int).tolist()
        z_max, y_max, x_max = last.clip(max=size - 1).astype(int).tolist()
        return Box(z_min, z_max + 1, (z_min + z_max) // 2, y_min, y_max + 1, x_min, x_max + 1)

    def _along_file_axes(self, sizes: Sequence[float]) -> tuple[float, float, float]:
        """Returns sizes along (z, y, x) in the order of the file's axes (i, j, k)."""
        i, j, k = (abs(np.linalg.inv(self.turn)[:3, :3]) @ sizes[::-1]).tolist()
        return i, j, k

    def _nearest(self, points: npt.NDArray[np.float64], ras: bool) -> npt.NDArray[np.float64]:
        """Returns the indices (z, y, x) of the voxels nearest to places, in the image or not."""
        matrix = np.linalg.inv(self.affine) if ras else self.turn
        return np.rint(_apply(matrix, points))[:, ::-1]


@np.errstate(all="ignore")  # numbers that make no sense are refused, and that is all
def read_image(path: str | os.PathLike[str], volume: int | None = None) -> Image:
    """Reads a 3-D image of any format of `gamt.io.formats`, by what the file holds.

    Args:
        path: the file, or the folder of a DICOM series.
        volume: which one, from 0 on, of a file that holds several, such as a 4-D one.

    Raises:
        ImageError: the file is missing, broken or of no known format, or the format's package is
            missing, or it holds something else than one volume of numbers that lies somewhere in
            the scanner.
    """
    path = Path(path)
    stored = formats.reader_of(path).read(path, volume)
    affine = stored.affine
    if not (np.isfinite(affine).all() and np.linalg.matrix_rank(affine) == 4):
        raise ImageError(path, "the header's affine doesn't place the voxels in space")
    if stored.array.dtype.kind not in "biuf":
        found = f"found voxels of type {stored.array.dtype}"
        raise ImageError(path, f"{found}, expected plain numbers")
    orientation = ornt_transform(io_orientation(affine), _LPS)
    array = np.ascontiguousarray(apply_orientation(stored.array, orientation).T)
    array = array.astype(_native(array.dtype), copy=False)
    back = inv_ornt_aff(orientation, stored.array.shape)
    x, y, z = (abs(np.linalg.inv(back)[:3, :3]) @ stored.spacing_mm).tolist()
    if not is_believable((z, y, x)):
        raise ImageError(path, f"found voxels of {x:g} x {y:g} x {z:g} mm, expected {EXPECTED}")
    second = None if stored.second_affine is None else stored.second_affine @ back
    return Image(
        path=path,
        name=formats.strip_suffix(path),
        array=array,
        spacing_mm=(z, y, x),
        affine=affine @ back,
        turn=np.linalg.inv(back),
        header=stored.header,
        second_affine=second,
    )


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns a type in the machine's byte order, and no float that few others know."""
    return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")


def _tell_grids(found: Image, expected: Image) -> str:
    """Says in what two grids differ."""
    shape = " x ".join(map(str, found.file_shape))
    if found.array.shape == expected.array.shape:
        return f"found as many, {shape}, at another place or of another size"
    return f"found {shape}, expected {' x '.join(map(str, expected.file_shape))}"


def read_labels(
    path: str | os.PathLike[str], grid: Image, resample: bool = False
) -> npt.NDArray[np.int64]:
    """Reads a segmentation of an image.

    Args:
        path: the file. Its axes may run in other directions than the image's.
        grid: the image that it must lie on, voxel by voxel.
        resample: whether it may lie elsewhere: each voxel of the image then has the label of the
            nearest voxel of the segmentation, 0 outside of it.

    Returns:
        (z, y, x), whole numbers from 0 on, in the order of `grid.array`.

    Raises:
        GridError: it lies on other voxels, and `resample` is false.
        ImageError: as for `read_image`, and if the values are no labels, or resampling leaves none.
    """
    image = read_image(path)
    if not resample and not _same_grid(image, grid):
        raise GridError(
            image.path,
            f"lies on another grid of voxels than {grid.path.name}: {_tell_grids(image, grid)}",
        )
    finite = bool(np.isfinite(image.array).all())
    if not finite or image.array.min() < 0 or image.array.max() > np.iinfo(np.int32).max:
        raise ImageError(image.path, "found values that are no labels, expected 0, 1, 2, ...")
    labels = image.array.astype(np.int64)
    if not np.array_equal(labels, image.array):
        raise ImageError(image.path, "found fractions, expected whole numbers for labels")
    return labels if _same_grid(image, grid) else _resample(labels, image, grid)


def read_label_names(path: str | os.PathLike[str]) -> dict[int, str]:
    """Reads the names that a segmentation's file has for its labels; empty without any.

    Raises:
        ImageError: the file is missing, broken or of no known format.
    """
    path = Path(path)
    one = formats.reader_of(path)
    return one.read_names(path) if isinstance(one, NamedFormat) else {}


def write_image(
    path: str | os.PathLike[str],
    array: npt.NDArray[Any],
    like: Image | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    names: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Writes a volume in the format of the path's suffix, at once and whole, or not at all.

    Args:
        path: its suffix, in upper or lower case, is that of a format that can be written.
        array: (z, y, x) towards head, back and left; bool, integer or float.
        like: the image whose shape, axes and affine the file gets, and whose header if that is of
            the same format.
        spacing_mm: where there is none, the voxel's size (z, y, x). The first voxel then lies at
            the origin of the scanner's coordinates.
        names: of the labels in `array`. A warning in the log ("gamt") says so if the format has no
            place for them.

    Raises:
        ImageError: there is no such format, or the file can't be written.
        ValueError: `array` hasn't the shape of `like`.
    """
    path = Path(path)
    one = formats.writer_of(path)
    kept = one.NAMED_SUFFIXES if isinstance(one, NamedFormat) else ()
    if names and not path.name.lower().endswith(kept):
        logger.warning("%s: label names aren't written, .seg.nrrd keeps them", path.name)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:  # the formats have none
        array = array.astype(np.float32)
    z, y, x = spacing_mm
    stored = StoredImage(array.T, np.diag([-x, -y, z, 1.0]), (x, y, z))
    if like is not None:
        if array.shape != like.array.shape:
            raise ValueError(f"found shape {array.shape}, expected {like.array.shape}")
        back = ornt_transform(_UNTURNED, io_orientation(like.turn))
        turned = apply_orientation(array.T, back)
        stored = StoredImage(turned, like.file_affine, like.file_spacing_mm, like.header)
    try:
        with atomic_write_files(path) as partial:
            one.write(partial, stored, names)
    except OSError as error:
        raise ImageError(path, f"can't be written: {reason(error)}") from error


def _same_grid(image: Image, grid: Image) -> bool:
    """Whether two arrays have the same voxels; those of `grid` may lie at its second affine."""
    if image.array.shape != grid.array.shape:
        return False
    corners = _corners(grid.array.shape)
    return any(
        np.allclose(_apply(np.linalg.inv(affine) @ image.affine, corners), corners, 0, _SAME_VOXELS)
        for affine in (grid.affine, grid.second_affine)
        if affine is not None
    )


def _resample(labels: npt.NDArray[np.int64], image: Image, grid: Image) -> npt.NDArray[np.int64]:
    """Brings the labels of `image` to the voxels of `grid`, each from the nearest one."""
    # (x, y, z) from voxels of the grid to those of the image, turned to (z, y, x).
    matrix = np.linalg.inv(image.affine) @ grid.affine
    steps, first = matrix[:3, :3][::-1, ::-1], matrix[:3, 3][::-1]
    shape = grid.array.shape
    moved = affine_transform(labels, steps, first, shape, order=0, mode="grid-constant")
    if labels.any() and not moved.any():
        raise ImageError(image.path, f"none of its labels lies within {grid.path.name}")
    return moved


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

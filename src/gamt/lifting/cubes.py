"""What lies around a click, in cubes of growing size and ever larger blocks of voxels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import edt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Voxel = tuple[int, int, int]
Spacing = tuple[float, float, float]

REACH = 18
"""Blocks from the click to the faces of a cube that is looked at (docs/constants.md)."""

LARGEST = 1e15
"""Intensities are cut to this size, so that their squares and sums are finite
(docs/constants.md)."""

LEAST_NOISE = 0.002
"""Least deviation of the noise, as a share of the range of intensities in a cube
(docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Cube:
    """What lies around a click, in blocks of voxels.

    Attributes:
        image: (z, y, x) float32, the mean intensity of each block.
        click: the block (z, y, x) that holds the click.
        spacing_mm: of the blocks (z, y, x).
        step_mm: the finest of them.
        low: the first raw voxel (z, y, x).
        edges: on each axis, the first raw voxel of every block and the one past the last, counted
            from `low`.
        goes_on: on each axis, whether the scan goes on before and behind the cube.
    """

    image: Image
    click: Voxel
    spacing_mm: Spacing
    low: Voxel
    edges: tuple[npt.NDArray[np.intp], ...]
    goes_on: tuple[tuple[bool, bool], ...]

    @property
    def step_mm(self) -> float:
        """The finest spacing of the blocks."""
        return min(self.spacing_mm)

    @property
    def whole(self) -> bool:
        """Whether it holds all of the scan."""
        return not any(before or behind for before, behind in self.goes_on)

    def count_open(self, region: Mask) -> int:
        """Returns through how many faces of the cube a region (z, y, x) goes on."""
        sides = ((first, last) for first, last in self.goes_on)
        count = 0
        for axis, (before, behind) in enumerate(sides):
            count += int(np.take(region, 0, axis).sum()) if before else 0
            count += int(np.take(region, -1, axis).sum()) if behind else 0
        return count

    def cut(self, region: Mask) -> tuple[Voxel, Mask, tuple[npt.NDArray[np.intp], ...]]:
        """Cuts a region of blocks, which is not empty, to its bounds.

        Returns:
            The first raw voxel (z, y, x) of the first block, the blocks, and their edges, counted
            from that voxel.
        """
        bounds = bounding_range(region)
        if bounds is None:
            raise ValueError("found an empty region, expected one with a block at least")
        part = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
        z, y, x = (
            first + int(edges[one.start])
            for first, edges, one in zip(self.low, self.edges, part, strict=True)
        )
        edges = tuple(
            edges[one.start : one.stop + 1] - edges[one.start]
            for edges, one in zip(self.edges, part, strict=True)
        )
        return (z, y, x), region[part], edges


def to_raw(region: Mask, edges: Sequence[npt.NDArray[np.intp]]) -> Mask:
    """Returns a region of blocks (z, y, x) as raw voxels, counted from the first edges."""
    for axis, ends in enumerate(edges):
        lengths = np.diff(ends)
        if lengths.max() > 1:
            region = np.repeat(region, lengths, axis)
    return region


def look_around(
    image: npt.NDArray[Any], spacing_mm: Spacing, click: Voxel, step_mm: float, reach_mm: float
) -> Cube:
    """Cuts a cube around a click, and averages blocks of its voxels; the click is in the middle.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).
        step_mm: side of a block; on axes with a larger spacing, a block is a voxel.
        reach_mm: from the click to the faces of the cube.
    """
    part = image
    low, edges, goes_on = [], [], []
    for axis, (place, spacing, size) in enumerate(zip(click, spacing_mm, image.shape, strict=True)):
        block = max(1, round(step_mm / spacing))
        reach = int(np.ceil(reach_mm / (block * spacing)))
        first = place - block // 2
        begin, end = max(0, first - reach * block), min(size, first + (reach + 1) * block)
        inner = np.arange(first - (first - begin) // block * block, end, block)
        low.append(begin)
        edges.append(np.unique(np.concatenate([[begin], inner, [end]])) - begin)
        goes_on.append((begin > 0, end < size))
        part = part[(slice(None),) * axis + (slice(begin, end),)]
    blocks = mean_of_blocks(part, edges)
    z, y, x = (
        int(np.searchsorted(ends, place - first, side="right")) - 1
        for ends, place, first in zip(edges, click, low, strict=True)
    )
    dz, dy, dx = (max(1, round(step_mm / one)) * one for one in spacing_mm)
    return Cube(
        blocks, (z, y, x), (dz, dy, dx), (low[0], low[1], low[2]), tuple(edges), tuple(goes_on)
    )


def mean_of_blocks(image: npt.NDArray[Any], edges: Sequence[npt.NDArray[np.intp]]) -> Image:
    """Returns the mean intensity of each block of voxels, (z, y, x) float32.

    Args:
        image: (z, y, x), any numeric type.
        edges: on each axis, the first voxel of every block and the one past the last.
    """
    lengths = [np.diff(ends) for ends in edges]
    if lengths[0].max() == 1:
        total = to_finite(image)
    else:  # by layers of blocks, so that floats stay few
        layers = zip(edges[0][:-1], edges[0][1:], strict=True)
        total = np.stack([to_finite(image[a:b]).sum(axis=0) for a, b in layers])
    for axis in (1, 2):
        total = sum_blocks(total, edges[axis], axis)
    depths, rows, columns = (one.astype(np.float32) for one in lengths)
    return np.asarray(total / (depths[:, None, None] * rows[:, None] * columns), np.float32)


def sum_blocks(image: Image, edges: npt.NDArray[np.intp], axis: int) -> Image:
    """Adds up blocks along an axis; numpy's `add.reduceat` takes three times as long."""
    lengths = np.diff(edges)
    if lengths.max() == 1:
        return image
    along = np.moveaxis(image, axis, 0)
    total = along[edges[:-1]]
    for place in range(1, lengths.max()):
        longer = lengths > place
        total[longer] += along[edges[:-1][longer] + place]
    return np.moveaxis(total, 0, axis)


def to_finite(image: npt.NDArray[Any]) -> Image:
    """Returns intensities of any numeric type as finite float32 that can be added up; NaN is 0."""
    with np.errstate(over="ignore"):  # becomes infinite, and is cut
        values = image.astype(np.float32)
    if image.dtype.kind == "f":
        values[np.isnan(values)] = 0
    if image.dtype.kind == "f" or image.dtype.itemsize > 4:
        np.clip(values, -LARGEST, LARGEST, out=values)
    return values


def cubes(image: npt.NDArray[Any], spacing_mm: Spacing, click: Voxel) -> Iterator[Cube]:
    """Yields cubes of growing size around a click, until one holds all of a scan."""
    step_mm = min(spacing_mm)
    while True:
        cube = look_around(image, spacing_mm, click, step_mm, REACH * step_mm)
        yield cube
        if cube.whole:
            return
        step_mm *= 2


def noise_of(image: Image) -> float:
    """Returns the standard deviation of an image's noise, which is never taken to be none."""
    low, high = np.percentile(image, (5, 95))
    least = LEAST_NOISE * float(high - low)
    return max(difference_of(image) + least, float(np.finfo(np.float32).eps))


def is_noisy(image: Image) -> bool:
    """Says whether an image has more noise than is taken for granted."""
    low, high = np.percentile(image, (5, 95))
    return difference_of(image) > LEAST_NOISE * float(high - low)


def difference_of(image: Image) -> float:
    """Returns the standard deviation of an image's noise, from differences of neighbours."""
    steps = [np.abs(np.diff(image, axis=axis)).ravel() for axis in range(3)]
    # The median of the absolute difference of two normal variables is 0.954 deviations.
    return float(np.median(np.concatenate(steps))) / 0.954 if image.size > 1 else 0.0


def depths(region: Mask, spacing_mm: Spacing) -> Image:
    """Returns how far every voxel of a region is from its border, in mm; the image's is none."""
    padded = np.pad(region, 1, mode="edge").view(np.uint8)
    return np.asarray(edt.edt(padded, anisotropy=spacing_mm)[1:-1, 1:-1, 1:-1])


def fill_holes(region: Mask) -> Mask:
    """Fills what a region (z, y, x) encloses; scipy's function takes ten times as long."""
    outside = cc3d.connected_components(np.pad(~region, 1, constant_values=True), connectivity=6)
    return np.asarray((outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1])


def component(region: Mask, voxel: Voxel) -> Mask:
    """Returns the 6-connected component that holds a voxel of a region (z, y, x)."""
    labels = cc3d.connected_components(region, connectivity=6)
    return np.asarray(labels == labels[voxel])


def average(cube: Cube, sigma_mm: float) -> Image:
    """Returns a cube's intensities, averaged with a standard deviation; 0 for none."""
    if sigma_mm == 0:
        return cube.image
    sigma = [sigma_mm / spacing for spacing in cube.spacing_mm]
    return np.asarray(ndimage.gaussian_filter(cube.image, sigma, mode="nearest"))

"""From the raw volume to the grid on which slices are segmented, and back (paper, 2.1 and 2.3).

Two index spaces meet here, both in (z, y, x) order. *Raw* indices are those of the input array.
*Grid* indices are those of a crop of it, resampled to nearly cubic voxels. The first and the last
voxel centre of the crop keep their place, so that on every axis raw index ``i`` lies at grid
position ``(i - low) * (grid_size - 1) / (raw_size - 1)``: flipping the volume flips the grid.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.axes import bounding_range
from gamt.prompts import Box, ClassPrompts, Click, SliceBox

NEAR_BORDER = 0.05
"""A prompt this close to a crop's border, as a share of the crop's side, makes the crop grow
(docs/constants.md)."""

MOST_FINER, SMALL_GRID = 64, 2**18
"""A grid has at most so many voxels for each raw one, unless it is as small as this: what is
interpolated between slices of a thousand times the pixels' size shows nothing that is not known,
and takes minutes (docs/constants.md)."""

LAYERS_VOXELS = 2**18
"""Voxels that are interpolated at a time: no work for each of very small layers, and few floats."""

Range = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Half-open voxel bounds (low, high), each (z, y, x)."""


@dataclass(frozen=True)
class Grid:
    """A crop of the raw volume and the resampled grid laid over it.

    Attributes:
        low: first raw voxel (z, y, x) of the crop.
        high: raw voxel just past the crop, on every axis.
        shape: number of grid voxels (z, y, x).
    """

    low: tuple[int, int, int]
    high: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def raw_shape(self) -> tuple[int, int, int]:
        """Number of raw voxels (z, y, x) in the crop."""
        z, y, x = (high - low for low, high in zip(self.low, self.high, strict=True))
        return z, y, x

    @cached_property
    def scale(self) -> tuple[float, float, float]:
        """Grid steps per raw step on each axis."""
        z, y, x = (
            (grid - 1) / (raw - 1) if raw > 1 else 1.0
            for grid, raw in zip(self.shape, self.raw_shape, strict=True)
        )
        return z, y, x

    @cached_property
    def from_raw(self) -> tuple[npt.NDArray[np.intp], ...]:
        """Per axis, the nearest grid index of each raw index of the crop."""
        return tuple(
            _nearest(raw, grid) for raw, grid in zip(self.raw_shape, self.shape, strict=True)
        )

    @cached_property
    def to_raw(self) -> tuple[npt.NDArray[np.intp], ...]:
        """Per axis, the nearest raw index, counted from the crop's first, of each grid index."""
        return tuple(
            _nearest(grid, raw) for raw, grid in zip(self.raw_shape, self.shape, strict=True)
        )

    def voxel_to_grid(self, voxel: Sequence[int]) -> tuple[int, int, int]:
        """Returns the grid index (z, y, x) nearest to a raw voxel (z, y, x) inside the crop."""
        z, y, x = (int(self.from_raw[axis][voxel[axis] - self.low[axis]]) for axis in range(3))
        return z, y, x

    def voxels_to_grid(self, voxels: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Returns the grid indices nearest to those of some raw voxels that are inside the crop.

        Args:
            voxels: (N, 3) in the order (z, y, x).

        Returns:
            (M, 3) in the same order, M <= N.
        """
        inside = voxels[((voxels >= self.low) & (voxels < self.high)).all(axis=1)] - self.low
        return np.stack([near[inside[:, n]] for n, near in enumerate(self.from_raw)], axis=1)

    def range_to_grid(self, low: Sequence[int], high: Sequence[int]) -> Range:
        """Returns the half-open grid range that covers the raw voxels `low`..`high` (half-open).

        A raw voxel reaches half a raw step to both sides of its centre, so that the range may begin
        or end outside of the grid.
        """
        first, last = [], []
        for axis in range(3):
            start = (low[axis] - 0.5 - self.low[axis]) * self.scale[axis] + 0.5
            stop = (high[axis] - 0.5 - self.low[axis]) * self.scale[axis] + 0.5
            first.append(int(np.floor(start + 1e-6)))
            last.append(int(np.ceil(stop - 1e-6)))
        return (first[0], first[1], first[2]), (last[0], last[1], last[2])

    def holds(self, voxel: Sequence[int]) -> bool:
        """Says whether a raw voxel (z, y, x) lies inside the crop."""
        return all(a <= v < b for a, v, b in zip(self.low, voxel, self.high, strict=True))

    def crop(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the view of a raw volume (z, y, x) that lies inside the crop."""
        return volume[tuple(slice(a, b) for a, b in zip(self.low, self.high, strict=True))]

    def resample(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Brings the crop of an image, raw shape, onto the grid by linear interpolation."""
        # What shrinks comes first, so that nothing in between is larger than crop or grid.
        for axis in sorted(range(3), key=lambda axis: self.shape[axis] > self.raw_shape[axis]):
            image = _interpolate(image, axis, self.shape[axis])
        return image


def make_grid(
    crop: Range,
    spacing_mm: Sequence[float],
    voxel_mm: float | None = None,
    max_voxels: float = math.inf,
) -> Grid:
    """Lays a grid of nearly cubic voxels over a crop.

    Args:
        crop: raw bounds.
        spacing_mm: raw spacing (z, y, x) in millimetres.
        voxel_mm: side of a grid voxel; None takes the finest of the three spacings.
        max_voxels: the grid gets coarser, evenly on all axes, rather than larger than this, or
            than `MOST_FINER` allows; no limit by default.
    """
    low, high = crop
    size = [b - a for a, b in zip(low, high, strict=True)]
    side = min(spacing_mm) if voxel_mm is None else voxel_mm

    def shape(side: float) -> tuple[int, int, int]:
        z, y, x = (round((n - 1) * mm / side) + 1 for n, mm in zip(size, spacing_mm, strict=True))
        return z, y, x

    most = min(max_voxels, max(SMALL_GRID, MOST_FINER * math.prod(size)))
    while (excess := float(np.prod(shape(side), dtype=float)) / most) > 1:
        side *= max(1.01, excess ** (1 / 3))
    return Grid(low, high, shape(side))


def crop_range(
    prompts: ClassPrompts,
    previous: npt.NDArray[np.bool_] | None,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    side_mm: float,
    margin: float,
    body: Range | None = None,
) -> Range | None:
    """Finds the raw region around one class's prompts (paper, 2.1; docs/design.md, 4).

    The region is a cube of `side_mm` centred on the class's first prompt (`ClassPrompts.first`), or
    else on its previous mask, or else on its first scribble, click or region. A box on one slice
    stands for a target that is as long across the slice as the box's longer side. The cube grows
    where the first prompt with a margin would fall out, and where another prompt or the previous
    mask comes near its border: it stays as it is, and with it what was encoded, as long as later
    prompts lie well inside. It ends at the volume's borders.

    Args:
        prompts: of the class, in raw voxels.
        previous: (z, y, x) mask of the class in the previous prediction, or None.
        shape: of the raw volume (z, y, x).
        spacing_mm: raw spacing (z, y, x) in millimetres.
        side_mm: side of the cube.
        margin: free room on each side of the first prompt, as a share of its extent on that
            axis; and beyond what comes near the border, as a share of the extent of all prompts.
        body: raw bounds of what the first click or scribble stands in; None where that isn't known.

    Returns:
        The region's bounds; None for a class of which nothing is known.
    """
    known: list[tuple[npt.ArrayLike, npt.ArrayLike]] = []
    first = prompts.first
    if isinstance(first, Click):
        known.append((first.voxel, [v + 1 for v in first.voxel]))
    elif isinstance(first, SliceBox):
        known.append(assumed_range(first, spacing_mm))
    elif first is not None:
        known.append((first.low, first.high))
    if previous is not None and (inside := bounding_range(previous)) is not None:
        known.append(inside)
    known += [(one.low, one.high) for one in prompts.scribbles]
    if prompts.clicks:
        clicked = np.array([one.voxel for one in prompts.clicks])
        known += [(clicked[0], clicked[0] + 1), (clicked.min(axis=0), clicked.max(axis=0) + 1)]
    known += [(one.low, one.high) for one in prompts.regions]
    if body is not None:
        known.append(body)
    if not known:
        return None
    lows, highs = (np.array(bounds) for bounds in zip(*known, strict=True))
    low, high = [], []
    for axis in range(3):
        start, stop = lows[0][axis], highs[0][axis]
        room = max(side_mm / spacing_mm[axis] / 2, (0.5 + margin) * (stop - start))
        begin, end = (start + stop) / 2 - room, (start + stop) / 2 + room
        least, most = lows[:, axis].min(), highs[:, axis].max()
        near = NEAR_BORDER * 2 * room
        if least < begin + near:
            begin = min(begin, least - max(near, margin * (most - least)))
        if most > end - near:
            end = max(end, most + max(near, margin * (most - least)))
        low.append(max(0, int(np.floor(begin))))
        high.append(min(int(shape[axis]), int(np.ceil(end))))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def assumed_range(box: SliceBox, spacing_mm: Sequence[float]) -> Range:
    """Returns where a target may be: in the box, and as far to both sides as half its length."""
    sides_mm = [(b - a) * mm for a, b, mm in zip(box.low, box.high, spacing_mm, strict=True)]
    normal = box.plane.normal
    sides_mm[normal] = 0
    away = [0, 0, 0]
    away[normal] = int(max(sides_mm) / spacing_mm[normal] / 2)
    (z0, y0, x0), (z1, y1, x1) = np.subtract(box.low, away), np.add(box.high, away)
    return (int(z0), int(y0), int(x0)), (int(z1), int(y1), int(x1))


def merge_overlapping(ranges: Sequence[Range]) -> list[tuple[Range, list[int]]]:
    """Joins ranges that overlap, so that their classes can share one crop and its slices.

    Returns:
        (bounds, positions in `ranges`) of every group; the bounds of different groups are disjoint.
    """
    groups: list[tuple[Range, list[int]]] = []
    for position, one in enumerate(ranges):
        bounds, members = one, [position]
        while (hit := next((g for g in groups if _overlap(g[0], bounds)), None)) is not None:
            groups.remove(hit)
            bounds = _union((hit[0], bounds))
            members = sorted(members + hit[1])
        groups.append((bounds, members))
    return groups


def box_on_grid(box: Box, grid: Grid) -> Box:
    """Returns `box`, given in raw voxels, in grid voxels; its `z_mid` lies inside the crop."""
    low, high = grid.range_to_grid(box.low, box.high)
    middle = int(grid.from_raw[0][box.z_mid - grid.low[0]])
    return Box(low[0], high[0], middle, low[1], high[1], low[2], high[2])


def _overlap(a: Range, b: Range) -> bool:
    return all(a[0][i] < b[1][i] and b[0][i] < a[1][i] for i in range(3))


def _union(ranges: Iterable[Range]) -> Range:
    lows, highs = zip(*ranges, strict=True)
    low, high = np.min(lows, axis=0).tolist(), np.max(highs, axis=0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _positions(size: int, other: int) -> npt.NDArray[np.float64]:
    """Where `size` points lie among `other` points on the same line; a single one in the middle."""
    return np.linspace(0, other - 1, size) if size > 1 else np.array([(other - 1) / 2])


def _nearest(size: int, other: int) -> npt.NDArray[np.intp]:
    """Index, among `other` points, of the one nearest to each of `size` points on the same line."""
    return np.rint(_positions(size, other)).astype(np.intp)


def _interpolate(image: npt.NDArray[np.uint8], axis: int, size: int) -> npt.NDArray[np.uint8]:
    """Resamples one axis linearly; four times as fast as scipy.ndimage.zoom on a stack."""
    old = image.shape[axis]
    if old == size:
        return image
    position = _positions(size, old)
    left = np.minimum(position.astype(np.intp), max(0, old - 2))
    right = np.minimum(left + 1, old - 1)
    share = (position - left)[:, None, None]
    before, after = (1 - share).astype(np.float32), share.astype(np.float32)
    source = np.moveaxis(image, axis, 0)
    result = np.empty((size, *source.shape[1:]), np.uint8)
    step = max(1, LAYERS_VOXELS // math.prod(source.shape[1:]))
    for first in range(0, size, step):
        part = slice(first, first + step)
        mixed = source[left[part]] * before[part] + source[right[part]] * after[part]
        result[part] = np.rint(mixed)
    return np.moveaxis(result, 0, axis)

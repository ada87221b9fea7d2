"""What users draw on one slice: boxes that hold a target's section, lassos that are about it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range, slice_shape, slice_view
from gamt.lifting.bodies import Part
from gamt.prompts import Lasso, SliceBox

SLACK = 2
"""Voxels by which a lasso may miss the target's border: no hand is exact (docs/constants.md)."""

MISFIT = 0.05
"""What fits misses the sides of a box by this share of their length at most, or by a voxel, and a
lasso, beyond `SLACK`, by this share of its area (docs/constants.md)."""


def section_of(
    drawn: SliceBox, low: Sequence[int], shape: Sequence[int], slack: int = 0
) -> npt.NDArray[np.bool_]:
    """Returns the area drawn on a slice: all of a box, or what is inside of a lasso.

    Args:
        drawn: the box or lasso.
        low: the first voxel (z, y, x) of the part of the scan that is looked at.
        shape: of that part (z, y, x).
        slack: voxels by which a lasso's area is widened, or narrowed if below 0.

    Returns:
        (rows, columns) bool, over the part's slices of the same plane.
    """
    area = _area(drawn)
    place = [drawn.low[drawn.plane.row_axis], drawn.low[drawn.plane.column_axis]]
    if isinstance(drawn, Lasso):
        room = max(0, slack)
        area = np.pad(area, room)
        if slack > 0:
            area = ndimage.distance_transform_edt(~area) <= slack
        elif slack < 0:
            area = ndimage.distance_transform_edt(np.pad(area, 1))[1:-1, 1:-1] > -slack
        place = [first - room for first in place]
    axes = drawn.plane.row_axis, drawn.plane.column_axis
    whole = np.zeros([shape[axis] for axis in axes], np.bool_)
    here, there = [], []
    for axis, first, size in zip(axes, place, area.shape, strict=True):
        start = min(max(0, first - low[axis]), shape[axis])
        stop = max(start, min(shape[axis], first + size - low[axis]))
        here.append(slice(start, stop))
        there.append(slice(start + low[axis] - first, stop + low[axis] - first))
    whole[tuple(here)] = area[tuple(there)]
    return whole


def found_on(drawn: SliceBox, part: Part) -> npt.NDArray[np.bool_] | None:
    """Returns (rows, columns) bool, what a part of the scan has on the slice of a box or lasso.

    None where the part ends before the slice.
    """
    layer = drawn.index - part.low[drawn.plane.normal]
    if not 0 <= layer < part.mask.shape[drawn.plane.normal]:
        return None
    return slice_view(part.mask, drawn.plane, layer)


def holds_most_of(drawn: SliceBox, part: Part) -> bool:
    """Says whether what was found has most of the area that is drawn, on its slice."""
    found = found_on(drawn, part)
    if found is None:
        return False
    area = section_of(drawn, part.low, part.mask.shape)
    return bool(2 * np.count_nonzero(found & area) > size_of(drawn))


def hold(mask: npt.NDArray[np.bool_], low: Sequence[int], lasso: Lasso) -> npt.NDArray[np.bool_]:
    """Returns a mask that has, on a lasso's slice, the lasso's area, up to the slack of a hand.

    Args:
        mask: (z, y, x) bool.
        low: the first voxel (z, y, x) of the mask, which holds all of the lasso.
        lasso: what was drawn.
    """
    held = mask.copy()
    section = slice_view(held, lasso.plane, lasso.index - low[lasso.plane.normal])
    section &= section_of(lasso, low, mask.shape, SLACK)
    section |= section_of(lasso, low, mask.shape, -SLACK)
    return held


def size_of(drawn: SliceBox) -> int:
    """Returns the number of voxels that are drawn."""
    return int(np.count_nonzero(_area(drawn)))


def fits(drawn: SliceBox, part: Part) -> bool:
    """Says whether what was found has, on the slice that was drawn on, the section that is drawn.

    That is one which ends at the sides of the box, or at the outline of the lasso, up to the slack
    of a hand.
    """
    found = found_on(drawn, part)
    if found is None or not found.any():
        return False
    if isinstance(drawn, Lasso):
        outer, inner = (section_of(drawn, part.low, part.mask.shape, by) for by in (SLACK, -SLACK))
        whole = section_of(drawn, drawn.low, np.subtract(drawn.high, drawn.low).tolist(), -SLACK)
        missed = np.count_nonzero(whole) - np.count_nonzero(inner & found)
        beside = np.count_nonzero(found & ~outer)
        return bool(missed + beside <= MISFIT * size_of(drawn))
    return all(
        missed <= max(1, MISFIT * (drawn.high[axis] - drawn.low[axis]))
        for axis, missed in _sides_missed(drawn, part.low, found)
    )


def misfit(drawn: SliceBox, part: Part) -> float:
    """Returns by how much what was found has another section than the one drawn, 0 for none.

    For a lasso these are voxels of area, for a box voxels by which its four sides are missed, in
    all; infinite where nothing was found on the slice.
    """
    found = found_on(drawn, part)
    if found is None or not found.any():
        return math.inf
    if isinstance(drawn, Lasso):
        area = section_of(drawn, part.low, part.mask.shape)
        both = np.count_nonzero(found & area)
        return float(size_of(drawn) + np.count_nonzero(found) - 2 * both)
    return float(sum(missed for _, missed in _sides_missed(drawn, part.low, found)))


def _sides_missed(
    box: SliceBox, low: Sequence[int], found: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yields each side of a box as its axis, and the voxels by which what was found misses it.

    Args:
        box: in raw voxels.
        low: the first voxel (z, y, x) of the part of the scan that is looked at.
        found: (rows, columns) bool of that part's slice; not empty.
    """
    first, last = bounding_range(found) or ([0, 0], [0, 0])
    for n, axis in enumerate((box.plane.row_axis, box.plane.column_axis)):
        yield axis, abs(low[axis] + first[n] - box.low[axis])
        yield axis, abs(low[axis] + last[n] - box.high[axis])


def _area(drawn: SliceBox) -> npt.NDArray[np.bool_]:
    """Returns (rows, columns) bool, the area that is drawn, within its bounds."""
    if isinstance(drawn, Lasso):
        return drawn.mask
    return np.ones(slice_shape(np.subtract(drawn.high, drawn.low).tolist(), drawn.plane), np.bool_)

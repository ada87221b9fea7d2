"""Where a given segmentation differs from what the user drew on one slice of it.

A box or lasso that has most of a section that is there already says nothing new but at the edge:
what is drawn and missing is to be added there, and what is in one piece with the section but beside
it to be taken away. What fits as well as a hand draws is no difference.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range, slice_view
from gamt.lifting.postprocess import label_components
from gamt.lifting.sections import MISFIT, SLACK, section_of
from gamt.prompts import Box, Lasso, Region, SliceBox

Mask = npt.NDArray[np.bool_]

Bounds = tuple[list[int], list[int]]


def agrees(drawn: Box | SliceBox, given: Mask) -> bool:
    """Says whether a segmentation (z, y, x) has, where something was drawn, just what was drawn.

    A box on one slice holds the bounds of the section there, and a 3-D box those of the section on
    its middle slice and of its slices.
    """
    if isinstance(drawn, Lasso):
        return differences(drawn, given, section_of(drawn, (0, 0, 0), given.shape)) == ()
    if isinstance(drawn, SliceBox):
        bounds = bounding_range(section_in(given, drawn))
        return bounds is not None and is_near(bounds, bounds_of(drawn))
    if not agrees(drawn.section, given):
        return False
    pieces = label_components(given)
    own = np.unique(pieces[drawn.z_mid][section_in(given, drawn.section)])
    slices = np.flatnonzero(np.isin(pieces, own).any(axis=(1, 2)))
    found = [int(slices[0])], [int(slices[-1]) + 1]
    return is_near(found, ([drawn.z_min], [drawn.z_max]))


def differences(drawn: SliceBox, given: Mask, seen: Mask) -> tuple[Region, ...] | None:
    """Finds what is to be corrected of a segmentation where it has most of a section already.

    Args:
        drawn: the box or lasso.
        given: (z, y, x) bool, the segmentation.
        seen: (rows, columns) bool of the slice drawn on, the target's section: a lasso's area, or
            what a segmenter sees in a box.

    Returns:
        What is missing and what is too much, as regions of one slice; none where it is neither, by
        more than the slack of a hand. None where most of the section is not there at all: then it
        is another part of the target.
    """
    here = slice_view(given, drawn.plane, drawn.index)
    if 2 * np.count_nonzero(seen & here) <= np.count_nonzero(seen):
        return None
    section, area = section_in(given, drawn), section_of(drawn, (0, 0, 0), given.shape)
    missing, beside = seen & area & ~here, section & ~area
    if isinstance(drawn, Lasso):
        sure = missing & section_of(drawn, (0, 0, 0), given.shape, -SLACK)
        leak = beside & ~section_of(drawn, (0, 0, 0), given.shape, SLACK)
        reach = float(SLACK + 1)
    else:
        outer = within(widened(bounds_of(drawn)), here.shape)
        leak = beside & ~outer
        sure = missing.copy()
        bounds = bounding_range(section & area)
        if bounds is not None:
            sure &= ~within(nearly(bounds, bounds_of(drawn)), here.shape)
        reach = 1.0 + max(slack_of(*bounds_of(drawn)))
    found = (
        (around(sure, missing, reach), True),
        (around(leak, beside, reach), False),
    )
    return tuple(on_slice(drawn, one, positive) for one, positive in found if one.any())


def section_in(given: Mask, drawn: SliceBox) -> Mask:
    """Returns (rows, columns) bool, the pieces of a segmentation's slice that were drawn around.

    They have most of their area in what was drawn; or, of all pieces, the most of what was drawn.
    """
    here = slice_view(given, drawn.plane, drawn.index)
    pieces, _ = ndimage.label(here, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    inside = np.bincount(pieces[section_of(drawn, (0, 0, 0), given.shape)], minlength=len(sizes))
    own = 2 * inside > sizes
    inside[0] = 0
    own[np.argmax(inside)] = True
    own[0] = False
    section: Mask = own[pieces]
    return section


def around(core: Mask, area: Mask, reach: float) -> Mask:
    """Returns what of an area (rows, columns) is within some voxels of its core."""
    if not core.any():
        return core
    near: Mask = area & (ndimage.distance_transform_edt(~core) <= reach)
    return near


def on_slice(drawn: SliceBox, area: Mask, positive: bool) -> Region:
    """Returns an area (rows, columns), not empty, of the slice that was drawn on as a region."""
    low, high = bounding_range(area) or ([0, 0], [0, 0])
    z, y, x = np.insert(low, drawn.plane.normal, drawn.index).tolist()
    tight = area[low[0] : high[0], low[1] : high[1]]
    return Region((z, y, x), np.expand_dims(tight, drawn.plane.normal), positive)


def bounds_of(drawn: SliceBox) -> Bounds:
    """Returns a box's half-open bounds in its slice, ([row, column], [row, column])."""
    axes = drawn.plane.row_axis, drawn.plane.column_axis
    return [drawn.low[axis] for axis in axes], [drawn.high[axis] for axis in axes]


def slack_of(low: Sequence[int], high: Sequence[int]) -> list[float]:
    """Returns by how many voxels bounds may be missed, axis by axis."""
    return [max(1.0, MISFIT * (b - a)) for a, b in zip(low, high, strict=True)]


def is_near(found: Bounds, wanted: Bounds) -> bool:
    """Says whether half-open bounds are the wanted ones, up to the slack of a hand."""
    slack = slack_of(*wanted)
    return all(
        abs(a - b) <= most
        for one, other in zip(found, wanted, strict=True)
        for a, b, most in zip(one, other, slack, strict=True)
    )


def widened(bounds: Bounds) -> Bounds:
    """Returns bounds that are wider by their slack on all sides."""
    slack = [int(most) for most in slack_of(*bounds)]
    low = [max(0, a - most) for a, most in zip(bounds[0], slack, strict=True)]
    return low, [b + most for b, most in zip(bounds[1], slack, strict=True)]


def nearly(found: Bounds, wanted: Bounds) -> Bounds:
    """Returns the bounds found, moved to the wanted ones on the sides on which they are near."""
    slack = slack_of(*wanted)
    low, high = (
        [b if abs(a - b) <= most else a for a, b, most in zip(one, other, slack, strict=True)]
        for one, other in zip(found, wanted, strict=True)
    )
    return low, high


def within(bounds: Bounds, shape: tuple[int, ...]) -> Mask:
    """Returns (rows, columns) bool, what is inside of half-open bounds."""
    inside = np.zeros(shape, np.bool_)
    inside[tuple(slice(a, b) for a, b in zip(*bounds, strict=True))] = True
    return inside

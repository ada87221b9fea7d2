"""The ellipsoid inscribed in a box: a prior for what images don't show."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gamt.prompts import Box

ZERO_RADIUS, STEEPNESS, MIN_LOG_ODDS, MAX_LOG_ODDS = 0.9, 10.0, -3.0, 1.4
"""log-odds = clip(STEEPNESS * (ZERO_RADIUS - r), MIN_LOG_ODDS, MAX_LOG_ODDS), where r is the
distance from the centre in half-axes. What labelled scans show is lower far outside; a higher floor
leaves room for targets that bend away (docs/constants.md)."""

WHOLE = 1.0
"""`ZERO_RADIUS` of the whole ellipsoid. That of a smaller class is left to it, whose own prior is
for it only within `ZERO_RADIUS`; between the two the images decide (docs/constants.md)."""

OUTSIDE = 6.0
"""Log-odds against slices outside of a box's range, which is exact: more than any shape has
(docs/constants.md)."""


def reach(box: Box, zero_radius: float = ZERO_RADIUS) -> tuple[list[int], list[int]]:
    """Returns the half-open bounds (z, y, x) outside of which log-odds are `MIN_LOG_ODDS`."""
    farthest = zero_radius - MIN_LOG_ODDS / STEEPNESS
    low, high = [], []
    for first, last in zip(box.low, box.high, strict=True):
        centre, half = (first + last - 1) / 2, (last - first) / 2
        low.append(math.floor(centre - farthest * half))
        high.append(math.ceil(centre + farthest * half) + 1)
    return low, high


BEYOND = 0.5
"""Share of its width by which a target that the scan's border cuts off is taken to go on beyond
(docs/constants.md)."""


def complete_box(box: Box, slices: int, spacing_mm: Sequence[float]) -> Box:
    """Returns the box that a target may have had, if the scan had not cut it off on both sides.

    A target that goes through all slices of the scan hardly tapers at its ends.

    Args:
        box: a user's, in voxels.
        slices: of the scan.
        spacing_mm: of the voxels (z, y, x).
    """
    if box.z_min > 0 or box.z_max < slices:
        return box
    height, width = (
        (box.high[axis] - box.low[axis]) * spacing_mm[axis] / spacing_mm[0] for axis in (1, 2)
    )
    more = round(BEYOND * math.sqrt(height * width))
    return replace(box, z_min=box.z_min - more, z_max=box.z_max + more)


def ellipsoid_logits(
    box: Box, low: Sequence[int], shape: Sequence[int], zero_radius: float = ZERO_RADIUS
) -> npt.NDArray[np.float32]:
    """Returns the log-odds of being inside, judged by the box's inscribed ellipsoid alone.

    They are positive up to `zero_radius`, which is not the whole ellipsoid: a box is drawn with a
    margin, and few targets are convex.

    Args:
        box: in voxels.
        low: first voxel (z, y, x) of the result, in the same voxels.
        shape: of the result (z, y, x).
        zero_radius: distance from the centre at which they change their sign, in half-axes.

    Returns:
        (z, y, x) log-odds, `MIN_LOG_ODDS`..`MAX_LOG_ODDS`.
    """
    logits = np.full(shape, MIN_LOG_ODDS, np.float32)
    squared = np.zeros((1, 1, 1), np.float32)
    near = []
    for axis, bounds in enumerate(zip(*reach(box, zero_radius), strict=True)):
        first, last = np.clip(np.subtract(bounds, low[axis]), 0, shape[axis]).tolist()
        near.append(slice(first, last))
        half = (box.high[axis] - box.low[axis]) / 2
        centre = (box.high[axis] + box.low[axis] - 1) / 2
        away = (np.arange(low[axis] + first, low[axis] + last) - centre) / half
        along = [1, 1, 1]
        along[axis] = -1
        squared = squared + np.square(away).astype(np.float32).reshape(along)
    inside = STEEPNESS * (zero_radius - np.sqrt(squared))
    logits[tuple(near)] = inside.clip(MIN_LOG_ODDS, MAX_LOG_ODDS)
    return logits


def prior_logits(
    box: Box,
    rivals: Sequence[Box],
    low: Sequence[int],
    shape: Sequence[int],
    exact_range: bool = True,
    zero_radius: float = ZERO_RADIUS,
) -> npt.NDArray[np.float32]:
    """Returns the log-odds of being inside, judged by the boxes of all classes.

    A voxel in a smaller class's ellipsoid belongs to that class rather than to this one. A user's
    box has an exact range of slices, so that nothing beyond it is inside (docs/challenge.md, 2).

    Args:
        box: of this class, in voxels.
        rivals: boxes of the smaller classes.
        low: first voxel (z, y, x) of the result.
        shape: of the result (z, y, x).
        exact_range: whether the box is a user's.
        zero_radius: see `ellipsoid_logits`; of this class.

    Returns:
        (z, y, x) log-odds, `-OUTSIDE`..`MAX_LOG_ODDS`.
    """
    logits = ellipsoid_logits(box, low, shape, zero_radius)
    for rival in rivals:
        logits = np.minimum(logits, -ellipsoid_logits(rival, low, shape, WHOLE))
    if exact_range:
        z = np.arange(low[0], low[0] + shape[0])
        logits[(z < box.z_min) | (z >= box.z_max)] = -OUTSIDE
    return logits

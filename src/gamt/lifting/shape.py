"""The shape that a box draws by itself: its inscribed ellipsoid, a prior for what images hide."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamt.prompts import Box

EDGE, STEEPNESS, MOST, LEAST = 0.9, 10.0, 1.4, -3.0
"""The log-odds are `STEEPNESS` times how far, in half-axes, a voxel lies within `EDGE`, cut off at
`MOST` and `LEAST`. On scans they run from 1.4 in the middle over 0 at 0.88 half-axes, where the
slope is 10, to -4.7 far outside; a higher floor leaves room for targets that bend away (measured).
"""

RIVAL_EDGE = 1.0
"""The whole of a smaller class's ellipsoid is left to that class, though its own prior is for it
only within `EDGE`: between them the images decide."""

OUTSIDE = 6.0
"""Log-odds against slices outside of a box's range, which is exact: more than any shape has."""


def ellipsoid_logits(
    box: Box, low: Sequence[int], shape: Sequence[int], edge: float = EDGE
) -> npt.NDArray[np.float32]:
    """Returns the log-odds of being inside, judged by the box's inscribed ellipsoid alone.

    They depend on the distance from the centre, measured in half-axes, and are positive up to
    `edge`: a box is drawn with a margin, and few targets are convex.

    Args:
        box: in voxels.
        low: first voxel (z, y, x) of the result, in the same voxels.
        shape: of the result (z, y, x).
        edge: distance at which they change their sign.
    """
    squared = np.zeros((1, 1, 1), np.float32)
    for axis in range(3):
        half = (box.high[axis] - box.low[axis]) / 2
        centre = (box.high[axis] + box.low[axis] - 1) / 2
        away = (np.arange(low[axis], low[axis] + shape[axis]) - centre) / half
        along = [1, 1, 1]
        along[axis] = -1
        squared = squared + np.square(away).astype(np.float32).reshape(along)
    logits = STEEPNESS * (edge - np.sqrt(squared))
    return np.asarray(logits.clip(LEAST, MOST), np.float32)


def prior_logits(
    box: Box,
    rivals: Sequence[Box],
    low: Sequence[int],
    shape: Sequence[int],
    exact_range: bool = True,
) -> npt.NDArray[np.float32]:
    """Returns the log-odds of being inside, judged by the boxes of all classes.

    A voxel in a smaller class's ellipsoid is that class's rather than this one's, and no voxel
    outside of a user's box's range of slices is inside: it is exact (docs/challenge.md, 2).

    Args:
        box: of this class, in voxels.
        rivals: boxes of the smaller classes.
        low: first voxel (z, y, x) of the result.
        shape: of the result (z, y, x).
        exact_range: whether the box is a user's.
    """
    logits = ellipsoid_logits(box, low, shape)
    for rival in rivals:
        logits = np.minimum(logits, -ellipsoid_logits(rival, low, shape, RIVAL_EDGE))
    if exact_range:
        z = np.arange(low[0], low[0] + shape[0])
        logits[(z < box.z_min) | (z >= box.z_max)] = -OUTSIDE
    return logits

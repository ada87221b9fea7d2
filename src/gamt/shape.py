"""The shape that a box draws by itself: its inscribed ellipsoid, a prior for what images hide."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamt.prompts import Box

STEEPNESS = 6.0
"""Log-odds gained on the way from the ellipsoid's surface to its centre (measured)."""

LIMIT = 3.0
"""The shape alone is never surer than these log-odds, on either side (measured)."""

OUTSIDE = 6.0
"""Log-odds against slices outside of a box's range, which is exact: more than any shape has."""


def ellipsoid_logits(box: Box, low: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Returns the log-odds of being inside, judged by the box's inscribed ellipsoid alone.

    They fall linearly with the distance from the centre, measured in half-axes, are zero on the
    ellipsoid's surface, and are cut off at +-`LIMIT`.

    Args:
        box: in voxels.
        low: first voxel (z, y, x) of the result, in the same voxels.
        shape: of the result (z, y, x).
    """
    squared = np.zeros((1, 1, 1), np.float32)
    for axis in range(3):
        half = (box.high[axis] - box.low[axis]) / 2
        centre = (box.high[axis] + box.low[axis] - 1) / 2
        away = (np.arange(low[axis], low[axis] + shape[axis]) - centre) / half
        along = [1, 1, 1]
        along[axis] = -1
        squared = squared + np.square(away).astype(np.float32).reshape(along)
    return np.asarray((STEEPNESS * (1 - np.sqrt(squared))).clip(-LIMIT, LIMIT), np.float32)


def prior_logits(
    box: Box, rivals: Sequence[Box], low: Sequence[int], shape: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Returns the log-odds of being inside, judged by the boxes of all classes.

    A voxel in a smaller class's ellipsoid is that class's rather than this one's, and no voxel
    outside of the box's range of slices is inside: the range is exact (contract, section 2).

    Args:
        box: of this class, in voxels.
        rivals: boxes of the smaller classes.
        low: first voxel (z, y, x) of the result.
        shape: of the result (z, y, x).
    """
    logits = ellipsoid_logits(box, low, shape)
    for rival in rivals:
        logits = np.minimum(logits, -ellipsoid_logits(rival, low, shape))
    z = np.arange(low[0], low[0] + shape[0])
    logits[(z < box.z_min) | (z >= box.z_max)] = -OUTSIDE
    return logits

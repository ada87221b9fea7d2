"""The shape that a box draws by itself: its inscribed ellipsoid, a prior for what images hide."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamt.prompts import Box

STEEPNESS = 6.0
"""Log-odds gained on the way from the ellipsoid's surface to its centre (measured)."""


def ellipsoid_logits(
    box: Box, low: Sequence[int], shape: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Returns the log-odds of being inside, judged by the box's inscribed ellipsoid alone.

    They fall linearly with the distance from the centre, measured in half-axes, and are zero on
    the ellipsoid's surface.

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
    return np.asarray(STEEPNESS * (1 - np.sqrt(squared)), np.float32)

"""How far one click may change a mask, whatever segmenter and intensities say.

A correction is one piece that holds its click. It leaves alone what other clicks mark and what the
user's box promises (`forbid`), and is no larger than a click can tell (`most_changed`, `piece_at`).
"""

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, slice_view
from gamt.lifting.postprocess import component_at
from gamt.lifting.sections import SLACK, section_of
from gamt.lifting.target import Target
from gamt.prompts import Box, Click, SliceBox

MOST_REMOVED = 0.5
"""Share of a mask that a click removes at most (docs/constants.md)."""

RAISE = 0.2
"""Steps in which log-odds are raised while a correction is too large (docs/constants.md)."""


def most_changed(mask: npt.NDArray[np.bool_], click: Click, ball: float) -> float:
    """Returns how many voxels a click may change: it may halve a mask, or double it.

    A positive click far from a small mask may add as much as the ball has that reaches to it.

    Args:
        mask: (z, y, x) bool, what is to be corrected.
        click: on the wrong side of the mask.
        ball: volume of the ball around the click that reaches to the mask's surface, in voxels.
    """
    inside = float(np.count_nonzero(mask))
    if not click.positive:
        return MOST_REMOVED * inside
    # No ball reaches to an empty mask.
    return max(inside, ball) if inside else 1.0


def forbid(target: Target, click: Click, low: list[int], odds: npt.NDArray[np.float32]) -> None:
    """Rules out voxels that a correction must leave alone.

    These are the voxels of clicks for the other side and, for a positive click, those where the
    user's box says that there is no target: slices beyond its range, and what is beside it on the
    slice that it was drawn on. A click that lies there itself takes that promise back.

    Args:
        target: the class.
        click: in raw voxels.
        low: the first raw voxel (z, y, x) of `odds`.
        odds: (z, y, x) log-odds of being wrong; become -inf in these voxels.
    """
    for one in target.opposite_clicks(click):
        voxel = np.subtract(one.voxel, low)
        if (voxel >= 0).all() and (voxel < odds.shape).all():
            odds[tuple(voxel)] = -np.inf
    if not click.positive:
        return
    box, drawn = target.prompts.box, target.prompts.slice_box
    if box is not None:
        drawn = middle_slice(box)
        if box.z_min <= click.z < box.z_max:
            odds[: max(0, box.z_min - low[0])] = -np.inf
            odds[max(0, box.z_max - low[0]) :] = -np.inf
    if drawn is None or lies_beside(click, drawn):
        return
    normal = drawn.plane.normal
    layer = drawn.index - low[normal]
    if 0 <= layer < odds.shape[normal]:
        here = slice_view(odds, drawn.plane, layer)
        here[~section_of(drawn, low, odds.shape, SLACK)] = -np.inf


def middle_slice(box: Box) -> SliceBox:
    """Returns the part of a box that was drawn by hand: on its middle slice."""
    low, high = (box.z_mid, box.y_min, box.x_min), (box.z_mid + 1, box.y_max, box.x_max)
    return SliceBox(Plane.AXIAL, low, high)


def lies_beside(click: Click, drawn: SliceBox) -> bool:
    """Says whether a click lies on the slice of a box or lasso, but not in it."""
    if click.voxel[drawn.plane.normal] != drawn.index:
        return False
    return not section_of(drawn, click.voxel, (1, 1, 1), SLACK).any()


def piece_at(
    odds: npt.NDArray[np.float32], seed: tuple[int, int, int], most: float
) -> npt.NDArray[np.bool_]:
    """Returns the piece of likely voxels that holds a seed, and no more of them than allowed.

    Where it is too large, more is asked of its voxels, until what is left is small enough.

    Args:
        odds: (z, y, x) log-odds.
        seed: (z, y, x); part of the piece whatever its odds.
        most: number of voxels; the seed alone is never too many.

    Returns:
        (z, y, x) bool.
    """
    least = 0.0
    likely = odds > least
    likely[seed] = True
    piece = component_at(likely, seed)
    while np.count_nonzero(piece) > max(1, most):
        least += RAISE
        piece &= odds > least
        piece[seed] = True
        piece = component_at(piece, seed)
    return piece

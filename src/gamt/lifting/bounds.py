"""How far one correction may change a mask, whatever segmenter and intensities say.

A correction is one piece that holds its click, scribble or area. It leaves alone what other prompts
mark and what the user's box promises (`forbid`), and is no larger than a click can tell
(`most_changed`, `piece_at`). A body that lies apart may go as a whole (`clicked_body`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from edt import edt

from gamt.axes import bounding_range, slice_view
from gamt.lifting.bodies import Part
from gamt.lifting.postprocess import component_at, label_components
from gamt.lifting.sections import SLACK, section_of
from gamt.lifting.target import Target
from gamt.prompts import ClassPrompts, Click, SliceBox

MOST_REMOVED = 0.5
"""Share of a mask that a click removes at most (docs/constants.md)."""

RAISE = 0.2
"""Steps in which log-odds are raised while a correction is too large (docs/constants.md)."""

AS_LARGE = 0.8
"""Share of a body's voxels that another one has at least, so that the first may go as a whole
(docs/constants.md)."""

DEEP = MOST_REMOVED ** (1 / 3)
"""Depth of a click in a body that goes as a whole, as a share of the deepest place's
(docs/constants.md)."""


def most_changed(mask: npt.NDArray[np.bool_], click: Click, ball: float) -> float:
    """Returns how many voxels a click may change: it may halve a mask, or double it.

    A positive click far from a small mask may add as much as the ball has that reaches to it.

    Args:
        mask: (z, y, x) bool, what is to be corrected; for a negative click on a body that a prompt
            says is the target, that body alone.
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

    These are the voxels of clicks, scribbles and regions for the other side and, for a positive
    click, those where the user's box says that there is no target: slices beyond its range, and
    what is beside it on the slice that it was drawn on. A click that lies in such a region, or
    where a box promises something else, takes that back.

    Args:
        target: the class.
        click: in raw voxels; of a scribble or an area, its deepest voxel.
        low: the first raw voxel (z, y, x) of `odds`.
        odds: (z, y, x) log-odds of being wrong; become -inf in these voxels.
    """
    rule_out(odds, target.opposite_clicks(click.positive), low)
    for scribble in target.opposite_scribbles(click.positive):
        rule_out(odds, scribble.voxels, low)
    z, y, x = (first + size for first, size in zip(low, odds.shape, strict=True))
    for region in target.prompts.regions:
        marked = Part(region.low, region.mask)
        if region.positive != click.positive and not marked.holds(click.voxel):
            odds[marked.within(((low[0], low[1], low[2]), (z, y, x)))] = -np.inf
    if not click.positive:
        return
    box, drawn = target.prompts.box, target.prompts.slice_box
    if box is not None:
        drawn = box.section
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


def rule_out(
    odds: npt.NDArray[np.float32], voxels: npt.NDArray[np.intp], low: Sequence[int]
) -> None:
    """Sets log-odds to -inf at voxels, (N, 3), as far as they are inside; `low` is the first."""
    places = voxels - np.asarray(low)
    inside = ((places >= 0) & (places < odds.shape)).all(axis=1)
    odds[tuple(places[inside].T)] = -np.inf


def lies_beside(click: Click, drawn: SliceBox) -> bool:
    """Says whether a click lies on the slice of a box or lasso, but not in it."""
    if click.voxel[drawn.plane.normal] != drawn.index:
        return False
    return not section_of(drawn, click.voxel, (1, 1, 1), SLACK).any()


def piece_at(
    odds: npt.NDArray[np.float32], marked: npt.NDArray[np.intp], most: float
) -> npt.NDArray[np.bool_]:
    """Returns the piece of likely voxels that holds marked ones, and no more of them than allowed.

    Where it is too large, more is asked of its voxels, until what is left is small enough.

    Args:
        odds: (z, y, x) log-odds.
        marked: (N, 3) voxels (z, y, x) that hang together; part of the piece whatever their odds.
        most: number of voxels; the marked ones alone are never too many.

    Returns:
        (z, y, x) bool.
    """
    least = 0.0
    sure = tuple(marked.T)
    z, y, x = marked[0].tolist()
    likely = odds > least
    likely[sure] = True
    piece = component_at(likely, (z, y, x))
    while np.count_nonzero(piece) > max(len(marked), most):
        least += RAISE
        piece &= odds > least
        piece[sure] = True
        piece = component_at(piece, (z, y, x))
    return piece


@dataclass(frozen=True, slots=True, eq=False)
class ClickedBody:
    """The body of a mask that a negative click lies on.

    Attributes:
        part: of the mask, where the mask's voxels are.
        mask: (z, y, x) bool over that part, the body.
        is_meant: whether a prompt says that it is the target: some of it was marked as inside, or
            it holds most of what the mask has in a box or lasso.
        goes_whole: whether the click takes all of it away.
    """

    part: tuple[slice, ...]
    mask: npt.NDArray[np.bool_]
    is_meant: bool
    goes_whole: bool


def clicked_body(
    target: Target, mask: npt.NDArray[np.bool_], voxel: tuple[int, int, int]
) -> ClickedBody:
    """Finds the body that a negative click lies on, and whether the click takes it away.

    It does if no prompt says that it is the target, if another body that is about as large stays,
    for no click takes the main one, and if the click lies about as deep in it as possible: anywhere
    else it may be on an error that is attached to the body.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region, True at the voxel.
        voxel: (z, y, x), counted from the region's first.
    """
    low, high = bounding_range(mask) or ([0, 0, 0], list(mask.shape))
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    components = label_components(mask[part])
    here = tuple(np.subtract(voxel, low))
    own = int(components[here])
    body = components == own
    is_meant = says_inside(target.prompts, components, own, np.add(target.region[0], low))
    goes_whole = False
    if not is_meant:
        sizes = np.bincount(components.ravel())
        size = sizes[own]
        sizes[[0, own]] = 0
        if sizes.max() >= AS_LARGE * size:
            depth = edt(body.view(np.uint8), anisotropy=target.scale, black_border=True)
            goes_whole = bool(depth[here] >= DEEP * depth.max())
    return ClickedBody(part, body, is_meant, goes_whole)


def says_inside(
    prompts: ClassPrompts, components: npt.NDArray[Any], own: int, first: npt.NDArray[np.intp]
) -> bool:
    """Says whether prompts mark a component as inside, or a box or lasso is mostly about it.

    Args:
        prompts: in raw voxels.
        components: (z, y, x), 0 outside of the mask.
        own: the component's number.
        first: the raw voxel (z, y, x) of the components' first.
    """
    marked = prompts.voxels_inside - first
    inside = ((marked >= 0) & (marked < components.shape)).all(axis=1)
    if (components[tuple(marked[inside].T)] == own).any():
        return True
    for drawn in prompts.drawn:
        begin, end = (np.maximum(0, bound - first).tolist() for bound in (drawn.low, drawn.high))
        within = components[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))]
        if 2 * np.count_nonzero(within == own) > np.count_nonzero(within):
            return True
    return False

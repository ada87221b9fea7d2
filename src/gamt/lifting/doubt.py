"""Doubting a segmenter's answer to a user's box, and what a target is taken for instead.

`gamt.lifting.hypotheses` says in two dimensions whether the box contradicts the answer. What
replaces it is the walk's first mask, and votes beside the walks in the slices around.
"""

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, box_to_slice, slice_view
from gamt.lifting.hypotheses import MARGIN, Hypothesis, contradict, follow, misses
from gamt.lifting.shape import WHOLE, prior_logits
from gamt.lifting.target import Target
from gamt.prompts import Box, PixelBox, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.volume.geometry import box_on_grid

LOG_ODDS = np.float32(4)
"""How sure a body of like intensity is of its pixels (docs/constants.md)."""


def doubt(
    target: Target, box: Box, anchor: int, indices: npt.NDArray[np.intp], answer: SliceMask
) -> SliceMask:
    """Replaces a first answer that the user's box contradicts, and lets what replaces it vote.

    A segmenter whose answer misses the box itself is not asked about this target any more.

    Args:
        target: the class.
        box: the user's, in raw voxels.
        anchor: the slice that it was drawn on, a grid index.
        indices: the slices of its range, grid indices.
        answer: of the segmenter, to the box alone or with clicks.

    Returns:
        The answer, or what is taken for it.
    """
    grid, image = target.scan.grid, target.scan.image
    low, high = np.clip(grid.range_to_grid(box.low, box.high), 0, grid.shape).tolist()
    x0, y0, x1, y1 = (int(side) for side in box_to_slice(Plane.AXIAL, low, high))
    sides = zip(target.slice_shape, grid.scale[1:], strict=True)
    rows, columns = (MARGIN * side * step for side, step in sides)
    found = contradict(
        slice_view(image, Plane.AXIAL, anchor),
        (x0, y0, x1, y1),
        (rows, columns),
        answer.mask,
        target.scan.segmenter.traits.intensities_alone,
    )
    if found is None:
        return answer
    target.misled |= misses(answer.mask, (x0, y0, x1, y1))
    if found.interval is None:
        return vote_by_ellipsoid(target, target.finding.box or box, anchor)
    planned = sorted(set(indices.tolist()))
    down, up = [n for n in planned[::-1] if n < anchor], [n for n in planned if n > anchor]
    vote_by_body(target, found, (x0, y0, x1, y1), down)
    vote_by_body(target, found, (x0, y0, x1, y1), up)
    return as_answer(found.mask)


def vote_by_body(target: Target, found: Hypothesis, box: PixelBox, way: list[int]) -> None:
    """Lets a body vote in the axial slices that it can be followed through.

    Args:
        target: the class.
        found: the body, in the slice of the box.
        box: half-open grid pixels (x0, y0, x1, y1).
        way: the slices to one side of the box's, nearest first, grid indices.
    """
    slices = [slice_view(target.scan.image, Plane.AXIAL, index) for index in way]
    for index, mask in zip(way, follow(slices, found, box), strict=False):
        vote = as_answer(mask)
        window = target.window(SlicePrompt(box=box), vote)
        target.finding.votes.add(Plane.AXIAL, index, window, vote)


def vote_by_ellipsoid(target: Target, whole: Box, anchor: int) -> SliceMask:
    """Lets the whole ellipsoid of a target's box vote in every plane, beside the views.

    Args:
        target: the class.
        whole: its box, in raw voxels; it may reach beyond the scan.
        anchor: an axial slice, a grid index.

    Returns:
        The ellipsoid's section there, without what is left to smaller classes.
    """
    grid = target.scan.grid
    box = box_on_grid(whole, grid)
    rivals = [box_on_grid(rival, grid) for rival in target.rivals]
    logits = prior_logits(box, rivals, (0, 0, 0), grid.shape, zero_radius=WHOLE)
    low, high = np.clip((box.low, box.high), 0, grid.shape).tolist()
    for plane in target.settings.planes:
        prompt = SlicePrompt(box=box_to_slice(plane, low, high))
        asked = np.unique(target.to_grid(plane.normal))  # other slices show no raw voxel
        first, last = np.searchsorted(asked, (low[plane.normal], high[plane.normal]))
        for index in asked[first:last].tolist():
            if (plane, index) != (Plane.AXIAL, anchor):  # the walk itself votes there
                vote = SliceMask(slice_view(logits, plane, index), quality=1.0)
                target.finding.votes.add(plane, index, target.window(prompt, vote), vote)
    return SliceMask(slice_view(logits, Plane.AXIAL, anchor), quality=1.0)


def as_answer(mask: npt.NDArray[np.bool_]) -> SliceMask:
    """Returns a mask in the form of a segmenter's answer."""
    return SliceMask(np.where(mask, LOG_ODDS, -LOG_ODDS), quality=1.0)

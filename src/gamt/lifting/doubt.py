"""Doubting a segmenter's answer to a user's box, and what a target is taken for instead.

`gamt.lifting.hypotheses` says in two dimensions whether the box contradicts the answer. What
replaces it is the walk's first mask, and votes beside the walks in the slices around.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, box_to_slice, slice_view
from gamt.lifting.budget import OutOfTime
from gamt.lifting.hypotheses import MARGIN, Hypothesis, contradict, follow, misses
from gamt.lifting.propagation import Answer, Walk, stop
from gamt.lifting.shape import WHOLE, prior_logits
from gamt.lifting.target import Target
from gamt.lifting.walk import walks_of
from gamt.prompts import Box, PixelBox, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.volume.geometry import box_on_grid

LOG_ODDS = np.float32(4)
"""How sure a body of like intensity is of its pixels (docs/constants.md)."""


def doubting(
    target: Target, box: Box, anchor: int, indices: npt.NDArray[np.intp], walk: Walk
) -> Walk:
    """Walks on from a user's box with what the segmenter's first answers are taken for.

    Args:
        target: the class.
        box: the user's, in raw voxels.
        anchor: the slice that it was drawn on, a grid index.
        indices: the slices of its range, grid indices.
        walk: asks about the anchor first, once for each of `walks_of`.
    """
    answers: Sequence[Answer] = doubt(target, box, anchor, indices, (yield next(walk)))
    while True:
        try:
            requests = walk.send(answers)
        except StopIteration:
            return
        try:
            answers = yield requests
        except OutOfTime as up:
            stop(walk, up)
            raise


def doubt(
    target: Target,
    box: Box,
    anchor: int,
    indices: npt.NDArray[np.intp],
    answers: Sequence[Answer],
) -> list[Answer]:
    """Replaces first answers that the user's box contradicts.

    What replaces them also votes beside the walks, unless the box agrees with one of them. A way of
    walking whose answer misses the box itself is gone no further.

    Args:
        target: the class.
        box: the user's, in raw voxels.
        anchor: the slice that it was drawn on, a grid index.
        indices: the slices of its range, grid indices.
        answers: of the segmenter, to the box alone or with clicks; one for each of `walks_of`.

    Returns:
        The answers, or what is taken for them.
    """
    grid, image = target.scan.grid, target.scan.image
    low, high = np.clip(grid.range_to_grid(box.low, box.high), 0, grid.shape).tolist()
    x0, y0, x1, y1 = (int(side) for side in box_to_slice(Plane.AXIAL, low, high))
    sides = zip(target.slice_shape, grid.scale[1:], strict=True)
    rows, columns = (MARGIN * side * step for side, step in sides)
    seen = {n: one.mask for n, one in enumerate(answers) if isinstance(one, SliceMask)}
    doubted: dict[int, Hypothesis] = {}
    for n, mask in seen.items():
        found = contradict(
            slice_view(image, Plane.AXIAL, anchor),
            (x0, y0, x1, y1),
            (rows, columns),
            mask,
            target.scan.segmenter.traits.intensities_alone,
        )
        if found is not None:
            doubted[n] = found
    if not doubted:
        return list(answers)
    ways = [kind.way for kind in walks_of(target)]
    target.misled |= {ways[n] for n in doubted if misses(seen[n], (x0, y0, x1, y1))}
    found = next(iter(doubted.values()))
    instead = as_answer(found.mask)
    if len(doubted) == len(seen) and found.interval is None:
        instead = vote_by_ellipsoid(target, target.finding.box or box, anchor)
    elif len(doubted) == len(seen):
        planned = sorted(set(indices.tolist()))
        down, up = [n for n in planned[::-1] if n < anchor], [n for n in planned if n > anchor]
        vote_by_body(target, found, (x0, y0, x1, y1), down)
        vote_by_body(target, found, (x0, y0, x1, y1), up)
    return [instead if n in doubted else one for n, one in enumerate(answers)]


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

"""Polishing a mask of which no prompt says what is wrong: its surface is drawn anew.

In the slices of every plane that a body of the mask reaches, the segmenter is asked about the
body's section as it is. Its answers are views, which vote as those of a new target do, and the mask
votes beside them as one more view. They decide where the surface is, within a band around the
mask's own. What lies deeper stays, and what lies farther away isn't added. A segmenter believes
what it is told in part, so that it is asked again about what has come out, until little changes.
A body that the views contradict as a whole stays as it is.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from edt import edt

from gamt.axes import Plane, bounding_range
from gamt.lifting.budget import OutOfTime, StridePlanner
from gamt.lifting.fusion import Votes
from gamt.lifting.postprocess import keep_pieces, largest_pieces
from gamt.lifting.propagation import End, Seeking, Walk, tight_box, together
from gamt.lifting.refinement import KEEP
from gamt.lifting.rules import RULES
from gamt.lifting.target import Finding, Target
from gamt.lifting.views import fullest
from gamt.lifting.walk import PlaneWalk, SliceVote
from gamt.prompts import Box, SlicePrompt
from gamt.segmenters.base import SliceMask

Mask = npt.NDArray[np.bool_]

BAND, BAND_SHARE = 3.0, 0.1
"""How far a surface may move, at most: so many voxels, and in thick masks this share of the
greatest depth (docs/constants.md)."""

ROUNDS, SETTLED = 3, 0.02
"""How often the segmenter is asked, at most; it isn't asked again once no more than this share of
the mask's voxels has changed (docs/constants.md)."""

LEAST_AGREEMENT = 0.5
"""Dice of a body and the views' answer, each voxel of either counting as common that is within
`BAND` of the other, below which the body stays as it is (docs/constants.md)."""

MOST_BODIES = 8
"""Bodies of a mask that the segmenter is asked about, the largest ones, at most
(docs/constants.md)."""


def polish(target: Target, mask: Mask, strides: StridePlanner) -> Seeking[Mask]:
    """Moves the surface of a mask to where the segmenter sees it.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region, not empty.
        strides: says how many slices to step.

    Returns:
        The polished mask, of the same shape; out of time, what comes of the slices seen so far.
    """
    depth = edt(mask[part_around(mask)].view(np.uint8), black_border=True).max()
    width = max(BAND, BAND_SHARE * float(depth))
    where, near = look_at(target, mask, width)
    before = mask[where]
    band = widen(before, width) & ~narrow(before, width)
    polished = before
    in_time = True
    for _ in range(ROUNDS):
        bodies = [Body(near, one) for one in largest_pieces(polished, MOST_BODIES)]
        try:
            yield from together(walk for body in bodies for walk in body.walks(strides))
        except OutOfTime:
            in_time = False
        last, polished = polished, redraw(polished, bodies, band)
        changed = np.count_nonzero(polished ^ last)
        if not in_time or changed <= SETTLED * np.count_nonzero(last):
            break
    result = mask.copy()
    result[where] = keep_pieces(polished, before)
    return result


def look_at(target: Target, mask: Mask, width: float) -> tuple[tuple[slice, ...], Target]:
    """Returns the part of a target's region in which a mask and its views may lie.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region, not empty.
        width: voxels by which the mask may grow.

    Returns:
        The part, and the target with nothing but this for its region.
    """
    sides = np.array([part.stop - part.start for part in part_around(mask)])
    where = part_around(mask, width + target.settings.box_margin * sides)
    z, y, x = (
        (low + part.start, low + part.stop)
        for low, part in zip(target.region[0], where, strict=True)
    )
    return where, replace(target, region=((z[0], y[0], x[0]), (z[1], y[1], x[1])))


def part_around(mask: Mask, room: npt.ArrayLike = 0) -> tuple[slice, ...]:
    """Returns the bounds of a mask (z, y, x), with room on all sides, in voxels, as a part of it.

    Those of an empty mask are empty.
    """
    low, high = bounding_range(mask) or ([0, 0, 0], [0, 0, 0])
    first = np.maximum(np.subtract(low, np.ceil(room)), 0).astype(int).tolist()
    past = np.minimum(np.add(high, np.ceil(room)), mask.shape).astype(int).tolist()
    return tuple(slice(a, b) for a, b in zip(first, past, strict=True))


def widen(mask: Mask, width: float) -> Mask:
    """Returns the voxels of a mask (z, y, x) and those at most `width` voxels away from it."""
    wide = np.zeros_like(mask)
    part = part_around(mask, width)
    if mask[part].any():
        wide[part] = edt((~mask[part]).view(np.uint8), parallel=os.cpu_count() or 1) <= width
    return wide


def narrow(mask: Mask, width: float) -> Mask:
    """Returns the voxels of a mask (z, y, x) more than `width` voxels away from all others."""
    deep = np.zeros_like(mask)
    part = part_around(mask, 1)
    deep[part] = edt(mask[part].view(np.uint8), parallel=os.cpu_count() or 1) > width
    return deep


def redraw(mask: Mask, bodies: Sequence["Body"], band: Mask) -> Mask:
    """Returns a mask of which the views of its bodies have decided the voxels in a band.

    Args:
        mask: (z, y, x) bool.
        bodies: of the mask, which the segmenter was asked about.
        band: (z, y, x) bool, where the mask may change.
    """
    inside, decided = np.zeros_like(mask), np.zeros_like(mask)
    for body in bodies:
        looked, found = body.decide()
        decided[body.where] |= looked
        inside[body.where] |= looked & found
    return np.where(decided & band, inside, mask)


class Body:
    """A body of a mask, and what the views say of it.

    Attributes:
        where: the part of the mask's region in which it is looked at.
    """

    def __init__(self, target: Target, mask: Mask) -> None:
        """Begins without votes.

        Args:
            target: the class.
            mask: (z, y, x) bool over the target's region, the body; not empty.
        """
        self.where, self._target = look_at(target, mask, BAND)
        self._mask = mask[self.where]
        self._votes = Votes(self._target.region, target.scan.grid, RULES[target.settings.fusion])

    def walks(self, strides: StridePlanner) -> list[Walk]:
        """Returns a walk for each plane, through the slices that the body reaches."""
        return [
            SectionWalk(self._target, self._mask, self._votes, plane, strides).begin()
            for plane in self._target.settings.planes
        ]

    def decide(self) -> tuple[Mask, Mask]:
        """Returns what the views say, with the body's own vote.

        Returns:
            Two masks (z, y, x) over the part that is looked at: the voxels that are decided, and
            those inside of the target. Of a body that the views contradict these are its own.
        """
        seen = self._votes.fuse()
        answer = seen > 0.5
        common = np.count_nonzero(answer & widen(self._mask, BAND))
        common += np.count_nonzero(self._mask & widen(answer, BAND))
        if common < LEAST_AGREEMENT * (np.count_nonzero(answer) + np.count_nonzero(self._mask)):
            return self._mask, self._mask
        views = len(self._target.settings.planes)
        own = np.where(self._mask, np.float32(KEEP), np.float32(1 - KEEP))
        return self._votes.looked(), (views * seen + own) / (views + 1) > 0.5


def box_around(mask: Mask, first: Sequence[int]) -> Box:
    """Returns the raw bounds of a mask (z, y, x) whose first raw voxel is `first`."""
    z, y, x = (
        (part.start + a, part.stop + a) for part, a in zip(part_around(mask), first, strict=True)
    )
    return Box(*z, sum(z) // 2, *y, *x)


class SectionWalk(PlaneWalk):
    """Goes through a plane's slices of a body, and asks in each about the body's own section."""

    def __init__(
        self, target: Target, body: Mask, votes: Votes, plane: Plane, strides: StridePlanner
    ) -> None:
        """Plans a walk.

        Args:
            target: the class, in a region around the body.
            body: (z, y, x) bool over that region, not empty.
            votes: where the slices vote.
            plane: of the slices.
            strides: says how many slices to step.
        """
        layers = np.flatnonzero(body.any(axis=(plane.row_axis, plane.column_axis)))
        self._to_grid = target.to_grid(plane.normal)
        self._body = np.where(body, np.float32(KEEP), np.float32(1 - KEEP))
        anchor = int(self._to_grid[fullest(body, plane, layers.tolist())])
        indices = self._to_grid[layers]
        finding = Finding(votes, box_around(body, target.region[0]))
        super().__init__(target, finding, plane, anchor, indices, strides=strides)

    def begin(self) -> Walk:
        """Returns the walk's steps."""
        return self.start(self._section(self._anchor))

    def _section(self, index: int) -> SlicePrompt:
        """Makes a slice's prompt: the body's section, as a box and as log-odds."""
        layer = int(np.argmin(np.abs(self._to_grid - index)))
        logits = self._target.cross_section(self._body, self._plane, layer).logits
        return SlicePrompt(tight_box(logits > 0), mask=logits)

    def _complete(self, index: int, prompt: SlicePrompt) -> SlicePrompt:
        return prompt  # the section says it all

    def _prompt(self, index: int, before: SliceVote) -> SlicePrompt:
        return self._section(index)

    def _end(self, index: int, before: SliceVote | None, answer: SliceMask) -> End | None:
        return None  # what the segmenter says of one section says nothing of the next

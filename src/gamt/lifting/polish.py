"""Polishing a mask of which no prompt says what is wrong: its surface is drawn anew.

In the slices of every plane that a body of the mask reaches, the segmenter is asked about the
body's section as it is. Its answers are views, which vote as those of a new target do. They decide
where the body's surface is, within a band around the surface that it has. What lies deeper stays,
and what lies farther away isn't added. A body that the views contradict as a whole stays as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from edt import edt

from gamt.axes import Plane, bounding_range
from gamt.lifting.budget import OutOfTime, StridePlanner
from gamt.lifting.fusion import Votes
from gamt.lifting.postprocess import label_components
from gamt.lifting.propagation import End, Seeking, Walk, tight_box, together
from gamt.lifting.refinement import KEEP
from gamt.lifting.rules import RULES
from gamt.lifting.target import Finding, Target
from gamt.lifting.views import fullest
from gamt.lifting.walk import PlaneWalk, SliceVote
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask

Mask = npt.NDArray[np.bool_]

BAND, BAND_SHARE = 3.0, 0.1
"""How far a surface may move, at most: so many voxels, and in a thick body this share of how deep
it is (docs/constants.md)."""

ROUNDS, SETTLED = 3, 0.01
"""How often, at most."""

OWN_WEIGHT = 0.33
"""own"""

LEAST_AGREEMENT = 0.5
"""Dice between a body and the views' answer, either widened by the band against the other, below
which the body stays as it is (docs/constants.md)."""

MOST_BODIES = 8
"""Bodies of a mask that are polished, the largest ones, at most (docs/constants.md)."""


def polish(target: Target, mask: Mask, strides: StridePlanner) -> Seeking[Mask]:
    """Moves the surface of a mask to where the segmenter sees it.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region.
        strides: says how many slices to step.

    Returns:
        The polished mask, of the same shape; out of time, what comes of the slices seen so far.
    """
    band = band_around(mask)
    out_of_time = False
    for _ in range(ROUNDS):
        bodies = [Body(target, part) for part in largest_bodies(mask)]
        try:
            yield from together(walk for body in bodies for walk in body.walks(strides))
        except OutOfTime:
            out_of_time = True
        before, mask = mask, redraw(mask, bodies, band)
        if out_of_time or np.count_nonzero(mask ^ before) <= SETTLED * np.count_nonzero(before):
            break
    return mask


def band_around(mask: Mask) -> Mask:
    """Returns the voxels among which a mask's surface may move, (z, y, x) bool."""
    inside = edt(mask)
    depth = float(edt(mask, black_border=True).max())
    width = max(BAND, BAND_SHARE * depth)
    return np.where(mask, inside, edt(~mask)) <= width


def redraw(mask: Mask, bodies: Sequence["Body"], band: Mask) -> Mask:
    """Returns a mask whose voxels in the band are decided by what the views say of its bodies."""
    redrawn, decided = np.zeros_like(mask), np.zeros_like(mask)
    for body in bodies:
        looked, inside = body.decide()
        decided[body.where] |= looked
        redrawn[body.where] |= looked & inside
    return np.where(decided & band, redrawn, mask)


def largest_bodies(mask: Mask) -> list[Mask]:
    """Returns the bodies of a mask, those with the most voxels, each (z, y, x) by itself."""
    components = label_components(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest = np.argsort(-sizes, kind="stable")[:MOST_BODIES]
    return [components == number for number in largest if sizes[number]]


class Body:
    """A body of a mask, and what the views say of it.

    Attributes:
        where: the part of the mask's region in which it is looked at.
    """

    def __init__(self, target: Target, body: Mask) -> None:
        """Begins without votes.

        Args:
            target: the class.
            body: (z, y, x) bool over the target's region, not empty.
        """
        low, high = bounding_range(body) or ([0, 0, 0], [0, 0, 0])
        room = [
            math.ceil(BAND + target.settings.box_margin * (b - a))
            for a, b in zip(low, high, strict=True)
        ]
        self.where = tuple(
            slice(max(0, a - r), min(n, b + r))
            for a, b, r, n in zip(low, high, room, body.shape, strict=True)
        )
        z, y, x = (
            (first + part.start, first + part.stop)
            for first, part in zip(target.region[0], self.where, strict=True)
        )
        region = (z[0], y[0], x[0]), (z[1], y[1], x[1])
        self._mask = body[self.where]
        self._votes = Votes(region, target.scan.grid, RULES[target.settings.fusion])
        self._target = replace(target, region=region, previous=self._mask)

    def walks(self, strides: StridePlanner) -> list[Walk]:
        """Returns a walk for each plane, through the slices that the body reaches."""
        return [
            SectionWalk(self._target, self._mask, self._votes, plane, strides).begin()
            for plane in self._target.settings.planes
        ]

    def decide(self) -> tuple[Mask, Mask]:
        """Returns which voxels the views decide, and what they say.

        Returns:
            Two masks (z, y, x) over the part that is looked at: the voxels decided, and which
            voxels are inside of the target. Where the views contradict the body, it is left alone.
        """
        seen = self._votes.fuse()
        answer = seen > 0.5
        agree = np.count_nonzero(answer & (edt(~self._mask) <= BAND))
        agree += np.count_nonzero(self._mask & (edt(~answer) <= BAND))
        if agree < LEAST_AGREEMENT * (np.count_nonzero(answer) + np.count_nonzero(self._mask)):
            return self._mask, self._mask
        own = np.where(self._mask, KEEP, 1 - KEEP)
        return self._votes.looked(), (seen + OWN_WEIGHT * own) / (1 + OWN_WEIGHT) > 0.5


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
        others = tuple(axis for axis in range(3) if axis != plane.normal)
        layers = np.flatnonzero(body.any(axis=others))
        self._to_grid = target.to_grid(plane.normal)
        self._sections = np.where(body, KEEP, 1 - KEEP).astype(np.float32)
        anchor = int(self._to_grid[fullest(body, plane, layers.tolist())])
        indices = self._to_grid[layers]
        super().__init__(target, Finding(votes, None), plane, anchor, indices, strides=strides)

    def begin(self) -> Walk:
        """Returns the walk's steps."""
        return self.start(self._section(self._anchor))

    def _section(self, index: int) -> SlicePrompt:
        """Makes a slice's prompt: the body's section, as a box and as log-odds."""
        layer = int(np.argmin(np.abs(self._to_grid - index)))
        logits = self._target.cross_section(self._sections, self._plane, layer).logits
        return SlicePrompt(tight_box(logits > 0), mask=logits)

    def _ask(self, index: int, before: SliceVote) -> SlicePrompt:
        return self._section(index)

    def _end(self, index: int, before: SliceVote | None, answer: SliceMask) -> End | None:
        return None  # what the segmenter finds of one section says nothing of the next

"""Which planes voted in a prediction, and where they disagreed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, bounding_range
from gamt.lifting.fusion import Votes
from gamt.lifting.propagation import End
from gamt.lifting.target import Correction, Observer, Target, Visited
from gamt.prompts import Click
from gamt.segmenters.base import SliceMask
from gamt.session import ArrayBounds


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """Where the planes of a prediction disagree.

    Attributes:
        bounds: half-open, (z, y, x): there is none beyond them.
        amount: (z, y, x) uint8 within them: the highest of the planes' probabilities less the
            lowest, from 0 for 0 to 255 for 1.
    """

    bounds: ArrayBounds
    amount: npt.NDArray[np.uint8]


class Views(Observer):
    """Looks on at predictions, and keeps what the page shows of the last one.

    Attributes:
        slices: how many were looked at, by plane, of the planes that looked at any.
        disagreement: of all that was voted on; None where less than two planes voted.
    """

    def __init__(self) -> None:
        """Begins without a prediction."""
        self.begin()

    def begin(self) -> None:
        """Forgets the last prediction: another one begins."""
        self.slices: dict[Plane, int] = {}
        self.disagreement: Disagreement | None = None

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Those that looked at slices, in the order of `Plane`."""
        return tuple(plane for plane in Plane if plane in self.slices)

    def begin_walk(
        self,
        target: Target,
        plane: Plane,
        anchor: int,
        planned: Sequence[int],
        click: Click | None = None,
        by_memory: bool = False,
    ) -> Visited:
        """Counts the slices of a walk."""

        def visited(index: int, answer: SliceMask | None, end: End | None) -> None:
            self.slices[plane] = self.slices.get(plane, 0) + 1

        return visited

    def end_correction(
        self, target: Target, correction: Correction, mask: npt.NDArray[np.bool_]
    ) -> None:
        """Keeps where the views of a correction disagree on what is wrong."""
        self._add(correction.votes)

    def end_target(self, target: Target) -> None:
        """Keeps where the views of a target disagree on what it is."""
        self._add(target.finding.votes)

    def _add(self, votes: Votes) -> None:
        found = votes.disagreement()
        if found is None:
            return
        low, amount = found
        new = tight(low, np.rint(amount * 255).astype(np.uint8))
        self.disagreement = new if self.disagreement is None else largest(self.disagreement, new)


def tight(low: Sequence[int], amount: npt.NDArray[np.uint8]) -> Disagreement:
    """Cuts an array (z, y, x), whose first voxel is `low`, to what is not 0 in it."""
    bounds = bounding_range(amount > 0) or ([0, 0, 0], [0, 0, 0])
    part = amount[tuple(slice(a, b) for a, b in zip(*bounds, strict=True))].copy()
    return Disagreement([[n + a, n + b] for n, a, b in zip(low, *bounds, strict=True)], part)


def largest(one: Disagreement, other: Disagreement) -> Disagreement:
    """Returns the larger of two disagreements, voxel by voxel."""
    held = [each for each in (one, other) if each.amount.size]
    if len(held) < 2:
        return held[0] if held else one
    bounds = [
        [min(a, c), max(b, d)] for (a, b), (c, d) in zip(one.bounds, other.bounds, strict=True)
    ]
    amount = np.zeros([b - a for a, b in bounds], np.uint8)
    for each in held:
        part = amount[
            tuple(slice(a - n, b - n) for (a, b), (n, _) in zip(each.bounds, bounds, strict=True))
        ]
        np.maximum(part, each.amount, out=part)
    return Disagreement(bounds, amount)

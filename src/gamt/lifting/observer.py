"""Watching the lifting: what it tells those who want to know how a result came about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane
from gamt.lifting.fusion import Votes
from gamt.lifting.propagation import End
from gamt.prompts import Box, Click
from gamt.segmenters.base import SliceMask

if TYPE_CHECKING:
    from gamt.io.case import Case
    from gamt.lifting.target import Target
    from gamt.volume.preparation import PreparedVolume

Visited = Callable[[int, SliceMask, End | None], None]
"""(slice, the segmenter's answer, why the walk goes no further or None), on the grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What came of a click that a mask contradicted.

    Attributes:
        click: in raw voxels.
        ball: the raw box around the ball that the click draws: the size of the error.
        votes: of the views, on what is wrong; over the target's region.
        near: the part of the region that was looked at in 3-D.
        odds: (z, y, x) over `near`, log-odds of being wrong, by votes and all other evidence.
        changed: (z, y, x) bool over `near`, what has changed to the click's side.
    """

    click: Click
    ball: Box
    votes: Votes
    near: tuple[slice, ...]
    odds: npt.NDArray[np.float32]
    changed: npt.NDArray[np.bool_]


class Observer:
    """Is told what the lifting does, as it does it.

    Subclasses override the methods that they have a use for; here, all of them do nothing. They are
    called in the thread of the prediction, which waits for them. What they are given is the
    lifting's own, not a copy, and goes on changing: read it, and leave it as it is.

    For every case: `begin_case`, then for each class `begin_walk` and what it returns, and
    `end_correction` for each click that is obeyed, and last `end_target`. Classes that share a crop
    take turns, slice by slice.
    """

    def begin_case(self, case: "Case", volume: "PreparedVolume") -> None:
        """All targets of a case are about to be found.

        Args:
            case: the scan and its prompts, in raw voxels.
            volume: the scan, ready for the segmenter.
        """

    def begin_walk(
        self,
        target: "Target",
        plane: Plane,
        anchor: int,
        planned: Sequence[int],
        click: Click | None = None,
    ) -> Visited:
        """A walk is about to begin; it may still run out of time before its first slice.

        Args:
            target: the class.
            plane: of the slices.
            anchor: where it begins, a grid index.
            planned: the slices that it may visit, ascending grid indices.
            click: the one that it corrects; None where it looks for the target.

        Returns:
            What is to be told of every slice that the walk comes to.
        """
        return lambda index, answer, end: None

    def end_correction(
        self, target: "Target", correction: Correction, mask: npt.NDArray[np.bool_]
    ) -> None:
        """A click that the target's mask contradicted has been obeyed.

        Args:
            target: the class; its own `mask` is not there yet.
            correction: the click, and what was weighed.
            mask: (z, y, x) bool over the target's region, the mask after the correction.
        """

    def end_target(self, target: "Target", found: npt.NDArray[np.float32]) -> None:
        """A target has all of its votes and corrections, and competes with the others for voxels.

        Args:
            target: the class, with its votes and its mask.
            found: (z, y, x) over its region, 0..1: the fused views, or its previous prediction.
        """

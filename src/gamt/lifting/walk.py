"""Walking a plane in search of a target: each slice's mask votes, and says where the next one is.

It says so as a prompt, or by the memory of a segmenter that tracks: `Settings.propagation`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from gamt.axes import Plane, slice_view
from gamt.lifting.budget import StridePlanner
from gamt.lifting.propagation import (
    Appearance,
    End,
    Walk,
    lost,
    next_prompt,
    tight_box,
    together,
)
from gamt.lifting.target import LEAST_PROBABILITY, Finding, Target, Way
from gamt.lifting.walker import Gap, Walker, thin_both_ways, walk
from gamt.prompts import PixelBox, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.segmenters.door import SegmenterFault
from gamt.settings import Propagation
from gamt.volume.scan import SliceRequest

MOST_AWAY = 0.25
"""Distance from a slice that was seen, as a share of the slices to visit, at which it says nothing
of another one any more: halfway between a target's middle and its end (docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceVote:
    """A slice's vote.

    Attributes:
        index: the slice, on the grid.
        window: the half-open grid pixels that count as looked at.
        mask: the segmenter's answer.
        position: of the slice in a tracker's memory; None without one.
    """

    index: int
    window: PixelBox
    mask: SliceMask
    position: int | None


Judge = Callable[[SliceMask], SliceMask]
"""Takes a segmenter's answer, and returns it or what is to be taken instead."""


class PlaneWalk(Walker[SliceVote]):
    """A walk for a target through the slices of one plane, whose masks become votes.

    Where it steps over slices, the masks on both sides vote on them, mixed by distance. It does so
    where the target is larger than the segmenter's resolution, and where the time is short.

    Attributes:
        way: what it goes on by.
    """

    way: ClassVar[Way] = "prompts"

    def __init__(
        self,
        target: Target,
        finding: Finding,
        plane: Plane,
        anchor: int,
        indices: npt.NDArray[np.intp],
        appearance: Appearance | None = None,
        strides: StridePlanner | None = None,
        judge: Judge | None = None,
    ) -> None:
        """Plans a walk.

        Args:
            target: the class.
            finding: where the masks vote; the ellipsoid of its box is a prior.
            plane: of the slices.
            anchor: where to begin, a grid index.
            indices: the slices that may be visited, grid indices.
            appearance: the walk ends where the mask no longer looks like this.
            strides: says how many slices to step; None visits them all.
            judge: is shown the anchor's answer, and returns what is taken for it.
        """
        self._target = target
        self._finding = finding
        self._plane = plane
        self._anchor = anchor
        self._covered = sorted(set(indices.tolist()))
        self._planned = thin_both_ways(self._covered, anchor, self._coarseness())
        self._appearance = appearance
        self._strides = strides
        self._judge = judge
        self._visited = target.observer.begin_walk(
            target, plane, anchor, self._planned, by_memory=self.way == "memory"
        )

    def _coarseness(self) -> int:
        """Returns how many slices to step, where there is time for all, as large targets are seen.

        Such targets are longer than the segmenter's resolution both across the slices and within
        them, where it looks at them as coarsely.
        """
        resolution = self._target.scan.segmenter.traits.resolution
        box = self._finding.box
        if box is None or resolution is None:  # its size, or what is too large, is unknown
            return 1
        sides = np.subtract(box.high, box.low) * self._target.scan.grid.scale
        within = max(sides[self._plane.row_axis], sides[self._plane.column_axis])
        return max(1, int(min(len(self._covered), within)) // resolution)

    def start(self, prompt: SlicePrompt, position: int | None = None) -> Walk:
        """Returns the walk's steps.

        Args:
            prompt: for its anchor.
            position: of the anchor in a tracker's memory; None without one.
        """
        prompt = self._complete(self._anchor, prompt)
        first = SliceRequest(self._plane, self._anchor, prompt, position=position)
        return walk(first, self._planned, self, self._target.progress)

    def _complete(self, index: int, prompt: SlicePrompt) -> SlicePrompt:
        """Adds to a slice's prompt what the user and the box say of the slice."""
        prompt = self._target.add_clicks(self._plane, index, prompt)
        return self._target.add_prior(self._plane, index, prompt, self._finding.box)

    def ask(self, index: int, before: SliceVote) -> SliceRequest:
        """Returns the request for a slice, from its neighbour's mask."""
        position = before.position
        if position is not None:  # steps count, however many slices they are
            position += 1 if index > before.index else -1
        return SliceRequest(self._plane, index, self._prompt(index, before), position=position)

    def _prompt(self, index: int, before: SliceVote) -> SlicePrompt:
        """Returns the prompt for a slice, from its neighbour's mask."""
        image = slice_view(self._target.scan.image, self._plane, before.index)
        return self._complete(index, next_prompt(before.mask, image))

    def accept(
        self, request: SliceRequest, before: SliceVote | None, answer: SliceMask
    ) -> SliceVote | None:
        """Casts a slice's vote, unless the target was lost; returns it if the walk goes on."""
        index = request.index
        if before is None and self._judge is not None:
            answer = self._judge(answer)
        end = self._end(index, before, answer)
        self._visited(index, answer, end)
        if before is not None and end not in (None, End.STRANGE):
            return None
        if end is End.STRANGE:
            # It was looked at, and it is something else.
            nothing = np.full_like(answer.logits, logit(LEAST_PROBABILITY))
            answer = SliceMask(nothing, answer.quality)
        window = self._target.window(request.prompt, answer)
        vote = SliceVote(index, window, answer, request.position)
        self._finding.votes.add(self._plane, index, window, answer)
        if before is not None and end is not None:  # the walk goes no further
            self.mix(before, vote)
        return vote if end is None else None

    def fail(self, index: int, fault: SegmenterFault) -> None:
        """Tells who watches that the segmenter failed at a slice."""
        self._visited(index, None, End.FAULT)

    def leave(self, gap: Gap[SliceVote]) -> None:
        """Takes note that slices were left out for want of time."""
        self._target.shortfall.is_cut_short = True
        super().leave(gap)

    def choose_stride(self, ahead: int) -> int:
        """Returns how many slices to step, all of them where nobody says otherwise."""
        return 1 if self._strides is None else self._strides.stride(ahead)

    def has_time(self) -> bool:
        """Says whether there is time for slices that were stepped over."""
        return self._strides is None or self._strides.has_time()

    def _end(self, index: int, before: SliceVote | None, answer: SliceMask) -> End | None:
        """Returns why the walk goes no further than a slice; None if it does."""
        if self.way in self._target.misled:
            return End.MISLED
        if before is not None:
            end = lost(before.mask, answer, self._target.settings)
        else:
            end = None if answer.mask.any() else End.VANISHED
        if end is None and self._appearance is not None:
            image = slice_view(self._target.scan.image, self._plane, index)
            if not self._appearance.fits(image[answer.mask]):
                return End.STRANGE
        return end

    def mix(self, before: SliceVote, after: SliceVote) -> None:
        """Votes on the slices that were stepped over, by the masks on both sides.

        Where that was for want of time, votes weigh less the farther away the nearer mask is: what
        the prompts draw, and other planes, say more of what lies far from all that was seen.
        """
        low, high = sorted((before.index, after.index))
        between = self._covered[bisect_right(self._covered, low) : bisect_left(self._covered, high)]
        (x0, y0, x1, y1), (u0, v0, u1, v1) = before.window, after.window
        window = min(x0, u0), min(y0, v0), max(x1, u1), max(y1, v1)
        quality = min(before.mask.quality, after.mask.quality)
        in_time = not any(low < index < high for index in self._planned)
        for index in between:
            away = min(index - low, high - index)
            weight = 1.0 if in_time else 1 - away / (MOST_AWAY * len(self._covered))
            if weight <= 0:
                continue
            share = np.float32((index - after.index) / (before.index - after.index))
            logits = (1 - share) * after.mask.logits + share * before.mask.logits
            self._finding.votes.add(self._plane, index, window, SliceMask(logits, weight * quality))


class MemoryWalk(PlaneWalk):
    """A walk on which a tracker follows the target by its memory of the slices behind.

    The anchor is asked about with its prompt. So is a slice on which the class itself has clicks or
    scribbles, as on any other walk; all other slices are left to the memory. An answer that was
    judged and replaced isn't remembered: then the memory begins anew with the next slice, at a
    prompt.
    """

    way: ClassVar[Way] = "memory"

    def start(self, prompt: SlicePrompt, position: int | None = 0) -> Walk:
        """Returns the walk's steps, which begin without a memory; see `PlaneWalk.start`."""
        return super().start(replace(prompt, state=None), position)

    def _prompt(self, index: int, before: SliceVote) -> SlicePrompt:
        """Returns the memory, or a prompt beside it where the user marked the slice."""
        memory = before.mask.state
        if memory is None or self._target.is_marked(self._plane, index):
            return super()._prompt(index, before)
        return SlicePrompt(state=memory)

    def accept(
        self, request: SliceRequest, before: SliceVote | None, answer: SliceMask
    ) -> SliceVote | None:
        """Casts a slice's vote, as any other walk does."""
        if before is not None:  # elsewhere, that box is a part of the prompt, and looked at
            prompt = replace(request.prompt, box=tight_box(before.mask.mask))
            request = replace(request, prompt=prompt)
        return super().accept(request, before, answer)


WALKS: Mapping[Propagation, Sequence[type[PlaneWalk]]] = MappingProxyType(
    {"prompts": (PlaneWalk,), "memory": (MemoryWalk,), "both": (PlaneWalk, MemoryWalk)}
)
"""How a plane is walked, by `Settings.propagation`."""


def walks_of(target: Target) -> Sequence[type[PlaneWalk]]:
    """Returns how a target's planes are walked: as the settings say, in ways that see the target.

    A way in which the segmenter has missed the target's box is gone no further.
    """
    return [kind for kind in WALKS[target.settings.propagation] if kind.way not in target.misled]


def walk_plane(
    target: Target,
    finding: Finding,
    plane: Plane,
    anchor: int,
    indices: npt.NDArray[np.intp],
    prompt: SlicePrompt,
    *,
    appearance: Appearance | None = None,
    strides: StridePlanner | None = None,
    judge: Judge | None = None,
) -> Walk:
    """Returns a walk from a prompt for its anchor, which goes on as the settings say.

    Where they say "both", it is two walks side by side, and both vote. For the arguments, see
    `PlaneWalk`.
    """
    walks = [
        kind(target, finding, plane, anchor, indices, appearance, strides, judge).start(prompt)
        for kind in walks_of(target)
    ]
    return walks[0] if len(walks) == 1 else together(walks)

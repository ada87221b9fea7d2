"""One walk through the slices of a plane: outwards from an anchor, coarse steps before fine ones.

What a walk is about, a `Walker` knows: it makes the requests and takes the masks.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Generic, TypeVar

from gamt.lifting.budget import OutOfTime
from gamt.lifting.progress import Progress
from gamt.lifting.propagation import Walk, check_time
from gamt.segmenters.base import SliceMask
from gamt.segmenters.door import SegmenterFault
from gamt.volume.scan import SliceRequest

T = TypeVar("T")


class Walker(ABC, Generic[T]):
    """Decides how a walk goes; of every slice that it accepts, it makes something for the next."""

    @abstractmethod
    def ask(self, index: int, before: T) -> SliceRequest:
        """Returns the request for a slice, from what was made of the slice before."""

    @abstractmethod
    def accept(self, request: SliceRequest, before: T | None, answer: SliceMask) -> T | None:
        """Takes a slice's mask.

        Args:
            request: that was answered.
            before: what was made of the slice before; None at the anchor.
            answer: of the segmenter.

        Returns:
            What the next slice's request is made from, or None to end the walk in this direction.
        """

    @abstractmethod
    def fail(self, index: int, fault: SegmenterFault) -> None:
        """Is told of a slice that the segmenter failed at."""

    def mix(self, before: T, after: T) -> None:
        """Is told of two accepted slices between which no other was, to fill in what is there."""

    def leave(self, gap: "Gap[T]") -> None:
        """Is told of slices that were stepped over, and for which there was no time afterwards."""
        if gap.after is not None:
            self.mix(gap.before, gap.after)

    def choose_stride(self, ahead: int) -> int:
        """Returns how many slices to step, of those ahead in the longer direction.

        The last slice of each direction is visited whatever the stride.
        """
        return 1

    def has_time(self) -> bool:
        """Says whether slices that were stepped over are to be visited after all."""
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Front(Generic[T]):
    """How far a walk has come in one direction.

    Attributes:
        way: the slices ahead, one at least.
        before: what was made of the last slice that was accepted.
        skipped: the slices since then that were stepped over to save time.
    """

    way: Sequence[int]
    before: T
    skipped: Sequence[int] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Gap(Generic[T]):
    """Slices that were stepped over to save time; none where it is closed.

    Attributes:
        before: what was made of the slice before them.
        skipped: in the order of the walk.
        after: what was made of the slice after them; None where the target was lost there, or the
            segmenter failed at it.
    """

    before: T
    skipped: Sequence[int]
    after: T | None


def walk(
    first: SliceRequest, indices: Sequence[int], walker: Walker[T], progress: Progress
) -> Walk:
    """Segments a plane's slices outwards from an anchor, in both directions at once.

    A slice that the segmenter fails at is stepped over; an anchor that it fails at ends the walk.
    What was stepped over to save time is visited afterwards, as far as there is time.

    Args:
        first: for the anchor, the slice to begin with.
        indices: the slices of its plane that may be visited, ascending grid indices.
        walker: decides how it goes.
        progress: counts the slices.
    """
    down = [index for index in reversed(indices) if index < first.index]
    up = [index for index in indices if index > first.index]
    progress.plan(len(down) + 1 + len(up))
    nearest = [index for pair in zip_longest(down, up) for index in pair if index is not None]
    (answer,) = yield [replace(first, ahead=nearest)]
    start = None
    if isinstance(answer, OutOfTime):
        raise answer
    if isinstance(answer, SegmenterFault):
        walker.fail(first.index, answer)
    else:
        start = walker.accept(first, None, answer)
    if start is None:
        progress.finish(len(down) + 1 + len(up))
        return
    progress.finish(1)
    gaps: list[Gap[T]] = []
    try:
        fronts = [Front(way, start) for way in (down, up) if way]
        yield from _step_out(fronts, gaps, walker, progress)
        yield from _fill_in(gaps, walker, progress)
    finally:
        for gap in gaps:
            walker.leave(gap)


def _step_out(
    fronts: Sequence[Front[T]], gaps: list[Gap[T]], walker: Walker[T], progress: Progress
) -> Walk:
    """Goes to the ends of all fronts, and adds what was stepped over to the gaps."""
    while fronts:
        stride = walker.choose_stride(max(len(front.way) for front in fronts))
        steps = [(front, front.way[:stride], front.way[stride:]) for front in fronts]
        requests = [
            replace(walker.ask(step[-1], front.before), ahead=thin_out(rest, stride))
            for front, step, rest in steps
        ]
        answers = yield requests
        fronts = []
        for (front, step, rest), request, answer in zip(steps, requests, answers, strict=True):
            if isinstance(answer, OutOfTime):
                continue
            skipped = (*front.skipped, *step[:-1])
            if isinstance(answer, SegmenterFault):
                walker.fail(step[-1], answer)
                progress.finish(len(step))
                if rest:
                    fronts.append(Front(rest, front.before, skipped))
                else:
                    _add_gap(Gap(front.before, skipped, None), gaps, walker)
                continue
            after = walker.accept(request, front.before, answer)
            progress.finish(len(step) if after is not None else len(front.way))
            _add_gap(Gap(front.before, skipped, after), gaps, walker)
            if after is not None and rest:
                fronts.append(Front(rest, after))
        check_time(answers)


def _fill_in(gaps: list[Gap[T]], walker: Walker[T], progress: Progress) -> Walk:
    """Visits slices in the middle of gaps, of the two largest at once, while there is time.

    Where the target isn't found there, what is before a lost end is looked at next. A slice that
    the segmenter fails at, and one without the target between two that have it, are passed over.
    """
    while gaps and walker.has_time():
        gaps.sort(key=lambda gap: len(gap.skipped))
        chosen = [gaps.pop() for _ in gaps[:2]]
        orders = [middles_first(gap.skipped) for gap in chosen]
        requests = [
            replace(walker.ask(middle, gap.before), ahead=ahead)
            for gap, (middle, *ahead) in zip(chosen, orders, strict=True)
        ]
        progress.plan(len(chosen))
        answers = yield requests
        progress.finish(len(chosen))
        for gap, request, answer in zip(chosen, requests, answers, strict=True):
            if isinstance(answer, OutOfTime):
                gaps.append(gap)
                continue
            nearer = gap.skipped[: len(gap.skipped) // 2]
            farther = gap.skipped[len(gap.skipped) // 2 + 1 :]
            here = None
            if is_fault := isinstance(answer, SegmenterFault):
                walker.fail(request.index, answer)
            else:
                here = walker.accept(request, gap.before, answer)
            if here is not None:
                _add_gap(Gap(gap.before, nearer, here), gaps, walker)
                _add_gap(Gap(here, farther, gap.after), gaps, walker)
            elif is_fault or gap.after is not None:
                _add_gap(Gap(gap.before, (*nearer, *farther), gap.after), gaps, walker)
            else:
                _add_gap(Gap(gap.before, nearer, None), gaps, walker)
        check_time(answers)


def _add_gap(gap: Gap[T], gaps: list[Gap[T]], walker: Walker[T]) -> None:
    """Adds a gap to the others, or closes it where nothing was skipped."""
    if gap.skipped:
        gaps.append(gap)
    elif gap.after is not None:
        walker.mix(gap.before, gap.after)


def middles_first(skipped: Sequence[int]) -> list[int]:
    """Orders the slices of a gap: its middle, the middles of its halves, and so on."""
    order, parts = [], deque([skipped])
    while parts:
        part = parts.popleft()
        if part:
            middle = len(part) // 2
            order.append(part[middle])
            parts += part[:middle], part[middle + 1 :]
    return order


def thin_out(way: Sequence[int], stride: int) -> Sequence[int]:
    """Keeps every `stride`-th slice of a way, and its last one."""
    return [*way[stride - 1 : -1 : stride], *way[-1:]]


def thin_both_ways(indices: Sequence[int], anchor: int, stride: int) -> list[int]:
    """Keeps every `stride`-th of ascending slices, counted from an anchor, and the outermost."""
    down = thin_out([index for index in reversed(indices) if index < anchor], stride)
    up = thin_out([index for index in indices if index > anchor], stride)
    return [*reversed(down), *(index for index in indices if index == anchor), *up]

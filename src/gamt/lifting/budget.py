"""Deadlines: when a class has to be finished so that all runs of a case stay within the limit."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
import psutil

from gamt.lifting.progress import Progress
from gamt.segmenters.door import Call
from gamt.settings import Settings


@cache
def process_start() -> float:
    """Returns when this process started, in seconds on the clock of `time.monotonic`."""
    age = time.time() - float(psutil.Process().create_time())  # known in wall time alone
    return time.monotonic() - age


MOST_RESERVED = 0.25
"""Share of the time left that is kept for writing at most (docs/constants.md)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The time of one run on one case (docs/design.md, 10).

    Attributes:
        start: when the run's clock began, in seconds on the clock of `time.monotonic`.
        seconds_per_class: what one class may use in this run; infinite without a limit.
    """

    start: float
    seconds_per_class: float

    @classmethod
    def for_run(
        cls,
        settings: Settings,
        has_box: bool,
        start: float,
        classes: int = 1,
        seconds: float = math.inf,
        reserve: float = 0.0,
    ) -> "Budget":
        """Shares the challenge's limit out among the runs of a case, and the caller's by class.

        Args:
            settings: the limit, the number of runs and the safety margin.
            has_box: False for a case without any box, which is run once less.
            start: when the run's clock began; the start of the process for its first case.
            classes: number of classes in the case, 1 or more.
            seconds: what the caller allows for all classes of this run together.
            reserve: seconds of all that for what comes after the classes, such as writing; no more
                of what is left than `MOST_RESERVED`.
        """
        share = seconds / classes
        if settings.budget:
            runs = settings.runs if has_box else settings.runs_without_box
            share = min(share, settings.seconds_per_class / runs * (1 - settings.safety))
        left = max(0.0, start + share * classes - time.monotonic())
        return cls(start, share - min(reserve, MOST_RESERVED * left) / classes)

    def deadline(self, done: int, classes: int, total: int) -> float:
        """Returns when the next classes must be done.

        What the classes before them left unused passes on to them. Where they, or a slow start,
        took more than their share, those ahead share out what is left, so that all get some.

        Args:
            done: number of classes that are done.
            classes: number of classes that are next, 1 or more.
            total: number of classes in the case.
        """
        if math.isinf(self.seconds_per_class):
            return math.inf
        now = time.monotonic()
        own = self.start + self.seconds_per_class * (done + classes)
        end = self.start + self.seconds_per_class * total
        return max(own, now + (end - now) * classes / (total - done))


class OutOfTime(Exception):  # noqa: N818 - it is no error
    """No further step fits before the deadline."""


class Cancelled(Exception):  # noqa: N818 - it is no error
    """The caller has asked for a prediction to stop; there is no result."""


class Pace:
    """What the calls of a segmenter have cost so far: to encode, to decode and to track.

    A call may cost something by itself, whatever is in it, so that what calls took is kept by their
    number of slices. Of three calls or more, the dearest by slice is left out: it may have been the
    first, which sets up a device, or a moment in which the machine was busy.
    """

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._seconds: dict[Call, float] = {}
        self._calls: Counter[Call] = Counter()
        self._longest: dict[Call, dict[int, float]] = {}
        self._dearest: dict[Call, tuple[int, float]] = {}

    def add(self, call: Call, slices: int, seconds: float) -> None:
        """Takes note of a call for some slices, one at least."""
        self._seconds[call] = self._seconds.get(call, 0.0) + seconds
        self._calls[call] += 1
        longest = self._longest.setdefault(call, {})
        made = slices, seconds
        if call in self._dearest:
            made, self._dearest[call] = sorted(
                (made, self._dearest[call]), key=lambda one: one[1] / one[0]
            )
            longest[made[0]] = max(longest.get(made[0], 0.0), made[1])
        else:
            self._dearest[call] = made

    def seconds(self, call: Call) -> float:
        """Returns what all calls of a kind took together."""
        return self._seconds.get(call, 0.0)

    def expect(self, call: Call, slices: int) -> float:
        """Returns what a call may take: as long as the longest of no more slices, or longer.

        Between two numbers of slices that there were calls for, it is what lies between, and each
        slice takes no less than in any larger call; for more slices than ever, as much for each as
        in the largest call. Where there was no call, one slice is to be tried, at whatever cost,
        and no more of them.
        """
        if slices == 0:
            return 0.0
        if call not in self._dearest:
            return 0.0 if slices == 1 else math.inf
        known = dict(self._longest[call])
        if self._calls[call] < 3:
            size, seconds = self._dearest[call]
            known[size] = max(known.get(size, 0.0), seconds)
        sizes = sorted(known)
        longest = list(accumulate((known[size] for size in sizes), max))
        if slices > sizes[-1]:
            return longest[-1] * slices / sizes[-1]
        by_slice = max(known[size] / size for size in sizes if size >= slices)
        return max(by_slice * slices, float(np.interp(slices, sizes, longest)))


class Stopwatch:
    """Watches whether another call of the segmenter fits before a deadline.

    Attributes:
        pace: what calls have cost so far.
    """

    def __init__(
        self,
        deadline: float,
        cancelled: Callable[[], bool] = lambda: False,
        finish: Callable[[], bool] = lambda: False,
        pace: Pace | None = None,
        kept: float = 0.0,
    ) -> None:
        """Times no call yet.

        Args:
            deadline: on the clock of `time.monotonic`; infinite for none.
            cancelled: says whether the caller wants no result any more.
            finish: says whether the caller wants what there is, as if the deadline had passed.
            pace: what earlier calls have cost; None without any.
            kept: share of the time left that is kept for what comes after, 0..1: the deadline is
                that much earlier.
        """
        now = time.monotonic()
        self._deadline = now + (1 - kept) * (deadline - now)
        self._cancelled = cancelled
        self._finish = finish
        self.pace = Pace() if pace is None else pace
        self._call: tuple[Call, int, float] | None = None

    @property
    def left(self) -> float:
        """Seconds until the deadline; infinite without one, negative after it."""
        return self._deadline - time.monotonic()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keeps as much time as what is done meanwhile takes, because it will come once more."""
        begun = time.monotonic()
        yield
        self._deadline -= time.monotonic() - begun

    def check_cancelled(self) -> None:
        """Goes on unless the caller wants no result any more.

        Raises:
            Cancelled: it is so.
        """
        if self._cancelled():
            raise Cancelled

    def check(self) -> None:
        """Goes on while there is time and the caller wants more; for work in many small steps.

        Raises:
            Cancelled: the caller wants no result any more.
            OutOfTime: the deadline has passed, or the caller wants what there is.
        """
        self.check_cancelled()
        if self.left <= 0 or self._finish():
            raise OutOfTime

    def fits(self, encoded: int, decoded: int, tracked: int) -> bool:
        """Says whether so many slices can be encoded, decoded and tracked before the deadline."""
        expect = self.pace.expect
        asked = expect("decode", decoded) + expect("track", tracked)
        return expect("encode", encoded) + asked <= self.left

    def before_call(self, call: Call, slices: int) -> None:
        """Begins to time a call of the segmenter, which ends with the next one or `end_call`.

        Args:
            call: its kind.
            slices: that it is asked for, one at least.

        Raises:
            Cancelled: the caller wants no result any more.
            OutOfTime: it would end after the deadline, or the caller wants what there is.
        """
        self.end_call()
        self.check()
        if self.pace.expect(call, slices) > self.left:
            raise OutOfTime
        self._call = call, slices, time.monotonic()

    def end_call(self) -> None:
        """Takes note of what the call that is being timed took, if there is one."""
        if self._call is not None:
            call, slices, start = self._call
            self._call = None
            self.pace.add(call, slices, time.monotonic() - start)


PATIENCE = 0.1
"""Share of the time left that walks spend before their pace is judged: a moment in which the
machine was busy elsewhere is no reason to step over slices (docs/constants.md)."""


class StridePlanner:
    """Chooses how many slices walks step at a time, so that all of them reach their ends in time.

    What a slice costs is measured on all slices so far, and anew after every round
    (docs/design.md, 10): what it takes to encode one, and all the rest that a walk does. The
    longest round counts as the second longest: one hiccup of the machine says nothing about the
    rest.

    Attributes:
        stopwatch: knows the time that is left.
    """

    def __init__(
        self,
        stopwatch: Stopwatch,
        share: float,
        progress: Progress,
        encoded: Callable[[], int] = lambda: 0,
    ) -> None:
        """Visits every slice at first.

        Args:
            stopwatch: knows the time that is left, and what encoding has cost.
            share: of it that the walks may use, 0..1.
            progress: knows how many slices the walks still have before them.
            encoded: returns the number of slices encoded so far, also ahead of the walks.
        """
        self.stopwatch = stopwatch
        self._share = share
        self._progress = progress
        self._encoded = encoded
        self._stride = 1
        self.begin()

    def begin(self) -> None:
        """Begins to measure: the walks' first round of slices is about to be asked for."""
        self._last = time.monotonic()
        self._end = self._last + self._share * self.stopwatch.left
        self._encoding: list[float] = []
        self._rest: list[float] = []
        self._encoding_before = self.stopwatch.pace.seconds("encode")
        self._encoded_before = self._encoded()
        self._visited = 0

    def end_round(self, slices: int) -> None:
        """Judges the pace anew, after a round of a number of slices that all walks asked for."""
        now, left = time.monotonic(), self.stopwatch.left
        encoding = self.stopwatch.pace.seconds("encode") - self._encoding_before
        self._encoding.append(encoding - sum(self._encoding))
        self._rest.append(now - self._last - self._encoding[-1])
        self._last = now
        self._visited += slices
        if not self._visited or sum(self._encoding) + sum(self._rest) < PATIENCE * left:
            self._stride = 1
            return
        # A slice that was encoded ahead, or for another class, will not be encoded once more.
        encoded = self._encoded() - self._encoded_before
        seconds = _without_hiccup(self._rest) / self._visited
        seconds += _without_hiccup(self._encoding) / max(encoded, self._visited)
        ahead = max(1, self._progress.left - slices)
        affordable = self._share * left / seconds if seconds > 0 else math.inf
        self._stride = math.ceil(ahead / affordable) if affordable > 1 else ahead

    def stride(self, ahead: int) -> int:
        """Returns how many slices to step next, of those ahead; 1 for every slice."""
        return min(self._stride, ahead)

    def has_time(self) -> bool:
        """Says whether the walks have used less than their share of the time."""
        return time.monotonic() < self._end


def _without_hiccup(seconds: Sequence[float]) -> float:
    """Adds up seconds; the longest of several count as the second longest."""
    longest = sorted(seconds)[-2:]
    return sum(seconds) - (longest[-1] - longest[0])

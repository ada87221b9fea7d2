"""Deadlines: when a class has to be finished so that all runs of a case stay within the limit."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import psutil

from gamt.lifting.progress import Progress
from gamt.settings import Settings


@cache
def process_start() -> float:
    """Returns when this process started, in seconds on the clock of `time.monotonic`."""
    age = time.time() - float(psutil.Process().create_time())  # known in wall time alone
    return time.monotonic() - age


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
    ) -> "Budget":
        """Shares the challenge's limit out among the runs of a case, and the caller's by class.

        Args:
            settings: the limit, the number of runs and the safety margin.
            has_box: False for a case without any box, which is run once less.
            start: when the run's clock began; the start of the process for its first case.
            classes: number of classes in the case, 1 or more.
            seconds: what the caller allows for all classes of this run together.
        """
        share = seconds / classes
        if settings.budget:
            runs = settings.runs if has_box else settings.runs_without_box
            share = min(share, settings.seconds_per_class / runs * (1 - settings.safety))
        return cls(start, share)

    def deadline(self, classes: int) -> float:
        """Returns when the first `classes` classes must be done: unused time passes on."""
        return self.start + self.seconds_per_class * classes


class OutOfTime(Exception):  # noqa: N818 - it is no error
    """No further step fits before the deadline."""


class Cancelled(Exception):  # noqa: N818 - it is no error
    """The caller has asked for a prediction to stop; there is no result."""


class Stopwatch:
    """Watches whether another step fits before a deadline, judging by the longest so far."""

    def __init__(self, deadline: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Starts the first step now.

        Args:
            deadline: on the clock of `time.monotonic`; infinite for none.
            cancelled: says whether the caller wants no result any more.
        """
        self._deadline = deadline
        self._cancelled = cancelled
        self._last = time.monotonic()
        self._longest = 0.0

    @property
    def left(self) -> float:
        """Seconds until the deadline; infinite without one, negative after it."""
        return self._deadline - time.monotonic()

    def check_cancelled(self) -> None:
        """Goes on unless the caller wants no result any more.

        Raises:
            Cancelled: it is so.
        """
        if self._cancelled():
            raise Cancelled

    def check(self) -> None:
        """Goes on while there is time and the caller wants a result; for work in many small steps.

        Raises:
            Cancelled: the caller wants no result any more.
            OutOfTime: the deadline has passed.
        """
        self.check_cancelled()
        if self.left <= 0:
            raise OutOfTime

    def lap(self) -> None:
        """Ends a step.

        Raises:
            Cancelled: the caller wants no result any more.
            OutOfTime: another step like the longest doesn't fit any more.
        """
        self.check_cancelled()
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        if now + self._longest > self._deadline:
            raise OutOfTime


PATIENCE = 0.1
"""Share of the time left that walks spend before their pace is judged: a moment in which the
machine was busy elsewhere is no reason to step over slices (docs/constants.md)."""


class StridePlanner:
    """Chooses how many slices walks step at a time, so that all of them reach their ends in time.

    What a slice costs is measured on all slices so far, and anew after every round
    (docs/design.md, 10). The longest round counts as the second longest: one hiccup of the machine
    says nothing about the rest.

    Attributes:
        stopwatch: knows the time that is left.
        stepped_over: whether any slice was.
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
            stopwatch: knows the time that is left.
            share: of it that the walks may use, 0..1.
            progress: knows how many slices the walks still have before them.
            encoded: returns the number of slices encoded so far, also ahead of the walks.
        """
        self.stopwatch = stopwatch
        self._share = share
        self._progress = progress
        self._encoded = encoded
        self.begin()
        self._stride = 1
        self.stepped_over = False

    def begin(self) -> None:
        """Begins to measure: the walks' first round of slices is about to be asked for."""
        self._last = time.monotonic()
        self._rounds: list[float] = []
        self._encoded_before = self._encoded()
        self._visited = 0

    def end_round(self, slices: int) -> None:
        """Judges the pace anew, after a round of a number of slices that all walks asked for."""
        now, left = time.monotonic(), self.stopwatch.left
        self._rounds.append(now - self._last)
        self._last = now
        self._visited += slices
        spent = sum(self._rounds)
        if spent < PATIENCE * left:
            self._stride = 1
            return
        if len(self._rounds) > 1:
            second, longest = sorted(self._rounds)[-2:]
            spent -= longest - second
        done = max(self._visited, self._encoded() - self._encoded_before)
        ahead = max(1, self._progress.left - slices)
        affordable = self._share * left * done / spent if spent > 0 else math.inf
        self._stride = math.ceil(ahead / affordable) if affordable > 1 else ahead

    def stride(self, ahead: int) -> int:
        """Returns how many slices to step next, of those ahead; 1 for every slice."""
        stride = min(self._stride, ahead)
        self.stepped_over |= stride > 1
        return stride

"""Deadlines: when a class has to be finished so that all runs of a case stay within the limit."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import psutil

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


class StridePlanner:
    """Chooses how many slices walks step at a time, so that all of them reach their ends in time.

    The walks tell what they plan; their first slices tell what one costs (docs/design.md, 10).
    """

    def __init__(
        self, stopwatch: Stopwatch, share: float, encoded: Callable[[], int] = lambda: 0
    ) -> None:
        """Starts now.

        Args:
            stopwatch: knows the time that is left.
            share: of it that the walks may use, 0..1.
            encoded: returns the number of slices encoded so far, also ahead of the walks.
        """
        self._stopwatch = stopwatch
        self._share = share
        self._encoded = encoded
        self._before = encoded()
        self._left = stopwatch.left
        self._walks = 0
        self._slices = 0
        self._stride = 0

    def plan(self, slices: int) -> None:
        """Announces one more walk, of a number of slices."""
        self._walks += 1
        self._slices += slices

    def stride(self) -> int:
        """Returns the stride, 1 for every slice; to be asked for once all walks have one slice."""
        if self._walks == 0:
            return 1
        if self._stride == 0:
            left = self._stopwatch.left
            done = max(self._walks, self._encoded() - self._before)
            seconds = (self._left - left) / done  # of one slice; NaN without a deadline
            affordable = self._share * left / seconds if seconds > 0 else math.inf
            self._stride = math.ceil(self._slices / affordable) if affordable > 1 else self._slices
            self._stride = max(1, self._stride)
        return self._stride

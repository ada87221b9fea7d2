"""Deadlines: when a class has to be finished so that all runs of a case stay within the limit."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from gamt.settings import Settings


def process_start() -> float:
    """Returns when this process started, in seconds on the clock of `time.time`."""
    return float(psutil.Process().create_time())


@dataclass(frozen=True, slots=True)
class Budget:
    """The time of one run on one case (docs/design.md, 10).

    Attributes:
        start: when the run's clock began, in seconds on the clock of `time.time`.
        seconds_per_class: what one class may use in this run; infinite without a limit.
    """

    start: float
    seconds_per_class: float

    @classmethod
    def for_run(cls, settings: "Settings", has_box: bool, start: float) -> "Budget":
        """Shares the challenge's limit out among the runs of a case.

        Args:
            settings: the limit, the number of runs and the safety margin.
            has_box: False for a case without any box, which is run once less.
            start: when the run's clock began; the start of the process for its first case.
        """
        if not settings.budget:
            return cls(start, float("inf"))
        runs = settings.runs if has_box else settings.runs_without_box
        return cls(start, settings.seconds_per_class / runs * (1 - settings.safety))

    def deadline(self, classes: int) -> float:
        """Returns when the first `classes` classes must be done: unused time passes on."""
        return self.start + self.seconds_per_class * classes


class OutOfTime(Exception):  # noqa: N818 - it is no error
    """No further step fits before the deadline."""


class Stopwatch:
    """Watches whether another step fits before a deadline, judging by the longest so far."""

    def __init__(self, deadline: float) -> None:
        """Starts the first step now; `deadline` is on the clock of `time.time`."""
        self._deadline = deadline
        self._last = time.time()
        self._longest = 0.0

    @property
    def left(self) -> float:
        """Seconds until the deadline; infinite without one, negative after it."""
        return self._deadline - time.time()

    def lap(self) -> None:
        """Ends a step.

        Raises:
            OutOfTime: another step like the longest doesn't fit any more.
        """
        now = time.time()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        if now + self._longest > self._deadline:
            raise OutOfTime


class Pace:
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
        self._step = 0

    def plan(self, slices: int) -> None:
        """Announces one more walk, of a number of slices."""
        self._walks += 1
        self._slices += slices

    def step(self) -> int:
        """Returns the step, 1 for every slice; to be asked for when all walks have their first."""
        if self._walks == 0:
            return 1
        if self._step == 0:
            left = self._stopwatch.left
            done = max(self._walks, self._encoded() - self._before)
            seconds = (self._left - left) / done  # of one slice; NaN without a deadline
            affordable = self._share * left / seconds if seconds > 0 else math.inf
            self._step = math.ceil(self._slices / affordable) if affordable > 1 else self._slices
            self._step = max(1, self._step)
        return self._step

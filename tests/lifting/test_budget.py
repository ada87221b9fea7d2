"""Shares of the time limit, the process's clock, and steps that still fit."""

import math
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gamt.lifting import budget
from gamt.lifting.budget import (
    Budget,
    Cancelled,
    OutOfTime,
    Stopwatch,
    StridePlanner,
    process_start,
)
from gamt.settings import Settings

SETTINGS = Settings(seconds_per_class=90, runs=6, runs_without_box=5, safety=0.2)


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(1000)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.mark.parametrize(
    ("has_box", "expected"),
    [
        (True, 12.0),  # 90 / 6 = 15 seconds a run, a fifth of them unused
        (False, 14.4),  # 90 / 5 = 18, likewise
    ],
)
def test_a_run_gets_its_share_of_the_limit(has_box: bool, expected: float) -> None:
    share = Budget.for_run(SETTINGS, has_box, start=100)
    assert share.seconds_per_class == pytest.approx(expected)
    assert share.start == 100


@pytest.mark.parametrize("has_box", [True, False])
def test_the_runs_of_the_default_stay_within_the_challenges_limit(has_box: bool) -> None:
    # 90 seconds a class for six runs, or five without a box (contract, sections 1 and 2).
    share = Budget.for_run(Settings(), has_box, start=0).seconds_per_class
    assert 0 < share * (6 if has_box else 5) < 90


def test_deadlines_add_up_over_the_classes() -> None:
    share = Budget.for_run(SETTINGS, has_box=True, start=100)
    assert [share.deadline(n) for n in range(4)] == pytest.approx([100, 112, 124, 136])


def test_without_a_budget_there_is_no_deadline() -> None:
    share = Budget.for_run(replace(SETTINGS, budget=False), has_box=True, start=100)
    assert share.deadline(1) == math.inf


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (40, 10.0),  # four classes
        (math.inf, 12.0),  # the challenge's, as above
        (400, 12.0),
        (0, 0.0),
    ],
)
def test_seconds_that_the_caller_allows_are_shared_by_the_classes(
    seconds: float, expected: float
) -> None:
    share = Budget.for_run(SETTINGS, has_box=True, start=100, classes=4, seconds=seconds)
    assert share.seconds_per_class == pytest.approx(expected)


def test_the_callers_seconds_hold_without_a_budget_too() -> None:
    settings = replace(SETTINGS, budget=False)
    share = Budget.for_run(settings, has_box=True, start=100, classes=4, seconds=400)
    assert share.deadline(4) == 500


def test_this_process_has_started_already() -> None:
    assert process_start() <= time.monotonic()
    assert process_start() == process_start()


def test_a_process_starts_between_its_call_and_its_first_line() -> None:
    program = (
        "import time; first = time.monotonic()\n"
        "from gamt.lifting.budget import process_start\n"
        "time.sleep(0.1)\n"
        "print(first, process_start())"
    )
    called = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    first, started = (float(number) for number in done.stdout.split())
    # Systems tell the start in whole ticks since the boot, and the boot in whole seconds.
    assert called - 1.1 <= started <= first + 0.02


def test_a_step_fits_while_the_longest_one_does(clock: Clock) -> None:
    watch = Stopwatch(deadline=1010)
    clock.now = 1003  # the step took 3: another would end at 1006
    watch.lap()
    clock.now = 1004  # it took 1, but 3 are to be expected: 1007
    watch.lap()
    clock.now = 1007  # it took 3: 1010 is in time
    watch.lap()
    clock.now = 1007.5  # it took 0.5, but 3 are to be expected: 1010.5 is late
    with pytest.raises(OutOfTime):
        watch.lap()


def test_no_step_fits_after_the_deadline(clock: Clock) -> None:
    watch = Stopwatch(deadline=999)
    with pytest.raises(OutOfTime):
        watch.lap()


def test_whoever_cancels_is_asked_at_every_step() -> None:
    answers = iter([False, False, True])
    watch = Stopwatch(math.inf, lambda: next(answers))
    watch.lap()
    watch.lap()
    with pytest.raises(Cancelled):
        watch.lap()


def test_steps_always_fit_without_a_deadline(clock: Clock) -> None:
    watch = Stopwatch(deadline=math.inf)
    clock.now = 1e9
    watch.lap()


def test_the_step_makes_walks_fit_into_their_share_of_the_time(clock: Clock) -> None:
    planner = StridePlanner(Stopwatch(deadline=clock.now + 110), share=0.5)
    planner.plan(60)
    planner.plan(40)
    clock.now += 10  # both first slices: 5 a slice; half of the 100 left are enough for 10 of 100
    assert planner.stride() == 10
    clock.now += 50  # it stays as it is
    assert planner.stride() == 10


def test_slices_that_are_encoded_ahead_cost_time_too(clock: Clock) -> None:
    encoded = [7]
    planner = StridePlanner(Stopwatch(deadline=clock.now + 60), 1, lambda: encoded[0])
    planner.plan(100)
    clock.now += 10
    encoded[0] += 5  # 2 a slice, so that the 50 left are enough for 25
    assert planner.stride() == 4


def test_every_slice_is_visited_while_there_is_time(clock: Clock) -> None:
    planner = StridePlanner(Stopwatch(deadline=clock.now + 1010), share=1)
    planner.plan(100)
    clock.now += 10  # 100 slices of 10 just fit
    assert planner.stride() == 1


@pytest.mark.parametrize("spent", [0, 10])
def test_without_a_deadline_every_slice_is_visited(clock: Clock, spent: float) -> None:
    planner = StridePlanner(Stopwatch(math.inf), share=0.5)
    planner.plan(1000)
    clock.now += spent
    assert planner.stride() == 1


def test_a_walk_of_which_no_further_slice_fits_steps_over_all(clock: Clock) -> None:
    planner = StridePlanner(Stopwatch(deadline=clock.now + 10), share=1)
    planner.plan(30)
    clock.now += 9
    assert planner.stride() == 30

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
    Pace,
    Stopwatch,
    StridePlanner,
    process_start,
)
from gamt.lifting.progress import Progress
from gamt.segmenters.door import Call
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
    # 90 seconds a class for six runs, or five without a box (docs/challenge.md, 1 and 2).
    share = Budget.for_run(Settings(), has_box, start=0).seconds_per_class
    assert 0 < share * (6 if has_box else 5) < 90


@pytest.mark.parametrize(
    ("now", "done", "classes", "expected"),
    [
        (1000, 0, 1, 1012),
        (1000, 0, 2, 1024),
        (1002, 1, 1, 1024),  # what the first class left over passes on to the second
        (1002, 1, 2, 1036),
        (1016, 1, 1, 1026),  # it took 4 too many: half of the 20 that are left for two
        (1030, 0, 1, 1032),  # a slow start: a third of the 6 that are left for three
        (1040, 0, 3, 1036),  # over before it began
    ],
)
def test_classes_share_out_what_is_left_where_the_time_before_was_not_enough(
    now: float, done: int, classes: int, expected: float, clock: Clock
) -> None:
    share = Budget.for_run(SETTINGS, has_box=True, start=1000, classes=3)
    clock.now = now
    assert share.deadline(done, classes, total=3) == pytest.approx(expected)


def test_without_a_budget_there_is_no_deadline() -> None:
    share = Budget.for_run(replace(SETTINGS, budget=False), has_box=True, start=100)
    assert share.deadline(0, 1, total=1) == math.inf


def test_seconds_in_reserve_are_not_for_the_classes(clock: Clock) -> None:
    # 12 a class, and of both together 3 are kept.
    share = Budget.for_run(SETTINGS, has_box=True, start=1000, classes=2, reserve=3)
    assert share.seconds_per_class == pytest.approx(10.5)


def test_most_of_the_time_left_is_for_the_classes_however_slow_reading_was(clock: Clock) -> None:
    clock.now = 1012
    # Of 24 seconds, 12 are left, and a quarter of these is kept, not 12.
    share = Budget.for_run(SETTINGS, has_box=True, start=1000, classes=2, reserve=12)
    assert share.seconds_per_class == pytest.approx(10.5)
    assert share.deadline(0, 2, total=2) == pytest.approx(1021)


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
    assert share.deadline(0, 4, total=4) == 500


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


def test_an_unknown_call_is_tried_with_one_slice_whatever_it_costs() -> None:
    pace = Pace()
    assert pace.expect("encode", 1) == 0
    assert pace.expect("encode", 2) == math.inf


def test_a_call_is_expected_to_take_what_calls_of_its_size_took() -> None:
    pace = Pace()
    pace.add("encode", 1, 9)  # the first one sets something up
    pace.add("encode", 1, 2)
    pace.add("encode", 1, 1)
    pace.add("encode", 5, 4)
    pace.add("encode", 5, 3)
    assert pace.expect("encode", 1) == 2
    assert pace.expect("encode", 3) == 3  # half way from 2 to 4
    assert pace.expect("encode", 5) == 4
    assert pace.expect("encode", 10) == 8
    assert pace.expect("encode", 0) == 0
    assert pace.seconds("encode") == 19
    assert pace.expect("decode", 2) == math.inf


def test_a_call_is_expected_to_take_no_less_than_smaller_ones() -> None:
    pace = Pace()
    for slices, seconds in ((1, 7), (1, 3), (4, 2)):
        pace.add("decode", slices, seconds)
    assert pace.expect("decode", 4) == 3


def test_of_one_or_two_calls_the_dearest_counts_too() -> None:
    pace = Pace()
    pace.add("encode", 1, 4)
    assert pace.expect("encode", 3) == 12
    pace.add("encode", 2, 20)
    assert pace.expect("encode", 2) == 20
    assert pace.expect("encode", 1) == 10


def test_the_dearest_call_counts_once_there_is_a_dearer_one() -> None:
    pace = Pace()
    for seconds in (1, 6, 7):
        pace.add("decode", 1, seconds)
    assert pace.expect("decode", 1) == 6


@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_call_that_took_far_longer_than_the_others_says_nothing(at: int) -> None:
    pace = Pace()
    for n in range(3):
        pace.add("encode", 1, 5 if n == at else 0.1)
    assert pace.expect("encode", 1) == 0.1
    assert pace.expect("encode", 4) == pytest.approx(0.4)
    pace.add("encode", 1, 4)  # and a second one does
    assert pace.expect("encode", 1) == 4


def test_a_segmenter_whose_first_call_is_slow_is_soon_asked_in_whole_batches_again() -> None:
    # A call takes 40 ms and 2 more a slice; the first one, which is for one slice, a second more.
    pace = Pace()
    pace.add("encode", 1, 1.042)
    pace.add("encode", 1, 0.042)
    pace.add("encode", 2, 0.044)
    assert pace.expect("encode", 8) < 0.2
    pace.add("encode", 8, 0.056)
    assert pace.expect("encode", 8) == 0.056


def call(watch: Stopwatch, clock: Clock, kind: Call, seconds: float, slices: int = 1) -> None:
    watch.before_call(kind, slices)
    clock.now += seconds
    watch.end_call()


def test_a_call_is_not_begun_that_would_be_late_as_the_second_longest_of_its_kind(
    clock: Clock,
) -> None:
    watch = Stopwatch(deadline=1020)
    for seconds in (4, 5, 2):
        call(watch, clock, "encode", seconds)
    call(watch, clock, "decode", 1)
    call(watch, clock, "decode", 4)  # 1016, and another 4 would just be in time
    call(watch, clock, "decode", 1)
    with pytest.raises(OutOfTime):
        watch.before_call("encode", 1)
    call(watch, clock, "decode", 1)  # 1018, and another one fits
    with pytest.raises(OutOfTime):
        watch.before_call("decode", 3)


def test_the_time_between_calls_is_none_of_theirs(clock: Clock) -> None:
    watch = Stopwatch(deadline=1010)
    call(watch, clock, "decode", 1)
    clock.now += 5
    assert watch.pace.seconds("decode") == 1
    assert watch.fits(0, 4, 0)
    assert not watch.fits(0, 5, 0)


def test_where_a_step_by_memory_takes_long_there_is_time_for_corrections(clock: Clock) -> None:
    watch = Stopwatch(deadline=1030)
    for _ in range(3):
        call(watch, clock, "track", 8)
        call(watch, clock, "decode", 1)
    # Three seconds are left.
    assert watch.fits(0, 3, 0)
    assert not watch.fits(0, 4, 0)
    assert not watch.fits(0, 0, 1)
    watch.before_call("decode", 3)
    with pytest.raises(OutOfTime):
        watch.before_call("track", 1)


def test_a_call_ends_where_the_next_one_begins(clock: Clock) -> None:
    watch = Stopwatch(deadline=1010)
    watch.before_call("encode", 1)
    clock.now += 3
    watch.before_call("decode", 1)
    clock.now += 1
    watch.end_call()
    assert (watch.pace.seconds("encode"), watch.pace.seconds("decode")) == (3, 1)


def test_what_is_kept_of_the_time_is_not_for_calls(clock: Clock) -> None:
    watch = Stopwatch(deadline=1010, kept=0.2)
    call(watch, clock, "decode", 4)
    assert watch.left == pytest.approx(4)
    assert Stopwatch(math.inf, kept=0.2).left == math.inf


def test_what_will_come_once_more_is_kept_time_for(clock: Clock) -> None:
    watch = Stopwatch(deadline=1010)
    with watch.keeping():
        clock.now += 3
    assert watch.left == 4


def test_no_call_fits_after_the_deadline(clock: Clock) -> None:
    with pytest.raises(OutOfTime):
        Stopwatch(deadline=999).before_call("encode", 1)


def test_whoever_cancels_is_asked_at_every_step() -> None:
    answers = iter([False, False, True])
    watch = Stopwatch(math.inf, lambda: next(answers))
    watch.check()
    watch.before_call("decode", 1)
    with pytest.raises(Cancelled):
        watch.before_call("decode", 1)


def test_whoever_wants_what_there_is_is_asked_at_every_step() -> None:
    answers = iter([False, False, True])
    watch = Stopwatch(math.inf, finish=lambda: next(answers))
    watch.check()
    watch.before_call("decode", 1)
    with pytest.raises(OutOfTime):
        watch.before_call("decode", 1)


def test_calls_always_fit_without_a_deadline(clock: Clock) -> None:
    watch = Stopwatch(deadline=math.inf)
    call(watch, clock, "decode", 1e9)
    watch.before_call("decode", 1)


class Walks:
    """Walks that take their time: a planner of their strides, and the rounds that they go."""

    def __init__(
        self, clock: Clock, slices: int, seconds: float, share: float = 1.0, encoded: int = 0
    ) -> None:
        """Plans a number of slices; there are so many seconds left, and encoded slices already."""
        self.clock = clock
        self.encoded = encoded
        self.progress = Progress()
        self.progress.plan(slices)
        self.stopwatch = Stopwatch(clock.now + seconds)
        self.planner = StridePlanner(self.stopwatch, share, self.progress, lambda: self.encoded)

    def go(self, seconds: float, slices: int = 1, encode: int = 0, encoding: float = 0) -> int:
        """Goes a round that takes so long, for encoding too; returns the stride of the next one."""
        self.clock.now += seconds
        if encode:
            self.encoded += encode
            self.stopwatch.pace.add("encode", encode, encoding)
        self.planner.end_round(slices)
        self.progress.finish(slices)
        return self.planner.stride(self.progress.left)

    def finish(self, seconds_per_slice: float) -> int:
        """Goes to the end, slice by slice as far as the strides allow; returns slices visited."""
        visited = 0
        while self.progress.left:
            stride = self.planner.stride(self.progress.left)
            self.clock.now += seconds_per_slice
            self.planner.end_round(1)
            self.progress.finish(stride)
            visited += 1
        return visited


def test_strides_make_walks_fit_into_their_share_of_the_time(clock: Clock) -> None:
    walks = Walks(clock, slices=102, seconds=110, share=0.5)
    # 5 a slice: half of the 100 left are enough for 10 of the 100 ahead.
    assert walks.go(10, slices=2) == 10


def test_strides_are_judged_anew_after_every_round(clock: Clock) -> None:
    walks = Walks(clock, slices=102, seconds=110, share=1.0)
    assert walks.go(20, slices=2) == 12  # 10 a slice, so that 90 are enough for 9 of 100
    assert walks.go(20, slices=2) == 14  # the same, 70 and 7 of 98
    assert walks.go(20, slices=28) == 3  # 60 for 32, so that 50 are enough for 26.7 of 70: 2.6


def test_slices_that_are_encoded_ahead_cost_time_too(clock: Clock) -> None:
    walks = Walks(clock, slices=101, seconds=60, encoded=7)
    # 2 a slice to encode, and nothing else, so that the 50 left are enough for 25 of 100.
    assert walks.go(10, encode=5, encoding=10) == 4


def test_only_encoding_is_cheaper_for_slices_that_are_encoded_ahead(clock: Clock) -> None:
    walks = Walks(clock, slices=101, seconds=60)
    # 1 a slice to encode and 5 to decode, so that the 50 left are enough for 8.3 of 100.
    assert walks.go(10, encode=5, encoding=5) == 12


def test_classes_that_share_slices_share_what_encoding_them_costs(clock: Clock) -> None:
    walks = Walks(clock, slices=102, seconds=60)
    # Two classes on one slice: 10 for two, so that the 50 left are enough for 10 of 100.
    assert walks.go(10, slices=2, encode=1, encoding=8) == 10


def test_slices_are_filled_in_while_the_share_of_the_time_lasts(clock: Clock) -> None:
    walks = Walks(clock, slices=10, seconds=100, share=0.3)
    clock.now += 29
    assert walks.planner.has_time()
    clock.now += 2
    assert not walks.planner.has_time()


def test_a_hiccup_steps_over_nothing(clock: Clock) -> None:
    # A tenth of a second of twelve, before the first of slices that take a hundredth.
    walks = Walks(clock, slices=208, seconds=12, share=0.3)
    clock.now += 0.1
    assert walks.finish(0.01) == 208


@pytest.mark.parametrize("at", [0, 1, 5, 100, 199])
def test_a_second_lost_at_any_time_steps_over_nothing_where_there_are_ten(
    at: int, clock: Clock
) -> None:
    walks = Walks(clock, slices=200, seconds=12, share=0.3)
    for n in range(200):
        assert walks.go(1.01 if n == at else 0.01) <= 1


@pytest.mark.parametrize("seconds_per_slice", [0.03, 0.1, 0.5, 1.9])
def test_slow_slices_are_stepped_over_and_the_walks_end_in_time(
    seconds_per_slice: float, clock: Clock
) -> None:
    walks = Walks(clock, slices=400, seconds=10, share=0.9)
    deadline = clock.now + 10
    visited = walks.finish(seconds_per_slice)
    assert visited < 400
    assert clock.now <= deadline
    # At least half of the slices that there was time for.
    assert visited >= 0.5 * 9 / seconds_per_slice


def test_every_slice_is_visited_while_there_is_time(clock: Clock) -> None:
    walks = Walks(clock, slices=101, seconds=1010)
    assert walks.go(10) == 1  # 100 slices of 10 just fit


@pytest.mark.parametrize("spent", [0, 10])
def test_without_a_deadline_every_slice_is_visited(clock: Clock, spent: float) -> None:
    walks = Walks(clock, slices=1000, seconds=math.inf, share=0.5)
    assert walks.go(spent) == 1


def test_a_walk_of_which_no_further_slice_fits_steps_over_all(clock: Clock) -> None:
    assert Walks(clock, slices=31, seconds=10).go(9) == 30


def test_the_one_slice_that_is_left_is_visited(clock: Clock) -> None:
    walks = Walks(clock, slices=2, seconds=10)
    assert walks.go(9.5) == 1

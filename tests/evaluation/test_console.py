"""What is told while an evaluation is at work, and of its plan."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from evaluation import console
from evaluation.console import describe_plan, describe_seconds, log_merged, progress_bar
from evaluation.plan import Plan
from evaluation.records import METRICS, TeamFolder
from evaluation.run import Progress
from evaluation.shards import Merged, Shard


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr(console, "time", one)
    return one


def make_progress(done: int, ended: int, share: float) -> Progress:
    return Progress(
        100, done=done, todo=80, ended=ended, ended_share=share, sums=[0.5] * len(METRICS)
    )


def tell(clock: Clock, show: Callable[[Progress], None], seconds: float, of: Progress) -> None:
    clock.now += seconds
    show(of)


def test_without_a_terminal_a_line_says_every_few_minutes_how_far_it_is(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "gamt"), progress_bar("team", shown=False) as show:
        tell(clock, show, 10.0, make_progress(21, 1, 0.01))
        assert not caplog.messages
        tell(clock, show, 290.0, make_progress(30, 10, 0.25))
        tell(clock, show, 10.0, make_progress(31, 11, 0.26))
    # 10 cases in 300 s; a quarter of the work took them, so three quarters take 900 s.
    assert caplog.messages == ["team: 30 of 100 cases, 2.0 a minute, 15 min left"]


def test_at_the_end_nothing_more_is_told(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gamt"), progress_bar("team", shown=False) as show:
        tell(clock, show, 900.0, make_progress(100, 80, 1.0))
    assert not caplog.messages


def test_the_bar_shows_cases_rate_time_left_and_means(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(console, "Console", lambda stderr: terminal)
    with progress_bar("team", shown=True) as show:
        tell(clock, show, 0.0, make_progress(20, 0, 0.0))
        tell(clock, show, 300.0, make_progress(30, 10, 0.25))
    shown = screen.getvalue()
    assert "30/100, 2.0 a minute, 15 min left" in shown
    assert " 25%" in shown
    # A sum of 0.5 over 30 cases.
    assert "DSC AUC 0.017" in shown


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5999, "100 min"), (36000, "10.0 h")],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, expected: str) -> None:
    assert describe_seconds(seconds) == expected


def test_a_plan_is_a_table() -> None:
    plan = Plan(
        total=1200,
        done=200,
        measured=12,
        seconds_a_case=12.3456,
        seconds_an_interaction=2.0576,
        seconds=36_000.0,
        wall_seconds={1: 36_000.0, 4: 9_000.0},
        result_bytes=3_000_000,
        work_bytes=20_000,
        case_bytes=1_000_000,
        traffic_bytes=9_000_000,
    )
    assert describe_plan(plan, gpu=False) == [
        "cases           1,200: 200 done, 1,000 to do",
        "measured        12 cases: 12.3 s a case, 2.06 s an interaction",
        "to do           10.0 h of one worker",
        "with 1 worker   10.0 h",
        "with 4 workers  2.5 h",
        "disk            3.0 MB for results",
        "                20.0 kB a worker while it is at work",
        "network         1.0 MB read, cases",
        "                9.0 MB written, work folders and results",
        "with --collect  1.0 MB out, 3.0 MB back, through this machine; nothing else",
    ]
    assert "to do           10.0 h of one GPU" in describe_plan(plan, gpu=True)


def test_missing_cases_are_told_by_shard_and_no_more_than_a_line_holds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    many = [f"CT_{number:02}.npz" for number in range(12)]
    missing = {Shard(1, 3): ["MR_a.npz"], Shard(2, 3): many}
    log_merged(Merged(TeamFolder(Path("out/team")), 5, 30, missing, [Shard(3, 3)]))
    assert caplog.messages == [
        "out/team: shard 3/3 is at work: nothing merged",
        "shard 1/3: 1 cases missing: MR_a.npz",
        f"shard 2/3: 12 cases missing: {', '.join(many[:10])} and 2 more",
    ]

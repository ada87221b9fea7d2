"""Segmenters that are slow or fail, and killed commands: a short slice of `make faults`."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fault_kills import (
    Counts,
    Target,
    Trial,
    TrialRun,
    draw_trials,
    kill_bars,
    measure,
    prepare,
    read_files,
    run_trial,
)
from benchmarks.fault_segmenters import (
    FAULTS,
    SHAPE,
    Asked,
    FaultRun,
    fault_bars,
    healthy_results,
    run_fault,
)
from benchmarks.fault_times import (
    LAWS,
    SCENES,
    Plan,
    TimedRun,
    clicked,
    clicks_by_share,
    draw_plan,
    measure_need,
    run_plan,
    steady,
    time_bars,
)
from gamt.axes import Plane, slice_shape
from gamt.prompts import SlicePrompt

ON_TIME = TimedRun(
    Plan(0, scene=0, law=0, share=1.5, seconds=5.0, steady=True),
    late=-0.2,
    call=0.0,
    begun_late=0,
    longest=0.1,
    dice=(0.99, 0.98, 0.99, 0.98),
    status="complete",
)


def test_a_run_of_a_seed_is_always_the_same() -> None:
    assert draw_plan(3, 14) == draw_plan(3, 14)
    assert draw_plan(3, 14) != draw_plan(4, 14)


def test_runs_meet_every_law_and_every_kind_of_scene() -> None:
    plans = [draw_plan(0, number) for number in range(200)]
    assert {plan.law for plan in plans} == set(range(len(LAWS)))
    assert {plan.planes for plan in plans} == {1, 2, 3}
    assert {plan.scene for plan in plans} == set(range(len(SCENES)))
    assert any(plan.reading > 0 for plan in plans)
    assert any(plan.starting > 0 for plan in plans)


@pytest.mark.parametrize(
    ("late", "call", "is_late"),
    [(0.4, 0.0, False), (0.6, 0.0, True), (2.9, 3.0, False), (3.1, 3.0, True)],
)
def test_a_run_may_be_late_by_the_call_at_work_or_by_half_a_second(
    late: float, call: float, is_late: bool
) -> None:
    assert replace(ON_TIME, late=late, call=call).is_late is is_late


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, 0),
        ({"late": 0.7}, 1),
        ({"begun_late": 1}, 1),
        ({"problems": ("class 1 is empty",)}, 1),
        # The ellipsoids of the boxes have 0.86 on average.
        ({"dice": (0.6, 0.6, 0.6, 0.6)}, 1),
    ],
)
def test_each_bar_on_time_is_missed_by_what_it_is_about(
    changes: dict[str, object], missed: int
) -> None:
    run = replace(ON_TIME, **changes)  # type: ignore[arg-type]
    assert sum(bar.met is False for bar in time_bars([run])) == missed


def test_classes_that_begin_with_clicks_are_told_by_themselves() -> None:
    scene = next(n for n, (_, say) in enumerate(SCENES) if say is clicked)
    few, many = (
        replace(ON_TIME, plan=replace(ON_TIME.plan, scene=scene, share=share), dice=(score,))
        for share, score in ((0.3, 0.2), (1.5, 0.9))
    )
    assert clicks_by_share([few, ON_TIME, many]) == [(1.0, [0.9]), (0.25, [0.2])]


def test_more_time_that_finds_less_misses_the_bar_on_dice() -> None:
    less = replace(ON_TIME, plan=replace(ON_TIME.plan, share=0.3), dice=(0.99,) * 4)
    more = replace(ON_TIME, dice=(0.93,) * 4)
    missed = [bar.name for bar in time_bars([less, more]) if bar.met is False]
    assert missed == ["Mean Dice of flat phantoms, most time first"]


@pytest.mark.slow
def test_a_slow_segmenter_makes_no_case_late() -> None:
    plan = Plan(1, scene=7, law=LAWS.index(steady), share=0.1, seconds=3.0)
    run = run_plan(plan, measure_need(plan.scene))
    assert run.wrong == []
    assert "time" in run.status


def test_a_prompt_is_known_by_its_plane_and_class() -> None:
    rows, columns = slice_shape(SHAPE, Plane.CORONAL)
    low = SlicePrompt(box=(2, 3, columns / 3, rows / 3))
    high = SlicePrompt(points=np.array([[columns - 5.0, rows - 4.0]]), labels=np.array([1]))
    asked = Asked(0, [np.zeros((rows, columns))] * 2, (low, high), lambda: ())
    assert asked.plane is Plane.CORONAL
    assert [asked.label(index) for index in range(2)] == [1, 2]


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40


@pytest.mark.slow
def test_bodies_are_found_by_a_segmenter_without_fault() -> None:
    assert all(set(np.unique(labels)) == {0, 1, 2} for labels in healthy_results())


@pytest.mark.slow
def test_a_fault_is_told_and_changes_no_other_class_or_case() -> None:
    (number,) = (n for n, fault in enumerate(FAULTS) if fault.name == "decode: for class 1")
    assert run_fault(number).problems == ()


def test_a_fault_that_changes_a_healthy_case_misses_two_bars() -> None:
    problems = ("1_healthy: differs from the result alone",)
    found = fault_bars([FaultRun(0, ("complete",), ((1.0,),), problems)], [])
    assert [bar.met for bar in found] == [False, False, True]


@pytest.fixture(scope="module")
def predict(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """``gamt predict`` on three cases."""
    return measure(prepare(tmp_path_factory.mktemp("kills"))[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_predict_leaves_nothing_when_it_is_ended(number: signal.Signals, predict: Target) -> None:
    run = run_trial(Trial(int(number), predict, number, "reading", 0.5))
    assert run.problems == ()
    assert run.hit


def test_moments_are_spread_over_the_whole_time(tmp_path: Path) -> None:
    trials = draw_trials(prepare(tmp_path), Counts(), seed=0)
    killed = [one for one in trials if one.signal is signal.SIGKILL]
    shares = [one.share for one in killed if one.target.name.startswith("predict")]
    assert np.histogram(shares, bins=10, range=(0, 1))[0].tolist() == [5] * 10
    assert {one.when for one in killed} == {"at any time", "reading", "writing"}
    assert len(trials) == 90


def test_what_is_half_written_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "out" / "m.csv").write_text("CaseName,RunningTime_1,DSC_1\na,3.5,0.5\n")
    assert read_files(tmp_path) == {"out/case.npz": None, "out/m.csv": "CaseName,DSC_1\na,0.5\n"}


def test_a_trial_that_left_something_misses_its_bar(tmp_path: Path) -> None:
    trial = draw_trials(prepare(tmp_path), Counts(1, 0, 0, 0), seed=0)[0]
    runs = [TrialRun(trial, True, 0.1, 0, problems) for problems in ((), ("left .ab.partial",))]
    assert [bar.met for bar in kill_bars(runs[:1])] == [True, True]
    assert [bar.met for bar in kill_bars(runs)] == [False, True]


def test_trials_that_come_too_late_miss_their_bar(tmp_path: Path) -> None:
    trial = draw_trials(prepare(tmp_path), Counts(1, 0, 0, 0), seed=0)[0]
    runs = [TrialRun(trial, hit, 0.1, 0, ()) for hit in (True, False)]
    assert [bar.met for bar in kill_bars(runs)] == [True, False]

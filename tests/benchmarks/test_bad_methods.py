"""Bad methods: a short slice; `make faults` evaluates all of them."""

from pathlib import Path

import pytest

from benchmarks import bad_methods
from benchmarks.bad_methods import GOOD, METHODS, BadMethod, Bench, scored, silent

SLICE = (
    "another shape",
    "a pickle that runs code",
    "a link to the truth",
    "a pipe",
    "the input is a link",
    "its parent is killed",
    "late",
    "a grandchild",
    "broken once, then nothing",
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("name", SLICE)
def test_a_bad_method_is_scored_as_the_documents_say(bench: Bench, name: str) -> None:
    (method,) = (one for one in METHODS if one.name == name)
    assert bench.judge(method).complaints == ()


def test_there_are_at_least_60_of_different_names() -> None:
    assert len({one.name for one in METHODS}) == len(METHODS) >= 60


@pytest.mark.slow
def test_garbage_on_one_case_of_three_pays_no_more_than_nothing(bench: Bench) -> None:
    compared = bench.compare()
    assert len(compared) == 4
    assert all(even for _, even in compared)


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (scored("nothing", "true"), "expected ('written',)"),
        (silent("perfect", GOOD), "expected ('none',)"),
        (scored("half", GOOD, dice=0.5), "found Dice"),
        (silent("ends well", "true", "exit status 3"), "expected 'exit status 3'"),
        (BadMethod("vandal", f'{GOOD}; echo > "$F/victim/$N"', ("written",), (1.0,)), "of others"),
    ],
)
def test_what_is_not_as_expected_is_complained_of(
    bench: Bench, method: BadMethod, complaint: str
) -> None:
    assert complaint in "; ".join(bench.judge(method).complaints)


def test_a_method_that_is_judged_otherwise_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bad_methods, "METHODS", (scored("nothing", "true"),))
    assert bad_methods.main(["--only", "nothing"]) == 1
    assert "1 not as they should be" in capsys.readouterr().out

"""The comparison with a plain loop over transformers' own API, on a small model."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tracking
from benchmarks.models import CONFIGS
from benchmarks.tracking import Timed
from tests.small_trackers import small_sam2


@pytest.mark.slow
def test_both_ways_of_asking_get_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_model(name: str, folder: Path) -> None:
        assert name in CONFIGS
        small_sam2().save_pretrained(folder)

    monkeypatch.setattr(tracking, "write_model", write_model)
    arguments = ["--slices", "16", "--classes", "2", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["tracking", *arguments])
    assert tracking.main() == 0
    # Log-odds apart and slices encoded twice, by prompts and by memory.
    assert capsys.readouterr().out.count(" met ") == 4


@pytest.mark.parametrize(
    ("name", "whole", "verdicts"),
    [
        # Ours took 5 s, and the plain loop 50: less than 20 times as long.
        ("prompts", True, [True, True, False]),
        ("prompts", False, [True, True, None]),
        # By memory, both take the same steps.
        ("memory", True, [True, True]),
    ],
)
def test_how_much_faster_is_held_to_a_bar_by_prompts_of_the_whole_task_alone(
    name: str, whole: bool, verdicts: list[bool | None]
) -> None:
    logits = np.ones((6, 5, 32, 2, 2), np.float32)
    loop, ours = Timed(logits, 50, encoded=960), Timed(logits, 5, encoded=32)
    assert [one.met for one in tracking.hold(name, loop, ours, whole)] == verdicts


def test_other_answers_and_slices_encoded_twice_are_missed() -> None:
    loop = Timed(np.full((6, 5, 32, 2, 2), -2, np.float32), 50, encoded=960)
    ours = Timed(loop.logits + 0.01, 5, encoded=33)
    apart, twice = tracking.hold("memory", loop, ours, True)
    # 0.01 of 2, and one slice more than there are.
    assert (apart.measured, apart.met) == ("5.0e-03 of the greatest", False)
    assert (twice.measured, twice.met) == ("1", False)


def test_fewer_slices_than_walks_can_compare_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tracking", "--slices", "9"])
    with pytest.raises(SystemExit):
        tracking.main()
    assert "found 9, expected 16 or more" in capsys.readouterr().err

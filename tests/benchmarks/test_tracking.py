"""The comparison with a plain loop over transformers' own API, on a small model."""

import sys
from pathlib import Path

import pytest

from benchmarks import tracking
from tests.small_trackers import small_sam2


@pytest.mark.slow
def test_both_ways_of_asking_get_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_model(_name: str, folder: Path) -> None:
        small_sam2().save_pretrained(folder)

    monkeypatch.setattr(tracking, "write_model", write_model)
    arguments = ["--slices", "16", "--classes", "2", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["tracking", *arguments])
    assert tracking.main() == 0
    # Log-odds apart and slices encoded twice, by prompts and by memory.
    assert capsys.readouterr().out.count(" met ") == 4


def test_fewer_slices_than_walks_can_compare_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tracking", "--slices", "9"])
    with pytest.raises(SystemExit):
        tracking.main()
    assert "found 9, expected 16 or more" in capsys.readouterr().err

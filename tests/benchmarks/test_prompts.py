"""Prompts on drawn volumes: how they are drawn, measured, and held to their bars."""

import numpy as np
import pytest

from benchmarks import prompts
from benchmarks.prompts import (
    AGREED,
    PLAIN,
    TWO_BODIES,
    Score,
    draw_volume,
    is_cut_off,
    is_one_piece,
    main,
    prompt_bars,
    score_prompts,
)
from gamt.axes import Plane
from tests.doubles import block


def test_what_the_border_cuts_off_and_what_is_in_pieces_is_told() -> None:
    shape = (8, 9, 10)
    assert not is_cut_off(block(shape, slice(1, 7), slice(1, 8), slice(1, 9)))
    assert is_cut_off(block(shape, slice(1, 7), slice(1, 9), slice(1, 9)))
    diagonal = np.eye(4, dtype=np.bool_)
    assert is_one_piece(diagonal)
    diagonal[1, 1] = False
    assert not is_one_piece(diagonal)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_shapes_lie_inside_of_oblong_volumes(kind: str) -> None:
    volume = draw_volume(kind, 1, 0)
    assert len(set(volume.truth.shape)) == 3
    assert not is_cut_off(volume.truth)
    assert volume.truth.any()
    assert volume.image.shape == volume.truth.shape
    assert len(set(volume.spacing_mm)) == 3


def test_a_volume_whose_target_is_cut_off_gets_no_prompt() -> None:
    assert score_prompts("half space", 0, 0) == []


@pytest.mark.slow
def test_a_cuboid_is_found_from_each_prompt_and_in_every_order() -> None:
    scores = {one.prompt: one.dice for one in score_prompts("cuboid", 0, 0)}
    drawn = [
        f"{kind}, {plane.name.lower()}"
        for plane in Plane
        for kind in ("2-D box", "lasso", "scribble")
    ]
    assert set(scores) == {*drawn, "3-D box", "another order", AGREED}
    assert min(scores[prompt] for prompt in drawn) > 0.95
    assert scores["another order"] > 0.95
    assert scores[AGREED] > 0.98


@pytest.mark.slow
def test_the_second_of_two_bodies_is_clicked_away() -> None:
    (score,) = score_prompts(TWO_BODIES, 0, 0)
    assert score.dice > 0.9


def test_every_kind_of_prompt_is_held_to_its_bar() -> None:
    scores = [
        Score("a 0", "scribble", 0.99),
        Score("b 0", "scribble", 0.85),
        Score("a 0", "3-D box", 0.99),
        Score("b 0", "3-D box", 0.90),
        Score("two bodies 0", TWO_BODIES, 0.99),
        Score("two bodies 1", TWO_BODIES, 0.89),
        Score("a 0", "another order", 0.5),
    ]
    found = {bar.name: (bar.measured, bar.met) for bar in prompt_bars(scores)}
    assert found == {
        "scribble: mean Dice": ("0.920 (2 volumes)", False),
        "3-D box: mean Dice": ("0.945 (2 volumes)", True),
        "Negative click on the second of two bodies: least Dice": ("0.890 (two bodies 1)", False),
        "The same prompts in another order: mean Dice": ("0.500", False),
    }


def test_the_program_prints_what_went_wrong_and_its_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prompts, "print_bars", lambda title, bars, console: int(len(bars) == 1))
    assert main(["--kind", "half space", "--kind", TWO_BODIES, "--count", "1"]) == 1
    assert TWO_BODIES in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--count", "0"])

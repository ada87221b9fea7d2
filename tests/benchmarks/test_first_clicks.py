"""Clicks on drawn volumes: how they are measured, and held to their bars."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from benchmarks import first_clicks
from benchmarks.click_volumes import ClickVolume
from benchmarks.first_clicks import (
    Clicker,
    ClickScore,
    click_bars,
    correct,
    main,
    print_failures,
    print_kinds,
)


@pytest.fixture
def cube() -> ClickVolume:
    """A bright cuboid without noise, clicked in its middle."""
    truth = np.zeros((20, 24, 28), np.bool_)
    truth[6:14, 7:17, 8:20] = True
    image = np.where(truth, np.uint8(180), np.uint8(60))
    return ClickVolume("cube 0", "cube", image, truth, (10, 12, 14), (1.0, 1.0, 1.0))


def test_a_clean_cuboid_is_found_by_one_click_and_again_by_another(cube: ClickVolume) -> None:
    clicker = Clicker(cube)
    first = clicker.begin(cube.click)
    assert first > 0.9
    assert clicker.begin(cube.click) == first


class ThirdTimeLucky:
    """A session that finds everything brighter than 100 at the third click, and nothing before."""

    def __init__(self) -> None:
        self.clicks: list[tuple[tuple[int, int, int], bool]] = []

    def set_image(self, image: npt.NDArray[np.uint8], properties: Mapping[str, object]) -> None:
        self.image = image

    def set_target_buffer(self, buffer: npt.NDArray[np.uint8]) -> None:
        self.buffer = buffer

    def add_point_interaction(self, voxel: tuple[int, int, int], positive: bool) -> None:
        self.clicks.append((voxel, positive))
        if len(self.clicks) == 3:
            self.buffer[:] = self.image[0] > 100


def test_the_simulated_user_clicks_on_errors_until_there_is_none(
    cube: ClickVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ThirdTimeLucky()
    monkeypatch.setattr(first_clicks, "Session", lambda: session)
    assert correct(Clicker(cube)) == [0, 0, 1]
    assert all(positive and cube.truth[voxel] for voxel, positive in session.clicks)


def score(
    name: str,
    *dice: float,
    elsewhere: tuple[float, ...] = (),
    wrong: tuple[float, float] | None = None,
) -> ClickScore:
    return ClickScore(name, name.split(maxsplit=1)[0], 50, 100, dice, elsewhere, wrong)


def test_bars_are_held_by_all_volumes() -> None:
    found = click_bars([score("a 0", 0.99), score("b 0", 0.97, 0.99, 1.0)])
    assert [one.met for one in found] == [True] * 4
    assert found[1].measured == "0.970 (b 0)"


def test_one_bad_volume_and_one_bad_click_miss_their_bars() -> None:
    # The mean is 0.96. Of the two clicks that correct, one loses 0.04 and none over 0.05.
    mean, least, losing, much = click_bars([score("a 0", 1.0), score("b 0", 0.92, 0.88, 0.9)])
    assert mean.met
    assert least.met
    assert not losing.met
    assert losing.measured == "50.0% (1 of 2)"
    assert much.met
    found = click_bars([score("a 0", 0.79, 0.73)])
    assert [one.met for one in found] == [False] * 4


def test_without_a_correcting_click_there_is_no_bar_of_clicks_that_lose() -> None:
    mean, least = click_bars([score("a 0", 1.0)])
    assert mean.met
    assert least.met


def test_wrong_clicks_must_neither_halve_nor_double_a_mask() -> None:
    scores = [score("a 0", 1.0, wrong=(0.5, 2.1)), score("b 0", 1.0, wrong=(0.9, 1.0))]
    *_, kept, grown = click_bars([*scores, score("c 0", 1.0)])
    assert (kept.measured, kept.met) == ("0.500 (a 0)", True)
    assert (grown.measured, grown.met) == ("2.100 (a 0)", False)


def test_a_wrong_click_starts_from_the_true_mask(cube: ClickVolume) -> None:
    clicker = Clicker(cube)
    assert clicker.spoil((0, 0, 0), positive=False) == 1
    assert clicker.spoil(cube.click, positive=True) == 1


def test_a_kinds_row_has_its_spread_over_places_and_what_correcting_gave(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = [score("a 0", 0.5, 0.7, 0.8, elsewhere=(0.9, 0.6)), score("a 1", 0.7)]
    print_kinds(scores, Console(width=120))
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ a"))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["a", "2", "0.600", "0.500", "0.500", "0.800", "0.400"]


def test_a_kind_of_which_none_was_corrected_has_its_first_clicks_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_kinds([score("a 0", 0.5)], Console(width=120))
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ a"))
    assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == ["1", "0.500"]
    assert row.count("–") == 3


def test_volumes_below_the_bar_and_clicks_that_lose_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = [score("a 0", 0.5), score("b 0", 0.9), score("c 0", 0.9, 0.95, 0.8)]
    scores.append(score("d 0", 0.9, wrong=(0.25, 3.5)))
    print_failures(scores, Console(width=120))
    assert capsys.readouterr().out.splitlines() == [
        "a 0: Dice 0.500, 50 voxels of 100",
        "c 0, click 3: Dice 0.950 -> 0.800",
        "d 0, wrong click inside: 0.25 of the volume left",
        "d 0, wrong click beside: 3.50 times the volume",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "unheard"], "invalid choice: 'unheard'"),
        (["--count", "0"], "--count: found 0, expected 1 or more"),
        (["--followed", "-1"], "--followed: found -1, expected 0 or more"),
        (["--workers", "0"], "--workers: found 0, expected 1 or more"),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err

"""The scribbles that are measured: drawn as users draw, within the target."""

import numpy as np
import pytest
from rich.console import Console

from benchmarks.scribbles import ScribbleScore, draw_scribble, draw_stroke, main, print_scores
from gamt.axes import Plane
from tests.doubles import block

SHAPE = (9, 30, 40)
BLOCK = block(SHAPE, slice(2, 7), slice(5, 25), slice(4, 36))


@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("seed", range(4))
def test_a_scribble_lies_in_the_middle_slice_of_the_target(plane: Plane, seed: int) -> None:
    scribble = draw_scribble(BLOCK, plane, np.random.default_rng(seed))
    assert scribble.positive
    assert BLOCK[tuple(scribble.voxels.T)].all()
    assert set(scribble.voxels[:, plane.normal].tolist()) == {(4, 15, 20)[plane.normal]}


@pytest.mark.parametrize("seed", range(8))
def test_a_stroke_is_a_line_along_the_sections_longest_direction(seed: int) -> None:
    section = BLOCK[4]  # 20 x 32 pixels
    stroke = draw_stroke(section, np.random.default_rng(seed))
    columns = np.flatnonzero(stroke.any(axis=0))
    # 30 to 70 % of the columns, give or take the hand and the stroke's thickness.
    assert 0.3 * 32 - 6 < np.ptp(columns) < 0.7 * 32 + 10
    assert stroke.sum() < 0.5 * section.sum()


def test_the_thinnest_section_has_a_stroke() -> None:
    section = np.zeros((5, 6), np.bool_)
    section[2, 3] = True
    np.testing.assert_array_equal(draw_stroke(section, np.random.default_rng(0)), section)


def test_scores_are_printed_by_kind_and_plane() -> None:
    scores = [
        ScribbleScore("slab 0", "slab", Plane.AXIAL, 0.9),
        ScribbleScore("slab 0", "slab", Plane.CORONAL, 0.8),
        ScribbleScore("core 0", "core", Plane.SAGITTAL, 1.0),
    ]
    console = Console(record=True, width=100)
    print_scores(scores, console)
    rows = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    assert ["slab", "2", "0.850", "0.800"] in rows
    assert ["sagittal", "1", "1.000", "1.000"] in rows
    assert ["all", "3", "0.900", "0.800"] in rows


def test_one_volume_is_measured_in_all_planes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--kind", "tiny", "--count", "1"])
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["tiny", "3", "1.000", "1.000"] in rows


def test_a_count_below_one_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--count", "0"])
    assert "--count: found 0, expected 1 or more" in capsys.readouterr().err

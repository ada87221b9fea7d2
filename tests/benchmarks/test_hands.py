"""How hands draw: within what they mean, or about as large as that."""

import numpy as np
import pytest

from benchmarks.hands import draw_area, draw_stroke
from gamt.axes import Plane
from gamt.interactions import read_lasso
from tests.doubles import block

SECTION = block((1, 40, 44), slice(0, 1), slice(8, 30), slice(10, 36))[0]


def test_a_hand_strays_by_two_voxels_at_most() -> None:
    drawn = [draw_area(SECTION, np.random.default_rng(seed)) for seed in range(20)]
    inner, outer = np.zeros_like(SECTION), np.zeros_like(SECTION)
    inner[10:28, 12:34] = True
    outer[6:32, 8:38] = True
    assert all((one & ~outer).sum() == 0 for one in drawn)
    assert all((inner & ~one).sum() == 0 for one in drawn)
    areas = [one.sum() for one in drawn]
    assert min(areas) < SECTION.sum() < max(areas)


def test_a_hand_draws_what_it_would_leave_nothing_of() -> None:
    speck = np.zeros((9, 9), np.bool_)
    speck[4, 4] = True
    drawn = [draw_area(speck, np.random.default_rng(seed)) for seed in range(20)]
    assert all(one.any() for one in drawn)


def test_a_hands_lasso_is_one_that_a_session_takes() -> None:
    drawn = draw_area(SECTION, np.random.default_rng(1))
    lasso = read_lasso(drawn[None], None, (1, 40, 44))
    assert lasso.plane is Plane.AXIAL
    assert lasso.mask.sum() == drawn.sum()


@pytest.mark.parametrize("seed", range(8))
def test_a_stroke_is_a_line_along_the_sections_longest_direction(seed: int) -> None:
    section = SECTION  # 22 x 26 pixels
    stroke = draw_stroke(section, np.random.default_rng(seed))
    columns = np.flatnonzero(stroke.any(axis=0))
    # 30 to 70 % of the columns, give or take the hand and the stroke's thickness.
    assert 0.3 * 26 - 6 < np.ptp(columns) < 0.7 * 26 + 10
    assert stroke.sum() < 0.5 * section.sum()


def test_the_thinnest_section_has_a_stroke() -> None:
    section = np.zeros((5, 6), np.bool_)
    section[2, 3] = True
    np.testing.assert_array_equal(draw_stroke(section, np.random.default_rng(0)), section)


@pytest.mark.parametrize("seed", range(8))
def test_a_stroke_stays_in_a_section_with_a_hole(seed: int) -> None:
    ring = SECTION & ~np.pad(np.ones((6, 10), np.bool_), ((16, 18), (18, 16)))
    stroke = draw_stroke(ring, np.random.default_rng(seed))
    assert stroke.any()
    assert not (stroke & ~ring).any()

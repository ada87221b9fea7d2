"""Which slices of the other planes a target needs, by the paper's rule."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane
from gamt.lifting.views import fullest, projected_range, runs, widen

# One axial slice of 5 x 11 pixels; column x holds HEIGHTS[x] of them, from the first row on.
HEIGHTS = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]
HILL = (np.arange(5)[:, None] < np.array(HEIGHTS))[None]


@pytest.mark.parametrize(
    ("percentile", "expected"),
    [
        # The sums in order are 0 0 1 1 2 2 3 3 4 4 5: percentile 10 n is entry n.
        (90, [5]),  # more than 4
        (50, [3, 4, 5, 6, 7]),  # more than 2
        (0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # all that is not empty
        (100, []),  # nothing is more than the most
    ],
)
def test_sagittal_slices_whose_sum_exceeds_the_percentile(
    percentile: float, expected: list[int]
) -> None:
    selected = projected_range(HILL, Plane.SAGITTAL, percentile)
    assert selected.shape == (11,)
    assert np.flatnonzero(selected).tolist() == expected


@pytest.mark.parametrize(
    ("percentile", "expected"),
    [
        # Row y holds the columns higher than y: 9, 7, 5, 3 and 1 of them. Percentile 75 is 7.
        (75, [0]),
        (25, [0, 1, 2]),
        (0, [0, 1, 2, 3, 4]),
    ],
)
def test_coronal_slices_whose_sum_exceeds_the_percentile(
    percentile: float, expected: list[int]
) -> None:
    selected = projected_range(HILL, Plane.CORONAL, percentile)
    assert selected.shape == (5,)
    assert np.flatnonzero(selected).tolist() == expected


def test_every_axial_mask_of_a_target_that_bends_away_counts() -> None:
    # A slice is judged by its own sums: of ten zeros and a 2, the 2 exceeds percentile 90, entry 9.
    # Against the sums of both slices together (entry 18.9 of 22 is 3.9) it would be lost.
    masks = np.concatenate([HILL, np.zeros_like(HILL)])
    masks[1, :2, 8] = True
    assert np.flatnonzero(projected_range(masks, Plane.SAGITTAL, 90)).tolist() == [5, 8]


@pytest.mark.parametrize("plane", [Plane.CORONAL, Plane.SAGITTAL])
def test_percentile_zero_keeps_a_target_from_border_to_border(plane: Plane) -> None:
    assert projected_range(np.ones((2, 3, 4), np.bool_), plane, 0).all()


@given(seed=st.integers(0, 999), plane=st.sampled_from([Plane.CORONAL, Plane.SAGITTAL]))
def test_percentile_zero_selects_exactly_the_support(seed: int, plane: Plane) -> None:
    masks = np.random.default_rng(seed).random((3, 4, 5)) < 0.1
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    np.testing.assert_array_equal(projected_range(masks, plane, 0), masks.any(axis=others))


@pytest.mark.parametrize("percentile", [0, 90])
def test_nothing_selects_nothing(percentile: float) -> None:
    assert not projected_range(np.zeros((3, 4, 5), np.bool_), Plane.CORONAL, percentile).any()


def test_runs_by_hand() -> None:
    selected = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1], np.bool_)
    assert runs(selected) == [range(0, 2), range(4, 5), range(6, 9)]


@given(listed=st.lists(st.booleans(), max_size=20))
def test_runs_are_unbroken_and_hold_the_selection(listed: list[bool]) -> None:
    found = runs(np.array(listed, np.bool_))
    assert [n for run in found for n in run] == [n for n, chosen in enumerate(listed) if chosen]
    assert all(len(run) > 0 for run in found)
    assert all(a.stop < b.start for a, b in pairwise(found))


def test_fullest_counts_the_target_in_each_slice() -> None:
    # The columns hold 0 1 2 3 4 5 .. pixels: of 1..4 the last one holds most, of all the middle.
    assert fullest(HILL, Plane.SAGITTAL, range(1, 5)) == 4
    assert fullest(HILL, Plane.SAGITTAL, range(11)) == 5
    assert fullest(HILL, Plane.CORONAL, [2, 3, 4]) == 2


def test_fullest_of_equals_is_the_one_in_the_middle() -> None:
    assert fullest(np.ones((3, 4, 9), np.bool_), Plane.SAGITTAL, range(2, 7)) == 4
    assert fullest(np.ones((3, 4, 9), np.bool_), Plane.AXIAL, [0, 1, 2]) == 1


def test_widen_adds_a_share_of_each_side_and_a_pixel() -> None:
    # A quarter of 20 columns is 5, of 40 rows 10; and one pixel for boxes of no size.
    assert widen((10, 20, 30, 60), 0.25, (100, 100)) == (4, 9, 36, 71)


def test_widen_takes_in_the_pixels_that_it_cuts() -> None:
    # A tenth of 5 is 0.5: 10 - 1.5 and 15 + 1.5 cut the pixels 8 and 16.
    assert widen((10, 10, 15, 15), 0.1, (100, 100)) == (8, 8, 17, 17)


def test_widen_ends_at_the_borders_of_the_slice() -> None:
    # 65 rows and 33 columns.
    assert widen((2, 3, 30, 60), 0.25, (65, 33)) == (0, 0, 33, 65)

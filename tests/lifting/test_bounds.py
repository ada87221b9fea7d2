"""One click changes one piece, no more than it can tell, and nothing that is spoken for."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane
from gamt.lifting.bounds import forbid, most_changed, piece_at
from gamt.lifting.target import Target
from gamt.prompts import Box, ClassPrompts, Click, SliceBox
from tests.doubles import Mask, Thresholder, block, make_case, make_target, picture

SHAPE = (9, 14, 18)
BODY = block(SHAPE, slice(2, 7), slice(4, 10), slice(5, 13))  # 5 * 6 * 8 = 240 voxels


def target_of(*prompts: ClassPrompts) -> Target:
    previous = BODY.astype(np.uint8)
    return make_target(make_case(picture(BODY), *prompts, previous=previous), Thresholder())


def ruled_out(target: Target, click: Click, low: tuple[int, int, int] = (0, 0, 0)) -> Mask:
    """Returns what is forbidden in a volume of the full size that begins at `low`."""
    odds = np.zeros(np.subtract(SHAPE, low), np.float32)
    forbid(target, click, list(low), odds)
    return np.isneginf(odds)


# --- how much -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positive", "ball", "expected"),
    [(False, 20, 120), (False, 1000, 120), (True, 20, 240), (True, 1000, 1000)],
)
def test_a_click_halves_a_mask_or_doubles_it_or_fills_its_ball(
    positive: bool, ball: float, expected: float
) -> None:
    assert most_changed(BODY, Click(0, 0, 0, positive), ball) == expected


def test_an_empty_mask_gets_the_clicked_voxel_alone() -> None:
    assert most_changed(np.zeros(SHAPE, np.bool_), Click(0, 0, 0, positive=True), 1000) == 1


# --- one piece ----------------------------------------------------------------------------------


def line(*odds: float) -> npt.NDArray[np.float32]:
    return np.array([[odds]], np.float32)


def changed(odds: npt.NDArray[np.float32], seed: int, most: float) -> list[int]:
    return np.flatnonzero(piece_at(odds, np.array([[0, 0, seed]]), most)).tolist()


def test_the_likely_voxels_around_the_seed_are_one_piece() -> None:
    assert changed(line(1, -1, 2, 3, 0.5, -2, 4), 3, most=9) == [2, 3, 4]


def test_the_seed_belongs_to_its_piece_whatever_its_odds() -> None:
    assert changed(line(1, 1, -np.inf, 1, -1), 2, most=9) == [0, 1, 2, 3]


def test_of_too_large_a_piece_the_likeliest_voxels_around_the_seed_are_left() -> None:
    assert changed(line(0.3, 0.5, 3, 2, 0.7, 0.3), 3, most=4) == [1, 2, 3, 4]
    assert changed(line(0.3, 0.5, 3, 2, 0.7, 0.3), 3, most=3) == [2, 3, 4]


def test_what_is_cut_off_from_the_seed_is_left_out_however_likely() -> None:
    assert changed(line(9, 9, 0.3, 2, 1), 3, most=4) == [3, 4]


def test_the_seed_alone_is_never_too_much() -> None:
    assert changed(line(1, 1, 1), 1, most=0) == [1]


@given(seed=st.integers(0, 2**16), most=st.integers(0, 200))
def test_a_piece_is_never_larger_than_allowed(seed: int, most: int) -> None:
    odds = np.random.default_rng(seed).normal(1, 2, (4, 6, 8)).astype(np.float32)
    piece = piece_at(odds, np.array([[2, 3, 4]]), most)
    assert piece[2, 3, 4]
    assert piece.sum() <= max(1, most)


# --- what is spoken for -------------------------------------------------------------------------


def test_voxels_of_clicks_for_the_other_side_are_left_alone() -> None:
    mine = ClassPrompts(1, None, (Click(3, 5, 6, positive=True), Click(3, 7, 9, positive=False)))
    other = ClassPrompts(2, None, (Click(0, 1, 2, positive=True), Click(8, 8, 8, positive=False)))
    target = target_of(mine, other)
    adding = ruled_out(target, Click(1, 1, 1, positive=True))
    assert np.argwhere(adding).tolist() == [[0, 1, 2], [3, 7, 9]]
    removing = ruled_out(target, Click(4, 5, 6, positive=False))
    assert np.argwhere(removing).tolist() == [[3, 5, 6]]


def test_voxels_are_counted_from_where_the_odds_begin() -> None:
    target = target_of(ClassPrompts(1, None, (Click(3, 5, 6, positive=True),)))
    removing = ruled_out(target, Click(4, 5, 6, positive=False), low=(2, 3, 1))
    assert np.argwhere(removing).tolist() == [[1, 2, 5]]
    assert not ruled_out(target, Click(4, 5, 6, positive=False), low=(4, 3, 1)).any()


BOX = Box(2, 7, 4, 4, 10, 5, 13)
BESIDE = ~block(SHAPE, slice(None), slice(4, 10), slice(5, 13))


@pytest.mark.parametrize("low", [(0, 0, 0), (3, 5, 6), (4, 0, 14)])
def test_nothing_is_added_where_the_box_says_that_there_is_no_target(
    low: tuple[int, int, int],
) -> None:
    expected = np.zeros(SHAPE, np.bool_)
    expected[:2] = expected[7:] = True
    expected[4] |= BESIDE[4]
    forbidden = ruled_out(target_of(ClassPrompts(1, BOX)), Click(5, 2, 7, positive=True), low)
    np.testing.assert_array_equal(forbidden, expected[tuple(slice(n, None) for n in low)])


@pytest.mark.parametrize("plane", Plane)
def test_nothing_is_added_beside_a_box_on_its_slice(plane: Plane) -> None:
    low, high = [2, 4, 5], [7, 10, 13]
    low[plane.normal], high[plane.normal] = 6, 7
    box = SliceBox(plane, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
    layer = (slice(None),) * plane.normal + (6,)
    expected = np.zeros(SHAPE, np.bool_)
    expected[layer] = True
    expected[box.within()] = False
    target = target_of(ClassPrompts(1, None, slice_box=box))
    click = Click(5, 5, 5, positive=True)
    np.testing.assert_array_equal(ruled_out(target, click), expected)
    np.testing.assert_array_equal(ruled_out(target, click, (3, 2, 1)), expected[3:, 2:, 1:])


@pytest.mark.parametrize(
    ("click", "kept"),
    [
        # Beyond the box's slices: only beside the box nothing is added.
        (
            Click(8, 5, 6, positive=True),
            BESIDE & block(SHAPE, slice(4, 5), slice(None), slice(None)),
        ),
        # Beside the box, on its slice: only beyond its slices nothing is added.
        (Click(4, 1, 6, positive=True), ~block(SHAPE, slice(2, 7), slice(None), slice(None))),
    ],
)
def test_a_click_takes_back_what_the_box_says_of_its_place(click: Click, kept: Mask) -> None:
    np.testing.assert_array_equal(ruled_out(target_of(ClassPrompts(1, BOX)), click), kept)


def test_a_box_keeps_nothing_from_being_removed() -> None:
    assert not ruled_out(target_of(ClassPrompts(1, BOX)), Click(4, 5, 6, positive=False)).any()

"""One click changes one piece, no more than it can tell, and nothing that is spoken for."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane
from gamt.lifting.bounds import ClickedBody, clicked_body, forbid, most_changed, piece_at
from gamt.lifting.target import Target
from gamt.prompts import Box, ClassPrompts, Click, Lasso, Region, Scribble, SliceBox
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


def test_all_that_is_marked_belongs_to_the_piece_however_little_is_allowed() -> None:
    marked = np.array([[0, 0, 1], [0, 0, 2], [0, 0, 3]])
    piece = piece_at(line(1, -np.inf, 2, -1, 1, 3), marked, most=2)
    assert np.flatnonzero(piece).tolist() == [1, 2, 3]


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


def test_scribbles_for_the_other_side_are_left_alone() -> None:
    inside, outside = np.array([[3, 5, 6], [3, 5, 7]]), np.array([[1, 1, 1], [1, 1, 2]])
    mine = ClassPrompts(1, scribbles=(Scribble(inside, True), Scribble(outside, False)))
    other = ClassPrompts(2, scribbles=(Scribble(np.array([[8, 8, 8]]), True),))
    target = target_of(mine, other)
    adding = ruled_out(target, Click(4, 1, 1, positive=True), (1, 1, 2))
    # Counted from the voxel (1, 1, 2).
    assert np.argwhere(adding).tolist() == [[0, 0, 0], [7, 7, 6]]
    removing = ruled_out(target, Click(4, 5, 9, positive=False))
    assert np.argwhere(removing).tolist() == inside.tolist()


def test_a_region_for_the_other_side_is_left_alone_unless_the_click_lies_in_it() -> None:
    marked = block(SHAPE, *np.s_[2:4, 5:7, 6:9])
    region = Region((2, 5, 6), marked[2:4, 5:7, 6:9], positive=False)
    target = target_of(ClassPrompts(1, regions=(region,)))
    np.testing.assert_array_equal(ruled_out(target, Click(0, 5, 6, positive=True)), marked)
    assert not ruled_out(target, Click(3, 6, 8, positive=True)).any()
    assert not ruled_out(target, Click(5, 6, 8, positive=False)).any()


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


# --- bodies that lie apart ----------------------------------------------------------------------

TWO = (20, 16, 40)
FIRST = block(TWO, slice(4, 16), slice(3, 13), slice(3, 15))  # 12 * 10 * 12 = 1440 voxels
SECOND = block(TWO, slice(5, 15), slice(4, 12), slice(20, 36))  # 10 * 8 * 16 = 1280 voxels


def body_of(mask: Mask, voxel: tuple[int, int, int], prompts: ClassPrompts) -> ClickedBody:
    case = make_case(picture(mask), prompts, previous=mask.astype(np.uint8))
    return clicked_body(make_target(case, Thresholder()), mask, voxel)


def taken_away(mask: Mask, voxel: tuple[int, int, int], prompts: ClassPrompts) -> Mask | None:
    found = body_of(mask, voxel, prompts)
    if not found.goes_whole:
        return None
    whole = np.zeros(mask.shape, np.bool_)
    whole[found.part] = found.mask
    return whole


def test_a_click_in_its_middle_takes_a_body_that_lies_apart_from_a_larger_one() -> None:
    found = taken_away(FIRST | SECOND, (10, 8, 28), ClassPrompts(1))
    assert found is not None
    np.testing.assert_array_equal(found, SECOND)


def test_of_two_equal_bodies_either_goes_as_a_whole() -> None:
    twin = np.roll(FIRST, 20, axis=2)
    for body, voxel in ((FIRST, (10, 8, 9)), (twin, (10, 8, 29))):
        found = taken_away(FIRST | twin, voxel, ClassPrompts(1))
        assert found is not None
        np.testing.assert_array_equal(found, body)


def test_a_body_goes_as_a_whole_where_another_one_is_nearly_as_large() -> None:
    # The second has 0.89 of the first one's voxels.
    assert taken_away(FIRST | SECOND, (10, 8, 9), ClassPrompts(1)) is not None


def test_the_main_body_stays_and_so_does_the_only_one() -> None:
    small = block(TWO, slice(6, 14), slice(4, 12), slice(20, 36))  # 1024 voxels, 0.71 of the first
    assert taken_away(FIRST | small, (10, 8, 9), ClassPrompts(1)) is None
    assert taken_away(SECOND, (10, 8, 28), ClassPrompts(1)) is None


def test_a_click_beside_the_middle_of_a_body_is_about_an_error_at_the_body() -> None:
    # A body of 16 * 16 * 20 voxels, eight deep in the middle: 0.79 of that is between 6 and 7.
    deep = block((22, 22, 60), slice(3, 19), slice(3, 19), slice(36, 56))
    rest = block((22, 22, 60), slice(1, 21), slice(1, 21), slice(2, 30))
    assert taken_away(rest | deep, (10, 8, 45), ClassPrompts(1)) is None  # six deep
    assert taken_away(rest | deep, (10, 9, 45), ClassPrompts(1)) is not None


AREA = SECOND[10, 4:12, 20:36]
LOW, HIGH = (10, 4, 20), (11, 12, 36)


@pytest.mark.parametrize(
    "prompts",
    [
        ClassPrompts(1, clicks=(Click(12, 10, 33, positive=True),)),
        ClassPrompts(1, scribbles=(Scribble(np.array([[12, 10, 33]]), positive=True),)),
        ClassPrompts(1, regions=(Region((12, 10, 33), np.ones((1, 1, 1), np.bool_), True),)),
        ClassPrompts(1, Box(5, 15, 10, 4, 12, 20, 36)),
        ClassPrompts(1, slice_box=SliceBox(Plane.AXIAL, LOW, HIGH)),
        ClassPrompts(1, slice_box=Lasso(Plane.AXIAL, LOW, HIGH, AREA)),
        ClassPrompts(1, parts=(Box(4, 16, 9, 3, 13, 3, 15), SliceBox(Plane.AXIAL, LOW, HIGH))),
    ],
    ids=["click", "scribble", "region", "box", "2-D box", "lasso", "one of two boxes"],
)
def test_a_body_that_a_prompt_says_is_the_target_stays(prompts: ClassPrompts) -> None:
    found = body_of(FIRST | SECOND, (10, 8, 28), prompts)
    assert found.is_meant
    assert not found.goes_whole


def test_a_box_that_has_more_of_another_body_says_nothing_of_this_one() -> None:
    # It holds both: 1440 voxels of the first, 1280 of the second.
    prompts = ClassPrompts(1, Box(4, 16, 10, 3, 13, 3, 36))
    assert taken_away(FIRST | SECOND, (10, 8, 28), prompts) is not None

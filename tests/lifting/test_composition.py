"""One target out of several boxes and lassos, each lifted by itself."""

import itertools

import numpy as np
import pytest

from gamt.axes import Plane
from gamt.lifting.bodies import Part
from gamt.lifting.composition import Extent, compose
from gamt.prompts import Box, Lasso, SliceBox
from tests.doubles import Mask, block

SHAPE = (20, 22, 24)
SPACING_MM = (2.0, 1.0, 1.0)
NOTHING = np.zeros(SHAPE, np.bool_)


def extent(drawn: Box | SliceBox, found: Mask) -> Extent:
    return Extent(drawn, Part.tight((0, 0, 0), found) if found.any() else None)


def axial(z: int, y: tuple[int, int], x: tuple[int, int]) -> SliceBox:
    return SliceBox(Plane.AXIAL, (z, y[0], x[0]), (z + 1, y[1], x[1]))


def body(z: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> Mask:
    return block(SHAPE, slice(*z), slice(*y), slice(*x))


def test_a_target_is_what_any_extent_found_and_what_it_began_with() -> None:
    one, other = body((2, 8), (2, 8), (2, 8)), body((10, 16), (10, 18), (10, 20))
    initial = body((0, 1), (0, 1), (0, 1))
    extents = [
        extent(axial(4, (2, 8), (2, 8)), one),
        extent(Box(10, 16, 13, 10, 18, 10, 20), other),
        extent(axial(18, (0, 2), (0, 2)), NOTHING),
    ]
    for order in itertools.permutations(extents):
        target = compose(order, initial, SPACING_MM)
        np.testing.assert_array_equal(target, one | other | initial)
    assert initial.sum() == 1


def test_parallel_sections_are_each_followed_half_way_to_the_next() -> None:
    # Both find a column through all slices, the first one wider than it was drawn on slice 14.
    wide, narrow = body((0, 20), (5, 15), (5, 15)), body((0, 20), (6, 14), (6, 14))
    extents = [
        extent(axial(5, (5, 15), (5, 15)), wide),
        extent(axial(14, (6, 14), (6, 14)), narrow),
    ]
    expected = wide.copy()
    expected[10:] = narrow[10:]  # slice 9.5 is half way
    for order in (extents, extents[::-1]):
        np.testing.assert_array_equal(compose(order, NOTHING, SPACING_MM), expected)


def test_beyond_a_parallel_section_what_it_did_not_find_is_left_out() -> None:
    long, short = body((0, 20), (5, 15), (5, 15)), body((0, 16), (5, 15), (5, 15))
    extents = [
        extent(axial(5, (5, 15), (5, 15)), long),
        extent(axial(14, (5, 15), (5, 15)), short),
    ]
    np.testing.assert_array_equal(compose(extents, NOTHING, SPACING_MM), short)


def test_slices_that_cross_are_as_near_as_millimetres_say() -> None:
    # One finds too much to the right, which the other one's slice shows. Half of the weight is
    # nearer to that slice: of voxels 8 + a on z and 7 + b on y, those with 2 (a + 1) < b + 1.
    # The other one ends a slice too early, so that neither has both sections better.
    leaking = body((5, 12), (5, 12), (5, 12)) | body((5, 12), (8, 12), (0, 20))
    found = body((5, 11), (5, 12), (5, 12))
    extents = [
        extent(SliceBox(Plane.CORONAL, (5, 7, 5), (12, 8, 12)), leaking),
        extent(axial(8, (5, 12), (5, 12)), found),
    ]
    target = compose(extents, NOTHING, SPACING_MM)
    assert target[found].all()
    assert not target[8, :, 12:].any()  # on the slice itself, whatever is nearer
    assert target[9, 8, 19]
    assert target[9, 10, 19]  # 2 * 2 = 3 + 1: as near
    assert not target[9, 11, 12:].any()  # 2 * 2 < 4 + 1


@pytest.mark.parametrize("kind", ["box", "lasso"])
def test_a_look_that_another_one_betters_on_every_section_has_no_vote(kind: str) -> None:
    # It leaks on its own slice, where the other one ends where the section does; that one's it has.
    leaking = body((5, 12), (5, 12), (5, 12)) | body((9, 12), (5, 12), (12, 14))
    found = body((5, 12), (5, 12), (5, 12))
    sections = [axial(10, (5, 12), (5, 12)), axial(6, (5, 12), (5, 12))]
    if kind == "lasso":
        area = np.ones((7, 7), np.bool_)
        sections = [Lasso(one.plane, one.low, one.high, area) for one in sections]
    extents = [extent(sections[0], leaking), extent(sections[1], found)]
    for order in (extents, extents[::-1]):
        np.testing.assert_array_equal(compose(order, NOTHING, SPACING_MM), found)


def test_three_looks_outvote_one_that_leaks_away_from_its_slice() -> None:
    leaking, found = body((5, 12), (5, 12), (0, 20)), body((5, 12), (5, 12), (5, 12))
    extents = [
        extent(SliceBox(Plane.CORONAL, (5, 5, 5), (12, 6, 12)), leaking),
        extent(axial(6, (5, 12), (5, 12)), found),
        extent(axial(8, (5, 12), (5, 12)), found),
        extent(axial(10, (5, 12), (5, 12)), found),
    ]
    target = compose(extents, NOTHING, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(target[:, 6:], found[:, 6:])


def test_what_hangs_together_with_no_section_is_no_part_of_the_body() -> None:
    # Two columns apart: the second look does not see the other one, which the first one does not
    # come to on its own slice.
    column, apart = body((0, 20), (5, 15), (5, 15)), body((0, 3), (5, 15), (18, 22))
    extents = [
        extent(axial(5, (5, 15), (5, 15)), column | apart),
        extent(axial(14, (5, 15), (5, 15)), column),
    ]
    np.testing.assert_array_equal(compose(extents, NOTHING, SPACING_MM), column)


def test_another_leg_on_a_parallel_slice_stays() -> None:
    # The first extent finds a U, of which the second one's slice shows both legs.
    left, right = body((2, 18), (5, 9), (2, 6)), body((2, 18), (5, 9), (16, 20))
    u = body((2, 4), (5, 9), (2, 20)) | left | right
    extents = [
        extent(axial(3, (5, 9), (2, 20)), u),
        extent(axial(14, (5, 9), (16, 20)), body((8, 18), (5, 9), (16, 20))),
    ]
    np.testing.assert_array_equal(compose(extents, NOTHING, SPACING_MM), u)


@pytest.mark.parametrize("initial", [NOTHING, body((8, 9), (0, 22), (0, 3))])
def test_a_leak_is_cut_on_the_slice_of_a_section(initial: Mask) -> None:
    # The section's own walk has found nothing, so that it does not vote.
    leaking = body((5, 12), (5, 12), (0, 20))
    extents = [
        extent(SliceBox(Plane.CORONAL, (5, 8, 5), (12, 9, 12)), leaking),
        extent(axial(8, (5, 12), (5, 12)), NOTHING),
    ]
    expected = leaking.copy()
    for cut in (expected[8], expected[:, 8]):
        cut[:, :5] = cut[:, 12:] = False
    # What it began with has not leaked.
    np.testing.assert_array_equal(compose(extents, initial, SPACING_MM), expected | initial)


def test_a_section_that_is_mostly_beside_what_was_found_adds_a_part_and_takes_nothing() -> None:
    left, right = body((5, 12), (5, 12), (2, 9)), body((5, 12), (5, 12), (10, 18))
    extents = [
        extent(SliceBox(Plane.CORONAL, (5, 8, 2), (12, 9, 9)), left),
        extent(axial(8, (5, 12), (8, 18)), right),  # two of its ten columns are not the right one's
    ]
    np.testing.assert_array_equal(compose(extents, NOTHING, SPACING_MM), left | right)


def test_boxes_on_one_slice_add_up() -> None:
    left, right = body((5, 12), (5, 12), (2, 9)), body((5, 12), (5, 12), (12, 16))
    extents = [extent(axial(8, (5, 12), (2, 9)), left), extent(axial(8, (5, 12), (12, 16)), right)]
    np.testing.assert_array_equal(compose(extents, NOTHING, SPACING_MM), left | right)

"""One target out of several boxes and lassos, each lifted by itself."""

import itertools

import numpy as np
import pytest

from gamt.axes import Plane
from gamt.lifting.bodies import Part
from gamt.lifting.composition import Extent, compose
from gamt.prompts import Box, SliceBox
from tests.doubles import Mask, block

SHAPE = (20, 22, 24)
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
        target, leaks = compose(order, initial)
        np.testing.assert_array_equal(target, one | other | initial)
        assert leaks == ()
    assert initial.sum() == 1


def test_parallel_sections_are_each_followed_half_way_to_the_next() -> None:
    # Both find a column through all slices, the first one wider than it was drawn on slice 14.
    wide, narrow = body((0, 20), (5, 15), (5, 15)), body((0, 20), (7, 13), (7, 13))
    extents = [
        extent(axial(5, (5, 15), (5, 15)), wide),
        extent(axial(14, (7, 13), (7, 13)), narrow),
    ]
    expected = wide.copy()
    expected[10:] = narrow[10:]  # slice 9.5 is half way
    for order in (extents, extents[::-1]):
        target, leaks = compose(order, NOTHING)
        np.testing.assert_array_equal(target, expected)
        assert leaks == ()


def test_where_the_other_walk_has_ended_before_half_way_the_first_one_goes_on() -> None:
    wide, short = body((0, 20), (5, 15), (5, 15)), body((12, 20), (7, 13), (7, 13))
    extents = [
        extent(axial(5, (5, 15), (5, 15)), wide),
        extent(axial(14, (7, 13), (7, 13)), short),
    ]
    target, _ = compose(extents, NOTHING)
    assert target[11].sum() == 10 * 10
    assert target[12].sum() == 6 * 6


def test_beyond_a_parallel_section_what_it_did_not_find_is_left_out() -> None:
    long, short = body((0, 20), (5, 15), (5, 15)), body((0, 16), (5, 15), (5, 15))
    extents = [
        extent(axial(5, (5, 15), (5, 15)), long),
        extent(axial(14, (5, 15), (5, 15)), short),
    ]
    target, _ = compose(extents, NOTHING)
    np.testing.assert_array_equal(target, short)


def test_another_leg_on_a_parallel_slice_stays() -> None:
    # The first extent finds a U, of which the second one's slice shows both legs.
    u = (
        body((2, 4), (5, 9), (2, 20))
        | body((2, 18), (5, 9), (2, 6))
        | body((2, 18), (5, 9), (16, 20))
    )
    right = body((8, 18), (5, 9), (16, 20))
    extents = [
        extent(axial(3, (5, 9), (2, 20)), u),
        extent(axial(14, (5, 9), (16, 20)), right),
    ]
    target, leaks = compose(extents, NOTHING)
    np.testing.assert_array_equal(target, u)
    assert leaks == ()


@pytest.mark.parametrize("initial", [NOTHING, body((8, 9), (0, 22), (0, 3))])
def test_what_leaks_beside_a_section_of_another_plane_is_told(initial: Mask) -> None:
    leaking = body((5, 12), (5, 12), (0, 20))
    found = body((5, 12), (5, 12), (5, 12))
    extents = [
        extent(SliceBox(Plane.CORONAL, (5, 8, 5), (12, 9, 12)), leaking),
        extent(axial(8, (5, 12), (5, 12)), found),
    ]
    target, (leak,) = compose(extents, initial)
    np.testing.assert_array_equal(target, leaking | initial)
    assert not leak.positive
    told = np.zeros(SHAPE, np.bool_)
    told[tuple((np.argwhere(leak.mask) + leak.low).T)] = True
    # On slice 8, all columns but those of the box; what it began with has not leaked.
    expected = leaking & ~found & ~initial
    expected[:8] = expected[9:] = False
    np.testing.assert_array_equal(told, expected)


def test_a_section_that_is_mostly_beside_what_was_found_adds_a_part_and_takes_nothing() -> None:
    left, right = body((5, 12), (5, 12), (2, 9)), body((5, 12), (5, 12), (8, 16))
    extents = [
        extent(SliceBox(Plane.CORONAL, (5, 8, 2), (12, 9, 9)), left),
        extent(axial(8, (5, 12), (8, 16)), right),  # one of its eight columns is the left one's
    ]
    target, leaks = compose(extents, NOTHING)
    np.testing.assert_array_equal(target, left | right)
    assert leaks == ()


def test_boxes_on_one_slice_add_up() -> None:
    left, right = body((5, 12), (5, 12), (2, 9)), body((5, 12), (5, 12), (12, 16))
    extents = [extent(axial(8, (5, 12), (2, 9)), left), extent(axial(8, (5, 12), (12, 16)), right)]
    target, leaks = compose(extents, NOTHING)
    np.testing.assert_array_equal(target, left | right)
    assert leaks == ()

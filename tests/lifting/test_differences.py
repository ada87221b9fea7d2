"""What of a given segmentation a box or lasso on one slice contradicts."""

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane, slice_view
from gamt.interactions import read_lasso
from gamt.lifting.differences import agrees, differences
from gamt.lifting.sections import section_of
from gamt.prompts import Box, Lasso, Region, SliceBox
from tests.doubles import Mask, block

SHAPE = (20, 40, 44)
GIVEN = block(SHAPE, slice(3, 17), slice(8, 32), slice(10, 34))


def lasso(*where: slice) -> Lasso:
    return read_lasso(block(SHAPE, *where), None, SHAPE)


def of_lasso(drawn: Lasso, given: Mask) -> tuple[Region, ...] | None:
    return differences(drawn, given, section_of(drawn, (0, 0, 0), SHAPE))


def painted(regions: tuple[Region, ...] | None) -> npt.NDArray[np.int8]:
    """1 where regions add, -1 where they take away."""
    volume = np.zeros(SHAPE, np.int8)
    for one in regions or ():
        volume[tuple(one.voxels.T)] = 1 if one.positive else -1
    return volume


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (slice(8, 32), slice(10, 34), True),
        (slice(10, 34), slice(10, 34), True),  # two voxels in, two out: no hand is exact
        (slice(8, 32), slice(10, 37), False),
        (slice(8, 32), slice(13, 34), False),
    ],
)
def test_a_lasso_agrees_up_to_the_slack_of_a_hand(
    rows: slice, columns: slice, expected: bool
) -> None:
    assert agrees(lasso(slice(9, 10), rows, columns), GIVEN) is expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [((10, 34), True), ((9, 33), True), ((12, 34), False), ((10, 37), False)],
)
def test_a_box_agrees_that_holds_the_bounds_of_its_section(
    columns: tuple[int, int], expected: bool
) -> None:
    # Another piece of the slice, in the box's corner, is none of its section.
    given = GIVEN | block(SHAPE, slice(3, 17), slice(31, 38), slice(36, 42))
    box = SliceBox(Plane.AXIAL, (9, 8, columns[0]), (10, 32, columns[1]))
    assert agrees(box, given) is expected
    assert not agrees(box, np.zeros(SHAPE, np.bool_))


@pytest.mark.parametrize(("slices", "expected"), [((3, 17), True), ((3, 13), False)])
def test_a_box_in_3d_agrees_that_holds_the_slices_too(
    slices: tuple[int, int], expected: bool
) -> None:
    given = GIVEN | block(SHAPE, slice(0, 20), slice(34, 38), slice(2, 6))  # another body
    assert agrees(Box(*slices, 8, 8, 32, 10, 34), given) is expected


@pytest.mark.parametrize("plane", Plane)
def test_what_is_drawn_and_missing_is_added_and_what_is_beside_taken_away(plane: Plane) -> None:
    # What is drawn is given six columns too far to the left.
    index = {Plane.AXIAL: 9, Plane.CORONAL: 20, Plane.SAGITTAL: 22}[plane]
    given = np.roll(GIVEN, -6, axis=plane.column_axis)
    drawing, expected = np.zeros(SHAPE, np.bool_), np.zeros(SHAPE, np.int8)
    slice_view(drawing, plane, index)[:] = slice_view(GIVEN, plane, index)
    wrong = GIVEN.astype(np.int8) - given
    slice_view(expected, plane, index)[:] = slice_view(wrong, plane, index)
    np.testing.assert_array_equal(
        painted(of_lasso(read_lasso(drawing, None, SHAPE), given)), expected
    )


def test_beyond_what_is_wrong_a_thin_rim_stays() -> None:
    # Missing: six columns on the right, and a rim of one row below, which is the hand's.
    drawn = lasso(slice(9, 10), slice(8, 33), slice(10, 40))
    added = painted(of_lasso(drawn, GIVEN)) == 1
    assert added[9, 8:33, 34:40].all()
    assert not added[9, 32, 10:31].any()  # 31 is three voxels from what is surely missing


def test_another_piece_beside_what_was_drawn_stays() -> None:
    given = GIVEN | block(SHAPE, slice(3, 17), slice(8, 32), slice(38, 42))
    assert of_lasso(lasso(slice(9, 10), slice(8, 32), slice(10, 34)), given) == ()


@pytest.mark.parametrize(("first", "is_part"), [(25, False), (26, True)])
def test_a_section_that_is_half_beside_is_a_part_of_its_own(first: int, is_part: bool) -> None:
    # Of 16 columns drawn, 9 or 8 are there.
    drawn = lasso(slice(9, 10), slice(8, 32), slice(first, first + 16))
    drawn_box = SliceBox(Plane.AXIAL, drawn.low, drawn.high)
    assert (of_lasso(drawn, GIVEN) is None) is is_part
    seen = section_of(drawn_box, (0, 0, 0), SHAPE)
    assert (differences(drawn_box, GIVEN, seen) is None) is is_part


def test_of_a_box_what_a_segmenter_sees_is_missing_where_the_section_falls_short_of_it() -> None:
    # The box goes on to column 40. A segmenter sees a triangle there, and a hole in the section,
    # which the box says nothing about.
    box = SliceBox(Plane.AXIAL, (9, 8, 10), (10, 32, 40))
    seen = np.zeros(SHAPE[1:], np.bool_)
    seen[8:32, 10:34] = True
    triangle = np.tri(24, 6, dtype=np.bool_)
    seen[8:32, 34:40] = triangle
    given = GIVEN.copy()
    given[9, 15:18, 15:18] = False
    expected = np.zeros(SHAPE, np.int8)
    expected[9, 8:32, 34:40] = triangle
    np.testing.assert_array_equal(painted(differences(box, given, seen)), expected)


def test_of_a_box_what_reaches_out_of_it_is_taken_away() -> None:
    box = SliceBox(Plane.AXIAL, (9, 8, 10), (10, 32, 28))
    seen = section_of(box, (0, 0, 0), SHAPE)
    expected = np.zeros(SHAPE, np.int8)
    expected[9, 8:32, 28:34] = -1
    np.testing.assert_array_equal(painted(differences(box, GIVEN, seen)), expected)

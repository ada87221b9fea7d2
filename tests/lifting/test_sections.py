"""What users draw on one slice, and whether what was found has that section."""

import numpy as np
import pytest

from gamt.axes import Plane
from gamt.lifting.bodies import Part
from gamt.lifting.sections import fits, found_on, holds_most_of, section_of
from gamt.prompts import Lasso, SliceBox
from tests.doubles import block

SHAPE = (10, 12, 14)


def lasso(plane: Plane, low: tuple[int, int, int], size: tuple[int, int]) -> Lasso:
    """A full area of some rows and columns."""
    high = list(low)
    for axis, length in zip(
        (plane.normal, plane.row_axis, plane.column_axis), (1, *size), strict=True
    ):
        high[axis] += length
    return Lasso(plane, low, (high[0], high[1], high[2]), np.ones(size, np.bool_))


def test_the_section_of_a_box_is_all_of_it_whatever_the_slack() -> None:
    box = SliceBox(Plane.CORONAL, (2, 5, 3), (4, 6, 6))
    section = section_of(box, (0, 0, 0), SHAPE, slack=2)
    np.testing.assert_array_equal(
        np.argwhere(section), [[2, 3], [2, 4], [2, 5], [3, 3], [3, 4], [3, 5]]
    )


def test_a_lasso_is_widened_and_narrowed_by_the_slack() -> None:
    drawn = lasso(Plane.SAGITTAL, (3, 4, 5), (3, 3))  # rows z, columns y
    assert section_of(drawn, (0, 0, 0), SHAPE).sum() == 9
    # A voxel farther on each side, but not around the corners: 9 + 4 * 3.
    assert section_of(drawn, (0, 0, 0), SHAPE, slack=1).sum() == 21
    np.testing.assert_array_equal(
        np.argwhere(section_of(drawn, (0, 0, 0), SHAPE, slack=-1)), [[4, 5]]
    )


def test_a_lasso_at_the_border_of_the_scan_is_narrowed_there_too() -> None:
    drawn = lasso(Plane.AXIAL, (0, 0, 0), (3, 4))
    np.testing.assert_array_equal(
        np.argwhere(section_of(drawn, (0, 0, 0), SHAPE, slack=-1)), [[1, 1], [1, 2]]
    )


def test_a_section_is_seen_from_a_part_of_the_scan() -> None:
    box = SliceBox(Plane.AXIAL, (2, 3, 4), (3, 6, 8))
    section = section_of(box, (0, 5, 2), (10, 4, 4))  # rows 5 to 8, columns 2 to 5
    np.testing.assert_array_equal(np.argwhere(section), [[0, 2], [0, 3]])
    assert not section_of(box, (0, 8, 0), (10, 4, 14)).any()  # beyond it


def test_what_was_found_has_nothing_on_slices_that_it_does_not_come_to() -> None:
    box = SliceBox(Plane.AXIAL, (2, 3, 4), (3, 6, 8))
    part = Part((3, 3, 4), np.ones((2, 3, 4), np.bool_))
    assert found_on(box, part) is None
    assert not holds_most_of(box, part)


@pytest.mark.parametrize(("columns", "expected"), [(3, True), (2, False)])
def test_what_was_found_has_most_of_a_section_or_not(columns: int, expected: bool) -> None:
    box = SliceBox(Plane.AXIAL, (2, 3, 4), (3, 6, 8))  # four columns wide: three are most of it
    assert holds_most_of(box, Part((1, 3, 4), np.ones((3, 3, columns), np.bool_))) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        # The box is 8 x 10 pixels: each side may be a voxel off.
        (np.s_[2:8, 2:10, 2:12], True),
        (np.s_[2:8, 1:10, 2:13], True),
        (np.s_[2:8, 3:9, 3:11], True),
        (np.s_[2:8, 0:10, 2:12], False),
        (np.s_[2:8, 2:10, 2:10], False),
        (np.s_[6:8, 2:10, 2:12], False),  # not on its slice
    ],
)
def test_a_body_fits_a_box_that_it_ends_at(where: tuple[slice, ...], expected: bool) -> None:
    box = SliceBox(Plane.AXIAL, (5, 2, 2), (6, 10, 12))
    assert fits(box, Part.tight((0, 0, 0), block(SHAPE, *where))) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        # The lasso is 8 x 10 pixels: of its 80, 4 may be missed beyond a hand's two voxels.
        (np.s_[2:8, 2:10, 2:12], True),
        (np.s_[2:8, 1:11, 1:13], True),
        (np.s_[2:8, 4:8, 4:10], True),
        (np.s_[2:8, 2:10, 2:8], False),
        (np.s_[2:8, 5:7, 5:9], False),
        (np.s_[2:8, 0:4, 0:4], False),
    ],
)
def test_a_body_fits_a_lasso_up_to_the_slack_of_a_hand(
    where: tuple[slice, ...], expected: bool
) -> None:
    drawn = lasso(Plane.AXIAL, (5, 2, 2), (8, 10))
    assert fits(drawn, Part.tight((0, 0, 0), block(SHAPE, *where))) == expected

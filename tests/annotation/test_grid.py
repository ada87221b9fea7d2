"""Voxels of a page and voxels of an array: there and back, in any orientation of the file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.annotation.grid import (
    bounds_to_array,
    bounds_to_page,
    page_to_file,
    to_array,
    to_page,
    turn,
)
from tests.io.test_image import ORIENTATIONS, TILT, affine_of, numbered, read

SHAPE = (4, 5, 6)  # z, y, x


def test_a_pages_first_voxel_is_the_lowest_hindmost_leftmost_one_of_a_ras_image() -> None:
    # i runs to the right, so it is 0 where x, which runs to the left, is the last of 6; j likewise.
    assert to_array((0, 0, 0), SHAPE) == (0, 4, 5)
    assert to_array((1, 2, 3), SHAPE) == (3, 2, 4)
    assert to_page((3, 2, 4), SHAPE) == (1, 2, 3)


@given(st.tuples(*(st.integers(0, size - 1) for size in SHAPE)))
def test_a_voxel_goes_there_and_back(voxel: tuple[int, int, int]) -> None:
    assert to_array(to_page(voxel, SHAPE), SHAPE) == voxel


@given(st.data())
def test_bounds_hold_the_same_voxels_on_the_page_and_in_the_array(data: st.DataObject) -> None:
    bounds = [sorted(data.draw(st.sets(st.integers(0, n), min_size=2, max_size=2))) for n in SHAPE]
    low, high = bounds_to_page(bounds, SHAPE)
    assert bounds_to_array(low, high, SHAPE) == bounds
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    inside = array[tuple(slice(a, b) for a, b in bounds)]
    page = turn(array)  # (k, j, i)
    (i0, j0, k0), (i1, j1, k1) = low, high
    np.testing.assert_array_equal(turn(inside), page[k0:k1, j0:j1, i0:i1])


@pytest.mark.parametrize("tilt", [0.0, TILT])
@pytest.mark.parametrize("orientation", ORIENTATIONS[::5], ids="".join)
def test_the_page_sees_a_voxel_where_the_scanner_saw_it(
    orientation: tuple[str, ...], tilt: float, tmp_path: Path
) -> None:
    affine = affine_of(orientation, tilt)
    image = read(tmp_path, numbered(), affine)
    shape = image.array.shape
    # Towards right, front and head.
    steps = affine[:3, :3] @ np.array(page_to_file(image))[:, :3]
    assert (np.diag(steps) > 0).all()
    page = turn(image.array)
    for file_voxel in ((0, 0, 0), (4, 5, 6), (1, 2, 3), (3, 0, 5)):
        i, j, k = to_page(image.voxel(file_voxel, ras=False), shape)
        assert page[k, j, i] == numbered()[file_voxel]


@pytest.mark.parametrize("tilt", [0.0, TILT])
@pytest.mark.parametrize("orientation", ORIENTATIONS[::5], ids="".join)
def test_the_files_voxel_is_found_whichever_way_its_axes_run(
    orientation: tuple[str, ...], tilt: float, tmp_path: Path
) -> None:
    image = read(tmp_path, numbered(), affine_of(orientation, tilt))
    matrix = np.array(page_to_file(image))
    for file_voxel in ((0, 0, 0), (4, 5, 6), (1, 2, 3), (3, 0, 5)):
        voxel = to_page(image.voxel(file_voxel, ras=False), image.array.shape)
        assert tuple(matrix @ (*voxel, 1)) == file_voxel


def test_a_file_towards_left_foot_and_back_is_counted_from_there(tmp_path: Path) -> None:
    # Of 5 voxels to the left, 6 to the feet and 7 to the back, the page has 5 to the right, 7 to
    # the front and 6 to the head: its (i, j, k) is the file's (4 - i, 5 - k, 6 - j).
    image = read(tmp_path, numbered(), affine_of(("L", "I", "P")))
    assert page_to_file(image) == [[-1, 0, 0, 4], [0, 0, -1, 5], [0, -1, 0, 6]]

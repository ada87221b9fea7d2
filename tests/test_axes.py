"""Planes and slices: every conversion on a volume whose three sides differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import (
    Plane,
    bounding_range,
    box_to_slice,
    most_central,
    slice_shape,
    slice_view,
    to_slice,
    to_volume,
)

SHAPE = (3, 4, 5)
VOLUME = np.arange(60).reshape(SHAPE)  # voxel (z, y, x) holds 20 z + 5 y + x

planes = st.sampled_from(Plane)
voxels = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))


@pytest.mark.parametrize(
    ("plane", "normal", "row", "column"),
    [(Plane.AXIAL, 0, 1, 2), (Plane.CORONAL, 1, 0, 2), (Plane.SAGITTAL, 2, 0, 1)],
)
def test_axes_of_each_plane(plane: Plane, normal: int, row: int, column: int) -> None:
    assert (plane.normal, plane.row_axis, plane.column_axis) == (normal, row, column)


@pytest.mark.parametrize(
    ("plane", "shape", "value"),
    [
        # Slice 2, row 1, column 3 is voxel (z, y, x) = (2, 1, 3): 40 + 5 + 3.
        (Plane.AXIAL, (4, 5), 48),
        # Rows are z and columns x: voxel (1, 2, 3) holds 20 + 10 + 3.
        (Plane.CORONAL, (3, 5), 33),
        # Rows are z and columns y: voxel (1, 3, 2) holds 20 + 15 + 2.
        (Plane.SAGITTAL, (3, 4), 37),
    ],
)
def test_slice_view_rows_and_columns(plane: Plane, shape: tuple[int, int], value: int) -> None:
    view = slice_view(VOLUME, plane, 2)
    assert view.shape == slice_shape(SHAPE, plane) == shape
    assert view[1, 3] == value


@given(plane=planes)
def test_slice_view_writes_through(plane: Plane) -> None:
    volume = np.zeros(SHAPE)
    slice_view(volume, plane, 1)[:] = 1
    assert volume.sum() == np.prod(slice_shape(SHAPE, plane))
    assert np.take(volume, 1, axis=plane.normal).all()


@given(plane=planes, voxel=voxels)
def test_pixel_and_voxel_are_each_others_inverse(plane: Plane, voxel: tuple[int, int, int]) -> None:
    index = voxel[plane.normal]
    x, y = (int(value) for value in to_slice(plane, voxel))
    assert to_volume(plane, index, (x, y)) == voxel
    # (x, y) is (column, row), so the pixel is found at [y, x].
    assert slice_view(VOLUME, plane, index)[y, x] == VOLUME[voxel]


def test_to_slice_keeps_fractions() -> None:
    assert to_slice(Plane.CORONAL, (0.5, 7, 2.25)) == (2.25, 0.5)


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        # From the bounds z 1..2, y 10..20, x 100..200, as (x0, y0, x1, y1).
        (Plane.AXIAL, (100, 10, 200, 20)),
        (Plane.CORONAL, (100, 1, 200, 2)),
        (Plane.SAGITTAL, (10, 1, 20, 2)),
    ],
)
def test_box_to_slice(plane: Plane, expected: tuple[int, int, int, int]) -> None:
    assert box_to_slice(plane, (1, 10, 100), (2, 20, 200)) == expected


def test_bounding_range_of_a_volume_is_half_open() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1, 0, 4] = mask[2, 3, 2] = True
    # z 1 and 2, y 0 and 3, x 2 and 4.
    assert bounding_range(mask) == ([1, 0, 2], [3, 4, 5])


def test_bounding_range_of_a_slice() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[2, 1:5] = True
    assert bounding_range(mask) == ([2, 1], [3, 5])


def test_bounding_range_of_nothing() -> None:
    assert bounding_range(np.zeros(SHAPE, dtype=bool)) is None
    assert bounding_range(np.zeros((0, 4), dtype=bool)) is None


@given(low=voxels, other=voxels, plane=planes)
def test_bounding_range_agrees_with_box_to_slice(
    low: tuple[int, int, int], other: tuple[int, int, int], plane: Plane
) -> None:
    first = [min(pair) for pair in zip(low, other, strict=True)]
    past = [max(pair) + 1 for pair in zip(low, other, strict=True)]
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(first, past, strict=True))] = True
    assert bounding_range(mask) == (first, past)

    rows_columns = bounding_range(slice_view(mask, plane, first[plane.normal]))
    assert rows_columns is not None
    (row0, column0), (row1, column1) = rows_columns
    assert box_to_slice(plane, first, past) == (column0, row0, column1, row1)


def test_the_most_central_place_is_the_one_nearest_to_the_mean() -> None:
    # The mean is (2, 3.25).
    assert most_central(np.array([[2, 0], [2, 3], [2, 4], [2, 6]])) == 1

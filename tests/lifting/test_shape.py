"""The ellipsoid in a box, as log-odds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.lifting.shape import complete_box, ellipsoid_logits, prior_logits
from gamt.prompts import Box

# Half-axes of 2.5, 3.5 and 4.5 voxels around the voxel (4, 6, 8).
BOX = Box(z_min=2, z_max=7, z_mid=4, y_min=3, y_max=10, x_min=4, x_max=13)
SHAPE = (10, 14, 20)
CENTRE = (4, 6, 8)

# Around the same voxel, half-axes of 1.5 voxels.
SMALL = Box(z_min=3, z_max=6, z_mid=4, y_min=5, y_max=8, x_min=7, x_max=10)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    low = [draw(st.integers(0, n - 1)) for n in SHAPE]
    high = [draw(st.integers(a + 1, n)) for a, n in zip(low, SHAPE, strict=True)]
    return Box(low[0], high[0], low[0], low[1], high[1], low[2], high[2])


def flip(box: Box, axis: int) -> Box:
    """Returns the box as it lies in the volume of `SHAPE` turned around on an axis."""
    low, high = list(box.low), list(box.high)
    low[axis], high[axis] = SHAPE[axis] - box.high[axis], SHAPE[axis] - box.low[axis]
    return Box(low[0], high[0], low[0], low[1], high[1], low[2], high[2])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_log_odds_fall_through_zero_at_nine_tenths_of_a_half_axis(axis: int) -> None:
    # A half-axis of 50 voxels, with its end between voxels 99 and 100 and its centre at 49.5. Voxel
    # 94 lies 44.5 / 50 = 0.89 half-axes from it, voxel 95 lies 0.91: 10 times 0.01 from 0.9.
    size, low, shape = [1, 1, 1], [0, 0, 0], [1, 1, 1]
    size[axis], low[axis], shape[axis] = 100, 94, 2
    logits = ellipsoid_logits(Box(0, size[0], 0, 0, size[1], 0, size[2]), low, shape)
    assert logits.ravel() == pytest.approx([0.1, -0.1], abs=1e-5)


def test_distances_are_counted_in_half_axes_on_every_axis() -> None:
    logits = ellipsoid_logits(BOX, (0, 0, 0), SHAPE)
    # Two voxels from the centre on z are 0.8 half-axes: 10 (0.9 - 0.8).
    assert logits[6, 6, 8] == pytest.approx(1, abs=1e-5)
    # Three on y are 0.857, four on x 0.889.
    assert logits[4, 9, 8] == pytest.approx(0.4286, abs=1e-4)
    assert logits[4, 6, 12] == pytest.approx(0.1111, abs=1e-4)
    # Two on y and three on x: the root of 0.571^2 + 0.667^2 is 0.878.
    assert logits[4, 8, 11] == pytest.approx(0.2197, abs=1e-3)
    # One on z, two on y and three on x: of 0.4^2 as well, 0.965.
    assert logits[5, 8, 11] == pytest.approx(-0.6488, abs=1e-3)


def test_never_surer_than_the_limits() -> None:
    logits = ellipsoid_logits(BOX, (0, 0, 0), SHAPE)
    assert logits[CENTRE] == logits.max() == np.float32(1.4)
    assert logits[9, 13, 19] == logits.min() == -3


@given(box=boxes(), axis=st.integers(0, 2))
def test_flipping_the_box_flips_the_ellipsoid(box: Box, axis: int) -> None:
    here = ellipsoid_logits(flip(box, axis), (0, 0, 0), SHAPE)
    there = ellipsoid_logits(box, (0, 0, 0), SHAPE)
    np.testing.assert_allclose(here, np.flip(there, axis), atol=1e-5)


@given(box=boxes(), rival=boxes())
def test_a_part_is_what_the_whole_shows_there(box: Box, rival: Box) -> None:
    whole = prior_logits(box, [rival], (0, 0, 0), SHAPE)
    part = prior_logits(box, [rival], (1, 2, 3), (5, 6, 7))
    np.testing.assert_array_equal(part, whole[1:6, 2:8, 3:10])


def test_slices_outside_of_the_range_are_surely_outside() -> None:
    logits = prior_logits(BOX, [], (0, 0, 0), SHAPE)
    assert (logits[:2] == -6).all()
    assert (logits[7:] == -6).all()
    np.testing.assert_array_equal(logits[2:7], ellipsoid_logits(BOX, (2, 0, 0), (5, 14, 20)))
    assert np.abs(logits[2:7]).max() == 3  # no shape is as sure


def test_a_range_that_is_not_exact_leaves_the_shape_as_it_is() -> None:
    logits = prior_logits(BOX, [], (0, 0, 0), SHAPE, exact_range=False)
    np.testing.assert_array_equal(logits, ellipsoid_logits(BOX, (0, 0, 0), SHAPE))


def test_a_rivals_ellipsoid_is_left_to_the_rival() -> None:
    alone = prior_logits(BOX, [], (0, 0, 0), SHAPE)
    beside = prior_logits(BOX, [SMALL], (0, 0, 0), SHAPE)
    assert alone[CENTRE] == np.float32(1.4)
    assert beside[CENTRE] == np.float32(-1.4)
    # One voxel from the centre, 0.667 of the rival's half-axes: -10 (1 - 0.667), cut to -1.4.
    assert beside[4, 6, 9] == np.float32(-1.4)
    # Four voxels from the centre the rival is far away, and the box's own opinion is left.
    assert beside[4, 6, 12] == alone[4, 6, 12] == pytest.approx(0.1111, abs=1e-4)
    assert (beside <= alone).all()


def test_the_rest_of_a_box_begins_where_its_rival_ends() -> None:
    # Both have voxel 50 in their middle. The box, of half-axes of 50.5 voxels, is likely up to 0.9
    # of them, 45.45 voxels away; the rival, of 20.5, keeps all of its ellipsoid.
    box = Box(z_min=0, z_max=101, z_mid=50, y_min=0, y_max=101, x_min=0, x_max=101)
    rival = Box(z_min=30, z_max=71, z_mid=50, y_min=30, y_max=71, x_min=30, x_max=71)
    line = prior_logits(box, [rival], (50, 50, 0), (1, 1, 101)).ravel()
    likely = np.flatnonzero(line > 0).tolist()
    assert likely == [*range(5, 30), *range(71, 96)]


@given(box=boxes(), one=boxes(), other=boxes())
def test_rivals_have_no_order(box: Box, one: Box, other: Box) -> None:
    np.testing.assert_array_equal(
        prior_logits(box, [one, other], (0, 0, 0), SHAPE),
        prior_logits(box, [other, one], (0, 0, 0), SHAPE),
    )


@pytest.mark.parametrize(
    ("z_range", "expected"),
    [
        # A box of 8 x 18 pixels of 1 mm is 12 mm wide, the root of 8 x 18: 6 mm, half of that, are
        # 3 slices of 2 mm.
        ((0, 20), (-3, 23)),
        ((0, 19), (0, 19)),
        ((1, 20), (1, 20)),
    ],
)
def test_a_target_that_goes_through_the_whole_scan_goes_on_beyond(
    z_range: tuple[int, int], expected: tuple[int, int]
) -> None:
    box = Box(*z_range, 10, 5, 13, 4, 22)
    found = complete_box(box, 20, (2.0, 1.0, 1.0))
    assert (found.z_min, found.z_max) == expected
    assert replace(found, z_min=z_range[0], z_max=z_range[1]) == box

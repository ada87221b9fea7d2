"""The ellipsoid in a box, as log-odds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.lifting.shape import (
    EDGE,
    LEAST,
    MOST,
    OUTSIDE,
    RIVAL_EDGE,
    STEEPNESS,
    ellipsoid_logits,
    prior_logits,
)
from gamt.prompts import Box

# Half-axes of 2.5, 3.5 and 4.5 voxels around the voxel (4, 6, 8).
BOX = Box(z_min=2, z_max=7, z_mid=4, y_min=3, y_max=10, x_min=4, x_max=13)
SHAPE = (10, 14, 20)
CENTRE = (4, 6, 8)


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
def test_zero_is_crossed_at_the_edge(axis: int) -> None:
    # A half-axis of 50.5 voxels has voxels close to the edge on both sides, and is straight there.
    size, shape, line = [5, 5, 5], [1, 1, 1], [0, 0, 0]
    size[axis], shape[axis], line[axis] = 101, 51, 50
    others = [n for n in range(3) if n != axis]
    for other in others:
        line[other] = 2
    box = Box(0, size[0], 0, 0, size[1], 0, size[2])
    logits = ellipsoid_logits(box, line, shape).ravel()  # from the centre outwards
    outside = int(np.argmax(logits < 0))
    before, after = float(logits[outside - 1]), float(logits[outside])
    assert outside - 1 + before / (before - after) == pytest.approx(EDGE * 50.5, rel=1e-4)
    assert before - after == pytest.approx(STEEPNESS / 50.5, rel=1e-4)


def test_positive_exactly_inside_the_ellipsoid() -> None:
    z, y, x = np.ogrid[:10, :14, :20]
    inside = ((z - 4) / 2.5) ** 2 + ((y - 6) / 3.5) ** 2 + ((x - 8) / 4.5) ** 2 < EDGE**2
    np.testing.assert_array_equal(ellipsoid_logits(BOX, (0, 0, 0), SHAPE) > 0, inside)


def test_never_surer_than_the_limits() -> None:
    logits = ellipsoid_logits(BOX, (0, 0, 0), SHAPE)
    assert logits[CENTRE] == logits.max() == np.float32(MOST)
    assert logits[9, 13, 19] == logits.min() == np.float32(LEAST)


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
    assert (logits[:2] == -OUTSIDE).all()
    assert (logits[7:] == -OUTSIDE).all()
    np.testing.assert_array_equal(logits[2:7], ellipsoid_logits(BOX, (2, 0, 0), (5, 14, 20)))
    assert np.abs(logits[2:7]).max() < OUTSIDE


def test_a_range_that_is_not_exact_leaves_the_shape_as_it_is() -> None:
    logits = prior_logits(BOX, [], (0, 0, 0), SHAPE, exact_range=False)
    np.testing.assert_array_equal(logits, ellipsoid_logits(BOX, (0, 0, 0), SHAPE))


def test_a_rivals_ellipsoid_is_left_to_the_rival() -> None:
    # The rival's centre is (4, 6, 8) too; its half-axes are 1.5 voxels.
    rival = Box(z_min=3, z_max=6, z_mid=4, y_min=5, y_max=8, x_min=7, x_max=10)
    alone = prior_logits(BOX, [], (0, 0, 0), SHAPE)
    beside = prior_logits(BOX, [rival], (0, 0, 0), SHAPE)
    assert alone[CENTRE] == np.float32(MOST)
    assert beside[CENTRE] == np.float32(-MOST)
    # Four voxels from the centre on x the rival's shape is far away: what is left is this box's
    # own opinion, 4 of 4.5 voxels from its centre.
    own = STEEPNESS * (EDGE - 4 / 4.5)
    assert beside[4, 6, 12] == alone[4, 6, 12] == pytest.approx(own, rel=1e-3)
    assert (beside <= alone).all()


def test_the_rest_of_a_box_begins_where_its_rival_ends() -> None:
    # In the slice through the centre of both, x runs over the shape, the rival and the shape.
    box = Box(z_min=0, z_max=101, z_mid=50, y_min=0, y_max=101, x_min=0, x_max=101)
    rival = Box(z_min=30, z_max=71, z_mid=50, y_min=30, y_max=71, x_min=30, x_max=71)
    line = prior_logits(box, [rival], (50, 50, 0), (1, 1, 101)).ravel()
    away = np.abs(np.arange(101) - 50)
    own = (away < EDGE * 50.5) & (away > RIVAL_EDGE * 20.5)
    np.testing.assert_array_equal(line > 0, own)


@given(box=boxes(), one=boxes(), other=boxes())
def test_rivals_have_no_order(box: Box, one: Box, other: Box) -> None:
    np.testing.assert_array_equal(
        prior_logits(box, [one, other], (0, 0, 0), SHAPE),
        prior_logits(box, [other, one], (0, 0, 0), SHAPE),
    )

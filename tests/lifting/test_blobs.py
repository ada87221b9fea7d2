"""Rough bodies around a click, of what size they are, and what fills them."""

import numpy as np
import pytest

from benchmarks.phantoms import dice
from gamt.lifting.blobs import (
    RAYS,
    agree,
    directions,
    find_blob,
    find_radius,
    histogram_index,
    intensity_ratio,
    segment_ball,
)
from gamt.lifting.cubes import Spacing, Voxel, look_around
from tests.doubles import Mask, block
from tests.lifting.test_growing import ball, drawn

SHAPE = (24, 60, 70)
MIDDLE = (12, 30, 35)


def blob_at(image: np.ndarray, click: Voxel, spacing_mm: Spacing) -> Mask:
    """Returns the blob over all of a volume."""
    low, mask = find_blob(image, spacing_mm, click)
    result = np.zeros(image.shape, np.bool_)
    result[tuple(slice(a, a + n) for a, n in zip(low, mask.shape, strict=True))] = mask
    return result


def test_rays_go_evenly_to_all_sides() -> None:
    rays = directions()
    assert rays.shape == (RAYS, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)
    # Even rays cancel out, and spread as far along each axis: a third of their squares.
    np.testing.assert_allclose(rays.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose((rays**2).mean(axis=0), 1 / 3, atol=0.01)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (3, 1, 1), (2, 0.7, 0.8)])
@pytest.mark.parametrize("radius_mm", [6, 9, 11])
@pytest.mark.parametrize("noise", [0, 15])
def test_the_radius_of_a_ball_is_found(spacing_mm: Spacing, radius_mm: float, noise: float) -> None:
    # The places on the rays are up to 14 % apart.
    truth = ball(SHAPE, MIDDLE, radius_mm, spacing_mm)
    for inside, outside in ((200, 100), (100, 200)):
        image = drawn(truth, inside, outside, noise)
        assert find_radius(image, spacing_mm, MIDDLE) == pytest.approx(radius_mm, rel=0.15)


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan, np.inf])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1), (1, 1, 9)])
def test_where_all_is_alike_there_is_the_click_alone(
    value: float, shape: tuple[int, int, int]
) -> None:
    z, y, x = (size // 2 for size in shape)
    image = np.full(shape, value)
    assert find_radius(image, (3, 1, 1), (z, y, x)) == 0
    assert np.argwhere(blob_at(image, (z, y, x), (3, 1, 1))).tolist() == [[z, y, x]]


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (3, 1, 1)])
def test_a_faint_ball_is_found_more_or_less(spacing_mm: Spacing) -> None:
    # The contrast is one and a half deviations of the noise: far too little for voxels one by one,
    # of which a fifth would be on the wrong side.
    truth = ball(SHAPE, MIDDLE, 9, spacing_mm)
    found = blob_at(drawn(truth, 115, 100, noise=10), MIDDLE, spacing_mm)
    assert dice(found, truth) > 0.75
    assert found[MIDDLE]


def test_a_radius_that_is_given_is_kept_to() -> None:
    # Noise alone: nothing says where it ends but the ball. The factor is that of two radii.
    image = np.random.default_rng(1).normal(100, 10, SHAPE)
    cube = look_around(image, (2, 1, 1), MIDDLE, 1, 100)
    small, large = (int(segment_ball(cube, radius).sum()) for radius in (4, 8))
    assert 1 < small < large


def test_intensities_decide_within_the_ball() -> None:
    # Half of the ball is as dark as what is around it.
    truth = ball(SHAPE, MIDDLE, 10, (2, 1, 1)) & block(SHAPE, slice(None), slice(0, 34))
    image = drawn(truth, 150, 100, noise=5)
    found = segment_ball(look_around(image, (2, 1, 1), MIDDLE, 1, 100), 10)
    assert dice(found, truth) > 0.9
    assert not found[12, 38, 35]


@pytest.mark.parametrize(
    ("spacing_mm", "voxels"),
    [
        ((1, 1, 1), 27),  # less than 2 from the middle: up to one step on every axis
        ((2, 1, 1), 9),  # the slices beside it are 2 away
    ],
)
def test_without_contrast_the_ball_is_taken(spacing_mm: Spacing, voxels: int) -> None:
    cube = look_around(np.full((9, 10, 11), 5), spacing_mm, (4, 5, 6), 1, 100)
    ball_alone = segment_ball(cube, 2)
    assert ball_alone.sum() == voxels
    assert ball_alone[4, 5, 6]


def test_intensities_that_are_only_inside_speak_for_it() -> None:
    image = drawn(block((4, 5, 6), slice(0, 2)), 90, 10).astype(np.float32)
    inside = (image > 50).astype(np.float32)
    index = histogram_index(image, 50, 100)
    assert index.min() >= 0
    ratio = intensity_ratio(index, inside, np.ones_like(image))
    assert (ratio[:2] > 1).all()
    assert (ratio[2:] < -1).all()
    # Where both sides look the same, they say nothing.
    mixed = np.full_like(image, 0.5)
    np.testing.assert_allclose(intensity_ratio(index, mixed, np.ones_like(image)), 0, atol=1e-3)


def test_neighbours_agree_as_far_as_they_are_tied() -> None:
    logits = np.full((3, 3, 3), 2, np.float32)
    logits[1, 1, 1] = -1
    none = [np.zeros_like(np.diff(logits, axis=axis)) for axis in range(3)]
    np.testing.assert_array_equal(agree(logits, none), logits)
    tied = [np.ones_like(one) for one in none]
    assert (agree(logits, tied) > 0).all()  # six neighbours outvote one

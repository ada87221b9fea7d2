"""The volumes for clicks are what they claim to be."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.click_volumes import (
    COUNT,
    KINDS,
    METAL,
    ClickVolume,
    deep_places,
    draw_click_volume,
    pick_voxel,
)

FIRST = [draw_click_volume(kind, 0) for kind in KINDS]


@pytest.fixture(scope="module")
def tiny() -> list[ClickVolume]:
    return [draw_click_volume("tiny", number) for number in range(COUNT)]


def test_there_are_two_hundred_volumes_or_more() -> None:
    assert len(KINDS) * COUNT >= 200


@pytest.mark.parametrize("volume", FIRST, ids=lambda volume: volume.kind)
def test_the_click_is_inside_one_piece_that_leaves_room_around_it(volume: ClickVolume) -> None:
    assert volume.image.shape == volume.truth.shape
    assert volume.truth[volume.click]
    assert ndimage.label(volume.truth, np.ones((3, 3, 3)))[1] == 1
    assert volume.truth.mean() < 0.85


@pytest.mark.parametrize("volume", FIRST, ids=lambda volume: volume.kind)
def test_no_two_sides_of_a_volume_are_alike(volume: ClickVolume) -> None:
    assert len(set(volume.image.shape)) == 3
    assert min(volume.image.shape) >= 12
    assert max(volume.image.shape) <= 80


@pytest.mark.parametrize("volume", FIRST, ids=lambda volume: volume.kind)
def test_a_target_differs_from_what_is_next_to_it(volume: ClickVolume) -> None:
    # The noise is at most a quarter of the contrast, so that middle values are apart by more than
    # the middle half of the target's own values is wide: 1.35 standard deviations.
    beside = ndimage.binary_dilation(volume.truth, iterations=2) & ~volume.truth
    inside = volume.image[volume.truth].astype(float)
    lower, middle, upper = np.percentile(inside, [25, 50, 75])
    # Other things may be next to it too, but none of them looks like it.
    others = volume.image[beside].astype(float)
    unlike = np.abs(others - middle) > upper - lower
    assert unlike.mean() > 0.7


def test_the_same_seed_draws_the_same_volume_and_another_seed_another() -> None:
    one, same, other = (draw_click_volume("ellipsoid", 3, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.image, same.image)
    assert one.click == same.click
    assert one.image.shape != other.image.shape or (one.image != other.image).any()


def test_thick_slices_lie_along_every_axis() -> None:
    volumes = [draw_click_volume("thick", number) for number in range(6)]
    along = [int(np.argmax(one.spacing_mm)) for one in volumes]
    assert sorted(along) == [0, 0, 1, 1, 2, 2]
    for axis, one in zip(along, volumes, strict=True):
        assert np.argmin(one.image.shape) == axis
        assert 3 <= max(one.spacing_mm) / min(one.spacing_mm) <= 10


def test_images_are_stored_in_many_ways(tiny: list[ClickVolume]) -> None:
    assert {one.image.dtype.name for one in tiny} == {
        "uint8",
        "int16",
        "float32",
        "float64",
        "uint16",
    }
    assert any(one.image.max() <= 1 for one in tiny)
    assert any(one.image.max() < 0 for one in tiny)


def test_a_tiny_target_stands_out_of_the_noise(tiny: list[ClickVolume]) -> None:
    for one in tiny:
        assert 1 <= one.truth.sum() <= 30
        around = one.image[~one.truth].astype(float)
        contrast = abs(one.image[one.truth].mean() - around.mean())
        # Eight or more were drawn; a few voxels' mean is off by a part of one.
        assert contrast > 7 * around.std()


def test_metal_takes_under_one_percent_and_none_of_the_lesion() -> None:
    volumes = [draw_click_volume("ct lesion", number) for number in range(5)]
    shares = [(one.image == METAL).mean() for one in volumes]
    assert 0 < sum(share > 0 for share in shares) < len(volumes)
    assert max(shares) < 0.01
    assert all(one.image[one.truth].max() < METAL for one in volumes)


def test_a_large_ball_is_clicked_near_its_centre_and_near_its_border() -> None:
    volumes = [draw_click_volume("off centre", number) for number in range(5)]
    depths = [ndimage.distance_transform_edt(one.truth) for one in volumes]
    shares = [depth[one.click] / depth.max() for depth, one in zip(depths, volumes, strict=True)]
    assert min(shares) < 0.4
    assert max(shares) > 0.7
    assert min(depth[one.click] for depth, one in zip(depths, volumes, strict=True)) >= 3


def test_deep_places_are_half_as_deep_as_the_deepest_or_deeper() -> None:
    truth = np.zeros((3, 3, 11), np.bool_)
    truth[:, :, 1:8] = True  # depths along x: 1 2 3 4 3 2 1; the volume's edge is no border
    expected = np.zeros_like(truth)
    expected[:, :, 2:7] = True
    np.testing.assert_array_equal(deep_places(truth), expected)


def test_a_voxel_is_picked_among_those_of_the_mask() -> None:
    mask = np.zeros((4, 5, 6), np.bool_)
    mask[3, 0, 5] = True
    assert pick_voxel(mask, np.random.default_rng(0)) == (3, 0, 5)

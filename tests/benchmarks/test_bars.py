"""The bars that need no data from elsewhere; `make bench` measures these and the others."""

import numpy as np
import pytest

from benchmarks.bars import (
    FLAT_LEAST,
    FLAT_MEAN,
    MIRROR_LEAST,
    VESSEL_LEAST,
    CountingSegmenter,
    Score,
    all_dice,
    count_encodings,
    draw_large_phantom,
    encoding_cases,
    flat_scores,
    flip_box,
    flip_case,
    flip_click,
    inscribed_ellipsoid,
    mirror_dice,
    mirror_phantoms,
    phantom_case,
    vessel_scores,
)
from benchmarks.phantoms import Phantom, flat_phantoms, vessel_phantoms
from gamt.io.case import Case
from gamt.prompts import Box, ClassPrompts, Click

FLAT_NAMES = [phantom.name for phantom in flat_phantoms()]
VESSEL_NAMES = [phantom.name for phantom in vessel_phantoms()]
MIRRORED = [p for p in mirror_phantoms() if p.name in ("thick_slices", "low_range", "vessel_bend")]


@pytest.fixture(scope="module")
def flat() -> dict[str, Score]:
    return {one.name: one for one in flat_scores()}


@pytest.fixture(scope="module")
def vessels() -> dict[str, Score]:
    return {one.name: one for one in vessel_scores()}


@pytest.mark.slow
def test_flat_phantoms_are_found_from_their_boxes(flat: dict[str, Score]) -> None:
    assert np.mean(all_dice(flat.values())) >= FLAT_MEAN


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAT_NAMES)
def test_no_class_of_a_flat_phantom_is_missed(flat: dict[str, Score], name: str) -> None:
    assert min(flat[name].dice) >= FLAT_LEAST


@pytest.mark.slow
@pytest.mark.parametrize("name", VESSEL_NAMES)
def test_a_vessel_is_followed_from_one_click(vessels: dict[str, Score], name: str) -> None:
    assert min(vessels[name].dice) >= VESSEL_LEAST


@pytest.mark.slow
@pytest.mark.parametrize("case", encoding_cases(), ids=lambda case: case.name)
def test_no_slice_is_encoded_twice(case: Case) -> None:
    counter = count_encodings(case)
    assert counter.encoded > 0
    assert counter.repeated == 0


@pytest.mark.slow
@pytest.mark.parametrize("phantom", MIRRORED, ids=lambda phantom: phantom.name)
def test_a_mirrored_scan_gives_the_mirrored_result(phantom: Phantom) -> None:
    assert np.min(mirror_dice(phantom_case(phantom))) >= MIRROR_LEAST


def test_the_counter_tells_slices_apart_by_content_and_shape() -> None:
    counter = CountingSegmenter()
    slices = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
    counter.encode(slices)
    counter.encode(slices.reshape(3, 6, 4))
    assert (counter.encoded, counter.repeated) == (6, 0)
    counter.encode(slices[1:])
    assert (counter.encoded, counter.repeated) == (8, 2)


def test_the_ellipsoid_fills_its_box() -> None:
    box = Box(z_min=1, z_max=8, z_mid=4, y_min=2, y_max=12, x_min=0, x_max=5)
    inside = inscribed_ellipsoid(box, (10, 15, 9))
    for axis, (low, high) in enumerate(zip(box.low, box.high, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        reached = np.flatnonzero(inside.any(axis=others))
        assert (reached[0], reached[-1] + 1) == (low, high)


def test_the_ellipsoid_has_its_share_of_the_boxs_volume() -> None:
    box = Box(z_min=5, z_max=35, z_mid=20, y_min=2, y_max=42, x_min=3, x_max=28)
    inside = inscribed_ellipsoid(box, (40, 50, 30))
    assert inside.sum() == pytest.approx(np.pi / 6 * box.volume, rel=0.01)


def test_a_mirrored_box_bounds_the_mirrored_voxels() -> None:
    shape, box = (7, 8, 9), Box(1, 5, 2, 0, 3, 4, 8)
    volume = np.zeros(shape, bool)
    volume[1:5, 0:3, 4:8] = True
    for axis in range(3):
        flipped = flip_box(box, shape, axis)
        mirrored = np.zeros(shape, bool)
        mirrored[tuple(slice(a, b) for a, b in zip(flipped.low, flipped.high, strict=True))] = True
        np.testing.assert_array_equal(mirrored, np.flip(volume, axis))
        assert flipped.z_mid == (4 if axis == 0 else 2)


@pytest.mark.parametrize("axis", range(3))
def test_mirroring_a_case_moves_its_clicks_and_its_previous_prediction(axis: int) -> None:
    shape, click = (5, 6, 7), Click(1, 2, 3, positive=False)
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    prompts = (ClassPrompts(1, Box(0, 4, 1, 1, 5, 2, 7), (click,)),)
    case = Case("case", image, (1.0, 2.0, 3.0), prompts, (image % 2).astype(np.uint8))
    mirrored = flip_case(case, axis)
    assert mirrored.previous is not None
    (moved,) = mirrored.prompts[0].clicks
    assert moved == flip_click(click, shape, axis)
    assert mirrored.image[moved.voxel] == image[click.voxel]
    assert mirrored.previous[moved.voxel] == image[click.voxel] % 2
    again = flip_case(mirrored, axis)
    assert again.prompts == case.prompts
    np.testing.assert_array_equal(again.image, case.image)


def test_the_large_case_holds_ten_separate_classes() -> None:
    phantom = draw_large_phantom(shrink=8)
    assert phantom.truth.shape == phantom.image.shape == (75, 64, 64)
    assert np.unique(phantom.truth).tolist() == list(range(11))
    assert all(one.box for one in phantom.prompts)

"""Cubes of blocks around a click, and what is measured in them."""

import numpy as np
import pytest

from gamt.lifting.cubes import (
    LARGEST,
    Cube,
    average,
    component,
    cubes,
    depths,
    is_noisy,
    look_around,
    noise_of,
    to_finite,
    to_raw,
)
from tests.doubles import block

ALL = 1000.0


def test_blocks_have_the_mean_of_their_voxels_and_the_click_in_the_middle() -> None:
    # Blocks of two voxels begin one voxel before the click: z 0, 1-2, 3-4, 5; y 0-1, 2-3, 4-5, 6-7;
    # x 0, 1-2, 3-4, 5-6, 7-8, 9.
    image = np.arange(6 * 8 * 10, dtype=np.int16).reshape(6, 8, 10)
    cube = look_around(image, (1, 1, 1), (2, 3, 4), step_mm=2, reach_mm=ALL)
    assert cube.image.shape == (4, 4, 6)
    assert cube.click == (1, 1, 2)
    assert cube.image[cube.click] == image[1:3, 2:4, 3:5].mean()
    assert cube.image[0, 3, 5] == image[0:1, 6:8, 9:10].mean()
    assert cube.spacing_mm == (2, 2, 2)
    assert cube.whole


def test_thick_slices_are_not_averaged() -> None:
    # Steps of 2 mm are 4 voxels of 0.5 mm, 2 of 1 mm, and one of 5 mm.
    image = np.zeros((7, 20, 24), np.float32)
    cube = look_around(image, (5, 1, 0.5), (3, 10, 12), step_mm=2, reach_mm=ALL)
    assert cube.spacing_mm == (5, 2, 2)
    assert cube.step_mm == 2
    assert cube.image.shape[0] == 7


def test_blocks_become_their_voxels_again() -> None:
    image = np.zeros((6, 8, 10), np.uint8)
    cube = look_around(image, (1, 1, 1), (2, 3, 4), step_mm=2, reach_mm=ALL)
    region = block(cube.image.shape, slice(1, 2), slice(1, 2), slice(2, 3))
    raw = to_raw(region, cube.edges)
    np.testing.assert_array_equal(raw, block((6, 8, 10), slice(1, 3), slice(2, 4), slice(3, 5)))


@pytest.mark.parametrize(
    ("click", "low", "shape", "faces"),
    [
        ((5, 5, 5), (3, 3, 3), (5, 5, 5), 6 * 25),  # the scan goes on to all sides
        ((0, 5, 5), (0, 3, 3), (3, 5, 5), 25 + 4 * 15),  # not below the first slice
        ((10, 11, 12), (8, 9, 10), (3, 3, 3), 3 * 9),  # nor behind a corner
    ],
)
def test_a_region_goes_on_where_the_scan_does(
    click: tuple[int, int, int],
    low: tuple[int, int, int],
    shape: tuple[int, int, int],
    faces: int,
) -> None:
    image = np.zeros((11, 12, 13), np.uint8)
    cube = look_around(image, (1, 1, 1), click, step_mm=1, reach_mm=2)
    assert (cube.low, cube.image.shape) == (low, shape)
    assert cube.count_open(np.ones(shape, np.bool_)) == faces
    assert cube.count_open(block(shape, slice(1, 2), slice(1, 2), slice(1, 2))) == 0
    assert not cube.whole


def test_cubes_double_until_one_holds_the_scan() -> None:
    # 18 blocks to each side are 18, 36 and 72 voxels: the last holds all 100 around the 50th.
    image = np.zeros((100, 10, 12), np.uint8)
    steps = [cube.step_mm for cube in cubes(image, (1, 1, 1), (50, 5, 5))]
    assert steps == [1, 2, 4]


def test_a_small_scan_is_one_cube() -> None:
    (cube,) = cubes(np.zeros((3, 5, 7), np.uint8), (4, 1, 1), (1, 2, 3))
    assert cube.image.shape == (3, 5, 7)


def test_intensities_become_finite() -> None:
    image = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 7.5])
    expected = [0, LARGEST, -LARGEST, LARGEST, -LARGEST, 7.5]
    np.testing.assert_array_equal(to_finite(image), np.array(expected, np.float32))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_noise_is_measured_beside_structure(scale: float) -> None:
    # Half a volume is brighter; noise is to have a deviation of 10, of which 0.2 % of the range
    # from the 5th to the 95th percentile, some 126, are taken for granted.
    noise = np.random.default_rng(0).normal(0, 10, (24, 25, 26))
    noise[12:] += 100
    image = (scale * noise).astype(np.float32)
    assert noise_of(image) == pytest.approx(10.25 * scale, rel=0.03)
    assert is_noisy(image)


def test_drawn_images_have_no_noise_of_their_own() -> None:
    image = np.where(block((8, 9, 10), slice(2, 6), slice(3, 7), slice(2, 7)), 200, 50)
    values = image.astype(np.float32)
    assert not is_noisy(values)
    assert noise_of(values) == pytest.approx(0.002 * 150)
    for flat in (0, 5):
        assert 0 < noise_of(np.full((3, 4, 5), flat, np.float32)) < 1e-5
    assert noise_of(np.full((1, 1, 1), 5, np.float32)) > 0


def test_depth_is_in_millimetres_and_the_images_edge_is_no_border() -> None:
    # A slab from the first slice up to the third of 3 mm: the border is at its far side alone.
    region = block((5, 4, 4), slice(0, 3))
    expected = [9, 6, 3, 0, 0]
    np.testing.assert_array_equal(depths(region, (3, 1, 1))[:, 2, 2], expected)


def test_a_component_does_not_hang_together_at_edges() -> None:
    region = block((4, 5, 6), slice(0, 2), slice(0, 2), slice(0, 2))
    other = block((4, 5, 6), slice(2, 4), slice(2, 4), slice(1, 3))
    np.testing.assert_array_equal(component(region | other, (1, 1, 1)), region)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (9, 1, 1), (1, 6, 7), (2, 1, 8)])
def test_components_of_thin_volumes_are_found(shape: tuple[int, int, int]) -> None:
    assert component(np.ones(shape, np.bool_), (0, 0, 0)).all()


def test_averages_reach_as_far_in_millimetres_on_every_axis() -> None:
    # A point spreads over one deviation: 1 mm are half a voxel on z, and two on x.
    image = np.zeros((21, 21, 41), np.float32)
    image[10, 10, 20] = 1
    edges = tuple(np.arange(size + 1) for size in image.shape)
    cube = Cube(image, (10, 10, 20), (2.0, 1.0, 0.5), (0, 0, 0), edges, ((False, False),) * 3)
    seen = average(cube, 1.0)
    # Two voxels on x are 1 mm away, as is one on y: exp(-1/2) of the peak, both.
    assert seen[10, 10, 22] == pytest.approx(seen[10, 11, 20], rel=0.02)
    assert seen[10, 11, 20] / seen[10, 10, 20] == pytest.approx(np.exp(-0.5), rel=0.02)
    assert average(cube, 0) is image

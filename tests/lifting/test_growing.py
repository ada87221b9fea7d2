"""Bodies grown around a click: what counts as one, which is chosen, and where it ends."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.phantoms import dice
from gamt.lifting.budget import OutOfTime
from gamt.lifting.cubes import Spacing, Voxel
from gamt.lifting.growing import (
    MANY,
    Body,
    Recipe,
    Step,
    border_size,
    choose,
    face_contrast,
    find_bodies,
    openings,
    plateaus,
    settle,
    settle_border,
)
from tests.doubles import Mask, block

SHAPE = (20, 30, 40)
BLOCK = block(SHAPE, slice(6, 14), slice(8, 20), slice(10, 26))
MIDDLE = (10, 14, 18)


def ball(shape: tuple[int, int, int], centre: Voxel, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Returns the voxels whose middles are up to a distance from a voxel's."""
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    away = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, spacing_mm, strict=True))
    return np.asarray(away <= radius_mm**2)


def drawn(mask: Mask, inside: float, outside: float, noise: float = 0) -> npt.NDArray[np.float64]:
    """Returns a picture of a mask, with normal noise of the same seed."""
    return np.where(mask, inside, outside) + np.random.default_rng(0).normal(0, noise, mask.shape)


def whole(body: Body, shape: tuple[int, int, int]) -> Mask:
    """Returns a body's mask over all of a volume."""
    mask = np.zeros(shape, np.bool_)
    mask[tuple(slice(a, a + n) for a, n in zip(body.low, body.mask.shape, strict=True))] = body.mask
    return mask


def grown(
    image: npt.NDArray[np.float64], click: Voxel, spacing_mm: Spacing = (1, 1, 1)
) -> Mask | None:
    """Returns the body that is chosen at a click, over all of the volume; None where none is."""
    body = choose(find_bodies(image, spacing_mm, click))
    if body is None:
        return None
    shape = (image.shape[0], image.shape[1], image.shape[2])
    return whole(settle(image, spacing_mm, click, body), shape)


# --- parts --------------------------------------------------------------------------------------


def test_a_plateau_lasts_from_its_first_tolerance_to_the_one_that_leaks() -> None:
    # Ten voxels from tolerance 1 until 8 takes them up to a hundred; the square root of 8 lies
    # between 2 and 4, so that the step at 4 is the middle. The hundred last one ratio, 1.2.
    regions = [Step(t, np.ones((1, 1, n), np.bool_), n, 0) for t, n in [(1, 10), (2, 10), (4, 11)]]
    leaked = Step(8, np.ones((1, 1, 100), np.bool_), 100, 0)
    first, second = plateaus([*regions, leaked])
    assert first[:2] == pytest.approx((np.log(8), 8))
    assert first[2] is regions[2]
    assert second[:2] == pytest.approx((np.log(1.2), 9.6))
    assert second[2] is leaked
    assert list(plateaus([])) == []


def test_contrast_is_taken_beyond_the_blur_of_a_border() -> None:
    # A step from 0 to 10 with one voxel of partial volume; whichever side has that voxel, the
    # second voxels to both sides are 0 and 10.
    image = np.array([0, 0, 5, 10, 10], np.float32).reshape(1, 1, 5)
    for first in (2, 3):
        region = block((1, 1, 5), slice(None), slice(None), slice(first, 5))
        np.testing.assert_array_equal(face_contrast(image, region), [10])


def test_contrast_of_what_is_a_voxel_thick_is_that_of_the_voxel() -> None:
    image = np.array([0, 0, 10, 0, 0], np.float32).reshape(5, 1, 1)
    region = block((5, 1, 1), slice(2, 3))
    np.testing.assert_array_equal(face_contrast(image, region), [10, 10])


def test_a_cuboid_has_the_faces_of_its_sides() -> None:
    region = block((6, 7, 8), slice(1, 3), slice(1, 4), slice(1, 5))
    assert border_size(region) == 2 * (2 * 3 + 3 * 4 + 2 * 4)


def test_an_opening_cuts_a_bridge_that_is_thinner_than_itself() -> None:
    # Two blocks of 8 x 8 x 8 voxels, joined by a bridge of two. An opening rounds corners: a
    # voxel of the block may be lost where it is farther than the radius from the core.
    here = block((12, 12, 30), slice(2, 10), slice(2, 10), slice(2, 10))
    there = block(here.shape, slice(2, 10), slice(2, 10), slice(18, 26))
    bridge = block(here.shape, slice(5, 7), slice(5, 7), slice(10, 18))
    region, spacing_mm = here | bridge | there, (1.0, 1.0, 1.0)
    same, opened = openings(region, (6, 6, 6), [0, 1.5], spacing_mm)
    assert same is region
    assert not (opened & there).any()
    assert not opened[:, :, 12:].any()
    inner = block(here.shape, slice(2, 10), slice(3, 9), slice(3, 9))
    assert opened[inner].all()
    assert list(openings(region, (5, 5, 14), [1.5, 2.5], spacing_mm)) == []


def made(size: int, **changes: Any) -> Body:
    """Returns a body of that many voxels that stands out, but for what is said otherwise."""
    recipe = Recipe(100, 20, 60, 0, 0, 5)
    edges = np.array([0, 1]), np.array([0, 1]), np.arange(size + 1)
    body = Body((0, 0, 0), np.ones((1, 1, size), np.bool_), edges, recipe, 2.0, 4.0, 1.0, 1.0, 0)
    return replace(body, **changes)


def test_a_body_that_is_cut_off_is_chosen_only_where_no_whole_one_stands_out() -> None:
    part, faint, whole = made(50, cut_off=True), made(400, spread=3.0, edge=9.0), made(1000)
    assert choose([part, faint, whole]) is whole
    assert choose([part, faint]) is part


def test_the_smallest_body_that_stands_out_is_chosen() -> None:
    small, large = made(50), made(1000)
    assert choose([small, large]) is small
    assert choose([made(50, spread=2.5), large]) is large  # two bodies, rather than one
    assert choose([made(50, persistence=1.0), large]) is large  # clear, by chance perhaps
    assert choose([made(50, persistence=1.2, halvings=1), large]) is large  # coarse as well
    assert choose([made(50, spread=2.5)]) is None
    assert choose([]) is None


def test_a_body_that_is_seen_in_many_ways_needs_to_last_less() -> None:
    assert choose([made(50, persistence=0.9)] * (MANY - 1)) is None
    assert choose([made(50, persistence=0.9)] * MANY) is not None


def test_of_bodies_of_one_size_that_seen_finest_is_taken() -> None:
    coarse, fine = made(50, halvings=1), made(60)
    assert choose([coarse, fine]) is fine


def opened(size: int, radius_mm: float, persistence: float) -> Body:
    """Returns a body that stands out, as an opening leaves it."""
    recipe = Recipe(100, 20, 60, radius_mm, 0, 5)
    return made(size, recipe=recipe, persistence=persistence)


def test_a_part_of_what_tapers_is_not_chosen() -> None:
    # Each opening leaves less of it, for a shorter time.
    whole = opened(1000, 0, 2.5)
    parts = [opened(200, 4, 1.3), opened(500, 2.5, 2.0)]
    assert choose([*parts, whole]) is whole
    # Of two bodies on a bridge, any opening leaves the same.
    same = opened(210, 2.5, 1.6)
    assert choose([parts[0], same, whole]) is same
    # What is cut out stands out more than the whole.
    assert choose([parts[0], opened(1000, 0, 1.2)]) is parts[0]


def test_a_click_at_the_border_is_less_sure_than_one_in_the_middle() -> None:
    assert made(50).clear
    assert not made(50, persistence=1.0, centrality=0.3).clear  # 1 + log(0.3) / 2 = 0.4
    assert not made(50, edge=1.4).clear
    assert not made(50, spread=8.0).clear  # an edge of 10 is less than 1.5 times that


def test_a_border_moves_to_where_the_intensities_change() -> None:
    # A mask that is a voxel off on x: voxels between the two borders go to their own side.
    image = drawn(BLOCK, 140, 100, noise=3).astype(np.float32)
    moved = np.roll(BLOCK, 1, axis=2)
    settled, _ = settle_border(image, moved, MIDDLE, (1, 1, 1), reach_mm=2, noise=3)
    np.testing.assert_array_equal(settled, BLOCK)


@pytest.mark.parametrize("halvings", [1, 2])  # settled voxel by voxel, and in blocks of two
def test_a_body_that_fills_the_scan_has_no_border_to_settle(halvings: int) -> None:
    image = drawn(BLOCK, 200, 50, noise=8)
    body = choose(find_bodies(image, (1, 1, 1), MIDDLE))
    assert body is not None
    edges = tuple(np.arange(size + 1) for size in SHAPE)
    full = replace(
        body, low=(0, 0, 0), region=np.ones(SHAPE, np.bool_), edges=edges, halvings=halvings
    )
    assert whole(settle(image, (1, 1, 1), MIDDLE, full), SHAPE).all()


# --- whole bodies -------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (3, 1, 1), (2.5, 0.7, 0.9)])
@pytest.mark.parametrize(("inside", "outside"), [(200, 50), (50, 200), (0, 1), (-850, 60)])
def test_a_block_without_noise_is_found_exactly(
    spacing_mm: Spacing, inside: float, outside: float
) -> None:
    for click in (MIDDLE, (8, 10, 12)):
        np.testing.assert_array_equal(
            grown(drawn(BLOCK, inside, outside), click, spacing_mm), BLOCK
        )


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (3, 1, 1), (2.5, 0.7, 0.9)])
@pytest.mark.parametrize(("inside", "outside"), [(180, 100), (100, 180)])
def test_a_noisy_block_is_found(spacing_mm: Spacing, inside: float, outside: float) -> None:
    found = grown(drawn(BLOCK, inside, outside, noise=10), MIDDLE, spacing_mm)
    assert found is not None
    assert dice(found, BLOCK) > 0.97


def test_a_core_does_not_come_back_as_its_shell_nor_the_shell_as_its_core() -> None:
    shape, spacing_mm = (26, 44, 48), (1.5, 1.0, 1.0)
    core = ball(shape, (13, 22, 24), 6, spacing_mm)
    outer = ball(shape, (13, 22, 24), 15, spacing_mm)
    image = drawn(outer, 120, 60, noise=5) + 60 * core
    found = grown(image, (13, 22, 24), spacing_mm)
    assert found is not None
    assert dice(found, core) > 0.97
    shell = grown(image, (13, 22, 34), spacing_mm)
    assert shell is not None
    assert dice(shell, outer & ~core) > 0.95
    assert not (shell & core)[13, 22, 24]


@pytest.mark.parametrize("noise", [0, 8])
def test_seven_voxels_are_a_body(noise: float) -> None:
    tiny = ball(SHAPE, MIDDLE, 1, (1, 1, 1))
    assert tiny.sum() == 7
    np.testing.assert_array_equal(grown(drawn(tiny, 200, 50, noise), MIDDLE), tiny)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_a_scan_is_a_body(axis: int) -> None:
    half = np.moveaxis(np.zeros(SHAPE, np.bool_), axis, 0)
    half[: len(half) // 2] = True
    half = np.moveaxis(half, 0, axis)
    z, y, x = (size // 4 if n == axis else size // 2 for n, size in enumerate(SHAPE))
    found = grown(drawn(half, 140, 60, noise=8), (z, y, x))
    assert found is not None
    assert dice(found, half) > 0.99


def test_a_body_in_thick_slices_is_found() -> None:
    # Two slices of 10 mm.
    thin = block((8, 60, 64), slice(3, 5), slice(20, 40), slice(20, 44))
    found = grown(drawn(thin, 200, 50, noise=8), (3, 30, 32), (10, 1, 1))
    assert found is not None
    assert dice(found, thin) > 0.97


def test_a_bridge_to_an_alike_neighbour_is_cut() -> None:
    here = block((24, 30, 60), slice(6, 18), slice(8, 20), slice(6, 24))
    there = block(here.shape, slice(6, 18), slice(8, 20), slice(34, 52))
    bridge = block(here.shape, slice(11, 13), slice(13, 15), slice(24, 34))
    found = grown(drawn(here | there | bridge, 200, 50, noise=8), (12, 14, 15))
    assert found is not None
    assert dice(found, here) > 0.95
    assert not (found & there).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_vessel_that_tapers_is_found_from_its_thick_end(axis: int) -> None:
    # From a radius of 6 voxels at one end down to 2 at the other.
    z, y, x = np.ogrid[:40, :20, :22]
    vessel = (y - 9) ** 2 + (x - 11) ** 2 <= (6 - z / 10) ** 2
    vessel &= (z >= 2) & (z < 38)
    place = np.roll((6, 9, 11), axis)
    found = grown(drawn(vessel.transpose(np.roll(range(3), axis)), 180, 60, noise=6), tuple(place))
    assert found is not None
    assert dice(found, vessel.transpose(np.roll(range(3), axis))) > 0.98


def test_a_body_that_is_much_larger_than_a_cube_is_found() -> None:
    # 56 mm across in a scan of 128: the cube of 18 voxels to each side is left.
    shape, spacing_mm = (32, 112, 128), (2.0, 1.0, 1.0)
    organ = ball(shape, (15, 54, 60), 28, spacing_mm)
    found = grown(drawn(organ, 140, 100, noise=8), (14, 50, 66), spacing_mm)
    assert found is not None
    assert dice(found, organ) > 0.97


@pytest.mark.parametrize("seed", range(4))
def test_noise_holds_no_body(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(100, 10, SHAPE)
    assert grown(noise, (10, 15, 20)) is None


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1), (1, 1, 9), (1, 12, 1)])
def test_a_flat_scan_holds_no_body(value: float, shape: tuple[int, int, int]) -> None:
    z, y, x = (size // 2 for size in shape)
    assert find_bodies(np.full(shape, value), (1, 1, 1), (z, y, x)) == []


def test_a_body_is_found_in_one_slice_and_on_one_line() -> None:
    flat = block((1, 40, 50), slice(0, 1), slice(10, 25), slice(12, 30))
    found = grown(drawn(flat, 200, 50, noise=8), (0, 17, 20), (5, 1, 1))
    np.testing.assert_array_equal(found, flat)
    line = block((1, 1, 60), slice(0, 1), slice(0, 1), slice(20, 28))
    np.testing.assert_array_equal(grown(drawn(line, 200, 50), (0, 0, 24)), line)


def test_voxels_that_are_no_numbers_or_far_out_change_nothing() -> None:
    image = drawn(BLOCK, 200, 50)
    image[0, 0, 0], image[1, 1, 1], image[2, 2, 2], image[3, 3, 3] = np.nan, np.inf, -np.inf, 1e300
    np.testing.assert_array_equal(grown(image, MIDDLE), BLOCK)


def test_the_largest_intensities_are_told_apart() -> None:
    np.testing.assert_array_equal(grown(drawn(BLOCK, 1e300, -1e300), MIDDLE), BLOCK)


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_search_can_be_ended_before_any_growth(allowed: int) -> None:
    steps = 0

    def stop() -> None:
        nonlocal steps
        if steps == allowed:
            raise InterruptedError
        steps += 1

    with pytest.raises(InterruptedError):
        find_bodies(drawn(BLOCK, 200, 50, noise=8), (1, 1, 1), MIDDLE, stop)
    assert steps == allowed


class TimeIsUp:
    """Raises `OutOfTime` at a step and at all after it."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OutOfTime


def test_a_search_that_runs_out_of_time_returns_what_was_found_until_then() -> None:
    image = drawn(BLOCK, 200, 50, noise=8)
    whole_search = TimeIsUp(10**6)
    found = find_bodies(image, (1, 1, 1), MIDDLE, whole_search)
    steps = 10**6 - whole_search.left
    assert find_bodies(image, (1, 1, 1), MIDDLE, TimeIsUp(0)) == []
    some = find_bodies(image, (1, 1, 1), MIDDLE, TimeIsUp(steps // 2))
    assert 0 < len(some) < len(found)
    assert {body.recipe for body in some} < {body.recipe for body in found}


def test_a_body_that_there_is_no_time_to_settle_stays_as_it_was() -> None:
    image = drawn(BLOCK, 200, 50, noise=8)
    body = choose(find_bodies(image, (1, 1, 1), MIDDLE))
    assert body is not None
    coarse = replace(body, halvings=1)
    assert settle(image, (1, 1, 1), MIDDLE, coarse, TimeIsUp(0)) is coarse
    assert settle(image, (1, 1, 1), MIDDLE, coarse, TimeIsUp(10**6)) is not coarse

"""What a click stands in: one body at three scales, wherever and however it is stored."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.phantoms import dice
from gamt.lifting.bodies import Found, Part, Scales, find_along, find_at, other_scales, share
from gamt.lifting.budget import OutOfTime
from gamt.lifting.cubes import Spacing, Voxel
from gamt.lifting.growing import Body
from tests.doubles import Mask, block
from tests.lifting.test_growing import BLOCK, MIDDLE, SHAPE, ball, drawn, made

SPACING = (2.0, 1.0, 0.8)


def whole(part: Part, image: npt.NDArray[np.generic]) -> Mask:
    """Returns a part over all of a volume."""
    z, y, x = image.shape
    return part.within(((0, 0, 0), (z, y, x)))


def medium(image: npt.NDArray[np.generic], click: Voxel, spacing_mm: Spacing = SPACING) -> Mask:
    """Returns what a click most likely stands in, over all of the volume."""
    return whole(find_at(image, spacing_mm, click).scales["medium"], image)


# --- parts --------------------------------------------------------------------------------------


def test_a_part_is_cut_to_its_bounds() -> None:
    part = Part.tight((10, 20, 30), block((5, 6, 7), slice(1, 3), slice(2, 5), slice(3, 7)))
    assert part.low == (11, 22, 33)
    assert part.bounds == ((11, 22, 33), (13, 25, 37))
    assert part.size == 2 * 3 * 4
    assert part.mask.all()


def test_an_empty_mask_is_no_part() -> None:
    with pytest.raises(ValueError, match="found an empty mask"):
        Part.tight((0, 0, 0), np.zeros((2, 3, 4), np.bool_))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((0, 0, 0), (9, 9, 9), (slice(2, 4), slice(3, 6), slice(4, 8))),  # around it
        ((3, 4, 5), (4, 5, 6), (slice(0, 1), slice(0, 1), slice(0, 1))),  # in it
        ((3, 0, 6), (9, 4, 9), (slice(0, 1), slice(3, 4), slice(0, 2))),  # across it
        ((4, 0, 0), (9, 9, 9), (slice(0, 0), slice(0, 0), slice(0, 0))),  # behind it
        ((0, 0, 0), (2, 9, 9), (slice(0, 0), slice(0, 0), slice(0, 0))),  # before it
    ],
)
def test_a_part_is_shown_within_other_bounds(
    low: Voxel, high: Voxel, expected: tuple[slice, slice, slice]
) -> None:
    part = Part((2, 3, 4), np.ones((2, 3, 4), np.bool_))
    shape = tuple(b - a for a, b in zip(low, high, strict=True))
    np.testing.assert_array_equal(part.within((low, high)), block(shape, *expected))


# --- at a click ---------------------------------------------------------------------------------


def test_a_body_that_stands_out_is_clear_and_one_that_does_not_is_rough() -> None:
    clear = find_at(drawn(BLOCK, 180, 100, noise=8), SPACING, MIDDLE)
    assert clear.clear
    assert clear.scales["medium"].size == pytest.approx(BLOCK.sum(), rel=0.05)
    noise = np.random.default_rng(0).normal(100, 10, SHAPE)
    assert not find_at(noise, SPACING, MIDDLE).clear


@pytest.mark.parametrize("find", [find_at, find_along])
def test_a_search_that_has_no_time_for_a_clear_body_makes_a_rough_one(
    find: Callable[..., Found],
) -> None:
    def time_is_up() -> None:
        raise OutOfTime

    image = drawn(BLOCK, 180, 100, noise=8)
    seed = MIDDLE if find is find_at else np.array([MIDDLE])
    found = find(image, SPACING, seed, time_is_up)
    assert not found.clear
    assert dice(whole(found.scales["medium"], image), BLOCK) > 0.7


def check_scales(found: Found, image: npt.NDArray[np.generic], click: Voxel) -> None:
    tight, likeliest, large = (
        whole(found.scales[one], image) for one in ("tight", "medium", "large")
    )
    assert tight[click]
    assert likeliest[click]
    assert large[click]
    assert tight.sum() <= likeliest.sum() <= large.sum()


@pytest.mark.parametrize("noise", [0, 5, 40])
@pytest.mark.parametrize("click", [MIDDLE, (6, 8, 10), (0, 0, 0), (19, 29, 39)])
def test_scales_hold_the_click_and_grow(noise: float, click: Voxel) -> None:
    image = drawn(BLOCK, 150, 100, noise)
    check_scales(find_at(image, SPACING, click), image, click)


def test_other_scales_are_clear_bodies_where_there_are_such() -> None:
    # A core with a radius of 6 mm, within a shell of 15 mm.
    shape, click = (26, 44, 48), (13, 22, 24)
    core, outer = (ball(shape, click, radius, (1.5, 1, 1)) for radius in (6, 15))
    image = drawn(outer, 120, 60, noise=5) + 60 * core
    found = find_at(image, (1.5, 1, 1), click)
    assert dice(whole(found.scales["medium"], image), core) > 0.97
    assert dice(whole(found.scales["large"], image), outer) > 0.95


def test_of_clear_bodies_the_next_ones_of_half_and_twice_the_size_are_the_other_scales() -> None:
    body = Part.tight((0, 0, 0), block((4, 10, 30), slice(2), slice(5), slice(20)))  # 200 voxels
    bodies = [made(size) for size in (50, 90, 150, 250, 410, 900)]
    scales = other_scales((4, 10, 30), (1.5, 1, 1), (0, 0, 0), body, bodies)
    assert (scales["tight"].size, scales["large"].size) == (90, 410)


def test_where_no_other_body_is_clear_scales_have_half_and_twice_the_voxels() -> None:
    shape, click, spacing_mm = (26, 44, 48), (13, 22, 24), (2.0, 1.0, 1.0)
    body = Part.tight((0, 0, 0), ball(shape, click, 8, spacing_mm))
    scales = other_scales(shape, spacing_mm, click, body, [])
    assert scales["tight"].size == body.size // 2
    assert scales["large"].size == 2 * body.size
    assert scales["tight"].within(body.bounds).sum() == body.size // 2  # nothing of it is outside
    assert scales["tight"].holds(click)
    assert (scales["large"].within(body.bounds) | ~body.mask).all()  # nothing of it is missing


def test_scales_are_made_when_asked_for_and_once() -> None:
    calls = []

    def make() -> Part:
        calls.append("tight")
        return Part((0, 0, 0), np.ones((1, 1, 1), np.bool_))

    scales = Scales({"tight": make})
    assert list(scales) == ["tight"]
    assert calls == []
    assert scales["tight"] is scales["tight"]
    assert calls == ["tight"]


def test_a_body_in_which_two_classes_are_clicked_is_shared_out_along_an_edge() -> None:
    # Two blocks of 8 x 8 x 10 voxels side by side, 10 grey levels apart; both clicks found both.
    shape = (12, 14, 30)
    left, right = (block(shape, slice(2, 10), slice(3, 11), slice(a, a + 10)) for a in (4, 14))
    image = 20 + 80 * left + 90 * right
    both = Part.tight((0, 0, 0), left | right)
    scales = other_scales(shape, (1, 1, 1), (6, 7, 8), both, [])
    clicks = {3: (6, 7, 8), 5: (6, 7, 19)}
    found = {label: Found(True, scales, click) for label, click in clicks.items()}
    shared = share(image, (1, 1, 1), found)
    one, other = (whole(shared[label].scales["medium"], image) for label in clicks)
    assert not (one & other).any()
    np.testing.assert_array_equal(one | other, left | right)
    assert dice(one, left) > 0.9
    assert dice(other, right) > 0.9


@pytest.mark.parametrize("noise", [0, 1])
def test_a_body_without_an_edge_is_shared_out_by_the_distance_from_the_clicks(noise: float) -> None:
    # Voxels are 2 mm high: the upper click has 4 slices up to the middle, the lower one 6.
    shape, spacing_mm = (14, 14, 14), (2, 1, 1)
    body = block(shape, slice(2, 12), slice(2, 12), slice(2, 12))
    image = drawn(body, 60, 20, noise)
    clicks = {1: (4, 7, 7), 2: (7, 7, 7)}
    found = {label: find_at(image, spacing_mm, click) for label, click in clicks.items()}
    shared = share(image, spacing_mm, found)
    sizes = [one.scales["medium"].size for one in shared.values()]
    assert sizes == pytest.approx([400, 600], abs=20)
    for label, one in shared.items():
        check_scales(one, image, clicks[label])


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.8)])
def test_a_scribble_across_a_core_and_its_shell_lies_in_both(spacing_mm: Spacing) -> None:
    # A click in the core stands in the core; a line through both holds less than 0.9 of it.
    shape, middle = (30, 44, 48), (15, 22, 24)
    core, outer = (ball(shape, middle, radius, spacing_mm) for radius in (5, 13))
    image = drawn(outer, 130, 60, noise=3) + 25 * core
    line = np.argwhere(outer & block(shape, slice(15, 16), slice(22, 23), slice(24, 48)))
    clicked = whole(find_at(image, spacing_mm, middle).scales["medium"], image)
    assert dice(clicked, core) > 0.95
    found = find_along(image, spacing_mm, line)
    assert found.clear
    assert dice(whole(found.scales["medium"], image), outer) > 0.95


def test_a_scribble_within_a_core_lies_in_the_core() -> None:
    shape, middle = (26, 44, 48), (13, 22, 24)
    core, outer = (ball(shape, middle, radius, (1.5, 1, 1)) for radius in (6, 15))
    image = drawn(outer, 120, 60, noise=5) + 60 * core
    line = np.argwhere(core & block(shape, slice(13, 14), slice(20, 22), slice(0, 48)))
    found = find_along(image, (1.5, 1, 1), line)
    assert dice(whole(found.scales["medium"], image), core) > 0.95
    assert tuple(found.seed) in {tuple(voxel) for voxel in line.tolist()}


def test_a_body_is_asked_for_some_of_a_long_scribble_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    holds = Body.holds

    def count(body: Body, voxels: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        asked.append(len(voxels))
        return holds(body, voxels)

    monkeypatch.setattr(Body, "holds", count)
    shape = (40, 50, 60)
    target = ball(shape, (20, 25, 30), 18, (1, 1, 1))
    assert target.sum() > 20_000
    found = find_along(drawn(target, 120, 60, noise=5), (1, 1, 1), np.argwhere(target))
    assert dice(whole(found.scales["medium"], target), target) > 0.95
    assert max(asked) == 5_000


def test_a_scribble_whose_middle_lies_in_something_else_is_looked_for_elsewhere() -> None:
    # The middle of the line is a bright speck within the block: a body of its own.
    image = drawn(BLOCK, 180, 100, noise=5)
    z, y, x = MIDDLE
    image[z, y - 1 : y + 2, x - 1 : x + 2] = 250
    line = np.argwhere(BLOCK & block(SHAPE, slice(z, z + 1), slice(y, y + 1), slice(None)))
    found = find_along(image, SPACING, line)
    assert found.clear
    assert dice(whole(found.scales["medium"], image), BLOCK) > 0.95


def test_a_scribble_in_what_does_not_stand_out_gets_a_rough_body() -> None:
    noise = np.random.default_rng(0).normal(100, 10, SHAPE)
    line = np.argwhere(block(SHAPE, *(slice(v, v + 1) for v in MIDDLE[:2]), slice(8, 16)))
    found = find_along(noise, SPACING, line)
    assert not found.clear
    assert whole(found.scales["medium"], noise)[found.seed]


def test_classes_that_are_clicked_on_one_voxel_both_have_all_of_the_body() -> None:
    found = find_at(BLOCK.astype(np.uint8), SPACING, MIDDLE)
    shared = share(BLOCK.astype(np.uint8), SPACING, {1: found, 2: found})
    assert [one.scales["medium"].size for one in shared.values()] == [BLOCK.sum(), BLOCK.sum()]


def test_a_clear_body_gives_way_to_a_rough_one_that_stays_as_it_is() -> None:
    part = Part.tight((0, 0, 0), BLOCK)
    scales = other_scales(SHAPE, SPACING, MIDDLE, part, [])
    clicks = {1: MIDDLE, 2: (8, 10, 12)}
    found = {1: Found(True, scales, clicks[1]), 2: Found(False, scales, clicks[2])}
    shared = share(BLOCK.astype(np.uint8), SPACING, found)
    clear, rough = (shared[label].scales["medium"] for label in clicks)
    assert rough.size == part.size
    assert 0 < clear.size < part.size
    assert not clear.holds(clicks[2])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (1, 7, 1), (1, 9, 8), (2, 1, 30)])
@pytest.mark.parametrize("kind", ["flat", "noise", "nan", "infinite"])
def test_volumes_of_few_voxels_give_the_click_at_least(
    shape: tuple[int, int, int], kind: str
) -> None:
    noise = np.random.default_rng(0).normal(0, 1, shape)
    image = {
        "flat": np.zeros(shape),
        "noise": noise,
        "nan": np.full(shape, np.nan),
        "infinite": np.where(noise > 0, np.inf, -np.inf),
    }[kind]
    for click in ((0, 0, 0), tuple(size - 1 for size in shape)):
        z, y, x = click
        check_scales(find_at(image, (3, 1, 1), (z, y, x)), image, (z, y, x))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int64, np.float16])
def test_any_type_of_numbers_will_do(dtype: type[np.generic]) -> None:
    np.testing.assert_array_equal(medium(BLOCK.astype(dtype), MIDDLE), BLOCK)


# --- what makes no difference -------------------------------------------------------------------

# A small part of it, around the block, and the click in it.
NOISY = drawn(BLOCK, 180, 100, noise=8)[4:16, 5:23, 7:29]
IN_NOISY = (6, 9, 11)
EXPECTED = medium(NOISY, IN_NOISY)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("noise", [0, 8])
def test_the_order_and_direction_of_axes_make_no_difference(
    order: tuple[int, int, int], noise: float
) -> None:
    image = drawn(BLOCK, 180, 100, noise)
    expected = medium(image, MIDDLE)
    mirrored = np.ascontiguousarray(image[::-1, :, ::-1].transpose(order))
    place = (SHAPE[0] - 1 - MIDDLE[0], MIDDLE[1], SHAPE[2] - 1 - MIDDLE[2])
    z, y, x = (place[axis] for axis in order)
    dz, dy, dx = (SPACING[axis] for axis in order)
    found = medium(mirrored, (z, y, x), (dz, dy, dx))
    back = found.transpose(np.argsort(order))[::-1, :, ::-1]
    # Filters and means add up in another order.
    assert dice(back, expected) > 0.995
    if noise == 0:
        np.testing.assert_array_equal(back, expected)


def test_where_in_a_scan_a_body_lies_makes_no_difference() -> None:
    around = np.full((30, 44, 60), 100.0)
    here, there = around.copy(), around.copy()
    here[2:22, 3:33, 5:45] = drawn(BLOCK, 180, 100)
    there[8:28, 12:42, 15:55] = drawn(BLOCK, 180, 100)
    first = medium(here, (12, 17, 23))
    second = medium(there, (18, 26, 33))
    np.testing.assert_array_equal(np.roll(first, (6, 9, 10), (0, 1, 2)), second)
    assert first.sum() == BLOCK.sum()


@given(power=st.integers(-60, 40), sign=st.sampled_from([-1, 1]))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_intensities_makes_no_difference(power: int, sign: int) -> None:
    scaled = sign * 2.0**power * NOISY
    np.testing.assert_array_equal(medium(scaled, IN_NOISY), EXPECTED)


@given(factor=st.floats(0.01, 100), offset=st.integers(-2000, 2000))
@settings(max_examples=10, deadline=None)
def test_an_offset_of_intensities_makes_no_difference(factor: float, offset: int) -> None:
    # But for rounding, which may move voxels whose intensity is just at a limit.
    moved = medium(factor * NOISY + factor * offset, IN_NOISY)
    assert dice(moved, EXPECTED) > 0.995

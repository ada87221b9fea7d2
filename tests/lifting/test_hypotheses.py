"""What a box contradicts, on drawn slices."""

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.phantoms import dice
from gamt.lifting.hypotheses import (
    Hypothesis,
    contradict,
    ellipse,
    find_bodies,
    follow,
    misses,
)
from gamt.lifting.propagation import tight_box
from gamt.prompts import PixelBox
from gamt.segmenters.borders import border_contrast

Mask = npt.NDArray[np.bool_]

SHAPE = (64, 72)
BOX: PixelBox = (20, 18, 50, 44)
NO_MARGIN = (0.0, 0.0)


def disc(row: float, column: float, radius: float) -> Mask:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 <= radius**2, np.bool_)


def picture(mask: Mask, inside: int, outside: int, noise: float = 6.0) -> npt.NDArray[np.uint8]:
    """A slice with noise of a standard deviation in grey levels."""
    drawn = np.where(mask, inside, outside)
    drawn = drawn + np.random.default_rng(0).normal(0, noise, SHAPE)
    return drawn.clip(0, 255).astype(np.uint8)


def box_of(mask: Mask) -> PixelBox:
    box = tight_box(mask)
    assert box is not None
    return box


CRESCENT = disc(32, 36, 16) & ~disc(32, 42, 15)
TWO_DISCS = disc(24, 24, 6) | disc(40, 46, 7)


@pytest.mark.parametrize(("inside", "outside"), [(60, 140), (140, 60)])
@pytest.mark.parametrize("mask", [disc(32, 36, 13), CRESCENT, TWO_DISCS])
def test_a_body_that_fills_its_box_is_found_whatever_its_shape(
    mask: Mask, inside: int, outside: int
) -> None:
    found = find_bodies(picture(mask, inside, outside), box_of(mask), NO_MARGIN)
    assert dice(found[0].mask, mask) > 0.97


def test_a_body_in_a_large_box_is_found_on_a_thinned_out_slice() -> None:
    mask = np.kron(CRESCENT, np.ones((8, 8), np.bool_)).astype(np.bool_)
    image = np.where(mask, 40, 160).astype(np.uint8)
    found = find_bodies(image, box_of(mask), NO_MARGIN)
    assert found[0].mask.shape == mask.shape
    assert dice(found[0].mask, mask) > 0.95


def test_a_long_box_of_one_pixel_and_one_intensity_holds_no_body() -> None:
    mask = np.zeros((40, 320), np.bool_)
    mask[20, 30:290] = True
    found = find_bodies(np.where(mask, 200, 90).astype(np.uint8), box_of(mask), NO_MARGIN)
    assert not found  # no threshold parts what is in the box


def test_a_body_that_misses_a_side_is_none_unless_the_margin_is_as_wide() -> None:
    mask = disc(32, 36, 12)
    x0, y0, x1, y1 = box_of(mask)
    image = picture(mask, 140, 60)
    wide = (x0, y0, x1 + 4, y1)
    assert not find_bodies(image, wide, NO_MARGIN)
    assert dice(find_bodies(image, wide, (4.0, 4.0))[0].mask, mask) > 0.97


def test_what_goes_on_beyond_the_box_is_no_body() -> None:
    stripe = np.zeros(SHAPE, np.bool_)
    stripe[18:44] = True
    assert not find_bodies(picture(stripe, 140, 60), BOX, NO_MARGIN)


@pytest.mark.parametrize("side", [20, 40, 80])
def test_noise_has_no_bodies(side: int) -> None:
    noise = np.random.default_rng(side).integers(0, 255, (3 * side, 3 * side)).astype(np.uint8)
    assert not find_bodies(noise, (side, side, 2 * side, 2 * side), (1.0, 1.0))


def test_small_holes_are_filled_and_large_ones_are_not() -> None:
    # A ring of 16 px around a hole of 8 px, with a speck of a few pixels in it.
    ring = disc(32, 36, 16) & ~disc(32, 36, 8)
    speck = disc(20, 36, 1)
    image = np.where(ring & ~speck, 160, 40).astype(np.uint8)
    found = find_bodies(image, box_of(ring), NO_MARGIN)[0].mask
    np.testing.assert_array_equal(found, ring)


# --- answers ------------------------------------------------------------------------------------


def test_an_answer_with_a_clear_border_stands() -> None:
    mask = disc(32, 36, 13)
    assert contradict(picture(mask, 140, 60), box_of(mask), NO_MARGIN, mask, True) is None


def test_an_answer_without_an_edge_gives_way_to_a_body_with_one() -> None:
    # The ellipse of a crescent's box holds as much of what is around it as of the crescent.
    box = box_of(CRESCENT)
    found = contradict(picture(CRESCENT, 60, 140), box, NO_MARGIN, ellipse(box, SHAPE), True)
    assert found is not None
    assert dice(found.mask, CRESCENT) > 0.97


def test_an_answer_stands_where_nothing_is_clearer() -> None:
    noise = picture(np.zeros(SHAPE, np.bool_), 0, 100, noise=20)
    assert contradict(noise, BOX, NO_MARGIN, disc(31, 35, 12), True) is None


def test_where_only_the_ellipse_shows_an_edge_it_replaces_the_answer() -> None:
    # A faint disc in noise; the answer is half of it, and half of what is around it.
    mask = disc(32, 36, 13)
    image = picture(mask, 118, 100, noise=20)
    found = contradict(image, box_of(mask), NO_MARGIN, disc(32, 27, 9), True)
    assert found is not None
    assert found.interval is None
    assert dice(found.mask, mask) > 0.95


def test_a_segmenter_of_shapes_is_believed_without_an_edge() -> None:
    box = box_of(CRESCENT)
    image = picture(CRESCENT, 60, 140)
    assert contradict(image, box, NO_MARGIN, ellipse(box, SHAPE), False) is None


@pytest.mark.parametrize("inside", [True, False])
def test_no_segmenter_is_believed_that_misses_the_box(inside: bool) -> None:
    box = box_of(CRESCENT)
    answer = np.full(SHAPE, inside)
    answer[-1] = False
    found = contradict(picture(CRESCENT, 60, 140), box, NO_MARGIN, answer, False)
    assert found is not None
    assert dice(found.mask, CRESCENT) > 0.97


def test_without_any_body_a_missed_box_holds_its_ellipse() -> None:
    noise = picture(np.zeros(SHAPE, np.bool_), 0, 100)
    found = contradict(noise, BOX, NO_MARGIN, np.zeros(SHAPE, np.bool_), False)
    assert found is not None
    np.testing.assert_array_equal(found.mask, ellipse(BOX, SHAPE))
    assert found.interval is None


def test_a_mask_misses_a_box_that_it_hardly_overlaps() -> None:
    whole = ellipse(BOX, SHAPE)
    assert not misses(whole, BOX)
    assert misses(np.ones(SHAPE, np.bool_), (30, 30, 40, 40))
    assert misses(np.roll(whole, 20, axis=1), BOX)
    # A pixel is not far beside a box of one pixel.
    one = np.zeros(SHAPE, np.bool_)
    one[10, 10] = True
    assert not misses(one, (10, 10, 11, 12))


def test_an_ellipse_touches_all_sides_of_its_box() -> None:
    assert tight_box(ellipse(BOX, SHAPE)) == BOX


# --- following ----------------------------------------------------------------------------------


def start(radius: float) -> Hypothesis:
    mask = disc(32, 36, radius)
    image = picture(mask, 140, 60).astype(np.float32)
    return Hypothesis(mask, border_contrast(image, mask), (100.0, np.inf))


def test_a_body_is_followed_until_it_vanishes() -> None:
    masks = [disc(32, 36, radius) for radius in (12, 10, 7, 4)] + [np.zeros(SHAPE, np.bool_)] * 2
    slices = [picture(mask, 140, 60) for mask in masks]
    found = follow(slices, start(13), box_of(disc(32, 36, 13)))
    assert len(found) == 4
    for mask, truth in zip(found, masks, strict=False):
        assert dice(mask, truth) > 0.97


def test_a_body_is_not_followed_into_another_one() -> None:
    merged = disc(32, 36, 13)
    merged[20:45] = True
    slices = [picture(mask, 140, 60) for mask in (disc(32, 36, 12), merged, disc(32, 36, 12))]
    assert len(follow(slices, start(13), box_of(disc(32, 36, 13)))) == 1


def test_a_drawn_shape_is_not_followed() -> None:
    mask = disc(32, 36, 13)
    assert follow([picture(mask, 140, 60)], Hypothesis(mask, 1.0, None), box_of(mask)) == []

"""Polishing a mask of which no prompt says what is wrong."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from benchmarks.phantoms import dice
from gamt.io.case import Case
from gamt.lifting.budget import Budget
from gamt.prompts import ClassPrompts, SlicePrompt
from gamt.sample import Canvas
from gamt.segmenters.base import Segmenter
from gamt.segmenters.statistical import StatisticalSegmenter
from gamt.settings import PRESETS
from tests.doubles import (
    Constant,
    Double,
    Mask,
    Thresholder,
    block,
    lift,
    make_case,
    picture,
)

SHAPE = (22, 40, 46)
BODY = block(SHAPE, slice(5, 17), slice(8, 26), slice(9, 33))
POLISH = ClassPrompts(1, polish=True)

ANISOTROPIC, CUBES = (3.0, 1.0, 1.0), (1.0, 1.0, 1.0)

Shape = Callable[[Canvas], Mask]


def polish(
    truth: Mask, rough: Mask, segmenter: Segmenter, prompts: ClassPrompts = POLISH
) -> npt.NDArray[np.bool_]:
    """Returns a rough mask polished in a picture of the truth."""
    case = make_case(picture(truth), prompts, previous=rough.astype(np.uint8))
    return lift(case, segmenter).labels > 0


def ellipsoid(canvas: Canvas) -> Mask:
    return canvas.ellipsoid((0, 2, -3), (17, 21, 26))


def bent(canvas: Canvas) -> Mask:
    """Two legs at a right angle."""
    z, y, x = np.moveaxis(canvas.mm, -1, 0)
    long = (abs(z) < 11) & (abs(y + 14) < 9) & (abs(x) < 28)
    short = (abs(z) < 11) & (y > -22) & (y < 24) & (abs(x + 19) < 9)
    return np.asarray(long | short)


def tube(canvas: Canvas) -> Mask:
    along = np.linspace(-30, 30, 21)
    path = np.stack([6 * np.cos(along / 20), 12 * np.sin(along / 16), along], axis=1)
    return canvas.tube(path, np.full(21, 9.0))


def pair(canvas: Canvas) -> Mask:
    """Two bodies, 8 mm apart where they are nearest."""
    left = canvas.ellipsoid((0, -8, -19), (14, 16, 15))
    return left | canvas.ellipsoid((2, 8, 19), (14, 15, 17))


def draw(shape: Shape, spacing_mm: tuple[float, float, float]) -> tuple[Case, Mask]:
    """Returns a case without a previous mask, and the target drawn in it, noisy and blurred."""
    size = [round(side / step) for side, step in zip((54, 74, 86), spacing_mm, strict=True)]
    truth = shape(Canvas((size[0], size[1], size[2]), spacing_mm))
    noise = np.random.default_rng(5).normal(0, 10, truth.shape)
    grey = 80 + 70 * ndimage.gaussian_filter(truth.astype(float), 0.5) + noise
    image = grey.clip(0, 255).astype(np.uint8)
    return make_case(image, POLISH, spacing_mm=spacing_mm), truth


def jitter(mask: Mask) -> Mask:
    """Turns over a third of the voxels on both sides of the surface."""
    surface = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    return np.asarray(mask ^ (surface & (np.random.default_rng(6).random(mask.shape) < 1 / 3)))


DAMAGES: dict[str, Callable[[Mask], Mask]] = {
    "dilated": ndimage.binary_dilation,
    "dilated by 2": lambda mask: ndimage.binary_dilation(mask, iterations=2),
    "eroded": ndimage.binary_erosion,
    "shifted": lambda mask: np.roll(mask, (2, -2), axis=(1, 2)),
    "jittered": jitter,
}


def bodies(mask: Mask) -> int:
    """Returns the number of bodies, specks of less than 10 voxels left out."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return int((np.bincount(pieces.ravel())[1:] >= 10).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [(tube, ANISOTROPIC), (pair, ANISOTROPIC), (bent, CUBES), (ellipsoid, ANISOTROPIC)],
    ids=["tube", "pair", "bent", "ellipsoid"],
)
def test_rough_masks_of_drawn_shapes_get_better(
    shape: Shape, spacing_mm: tuple[float, float, float]
) -> None:
    case, truth = draw(shape, spacing_mm)
    segmenter = StatisticalSegmenter()

    def polished(rough: Mask) -> Mask:
        given = replace(case, previous=rough.astype(np.uint8))
        return lift(given, segmenter, PRESETS["default"]).labels > 0

    right = polished(truth)
    assert dice(right, truth) >= 0.99
    assert bodies(right) == bodies(truth)
    after = []
    for name, damage in DAMAGES.items():
        rough = damage(truth)
        after.append(dice(polished(rough), truth))
        assert after[-1] > dice(rough, truth), name
    assert np.mean(after) >= 0.97


@pytest.mark.parametrize("name", list(DAMAGES))
def test_the_surface_moves_to_where_the_segmenter_sees_it(name: str) -> None:
    np.testing.assert_array_equal(polish(BODY, DAMAGES[name](BODY), Thresholder()), BODY)


def test_a_mask_that_the_segmenter_agrees_with_stays() -> None:
    np.testing.assert_array_equal(polish(BODY, BODY, Thresholder()), BODY)


def test_nothing_changes_unless_it_is_asked_for() -> None:
    rough = np.roll(BODY, 2, axis=2)
    segmenter = Thresholder()
    unasked = polish(BODY, rough, segmenter, ClassPrompts(1))
    np.testing.assert_array_equal(unasked, rough)
    assert not segmenter.asked


def test_what_is_farther_away_than_the_band_is_not_added() -> None:
    part = block(SHAPE, slice(5, 17), slice(8, 26), slice(9, 20))
    # The body goes on to x = 32; of that, three voxels are in the band.
    expected = block(SHAPE, slice(5, 17), slice(8, 26), slice(9, 23))
    np.testing.assert_array_equal(polish(BODY, part, Thresholder()), expected)


def test_what_lies_deep_inside_stays() -> None:
    hole = block(SHAPE, slice(10, 12), slice(16, 18), slice(20, 22))
    # The hole is 5 voxels from the nearest side, along z.
    np.testing.assert_array_equal(polish(BODY & ~hole, BODY, Thresholder()), BODY)


@pytest.mark.parametrize("inside", [False, True], ids=["nothing", "everything"])
def test_a_mask_that_the_views_contradict_as_a_whole_stays(inside: bool) -> None:
    segmenter = Constant(inside)
    np.testing.assert_array_equal(polish(BODY, BODY, segmenter), BODY)
    assert segmenter.asked


def test_bodies_are_asked_about_one_by_one() -> None:
    far = block(SHAPE, slice(6, 14), slice(28, 36), slice(38, 44))
    segmenter = Thresholder()
    shifted = np.roll(BODY | far, 1, axis=1)
    np.testing.assert_array_equal(polish(BODY | far, shifted, segmenter), BODY | far)
    # No box holds both bodies: one is 24 by 18 by 12 voxels, and they are 5 apart.
    assert all(one.box is not None and one.box[2] - one.box[0] <= 24 for _, one in segmenter.asked)


class Bold(Double):
    """Answers with all that is bright, and with a speck beside it."""

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        mask = np.asarray(image >= 128)
        if mask.any():
            rows, columns = np.nonzero(mask)
            mask[rows.max() + 2 : rows.max() + 3, columns.min()] = True
        return mask


def test_pieces_that_hang_together_with_nothing_are_not_added() -> None:
    np.testing.assert_array_equal(polish(BODY, BODY, Bold()), BODY)


def test_a_body_that_is_not_there_does_not_keep_others_from_being_polished() -> None:
    rough = np.roll(BODY, 1, axis=2)
    speck = (20, 2, 2)
    rough[speck] = True
    case = make_case(picture(BODY), POLISH, previous=rough.astype(np.uint8))
    found = lift(case, Thresholder()).labels > 0
    assert found[speck]  # the segmenter contradicts it as a whole
    found[speck] = False
    np.testing.assert_array_equal(found, BODY)


def test_out_of_time_the_mask_stays() -> None:
    rough = np.roll(BODY, 2, axis=2)
    case = make_case(picture(BODY), POLISH, previous=rough.astype(np.uint8))
    lifted = lift(case, Thresholder(), limit=Budget(0, 0))
    np.testing.assert_array_equal(lifted.labels, rough)
    assert not lifted.complete

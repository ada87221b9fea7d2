"""Clicks change what they contradict, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.oracle import NoisyOracle
from gamt.lifting import refinement
from gamt.lifting.contradictions import error_radius
from gamt.lifting.refinement import at_voxels, correct, sampling_steps
from gamt.prompts import ClassPrompts, Click
from gamt.segmenters.base import Segmenter, Traits
from gamt.settings import PRESETS, Settings
from tests.doubles import (
    Constant,
    Double,
    Mask,
    Thresholder,
    TruthTeller,
    block,
    drive,
    make_case,
    make_target,
    picture,
)

SHAPE = (16, 18, 20)
BODY = block(SHAPE, slice(3, 13), slice(4, 14), slice(3, 17))
PART = block(SHAPE, slice(6, 11), slice(6, 11), slice(5, 10))  # in the body; its middle:
MIDDLE = (8, 8, 7)
SPACINGS = [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 1.0, 2.0)]


def corrected(
    mask: Mask,
    truth: Mask,
    *clicks: Click,
    segmenter: Segmenter | None = None,
    spacing_mm: tuple[float, float, float] = (1, 1, 1),
    settings: Settings | None = None,
) -> Mask:
    """Corrects a mask with a segmenter that knows the truth, unless another one is given."""
    previous = mask.astype(np.uint8)
    case = make_case(
        picture(truth), ClassPrompts(1, None, clicks), spacing_mm=spacing_mm, previous=previous
    )
    target = make_target(case, segmenter or TruthTeller(), settings or Settings())
    return drive(correct(target, mask), target)


# --- the size of an error -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ((1, 1, 1), 3),  # the nearest other voxel is three away on x
        ((1, 1, 2), 4),  # now it is the one on y
        ((0.5, 1, 2), 2.5),  # five on z, of half the length
        ((3, 2, 4), 8),
    ],
)
def test_the_radius_is_the_distance_to_the_nearest_other_voxel(
    scale: tuple[float, float, float], expected: float
) -> None:
    mask = np.zeros((20, 20, 20), np.bool_)
    mask[10, 10, 13] = mask[10, 6, 10] = mask[15, 10, 10] = True
    assert error_radius(mask, (10, 10, 10), scale) == pytest.approx(expected)
    assert error_radius(~mask, (10, 10, 10), scale) == pytest.approx(expected)


def test_the_radius_is_measured_along_slants() -> None:
    mask = np.zeros((9, 9, 9), np.bool_)
    mask[5, 6, 8] = True  # 1, 2 and 4 voxels away
    assert error_radius(mask, (4, 4, 4), (2, 3, 0.5)) == pytest.approx(np.sqrt(4 + 36 + 4))


def test_a_radius_may_be_long() -> None:
    mask = np.zeros((3, 3, 90), np.bool_)
    mask[0, 0, 80] = True
    assert error_radius(mask, (0, 0, 3), (1, 1, 1)) == pytest.approx(77)


def test_a_radius_may_be_longer_than_every_side() -> None:
    mask = np.zeros((16, 16, 16), np.bool_)
    mask[15, 15, 15] = True
    assert error_radius(mask, (0, 0, 0), (1, 1, 1)) == pytest.approx(15 * np.sqrt(3))


def test_the_radius_is_the_largest_extent_where_all_is_of_one_kind() -> None:
    mask = np.zeros((10, 30, 20), np.bool_)
    for kind in (mask, ~mask):
        assert error_radius(kind, (5, 5, 5), (1, 1, 1)) == 30
        assert error_radius(kind, (5, 5, 5), (4, 1, 1)) == 40


@given(data=st.data(), seed=st.integers(0, 2**16), share=st.sampled_from([0.001, 0.01, 0.5]))
def test_the_radius_is_the_least_of_all_distances(
    data: st.DataObject, seed: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((7, 24, 11)) < share
    voxel = data.draw(st.tuples(*(st.integers(0, n - 1) for n in mask.shape)))
    scale = data.draw(st.tuples(*[st.sampled_from([0.3, 1.0, 2.7])] * 3))
    place = (voxel[0], voxel[1], voxel[2])
    other = np.argwhere(mask != mask[place])
    if len(other):
        expected = np.linalg.norm((other - place) * scale, axis=1).min()
    else:
        expected = max(n * step for n, step in zip(mask.shape, scale, strict=True))
    assert error_radius(mask, place, (scale[0], scale[1], scale[2])) == pytest.approx(expected)


# --- one click ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_positive_click_adds_the_missing_part(
    preset: str, spacing_mm: tuple[float, float, float]
) -> None:
    result = corrected(
        BODY & ~PART,
        BODY,
        Click(*MIDDLE, positive=True),
        spacing_mm=spacing_mm,
        settings=PRESETS[preset],
    )
    np.testing.assert_array_equal(result, BODY)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_negative_click_removes_the_extra_part(
    preset: str, spacing_mm: tuple[float, float, float]
) -> None:
    result = corrected(
        BODY,
        BODY & ~PART,
        Click(*MIDDLE, positive=False),
        spacing_mm=spacing_mm,
        settings=PRESETS[preset],
    )
    np.testing.assert_array_equal(result, BODY & ~PART)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, 1])
def test_a_part_that_sticks_out_is_corrected_on_every_side(axis: int, end: int) -> None:
    # Five voxels of the body are cut off, and clicked in the middle.
    cut = [slice(None)] * 3
    middle = [8, 9, 10]
    first, last = ((3, 13), (4, 14), (3, 17))[axis]
    cut[axis] = slice(first, first + 5) if end == 0 else slice(last - 5, last)
    middle[axis] = cut[axis].start + 2
    mask = BODY.copy()
    mask[tuple(cut)] = False
    result = corrected(mask, BODY, Click(middle[0], middle[1], middle[2], positive=True))
    assert result[tuple(middle)]
    assert not (result & ~BODY).any()
    assert (result & ~mask).sum() > (BODY & ~mask).sum() / 2
    assert (result >= mask).all()


def test_other_errors_stay_untouched() -> None:
    # Two parts are missing and two are too many; one of each is clicked.
    holes = [PART, block(SHAPE, slice(6, 11), slice(6, 11), slice(12, 15))]
    lumps = [
        block(SHAPE, slice(4, 9), slice(14, 17), slice(4, 7)),
        block(SHAPE, slice(4, 9), slice(14, 17), slice(13, 16)),
    ]
    mask = BODY & ~holes[0] & ~holes[1] | lumps[0] | lumps[1]
    clicks = (Click(*MIDDLE, positive=True), Click(6, 15, 14, positive=False))
    result = corrected(mask, BODY, *clicks)
    np.testing.assert_array_equal(result, BODY & ~holes[1] | lumps[0])


def test_a_click_that_is_satisfied_changes_nothing() -> None:
    segmenter = TruthTeller()
    mask = BODY & ~PART
    clicks = (Click(4, 5, 5, positive=True), Click(*MIDDLE, positive=False))
    result = corrected(mask, BODY, *clicks, segmenter=segmenter)
    np.testing.assert_array_equal(result, mask)
    assert segmenter.asked == []


def test_a_correction_changes_only_to_the_side_of_its_click() -> None:
    # The segmenter thinks that most of the mask is wrong, and is asked only for what is missing.
    truth = block(SHAPE, slice(6, 11), slice(6, 11), slice(5, 19))
    mask = block(SHAPE, slice(3, 13), slice(4, 14), slice(3, 14))
    result = corrected(mask, truth, Click(8, 8, 16, positive=True))
    assert (result >= mask).all()
    assert result[8, 8, 14:19].all()
    result = corrected(truth, mask, Click(8, 8, 16, positive=False))
    assert (result <= truth).all()
    assert not result[8, 8, 14:19].any()


def test_a_part_far_from_the_mask_is_added_alone() -> None:
    # The ball reaches from the click to the mask, far beyond the part and over many slices that
    # are never looked at.
    shape = (40, 42, 44)
    mask = block(shape, slice(2, 8), slice(2, 8), slice(2, 8))
    part = block(shape, slice(26, 35), slice(28, 37), slice(27, 36))
    result = corrected(mask, mask | part, Click(30, 32, 31, positive=True))
    np.testing.assert_array_equal(result, mask | part)


@pytest.mark.parametrize("inside", [True, False])
def test_with_nothing_of_the_other_kind_a_click_does_not_turn_everything(inside: bool) -> None:
    mask = np.full(SHAPE, not inside)
    result = corrected(mask, mask, Click(*MIDDLE, positive=inside), segmenter=Constant(not inside))
    assert np.argwhere(result != mask).tolist() == [list(MIDDLE)]


def test_a_correction_walks_as_far_as_its_radius_lets_expect() -> None:
    # The nearest voxel of the mask is two away, so that the ball is five voxels wide.
    mask = block((9, 10, 60), slice(3, 6), slice(3, 7), slice(2, 20))
    segmenter = Constant(inside=True)
    corrected(mask, mask, Click(4, 5, 21, positive=True), segmenter=segmenter)
    sagittal = [shape for shape, _ in segmenter.asked if shape == (9, 10)]
    # The click's own slice; seven away from the mask, as three times the ball's half of 2.5 are
    # 7.5; towards it over voxel 20, and to 19, which is right.
    assert len(sagittal) == 1 + 7 + 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_long_part_is_followed_beyond_the_ball(axis: int) -> None:
    # Eleven voxels long and five wide: the ball around its middle has a radius of three.
    truth = block((17, 17, 17), slice(2, 15), slice(2, 15), slice(2, 15))
    part = [slice(6, 11)] * 3
    part[axis] = slice(3, 14)
    mask = truth & ~block(truth.shape, *part)
    result = corrected(mask, truth, Click(8, 8, 8, positive=True))
    np.testing.assert_array_equal(result, truth)


# --- clicks are obeyed --------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("quality", [0.0, 1.0])
@pytest.mark.parametrize(
    "click",
    [
        Click(*MIDDLE, positive=True),
        Click(0, 0, 0, positive=True),
        Click(5, 9, 12, positive=False),
        Click(12, 13, 16, positive=False),  # a corner of the body
    ],
)
def test_a_click_is_obeyed_whatever_the_segmenter_says(
    click: Click, inside: bool, quality: float
) -> None:
    mask = BODY & ~PART
    result = corrected(mask, BODY, click, segmenter=Constant(inside, quality))
    assert mask[click.voxel] != click.positive
    assert result[click.voxel] == click.positive


def test_where_the_segmenter_sees_no_error_a_click_changes_its_like_alone() -> None:
    # The segmenter repeats the mask: click and intensities speak for the dark part alone.
    mask = BODY & ~PART
    result = corrected(mask, mask, Click(*MIDDLE, positive=True))
    assert result[MIDDLE]
    assert not (result & ~mask & ~PART).any()


def test_later_clicks_correct_earlier_ones() -> None:
    voxel = (8, 8, 7)
    clicks = (Click(*voxel, positive=True), Click(*voxel, positive=False))
    assert not corrected(BODY & ~PART, BODY, *clicks)[voxel]
    assert corrected(BODY & ~PART, BODY, *reversed(clicks))[voxel]


@given(seed=st.integers(0, 2**16))
def test_any_mask_changes_only_to_the_side_of_the_click(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, 3))
    truth, mask = rng.random((2, *shape)) < 0.5
    places = np.argwhere(np.ones(shape))
    z, y, x = places[rng.integers(len(places))].tolist()
    click = Click(z, y, x, positive=bool(rng.integers(2)))
    result = corrected(mask, truth, click, segmenter=Thresholder())
    assert result[click.voxel] == click.positive
    if mask[click.voxel] == click.positive:
        np.testing.assert_array_equal(result, mask)
    else:
        assert (result[result != mask] == click.positive).all()


@pytest.mark.parametrize("shape", [(1, 9, 9), (9, 1, 9), (9, 9, 1), (1, 1, 9), (1, 1, 1)])
@pytest.mark.parametrize("positive", [True, False])
def test_flat_volumes_are_corrected_too(shape: tuple[int, int, int], positive: bool) -> None:
    middle = (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    everything = np.ones(shape, np.bool_)
    hole = everything.copy()
    hole[tuple(slice(max(0, v - 1), v + 2) for v in middle)] = False
    if positive:
        np.testing.assert_array_equal(
            corrected(hole, everything, Click(*middle, positive=True)), everything
        )
    else:
        np.testing.assert_array_equal(
            corrected(everything, hole, Click(*middle, positive=False)), hole
        )


def test_a_grid_that_holds_several_slices_in_one_is_corrected_too() -> None:
    # At 9 mm a grid voxel, the two slices, 1 mm apart, are one slice of the grid.
    mask = block((2, 9, 9), slice(None), slice(2, 7), slice(2, 7))
    click = Click(1, 4, 4, positive=False)
    case = make_case(picture(mask), ClassPrompts(1, None, (click,)), previous=mask.astype(np.uint8))
    target = make_target(case, Constant(inside=False), voxel_mm=9)
    assert target.scan.grid.shape[0] == 1
    result = drive(correct(target, mask), target)
    assert not result[1, 4, 4]


# --- corrections are bounded --------------------------------------------------------------------

INTENSITIES_ALONE = Traits(intensities_alone=True)


class Embedded(Thresholder):
    """Is taken to know intensities alone, so that it is not asked again."""

    traits = INTENSITIES_ALONE


@pytest.mark.parametrize(
    "segmenter",
    [Constant(inside=True), Constant(inside=False), Thresholder(), NoisyOracle(0.7), Embedded()],
)
@given(seed=st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_clicks_of_any_order_end_on_their_side_and_no_mask_is_emptied(
    segmenter: Segmenter, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (7, 10, 12)
    truth = block(shape, slice(2, 5), slice(2, 8), slice(3, 9))
    mask = np.roll(truth, rng.integers(-2, 3, 3).tolist(), (0, 1, 2))
    places = rng.permutation(truth.size)[:6]
    voxels = np.transpose(np.unravel_index(places, shape)).tolist()
    clicks = [Click(z, y, x, positive=bool(rng.integers(2))) for z, y, x in voxels]
    result = corrected(mask, truth, *clicks, segmenter=segmenter, spacing_mm=(2, 1, 1))
    for click in clicks:
        assert result[click.voxel] == click.positive
    assert result.any()


@pytest.mark.parametrize("contrast", [0, 60])
@pytest.mark.parametrize("segmenter", [Constant(inside=False), Embedded()])
def test_a_negative_click_in_the_middle_leaves_most_of_the_mask(
    contrast: int, segmenter: Double
) -> None:
    noise = np.random.default_rng(0).normal(90, 8, SHAPE)
    image = (noise + contrast * BODY).clip(0, 255).astype(np.uint8)
    click = Click(8, 9, 10, positive=False)
    case = make_case(image, ClassPrompts(1, None, (click,)), previous=BODY.astype(np.uint8))
    target = make_target(case, segmenter)
    result = drive(correct(target, BODY), target)
    assert not result[click.voxel]
    assert result.sum() >= BODY.sum() / 2


@pytest.mark.parametrize("segmenter", [Constant(inside=True), Embedded()])
def test_a_positive_click_at_most_doubles_a_mask(segmenter: Double) -> None:
    # All looks alike, and the click is two voxels away from a small mask.
    mask = block(SHAPE, slice(7, 10), slice(7, 10), slice(7, 10))
    click = Click(8, 8, 11, positive=True)
    case = make_case(
        np.full(SHAPE, 90, np.uint8),
        ClassPrompts(1, None, (click,)),
        previous=mask.astype(np.uint8),
    )
    target = make_target(case, segmenter)
    result = drive(correct(target, mask), target)
    assert result[click.voxel]
    # The ball that reaches from the click to the mask has 4/3 pi 2^3 = 33.5 voxels.
    assert (result & ~mask).sum() <= 33


def test_a_mask_of_one_slice_survives_a_click_beside_it_and_one_in_it() -> None:
    mask = BODY & block(SHAPE, slice(8, 9), slice(None), slice(None))
    beside = corrected(mask, mask, Click(9, 9, 10, positive=False), segmenter=Embedded())
    np.testing.assert_array_equal(beside, mask)
    inside = corrected(mask, mask, Click(8, 9, 10, positive=False), segmenter=Embedded())
    assert inside.sum() >= mask.sum() / 2


# --- large errors are looked at in steps --------------------------------------------------------


def test_steps_grow_until_there_are_few_enough_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "MOST_SAMPLES", 1000)
    assert sampling_steps((10, 10, 10), (1.0, 1.0, 1.0)) == ([1, 1, 1], 1.0)
    steps, coarseness = sampling_steps((10, 40, 40), (4.0, 1.0, 1.0))
    # Slices are four grid voxels apart already: 10 x 10 x 10 samples, as far apart on all axes.
    assert steps == [1, 4, 4]
    assert 3.5 <= coarseness < 4.5


def test_log_odds_between_samples_are_interpolated() -> None:
    odds = np.array([[[0.0, 4.0, -np.inf]]], np.float32)
    sampled = (slice(0, 1, 1), slice(0, 1, 1), slice(1, 6, 2))  # at 1, 3 and 5 of 7 voxels
    near, found = at_voxels(odds, sampled, np.ones(odds.shape, np.bool_), (1, 1, 7))
    assert near == (slice(0, 1), slice(0, 1), slice(0, 7))
    # Before the first sample as there; what is ruled out is taken to be as likely as its neighbour.
    assert found.ravel().tolist() == [0, 0, 2, 4, 4, 4, 4]


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_an_error_looked_at_in_steps_is_corrected_up_to_the_masks_surface(
    spacing_mm: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (30, 50, 54)
    truth = block(shape, slice(6, 24), slice(8, 42), slice(9, 45))
    mask = truth & ~block(shape, slice(None), slice(None), slice(27, None))
    click = Click(15, 25, 35, positive=True)
    image = np.where(truth, 200, 60).astype(np.uint8)
    case = make_case(
        image,
        ClassPrompts(1, None, (click,)),
        spacing_mm=spacing_mm,
        previous=mask.astype(np.uint8),
    )
    target = make_target(case, Embedded())
    monkeypatch.setattr(refinement, "MOST_SAMPLES", 12000)
    coarse = drive(correct(target, mask), target)
    added, missing = coarse & ~mask, truth & ~mask
    assert (added & missing).sum() > missing.sum() / 2
    assert (added & ~missing).sum() < added.sum() / 20
    # Beside the click, no gap is left between the mask and what was added.
    assert added[10:21, 20:31, 27:36].all()

"""Scribbles and regions correct a mask in 3-D, and every voxel that they mark is obeyed."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from benchmarks.oracle import NoisyOracle
from benchmarks.phantoms import dice
from gamt.axes import Plane, slice_view
from gamt.lifting.budget import Cancelled, Stopwatch
from gamt.lifting.propagation import Walk, run
from gamt.lifting.refinement import correct
from gamt.prompts import ClassPrompts, Click, Region, Scribble
from gamt.segmenters.base import Segmenter, Traits
from tests.doubles import Constant, Mask, Thresholder, block, drive, make_case, make_target

SHAPE = (26, 72, 64)
THICK = (3.0, 0.8, 1.0)


class Embedded(Thresholder):
    """Is taken to know intensities alone, so that it is not asked again."""

    traits = Traits(intensities_alone=True)


def ellipsoid(centre: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> Mask:
    """Draws an ellipsoid into a volume of thick slices; the centre is in voxels."""
    places = np.ogrid[tuple(slice(n) for n in SHAPE)]
    parts = zip(places, centre, THICK, radii_mm, strict=True)
    return np.asarray(sum(((v - c) * mm / radius) ** 2 for v, c, mm, radius in parts) < 1)


BODY = ellipsoid((13, 34, 30), (26, 20, 18))
COLUMNS = np.arange(SHAPE[2])


def grey(target: Mask, leak: Mask | None = None, level: float = 120) -> np.ndarray:
    """Returns the image of a target of 150 on 80, with a leak of some level, and noise of 8."""
    flat = np.where(target, 150.0, 80.0)
    if leak is not None:
        flat[leak & ~target] = level
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return (flat + noise).clip(0, 255).astype(np.uint8)


def corrected(
    image: np.ndarray,
    mask: Mask,
    prompts: ClassPrompts,
    segmenter: Segmenter | None = None,
) -> Mask:
    case = make_case(image, prompts, spacing_mm=THICK, previous=mask.astype(np.uint8))
    target = make_target(case, segmenter or Embedded())
    return drive(correct(target, mask), target)


def middle_section(mask: Mask, plane: Plane) -> tuple[int, Mask]:
    """Returns the middle one of a mask's slices of a plane: its index, and (rows, columns)."""
    held = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {plane.normal})))
    index = int(held[len(held) // 2])
    return index, slice_view(mask, plane, index)


def scribble_in(mask: Mask, plane: Plane, positive: bool) -> Scribble:
    """Draws a line two pixels thick across the middle half of a mask's middle slice."""
    index, section = middle_section(mask, plane)
    rows, columns = (places.astype(int) for places in np.nonzero(section))
    row = int(np.median(rows))
    first, last = np.percentile(columns[rows == row], (25, 75)).astype(int).tolist()
    drawn = np.zeros_like(mask)
    slice_view(drawn, plane, index)[row : row + 2, first : last + 1] = True
    return Scribble(np.argwhere(drawn & mask), positive)


def lasso_around(mask: Mask, plane: Plane, positive: bool) -> Region:
    """Draws the section of a mask's middle slice, a pixel too wide."""
    index, section = middle_section(mask, plane)
    drawn = np.zeros_like(mask)
    slice_view(drawn, plane, index)[:] = ndimage.binary_dilation(section)
    places = np.argwhere(drawn)
    (z0, y0, x0), (z1, y1, x1) = places.min(axis=0).tolist(), (places.max(axis=0) + 1).tolist()
    return Region((z0, y0, x0), drawn[z0:z1, y0:y1, x0:x1], positive)


# --- what is missing, and what is too much --------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
def test_a_scribble_on_a_missing_part_adds_it_in_3d(plane: Plane) -> None:
    missing = BODY & (COLUMNS >= 34)
    scribble = scribble_in(missing, plane, positive=True)
    found = corrected(grey(BODY), BODY & ~missing, ClassPrompts(1, scribbles=(scribble,)))
    assert found[tuple(scribble.voxels.T)].all()
    assert (found & missing).sum() > 0.85 * missing.sum()
    assert dice(found, BODY) > 0.93


@pytest.mark.parametrize("plane", Plane)
def test_a_lasso_around_a_missing_part_adds_it_in_3d(plane: Plane) -> None:
    missing = BODY & (COLUMNS >= 34)
    region = lasso_around(missing, plane, positive=True)
    found = corrected(grey(BODY), BODY & ~missing, ClassPrompts(1, regions=(region,)))
    assert (found & missing).sum() > 0.85 * missing.sum()
    assert dice(found, BODY) > 0.93


LEAK = ellipsoid((13, 34, 53), (18, 12, 8)) & ~BODY


@pytest.mark.parametrize("plane", Plane)
def test_a_scribble_on_a_leak_takes_it_away_in_3d(plane: Plane) -> None:
    scribble = scribble_in(LEAK, plane, positive=False)
    found = corrected(grey(BODY, LEAK), BODY | LEAK, ClassPrompts(1, scribbles=(scribble,)))
    assert not found[tuple(scribble.voxels.T)].any()
    assert (found & LEAK).sum() < 0.1 * LEAK.sum()
    assert (found & BODY).sum() > 0.9 * BODY.sum()


@pytest.mark.parametrize("plane", Plane)
def test_a_lasso_around_a_leak_takes_it_away_in_3d(plane: Plane) -> None:
    region = lasso_around(LEAK, plane, positive=False)
    found = corrected(grey(BODY, LEAK), BODY | LEAK, ClassPrompts(1, regions=(region,)))
    assert (found & LEAK).sum() < 0.1 * LEAK.sum()
    assert (found & BODY).sum() > 0.9 * BODY.sum()


def test_on_a_lassos_slice_nothing_but_the_lassos_voxels_changes() -> None:
    region = lasso_around(LEAK, Plane.AXIAL, positive=False)
    found = corrected(grey(BODY, LEAK), BODY | LEAK, ClassPrompts(1, regions=(region,)))
    layer = region.low[0]
    drawn = np.zeros(SHAPE, np.bool_)
    drawn[tuple(region.voxels.T)] = True
    changed = (found != (BODY | LEAK))[layer]
    # A pixel beside it is what a hand is inexact by.
    assert not (changed & ~ndimage.binary_dilation(drawn[layer], np.ones((3, 3), np.bool_))).any()


def test_a_block_takes_away_what_is_inside_and_nothing_else() -> None:
    region = Region((4, 20, 36), np.ones((15, 30, 10), np.bool_), positive=False)
    found = corrected(grey(BODY), BODY, ClassPrompts(1, regions=(region,)))
    expected = BODY.copy()
    expected[4:19, 20:50, 36:46] = False
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["scribble", "lasso"])
@pytest.mark.parametrize("radii_mm", [(18.0, 12.0, 10.0), (12.0, 8.0, 7.0)])
def test_a_body_apart_goes_as_a_whole(kind: str, radii_mm: tuple[float, float, float]) -> None:
    first = ellipsoid((13, 20, 16), (18, 12, 10))
    second = ellipsoid((13, 50, 46), radii_mm)
    prompts = (
        ClassPrompts(1, scribbles=(scribble_in(second, Plane.AXIAL, positive=False),))
        if kind == "scribble"
        else ClassPrompts(1, regions=(lasso_around(second, Plane.SAGITTAL, positive=False),))
    )
    found = corrected(grey(first | second), first | second, prompts)
    np.testing.assert_array_equal(found, first)


@pytest.mark.parametrize("kind", ["click", "scribble"])
def test_a_leak_goes_and_its_body_stays_where_another_body_lies_apart(kind: str) -> None:
    # A 26th of the body; without it the body is all there is, which no click takes away.
    satellite = ellipsoid((13, 64, 8), (10, 6, 6))
    prompts = (
        ClassPrompts(1, clicks=(Click(13, 34, 53, positive=False),))
        if kind == "click"
        else ClassPrompts(1, scribbles=(scribble_in(LEAK, Plane.AXIAL, positive=False),))
    )
    target = BODY | satellite
    found = corrected(grey(target, LEAK), target | LEAK, prompts)
    assert (found & LEAK).sum() < 0.1 * LEAK.sum()
    assert (found & BODY).sum() > 0.85 * BODY.sum()
    assert found[satellite].all()


def test_a_click_in_a_region_is_followed_once_a_mask_composed_anew_obeys_the_region() -> None:
    region = Region((4, 20, 36), np.ones((15, 30, 10), np.bool_), positive=False)
    prompts = ClassPrompts(1, clicks=(Click(13, 34, 38, positive=True),), regions=(region,))
    obeyed = BODY.copy()
    obeyed[4:19, 20:50, 36:46] = False
    found = corrected(grey(BODY), BODY, replace(prompts, anew=True))
    np.testing.assert_array_equal(found, corrected(grey(BODY), obeyed, prompts))
    # What then came of the click stays.
    np.testing.assert_array_equal(corrected(grey(BODY), found, prompts), found)


# --- what is no error -----------------------------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
def test_an_inexact_lasso_changes_its_own_slice_alone(plane: Plane) -> None:
    # It is a pixel wider than a mask that is right.
    region = lasso_around(BODY, plane, positive=True)
    found = corrected(grey(BODY), BODY, ClassPrompts(1, regions=(region,)))
    expected = BODY.copy()
    expected[tuple(region.voxels.T)] = True
    np.testing.assert_array_equal(found, expected)


def test_what_nothing_contradicts_stays_as_it_is() -> None:
    inside, outside = scribble_in(BODY, Plane.CORONAL, True), np.argwhere(~BODY)[:40]
    block_outside = Region((0, 0, 0), ~BODY[:6, :9, :9], positive=False)
    prompts = ClassPrompts(
        1, scribbles=(inside, Scribble(outside, positive=False)), regions=(block_outside,)
    )
    np.testing.assert_array_equal(corrected(grey(BODY), BODY, prompts), BODY)


def test_the_same_prompts_again_change_nothing() -> None:
    missing = BODY & (COLUMNS >= 40)
    prompts = ClassPrompts(
        1,
        clicks=(Click(13, 34, 20, positive=True),),
        scribbles=(scribble_in(missing, Plane.AXIAL, positive=True),),
        regions=(lasso_around(LEAK, Plane.CORONAL, positive=False),),
    )
    image = grey(BODY, LEAK)
    once = corrected(image, (BODY | LEAK) & ~missing, prompts)
    np.testing.assert_array_equal(corrected(image, once, prompts), once)


# --- who is obeyed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "segmenter",
    [Embedded(), Thresholder(), Constant(inside=True), Constant(inside=False), NoisyOracle(0.7)],
)
@given(seed=st.integers(0, 2**16))
@settings(max_examples=12, deadline=None)
def test_scribbles_and_clicks_are_obeyed_whatever_the_segmenter_says(
    segmenter: Segmenter, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (7, 14, 16)
    mask = block(shape, slice(2, 5), slice(3, 10), slice(4, 12))
    voxels = rng.permutation(np.argwhere(np.ones(shape)))
    first, second = np.sort(voxels[:20], axis=0), voxels[20:40]
    first = first[~(first[:, None] == voxels[20:45]).all(axis=2).any(axis=1)]
    first = np.unique(first, axis=0)
    clicks = [Click(z, y, x, bool(rng.integers(2))) for z, y, x in voxels[40:45].tolist()]
    scribbles = (Scribble(first, positive=True), Scribble(second, positive=False))
    region = Region((1, 2, 3), rng.random((5, 1, 9)) < 0.5, positive=bool(rng.integers(2)))
    prompts = ClassPrompts(1, None, tuple(clicks), scribbles=scribbles, regions=(region,))
    image = np.where(mask, 200, 40).astype(np.uint8)
    case = make_case(image, prompts, spacing_mm=(2, 1, 1), previous=mask.astype(np.uint8))
    target = make_target(case, segmenter)
    found = drive(correct(target, mask), target)
    assert found[tuple(first.T)].all()
    assert not found[tuple(second.T)].any()
    for click in clicks:
        assert found[click.voxel] == click.positive


def test_out_of_time_what_is_marked_is_obeyed_without_being_followed() -> None:
    missing = BODY & (COLUMNS >= 34)
    scribble = scribble_in(missing, Plane.AXIAL, positive=True)
    block_away = Region((4, 20, 16), np.ones((15, 30, 4), np.bool_), positive=False)
    prompts = ClassPrompts(1, scribbles=(scribble,), regions=(block_away,))
    mask = BODY & ~missing
    case = make_case(grey(BODY), prompts, spacing_mm=THICK, previous=mask.astype(np.uint8))
    target = make_target(case, Thresholder())
    found: list[Mask] = []

    def keep() -> Walk:
        found.append((yield from correct(target, mask)))

    assert not run(keep(), target.scan, Stopwatch(0.0))
    expected = mask.copy()
    expected[4:19, 20:50, 16:20] = False
    expected[tuple(scribble.voxels.T)] = True
    np.testing.assert_array_equal(found[0], expected)


def test_after_each_correction_it_is_asked_whether_the_result_is_still_wanted() -> None:
    missing = BODY & (COLUMNS >= 34)
    scribble = scribble_in(missing, Plane.AXIAL, positive=True)
    mask = BODY & ~missing
    prompts = ClassPrompts(1, scribbles=(scribble,))
    case = make_case(grey(BODY), prompts, spacing_mm=THICK, previous=mask.astype(np.uint8))
    target = make_target(case, Embedded())

    def follow() -> Walk:
        yield from correct(target, mask)

    with pytest.raises(Cancelled):
        run(follow(), target.scan, Stopwatch(math.inf, lambda: True))


def test_an_opposite_scribble_keeps_its_voxels_from_a_correction() -> None:
    missing = BODY & (COLUMNS >= 34)
    kept_out = np.argwhere(missing & (COLUMNS == 44))
    prompts = ClassPrompts(
        1,
        scribbles=(
            Scribble(kept_out, positive=False),
            scribble_in(missing, Plane.AXIAL, positive=True),
        ),
    )
    found = corrected(grey(BODY), BODY & ~missing, prompts)
    assert not found[tuple(kept_out.T)].any()
    assert (found & missing & (COLUMNS < 44)).sum() > 0.7 * (missing & (COLUMNS < 44)).sum()

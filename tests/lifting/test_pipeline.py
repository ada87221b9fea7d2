"""From prompts to volumes: what comes out where the right answer is known."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from benchmarks.phantoms import dice, draw_slice_box
from gamt.axes import Plane, box_to_slice, slice_shape
from gamt.lifting import budget, pipeline
from gamt.lifting.budget import Budget
from gamt.lifting.fusion import Votes
from gamt.lifting.pipeline import Lifted, split_by_memory
from gamt.prompts import (
    Box,
    ClassPrompts,
    Click,
    Lasso,
    Region,
    Scribble,
    SliceBox,
    SlicePrompt,
    box_of_mask,
)
from gamt.segmenters import load
from gamt.segmenters.base import Embedding, SliceMask, Traits
from gamt.settings import PRESETS, Propagation, Scale, Settings
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume
from gamt.windows import IntensityWindow
from tests.doubles import (
    DEFAULTS,
    UNLIMITED,
    BoxFiller,
    Constant,
    Double,
    Follower,
    Mask,
    Remembering,
    Thresholder,
    TruthTeller,
    block,
    lift,
    make_case,
    picture,
)
from tests.small_trackers import small_sam2

SHAPE = (22, 26, 30)
SPENT = Budget(0, 0)
VIEWS_ONLY = replace(DEFAULTS, shape_weight=0, guide_weight=0)


def segment(
    image: npt.NDArray[Any],
    *prompts: ClassPrompts,
    segmenter: Double | None = None,
    settings: Settings = DEFAULTS,
    limit: Budget = UNLIMITED,
    **options: Any,
) -> Lifted:
    """Lifts a case; without another segmenter, by one that sees and tracks the bright pieces."""
    case = make_case(image, *prompts, **options)
    lifted = lift(case, segmenter or Follower(), settings, limit)
    assert lifted.labels.shape == image.shape
    assert lifted.labels.dtype == np.uint8
    return lifted


def boxed(*masks: Mask) -> list[ClassPrompts]:
    """Prompts every mask with its box."""
    return [ClassPrompts(label, box_of_mask(mask)) for label, mask in enumerate(masks, 1)]


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> Mask:
    away = [(np.arange(n) - c) / r for n, c, r in zip(shape, centre, radii, strict=True)]
    z, y, x = np.ix_(*away)
    return np.asarray(z**2 + y**2 + x**2 <= 1)


def slanted(shape: tuple[int, int, int]) -> Mask:
    """A bar that moves on by a pixel a slice, and so leaves the box of its middle slice."""
    mask = np.zeros(shape, np.bool_)
    for z in range(2, 20):
        mask[z, 1 + z // 2 : 9 + z // 2, z : z + 9] = True
    return mask


def ring(shape: tuple[int, int, int]) -> Mask:
    """A square ring in the coronal plane: most axial slices hold two parts of it."""
    outer = block(shape, slice(3, 19), slice(8, 17), slice(4, 26))
    return outer & ~block(shape, slice(8, 14), slice(8, 17), slice(11, 19))


SOLIDS = {
    "cuboid": block(SHAPE, slice(4, 15), slice(6, 19), slice(5, 22)),
    "ellipsoid": ellipsoid(SHAPE, (11, 12, 14), (8, 9, 11)),
    "slanted": slanted(SHAPE),
    "ring": ring(SHAPE),
    "one voxel": block(SHAPE, slice(7, 8), slice(8, 9), slice(9, 10)),
    "one slice": block(SHAPE, slice(7, 8), slice(8, 19), slice(9, 20)),
    "in the corner": block(SHAPE, slice(0, 9), slice(0, 10), slice(0, 11)),
    "in the last corner": block(SHAPE, slice(12, 22), slice(14, 26), slice(17, 30)),
    "nearly everything": np.arange(np.prod(SHAPE)).reshape(SHAPE) > 0,
}


# --- from a box ---------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [True, False])
def test_a_segmenter_that_misses_the_box_is_not_believed(everything: bool) -> None:
    # It answers with the whole slice, or nothing. The bright solid is found without it.
    truth = ellipsoid(SHAPE, (11, 12, 14), (6, 5, 6))
    segmenter = Constant(inside=everything)
    found = segment(picture(truth), *boxed(truth), segmenter=segmenter)
    assert dice(found.labels == 1, truth) > 0.9
    assert len(segmenter.asked) == 1


@pytest.mark.parametrize("everything", [True, False])
def test_where_the_image_shows_nothing_a_missed_box_is_filled_with_its_ellipsoid(
    everything: bool,
) -> None:
    truth = ellipsoid(SHAPE, (11, 12, 14), (6, 5, 6))
    segmenter = Constant(inside=everything)
    noise = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
    found = segment(noise, *boxed(truth), segmenter=segmenter)
    # The box's ellipsoid has half-axes of 6.5, 5.5 and 6.5 voxels, the truth of 6, 5 and 6, so
    # that their Dice is 2 x 180 / (180 + 232) = 0.87.
    assert dice(found.labels == 1, truth) > 0.85


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 0.6, 0.8)])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("solid", SOLIDS)
def test_a_box_becomes_the_whole_solid(
    solid: str, preset: str, spacing_mm: tuple[float, float, float]
) -> None:
    truth = SOLIDS[solid]
    found = segment(
        picture(truth),
        *boxed(truth),
        settings=replace(PRESETS[preset], vote_blur=0),
        spacing_mm=spacing_mm,
    )
    np.testing.assert_array_equal(found.labels == 1, truth)
    assert found.complete


def test_a_loose_box_becomes_the_solid_too() -> None:
    truth = SOLIDS["ellipsoid"]
    box = box_of_mask(truth)
    loose = replace(box, y_min=0, y_max=box.y_max + 2, x_min=box.x_min - 2, x_max=SHAPE[2])
    found = segment(picture(truth), ClassPrompts(1, loose))
    np.testing.assert_array_equal(found.labels == 1, truth)


def test_the_boxs_slices_bound_the_target() -> None:
    truth = SOLIDS["cuboid"]
    box = replace(box_of_mask(truth), z_min=7, z_max=12)
    found = segment(picture(truth), ClassPrompts(1, box), settings=VIEWS_ONLY)
    expected = truth.copy()
    expected[:7] = expected[12:] = False
    np.testing.assert_array_equal(found.labels == 1, expected)


@pytest.mark.parametrize(
    "planes",
    [
        (Plane.AXIAL,),
        (Plane.AXIAL, Plane.SAGITTAL),
        (Plane.AXIAL, Plane.CORONAL),
        (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL),
    ],
)
@pytest.mark.parametrize("clicked", [False, True])
def test_only_the_planes_of_the_settings_are_segmented(
    planes: tuple[Plane, ...], clicked: bool
) -> None:
    # The last slice is missing from the previous prediction, and clicked.
    truth = SOLIDS["cuboid"]
    previous = truth.astype(np.uint8)
    previous[14] = 0
    prompts = replace(boxed(truth)[0], clicks=(Click(14, 12, 13, True),))
    segmenter = Thresholder()
    segment(
        picture(truth),
        prompts,
        segmenter=segmenter,
        settings=replace(DEFAULTS, planes=planes),
        previous=previous if clicked else None,
    )
    asked = {shape for shape, _ in segmenter.asked}
    assert asked == {slice_shape(SHAPE, plane) for plane in planes}


def test_a_slice_is_visited_once_a_plane_from_a_box() -> None:
    # The box's slices, then those that the axial masks reach, in both other planes. Where these
    # walks pass an end, there is nothing to visit any more.
    truth = SOLIDS["cuboid"]
    segmenter = Thresholder()
    segment(picture(truth), *boxed(truth), segmenter=segmenter)
    visits = Counter(shape for shape, _ in segmenter.asked)
    assert visits == {(26, 30): 11, (22, 30): 13, (22, 26): 17}


def test_the_papers_percentile_asks_for_the_core_alone() -> None:
    # All of the 19 coronal slices that the ellipsoid reaches, then fewer and fewer of them.
    truth = SOLIDS["ellipsoid"]
    visits = []
    for percentile in (0.0, 50.0, 90.0):
        segmenter = Thresholder()
        settings = replace(DEFAULTS, range_percentile=percentile)
        segment(picture(truth), *boxed(truth), segmenter=segmenter, settings=settings)
        visits.append(Counter(shape for shape, _ in segmenter.asked)[slice_shape(SHAPE, Plane(1))])
    assert visits[0] == 19
    assert visits[0] > visits[1] > visits[2] > 0


# --- from a box on one slice --------------------------------------------------------------------


def slice_boxed(mask: Mask, plane: Plane, *clicks: Click) -> ClassPrompts:
    return ClassPrompts(1, None, clicks, draw_slice_box(mask, plane))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 0.6, 0.8)])
@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("solid", [name for name in SOLIDS if name != "slanted"])
def test_a_box_on_one_slice_becomes_the_whole_solid(
    solid: str, plane: Plane, spacing_mm: tuple[float, float, float]
) -> None:
    truth = SOLIDS[solid]
    found = segment(picture(truth), slice_boxed(truth, plane), spacing_mm=spacing_mm)
    np.testing.assert_array_equal(found.labels == 1, truth)
    assert found.complete


@pytest.mark.parametrize("plane", Plane)
def test_a_target_that_leaves_its_box_on_other_slices_is_followed(plane: Plane) -> None:
    truth = SOLIDS["slanted"]
    found = segment(picture(truth), slice_boxed(truth, plane))
    np.testing.assert_array_equal(found.labels == 1, truth)


@pytest.mark.parametrize("plane", Plane)
def test_the_slice_of_the_box_need_not_be_in_the_middle(plane: Plane) -> None:
    truth = SOLIDS["cuboid"]
    box = draw_slice_box(truth, plane)
    low, high = list(box.low), list(box.high)
    first = np.argwhere(truth).min(axis=0)[plane.normal] + 1
    low[plane.normal], high[plane.normal] = first, first + 1
    box = SliceBox(plane, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
    found = segment(picture(truth), ClassPrompts(1, slice_box=box))
    np.testing.assert_array_equal(found.labels == 1, truth)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("plane", Plane)
def test_the_plane_of_the_box_is_segmented_whatever_the_settings(plane: Plane, preset: str) -> None:
    truth = SOLIDS["ellipsoid"]
    segmenter = Follower()
    found = segment(
        picture(truth), slice_boxed(truth, plane), segmenter=segmenter, settings=PRESETS[preset]
    )
    np.testing.assert_array_equal(found.labels == 1, truth)
    # Once to find the target there, and once more as a view: of it, the box's slice is a part.
    box = draw_slice_box(truth, plane)
    drawn = slice_shape(SHAPE, plane), box_to_slice(plane, box.low, box.high)
    asked = [(shape, prompt.box) for shape, prompt in segmenter.asked if len(prompt.points) == 0]
    assert asked == [drawn, drawn]


@pytest.mark.parametrize("plane", Plane)
def test_what_comes_back_beside_the_box_is_another_target(plane: Plane) -> None:
    # Two beams and, away from the slice of the box, a bridge with a corner between them: no slice
    # through one beam shows the other. What is followed over the bridge is not in the box.
    beam = block((40, 40, 40), slice(4, 34), slice(10, 18), slice(6, 14))
    other = block((40, 40, 40), slice(4, 34), slice(26, 34), slice(26, 34))
    bridge = block((40, 40, 40), slice(4, 10), slice(10, 34), slice(6, 14))
    bridge |= block((40, 40, 40), slice(4, 10), slice(26, 34), slice(6, 34))
    axes = {Plane.AXIAL: (0, 1, 2), Plane.CORONAL: (1, 0, 2), Plane.SAGITTAL: (2, 1, 0)}[plane]
    truth = np.transpose(beam | other | bridge, axes)
    start, past = np.transpose(beam, axes), np.transpose(other & ~bridge, axes)
    found = segment(picture(truth), slice_boxed(start, plane)).labels == 1
    assert found[start].all()
    assert not found[past].any()
    # From a click, there is no box that says so.
    z, y, x = np.argwhere(start).mean(axis=0).astype(int).tolist()
    found = segment(picture(truth), ClassPrompts(1, None, (Click(z, y, x, True),))).labels == 1
    np.testing.assert_array_equal(found, truth)


def test_clicks_correct_what_a_box_on_a_slice_began() -> None:
    # The two pieces look alike, and only one of them was boxed.
    one = block(SHAPE, slice(4, 12), slice(4, 12), slice(4, 12))
    other = block(SHAPE, slice(14, 20), slice(14, 20), slice(14, 20))
    prompts = slice_boxed(one, Plane.CORONAL, Click(17, 17, 17, True))
    found = segment(picture(one | other), prompts)
    np.testing.assert_array_equal(found.labels == 1, one | other)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("plane", Plane)
def test_a_single_slice_is_segmented_in_2d(plane: Plane, preset: str) -> None:
    shape = [20, 22, 24]
    shape[plane.normal] = 1
    truth = block(tuple(shape), *(slice(n // 4, n // 4 + max(1, n // 2)) for n in shape))
    segmenter = Follower()
    found = segment(
        picture(truth), slice_boxed(truth, plane), segmenter=segmenter, settings=PRESETS[preset]
    )
    np.testing.assert_array_equal(found.labels == 1, truth)
    assert [asked for asked, _ in segmenter.asked] == [slice_shape(shape, plane)]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("plane", Plane)
def test_a_segmenter_that_misses_a_box_on_a_slice_gets_its_ellipse(
    plane: Plane, inside: bool
) -> None:
    prompts = slice_boxed(LEFT, plane)
    found = segment(picture(LEFT), prompts, segmenter=Constant(inside=inside))
    box = prompts.slice_box
    assert box is not None
    drawn = found.labels == 1
    assert drawn.sum() == drawn[box.within()].sum()
    # An ellipse has pi / 4 of its box; here one of some 100 pixels.
    area = np.prod(np.subtract(box.high, box.low))
    assert 0.65 < drawn.sum() / area < 0.9


# --- flat volumes -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 20, 24), (20, 1, 24), (20, 24, 1), (1, 1, 9), (1, 9, 1)])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("prompt", ["box", "click"])
def test_flat_volumes(shape: tuple[int, int, int], preset: str, prompt: str) -> None:
    where = [slice(n // 4, n // 4 + max(1, n // 2)) for n in shape]
    truth = block(shape, *where)
    z, y, x = (n // 2 for n in shape)
    prompts = (
        ClassPrompts(1, None, (Click(z, y, x, True),)) if prompt == "click" else boxed(truth)[0]
    )
    assert truth[z, y, x]
    found = segment(picture(truth), prompts, settings=PRESETS[preset])
    np.testing.assert_array_equal(found.labels == 1, truth)


@pytest.mark.parametrize("prompt", ["box", "click"])
def test_a_volume_of_one_voxel(prompt: str) -> None:
    box = Box(0, 1, 0, 0, 1, 0, 1)
    prompts = (
        ClassPrompts(1, box) if prompt == "box" else ClassPrompts(1, None, (Click(0, 0, 0, True),))
    )
    found = segment(np.full((1, 1, 1), 9), prompts, segmenter=Constant(inside=True))
    assert found.labels.tolist() == [[[1]]]


# --- several classes ----------------------------------------------------------------------------

LEFT = block(SHAPE, slice(3, 12), slice(4, 15), slice(2, 13))
RIGHT = block(SHAPE, slice(5, 17), slice(6, 20), slice(16, 28))
LOW = block(SHAPE, slice(19, 22), slice(2, 9), slice(2, 9))


def test_classes_beside_each_other_are_told_apart() -> None:
    found = segment(picture(LEFT | RIGHT | LOW), *boxed(LEFT, RIGHT, LOW))
    np.testing.assert_array_equal(found.labels, 1 * LEFT + 2 * RIGHT + 3 * LOW)


@pytest.mark.parametrize("first", [True, False])
def test_a_class_inside_of_another_one_gets_its_own(first: bool) -> None:
    # The segmenter fills every box: both are sure of the inner one.
    outer = block(SHAPE, slice(2, 20), slice(3, 23), slice(4, 28))
    inner = block(SHAPE, slice(8, 14), slice(9, 15), slice(10, 20))
    masks = [inner, outer] if first else [outer, inner]
    found = segment(picture(outer), *boxed(*masks), segmenter=BoxFiller(), settings=VIEWS_ONLY)
    labels = np.where(outer, 1 + first, 0)
    labels[inner] = 2 - first
    np.testing.assert_array_equal(found.labels, labels)


def noisy(truth: Mask) -> npt.NDArray[np.uint8]:
    """An image all slices of which differ."""
    noise = np.random.default_rng(0).integers(1, 100, truth.shape)
    return np.where(truth, np.uint8(255), noise.astype(np.uint8))


def overlapping() -> tuple[list[Mask], npt.NDArray[np.uint8]]:
    """Three bodies, two of which touch, in one bright piece: the classes compete for it."""
    one = ellipsoid(SHAPE, (10, 11, 10), (5, 6, 6))
    two = ellipsoid(SHAPE, (11, 13, 20), (9, 10, 7))
    return [one, two, LOW], noisy(one | two | LOW)


@pytest.mark.parametrize(
    ("segmenter", "settings"), [(Thresholder, DEFAULTS), (BoxFiller, VIEWS_ONLY)]
)
def test_the_order_of_the_classes_has_no_influence(
    segmenter: type[Double], settings: Settings
) -> None:
    masks, image = overlapping()
    found = {}
    for order in permutations(range(3)):
        prompts = boxed(*(masks[n] for n in order))
        labels = segment(image, *prompts, segmenter=segmenter(), settings=settings).labels
        found[order] = np.array([0, *(n + 1 for n in order)])[labels]
    expected = found[0, 1, 2]
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    for labels in found.values():
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("rounds", [1, 2])
def test_no_slice_is_encoded_twice(rounds: int) -> None:
    masks, image = overlapping()
    prompts = boxed(*masks)
    previous = None
    if rounds == 2:
        # A gap goes through the first two: each of them gets a click there.
        previous = 1 * masks[0] + 2 * (masks[1] & ~masks[0]) + 3 * masks[2]
        previous[:, :, 11:14] = 0
        previous = previous.astype(np.uint8)
        prompts[0] = replace(prompts[0], clicks=(Click(10, 9, 12, True),))
        prompts[1] = replace(prompts[1], clicks=(Click(10, 17, 13, True),))
    segmenter = Thresholder()
    found = segment(image, *prompts, segmenter=segmenter, previous=previous)
    different = {(one.shape, one.tobytes()) for one in segmenter.slices}
    assert len(different) == len(segmenter.slices) == found.encoded
    assert len(segmenter.asked) > found.encoded


def test_more_classes_on_the_same_slices_encode_no_more() -> None:
    # Four equal cuboids that share their slices: two by two in y, two by two in x.
    quarters = [
        block(SHAPE, slice(4, 16), slice(y, y + 8), slice(x, x + 9))
        for y in (3, 14)
        for x in (3, 17)
    ]
    image = noisy(np.any(quarters, axis=0))
    encoded = [segment(image, *boxed(*quarters[:n])).encoded for n in (1, 4)]
    assert encoded == [12 + 8 + 9, 12 + 2 * 8 + 2 * 9]


class GuidedRemembering(Remembering):
    """Wants the box's shape added to its mask prompts, beside its own memory."""

    traits = Traits(guided=True)


Z, Y, X = np.argwhere(RIGHT)[0].tolist()
IN_RIGHT = Click(Z, Y, X, positive=False)


@pytest.mark.parametrize("segmenter", [Remembering, GuidedRemembering])
@pytest.mark.parametrize(
    ("prompts", "previous"),
    [
        (ClassPrompts(1, box_of_mask(LEFT)), None),
        (ClassPrompts(1, None, (Click(7, 8, 6, True),)), None),
        (ClassPrompts(1, slice_box=draw_slice_box(LEFT, Plane.CORONAL)), None),
        (ClassPrompts(1, None, (Click(7, 8, 6, True),)), np.uint8(2) * RIGHT),
        (ClassPrompts(1, None, (IN_RIGHT,)), np.uint8(1) * RIGHT),
    ],
    ids=["box", "click", "slice box", "beside another class", "correction"],
)
def test_a_segmenter_whose_state_is_no_array_is_lifted_as_one_without(
    segmenter: type[Remembering], prompts: ClassPrompts, previous: Any
) -> None:
    case = make_case(picture(LEFT | RIGHT), prompts, previous=previous)
    double = segmenter()
    found = lift(case, double).labels
    np.testing.assert_array_equal(found, lift(case, Thresholder()).labels)
    assert found.any()
    assert double.remembered


def test_a_walk_from_a_click_begins_with_the_state_of_its_own_slice() -> None:
    segmenter = Remembering()
    lift(make_case(noisy(LEFT), ClassPrompts(1, None, (Click(7, 8, 6, True),))), segmenter)
    pairs = zip(segmenter.looked, segmenter.remembered, strict=True)
    with_state = [(now, earlier) for now, earlier in pairs if earlier is not None]
    begins = [(now, earlier) for now, earlier in with_state if now in earlier]
    # One in each plane; all other states are those of slices on the way there.
    assert [earlier for _, earlier in begins] == [(now,) for now, _ in begins]
    assert len(begins) == 3
    assert len(with_state) > len(begins)


def test_no_state_comes_back_in_a_correction() -> None:
    segmenter = Remembering()
    previous = np.uint8(1) * RIGHT
    clicks = (IN_RIGHT, Click(7, 8, 6, True))
    lift(
        make_case(noisy(LEFT | RIGHT), ClassPrompts(1, None, clicks), previous=previous), segmenter
    )
    assert segmenter.remembered
    assert set(segmenter.remembered) == {None}


BY_MEMORY, BOTH = (replace(DEFAULTS, propagation=one) for one in ("memory", "both"))


def lassoed(mask: Mask, plane: Plane) -> Lasso:
    """Draws around a mask's section in the middle one of its slices."""
    drawn = draw_slice_box(mask, plane)
    return Lasso(plane, drawn.low, drawn.high, mask[drawn.within()].squeeze(plane.normal))


@pytest.mark.parametrize(
    ("settings", "overruns"), [(BY_MEMORY, True), (BOTH, False)], ids=["memory", "both"]
)
@pytest.mark.parametrize(
    "prompts",
    [
        ClassPrompts(1, box_of_mask(SOLIDS["ellipsoid"])),
        ClassPrompts(1, None, (Click(11, 12, 14, True),)),
        ClassPrompts(1, None, scribbles=(Scribble(np.array([[11, 12, x] for x in range(9, 20)]),
                                                  True),)),
        ClassPrompts(1, slice_box=draw_slice_box(SOLIDS["ellipsoid"], Plane.CORONAL)),
        ClassPrompts(1, slice_box=lassoed(SOLIDS["ellipsoid"], Plane.AXIAL)),
    ],
    ids=["box", "click", "scribble", "slice box", "lasso"],
)  # fmt: skip
def test_walks_by_memory_find_what_those_by_prompts_do(
    prompts: ClassPrompts, settings: Settings, overruns: bool
) -> None:
    truth = SOLIDS["ellipsoid"]
    case = make_case(noisy(truth), prompts, spacing_mm=(2, 1, 1))
    segmenter = Follower(overruns)
    found = lift(case, segmenter, settings)
    np.testing.assert_array_equal(found.labels, lift(case, Thresholder()).labels)
    np.testing.assert_array_equal(found.labels, truth)
    assert any(one.prompt is None for one in segmenter.tracked)
    different = {(one.shape, one.tobytes()) for one in segmenter.slices}
    assert len(different) == len(segmenter.slices) == found.encoded


@pytest.mark.parametrize("propagation", ["prompts", "memory", "both"])
def test_whatever_walks_go_on_by_no_slice_is_encoded_twice(propagation: Propagation) -> None:
    # All planes, three classes, and then a click for each of two of them.
    masks, image = overlapping()
    prompts = boxed(*masks)
    segmenter = Follower()
    settings = replace(DEFAULTS, propagation=propagation)
    embeddings = EmbeddingCache(segmenter, 2**28)
    volume = PreparedVolume(image, (1, 1, 1), embeddings, settings)
    first = pipeline.lift(make_case(image, *prompts), volume, UNLIMITED)
    tracked = len(segmenter.tracked)
    assert bool(tracked) is (propagation != "prompts")
    previous = first.labels.copy()
    previous[:, :, 11:14] = 0
    prompts[0] = replace(prompts[0], clicks=(Click(10, 9, 12, True),))
    prompts[1] = replace(prompts[1], clicks=(Click(10, 17, 13, True),))
    asked = len(segmenter.asked)
    pipeline.lift(make_case(image, *prompts, previous=previous), volume, UNLIMITED)
    different = {(one.shape, one.tobytes()) for one in segmenter.slices}
    assert len(different) == len(segmenter.slices) == embeddings.encoded
    # Corrections are about an error, which no memory knows of.
    assert len(segmenter.tracked) == tracked
    assert len(segmenter.asked) > asked


def test_with_a_small_cache_two_ways_of_walking_encode_no_more_slices_than_one() -> None:
    # The embeddings are the slices themselves: there is room for no more than two.
    masks, image = overlapping()
    largest = max(image[0].size, image[:, 0].size, image[:, :, 0].size)
    encoded = {}
    for propagation in ("prompts", "memory", "both"):
        settings = replace(DEFAULTS, propagation=propagation)
        embeddings = EmbeddingCache(Follower(), 2 * largest)
        volume = PreparedVolume(image, (1, 1, 1), embeddings, settings)
        pipeline.lift(make_case(image, *boxed(*masks)), volume, UNLIMITED)
        encoded[propagation] = embeddings.encoded
    assert encoded["both"] <= encoded["prompts"]
    assert encoded["memory"] <= encoded["prompts"]


@pytest.mark.parametrize("propagation", ["prompts", "memory", "both"])
def test_a_model_with_a_memory_encodes_no_slice_twice(
    propagation: Propagation, tmp_path: Path
) -> None:
    small_sam2().save_pretrained(tmp_path)
    segmenter = load(f"hf:{tmp_path}")
    masks, image = overlapping()
    prompts = boxed(*masks)
    prompts[0] = replace(prompts[0], clicks=(Click(10, 9, 12, True),))
    settings = replace(DEFAULTS, propagation=propagation, min_quality=0.0)
    encoded: list[bytes] = []
    encode = segmenter.encode

    def counted(slices: npt.NDArray[np.uint8]) -> Sequence[Any]:
        encoded.extend(one.tobytes() for one in slices)
        return encode(slices)

    segmenter.encode = counted  # type: ignore[method-assign]
    embeddings = EmbeddingCache(segmenter, 2**30)
    volume = PreparedVolume(image, (1, 1, 1), embeddings, settings)
    found = pipeline.lift(make_case(image, *prompts), volume, UNLIMITED)
    assert found.encoded == len(encoded) == len(set(encoded)) > 10


def test_walks_by_memory_of_all_classes_share_batches() -> None:
    # Four equal cuboids of 12 axial slices from 4 to 15: the boxes' slice is 10.
    quarters = [
        block(SHAPE, slice(4, 16), slice(y, y + 8), slice(x, x + 9))
        for y in (3, 14)
        for x in (3, 17)
    ]
    segmenter = Follower()
    segment(
        noisy(np.any(quarters, axis=0)),
        *boxed(*quarters),
        segmenter=segmenter,
        settings=replace(BY_MEMORY, planes=(Plane.AXIAL,)),
    )
    # Four anchors; five steps in both directions, four classes each; and one more downwards.
    assert segmenter.calls == [4, *5 * [8], 4]


def test_a_prediction_from_a_box_and_clicks_shows_them_on_their_slices() -> None:
    truth = SOLIDS["cuboid"]
    clicks = (Click(6, 9, 9, True),)
    segmenter = Follower()
    prompts = ClassPrompts(1, box_of_mask(truth), clicks)
    found = segment(noisy(truth), prompts, segmenter=segmenter, settings=BY_MEMORY).labels
    np.testing.assert_array_equal(found, truth)
    shown = [one for one in segmenter.tracked if one.prompt is not None and one.memory is not None]
    # Once in each plane; none of the three slices is an anchor.
    assert len(shown) == 3
    assert all(one.prompt is not None and len(one.prompt.points) == 2 for one in shown)


def test_a_tracker_that_answers_without_a_memory_is_not_believed() -> None:
    class Forgetful(Follower):
        def track(self, *arguments: Any) -> Sequence[SliceMask]:
            return [replace(one, state=None) for one in super().track(*arguments)]

    prompts = ClassPrompts(1, box_of_mask(LEFT))
    found = lift(make_case(noisy(LEFT), prompts), Forgetful(), BY_MEMORY)
    fault = "an answer without a memory, expected one as its state"
    planes = ("axial", "coronal", "sagittal")
    expected = tuple(f"no {plane} view ({fault})" for plane in planes)
    assert found.shortfalls[1].describe_faults() == expected


def test_classes_are_split_by_the_memory_of_their_votes_and_none_is_lost() -> None:
    def member(label: int, megabytes: int) -> tuple[ClassPrompts, Any]:
        # 9 bytes a voxel for each of two planes: 2^20 voxels of a column are 18 MB.
        assert Votes.BYTES_PER_VOXEL == 9
        return ClassPrompts(label), ((5, 5, 5), (6, 6, 5 + megabytes * 2**20 // 18))

    members = [member(label, n) for label, n in enumerate((4, 5, 2, 20, 1), 1)]

    def split(megabytes: int) -> list[list[int]]:
        settings = Settings(planes=(Plane.AXIAL, Plane.CORONAL), votes_mb=megabytes)
        groups = split_by_memory(members, settings)
        return [[prompts.label for prompts, _ in group] for group in groups]

    assert split(10) == [[1, 2], [3], [4], [5]]
    assert split(0) == [[1], [2], [3], [4], [5]]
    assert split(32) == [[1, 2, 3, 4, 5]]
    assert list(split_by_memory([], Settings())) == []


def test_classes_that_do_not_fit_into_memory_together_come_out_the_same() -> None:
    masks, image = overlapping()
    prompts = boxed(*masks)
    prompts[0] = replace(prompts[0], clicks=(Click(2, 2, 2, True), Click(10, 11, 9, False)))
    together, apart = (
        segment(image, *prompts, settings=replace(DEFAULTS, votes_mb=mb)).labels for mb in (1024, 0)
    )
    assert set(np.unique(together)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(apart, together)


def test_classes_in_crops_of_their_own_come_out_the_same() -> None:
    # Small crops around the prompts: the classes' regions lie apart.
    prompts = boxed(LEFT, RIGHT, LOW)
    image = picture(LEFT | RIGHT | LOW)
    whole = segment(image, *prompts)
    parts = segment(image, *prompts, settings=replace(DEFAULTS, crop_voxels=1, crop_margin=0.1))
    np.testing.assert_array_equal(parts.labels, whole.labels)


def test_a_class_without_any_prompt_stays_empty() -> None:
    prompts = [boxed(LEFT)[0], ClassPrompts(2), ClassPrompts(3, None, (Click(9, 9, 20, False),))]
    found = segment(picture(LEFT | RIGHT), *prompts)
    np.testing.assert_array_equal(found.labels, 1 * LEFT)


def test_a_case_without_any_prompt_is_empty() -> None:
    found = segment(picture(LEFT), ClassPrompts(1))
    assert not found.labels.any()
    assert found.encoded == 0
    assert found.complete


# --- later rounds -------------------------------------------------------------------------------


def test_a_class_without_any_prompt_keeps_what_it_had() -> None:
    previous = (2 * RIGHT).astype(np.uint8)
    found = segment(picture(LEFT | RIGHT), *boxed(LEFT), ClassPrompts(2), previous=previous)
    np.testing.assert_array_equal(found.labels, 1 * LEFT + 2 * RIGHT)


@pytest.mark.parametrize("segmenter", [Thresholder(), Constant(True), Constant(False)])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_previous_prediction_that_no_click_contradicts_comes_back(
    preset: str, segmenter: Double
) -> None:
    # It may hold whatever it wants, in as many pieces as it likes.
    rng = np.random.default_rng(0)
    previous = rng.integers(0, 4, SHAPE).astype(np.uint8)
    prompts = boxed(LEFT, RIGHT, LOW)
    for n, one in enumerate(prompts):
        inside = np.argwhere(previous == one.label)[::1000].tolist()
        outside = np.argwhere(previous != one.label)[::1000].tolist()
        clicks = [Click(z, y, x, True) for z, y, x in inside]
        clicks += [Click(z, y, x, False) for z, y, x in outside]
        prompts[n] = replace(one, clicks=tuple(clicks))
    found = segment(
        picture(LEFT | RIGHT),
        *prompts,
        segmenter=segmenter,
        settings=PRESETS[preset],
        previous=previous,
    )
    np.testing.assert_array_equal(found.labels, previous)
    assert found.encoded == 0


def test_clicks_correct_the_previous_prediction_and_leave_other_classes_alone() -> None:
    # A corner of the left body is missing, and a lump sticks to the right one.
    corner = block(SHAPE, slice(3, 8), slice(4, 9), slice(2, 7))
    lump = block(SHAPE, slice(8, 13), slice(20, 23), slice(20, 25))
    previous = (1 * (LEFT & ~corner) + 2 * (RIGHT | lump) + 3 * LOW).astype(np.uint8)
    prompts = boxed(LEFT, RIGHT, LOW)
    prompts[0] = replace(prompts[0], clicks=(Click(5, 6, 4, True),))
    prompts[1] = replace(prompts[1], clicks=(Click(10, 21, 22, False),))
    found = segment(
        picture(LEFT | RIGHT | LOW), *prompts, segmenter=TruthTeller(), previous=previous
    )
    np.testing.assert_array_equal(found.labels, 1 * LEFT + 2 * RIGHT + 3 * LOW)


def test_a_click_takes_what_another_class_had() -> None:
    # All of the right body was given to the left class; both of them are clicked.
    previous = (LEFT | RIGHT).astype(np.uint8)
    prompts = boxed(LEFT, RIGHT)
    prompts[0] = replace(prompts[0], clicks=(Click(11, 13, 22, False),))
    prompts[1] = replace(prompts[1], clicks=(Click(11, 13, 22, True),))
    found = segment(picture(LEFT | RIGHT), *prompts, previous=previous)
    np.testing.assert_array_equal(found.labels, 1 * LEFT + 2 * RIGHT)


def test_a_click_weighs_more_than_what_another_class_had() -> None:
    # Half of the right body was given to the left class, on which nobody clicked.
    half = block(SHAPE, slice(5, 17), slice(6, 20), slice(22, 28))
    previous = (1 * (LEFT | RIGHT & ~half) + 2 * half).astype(np.uint8)
    prompts = boxed(LEFT, RIGHT)
    prompts[1] = replace(prompts[1], clicks=(Click(11, 13, 18, True),))
    found = segment(picture(LEFT | RIGHT), *prompts, previous=previous)
    np.testing.assert_array_equal(found.labels, 1 * LEFT + 2 * RIGHT)


# --- whatever the segmenter says ----------------------------------------------------------------

STUBBORN = [
    Constant(inside, quality) for inside in (True, False) for quality in (0.0, 0.1, 1.0)
] + [Thresholder(quality=0.0), BoxFiller(quality=0.0)]


@pytest.mark.parametrize("segmenter", STUBBORN)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("prompt", ["boxes", "clicks", "previous"])
def test_clicks_are_obeyed_whatever_the_segmenter_says(
    prompt: str, preset: str, segmenter: Double
) -> None:
    clicks = [
        (
            Click(7, 8, 6, True),
            Click(1, 1, 1, True),
            Click(6, 8, 6, False),
            Click(20, 0, 29, False),
        ),
        (Click(12, 12, 20, True), Click(21, 25, 29, True), Click(7, 8, 6, False)),
    ]
    boxes = boxed(LEFT, RIGHT)
    prompts = [
        ClassPrompts(n, box.box if prompt == "boxes" else None, marks)
        for n, (box, marks) in enumerate(zip(boxes, clicks, strict=True), 1)
    ]
    previous = (2 * LEFT + RIGHT).astype(np.uint8) if prompt == "previous" else None
    found = segment(
        picture(LEFT | RIGHT),
        *prompts,
        segmenter=segmenter,
        # None of them tracks.
        settings=replace(PRESETS[preset], propagation="prompts"),
        previous=previous,
    )
    for one in prompts:
        for click in one.clicks:
            assert (found.labels[click.voxel] == one.label) == click.positive


@pytest.mark.parametrize("inside", [True, False])
def test_a_segmenter_that_contradicts_the_click_does_not_change_what_it_stands_in(
    inside: bool,
) -> None:
    prompts = ClassPrompts(1, None, (Click(7, 8, 6, True),))
    found = segment(picture(LEFT), prompts, segmenter=Constant(inside=inside))
    np.testing.assert_array_equal(found.labels == 1, LEFT)


def test_a_click_where_all_is_the_same_marks_no_more_than_itself() -> None:
    prompts = ClassPrompts(1, None, (Click(10, 10, 10, True),))
    found = segment(np.full(SHAPE, 7), prompts, segmenter=Constant(inside=False))
    assert np.argwhere(found.labels).tolist() == [[10, 10, 10]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 7.5])
@pytest.mark.parametrize("prompt", ["box", "click"])
def test_images_that_show_nothing_are_survived(value: float, prompt: str) -> None:
    image = np.full(SHAPE, value, np.float32)
    clicks = (Click(7, 8, 6, True), Click(7, 8, 9, False))
    prompts = ClassPrompts(1, box_of_mask(LEFT) if prompt == "box" else None, clicks)
    for segmenter in (Thresholder(), BoxFiller()):
        found = segment(image, prompts, segmenter=segmenter)
        assert found.labels[7, 8, 6] == 1
        assert found.labels[7, 8, 9] == 0
    assert all(not one.any() for one in segmenter.slices)


def test_missing_intensities_are_dark() -> None:
    image = picture(LEFT).astype(np.float32) * 3 - 1000
    image[RIGHT] = np.nan
    image[LOW] = -np.inf
    found = segment(image, *boxed(LEFT))
    np.testing.assert_array_equal(found.labels == 1, LEFT)


# --- out of time --------------------------------------------------------------------------------


def inscribed(box: Box) -> Mask:
    """The ellipsoid that a box draws by itself, 0.9 of its half-axes, in the volume of `SHAPE`."""
    centre = [(a + b - 1) / 2 for a, b in zip(box.low, box.high, strict=True)]
    half = [0.9 * (b - a) / 2 for a, b in zip(box.low, box.high, strict=True)]
    inside = ellipsoid(SHAPE, tuple(centre), tuple(half))
    assert inside.any()
    return inside


@pytest.mark.parametrize("preset", PRESETS)
def test_without_any_time_a_class_is_drawn_from_its_box(preset: str) -> None:
    segmenter = Thresholder()
    prompts = boxed(LEFT, RIGHT)
    found = segment(
        picture(LEFT | RIGHT),
        *prompts,
        segmenter=segmenter,
        settings=PRESETS[preset],
        limit=SPENT,
    )
    assert not found.complete
    assert segmenter.slices == []
    shapes = [inscribed(one.box) for one in prompts if one.box is not None]
    np.testing.assert_array_equal(found.labels, 1 * shapes[0] + 2 * shapes[1])


def test_without_any_time_clicks_are_obeyed_and_the_previous_prediction_is_kept() -> None:
    previous = (1 * LEFT + 2 * RIGHT).astype(np.uint8)
    clicks = (Click(7, 8, 6, False), Click(20, 20, 5, True))
    prompts = [ClassPrompts(1, None, clicks), ClassPrompts(2), ClassPrompts(3, box_of_mask(LOW))]
    found = segment(picture(LEFT | RIGHT), *prompts, previous=previous, limit=SPENT)
    assert not found.complete
    assert found.encoded == 0
    expected = previous.copy()
    expected[7, 8, 6] = 0
    expected[20, 20, 5] = 1
    expected[inscribed(box_of_mask(LOW))] = 3
    np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize("traits", [Traits(), Traits(intensities_alone=True)])
def test_without_any_time_a_click_alone_draws_a_ball(traits: Traits) -> None:
    segmenter = Thresholder()
    segmenter.traits = traits
    click = ClassPrompts(1, None, (Click(7, 8, 6, True),))
    found = segment(picture(LEFT), click, segmenter=segmenter, limit=SPENT)
    assert not found.complete
    assert found.found == {}
    # A cube as large as the scan of 22 x 26 x 30 has sides of 25.8, and 5 % of that are 1.3.
    neighbours = [[6, 8, 6], [7, 7, 6], [7, 8, 5], [7, 8, 6], [7, 8, 7], [7, 9, 6], [8, 8, 6]]
    assert np.argwhere(found.labels).tolist() == neighbours


def test_what_first_clicks_stand_in_is_returned_for_classes_that_begin_with_one() -> None:
    # The first class has a box, the second a previous mask, the fourth a click outside alone.
    left, right = Click(7, 8, 6, True), Click(15, 17, 22, True)
    assert LEFT[left.voxel]
    assert RIGHT[right.voxel]
    prompts = [
        ClassPrompts(1, box_of_mask(LEFT), (left,)),
        ClassPrompts(2, None, (left,)),
        ClassPrompts(3, None, (Click(1, 1, 1, False), right, left)),
        ClassPrompts(4, None, (Click(1, 1, 1, False),)),
    ]
    previous = (2 * LEFT).astype(np.uint8)
    found = segment(picture(LEFT | RIGHT), *prompts, previous=previous)
    assert found.complete
    assert list(found.found) == [3]
    body = found.found[3].scales["medium"].within(((0, 0, 0), SHAPE))
    np.testing.assert_array_equal(body, RIGHT)


def line_in(mask: Mask, z: int, y: int) -> npt.NDArray[np.intp]:
    """Returns the voxels of a mask in one row along x."""
    return np.argwhere(mask & block(SHAPE, slice(z, z + 1), slice(y, y + 1), slice(None)))


EMBEDDED = Traits(intensities_alone=True)


@pytest.mark.parametrize("traits", [Traits(), EMBEDDED])
def test_a_target_that_begins_with_a_scribble_is_found(traits: Traits) -> None:
    segmenter = Thresholder()
    segmenter.traits = traits
    scribble = Scribble(line_in(RIGHT, 15, 17), positive=True)
    # The click came first, but a scribble says more.
    prompts = ClassPrompts(1, None, (Click(15, 17, 22, True),), scribbles=(scribble,))
    found = segment(picture(LEFT | RIGHT), prompts, segmenter=segmenter)
    np.testing.assert_array_equal(found.labels == 1, RIGHT)
    assert found.found[1].seed == (15, 17, int(np.median(scribble.voxels[:, 2])))


def test_a_negative_scribble_begins_no_target() -> None:
    scribble = Scribble(line_in(RIGHT, 15, 17), positive=False)
    assert not segment(picture(RIGHT), ClassPrompts(1, scribbles=(scribble,))).labels.any()


def test_scribbles_are_obeyed_after_classes_have_competed_and_clicks_count_more() -> None:
    # Both classes begin in the same block, and mark voxels of each other's.
    mine, theirs = line_in(LEFT, 7, 8), line_in(LEFT, 5, 6)
    clicked = mine[2].tolist()
    prompts = (
        ClassPrompts(
            1,
            box_of_mask(LEFT),
            scribbles=(Scribble(mine, True), Scribble(theirs, False)),
        ),
        ClassPrompts(
            2,
            box_of_mask(LEFT),
            (Click(clicked[0], clicked[1], clicked[2], True),),
            scribbles=(Scribble(theirs, True),),
        ),
    )
    labels = segment(picture(LEFT), *prompts).labels
    assert labels[tuple(theirs.T)].tolist() == [2] * len(theirs)
    expected = [1] * len(mine)
    expected[2] = 2
    assert labels[tuple(mine.T)].tolist() == expected


def test_a_piece_that_a_scribble_or_region_marks_is_not_dropped() -> None:
    # A box gives the left block; the right one, far from it, is marked by hand.
    scribble = Scribble(line_in(RIGHT, 15, 17), positive=True)
    prompts = ClassPrompts(1, box_of_mask(LEFT), scribbles=(scribble,))
    assert (segment(picture(LEFT), prompts).labels > 0)[tuple(scribble.voxels.T)].all()
    region = Region((15, 16, 20), np.ones((2, 2, 3), np.bool_), positive=True)
    prompts = ClassPrompts(1, box_of_mask(LEFT), regions=(region,))
    assert (segment(picture(LEFT), prompts).labels > 0)[tuple(region.voxels.T)].all()


def click_away_the_second_of_two_bodies(
    axis: int, radii_mm: tuple[float, float, float]
) -> tuple[Mask, Mask, Mask]:
    """Returns both bodies, and what is left of them after a click in the middle of the second.

    The first has radii of 9, 8 and 7 mm; both lie three voxels apart along an axis.
    """
    shape, spacing_mm = [34, 44, 48], (1.6, 1.0, 1.2)
    shape[axis] = 76
    middles = [(np.array(shape) - 1) / 2 for _ in range(2)]
    reach = (9.0, 8.0, 7.0)[axis] / spacing_mm[axis], radii_mm[axis] / spacing_mm[axis]
    middles[0][axis] = 4 + reach[0]
    middles[1][axis] = middles[0][axis] + reach[0] + 3 + reach[1]
    places = np.ogrid[tuple(slice(n) for n in shape)]
    first, second = (
        np.asarray(
            sum(
                ((v - c) * mm / r) ** 2
                for v, c, mm, r in zip(places, middle, spacing_mm, radii, strict=True)
            )
            < 1
        )
        for middle, radii in zip(middles, ((9.0, 8.0, 7.0), radii_mm), strict=True)
    )
    noise = np.random.default_rng(0).normal(0, 10, shape)
    image = (np.where(first | second, 160, 80) + noise).clip(0, 255).astype(np.uint8)
    z, y, x = np.rint(middles[1]).astype(int).tolist()
    found = segment(
        image,
        ClassPrompts(1, None, (Click(z, y, x, positive=False),)),
        previous=(first | second).astype(np.uint8),
        spacing_mm=spacing_mm,
    )
    return first, second, found.labels == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("radii_mm", [(9.0, 8.0, 7.0), (6.0, 5.0, 5.0)])
def test_one_click_takes_the_second_of_two_bodies_away(
    axis: int, radii_mm: tuple[float, float, float]
) -> None:
    first, _, found = click_away_the_second_of_two_bodies(axis, radii_mm)
    np.testing.assert_array_equal(found, first)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_of_a_body_that_is_larger_than_the_rest_a_click_takes_half_of_the_mask_at_most(
    axis: int,
) -> None:
    first, second, found = click_away_the_second_of_two_bodies(axis, (14.0, 11.0, 9.0))
    assert found[first].all()
    assert np.count_nonzero(found) >= np.count_nonzero(first | second) / 2


@pytest.mark.parametrize("scale", ["tight", "medium", "large"])
def test_the_setting_scale_says_which_body_is_taken(scale: Scale) -> None:
    # A bright core in a shell: the shell with its core is the larger body.
    core = block(SHAPE, slice(9, 14), slice(10, 16), slice(11, 18))
    around = block(SHAPE, slice(5, 18), slice(6, 20), slice(6, 23))
    image = np.where(core, 200, np.where(around, 120, 40)).astype(np.uint8)
    segmenter = Thresholder()
    segmenter.traits = Traits(intensities_alone=True)
    click = ClassPrompts(1, None, (Click(11, 12, 14, True),))
    settings = replace(DEFAULTS, scale=scale)
    found = segment(image, click, segmenter=segmenter, settings=settings)
    body = found.found[1].scales[scale].within(((0, 0, 0), SHAPE))
    np.testing.assert_array_equal(found.labels == 1, body)
    if scale == "medium":
        np.testing.assert_array_equal(body, core)
    if scale == "large":
        assert dice(body, around) > 0.95  # the opening that cuts bridges rounds its edges


class Slow(Thresholder):
    """Takes its time: the clock moves on by a second with every slice that is decoded.

    After the first slice it may get `slower`, which nobody could foresee.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slower: float = 1.0) -> None:
        super().__init__()
        self.now = 0.0
        self.slower = slower
        monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: self.now))

    def segment(self, image: npt.NDArray[np.uint8], prompt: Any) -> Mask:
        self.now += 1 if self.now == 0 else self.slower
        return super().segment(image, prompt)


@pytest.mark.parametrize(("solid", "least"), [("cuboid", 1.0), ("slanted", 0.8)])
def test_with_little_time_slices_are_stepped_over_rather_than_left_out(
    solid: str, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = SOLIDS[solid]
    # Time for fewer than the axial slices.
    limit = Budget(0, 8)
    segmenter = Slow(monkeypatch)
    settings = replace(VIEWS_ONLY, planes=(Plane.AXIAL,))
    found = segment(
        picture(truth), *boxed(truth), segmenter=segmenter, limit=limit, settings=settings
    )
    assert not found.complete
    assert segmenter.now <= 8
    assert found.encoded < truth.any(axis=(1, 2)).sum()
    both = (found.labels == 1) & truth
    assert 2 * both.sum() / (truth.sum() + found.labels.sum()) >= least


def test_a_class_that_runs_out_of_time_is_finished_from_what_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # By the first slice, forty seconds are enough for all of them; by the others they are not.
    truth = SOLIDS["cuboid"]
    segmenter = Slow(monkeypatch, slower=15)
    found = segment(picture(truth), *boxed(truth), segmenter=segmenter, limit=Budget(0, 40))
    assert not found.complete
    assert segmenter.now <= 40
    seen = [z for z in range(SHAPE[0]) if (found.labels[z] == truth[z]).all() and truth[z].any()]
    assert len(seen) == 3  # in the middle: a second step of two slices would not fit
    unseen = np.setdiff1d(np.flatnonzero(truth.any(axis=(1, 2))), seen)
    shape = inscribed(box_of_mask(truth))
    np.testing.assert_array_equal(found.labels[unseen] == 1, shape[unseen])


class Batching(Thresholder):
    """Encodes eight slices at once, on a clock set by hand: a call costs more than its slices."""

    traits = Traits(batch=8)

    def __init__(self, clock: SimpleNamespace, setup: float) -> None:
        super().__init__()
        self._clock = clock
        self._setup = setup
        self.encoded: list[int] = []

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Takes 40 ms, 2 ms for each slice, and at first the time to set up a device."""
        self._clock.now += self._setup + 0.04 + 0.002 * len(slices)
        self._setup = 0.0
        self.encoded.append(len(slices))
        return super().encode(slices)

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Takes 5 ms."""
        self._clock.now += 0.005
        return super().decode(embeddings, prompts, multimask)


def unlike_slices(mask: Mask) -> npt.NDArray[np.uint8]:
    """Returns the image of a mask in which no two slices are the same, and none is encoded once."""
    noise = np.random.default_rng(0).integers(0, 20, mask.shape).astype(np.uint8)
    return picture(mask) - np.where(mask, noise, np.uint8(0))


@pytest.mark.parametrize(("setup", "allowed"), [(0, 2.5), (1, 6)])
def test_calls_that_cost_much_by_themselves_are_batched_after_a_slow_first_one(
    setup: float, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: clock.now))
    mask = block((48, 48, 48), slice(6, 42), slice(6, 42), slice(6, 42))
    case = make_case(unlike_slices(mask), ClassPrompts(1, box_of_mask(mask)))
    segmenter = Batching(clock, setup)
    # With 36 slices in each of three planes, whole batches take 14 * 56 ms, and decoding 54 * 5.
    lifted = lift(case, segmenter, limit=Budget(0, allowed))
    assert lifted.complete
    assert sum(segmenter.encoded) == 108
    assert clock.now < 2 + setup


@pytest.mark.parametrize(("setup", "allowed"), [(0, 0.3), (0, 0.6), (0, 1), (1, 1.3), (1, 4)])
def test_no_call_that_costs_much_by_itself_is_late(
    setup: float, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: clock.now))
    mask = block((48, 48, 48), slice(6, 42), slice(6, 42), slice(6, 42))
    case = make_case(unlike_slices(mask), ClassPrompts(1, box_of_mask(mask)))
    lifted = lift(case, Batching(clock, setup), limit=Budget(0, allowed))
    assert not lifted.complete
    assert clock.now <= allowed


def test_time_that_a_class_leaves_over_goes_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each class is segmented by itself.
    settings = replace(DEFAULTS, votes_mb=0)
    prompts = boxed(LOW, RIGHT)
    limit = Budget(0, 35)
    complete, spent = [], []
    for some in ([prompts[0]], [ClassPrompts(1, prompts[1].box)], prompts):
        segmenter = Slow(monkeypatch)
        image = picture(LOW | RIGHT)
        found = segment(image, *some, segmenter=segmenter, settings=settings, limit=limit)
        complete.append(found.complete)
        spent.append(segmenter.now)
    assert complete == [True, False, True]
    assert spent[0] < 35 < spent[2] - spent[0]


def test_all_bodies_in_a_box_stay_and_the_papers_rule_keeps_one_unless_clicks_hold_more() -> None:
    # The segmenter finds all that is bright, in a box that reaches over both.
    truth = LEFT | RIGHT
    box = box_of_mask(truth)
    box = replace(box, y_min=0, y_max=SHAPE[1], x_min=0, x_max=SHAPE[2])
    papers = replace(VIEWS_ONLY, largest_component=True)
    inside = (Click(7, 8, 6, True),)
    for clicks, settings, expected in (
        ((), VIEWS_ONLY, truth),
        ((), papers, RIGHT),
        (inside, papers, truth),
    ):
        found = segment(picture(truth), ClassPrompts(1, box, clicks), settings=settings).labels
        np.testing.assert_array_equal(found == 1, expected)
    assert ndimage.label(truth)[1] == 2


def test_classes_are_seen_in_windows_of_their_own() -> None:
    # Side by side, in one crop: a lesion in an organ, and a nodule in a lung.
    image = np.full(SHAPE, 60, np.int16)
    image[:, 13:] = -850
    lesion = block(SHAPE, slice(8, 14), slice(4, 9), slice(10, 18))
    nodule = block(SHAPE, slice(8, 14), slice(17, 22), slice(10, 18))
    image[lesion], image[nodule] = 100, 0
    segmenter = Thresholder()
    found = segment(image, *boxed(lesion, nodule), segmenter=segmenter)
    np.testing.assert_array_equal(found.labels, lesion + 2 * nodule.astype(np.uint8))
    # 60..100, and -850..0, with half of that on both sides.
    assert found.windows == {1: (40, 120), 2: (-1275, 425)}
    settings = replace(DEFAULTS, window=IntensityWindow(0, 100))
    assert segment(image, *boxed(lesion), settings=settings).windows == {1: (0, 100)}


@pytest.mark.parametrize("last", [True, False])
def test_of_clicks_on_one_voxel_the_last_one_counts(last: bool) -> None:
    clicks = Click(9, 12, 13, not last), Click(9, 12, 13, last)
    found = segment(picture(SOLIDS["cuboid"]), ClassPrompts(1, None, clicks))
    assert found.labels[9, 12, 13] == int(last)

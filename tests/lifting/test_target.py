"""What a class hands to the segmenter and takes from it, on grids that are not the raw voxels."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, logit

from gamt.axes import Plane, slice_shape
from gamt.lifting.shape import prior_logits
from gamt.lifting.target import CLICKS_ON_SLICE, LEAST_PROBABILITY, Target
from gamt.prompts import Box, ClassPrompts, Click, Scribble, SlicePrompt
from gamt.segmenters.base import SliceMask, Traits
from gamt.settings import Settings
from tests.doubles import (
    Constant,
    answer,
    make_case,
    make_target,
)

SHAPE = (4, 6, 8)
BOX = Box(z_min=1, z_max=3, z_mid=2, y_min=1, y_max=5, x_min=2, x_max=7)
DARK = np.zeros(SHAPE, np.uint8)

# Slices 3 mm apart, pixels of 1 mm: the raw slices lie at the grid slices 0, 3, 6, 9.
THICK = (3.0, 1.0, 1.0)


def target_of(*prompts: ClassPrompts, settings: Settings | None = None) -> Target:
    """The first of some classes in a dark volume of thick slices."""
    case = make_case(DARK, *prompts, spacing_mm=THICK)
    return make_target(case, Constant(inside=False), settings or Settings())


# --- from the region to a slice and back --------------------------------------------------------


def test_a_cross_section_fills_in_the_rows_between_thick_slices() -> None:
    target = target_of(ClassPrompts(1))
    probability = np.zeros(SHAPE, np.float32)
    probability[1, 2, 3:5] = 0.8
    seen = target.cross_section(probability, Plane.CORONAL, 2)
    expected = np.full((10, 8), logit(LEAST_PROBABILITY))
    expected[2:5, 3:5] = logit(0.8)  # raw slice 1 lies at row 3, the nearest of rows 2..4
    np.testing.assert_allclose(seen.logits, expected, rtol=1e-5)
    assert seen.state is None
    assert seen.quality == 1


@pytest.mark.parametrize("plane", Plane)
def test_a_cross_section_lies_where_its_region_does(plane: Plane) -> None:
    # The crop is the volume's z 1..6, y 2..9, x 3..11; the region is smaller on all sides.
    case = make_case(np.zeros((8, 11, 13), np.uint8), ClassPrompts(1))
    crop, region = ((1, 2, 3), (7, 10, 12)), ((2, 4, 4), (6, 9, 11))
    target = make_target(case, Constant(inside=False), crop=crop, region=region)
    volume = np.random.default_rng(0).uniform(0.02, 0.98, (8, 11, 13)).astype(np.float32)
    part = volume[2:6, 4:9, 4:11]
    for index in range(part.shape[plane.normal]):
        whole = np.full((8, 11, 13), LEAST_PROBABILITY)
        whole[2:6, 4:9, 4:11] = part
        raw = whole[1:7, 2:10, 3:12].take(
            index + region[0][plane.normal] - crop[0][plane.normal], axis=plane.normal
        )
        seen = target.cross_section(part, plane, index)
        np.testing.assert_allclose(seen.logits, logit(raw), rtol=1e-4)


def test_a_cross_section_is_never_quite_sure() -> None:
    target = target_of(ClassPrompts(1))
    probability = np.zeros(SHAPE, np.float32)
    probability[:2] = 1
    seen = target.cross_section(probability, Plane.SAGITTAL, 0)
    assert seen.logits.max() == pytest.approx(-logit(LEAST_PROBABILITY), rel=1e-5)
    assert seen.logits.min() == pytest.approx(logit(LEAST_PROBABILITY), rel=1e-5)


def test_a_voxel_that_a_coarse_grid_steps_over_still_shows() -> None:
    # Nine voxels on five grid pixels: these show the voxels 0, 2, 4, 6, 8.
    case = make_case(np.zeros((9, 9, 9), np.uint8), ClassPrompts(1), spacing_mm=(2, 1, 1))
    target = make_target(case, Constant(inside=False), voxel_mm=2)
    assert target.scan.grid.shape == (9, 5, 5)
    probability = np.zeros((9, 9, 9), np.float32)
    probability[4, 4, 4] = probability[5, 3, 5] = 0.9
    expected = np.zeros((5, 5), np.bool_)
    expected[2, 2] = True
    np.testing.assert_array_equal(target.cross_section(probability, Plane.AXIAL, 4).mask, expected)
    stepped_over = target.cross_section(probability, Plane.AXIAL, 5).mask
    assert np.argwhere(stepped_over).tolist() == [[target.to_grid(1)[3], target.to_grid(2)[5]]]


@pytest.mark.parametrize("plane", Plane)
def test_raw_indices_of_the_region_are_counted_from_its_first(plane: Plane) -> None:
    case = make_case(DARK, ClassPrompts(1), spacing_mm=THICK)
    target = make_target(case, Constant(inside=False), region=((1, 2, 3), (4, 5, 6)))
    expected = {Plane.AXIAL: [3, 6, 9], Plane.CORONAL: [2, 3, 4], Plane.SAGITTAL: [3, 4, 5]}
    assert target.to_grid(plane.normal).tolist() == expected[plane]
    assert target.inside_region((2, 4, 3)) == (1, 2, 0)


# --- clicks -------------------------------------------------------------------------------------

CLICKED = ClassPrompts(1, None, (Click(2, 3, 4, True), Click(1, 3, 5, False)))
BESIDE = ClassPrompts(2, None, (Click(2, 1, 4, True), Click(2, 2, 2, False)))


@pytest.mark.parametrize(
    ("plane", "index", "points", "labels"),
    [
        # (x, y) are (x, y) of the volume; its own positive click, and the other class's.
        (Plane.AXIAL, 6, [[4, 3], [4, 1]], [1, 0]),
        (Plane.AXIAL, 3, [[5, 3]], [0]),
        (Plane.AXIAL, 2, [], []),  # between the raw slices
        # (x, y) are (x, z) of the grid, three rows a raw slice.
        (Plane.CORONAL, 3, [[4, 6], [5, 3]], [1, 0]),
        (Plane.CORONAL, 1, [[4, 6]], [0]),
        (Plane.CORONAL, 2, [], []),  # another class's negative click says nothing
        # (x, y) are (y, z) of the grid.
        (Plane.SAGITTAL, 4, [[3, 6], [1, 6]], [1, 0]),
        (Plane.SAGITTAL, 5, [[3, 3]], [0]),
    ],
)
def test_the_clicks_on_a_slice_become_points(
    plane: Plane, index: int, points: list[list[int]], labels: list[int]
) -> None:
    prompt = target_of(CLICKED, BESIDE).add_clicks(plane, index, SlicePrompt())
    assert prompt.points.tolist() == points
    assert prompt.labels.tolist() == labels


def test_clicks_are_added_to_what_a_prompt_holds() -> None:
    scores = np.zeros((6, 8), np.float32)
    before = SlicePrompt((1, 2, 3, 4), np.array([[7.0, 5.0]]), np.array([1]), scores)
    prompt = target_of(CLICKED).add_clicks(Plane.AXIAL, 3, before)
    assert prompt.box == (1, 2, 3, 4)
    assert prompt.points.tolist() == [[7, 5], [5, 3]]
    assert prompt.labels.tolist() == [1, 0]
    assert prompt.mask is scores


def test_of_many_clicks_on_a_slice_a_segmenter_gets_some_that_are_far_from_each_other() -> None:
    # Every pixel of a slice of 60 is clicked ten times, two columns of it as outside.
    everywhere = [
        Click(2, y, x, positive=x > 1) for _ in range(10) for y in range(12) for x in range(8)
    ]
    image = np.zeros((4, 12, 8), np.uint8)
    case = make_case(image, ClassPrompts(1, clicks=tuple(everywhere)))
    target = make_target(case, Constant(inside=False))
    prompt = target.add_clicks(Plane.AXIAL, 2, SlicePrompt())
    inside, outside = (prompt.points[prompt.labels == label] for label in (1, 0))
    assert len(inside) == CLICKS_ON_SLICE
    assert sorted(outside.tolist()) == [[x, y] for x in (0, 1) for y in range(12)]
    assert {(2, 0), (7, 0), (2, 11), (7, 11)} <= {(x, y) for x, y in inside.tolist()}
    assert len(target.add_clicks(Plane.AXIAL, 1, SlicePrompt()).points) == 0


def test_clicks_outside_of_the_crop_are_left_out() -> None:
    far = ClassPrompts(2, None, (Click(3, 5, 7, True), Click(2, 3, 4, True)))
    case = make_case(DARK, ClassPrompts(1), far)
    target = make_target(case, Constant(inside=False), crop=((1, 1, 1), (4, 5, 6)))
    assert [click.voxel for click in target.others] == [(2, 3, 4)]


def line_on(axis: int, *voxel: int) -> npt.NDArray[np.intp]:
    """Returns all voxels of a line along an axis of `DARK`, through a voxel."""
    line = np.tile(voxel, (DARK.shape[axis], 1))
    line[:, axis] = np.arange(DARK.shape[axis])
    return line


def test_a_scribble_gives_each_slice_that_it_crosses_a_few_points_far_from_each_other() -> None:
    scribble = Scribble(line_on(2, 2, 3, 0), positive=True)  # along x, in the slice z = 2
    target = make_target(make_case(DARK, ClassPrompts(1, scribbles=(scribble,))), Constant(False))
    here = target.add_clicks(Plane.AXIAL, 2, SlicePrompt())
    # Of 8 columns the middle one, both ends, and those in the middles of what is between.
    assert sorted(here.points.tolist()) == [[0, 3], [1, 3], [3, 3], [5, 3], [7, 3]]
    assert here.labels.tolist() == [1] * 5
    assert len(target.add_clicks(Plane.AXIAL, 3, SlicePrompt()).points) == 0
    across = target.add_clicks(Plane.SAGITTAL, 6, SlicePrompt())
    assert across.points.tolist() == [[3, 2]]


def test_negative_scribbles_and_positive_ones_of_other_classes_are_points_outside() -> None:
    mine = ClassPrompts(1, scribbles=(Scribble(np.array([[2, 1, 1]]), positive=False),))
    other = ClassPrompts(
        2,
        scribbles=(
            Scribble(np.array([[2, 4, 5]]), positive=True),
            Scribble(np.array([[2, 3, 3]]), positive=False),
        ),
    )
    target = make_target(make_case(DARK, mine, other), Constant(inside=False))
    prompt = target.add_clicks(Plane.AXIAL, 2, SlicePrompt())
    assert prompt.points.tolist() == [[1, 1], [5, 4]]
    assert prompt.labels.tolist() == [0, 0]


def test_what_of_another_classs_scribble_lies_outside_of_the_crop_is_left_out() -> None:
    other = ClassPrompts(2, scribbles=(Scribble(line_on(2, 2, 3, 0), positive=True),))
    case = make_case(DARK, ClassPrompts(1), other)
    target = make_target(case, Constant(inside=False), crop=((1, 1, 2), (4, 5, 5)))
    prompt = target.add_clicks(Plane.AXIAL, 1, SlicePrompt())
    assert sorted(prompt.points.tolist()) == [[0, 2], [1, 2], [2, 2]]


# --- the box's shape as a prior -----------------------------------------------------------------


class Guided(Constant):
    """Declares that the box's shape is to be added to its mask prompts."""

    traits = Traits(guided=True)


def guided_target(*prompts: ClassPrompts, weight: float = 1.0) -> Target:
    """The first of some classes in a dark volume of thick slices, for a guided segmenter."""
    case = make_case(DARK, *prompts, spacing_mm=THICK)
    return make_target(case, Guided(inside=False), Settings(guide_weight=weight))


INNER = Box(z_min=2, z_max=3, z_mid=2, y_min=2, y_max=4, x_min=3, x_max=5)


def prior_of_boxes(plane: Plane) -> npt.NDArray[np.float32]:
    """The log-odds of `BOX`, less those of `INNER`, on the grid slice 4 of a plane."""
    # On the grid, the raw slices 1 and 2 reach from half-way before 3 to half-way past 6.
    box = Box(z_min=2, z_max=8, z_mid=6, y_min=1, y_max=5, x_min=2, x_max=7)
    rival = Box(z_min=5, z_max=8, z_mid=6, y_min=2, y_max=4, x_min=3, x_max=5)
    prior = prior_logits(box, [rival], (0, 0, 0), (10, 6, 8)).take(4, axis=plane.normal)
    assert prior.any()
    return np.asarray(prior)


@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_boxs_shape_is_added_to_the_mask_prompt(plane: Plane, weight: float) -> None:
    target = guided_target(ClassPrompts(1, BOX), ClassPrompts(2, INNER), weight=weight)
    shape = slice_shape((10, 6, 8), plane)
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    guided = target.add_prior(plane, 4, SlicePrompt((0, 0, 1, 1), mask=scores), BOX)
    assert guided.mask is not None
    expected = scores + weight * prior_of_boxes(plane)
    np.testing.assert_allclose(guided.mask, expected, rtol=1e-5, atol=1e-6)
    assert guided.box == (0, 0, 1, 1)


@pytest.mark.parametrize("plane", Plane)
def test_beside_a_segmenters_own_state_the_boxs_shape_is_the_mask_prompt(plane: Plane) -> None:
    target = guided_target(ClassPrompts(1, BOX), ClassPrompts(2, INNER))
    state = object()
    guided = target.add_prior(plane, 4, SlicePrompt((0, 0, 1, 1), state=state), BOX)
    assert guided.state is state
    assert guided.mask is not None
    np.testing.assert_allclose(guided.mask, prior_of_boxes(plane), rtol=1e-5, atol=1e-6)


SCORES = np.zeros((6, 8), np.float32)


@pytest.mark.parametrize(
    ("box", "weight", "prompt"),
    [
        (BOX, 1.0, SlicePrompt((0, 0, 1, 1))),  # it says nothing of an earlier slice
        (BOX, 0.0, SlicePrompt((0, 0, 1, 1), mask=SCORES)),
        (None, 1.0, SlicePrompt((0, 0, 1, 1), mask=SCORES)),
    ],
)
def test_without_an_earlier_slice_box_or_weight_a_prompt_stays_as_it_is(
    box: Box | None, weight: float, prompt: SlicePrompt
) -> None:
    target = guided_target(ClassPrompts(1, box), weight=weight)
    assert target.add_prior(Plane.AXIAL, 6, prompt, box) is prompt


def test_a_segmenter_that_does_not_ask_for_it_gets_no_prior() -> None:
    # The mask has the slice's shape, which once decided.
    target = target_of(ClassPrompts(1, BOX))
    prompt = SlicePrompt((0, 0, 1, 1), mask=SCORES)
    assert target.add_prior(Plane.AXIAL, 6, prompt, BOX) is prompt


def test_only_smaller_boxes_that_overlap_are_rivals() -> None:
    aside = Box(z_min=3, z_max=4, z_mid=3, y_min=2, y_max=4, x_min=3, x_max=5)
    outer = Box(z_min=0, z_max=4, z_mid=2, y_min=0, y_max=6, x_min=0, x_max=8)
    classes = [ClassPrompts(n, box) for n, box in enumerate((BOX, INNER, aside, outer), 1)]
    assert target_of(*classes, ClassPrompts(5)).rivals == (INNER,)


# --- what was looked at -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "mask", "expected"),
    [
        # A quarter of the sides and one pixel on each side: 4 x 8 pixels grow by 2 and 3.
        ((8, 10, 12, 18), np.s_[0:0], (6, 7, 14, 21)),
        ((8, 10, 12, 18), np.s_[12:14, 9:10], (6, 7, 14, 21)),
        ((8, 10, 10, 12), np.s_[16:18, 10:12], (6, 7, 14, 21)),  # box and mask together
        (None, np.s_[10:18, 8:12], (6, 7, 14, 21)),
        ((0, 0, 4, 40), np.s_[0:0], (0, 0, 6, 40)),  # as far as the slice goes
        (None, np.s_[0:0], (0, 0, 0, 0)),
    ],
)
def test_box_and_mask_with_a_margin_were_looked_at(
    box: tuple[int, int, int, int] | None,
    mask: tuple[slice, ...],
    expected: tuple[int, int, int, int],
) -> None:
    target = target_of(ClassPrompts(1), settings=Settings(box_margin=0.25))
    inside = np.zeros((40, 30), np.bool_)
    inside[mask] = True
    assert target.window(SlicePrompt(box), answer(inside)) == expected


# --- the mask -----------------------------------------------------------------------------------


def test_a_previous_prediction_is_the_mask_until_corrected() -> None:
    previous = np.zeros(SHAPE, np.uint8)
    previous[1, 2:4, 3] = 1
    previous[3, 5, 7] = 1
    previous[2, 2, 2] = 2
    case = make_case(DARK, CLICKED, BESIDE, previous=previous)
    target = make_target(case, Constant(inside=False))
    np.testing.assert_array_equal(target.find_mask(), previous == 1)


def test_a_class_that_the_previous_prediction_lacks_begins_anew() -> None:
    previous = np.full(SHAPE, 2, np.uint8)
    target = make_target(
        make_case(DARK, CLICKED, BESIDE, previous=previous), Constant(inside=False)
    )
    assert target.previous is None


def test_pieces_without_a_positive_click_are_dropped() -> None:
    pieces: list[Any] = [np.s_[0, 0:2, 0:2], np.s_[3, 4:6, 6:8], np.s_[0:3, 2:6, 4]]
    clicks = (Click(0, 1, 1, True), Click(3, 4, 6, False))
    target = make_target(make_case(DARK, ClassPrompts(1, None, clicks)), Constant(inside=False))
    inside = np.zeros(SHAPE, np.bool_)
    for piece in pieces:
        inside[piece] = True
    for z in range(4):
        target.finding.votes.add(Plane.AXIAL, z, (0, 0, 8, 6), answer(inside[z]))
    inside[3] = False
    np.testing.assert_array_equal(target.find_mask(), inside)


@pytest.mark.parametrize("boxed", [True, False])
def test_all_pieces_stay_in_a_box_alone(boxed: bool) -> None:
    box = Box(0, 4, 2, 0, 6, 0, 8) if boxed else None
    target = make_target(
        make_case(DARK, ClassPrompts(1, box)),
        Constant(inside=False),
        replace(Settings(), shape_weight=0.0, vote_blur=0.0),
    )
    inside = np.zeros(SHAPE, np.bool_)
    inside[3, 2:4, 5:8] = True
    largest = inside.copy()
    inside[0, 0, 0] = True
    for z in range(4):
        target.finding.votes.add(Plane.AXIAL, z, (0, 0, 8, 6), answer(inside[z]))
    np.testing.assert_array_equal(target.find_mask(), inside if boxed else largest)


# --- the opinion of views and box ---------------------------------------------------------------


class IntensitiesAlone(Constant):
    """Says that it knows no shapes."""

    traits = Traits(intensities_alone=True)


@pytest.mark.parametrize(
    ("segmenter", "weight"), [(Constant(inside=True), 0.3), (IntensitiesAlone(inside=True), 1.0)]
)
def test_the_box_counts_more_beside_a_segmenter_that_knows_no_shapes(
    segmenter: Constant, weight: float
) -> None:
    case = make_case(DARK, ClassPrompts(1, BOX))
    for settings in (Settings(), Settings(shape_weight=weight)):
        target = make_target(case, segmenter, settings)
        sure = np.zeros(DARK.shape[1:], np.float32)  # as likely as not
        target.finding.votes.add(Plane.AXIAL, 2, (0, 0, 8, 6), SliceMask(sure, 1.0))
        # In its middle, the ellipsoid's log-odds are 1.4.
        expected = (0.5 + weight * expit(1.4)) / (1 + weight)
        assert target.fuse()[2, 2, 4] == pytest.approx(expected, rel=1e-4)

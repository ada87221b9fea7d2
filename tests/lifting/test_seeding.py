"""From a click or a box on one slice to a target: its box, and its course by walking."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from benchmarks.oracle import NoisyOracle
from benchmarks.phantoms import dice, draw_slice_box
from gamt import segmenters
from gamt.axes import Plane, bounding_range, slice_view
from gamt.interactions import read_lasso
from gamt.lifting.budget import OutOfTime, Stopwatch
from gamt.lifting.pipeline import seeded
from gamt.lifting.propagation import run
from gamt.lifting.seeding import (
    body_with_section,
    draw_box,
    extend_box,
    leaves_section,
    seed_in_box,
    slice_box_walk,
)
from gamt.lifting.target import Target
from gamt.predict import predict_case
from gamt.prompts import Box, ClassPrompts, Click, SliceBox, SlicePrompt
from gamt.segmenters.base import SliceMask, Traits
from gamt.settings import Settings
from tests.doubles import (
    DEFAULTS,
    Constant,
    Double,
    Mask,
    Thresholder,
    answer,
    block,
    lift,
    make_case,
    make_target,
    picture,
)

SHAPE = (20, 22, 24)
VOXEL = (10, 11, 12)


def section(plane: Plane, *bounds: tuple[int, int], quality: float = 1.0) -> SliceMask:
    """The section of a cuboid, given by its bounds on (z, y, x), with a slice through it."""
    volume = block(SHAPE, *(slice(*bound) for bound in bounds))
    middle = (bounds[plane.normal][0] + bounds[plane.normal][1]) // 2
    mask = slice_view(volume, plane, middle)
    return answer(mask, quality)


# --- the box around a seed ----------------------------------------------------------------------

BODY = ((5, 15), (6, 16), (7, 17))


def boxed(sections: dict[Plane, SliceMask], **options: Any) -> Box | None:
    clicks = (Click(*VOXEL, positive=True),)
    case = make_case(np.zeros(SHAPE, np.uint8), ClassPrompts(1, None, clicks), **options)
    return draw_box(make_target(case, Constant(inside=False)), sections, VOXEL)


def test_a_body_is_boxed_with_some_room() -> None:
    # Ten voxels on every axis, from (5, 6, 7), and a tenth of that as room on each side.
    box = boxed({plane: section(plane, *BODY) for plane in Plane})
    assert box == Box(4, 16, 10, 5, 17, 6, 18)


def test_a_body_that_fills_the_volume_is_boxed_by_it() -> None:
    everything = ((0, 20), (0, 22), (0, 24))
    box = boxed({plane: section(plane, *everything) for plane in Plane})
    assert box == Box(0, 20, 10, 0, 22, 0, 24)


@pytest.mark.parametrize("plane", [Plane.AXIAL, Plane.CORONAL])
def test_what_is_much_longer_in_one_slice_than_in_another_is_no_body(plane: Plane) -> None:
    # Both of these slices run along x, in which the body is four voxels wide. Half as much again
    # and two voxels are eight.
    body = ((8, 13), (9, 14), (10, 14))
    for extent, is_body in ((8, True), (9, False)):
        sections = {one: section(one, *body) for one in Plane}
        sections[plane] = section(plane, *body[:2], (10, 10 + extent))
        assert (boxed(sections) is not None) == is_body


def test_a_part_off_the_line_through_the_click_counts_too() -> None:
    # The axial section has another part on x, apart from the one that was clicked.
    sections = {one: section(one, (8, 13), (9, 14), (10, 15)) for one in Plane}
    mask = sections[Plane.AXIAL].mask.copy()
    mask[9:14, [0, 1, 22, 23]] = True
    sections[Plane.AXIAL] = answer(mask)
    assert boxed(sections) is None


# --- a box on one slice -------------------------------------------------------------------------


def dark_target(prompts: ClassPrompts, **options: Any) -> Target:
    return make_target(
        make_case(np.zeros(SHAPE, np.uint8), prompts, **options), Constant(inside=False)
    )


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        # The middles of the slices of a cube of 7 x 7 x 7 voxels that begins at (7, 8, 9).
        (Plane.AXIAL, (11, 11, 12)),
        (Plane.CORONAL, (10, 12, 12)),
        (Plane.SAGITTAL, (10, 11, 13)),
    ],
)
def test_the_seed_is_deep_in_the_mask(plane: Plane, expected: tuple[int, int, int]) -> None:
    low, high = [7, 8, 9], [14, 15, 16]
    truth = block(SHAPE, *(slice(a, b) for a, b in zip(low, high, strict=True)))
    index = expected[plane.normal]
    low[plane.normal], high[plane.normal] = index, index + 1
    box = SliceBox(plane, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
    target = dark_target(ClassPrompts(1, slice_box=box))
    assert seed_in_box(target, box, answer(slice_view(truth, plane, index))) == expected


def test_the_seed_is_a_voxel_of_box_and_mask() -> None:
    # Slices 3 mm apart, of which the grid shows two more between each pair. The mask's one column
    # ends a pixel above the slice z = 10, grid row 30, and goes on far beyond the box: the seed
    # is on the last slice in it, at row 27.
    box = SliceBox(Plane.CORONAL, (8, 11, 5), (12, 12, 20))
    target = dark_target(ClassPrompts(1, slice_box=box), spacing_mm=(3, 1, 1))
    mask = np.zeros((58, 24), np.bool_)
    mask[0:30, 12] = True
    seed = seed_in_box(target, box, answer(mask))
    assert seed is not None
    assert seed in {(8, 11, 12), (9, 11, 12)}
    mask[24:28, 12] = False  # what is left in the box, rows 28 and 29, shows no raw voxel
    assert seed_in_box(target, box, answer(mask)) is None


def test_a_box_is_extended_by_what_the_other_planes_show() -> None:
    # Across the slice, the coronal mask reaches from 6 to 13 and the sagittal one from 8 to 16:
    # from 6 to 16 in all, and one voxel of room. The axial mask has no say.
    box = SliceBox(Plane.AXIAL, (10, 7, 6), (11, 14, 15))
    chosen = {
        Plane.AXIAL: section(Plane.AXIAL, (0, 20), (0, 22), (0, 24)),
        Plane.CORONAL: section(Plane.CORONAL, (6, 13), (9, 14), (10, 15)),
        Plane.SAGITTAL: section(Plane.SAGITTAL, (8, 16), (9, 14), (10, 15)),
    }
    target = dark_target(ClassPrompts(1, slice_box=box))
    assert extend_box(target, box, chosen, VOXEL) == Box(5, 17, 10, 7, 14, 6, 15)
    only = {Plane.AXIAL: chosen[Plane.AXIAL]}
    assert extend_box(target, box, only, VOXEL) == Box(10, 11, 10, 7, 14, 6, 15)


@pytest.mark.parametrize(("beside", "leaves"), [(0, False), (6, False), (7, True), (20, True)])
def test_a_target_may_only_leave_a_tenth_of_its_section_outside_of_the_box(
    beside: int, leaves: bool
) -> None:
    # 9 x 7 = 63 voxels in the box: 7 more are a tenth of all 70.
    box = SliceBox(Plane.AXIAL, (10, 7, 6), (11, 14, 15))
    target = dark_target(ClassPrompts(1, slice_box=box))
    mask = np.zeros(SHAPE[1:], np.bool_)
    mask[7:14, 6:15] = True
    mask[14, 6 : 6 + min(beside, 9)] = True
    mask[15, 6 : 6 + max(0, beside - 9)] = True
    target.finding.votes.add(Plane.AXIAL, 10, (0, 0, 24, 22), answer(mask))
    assert leaves_section(target, target.finding.votes, box, VOXEL) == leaves


def test_a_target_that_is_not_in_its_box_has_left_it() -> None:
    box = SliceBox(Plane.AXIAL, (10, 7, 6), (11, 14, 15))
    target = dark_target(ClassPrompts(1, slice_box=box))
    assert leaves_section(target, target.finding.votes, box, VOXEL)


# --- whole targets ------------------------------------------------------------------------------


def segment(truth: npt.NDArray[Any], *prompts: ClassPrompts, **options: Any) -> npt.NDArray[Any]:
    """Lifts a case whose image shows the truth."""
    case = make_case(picture(truth), *prompts, **options)
    return lift(case, Thresholder()).labels


def tube(*corners: tuple[int, int, int], shape: tuple[int, int, int] = (32, 34, 36)) -> Mask:
    """A square tube, five voxels wide, along the axes from corner to corner."""
    mask = np.zeros(shape, np.bool_)
    for start, end in pairwise(corners):
        low, high = np.minimum(start, end), np.maximum(start, end)
        mask[tuple(slice(a - 2, b + 3) for a, b in zip(low, high, strict=True))] = True
    return mask


U_TURN = tube((28, 16, 6), (5, 16, 6), (5, 16, 28), (28, 16, 28))
SNAKE = tube((4, 4, 4), (4, 4, 30), (4, 28, 30), (27, 28, 30), (27, 28, 6))
FORK = tube((28, 16, 18), (16, 16, 18), (16, 6, 18), (4, 6, 18)) | tube(
    (16, 16, 18), (16, 28, 18), (16, 28, 30), (4, 28, 30)
)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
@pytest.mark.parametrize(
    ("vessel", "click"),
    [
        (U_TURN, (24, 16, 6)),  # at one arm
        (U_TURN, (24, 16, 28)),
        (SNAKE, (4, 4, 6)),
        (SNAKE, (27, 28, 8)),
        (FORK, (26, 16, 18)),
        (FORK, (6, 28, 30)),
    ],
)
def test_a_vessel_is_followed_around_its_bends_from_one_click(
    vessel: Mask, click: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> None:
    prompts = ClassPrompts(1, None, (Click(*click, positive=True),))
    found = segment(vessel, prompts, spacing_mm=spacing_mm)
    np.testing.assert_array_equal(found == 1, vessel)


def test_a_body_that_goes_on_past_its_box_is_followed() -> None:
    # No slice through the click shows the second cube, which touches a corner of the first one.
    shape = (32, 34, 36)
    body = block(shape, slice(5, 15), slice(5, 15), slice(8, 18))
    more = block(shape, slice(15, 25), slice(11, 21), slice(14, 24))
    found = segment(body | more, ClassPrompts(1, None, (Click(10, 10, 13, positive=True),)))
    np.testing.assert_array_equal(found == 1, body | more)


BLOBS = [
    block((30, 32, 40), slice(8, 20), slice(9, 21), slice(5, 17)),
    block((30, 32, 40), slice(10, 23), slice(11, 24), slice(22, 35)),
]


@pytest.mark.parametrize("clicked", [0, 1])
def test_another_blob_is_left_alone(clicked: int) -> None:
    middle = ((14, 15, 11), (16, 17, 28))[clicked]
    prompts = ClassPrompts(1, None, (Click(*middle, positive=True),))
    found = segment(BLOBS[0] | BLOBS[1], prompts)
    np.testing.assert_array_equal(found == 1, BLOBS[clicked])


def test_two_blobs_stay_apart() -> None:
    prompts = [
        ClassPrompts(1, None, (Click(14, 15, 11, positive=True),)),
        ClassPrompts(2, None, (Click(16, 17, 28, positive=True),)),
    ]
    found = segment(BLOBS[0] | BLOBS[1], *prompts)
    np.testing.assert_array_equal(found, 1 * BLOBS[0] + 2 * BLOBS[1])


def test_a_click_beside_everything_is_still_obeyed() -> None:
    prompts = ClassPrompts(1, None, (Click(1, 1, 1, positive=True),))
    found = segment(BLOBS[0], prompts)
    assert np.argwhere(found).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    "where",
    [
        (slice(0, 9), slice(0, 9), slice(0, 9)),
        (slice(21, 30), slice(23, 32), slice(31, 40)),
        (slice(0, 30), slice(10, 19), slice(10, 19)),  # from border to border
    ],
)
def test_targets_reach_the_borders_of_the_volume(where: tuple[slice, slice, slice]) -> None:
    truth = block((30, 32, 40), *where)
    z, y, x = ((part.start + part.stop) // 2 for part in where)
    found = segment(truth, ClassPrompts(1, None, (Click(z, y, x, positive=True),)))
    np.testing.assert_array_equal(found == 1, truth)


# --- a body, and what a segmenter says of it ----------------------------------------------------

BODY_IN_SCAN = block((24, 26, 30), slice(6, 18), slice(5, 19), slice(7, 23))
AT_BODY = ClassPrompts(1, None, (Click(12, 12, 15, positive=True),))


class Eroder(Thresholder):
    """Answers with what is bright, less its outermost pixels."""

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        return np.asarray(ndimage.binary_erosion(super().segment(image, prompt)))


class Misplacer(Thresholder):
    """Answers with what is bright, but for a third of the slice."""

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        return np.roll(super().segment(image, prompt), image.shape[1] // 3, axis=1)


def test_a_segmenter_that_knows_intensities_alone_is_not_asked() -> None:
    segmenter = Constant(inside=False)
    segmenter.traits = Traits(intensities_alone=True)
    found = lift(make_case(picture(BODY_IN_SCAN), AT_BODY), segmenter)
    np.testing.assert_array_equal(found.labels == 1, BODY_IN_SCAN)
    assert segmenter.asked == []
    assert found.encoded == 0


@pytest.mark.parametrize(
    "segmenter",
    [Constant(inside=True), Constant(inside=False), Misplacer()],
    ids=["everything", "nothing", "elsewhere"],
)
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_a_segmenter_that_contradicts_a_clear_body_is_overruled(
    segmenter: Double, spacing_mm: tuple[float, float, float]
) -> None:
    case = make_case(picture(BODY_IN_SCAN), AT_BODY, spacing_mm=spacing_mm)
    found = lift(case, segmenter)
    assert segmenter.asked
    np.testing.assert_array_equal(found.labels == 1, BODY_IN_SCAN)


def test_a_segmenter_that_agrees_with_a_body_keeps_its_own_answer() -> None:
    # Of 12 x 14 x 16 voxels, 10 x 12 x 14: a Dice of 0.77, more than half. On a face, two of the
    # three planes see the border, and outvote the third.
    settings = replace(DEFAULTS, shape_weight=0)
    found = lift(make_case(picture(BODY_IN_SCAN), AT_BODY), Eroder(), settings)
    np.testing.assert_array_equal(found.labels == 1, ndimage.binary_erosion(BODY_IN_SCAN))


def test_a_noisy_oracle_is_believed() -> None:
    oracle = NoisyOracle(0.85)
    found = lift(make_case(picture(BODY_IN_SCAN), AT_BODY), oracle, Settings()).labels == 1
    assert dice(found, BODY_IN_SCAN) > 0.85
    assert (found != BODY_IN_SCAN).any()


@pytest.mark.parametrize("inside", [True, False])
def test_a_segmenter_that_says_nothing_of_a_rough_body_is_overruled(inside: bool) -> None:
    noise = np.random.default_rng(0).normal(120, 30, (24, 26, 30)).clip(0, 255).astype(np.uint8)
    found = lift(make_case(noise, AT_BODY), Constant(inside=inside))
    rough = found.found[1].scales["medium"]
    assert not found.found[1].clear
    np.testing.assert_array_equal(found.labels == 1, rough.within(((0, 0, 0), (24, 26, 30))))


# --- boxes on one slice of something thin -------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("thickness", [1, 2, 3, 9])
@pytest.mark.parametrize("inside", [40, 160])
def test_a_disc_is_as_thick_as_the_image_shows(plane: Plane, thickness: int, inside: int) -> None:
    # From the side, a disc of one slice is a line, too thin for a segmenter of slices.
    shape, middle = (40, 44, 48), (20, 22, 24)
    grid = np.ogrid[: shape[0], : shape[1], : shape[2]]
    away = [g - m for g, m in zip(grid, middle, strict=True)]
    across = away.pop(plane.normal)
    begin = -(thickness // 2)
    truth = (away[0] ** 2 + away[1] ** 2 <= 12**2) & (across >= begin)
    truth &= across < begin + thickness
    image = np.where(truth, inside, 100) + np.random.default_rng(0).normal(0, 8, shape)
    low, high = [m - 12 for m in middle], [m + 13 for m in middle]
    low[plane.normal], high[plane.normal] = middle[plane.normal], middle[plane.normal] + 1
    box = SliceBox(plane, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
    case = make_case(image.clip(0, 255).astype(np.uint8), ClassPrompts(1, slice_box=box))
    settings = replace(Settings(), budget=False)
    found = predict_case(case, segmenters.load(), settings).labels == 1
    assert dice(found, truth) > 0.95
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    if thickness == 1:
        assert int(found.any(axis=others).sum()) == 1


# --- bodies that have the section that was drawn --------------------------------------------------


def core_in_a_shell() -> tuple[Mask, npt.NDArray[np.uint8]]:
    """An oblong ball in a shell, around which it looks like the ball again."""
    shape = (40, 44, 48)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    away = ((z - 20) / 6) ** 2 + ((y - 22) / 8) ** 2 + ((x - 24) / 10) ** 2
    image = np.where((away > 1) & (away <= 2.2), 100, 160)
    noisy = image + np.random.default_rng(0).normal(0, 8, shape)
    return away <= 1, noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("kind", ["box", "lasso"])
def test_a_body_that_has_the_section_drawn_is_taken(plane: Plane, kind: str) -> None:
    truth, image = core_in_a_shell()
    drawn = draw_slice_box(truth, plane)
    if kind == "lasso":  # drawn a voxel too far out
        area = np.zeros(truth.shape, np.bool_)
        slice_view(area, plane, drawn.index)[:] = ndimage.binary_dilation(
            slice_view(truth, plane, drawn.index)
        )
        drawn = read_lasso(area, None, truth.shape)
    case = make_case(image, ClassPrompts(1, slice_box=drawn))
    found = predict_case(case, segmenters.load(), replace(Settings(), budget=False)).labels == 1
    assert dice(found, truth) > 0.98


def test_a_box_that_no_body_fits_is_walked_from() -> None:
    # Twice as wide as the ball on one side: what stands out has another section.
    truth, image = core_in_a_shell()
    box = SliceBox(Plane.AXIAL, (20, 14, 14), (21, 31, 45))
    target = make_target(make_case(image, ClassPrompts(1, slice_box=box)), segmenters.load())
    assert body_with_section(target, box, (20, 22, 24)) is None
    fitting = SliceBox(Plane.AXIAL, (20, 14, 14), (21, 31, 35))
    body = body_with_section(target, fitting, (20, 22, 24))
    assert body is not None
    assert dice(body.within(((0, 0, 0), (40, 44, 48))), truth) > 0.98


def test_out_of_time_the_search_for_a_body_leaves_the_box_on_its_slice() -> None:
    truth, image = core_in_a_shell()
    box = draw_slice_box(truth, Plane.CORONAL)
    target = make_target(make_case(image, ClassPrompts(1, slice_box=box)), segmenters.load())
    is_up = False

    def before_step() -> None:
        nonlocal is_up
        is_up = True
        raise OutOfTime

    stopwatch = Stopwatch(math.inf, finish=lambda: is_up)
    assert not run(seeded(target, slice_box_walk(target, box, before_step)), target.scan, stopwatch)
    found = target.find_mask()
    bounds = bounding_range(found)
    assert bounds is not None
    assert (bounds[0][1], bounds[1][1]) == (box.index, box.index + 1)
    assert dice(slice_view(found, box.plane, box.index), truth[:, box.index]) > 0.9

"""Walks in search of a target: what they ask, which masks vote, and where they end."""

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane
from gamt.lifting.budget import Stopwatch, StridePlanner
from gamt.lifting.progress import Progress
from gamt.lifting.propagation import Appearance
from gamt.lifting.target import Target
from gamt.lifting.walk import PlaneWalk
from gamt.prompts import Box, ClassPrompts, Click, SlicePrompt
from gamt.segmenters.base import Traits
from tests.doubles import (
    Constant,
    Remembering,
    Thresholder,
    block,
    drive,
    make_case,
    make_target,
    picture,
)


def go(
    target: Target,
    anchor: int,
    prompt: SlicePrompt,
    indices: npt.NDArray[np.intp] | None = None,
    appearance: Appearance | None = None,
    strides: StridePlanner | None = None,
) -> None:
    """Walks through axial slices, all of them unless told otherwise."""
    indices = target.to_grid(0) if indices is None else indices
    going = PlaneWalk(target, target.finding, Plane.AXIAL, anchor, indices, appearance, strides)
    drive(going.start(prompt), target)


def test_the_masks_of_a_walk_become_votes() -> None:
    truth = block((7, 12, 12), slice(1, 6), slice(4, 8), slice(3, 9))
    target = make_target(make_case(picture(truth), ClassPrompts(1)), Thresholder())
    prompt = SlicePrompt(box=(3, 4, 9, 8))
    go(target, 3, prompt)
    np.testing.assert_array_equal(target.finding.votes.fuse() > 0.5, truth)
    # Beyond the ends the target had vanished: that ends the walk, and is no vote.
    looked = target.finding.votes.looked(Plane.AXIAL).any(axis=(1, 2))
    assert np.flatnonzero(looked).tolist() == [1, 2, 3, 4, 5]


def test_the_farther_a_slice_is_from_those_visited_the_more_its_boxs_ellipsoid_counts() -> None:
    # The same square on all of 17 slices; 0, 4 and 16 are visited. A box's ellipsoid is empty in
    # the square's corner.
    truth = block((17, 12, 12), slice(0, 17), slice(2, 10), slice(2, 10))
    target = make_target(make_case(picture(truth), ClassPrompts(1)), Thresholder())
    strides = StridePlanner(Stopwatch(float("inf")), 1.0, Progress())
    strides.stride = lambda ahead: min(12, ahead)  # type: ignore[method-assign]
    strides.has_time = lambda: False  # type: ignore[method-assign]
    go(target, 4, SlicePrompt(box=(2, 2, 10, 10)), strides=strides)
    looked = target.finding.votes.looked(Plane.AXIAL).any(axis=(1, 2))
    # A quarter of 17 slices is 4.25: 9, 10 and 11 are farther away from all that were visited.
    assert np.flatnonzero(~looked).tolist() == [9, 10, 11]
    corner = target.finding.votes.fuse(Box(0, 17, 8, 2, 10, 2, 10), 0.3)[4:9, 2, 2]
    assert (np.diff(corner) < 0).all()


@pytest.mark.parametrize("filled_in", [False, True])
def test_slices_that_a_walk_steps_over_get_the_mixed_votes_of_their_neighbours(
    filled_in: bool,
) -> None:
    # The target moves on by a pixel from slice to slice; 1, 4 and 7 are visited. The answers are
    # equally sure, so that on the slices between them the nearer one decides.
    truth = np.zeros((9, 12, 20), np.bool_)
    for z in range(9):
        truth[z, 4:8, z : z + 9] = True
    target = make_target(make_case(picture(truth), ClassPrompts(1)), Thresholder())
    strides = StridePlanner(Stopwatch(float("inf")), 1.0, Progress())
    strides.stride = lambda ahead: min(3, ahead)  # type: ignore[method-assign]
    strides.has_time = lambda: filled_in  # type: ignore[method-assign]
    prompt = SlicePrompt(box=(4, 4, 13, 8))
    indices = target.to_grid(0)[1:8]
    go(target, 4, prompt, indices, strides=strides)
    seen = range(1, 8) if filled_in else [1, 1, 4, 4, 4, 7, 7]
    np.testing.assert_array_equal(target.finding.votes.fuse()[1:8] > 0.5, truth[list(seen)])
    assert target.shortfall.is_cut_short is not filled_in
    looked = target.finding.votes.looked(Plane.AXIAL).any(axis=(1, 2))
    assert np.flatnonzero(looked).tolist() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("filled_in", [False, True])
def test_far_from_all_that_was_seen_the_box_counts_more_than_mixed_votes(filled_in: bool) -> None:
    # Of 41 slices 0, 20 and 40 are visited. All see the corner of the box, where its ellipsoid
    # says 1 / (1 + exp(3)) = 0.05 with a weight of 0.5. A vote that is less than 0.45 does not
    # outweigh that: one that is more than 0.55 * 41 / 4 = 5.6 slices away.
    truth = block((41, 20, 24), slice(0, 41), slice(4, 16), slice(4, 20))
    box = Box(0, 41, 20, 4, 16, 4, 20)
    target = make_target(make_case(picture(truth), ClassPrompts(1, box)), Thresholder())
    strides = StridePlanner(Stopwatch(float("inf")), 1.0, Progress())
    strides.stride = lambda ahead: min(20, ahead)  # type: ignore[method-assign]
    strides.has_time = lambda: filled_in  # type: ignore[method-assign]
    go(target, 20, SlicePrompt(box=(4, 4, 20, 16)), strides=strides)
    corner = target.finding.votes.fuse(box, shape_weight=0.5)[:, 4, 4] > 0.5
    near = [*range(6), *range(15, 26), *range(35, 41)]
    assert np.flatnonzero(corner).tolist() == ([*range(41)] if filled_in else near)


@pytest.mark.parametrize(
    ("width", "visited"),
    [
        # Of 3 pixels a side the segmenter tells apart: 9 slices of 9 pixels, 3 at a time.
        (9, [4, 1, 7, 0, 8]),
        # A thin target is seen as it is, however long.
        (4, [4, 3, 5, 2, 6, 1, 7, 0, 8]),
    ],
)
def test_large_targets_are_walked_as_coarsely_as_their_slices_are_seen(
    width: int, visited: list[int]
) -> None:
    truth = np.zeros((9, 5, 20), np.bool_)
    truth[:, 1:4, 5 : 5 + width] = True
    image = picture(truth)
    image[:, 0, 0] = np.arange(9)  # so that slices can be told apart
    box = Box(0, 9, 4, 1, 4, 5, 5 + width)
    segmenter = Thresholder()
    segmenter.traits = Traits(resolution=3)
    target = make_target(make_case(image, ClassPrompts(1, box)), segmenter)
    go(target, 4, SlicePrompt(box=(5, 1, 5 + width, 4)))
    assert [int(one[0, 0]) for one in segmenter.slices] == visited
    np.testing.assert_array_equal(target.finding.votes.fuse() > 0.5, truth)


def test_an_empty_anchor_is_a_vote_against_its_window() -> None:
    target = make_target(
        make_case(np.zeros((4, 6, 8), np.uint8), ClassPrompts(1)), Constant(inside=False)
    )
    go(target, 2, SlicePrompt(box=(3, 2, 5, 4)))
    looked = np.argwhere(target.finding.votes.looked())
    assert looked.min(axis=0).tolist() == [2, 0, 1]
    assert looked.max(axis=0).tolist() == [2, 5, 6]
    assert target.finding.votes.fuse().max() < 0.5


def test_a_walk_shows_the_clicks_on_every_slice_that_has_some() -> None:
    truth = block((7, 12, 12), slice(1, 6), slice(4, 8), slice(3, 9))
    segmenter = Thresholder()
    clicks = (Click(3, 5, 5, True), Click(4, 1, 2, False))
    case = make_case(picture(truth), ClassPrompts(1, None, clicks))
    target = make_target(case, segmenter)
    go(target, 3, SlicePrompt((3, 4, 9, 8)), target.to_grid(0)[3:6])
    assert [prompt.labels.tolist() for _, prompt in segmenter.asked] == [[1], [1, 0], [1]]
    assert segmenter.asked[0][1].points.tolist() == [[5, 5]]
    assert segmenter.asked[1][1].points[1].tolist() == [2, 1]


def test_a_walk_ends_where_the_mask_looks_different() -> None:
    truth = block((10, 12, 12), slice(1, 9), slice(4, 8), slice(3, 9))
    image = picture(truth)
    image[6:9] = np.where(truth[6:9], 190, 0)
    target = make_target(make_case(image, ClassPrompts(1)), Thresholder())
    prompt = SlicePrompt(box=(3, 4, 9, 8))
    go(target, 3, prompt, appearance=Appearance(median=255, deviation=0))
    expected = truth.copy()
    expected[6:] = False
    np.testing.assert_array_equal(target.finding.votes.fuse() > 0.5, expected)
    # What looks different was looked at, and is something else; what comes after it is unknown.
    looked = target.finding.votes.looked(Plane.AXIAL).any(axis=(1, 2))
    assert np.flatnonzero(looked).tolist() == [1, 2, 3, 4, 5, 6]


def test_a_memory_goes_from_slice_to_slice_in_each_direction() -> None:
    # Every slice of the target shows another row as its first, so that they can be told apart.
    truth = np.zeros((7, 12, 10), np.bool_)
    for z in range(1, 6):
        truth[z, z : z + 6, 3:7] = True
    image = picture(truth)
    segmenter = Remembering()
    target = make_target(make_case(image, ClassPrompts(1)), segmenter)
    go(target, 3, SlicePrompt(box=(3, 3, 7, 9)), np.arange(1, 6))
    content = [one.tobytes() for one in image]
    # The anchor 3 first; then 2 and 4, which both follow it; then 1 after 2, and 5 after 4.
    assert segmenter.remembered == [
        None,
        (content[3],),
        (content[3],),
        (content[3], content[2]),
        (content[3], content[4]),
    ]
    assert all(prompt.mask is None for _, prompt in segmenter.asked)

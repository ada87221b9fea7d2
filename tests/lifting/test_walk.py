"""Walks in search of a target: what they ask, which masks vote, and where they end."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane
from gamt.lifting.budget import Stopwatch, StridePlanner
from gamt.lifting.progress import Progress
from gamt.lifting.propagation import Appearance
from gamt.lifting.target import Target
from gamt.lifting.walk import Judge, MemoryWalk, PlaneWalk, walk_plane
from gamt.prompts import Box, ClassPrompts, Click, Scribble, SlicePrompt
from gamt.segmenters.base import SliceMask, Traits
from gamt.settings import Propagation
from tests.doubles import (
    DEFAULTS,
    Constant,
    Follower,
    Mask,
    Remembering,
    Steps,
    Thresholder,
    answer,
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


# --- walks by memory ----------------------------------------------------------------------------


def follow(
    target: Target,
    anchor: int,
    prompt: SlicePrompt,
    indices: npt.NDArray[np.intp] | None = None,
    strides: StridePlanner | None = None,
    judge: Judge | None = None,
) -> None:
    """Walks through axial slices by memory, all of them unless told otherwise."""
    indices = target.to_grid(0) if indices is None else indices
    going = MemoryWalk(
        target, target.finding, Plane.AXIAL, anchor, indices, strides=strides, judge=judge
    )
    drive(going.start(prompt), target)


LINE = np.array([[2, 0, x] for x in range(3)])
"""Raw voxels of a line beside the target in `slanted`, on the slice 2."""


def slanted() -> npt.NDArray[np.bool_]:
    """A block whose slices 1 to 5 each begin at another row, so that they can be told apart."""
    truth = np.zeros((7, 12, 10), np.bool_)
    for z in range(1, 6):
        truth[z, z : z + 6, 3:7] = True
    return truth


def test_a_walk_by_memory_shows_a_prompt_at_its_anchor_alone() -> None:
    segmenter = Follower()
    image = picture(slanted())
    target = make_target(make_case(image, ClassPrompts(1)), segmenter)
    follow(target, 3, SlicePrompt(box=(3, 3, 7, 9)))
    # The anchor, then both ways, a step at a time; at 0 and 6 there is nothing any more.
    assert [one.position for one in segmenter.tracked] == [0, -1, 1, -2, 2, -3, 3]
    order = (3, 2, 4, 1, 5, 0, 6)
    assert [one.content for one in segmenter.tracked] == [image[z].tobytes() for z in order]
    remembered = [None, (0,), (0,), (0, -1), (0, 1), (0, -1, -2), (0, 1, 2)]
    assert [one.memory for one in segmenter.tracked] == remembered
    assert [one.prompt is None for one in segmenter.tracked] == [False] + 6 * [True]
    assert segmenter.calls == [1, 2, 2, 2]
    assert segmenter.asked == []
    np.testing.assert_array_equal(target.finding.votes.fuse() > 0.5, slanted())


def test_a_walk_by_memory_looks_where_one_by_prompts_does() -> None:
    # The target shrinks: where the mask before was, a smaller one was looked for.
    truth = block((5, 30, 30), slice(0, 3), slice(4, 26), slice(4, 26))
    truth[3:, :, :20] = False
    truth[3:, 10:20, 10:20] = True
    looked = []
    for kind in (go, follow):
        target = make_target(make_case(picture(truth), ClassPrompts(1)), Follower())
        kind(target, 1, SlicePrompt(box=(4, 4, 26, 26)))
        looked.append(target.finding.votes.looked(Plane.AXIAL))
    np.testing.assert_array_equal(looked[0], looked[1])
    assert looked[0][3].sum() > looked[0][4].sum()


def test_a_slice_with_a_click_is_shown_with_the_prompt_of_any_other_walk() -> None:
    truth = slanted()
    clicks = (Click(5, 6, 4, True), Click(5, 1, 1, False))
    asked = []
    for kind in (follow, go):
        segmenter = Follower()
        target = make_target(make_case(picture(truth), ClassPrompts(1, clicks=clicks)), segmenter)
        kind(target, 3, SlicePrompt(box=(3, 3, 7, 9)), np.arange(1, 6))
        if kind is follow:
            marked = [one for one in segmenter.tracked if one.prompt is not None]
            assert [one.position for one in marked] == [0, 2]
            assert marked[1].memory == (0, 1)
            asked.append(marked[1].prompt)
        else:
            asked.append(segmenter.asked[-1][1])
    by_memory, by_prompts = asked
    assert by_memory is not None
    assert by_prompts is not None
    assert by_memory.box == by_prompts.box == (3, 4, 7, 10)  # of the slice before
    assert by_memory.points.tolist() == by_prompts.points.tolist()
    assert by_memory.points[1:].tolist() == [[4, 6], [1, 1]]
    assert by_memory.labels.tolist() == [1, 1, 0]
    assert by_memory.mask is None  # the memory knows more of the slice before
    assert by_memory.state is None


@pytest.mark.parametrize(
    ("mine", "theirs", "shown"),
    [
        # Clicks and scribbles of the class itself, positive and negative, are shown with a prompt.
        (ClassPrompts(1, clicks=(Click(5, 6, 4, True),)), ClassPrompts(2), [0, 2]),
        (ClassPrompts(1, clicks=(Click(1, 11, 9, False),)), ClassPrompts(2), [0, -2]),
        (ClassPrompts(1, scribbles=(Scribble(LINE, False),)), ClassPrompts(2), [0, -1]),
        # Those of another class leave the slice to the memory.
        (ClassPrompts(1), ClassPrompts(2, clicks=(Click(5, 11, 9, True),)), [0]),
        (ClassPrompts(1), ClassPrompts(2, scribbles=(Scribble(LINE, True),)), [0]),
    ],
    ids=["click", "negative click", "scribble", "another's click", "another's scribble"],
)
def test_no_marks_but_the_classs_own_take_a_slice_from_the_memory(
    mine: ClassPrompts, theirs: ClassPrompts, shown: list[int]
) -> None:
    segmenter = Follower()
    target = make_target(make_case(picture(slanted()), mine, theirs), segmenter)
    follow(target, 3, SlicePrompt(box=(3, 3, 7, 9)), np.arange(1, 6))
    assert [one.position for one in segmenter.tracked if one.prompt is not None] == shown


def test_what_others_clicked_is_shown_beside_the_classs_own_clicks() -> None:
    mine = ClassPrompts(1, clicks=(Click(5, 6, 4, True),))
    theirs = ClassPrompts(2, clicks=(Click(5, 11, 9, True),))
    segmenter = Follower()
    target = make_target(make_case(picture(slanted()), mine, theirs), segmenter)
    follow(target, 3, SlicePrompt(box=(3, 3, 7, 9)), np.arange(1, 6))
    (marked,) = [one.prompt for one in segmenter.tracked if one.position == 2]
    assert marked is not None
    assert marked.labels.tolist() == [1, 1, 0]  # of the slice before, own, another's
    assert marked.points[1:].tolist() == [[4, 6], [9, 11]]


@pytest.mark.parametrize("overruns", [False, True])
def test_the_range_ends_a_walk_by_memory_that_does_not_notice_the_end(overruns: bool) -> None:
    truth = slanted()
    target = make_target(make_case(picture(truth), ClassPrompts(1)), Follower(overruns))
    follow(target, 3, SlicePrompt(box=(3, 3, 7, 9)), np.arange(2, 7))
    found = (target.finding.votes.fuse() > 0.5).any(axis=(1, 2))
    assert np.flatnonzero(found).tolist() == [2, 3, 4, 5] + [6] * overruns


def test_where_slices_are_stepped_over_positions_count_steps() -> None:
    segmenter = Follower()
    image = picture(block((9, 12, 20), slice(0, 9), slice(4, 8), slice(3, 17)))
    target = make_target(make_case(image, ClassPrompts(1)), segmenter)
    strides = StridePlanner(Stopwatch(float("inf")), 1.0, Progress())
    strides.stride = lambda ahead: min(3, ahead)  # type: ignore[method-assign]
    follow(target, 1, SlicePrompt(box=(3, 4, 17, 8)), strides=strides)
    # 1; then 0 and 4, 7, 8; then, from 1, 4 and 7 on, the gaps 2 and 3, and 5 and 6. Which step
    # it is, the memory says: `Follower` checks that it is the next one.
    assert [one.position for one in segmenter.tracked[:5]] == [0, -1, 1, 2, 3]
    assert len(segmenter.tracked) == 9
    assert (target.finding.votes.fuse() > 0.5).any(axis=(1, 2)).all()


def test_an_answer_that_was_replaced_is_not_remembered() -> None:
    # The user said that the target is the left half of what the segmenter answers.
    truth = block((5, 12, 20), slice(0, 5), slice(3, 9), slice(2, 18))
    segmenter = Follower()
    target = make_target(make_case(picture(truth), ClassPrompts(1)), segmenter)

    def halve(seen: SliceMask) -> SliceMask:
        mask = seen.mask.copy()
        mask[:, 10:] = False
        return answer(mask)

    follow(target, 2, SlicePrompt(box=(2, 3, 18, 9)), judge=halve)
    anchor, *beside = segmenter.tracked[:3]
    assert anchor.prompt is not None
    for one in beside:
        assert one.prompt is not None
        assert one.prompt.box == (2, 3, 10, 9)
        assert one.prompt.mask is not None
        assert one.memory is None
    # From there on, there is a memory again.
    assert [one.memory for one in segmenter.tracked[3:]] == [(-1,), (1,)]
    assert [one.prompt for one in segmenter.tracked[3:]] == [None, None]


def test_a_slice_that_a_tracker_fails_at_is_stepped_over() -> None:
    image = picture(block((5, 12, 10), slice(0, 5), slice(3, 9), slice(3, 7)))
    image[3, 0, 0] = 7  # by which it is known

    class Failing(Follower):
        def _touching(self, image: npt.NDArray[np.uint8], memory: Steps) -> Mask:
            if image[0, 0] == 7:
                raise RuntimeError("no luck")
            return super()._touching(image, memory)

    segmenter = Failing()
    target = make_target(make_case(image, ClassPrompts(1)), segmenter)
    follow(target, 1, SlicePrompt(box=(3, 3, 7, 9)))
    last = segmenter.tracked[-1]
    assert last.content == image[4].tobytes()
    assert (last.memory, last.position) == ((0, 1), 2)  # a step from slice 2
    assert (target.finding.votes.fuse() > 0.5).any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    ("propagation", "decoded", "tracked"), [("prompts", 5, 0), ("memory", 0, 5), ("both", 5, 5)]
)
def test_the_setting_says_how_often_a_plane_is_walked(
    propagation: Propagation, decoded: int, tracked: int
) -> None:
    segmenter = Follower()
    settings = replace(DEFAULTS, propagation=propagation)
    target = make_target(make_case(picture(slanted()), ClassPrompts(1)), segmenter, settings)
    prompt, indices = SlicePrompt(box=(3, 3, 7, 9)), np.arange(1, 6)
    going = walk_plane(target, target.finding, Plane.AXIAL, 3, indices, prompt)
    drive(going, target)
    assert (len(segmenter.asked), len(segmenter.tracked)) == (decoded, tracked)
    assert len(segmenter.slices) == 5
    np.testing.assert_array_equal(target.finding.votes.fuse() > 0.5, slanted())


def test_both_walks_of_a_plane_vote_by_their_quality() -> None:
    class Doubtful(Follower):
        """Answers prompts with all of a slice, and is less sure of it than of its memory."""

        def decode(self, *arguments: Any, **options: Any) -> Sequence[SliceMask]:
            answers = super().decode(*arguments, **options)
            return [answer(np.ones_like(one.mask), quality=0.5) for one in answers]

    settings = replace(DEFAULTS, propagation="both")
    target = make_target(make_case(picture(slanted()), ClassPrompts(1)), Doubtful(), settings)
    prompt, indices = SlicePrompt(box=(3, 3, 7, 9)), np.arange(1, 6)
    drive(walk_plane(target, target.finding, Plane.AXIAL, 3, indices, prompt), target)
    _, probability = target.finding.votes.of_plane(Plane.AXIAL)
    # On the anchor's rim: inside for one with the weight 0.5, outside for the other with 1.
    assert probability[3, 2, 4] == pytest.approx(0.5 / 1.5)
    assert probability[3, 5, 4] == pytest.approx(1)

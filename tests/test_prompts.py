"""Boxes, clicks and slice prompts: bounds are half-open, and nothing changes under its owner."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane, slice_view
from gamt.prompts import (
    Box,
    ClassPrompts,
    Click,
    LabelledPrompt,
    Region,
    Scribble,
    SliceBox,
    SlicePrompt,
    group_prompts,
)

SHAPE = (5, 6, 7)
BOX = Box(z_min=1, z_max=3, z_mid=2, y_min=10, y_max=14, x_min=100, x_max=105)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    low = [draw(st.integers(0, n - 1)) for n in SHAPE]
    high = [draw(st.integers(a + 1, n)) for a, n in zip(low, SHAPE, strict=True)]
    return Box(low[0], high[0], low[0], low[1], high[1], low[2], high[2])


def voxels(box: Box) -> set[tuple[int, ...]]:
    spans = (range(a, b) for a, b in zip(box.low, box.high, strict=True))
    return {tuple(voxel) for voxel in np.stack(np.meshgrid(*spans), -1).reshape(-1, 3).tolist()}


def test_bounds_in_volume_order() -> None:
    assert BOX.low == (1, 10, 100)
    assert BOX.high == (3, 14, 105)
    assert BOX.volume == 2 * 4 * 5


@given(one=boxes(), other=boxes())
def test_boxes_overlap_when_they_share_a_voxel(one: Box, other: Box) -> None:
    assert one.volume == len(voxels(one))
    assert one.overlaps(other) == other.overlaps(one) == bool(voxels(one) & voxels(other))


def test_boxes_that_touch_do_not_overlap() -> None:
    assert not BOX.overlaps(Box(3, 5, 4, 10, 14, 100, 105))
    assert BOX.overlaps(Box(2, 5, 4, 13, 20, 104, 110))


@pytest.mark.parametrize(
    ("plane", "high", "index"),
    [
        (Plane.AXIAL, (2, 4, 5), 1),
        (Plane.CORONAL, (3, 3, 5), 2),
        (Plane.SAGITTAL, (3, 4, 4), 3),
    ],
)
def test_a_box_on_a_slice_marks_voxels_of_this_slice_alone(
    plane: Plane, high: tuple[int, int, int], index: int
) -> None:
    box = SliceBox(plane, (1, 2, 3), high)
    assert box.index == index
    marked = np.zeros(SHAPE, np.bool_)
    marked[box.within()] = True
    assert np.argwhere(marked).min(axis=0).tolist() == [1, 2, 3]
    assert (np.argwhere(marked).max(axis=0) + 1).tolist() == list(high)
    assert marked.sum() == slice_view(marked, plane, index).sum() == 4
    # The same voxels, in a volume that begins at (1, 1, 2).
    part = np.zeros((2, 4, 5), np.bool_)
    part[box.within((1, 1, 2))] = True
    np.testing.assert_array_equal(part, marked[1:3, 1:5, 2:7])


def test_a_clicks_voxel() -> None:
    assert Click(z=1, y=2, x=3, positive=False).voxel == (1, 2, 3)


def test_a_class_may_come_without_prompts() -> None:
    prompts = ClassPrompts(4)
    assert prompts.box is None
    assert prompts.slice_box is None
    assert prompts.clicks == ()


def test_an_empty_slice_prompt_has_no_points_of_two_coordinates() -> None:
    prompt = SlicePrompt()
    assert prompt.box is None
    assert prompt.mask is None
    assert prompt.points.shape == (0, 2)
    assert prompt.labels.shape == (0,)
    assert prompt.labels.dtype == np.int64


def test_prompts_cannot_be_changed() -> None:
    for prompt, name in ((BOX, "z_min"), (Click(1, 2, 3, True), "z"), (SlicePrompt(), "box")):
        with pytest.raises(FrozenInstanceError):
            setattr(prompt, name, 0)


INSIDE = Click(1, 2, 3, positive=True)
OUTSIDE = Click(1, 2, 3, positive=False)
ELSEWHERE = Click(0, 0, 0, positive=True)
SLICE_BOX = SliceBox(Plane.AXIAL, (1, 2, 3), (2, 5, 6))


def group(*said: tuple[int, Box | SliceBox | Click]) -> dict[int, ClassPrompts]:
    return group_prompts(LabelledPrompt(label, prompt) for label, prompt in said)


def test_prompts_are_grouped_by_label_and_keep_their_order() -> None:
    found = group((7, INSIDE), (2, BOX), (7, ELSEWHERE), (2, Click(9, 9, 9, positive=False)))
    assert list(found) == [2, 7]
    assert found[2] == ClassPrompts(2, BOX, (Click(9, 9, 9, positive=False),))
    assert found[7] == ClassPrompts(7, None, (INSIDE, ELSEWHERE))


def test_of_several_boxes_the_last_one_counts() -> None:
    assert group((1, BOX), (1, SLICE_BOX)) == {1: ClassPrompts(1, slice_box=SLICE_BOX)}
    assert group((1, SLICE_BOX), (1, BOX)) == {1: ClassPrompts(1, BOX)}


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ([(1, INSIDE), (1, OUTSIDE)], {1: (OUTSIDE,)}),
        ([(1, OUTSIDE), (1, INSIDE), (1, ELSEWHERE)], {1: (INSIDE, ELSEWHERE)}),
        ([(1, INSIDE), (1, OUTSIDE), (1, INSIDE)], {1: (INSIDE,)}),
        # A voxel has one label: the later one.
        ([(2, INSIDE), (1, INSIDE)], {1: (INSIDE,), 2: ()}),
        # In one target and outside of another is no contradiction.
        ([(2, OUTSIDE), (1, INSIDE)], {1: (INSIDE,), 2: (OUTSIDE,)}),
    ],
)
def test_of_clicks_on_one_voxel_that_contradict_each_other_the_last_one_counts(
    said: list[tuple[int, Click]], counts: dict[int, tuple[Click, ...]]
) -> None:
    assert {label: one.clicks for label, one in group(*said).items()} == counts


def test_a_scribble_has_bounds_and_a_middle() -> None:
    scribble = Scribble(np.array([[1, 2, 3], [1, 2, 4], [1, 3, 5], [1, 4, 9]]), positive=True)
    assert (scribble.low, scribble.high) == ((1, 2, 3), (2, 5, 10))
    # The mean is (1, 2.75, 5.25).
    assert scribble.middle == (1, 3, 5)


def test_a_regions_voxels_are_counted_in_the_volume() -> None:
    region = Region((4, 5, 6), np.array([[[True, False], [False, True]]]), positive=False)
    assert region.high == (5, 7, 8)
    assert region.voxels.tolist() == [[4, 5, 6], [4, 6, 7]]


def test_a_class_begins_with_its_box_or_a_positive_scribble_or_a_positive_click() -> None:
    box = SliceBox(Plane.AXIAL, (4, 5, 6), (5, 8, 9))
    outside, line = Scribble(np.array([[1, 1, 1]]), False), Scribble(np.array([[3, 3, 3]]), True)
    clicks = (Click(2, 2, 2, False), Click(1, 2, 3, True), Click(4, 5, 6, True))
    assert ClassPrompts(1, None, clicks, box, scribbles=(outside, line)).first is box
    assert ClassPrompts(1, None, clicks, scribbles=(outside, line)).first is line
    assert ClassPrompts(1, None, clicks, scribbles=(outside,)).first is clicks[1]
    assert ClassPrompts(1, None, clicks[:1], scribbles=(outside,)).first is None


def test_what_is_marked_as_inside_is_that_of_all_positive_prompts() -> None:
    one = np.ones((1, 1, 1), np.bool_)
    prompts = ClassPrompts(
        1,
        clicks=(Click(1, 1, 1, True), Click(2, 2, 2, False)),
        scribbles=(Scribble(np.array([[3, 3, 3]]), True), Scribble(np.array([[4, 4, 4]]), False)),
        regions=(Region((5, 5, 5), one, True), Region((6, 6, 6), one, False)),
    )
    assert prompts.voxels_inside.tolist() == [[1, 1, 1], [3, 3, 3], [5, 5, 5]]
    assert ClassPrompts(1).voxels_inside.shape == (0, 3)

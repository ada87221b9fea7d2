"""Boxes, clicks and slice prompts: bounds are half-open, and nothing changes under its owner."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.prompts import Box, ClassPrompts, Click, SlicePrompt

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


def test_a_clicks_voxel() -> None:
    assert Click(z=1, y=2, x=3, positive=False).voxel == (1, 2, 3)


def test_a_class_may_come_without_prompts() -> None:
    prompts = ClassPrompts(4)
    assert prompts.box is None
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

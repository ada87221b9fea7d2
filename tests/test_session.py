"""A session: what was written for nnInteractive's runs, and says so where it can't."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch

import gamt
from benchmarks.bars import FLAT_LEAST, FLAT_MEAN
from benchmarks.phantoms import Phantom, dice, draw_slice_box, ellipsoids
from gamt import Session, history, segmenters
from gamt.axes import Plane, bounding_range, slice_shape, slice_view
from gamt.io.case import Case
from gamt.lifting.target import Observer, Target
from gamt.prompts import Box, ClassPrompts, Click, SlicePrompt, box_of_mask
from gamt.segmenters.base import Embedding, Segmenter
from gamt.session import Cancelled, SegmenterFault
from gamt.settings import PRESETS, SettingsError
from gamt.volume.preparation import PreparedVolume
from gamt.windows import IntensityWindow
from tests.doubles import Follower, Mask, Thresholder, block, lift, make_case, picture

SHAPE = (20, 26, 30)
BODY = block(SHAPE, slice(4, 15), slice(6, 19), slice(5, 22))
BOUNDS = [[4, 15], [6, 19], [5, 22]]
INSIDE, OUTSIDE = [9, 12, 13], [17, 23, 27]

FRAME = block(SHAPE, slice(3, 17), slice(8, 17), slice(4, 26)) & ~block(
    SHAPE, slice(7, 13), slice(8, 17), slice(9, 21)
)
KERNEL = block(SHAPE, slice(8, 12), slice(10, 15), slice(11, 19))
"""A frame, and a body that touches no border of the hole in it."""


def begin(
    truth: npt.NDArray[Any] = BODY, segmenter: Segmenter | None = None, **properties: Any
) -> tuple[Session, npt.NDArray[np.uint8]]:
    """Returns a session with an image of the truth, and its target buffer."""
    session = Session(segmenter or Thresholder())
    session.set_image(picture(truth)[None], properties)
    buffer = np.zeros(truth.shape, np.uint8)
    session.set_target_buffer(buffer)
    return session, buffer


def bounds_of(mask: npt.NDArray[Any]) -> list[list[int]]:
    bounds = bounding_range(mask > 0)
    assert bounds is not None
    return [[a, b] for a, b in zip(*bounds, strict=True)]


def slice_bounds(mask: Mask, plane: Plane) -> list[list[int]]:
    """The tight 2-D box on the middle slice, as nnInteractive writes it."""
    box = draw_slice_box(mask, plane)
    return [[a, b] for a, b in zip(box.low, box.high, strict=True)]


# --- what was written for nnInteractive ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_code_for_nninteractive_runs_after_another_import_and_constructor(kind: str) -> None:
    first = block(SHAPE, slice(4, 15), slice(6, 19), slice(3, 12))
    second = block(SHAPE, slice(5, 12), slice(4, 20), slice(17, 28))
    img = picture(first | second)[None]

    session = Session(Thresholder())
    session.set_image(img, {"spacing": [1.0, 1.0, 1.0]})
    target: Any = np.zeros(img.shape[1:], dtype=np.uint8)
    if kind == "torch":
        target = torch.zeros(img.shape[1:], dtype=torch.uint8)
    session.set_target_buffer(target)
    mirror = np.zeros(img.shape[1:], dtype=np.uint8)

    changed = session.add_bbox_interaction([[4, 15], [6, 19], [7, 8]], include_interaction=True)
    assert changed is not None
    (x1, x2), (y1, y2), (z1, z2) = changed
    mirror[x1:x2, y1:y2, z1:z2] = target[x1:x2, y1:y2, z1:z2]
    np.testing.assert_array_equal(mirror, np.asarray(target))
    np.testing.assert_array_equal(mirror, first)

    session.add_point_interaction((8, 10, 20), include_interaction=True)
    np.testing.assert_array_equal(np.asarray(target), first | second)
    assert session.undo()
    np.testing.assert_array_equal(np.asarray(target), first)
    session.add_point_interaction(
        coordinates=(0, 0, 0), include_interaction=False, run_prediction=False
    )

    session.reset_interactions()
    assert not np.asarray(target).any()
    assert session.target_buffer is target
    session.add_initial_seg_interaction(initial_seg=(second * 1).astype(np.uint8))
    np.testing.assert_array_equal(np.asarray(target), second)
    session.add_point_interaction((8, 10, 20), include_interaction=False)
    assert target[8, 10, 20] == 0


@pytest.mark.parametrize(
    "dtype", ["torch.uint8", "torch.bool", "torch.int64", "torch.bfloat16", "bool", "float32"]
)
def test_target_buffers_of_any_type_hold_ones_and_zeros(dtype: str) -> None:
    session, _ = begin()
    name = dtype.removeprefix("torch.")
    is_torch = name != dtype
    buffer = torch.ones(SHAPE, dtype=getattr(torch, name)) if is_torch else np.ones(SHAPE, name)
    session.set_target_buffer(buffer)
    # All but the body changes.
    assert session.add_bbox_interaction(BOUNDS, True) == [[0, 20], [0, 26], [0, 30]]
    assert buffer.dtype == (getattr(torch, name) if is_torch else np.dtype(name))
    values = buffer.float().numpy() if isinstance(buffer, torch.Tensor) else buffer
    np.testing.assert_array_equal(values, BODY)


def test_a_view_into_a_larger_array_is_updated_in_place() -> None:
    session, _ = begin()
    everything = np.zeros((*SHAPE, 2), np.int32)
    session.set_target_buffer(everything[..., 1])
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(everything[..., 1], BODY)
    assert not everything[..., 0].any()


# --- boxes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return ellipsoids(0)


@pytest.mark.parametrize("plane", Plane)
def test_a_box_on_the_middle_slice_finds_a_convex_body(phantom: Phantom, plane: Plane) -> None:
    session = Session()
    session.set_image(phantom.image[None], {"spacing": phantom.spacing_mm})
    buffer = np.zeros(phantom.truth.shape, np.uint8)
    session.set_target_buffer(buffer)
    found = []
    for label in range(1, 5):
        session.add_bbox_interaction(slice_bounds(phantom.truth == label, plane), True)
        found.append(dice(buffer > 0, phantom.truth == label))
        session.reset_interactions()
    assert np.mean(found) >= FLAT_MEAN
    assert min(found) >= FLAT_LEAST


@pytest.mark.parametrize("plane", Plane)
def test_a_2d_box_is_drawn_on_its_plane(plane: Plane) -> None:
    session, buffer = begin(segmenter=(segmenter := Thresholder()))
    assert session.add_bbox_interaction(slice_bounds(BODY, plane), True) == BOUNDS
    np.testing.assert_array_equal(buffer, BODY)
    assert segmenter.asked[0][0] == slice_shape(SHAPE, plane)


def test_a_3d_box_is_the_engines_box() -> None:
    # The range of slices is exact, whatever the image shows, and it begins on the middle one.
    truth = BODY.copy()
    truth[9, 0, 0] = True
    bounds = [[6, 13], [6, 19], [5, 22]]
    session, buffer = begin(truth, segmenter := Thresholder())
    session.add_bbox_interaction(bounds, True)
    np.testing.assert_array_equal(segmenter.slices[0], picture(truth)[9])
    box = Box(z_min=6, z_max=13, z_mid=9, y_min=6, y_max=19, x_min=5, x_max=22)
    expected = lift(make_case(picture(truth), ClassPrompts(1, box)), Thresholder()).labels
    np.testing.assert_array_equal(buffer, expected)
    assert bounds_of(buffer)[0] == [6, 13]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        # Both of the planes of a line's slices, the larger one of which is asked first.
        ((20, 26, 30), (26, 30)),
        ((30, 4, 5), (30, 5)),
        ((1, 26, 30), (26, 30)),
        ((26, 1, 30), (26, 30)),
    ],
)
def test_a_line_is_a_box_on_the_larger_slice(
    shape: tuple[int, int, int], expected: tuple[int, int]
) -> None:
    truth = np.zeros(shape, np.bool_)
    truth[0, 0, 1:4] = True
    session, buffer = begin(truth, segmenter := Thresholder())
    session.add_bbox_interaction([[0, 1], [0, 1], [1, 4]], True)
    assert segmenter.asked[0][0] == expected
    np.testing.assert_array_equal(buffer, truth)


@pytest.mark.parametrize("plane", Plane)
def test_a_single_slice_is_segmented_as_a_2d_image(plane: Plane, phantom: Phantom) -> None:
    label = phantom.truth == 3
    box = draw_slice_box(label, plane)
    image = phantom.image.take([box.index], axis=plane.normal)
    truth = label.take([box.index], axis=plane.normal)
    session = Session()
    session.set_image(image[None])
    buffer = np.zeros(image.shape, np.uint8)
    session.set_target_buffer(buffer)
    session.add_bbox_interaction(bounds_of(truth), True)
    assert dice(buffer > 0, truth) >= FLAT_LEAST


def test_a_box_partly_outside_is_clipped() -> None:
    truth = block(SHAPE, slice(0, 6), slice(20, 26), slice(4, 20))
    session, buffer = begin(truth)
    session.add_bbox_interaction([[-3.2, 6], [20, 40], [4, 20.4]], True)
    np.testing.assert_array_equal(buffer, truth)


def test_a_box_after_points_that_nothing_was_predicted_from_counts_with_them() -> None:
    other = block(SHAPE, slice(16, 20), slice(20, 26), slice(24, 30))
    session, buffer = begin(BODY | other)
    session.add_point_interaction(OUTSIDE, False, run_prediction=False)
    session.add_point_interaction([18, 22, 26], True, run_prediction=False)
    assert session.add_bbox_interaction(BOUNDS, True) is not None
    clicks = (Click(17, 23, 27, False), Click(18, 22, 26, True))
    prompts = ClassPrompts(1, box_of_mask(BODY), clicks)
    expected = lift(make_case(picture(BODY | other), prompts), Thresholder()).labels
    np.testing.assert_array_equal(buffer, expected)
    assert buffer[BODY].all()
    assert (buffer[17, 23, 27], buffer[18, 22, 26]) == (0, 1)


# --- several boxes, lassos, scribbles ------------------------------------------------------------

LEFT = block(SHAPE, slice(4, 15), slice(6, 19), slice(3, 12))
RIGHT = block(SHAPE, slice(5, 12), slice(4, 20), slice(17, 28))
"""Two bodies that don't touch."""


def drawn_on(mask: Mask, plane: Plane) -> npt.NDArray[np.uint8]:
    """A lasso around the middle section of a body, as large as the image."""
    index = draw_slice_box(mask, plane).index
    drawing = np.zeros(mask.shape, np.uint8)
    slice_view(drawing, plane, index)[:] = slice_view(mask, plane, index)
    return drawing


@pytest.mark.parametrize("plane", Plane)
def test_each_of_several_boxes_adds_a_body_in_any_order(plane: Plane) -> None:
    boxes = [bounds_of(LEFT), slice_bounds(RIGHT, plane)]
    for order in (boxes, boxes[::-1]):
        session, buffer = begin(LEFT | RIGHT)
        session.add_bbox_interaction(order[0], True)
        changed = session.add_bbox_interaction(order[1], True)
        np.testing.assert_array_equal(buffer, LEFT | RIGHT)
        assert changed == bounds_of(RIGHT if order[1] is boxes[1] else LEFT)


def test_a_negative_click_in_one_of_two_boxed_bodies_leaves_half_of_it_at_least() -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_bbox_interaction(bounds_of(LEFT), True)
    session.add_bbox_interaction(bounds_of(RIGHT), True)
    smaller = min(LEFT, RIGHT, key=np.count_nonzero)
    middle = [(a + b) // 2 for a, b in bounds_of(smaller)]
    session.add_point_interaction(middle, include_interaction=False)
    assert np.count_nonzero(buffer[smaller]) >= np.count_nonzero(smaller) / 2


def test_a_box_is_not_looked_into_again_for_another_one() -> None:
    session, _ = begin(LEFT | RIGHT, segmenter := Thresholder())
    session.add_bbox_interaction(bounds_of(LEFT), True)
    segmenter.asked.clear()
    session.add_bbox_interaction(bounds_of(RIGHT), True)
    boxes = np.array([one.box for _, one in segmenter.asked if one.box is not None])
    rights = [shape for shape, _ in segmenter.asked]
    assert len(boxes) == len(rights) > 0
    on_axial_and_coronal = np.array([shape[1] == SHAPE[2] for shape in rights])
    assert boxes[on_axial_and_coronal, 0].min() >= 17  # x of the right one


@pytest.mark.parametrize("plane", Plane)
def test_a_lasso_finds_the_body_that_it_is_drawn_around(plane: Plane) -> None:
    session, buffer = begin(LEFT | RIGHT, segmenter := Thresholder())
    assert session.add_lasso_interaction(drawn_on(LEFT, plane), True) == bounds_of(LEFT)
    np.testing.assert_array_equal(buffer, LEFT)
    shape, prompt = segmenter.asked[0]
    assert shape == slice_shape(SHAPE, plane)
    assert prompt.mask is not None
    index = draw_slice_box(LEFT, plane).index
    np.testing.assert_array_equal(prompt.mask > 0, slice_view(LEFT, plane, index))


def test_a_lasso_in_a_crop_is_the_same() -> None:
    session, buffer = begin(LEFT | RIGHT)
    bounds = slice_bounds(LEFT, Plane.CORONAL)
    crop = np.ones([b - a for a, b in bounds], np.bool_)
    session.add_lasso_interaction(crop, True, interaction_bbox=bounds)
    np.testing.assert_array_equal(buffer, LEFT)


def test_a_segmenter_that_sees_too_much_is_held_to_the_lasso() -> None:
    # All of a slice is one piece to the segmenter. A hand may be two voxels off.
    session, buffer = begin(np.ones(SHAPE, np.bool_))
    lasso = block(SHAPE, slice(9, 10), slice(4, 12), slice(6, 16))
    session.add_lasso_interaction(lasso, True)
    assert buffer[9, 6:10, 8:14].all()
    beside = np.ones(SHAPE[1:], np.bool_)
    beside[2:14, 4:18] = False
    assert not buffer[9][beside].any()


def test_a_box_after_an_initial_segmentation_adds_to_it() -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_initial_seg_interaction(LEFT)
    assert session.add_bbox_interaction(bounds_of(RIGHT), True) == bounds_of(RIGHT)
    np.testing.assert_array_equal(buffer, LEFT | RIGHT)
    session.add_point_interaction([8, 10, 20], False)
    assert buffer[8, 10, 20] == 0
    np.testing.assert_array_equal(buffer[..., :14], LEFT[..., :14])


@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("kind", ["box", "lasso"])
def test_what_agrees_with_an_initial_segmentation_changes_nothing(plane: Plane, kind: str) -> None:
    # The image shows another body than the segmentation.
    session, buffer = begin(RIGHT)
    session.add_initial_seg_interaction(LEFT)
    if kind == "box":
        changed = session.add_bbox_interaction(slice_bounds(LEFT, plane), True)
    else:
        changed = session.add_lasso_interaction(drawn_on(LEFT, plane), True)
    assert changed is None
    np.testing.assert_array_equal(buffer, LEFT)


def test_a_box_in_3d_that_agrees_with_an_initial_segmentation_changes_nothing() -> None:
    session, buffer = begin(RIGHT)
    session.add_initial_seg_interaction(LEFT)
    session.add_bbox_interaction(bounds_of(LEFT), True)
    np.testing.assert_array_equal(buffer, LEFT)


@pytest.mark.parametrize("kind", ["box", "lasso"])
def test_what_an_initial_segmentation_misses_or_has_beside_a_section_is_corrected_in_3d(
    kind: str,
) -> None:
    # Of the body's 19 x 28 x 32 voxels, the given one lacks eight columns of 32 on the right, and
    # has a leak of six rows below.
    shape = (30, 48, 52)
    truth = block(shape, slice(6, 25), slice(8, 36), slice(10, 42))
    leak = block(shape, slice(6, 25), slice(36, 42), slice(10, 34))
    given = (truth | leak) & ~block(shape, slice(0, 30), slice(0, 48), slice(34, 52))
    session = Session(segmenters.load())
    noise = np.random.default_rng(0).normal(0, 8, shape)
    session.set_image((picture(truth) + noise)[None])
    session.set_target_buffer(buffer := np.zeros(shape, np.uint8))
    session.add_initial_seg_interaction(given)
    before = dice(given, truth)
    if kind == "box":
        session.add_bbox_interaction(slice_bounds(truth, Plane.AXIAL), True)
    else:
        session.add_lasso_interaction(drawn_on(truth, Plane.AXIAL), True)
    assert dice(buffer[15], truth[15]) > 0.98
    assert dice(buffer > 0, truth) > (1 + before) / 2  # half of the error at least is gone


def test_beside_an_initial_segmentation_the_order_of_boxes_does_not_matter() -> None:
    # The second part is found in the same way whether it is the only one so far or not.
    third = block(SHAPE, slice(16, 19), slice(4, 20), slice(3, 28))
    first, second = (slice_bounds(mask, Plane.AXIAL) for mask in (RIGHT, third))
    results = []
    for boxes in ((first, second), (second, first)):
        session, buffer = begin(LEFT | RIGHT | third)
        session.add_initial_seg_interaction(LEFT)
        for box in boxes:
            session.add_bbox_interaction(box, True)
        results.append(buffer)
        extents = session._history.state.extents
        assert all(one.mask is not None and not (one.mask.unpack() & LEFT).any() for one in extents)
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_sections_of_an_initial_segmentation_and_beside_it_go_together(
    order: tuple[int, int],
) -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_initial_seg_interaction(LEFT)
    for n in order:
        session.add_lasso_interaction(drawn_on((LEFT, RIGHT)[n], Plane.CORONAL), True)
    np.testing.assert_array_equal(buffer, LEFT | RIGHT)
    assert session.undo()
    assert session.redo()
    np.testing.assert_array_equal(buffer, LEFT | RIGHT)


@pytest.mark.parametrize("last", ["2-D box", "3-D box", "lasso"])
def test_a_box_or_lasso_beside_what_a_click_found_adds_to_it(last: str) -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_point_interaction([8, 10, 20], True)
    np.testing.assert_array_equal(buffer, RIGHT)
    if last == "3-D box":
        session.add_bbox_interaction(bounds_of(LEFT), True)
    elif last == "2-D box":
        (_, y, x) = bounds_of(LEFT)
        session.add_bbox_interaction([[8, 9], y, x], True)
    else:
        session.add_lasso_interaction(drawn_on(LEFT, Plane.AXIAL), True)
    np.testing.assert_array_equal(buffer, LEFT | RIGHT)
    session.undo()
    np.testing.assert_array_equal(buffer, RIGHT)


@pytest.mark.parametrize("last", ["box", "lasso"])
def test_a_box_or_lasso_around_what_a_click_found_begins_anew(last: str) -> None:
    session, buffer = begin(LEFT | RIGHT)
    fresh, found = begin(LEFT | RIGHT)
    session.add_point_interaction([8, 10, 8], True)
    for one in (session, fresh):
        if last == "box":
            one.add_bbox_interaction(bounds_of(LEFT), True)
        else:
            one.add_lasso_interaction(drawn_on(LEFT, Plane.AXIAL), True)
    np.testing.assert_array_equal(buffer, found)


@pytest.mark.parametrize(
    "inside", [np.s_[7:8, 8:14, 5:9], np.s_[6:11, 8:14, 5:9]], ids=["2-D", "3-D"]
)
def test_a_negative_box_takes_away_inside(inside: tuple[slice, ...]) -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_initial_seg_interaction(LEFT | RIGHT)
    session.add_bbox_interaction([[part.start, part.stop] for part in inside], False)
    assert not buffer[inside].any()
    np.testing.assert_array_equal(buffer[..., 14:], RIGHT[..., 14:])


def test_a_negative_box_that_a_point_took_back_in_part_holds_in_a_target_composed_anew() -> None:
    small = block(SHAPE, slice(8, 11), slice(18, 22), slice(22, 26))
    session, buffer = begin(BODY | small, segmenters.load())
    session.add_bbox_interaction(BOUNDS, True)
    session.add_bbox_interaction([[4, 15], [6, 15], [5, 22]], False)
    session.add_point_interaction((9, 10, 8), True)
    taken = BODY & block(SHAPE, slice(None), slice(6, 15), slice(None))
    before = np.count_nonzero(buffer[taken])
    session.add_bbox_interaction(slice_bounds(small, Plane.AXIAL), True)
    assert buffer[small].any()
    assert np.count_nonzero(buffer[taken]) <= 1.05 * before
    composed = buffer.copy()
    session.add_point_interaction((1, 1, 1), False)
    np.testing.assert_array_equal(buffer, composed)


def test_a_negative_lasso_takes_away_its_area_and_counts_less_than_a_later_box() -> None:
    session, buffer = begin(LEFT)
    session.add_bbox_interaction(bounds_of(LEFT), True)
    lasso = block(SHAPE, slice(9, 10), slice(6, 19), slice(8, 12))
    session.add_lasso_interaction(lasso, False)
    assert not buffer[lasso].any()
    session.add_bbox_interaction(slice_bounds(LEFT, Plane.AXIAL), True)
    np.testing.assert_array_equal(buffer, LEFT)


@pytest.mark.parametrize("plane", Plane)
def test_a_scribble_begins_a_target_and_later_ones_correct_it(plane: Plane) -> None:
    session, buffer = begin(LEFT | RIGHT)
    line = [slice(9, 10), slice(12, 13), slice(7, 8)]
    line[plane.row_axis] = slice(8, 12)
    session.add_scribble_interaction(block(SHAPE, *line), True)
    np.testing.assert_array_equal(buffer, LEFT)
    session.add_scribble_interaction(block(SHAPE, slice(8, 9), slice(8, 16), slice(20, 21)), True)
    np.testing.assert_array_equal(buffer, LEFT | RIGHT)
    outside = block(SHAPE, slice(11, 12), slice(8, 16), slice(26, 28))
    session.add_scribble_interaction(outside, False)
    assert not buffer[outside].any()
    assert buffer[8, 8:16, 20].all()


def test_a_leak_is_cut_by_a_box_on_another_plane() -> None:
    # A thin bridge joins both bodies, on the coronal slice of the first box, which shows nothing of
    # it to a segmenter that follows what hangs together.
    bridge = block(SHAPE, slice(9, 10), slice(12, 13), slice(12, 17))
    session, buffer = begin(LEFT | RIGHT | bridge)
    session.add_bbox_interaction(slice_bounds(LEFT, Plane.CORONAL), True)
    assert buffer[RIGHT].any()
    session.add_bbox_interaction(slice_bounds(LEFT, Plane.AXIAL), True)
    np.testing.assert_array_equal(buffer, LEFT)


# --- points -------------------------------------------------------------------------------------


def test_a_point_begins_a_target_and_later_ones_correct_it() -> None:
    other = block(SHAPE, slice(16, 20), slice(20, 26), slice(24, 30))
    session, buffer = begin(BODY | other)
    assert session.add_point_interaction(INSIDE, True) == BOUNDS
    np.testing.assert_array_equal(buffer, BODY)
    assert session.add_point_interaction([18, 22, 26], True) == bounds_of(other)
    np.testing.assert_array_equal(buffer, BODY | other)
    assert session.add_point_interaction([9.4, 12.3, 12.6], True) is None  # nothing was wrong there


def test_the_last_of_several_points_in_a_voxel_counts() -> None:
    session, buffer = begin()
    session.add_bbox_interaction(BOUNDS, True)
    session.add_point_interaction(INSIDE, False)
    assert buffer[tuple(INSIDE)] == 0
    session.add_point_interaction(INSIDE, True)
    assert buffer[tuple(INSIDE)] == 1
    session.add_point_interaction(INSIDE, False)
    assert buffer[tuple(INSIDE)] == 0


def test_prompts_without_a_prediction_are_gathered_for_the_next_one() -> None:
    other = block(SHAPE, slice(16, 20), slice(20, 26), slice(24, 30))
    session, buffer = begin(BODY | other)
    assert session.add_bbox_interaction(BOUNDS, True, run_prediction=False) is None
    assert session.add_point_interaction([18, 22, 26], True, run_prediction=False) is None
    assert not buffer.any()
    assert session.run_prediction() == bounds_of(BODY | other)
    np.testing.assert_array_equal(buffer, BODY | other)
    assert session.run_prediction() is None


# --- an initial segmentation --------------------------------------------------------------------


def test_an_initial_segmentation_is_corrected_by_points() -> None:
    part = BODY & block(SHAPE, slice(0, 20), slice(0, 26), slice(0, 14))
    speck = block(SHAPE, slice(0, 1), slice(0, 1), slice(28, 30))
    session, buffer = begin()
    session.add_point_interaction(OUTSIDE, True)  # is forgotten
    assert session.add_initial_seg_interaction((part | speck) * 3.0) is None
    np.testing.assert_array_equal(buffer, part | speck)
    changed = session.add_point_interaction([9, 12, 17], True)
    np.testing.assert_array_equal(buffer, BODY | speck)
    assert changed == [[4, 15], [6, 19], [14, 22]]


ROUGH = block(SHAPE, slice(5, 14), slice(7, 20), slice(3, 21))
"""`BODY`, whose surfaces are a voxel or two off."""


def test_an_initial_segmentation_is_improved_by_a_prediction() -> None:
    session, buffer = begin()
    changed = session.add_initial_seg_interaction(ROUGH, run_prediction=True)
    np.testing.assert_array_equal(buffer, BODY)
    assert changed == BOUNDS  # of an empty target buffer
    assert session.run_prediction() is None


def test_an_initial_segmentation_is_improved_by_a_later_prediction_too() -> None:
    session, buffer = begin()
    session.add_initial_seg_interaction(ROUGH)
    np.testing.assert_array_equal(buffer, ROUGH)
    # From [5, 14), [7, 20), [3, 21) to the body: every side moves.
    assert session.run_prediction() == [[4, 15], [6, 20], [3, 22]]
    np.testing.assert_array_equal(buffer, BODY)


def test_a_prompt_before_the_prediction_is_all_that_an_initial_segmentation_is_corrected_by() -> (
    None
):
    session, buffer = begin()
    session.add_initial_seg_interaction(ROUGH)
    session.add_point_interaction(OUTSIDE, False)
    np.testing.assert_array_equal(buffer, ROUGH)
    assert session.run_prediction() is None


def test_an_improvement_is_taken_back_with_its_initial_segmentation() -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_bbox_interaction(bounds_of(LEFT), True)
    session.add_initial_seg_interaction(np.roll(RIGHT, 1, axis=2), run_prediction=True)
    np.testing.assert_array_equal(buffer, RIGHT)
    assert session.undo()
    np.testing.assert_array_equal(buffer, LEFT)
    assert session.redo()
    np.testing.assert_array_equal(buffer, RIGHT)


def test_later_prompts_go_on_from_what_was_improved() -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_initial_seg_interaction(np.roll(RIGHT, 1, axis=2), run_prediction=True)
    session.add_bbox_interaction(bounds_of(LEFT), True)
    np.testing.assert_array_equal(buffer, LEFT | RIGHT)


def test_an_empty_initial_segmentation_stays_empty() -> None:
    session, buffer = begin()
    assert session.add_initial_seg_interaction(np.zeros(SHAPE), run_prediction=True) is None
    assert not buffer.any()


def test_an_initial_segmentation_needs_no_target_buffer() -> None:
    session = Session(Thresholder())
    session.set_image(picture(BODY)[None])
    session.add_initial_seg_interaction(BODY)
    buffer = np.zeros(SHAPE, np.uint8)
    session.set_target_buffer(buffer)
    session.add_point_interaction(OUTSIDE, False)
    np.testing.assert_array_equal(buffer, BODY)


def test_an_initial_segmentation_is_the_users_to_change() -> None:
    session, buffer = begin()
    seg = BODY.copy()
    session.add_initial_seg_interaction(seg)
    seg[:] = False
    session.add_point_interaction(OUTSIDE, False)
    np.testing.assert_array_equal(buffer, BODY)


# --- undo ---------------------------------------------------------------------------------------


def test_prompts_are_taken_back_one_by_one() -> None:
    session, buffer = begin()
    assert not session.undo()
    session.add_bbox_interaction(BOUNDS, True)
    session.add_point_interaction(INSIDE, False)
    assert session.undo()
    np.testing.assert_array_equal(buffer, BODY)
    assert session.undo()
    assert not buffer.any()
    assert not session.undo()
    session.add_bbox_interaction(BOUNDS, True)
    session.add_point_interaction(OUTSIDE, False)
    assert buffer[tuple(INSIDE)] == 1  # the point that was taken back has no effect
    assert session.undo()
    np.testing.assert_array_equal(buffer, BODY)


def test_the_first_prompt_can_be_taken_back() -> None:
    session, buffer = begin()
    session.add_bbox_interaction(BOUNDS, True)
    assert session.undo()
    assert not buffer.any()
    assert session.add_bbox_interaction(BOUNDS, True) == BOUNDS  # it is the first one again


def test_a_prompt_without_a_prediction_can_be_taken_back() -> None:
    session, buffer = begin()
    session.add_bbox_interaction(BOUNDS, True)
    session.add_point_interaction(INSIDE, False, run_prediction=False)
    assert session.undo()
    session.run_prediction()
    np.testing.assert_array_equal(buffer, BODY)


def test_a_snapshot_brings_back_all_steps_and_those_that_can_be_done_again() -> None:
    session, buffer = begin()
    session.add_bbox_interaction(BOUNDS, True)
    session.add_point_interaction(INSIDE, False)
    session.undo()
    before = session.snapshot()
    session.add_initial_seg_interaction(~BODY)
    session.restore(before)
    np.testing.assert_array_equal(buffer, BODY)
    assert session.redo()
    assert buffer[tuple(INSIDE)] == 0  # by the point, not by the segmentation: outside is 0, too
    assert buffer[tuple(OUTSIDE)] == 0
    assert not session.redo()
    session.restore(before)  # as often as one likes
    np.testing.assert_array_equal(buffer, BODY)
    assert session.undo()
    assert not session.undo()


def test_changes_are_the_bounds_of_all_that_was_written_until_they_are_forgotten() -> None:
    session, _ = begin()
    assert session.changes is None
    session.add_bbox_interaction(BOUNDS, True)
    assert session.changes == BOUNDS
    # It turns 5 to 9 along x off, and 22 to 27 on.
    shifted = block(SHAPE, slice(4, 15), slice(6, 19), slice(10, 28))
    session.add_initial_seg_interaction(shifted)
    assert session.changes == [[4, 15], [6, 19], [5, 28]]
    session.forget_changes()
    assert session.changes is None
    session.undo()
    assert session.changes == [[4, 15], [6, 19], [5, 28]]
    session.reset_interactions()
    assert session.changes is None


def test_a_session_is_behind_while_prompts_wait_for_a_prediction() -> None:
    session, _ = begin()
    assert not session.is_behind
    session.add_bbox_interaction(BOUNDS, True, run_prediction=False)
    assert session.is_behind
    session.run_prediction()
    assert not session.is_behind
    session.add_point_interaction(INSIDE, False)
    assert not session.is_behind
    session.add_point_interaction(OUTSIDE, False, run_prediction=False)
    session.reset_interactions()
    assert not session.is_behind


def test_steps_bring_back_whether_a_session_is_behind() -> None:
    session, _ = begin()
    session.add_bbox_interaction(BOUNDS, True, run_prediction=False)
    session.undo()
    assert not session.is_behind
    session.redo()
    assert session.is_behind
    session.add_point_interaction(INSIDE, True)  # the prediction is of the box, too
    assert not session.is_behind
    session.undo()
    assert session.is_behind


def test_an_initial_segmentation_can_be_taken_back_with_what_it_made_forget() -> None:
    session, buffer = begin()
    session.add_bbox_interaction(BOUNDS, True)
    session.add_initial_seg_interaction(~BODY)
    assert session.undo()
    np.testing.assert_array_equal(buffer, BODY)
    session.add_point_interaction(INSIDE, False)
    session.undo()
    session.undo()
    assert not buffer.any()


def test_steps_go_back_and_forth_whatever_they_were() -> None:
    session, buffer = begin(LEFT | RIGHT)
    session.add_bbox_interaction(bounds_of(LEFT), True)
    session.add_bbox_interaction(bounds_of(RIGHT), True)
    session.add_point_interaction([8, 10, 20], False, run_prediction=False)
    session.run_prediction()
    session.add_initial_seg_interaction(RIGHT)
    seen = [buffer.copy()]
    while session.undo():
        seen.append(buffer.copy())
    assert len(seen) == 5
    np.testing.assert_array_equal(seen[2], LEFT | RIGHT)
    np.testing.assert_array_equal(seen[3], LEFT)
    assert not seen[4].any()
    for before in seen[-2::-1]:
        assert session.redo()
        np.testing.assert_array_equal(buffer, before)
    assert not session.redo()
    session.add_point_interaction([8, 10, 20], False)
    np.testing.assert_array_equal(buffer[LEFT], 0)  # of the initial segmentation, nothing else


def test_after_a_new_prompt_nothing_is_left_to_do_again() -> None:
    session, buffer = begin(LEFT | RIGHT)
    assert not session.redo()
    session.add_bbox_interaction(bounds_of(LEFT), True)
    session.undo()
    session.add_bbox_interaction(bounds_of(RIGHT), True)
    assert not session.redo()
    np.testing.assert_array_equal(buffer, RIGHT)


def test_prompts_count_as_memory_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # A scribble of 30 voxels takes 30 * 3 * 8 bytes, in however many states it is.
    monkeypatch.setattr(history, "MOST_BYTES", 2 * 720)
    session = Session(Thresholder())
    session.set_image(picture(BODY)[None])
    session.add_scribble_interaction(line_at(0), False, run_prediction=False)
    session.add_scribble_interaction(line_at(1), True, run_prediction=False)
    assert [session.undo() for _ in range(3)] == [True, True, False]
    for z in range(3):
        session.add_scribble_interaction(line_at(z), False, run_prediction=False)
    assert not session.undo()


def test_prompts_that_take_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gamt.session.MOST_BYTES", 2 * 720)
    session = Session(Thresholder())
    session.set_image(picture(BODY)[None])
    for z in range(2):
        session.add_scribble_interaction(line_at(z), False, run_prediction=False)
    with pytest.raises(ValueError, match="found prompts of more than 0 MB for one target"):
        session.add_scribble_interaction(line_at(2), False, run_prediction=False)
    for _ in range(9):  # a block takes none
        session.add_bbox_interaction([[0, 20], [0, 26], [0, 30]], False, run_prediction=False)


def line_at(z: int) -> npt.NDArray[np.uint8]:
    """Draws a line of 30 voxels in a slice."""
    drawing = np.zeros(SHAPE, np.uint8)
    drawing[z, 24] = 1
    return drawing


@pytest.mark.parametrize("forget", ["reset_interactions", "set_image"])
def test_nothing_is_left_to_take_back_of_another_target(forget: str) -> None:
    session, buffer = begin()
    session.add_bbox_interaction(BOUNDS, True)
    if forget == "set_image":
        session.set_image(picture(BODY)[None])
        assert session.target_buffer is None
        session.set_target_buffer(buffer)
    else:
        session.reset_interactions()
        assert not buffer.any()
    assert not session.undo()
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)


# --- encodings ----------------------------------------------------------------------------------


def test_another_target_and_further_prompts_encode_nothing_new() -> None:
    segmenter = Thresholder()
    session, buffer = begin(FRAME | KERNEL, segmenter)
    session.add_bbox_interaction(bounds_of(FRAME), True)
    np.testing.assert_array_equal(buffer, FRAME)
    encoded = len(segmenter.slices)
    assert encoded > 0

    session.add_point_interaction([10, 12, 15], True)
    np.testing.assert_array_equal(buffer, FRAME | KERNEL)
    session.undo()
    session.add_point_interaction([10, 12, 15], True)
    session.reset_interactions()
    session.add_bbox_interaction(bounds_of(KERNEL), True)
    np.testing.assert_array_equal(buffer, KERNEL)
    session.reset_interactions()
    session.add_bbox_interaction(slice_bounds(KERNEL, Plane.CORONAL), True)
    np.testing.assert_array_equal(buffer, KERNEL)
    assert len(segmenter.slices) == encoded


def test_an_image_with_the_same_content_is_not_encoded_again() -> None:
    segmenter = Thresholder()
    session, _ = begin(BODY, segmenter)
    session.add_bbox_interaction(BOUNDS, True)
    encoded = len(segmenter.slices)
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)
    assert len(segmenter.slices) == encoded


class Stored(Thresholder):
    """Its embeddings can be kept in a folder."""

    fingerprint = "1"

    def pack(self, embedding: Embedding) -> npt.NDArray[Any]:
        return np.asarray(embedding)

    def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> Embedding:
        return array.reshape(shape)


def test_a_folder_keeps_encodings_for_later_sessions(tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        segmenter = Stored()
        session = Session(segmenter, cache=tmp_path)
        session.set_image(picture(BODY)[None])
        session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
        session.add_bbox_interaction(BOUNDS, True)
        np.testing.assert_array_equal(buffer, BODY)
        counts.append(len(segmenter.slices))
    assert counts[0] > 0
    assert counts[1] == 0


# --- deadline, progress, cancelling, watching ---------------------------------------------------


class Watched(Thresholder):
    """Tells somebody before it answers."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self.tell = tell

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        self.tell()
        return super().segment(image, prompt)


def test_a_cancelled_prediction_leaves_the_session_as_it_was() -> None:
    stop = threading.Event()
    segmenter = Thresholder()
    session = Session(segmenter, cancelled=stop.is_set)
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    session.add_point_interaction(OUTSIDE, False)
    stop.set()
    with pytest.raises(Cancelled):
        session.add_bbox_interaction(BOUNDS, True)
    assert not buffer.any()
    assert not segmenter.asked
    stop.clear()
    session.add_bbox_interaction(BOUNDS, True)  # it is still the target's first box
    np.testing.assert_array_equal(buffer, BODY)


def test_another_thread_cancels_between_two_slices() -> None:
    started, stop = threading.Event(), threading.Event()

    def wait_for_the_other() -> None:
        started.set()
        assert stop.wait(timeout=60)

    segmenter = Watched(wait_for_the_other)
    session = Session(segmenter, cancelled=stop.is_set)
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    with ThreadPoolExecutor(1) as pool:
        prediction = pool.submit(session.add_bbox_interaction, BOUNDS, True)
        assert started.wait(timeout=60)
        stop.set()
        with pytest.raises(Cancelled):
            prediction.result(timeout=60)
    assert len(segmenter.asked) == 1
    assert not buffer.any()


def test_the_search_for_a_body_around_a_box_is_cancelled_between_its_steps() -> None:
    # The one slice takes four of the answers; the search asks before each of its eight steps.
    answers = iter([False] * 8)
    session = Session(segmenters.load(), cancelled=lambda: next(answers, True))
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    session.set_image((picture(BODY) + noise)[None])
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    with pytest.raises(Cancelled):
        session.add_bbox_interaction(slice_bounds(BODY, Plane.AXIAL), True)
    assert not buffer.any()


@pytest.mark.parametrize("kind", ["box", "lasso"])
def test_without_any_time_a_section_is_all_that_is_found_of_its_target(kind: str) -> None:
    session = Session(segmenters.load(), seconds=0.0)
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    if kind == "box":
        changed = session.add_bbox_interaction(slice_bounds(BODY, Plane.CORONAL), True)
    else:
        changed = session.add_lasso_interaction(drawn_on(BODY, Plane.CORONAL), True)
    assert changed is not None
    assert changed[1] == [12, 13]  # the slice drawn on
    assert not buffer[~BODY].any()
    assert buffer[INSIDE[0], 12, INSIDE[2]] == 1


def test_progress_rises_to_all_that_was_planned() -> None:
    reported: list[tuple[int, int]] = []
    session = Session(Thresholder(), progress=lambda *counts: reported.append(counts))
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(BOUNDS, True)
    assert reported == sorted(reported)
    # Eleven axial slices; then the body's 13 coronal and 17 sagittal ones.
    assert reported[0] == (0, 11)
    assert reported[-1] == (11 + 13 + 17, 11 + 13 + 17)


def test_progress_goes_on_from_one_box_to_the_next() -> None:
    told: list[tuple[int, int]] = []
    session = Session(Thresholder(), progress=lambda done, planned: told.append((done, planned)))
    session.set_image(picture(LEFT | RIGHT)[None])
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(bounds_of(LEFT), True, run_prediction=False)
    session.add_bbox_interaction(bounds_of(RIGHT), True)
    done, planned = np.array(told).T
    assert (np.diff(done) >= 0).all()
    assert (np.diff(planned) >= 0).all()
    assert done[-1] == planned[-1]


def test_an_empty_initial_segmentation_is_none() -> None:
    session, buffer = begin()
    session.add_initial_seg_interaction(np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)


def test_the_slices_that_find_a_clicks_scale_are_progress_too() -> None:
    reported: list[tuple[int, int]] = []
    session = Session(Thresholder(), progress=lambda *counts: reported.append(counts))
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_point_interaction(INSIDE, True)
    assert reported[:2] == [(0, 3), (3, 3)]  # the three slices through it, before any walk
    assert reported[-1][0] == reported[-1][1] > 3


def test_a_prediction_out_of_time_is_finished_from_what_was_seen() -> None:
    segmenter = Thresholder()
    session = Session(segmenter, seconds=0)
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    session.add_point_interaction(INSIDE, True)
    # A ball around the click: 5 % of the sides of a cube as large as the scan are one voxel.
    z, y, x = INSIDE
    assert np.argwhere(buffer).tolist() == [
        [z - 1, y, x],
        *([z, y - 1, x], [z, y, x - 1], [z, y, x], [z, y, x + 1], [z, y + 1, x]),
        [z + 1, y, x],
    ]
    assert not segmenter.asked


def test_an_observer_is_told_of_every_prediction() -> None:
    class Listener(Observer):
        found: ClassVar[list[int]] = []

        def end_target(self, target: Target) -> None:
            self.found.append(int(target.mask.sum()))

    listener = Listener()
    session = Session(Thresholder(), observer=listener)
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(BOUNDS, True)
    session.add_point_interaction(INSIDE, True)  # agrees with what was found
    assert listener.found == [BODY.sum()] * 2


# --- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        # 2 mm between 20, 26 or 30 voxels of 1 mm: 39, 51 or 59 pixels of the grid.
        ((1, 1, 2), (26, 59)),
        ((1, 2, 1), (51, 30)),
        ((2, 1, 1), (26, 30)),
        (None, (26, 30)),
    ],
)
def test_spacing_is_in_the_order_of_the_arrays_axes(
    spacing: tuple[int, int, int] | None, expected: tuple[int, int]
) -> None:
    properties = {} if spacing is None else {"spacing": spacing}
    session, buffer = begin(BODY, segmenter := Thresholder(), **properties)
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)
    assert segmenter.asked[0][0] == expected


def ellipsoid(shape: tuple[int, ...], centre: tuple[int, ...], radii: tuple[int, ...]) -> Mask:
    steps = zip(np.indices(shape), centre, radii, strict=True)
    return np.asarray(sum(((at - middle) / radius) ** 2 for at, middle, radius in steps) <= 1)


class WindowWatcher(Observer):
    """Keeps the window of every prediction."""

    def __init__(self) -> None:
        self.windows: list[IntensityWindow] = []

    def begin_case(self, case: Case, volume: PreparedVolume) -> None:
        self.windows.append(case.windows[1])


def organ() -> npt.NDArray[np.int16]:
    """The body at 100 in a cuboid of 60 that is 3 voxels larger on each side, in air."""
    image = np.full(SHAPE, -1000, np.int16)
    image[1:18, 3:22, 2:25] = 60
    image[BODY] = 100
    return image


@pytest.mark.parametrize("window", [(50, 300), [50.0, 300.0], "50,300"])
def test_the_image_may_come_with_its_window(window: Any) -> None:
    watcher = WindowWatcher()
    session = Session(Thresholder(), observer=watcher)
    session.set_image(organ()[None], {"window": window})
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(BOUNDS, True)
    session.set_image(organ()[None])
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(BOUNDS, True)
    # What comes with an image is for that image. Found: 60 to 100, with half of that on both sides.
    assert watcher.windows == [(-100, 200), (40, 120)]


def test_the_window_stays_over_later_clicks_until_one_needs_more() -> None:
    image = organ()
    image[2, 4, 3] = 900
    image[1:4, 3:6, 2:5] = 700
    watcher = WindowWatcher()
    session = Session(Thresholder(), observer=watcher)
    session.set_image(image[None])
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_point_interaction(INSIDE, True)
    session.add_point_interaction(OUTSIDE, False)
    session.add_point_interaction(INSIDE, True)  # the first one, moved to the end
    session.add_point_interaction([16, 20, 23], True)
    session.add_point_interaction([2, 4, 3], True)
    session.undo()
    session.add_point_interaction(OUTSIDE, False)
    first, *later = watcher.windows
    assert first.low < 60 < 100 < first.high
    assert later[:3] == [first] * 3
    assert later[3].low == first.low
    assert later[3].high > 700
    assert later[4] == first


@pytest.mark.slow
def test_a_lesion_in_a_ct_as_it_is_stored_is_found_in_spite_of_air_and_metal() -> None:
    # 40 HU brighter than the organ: in the window of the whole volume less than a grey level.
    shape = (40, 44, 48)
    organ, lesion = (ellipsoid(shape, (20, 22, 24), radii) for radii in ((15, 16, 17), (6, 7, 8)))
    draws = np.random.default_rng(0)
    image = np.select([lesion, organ], [100, 60], -1000) + draws.normal(0, 8, shape)
    image[draws.random(shape) < 0.008] = 20000
    session = Session()
    session.set_image(image.astype(np.int16)[None])
    session.set_target_buffer(buffer := np.zeros(shape, np.uint8))
    session.add_bbox_interaction([[20, 21], [14, 31], [15, 34]], True)
    assert 2 * (lesion & (buffer > 0)).sum() > 0.95 * (lesion.sum() + buffer.sum())


def test_a_box_after_points_is_what_the_window_is_found_from() -> None:
    watcher = WindowWatcher()
    session = Session(Thresholder(), observer=watcher)
    session.set_image(organ()[None])
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    session.add_point_interaction([2, 4, 3], True)  # at the organ's corner, in air
    session.add_bbox_interaction(BOUNDS, True)
    assert watcher.windows[0].low < -1000
    assert watcher.windows[1] == (40, 120)


@pytest.mark.parametrize("dtype", ["bool", "int8", ">i2", "uint16", "float32", ">f8"])
def test_images_of_any_numbers(dtype: str) -> None:
    session = Session(Thresholder())
    session.set_image(BODY[None].astype(dtype), {"other": "properties"})
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)


# --- what can't be done -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda session: session.set_target_buffer(np.zeros(SHAPE)),
        lambda session: session.add_bbox_interaction(BOUNDS, True),
        lambda session: session.add_point_interaction(INSIDE, True),
        lambda session: session.add_scribble_interaction(BODY, True),
        lambda session: session.add_lasso_interaction(BODY, True),
        lambda session: session.add_initial_seg_interaction(BODY),
        lambda session: session.run_prediction(),
    ],
    ids=["buffer", "box", "point", "scribble", "lasso", "initial", "run"],
)
def test_there_must_be_an_image_first(call: Any) -> None:
    session = Session(Thresholder())
    with pytest.raises(RuntimeError, match="call set_image first"):
        call(session)
    session.reset_interactions()
    assert not session.undo()


def test_a_prediction_needs_a_target_buffer() -> None:
    session = Session(Thresholder())
    session.set_image(picture(BODY)[None])
    with pytest.raises(RuntimeError, match="call set_target_buffer first"):
        session.add_bbox_interaction(BOUNDS, True)
    assert not session.undo()
    session.add_bbox_interaction(BOUNDS, True, run_prediction=False)
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    session.run_prediction()
    np.testing.assert_array_equal(buffer, BODY)


READ_ONLY = np.zeros(SHAPE, np.uint8)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.set_image(picture(BODY)), r"\(20, 26, 30\), expected \(1, z, y, x\)"),
        (lambda s: s.set_image(np.zeros((2, *SHAPE))), r"\(2, 20, 26, 30\)"),
        (lambda s: s.set_image(np.zeros((1, 0, 3, 3))), r"\(1, 0, 3, 3\)"),
        (lambda s: s.set_image(np.zeros((1, *SHAPE), complex)), "complex128, expected numbers"),
        (lambda s: s.set_image(BODY[None], {"spacing": (1, 2)}), "spacing.*expected 3 numbers"),
        (
            lambda s: s.set_image(BODY[None], {"spacing": (1, 2, 0)}),
            r"0\.0\], expected numbers from",
        ),
        (lambda s: s.set_image(BODY[None], {"spacing": (1e308, 1, 1)}), "to 10000 mm"),
        (lambda s: s.set_image(BODY[None], {"spacing": (1, 1, 5e-324)}), "from 1e-06"),
        (lambda s: s.set_image(BODY[None], {"spacing": (1, 2000, 1)}), "none above 1000 times"),
        (
            lambda s: s.set_image(BODY[None], {"window": "liver"}),
            r"\"window\".*'liver'.*soft-tissue",
        ),
        (lambda s: s.set_image(BODY[None], {"window": (40, 0)}), "width 0, expected .* above 0"),
        (lambda s: s.set_image(BODY[None], {"window": (40, np.nan)}), '"window".* 2 numbers'),
        (lambda s: s.set_image(BODY[None], {"window": 40}), '"window".* 2 numbers'),
        (lambda s: s.set_target_buffer(np.zeros((20, 26, 29))), r"\(20, 26, 29\), expected"),
        (lambda s: s.set_target_buffer(torch.zeros(1, *SHAPE)), r"\(1, 20, 26, 30\), expected"),
        (lambda s: s.set_target_buffer([[[0]]]), "list, expected a numpy array or a torch tensor"),
        (lambda s: s.set_target_buffer(READ_ONLY), "read-only target buffer"),
        (lambda s: s.set_target_buffer(np.zeros(SHAPE, "U1")), "target buffer of <U1"),
        (lambda s: s.add_point_interaction([9, 12], True), "expected 3 numbers"),
        (lambda s: s.add_point_interaction("here", True), "expected 3 numbers"),
        (lambda s: s.add_point_interaction([9, 12, np.nan], True), "expected 3 numbers"),
        (lambda s: s.add_point_interaction([9, 12, 30], True), r"30\], expected some inside of"),
        (lambda s: s.add_point_interaction([-1, 12, 3], True), r"\[-1, .*expected some inside of"),
        (lambda s: s.add_bbox_interaction([0, 1, 2, 3, 4, 5], True), "expected 3 x 2 numbers"),
        (lambda s: s.add_bbox_interaction([[0, 1], [2, 3]], True), "expected 3 x 2 numbers"),
        (lambda s: s.add_bbox_interaction([[0, 9], [3, 3], [4, 9]], True), "past the last"),
        (lambda s: s.add_bbox_interaction([[9, 4], [3, 4], [4, 9]], True), "past the last"),
        (lambda s: s.add_bbox_interaction([[0, 9], [3, 8], [30, 39]], True), "one inside of"),
        (lambda s: s.add_bbox_interaction([[-9, 0], [3, 8], [4, 9]], True), "one inside of"),
        (lambda s: s.add_scribble_interaction(BODY & False, True), "found an empty scribble"),
        (lambda s: s.add_scribble_interaction(BODY[1:], False), r"\(19, 26, 30\), expected"),
        (lambda s: s.add_lasso_interaction(BODY, True), "expected one on a single slice"),
        (
            lambda s: s.add_lasso_interaction(BODY[:1], True, interaction_bbox=[[20, 21]] * 3),
            r"interaction_bbox .*inside of \(20, 26, 30\)",
        ),
        (lambda s: s.add_initial_seg_interaction(BODY[1:]), r"\(19, 26, 30\), expected numbers"),
        (lambda s: s.add_initial_seg_interaction(BODY.astype(str)), "expected numbers"),
    ],
)
def test_a_call_that_fails_says_why_and_changes_nothing(call: Any, message: str) -> None:
    session, buffer = begin()
    session.add_point_interaction(OUTSIDE, False, run_prediction=False)
    with pytest.raises(ValueError, match=message):
        call(session)
    assert session.target_buffer is buffer
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)
    assert session.undo()  # the box
    assert session.undo()  # the point
    assert not session.undo()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.add_point_interaction(INSIDE, False),
        lambda s: s.add_initial_seg_interaction(~BODY, run_prediction=True),
        lambda s: s.run_prediction(),
    ],
    ids=["point", "initial", "run"],
)
def test_a_segmenter_that_fails_changes_nothing(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session, buffer = begin()
    session.add_bbox_interaction(BOUNDS, True)
    with monkeypatch.context() as patch:
        patch.setattr("gamt.session.lift_in_memory", fail)
        with pytest.raises(MemoryError):
            call(session)
    np.testing.assert_array_equal(buffer, BODY)
    assert session.undo()  # the box
    assert not buffer.any()
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)


def fail(*_: Any) -> None:
    raise MemoryError


class Tiring(Thresholder):
    """Answers a number of prompts, and then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 1000

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        self.answers -= 1
        if self.answers < 0:
            raise RuntimeError("no luck")
        return super().segment(image, prompt)


def test_a_fault_of_the_segmenter_is_raised_and_changes_nothing() -> None:
    session = Session(segmenter := Tiring())
    session.set_image(picture(BODY)[None])
    session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
    segmenter.answers = 5
    with pytest.raises(SegmenterFault, match=r"axial slices? missing \(RuntimeError: no luck\)"):
        session.add_bbox_interaction(BOUNDS, True)
    assert not buffer.any()
    segmenter.answers = 1000
    session.add_bbox_interaction(BOUNDS, True)
    np.testing.assert_array_equal(buffer, BODY)


# --- the segmenter ------------------------------------------------------------------------------


def test_segmenters_go_by_name_too() -> None:
    for segmenter in (None, "statistical", "tests.doubles:Thresholder"):
        session = Session(segmenter)
        session.set_image(picture(BODY)[None])
        session.set_target_buffer(buffer := np.zeros(SHAPE, np.uint8))
        session.add_bbox_interaction(BOUNDS, True)
        assert dice(buffer > 0, BODY) >= FLAT_LEAST
    with pytest.raises(segmenters.SegmenterError, match="no segmenter is named 'other'"):
        Session("other")


def test_the_session_is_imported_when_it_is_asked_for() -> None:
    code = "import sys, gamt; print('numpy' in sys.modules); from gamt import Session"
    code += "; print(Session.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "gamt.session"]
    with pytest.raises(AttributeError, match="no attribute 'Sessions'"):
        _ = gamt.Sessions


def test_an_initial_segmentation_with_nan_is_an_error_that_changes_nothing() -> None:
    session, buffer = begin()
    initial = BODY.astype(np.float32)
    initial[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="found NaN in the initial segmentation"):
        session.add_initial_seg_interaction(initial)
    assert not buffer.any()
    assert not session.undo()


def test_a_target_buffer_in_the_images_memory_is_an_error() -> None:
    session = Session(Thresholder())
    both = np.zeros((2, *SHAPE), np.uint8)  # two volumes in one block of memory
    session.set_image(both[:1])
    with pytest.raises(ValueError, match="found the image's memory"):
        session.set_target_buffer(both[0])
    session.set_target_buffer(both[1])


def test_what_was_cut_short_says_so_and_is_lifted_anew_with_more_time() -> None:
    session, buffer = begin(LEFT | RIGHT)
    session._seconds = 0.0
    session.add_bbox_interaction(slice_bounds(LEFT, Plane.AXIAL), True)
    assert not session.is_complete
    session._seconds = float("inf")
    session.add_bbox_interaction(bounds_of(RIGHT), True)
    assert session.is_complete
    np.testing.assert_array_equal(buffer, LEFT | RIGHT)


def test_a_session_walks_by_memory_and_corrects_by_prompts() -> None:
    segmenter = Follower()
    session = Session(segmenter, replace(PRESETS["default"], propagation="memory", vote_blur=0))
    session.set_image(picture(BODY)[None], {"spacing": (1, 1, 1)})
    session.set_target_buffer(np.zeros(SHAPE, np.uint8))
    changed = session.add_bbox_interaction([[4, 15], [6, 19], [5, 22]], include_interaction=True)
    assert changed == BOUNDS
    tracked = len(segmenter.tracked)
    assert tracked > 0
    session.add_point_interaction(OUTSIDE, include_interaction=True)
    assert session.target_buffer[tuple(OUTSIDE)] == 1
    assert len(segmenter.tracked) == tracked
    assert segmenter.asked


def test_a_session_refuses_a_segmenter_without_the_memory_that_its_walks_need() -> None:
    with pytest.raises(SettingsError, match="found 'both' with the segmenter double"):
        Session(Thresholder(), replace(PRESETS["default"], propagation="both"))


def test_a_session_refuses_a_segmenter_of_grey_slices_other_channels() -> None:
    with pytest.raises(SettingsError, match="found 'windows', expected 'same'"):
        Session(Thresholder(), replace(PRESETS["default"], channels="windows"))


def test_seconds_that_are_no_number_are_an_error() -> None:
    with pytest.raises(ValueError, match="found nan for the seconds"):
        Session(Thresholder(), seconds=float("nan"))


# --- scales of a first click --------------------------------------------------------------------

CORE = block(SHAPE, slice(8, 12), slice(10, 15), slice(10, 16))
IN_SHELL = np.where(CORE, 200, np.where(BODY, 150, 10)).astype(np.uint8)
"""A core in a shell, which together are `BODY`."""


def clicked(
    image: npt.NDArray[np.uint8] = IN_SHELL, at: tuple[int, int, int] = (9, 12, 13)
) -> tuple[Session, npt.NDArray[np.uint8]]:
    """Returns a session of the embedded segmenter after a first click."""
    session = Session()
    session.set_image(image[None])
    buffer = np.zeros(image.shape, np.uint8)
    session.set_target_buffer(buffer)
    session.add_point_interaction(at, include_interaction=True)
    return session, buffer


def test_a_scale_is_chosen_without_another_prediction() -> None:
    session, buffer = clicked()
    np.testing.assert_array_equal(buffer == 1, CORE)
    encoded = session.encoded
    changed = session.choose_scale("large")
    assert changed == bounds_of(buffer)  # the core lies inside of what was added
    assert dice(buffer == 1, BODY) > 0.95
    session.choose_scale("tight")
    assert buffer[9, 12, 13] == 1
    assert buffer.sum() <= CORE.sum()
    session.choose_scale("medium")
    np.testing.assert_array_equal(buffer == 1, CORE)
    assert session.choose_scale("medium") is None  # nothing changes
    assert session.encoded == encoded


def test_the_choice_of_a_scale_is_taken_back() -> None:
    session, buffer = clicked()
    session.choose_scale("large")
    assert session.undo()
    np.testing.assert_array_equal(buffer == 1, CORE)
    assert session.redo()
    assert dice(buffer == 1, BODY) > 0.95
    session.choose_scale("tight")
    session.undo()
    assert dice(buffer == 1, BODY) > 0.95


def test_a_click_corrects_the_scale_that_was_chosen() -> None:
    session, buffer = clicked()
    session.choose_scale("large")
    before = buffer.copy()
    session.add_point_interaction((4, 6, 5), include_interaction=False)
    assert buffer[4, 6, 5] == 0
    assert dice(buffer == 1, before == 1) > 0.9


def test_a_session_begins_with_the_scale_of_its_settings() -> None:
    session = Session(settings=replace(PRESETS["default"], scale="large"))
    session.set_image(IN_SHELL[None])
    buffer = np.zeros(SHAPE, np.uint8)
    session.set_target_buffer(buffer)
    session.add_point_interaction((9, 12, 13), include_interaction=True)
    assert dice(buffer == 1, BODY) > 0.95
    session.choose_scale("medium")
    np.testing.assert_array_equal(buffer == 1, CORE)


def test_there_is_no_scale_of_what_one_click_alone_did_not_make() -> None:
    session, _ = begin()
    with pytest.raises(RuntimeError, match="from one click"):
        session.choose_scale("large")  # nothing was predicted
    session.add_bbox_interaction(BOUNDS, include_interaction=True)
    with pytest.raises(RuntimeError, match="from one click"):
        session.choose_scale("large")
    session, buffer = clicked()
    session.add_point_interaction((4, 6, 5), include_interaction=True)
    corrected = buffer.copy()
    with pytest.raises(RuntimeError, match="from one click"):
        session.choose_scale("large")
    np.testing.assert_array_equal(buffer, corrected)
    session.reset_interactions()
    with pytest.raises(RuntimeError, match="from one click"):
        session.choose_scale("large")


def test_what_can_be_chosen_and_what_is_shown_are_told() -> None:
    session, _ = begin()
    assert (session.scales, session.scale) == ((), None)
    session, _ = clicked()
    assert (session.scales, session.scale) == (("tight", "medium", "large"), "medium")
    shown = []
    for step in (lambda: session.choose_scale("large"), session.undo, session.redo):
        step()
        shown.append(session.scale)
    assert shown == ["large", "medium", "large"]
    session.add_point_interaction((4, 6, 5), include_interaction=False)
    assert (session.scales, session.scale) == ((), None)


def test_a_prompt_that_is_yet_to_be_predicted_leaves_no_scale_to_choose() -> None:
    session, buffer = clicked()
    session.add_point_interaction((4, 6, 5), include_interaction=False, run_prediction=False)
    with pytest.raises(RuntimeError, match="from one click"):
        session.choose_scale("large")
    np.testing.assert_array_equal(buffer == 1, CORE)
    session.undo()
    session.choose_scale("large")
    assert dice(buffer == 1, BODY) > 0.95


def test_an_unknown_scale_is_refused_and_changes_nothing() -> None:
    session, buffer = clicked()
    with pytest.raises(ValueError, match="found the scale 'huge', expected one of tight, medium"):
        session.choose_scale("huge")  # type: ignore[arg-type]
    np.testing.assert_array_equal(buffer == 1, CORE)

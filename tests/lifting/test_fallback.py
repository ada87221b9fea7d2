"""What is left of a class where the segmenter fails, or is not asked any further."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.phantoms import dice
from gamt.axes import Plane
from gamt.lifting import pipeline
from gamt.lifting.budget import OutOfTime
from gamt.lifting.fallback import FAULTS_IN_A_ROW, draw_case, fall_back, noting_steps
from gamt.lifting.shortfall import Shortfall
from gamt.prompts import Box, ClassPrompts, Click, Lasso, Scribble, SliceBox, SlicePrompt
from gamt.segmenters.base import Traits
from gamt.settings import PRESETS
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume
from tests.doubles import (
    DEFAULTS,
    UNLIMITED,
    Mask,
    Thresholder,
    block,
    lift,
    make_case,
    make_target,
    picture,
)

SHAPE = (14, 20, 26)

BODY = block(SHAPE, slice(3, 11), slice(5, 15), slice(6, 20))

BOX = Box(3, 11, 7, 5, 15, 6, 20)

ANY_SHAPE = [(20, 26), (14, 26), (14, 20)]
"""Of axial, coronal and sagittal slices."""


class Faulty(Thresholder):
    """Fails at some slices, which are told by their shape and the prompt."""

    def __init__(self, fails: Callable[[tuple[int, ...], SlicePrompt], bool]) -> None:
        super().__init__()
        self.fails = fails

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        if self.fails(image.shape, prompt):
            raise RuntimeError("no luck")
        return super().segment(image, prompt)


def broken() -> Faulty:
    """A segmenter that fails at everything."""
    return Faulty(lambda shape, prompt: True)


def without(*planes: int) -> Faulty:
    """A segmenter that fails in planes."""
    shapes = [ANY_SHAPE[plane] for plane in planes]
    return Faulty(lambda shape, prompt: shape in shapes)


def faults(found: pipeline.Lifted) -> dict[int, tuple[str, ...]]:
    """What the segmenter failed at, by label."""
    return {label: one.describe_faults() for label, one in found.shortfalls.items() if one.faults}


def test_a_plane_that_the_segmenter_fails_in_is_left_out() -> None:
    case = make_case(picture(BODY), ClassPrompts(1, BOX))
    found = lift(case, without(1), PRESETS["default"])
    two = replace(PRESETS["default"], planes=(Plane.AXIAL, Plane.SAGITTAL))
    np.testing.assert_array_equal(found.labels, lift(case, Thresholder(), two).labels)
    assert faults(found) == {1: ("no coronal view (RuntimeError: no luck)",)}
    assert found.complete


def test_without_axial_views_the_others_go_on_from_the_boxs_ellipsoid() -> None:
    found = lift(make_case(picture(BODY), ClassPrompts(1, BOX)), without(0), DEFAULTS)
    assert faults(found) == {1: ("no axial view (RuntimeError: no luck)",)}
    assert (found.labels == 1)[BODY].mean() > 0.5
    assert found.encoded > 0


def test_a_slice_that_the_segmenter_fails_at_is_mixed_from_those_beside_it() -> None:
    failed: list[bool] = []

    def fails(shape: tuple[int, ...], prompt: SlicePrompt) -> bool:
        # Asked for together, and then once more alone: both times for the slice beside the anchor.
        failed.append(len(failed) in (1, 3) if shape == ANY_SHAPE[0] else False)
        return failed[-1]

    settings = replace(DEFAULTS, planes=(Plane.AXIAL,))
    found = lift(make_case(picture(BODY), ClassPrompts(1, BOX)), Faulty(fails), settings)
    np.testing.assert_array_equal(found.labels == 1, BODY)
    assert faults(found) == {1: ("1 axial slice missing (RuntimeError: no luck)",)}


def test_without_any_view_the_previous_prediction_stays_and_clicks_are_obeyed() -> None:
    previous = BODY.astype(np.uint8)
    clicks = ClassPrompts(1, None, (Click(7, 10, 8, False),))
    found = lift(make_case(np.zeros(SHAPE, np.uint8), clicks, previous=previous), broken())
    assert found.labels[7, 10, 8] == 0
    assert (found.labels == previous).mean() > 0.98
    assert list(faults(found)) == [1]


def test_without_any_view_a_box_is_filled_with_its_ellipsoid() -> None:
    found = lift(make_case(picture(BODY), ClassPrompts(1, BOX)), broken()).labels == 1
    assert found[7, 10, 13]
    assert not found[3, 5, 6]
    # Of a box, a whole ellipsoid has pi / 6, and the one that counts 0.9 of its sides.
    assert found.sum() == pytest.approx(0.9**3 * np.pi / 6 * BODY.sum(), rel=0.1)


def test_without_any_view_a_click_stands_in_the_body_that_the_scan_shows() -> None:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ball = (z - 7) ** 2 + (y - 10) ** 2 + (x - 13) ** 2 <= 25
    case = make_case(picture(ball), ClassPrompts(1, None, (Click(7, 10, 13, True),)))
    found = lift(case, broken())
    assert 2 * (ball & (found.labels == 1)).sum() > 0.9 * (ball.sum() + (found.labels == 1).sum())
    assert list(faults(found)) == [1]


@pytest.mark.parametrize("plane", Plane)
def test_without_any_view_a_box_on_one_slice_is_filled_with_its_ellipse(plane: Plane) -> None:
    low, high = [3, 5, 6], [11, 15, 20]
    middle = (low[plane.normal] + high[plane.normal]) // 2
    low[plane.normal], high[plane.normal] = middle, middle + 1
    drawn = SliceBox(plane, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
    found = lift(make_case(picture(BODY), ClassPrompts(1, slice_box=drawn)), broken()).labels == 1
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    assert found[inside].sum() == found.sum()
    assert found.sum() == pytest.approx(np.pi / 4 * BODY[inside].sum(), rel=0.1)


def test_without_any_view_a_lassos_area_stays() -> None:
    area = np.tri(10, 14, dtype=np.bool_)
    drawn = Lasso(Plane.AXIAL, (7, 5, 6), (8, 15, 20), area)
    found = lift(make_case(picture(BODY), ClassPrompts(1, slice_box=drawn)), broken()).labels == 1
    assert found[7, 5:15, 6:20][area].all()
    assert found.sum() == found[7].sum()


def test_classes_that_the_segmenter_does_not_fail_at_come_out_as_ever() -> None:
    left, right = BODY.copy(), BODY.copy()
    left[:, :, 12:] = right[:, :, :14] = False
    boxes = [Box(3, 11, 7, 5, 15, 6, 12), Box(3, 11, 7, 5, 15, 14, 20)]
    case = make_case(picture(left | right), *map(ClassPrompts, (1, 2), boxes))

    def fails(shape: tuple[int, ...], prompt: SlicePrompt) -> bool:
        # In axial and coronal slices, x is along the rows.
        return shape[1] == SHAPE[2] and prompt.box is not None and prompt.box[0] < 12

    found = lift(case, Faulty(fails))
    np.testing.assert_array_equal(found.labels == 2, right)
    assert list(faults(found)) == [1]
    assert (found.labels == 1).any()


def test_however_many_classes_the_segmenter_fails_at_another_one_loses_no_slice() -> None:
    bodies = [block(SHAPE, slice(3, 11), slice(5, 15), slice(x, x + 3)) for x in range(1, 25, 4)]
    boxes = [Box(3, 11, 7, 5, 15, x, x + 3) for x in range(1, 25, 4)]
    assert len(boxes) > FAULTS_IN_A_ROW + 1

    def fails(shape: tuple[int, ...], prompt: SlicePrompt) -> bool:
        # In axial slices, where classes are looked for first, x is along the rows.
        return shape == ANY_SHAPE[0] and prompt.box is not None and prompt.box[0] < 20

    prompts = [ClassPrompts(label, box) for label, box in enumerate(boxes, 1)]
    found = lift(make_case(picture(np.any(bodies, axis=0)), *prompts), Faulty(fails))
    np.testing.assert_array_equal(found.labels == 6, bodies[5])
    assert list(faults(found)) == [1, 2, 3, 4, 5]


def test_after_faults_in_a_row_a_class_asks_no_more_in_the_plane() -> None:
    asked = []

    def fails(shape: tuple[int, ...], prompt: SlicePrompt) -> bool:
        asked.append(shape)
        return shape == ANY_SHAPE[0] and len(asked) > 1

    settings = replace(DEFAULTS, planes=(Plane.AXIAL,))
    found = lift(make_case(picture(BODY), ClassPrompts(1, BOX)), Faulty(fails), settings)
    # The anchor; then, twice, the slices on both sides: together, which fails at the first, and
    # then each by itself.
    assert len(asked) == 1 + (1 + 2) * FAULTS_IN_A_ROW // 2
    assert faults(found) == {1: ("7 axial slices missing (RuntimeError: no luck)",)}


def test_a_segmenter_that_finds_nothing_is_told_from_one_that_fails() -> None:
    class Blind(Thresholder):
        def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
            return np.zeros(image.shape, np.bool_)

    found = lift(make_case(picture(BODY), ClassPrompts(1, BOX)), Blind())
    assert found.shortfalls[1].describe() == ("nothing found by the segmenter",)
    assert found.complete


def test_a_search_for_a_body_that_has_to_end_is_told() -> None:
    class Alone(Stopped):
        traits = Traits(intensities_alone=True)

    body = block((24, 32, 36), slice(6, 18), slice(8, 24), slice(8, 28))
    drawn = SliceBox(Plane.AXIAL, (12, 8, 8), (13, 24, 28))
    case = make_case(picture(body), ClassPrompts(1, slice_box=drawn))
    segmenter = Alone(1)  # then, in 3-D, what has this section is looked for
    volume = PreparedVolume(case.image, case.spacing_mm, EmbeddingCache(segmenter, 2**28), DEFAULTS)
    found = pipeline.lift(case, volume, UNLIMITED, finish=segmenter.finish)
    assert found.shortfalls[1].describe() == ("cut short on request",)


def test_a_class_that_is_empty_though_nothing_failed_stays_so() -> None:
    target = make_target(make_case(picture(BODY), ClassPrompts(1, BOX)), Thresholder())
    nothing = np.zeros(SHAPE, np.bool_)
    assert not fall_back(target, nothing).any()
    target.shortfall.is_cut_short = True
    assert fall_back(target, nothing).any()


def test_a_ball_is_drawn_in_the_middle_of_a_scribble_and_its_own_slices_are_as_far_apart() -> None:
    line = Scribble(np.array([[7, 10, x] for x in range(9, 18)]), positive=True)
    case = make_case(
        np.zeros((15, 40, 40), np.uint8), ClassPrompts(1, scribbles=(line,)), spacing_mm=(3, 1, 1)
    )
    target = make_target(case, Thresholder())
    target.shortfall.is_cut_short = True
    ball = fall_back(target, np.zeros(case.image.shape, np.bool_))
    # A cube as large as 45 x 40 x 40 mm has sides of 41.6 mm, and 5 % of that are 2.1 mm.
    assert np.flatnonzero(ball.any(axis=(1, 2))).tolist() == [7]
    assert np.flatnonzero(ball.any(axis=(0, 2))).tolist() == [8, 9, 10, 11, 12]
    assert np.flatnonzero(ball.any(axis=(0, 1))).tolist() == [11, 12, 13, 14, 15]


class Stopped(Thresholder):
    """Somebody wants what there is after a number of slices."""

    def __init__(self, slices: int) -> None:
        super().__init__()
        self.enough = slices

    def finish(self) -> bool:
        return len(self.asked) >= self.enough


@pytest.mark.parametrize("slices", [0, 1, 4, 1000])
def test_who_wants_what_there_is_gets_it_from_the_slices_so_far(slices: int) -> None:
    case = make_case(picture(BODY), ClassPrompts(1, BOX))
    segmenter = Stopped(slices)
    volume = PreparedVolume(case.image, case.spacing_mm, EmbeddingCache(segmenter, 2**28), DEFAULTS)
    found = pipeline.lift(case, volume, UNLIMITED, finish=segmenter.finish)
    assert len(segmenter.asked) <= max(slices, 1) + 1  # a step of both directions is one call
    assert (found.labels == 1)[7, 10, 13]
    if slices < 1000:
        rest = () if slices else ("the prompts alone",)
        assert found.shortfalls[1].describe() == ("cut short on request", *rest)
    else:
        assert found.shortfalls[1].describe() == ()
        np.testing.assert_array_equal(found.labels == 1, BODY)


WIDE_SHAPE = (20, 24, 40)
IMAGE = np.zeros(WIDE_SHAPE, np.uint8)


def test_a_box_gives_the_ellipsoid_in_it() -> None:
    # Half-axes 5, 6 and 10: up to 0.9 of them, 4 pi / 3 * 300 * 0.729 = 916 voxels.
    labels = draw_case(make_case(IMAGE, ClassPrompts(1, Box(2, 12, 7, 4, 16, 10, 30))))
    assert abs(int(labels.sum()) - 916) < 50
    assert labels[7, 10, 20] == 1
    labels[2:12, 4:16, 10:30] = 0
    assert not labels.any()


def test_of_boxes_in_each_other_the_smaller_one_counts() -> None:
    inner = ClassPrompts(1, Box(5, 10, 7, 8, 13, 17, 23))
    outer = ClassPrompts(2, Box(2, 12, 7, 4, 16, 10, 30))
    labels = draw_case(make_case(IMAGE, inner, outer))
    assert labels[7, 10, 20] == 1
    assert labels[7, 10, 12] == 2


def test_a_box_on_one_slice_gives_an_ellipse_there() -> None:
    drawn = SliceBox(Plane.CORONAL, (4, 9, 10), (14, 10, 30))
    labels = draw_case(make_case(IMAGE, ClassPrompts(1, slice_box=drawn)))
    assert labels[8, 9, 20] == 1
    assert np.unique(np.nonzero(labels)[1]).tolist() == [9]
    # Half-axes 5 and 10: pi * 50 = 157 pixels.
    assert abs(int(labels.sum()) - 157) < 10


def test_a_click_gives_a_ball_in_millimetres() -> None:
    # 20 x 24 x 40 voxels of 4 x 1 x 1 mm: a cube of 42.5 mm, of which 5 % are 2.1 mm.
    prompts = ClassPrompts(1, clicks=(Click(10, 0, 20, positive=True),))
    labels = draw_case(make_case(IMAGE, prompts, spacing_mm=(4, 1, 1)))
    expected = np.zeros(WIDE_SHAPE, np.uint8)
    expected[10, 0, 18:23] = expected[10, 1, 19:22] = expected[10, 2, 20] = 1
    np.testing.assert_array_equal(labels, expected)


def test_clicks_and_scribbles_are_obeyed() -> None:
    away = Scribble(np.array([[7, 10, 19], [7, 10, 20]]), positive=False)
    prompts = ClassPrompts(
        1,
        Box(2, 12, 7, 4, 16, 10, 30),
        clicks=(Click(0, 0, 0, positive=True), Click(8, 10, 20, positive=False)),
        scribbles=(away,),
    )
    labels = draw_case(make_case(IMAGE, prompts))
    assert labels[0, 0, 0] == 1
    assert labels[8, 10, 20] == labels[7, 10, 19] == labels[7, 10, 20] == 0
    assert labels[7, 10, 21] == 1


def test_a_previous_prediction_stays_and_a_new_class_is_drawn_beside_it() -> None:
    previous = np.zeros(WIDE_SHAPE, np.uint8)
    previous[7, :, :20] = 1
    old = ClassPrompts(1, Box(0, 3, 1, 0, 3, 0, 3))
    new = ClassPrompts(2, Box(2, 12, 7, 4, 16, 10, 30))
    labels = draw_case(make_case(IMAGE, old, new, previous=previous))
    np.testing.assert_array_equal(labels == 1, previous == 1)
    assert labels[7, 10, 20] == 2


def test_negative_clicks_alone_give_nothing() -> None:
    prompts = ClassPrompts(1, clicks=(Click(1, 1, 1, positive=False),))
    assert not draw_case(make_case(IMAGE, prompts)).any()


class StoppedIntensities(Stopped):
    """Somebody wants what there is of a segmenter that knows no more than intensities."""

    traits = Traits(intensities_alone=True)


def test_a_class_whose_body_there_was_no_time_to_look_for_is_cut_short() -> None:
    drawn = SliceBox(Plane.AXIAL, (7, 5, 6), (8, 15, 20))
    case = make_case(picture(BODY), ClassPrompts(1, slice_box=drawn))
    for slices, expected in ((1, ("cut short on request",)), (1000, ())):
        segmenter = StoppedIntensities(slices)
        embeddings = EmbeddingCache(segmenter, 2**28)
        volume = PreparedVolume(case.image, case.spacing_mm, embeddings, DEFAULTS)
        found = pipeline.lift(case, volume, UNLIMITED, finish=segmenter.finish)
        assert found.shortfalls[1].describe() == expected
        assert len(segmenter.asked) == 1


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_class_whose_search_for_a_body_was_cut_short_has_the_best_so_far(steps: int) -> None:
    noise = np.random.default_rng(0).integers(0, 20, SHAPE).astype(np.uint8)
    case = make_case(
        np.where(BODY, 200, 40) + noise, ClassPrompts(1, clicks=(Click(7, 10, 13, True),))
    )
    left = steps

    def finish() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    segmenter = StoppedIntensities(1000)
    embeddings = EmbeddingCache(segmenter, 2**28)
    volume = PreparedVolume(case.image, case.spacing_mm, embeddings, DEFAULTS)
    found = pipeline.lift(case, volume, UNLIMITED, finish=finish)
    assert found.shortfalls[1].is_cut_short
    assert dice(found.labels == 1, BODY) > 0.7


def test_a_check_notes_that_it_said_no() -> None:
    shortfall = Shortfall()
    noting_steps(shortfall, lambda: None)()
    assert not shortfall.is_cut_short

    def time_is_up() -> None:
        raise OutOfTime

    with pytest.raises(OutOfTime):
        noting_steps(shortfall, time_is_up)()
    assert shortfall.is_cut_short

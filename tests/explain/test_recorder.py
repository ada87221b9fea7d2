"""What is written down of a segmentation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gamt import segmenters
from gamt.axes import Plane
from gamt.explain.record import BodyRecord, Stop, WalkRecord
from gamt.lifting.propagation import End
from gamt.prompts import Box, ClassPrompts, Click, Lasso, Region, Scribble, SliceBox, SlicePrompt
from gamt.segmenters.base import Embedding, Segmenter, SliceMask
from gamt.windows import IntensityWindow
from tests.doubles import (
    Constant,
    Follower,
    Mask,
    Thresholder,
    TruthTeller,
    block,
    lift,
    make_case,
    picture,
)
from tests.explain.examples import (
    BODY,
    BOX,
    FROM_4,
    SHAPE,
    SPACING,
    UNLIMITED,
    axial,
    body_case,
    corrected,
    explain,
    only,
    page_of,
)


def test_being_watched_changes_nothing() -> None:
    case = body_case(ClassPrompts(1, BOX, (Click(3, 5, 20, True),)), ClassPrompts(2))
    explanation = explain(case)
    expected = lift(case, Thresholder(), UNLIMITED).labels
    np.testing.assert_array_equal(explanation.prediction.labels, expected)


def test_a_walks_slices_are_those_of_the_scan() -> None:
    # The grid has three slices for each of the scan's.
    record = only(explain(body_case()))
    walk = axial(record)
    assert (walk.anchor, walk.planned) == (4, (2, 3, 4, 5, 6))
    assert [one.index for one in walk.visits] == [4, 3, 5, 2, 6]
    assert walk.stops() == (Stop(2, End.RANGE), Stop(6, End.RANGE))
    planes = {one.plane: (one.walks[0].planned[0], one.walks[0].planned[-1], one.votes)
              for one in record.planes}  # fmt: skip
    assert planes[Plane.CORONAL] == (4, 11, 8)
    assert planes[Plane.SAGITTAL] == (6, 17, 12)


def test_areas_are_in_square_millimetres() -> None:
    case = make_case(picture(BODY), ClassPrompts(1, BOX), spacing_mm=(3.0, 0.5, 0.5))
    record = only(explain(case))
    assert {one.area_mm2 for one in axial(record).visits} == {8 * 0.5 * 12 * 0.5}


def stops_of(truth: Mask, segmenter: Segmenter | None = None) -> tuple[Stop, Stop]:
    """Walks from slice 4 of slices 2 to 9, with a box around what is bright there."""
    rows, columns = np.nonzero(truth[4])
    y0, y1, x0, x1 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    box = Box(2, 10, 4, int(y0), int(y1), int(x0), int(x1))
    return axial(only(explain(make_case(picture(truth), ClassPrompts(1, box)), segmenter))).stops()


def test_a_walk_whose_mask_vanishes_says_so() -> None:
    assert stops_of(FROM_4) == (Stop(2, End.RANGE), Stop(6, End.VANISHED))


def test_a_walk_whose_mask_jumps_says_so() -> None:
    beside = block(FROM_4.shape, slice(6, 8), slice(4, 10), slice(9, 17))
    assert stops_of(FROM_4 | beside) == (Stop(2, End.RANGE), Stop(6, End.JUMPED))


def test_a_walk_whose_mask_grows_says_so() -> None:
    everything = block(FROM_4.shape, slice(6, 8))
    assert stops_of(FROM_4 | everything) == (Stop(2, End.RANGE), Stop(6, End.GREW))


class Doubter(Thresholder):
    """Is unsure of masks that touch the slice's first row."""

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        masks = super().decode(embeddings, prompts, multimask)
        return [replace(one, quality=0.1 if one.mask[0].any() else 1.0) for one in masks]


def test_a_walk_of_too_low_quality_says_so() -> None:
    higher = block(FROM_4.shape, slice(6, 8), slice(0, 10), slice(2, 10))
    assert stops_of(FROM_4 | higher, Doubter()) == (Stop(2, End.RANGE), Stop(6, End.UNSURE))


def test_a_walk_that_comes_to_something_else_says_so() -> None:
    body = block((14, 16, 16), slice(4, 10), slice(5, 11), slice(5, 11))
    image = picture(body)
    image[9][body[9]] = 180  # bright as well, but not as bright as the target
    image[:4] = 1  # or else 180 would be the darkest of the foreground
    case = make_case(image, ClassPrompts(1, None, (Click(6, 7, 7, True),)))
    assert axial(only(explain(case))).stops()[1] == Stop(9, End.STRANGE)


def test_an_anchor_that_misses_its_box_ends_the_walk_both_ways() -> None:
    record = only(explain(body_case(), Constant(inside=False)))
    assert axial(record).stops() == (Stop(4, End.MISLED), Stop(4, End.MISLED))


class Failing(Thresholder):
    """Fails after three answers."""

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        if len(self.asked) > 3:
            raise RuntimeError("no luck")
        return super().segment(image, prompt)


def test_a_walk_of_which_the_segmenter_fails_at_a_slice_says_so() -> None:
    record = only(explain(body_case(), Failing()))
    assert axial(record).stops() == (Stop(2, End.FAULT), Stop(6, End.FAULT))
    assert record.faults[0] == "2 axial slices missing (RuntimeError: no luck)"


def test_a_walk_that_never_began_was_out_of_time() -> None:
    explanation = explain(body_case(), settings=replace(UNLIMITED, budget=True, safety=1.0))
    assert not explanation.prediction.complete
    assert axial(only(explanation)).stops() == (Stop(None, End.TIME), Stop(None, End.TIME))


def test_a_walk_is_out_of_time_short_of_its_range() -> None:
    walk = WalkRecord(
        Plane.AXIAL, 4, (2, 3, 4, 5, 6), None, axial(only(explain(body_case()))).visits[:3]
    )
    assert walk.stops() == (Stop(3, End.TIME), Stop(5, End.TIME))


def test_every_step_is_compared_with_the_truth() -> None:
    # Half of what is bright is the target: 2 * 1/2 / (1 + 1/2).
    truth = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    record = only(explain(body_case(), TruthTeller(), replace(UNLIMITED, shape_weight=0), truth))
    names = ["axial votes", "coronal votes", "sagittal votes"]
    names += ["fused", "cleaned and corrected", "result"]
    assert [one.name for one in record.stages] == names
    assert [one.voxels for one in record.stages] == [BODY.sum()] * 6
    assert [one.dice for one in record.stages] == pytest.approx([2 / 3] * 6)
    assert record.dice == pytest.approx(2 / 3)


def test_truth_beyond_the_region_counts() -> None:
    settings = replace(UNLIMITED, crop_voxels=12, shape_weight=0)
    truth = BODY.astype(np.uint8)
    truth[:, :, -1] = 1
    record = only(explain(body_case(), settings=settings, truth=truth))
    assert record.region is not None
    assert record.region[1][2] < SHAPE[2]
    total = int(truth.sum())
    assert record.dice == pytest.approx(2 * BODY.sum() / (BODY.sum() + total))


def test_a_plane_without_views_has_no_dice() -> None:
    case = body_case(ClassPrompts(1, BOX))
    settings = replace(UNLIMITED, budget=True, safety=1.0)
    record = only(explain(case, settings=settings, truth=BODY.astype(np.uint8)))
    assert [one.dice is None for one in record.stages] == [True] * 3 + [False] * 3


def test_the_planes_are_those_of_the_settings() -> None:
    settings = replace(UNLIMITED, planes=(Plane.AXIAL, Plane.CORONAL))
    record = only(explain(body_case(), settings=settings))
    assert [one.plane for one in record.planes] == [Plane.AXIAL, Plane.CORONAL]
    assert record.montage is not None
    assert record.montage.columns == ("prompts", "axial votes", "coronal votes", "fused", "result")


def test_a_target_without_a_box_is_shown_at_its_click() -> None:
    # Too long for a body: the box drawn at first is given up, and walks go on from piece to piece.
    tube = block((40, 14, 14), slice(2, 38), slice(5, 9), slice(5, 9))
    tube |= block(tube.shape, slice(30, 34), slice(5, 9), slice(5, 13))
    case = make_case(picture(tube), ClassPrompts(1, None, (Click(6, 7, 6, True),)))
    montage = only(explain(case)).montage
    assert montage is not None
    assert [row.index for row in montage.rows] == [6, 7, 6]


BODY_CLICK = ClassPrompts(1, None, (Click(4, 8, 12, True),))


def test_a_body_that_was_grown_is_shown_in_place_of_the_planes() -> None:
    # Half of the body is the target: Dice 2 * 1/2 / (1 + 1/2).
    truth = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    record = only(explain(body_case(BODY_CLICK), segmenters.load(), truth=truth))
    assert record.body == BodyRecord(clear=True, asked=False, taken=True)
    assert record.planes == ()
    assert [one.name for one in record.stages] == ["body", "cleaned and corrected", "result"]
    assert [one.voxels for one in record.stages] == [BODY.sum()] * 3
    assert record.stages[0].dice == pytest.approx(2 / 3)
    assert record.montage is not None
    assert record.montage.columns == ("prompts", "body", "result")
    assert [row.index for row in record.montage.rows] == [4, 8, 12]
    shown = record.montage.rows[0].overlays[1].probability
    assert shown is not None
    low = record.montage.frame[0]
    assert np.argwhere(shown == 1).min(axis=0).tolist() == [4 - low[1], 6 - low[2]]
    assert (shown == 1).sum() == 8 * 12


def test_a_class_that_begins_with_a_scribble_is_shown_at_its_middle_with_all_that_is_marked() -> (
    None
):
    line = np.array([[3, 7, x] for x in range(8, 13)])
    region = Region((1, 1, 1), np.ones((1, 1, 2), np.bool_), positive=False)
    prompts = ClassPrompts(1, scribbles=(Scribble(line, positive=True),), regions=(region,))
    record = only(explain(body_case(prompts), segmenters.load()))
    assert record.body is not None
    assert record.montage is not None
    assert [row.index for row in record.montage.rows] == [3, 7, 10]
    assert max(record.montage.frame[0]) <= 1


def test_planes_that_confirm_a_body_are_shown_beside_it() -> None:
    record = only(explain(body_case(BODY_CLICK), Thresholder()))
    assert record.body == BodyRecord(clear=True, asked=True, taken=False)
    assert [one.name for one in record.stages] == [
        "body",
        "axial votes",
        "coronal votes",
        "sagittal votes",
        "fused",
        "cleaned and corrected",
        "result",
    ]


@pytest.mark.parametrize("inside", [True, False])
def test_planes_that_do_not_confirm_a_body_do_not_count(inside: bool) -> None:
    record = only(explain(body_case(BODY_CLICK), Constant(inside=inside)))
    assert record.body == BodyRecord(clear=True, asked=True, taken=True)
    assert record.stages[-1].voxels == BODY.sum()


def test_a_class_that_began_with_a_box_has_no_body() -> None:
    assert only(explain(body_case())).body is None
    assert corrected(Click(4, 8, 15, True)).body is None


def test_a_class_of_which_nothing_is_known_is_not_begun() -> None:
    first, second = explain(body_case(ClassPrompts(1, BOX), ClassPrompts(2))).classes
    assert (first.begun, second.begun, second.montage, second.stages) == (True, False, None, ())


def test_a_box_on_one_slice_is_explained_too(tmp_path: Path) -> None:
    box = SliceBox(Plane.CORONAL, (2, 7, 6), (7, 8, 18))
    explanation = explain(body_case(ClassPrompts(1, slice_box=box)))
    montage = only(explanation).montage
    assert montage is not None
    assert montage.rows[1].index == 7
    assert montage.box == (box.low, box.high)
    text = page_of(explanation, tmp_path)
    assert "Box on one coronal slice: z 2–6, y 7–7, x 6–17." in text


def test_a_lasso_is_explained_too(tmp_path: Path) -> None:
    lasso = Lasso(Plane.CORONAL, (2, 7, 6), (7, 8, 18), np.ones((5, 12), np.bool_))
    explanation = explain(body_case(ClassPrompts(1, slice_box=lasso)))
    assert "Lasso on one coronal slice: z 2–6, y 7–7, x 6–17." in page_of(explanation, tmp_path)


def test_the_body_that_a_box_on_one_slice_is_around_is_a_stage() -> None:
    box = SliceBox(Plane.CORONAL, (2, 7, 6), (7, 8, 18))
    record = only(explain(body_case(ClassPrompts(1, slice_box=box)), segmenters.load()))
    stage = record.stages[0]
    assert stage.name == "body"
    assert stage.voxels == BODY.sum()


def test_a_click_tells_what_it_changed() -> None:
    right, wrong = Click(4, 8, 8, True), Click(4, 8, 15, True)
    record = corrected(right, wrong)
    assert record.had_previous
    assert [one.click for one in record.clicks] == [right, wrong]
    assert (record.clicks[0].changed, record.clicks[0].reached) == (0, True)
    before, _, after = record.stages
    assert record.clicks[1].changed == after.voxels - before.voxels > 0
    assert before.dice == pytest.approx(2 / 3)
    assert after.dice is not None
    assert after.dice > 2 / 3


def test_a_correction_is_shown_around_its_click() -> None:
    click = Click(4, 8, 15, True)
    record = corrected(click)
    (montage,) = record.correction_montages
    assert montage.correction is not None
    assert montage.correction.click == click
    assert [row.index for row in montage.rows] == [4, 8, 15]
    # The nearest voxel of the previous prediction is 4 away: four rows, and two of thrice the size.
    assert montage.ball is not None
    assert (montage.ball.low, montage.ball.high) == ((3, 4, 11), (6, 13, 20))
    first, *_, last = montage.rows[0].overlays
    assert first.outlines["before"].any()
    z, y, x = (v - low for v, low in zip(click.voxel, montage.frame[0], strict=True))
    assert last.areas["added"][y, x]
    assert montage.rows[1].overlays[-1].areas["added"][z, x]


def test_a_corrections_walks_end_where_nothing_is_wrong() -> None:
    record = corrected(Click(4, 8, 15, True))
    walks = {one.plane: one for one in record.corrections}
    assert record.planes == ()
    assert walks[Plane.SAGITTAL].stops()[0] == Stop(11, End.CORRECTED)
    assert {one.click for one in record.corrections} == {Click(4, 8, 15, True)}


def test_clicks_without_time_are_not_reached() -> None:
    previous = BODY.astype(np.uint8)
    prompts = ClassPrompts(1, BOX, (Click(4, 8, 8, False),))
    case = make_case(picture(BODY), prompts, spacing_mm=SPACING, previous=previous)
    record = only(explain(case, settings=replace(UNLIMITED, budget=True, safety=1.0)))
    (click,) = record.clicks
    assert (click.changed, click.reached) == (0, False)


def test_pictures_are_in_the_window_that_the_class_is_seen_in() -> None:
    image = np.where(BODY, 100, 60).astype(np.int16)
    image[:, :2] = -1000
    case = make_case(image, ClassPrompts(1, BOX), spacing_mm=SPACING)
    record = only(explain(case, settings=replace(UNLIMITED, window=IntensityWindow(-60, 120))))
    assert record.window == (-60, 120)
    assert record.montage is not None
    # 100 is 160 of the window's 180 above its low end, 60 is 120, and air is clipped.
    shown = {int(grey) for row in record.montage.rows for grey in np.unique(row.image)}
    assert {227, 170} <= shown <= {227, 170, 0}


def test_walks_by_memory_are_told_from_those_by_prompts(tmp_path: Path) -> None:
    settings = replace(UNLIMITED, propagation="both")
    explanation = explain(body_case(), Follower(), settings)
    walks = [walk for plane in only(explanation).planes for walk in plane.walks]
    assert [(walk.plane, walk.by_memory) for walk in walks] == [
        (plane, by_memory) for plane in Plane for by_memory in (False, True)
    ]
    assert [one.index for one in walks[1].visits] == [4, 3, 5, 2, 6]
    page = page_of(explanation, tmp_path)
    assert "<td>axial</td>" in page
    assert "<td>axial, by memory</td>" in page

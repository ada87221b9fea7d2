"""What is written down of a segmentation, and the page that shows it."""

import base64
import io
import re
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gamt import segmenters
from gamt.axes import Plane
from gamt.cli.app import main
from gamt.explain.page import COLORS, LONGEST_SIDE, draw_chart, draw_sheet, spans, write_page
from gamt.explain.record import ClassRecord, Explanation, Stop, WalkRecord
from gamt.explain.recorder import RecordedVotes, explain_case
from gamt.io.case import Case, write_case
from gamt.lifting.fusion import Votes
from gamt.lifting.propagation import End
from gamt.prompts import Box, ClassPrompts, Click, SliceBox, SlicePrompt
from gamt.segmenters.base import Embedding, Segmenter, SliceMask
from gamt.settings import PRESETS, Settings
from gamt.volume.geometry import Grid
from tests.doubles import (
    Constant,
    Mask,
    Thresholder,
    TruthTeller,
    answer,
    block,
    lift,
    make_case,
    picture,
)

UNLIMITED = replace(PRESETS["default"], budget=False)

# Thick slices, and no two sides alike.
SHAPE = (9, 16, 24)
SPACING = (3.0, 1.0, 1.0)
BODY = block(SHAPE, slice(2, 7), slice(4, 12), slice(6, 18))
BOX = Box(z_min=2, z_max=7, z_mid=4, y_min=4, y_max=12, x_min=6, x_max=18)


def explain(
    case: Case,
    segmenter: Segmenter | None = None,
    settings: Settings = UNLIMITED,
    truth: npt.NDArray[np.uint8] | None = None,
) -> Explanation:
    return explain_case(case, segmenter or Thresholder(), settings, truth)


def body_case(*prompts: ClassPrompts) -> Case:
    return make_case(picture(BODY), *(prompts or (ClassPrompts(1, BOX),)), spacing_mm=SPACING)


def only(explanation: Explanation) -> ClassRecord:
    (record,) = explanation.classes
    return record


def axial(record: ClassRecord) -> WalkRecord:
    (walk,) = record.planes[0].walks
    return walk


# --- walks --------------------------------------------------------------------------------------


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


FROM_4 = block((12, 20, 24), slice(2, 6), slice(4, 10), slice(2, 10))


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


def test_an_empty_anchor_ends_the_walk_both_ways() -> None:
    record = only(explain(body_case(), Constant(inside=False)))
    assert axial(record).stops() == (Stop(4, End.VANISHED), Stop(4, End.VANISHED))


def test_a_walk_that_never_began_was_out_of_time() -> None:
    explanation = explain(body_case(), settings=replace(UNLIMITED, budget=True, safety=1.0))
    assert not explanation.prediction.complete
    assert axial(only(explanation)).stops() == (Stop(None, End.TIME), Stop(None, End.TIME))


def test_a_walk_is_out_of_time_short_of_its_range() -> None:
    walk = WalkRecord(
        Plane.AXIAL, 4, (2, 3, 4, 5, 6), None, axial(only(explain(body_case()))).visits[:3]
    )
    assert walk.stops() == (Stop(3, End.TIME), Stop(5, End.TIME))


# --- votes and steps ----------------------------------------------------------------------------


def test_a_planes_votes_are_counted_without_the_others() -> None:
    grid = Grid((1, 0, 2), (6, 8, 12), (13, 8, 10))
    region = (2, 1, 3), (6, 8, 11)
    votes, alone = RecordedVotes(region, grid), Votes(region, grid)
    rows = answer(np.arange(80).reshape(8, 10) % 3 > 0, quality=0.5)
    for index in (3, 6):
        votes.add(Plane.AXIAL, index, (1, 2, 7, 6), rows)
        alone.add(Plane.AXIAL, index, (1, 2, 7, 6), rows)
    other = answer(np.ones((13, 10), np.bool_))
    votes.add(Plane.CORONAL, 4, (0, 0, 10, 13), other)
    count, probability = votes.of_plane(Plane.AXIAL)
    assert count == 2
    np.testing.assert_array_equal(np.isnan(probability), ~alone.looked())
    np.testing.assert_array_equal(np.nan_to_num(probability), alone.fuse())
    count, probability = votes.of_plane(Plane.SAGITTAL)
    assert count == 0
    assert np.isnan(probability).all()


def test_votes_that_are_given_up_do_not_count() -> None:
    grid = Grid((0, 0, 0), (4, 4, 4), (4, 4, 4))
    votes = RecordedVotes(((0, 0, 0), (4, 4, 4)), grid)
    trial = deepcopy(votes)
    trial.add(Plane.AXIAL, 1, (0, 0, 4, 4), answer(np.ones((4, 4), np.bool_)))
    assert (votes.of_plane(Plane.AXIAL)[0], trial.of_plane(Plane.AXIAL)[0]) == (0, 1)


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
    assert record.sheet is not None
    assert record.sheet.columns == ("prompts", "axial votes", "coronal votes", "fused", "result")


def test_a_target_without_a_box_is_shown_at_its_click() -> None:
    # Too long for a body: the box drawn at first is given up, and walks go on from piece to piece.
    tube = block((40, 14, 14), slice(2, 38), slice(5, 9), slice(5, 9))
    tube |= block(tube.shape, slice(30, 34), slice(5, 9), slice(5, 13))
    case = make_case(picture(tube), ClassPrompts(1, None, (Click(6, 7, 6, True),)))
    sheet = only(explain(case)).sheet
    assert sheet is not None
    assert [row.index for row in sheet.rows] == [6, 7, 6]


def test_a_class_of_which_nothing_is_known_is_not_begun() -> None:
    first, second = explain(body_case(ClassPrompts(1, BOX), ClassPrompts(2))).classes
    assert (first.begun, second.begun, second.sheet, second.stages) == (True, False, None, ())


def test_a_box_on_one_slice_is_explained_too(tmp_path: Path) -> None:
    box = SliceBox(Plane.CORONAL, (2, 7, 6), (7, 8, 18))
    explanation = explain(body_case(ClassPrompts(1, slice_box=box)))
    sheet = only(explanation).sheet
    assert sheet is not None
    assert sheet.rows[1].index == 7
    assert sheet.box == (box.low, box.high)
    text = page_of(explanation, tmp_path)
    assert "Box on one coronal slice: z 2–6, y 7–7, x 6–17." in text


# --- corrections --------------------------------------------------------------------------------


def corrected(*clicks: Click, truth: Mask = BODY) -> ClassRecord:
    """Corrects a previous prediction that has the first half of `BODY` in x alone."""
    previous = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    prompts = ClassPrompts(1, BOX, clicks)
    case = make_case(picture(truth), prompts, spacing_mm=SPACING, previous=previous)
    return only(explain(case, TruthTeller(), truth=truth.astype(np.uint8)))


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
    (sheet,) = record.correction_sheets
    assert sheet.correction is not None
    assert sheet.correction.click == click
    assert [row.index for row in sheet.rows] == [4, 8, 15]
    # The nearest voxel of the previous prediction is 4 away: four rows, and two of thrice the size.
    assert sheet.ball is not None
    assert (sheet.ball.low, sheet.ball.high) == ((3, 4, 11), (6, 13, 20))
    first, *_, last = sheet.rows[0].layers
    assert first.outlines["before"].any()
    z, y, x = (v - low for v, low in zip(click.voxel, sheet.frame[0], strict=True))
    assert last.areas["added"][y, x]
    assert sheet.rows[1].layers[-1].areas["added"][z, x]


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


# --- pictures -----------------------------------------------------------------------------------


def pixels(uri: str) -> npt.NDArray[np.uint8]:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def is_color(uri: str, name: str) -> Mask:
    color = tuple(bytes.fromhex(COLORS[name][1:]))
    return np.asarray((pixels(uri)[..., :3] == color).all(axis=-1) & (pixels(uri)[..., 3] == 255))


def bounds_of(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def test_pictures_have_true_proportions_at_one_scale() -> None:
    record = only(explain(body_case()))
    assert record.sheet is not None
    # Three voxels of room on each side, but not more than there are.
    assert record.sheet.frame == ((0, 1, 3), (9, 15, 21))
    rows = draw_sheet(record.sheet, SPACING)
    scale = LONGEST_SIDE / 27  # mm on z
    sizes = [(row.plane, row.width, row.height) for row in rows]
    width, depth = round(18 * scale), round(14 * scale)
    assert sizes == [
        ("axial", width, depth),
        ("coronal", width, LONGEST_SIDE),
        ("sagittal", depth, LONGEST_SIDE),
    ]
    shares = [row.share / row.width for row in rows]
    assert shares == pytest.approx([shares[0]] * 3)
    for row in rows:
        assert pixels(row.image).shape[:2] == (row.height, row.width)
        assert {pixels(one.overlay).shape[:2] for one in row.pictures} == {(row.height, row.width)}


def test_prompts_and_result_lie_where_they_are_and_z_points_up() -> None:
    # Slices 1 to 4 alone: seen from the side, nearer to the bottom.
    body = block(SHAPE, slice(1, 5), slice(4, 12), slice(6, 18))
    box = Box(1, 5, 2, 4, 12, 6, 18)
    case = make_case(picture(body), ClassPrompts(1, box), spacing_mm=SPACING)
    sheet = only(explain(case)).sheet
    assert sheet is not None
    assert sheet.frame == ((0, 1, 3), (8, 15, 21))
    rows = draw_sheet(sheet, SPACING)
    scale = LONGEST_SIDE / 24
    for row, y0, y1 in ((rows[0], 3, 11), (rows[1], 9, 21)):
        for picture_, name in ((row.pictures[0], "box"), (row.pictures[-1], "result")):
            found = bounds_of(is_color(picture_.overlay, name))
            expected = [v * scale for v in (y0, y1, 3, 15)]
            assert found == pytest.approx(expected, abs=1), (row.plane, name)


def test_what_no_view_looked_at_is_darkened() -> None:
    sheet = only(explain(body_case())).sheet
    assert sheet is not None
    coronal = draw_sheet(sheet, SPACING)[1].pictures[1]
    assert sheet.columns[1] == "axial votes"
    overlay = pixels(coronal.overlay)
    # The axial walk kept to the box's slices, 2 to 6 of 0 to 8.
    top, middle = (
        overlay[5, overlay.shape[1] // 2],
        overlay[overlay.shape[0] // 2, overlay.shape[1] // 2],
    )
    assert (top[:3] == 0).all()
    assert 0 < top[3] < 255
    assert tuple(middle[:3]) == tuple(bytes.fromhex(COLORS["votes"][1:]))


def test_the_truth_shows_where_the_result_differs() -> None:
    truth = block(SHAPE, slice(2, 7), slice(4, 12), slice(6, 20)).astype(np.uint8)
    sheet = only(explain(body_case(), truth=truth)).sheet
    assert sheet is not None
    last = draw_sheet(sheet, SPACING)[0].pictures[-1]
    found, true = is_color(last.overlay, "result"), is_color(last.overlay, "truth")
    assert bounds_of(true)[3] > bounds_of(found)[3]


def test_a_chart_spans_what_was_planned_and_marks_ends() -> None:
    walk = WalkRecord(Plane.AXIAL, 4, tuple(range(2, 10)), None)
    box = Box(2, 10, 4, 4, 10, 2, 10)
    walk = axial(only(explain(make_case(picture(FROM_4), ClassPrompts(1, box)))))
    chart = draw_chart([walk])
    assert chart is not None
    assert (chart.first, chart.last, chart.most_mm2) == (2, 9, 48)
    (mark,) = chart.marks
    assert mark.text.startswith("6: the mask vanished")
    assert draw_chart([WalkRecord(Plane.AXIAL, 4, (4,), None)]) is None


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], "none"),
        ([7], "7 (1)"),
        ([3, 2, 4], "2–4 (3)"),
        ([1, 2, 5], "1–2, 5 (3)"),
        ([1, 3, 5, 7], "1–7 (4 of 7)"),
    ],
)
def test_slices_are_told_as_ranges(indices: list[int], text: str) -> None:
    assert spans(indices) == text


# --- the page -----------------------------------------------------------------------------------


def page_of(explanation: Explanation, folder: Path) -> str:
    write_page(explanation, folder / "page.html")
    return (folder / "page.html").read_text()


def test_the_page_names_classes_reasons_and_scores(tmp_path: Path) -> None:
    image = picture(FROM_4)
    box = Box(2, 10, 4, 4, 10, 2, 10)
    case = make_case(image, ClassPrompts(1, box), ClassPrompts(2))
    truth = (FROM_4 & block(FROM_4.shape, slice(None), slice(None), slice(6))).astype(np.uint8)
    text = page_of(explain(case, truth=truth), tmp_path)
    for expected in (
        '<a href="#class-1">Class 1</a>',
        '<section id="class-2">',
        "Box on slice z 4: z 2–9, y 4–9, x 2–9.",
        "The axial walk up from slice 4 ended early, at 6: the mask vanished. It was to go to 9.",
        "There is neither a prompt nor a previous prediction",
        "max_growth=4.0",
    ):
        assert expected in text
    assert "0.667" in text
    assert "cut it short" not in text


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    text = page_of(explain(body_case()), tmp_path)
    links = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)""", text)
    assert links
    assert all((a or b).startswith(("data:", "#")) for a, b in links)
    assert "http://" not in text
    assert "https://" not in text
    assert "Dice" not in re.sub(r"<details.*?</details>", "", text, flags=re.S)  # there is no truth


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    segmenter = Thresholder()
    segmenter.name = "<img src=x>"
    case = replace(body_case(), name="<script>alert('a')</script>")
    text = page_of(explain(case, segmenter), tmp_path)
    assert "<script" not in text
    assert "<img src=x>" not in text
    assert "&lt;script&gt;" in text


def test_the_page_tells_of_a_round_of_corrections(tmp_path: Path) -> None:
    click = Click(4, 8, 15, True)
    previous = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    prompts = ClassPrompts(1, BOX, (click, Click(4, 8, 8, True)))
    case = make_case(picture(BODY), prompts, spacing_mm=SPACING, previous=previous)
    text = page_of(explain(case, TruthTeller()), tmp_path)
    assert "Click 1, inside, at z 4, y 8, x 15: added " in text
    assert "Click 2, inside, at z 4, y 8, x 8: agrees with what was found." in text
    assert "Correction at z 4, y 8, x 15" in text
    assert "nothing more to correct" in text
    assert "Planes vote on what is wrong" in text


def test_a_segmenter_that_knows_intensities_alone_has_no_votes_on_corrections(
    tmp_path: Path,
) -> None:
    previous = (BODY & block(SHAPE, slice(None), slice(None), slice(12))).astype(np.uint8)
    prompts = ClassPrompts(1, BOX, (Click(4, 8, 15, True),))
    case = make_case(picture(BODY), prompts, spacing_mm=SPACING, previous=previous)
    explanation = explain(case, segmenters.load())
    (sheet,) = only(explanation).correction_sheets
    assert sheet.columns == ("prompts", "evidence", "result")
    text = page_of(explanation, tmp_path)
    assert "was not asked" in text
    assert "walks</summary>" not in text


def test_the_page_says_that_the_time_was_short(tmp_path: Path) -> None:
    settings = replace(UNLIMITED, budget=True, safety=1.0)
    text = page_of(explain(body_case(), settings=settings), tmp_path)
    assert "The time limit cut it short" in text
    assert "out of time" in text


# --- gamt explain -------------------------------------------------------------------------------


def save(path: Path, gts: npt.NDArray[np.uint8] | None = None) -> Path:
    write_case(path, picture(BODY), SPACING, [ClassPrompts(1, BOX)], gts)
    return path


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["explain", *map(str, arguments)])
    return int(end.value.code or 0)


def test_the_page_goes_into_the_working_directory_and_its_path_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cases").mkdir()
    case = save(tmp_path / "cases" / "CT_a.npz", BODY.astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    assert call(case, "--no-budget") == 0
    assert capsys.readouterr().out == "CT_a.html\n"
    text = (tmp_path / "CT_a.html").read_text()
    assert "<h1>How CT_a was segmented</h1>" in text
    assert "Dice" in text


def test_the_page_goes_where_it_is_told(tmp_path: Path) -> None:
    case = save(tmp_path / "CT_a.npz")
    arguments = ("--segmenter", "tests.test_predict:ThresholdSegmenter", "--set", "planes=axial")
    assert call(case, "--out", tmp_path / "why.html", "--no-budget", *arguments) == 0
    text = (tmp_path / "why.html").read_text()
    assert "threshold" in text
    assert "Coronal votes" not in text


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--out", "page.txt"], 2, "page.txt: expected a name that ends in .html"),
        (["--out", "nowhere/page.html"], 2, "nowhere/page.html: the folder doesn't exist"),
        (["--segmenter", "nonsense"], 2, "nonsense"),
        (["--preset", "nonsense"], 2, "nonsense"),
        (["--set", "nonsense=1"], 2, "nonsense"),
    ],
)
def test_wrong_options_are_one_line(
    options: Sequence[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(save(tmp_path / "a.npz"), *options) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]


def test_a_broken_case_is_one_line_that_names_file_key_found_and_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    case = save(tmp_path / "a.npz", np.ones((2, 2, 2), np.uint8))
    assert call(case) == 1
    assert capsys.readouterr().err == (
        "gamt: a.npz: key 'gts': found uint8 of shape (2, 2, 2), "
        "expected the shape of 'imgs', (9, 16, 24)\n"
    )
    assert call(tmp_path / "none.npz") == 1
    assert capsys.readouterr().err.startswith("gamt: none.npz: ")
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("package", ["jinja2", "PIL"])
def test_a_missing_package_is_one_line_that_says_how_to_get_it(
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("gamt.explain.page", "gamt.explain.drawing", "gamt.explain.html"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert call(save(tmp_path / "a.npz"), "--out", tmp_path / "a.html") == 2
    error = capsys.readouterr().err
    commands = "pip install 'gamt[explain]', in a clone make setup"
    assert error == f"gamt: gamt explain needs the package {package}: {commands}\n"

"""The report's text and its pictures; test_report_in_browser opens it."""

import base64
import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from evaluation.loop import CaseFiles
from evaluation.pictures import LONGEST_SIDE, Picture, draw_case
from evaluation.records import CaseRecord, ClassClick, TeamFolder
from evaluation.report import ReportError, write_report
from gamt.io.npz import CaseError, write_npz
from tests.evaluation.example import SHAPE, make_record, make_truth, write_drawn_team, write_team

Pixels = npt.NDArray[np.uint8]
Volume = npt.NDArray[Any]

# The volume has 18 x 10 x 28 mm, so 320 pixels are 28 mm.
MM = LONGEST_SIDE / 28


@pytest.fixture
def drawn(tmp_path: Path) -> TeamFolder:
    return write_drawn_team(tmp_path / "team", ["CT_drawn.npz"], tmp_path / "cases")


def report(teams: list[TeamFolder], cases: list[str] | None = None) -> str:
    path = teams[0].path / "report.html"
    write_report(teams, path, cases)
    return path.read_text()


def pictured(text: str) -> list[tuple[str, str]]:
    """Returns name and reason of the cases shown."""
    names = re.findall(r'data-name="([^"]*)"', text)
    return list(zip(names, re.findall(r'class="tag">([^<]*)<', text), strict=True))


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def overlay(picture: Picture) -> Pixels:
    return np.asarray(decode(picture.overlay).convert("RGBA"))


def mean_grey(picture: Picture, rows: slice) -> float:
    return float(np.asarray(decode(picture.image))[rows].mean())


def test_it_names_team_method_and_date(tmp_path: Path) -> None:
    records = [make_record("CT_a.npz", (0.5,) * 6)]
    text = report([write_team(tmp_path / "mine", records, method="docker:mine.tar.gz")])
    assert "mine" in text
    assert "docker:mine.tar.gz" in text
    assert "2025-06-11 09:00" in text


def test_it_counts_cases_missing_silent_and_late(tmp_path: Path) -> None:
    records = [
        make_record("CT_a.npz", (0.5,) * 6, seconds=16.0),
        make_record("CT_b.npz", (0.5,) * 6, seconds=16.0),
        make_record("CT_c.npz", (0.0,) * 6, output="none"),
        make_record("CT_d.npz", (0.5,) * 6),
    ]
    missing = [f"CT_{name}.npz" for name in "efghi"]
    text = report([write_team(tmp_path / "mine", records, missing=missing)])
    counts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text))
    assert counts == {
        "Cases": "4 of 9",
        "Missing": "5",
        "Without prediction": "1",
        "Over the time limit": "2",
    }


def test_names_are_text_and_not_html(tmp_path: Path) -> None:
    evil = '<img src=x onerror="alert(1)">'
    case = f"CT_{evil}.npz"
    team = write_team(tmp_path / evil, [make_record(case, (0.5,) * 6)], method=f"command:{evil}")
    text = report([team])
    assert evil not in text
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in text


def test_it_refers_to_nothing_outside_of_itself(drawn: TeamFolder) -> None:
    text = report([drawn])
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|https?://", text)


def test_one_team_is_compared_with_nothing(tmp_path: Path) -> None:
    text = report([write_team(tmp_path / "mine", [make_record("CT_a.npz", (0.5,) * 6)])])
    assert 'id="comparison"' not in text


def test_two_teams_are_compared(tmp_path: Path) -> None:
    records = [make_record("CT_a.npz", (0.5,) * 6)]
    text = report([write_team(tmp_path / name, records) for name in ("one", "two")])
    assert 'id="comparison"' in text
    assert "all differences are zero" in text


def test_an_evaluation_without_results_yet_makes_a_report(tmp_path: Path) -> None:
    text = report([write_team(tmp_path / "mine", [], missing=["CT_a.npz"])])
    assert "No case to show." in text


def test_curves_leave_the_box_out_where_there_is_none(tmp_path: Path) -> None:
    boxless = make_record("CT_a.npz", (0.25,) * 5)
    boxed = make_record("CT_b.npz", (0.75,) * 6)
    text = report([write_team(tmp_path / "mine", [boxless, boxed])])
    assert "mine, box: 0.750 over 1 case<" in text
    # (0.25 + 0.75) / 2.
    assert "mine, click 1: 0.500 over 2 cases<" in text


def lines(text: str) -> list[int]:
    """Returns the number of points of each line on the charts of Dice."""
    charts = re.findall(r'aria-label="Mean DSC by clicks.*?</svg>', text, re.DOTALL)
    return [len(one.split()) for one in re.findall(r'<polyline points="([^"]*)"', "".join(charts))]


def test_no_line_leads_from_the_box_to_clicks_of_other_cases(tmp_path: Path) -> None:
    boxless = make_record("CT_a.npz", (0.25,) * 5)
    boxed = make_record("CT_b.npz", (0.75,) * 6)
    text = report([write_team(tmp_path / "mine", [boxless, boxed])])
    # The box is a point on its own, and one line joins the five clicks.
    assert lines(text) == [5]
    assert "box n = 1, clicks n = 2" in text


def test_a_line_leads_from_the_box_to_clicks_of_the_same_cases(tmp_path: Path) -> None:
    records = [make_record(f"CT_{name}.npz", (0.75,) * 6) for name in "ab"]
    text = report([write_team(tmp_path / "mine", records)])
    assert lines(text) == [6]
    assert "<span>n = 2</span>" in text


def test_a_curve_says_of_which_team_its_number_of_cases_is(tmp_path: Path) -> None:
    # The first team has no CT case, so the only number is the second team's.
    records = [make_record(f"{name}.npz", (0.75,) * 6) for name in ("MR_a", "CT_a")]
    teams = [write_team(tmp_path / f"team{one.case}", [one]) for one in records]
    text = report(teams)
    (ct,) = re.findall(r"<figcaption>CT, mean DSC<.*?</figure>", text, re.DOTALL)
    assert re.findall(r'<span><svg class="swatch (team\d)"', ct) == ["team1"]


def published(text: str, modality: str) -> list[tuple[str, bool]]:
    """Returns the methods of a modality, each with whether its row is highlighted."""
    (table,) = re.findall(r'<table id="published-table">.*?</table>', text, re.DOTALL)
    rows = re.findall(r'<tr class="([^"]*)">\n<td>(.*?)</td>\n<td>(.*?)</td>', table, re.DOTALL)
    return [
        (re.sub(r"<svg.*?</svg> ", "", method, flags=re.DOTALL), "here" in names)
        for names, found, method in rows
        if found == modality
    ]


def test_a_team_is_highlighted_where_it_stands_among_published_methods(tmp_path: Path) -> None:
    # Between SegVol's DSC Final of 0.7452 and SAM-Med3D's of 0.5590.
    records = [make_record("CT_a.npz", (0.7,) * 6)]
    text = report([write_team(tmp_path / "mine", records)])
    assert published(text, "CT") == [
        ("nnInteractive", False),
        ("VISTA3D", False),
        ("SegVol", False),
        ("mine", True),
        ("SAM-Med3D", False),
        ("GAMT", False),
        ("GAMT", False),
    ]
    assert "mine" not in [name for name, _ in published(text, "US")]


def test_a_bar_is_as_long_as_its_share_of_the_highest_score(tmp_path: Path) -> None:
    # The AUC of 0.5 at all clicks is 2 of 4.
    text = report([write_team(tmp_path / "mine", [make_record("CT_a.npz", (0.5,) * 6)])])
    (row,) = re.findall(r'<tr class=" here.*?</tr>', text, re.DOTALL)
    assert re.findall(r"--share: ([\d.]+)%", row) == ["50.0"] * 4
    # nnInteractive's DSC AUC on CT: 3.4337 of 4.
    assert "--share: 85.8%" in text


def test_each_teams_worst_median_and_best_are_shown(tmp_path: Path) -> None:
    finals = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.6, "e": 0.7}
    records = [make_record(f"CT_{name}.npz", (0.8,) * 5 + (dsc,)) for name, dsc in finals.items()]
    text = report([write_team(tmp_path / "mine", records)])
    assert pictured(text) == [("CT_c", "worst"), ("CT_d", "median"), ("CT_b", "best")]


def test_a_case_that_the_time_limit_makes_zero_is_the_worst(tmp_path: Path) -> None:
    late = make_record("CT_a.npz", (1.0,) * 6, seconds=16.0)
    records = [late, make_record("CT_b.npz", (0.5,) * 6), make_record("CT_c.npz", (0.6,) * 6)]
    text = report([write_team(tmp_path / "mine", records, strict_time=True)])
    assert pictured(text)[0] == ("CT_a", "worst")
    assert "all scores of this case count as 0" in text


def test_an_only_case_is_shown_once(tmp_path: Path) -> None:
    text = report([write_team(tmp_path / "mine", [make_record("CT_a.npz", (0.5,) * 6)])])
    assert pictured(text) == [("CT_a", "worst")]


def test_named_cases_are_shown_for_every_team_that_has_them(tmp_path: Path) -> None:
    both = [make_record("CT_a.npz", (0.5,) * 6), make_record("CT_b.npz", (0.5,) * 6)]
    teams = [write_team(tmp_path / "one", both), write_team(tmp_path / "two", both[:1])]
    text = report(teams, ["CT_b.npz", "CT_a"])
    assert [name for name, _ in pictured(text)] == ["CT_b", "CT_a", "CT_a"]


def test_a_named_case_that_nobody_has_is_an_error(tmp_path: Path) -> None:
    team = write_team(tmp_path / "mine", [make_record("CT_a.npz", (0.5,) * 6)])
    with pytest.raises(ReportError, match=r"CT_z: found no result of this case.*mine"):
        report([team], ["CT_z"])
    assert not (team.path / "report.html").exists()


def test_it_says_that_files_are_gone_instead_of_pictures(drawn: TeamFolder) -> None:
    drawn.prediction_file("CT_drawn.npz").unlink()
    text = report([drawn])
    assert "No pictures. Files of this case are gone" in text
    assert "CT_drawn.npz: found no such file or directory" in text


def test_it_says_that_nothing_was_predicted_instead_of_pictures(tmp_path: Path) -> None:
    silent = make_record("CT_a.npz", (0.0,) * 6, output="none")
    text = report([write_team(tmp_path / "mine", [silent])])
    assert "No pictures. The method never wrote a segmentation of this case in time." in text


def test_it_says_what_is_broken(drawn: TeamFolder) -> None:
    record = only_record(drawn)
    reason = "CT_drawn.npz: found a named pipe"
    second = dataclasses.replace(record.interactions[1], output="broken", failure=reason)
    runs = (record.interactions[0], second, *record.interactions[2:])
    changed = dataclasses.replace(record, interactions=runs)
    changed.write(drawn.record_file("CT_drawn.npz"))
    assert drawn.records() == [changed]
    text = report([drawn])
    assert "What this run wrote is no segmentation of the case; zeros count." in text
    assert reason in text
    assert '<td class="notes">1 broken output</td>' in text


def test_a_case_of_broken_outputs_is_one_without_a_prediction(tmp_path: Path) -> None:
    broken = make_record("CT_a.npz", (0.0,) * 6, output="broken")
    text = report([write_team(tmp_path / "mine", [broken])])
    assert "No pictures. The method never wrote a segmentation of this case in time." in text
    assert '<td class="notes">no prediction, 6 broken outputs</td>' in text


def test_predictions_of_another_shape_are_an_error(drawn: TeamFolder) -> None:
    write_npz(drawn.prediction_file("CT_drawn.npz"), {"all_segs": np.zeros((6, 6, 10, 13))})
    with pytest.raises(CaseError, match=r"'all_segs'.*\(6, 6, 10, 13\).*\(6, 6, 10, 14\)"):
        draw_case(drawn, only_record(drawn))


def only_record(folder: TeamFolder) -> CaseRecord:
    (record,) = folder.records()
    return record


def test_slices_go_through_the_click_on_the_class_with_the_lowest_final_dice(
    drawn: TeamFolder,
) -> None:
    # The last run has both classes whole: equal Dice, so it is the first class. Its deepest voxels
    # are 2 voxels from the outside: z 2..3, y 3..4, x 2..4.
    steps = draw_case(drawn, only_record(drawn))
    assert [step.label for step in steps] == [1] * 6
    assert steps[0].click is None
    z, y, x = steps[0].voxel
    assert z in (2, 3)
    assert y in (3, 4)
    assert x in (2, 3, 4)
    assert [step.voxel for step in steps[1:]] == [(3, 3, 3)] * 5


def test_planes_have_true_proportions_at_one_scale(drawn: TeamFolder) -> None:
    axial, coronal, sagittal = draw_case(drawn, only_record(drawn))[0].pictures
    depth, height, width = round(18 * MM), round(10 * MM), LONGEST_SIDE
    assert (axial.plane, axial.width, axial.height) == ("axial", width, height)
    assert (coronal.plane, coronal.width, coronal.height) == ("coronal", width, depth)
    assert (sagittal.plane, sagittal.width, sagittal.height) == ("sagittal", height, depth)
    assert decode(coronal.image).size == decode(coronal.overlay).size == (width, depth)


def test_spacing_in_the_order_x_y_z_is_seen_through(drawn: TeamFolder) -> None:
    # 6 x 10 x 14 voxels of 3, 1 and 1 mm, written as x, y, z: 18 mm are 320 pixels.
    record = dataclasses.replace(only_record(drawn), spacing=(1.0, 1.0, 3.0))
    axial, coronal, _ = draw_case(drawn, record)[0].pictures
    assert (axial.width, axial.height) == (round(14 * 320 / 18), round(10 * 320 / 18))
    assert (coronal.width, coronal.height) == (round(14 * 320 / 18), 320)


def test_z_points_up_in_the_planes_that_show_it(drawn: TeamFolder) -> None:
    # The image gets brighter with z, y and x.
    axial, coronal, sagittal = draw_case(drawn, only_record(drawn))[0].pictures
    top, bottom = slice(0, 20), slice(-20, None)
    assert mean_grey(axial, top) < mean_grey(axial, bottom)
    for picture in (coronal, sagittal):
        assert mean_grey(picture, top) > mean_grey(picture, bottom)


def test_truth_is_a_translucent_fill_and_prediction_a_solid_outline(drawn: TeamFolder) -> None:
    axial = draw_case(drawn, only_record(drawn))[5].pictures[0]
    pixels = overlay(axial)
    # Class 1, y 2..5 and x 1..5: its first row of pixels, and between its middle and its edge.
    row, column = round(2 * MM), round(2.5 * 2 * MM)
    assert pixels[row + 1, column, 3] == 255
    assert 0 < pixels[row + 10, column, 3] < 255
    assert pixels[row - 5, column, 3] == 0
    # Both in the class's colour, which is not the other's.
    assert (pixels[row + 1, column, :3] == pixels[row + 10, column, :3]).all()
    other = round(6.5 * MM), round(11 * 2 * MM)
    assert (pixels[other][:3] != pixels[row + 1, column, :3]).any()


def test_what_was_not_predicted_has_no_outline(drawn: TeamFolder) -> None:
    # The first run predicts slice 0 alone, which is empty.
    first = overlay(draw_case(drawn, only_record(drawn))[0].pictures[0])
    assert set(np.unique(first[..., 3])) <= {0, first[round(3 * MM), round(5 * MM), 3]}


def test_clicks_are_marked_where_they_are_and_new_ones_in_a_ring(drawn: TeamFolder) -> None:
    # Slices 3 have both clicks of the second run: + at (y 3, x 3), - at (y 6, x 10).
    pixels = overlay(draw_case(drawn, only_record(drawn))[1].pictures[0])
    white = (pixels == 255).all(axis=-1)
    plus = int(3.5 * MM), int(3.5 * 2 * MM)
    minus = int(6.5 * MM), int(10.5 * 2 * MM)
    # The vertical bar, four pixels from the middle, tells + from -.
    for (row, column), has_bar in ((plus, True), (minus, False)):
        near = white[row - 1 : row + 2, column - 1 : column + 2]
        assert near.any()
        assert white[row - 5 : row - 3, column - 1 : column + 2].any() == has_bar
    # The ring is 11 pixels away.
    assert white[plus[0] - 12 : plus[0] - 9, plus[1]].any()


def test_clicks_are_marked_upside_down_where_z_points_up(drawn: TeamFolder) -> None:
    coronal = draw_case(drawn, only_record(drawn))[1].pictures[1]
    white = (overlay(coronal) == 255).all(axis=-1)
    # Slice y = 3 has the click on class 1 alone, at z 3 of 6: 2.5 slices of 3 mm from the top.
    rows, columns = np.nonzero(white)
    assert rows.mean() == pytest.approx(2.5 * 3 * MM, abs=1)
    assert columns.mean() == pytest.approx(3.5 * 2 * MM, abs=1)


def test_earlier_clicks_have_no_ring(drawn: TeamFolder) -> None:
    record = only_record(drawn)
    new = (ClassClick("fg", (3, 3, 6)), None)
    last = dataclasses.replace(record.interactions[-1], clicks=new)
    record = dataclasses.replace(record, interactions=(*record.interactions[:-1], last))
    white = (overlay(draw_case(drawn, record)[5].pictures[0]) == 255).all(axis=-1)
    # Left of the earlier click, at x 3, its ring would be 11 pixels away.
    row, column = int(3.5 * MM), int(3.5 * 2 * MM)
    assert white[row, column - 3]
    assert not white[row, column - 13 : column - 8].any()


def test_a_case_that_is_not_the_one_evaluated_is_an_error(
    drawn: TeamFolder, tmp_path: Path
) -> None:
    write_source(tmp_path, np.zeros(SHAPE, np.uint8), make_truth())
    with pytest.raises(CaseError, match=r"CT_drawn.npz: found another case, expected the one"):
        draw_case(drawn, only_record(drawn))


def write_source(tmp_path: Path, image: Volume, gts: Volume) -> dict[str, int]:
    """Replaces the case of `drawn`; returns its checksums."""
    source = tmp_path / "cases" / "CT_drawn.npz"
    write_npz(source, {"imgs": image, "gts": gts})
    return CaseFiles(source, source).checksums()


def test_a_volume_of_one_slice_and_of_no_spacing_is_drawn(
    drawn: TeamFolder, tmp_path: Path
) -> None:
    gts = make_truth()[3:4]
    write_npz(drawn.prediction_file("CT_drawn.npz"), {"all_segs": np.stack([gts] * 6)})
    record = only_record(drawn)
    record = dataclasses.replace(
        record,
        checksums=write_source(tmp_path, np.ones(gts.shape), gts),
        spacing=(0.0, 2.0, 2.0),
        interactions=tuple(
            dataclasses.replace(one, clicks=(None, None) if one.clicks else ())
            for one in record.interactions
        ),
    )
    steps = draw_case(drawn, record)
    # Without one of its own, z has 1 mm: 28 mm are 320 pixels, and the slice 11.
    assert {picture.height for step in steps for picture in step.pictures[1:]} == {11}


def test_images_of_other_types_are_stretched_to_grey(drawn: TeamFolder, tmp_path: Path) -> None:
    image = np.zeros(SHAPE, np.float32)
    image[..., 7:] = 1000
    checksums = write_source(tmp_path, image, make_truth())
    record = dataclasses.replace(only_record(drawn), checksums=checksums)
    axial = draw_case(drawn, record)[0].pictures[0]
    grey = np.asarray(decode(axial.image).convert("L"))
    assert grey[:, :100].mean() < 5
    assert grey[:, -100:].mean() > 250

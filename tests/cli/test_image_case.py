"""Prompts that are remembered beside a segmentation, and prompts from files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.calls import THRESHOLD, Run, one_line
from tests.cli.scans import AFFINE, CORNERS, block, load_nifti, save_nifti, save_scan
from tests.io.formats.dicom_series import write_series
from tests.test_predict import bright_block

# mypy: allow-untyped-calls


@pytest.fixture(autouse=True)
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Works in a folder with `scan.nii.gz`, 20 x 16 x 12 voxels (i, j, k)."""
    monkeypatch.chdir(tmp_path)
    return save_scan(tmp_path)


FOUND_NOTHING = 3
"""The exit status where the segmenter finds nothing at a click, which stands alone then."""


def segment(run: Run, output: str, *options: str, expected: int = 0) -> str:
    """Segments the scan, which must end with a status; returns what is logged."""
    status, log = run("segment", "scan.nii.gz", "-o", output, *options)
    assert status == expected, log
    return log


def fail(run: Run, *options: str) -> str:
    """Segments the scan, which must fail in one line; returns that."""
    status, log = run("segment", "scan.nii.gz", "-o", "new.nii.gz", *options, *THRESHOLD)
    assert (status, one_line(log)) == (1, True), log
    assert not Path("new.nii.gz").exists()
    return log


def prompts_in(path: str) -> list[tuple[int, str, Any]]:
    entries = json.loads(Path(path).read_text("utf-8"))["prompts"]
    return [(one["label"], one["kind"], one.get("voxel", one.get("voxels"))) for one in entries]


BOX = (3, "box", [[6, 4, 3], [14, 9, 8]])


def test_the_prompts_of_a_result_give_the_same_result(run: Run) -> None:
    prompts = ("--box", f"3:{CORNERS}", "--click", "3:10,6,5", "--negative", "3:14,9,8")
    segment(run, "first.nii.gz", *prompts, "--click", "7:1,1,1")
    log = segment(run, "second.nii.gz", "--prompts", "first.prompts.json")
    assert "label 3: 1 box, 1 click, 1 negative click; label 7: 1 click\n" in log
    assert Path("first.nii.gz").read_bytes() == Path("second.nii.gz").read_bytes()
    assert Path("first.prompts.json").read_bytes() == Path("second.prompts.json").read_bytes()


def test_the_prompts_of_an_earlier_result_come_before_the_new_ones(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", f"3:{CORNERS}", *THRESHOLD)
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--negative", "6,4,3", *THRESHOLD)
    options = ("--previous", "second.nii.gz", "--click", "5:1,1,1", *THRESHOLD)
    segment(run, "third.nii.gz", *options, expected=FOUND_NOTHING)
    expected = [BOX, (3, "negative click", [6, 4, 3]), (5, "positive click", [1, 1, 1])]
    assert prompts_in("third.prompts.json") == expected


def test_a_later_click_leaves_earlier_ones_on_their_sides(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", CORNERS, "--click", "7,5,4")
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--click", "13,8,7")
    # Beside the first click: alone, it would take that one's voxel too.
    segment(run, "third.nii.gz", "--previous", "second.nii.gz", "--negative", "7,5,5")
    labels = load_nifti(Path("third.nii.gz"))
    assert (labels[7, 5, 4], labels[13, 8, 7], labels[7, 5, 5]) == (1, 1, 0)


def test_the_last_click_on_a_voxel_counts(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", CORNERS, "--negative", "7,5,4", *THRESHOLD)
    log = segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--click", "7,5,4")
    assert "WARNING a voxel is clicked as inside and as outside" in log
    assert load_nifti(Path("second.nii.gz"))[7, 5, 4] == 1
    # All that was said is kept.
    kinds = [kind for _, kind, _ in prompts_in("second.prompts.json")]
    assert kinds == ["box", "negative click", "positive click"]


def test_names_are_remembered(run: Run) -> None:
    segment(run, "first.nii.gz", "--label", "liver=3", "--box", f"liver:{CORNERS}", *THRESHOLD)
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--click", "liver:7,5,4")
    labels = json.loads(Path("second.prompts.json").read_text("utf-8"))["labels"]
    assert [(label["label"], label["name"]) for label in labels] == [(3, "liver")]
    segment(run, "third.nii.gz", "--prompts", "first.prompts.json", "--click", "liver:7,5,4")
    assert prompts_in("third.prompts.json") == [BOX, (3, "positive click", [7, 5, 4])]


def save_ct() -> None:
    """Replaces the scan by a block of 90 HU in 50 HU, in a slab that air surrounds."""
    image = np.where(block(), 90, 50).astype(np.int16)
    image[:, :2] = image[:, -2:] = -1000
    save_nifti(Path("scan.nii.gz"), image)


def windows_in(path: str) -> dict[int, Any]:
    entries = json.loads(Path(path).read_text("utf-8"))["labels"]
    return {one["label"]: one["window"] for one in entries}


@pytest.mark.parametrize("bits", [8, 16])
def test_the_window_stays_over_later_clicks_and_prompts_of_files(bits: int, run: Run) -> None:
    if bits == 16:
        save_ct()
    first = ("--box", f"3:{CORNERS}", "--window", "-25,350")
    segment(run, "first.nii.gz", *first, *THRESHOLD)
    assert windows_in("first.prompts.json") == {3: [-200, 150]}
    # The new target gets a window of its own.
    later = ("--previous", "first.nii.gz", "--click", "3:7,5,4", "--click", "4:1,7,7", *THRESHOLD)
    log = segment(run, "second.nii.gz", *later)
    assert "level -25, width 350 (label 3); level " in log
    windows = windows_in("second.prompts.json")
    assert windows[3] == [-200, 150] != windows[4]
    segment(run, "again.nii.gz", "--prompts", "second.prompts.json", *THRESHOLD)
    assert windows_in("again.prompts.json") == windows
    after = ("--previous", "first.nii.gz", "--negative", "6,4,3", *THRESHOLD)
    status, log = run("explain", "scan.nii.gz", *after, "--out", "why.html")
    assert status == 0, log
    assert "window level -25, width 350," in log


def test_a_window_that_is_found_is_remembered_as_exactly_that(run: Run) -> None:
    save_ct()
    segment(run, "first.nii.gz", "--click", "10,6,5", *THRESHOLD)
    # Tells 90 from 50, with half of these 40 on both sides.
    assert windows_in("first.prompts.json") == {1: [30, 110]}
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--negative", "1,1,1", *THRESHOLD)
    assert windows_in("second.prompts.json") == {1: [30, 110]}


@pytest.mark.parametrize(("window", "expected"), [("brain", [0, 80]), ("auto", [30, 110])])
def test_a_window_of_the_command_line_replaces_the_remembered_one(
    window: str, expected: list[float], run: Run
) -> None:
    save_ct()
    segment(run, "first.nii.gz", "--click", "10,6,5", "--window", "lung", *THRESHOLD)
    later = ("--negative", "1,7,7", "--window", window, *THRESHOLD)
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", *later)
    segment(run, "third.nii.gz", "--prompts", "first.prompts.json", *later)
    assert windows_in("second.prompts.json") == windows_in("third.prompts.json") == {1: expected}


def test_the_window_of_the_earlier_result_counts_before_those_of_other_files(run: Run) -> None:
    save_ct()
    segment(run, "first.nii.gz", "--click", "10,6,5", "--window", "lung", *THRESHOLD)
    bone = ("--click", "7,5,4", "--window", "bone", *THRESHOLD)
    segment(run, "other.nii.gz", *bone, expected=FOUND_NOTHING)
    files = ("--previous", "first.nii.gz", "--prompts", "other.prompts.json")
    segment(run, "second.nii.gz", *files, *THRESHOLD)
    assert windows_in("second.prompts.json") == windows_in("first.prompts.json")


def test_an_image_without_contrast_leaves_no_window(run: Run) -> None:
    save_nifti(Path("scan.nii.gz"), np.full((20, 16, 12), 7, np.int16))
    segment(run, "first.nii.gz", "--click", "10,6,5")
    assert windows_in("first.prompts.json") == {1: None}
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--click", "7,5,4")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_result_that_cannot_be_written_leaves_the_earlier_one_and_its_prompts(
    error: BaseException, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    segment(run, "out.nii.gz", "--click", "10,6,5", *THRESHOLD)
    files = {path: path.read_bytes() for path in Path().iterdir()}
    monkeypatch.setattr("gamt.io.image.write_image", fail)
    arguments = ("segment", "scan.nii.gz", "-o", "out.nii.gz", "--click", "7,5,4", *THRESHOLD)
    assert run(*arguments)[0] > 0
    assert {path: path.read_bytes() for path in Path().iterdir()} == files


def test_an_earlier_result_of_other_programs_has_no_prompts(run: Run) -> None:
    save_nifti(Path("mask.nii.gz"), block(3))
    log = segment(run, "out.nii.gz", "--previous", "mask.nii.gz", "--click", "7,5,4", *THRESHOLD)
    assert "INFO mask.nii.gz: the prompts that it was made with aren't known\n" in log
    assert prompts_in("out.prompts.json") == [(3, "positive click", [7, 5, 4])]


def test_remembered_prompts_alone_are_not_enough(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", CORNERS, *THRESHOLD)
    status, log = run("segment", "scan.nii.gz", "-o", "new.nii.gz", "--previous", "first.nii.gz")
    assert (status, one_line(log)) == (2, True)
    assert "expected at least one --box" in log
    assert "--prompts (that of the earlier result, to begin anew)" in log


def test_a_file_without_prompts_is_an_error(run: Run) -> None:
    Path("F.mrk.json").write_text('{"markups": []}')
    assert fail(run, "--prompts", "F.mrk.json") == (
        "gamt: F.mrk.json: found no prompts, expected at least one\n"
    )


def test_prompts_of_another_image_are_refused(run: Run) -> None:
    save_nifti(Path("other.nii.gz"), np.zeros((20, 16, 13), np.uint8))
    status, log = run("segment", "other.nii.gz", "-o", "other_seg.nii.gz", "--click", "1,1,1")
    assert status == 0, log
    Path("other_seg.prompts.json").rename("first.prompts.json")
    save_nifti(Path("first.nii.gz"), block())
    message = "gamt: first.prompts.json: found prompts for other.nii.gz, 20 x 16 x 13 voxels, "
    assert fail(run, "--previous", "first.nii.gz", "--click", "7,5,4").startswith(message)
    assert fail(run, "--prompts", "first.prompts.json").startswith(message)


@pytest.mark.parametrize(
    ("prompts", "labels", "found"),
    [
        (("--click", "7:7,5,4"), 3, "prompts of label 7, expected those of first.nii.gz, which"),
        (("--box", f"7:{CORNERS}"), 3, "prompts of label 7, expected those of first.nii.gz, which"),
        (("--click", "7:7,5,4"), 0, "which has no label; remove the file to go on from"),
    ],
)
def test_prompts_of_another_segmentation_are_refused(
    prompts: tuple[str, ...], labels: int, found: str, run: Run
) -> None:
    segment(run, "first.nii.gz", *prompts, *THRESHOLD)
    save_nifti(Path("first.nii.gz"), block(labels))
    assert found in fail(run, "--previous", "first.nii.gz", "--click", "3:7,5,4")


def test_what_found_nothing_can_be_corrected(run: Run) -> None:
    segment(run, "first.nii.gz", "--negative", "1,1,1", *THRESHOLD, expected=3)  # it is empty
    assert not load_nifti(Path("first.nii.gz")).any()
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--click", "7,5,4", *THRESHOLD)
    assert load_nifti(Path("second.nii.gz"))[7, 5, 4] == 1


def test_prompts_on_another_grid_are_left_where_that_is_resampled(run: Run) -> None:
    half = np.ones((10, 8, 6), np.uint8)
    save_nifti(Path("half.nii.gz"), half, np.diag([-3.0, -3.0, 4.0, 1.0]))
    assert run("segment", "half.nii.gz", "-o", "first.nii.gz", "--click", "3,2,2")[0] == 0
    options = ("--previous", "first.nii.gz", "--resample-previous", "--click", "7,5,4")
    log = segment(run, "second.nii.gz", *options, *THRESHOLD)
    assert "WARNING first.prompts.json: found prompts for half.nii.gz" in log
    assert prompts_in("second.prompts.json") == [(1, "positive click", [7, 5, 4])]


def test_a_file_that_is_no_file_of_prompts_is_never_replaced(run: Run) -> None:
    Path("new.prompts.json").write_text('{"name": "mine"}')
    assert "new.prompts.json: found a file that gamt did not write" in fail(run, "--click", "1,1,1")
    assert Path("new.prompts.json").read_text() == '{"name": "mine"}'


def test_prompts_that_are_read_are_never_replaced(run: Run) -> None:
    segment(run, "new.nii.gz", "--box", CORNERS, *THRESHOLD)
    before = Path("new.prompts.json").read_bytes()
    Path("new.nii.gz").unlink()
    log = fail(run, "--prompts", "new.prompts.json", "--click", "7,5,4")
    assert "new.prompts.json: would replace the input new.prompts.json" in log
    # Those of new.nii.gz would be those of new.nii too.
    save_nifti(Path("new.nii.gz"), block())
    options = ("--previous", "new.nii.gz", "--click", "7,5,4")
    status, log = run("segment", "scan.nii.gz", "-o", "new.nii", *options)
    assert (status, one_line(log)) == (1, True)
    assert Path("new.prompts.json").read_bytes() == before


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_points_and_boxes_from_slicer_segment_as_those_of_the_command_line(
    system: str, run: Run
) -> None:
    # Voxels of 1.5 x 1.5 x 2 mm, the first at the origin, i towards left and j towards the back.
    # The box's voxels from 6, 4, 3 to 14, 9, 8 end half a voxel beyond: 5.5 to 14.5 and so on.
    side = 1 if system == "LPS" else -1
    box = {
        "type": "ROI",
        "name": "R",
        "coordinateSystem": system,
        "center": [side * 15, side * 9.75, 11],
        "size": [13.5, 9, 12],
        "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
    }
    inside = {"label": "F-1", "position": [side * 15, side * 9, 10], "positionStatus": "defined"}
    outside = {"label": "negative-1", "position": [side * 21, side * 13.5, 16]}
    clicks = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": [inside, outside]}
    Path("R.mrk.json").write_text(json.dumps({"markups": [box]}))
    Path("F.mrk.json").write_text(json.dumps({"markups": [clicks]}))
    files = ("--prompts", "R.mrk.json", "--prompts", "F.mrk.json")
    segment(run, "slicer.nii.gz", *files, "--click", "1,1,1")
    prompts = ("--box", CORNERS, "--click", "10,6,5", "--click", "1,1,1", "--negative", "14,9,8")
    segment(run, "typed.nii.gz", *prompts)
    kinds = [(kind, voxel) for _, kind, voxel in prompts_in("slicer.prompts.json")]
    assert kinds == [
        ("box", [[6, 4, 3], [14, 9, 8]]),
        ("positive click", [10, 6, 5]),
        ("negative click", [14, 9, 8]),
        ("positive click", [1, 1, 1]),  # what is typed comes after
    ]
    np.testing.assert_array_equal(
        load_nifti(Path("slicer.nii.gz")), load_nifti(Path("typed.nii.gz"))
    )


def test_a_page_explains_what_prompts_of_files_do(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", CORNERS, *THRESHOLD)
    again = ("--prompts", "first.prompts.json", "--out", "why.html", *THRESHOLD)
    status, log = run("explain", "scan.nii.gz", *again)
    assert status == 0, log
    assert "INFO first.prompts.json: label 1: 1 box\n" in log
    after = ("--previous", "first.nii.gz", "--negative", "6,4,3", "--out", "next.html", *THRESHOLD)
    status, log = run("explain", "scan.nii.gz", *after)
    assert status == 0, log
    assert "INFO first.prompts.json: label 1: 1 box\n" in log
    # A page is no result: its prompts are not written down.
    assert sorted(path.name for path in Path().glob("*.prompts.json")) == ["first.prompts.json"]


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha", "series"])
def test_prompts_are_at_the_same_place_in_every_format(name: str, run: Run) -> None:
    sitk = pytest.importorskip("SimpleITK")
    if name == "series":
        write_series(Path(name), bright_block().T.astype(np.int16), AFFINE)
    else:
        sitk.WriteImage(sitk.ReadImage("scan.nii.gz"), name)
    options = ("--box", CORNERS, "--negative", "6,4,3", *THRESHOLD)
    status, log = run("segment", name, "-o", "first.nii.gz", *options)
    assert status == 0, log
    # The grid is that of the NIfTI file, whose prompts these may be as well.
    segment(run, "second.nii.gz", "--prompts", "first.prompts.json", *THRESHOLD)
    assert prompts_in("first.prompts.json") == prompts_in("second.prompts.json")
    np.testing.assert_array_equal(
        load_nifti(Path("first.nii.gz")), load_nifti(Path("second.nii.gz"))
    )


# --- what is drawn on the page of gamt annotate -------------------------------------------------


def draw(*prompts: dict[str, Any]) -> None:
    """Writes prompts of another program beside those of the first result."""
    saved = json.loads(Path("first.prompts.json").read_text("utf-8"))
    saved["version"] = 2
    saved["prompts"] += [{"label": 3, **one} for one in prompts]
    Path("drawn.prompts.json").write_text(json.dumps(saved), "utf-8")


NEGATIVE_BOX = {"kind": "negative box", "voxels": [[6, 4, 3], [7, 9, 8]]}
SCRIBBLE = {"kind": "negative scribble", "runs": [[[14, 4, 3], [14, 9, 3]]]}


def test_scribbles_and_negative_boxes_of_a_file_count(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", f"3:{CORNERS}", *THRESHOLD)
    draw(NEGATIVE_BOX, SCRIBBLE)
    log = segment(run, "second.nii.gz", "--prompts", "drawn.prompts.json", *THRESHOLD)
    assert "label 3: 1 box, 1 scribble, 1 negative area" in log
    found = load_nifti(Path("second.nii.gz"))
    assert not found[6:8, 4:10, 3:9].any()
    assert not found[14, 4:10, 3].any()
    assert (found[9:13, 5:9, 5:8] == 3).all()
    kinds = [kind for _, kind, _ in prompts_in("second.prompts.json")]
    assert kinds == ["box", "negative box", "negative scribble"]


def test_an_earlier_result_with_drawings_beside_it_is_gone_on_from(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", f"3:{CORNERS}", *THRESHOLD)
    draw(NEGATIVE_BOX, SCRIBBLE)
    segment(run, "second.nii.gz", "--prompts", "drawn.prompts.json", *THRESHOLD)
    options = ("--previous", "second.nii.gz", "--click", "3:1,1,1", *THRESHOLD)
    segment(run, "third.nii.gz", *options, expected=FOUND_NOTHING)
    found = load_nifti(Path("third.nii.gz"))
    assert found[1, 1, 1] == 3
    assert not found[6:8, 4:10, 3:9].any()
    assert not found[14, 4:10, 3].any()


def test_of_several_lassos_the_last_one_counts_and_that_is_told(run: Run) -> None:
    segment(run, "first.nii.gz", "--click", "3:10,6,5", *THRESHOLD)
    lassos = [
        {"kind": "lasso", "plane": "axial", "runs": [[[6, j, k], [14, j, k]] for j in range(4, 10)]}
        for k in (4, 6)
    ]
    draw(*lassos)
    log = segment(run, "second.nii.gz", "--prompts", "drawn.prompts.json", *THRESHOLD)
    assert "label 3: found 2 boxes and lassos on single slices, used the last one" in log
    np.testing.assert_array_equal(load_nifti(Path("second.nii.gz")), block(3))


def test_an_earlier_result_without_any_prompt_is_gone_on_from(run: Run) -> None:
    segment(run, "first.nii.gz", "--box", f"3:{CORNERS}", *THRESHOLD)
    saved = json.loads(Path("first.prompts.json").read_text("utf-8"))
    saved["prompts"] = []  # as of a mask that was loaded and saved again
    Path("first.prompts.json").write_text(json.dumps(saved), "utf-8")
    segment(run, "second.nii.gz", "--previous", "first.nii.gz", "--negative", "6,4,3", *THRESHOLD)
    assert load_nifti(Path("second.nii.gz"))[6, 4, 3] == 0


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"kind": "lasso", "plane": "axial", "runs": []}, "runs: found a list of 0, expected one"),
        ({**SCRIBBLE, "runs": [[[0, 0, 0]]]}, "runs[0]: found a list of 1, expected the first and"),
        ({**SCRIBBLE, "runs": [[[0, 0, 0], [1, 1, 0]]]}, "runs[0]: found a run along several axes"),
        ({**SCRIBBLE, "runs": [[[0, 0, 0], [20, 0, 0]]]}, "20,0,0 is outside of the image"),
        (
            {"kind": "lasso", "plane": "axial", "runs": [[[0, 0, 0], [0, 0, 1]]]},
            "runs: found a lasso of several slices, expected one slice of the axial plane",
        ),
    ],
)
def test_a_broken_drawing_is_one_line_that_names_it(
    prompt: dict[str, Any], message: str, run: Run
) -> None:
    segment(run, "first.nii.gz", "--click", "3:10,6,5", *THRESHOLD)
    draw(prompt)
    log = fail(run, "--prompts", "drawn.prompts.json")
    assert "drawn.prompts.json: prompts[1]." in log
    assert message in log

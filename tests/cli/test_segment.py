"""``gamt segment``: one's own scan."""

import errno
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gamt import predict
from gamt.cli.app import main
from gamt.settings import PRESETS, Settings
from tests.cli.calls import FAILING, THRESHOLD, Run, on_terminal, one_line
from tests.cli.scans import CORNERS, block, load_nifti, save_nifti, save_scan
from tests.test_predict import bright_block

# mypy: allow-untyped-calls


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_a_box_in_any_orientation_gives_its_target_there(
    axes: tuple[int, ...], flips: tuple[int, ...], tmp_path: Path, run: Run
) -> None:
    """Tilted as well, and with voxels of three different sides."""
    array = np.full((9, 11, 13), 20, np.uint8)
    array[1:4, 3:8, 6:12] = 200
    tilt = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = (tilt @ np.diag([1.0, 1.2, 2.0]))[:, axes] * flips
    path = save_nifti(tmp_path / "scan.nii.gz", array, affine)
    out = tmp_path / "out.nii.gz"
    status, log = run("segment", path, "-o", out, "--box", "3,3,11,1,7,6", *THRESHOLD)
    assert status == 0, log
    np.testing.assert_array_equal(load_nifti(out), array > 127)
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(path).affine)  # type: ignore[attr-defined]


@pytest.mark.parametrize("prompt", [("--box", CORNERS), ("--click", "10,6,5")], ids="".join)
def test_the_embedded_segmenter_takes_boxes_and_clicks(
    prompt: Sequence[str], tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out.nii.gz"
    status, log = run("segment", save_scan(tmp_path), "-o", out, *prompt)
    assert status == 0, log
    found, truth = load_nifti(out) > 0, block() > 0
    assert found[10, 6, 5]
    assert 2 * (found & truth).sum() > 0.8 * (found.sum() + truth.sum())


def test_millimetres_are_the_scanners(tmp_path: Path, run: Run) -> None:
    scan = save_scan(tmp_path)
    out = tmp_path / "out.nii.gz"
    box = "-9,-6,6,-21,-13.5,16"  # CORNERS through AFFINE
    assert run("segment", scan, "-o", out, "--ras", "--box", box, *THRESHOLD)[0] == 0
    np.testing.assert_array_equal(load_nifti(out), block())
    assert run("segment", scan, "-o", out, "--ras", "--click", "-15,-9,10", *THRESHOLD)[0] == 0
    assert load_nifti(out)[10, 6, 5] == 1


def test_labels_stay_as_the_user_numbered_them(tmp_path: Path, run: Run) -> None:
    image = bright_block()
    image[1:3, 12:15, 1:4] = 200
    scan = save_nifti(tmp_path / "scan.nii", image.T)
    out = tmp_path / "out.nii.gz"
    boxes = ("--box", f"200:{CORNERS}", "--box", "7:1,12,1,3,14,2")
    assert run("segment", scan, "-o", out, *boxes, *THRESHOLD)[0] == 0
    expected = block(200)
    expected[1:4, 12:15, 1:3] = 7
    np.testing.assert_array_equal(load_nifti(out), expected)


def test_a_negative_click_takes_away_and_labels_without_a_prompt_stay(
    tmp_path: Path, run: Run
) -> None:
    scan = save_scan(tmp_path)
    before = block(5)
    before[0, 0, 0] = 9
    previous = save_nifti(tmp_path / "before.nii.gz", before)
    out = tmp_path / "out.nii.gz"
    options = ("--previous", previous, "--negative", "5:6,4,3")
    status, log = run("segment", scan, "-o", out, *options, *THRESHOLD)
    assert status == 0, log
    labels = load_nifti(out)
    assert labels[6, 4, 3] == 0
    assert labels[0, 0, 0] == 9
    assert set(np.unique(labels)) <= {0, 5, 9}


def test_a_new_target_joins_an_earlier_one(tmp_path: Path, run: Run) -> None:
    before = np.zeros_like(block())
    before[0, 0, 0] = 255
    previous = save_nifti(tmp_path / "before.nii.gz", before)
    out = tmp_path / "out.nii.gz"
    options = ("--previous", previous, "--click", "2:10,6,5")
    status, log = run("segment", save_scan(tmp_path), "-o", out, *options, *THRESHOLD)
    assert status == 0, log
    labels = load_nifti(out)
    assert (labels[0, 0, 0], labels[10, 6, 5]) == (255, 2)


def test_segment_has_no_time_limit_unless_it_is_set(
    tmp_path: Path, run: Run, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("segment", save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS)
    assert run(*arguments)[0] == 0
    assert used.pop() == replace(PRESETS["default"], budget=False)
    assert run(*arguments, "--set", "budget=true")[0] == 0
    assert used.pop() == PRESETS["default"]
    monkeypatch.setenv("GAMT_BUDGET", "true")
    assert run(*arguments)[0] == 0
    assert used.pop() == PRESETS["default"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ([], 2, "at least one"),
        (["--box", "1,2,3"], 2, "expected 6 numbers"),
        (["--click", "1,2,x"], 2, "expected 3 numbers"),
        (["--click", "nan,1,2", "--ras"], 2, "expected 3 numbers"),
        (["--click", "liver:1,2,3"], 2, "found the label 'liver'"),
        (["--click", "0:1,2,3"], 2, "found the label '0'"),
        (["--click", "256:1,2,3"], 2, "1 to 255"),
        (["--box", CORNERS, "--box", CORNERS], 2, "box already"),
        (["--click", "20,0,0"], 1, "from 0,0,0 to 19,15,11"),
        (["--click", "1.5,0,0"], 1, "whole"),
        (["--click", "1,1,1", "--previous", "none.nii"], 1, "none.nii"),
        (["--click", "1,1,1", "--segmenter", "nonsense"], 2, "nonsense"),
        (["--click", "1,1,1", "--preset", "nonsense"], 2, "nonsense"),
        (["--click", "1,1,1", "--scale", "huge"], 2, "found 'huge', expected tight, medium or"),
    ],
)
def test_wrong_prompts_and_options_are_one_line(
    options: Sequence[str], status: int, message: str, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out.nii.gz"
    found, log = run("segment", save_scan(tmp_path), "-o", out, *options)
    assert (found, one_line(log)) == (status, True)
    assert message in log
    assert not out.exists()


@pytest.mark.parametrize("name", ["out.npz", "nowhere/out.nii.gz"])
def test_an_output_that_cannot_be_is_found_out_first(name: str, tmp_path: Path, run: Run) -> None:
    status, log = run("segment", tmp_path / "none.nii", "-o", tmp_path / name, "--click", "1,1,1")
    assert status == 2
    assert one_line(log)
    assert name in log


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [("segment", "-o", "out.nii"), ("convert", "", "out.npz"), ("explain", "--out", "out.html")],
)
def test_what_a_killed_command_has_left_beside_the_output_is_removed(
    command: str, option: str, name: str, tmp_path: Path, run: Run
) -> None:
    scan = save_scan(tmp_path)
    left = tmp_path / f".{'0' * 32}.partial"
    left.write_bytes(b"half a result")
    arguments = [command, scan, *filter(None, [option]), tmp_path / name, "--box", CORNERS]
    assert run(*arguments)[0] == 0
    assert not left.exists()
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize("command", ["segment", "convert"])
def test_a_failed_write_is_one_line_that_names_the_file(
    command: str, tmp_path: Path, run: Run, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / ("out.nii" if command == "segment" else "out.npz")
    option = ["-o"] if command == "segment" else []
    scan = save_scan(tmp_path)
    monkeypatch.setattr(Path, "replace", fail)
    status, log = run(command, scan, *option, out, "--click", "1,1,1")
    assert status == 1
    assert one_line(log)
    assert f"{out.name}: " in log
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_a_failing_segmenter_gives_a_degraded_result_and_verbose_shows_where(
    tmp_path: Path, run: Run
) -> None:
    scan = save_nifti(tmp_path / "scan.nii", np.arange(343, dtype=np.int16).reshape(7, 7, 7))
    out = tmp_path / "out.nii"
    arguments = ("segment", scan, "-o", out, "--box", "2,2,2,4,4,4", *FAILING)
    status, log = run(*arguments)
    assert status == 3
    assert "Traceback" not in log
    (line,) = (line for line in log.splitlines() if "RuntimeError: no luck with this one" in line)
    assert line.startswith("WARNING scan: ")
    assert load_nifti(out).any()
    assert "Traceback" in run(*arguments, "--verbose")[1]


def test_a_method_that_fails_as_a_whole_gives_one_line_and_no_result(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> object:
        raise MemoryError("478 GiB")

    monkeypatch.setattr(predict, "lift_in_memory", fail)
    scan = save_scan(tmp_path)
    status, log = run("segment", scan, "-o", tmp_path / "out.nii", "--click", "1,1,1", *THRESHOLD)
    assert (status, one_line(log)) == (1, True)
    assert "MemoryError: 478 GiB" in log
    assert [path.name for path in tmp_path.iterdir()] == [scan.name]


@pytest.mark.parametrize("name", ["scan.nii.gz", "link.nii.gz", "before.nii.gz"])
def test_segment_never_replaces_what_it_reads(
    name: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scan = save_scan(tmp_path)
    save_nifti(tmp_path / "before.nii.gz", block())
    (tmp_path / "link.nii.gz").symlink_to(scan)
    before = (tmp_path / name).read_bytes()
    options = ("--previous", tmp_path / "before.nii.gz", "--click", "1,1,1")
    status, log = run("segment", scan, "-o", f"./{name}", *options, *THRESHOLD)
    assert (status, one_line(log)) == (1, True)
    assert f"{name}: would replace the input" in log
    assert (tmp_path / name).read_bytes() == before


def test_the_last_line_says_what_was_found_and_where_it_is(
    tmp_path: Path, show: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = block(3)
    before[0, 0, 0] = 9
    save_nifti(tmp_path / "before.nii.gz", before)
    options = ("--label", "liver=3", "--click", "liver:10,6,5", "--previous", "before.nii.gz")
    status, out = show("segment", save_scan(tmp_path), "-o", "out.nii", *options, *THRESHOLD)
    # 9 x 6 x 6 voxels of 1.5 x 1.5 x 2 mm.
    last = "out.nii: liver: 324 voxels, 1.458 ml; 1 other label as before\n"
    assert (status, out) == (0, last)
    np.testing.assert_array_equal(load_nifti(tmp_path / "out.nii"), before)


def test_quiet_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    arguments = ("segment", save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS)
    with pytest.raises(SystemExit):
        main(["-q", *map(str, arguments)])
    assert capsys.readouterr() == ("", "")


def test_a_name_that_is_none_is_one_line(tmp_path: Path, run: Run) -> None:
    arguments = ("segment", save_scan(tmp_path), "-o", tmp_path / "out.nii", "--click", "1,1,1")
    status, log = run(*arguments, "--label", "liver")
    assert (status, one_line(log)) == (2, True)
    assert "--label liver: expected NAME=LABEL" in log


WARNINGS = {
    "scale": (["--scale", "tight", "--box", CORNERS], "scale tight has no effect, for it begins"),
    "negative": (["--negative", "10,6,5"], "there are negative clicks alone"),
    "voxel": (["--box", "10,6,5,10,6,5"], "the box is a single voxel"),
    "both": (["--click", "10,6,5", "--negative", "10,6,5"], "clicked as inside and as outside"),
    "image": (["--click", "20:10,6,5", "--previous", "scan.nii.gz"], "as if it were an image"),
    "nowhere": (["--negative", "1,1,1"], "the segmentation is empty"),
}


@pytest.mark.parametrize(("options", "message"), WARNINGS.values(), ids=WARNINGS)
def test_what_cannot_be_meant_is_warned_of(
    options: Sequence[str], message: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_scan(tmp_path)
    status, log = run("segment", "scan.nii.gz", "-o", "out.nii", *options, *THRESHOLD)
    assert status == (3 if "the segmentation is empty" in log else 0), log
    assert any(line.startswith("WARNING") and message in line for line in log.splitlines())


def test_a_click_finds_a_smaller_or_a_larger_target_by_its_scale(tmp_path: Path, run: Run) -> None:
    # A blob that fades away, so that no size stands out.
    i, j, k = np.ogrid[:48, :48, :24]
    squared_mm = (i - 24) ** 2 + (j - 24) ** 2 + (2 * (k - 12)) ** 2
    image = 300 * np.exp(-squared_mm / (2 * 8**2))
    image += np.random.default_rng(5).normal(0, 5, image.shape)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    scan = save_nifti(tmp_path / "scan.nii", image.astype(np.int16), affine)
    sizes = {}
    for scale in ("tight", "medium", "large"):
        out = tmp_path / f"{scale}.nii"
        status, log = run("segment", scan, "-o", out, "--click", "24,24,12", "--scale", scale)
        assert (status, "WARNING" in log) == (0, False)
        sizes[scale] = np.count_nonzero(load_nifti(out))
    assert run("segment", scan, "-o", out, "--click", "24,24,12")[0] == 0
    assert sizes["tight"] < sizes["medium"] < sizes["large"]
    assert np.count_nonzero(load_nifti(out)) == sizes["medium"]


def test_what_can_be_meant_is_not_warned_of(tmp_path: Path, run: Run) -> None:
    arguments = ("segment", save_scan(tmp_path), "-o", tmp_path / "out.nii", *THRESHOLD)
    status, log = run(*arguments, "--box", CORNERS, "--negative", "1,1,1")
    assert (status, "WARNING" in log) == (0, False)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "the image holds no finite number"), (-1000, "all voxels of the image are -1000")],
)
def test_an_image_without_contrast_is_warned_of(
    value: float, message: str, tmp_path: Path, run: Run
) -> None:
    scan = save_nifti(tmp_path / "scan.nii", np.full((9, 10, 11), value, np.float32))
    status, log = run("segment", scan, "-o", tmp_path / "out.nii", "--click", "4,4,4")
    assert status == 0, log
    assert log.startswith(f"WARNING scan: {message}")


def test_a_terminal_shows_how_many_slices_are_done(tmp_path: Path) -> None:
    arguments = ("segment", save_scan(tmp_path), "-o", tmp_path / "out.nii", "--box", CORNERS)
    shown = on_terminal(*arguments, *THRESHOLD)
    assert "Slices" in shown
    done, planned = re.findall(r"(\d+)/(\d+)", shown)[-1]
    # The box's axial slices, and as many coronal and sagittal ones as the block fills: 6 + 6 + 9.
    assert (done, planned) == ("21", "21")
    assert on_terminal(*arguments, *THRESHOLD, "--quiet") == ""


def test_a_name_that_no_label_has_is_warned_of(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_nifti(tmp_path / "before.nii.gz", block(3))
    options = ("--previous", "before.nii.gz", "--click", "2:1,1,1")
    arguments = ("segment", save_scan(tmp_path), "-o", "out.nii", *options, *THRESHOLD)
    unused = "WARNING scan.nii.gz: nothing has the label 4, named spleen\n"
    assert unused in run(*arguments, "--label", "spleen=4")[1]
    # Those of the prompts and of the earlier segmentation are there.
    assert "nothing has" not in run(*arguments, "--label", "a=2", "--label", "b=3")[1]

"""``gamt convert``: images to cases, and back."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gamt.io.case import read_case, write_case
from gamt.prompts import Box, ClassPrompts, Click
from tests.cli.calls import THRESHOLD, Run, one_line
from tests.cli.scans import CORNERS, block, load_nifti, save_nifti, save_scan
from tests.test_predict import BOX, SHAPE, bright_block, save

# mypy: allow-untyped-calls


def test_nifti_becomes_a_case_with_prompts(tmp_path: Path, run: Run) -> None:
    npz = tmp_path / "CT_scan.npz"
    prompts = ("--box", CORNERS, "--click", "10,6,5", "--negative", "0,1,2", "--click", "2:3,2,1")
    assert run("convert", save_scan(tmp_path), npz, *prompts)[0] == 0
    case = read_case(npz)
    np.testing.assert_array_equal(case.image, bright_block())
    assert case.image.dtype == np.uint8
    assert case.spacing_mm == (2.0, 1.5, 1.5)
    first = ClassPrompts(1, BOX, (Click(5, 6, 10, True), Click(2, 1, 0, False)))
    assert case.prompts == (first, ClassPrompts(2, None, (Click(1, 2, 3, True),)))


def test_true_labels_are_renumbered(tmp_path: Path, run: Run) -> None:
    scan = save_scan(tmp_path)
    truth = block(40).astype(np.int16)
    truth[0, 0, 0] = 1024
    labels = save_nifti(tmp_path / "labels.nii.gz", truth)
    npz = tmp_path / "CT_scan.npz"
    status, log = run("convert", scan, npz, "--labels", labels, "--box", f"40:{CORNERS}")
    assert status == 0
    assert "label 1024 became 2" in log
    with np.load(npz) as file:
        gts = file["gts"]
    expected = block().T.copy()
    expected[0, 0, 0] = 2
    np.testing.assert_array_equal(gts, expected)
    assert read_case(npz).prompts == (ClassPrompts(1, BOX), ClassPrompts(2))


def save_truth(folder: Path) -> Path:
    """Saves labels: 9 bends through (i, j, k), and 4 is `block`."""
    truth = block(4)
    truth[0:2, 0, 0] = truth[2:5, 1:3, 1] = truth[4, 3, 2] = 9
    return save_nifti(folder / "truth.nii.gz", truth)


def test_true_labels_alone_give_every_class_its_box(tmp_path: Path, run: Run) -> None:
    npz = tmp_path / "CT_scan.npz"
    arguments = ("convert", save_scan(tmp_path), npz, "--labels", save_truth(tmp_path))
    assert run(*arguments)[0] == 0
    block_box = replace(BOX, z_mid=6)  # the fourth one of six slices
    bent_box = Box(z_min=0, z_max=3, z_mid=1, y_min=1, y_max=3, x_min=2, x_max=5)
    assert read_case(npz).prompts == (ClassPrompts(1, block_box), ClassPrompts(2, bent_box))


def test_true_labels_can_do_without_boxes(tmp_path: Path, run: Run) -> None:
    npz = tmp_path / "CT_scan.npz"
    labels = save_truth(tmp_path)
    assert run("convert", save_scan(tmp_path), npz, "--labels", labels, "--no-boxes")[0] == 0
    with np.load(npz) as file:
        assert file.files == ["imgs", "spacing", "spacing_order", "gts"]
        assert file["gts"].max() == 2


def test_a_case_goes_to_nifti_and_back(tmp_path: Path, run: Run) -> None:
    npz = save(tmp_path / "in" / "a.npz")
    nifti, again = tmp_path / "a.nii.gz", tmp_path / "again.npz"
    assert run("convert", npz, nifti)[0] == 0
    np.testing.assert_array_equal(load_nifti(nifti), bright_block().T)
    assert run("convert", nifti, again, "--box", CORNERS)[0] == 0
    before, after = read_case(npz), read_case(again)
    np.testing.assert_array_equal(after.image, before.image)
    assert (after.spacing_mm, after.prompts) == (before.spacing_mm, before.prompts)


def test_a_segmentation_is_put_where_its_image_lies(tmp_path: Path, run: Run) -> None:
    affine = np.array([[0, 2.0, 0, 5], [0, 0, -3.0, 6], [1.0, 0, 0, 7], [0, 0, 0, 1]])
    array = np.full((9, 11, 13), 20, np.uint8)
    array[1:4, 3:8, 6:12] = 200
    scan = save_nifti(tmp_path / "scan.nii.gz", array, affine)
    assert run("convert", scan, tmp_path / "scan.npz", "--box", "1,3,6,3,7,11")[0] == 0
    assert run("predict", tmp_path / "scan.npz", tmp_path / "out", *THRESHOLD)[0] == 0
    back = tmp_path / "labels.nii"
    assert run("convert", tmp_path / "out" / "scan.npz", back, "--like", scan)[0] == 0
    np.testing.assert_array_equal(load_nifti(back), array > 127)
    np.testing.assert_array_equal(nib.load(back).affine, affine)  # type: ignore[attr-defined]


def test_a_file_without_spacing_gets_1_mm_and_a_warning(tmp_path: Path, run: Run) -> None:
    np.savez_compressed(tmp_path / "a.npz", segs=block().T)
    status, log = run("convert", tmp_path / "a.npz", tmp_path / "a.nii")
    assert status == 0
    assert log.startswith("WARNING a.npz: no spacing")
    np.testing.assert_array_equal(load_nifti(tmp_path / "a.nii"), block())


@pytest.mark.parametrize("key", ["gts", "prev_pred"])
def test_the_key_chooses_the_volume(key: str, tmp_path: Path, run: Run) -> None:
    volumes = {"gts": block().T, "prev_pred": np.zeros(SHAPE, np.uint8)}
    prompts = [ClassPrompts(1, BOX)]
    write_case(
        tmp_path / "a.npz", bright_block(), (1, 1, 1), prompts, volumes["gts"], volumes["prev_pred"]
    )
    assert run("convert", tmp_path / "a.npz", tmp_path / "a.nii", "--key", key) == (0, "")
    np.testing.assert_array_equal(load_nifti(tmp_path / "a.nii"), volumes[key].T)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["scan.nii.gz", "a.npz"], 2, "at least one --box, --click, --negative or --labels"),
        (["scan.nii.gz", "a.nii"], 2, "ends in .npz, for scan.nii.gz is an image"),
        (["scan.nii.gz", "a.npz", "--like", "scan.nii.gz"], 2, "npz to an image"),
        (["scan.nii.gz", "a.npz", "--key", "gts"], 2, "--key: only for npz to an image"),
        (["scan.nii.gz", "a.npz", "--labels", "scan.nii.gz", "--click", "3:1,1,1"], 2, "label 3"),
        (["none.nii.gz", "a.npz", "--click", "1,1,1"], 1, "none.nii.gz"),
        (["case.npz", "a.npz"], 2, "ends in one of .mha, .mhd, .nii, .nii.gz"),
        (["case.npz", "a.nii", "--click", "1,1,1", "--ras"], 2, ": --click, --ras: only for an"),
        (["case.npz", "a.nii", "--no-boxes"], 2, "an image to npz"),
        (["scan.nii.gz", "a.npz", "--click", "1,1,1", "--no-boxes"], 2, "--labels"),
        (["case.npz", "a.nii", "--key", "segs"], 1, "no such key"),
        (["case.npz", "a.nii", "--key", "nonsense"], 1, "no such key"),
        (["case.npz", "a.nii", "--like", "small.nii"], 1, "small.nii"),
        (["none.npz", "a.nii"], 1, "no such file"),
        (["broken.npz", "a.nii"], 1, "broken.npz"),
        (["flat.npz", "a.nii"], 1, "float64 of shape (3,)"),
    ],
)
def test_conversions_that_make_no_sense_are_one_line(
    arguments: Sequence[str],
    status: int,
    message: str,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_scan(tmp_path)
    save(tmp_path / "case.npz")
    save_nifti(tmp_path / "small.nii", np.zeros((2, 2, 2), np.uint8))
    (tmp_path / "broken.npz").write_bytes(b"no zip file")
    np.savez(tmp_path / "flat.npz", imgs=np.zeros(3))
    found, log = run("convert", *arguments)
    assert (found, one_line(log)) == (status, True)
    assert message in log
    assert not (tmp_path / "a.nii").exists()
    assert not (tmp_path / "a.npz").exists()


def test_a_prompt_takes_the_name_of_its_label(tmp_path: Path, run: Run) -> None:
    npz = tmp_path / "CT_scan.npz"
    names = ("--label", "spleen=9", "--label", "liver=4")
    prompts = ("--box", f"liver:{CORNERS}", "--click", "spleen:3,2,1")
    assert run("convert", save_scan(tmp_path), npz, *names, *prompts)[0] == 0
    assert read_case(npz).prompts == (
        ClassPrompts(1, BOX),
        ClassPrompts(2, None, (Click(1, 2, 3, True),)),
    )


def test_a_name_that_no_label_has_is_warned_of(tmp_path: Path, run: Run) -> None:
    names = ("--label", "liver=4", "--label", "spleen=9", "--label", "spine=5")
    truth = save_truth(tmp_path)  # labels 4 and 9
    scan = save_scan(tmp_path)
    status, log = run("convert", scan, tmp_path / "CT_a.npz", *names, "--labels", truth)
    assert (status, log) == (
        0,
        "WARNING scan.nii.gz: nothing has the label 5, named spine\n"
        "INFO liver became 1\nINFO spleen became 2\n",
    )
    npz = tmp_path / "a.npz"
    np.savez_compressed(npz, segs=4 * block().T, spacing=(2.0, 1.5, 1.0))
    status, log = run("convert", npz, tmp_path / "a.nii", *names[:4])
    assert (status, log) == (
        0,
        "WARNING a.npz: nothing has the label 9, named spleen\n"
        "WARNING a.nii: label names aren't written, .seg.nrrd keeps them\n",
    )


def test_names_are_kept_in_a_segmentation_that_has_a_place_for_them(
    tmp_path: Path, run: Run
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    npz, target = tmp_path / "a.npz", tmp_path / "organs.seg.nrrd"
    np.savez_compressed(npz, segs=4 * block().T, spacing=(2.0, 1.5, 1.0))
    assert run("convert", npz, target, "--label", "left kidney=4") == (0, "")
    assert sitk.ReadImage(str(target)).GetMetaData("Segment0_Name") == "left kidney"


def test_the_suffix_may_be_in_upper_case(tmp_path: Path, run: Run) -> None:
    target = tmp_path / "CT_SCAN.NPZ"
    assert run("convert", save_scan(tmp_path), target, "--box", CORNERS)[0] == 0
    assert read_case(target).prompts == (ClassPrompts(1, BOX),)

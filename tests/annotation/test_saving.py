"""A document's files: what is saved is what was annotated, and nothing else is overwritten."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gamt.annotation.grid import to_page
from gamt.annotation.prompts import DrawnPrompt
from gamt.annotation.saving import file_name, formats_of, save, tell_losses
from gamt.axes import Plane
from gamt.io.case import read_case
from gamt.io.files import OverwriteError
from gamt.io.image import read_image, read_label_names, read_labels, write_image
from gamt.io.prompts_file import SavedPrompts, read_prompts
from gamt.prompts import Box, Click, Lasso, Region, Scribble, SliceBox
from gamt.windows import IntensityWindow
from tests.annotation.scans import (
    LIVER,
    LIVER_BOX,
    SHAPE,
    SPLEEN,
    SPLEEN_BOX,
    Annotation,
    make_image,
)
from tests.doubles import picture

# mypy: allow-untyped-calls


def annotated(folder: Path, orientation: tuple[str, str, str] = ("A", "R", "S")) -> Annotation:
    """Returns a scan with a liver and a spleen, whose target has the label 4."""
    scan = Annotation.of(make_image(folder, orientation=orientation, tilt=0.2))
    scan.document.change_target(1, name="liver")
    for _ in range(3):
        spleen = scan.document.add_target()
    scan.document.change_target(spleen, name="spleen")
    scan.add(scan.box(LIVER_BOX))
    scan.add(scan.box(SPLEEN_BOX), spleen)
    scan.add(scan.point((0, 0, 0), positive=False))
    return scan


def load(path: Path, scan: Annotation) -> SavedPrompts:
    return read_prompts(path, scan.document.image, {}, lambda: 1)


def test_a_label_map_has_the_scans_grid_and_its_prompts_beside_it(tmp_path: Path) -> None:
    scan = annotated(tmp_path)
    files = save(scan.document, "nifti", tmp_path, "statistical", ())
    assert [one.name for one in files] == ["scan_seg.nii.gz", "scan_seg.prompts.json"]
    expected = np.where(LIVER, 1, 0) + np.where(SPLEEN, 4, 0)
    np.testing.assert_array_equal(read_labels(files[0], scan.document.image), expected)
    written, source = (nib.load(one) for one in (files[0], scan.document.image.path))
    assert written.shape == source.shape  # type: ignore[attr-defined]
    np.testing.assert_allclose(written.affine, source.affine)  # type: ignore[attr-defined]
    saved = load(files[1], scan)
    assert saved.names == {1: "liver", 4: "spleen"}
    # In order of time.
    assert [(one.label, one.prompt) for one in saved.prompts] == [
        (1, Box(3, 9, 5, 2, 9, 2, 9)),
        (4, Box(3, 8, 5, 10, 15, 12, 18)),
        (1, Click(0, 0, 0, positive=False)),
    ]
    assert saved.windows == {1: IntensityWindow(0, 255), 4: IntensityWindow(0, 255)}
    assert json.loads(files[1].read_text())["version"] == 1  # earlier versions of gamt read it


def test_every_kind_of_prompt_is_saved(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path, orientation=("S", "R", "A")))
    scan.add(scan.box([[5, 6], [2, 9], [2, 9]]))
    i, j, k = to_page((4, 4, 4), SHAPE)
    square = ((i - 2.5, j - 1.5), (i + 1.5, j - 1.5), (i + 1.5, j + 1.5), (i - 2.5, j + 1.5))
    triangle = ((i - 2.5, j - 2.5), (i + 2.5, j - 2.5), (i - 2.5, j + 2.5))
    scan.add(DrawnPrompt("lasso", Plane.AXIAL, k, square, 0.0, positive=True))
    scan.add(DrawnPrompt("scribble", Plane.CORONAL, j, ((i - 1, k), (i + 1, k)), 0.0, True))
    scan.add(DrawnPrompt("scribble", Plane.SAGITTAL, 1, ((2, 2), (3, 3)), 0.0, False))
    scan.add(scan.box([[8, 9], [2, 4], [2, 4]], positive=False))
    scan.add(DrawnPrompt("lasso", Plane.AXIAL, 7, triangle, 0.0, positive=False))
    (path,) = save(scan.document, "prompts", tmp_path, "statistical", ())
    assert json.loads(path.read_text())["version"] == 2  # earlier versions of gamt refuse it
    box, lasso, line, diagonal, block, area = (one.prompt for one in load(path, scan).prompts)
    assert box == SliceBox(Plane.AXIAL, (5, 2, 2), (6, 9, 9))
    # (i, j) from -2 to +1 and from -1 to +1 around x = 4, y = 4, and both run the other way.
    assert isinstance(lasso, Lasso)
    assert (lasso.low, lasso.high) == ((4, 3, 3), (5, 6, 7))
    assert lasso.mask.all()
    assert isinstance(line, Scribble)
    assert (line.voxels.tolist(), line.positive) == ([[4, 4, 3], [4, 4, 4], [4, 4, 5]], True)
    assert isinstance(diagonal, Scribble)
    # Sagittal points are (j, k): j of 2 and 3 is y of 13 and 12, and i of 1 is x of 18.
    assert diagonal.voxels.tolist() == [[2, 13, 18], [3, 12, 18]]
    assert not diagonal.positive
    assert isinstance(block, Region)
    assert (block.low, block.high) == ((8, 2, 2), (9, 4, 4))
    assert block.mask.all()
    assert isinstance(area, Region)
    # A triangle with its right angle towards left and back, where x and y are largest: rows of
    # y = 2..6 and columns of x = 2..6 without the centres beyond or on its longest side.
    assert area.low[0] == 7
    assert (area.mask.shape[0], area.positive) == (1, False)
    assert area.mask.sum() < area.mask[0].size


def test_a_scans_own_format_keeps_the_names_of_labels(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    write_image(tmp_path / "scan.nrrd", picture(LIVER | SPLEEN), spacing_mm=(4.0, 1.5, 0.5))
    scan = Annotation.of(read_image(tmp_path / "scan.nrrd"))
    assert [one.id for one in formats_of(scan.document)] == ["nifti", "input", "prompts", "npz"]
    scan.document.change_target(1, name="liver")
    scan.add(scan.box(LIVER_BOX))
    files = save(scan.document, "input", tmp_path, "statistical", ())
    assert [one.name for one in files] == ["scan_seg.seg.nrrd", "scan_seg.prompts.json"]
    assert read_label_names(files[0]) == {1: "liver"}
    np.testing.assert_array_equal(read_labels(files[0], scan.document.image), LIVER)


def test_a_nifti_scan_has_no_other_format_of_its_own(tmp_path: Path) -> None:
    scan = annotated(tmp_path)
    assert [one.id for one in formats_of(scan.document)] == ["nifti", "prompts", "npz"]
    assert file_name(scan.document, "npz") == "scan_seg.npz"
    with pytest.raises(ValueError, match="found the format 'input', expected one of nifti"):
        save(scan.document, "input", tmp_path, "statistical", ())


def test_a_challenge_case_has_boxes_and_points_and_says_what_it_lacks(tmp_path: Path) -> None:
    scan = annotated(tmp_path)
    expected = "the labels are numbered anew (liver: 1, spleen: 2)"
    assert tell_losses(scan.document, "npz") == expected
    scan.add(scan.box([[0, 2], [0, 2], [0, 2]], positive=False), 4)
    (path,) = save(scan.document, "npz", tmp_path, "statistical", ())
    losses = tell_losses(scan.document, "npz")
    assert losses is not None
    assert losses.startswith("1 prompt is left out: the file holds points, and one box in 3-D")
    assert tell_losses(scan.document, "nifti") is None
    case = read_case(path)
    np.testing.assert_array_equal(case.image, scan.document.image.array)
    # The file's first axis, of 0.5 mm, runs to the front: it is y.
    assert case.spacing_mm == pytest.approx((4.0, 0.5, 1.5))
    # A session takes (3 + 9) // 2 for the slice that a box was drawn on.
    assert [one.box for one in case.prompts] == [
        Box(3, 9, 6, 2, 9, 2, 9),
        Box(3, 8, 5, 10, 15, 12, 18),
    ]
    assert [one.clicks for one in case.prompts] == [(Click(0, 0, 0, positive=False),), ()]
    assert case.previous is not None
    np.testing.assert_array_equal(case.previous, np.where(LIVER, 1, 0) + np.where(SPLEEN, 2, 0))


def test_a_challenge_case_without_a_box_or_point_is_refused(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path))
    scan.add(scan.box([[5, 6], [2, 9], [2, 9]]))
    with pytest.raises(ValueError, match="boxes in 3-D and points: there are none"):
        save(scan.document, "npz", tmp_path, "statistical", ())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["scan.nii.gz"]


def test_nothing_to_save_is_an_error(tmp_path: Path) -> None:
    scan = Annotation.of(make_image(tmp_path))
    with pytest.raises(ValueError, match="there is nothing to save yet: mark a target first"):
        save(scan.document, "nifti", tmp_path, "statistical", ())


@pytest.mark.parametrize("name", ["scan_seg.nii.gz", "scan_seg.prompts.json"])
def test_a_file_of_another_run_is_replaced_only_if_that_is_asked_for(
    name: str, tmp_path: Path
) -> None:
    scan = annotated(tmp_path)
    (tmp_path / name).write_bytes(b"earlier")
    with pytest.raises(OverwriteError, match=f"{name}: is there already"):
        save(scan.document, "nifti", tmp_path, "statistical", ())
    assert (tmp_path / name).read_bytes() == b"earlier"


def test_files_of_this_run_and_those_asked_for_are_replaced(tmp_path: Path) -> None:
    scan = annotated(tmp_path)
    files = save(scan.document, "nifti", tmp_path, "statistical", ())
    scan.document.reset(scan.session, 4)
    save(scan.document, "nifti", tmp_path, "statistical", set(files))
    assert set(np.unique(read_labels(files[0], scan.document.image))) == {0, 1}
    scan.document.reset(scan.session, 1)
    scan.undo(4)
    save(scan.document, "nifti", tmp_path, "statistical", None)
    assert set(np.unique(read_labels(files[0], scan.document.image))) == {0, 4}


def test_other_content_in_the_place_of_prompts_is_never_replaced(tmp_path: Path) -> None:
    scan = annotated(tmp_path)
    (tmp_path / "scan_seg.prompts.json").write_text("{}")
    with pytest.raises(OverwriteError, match="found a file that gamt did not write"):
        save(scan.document, "nifti", tmp_path, "statistical", None)
    assert not (tmp_path / "scan_seg.nii.gz").exists()


def test_where_the_label_map_cannot_be_written_no_prompts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = annotated(tmp_path)

    def fail(*args: object, **others: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gamt.annotation.saving.write_image", fail)
    with pytest.raises(OSError, match="No space left"):
        save(scan.document, "nifti", tmp_path, "statistical", ())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["scan.nii.gz"]

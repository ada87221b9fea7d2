"""Image formats through the command line: the same scan gives the same result in each."""

# nibabel has types in part only.
# mypy: allow-untyped-calls

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from gamt.cli.app import main
from gamt.io.image import read_image, read_label_names, write_image
from tests.io.formats.dicom_series import write_series

Run = Callable[..., tuple[int, str]]

THICK = (0.8, 0.8, 6.0)  # mm, along the file's axes: slices of 6 mm along the third
SHAPE = (48, 48, 12)
CENTRE = (18.0, 20.0, 33.0)  # mm from the first voxel, along the file's axes
RADIUS = 14.0  # mm


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line here; returns the exit status and what is on standard error."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return int(end.value.code or 0), capsys.readouterr().err

    return call


def affine_of(*directions: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """Returns the affine of a file whose axes run in the given RAS directions."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(directions).T * THICK
    affine[:3, 3] = (-20.0, 55.0, 130.0)
    return affine


AXIAL = affine_of((-1, 0, 0), (0, -1, 0), (0, 0, 1))  # slices from the feet to the head
SAGITTAL = affine_of((0, -1, 0), (0, 0, -1), (1, 0, 0))  # slices from left to right


def ball() -> npt.NDArray[np.bool_]:
    axes = [np.arange(size) * step for size, step in zip(SHAPE, THICK, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    squares = [(axis - centre) ** 2 for axis, centre in zip(grid, CENTRE, strict=True)]
    return np.asarray(sum(squares) <= RADIUS**2)


def scan() -> npt.NDArray[np.int16]:
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    return (np.where(ball(), 130, 80) + noise).astype(np.int16)


def save_nifti(path: Path, affine: npt.NDArray[np.float64]) -> Path:
    nib.save(nib.Nifti1Image(scan(), affine), path)
    return path


def click_at_centre(affine: npt.NDArray[np.float64]) -> str:
    """Returns the centre of the ball as a prompt for ``--ras``."""
    voxel = np.divide(CENTRE, THICK)
    return ",".join(f"{mm:.3f}" for mm in (affine @ (*voxel, 1))[:3])


def dice_of_click(run: Run, source: Path, affine: npt.NDArray[np.float64], output: Path) -> float:
    """Segments the ball from a click in it; returns the Dice with the truth."""
    click = click_at_centre(affine)
    status, log = run("segment", source, "-o", output, "--ras", f"--click={click}")
    assert status == 0, log
    image = read_image(output)
    np.testing.assert_allclose(image.affine @ image.turn, affine, atol=1e-4)
    truth = output.with_name("truth.nii")
    nib.save(nib.Nifti1Image(ball().astype(np.uint8), affine), truth)
    expected = read_image(truth).array > 0
    found = image.array > 0
    return float(2 * (found & expected).sum() / (found.sum() + expected.sum()))


def test_a_sagittal_scan_is_segmented_as_an_axial_one(tmp_path: Path, run: Run) -> None:
    dice = [
        dice_of_click(run, save_nifti(tmp_path / "scan.nii", affine), affine, tmp_path / "out.nii")
        for affine in (AXIAL, SAGITTAL)
    ]
    # The walks begin from another side, so single voxels of the edge may differ.
    assert dice[1] == pytest.approx(dice[0], abs=0.01)
    assert min(dice) > 0.95


def test_a_sagittal_scan_is_segmented_alike_in_every_format(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("SimpleITK")
    nifti = save_nifti(tmp_path / "scan.nii.gz", SAGITTAL)
    image = read_image(nifti)
    for suffix in (".nrrd", ".mha", ".mhd"):
        write_image(tmp_path / f"scan{suffix}", image.array, like=image)
    series = write_series(tmp_path / "series", scan(), SAGITTAL)
    sources = {
        nifti: ".nii.gz",
        tmp_path / "scan.nrrd": ".seg.nrrd",
        tmp_path / "scan.mha": ".MHA",
        tmp_path / "scan.mhd": ".mhd",
        series: ".nrrd",
        sorted(series.iterdir())[3]: ".NII.GZ",
    }
    dice = [
        dice_of_click(run, source, SAGITTAL, tmp_path / f"out{suffix}")
        for source, suffix in sources.items()
    ]
    assert dice == pytest.approx([dice[0]] * len(dice), abs=0.005)
    assert dice[0] > 0.95


@pytest.mark.parametrize("like", [True, False])
def test_a_sagittal_scan_keeps_its_voxels_size_through_npz(
    like: bool, tmp_path: Path, run: Run
) -> None:
    nifti = save_nifti(tmp_path / "scan.nii", SAGITTAL)
    npz, back = tmp_path / "MR_scan.npz", tmp_path / "back.nii"
    assert run("convert", nifti, npz, "--click", "20,20,5")[0] == 0
    status, log = run("convert", npz, back, *(["--like", nifti] if like else []))
    assert (status, log) == (0, "")
    image = read_image(back)
    # z is the file's second axis, y its first, and x its third, with the thick slices.
    assert image.spacing_mm == pytest.approx((0.8, 0.8, 6.0))
    np.testing.assert_array_equal(image.array, read_image(nifti).array)
    if like:
        np.testing.assert_array_equal(
            nib.load(back).affine,  # type: ignore[attr-defined]
            nib.load(nifti).affine,  # type: ignore[attr-defined]
        )


@pytest.mark.parametrize("command", ["segment", "convert"])
def test_of_several_volumes_one_is_chosen(command: str, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "series.nii"
    nib.save(nib.Nifti1Image(np.stack([0 * scan(), scan()], axis=-1), AXIAL), path)
    out = tmp_path / ("out.nii" if command == "segment" else "out.npz")
    target = ["-o", out] if command == "segment" else [out]
    arguments = (command, path, *target, "--click", "22,25,5")
    status, log = run(*arguments)
    message = "found 2 volumes, expected one, chosen by its number from 0 to 1 (--volume)"
    assert (status, log) == (2, f"gamt: series.nii: {message}\n")
    assert run(*arguments, "--volume", "1")[0] == 0
    assert out.exists()


def test_one_of_several_volumes_is_what_an_npz_may_lie_on(tmp_path: Path, run: Run) -> None:
    path, npz, back = tmp_path / "series.nii", tmp_path / "CT_a.npz", tmp_path / "back.nii"
    nib.save(nib.Nifti1Image(np.stack([0 * scan(), scan()], axis=-1), SAGITTAL), path)
    assert run("convert", path, npz, "--click", "22,25,5", "--volume", "1")[0] == 0
    assert run("convert", npz, back, "--like", path, "--volume", "1") == (0, "")
    np.testing.assert_array_equal(np.asanyarray(nib.load(back).dataobj), scan())  # type: ignore[attr-defined]
    status, log = run("convert", npz, back, "--volume", "1")
    assert (status, log.count("\n")) == (2, 1)
    assert "--volume is for images" in log


@pytest.mark.parametrize("number", ["2", "-1"])
def test_a_volume_that_is_not_there_is_one_line(number: str, tmp_path: Path, run: Run) -> None:
    path = save_nifti(tmp_path / "scan.nii", AXIAL)
    out = tmp_path / "out.nii"
    status, log = run("segment", path, "-o", out, "--click", "22,25,5", "--volume", number)
    message = f"found 1 volume and the number {number}, expected no number, or 0 (--volume)"
    assert (status, log) == (2, f"gamt: scan.nii: {message}\n")
    assert not out.exists()


def test_dicom_is_not_written(tmp_path: Path, run: Run) -> None:
    path = save_nifti(tmp_path / "scan.nii", AXIAL)
    status, log = run("segment", path, "-o", tmp_path / "out.dcm", "--click", "22,25,5")
    assert (status, log.count("\n")) == (2, 1)
    assert "out.dcm: DICOM is read but not written, expected a name that ends in one of" in log


def test_without_simpleitk_the_error_names_the_extra_before_the_work(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamt.io.formats.find_spec", lambda name: None)
    path = save_nifti(tmp_path / "scan.nii", AXIAL)
    status, log = run("segment", path, "-o", tmp_path / "out.nrrd", "--click", "22,25,5")
    assert (status, log.count("\n")) == (2, 1)
    assert "out.nrrd: NRRD needs the package SimpleITK: pip install 'gamt[itk]'" in log


@pytest.mark.parametrize("replaced", ["scan.nii", "truth.npz"])
def test_convert_replaces_none_of_its_inputs(replaced: str, tmp_path: Path, run: Run) -> None:
    path = save_nifti(tmp_path / "scan.nii", AXIAL)
    truth = tmp_path / "truth.npz"  # a NIfTI file by what it holds
    truth.write_bytes(nib.Nifti1Image(ball().astype(np.uint8), AXIAL).to_bytes())
    before = (tmp_path / replaced).read_bytes()
    status, log = run("convert", path, tmp_path / replaced, "--labels", truth)
    assert (status, log.count("\n")) == (1, 1)
    assert f"{replaced}: would replace the input" in log
    assert (tmp_path / replaced).read_bytes() == before


def test_a_previous_mask_on_another_grid_needs_to_be_resampled(tmp_path: Path, run: Run) -> None:
    path = save_nifti(tmp_path / "scan.nii", AXIAL)
    # Every other voxel in plane: twice the size, at the same places.
    coarse = AXIAL.copy()
    coarse[:3, :2] *= 2
    mask = 255 * ball()[::2, ::2].astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, coarse), tmp_path / "before.nii")
    out = tmp_path / "out.nii"
    options = ("--previous", tmp_path / "before.nii", "--negative", "0,0,0")
    status, log = run("segment", path, "-o", out, *options)
    assert (status, log.count("\n")) == (2, 1)
    grids = "found {} x {} x {}, expected {} x {} x {}".format(*mask.shape, *ball().shape)
    told = f"before.nii: lies on another grid of voxels than scan.nii: {grids}; --resample-previous"
    assert told in log
    status, log = run("segment", path, "-o", out, *options, "--resample-previous")
    assert status == 0, log
    found = np.asanyarray(nib.load(out).dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found[::2, ::2], mask)


def test_a_prompt_without_a_label_beside_a_mask_of_several_is_one_line(
    tmp_path: Path, run: Run
) -> None:
    path = save_nifti(tmp_path / "scan.nii", AXIAL)
    labels = 3 * ball().astype(np.uint8)
    labels[0, 0, 0] = 7
    nib.save(nib.Nifti1Image(labels, AXIAL), tmp_path / "before.nii")
    options = ("--previous", tmp_path / "before.nii", "--negative", "22,25,5")
    status, log = run("segment", path, "-o", tmp_path / "out.nii", *options)
    assert (status, log.count("\n")) == (2, 1)
    assert "found a prompt without a label, and in the earlier segmentation the labels 3, 7" in log


def test_names_of_an_earlier_segmentation_are_kept_and_may_be_used(
    tmp_path: Path, run: Run
) -> None:
    pytest.importorskip("SimpleITK")
    path = save_nifti(tmp_path / "scan.nii", AXIAL)
    first, second = tmp_path / "first.seg.nrrd", tmp_path / "second.seg.nrrd"
    options = ("--label", "ball=3", "--label", "rest=7", "--click", "ball:22,25,5")
    assert run("segment", path, "-o", first, *options)[0] == 0
    again = ("--previous", first, "--negative", "ball:0,0,0", "--label", "edge=7")
    status, log = run("segment", path, "-o", second, *again, "--click", "edge:1,1,1")
    assert status == 0, log
    assert read_label_names(second) == {3: "ball", 7: "edge"}

"""``gamt explain``: the page of a case or an image."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gamt import predict
from gamt.cli.app import main
from gamt.io.case import write_case
from gamt.prompts import ClassPrompts
from tests.cli.calls import FAILING, THRESHOLD
from tests.cli.scans import save_nifti
from tests.doubles import picture
from tests.explain.examples import BODY, BOX, SPACING
from tests.test_predict import save_unlucky


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
    text = (tmp_path / "CT_a.html").read_text(encoding="utf-8")
    assert "<h1>How CT_a was segmented</h1>" in text
    assert "Dice" in text


def test_the_page_goes_where_it_is_told(tmp_path: Path) -> None:
    case = save(tmp_path / "CT_a.npz")
    arguments = ("--segmenter", "tests.test_predict:ThresholdSegmenter", "--set", "planes=axial")
    assert call(case, "--out", tmp_path / "why.html", "--no-budget", *arguments) == 0
    text = (tmp_path / "why.html").read_text(encoding="utf-8")
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
    for name in ("page", "montage", "drawing", "html"):
        monkeypatch.delitem(sys.modules, f"gamt.explain.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert call(save(tmp_path / "a.npz"), "--out", tmp_path / "a.html") == 2
    error = capsys.readouterr().err
    commands = "pip install 'gamt[explain]', in a clone 'make setup'"
    assert error == f"gamt: gamt explain needs the package {package}: {commands}\n"


# `BODY` in a NIfTI file whose axes (i, j, k) are (x, y, z).
CORNERS = "6,4,2,17,11,6"


def save_images(folder: Path) -> None:
    """Saves an image with `BODY`, and as its truth `BODY` as label 40 with label 7 beside it."""
    truth = np.where(BODY, 40, 0).astype(np.uint8)
    truth[0, 0, 0] = 7
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    save_nifti(folder / "scan.nii.gz", picture(BODY).T, affine)
    save_nifti(folder / "truth.nii.gz", truth.T, affine)


def test_an_image_is_explained_by_the_prompts_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path)
    names = ("--label", "liver=40", "--label", "spleen=50")
    prompts = ("--box", f"liver:{CORNERS}", "--click", "spleen:1,1,1")
    # The click is on background, where the segmenter finds nothing.
    assert call("scan.nii.gz", *names, *prompts, "--labels", "truth.nii.gz", *THRESHOLD) == 3
    assert capsys.readouterr().out == "scan.html\n"
    text = (tmp_path / "scan.html").read_text(encoding="utf-8")
    assert "<h1>How scan was segmented</h1>" in text
    assert "<h2>liver: Dice 1.000</h2>" in text
    assert "<h2>spleen" in text
    assert "Box on slice z 4: z 2–6, y 4–11, x 6–17." in text


def test_a_case_takes_names_but_no_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    case = save(tmp_path / "a.npz")
    assert call(case, "--label", "liver=1", *THRESHOLD) == 0
    assert "<h2>liver</h2>" in (tmp_path / "a.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert call(case, "--click", "1,1,1") == 2
    assert capsys.readouterr().err == (
        f"gamt: --click: only for images; {case} is a case, which has its own prompts\n"
    )


def test_the_error_names_the_options_that_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = save(tmp_path / "a.npz")
    assert call(case, "--prompts", "a.json", "--resample-previous", "--volume", "0") == 2
    error = capsys.readouterr().err
    assert error.startswith("gamt: --prompts, --resample-previous, --volume: only for images; ")


def test_a_name_that_no_class_has_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(save(tmp_path / "a.npz"), "--label", "liver=2", *THRESHOLD) == 0
    warning = "WARNING a.npz: nothing has the label 2, named liver\n"
    assert warning in capsys.readouterr().err


def test_the_page_of_an_image_has_its_name_without_the_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path)
    (tmp_path / "scan.nii.gz").rename(tmp_path / "SCAN.1.NII.GZ")
    assert call("SCAN.1.NII.GZ", "--box", CORNERS, *THRESHOLD) == 0
    assert capsys.readouterr().out == "SCAN.1.html\n"


def test_an_image_without_prompts_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path)
    assert call("scan.nii.gz") == 2
    assert capsys.readouterr().err == (
        "gamt: expected at least one --box, --click, --negative or --prompts\n"
    )


def test_the_page_never_replaces_what_it_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    case = save(tmp_path / "a.npz")
    before = case.read_bytes()
    (tmp_path / "a.html").symlink_to(case)
    assert call(case) == 1
    assert "would replace the input" in capsys.readouterr().err
    assert case.read_bytes() == before


def test_a_failing_segmenter_gives_a_page_that_says_so_and_status_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = save_unlucky(tmp_path / "a.npz")
    out = tmp_path / "why.html"
    assert call(case, "--out", out, "--no-budget", *FAILING) == 3
    assert "no luck with this one" in out.read_text(encoding="utf-8")
    log = capsys.readouterr().err
    assert "RuntimeError: no luck with this one" in log
    assert "Traceback" not in log


def test_a_method_that_fails_as_a_whole_gives_one_line_and_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> object:
        raise MemoryError("478 GiB")

    monkeypatch.setattr(predict, "lift_in_memory", fail)
    case = save_unlucky(tmp_path / "a.npz")
    assert call(case, "--out", tmp_path / "why.html") == 1
    log = capsys.readouterr().err
    assert "MemoryError: 478 GiB" in log
    assert log.count("\n") == 1
    assert not (tmp_path / "why.html").exists()

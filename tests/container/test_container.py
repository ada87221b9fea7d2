"""The container, under the challenge's own command (docs/challenge.md, 1), by a real engine."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.container import copy_context
from benchmarks.image import Image
from benchmarks.samples import FOLDER as SAMPLES
from evaluation.methods import parse_method
from evaluation.records import COLUMNS, TeamFolder
from evaluation.run import evaluate_folder

pytestmark = pytest.mark.container

BOXED = ("CT_phantom", "MR_phantom", "PET_phantom", "US_phantom")
CLICKED = "CT_vessels_phantom"


def put(folder: Path, *names: str) -> None:
    """Puts sample cases into the folder's inputs/."""
    for name in names:
        shutil.copy(SAMPLES / f"{name}.npz", folder / "inputs")


def check_output(folder: Path, name: str) -> None:
    """Checks that there is a segmentation of a case."""
    with (
        np.load(SAMPLES / f"{name}.npz") as case,
        np.load(folder / "outputs" / f"{name}.npz") as one,
    ):
        assert one["segs"].shape == case["gts"].shape
        assert one["segs"].dtype == np.uint8
        assert set(np.unique(one["segs"])) == set(range(case["gts"].max() + 1))
        assert str(one["segmenter"]) == "statistical"


@pytest.mark.parametrize("name", BOXED)
def test_a_case_with_boxes_is_segmented(image: Image, folder: Path, name: str) -> None:
    put(folder, name)
    image.predict(folder)
    check_output(folder, name)
    assert [path.name for path in (folder / "outputs").iterdir()] == [f"{name}.npz"]


def test_a_case_without_a_box_is_segmented(image: Image, folder: Path) -> None:
    put(folder, CLICKED)
    image.predict(folder)
    check_output(folder, CLICKED)


def test_two_files_are_segmented_at_once(image: Image, folder: Path) -> None:
    put(folder, "PET_phantom", "US_phantom")
    image.predict(folder)
    for name in ("PET_phantom", "US_phantom"):
        check_output(folder, name)


def test_a_broken_file_does_not_keep_the_others_from_it(image: Image, folder: Path) -> None:
    put(folder, "PET_phantom")
    (folder / "inputs" / "CT_broken.npz").write_bytes(b"no zip")
    log = image.predict(folder, status=4)
    assert "CT_broken.npz: found no zip archive" in log
    check_output(folder, "PET_phantom")


def test_an_earlier_output_is_replaced(image: Image, folder: Path) -> None:
    put(folder, "PET_phantom")
    (folder / "outputs" / "PET_phantom.npz").write_bytes(b"stale")
    image.predict(folder)
    check_output(folder, "PET_phantom")


@pytest.mark.parametrize(
    "options",
    [
        ("--user", "12345"),
        ("--read-only", "--tmpfs", "/tmp"),
        ("--network", "none"),
        ("--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--network", "none"),
        ("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    ],
    ids=" ".join,
)
def test_it_needs_no_rights(image: Image, folder: Path, options: tuple[str, ...]) -> None:
    put(folder, "PET_phantom")
    image.predict(folder, *options)
    check_output(folder, "PET_phantom")


def test_any_user_may_run_it_and_remove_its_files(image: Image, folder: Path) -> None:
    put(folder, "PET_phantom")
    image.predict(folder, "--user", "12345")
    output = folder / "outputs" / "PET_phantom.npz"
    assert output.stat().st_uid == 12345
    assert output.stat().st_mode & 0o444 == 0o444
    output.unlink()


def test_the_simulated_user_gets_the_same_as_without_a_container(
    image: Image, tmp_path: Path
) -> None:
    (tmp_path / "cases").mkdir()
    for name in ("PET_phantom", CLICKED):
        shutil.copy(SAMPLES / f"{name}.npz", tmp_path / "cases")
    tables = []
    for spec, team in ((f"{image.engine}:{image.name}", "container"), ("gamt", "process")):
        method = parse_method(spec, run_limit=600)
        result = evaluate_folder(
            tmp_path / "cases", None, spec, method, TeamFolder(tmp_path / team), run_limit=600
        )
        assert not result.failed
        for record in TeamFolder(tmp_path / team).iterate_records():
            assert [one.output for one in record.interactions].count("written") >= 5
            assert not any(one.failure for one in record.interactions)
        table = pd.read_csv(tmp_path / team / f"{team}_metrics.csv")
        tables.append(table.drop(columns=[name for name in COLUMNS if "RunningTime" in name]))
    container, process = tables
    pd.testing.assert_frame_equal(container, process, check_exact=True)


def test_it_is_the_working_folder_and_the_shell_that_the_challenge_wants(image: Image) -> None:
    assert image.show("/bin/bash", "-c", "pwd; ls").split() == [
        "/workspace",
        "predict.sh",
        "weights",
    ]


def test_no_entrypoint_eats_the_command(image: Image) -> None:
    assert image.show("echo", "hello") == "hello\n"


@pytest.mark.parametrize(
    "module", ["evaluation", "pandas", "numba", "pytest", "torch", "pip", "uv"]
)
def test_nothing_is_in_it_that_does_not_run(image: Image, module: str) -> None:
    script = f"import importlib.util as u; print(u.find_spec({module!r}))"
    assert image.show("python", "-c", script) == "None\n"


def test_all_bytecode_is_compiled(image: Image) -> None:
    script = (
        "import importlib.util as u, pathlib, sys;"
        "root = pathlib.Path(u.find_spec('gamt').origin).parents[1];"
        "print(*(p for p in root.rglob('*.py')"
        " if not pathlib.Path(u.cache_from_source(str(p))).exists()))"
    )
    assert image.show("python", "-c", script) == "\n"


def test_a_preset_whose_checkpoint_is_missing_fails_with_the_command_that_fetches_it(
    image: Image, tmp_path: Path
) -> None:
    context = copy_context(tmp_path / "context")
    log = image.call(
        *("build", "--network", "host", "--build-arg", "PRESET=all-data"),
        *("--target", "checkpoint", str(context)),
        status=1,
    )
    assert "gamt weights fetch sam_vit_l" in log
    assert "Traceback" not in log

"""Peers as methods of the evaluator: the real packages, in an environment of their own.

Weights are random. What is shown is that their own code runs from a case to the table of scores.
"""

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.records import COLUMNS
from gamt.io.case import write_case
from gamt.prompts import ClassPrompts, box_of_mask

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".tools" / "peers" / "bin" / "python"
HERE = Path(__file__).parent
SHAPE = (24, 40, 36)
SPACING_MM = (2.0, 1.0, 1.2)
PATIENCE_S = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cases/``, in which there is one case of two blocks with boxes."""
    if not PYTHON.exists():
        pytest.exit("no peers: `make test-peers` installs them", returncode=1)
    return write_blocks(tmp_path_factory.mktemp("peers"), classes=2)


@pytest.fixture(scope="module")
def one_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one block, for networks that take long on a CPU."""
    return write_blocks(tmp_path_factory.mktemp("one"), classes=1)


def write_blocks(folder: Path, classes: int) -> Path:
    """Writes a case of blocks with boxes into ``cases/`` of a folder, and returns that."""
    gts = np.zeros(SHAPE, np.uint8)
    gts[4:12, 6:20, 5:15] = 1
    if classes == 2:
        gts[8:20, 24:36, 16:32] = 2
    noise = np.random.default_rng(17).normal(0, 10, SHAPE)
    image = (60 + 60 * gts + noise).clip(0, 255).astype(np.uint8)
    prompts = [ClassPrompts(1 + i, box_of_mask(gts == 1 + i)) for i in range(classes)]
    (folder / "cases").mkdir()
    write_case(folder / "cases" / "CT_blocks.npz", image, SPACING_MM, prompts, gts)
    return folder


@pytest.fixture(scope="module")
def checkpoints(folder: Path) -> Iterator[Path]:
    """A folder of checkpoints with random weights, which is removed in the end: it is large."""
    make("point_standins.py", folder / "checkpoints")
    yield folder / "checkpoints"
    shutil.rmtree(folder / "checkpoints")


def make(program: str, *arguments: str | Path) -> None:
    """Runs one of the programs beside this file in the peers' environment."""
    subprocess.run([PYTHON, HERE / program, *arguments], check=True, timeout=PATIENCE_S)


def evaluate(folder: Path, method: str, name: str) -> subprocess.CompletedProcess[str]:
    """Evaluates a method in the peers' environment; results go to ``out/NAME/`` of the folder."""
    command: list[str | Path] = [PYTHON, "-m", "evaluation", "run", "--method", method]
    return subprocess.run(
        [*command, "--cases", folder / "cases", "--name", name, "--out", folder / "out"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def interactions(folder: Path, name: str) -> list[dict[str, Any]]:
    """Returns what was recorded of the case's six runs."""
    (record,) = (folder / "out" / name / "records").iterdir()
    runs: list[dict[str, Any]] = json.loads(record.read_text())["interactions"]
    return runs


@pytest.mark.parametrize("boxes", ["3d", pytest.param("2d", marks=pytest.mark.slow)])
def test_nninteractive_is_evaluated_to_the_table(boxes: str, folder: Path) -> None:
    model = f"nninteractive_{boxes}"
    make("nninteractive_standin.py", folder / model, boxes)
    method = f"session:evaluation.peers:nninteractive folder={folder / model} device=cpu"
    done = evaluate(folder, method, model)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = interactions(folder, model)
    assert [(one["output"], one["failure"]) for one in runs] == [("written", None)] * 6
    with (folder / "out" / model / f"{model}_metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert float(row["num_class"]) == 2
    log = (folder / "out" / model / "logs" / "CT_blocks.txt").read_text()
    assert log.count("session initialized") == 1
    # Six runs of two classes, each with one prediction from all of its prompts.
    assert log.count("Done. Total time") == 12


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["vista3d", "sam_med3d"])
def test_networks_for_points_are_evaluated_to_the_table(
    factory: str, one_class: Path, checkpoints: Path
) -> None:
    checkpoint = checkpoints / f"{factory}.pth"
    method = f"session:evaluation.peers:{factory} checkpoint={checkpoint} device=cpu"
    done = evaluate(one_class, method, factory)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = interactions(one_class, factory)
    assert [(one["output"], one["failure"]) for one in runs] == [("written", None)] * 6
    with (one_class / "out" / factory / f"{factory}_metrics.csv").open(newline="") as file:
        assert tuple(next(csv.DictReader(file))) == COLUMNS


def test_a_folder_without_a_model_is_named(folder: Path) -> None:
    method = f"session:evaluation.peers:nninteractive folder={folder}"
    done = evaluate(folder, method, "none")
    assert done.returncode == 1
    assert f"{folder}: no plans.json, expected a trained model's folder" in done.stderr

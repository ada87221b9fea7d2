"""The server with napari and its plugin napari-nninteractive: the real ones, in a real window."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.samples import FOLDER as SAMPLES
from gamt.io.case import Case, read_case

pytestmark = pytest.mark.napari

ROOT = Path(__file__).parents[2]
NAPARI = ROOT / ".tools" / "napari" / "bin" / "python"
DRIVE = Path(__file__).with_name("drive.py")
KIDNEY = 3
"""The label in the drawn CT sample."""

AGREES = 0.9
"""Least Dice with the drawn kidney: the spleen beside it looks alike."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    command = [sys.executable, "-m", "gamt", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+", line):
                yield found.group()
                break
        process.terminate()


@pytest.fixture(scope="module")
def case() -> Case:
    return read_case(SAMPLES / "CT_phantom.npz")


@pytest.fixture(scope="module")
def kidney() -> npt.NDArray[np.bool_]:
    """The drawn kidney, (z, y, x)."""
    with np.load(SAMPLES / "CT_phantom.npz", allow_pickle=True) as file:
        return np.asarray(file["gts"] == KIDNEY)


@pytest.fixture(scope="module")
def shown(
    server: str, case: Case, kidney: npt.NDArray[np.bool_], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, npt.NDArray[np.bool_]]:
    """What napari's label layer shows after each step, by the step's name."""
    if not NAPARI.exists() or shutil.which("xvfb-run") is None:
        pytest.exit("no napari, or no xvfb-run: `make test-napari` says more", returncode=1)
    folder = tmp_path_factory.mktemp("napari")
    np.save(folder / "scan.npy", case.image)
    (folder / "scan.json").write_text(json.dumps(plan(kidney, case.spacing_mm)))
    picture = Path(os.environ.get("PICTURE", folder / "napari.png")).absolute()
    display = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"]
    done = subprocess.run(
        [*display, NAPARI, DRIVE, server, folder / "scan.npy", folder / "shown.npz", picture],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(folder / "shown.npz") as file:
        return {name: file[name] for name in file.files}


def plan(target: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> dict[str, Any]:
    """Returns where to click for a target (z, y, x): on its middle slice."""
    z = int(np.median(np.flatnonzero(target.any(axis=(1, 2)))))
    places = np.argwhere(target[z])
    (y0, x0), (y1, x1) = places.min(axis=0).tolist(), (places.max(axis=0) + 1).tolist()
    y, x = np.median(places, axis=0).round().astype(int).tolist()
    rows = np.unique(places[:, 0])
    edges = [places[places[:, 0] == row, 1] for row in rows]
    right = [[z, int(row), int(edge.max()) + 1] for row, edge in zip(rows, edges, strict=True)]
    left = [[z, int(row), int(edge.min())] for row, edge in zip(rows, edges, strict=True)]
    return {
        "spacing_mm": spacing_mm,
        "inside": [z, y, x],
        "outside": [z, 2, 2],
        "box": [[z, y0, x0], [z, y1, x1]],
        "outline": right + left[::-1],
    }


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return 2 * int((one & other).sum()) / (int(one.sum()) + int(other.sum()))


@pytest.mark.parametrize("step", ["point", "box", "scribble", "lasso"])
def test_each_tool_segments_the_kidney(
    step: str, shown: dict[str, npt.NDArray[np.bool_]], kidney: npt.NDArray[np.bool_]
) -> None:
    assert dice(shown[step], kidney) >= AGREES


@pytest.mark.parametrize("step", ["undone", "reset"])
def test_nothing_is_left_of_what_is_taken_back(
    step: str, shown: dict[str, npt.NDArray[np.bool_]]
) -> None:
    assert not shown[step].any()


def test_a_negative_point_in_the_air_changes_nothing(
    shown: dict[str, npt.NDArray[np.bool_]],
) -> None:
    np.testing.assert_array_equal(shown["negative"], shown["lasso"])

"""The evaluator as its wheel brings it: in an environment of its own, away from the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what its extra `evaluation` asks for."""
    uv = shutil.which("uv") or shutil.which(ROOT / ".tools" / "bin" / "uv")
    if uv is None:
        pytest.skip("needs uv, as make installs it")
    folder = tmp_path_factory.mktemp("wheel")
    environment = folder / "environment"

    def call(*words: str | Path) -> None:
        subprocess.run([uv, *words, "--quiet"], check=True)

    call("build", "--wheel", "--out-dir", folder, ROOT)
    (wheel,) = folder.glob("gamt-*.whl")
    call("venv", "--python", sys.executable, environment)
    call("pip", "install", "--python", environment, f"gamt[evaluation] @ {wheel.as_uri()}")
    return environment


def run(environment: Path, folder: Path, program: str, *words: str) -> str:
    """Runs one of an environment's programs in a folder; returns what it prints."""
    # No path to the checkout.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [environment / "bin" / program, *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_evaluator_of_the_wheel_works_in_an_empty_folder_without_torch(
    environment: Path, tmp_path: Path
) -> None:
    assert not list(environment.glob("lib/python*/site-packages/torch"))
    (tmp_path / "cases").mkdir()
    shutil.copy(ROOT / "tests" / "cases" / "US_phantom.npz", tmp_path / "cases")
    words = ("run", "--cases", "cases", "--method", "gamt", "--out", "out")
    run(environment, tmp_path, "gamt-evaluate", *words)
    (row,) = pd.read_csv(tmp_path / "out" / "gamt" / "gamt_metrics.csv").to_dict("records")
    assert row["CaseName"] == "US_phantom.npz"
    assert row["DSC_Final"] > 0.5
    assert "nnInteractive" in run(environment, tmp_path, "gamt-evaluate", "leaderboard", "out")
    run(environment, tmp_path, "gamt-evaluate", "report", "out")
    assert "US_phantom" in (tmp_path / "out" / "report.html").read_text()


def test_the_evaluator_of_the_wheel_is_a_module_too(environment: Path, tmp_path: Path) -> None:
    shown = run(environment, tmp_path, "python", "-m", "evaluation", "--help")
    assert shown == run(environment, tmp_path, "gamt-evaluate", "--help")

"""The guide's commands, as docs/cluster.md has them, word for word."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.cluster.processes import DaskProcesses
from tests.cluster.slurm import Slurm
from tests.cluster.waiting import PATIENCE_S, wait_until
from tests.evaluation.test_run import command, scores, write_case

pytestmark = pytest.mark.cluster

GUIDE = Path(__file__).parents[2] / "docs" / "cluster.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with cases, in which the commands are run."""
    (tmp_path / "cases").mkdir()
    for number in range(4):
        write_case(tmp_path / "cases" / f"CT_{number}.npz", number)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def read_commands(heading: str) -> str:
    """Returns the indented lines below a heading, up to the next."""
    _, _, rest = GUIDE.read_text(encoding="utf-8").partition(f"# {heading}\n")
    section = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    assert lines, heading
    return "\n".join(lines)


def run_commands(heading: str, folder: Path) -> None:
    """Runs what the guide has below a heading."""
    subprocess.run(
        ("bash", "-euo", "pipefail", "-c", read_commands(heading)),
        cwd=folder,
        check=True,
        timeout=2 * PATIENCE_S,
    )


def test_slurm_with_dask_and_without_it_gives_the_same(folder: Path, slurm: Slurm) -> None:
    run_commands("Slurm", folder)
    (folder / "out").rename(folder / "by_dask")
    run_commands("Without Dask", folder)
    wait_until(lambda: not slurm.jobs(), "the end of the jobs")
    first, second = (scores(folder / name / "gamt") for name in ("by_dask", "out"))
    assert len(first) == 4
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.slow
def test_with_a_key_those_who_have_it_get_in_and_no_one_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"{read_commands('How to keep a scheduler safe')}\nenv --null"
    printed = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    variables = dict(line.split("=", 1) for line in printed.split("\0") if line)
    words = [command(folder / "cases", folder / name) for name in ("with", "without")]
    with monkeypatch.context() as patch:
        for name in variables.keys() - os.environ.keys():
            patch.setenv(name, variables[name])
        with DaskProcesses(folder, protocol="tls") as dask:
            dask.start_workers("one")
            inside = subprocess.run(
                (*words[0], "--scheduler", dask.address), check=False, timeout=3 * PATIENCE_S
            )
            assert inside.returncode == 0
            patch.undo()
            outside = subprocess.run(
                (*words[1], "--scheduler", dask.address),
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
    assert outside.returncode == 1
    assert f"{dask.address}: no Dask scheduler answers" in outside.stderr
    assert "Traceback" not in outside.stderr

"""``predict.sh``, as the challenge's evaluator calls it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.calls import ROOT, THRESHOLD
from tests.test_predict import save, segmentation

SCRIPT = ROOT / "predict.sh"


def shell(
    *command: str | Path, cwd: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )


def with_python() -> dict[str, str]:
    """Returns an environment in which python3 is the one that runs the tests."""
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


SHELLS = [name for name in ("sh", "dash", "bash") if shutil.which(name)]


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_segments_a_folder_from_any_working_directory(name: str, tmp_path: Path) -> None:
    away = tmp_path / "away from home"
    away.mkdir()
    script = shutil.copy(SCRIPT, away)
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the working directory')")
    done = shell(name, script, "in", "out", cwd=tmp_path, variables=with_python())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "INFO a: statistical on cpu" in done.stderr
    assert segmentation(tmp_path / "out" / "a.npz")[5, 6, 10] == 1


def test_the_script_hands_on_the_environment_and_the_status(tmp_path: Path) -> None:
    script = shutil.copy(SCRIPT, tmp_path)
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "in" / "b.npz").write_bytes(b"no zip file")
    variables = with_python() | {
        "GAMT_SEGMENTER": THRESHOLD[1],
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    done = shell("sh", script, "in", "out", cwd=tmp_path, variables=variables)
    assert done.returncode == 4
    assert "INFO a: threshold on abacus" in done.stderr
    done = shell("sh", script, cwd=tmp_path, variables=variables | {"GAMT_NONSENSE": "1"})
    assert done.returncode == 2


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Makes a folder with the script and a .venv whose python shows how it was called."""
    folder = tmp_path / "check out"
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$$" "$@"\nexit 7\n')
    python.chmod(0o755)
    shutil.copy(SCRIPT, folder)
    return folder


def test_the_script_prefers_the_python_beside_it_and_becomes_its_process(
    checkout: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        ["sh", checkout / "predict.sh", "my cases", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate()
    called = [str(process.pid), "-P", "-m", "gamt", "predict", "my cases", "out"]
    assert (out.splitlines(), process.returncode) == (called, 7)


def test_the_scripts_folders_are_the_challenges_by_default(checkout: Path) -> None:
    done = shell("sh", "predict.sh", cwd=checkout, variables={"PATH": "/usr/bin:/bin"})
    assert done.stdout.splitlines()[-2:] == ["/workspace/inputs", "/workspace/outputs"]
    done = shell("sh", "predict.sh", "in", cwd=checkout, variables={"PATH": "/usr/bin:/bin"})
    assert done.stdout.splitlines()[-2:] == ["in", "/workspace/outputs"]

from pathlib import Path

import pytest

from benchmarks.samples import FOLDER as SAMPLES
from evaluation import containers
from tests.evaluation.engine import Engine


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(containers, "list_gpus", lambda: ())
    return Engine(tmp_path / "engine", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a run on the ultrasound sample."""
    for name in ("inputs", "outputs"):
        (tmp_path / "work" / name).mkdir(parents=True)
    source = SAMPLES / "US_phantom.npz"
    (tmp_path / "work" / "inputs" / source.name).write_bytes(source.read_bytes())
    return tmp_path / "work"

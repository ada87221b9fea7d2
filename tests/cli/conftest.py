"""What the tests of the command line share."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamt import predict
from gamt.cli.app import main
from gamt.lifting.pipeline import Lifted
from gamt.lifting.shortfall import Shortfall
from gamt.settings import Settings
from gamt.windows import IntensityWindow
from tests.cli.calls import Run


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the tester's own settings and start."""
    for name in list(os.environ):
        if name.startswith("GAMT_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("gamt.lifting.budget.process_start", time.monotonic)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line here; returns the exit status and what is on standard error."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return int(end.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line here; returns the exit status and what is on standard output."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return int(end.value.code or 0), capsys.readouterr().out

    return call


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Collects the settings that the method is run with, and lets it find a voxel a class."""
    seen: list[Settings] = []

    def lift(case: Any, volume: Any, *_: object) -> Lifted:
        seen.append(volume.settings)
        windows = {one.label: IntensityWindow(0, 1) for one in case.prompts}
        labels = np.zeros(case.image.shape, np.uint8)
        labels.flat[: len(case.prompts)] = [one.label for one in case.prompts]
        shortfalls = {one.label: Shortfall() for one in case.prompts}
        return Lifted(labels, 0, shortfalls, windows, {})

    monkeypatch.setattr(predict, "lift_in_memory", lift)
    return seen

"""A process in which `gamt predict` gets spoilt files; another one watches it."""

import io
import os
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.fuzz.audit import Watch
from benchmarks.fuzz.honest import companion, draw_case
from benchmarks.fuzz.judging import Run, judge
from benchmarks.fuzz.npz import draw_npz, honest_npz
from gamt.cli import app
from gamt.lifting import budget

MOST_ADDRESSES = 6 * 2**30
"""Bytes of address space: what would take more fails, rather than have the machine kill others."""

HONEST = "zz"
"""The honest file's name, after those of all others: they must not stop the run."""


@dataclass(frozen=True, slots=True)
class Task:
    """Files to be put before `gamt predict` in one folder.

    Attributes:
        seed: of the files.
        numbers: of the files.
        folder: a new one, in which all is done.
    """

    seed: int
    numbers: tuple[int, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a task.

    Attributes:
        found: what is wrong, by the number of the file; -1 where none is to blame.
        most_bytes: of memory, at any time.
        failed: how many files got no result.
    """

    found: dict[int, list[str]] = field(default_factory=dict)
    most_bytes: int = 0
    failed: int = 0


class _Lines(io.StringIO):
    """Standard error, which tells the watching process that something goes on."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def write(self, text: str, /) -> int:
        self._pipe.send(None)
        return super().write(text)


def serve(pipe: Connection, scratch: Path) -> None:
    """Does tasks until there are none; sends a report when ready, and after each.

    Sends None as a sign of life whenever there is one.

    Args:
        pipe: the tasks come from there; None ends them.
        scratch: gets what the process writes to standard error past Python.
    """
    raw = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(raw, 2)
    # The clock of a run's first case begins with the process, which is older here.
    budget.process_start = time.monotonic  # type: ignore[assignment]
    watch = Watch()
    folder = scratch.with_suffix(".warm")
    _predict(folder, {HONEST: honest_npz(companion())}, pipe)
    labels = np.load(folder / "outputs" / f"{HONEST}.npz")["segs"]
    # What is imported late is no finding.
    cases = [honest_npz(draw_case(np.random.default_rng(n))) for n in range(8)]
    _predict(folder, {"broken": b"", **{f"f{n}": data for n, data in enumerate(cases)}}, pipe)
    shutil.rmtree(folder)
    pipe.send(Report())
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    while (task := pipe.recv()) is not None:
        pipe.send(_do(task, pipe, watch, labels, raw))


def _do(
    task: Task, pipe: Connection, watch: Watch, labels: npt.NDArray[np.uint8], raw: int
) -> Report:
    names = {f"f{number}": number for number in task.numbers}
    files = {name: draw_npz(task.seed, number).data for name, number in names.items()}
    files[HONEST] = honest_npz(companion())
    pipe.send(None)
    reset_peak()
    watch.begin(task.folder)
    run = _predict(task.folder, files, pipe)
    seen = watch.end()
    most = peak_bytes()
    found = {
        names.get(name, -1): what
        for name, what in judge(run, list(names), {HONEST: labels}).items()
    }
    if seen:
        found[-1] = [*found.get(-1, []), *(f"it did {one}" for one in seen)]
    if size := os.fstat(raw).st_size:
        text = os.pread(raw, 500, 0).decode(errors="replace")
        found[-1] = [*found.get(-1, []), f"{size} bytes past Python's standard error: {text!r}"]
        os.ftruncate(raw, 0)
    failed = sum(not (run.outputs / f"{name}.npz").exists() for name in names)
    shutil.rmtree(task.folder)
    return Report(found, most, failed)


def _predict(folder: Path, files: dict[str, bytes], pipe: Connection) -> Run:
    """Runs the command line on files, as a process of its own would."""
    shutil.rmtree(folder, ignore_errors=True)
    inputs, outputs = folder / "inputs", folder / "outputs"
    inputs.mkdir(parents=True)
    for name, data in files.items():
        (inputs / f"{name}.npz").write_bytes(data)
    return Run(*run_app(["predict", str(inputs), str(outputs)], pipe), outputs)


def run_app(arguments: Sequence[str], pipe: Connection) -> tuple[int, str]:
    """Returns the exit status and what went to standard error."""
    lines, before = _Lines(pipe), sys.stderr
    sys.stderr = lines
    try:
        app.main(arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stderr = before
    return status, lines.getvalue()


def reset_peak() -> None:
    """Begins anew to note the most memory that this process takes; on Linux alone."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Returns the most memory that this process took since then."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

"""Spoilt npz files through `predict.sh`, in folders of many with honest ones among them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.fuzz.arrays import CANARY
from benchmarks.fuzz.honest import companion
from benchmarks.fuzz.in_process import Finding, Tally
from benchmarks.fuzz.judging import MOST_BYTES, MOST_SECONDS, Run, judge
from benchmarks.fuzz.npz import draw_npz, honest_npz

FOLDER = 50
"""Spoilt files in a folder, beside three honest ones."""

_START_SECONDS = 60.0
"""A process has said its first word by then."""

_LOOK_SECONDS = 0.05

_SCRIPT = Path(__file__).parents[2] / "predict.sh"


def run_script(
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    progress: Callable[[int], None] = lambda files: None,
) -> Tally:
    """Puts files before `predict.sh`.

    Args:
        seed: of the files.
        numbers: of the files.
        folder: where all is done.
        progress: is told of files that are done.
    """
    tally = Tally()
    Path(CANARY).unlink(missing_ok=True)
    honest = {"honest": honest_npz(companion())}
    alone, _ = _run(honest, folder / "alone", tally)
    labels = np.load(alone.outputs / "honest.npz")["segs"]
    for start in range(0, len(numbers), FOLDER):
        batch = numbers[start : start + FOLDER]
        tally.files += len(batch)
        before = tally.most_seconds
        tally.findings += _run_folder(seed, batch, folder / str(start), labels, tally)
        if tally.most_seconds > before:
            tally.slowest = batch[0]
        progress(len(batch))
    return tally


def _run_folder(
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    labels: npt.NDArray[np.uint8],
    tally: Tally,
) -> list[Finding]:
    spoilt = {f"f{number}": draw_npz(seed, number) for number in numbers}
    honest = ("a", f"f{numbers[len(numbers) // 2]}h", "z")  # in the order of names
    files = {name: one.data for name, one in spoilt.items()}
    files |= dict.fromkeys(honest, honest_npz(companion()))
    run, died = _run(files, folder, tally)
    found = judge(run, list(spoilt), dict.fromkeys(honest, labels))
    if died:  # then all that follow are missing, for which they are not to blame
        found = {"": [died, f"last in the log: {run.log[-300:]!r}"]}
    if Path(CANARY).exists():
        Path(CANARY).unlink()
        found.setdefault("", []).append("one of these files ran code")
    tally.failed += sum(not (run.outputs / f"{name}.npz").exists() for name in spoilt)
    findings = []
    for name, what in found.items():
        number = int(name[1:]) if name else numbers[0]
        kind = spoilt[name].kind if name else f"files {numbers[0]} to {numbers[-1]}"
        findings.append(Finding(number, kind, tuple(what)))
    return findings


def _run(files: dict[str, bytes], folder: Path, tally: Tally) -> tuple[Run, str]:
    """Runs the script on files; returns what came of it, and how it died if it did."""
    inputs, outputs, log = folder / "inputs", folder / "outputs", folder / "log"
    inputs.mkdir(parents=True)
    outputs.mkdir()
    for name, data in files.items():
        (inputs / f"{name}.npz").write_bytes(data)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["sh", _SCRIPT, inputs, outputs],
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        died = _watch(process, log, tally)
    status = process.wait()
    if status < 0 and not died:
        died = f"ended by signal {-status}"
    return Run(status, log.read_text("utf-8", "backslashreplace"), outputs), died


def _watch(process: "subprocess.Popen[bytes]", log: Path, tally: Tally) -> str:
    """Waits for the end; returns why it had to be killed."""
    size, heard, patience = 0, time.monotonic(), _START_SECONDS
    shown = psutil.Process(process.pid)
    died = ""
    while process.poll() is None and not died:
        time.sleep(_LOOK_SECONDS)
        now, new = time.monotonic(), log.stat().st_size
        if new != size:
            if patience == MOST_SECONDS:
                tally.most_seconds = max(tally.most_seconds, now - heard)
            size, heard, patience = new, now, MOST_SECONDS
        try:
            taken = shown.memory_info().rss
        except psutil.Error:
            continue
        tally.most_bytes = max(tally.most_bytes, taken)
        if now - heard > patience:
            died = f"nothing was heard for {patience:g} s"
        elif taken > MOST_BYTES:
            died = f"{taken / 2**20:.0f} MiB of memory were taken"
    if died:
        os.killpg(process.pid, signal.SIGKILL)
    return died

"""Kills `gamt predict` and `evaluation run` at random moments, and looks at what is left.

The same command is given again then. It has to end as well as if nothing had happened: the same
files, with the same arrays and figures, and no others; no process that still runs.
"""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
from rich.console import Console
from rich.progress import track

from benchmarks.bench import Bar, new_table
from benchmarks.fault_segmenters import draw_folder
from benchmarks.phantoms import Phantom
from gamt.io.case import write_case

PREDICT_KILLS, PREDICT_TERMS = 50, 20
"""How often `gamt predict` is ended by SIGKILL, and by SIGTERM."""

EVALUATION_KILLS, EVALUATION_TERMS = 10, 10
"""The same of `evaluation run`."""

AT_ONCE = 2
"""Commands at a time."""

LARGE_SHAPE = (96, 160, 200)
"""Of a case that takes long enough to read and to write to be killed meanwhile."""

TERM_SECONDS = 10.0
"""By then, a command has ended after SIGTERM: docker waits as long before it kills."""

LEFT_SECONDS = 10.0
"""By then, whatever a killed command had started has ended."""

COMMAND_SECONDS = 300.0
"""No command takes longer, unless it hangs."""

LEAST_HIT = 0.8
"""Share of the trials in which the command is still at work; some moments are close to its end."""

POLL_SECONDS = 0.002

ROOT = Path(__file__).parent.parent

OPTIONS = ("--no-budget", "--set", "crop_voxels=48")
"""Of `gamt predict`: a busy machine must not change what it finds."""

METHOD = """
import subprocess, sys, time
from pathlib import Path
import numpy as np

(source,) = Path("inputs").iterdir()
for new_session in (False, True):
    subprocess.Popen(["sleep", "300"], start_new_session=new_session)
with np.load(source, allow_pickle=True) as file:
    segs = (file["imgs"] > 100).astype(np.uint8) + (file["imgs"] > 150)
time.sleep(0.2)
np.savez_compressed(Path("outputs") / source.name, segs=segs)
"""
"""A method that is quick, and leaves processes behind at every run."""

When = Literal["at any time", "reading", "writing"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each command is ended in each way."""

    predict_kills: int = PREDICT_KILLS
    predict_terms: int = PREDICT_TERMS
    evaluation_kills: int = EVALUATION_KILLS
    evaluation_terms: int = EVALUATION_TERMS


@dataclass(frozen=True, slots=True)
class Target:
    """A command to be killed.

    Attributes:
        name: for people.
        inputs: a folder of cases.
        folder: for the folders of the trials, and for temporary files.
        command: returns the command line that writes to a folder.
        seconds: that the command takes.
        expected: of every file that it writes, what is in it; by its name in the folder.
    """

    name: str
    inputs: Path
    folder: Path
    command: Callable[[Path], list[str]]
    seconds: float = math.nan
    expected: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """A command, and when it is ended.

    Attributes:
        number: that it is drawn by.
        target: the command.
        signal: that ends it.
        when: "reading" while a case is open, "writing" while an output is half written.
        share: of the command's own time; only "at any time".
    """

    number: int
    target: Target
    signal: signal.Signals
    when: When
    share: float


@dataclass(frozen=True, slots=True)
class TrialRun:
    """What came of a trial.

    Attributes:
        trial: what was done.
        hit: whether the command was at work at that moment.
        seconds: from the signal to its end.
        partial: hidden files that it left, half written.
        problems: what should not be so.
    """

    trial: Trial
    hit: bool
    seconds: float
    partial: int
    problems: tuple[str, ...]


def prepare(folder: Path) -> list[Target]:
    """Writes cases, and returns the commands: two of `gamt predict`, and two of the evaluator's."""
    python, inputs, small = sys.executable, folder / "cases", folder / "small"
    draw_cases(inputs, small)
    method = folder / "method.py"
    method.write_text(METHOD)

    def predict(*options: str) -> Callable[[Path], list[str]]:
        words = [python, "-m", "gamt", "predict", os.fspath(inputs)]
        return lambda out: [*words, f"{out}/out", *OPTIONS, *options]

    def predict_with_cache(out: Path) -> list[str]:
        options = ("--segmenter", "benchmarks.stand_in:quick", "--cache", f"{out}/cache")
        return predict(*options)(out)

    def evaluate(spec: str) -> Callable[[Path], list[str]]:
        words = [python, "-m", "evaluation", "run", "--cases", os.fspath(small), "--method", spec]
        return lambda out: [*words, "--out", f"{out}/out", "--name", "team", "--workers", "2"]

    return [
        Target("predict", inputs, folder / "predict", predict()),
        Target("predict, cache", inputs, folder / "cached", predict_with_cache),
        Target("evaluation, gamt", small, folder / "gamt", evaluate(f"gamt {' '.join(OPTIONS)}")),
        Target(
            "evaluation, command", small, folder / "any", evaluate(f"command:{python} {method}")
        ),
    ]


def draw_cases(inputs: Path, small: Path) -> None:
    """Writes the cases for `gamt predict`, and those with ground truth for the evaluator."""
    inputs.mkdir()
    small.mkdir()
    boxed, second = (one for one in draw_folder() if one.case.name in ("2_boxes", "5_round_2"))
    for name, one in (("CT_a", boxed), ("CT_c", second)):
        write_case(
            inputs / f"{name}.npz",
            *(one.case.image, one.case.spacing_mm, one.case.prompts),
            previous=one.case.previous,
        )
    large = _within_noise(boxed.phantom)
    write_case(inputs / "CT_b.npz", large.image, large.spacing_mm, large.prompts)
    for name in ("CT_a", "MR_b", "PET_c"):
        phantom = boxed.phantom
        write_case(
            small / f"{name}.npz", phantom.image, phantom.spacing_mm, phantom.prompts, phantom.truth
        )


def _within_noise(phantom: Phantom) -> Phantom:
    """Returns a phantom in the corner of a large volume that hardly compresses."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, LARGE_SHAPE, dtype=np.uint8)
    truth = np.zeros(LARGE_SHAPE, np.uint8)
    corner = tuple(slice(size) for size in phantom.image.shape)
    image[corner], truth[corner] = phantom.image, phantom.truth
    return replace(phantom, image=image, truth=truth)


def measure(target: Target) -> Target:
    """Returns a command with what it makes of the cases, undisturbed, and how long that takes.

    Raises:
        RuntimeError: it did not end well.
    """
    for attempt in ("undisturbed", "again"):  # the first one also compiles what is compiled once
        place = _new_place(target, attempt)
        begun = time.monotonic()
        status, said = _run(target, place)
        seconds = time.monotonic() - begun
        if status:
            raise RuntimeError(f"{target.name}: exit status {status}: {said}")
        _end_all(place)
        target = replace(target, seconds=seconds, expected=read_files(place))
    return target


def draw_trials(targets: Sequence[Target], counts: Counts, seed: int) -> list[Trial]:
    """Draws when each command is ended; the moments are spread over its whole time."""
    predict, evaluation = targets[:2], targets[2:]
    trials: list[Trial] = []
    for group, kind, count in (
        (predict, signal.SIGKILL, counts.predict_kills),
        (predict, signal.SIGTERM, counts.predict_terms),
        (evaluation, signal.SIGKILL, counts.evaluation_kills),
        (evaluation, signal.SIGTERM, counts.evaluation_terms),
    ):
        for index in range(count):
            number = len(trials)
            rng = np.random.default_rng([seed, number])
            when: When = "at any time"
            if group is predict and index % 5 > 2:
                when = "reading" if index % 5 == 3 else "writing"
            share = (index + float(rng.random())) / count
            trials.append(Trial(number, group[index % len(group)], kind, when, share))
    return trials


def run_trial(trial: Trial) -> TrialRun:
    """Ends a command, looks at what is left, and gives the same command again."""
    target = trial.target
    place = _new_place(target, str(trial.number))
    cases = _stamp(target.inputs)
    with (place / "log.txt").open("wb") as log:
        process = _start(target, place, log)
        at_work = _wait_for(trial, process, place)
        before = read_files(place)
        hit = process.poll() is None
        process.send_signal(trial.signal)
        begun = time.monotonic()
        try:
            status = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        seconds = time.monotonic() - begun
    problems = _check_left(place)
    # What runs work on, the next command removes, whole or not.
    before, after = (
        {name: one for name, one in files.items() if "/work/" not in name}
        for files in (before, read_files(place))
    )
    is_done = target.expected.keys() <= after.keys()
    problems += _check_end(trial, status, hit, seconds, is_done)
    partial = [name for name in after if name.endswith(".partial")]
    problems += [f"{name}: is half written" for name, one in after.items() if one is None]
    if trial.signal is signal.SIGTERM and hit:
        problems += [f"left {name}" for name in partial]
        wanted = {*(name for name in before if name.endswith(".npz")), *at_work}
        problems += [f"{name}: missing after SIGTERM" for name in sorted(wanted - set(after))]
    status, said = _run(target, place)
    if status:
        problems.append(f"given again: exit status {status}: {said}")
    problems += _compare(read_files(place), target.expected) + _check_left(place)
    if _stamp(target.inputs) != cases:
        problems.append("the cases have changed")
    shutil.rmtree(place)
    return TrialRun(trial, hit, seconds, len(partial), tuple(problems))


def _new_place(target: Target, name: str) -> Path:
    place = target.folder / name
    (place / "tmp").mkdir(parents=True)
    return place


def _start(target: Target, place: Path, log: Any) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "TMPDIR": f"{place}/tmp", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        target.command(place), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
    )


def _run(target: Target, place: Path) -> tuple[int, str]:
    """Gives a command and lets it end; returns its exit status and the end of what it said."""
    path = place / "log.txt"
    with path.open("wb") as log:
        process = _start(target, place, log)
        try:
            status = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return -1, f"no end after {COMMAND_SECONDS:g} s"
    return status, " ".join(path.read_text(errors="replace")[-300:].split())


def _wait_for(trial: Trial, process: "subprocess.Popen[bytes]", place: Path) -> list[str]:
    """Waits for the trial's moment, or for the command's end.

    Returns:
        The outputs of the cases that are open then.
    """
    begun = time.monotonic()
    watched = psutil.Process(process.pid)
    wanted = int(trial.share * 3)  # the first, second or third case
    seen: set[str] = set()
    while process.poll() is None:
        if trial.when == "at any time":
            if time.monotonic() - begun >= trial.share * trial.target.seconds:
                return []
        elif trial.when == "writing":
            seen.update(one.name for one in (place / "out").glob(".*.partial"))
            if len(seen) > wanted:
                return []
        else:
            with suppress(psutil.Error):
                paths = [Path(one.path) for one in watched.open_files()]
                names = [one.name for one in paths if one.parent == trial.target.inputs]
                seen.update(names)
                if names and len(seen) > wanted:
                    return [f"out/{name}" for name in names]
        time.sleep(POLL_SECONDS)
    return []


def _check_end(trial: Trial, status: int, hit: bool, seconds: float, is_done: bool) -> list[str]:
    """Returns what is wrong with how a command ended; `is_done` says whether all was written."""
    if not hit or trial.signal is signal.SIGKILL:
        return []
    problems = []
    statuses = [0, 128 + signal.SIGTERM]
    if trial.when == "at any time" or is_done:
        # By the signal itself: before the command is ready for it, or after its last case.
        statuses.append(-signal.SIGTERM)
    if status not in statuses:
        problems.append(f"exit status {status} after SIGTERM")
    if seconds > TERM_SECONDS:
        problems.append(f"ended {seconds:.1f} s after SIGTERM")
    return problems


def _check_left(place: Path) -> list[str]:
    """Returns what still runs, after a while, or lies among the temporary files."""
    end = time.monotonic() + LEFT_SECONDS
    while (left := list(_processes(place))) and time.monotonic() < end:
        time.sleep(0.1)
    problems = [f"still runs: {' '.join(one.info['cmdline'] or ['?'])[:80]}" for one in left]
    _end_all(place)
    return problems + [f"left tmp/{one.name}" for one in (place / "tmp").iterdir()]


def _processes(place: Path) -> Iterator[psutil.Process]:
    """Yields the processes that a command has started that writes to a folder."""
    for one in psutil.process_iter(("cmdline", "cwd", "status")):
        words = [*(one.info["cmdline"] or ()), one.info["cwd"] or ""]
        is_own = any(f"{place}/" in f"{word}/" for word in words)
        if is_own and one.info["status"] != psutil.STATUS_ZOMBIE:
            yield one


def _end_all(place: Path) -> None:
    for one in _processes(place):
        with suppress(psutil.Error):
            one.kill()


TIMES = ("RunningTime", "seconds", "own_seconds", "started")
"""Beginnings of columns, and keys, whose values differ from run to run."""


def read_files(place: Path) -> dict[str, Any]:
    """Reads all that a command has written, without what differs from run to run.

    Returns:
        Of every file what is in it, by its path in the folder; None of one that can't be read.
    """
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if name.partition("/")[0] not in ("out", "cache"):
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                found[name] = "an empty folder"
            continue
        try:
            found[name] = _read_file(path)
        except Exception:  # whatever is wrong with a file that is half written
            found[name] = None if not path.name.endswith(".partial") else "a partial file"
    return found


def _read_file(path: Path) -> Any:
    if path.suffix == ".npz":
        with path.open("rb") as opened, np.load(opened) as file:
            return {key: _digest_array(file[key]) for key in file.files}
    if path.suffix == ".csv":
        table = pd.read_csv(path)
        kept = [one for one in table.columns if TIMES[0] not in one]
        return table[kept].sort_values(kept[0], kind="stable").to_csv(index=False)
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.suffix == ".txt" or path.name == ".lock":  # a log
        return ""
    return path.read_bytes()


def _digest_array(array: npt.NDArray[Any]) -> tuple[str, tuple[int, ...], str]:
    return str(array.dtype), array.shape, hashlib.blake2b(array.tobytes()).hexdigest()


def _without_times(content: Any) -> Any:
    if isinstance(content, list):
        return [_without_times(one) for one in content]
    if isinstance(content, dict):
        return {key: _without_times(one) for key, one in content.items() if key not in TIMES}
    return content


def _compare(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Returns where the files of two runs differ."""
    return [
        *(f"{name}: missing" for name in sorted(set(expected) - set(found))),
        *(f"left {name}" for name in sorted(set(found) - set(expected))),
        *(
            f"{name}: differs"
            for name in sorted(set(found) & set(expected))
            if found[name] != expected[name]
        ),
    ]


def _stamp(folder: Path) -> dict[str, tuple[int, int]]:
    states = {one.name: one.stat() for one in folder.iterdir()}
    return {name: (one.st_size, one.st_mtime_ns) for name, one in states.items()}


def run_trials(trials: Sequence[Trial], console: Console) -> list[TrialRun]:
    """Does trials, a few at a time, and prints what should not be so."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = pool.map(run_trial, trials)
        done = []
        for run in track(runs, "Kills", len(trials), console=console, transient=True):
            done.append(run)
            for problem in run.problems:
                console.print(f"{describe(run.trial)}: {problem}", markup=False)
        return done


def describe(trial: Trial) -> str:
    """Names a trial for people."""
    when = f"{trial.share:.0%} of its time" if trial.when == "at any time" else trial.when
    return f"trial {trial.number} ({trial.target.name}, {trial.signal.name}, {when})"


def print_kills(runs: Sequence[TrialRun], console: Console) -> None:
    """Prints what was ended when."""
    heads = ("Trials", "At work", "Partial files left", "Longest end, s", "Wrong")
    grid = new_table("Commands ended", "Command", "Signal", "When", *heads)
    rows = Counter((one.trial.target.name, one.trial.signal, one.trial.when) for one in runs)
    for key, count in rows.items():
        name, number, moment = key
        members = [
            one for one in runs if (one.trial.target.name, one.trial.signal, one.trial.when) == key
        ]
        grid.add_row(
            *(name, number.name, moment, str(count)),
            str(sum(one.hit for one in members)),
            str(sum(one.partial for one in members)),
            f"{max(one.seconds for one in members):.1f}",
            str(sum(bool(one.problems) for one in members)),
        )
    console.print(grid)


def kill_bars(runs: Sequence[TrialRun]) -> list[Bar]:
    """Holds the trials to the bars."""
    found = []
    for title, start in (("gamt predict", "predict"), ("evaluation run", "evaluation")):
        members = [one for one in runs if one.trial.target.name.startswith(start)]
        signals = Counter(one.trial.signal.name for one in members)
        wrong = sum(bool(one.problems) for one in members)
        counted = ", ".join(f"{count} x {name}" for name, count in signals.items())
        if members:
            hit = sum(one.hit for one in members) / len(members)
            found += [
                Bar(
                    f"{title}, {counted}: something left, or another result",
                    str(wrong),
                    "0",
                    wrong == 0,
                ),
                Bar(
                    f"{title}: at work when it was ended",
                    f"{hit:.0%}",
                    f">= {LEAST_HIT:.0%}",
                    hit >= LEAST_HIT,
                ),
            ]
    return found

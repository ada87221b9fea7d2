"""Spoilt npz files through `gamt predict`, in processes that are watched from outside."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

import psutil

from benchmarks.fuzz.arrays import CANARY
from benchmarks.fuzz.judging import MOST_BYTES, MOST_SECONDS
from benchmarks.fuzz.npz import draw_npz
from benchmarks.fuzz.worker import Report, Task, serve

BATCH = 10
"""Files in a folder, beside an honest one."""

_START_SECONDS = 60.0
"""A process has begun by then."""

_PATIENCE = 6
"""So many times as long may pass on the clock, in which a process waits, or others work."""

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """A file with which something went wrong.

    Attributes:
        number: of the file; of the first of its folder where no single one is to blame.
        kind: what is wrong with the file.
        what: went wrong, in lines.
    """

    number: int
    kind: str
    what: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What came of many files.

    Attributes:
        files: how many there were.
        failed: how many of them got no result.
        most_bytes: of memory, at any time.
        most_seconds: of a processor, without a sign of life.
        slowest: the first number of the folder in which that was.
        findings: what went wrong.
    """

    files: int = 0
    failed: int = 0
    most_bytes: int = 0
    most_seconds: float = 0.0
    slowest: int = 0
    findings: list[Finding] = field(default_factory=list)


class WorkerError(Exception):
    """A process that ended, or that was ended because it gave no sign of life."""


class Worker:
    """A process for spoilt files, begun anew where one has ended it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: multiprocessing.process.BaseProcess | None = None

    def run(self, task: Task) -> tuple[Report, float]:
        """Returns what came of a task, and the longest that it worked without a word, in seconds.

        Raises:
            WorkerError: the process did not finish it.
        """
        if self._process is None:
            self._start()
        self._pipe.send(task)
        return self._wait(MOST_SECONDS)

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, self._folder / f"{id(self)}.stderr"), daemon=True
        )
        process.start()
        theirs.close()
        self._process = process
        self._wait(_START_SECONDS)

    def _wait(self, seconds: float) -> tuple[Report, float]:
        """Waits for a report; other work on the machine doesn't count against the process."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        longest = 0.0
        while True:
            begun, worked = time.monotonic(), _worked(process)
            while not self._pipe.poll(_LOOK_SECONDS):
                spent = _worked(process) - worked
                if spent > seconds or time.monotonic() - begun > _PATIENCE * seconds:
                    self.stop()
                    raise WorkerError(f"nothing was heard for {spent:.0f} s of its own time")
            longest = max(longest, _worked(process) - worked)
            try:
                report = self._pipe.recv()
            except (EOFError, ConnectionError):
                self._process.join()
                status, self._process = self._process.exitcode, None
                raise WorkerError(f"the process ended with status {status}") from None
            if report is not None:
                return report, longest


def _worked(process: psutil.Process) -> float:
    """Returns the seconds that a process has had of a processor; 0 of one that has ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def run_in_process(
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    workers: int,
    progress: Callable[[int], None] = lambda files: None,
) -> Tally:
    """Puts files before `gamt predict`, some at a time beside an honest one.

    Where something is wrong with a folder, each of its files is run again alone, to find which.

    Args:
        seed: of the files.
        numbers: of the files.
        folder: where all is done.
        workers: processes at a time.
        progress: is told of files that are done.
    """
    tally = Tally()
    canary = Path(CANARY)
    canary.unlink(missing_ok=True)
    batches = [tuple(numbers[n : n + BATCH]) for n in range(0, len(numbers), BATCH)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(workers):
        idle.put(Worker(folder))

    def run(batch: tuple[int, ...]) -> None:
        worker = idle.get()
        try:
            found = _run_batch(worker, seed, batch, folder, tally)
            if found and len(batch) > 1:
                single = [_run_batch(worker, seed, (n,), folder, None) for n in batch]
                found = list(chain(*single)) or found
            tally.findings += found
            if canary.exists():
                canary.unlink()
                tally.findings.append(Finding(batch[0], "", ("one of these files ran code",)))
            progress(len(batch))
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, batches))
    for _ in range(workers):
        idle.get().stop()
    return tally


def _run_batch(
    worker: Worker, seed: int, batch: tuple[int, ...], folder: Path, tally: Tally | None
) -> list[Finding]:
    """Returns what went wrong; adds to the tally, if there is one."""

    def finding(number: int, *what: str) -> Finding:
        number = batch[0] if number < 0 else number
        return Finding(number, draw_npz(seed, number).kind, what)

    try:
        task = Task(seed, batch, folder / f"{batch[0]}-{len(batch)}")
        report, seconds = worker.run(task)
    except WorkerError as death:
        report, seconds = Report({-1: [str(death)]}), MOST_SECONDS
    if tally is not None:
        tally.files += len(batch)
        tally.failed += report.failed
        tally.most_bytes = max(tally.most_bytes, report.most_bytes)
        if seconds > tally.most_seconds:
            tally.most_seconds, tally.slowest = seconds, batch[0]
    found = [finding(number, *what) for number, what in report.found.items()]
    if report.most_bytes > MOST_BYTES:
        found.append(finding(-1, f"{report.most_bytes / 2**20:.0f} MiB of memory were taken"))
    return found

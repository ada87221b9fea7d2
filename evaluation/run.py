"""A folder of cases evaluated in parallel, to be interrupted and taken up again at any time."""

import multiprocessing as mp
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from evaluation.loop import CaseFiles, Method, evaluate_case
from evaluation.methods import ParsedMethod, stop_running
from evaluation.records import CaseRecord, TeamFolder
from gamt.io.npz import CaseError

SETTINGS = ("method", "identity", "cases_folder", "gts_folder", "strict_time", "run_limit")
"""What must be the same for results to go together."""


class RunError(ValueError):
    """An evaluation that can't begin."""


STOP_SECONDS = 10
"""How long a worker may take to stop what it runs."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an evaluation stands.

    Attributes:
        total: number of cases.
        records: of the cases that are done, in the order of their names.
        failed: why cases have no record, by their names.
    """

    total: int
    records: Sequence[CaseRecord]
    failed: dict[str, str]


def make_process_pool(workers: int) -> Executor:
    """Returns an executor whose processes end with this one."""
    # The count of threads is read when libraries load, so it has to be there before.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    return ProcessPoolExecutor(workers, mp.get_context("spawn"), initializer=_end_with_parent)


def evaluate_folder(
    cases: Path,
    gts: Path | None,
    spec: str,
    method: ParsedMethod,
    folder: TeamFolder,
    *,
    workers: int = 1,
    strict_time: bool = False,
    run_limit: float,
    show: Callable[[Progress], None] = lambda progress: None,
    make_executor: Callable[[int], Executor] = make_process_pool,
) -> Progress:
    """Evaluates a method on every ``*.npz`` of a folder that has no record yet.

    Args:
        cases: the folder.
        gts: a folder of files of the same names with the ground truth, which the method doesn't
            see then; None where the cases hold it.
        spec: the text that `method` was parsed from.
        method: what is evaluated.
        folder: the team's, for the results.
        workers: number of cases that are evaluated at a time.
        strict_time: whether scores are 0 where the method took longer than the challenge allows.
        run_limit: seconds after which `method` stops a run; only noted here.
        show: called first and whenever a case is done.
        make_executor: makes what runs the cases, given the number of workers.

    Raises:
        RunError: there are no cases, or `folder` is in use or holds results of other settings.
        RecordError: a record in `folder` is broken.
    """
    files = _find_cases(cases, gts)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder.path / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{folder.path}: another evaluation is at work here") from error
    with lock:
        settings = {
            "method": spec,
            "identity": method.identity,
            "cases_folder": os.fspath(cases.resolve()),
            "gts_folder": gts and os.fspath(gts.resolve()),
            "strict_time": strict_time,
            "run_limit": run_limit,
        }
        _begin(folder, settings, [one.case for one in files])
        records = {record.case: record for record in folder.records()}
        failed = _refuse_changed(files, records)
        todo = [one for one in files if one.case not in records and one.case not in failed]

        def progress() -> Progress:
            return Progress(len(files), [records[case] for case in sorted(records)], failed)

        show(progress())
        jobs = [_Job(one, method.method, folder) for one in todo]
        for job, outcome in _run_jobs(jobs, min(workers, len(jobs)), make_executor):
            case = job.files.case
            if isinstance(outcome, CaseRecord):
                records[case] = outcome
                folder.write_metrics(progress().records, strict_time)
            else:
                failed[case] = _describe(case, outcome)
            show(progress())
        folder.write_metrics(progress().records, strict_time)
        folder.write_classes(progress().records)
        shutil.rmtree(folder.path / "work", ignore_errors=True)
        return progress()


@dataclass(frozen=True, slots=True)
class _Job:
    files: CaseFiles
    method: Method
    folder: TeamFolder


def _evaluate(job: _Job) -> CaseRecord:
    """Evaluates a case, in a process of its own; it is done when its record is written."""
    case, folder = job.files.case, job.folder
    record = evaluate_case(
        job.files,
        job.method,
        folder.work_folder(case),
        folder.log_file(case),
        folder.prediction_file(case),
    )
    record.write(folder.record_file(case))
    return record


def _run_jobs(
    jobs: Iterable[_Job], workers: int, make_executor: Callable[[int], Executor]
) -> Iterator[tuple[_Job, CaseRecord | BaseException]]:
    """Yields jobs as they are done, each with its record or with what went wrong."""
    if not workers:
        return
    broken = []
    executor = make_executor(workers)
    try:
        futures = {executor.submit(_evaluate, job): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                broken.append(futures[future])
            else:
                yield futures[future], error or future.result()
    finally:
        # After Ctrl-C, not to wait for what is at work: see `stop_workers`.
        executor.shutdown(wait=False, cancel_futures=True)
    # A process that ends takes all jobs down with it. Alone, the one that ended it shows.
    for job in broken:
        executor = make_executor(1)
        try:
            future = executor.submit(_evaluate, job)
            yield job, future.exception() or future.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _find_cases(cases: Path, gts: Path | None) -> list[CaseFiles]:
    try:
        paths = sorted(path for path in cases.iterdir() if path.suffix == ".npz")
    except OSError as error:
        raise RunError(f"{cases}: {error.strerror}, expected a folder of cases") from error
    found = [path for path in paths if not path.name.startswith(".")]
    if not found:
        raise RunError(f"{cases}: no npz file in this folder")
    return [CaseFiles(path, gts / path.name if gts else path) for path in found]


def _begin(folder: TeamFolder, settings: dict[str, Any], cases: list[str]) -> None:
    """Makes the folder ready, or takes up what is in it.

    Raises:
        RunError: it holds results of other settings.
    """
    # What an evaluation that was killed has left.
    shutil.rmtree(folder.path / "work", ignore_errors=True)
    for partial in folder.path.rglob(".*.partial"):
        partial.unlink()
    started = time.strftime("%Y-%m-%d %H:%M")
    if folder.run_file.exists():
        earlier = folder.settings()
        for name in SETTINGS:
            if earlier.get(name) != settings[name]:
                raise RunError(
                    f"{folder.path}: holds results with {name} {earlier.get(name)!r}, found "
                    f"{settings[name]!r}; choose another --name or --out, or remove the folder"
                )
        cases = sorted({*cases, *earlier["cases"]})
        started = earlier["started"]
    for one in (folder.record_file(cases[0]), folder.log_file(cases[0])):
        one.parent.mkdir(exist_ok=True)
    folder.write_settings({**settings, "started": started, "cases": cases})


def _refuse_changed(files: Sequence[CaseFiles], records: dict[str, CaseRecord]) -> dict[str, str]:
    """Returns the cases whose records were made from other files of their names, and why."""
    failed = {}
    for one in files:
        record = records.get(one.case)
        try:
            if record is not None and one.checksums() != record.checksums:
                failed[one.case] = (
                    f"{one.case}: the case is another than the one that was evaluated; "
                    "choose another --name or --out, or remove its record"
                )
        except CaseError as error:
            failed[one.case] = str(error)
    return failed


def _describe(case: str, error: BaseException) -> str:
    if isinstance(error, CaseError):
        return str(error)
    if isinstance(error, BrokenProcessPool):
        return f"{case}: the process ended abruptly (out of memory?)"
    return f"{case}: {type(error).__name__}: {' '.join(str(error).split())}"


def stop_workers() -> None:
    """Ends this process's workers and what they run, after Ctrl-C."""
    workers = mp.active_children()
    for one in workers:
        one.terminate()
    for one in workers:
        one.join(STOP_SECONDS)
        one.kill()


def _end_with_parent() -> None:
    """Makes a worker stop what it runs and end when it is told to, or its parent is gone.

    Without its parent it would wait for work for ever, or evaluate a case that the next evaluation
    also does. Ctrl-C reaches the parent too, which decides.
    """

    def end() -> None:
        stop_running()
        os._exit(1)

    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: end())
    parent = mp.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        end()

    threading.Thread(target=watch, daemon=True).start()

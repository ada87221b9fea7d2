"""Evaluates a folder of cases in parallel; can be interrupted and resumed at any time."""

import logging
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from filelock import FileLock, Timeout

from evaluation.loop import CaseFiles, Method, describe_error, evaluate_case
from evaluation.methods import WAIT_SECONDS, ParsedMethod, stop_running
from evaluation.records import CaseRecord, TeamFolder
from evaluation.removal import remove_tree
from gamt.io.npz import CaseError

logger = logging.getLogger("gamt.evaluation")

T = TypeVar("T")
R = TypeVar("R")

SETTINGS = ("method", "identity", "cases_folder", "gts_folder", "strict_time", "run_limit")
"""Entries of run.json that must be equal for a run to resume an earlier one."""


class RunError(ValueError):
    """An evaluation that can't begin: no cases, or a folder in use or of other settings."""


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


class CaseExecutor(Protocol):
    """What cases are evaluated on: any `concurrent.futures.Executor`, or what has these methods.

    Dask's `Client.get_executor` and loky's executors are of this kind. Workers need the package
    `evaluation`, and must find the cases and the results' folder under the same absolute paths.
    They may be processes, threads or other machines; none of them needs a main thread.
    """

    def submit(self, function: Callable[[T], R], argument: T, /) -> Future[R]:
        """Schedules a call.

        Returns:
            Its future, which raises an error where the worker was lost. `submit` may raise one too.
        """

    def shutdown(self, wait: bool = True) -> None:
        """Frees what the executor holds, at once unless `wait`."""


def make_process_pool(workers: int) -> CaseExecutor:
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
    restart: bool = False,
    show: Callable[[Progress], None] = lambda progress: None,
    make_executor: Callable[[int], CaseExecutor] = make_process_pool,
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
        restart: whether earlier results in `folder` are removed first, whatever their settings.
        show: called first and whenever a case is done.
        make_executor: makes what runs the cases, given the number of workers: once for all cases,
            and once more, with one worker, for every case whose worker was lost.

    Raises:
        RunError: there are no cases, or `folder` is in use, holds results of other settings or what
            is no evaluation, or is or contains the folder of the cases or of their truth.
        RecordError: run.json or a record in `folder` is broken.
    """
    files = _find_cases(cases, gts)
    _refuse_inputs(folder, cases, gts)
    _refuse_foreign(folder)
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
        _begin(folder, settings, [one.case for one in files], restart)
        records = {record.case: record for record in folder.records()}
        failed = _refuse_changed(files, records)
        todo = [one for one in files if one.case not in records and one.case not in failed]

        def progress() -> Progress:
            return Progress(len(files), [records[case] for case in sorted(records)], failed)

        show(progress())
        workplace = TeamFolder(folder.path.absolute())
        jobs = [_Job(one, method.method, workplace) for one in todo]
        try:
            for job, outcome in _run_jobs(jobs, min(workers, len(jobs)), make_executor):
                case = job.files.case
                if isinstance(outcome, CaseRecord):
                    records[case] = outcome
                    with suppress(OSError):  # it is made anew from the records in the end
                        folder.write_metrics(progress().records, strict_time)
                else:
                    failed[case] = outcome
                show(progress())
            if not remove_tree(folder.work):
                logger.warning("%s: what the method left here can't all be removed", folder.work)
        finally:
            # From the files: after Ctrl-C, workers may have written more than they have told.
            there = folder.records()
            folder.write_metrics(there, strict_time)
            folder.write_classes(there)
        return progress()


@dataclass(frozen=True, slots=True)
class _Job:
    """A case to evaluate. Its paths are absolute: workers may run in other folders."""

    files: CaseFiles
    method: Method
    folder: TeamFolder


def _evaluate(job: _Job) -> CaseRecord | str:
    """Evaluates a case on a worker; it is done when its record is written.

    Returns:
        The record, or in one line why there is none. All failures of the case are returned, so
        that an error raised by a future means that the worker was lost, whatever its type.
    """
    case, folder = job.files.case, job.folder
    try:
        record = evaluate_case(
            job.files,
            job.method,
            folder.work_folder(case),
            folder.log_file(case),
            folder.prediction_file(case),
        )
        record.write(folder.record_file(case))
    except CaseError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        return f"{case}: {describe_error(error)}"
    finally:
        # Only now that the record is safe; what can't be removed is told in the end.
        folder.remove_work(case)
    return record


def _run_jobs(
    jobs: Sequence[_Job], workers: int, make_executor: Callable[[int], CaseExecutor]
) -> Iterator[tuple[_Job, CaseRecord | str]]:
    """Yields jobs as they are done, each with its record or why there is none."""
    lost = []
    if jobs:
        for job, outcome in _run_once(jobs, make_executor(workers)):
            if isinstance(outcome, BaseException):
                lost.append(job)
            else:
                yield job, outcome
    # A process that ends takes those of other cases with it. Alone, the one that ended it shows.
    for job in lost:
        yield job, _written(job) or _run_alone(job, make_executor)


def _run_alone(job: _Job, make_executor: Callable[[int], CaseExecutor]) -> CaseRecord | str:
    try:
        executor = make_executor(1)
    except Exception as error:
        return (
            f"{job.files.case}: its worker was lost, and there is no other: {describe_error(error)}"
        )
    ((_, outcome),) = _run_once([job], executor)
    if isinstance(outcome, BaseException):
        alone = "its worker was lost, also when it had no other case (out of memory?)"
        return _written(job) or f"{job.files.case}: {alone}: {describe_error(outcome)}"
    return outcome


def _written(job: _Job) -> CaseRecord | None:
    """Returns the record of a job whose worker was lost after it wrote it."""
    path = job.folder.record_file(job.files.case)
    return CaseRecord.read(path) if path.exists() else None


def _run_once(
    jobs: Iterable[_Job], executor: CaseExecutor
) -> Iterator[tuple[_Job, CaseRecord | str | BaseException]]:
    """Yields jobs as they are done, each with what `_evaluate` returned or how it was lost."""
    futures: dict[Future[CaseRecord | str], _Job] = {}
    try:
        for job in jobs:
            try:
                futures[executor.submit(_evaluate, job)] = job
            except Exception as error:  # broken by a case that was submitted before, say
                yield job, error
        for future in as_completed(futures):
            yield futures[future], _outcome(future)
    finally:
        # After Ctrl-C, not to wait for what is at work: see `stop_workers`.
        for future in futures:
            future.cancel()
        try:
            executor.shutdown(wait=False)
        except Exception as error:
            logger.warning("the executor didn't shut down: %s", describe_error(error))


def _outcome(future: Future[CaseRecord | str]) -> CaseRecord | str | BaseException:
    try:
        # Not raised: SystemExit, which executors pass on, would end the evaluation.
        error = future.exception()
    except CancelledError as cancelled:
        return cancelled
    if error is not None:
        return error
    outcome: object = future.result()
    if isinstance(outcome, CaseRecord | str):
        return outcome
    return TypeError(f"the executor returned {outcome!r}, expected the case's record")


def _find_cases(cases: Path, gts: Path | None) -> list[CaseFiles]:
    try:
        paths = sorted(path for path in cases.iterdir() if path.suffix == ".npz")
    except OSError as error:
        raise RunError(f"{cases}: {error.strerror}, expected a folder of cases") from error
    found = [path for path in paths if not path.name.startswith(".")]
    if not found:
        raise RunError(f"{cases}: no npz file in this folder")
    paths = [path.absolute() for path in found]
    return [CaseFiles(path, gts.absolute() / path.name if gts else path) for path in paths]


def _refuse_inputs(folder: TeamFolder, cases: Path, gts: Path | None) -> None:
    """Refuses a team's folder in which predictions would replace cases, whose names they have.

    Raises:
        RunError: it is the folder of the cases or of their truth, or one of these lies in it.
    """
    for source in (cases, gts):
        if source is not None and source.resolve().is_relative_to(folder.path.resolve()):
            raise RunError(
                f"{folder.path}: {source} is or lies in this folder, which is for results; "
                "choose another --name or --out"
            )


def _refuse_foreign(folder: TeamFolder) -> None:
    """Refuses a folder of something else than an evaluation.

    Raises:
        RunError: it holds files, but no run.json.
    """
    if not folder.path.is_dir():
        return
    # Hidden files don't count: one killed before it wrote run.json leaves its lock.
    found = sorted(one.name for one in folder.path.iterdir() if not one.name.startswith("."))
    if found and folder.run_file.name not in found:
        raise RunError(
            f"{folder.path}: found {found[0]} but no {folder.run_file.name}, expected an empty "
            "folder or earlier results; choose another --name or --out"
        )


def _begin(folder: TeamFolder, settings: dict[str, Any], cases: list[str], restart: bool) -> None:
    """Prepares the team's folder for a first run, or for one that resumes or restarts.

    Raises:
        RunError: it holds results of other settings, and it isn't to restart.
        RecordError: run.json is broken.
    """
    started = time.strftime("%Y-%m-%d %H:%M")
    if folder.run_file.exists() and restart:
        folder.remove_results()
    elif folder.run_file.exists():
        earlier = folder.settings()
        for name in SETTINGS:
            if earlier.get(name) != settings[name]:
                raise RunError(
                    f"{folder.path}: holds results with {name} {earlier.get(name)!r}, found "
                    f"{settings[name]!r}; choose another --name or --out, or --restart"
                )
        cases = sorted({*cases, *earlier["cases"]})
        started = earlier["started"]
        folder.remove_leftovers()
    # First of all, so that whatever else is in the folder is known to be an evaluation's.
    folder.write_settings({**settings, "started": started, "cases": cases})
    for one in (folder.record_file(cases[0]), folder.log_file(cases[0])):
        one.parent.mkdir(exist_ok=True)


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


def stop_workers() -> None:
    """Ends this process's workers and what they run, after Ctrl-C."""
    # The pool's own thread may tell futures of their lost workers that were cancelled already: up
    # to Python 3.11 that is an error there, which nobody has a use for any more.
    threading.excepthook = lambda failure: logger.debug("after the end: %s", failure.exc_value)
    workers = mp.active_children()
    for one in workers:
        one.terminate()
    for one in workers:
        one.join(WAIT_SECONDS)
        if one.is_alive():
            one.kill()  # what it runs ends with it
            one.join()


def _end_with_parent() -> None:
    """Makes this worker end, with what it runs, on SIGTERM or when its parent has ended.

    Otherwise it would wait for work for ever, or evaluate a case that the next evaluation also
    does. SIGINT is ignored: Ctrl-C reaches the parent too, which ends its workers.
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

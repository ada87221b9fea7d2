"""A case as a task: what a worker gets, what it does, and how the driver keeps what comes of it.

A worker writes into a folder of its own for each attempt at a case. The driver alone puts into
place what is done: the volumes, the log, and last of all the record.
"""

import errno
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from evaluation.listing import Listed, case_files
from evaluation.loop import CaseFiles, Method, MethodError, evaluate_case
from evaluation.methods import Fitness, ParsedMethod
from evaluation.records import CaseRecord, TeamFolder
from evaluation.removal import remove_tree
from gamt.cluster.tasks import Call, Lost, Task, Unfit
from gamt.io.files import atomic_write
from gamt.io.npz import CaseError
from gamt.text import describe_error


class FailedError(Exception):
    """Why a case has no record, in one line."""


@dataclass(frozen=True, slots=True)
class Job:
    """A case to evaluate. Its paths are absolute: workers may run in other folders.

    Attributes:
        files: the case, as the driver finds it.
        method: what is evaluated.
        fitness: checks whether a worker has the same method; None on the driver's machine.
        place: where the worker writes, shared with the driver; None for what is sent back.
        name: of what the worker writes there.
        contents: of the image's file and of the truth's, where they are not shared; that is None
            where it is the same file.
        unreadable: why the contents can't be sent, in one line.
    """

    files: CaseFiles
    method: Method
    fitness: Fitness | None
    place: Path | None
    name: str
    contents: tuple[bytes, bytes | None] | None = None
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker has found out about a case.

    Attributes:
        record: None where the case failed.
        failure: why it did, in one line.
        number: of the attempt.
        volumes: the file of predictions, if there are some; None where it is shared.
        log: what the method has printed; None where that is shared.
    """

    record: CaseRecord | None
    failure: str | None
    number: int
    volumes: bytes | None
    log: bytes | None


def make_tasks(
    todo: Iterable[Listed],
    cases: Path,
    gts: Path | None,
    method: ParsedMethod,
    folder: TeamFolder,
    *,
    collect: bool,
    elsewhere: bool,
) -> Iterator[Task[Job, Done]]:
    """Yields the tasks; a case's content is read when a worker is free for it.

    Args:
        todo: the cases, in the order in which they are to be begun.
        cases: their folder.
        gts: that of their truth; None where the cases hold it.
        method: what is evaluated.
        folder: the team's, by an absolute path.
        collect: whether workers share no storage with the driver.
        elsewhere: whether workers may be on other machines.
    """
    # One that was believed to be lost may still write: not where the next run does.
    place = folder.work / uuid.uuid4().hex[:8]
    if not collect:
        place.mkdir(parents=True, exist_ok=True)
    for one in todo:
        files = case_files(cases, gts, one.case)
        # Not the case's name, which a container's engine may take for more than a name.
        name = hashlib.sha256(os.fsencode(one.case)).hexdigest()[:16]
        job = Job(
            files,
            method.method,
            method.fitness if elsewhere else None,
            None if collect else place,
            name,
        )
        if collect:
            try:
                for path in (files.image, files.gts):
                    if path.exists() and not path.is_file():
                        raise OSError(errno.EINVAL, "is no file", os.fspath(path))
                image = files.image.read_bytes()
                truth = None if files.gts == files.image else files.gts.read_bytes()
            except OSError as error:
                job = replace(job, unreadable=f"{one.case}: {describe_error(error)}")
            else:
                job = replace(job, contents=(image, truth))
        yield Task(one.case, _evaluate, job)


def _evaluate(job: Job, call: Call) -> Done:
    """Evaluates a case on a worker.

    Raises:
        Unfit: the worker can't run the method, would run another one, or has other folders.
    """
    if job.unreadable is not None:
        return Done(None, job.unreadable, call.number, None, None)
    if job.fitness is not None:
        try:
            _check(job.fitness)
        except MethodError as error:
            raise Unfit(str(error)) from error
    if job.place is not None:
        for folder in (job.place, job.files.image.parent, job.files.gts.parent):
            if not folder.is_dir():
                raise Unfit(f"{folder}: not there; share it with the workers, or use --collect")
        return _evaluate_in(job, job.files, job.place, call)
    assert job.contents is not None
    image, truth = job.contents
    with tempfile.TemporaryDirectory(prefix="gamt-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        files = CaseFiles(place / job.files.case, place / job.files.case)
        files.image.write_bytes(image)
        if truth is not None:
            files = replace(files, gts=place / "truth" / files.case)
            files.gts.parent.mkdir()
            files.gts.write_bytes(truth)
        return _evaluate_in(job, files, place, call)


def _evaluate_in(job: Job, files: CaseFiles, place: Path, call: Call) -> Done:
    work, log, volumes = _paths(place, job.name, call.number)
    record, failure = None, None
    try:
        record = evaluate_case(files, job.method, work, log, volumes, call.cancelled)
    except CaseError as error:
        failure = str(error)
    except OSError:
        raise  # another machine may have room, or a disk that works
    except MethodError as error:
        if job.fitness is not None:  # likewise what the method needs
            raise Unfit(str(error)) from error
        failure = f"{files.case}: {error}"
    except (Exception, SystemExit) as error:
        failure = f"{files.case}: {describe_error(error)}"
    finally:
        # What can't be removed is told in the end. Where one couldn't be used, there are others,
        # of longer names.
        for one in work.parent.glob(f"{work.name}*"):
            remove_tree(one)
    sent = job.place is None
    return Done(
        record,
        failure,
        call.number,
        volumes.read_bytes() if sent and volumes.exists() else None,
        log.read_bytes() if sent and log.exists() else None,
    )


@cache
def _check(fitness: Fitness) -> None:
    """Checks once that this process can run a method; each time anew where it can't."""
    fitness.check()


def keep_outcome(job: Job, outcome: Done | Lost, folder: TeamFolder) -> CaseRecord:
    """Puts what a worker has written into its place, last of all the record.

    Args:
        job: the task's argument.
        outcome: what has become of the task.
        folder: the team's.

    Raises:
        FailedError: the case has no record.
    """
    case = job.files.case
    try:
        if isinstance(outcome, Lost):
            _keep_logs(job, outcome, folder)
            raise FailedError(f"{case}: given up after {len(outcome.reasons)} attempts: {outcome}")
        log, volumes = folder.log_file(case), folder.prediction_file(case)
        if job.place is None:
            _write(outcome.log, log)
            _write(outcome.volumes, volumes)
        else:
            _, its_log, its_volumes = _paths(job.place, job.name, outcome.number)
            if its_log.exists():
                its_log.replace(log)
            else:  # nothing was printed
                log.unlink(missing_ok=True)
            if outcome.record is not None and outcome.record.predicted:
                its_volumes.replace(volumes)
            else:
                volumes.unlink(missing_ok=True)
        if outcome.record is None:
            raise FailedError(outcome.failure)
        record = replace(
            outcome.record,  # whose files are those that the worker had
            image_file=os.fspath(job.files.image.resolve()),
            gts_file=os.fspath(job.files.gts.resolve()),
        )
        record.write(folder.record_file(case))
    except OSError as error:
        raise FailedError(f"{case}: {describe_error(error)}") from error
    return record


def _keep_logs(job: Job, lost: Lost, folder: TeamFolder) -> None:
    """Keeps, of a case that was given up, what the method printed in each attempt."""
    text = b""
    for number, reason in enumerate(lost.reasons, 1):
        text += f"[attempt {number}, {reason}]\n".encode(errors="backslashreplace")
        if job.place is not None:
            _, log, _ = _paths(job.place, job.name, number)
            with suppress(FileNotFoundError):
                text += log.read_bytes()
    _write(text, folder.log_file(job.files.case))
    _write(None, folder.prediction_file(job.files.case))


def _write(content: bytes | None, path: Path) -> None:
    """Writes a file; where there is no content, what an earlier attempt has left there goes."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        file.write(content)


def _paths(place: Path, name: str, number: int) -> tuple[Path, Path, Path]:
    """Returns where an attempt's method works, its log, and its predictions."""
    return (
        place / f"{name}-{number}",
        place / f"log-{name}-{number}",
        place / f"segs-{name}-{number}",
    )

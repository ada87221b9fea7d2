"""A folder of cases on many workers: processes of this machine, or of a cluster.

One task is one file. Its worker reads the file, segments it and writes the output, both by paths or
URLs that all workers share; or, where nothing is shared, gets the file's bytes and returns those of
the output.
"""

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from gamt import segmenters
from gamt.cluster.tasks import Call, Lost, Task, Unfit, Workers, run_tasks
from gamt.identity import identify_code, identify_model
from gamt.io.files import atomic_write, held_partial, remove_partials
from gamt.io.storage import (
    RemotePath,
    StorageError,
    check_readable,
    check_writable,
    fetched,
    locate,
    put_whole,
    temporary_file,
)
from gamt.predict import (
    CaseFile,
    CaseResult,
    log_outcomes,
    plan_folder,
    predict_file,
    refuse_no_file,
    report_failure,
)
from gamt.segmenters import Segmenter, SegmenterError
from gamt.segmenters.checkpoints import CheckpointError
from gamt.settings import Settings, SettingsError
from gamt.text import printable
from gamt.volume.cache import open_store
from gamt.volume.preparation import check_settings

logger = logging.getLogger("gamt")

_ONE_AT_A_TIME = threading.Lock()
"""For tasks of this process."""


@dataclass(frozen=True, slots=True)
class Method:
    """How workers segment; small, because the model is loaded where it runs.

    Attributes:
        segmenter: the name of the 2-D model, as of `gamt.segmenters.load`.
        arguments: names and values of that function's other arguments.
        settings: how the method works, and the challenge's time limit.
        identity: of code and model as the driver has them; a worker with others gets no task.
        cache: a folder where workers keep encoded slices for later runs; None keeps none.
    """

    segmenter: str
    arguments: tuple[tuple[str, str], ...]
    settings: Settings
    identity: str
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all workers reach under the same names.

    Attributes:
        inputs: the folder, or the one file.
        outputs: the folder.
        witness: a file among the outputs by which a folder that is the driver's is told from
            another of the same name; None for a URL.
    """

    inputs: Path | RemotePath
    outputs: Path | RemotePath
    witness: Path | None


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker is to do: a task's argument.

    Attributes:
        method: how to segment.
        file: what to read, and where the output goes.
        place: what has to be shared; or, where nothing is, the file's bytes.
        level: of the log.
    """

    method: Method
    file: CaseFile
    place: _Shared | bytes
    level: int


@dataclass(frozen=True, slots=True)
class _Labelled:
    """What a worker returns.

    Attributes:
        result: what became of the file.
        records: what was logged meanwhile.
        output: the bytes of the segmentation, where nothing is shared and there is one.
    """

    result: CaseResult
    records: list[logging.LogRecord]
    output: bytes | None


def make_method(
    segmenter: str, arguments: dict[str, str], settings: Settings, cache: Path | None = None
) -> Method:
    """Makes a method of what this machine has under the given names; loads no model.

    Args:
        segmenter: see `Method`.
        arguments: see `Method`.
        settings: see `Method`.
        cache: see `Method`.

    Raises:
        SegmenterError: a package is missing.
        CheckpointError: a file is missing.
    """
    identity = _identify(segmenter, arguments.get("weights"))
    return Method(segmenter, tuple(sorted(arguments.items())), settings, identity, cache)


def predict_cohort(
    inputs: str | os.PathLike[str] | RemotePath,
    outputs: str | os.PathLike[str] | RemotePath,
    method: Method,
    make_workers: Callable[[], Workers],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    resume: bool = False,
    collect: bool = False,
) -> list[CaseResult]:
    """Segments every ``*.npz`` of a folder as `gamt.predict.predict_folder` does, on many workers.

    The largest files come first. The clock of a case begins when its worker has loaded the model
    and begins with the case. A case whose worker is lost is tried once more; lost again, it has
    no segmentation.

    Args:
        inputs: the folder, or a single case file; a path that all workers share, or a URL.
        outputs: the folder for the segmentations; likewise.
        method: from `make_method`.
        make_workers: starts them, or finds them; called once it is known that there is work. They
            are closed in the end, however it comes.
        progress: called with the number of cases done and of all cases, first with none done but
            those kept.
        resume: whether cases that have a segmentation already are left out.
        collect: whether workers share neither `inputs` nor `outputs`: files are sent to them, and
            outputs come back.

    Returns:
        One result a case, in the order of their names; empty where the folder holds none.

    Raises:
        FolderError: `inputs` doesn't exist, or nothing can be written to `outputs`.
        OverwriteError: a segmentation would replace its case.
        StorageError: a URL can't be read or written.
        ClusterError: there are no workers, or all are unfit for this.
    """
    inputs, outputs = locate(inputs), locate(outputs)
    files, results = plan_folder(inputs, outputs, resume=resume)
    total = len(results) + len(files)

    def note(result: CaseResult) -> None:
        results.append(result)
        progress(len(results), total)

    def make_tasks(witness: Path | None) -> Iterator[Task[_Job, _Labelled]]:
        place: _Shared | bytes = _Shared(inputs, outputs, witness)
        level = logger.getEffectiveLevel()
        for file in sorted(files, key=lambda file: -file.size):
            if collect:
                start = time.monotonic()
                try:
                    place = _read_bytes(file.source)
                except Exception as error:
                    note(report_failure(file.source, start, error))
                    continue
            yield Task(file.source.name, _label, _Job(method, file, place, level))

    progress(len(results), total)
    if files:
        held = held_partial(outputs) if isinstance(outputs, Path) else nullcontext()
        with held as witness, closing(run_tasks(make_tasks(witness), make_workers)) as done:
            for task, outcome in done:
                note(_settle(task.argument.file, outcome))
        if isinstance(outputs, Path):
            remove_partials(outputs)  # of workers that were killed as they wrote
    results.sort(key=lambda result: result.name)
    log_outcomes(results)
    return results


def _read_bytes(file: Path | RemotePath) -> bytes:
    if isinstance(file, Path):
        refuse_no_file(file)
        return file.read_bytes()
    with fetched(file) as path:
        return path.read_bytes()


def _settle(file: CaseFile, outcome: _Labelled | Lost) -> CaseResult:
    """Logs what a worker has logged, and writes what it has returned."""
    if isinstance(outcome, Lost):
        reason = f"given up after two attempts: {outcome}"
        logger.error("%s: %s", file.source.name, reason)
        return CaseResult(file.source.name, 0.0, reason, None)
    for record in outcome.records:
        logger.handle(record)
    if outcome.output is None:
        return outcome.result
    start = time.monotonic()
    try:
        if isinstance(file.output, Path):
            with atomic_write(file.output) as target:
                target.write(outcome.output)
        else:
            with put_whole(file.output) as path:
                path.write_bytes(outcome.output)
    except Exception as error:
        return report_failure(file.source, start, error)
    return outcome.result


# --- On a worker ----------------------------------------------------------------------------------


def _label(job: _Job, call: Call) -> _Labelled:
    """Segments one file; a task's function."""
    # One at a time, also where several drivers use one worker of several threads: they share the
    # log and the model.
    with _ONE_AT_A_TIME, _recorded(job.level) as records:
        segmenter, cache = _load(job.method)

        def segment(file: CaseFile, content: bytes | None) -> CaseResult:
            return predict_file(
                file,
                segmenter,
                job.method.settings,
                time.monotonic(),
                cache,
                cancelled=call.cancelled,
                content=content,
            )

        if isinstance(job.place, _Shared):
            _check_shared(job.place)
            return _Labelled(segment(job.file, None), records, None)
        with temporary_file(job.file.source.name) as path:
            result = segment(replace(job.file, output=path), job.place)
            return _Labelled(result, records, path.read_bytes() if path.exists() else None)


@lru_cache(maxsize=1)
def _load(method: Method) -> tuple[Segmenter, Path | None]:
    """Returns the model, and the folder of encoded slices where it can be written to.

    Raises:
        Unfit: code or model are others than the driver's, or can't do what is asked here.
    """
    arguments = dict(method.arguments)
    try:
        identity = _identify(method.segmenter, arguments.get("weights"))
        if identity != method.identity:
            raise Unfit(f"found {identity}, expected {method.identity} as on the driver")
        segmenter = segmenters.load(method.segmenter, **arguments)
        check_settings(method.settings, segmenter)
    except (SegmenterError, CheckpointError, SettingsError) as error:
        raise Unfit(str(error)) from error
    cache = method.cache
    return segmenter, None if cache is None or open_store(segmenter, cache) is None else cache


@lru_cache(maxsize=1)
def _check_shared(shared: _Shared) -> None:
    """Makes sure that this worker reads and writes where the driver does.

    Raises:
        Unfit: it doesn't.
    """
    if isinstance(shared.inputs, Path) and not shared.inputs.exists():
        raise Unfit(f"{shared.inputs}: not there; share it, or use --collect")
    if shared.witness is not None and not shared.witness.exists():
        raise Unfit(f"{shared.outputs}: not the driver's folder; share it, or use --collect")
    try:
        if isinstance(shared.inputs, RemotePath):
            check_readable(shared.inputs)
        if isinstance(shared.outputs, RemotePath):
            check_writable(shared.outputs)
    except StorageError as error:
        raise Unfit(str(error)) from error


def _identify(segmenter: str, weights: str | None) -> str:
    return " ".join([identify_code(), segmenter, *identify_model(segmenter, weights)])


@contextmanager
def _recorded(level: int) -> Iterator[list[logging.LogRecord]]:
    """Keeps what is logged from now on, and shows none of it."""
    records: list[logging.LogRecord] = []
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [_Recorder(records)], False
    logger.setLevel(level)
    try:
        yield records
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


class _Recorder(logging.Handler):
    """Keeps records in a form that can be sent."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        trace = None
        if record.exc_info:
            lines = "".join(traceback.format_exception(record.exc_info[1])).splitlines()
            trace = "\n".join(map(printable, lines))
        plain = {"msg": record.getMessage(), "args": None, "exc_info": None, "exc_text": trace}
        self._records.append(logging.makeLogRecord(record.__dict__ | plain))

"""From files to files: one case in memory, and every npz of a folder."""

import logging
import math
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from gamt.io.case import Case, CaseError, read_case, write_segmentation
from gamt.io.files import refuse_overwrite, refuse_special, remove_partials
from gamt.io.intensities import shift_window
from gamt.io.storage import (
    MissingError,
    RemotePath,
    StorageError,
    check_writable,
    fetched,
    is_within,
    list_files,
    locate,
    put_whole,
    temporary_file,
)
from gamt.lifting.budget import Budget, Cancelled
from gamt.lifting.coarsening import lift_in_memory
from gamt.lifting.fallback import draw_case
from gamt.lifting.pipeline import Lifted
from gamt.lifting.plan import cache_bytes
from gamt.lifting.progress import Report
from gamt.lifting.target import Observer
from gamt.plausibility import (
    NO_NAMES,
    count_voxels,
    warn_of_input,
    warn_of_result,
    warn_of_scale,
)
from gamt.segmenters.base import Segmenter
from gamt.segmenters.door import SegmenterFault, describe_exception
from gamt.settings import PRESETS, Settings
from gamt.text import printable
from gamt.volume.cache import EmbeddingCache, open_store
from gamt.volume.preparation import PreparedVolume, check_settings
from gamt.windows import IntensityWindow

logger = logging.getLogger("gamt")

COMPLETE = "complete"
"""The status of a segmentation for which everything was done."""

MOST_NAMED = 20
"""Classes that a status names one by one."""

Outcome = Literal["fine", "degraded", "failed", "kept"]

__all__ = [
    "COMPLETE",
    "Cancelled",
    "CaseFile",
    "CaseResult",
    "FolderError",
    "Outcome",
    "Prediction",
    "describe_error",
    "log_outcomes",
    "log_prediction",
    "plan_folder",
    "predict_case",
    "predict_file",
    "predict_folder",
    "refuse_no_file",
    "report_failure",
]


class FolderError(ValueError):
    """A folder of cases that can't be read, or one for segmentations that can't be written to."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A segmented case.

    Attributes:
        labels: (D, H, W) uint8 on the input's grid, 0 or a class's label 1..K.
        encoded: number of slices that the segmenter encoded.
        seconds: time since the run's clock began.
        complete: False where the time limit cut the method short, or where it failed as a whole.
        windows: by label, the intensities that each class was seen in: for `Case.windows` of the
            next round, which is to see it in the same.
        status: "complete", or in one line why it is less than it could be, class by class.
    """

    labels: npt.NDArray[np.uint8]
    encoded: int
    seconds: float
    complete: bool
    windows: Mapping[int, IntensityWindow]
    status: str = COMPLETE


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one file of a folder.

    Attributes:
        name: the file's name.
        seconds: time since the case's clock began, reading and writing included.
        error: why there is no segmentation, in one line; None where there is one.
        status: of the segmentation, as of `Prediction`; None where there is none, or where an
            earlier run has made it.
    """

    name: str
    seconds: float
    error: str | None
    status: str | None

    @property
    def outcome(self) -> Outcome:
        """Says whether the segmentation is as good as it gets, less than that, or not there.

        "kept" is that of an earlier run, which this one left as it was.
        """
        if self.error is not None:
            return "failed"
        if self.status is None:
            return "kept"
        return "fine" if self.status == COMPLETE else "degraded"


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A file of a folder of cases.

    Attributes:
        source: the file.
        output: where its segmentation goes.
        size: of the file, in bytes; 0 where it isn't known.
    """

    source: Path | RemotePath
    output: Path | RemotePath
    size: int


def predict_case(
    case: Case,
    segmenter: Segmenter,
    settings: Settings = PRESETS["default"],
    start: float | None = None,
    cache: Path | EmbeddingCache | None = None,
    observer: Observer | None = None,
    *,
    seconds: float = math.inf,
    progress: Report = lambda done, planned: None,
    cancelled: Callable[[], bool] = lambda: False,
    finish: Callable[[], bool] = lambda: False,
    reserve: float = 0.0,
    names: Mapping[int, str] = NO_NAMES,
) -> Prediction:
    """Segments one case.

    By default it keeps to the challenge's time limit (`Settings.budget`), as `gamt predict` does;
    `dataclasses.replace(settings, budget=False)` lifts that. A `Session` has no such limit.

    Args:
        case: the scan and its prompts.
        segmenter: the 2-D model to lift.
        settings: how the method works, and the challenge's time limit.
        start: when the run's clock began, on the clock of `time.monotonic`; None for now.
        cache: a folder where encoded slices are kept for later runs, or the embeddings of the same
            segmenter that are shared with others; None keeps none.
        observer: is told how it goes; None for nobody.
        seconds: allowed from `start` on, beside what the setting `budget` allows. Out of time, the
            case is finished from what has been seen, so that it takes a little longer.
        progress: called with the slices done and those planned so far, whenever one of them rises:
            the method plans its next views only when the ones before are done.
        cancelled: asked before every batch of slices whether the result is not wanted any more,
            such as `threading.Event().is_set`.
        finish: asked likewise whether the case is to be finished at once from what has been seen.
        reserve: seconds of those allowed that are kept for what comes after, such as writing.
        names: of the classes, by label, for the status; those without one are "class 1" etc.

    Raises:
        Cancelled: `cancelled` said so.
        SettingsError: the segmenter can't do what the settings ask of it (`check_settings`).
        ValueError: `seconds` is not a number.
    """
    if math.isnan(seconds):
        raise ValueError("found nan for the seconds allowed, expected a number")
    check_settings(settings, segmenter)
    start = time.monotonic() if start is None else start
    has_box = any(prompts.box is not None for prompts in case.prompts)
    if not isinstance(cache, EmbeddingCache):
        cache = EmbeddingCache(segmenter, cache_bytes(settings), cache)
    volume = PreparedVolume(case.image, case.spacing_mm, cache, settings)
    case = _in_unit_of(volume, case)
    budget = Budget.for_run(settings, has_box, start, len(case.prompts), seconds, reserve)
    lifted = lift_in_memory(case, volume, budget, observer, progress, cancelled, finish)
    return Prediction(
        lifted.labels,
        lifted.encoded,
        time.monotonic() - start,
        lifted.complete,
        {
            label: shift_window(window, volume.exponent) if volume.exponent else window
            for label, window in lifted.windows.items()
        },
        _describe_status(case, lifted, volume.coarser, names),
    )


def _in_unit_of(volume: PreparedVolume, case: Case) -> Case:
    """Returns a case whose intensities are counted in the unit of its prepared volume."""
    if volume.exponent == 0:
        return case
    return replace(
        case,
        image=volume.image,
        window=None if case.window is None else shift_window(case.window, -volume.exponent),
        windows={n: shift_window(one, -volume.exponent) for n, one in case.windows.items()},
    )


def _describe_status(
    case: Case, lifted: Lifted, coarser: str | None, names: Mapping[int, str]
) -> str:
    """Returns the status of a prediction; `coarser` says why its voxels are, None where not."""
    voxels = count_voxels(lifted.labels)
    classes: dict[str, list[int]] = {}
    for one in case.prompts:
        lacks = [*lifted.shortfalls[one.label].describe()]
        if not voxels[one.label]:
            lacks.append("empty")
        if lacks:
            classes.setdefault(", ".join(lacks), []).append(one.label)
    reasons = [] if coarser is None else [coarser]
    reasons += [f"{_describe_classes(labels, names)}: {why}" for why, labels in classes.items()]
    return "; ".join(reasons) or COMPLETE


def _describe_classes(labels: Sequence[int], names: Mapping[int, str]) -> str:
    """Names classes, or counts them where there are too many for a line."""
    if len(labels) > MOST_NAMED:
        return f"{len(labels)} classes"
    if any(label in names for label in labels):
        return ", ".join(names.get(label, f"class {label}") for label in labels)
    numbers = ", ".join(map(str, labels))
    return f"class {numbers}" if len(labels) == 1 else f"classes {numbers}"


def predict_folder(
    inputs: str | os.PathLike[str] | RemotePath,
    outputs: str | os.PathLike[str] | RemotePath,
    segmenter: Segmenter,
    settings: Settings = PRESETS["default"],
    start: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cache: Path | None = None,
    finish: Callable[[], bool] = lambda: False,
    *,
    resume: bool = False,
) -> list[CaseResult]:
    """Segments every ``*.npz`` of a folder, in the order of their names.

    A case whose file can be read has a segmentation, whatever fails: in the end its previous
    prediction, or the shape that its prompts draw (`gamt.lifting.fallback`). The log ("gamt"),
    the result and the segmentation's `status` say so. A case without one is reported in the log and
    in its result, and the others are done. One case at a time is held in memory.

    Args:
        inputs: the folder, or a single case file; a path, or a URL that fsspec knows, such as
            ``s3://bucket/folder``. What has a name that begins with a dot doesn't count; anything
            else named ``*.npz`` does, also where it is no file.
        outputs: the folder for the segmentations, named as their cases; likewise. One of this
            machine is made where there is none, and what an earlier run has left there that was
            killed is removed.
        segmenter: the 2-D model to lift.
        settings: how the method works, and the challenge's time limit.
        start: when the first case's clock began, on the clock of `time.monotonic`; None for now.
            The clock of every other case begins when the one before it is done.
        progress: called with the number of cases done and of all cases, first with none done but
            those kept.
        cache: a folder where encoded slices are kept for later runs; None keeps none.
        finish: asked before every batch of slices whether the case at hand is to be finished at
            once from what has been seen, and no other one begun.
        resume: whether cases that have a segmentation already are left out.

    Returns:
        One result a case that was kept, and then one a case that was begun, each in order; empty
        where the folder holds none.

    Raises:
        FolderError: `inputs` doesn't exist, or nothing can be written to `outputs`.
        OverwriteError: a segmentation would replace its case.
        SettingsError: the segmenter can't do what the settings ask of it (`check_settings`).
        StorageError: a URL can't be read or written.
    """
    check_settings(settings, segmenter)
    files, results = plan_folder(inputs, outputs, resume=resume)
    # A relative one would mean another, should the segmenter change the working directory.
    cache = None if cache is None else cache.absolute()
    if cache is not None and open_store(segmenter, cache) is None:
        cache = None  # the warning comes once, not with every case
    start = time.monotonic() if start is None else start
    total = len(results) + len(files)
    progress(len(results), total)
    for file in files:
        if finish():
            count = total - len(results)
            logger.error("stopped before %s: %d cases not begun", file.source, count)
            break
        results.append(predict_file(file, segmenter, settings, start, cache, finish))
        start = time.monotonic()
        progress(len(results), total)
    log_outcomes(results)
    return results


def plan_folder(
    inputs: str | os.PathLike[str] | RemotePath,
    outputs: str | os.PathLike[str] | RemotePath,
    *,
    resume: bool = False,
) -> tuple[list[CaseFile], list[CaseResult]]:
    """Finds the cases of a folder, and makes sure that their segmentations can be written.

    Args:
        inputs: as of `predict_folder`.
        outputs: likewise.
        resume: likewise.

    Returns:
        The cases to be segmented, in the order of their names, by absolute paths; and the results
        of those that are left out, about which there is a line in the log.

    Raises:
        FolderError: `inputs` doesn't exist, or nothing can be written to `outputs`.
        OverwriteError: a segmentation would replace its case.
        StorageError: a URL can't be read or written.
    """
    inputs, outputs = locate(inputs), locate(outputs)
    found = _find_cases(inputs)
    _refuse_same_folder([source for source, _ in found], outputs)
    # Whether it can be written to is found out now rather than after the first case's work.
    if isinstance(outputs, Path):
        _make_writable(outputs)
        remove_partials(outputs)
    else:
        check_writable(outputs)
    done = _find_done(outputs) if resume else frozenset()
    kept = [CaseResult(source.name, 0.0, None, None) for source, _ in found if source.name in done]
    if kept:
        logger.info("%d of %d cases have a segmentation already", len(kept), len(found))
    files = [
        CaseFile(source, outputs / source.name, size)
        for source, size in found
        if source.name not in done
    ]
    for file in files:
        if isinstance(file.source, Path) and isinstance(file.output, Path) and file.output.exists():
            refuse_overwrite(file.output, [file.source])
    return files, kept


def describe_error(error: BaseException) -> str:
    """Returns an exception in one line, with its type where the text was not made for users."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    text = describe_exception(error)
    known = isinstance(error, CaseError | SegmenterFault | StorageError)
    return text.removeprefix(f"{type(error).__name__}: ") if known else text


def predict_file(
    file: CaseFile,
    segmenter: Segmenter,
    settings: Settings,
    start: float,
    cache: Path | None = None,
    finish: Callable[[], bool] = lambda: False,
    cancelled: Callable[[], bool] = lambda: False,
    content: bytes | None = None,
) -> CaseResult:
    """Segments one file, as `predict_folder` does each of a folder.

    Args:
        file: the file, and where its segmentation goes.
        segmenter: the 2-D model to lift.
        settings: how the method works, and the challenge's time limit.
        start: when the case's clock began, on the clock of `time.monotonic`.
        cache: a folder where encoded slices are kept for later runs; None keeps none.
        finish: asked before every batch of slices whether the case is to be finished at once.
        cancelled: asked likewise whether the segmentation is not wanted any more.
        content: the file's bytes, where it isn't to be read from its place; None where it is.

    Raises:
        Cancelled: `cancelled` said so; nothing is written.
    """
    try:
        if isinstance(file.output, Path):
            refuse_special(file.output)
        began = time.monotonic()
        case = _read(file.source, content)
        # A disk that is slow to read is slow to write, and as many voxels are written.
        reserve = time.monotonic() - began
    except Exception as error:
        return report_failure(file.source, start, error)
    prediction, reason = None, ""
    try:
        warn_of_input(case)
        warn_of_scale(case, settings.scale)
        prediction = predict_case(
            case,
            segmenter,
            settings,
            start,
            cache,
            cancelled=cancelled,
            finish=finish,
            reserve=reserve,
        )
    except (Cancelled, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever it is, the case has an output
        reason = describe_error(error)
        logger.debug("%s: where it failed", file.source.name, exc_info=True)
    try:
        if prediction is None:  # here, because the handler's traceback holds on to memory
            prediction = _predict_without(case, reason, start)
        _write(file.output, prediction, segmenter)
    except Exception as error:
        return report_failure(file.source, start, error)
    seconds = time.monotonic() - start
    log_prediction(case, prediction, segmenter, seconds)
    return CaseResult(file.source.name, seconds, None, prediction.status)


def _read(file: Path | RemotePath, content: bytes | None) -> Case:
    if content is not None:
        with temporary_file(file.name) as path:
            path.write_bytes(content)
            return read_case(path)
    if isinstance(file, Path):
        refuse_no_file(file)
        return read_case(file)
    with fetched(file) as path:
        return read_case(path)


def _write(file: Path | RemotePath, prediction: Prediction, segmenter: Segmenter) -> None:
    if isinstance(file, Path):
        write_segmentation(file, prediction.labels, segmenter.name, prediction.status)
    else:
        with put_whole(file) as path:
            write_segmentation(path, prediction.labels, segmenter.name, prediction.status)


def _predict_without(case: Case, reason: str, start: float) -> Prediction:
    """Returns what there is without any lifting, which failed for some reason."""
    is_new = case.previous is None or not case.previous.any()
    source = "the prompts' shape" if is_new else "the previous prediction"
    status = f"{source} alone ({reason})"
    labels = draw_case(case)
    return Prediction(labels, 0, time.monotonic() - start, False, {}, status)


def report_failure(path: Path | RemotePath, start: float, error: Exception) -> CaseResult:
    """Logs that a case gets no segmentation; called where the error is handled.

    Args:
        path: the case's file.
        start: when its clock began, on the clock of `time.monotonic`.
        error: why.

    Returns:
        The case's result.
    """
    reason = describe_error(error)
    names_file = isinstance(error, CaseError | StorageError)
    logger.error("%s", reason if names_file else f"{path.name}: {reason}")
    logger.debug("%s: where it failed", path.name, exc_info=True)
    return CaseResult(path.name, time.monotonic() - start, reason, None)


def log_outcomes(results: Sequence[CaseResult]) -> None:
    """Logs in one line how many cases are fine, degraded and failed; nothing of no case."""
    counts = Counter(result.outcome for result in results)
    if results:
        level = logging.ERROR if counts["failed"] else logging.INFO
        logger.log(
            level,
            "%d %s: %d fine, %d degraded, %d failed%s",
            len(results),
            "case" if len(results) == 1 else "cases",
            *(counts[outcome] for outcome in ("fine", "degraded", "failed")),
            f", {counts['kept']} kept" if counts["kept"] else "",
        )


def log_prediction(
    case: Case,
    prediction: Prediction,
    segmenter: Segmenter,
    seconds: float,
    names: Mapping[int, str] = NO_NAMES,
) -> None:
    """Logs a finished case in one line, and warns of an empty result.

    The line is a warning where the status is not "complete".

    Args:
        case: the scan and its prompts.
        prediction: its segmentation.
        segmenter: the 2-D model that was lifted.
        seconds: that it took.
        names: of the classes, by label; those without one are called "class 1" etc.
    """
    logger.log(
        logging.INFO if prediction.status == COMPLETE else logging.WARNING,
        "%s: %s on %s, %d %s, window %s, %d slices encoded, %.1f s%s",
        case.name,
        segmenter.name,
        segmenter.traits.device,
        len(case.prompts),
        "class" if len(case.prompts) == 1 else "classes",
        _describe_windows(prediction.windows, names),
        prediction.encoded,
        seconds,
        "" if prediction.status == COMPLETE else f"; {prediction.status}",
    )
    warn_of_result(case, prediction.labels, names)


def _describe_windows(windows: Mapping[int, IntensityWindow], names: Mapping[int, str]) -> str:
    """Tells the windows of all classes, and whose they are where they differ."""
    seen: dict[IntensityWindow, list[str]] = {}
    for label, window in windows.items():
        seen.setdefault(window, []).append(names.get(label, f"class {label}"))
    if not seen:
        return "none"
    if len(seen) == 1:
        return next(iter(seen)).describe()
    return "; ".join(f"{one.describe()} ({', '.join(whose)})" for one, whose in seen.items())


def _find_cases(inputs: Path | RemotePath) -> list[tuple[Path | RemotePath, int]]:
    """Returns the case files of a folder in the order of their names, or the one file given.

    Each comes with its size in bytes, 0 where that isn't known.
    """
    if isinstance(inputs, RemotePath):
        return [
            (file, size)
            for file, size in list_files(inputs)
            if file == inputs or _is_case(file.name)
        ]
    try:
        if inputs.is_file():
            files = [inputs]
        else:
            files = sorted(path for path in inputs.iterdir() if _is_case(path.name))
    except OSError as error:
        raise FolderError(f"{inputs}: {error.strerror}, expected a folder of cases") from error
    return [(path, _file_size(path)) for path in files]


def _is_case(name: str) -> bool:
    return name.endswith(".npz") and not name.startswith(".")


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # such as of a link to nowhere: told when it is its turn
        return 0


def _refuse_same_folder(sources: Sequence[Path | RemotePath], outputs: Path | RemotePath) -> None:
    """Refuses to write to the folder that the cases are in.

    Raises:
        FolderError: it is the same.
    """
    first = sources[0] if sources else None  # the others lie in the same folder
    if isinstance(outputs, Path):
        same = isinstance(first, Path) and first.parent.resolve() == outputs.resolve()
    else:
        same = isinstance(first, RemotePath) and is_within(first, outputs)
    if same:
        raise FolderError(f"{outputs}: the segmentations would replace the cases of this folder")


def _find_done(outputs: Path | RemotePath) -> frozenset[str]:
    """Returns the names of the segmentations that are there."""
    if isinstance(outputs, Path):
        with os.scandir(outputs) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    try:
        return frozenset(file.name for file, _ in list_files(outputs))
    except MissingError:  # in object storage, a folder is there once it holds something
        return frozenset()


def refuse_no_file(path: Path) -> None:
    """Refuses what is no file, and would keep its reader waiting or be read without end.

    Raises:
        CaseError: it is a folder, a pipe, a socket, a device, a link to nowhere, or gone.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        found = "a link to nowhere" if path.is_symlink() else "nothing there any more"
        raise CaseError(path, None, found, "a file") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        found = kinds.get(stat.S_IFMT(mode), "a device")
        raise CaseError(path, None, found, "a file")


def _make_writable(outputs: Path) -> None:
    try:
        outputs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{outputs}: {error.strerror}, expected a folder to write to") from error
    if not os.access(outputs, os.W_OK | os.X_OK):
        raise FolderError(f"{outputs}: no permission to write to this folder")

"""From files to files: one case in memory, and every npz of a folder."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamt.io.case import Case, CaseError, read_case, write_segmentation
from gamt.io.files import refuse_overwrite
from gamt.lifting.budget import Budget, Cancelled
from gamt.lifting.pipeline import lift
from gamt.lifting.progress import Report
from gamt.lifting.target import Observer
from gamt.plausibility import NO_NAMES, warn_of_input, warn_of_result, warn_of_scale
from gamt.segmenters.base import Segmenter
from gamt.segmenters.door import SegmenterFault
from gamt.settings import PRESETS, Settings
from gamt.volume.cache import EmbeddingCache, open_store
from gamt.volume.preparation import PreparedVolume
from gamt.windows import IntensityWindow

logger = logging.getLogger("gamt")


__all__ = [
    "Cancelled",
    "CaseResult",
    "FolderError",
    "Prediction",
    "describe_error",
    "log_prediction",
    "predict_case",
    "predict_folder",
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
        complete: False where the time limit cut the method short.
        windows: by label, the intensities that each class was seen in: for `Case.windows` of the
            next round, which is to see it in the same.
    """

    labels: npt.NDArray[np.uint8]
    encoded: int
    seconds: float
    complete: bool
    windows: Mapping[int, IntensityWindow]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one file of a folder.

    Attributes:
        name: the file's name.
        seconds: time since the case's clock began, reading and writing included.
        error: why there is no segmentation, in one line; None where there is one.
        complete: False where the time limit cut the method short, or where there is an error.
    """

    name: str
    seconds: float
    error: str | None
    complete: bool


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

    Raises:
        Cancelled: `cancelled` said so.
        ValueError: `seconds` is not a number.
    """
    if math.isnan(seconds):
        raise ValueError("found nan for the seconds allowed, expected a number")
    start = time.monotonic() if start is None else start
    has_box = any(prompts.box is not None for prompts in case.prompts)
    if not isinstance(cache, EmbeddingCache):
        cache = EmbeddingCache(segmenter, settings.cache_mb * 2**20, cache)
    volume = PreparedVolume(case.image, case.spacing_mm, cache, settings)
    budget = Budget.for_run(settings, has_box, start, len(case.prompts), seconds)
    lifted = lift(case, volume, budget, observer, progress, cancelled)
    taken = time.monotonic() - start
    return Prediction(lifted.labels, lifted.encoded, taken, lifted.complete, lifted.windows)


def predict_folder(
    inputs: str | os.PathLike[str],
    outputs: str | os.PathLike[str],
    segmenter: Segmenter,
    settings: Settings = PRESETS["default"],
    start: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cache: Path | None = None,
) -> list[CaseResult]:
    """Segments every ``*.npz`` of a folder, in the order of their names.

    A case that fails is reported in the log ("gamt") and in its result, and the others are done.
    One case at a time is held in memory.

    Args:
        inputs: the folder, or a single case file. Files whose names begin with a dot don't count.
        outputs: the folder for the segmentations, named as their cases; made where there is none.
        segmenter: the 2-D model to lift.
        settings: how the method works, and the challenge's time limit.
        start: when the first case's clock began, on the clock of `time.monotonic`; None for now.
            The clock of every other case begins when the one before it is done.
        progress: called with the number of cases done and of all cases, first with none done.
        cache: a folder where encoded slices are kept for later runs; None keeps none.

    Returns:
        One result a case, in order; empty where the folder holds no case.

    Raises:
        FolderError: `inputs` doesn't exist, or nothing can be written to `outputs`.
        OverwriteError: a segmentation would replace its case.
    """
    paths = _find_cases(Path(inputs))
    outputs = Path(outputs)
    if any(path.parent.resolve() == outputs.resolve() for path in paths):
        raise FolderError(f"{outputs}: the segmentations would replace the cases of this folder")
    for path in paths:
        refuse_overwrite(outputs / path.name, [path])
    _make_writable(outputs)
    if cache is not None and open_store(segmenter, cache) is None:
        cache = None  # the warning comes once, not with every case
    start = time.monotonic() if start is None else start
    results = []
    progress(0, len(paths))
    for path in paths:
        results.append(_predict_file(path, outputs / path.name, segmenter, settings, start, cache))
        start = time.monotonic()
        progress(len(results), len(paths))
    return results


def describe_error(error: Exception) -> str:
    """Returns an exception in one line, with its type where the text was not made for users."""
    text = " ".join(str(error).split())
    known = isinstance(error, CaseError | SegmenterFault)
    return text if known else f"{type(error).__name__}: {text}"


def _predict_file(
    path: Path,
    output: Path,
    segmenter: Segmenter,
    settings: Settings,
    start: float,
    cache: Path | None,
) -> CaseResult:
    try:
        case = read_case(path)
        warn_of_input(case)
        warn_of_scale(case, settings.scale)
        prediction = predict_case(case, segmenter, settings, start, cache)
        write_segmentation(output, prediction.labels, segmenter.name)
    except Exception as error:  # whatever a segmenter or the memory failed at, the others go on
        reason = describe_error(error)
        # A CaseError names the file itself.
        logger.error("%s", reason if isinstance(error, CaseError) else f"{path.name}: {reason}")
        logger.debug("%s: where it failed", path.name, exc_info=True)
        return CaseResult(path.name, time.monotonic() - start, reason, complete=False)
    seconds = time.monotonic() - start
    log_prediction(case, prediction, segmenter, seconds)
    return CaseResult(path.name, seconds, None, prediction.complete)


def log_prediction(
    case: Case,
    prediction: Prediction,
    segmenter: Segmenter,
    seconds: float,
    names: Mapping[int, str] = NO_NAMES,
) -> None:
    """Logs a finished case in one line, and warns of an empty result.

    Args:
        case: the scan and its prompts.
        prediction: its segmentation.
        segmenter: the 2-D model that was lifted.
        seconds: that it took.
        names: of the classes, by label; those without one are called "class 1" etc.
    """
    logger.info(
        "%s: %s on %s, %d %s, window %s, %d slices encoded, %.1f s%s",
        case.name,
        segmenter.name,
        segmenter.traits.device,
        len(case.prompts),
        "class" if len(case.prompts) == 1 else "classes",
        _describe_windows(prediction.windows, names),
        prediction.encoded,
        seconds,
        "" if prediction.complete else ", cut short by the time limit",
    )
    warn_of_result(case, prediction.labels, names)


def _describe_windows(windows: Mapping[int, IntensityWindow], names: Mapping[int, str]) -> str:
    """Tells the windows of all classes, and whose they are where they differ."""
    seen: dict[IntensityWindow, list[str]] = {}
    for label, window in windows.items():
        seen.setdefault(window, []).append(names.get(label, f"class {label}"))
    if len(seen) == 1:
        return next(iter(seen)).describe()
    return "; ".join(f"{one.describe()} ({', '.join(whose)})" for one, whose in seen.items())


def _find_cases(inputs: Path) -> list[Path]:
    """Returns the case files of a folder in the order of their names, or the one file given."""
    if inputs.is_file():
        return [inputs]
    try:
        return sorted(
            path
            for path in inputs.iterdir()
            if path.suffix == ".npz" and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise FolderError(f"{inputs}: {error.strerror}, expected a folder of cases") from error


def _make_writable(outputs: Path) -> None:
    # Found out now rather than after the first case's work.
    try:
        outputs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{outputs}: {error.strerror}, expected a folder to write to") from error
    if not os.access(outputs, os.W_OK | os.X_OK):
        raise FolderError(f"{outputs}: no permission to write to this folder")

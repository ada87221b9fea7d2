"""The challenge's six runs of one case around any method (docs/challenge.md, 1 to 4).

Follows the loop of `CVPR25_iter_eval.py`. What is written for the method holds the same values
under the same keys as the official script's files.
"""

import math
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evaluation.clicks import simulate_clicks
from evaluation.metrics import class_dsc, class_nsd
from evaluation.records import CLICKS, CaseRecord, ClassClick, Interaction
from evaluation.workplace import Workplace
from gamt.io.case import MOST_BOXES_BYTES, MOST_NUMBERS_BYTES, read_volume
from gamt.io.npz import (
    Place,
    as_number,
    as_sequence,
    has_member,
    object_array,
    open_npz,
    read_member,
    show,
    write_members,
    write_npz,
)

LEAST_DSC = 0.2
"""NSD is 0 where the mean Dice isn't above this."""

_KEPT = {"imgs": None, "gts": None, "spacing": MOST_NUMBERS_BYTES, "boxes": MOST_BOXES_BYTES}
"""Keys of a case that every run's file has, where the case has them, and the most bytes of each."""


class Ended(NamedTuple):
    """How a run of a method ended.

    Attributes:
        failure: what went wrong, in a line; None if nothing is known to. The output counts either
            way.
        seconds: that the method itself took.
    """

    failure: str | None
    seconds: float


class Method(Protocol):
    """What is evaluated."""

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """Segments the one file in ``inputs/`` into a file of the same name in ``outputs/``.

        Args:
            folder: holds the two folders.
            log: a text file, to which whatever the method prints is added.
            cancelled: says whether nobody wants the result any more.

        Raises:
            LateError: the run was past its limit. What it wrote is discarded.
            CancelledError: `cancelled` said so.
            MethodError: the method can't run here at all.
        """


class MethodError(ValueError):
    """A method that doesn't exist or can't run here."""


class CancelledError(Exception):
    """A case of which nobody wants the result any more."""


class LateError(Exception):
    """A run of a method that was past its limit.

    Args:
        limit: in seconds.
        troubles: what else went wrong, each in some words.

    Attributes:
        seconds: the limit, which counts as the run's time.
    """

    def __init__(self, limit: float, *troubles: str) -> None:
        super().__init__(", ".join((f"stopped after {limit:g} s", *troubles)))
        self.seconds = limit


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        image: npz with `imgs`, `spacing` and, except for targets without a box, `boxes`.
        gts: npz with `gts`; the same file, or one that the method doesn't see.
    """

    image: Path
    gts: Path

    @property
    def case(self) -> str:
        """The case's name, with its suffix."""
        return self.image.name

    def checksums(self) -> dict[str, int]:
        """Returns the CRC-32 of the arrays that count, as the files state them.

        Raises:
            CaseError: a file is missing, or no npz.
        """
        with open_npz(self.image) as image, open_npz(self.gts) as gts:
            members = [("image", one) for one in image.infolist()]
            members += [("gts", one) for one in gts.infolist()]
            kept = [f"{key}.npy" for key in _KEPT]
            return {
                f"{file}:{one.filename}": one.CRC for file, one in members if one.filename in kept
            }


def evaluate_case(
    files: CaseFiles,
    method: Method,
    folder: Path,
    log: Path,
    prediction: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> CaseRecord:
    """Runs a method on one case as the official script does, and scores every run.

    Whatever the method does, every run of it is scored (docs/challenge.md, 4).

    Args:
        files: the case.
        method: what is evaluated.
        folder: for the method to work in; what is there is removed first. It stays, for the caller
            to remove once the record is safe (`evaluation.workplace.remove_tree`).
        log: gets what the method prints.
        prediction: npz, gets `segs` and `all_segs` unless nothing was ever predicted.
        cancelled: asked, again and again, whether nobody wants the result any more.

    Raises:
        CancelledError: `cancelled` said so.
        CaseError: the case can't be used.
        OSError: a file can't be written, such as on a full disk.
    """
    began = time.perf_counter()
    checksums = files.checksums()
    gts = read_volume(files.gts, "gts")
    spacing = _read_spacing(files.image)
    workplace = Workplace(folder, files.case, gts.shape)
    log.unlink(missing_ok=True)

    orders: list[list[str | None]] = []
    voxels: list[dict[str, list[list[np.int64]]]] = []
    interactions: list[Interaction] = []
    around = 0.0  # seconds of the runs with what it takes to start and to end them
    predictions: list[npt.NDArray[np.uint8]] = []
    # A file without a name is out of the method's reach, and gone with this process.
    with tempfile.TemporaryFile(dir=folder.parent) as template:
        has_box = _write_template(files, template)
        for number in range(1, CLICKS + 2):
            if number == 1 and not has_box:
                continue
            if cancelled():
                raise CancelledError
            clicks: tuple[ClassClick | None, ...] = ()
            if number == 1:
                workplace.prepare(partial(shutil.copyfile, files.image))
            else:
                previous = _to_bytes(workplace.segs)
                clicks = _click(gts, previous)
                orders = orders or [[] for _ in clicks]
                voxels = voxels or [{"fg": [], "bg": []} for _ in clicks]
                for click, order, listed in zip(clicks, orders, voxels, strict=True):
                    order.append(None if click is None else click.kind)
                    if click:
                        listed[click.kind].append([np.int64(index) for index in click.voxel])
                arrays = {
                    "clicks": object_array(voxels),
                    "clicks_order": np.asanyarray(orders),
                    "prev_pred": previous,
                }
                workplace.prepare(partial(_write_source, template, arrays))
            start = time.perf_counter()
            late = False
            try:
                failure, seconds = method.run(workplace.folder, log, cancelled)
            except LateError as error:
                failure, seconds, late = str(error), error.seconds, True
            around += time.perf_counter() - start
            output, trouble = workplace.take_output(late)
            segs = workplace.segs
            predictions.append(_to_bytes(segs))
            by_class = class_dsc(gts, segs)
            labels = tuple(by_class)
            dsc, nsd, surfaces = _score(gts, segs, spacing, tuple(by_class.values()))
            interactions.append(
                Interaction(
                    number,
                    clicks,
                    seconds,
                    output,
                    ", ".join(filter(None, (trouble, failure))) or None,
                    dsc,
                    nsd,
                    tuple(by_class.values()),
                    surfaces,
                )
            )
    record = CaseRecord(
        case=files.case,
        image_file=os.fspath(files.image.resolve()),
        gts_file=os.fspath(files.gts.resolve()),
        checksums=checksums,
        spacing=spacing,
        labels=labels,
        interactions=tuple(interactions),
        voxels=gts.size,
        own_seconds=time.perf_counter() - began - around,
    )
    workplace.make_room()
    if record.predicted:
        write_npz(prediction, {"segs": segs, "all_segs": np.stack(predictions)})
    return record


def _score(
    gts: npt.NDArray[Any],
    segs: npt.NDArray[Any],
    spacing: Sequence[float],
    dice: tuple[float, ...],
) -> tuple[float, float, tuple[float, ...] | None]:
    """Returns DSC, NSD and, where it counts, NSD by class."""
    dsc = float(np.mean(dice)) if dice else math.nan
    if not dsc > LEAST_DSC:
        return dsc, 0.0, None
    by_class = tuple(class_nsd(gts, segs, spacing).values())
    return dsc, float(np.mean(by_class)), by_class


def _click(gts: npt.NDArray[Any], segs: npt.NDArray[np.uint8]) -> tuple[ClassClick | None, ...]:
    return tuple(
        ClassClick(kind, voxel) if kind and voxel else None
        for _, kind, voxel in simulate_clicks(gts, segs)
    )


def _write_template(files: CaseFiles, template: IO[bytes]) -> bool:
    """Writes what the files of all runs after the first have in common.

    Returns:
        Whether the case has boxes.

    Raises:
        CaseError: the case has no image, or an array in it is broken.
    """
    with open_npz(files.image) as archive:
        keys = [key for key in _KEPT if has_member(archive, key)]
        # Ground truth from elsewhere is kept from the method.
        if files.gts != files.image and "gts" in keys:
            keys.remove("gts")
        if "imgs" not in keys:
            raise Place(files.image, "imgs").error("no such key", "a (D, H, W) volume")
        arrays = {key: read_member(archive, Place(files.image, key), _KEPT[key]) for key in keys}
        recent = "boxes" in keys and b"numpy._core" in archive.read("boxes.npy")
        if len(keys) == len(archive.infolist()) and not recent:
            with files.image.open("rb") as image:  # spares compressing it all again
                shutil.copyfileobj(image, template)
        else:
            with zipfile.ZipFile(template, "w") as copy:
                write_members(copy, {key: one for key, one in arrays.items() if one is not None})
        return "boxes" in keys


def _write_source(
    template: IO[bytes], arrays: Mapping[str, npt.NDArray[Any]], source: Path
) -> None:
    """Writes the file of a run with clicks."""
    template.seek(0)
    with source.open("wb") as file:
        shutil.copyfileobj(template, file)
    with zipfile.ZipFile(source, "a") as archive:
        write_members(archive, arrays)


def _read_spacing(path: Path) -> tuple[float, ...]:
    """Reads the spacing as it stands; the scores take it so."""
    place = Place(path, "spacing")
    expected = "3 numbers, mm per voxel along z, y, x"
    with open_npz(path) as archive:
        array = read_member(archive, place, _KEPT[place.key])
    if array is None:
        raise place.error("no such key", expected)
    values = as_sequence(array, expected, place)
    numbers = [as_number(value) for value in values]
    spacing = tuple(number for number in numbers if number is not None)
    if len(spacing) != 3 or len(numbers) != 3:
        raise place.error(show(values), expected)
    return spacing


def _to_bytes(segs: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):
        return segs.astype(np.uint8)

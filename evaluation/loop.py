"""The challenge's six runs of one case around any method (docs/challenge.md, 1 to 4).

Follows the loop of `CVPR25_iter_eval.py`. What is written for the method holds the same values
under the same keys as the official script's files.
"""

import math
import os
import shutil
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evaluation.clicks import simulate_clicks
from evaluation.metrics import class_dsc, class_nsd
from evaluation.records import CLICKS, CaseRecord, ClassClick, Interaction, Output
from gamt.io.case import read_volume
from gamt.io.npz import (
    CaseError,
    Place,
    as_number,
    as_sequence,
    has_member,
    object_array,
    open_npz,
    read_member,
    write_members,
    write_npz,
)

LEAST_DSC = 0.2
"""NSD is 0 where the mean Dice isn't above this."""

_KEPT = ("imgs", "gts", "spacing", "boxes")
"""Keys of a case that every run's file has, where the case has them."""


class Method(Protocol):
    """What is evaluated."""

    def run(self, folder: Path, log: Path) -> str | None:
        """Segments the one file in ``inputs/`` into a file of the same name in ``outputs/``.

        Args:
            folder: holds the two folders.
            log: a text file, to which whatever the method prints is added.

        Returns:
            What went wrong, in a line; None if nothing is known to. The output counts either way.
        """


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
    files: CaseFiles, method: Method, folder: Path, log: Path, prediction: Path
) -> CaseRecord:
    """Runs a method on one case as the official script does, and scores every run.

    Args:
        files: the case.
        method: what is evaluated.
        folder: for the method to work in; emptied first.
        log: gets what the method prints.
        prediction: npz, gets `segs` and `all_segs` unless nothing was ever predicted.

    Raises:
        CaseError: the case, or what the method wrote, can't be used. The official script gives up
            the whole team then.
    """
    began = time.perf_counter()
    checksums = files.checksums()
    gts = read_volume(files.gts, "gts")
    spacing = _read_spacing(files.image)
    inputs, outputs = _make_folders(folder)
    source, output = inputs / files.case, outputs / files.case
    template = folder / "template.npz"
    has_box = _write_template(files, template)
    shutil.copyfile(files.image, source)
    log.unlink(missing_ok=True)

    orders: list[list[str | None]] = []
    voxels: list[dict[str, list[list[np.int64]]]] = []
    interactions: list[Interaction] = []
    predictions: list[npt.NDArray[np.uint8]] = []
    segs: npt.NDArray[Any] = np.zeros_like(gts)
    for number in range(1, CLICKS + 2):
        if number == 1 and not has_box:
            continue
        clicks: tuple[ClassClick | None, ...] = ()
        if number > 1:
            previous = _to_bytes(segs)
            clicks = _click(gts, previous)
            orders = orders or [[] for _ in clicks]
            voxels = voxels or [{"fg": [], "bg": []} for _ in clicks]
            for click, order, listed in zip(clicks, orders, voxels, strict=True):
                order.append(None if click is None else click.kind)
                if click:
                    listed[click.kind].append([np.int64(index) for index in click.voxel])
            _write_source(source, template, voxels, orders, previous)
        before = _changed(output)
        start = time.perf_counter()
        failure = method.run(folder, log)
        seconds = time.perf_counter() - start
        segs = _read_output(output, gts)
        predictions.append(_to_bytes(segs))
        state: Output = "none"
        if (after := _changed(output)) is not None:
            state = "stale" if after == before else "written"
        by_class = class_dsc(gts, segs)
        labels = tuple(by_class)
        dsc, nsd, surfaces = _score(gts, segs, spacing, tuple(by_class.values()))
        interactions.append(
            Interaction(
                number,
                clicks,
                seconds,
                state,
                failure,
                dsc,
                nsd,
                tuple(by_class.values()),
                surfaces,
            )
        )
    if output.is_file():
        write_npz(prediction, {"segs": segs, "all_segs": np.stack(predictions)})
    shutil.rmtree(folder)
    took = sum(one.seconds for one in interactions)
    return CaseRecord(
        case=files.case,
        image_file=os.fspath(files.image.resolve()),
        gts_file=os.fspath(files.gts.resolve()),
        checksums=checksums,
        spacing=spacing,
        labels=labels,
        interactions=tuple(interactions),
        own_seconds=time.perf_counter() - began - took,
    )


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


def _make_folders(folder: Path) -> tuple[Path, Path]:
    if folder.exists():
        shutil.rmtree(folder)
    inputs, outputs = folder / "inputs", folder / "outputs"
    for one in (inputs, outputs):
        one.mkdir(parents=True)
        # A container may run as any user.
        one.chmod(0o777)
    return inputs, outputs


def _write_template(files: CaseFiles, template: Path) -> bool:
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
        recent = "boxes" in keys and b"numpy._core" in archive.read("boxes.npy")
        if len(keys) == len(archive.infolist()) and not recent:
            shutil.copyfile(files.image, template)  # spares compressing it all again
        else:
            arrays = {key: read_member(archive, Place(files.image, key)) for key in keys}
            write_npz(template, {key: one for key, one in arrays.items() if one is not None})
        return "boxes" in keys


def _write_source(
    source: Path,
    template: Path,
    voxels: Iterable[dict[str, list[list[np.int64]]]],
    orders: list[list[str | None]],
    previous: npt.NDArray[np.uint8],
) -> None:
    """Writes the file of a run with clicks."""
    shutil.copyfile(template, source)
    arrays = {
        "clicks": object_array(voxels),
        "clicks_order": np.asanyarray(orders),
        "prev_pred": previous,
    }
    with zipfile.ZipFile(source, "a") as archive:
        write_members(archive, arrays)


def _read_spacing(path: Path) -> tuple[float, ...]:
    """Reads the spacing as it stands; the scores take it so."""
    place = Place(path, "spacing")
    expected = "3 numbers, mm per voxel along z, y, x"
    with open_npz(path) as archive:
        array = read_member(archive, place)
    if array is None:
        raise place.error("no such key", expected)
    numbers = [as_number(value) for value in as_sequence(array, expected, place)]
    spacing = tuple(number for number in numbers if number is not None)
    if len(spacing) != 3 or len(numbers) != 3:
        raise place.error(f"{array.tolist()}", expected)
    return spacing


def _read_output(output: Path, gts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reads what lies in `outputs/`, zeros if there is nothing.

    Raises:
        CaseError: it is broken, or not of the shape of the ground truth.
    """
    if not output.is_file():
        return np.zeros_like(gts, np.uint8)
    segs = read_volume(output, "segs")
    if segs.shape != gts.shape:
        found = f"a volume of shape {segs.shape} in the method's output"
        raise CaseError(output, "segs", found, f"{gts.shape}, as the ground truth")
    return segs


def _changed(output: Path) -> tuple[int, int] | None:
    """Returns (inode, time of change in ns), equal for one version; None if there is no file."""
    try:
        status = output.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _to_bytes(segs: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):
        return segs.astype(np.uint8)

"""Challenge cases from images and labels in files, with boxes as the organisers draw them.

The organisers' cases have intensities in 0..255 and a box a class; the boxes' facts are those of
the organisers' `get_boxes.py` (docs/challenge.md, 2).
"""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluation.records import MODALITIES
from gamt.io.case import MAX_CLASSES, write_case
from gamt.io.format import ImageError
from gamt.io.formats import all_formats, recognise, strip_suffix
from gamt.io.image import read_image, read_labels
from gamt.io.intensities import intensity_window, normalise
from gamt.io.labels import number_labels
from gamt.prompts import Box, ClassPrompts, box_of_mask

NO_BOXES = ("Microscopy_*",)
"""Cases that have no box in the challenge; vessels of other modalities have none either."""

MAX_SHIFT = 5
"""How far a box is from its target at most, in pixels of a slice of 256 pixels."""

_PERCENTILES = (0.5, 99.5)
_FIRST_CHANNEL = "_0000"  # nnU-Net's suffix of images, which labels don't have


class PrepareError(ValueError):
    """Folders, or settings, that no case can be made from."""


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """What became of one image.

    Attributes:
        image: the image's file name.
        case: the case's file name.
        labels: those of the label file, in the order of the case's classes 1..K; empty where
            there is an error.
        boxed: whether the classes have boxes.
        seconds: that it took.
        error: why there is no case, in one line; None where there is one.
    """

    image: str
    case: str
    labels: tuple[int, ...]
    boxed: bool
    seconds: float
    error: str | None


def prepare_folder(
    images: Path,
    labels: Path,
    out: Path,
    modality: str,
    window: tuple[float, float] | None = None,
    no_boxes: Sequence[str] = NO_BOXES,
    seed: int = 0,
    volume: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[PreparedCase]:
    """Makes a case ``MODALITY_NAME.npz`` of every image, in the order of their names.

    An image that fails is reported in its result, and the others are done. `imgs`, `gts` and
    `spacing` lie as `gamt.io.image.read_image` turns them: (z, y, x) towards head, back and left.

    Args:
        images: folder of images in any format that `read_image` takes; a DICOM series is a folder
            in it. A name that begins with the modality doesn't get it twice.
        labels: folder of label images, named as their images, or without the ``_0000`` of
            nnU-Net's images. All labels above 0 are classes.
        out: folder for the cases; made where there is none. Earlier cases are replaced.
        modality: one of the challenge's.
        window: intensities (low, high) that become 0 and 255, in the images' own units; None for
            the percentiles 0.5 and 99.5 of each image's voxels above its lowest value.
        no_boxes: shell patterns; cases whose name without suffix matches one, in either case of
            letters, have no boxes.
        seed: of the boxes' margins. They depend on it and on the case's name alone.
        volume: which one of each image that holds several, such as a 4-D one, from 0 on.
        progress: called with the number of images done and of all, first with none done.

    Returns:
        One result an image, in order.

    Raises:
        PrepareError: a folder can't be read or written, there is no image, or the modality or the
            window is none.
    """
    if modality not in MODALITIES:
        raise PrepareError(f"found modality {modality!r}, expected one of {', '.join(MODALITIES)}")
    if window is not None and not (window[0] < window[1] and isfinite(window[1] - window[0])):
        low, high = window
        raise PrepareError(f"found window {low:g}..{high:g}, expected low < high, both finite")
    pairs = _find_pairs(images, labels, modality)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrepareError(f"{out}: {error.strerror}, expected a folder to write to") from error
    results: list[PreparedCase] = []
    progress(0, len(pairs))
    for pair in pairs:
        boxed = not any(fnmatchcase(pair.case.lower(), one.lower()) for one in no_boxes)
        began = time.perf_counter()
        found: tuple[int, ...] = ()
        reason = None
        try:
            found = _prepare(pair, labels, out, window, boxed, seed, volume)
        except Exception as error:  # whatever a file or the memory failed at, the others go on
            text = " ".join(str(error).split())
            named = isinstance(error, ImageError)
            reason = text if named else f"{pair.image.name}: {type(error).__name__}: {text}"
        seconds = time.perf_counter() - began
        name = f"{pair.case}.npz"
        results.append(PreparedCase(pair.image.name, name, found, boxed, seconds, reason))
        progress(len(results), len(pairs))
    return results


def draw_box(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> Box:
    """Draws the box of a target as the organisers do.

    The range of slices is exact. On the middle one of the target's slices, all four sides move out
    by the same random 0 to `MAX_SHIFT` pixels of a slice of 256 pixels, rounded down on each axis,
    and stay inside the image.

    Args:
        mask: (z, y, x), with at least one voxel inside the target.
        rng: gives the one random number.
    """
    box = box_of_mask(mask)
    _, height, width = mask.shape
    shift = int(rng.integers(MAX_SHIFT + 1))
    y_shift, x_shift = shift * height // 256, shift * width // 256
    return replace(
        box,
        y_min=max(box.y_min - y_shift, 0),
        y_max=min(box.y_max + y_shift, height),
        x_min=max(box.x_min - x_shift, 0),
        x_max=min(box.x_max + x_shift, width),
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image, and the label file that is its own.

    Attributes:
        image: the image.
        label: None where there is none.
        case: the case's name, without suffix.
        other: the image that is this case already, None where this one is the first.
    """

    image: Path
    label: Path | None
    case: str
    other: Path | None


def _find_pairs(images: Path, labels: Path, modality: str) -> list[_Pair]:
    image_files, label_files = _find_images(images), _find_images(labels)
    if images.resolve() == labels.resolve():
        raise PrepareError(f"{images}: found images and labels in one folder, expected two")
    if not image_files:
        raise PrepareError(f"{images}: found no images")
    by_name = {strip_suffix(path): path for path in label_files}
    pairs: list[_Pair] = []
    taken: dict[str, Path] = {}
    for path in image_files:
        name = strip_suffix(path)
        if name not in by_name:
            name = name.removesuffix(_FIRST_CHANNEL)
        case = f"{modality}_{name.removeprefix(f'{modality}_')}"
        pairs.append(_Pair(path, by_name.get(name), case, taken.get(case)))
        taken.setdefault(case, path)
    return pairs


def _find_images(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise PrepareError(f"{folder}: {error.strerror}, expected a folder of images") from error
    return [path for path in paths if not path.name.startswith(".") and _is_image(path)]


def _is_image(path: Path) -> bool:
    """Whether a file or a folder is an image, or a broken one by its name, to be reported."""
    if path.suffix.lower() == ".img":  # NIfTI's pairs go by their headers
        return False
    suffixes = tuple(suffix for one in all_formats() for suffix in one.SUFFIXES)
    return path.name.lower().endswith(suffixes) or recognise(path) is not None


def _prepare(
    pair: _Pair,
    labels: Path,
    out: Path,
    window: tuple[float, float] | None,
    boxed: bool,
    seed: int,
    volume: int | None,
) -> tuple[int, ...]:
    """Writes one case; returns the labels that became 1..K."""
    if pair.label is None:
        name = strip_suffix(pair.image).removesuffix(_FIRST_CHANNEL)
        found = f"found no label file in {labels}"
        raise ImageError(pair.image, f"{found}, expected {name}.nii.gz or the like")
    if pair.other is not None:
        raise ImageError(pair.image, f"would become {pair.case}, as {pair.other.name} does")
    scan = read_image(pair.image, volume)
    truth = read_labels(pair.label, scan)
    values: list[int] = np.unique(truth[truth > 0]).tolist()
    if not 1 <= len(values) <= MAX_CLASSES:
        expected = f"1 to {MAX_CLASSES} of them above 0"
        raise ImageError(pair.label, f"found {len(values)} labels, expected {expected}")
    gts = number_labels(truth, values)
    # By the name, so that the boxes are the same whatever else is in the folder.
    rng = np.random.default_rng([seed, zlib.crc32(pair.case.encode())])
    classes = [
        ClassPrompts(number, box=draw_box(gts == number, rng) if boxed else None)
        for number in range(1, len(values) + 1)
    ]
    window = intensity_window(scan.array, *_PERCENTILES) if window is None else window
    image = normalise(scan.array, window)
    write_case(out / f"{pair.case}.npz", image, scan.spacing_mm, classes, gts=gts)
    return tuple(values)

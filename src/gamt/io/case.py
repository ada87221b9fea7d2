"""The challenge's npz files: a case to read, a segmentation to write.

The only place that knows the files' keys (docs/challenge.md, 2). Files are untrusted: whatever is
wrong with one ends in a `CaseError` that says what and where.
"""

import logging
import math
import os
import reprlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from gamt.io.npz import (
    CaseError,
    Place,
    as_integer,
    as_number,
    as_sequence,
    describe,
    has_member,
    object_array,
    open_npz,
    read_member,
    show,
    write_npz,
)
from gamt.io.pickles import NpyError
from gamt.prompts import Box, ClassPrompts, Click
from gamt.spacing import is_believable
from gamt.windows import NAMED_WINDOWS, IntensityWindow

__all__ = [
    "MAX_CLASSES",
    "Case",
    "CaseError",
    "guess_spacing_order",
    "read_case",
    "read_spacing",
    "read_truth",
    "read_volume",
    "write_case",
    "write_segmentation",
]

logger = logging.getLogger("gamt")

MAX_CLASSES = 255  # labels are uint8, and 0 is the background

MOST_BOXES_BYTES = 2**20
"""Of the array of all boxes."""

MOST_CLICKS_BYTES = 64 * 2**20
"""Of the array of all clicks, or of their order."""

MOST_NUMBERS_BYTES = 2**16
"""Of the spacing, its order, or the window."""

_ZYX = "zyx"  # what `spacing_order` says in files whose spacing is (z, y, x)

# The file's names of a box's inclusive bounds, axis by axis (z, y, x).
_BOX_BOUNDS = (
    ("z_min", "z_max"),
    ("z_mid_y_min", "z_mid_y_max"),
    ("z_mid_x_min", "z_mid_x_max"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One scan and what the user said about it so far.

    Attributes:
        name: the file's name without its suffix.
        image: (D, H, W), indexed [z, y, x]; bool, integer or float, values as in the file (floats
            may be NaN or infinite), in the machine's byte order.
        spacing_mm: the voxel's size along the array axes (z, y, x), as `gamt.spacing` has it.
        prompts: one entry a class, labels 1..K in order.
        previous: (D, H, W) uint8, the labels 0..K of the previous round; None without.
        window: the intensities that the file wants to be black and white; None without.
        windows: by label, those that classes are seen in, where an earlier round has found them.
    """

    name: str
    image: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    prompts: tuple[ClassPrompts, ...]
    previous: npt.NDArray[np.uint8] | None
    window: IntensityWindow | None = None
    windows: Mapping[int, IntensityWindow] = field(default_factory=dict)


def read_case(path: str | os.PathLike[str]) -> Case:
    """Reads a challenge file. Ground truth (`gts`), where there is one, is never read.

    A box that is partly outside of the volume is clipped, and a spacing that is missing or can't be
    believed (`gamt.spacing`) becomes 1 mm, both with a warning in the log ("gamt"). A file that
    doesn't say the order of its spacing may have it as (x, y, z): see `read_spacing`.

    Beside the challenge's keys a file may have `window`: level and width in the units of `imgs`, or
    a name of `gamt.windows.NAMED_WINDOWS`.

    Raises:
        CaseError: the file is missing, broken, or holds something else than a case.
    """
    path = Path(path)
    with open_npz(path) as archive:
        image = _read_volume(archive, Place(path, "imgs"))
        spacing = _read_spacing(archive, path)
        if spacing is None:
            Place(path, "spacing").warn("no such key", "1 mm")
            spacing = (1.0, 1.0, 1.0)
        prompts = _read_prompts(archive, path, image.shape)
        previous = _read_previous(archive, Place(path, "prev_pred"), image.shape, len(prompts))
        window = _read_window(archive, Place(path, "window"))
    return Case(path.stem, image, spacing, prompts, previous, window)


def read_volume(path: str | os.PathLike[str], key: str | None = None) -> npt.NDArray[Any]:
    """Reads one volume of a file, which needs no more than that: a segmentation's will do.

    Args:
        path: the file.
        key: such as "imgs", "gts", "segs" or "prev_pred"; None for the image, or for the
            segmentation where there is no image.

    Returns:
        (D, H, W), as `Case.image` is.

    Raises:
        CaseError: the file is missing or broken, or has no volume under the key.
    """
    path = Path(path)
    with open_npz(path) as archive:
        default = "imgs" if has_member(archive, "imgs") else "segs"
        return _read_volume(archive, Place(path, default if key is None else key))


def read_truth(path: str | os.PathLike[str], shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """Reads a file's ground truth (`gts`), (D, H, W) labels; None where it has none.

    Args:
        path: the file.
        shape: of the image.

    Raises:
        CaseError: the file is missing or broken, or its ground truth isn't of the image's shape.
    """
    path = Path(path)
    place = Place(path, "gts")
    with open_npz(path) as archive:
        if not has_member(archive, place.key):
            return None
        return _read_volume(archive, place, shape)


def read_spacing(path: str | os.PathLike[str]) -> tuple[float, float, float] | None:
    """Reads a file's spacing (z, y, x) in millimetres; None where it has none.

    Files that `write_case` wrote say the order of the three numbers. In others, made with
    SimpleITK, it may be (x, y, z): where the first two agree and the last two don't, the first two
    are taken for x and y, whose pixels are usually square, and the log says so.

    Numbers that are zero, negative or not finite become 1 mm, with a warning in the log ("gamt").

    Raises:
        CaseError: the file is missing or broken, or its spacing isn't three numbers.
    """
    path = Path(path)
    with open_npz(path) as archive:
        return _read_spacing(archive, path)


def write_segmentation(
    path: str | os.PathLike[str],
    labels: npt.NDArray[Any],
    segmenter: str,
    status: str = "complete",
) -> None:
    """Writes a segmentation; the file appears at once and whole, or not at all.

    Args:
        path: the file.
        labels: (D, H, W), 0..255, under the key `segs`.
        segmenter: the name of the one that made them.
        status: "complete", or why the segmentation is less than it could be, in one line.

    Raises:
        ValueError: `labels` isn't a volume of labels.
    """
    texts = {"segmenter": np.array(segmenter), "status": np.array(status)}
    write_npz(path, {"segs": _volume_of_labels(labels), **texts})


def write_case(
    path: str | os.PathLike[str],
    image: npt.NDArray[Any],
    spacing_mm: Sequence[float],
    prompts: Sequence[ClassPrompts],
    gts: npt.NDArray[Any] | None = None,
    previous: npt.NDArray[Any] | None = None,
    window: IntensityWindow | None = None,
) -> None:
    """Writes a file as the challenge's evaluator does; `read_case` gives the same case back.

    Beside the challenge's keys there is `spacing_order`, so that nobody has to guess that.
    `boxes` and the clicks' keys are there only if a class has a box, or clicks. A file with the
    ground truth alone has neither: the evaluator makes the prompts, and `read_case` refuses it.

    Args:
        path: the file, which appears at once and whole, or not at all.
        image: (D, H, W).
        spacing_mm: three numbers (z, y, x).
        prompts: labels 1..K in order, K in 1..255; any of them, and with `gts` all of them, may
            be without a box and clicks.
        gts: the ground truth, (D, H, W), for training files.
        previous: the previous prediction, (D, H, W).
        window: the intensities that are to be black and white; `read_case` says how it is written.

    Raises:
        ValueError: the labels of `prompts` aren't 1..K, `gts` or `previous` aren't labels, or
            there is neither a prompt nor `gts`.
    """
    labels = [one.label for one in prompts]
    if labels != list(range(1, len(labels) + 1)) or not 1 <= len(labels) <= MAX_CLASSES:
        raise ValueError(f"found the labels {reprlib.repr(labels)}, expected 1..K, K in 1..255")
    arrays = {
        "imgs": image,
        "spacing": np.asarray(spacing_mm, dtype=np.float64),
        "spacing_order": np.array(_ZYX),
    }
    boxed, clicked = any(one.box for one in prompts), any(one.clicks for one in prompts)
    if not boxed and not clicked and gts is None:
        raise ValueError("found neither boxes nor clicks, nor a ground truth to make them from")
    if boxed:
        arrays["boxes"] = object_array(one.box and _box_entry(one.box) for one in prompts)
    if clicked:
        arrays["clicks"] = object_array(
            {
                name: [list(c.voxel) for c in one.clicks if c.positive is positive]
                for name, positive in (("fg", True), ("bg", False))
            }
            for one in prompts
        )
        # In the evaluator every class adds one entry a round, so the lists are equally long.
        rounds = max(len(one.clicks) for one in prompts)
        orders = [["fg" if c.positive else "bg" for c in one.clicks] for one in prompts]
        arrays["clicks_order"] = np.array([o + [None] * (rounds - len(o)) for o in orders])
    for name, volume in (("gts", gts), ("prev_pred", previous)):
        if volume is not None:
            arrays[name] = _volume_of_labels(volume)
    if window is not None:
        arrays["window"] = np.array([window.level, window.width])
    write_npz(path, arrays)


def _read_volume(
    archive: zipfile.ZipFile, place: Place, shape: tuple[int, ...] | None = None
) -> npt.NDArray[Any]:
    volume = _read_numbers(archive, place, shape)
    if volume is None:
        raise place.error("no such key", _describe_volume(shape))
    if volume.dtype.itemsize > np.float64().itemsize:
        place.warn(str(volume.dtype), "float64")
        with np.errstate(all="ignore"):  # what is too large becomes infinite
            return volume.astype(np.float64)
    if not volume.dtype.isnative:
        volume = volume.byteswap(inplace=True).view(volume.dtype.newbyteorder("="))
    return volume


def _read_numbers(
    archive: zipfile.ZipFile, place: Place, shape: tuple[int, ...] | None
) -> npt.NDArray[Any] | None:
    """Reads a volume of numbers, (D, H, W), of a shape if that is known; None if it is absent.

    Whether it is one is known by its header: a small file may hold gigabytes of something else.
    """
    expected = _describe_volume(shape)

    def check(dtype: np.dtype[Any], found: tuple[int, ...]) -> None:
        is_volume = dtype.kind in "biuf" and len(found) == 3 and 0 not in found
        if not is_volume or shape not in (None, found):
            raise NpyError(f"{dtype} of shape {found}", expected)

    array = read_member(archive, place, check=check)
    if array is not None and array.dtype == object:
        raise place.error(describe(array), expected)
    return array


def _describe_volume(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "a (D, H, W) volume of numbers, not empty"
    return f"the shape of 'imgs', {shape}"


def _read_spacing(archive: zipfile.ZipFile, path: Path) -> tuple[float, float, float] | None:
    place = Place(path, "spacing")
    array = read_member(archive, place, MOST_NUMBERS_BYTES)
    if array is None:
        return None
    expected = "3 numbers, mm per voxel along z, y, x"
    values = as_sequence(array, expected, place)
    numbers = [as_number(value) for value in values] if len(values) == 3 else [None]
    if None in numbers:
        raise place.error(show(values), expected)
    z, y, x = (n if n is not None and is_believable((n,)) else 1.0 for n in numbers)
    if not is_believable((z, y, x)):
        z, y, x = 1.0, 1.0, 1.0
    if [z, y, x] != numbers:
        place.warn(show(numbers), f"{[z, y, x]} mm")
    order = read_member(archive, Place(path, "spacing_order"), MOST_NUMBERS_BYTES)
    said = None if order is None else order.tolist()
    if isinstance(said, str) and said == _ZYX:
        return z, y, x
    return guess_spacing_order(z, y, x)


def guess_spacing_order(first: float, middle: float, last: float) -> tuple[float, float, float]:
    """Returns the spacing (z, y, x) of a file that doesn't say the order of its numbers.

    It is the order in which the two in-plane axes agree, when exactly one order has them agree,
    and the file's order otherwise (docs/design.md, 2).

    Args:
        first: millimetres, as the file has them.
        middle: likewise.
        last: likewise.
    """
    if np.isclose(first, middle, rtol=1e-3) and not np.isclose(middle, last, rtol=1e-3):
        logger.info(
            "spacing %.4g, %.4g, %.4g read as x, y, z: its first two numbers agree",
            *(first, middle, last),
        )
        return last, middle, first
    return first, middle, last


def _read_window(archive: zipfile.ZipFile, place: Place) -> IntensityWindow | None:
    array = read_member(archive, place, MOST_NUMBERS_BYTES)
    if array is None:
        return None
    expected = (
        "2 finite numbers, level and width in the units of 'imgs', the width above 0, or "
        f"one of {', '.join(NAMED_WINDOWS)}"
    )
    value = array.tolist()
    if isinstance(value, str) and value in NAMED_WINDOWS:
        return NAMED_WINDOWS[value]
    try:
        level, width = (as_number(one) for one in as_sequence(value, expected, place))
        return IntensityWindow.of_level(math.nan if level is None else level, width or 0)
    except ValueError as error:
        raise place.error(show(value), expected) from error


def _read_previous(
    archive: zipfile.ZipFile, place: Place, shape: tuple[int, ...], classes: int
) -> npt.NDArray[np.uint8] | None:
    array = _read_numbers(archive, place, shape)
    if array is None:
        return None
    labels = _to_labels(array, classes)
    if labels is None:
        raise place.error(describe(array), f"whole numbers, labels in 0..{classes}, alone")
    return labels


def _read_prompts(
    archive: zipfile.ZipFile, path: Path, shape: tuple[int, ...]
) -> tuple[ClassPrompts, ...]:
    def read(key: str, most_bytes: int) -> Sequence[Any]:
        return _read_entries(archive, Place(path, key), most_bytes)

    # Each array is taken apart before the next is read: it takes far less memory then.
    boxes = [
        _parse_box(entry, shape, Place(path, "boxes", i))
        for i, entry in enumerate(read("boxes", MOST_BOXES_BYTES))
    ]
    clicks = [
        _parse_clicks(entry, shape, Place(path, "clicks", i))
        for i, entry in enumerate(read("clicks", MOST_CLICKS_BYTES))
    ]
    classes = len(boxes or clicks)
    if not classes:
        raise CaseError(path, "boxes", "no prompts", "an entry for each class here or in 'clicks'")
    orders = read("clicks_order", MOST_CLICKS_BYTES)
    for key, count in (("clicks", len(clicks)), ("clicks_order", len(orders))):
        if count not in (0, classes):
            expected = f"one for each of the {classes} classes"
            raise Place(path, key).error(f"{count} entries", expected)

    def prompts_of(i: int) -> ClassPrompts:
        fg, bg = clicks[i] if clicks else ([], [])
        order_place = Place(path, "clicks_order", i)
        in_time = _put_in_order(fg, bg, orders[i], order_place) if orders else fg + bg
        return ClassPrompts(i + 1, boxes[i] if boxes else None, tuple(in_time))

    return tuple(prompts_of(i) for i in range(classes))


def _parse_box(entry: object, shape: tuple[int, ...], place: Place) -> Box | None:
    """Turns the file's inclusive box into a half-open one inside the volume."""
    if entry is None:
        return None
    if not isinstance(entry, Mapping):
        raise place.error(show(entry), "a dict or None")

    def bound(name: str, size: int) -> int:
        if name not in entry:
            raise place.error(f"no {name!r}", "the seven bounds of a box")
        number = as_integer(entry[name])
        if number is None:
            raise place.error(f"{name!r} = {show(entry[name])}", f"an integer in 0..{size - 1}")
        return number

    bounds = []
    for (low_name, high_name), size in zip(_BOX_BOUNDS, shape, strict=True):
        low, high = bound(low_name, size), bound(high_name, size)
        found = f"{low_name!r} = {show(low)}, {high_name!r} = {show(high)}"
        inside = max(low, 0), min(high, size - 1)
        if inside[0] > inside[1]:
            raise place.error(found, f"a range, min <= max, that meets 0..{size - 1}")
        if inside != (low, high):
            place.warn(found, f"{inside[0]} and {inside[1]}")
        bounds.append((low, high, *inside))
    (z_low, z_high, z_min, z_max), (*_, y_min, y_max), (*_, x_min, x_max) = bounds
    z_mid = bound("z_mid", shape[0])
    if not z_low <= z_mid <= z_high:
        raise place.error(f"'z_mid' = {show(z_mid)}", f"an integer in {z_low}..{z_high}")
    # Where the range was clipped, the slice of the box may be among what was cut off.
    z_mid = min(max(z_mid, z_min), z_max)
    return Box(z_min, z_max + 1, z_mid, y_min, y_max + 1, x_min, x_max + 1)


def _parse_clicks(
    entry: object, shape: tuple[int, ...], place: Place
) -> tuple[list[Click], list[Click]]:
    """Returns the clicks under "fg" and those under "bg", each in the file's order."""
    if entry is None:
        return [], []
    if not isinstance(entry, Mapping):
        raise place.error(show(entry), "a dict of 'fg' and 'bg', or None")
    expected = f"[z, y, x] in (0, 0, 0)..{tuple(size - 1 for size in shape)}"
    depth, height, width = shape

    def lies_within(index: int | None, size: int) -> TypeGuard[int]:
        return index is not None and 0 <= index < size

    def click(value: object, name: str) -> Click:
        match as_sequence(value, expected, place):
            case [first, second, third]:
                z, y, x = as_integer(first), as_integer(second), as_integer(third)
                if lies_within(z, depth) and lies_within(y, height) and lies_within(x, width):
                    return Click(z, y, x, positive=name == "fg")
        raise place.error(f"{name!r} click {show(value)}", expected)

    def listed(name: str) -> list[Click]:
        values = entry.get(name)
        if values is None:
            return []
        return [click(v, name) for v in as_sequence(values, f"{name!r}: [[z, y, x], ...]", place)]

    return listed("fg"), listed("bg")


def _put_in_order(
    positive: Sequence[Click], negative: Sequence[Click], order: object, place: Place
) -> list[Click]:
    """Merges a class's clicks in the order of time."""
    expected = "a list of 'fg', 'bg' and None"
    names = [] if order is None else as_sequence(order, expected, place)
    names = [name for name in names if name is not None]
    if not all(isinstance(name, str) and name in ("fg", "bg") for name in names):
        raise place.error(show(order), expected)
    counts = names.count("fg"), names.count("bg")
    if counts != (len(positive), len(negative)):
        expected = f"{len(positive)} and {len(negative)} as in 'clicks'"
        raise place.error(f"{counts[0]} 'fg' and {counts[1]} 'bg'", expected)
    upcoming = {"fg": iter(positive), "bg": iter(negative)}
    return [next(upcoming[name]) for name in names]


def _read_entries(archive: zipfile.ZipFile, place: Place, most_bytes: int) -> Sequence[Any]:
    """Reads a key that holds one entry a class; empty if it is absent."""
    array = read_member(archive, place, most_bytes)
    if array is None:
        return []
    if array.ndim == 0 and isinstance(array.item(), Mapping):  # the entry of an only class
        return [array.item()]
    entries = as_sequence(array, "one entry for each class", place)
    if len(entries) > MAX_CLASSES:
        raise place.error(f"{len(entries)} classes", f"at most {MAX_CLASSES} (uint8)")
    return entries


def _to_labels(array: npt.NDArray[Any], highest: int) -> npt.NDArray[np.uint8] | None:
    """Returns `array` as uint8; None unless it holds whole numbers in 0..highest alone."""
    if array.dtype.kind not in "biuf":
        return None
    with np.errstate(all="ignore"):
        if array.size and not (array.min() >= 0 and array.max() <= highest):  # False for NaN
            return None
    labels = array.astype(np.uint8, copy=False)
    return labels if np.array_equal(labels, array) else None


def _volume_of_labels(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    labels = _to_labels(array, MAX_CLASSES)
    if labels is None or labels.ndim != 3:
        raise ValueError(f"found {describe(array)}, expected (D, H, W) labels in 0..255")
    return labels


def _box_entry(box: Box) -> dict[str, int]:
    entry = {"z_mid": box.z_mid}
    for (low_name, high_name), low, high in zip(_BOX_BOUNDS, box.low, box.high, strict=True):
        entry |= {low_name: low, high_name: high - 1}
    return entry

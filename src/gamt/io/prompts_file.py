"""What a user said about an image, in a file beside the result, to go on from or to begin anew."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, slice_view
from gamt.io.files import OverwriteError
from gamt.io.formats import strip_suffix
from gamt.io.image import Image, PlaceError
from gamt.io.json_files import JsonError, JsonValue, read_json
from gamt.io.labels import MAX_LABEL, is_label_name
from gamt.io.markups import read_markups
from gamt.prompts import Box, Click, LabelledPrompt, Lasso, Region, Scribble, SliceBox
from gamt.windows import IntensityWindow

FORMAT = "gamt prompts"
VERSION = 2
"""Raised when a file that this version writes would be misread by an earlier one. A file that has
boxes and clicks alone is of version 1, which knew nothing else."""

_MOST_PROMPTS = 100_000
"""Prompts of a file: far more than are ever made by hand."""

_MOST_AREA = 1 << 28
"""Voxels of the boxes around all that is drawn in a file, together; each takes a byte."""

_MOST_SCRIBBLED = 1 << 24
"""Voxels of all scribbles of a file, together; each takes 24 bytes."""

_BOX = "box"
_SLICE_BOX = "slice box"
_POSITIVE = "positive click"
_NEGATIVE = "negative click"
_LASSO = "lasso"
_POSITIVE_SCRIBBLE = "positive scribble"
_NEGATIVE_SCRIBBLE = "negative scribble"
_NEGATIVE_BOX = "negative box"
_NEGATIVE_LASSO = "negative lasso"
_DRAWN = (_LASSO, _POSITIVE_SCRIBBLE, _NEGATIVE_SCRIBBLE, _NEGATIVE_LASSO)
_KINDS = (_BOX, _SLICE_BOX, _POSITIVE, _NEGATIVE, _NEGATIVE_BOX, *_DRAWN)


class PromptsGridError(JsonError):
    """Prompts that are about other voxels than the image's."""


@dataclass(frozen=True, slots=True)
class SavedPrompts:
    """What a file of prompts holds.

    Attributes:
        prompts: in order of time.
        names: of labels, as far as they have some.
        windows: that labels were seen in, as far as they have one.
    """

    prompts: tuple[LabelledPrompt, ...]
    names: Mapping[int, str]
    windows: Mapping[int, IntensityWindow]


def prompts_path(path: Path) -> Path:
    """Returns where the prompts of a segmentation are: ``NAME.prompts.json`` beside it."""
    return path.with_name(f"{strip_suffix(path)}.prompts.json")


def refuse_other_content(path: Path) -> None:
    """Refuses to write prompts over a file that holds something else.

    Raises:
        OverwriteError: there is such a file.
    """
    if not path.exists():
        return
    try:
        content = read_json(path).value
    except (JsonError, OSError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise OverwriteError(
            f"{path}: found a file that gamt did not write, expected none, or one of prompts; "
            "name another output"
        )


def write_prompts(file: BinaryIO, image: Image, saved: SavedPrompts, segmenter: str) -> None:
    """Writes prompts into a file that is open for writing.

    The same prompts always give the same bytes. Each label and each prompt has a line.

    Args:
        file: gets them.
        image: what the prompts are about.
        saved: the content.
        segmenter: name of the 2-D model that they were for.

    Raises:
        OSError: they can't be written.
    """
    labels = sorted({one.label for one in saved.prompts} | {*saved.names} | {*saved.windows})
    described = [_describe(image, one) for one in saved.prompts]
    is_old = all(one["kind"] in (_BOX, _SLICE_BOX, _POSITIVE, _NEGATIVE) for one in described)
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": 1 if is_old else VERSION,
        "image": {
            "file": image.path.absolute().name,
            "shape": image.file_shape,
            "spacing_mm": _rounded(image.file_spacing_mm),
            "affine": [_rounded(row) for row in image.file_affine.tolist()],
        },
        "segmenter": segmenter,
        "labels": [
            {"label": label, "name": saved.names.get(label), "window": saved.windows.get(label)}
            for label in labels
        ],
        "prompts": described,
    }
    # A file's name may hold bytes that are no text; JSON has the same escape for them.
    file.write(_format(document).encode("utf-8", "backslashreplace"))


def read_prompts(
    path: Path,
    image: Image,
    named_labels: Mapping[str, int],
    default_label: Callable[[], int],
) -> SavedPrompts:
    """Reads a file of prompts that `write_prompts` wrote, or a markups file of 3D Slicer's.

    Windows are taken from the file of an image of the same name alone: another image may be of
    another kind, such as another MR sequence, whose intensities mean something else.

    Args:
        path: of the file.
        image: what the prompts are about.
        named_labels: the labels that have names, by name; for Slicer's files.
        default_label: returns the label of prompts that have none; it may raise an error.

    Raises:
        PromptsGridError: the prompts are about another image.
        JsonError: the file is neither, or broken, or a prompt is outside of the image.
        OSError: it can't be read.
    """
    root = read_json(path)
    if root.has("markups"):
        return SavedPrompts(read_markups(root, image, named_labels, default_label), {}, {})
    if not root.has("format"):
        root.fail(f"found neither 'format' ({FORMAT}) nor 'markups' (3D Slicer), expected one")
    root.member("format").text(FORMAT)
    version = root.member("version")
    if version.value not in (1, VERSION):
        version.refuse(f"1 or {VERSION}, which is what this version of gamt reads")
    about = root.member("image")
    _check_grid(about, image)
    is_same_image = about.member("file").value == image.path.absolute().name
    names: dict[int, str] = {}
    windows: dict[int, IntensityWindow] = {}
    for entry in root.member("labels").items():
        label = entry.member("label").whole_number(1, MAX_LABEL)
        if entry.has("name"):
            names[label] = _read_name(entry.member("name"))
        if entry.has("window"):
            window = _read_window(entry.member("window"))
            if is_same_image:
                windows[label] = window
    return SavedPrompts(_read_prompts(root.member("prompts"), image), names, windows)


def _describe(image: Image, one: LabelledPrompt) -> dict[str, Any]:
    """Returns a prompt as it is written: by voxels (i, j, k) of the file, and their centres."""
    prompt = one.prompt
    if isinstance(prompt, Click):
        kind = _POSITIVE if prompt.positive else _NEGATIVE
        voxel = image.file_voxel(prompt.voxel)
        return {
            "label": one.label,
            "kind": kind,
            "voxel": voxel,
            "ras_mm": _place_mm(image, voxel),
        }
    if isinstance(prompt, Scribble):
        kind = _POSITIVE_SCRIBBLE if prompt.positive else _NEGATIVE_SCRIBBLE
        return {"label": one.label, "kind": kind, "runs": _runs(image, prompt.voxels)}
    if isinstance(prompt, Region) and not prompt.mask.all():
        return {
            "label": one.label,
            "kind": _NEGATIVE_LASSO,
            "runs": _runs(image, prompt.voxels),
        }
    if isinstance(prompt, Lasso):
        area = np.argwhere(np.expand_dims(prompt.mask, prompt.plane.normal)) + prompt.low
        return {
            "label": one.label,
            "kind": _LASSO,
            "runs": _runs(image, area),
            "plane": prompt.plane.name.lower(),
        }
    kinds = {Box: _BOX, SliceBox: _SLICE_BOX, Region: _NEGATIVE_BOX}
    last = [bound - 1 for bound in prompt.high]
    corners = np.sort([image.file_voxel(prompt.low), image.file_voxel(last)], axis=0).tolist()
    described = {
        "label": one.label,
        "kind": kinds[type(prompt)],
        "voxels": corners,
        "ras_mm": [_place_mm(image, corner) for corner in corners],
    }
    if isinstance(prompt, SliceBox):
        described["plane"] = prompt.plane.name.lower()
    return described


def _runs(image: Image, voxels: npt.NDArray[np.intp]) -> list[list[list[int]]]:
    """Returns voxels (z, y, x) as straight runs, by the first and the last (i, j, k) of each.

    They run along the axis of the file that makes the fewest of them.
    """
    back = np.linalg.inv(image.turn)
    file_voxels = np.rint(voxels[:, ::-1] @ back[:3, :3].T + back[:3, 3]).astype(int)
    found = []
    for axis in range(3):
        others = [n for n in range(3) if n != axis]
        order = np.lexsort((file_voxels[:, axis], *(file_voxels[:, n] for n in others)))
        ordered = file_voxels[order]
        step = np.zeros(3, int)
        step[axis] = 1
        breaks = np.flatnonzero((np.diff(ordered, axis=0) != step).any(axis=1))
        first = ordered[np.append(0, breaks + 1)]
        last = ordered[np.append(breaks, len(ordered) - 1)]
        found.append(np.stack([first, last], axis=1))
    shortest: list[list[list[int]]] = min(found, key=len).tolist()
    return shortest


def _place_mm(image: Image, voxel: Sequence[int]) -> list[float]:
    """Returns where the centre of a voxel (i, j, k) of the file is, in RAS coordinates."""
    return _rounded((image.file_affine[:3] @ (*voxel, 1)).tolist())


def _read_prompts(listed: JsonValue, image: Image) -> tuple[LabelledPrompt, ...]:
    """Returns the prompts; all their voxels are turned to the image's axes at once."""
    entries = listed.items()
    if len(entries) > _MOST_PROMPTS:
        listed.refuse(f"{_MOST_PROMPTS:,} at most")
    kinds = [entry.member("kind").text(*_KINDS) for entry in entries]
    places = [_list_places(entry, kind) for entry, kind in zip(entries, kinds, strict=True)]
    every = [place for group in places for place in group]
    try:
        voxels = image.voxels([place.numbers(3) for place in every], ras=False)
    except PlaceError as error:
        every[error.index].fail(str(error))
    ends = np.cumsum([len(group) for group in places]).tolist()
    groups = [voxels[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    _check_area(listed, kinds, groups)
    return tuple(
        LabelledPrompt(
            entry.member("label").whole_number(1, MAX_LABEL), _read_prompt(entry, kind, group)
        )
        for entry, kind, group in zip(entries, kinds, groups, strict=True)
    )


def _list_places(entry: JsonValue, kind: str) -> list[JsonValue]:
    """Returns where a prompt's voxels stand: one, two corners, or the ends of each run."""
    if kind in (_POSITIVE, _NEGATIVE):
        return [entry.member("voxel")]
    if kind not in _DRAWN:
        corners = entry.member("voxels").items()
        if len(corners) != 2:
            entry.member("voxels").refuse("two opposite corners")
        return corners
    ends: list[JsonValue] = []
    for run in entry.member("runs").items():
        both = run.items()
        if len(both) != 2:
            run.refuse("the first and the last voxel")
        ends += both
    if not ends:
        entry.member("runs").refuse("one run at least")
    return ends


def _check_area(
    listed: JsonValue, kinds: Sequence[str], groups: Sequence[npt.NDArray[np.intp]]
) -> None:
    """Refuses drawings that would take far more memory than their file."""
    area = scribbled = 0
    for kind, voxels in zip(kinds, groups, strict=True):
        if kind in _DRAWN:
            area += int(np.prod(np.ptp(voxels, axis=0) + 1))
        if kind in (_POSITIVE_SCRIBBLE, _NEGATIVE_SCRIBBLE):
            scribbled += int((abs(voxels[1::2] - voxels[::2]).sum(axis=1) + 1).sum())
    if area > _MOST_AREA or scribbled > _MOST_SCRIBBLED:
        listed.fail(
            f"found drawings of {area:,} voxels with what is between them, and {scribbled:,} of "
            f"scribbles, expected {_MOST_AREA:,} and {_MOST_SCRIBBLED:,} at most"
        )


def _read_prompt(
    entry: JsonValue, kind: str, voxels: npt.NDArray[np.intp]
) -> Box | Click | SliceBox | Lasso | Scribble | Region:
    """Returns a prompt; `voxels` (N, 3) are those at its places, (z, y, x)."""
    if kind in (_POSITIVE, _NEGATIVE):
        z, y, x = voxels[0].tolist()
        return Click(z, y, x, positive=kind == _POSITIVE)
    if kind in _DRAWN:
        return _read_drawn(entry, kind, voxels.reshape(-1, 2, 3))
    z_min, y_min, x_min = voxels.min(axis=0).tolist()
    z_max, y_max, x_max = (voxels.max(axis=0) + 1).tolist()
    if kind == _BOX:
        z_mid = (z_min + z_max - 1) // 2
        return Box(z_min, z_max, z_mid, y_min, y_max, x_min, x_max)
    low, high = (z_min, y_min, x_min), (z_max, y_max, x_max)
    if kind == _NEGATIVE_BOX:
        block = np.broadcast_to(np.True_, np.subtract(high, low))  # takes no memory
        return Region(low, block, positive=False)
    return SliceBox(_read_plane(entry, "voxels", low, high), low, high)


def _read_drawn(
    entry: JsonValue, kind: str, runs: npt.NDArray[np.intp]
) -> Lasso | Scribble | Region:
    """Returns what was drawn by hand, by the two ends (R, 2, 3) of each run."""
    slanting = ((runs[:, 0] != runs[:, 1]).sum(axis=1) > 1).nonzero()[0]
    if slanting.size:
        run = entry.member("runs").items()[slanting[0]]
        run.fail("found a run along several axes, expected one along one axis")
    runs = np.sort(runs, axis=1)
    z0, y0, x0 = runs[:, 0].min(axis=0).tolist()
    z1, y1, x1 = (runs[:, 1].max(axis=0) + 1).tolist()
    low, high = (z0, y0, x0), (z1, y1, x1)
    area = np.zeros(np.subtract(high, low), np.bool_)
    for (za, ya, xa), (zb, yb, xb) in (runs - low).tolist():
        area[za : zb + 1, ya : yb + 1, xa : xb + 1] = True
    if kind in (_POSITIVE_SCRIBBLE, _NEGATIVE_SCRIBBLE):
        return Scribble(np.argwhere(area) + low, positive=kind == _POSITIVE_SCRIBBLE)
    if kind == _NEGATIVE_LASSO:
        return Region(low, area, positive=False)
    plane = _read_plane(entry, "runs", low, high)
    return Lasso(plane, low, high, slice_view(area, plane, 0))


def _read_plane(
    entry: JsonValue, key: str, low: tuple[int, int, int], high: tuple[int, int, int]
) -> Plane:
    """Returns the plane of what was drawn on one slice; `key` says where it stands."""
    named = entry.member("plane").text(*(plane.name.lower() for plane in Plane))
    plane = Plane[named.upper()]
    if high[plane.normal] - low[plane.normal] != 1:
        what = "box" if key == "voxels" else "lasso"
        found = f"found a {what} of several slices"
        entry.member(key).fail(f"{found}, expected one slice of the {named} plane")
    return plane


def _read_name(value: JsonValue) -> str:
    name = value.text()
    if not is_label_name(name):
        value.refuse("a name without a colon, and no number")
    return name


def _read_window(value: JsonValue) -> IntensityWindow:
    window = IntensityWindow(*value.numbers(2))
    if window.width <= 0:
        value.fail(f"found {window.low:g} and {window.high:g}, expected the lower number first")
    return window


def _check_grid(entry: JsonValue, image: Image) -> None:
    """Refuses prompts whose voxels are not the image's."""
    shape = [int(size) for size in entry.member("shape").numbers(3)]
    affine = np.array([row.numbers(4) for row in entry.member("affine").items()])
    if affine.shape != (4, 4):
        entry.member("affine").refuse("4 rows of 4 numbers")
    if not image.has_grid(shape, affine):
        name = entry.member("file").text()
        raise PromptsGridError(
            entry.path,
            f"found prompts for {name}, {_join(shape)} voxels, expected the voxels of "
            f"{image.path.name}, {_join(image.file_shape)}, at the same place",
        )


def _format(document: Mapping[str, Any]) -> str:
    """Returns JSON with a line for each entry of the lists and objects at the top."""
    members = []
    for name, value in document.items():
        if isinstance(value, dict):
            lines = [f"{_dump(key)}: {_dump(item)}" for key, item in value.items()]
            text = "{\n    " + ",\n    ".join(lines) + "\n  }"
        elif isinstance(value, list):
            text = "[\n    " + ",\n    ".join(map(_dump, value)) + "\n  ]"
        else:
            text = _dump(value)
        members.append(f"  {_dump(name)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}\n"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rounded(numbers: Sequence[float]) -> list[float]:
    """Rounds as finely as headers do, for people to read; + 0.0 makes 0 of -0."""
    return [float(f"{number:.9g}") + 0.0 for number in numbers]


def _join(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))

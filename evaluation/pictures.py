"""Pictures of a case: three planes with ground truth, prediction and clicks, run by run.

A picture is two images on top of each other: the slice, shrunk or enlarged to the size at which it
is shown, and a transparent one of few colours with everything that is drawn onto it.
"""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from evaluation.clicks import simulate_clicks
from evaluation.loop import CaseFiles
from evaluation.records import CaseRecord, ClassClick, Interaction, TeamFolder
from gamt.axes import Plane, slice_view, to_slice
from gamt.case import read_volume
from gamt.npz import CaseError, Place, describe, open_npz, read_member

COLORS = (
    *("#ff5c5c", "#35d07f", "#4da3ff", "#ffc233", "#c583ff"),
    *("#2fd9d9", "#ff8ac2", "#a8d92f", "#ff9447", "#9aa8ff"),
)
"""Of the classes, in ascending order of labels; they repeat."""

LONGEST_SIDE = 320
"""Pixels of the longest axis of a volume; all planes are drawn to one scale."""

# Opacity of the ground truth, 0..255.
_FILL = 80

# Pixels of the least side: a volume of a single slice is a line in two planes.
_LEAST_SIDE = 4

# The overlay's palette: nothing, black, white, then a fill and an outline a colour.
_BLACK, _WHITE, _FIRST_FILL, _FIRST_OUTLINE = 1, 2, 3, 3 + len(COLORS)


@dataclass(frozen=True, slots=True)
class Picture:
    """One slice.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        index: of the slice.
        width: pixels.
        height: pixels.
        image: a data URI, the slice.
        overlay: a data URI of the same size, what is drawn onto it.
    """

    plane: str
    index: int
    width: int
    height: int
    image: str
    overlay: str


@dataclass(frozen=True, slots=True)
class Step:
    """The pictures of one run.

    Attributes:
        interaction: the run.
        label: of the class that the slices go through.
        click: on that class before the run; None where the slices go through its deepest voxel.
        voxel: (z, y, x), on all three slices.
        pictures: axial, coronal, sagittal.
    """

    interaction: Interaction
    label: int | float
    click: ClassClick | None
    voxel: tuple[int, int, int]
    pictures: tuple[Picture, ...]


def color_of(position: int) -> str:
    """Returns the colour of the class at a position among the labels, "#rrggbb"."""
    return COLORS[position % len(COLORS)]


def draw_case(folder: TeamFolder, record: CaseRecord) -> list[Step]:
    """Draws every run of a case.

    The slices go through the click on the class with the lowest final Dice that led to the run,
    or, where it got none, through the voxel deepest in its ground truth. Axial slices lie as
    stored; in the others z points upwards.

    Returns:
        A step a run; none if the ground truth has no class.

    Raises:
        CaseError: the image, the ground truth or the predictions are gone, or not what they were.
    """
    files = CaseFiles(Path(record.image_file), Path(record.gts_file))
    if files.checksums() != record.checksums:
        raise CaseError(files.image, None, "another case", "the one that was evaluated")
    image = read_volume(record.image_file, "imgs")
    gts = read_volume(record.gts_file, "gts")
    if gts.shape != image.shape:
        raise Place(Path(record.gts_file), "gts").error(describe(gts), f"shape {image.shape}")
    runs = len(record.interactions)
    segs = _read_predictions(folder.prediction_file(record.case), (runs, *image.shape))
    clicks = simulate_clicks(gts, np.zeros_like(gts))
    deepest = {label: voxel for label, _, voxel in clicks if voxel}
    if not deepest:
        return []
    final = dict(zip(record.labels, record.interactions[-1].class_dsc, strict=True))
    focus = min(deepest, key=lambda label: final[label])
    scene = _Scene(_to_bytes(image), gts, tuple(record.labels), _scales(record, image.shape))
    steps = []
    earlier: list[ClassClick] = []
    for one, prediction in zip(record.interactions, segs, strict=True):
        new = [click for click in one.clicks if click]
        click = dict(zip(deepest, one.clicks, strict=False)).get(focus)
        voxel = click.voxel if click else deepest[focus]
        pictures = tuple(scene.draw(plane, voxel, prediction, earlier, new) for plane in Plane)
        steps.append(Step(one, focus, click, voxel, pictures))
        earlier += new
    return steps


def _read_predictions(path: Path, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    place = Place(path, "all_segs")
    with open_npz(path) as archive:
        segs = read_member(archive, place)
    if segs is None or segs.shape != shape:
        found = "no such key" if segs is None else describe(segs)
        raise place.error(found, f"shape {shape}, (runs, z, y, x)")
    return segs


def _scales(record: CaseRecord, shape: Sequence[int]) -> tuple[float, ...]:
    """Returns pixels per voxel along (z, y, x)."""
    # The scores take the spacing as it stands; a picture of that would often be a line. A length
    # that is none counts as 1 mm, and where the first two agree alone, they are x and y.
    z, y, x = (step if 0 < step < math.inf else 1.0 for step in record.spacing)
    if np.isclose(z, y, rtol=1e-3) and not np.isclose(y, x, rtol=1e-3):
        z, x = x, z
    spacing = (z, y, x)
    longest = max(side * step for side, step in zip(shape, spacing, strict=True))
    return tuple(step * LONGEST_SIDE / longest for step in spacing)


def _to_bytes(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns grey values; other types than uint8 are stretched from percentile 0.5 to 99.5."""
    if image.dtype == np.uint8:
        return image
    values = np.nan_to_num(image.astype(np.float32))
    low, high = np.percentile(values, (0.5, 99.5))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """What all pictures of a case have in common.

    Attributes:
        image: (z, y, x) uint8.
        gts: (z, y, x).
        labels: of the classes.
        scales: pixels per voxel along (z, y, x).
    """

    image: npt.NDArray[np.uint8]
    gts: npt.NDArray[Any]
    labels: tuple[int | float, ...]
    scales: tuple[float, ...]

    def draw(
        self,
        plane: Plane,
        voxel: tuple[int, int, int],
        segs: npt.NDArray[Any],
        earlier: Iterable[ClassClick],
        new: Iterable[ClassClick],
    ) -> Picture:
        """Draws the slice through a voxel, and the clicks on it; new ones in a ring."""
        index = voxel[plane.normal]
        grey, truth, prediction = (
            _upright(slice_view(volume, plane, index), plane)
            for volume in (self.image, self.gts, segs)
        )
        height, width = (
            max(round(side * self.scales[axis]), _LEAST_SIDE)
            for side, axis in zip(grey.shape, (plane.row_axis, plane.column_axis), strict=True)
        )
        image = Image.fromarray(grey)
        # Nearest neighbour where voxels are larger than pixels: they are to be seen as they are.
        shrunk = min(width, image.width), min(height, image.height)
        image = image.resize(shrunk, Image.Resampling.BOX)
        image = image.resize((width, height), Image.Resampling.NEAREST)
        marks = [(click, False) for click in earlier] + [(click, True) for click in new]
        overlay = Image.fromarray(self._areas(truth, prediction, (height, width)))
        pen = ImageDraw.Draw(overlay)
        for click, is_new in marks:
            if click.voxel[plane.normal] == index:
                x, y = to_slice(plane, click.voxel)
                rows, columns = grey.shape
                if plane is not Plane.AXIAL:
                    y = rows - 1 - y
                middle = ((x + 0.5) * width / columns, (y + 0.5) * height / rows)
                _draw_mark(pen, middle, click.kind, is_new)
        return Picture(
            plane.name.lower(), index, width, height, _uri(image), _uri(_with_palette(overlay))
        )

    def _areas(
        self, truth: npt.NDArray[Any], prediction: npt.NDArray[Any], shape: tuple[int, int]
    ) -> npt.NDArray[np.uint8]:
        """Returns (rows, columns) palette indices: truth filled, prediction outlined."""
        rows, columns = (
            (np.arange(size) * side // size) for size, side in zip(shape, truth.shape, strict=True)
        )
        truth, prediction = truth[np.ix_(rows, columns)], prediction[np.ix_(rows, columns)]
        areas = np.zeros(shape, np.uint8)
        for position, label in enumerate(self.labels):
            areas[truth == label] = _FIRST_FILL + position % len(COLORS)
        for position, label in enumerate(self.labels):
            mask = prediction == label
            inner = ndimage.binary_erosion(mask, np.ones((3, 3), np.bool_), iterations=2)
            areas[mask & ~inner] = _FIRST_OUTLINE + position % len(COLORS)
        return areas


def _upright(pixels: npt.NDArray[Any], plane: Plane) -> npt.NDArray[Any]:
    return np.ascontiguousarray(pixels if plane is Plane.AXIAL else pixels[::-1])


def _draw_mark(
    pen: ImageDraw.ImageDraw, middle: tuple[float, float], kind: str, is_new: bool
) -> None:
    """Draws a white + or - edged in black."""
    x, y = round(middle[0]), round(middle[1])
    if is_new:
        for radius, width, color in ((12, 4, _BLACK), (11, 2, _WHITE)):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), None, color, width)
    for half, edge, color in ((6, 2, _BLACK), (5, 1, _WHITE)):
        pen.rectangle((x - half, y - edge, x + half, y + edge), color)
        if kind == "fg":
            pen.rectangle((x - edge, y - half, x + edge, y + half), color)


def _with_palette(overlay: Image.Image) -> Image.Image:
    colors = [(0, 0, 0), (0, 0, 0), (255, 255, 255)]
    colors += 2 * [(int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for c in COLORS]
    overlay.putpalette([value for color in colors for value in color])
    overlay.info["transparency"] = bytes([0, 255, 255] + [_FILL] * len(COLORS))
    return overlay


def _uri(image: Image.Image) -> str:
    """Returns an image as a data URI; grey ones as WebP, since their noise is large in PNG."""
    file = io.BytesIO()
    kind = "webp" if image.mode == "L" else "png"
    image.save(file, kind, **({"quality": 70} if kind == "webp" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

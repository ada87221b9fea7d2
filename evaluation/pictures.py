"""Pictures of a case: three planes with ground truth, prediction and clicks, run by run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from evaluation.clicks import simulate_clicks
from evaluation.loop import CaseFiles
from evaluation.records import CaseRecord, ClassClick, Interaction, TeamFolder
from gamt.axes import Plane, slice_view, to_slice
from gamt.explain.drawing import (
    FIRST,
    color_overlay,
    draw_mark,
    draw_slice,
    enlarge,
    outline,
    picture_size,
    pixels_per_voxel,
    place,
    to_uri,
    upright,
)
from gamt.io.case import read_volume
from gamt.io.npz import CaseError, Place, describe, open_npz, read_member

COLORS = (
    *("#ff5c5c", "#35d07f", "#4da3ff", "#ffc233", "#c583ff"),
    *("#2fd9d9", "#ff8ac2", "#a8d92f", "#ff9447", "#9aa8ff"),
)
"""Of the classes, in ascending order of labels; they repeat."""

LONGEST_SIDE = 320
"""Pixels of the longest axis of a volume; all planes are drawn to one scale."""

# Opacity of the ground truth, 0..255.
_FILL = 80

# The overlay's colours: a fill and an outline of each class's.
_PALETTE = [(color, _FILL) for color in COLORS] + [(color, 255) for color in COLORS]
_FIRST_FILL, _FIRST_OUTLINE = FIRST, FIRST + len(COLORS)


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
    return pixels_per_voxel(shape, (z, y, x), LONGEST_SIDE)


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
            upright(slice_view(volume, plane, index), plane)
            for volume in (self.image, self.gts, segs)
        )
        size = picture_size(grey.shape, plane, self.scales)
        overlay = Image.fromarray(self._areas(truth, prediction, size))
        pen = ImageDraw.Draw(overlay)
        for click, is_new in [(one, False) for one in earlier] + [(one, True) for one in new]:
            if click.voxel[plane.normal] == index:
                x, y = to_slice(plane, click.voxel)
                middle = place((x + 0.5, y + 0.5), plane, grey.shape, size)
                draw_mark(pen, middle, click.kind == "fg", is_new)
        image, overlay = draw_slice(grey, size), color_overlay(overlay, _PALETTE)
        height, width = size
        return Picture(plane.name.lower(), index, width, height, to_uri(image), to_uri(overlay))

    def _areas(
        self, truth: npt.NDArray[Any], prediction: npt.NDArray[Any], shape: tuple[int, int]
    ) -> npt.NDArray[np.uint8]:
        """Returns (rows, columns) palette indices: truth filled, prediction outlined."""
        truth, prediction = enlarge(truth, shape), enlarge(prediction, shape)
        areas = np.zeros(shape, np.uint8)
        for position, label in enumerate(self.labels):
            areas[truth == label] = _FIRST_FILL + position % len(COLORS)
        for position, label in enumerate(self.labels):
            areas[outline(prediction == label)] = _FIRST_OUTLINE + position % len(COLORS)
        return areas

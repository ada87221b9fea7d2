"""The pictures of an explanation: slices at every step from the prompts to the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gamt.axes import Plane, box_to_slice, to_slice
from gamt.explain.drawing import (
    CLEAR,
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
from gamt.explain.record import Montage, MontageRow, Overlay
from gamt.volume.geometry import Range

LONGEST_SIDE = 280
"""Pixels of the longest side of what a montage shows; all of its planes are drawn to one scale."""

TALLEST = 1.2
"""Height of a picture, as a share of its column's width, at most."""

LEVELS = 20
"""Shades of a probability."""

COLORS = {
    "truth": "#25e6f0",
    "before": "#9d7bff",
    "result": "#ff9f2e",
    "added": "#35d07f",
    "removed": "#ff5c5c",
    "box": "#ff6ad5",
    "ball": "#ffe14d",
    "votes": "#ff9f2e",
}
"""What is drawn in which colour."""

# Opacities, 0..255.
_FILL, _SHADE, _SUREST = 110, 120, 150

_LINES = ("truth", "votes", "before", "result", "box", "ball")
_PALETTE = [
    *((COLORS[name], 255) for name in _LINES),
    *((COLORS[name], _FILL) for name in ("added", "removed")),
    ("#000000", _SHADE),
    *((COLORS["votes"], round(_SUREST * level / LEVELS)) for level in range(1, LEVELS + 1)),
]
_INDEX = {name: FIRST + n for n, name in enumerate((*_LINES, "added", "removed", "unseen"))}
_FIRST_LEVEL = FIRST + len(_INDEX)


@dataclass(frozen=True, slots=True)
class Picture:
    """One slice at one step.

    Attributes:
        overlay: a data URI, what is drawn onto the slice.
        text: what it shows, in words.
    """

    overlay: str
    text: str


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One slice at all steps.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        index: of the slice, in raw voxels.
        width: pixels.
        height: pixels.
        share: of its column's width that it takes, 0..1, so that all planes keep one scale.
        image: a data URI, the slice.
        pictures: one for each step.
    """

    plane: str
    index: int
    width: int
    height: int
    share: float
    image: str
    pictures: tuple[Picture, ...]


def draw_montage(montage: Montage, spacing_mm: Sequence[float]) -> tuple[PictureRow, ...]:
    """Draws the slices of a montage, axial, coronal and sagittal, at all of its steps."""
    shape = [b - a for a, b in zip(*montage.frame, strict=True)]
    scales = pixels_per_voxel(shape, spacing_mm, LONGEST_SIDE)
    sizes = [picture_size(row.image.shape, row.plane, scales) for row in montage.rows]
    column = max(max(width, height / TALLEST) for height, width in sizes)
    rows = []
    for row, size in zip(montage.rows, sizes, strict=True):
        pictures = []
        for name, overlay in zip(montage.columns, row.overlays, strict=True):
            pixels = Image.fromarray(_paint(overlay, row.plane, size))
            if name == "prompts":
                _draw_prompts(pixels, montage, row)
            uri = to_uri(color_overlay(pixels, _PALETTE))
            pictures.append(Picture(uri, f"{name}, {row.plane.name.lower()} slice {row.index}"))
        image = to_uri(draw_slice(upright(row.image, row.plane), size))
        plane, (height, width) = row.plane.name.lower(), size
        share = width / column
        rows.append(PictureRow(plane, row.index, width, height, share, image, tuple(pictures)))
    return tuple(rows)


def _paint(overlay: Overlay, plane: Plane, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Returns (rows, columns) palette indices of all that is painted onto a slice."""
    areas = np.full(size, CLEAR, np.uint8)
    lines: dict[str, npt.NDArray[np.bool_]] = {}

    def show(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return enlarge(upright(pixels, plane), size)

    if overlay.probability is not None:
        probability = show(overlay.probability)
        level = np.rint(np.nan_to_num(probability) * LEVELS).astype(np.uint8)
        areas[level > 0] = (_FIRST_LEVEL - 1 + level)[level > 0]
        areas[np.isnan(probability)] = _INDEX["unseen"]
        lines["votes"] = probability > 0.5
    for name, mask in overlay.areas.items():
        areas[show(mask)] = _INDEX[name]
    lines.update((name, show(mask)) for name, mask in overlay.outlines.items())
    for name in _LINES:  # what is found lies on the truth, which shows where they differ
        if name in lines:
            areas[outline(lines[name])] = _INDEX[name]
    return areas


def _draw_prompts(pixels: Image.Image, montage: Montage, row: MontageRow) -> None:
    pen = ImageDraw.Draw(pixels)
    size, plane = (pixels.height, pixels.width), row.plane
    low = to_slice(plane, montage.frame[0])

    def corners(bounds: Range) -> list[float]:
        x0, y0, x1, y1 = box_to_slice(plane, *bounds)
        points = [
            place((x - low[0], y - low[1]), plane, row.image.shape, size)
            for x, y in ((x0, y0), (x1, y1))
        ]
        (a, b), (c, d) = points
        return [min(a, c), min(b, d), max(a, c) - 1, max(b, d) - 1]

    if montage.box is not None and _goes_through(montage.box, row):
        pen.rectangle(corners(montage.box), None, _INDEX["box"], 2)
    if montage.ball is not None:
        pen.ellipse(corners((montage.ball.low, montage.ball.high)), None, _INDEX["ball"], 2)
    about = montage.correction.click if montage.correction else None
    for click in montage.clicks:
        if click.voxel[plane.normal] == row.index:
            x, y = to_slice(plane, click.voxel)
            pixel = x + 0.5 - low[0], y + 0.5 - low[1]
            middle = place(pixel, plane, row.image.shape, size)
            draw_mark(pen, middle, click.positive, in_ring=click == about)


def _goes_through(bounds: Range, row: MontageRow) -> bool:
    first, last = (bound[row.plane.normal] for bound in bounds)
    return first <= row.index < last

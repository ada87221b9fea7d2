"""The page that shows an explanation: one HTML file that needs no network and no other file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
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
from gamt.explain.html import write_html
from gamt.explain.record import (
    ClassRecord,
    ClickRecord,
    Explanation,
    Layer,
    Row,
    Sheet,
    Stop,
    WalkRecord,
)
from gamt.lifting.propagation import End
from gamt.prompts import Click
from gamt.volume.geometry import Range

LONGEST_SIDE = 280
"""Pixels of the longest side of what a sheet shows; all of its planes are drawn to one scale."""

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

ENDS = {
    End.VANISHED: "the mask vanished",
    End.UNSURE: "quality too low (min_quality)",
    End.JUMPED: "the mask jumped (min_overlap)",
    End.GREW: "the mask grew too much (max_growth)",
    End.STRANGE: "it looks like something else",
    End.CORRECTED: "nothing more to correct",
    End.RANGE: "end of the range",
    End.TIME: "out of time",
}
"""Why a walk went no further, in words, with the setting that decides it."""

LOST = (End.UNSURE, End.JUMPED, End.GREW, End.TIME)
"""Ends at which the target may well go on."""

POOR, DIFFERENT, WORSE = 0.7, 0.15, 0.02
"""What is worth a look: a Dice, and its differences between planes and from step to step."""

MISSED = 0.1
"""A walk that leaves out more than this share of its slices is worth a look."""

# The drawing area of a chart, in the SVG's units.
_CHART_WIDTH, _CHART_HEIGHT = 300, 90

# Unbroken runs of slices that are told one by one.
_MOST_RUNS = 3


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


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a walk lost its target, on a chart.

    Attributes:
        x: in the chart's units.
        y: as `x`, downwards.
        text: where and why.
    """

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Area and quality of a plane's masks against slices.

    Attributes:
        first: the slice at the left.
        last: the slice at the right.
        most_mm2: the area at the top.
        anchors: where walks began, in the chart's units.
        areas: a walk's points "x,y x,y" each.
        qualities: as `areas`; 1 is at the top.
        marks: where walks lost their target.
    """

    first: int
    last: int
    most_mm2: float
    anchors: tuple[float, ...]
    areas: tuple[str, ...]
    qualities: tuple[str, ...]
    marks: tuple[Mark, ...]


def write_page(explanation: Explanation, path: Path) -> None:
    """Writes the page, which appears at once and whole.

    Raises:
        OSError: the file can't be written.
    """
    write_html(
        path,
        "explain.html",
        case=explanation,
        classes=[
            {
                "record": record,
                "name": explanation.names.get(
                    record.prompts.label, f"Class {record.prompts.label}"
                ),
                "prompts": list(_describe_prompts(record)),
                "dices": {one.name: one.dice for one in record.stages},
                "findings": list(_find(record)),
                "rows": draw_sheet(record.sheet, explanation.spacing_mm) if record.sheet else (),
                "charts": [draw_chart(plane.walks) for plane in record.planes],
                "corrections": [
                    (
                        sheet,
                        draw_sheet(sheet, explanation.spacing_mm),
                        [one for one in record.corrections if one.click == sheet.correction.click],
                    )
                    for sheet in record.correction_sheets
                    if sheet.correction
                ],
            }
            for record in explanation.classes
        ],
        settings=[
            (one.name, _show_setting(getattr(explanation.settings, one.name)))
            for one in fields(explanation.settings)
        ],
        colors=COLORS,
        chart_width=_CHART_WIDTH,
        chart_height=_CHART_HEIGHT,
        spans=spans,
        tell_stop=tell_stop,
        is_lost=lambda stop: stop.end in LOST,
        visited=lambda walk: spans(one.index for one in walk.visits),
    )


def spans(indices: Iterable[int]) -> str:
    """Tells slices in words: "3–40 (38)", and where there are too many gaps "3–40 (19 of 38)"."""
    ordered = sorted(set(indices))
    if not ordered:
        return "none"
    breaks = np.flatnonzero(np.diff(ordered) > 1) + 1
    runs = [run.tolist() for run in np.split(np.array(ordered), breaks)]
    if len(runs) > _MOST_RUNS:
        first, last = ordered[0], ordered[-1]
        return f"{first}–{last} ({len(ordered)} of {last - first + 1})"
    listed = ", ".join(f"{a[0]}–{a[-1]}" if len(a) > 1 else str(a[0]) for a in runs)
    return f"{listed} ({len(ordered)})"


def tell_stop(stop: Stop) -> str:
    """Tells in words where a walk ended and why."""
    return ENDS[stop.end] if stop.index is None else f"{stop.index}: {ENDS[stop.end]}"


def draw_sheet(sheet: Sheet, spacing_mm: Sequence[float]) -> tuple[PictureRow, ...]:
    """Draws the slices of a sheet, axial, coronal and sagittal, at all of its steps."""
    shape = [b - a for a, b in zip(*sheet.frame, strict=True)]
    scales = pixels_per_voxel(shape, spacing_mm, LONGEST_SIDE)
    sizes = [picture_size(row.image.shape, row.plane, scales) for row in sheet.rows]
    column = max(max(width, height / TALLEST) for height, width in sizes)
    rows = []
    for row, size in zip(sheet.rows, sizes, strict=True):
        pictures = []
        for name, layer in zip(sheet.columns, row.layers, strict=True):
            overlay = Image.fromarray(_areas(layer, row.plane, size))
            if name == "prompts":
                _draw_prompts(overlay, sheet, row)
            uri = to_uri(color_overlay(overlay, _PALETTE))
            pictures.append(Picture(uri, f"{name}, {row.plane.name.lower()} slice {row.index}"))
        image = to_uri(draw_slice(upright(row.image, row.plane), size))
        plane, (height, width) = row.plane.name.lower(), size
        share = width / column
        rows.append(PictureRow(plane, row.index, width, height, share, image, tuple(pictures)))
    return tuple(rows)


def draw_chart(walks: Sequence[WalkRecord]) -> Chart | None:
    """Draws what walks of one plane saw; None where they saw nothing."""
    visits = [one for walk in walks for one in walk.visits]
    if not visits:
        return None
    seen = [one.index for one in visits]
    # Of what was planned around a mere click, most is far from the target.
    planned = [index for walk in walks for index in walk.planned]
    near = max(seen) - min(seen) + 1
    first = max(min(seen) - near, min([*planned, *seen]))
    last = min(max(seen) + near, max([*planned, *seen]))
    most = max(one.area_mm2 for one in visits) or 1.0

    def place_x(index: int) -> float:
        share = (index - first) / (last - first) if last > first else 0.5
        return round(share * _CHART_WIDTH, 1)

    def place_y(share: float) -> float:
        return round((1 - min(share, 1.0)) * _CHART_HEIGHT, 1)

    areas, qualities, marks = [], [], []
    for walk in walks:
        way = sorted(walk.visits, key=lambda one: one.index)
        areas.append(" ".join(f"{place_x(v.index)},{place_y(v.area_mm2 / most)}" for v in way))
        qualities.append(" ".join(f"{place_x(v.index)},{place_y(v.quality)}" for v in way))
        marks += [
            Mark(
                place_x(one.index),
                place_y(one.area_mm2 / most),
                f"{one.index}: {ENDS[one.end]}; {one.area_mm2:.0f} mm², quality {one.quality:.2f}",
            )
            for one in way
            if one.end is not None
        ]
    anchors = sorted({place_x(walk.anchor) for walk in walks if walk.visits})
    return Chart(first, last, most, tuple(anchors), tuple(areas), tuple(qualities), tuple(marks))


def _areas(layer: Layer, plane: Plane, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Returns (rows, columns) palette indices of all that is painted onto a slice."""
    areas = np.full(size, CLEAR, np.uint8)
    lines: dict[str, npt.NDArray[np.bool_]] = {}

    def show(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return enlarge(upright(pixels, plane), size)

    if layer.probability is not None:
        probability = show(layer.probability)
        level = np.rint(np.nan_to_num(probability) * LEVELS).astype(np.uint8)
        areas[level > 0] = (_FIRST_LEVEL - 1 + level)[level > 0]
        areas[np.isnan(probability)] = _INDEX["unseen"]
        lines["votes"] = probability > 0.5
    for name, mask in layer.areas.items():
        areas[show(mask)] = _INDEX[name]
    lines.update((name, show(mask)) for name, mask in layer.outlines.items())
    for name in _LINES:  # what is found lies on the truth, which shows where they differ
        if name in lines:
            areas[outline(lines[name])] = _INDEX[name]
    return areas


def _draw_prompts(overlay: Image.Image, sheet: Sheet, row: Row) -> None:
    pen = ImageDraw.Draw(overlay)
    size, plane = (overlay.height, overlay.width), row.plane
    low = to_slice(plane, sheet.frame[0])

    def corners(bounds: Range) -> list[float]:
        x0, y0, x1, y1 = box_to_slice(plane, *bounds)
        points = [
            place((x - low[0], y - low[1]), plane, row.image.shape, size)
            for x, y in ((x0, y0), (x1, y1))
        ]
        (a, b), (c, d) = points
        return [min(a, c), min(b, d), max(a, c) - 1, max(b, d) - 1]

    if sheet.box is not None and _goes_through(sheet.box, row):
        pen.rectangle(corners(sheet.box), None, _INDEX["box"], 2)
    if sheet.ball is not None:
        pen.ellipse(corners((sheet.ball.low, sheet.ball.high)), None, _INDEX["ball"], 2)
    about = sheet.correction.click if sheet.correction else None
    for click in sheet.clicks:
        if click.voxel[plane.normal] == row.index:
            x, y = to_slice(plane, click.voxel)
            pixel = x + 0.5 - low[0], y + 0.5 - low[1]
            middle = place(pixel, plane, row.image.shape, size)
            draw_mark(pen, middle, click.positive, in_ring=click == about)


def _goes_through(bounds: Range, row: Row) -> bool:
    first, last = (bound[row.plane.normal] for bound in bounds)
    return first <= row.index < last


def _describe_prompts(record: ClassRecord) -> Iterable[str]:
    box, slice_box = record.prompts.box, record.prompts.slice_box
    if box is not None:
        yield f"Box on slice z {box.z_mid}: {_show_range((box.low, box.high))}."
    if slice_box is not None:
        bounds = _show_range((slice_box.low, slice_box.high))
        yield f"Box on one {slice_box.plane.name.lower()} slice: {bounds}."
    if record.drawn_box is not None:
        bounds = _show_range((record.drawn_box.low, record.drawn_box.high))
        yield f"Box that the method drew around what the first prompt shows: {bounds}."
    for number, one in enumerate(record.clicks, 1):
        yield f"Click {number}, {_show_click(one.click)}: {_tell_change(one)}."
    if record.had_previous:
        yield "Previous prediction, which stays where no click contradicts it."


def _tell_change(one: ClickRecord) -> str:
    if one.changed:
        return f"{'added' if one.click.positive else 'removed'} {one.changed:,} voxels"
    return "agrees with what was found" if one.reached else "the time was up before its turn"


def _show_range(bounds: Range) -> str:
    return ", ".join(
        f"{axis} {a}–{b - 1}" for axis, a, b in zip("zyx", bounds[0], bounds[1], strict=True)
    )


def _show_click(click: Click) -> str:
    side = "inside" if click.positive else "outside"
    return f"{side}, at z {click.z}, y {click.y}, x {click.x}"


def _show_setting(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(one.name.lower() for one in value)
    return str(value)


def _find(record: ClassRecord) -> Iterable[str]:
    """Tells what is worth a look, in sentences."""
    if not record.begun:
        yield "There is neither a prompt nor a previous prediction: nothing was looked for."
        return
    for plane in record.planes:
        name = plane.plane.name.lower()
        if not plane.walks:
            yield f"No {name} walk: nothing that was seen before leads to such a slice."
        # Where walks go on from what others found, most of them end somehow.
        elif len(plane.walks) <= _MOST_RUNS:
            for walk in plane.walks:
                yield from _find_early_stops(name, walk, record.prompts.box is not None)
    scored = [(one.name, one.dice) for one in record.stages if one.dice is not None]
    votes = sorted((one for one in scored if one[0].endswith("votes")), key=lambda one: one[1])
    if votes and votes[-1][1] < POOR:
        yield (
            f"No plane's votes are near the truth: Dice {votes[-1][1]:.2f} at most. It goes wrong "
            "where the model looks at single slices."
        )
    elif votes and votes[-1][1] - votes[0][1] > DIFFERENT:
        (worst, low), (best, high) = votes[0], votes[-1]
        yield f"The planes differ: Dice {low:.2f} for {worst}, {high:.2f} for {best}."
    steps = [one for one in scored if not one[0].endswith("votes")]
    for (before, high), (after, low) in pairwise(steps):
        if high - low > WORSE:
            yield f"Dice falls from {high:.2f} to {low:.2f} between “{before}” and “{after}”."


def _find_early_stops(name: str, walk: WalkRecord, range_is_known: bool) -> Iterable[str]:
    for stop, way, sign in zip(walk.stops(), ("down", "up"), (-1, 1), strict=True):
        reached = walk.anchor if stop.index is None else stop.index
        missed = sum(sign * (index - reached) >= 0 for index in walk.planned)
        # From a click alone, how far the target goes is what the walk is to find out.
        lost = stop.end in LOST or (range_is_known and stop.end is not End.RANGE)
        if lost and missed > MISSED * len(walk.planned):
            edge = walk.planned[0 if sign < 0 else -1]
            yield (
                f"The {name} walk {way} from slice {walk.anchor} ended early, at "
                f"{tell_stop(stop)}. It was to go to {edge}."
            )

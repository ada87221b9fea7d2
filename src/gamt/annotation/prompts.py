"""What users draw on a page, and how a session is told of it.

Voxels are the page's (i, j, k), bounds half-open (`gamt.annotation.grid`). The page's types.ts has
the same kinds, with the same members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gamt.annotation.grid import Voxel, bounds_to_array, to_array, turn
from gamt.axes import Plane, slice_shape
from gamt.interactions import read_box, read_click, read_lasso, read_scribble, region_of
from gamt.io.json_files import JsonValue
from gamt.prompts import Box, Click, Region, Scribble, SliceBox
from gamt.session import ArrayBounds, Session

MOST_RADIUS = 32
"""Of a scribble's pen, in voxels: the server draws it for every piece of the line."""

_MOST = 2**20
"""No index is as large."""


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A voxel.

    Attributes:
        voxel: (i, j, k).
        positive: whether it is inside of the target.
    """

    voxel: Voxel
    positive: bool


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """A box in 3-D, or on one slice.

    Attributes:
        low: the first voxel (i, j, k) inside.
        high: the voxel just past the last one inside, on every axis.
        positive: whether it is around the target or a part of it; else around what isn't.
        plane: of the slice that it was drawn on; None for a box in 3-D.
    """

    low: Voxel
    high: Voxel
    positive: bool
    plane: Plane | None = None


@dataclass(frozen=True, slots=True)
class DrawnPrompt:
    """A line that was drawn on a slice: a scribble, or a lasso around an area.

    Attributes:
        kind: which of the two.
        plane: of the slice.
        index: of the slice, along the page's axis that the plane's slices follow each other on.
        points: of the line, in voxels along the two other axes, in the order i, j, k; the centre
            of voxel 3 is at 3.0.
        radius: of a scribble's pen, in voxels; of no meaning for a lasso.
        positive: whether what is drawn is inside of the target.
    """

    kind: Literal["scribble", "lasso"]
    plane: Plane
    index: int
    points: tuple[tuple[float, float], ...]
    radius: float
    positive: bool


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """A segmentation that the target began with.

    Attributes:
        name: of the file.
    """

    name: str


NewPrompt = PointPrompt | BoxPrompt | DrawnPrompt

Said = Box | SliceBox | Click | Scribble | Region
"""A prompt as the package has it: a box or lasso that is negative is a `Region`."""


def read_prompt(entry: JsonValue) -> NewPrompt:
    """Reads a prompt as the page sends it (`NewPrompt` in types.ts).

    Raises:
        JsonError: it is none; where it lies in the image is not looked at.
    """
    kind = entry.member("kind").text("point", "box", "scribble", "lasso")
    positive = entry.member("positive").boolean()
    if kind == "point":
        return PointPrompt(_read_voxel(entry.member("voxel")), positive)
    if kind == "box":
        plane = _read_plane(entry.member("plane")) if entry.has("plane") else None
        low, high = _read_voxel(entry.member("low")), _read_voxel(entry.member("high"))
        if not all(first < past for first, past in zip(low, high, strict=True)):
            entry.member("high").refuse(f"more than low, {[*low]}, along each axis")
        if plane is not None and high[2 - plane.normal] - low[2 - plane.normal] != 1:
            entry.member("plane").refuse("that of the one slice that the box lies on")
        return BoxPrompt(low, high, positive, plane)
    points = [one.numbers(2) for one in entry.member("points").items()]
    radius = entry.member("radius").number()
    if not 0 <= radius <= MOST_RADIUS:
        entry.member("radius").refuse(f"0 to {MOST_RADIUS}")
    return DrawnPrompt(
        "scribble" if kind == "scribble" else "lasso",
        _read_plane(entry.member("plane")),
        entry.member("index").whole_number(0, _MOST),
        tuple((a, b) for a, b in points),
        radius,
        positive,
    )


def describe_prompt(prompt: NewPrompt | MaskPrompt) -> dict[str, Any]:
    """Returns a prompt as the page gets it, but for its number (`Prompt` in types.ts)."""
    match prompt:
        case MaskPrompt():
            return {"kind": "mask", "name": prompt.name, "positive": True}
        case PointPrompt():
            return {"kind": "point", "voxel": [*prompt.voxel], "positive": prompt.positive}
        case BoxPrompt():
            return {
                "kind": "box",
                "low": [*prompt.low],
                "high": [*prompt.high],
                "plane": None if prompt.plane is None else prompt.plane.name.lower(),
                "positive": prompt.positive,
            }
        case DrawnPrompt():
            return {
                "kind": prompt.kind,
                "plane": prompt.plane.name.lower(),
                "index": prompt.index,
                "points": [[*point] for point in prompt.points],
                "radius": prompt.radius,
                "positive": prompt.positive,
            }


def add_prompt(session: Session, prompt: NewPrompt) -> None:
    """Adds a prompt to a session, without a prediction.

    Raises:
        ValueError: it lies outside of the image, or holds none of its voxels.
        RuntimeError: the session has no image.
    """
    if session.volume is None:
        raise RuntimeError("there is no image: call set_image first")
    shape = session.volume.image.shape
    match prompt:
        case PointPrompt():
            session.add_point_interaction(to_array(prompt.voxel, shape), prompt.positive, False)
        case BoxPrompt():
            bounds = bounds_to_array(prompt.low, prompt.high, shape)
            session.add_bbox_interaction(bounds, prompt.positive, False)
        case DrawnPrompt():
            drawing, bounds = rasterise(prompt, shape)
            scribble, lasso = session.add_scribble_interaction, session.add_lasso_interaction
            add = scribble if prompt.kind == "scribble" else lasso
            add(drawing, prompt.positive, False, bounds)


def to_said(prompt: NewPrompt, shape: tuple[int, ...]) -> Said:
    """Returns what a prompt that a session has taken says.

    Args:
        prompt: lies in the image.
        shape: of the image (z, y, x).
    """
    if isinstance(prompt, PointPrompt):
        return read_click(to_array(prompt.voxel, shape), prompt.positive, shape)
    drawn: Box | SliceBox
    if isinstance(prompt, BoxPrompt):
        drawn = read_box(bounds_to_array(prompt.low, prompt.high, shape), shape)
    else:
        drawing, bounds = rasterise(prompt, shape)
        if prompt.kind == "scribble":
            return read_scribble(drawing, bounds, prompt.positive, shape)
        drawn = read_lasso(drawing, bounds, shape)
    return drawn if prompt.positive else region_of(drawn, positive=False)


def rasterise(
    prompt: DrawnPrompt, shape: Sequence[int]
) -> tuple[npt.NDArray[np.bool_], ArrayBounds]:
    """Returns the voxels that a scribble or a lasso holds, as far as they are in the image.

    Args:
        prompt: the line.
        shape: of the image (z, y, x).

    Returns:
        (z, y, x) bool, one slice of the image, and its bounds.

    Raises:
        ValueError: it holds none.
    """
    normal = prompt.plane.normal
    if prompt.index >= shape[normal]:
        found = f"a {prompt.kind} on the {prompt.plane.name.lower()} slice {prompt.index}"
        raise ValueError(f"found {found}, expected one of 0 to {shape[normal] - 1}")
    rows_and_columns = slice_shape(shape, prompt.plane)
    points = np.array(prompt.points, np.float64).reshape(-1, 2)
    if prompt.kind == "scribble":
        area = draw_line(points, prompt.radius, rows_and_columns)
    else:
        area = fill_outline(points, rows_and_columns)
    if not area.any():
        raise ValueError(f"the {prompt.kind} holds no voxel of the image: draw a larger one")
    low, high = [0, 0, 0], [*reversed(shape)]
    low[2 - normal], high[2 - normal] = prompt.index, prompt.index + 1
    return turn(np.expand_dims(area, normal)), bounds_to_array(low, high, shape)


def draw_line(
    points: npt.NDArray[np.float64], radius: float, shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Draws a line with a round pen.

    Args:
        points: (N, 2), places (x, y) on the line in pixels; the centre of pixel 3 is at 3.0.
        radius: of the pen, in pixels.
        shape: of the picture (rows, columns).

    Returns:
        (rows, columns) bool: pixels with their centre within the radius of the line, and pixels
        that the line crosses.
    """
    area = np.zeros(shape, np.bool_)
    limit = np.array([shape[1], shape[0]])
    room = max(radius, 1.0)
    for one in np.floor(points + 0.5):
        if ((one >= 0) & (one < limit)).all():
            area[int(one[1]), int(one[0])] = True
    followers = points[1:] if len(points) > 1 else points
    for start, end in zip(points, followers, strict=False):
        low = np.floor(np.minimum(start, end) - room).clip(0, limit).astype(int)
        high = np.ceil(np.maximum(start, end) + room + 1).clip(0, limit).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        step = end - start
        length = float(step @ step)
        along = ((x - start[0]) * step[0] + (y - start[1]) * step[1]) / (length or 1.0)
        along = along.clip(0, 1)
        away = np.hypot(x - start[0] - along * step[0], y - start[1] - along * step[1])
        enter, leave = np.zeros(x.shape), np.ones(x.shape)
        for centre, place, way in ((x, start[0], step[0]), (y, start[1], step[1])):
            if way == 0:
                leave[(place < centre - 0.5) | (place >= centre + 0.5)] = -1
            else:
                sides = (centre - 0.5 - place) / way, (centre + 0.5 - place) / way
                enter = np.maximum(enter, np.minimum(*sides))
                leave = np.minimum(leave, np.maximum(*sides))
        area[low[1] : high[1], low[0] : high[0]] |= (away <= radius) | (enter < leave)
    return area


def fill_outline(points: npt.NDArray[np.float64], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Fills a closed line; where it crosses itself, all that it goes around is inside.

    Args:
        points: (N, 2), places (x, y) on the line in pixels; the last one is followed by the first.
        shape: of the picture (rows, columns).

    Returns:
        (rows, columns) bool, the pixels with their centre inside.
    """
    turns = np.zeros(shape, np.int32)  # of the line around a pixel's centre
    columns = np.arange(shape[1])
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        first, past = (int(np.ceil(y).clip(0, shape[0])) for y in sorted((y0, y1)))
        rows = np.arange(first, past)
        if not len(rows):
            continue
        crossed = x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
        turns[first:past] += (1 if y1 > y0 else -1) * (columns < crossed[:, None])
    inside: npt.NDArray[np.bool_] = turns != 0
    return inside


def _read_voxel(value: JsonValue) -> Voxel:
    if len(value.items()) != 3:
        value.refuse("3 indices [i, j, k]")
    i, j, k = (one.whole_number(-_MOST, _MOST) for one in value.items())
    return i, j, k


def _read_plane(value: JsonValue) -> Plane:
    return Plane[value.text(*(one.name.lower() for one in Plane)).upper()]

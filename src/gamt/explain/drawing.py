"""Pictures of slices for HTML pages; needs Pillow, which the extra ``gamt[explain]`` brings.

A picture is two images on top of each other: the slice, shrunk or enlarged to the size at which it
is shown, and a transparent one of few colours with everything that is drawn onto it. Axial slices
lie as stored; in the others z points upwards.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from gamt.axes import Plane

CLEAR, BLACK, WHITE, FIRST = range(4)
"""The palette of what is drawn: nothing, black, white, then the caller's colours."""

LEAST_SIDE = 4
"""Pixels of a picture's least side: a volume of a single slice is a line in two planes."""


def pixels_per_voxel(
    shape: Sequence[int], spacing_mm: Sequence[float], longest: int
) -> tuple[float, ...]:
    """Returns the scale on each axis at which the longest one gets `longest` pixels.

    Args:
        shape: of the volume that is shown (z, y, x).
        spacing_mm: (z, y, x).
        longest: pixels.
    """
    size = max(side * step for side, step in zip(shape, spacing_mm, strict=True))
    return tuple(step * longest / size for step in spacing_mm)


def picture_size(shape: tuple[int, ...], plane: Plane, scales: Sequence[float]) -> tuple[int, int]:
    """Returns the (height, width) in pixels of a slice of `shape` (rows, columns)."""
    rows, columns = (
        max(round(side * scales[axis]), LEAST_SIDE)
        for side, axis in zip(shape, (plane.row_axis, plane.column_axis), strict=True)
    )
    return rows, columns


def upright(pixels: npt.NDArray[Any], plane: Plane) -> npt.NDArray[Any]:
    """Returns a slice (rows, columns) as it is shown."""
    return np.ascontiguousarray(pixels if plane is Plane.AXIAL else pixels[::-1])


def place(
    pixel: Sequence[float], plane: Plane, shape: tuple[int, ...], size: tuple[int, int]
) -> tuple[float, float]:
    """Returns where a point of a slice lies in its picture, in pixels (x, y) from the corner.

    Args:
        pixel: (x, y) from the corner of the slice: 0.5 is the middle of its first voxel.
        plane: of the slice.
        shape: of the slice (rows, columns).
        size: of the picture (height, width).
    """
    (x, y), (rows, columns), (height, width) = pixel, shape, size
    return x * width / columns, (y if plane is Plane.AXIAL else rows - y) * height / rows


def draw_slice(grey: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Returns the picture, of `size` (height, width), of a slice that lies as it is shown."""
    height, width = size
    image = Image.fromarray(grey)
    # Nearest neighbour where voxels are larger than pixels: they are to be seen as they are.
    image = image.resize((min(width, image.width), min(height, image.height)), Image.Resampling.BOX)
    return image.resize((width, height), Image.Resampling.NEAREST)


def enlarge(pixels: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Brings a mask or labels, which lie as they are shown, to `size` (height, width)."""
    rows, columns = (
        np.arange(length) * side // length for length, side in zip(size, pixels.shape, strict=True)
    )
    return pixels[np.ix_(rows, columns)]


def outline(mask: npt.NDArray[np.bool_], width: int = 2) -> npt.NDArray[np.bool_]:
    """Returns the border of a mask (rows, columns), `width` pixels wide, inside of it."""
    inner = ndimage.binary_erosion(mask, np.ones((3, 3), np.bool_), iterations=width)
    return np.asarray(mask & ~inner, np.bool_)


def draw_mark(
    pen: ImageDraw.ImageDraw, middle: tuple[float, float], positive: bool, in_ring: bool
) -> None:
    """Draws a click: a white + or - edged in black."""
    x, y = round(middle[0]), round(middle[1])
    if in_ring:
        for radius, width, color in ((12, 4, BLACK), (11, 2, WHITE)):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), None, color, width)
    for half, edge, color in ((6, 2, BLACK), (5, 1, WHITE)):
        pen.rectangle((x - half, y - edge, x + half, y + edge), color)
        if positive:
            pen.rectangle((x - edge, y - half, x + edge, y + half), color)


def color_overlay(overlay: Image.Image, colors: Sequence[tuple[str, int]]) -> Image.Image:
    """Gives the indices from `FIRST` on their colours.

    Args:
        overlay: of palette indices; changed in place.
        colors: "#rrggbb" and the opacity, 0..255.
    """
    palette = [0, 0, 0, 0, 0, 0, 255, 255, 255]
    for color, _ in colors:
        palette += bytes.fromhex(color.removeprefix("#"))
    overlay.putpalette(palette)
    overlay.info["transparency"] = bytes([0, 255, 255, *(opacity for _, opacity in colors)])
    return overlay


def to_uri(image: Image.Image) -> str:
    """Returns an image as a data URI; grey ones as WebP, since their noise is large in PNG."""
    file = io.BytesIO()
    kind = "webp" if image.mode == "L" else "png"
    image.save(file, kind, **({"quality": 70} if kind == "webp" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

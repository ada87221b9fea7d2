"""What users of interactive tools draw, as prompts; and which of it counts where it contradicts.

Coordinates are array indices (z, y, x), and bounds are half-open. Drawings come as arrays: a crop
with its bounds in the image, or one as large as the image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, bounding_range, slice_shape, slice_view
from gamt.prompts import (
    Box,
    ClassPrompts,
    Click,
    LabelledPrompt,
    Lasso,
    Region,
    Scribble,
    SliceBox,
    group_prompts,
)

NUMERIC = "biuf"
"""The kinds of dtype that drawings may have."""

MOST_SCRIBBLED = 2**18
"""Voxels of a scribble, as many as in a slice of 512 x 512. A line has a few thousand; each of them
is looked at by itself."""

Mask = npt.NDArray[np.bool_]

Voxels = npt.NDArray[np.intp]
"""(N, 3) indices (z, y, x)."""


def read_numbers(values: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[np.float64]:
    """Returns finite numbers of a shape.

    Args:
        values: what a user gave.
        shape: expected.
        name: of what they are, for the error.

    Raises:
        ValueError: they are something else.
    """
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        expected = " x ".join(str(size) for size in shape)
        raise ValueError(f"found the {name} {values!r}, expected {expected} numbers")
    return numbers


def read_click(coordinates: Any, positive: bool, shape: tuple[int, ...]) -> Click:
    """Returns the click at three array indices, rounded to the nearest voxel.

    Raises:
        ValueError: these aren't three numbers, or lie outside of an image of `shape`.
    """
    z, y, x = (round(n) for n in read_numbers(coordinates, (3,), "coordinates").tolist())
    if not all(0 <= index < size for index, size in zip((z, y, x), shape, strict=True)):
        raise ValueError(f"found the coordinates {[z, y, x]}, expected some inside of {shape}")
    return Click(z, y, x, positive)


def read_box(coordinates: Any, shape: tuple[int, ...]) -> Box | SliceBox:
    """Returns a box, clipped to an image of `shape`; one on a slice where it is thin.

    A box of one voxel along several axes is on the largest of the slices that it may lie on.

    Raises:
        ValueError: it isn't three times two numbers [first, past the last], or lies outside.
    """
    low, high = [], []
    for first, past, size in zip(
        *read_numbers(coordinates, (3, 2), "box").T.tolist(), shape, strict=True
    ):
        if round(first) >= round(past):
            raise ValueError(f"found the box {coordinates!r}, expected [first, past the last]")
        low.append(max(0, round(first)))
        high.append(min(size, round(past)))
        if low[-1] >= high[-1]:
            raise ValueError(f"found the box {coordinates!r}, expected one inside of {shape}")
    (z0, y0, x0), (z1, y1, x1) = low, high
    thin = [plane for plane in Plane if high[plane.normal] - low[plane.normal] == 1]
    if not thin:
        return Box(z0, z1, (z0 + z1) // 2, y0, y1, x0, x1)
    plane = max(thin, key=lambda one: math.prod(slice_shape(shape, one)))
    return SliceBox(plane, (z0, y0, x0), (z1, y1, x1))


def read_lasso(drawing: Any, bounds: Any, shape: tuple[int, ...]) -> Lasso:
    """Returns an area that was drawn on one slice.

    The slice is the crop's, if the crop has one slice along some axis; else the one that all of the
    area lies on.

    Args:
        drawing: (z, y, x) numbers, not 0 inside of the area.
        bounds: of the crop in the image, [[a, b], [c, d], [e, f]]; None for all of the image.
        shape: of the image (z, y, x).

    Raises:
        ValueError: the drawing doesn't fit its bounds or the image, is empty, or lies on several
            slices of every plane.
    """
    low, crop = _read_drawing(drawing, bounds, shape, "lasso")
    tight, area = _tight(low, crop)
    thin = [one for one in Plane if crop.shape[one.normal] == 1]
    thin = thin or [one for one in Plane if area.shape[one.normal] == 1]
    if not thin:
        size = " x ".join(str(n) for n in area.shape)
        raise ValueError(f"found a lasso of {size} voxels, expected one on a single slice")
    plane = max(thin, key=lambda one: math.prod(slice_shape(shape, one)))
    z, y, x = (a + n for a, n in zip(tight, area.shape, strict=True))
    return Lasso(plane, tight, (z, y, x), slice_view(area, plane, 0).copy())


def read_scribble(drawing: Any, bounds: Any, positive: bool, shape: tuple[int, ...]) -> Scribble:
    """Returns a line that was drawn in any plane.

    Args:
        drawing: (z, y, x) numbers, not 0 on the line.
        bounds: of the crop in the image, [[a, b], [c, d], [e, f]]; None for all of the image.
        positive: whether the line is inside of the target.
        shape: of the image (z, y, x).

    Raises:
        ValueError: the drawing doesn't fit its bounds or the image, is empty, or has more than
            `MOST_SCRIBBLED` voxels.
    """
    low, crop = _read_drawing(drawing, bounds, shape, "scribble")
    if (count := int(np.count_nonzero(crop))) > MOST_SCRIBBLED:
        expected = f"a line of {MOST_SCRIBBLED} at most; lassos are for areas"
        advice = f"{expected}, and initial segmentations for volumes"
        raise ValueError(f"found a scribble of {count} voxels, expected {advice}")
    return Scribble(np.argwhere(crop) + np.array(low), positive)


def _read_drawing(
    drawing: Any, bounds: Any, shape: tuple[int, ...], name: str
) -> tuple[tuple[int, int, int], Mask]:
    """Returns a drawing's first voxel in the image, and (z, y, x) bool, of its crop."""
    crop = np.asarray(drawing)
    if crop.ndim != 3 or crop.dtype.kind not in NUMERIC:
        found = f"a {name} of {crop.dtype} and shape {crop.shape}"
        raise ValueError(f"found {found}, expected numbers (z, y, x)")
    if np.isnan(crop).any():
        raise ValueError(f"found NaN in the {name}, expected 0 outside of it")
    low, size = [0, 0, 0], list(shape)
    if bounds is not None:
        numbers = read_numbers(bounds, (3, 2), "interaction_bbox")
        whole = numbers.astype(np.intp)
        is_whole = bool((whole == numbers).all() and (whole[:, 0] < whole[:, 1]).all())
        if not is_whole or (whole < 0).any() or (whole[:, 1] > shape).any():
            found = f"the interaction_bbox {bounds!r}"
            expected = f"whole numbers [first, past the last] inside of {shape}"
            raise ValueError(f"found {found}, expected {expected}")
        low, size = whole[:, 0].tolist(), np.subtract(whole[:, 1], whole[:, 0]).tolist()
    if crop.shape != tuple(size):
        raise ValueError(f"found a {name} of shape {crop.shape}, expected {tuple(size)}")
    mask = crop != 0
    if not mask.any():
        raise ValueError(f"found an empty {name}, expected some voxels that are not 0")
    return (low[0], low[1], low[2]), mask


def _tight(low: tuple[int, int, int], mask: Mask) -> tuple[tuple[int, int, int], Mask]:
    """Cuts a mask, which is not empty and begins at voxel `low`, to its bounds."""
    bounds = bounding_range(mask)
    assert bounds is not None
    z, y, x = (a + b for a, b in zip(low, bounds[0], strict=True))
    return (z, y, x), mask[tuple(slice(a, b) for a, b in zip(*bounds, strict=True))]


def region_of(drawn: Box | SliceBox, positive: bool) -> Region:
    """Returns the voxels of a box, or of the area of a lasso."""
    size = np.subtract(drawn.high, drawn.low)
    if isinstance(drawn, Lasso):
        return Region(drawn.low, drawn.mask.reshape(size), positive)
    return Region(drawn.low, np.broadcast_to(np.True_, size), positive)  # takes no memory


def add_click(prompts: ClassPrompts, click: Click) -> ClassPrompts:
    """Adds a click; it counts more than what was said of its voxel before."""

    def same(voxels: Voxels) -> Mask:
        return np.asarray((voxels == click.voxel).all(axis=1))

    earlier = tuple(one for one in prompts.clicks if one.voxel != click.voxel)
    prompts = _without(prompts, same, positive=not click.positive)
    return replace(prompts, clicks=(*earlier, click))


def add_scribble(prompts: ClassPrompts, scribble: Scribble) -> ClassPrompts:
    """Adds a scribble; it counts more than what was said of its voxels before."""
    keys = _keys(scribble.voxels)
    prompts = _without(
        prompts, lambda voxels: np.isin(_keys(voxels), keys), positive=not scribble.positive
    )
    return replace(prompts, scribbles=(*prompts.scribbles, scribble))


def add_region(prompts: ClassPrompts, region: Region) -> ClassPrompts:
    """Adds a region; it counts more than the clicks and scribbles that contradicted it before."""

    def inside(voxels: Voxels) -> Mask:
        places = voxels - region.low
        held = np.asarray(((places >= 0) & (places < region.mask.shape)).all(axis=1))
        held[held] = region.mask[tuple(places[held].T)]
        return held

    prompts = _without(prompts, inside, positive=not region.positive)
    return replace(prompts, regions=(*prompts.regions, region))


def take_back(prompts: ClassPrompts, drawn: Box | SliceBox) -> ClassPrompts:
    """Takes back what negative regions said of the voxels of a box or lasso that comes later.

    Args:
        prompts: whose regions are all negative.
        drawn: the box or lasso.
    """
    extent, regions = region_of(drawn, positive=True), []
    for region in prompts.regions:
        here, there = _overlap(region, extent)
        if not (region.mask[here] & extent.mask[there]).any():
            regions.append(region)
            continue
        left = region.mask.copy()
        left[here] &= ~extent.mask[there]
        if left.any():
            regions.append(replace(region, mask=left))
    return replace(prompts, regions=tuple(regions))


def gather(said: Sequence[LabelledPrompt]) -> dict[int, ClassPrompts]:
    """Returns what is in force of all that was said: of what is drawn, too, unlike `group_prompts`.

    Of one label's prompts that contradict each other, the later one counts.

    Args:
        said: in order of time.

    Returns:
        By label, in ascending order.
    """
    grouped = group_prompts(said)
    for label, prompts in grouped.items():
        mine = [one.prompt for one in said if one.label == label]
        if not any(isinstance(one, Scribble | Region) for one in mine):
            continue
        marks = ClassPrompts(label)
        for one in mine:
            match one:
                case Click():
                    marks = add_click(marks, one)
                case Scribble():
                    marks = add_scribble(marks, one)
                case Region():
                    marks = add_region(marks, one)
                case Box() | SliceBox():
                    marks = take_back(marks, one)
        clicks = tuple(one for one in marks.clicks if one in prompts.clicks)
        grouped[label] = replace(
            prompts, clicks=clicks, scribbles=marks.scribbles, regions=marks.regions
        )
    return grouped


def _overlap(one: Region, other: Region) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Returns where two regions' masks overlap, in each of them."""
    low = np.maximum(one.low, other.low)
    high = np.minimum(np.add(one.low, one.mask.shape), np.add(other.low, other.mask.shape))
    size = (high - low).clip(min=0)
    here, there = (
        tuple(slice(a, a + n) for a, n in zip((low - region.low).clip(min=0), size, strict=True))
        for region in (one, other)
    )
    return here, there


def _without(
    prompts: ClassPrompts, taken: Callable[[Voxels], Mask], positive: bool
) -> ClassPrompts:
    """Takes voxels, of which `taken` says which they are, out of clicks and scribbles of a kind."""
    clicks = tuple(
        one
        for one in prompts.clicks
        if one.positive != positive or not taken(np.array([one.voxel]))[0]
    )
    scribbles = []
    for one in prompts.scribbles:
        gone = taken(one.voxels) if one.positive == positive else np.zeros(1, np.bool_)
        if not gone.any():
            scribbles.append(one)
        elif not gone.all():
            scribbles.append(replace(one, voxels=one.voxels[~gone]))
    return replace(prompts, clicks=clicks, scribbles=tuple(scribbles))


def _keys(voxels: Voxels) -> npt.NDArray[np.int64]:
    """Returns a number for every voxel (z, y, x); indices are below 2^21."""
    keys: npt.NDArray[np.int64] = voxels.astype(np.int64) @ np.array([2**42, 2**21, 1])
    return keys

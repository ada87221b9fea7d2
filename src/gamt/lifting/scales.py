"""How large a target is at a click: masks of several scales, and the ones that agree.

A click says where, not how large. Every plane offers masks of several scales around the click: the
segmenter's own from the point alone, and those from boxes of growing size. Two planes cross in a
line through the click; the scales are right where the masks agree along these lines and the click,
which users place in the middle, lies where the masks are thickest (docs/design.md, 7).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from scipy import ndimage

from gamt.axes import Plane, bounding_range, box_to_slice, slice_shape, to_slice
from gamt.lifting.target import Target
from gamt.prompts import SliceBox, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.volume.scan import SliceRequest

BOX_SIDES = (8, 16, 32, 64, 128)
"""Sides of the boxes tried around a click, in grid voxels: a factor of two apart
(docs/constants.md)."""


def candidates(target: Target, plane: Plane, voxel: tuple[int, int, int]) -> list[SliceRequest]:
    """Asks for masks of several scales around a grid voxel (z, y, x), in its slice of `plane`."""
    index = voxel[plane.normal]
    rows, columns = slice_shape(target.scan.grid.shape, plane)
    x, y = to_slice(plane, voxel)
    clicks = target.add_clicks(plane, index, SlicePrompt())
    requests = [SliceRequest(plane, index, clicks, multimask) for multimask in (True, False)]
    for side in BOX_SIDES:
        box = (
            max(0, x - side / 2),
            max(0, y - side / 2),
            min(columns, x + side / 2 + 1),
            min(rows, y + side / 2 + 1),
        )
        requests.append(SliceRequest(plane, index, replace(clicks, box=box)))
    return requests


def requests_across(
    target: Target, plane: Plane, voxel: tuple[int, int, int], box: SliceBox
) -> list[SliceRequest]:
    """Asks for masks of several lengths across the slice of a box.

    Args:
        target: the class.
        plane: another one than the box's.
        voxel: a grid voxel (z, y, x) inside of the target, on the box's slice.
        box: in raw voxels.
    """
    grid, index, across = target.scan.grid, voxel[plane.normal], box.plane.normal
    point = SlicePrompt(points=np.array([to_slice(plane, voxel)], float), labels=np.array([1]))
    points = target.add_clicks(plane, index, point)
    bounds = np.array(grid.range_to_grid(box.low, box.high), float)
    requests = []
    for side in BOX_SIDES:
        bounds[:, across] = voxel[across] - side / 2, voxel[across] + side / 2 + 1
        low, high = bounds.clip(0, grid.shape).tolist()
        prompt = replace(points, box=box_to_slice(plane, low, high))
        requests.append(SliceRequest(plane, index, prompt))
    return requests


def offers_at(
    voxel: tuple[int, int, int], requests: Sequence[SliceRequest], masks: Sequence[SliceMask]
) -> dict[Plane, list[SliceMask]]:
    """Returns, for each plane, the answers to requests that hold a grid voxel (z, y, x)."""
    offers: dict[Plane, list[SliceMask]] = {}
    for request, mask in zip(requests, masks, strict=True):
        x, y = to_slice(request.plane, voxel)
        if mask.mask[int(y), int(x)]:
            offers.setdefault(request.plane, []).append(mask)
    return offers


def agree(
    offers: dict[Plane, list[SliceMask]], voxel: tuple[int, int, int]
) -> dict[Plane, SliceMask]:
    """Chooses one mask a plane, so that all are good and central and agree where planes cross.

    Args:
        offers: the masks of every plane, each of which holds `voxel`.
        voxel: the grid voxel (z, y, x) in which the planes cross.

    Returns:
        The chosen mask of every plane that had an offer.
    """
    planes = list(offers)
    worth = {
        plane: [mask.quality * centrality(mask, plane, voxel) for mask in offers[plane]]
        for plane in planes
    }
    runs = {plane: [runs_through(mask, plane, voxel) for mask in offers[plane]] for plane in planes}
    best, choice = -1.0, tuple(0 for _ in planes)
    for combination in product(*(range(len(offers[plane])) for plane in planes)):
        score = 1.0
        lines: dict[int, list[tuple[int, int]]] = {}
        for plane, n in zip(planes, combination, strict=True):
            score *= worth[plane][n]
            for axis, run in runs[plane][n].items():
                lines.setdefault(axis, []).append(run)
        for (low, high), *other in lines.values():
            for start, stop in other:
                both = min(high, stop) - max(low, start)
                score *= both / (max(high, stop) - min(low, start))
        if score > best:
            best, choice = score, combination
    return {plane: offers[plane][n] for plane, n in zip(planes, choice, strict=True)}


def centrality(mask: SliceMask, plane: Plane, voxel: tuple[int, int, int]) -> float:
    """Returns how far a grid voxel (z, y, x) lies from a mask's border, of the farthest there is.

    Returns:
        0..1; 1 in the thickest place of the mask.
    """
    bounds = bounding_range(mask.mask)
    if bounds is None:
        return 0.0
    (y0, x0), (y1, x1) = bounds
    depth = ndimage.distance_transform_edt(np.pad(mask.mask[y0:y1, x0:x1], 1))
    x, y = to_slice(plane, voxel)
    return float(depth[int(y) - y0 + 1, int(x) - x0 + 1] / depth.max())


def runs_through(
    mask: SliceMask, plane: Plane, voxel: tuple[int, int, int]
) -> dict[int, tuple[int, int]]:
    """Returns, per volume axis in a slice, the unbroken run (start, stop) of a mask at a voxel."""
    lines = {
        plane.column_axis: mask.mask[voxel[plane.row_axis], :],
        plane.row_axis: mask.mask[:, voxel[plane.column_axis]],
    }
    found = {}
    for axis, line in lines.items():
        outside = np.flatnonzero(~line)
        place = int(np.searchsorted(outside, voxel[axis]))
        start = int(outside[place - 1]) + 1 if place > 0 else 0
        stop = int(outside[place]) if place < len(outside) else len(line)
        found[axis] = (start, stop)
    return found

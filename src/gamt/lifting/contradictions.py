"""Where a mask contradicts what the user marked: at a click, along a scribble, in a region.

A contradiction is one piece of what is marked, with how far the error around it reaches. A hand is
inexact, and masks are pierced by noise: pieces that say no more than that are obeyed as they are,
and not followed any further.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from edt import edt

from gamt.axes import Plane, most_central, slice_shape, slice_view
from gamt.lifting.evidence import distances, region_around
from gamt.lifting.postprocess import label_components
from gamt.lifting.target import Target
from gamt.prompts import Click, Region, Scribble

Mask = npt.NDArray[np.bool_]
Voxels = npt.NDArray[np.intp]

FIRST_SEARCH = 8.0
"""Grid voxels around a click in which the mask's surface is looked for first; doubled until it is
found (docs/constants.md)."""

HAND = 1.5
"""Pixels of the slice drawn on by which a hand is inexact (docs/constants.md)."""

NEARLY_DEEPEST = 0.9
"""Voxels of a piece this deep, as a share of the deepest one's depth, are in the middle of the
error (docs/constants.md)."""

LEAST_OF_SCRIBBLE, LEAST_OF_REGION = 0.2, 0.05
"""Share of a scribble, and of a region's inner pixels, that a piece has at least to be followed; a
scribble's piece may also be deep instead (docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Contradiction:
    """Marked voxels on the wrong side of a mask.

    Attributes:
        click: the deepest of them, in raw voxels.
        voxels: (N, 3) in the order (z, y, x), counted from the target's region's first; N > 0. They
            hang together.
        radius: how far the error reaches from them, in grid voxels; > 0.
        beside: (M, 3) as `voxels`: what the user saw beside them, and left as it is.
    """

    click: Click
    voxels: Voxels
    radius: float
    beside: Voxels = field(default_factory=lambda: np.empty((0, 3), np.intp))


def at_click(target: Target, mask: Mask, click: Click) -> Contradiction:
    """Returns the contradiction at a click on the wrong side of a mask over a target's region."""
    voxel = target.inside_region(click.voxel)
    return Contradiction(click, np.array([voxel]), error_radius(mask, voxel, target.scale))


def on_scribble(target: Target, mask: Mask, scribble: Scribble) -> Contradiction | None:
    """Finds where a mask contradicts a scribble the most.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region.
        scribble: of the class, in raw voxels.

    Returns:
        The piece that lies deepest on the wrong side; None where none is to be followed.
    """
    voxels = scribble.voxels - target.region[0]
    wrong = voxels[mask[tuple(voxels.T)] != scribble.positive]
    if len(wrong) == 0:
        return None
    near = region_around(wrong, FIRST_SEARCH, target.scale, mask.shape)
    places = wrong - [part.start for part in near]
    missed = mask[near] != scribble.positive
    depths = edt(missed.view(np.uint8), anisotropy=target.scale)[tuple(places.T)]
    drawn = np.zeros(missed.shape, np.bool_)
    drawn[tuple(places.T)] = True
    pieces = label_components(drawn)[tuple(places.T)]
    followed = np.bincount(pieces) >= LEAST_OF_SCRIBBLE * len(voxels)
    followed[pieces[pixels_deep(missed, places) > HAND]] = True
    wanted = followed[pieces]
    if not wanted.any():
        return None
    mine = pieces == pieces[np.argmax(np.where(wanted, depths, -1))]
    piece = wrong[mine]
    deepest = piece[depths[mine] >= NEARLY_DEEPEST * depths[mine].max()]
    z, y, x = deepest[most_central(deepest)].tolist()
    return Contradiction(
        click_at(target, (z, y, x), scribble.positive),
        piece,
        error_radius(mask, (z, y, x), target.scale),
    )


def pixels_deep(missed: Mask, places: Voxels) -> npt.NDArray[np.float32]:
    """Measures how deep drawn voxels lie in what the mask misses, in pixels of the slice drawn on.

    Args:
        missed: (z, y, x) bool.
        places: (N, 3) voxels of it; those that lie on no single slice are measured in voxels.

    Returns:
        (N,) distances to the nearest pixel that isn't missed, at least 1.
    """
    depths: npt.NDArray[np.float32]
    for plane in Plane:
        if np.ptp(places[:, plane.normal]) == 0:
            area = slice_view(missed, plane, int(places[0, plane.normal]))
            depths = edt(np.ascontiguousarray(area).view(np.uint8))[
                places[:, plane.row_axis], places[:, plane.column_axis]
            ]
            return depths
    depths = edt(missed.view(np.uint8))[tuple(places.T)]
    return depths


def in_region(target: Target, mask: Mask, region: Region) -> Contradiction | None:
    """Finds where a mask contradicts an area that was drawn on one slice the most.

    A block, which holds several slices, says by itself how far the error reaches: it is not
    followed.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region.
        region: of the class, in raw voxels.

    Returns:
        The largest piece on the wrong side; None where none is to be followed.
    """
    flat = [plane for plane in Plane if region.mask.shape[plane.normal] == 1]
    if not flat:
        return None
    plane = max(flat, key=lambda one: math.prod(slice_shape(region.mask.shape, one)))
    area = slice_view(region.mask, plane, 0)
    pieces = label_components(wrong_part(target, mask, region))
    pieces = slice_view(pieces, plane, 0)
    inner = edt(area.view(np.uint8), black_border=True) > HAND
    inner = inner if inner.any() else area
    sizes = np.bincount(pieces[inner])
    sizes[0] = 0
    if sizes.max() < LEAST_OF_REGION * np.count_nonzero(inner):
        return None
    piece = pieces == np.argmax(sizes)
    scale = target.scale[plane.row_axis], target.scale[plane.column_axis]
    depth = edt(piece.view(np.uint8), anisotropy=scale, black_border=True)
    low = np.subtract(region.low, target.region[0])
    layer = int(low[plane.normal])
    drawn = np.zeros(slice_shape(mask.shape, plane), np.uint8)
    rows, columns = (
        slice(low[axis], low[axis] + region.mask.shape[axis])
        for axis in (plane.row_axis, plane.column_axis)
    )
    drawn[rows, columns] = area
    beside = (slice_view(mask, plane, layer) != region.positive) & (edt(1 - drawn) > HAND)
    deepest = in_volume(np.argwhere(depth >= NEARLY_DEEPEST * depth.max()), plane, 0) + low
    z, y, x = deepest[most_central(deepest)].tolist()
    return Contradiction(
        click_at(target, (z, y, x), region.positive),
        in_volume(np.argwhere(piece), plane, 0) + low,
        error_radius(mask, (z, y, x), target.scale),
        in_volume(np.argwhere(beside), plane, layer),
    )


def in_volume(pixels: Voxels, plane: Plane, index: int) -> Voxels:
    """Returns pixels (N, 2), (row, column), of a slice as voxels (N, 3), (z, y, x)."""
    return np.insert(pixels, plane.normal, index, axis=1)


def wrong_part(target: Target, mask: Mask, region: Region) -> Mask:
    """Finds what of a region is on the wrong side of a mask.

    A previous prediction that has obeyed the region since has obeyed scribbles and clicks for the
    other side, which count more. The pieces that these are in are what came of them, and stay.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region.
        region: of the class, in raw voxels.

    Returns:
        (z, y, x) bool over the region's mask.
    """
    wrong: Mask = region.mask & (mask[place_of(target, region)] != region.positive)
    if target.previous is None or target.prompts.anew:
        return wrong
    lines = [one.voxels for one in target.opposite_scribbles(region.positive)]
    places = np.concatenate([target.opposite_clicks(region.positive), *lines]) - region.low
    places = places[((places >= 0) & (places < wrong.shape)).all(axis=1)]
    places = places[wrong[tuple(places.T)]]
    if len(places) == 0:
        return wrong
    pieces = label_components(wrong)
    wrong &= ~np.isin(pieces, pieces[tuple(places.T)])
    return wrong


def place_of(target: Target, region: Region) -> tuple[slice, ...]:
    """Returns where the voxels of a region's mask are in an array over the target's region."""
    low = np.subtract(region.low, target.region[0]).tolist()
    return tuple(slice(a, a + n) for a, n in zip(low, region.mask.shape, strict=True))


def obey(target: Target, mask: Mask, mark: Scribble | Region) -> Mask:
    """Puts the voxels of a scribble or region on its side of a mask.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region.
        mark: of the class, in raw voxels; see `wrong_part` for what of a region counts.

    Returns:
        The mask, of the same shape.
    """
    obeyed = mask.copy()
    if isinstance(mark, Scribble):
        obeyed[tuple((mark.voxels - target.region[0]).T)] = mark.positive
    else:
        obeyed[place_of(target, mark)][wrong_part(target, mask, mark)] = mark.positive
    return obeyed


def click_at(target: Target, voxel: tuple[int, int, int], positive: bool) -> Click:
    """Returns a click at a voxel (z, y, x), counted from the target's region's first."""
    z, y, x = (v + low for v, low in zip(voxel, target.region[0], strict=True))
    return Click(z, y, x, positive)


def error_radius(
    mask: npt.NDArray[np.bool_], voxel: tuple[int, int, int], scale: tuple[float, float, float]
) -> float:
    """Returns how far the nearest voxel of the other kind is, in grid voxels.

    Args:
        mask: (z, y, x) bool.
        voxel: where to measure from (z, y, x).
        scale: grid voxels per voxel of `mask`, on each axis; not zero.

    Returns:
        The distance; the largest extent of `mask` where all of it is of one kind.
    """
    farthest = max(float(size * step) for size, step in zip(mask.shape, scale, strict=True))
    half = FIRST_SEARCH
    while True:
        low = [max(0, int(v - half / s)) for v, s in zip(voxel, scale, strict=True)]
        high = [int(v + half / s) + 1 for v, s in zip(voxel, scale, strict=True)]
        near = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        away = distances(np.subtract(voxel, low).tolist(), scale, near.shape)
        nearest = float(away.min(where=near != mask[voxel], initial=np.inf))
        if nearest <= half or (nearest < np.inf and half > farthest):
            return nearest
        if half > farthest:
            return farthest
        half *= 2

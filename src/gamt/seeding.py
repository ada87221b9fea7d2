"""From a single click to a target, where no box was drawn (design decision 7).

A click says where, not how large. Every plane offers masks of several scales around the click: the
model's own from the point alone, and those from boxes of growing size. Two planes cross in a line
through the click; the scales are right where the masks agree along these lines. From there the
three planes walk, and go on walking from whatever one plane found and another has not looked at,
so that a vessel is followed around its bends.
"""

from itertools import product

import cc3d
import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, bounding_range, slice_shape, slice_view, to_slice
from gamt.postprocess import component_at
from gamt.prompts import Box, Click, SlicePrompt
from gamt.propagation import Look, Walk, next_prompt, together
from gamt.scan import SliceRequest
from gamt.segmenters.base import SliceMask
from gamt.target import Target
from gamt.views import fullest

BOX_SIDES = (8, 16, 32, 64, 128)
"""Sides of the boxes tried around a click, in grid voxels: a factor of two apart (measured)."""

PIECES = 8
"""How many unseen pieces a plane follows in one round, the largest first (measured)."""

LEAST_PIECE = 8
"""Voxels below which an unseen piece is taken for noise (measured)."""

BODY_REACH = 1.5
"""A body's longest extent on an axis is at most this many times its shortest (measured)."""

BODY_ROOM = 0.1
"""Room on each side of a box drawn around a seed, as a share of its extent (measured)."""

RUNS_OUT = 0.4
"""A body's section at a face of its box is at most this share of its largest (measured)."""


def seed_walk(target: Target, click: Click) -> Walk:
    """Finds the target's scale at a click, and walks away from it in every plane."""
    voxel = target.scan.grid.voxel_to_grid(click.voxel)
    requests = [request for plane in Plane for request in candidates(target, plane, voxel)]
    offers: dict[Plane, list[SliceMask]] = {}
    for request, mask in zip(requests, (yield requests), strict=True):
        x, y = to_slice(request.plane, voxel)
        if mask.mask[int(y), int(x)]:
            offers.setdefault(request.plane, []).append(mask)
    chosen = agree(offers, voxel)
    images = {plane: slice_view(target.scan.image, plane, voxel[plane.normal]) for plane in chosen}
    if not chosen:
        return
    look = Look.of(np.concatenate([images[plane][chosen[plane].mask] for plane in chosen]))
    target.box = draw_box(target, chosen, voxel)
    walks = []
    for plane in target.settings.planes:
        if plane in chosen:
            prompt = next_prompt(chosen[plane], images[plane])
            indices = target.to_grid(plane.normal)
            if target.box is not None:
                first = target.inside_region(target.box.low)[plane.normal]
                last = target.inside_region(target.box.high)[plane.normal]
                indices = indices[max(0, first) : last]
            walks.append(target.walk(plane, voxel[plane.normal], prompt, indices, look))
    yield from together(walks)
    if target.box is not None and runs_out(target, target.box, click):
        target.box = None
    if target.box is None:
        yield from grow(target, click, look)


def draw_box(
    target: Target, chosen: dict[Plane, SliceMask], voxel: tuple[int, int, int]
) -> Box | None:
    """Draws the raw box around a seed that is a body, all of it seen in its three slices.

    A body is as long in the two slices that cross in an axis, and along the line through the click.
    What reaches much farther in one of them is a piece of something that bends or branches; that
    has no box.
    """
    low, high = list(voxel), [v + 1 for v in voxel]
    extents: list[list[int]] = [[], [], []]
    for plane, mask in chosen.items():
        bounds = bounding_range(mask.mask)
        if bounds is None:
            return None
        runs = run_lengths(mask, plane, voxel)
        for axis, first, last in zip((plane.row_axis, plane.column_axis), *bounds, strict=True):
            extents[axis] += [last - first, runs[axis][1] - runs[axis][0]]
            low[axis], high[axis] = min(low[axis], first), max(high[axis], last)
    if any(max(sizes) > BODY_REACH * min(sizes) + 2 for sizes in extents if sizes):
        return None
    grid = target.scan.grid
    begin, end = [], []
    for axis in range(3):
        room = BODY_ROOM * (high[axis] - low[axis])
        inner = max(0, round(low[axis] - room))
        outer = min(grid.shape[axis], round(high[axis] + room)) - 1
        begin.append(int(grid.to_raw[axis][inner]) + grid.low[axis])
        end.append(int(grid.to_raw[axis][outer]) + grid.low[axis] + 1)
    z = int(grid.to_raw[0][voxel[0]]) + grid.low[0]
    return Box(begin[0], end[0], z, begin[1], end[1], begin[2], end[2])


def runs_out(target: Target, box: Box, click: Click) -> bool:
    """Says whether what was found goes on past a face of the box drawn around the seed."""
    mask = component_at(target.votes.fuse() > 0.5, target.inside_region(click.voxel))
    low, high = target.inside_region(box.low), target.inside_region(box.high)
    for plane in Plane:
        others = tuple(axis for axis in range(3) if axis != plane.normal)
        area = mask.sum(axis=others, dtype=np.int64)
        first, last = low[plane.normal], high[plane.normal] - 1
        faces = [face for face in (first, last) if 0 < face < len(area) - 1]
        if any(area[face] > RUNS_OUT * area.max() for face in faces):
            return True
    return False


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
        prompt = SlicePrompt(box, clicks.points, clicks.labels)
        requests.append(SliceRequest(plane, index, prompt))
    return requests


def agree(
    offers: dict[Plane, list[SliceMask]], voxel: tuple[int, int, int]
) -> dict[Plane, SliceMask]:
    """Chooses one mask a plane, so that all are good and agree where their planes cross.

    Args:
        offers: the masks of every plane, each of which holds `voxel`.
        voxel: the grid voxel (z, y, x) in which the planes cross.

    Returns:
        The chosen mask of every plane that had an offer.
    """
    planes = list(offers)
    runs = {plane: [run_lengths(mask, plane, voxel) for mask in offers[plane]] for plane in planes}
    best, choice = -1.0, tuple(0 for _ in planes)
    for combination in product(*(range(len(offers[plane])) for plane in planes)):
        score = 1.0
        lines: dict[int, list[tuple[int, int]]] = {}
        for plane, n in zip(planes, combination, strict=True):
            score *= offers[plane][n].quality
            for axis, run in runs[plane][n].items():
                lines.setdefault(axis, []).append(run)
        for (low, high), *other in lines.values():
            for start, stop in other:
                both = min(high, stop) - max(low, start)
                score *= both / (max(high, stop) - min(low, start))
        if score > best:
            best, choice = score, combination
    return {plane: offers[plane][n] for plane, n in zip(planes, choice, strict=True)}


def run_lengths(
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


def grow(target: Target, click: Click, look: Look) -> Walk:
    """Lets every plane walk from what the others found where it has not looked itself."""
    seed = target.inside_region(click.voxel)
    while True:
        probability = target.votes.fuse()
        mask = component_at(probability > 0.5, seed)
        walks = []
        for plane in target.settings.planes:
            unseen = mask & ~target.votes.looked(plane)
            walks += [
                piece_walk(target, plane, piece, probability, look) for piece in pieces(unseen)
            ]
        if not walks:
            return
        yield from together(walks)


def pieces(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Splits a mask (z, y, x) into its largest 26-connected components."""
    components = cc3d.connected_components(mask, connectivity=26)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest = np.argsort(-sizes, kind="stable")[:PIECES]
    return [components == n for n in largest if sizes[n] >= LEAST_PIECE]


def piece_walk(
    target: Target,
    plane: Plane,
    piece: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.float32],
    look: Look,
) -> Walk:
    """Walks a plane from the slice that holds most of a piece."""
    layer = fullest(piece, plane, range(piece.shape[plane.normal]))
    seen = target.cross_section(np.where(piece, probability, 0), plane, layer)
    to_grid = target.to_grid(plane.normal)
    index = int(to_grid[layer])
    prompt = next_prompt(seen, slice_view(target.scan.image, plane, index))
    return target.walk(plane, index, prompt, to_grid, look)

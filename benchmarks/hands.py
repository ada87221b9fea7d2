"""How hands draw on a slice: strokes within what they mean, and areas about as large as that."""

import itertools

import numpy as np
from scipy import ndimage

from benchmarks.phantoms import Mask

SHARE = (0.3, 0.7)
"""A stroke is this share of its section's extent long."""

THICKNESS = (1, 4)
"""Pixels across a stroke."""

JITTER, BENDS = 1.5, 6
"""Deviation of a stroke, in pixels, and points between which it is straight."""

HAND = 1.0
"""Voxels by which an area's outline strays from the section's."""

STRAY_SIGMA = 3.0
"""Voxels along an outline over which a hand strays to the same side."""


def draw_stroke(section: Mask, rng: np.random.Generator) -> Mask:
    """Draws a stroke along the largest piece of a section, (rows, columns) bool; not empty.

    It goes through the piece's thickest place, along its longest direction.
    """
    pieces, _ = ndimage.label(section, np.ones((3, 3)))
    piece = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    pixels = np.argwhere(piece)
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    middle = np.array(np.unravel_index(np.argmax(depth), depth.shape))
    along = np.linalg.eigh(np.cov(pixels.T, bias=True))[1][:, 1]
    places = (pixels - middle) @ along
    length = rng.uniform(*SHARE) * np.ptp(places)
    start = np.clip(-length / 2, places.min(), places.max() - length)
    points = middle + np.linspace(start, start + length, BENDS)[:, None] * along
    points += rng.normal(0, JITTER, points.shape)
    line = np.zeros(section.shape, np.bool_)
    for begin, end in itertools.pairwise(points):
        count = 2 * int(np.ceil(np.abs(end - begin).max())) + 1
        way = np.rint(np.linspace(begin, end, count)).astype(int)
        line[tuple(way.clip(0, np.subtract(section.shape, 1)).T)] = True
    thickness = int(rng.integers(THICKNESS[0], THICKNESS[1] + 1))
    stroke: Mask = ndimage.maximum_filter(line, thickness) & piece
    if not stroke.any():
        stroke[tuple(middle)] = True
    return stroke


def draw_area(section: Mask, rng: np.random.Generator) -> Mask:
    """Outlines a section as a hand does: a voxel too far in or out, or neither, and straying.

    Args:
        section: (rows, columns) bool, one piece.
        rng: says where it strays.

    Returns:
        (rows, columns) bool; the section itself where nothing would be left.
    """
    distance = ndimage.distance_transform_edt
    inside = distance(np.pad(section, 1))[1:-1, 1:-1] - distance(~section)
    inside -= 0.5 * np.sign(inside)  # from the outline, which is between two pixels
    stray = ndimage.gaussian_filter(rng.normal(size=section.shape), STRAY_SIGMA, mode="nearest")
    stray *= HAND / np.abs(stray).max()
    drawn: Mask = inside + rng.integers(-1, 2) + stray > 0
    return drawn if drawn.any() else section

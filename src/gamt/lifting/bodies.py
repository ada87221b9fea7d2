"""What a click stands in: one body, at the scale that is likeliest, and smaller and larger ones.

Bodies that stand out clearly come first (`gamt.lifting.growing`); where none does, a rough one is
made (`gamt.lifting.blobs`). Both look at the scan alone, whatever the segmenter is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range
from gamt.lifting.blobs import find_blob
from gamt.lifting.cubes import Mask, Spacing, Voxel, to_finite
from gamt.lifting.growing import choose, find_bodies, settle
from gamt.settings import Scale
from gamt.volume.geometry import Range

EDGE_SIGMA = 0.7
"""Standard deviation at which edges between classes are looked for, in voxels of the finest spacing
(docs/constants.md)."""

OTHER_SCALE = 2.0
"""Volumes of neighbouring scales differ by this factor at least (docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of a scan.

    Attributes:
        low: the raw voxel (z, y, x) that is the first of `mask`.
        mask: (z, y, x) bool on raw voxels, not empty.
    """

    low: Voxel
    mask: Mask

    @classmethod
    def tight(cls, low: Voxel, mask: Mask) -> "Part":
        """Cuts a mask to its bounds."""
        bounds = bounding_range(mask)
        if bounds is None:
            raise ValueError("found an empty mask, expected a part of a scan")
        z, y, x = (a + b for a, b in zip(low, bounds[0], strict=True))
        where = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
        return cls((z, y, x), mask[where])

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    def holds(self, voxel: Voxel) -> bool:
        """Says whether a raw voxel (z, y, x) is in it."""
        place = tuple(v - a for v, a in zip(voxel, self.low, strict=True))
        inside = all(0 <= v < n for v, n in zip(place, self.mask.shape, strict=True))
        return inside and bool(self.mask[place])

    @property
    def bounds(self) -> Range:
        """Half-open raw bounds."""
        z, y, x = (a + n for a, n in zip(self.low, self.mask.shape, strict=True))
        return self.low, (z, y, x)

    def within(self, bounds: Range) -> Mask:
        """Returns (z, y, x) bool over other raw bounds, True where the part is."""
        low, high = bounds
        result = np.zeros(np.subtract(high, low), np.bool_)
        own, other = [], []
        for a, b, first, size in zip(low, high, self.low, self.mask.shape, strict=True):
            start, stop = max(a, first), max(a, first, min(b, first + size))
            own.append(slice(start - first, stop - first))
            other.append(slice(start - a, stop - a))
        result[tuple(other)] = self.mask[tuple(own)]
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The bodies that a click stands in.

    Attributes:
        clear: whether the likeliest one stands out by itself.
        scales: the bodies by scale.
    """

    clear: bool
    scales: Mapping[Scale, Part]


def find_at(image: npt.NDArray[Any], spacing_mm: Spacing, click: Voxel) -> Found:
    """Finds what a click stands in.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).
    """
    bodies = find_bodies(image, spacing_mm, click)
    chosen = choose(bodies)
    if chosen is None:
        medium = Part.tight(*find_blob(image, spacing_mm, click))
        return Found(False, other_scales(image, spacing_mm, click, medium, []))
    body = settle(image, spacing_mm, click, chosen)
    medium = Part.tight(body.low, body.mask)
    others = [Part(one.low, one.mask) for one in bodies]
    return Found(True, other_scales(image, spacing_mm, click, medium, others))


def other_scales(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    medium: Part,
    bodies: Sequence[Part],
) -> dict[Scale, Part]:
    """Adds a smaller and a larger body to the likeliest one.

    They are clear bodies where there are such, or else what balls of less and more than the
    likeliest one's volume hold.
    """
    size = medium.size
    radius_mm = float(np.cbrt(size * np.prod(spacing_mm) * 3 / (4 * np.pi)))
    factor = float(np.cbrt(OTHER_SCALE))
    smaller = [one for one in bodies if one.size * OTHER_SCALE <= size]
    larger = [one for one in bodies if one.size >= size * OTHER_SCALE]
    if smaller:
        tight = Part.tight(smaller[-1].low, smaller[-1].mask)
    else:
        ball = Part(*find_blob(image, spacing_mm, click, radius_mm / factor))
        tight = Part.tight(ball.low, ball.mask & (medium.within(ball.bounds) | at(ball, click)))
    if larger:
        large = Part.tight(larger[0].low, larger[0].mask)
    else:
        ball = Part(*find_blob(image, spacing_mm, click, radius_mm * factor))
        low = np.minimum(ball.low, medium.low).tolist()
        high = np.maximum(ball.bounds[1], medium.bounds[1]).tolist()
        both: Range = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        large = Part.tight(both[0], ball.within(both) | medium.within(both))
    return {"tight": tight, "medium": medium, "large": large}


def at(part: Part, click: Voxel) -> Mask:
    """Returns a mask of a part's shape that holds a click alone."""
    mask = np.zeros_like(part.mask)
    mask[tuple(v - a for v, a in zip(click, part.low, strict=True))] = True
    return mask


def share(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    clicks: Mapping[int, Voxel],
    found: Mapping[int, Found],
) -> dict[int, Found]:
    """Shares out clear bodies that clicks of several classes stand in together.

    Where the likeliest body of one class holds the click of another, what both have goes to the
    click from which it is reached over less of an edge (a watershed). Rough bodies overlap without
    being one; they only compete.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        clicks: a voxel (z, y, x) by label.
        found: what they stand in, by label.

    Returns:
        The same, where the likeliest bodies are shared out.
    """
    parts = {label: one.scales["medium"] for label, one in found.items() if one.clear}
    for one, other in combinations(parts, 2):
        if parts[one].holds(clicks[other]) or parts[other].holds(clicks[one]):
            parts[one], parts[other] = split(
                image, spacing_mm, (clicks[one], clicks[other]), (parts[one], parts[other])
            )
    return {
        label: replace(one, scales={**one.scales, "medium": parts[label]}) if one.clear else one
        for label, one in found.items()
    }


def split(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    clicks: tuple[Voxel, Voxel],
    parts: tuple[Part, Part],
) -> tuple[Part, Part]:
    """Gives what two parts have in common to one click or the other; see `share`."""
    low = np.minimum(parts[0].low, parts[1].low).tolist()
    high = np.maximum(parts[0].bounds[1], parts[1].bounds[1]).tolist()
    bounds: Range = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    mine, theirs = (part.within(bounds) for part in parts)
    values = to_finite(image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    sigma = [EDGE_SIGMA * min(spacing_mm) / mm for mm in spacing_mm]
    edges = ndimage.gaussian_gradient_magnitude(values, sigma)
    edges /= max(float(edges[mine | theirs].max()), float(np.finfo(np.float32).tiny))
    cost = (edges.clip(0, 1) * np.iinfo(np.uint16).max).astype(np.uint16)
    cost[~(mine | theirs)] = np.iinfo(np.uint16).max
    markers = np.zeros(edges.shape, np.int8)
    for label, voxel in enumerate(clicks, 1):
        markers[tuple(v - a for v, a in zip(voxel, low, strict=True))] = label
    nearer = ndimage.watershed_ift(cost, markers)
    return (
        Part.tight(bounds[0], mine & ((nearer == 1) | ~theirs)),
        Part.tight(bounds[0], theirs & ((nearer == 2) | ~mine)),
    )

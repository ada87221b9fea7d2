"""What a click stands in: one body, at the scale that is likeliest, and smaller and larger ones.

Bodies that stand out clearly come first (`gamt.lifting.growing`); where none does, a rough one is
made (`gamt.lifting.blobs`). Both look at the scan alone, whatever the segmenter is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.axes import bounding_range
from gamt.lifting.blobs import find_blob
from gamt.lifting.cubes import Mask, Spacing, Voxel
from gamt.lifting.growing import Body, choose, find_bodies, settle
from gamt.settings import Scale
from gamt.volume.geometry import Range

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


class Scales(Mapping[Scale, Part]):
    """Bodies by scale; those that nobody asks for are never made."""

    def __init__(self, makers: Mapping[Scale, Callable[[], Part]]) -> None:
        """Takes what makes each body."""
        self._makers = makers
        self._made: dict[Scale, Part] = {}

    def __getitem__(self, scale: Scale) -> Part:
        """Returns the body of a scale."""
        if scale not in self._made:
            self._made[scale] = self._makers[scale]()
        return self._made[scale]

    def __iter__(self) -> Iterator[Scale]:
        """Yields the scales, from small to large."""
        return iter(self._makers)

    def __len__(self) -> int:
        """Returns how many scales there are."""
        return len(self._makers)


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
    return Found(True, other_scales(image, spacing_mm, click, medium, bodies))


def other_scales(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    medium: Part,
    bodies: Sequence[Body],
) -> Scales:
    """Adds a smaller and a larger body to the likeliest one.

    They are clear bodies where there are such, or else what balls of less and more than the
    likeliest one's volume hold.
    """
    size = medium.size
    radius_mm = float(np.cbrt(size * np.prod(spacing_mm) * 3 / (4 * np.pi)))
    factor = float(np.cbrt(OTHER_SCALE))

    def make_tight() -> Part:
        smaller = [one for one in bodies if one.size * OTHER_SCALE <= size]
        if smaller:
            return Part.tight(smaller[-1].low, smaller[-1].mask)
        ball = Part(*find_blob(image, spacing_mm, click, radius_mm / factor))
        return Part.tight(ball.low, ball.mask & (medium.within(ball.bounds) | at(ball, click)))

    def make_large() -> Part:
        larger = [one for one in bodies if one.size >= size * OTHER_SCALE]
        if larger:
            return Part.tight(larger[0].low, larger[0].mask)
        ball = Part(*find_blob(image, spacing_mm, click, radius_mm * factor))
        low = np.minimum(ball.low, medium.low).tolist()
        high = np.maximum(ball.bounds[1], medium.bounds[1]).tolist()
        both: Range = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        return Part.tight(both[0], ball.within(both) | medium.within(both))

    return Scales({"tight": make_tight, "medium": lambda: medium, "large": make_large})


def at(part: Part, click: Voxel) -> Mask:
    """Returns a mask of a part's shape that holds a click alone."""
    mask = np.zeros_like(part.mask)
    mask[tuple(v - a for v, a in zip(click, part.low, strict=True))] = True
    return mask

"""What a click stands in: one body, at the scale that is likeliest, and smaller and larger ones.

Bodies that stand out clearly come first (`gamt.lifting.growing`); where none does, a rough one is
made (`gamt.lifting.blobs`). Both look at the scan alone, whatever the segmenter is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import edt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range
from gamt.lifting.blobs import find_blob
from gamt.lifting.cubes import Image, Mask, Spacing, Voxel, component, noise_of, to_finite
from gamt.lifting.growing import Body, choose, find_bodies, settle
from gamt.lifting.points import spread_out
from gamt.settings import Scale
from gamt.volume.geometry import Range

EDGE_SIGMA = 0.7
"""Standard deviation at which edges between classes are looked for, in voxels of the finest spacing
(docs/constants.md)."""

SAME_TISSUE = 1.0
"""Averaged intensities that differ from a click's by no more than this many deviations of the noise
are the same (docs/constants.md)."""

OTHER_SCALE = 2.0
"""Volumes of neighbouring scales differ by this factor at least (docs/constants.md)."""

LEAST_HELD = 0.9
"""Share of a scribble's voxels that its body has at least (docs/constants.md)."""

SEEDS = 5
"""Voxels of a scribble at which its body is looked for, at most (docs/constants.md)."""

MOST_ON_LINE = 5_000
"""Voxels of a scribble that a body has to hold are looked up one by one: no more than these, evenly
spread over all of it (docs/constants.md)."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The bodies that a click stands in.

    Attributes:
        clear: whether the likeliest one stands out by itself.
        scales: the bodies by scale.
        seed: the voxel (z, y, x) that they were grown from: the click, or one of a scribble's.
    """

    clear: bool
    scales: Scales
    seed: Voxel


def find_at(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    before_step: Callable[[], None] = lambda: None,
) -> Found:
    """Finds what a click stands in.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).
        before_step: called before every step that takes a while. It may raise `OutOfTime`.

    Returns:
        What was found; out of time, what was found until then, and if that was nothing, a rough
        body, which is made at once.
    """
    bodies = find_bodies(image, spacing_mm, click, before_step)
    chosen = choose(bodies)
    if chosen is None:
        medium = Part.tight(*find_blob(image, spacing_mm, click))
        return Found(False, other_scales(image.shape, spacing_mm, click, medium, []), click)
    return settled(image, spacing_mm, click, chosen, bodies, before_step)


def settled(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    chosen: Body,
    bodies: Sequence[Body],
    before_step: Callable[[], None],
) -> Found:
    """Returns the clear body that was chosen at a voxel (z, y, x), and the others around it."""
    body = settle(image, spacing_mm, click, chosen, before_step)
    medium = Part.tight(body.low, body.mask)
    return Found(True, other_scales(image.shape, spacing_mm, click, medium, bodies), click)


def find_along(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    line: npt.NDArray[np.intp],
    before_step: Callable[[], None] = lambda: None,
) -> Found:
    """Finds what a scribble lies in: the smallest body that stands out and holds nearly all of it.

    It is looked for at some of the scribble's voxels, the middle first: where one lies on an edge
    or in noise, another one doesn't.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        line: (N, 3) voxels (z, y, x), N > 0.
        before_step: as for `find_at`.

    Returns:
        As for `find_at`.
    """
    some = line[np.linspace(0, len(line) - 1, min(len(line), MOST_ON_LINE)).astype(np.intp)]
    for seed in seeds_on(line, spacing_mm):
        bodies = [
            body
            for body in find_bodies(image, spacing_mm, seed, before_step)
            if body.holds(some).mean() >= LEAST_HELD
        ]
        chosen = choose(bodies)
        if chosen is not None:
            return settled(image, spacing_mm, seed, chosen, bodies, before_step)
    middle = seeds_on(line, spacing_mm)[0]
    medium = Part.tight(*find_blob(image, spacing_mm, middle))
    return Found(False, other_scales(image.shape, spacing_mm, middle, medium, []), middle)


def seeds_on(line: npt.NDArray[np.intp], spacing_mm: Spacing) -> list[Voxel]:
    """Returns some voxels (z, y, x) of a scribble, the middle one first and its ends last."""
    points = spread_out(line, spacing_mm, SEEDS)
    away = np.linalg.norm((points - points[0]) * spacing_mm, axis=1)
    return [(z, y, x) for z, y, x in points[np.argsort(away, kind="stable")].tolist()]


def other_scales(
    shape: Sequence[int],
    spacing_mm: Spacing,
    click: Voxel,
    medium: Part,
    bodies: Sequence[Body],
) -> Scales:
    """Adds a smaller and a larger body to the likeliest one.

    They are clear bodies where there are such. Or else the smaller one is what is nearest to the
    click, and the larger one has what is nearest around it, so that sizes differ by `OTHER_SCALE`.

    Args:
        shape: of the scan (z, y, x).
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).
        medium: the likeliest body.
        bodies: clear ones, from small to large.
    """
    size = medium.size

    def make_tight() -> Part:
        smaller = [one for one in bodies if one.size * OTHER_SCALE <= size]
        if smaller:
            return Part.tight(smaller[-1].low, smaller[-1].mask)
        places = np.argwhere(medium.mask)
        away = np.linalg.norm((places + medium.low - click) * spacing_mm, axis=1)
        nearest = places[np.argsort(away, kind="stable")[: max(1, int(size / OTHER_SCALE))]]
        mask = np.zeros_like(medium.mask)
        mask[tuple(nearest.T)] = True
        return Part.tight(medium.low, mask)

    def make_large() -> Part:
        larger = [one for one in bodies if one.size >= size * OTHER_SCALE]
        if larger:
            return Part.tight(larger[0].low, larger[0].mask)
        room_mm = float(np.cbrt(size * np.prod(spacing_mm))) + max(spacing_mm)
        rooms = [int(np.ceil(room_mm / mm)) for mm in spacing_mm]
        low, high = medium.bounds
        begin = [max(0, a - n) for a, n in zip(low, rooms, strict=True)]
        end = [min(n, b + m) for b, m, n in zip(high, rooms, shape, strict=True)]
        bounds: Range = ((begin[0], begin[1], begin[2]), (end[0], end[1], end[2]))
        mask = medium.within(bounds)
        away = edt.edt((~mask).view(np.uint8), anisotropy=spacing_mm).ravel()
        nearest = np.argsort(away, kind="stable")[: int(size * OTHER_SCALE)]
        mask.ravel()[nearest] = True
        return Part.tight(bounds[0], mask)

    return Scales({"tight": make_tight, "medium": lambda: medium, "large": make_large})


def share(
    image: npt.NDArray[Any], spacing_mm: Spacing, found: Mapping[int, Found]
) -> dict[int, Found]:
    """Shares out bodies that clicks of several classes stand in together.

    Where the likeliest body of one class holds the click of another, what both have goes to the
    click from which it is reached over less of an edge (a watershed), and what looks like both
    clicks to the nearer one. Rough bodies stay as they are, and compete, as do those of clicks on
    one voxel, which can't be told apart.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        found: what the clicks stand in, by label.

    Returns:
        The same, where the likeliest bodies are shared out; other scales are those of a share.
    """
    parts = {label: one.scales["medium"] for label, one in found.items()}
    clicks = {label: one.seed for label, one in found.items()}
    whole = dict(parts)
    for one, other in combinations(parts, 2):
        if clicks[one] == clicks[other]:
            continue
        if parts[one].holds(clicks[other]) or parts[other].holds(clicks[one]):
            parts[one], parts[other] = split(
                image, spacing_mm, (clicks[one], clicks[other]), (parts[one], parts[other])
            )
    return {
        label: replace(
            one, scales=other_scales(image.shape, spacing_mm, clicks[label], parts[label], [])
        )
        if one.clear and parts[label] is not whole[label]
        else one
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
    smooth = ndimage.gaussian_filter(values, sigma)
    inside = smooth[mine | theirs]
    start, span = float(inside.min()), float(np.ptp(inside))
    # The watershed counts the differences of neighbours, of 16 bits.
    levels = (smooth.clip(start, start + span) - start) / max(
        span, float(np.finfo(np.float32).tiny)
    )
    scaled = (levels.clip(0, 1) * np.iinfo(np.uint16).max).astype(np.uint16)
    here, there = ((z - low[0], y - low[1], x - low[2]) for z, y, x in (clicks[0], clicks[1]))
    markers = mark(smooth, SAME_TISSUE * noise_of(values), spacing_mm, here, there)
    nearer = ndimage.watershed_ift(scaled, markers)
    return (
        Part.tight(bounds[0], mine & ((nearer == 1) | ~theirs)),
        Part.tight(bounds[0], theirs & ((nearer == 2) | ~mine)),
    )


def mark(
    image: Image, tolerance: float, spacing_mm: Spacing, one: Voxel, other: Voxel
) -> npt.NDArray[np.int8]:
    """Marks what looks like one of two clicks and hangs together with it.

    A watershed gives what it reaches over no edge from both to either of them, in no order. So
    what looks like both is marked for the nearer one.

    Args:
        image: (z, y, x) intensities.
        tolerance: largest difference from a click's intensity.
        spacing_mm: (z, y, x).
        one: a click (z, y, x).
        other: another one, on another voxel.

    Returns:
        (z, y, x) 1 for the one, 2 for the other, 0 for what looks like neither.
    """
    like_one, like_other = (
        component(np.abs(image - image[click]) <= tolerance, click) for click in (one, other)
    )
    # Positive where the other one is farther: the squared distances' terms cancel out.
    places = np.ogrid[tuple(slice(size) for size in image.shape)]
    nearer = np.zeros((1, 1, 1), np.float32)
    for place, mm, a, b in zip(places, spacing_mm, one, other, strict=True):
        nearer = nearer + np.asarray(((place - b) ** 2 - (place - a) ** 2) * mm**2, np.float32)
    markers = like_one + 2 * like_other.astype(np.int8)
    both = like_one & like_other
    markers[both] = np.where(nearer >= 0, 1, 2)[both]
    markers[one], markers[other] = 1, 2
    return markers

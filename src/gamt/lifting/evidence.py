"""How likely the voxels around a click are wrong, as log-odds.

A user clicks the middle of an error. The *depth* of a click is how far the nearest voxel of the
other kind is: at the click, the error is about that thick to both sides. How far the error extends
sideways the click does not say; most errors are thin shells along the mask's surface. So all
lengths are counted in depths. A voxel is less likely to be part of the error the farther it is from
the click, the deeper it lies in the mask (or outside of it), the more the intensity changes on the
straight line from the click to it, and where an opposite click or another class claims it. It is
more likely where the intensity is that of the click's surroundings. A click that is deep for its
target's size marks a bulk rather than a shell, which extends over fewer depths.

The log-odds are a logistic regression's: a sum of features, each times its weight. The weights were
fitted to simulated clicks on 15 labelled scans and rounded; all but two are within 0.26 of the fit
in docs/click_law.md. The weights of other classes and of opposite clicks are set by hand, 0.5 and
0.8 beyond it, as whole runs of clicks did better with them. ``python -m benchmarks.click_law`` fits
all of them to any scans, from the same features.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from edt import edt
from scipy import ndimage
from scipy.spatial import KDTree

from gamt.lifting.points import spread_out
from gamt.segmenters import histograms

Mask = npt.NDArray[np.bool_]
Odds = npt.NDArray[np.float32]
Voxel = tuple[int, int, int]
Voxels = npt.NDArray[np.intp]
Scale = tuple[float, float, float]

WEIGHTS: Mapping[str, float] = {
    # One depth from the click, where nothing else speaks.
    "intercept_add": -0.15,
    "intercept_remove": 0.3,
    # Logarithm of the target's size in depths.
    "log_size_add": 0.7,
    "log_size_remove": 0.4,
    # Logarithm of the voxel's distance from the click, in depths.
    "log_distance": -1.2,
    # Logarithm of the voxel's own depth, in depths of the click: errors follow the surface.
    "log_depth": -1.75,
    # Log-likelihood ratio of the intensity: around the click against the rest of the click's side.
    "intensity_ratio": 0.75,
    # Logarithm of 1 + the gradient: masks are most often wrong where the image has a border.
    "log_gradient": 0.65,
    # 1 where another class has the voxel already.
    "other_class": -1.0,
    # How much nearer an opposite click is than this one; see `OPPOSITE_RATIO`.
    "opposite_click": -0.9,
    # Logarithm of 1 + the largest change of intensity on the line from the click to the voxel.
    "log_contrast_add": -1.15,
    "log_contrast_remove": -0.65,
}
"""Weights of the features by name, as log-odds (docs/click_law.md). `_add` is for clicks that ask
for more, `_remove` for those that ask for less."""

DISTANCE_FLOOR = 0.2
"""Smaller distances from the click count as this; in depths (docs/constants.md)."""

DEPTH_OFFSET = 0.1
"""Added to a voxel's depth before its logarithm is taken; in depths (docs/constants.md)."""

MAX_GRADIENT, MAX_CONTRAST = 15.0, 100.0
"""Larger gradients and changes of intensity count as this; in spreads of the click's intensity,
gradients a voxel (docs/constants.md)."""

OPPOSITE_RATIO = 2.0
"""The feature is max(0, OPPOSITE_RATIO - d / c), where d is a voxel's distance from the nearest
opposite click and c its distance from this click (docs/constants.md)."""

MIN_CLICK_DISTANCE = 0.5
"""Least distance from this click in that ratio, in grid voxels (docs/constants.md)."""

ELSEWHERE_DISTANCE = 2.0
"""From how far on intensities count as those of the rest of the click's side; in depths
(docs/constants.md)."""

MAX_DISTANCE, CONTEXT_DISTANCE = 7.0, 8.0
"""How far from the click voxels may change, and how far intensities are compared; in depths
(docs/constants.md)."""

HISTOGRAM_BLUR, MAX_RATIO = 1.5, 3.0
"""Smoothing of the histograms, in bins of 0..255, and the most that they say, as log-odds. The
embedded segmenter's own are smoothed over 1.56 bins of a window's range: found by a search of its
own (docs/constants.md)."""

CORE_DISTANCE, MAX_CORE_VOXELS = 0.5, 2.0
"""How far around a click intensities are the click's own: in depths, and in grid voxels at most, as
an error far from the mask is smaller than its click is deep (docs/constants.md)."""

NOISE = 1.5
"""Added to the spread of the click's intensity, in an image of 0..255 (docs/constants.md)."""

LINE_SAMPLES = 8
"""Points at which the line from a click to a voxel is looked at (docs/constants.md)."""

LINE_CAUTION: Mapping[str, float] = {"add": 1.5, "remove": 4.0}
"""Distances from a line of voxels count so many times, by what it asks for: it shows by itself how
far the error goes, where a click doesn't (docs/constants.md)."""

MOST_STARTS = 16
"""Voxels of a line from which the ways to others begin, at most (docs/constants.md)."""

BLUR, MAX_BLUR = 0.7, 3.0
"""Standard deviation of the smoothing of intensities: in grid voxels, and in raw voxels at most,
where the grid is coarser than the scan (docs/constants.md)."""

MIN_GRADIENT_BLUR, GRADIENT_REACH = 0.5, 4.0
"""Least standard deviation at which gradients are taken, in raw voxels; and at how many standard
deviations the filter ends (docs/constants.md)."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A click or a line of voxels on the wrong side of a mask, and what lies around it.

    Attributes:
        image: (z, y, x) intensities, 0..255, around the click.
        mask: (z, y, x) what is to be corrected.
        seed: the clicked voxel (z, y, x), or the deepest one of a line, which is on the wrong side
            of the mask.
        depth: of the seed: how far the nearest voxel of the other kind is, in grid voxels; > 0.
        size: of the target, the side of a cube of its volume, in grid voxels; > 0.
        scale: grid voxels per voxel, on each axis; not zero.
        opposite: voxels (z, y, x) of clicks for the other side, which are not part of this error;
            they may lie outside of the volume.
        taken: (z, y, x) what another class has already, and would have to give up; None if nothing.
        line: (N, 3) voxels (z, y, x) on the seed's side, the seed among them, that are marked as
            wrong together; None where the seed alone is.
        opposite_line: (N, 3) voxels (z, y, x) of the volume that are marked for the other side,
            beside `opposite`: too many to be looked at one by one.
    """

    image: npt.NDArray[np.uint8]
    mask: Mask
    seed: Voxel
    depth: float
    size: float
    scale: Scale
    opposite: Sequence[Sequence[int]] = ()
    taken: Mask | None = None
    line: Voxels | None = None
    opposite_line: Voxels = field(default_factory=lambda: np.empty((0, 3), np.intp))

    @property
    def marked(self) -> Voxels:
        """(N, 3) the voxels that are marked as wrong."""
        return np.array([self.seed]) if self.line is None else self.line

    @property
    def kind(self) -> str:
        """What the click asks for, "add" or "remove", as it ends the names of some weights."""
        return "remove" if self.mask[self.seed] else "add"

    @cached_property
    def same_side(self) -> Mask:
        """(z, y, x) what is on the seed's side of the mask."""
        return self.mask if self.mask[self.seed] else ~self.mask

    @cached_property
    def distance(self) -> Odds:
        """(z, y, x) distances from the seed or the line, in grid voxels."""
        if self.line is None:
            return distances(self.seed, self.scale, self.mask.shape)
        return distances_from_line(self.line, self.scale, self.mask.shape)

    @cached_property
    def candidate(self) -> Mask:
        """(z, y, x) what may be part of the error: on the seed's side, and not too far from it."""
        return self.same_side & (self.distance <= MAX_DISTANCE * self.depth)

    @cached_property
    def blur(self) -> list[float]:
        """Standard deviation of the smoothing on each axis, in raw voxels."""
        return [min(BLUR / step, MAX_BLUR) for step in self.scale]

    @cached_property
    def smooth(self) -> Odds:
        """(z, y, x) intensities without the finest noise, 0..255."""
        return ndimage.gaussian_filter(self.image.astype(np.float32), self.blur, mode="nearest")

    @property
    def core_radius(self) -> float:
        """How far around the seed or line intensities are its own, in grid voxels."""
        return float(np.clip(CORE_DISTANCE * self.depth, 1.0, MAX_CORE_VOXELS))

    @cached_property
    def seed_intensity(self) -> tuple[float, np.float32]:
        """The median intensity around the seed or line, and its median absolute deviation.

        Noise is added to the deviation.
        """
        radius = self.core_radius
        part = region_around(self.marked, radius, self.scale, self.mask.shape)
        core = self.smooth[part][self.candidate[part] & (self.distance[part] <= radius)]
        median = float(np.median(core))
        return median, np.float32(np.median(np.abs(core - median)) + NOISE)


def region_around(
    voxels: Voxels, reach: float, scale: Scale, shape: Sequence[int]
) -> tuple[slice, ...]:
    """Returns the part of a volume within `reach` grid voxels of voxels on every axis.

    Args:
        voxels: (N, 3) in the order (z, y, x), N > 0.
        reach: in grid voxels.
        scale: grid voxels per voxel, on each axis; not zero.
        shape: of the volume.
    """
    first, last = np.min(voxels, axis=0).tolist(), np.max(voxels, axis=0).tolist()
    return tuple(
        slice(max(0, int(a - reach / s)), min(n, int(b + reach / s) + 1))
        for a, b, s, n in zip(first, last, scale, shape, strict=True)
    )


def distances(voxel: Sequence[int], scale: Scale, shape: Sequence[int]) -> Odds:
    """Returns how far every voxel of a volume is from one, in grid voxels; (z, y, x)."""
    squared = np.zeros((1, 1, 1), np.float32)
    for axis, (place, step) in enumerate(zip(voxel, scale, strict=True)):
        along = [1, 1, 1]
        along[axis] = -1
        away = (np.arange(shape[axis], dtype=np.float32) - place) * np.float32(step)
        squared = squared + np.square(away).reshape(along)
    return np.sqrt(squared)


def distances_from_line(line: Voxels, scale: Scale, shape: Sequence[int]) -> Odds:
    """Returns how far every voxel of a volume is from the nearest of several, in grid voxels.

    Args:
        line: (N, 3) voxels (z, y, x) of the volume, N > 0.
        scale: grid voxels per voxel, on each axis; not zero.
        shape: of the volume.

    Returns:
        (z, y, x) distances.
    """
    away = np.ones(tuple(shape), np.uint8)
    away[tuple(line.T)] = 0
    found: Odds = edt(away, anisotropy=scale, parallel=os.cpu_count() or 1)
    return found


def intensity_ratio(image: Odds, inside: Mask, outside: Mask) -> Odds:
    """Returns the log of how much likelier every voxel's intensity is inside than outside.

    Args:
        image: (z, y, x) intensities, 0..255.
        inside: (z, y, x) where to learn what is inside.
        outside: (z, y, x) where to learn what is outside.

    Returns:
        (z, y, x) log-odds, at most `MAX_RATIO` either way.
    """
    bins = histograms.BINS
    index = (image * np.float32(bins / 256)).astype(np.uint8)
    here, there = (
        histograms.density(
            np.bincount(index[side], minlength=bins).astype(np.float32), HISTOGRAM_BLUR
        )
        for side in (inside, outside)
    )
    ratio = histograms.log_likelihood_ratio(here, there, histograms.FLOOR, MAX_RATIO)
    return np.asarray(ratio, np.float32)[index]


def contrast_on_line(
    image: Odds, intensity: float, seed: Voxel, voxels: npt.NDArray[np.intp]
) -> Odds:
    """Returns the largest difference from an intensity on the straight lines from a seed to voxels.

    Args:
        image: (z, y, x) intensities.
        intensity: at the seed.
        seed: (z, y, x).
        voxels: (N,) flat indices into the image.

    Returns:
        (N,) absolute differences of intensity.
    """
    largest = np.zeros(len(voxels), np.float32)
    away = [
        (place - start).astype(np.float32)
        for place, start in zip(np.unravel_index(voxels, image.shape), seed, strict=True)
    ]
    change = np.abs(image - np.float32(intensity)).ravel()
    for share in np.linspace(0, 1, LINE_SAMPLES + 1, dtype=np.float32)[1:]:
        z, y, x = (
            np.rint(start + share * way).astype(np.intp)
            for start, way in zip(seed, away, strict=True)
        )
        places = (z * image.shape[1] + y) * image.shape[2] + x
        np.maximum(largest, change.take(places), out=largest)
    return largest


def place_features(
    around: Surroundings, voxels: npt.NDArray[np.intp]
) -> Iterator[tuple[str, Odds]]:
    """Yields the features that tell of a voxel's place, one after the other.

    Args:
        around: the click; the mask must have voxels of both kinds.
        voxels: (N,) flat indices of candidates.

    Yields:
        A feature's name in `WEIGHTS`, and its (N,) values. A feature without data, such as other
        classes' voxels where there is no other class, is left out; it counts as zero.
    """
    depth = around.depth
    distance = around.distance.take(voxels)
    yield f"intercept_{around.kind}", np.ones_like(distance)
    yield f"log_size_{around.kind}", np.full_like(distance, np.log(around.size / depth))
    caution = np.float32(1 if around.line is None else LINE_CAUTION[around.kind])
    yield "log_distance", np.log(np.maximum(caution * distance / depth, DISTANCE_FLOOR))
    side = np.ascontiguousarray(around.same_side)
    own: Odds = edt(side, anisotropy=around.scale, parallel=os.cpu_count() or 1)
    yield "log_depth", np.log(own.take(voxels) / depth + DEPTH_OFFSET)
    if around.taken is not None:
        yield "other_class", around.taken.take(voxels).astype(np.float32)
    opposite = np.full_like(distance, np.inf)
    for voxel in around.opposite:  # several say no more than the nearest one
        there = distances(voxel, around.scale, around.mask.shape)
        np.minimum(opposite, there.take(voxels), out=opposite)
    if len(around.opposite_line):
        there = distances_from_line(around.opposite_line, around.scale, around.mask.shape)
        np.minimum(opposite, there.take(voxels), out=opposite)
    ratio = opposite / np.maximum(distance, np.float32(MIN_CLICK_DISTANCE))
    yield "opposite_click", (OPPOSITE_RATIO - ratio).clip(min=0)


def image_features(
    around: Surroundings, voxels: npt.NDArray[np.intp]
) -> Iterator[tuple[str, Odds]]:
    """Yields the features that tell of the image at a voxel; see `place_features`."""
    if len(voxels) == 0:
        return
    depth = around.depth
    rest = around.same_side & (around.distance > ELSEWHERE_DISTANCE * depth)
    if rest.any():
        # A click has to borrow from what is around it; a line has voxels enough of its own.
        reach = depth if around.line is None else around.core_radius
        near = around.candidate & (around.distance <= reach)
        yield "intensity_ratio", intensity_ratio(around.smooth, near, rest).take(voxels)
    yield "log_gradient", gradient_feature(around, voxels)


def gradient_feature(around: Surroundings, voxels: npt.NDArray[np.intp]) -> Odds:
    """Returns the feature `log_gradient`, (N,), from no more of the image than it needs."""
    _, spread = around.seed_intensity
    blur = np.maximum(around.blur, MIN_GRADIENT_BLUR)
    places = np.unravel_index(voxels, around.mask.shape)
    room = np.ceil(GRADIENT_REACH * blur).astype(int)
    part = tuple(
        slice(max(0, int(place.min()) - far), int(place.max()) + far + 1)
        for place, far in zip(places, room, strict=True)
    )
    gradient: Odds = ndimage.gaussian_gradient_magnitude(
        around.image[part].astype(np.float32), blur, truncate=GRADIENT_REACH
    )
    inside = tuple(place - one.start for place, one in zip(places, part, strict=True))
    steep: Odds = np.log1p(np.minimum(gradient[inside] / spread, MAX_GRADIENT))
    return steep


def contrast_feature(around: Surroundings, voxels: npt.NDArray[np.intp]) -> tuple[str, Odds]:
    """Returns the feature that takes the most time a voxel: the contrast on the way to it.

    From a line of voxels, the way begins at the nearest of a few of them.

    Args:
        around: the click.
        voxels: (N,) flat indices of candidates.

    Returns:
        The feature's name in `WEIGHTS`, and its (N,) values.
    """
    intensity, spread = around.seed_intensity
    if around.line is None:
        contrast = contrast_on_line(around.smooth, intensity, around.seed, voxels)
    else:
        contrast = np.empty(len(voxels), np.float32)
        starts = spread_out(around.line, around.scale, MOST_STARTS)
        places = np.stack(np.unravel_index(voxels, around.mask.shape), axis=1)
        _, nearest = KDTree(starts * np.array(around.scale)).query(places * around.scale)
        for n, (z, y, x) in enumerate(starts.tolist()):
            own = nearest == n
            contrast[own] = contrast_on_line(around.smooth, intensity, (z, y, x), voxels[own])
    contrast /= spread
    return f"log_contrast_{around.kind}", np.log1p(np.minimum(contrast, MAX_CONTRAST))


def error_odds(around: Surroundings, least: float = -np.inf) -> Odds:
    """Returns the log-odds that voxels are part of the error that a click marks.

    Args:
        around: the click.
        least: voxels whose log-odds can't be above this are not looked into any further.

    Returns:
        (z, y, x) log-odds; -inf where a voxel is right already or too far from the click, or its
        log-odds are below `least`. Where the whole mask is of one kind there is no surface to
        measure by: 0 for all others.
    """
    result = np.full(around.mask.shape, -np.inf, np.float32)
    voxels = np.flatnonzero(around.candidate)
    if around.same_side.all():
        result.ravel()[voxels] = 0
        return result
    odds = np.zeros(len(voxels), np.float32)
    for name, values in place_features(around, voxels):
        odds += WEIGHTS[name] * values
    most = WEIGHTS["intensity_ratio"] * MAX_RATIO + WEIGHTS["log_gradient"] * np.log1p(MAX_GRADIENT)
    able = odds > least - most
    voxels, odds = voxels[able], odds[able]
    for name, values in image_features(around, voxels):
        odds += WEIGHTS[name] * values
    able = odds > least  # contrast only speaks against
    voxels, odds = voxels[able], odds[able]
    name, values = contrast_feature(around, voxels)
    result.ravel()[voxels] = odds + WEIGHTS[name] * values
    return result

"""What a click that contradicts a mask says about the voxels around it, as log-odds.

A user's click marks the middle of an error, so that the error is at most as thick there as the
click is deep: as far as the nearest voxel of the other kind is. How far the error reaches, the
click does not say, but most errors are shells along a mask's surface. All lengths are counted in
depths: the log-odds fall with the logarithms of the distance from the click and of the depth in the
mask (or outside of it), and with whatever speaks for a border on the way or for another target.
They rise where the intensity is like that around the click rather than like that of the rest. A
click that is deep for its target's size marks a bulk rather than a shell, which has fewer depths.

"Fitted" means: a logistic regression on voxels around simulated clicks on 15 labelled scans with
boxes, on the masks that this law itself leads to, each scan predicted without its patient's;
rounded, and shifted a little. "Moved" means: set where whole runs of clicks did better, far from
the regression's 0.1 (`PER_RIVAL`) and 0.5 (`TAKEN`). ``python -m benchmarks.click_law`` does the
regression on any scans, from the same features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Odds = npt.NDArray[np.float32]
Voxel = tuple[int, int, int]
Scale = tuple[float, float, float]

TO_ADD, TO_REMOVE = -0.15, 0.3
"""Log-odds one depth away, where nothing else speaks, of adding and of removing (fitted)."""

ADD_PER_SIZE, REMOVE_PER_SIZE = 0.7, 0.4
"""Gained with the logarithm of the target's size in depths (fitted)."""

PER_DISTANCE, NEAREST = 1.2, 0.2
"""Lost with the logarithm of the distance from the click, which counts from this many depths on
(fitted)."""

PER_DEPTH, SHALLOW = 1.75, 0.1
"""Lost with the logarithm of the voxel's own depth, to which this much of the click's is added:
errors follow the surface (fitted)."""

PER_RATIO = 0.75
"""Weight of the intensity's likelihood ratio between the click's surroundings, one depth around it,
and what is of the same kind farther away than two (fitted)."""

PER_SLOPE, MOST_SLOPE = 0.65, 15.0
"""Gained with the logarithm of one plus the gradient, in the click's spreads a voxel, up to this
many of them: a mask is most often wrong where the image has a border (fitted)."""

ADD_PER_CONTRAST, REMOVE_PER_CONTRAST, MOST_CONTRAST = 1.15, 0.65, 100.0
"""Lost with the logarithm of one plus the largest difference of intensity between the click's and
the way's, in the click's spreads, up to this many of them (fitted)."""

PER_RIVAL, FAR = 0.9, 2.0
"""Lost for each time that the way to the nearest opposite click is shorter than `FAR` times the way
to the click, in parts of that way (moved)."""

TAKEN = 1.0
"""Lost where the voxel is another class's already (moved)."""

LAW = {
    "TO_ADD": TO_ADD,
    "TO_REMOVE": TO_REMOVE,
    "ADD_PER_SIZE": ADD_PER_SIZE,
    "REMOVE_PER_SIZE": REMOVE_PER_SIZE,
    "PER_DISTANCE": PER_DISTANCE,
    "PER_DEPTH": PER_DEPTH,
    "PER_RATIO": PER_RATIO,
    "PER_SLOPE": PER_SLOPE,
    "TAKEN": TAKEN,
    "PER_RIVAL": PER_RIVAL,
    "ADD_PER_CONTRAST": ADD_PER_CONTRAST,
    "REMOVE_PER_CONTRAST": REMOVE_PER_CONTRAST,
}
"""The fitted weights by name: log-odds are the sum of features, each times its weight. What is lost
for something has a feature that falls with it."""

REACH, CONTEXT = 7.0, 8.0
"""Depths from the click: as far as voxels may change, and as far as intensities are compared."""

BINS, BIN_BLUR, FLOOR, CAP = 48, 1.5, 0.014, 3.0
"""Of the intensity histograms: their number over 0..255, smoothing in bins, what is added so that
a bin seen on neither side says nothing, and the most that the ratio says, as log-odds."""

CORE, MOST_CORE, LEAST_SPREAD = 0.5, 2.0, 1.5
"""Depths around a click within which intensities are the click's own, and grid voxels at most: an
error far from the mask is smaller than the click is deep. What is added to their spread, for noise,
in an image of 0..255."""

STEPS = 8
"""Places at which the way from a click to a voxel is looked at."""

BLUR, MOST_BLUR = 0.7, 3.0
"""Grid voxels over which intensities are smoothed, and raw voxels at most, where the grid is
coarser than the scan (measured)."""

LEAST_BLUR = 0.5
"""Raw voxels over which gradients are taken, at least."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A click on the wrong side of a mask, and what lies around it.

    Attributes:
        image: (z, y, x) intensities, 0..255, around the click.
        mask: (z, y, x) what is to be corrected.
        seed: the clicked voxel (z, y, x), which is on the wrong side of the mask.
        depth: of the seed: how far the nearest voxel of the other kind is, in grid voxels; > 0.
        size: of the target, the side of a cube of its volume, in grid voxels; > 0.
        scale: grid voxels per voxel, on each axis; not zero.
        opposite: clicked voxels (z, y, x) that are certain not to be wrong in this way; they may
            lie outside of the volume.
        taken: (z, y, x) what another class has already, and would have to give up; None if nothing.
    """

    image: npt.NDArray[np.uint8]
    mask: Mask
    seed: Voxel
    depth: float
    size: float
    scale: Scale
    opposite: Sequence[Sequence[int]] = ()
    taken: Mask | None = None

    @property
    def kind(self) -> str:
        """What the click asks for, as it stands in the names of the law's weights."""
        return "REMOVE" if self.mask[self.seed] else "ADD"

    @cached_property
    def like_seed(self) -> Mask:
        """(z, y, x) what is on the seed's side of the mask."""
        return self.mask if self.mask[self.seed] else ~self.mask

    @cached_property
    def away(self) -> Odds:
        """(z, y, x) distances from the seed, in grid voxels."""
        return distances(self.seed, self.scale, self.mask.shape)

    @cached_property
    def candidate(self) -> Mask:
        """(z, y, x) what may be wrong: not right already, nor too far from the seed."""
        return self.like_seed & (self.away <= REACH * self.depth)

    @cached_property
    def blur(self) -> list[float]:
        """Raw voxels over which intensities are smoothed, on each axis."""
        return [min(BLUR / step, MOST_BLUR) for step in self.scale]

    @cached_property
    def grey(self) -> Odds:
        """(z, y, x) the intensities as they are."""
        return self.image.astype(np.float32)

    @cached_property
    def smooth(self) -> Odds:
        """(z, y, x) intensities without the finest noise."""
        return ndimage.gaussian_filter(self.grey, self.blur, mode="nearest")

    @cached_property
    def usual(self) -> tuple[float, np.float32]:
        """The click's own intensity, and its spread."""
        near = self.away <= np.clip(CORE * self.depth, 1.0, MOST_CORE)
        core = self.smooth[self.candidate & near]
        usual = float(np.median(core))
        return usual, np.float32(np.median(np.abs(core - usual)) + LEAST_SPREAD)


def window_around(
    voxel: Voxel, reach: float, scale: Scale, shape: Sequence[int]
) -> tuple[slice, ...]:
    """Returns the part of a volume within `reach` grid voxels of a voxel on every axis.

    Args:
        voxel: (z, y, x).
        reach: in grid voxels.
        scale: grid voxels per voxel, on each axis; not zero.
        shape: of the volume.
    """
    sides = zip(voxel, scale, shape, strict=True)
    return tuple(
        slice(max(0, int(v - reach / s)), min(n, int(v + reach / s) + 1)) for v, s, n in sides
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


def likelihood_ratio(image: Odds, inside: Mask, outside: Mask) -> Odds:
    """Returns the log of how much likelier every voxel's intensity is inside than outside.

    Args:
        image: (z, y, x) intensities, 0..255.
        inside: (z, y, x) where to learn what is inside.
        outside: (z, y, x) where to learn what is outside.
    """
    index = (image * (BINS / 256)).astype(np.intp)
    curves = []
    for side in (inside, outside):
        counts = np.bincount(index[side], minlength=BINS).astype(np.float32)
        counts = ndimage.gaussian_filter1d(counts, BIN_BLUR, mode="reflect")
        curves.append(counts / max(float(counts.sum()), 1.0))
    ratio = np.log((curves[0] + FLOOR) / (curves[1] + FLOOR)).clip(-CAP, CAP)
    return np.asarray(ratio, np.float32)[index]


def contrast_on_the_way(
    image: Odds, usual: float, seed: Voxel, voxels: npt.NDArray[np.intp]
) -> Odds:
    """Returns the largest difference from `usual` on the straight ways from a seed to voxels.

    Args:
        image: (z, y, x) intensities.
        usual: the intensity at the seed.
        seed: (z, y, x).
        voxels: (N, 3), (z, y, x).

    Returns:
        (N,) differences of intensity.
    """
    largest = np.zeros(len(voxels), np.float32)
    start = np.array(seed)
    for share in np.linspace(0, 1, STEPS + 1)[1:]:
        places = np.rint(start + share * (voxels - start)).astype(np.intp)
        np.maximum(largest, np.abs(image[tuple(places.T)] - np.float32(usual)), out=largest)
    return largest


def features(around: Surroundings) -> Iterator[tuple[str, Odds]]:
    """Yields what the law weighs, but for what is on the way to a voxel (`contrast_feature`).

    One after the other, as all of them together would take much memory.

    Args:
        around: the click; the mask must have voxels of the other kind.

    Yields:
        The weight's name in `LAW`, and (N,) values, of the candidates in C order. What nothing is
        known of is left out, which says as much as zeros.
    """
    candidate, depth = around.candidate, around.depth
    way = around.away[candidate]
    yield f"TO_{around.kind}", np.ones_like(way)
    yield f"{around.kind}_PER_SIZE", np.full_like(way, np.log(around.size / depth))
    yield "PER_DISTANCE", -np.log(np.maximum(way / depth, NEAREST))
    own = ndimage.distance_transform_edt(around.like_seed, around.scale)[candidate]
    yield "PER_DEPTH", -np.log(own.astype(np.float32) / depth + SHALLOW)
    rest = around.like_seed & (around.away > 2 * depth)
    if rest.any():
        near = candidate & (around.away <= depth)
        yield "PER_RATIO", likelihood_ratio(around.smooth, near, rest)[candidate]
    _, spread = around.usual
    slope = ndimage.gaussian_gradient_magnitude(around.grey, np.maximum(around.blur, LEAST_BLUR))
    yield "PER_SLOPE", np.log1p(np.minimum(slope[candidate] / spread, MOST_SLOPE))
    if around.taken is not None:
        yield "TAKEN", -around.taken[candidate].astype(np.float32)
    rival = np.full_like(way, np.inf)
    for voxel in around.opposite:  # several say no more than the nearest one
        there = distances(voxel, around.scale, around.mask.shape)[candidate]
        np.minimum(rival, there, out=rival)
    yield "PER_RIVAL", (rival / np.maximum(way, np.float32(0.5)) - FAR).clip(max=0)


def contrast_feature(around: Surroundings, voxels: npt.NDArray[np.intp]) -> tuple[str, Odds]:
    """Returns the feature that takes the most time: what is on the way to voxels.

    Args:
        around: the click.
        voxels: (N, 3), (z, y, x).

    Returns:
        The weight's name in `LAW`, and (N,) values.
    """
    usual, spread = around.usual
    contrast = contrast_on_the_way(around.smooth, usual, around.seed, voxels) / spread
    return f"{around.kind}_PER_CONTRAST", -np.log1p(np.minimum(contrast, MOST_CONTRAST))


def error_odds(around: Surroundings) -> Odds:
    """Returns the log-odds that voxels are part of the error that a click marks.

    Returns:
        (z, y, x) log-odds; -inf where a voxel is right already or too far from the click; 0 for all
        others if none is right, as then nothing is known.
    """
    candidate = around.candidate
    result = np.full(candidate.shape, -np.inf, np.float32)
    if around.like_seed.all():  # without a surface, there is no depth to measure by
        result[candidate] = 0
        return result
    odds = np.zeros(np.count_nonzero(candidate), np.float32)
    for name, feature in features(around):
        odds += LAW[name] * feature
    # What is on the way only speaks against: those that are out already need no look.
    likely = odds > 0
    name, feature = contrast_feature(around, np.argwhere(candidate)[likely])
    odds[likely] += LAW[name] * feature
    result[candidate] = odds
    return result

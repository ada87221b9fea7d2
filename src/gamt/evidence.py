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
rounded, and moved a little where whole runs of clicks did better.
"""

from collections.abc import Sequence

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
to the click, in parts of that way (fitted)."""

TAKEN = 1.0
"""Lost where the voxel is another class's already (fitted)."""

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


def error_odds(
    image: npt.NDArray[np.uint8],
    mask: Mask,
    seed: Voxel,
    depth: float,
    size: float,
    scale: Scale,
    opposite: Sequence[Sequence[int]] = (),
    taken: Mask | None = None,
) -> Odds:
    """Returns the log-odds that voxels are part of the error that a click marks.

    Args:
        image: (z, y, x) intensities, 0..255, around the click.
        mask: (z, y, x) what is to be corrected.
        seed: the clicked voxel (z, y, x), which is on the wrong side of the mask.
        depth: of the seed: how far the nearest voxel of the other kind is, in grid voxels; > 0.
        size: of the target, the side of a cube of its volume, in grid voxels; > 0.
        scale: grid voxels per voxel, on each axis; not zero.
        opposite: clicked voxels (z, y, x) that are certain not to be wrong in this way; they may
            lie outside of the volume.
        taken: (z, y, x) what another class has already, and would have to give up; None if nothing.

    Returns:
        (z, y, x) log-odds; -inf where a voxel is right already or too far from the click; 0 for all
        others if none is right, as then nothing is known.
    """
    wrong_kind = bool(mask[seed])
    away = distances(seed, scale, mask.shape)
    candidate = (mask == wrong_kind) & (away <= REACH * depth)
    result = np.full(mask.shape, -np.inf, np.float32)
    right = mask != wrong_kind
    if not right.any():  # without a surface, there is no depth to measure by
        result[candidate] = 0
        return result
    blur = [min(BLUR / step, MOST_BLUR) for step in scale]
    grey = image.astype(np.float32)
    smooth = ndimage.gaussian_filter(grey, blur, mode="nearest")
    core = smooth[candidate & (away <= np.clip(CORE * depth, 1.0, MOST_CORE))]
    usual = float(np.median(core))
    spread = np.float32(np.median(np.abs(core - usual)) + LEAST_SPREAD)

    larger = np.float32(np.log(size / depth))
    way = away[candidate]
    own = ndimage.distance_transform_edt(~right, scale)[candidate].astype(np.float32)
    odds = TO_REMOVE + REMOVE_PER_SIZE * larger if wrong_kind else TO_ADD + ADD_PER_SIZE * larger
    odds = odds - PER_DISTANCE * np.log(np.maximum(way / depth, NEAREST))
    odds -= PER_DEPTH * np.log(own / depth + SHALLOW)
    rest = ~right & (away > 2 * depth)
    if rest.any():
        ratio = likelihood_ratio(smooth, candidate & (away <= depth), rest)
        odds += PER_RATIO * ratio[candidate]
    slope = ndimage.gaussian_gradient_magnitude(grey, np.maximum(blur, LEAST_BLUR))
    odds += PER_SLOPE * np.log1p(np.minimum(slope[candidate] / spread, MOST_SLOPE))
    if taken is not None:
        odds -= TAKEN * taken[candidate]
    rival = np.full(odds.shape, np.inf, np.float32)
    for voxel in opposite:  # several say no more than the nearest one
        np.minimum(rival, distances(voxel, scale, mask.shape)[candidate], out=rival)
    odds -= PER_RIVAL * (FAR - np.minimum(rival / np.maximum(way, 0.5), FAR))
    # What is on the way only speaks against: those that are out already need no look.
    likely = odds > 0
    voxels = np.argwhere(candidate)[likely]
    contrast = contrast_on_the_way(smooth, usual, seed, voxels) / spread
    per_contrast = REMOVE_PER_CONTRAST if wrong_kind else ADD_PER_CONTRAST
    odds[likely] -= per_contrast * np.log1p(np.minimum(contrast, MOST_CONTRAST))
    result[candidate] = odds
    return result

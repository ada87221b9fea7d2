"""What a click that contradicts a mask says about the voxels around it, as log-odds.

A user's click marks the middle of an error, so that the error is about as thick there as the click
is deep: as far as the nearest voxel of the other kind is. How far the error reaches, the click does
not say, but most errors are shells along a mask's surface. All lengths are counted in depths, and
the law is the same for errors of all sizes: the log-odds fall with the logarithm of the distance
from the click, evenly with the depth in the mask (or outside of it), and with whatever speaks for a
border on the way or for another target. They rise where the intensity is that of the other side.

"Fitted" means: begun from a logistic regression on voxels around simulated clicks on 16 labelled
scans, each predicted without itself, and rounded or moved where whole runs of clicks did better.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Odds = npt.NDArray[np.float32]
Voxel = tuple[int, int, int]
Scale = tuple[float, float, float]

AT_CLICK = 3.6
"""Log-odds at the surface, one depth away from the click, where nothing else speaks (fitted)."""

PER_DISTANCE, NEAREST = 1.6, 0.5
"""Lost with the logarithm of the distance from the click, which counts from this many depths on
(fitted)."""

PER_DEPTH = 1.5
"""Lost a depth of the voxel itself: errors follow the surface (fitted)."""

PER_RATIO = 0.73
"""Weight of the intensity's likelihood ratio between both sides (fitted)."""

PER_CONTRAST, MOST_CONTRAST = 0.87, 100.0
"""Lost with the logarithm of one plus the largest difference of intensity between the click's and
the way's, in the click's spreads, up to this many of them (fitted)."""

PER_RIVAL, FAR = 1.2, 2.0
"""Lost for each time that the way to the nearest opposite click is shorter than `FAR` times the way
to the click, in parts of that way (fitted)."""

TAKEN = 1.5
"""Lost where the voxel is another class's already (fitted)."""

REACH, CONTEXT = 5.0, 8.0
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
    own = ndimage.distance_transform_edt(~right, scale)
    blur = [min(BLUR / step, MOST_BLUR) for step in scale]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), blur, mode="nearest")
    ratio = likelihood_ratio(smooth, right, ~right)
    odds = AT_CLICK - PER_DISTANCE * np.log(np.maximum(away[candidate] / depth, NEAREST))
    odds -= PER_DEPTH * own[candidate].astype(np.float32) / depth
    odds += PER_RATIO * ratio[candidate]
    if taken is not None:
        odds -= TAKEN * taken[candidate]
    rival = np.full(odds.shape, np.inf, np.float32)
    for voxel in opposite:  # several say no more than the nearest one
        np.minimum(rival, distances(voxel, scale, mask.shape)[candidate], out=rival)
    odds -= PER_RIVAL * (FAR - np.minimum(rival / np.maximum(away[candidate], 0.5), FAR))
    # What is on the way only speaks against: those that are out already need no look.
    likely = odds > 0
    voxels = np.argwhere(candidate)[likely]
    near = smooth[candidate & (away <= np.clip(CORE * depth, 1.0, MOST_CORE))]
    usual = float(np.median(near))
    spread = float(np.median(np.abs(near - usual))) + LEAST_SPREAD
    contrast = contrast_on_the_way(smooth, usual, seed, voxels) / np.float32(spread)
    odds[likely] -= PER_CONTRAST * np.log1p(np.minimum(contrast, MOST_CONTRAST))
    result[candidate] = odds
    return result

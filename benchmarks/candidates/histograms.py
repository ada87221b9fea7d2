"""The ellipsoid as a prior, mixed with histograms of fore- and background in 3-D."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit

from benchmarks.candidates.rounds import segment_in_rounds
from benchmarks.phantoms import Labels, Mask
from gamt.io.case import Case
from gamt.io.intensities import intensity_window, normalise
from gamt.lifting.shape import OUTSIDE, ellipsoid_logits
from gamt.prompts import Box, Click
from gamt.segmenters.histograms import density, log_likelihood_ratio

Array = npt.NDArray[np.float32]

ROUNDS, BINS, HISTOGRAM_BLUR, FLOOR, CAP = 3, 32, 1.0, 0.01, 3.0
"""Rounds of histograms and posterior; bins over 0..255 and their smoothing; what is added to their
densities, and the most that a ratio says, as log-odds. The embedded segmenter has other numbers: a
candidate that changed with it would not be one to compare with."""

MARGIN, BALL_MARGIN = 0.3, 1.0
"""Room around a box and around a click's ball, as shares of their sides."""

VOXEL_BLUR = 0.7
"""Voxels over which intensities are smoothed."""


def ellipsoid_with_histograms(case: Case) -> Labels:
    """Segments a case; see `benchmarks.candidates.candidate`."""
    return segment_in_rounds(case, _start, _correct)


def _start(case: Case, box: Box) -> Mask:
    near, low = _around(box, MARGIN, case.image.shape)
    image = _intensities(case, near)
    prior = ellipsoid_logits(box, low, image.shape)
    z = np.arange(low[0], low[0] + len(prior))
    prior[(z < box.z_min) | (z >= box.z_max)] = -OUTSIDE
    logits = prior
    for _ in range(ROUNDS):
        logits = prior + intensity_ratio(image, expit(logits))
    found = np.zeros(case.image.shape, np.bool_)
    found[near] = logits > 0
    return found


def _correct(case: Case, mask: Mask, click: Click, ball: Box) -> Mask:
    """Lets voxels near the ball change that look more like the click's side than like the other."""
    near, low = _around(ball, BALL_MARGIN, case.image.shape)
    image = _intensities(case, near)
    error = ellipsoid_logits(ball, low, image.shape)
    right = np.asarray(mask[near] == click.positive, np.float32)
    logits = error + intensity_ratio(image, np.maximum(right, expit(error)))
    found = np.zeros(case.image.shape, np.bool_)
    found[near] = logits > 0
    return found


def intensity_ratio(image: Array, inside: Array) -> Array:
    """Returns the log of how much likelier each voxel's intensity is inside than outside.

    Args:
        image: (z, y, x), 0..255.
        inside: (z, y, x), probability of being inside, as far as known.

    Returns:
        (z, y, x) log-odds.
    """
    index = (image * (BINS / 256)).astype(np.intp)
    here, there = (
        density(
            np.asarray(np.bincount(index.ravel(), weight.ravel(), BINS), np.float64), HISTOGRAM_BLUR
        )
        for weight in (inside, 1 - inside)
    )
    return np.asarray(log_likelihood_ratio(here, there, FLOOR, CAP)[index], np.float32)


def _around(
    box: Box, margin: float, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Returns the part of a volume around a box, with a margin, and its first voxel (z, y, x)."""
    near = []
    for low, high, size in zip(box.low, box.high, shape, strict=True):
        room = round(margin * (high - low)) + 2
        near.append(slice(max(0, low - room), min(size, high + room)))
    return tuple(near), tuple(part.start for part in near)


def _intensities(case: Case, near: tuple[slice, ...]) -> Array:
    grey = normalise(case.image[near], intensity_window(case.image, 0.5, 99.5))
    return ndimage.gaussian_filter(grey.astype(np.float32), VOXEL_BLUR, mode="nearest")

"""Smoothed intensity histograms, and how much likelier an intensity is in one than in another."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Curve = npt.NDArray[np.floating[Any]]

BINS = 48
"""Of a histogram of intensities (docs/constants.md)."""

FLOOR = 0.014
"""Added to every bin of two densities before they are compared: a bin that is empty in both then
says nothing, and one that is nearly empty says little (docs/constants.md)."""


def density(counts: Curve, blur: float) -> Curve:
    """Smooths a histogram and divides it by its sum.

    Args:
        counts: (..., bins) not negative.
        blur: standard deviation of the smoothing, in bins.

    Returns:
        (..., bins) in the type of `counts`; sums to one, or is all zero where `counts` is.
    """
    smooth = ndimage.gaussian_filter1d(counts, blur, mode="reflect")
    return np.asarray(smooth / smooth.sum(axis=-1, keepdims=True).clip(1e-9))


def log_likelihood_ratio(inside: Curve, outside: Curve, floor: float, cap: float) -> Curve:
    """Returns how much likelier every bin is inside than outside, as log-odds.

    Args:
        inside: (bins,) a density.
        outside: (bins,) another.
        floor: added to both.
        cap: the result's largest absolute value.
    """
    return np.asarray(np.log((inside + floor) / (outside + floor)).clip(-cap, cap))

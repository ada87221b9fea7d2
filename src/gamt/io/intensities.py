"""Intensities of any numeric type, brought to 0..255 (paper, 2.1; docs/design.md, 3)."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.windows import IntensityWindow

MOST_EXPONENT = 100
"""Images whose intensities are beyond 2 to the power of this or of its negative, about 1e30 and
1e-30, are seen in another unit (docs/constants.md)."""

UNIT_VOXELS = 2**18
"""Of larger images, about this many voxels are looked at for their unit (docs/constants.md)."""


def unit_exponent(image: npt.NDArray[Any]) -> int:
    """Returns the power of two that an image's intensities are best counted in.

    Differences and ratios of intensities leave the range of floats where they are near its ends.
    The usual intensities count, not the few of a value that stands for "no data".

    Args:
        image: (z, y, x), any numeric type; voxels that are 0 or not finite are ignored.

    Returns:
        0 for all but images of very large or very small numbers of 64 bits or more. Smaller ones
        have room enough in the floats that they are reckoned with.
    """
    if not np.issubdtype(image.dtype, np.floating) or image.itemsize < 8:
        return 0
    step = max(1, math.ceil((image.size / UNIT_VOXELS) ** (1 / 3)))
    seen = image[::step, ::step, ::step]
    seen = seen[np.isfinite(seen) & (seen != 0)]
    if seen.size == 0:
        return 0
    exponent = int(np.median(np.frexp(seen)[1]))
    return exponent if abs(exponent) > MOST_EXPONENT else 0


def in_unit(image: npt.NDArray[Any], exponent: int) -> npt.NDArray[Any]:
    """Returns an image's intensities counted in 2 to the power of `exponent`."""
    with np.errstate(over="ignore", under="ignore"):  # what is too large becomes infinite
        return np.asarray(np.ldexp(image, -exponent))


def shift_window(window: IntensityWindow, exponent: int) -> IntensityWindow:
    """Returns a window times 2 to the power of `exponent`, or as far out as floats go."""
    with np.errstate(over="ignore", under="ignore"):
        low, high = np.nan_to_num(np.ldexp(window, exponent)).tolist()
    return IntensityWindow(low, high)


def intensity_window(
    image: npt.NDArray[Any], low_percentile: float, high_percentile: float
) -> IntensityWindow:
    """Finds the intensities that normalisation maps to 0 and 255 (paper, 2.1).

    Args:
        image: volume of any shape and numeric type; non-finite voxels are ignored.
        low_percentile: 0..100, taken over the foreground: the voxels above the lowest value.
        high_percentile: 0..100, likewise.

    Returns:
        (low, high) in the image's units, low < high but for constant images, where both are equal.
    """
    finite = image[np.isfinite(image)] if np.issubdtype(image.dtype, np.inexact) else image.ravel()
    if finite.size == 0:
        return IntensityWindow(0.0, 0.0)
    foreground = finite[finite > finite.min()]
    if foreground.size == 0:
        return IntensityWindow(float(finite[0]), float(finite[0]))
    if not _can_subtract(foreground):
        foreground = foreground.astype(np.float64)
    with np.errstate(over="ignore"):
        found = np.percentile(foreground, (low_percentile, high_percentile))
    low, high = np.nan_to_num(found)
    if low == high:
        return IntensityWindow(float(finite.min()), float(high))
    return IntensityWindow(float(low), float(high))


def _can_subtract(values: npt.NDArray[Any]) -> bool:
    """Says whether the difference of two values fits into their type, as np.percentile needs it."""
    if np.issubdtype(values.dtype, np.signedinteger):
        return int(values.max()) - int(values.min()) <= np.iinfo(values.dtype).max
    return values.dtype != np.bool_


def normalise(image: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Maps intensities linearly from `window` to 0..255, clipping what lies outside.

    Args:
        image: (z, y, x), any numeric type; non-finite voxels become 0 or 255 by their sign, NaN 0.
        window: (low, high) in the image's units; where both are equal the result is all zero.

    Returns:
        (z, y, x) uint8, 0..255.
    """
    low, high = window
    result = np.zeros(image.shape, np.uint8)
    if high > low:
        exact = np.promote_types(image.dtype, np.float32)
        if not 2.0**-MOST_EXPONENT < high - low < 2.0**MOST_EXPONENT:
            exact = np.promote_types(exact, np.float64)
        for index, plane in enumerate(image):  # by slice, so that the floats stay few
            # What is too large for a float becomes infinite, and is clipped; NaN is 0.
            with np.errstate(over="ignore", invalid="ignore"):
                scaled = (plane.astype(exact) - low) * (255 / (high - low))
            result[index] = np.rint(np.nan_to_num(scaled.clip(0, 255)))
    return result

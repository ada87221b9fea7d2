"""Intensities of any numeric type, brought to 0..255 (paper, 2.1; docs/design.md, 3)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.windows import IntensityWindow


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
    if foreground.dtype in (np.bool_, np.int8):  # numpy subtracts neighbours: an error, or wraps
        foreground = foreground.astype(np.int16)
    low, high = np.percentile(foreground, (low_percentile, high_percentile))
    if low == high:
        return IntensityWindow(float(finite.min()), float(high))
    return IntensityWindow(float(low), float(high))


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
        for index, plane in enumerate(image):  # by slice, so that the floats stay few
            # What is too large for a float becomes infinite, and is clipped; NaN is 0.
            with np.errstate(over="ignore", invalid="ignore"):
                scaled = (plane.astype(exact) - low) * (255 / (high - low))
            result[index] = np.rint(np.nan_to_num(scaled.clip(0, 255)))
    return result

"""How clear the border of a mask is in a slice."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BORDER_PIXELS = 2
"""Width, on each side of a mask's border, of what is compared across it (docs/constants.md)."""

CONTRAST_NOISE = 3.0
"""Grey levels added to the standard deviation that a border's contrast is counted in
(docs/constants.md)."""


def border_contrast(image: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float:
    """Returns the difference of mean intensity across a mask's border, in standard deviations.

    Args:
        image: (rows, columns), 0..255.
        mask: (rows, columns) bool.

    Returns:
        0 or more; 0 also where the mask has no inside or no outside.
    """
    inner = image[mask & ~ndimage.binary_erosion(mask, iterations=BORDER_PIXELS, border_value=1)]
    outer = image[ndimage.binary_dilation(mask, iterations=BORDER_PIXELS) & ~mask]
    if inner.size == 0 or outer.size == 0:
        return 0.0
    spread = np.sqrt((inner.var() + outer.var()) / 2) + CONTRAST_NOISE
    return float(abs(inner.mean() - outer.mean()) / spread)

"""A threshold in 2-D: Otsu's, between the two kinds of pixels in the box (scikit-image)."""

import numpy as np

from benchmarks.candidates.boxed import BoxedSegmenter, Image
from benchmarks.phantoms import Mask
from gamt.prompts import PixelBox, SlicePrompt


def threshold() -> BoxedSegmenter:
    """Makes the segmenter."""
    return BoxedSegmenter("threshold", _inside)


def _inside(image: Image, box: PixelBox, prompt: SlicePrompt) -> Mask:
    """Returns the pixels of the box on the side that its middle half is on.

    See `benchmarks.candidates.boxed.Inside`.
    """
    from skimage.filters import threshold_otsu

    x0, y0, x1, y1 = box
    inside = np.zeros(image.shape, np.bool_)
    part = image[y0:y1, x0:x1]
    if part.min() == part.max():
        inside[y0:y1, x0:x1] = True
        return inside
    bright = part > threshold_otsu(part)
    rows, columns = ((side // 4, side - side // 4) for side in part.shape)
    middle = bright[slice(*rows), slice(*columns)]
    inside[y0:y1, x0:x1] = bright if middle.mean() >= 0.5 else ~bright
    return inside

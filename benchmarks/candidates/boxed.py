"""A 2-D segmenter that answers every prompt with yes or no, pixel by pixel in a box."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.phantoms import Mask
from gamt.prompts import PixelBox, SlicePrompt
from gamt.segmenters.base import SliceMask, Traits

Image = npt.NDArray[np.uint8]

SURE = np.float32(2)
"""Log-odds of a yes, in the range of those that other segmenters give."""

QUALITY = 0.7
"""The IoU that is expected of any mask: it can't be told."""

LONE_REACH = 16
"""Half the side, in pixels, of the box that stands for a click without one."""


class Inside(Protocol):
    """What differs between these segmenters."""

    def __call__(self, image: Image, box: PixelBox, prompt: SlicePrompt) -> Mask:
        """Segments a slice.

        Args:
            image: (rows, columns), 0..255.
            box: half-open (x0, y0, x1, y1) within the slice, a pixel wide at least.
            prompt: for its points.

        Returns:
            (rows, columns), True inside the target.
        """


class BoxedSegmenter:
    """Makes a segmenter of a function; earlier masks have no part in it but for their boxes."""

    # What the functions know are intensities, so that they are lifted as the embedded one is.
    traits = Traits(intensities_alone=True)

    def __init__(self, name: str, inside: Inside) -> None:
        self.name = name
        self._inside = inside

    def encode(self, slices: Image) -> Sequence[Image]:
        """Keeps the slices."""
        return list(slices)

    def decode(
        self,
        embeddings: Sequence[Image],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Segments each slice for the prompt at the same position; `multimask` means nothing."""
        return [self._answer(*pair) for pair in zip(embeddings, prompts, strict=True)]

    def _answer(self, image: Image, prompt: SlicePrompt) -> SliceMask:
        inside = np.zeros(image.shape, np.bool_)
        box = _box_of(prompt, image.shape)
        if box is not None:
            inside = self._inside(image, box, prompt)
        for (x, y), label in zip(prompt.points.astype(int), prompt.labels, strict=True):
            inside[y, x] = label == 1
        logits = np.where(inside, SURE, -SURE)
        return SliceMask(logits, QUALITY if inside.any() else 0.0)


def _box_of(prompt: SlicePrompt, shape: tuple[int, ...]) -> PixelBox | None:
    """Returns the prompt's box, or one around its first point inside; None without both."""
    if prompt.box is not None:
        x0, y0, x1, y1 = (round(bound) for bound in prompt.box)
    elif (prompt.labels == 1).any():
        x, y = prompt.points[prompt.labels == 1][0].astype(int).tolist()
        x0, y0, x1, y1 = x - LONE_REACH, y - LONE_REACH, x + LONE_REACH + 1, y + LONE_REACH + 1
    else:
        return None
    rows, columns = shape
    x0, y0 = min(max(x0, 0), columns - 1), min(max(y0, 0), rows - 1)
    return x0, y0, min(max(x1, x0 + 1), columns), min(max(y1, y0 + 1), rows)

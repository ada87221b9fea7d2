"""GrabCut in 2-D: colour models of both sides and a graph cut (Rother 2004; OpenCV)."""

import numpy as np

from benchmarks.candidates.boxed import BoxedSegmenter, Image
from benchmarks.phantoms import Mask
from gamt.prompts import PixelBox, SlicePrompt

ITERATIONS = 5

MARGIN = 0.5
"""Room around the box, as a share of its sides: what the background is learnt from."""

LEAST_MARGIN = 8
"""The same, in pixels."""

POINT_RADIUS = 1
"""Pixels around a point that are its side for sure."""


def grabcut() -> BoxedSegmenter:
    """Makes the segmenter."""
    return BoxedSegmenter("grabcut", _inside)


def _inside(image: Image, box: PixelBox, prompt: SlicePrompt) -> Mask:
    """See `benchmarks.candidates.boxed.Inside`."""
    import cv2

    x0, y0, x1, y1 = box
    room_x, room_y = (max(LEAST_MARGIN, round(MARGIN * n)) for n in (x1 - x0, y1 - y0))
    low_x, low_y = max(0, x0 - room_x), max(0, y0 - room_y)
    window = slice(low_y, y1 + room_y), slice(low_x, x1 + room_x)
    part = image[window]
    sides = np.full(part.shape, cv2.GC_BGD, np.uint8)
    sides[y0 - low_y : y1 - low_y, x0 - low_x : x1 - low_x] = cv2.GC_PR_FGD
    for (x, y), label in zip(prompt.points.astype(int), prompt.labels, strict=True):
        top, left = max(0, y - low_y - POINT_RADIUS), max(0, x - low_x - POINT_RADIUS)
        around = slice(top, y - low_y + POINT_RADIUS + 1), slice(left, x - low_x + POINT_RADIUS + 1)
        sides[around] = cv2.GC_FGD if label == 1 else cv2.GC_BGD
    inside = np.zeros(image.shape, np.bool_)
    # A model of a side needs pixels of it.
    if np.isin(sides, (cv2.GC_FGD, cv2.GC_PR_FGD)).all():
        inside[window] = True
        return inside
    cv2.setRNGSeed(0)  # it begins with a random clustering
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(
        cv2.cvtColor(part, cv2.COLOR_GRAY2BGR),
        sides,
        (0, 0, 0, 0),  # not looked at beside a mask
        *models,
        ITERATIONS,
        cv2.GC_INIT_WITH_MASK,
    )
    inside[window] = np.isin(sides, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return inside

"""Rounds of a candidate that works in 3-D: boxes draw the first result, clicks correct the last."""

from collections.abc import Callable

import numpy as np

from benchmarks.phantoms import Labels, Mask
from gamt.io.case import Case
from gamt.lifting.contradictions import error_radius
from gamt.lifting.evidence import Scale
from gamt.lifting.refinement import ball_around
from gamt.prompts import Box, Click

LONE_RADIUS = 5.0
"""Of the ball at a click where there is no mask yet, in voxels of the finest spacing."""

Start = Callable[[Case, Box], Mask]
"""(case, box) -> (z, y, x), the target."""

Correct = Callable[[Case, Mask, Click, Box], Mask]
"""(case, mask, click, the box of its ball) -> (z, y, x), where the click's side is right."""


def segment_in_rounds(case: Case, start: Start, correct: Correct) -> Labels:
    """Segments a case.

    Where the boxes' results overlap, the smaller box wins. A click that the last result contradicts
    changes voxels to its side, in a ball as large as the click is deep or near it.

    Args:
        case: the scan and all prompts so far.
        start: finds a target from its box.
        correct: finds what a click changes.
    """
    if case.previous is None:
        labels: Labels = np.zeros(case.image.shape, np.uint8)
        boxes = [(one.box, one.label) for one in case.prompts if one.box is not None]
        for box, label in sorted(boxes, key=lambda pair: -pair[0].volume):
            labels[start(case, box)] = label
        return labels
    labels = case.previous.copy()
    scale = voxel_scale(case)
    for one in case.prompts:
        for click in one.clicks:
            mask = labels == one.label
            if mask[click.voxel] == click.positive:
                continue
            radius = error_radius(mask, click.voxel, scale) if mask.any() else LONE_RADIUS
            changed = correct(case, mask, click, ball_around(click, radius, scale))
            changed[click.voxel] = True
            labels[changed & (mask != click.positive)] = one.label if click.positive else 0
    return labels


def voxel_scale(case: Case) -> Scale:
    """Returns the voxel's size (z, y, x) in units of its finest side."""
    z, y, x = (side / min(case.spacing_mm) for side in case.spacing_mm)
    return z, y, x

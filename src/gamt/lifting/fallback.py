"""What a class falls back on where the segmenter fails or the time runs out (docs/design.md, 10).

In this order:

1. The views that there are. A slice that the segmenter fails at is stepped over: the masks beside
   it vote on it. A plane whose first slice it fails at is left out. In axial slices that no view
   came to, the shape that the prompts draw takes the views' place.
2. Without any view, the previous prediction, corrected by what prompts say by themselves.
3. Without one, the shape that the prompts draw: the ellipsoid of a box, the ellipse or lasso on one
   slice, the body that the first click or scribble stands in, or else a ball around it.

In the end, clicks and scribbles are obeyed, as always. A class that is empty though nothing failed
stays so.
"""

import numpy as np
import numpy.typing as npt

from gamt.lifting.budget import OutOfTime
from gamt.lifting.propagation import Walk, stop
from gamt.lifting.seeding import fill_section
from gamt.lifting.shape import prior_logits
from gamt.lifting.target import Target
from gamt.prompts import Click, Scribble
from gamt.segmenters.door import SegmenterFault

Mask = npt.NDArray[np.bool_]

BALL_SHARE = 0.05
"""Radius of the ball around a click of which nothing else is known, as a share of the side of a
cube that is as large as the scan (docs/constants.md)."""


def noting(target: Target, walk: Walk) -> Walk:
    """Lets a class walk, and takes note of what was not answered."""
    shortfall = target.shortfall
    requests = next(walk, None)
    while requests is not None:
        try:
            answers = yield requests
        except OutOfTime as up:
            shortfall.is_cut_short = True
            stop(walk, up)
            raise
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, SegmenterFault):
                shortfall.faults.setdefault(request.plane, []).append(str(answer))
            elif isinstance(answer, OutOfTime):
                shortfall.is_cut_short = True
            else:
                shortfall.seen.add(request.plane)
        try:
            requests = walk.send(answers)
        except StopIteration:
            return


def fall_back(target: Target, mask: Mask) -> Mask:
    """Returns a class's mask, or what its prompts draw where it came out empty for want of answers.

    Args:
        target: the class.
        mask: (z, y, x) bool over its region.
    """
    if mask.any() or not target.shortfall.any or target.previous is not None:
        return mask
    return draw(target)


def draw(target: Target) -> Mask:
    """Returns the shape that a class's prompts draw, (z, y, x) bool over its region."""
    prompts, (low, high) = target.prompts, target.region
    shape = np.subtract(high, low).tolist()
    if prompts.box is not None:
        return prior_logits(prompts.box, target.rivals, low, shape) > 0
    if prompts.slice_box is not None:
        return fill_section(target, prompts.slice_box) > 0.5
    if target.found is not None:
        return target.found.scales[target.settings.scale].within(target.region)
    if not isinstance(prompts.first, Click | Scribble):
        return np.zeros(shape, np.bool_)
    first = prompts.first
    centre = first.voxel if isinstance(first, Click) else first.middle
    sides_mm = np.multiply(target.image.shape, target.spacing_mm)
    radius_mm = BALL_SHARE * float(np.cbrt(np.prod(sides_mm)))
    squared: npt.NDArray[np.float64] = np.zeros((1, 1, 1))
    places = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    for place, voxel, mm in zip(places, centre, target.spacing_mm, strict=True):
        squared = squared + ((place - voxel) * mm) ** 2
    return np.asarray(squared <= radius_mm**2)

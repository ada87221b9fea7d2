"""What a class falls back on where the segmenter fails or the time runs out (docs/design.md, 10).

In this order:

1. The views that there are. A slice that the segmenter fails at is stepped over: the masks beside
   it vote on it. A plane whose first slice it fails at is left out, and so is the rest of one in
   which it fails several times in a row. In axial slices that no view came to, the shape that the
   prompts draw takes the views' place.
2. Without any view, the previous prediction, corrected by what prompts say by themselves.
3. Without one, the shape that the prompts draw: the ellipsoid of a box, the ellipse or lasso on one
   slice, the body that the first click or scribble stands in, or else a ball around it.

In the end, clicks and scribbles are obeyed, as always. A class that is empty though nothing failed
stays so. Where a case can't be lifted at all, for want of memory, its classes begin with 2, and
bodies aren't looked for.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane
from gamt.io.case import Case
from gamt.lifting.budget import OutOfTime
from gamt.lifting.postprocess import obey_clicks, obey_scribbles
from gamt.lifting.propagation import Answer, Walk, stop
from gamt.lifting.seeding import fill_section
from gamt.lifting.shape import prior_logits
from gamt.lifting.shortfall import Shortfall
from gamt.lifting.target import Target
from gamt.prompts import Box, ClassPrompts, Click, Scribble
from gamt.segmenters.door import SegmenterFault
from gamt.volume.geometry import Range

Mask = npt.NDArray[np.bool_]

FAULTS_IN_A_ROW = 4
"""Faults of a class in a plane, one after the other, after which the segmenter is asked no more
there: that would cost time which others need (docs/constants.md)."""

BALL_SHARE = 0.05
"""Radius of the ball around a click of which nothing else is known, as a share of the side of a
cube that is as large as the scan (docs/constants.md)."""


def noting(shortfall: Shortfall, walk: Walk) -> Walk:
    """Lets a class walk, and takes note of what was not answered.

    Where the segmenter has failed `FAULTS_IN_A_ROW` times, it isn't asked any more: the class's
    further questions in the plane have the last fault for an answer. Other classes have rows of
    their own, and are asked about all the same.

    Args:
        shortfall: of the class.
        walk: of the class.
    """
    requests = next(walk, None)
    while requests is not None:
        asked = [one for one in requests if shortfall.in_a_row[one.plane] < FAULTS_IN_A_ROW]
        try:
            made = iter((yield asked))
        except OutOfTime as up:
            shortfall.is_cut_short = True
            stop(walk, up)
            raise
        answers: list[Answer] = [
            next(made) if one in asked else SegmenterFault(shortfall.faults[one.plane][-1])
            for one in requests
        ]
        for request, answer in zip(requests, answers, strict=True):
            _note(shortfall, request.plane, answer)
        try:
            requests = walk.send(answers)
        except StopIteration:
            return


def noting_steps(shortfall: Shortfall, check: Callable[[], None]) -> Callable[[], None]:
    """Returns a check that takes note of it where a class has no time for a step.

    Args:
        shortfall: of the class.
        check: raises `OutOfTime` then, and so does what is returned.
    """

    def check_and_note() -> None:
        try:
            check()
        except OutOfTime:
            shortfall.is_cut_short = True
            raise

    return check_and_note


def _note(shortfall: Shortfall, plane: Plane, answer: Answer) -> None:
    """Takes note of an answer to a class's question in a plane."""
    if isinstance(answer, SegmenterFault):
        shortfall.faults.setdefault(plane, []).append(str(answer))
        shortfall.in_a_row[plane] += 1
    elif isinstance(answer, OutOfTime):
        shortfall.is_cut_short = True
    else:
        shortfall.seen.add(plane)
        shortfall.in_a_row[plane] = 0
        shortfall.has_found = shortfall.has_found or bool(answer.mask.any())


def fall_back(target: Target, mask: Mask) -> Mask:
    """Returns a class's mask, or what its prompts draw where it came out empty for want of answers.

    Args:
        target: the class.
        mask: (z, y, x) bool over its region.
    """
    if mask.any() or not target.shortfall.lacks_answers or target.previous is not None:
        return mask
    prompts = target.prompts
    if prompts.box is None and prompts.slice_box is None and target.found is not None:
        return target.found.scales[target.settings.scale].within(target.region)
    return draw(prompts, target.region, target.image.shape, target.spacing_mm, target.rivals)


def draw(
    prompts: ClassPrompts,
    region: Range,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    rivals: Sequence[Box] = (),
) -> Mask:
    """Returns the shape that a class's prompts draw by themselves, (z, y, x) bool over a region.

    Args:
        prompts: of the class; negative ones alone draw nothing.
        region: raw bounds.
        shape: of the scan (z, y, x).
        spacing_mm: of its voxels (z, y, x).
        rivals: boxes of smaller classes, whose ellipsoids are left to them.
    """
    low, high = region
    size = np.subtract(high, low).tolist()
    if prompts.box is not None:
        return prior_logits(prompts.box, rivals, low, size) > 0
    if prompts.slice_box is not None:
        return fill_section(region, prompts.slice_box) > 0.5
    if not isinstance(prompts.first, Click | Scribble):
        return np.zeros(size, np.bool_)
    radius_mm = _radius_mm(shape, spacing_mm)
    squared: npt.NDArray[np.float64] = np.zeros((1, 1, 1))
    places = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    for place, voxel, mm in zip(places, _centre(prompts.first), spacing_mm, strict=True):
        squared = squared + ((place - voxel) * mm) ** 2
    return np.asarray(squared <= radius_mm**2)


def draw_case(case: Case) -> npt.NDArray[np.uint8]:
    """Segments a case without a segmenter and without a look at its image, from little memory.

    Args:
        case: the scan and its prompts.

    Returns:
        (z, y, x) uint8, 0 or a class's label: the previous prediction, and beside it what the
        prompts of classes draw that it has nothing of, smaller boxes before larger ones.
    """
    previous, shape = case.previous, case.image.shape
    labels = np.zeros(shape, np.uint8) if previous is None else previous.copy()
    for one in sorted(case.prompts, key=lambda one: one.box.volume if one.box else 0, reverse=True):
        region = _drawn_range(one, shape, case.spacing_mm)
        if region is None or any((layer == one.label).any() for layer in labels):
            continue
        (z0, y0, x0), (z1, y1, x1) = region
        # Of what may be as large as the scan, slice by slice: there may be no memory for all.
        step = 1 if one.box is not None else z1 - z0
        for z in range(z0, z1, step):
            part = slice(z, z + step), slice(y0, y1), slice(x0, x1)
            inside = draw(one, ((z, y0, x0), (z + step, y1, x1)), shape, case.spacing_mm)
            if previous is not None:
                inside &= previous[part] == 0
            labels[part][inside] = one.label
    for one in case.prompts:
        obey_scribbles(labels, one)
    for one in case.prompts:
        obey_clicks(labels, one)
    return labels


def _drawn_range(
    prompts: ClassPrompts, shape: Sequence[int], spacing_mm: Sequence[float]
) -> Range | None:
    """Returns the raw bounds of what `draw` draws; None for nothing."""
    first = prompts.first
    if first is None:
        return None
    if not isinstance(first, Click | Scribble):
        return first.low, first.high
    radius_mm = _radius_mm(shape, spacing_mm)
    radii = [int(min(radius_mm / mm, size)) for mm, size in zip(spacing_mm, shape, strict=True)]
    z0, y0, x0 = (max(0, at - r) for at, r in zip(_centre(first), radii, strict=True))
    z1, y1, x1 = (
        min(size, at + r + 1) for at, r, size in zip(_centre(first), radii, shape, strict=True)
    )
    return (z0, y0, x0), (z1, y1, x1)


def _radius_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Returns the radius of a ball of which nothing is known but the scan's size."""
    return BALL_SHARE * float(np.cbrt(np.prod(np.multiply(shape, spacing_mm))))


def _centre(mark: Click | Scribble) -> tuple[int, int, int]:
    return mark.voxel if isinstance(mark, Click) else mark.middle

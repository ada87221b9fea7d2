"""What a case gets where lifting itself failed: little, but from little memory and without fail."""

import numpy as np
import numpy.typing as npt

from gamt.io.case import Case
from gamt.lifting.fallback import BALL_SHARE
from gamt.lifting.pipeline import obey_clicks, obey_scribbles
from gamt.lifting.shape import prior_logits
from gamt.prompts import Box, ClassPrompts, Click, Scribble, SliceBox


def last_resort(case: Case) -> npt.NDArray[np.uint8]:
    """Segments a case without a segmenter and without a look at its image.

    Classes of a previous prediction are as there. Others get, where that has nothing, the shape
    that their first prompt draws: the ellipsoid in a box, or a ball around a click. Smaller boxes
    go before larger ones. Clicks and scribbles are obeyed.

    Args:
        case: the scan and its prompts.

    Returns:
        (z, y, x) uint8, 0 or a class's label.
    """
    previous = case.previous
    labels = np.zeros(case.image.shape, np.uint8) if previous is None else previous.copy()
    for prompts in sorted(case.prompts, key=_size, reverse=True):
        if previous is None or not (previous == prompts.label).any():
            _draw(labels, case, prompts)
    for prompts in case.prompts:
        obey_scribbles(labels, prompts)
    for prompts in case.prompts:
        obey_clicks(labels, prompts)
    return labels


def _size(prompts: ClassPrompts) -> int:
    return 0 if prompts.box is None else prompts.box.volume


def _draw(labels: npt.NDArray[np.uint8], case: Case, prompts: ClassPrompts) -> None:
    """Draws the shape of a class's first prompt into labels, but not onto a previous prediction."""
    first = prompts.first
    if first is None:  # negative clicks alone
        return
    low: tuple[int, ...]
    high: tuple[int, ...]
    if isinstance(first, Box | SliceBox):
        low, high = first.low, first.high
        box = first if isinstance(first, Box) else _as_box(first)
        inside = prior_logits(box, (), low, np.subtract(high, low).tolist()) > 0
    else:
        low, high, inside = _ball(case, first)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if case.previous is not None:
        inside &= case.previous[part] == 0
    labels[part][inside] = prompts.label


def _as_box(drawn: SliceBox) -> Box:
    (z0, y0, x0), (z1, y1, x1) = drawn.low, drawn.high
    return Box(z0, z1, (z0 + z1 - 1) // 2, y0, y1, x0, x1)


def _ball(
    case: Case, mark: Click | Scribble
) -> tuple[tuple[int, ...], tuple[int, ...], npt.NDArray[np.bool_]]:
    """Returns first and end voxel (z, y, x) of a ball's part of the scan, and what is inside."""
    shape, spacing_mm = case.image.shape, case.spacing_mm
    centre = mark.voxel if isinstance(mark, Click) else mark.middle
    radius_mm = BALL_SHARE * float(np.cbrt(np.prod(np.multiply(shape, spacing_mm))))
    radii = [int(min(radius_mm / mm, size)) for mm, size in zip(spacing_mm, shape, strict=True)]
    low = tuple(max(0, at - radius) for at, radius in zip(centre, radii, strict=True))
    high = tuple(
        min(size, at + radius + 1) for at, radius, size in zip(centre, radii, shape, strict=True)
    )
    squared = np.zeros((1, 1, 1))
    places = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    for place, at, mm in zip(places, centre, spacing_mm, strict=True):
        squared = squared + np.square((place - at) * mm)
    return low, high, squared <= radius_mm**2

"""Walking through the slices of a plane, each slice's mask prompting the next (paper, 2.2).

A walk is a generator: it yields the slices that it wants segmented next and is sent their masks.
`together` joins many walks, of all classes, planes and directions, so that the segmenter sees
their questions in batches.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import Plane, bounding_range
from gamt.lifting.budget import OutOfTime, Stopwatch
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.settings import Settings
from gamt.volume.scan import Scan, SliceRequest

Walk = Generator[list[SliceRequest], Sequence[SliceMask], None]

CORE_SHARE = 0.5
"""Pixels at least this share of the largest distance from the border form a mask's core."""

AHEAD = 16
"""Slices that a request announces beside its own; no segmenter takes larger batches."""

MAX_SIDE = 128
"""A larger mask is thinned out to about this many pixels a side to find its interior point."""

LOOK_SPREADS, LOOK_SLACK = 3.0, 10.0
"""How far a target's usual intensity may stray: in its own spreads, and grey levels (measured)."""


def tight_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Returns the half-open bounds (x0, y0, x1, y1) of a slice's mask; None where it is empty."""
    bounds = bounding_range(mask)
    if bounds is None:
        return None
    (y0, x0), (y1, x1) = bounds
    return x0, y0, x1, y1


def interior_point(mask: npt.NDArray[np.bool_], image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Chooses the point that stands for a mask (paper, 2.2, "Internal Point Prompt Generation").

    The pixels farthest from the border are the core; among them, the point is chosen that is both
    far from the border and of an intensity that is usual in the core.

    Args:
        mask: (rows, columns) bool, not empty.
        image: (rows, columns) uint8, the slice that the mask belongs to.

    Returns:
        The pixel (x, y); it lies inside the mask.
    """
    bounds = bounding_range(mask)
    if bounds is None:
        raise ValueError("an empty mask has no interior point")
    (y0, x0), (y1, x1) = bounds
    thin = -(-max(y1 - y0, x1 - x0) // MAX_SIDE)
    inside = mask[y0:y1:thin, x0:x1:thin]
    if not inside.any():
        thin, inside = 1, mask[y0:y1, x0:x1]
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    distance /= distance.max()
    intensity = image[y0:y1:thin, x0:x1:thin].astype(np.float32)
    core = intensity[distance >= CORE_SHARE]
    usual = np.median(core)
    spread = 1.0 + np.median(np.abs(core - usual))
    score = distance * np.exp(-np.abs(intensity - usual) / (2 * spread))
    y, x = np.unravel_index(np.argmax(score), score.shape)
    return x0 + int(x) * thin, y0 + int(y) * thin


def next_prompt(mask: SliceMask, image: npt.NDArray[np.uint8]) -> SlicePrompt:
    """Makes the prompt for the neighbouring slice: tight box, interior point, and the scores.

    Args:
        mask: of the current slice, not empty.
        image: (rows, columns) uint8, the current slice.
    """
    point = interior_point(mask.mask, image)
    return SlicePrompt(tight_box(mask.mask), np.array([point], float), np.array([1]), mask.low_res)


@dataclass(frozen=True, slots=True)
class Look:
    """The intensities that are usual in a target.

    Attributes:
        usual: their median, 0..255.
        spread: their median distance from it.
    """

    usual: float
    spread: float

    @classmethod
    def of(cls, intensities: npt.NDArray[np.uint8]) -> "Look":
        """Learns from the pixels of a target."""
        usual = float(np.median(intensities))
        return cls(usual, float(np.median(np.abs(intensities.astype(np.float32) - usual))))

    def fits(self, intensities: npt.NDArray[np.uint8]) -> bool:
        """Says whether pixels may be the same target's: their median is not out of the usual."""
        away = abs(float(np.median(intensities)) - self.usual)
        return away <= LOOK_SPREADS * self.spread + LOOK_SLACK


class End(Enum):
    """Why a walk went no further in a direction."""

    VANISHED = "vanished"  # the mask is empty
    UNSURE = "unsure"  # the model's own quality is too low
    JUMPED = "jumped"  # the mask hardly overlaps that of the slice before
    GREW = "grew"  # the mask is far larger than that of the slice before
    STRANGE = "strange"  # it looks like something else than the target
    CORRECTED = "corrected"  # there is nothing more to correct
    RANGE = "range"  # it was the last slice to visit
    TIME = "time"  # the time was up


def lost(previous: SliceMask, mask: SliceMask, settings: Settings) -> End | None:
    """Returns how a walk has lost its target from one slice to the next; None if it has not."""
    before, after = previous.mask, mask.mask
    area = int(after.sum())
    if area == 0:
        return End.VANISHED
    if mask.quality < settings.min_quality:
        return End.UNSURE
    smaller = min(area, int(before.sum()))
    both = int((before & after).sum())
    if both < settings.min_overlap * smaller:
        return End.JUMPED
    return End.GREW if area > settings.max_growth * before.sum() else None


Ask = Callable[[int, int, SliceMask], SlicePrompt]
"""(slice, slice before, its mask) -> the prompt for the slice."""

Accept = Callable[[int, SlicePrompt, SliceMask | None, SliceMask], SliceMask | None]
"""(slice, prompt, mask before or None, mask) -> the mask to go on with, or None to end."""


def walk(
    plane: Plane,
    anchor: int,
    prompt: SlicePrompt,
    indices: Iterable[int],
    ask: Ask,
    accept: Accept,
    step: Callable[[], int] = lambda: 1,
) -> Walk:
    """Segments a plane's slices outwards from an anchor, in both directions at once.

    Args:
        plane: the plane of all slices.
        anchor: the slice to begin with, a grid index.
        prompt: for the anchor.
        indices: the slices that may be visited, grid indices.
        ask: makes the prompts of the slices after the anchor.
        accept: is told every mask, and decides how the walk goes on.
        step: asked once, after the anchor: how many slices to step at a time. The last slice of
            each direction is visited whatever the step.
    """
    ordered = sorted(set(indices))
    down = [index for index in reversed(ordered) if index < anchor]
    up = [index for index in ordered if index > anchor]
    nearest = [index for pair in zip_longest(down, up) for index in pair if index is not None]
    (mask,) = yield [SliceRequest(plane, anchor, prompt, ahead=nearest[:AHEAD])]
    start = accept(anchor, prompt, None, mask)
    if start is None:
        return
    stride = step()
    fronts = [(thin_out(way, stride), anchor, start) for way in (down, up)]
    while fronts:
        steps = []
        for way, before, mask in fronts:
            if way:
                steps.append((way, mask, ask(way[0], before, mask)))
        if not steps:
            return
        masks = yield [
            SliceRequest(plane, way[0], prompt, ahead=way[1 : 1 + AHEAD])
            for way, _, prompt in steps
        ]
        fronts = []
        for (way, last, prompt), mask in zip(steps, masks, strict=True):
            accepted = accept(way[0], prompt, last, mask)
            if accepted is not None:
                fronts.append((way[1:], way[0], accepted))


def thin_out(way: Sequence[int], stride: int) -> Sequence[int]:
    """Keeps every `stride`-th slice of a way, and its last one."""
    return [*way[stride - 1 : -1 : stride], *way[-1:]]


def together(walks: Iterable[Walk]) -> Walk:
    """Joins walks into one that asks the questions of all of them at every step."""
    started = [(one, next(one, None)) for one in walks]
    waiting = [(one, batch) for one, batch in started if batch is not None]
    while waiting:
        answers = iter((yield [request for _, batch in waiting for request in batch]))
        going = []
        for one, batch in waiting:
            try:
                going.append((one, one.send([next(answers) for _ in batch])))
            except StopIteration:
                continue
        waiting = going


def run(walk: Walk, scan: Scan, stopwatch: Stopwatch) -> bool:
    """Drives a walk to its end, or until the time is up.

    Returns:
        Whether it came to its end.
    """
    masks: Sequence[SliceMask] | None = None
    try:
        while True:
            requests = next(walk) if masks is None else walk.send(masks)
            stopwatch.lap()
            masks = scan.decode(requests, stopwatch.lap)
    except StopIteration:
        return True
    except OutOfTime:
        return False

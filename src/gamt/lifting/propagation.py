"""Walking through the slices of a plane, each slice's mask prompting the next (paper, 2.2).

A walk is a generator: it yields the slices that it wants segmented next and is sent the answers.
An answer is a mask, a fault of the segmenter, or `OutOfTime` where there was no time for it: then
the walk raises that, once it has made use of the others. `together` joins many walks, of all
classes, planes and directions, so that the segmenter sees their questions in batches. When the time
is up, `OutOfTime` is thrown into every walk, so that it can return what it has.
"""

import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range
from gamt.lifting.budget import OutOfTime, Stopwatch, StridePlanner
from gamt.prompts import PixelBox, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.segmenters.door import SegmenterFault
from gamt.settings import Settings
from gamt.volume.scan import Scan, SliceRequest

T = TypeVar("T")

Answer = SliceMask | SegmenterFault | OutOfTime
"""What comes back for a slice: a mask, or why there is none."""

Seeking = Generator[list[SliceRequest], Sequence[Answer], T]
"""Asks for slices, is sent the answers, and returns what came of it."""

Walk = Seeking[None]
"""A walk whose masks are votes, and that returns nothing else."""

CORE_SHARE = 0.5
"""Pixels at least this share of the largest distance from the border form a mask's core
(docs/constants.md)."""

MAX_SIDE = 128
"""A larger mask is thinned out to about this many pixels a side to find its interior point
(docs/constants.md)."""

MOST_DEVIATIONS, MOST_GREY_LEVELS = 3.0, 10.0
"""How far a target's median intensity may stray: this many of its own deviations, and this many
grey levels on top (docs/constants.md)."""


def tight_box(mask: npt.NDArray[np.bool_]) -> PixelBox | None:
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
    """Makes the prompt for the neighbouring slice: tight box, interior point, and what is known.

    Args:
        mask: of the current slice, not empty.
        image: (rows, columns) uint8, the current slice.
    """
    point = interior_point(mask.mask, image)
    return SlicePrompt(
        tight_box(mask.mask),
        np.array([point], float),
        np.array([1]),
        mask.logits if mask.state is None else None,
        mask.state,
    )


@dataclass(frozen=True, slots=True)
class Appearance:
    """The intensities that are usual in a target.

    Attributes:
        median: of its pixels, 0..255.
        deviation: the median absolute deviation from it, in grey levels.
    """

    median: float
    deviation: float

    @classmethod
    def of(cls, intensities: npt.NDArray[np.uint8]) -> "Appearance":
        """Learns from the pixels of a target."""
        median = float(np.median(intensities))
        return cls(median, float(np.median(np.abs(intensities.astype(np.float32) - median))))

    def fits(self, intensities: npt.NDArray[np.uint8]) -> bool:
        """Says whether pixels may be the same target's: their median is close to its own."""
        return abs(float(np.median(intensities)) - self.median) <= self._tolerance

    def share(self, intensities: npt.NDArray[np.uint8]) -> float:
        """Returns the share of pixels, of one at least, that may each be the target's."""
        away = np.abs(intensities.astype(np.float32) - self.median)
        return float(np.mean(away <= self._tolerance))

    @property
    def _tolerance(self) -> float:
        return MOST_DEVIATIONS * self.deviation + MOST_GREY_LEVELS


class End(Enum):
    """Why a walk went no further in a direction."""

    VANISHED = "vanished"  # the mask is empty
    UNSURE = "unsure"  # the model's own quality is too low
    JUMPED = "jumped"  # the mask hardly overlaps that of the slice before
    GREW = "grew"  # the mask is far larger than that of the slice before
    STRANGE = "strange"  # it looks like something else than the target
    MISLED = "misled"  # the segmenter's first answer missed the user's box
    CORRECTED = "corrected"  # there is nothing more to correct
    RANGE = "range"  # it was the last slice to visit
    FAULT = "fault"  # the segmenter failed
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


def check_time(answers: Sequence[Answer]) -> None:
    """Raises `OutOfTime` where there was no time for an answer."""
    for answer in answers:
        if isinstance(answer, OutOfTime):
            raise answer


def together(walks: Iterable[Walk]) -> Walk:
    """Joins walks into one that asks the questions of all of them at every step."""
    started = [(one, next(one, None)) for one in walks]
    waiting = [(one, batch) for one, batch in started if batch is not None]
    while waiting:
        try:
            answers = iter((yield [request for _, batch in waiting for request in batch]))
        except OutOfTime as up:
            for one, _ in waiting:
                stop(one, up)
            raise
        going = []
        out_of_time = None
        for one, batch in waiting:
            try:
                going.append((one, one.send([next(answers) for _ in batch])))
            except StopIteration:
                continue
            except OutOfTime as up:  # it has made use of the answers that there were
                out_of_time = up
        if out_of_time is not None:
            for one, _ in going:
                stop(one, out_of_time)
            raise out_of_time
        waiting = going


def run(walk: Walk, scan: Scan, stopwatch: Stopwatch, strides: StridePlanner | None = None) -> bool:
    """Drives a walk to its end, or until the time is up.

    Args:
        walk: asks for slices.
        scan: answers.
        stopwatch: says when the time is up.
        strides: is told of every round of slices; None for nobody.

    Returns:
        Whether it came to its end.

    Raises:
        Cancelled: the caller of the prediction wants no result any more.
    """
    answers: Sequence[Answer] | None = None
    in_time = True
    if strides is not None:
        strides.begin()
    try:
        while True:
            requests = next(walk) if answers is None else walk.send(answers)
            stopwatch.check()
            answers = ask(scan, requests, stopwatch)
            in_time = not any(isinstance(answer, OutOfTime) for answer in answers)
            if strides is not None:
                strides.end_round(len(requests))
    except StopIteration:
        return in_time
    except OutOfTime as up:
        stop(walk, up)
        return False


def ask(scan: Scan, requests: Sequence[SliceRequest], stopwatch: Stopwatch) -> list[Answer]:
    """Answers requests as far as there is time for them; those that come first, come first.

    Where there is time for all, they are answered in as few calls as possible.
    """
    answers: list[Answer] = []
    while len(answers) < len(requests):
        try:
            some = _affordable(scan, requests[len(answers) :], stopwatch)
            answers += scan.decode(some, stopwatch.before_call)
        except OutOfTime as up:
            answers += [up] * (len(requests) - len(answers))
        finally:
            stopwatch.end_call()
    return answers


def _affordable(
    scan: Scan, requests: Sequence[SliceRequest], stopwatch: Stopwatch
) -> Sequence[SliceRequest]:
    """Returns the first requests that can be answered in the time left, one at least.

    No slices are encoded ahead where there is no time for whole batches.

    Raises:
        OutOfTime: there is no time for any.
    """
    if math.isinf(stopwatch.left):
        return requests
    unseen = scan.count_unseen(requests)
    planes = {request.plane for request in requests}
    filled_up = len(planes) * (scan.segmenter.traits.batch - 1) if unseen else 0

    def fits(some: Sequence[SliceRequest], encoded: int) -> bool:
        tracked = sum(one.position is not None for one in some)
        return stopwatch.fits(encoded, len(some) - tracked, tracked)

    if fits(requests, unseen + filled_up):
        return requests
    some = [replace(request, ahead=()) for request in requests]
    while some and not fits(some, scan.count_unseen(some)):
        some.pop()
    if not some:
        raise OutOfTime
    return some


def stop(walk: Walk, up: OutOfTime) -> None:
    """Tells a walk that its time is up."""
    with suppress(OutOfTime, StopIteration):
        walk.throw(up)

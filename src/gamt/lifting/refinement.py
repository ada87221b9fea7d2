"""One more round from prompts and the previous prediction (paper, 3.2; docs/design.md, 9).

A click marks the middle of an error. In the three slices through it the segmenter is asked again,
with the click as a point and the previous mask as scores; the part that changes with the click is
followed from slice to slice until nothing changes any more. These views vote on the error, beside
what click, mask and intensities say in 3-D (`gamt.lifting.evidence`). A segmenter that knows
nothing but intensities is not asked: they are weighed already, and it would only repeat them
(docs/accuracy.md, "asking the embedded segmenter again"). Everything else stays as it was. Pieces
of scribbles and regions that the mask contradicts (`gamt.lifting.contradictions`) are corrected in
the same way, each from all of its voxels.
How far a correction may go in any case, `gamt.lifting.bounds` says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import logit

from gamt.axes import Plane, slice_view, to_slice
from gamt.lifting.bounds import clicked_body, forbid, most_changed, piece_at, rule_out
from gamt.lifting.budget import OutOfTime
from gamt.lifting.contradictions import Contradiction, at_click, in_region, obey, on_scribble
from gamt.lifting.evidence import (
    CONTEXT_DISTANCE,
    Odds,
    Surroundings,
    error_odds,
    region_around,
)
from gamt.lifting.fusion import Votes
from gamt.lifting.propagation import (
    End,
    Seeking,
    Walk,
    interior_point,
    tight_box,
    together,
)
from gamt.lifting.rules import RULES
from gamt.lifting.target import LEAST_PROBABILITY, Correction, Target
from gamt.lifting.walker import Walker, walk
from gamt.prompts import Box, Click, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.segmenters.door import SegmenterFault
from gamt.volume.scan import SliceRequest

WALK_RADII = 3.0
"""A walk ends this many error radii away from its click, along its plane's normal
(docs/constants.md)."""

KEEP = 0.9
"""Probability with which the previous mask is handed on: firm, yet open to correction
(docs/constants.md)."""

MOST_CORRECTIONS = 4
"""Pieces of one scribble or region that are corrected in 3-D, at most (docs/constants.md)."""

UNSEEN = logit(1 - KEEP)
"""Log-odds of an error where a view sees none, or where none came to."""

VIEWS_WEIGHT = 1.5
"""Weight of the views' votes on the error beside what is known without them (docs/constants.md)."""

MOST_SAMPLES, COARSER = 4_000_000, 1.1
"""Voxels around a click that are looked at, about; and by how much steps between them grow until
there are no more (docs/constants.md)."""

FEW_CLICKS = 50
"""Opposite clicks whose distances are measured one by one, at most; more are looked at as a line is
(docs/constants.md)."""

RULED_OUT = -50.0
"""Log-odds of samples that can't be wrong, far from any that can (docs/constants.md)."""


def correct(target: Target, mask: npt.NDArray[np.bool_]) -> Seeking[npt.NDArray[np.bool_]]:
    """Corrects a mask wherever regions, scribbles and clicks contradict it.

    What counts more comes later: regions first and clicks last, each kind in the order of time.

    Args:
        target: the class, whose prompts count.
        mask: (z, y, x) bool over the target's region.

    Returns:
        The corrected mask, of the same shape; out of time, as far as it is corrected, with all that
        regions and scribbles mark.
    """
    try:
        for region in target.prompts.regions:
            for _ in range(MOST_CORRECTIONS):
                contradiction = in_region(target, mask, region)
                if contradiction is None:
                    break
                mask = yield from correct_at(target, mask, contradiction)
                yield []  # whoever drives the walks asks whether there is time for more
            mask = obey(target, mask, region)
        for scribble in target.prompts.scribbles:
            for _ in range(MOST_CORRECTIONS):
                contradiction = on_scribble(target, mask, scribble)
                if contradiction is None:
                    break
                mask = yield from correct_at(target, mask, contradiction)
                yield []  # whoever drives the walks asks whether there is time for more
            mask = obey(target, mask, scribble)
        clicks = target.prompts.clicks
        voxels = target.clicks[0][: len(clicks)] - target.region[0]
        inside = target.clicks[1][: len(clicks)]
        place = 0
        while (wrong := mask[tuple(voxels[place:].T)] != inside[place:]).any():
            place += int(wrong.argmax())
            yield []  # as above
            mask = yield from correct_at(target, mask, at_click(target, mask, clicks[place]))
            place += 1
    except OutOfTime:
        for region in target.prompts.regions:
            mask = obey(target, mask, region)
        for scribble in target.prompts.scribbles:
            mask = obey(target, mask, scribble)
    return mask


def correct_at(
    target: Target, mask: npt.NDArray[np.bool_], contradiction: Contradiction
) -> Seeking[npt.NDArray[np.bool_]]:
    """Corrects a mask around what contradicts it: a click, or a piece of a scribble or region.

    The user clicks the middle of an error, so that the error reaches from the click about as far
    as the mask's surface is away. A ball of this size is the shape that the click draws for the
    segmenter, as part of the scores. What is voted on here is not the target but the error: which
    voxels change to the side of the click. The votes add to what click, mask and intensities say by
    themselves, in 3-D, so that what changes is one smooth piece rather than three slices. A line or
    an area is a click that is as long: distances and intensities are those of all of it.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region.
        contradiction: on the wrong side of the mask.

    Returns:
        The corrected mask, of the same shape.
    """
    click, radius, scale = contradiction.click, contradiction.radius, target.scale
    ball = ball_around(click, radius, scale)
    votes = Votes(target.region, target.scan.grid, RULES[target.settings.fusion])
    voxel = target.inside_region(click.voxel)
    body = None if click.positive else clicked_body(target, mask, voxel)
    if body is not None and body.goes_whole:
        near, changed = body.part, body.mask
        odds = np.where(changed, np.float32(np.inf), np.float32(-np.inf))
    else:
        if asked := not target.scan.segmenter.traits.intensities_alone:
            yield from together(
                CorrectionWalk(target, mask, click, ball, plane, votes).start()
                for plane in target.settings.planes
            )
        sampled, around = surroundings(target, mask, contradiction)
        alone = error_odds(around, -np.inf if asked else 0.0)
        wanted = np.ones(alone.shape, np.bool_) if asked else alone > 0
        wanted[tuple(around.marked.T)] = True
        near, odds = at_voxels(alone, sampled, wanted, mask.shape)
        if asked:
            seen = votes.fuse()[near].clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
            odds += VIEWS_WEIGHT * np.where(votes.looked()[near], logit(seen), UNSEEN)
        odds[mask[near] == click.positive] = -np.inf
        first = [part.start for part in near]
        forbid(target, click, np.add(target.region[0], first).tolist(), odds)
        rule_out(odds, contradiction.beside, first)
        volume = 4 / 3 * math.pi * radius**3 / math.prod(scale)
        if around.line is not None:
            within = np.count_nonzero(around.distance <= around.depth)
            volume = within * math.prod(part.step for part in sampled)
        halved = body.mask if body is not None and body.is_meant else mask
        most = most_changed(halved, click, volume)
        changed = piece_at(odds, contradiction.voxels - first, most)
    corrected = mask.copy()
    corrected[near][changed] = click.positive
    target.observer.end_correction(
        target, Correction(click, ball, votes, near, odds, changed), corrected
    )
    return corrected


def surroundings(
    target: Target, mask: npt.NDArray[np.bool_], contradiction: Contradiction
) -> tuple[tuple[slice, ...], Surroundings]:
    """Returns what is to be weighed around what contradicts a mask.

    All lengths are counted in radii, so that a large error's surroundings are looked at as well on
    a coarser grid: no more than about `MOST_SAMPLES` of them.

    Args:
        target: the class.
        mask: (z, y, x) bool over the target's region.
        contradiction: on the wrong side of the mask.

    Returns:
        The voxels of the region that are looked at, in steps that meet the click's own, and what
        lies there. Lengths in it are voxels of the coarser grid.
    """
    click, radius, scale = contradiction.click, contradiction.radius, target.scale
    seed = target.inside_region(click.voxel)
    near = region_around(contradiction.voxels, CONTEXT_DISTANCE * radius, scale, mask.shape)
    steps, coarseness = sampling_steps([part.stop - part.start for part in near], scale)
    sampled = tuple(
        slice(part.start + (v - part.start) % step, part.stop, step)
        for v, part, step in zip(seed, near, steps, strict=True)
    )
    to_grid = [target.to_grid(axis)[part] for axis, part in enumerate(sampled)]
    size = float(np.cbrt(np.count_nonzero(mask) * np.prod(scale)))
    first, stride = ([getattr(one, name) for one in sampled] for name in ("start", "step"))
    samples = np.ascontiguousarray(mask[sampled])

    def sample(voxel: tuple[int, int, int]) -> tuple[int, int, int]:
        z, y, x = ((v - a) // n for v, a, n in zip(voxel, first, stride, strict=True))
        return z, y, x

    def nearest(voxels: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Returns the sample nearest to each of some voxels (N, 3); some may lie outside."""
        return np.asarray(np.rint((voxels - first) / stride), np.intp)

    last = np.subtract(samples.shape, 1)
    line = np.unique(nearest(contradiction.voxels).clip(0, last), axis=0)
    clicks = target.opposite_clicks(click.positive) - target.region[0]
    few, many = (clicks, clicks[:0]) if len(clicks) <= FEW_CLICKS else (clicks[:0], clicks)
    lines = (one.voxels - target.region[0] for one in target.opposite_scribbles(click.positive))
    others = nearest(np.concatenate([contradiction.beside, many, *lines]))
    z, y, x = (step * length / coarseness for step, length in zip(stride, scale, strict=True))
    around = Surroundings(
        image=target.scan.image[np.ix_(*to_grid)],
        mask=samples,
        seed=sample(seed),
        depth=radius / coarseness,
        size=size / coarseness,
        scale=(z, y, x),
        opposite=[sample((z, y, x)) for z, y, x in few.tolist()],
        taken=target.taken[sampled] if click.positive and target.taken is not None else None,
        line=line if len(line) > 1 else None,
        opposite_line=others[((others >= 0) & (others < samples.shape)).all(axis=1)],
    )
    return sampled, around


def sampling_steps(
    shape: Sequence[int], scale: tuple[float, float, float]
) -> tuple[list[int], float]:
    """Returns in which steps a region is looked at, so that it has about `MOST_SAMPLES` samples.

    Axes on which voxels are long already are not thinned before the others are as coarse.

    Args:
        shape: of the region, in voxels.
        scale: grid voxels per voxel, on each axis; not zero.

    Returns:
        The steps on each axis, in voxels; and the distance between samples, in grid voxels, 1 where
        all voxels are looked at.
    """
    coarseness = 1.0
    while True:
        steps = [max(1, round(coarseness / step)) if coarseness > 1 else 1 for step in scale]
        samples = math.prod(-(-size // step) for size, step in zip(shape, steps, strict=True))
        if samples <= MOST_SAMPLES:
            return steps, coarseness
        coarseness *= COARSER


def at_voxels(
    odds: Odds, sampled: tuple[slice, ...], wanted: npt.NDArray[np.bool_], shape: Sequence[int]
) -> tuple[tuple[slice, ...], Odds]:
    """Returns the log-odds of all voxels around wanted samples, interpolated linearly.

    Args:
        odds: (z, y, x) of samples; -inf where one can't be part of the error. That tells nothing
            of the voxels between it and the next sample, which are taken to be as likely as that.
        sampled: where the samples lie in a volume of `shape`.
        wanted: (z, y, x) bool, samples around which voxels are looked at; one at least.
        shape: of the volume.

    Returns:
        The part of the volume that is looked at, and the log-odds of its voxels (z, y, x).
    """
    places = np.nonzero(wanted)
    first = [max(0, int(place.min()) - 1) for place in places]
    last = [min(size, int(place.max()) + 2) for size, place in zip(odds.shape, places, strict=True)]
    odds = odds[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    if any(part.step > 1 for part in sampled):
        odds = np.where(np.isneginf(odds), ndimage.maximum_filter(odds, 3), odds)
        odds = np.maximum(odds, RULED_OUT)
    near = []
    for axis, part in enumerate(sampled):
        low = part.start + first[axis] * part.step
        begin = max(0, low - part.step + 1)
        end = min(shape[axis], part.start + last[axis] * part.step)
        near.append(slice(begin, end))
        if part.step > 1:
            wished = (np.arange(begin, end) - low) / part.step
            odds = interpolate(odds, axis, wished.clip(0, odds.shape[axis] - 1))
    return tuple(near), odds


def interpolate(values: Odds, axis: int, places: npt.NDArray[np.float64]) -> Odds:
    """Returns values at places between them along an axis, linearly.

    Args:
        values: (z, y, x).
        axis: of `values`.
        places: indices along the axis, which may lie between its whole ones.
    """
    left = np.minimum(places.astype(np.intp), max(0, values.shape[axis] - 2))
    right = np.minimum(left + 1, values.shape[axis] - 1)
    share = (places - left).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
    between: Odds = values.take(left, axis) * (1 - share) + values.take(right, axis) * share
    return between


def ball_around(click: Click, radius: float, scale: tuple[float, float, float]) -> Box:
    """Returns the raw box whose ellipsoid is the ball that a click draws, of a grid radius."""
    reach = [round(radius / step) for step in scale]
    low = [v - r for v, r in zip(click.voxel, reach, strict=True)]
    high = [v + r + 1 for v, r in zip(click.voxel, reach, strict=True)]
    return Box(low[0], high[0], click.z, low[1], high[1], low[2], high[2])


@dataclass(frozen=True, slots=True, eq=False)
class SliceError:
    """An error as it was seen in a slice.

    Attributes:
        index: the slice, on the grid.
        pixels: (rows, columns) bool, what is wrong.
    """

    index: int
    pixels: npt.NDArray[np.bool_]


class CorrectionWalk(Walker[SliceError]):
    """Follows an error through the slices of one plane, as long as the segmenter sees one."""

    def __init__(
        self,
        target: Target,
        mask: npt.NDArray[np.bool_],
        click: Click,
        ball: Box,
        plane: Plane,
        votes: Votes,
    ) -> None:
        """Plans a walk.

        Args:
            target: the class.
            mask: (z, y, x) bool over the target's region, which the click contradicts.
            click: in raw voxels; the walk begins there.
            ball: in raw voxels; its ellipsoid is the shape that the click draws.
            plane: of the slices.
            votes: where the slices' errors vote.
        """
        self._target = target
        self._previous = np.where(mask, KEEP, 1 - KEEP).astype(np.float32)
        self._click = click
        self._ball = ball
        self._plane = plane
        self._votes = votes
        self._sign = 1 if click.positive else -1
        self._to_grid = target.to_grid(plane.normal)
        self._anchor = target.scan.grid.voxel_to_grid(click.voxel)
        layer = target.inside_region(click.voxel)[plane.normal]
        away = np.abs(np.arange(len(self._to_grid)) - layer)
        farthest = WALK_RADII * (ball.high[plane.normal] - ball.low[plane.normal]) / 2
        self._planned = sorted(set(self._to_grid[away <= farthest].tolist()))
        first = self._anchor[plane.normal]
        self._visited = target.observer.begin_walk(target, plane, first, self._planned, click)

    def start(self) -> Walk:
        """Returns the walk's steps."""
        first = self._anchor[self._plane.normal]
        prompt = self._prompt(first, to_slice(self._plane, self._anchor))
        request = SliceRequest(self._plane, first, prompt)
        return walk(request, self._planned, self, self._target.progress)

    def _before(self, index: int) -> npt.NDArray[np.float32]:
        """Returns the log-odds of the mask to be corrected in a slice (rows, columns)."""
        layer = int(np.argmin(np.abs(self._to_grid - index)))
        return self._target.cross_section(self._previous, self._plane, layer).logits

    def _prompt(self, index: int, point: tuple[float, float]) -> SlicePrompt:
        """Makes a slice's prompt: a point (x, y) of the click's kind, and ball and mask."""
        drawn = self._target.prior_slice(self._ball, (), self._plane, index, exact_range=False)
        scores = self._sign * np.maximum(self._sign * self._before(index), drawn)
        labels = np.array([int(self._click.positive)])
        mine = SlicePrompt(tight_box(scores > 0), np.array([point], float), labels, scores)
        return self._target.add_clicks(self._plane, index, mine)

    def ask(self, index: int, before: SliceError) -> SliceRequest:
        """Returns the request for a slice, with a point inside of its neighbour's error."""
        image = slice_view(self._target.scan.image, self._plane, before.index)
        prompt = self._prompt(index, interior_point(before.pixels, image))
        return SliceRequest(self._plane, index, prompt)

    def accept(
        self, request: SliceRequest, _: SliceError | None, answer: SliceMask
    ) -> SliceError | None:
        """Votes on a slice's error; returns it, or None where there is none at the prompt."""
        index, prompt = request.index, request.prompt
        positive = self._click.positive
        wrong = (answer.mask == positive) & ((self._before(index) > 0) != positive)
        x, y = prompt.points[0].astype(int)
        pieces, _count = ndimage.label(wrong)
        if pieces[y, x] == 0:
            self._visited(index, answer, End.CORRECTED)
            return None
        self._visited(index, answer, None)
        error = SliceError(index, pieces == pieces[y, x])
        logits = np.where(error.pixels, self._sign * answer.logits, UNSEEN)
        vote = SliceMask(logits.astype(np.float32), answer.quality)
        self._votes.add(self._plane, index, self._target.window(prompt, vote), vote)
        return error

    def fail(self, index: int, fault: SegmenterFault) -> None:
        """Tells who watches that the segmenter failed at a slice."""
        self._visited(index, None, End.FAULT)

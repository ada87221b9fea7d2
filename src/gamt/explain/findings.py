"""What an explanation says in words: prompts, why walks ended, and what is worth a look."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from gamt.explain.record import BodyRecord, ClassRecord, ClickRecord, Stop, WalkRecord
from gamt.lifting.propagation import End
from gamt.prompts import Box, ClassPrompts, Click, Lasso, Region, Scribble
from gamt.volume.geometry import Range

ENDS = {
    End.VANISHED: "the mask vanished",
    End.UNSURE: "quality too low (min_quality)",
    End.JUMPED: "the mask jumped (min_overlap)",
    End.GREW: "the mask grew too much (max_growth)",
    End.STRANGE: "it looks like something else",
    End.MISLED: "the first answer missed the box",
    End.CORRECTED: "nothing more to correct",
    End.RANGE: "end of the range",
    End.FAULT: "the segmenter failed",
    End.TIME: "out of time",
}
"""Why a walk went no further, in words, with the setting that decides it."""

LOST = (End.UNSURE, End.JUMPED, End.GREW, End.FAULT, End.TIME)
"""Ends at which the target may well go on."""

POOR, DIFFERENT, WORSE = 0.7, 0.15, 0.02
"""What is worth a look: a Dice, and its differences between planes and from step to step."""

MISSED = 0.1
"""A walk that leaves out more than this share of its slices is worth a look."""

# Unbroken runs of slices that are told one by one.
_MOST_RUNS = 3


def spans(indices: Iterable[int]) -> str:
    """Tells slices in words: "3–40 (38)", and where there are too many gaps "3–40 (19 of 38)"."""
    ordered = sorted(set(indices))
    if not ordered:
        return "none"
    breaks = np.flatnonzero(np.diff(ordered) > 1) + 1
    runs = [run.tolist() for run in np.split(np.array(ordered), breaks)]
    if len(runs) > _MOST_RUNS:
        first, last = ordered[0], ordered[-1]
        return f"{first}–{last} ({len(ordered)} of {last - first + 1})"
    listed = ", ".join(f"{a[0]}–{a[-1]}" if len(a) > 1 else str(a[0]) for a in runs)
    return f"{listed} ({len(ordered)})"


def tell_stop(stop: Stop) -> str:
    """Tells in words where a walk ended and why."""
    return ENDS[stop.end] if stop.index is None else f"{stop.index}: {ENDS[stop.end]}"


def describe_prompts(record: ClassRecord) -> Iterable[str]:
    """Tells the prompts of a class, what came of its clicks, and its window, in sentences."""
    prompts = record.prompts
    for drawn in prompts.drawn:
        bounds = _show_range((drawn.low, drawn.high))
        if isinstance(drawn, Box):
            yield f"Box on slice z {drawn.z_mid}: {bounds}."
        else:
            kind = "Lasso" if isinstance(drawn, Lasso) else "Box"
            yield f"{kind} on one {drawn.plane.name.lower()} slice: {bounds}."
    if record.drawn_box is not None:
        bounds = _show_range((record.drawn_box.low, record.drawn_box.high))
        yield f"Box that the method drew around what the first prompt shows: {bounds}."
    if record.body is not None:
        yield _tell_body(record.body, _beginning(prompts))
    for number, region in enumerate(prompts.regions, 1):
        yield f"Region {number}, {_show_mark(region)}."
    for number, scribble in enumerate(prompts.scribbles, 1):
        yield f"Scribble {number}, {_show_mark(scribble)}."
    for number, one in enumerate(record.clicks, 1):
        yield f"Click {number}, {_show_click(one.click)}: {_tell_change(one)}."
    if record.window is not None:
        yield f"Window of intensities: {record.window.describe()}."
    if record.had_previous:
        yield "Previous prediction, which stays where no prompt contradicts it."


def _beginning(prompts: ClassPrompts) -> str:
    """Names what a class begins with that begins without a box."""
    return "scribble" if isinstance(prompts.first, Scribble) else "click"


def _tell_body(body: BodyRecord, beginning: str) -> str:
    kind = "a body that stands out clearly" if body.clear else "a body of a size that is a guess"
    if not body.asked:
        fate = "The planes are not asked: the segmenter knows no more than intensities."
    elif body.taken:
        fate = "What the planes saw does not confirm it, and does not count."
    else:
        fate = "What the planes saw confirms it, and counts in its place."
    scales = {"tight": "less", "large": "more"}
    scale = f" Scale {body.scale} takes {scales[body.scale]}." if body.scale in scales else ""
    return f"The first {beginning} stands in {kind}, grown from the scan itself.{scale} {fate}"


def _tell_change(one: ClickRecord) -> str:
    if one.changed:
        return f"{'added' if one.click.positive else 'removed'} {one.changed:,} voxels"
    return "agrees with what was found" if one.reached else "the time was up before its turn"


def _show_range(bounds: Range) -> str:
    return ", ".join(
        f"{axis} {a}–{b - 1}" for axis, a, b in zip("zyx", bounds[0], bounds[1], strict=True)
    )


def _show_mark(mark: Scribble | Region) -> str:
    side = "inside" if mark.positive else "outside"
    return f"{side}, {len(mark.voxels):,} voxels: {_show_range((mark.low, mark.high))}"


def _show_click(click: Click) -> str:
    side = "inside" if click.positive else "outside"
    return f"{side}, at z {click.z}, y {click.y}, x {click.x}"


def find_problems(record: ClassRecord) -> Iterable[str]:
    """Tells what is worth a look, in sentences."""
    if not record.begun:
        yield "There is neither a prompt nor a previous prediction: nothing was looked for."
        return
    for fault in record.faults:
        yield f"The segmenter failed: {fault}."
    if record.body is not None and not record.body.clear:
        first = _beginning(record.prompts)
        yield f"Nothing around the first {first} stands out: how large the target is, is a guess."
    for plane in record.planes:
        name = plane.plane.name.lower()
        if not plane.walks:
            yield f"No {name} walk: nothing that was seen before leads to such a slice."
        # Where walks go on from what others found, most of them end somehow.
        elif _count_runs(plane.walks) <= _MOST_RUNS:
            for walk in plane.walks:
                kind = f"{name} walk by memory" if walk.by_memory else f"{name} walk"
                yield from _find_early_stops(kind, walk, record.prompts.box is not None)
    scored = [(one.name, one.dice) for one in record.stages if one.dice is not None]
    votes = sorted((one for one in scored if one[0].endswith("votes")), key=lambda one: one[1])
    if votes and votes[-1][1] < POOR:
        yield (
            f"No plane's votes are near the truth: Dice {votes[-1][1]:.2f} at most. It goes wrong "
            "where the model looks at single slices."
        )
    elif votes and votes[-1][1] - votes[0][1] > DIFFERENT:
        (worst, low), (best, high) = votes[0], votes[-1]
        yield f"The planes differ: Dice {low:.2f} for {worst}, {high:.2f} for {best}."
    steps = [one for one in scored if not one[0].endswith("votes")]
    for (before, high), (after, low) in pairwise(steps):
        if high - low > WORSE:
            yield f"Dice falls from {high:.2f} to {low:.2f} between “{before}” and “{after}”."


def _count_runs(walks: Sequence[WalkRecord]) -> int:
    """Returns how many runs of slices were walked, each in one way or two."""
    by_memory = sum(walk.by_memory for walk in walks)
    return max(by_memory, len(walks) - by_memory)


def _find_early_stops(kind: str, walk: WalkRecord, range_is_known: bool) -> Iterable[str]:
    for stop, way, sign in zip(walk.stops(), ("down", "up"), (-1, 1), strict=True):
        reached = walk.anchor if stop.index is None else stop.index
        missed = sum(sign * (index - reached) >= 0 for index in walk.planned)
        # From a click alone, how far the target goes is what the walk is to find out.
        lost = stop.end in LOST or (range_is_known and stop.end is not End.RANGE)
        if lost and missed > MISSED * len(walk.planned):
            edge = walk.planned[0 if sign < 0 else -1]
            yield (
                f"The {kind} {way} from slice {walk.anchor} ended early, at "
                f"{tell_stop(stop)}. It was to go to {edge}."
            )

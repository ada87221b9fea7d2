"""From a click, or a box on one slice, to a target (docs/design.md, 7).

A click says where, not how large. The body that it stands in is found in the scan
(`gamt.lifting.bodies`). A segmenter that knows more than intensities is asked about it, too: the
scale at which the planes agree (`gamt.lifting.scales`) is where they begin to walk, and they go on
walking from whatever one plane found and another has not looked at, so that a vessel is followed
around its bends.

A box or lasso on one slice says how large the target is there, and nothing about how far it goes
beyond. The planes that cross the slice offer masks of several lengths; the rest is as from a click,
but what comes back to the slice outside of what was drawn has been another target, and is given up.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, bounding_range, box_to_slice, slice_view, to_volume
from gamt.lifting.bodies import Found, Part
from gamt.lifting.budget import OutOfTime
from gamt.lifting.fusion import Votes
from gamt.lifting.growing import choose, find_bodies, rank, settle
from gamt.lifting.hypotheses import ellipse, misses
from gamt.lifting.postprocess import component_at, largest_pieces
from gamt.lifting.propagation import (
    Appearance,
    Seeking,
    Walk,
    check_time,
    interior_point,
    next_prompt,
    together,
)
from gamt.lifting.scales import agree, candidates, offers_at, requests_across, runs_through
from gamt.lifting.sections import SLACK, fits, section_of
from gamt.lifting.target import Finding, Target
from gamt.lifting.views import fullest
from gamt.lifting.walk import Judge, walk_plane
from gamt.prompts import Box, Click, Lasso, PixelBox, SliceBox, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.volume.geometry import Grid, Range
from gamt.volume.scan import SliceRequest

PIECES = 8
"""How many unseen pieces a plane follows in one round, the largest first (docs/constants.md)."""

LEAST_PIECE = 8
"""Voxels below which an unseen piece is taken for noise (docs/constants.md)."""

BODY_ELONGATION = 1.5
"""A body's longest extent on an axis is at most this many times its shortest
(docs/constants.md)."""

BODY_SLACK = 2
"""Voxels by which the longest extent may exceed that, so that small bodies are not refused
(docs/constants.md)."""

BODY_ROOM = 0.1
"""Room on each side of a box drawn around a seed, as a share of its extent (docs/constants.md)."""

RUNS_OUT = 0.4
"""A body's section at a face of its box is at most this share of its largest
(docs/constants.md)."""

CLEAR_CERTAINTY, ROUGH_CERTAINTY = 0.9, 0.7
"""Probability with which a clear body's voxels, and a rough one's, compete with other classes
(docs/constants.md)."""

CLEAR_OVERLAP, ROUGH_OVERLAP = 0.5, 0.1
"""Least Dice of what a segmenter sees with a clear body, and with a rough one
(docs/constants.md)."""

THIN = 2
"""Slices up to which a target is too thin to be seen from the side (docs/constants.md)."""

STILL_THERE = 0.25
"""A target with a box on one slice goes on where this share of its mask there looks alike
(docs/constants.md)."""

IN_SECTION = 0.9
"""A target has more than this share of its section in what was drawn on that slice
(docs/constants.md)."""

LASSO_LOG_ODDS = np.float32(4.0)
"""Log-odds of a lasso's pixels as a mask prompt, and of those that an answer is held to
(docs/constants.md)."""


def click_walk(target: Target, click: Click, found: Found) -> Seeking[Finding]:
    """Takes the body that a click stands in, or asks a segmenter that knows shapes about it.

    A segmenter that knows nothing but intensities is not asked: the body was grown from them, in
    3-D. Any other is asked at the click. It has to agree with a body that stands out clearly: what
    it says of a plane counts where it is the body's section there, more or less, and where all of
    it is something else in the end, the body is taken.

    Returns:
        What was found; out of time, what was found until then.
    """
    part = found.scales[target.settings.scale]
    body = part.within(target.region)
    opinion = opinion_of(target, part, CLEAR_CERTAINTY if found.clear else ROUGH_CERTAINTY)
    grown = replace(target.finding, body=opinion)
    if target.scan.segmenter.traits.intensities_alone:
        return grown
    finding = target.finding
    try:
        voxel = target.scan.grid.voxel_to_grid(click.voxel)
        requests = [request for plane in Plane for request in candidates(target, plane, voxel)]
        offers = offers_at(voxel, *(yield from ask_for(target, requests)))
        if found.clear:
            offers = agreeing(target, offers, opinion, voxel)
        chosen = agree(offers, voxel)
        if not chosen:
            return grown
        finding = replace(finding, box=draw_box(target, chosen, voxel))
        appearance = appearance_of(target, voxel, chosen)
        appearances = dict.fromkeys(chosen, appearance)
        yield from walk_from_seed(target, finding, voxel, chosen, {}, appearances)
        if finding.box is not None and runs_out(target, finding.votes, finding.box, click.voxel):
            finding = replace(finding, box=None)
        if finding.box is None:
            yield from grow(target, finding, click.voxel, appearance)
    except OutOfTime:
        pass
    seen = component_at(finding.votes.fuse() > 0.5, target.inside_region(click.voxel))
    least = CLEAR_OVERLAP if found.clear else ROUGH_OVERLAP
    return finding if overlap(seen, body) >= least else grown


def agreeing(
    target: Target,
    offers: dict[Plane, list[SliceMask]],
    body: npt.NDArray[np.float32],
    voxel: tuple[int, int, int],
) -> dict[Plane, list[SliceMask]]:
    """Keeps the masks of each plane that are a body's section there, more or less.

    Args:
        target: the class.
        offers: the masks of every plane, on the grid.
        body: (z, y, x) 0..1 over the region.
        voxel: the grid voxel (z, y, x) in which the planes cross.
    """
    kept: dict[Plane, list[SliceMask]] = {}
    for plane, masks in offers.items():
        layer = int(np.argmin(np.abs(target.to_grid(plane.normal) - voxel[plane.normal])))
        section = target.cross_section(body, plane, layer).mask
        alike = [mask for mask in masks if overlap(mask.mask, section) >= CLEAR_OVERLAP]
        if alike:
            kept[plane] = alike
    return kept


def overlap(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Returns the Dice of two masks of one shape, 0..1; 0 where both are empty."""
    voxels = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / voxels if voxels else 0.0


def slice_box_walk(
    target: Target, drawn: SliceBox, before_step: Callable[[], None]
) -> Seeking[Finding]:
    """Finds how far a target goes beyond the slice of its box or lasso, and walks away from it.

    A segmenter whose answer misses a box is not asked further: the box's ellipse is taken, on its
    slice alone. A lasso is asked about as a mask, and the answer is held to it. One that knows
    nothing but intensities is not asked further where a body that stands out in the scan has this
    very section: that was grown from them, in 3-D.

    Args:
        target: the class.
        drawn: the box or lasso.
        before_step: called before every step of the search for a body; it may raise `OutOfTime`.

    Returns:
        What was found; out of time, what was found until then, and if that was nothing, what was
        drawn on its slice.
    """
    finding = target.finding
    plane, grid = drawn.plane, target.scan.grid
    index = int(grid.from_raw[plane.normal][drawn.index - grid.low[plane.normal]])
    prompt, judge = section_prompt(target, drawn), judge_of(target, drawn)
    try:
        if grid.shape[plane.normal] == 1:  # there is nothing beyond the slice
            layers = np.array([index])
            yield from walk_plane(target, finding, plane, index, layers, prompt, judge=judge)
            return finding
        clicked = target.add_clicks(plane, index, prompt)
        _, answers = yield from ask_for(target, [SliceRequest(plane, index, clicked)])
        if not answers:
            return as_drawn(target, drawn, finding)
        mask = answers[0] if judge is None else judge(answers[0])
        if judge is None and misses(mask.mask, pixel_box(target, drawn)):
            return replace(finding, body=fill_section(target.region, drawn))
        seed = seed_in_box(target, drawn, mask)
        if seed is None:
            return finding
        thin = thin_range(target, plane, drawn.index, mask)
        is_disc = thin is not None and max(np.subtract(drawn.high, drawn.low)) > 2 * THIN
        if target.scan.segmenter.traits.intensities_alone and not is_disc:
            body = body_with_section(target, drawn, seed, before_step)
            if body is not None:
                return replace(finding, body=opinion_of(target, body, CLEAR_CERTAINTY))
        if thin is not None:
            finding = replace(finding, box=extend_slice_box(target, drawn, thin))
            layers = target.to_grid(plane.normal)[slice(*thin)]
            yield from walk_plane(target, finding, plane, index, layers, prompt, judge=judge)
            return finding
        voxel = grid.voxel_to_grid(seed)
        others = [other for other in Plane if other is not plane]
        requests = [one for other in others for one in requests_across(target, other, voxel, drawn)]
        offers = offers_at(voxel, *(yield from ask_for(target, requests)))
        chosen = agree({plane: [mask], **offers}, voxel)
        around = extend_box(target, drawn, chosen, voxel)
        finding = replace(finding, box=around)
        # A thin target looks different from the side: the grid has mixed it with what is around.
        appearances = {
            one: appearance_of(target, voxel, {one: seen}) for one, seen in chosen.items()
        }
        starts = {plane: Start(prompt, judge)}
        yield from walk_from_seed(target, finding, voxel, chosen, starts, appearances)
        if runs_out(target, finding.votes, around, seed):
            beyond = Finding(deepcopy(finding.votes), None)
            yield from grow(target, beyond, seed, appearances[plane])
            if not leaves_section(target, beyond.votes, drawn, seed):
                finding = beyond
    except OutOfTime:
        return as_drawn(target, drawn, finding)
    return finding


def as_drawn(target: Target, drawn: SliceBox, finding: Finding) -> Finding:
    """Returns what was found so far, or if that is nothing, what was drawn on its slice."""
    return (
        finding if finding.votes.any else replace(finding, body=fill_section(target.region, drawn))
    )


def body_with_section(
    target: Target,
    drawn: SliceBox,
    seed: tuple[int, int, int],
    before_step: Callable[[], None] = lambda: None,
) -> Part | None:
    """Returns the body around a raw seed that stands out and has the section that was drawn.

    Args:
        target: the class.
        drawn: the box or lasso.
        seed: in raw voxels (z, y, x).
        before_step: called before every step that takes a while. It may raise `OutOfTime`.

    Returns:
        The body; None where no body has this section, or none of those that have stands out. Out
        of time, it is one of those found until then.
    """
    image, spacing_mm = target.image, target.spacing_mm
    fitting = [
        body
        for body in find_bodies(image, spacing_mm, seed, before_step)
        if fits(drawn, Part.tight(body.low, body.mask))
    ]
    chosen = choose(fitting)
    if chosen is None:
        return None
    # They all have the section that was drawn: the one counts whose border is the clearest.
    alike = [body for body in fitting if body.halvings == chosen.halvings]
    clearest = max(alike, key=lambda body: (body.edge, rank(body)))
    settled = settle(image, spacing_mm, seed, clearest, before_step)
    return Part.tight(settled.low, settled.mask)


def opinion_of(target: Target, body: Part, certainty: float) -> npt.NDArray[np.float32]:
    """Returns a body as probabilities, (z, y, x) over the region."""
    sure = np.float32(certainty)
    return np.where(body.within(target.region), sure, 1 - sure)


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What the user drew on the slice that a walk begins at.

    Attributes:
        prompt: for that slice.
        judge: holds the answer to what was drawn; None where it stands as it is.
    """

    prompt: SlicePrompt
    judge: Judge | None


def section_prompt(target: Target, drawn: SliceBox) -> SlicePrompt:
    """Returns the prompt for the slice of a box or lasso: the box, and a lasso's area as a mask."""
    box = pixel_box(target, drawn)
    if not isinstance(drawn, Lasso):
        return SlicePrompt(box=box)
    area = section_on_grid(target, drawn, 0)
    return SlicePrompt(box=box, mask=np.where(area, LASSO_LOG_ODDS, -LASSO_LOG_ODDS))


def pixel_box(target: Target, drawn: SliceBox) -> PixelBox:
    """Returns the bounds of what was drawn, in half-open pixels of the grid's slice."""
    grid = target.scan.grid
    low, high = np.clip(grid.range_to_grid(drawn.low, drawn.high), 0, grid.shape).tolist()
    return box_to_slice(drawn.plane, low, high)


def judge_of(target: Target, drawn: SliceBox) -> Judge | None:
    """Returns what holds answers to a lasso, up to the slack of the hand that drew it."""
    if not isinstance(drawn, Lasso):
        return None
    area, outer, inner = (section_on_grid(target, drawn, by) for by in (0, SLACK, -SLACK))

    def judge(answer: SliceMask) -> SliceMask:
        held = (answer.mask & outer) | inner
        if not held.any():
            held = area
        if np.array_equal(held, answer.mask):
            return answer
        sure = np.where(held, LASSO_LOG_ODDS, -LASSO_LOG_ODDS)
        return SliceMask(np.where(held == answer.mask, answer.logits, sure), quality=1.0)

    return judge


def section_on_grid(target: Target, drawn: SliceBox, slack: int) -> npt.NDArray[np.bool_]:
    """Returns the area that was drawn, (rows, columns) bool of the grid's slice."""
    grid, plane = target.scan.grid, drawn.plane
    area = section_of(drawn, grid.low, grid.raw_shape, slack)
    return area[np.ix_(grid.to_raw[plane.row_axis], grid.to_raw[plane.column_axis])]


def fill_section(region: Range, drawn: SliceBox) -> npt.NDArray[np.float32]:
    """Returns the ellipse in a box on one slice, or a lasso's area, (z, y, x) 0..1 over a region.

    Beyond the slice there is nothing.
    """
    low, high = region
    opinion = np.full(np.subtract(high, low), np.float32(1 - ROUGH_CERTAINTY))
    section = slice_view(opinion, drawn.plane, drawn.index - low[drawn.plane.normal])
    if isinstance(drawn, Lasso):
        area = section_of(drawn, low, opinion.shape)
    else:
        begin, end = (np.subtract(one, low).tolist() for one in (drawn.low, drawn.high))
        x0, y0, x1, y1 = box_to_slice(drawn.plane, begin, end)
        area = ellipse((int(x0), int(y0), int(x1), int(y1)), section.shape)
    section[area] = ROUGH_CERTAINTY
    return opinion


def ask_for(
    target: Target, requests: list[SliceRequest]
) -> Seeking[tuple[list[SliceRequest], list[SliceMask]]]:
    """Asks for masks in a few slices, which count as progress as a walk's do.

    Returns:
        The requests that the segmenter didn't fail at, and their masks.

    Raises:
        OutOfTime: there was no time for all of them.
    """
    slices = len({(one.plane, one.index) for one in requests})
    target.progress.plan(slices)
    answers = yield requests
    target.progress.finish(slices)
    check_time(answers)
    pairs = zip(requests, answers, strict=True)
    answered = [(one, mask) for one, mask in pairs if isinstance(mask, SliceMask)]
    return [one for one, _ in answered], [mask for _, mask in answered]


def appearance_of(
    target: Target, voxel: tuple[int, int, int], masks: dict[Plane, SliceMask]
) -> Appearance:
    """Learns how a target looks from masks of the slices through a grid voxel (z, y, x)."""
    image = target.scan.image
    seen = [slice_view(image, one, voxel[one.normal])[mask.mask] for one, mask in masks.items()]
    return Appearance.of(np.concatenate(seen))


def walk_from_seed(
    target: Target,
    finding: Finding,
    voxel: tuple[int, int, int],
    chosen: dict[Plane, SliceMask],
    starts: dict[Plane, Start],
    appearances: dict[Plane, Appearance],
) -> Walk:
    """Walks away from a seed, in the settings' planes and in those that the user prompted.

    Args:
        target: the class.
        finding: where the walks vote; where it has a box, nothing outside of it is visited.
        voxel: of the seed, on the grid.
        chosen: the masks of the slices through the seed.
        starts: what the user drew on those slices.
        appearances: how the target looks there; where it looks different, it has ended.
    """
    walks = []
    for plane in dict.fromkeys((*target.settings.planes, *starts)):
        if plane in chosen:
            index = voxel[plane.normal]
            image = slice_view(target.scan.image, plane, index)
            start = starts.get(plane) or Start(next_prompt(chosen[plane], image), None)
            indices = target.to_grid(plane.normal)
            if finding.box is not None:
                first = target.inside_region(finding.box.low)[plane.normal]
                last = target.inside_region(finding.box.high)[plane.normal]
                indices = indices[max(0, first) : last]
            walks.append(
                walk_plane(
                    target,
                    finding,
                    plane,
                    index,
                    indices,
                    start.prompt,
                    appearance=appearances[plane],
                    judge=start.judge,
                )
            )
    yield from together(walks)


def seed_in_box(target: Target, box: SliceBox, mask: SliceMask) -> tuple[int, int, int] | None:
    """Chooses the raw voxel (z, y, x) of a box or lasso that stands for its slice's mask.

    It is the one nearest to the interior point of what the mask has in the box.

    Returns:
        The voxel; None where the mask holds none of the box's voxels.
    """
    grid, plane = target.scan.grid, box.plane
    bounds = zip(grid.from_raw, box.low, box.high, grid.low, strict=True)
    pixels = [indices[a - first : b - first] for indices, a, b, first in bounds]
    rows, columns = pixels[plane.row_axis], pixels[plane.column_axis]
    held = np.argwhere(mask.mask[np.ix_(rows, columns)])
    if len(held) == 0:
        return None
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image = slice_view(target.scan.image, plane, int(pixels[plane.normal][0]))
    x, y = interior_point(mask.mask[window], image[window])
    away = np.hypot(rows[held[:, 0]] - rows[0] - y, columns[held[:, 1]] - columns[0] - x)
    row, column = held[np.argmin(away)].tolist()
    pixel = column + box.low[plane.column_axis], row + box.low[plane.row_axis]
    return to_volume(plane, box.index, pixel)


def thin_range(
    target: Target, plane: Plane, slice_index: int, mask: SliceMask
) -> tuple[int, int] | None:
    """Returns the slices of a target that is too thin to be seen from the side.

    Args:
        target: the class.
        plane: of the box.
        slice_index: of the box, in raw voxels.
        mask: of the box's slice, not empty.

    Returns:
        Half-open raw slices, counted from the region's first, in which part of the mask looks like
        the target; None if these are more than `THIN`.
    """
    to_grid = target.to_grid(plane.normal)
    here = slice_index - target.region[0][plane.normal]
    pixels = slice_view(target.scan.image, plane, int(to_grid[here]))[mask.mask]
    appearance = Appearance.of(pixels)

    def continues(layer: int) -> bool:
        if not 0 <= layer < len(to_grid):
            return False
        beside = slice_view(target.scan.image, plane, int(to_grid[layer]))[mask.mask]
        return appearance.share(beside) >= STILL_THERE

    first, last = here, here + 1
    while last - first <= THIN and continues(first - 1):
        first -= 1
    while last - first <= THIN and continues(last):
        last += 1
    return (first, last) if last - first <= THIN else None


def extend_slice_box(target: Target, box: SliceBox, layers: tuple[int, int]) -> Box:
    """Returns a box on one slice as one of slices `layers`, counted from the region's first."""
    low, high = list(box.low), list(box.high)
    offset = target.region[0][box.plane.normal]
    low[box.plane.normal], high[box.plane.normal] = layers[0] + offset, layers[1] + offset
    return Box(low[0], high[0], box.low[0], low[1], high[1], low[2], high[2])


def extend_box(
    target: Target, box: SliceBox, chosen: dict[Plane, SliceMask], voxel: tuple[int, int, int]
) -> Box:
    """Draws the raw box around a target that has a box on one slice.

    In the slice, it is the user's. Across, it holds what the other planes' masks show of the line
    through the seed, a grid voxel (z, y, x), with some room.
    """
    grid, across = target.scan.grid, box.plane.normal
    first, last = voxel[across], voxel[across] + 1
    for plane, mask in chosen.items():
        if plane is not box.plane:
            start, stop = runs_through(mask, plane, voxel)[across]
            first, last = min(first, start), max(last, stop)
    low, high = list(box.low), list(box.high)
    low[across], high[across] = raw_range(grid, across, first, last)
    z = int(grid.to_raw[0][voxel[0]]) + grid.low[0]
    return Box(low[0], high[0], z, low[1], high[1], low[2], high[2])


def raw_range(grid: Grid, axis: int, first: int, last: int) -> tuple[int, int]:
    """Returns the raw voxels of a half-open grid range, with some room on each side."""
    room = BODY_ROOM * (last - first)
    inner = max(0, round(first - room))
    outer = min(grid.shape[axis], round(last + room)) - 1
    to_raw = grid.to_raw[axis]
    return int(to_raw[inner]) + grid.low[axis], int(to_raw[outer]) + grid.low[axis] + 1


def leaves_section(
    target: Target, votes: Votes, drawn: SliceBox, seed: tuple[int, int, int]
) -> bool:
    """Says whether what was found at a raw seed is, on the slice drawn on, elsewhere too."""
    mask = component_at(votes.fuse() > 0.5, target.inside_region(seed))
    found = slice_view(mask, drawn.plane, target.inside_region(seed)[drawn.plane.normal])
    area = section_of(drawn, target.region[0], mask.shape, SLACK)
    return bool((found & area).sum() <= IN_SECTION * found.sum())


def draw_box(
    target: Target, chosen: dict[Plane, SliceMask], voxel: tuple[int, int, int]
) -> Box | None:
    """Draws the raw box around a seed that is a body, all of it seen in its three slices.

    A body is as long in the two slices that cross in an axis, and along the line through the click.
    What reaches much farther in one of them is a piece of something that bends or branches; that
    has no box.
    """
    low, high = list(voxel), [v + 1 for v in voxel]
    extents: list[list[int]] = [[], [], []]
    for plane, mask in chosen.items():
        bounds = bounding_range(mask.mask)
        if bounds is None:
            return None
        runs = runs_through(mask, plane, voxel)
        for axis, first, last in zip((plane.row_axis, plane.column_axis), *bounds, strict=True):
            extents[axis] += [last - first, runs[axis][1] - runs[axis][0]]
            low[axis], high[axis] = min(low[axis], first), max(high[axis], last)
    if any(max(sizes) > BODY_ELONGATION * min(sizes) + BODY_SLACK for sizes in extents if sizes):
        return None
    grid = target.scan.grid
    begin, end = zip(*(raw_range(grid, n, low[n], high[n]) for n in range(3)), strict=True)
    z = int(grid.to_raw[0][voxel[0]]) + grid.low[0]
    return Box(begin[0], end[0], z, begin[1], end[1], begin[2], end[2])


def runs_out(target: Target, votes: Votes, box: Box, seed: tuple[int, int, int]) -> bool:
    """Says whether what was found goes on past a face of the box drawn around the raw seed."""
    mask = component_at(votes.fuse() > 0.5, target.inside_region(seed))
    low, high = target.inside_region(box.low), target.inside_region(box.high)
    for plane in Plane:
        others = tuple(axis for axis in range(3) if axis != plane.normal)
        area = mask.sum(axis=others, dtype=np.int64)
        first, last = low[plane.normal], high[plane.normal] - 1
        faces = [face for face in (first, last) if 0 < face < len(area) - 1]
        if any(area[face] > RUNS_OUT * area.max() for face in faces):
            return True
    return False


def grow(
    target: Target, finding: Finding, seed: tuple[int, int, int], appearance: Appearance
) -> Walk:
    """Lets every plane walk from what the others found where it has not looked itself."""
    start = target.inside_region(seed)
    while True:
        probability = finding.votes.fuse()
        mask = component_at(probability > 0.5, start)
        walks = []
        for plane in target.settings.planes:
            unseen = mask & ~finding.votes.looked(plane)
            walks += [
                piece_walk(target, finding, plane, piece, probability, appearance)
                for piece in largest_pieces(unseen, PIECES, LEAST_PIECE)
            ]
        if not walks:
            return
        yield from together(walks)


def piece_walk(
    target: Target,
    finding: Finding,
    plane: Plane,
    piece: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.float32],
    appearance: Appearance,
) -> Walk:
    """Walks a plane from the slice that holds most of a piece."""
    layer = fullest(piece, plane, range(piece.shape[plane.normal]))
    seen = target.cross_section(np.where(piece, probability, 0), plane, layer)
    to_grid = target.to_grid(plane.normal)
    index = int(to_grid[layer])
    prompt = next_prompt(seen, slice_view(target.scan.image, plane, index))
    return walk_plane(target, finding, plane, index, to_grid, prompt, appearance=appearance)

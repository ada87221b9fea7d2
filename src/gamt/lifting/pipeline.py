"""The method's table of contents: from a case's prompts to its 3-D segmentation (paper, 2)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, bounding_range, box_to_slice, slice_shape, slice_view
from gamt.io.case import Case
from gamt.lifting.bodies import Found, find_along, find_at, share
from gamt.lifting.budget import Budget, OutOfTime, Pace, Stopwatch, StridePlanner
from gamt.lifting.doubt import doubting
from gamt.lifting.fallback import fall_back, noting, noting_steps
from gamt.lifting.fusion import Competition, Votes
from gamt.lifting.plan import make_plan
from gamt.lifting.polish import polish
from gamt.lifting.postprocess import drop_pieces, obey_clicks, obey_scribbles
from gamt.lifting.progress import Progress, Report
from gamt.lifting.propagation import Seeking, Walk, next_prompt, run, together
from gamt.lifting.refinement import correct
from gamt.lifting.rules import RULES
from gamt.lifting.seeding import click_walk, slice_box_walk
from gamt.lifting.shape import complete_box
from gamt.lifting.shortfall import Shortfall
from gamt.lifting.target import Finding, Observer, Target
from gamt.lifting.views import fullest, projected_range, runs
from gamt.lifting.walk import walk_plane, walks_of
from gamt.prompts import Box, ClassPrompts, Click, Scribble, SlicePrompt
from gamt.settings import Settings
from gamt.volume import geometry
from gamt.volume.geometry import Range, box_on_grid
from gamt.volume.preparation import PreparedVolume
from gamt.volume.scan import Scan
from gamt.volume.windowing import choose_windows
from gamt.windows import IntensityWindow

PLANNED = 0.9
"""Share of the time left that walks plan with; each plane has an equal one (docs/constants.md)."""

FINISHING = 0.05
"""Share of the time of some classes that is kept for what comes after their walks, such as fusing
their votes (docs/constants.md)."""

PREVIOUS_SCORE = np.float32(0.8)
"""What a previous prediction is worth against another class's correction: less than a click
(docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Lifted:
    """The result of `lift`.

    Attributes:
        labels: (z, y, x) uint8 on the raw grid, 0 or a class's label.
        encoded: number of slices that were encoded for it.
        shortfalls: by label, what each class had to do without (`gamt.lifting.fallback`).
        windows: by label, the intensities that the class was seen in; the next round keeps them.
        found: by label, what the first click of a class stands in that begins with a click.
    """

    labels: npt.NDArray[np.uint8]
    encoded: int
    shortfalls: Mapping[int, Shortfall]
    windows: Mapping[int, IntensityWindow]
    found: Mapping[int, Found]

    @property
    def complete(self) -> bool:
        """Whether there was time for all classes."""
        return not any(one.is_cut_short for one in self.shortfalls.values())


def lift(
    case: Case,
    volume: PreparedVolume,
    budget: Budget,
    observer: Observer | None = None,
    report: Report = lambda done, planned: None,
    cancelled: Callable[[], bool] = lambda: False,
    finish: Callable[[], bool] = lambda: False,
) -> Lifted:
    """Segments all classes of a case.

    Args:
        case: the scan and its prompts, in raw voxels.
        volume: the scan, ready for a segmenter.
        budget: when to be done; a class that runs out of time is finished from what was seen.
        observer: is told how it goes; None for nobody.
        report: is called with the slices done, and planned so far; see `Progress`.
        cancelled: says whether the result is not wanted any more; asked before every step.
        finish: says whether the result is wanted now, as if the time were up; asked likewise.

    Raises:
        OverLimitError: it takes more memory than there is.
        Cancelled: `cancelled` said so.
    """
    observer = observer or Observer()
    case = replace(case, windows=choose_windows(case, volume))
    pace = Pace()

    def watch(done: int, classes: int) -> Stopwatch:
        deadline = budget.deadline(done, classes, len(case.prompts))
        return Stopwatch(deadline, cancelled, finish, pace, kept=FINISHING)

    shortfalls = {one.label: Shortfall() for one in case.prompts}
    found = find_seeds(case, volume, watch, shortfalls)
    observer.begin_case(case, volume)
    progress = Progress(report)
    shape, settings = case.image.shape, volume.settings
    competition = Competition((shape[0], shape[1], shape[2]), len(case.prompts))
    done, before = 0, volume.embeddings.encoded
    for scan, members in crops(case, volume, found):
        for group in split_by_memory(members, volume.plan.settings):
            stopwatch = watch(done, len(group))
            done += len(group)
            targets = [
                make_target(
                    case,
                    one,
                    region,
                    scan,
                    settings,
                    observer,
                    progress,
                    shortfalls[one.label],
                    found,
                )
                for one, region in group
            ]
            shares = (PLANNED / len(settings.planes), PLANNED, PLANNED, 1.0)
            for stage, part in zip(STAGES, shares, strict=True):
                strides = StridePlanner(
                    stopwatch, part, progress, lambda: volume.embeddings.encoded
                )
                walks = []
                with stopwatch.keeping():  # in the end, votes are fused once more
                    for target in targets:
                        stopwatch.check_cancelled()
                        walks += [noting(target.shortfall, walk) for walk in stage(target, strides)]
                run(together(walks), scan, stopwatch, strides)
            for target in targets:
                stopwatch.check_cancelled()
                enter(target, competition)
                target.shortfall.on_request = finish()
    encoded = volume.embeddings.encoded - before
    labels = obey(competition.labels, case, settings)
    return Lifted(labels, encoded, shortfalls, case.windows, found)


def find_seeds(
    case: Case,
    volume: PreparedVolume,
    watch: Callable[[int, int], Stopwatch],
    shortfalls: Mapping[int, Shortfall],
) -> dict[int, Found]:
    """Finds, by label, what the first click or scribble stands in of each class that begins so.

    Where the time is up before the search begins, there is nothing for a class.

    Args:
        case: the scan and its prompts.
        volume: the scan.
        watch: makes a stopwatch, from the number of classes that are done and that are next.
        shortfalls: by label, where it is noted that a search was cut short.

    Raises:
        Cancelled: `cancelled` said so.
    """
    found = {}
    for n, one in enumerate(case.prompts):
        seed = first_seed(case, one)
        if seed is not None:
            where = case.image, volume.spacing_mm
            check = noting_steps(shortfalls[one.label], watch(n, 1).check)
            with suppress(OutOfTime):
                check()
                found[one.label] = (
                    find_at(*where, seed.voxel, check)
                    if isinstance(seed, Click)
                    else find_along(*where, seed.voxels, check)
                )
    return share(case.image, volume.spacing_mm, found)


def first_seed(case: Case, prompts: ClassPrompts) -> Click | Scribble | None:
    """Returns what a class begins with that says where it is and not how large.

    Returns:
        The class's first prompt; None for a class that begins with a box or an earlier result, or
        has none.
    """
    if case.previous is not None and (case.previous == prompts.label).any():
        return None
    first = prompts.first
    return first if isinstance(first, Click | Scribble) else None


def crops(
    case: Case, volume: PreparedVolume, found: Mapping[int, Found]
) -> Iterator[tuple[Scan, list[tuple[ClassPrompts, Range]]]]:
    """Crops around the prompts (paper, 2.1); classes of a window whose crops overlap share one.

    Args:
        case: its windows are known.
        volume: the scan.
        found: what the classes' first clicks stand in, by label.

    Yields:
        A scan, and the classes in it with the raw region of each.

    Raises:
        OverLimitError: the work on them takes more memory than there is.
    """
    settings = volume.settings
    seen: dict[IntensityWindow, tuple[list[ClassPrompts], list[Range]]] = {}
    for prompts in case.prompts:
        previous = None if case.previous is None else case.previous == prompts.label
        region = geometry.crop_range(
            prompts,
            previous,
            case.image.shape,
            volume.spacing_mm,
            settings.crop_voxels * volume.voxel_mm,
            settings.crop_margin,
            found[prompts.label].scales[settings.scale].bounds if prompts.label in found else None,
        )
        if region is not None:
            classes, regions = seen.setdefault(case.windows[prompts.label], ([], []))
            classes.append(prompts)
            regions.append(region)
    groups = [
        (window, crop, [(classes[n], regions[n]) for n in members])
        for window, (classes, regions) in seen.items()
        for crop, members in geometry.merge_overlapping(regions)
    ]
    volume.plan = make_plan(
        volume, [(crop, [region for _, region in members]) for _, crop, members in groups]
    )
    for window, crop, members in groups:
        yield volume.scan(crop, window), members


def split_by_memory(
    members: Sequence[tuple[ClassPrompts, Range]], settings: Settings
) -> Iterator[list[tuple[ClassPrompts, Range]]]:
    """Splits classes into groups whose votes fit into memory together; at least one each."""
    group: list[tuple[ClassPrompts, Range]] = []
    used = 0
    for prompts, region in members:
        voxels = int(np.prod(np.subtract(region[1], region[0])))
        size = Votes.BYTES_PER_VOXEL * len(settings.planes) * voxels
        if group and used + size > settings.votes_mb * 2**20:
            yield group
            group, used = [], 0
        group.append((prompts, region))
        used += size
    if group:
        yield group


def make_target(
    case: Case,
    prompts: ClassPrompts,
    region: Range,
    scan: Scan,
    settings: Settings,
    observer: Observer,
    progress: Progress,
    shortfall: Shortfall,
    found: Mapping[int, Found],
) -> Target:
    """Gathers what concerns one class of a case."""
    others = tuple(
        click
        for other in case.prompts
        for click in other.clicks
        if other.label != prompts.label and click.positive and scan.grid.holds(click.voxel)
    )
    other_scribbles = tuple(
        scribble
        for other in case.prompts
        for scribble in other.scribbles
        if other.label != prompts.label and scribble.positive
    )
    mine = prompts.box
    rivals = tuple(
        other.box
        for other in case.prompts
        if mine is not None
        and other.box is not None
        and mine.overlaps(other.box)
        and other.box.volume < mine.volume
    )
    previous = taken = None
    if case.previous is not None:
        where = tuple(slice(a, b) for a, b in zip(*region, strict=True))
        same = case.previous[where] == prompts.label
        previous = same if same.any() else None
        taken = (case.previous[where] > 0) ^ same
        shortfall.has_previous = previous is not None
    whole = None if mine is None else complete_box(mine, case.image.shape[0], case.spacing_mm)
    finding = Finding(Votes(region, scan.grid, RULES[settings.fusion], whole), whole)
    return Target(
        prompts,
        others,
        other_scribbles,
        rivals,
        previous,
        taken,
        case.image,
        case.spacing_mm,
        scan,
        region,
        (case.image.shape[1], case.image.shape[2]),
        settings,
        finding,
        observer,
        progress,
        shortfall,
        found.get(prompts.label),
    )


def first_views(target: Target, strides: StridePlanner) -> list[Walk]:
    """Begins a class that has no previous prediction: from its box, or else its first click."""
    if target.previous is not None:
        return []
    if target.prompts.box is not None:
        if shows_nothing(target, Plane.AXIAL):
            return []
        return [axial_walk(target, target.prompts.box, strides)]
    if target.prompts.slice_box is not None:
        check = noting_steps(target.shortfall, strides.stopwatch.check)
        return [seeded(target, slice_box_walk(target, target.prompts.slice_box, check))]
    if target.found is None:
        return []
    click = Click(*target.found.seed, positive=True)
    return [seeded(target, click_walk(target, click, target.found))]


def seeded(target: Target, seeding: Seeking[Finding]) -> Walk:
    """Takes over what was found from a click, or a box on one slice."""
    target.finding = yield from seeding


def axial_walk(target: Target, box: Box, strides: StridePlanner) -> Walk:
    """Walks from the slice that the box was drawn on to both ends of its range (paper, 2.2, 1)."""
    on_grid = box_on_grid(box, target.scan.grid)
    rows, columns = slice_shape(target.scan.grid.shape, Plane.AXIAL)
    x0, y0, x1, y1 = box_to_slice(Plane.AXIAL, on_grid.low, on_grid.high)
    prompt = SlicePrompt(box=(max(0, x0), max(0, y0), min(columns, x1), min(rows, y1)))
    first = target.inside_region(box.low)[0]
    indices = target.to_grid(0)[first : first + box.z_max - box.z_min]
    anchor = on_grid.z_mid
    walk = walk_plane(target, target.finding, Plane.AXIAL, anchor, indices, prompt, strides=strides)
    return doubting(target, box, anchor, indices, walk)


def orthogonal_views(target: Target, strides: StridePlanner) -> list[Walk]:
    """Walks the coronal and sagittal slices that the axial masks reach (paper, 2.2, 1 and 2)."""
    if target.previous is not None or target.prompts.box is None or not walks_of(target):
        return []
    try:
        noting_steps(target.shortfall, strides.stopwatch.check)()
    except OutOfTime:
        return []
    probability = target.fuse()
    masks = probability > 0.5
    walks = []
    for plane in target.settings.planes[1:]:
        if shows_nothing(target, plane):
            continue
        to_grid = target.to_grid(plane.normal)
        for layers in runs(projected_range(masks, plane, target.settings.range_percentile)):
            anchor = fullest(masks, plane, layers)
            seen = target.cross_section(probability, plane, anchor)
            index = int(to_grid[anchor])
            prompt = next_prompt(seen, slice_view(target.scan.image, plane, index))
            indices = to_grid[layers.start : layers.stop]
            walks.append(
                walk_plane(target, target.finding, plane, index, indices, prompt, strides=strides)
            )
    return walks


def shows_nothing(target: Target, plane: Plane) -> bool:
    """Says whether slices of a plane are single pixels of what other planes show in one slice."""
    shape = target.scan.grid.shape
    return slice_shape(shape, plane) == (1, 1) and max(shape) > 1


def polishing(target: Target, strides: StridePlanner) -> list[Walk]:
    """Improves a previous prediction as a whole, for a class that asks for it."""
    if target.previous is None or not target.prompts.polish:
        return []
    return [polished(target, polish(target, target.previous, strides))]


def polished(target: Target, polishing: Seeking[npt.NDArray[np.bool_]]) -> Walk:
    """Takes over the mask that was polished for the previous prediction."""
    target.previous = yield from polishing


def corrections(target: Target, _: StridePlanner) -> list[Walk]:
    """Corrects what clicks contradict: in the previous prediction, or in what was just found."""
    mask = fall_back(target, target.find_mask())
    return [corrected(target, correct(target, mask))]


def corrected(target: Target, correcting: Seeking[npt.NDArray[np.bool_]]) -> Walk:
    """Takes over the mask that clicks have corrected."""
    target.mask = yield from correcting


STAGES = (first_views, orthogonal_views, polishing, corrections)
"""The method's walks, in their order."""


def enter(target: Target, competition: Competition) -> None:
    """Lets a class compete: with its views' votes, and surer where clicks were obeyed."""
    bounds = bounding_range(target.mask)
    if bounds is not None:
        part = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
        mask = target.mask[part]
        if target.previous is None:
            found = target.fuse()[part]
        else:
            found = PREVIOUS_SCORE * target.previous[part]
        score = np.where(found > 0.5, found, np.float32(1))
        z, y, x = np.add(target.region[0], bounds[0]).tolist()
        competition.enter(target.prompts.label, (z, y, x), mask, score)
    target.observer.end_target(target)


def obey(labels: npt.NDArray[np.uint8], case: Case, settings: Settings) -> npt.NDArray[np.uint8]:
    """Sees that scribbles and clicks are obeyed, and drops what the competition cut off.

    Clicks count more, so they come last. Only new classes lose what was cut off.
    """
    for one in case.prompts:
        obey_scribbles(labels, one)
    for one in case.prompts:
        obey_clicks(labels, one)
        is_new = case.previous is None or not any(
            (layer == one.label).any() for layer in case.previous
        )
        if is_new:
            mask = labels == one.label
            kept = drop_pieces(mask, (0, 0, 0), one, settings)
            if kept is not mask:
                labels[mask ^ kept] = 0
    return labels

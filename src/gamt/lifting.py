"""The method's table of contents: from a case's prompts to its 3-D segmentation (paper, 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamt import geometry
from gamt.axes import Plane, box_to_slice, slice_view
from gamt.budget import Budget, Stopwatch
from gamt.case import Case
from gamt.fusion import Competition, Votes
from gamt.geometry import Range
from gamt.postprocess import largest_component, smooth
from gamt.prompts import Box, ClassPrompts, SlicePrompt
from gamt.propagation import Walk, next_prompt, run, together
from gamt.scan import Scan
from gamt.seeding import seed_walk
from gamt.segmenters.base import Segmenter
from gamt.settings import Settings
from gamt.target import Target
from gamt.views import fullest, projected_range, runs


@dataclass(frozen=True, slots=True, eq=False)
class Lifted:
    """The result of `lift`.

    Attributes:
        labels: (z, y, x) uint8 on the raw grid, 0 or a class's label.
        encoded: number of slices that were encoded.
        complete: False where the time ran out and classes were finished from what had been seen.
    """

    labels: npt.NDArray[np.uint8]
    encoded: int
    complete: bool


def lift(case: Case, segmenter: Segmenter, settings: Settings, budget: Budget) -> Lifted:
    """Segments all classes of a case.

    Args:
        case: the scan and its prompts, in raw voxels.
        segmenter: the 2-D model.
        settings: the numbers of the method.
        budget: when to be done; a class that runs out of time is finished from what was seen.
    """
    shape = case.image.shape
    competition = Competition((shape[0], shape[1], shape[2]))
    encoded, complete, done = 0, True, 0
    for scan, members in prepare(case, segmenter, settings):
        for wave in waves(members, settings.votes_mb * 2**20):
            done += len(wave)
            stopwatch = Stopwatch(budget.deadline(done))
            targets = [make_target(case, prompts, region, scan, settings) for prompts, region in wave]
            for stage in (first_views, orthogonal_views, corrections):
                walks = [one for target in targets for one in stage(target)]
                complete &= run(together(walks), scan, stopwatch)
            for target in targets:
                enter(target, competition)
        encoded += scan.encoded
    return Lifted(finish(competition.labels, case.prompts, settings), encoded, complete)


def prepare(
    case: Case, segmenter: Segmenter, settings: Settings
) -> Iterator[tuple[Scan, list[tuple[ClassPrompts, Range]]]]:
    """Normalises, crops and resamples (paper, 2.1); classes whose crops overlap share one.

    Yields:
        A scan, and the classes in it with the raw region of each.
    """
    spacing_mm = geometry.order_spacing(case.spacing_mm)
    window = geometry.intensity_window(
        case.image, settings.low_percentile, settings.high_percentile
    )
    voxel_mm = settings.voxel_mm or min(spacing_mm)
    regions = [
        geometry.crop_range(
            prompts,
            None if case.previous is None else case.previous == prompts.label,
            case.image.shape,
            spacing_mm,
            settings.crop_voxels * voxel_mm,
            settings.crop_margin,
        )
        for prompts in case.prompts
    ]
    for crop, members in geometry.merge_overlapping(regions):
        grid = geometry.make_grid(crop, spacing_mm, voxel_mm, settings.max_grid_voxels)
        image = grid.resample(geometry.normalise(grid.crop(case.image), window))
        scan = Scan(image, grid, segmenter, settings.cache_mb * 2**20)
        yield scan, [(case.prompts[n], regions[n]) for n in members]


def waves(
    members: Sequence[tuple[ClassPrompts, Range]], limit_bytes: int
) -> Iterator[list[tuple[ClassPrompts, Range]]]:
    """Splits classes into groups whose votes fit into memory together; at least one each."""
    wave: list[tuple[ClassPrompts, Range]] = []
    used = 0
    for prompts, region in members:
        size = Votes.BYTES_PER_VOXEL * int(np.prod(np.subtract(region[1], region[0])))
        if wave and used + size > limit_bytes:
            yield wave
            wave, used = [], 0
        wave.append((prompts, region))
        used += size
    if wave:
        yield wave


def make_target(
    case: Case, prompts: ClassPrompts, region: Range, scan: Scan, settings: Settings
) -> Target:
    """Gathers what concerns one class of a case."""
    others = tuple(
        click
        for other in case.prompts
        for click in other.clicks
        if other.label != prompts.label and click.positive
    )
    previous = None
    if case.previous is not None:
        where = tuple(slice(a, b) for a, b in zip(*region, strict=True))
        same = case.previous[where] == prompts.label
        previous = same if same.any() else None
    return Target(prompts, others, previous, scan, region, settings)


def first_views(target: Target) -> list[Walk]:
    """Begins a class that has no previous prediction: from its box, or from its first click."""
    if target.previous is not None:
        return []
    if target.prompts.box is not None:
        return [axial_walk(target, target.prompts.box)]
    positive = [click for click in target.prompts.clicks if click.positive]
    return [seed_walk(target, click) for click in positive[:1]]


def axial_walk(target: Target, box: Box) -> Walk:
    """Walks from the slice that the box was drawn on to both ends of its range (paper, 2.2, 1)."""
    grid = target.scan.grid
    low, high = grid.range_to_grid(box.low, box.high)
    prompt = SlicePrompt(box=box_to_slice(Plane.AXIAL, low, high))
    anchor = grid.voxel_to_grid((box.z_mid, box.y_min, box.x_min))[0]
    indices = grid.from_raw[0][box.z_min - grid.low[0] : box.z_max - grid.low[0]]
    return target.walk(Plane.AXIAL, anchor, prompt, indices)


def orthogonal_views(target: Target) -> list[Walk]:
    """Walks the coronal and sagittal slices that the axial masks reach (paper, 2.2, 1 and 2)."""
    if target.previous is not None or target.prompts.box is None:
        return []
    probability = target.fuse()
    masks = probability > 0.5
    walks = []
    for plane in target.settings.planes[1:]:
        to_grid = target.to_grid(plane.normal)
        for layers in runs(projected_range(masks, plane, target.settings.range_percentile)):
            anchor = fullest(masks, plane, layers)
            seen = target.cross_section(probability, plane, anchor)
            index = int(to_grid[anchor])
            prompt = next_prompt(seen, slice_view(target.scan.image, plane, index))
            walks.append(target.walk(plane, index, prompt, to_grid[layers.start : layers.stop]))
    return walks


def corrections(target: Target) -> list[Walk]:
    return []


def enter(target: Target, competition: Competition) -> None:
    """Fuses a class's views, cleans the result and lets it compete (paper, 2.2, 3; 2.3)."""
    settings = target.settings
    probability = target.fuse()
    mask = probability > 0.5
    positive = [
        target.inside_region(click.voxel) for click in target.prompts.clicks if click.positive
    ]
    if settings.largest_component:
        mask = largest_component(mask, positive)
    mask = smooth(mask, settings.smoothing)
    competition.enter(target.prompts.label, target.region[0], mask, probability)


def finish(
    labels: npt.NDArray[np.uint8], prompts: Sequence[ClassPrompts], settings: Settings
) -> npt.NDArray[np.uint8]:
    """Drops what the competition cut off, and sees that every click is obeyed."""
    for one in prompts:
        positive = [click.voxel for click in one.clicks if click.positive]
        for voxel in positive:
            labels[voxel] = one.label
        for click in one.clicks:
            if not click.positive and labels[click.voxel] == one.label:
                labels[click.voxel] = 0
        if settings.largest_component:
            mask = labels == one.label
            labels[mask & ~largest_component(mask, positive)] = 0
    return labels

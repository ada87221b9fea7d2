"""A case on coarser voxels, where there is no memory for its own."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.io.case import Case
from gamt.lifting.bodies import Found, Part, Scales
from gamt.lifting.budget import Budget
from gamt.lifting.cubes import mean_of_blocks
from gamt.lifting.pipeline import Lifted, first_seed, lift
from gamt.lifting.plan import OverLimitError, check_scan, limit_bytes
from gamt.lifting.postprocess import obey_clicks, obey_scribbles
from gamt.lifting.progress import Report
from gamt.lifting.target import Observer
from gamt.prompts import Box, ClassPrompts, Click, Lasso, Region, Scribble, SliceBox
from gamt.settings import Scale
from gamt.volume.preparation import PreparedVolume

logger = logging.getLogger("gamt")

Blocks = tuple[int, int, int]
"""Raw voxels (z, y, x) that become one."""

WHOLE: Blocks = (1, 1, 1)

STEP = 1.1
"""Factor between the sides of coarser voxels that are tried (docs/constants.md)."""

RESULT_BYTES = 3
"""For each voxel of the scan, what its own segmentation takes: labels, and masks made of them
(docs/constants.md)."""

FEWEST_VOXELS = 2**12
"""A scan of no more voxels than these, as a cube of 16 has, doesn't get coarser
(docs/constants.md)."""


def lift_in_memory(
    case: Case,
    volume: PreparedVolume,
    budget: Budget,
    observer: Observer | None = None,
    report: Report = lambda done, planned: None,
    cancelled: Callable[[], bool] = lambda: False,
    finish: Callable[[], bool] = lambda: False,
) -> Lifted:
    """Segments all classes of a case, on coarser voxels where there is no memory for its own.

    Where that is so, `volume.coarser` and the log say it. Clicks and scribbles are obeyed on the
    case's own voxels all the same, and a previous prediction keeps its own but for what has
    changed. The observer is told of the case's begin and no more.

    Args:
        case: as for `lift`.
        volume: likewise; its limit is taken anew.
        budget: likewise.
        observer: likewise.
        report: likewise.
        cancelled: likewise.
        finish: likewise.

    Raises:
        OverLimitError: there is not even memory for the coarsest voxels.
        Cancelled: `cancelled` said so.
    """
    volume.limit_bytes, volume.coarser = limit_bytes(volume), None
    searches = any(first_seed(case, one) is not None for one in case.prompts)
    try:
        check_scan(volume, searches)
        lifted = lift(case, volume, budget, observer, report, cancelled, finish)
    except OverLimitError as error:
        too_large = error.with_traceback(None)  # which would hold on to what was found
    else:
        if volume.coarser is not None:
            logger.warning("%s: %s", case.name, volume.coarser)
        return lifted
    needed, blocks = too_large.needed_bytes, WHOLE
    left = volume.limit_bytes - RESULT_BYTES * volume.image.size
    while True:
        coarser = coarser_blocks(volume, blocks, needed / max(1, left))
        if left <= 0 or coarser is None:
            raise too_large
        blocks = coarser
        seen = volume.on_blocks(blocks, partial(coarsen_image, volume.image, blocks))
        seen.limit_bytes, seen.coarser = left - seen.image.nbytes, None
        seen_case = coarsen(case, seen, blocks)
        try:
            check_scan(seen, searches)
            lifted = lift(seen_case, seen, budget, None, report, cancelled, finish)
            break
        except OverLimitError as error:
            needed = error.needed_bytes
    volume.coarser = (
        f"segmented on voxels of {_describe(seen.spacing_mm)} instead of "
        f"{_describe(volume.spacing_mm)}, for lack of memory: {too_large}"
    )
    logger.warning("%s: %s", case.name, volume.coarser)
    if observer is not None:
        observer.begin_case(replace(case, windows=lifted.windows), volume)
    return refine(lifted, case, seen_case, blocks)


def coarser_blocks(volume: PreparedVolume, blocks: Blocks, ratio: float) -> Blocks | None:
    """Returns the next larger blocks, as near to cubes as they can be.

    Args:
        volume: the scan.
        blocks: that are too small.
        ratio: how many times as many voxels they should have, about.

    Returns:
        None where the scan would get too coarse.
    """
    shape, spacing_mm = volume.image.shape, volume.spacing_mm
    side_mm = min(mm * block for mm, block in zip(spacing_mm, blocks, strict=True))
    larger = blocks
    while larger == blocks or math.prod(larger) < ratio * math.prod(blocks):
        if math.prod(_shape_of(shape, larger)) <= FEWEST_VOXELS:
            return None if larger == blocks else larger
        side_mm *= STEP
        z, y, x = (
            max(block, min(size, round(side_mm / mm)))
            for block, size, mm in zip(blocks, shape, spacing_mm, strict=True)
        )
        larger = z, y, x
    return larger


def coarsen_image(image: npt.NDArray[Any], blocks: Blocks) -> npt.NDArray[Any]:
    """Returns the mean of each block of voxels.

    Args:
        image: (z, y, x), any numeric type.
        blocks: voxels on each axis that become one; the last ones may be fewer.

    Returns:
        (z, y, x) of the image's type if that has 8 bits, so that it is taken for as it is; else
        float32.
    """
    edges = [
        np.append(np.arange(0, size, block), size)
        for size, block in zip(image.shape, blocks, strict=True)
    ]
    means = mean_of_blocks(image, edges)
    return np.rint(means).astype(image.dtype) if image.itemsize == 1 else means


def coarsen(case: Case, volume: PreparedVolume, blocks: Blocks) -> Case:
    """Returns a case on coarser voxels.

    Args:
        case: the case.
        volume: its image, coarser.
        blocks: as for `coarsen_image`.
    """
    previous = None
    if case.previous is not None:
        middles = (
            np.minimum(np.arange(0, size, block) + block // 2, size - 1)
            for size, block in zip(case.previous.shape, blocks, strict=True)
        )
        previous = case.previous[np.ix_(*middles)]
    return replace(
        case,
        image=volume.image,
        spacing_mm=volume.spacing_mm,
        prompts=tuple(coarsen_prompts(one, blocks) for one in case.prompts),
        previous=previous,
    )


def coarsen_prompts(prompts: ClassPrompts, blocks: Blocks) -> ClassPrompts:
    """Returns a class's prompts on coarser voxels.

    Where marks contradict each other there, clicks count more than scribbles, and later ones more
    than earlier ones.
    """
    signs: dict[tuple[int, ...], bool] = {}
    clicks: list[Click] = []
    for click in reversed(prompts.clicks):
        z, y, x = _coarse(click.voxel, blocks)
        if (z, y, x) not in signs:
            clicks.append(Click(z, y, x, click.positive))
            signs[z, y, x] = click.positive
    scribbles: list[Scribble] = []
    for scribble in reversed(prompts.scribbles):
        voxels = np.unique(scribble.voxels // blocks, axis=0)
        own = [
            signs.setdefault(tuple(voxel), scribble.positive) == scribble.positive
            for voxel in voxels.tolist()
        ]
        if any(own):
            scribbles.append(Scribble(voxels[own], scribble.positive))
    slice_box = prompts.slice_box
    return replace(
        prompts,
        box=None if prompts.box is None else coarsen_box(prompts.box, blocks),
        slice_box=None if slice_box is None else coarsen_slice_box(slice_box, blocks),
        clicks=tuple(reversed(clicks)),
        scribbles=tuple(reversed(scribbles)),
        regions=tuple(coarsen_region(one, blocks) for one in prompts.regions),
        parts=tuple(
            coarsen_box(one, blocks) if isinstance(one, Box) else coarsen_slice_box(one, blocks)
            for one in prompts.parts
        ),
    )


def coarsen_box(box: Box, blocks: Blocks) -> Box:
    """Returns the box of all blocks that a box has a voxel of."""
    (z0, y0, x0), (z1, y1, x1) = _coarse(box.low, blocks), _coarse_end(box.high, blocks)
    return Box(z0, z1, box.z_mid // blocks[0], y0, y1, x0, x1)


def coarsen_slice_box(box: SliceBox, blocks: Blocks) -> SliceBox:
    """Returns the box, or lasso, of all blocks that one has a voxel of."""
    low, high = _coarse(box.low, blocks), _coarse_end(box.high, blocks)
    if not isinstance(box, Lasso):
        return SliceBox(box.plane, low, high)
    normal = box.plane.normal
    mask = any_of_blocks(np.expand_dims(box.mask, normal), box.low, blocks)
    return Lasso(box.plane, low, high, mask.squeeze(normal))


def coarsen_region(region: Region, blocks: Blocks) -> Region:
    """Returns the region of all blocks that a region has a voxel of."""
    mask = any_of_blocks(region.mask, region.low, blocks)
    return Region(_coarse(region.low, blocks), mask, region.positive)


def any_of_blocks(
    mask: npt.NDArray[np.bool_], low: tuple[int, int, int], blocks: Blocks
) -> npt.NDArray[np.bool_]:
    """Returns (z, y, x) bool, which blocks have a voxel of a mask.

    Args:
        mask: (z, y, x).
        low: the scan's voxel (z, y, x) that is the mask's first.
        blocks: as for `coarsen_image`.
    """
    for axis, (first, block) in enumerate(zip(low, blocks, strict=True)):
        size = mask.shape[axis]
        starts = np.unique(np.maximum(0, np.arange(-(first % block), size, block)))
        mask = np.logical_or.reduceat(mask, starts, axis=axis)
    return mask


def refine(lifted: Lifted, case: Case, coarse: Case, blocks: Blocks) -> Lifted:
    """Returns a result on the case's own voxels.

    Args:
        lifted: the result for the coarser case.
        case: the case.
        coarse: the coarser one.
        blocks: as for `coarsen_image`.
    """
    labels = np.empty(case.image.shape, np.uint8)
    for z, layer in enumerate(labels):
        layer[...] = _refine_layer(lifted.labels[z // blocks[0]], blocks, layer.shape)
        beyond = [
            one.label
            for one in case.prompts
            if one.box is not None and not one.box.z_min <= z < one.box.z_max
        ]
        layer[np.isin(layer, beyond)] = 0
        if case.previous is not None and coarse.previous is not None:
            before = _refine_layer(coarse.previous[z // blocks[0]], blocks, layer.shape)
            np.copyto(layer, case.previous[z], where=layer == before)
    for one in case.prompts:
        obey_scribbles(labels, one)
    for one in case.prompts:
        obey_clicks(labels, one)
    shape = case.image.shape
    found = {label: _refine_found(one, blocks, shape) for label, one in lifted.found.items()}
    return replace(lifted, labels=labels, found=found)


def _refine_layer(
    layer: npt.NDArray[np.uint8], blocks: Blocks, shape: Sequence[int]
) -> npt.NDArray[np.uint8]:
    """Returns an axial slice of blocks (rows, columns) as one of voxels, of the shape given."""
    rows, columns = shape
    to_block = np.ix_(np.arange(rows) // blocks[1], np.arange(columns) // blocks[2])
    return np.asarray(layer[to_block])


def _refine_found(found: Found, blocks: Blocks, shape: Sequence[int]) -> Found:
    """Returns the bodies that a click stands in on the scan's own voxels."""

    def refine_part(name: Scale) -> Part:
        part = found.scales[name]
        mask = part.mask
        z, y, x = (a * block for a, block in zip(part.low, blocks, strict=True))
        for axis, (first, block) in enumerate(zip((z, y, x), blocks, strict=True)):
            voxels = np.arange(min(mask.shape[axis] * block, shape[axis] - first)) // block
            mask = mask.take(voxels, axis)
        return Part((z, y, x), mask)

    scales = Scales({name: partial(refine_part, name) for name in found.scales})
    z, y, x = (
        min(a * block + block // 2, size - 1)
        for a, block, size in zip(found.seed, blocks, shape, strict=True)
    )
    return Found(found.clear, scales, (z, y, x))


def _coarse(voxel: tuple[int, int, int], blocks: Blocks) -> tuple[int, int, int]:
    """Returns the block that a voxel is in."""
    return voxel[0] // blocks[0], voxel[1] // blocks[1], voxel[2] // blocks[2]


def _coarse_end(voxel: tuple[int, int, int], blocks: Blocks) -> tuple[int, int, int]:
    """Returns the first block on each axis that lies past all voxels before one."""
    z, y, x = (-(-place // block) for place, block in zip(voxel, blocks, strict=True))
    return z, y, x


def _shape_of(shape: Sequence[int], blocks: Blocks) -> tuple[int, ...]:
    """Returns how many blocks there are on each axis of an image."""
    return tuple(-(-size // block) for size, block in zip(shape, blocks, strict=True))


def _describe(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing_mm) + " mm"

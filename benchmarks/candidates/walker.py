"""Random walker in 3-D: what seeds from box and clicks reach first (Grady 2006; scikit-image)."""

import numpy as np
import numpy.typing as npt

from benchmarks.bars import inscribed_ellipsoid
from benchmarks.candidates.rounds import voxel_scale
from benchmarks.phantoms import Labels, Mask
from gamt.io.case import Case
from gamt.io.intensities import intensity_window, normalise
from gamt.lifting.refinement import ball_around
from gamt.prompts import Box, ClassPrompts

CORE = 0.6
"""Half-axes of the ellipsoid that seeds the target, in those of the box's."""

BETA = 1000.0
"""How hard it is to cross an edge, of intensities 0..1; chosen by hand over scikit-image's 130."""

SEED_RADIUS = 2.0
"""Of the ball that a click seeds, in voxels of the finest spacing."""

MARGIN, CLICK_MARGIN = 0.2, 32.0
"""Room around the prompts: a share of the box's sides, and voxels of the finest spacing around
clicks without a box."""

TOLERANCE = 1e-5
"""Of the solver, whose default is too coarse where edges are this hard."""

MOST_VOXELS = 20_000
"""A larger crop is taken in steps, as the walker's time grows faster than the crop."""

INSIDE, OUTSIDE = 1, 2


def random_walker(case: Case) -> Labels:
    """Segments a case anew from all prompts so far; see `benchmarks.candidates.candidate`.

    Where classes overlap, the one with the smaller crop wins.
    """
    labels: Labels = np.zeros(case.image.shape, np.uint8)
    window = intensity_window(case.image, 0.5, 99.5)
    crops = [(crop, one) for one in case.prompts if (crop := _crop(case, one)) is not None]
    for crop, one in sorted(crops, key=lambda pair: -labels[pair[0]].size):
        steps = _steps(labels[crop].shape, voxel_scale(case))
        coarse = tuple(slice(None, None, step) for step in steps)
        seeds = _seeds(case, one, crop)[coarse]
        grey = normalise(case.image[crop], window)[coarse]
        found = _walk(grey, seeds, np.multiply(voxel_scale(case), steps))
        for axis, step in enumerate(steps):
            found = found.repeat(step, axis)
        part = labels[crop]
        part[found[tuple(slice(size) for size in part.shape)]] = one.label
    return labels


def _walk(
    grey: npt.NDArray[np.uint8], seeds: npt.NDArray[np.uint8], spacing: npt.NDArray[np.float64]
) -> Mask:
    """Returns (z, y, x), what is nearer to the inside's seeds.

    Args:
        grey: (z, y, x), 0..255.
        seeds: (z, y, x), `INSIDE`, `OUTSIDE` or 0.
        spacing: of the voxels (z, y, x).
    """
    from skimage.segmentation import random_walker

    found = seeds
    if (seeds == INSIDE).any() and (seeds == 0).any() and grey.min() < grey.max():
        found = random_walker(
            grey.astype(np.float32) / 255,
            seeds.astype(np.int32),
            beta=BETA,
            mode="cg_j",
            tol=TOLERANCE,
            prob_tol=np.inf,  # no warning of plateaus that hard edges cut off from all seeds
            spacing=spacing,
        )
    return np.asarray(found == INSIDE, np.bool_)


def _crop(case: Case, prompts: ClassPrompts) -> tuple[slice, ...] | None:
    """Returns the part of the volume around a class's prompts; None without any."""
    voxels = [click.voxel for click in prompts.clicks]
    if prompts.box is not None:
        voxels += [prompts.box.low, tuple(np.subtract(prompts.box.high, 1))]
        room = np.multiply(MARGIN, np.subtract(prompts.box.high, prompts.box.low)) + 2
    else:
        room = CLICK_MARGIN / np.array(voxel_scale(case))
    if not voxels:
        return None
    low = (np.min(voxels, axis=0) - room).clip(0).astype(int)
    high = np.minimum(np.max(voxels, axis=0) + room + 1, case.image.shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _seeds(case: Case, prompts: ClassPrompts, crop: tuple[slice, ...]) -> npt.NDArray[np.uint8]:
    """Returns (z, y, x) over the crop: `INSIDE`, `OUTSIDE` or 0; later clicks overrule earlier."""
    seeds = np.zeros(case.image.shape, np.uint8)
    box = prompts.box
    if box is not None:
        inside = tuple(slice(a, b) for a, b in zip(box.low, box.high, strict=True))
        seeds[...] = OUTSIDE
        seeds[inside] = 0
        trim = [int((1 - CORE) * (b - a) / 2) for a, b in zip(box.low, box.high, strict=True)]
        (z0, y0, x0), (z1, y1, x1) = np.add(box.low, trim), np.subtract(box.high, trim)
        core = Box(int(z0), int(z1), box.z_mid, int(y0), int(y1), int(x0), int(x1))
        seeds[inscribed_ellipsoid(core, seeds.shape)] = INSIDE
    else:
        part = seeds[crop]
        for axis in range(3):
            faces = np.moveaxis(part, axis, 0)
            faces[[0, -1]] = OUTSIDE
    for click in prompts.clicks:
        ball = ball_around(click, SEED_RADIUS, voxel_scale(case))
        seeds[inscribed_ellipsoid(ball, seeds.shape)] = INSIDE if click.positive else OUTSIDE
    return seeds[crop]


def _steps(shape: tuple[int, ...], scale: tuple[float, float, float]) -> tuple[int, ...]:
    """Returns the steps (z, y, x) at which a crop has at most `MOST_VOXELS`, voxels near cubes."""
    steps = [1, 1, 1]
    while (
        np.prod([-(-size // step) for size, step in zip(shape, steps, strict=True)]) > MOST_VOXELS
    ):
        sides = np.multiply(steps, scale)
        steps[int(np.argmin(np.where(np.array(shape) > steps, sides, np.inf)))] += 1
    return tuple(steps)

"""A rough body at a click, where nothing stands out clearly (docs/design.md, 7).

Users click in the middle of what they mean. Its size is looked for on rays from the click: it is
likely to be where the intensities within a distance differ from those just beyond, in the mean and
as distributions; of all sizes, the one is taken that is expected to overlap most. Within a soft
ball of that size, the intensities decide voxel by voxel, with neighbours that agree unless an edge
lies between.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit

from gamt.lifting.cubes import (
    Cube,
    Image,
    Mask,
    Spacing,
    Voxel,
    component,
    look_around,
    noise_of,
    to_finite,
    to_raw,
)
from gamt.segmenters import histograms

RAYS, RADII = 128, 40
"""How many rays leave the click, and how many places on each are looked at (docs/constants.md)."""

FIRST_RADIUS, LAST_SHARE, LAST_RADIUS_MM = 0.75, 0.6, 150.0
"""The first place, in voxels of the finest spacing; the last one, as a share of the scan's longest
side, and in mm at most (docs/constants.md)."""

BEYOND = 1.35
"""Up to this many times a distance, places count as just beyond it (docs/constants.md)."""

LEAST_INSIDE = 4
"""Places on a ray that lie within the least distance (docs/constants.md)."""

FEW_VOXELS, FEWER_VOXELS = 300, 30
"""Volumes at which differences of the mean, and of distributions, count half: within a few voxels,
noise alone differs from what is beyond (docs/constants.md)."""

SMALLER = 0.9
"""A body is taken to be this many times as large as it seems: users add more easily than they dig
out (docs/constants.md)."""

LEAST_SPREAD = 0.012
"""Deviation that is added to those of intensities on rays, as a share of their range
(docs/constants.md)."""

RAY_PERCENTILES = (1, 99)
"""Intensities on rays that the bins span (docs/constants.md)."""

RAY_BINS, RAY_BLUR = 24, 1.0
"""Bins of the intensities on rays, and how many of them are smoothed over (docs/constants.md)."""

BLOB_REACH, BALL_ROOM = 16, 2.5
"""Blocks from the click to the faces of the cube that is segmented, and how many times the ball's
radius it holds (docs/constants.md)."""

STEEPNESS_INSIDE, STEEPNESS_OUTSIDE, MOST_INSIDE, MOST_OUTSIDE = 4.5, 3.0, 2.5, 4.0
"""Log-odds of the ball for each radius inside and outside of its surface, and the most that they
are (docs/constants.md)."""

RANGE_ROOM, BLOB_BLUR = 1.05, 1.5
"""Factor by which the histograms' range exceeds the intensities', and how many bins of it they are
smoothed over (docs/constants.md)."""

INTENSITY_WEIGHT, MOST_RATIO, IMPURITY, LEAST_PURE = 1.3, 3.0, 0.4, 0.05
"""Weight of the intensities beside the ball, the most that they say as log-odds, the share of the
background's density that is taken out of the body's, and the least that is left of it
(docs/constants.md)."""

FINE_WEIGHT, COARSE_WEIGHT, COARSE_SIGMA = 0.6, 0.7, 0.6
"""Weights of a block's own intensity and of the averaged one, and over how many blocks it is
averaged (docs/constants.md)."""

BOND, BOND_NOISE, NOISE_SHARE = 0.8, 2.5, 0.01
"""Log-odds by which alike neighbours agree, the difference at which they stop to, in deviations of
the noise, and a share of the range that counts as noise (docs/constants.md)."""

ROUNDS, AGREEMENTS = 4, 4
"""How often histograms and blocks improve each other, and neighbours each other
(docs/constants.md)."""


def find_blob(image: npt.NDArray[Any], spacing_mm: Spacing, click: Voxel) -> tuple[Voxel, Mask]:
    """Finds a rough body around a click in its middle.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).

    Returns:
        The raw voxel (z, y, x) that is the first of the mask, and the mask, (z, y, x) bool.
    """
    radius_mm = find_radius(image, spacing_mm, click)
    if radius_mm == 0:
        return click, np.ones((1, 1, 1), np.bool_)
    step_mm = max(min(spacing_mm), BALL_ROOM * radius_mm / BLOB_REACH)
    cube = look_around(image, spacing_mm, click, step_mm, BLOB_REACH * step_mm)
    return cube.low, to_raw(segment_ball(cube, radius_mm), cube.edges)


def find_radius(image: npt.NDArray[Any], spacing_mm: Spacing, click: Voxel) -> float:
    """Finds how large a body is whose middle is clicked, in mm; 0 where all is of one intensity."""
    longest_mm = max(n * mm for n, mm in zip(image.shape, spacing_mm, strict=True))
    first_mm = FIRST_RADIUS * min(spacing_mm)
    last_mm = max(2 * first_mm, min(LAST_RADIUS_MM, LAST_SHARE * longest_mm))
    radii = np.geomspace(first_mm, last_mm, RADII)
    places = np.asarray(click) + directions()[:, None] * radii[:, None] / np.asarray(spacing_mm)
    voxels = np.rint(places).astype(np.intp)
    held = ((voxels >= 0) & (voxels < image.shape)).all(axis=-1)
    z, y, x = np.moveaxis(voxels.clip(0, np.subtract(image.shape, 1)), -1, 0)
    values = to_finite(image[z, y, x]).astype(np.float64)
    shells = np.diff(radii**3, prepend=0.0) * held
    low, high = np.percentile(values[held], RAY_PERCENTILES).tolist()
    if low == high:
        return 0.0
    index = ((values.clip(low, high) - low) / (high - low) * (RAY_BINS - 1)).astype(np.intp)
    noise = (LEAST_SPREAD * (high - low)) ** 2
    differences, separations, middles = [], [], []
    for n in range(LEAST_INSIDE, RADII - 1):
        last = int(np.searchsorted(radii, BEYOND * radii[n])) + 1
        inner, outer = np.s_[:, :n], np.s_[:, n + 1 : last]
        if last > RADII or shells[outer].sum() == 0:
            break
        means, variances, densities = [], [], []
        for part in (inner, outer):
            weight = shells[part] / shells[part].sum()
            means.append(float((values[part] * weight).sum()))
            variances.append(float((np.square(values[part] - means[-1]) * weight).sum()))
            counts = np.bincount(index[part].ravel(), weight.ravel(), RAY_BINS)
            densities.append(ndimage.gaussian_filter1d(counts, RAY_BLUR, mode="nearest"))
        voxels_inside = 4 / 3 * np.pi * radii[n] ** 3 / float(np.prod(spacing_mm))
        trust = voxels_inside / (voxels_inside + FEW_VOXELS)
        differences.append(trust * (means[0] - means[1]) ** 2 / (sum(variances) + noise))
        trust = voxels_inside / (voxels_inside + FEWER_VOXELS)
        separations.append(trust * float(np.abs(densities[0] - densities[1]).sum()))
        middles.append(float(radii[n]))
    if not middles:
        return first_mm
    likely = np.array(differences) * np.square(separations)
    volumes = np.power(middles, 3)
    both = np.minimum(volumes[:, None], volumes)
    expected = (2 * both / (volumes[:, None] + volumes)) @ likely
    return SMALLER * middles[int(np.argmax(expected))]


def directions() -> npt.NDArray[np.float64]:
    """Returns evenly spread directions, (RAYS, 3) unit vectors (z, y, x), on a spiral."""
    place = np.arange(RAYS) + 0.5
    height, turn = 1 - 2 * place / RAYS, np.pi * (1 + np.sqrt(5)) * place
    round_ = np.sqrt(1 - height**2)
    return np.stack([height, round_ * np.cos(turn), round_ * np.sin(turn)], axis=1)


def segment_ball(cube: Cube, radius_mm: float) -> Mask:
    """Segments what fills a soft ball around the click, (z, y, x) bool blocks of a cube."""
    squared = np.zeros((1, 1, 1), np.float32)
    for axis, (size, place, mm) in enumerate(
        zip(cube.image.shape, cube.click, cube.spacing_mm, strict=True)
    ):
        away = np.square((np.arange(size, dtype=np.float32) - place) * np.float32(mm / radius_mm))
        squared = squared + away.reshape([-1 if one == axis else 1 for one in range(3)])
    distance = np.sqrt(squared)
    prior = np.where(
        distance < 1,
        np.minimum(MOST_INSIDE, STEEPNESS_INSIDE * (1 - distance)),
        np.maximum(-MOST_OUTSIDE, STEEPNESS_OUTSIDE * (1 - distance)),
    ).astype(np.float32)
    near = (distance < BALL_ROOM).astype(np.float32)
    smooth = ndimage.gaussian_filter(cube.image, COARSE_SIGMA, mode="nearest")
    low, high = np.percentile(cube.image[near > 0], (1, 99))
    span = float(high - low) * RANGE_ROOM
    if span == 0:
        return component(distance < 1, cube.click)
    features = [
        (weight, histogram_index(seen, float(low + high) / 2, span))
        for weight, seen in ((FINE_WEIGHT, cube.image), (COARSE_WEIGHT, smooth))
    ]
    noise = noise_of(cube.image) + NOISE_SHARE * span
    bonds = [
        np.float32(BOND) * np.exp(-np.square(np.diff(smooth, axis=axis) / (BOND_NOISE * noise)) / 2)
        for axis in range(3)
    ]
    inside = expit(2 * prior) * near
    logits = prior
    for _ in range(ROUNDS):
        ratio = sum(weight * intensity_ratio(index, inside, near) for weight, index in features)
        logits = agree(prior + np.float32(INTENSITY_WEIGHT) * ratio, bonds)
        inside = expit(logits) * near
    found = logits > 0
    found[cube.click] = True
    return component(found, cube.click)


def histogram_index(image: Image, middle: float, span: float) -> npt.NDArray[np.intp]:
    """Returns every block's histogram bin; the bins span a range around a middle."""
    scaled = ((image - middle) / span + 0.5) * histograms.BINS
    return np.asarray(scaled.clip(0, histograms.BINS - 1), np.intp)


def intensity_ratio(index: npt.NDArray[np.intp], inside: Image, near: Image) -> Image:
    """Returns the log of how much likelier every block's intensity is inside than outside.

    Args:
        index: (z, y, x) bins.
        inside: (z, y, x) probability of being inside, as far as known.
        near: (z, y, x) 1 where blocks count, else 0.
    """
    mixed, outside = (
        histograms.density(
            np.asarray(np.bincount(index.ravel(), weight.ravel(), histograms.BINS), np.float64),
            BLOB_BLUR,
        )
        for weight in (inside, near - inside)
    )
    pure = np.maximum(mixed - IMPURITY * outside, LEAST_PURE * mixed)
    pure /= max(float(pure.sum()), 1e-9)
    separation = float(np.abs(pure - outside).sum()) / 2
    ratio = histograms.log_likelihood_ratio(pure, outside, histograms.FLOOR, MOST_RATIO)
    return np.asarray(separation * ratio, np.float32)[index]


def agree(logits: Image, bonds: list[Image]) -> Image:
    """Returns log-odds of which neighbours agree as far as bonds tie them (mean field)."""
    result = logits
    for _ in range(AGREEMENTS):
        spin = np.tanh(result / 2)
        result = logits.copy()
        for axis, bond in enumerate(bonds):
            along, spins = np.moveaxis(result, axis, 0), np.moveaxis(spin, axis, 0)
            tie = np.moveaxis(bond, axis, 0)
            along[:-1] += tie * spins[1:]
            along[1:] += tie * spins[:-1]
    return result

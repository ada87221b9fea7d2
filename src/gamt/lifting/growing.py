"""The body that a click stands in, grown in 3-D from the scan alone (docs/design.md, 7).

A click says where, not how large. Around it, voxels whose intensity is near the click's are
collected, with more and more tolerance. A body with a border all around stays as it is while the
tolerance rises from what its own noise needs to what its border stops: such a *plateau* is the sign
of a body, and how far the tolerance rises on it, as a ratio, how sure it is. Thin bridges to what
looks alike are cut by an opening of the region, in several widths.

It is looked at in cubes of growing size around the click, in blocks of as many voxels as keep the
work the same; so bodies from one voxel to half a scan are found in about the same time. The border
is then settled voxel by voxel, between the intensities on both of its sides.

What is clear by itself wins over what is clearer and larger: users add more easily than they dig
out. Where nothing is clear, there is no body, and a rough one is made (`gamt.lifting.blobs`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import edt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range
from gamt.lifting.budget import OutOfTime
from gamt.lifting.cubes import (
    Cube,
    Image,
    Mask,
    Spacing,
    Voxel,
    average,
    component,
    cubes,
    depths,
    fill_holes,
    is_noisy,
    look_around,
    mean_of_blocks,
    noise_of,
    to_finite,
    to_raw,
)

LEAST_TOLERANCE, TOLERANCE_RATIO = 0.6, 1.2
"""The first tolerance, in deviations of the noise, and the ratio of each to the one before
(docs/constants.md)."""

NEAR_BLOCKS = 6
"""Blocks to each side of the click whose noise counts beside that of the whole cube
(docs/constants.md)."""

LEAST_SPREAD = 0.05
"""In a noisy scan, a body whose intensities spread less is one that its range cuts off
(docs/constants.md)."""

MOST_OF_SCAN = 0.8
"""A body with more than this share of a scan is the scan (docs/constants.md)."""

SMOOTHING = 0.8
"""Standard deviation over which the finest cube's intensities are also averaged, in voxels of the
finest spacing (docs/constants.md)."""

OPENINGS = (0.0, 1.5, 2.5, 4.0)
"""Radii of the openings that cut bridges, in blocks (docs/constants.md)."""

SAME_REGION = 1.01
"""Where a region has grown by no more than this, it is not opened anew, for speed
(docs/constants.md)."""

PLATEAU_LOSS, PLATEAU_GAIN = 0.85, 1.2
"""A plateau ends where a region has less or more than these shares of its own size
(docs/constants.md)."""

LEAST_PERSISTENCE, LEAST_SURENESS = 0.69, 0.5
"""Logarithm of the ratio by which the tolerance rises on a body's plateau: twice, at least; and
what is left of it at least where the click is not in the middle (docs/constants.md)."""

CLEAR_EDGE, CLEAR_CONTRAST = 1.5, 1.5
"""A body's border is at least this clear nearly everywhere: in deviations of the noise, and in its
own (docs/constants.md)."""

LEAST_LEAK = 3.0
"""Least tolerance, in deviations of the noise, that a body's border withstands
(docs/constants.md)."""

WEAK_SHARE = 0.1
"""Share of the border that may be less clear than it is said to be (docs/constants.md)."""

LEAST_VOXELS, LEAST_BLOCKS = 2, 60
"""Least size of a body: in voxels, and in blocks of several voxels (docs/constants.md)."""

SAME_SIZE = 2.5
"""Bodies up to this many times the smallest clear one are the same, seen more or less well
(docs/constants.md)."""

CENTRE_TRUST = 0.5
"""Exponent of how central a click is in a body, by which the ratio of the tolerances is multiplied
(docs/constants.md)."""

SURE, HALVING_COST, CHANGE_COST = 1.5, 0.4, 0.2
"""Sureness above which bodies are equally sure, and what a body gives up for each halving of the
resolution that it was seen at, and for an opening or averaged intensities (docs/constants.md)."""

LASTING, COARSE_PROOF, MANY, STRIKING, MOST_SPREAD = 1.05, 0.2, 10, 5.0, 2.0
"""Persistence that is proof enough, and how much more with each halving of the resolution; in how
many ways a body is seen that has less, or how clear its edge is; and the most that its intensities
spread (docs/constants.md)."""

MOST_VOXELS = 3_000_000
"""Voxels of the largest cube in which a body is followed at full resolution (docs/constants.md)."""

MOST_FOLLOWED, MOST_LEAVING = 4, 0.1
"""Bodies that are followed at most, the surest first; and the share of a body's border by which it
may leave a cube to end there (docs/constants.md)."""

FOLLOWED_GAIN = 1.5
"""A body that is followed grows at most by this factor from one tolerance to the next
(docs/constants.md)."""

NORMAL_DEVIATION = 0.6745
"""Median absolute deviation of normal noise, in standard deviations (docs/constants.md)."""

OUTSIDE, SIDE_SIGMA, SIDE_BLOCK, LEAST_WEIGHT = 4.0, 2.5, 2.0, 1e-4
"""How far outside intensities count as those of the other side, the standard deviation over which
each side's are averaged, and the blocks that they are averaged in, in voxels of the finest spacing;
least weight of a mean (docs/constants.md)."""

CORE_SHARE, CLEAR_NOISE = 0.3, 6.0
"""Share of a body below which its inner voxels don't stand for it; contrast, in deviations of the
noise, above which single voxels can be told apart (docs/constants.md)."""

SETTLE_ROUNDS, SETTLED = 4, 0.002
"""How often a border moves at most, and the share of changed voxels at which it has settled
(docs/constants.md)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a region was grown, so that it can be grown elsewhere.

    Attributes:
        value: the intensity that the tolerance is counted from.
        tolerance: largest difference from it, in the scan's units.
        end: the tolerance at which the region leaks.
        radius_mm: of the opening that cuts bridges.
        sigma_mm: standard deviation of the averaging of intensities; 0 for none.
        noise: deviation of the noise.
    """

    value: float
    tolerance: float
    end: float
    radius_mm: float
    sigma_mm: float
    noise: float


@dataclass(frozen=True, eq=False)
class Body:
    """A connected part of a scan that differs from what is around it.

    Attributes:
        low: the raw voxel (z, y, x) that is the first of the first block.
        region: (z, y, x) bool, its blocks of voxels within its bounds.
        edges: on each axis, the first raw voxel of every block and the one past the last, counted
            from `low`.
        recipe: how it was grown.
        persistence: logarithm of the ratio by which the tolerance rises while the body stays.
        edge: how clear nearly all of its border is, in deviations of the noise.
        spread: median absolute deviation of its intensities, in deviations of the noise.
        centrality: how far the click is from the border, of the farthest there is; 0..1.
        halvings: how often the scan's resolution was halved to see it.
        cut_off: whether it leaks far away, and is what of it lies in its cube.
    """

    low: Voxel
    region: Mask
    edges: tuple[npt.NDArray[np.intp], ...]
    recipe: Recipe
    persistence: float
    edge: float
    spread: float
    centrality: float
    halvings: int
    cut_off: bool = False

    @cached_property
    def size(self) -> int:
        """Number of raw voxels."""
        depths, rows, columns = (np.diff(edges) for edges in self.edges)
        return int(self.region @ columns @ rows @ depths)

    @property
    def mask(self) -> Mask:
        """Its raw voxels, (z, y, x) bool from `low` on; made anew with every use."""
        return to_raw(self.region, self.edges)

    def holds(self, voxels: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Says which raw voxels, (N, 3) in the order (z, y, x), are in it; (N,)."""
        places = voxels - np.array(self.low)
        blocks = [
            np.searchsorted(edges, place, side="right") - 1
            for edges, place in zip(self.edges, places.T, strict=True)
        ]
        inside = np.ones(len(voxels), np.bool_)
        for block, size in zip(blocks, self.region.shape, strict=True):
            inside &= (block >= 0) & (block < size)
        inside[inside] = self.region[tuple(block[inside] for block in blocks)]
        return inside

    @property
    def sureness(self) -> float:
        """`persistence`, less for clicks far from the middle."""
        return self.persistence + CENTRE_TRUST * float(np.log(max(self.centrality, 1e-3)))

    @property
    def clear(self) -> bool:
        """Whether it is a body by itself, rather than a part of one or several."""
        contrast = max(CLEAR_EDGE, CLEAR_CONTRAST * self.spread)
        return self.sureness >= LEAST_SURENESS and self.edge >= contrast


def openings(
    region: Mask, voxel: Voxel, radii_mm: Sequence[float], spacing_mm: Spacing
) -> Iterator[Mask]:
    """Yields what openings leave of a region around a voxel, until one leaves nothing.

    Args:
        region: (z, y, x).
        voxel: (z, y, x) inside of it.
        radii_mm: of the openings, ascending; 0 leaves all of it.
        spacing_mm: (z, y, x).
    """
    bounds = bounding_range(region)
    if bounds is None:
        return
    part = tuple(slice(max(0, a - 1), b + 1) for a, b in zip(*bounds, strict=True))
    z, y, x = (v - one.start for v, one in zip(voxel, part, strict=True))
    depth = depths(region[part], spacing_mm)
    for radius_mm in radii_mm:
        if radius_mm == 0:
            yield region
            continue
        if depth[z, y, x] <= radius_mm:
            return
        core = component(depth > radius_mm, (z, y, x))
        away = edt.edt((~core).view(np.uint8), anisotropy=spacing_mm)
        opened = np.zeros_like(region)
        opened[part] = (away <= radius_mm * (1 + 1e-3)) & region[part]
        yield opened


def face_contrast(image: Image, region: Mask) -> Image:
    """Returns the difference of intensity across every face between a region and the rest.

    It is taken between the second voxels to both sides, where they are on the same side as the
    first ones: borders are blurred.

    Returns:
        (N,) absolute differences.
    """
    found = []
    for axis in range(3):
        along, inside = np.moveaxis(image, axis, 0), np.moveaxis(region, axis, 0)
        face = np.nonzero(inside[:-1] != inside[1:])
        before, behind = face, (face[0] + 1, *face[1:])
        deeper = (np.maximum(face[0] - 1, 0), *face[1:])
        farther = (np.minimum(face[0] + 2, len(along) - 1), *face[1:])
        near = np.where(inside[deeper] == inside[before], along[deeper], along[before])
        far = np.where(inside[farther] == inside[behind], along[farther], along[behind])
        found.append(np.abs(near - far))
    return np.concatenate(found)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A region at one tolerance.

    Attributes:
        tolerance: in the scan's units.
        region: (z, y, x) bool.
        size: of the region.
        open: through how many of its blocks' faces, on those of the cube, it goes on.
    """

    tolerance: float
    region: Mask
    size: int
    open: int


def grow(
    intensities: Image,
    value: float,
    noise: float,
    cube: Cube,
    before_step: Callable[[], None] = lambda: None,
) -> dict[float, list[Step]]:
    """Collects voxels whose intensity is near a value, with more and more tolerance.

    Args:
        intensities: (z, y, x) of the cube's blocks.
        value: the intensity that the tolerance is counted from.
        noise: deviation of the noise.
        cube: where the click is.
        before_step: called before every tolerance.

    Returns:
        For each radius of `OPENINGS`, the regions around the click in the order of tolerance.
    """
    away = np.abs(intensities - np.float32(value))
    farthest, size, opened_size = float(away.max()), 0, 0
    parts: list[Mask] = []
    steps: dict[float, list[Step]] = {radius: [] for radius in OPENINGS}
    radii_mm = [radius * cube.step_mm for radius in OPENINGS]
    tolerance = LEAST_TOLERANCE * noise
    while tolerance <= farthest * TOLERANCE_RATIO:
        before_step()
        near = away <= tolerance
        if near[cube.click]:
            region = component(near, cube.click)
            before, size = size, int(np.count_nonzero(region))
            if size > SAME_REGION * opened_size:
                opened_size = size
                parts = list(openings(region, cube.click, radii_mm, cube.spacing_mm))
            elif size > before:
                parts[0] = region
            for each, part in zip(steps.values(), parts, strict=False):
                count = int(np.count_nonzero(part))
                each.append(Step(tolerance, part, count, cube.count_open(part)))
            if size == region.size:
                break
        tolerance *= TOLERANCE_RATIO
    return steps


def plateaus(steps: Sequence[Step]) -> Iterator[tuple[float, float, Step]]:
    """Yields where a region stays nearly as it is while the tolerance rises.

    Args:
        steps: in the order of tolerance.

    Yields:
        The logarithm of the ratio by which the tolerance rises, the tolerance at which the plateau
        ends, and the step in its middle.
    """
    if not steps:
        return
    tolerances = np.array([step.tolerance for step in steps])
    sizes = np.array([step.size for step in steps])
    ends = np.append(tolerances, tolerances[-1] * TOLERANCE_RATIO)
    seen = set()
    for size in sizes:
        first = int(np.argmax(sizes >= PLATEAU_LOSS * size))
        larger = np.flatnonzero(sizes > PLATEAU_GAIN * size)
        last = int(larger[0]) if len(larger) else len(sizes)
        if (first, last) in seen:
            continue
        seen.add((first, last))
        start, end = float(ends[first]), float(ends[last])
        middle = int(np.searchsorted(tolerances, np.sqrt(start * end)))
        yield float(np.log(end / start)), end, steps[int(np.clip(middle, first, last - 1))]


def bodies_in(
    cube: Cube, halvings: int, before_step: Callable[[], None]
) -> Iterator[tuple[Body, float]]:
    """Yields the plateaus of what grows at a click, as bodies of blocks, in one cube.

    Args:
        cube: what is looked at.
        halvings: how often the scan's resolution was halved for it.
        before_step: called before every step of a growth, and before a body is judged.

    Yields:
        A body, and through how many faces of the cube it goes on, as a share of those of its
        border.
    """
    fine = halvings == 0
    # Where a scan has nothing to show, it often has no noise either.
    inner = tuple(slice(max(0, v - NEAR_BLOCKS), v + NEAR_BLOCKS + 1) for v in cube.click)
    around = tuple(slice(max(0, place - 1), place + 2) for place in cube.click)
    noisy, sigmas_mm = is_noisy(cube.image), [0.0]
    if fine and noisy:
        sigmas_mm.append(SMOOTHING * cube.step_mm)
    for sigma_mm in sigmas_mm:
        seen = average(cube, sigma_mm)
        noise = max(noise_of(seen), noise_of(seen[inner]))
        values = {float(seen[cube.click])}
        if sigma_mm == 0:
            values.add(float(np.median(seen[around])))
        for value in sorted(values):
            judged: dict[int, Body] = {}
            for radius, steps in grow(seen, value, noise, cube, before_step).items():
                for persistence, end, step in plateaus(steps):
                    if persistence < LEAST_PERSISTENCE or end < LEAST_LEAK * noise:
                        continue
                    if step.size < (LEAST_VOXELS if fine else LEAST_BLOCKS):
                        continue
                    radius_mm = radius * cube.step_mm
                    recipe = Recipe(value, step.tolerance, end, radius_mm, sigma_mm, noise)
                    key = id(step.region)
                    if key not in judged:
                        before_step()
                        judged[key] = judge(cube, seen, step.region, recipe, persistence, halvings)
                    body = replace(judged[key], recipe=recipe, persistence=persistence)
                    cut = noisy and body.spread < LEAST_SPREAD  # by the range of intensities
                    if body.clear and not cut and step.open <= border_size(step.region):
                        yield body, step.open / border_size(step.region)


def border_size(region: Mask) -> int:
    """Returns how many faces lie between a region's voxels and others."""
    return sum(int(np.count_nonzero(np.diff(region, axis=axis))) for axis in range(3))


def judge(
    cube: Cube, seen: Image, region: Mask, recipe: Recipe, persistence: float, halvings: int
) -> Body:
    """Makes a body of a region of blocks; its edge is 0 where it has no border.

    Args:
        cube: where it was grown.
        seen: (z, y, x) the cube's intensities, as they were grown from.
        region: (z, y, x) bool.
        recipe: how it was grown.
        persistence: of its plateau.
        halvings: how often the scan's resolution was halved for the cube.
    """
    contrast = face_contrast(seen, region)
    edge = float(np.quantile(contrast, WEAK_SHARE)) / recipe.noise if contrast.size else 0.0
    inside = seen[region]
    deviation = float(np.median(np.abs(inside - np.median(inside)))) / NORMAL_DEVIATION
    # Noise pierces a region, next to the click too.
    depth = depths(fill_holes(region), cube.spacing_mm)
    near = tuple(slice(max(0, place - 1), place + 2) for place in cube.click)
    farthest = float(depth.max())
    centrality = float(depth[near].max()) / farthest if np.isfinite(farthest) else 1.0
    spread = deviation / recipe.noise
    low, blocks, edges = cube.cut(region)
    return Body(low, blocks, edges, recipe, persistence, edge, spread, centrality, halvings)


def follow(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    body: Body,
    before_step: Callable[[], None] = lambda: None,
) -> Body | None:
    """Grows a body that leaves its cube in a larger one, at full resolution.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).
        body: what to follow.
        before_step: called before every step.

    Returns:
        The body; None where it leaks, or leaves the larger cube, too, by much of its border.
    """
    step_mm = min(spacing_mm)
    reach_mm = step_mm * float(np.cbrt(MOST_VOXELS)) / 2
    if image.size <= MOST_VOXELS:
        reach_mm = max(n * mm for n, mm in zip(image.shape, spacing_mm, strict=True))
    before_step()
    cube = look_around(image, spacing_mm, click, step_mm, reach_mm)
    recipe = body.recipe
    seen = average(cube, recipe.sigma_mm)
    away = np.abs(seen - np.float32(recipe.value))

    def regrow(tolerance: float) -> Mask | None:
        before_step()
        region = component(away <= tolerance, cube.click)
        return next(openings(region, cube.click, [recipe.radius_mm], spacing_mm), None)

    # What leaks elsewhere leaks at a lower tolerance than the cube shows.
    start, tolerance = recipe.end / np.exp(body.persistence), recipe.tolerance
    while tolerance >= start:
        region = regrow(tolerance)
        larger = regrow(tolerance * TOLERANCE_RATIO)
        if region is None or larger is None:
            return None
        is_inside = cube.count_open(region) <= MOST_LEAVING * border_size(region)
        if is_inside and larger.sum() <= FOLLOWED_GAIN * region.sum():
            grown = replace(recipe, tolerance=tolerance)
            before_step()
            return judge(cube, seen, region, grown, body.persistence, 0)
        tolerance /= TOLERANCE_RATIO
    return None


def follow_some(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    leaving: Sequence[tuple[Body, float]],
    before_step: Callable[[], None],
) -> Iterator[Body]:
    """Follows the surest of the bodies that leave their cube.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).
        leaving: the bodies, and how much of each one's border is that of the cube.
        before_step: called before every step; what it raises ends it.

    Yields:
        The whole bodies that are clear; and those cut off that leak far away, and leave the cube by
        little of their border.
    """
    followed: list[Recipe] = []
    for body, share in sorted(leaving, key=lambda one: -one[0].sureness):
        if len(followed) == MOST_FOLLOWED:
            break
        if not any(alike(body.recipe, other) for other in followed):
            followed.append(body.recipe)
            whole = follow(image, spacing_mm, click, body, before_step)
            if whole is not None and whole.clear:
                yield whole
            elif share <= MOST_LEAVING:
                yield replace(body, cut_off=True)


def find_bodies(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    before_step: Callable[[], None] = lambda: None,
) -> list[Body]:
    """Finds the clear bodies that a click stands in.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: a voxel (z, y, x).
        before_step: called before every step that takes a while. It may raise `OutOfTime`.

    Returns:
        From small to large; none where nothing is clear. Out of time, what was found until then.
    """
    found: list[Body] = []
    most = MOST_OF_SCAN * image.size
    with suppress(OutOfTime):
        before_step()
        for halvings, cube in enumerate(cubes(image, spacing_mm, click)):
            leaving: list[tuple[Body, float]] = []
            for body, share in bodies_in(cube, halvings, before_step):
                if share > 0:
                    leaving.append((body, share))
                elif body.size <= most:
                    found.append(body)
            if halvings == 0:
                followed = follow_some(image, spacing_mm, click, leaving, before_step)
                found.extend(body for body in followed if body.size <= most)
            if found and halvings > 0:
                break
    return sorted(found, key=lambda body: body.size)


def alike(one: Recipe, other: Recipe) -> bool:
    """Says whether two recipes make about the same region."""
    same = one.radius_mm == other.radius_mm and one.sigma_mm == other.sigma_mm
    return same and max(one.tolerance, other.tolerance) < TOLERANCE_RATIO * min(
        one.tolerance, other.tolerance
    )


def rank(body: Body) -> float:
    """Returns how well a body is seen: its sureness, less for what changes its border."""
    changes = HALVING_COST * body.halvings
    changes += CHANGE_COST * ((body.recipe.radius_mm > 0) + (body.recipe.sigma_mm > 0))
    return min(body.sureness, SURE) - changes


def tapers(body: Body, bodies: Sequence[Body]) -> bool:
    """Says whether an opening cut a body out of one that tapers, such as a vessel.

    What a thin bridge joins is the same after openings of several widths. What tapers becomes
    smaller with each; then the larger body counts, if it lasts as long.

    Args:
        body: one of the bodies at a click.
        bodies: all of them.
    """
    radius_mm = body.recipe.radius_mm
    others = [other for other in bodies if other.recipe.radius_mm != radius_mm]
    same = any(
        other.halvings == body.halvings
        and max(body.size, other.size) <= PLATEAU_GAIN * min(body.size, other.size)
        for other in others
    )
    return not same and any(
        other.recipe.radius_mm < radius_mm
        and other.size > body.size
        and other.persistence >= body.persistence
        for other in others
    )


def choose(bodies: Sequence[Body]) -> Body | None:
    """Chooses the smallest body that stands out, as it is seen best.

    Bodies of about one size are one, seen in several ways. It stands out if its intensities spread
    little more than noise does, and it either lasts over much tolerance, the more the coarser it
    is seen, or is seen in many ways, or has a striking edge. Parts of what tapers don't count, and
    bodies that are cut off only where no whole one stands out.

    Args:
        bodies: from small to large.

    Returns:
        The body; None where none stands out.
    """
    whole = [body for body in bodies if not body.cut_off]
    return choose_one(whole) or choose_one([body for body in bodies if body.cut_off])


def choose_one(bodies: Sequence[Body]) -> Body | None:
    """Chooses among bodies that are all whole, or all cut off; see `choose`."""
    untapered = [body for body in bodies if not tapers(body, bodies)]
    for smallest in untapered:
        size = smallest.size
        same = [body for body in untapered if size <= body.size <= SAME_SIZE * size]
        best = max(same, key=rank)
        lasting = LASTING + COARSE_PROOF * best.halvings
        is_striking = (len(same) >= MANY or best.edge >= STRIKING) and best.halvings <= 1
        if best.spread <= MOST_SPREAD and (best.persistence >= lasting or is_striking):
            return best
    return None


def settle(
    image: npt.NDArray[Any],
    spacing_mm: Spacing,
    click: Voxel,
    body: Body,
    before_step: Callable[[], None] = lambda: None,
) -> Body:
    """Settles a body's border between the intensities on both of its sides.

    What was seen coarsely is settled in blocks of half as many halvings, and then voxel by voxel in
    the blocks at its border. What was grown from the scan's own voxels is settled already.

    Args:
        image: (z, y, x), any numeric type.
        spacing_mm: of its voxels (z, y, x).
        click: the voxel (z, y, x) that the body was grown from.
        body: what to settle.
        before_step: called before every round. It may raise `OutOfTime`.

    Returns:
        The settled body; out of time, the body as it was.
    """
    recipe, step_mm = body.recipe, min(spacing_mm)
    if body.halvings:
        reach_mm = 1.5 * step_mm * 2**body.halvings
    elif recipe.sigma_mm:
        reach_mm = 2 * step_mm
    else:
        return body
    block_mm = step_mm * 2 ** (body.halvings // 2)
    mask = body.mask
    rooms = [int(np.ceil((reach_mm + OUTSIDE * block_mm) / one)) + 1 for one in spacing_mm]
    low = [max(0, first - n) for first, n in zip(body.low, rooms, strict=True)]
    high = [
        min(size, first + length + n)
        for first, length, n, size in zip(body.low, mask.shape, rooms, image.shape, strict=True)
    ]
    values = image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    inside = np.zeros(values.shape, np.bool_)
    offset = [first - a for first, a in zip(body.low, low, strict=True)]
    inside[tuple(slice(a, a + n) for a, n in zip(offset, mask.shape, strict=True))] = mask
    z, y, x = (place - first for place, first in zip(click, low, strict=True))
    voxel = z, y, x
    sides = [max(1, round(block_mm / one)) for one in spacing_mm]
    try:
        if max(sides) == 1:
            settled, _ = settle_border(
                to_finite(values), inside, voxel, spacing_mm, reach_mm, recipe.noise, before_step
            )
        else:
            settled = settle_blocks(
                values, inside, voxel, spacing_mm, sides, reach_mm, recipe.noise, before_step
            )
    except OutOfTime:
        return body
    edges = tuple(np.arange(size + 1) for size in settled.shape)
    return replace(body, low=(low[0], low[1], low[2]), region=settled, edges=edges)


def settle_blocks(
    image: npt.NDArray[Any],
    inside: Mask,
    click: Voxel,
    spacing_mm: Spacing,
    sides: Sequence[int],
    reach_mm: float,
    noise: float,
    before_step: Callable[[], None],
) -> Mask:
    """Settles a mask's border in blocks, and then voxel by voxel in the blocks at the border.

    Args:
        image: (z, y, x), any numeric type.
        inside: (z, y, x) the mask.
        click: a voxel (z, y, x) that stays inside.
        spacing_mm: (z, y, x).
        sides: of a block, in voxels (z, y, x).
        reach_mm: how far from the border blocks may change.
        noise: as for `settle_border`.
        before_step: called before every round.
    """
    edges = block_edges(image.shape, sides)
    z, y, x = (place // side for place, side in zip(click, sides, strict=True))
    dz, dy, dx = (side * one for side, one in zip(sides, spacing_mm, strict=True))
    blocks = mean_of_blocks(inside, edges) >= 0.5
    blocks[z, y, x] = True
    blocks, means = settle_border(
        mean_of_blocks(image, edges), blocks, (z, y, x), (dz, dy, dx), reach_mm, noise, before_step
    )
    before_step()
    all_around = np.ones((3, 3, 3), np.bool_)
    border = ndimage.binary_dilation(blocks, all_around)
    border ^= ndimage.binary_erosion(blocks, all_around, border_value=1)
    settled = to_raw(blocks, edges)
    if not border.any():  # it fills the scan
        return settled
    places = np.nonzero(to_raw(border, edges))
    in_blocks = tuple(one // side for one, side in zip(places, sides, strict=True))
    here, there = means(in_blocks)
    own = to_finite(image[places])
    if float(np.median(np.abs(here - there))) <= CLEAR_NOISE * noise:
        sigma = [SMOOTHING * min(spacing_mm) / one for one in spacing_mm]
        own = ndimage.gaussian_filter(to_finite(image), sigma)[places]
    settled[places] = np.abs(own - here) < np.abs(own - there)
    settled[click] = True
    return component(settled, click)


Places = tuple[npt.NDArray[np.intp], ...]
"""Indices of voxels: on each axis (z, y, x), those of all of them."""


def settle_border(
    values: Image,
    inside: Mask,
    click: Voxel,
    spacing_mm: Spacing,
    reach_mm: float,
    noise: float,
    before_step: Callable[[], None] = lambda: None,
) -> tuple[Mask, Callable[[Places], tuple[Image, Image]]]:
    """Moves a mask's border to where the intensities change; see `settle`.

    Voxels near the border go to the side whose mean intensity there is nearer to theirs, again and
    again, until hardly any changes.

    Args:
        values: (z, y, x) intensities.
        inside: (z, y, x) the mask.
        click: a voxel (z, y, x) that stays inside.
        spacing_mm: (z, y, x).
        reach_mm: how far from the border voxels may change.
        noise: deviation of the noise; where the sides differ little for it, intensities are
            averaged.
        before_step: called before every round.

    Returns:
        The mask, and a function that returns the mean intensities inside and outside around voxels.
    """
    step_mm = min(spacing_mm)
    smooth = ndimage.gaussian_filter(values, [SMOOTHING * step_mm / one for one in spacing_mm])
    near = depths(inside, spacing_mm) + depths(~inside, spacing_mm) <= reach_mm * (1 + 1e-3)
    places = np.nonzero(near)
    if not near.any():  # it fills the scan
        return inside, means_of_sides(values, inside, spacing_mm)
    for _ in range(SETTLE_ROUNDS):
        before_step()
        means = means_of_sides(values, inside, spacing_mm)
        here, there = means(places)
        contrast = float(np.median(np.abs(here - there)))
        own = (values if contrast > CLEAR_NOISE * noise else smooth)[places]
        moved = inside.copy()
        moved[places] = np.abs(own - here) < np.abs(own - there)
        moved[click] = True
        moved = component(moved, click)
        changed = np.count_nonzero(moved != inside)
        inside = moved
        if changed <= SETTLED * np.count_nonzero(inside):
            break
    return inside, means


def means_of_sides(
    values: Image, inside: Mask, spacing_mm: Spacing
) -> Callable[[Places], tuple[Image, Image]]:
    """Finds the mean intensities around voxels on both sides of a border, away from the border.

    Args:
        values: (z, y, x) intensities.
        inside: (z, y, x) the mask.
        spacing_mm: (z, y, x).

    Returns:
        A function that returns the means inside and outside around voxels.
    """
    step_mm = min(spacing_mm)
    # The neighbours that are as near as any.
    nearest = np.zeros((3, 3, 3), np.bool_)
    for axis, one in enumerate(spacing_mm):
        if one <= step_mm * (1 + 1e-2):
            np.moveaxis(nearest, axis, 0)[:, 1, 1] = True
    core = ndimage.binary_erosion(inside, nearest, border_value=1)
    if np.count_nonzero(core) < CORE_SHARE * np.count_nonzero(inside):
        core = inside
    rim = depths(~inside, spacing_mm) <= OUTSIDE * step_mm
    rim &= ~ndimage.binary_dilation(inside, nearest)
    # Means change slowly: they are taken from blocks, for speed.
    sides = [max(1, round(SIDE_BLOCK * step_mm / one)) for one in spacing_mm]
    edges = block_edges(values.shape, sides)
    sigma = [SIDE_SIGMA * step_mm / (one * n) for one, n in zip(spacing_mm, sides, strict=True)]

    def mean_of(part: Mask) -> Image:
        total, weight = (
            ndimage.gaussian_filter(mean_of_blocks(one, edges), sigma, truncate=3.0)
            for one in (np.where(part, values, np.float32(0)), part)
        )
        return np.asarray(total / np.maximum(weight, LEAST_WEIGHT))

    inner, outer = mean_of(core), mean_of(rim)

    def at(places: Places) -> tuple[Image, Image]:
        blocks = tuple(one // n for one, n in zip(places, sides, strict=True))
        return inner[blocks], outer[blocks]

    return at


def block_edges(shape: Sequence[int], sides: Sequence[int]) -> list[npt.NDArray[np.intp]]:
    """Returns, on each axis, the first voxel of every block and the one past the last."""
    pairs = zip(shape, sides, strict=True)
    return [np.append(np.arange(0, size, side), size) for size, side in pairs]

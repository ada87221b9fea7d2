"""Drawn volumes for clicks: each holds one target, which anybody who sees the click would outline.

Where `phantoms` has one grey value a label, in a range that needs no window, these vary what makes
a click hard: how intensities are stored and how far they reach, the target's size and shape, where
in it the click is, and what looks like the target close by. A target is homogeneous, but for noise,
texture or shading, and bounded around the click. A kind, a number and a seed always give the same
volume; the next number has its axes in another order.
"""

import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.phantoms import Mask, Shape, Triple, draw_tree, random_rotation
from gamt.sample import Canvas

Image = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Random = np.random.Generator
Voxel = tuple[int, int, int]

COUNT = 12
"""Volumes of a kind: each of the six orders of axes twice."""

ORDERS = tuple(itertools.permutations(range(3)))

AIR, FAT, SOFT_TISSUE, LUNG, METAL = -1000, -80, 60, -850, 20_000
"""Hounsfield units."""

STORED: Mapping[str, Callable[[Image], npt.NDArray[Any]]] = {
    "uint8": lambda grey: np.clip(np.rint(grey), 0, 255).astype(np.uint8),
    "int16 with an offset": lambda grey: np.rint(10 * grey - 1200).astype(np.int16),
    "float32 in 0..1": lambda grey: np.clip(grey / 255, 0, 1).astype(np.float32),
    "float64 below 0": lambda grey: 0.02 * grey - 40,
    "uint16": lambda grey: np.clip(np.rint(50 * grey), 0, 65_535).astype(np.uint16),
}
"""How greys of about 0..255 are stored, by name."""


class ClickVolume(NamedTuple):
    """A drawn volume, the click in its target, and what the click means.

    Attributes:
        name: the kind and a number.
        kind: a key of `KINDS`.
        image: (D, H, W), of any dtype and range.
        truth: (D, H, W) bool, the target.
        click: the clicked voxel (z, y, x), inside the target.
        spacing_mm: (z, y, x).
    """

    name: str
    kind: str
    image: npt.NDArray[Any]
    truth: Mask
    click: Voxel
    spacing_mm: Triple


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A volume before its axes get their order.

    Attributes:
        canvas: the grid.
        image: float64 greys of about 0..255; or int16 Hounsfield units, stored as they are.
        truth: the target.
        clickable: where the click may be, part of the target; None for its deep places.
    """

    canvas: Canvas
    image: npt.NDArray[Any]
    truth: Mask
    clickable: Mask | None = None


def draw_click_volume(kind: str, number: int, seed: int = 0) -> ClickVolume:
    """Draws a volume of a kind; other numbers give other sizes, greys, places and axes."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), number])
    drawing = KINDS[kind](rng)
    image = drawing.image
    if image.dtype == np.float64:
        image = list(STORED.values())[number % len(STORED)](image)
    order, flipped = ORDERS[number % len(ORDERS)], rng.random(3) < 0.5
    mirror = tuple(slice(None, None, -1 if flip else 1) for flip in flipped)

    def orient(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(volume.transpose(order)[mirror])

    z, y, x = (drawing.canvas.spacing_mm[axis] for axis in order)
    truth: Mask = orient(drawing.truth)
    clickable = deep_places(truth) if drawing.clickable is None else orient(drawing.clickable)
    click = pick_voxel(clickable, rng)
    return ClickVolume(f"{kind} {number}", kind, orient(image), truth, click, (z, y, x))


def deep_places(truth: Mask) -> Mask:
    """Returns the voxels of a mask at least half as far from its border as the deepest one.

    Distances are in voxels; the edge of the volume is no border.
    """
    depth = ndimage.distance_transform_edt(truth)
    places: Mask = depth >= depth.max() / 2
    return places


def pick_voxel(mask: Mask, rng: Random) -> Voxel:
    """Returns one voxel (z, y, x) of a mask at random."""
    z, y, x = rng.choice(np.argwhere(mask)).tolist()
    return z, y, x


def ct_lesion(rng: Random) -> Drawing:
    """A brighter or darker lesion in the liver, in Hounsfield units; in half of them metal too."""
    canvas = _canvas(rng, thickness=rng.choice([1.0, 2.5]))
    pixel = canvas.spacing_mm[2]
    hu = _body(canvas)
    liver_centre = _near((0, 2 * pixel, -2 * pixel), 2 * pixel, rng)
    hu[_ball(canvas, liver_centre, rng.uniform(15, 17) * pixel)] = SOFT_TISSUE
    lesion = _ball(canvas, _near(liver_centre, 4 * pixel, rng), rng.uniform(5, 8) * pixel)
    contrast = rng.uniform(40, 120) if rng.random() < 0.5 else rng.uniform(-80, -40)
    hu[lesion] = SOFT_TISSUE + contrast
    image = _with_noise(hu, rng.uniform(8, 15), rng)
    if rng.random() < 0.5:
        away = ~ndimage.binary_dilation(lesion, iterations=2)
        image[away & (rng.random(canvas.shape) < 0.008)] = METAL
    return Drawing(canvas, _hounsfield(image), lesion)


def ct_implant(rng: Random) -> Drawing:
    """The liver in a body with a metal implant, from which bright and dark streaks go out."""
    canvas = _canvas(rng, thickness=rng.choice([1.0, 2.5]))
    pixel = canvas.spacing_mm[2]
    hu = _body(canvas)
    liver = _ball(canvas, (0, 9 * pixel, 0), rng.uniform(9, 12) * pixel)
    hu[liver] = SOFT_TISSUE
    image = _with_noise(hu, rng.uniform(8, 15), rng)
    implant = np.array((0, -14 * pixel, rng.uniform(-6, 6) * pixel))
    angle = np.pi * rng.random(6)  # to the side away from the liver
    away = 60 * pixel * np.stack([0 * angle, -np.sin(angle), np.cos(angle)], axis=-1)
    for end, streak in zip(away, itertools.cycle([700.0, -500.0]), strict=False):
        image[canvas.tube(np.stack([implant, implant + end]), np.full(2, pixel))] += streak
    image[_ball(canvas, tuple(implant), 3 * pixel)] = METAL
    return Drawing(canvas, _hounsfield(image), liver)


def ct_lung(rng: Random) -> Drawing:
    """One of two lungs, which the air around the body resembles."""
    canvas = _canvas(rng)
    pixel = canvas.spacing_mm[2]
    hu = _body(canvas)
    gap, tilt = rng.uniform(10, 12) * pixel, random_rotation(rng, 0.1)
    radii = (rng.uniform(12, 15) * pixel, rng.uniform(10, 13) * pixel, 7.5 * pixel)
    lung, other = (canvas.ellipsoid((0, 0, side), radii, tilt) for side in (-gap, gap))
    hu[lung | other] = LUNG
    return Drawing(canvas, _hounsfield(_with_noise(hu, rng.uniform(15, 30), rng)), lung)


def ct_bone(rng: Random) -> Drawing:
    """A bone in soft tissue."""
    canvas = _canvas(rng, thickness=rng.choice([1.0, 2.0]))
    pixel = canvas.spacing_mm[2]
    hu = _body(canvas)
    radii = (rng.uniform(10, 18) * pixel, rng.uniform(5, 8) * pixel, rng.uniform(5, 8) * pixel)
    bone = canvas.ellipsoid(_near((0, 0, 0), 4 * pixel, rng), radii, random_rotation(rng))
    hu[bone] = rng.uniform(300, 900)
    return Drawing(canvas, _hounsfield(_with_noise(hu, rng.uniform(10, 25), rng)), bone)


def core(rng: Random) -> Drawing:
    """A core in a shell, around which it looks like the core again."""
    canvas, whole, inner = _shell(rng)
    other, target = _levels(rng)
    flat = np.select([inner, whole], [target, other], target)
    return Drawing(canvas, _noisy(flat, target - other, rng), inner)


def shell(rng: Random) -> Drawing:
    """The shell itself, at least four voxels thick."""
    canvas, whole, inner = _shell(rng)
    other, target = _levels(rng)
    flat = np.where(whole & ~inner, target, other)
    return Drawing(canvas, _noisy(flat, target - other, rng), whole & ~inner)


def tiny(rng: Random) -> Drawing:
    """1 to 30 voxels, at least eight times the noise brighter or darker; any of them is clicked."""
    canvas = _canvas(rng)
    truth = np.zeros(canvas.shape, np.bool_)
    corner = rng.integers(6, np.array(canvas.shape) - 12)
    if rng.random() < 0.5:
        sides = rng.integers(1, 4, 3)
        truth[tuple(slice(a, a + n) for a, n in zip(corner, sides, strict=True))] = True
    else:
        z, y, x = np.ogrid[tuple(slice(-3, 4) for _ in range(3))]
        part = truth[tuple(slice(a, a + 7) for a in corner)]
        part[z**2 + y**2 + x**2 <= rng.choice([1, 2, 3])] = True  # 7, 19, 27 voxels
    other, target = _levels(rng)
    deviation = abs(target - other) / rng.uniform(8, 12)
    image = _with_noise(np.where(truth, target, other), deviation, rng)
    return Drawing(canvas, image, truth, clickable=truth)


def off_centre(rng: Random) -> Drawing:
    """A large ball, clicked anywhere from its centre up to two voxels from its border."""
    canvas = _canvas(rng, least=56)
    radius = rng.uniform(12, 22) * canvas.spacing_mm[2]
    ball = _ball(canvas, _somewhere(canvas, radius, rng), radius)
    depth = ndimage.distance_transform_edt(ball)
    away = rng.uniform(3, depth.max())  # of voxel centres from the first one outside
    return _plain(canvas, ball, rng, clickable=(depth >= away) & (depth <= away + 1))


def half_space(rng: Random) -> Drawing:
    """What lies on one side of a plane, three voxels or more inside."""
    canvas = _canvas(rng)
    height = canvas.mm @ _direction(rng) / canvas.spacing_mm[2]
    side = height > rng.uniform(-12, 12)
    depth = ndimage.distance_transform_edt(side)
    return _plain(canvas, side, rng, clickable=(depth >= 4) & (depth <= 12))


def slab(rng: Random) -> Drawing:
    """What lies between two parallel planes, up to all borders of the volume."""
    canvas = _canvas(rng)
    height = canvas.mm @ _direction(rng) / canvas.spacing_mm[2]
    low = rng.uniform(-14, 2)
    return _plain(canvas, (height > low) & (height < low + rng.uniform(7, 16)), rng)


def cut_off(rng: Random) -> Drawing:
    """A ball of which the volume holds a part."""
    canvas = _canvas(rng)
    pixel = canvas.spacing_mm[2]
    radius = rng.uniform(9, 16) * pixel
    low, high = canvas.mm[0, 0, 0], canvas.mm[-1, -1, -1]
    centre = rng.uniform(0.5 * low, 0.5 * high)
    axis = rng.integers(3)
    centre[axis] = high[axis] - rng.uniform(-0.2, 0.6) * radius
    return _plain(canvas, _ball(canvas, tuple(centre), radius), rng)


def dark(rng: Random) -> Drawing:
    """A dark body in a bright one, around which it is darker still."""
    canvas = _canvas(rng)
    pixel = canvas.spacing_mm[2]
    outer = canvas.ellipsoid((0, 0, 0), (25 * pixel, 22 * pixel, 22 * pixel), random_rotation(rng))
    radii = rng.uniform(5, 10, 3) * pixel
    truth = canvas.ellipsoid(_near((0, 0, 0), 5 * pixel, rng), tuple(radii), random_rotation(rng))
    dim = rng.uniform(50, 80)
    contrast = rng.uniform(60, 100)
    flat = np.select([truth, outer], [dim, dim + contrast], dim - rng.uniform(20, 45))
    return Drawing(canvas, _noisy(flat, contrast, rng), truth)


def ellipsoid(rng: Random) -> Drawing:
    """An ellipsoid whose axes are as 1 to 2 to 4, in any orientation."""
    canvas = _canvas(rng, least=60)
    shortest = rng.uniform(4, 6) * canvas.spacing_mm[2]
    radii = (shortest, 2 * shortest, 4 * shortest)
    return _plain(canvas, canvas.ellipsoid((0, 0, 0), radii, random_rotation(rng)), rng)


def thick(rng: Random) -> Drawing:
    """Few slices, three to ten times as thick as a pixel is wide."""
    canvas = _canvas(rng, thickness=rng.uniform(3, 10))
    slice_mm, _, pixel = canvas.spacing_mm
    radii = (rng.uniform(2.0, 3.5) * slice_mm, *(rng.uniform(8, 18, 2) * pixel))
    centre = _somewhere(canvas, max(radii[1:]), rng)
    return _plain(canvas, canvas.ellipsoid(centre, radii, random_rotation(rng, 0.1)), rng)


def touching(rng: Random) -> Drawing:
    """One of two bodies that share a whole face, of different greys."""
    canvas = _canvas(rng, thickness=rng.choice([1.0, 1.5]))
    radii = rng.uniform(12, 20, 3) * canvas.spacing_mm[2]
    body = canvas.ellipsoid((0, 0, 0), tuple(radii), random_rotation(rng))
    one = canvas.mm @ _direction(rng) > rng.uniform(-2, 2) * canvas.spacing_mm[2]
    greys = rng.permutation([50, 105, 160]) + rng.uniform(-5, 5, 3)
    flat = np.select([body & one, body], greys[:2].tolist(), greys[2])
    return Drawing(canvas, _noisy(flat, 45, rng), body & one)


def textured(rng: Random) -> Drawing:
    """A target whose grey varies smoothly; the standard deviation is up to 0.22 of the contrast."""
    canvas = _canvas(rng)
    radii = rng.uniform(8, 16, 3) * canvas.spacing_mm[2]
    truth = canvas.ellipsoid((0, 0, 0), tuple(radii), random_rotation(rng))
    field = ndimage.gaussian_filter(rng.normal(size=canvas.shape), rng.uniform(1, 3))
    other, target = _levels(rng)
    texture = rng.uniform(0.12, 0.22) * (target - other) * field / field.std()
    flat = np.where(truth, target + texture, other)
    return Drawing(canvas, _noisy(flat, target - other, rng), truth)


def vessel(rng: Random) -> Drawing:
    """A bend, a helix or a tree that forks twice, 2.5 to 5 pixels in radius."""
    canvas = _canvas(rng, least=64, spacing_mm=(1.0, 1.0, 1.0))
    t = np.linspace(-1, 1, 49)
    radii = np.linspace(rng.uniform(3.5, 4.5), rng.uniform(2.5, 3.5), t.size)
    match rng.integers(3):
        case 0:
            path = np.stack([26 - 46 * t**2, 6 * t, 20 * np.sin(t * np.pi / 2)], axis=-1)
            truth = canvas.tube(path, radii)
        case 1:
            angle = np.pi * t + rng.uniform(0, 2 * np.pi)
            path = np.stack([24 * t, 16 * np.cos(angle), 16 * np.sin(angle)], axis=-1)
            truth = canvas.tube(path, radii)
        case _:
            start, down = np.array([26.0, 0.0, 0.0]), np.array([-1.0, 0.0, 0.0])
            truth = draw_tree(canvas, start, down, rng.uniform(3.5, 4.5), 2, rng)
    return _plain(canvas, truth, rng)


def organ_edge(rng: Random) -> Drawing:
    """A lesion that lies across its organ's border."""
    canvas = _canvas(rng)
    pixel = canvas.spacing_mm[2]
    radius = rng.uniform(14, 17) * pixel
    organ = _ball(canvas, (0, 0, 0), radius)
    away = _direction(rng) * radius * rng.uniform(0.75, 1.0)
    lesion = _ball(canvas, tuple(away), rng.uniform(5, 8) * pixel)
    greys = rng.permutation([50, 105, 160]) + rng.uniform(-5, 5, 3)
    flat = np.select([lesion, organ], greys[:2].tolist(), greys[2])
    return Drawing(canvas, _noisy(flat, 45, rng), lesion)


def blurred(rng: Random) -> Drawing:
    """A body whose border is blurred by a point spread of 1 to 1.5 pixels, standard deviation."""
    canvas = _canvas(rng, thickness=rng.choice([1.0, 2.0]))
    pixel = canvas.spacing_mm[2]
    radii = rng.uniform(7, 15, 3) * pixel
    truth = canvas.ellipsoid(_near((0, 0, 0), 6 * pixel, rng), tuple(radii), random_rotation(rng))
    other, target = _levels(rng)
    spread = rng.uniform(1, 1.5) * pixel / np.array(canvas.spacing_mm)
    flat = ndimage.gaussian_filter(np.where(truth, target, other), spread)
    return Drawing(canvas, _noisy(flat, target - other, rng), truth)


def shaded(rng: Random) -> Drawing:
    """A volume that gets brighter along one direction, by up to half from end to end."""
    canvas = _canvas(rng)
    pixel = canvas.spacing_mm[2]
    radii = rng.uniform(8, 14, 3) * pixel
    truth = canvas.ellipsoid(_near((0, 0, 0), 8 * pixel, rng), tuple(radii), random_rotation(rng))
    other, target = _levels(rng)
    height = canvas.mm @ _direction(rng)
    shading = 1 + rng.uniform(0.1, 0.25) * height / np.abs(height).max()
    flat = shading * np.where(truth, target, other)
    return Drawing(canvas, _noisy(flat, target - other, rng), truth)


def neighbours(rng: Random) -> Drawing:
    """One of two bodies that look alike, two to four voxels apart."""
    canvas = _canvas(rng, least=60)
    pixel = canvas.spacing_mm[2]
    first, second = rng.uniform(6, 11, 2) * pixel
    apart = _direction(rng) * (first + second + rng.uniform(2, 4) * pixel) / 2
    body, other_body = _ball(canvas, tuple(-apart), first), _ball(canvas, tuple(apart), second)
    other, target = _levels(rng)
    flat = np.where(body | other_body, target, other)
    return Drawing(canvas, _noisy(flat, target - other, rng), body)


def ventricle(rng: Random) -> Drawing:
    """A curved dark cavity in a brain, whose surroundings are as dark as the cavity."""
    canvas = _canvas(rng, least=64, spacing_mm=(1.0, 1.0, 1.0))
    head, brain = (canvas.ellipsoid((0, 0, 0), (28 + n, 24 + n, 22 + n)) for n in (3, 0))
    t = np.linspace(-1, 1, 33)
    bend = rng.uniform(8, 14)
    path = np.stack([6 - bend * t**2, 15 * t, rng.uniform(-6, 6) + 3 * t], axis=-1)
    truth = canvas.tube(path, np.linspace(rng.uniform(4, 6), rng.uniform(2.5, 4), t.size))
    tissue = ndimage.gaussian_filter(rng.normal(size=canvas.shape), 2)
    tissue = rng.uniform(120, 160) + 8 * tissue / tissue.std()
    fluid = rng.uniform(30, 50)
    flat = np.select([truth, brain, head], [fluid, tissue, fluid], 5.0)
    return Drawing(canvas, _noisy(flat, 80, rng), truth)


KINDS: Mapping[str, Callable[[Random], Drawing]] = {
    one.__name__.replace("_", " "): one
    for one in (
        ct_lesion,
        ct_implant,
        ct_lung,
        ct_bone,
        core,
        shell,
        tiny,
        off_centre,
        half_space,
        slab,
        cut_off,
        dark,
        ellipsoid,
        thick,
        touching,
        textured,
        vessel,
        organ_edge,
        blurred,
        shaded,
        neighbours,
        ventricle,
    )
}
"""What draws each kind of volume."""


def _canvas(
    rng: Random,
    thickness: float = 1.0,
    least: int = 48,
    spacing_mm: Triple | None = None,
) -> Canvas:
    """Returns a grid of `least` to 80 voxels a side, no two sides alike.

    Thick slices, `thickness` times as thick as a pixel is wide, are fewer, but 12 at least.
    """
    sides = rng.choice(np.arange(least, 81), 3, replace=False)
    shape: Shape = (max(12, round(sides[0] / thickness)), int(sides[1]), int(sides[2]))
    pixel = float(rng.choice([0.5, 0.8, 1.0, 2.0]))
    return Canvas(shape, spacing_mm or (thickness * pixel, pixel, pixel))


def _body(canvas: Canvas) -> Image:
    """Returns Hounsfield units of a body of fat in air, 23 pixels in radius."""
    radius = 23 * canvas.spacing_mm[2]
    return np.where(_ball(canvas, (0, 0, 0), radius), float(FAT), float(AIR))


def _shell(rng: Random) -> tuple[Canvas, Mask, Mask]:
    """Returns a grid, a ball on it, and a smaller ball inside, four pixels or more from outside."""
    canvas = _canvas(rng, thickness=rng.choice([1.0, 1.5]))
    pixel = canvas.spacing_mm[2]
    radius, thick = rng.uniform(6, 12), rng.uniform(5, 8)
    centre = _somewhere(canvas, (radius + thick) * pixel, rng)
    whole = _ball(canvas, centre, (radius + thick) * pixel)
    return canvas, whole, _ball(canvas, _near(centre, 0.5 * pixel, rng), radius * pixel)


def _plain(canvas: Canvas, truth: Mask, rng: Random, clickable: Mask | None = None) -> Drawing:
    """Draws a target of one grey on another."""
    other, target = _levels(rng)
    return Drawing(
        canvas, _noisy(np.where(truth, target, other), target - other, rng), truth, clickable
    )


def _ball(canvas: Canvas, centre: Triple, radius: float) -> Mask:
    return canvas.ellipsoid(centre, (radius, radius, radius))


def _direction(rng: Random) -> Vector:
    """Returns a vector of length 1: along an axis of the grid, or in any direction."""
    vector = np.eye(3)[rng.integers(3)] if rng.random() < 0.3 else rng.normal(size=3)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


def _near(point: Triple, reach: float, rng: Random) -> Triple:
    """Returns a point at most `reach` mm from another along each axis."""
    z, y, x = (np.array(point) + rng.uniform(-reach, reach, 3)).tolist()
    return z, y, x


def _somewhere(canvas: Canvas, reach: float, rng: Random) -> Triple:
    """Returns a point `reach` mm and three voxels or more from the grid's end, where it can be."""
    free = canvas.mm[-1, -1, -1] - 3 * np.array(canvas.spacing_mm) - reach
    z, y, x = (np.maximum(free, 0) * rng.uniform(-1, 1, 3)).tolist()
    return z, y, x


def _levels(rng: Random) -> tuple[float, float]:
    """Returns the greys of the surroundings and of the target, which is the brighter one or not."""
    low = rng.uniform(40, 90)
    high = low + rng.uniform(60, 110)
    return (low, high) if rng.random() < 0.5 else (high, low)


def _noisy(flat: Image, contrast: float, rng: Random) -> Image:
    """Adds noise, of which the contrast is five to twelve times the standard deviation."""
    return _with_noise(flat, abs(contrast) / rng.uniform(5, 12), rng)


def _with_noise(flat: Image, deviation: float, rng: Random) -> Image:
    noisy: Image = flat + rng.normal(0, deviation, flat.shape)
    return noisy


def _hounsfield(image: Image) -> npt.NDArray[np.int16]:
    return np.rint(image).astype(np.int16)

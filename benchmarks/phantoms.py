"""Flat-shaded phantoms: the bodies on which the method's claims are tested.

Every label has one grey value, plus mild noise, so the images hold nothing that a slice-wise
segmenter could fail on: what is measured is the lifting to 3-D. Each family isolates one thing
that makes lifting hard (a body that leaves its box, splits in two, is hollow, touches another).
All bodies are built in millimetres and then sampled on the voxel grid, so they look the same
whatever the spacing. The same seed always gives the same phantoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import Plane, bounding_range, slice_view, to_volume
from gamt.prompts import Box, ClassPrompts, Click, SliceBox
from gamt.sample import Canvas

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]

NOISE = 6.0
"""Standard deviation of the noise in grey levels; labels that touch differ by 40 or more."""

BACKGROUND = 60
"""The grey value outside every label."""


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A volume whose segmentation is known exactly.

    Attributes:
        name: a word or two, for the tests' output.
        image: (D, H, W), uint8 but for the one phantom that is float32 on purpose.
        truth: (D, H, W), labels 1..K and 0 for the background.
        spacing_mm: as the file stores it; in ``reversed_spacing`` that is (x, y, z).
        prompts: one entry per label, in order.
    """

    name: str
    image: npt.NDArray[Any]
    truth: Labels
    spacing_mm: Triple
    prompts: tuple[ClassPrompts, ...]


def dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Returns the Dice overlap of two masks; 1 when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def draw_box(truth: Labels, label: int, rng: np.random.Generator) -> Box:
    """Draws the box of `label` as the challenge does (docs/challenge.md, 2).

    The z range is exact. In the slice in the middle of the label's slices, each side moves out by
    0 to 5 pixels of an image of 256 pixels, and stays inside the image.
    """
    mask = truth == label
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    z_mid = int(slices[len(slices) // 2])
    bounds = bounding_range(mask[z_mid])
    assert bounds is not None, f"label {label} is not in the volume"
    (y_min, x_min), (y_max, x_max) = bounds
    height, width = truth.shape[1:]

    def margin(size: int) -> int:
        return round(int(rng.integers(0, 6)) * size / 256)

    return Box(
        z_min=int(slices[0]),
        z_max=int(slices[-1]) + 1,
        z_mid=z_mid,
        y_min=max(y_min - margin(height), 0),
        y_max=min(y_max + margin(height), height),
        x_min=max(x_min - margin(width), 0),
        x_max=min(x_max + margin(width), width),
    )


def draw_slice_box(mask: Mask, plane: Plane) -> SliceBox:
    """Draws the tight box of a mask (z, y, x) on the middle one of its slices of a plane."""
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    indices = np.flatnonzero(mask.any(axis=others))
    index = int(indices[len(indices) // 2])
    bounds = bounding_range(slice_view(mask, plane, index))
    assert bounds is not None, "an empty mask has no box"
    (y_min, x_min), (y_max, x_max) = bounds
    low = to_volume(plane, index, (x_min, y_min))
    return SliceBox(plane, low, to_volume(plane, index + 1, (x_max, y_max)))


def first_click(truth: Labels, label: int) -> Click:
    """Returns the simulated user's click when nothing of `label` was predicted yet.

    That is the voxel of the largest component farthest from its border (in voxels; the edge of
    the volume is border too), the first in C order where several are equally far.
    """
    components, count = ndimage.label(truth == label, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = np.pad(components == sizes.argmax(), 1)
    depth = ndimage.distance_transform_edt(largest)
    z, y, x = (int(i) - 1 for i in np.unravel_index(int(depth.argmax()), depth.shape))
    return Click(z, y, x, positive=True)


def box_prompts(truth: Labels, rng: np.random.Generator) -> tuple[ClassPrompts, ...]:
    """Returns one box for every label."""
    return tuple(
        ClassPrompts(label, box=draw_box(truth, label, rng))
        for label in range(1, int(truth.max()) + 1)
    )


def click_prompts(truth: Labels) -> tuple[ClassPrompts, ...]:
    """Returns one positive click, and no box, for every label."""
    return tuple(
        ClassPrompts(label, clicks=(first_click(truth, label),))
        for label in range(1, int(truth.max()) + 1)
    )


def shade(truth: Labels, greys: Sequence[int], rng: np.random.Generator) -> Labels:
    """Returns the image: `greys` (of labels 1..K) on the background, with noise."""
    flat = np.array([BACKGROUND, *greys], dtype=np.float64)[truth]
    noisy = np.clip(flat + rng.normal(0, NOISE, truth.shape), 0, 255)
    return np.rint(noisy).astype(np.uint8)


def flat_phantoms(seed: int = 0) -> list[Phantom]:
    """Returns all phantoms that are prompted with boxes alone."""
    return [
        ellipsoids(seed),
        bent_tubes(seed),
        two_lobes(seed),
        empty_shell(seed),
        filled_shell(seed),
        touching_pair(seed),
        touching_four(seed),
        thick_slices(seed),
        reversed_spacing(seed),
        low_range(seed),
    ]


def vessel_phantoms(seed: int = 0) -> list[Phantom]:
    """Returns all phantoms that are prompted with one click and no box."""
    return [vessel_tree(seed), vessel_bend(seed), vessel_helix(seed)]


def ellipsoids(seed: int) -> Phantom:
    """Four separate ellipsoids, tilted at random; the last one is darker than the background."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((64, 96, 104), (1.5, 1.0, 1.0))
    centres = [(-14.0, -20.0, -24.0), (12.0, 22.0, -22.0), (-10.0, 20.0, 24.0), (14.0, -20.0, 22.0)]
    for label, centre in enumerate(centres, start=1):
        radii = tuple(rng.uniform(9, 20, size=3))
        canvas.draw(canvas.ellipsoid(centre, radii, random_rotation(rng)), label)
    return _boxed("ellipsoids", canvas, [110, 160, 220, 15], rng)


def bent_tubes(seed: int) -> Phantom:
    """An S and a C that climb through the slices: each leaves the box drawn on its middle slice."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((72, 88, 96), (1.2, 1.0, 1.0))
    t = np.linspace(-1, 1, 33)
    radii = np.full(t.shape, 7.0 + rng.uniform(0, 2))
    s_path = np.stack([33 * t, -18 + 0 * t, -26 * np.sin(t * np.pi / 2)], axis=-1)
    c_path = np.stack([33 * t, 22 - 4 * t, -20 + 36 * t**2], axis=-1)
    canvas.draw(canvas.tube(s_path, radii), 1)
    canvas.draw(canvas.tube(c_path, radii), 2)
    return _boxed("bent_tubes", canvas, [130, 190], rng)


def two_lobes(seed: int) -> Phantom:
    """Two bodies of two lobes each, which are one piece in 3-D but two on many slices.

    The first is joined on its middle slice, the second only far below it: there even the slice
    with the box shows two pieces.
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas((64, 100, 100), (1.2, 1.0, 1.0))
    for label, (y, bridge_z) in enumerate([(-25.0, 0.0), (25.0, -20.0)], start=1):
        gap = 17.0 + rng.uniform(0, 2)
        left = canvas.ellipsoid((0, y, -gap), (30, 14, 12))
        right = canvas.ellipsoid((0, y, gap), (30, 16, 13))
        bridge = canvas.tube(np.array([[bridge_z, y, -gap], [bridge_z, y, gap]]), np.full(2, 6.0))
        canvas.draw(left | right | bridge, label)
    return _boxed("two_lobes", canvas, [150, 110], rng)


def empty_shell(seed: int) -> Phantom:
    """A hollow body; what is inside looks like the background and belongs to it."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((60, 84, 96), (1.5, 1.0, 1.0))
    axes = random_rotation(rng, 0.3)
    canvas.draw(canvas.ellipsoid((0, 0, 0), (36, 32, 38), axes), 1)
    canvas.draw(canvas.ellipsoid((2, -1, 1), (26, 23, 28), axes), 0)
    return _boxed("empty_shell", canvas, [160], rng)


def filled_shell(seed: int) -> Phantom:
    """A hollow body around another label, as the heart's muscle around its blood."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((60, 88, 88), (1.5, 1.0, 1.0))
    axes = random_rotation(rng, 0.3)
    canvas.draw(canvas.ellipsoid((0, 0, 0), (36, 30, 34), axes), 1)
    canvas.draw(canvas.ellipsoid((3, 2, -2), (24, 19, 23), axes), 2)
    return _boxed("filled_shell", canvas, [120, 200], rng)


def touching_pair(seed: int) -> Phantom:
    """An ellipsoid cut in two by a slanted plane: two labels that share a whole face."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((56, 80, 96), (1.5, 1.0, 1.0))
    body = canvas.ellipsoid((0, 0, 0), (34, 30, 40), random_rotation(rng, 0.3))
    above = canvas.mm @ np.array([0.4, 0.3, 1.0]) > rng.uniform(-5, 5)
    canvas.draw(body, 1)
    canvas.draw(body & above, 2)
    return _boxed("touching_pair", canvas, [120, 170], rng)


def touching_four(seed: int) -> Phantom:
    """An ellipsoid shared out among four labels: each voxel goes to the nearest of four seeds."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((60, 92, 92), (1.4, 1.0, 1.0))
    body = canvas.ellipsoid((0, 0, 0), (38, 40, 38))
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 18.0
    seeds = corners + rng.uniform(-4, 4, size=corners.shape)
    distance = [((canvas.mm - point) ** 2).sum(axis=-1) for point in seeds]
    nearest = np.argmin(distance, axis=0) + 1
    canvas.draw(body, 1)
    canvas.truth[body] = nearest[body]
    return _boxed("touching_four", canvas, [105, 150, 195, 240], rng)


def thick_slices(seed: int) -> Phantom:
    """Slices of 5 mm with pixels of 0.7 mm: a body covers only a few slices."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((16, 120, 112), (5.0, 0.7, 0.7))
    canvas.draw(canvas.ellipsoid((0, -20, -16), (32, 16, 18), random_rotation(rng, 0.3)), 1)
    canvas.draw(canvas.ellipsoid((8, 20, 18), (14, 14, 16), random_rotation(rng, 0.3)), 2)
    t = np.linspace(-1, 1, 25)
    path = np.stack([30 * t, 20 + 6 * t, -18 - 12 * t], axis=-1)
    canvas.draw(canvas.tube(path, np.full(t.shape, 7.0)), 3)
    return _boxed("thick_slices", canvas, [120, 170, 220], rng)


def reversed_spacing(seed: int) -> Phantom:
    """Slices of 3.5 mm whose file lists the spacing as (x, y, z), as SimpleITK does."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((28, 100, 88), (3.5, 0.9, 0.9))
    canvas.draw(canvas.ellipsoid((0, -18, 0), (40, 18, 28), random_rotation(rng, 0.4)), 1)
    canvas.draw(canvas.ellipsoid((-8, 22, -10), (20, 14, 22), random_rotation(rng, 0.4)), 2)
    phantom = _boxed("reversed_spacing", canvas, [130, 190], rng)
    return replace(phantom, spacing_mm=(0.9, 0.9, 3.5))


def low_range(seed: int) -> Phantom:
    """A flat, wide volume of float32 between 0 and 1, all axes and spacings different."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((40, 120, 72), (2.0, 0.8, 1.1))
    canvas.draw(canvas.ellipsoid((0, -24, 0), (30, 18, 26), random_rotation(rng, 0.4)), 1)
    canvas.draw(canvas.ellipsoid((4, 22, 6), (26, 18, 16), random_rotation(rng, 0.4)), 2)
    phantom = _boxed("low_range", canvas, [110, 170], rng)
    return replace(phantom, image=phantom.image.astype(np.float32) / 255)


def draw_tree(
    canvas: Canvas,
    start: npt.NDArray[np.float64],
    direction: npt.NDArray[np.float64],
    radius: float,
    forks: int,
    rng: np.random.Generator,
) -> Mask:
    """Returns a vessel (mm) that tapers to 2.5 mm and forks in two, `forks` times over."""
    thinner = max(radius * 0.8, 2.5)  # by Murray's law the daughters have 0.79 of the radius
    end = start + 5.0 * radius * direction
    tree = canvas.tube(np.stack([start, end]), np.array([radius, thinner]))
    if forks == 0:
        return tree
    across = np.cross(direction, rng.normal(size=3))
    across /= np.linalg.norm(across)
    for side in (-1, 1):
        turned = direction + side * rng.uniform(0.6, 0.9) * across
        turned /= np.linalg.norm(turned)
        tree |= draw_tree(canvas, end, turned, thinner, forks - 1, rng)
    return tree


def vessel_tree(seed: int) -> Phantom:
    """A trunk that forks three times, its radius tapering from 5 to 2.5 mm."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((96, 96, 88), (1.0, 1.0, 1.0))
    start, down = np.array([40.0, 0.0, 0.0]), np.array([-1.0, 0.0, 0.0])
    canvas.draw(draw_tree(canvas, start, down, 5.0, 3, rng), 1)
    return _clicked("vessel_tree", canvas, [180], rng)


def vessel_bend(seed: int) -> Phantom:
    """A tube that climbs, turns over and descends, so most slices cut it twice."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((60, 80, 96), (1.5, 1.0, 1.0))
    t = np.linspace(-1, 1, 49)
    path = np.stack([40 - 68 * t**2, 8 * t, 28 * np.sin(t * np.pi / 2)], axis=-1)
    return _tube_vessel("vessel_bend", canvas, path, np.linspace(5.0, 3.5, t.size), rng)


def vessel_helix(seed: int) -> Phantom:
    """A tube that winds around the z axis one and a half times."""
    rng = np.random.default_rng(seed)
    canvas = Canvas((88, 80, 80), (1.0, 1.0, 1.0))
    t = np.linspace(-1, 1, 97)
    angle = 1.5 * np.pi * t + rng.uniform(0, 2 * np.pi)
    path = np.stack([36 * t, 24 * np.cos(angle), 24 * np.sin(angle)], axis=-1)
    return _tube_vessel("vessel_helix", canvas, path, np.linspace(4.8, 3.0, t.size), rng)


def _tube_vessel(
    name: str,
    canvas: Canvas,
    path: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> Phantom:
    canvas.draw(canvas.tube(path, radii), 1)
    return _clicked(name, canvas, [180], rng)


def _boxed(name: str, canvas: Canvas, greys: Sequence[int], rng: np.random.Generator) -> Phantom:
    image = shade(canvas.truth, greys, rng)
    return Phantom(name, image, canvas.truth, canvas.spacing_mm, box_prompts(canvas.truth, rng))


def _clicked(name: str, canvas: Canvas, greys: Sequence[int], rng: np.random.Generator) -> Phantom:
    image = shade(canvas.truth, greys, rng)
    return Phantom(name, image, canvas.truth, canvas.spacing_mm, click_prompts(canvas.truth))


def random_rotation(rng: np.random.Generator, amount: float = 1.0) -> npt.NDArray[np.float64]:
    """Returns a random rotation; the smaller `amount`, the closer to none."""
    q, r = np.linalg.qr(np.eye(3) + amount * rng.normal(size=(3, 3)))
    axes: npt.NDArray[np.float64] = q * np.sign(np.diag(r))
    return axes

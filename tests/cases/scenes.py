"""The drawn sample cases: one phantom per modality, with the look of that modality.

Anatomy is simplified to ellipsoids and tubes with uneven surfaces; what is imitated with more care
is how each scanner renders it (contrast, noise, blur, resolution), as that is what a segmenter has
to cope with. Coordinates are (z, y, x) in mm from the volume's centre: z upwards through the
slices, y from front to back, x from the patient's right to the left, as radiologists view slices.

Everything is drawn from a fixed seed. Noise uses normal variates only, also where physics asks for
Poisson ones: a library that rounds differently then moves a grey value, not the whole sequence.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.phantoms import Phantom, box_prompts, click_prompts, draw_tree
from gamt.sample import (
    ABDOMEN_SEED,
    NO_LABEL,
    SAMPLE_NAME,
    Field,
    Labels,
    Mask,
    Scene,
    blur,
    ct_noise,
    draw_abdomen,
    texture,
)


def to_grey(image: Field, low: float, high: float) -> Labels:
    """Returns `image` as uint8, `low` and below as 0, `high` and above as 255."""
    return np.rint(np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def ct_abdomen() -> Phantom:
    """Liver, right and left kidney, spleen and aorta, in slices of 5 mm."""
    rng = np.random.default_rng(ABDOMEN_SEED)
    scene, hounsfield = draw_abdomen(rng)
    image = to_grey(hounsfield, -160, 240)  # the soft tissue window: level 40, width 400
    return _with_boxes(SAMPLE_NAME, scene, image, rng)


def ct_vessels() -> Phantom:
    """The portal and a hepatic vein in the liver, no box: one click in each."""
    rng = np.random.default_rng(2)
    scene = Scene((60, 88, 104), (2.0, 1.5, 1.5), background=-90)
    liver = scene.body((0, 0, 0), (75, 62, 72), 0.06, rng)
    scene.paint(liver, 95)
    portal = draw_tree(scene, np.array([-52.0, 18, 20]), _unit(1, -0.35, -0.35), 7.5, 4, rng)
    hepatic = draw_tree(scene, np.array([52.0, 22, 28]), _unit(-1, -0.3, -0.5), 7.0, 3, rng)
    scene.paint(liver & portal, 210, label=1)
    scene.paint(liver & hepatic & ~portal, 180, label=2)
    scene.tissue += 5 * texture(scene, 3, rng)
    hounsfield = scene.blurred((0.8, 0.8, 0.8)) + ct_noise(scene, 13, rng)
    return _with_clicks("CT_vessels_phantom", scene, to_grey(hounsfield, -110, 290))


def mr_pelvis() -> Phantom:
    """Peripheral and transition zone of a prostate, and the bladder above: T2, slices of 3.6 mm."""
    rng = np.random.default_rng(3)
    scene = Scene((30, 108, 112), (3.6, 1.1, 1.1), background=5)
    scene.paint(scene.body((0, 0, 0), (400, 56, 59), 0.01, rng), 190)  # fat
    scene.paint(scene.body((0, 2, 0), (400, 46, 50), 0.05, rng), 75)  # muscle
    scene.paint(scene.body((0, 0, 0), (110, 38, 31), 0.05, rng), 165)  # the fat of the pelvis
    for side in (-44, 44):
        scene.paint(scene.ellipsoid((14, -6, side), (24, 17, 9)), 45)  # cortical bone
        scene.paint(scene.ellipsoid((14, -6, side), (21, 14, 6)), 150)  # and its marrow
    scene.paint(scene.body((-8, 29, 0), (90, 10, 12), 0.08, rng), 60)  # rectum
    scene.paint(scene.body((28, -10, 0), (25, 24, 29), 0.05, rng), 60)  # the bladder's wall
    scene.paint(scene.body((28, -10, 0), (22, 21, 26), 0.04, rng), 245, label=3)
    scene.paint(scene.body((-21, 2, 0), (26, 19, 24), 0.05, rng), 205, label=1)
    zone = scene.body((-18, -2, 0), (20, 14, 17), 0.07, rng)
    scene.paint(zone, 110, label=2)
    scene.tissue += zone * 16 * texture(scene, 2.5, rng)  # nodules
    scene.tissue *= 1 + 0.05 * texture(scene, 1.5, rng)
    coil = scene.blurred((1.2, 0.7, 0.7)) * (1 + 0.14 * texture(scene, 45, rng))
    return _with_boxes("MR_phantom", scene, to_grey(_rician(coil, 8, rng), 0, 280), rng)


def pet_torso() -> Phantom:
    """Three lesions among organs that take up tracer too; standardised uptake values (SUV)."""
    rng = np.random.default_rng(4)
    scene = Scene((56, 60, 84), (5.0, 4.0, 4.0), background=0)
    trunk = scene.body((0, 0, 0), (600, 98, 145), 0.02, rng)
    scene.paint(trunk, 0.9)
    for side in (-62, 62):
        scene.paint(scene.body((90, 5, side), (85, 66, 46), 0.04, rng), 0.4)  # lungs
    scene.paint(trunk & scene.body((-35, -5, -65), (58, 62, 62), 0.06, rng), 2.4)  # liver
    heart = scene.ellipsoid((35, -25, 28), (38, 32, 36))
    scene.paint(heart & ~scene.ellipsoid((35, -25, 28), (25, 19, 23)), 3.2)
    for side in (-58, 58):
        scene.paint(scene.body((-95, 38, side), (40, 20, 20), 0.05, rng), 3.5)  # kidneys
    scene.paint(scene.body((95, -5, -62), (27, 22, 24), 0.12, rng), 9.0, label=1)
    scene.paint(scene.body((75, 20, 72), (15, 13, 15), 0.05, rng), 7.0, label=2)
    scene.paint(scene.body((-60, -35, 50), (18, 28, 20), 0.1, rng), 8.0, label=3)
    scene.tissue *= 1 + 0.08 * texture(scene, 8, rng)
    uptake = scene.blurred((3.0, 3.0, 3.0))  # 7 mm full width at half maximum
    # Counts per voxel set the noise (Poisson: variance = mean); reconstruction smooths it.
    noise = blur(scene, np.sqrt(uptake / 2) * rng.normal(size=scene.shape), (2.5, 2.5, 2.5))
    return _with_boxes("PET_phantom", scene, to_grey(np.maximum(uptake + noise, 0), 0, 9), rng)


def us_heart() -> Phantom:
    """Left ventricle, its muscle, and the left atrium, seen from the heart's apex."""
    rng = np.random.default_rng(5)
    scene = Scene((56, 112, 104), (1.6, 1.2, 1.2), background=0.16)
    muscle = scene.body((0, -14, 0), (34, 44, 35), 0.04, rng)
    scene.paint(muscle & (scene.mm[..., 1] < 16), 0.45, label=2)
    cavity = scene.body((0, -10, 0), (23, 36, 24), 0.05, rng)
    scene.paint(cavity & (scene.mm[..., 1] < 16), 0.012, label=1)
    scene.paint(scene.body((0, 36, 2), (24, 20, 25), 0.04, rng), 0.3)  # the atrium's wall
    scene.paint(scene.body((0, 37, 2), (21, 17, 22), 0.04, rng), 0.014, label=3)
    valve = np.array([[0.0, 17, -22], [0, 22, 0], [0, 17, 22]])
    scene.paint(scene.tube(valve, np.full(3, 2.4)), 0.7)
    sector, shadow = _sector(scene)
    scene.truth[~sector] = NO_LABEL
    echo = scene.blurred((1.4, 0.9, 1.4)) * shadow * np.exp(-(scene.mm[..., 1] + 67) / 150)
    decibel = 20 * np.log10(echo * _speckle(scene, rng) + 1e-4)
    image = to_grey(decibel, -48, 2) * sector
    return _with_boxes("US_phantom", scene, image.astype(np.uint8), rng)


def microscopy_nuclei() -> Phantom:
    """Seven crowded nuclei in a fluorescence stack, in micrometres; no box: one click in each."""
    rng = np.random.default_rng(6)
    scene = Scene((32, 96, 96), (0.5, 0.25, 0.25), background=0.06)
    centres = [(0, -7, -7), (-1, -6, 1.5), (1, -5.5, 8.5), (0, 1, -4.5), (-1, 2, 4.5)]
    centres += [(1, 8.3, -1.5), (0, 8, 7.5)]
    radii = rng.uniform((4.0, 3.4, 3.6), (5.5, 4.2, 4.6), size=(len(centres), 3))
    bumps = 0.06 * texture(scene, 1.5, rng)
    distance = np.stack(
        [scene.radius(c, (r[0], r[1], r[2])) for c, r in zip(centres, radii, strict=True)]
    )
    nearest = distance.argmin(axis=0)
    inside = distance.min(axis=0) + bumps <= 1
    chromatin = 1 + 0.22 * texture(scene, 0.5, rng)
    for i, brightness in enumerate(rng.uniform(0.45, 0.9, size=len(centres))):
        scene.paint(inside & (nearest == i), brightness, label=i + 1)
    scene.tissue *= np.clip(chromatin, 0.3, 2)
    # A confocal microscope's point spread is about three times longer along its axis.
    light = scene.blurred((0.75, 0.25, 0.25))
    photons = 120.0  # at full brightness, which sets the shot noise
    shot = np.sqrt(light / photons) * rng.normal(size=scene.shape)
    return _with_clicks("Microscopy_phantom", scene, to_grey(light + shot, 0, 1.15))


DRAWN: dict[str, Callable[[], Phantom]] = {
    "CT_phantom": ct_abdomen,
    "CT_vessels_phantom": ct_vessels,
    "MR_phantom": mr_pelvis,
    "Microscopy_phantom": microscopy_nuclei,
    "PET_phantom": pet_torso,
    "US_phantom": us_heart,
}
"""The cases that this module draws, by their name."""


def _with_boxes(name: str, scene: Scene, image: Labels, rng: np.random.Generator) -> Phantom:
    return Phantom(name, image, scene.truth, scene.spacing_mm, box_prompts(scene.truth, rng))


def _with_clicks(name: str, scene: Scene, image: Labels) -> Phantom:
    return Phantom(name, image, scene.truth, scene.spacing_mm, click_prompts(scene.truth))


def _unit(*direction: float) -> npt.NDArray[np.float64]:
    vector = np.array(direction)
    unit: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit


def _rician(signal: Field, sigma: float, rng: np.random.Generator) -> Field:
    """Returns the magnitude of `signal` with normal noise in both of its channels."""
    real = signal + rng.normal(0, sigma, signal.shape)
    magnitude: Field = np.hypot(real, rng.normal(0, sigma, signal.shape))
    return magnitude


def _sector(scene: Scene) -> tuple[Mask, Field]:
    """Returns the cone that the probe sees, and what a rib leaves of the sound in each voxel."""
    z, y, x = np.moveaxis(scene.mm, -1, 0)
    depth = y + 78  # the probe lies just above the first row
    sideways = np.arctan2(x, depth)
    inside = (np.arctan2(np.hypot(x, z), depth) < 0.66) & (np.hypot(np.hypot(x, z), depth) < 142)
    shadow = 1 - 0.93 * np.exp(-(((sideways + 0.5) / 0.07) ** 2))
    return inside, shadow


def _speckle(scene: Scene, rng: np.random.Generator) -> Field:
    """Returns Rayleigh-distributed factors, in grains that are wider across the beam than along."""
    grain = (1.2, 0.6, 1.2)
    parts = [blur(scene, rng.normal(size=scene.shape), grain) for _ in range(2)]
    amplitude: Field = np.hypot(parts[0], parts[1]) / parts[0].std()
    return amplitude

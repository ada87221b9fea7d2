"""The sample: an abdomen as CT shows it, drawn on the spot, and what such scenes are drawn with.

Anatomy is simplified to ellipsoids and tubes with uneven surfaces. Coordinates are (z, y, x) in mm
from the volume's centre: z upwards through the slices, y from front to back, x from the patient's
right to the left, as radiologists view slices.

Noise uses normal variates only, also where physics asks for Poisson ones: a library that rounds
differently then moves a grey value, not the whole sequence.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.io.image import Image

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]

NO_LABEL = 0

SAMPLE_NAME = "CT_phantom"
"""As the sample case is called, which shows the same abdomen in 8 bits."""

ABDOMEN_SHAPE: Shape = (32, 96, 128)
ABDOMEN_SPACING_MM: Triple = (5.0, 2.6, 2.6)
ABDOMEN_SEED = 1


class Canvas:
    """An empty label map with its millimetre coordinates; the origin is the volume's centre."""

    def __init__(self, shape: Shape, spacing_mm: Triple) -> None:
        """Makes the canvas; `shape` and `spacing_mm` are in the order (z, y, x)."""
        self.shape = shape
        self.spacing_mm = spacing_mm
        self.truth: Labels = np.zeros(shape, dtype=np.uint8)
        axes = [
            (np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing_mm, strict=True)
        ]
        self.mm = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def radius(self, centre: Triple, radii: Triple, axes: Field | None = None) -> Field:
        """Returns each voxel's distance from `centre` (mm): 1 on the ellipsoid of `radii` (mm).

        The rows of `axes` are the ellipsoid's principal directions; those of the grid by default.
        """
        offset = self.mm - np.array(centre)
        if axes is not None:
            offset = offset @ axes.T
        scaled: Field = np.sqrt(((offset / np.array(radii)) ** 2).sum(axis=-1))
        return scaled

    def ellipsoid(self, centre: Triple, radii: Triple, axes: Field | None = None) -> Mask:
        """Returns the inside of an ellipsoid, given as for `radius`."""
        return self.radius(centre, radii, axes) <= 1

    def tube(self, path: Field, radii: Field) -> Mask:
        """Returns the tube of `radii` (N,) around the polyline `path` (N, 3), both in mm."""
        inside = np.zeros(self.shape, dtype=bool)
        for start, end, r0, r1 in zip(path, path[1:], radii, radii[1:], strict=False):
            part = self._around(np.stack([start, end]), float(max(r0, r1)))
            offset = self.mm[part] - start
            run = end - start
            along = np.clip(offset @ run / max(float(run @ run), 1e-9), 0, 1)
            distance = np.linalg.norm(offset - along[..., None] * run, axis=-1)
            inside[part] |= distance <= r0 + along * (r1 - r0)
        return inside

    def draw(self, mask: Mask, label: int) -> None:
        """Gives `label` to the voxels of `mask`, whatever they were."""
        self.truth[mask] = label

    def _around(self, points: Field, reach: float) -> tuple[slice, slice, slice]:
        """The part of the grid within `reach` mm of the bounding box of `points`."""
        middle = (np.array(self.shape) - 1) / 2
        spacing = np.array(self.spacing_mm)
        low = np.floor((points.min(axis=0) - reach) / spacing + middle).astype(int)
        high = np.ceil((points.max(axis=0) + reach) / spacing + middle).astype(int) + 1
        z, y, x = (
            slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, self.shape, strict=True)
        )
        return z, y, x


class Scene(Canvas):
    """A canvas that keeps, beside the labels, what the scanner would measure in each voxel."""

    def __init__(self, shape: Shape, spacing_mm: Triple, background: float) -> None:
        """Makes a scene in which everything is `background`."""
        super().__init__(shape, spacing_mm)
        self.tissue: Field = np.full(shape, background, dtype=np.float64)

    def paint(self, mask: Mask, value: float, label: int = NO_LABEL) -> None:
        """Puts `value` and `label` into `mask`, over whatever was there."""
        self.tissue[mask] = value
        self.draw(mask, label)

    def body(self, centre: Triple, radii: Triple, uneven: float, rng: np.random.Generator) -> Mask:
        """Returns an ellipsoid (mm) whose surface goes in and out by about the share `uneven`."""
        bumps = texture(self, 0.45 * min(radii), rng)
        return self.radius(centre, radii) + uneven * bumps <= 1

    def blurred(self, sigma_mm: Triple) -> Field:
        """Returns the tissue as a scanner of that resolution sees it."""
        return blur(self, self.tissue, sigma_mm)


def blur(canvas: Canvas, image: Field, sigma_mm: Triple) -> Field:
    """Returns `image` after a Gaussian blur, whose standard deviations are in mm."""
    sigma = [s / step for s, step in zip(sigma_mm, canvas.spacing_mm, strict=True)]
    smooth: Field = ndimage.gaussian_filter(image, sigma)
    return smooth


def texture(canvas: Canvas, scale_mm: float, rng: np.random.Generator) -> Field:
    """Returns a random field of mean 0 and deviation 1 that varies over about `scale_mm`."""
    field = blur(canvas, rng.normal(size=canvas.shape), (scale_mm, scale_mm, scale_mm))
    normal: Field = (field - field.mean()) / field.std()
    return normal


def sample_image() -> Image:
    """Returns the abdomen as an image, in HU (int16); always the same.

    It comes from no file: its `path` is what a file of it would be called, in the working folder.
    """
    _, hounsfield = draw_abdomen(np.random.default_rng(ABDOMEN_SEED))
    z, y, x = ABDOMEN_SPACING_MM
    to_ras = np.diag([-x, -y, z, 1.0])
    to_ras[:3, 3] = -to_ras[:3, :3] @ (np.array(ABDOMEN_SHAPE[::-1]) - 1) / 2  # centred
    return Image(
        path=Path(f"{SAMPLE_NAME}.nii.gz"),
        name=SAMPLE_NAME,
        array=np.rint(hounsfield).astype(np.int16),
        spacing_mm=ABDOMEN_SPACING_MM,
        affine=to_ras,
        turn=np.eye(4),
        header=None,
        second_affine=None,
    )


def draw_abdomen(rng: np.random.Generator) -> tuple[Scene, Field]:
    """Draws liver, right and left kidney, spleen and aorta: labels 1 to 5.

    Args:
        rng: for the organs' surfaces and the noise.

    Returns:
        The scene, and (z, y, x) what a CT scanner measures of it, in HU.
    """
    scene = Scene(ABDOMEN_SHAPE, ABDOMEN_SPACING_MM, background=-1000)
    inside = _trunk(scene, rng)
    _lungs_and_stomach(scene, inside)
    scene.paint(inside & scene.body((18, -14, -64), (62, 60, 58), 0.08, rng), 110, label=1)
    scene.paint(scene.body((-36, 34, -62), (46, 23, 25), 0.06, rng), 185, label=2)
    scene.paint(scene.body((-18, 34, 62), (48, 23, 25), 0.06, rng), 185, label=3)
    for kidney in ((-36.0, 32.0, -48.0), (-18.0, 32.0, 48.0)):
        scene.paint(scene.ellipsoid(kidney, (16, 9, 10)), -60)  # the fat of the renal pelvis
    scene.paint(inside & scene.body((36, 38, 88), (40, 30, 20), 0.07, rng), 130, label=4)
    _spine_and_ribs(scene)
    z = np.linspace(-90, 90, 13)
    aorta = np.stack([z, 20 + z / 20, 8 + 5 * np.sin(z / 40)], axis=-1)
    scene.paint(scene.tube(aorta, np.full(z.shape, 12.0)), 170, label=5)
    scene.paint(scene.tube(aorta + np.array([0, 0, -32]), np.full(z.shape, 12.0)), 105)
    scene.tissue += 6 * texture(scene, 4, rng) * (scene.tissue > -200)
    return scene, scene.blurred((1.5, 1.3, 1.3)) + ct_noise(scene, 16, rng)


def _trunk(scene: Scene, rng: np.random.Generator) -> Mask:
    """Draws skin, fat and muscle; returns the cavity inside, filled with fat and bowel."""
    scene.paint(scene.body((0, 0, 0), (900, 106, 152), 0.02, rng), -95)
    scene.paint(scene.body((0, 0, 0), (900, 93, 139), 0.02, rng), 55)
    inside = scene.body((0, -6, 0), (900, 76, 126), 0.02, rng)
    scene.paint(inside, -85)
    bowel = inside & (scene.mm[..., 0] < 25) & (texture(scene, 9, rng) > 0.35)
    scene.paint(bowel & (scene.mm[..., 1] < 18), 35)
    return inside


def _lungs_and_stomach(scene: Scene, inside: Mask) -> None:
    for side in (-66, 66):
        scene.paint(inside & scene.ellipsoid((95, 5, side), (75, 80, 62)), -830)
    scene.paint(inside & scene.ellipsoid((30, -28, 52), (38, 32, 42)), 35)
    gas = inside & scene.ellipsoid((30, -40, 52), (26, 16, 30)) & (scene.mm[..., 1] < -36)
    scene.paint(gas, -950)  # gas rises to the front of a patient who lies on the back


def _spine_and_ribs(scene: Scene) -> None:
    """Draws bone: dense rims (600 HU) around softer cores (200 HU), and a canal in the spine."""
    z = np.linspace(-90, 90, 5)
    spine = np.stack([z, 0 * z + 54, 0 * z], axis=-1)
    scene.paint(scene.tube(spine, np.full(5, 23.0)), 600)
    scene.paint(scene.tube(spine, np.full(5, 19.5)), 200)
    back = spine + np.array([0, 27, 0])
    scene.paint(scene.tube(back, np.full(5, 13.0)), 500)
    scene.paint(scene.tube(back, np.full(5, 8.5)), 30)
    angle = np.linspace(0.3, 2.5, 19)  # from the spine round to the front
    for side in (-1, 1):
        for top in range(-20, 180, 32):
            rib = [top - 32 * angle, 84 * np.cos(angle), side * 131 * np.sin(angle)]
            path = np.stack(rib, axis=-1)
            scene.paint(scene.tube(path, np.full(angle.shape, 6.0)), 550)


def ct_noise(scene: Scene, sigma: float, rng: np.random.Generator) -> Field:
    """Returns quantum noise of deviation `sigma` (HU), plus a few faint streaks in each slice."""
    in_plane = 0.5 * scene.spacing_mm[1]
    noise = blur(scene, rng.normal(size=scene.shape), (0, in_plane, in_plane))
    noise *= sigma / noise.std()
    y, x = scene.mm[0, ..., 1], scene.mm[0, ..., 2]
    for z in range(len(noise)):
        for angle, offset in rng.uniform((0, -60), (np.pi, 60), size=(6, 2)):
            away = x * np.cos(angle) + y * np.sin(angle) - offset
            noise[z] += rng.normal(0, 0.8 * sigma) * np.exp(-((away / 3) ** 2))
    return noise

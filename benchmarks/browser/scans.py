"""Drawn scans on which the test finds every voxel's pixel by itself."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

Point = tuple[float, float]

SHAPE = (44, 52, 26)
"""Of the scan in voxels (i, j, k), towards right, front and head."""

SPACING_MM = (1.0, 0.8, 2.0)

MARKERS: dict[str, tuple[Point, Point, Point]] = {
    "axial": ((5, 7), (38, 7), (5, 44)),
    "coronal": ((5, 4), (38, 4), (5, 21)),
    "sagittal": ((7, 4), (44, 4), (7, 21)),
}
"""Of each plane, three bright voxels on its middle slices, along the plane's two axes."""

BRIGHTNESS = (4000, 1800, 800)
"""Of the three markers, each less than half of the one before; all else is darker than 300."""

AXES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""The two axes in a plane's slices, and the one across."""

LARGE = ((20.0, 28.0, 13.0), (11.0, 12.0, 7.0))
"""Centre and radii of a bright body, in voxels (i, j, k)."""

SMALL = ((34.0, 14.0, 13.0), (4.0, 5.0, 4.0))


def draw_scan(path: Path, codes: str = "RAS", turned_degrees: float = 0.0) -> npt.NDArray[np.int16]:
    """Writes a scan with two bodies and the markers.

    Args:
        path: of the NIfTI file.
        codes: where the file's axes run to.
        turned_degrees: of the scan in the scanner, around the axis from right to left; less than
            45, so that the axes still run nearest to where they ran.

    Returns:
        (i, j, k) intensities, towards right, front and head: as the page has them.
    """
    rng = np.random.default_rng(15)
    scan = 40 + 6 * rng.standard_normal(SHAPE)
    places = np.indices(SHAPE)
    for (centre, radii), value in ((LARGE, 160), (SMALL, 120)):
        distance = sum(
            ((axis - c) / r) ** 2 for axis, c, r in zip(places, centre, radii, strict=True)
        )
        scan[distance < 1] += value - 40
    voxels = scan.round().astype(np.int16)
    for plane, markers in MARKERS.items():
        first, second, across = AXES[plane]
        for (a, b), value in zip(markers, BRIGHTNESS, strict=True):
            # The slices around the middle, whichever of them is shown at first.
            where: list[Any] = [0, 0, 0]
            where[first], where[second] = int(a), int(b)
            where[across] = slice(SHAPE[across] // 2 - 2, SHAPE[across] // 2 + 2)
            voxels[tuple(where)] = value
    angle = np.deg2rad(turned_degrees)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING_MM)
    affine[:3, 3] = (-20.0, 12.5, 33.0)
    untyped: Any = nib
    image = untyped.Nifti1Image(voxels, affine)
    axes = untyped.orientations
    turn_axes = axes.ornt_transform(axes.io_orientation(affine), axes.axcodes2ornt(tuple(codes)))
    nib.save(image.as_reoriented(turn_axes), path)
    return voxels

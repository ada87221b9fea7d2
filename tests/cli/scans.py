"""Small images for the command line's tests."""

# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from tests.test_predict import BLOCK, SHAPE, bright_block

# The block of `bright_block`, in a NIfTI file whose axes (i, j, k) are (x, y, z).
CORNERS = "6,4,3,14,9,8"
AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])


def save_nifti(
    path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64] = AFFINE
) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def load_nifti(path: Path) -> npt.NDArray[Any]:
    return np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


def save_scan(folder: Path) -> Path:
    """Saves `bright_block` with the axes (i, j, k) as (x, y, z)."""
    return save_nifti(folder / "scan.nii.gz", bright_block().T)


def block(value: int = 1) -> npt.NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[BLOCK] = value
    return labels.T

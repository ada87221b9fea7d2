"""Between images and challenge files, below the command line."""

# mypy: allow-untyped-calls

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gamt.io.case import read_case
from gamt.io.convert import image_to_npz, npz_to_image
from gamt.io.image import Image, read_image
from gamt.io.labels import LabelError
from gamt.prompts import ClassPrompts, Click

SHAPE = (6, 5, 4)  # (i, j, k)
SAGITTAL = np.array(  # i towards the back, j towards the feet, k towards the right, thick
    [[0, 0, 6.0, -80], [-0.6, 0, 0, 40], [0, -0.6, 0, 30], [0, 0, 0, 1]]
)
PROMPT = {1: ClassPrompts(1, clicks=(Click(0, 0, 0, positive=True),))}


@pytest.fixture
def scan(tmp_path: Path) -> Image:
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti1Image(array, SAGITTAL), tmp_path / "scan.nii")
    return read_image(tmp_path / "scan.nii")


def test_a_sagittal_image_keeps_its_spacing_there_and_back(scan: Image, tmp_path: Path) -> None:
    image_to_npz(scan, tmp_path / "scan.npz", PROMPT)
    case = read_case(tmp_path / "scan.npz")
    # z is the file's j, y its i and x its k.
    assert case.spacing_mm == scan.spacing_mm == pytest.approx((0.6, 0.6, 6.0))
    npz_to_image(tmp_path / "scan.npz", tmp_path / "back.nii", None, None)
    back = read_image(tmp_path / "back.nii")
    np.testing.assert_array_equal(back.array, scan.array)
    assert back.spacing_mm == pytest.approx((0.6, 0.6, 6.0))


def test_spacing_of_unknown_order_is_ordered_on_the_way_to_an_image(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, imgs=np.zeros((4, 5, 6), np.uint8), spacing=(0.7, 0.7, 5.0))
    npz_to_image(path, tmp_path / "scan.nii", None, None)
    assert read_image(tmp_path / "scan.nii").spacing_mm == pytest.approx((5.0, 0.7, 0.7))


def test_no_label_at_all_is_an_error(scan: Image, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"^found 0 labels, expected 1 to 255"):
        image_to_npz(scan, tmp_path / "scan.npz", {})
    assert not (tmp_path / "scan.npz").exists()

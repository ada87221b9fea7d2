import numpy as np
import pytest

from benchmarks.samples import FOLDER
from gamt.sample import sample_image


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """(z, y, x), the sample case's labels: liver, right and left kidney, spleen, aorta."""
    with np.load(FOLDER / "CT_phantom.npz") as file:
        labels: np.ndarray = file["gts"]
        return labels


def test_the_sample_is_the_sample_case_in_hounsfield_units(truth: np.ndarray) -> None:
    image = sample_image()
    with np.load(FOLDER / "CT_phantom.npz") as file:
        grey = file["imgs"].astype(float)
    # 256 grey levels span -160 to 240 HU: both round, by 0.8 and by 0.5 HU.
    inside = (grey > 0) & (grey < 255)
    assert image.array.dtype == np.int16
    assert image.array[:, 0, 0].mean() == pytest.approx(-1000, abs=20)  # air
    assert np.abs(image.array[inside] - (grey[inside] * 400 / 255 - 160)).max() < 2
    assert image.array[truth == 1].mean() == pytest.approx(110, abs=5)
    assert image.spacing_mm == (5.0, 2.6, 2.6)


def test_the_sample_lies_in_the_scanner_as_a_patient_does(truth: np.ndarray) -> None:
    image = sample_image()

    def place(label: int) -> np.ndarray:
        """The middle of an organ, in RAS coordinates (mm)."""
        z, y, x = np.mean(np.nonzero(truth == label), axis=1)
        middle: np.ndarray = image.affine[:3] @ [x, y, z, 1]
        return middle

    liver, right_kidney, left_kidney, spleen = (place(label) for label in (1, 2, 3, 4))
    assert liver[0] > 0 > spleen[0]  # right, left
    assert right_kidney[0] > 0 > left_kidney[0]
    assert right_kidney[1] < liver[1]  # further back
    assert right_kidney[2] < left_kidney[2]  # below the liver
    assert image.file_shape == (128, 96, 32)

"""What the page is told of a scan before anything is done to it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gamt.io.image import read_image, write_image
from gamt.server.annotate.scans import Entry, describe_scan

SHAPE = (6, 40, 50)


def air(minimum: int = -1000) -> npt.NDArray[np.int16]:
    """Returns air around tissue of 40 HU: 40 of 50 columns are air."""
    values = np.full(SHAPE, minimum, np.int16)
    values[:, :, 10:20] = 40
    return values


def corners(fill: int) -> npt.NDArray[np.int16]:
    """Returns noisy air around tissue, in what a scanner saw; half of the rows are filled."""
    noise = np.random.default_rng(1).normal(-1000, 30, SHAPE)
    values = np.where(air() == 40, 40, noise).astype(np.int16)
    values[:, :20] = fill
    return values


def phase(high: int, background: int | None) -> npt.NDArray[np.int16]:
    """Returns a phase image of MR, whose background is noise or one value."""
    values = np.random.default_rng(2).integers(-high, high, SHAPE).astype(np.int16)
    values[:, :, 10:20] //= 8  # tissue
    if background is not None:
        values[:, :, 20:40] = background
    return values


@pytest.mark.parametrize(
    ("values", "is_ct"),
    [
        (air(), True),
        (air(-1024), True),
        (corners(-2000), True),
        (corners(-3024), True),
        (np.where(air() == 40, 40, -2000), True),  # a part of the body, which fills the view
        (phase(4096, None), False),
        (phase(4096, -4096), False),
        (phase(4096, 0), False),
        (phase(3142, None), False),
        (np.where(air() == 40, 400, 0), False),
        (np.where(air() == 40, 400, -800), False),
    ],
)
def test_windows_of_ct_are_offered_for_ct_alone(
    tmp_path: Path, values: npt.NDArray[np.int_], is_ct: bool
) -> None:
    path = tmp_path / "scan.nii.gz"
    write_image(path, values.astype(np.int16), spacing_mm=(5.0, 0.8, 0.8))
    told = describe_scan(Entry("1", "scan", path), read_image(path), "auto")
    assert ("lung" in [one["name"] for one in told["windows"]]) == is_ct
    assert (told["window"] == {"level": 40.0, "width": 400.0}) == is_ct

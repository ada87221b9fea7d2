"""Which voxel sizes a scan may have."""

import math

import pytest

from gamt.spacing import is_believable


@pytest.mark.parametrize(
    "spacing_mm",
    [
        (5.0, 0.7, 0.7),
        (4e-5, 4e-6, 4e-6),  # electron microscopy: 4 nm pixels, slices of 40 nm
        (5000.0, 700.0, 700.0),  # micrometres that a header calls millimetres
        (60.0, 0.1, 0.1),  # a thick slab of a fine detector: 600 to 1
        (0.1, 60.0, 0.1),
    ],
)
def test_scans_as_they_occur_are_believed(spacing_mm: tuple[float, float, float]) -> None:
    assert is_believable(spacing_mm)


@pytest.mark.parametrize(
    "spacing_mm",
    [
        (0.0, 1.0, 1.0),
        (-1.0, 1.0, 1.0),
        (1.0, math.nan, 1.0),
        (1.0, 1.0, math.inf),
        (1e308, 1e308, 1e308),
        (5e-324, 5e-324, 5e-324),
        (1001.0, 1.0, 1.0),
        (1.0, 1.0, 1 / 1001),
    ],
)
def test_sizes_that_no_scan_has_are_not_believed(spacing_mm: tuple[float, float, float]) -> None:
    assert not is_believable(spacing_mm)

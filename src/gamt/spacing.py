"""Which sizes of a voxel can be believed."""

from collections.abc import Sequence

LEAST_MM, MOST_MM = 1e-6, 1e4
"""Sides of a voxel: 1 nm, below the 4 nm of the finest electron microscopy; and 10 m, so that 10 mm
in a file that means micrometres can be read."""

MOST_RATIO = 1000
"""One side may be this many times another. Single slices of 60 mm with pixels of 0.1 mm have 600;
the finest side is that of the grid's voxels, so that a scan with more would become huge."""

EXPECTED = f"numbers from {LEAST_MM:g} to {MOST_MM:g} mm, none above {MOST_RATIO} times another"
"""What spacings are expected to be, for messages."""


def is_believable(spacing_mm: Sequence[float]) -> bool:
    """Says whether a scan may have voxels of this size.

    Args:
        spacing_mm: three numbers, in any order of the axes; they may be NaN or infinite.
    """
    if not all(LEAST_MM <= mm <= MOST_MM for mm in spacing_mm):
        return False
    return max(spacing_mm) <= MOST_RATIO * min(spacing_mm)

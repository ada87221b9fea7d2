"""The three anatomical planes, and every conversion between a volume and its slices.

Volumes are indexed ``[z, y, x]`` throughout the package. Inside a slice, pixels are indexed
``[row, column]``, and prompts use the imaging order ``(x, y) = (column, row)``, as
segment-anything does. This module is the only place where one order becomes the other.

======== =========== ====== =========
plane    constant    rows   columns
======== =========== ====== =========
AXIAL    z (axis 0)  y      x
CORONAL  y (axis 1)  z      x
SAGITTAL x (axis 2)  z      y
======== =========== ====== =========
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt


class Plane(Enum):
    """A family of parallel slices; the value is the volume axis along which they stack."""

    AXIAL = 0
    CORONAL = 1
    SAGITTAL = 2

    @property
    def normal(self) -> int:
        """The volume axis along which the slices of this plane follow each other."""
        return self.value

    @property
    def row_axis(self) -> int:
        """The volume axis that a slice's rows run along."""
        return 1 if self is Plane.AXIAL else 0

    @property
    def column_axis(self) -> int:
        """The volume axis that a slice's columns run along."""
        return 1 if self is Plane.SAGITTAL else 2


def slice_view(volume: npt.NDArray[Any], plane: Plane, index: int) -> npt.NDArray[Any]:
    """Returns slice `index` of `plane`, a writable (rows, columns) view of `volume` (z, y, x)."""
    return volume[(slice(None),) * plane.normal + (index,)]


def slice_shape(shape: Sequence[int], plane: Plane) -> tuple[int, int]:
    """Returns the (rows, columns) of the slices of `plane` in a volume of `shape` (z, y, x)."""
    return shape[plane.row_axis], shape[plane.column_axis]


def to_slice(plane: Plane, voxel: Sequence[float]) -> tuple[float, float]:
    """Returns the pixel (x, y) at which `voxel` (z, y, x) appears in its slice of `plane`."""
    return voxel[plane.column_axis], voxel[plane.row_axis]


def to_volume(plane: Plane, index: int, pixel: Sequence[int]) -> tuple[int, int, int]:
    """Returns the voxel (z, y, x) of the pixel (x, y) in slice `index` of `plane`."""
    voxel = [0, 0, 0]
    voxel[plane.normal] = index
    voxel[plane.column_axis], voxel[plane.row_axis] = pixel
    return voxel[0], voxel[1], voxel[2]


def box_to_slice(
    plane: Plane, low: Sequence[int], high: Sequence[int]
) -> tuple[int, int, int, int]:
    """Projects the half-open voxel range `low`..`high` (z, y, x) onto the slices of `plane`.

    Returns:
        The half-open pixel box (x0, y0, x1, y1).
    """
    x, y = plane.column_axis, plane.row_axis
    return low[x], low[y], high[x], high[y]


def most_central(places: npt.NDArray[Any]) -> int:
    """Returns which of some places, (N, D) with N > 0, is nearest to their mean."""
    return int(np.argmin(np.linalg.norm(places - places.mean(axis=0), axis=1)))


def bounding_range(mask: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]] | None:
    """Returns the half-open index range (low, high), axis by axis, of the True part of `mask`.

    Works for a slice and for a volume; None where nothing is True.
    """
    low: list[int] = []
    high: list[int] = []
    rest = mask  # each axis leaves less of it to look at for the next, and one dimension less
    for _ in range(mask.ndim):
        hits = np.flatnonzero(rest.any(axis=tuple(range(1, rest.ndim))))
        if hits.size == 0:
            return None
        low.append(int(hits[0]))
        high.append(int(hits[-1]) + 1)
        rest = np.asarray(rest[low[-1] : high[-1]].any(axis=0))
    return low, high

"""Between voxels as a page has them and voxels as the package has them.

A page's voxel is (i, j, k), towards right, front and head; an array's is (z, y, x), towards head,
back and left (`gamt.io.image`). So k is z, j runs against y, and i against x. Nothing else in the
package turns the one into the other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.io.image import Image
from gamt.session import ArrayBounds

Voxel = tuple[int, int, int]

PageBounds = tuple[Voxel, Voxel]
"""Half-open (low, high), each (i, j, k)."""


def to_array(voxel: Sequence[int], shape: Sequence[int]) -> Voxel:
    """Returns the array's voxel (z, y, x) of a page's (i, j, k).

    Args:
        voxel: on the page, in the image or not.
        shape: of the array (z, y, x).
    """
    i, j, k = voxel
    return k, shape[1] - 1 - j, shape[2] - 1 - i


def to_page(voxel: Sequence[int], shape: Sequence[int]) -> Voxel:
    """Returns the page's voxel (i, j, k) of an array's (z, y, x); see `to_array`."""
    z, y, x = voxel
    return shape[2] - 1 - x, shape[1] - 1 - y, z


def bounds_to_array(low: Sequence[int], high: Sequence[int], shape: Sequence[int]) -> ArrayBounds:
    """Returns half-open bounds in the array of half-open bounds on the page, (i, j, k)."""
    first, last = to_array(low, shape), to_array([n - 1 for n in high], shape)
    return [[min(a, b), max(a, b) + 1] for a, b in zip(first, last, strict=True)]


def bounds_to_page(bounds: ArrayBounds, shape: Sequence[int]) -> PageBounds:
    """Returns half-open bounds on the page of half-open bounds in the array (z, y, x)."""
    first = to_page([a for a, _ in bounds], shape)
    last = to_page([b - 1 for _, b in bounds], shape)
    (i0, i1), (j0, j1), (k0, k1) = (
        (min(a, b), max(a, b) + 1) for a, b in zip(first, last, strict=True)
    )
    return (i0, j0, k0), (i1, j1, k1)


def turn(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns a view of an array (z, y, x) that is (k, j, i), or the other way round.

    In C order, i is the fastest axis of the page's, as pages and NIfTI files have it. Of a part of
    the array, it is the part within `bounds_to_page`.
    """
    return volume[:, ::-1, ::-1]


def page_to_file(image: Image) -> list[list[int]]:
    """Returns the (3, 4) matrix that takes the page's voxels to (i, j, k) of the scan's file."""
    matrix = np.linalg.inv(image.turn) @ _flip(image.array.shape)
    rows: list[list[int]] = np.rint(matrix[:3]).astype(int).tolist()
    return rows


def _flip(shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Returns what takes the page's voxels (i, j, k) to the array's, (x, y, z)."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = shape[2] - 1, shape[1] - 1
    return flip

"""Cleaning a class's mask in 3-D (paper, 2.3)."""

from collections.abc import Sequence

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.settings import Smoothing


def largest_component(
    mask: npt.NDArray[np.bool_],
    keep: Sequence[tuple[int, int, int]] = (),
    where: tuple[slice, ...] = (),
) -> npt.NDArray[np.bool_]:
    """Keeps the largest 26-connected component, and those that hold a voxel of `keep`.

    Args:
        mask: (z, y, x) bool.
        keep: voxels (z, y, x) that the user marked as inside.
        where: the part of the mask in which sizes are compared; if it is empty there, or without
            a part, all of it counts.
    """
    components = cc3d.connected_components(mask, connectivity=26)
    compared = components[where] if mask[where].any() else components
    sizes = np.bincount(compared.ravel(), minlength=int(components.max()) + 1)
    if len(sizes) <= 2:
        return mask
    wanted = {int(np.argmax(sizes[1:])) + 1}
    wanted |= {int(components[voxel]) for voxel in keep} - {0}
    return np.isin(components, list(wanted))


def component_at(mask: npt.NDArray[np.bool_], voxel: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Keeps the 26-connected component that holds `voxel` (z, y, x); nothing if none does."""
    # Not by cc3d, which fails on some volumes of a few voxels, such as lines.
    components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return np.asarray((components == components[voxel]) & mask, dtype=np.bool_)


def smooth(mask: npt.NDArray[np.bool_], how: Smoothing) -> npt.NDArray[np.bool_]:
    """Opens or closes a mask by one voxel, face neighbours; "none" leaves it as it is."""
    if how == "none":
        return mask
    operation = {"opening": ndimage.binary_opening, "closing": ndimage.binary_closing}[how]
    padded = np.pad(mask, 1, mode="edge")
    return np.asarray(operation(padded)[1:-1, 1:-1, 1:-1], dtype=np.bool_)

"""Cleaning a class's mask in 3-D (paper, 2.3)."""

from collections.abc import Sequence
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range
from gamt.prompts import ClassPrompts
from gamt.settings import Settings, Smoothing

Voxels = npt.NDArray[np.intp]

CC3D_FAILS = 3
"""cc3d raises on some volumes with no more voxels on an axis, such as lines (docs/constants.md)."""

LEAST_BODY = 0.1
"""Share of the largest component's voxels that another one has at least (docs/constants.md)."""

NO_VOXELS: Voxels = np.empty((0, 3), np.intp)


def label_components(mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Numbers the 26-connected components of a mask (z, y, x) from 1 on; 0 outside."""
    if min(mask.shape) <= CC3D_FAILS:
        labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        return np.asarray(labels)
    return np.asarray(cc3d.connected_components(mask, connectivity=26))


def largest_component(
    mask: npt.NDArray[np.bool_],
    keep: Voxels = NO_VOXELS,
    where: tuple[slice, ...] = (),
) -> npt.NDArray[np.bool_]:
    """Keeps the largest 26-connected component, and those that hold a voxel of `keep`.

    Args:
        mask: (z, y, x) bool.
        keep: (N, 3) voxels (z, y, x) that the user marked as inside.
        where: the part of the mask in which sizes are compared; if it is empty there, or without
            a part, all of it counts.
    """
    bounds = bounding_range(mask)
    if bounds is None:
        return mask
    low, high = bounds
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    components = label_components(mask[inside])
    count = int(components.max())
    if count == 1:
        return mask
    compared = components
    if where and mask[where].any():
        compared = components[within(where, mask.shape, low)]
    sizes = np.bincount(compared.ravel(), minlength=count + 1)
    kept = np.zeros(count + 1, np.bool_)
    kept[1 + np.argmax(sizes[1:])] = True
    kept[components_at(keep, mask, components, low)] = True
    result = np.zeros_like(mask)
    result[inside] = kept[components]
    return result


def components_at(
    voxels: Voxels, mask: npt.NDArray[np.bool_], components: npt.NDArray[Any], low: Sequence[int]
) -> npt.NDArray[Any]:
    """Returns the numbers of the components that some voxels of a mask lie in.

    Args:
        voxels: (N, 3) in the order (z, y, x); those outside of the mask don't count.
        mask: (z, y, x) bool.
        components: (z, y, x) of the mask, from the voxel `low` on.
        low: see above.
    """
    held = voxels[mask[tuple(voxels.T)]]
    return np.asarray(components[tuple((held - np.asarray(low)).T)])


def within(
    part: tuple[slice, ...], shape: tuple[int, ...], low: Sequence[int]
) -> tuple[slice, ...]:
    """Returns a part of an array of some shape, counted from the voxel `low` of it."""
    ends = [one.indices(size)[:2] for one, size in zip(part, shape, strict=True)]
    return tuple(slice(max(0, a - n), max(0, b - n)) for (a, b), n in zip(ends, low, strict=True))


def bodies_in_box(
    mask: npt.NDArray[np.bool_],
    box: tuple[slice, ...],
    keep: Voxels = NO_VOXELS,
) -> npt.NDArray[np.bool_]:
    """Keeps the largest 26-connected component, and what lies beside it in a target's box.

    Args:
        mask: (z, y, x) bool.
        box: the part of the mask that the box holds. A component counts that has more than half of
            its voxels there, and `LEAST_BODY` of the largest one's.
        keep: (N, 3) voxels (z, y, x) that the user marked as inside; their components stay.
    """
    bounds = bounding_range(mask)
    if bounds is None:
        return mask
    low, high = bounds
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    components = label_components(mask[inside])
    sizes = np.bincount(components.ravel())
    if len(sizes) == 2:
        return mask
    sizes[0] = 0
    boxed = np.bincount(components[within(box, mask.shape, low)].ravel(), minlength=len(sizes))
    wanted = (2 * boxed > sizes) & (sizes >= LEAST_BODY * sizes.max())
    wanted[np.argmax(sizes)] = True
    wanted[components_at(keep, mask, components, low)] = True
    wanted[0] = False
    result = np.zeros_like(mask)
    result[inside] = wanted[components]
    return result


def drop_pieces(
    mask: npt.NDArray[np.bool_],
    low: tuple[int, int, int],
    prompts: ClassPrompts,
    settings: Settings,
) -> npt.NDArray[np.bool_]:
    """Drops the pieces of a class's mask that its prompts don't account for.

    A class may have several bodies in its box, as both kidneys; the paper keeps the largest (2.3).
    Without a box, a class is what hangs together with a seed.

    Args:
        mask: (z, y, x) bool.
        low: the mask's first raw voxel (z, y, x).
        prompts: of the class, in raw voxels.
        settings: the method's numbers.
    """
    keep = prompts.voxels_inside - low
    box = prompts.box
    if box is not None and not settings.largest_component:
        bounds = zip(box.low, box.high, low, strict=True)
        return bodies_in_box(mask, tuple(slice(a - c, b - c) for a, b, c in bounds), keep)
    drawn = prompts.slice_box
    return largest_component(mask, keep, () if drawn is None else drawn.within(low))


def component_at(mask: npt.NDArray[np.bool_], voxel: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Keeps the 26-connected component that holds `voxel` (z, y, x); nothing if none does."""
    result = np.zeros_like(mask)
    bounds = bounding_range(mask) if mask[voxel] else None
    if bounds is not None:
        inside = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
        components = label_components(mask[inside])
        result[inside] = components == components[tuple(np.subtract(voxel, bounds[0]))]
    return result


def smooth(mask: npt.NDArray[np.bool_], how: Smoothing) -> npt.NDArray[np.bool_]:
    """Opens or closes a mask by one voxel, face neighbours; "none" leaves it as it is."""
    if how == "none":
        return mask
    operation = {"opening": ndimage.binary_opening, "closing": ndimage.binary_closing}[how]
    padded = np.pad(mask, 1, mode="edge")
    return np.asarray(operation(padded)[1:-1, 1:-1, 1:-1], dtype=np.bool_)


def largest_pieces(
    mask: npt.NDArray[np.bool_], most: int, least_voxels: int = 1
) -> list[npt.NDArray[np.bool_]]:
    """Returns the largest 26-connected pieces of a mask (z, y, x), each by itself.

    Args:
        mask: (z, y, x).
        most: number of pieces.
        least_voxels: that a piece has.
    """
    components = label_components(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest = np.argsort(-sizes, kind="stable")[:most]
    return [components == n for n in largest if sizes[n] >= least_voxels]


def keep_pieces(
    target: npt.NDArray[np.bool_], certain: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Keeps the 26-connected pieces of a target (z, y, x) that hold a voxel of what is certain."""
    bounds = bounding_range(target)
    if bounds is None:
        return target
    part = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
    pieces = label_components(target[part])
    kept = np.zeros(int(pieces.max()) + 1, np.bool_)
    kept[pieces[certain[part]]] = True
    kept[0] = False
    result = np.zeros_like(target)
    result[part] = kept[pieces]
    return result


def obey_scribbles(labels: npt.NDArray[np.uint8], prompts: ClassPrompts) -> None:
    """Puts the voxels of a class's scribbles on their side, in labels (z, y, x)."""
    for scribble in prompts.scribbles:
        line = tuple(scribble.voxels.T)
        if scribble.positive:
            labels[line] = prompts.label
        else:
            labels[line] = np.where(labels[line] == prompts.label, 0, labels[line])


def obey_clicks(labels: npt.NDArray[np.uint8], prompts: ClassPrompts) -> None:
    """Puts a class's clicks on their side, in labels (z, y, x)."""
    for click in prompts.clicks:  # of several on a voxel, the last one counts
        if click.positive:
            labels[click.voxel] = prompts.label
        elif labels[click.voxel] == prompts.label:
            labels[click.voxel] = 0

"""Which slices of which plane a target needs (paper, 2.2, "Range Determination")."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane

LEAST_MARGIN = 1
"""Pixels that `widen` adds to a side beside the share of it, so that the thinnest box gets wider
(docs/constants.md)."""


def projected_range(
    masks: npt.NDArray[np.bool_], plane: Plane, percentile: float
) -> npt.NDArray[np.bool_]:
    """Selects the coronal or sagittal slices that matter, from the axial masks.

    In every axial mask the pixels are summed along the slice's lines; the slices whose sum exceeds
    the percentile of all sums are selected. The union over the axial masks covers a target that
    bends away from its anchor (paper, Figure 2; docs/design.md, 5).

    Args:
        masks: (z, y, x) bool.
        plane: `CORONAL` selects along y, `SAGITTAL` along x.
        percentile: 0..100; the paper's 90 keeps the core of the target, 0 all of it.

    Returns:
        bool along the plane's normal.
    """
    other = Plane.SAGITTAL if plane is Plane.CORONAL else Plane.CORONAL
    sums = masks.sum(axis=other.normal, dtype=np.int64)
    # The least sum, percentile 0, is not zero where a target fills the axis.
    limits = np.percentile(sums, percentile, axis=1, keepdims=True) if percentile > 0 else 0
    return np.asarray((sums > limits).any(axis=0), dtype=np.bool_)


def runs(selected: npt.NDArray[np.bool_]) -> list[range]:
    """Splits a selection along an axis into its unbroken runs of indices."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], selected.astype(np.int8), [0]))))
    return [range(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def fullest(masks: npt.NDArray[np.bool_], plane: Plane, indices: Sequence[int]) -> int:
    """Returns which of the slices holds most of the target; the one nearest the middle of equals.

    Args:
        masks: (z, y, x) bool.
        plane: of the slices.
        indices: ascending.
    """
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    area = masks.sum(axis=others, dtype=np.int64)[list(indices)]
    best = np.flatnonzero(area == area.max())
    return indices[int(best[len(best) // 2])]


def widen(box: Sequence[float], margin: float, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns `box` (x0, y0, x1, y1, half-open) with a margin added all around.

    On each axis that is `margin` times the side, and `LEAST_MARGIN` pixels on top. The
    result ends at the borders of a slice of `shape` (rows, columns).
    """
    x0, y0, x1, y1 = box
    dx, dy = margin * (x1 - x0) + LEAST_MARGIN, margin * (y1 - y0) + LEAST_MARGIN
    return (
        max(0, int(np.floor(x0 - dx))),
        max(0, int(np.floor(y0 - dy))),
        min(shape[1], int(np.ceil(x1 + dx))),
        min(shape[0], int(np.ceil(y1 + dy))),
    )

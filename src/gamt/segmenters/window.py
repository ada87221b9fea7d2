"""A part of a slice, on a grid that is coarse enough to be worked on quickly."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

SubpixelBox = tuple[float, float, float, float]
"""Bounds (x0, y0, x1, y1) in a slice; pixel 0 reaches from 0 to 1."""

LIMIT = 8.0
"""Largest absolute value of log-odds; outside of the window they are its negative."""

WORKING_SIDE = 112
"""The longer side of a window, in pixels, above which the work is done on a coarser grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A rectangle of the slice, and the grid on which the work is done.

    Attributes:
        rows: of the slice.
        columns: of the slice.
        y: (n, 1) positions of the grid's rows in the slice; pixel 0 reaches from 0 to 1.
        x: (1, m) positions of the grid's columns.
        step: slice pixels per grid pixel.
    """

    rows: slice
    columns: slice
    y: Array
    x: Array
    step: float

    def shrink(self, values: npt.NDArray[np.generic]) -> Array:
        """Brings a slice's values onto the grid, which averages them."""
        part = values[self.rows, self.columns].astype(np.float32)
        return _average(_average(part.T, self.y.size).T, self.x.size)

    def enlarge(self, values: Array, shape: tuple[int, int]) -> Array:
        """Brings the grid's log-odds back to a slice of `shape`, which interpolates them."""
        full = np.full(shape, -LIMIT, np.float32)
        rows, columns = (span.stop - span.start for span in (self.rows, self.columns))
        part = _interpolate(_interpolate(values.T, rows).T, columns)
        part.clip(-LIMIT, LIMIT, out=full[self.rows, self.columns])
        return full


def make_window(shape: tuple[int, int], bounds: SubpixelBox, margin: float) -> Window:
    """Lays a window around `bounds` (x0, y0, x1, y1), `margin` pixels larger on every side."""
    spans = []
    for low, high, size in ((bounds[1], bounds[3], shape[0]), (bounds[0], bounds[2], shape[1])):
        first = int(np.clip(np.floor(low - margin), 0, size - 1))
        spans.append(slice(first, int(np.clip(np.ceil(high + margin), first + 1, size))))
    lengths = [span.stop - span.start for span in spans]
    step = max(1.0, max(lengths) / WORKING_SIDE)
    y, x = (
        (span.start + (np.arange(new) + 0.5) * (length / new)).astype(np.float32)
        for span, length, new in zip(
            spans, lengths, (max(1, round(length / step)) for length in lengths), strict=True
        )
    )
    return Window(spans[0], spans[1], y[:, None], x[None, :], step)


# Sums and look-ups rather than small matrix products, whose threads get in each other's way when
# several processes share a machine.


def _average(values: Array, new: int) -> Array:
    """Averages every row over `new` equally long parts of it."""
    size = values.shape[1]
    if new == size:
        return values
    total = np.zeros((len(values), size + 1))
    np.cumsum(np.array(values, np.float64, order="C"), axis=1, out=total[:, 1:])
    edges = np.arange(new + 1) * (size / new)
    left = np.minimum(edges.astype(np.intp), size - 1)
    share = edges - left
    sums = total.take(left, axis=1) * (1 - share) + total.take(left + 1, axis=1) * share
    return np.asarray(np.diff(sums, axis=1) * (new / size), np.float32)


def _interpolate(values: Array, size: int) -> Array:
    """Interpolates every row made by `_average` to `size`; flat beyond the outer centres."""
    new = values.shape[1]
    if new == size:
        return values
    place = ((np.arange(size) + 0.5) * (new / size) - 0.5).clip(0, new - 1)
    left = np.minimum(place.astype(np.intp), max(0, new - 2))
    share = (place - left).astype(np.float32)
    right = np.minimum(left + 1, new - 1)
    values = np.ascontiguousarray(values)
    mixed = values.take(left, axis=1) * (1 - share) + values.take(right, axis=1) * share
    return np.asarray(mixed, np.float32)

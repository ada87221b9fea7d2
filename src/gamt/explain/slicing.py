"""Slices through one voxel of a scan, cut out of volumes for the pictures of an explanation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, slice_shape, slice_view
from gamt.explain.record import Mask, Overlay
from gamt.volume.geometry import Range

NOTHING: Mapping[str, Mask] = MappingProxyType({})


def in_plane(plane: Plane) -> tuple[int, int]:
    """Returns the axes of a slice's rows and columns."""
    return plane.row_axis, plane.column_axis


@dataclass(frozen=True, eq=False)
class SliceCutter:
    """Cuts the slices through a voxel out of volumes, as far as a frame shows them.

    Attributes:
        frame: raw bounds.
        low: the first raw voxel (z, y, x) of the volumes that are cut.
        voxel: the raw voxel (z, y, x) that all slices go through.
        truth: (z, y, x) of the whole scan, or None.
    """

    frame: Range
    low: tuple[int, int, int]
    voxel: tuple[int, int, int]
    truth: Mask | None

    def cut(self, volume: npt.NDArray[Any], plane: Plane) -> npt.NDArray[Any]:
        """Returns a slice (rows, columns); False or NaN where the volume has none."""
        first, last = self.frame
        size = [b - a for a, b in zip(first, last, strict=True)]
        empty = np.nan if volume.dtype.kind == "f" else 0
        result = np.full(slice_shape(size, plane), empty, volume.dtype)
        index = self.voxel[plane.normal] - self.low[plane.normal]
        if 0 <= index < volume.shape[plane.normal]:
            source = slice_view(volume, plane, index)
            taken, put = [], []
            for axis, side in zip(in_plane(plane), source.shape, strict=True):
                begin = max(first[axis], self.low[axis])
                end = max(begin, min(last[axis], self.low[axis] + side))
                taken.append(slice(begin - self.low[axis], end - self.low[axis]))
                put.append(slice(begin - first[axis], end - first[axis]))
            result[tuple(put)] = source[tuple(taken)]
        return result

    def overlays(
        self,
        probability: npt.NDArray[np.float32] | None = None,
        areas: Mapping[str, Mask] = NOTHING,
        outlines: Mapping[str, Mask] = NOTHING,
    ) -> list[Overlay]:
        """Returns the overlays of one step, axial, coronal, sagittal; the truth is in all of them.

        Args:
            probability: (z, y, x), 0..1 or NaN, or None.
            areas: (z, y, x), by what they are.
            outlines: (z, y, x), by what they are.
        """
        overlays = []
        whole = replace(self, low=(0, 0, 0))
        for plane in Plane:
            lines = {name: self.cut(mask, plane) for name, mask in outlines.items()}
            if self.truth is not None:
                lines["truth"] = whole.cut(self.truth, plane)
            seen = None if probability is None else self.cut(probability, plane)
            fills = {name: self.cut(mask, plane) for name, mask in areas.items()}
            overlays.append(Overlay(seen, fills, lines))
        return overlays

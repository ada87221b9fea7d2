"""Recodes ground truth and prediction as bytes, so that compiled loops need one type of array."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Volume = npt.NDArray[Any]

# What stands for types that compiled loops don't know.
_COMPILED: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.bool_): np.dtype(np.uint8),
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(np.longdouble): np.dtype(np.float64),
}

# Codes of a byte, less the one that stands for everything that is no class.
_MOST_CLASSES = 255


@dataclass(frozen=True)
class Coded:
    """Some classes of a pair of volumes.

    Attributes:
        gts: (z, y, x) uint8, C order, the ground truth.
        segs: as `gts`, the prediction.
        labels: label of each class by its code; code 0 is never a class, other codes without a
            label are none either.
    """

    gts: Bytes
    segs: Bytes
    labels: dict[int, int | float]

    @property
    def is_class(self) -> npt.NDArray[np.bool_]:
        """(256,) whether a code is a class."""
        flags = np.zeros(256, np.bool_)
        flags[list(self.labels)] = True
        return flags


def coded(gts: Volume, segs: Volume) -> Iterator[Coded]:
    """Codes two volumes over the classes of the first, in ascending order of labels.

    The classes are the sorted distinct values of `gts` without the smallest, which is taken to be
    the background (docs/challenge.md, 4). Arrays of bytes are used as they are; others are recoded,
    in batches if they have more classes than a byte has codes.

    Args:
        gts: (z, y, x) ground truth, any numeric type.
        segs: prediction of the same shape, any numeric type.

    Raises:
        ValueError: the shapes differ or are not 3-D.
    """
    if gts.shape != segs.shape or gts.ndim != 3:
        raise ValueError(
            "ground truth and prediction must be 3-D and of one shape, "
            f"got {gts.shape} and {segs.shape}"
        )
    gts, segs = (
        np.ascontiguousarray(one.astype(_COMPILED.get(one.dtype, one.dtype), copy=False))
        for one in (gts, segs)
    )
    if gts.dtype == np.uint8 and segs.dtype == np.uint8:
        values = np.flatnonzero(_occurring(as_words(gts), gts.reshape(-1)))[1:].tolist()
        if values:
            yield Coded(gts, segs, {value: value for value in values})
        return
    flat = gts.reshape(-1)
    # Sorting the first voxels of stretches of one value, not all voxels.
    labels = np.unique(np.append(flat[:1], flat[1:][flat[1:] != flat[:-1]]))[1:]
    for start in range(0, len(labels), _MOST_CLASSES):
        batch = labels[start : start + _MOST_CLASSES]
        codes = dict(enumerate(batch.tolist(), start=1))
        yield Coded(_recoded(gts, batch), _recoded(segs, batch), codes)


def as_words(volume: Bytes) -> npt.NDArray[np.uint64]:
    """Returns the bytes of a contiguous volume as 64-bit words, without an incomplete last one."""
    return volume.reshape(-1)[: volume.size // 8 * 8].view(np.uint64)


def _recoded(volume: Volume, labels: npt.NDArray[Any]) -> Bytes:
    return _codes_of(volume.reshape(-1), labels).reshape(volume.shape)


@compiled
def _codes_of(voxels: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Bytes:
    """Returns 1 + the position of each voxel in sorted `labels`, 0 where it is not in there."""
    codes = np.zeros(len(voxels), np.uint8)
    for voxel in range(len(voxels)):
        if voxel > 0 and voxels[voxel] == voxels[voxel - 1]:
            codes[voxel] = codes[voxel - 1]
            continue
        low, high = 0, len(labels)
        while low < high:
            middle = (low + high) // 2
            if labels[middle] < voxels[voxel]:
                low = middle + 1
            else:
                high = middle
        if low < len(labels) and labels[low] == voxels[voxel]:
            codes[voxel] = low + 1
    return codes


@compiled
def _occurring(words: npt.NDArray[np.uint64], voxels: Bytes) -> npt.NDArray[np.bool_]:
    """Returns (256,) which bytes occur."""
    found = np.zeros(256, np.bool_)
    for index in range(len(words)):
        if index == 0 or words[index] != words[index - 1]:
            for voxel in range(8 * index, 8 * index + 8):
                found[voxels[voxel]] = True
    for voxel in range(8 * len(words), len(voxels)):
        found[voxels[voxel]] = True
    return found

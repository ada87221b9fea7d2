"""Pairs of ground truth and prediction, drawn from seeds, that the golden numbers belong to.

Integers and numpy's frozen legacy generator only, so that every machine draws the same volumes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Volume = npt.NDArray[Any]
Shape = tuple[int, int, int]

OFFICIAL_LIMIT = 60_000_000


@dataclass(frozen=True)
class Pair:
    """One pair, and how it is scored; `limit` is the size of box above which depths are coarse."""

    name: str
    gts: Volume
    segs: Volume
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tolerance: float = 2.0
    limit: int = OFFICIAL_LIMIT


def blobs(seed: int, shape: Shape, labels: list[int], smooth: int, agreement: int) -> list[Volume]:
    """Draws two volumes of blobs that agree the more, the larger `agreement` is (0..9)."""
    draw = np.random.RandomState(seed)
    common, first, second = draw.randint(0, 1000, (3, len(labels), *shape))
    volumes = []
    for own in (first, second):
        field = agreement * common + (10 - agreement) * own
        for _ in range(smooth):
            for axis in (1, 2, 3):
                field = np.roll(field, 1, axis) + 2 * field + np.roll(field, -1, axis)
        volumes.append(np.array(labels, np.uint8)[field.argmax(axis=0)])
    return volumes


def block(shape: Shape, low: Shape, high: Shape, label: int = 1) -> Volume:
    """A volume of zeros with a block of one label, from `low` up to, not including, `high`."""
    volume = np.zeros(shape, np.uint8)
    volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = label
    return volume


def pairs() -> Iterator[Pair]:
    """Yields all pairs."""
    shapes = [(9, 14, 17), (5, 20, 11), (16, 8, 24), (1, 23, 19), (13, 1, 12), (12, 15, 1)]
    spacings = [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (0.9, 1.3, 3.0), (5.0, 0.31, 0.47)]
    label_sets = [[0, 1], [0, 1, 2, 3], [0, 2, 7, 11, 200], [3, 4, 9]]
    for seed in range(24):
        gts, segs = blobs(
            seed, shapes[seed % 6], label_sets[seed % 4], smooth=seed % 5, agreement=4 + seed % 6
        )
        yield Pair(
            f"drawn-{seed}",
            gts,
            segs,
            spacings[(seed // 2) % 4],
            tolerance=(2.0, 2.0, 1.0, 0.0)[(seed // 3) % 4],
            limit=OFFICIAL_LIMIT if seed % 3 else 400,
        )
    gts, segs = blobs(50, (10, 18, 21), [0, 1, 5, 6], smooth=3, agreement=8)
    anisotropic = (3.0, 0.8, 0.9)
    yield Pair("fortran-both", np.asfortranarray(gts), np.asfortranarray(segs), anisotropic)
    yield Pair("fortran-truth", np.asfortranarray(gts), segs, anisotropic)
    yield Pair("fortran-prediction", gts, np.asfortranarray(segs), anisotropic)
    yield Pair("perfect", gts, gts.copy(), anisotropic)
    yield Pair("empty-prediction", gts, np.zeros_like(gts), anisotropic)
    yield Pair("one-class-missing", gts, np.where(segs == 5, 0, segs).astype(np.uint8), anisotropic)
    yield Pair("labels-unknown-to-truth", gts, np.where(segs == 6, 77, segs).astype(np.uint8))
    yield Pair("one-label-for-all", gts, np.full_like(gts, 5))
    wide = gts.astype(np.int32) * 300
    yield Pair("wide-labels", wide, segs.astype(np.int32) * 300, anisotropic)
    yield Pair("negative-labels", gts.astype(np.int16) - 5, segs, anisotropic)
    yield Pair("many-voxels-in-tolerance", gts, segs, (0.001, 1.0, 1.1), tolerance=1.0)
    yield Pair("larger-than-any-distance", gts, segs, anisotropic, tolerance=1000.0)
    empty = np.zeros_like(gts)
    yield Pair("empty-and-many-voxels-in-tolerance", gts, empty, (0.001, 1.0, 1.1))
    yield Pair("background-only", np.zeros_like(gts), segs)
    shape = (8, 9, 10)
    body = block(shape, (2, 2, 2), (6, 7, 8))
    for name, voxel in (("inner", (4, 4, 4)), ("corner", (2, 2, 2)), ("apart", (0, 8, 9))):
        segs = body.copy()
        segs[voxel] ^= 1
        yield Pair(f"single-voxel-{name}", body, segs)
    whole = block(shape, (0, 0, 0), shape)
    whole[0, 0, 0] = 0
    yield Pair("at-all-borders", whole, block(shape, (0, 0, 0), (8, 9, 5)), (1.0, 2.0, 1.5))
    yield Pair("exactly-at-tolerance", body, np.roll(body, 2, axis=1))
    yield Pair(
        "exactly-at-tolerance-in-steps", body, np.roll(body, 2, axis=2), (1.0, 1.0, 0.1), 0.2
    )
    # Two equal errors: the first in C order is at the end in Fortran order.
    ties = block(shape, (1, 1, 7), (3, 3, 9)) + block(shape, (5, 5, 1), (7, 7, 3))
    yield Pair("equal-components", ties, np.zeros_like(ties))
    yield Pair("equal-components-fortran", np.asfortranarray(ties), np.zeros_like(ties, order="F"))
    # 5 x 6 x 4 voxels, even sides: several voxels are deepest.
    yield Pair("equal-depths", block(shape, (1, 1, 1), (6, 7, 5)), np.zeros(shape, np.uint8))
    # 15 x 24 x 19 voxels and a padding of 3, 6 and 4 on each side.
    tall = block((20, 31, 26), (3, 5, 4), (18, 29, 23), label=2)
    tall[9:12, 14:20, 9:14] = 0
    for limit in (25_000, 15_000):
        yield Pair(f"box-of-20412-limit-{limit}", tall, np.zeros_like(tall), limit=limit)

"""Dice and surface Dice as the challenge computes them (docs/challenge.md, 4), in compiled passes.

Surface Dice follows DeepMind's surface-distance (github.com/google-deepmind/surface-distance): the
surface passes through the corners between voxels whose 2x2x2 neighbours are not all alike. Corners
have areas, by lookup on which neighbours are inside; the score is the share of the area, of both
surfaces, that lies within the tolerance of the other surface.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from evaluation.compiled import compiled
from evaluation.labels import Bytes, Coded, Volume, as_words, coded

# Triangles of the surface at a corner, by the code of its neighbours (see `_near_corners`), as
# indices into _NORMALS. A code and its complement have the same surface: half of them are listed.
_TRIANGLES = """
    - 3 3 55 3 44 33 368 3 33 44 368 55 368 368 88 3 11 33 236 33 036 333 3366 33 113 344 1347
    355 1357 3368 368 3 33 11 236 33 344 113 1347 33 333 036 3366 355 3368 1357 368 55 236 236
    22 355 3457 3236 236 355 2336 3457 236 5555 355 355 55 3 33 33 355 11 036 113 1357 33 333
    344 3368 236 3366 1347 368 44 036 344 3457 036 00 0336 036 344 0336 4444 344 3457 036 344 44
    33 333 113 2336 113 0336 1111 113 333 3333 0336 333 2336 333 113 33 368 3366 1347 236 1357
    036 113 11 3368 333 344 33 355 33 33 3
"""
# Normals of the triangles, z y x, in eighths of a voxel; their lengths are the triangles' areas.
_NORMALS = np.array(
    [
        [0, 0, 4],
        [0, 2, 2],
        [0, 4, 0],
        [1, 1, 1],
        [2, 0, 2],
        [2, 2, 0],
        [2, 2, 2],
        [3, 3, 3],
        [4, 0, 0],
    ]
)

# Offsets above which a distance transform is faster than looking at each.
LONGEST_SEARCH = 5_000


def multi_class_dsc(gts: Volume, segs: Volume) -> float:
    """Returns the mean Dice over the classes of the ground truth, NaN if it has none.

    Args:
        gts: (z, y, x) ground truth; its smallest value is the background.
        segs: prediction of the same shape; labels that `gts` lacks don't count.

    Raises:
        ValueError: the shapes differ or are not 3-D.
    """
    return _mean(class_dsc(gts, segs))


def multi_class_nsd(
    gts: Volume, segs: Volume, spacing: Sequence[float], tolerance: float = 2.0
) -> float:
    """Returns the mean surface Dice over the classes of the ground truth, NaN if it has none.

    Args:
        gts: (z, y, x) ground truth; its smallest value is the background.
        segs: prediction of the same shape; labels that `gts` lacks don't count.
        spacing: mm per voxel along the axes of the arrays as they stand.
        tolerance: mm, inclusive.

    Raises:
        ValueError: the shapes differ or are not 3-D.
    """
    return _mean(class_nsd(gts, segs, spacing, tolerance))


def class_dsc(gts: Volume, segs: Volume) -> dict[int | float, float]:
    """Returns Dice by label, as `multi_class_dsc` takes it; 0 for a label without prediction."""
    scores: dict[int | float, float] = {}
    for pair in coded(gts, segs):
        true, predicted, common = _counts(
            as_words(pair.gts), as_words(pair.segs), pair.gts.reshape(-1), pair.segs.reshape(-1)
        )
        for code, label in pair.labels.items():
            scores[label] = float(2 * common[code] / (true[code] + predicted[code]))
    return scores


def class_nsd(
    gts: Volume, segs: Volume, spacing: Sequence[float], tolerance: float = 2.0
) -> dict[int | float, float]:
    """Returns surface Dice by label, as `multi_class_nsd` takes it; 0 without prediction."""
    steps = np.asarray(spacing, np.float64)
    areas = _areas(steps)
    offsets = _offsets(steps, float(tolerance))
    scores: dict[int | float, float] = {}
    for pair in coded(gts, segs):
        if offsets is None:
            total, near = _near_by_transform(pair, steps, tolerance)
        else:
            total, near = _near_by_search(pair, offsets)
        for code, label in pair.labels.items():
            # Without area (a spacing of zero) there is no score.
            whole = float(total[code] @ areas)
            scores[label] = float(near[code] @ areas) / whole if whole else math.nan
    return scores


def _mean(scores: dict[int | float, float]) -> float:
    return float(np.mean(list(scores.values()))) if scores else math.nan


def _areas(spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the surface's area at a corner, (256,) mm^2 by code."""
    z, y, x = spacing
    triangles = np.linalg.norm(_NORMALS / 8 * (y * x, z * x, z * y), axis=1)
    half = [sum(triangles[int(one)] for one in row if one != "-") for row in _TRIANGLES.split()]
    return np.array(half + half[::-1])


def _offsets(spacing: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.int64] | None:
    """Returns the steps (n, 3) between corners within the tolerance, nearest first.

    None if there are more than are worth looking at.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = tolerance / np.abs(spacing)
    # A ball fills about half of its box; `not` also catches what is no number.
    if not np.prod(2 * reach + 1) < 2 * LONGEST_SEARCH:
        return None
    # One step more than the quotient, whose rounding must not decide.
    sides = [np.arange(-int(r) - 1, int(r) + 2) for r in reach]
    steps = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    z, y, x = (steps * spacing).T
    # In this order of operations, since many corners lie at exactly the tolerance.
    distances = np.sqrt((z * z + y * y) + x * x)
    inside = distances <= tolerance
    return np.asarray(steps[inside][np.argsort(distances[inside], kind="stable")], np.int64)


def _near_by_search(
    pair: Coded, offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Counts the corners of both surfaces, and those within reach of the other surface.

    Returns:
        (256, 256) all corners and the near ones, by the class's code and the corner's code.
    """
    surfaces = _surfaces(pair.gts, pair.segs)
    words, is_class = as_words(surfaces), pair.is_class
    total, near = _near_corners(pair.gts, pair.segs, surfaces, words, 1, is_class, offsets)
    others, near_others = _near_corners(pair.segs, pair.gts, surfaces, words, 2, is_class, offsets)
    return total + others, near + near_others


def _near_by_transform(
    pair: Coded, spacing: npt.NDArray[np.float64], tolerance: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Does what `_near_by_search` does, at a cost that the tolerance has no part in."""
    total, near = np.zeros((256, 256), np.int64), np.zeros((256, 256), np.int64)
    for code in pair.labels:
        masks = [pair.gts == code, pair.segs == code]
        either = masks[0] | masks[1]
        crop = []
        for axis in range(3):
            used = np.flatnonzero(either.any(axis=tuple({0, 1, 2} - {axis})))
            crop.append(slice(used[0], used[-1] + 1))
        corners = [_codes(mask[tuple(crop)]) for mask in masks]
        surfaces = [(codes != 0) & (codes != 255) for codes in corners]
        for one, other in ((0, 1), (1, 0)):
            if surfaces[other].any():
                distances = distance_transform_edt(~surfaces[other], sampling=spacing)
            else:
                distances = np.full(surfaces[other].shape, np.inf)
            close = surfaces[one] & (distances <= tolerance)
            total[code] += np.bincount(corners[one][surfaces[one]], minlength=256)
            near[code] += np.bincount(corners[one][close], minlength=256)
    return total, near


def _codes(mask: npt.NDArray[np.bool_]) -> Bytes:
    """Returns the codes of all corners of a mask: (z, y, x) to (z + 1, y + 1, x + 1)."""
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros(tuple(side + 1 for side in mask.shape), np.uint8)
    for bit in range(8):
        z, y, x = bit >> 2, bit >> 1 & 1, bit & 1
        depth, height, width = codes.shape
        codes |= padded[z : z + depth, y : y + height, x : x + width] << (7 - bit)
    return codes


@compiled
def _counts(
    gts_words: npt.NDArray[np.uint64], segs_words: npt.NDArray[np.uint64], gts: Bytes, segs: Bytes
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Counts voxels by code: (256,) in the ground truth, in the prediction, in both."""
    true = np.zeros(256, np.int64)
    predicted = np.zeros(256, np.int64)
    common = np.zeros(256, np.int64)
    ones = np.uint64(0x0101010101010101)
    for word in range(len(gts_words)):
        value = gts_words[word]
        # Code 0 is never asked for.
        if value | segs_words[word] == 0:
            continue
        first = gts[8 * word]
        if value == segs_words[word] and value == np.uint64(first) * ones:
            true[first] += 8
            predicted[first] += 8
            common[first] += 8
            continue
        for voxel in range(8 * word, 8 * word + 8):
            true[gts[voxel]] += 1
            predicted[segs[voxel]] += 1
            if gts[voxel] == segs[voxel]:
                common[gts[voxel]] += 1
    for voxel in range(8 * len(gts_words), len(gts)):
        true[gts[voxel]] += 1
        predicted[segs[voxel]] += 1
        if gts[voxel] == segs[voxel]:
            common[gts[voxel]] += 1
    return true, predicted, common


@compiled
def _surfaces(gts: Bytes, segs: Bytes) -> Bytes:
    """Marks the corners (z + 1, y + 1, x + 1) whose neighbours differ: 1 in gts, 2 in segs."""
    depth, height, width = gts.shape
    marks = np.zeros((depth + 1, height + 1, width + 1), np.uint8)
    outside = np.zeros(width, np.uint8)
    for which in range(2):
        volume = gts if which == 0 else segs
        bit = np.uint8(1 + which)
        for z in range(depth + 1):
            for y in range(height + 1):
                a = volume[z - 1, y - 1] if z > 0 and y > 0 else outside
                b = volume[z - 1, y] if z > 0 and y < height else outside
                c = volume[z, y - 1] if z < depth and y > 0 else outside
                d = volume[z, y] if z < depth and y < height else outside
                row = marks[z, y]
                left = np.uint8(0)
                differed = False
                for x in range(width):
                    here = a[x]
                    differs = ((here ^ b[x]) | (here ^ c[x]) | (here ^ d[x])) != 0
                    if differs or differed or here != left:
                        row[x] |= bit
                    differed = differs
                    left = here
                if differed or left != 0:
                    row[width] |= bit
    return marks


@compiled
def _neighbours(volume: Bytes, z: int, y: int, x: int, into: Bytes) -> None:
    """Writes the 8 voxels around a corner in C order, 0 for those outside the volume."""
    depth, height, width = volume.shape
    if 0 < z < depth and 0 < y < height and 0 < x < width:
        for bit in range(8):
            into[bit] = volume[z - 1 + (bit >> 2), y - 1 + (bit >> 1 & 1), x - 1 + (bit & 1)]
        return
    for bit in range(8):
        k, j, i = z - 1 + (bit >> 2), y - 1 + (bit >> 1 & 1), x - 1 + (bit & 1)
        if 0 <= k < depth and 0 <= j < height and 0 <= i < width:
            into[bit] = volume[k, j, i]
        else:
            into[bit] = 0


@compiled
def _touches(volume: Bytes, z: int, y: int, x: int, code: int) -> bool:
    """Returns whether one of the 8 voxels around a corner is of a class."""
    depth, height, width = volume.shape
    if 0 < z < depth and 0 < y < height and 0 < x < width:
        return bool(
            volume[z - 1, y - 1, x - 1] == code
            or volume[z - 1, y - 1, x] == code
            or volume[z - 1, y, x - 1] == code
            or volume[z - 1, y, x] == code
            or volume[z, y - 1, x - 1] == code
            or volume[z, y - 1, x] == code
            or volume[z, y, x - 1] == code
            or volume[z, y, x] == code
        )
    for k in range(max(z - 1, 0), min(z + 1, depth)):
        for j in range(max(y - 1, 0), min(y + 1, height)):
            for i in range(max(x - 1, 0), min(x + 1, width)):
                if volume[k, j, i] == code:
                    return True
    return False


@compiled
def _reaches(
    volume: Bytes,
    surfaces: Bytes,
    bit: int,
    corner: tuple[int, int, int],
    code: int,
    offsets: npt.NDArray[np.int64],
) -> bool:
    """Returns whether a class's surface in a volume passes within reach of a corner."""
    depth, height, width = surfaces.shape
    z, y, x = corner
    for step in range(len(offsets)):
        k, j, i = z + offsets[step, 0], y + offsets[step, 1], x + offsets[step, 2]
        # A marked corner has neighbours that differ: not all of them are of the class.
        if (
            0 <= k < depth
            and 0 <= j < height
            and 0 <= i < width
            and surfaces[k, j, i] & bit
            and _touches(volume, k, j, i, code)
        ):
            return True
    return False


@compiled
def _near_corners(
    volume: Bytes,
    other: Bytes,
    surfaces: Bytes,
    surface_words: npt.NDArray[np.uint64],
    bit: int,
    is_class: npt.NDArray[np.bool_],
    offsets: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Counts the corners of a volume's surface, and those within reach of the other's.

    Args:
        volume: whose corners are counted.
        other: the other volume.
        surfaces: as `_surfaces` marks them.
        surface_words: the same as words.
        bit: what marks the volume's corners.
        is_class: (256,) which codes are classes.
        offsets: (n, 3) the steps within reach.

    Returns:
        (256, 256) all corners and the near ones, by the class's code and the corner's code: the
        sum of 128 >> n over the neighbours n, in C order, that are of the class.
    """
    total = np.zeros((256, 256), np.int64)
    near = np.zeros((256, 256), np.int64)
    depth, height, width = surfaces.shape
    marks = surfaces.reshape(-1)
    around = np.zeros(8, np.uint8)
    up, down, right = 0, 0, 0
    for offset in offsets:
        up, down, right = max(up, offset[0]), max(down, offset[1]), max(right, offset[2])
    # Unsigned, since of a signed index numba asks whether it counts from the end.
    jumps = ((offsets[:, 0] * height + offsets[:, 1]) * width + offsets[:, 2]).astype(np.uint64)
    bits = np.uint64(0x0101010101010101) * np.uint64(bit)
    for word in range(len(surface_words) + 1):
        begin, end = 8 * word, 8 * word + 8
        if word == len(surface_words):
            end = len(marks)
        elif surface_words[word] & bits == 0:
            continue
        for index in range(begin, end):
            if marks[index] & bit == 0:
                continue
            line = index // width
            z, y, x = line // height, line % height, index % width
            inner = (
                up <= z < depth - up and down <= y < height - down and right <= x < width - right
            )
            _neighbours(volume, z, y, x, around)
            seen = 0
            for first in range(8):
                code = around[first]
                # Each class once, at its first neighbour.
                if seen >> (7 - first) & 1 or not is_class[code]:
                    continue
                corner = 0
                for place in range(8):
                    corner |= (around[place] == code) << (7 - place)
                seen |= corner
                total[code, corner] += 1
                if not inner:
                    near[code, corner] += _reaches(
                        other, surfaces, 3 - bit, (z, y, x), code, offsets
                    )
                    continue
                # What `_reaches` does, without asking where the volume ends.
                for step in range(len(jumps)):
                    if marks[np.uint64(index) + jumps[step]] & (3 - bit) and _touches(
                        other,
                        z + offsets[step, 0],
                        y + offsets[step, 1],
                        x + offsets[step, 2],
                        code,
                    ):
                        near[code, corner] += 1
                        break
    return total, near

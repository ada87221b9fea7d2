"""The simulated user of the challenge (docs/challenge.md, 3): a click per class and interaction.

A click goes to the voxel deepest inside the largest connected error. Errors are handled as runs,
stretches of consecutive voxels along x, of which there are far fewer than voxels.

Why not cc3d and edt: they place the same clicks, but go through all voxels once a class, and take
more than 15 times as long and 9 times the memory (`python -m benchmarks.scoring`, column
"packages", on volumes of 128 x 256 x 256 with 1 to 20 classes; there, edt is as fast as scipy).
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from evaluation.compiled import compiled
from evaluation.labels import Bytes, Volume, as_words, coded

Click = tuple[int | float, Literal["fg", "bg"] | None, tuple[int, int, int] | None]
Runs = npt.NDArray[np.int32]

# Voxels of a padded box above which depths are taken from a grid of half the resolution.
LARGEST_BOX = 60_000_000

# No side of a volume is longer; the square is a distance that none has.
_LONGEST = 1 << 15
_FAR = _LONGEST**2


def simulate_clicks(gts: Volume, segs: Volume) -> list[Click]:
    """Places the next click of every class.

    Args:
        gts: (z, y, x) ground truth; its smallest value is the background.
        segs: prediction of the same shape, as uint8 in the official loop.

    Returns:
        One entry per class in ascending order of labels: the label; "fg" where the prediction
        misses the class, "bg" where it has it in excess, None if it is perfect; the voxel
        (z, y, x), or None. A class 0, which only exists beside negative labels, has no entry.

    Raises:
        ValueError: the shapes differ or are not 3-D.
    """
    # Equal sizes go to the component whose first voxel comes first in memory.
    fortran = all(one.flags.f_contiguous and not one.flags.c_contiguous for one in (gts, segs))
    clicks: list[Click] = []
    for pair in coded(gts, segs):
        runs, starts = _error_runs(
            as_words(pair.gts), as_words(pair.segs), pair.gts, pair.segs, pair.is_class
        )
        for code, label in pair.labels.items():
            if label == 0:
                continue
            errors = runs[starts[code] : starts[code + 1]]
            if len(errors) == 0:
                clicks.append((label, None, None))
                continue
            voxel = _deepest_voxel(_largest_component(errors, fortran))
            clicks.append((label, "fg" if pair.gts[voxel] == code else "bg", voxel))
    return clicks


def _deepest_voxel(component: Runs) -> tuple[int, int, int]:
    """Returns a voxel (z, y, x) of a component at the largest distance from its outside."""
    low = component[:, :3].min(axis=0).astype(np.int64)
    sides = component[:, [0, 1, 3]].max(axis=0) - low + 1
    padding = np.maximum(sides // 4, 1)
    padded = sides + 2 * padding
    step = 1
    if int(np.prod(padded)) > LARGEST_BOX:
        step = 2
    else:
        # Any padding is background, so one voxel of it gives the same depths.
        padding, padded = np.ones(3, np.int64), sides + 2
    origin = low - padding
    cells = _cells(component, origin, step, -(-padded // step))
    _mark_deepest(cells)
    count = _count_marked(component, origin, step, cells)
    # The organisers reseed numpy's legacy generator for each click.
    chosen = int(np.random.RandomState(42).choice(count))
    z, y, x = _marked_voxel(component, origin, step, cells, chosen)
    return z, y, x


@compiled
def _error_runs(
    gts_words: npt.NDArray[np.uint64],
    segs_words: npt.NDArray[np.uint64],
    gts: Bytes,
    segs: Bytes,
    is_class: npt.NDArray[np.bool_],
) -> tuple[Runs, npt.NDArray[np.int64]]:
    """Finds the stretches of voxels that only one volume gives to a class.

    Returns:
        runs: (n, 4) z, y, first x, last x; by code, then in C order.
        starts: (257,) the runs of a code are those from starts[code] to starts[code + 1].
    """
    height, width = gts.shape[1:]
    true, predicted = gts.reshape(-1), segs.reshape(-1)
    starts = np.zeros(257, np.int64)
    runs = np.zeros((0, 4), np.int32)
    # The first pass counts runs, the second writes them.
    for writing in range(2):
        last = np.full(256, -2, np.int64)
        counts = np.zeros(256, np.int64)
        for word in range(len(gts_words) + 1):
            begin, end = 8 * word, 8 * word + 8
            if word == len(gts_words):
                end = len(true)
            elif gts_words[word] == segs_words[word]:
                continue
            for voxel in range(begin, end):
                if true[voxel] == predicted[voxel]:
                    continue
                for code in (true[voxel], predicted[voxel]):
                    if not is_class[code]:
                        continue
                    line = voxel // width
                    x = voxel - line * width
                    if last[code] != voxel - 1 or x == 0:
                        if writing:
                            run = runs[starts[code] + counts[code]]
                            run[0], run[1] = line // height, line % height
                            run[2], run[3] = x, x
                        counts[code] += 1
                    elif writing:
                        runs[starts[code] + counts[code] - 1, 3] = x
                    last[code] = voxel
        if not writing:
            starts[1:] = np.cumsum(counts)
            runs = np.zeros((starts[256], 4), np.int32)
    return runs, starts


@compiled
def _root(parents: npt.NDArray[np.int64], run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@compiled
def _largest_component(runs: Runs, fortran: bool) -> Runs:
    """Returns the runs, in C order, of the largest 26-connected component.

    Args:
        runs: (n, 4) in C order.
        fortran: of components of equal size, take the one with the first voxel in Fortran order
            instead of C order.
    """
    n = len(runs)
    parents = np.arange(n)
    # Runs touch those of one row before and three rows of the slice before. As runs are sorted,
    # the first that can touch the next run is never before the first that can touch this one.
    firsts = np.zeros(4, np.int64)
    for run in range(n):
        z, y, begin, end = runs[run]
        for side in range(4):
            row_z, row_y = (z, y - 1) if side == 3 else (z - 1, y - 1 + side)
            other = firsts[side]
            while other < run and (
                runs[other, 0] < row_z
                or (
                    runs[other, 0] == row_z
                    and (
                        runs[other, 1] < row_y
                        or (runs[other, 1] == row_y and runs[other, 3] < begin - 1)
                    )
                )
            ):
                other += 1
            firsts[side] = other
            while (
                other < run
                and runs[other, 0] == row_z
                and runs[other, 1] == row_y
                and runs[other, 2] <= end + 1
            ):
                one, two = _root(parents, run), _root(parents, other)
                parents[max(one, two)] = min(one, two)
                other += 1
    sizes = np.zeros(n, np.int64)
    # First voxels in Fortran order, as x, y, z.
    corners = np.full((n, 3), 1 << 30, np.int64)
    for run in range(n):
        root = _root(parents, run)
        sizes[root] += runs[run, 3] - runs[run, 2] + 1
        if fortran:
            mine, best = (runs[run, 2], runs[run, 1], runs[run, 0]), corners[root]
            if mine < (best[0], best[1], best[2]):
                best[0], best[1], best[2] = mine
    largest = 0
    for root in range(1, n):
        one, two = corners[root], corners[largest]
        if sizes[root] > sizes[largest] or (
            fortran
            and sizes[root] == sizes[largest]
            and (one[0], one[1], one[2]) < (two[0], two[1], two[2])
        ):
            largest = root
    belongs = np.zeros(n, np.bool_)
    for run in range(n):
        belongs[run] = _root(parents, run) == largest
    return runs[belongs]


@compiled
def _cells(
    component: Runs, origin: npt.NDArray[np.int64], step: int, shape: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Puts a component on a grid of cells of step^3 voxels: 1 where a cell holds some of it.

    Returns:
        (z, x, y) int32: the axes that the transform walks along first come last.
    """
    cells = np.zeros((shape[0], shape[2], shape[1]), np.int32)
    for run in range(len(component)):
        z = (component[run, 0] - origin[0]) // step
        y = (component[run, 1] - origin[1]) // step
        for x in range(
            (component[run, 2] - origin[2]) // step, (component[run, 3] - origin[2]) // step + 1
        ):
            cells[z, x, y] = 1
    return cells


@compiled
def _along_x(cells: npt.NDArray[np.int32]) -> None:
    """Turns inner cells into squared distances to the outside along x, _FAR without one."""
    depth, width, height = cells.shape
    distances = np.zeros(height, np.int64)
    for z in range(depth):
        distances[:] = _LONGEST
        for x in range(width):
            for y in range(height):
                distances[y] = distances[y] + 1 if cells[z, x, y] else 0
                cells[z, x, y] = distances[y]
        distances[:] = _LONGEST
        for x in range(width - 1, -1, -1):
            for y in range(height):
                distances[y] = distances[y] + 1 if cells[z, x, y] else 0
                nearest = min(distances[y], np.int64(cells[z, x, y]))
                cells[z, x, y] = nearest * nearest if nearest < _LONGEST else _FAR


@compiled
def _along_y(cells: npt.NDArray[np.int32]) -> None:
    """Turns squared distances along x into those inside a slice: the lower envelope of parabolas.

    Meijster, Roerdink and Hesselink (2000), in integers, between outside cells only.
    """
    depth, width, height = cells.shape
    apexes = np.zeros(height, np.int64)
    begins = np.zeros(height, np.int64)
    heights = np.zeros(height, np.int64)
    for z in range(depth):
        for x in range(width):
            line = cells[z, x]
            y = 0
            while y < height:
                if line[y] == 0:
                    y += 1
                    continue
                low = max(y - 1, 0)
                while y < height and line[y] != 0:
                    y += 1
                high = min(y, height - 1)
                top = 0
                apexes[0], begins[0], heights[0] = low, low, line[low]
                for u in range(low + 1, high + 1):
                    value = np.int64(line[u])
                    while top >= 0:
                        apex, begin = apexes[top], begins[top]
                        if (begin - apex) ** 2 + heights[top] <= (begin - u) ** 2 + value:
                            break
                        top -= 1
                    if top < 0:
                        top = 0
                        apexes[0], begins[0], heights[0] = u, low, value
                        continue
                    apex = apexes[top]
                    begin = 1 + (u * u - apex * apex + value - heights[top]) // (2 * (u - apex))
                    if begin <= high:
                        top += 1
                        apexes[top], begins[top], heights[top] = u, begin, value
                for u in range(high, low - 1, -1):
                    line[u] = (u - apexes[top]) ** 2 + heights[top]
                    if u == begins[top] and top > 0:
                        top -= 1


@compiled
def _depth(cells: npt.NDArray[np.int32], z: int, x: int, y: int, enough: int) -> int:
    """Returns the squared distance of a cell to the outside, or anything below `enough`.

    The sign of cells is a mark, no part of their distance.
    """
    best = int(cells[z, x, y])
    step = 1
    while best >= enough and step * step < best and step < len(cells):
        if z >= step:
            best = min(best, step * step + abs(cells[z - step, x, y]))
        if z + step < len(cells):
            best = min(best, step * step + abs(cells[z + step, x, y]))
        step += 1
    return best


@compiled
def _mark_deepest(cells: npt.NDArray[np.int32]) -> None:
    """Negates the cells at the largest Euclidean distance from the outside.

    Args:
        cells: (z, x, y) 1 inside, 0 outside; what lies beyond the grid is not outside.
    """
    _along_x(cells)
    _along_y(cells)
    depth, width, height = cells.shape
    deepest = 1
    for z in range(depth):
        for x in range(width):
            for y in range(height):
                if cells[z, x, y] > deepest:
                    deepest = max(deepest, _depth(cells, z, x, y, deepest))
    for z in range(depth):
        for x in range(width):
            for y in range(height):
                if cells[z, x, y] >= deepest and _depth(cells, z, x, y, deepest) == deepest:
                    cells[z, x, y] = -cells[z, x, y]


@compiled
def _count_marked(
    component: Runs, origin: npt.NDArray[np.int64], step: int, cells: npt.NDArray[np.int32]
) -> int:
    """Counts the voxels of a component in marked cells."""
    count = 0
    for run in range(len(component)):
        z = (component[run, 0] - origin[0]) // step
        y = (component[run, 1] - origin[1]) // step
        for x in range(component[run, 2], component[run, 3] + 1):
            if cells[z, (x - origin[2]) // step, y] < 0:
                count += 1
    return count


@compiled
def _marked_voxel(
    component: Runs,
    origin: npt.NDArray[np.int64],
    step: int,
    cells: npt.NDArray[np.int32],
    chosen: int,
) -> tuple[int, int, int]:
    """Returns the voxel (z, y, x) in a marked cell that has `chosen` such voxels before it."""
    for run in range(len(component)):
        z = (component[run, 0] - origin[0]) // step
        y = (component[run, 1] - origin[1]) // step
        for x in range(component[run, 2], component[run, 3] + 1):
            if cells[z, (x - origin[2]) // step, y] < 0:
                if chosen == 0:
                    return component[run, 0], component[run, 1], x
                chosen -= 1
    raise IndexError("fewer marked voxels than counted")

"""Fusing the views of a class, and letting the classes compete (paper, 2.2; docs/design.md, 8)."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from gamt.axes import Plane, bounding_range, slice_view
from gamt.lifting.shape import prior_logits
from gamt.prompts import Box
from gamt.segmenters.base import SliceMask
from gamt.volume.geometry import Grid, Range

MOST_BLUR, BLUR_SHARE = 3.0, 1 / 24
"""Raw voxels over which votes are averaged, at most, where the grid is coarser than the scan; and
the most as a share of the box's side, as small targets would vanish (docs/constants.md)."""

TRUNCATE = 4.0
"""Standard deviations at which the average ends."""


class Votes:
    """The votes of all views of one class, added up as they come, on raw voxels."""

    BYTES_PER_VOXEL = 9

    def __init__(self, region: Range, grid: Grid) -> None:
        """Starts without votes; `region` lies inside the crop of `grid`, in raw voxels."""
        self._low, high = region
        self._to_grid = [
            grid.from_raw[axis][self._low[axis] - grid.low[axis] : high[axis] - grid.low[axis]]
            for axis in range(3)
        ]
        self._scale = grid.scale
        shape = tuple(len(indices) for indices in self._to_grid)
        self._inside = np.zeros(shape, np.float32)
        self._weight = np.zeros(shape, np.float32)
        self._looked = np.zeros(shape, np.uint8)

    def add(
        self, plane: Plane, index: int, window: tuple[int, int, int, int], mask: SliceMask
    ) -> None:
        """Casts a view's vote for one slice: its probability, weighted by its quality.

        Args:
            plane: of the slice.
            index: of the slice, on the grid.
            window: half-open grid pixels (x0, y0, x1, y1) that the view looked at.
            mask: the answer of the segmenter.
        """
        x0, y0, x1, y1 = window
        row_grid, column_grid = self._to_grid[plane.row_axis], self._to_grid[plane.column_axis]
        rows = slice(*np.searchsorted(row_grid, (y0, y1)))
        columns = slice(*np.searchsorted(column_grid, (x0, x1)))
        logits = mask.logits[np.ix_(row_grid[rows], column_grid[columns])]
        vote = expit(logits) * np.float32(mask.quality)
        for layer in np.flatnonzero(self._to_grid[plane.normal] == index).tolist():
            slice_view(self._inside, plane, layer)[rows, columns] += vote
            slice_view(self._weight, plane, layer)[rows, columns] += np.float32(mask.quality)
            slice_view(self._looked, plane, layer)[rows, columns] |= 1 << plane.value

    def looked(self, plane: Plane | None = None) -> npt.NDArray[np.bool_]:
        """Returns (z, y, x) bool over the region: what a plane's views, or any views, looked at."""
        return (self._looked if plane is None else self._looked & (1 << plane.value)) > 0

    def fuse(
        self,
        box: Box | None = None,
        shape_weight: float = 0.0,
        rivals: Sequence[Box] = (),
        exact_range: bool = True,
        blur: float = 0.0,
    ) -> npt.NDArray[np.float32]:
        """Averages, voxel by voxel, the votes of the views that looked there.

        Args:
            box: in raw voxels; with a weight, its ellipsoid is one more vote where a view looked,
                and the only one in slices that no axial view came to, so that a gap left by lost
                or unfinished walks is filled by the shape that the prompts draw.
            shape_weight: weight of that vote.
            rivals: boxes of smaller classes, in raw voxels, whose ellipsoids are left to them.
            exact_range: whether the box is a user's, whose range of slices is exact
                (docs/challenge.md, 2): nothing outside of it is inside the target.
            blur: the standard deviation, in grid voxels, over which the views' votes are averaged
                with those around them, in a box that is large enough for it; 0 for none.

        Returns:
            (z, y, x) float32 over the region: the probability of being inside, 0..1; 0 where
            nothing looked.
        """
        inside, weight = self._inside, self._weight
        if box is not None and blur > 0:
            inside, weight = self._smooth(box, blur)
        if box is not None and shape_weight > 0:
            missed = ~self.looked(Plane.AXIAL).any(axis=(1, 2), keepdims=True)
            asked = np.float32(shape_weight) * ((weight > 0) | missed)
            inside = inside + asked * expit(
                prior_logits(box, rivals, self._low, inside.shape, exact_range)
            )
            weight = weight + asked
        probability = np.divide(inside, weight, out=np.zeros_like(inside), where=weight > 0)
        if box is not None and exact_range:
            first, last = (max(0, z - self._low[0]) for z in (box.z_min, box.z_max))
            probability[:first] = probability[last:] = 0
        return probability

    def _smooth(
        self, box: Box, blur: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Averages the votes with those around them, where views looked; see `fuse`."""
        inside, weight = self._inside.copy(), self._weight.copy()
        bounds = bounding_range(weight > 0)
        if bounds is None:
            return inside, weight
        sides = np.subtract(box.high, box.low).tolist()
        sigma = [
            min(blur / step, MOST_BLUR, side * BLUR_SHARE) if step else 0.0
            for step, side in zip(self._scale, sides, strict=True)
        ]
        # Beyond the filter's reach the region, often most of it, is empty.
        rooms = [math.ceil(TRUNCATE * one) for one in sigma]
        near = tuple(
            slice(max(0, first - room), last + room)
            for first, last, room in zip(*bounds, rooms, strict=True)
        )
        seen = weight[near] > 0
        for votes in (inside, weight):
            smooth = gaussian_filter(votes[near], sigma, truncate=TRUNCATE)
            votes[near] = np.where(seen, smooth, 0)
        return inside, weight


SURE = 0.9
"""Claims above this probability are equally good, and the smaller target wins
(docs/constants.md)."""

SIZE_RANK = 0.01
"""What a target that is ten times smaller gains between two sure claims: just enough to decide."""


class Competition:
    """Decides voxel by voxel which class has the highest score, one class at a time.

    Where several classes are sure of a voxel, it goes to the smallest of them: a target inside
    another one is looked at as part of the outer one too, never the other way round. Of equals, the
    lowest label wins: the order in which the classes come has no influence.

    Attributes:
        labels: (z, y, x) uint8, the winners so far; 0 where no class claims the voxel.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Starts without claims on a raw volume of `shape`."""
        self.labels = np.zeros(shape, np.uint8)
        self._best = np.full(shape, -np.inf, np.float16)

    def enter(
        self,
        label: int,
        low: tuple[int, int, int],
        mask: npt.NDArray[np.bool_],
        score: npt.NDArray[np.float32],
    ) -> None:
        """Gives `label` the voxels of `mask` on which its score beats all others so far.

        Args:
            label: 1..255.
            low: first raw voxel (z, y, x) that `mask` and `score` cover.
            mask: (z, y, x) bool, what the class claims.
            score: (z, y, x), 0..1.
        """
        where = tuple(slice(a, a + n) for a, n in zip(low, mask.shape, strict=True))
        best, labels = self._best[where], self.labels[where]
        volume = max(1, int(mask.sum()))
        rank = (score.clip(0, SURE) - SIZE_RANK * np.log10(volume)).astype(np.float16)
        wins = mask & ((rank > best) | ((rank == best) & (label < labels)))
        best[wins] = rank[wins]
        labels[wins] = label

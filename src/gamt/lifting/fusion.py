"""Fusing the views of a class, and letting the classes compete (paper, 2.2; docs/design.md, 8)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from gamt.axes import Plane, bounding_range, slice_view
from gamt.lifting.rules import Opinion, Rule, mean
from gamt.lifting.shape import prior_logits
from gamt.prompts import Box, PixelBox
from gamt.segmenters.base import SliceMask
from gamt.volume.geometry import Grid, Range

MOST_BLUR, BLUR_SHARE = 3.0, 1 / 24
"""Raw voxels over which votes are averaged, at most, where the grid is coarser than the scan; and
the most as a share of the box's side, as small targets would vanish (docs/constants.md)."""

TRUNCATE = 4.0
"""Standard deviations at which the average ends (docs/constants.md)."""


@dataclass(slots=True, eq=False)
class PlaneVotes:
    """The votes of one plane's views, added up as they come.

    Attributes:
        opinion: of the views; its arrays grow with every vote.
        looked: (z, y, x) bool, where a view looked, also one that counts nothing.
        slices: grid indices of the slices that were voted on.
    """

    opinion: Opinion
    looked: npt.NDArray[np.bool_]
    slices: set[int]


class Votes:
    """The votes of all views of one class, by plane, on raw voxels.

    They are stored here; what they come to together, a fusion rule says.
    """

    BYTES_PER_VOXEL = 9
    """Of each plane that has voted: two float32 and a bool."""

    def __init__(self, region: Range, grid: Grid, rule: Rule) -> None:
        """Starts without votes.

        Args:
            region: raw bounds inside the crop of `grid`.
            grid: of the slices that are voted on.
            rule: fuses the planes' opinions, where several planes have voted.
        """
        self._low, high = region
        self._to_grid = [
            grid.from_raw[axis][self._low[axis] - grid.low[axis] : high[axis] - grid.low[axis]]
            for axis in range(3)
        ]
        self._scale = grid.scale
        self._shape = tuple(len(indices) for indices in self._to_grid)
        self._rule = rule
        self._planes: dict[Plane, PlaneVotes] = {}

    def add(self, plane: Plane, index: int, window: PixelBox, mask: SliceMask) -> None:
        """Casts a view's vote for one slice: its probability, weighted by its quality.

        Args:
            plane: of the slice.
            index: of the slice, on the grid.
            window: half-open grid pixels (x0, y0, x1, y1) that the view looked at.
            mask: the answer of the segmenter.
        """
        votes = self._planes.get(plane)
        if votes is None:
            votes = self._planes[plane] = PlaneVotes(
                Opinion(np.zeros(self._shape, np.float32), np.zeros(self._shape, np.float32)),
                np.zeros(self._shape, np.bool_),
                set(),
            )
        x0, y0, x1, y1 = window
        row_grid, column_grid = self._to_grid[plane.row_axis], self._to_grid[plane.column_axis]
        rows = slice(*np.searchsorted(row_grid, (y0, y1)))
        columns = slice(*np.searchsorted(column_grid, (x0, x1)))
        logits = mask.logits[np.ix_(row_grid[rows], column_grid[columns])]
        vote = expit(logits) * np.float32(mask.quality)
        for layer in np.flatnonzero(self._to_grid[plane.normal] == index).tolist():
            slice_view(votes.opinion.inside, plane, layer)[rows, columns] += vote
            slice_view(votes.opinion.weight, plane, layer)[rows, columns] += np.float32(
                mask.quality
            )
            slice_view(votes.looked, plane, layer)[rows, columns] = True
        votes.slices.add(index)

    def looked(self, plane: Plane | None = None) -> npt.NDArray[np.bool_]:
        """Returns (z, y, x) bool over the region: what a plane's views, or any views, looked at."""
        looked = np.zeros(self._shape, np.bool_)
        for one, votes in self._planes.items():
            if plane in (None, one):
                looked |= votes.looked
        return looked

    def of_plane(self, plane: Plane) -> tuple[int, npt.NDArray[np.float32]]:
        """Returns what one plane says.

        Returns:
            How many slices were voted on, and (z, y, x) float32 over the region, the probability
            of being inside, 0..1, NaN where no view of the plane looked.
        """
        if plane not in self._planes:
            return 0, np.full(self._shape, np.nan, np.float32)
        votes = self._planes[plane]
        return len(votes.slices), np.where(votes.looked, votes.opinion.probability, np.nan)

    def fuse(
        self,
        box: Box | None = None,
        shape_weight: float = 0.0,
        rivals: Sequence[Box] = (),
        exact_range: bool = True,
        blur: float = 0.0,
    ) -> npt.NDArray[np.float32]:
        """Fuses, voxel by voxel, the votes of the views that looked there.

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
        views = self._fuse_planes()
        if box is not None and blur > 0:
            views = self._smooth(views, box, blur)
        if box is not None and shape_weight > 0:
            missed = ~self.looked(Plane.AXIAL).any(axis=(1, 2), keepdims=True)
            asked = np.float32(shape_weight) * ((views.weight > 0) | missed)
            drawn = expit(prior_logits(box, rivals, self._low, self._shape, exact_range))
            views = mean([views, Opinion(asked * drawn, asked)])
        probability = views.probability
        if box is not None and exact_range:
            first, last = (max(0, z - self._low[0]) for z in (box.z_min, box.z_max))
            probability[:first] = probability[last:] = 0
        return probability

    def _fuse_planes(self) -> Opinion:
        """Returns what the planes say together; their own arrays where only one has voted."""
        opinions = [self._planes[one].opinion for one in Plane if one in self._planes]
        if not opinions:
            return Opinion(np.zeros(self._shape, np.float32), np.zeros(self._shape, np.float32))
        return opinions[0] if len(opinions) == 1 else self._rule(opinions)

    def _smooth(self, views: Opinion, box: Box, blur: float) -> Opinion:
        """Averages the votes with those around them, where views looked; see `fuse`."""
        inside, weight = views.inside.copy(), views.weight.copy()
        bounds = bounding_range(weight > 0)
        if bounds is None:
            return views
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
        return Opinion(inside, weight)


SURE = 0.9
"""Claims above this probability are equally good, and the smaller target wins
(docs/constants.md)."""

SIZE_RANK = 0.01
"""What a target that is ten times smaller gains between two sure claims: just enough to decide
(docs/constants.md)."""


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

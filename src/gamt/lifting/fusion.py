"""Fusing the views of a class, and letting the classes compete (paper, 2.2; docs/design.md, 8)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from gamt.axes import Plane, bounding_range
from gamt.lifting.rules import Opinion, Rule, mean
from gamt.lifting.shape import MIN_LOG_ODDS, prior_logits, reach
from gamt.prompts import Box, PixelBox
from gamt.segmenters.base import SliceMask
from gamt.volume.geometry import Grid, Range

MOST_BLUR, BLUR_SHARE = 3.0, 1 / 24
"""Raw voxels over which votes are averaged, at most, where the grid is coarser than the scan; and
the most as a share of the box's side, as small targets would vanish (docs/constants.md)."""

TRUNCATE = 4.0
"""Standard deviations at which the average ends (docs/constants.md)."""

GROWTH = 0.5
"""Where votes leave the window that is kept for them, it grows by this share more than they need:
time against memory (docs/constants.md)."""

SLAB_VOXELS = 1 << 18
"""Voxels of several slices that are fused at once: calls against memory (docs/constants.md)."""

Voxel = tuple[int, int, int]

Bounds = tuple[Voxel, Voxel]
"""Half-open (low, high), each (z, y, x), counted from the first voxel of a region."""


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

    They are stored here; what they come to together, a fusion rule says. The arrays cover a window
    of the region, which grows with the votes: most of a region is never looked at.
    """

    BYTES_PER_VOXEL = 9
    """Of each plane that has voted: two float32 and a bool."""

    def __init__(self, region: Range, grid: Grid, rule: Rule, box: Box | None = None) -> None:
        """Starts without votes.

        Args:
            region: raw bounds inside the crop of `grid`.
            grid: of the slices that are voted on.
            rule: fuses the planes' opinions, where several planes have voted.
            box: around what the votes are about, in raw voxels, where it is known: the window need
                not grow there.
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
        # Bounds of the arrays, and of the votes in them, counted from the region's first voxel.
        self._window: Bounds = ((0, 0, 0), (0, 0, 0))
        self._voted: Bounds = self._window
        if box is not None:
            first, past = reach(box)
            self._window = self._inside(first), self._inside(past)
        self._fused: tuple[object, Bounds, npt.NDArray[np.float32]] | None = None

    def add(self, plane: Plane, index: int, window: PixelBox, mask: SliceMask) -> None:
        """Casts a view's vote for one slice: its probability, weighted by its quality.

        Args:
            plane: of the slice.
            index: of the slice, on the grid.
            window: half-open grid pixels (x0, y0, x1, y1) that the view looked at.
            mask: the answer of the segmenter.
        """
        x0, y0, x1, y1 = window
        low, high = [0, 0, 0], [0, 0, 0]
        for axis, first, last in (
            (plane.normal, index, index + 1),
            (plane.row_axis, y0, y1),
            (plane.column_axis, x0, x1),
        ):
            low[axis], high[axis] = np.searchsorted(self._to_grid[axis], (first, last)).tolist()
        bounds = (low[0], low[1], low[2]), (high[0], high[1], high[2])
        self._cover(bounds)
        self._voted = _union(self._voted, bounds)
        self._fused = None
        votes = self._planes.get(plane)
        if votes is None:
            shape = _shape(self._window)
            votes = self._planes[plane] = PlaneVotes(
                Opinion(np.zeros(shape, np.float32), np.zeros(shape, np.float32)),
                np.zeros(shape, np.bool_),
                set(),
            )
        votes.slices.add(index)
        if np.prod(_shape(bounds)) == 0:
            return
        part = _slices(bounds, self._window[0])
        rows, columns = (
            self._to_grid[axis][low[axis] : high[axis]]
            for axis in (plane.row_axis, plane.column_axis)
        )
        quality = np.float32(mask.quality)
        vote = np.expand_dims(expit(mask.logits[np.ix_(rows, columns)]) * quality, plane.normal)
        votes.opinion.inside[part] += vote
        votes.opinion.weight[part] += quality
        votes.looked[part] = True

    @property
    def any(self) -> bool:
        """Whether a view looked anywhere."""
        return any(votes.looked.any() for votes in self._planes.values())

    def looked(self, plane: Plane | None = None) -> npt.NDArray[np.bool_]:
        """Returns (z, y, x) bool over the region: what a plane's views, or any views, looked at."""
        looked = np.zeros(self._shape, np.bool_)
        for one, votes in self._planes.items():
            if plane in (None, one):
                looked[_slices(self._window)] |= votes.looked
        return looked

    def of_plane(self, plane: Plane) -> tuple[int, npt.NDArray[np.float32]]:
        """Returns what one plane says.

        Returns:
            How many slices were voted on, and (z, y, x) float32 over the region, the probability
            of being inside, 0..1, NaN where no view of the plane looked.
        """
        probability = np.full(self._shape, np.nan, np.float32)
        if plane not in self._planes:
            return 0, probability
        votes = self._planes[plane]
        np.copyto(probability[_slices(self._window)], votes.opinion.probability, where=votes.looked)
        return len(votes.slices), probability

    def disagreement(self) -> tuple[Voxel, npt.NDArray[np.float32]] | None:
        """Returns how far apart the planes' opinions are.

        Returns:
            The raw voxel (z, y, x) that is the array's first; and (z, y, x) float32, 0..1, the
            highest of the planes' probabilities less the lowest, 0 where less than two planes say
            something. None where less than two planes have voted.
        """
        if len(self._planes) < 2:
            return None
        shape = _shape(self._window)
        least, most = np.ones(shape, np.float32), np.zeros(shape, np.float32)
        for votes in self._planes.values():
            probability, said = votes.opinion.probability, votes.opinion.weight > 0
            np.minimum(least, probability, out=least, where=said)
            np.maximum(most, probability, out=most, where=said)
        z, y, x = np.add(self._low, self._window[0]).tolist()
        return (z, y, x), (most - least).clip(min=0)

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
        probability = np.zeros(self._shape, np.float32)
        drawn = box is not None and shape_weight > 0
        missed = ~self._slices_looked_at()
        bounds = self._voted
        if box is not None and drawn:
            alone = missed[slice(*self._layers(box))] if exact_range else missed
            if alone.any():
                # Beyond these bounds, the ellipsoid's vote is the same everywhere.
                low, high = reach(box)
                bounds = _union(bounds, (self._inside(low), self._inside(high)))
            probability[missed] = expit(np.float32(MIN_LOG_ODDS))
        question = (box, shape_weight, tuple(rivals), exact_range, blur)
        if self._fused is None or self._fused[0] != question:
            sigma = self._deviations(box, blur) if box is not None and blur > 0 else None
            if sigma is not None:
                bounds = _union(bounds, self._around_votes(sigma))
            self._cover(bounds)
            views = self._fuse_planes(bounds)
            if sigma is not None:
                views = _smooth(views, sigma)
            inside = np.empty(_shape(bounds), np.float32)
            low = np.add(self._low, bounds[0]).tolist()
            step = max(1, SLAB_VOXELS // max(1, inside[:1].size))
            for z in range(0, len(inside), step):  # so that what is in between stays small
                slab = slice(z, z + step)
                view = Opinion(views.inside[slab], views.weight[slab])
                if box is not None and drawn:
                    place = low[0] + z, low[1], low[2]
                    prior = prior_logits(box, rivals, place, view.inside.shape, exact_range)
                    gaps = missed[bounds[0][0] : bounds[1][0]][slab, np.newaxis, np.newaxis]
                    asked = np.float32(shape_weight) * ((view.weight > 0) | gaps)
                    view = mean([view, Opinion(asked * expit(prior), asked)])
                inside[slab] = view.probability
            self._fused = question, bounds, inside
        _, bounds, inside = self._fused
        probability[_slices(bounds)] = inside
        if box is not None and exact_range:
            first, last = self._layers(box)
            probability[:first] = probability[last:] = 0
        return probability

    def _layers(self, box: Box) -> tuple[int, int]:
        """Returns the half-open range of a raw box's slices, counted from the region's first."""
        return max(0, box.z_min - self._low[0]), max(0, box.z_max - self._low[0])

    def _inside(self, voxel: Sequence[int]) -> Voxel:
        """Returns a raw voxel, counted from the region's first, or the nearest in the region."""
        z, y, x = np.clip(np.subtract(voxel, self._low), 0, self._shape).tolist()
        return z, y, x

    def _cover(self, bounds: Bounds) -> None:
        """Makes the arrays cover bounds of the region; they grow by more than is asked for."""
        if np.prod(_shape(bounds)) == 0:
            return
        (low, high), (old_low, old_high) = _union(self._window, bounds), self._window
        if (low, high) == self._window:
            return
        room = [int(GROWTH * (b - a)) for a, b in zip(old_low, old_high, strict=True)]
        z0, y0, x0 = (
            max(0, a - r * (a < old)) for a, r, old in zip(low, room, old_low, strict=True)
        )
        z1, y1, x1 = (
            min(n, b + r * (b > old))
            for b, r, old, n in zip(high, room, old_high, self._shape, strict=True)
        )
        old_window, self._window = self._window, ((z0, y0, x0), (z1, y1, x1))
        shape, place = _shape(self._window), _slices(old_window, (z0, y0, x0))
        for votes in self._planes.values():
            inside, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            looked = np.zeros(shape, np.bool_)
            inside[place], weight[place] = votes.opinion.inside, votes.opinion.weight
            looked[place] = votes.looked
            votes.opinion, votes.looked = Opinion(inside, weight), looked

    def _slices_looked_at(self) -> npt.NDArray[np.bool_]:
        """Returns bool along z over the region: the slices that an axial view looked at."""
        looked = np.zeros(self._shape[0], np.bool_)
        if Plane.AXIAL in self._planes:
            axial = self._planes[Plane.AXIAL].looked
            looked[self._window[0][0] : self._window[1][0]] = axial.any(axis=(1, 2))
        return looked

    def _fuse_planes(self, bounds: Bounds) -> Opinion:
        """Returns what the planes say together; their own arrays where only one has voted."""
        part = _slices(bounds, self._window[0])
        opinions = [
            Opinion(votes.opinion.inside[part], votes.opinion.weight[part])
            for votes in (self._planes[one] for one in Plane if one in self._planes)
        ]
        if not opinions:
            shape = _shape(bounds)
            return Opinion(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        return opinions[0] if len(opinions) == 1 else self._rule(opinions)

    def _deviations(self, box: Box, blur: float) -> list[float]:
        """Returns the standard deviation, in raw voxels, of the average on each axis."""
        sides = np.subtract(box.high, box.low).tolist()
        return [
            min(blur / step, MOST_BLUR, side * BLUR_SHARE) if step else 0.0
            for step, side in zip(self._scale, sides, strict=True)
        ]

    def _around_votes(self, sigma: Sequence[float]) -> Bounds:
        """Returns the votes' bounds with the average's reach around them, inside the region."""
        rooms = [math.ceil(TRUNCATE * one) for one in sigma]
        low, high = self._voted
        z0, y0, x0 = (max(0, a - room) for a, room in zip(low, rooms, strict=True))
        z1, y1, x1 = (min(n, b + room) for b, room, n in zip(high, rooms, self._shape, strict=True))
        return (z0, y0, x0), (z1, y1, x1)


def _smooth(views: Opinion, sigma: Sequence[float]) -> Opinion:
    """Averages votes with those around them, where views looked; see `Votes.fuse`.

    Beyond them, the arrays reach as far as the average, or to the region's border.
    """
    inside, weight = views.inside.copy(), views.weight.copy()
    bounds = bounding_range(weight > 0)
    if bounds is None:
        return views
    # Beyond the filter's reach the arrays may be empty.
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


def _shape(bounds: Bounds) -> Voxel:
    """Returns the number of voxels (z, y, x) in bounds."""
    z, y, x = (max(0, b - a) for a, b in zip(*bounds, strict=True))
    return z, y, x


def _slices(bounds: Bounds, origin: Voxel = (0, 0, 0)) -> tuple[slice, ...]:
    """Returns the part of an array that bounds cover, where its first voxel is `origin`."""
    return tuple(slice(a - o, b - o) for a, b, o in zip(*bounds, origin, strict=True))


def _union(one: Bounds, other: Bounds) -> Bounds:
    """Returns the bounds around two others, of which empty ones count as nothing."""
    held = [bounds for bounds in (one, other) if np.prod(_shape(bounds)) > 0]
    if len(held) < 2:
        return held[0] if held else one
    z0, y0, x0 = (min(a, b) for a, b in zip(one[0], other[0], strict=True))
    z1, y1, x1 = (max(a, b) for a, b in zip(one[1], other[1], strict=True))
    return (z0, y0, x0), (z1, y1, x1)


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

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        """Starts without claims.

        Args:
            shape: of the raw volume (z, y, x).
            classes: how many will enter; one alone gets all that it claims.
        """
        self.labels = np.zeros(shape, np.uint8)
        self._alone = classes == 1
        self._best = np.zeros(shape, np.float16)

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
        if self._alone:
            labels[mask] = label
            return
        claims = score[mask]
        volume = max(1, len(claims))
        rank = (claims.clip(0, SURE) - SIZE_RANK * np.log10(volume)).astype(np.float16)
        rival, rank_of_rival = labels[mask], best[mask]
        wins = (rival == 0) | (rank > rank_of_rival) | ((rank == rank_of_rival) & (label < rival))
        won = mask.copy()
        won[mask] = wins
        best[won] = rank[wins]
        labels[won] = label

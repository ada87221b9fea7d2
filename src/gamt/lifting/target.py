"""One class on its way through the method: its prompts, scan and votes, and who watches it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from gamt.axes import Plane, slice_shape, slice_view, to_slice
from gamt.io.case import Case
from gamt.lifting.bodies import Found
from gamt.lifting.fusion import Votes
from gamt.lifting.points import spread_out
from gamt.lifting.postprocess import drop_pieces, smooth
from gamt.lifting.progress import Progress
from gamt.lifting.propagation import End, tight_box
from gamt.lifting.sections import hold
from gamt.lifting.shape import prior_logits
from gamt.lifting.shortfall import Shortfall
from gamt.lifting.views import widen
from gamt.prompts import Box, ClassPrompts, Click, Lasso, PixelBox, Scribble, SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.settings import Settings
from gamt.volume.geometry import Range, box_on_grid
from gamt.volume.preparation import PreparedVolume
from gamt.volume.scan import Scan

LEAST_PROBABILITY = np.float32(0.01)
"""Probabilities that views hand on are clipped to [this, 1 - this] (docs/constants.md)."""

FLAT_AXIS_SCALE = 1e-3
"""Taken for the scale of an axis on which the grid has one slice for several raw ones
(docs/constants.md)."""

POINTS_ON_SLICE = 5
"""Points that a segmenter gets of a scribble on one slice, at most (docs/constants.md)."""

CLICKS_ON_SLICE = 50
"""Clicks of one kind that a segmenter gets on one slice, at most (docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What the views of a class have found so far.

    Attributes:
        votes: of the views, added up as they come.
        box: in raw voxels; the user's, or the one that a seed draws around itself, or None.
        body: (z, y, x) 0..1 over the region, the body that a click stands in, where the views have
            nothing to add to it or contradict it; None where they count.
    """

    votes: Votes
    box: Box | None
    body: npt.NDArray[np.float32] | None = None


Way = Literal["prompts", "memory"]
"""What a walk goes on by from slice to slice."""

Visited = Callable[[int, SliceMask | None, End | None], None]
"""(slice, the segmenter's answer or None where it failed, why the walk goes no further or None), on
the grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What came of a click that a mask contradicted.

    Attributes:
        click: in raw voxels.
        ball: the raw box around the ball that the click draws: the size of the error.
        votes: of the views, on what is wrong; over the target's region.
        near: the part of the region that was looked at in 3-D.
        odds: (z, y, x) over `near`, log-odds of being wrong, by votes and all other evidence.
        changed: (z, y, x) bool over `near`, what has changed to the click's side.
    """

    click: Click
    ball: Box
    votes: Votes
    near: tuple[slice, ...]
    odds: npt.NDArray[np.float32]
    changed: npt.NDArray[np.bool_]


class Observer:
    """Is told what the lifting does, as it does it.

    Subclasses override the methods that they have a use for; here, all of them do nothing. They are
    called in the thread of the prediction, which waits for them. What they are given is the
    lifting's own, not a copy, and goes on changing: read it, and leave it as it is.

    For every case: `begin_case`, then for each class `begin_walk` and what it returns, and
    `end_correction` for each click that is obeyed, and last `end_target`. Classes that share a crop
    take turns, slice by slice.
    """

    def begin_case(self, case: Case, volume: PreparedVolume) -> None:
        """All targets of a case are about to be found.

        Args:
            case: the scan and its prompts, in raw voxels.
            volume: the scan, ready for the segmenter.
        """

    def begin_walk(
        self,
        target: "Target",
        plane: Plane,
        anchor: int,
        planned: Sequence[int],
        click: Click | None = None,
        by_memory: bool = False,
    ) -> Visited:
        """A walk is about to begin; it may still run out of time before its first slice.

        Args:
            target: the class.
            plane: of the slices.
            anchor: where it begins, a grid index.
            planned: the slices that it may visit, ascending grid indices.
            click: the one that it corrects; None where it looks for the target.
            by_memory: whether a tracker follows the target, rather than prompts.

        Returns:
            What is to be told of every slice that the walk comes to.
        """
        return lambda index, answer, end: None

    def end_correction(
        self, target: "Target", correction: Correction, mask: npt.NDArray[np.bool_]
    ) -> None:
        """A click that the target's mask contradicted has been obeyed.

        Args:
            target: the class; its own `mask` is not there yet.
            correction: the click, and what was weighed.
            mask: (z, y, x) bool over the target's region, the mask after the correction.
        """

    def end_target(self, target: "Target") -> None:
        """A target has all of its votes and corrections, and competes with the others for voxels.

        Args:
            target: the class, with its votes and its mask.
        """


@dataclass(eq=False)
class Target:
    """One class of a case.

    Attributes:
        prompts: in raw voxels.
        others: positive clicks of the other classes: places that can't belong to this one.
        other_scribbles: positive scribbles of the other classes.
        rivals: boxes of smaller classes that overlap this one's.
        previous: (z, y, x) bool over the region, the class in the previous prediction; None
            without a previous prediction of this class.
        taken: (z, y, x) bool over the region, what the previous prediction gives to other classes;
            None without a previous prediction.
        image: (z, y, x), the whole scan's intensities as they are.
        spacing_mm: of its voxels (z, y, x).
        scan: the crop that the class lies in.
        region: the raw bounds that votes are kept for.
        slice_shape: of the whole scan's raw axial slices (rows, columns).
        settings: the method's numbers, for this class as for all others.
        finding: of its views; replaced by what a seed finds.
        observer: is told how it goes.
        progress: counts the slices that its walks visit.
        shortfall: what it had to do without so far.
        found: what its first click stands in; None for a class that begins with something else.
        misled: the ways in which the segmenter missed the target's box, so that no walk goes on in
            them.
        mask: (z, y, x) bool over the region, what the class claims once clicks have corrected it;
            not there before.
    """

    prompts: ClassPrompts
    others: tuple[Click, ...]
    other_scribbles: tuple[Scribble, ...]
    rivals: tuple[Box, ...]
    previous: npt.NDArray[np.bool_] | None
    taken: npt.NDArray[np.bool_] | None
    image: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    scan: Scan
    region: Range
    slice_shape: tuple[int, int]
    settings: Settings
    finding: Finding
    observer: Observer
    progress: Progress
    shortfall: Shortfall
    found: Found | None = None
    misled: set[Way] = field(default_factory=set)
    mask: npt.NDArray[np.bool_] = field(init=False)

    @property
    def scale(self) -> tuple[float, float, float]:
        """Grid voxels per raw voxel (z, y, x) of its scan, none of them zero."""
        z, y, x = (step or FLAT_AXIS_SCALE for step in self.scan.grid.scale)
        return z, y, x

    def fuse(self) -> npt.NDArray[np.float32]:
        """Returns the views' and the box's opinion, (z, y, x) over the region, 0..1.

        A body takes their place.
        """
        if self.finding.body is not None:
            return self.finding.body
        weight, blur = self.settings.shape_weight_and_blur(
            self.scan.segmenter.traits.intensities_alone
        )
        votes, box = self.finding.votes, self.finding.box
        if not votes.any:  # the shape that the prompts draw is the last resort
            weight = 1.0
        if self.prompts.box is None:  # what no box fits may be as thin as a vessel
            blur = 0.0
        return votes.fuse(box, weight, self.rivals, self.prompts.box is not None, blur)

    def find_mask(self) -> npt.NDArray[np.bool_]:
        """Returns what the class claims before clicks correct it, (z, y, x) bool over the region.

        It is the previous prediction where there is one, else the fused views, cleaned (paper,
        2.3), and held to a lasso on its slice.
        """
        if self.previous is not None:
            return self.previous
        mask = self.fuse() > 0.5
        mask = drop_pieces(mask, self.region[0], self.prompts, self.settings)
        mask = smooth(mask, self.settings.smoothing)
        drawn = self.prompts.slice_box
        return hold(mask, self.region[0], drawn) if isinstance(drawn, Lasso) else mask

    def to_grid(self, axis: int) -> npt.NDArray[np.intp]:
        """Returns the nearest grid index of every raw index of the region on `axis`."""
        grid = self.scan.grid
        first, last = (bound[axis] - grid.low[axis] for bound in self.region)
        return grid.from_raw[axis][first:last]

    def window(self, prompt: SlicePrompt, mask: SliceMask) -> PixelBox:
        """Returns what counts as looked at: box and mask, with a margin; half-open grid pixels."""
        boxes = [box for box in (prompt.box, tight_box(mask.mask)) if box is not None]
        if not boxes:
            return 0, 0, 0, 0
        x0, y0 = np.min(boxes, axis=0)[:2]
        x1, y1 = np.max(boxes, axis=0)[2:]
        return widen((x0, y0, x1, y1), self.settings.box_margin, mask.logits.shape)

    @cached_property
    def clicks(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """The raw voxels, (N, 3), of all clicks that count, and which of them are inside, (N,).

        The class's own come first, in the order of time; those of others are outside.
        """
        marks = [*self.prompts.clicks, *self.others]
        inside = [one.positive for one in self.prompts.clicks] + [False] * len(self.others)
        voxels = np.array([one.voxel for one in marks], np.intp).reshape(-1, 3)
        return voxels, np.array(inside, np.bool_)

    @cached_property
    def _clicks_on_grid(self) -> npt.NDArray[np.intp]:
        return self.scan.grid.voxels_to_grid(self.clicks[0])

    def add_clicks(self, plane: Plane, index: int, prompt: SlicePrompt) -> SlicePrompt:
        """Adds to a slice's prompt the clicks that lie on the slice, and points on scribbles.

        A scribble gets a few points, far from each other, on each slice that it crosses; so do
        clicks where there are more of them than a segmenter can use.
        """
        points, labels = [], []
        on_slice = self._clicks_on_grid[:, plane.normal] == index
        clicked, inside = self._clicks_on_grid[on_slice], self.clicks[1][on_slice]
        for kind in (True, False):
            places = clicked[inside == kind]
            if len(places) > CLICKS_ON_SLICE:
                chosen = spread_out(np.unique(places, axis=0), (1, 1, 1), CLICKS_ON_SLICE)
                clicked = np.concatenate([clicked[inside != kind], chosen])
                inside = np.repeat([not kind, kind], [len(clicked) - len(chosen), len(chosen)])
        for voxel, label in zip(clicked.tolist(), inside.tolist(), strict=True):
            points.append(to_slice(plane, voxel))
            labels.append(int(label))
        lines = [(one, int(one.positive)) for one in self.prompts.scribbles]
        for scribble, label in lines + [(one, 0) for one in self.other_scribbles]:
            voxels = self.scan.grid.voxels_to_grid(scribble.voxels)
            here = np.unique(voxels[voxels[:, plane.normal] == index], axis=0)
            if len(here):
                chosen = spread_out(here, (1, 1, 1), POINTS_ON_SLICE).tolist()
                points += [to_slice(plane, voxel) for voxel in chosen]
                labels += [label] * len(chosen)
        if not points:
            return prompt
        return replace(
            prompt,
            points=np.concatenate([prompt.points, np.array(points, float)]),
            labels=np.concatenate([prompt.labels, np.array(labels)]),
        )

    def is_marked(self, plane: Plane, index: int) -> bool:
        """Says whether some of the class's own clicks or scribbles lie on a slice."""
        return index in self._marked[plane.normal]

    @cached_property
    def _marked(self) -> Sequence[frozenset[int]]:
        """The slices with own clicks and scribbles, grid indices along each axis (z, y, x)."""
        scribbles = [one.voxels for one in self.prompts.scribbles]
        voxels = np.concatenate([self.clicks[0][: len(self.prompts.clicks)], *scribbles])
        places = self.scan.grid.voxels_to_grid(voxels)
        return [frozenset(along.tolist()) for along in places.T]

    def opposite_clicks(self, positive: bool) -> npt.NDArray[np.intp]:
        """Returns the raw voxels, (N, 3), of clicks that a correction of a kind must not reach.

        These are the class's own clicks of the other kind and, for a positive correction, the
        positive ones of other classes.
        """
        voxels, inside = self.clicks
        opposite: npt.NDArray[np.intp] = voxels[inside != positive]
        return opposite

    def opposite_scribbles(self, positive: bool) -> list[Scribble]:
        """Returns the scribbles that a correction of a kind must not reach; see the above."""
        mine = [one for one in self.prompts.scribbles if one.positive != positive]
        return mine + list(self.other_scribbles) if positive else mine

    def add_prior(
        self, plane: Plane, index: int, prompt: SlicePrompt, box: Box | None
    ) -> SlicePrompt:
        """Adds a raw box's ellipsoid to what a slice's prompt says of the slice before.

        Only segmenters that declare it are guided so. A prompt that says nothing of another slice,
        such as the user's own box, stays as it is.
        """
        weight = self.settings.guide_weight
        if box is None or weight == 0 or not self.scan.segmenter.traits.guided:
            return prompt
        if prompt.mask is None and prompt.state is None:
            return prompt
        exact = self.prompts.box is not None
        prior = weight * self.prior_slice(box, self.rivals, plane, index, exact)
        return replace(prompt, mask=prior if prompt.mask is None else prompt.mask + prior)

    def prior_slice(
        self, box: Box, rivals: Sequence[Box], plane: Plane, index: int, exact_range: bool
    ) -> npt.NDArray[np.float32]:
        """Returns `prior_logits` of raw boxes on grid slice `index` of a plane."""
        grid = self.scan.grid
        low, shape = [0, 0, 0], list(grid.shape)
        low[plane.normal], shape[plane.normal] = index, 1
        others = [box_on_grid(rival, grid) for rival in rivals]
        logits = prior_logits(box_on_grid(box, grid), others, low, shape, exact_range)
        return logits.reshape(slice_shape(grid.shape, plane))

    def cross_section(
        self, probability: npt.NDArray[np.float32], plane: Plane, index: int
    ) -> SliceMask:
        """Returns a slice through a raw volume of the region, in the form of a segmenter's answer.

        Args:
            probability: (z, y, x) over the region, 0..1.
            plane: of the slice.
            index: of the slice, counted in raw voxels from the region's first.
        """
        raw = slice_view(probability, plane, index)
        grid = self.scan.grid
        places = []
        for axis in (plane.row_axis, plane.column_axis):
            position = grid.to_raw[axis] - (self.region[0][axis] - grid.low[axis])
            inside = (position >= 0) & (position < self.region[1][axis] - self.region[0][axis])
            places.append((np.flatnonzero(inside), position[inside]))
        (rows, from_rows), (columns, from_columns) = places
        seen = np.zeros(slice_shape(grid.shape, plane), np.float32)
        seen[np.ix_(rows, columns)] = raw[np.ix_(from_rows, from_columns)]
        if (raw > 0.5).any() and not (seen > 0.5).any():  # a coarse grid steps over what is thin
            pixels = np.ix_(self.to_grid(plane.row_axis), self.to_grid(plane.column_axis))
            np.maximum.at(seen, pixels, raw)
        logits = logit(seen.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
        return SliceMask(logits, quality=1.0)

    def inside_region(self, voxel: Sequence[int]) -> tuple[int, int, int]:
        """Returns a raw voxel (z, y, x), counted from the region's first."""
        z, y, x = (int(v) - low for v, low in zip(voxel, self.region[0], strict=True))
        return z, y, x

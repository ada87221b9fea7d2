"""One class on its way through the method: its prompts, its scan, its votes."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from gamt.axes import Plane, slice_shape, slice_view, to_slice
from gamt.lifting.budget import Pace
from gamt.lifting.fusion import Votes
from gamt.lifting.observer import Observer
from gamt.lifting.postprocess import largest_component, smooth
from gamt.lifting.propagation import End, Look, Walk, lost, next_prompt, tight_box, walk
from gamt.lifting.shape import prior_logits
from gamt.lifting.views import widen
from gamt.prompts import Box, ClassPrompts, Click, SlicePrompt
from gamt.segmenters.base import SliceMask, knows_intensities_alone
from gamt.settings import Settings
from gamt.volume.geometry import Range, box_on_grid
from gamt.volume.scan import Scan

Bounds = tuple[int, int, int, int]
"""Half-open pixels (x0, y0, x1, y1) of a slice."""

Cast = tuple[int, Bounds, SliceMask]
"""A vote: its slice, the window that was looked at, and the mask."""

LEAST_PROBABILITY = np.float32(0.01)
"""What is handed from view to view is never surer than this of either answer."""


@dataclass(eq=False)
class Target:
    """One class of a case.

    Attributes:
        prompts: in raw voxels.
        others: positive clicks of the other classes: places that can't belong to this one.
        rivals: boxes of smaller classes that overlap this one's.
        previous: (z, y, x) bool over the region, the class in the previous prediction; None
            without a previous prediction of this class.
        taken: (z, y, x) bool over the region, what the previous prediction gives to other classes;
            None without a previous prediction.
        scan: the crop that the class lies in.
        region: the raw bounds that votes are kept for.
        settings: the numbers of the method.
        box: in raw voxels; the user's, or the one that a seed draws around itself, or None.
        observer: is told how it goes.
    """

    prompts: ClassPrompts
    others: tuple[Click, ...]
    rivals: tuple[Box, ...]
    previous: npt.NDArray[np.bool_] | None
    taken: npt.NDArray[np.bool_] | None
    scan: Scan
    region: Range
    settings: Settings
    box: Box | None
    observer: Observer = field(default_factory=Observer)

    @cached_property
    def votes(self) -> Votes:
        """The votes of all views so far."""
        return self.observer.make_votes(self.region, self.scan.grid)

    def fuse(self) -> npt.NDArray[np.float32]:
        """Returns the views' and the box's opinion, (z, y, x) over the region, 0..1."""
        weight, blur = self.settings.for_votes(knows_intensities_alone(self.scan.segmenter))
        if not self.votes.looked().any():  # the shape that the prompts draw is the last resort
            weight = 1.0
        if self.prompts.box is None:  # what no box fits may be as thin as a vessel
            blur = 0.0
        return self.votes.fuse(self.box, weight, self.rivals, self.prompts.box is not None, blur)

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """What the class claims, (z, y, x) bool over the region; clicks are still to correct it.

        The previous prediction where there is one, else the fused views, cleaned (paper, 2.3). To
        be asked for only after all views have voted.
        """
        if self.previous is not None:
            return self.previous.copy()
        mask = self.fuse() > 0.5
        if self.settings.largest_component:
            marked = [click for click in self.prompts.clicks if click.positive]
            keep = [self.inside_region(click.voxel) for click in marked]
            box = self.prompts.slice_box
            mask = largest_component(mask, keep, () if box is None else box.within(self.region[0]))
        return smooth(mask, self.settings.smoothing)

    def to_grid(self, axis: int) -> npt.NDArray[np.intp]:
        """Returns the nearest grid index of every raw index of the region on `axis`."""
        grid = self.scan.grid
        first, last = (bound[axis] - grid.low[axis] for bound in self.region)
        return grid.from_raw[axis][first:last]

    def walk(
        self,
        plane: Plane,
        anchor: int,
        prompt: SlicePrompt,
        indices: npt.NDArray[np.intp],
        look: Look | None = None,
        pace: Pace | None = None,
    ) -> Walk:
        """Prepares a walk whose masks become votes.

        Where it steps over slices, the masks on both sides vote on them, mixed by distance.

        Args:
            plane: of the slices.
            anchor: where to begin, a grid index.
            prompt: for the anchor.
            indices: the slices that may be visited, grid indices.
            look: the walk ends where the mask no longer looks like this.
            pace: says how many slices to step at a time; None visits them all.
        """
        planned = sorted(set(indices.tolist()))
        if pace is not None:
            pace.plan(len(planned))
        fronts: dict[bool, Cast] = {}  # the last vote of each direction
        visited = self.observer.begin_walk(self, plane, anchor, planned)

        def adapt(index: int, prompt: SlicePrompt) -> SlicePrompt:
            return self.guide(plane, index, self.add_clicks(plane, index, prompt))

        def ask(index: int, before: int, mask: SliceMask) -> SlicePrompt:
            return adapt(index, next_prompt(mask, slice_view(self.scan.image, plane, before)))

        def accept(
            index: int, prompt: SlicePrompt, before: SliceMask | None, mask: SliceMask
        ) -> SliceMask | None:
            if before is None:
                end = None if mask.mask.any() else End.VANISHED
            else:
                end = lost(before, mask, self.settings)
            image = slice_view(self.scan.image, plane, index)
            if end is None and look is not None and not look.fits(image[mask.mask]):
                end = End.STRANGE
            visited(index, mask, end)
            if before is not None and end not in (None, End.STRANGE):
                return None
            if end is End.STRANGE:
                # It was looked at, and it is something else.
                nothing = np.full_like(mask.logits, logit(LEAST_PROBABILITY))
                mask = SliceMask(nothing, mask.quality, nothing)
            new = index, self.window(prompt, mask), mask
            self.votes.add(plane, *new)
            if before is None:
                fronts[False] = fronts[True] = new
            else:
                last = fronts[index > anchor]
                low, high = sorted((last[0], index))
                between = planned[bisect_right(planned, low) : bisect_left(planned, high)]
                self.fill(plane, between, last, new)
                fronts[index > anchor] = new
            return mask if end is None else None

        step = (lambda: 1) if pace is None else pace.step
        return walk(plane, anchor, adapt(anchor, prompt), planned, ask, accept, step)

    def fill(self, plane: Plane, between: Sequence[int], last: Cast, new: Cast) -> None:
        """Votes on the slices between two that were voted on, by the masks of both."""
        (start, (x0, y0, x1, y1), far), (index, (u0, v0, u1, v1), near) = last, new
        window = min(x0, u0), min(y0, v0), max(x1, u1), max(y1, v1)
        for one in between:
            share = np.float32((one - index) / (start - index))
            logits = (1 - share) * near.logits + share * far.logits
            mixed = SliceMask(logits, min(near.quality, far.quality), near.low_res)
            self.votes.add(plane, one, window, mixed)

    def window(self, prompt: SlicePrompt, mask: SliceMask) -> Bounds:
        """Returns what counts as looked at: box and mask, with a margin; half-open grid pixels."""
        boxes = [box for box in (prompt.box, tight_box(mask.mask)) if box is not None]
        if not boxes:
            return 0, 0, 0, 0
        x0, y0 = np.min(boxes, axis=0)[:2]
        x1, y1 = np.max(boxes, axis=0)[2:]
        return widen((x0, y0, x1, y1), self.settings.box_margin, mask.logits.shape)

    def add_clicks(self, plane: Plane, index: int, prompt: SlicePrompt) -> SlicePrompt:
        """Adds to a slice's prompt the clicks that lie on the slice."""
        points, labels = [], []
        marks = [(click, int(click.positive)) for click in self.prompts.clicks]
        for click, label in marks + [(click, 0) for click in self.others]:
            voxel = self.scan.grid.voxel_to_grid(click.voxel)
            if voxel[plane.normal] == index:
                points.append(to_slice(plane, voxel))
                labels.append(label)
        if not points:
            return prompt
        return replace(
            prompt,
            points=np.concatenate([prompt.points, np.array(points, float)]),
            labels=np.concatenate([prompt.labels, np.array(labels)]),
        )

    def against(self, click: Click) -> list[Click]:
        """Returns the clicks of the other kind: those that no correction for `click` may reach.

        They include, for a positive click, those on other classes.
        """
        mine = [one for one in self.prompts.clicks if one.positive != click.positive]
        return mine + list(self.others) if click.positive else mine

    def guide(self, plane: Plane, index: int, prompt: SlicePrompt) -> SlicePrompt:
        """Adds the box's ellipsoid to the scores that a slice's prompt brings along."""
        weight = self.settings.guide_weight
        shape = slice_shape(self.scan.grid.shape, plane)
        if self.box is None or weight == 0:
            return prompt
        if prompt.mask is None or prompt.mask.shape != shape:
            return prompt
        exact = self.prompts.box is not None
        prior = weight * self.prior_slice(self.box, self.rivals, plane, index, exact)
        return replace(prompt, mask=prompt.mask + prior)

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
        """Returns how a raw volume of the region looks in a slice, as if a segmenter had said it.

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
        return SliceMask(logits, quality=1.0, low_res=logits)

    def inside_region(self, voxel: Sequence[int]) -> tuple[int, int, int]:
        """Returns a raw voxel (z, y, x), counted from the region's first."""
        z, y, x = (int(v) - low for v, low in zip(voxel, self.region[0], strict=True))
        return z, y, x

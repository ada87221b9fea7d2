"""What a user says about a target: boxes and clicks in 3-D, and their form on one slice."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, most_central

PixelBox = tuple[int, int, int, int]
"""Half-open pixels (x0, y0, x1, y1) of a slice."""


@dataclass(frozen=True, slots=True)
class Box:
    """A 2-D box drawn on the slice `z_mid`, with the range of slices that hold the target.

    All bounds are voxel indices, half-open: the target's slices are ``z_min <= z < z_max``. On
    slices other than `z_mid` the target may be wider than the box (docs/challenge.md, 2).
    """

    z_min: int
    z_max: int
    z_mid: int
    y_min: int
    y_max: int
    x_min: int
    x_max: int

    @property
    def low(self) -> tuple[int, int, int]:
        """The first voxel (z, y, x) inside."""
        return self.z_min, self.y_min, self.x_min

    @property
    def high(self) -> tuple[int, int, int]:
        """The voxel (z, y, x) just past the last one inside, on every axis."""
        return self.z_max, self.y_max, self.x_max

    @property
    def volume(self) -> int:
        """Number of voxels inside."""
        return math.prod(b - a for a, b in zip(self.low, self.high, strict=True))

    @property
    def section(self) -> "SliceBox":
        """The part that was drawn by hand: the 2-D box on the slice `z_mid`."""
        low, high = (self.z_mid, *self.low[1:]), (self.z_mid + 1, *self.high[1:])
        return SliceBox(Plane.AXIAL, low, high)

    def overlaps(self, other: "Box") -> bool:
        """Says whether any voxel is inside both."""
        bounds = zip(self.low, self.high, other.low, other.high, strict=True)
        return all(a < d and c < b for a, b, c, d in bounds)


def box_of_mask(mask: npt.NDArray[np.bool_]) -> Box:
    """Draws the box of a target as the challenge does, without its random margin in plane.

    `z_mid` is the middle one of the slices that hold the target, which is not the middle of the
    range where some slices between hold none of it. In y and x the box is tight on that slice, and
    the target may be wider on others.

    Args:
        mask: (z, y, x), with at least one voxel inside the target.
    """
    z = np.flatnonzero(mask.any(axis=(1, 2)))
    if z.size == 0:
        raise ValueError("found an empty mask, which no box fits")
    z_mid = int(z[z.size // 2])
    y, x = np.flatnonzero(mask[z_mid].any(axis=1)), np.flatnonzero(mask[z_mid].any(axis=0))
    (z_min, z_max), (y_min, y_max), (x_min, x_max) = (
        (int(inside[0]), int(inside[-1]) + 1) for inside in (z, y, x)
    )
    return Box(z_min, z_max, z_mid, y_min, y_max, x_min, x_max)


@dataclass(frozen=True, slots=True)
class SliceBox:
    """A 2-D box drawn on one slice of any plane; how far the target goes beyond it is unknown.

    Attributes:
        plane: of the slice.
        low: the first voxel (z, y, x) inside.
        high: the voxel (z, y, x) just past the last one inside, on every axis; along the plane's
            normal that is the next one.
    """

    plane: Plane
    low: tuple[int, int, int]
    high: tuple[int, int, int]

    @property
    def index(self) -> int:
        """The slice, as a voxel index along the plane's normal."""
        return self.low[self.plane.normal]

    def within(self, first: tuple[int, int, int] = (0, 0, 0)) -> tuple[slice, ...]:
        """Returns the part of a volume that is inside; the volume's first voxel is `first`."""
        bounds = zip(self.low, self.high, first, strict=True)
        return tuple(slice(a - offset, b - offset) for a, b, offset in bounds)


@dataclass(frozen=True, slots=True, eq=False)
class Lasso(SliceBox):
    """An area drawn on one slice of any plane: about the target's cross-section there.

    As a `SliceBox` it is the bounds of that area.

    Attributes:
        mask: (rows, columns) bool of the plane's slice within those bounds, the area; not empty.
    """

    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scribble:
    """A line drawn by hand, in any plane: every voxel of it is certain.

    Attributes:
        voxels: (N, 3) int, distinct indices (z, y, x), ascending in C order; N > 0.
        positive: whether they are inside of the target.
    """

    voxels: npt.NDArray[np.intp]
    positive: bool

    @property
    def middle(self) -> tuple[int, int, int]:
        """The voxel (z, y, x) that is nearest to the mean of all."""
        z, y, x = self.voxels[most_central(self.voxels)].tolist()
        return z, y, x

    @property
    def low(self) -> tuple[int, int, int]:
        """The least index on every axis (z, y, x)."""
        z, y, x = self.voxels.min(axis=0).tolist()
        return z, y, x

    @property
    def high(self) -> tuple[int, int, int]:
        """One more than the largest index on every axis (z, y, x)."""
        z, y, x = (self.voxels.max(axis=0) + 1).tolist()
        return z, y, x


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """An area or a block that is to be added to the target, or taken away from it.

    It corrects what has been found, as clicks do, where a `Box`, `SliceBox` or `Lasso` says what
    to find. A lasso's is one voxel thick; a box's is full.

    Attributes:
        low: the first voxel (z, y, x).
        mask: (z, y, x) bool, the voxels marked, from `low` on; not empty.
        positive: whether they are inside of the target.
    """

    low: tuple[int, int, int]
    mask: npt.NDArray[np.bool_]
    positive: bool

    @property
    def high(self) -> tuple[int, int, int]:
        """The voxel (z, y, x) just past the last one of `mask`, on every axis."""
        z, y, x = (a + n for a, n in zip(self.low, self.mask.shape, strict=True))
        return z, y, x

    @property
    def voxels(self) -> npt.NDArray[np.intp]:
        """(N, 3) the voxels marked (z, y, x)."""
        return np.argwhere(self.mask) + self.low


@dataclass(frozen=True, slots=True)
class Click:
    """One voxel that the user marked as inside (`positive`) or outside the target."""

    z: int
    y: int
    x: int
    positive: bool

    @property
    def voxel(self) -> tuple[int, int, int]:
        """The index (z, y, x)."""
        return self.z, self.y, self.x


@dataclass(frozen=True, slots=True)
class ClassPrompts:
    """All that the user said about one class.

    Attributes:
        label: the class's value in the segmentation, 1..K.
        box: None for targets such as vessels, which are prompted with clicks alone.
        clicks: in the order in which they were made.
        slice_box: for a target whose range of slices is unknown, a box or a lasso on one slice; not
            beside a `box`.
        scribbles: in the order in which they were drawn. No voxel is in two that contradict each
            other, nor in one that contradicts a click.
        regions: in the order in which they were drawn. Clicks and scribbles count more.
        parts: boxes and lassos of which each told a part of the previous prediction by itself; not
            beside a `box` or `slice_box`.
        anew: whether the class's previous prediction has obeyed none of its clicks, scribbles and
            regions yet.
        polish: whether the class's previous prediction is to be improved as a whole, before clicks,
            scribbles and regions correct it. Without, it stays where they don't contradict it.
    """

    label: int
    box: Box | None = None
    clicks: tuple[Click, ...] = ()
    slice_box: SliceBox | None = None
    scribbles: tuple[Scribble, ...] = ()
    regions: tuple[Region, ...] = ()
    parts: tuple[Box | SliceBox, ...] = ()
    anew: bool = False
    polish: bool = False

    @property
    def first(self) -> Box | SliceBox | Scribble | Click | None:
        """What says where the class is: its crop, window and body are those of this prompt.

        The box or lasso, or else the first positive scribble, which says more than a click, or else
        the first positive click. None without any; what corrects an earlier result says less of the
        class than that.
        """
        if self.box is not None or self.slice_box is not None:
            return self.box or self.slice_box
        marks: list[Scribble | Click] = [*self.scribbles, *self.clicks]
        return next((one for one in marks if one.positive), None)

    @property
    def drawn(self) -> tuple[Box | SliceBox, ...]:
        """All positive boxes and lassos."""
        return tuple(one for one in (self.box, self.slice_box, *self.parts) if one is not None)

    @property
    def voxels_inside(self) -> npt.NDArray[np.intp]:
        """(N, 3) voxels (z, y, x) that clicks, scribbles and regions mark as inside."""
        clicks = np.array([one.voxel for one in self.clicks if one.positive], np.intp)
        lines = [one.voxels for one in self.scribbles if one.positive]
        areas = [one.voxels for one in self.regions if one.positive]
        return np.concatenate([clicks.reshape(-1, 3), *lines, *areas])


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """One thing that the user said about one label."""

    label: int
    prompt: Box | SliceBox | Click | Scribble | Region


def group_prompts(prompts: Iterable[LabelledPrompt]) -> dict[int, ClassPrompts]:
    """Returns what is in force of the boxes, lassos and clicks among all that was said.

    What else was drawn is left to `gamt.interactions.gather`. Of a label's boxes, the last one
    counts. A click doesn't count if a later one on the same voxel contradicts it: one of the other
    kind for the same label, or of two positive ones that for another label.

    Args:
        prompts: in order of time.

    Returns:
        By label, in ascending order.
    """
    boxes: dict[int, Box | SliceBox] = {}
    clicks: dict[int, list[Click]] = {}
    later: dict[tuple[int, int, int], set[tuple[int, bool]]] = {}
    for one in reversed(list(prompts)):
        said = clicks.setdefault(one.label, [])
        if isinstance(one.prompt, Box | SliceBox):
            boxes.setdefault(one.label, one.prompt)
            continue
        if not isinstance(one.prompt, Click):
            continue
        at_voxel = later.setdefault(one.prompt.voxel, set())
        positive = one.prompt.positive
        moved = positive and any(label != one.label for label, inside in at_voxel if inside)
        if not moved and (one.label, not positive) not in at_voxel:
            said.append(one.prompt)
        at_voxel.add((one.label, positive))
    grouped = {}
    for label in sorted(clicks):
        box = boxes.get(label)
        grouped[label] = ClassPrompts(
            label,
            box if isinstance(box, Box) else None,
            tuple(reversed(clicks[label])),
            box if isinstance(box, SliceBox) else None,
        )
    return grouped


@dataclass(frozen=True, slots=True, eq=False)
class SlicePrompt:
    """What a segmenter is asked about one slice.

    Attributes:
        box: half-open pixel bounds (x0, y0, x1, y1), or None.
        points: (N, 2) float, pixel coordinates (x, y); N may be 0.
        labels: (N,) int, 1 for a point inside the target and 0 for one outside.
        mask: (rows, columns) log-odds of the slice's pixels, positive inside the target: what is
            known of them beside `state`. None without.
        state: the `SliceMask.state` of the same segmenter's answer for the slice before or, where a
            walk begins from an answer, for this slice; None without.
    """

    box: tuple[float, float, float, float] | None = None
    points: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    labels: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    mask: npt.NDArray[np.float32] | None = None
    state: object | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing of the slice; its `state` may."""
        return self.box is None and self.mask is None and len(self.labels) == 0

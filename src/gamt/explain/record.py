"""What is known of how a case was segmented: where walks went, what planes voted, what came of it.

All slices and voxels are raw ones, indexed (z, y, x).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane
from gamt.lifting.propagation import End
from gamt.predict import Prediction
from gamt.prompts import Box, ClassPrompts, Click
from gamt.settings import Scale, Settings
from gamt.volume.geometry import Range
from gamt.windows import IntensityWindow

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Visit:
    """A slice that a walk came to.

    Attributes:
        index: of the slice, in raw voxels.
        area_mm2: of the segmenter's mask.
        quality: the IoU that the segmenter expects, 0..1.
        end: why the walk went no further in this direction; None where it went on.
    """

    index: int
    area_mm2: float
    quality: float
    end: End | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a walk ended in one direction.

    Attributes:
        index: the last slice it came to, in raw voxels; None where it came to none.
        end: why.
    """

    index: int | None
    end: End


@dataclass(frozen=True, slots=True)
class WalkRecord:
    """A walk through slices of one plane.

    Attributes:
        plane: of the slices.
        anchor: where it was to begin, in raw voxels, as are all slices here.
        planned: the slices that it might visit, ascending.
        click: the one that it was to correct; None where it looked for the target.
        visits: in the order in which they were made.
        by_memory: whether a tracker followed the target, rather than prompts.
    """

    plane: Plane
    anchor: int
    planned: tuple[int, ...]
    click: Click | None
    visits: list[Visit] = field(default_factory=list)
    by_memory: bool = False

    def stops(self) -> tuple[Stop, Stop]:
        """Returns where it ended downwards (to lower indices), and upwards."""
        return self._stop(-1), self._stop(1)

    def _stop(self, sign: int) -> Stop:
        way = [one for one in self.visits if sign * (one.index - self.anchor) >= 0]
        if not way:
            return Stop(None, End.TIME)
        last = max(way, key=lambda one: sign * one.index)
        if last.end is not None:
            return Stop(last.index, last.end)
        is_last = all(sign * (index - last.index) <= 0 for index in self.planned)
        return Stop(last.index, End.RANGE if is_last else End.TIME)


@dataclass(frozen=True, slots=True)
class PlaneRecord:
    """What one plane did for a class.

    Attributes:
        plane: the plane.
        walks: those that looked for the target, in the order in which they began.
        votes: number of slices that were voted on.
    """

    plane: Plane
    walks: tuple[WalkRecord, ...]
    votes: int


@dataclass(frozen=True, slots=True)
class BodyRecord:
    """What was grown around the first click or scribble of a class that begins with one.

    Attributes:
        clear: whether the body stands out by itself; else its size is a guess.
        asked: whether the segmenter knows more than intensities, and was asked about it.
        taken: whether the class is the body, rather than what the views voted for.
        scale: the one that was taken.
    """

    clear: bool
    asked: bool
    taken: bool
    scale: Scale = "medium"


@dataclass(frozen=True, slots=True)
class Stage:
    """A mask on the way to the result.

    Attributes:
        name: what it is, such as "axial votes" or "fused".
        voxels: how many it has.
        dice: against the truth, 0..1; None without a truth, or without any view.
    """

    name: str
    voxels: int
    dice: float | None


@dataclass(frozen=True, slots=True)
class ClickRecord:
    """What came of a click.

    Attributes:
        click: in raw voxels.
        changed: how many voxels it added or took away; 0 where nothing contradicted it.
        reached: False where the time was up before its turn.
    """

    click: Click
    changed: int
    reached: bool


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """What is drawn onto a slice; all arrays are (rows, columns) of the montage's frame.

    Attributes:
        probability: float, 0..1, NaN where no view looked; None if there is none to show.
        areas: filled masks by what they are: "added", "removed".
        outlines: masks by what they are: "truth", "before", "result".
    """

    probability: npt.NDArray[np.float32] | None = None
    areas: Mapping[str, Mask] = field(default_factory=dict)
    outlines: Mapping[str, Mask] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class MontageRow:
    """One slice of a montage.

    Attributes:
        plane: of the slice.
        index: of the slice, in raw voxels.
        image: (rows, columns) uint8, as the segmenter sees it but for resampling.
        overlays: one for each of the montage's columns.
    """

    plane: Plane
    index: int
    image: npt.NDArray[np.uint8]
    overlays: tuple[Overlay, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Montage:
    """Pictures of the slices through one voxel, step by step from left to right.

    Attributes:
        frame: the raw bounds of what is shown.
        columns: the names of the steps; the first shows the prompts.
        rows: axial, coronal, sagittal.
        box: of the prompts, in raw voxels, or None.
        clicks: of the prompts.
        ball: the raw box around the ball that a click draws, or None.
        correction: the click that the montage is about; None where it is about the class.
    """

    frame: Range
    columns: tuple[str, ...]
    rows: tuple[MontageRow, ...]
    box: Range | None
    clicks: tuple[Click, ...]
    ball: Box | None = None
    correction: ClickRecord | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ClassRecord:
    """All about one class.

    Attributes:
        prompts: in raw voxels.
        begun: False for a class of which the prompts and the previous prediction say nothing.
        had_previous: whether it was corrected rather than found.
        region: the raw bounds that were looked at.
        window: the intensities that were seen as black and white; None if it was not begun.
        drawn_box: the raw box that a seed drew around itself, or None.
        body: what the first click or scribble stands in; None for a class that began otherwise.
        planes: what the views did; empty where none were asked, as for a class that was corrected.
        corrections: walks that corrected clicks.
        clicks: what came of them, in order.
        stages: from the views to the result.
        faults: of the segmenter, one line a plane.
        montage: the pictures of the class, or None if it was not begun.
        correction_montages: the pictures of its corrections.
    """

    prompts: ClassPrompts
    begun: bool = False
    had_previous: bool = False
    region: Range | None = None
    window: IntensityWindow | None = None
    drawn_box: Box | None = None
    body: BodyRecord | None = None
    planes: tuple[PlaneRecord, ...] = ()
    corrections: tuple[WalkRecord, ...] = ()
    clicks: tuple[ClickRecord, ...] = ()
    stages: tuple[Stage, ...] = ()
    faults: tuple[str, ...] = ()
    montage: Montage | None = None
    correction_montages: tuple[Montage, ...] = ()

    @property
    def dice(self) -> float | None:
        """Of the result against the truth, 0..1; None without a truth."""
        return self.stages[-1].dice if self.stages else None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """All about one case.

    Attributes:
        name: the case's.
        segmenter: the name of the 2-D model.
        settings: of the method.
        shape: of the scan (z, y, x).
        spacing_mm: (z, y, x).
        has_truth: whether there was a ground truth to compare with.
        prediction: the result; the same as without an explanation.
        classes: one each, in the order of their labels.
        names: of the classes, by label, as far as they have some.
        note: what is to be known before all else; None where there is nothing.
    """

    name: str
    segmenter: str
    settings: Settings
    shape: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    has_truth: bool
    prediction: Prediction
    classes: tuple[ClassRecord, ...]
    names: Mapping[int, str]
    note: str | None = None

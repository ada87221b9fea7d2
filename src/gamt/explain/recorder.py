"""Why a segmentation came out as it did: the lifting, watched and written down.

A `Recorder` watches a case being segmented and keeps, class by class, where the walks went and why
they ended, what each plane voted for, and what became of it. All of it is data; `gamt.explain.page`
shows it. Volumes are not kept but for the slices that are to be shown, so that many classes fit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from gamt.axes import Plane, bounding_range
from gamt.explain.record import (
    BodyRecord,
    ClassRecord,
    ClickRecord,
    Explanation,
    Mask,
    Montage,
    MontageRow,
    Overlay,
    PlaneRecord,
    Stage,
    Visit,
    WalkRecord,
)
from gamt.explain.slicing import NOTHING, SliceCutter, in_plane
from gamt.io.case import Case
from gamt.io.intensities import normalise
from gamt.lifting.progress import Report
from gamt.lifting.propagation import End
from gamt.lifting.target import Correction, Observer, Target, Visited
from gamt.plausibility import NO_NAMES
from gamt.predict import predict_case
from gamt.prompts import ClassPrompts, Click, Scribble
from gamt.segmenters.base import Segmenter, SliceMask
from gamt.settings import Settings
from gamt.volume.cache import EmbeddingCache
from gamt.volume.geometry import Range
from gamt.volume.preparation import PreparedVolume
from gamt.windows import IntensityWindow

FRAME_MARGIN, LEAST_MARGIN = 0.2, 3
"""Room around what a picture shows, on each side: as a share of its extent, and in voxels."""


def explain_case(
    case: Case,
    segmenter: Segmenter,
    settings: Settings,
    truth: npt.NDArray[Any] | None = None,
    start: float | None = None,
    cache: Path | EmbeddingCache | None = None,
    names: Mapping[int, str] = NO_NAMES,
    progress: Report = lambda done, planned: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Explanation:
    """Segments a case and tells how it went.

    Args:
        case: the scan and its prompts.
        segmenter: the 2-D model to lift.
        settings: of the method.
        truth: (z, y, x) labels 1..K, of the image's shape; only compared with, never used.
        start: when the run's clock began, on the clock of `time.monotonic`; None for now.
        cache: as for `predict_case`.
        names: of the classes, by label, as far as they have some.
        progress: called with the slices done and those planned so far.
        cancelled: as for `predict_case`.

    Raises:
        Cancelled: `cancelled` said so.
    """
    recorder = Recorder(truth)
    prediction = predict_case(
        case,
        segmenter,
        settings,
        start,
        cache,
        recorder,
        progress=progress,
        cancelled=cancelled,
        names=names,
    )
    return Explanation(
        case.name,
        segmenter.name,
        settings,
        case.image.shape,
        recorder.volume.spacing_mm,
        truth is not None,
        prediction,
        tuple(recorder.finish(prompts, prediction.labels) for prompts in case.prompts),
        names,
        recorder.volume.coarser,  # then there is nothing to tell of its steps
    )


@dataclass(eq=False)
class _ClassNotes:
    """What is known of a class so far."""

    walks: list[WalkRecord] = field(default_factory=list)
    changed: dict[Click, int] = field(default_factory=dict)
    montages: list[Montage] = field(default_factory=list)


class Recorder(Observer):
    """Writes down how a case is segmented.

    Attributes:
        volume: the scan, once the case was begun.
    """

    volume: PreparedVolume

    def __init__(self, truth: npt.NDArray[Any] | None = None) -> None:
        """Begins without records.

        Args:
            truth: (z, y, x) labels 1..K, of the image's shape; None where it isn't known.
        """
        self._truth = truth
        self._notes: dict[int, _ClassNotes] = {}
        self._records: dict[int, ClassRecord] = {}
        self._fused: dict[int, tuple[Mask, ...]] = {}
        self._windows: Mapping[int, IntensityWindow] = {}

    def begin_case(self, case: Case, volume: PreparedVolume) -> None:
        """Remembers the scan, and the windows that its classes are seen in."""
        self.volume = volume
        self._windows = case.windows

    def begin_walk(
        self,
        target: Target,
        plane: Plane,
        anchor: int,
        planned: Sequence[int],
        click: Click | None = None,
        by_memory: bool = False,
    ) -> Visited:
        """Begins a walk's record."""
        grid = target.scan.grid
        axis = plane.normal
        to_raw = (grid.to_raw[axis] + grid.low[axis]).tolist()
        slices = tuple(to_raw[one] for one in planned)
        record = WalkRecord(plane, to_raw[anchor], slices, click, by_memory=by_memory)
        self._notes_of(target).walks.append(record)
        pixel_mm2 = float(
            np.prod([self.volume.spacing_mm[n] / (grid.scale[n] or 1) for n in in_plane(plane)])
        )

        def visited(index: int, answer: SliceMask | None, end: End | None) -> None:
            area_mm2, quality = 0.0, 0.0
            if answer is not None:
                area_mm2, quality = pixel_mm2 * int(answer.mask.sum()), float(answer.quality)
            record.visits.append(Visit(to_raw[index], area_mm2, quality, end))

        return visited

    def end_correction(self, target: Target, correction: Correction, mask: Mask) -> None:
        """Draws what a click changed."""
        notes, click = self._notes_of(target), correction.click
        changed = np.zeros(mask.shape, np.bool_)
        changed[correction.near] = correction.changed
        notes.changed[click] = int(changed.sum())
        before = np.where(changed, not click.positive, mask)
        odds = np.full(mask.shape, np.nan, np.float32)
        odds[correction.near] = expit(correction.odds)
        kind = "added" if click.positive else "removed"
        low = target.region[0]
        frame = self._frame(
            [
                (correction.ball.low, correction.ball.high),
                _shifted(bounding_range(changed), low),
            ]
        )
        cutter = SliceCutter(frame, low, click.voxel, self._truth_of(target.prompts.label))
        outlines = {"before": before}
        columns, drawn = ["prompts"], [cutter.overlays(outlines=outlines)]
        asked = any(walk.click == click for walk in notes.walks)
        for plane in target.settings.planes if asked else ():
            _, seen = correction.votes.of_plane(plane)
            columns.append(f"{plane.name.lower()} votes")
            drawn.append(cutter.overlays(seen, outlines=outlines))
        columns += ["evidence", "result"]
        drawn.append(cutter.overlays(odds, outlines=outlines))
        drawn.append(cutter.overlays(areas={kind: changed}, outlines={"result": mask}))
        notes.montages.append(
            Montage(
                frame,
                tuple(columns),
                self._rows(cutter, drawn, target),
                _box_bounds(target.prompts),
                target.prompts.clicks,
                correction.ball,
                ClickRecord(click, notes.changed[click], reached=True),
            )
        )

    def end_target(self, target: Target) -> None:
        """Draws how a target was found."""
        notes, prompts, low = self._notes_of(target), target.prompts, target.region[0]
        truth = self._truth_of(prompts.label)
        looking = [one for one in notes.walks if one.click is None]
        found = target.fuse()
        fused = found > 0.5 if target.previous is None else target.previous
        frame = self._frame(
            [
                _box_bounds(prompts),
                *(_shifted(([0, 0, 0], [1, 1, 1]), one.voxel) for one in prompts.clicks),
                *((one.low, one.high) for one in prompts.scribbles),
                *((one.low, one.high) for one in prompts.regions),
                *(_shifted(bounding_range(one), low) for one in (fused, target.mask)),
                None if truth is None else _shifted(bounding_range(truth), (0, 0, 0)),
            ]
        )
        cutter = SliceCutter(frame, low, _middle(target, looking, frame), truth)
        new = target.previous is None
        columns = ["prompts"]
        drawn = [cutter.overlays(outlines=NOTHING if new else {"before": fused})]
        stages, planes, body = [], [], None
        grown = target.finding.body is not None
        if new and target.found is not None:
            asked = not target.scan.segmenter.traits.intensities_alone
            scale = target.settings.scale
            body = BodyRecord(target.found.clear, asked, grown, scale)
            part = target.found.scales[scale].within(target.region)
            columns.append("body")
            drawn.append(cutter.overlays(part.astype(np.float32)))
            stages.append(self._stage("body", part, target))
        elif new and grown:  # in a box or lasso on one slice
            columns.append("body")
            drawn.append(cutter.overlays(found))
            stages.append(self._stage("body", fused, target))
        if new and (looking or not grown):
            for plane in target.settings.planes:
                count, seen = target.finding.votes.of_plane(plane)
                name = f"{plane.name.lower()} votes"
                columns.append(name)
                drawn.append(cutter.overlays(seen))
                stages.append(self._stage(name, seen > 0.5, target, any_view=count > 0))
                walks = tuple(one for one in looking if one.plane is plane)
                planes.append(PlaneRecord(plane, walks, count))
        if new and not grown:
            columns.append("fused")
            drawn.append(cutter.overlays(found))
            stages.append(self._stage("fused", fused, target))
        if not new:
            stages.append(self._stage("previous", fused, target))
        name = "cleaned and corrected" if new else "corrected"
        stages.append(self._stage(name, target.mask, target))
        self._fused[prompts.label] = tuple(cutter.cut(fused, plane) for plane in Plane)
        self._records[prompts.label] = ClassRecord(
            prompts=prompts,
            begun=True,
            had_previous=not new,
            region=target.region,
            window=self._windows[prompts.label],
            drawn_box=None if prompts.box is not None else target.finding.box,
            body=body,
            planes=tuple(planes),
            corrections=tuple(one for one in notes.walks if one.click is not None),
            clicks=tuple(_click_record(one, notes, target) for one in prompts.clicks),
            stages=tuple(stages),
            faults=target.shortfall.describe_faults(),
            montage=Montage(
                frame,
                tuple(columns),
                self._rows(cutter, drawn, target),
                _box_bounds(prompts),
                prompts.clicks,
            ),
            correction_montages=tuple(notes.montages),
        )

    def finish(self, prompts: ClassPrompts, labels: npt.NDArray[np.uint8]) -> ClassRecord:
        """Returns the record of a class, with the final segmentation (z, y, x) of the case."""
        record = self._records.get(prompts.label)
        if record is None or record.montage is None:
            return ClassRecord(prompts)
        montage, truth = record.montage, self._truth_of(prompts.label)
        result = labels == prompts.label
        z, y, x = (row.index for row in montage.rows)
        cutter = SliceCutter(montage.frame, (0, 0, 0), (z, y, x), truth)
        rows = []
        for row, before, overlay in zip(
            montage.rows,
            self._fused[prompts.label],
            cutter.overlays(outlines={"result": result}),
            strict=True,
        ):
            after = overlay.outlines["result"]
            changes = {"added": after & ~before, "removed": before & ~after}
            overlays = (*row.overlays, replace(overlay, areas=changes))
            rows.append(replace(row, overlays=overlays))
        dice = None if truth is None else _dice(result, truth, int(truth.sum()))
        return replace(
            record,
            stages=(*record.stages, Stage("result", int(result.sum()), dice)),
            montage=replace(montage, columns=(*montage.columns, "result"), rows=tuple(rows)),
        )

    def _notes_of(self, target: Target) -> _ClassNotes:
        return self._notes.setdefault(target.prompts.label, _ClassNotes())

    def _truth_of(self, label: int) -> Mask | None:
        return None if self._truth is None else self._truth == label

    def _stage(self, name: str, mask: Mask, target: Target, any_view: bool = True) -> Stage:
        dice = None
        truth = self._truth_of(target.prompts.label)
        if truth is not None and any_view:
            where = tuple(slice(a, b) for a, b in zip(*target.region, strict=True))
            dice = _dice(mask, truth[where], int(truth.sum()))
        return Stage(name, int(mask.sum()), dice)

    def _frame(self, bounds: Iterable[Range | None]) -> Range:
        """Returns raw bounds around others, with room to all sides, inside of the scan."""
        shape = self.volume.image.shape
        lows, highs = zip(*(one for one in bounds if one is not None), strict=True)
        least, most = np.min(lows, axis=0), np.max(highs, axis=0)
        room = np.maximum(LEAST_MARGIN, np.ceil(FRAME_MARGIN * (most - least))).astype(int)
        z0, y0, x0 = np.maximum(0, least - room).tolist()
        z1, y1, x1 = np.minimum(shape, most + room).tolist()
        return (z0, y0, x0), (z1, y1, x1)

    def _rows(
        self, cutter: SliceCutter, columns: Sequence[Sequence[Overlay]], target: Target
    ) -> tuple[MontageRow, ...]:
        whole = replace(cutter, low=(0, 0, 0))
        window = self._windows[target.prompts.label]
        rows = []
        for plane, *overlays in zip(Plane, *columns, strict=True):
            raw = whole.cut(self.volume.image, plane)
            image = normalise(raw[np.newaxis], window)[0]
            rows.append(MontageRow(plane, cutter.voxel[plane.normal], image, tuple(overlays)))
        return tuple(rows)


def _shifted(
    bounds: tuple[Sequence[int], Sequence[int]] | None, by: tuple[int, int, int]
) -> Range | None:
    """Returns bounds, counted from a voxel `by`, in raw voxels."""
    if bounds is None:
        return None
    (z0, y0, x0), (z1, y1, x1) = np.add(bounds, by).tolist()
    return (z0, y0, x0), (z1, y1, x1)


def _box_bounds(prompts: ClassPrompts) -> Range | None:
    box = prompts.box or prompts.slice_box
    return None if box is None else (box.low, box.high)


def _middle(target: Target, walks: Sequence[WalkRecord], frame: Range) -> tuple[int, int, int]:
    """Chooses the raw voxel whose slices show a target: its anchors, or else its middle."""
    bounds, first = _box_bounds(target.prompts), target.prompts.first
    if isinstance(first, Click | Scribble):
        voxel = first.voxel if isinstance(first, Click) else first.middle
        bounds = voxel, voxel
    if target.previous is not None or bounds is None:
        bounds = _shifted(bounding_range(target.mask), target.region[0]) or frame
    shown = [(a + b) // 2 for a, b in zip(*bounds, strict=True)]
    for plane in Plane:
        mine = [one for one in walks if one.plane is plane]
        if mine and target.prompts.box is None:
            shown[plane.normal] = mine[0].anchor  # the others go on from what was found
        elif mine:
            shown[plane.normal] = max(mine, key=lambda one: len(one.planned)).anchor
    return shown[0], shown[1], shown[2]


def _click_record(click: Click, notes: _ClassNotes, target: Target) -> ClickRecord:
    agrees = bool(target.mask[target.inside_region(click.voxel)]) == click.positive
    return ClickRecord(click, notes.changed.get(click, 0), reached=agrees)


def _dice(mask: Mask, truth: Mask, truth_voxels: int) -> float:
    """Returns the Dice coefficient; the truth may have more voxels than are looked at here."""
    total = int(mask.sum()) + truth_voxels
    return 2 * int((mask & truth).sum()) / total if total else 1.0

"""One image, interactively: the method behind the interface of nnInteractive's session.

Code that was written for ``nnInteractiveInferenceSession`` runs after another import and another
constructor; the line that loads its network goes.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt import segmenters
from gamt.axes import bounding_range, slice_view
from gamt.history import MOST_BYTES, History, PackedMask, count_bytes
from gamt.interactions import (
    NUMERIC,
    add_click,
    add_region,
    add_scribble,
    read_box,
    read_click,
    read_lasso,
    read_numbers,
    read_scribble,
    region_of,
    take_back,
)
from gamt.io.case import Case
from gamt.lifting.bodies import Found, Part
from gamt.lifting.budget import Budget, Cancelled
from gamt.lifting.coarsening import lift_in_memory
from gamt.lifting.composition import Extent, compose, is_another_part
from gamt.lifting.differences import agrees, differences
from gamt.lifting.pipeline import Lifted
from gamt.lifting.plan import cache_bytes
from gamt.lifting.progress import Report
from gamt.lifting.sections import section_of
from gamt.lifting.target import Observer
from gamt.prompts import Box, ClassPrompts, Lasso, Region, SliceBox
from gamt.segmenters.base import Segmenter
from gamt.segmenters.door import SegmenterFault
from gamt.settings import PRESETS, Scale, Settings
from gamt.spacing import EXPECTED, is_believable
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume, check_settings
from gamt.windows import IntensityWindow, WindowChoice, parse_window

__all__ = ["ArrayBounds", "Cancelled", "SegmenterFault", "Session"]

ArrayBounds = list[list[int]]
"""Half-open bounds [[a, b], [c, d], [e, f]] in array indices, in the order of the array's axes."""

Mask = npt.NDArray[np.bool_]
Windows = Mapping[int, IntensityWindow]


@dataclass(frozen=True, slots=True, eq=False)
class LiftedExtent:
    """What one box or lasso alone says the target is.

    Attributes:
        drawn: the box, or the lasso.
        mask: (z, y, x); None until it is needed.
        windows: the intensities that it was seen in, by the target's label.
    """

    drawn: Box | SliceBox
    mask: PackedMask | None = None
    windows: Windows = field(default_factory=dict)

    def as_extent(self) -> Extent:
        """Returns it for `compose`; without a mask, it adds nothing."""
        if self.mask is None or not self.mask.bits.size:
            return Extent(self.drawn, None)
        return Extent(self.drawn, as_part(self.mask))


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What is known of one target; never changed, but replaced by the next state.

    Attributes:
        marks: all prompts so far but for the extents.
        extents: positive boxes and lassos, each of which says what the target is.
        initial: (z, y, x), the segmentation that the target began with, or what clicks and
            scribbles had found before a box or lasso was drawn beside it; None without, or if it is
            empty.
        mask: (z, y, x), the last prediction or the initial segmentation; None before.
        corrected: whether the next prediction corrects the mask by the marks, instead of
            beginning anew from all prompts.
        rough: whether the mask is an initial segmentation that no prediction has seen; without
            prompts, the next one polishes it.
        windows: the intensities that the last prediction saw the target in, by its label; the next
            one that corrects it sees it in the same.
        found: what the first click stands in, where there is nothing but that click.
        scale: of what was found there, the one that is taken; None where nothing was.
        is_behind: whether prompts came since the last prediction.
        is_complete: whether there was time for all of the last prediction.
    """

    marks: ClassPrompts = field(default_factory=lambda: ClassPrompts(1))
    extents: tuple[LiftedExtent, ...] = ()
    initial: PackedMask | None = None
    mask: PackedMask | None = None
    corrected: bool = False
    rough: bool = False
    found: Found | None = None
    scale: Scale | None = None
    windows: Windows = field(default_factory=dict)
    is_behind: bool = False
    is_complete: bool = True

    @classmethod
    def of_mask(cls, mask: PackedMask) -> "State":
        """Returns the state of a target that begins with a segmentation; an empty one is none."""
        initial = mask if mask.bits.size else None
        return cls(initial=initial, mask=mask, corrected=True, rough=initial is not None)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What `Session.choose_scale` takes now; none where it takes none."""
        return () if self.found is None else tuple(self.found.scales)

    @property
    def is_composed(self) -> bool:
        """Whether the target has several parts, each of which is lifted by itself."""
        return len(self.extents) + (self.initial is not None) > 1

    @property
    def prompts(self) -> ClassPrompts:
        """All prompts of the target; those that say what it is are `parts` of a composed one."""
        if self.is_composed:
            return replace(self.marks, parts=tuple(one.drawn for one in self.extents))
        if not self.extents:
            return self.marks
        return with_extent(self.marks, self.extents[0].drawn)

    @property
    def prompt_arrays(self) -> list[npt.NDArray[Any]]:
        """What the prompts hold."""
        drawn = [one.drawn.mask for one in self.extents if isinstance(one.drawn, Lasso)]
        drawn += [one.mask for one in self.marks.regions]
        return [*drawn, *(one.voxels for one in self.marks.scribbles)]

    @property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """What the prompts and the masks hold; see `History`."""
        masks = [self.mask, self.initial, *(one.mask for one in self.extents)]
        return [*self.prompt_arrays, *(one.bits for one in masks if one is not None)]


def as_part(mask: PackedMask) -> Part:
    """Returns a mask that is not empty as a part of the scan."""
    z, y, x = (one.start for one in mask.where)
    return Part((z, y, x), mask.part())


def with_extent(marks: ClassPrompts, drawn: Box | SliceBox) -> ClassPrompts:
    """Returns a target's prompts with its box or lasso."""
    if isinstance(drawn, Box):
        return replace(marks, box=drawn)
    return replace(marks, slice_box=drawn)


class Lifter:
    """Lifts prompts, one time or more, within one limit of time and with one count of progress.

    Attributes:
        complete: whether there has been time for all of it so far.
    """

    def __init__(
        self,
        volume: PreparedVolume,
        seconds: float,
        observer: Observer | None,
        progress: Report,
        cancelled: Callable[[], bool],
    ) -> None:
        """Starts the clock; for the arguments, see `Session`."""
        self._volume = volume
        self._budget = Budget(time.monotonic(), seconds)
        self._observer = observer
        self._progress = progress
        self._cancelled = cancelled
        self._done = self._planned = 0
        self.complete = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image (z, y, x)."""
        return self._volume.image.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The voxel's size (z, y, x)."""
        return self._volume.spacing_mm

    def lift(
        self, prompts: ClassPrompts, previous: Mask | None = None, windows: Windows | None = None
    ) -> Lifted:
        """Segments a target, or corrects the previous mask of it.

        Raises:
            SegmenterFault: the segmenter failed at a slice.
        """
        earlier_done, earlier_planned = self._done, self._planned

        def report(done: int, planned: int) -> None:
            self._done, self._planned = earlier_done + done, earlier_planned + planned
            self._progress(self._done, self._planned)

        case = Case(
            "session",
            self._volume.image,
            self._volume.spacing_mm,
            (prompts,),
            None if previous is None else previous.view(np.uint8),
            windows=windows or {},
        )
        lifted = lift_in_memory(
            case, self._volume, self._budget, self._observer, report, self._cancelled
        )
        if faults := lifted.shortfalls[prompts.label].describe_faults():
            raise SegmenterFault("; ".join(faults))
        self.complete &= lifted.complete
        return lifted


class Session:
    """Segments one target after the other in an image, prompt by prompt.

    Arrays are indexed (z, y, x), as SimpleITK's ``GetArrayFromImage`` gives them, coordinates are
    array indices, and boxes are half-open. Methods and arguments are named as nnInteractive's and
    mean the same, but for these differences:

    - A positive box or lasso says what the target is, wherever in the order it comes; several say
      so of parts of it. A 3-D box's range of slices, along z, is taken as exact, and in y and x as
      the extent of the target in the middle slice. A box or lasso on one slice holds the target's
      section there; one that is for the most part beside what others found adds a part to it.
      After an initial segmentation, one that agrees with it changes nothing.
    - Negative boxes and lassos take away inside; so do points and scribbles, of which every voxel
      ends on its own side. With a mask to correct, everything that no prompt contradicts stays as
      it is. Where prompts contradict each other, the later one counts: if it
      wipes out the only positive one, nothing is left to find, but for what had been predicted from
      that one before, which is corrected.
    - What a prediction returns are the tight bounds of the voxels that it changed.
    - `undo` takes back any number of steps, and `redo` does them again.
    - There is no `override_capability_checks` and no zooming.
    - Coordinates outside of the image are an error; a box that is partly outside is clipped.

    A slice is encoded once, however many prompts and targets need it, and not again for an image
    with the same content, as far as `Settings.cache_mb` goes. In an image that is larger than
    `Settings.crop_voxels`, targets far from each other are cropped, and so encoded, by themselves.
    A call that fails or is cancelled leaves everything as it was; where the segmenter fails at a
    slice, that is a `SegmenterFault`. A session is used by one thread
    at a time; what `cancelled` asks may be set by any other:

        stop = threading.Event()
        session = Session("sam_vit_b", cancelled=stop.is_set)
    """

    def __init__(
        self,
        segmenter: Segmenter | str | None = None,
        settings: Settings = PRESETS["default"],
        cache: Path | EmbeddingCache | None = None,
        *,
        seconds: float = math.inf,
        observer: Observer | None = None,
        progress: Report = lambda done, planned: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Sets up a session without an image.

        Args:
            segmenter: the 2-D model to lift, or its name for `segmenters.load`; None for the
                embedded one.
            settings: how the method works; the challenge's time limit in it does not count here.
            cache: a folder where encoded slices are kept for later sessions, or the embeddings of
                the same segmenter that are shared with other ones; None keeps none.
            seconds: allowed for a prediction. Out of time, it is finished from what has been seen,
                so that it takes a little longer; where that is nothing, the target is the shape
                that its prompts draw (`gamt.lifting.fallback`).
            observer: is told how every prediction goes; None for nobody.
            progress: called with the slices of a prediction that are done and those planned so
                far, whenever one of them rises. A body that is looked for in 3-D, around a click or
                a section, is none of them.
            cancelled: asked before every step, of a search in 3-D too, whether the prediction is
                not wanted any more; then it raises `Cancelled`.

        Raises:
            SegmenterError: no segmenter has that name, or it can't be set up.
            SettingsError: the segmenter can't do what the settings ask of it (`check_settings`).
            ValueError: `seconds` is not a number.
        """
        if math.isnan(seconds):
            raise ValueError("found nan for the seconds allowed, expected a number")
        if segmenter is None or isinstance(segmenter, str):
            segmenter = segmenters.load(segmenter or segmenters.DEFAULT)
        check_settings(settings, segmenter)
        self._settings = settings
        self._seconds = seconds
        self._observer = observer
        self._progress = progress
        self._cancelled = cancelled
        if not isinstance(cache, EmbeddingCache):
            cache = EmbeddingCache(segmenter, cache_bytes(settings), cache)
        self._embeddings = cache
        self._volume: PreparedVolume | None = None
        self._target_buffer: Any = None
        self._history = History(State())
        self._mask: tuple[PackedMask, Mask] | None = None  # the last one that was unpacked
        self._changes: ArrayBounds | None = None

    @property
    def target_buffer(self) -> Any:
        """What predictions are written to: the object given to `set_target_buffer`, or None."""
        return self._target_buffer

    @property
    def volume(self) -> PreparedVolume | None:
        """The image and what of it has been prepared so far; None before `set_image`."""
        return self._volume

    @property
    def is_behind(self) -> bool:
        """Whether prompts came since the last prediction, so that `run_prediction` is called for.

        An initial segmentation alone is no prompt: it is polished only if that is asked for.
        `undo` and `redo` bring it back with the prompts.
        """
        return self._history.state.is_behind

    @property
    def is_complete(self) -> bool:
        """Whether there was time for all of the last prediction; False where it was cut short.

        `run_prediction` goes on from such a one, as from any other, and doesn't begin anew.
        """
        return self._history.state.is_complete

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What `choose_scale` takes now, from the smallest on; empty where it takes nothing."""
        return self._history.state.scales

    @property
    def scale(self) -> Scale | None:
        """Which of `scales` the target buffer shows; None where there are none."""
        return self._history.state.scale

    @property
    def changes(self) -> ArrayBounds | None:
        """Bounds of all that was written to the target buffer since `forget_changes`.

        Another image, another target buffer and `reset_interactions` begin anew, with None.
        """
        return self._changes

    @property
    def encoded(self) -> int:
        """Number of slices that the segmenter has encoded since the session began."""
        return self._embeddings.encoded

    def set_image(
        self, image: npt.NDArray[Any], image_properties: Mapping[str, Any] | None = None
    ) -> None:
        """Takes an image; target buffer and prompts of the one before are forgotten.

        Args:
            image: (1, z, y, x), intensities as they are; not copied, so not to be changed.
            image_properties: "spacing" in it is the voxel's size in millimetres, in the order of
                the array's axes (z, y, x); without, voxels are cubes. "window" are the intensities
                that become black and white, as (level, width) in the image's units, or as the text
                that `gamt.windows.parse_window` reads; without, `Settings.window` says it. All else
                is ignored.

        Raises:
            ValueError: the image isn't 4-D with one channel of numbers, the spacing can't be
                believed (`gamt.spacing`), or the window is none.
        """
        image = np.asarray(image)
        if image.ndim != 4 or image.shape[0] != 1 or image.size == 0:
            raise ValueError(f"found an image of shape {image.shape}, expected (1, z, y, x)")
        if image.dtype.kind not in NUMERIC:
            raise ValueError(f"found an image of {image.dtype}, expected numbers")
        spacing = read_numbers((image_properties or {}).get("spacing", (1, 1, 1)), (3,), "spacing")
        z, y, x = spacing.tolist()
        if not is_believable((z, y, x)):
            raise ValueError(f"found the spacing {[z, y, x]}, expected {EXPECTED}")
        settings = self._settings
        if (window := (image_properties or {}).get("window")) is not None:
            settings = replace(settings, window=_read_window(window))
        native = image[0].astype(image.dtype.newbyteorder("="), copy=False)
        self._volume = PreparedVolume(native, (z, y, x), self._embeddings, settings)
        self._target_buffer = None
        self._forget()

    def set_target_buffer(self, target_buffer: Any) -> None:
        """Takes the array that predictions are written to in place, 1 inside and 0 outside.

        Args:
            target_buffer: (z, y, x) numpy array or torch tensor of numbers, on any device.

        Raises:
            RuntimeError: there is no image yet.
            ValueError: it is something else, not of the image's shape, or shares memory with it.
        """
        image = self._get_volume().image
        shape = image.shape
        if isinstance(target_buffer, np.ndarray):
            if target_buffer.dtype.kind not in NUMERIC or not target_buffer.flags.writeable:
                kind = "" if target_buffer.flags.writeable else "read-only "
                found = f"a {kind}target buffer of {target_buffer.dtype}"
                raise ValueError(f"found {found}, expected one of numbers that can be written to")
            if np.shares_memory(target_buffer, image):
                raise ValueError("found the image's memory, expected a target buffer of its own")
        elif not hasattr(target_buffer, "new_tensor"):
            found = type(target_buffer).__name__
            raise ValueError(f"found a {found}, expected a numpy array or a torch tensor")
        if tuple(target_buffer.shape) != shape:
            found = str(tuple(target_buffer.shape))
            raise ValueError(f"found a target buffer of shape {found}, expected {shape}")
        self._target_buffer = target_buffer
        self._changes = None

    def add_bbox_interaction(
        self, bbox_coords: Any, include_interaction: bool, run_prediction: bool = True
    ) -> ArrayBounds | None:
        """Adds a box: around the target or a part of it, or around what is to be taken away.

        After a positive box, the prediction begins anew, from all prompts and the initial
        segmentation.

        Args:
            bbox_coords: [[a, b], [c, d], [e, f]], half-open. A box of one voxel along one axis is
                2-D: drawn on one slice, of any plane. One along several axes is taken as drawn on
                the largest of the slices that it may lie on.
            include_interaction: False to take away what is inside of the box.
            run_prediction: whether to predict now, or with a later prompt.

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: there is no image, or no target buffer to write a prediction to.
            ValueError: it isn't a box, or lies outside of the image.
        """
        box = read_box(bbox_coords, self._get_volume().image.shape)
        return self._advance(self._draw(box, include_interaction), run_prediction)

    def add_lasso_interaction(
        self,
        lasso_image: npt.NDArray[Any],
        include_interaction: bool,
        run_prediction: bool = True,
        interaction_bbox: Any = None,
    ) -> ArrayBounds | None:
        """Adds an area that was drawn on one slice, of any plane.

        A positive one is about the target's section there: it is followed to other slices, and the
        prediction begins anew, from all prompts and the initial segmentation.

        Args:
            lasso_image: (z, y, x) numbers, not 0 inside of the area.
            include_interaction: False to take away what is inside of the area.
            run_prediction: whether to predict now, or with a later prompt.
            interaction_bbox: where `lasso_image` lies in the image, [[a, b], [c, d], [e, f]],
                half-open; None if it is as large as the image.

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: there is no image, or no target buffer to write a prediction to.
            ValueError: the lasso is empty, doesn't fit its bounds or the image, or lies on several
                slices.
        """
        lasso = read_lasso(lasso_image, interaction_bbox, self._get_volume().image.shape)
        return self._advance(self._draw(lasso, include_interaction), run_prediction)

    def add_scribble_interaction(
        self,
        scribble_image: npt.NDArray[Any],
        include_interaction: bool,
        run_prediction: bool = True,
        interaction_bbox: Any = None,
    ) -> ArrayBounds | None:
        """Adds a line: the first prediction begins with it, later ones are corrected by it.

        Args:
            scribble_image: (z, y, x) numbers, not 0 on the line. Every voxel of it is certain.
            include_interaction: True for a line inside of the target, False for one outside.
            run_prediction: whether to predict now, or with a later prompt.
            interaction_bbox: where `scribble_image` lies in the image, [[a, b], [c, d], [e, f]],
                half-open; None if it is as large as the image.

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: there is no image, or no target buffer to write a prediction to.
            ValueError: the scribble is empty, doesn't fit its bounds or the image, or is no line
                but has more than `gamt.interactions.MOST_SCRIBBLED` voxels.
        """
        shape = self._get_volume().image.shape
        positive = bool(include_interaction)
        scribble = read_scribble(scribble_image, interaction_bbox, positive, shape)
        state = self._history.state
        state = replace(state, marks=add_scribble(state.marks, scribble))
        return self._advance(state, run_prediction)

    def add_point_interaction(
        self, coordinates: Any, include_interaction: bool, run_prediction: bool = True
    ) -> ArrayBounds | None:
        """Adds a point: the first prediction begins with it, later ones are corrected by it.

        Args:
            coordinates: three array indices, rounded to the nearest voxel.
            include_interaction: True for a point inside of the target, False for one outside. Of
                several points in the same voxel, the last one counts.
            run_prediction: whether to predict now, or with a later prompt.

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: there is no image, or no target buffer to write a prediction to.
            ValueError: these aren't three numbers, or they lie outside of the image.
        """
        shape = self._get_volume().image.shape
        click = read_click(coordinates, bool(include_interaction), shape)
        state = self._history.state
        state = replace(state, marks=add_click(state.marks, click))
        return self._advance(state, run_prediction)

    def add_initial_seg_interaction(
        self, initial_seg: npt.NDArray[Any], run_prediction: bool = False
    ) -> ArrayBounds | None:
        """Begins a target with a segmentation, to be corrected; other prompts are forgotten.

        A prediction before any other prompt improves it as a whole: its surface moves to where the
        segmenter sees it, by a few voxels (docs/design.md, 18). Later prompts correct what came of
        it. Without a prediction the segmentation is written to the target buffer, if there is one,
        as it is.

        Args:
            initial_seg: (z, y, x), not 0 inside of the target.
            run_prediction: whether to improve it now; with a prompt that comes before the next
                prediction, it is only corrected by that.

        Returns:
            With `run_prediction`, the bounds of what changed in the target buffer; None if
            nothing did.

        Raises:
            RuntimeError: there is no image, or no target buffer to write a prediction to.
            ValueError: it isn't numbers of the image's shape, or some are NaN.
        """
        shape = self._get_volume().image.shape
        mask = np.asarray(initial_seg)
        if mask.shape != shape or mask.dtype.kind not in NUMERIC:
            found = f"an initial segmentation of {mask.dtype} and shape {mask.shape}"
            raise ValueError(f"found {found}, expected numbers of shape {shape}")
        if np.isnan(mask).any():
            raise ValueError("found NaN in the initial segmentation, expected 0 outside of it")
        state = State.of_mask(PackedMask.of(mask != 0))
        changed = self._advance(state, run_prediction)
        if not run_prediction and self._target_buffer is not None:
            self._show(state)
        return changed

    def run_prediction(self) -> ArrayBounds | None:
        """Predicts from all prompts so far; for those that were added without a prediction.

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: there is no image, or no target buffer to write the prediction to.
        """
        state = self._predict(self._history.state)
        changed = self._show(state)
        self._history.state = state
        return changed

    def choose_scale(self, scale: Scale) -> ArrayBounds | None:
        """Takes a smaller or larger body for what the first click stands in; nothing is predicted.

        nnInteractive's session has no such method. A choice is a step that `undo` takes back.

        Args:
            scale: "tight", "medium" (what was predicted without a segmenter that knows shapes) or
                "large".

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: the target doesn't come from one positive click alone.
            ValueError: there is no such scale.
        """
        found = self._history.state.found
        if found is None:
            raise RuntimeError("a scale can be chosen after the first prediction from one click")
        if scale not in found.scales:
            expected = ", ".join(found.scales)
            raise ValueError(f"found the scale {scale!r}, expected one of {expected}")
        shape = self._get_volume().image.shape
        mask = found.scales[scale].within(((0, 0, 0), (shape[0], shape[1], shape[2])))
        state = replace(self._history.state, mask=self._pack(mask), scale=scale)
        changed = self._show(state)
        self._history.advance(state)
        return changed

    def reset_interactions(self) -> None:
        """Forgets all prompts and clears the target buffer: the next target begins."""
        self._forget()
        if self._target_buffer is not None:
            self._target_buffer[...] = 0

    def undo(self) -> bool:
        """Takes back the last step: a prompt or a scale, and in the target buffer what came of it.

        Any number of steps can be taken back, as far as the masks before them fit into memory
        (`gamt.history.MOST_BYTES`).

        Returns:
            Whether there was one to take back.
        """
        before = self._history.before
        if before is None:
            return False
        self._show_again(before)
        self._history.back()
        return True

    def redo(self) -> bool:
        """Does again what was taken back last; nothing is predicted.

        Returns:
            Whether there was something to do again. After a new prompt there is not.
        """
        after = self._history.after
        if after is None:
            return False
        self._show_again(after)
        self._history.forward()
        return True

    def snapshot(self) -> History[State]:
        """Returns all steps, for `restore`."""
        return self._history.copy()

    def restore(self, snapshot: History[State]) -> None:
        """Goes back to a snapshot of the same image, as if there had been no steps since.

        They can't be done again, as after `undo`; what could be done again at that time, can be.
        """
        self._show_again(snapshot.state)
        self._history = snapshot.copy()

    def forget_changes(self) -> None:
        """Lets `changes` begin anew."""
        self._changes = None

    def _forget(self) -> None:
        self._history = History(State())
        self._mask = None
        self._changes = None

    def _get_volume(self) -> PreparedVolume:
        if self._volume is None:
            raise RuntimeError("there is no image: call set_image first")
        return self._volume

    def _draw(self, drawn: Box | SliceBox, positive: bool) -> State:
        """Returns the state with one more box or lasso."""
        state = self._history.state
        if not positive:
            return replace(state, marks=add_region(state.marks, region_of(drawn, positive=False)))
        initial = state.initial
        if not state.extents and state.corrected and state.mask is not None and initial is None:
            # What clicks and scribbles have found is not given up for what is drawn beside it.
            section = drawn.section if isinstance(drawn, Box) else drawn
            if state.mask.bits.size and is_another_part(section, as_part(state.mask)):
                initial = state.mask
        return replace(
            state,
            marks=take_back(state.marks, drawn),
            extents=(*state.extents, LiftedExtent(drawn)),
            initial=initial,
            corrected=False,
        )

    def _advance(self, state: State, run_prediction: bool) -> ArrayBounds | None:
        """Goes on to a state that has one more prompt."""
        if count_bytes(state.prompt_arrays) > MOST_BYTES:
            size = f"{MOST_BYTES // 2**20} MB"
            raise ValueError(f"found prompts of more than {size} for one target, expected fewer")
        changed = None
        if run_prediction:
            state = self._predict(state)
            changed = self._show(state)
        else:  # no scale has been made with the new prompt
            has_prompts = bool(state.extents) or state.marks != ClassPrompts(1)
            state = replace(state, found=None, scale=None, is_behind=has_prompts)
        self._history.advance(state)
        return changed

    def _predict(self, state: State) -> State:
        volume = self._get_volume()
        if self._target_buffer is None:
            raise RuntimeError("there is no target buffer: call set_target_buffer first")
        lifter = Lifter(volume, self._seconds, self._observer, self._progress, self._cancelled)
        polishes = state.rough and state.corrected and state.marks == ClassPrompts(1)
        if state.corrected and state.mask is not None:
            prompts = replace(state.prompts, polish=polishes)
            lifted = lifter.lift(prompts, self._unpack(state.mask), state.windows)
        elif state.is_composed:
            state, lifted = self._compose(state, lifter)
        else:
            lifted = lifter.lift(state.prompts)
        marks = state.marks
        from_click = len(marks.clicks) == 1 and not marks.scribbles and not marks.regions
        found = lifted.found.get(1) if from_click else None
        mask = self._pack(lifted.labels.view(np.bool_))
        if state.rough:
            state = replace(state, initial=mask if polishes else state.initial, rough=False)
        is_alone = len(state.extents) == 1 and not state.is_composed
        if lifter.complete and not state.corrected and is_alone and marks == ClassPrompts(1):
            alone = replace(state.extents[0], mask=mask, windows=lifted.windows)
            state = replace(state, extents=(alone,))
        return replace(
            state,
            mask=mask,
            corrected=True,
            windows=lifted.windows,
            found=found,
            scale=None if found is None else self._settings.scale,
            is_behind=False,
            is_complete=lifter.complete,
        )

    def _compose(self, state: State, lifter: Lifter) -> tuple[State, Lifted]:
        """Lifts extents by themselves, unless that is done, and corrects all of them by the marks.

        Without marks, so that it stays the same with other marks, and in another order. Those that
        have most of their section in the initial segmentation correct it, as marks do.
        """
        initial = None if state.initial is None else state.initial.unpack()
        extents: list[LiftedExtent] = []
        parts: list[Extent] = []
        regions: list[Region] = []
        for drawn in state.extents:
            extent, wrong = self._compare(drawn, initial, lifter)
            extents.append(extent)
            parts.append(extent.as_extent() if wrong is None else Extent(extent.drawn, None))
            regions += wrong or ()
        if initial is None:
            initial = np.zeros(lifter.shape, np.bool_)
        target = compose(parts, initial, lifter.spacing_mm)
        regions += state.marks.regions
        prompts = replace(state.prompts, regions=tuple(regions), anew=True)
        windows = next((one.windows for one in extents if one.windows), None)
        lifted = lifter.lift(prompts, target, windows)
        if not lifter.complete:  # with more time, they are to be lifted anew
            return state, lifted
        return replace(state, extents=tuple(extents)), lifted

    def _compare(
        self, extent: LiftedExtent, initial: Mask | None, lifter: Lifter
    ) -> tuple[LiftedExtent, tuple[Region, ...] | None]:
        """Compares an extent with the initial segmentation (z, y, x), and lifts it if it has to be.

        Returns:
            The extent; and where it corrects the initial segmentation, None where it adds a part.
        """
        drawn = extent.drawn
        if initial is None:
            return self._lift_alone(extent, lifter), None
        if agrees(drawn, initial):
            return extent, ()
        if isinstance(drawn, Lasso):
            wrong = differences(drawn, initial, section_of(drawn, (0, 0, 0), initial.shape))
            if wrong is not None:
                return extent, wrong
        extent = self._lift_alone(extent, lifter)
        if isinstance(drawn, Box | Lasso) or extent.mask is None:
            return extent, None
        seen = slice_view(extent.mask.unpack(), drawn.plane, drawn.index)
        return extent, differences(drawn, initial, seen)

    def _lift_alone(self, extent: LiftedExtent, lifter: Lifter) -> LiftedExtent:
        """Returns an extent with what it alone says the target is."""
        if extent.mask is not None:
            return extent
        lifted = lifter.lift(with_extent(ClassPrompts(1), extent.drawn))
        mask = PackedMask.of(lifted.labels.view(np.bool_))
        return replace(extent, mask=mask, windows=lifted.windows)

    def _pack(self, mask: Mask) -> PackedMask:
        """Packs a mask, and keeps it as it is for the next call of `_unpack`."""
        packed = PackedMask.of(mask)
        self._mask = packed, mask
        return packed

    def _unpack(self, packed: PackedMask) -> Mask:
        """Returns a mask (z, y, x), not to be changed."""
        if self._mask is None or self._mask[0] is not packed:
            self._mask = packed, packed.unpack()
        return self._mask[1]

    def _show_again(self, state: State) -> None:
        """Writes the mask of a state before or after the present one to the target buffer."""
        if self._target_buffer is not None and state.mask is not self._history.state.mask:
            self._show(state)

    def _show(self, state: State) -> ArrayBounds | None:
        """Writes a state's mask to the target buffer; returns the bounds of what changed."""
        buffer = self._target_buffer
        mask = np.zeros(buffer.shape, np.bool_) if state.mask is None else self._unpack(state.mask)
        if isinstance(buffer, np.ndarray):
            written: Any = mask.view(np.uint8)
            differs = buffer != written
        else:
            written = buffer.new_tensor(mask)
            differs = (buffer != written).cpu().numpy()
        bounds = bounding_range(differs)
        if bounds is None:
            return None
        where = tuple(slice(a, b) for a, b in zip(*bounds, strict=True))
        buffer[where] = written[where]
        changed = [[a, b] for a, b in zip(*bounds, strict=True)]
        self._changes = changed if self._changes is None else unite(self._changes, changed)
        return changed


def unite(one: ArrayBounds, other: ArrayBounds) -> ArrayBounds:
    """Returns the tight bounds of what lies within two bounds."""
    return [[min(a, c), max(b, d)] for (a, b), (c, d) in zip(one, other, strict=True)]


def _read_window(value: Any) -> WindowChoice:
    """Returns the window that a user gives as text, or as level and width."""
    try:
        if isinstance(value, str):
            return parse_window(value)
        level, width = read_numbers(value, (2,), "window").tolist()
        return IntensityWindow.of_level(level, width)
    except ValueError as error:
        raise ValueError(f'image_properties, "window": {error}') from error

"""One image, interactively: the method behind the interface of nnInteractive's session.

Code that was written for ``nnInteractiveInferenceSession`` runs after another import and another
constructor; the line that loads its network goes.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gamt import segmenters
from gamt.axes import Plane, bounding_range, slice_shape
from gamt.io.case import Case
from gamt.lifting.bodies import Found
from gamt.lifting.budget import Budget, Cancelled
from gamt.lifting.pipeline import lift
from gamt.lifting.progress import Report
from gamt.lifting.target import Observer
from gamt.prompts import Box, ClassPrompts, Click, SliceBox
from gamt.segmenters.base import Segmenter
from gamt.settings import PRESETS, Scale, Settings
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume
from gamt.windows import IntensityWindow, WindowChoice, parse_window

__all__ = ["Cancelled", "Session", "UnsupportedPromptError"]

SUPPORTED = "one positive box (2-D or 3-D), positive and negative points, an initial segmentation"
"""The kinds of prompt that a session takes."""

NUMERIC = "biuf"
"""The kinds of dtype that images, segmentations and target buffers may have."""

ArrayBounds = list[list[int]]
"""Half-open bounds [[a, b], [c, d], [e, f]] in array indices, in the order of the array's axes."""


class UnsupportedPromptError(NotImplementedError):
    """A prompt of a kind that the method has no use for."""

    def __init__(self, reason: str) -> None:
        """Says why the prompt isn't taken, and which prompts are supported."""
        super().__init__(f"{reason}; supported are: {SUPPORTED}")


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What is known of one target; never changed, but replaced by the next state.

    Attributes:
        prompts: all of them so far.
        mask: (z, y, x) bool, the last prediction or the initial segmentation; None before.
        corrected: whether the next prediction corrects the mask by the clicks, instead of
            beginning anew from all prompts.
        has_initial: whether the target began with an initial segmentation.
        windows: the intensities that the last prediction saw the target in, by its label; the next
            one that corrects it sees it in the same.
        found: what the first click stands in, where there is nothing but that click.
    """

    prompts: ClassPrompts = field(default_factory=lambda: ClassPrompts(1))
    mask: npt.NDArray[np.bool_] | None = None
    corrected: bool = False
    has_initial: bool = False
    found: Found | None = None
    windows: Mapping[int, IntensityWindow] = field(default_factory=dict)


class Session:
    """Segments one target after the other in an image, prompt by prompt.

    Arrays are indexed (z, y, x), as SimpleITK's ``GetArrayFromImage`` gives them, coordinates are
    array indices, and boxes are half-open. Methods and arguments are named as nnInteractive's and
    mean the same, but for these differences:

    - A box says what the target is: one a target, positive, before or after the points. It may be
      3-D: then its range of slices, along z, is taken as exact, and in y and x as the extent of
      the target in the middle slice.
    - A point is one voxel. It always ends on its own side. With a mask to correct, everything
      that no point contradicts stays as it is.
    - What a prediction returns are the tight bounds of the voxels that it changed.
    - There are no scribbles, no lassos, no `override_capability_checks` and no zooming.
    - Coordinates outside of the image are an error; a box that is partly outside is clipped.

    A slice is encoded once, however many prompts and targets need it, and not again for an image
    with the same content, as far as `Settings.cache_mb` goes. In an image that is larger than
    `Settings.crop_voxels`, targets far from each other are cropped, and so encoded, by themselves.
    A call that fails or is cancelled leaves everything as it was. A session is used by one thread
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
                so that it takes a little longer.
            observer: is told how every prediction goes; None for nobody.
            progress: called with the slices of a prediction that are done and those planned so
                far, whenever one of them rises.
            cancelled: asked before every batch of slices whether the prediction is not wanted any
                more; then it raises `Cancelled`.

        Raises:
            SegmenterError: no segmenter has that name, or it can't be set up.
            ValueError: `seconds` is not a number.
        """
        if math.isnan(seconds):
            raise ValueError("found nan for the seconds allowed, expected a number")
        if segmenter is None or isinstance(segmenter, str):
            segmenter = segmenters.load(segmenter or segmenters.DEFAULT)
        self._settings = settings
        self._seconds = seconds
        self._observer = observer
        self._progress = progress
        self._cancelled = cancelled
        if not isinstance(cache, EmbeddingCache):
            cache = EmbeddingCache(segmenter, settings.cache_mb * 2**20, cache)
        self._embeddings = cache
        self._volume: PreparedVolume | None = None
        self._target_buffer: Any = None
        self._state = State()
        self._before: State | None = None

    @property
    def target_buffer(self) -> Any:
        """What predictions are written to: the object given to `set_target_buffer`, or None."""
        return self._target_buffer

    @property
    def volume(self) -> PreparedVolume | None:
        """The image and what of it has been prepared so far; None before `set_image`."""
        return self._volume

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
            ValueError: the image isn't 4-D with one channel of numbers, the spacing isn't three
                positive numbers, or the window is none.
        """
        image = np.asarray(image)
        if image.ndim != 4 or image.shape[0] != 1 or image.size == 0:
            raise ValueError(f"found an image of shape {image.shape}, expected (1, z, y, x)")
        if image.dtype.kind not in NUMERIC:
            raise ValueError(f"found an image of {image.dtype}, expected numbers")
        spacing = _numbers((image_properties or {}).get("spacing", (1, 1, 1)), (3,), "spacing")
        if (spacing <= 0).any():
            raise ValueError(f"found the spacing {spacing.tolist()}, expected positive numbers")
        z, y, x = spacing.tolist()
        settings = self._settings
        if (window := (image_properties or {}).get("window")) is not None:
            settings = replace(settings, window=_read_window(window))
        native = image[0].astype(image.dtype.newbyteorder("="), copy=False)
        self._volume = PreparedVolume(native, (z, y, x), self._embeddings, settings)
        self._target_buffer = None
        self._state, self._before = State(), None

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

    def add_bbox_interaction(
        self, bbox_coords: Any, include_interaction: bool, run_prediction: bool = True
    ) -> ArrayBounds | None:
        """Adds the box of the target; the prediction begins anew, from all prompts.

        Args:
            bbox_coords: [[a, b], [c, d], [e, f]], half-open. A box of one voxel along one axis is
                2-D: drawn on one slice, of any plane. One along several axes is taken as drawn on
                the largest of the slices that it may lie on.
            include_interaction: True; negative boxes are not supported.
            run_prediction: whether to predict now, or with a later prompt.

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: there is no image, or no target buffer to write a prediction to.
            ValueError: it isn't a box, or lies outside of the image.
            UnsupportedPromptError: the box is negative, or not the first one, or comes after an
                initial segmentation, which can't be corrected by a box.
        """
        shape = self._get_volume().image.shape
        if not include_interaction:
            raise UnsupportedPromptError("found a negative box")
        prompts = self._state.prompts
        if prompts.box is not None or prompts.slice_box is not None:
            raise UnsupportedPromptError(
                "the target has a box already; correct it with points, or call "
                "reset_interactions() first"
            )
        if self._state.has_initial:
            raise UnsupportedPromptError(
                "the target has an initial segmentation already; correct it with points, or call "
                "reset_interactions() first"
            )
        box = _read_box(bbox_coords, shape)
        if isinstance(box, SliceBox):
            prompts = replace(prompts, slice_box=box)
        else:
            prompts = replace(prompts, box=box)
        return self._advance(replace(self._state, prompts=prompts, corrected=False), run_prediction)

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
        z, y, x = (round(n) for n in _numbers(coordinates, (3,), "coordinates").tolist())
        if not all(0 <= index < size for index, size in zip((z, y, x), shape, strict=True)):
            raise ValueError(f"found the coordinates {[z, y, x]}, expected some inside of {shape}")
        prompts = self._state.prompts
        earlier = tuple(click for click in prompts.clicks if click.voxel != (z, y, x))
        click = Click(z, y, x, positive=bool(include_interaction))
        prompts = replace(prompts, clicks=(*earlier, click))
        return self._advance(replace(self._state, prompts=prompts), run_prediction)

    def add_initial_seg_interaction(
        self, initial_seg: npt.NDArray[Any], run_prediction: bool = False
    ) -> ArrayBounds | None:
        """Begins a target with a segmentation, for points to correct; other prompts are forgotten.

        It is written to the target buffer, if there is one, whether or not a prediction is run:
        without points, there is nothing to correct.

        Args:
            initial_seg: (z, y, x), not 0 inside of the target.
            run_prediction: whether to return what changed.

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
        state = State(mask=mask != 0, corrected=True, has_initial=True)
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
        state = self._predict(self._state)
        changed = self._show(state)
        self._state = state
        return changed

    def choose_scale(self, scale: Scale) -> ArrayBounds | None:
        """Takes a smaller or larger body for what the first click stands in; nothing is predicted.

        nnInteractive's session has no such method. `undo` takes the last choice back, and not the
        click itself after that: only the last step can be.

        Args:
            scale: "tight", "medium" (what was predicted without a segmenter that knows shapes) or
                "large".

        Returns:
            The bounds of what changed in the target buffer; None if nothing did.

        Raises:
            RuntimeError: the target doesn't come from one positive click alone.
            ValueError: there is no such scale.
        """
        found = self._state.found
        if found is None:
            raise RuntimeError("a scale can be chosen after the first prediction from one click")
        if scale not in found.scales:
            expected = ", ".join(found.scales)
            raise ValueError(f"found the scale {scale!r}, expected one of {expected}")
        shape = self._get_volume().image.shape
        mask = found.scales[scale].within(((0, 0, 0), (shape[0], shape[1], shape[2])))
        state = replace(self._state, mask=mask)
        changed = self._show(state)
        self._before, self._state = self._state, state
        return changed

    def add_scribble_interaction(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses scribbles, which are not supported.

        Raises:
            UnsupportedPromptError: always.
        """
        raise UnsupportedPromptError("found a scribble")

    def add_lasso_interaction(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses lassos, which are not supported.

        Raises:
            UnsupportedPromptError: always.
        """
        raise UnsupportedPromptError("found a lasso")

    def reset_interactions(self) -> None:
        """Forgets all prompts and clears the target buffer: the next target begins."""
        self._state, self._before = State(), None
        if self._target_buffer is not None:
            self._target_buffer[...] = 0

    def undo(self) -> bool:
        """Takes back the last prompt, and in the target buffer what came of it.

        Returns:
            Whether there was one to take back: only the last one can be.
        """
        if self._before is None:
            return False
        if self._target_buffer is not None and self._before.mask is not self._state.mask:
            self._show(self._before)
        self._state, self._before = self._before, None
        return True

    def _get_volume(self) -> PreparedVolume:
        if self._volume is None:
            raise RuntimeError("there is no image: call set_image first")
        return self._volume

    def _advance(self, state: State, run_prediction: bool) -> ArrayBounds | None:
        """Goes on to a state that has one more prompt."""
        changed = None
        if run_prediction:
            state = self._predict(state)
            changed = self._show(state)
        else:  # no scale has been made with the new prompt
            state = replace(state, found=None)
        self._before, self._state = self._state, state
        return changed

    def _predict(self, state: State) -> State:
        volume = self._get_volume()
        if self._target_buffer is None:
            raise RuntimeError("there is no target buffer: call set_target_buffer first")
        previous: npt.NDArray[np.uint8] | None = None
        windows: Mapping[int, IntensityWindow] = {}
        if state.corrected and state.mask is not None:
            previous, windows = state.mask.view(np.uint8), state.windows
        case = Case(
            "session",
            volume.image,
            volume.spacing_mm,
            (state.prompts,),
            previous,
            windows=windows,
        )
        budget = Budget(time.monotonic(), self._seconds)
        lifted = lift(case, volume, budget, self._observer, self._progress, self._cancelled)
        mask = lifted.labels.view(np.bool_)
        found = lifted.found.get(1) if len(state.prompts.clicks) == 1 else None
        return replace(state, mask=mask, corrected=True, windows=lifted.windows, found=found)

    def _show(self, state: State) -> ArrayBounds | None:
        """Writes a state's mask to the target buffer; returns the bounds of what changed."""
        buffer = self._target_buffer
        mask = np.zeros(buffer.shape, np.bool_) if state.mask is None else state.mask
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
        return [[a, b] for a, b in zip(*bounds, strict=True)]


def _numbers(values: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[np.float64]:
    """Returns finite numbers of a shape, or raises a ValueError that tells their name."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        expected = " x ".join(str(size) for size in shape)
        raise ValueError(f"found the {name} {values!r}, expected {expected} numbers")
    return numbers


def _read_window(value: Any) -> WindowChoice:
    """Returns the window that a user gives as text, or as level and width."""
    try:
        if isinstance(value, str):
            return parse_window(value)
        level, width = _numbers(value, (2,), "window").tolist()
        return IntensityWindow.of_level(level, width)
    except ValueError as error:
        raise ValueError(f'image_properties, "window": {error}') from error


def _read_box(coordinates: Any, shape: tuple[int, ...]) -> Box | SliceBox:
    """Returns a user's box, clipped to a volume of `shape`; one on a slice where it is thin."""
    low, high = [], []
    for first, past, size in zip(
        *_numbers(coordinates, (3, 2), "box").T.tolist(), shape, strict=True
    ):
        if round(first) >= round(past):
            raise ValueError(f"found the box {coordinates!r}, expected [first, past the last]")
        low.append(max(0, round(first)))
        high.append(min(size, round(past)))
        if low[-1] >= high[-1]:
            raise ValueError(f"found the box {coordinates!r}, expected one inside of {shape}")
    (z0, y0, x0), (z1, y1, x1) = low, high
    thin = [plane for plane in Plane if high[plane.normal] - low[plane.normal] == 1]
    if not thin:
        return Box(z0, z1, (z0 + z1) // 2, y0, y1, x0, x1)
    plane = max(thin, key=lambda one: math.prod(slice_shape(shape, one)))
    return SliceBox(plane, (z0, y0, x0), (z1, y1, x1))

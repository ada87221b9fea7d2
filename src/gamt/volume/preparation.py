"""A volume made ready for a segmenter: normalised, cropped, resampled (paper, 2.1)."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.io.intensities import in_unit, intensity_window, normalise, shift_window, unit_exponent
from gamt.segmenters.base import Segmenter, Tracker
from gamt.settings import Settings, SettingsError
from gamt.volume import geometry
from gamt.volume.cache import EmbeddingCache
from gamt.volume.geometry import Grid, Range
from gamt.volume.scan import Scan
from gamt.windows import IntensityWindow

Shape = tuple[int, int, int]

BESIDE = (0.5, 2.0)
"""Widths of the windows of the first and the third channel, as multiples of the target's own, where
channels show windows (docs/constants.md)."""


def check_settings(settings: Settings, segmenter: Segmenter) -> None:
    """Checks that a segmenter can do what settings ask of it.

    Raises:
        SettingsError: it has no memory and is to walk by one, or takes grey slices alone and is to
            be shown other channels.
    """
    if settings.propagation != "prompts" and not isinstance(segmenter, Tracker):
        raise SettingsError(
            f"setting propagation: found {settings.propagation!r} with the segmenter "
            f"{segmenter.name}, expected prompts, or a segmenter with a memory (Tracker)"
        )
    if settings.channels != "same" and not segmenter.traits.three_channels:
        raise SettingsError(
            f"setting channels: found {settings.channels!r}, expected 'same' with the segmenter "
            f"{segmenter.name}, which takes grey slices alone"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """How a prediction keeps within its limit of memory.

    Attributes:
        settings: those of the volume, with smaller `votes_mb` and `max_grid_voxels` where memory is
            short.
        needed_bytes: what the prediction takes with them, at most.
    """

    settings: Settings
    needed_bytes: int


class PreparedVolume:
    """A volume and what of it was prepared so far: for one case, or for as long as it is in use.

    Attributes:
        exponent: intensities are counted in 2 to the power of this: 0 for all but images of numbers
            too large or too small to be reckoned with (`unit_exponent`).
        image: (z, y, x), any numeric type, in that unit.
        spacing_mm: (z, y, x) in millimetres.
        embeddings: of the segmenter that it is prepared for.
        settings: percentiles and voxel size are taken from here; a window is in that unit.
        limit_bytes: memory that a prediction may take; no limit by default.
        plan: how the latest prediction keeps within it.
        coarser: why the latest prediction had coarser voxels than the settings say, in one line;
            None where it had not.
    """

    def __init__(
        self,
        image: npt.NDArray[Any],
        spacing_mm: tuple[float, float, float],
        embeddings: EmbeddingCache,
        settings: Settings,
    ) -> None:
        """Prepares nothing yet.

        Args:
            image: (z, y, x), any numeric type.
            spacing_mm: (z, y, x) in millimetres.
            embeddings: of the segmenter that it is prepared for.
            settings: percentiles, channels, voxel size and largest grid are taken from here. The
                segmenter can do what they ask of it (`check_settings`).
        """
        self.limit_bytes = math.inf
        self.exponent = unit_exponent(image)
        if self.exponent:
            image = in_unit(image, self.exponent)
            if isinstance(settings.window, IntensityWindow):
                settings = replace(settings, window=shift_window(settings.window, -self.exponent))
        self.plan = Plan(settings, needed_bytes=0)
        self.coarser: str | None = None
        self.image = image
        self.spacing_mm = spacing_mm
        self.embeddings = embeddings
        self.settings = settings
        self._full_window: IntensityWindow | None = None
        self._lock = threading.Lock()
        self._scans: OrderedDict[tuple[Range, IntensityWindow], Scan] = OrderedDict()
        self._on_blocks: tuple[Shape, PreparedVolume] | None = None

    @property
    def full_window(self) -> IntensityWindow:
        """The window that the percentiles of the whole volume make (docs/design.md, 3)."""
        with self._lock:  # it may be found ahead, by another thread
            if self._full_window is None:
                self._full_window = intensity_window(
                    self.image, self.settings.low_percentile, self.settings.high_percentile
                )
            return self._full_window

    @property
    def voxel_mm(self) -> float:
        """Side of a grid voxel, but for grids that would be too large."""
        return self.settings.voxel_mm or min(self.spacing_mm)

    @property
    def latest_scan(self) -> Scan | None:
        """The scan that was asked for last; None before any was."""
        if self._on_blocks is not None:
            return self._on_blocks[1].latest_scan
        return next(reversed(self._scans.values()), None)

    @property
    def scan_bytes(self) -> int:
        """Bytes of the scans that are ready."""
        coarser = 0 if self._on_blocks is None else self._on_blocks[1].scan_bytes
        return coarser + sum(one.nbytes for one in self._scans.values())

    def on_blocks(
        self, blocks: Shape, make_image: Callable[[], npt.NDArray[Any]]
    ) -> "PreparedVolume":
        """Returns the volume on coarser voxels; the last one stays ready.

        Args:
            blocks: how many voxels become one on each axis (z, y, x).
            make_image: makes the coarser image (z, y, x).
        """
        if self._on_blocks is None or self._on_blocks[0] != blocks:
            self._scans.clear()
            z, y, x = (mm * block for mm, block in zip(self.spacing_mm, blocks, strict=True))
            coarse = PreparedVolume(make_image(), (z, y, x), self.embeddings, self.settings)
            self._on_blocks = blocks, coarse
        return self._on_blocks[1]

    def scan(self, crop: Range, window: IntensityWindow) -> Scan:
        """Returns a crop on its grid, seen in a window of intensities, for another target.

        The last ones stay ready, within the limit for one grid.
        """
        key = crop, window
        if key not in self._scans:
            limit = self.plan.settings.max_grid_voxels
            grid = geometry.make_grid(crop, self.spacing_mm, self.voxel_mm, limit)
            self._note_coarser(grid)

            def see(window: IntensityWindow) -> npt.NDArray[np.uint8]:
                return grid.resample(normalise(grid.crop(self.image), window))

            def make_image() -> npt.NDArray[np.uint8]:
                if self.settings.channels != "windows":
                    return see(window)
                narrow, wide = (window.scaled(factor) for factor in BESIDE)
                # Each channel in one piece, for the lifting reads the middle one; filled one by
                # one, they take no more memory than they do in the end and one of them beside.
                channels = np.empty((3, *grid.shape), np.uint8)
                for channel, shown in zip(channels, (narrow, window, wide), strict=True):
                    channel[...] = see(shown)
                return np.moveaxis(channels, 0, -1)

            neighbours = self.settings.channels == "neighbours"
            size = math.prod(grid.shape)
            while (
                self._scans
                and size + sum(math.prod(one.grid.shape) for one in self._scans.values()) > limit
            ):
                self._scans.popitem(last=False)
            self._scans[key] = Scan(make_image, grid, self.embeddings, neighbours)
        self._scans.move_to_end(key)
        self._scans[key].anchors.clear()
        return self._scans[key]

    def _note_coarser(self, grid: Grid) -> None:
        """Says so where a grid is coarser than the settings ask for."""
        wanted = geometry.make_grid((grid.low, grid.high), self.spacing_mm, self.voxel_mm)
        if grid.shape == wanted.shape:
            return
        side_mm = min(
            mm * (raw - 1) / (size - 1)
            for mm, raw, size in zip(self.spacing_mm, grid.raw_shape, grid.shape, strict=True)
            if size > 1
        )
        reason = "max_grid_voxels" if self.plan.settings == self.settings else "for lack of memory"
        self.coarser = (
            f"segmented on a grid of {side_mm:.3g} mm instead of {self.voxel_mm:.3g} mm: {reason}"
        )

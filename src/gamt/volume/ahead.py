"""Which slices are likely to be asked for next, so that they can be encoded while nobody waits."""

from collections.abc import Iterator

from gamt.prompts import ClassPrompts, Click
from gamt.volume.cache import KeyedSlice
from gamt.volume.geometry import Range, crop_range
from gamt.volume.preparation import PreparedVolume
from gamt.volume.windowing import common_window


def slices_before_prompts(volume: PreparedVolume) -> Iterator[KeyedSlice]:
    """Yields slices that a first prompt is likely to need, wherever it lies.

    There are none where the crop or the window of intensities follows the prompts.
    """
    whole = common_crop(volume)
    window = None if whole is None else common_window(volume)
    if whole is not None and window is not None:
        yield from volume.scan(whole, window).ahead(volume.settings.planes)


def slices_after_prediction(volume: PreparedVolume) -> Iterator[KeyedSlice]:
    """Yields slices that a correction of the last prediction is likely to need."""
    if volume.latest_scan is None:
        yield from slices_before_prompts(volume)
    else:
        yield from volume.latest_scan.ahead(volume.settings.planes)


def common_crop(volume: PreparedVolume) -> Range | None:
    """Returns the crop of all targets of a volume; None where it follows their prompts."""
    z, y, x = volume.image.shape
    settings = volume.settings
    side_mm = settings.crop_voxels * volume.voxel_mm
    # Between the crops of targets in two opposite corners lie those of all others.
    corners = {
        crop_range(
            ClassPrompts(1, clicks=(corner,)),
            None,
            (z, y, x),
            volume.spacing_mm,
            side_mm,
            settings.crop_margin,
        )
        for corner in (Click(0, 0, 0, True), Click(z - 1, y - 1, x - 1, True))
    }
    whole = (0, 0, 0), (z, y, x)
    return whole if corners == {whole} else None

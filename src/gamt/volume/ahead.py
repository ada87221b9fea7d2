"""Which slices are likely to be asked for next, so that they can be encoded while nobody waits."""

from gamt.prompts import ClassPrompts, Click
from gamt.volume.geometry import Range, crop_range
from gamt.volume.preparation import PreparedVolume
from gamt.volume.scan import Scan
from gamt.volume.windowing import common_window


def likely_scan(volume: PreparedVolume) -> Scan | None:
    """Returns the scan whose slices a next prompt is likely to need.

    That is the one of the last prediction, which may be corrected. Before any prediction it is the
    one of all targets; None where the crop or the window of intensities follows the prompts.
    """
    if volume.latest_scan is not None:
        return volume.latest_scan
    whole = common_crop(volume)
    window = None if whole is None else common_window(volume)
    return None if whole is None or window is None else volume.scan(whole, window)


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

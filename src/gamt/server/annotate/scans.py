"""What the page is told of a scan: its size, its values, and the windows to see it in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.annotation.grid import page_to_file
from gamt.io.image import Image
from gamt.io.intensities import intensity_window
from gamt.windows import NAMED_WINDOWS, IntensityWindow, WindowChoice

SHOWN_PERCENTILES = (1.0, 99.0)
"""Of the foreground's values, what is between them is told apart at first."""

SAMPLED_VOXELS = 2**20
"""About as many are looked at for these percentiles and for air: with more, neither would differ
much."""

AIR_HU = (-1100, -900)
"""Air in CT, -1000 HU, with its noise. A scan that reaches this low is taken for CT, unless most of
its low values are lower still, as in phase images of MR, some of which reach from -4096 to 4095."""


@dataclass(slots=True, eq=False)
class Entry:
    """An image that can be opened.

    Attributes:
        id: as the page names it.
        name: for people.
        path: of the file, or of the folder of a DICOM series; None for the sample.
        is_sent: whether it is the page's, so that there is no place of the user's beside it.
        sent: what the page has sent in this run, the file or the folder of the files; None once it
            lies beside its unsaved work, to be there as long as that.
    """

    id: str
    name: str
    path: Path | None
    is_sent: bool = False
    sent: Path | None = None


def describe_scan(entry: Entry, image: Image, window: WindowChoice) -> dict[str, Any]:
    """Returns a scan as the page gets it (`Scan` in types.ts), but for where and how it is saved.

    Args:
        entry: of the image.
        image: the scan.
        window: that the segmenter sees it in.
    """
    low, high = _range(image.array)
    is_ct = _is_ct(image.array, low)
    shown = window if isinstance(window, IntensityWindow) else None
    if shown is None:
        shown = NAMED_WINDOWS["soft-tissue"] if is_ct else _usual_window(image.array)
    return {
        "id": entry.id,
        "name": entry.name,
        "shape": image.array.shape[::-1],
        "spacing_mm": image.spacing_mm[::-1],
        "file_voxel": page_to_file(image),
        "range": (low, high),
        "window": {"level": shown.level, "width": shown.width},
        "windows": [
            {"name": name, "level": one.level, "width": one.width}
            for name, one in NAMED_WINDOWS.items()
            if is_ct
        ],
    }


def _is_ct(array: npt.NDArray[Any], low: float) -> bool:
    """Says whether values (z, y, x), of which `low` is the least, are those of CT."""
    if low > AIR_HU[1] or low >= AIR_HU[0]:
        return low <= AIR_HU[1]
    sample = _sample(array)
    # The least is left out: files of CT have one value of that kind where the scanner saw nothing.
    is_low = (low < sample) & (sample <= AIR_HU[1])
    is_air = is_low & (sample >= AIR_HU[0])
    return bool(2 * is_air.sum() >= is_low.sum())


def _sample(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns every so many voxels along each axis, so that they are no more than needed."""
    step = max(1, round((array.size / SAMPLED_VOXELS) ** (1 / 3)))
    return array[::step, ::step, ::step]


def _range(array: npt.NDArray[Any]) -> tuple[float, float]:
    """Returns the least and the largest finite value; 0 and 0 where there is none."""
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        finite = array[np.isfinite(array)]
        if finite.size == 0:
            return 0.0, 0.0
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def _usual_window(array: npt.NDArray[Any]) -> IntensityWindow:
    """Returns a window that tells most values of the foreground apart; of width 1 or more."""
    found = intensity_window(_sample(array), *SHOWN_PERCENTILES)
    if found.low < found.high:
        return found
    return IntensityWindow(found.low - 0.5, found.high + 0.5)

"""Windows of intensities: which values of an image become black and which white."""

import math
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple


class IntensityWindow(NamedTuple):
    """The intensities that become 0 and 255; what lies outside is clipped to them.

    Radiology says the same by level and width: the middle, and the difference.

    Attributes:
        low: becomes 0, in the image's own units (Hounsfield units in CT).
        high: becomes 255. Equal to `low` in an image without contrast, and above it in any other.
    """

    low: float
    high: float

    @classmethod
    def of_level(cls, level: float, width: float) -> "IntensityWindow":
        """Makes a window of its level and width, both in the image's own units.

        Raises:
            ValueError: they or the bounds are not finite, or the width isn't above 0, or vanishes
                beside the level.
        """
        low, high = level - width / 2, level + width / 2
        is_finite = math.isfinite(low) and math.isfinite(high)
        if not (is_finite and low < high and math.isclose(high - low, width, rel_tol=0.01)):
            found = f"level {level:g}, width {width:g}"
            raise ValueError(
                f"found {found}, expected finite numbers, the width above 0 and not lost in "
                "rounding beside the level"
            )
        return cls(low, high)

    @property
    def level(self) -> float:
        """The intensity in the middle."""
        return self.low / 2 + self.high / 2

    @property
    def width(self) -> float:
        """The difference between what becomes white and what becomes black; 0 or more, finite."""
        return min(self.high - self.low, sys.float_info.max)

    def scaled(self, factor: float) -> "IntensityWindow":
        """Returns the window of the same level that is `factor` times as wide."""
        half = self.width / 2 * factor
        return IntensityWindow(self.level - half, self.level + half)

    def describe(self) -> str:
        """Returns it in words, such as "level 40, width 400"."""
        return f"level {show_intensity(self.level)}, width {show_intensity(self.width)}"

    def __str__(self) -> str:
        """Returns it as `parse_window` reads it, such as "40,400"."""
        return f"{self.level:g},{self.width:g}"


WindowChoice = Literal["auto", "full"] | IntensityWindow
"""A window, or how to find it: "auto" around each target's first prompt, "full" from all voxels."""

NAMED_WINDOWS: Mapping[str, IntensityWindow] = MappingProxyType(
    {
        "soft-tissue": IntensityWindow.of_level(40, 400),
        "lung": IntensityWindow.of_level(-600, 1500),
        "bone": IntensityWindow.of_level(400, 1800),
        "brain": IntensityWindow.of_level(40, 80),
    }
)
"""Windows for CT, in Hounsfield units: the usual ones of reading rooms (docs/constants.md)."""

EXPECTED = f"auto, full, {', '.join(NAMED_WINDOWS)}, or LEVEL,WIDTH with a width above 0"
"""What `parse_window` reads, for errors."""


def parse_window(text: str) -> WindowChoice:
    """Reads a window as a user writes it: `auto`, `full`, a name, or `LEVEL,WIDTH`.

    Raises:
        ValueError: it is none of these, or the numbers are no window.
    """
    name = text.strip().lower()
    if name in ("auto", "full"):
        return "auto" if name == "auto" else "full"
    if name in NAMED_WINDOWS:
        return NAMED_WINDOWS[name]
    try:
        level, width = (float(part) for part in name.split(","))
        return IntensityWindow.of_level(level, width)
    except ValueError:
        raise ValueError(f"found {text!r}, expected {EXPECTED}") from None


def show_intensity(value: float) -> str:
    """Returns an intensity as text, to four digits, such as "21030" or "0.5125"."""
    rounded = float(f"{value:.4g}")
    return f"{rounded if math.isfinite(rounded) else value:.15g}"

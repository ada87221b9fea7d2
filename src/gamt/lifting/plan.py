"""How much memory a case takes, planned before it is taken (docs/security.md, "Memory and time").

The figures are upper estimates of what was measured with the embedded segmenter, to which
`python -m benchmarks.memory` holds them. What a network computes with is beside them, in the fifth
of the memory that is left free.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from gamt.lifting.fusion import Votes
from gamt.memory import available_bytes
from gamt.settings import Settings
from gamt.volume.geometry import Range, make_grid
from gamt.volume.preparation import Plan, PreparedVolume

FIXED_BYTES = 2**26
"""What every case takes, however small it is (docs/constants.md)."""

SCAN_BYTES = 6
"""For each voxel of the scan: labels, scores, masks of classes (docs/constants.md)."""

SEARCH_BYTES = 18
"""For each voxel of the scan, where the body of a click or scribble is looked for: it may fill the
scan (docs/constants.md)."""

FULL_WINDOW_COPIES = 3
"""Of all intensities, where the window of the whole scan is found (docs/constants.md)."""

CLASS_BYTES = 6
"""For each voxel of a class's region, beside its votes, as long as it is at work
(docs/constants.md)."""

REGION_BYTES = 24
"""For each voxel of the largest region: what a step makes of it (docs/constants.md)."""

GRID_BYTES = 3
"""For each voxel of a grid, with what is in between while it is made (docs/constants.md)."""

WINDOWS_BYTES = 2
"""As many more where channels show three windows: an image for each (docs/constants.md)."""

GRID_SHARE = 0.25
"""A grid gets coarser before the scan's voxels do, but for less than this share of the memory
(docs/constants.md)."""

CACHE_SHARE = 0.25
"""Of the memory that can be had, encoded slices get no more than this (docs/constants.md)."""

PLANNED_SHARE = 0.8
"""Of the memory that can be had, this much is planned with (docs/constants.md)."""


class OverLimitError(MemoryError):
    """A case takes more memory than there is.

    Attributes:
        needed_bytes: how much it takes.
        limit_bytes: how much there is.
    """

    def __init__(self, needed_bytes: int, limit_bytes: int) -> None:
        """Says so in one line."""
        super().__init__(
            f"found that {needed_bytes / 2**20:.0f} MB of memory are needed, expected no more than "
            f"the {limit_bytes / 2**20:.0f} MB that can be had"
        )
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes


def check_scan(volume: PreparedVolume, searches: bool) -> None:
    """Checks that there is memory for what every voxel of a scan needs.

    Args:
        volume: the scan, with its limit.
        searches: whether the body of a click or scribble is looked for.

    Raises:
        OverLimitError: there is not.
    """
    voxel_bytes = SEARCH_BYTES if searches else SCAN_BYTES
    if volume.settings.window == "full":
        voxel_bytes = max(voxel_bytes, 2 + FULL_WINDOW_COPIES * volume.image.itemsize)
    needed = FIXED_BYTES + volume.image.size * voxel_bytes
    if needed > volume.limit_bytes:
        raise OverLimitError(needed, int(volume.limit_bytes))


def make_plan(volume: PreparedVolume, groups: Sequence[tuple[Range, Sequence[Range]]]) -> Plan:
    """Plans the work on a scan's classes within its limit.

    Where memory is short, classes are segmented one by one, and then the grid gets coarser.

    Args:
        volume: the scan, with its settings and its limit.
        groups: the crops, and the regions of the classes in each.

    Raises:
        OverLimitError: there is not enough memory even so.
    """
    settings, limit = volume.settings, volume.limit_bytes
    most = settings.max_grid_voxels
    grids = [make_grid(crop, volume.spacing_mm, volume.voxel_mm, most) for crop, _ in groups]
    voxel_bytes = GRID_BYTES + WINDOWS_BYTES * (settings.channels == "windows")
    grid_bytes = voxel_bytes * min(most, sum(math.prod(one.shape) for one in grids))
    needed = working_bytes(volume, groups, settings.votes_mb) + grid_bytes
    if needed <= limit:
        return Plan(settings, needed)
    working = working_bytes(volume, groups, votes_mb=0)
    room = int(limit - working)
    if room < min(grid_bytes, GRID_SHARE * limit):
        raise OverLimitError(working + grid_bytes, int(limit))
    alone = replace(settings, votes_mb=0, max_grid_voxels=min(most, room // voxel_bytes))
    return Plan(alone, working + min(grid_bytes, room))


def working_bytes(
    volume: PreparedVolume, groups: Sequence[tuple[Range, Sequence[Range]]], votes_mb: int
) -> int:
    """Returns what a case takes beside its image and its grids, at most.

    Args:
        volume: the scan.
        groups: as for `make_plan`.
        votes_mb: classes are segmented together as long as their votes fit into this, in MB.
    """
    votes_bytes = len(volume.settings.planes) * Votes.BYTES_PER_VOXEL
    largest = at_work = 0
    for _, regions in groups:
        sizes = [math.prod(b - a for a, b in zip(*one, strict=True)) for one in regions]
        largest = max(largest, *sizes)
        at_work = max(at_work, min(sum(sizes), max(*sizes, votes_mb * 2**20 // votes_bytes)))
    return (
        FIXED_BYTES
        + SCAN_BYTES * volume.image.size
        + (votes_bytes + CLASS_BYTES) * at_work
        + REGION_BYTES * largest
    )


def cache_bytes(settings: Settings) -> int:
    """Returns how much encoded slices may take: less than the setting where memory is short."""
    return min(settings.cache_mb * 2**20, int(CACHE_SHARE * available_bytes()))


def limit_bytes(volume: PreparedVolume) -> float:
    """Returns what a prediction may take now, with room for slices that will be encoded.

    What its scans take already counts as free: the plan counts them again.
    """
    encoded = max(0, cache_bytes(volume.settings) - volume.embeddings.total_bytes)
    return PLANNED_SHARE * (available_bytes() - encoded) + volume.scan_bytes

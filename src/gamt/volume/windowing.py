"""Which window of intensities a target is seen in (docs/design.md, 13).

Percentiles of a whole volume are wrong where air, bone or metal take the range: in a CT as it is
stored, 40 HU are three grey levels of 255. So the window follows the target. It is found around
the target's first prompt, which stays, and so does the window over all later clicks, unless a
click shows that the target has intensities outside of it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.axes import bounding_range
from gamt.io.case import Case
from gamt.prompts import Box, ClassPrompts, Click, Scribble, SliceBox
from gamt.volume.geometry import assumed_range
from gamt.volume.preparation import PreparedVolume
from gamt.windows import IntensityWindow, show_intensity

logger = logging.getLogger("gamt")

USUAL = (5, 95)
"""Percentiles between which a place's intensities count as usual there (docs/constants.md)."""

ROOM = 0.5
"""Room on both sides of the intensities that a window has to hold, as a share of their range
(docs/constants.md)."""

RARE = 0.05
"""Share of a target's surroundings below which what is different in them does not count
(docs/constants.md)."""

NEAREST = 25
"""Of the different voxels around a target, this percentage is to be told apart from it: those whose
intensities are nearest (docs/constants.md)."""

NOISE_WIDTH = 16.0
"""A window is at least this many standard deviations of the noise wide (docs/constants.md)."""

NOISE_RANGE = 5.0
"""Where usual intensities lie farther apart than this many standard deviations of the noise, there
is more than one tissue (docs/constants.md)."""

AROUND = 0.1
"""How far a target's surroundings reach on each side, as a share of its extent
(docs/constants.md)."""

FIRST_REACH = 2.0
"""How far the first surroundings of a click reach, in voxels of the finest spacing; doubled until
there is more than one tissue (docs/constants.md)."""

MERGED_WIDTH = 1.5
"""Classes share a window that is at most this many times as wide as the narrowest of theirs
(docs/constants.md)."""

SAMPLED_VOXELS = 2**18
"""Of larger surroundings, about this many voxels are looked at, evenly spread
(docs/constants.md)."""

FEWEST_LEVELS = 5
"""Grey levels below which an image is taken to be blank in a window (docs/constants.md)."""

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""


@np.errstate(over="ignore", invalid="ignore")  # beside numbers as large as floats go
def choose_windows(case: Case, volume: PreparedVolume) -> dict[int, IntensityWindow]:
    """Chooses a window for each class of a case.

    A window that the settings name counts first, then the one that the case's file names. The rest
    is for "auto": a window of an earlier round; the full one for images of 8 bits; or one that is
    found around the class's first prompt. Windows that are nearly the same become one, so that
    their classes share encoded slices. Only in images of more than 8 bits do clicks and scribbles
    widen one.

    Returns:
        The window by label.
    """
    choice = volume.settings.window
    if choice == "auto" and case.window is not None:
        choice = case.window
    if choice == "full":
        return {one.label: volume.full_window for one in case.prompts}
    if choice != "auto":
        _warn_if_blank(case, choice)
        return {one.label: choice for one in case.prompts}
    if case.image.itemsize == 1:
        return {one.label: case.windows.get(one.label, volume.full_window) for one in case.prompts}
    kept, found = {}, {}
    for one in case.prompts:
        if one.label in case.windows:
            kept[one.label] = widen(case.windows[one.label], case.image, one)
        else:
            window = find_window(case, one) or volume.full_window
            found[one.label] = widen(window, case.image, one)
    return kept | merge(found)


def common_window(volume: PreparedVolume) -> IntensityWindow | None:
    """Returns the window in which all targets of a volume are seen; None where it follows them."""
    choice = volume.settings.window
    if choice == "full" or (choice == "auto" and volume.image.itemsize == 1):
        return volume.full_window
    return None if choice == "auto" else choice


def find_window(case: Case, prompts: ClassPrompts) -> IntensityWindow | None:
    """Finds a class's window: around its first prompt, or else around its mask.

    Returns:
        None where there is no contrast, or where next to nothing is known of the class.
    """
    first = prompts.first
    if isinstance(first, Box):
        return window_around(case.image, first.low, first.high)
    if isinstance(first, SliceBox):
        return window_around(case.image, *assumed_range(first, case.spacing_mm))
    if first is None and case.previous is not None:
        bounds = bounding_range(case.previous == prompts.label)
        if bounds is not None:
            return window_around(case.image, *bounds)
    marks: list[Scribble | Click] = [*prompts.scribbles, *prompts.clicks]
    if not marks:
        return None
    mark = first or marks[0]
    voxel = mark.voxel if isinstance(mark, Click) else mark.middle
    return window_at(case.image, voxel, case.spacing_mm)


def window_around(
    image: npt.NDArray[Any], low: Sequence[int], high: Sequence[int]
) -> IntensityWindow | None:
    """Finds the window for a target of which the bounds are known.

    It tells what is usual in the middle of the bounds from what is different around it.

    Args:
        image: (z, y, x), any numeric type; non-finite voxels are ignored.
        low: the target's first voxel (z, y, x).
        high: the voxel just past its last one, on every axis.

    Returns:
        The window, in the image's units; None where all that is looked at is the same.
    """
    bounds = np.array([low, high])
    extent = bounds[1] - bounds[0]
    away = np.array([[-1], [1]])
    around = _sample(image, bounds + away * np.ceil(AROUND * extent))
    inside = _sample(image, bounds - away * (extent // 4))
    return _tell_apart(_percentiles(inside, USUAL), around)


def window_at(
    image: npt.NDArray[Any], voxel: Sequence[int], spacing_mm: Sequence[float]
) -> IntensityWindow | None:
    """Finds the window for a target of which one voxel is known.

    Cubes around the voxel grow until one has more than one tissue. The window tells what is usual
    in the cube before from what is different in this one.

    Args:
        image: (z, y, x), any numeric type; non-finite voxels are ignored.
        voxel: (z, y, x).
        spacing_mm: the voxel's size (z, y, x).

    Returns:
        The window, in the image's units; None where the whole image is the same.
    """
    middle, spacing = np.array(voxel), np.array(spacing_mm)
    reach_mm = FIRST_REACH * spacing.min()
    inside: list[float] = []
    while True:
        reach = np.rint(reach_mm / spacing)
        around = _sample(image, np.array([middle - reach, middle + reach + 1]))
        usual = _percentiles(around, USUAL)
        inside = inside or usual
        is_whole = (middle < reach).all() and (middle + reach >= image.shape).all()
        if is_whole or (usual and usual[1] - usual[0] > NOISE_RANGE * _noise(around)):
            return _tell_apart(inside, around)
        inside = usual
        reach_mm *= 2


def widen(
    window: IntensityWindow, image: npt.NDArray[Any], prompts: ClassPrompts
) -> IntensityWindow:
    """Widens a class's window until it holds what its clicks and scribbles are on, with some room.

    Negative ones don't count: what is clipped differs from the target already.
    """
    low, high = window
    room = window.width * ROOM / (1 + 2 * ROOM)
    held: list[float] = []
    clicked = np.array([one.voxel for one in prompts.clicks if one.positive], np.intp)
    held += _medians_around(image, np.unique(clicked.reshape(-1, 3), axis=0)).tolist()
    for scribble in prompts.scribbles:
        if scribble.positive:
            values = image[tuple(scribble.voxels.T)].astype(np.float64)
            held += _percentiles(values[np.isfinite(values)], USUAL)
    for value in held:
        low = low if value >= window.low else min(low, value - room)
        high = high if value <= window.high else max(high, value + room)
    return IntensityWindow(low, high)


def merge(windows: Mapping[int, IntensityWindow]) -> dict[int, IntensityWindow]:
    """Joins windows, given by label, that are nearly the same."""
    groups: list[list[int]] = []
    for label in windows:
        for group in groups:
            members = [windows[one] for one in (*group, label)]
            if _union(members).width <= MERGED_WIDTH * min(one.width for one in members):
                group.append(label)
                break
        else:
            groups.append([label])
    return {one: _union([windows[n] for n in group]) for group in groups for one in group}


def _warn_if_blank(case: Case, window: IntensityWindow) -> None:
    """Warns in the log of a window that an image has next to no contrast in."""
    values = _sample(case.image, np.array([(0, 0, 0), case.image.shape]))
    known = _percentiles(values, (0, 100))
    if not known or known[0] == known[1]:
        return  # no window would show anything
    low, high = np.clip(known, window.low, window.high)
    if high - low < FEWEST_LEVELS / 255 * window.width:
        logger.warning(
            "%s: the window %s shows the whole image, whose values are %s to %s, in fewer than "
            "%d of 255 grey levels",
            case.name,
            window.describe(),
            *map(show_intensity, known),
            FEWEST_LEVELS,
        )


def _union(windows: Sequence[IntensityWindow]) -> IntensityWindow:
    return IntensityWindow(min(one.low for one in windows), max(one.high for one in windows))


def _tell_apart(inside: Sequence[float], around: npt.NDArray[np.float64]) -> IntensityWindow | None:
    """Returns the window that holds a target's intensities and the nearest different ones.

    What is still farther from the target's, such as the air beside a liver, is clipped: it would
    take the range, and differs from the target anyway.

    Args:
        inside: the lowest and the highest usual intensity of the target; none where not known.
        around: (z, y, x) intensities in and around the target, NaN where not known.

    Returns:
        None where there is no contrast.
    """
    if not inside:
        return None
    low, high = inside
    noise = _noise(around)
    away = np.maximum(low - around, around - high)
    is_different = away > noise
    if is_different.mean() > RARE:
        reach = np.percentile(away[is_different], NEAREST)
        nearest = around[is_different & (away <= reach)]
        low, high = min(low, nearest.min()), max(high, nearest.max())
    room = max(ROOM * (high - low), (NOISE_WIDTH * noise - (high - low)) / 2)
    return IntensityWindow(float(low - room), float(high + room)) if 0 < room < np.inf else None


def _sample(image: npt.NDArray[Any], bounds: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns an image's voxels between bounds (low, high), (2, 3), as far as they are inside.

    Returns:
        (z, y, x), NaN for voxels that are not finite; coarser where there are many.
    """
    low, high = np.clip(bounds, 0, image.shape).astype(int)
    step = max(1, math.ceil((math.prod(high - low) / SAMPLED_VOXELS) ** (1 / 3)))
    where = tuple(slice(a, b, step) for a, b in zip(low, high, strict=True))
    values = image[where].astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _percentiles(values: npt.NDArray[np.float64], which: Sequence[float]) -> list[float]:
    """Returns percentiles of the values that are not NaN; none where all are."""
    known = values[~np.isnan(values)]
    return np.percentile(known, which).tolist() if known.size else []


def _medians_around(
    image: npt.NDArray[Any], voxels: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Returns the median of the finite intensities among each voxel and its 26 neighbours.

    Args:
        image: (z, y, x), any numeric type.
        voxels: (N, 3) in the order (z, y, x).

    Returns:
        (M,) with M <= N, in no order; none for voxels with no finite intensity around.
    """
    places = voxels[:, None] + np.indices((3, 3, 3)).reshape(3, 27).T - 1
    inside = ((places >= 0) & (places < image.shape)).all(axis=-1)
    values = image[tuple(np.where(inside[..., None], places, 0).T)].T.astype(np.float64)
    values[~(inside & np.isfinite(values))] = np.nan
    values.sort(axis=1)  # NaN comes last
    known = np.count_nonzero(~np.isnan(values), axis=1)
    medians = [
        np.percentile(values[known == count, :count], 50, axis=1)
        for count in np.unique(known[known > 0]).tolist()
    ]
    return np.concatenate([np.empty(0), *medians])


def _noise(values: npt.NDArray[np.float64]) -> float:
    """Estimates the standard deviation of the noise in values (z, y, x); 0 where none are known.

    Most neighbours are of the same tissue, so that their median difference is noise alone. It is
    the axis with the least that counts: across thick slices there is an edge nearly everywhere.
    """
    differences = [np.abs(np.diff(values, axis=axis)) for axis in range(3)]
    medians = [median for one in differences for median in _percentiles(one, (50,))]
    return min(medians, default=0.0) * MAD_TO_SD / math.sqrt(2)

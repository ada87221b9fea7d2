"""Memory is planned: first fewer classes at a time, then a coarser grid, then an error."""

from dataclasses import replace

import numpy as np
import pytest

from gamt.lifting import plan
from gamt.lifting.plan import (
    CLASS_BYTES,
    FIXED_BYTES,
    GRID_BYTES,
    REGION_BYTES,
    SCAN_BYTES,
    OverLimitError,
    cache_bytes,
    check_scan,
    limit_bytes,
    make_plan,
)
from gamt.settings import PRESETS
from gamt.volume.cache import EmbeddingCache
from gamt.volume.geometry import Range, make_grid
from gamt.volume.preparation import PreparedVolume
from gamt.windows import IntensityWindow
from tests.doubles import Thresholder, Viewer

MB = 2**20
WHOLE: Range = ((0, 0, 0), (10, 40, 50))
VOXELS = 10 * 40 * 50
FOR_A_CLASS = VOXELS * (3 * 9 + CLASS_BYTES)  # three planes' votes, and what goes with them
FOR_ONE = FIXED_BYTES + VOXELS * (SCAN_BYTES + REGION_BYTES) + FOR_A_CLASS
"""What a class that fills the scan takes beside the grid."""

GRID = 37 * 40 * 50
"""Voxels of the grid of 1 mm: 9 steps of 4 mm are 36."""


def prepare(limit: float, spacing_mm: tuple[float, float, float] = (4, 1, 1)) -> PreparedVolume:
    image = np.zeros(WHOLE[1], np.int16)
    cache = EmbeddingCache(Thresholder(), MB)
    volume = PreparedVolume(image, spacing_mm, cache, PRESETS["default"])
    volume.limit_bytes = limit
    return volume


def test_where_all_fits_nothing_is_changed() -> None:
    enough = FOR_ONE + FOR_A_CLASS + GRID * GRID_BYTES
    volume = prepare(enough)
    planned = make_plan(volume, [(WHOLE, [WHOLE, WHOLE])])
    assert planned.settings == volume.settings
    assert planned.needed_bytes == enough


def test_classes_that_do_not_fit_together_are_segmented_one_by_one() -> None:
    volume = prepare(FOR_ONE + FOR_A_CLASS + GRID * GRID_BYTES - 1)
    planned = make_plan(volume, [(WHOLE, [WHOLE, WHOLE])])
    assert planned.settings.votes_mb == 0
    assert make_grid(
        WHOLE, volume.spacing_mm, max_voxels=planned.settings.max_grid_voxels
    ) == make_grid(WHOLE, volume.spacing_mm)


def test_where_one_class_does_not_fit_the_grid_gets_coarser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "GRID_SHARE", 0.0)
    volume = prepare(FOR_ONE + GRID * GRID_BYTES / 2)
    planned = make_plan(volume, [(WHOLE, [WHOLE])])
    assert planned.settings.max_grid_voxels == GRID / 2
    assert planned.needed_bytes <= volume.limit_bytes


def test_the_error_says_what_is_needed_and_what_there_is() -> None:
    volume = prepare(FOR_ONE)
    needed = FOR_ONE + GRID * GRID_BYTES
    expected = rf"found that {needed / MB:.0f} MB .* than the {FOR_ONE / MB:.0f} MB that can be had"
    with pytest.raises(OverLimitError, match=expected):
        make_plan(volume, [(WHOLE, [WHOLE])])


def test_a_body_that_is_looked_for_may_fill_the_scan() -> None:
    volume = prepare(FIXED_BYTES + VOXELS * SCAN_BYTES)
    check_scan(volume, searches=False)
    with pytest.raises(OverLimitError):
        check_scan(volume, searches=True)


def test_a_window_of_the_whole_scan_takes_copies_of_it() -> None:
    # Of two bytes a voxel there are three copies, and two masks.
    volume = prepare(FIXED_BYTES + VOXELS * 8 - 1)
    check_scan(volume, searches=False)
    volume.settings = replace(volume.settings, window="full")
    with pytest.raises(OverLimitError):
        check_scan(volume, searches=False)


def test_three_windows_are_three_images_on_the_grid() -> None:
    # Two more bytes a voxel of the grid: that of the plan and that of the scan.
    image, groups = np.zeros(WHOLE[1], np.int16), [(WHOLE, [WHOLE])]
    needed = {}
    for channels in ("same", "neighbours", "windows"):
        settings = replace(PRESETS["default"], channels=channels)
        volume = PreparedVolume(image, (4, 1, 1), EmbeddingCache(Viewer(), MB), settings)
        needed[channels] = make_plan(volume, groups).needed_bytes
        assert volume.scan(WHOLE, IntensityWindow(0, 1)).image.size == GRID
        assert volume.scan_bytes == (3 if channels == "windows" else 1) * GRID
    assert needed["neighbours"] == needed["same"]
    assert needed["windows"] == needed["same"] + 2 * GRID


def test_a_scan_that_is_ready_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "available_bytes", lambda: 400 * MB)
    volume = prepare(0)
    before = limit_bytes(volume)
    assert volume.scan(WHOLE, IntensityWindow(0, 1)).image.size == GRID
    assert limit_bytes(volume) == before + GRID


def test_encoded_slices_get_less_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(PRESETS["default"], cache_mb=100)
    monkeypatch.setattr(plan, "available_bytes", lambda: 400 * MB)
    assert cache_bytes(settings) == 100 * MB
    monkeypatch.setattr(plan, "available_bytes", lambda: 200 * MB)
    assert cache_bytes(settings) == 50 * MB


def test_a_prediction_leaves_room_for_slices_that_it_will_encode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of 400 MB, a quarter is for encoded slices, and a fifth of the rest stays free.
    monkeypatch.setattr(plan, "available_bytes", lambda: 400 * MB)
    assert limit_bytes(prepare(0)) == pytest.approx(240 * MB)

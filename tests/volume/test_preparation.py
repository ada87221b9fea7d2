"""What is made of a volume is made once, and nobody waits for what is made of another one."""

import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane
from gamt.lifting.plan import GRID_BYTES, WINDOWS_BYTES
from gamt.prompts import SlicePrompt
from gamt.settings import Channels, Settings, SettingsError
from gamt.volume import preparation
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume, check_settings
from gamt.volume.scan import Scan, SliceRequest
from gamt.windows import IntensityWindow
from tests.doubles import Follower, Thresholder, Viewer

SECONDS = 60
"""After which a test fails that waits for something."""

SHAPE = (3, 4, 5)


def prepare(value: int) -> PreparedVolume:
    """Returns a volume of which all voxels have a value, but for one that is 0."""
    image = np.full(SHAPE, value, np.int16)
    image[0, 0, 0] = 0
    settings = Settings(low_percentile=0, high_percentile=100)
    return PreparedVolume(image, (1, 1, 1), EmbeddingCache(Thresholder(), 2**20), settings)


def window_of(volume: PreparedVolume) -> Any:
    return volume.full_window


def image_of(volume: PreparedVolume) -> Any:
    return volume.scan(((0, 0, 0), SHAPE), IntensityWindow(0, 100)).image


@pytest.mark.parametrize(
    ("make", "step"), [(window_of, "intensity_window"), (image_of, "normalise")]
)
def test_what_is_made_of_one_volume_does_not_wait_for_another(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[PreparedVolume], Any], step: str
) -> None:
    reached, through = threading.Event(), threading.Event()
    usual = getattr(preparation, step)

    def work(image: npt.NDArray[Any], *arguments: Any) -> Any:
        if image.max() == 1:  # the slow volume's
            reached.set()
            assert through.wait(SECONDS)
        return usual(image, *arguments)

    monkeypatch.setattr(preparation, step, work)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(make, prepare(1))
        assert reached.wait(SECONDS)
        try:
            pool.submit(make, prepare(2)).result(SECONDS / 2)
            assert not slow.done()
        finally:
            through.set()


def test_threads_that_ask_for_the_same_window_have_it_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[IntensityWindow] = []
    begun = threading.Barrier(2)

    def work(*_: Any) -> IntensityWindow:
        made.append(IntensityWindow(0, 1))
        time.sleep(0.1)  # time enough for the other one to begin, too
        return made[-1]

    monkeypatch.setattr(preparation, "intensity_window", work)
    volume = prepare(1)

    def ask() -> IntensityWindow:
        begun.wait(SECONDS)
        return volume.full_window

    with ThreadPoolExecutor(2) as pool:
        found = [one.result(SECONDS) for one in [pool.submit(ask), pool.submit(ask)]]
    assert len(made) == 1
    assert found == made * 2


def ramp(channels: Channels) -> tuple[Scan, Viewer]:
    """Returns slices of 0, 10, 20 and 30, seen in the window from 10 to 20, and who sees them."""
    image = np.repeat(np.array([0, 10, 20, 30], np.int16), 20).reshape(4, 4, 5)
    viewer = Viewer()
    settings = Settings(channels=channels)
    volume = PreparedVolume(image, (1, 1, 1), EmbeddingCache(viewer, 2**20), settings)
    return volume.scan(((0, 0, 0), (4, 4, 5)), IntensityWindow(10, 20)), viewer


@pytest.mark.parametrize(
    ("channels", "shown"),
    [
        # The slice of 20 is white in its window; 10 before it is black; 30 after it is clipped.
        ("neighbours", (0, 255, 255)),
        # The windows from 12.5 to 17.5, 10 to 20, and 5 to 25: (20 - 5) / 20 * 255 = 191.25.
        ("windows", (255, 255, 191)),
    ],
)
def test_channels_show_what_the_setting_says(
    channels: Channels, shown: tuple[int, int, int]
) -> None:
    scan, viewer = ramp(channels)
    scan.decode([SliceRequest(Plane.AXIAL, 2, SlicePrompt((0, 0, 5, 4)))])
    (pixels,) = viewer.slices
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.array(shown, np.uint8), (4, 5, 3)))
    # What the lifting sees does not depend on it.
    np.testing.assert_array_equal(scan.image[:, 0, 0], [0, 0, 255, 255])
    assert scan.image.flags.c_contiguous


def test_a_segmenter_without_a_memory_cannot_walk_by_one() -> None:
    check_settings(Settings(), Thresholder())
    check_settings(Settings(propagation="both"), Follower())
    with pytest.raises(
        SettingsError,
        match="setting propagation: found 'memory' with the segmenter double, expected prompts",
    ):
        check_settings(Settings(propagation="memory"), Thresholder())


def test_three_windows_take_at_no_time_more_than_is_planned() -> None:
    shape = (40, 120, 130)
    image, most = np.zeros(shape, np.uint8), {}
    for channels in ("same", "windows"):
        settings = Settings(channels=channels)
        volume = PreparedVolume(image, (1, 1, 1), EmbeddingCache(Viewer(), 2**20), settings)
        scan = volume.scan(((0, 0, 0), shape), IntensityWindow(0, 1))
        tracemalloc.start()
        try:
            assert scan.image.size == image.size
            most[channels] = tracemalloc.get_traced_memory()[1] / image.size
        finally:
            tracemalloc.stop()
    assert most["same"] <= GRID_BYTES
    assert most["windows"] <= GRID_BYTES + WINDOWS_BYTES


def test_a_segmenter_of_grey_slices_is_refused_other_channels() -> None:
    expected = (
        "setting channels: found 'windows', expected 'same' with the segmenter double, which takes "
        "grey slices alone"
    )
    check_settings(Settings(channels="windows"), Viewer())
    with pytest.raises(SettingsError, match=f"^{expected}$"):
        check_settings(Settings(channels="windows"), Thresholder())

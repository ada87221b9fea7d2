"""The window that a target is seen in, on drawn scans whose right window can be told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane
from gamt.io.case import Case, read_case
from gamt.io.intensities import intensity_window
from gamt.prompts import Box, ClassPrompts, Click, Scribble, SliceBox
from gamt.segmenters import load
from gamt.settings import Settings
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume
from gamt.volume.windowing import choose_windows, merge, widen, window_around, window_at
from gamt.windows import IntensityWindow
from tests.doubles import make_case

SHAPE = (40, 48, 56)
LOW, HIGH = (16, 20, 24), (24, 28, 32)
"""Bounds of the drawn target, in all three axes 8 voxels long."""

INSIDE = (20, 24, 28)
BOX = Box(LOW[0], HIGH[0], INSIDE[0], LOW[1], HIGH[1], LOW[2], HIGH[2])


def scan(
    target: float = 100, organ: float = 60, air: float = -1000, noise: float = 0
) -> npt.NDArray[np.float64]:
    """Draws a target into an organ that is larger by 6 voxels on each side, in air."""
    image = np.full(SHAPE, float(air))
    image[10:30, 14:34, 18:38] = organ
    image[16:24, 20:28, 24:32] = target
    return image + np.random.default_rng(3).normal(0, noise, SHAPE) if noise else image


def windows(
    image: npt.NDArray[Any], *prompts: ClassPrompts, settings: Settings | None = None, **known: Any
) -> dict[int, IntensityWindow]:
    case = replace(make_case(image, *prompts), **known)
    return choose_windows(case, prepared(case, settings or Settings()))


def prepared(case: Case, settings: Settings) -> PreparedVolume:
    embeddings = EmbeddingCache(load("statistical"), 0)
    return PreparedVolume(case.image, case.spacing_mm, embeddings, settings)


def click(z: int, y: int, x: int, positive: bool = True) -> Click:
    return Click(z, y, x, positive)


def test_a_box_sees_its_target_and_what_is_around_and_clips_the_rest() -> None:
    # Inside is 100; in the box and a tenth more on each side, what is different is 60. With half
    # of these 40 on both sides: 40..120. The air is farther away.
    assert window_around(scan(), LOW, HIGH) == (40, 120)


def test_a_click_sees_the_smallest_surroundings_with_two_tissues() -> None:
    # Within 2 voxels of the click there is the target alone; within 4, also the organ.
    assert window_at(scan(), INSIDE, (1, 1, 1)) == (40, 120)


def test_a_clicks_surroundings_are_as_wide_on_all_axes_in_millimetres() -> None:
    # Slices of 10 mm: the next one, bright in the middle, is farther away than the organ's edge.
    image = scan()
    image[[19, 21]] = 3000
    assert window_at(image, INSIDE, (10, 1, 1)) == (40, 120)


@pytest.mark.parametrize("noise", [5, 15])
def test_metal_changes_nearly_nothing(noise: float) -> None:
    clean = scan(noise=noise)
    metal = np.where(np.random.default_rng(4).random(SHAPE) < 0.008, 20000, clean)
    for found, expected in (
        (window_around(metal, LOW, HIGH), window_around(clean, LOW, HIGH)),
        (window_at(metal, INSIDE, (1, 1, 1)), window_at(clean, INSIDE, (1, 1, 1))),
    ):
        assert found is not None
        assert expected is not None
        assert np.abs(np.subtract(found, expected)).max() < 0.05 * expected.width


@pytest.mark.parametrize("contrast", [40, -40, 100])
def test_a_lesions_contrast_is_many_grey_levels(contrast: float) -> None:
    # In the window of the whole volume, 1100 to 1160 HU wide, 40 HU are 9 levels of 255.
    image = scan(target=60 + contrast, noise=12)
    for window in (window_around(image, LOW, HIGH), window_at(image, INSIDE, (1, 1, 1))):
        assert window is not None
        assert abs(contrast) * 255 / window.width > 40
        assert window.low < 60 < window.high
        assert window.low < 60 + contrast < window.high


def test_air_beside_an_organ_is_clipped() -> None:
    # Of the 10 layers around the target in y, 6 are air: most of what is different.
    image = scan()
    image[:, 23:] = -1000
    image[16:24, 20:28, 24:32] = 100
    different = image[15:25, 19:29, 23:33]
    assert (different == -1000).sum() > (different == 60).sum()
    assert window_around(image, LOW, HIGH) == (40, 120)
    # A nodule in a lung has nothing else around.
    assert window_around(scan(target=0, organ=-850), LOW, HIGH) == (-1275, 425)


def test_the_noise_of_a_flat_place_is_not_blown_up() -> None:
    # 16 standard deviations of 10 fill the window: half of the noise's range is below 10 levels.
    image = np.random.default_rng(5).normal(50, 10, SHAPE)
    for window in (window_around(image, LOW, HIGH), window_at(image, INSIDE, (1, 1, 1))):
        assert window is not None
        assert window.width == pytest.approx(160, rel=0.2)
        assert window.level == pytest.approx(50, abs=5)


@pytest.mark.parametrize(("factor", "offset"), [(1 / 2048, 0.5), (1.0, -5000.0), (64.0, 0.0)])
def test_the_window_follows_the_images_units(factor: float, offset: float) -> None:
    image = scan(noise=8)
    other = factor * image + offset
    for found, before in (
        (window_around(other, LOW, HIGH), window_around(image, LOW, HIGH)),
        (window_at(other, INSIDE, (1, 1, 1)), window_at(image, INSIDE, (1, 1, 1))),
    ):
        assert before is not None
        assert found == pytest.approx([factor * value + offset for value in before])


def test_voxels_that_are_not_finite_do_not_count() -> None:
    image = scan()
    image[17, 21, 25:31] = [np.nan, np.inf, -np.inf, np.nan, np.inf, -np.inf]
    image[INSIDE] = np.nan
    assert window_around(image, LOW, HIGH) == (40, 120)
    assert window_at(image, INSIDE, (1, 1, 1)) == (40, 120)


@pytest.mark.parametrize("value", [7, np.nan])
def test_without_contrast_there_is_no_window_but_the_full_one(value: float) -> None:
    image = np.full(SHAPE, value)
    assert window_around(image, LOW, HIGH) is None
    assert window_at(image, INSIDE, (1, 1, 1)) is None
    for prompts in (ClassPrompts(1, BOX), ClassPrompts(1, clicks=(click(*INSIDE),))):
        assert windows(image, prompts)[1].width == 0


def test_bounds_at_the_volumes_corner_are_enough() -> None:
    image = np.full(SHAPE, 60.0)
    image[:3, :3, :3] = 100
    # Around, 4^3 voxels: 27 of 64 are 100.
    assert window_around(image, (0, 0, 0), (3, 3, 3)) == (40, 120)
    assert window_at(image, (0, 0, 0), (1, 1, 1)) == (40, 120)


def test_a_box_on_one_slice_is_about_a_target_as_long_as_it_is_wide() -> None:
    box = SliceBox(Plane.CORONAL, (16, 24, 24), (24, 25, 32))
    assert windows(scan(), ClassPrompts(1, slice_box=box)) == {1: (40, 120)}


def test_the_first_positive_click_counts_rather_than_the_mask_that_changes() -> None:
    previous = np.ones(SHAPE, np.uint8)
    clicks = (click(2, 2, 2, positive=False), click(*INSIDE), click(2, 2, 2, positive=False))
    prompts = ClassPrompts(1, clicks=clicks)
    assert windows(scan(), prompts, previous=previous) == {1: (40, 120)}


def test_images_of_8_bits_keep_an_earlier_window_as_it_is() -> None:
    image = scan(air=0).astype(np.uint8)
    earlier = IntensityWindow(50, 70)
    # The click is on 100, beyond the earlier window. The full one spans the foreground, 60 to 100.
    beyond = ClassPrompts(1, clicks=(click(*INSIDE),))
    found = windows(image, beyond, ClassPrompts(2, BOX), windows={1: earlier})
    assert found == {1: earlier, 2: (60, 100)}


def test_an_earlier_mask_says_where_a_target_is_that_only_negative_clicks_are_about() -> None:
    previous = np.zeros(SHAPE, np.uint8)
    previous[16:24, 20:28, 24:32] = 1
    prompts = ClassPrompts(1, clicks=(click(2, 2, 2, positive=False),))
    assert windows(scan(), prompts, previous=previous) == {1: (40, 120)}


def test_of_a_lone_negative_click_the_surroundings_are_seen() -> None:
    # In air all around: the cube that reaches the organ holds 60 as well.
    window = windows(scan(), ClassPrompts(1, clicks=(click(5, 5, 5, positive=False),)))[1]
    assert window.low < -1000
    assert window.high > 60


def test_a_window_of_an_earlier_round_stays() -> None:
    earlier = IntensityWindow(0, 200)
    assert windows(scan(), ClassPrompts(1, BOX), windows={1: earlier}) == {1: earlier}


def test_a_positive_click_outside_of_a_window_widens_it_and_a_negative_one_does_not() -> None:
    image = scan()
    image[2:6, 2:6, 2:6] = 900
    window = IntensityWindow(40, 120)
    outside = ClassPrompts(1, BOX, (click(4, 4, 4, positive=False), click(*INSIDE)))
    assert widen(window, image, outside) == window
    # With the window's own room, 20.
    assert widen(window, image, ClassPrompts(1, BOX, (click(4, 4, 4),))) == (40, 920)
    assert widen(window, image, ClassPrompts(1, BOX, (click(35, 4, 4),))) == (-1020, 120)


def test_what_is_around_clicks_counts_as_far_as_it_is_known() -> None:
    # Around the corner's voxel there are seven more, of which two are known: the median of 300,
    # 500 and 700. One whose surroundings aren't known at all says nothing.
    image = scan()
    image[:2, :2, :2] = np.nan
    image[0, 0, :2], image[1, 1, 1] = (300, 500), 700
    image[34:37, 3:6, 3:6] = np.inf
    window = IntensityWindow(40, 120)
    clicks = (click(35, 4, 4), click(0, 0, 0), click(0, 0, 0), click(*INSIDE))
    assert widen(window, image, ClassPrompts(1, BOX, clicks)) == (40, 520)


def test_a_scribble_is_seen_as_a_click_in_its_middle() -> None:
    line = np.array([[INSIDE[0], INSIDE[1], x] for x in range(INSIDE[2] - 2, INSIDE[2] + 3)])
    scribbled = ClassPrompts(1, scribbles=(Scribble(line, positive=True),))
    assert windows(scan(), scribbled) == windows(scan(), ClassPrompts(1, None, (click(*INSIDE),)))


def test_a_positive_scribble_widens_a_window_up_to_what_it_crosses() -> None:
    # Of the line's eight voxels, four have 100 and four 300: a quarter of the width, 20, is room.
    image = scan()
    image[20, 24, 28:32] = 300
    line = np.array([[20, 24, x] for x in range(24, 32)])
    window = IntensityWindow(40, 120)
    positive = ClassPrompts(1, scribbles=(Scribble(line, positive=True),))
    assert widen(window, image, positive) == (40, 320)
    negative = ClassPrompts(1, scribbles=(Scribble(line, positive=False),))
    assert widen(window, image, negative) == window


def test_windows_that_are_nearly_the_same_become_one() -> None:
    near = {1: IntensityWindow(0, 100), 2: IntensityWindow(500, 900), 3: IntensityWindow(40, 140)}
    # 0..140 is 1.4 times as wide as 0..100; with 500..900 it would be 9 times as wide.
    assert merge(near) == {1: (0, 140), 2: (500, 900), 3: (0, 140)}
    assert merge({1: IntensityWindow(0, 100), 2: IntensityWindow(60, 160)}) == {
        1: (0, 100),
        2: (60, 160),
    }


def test_the_setting_goes_before_the_file_and_the_file_before_what_is_found() -> None:
    image, prompts = scan(), ClassPrompts(1, BOX)
    file, mine = IntensityWindow.of_level(0, 50), IntensityWindow.of_level(10, 20)
    assert windows(image, prompts, window=file) == {1: file}
    assert windows(image, prompts, window=file, settings=Settings(window=mine)) == {1: mine}
    full = intensity_window(image, 0.5, 99.5)
    assert windows(image, prompts, window=file, settings=Settings(window="full")) == {1: full}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.bool_])
def test_images_of_8_bits_are_windowed_already(dtype: npt.DTypeLike) -> None:
    image = (scan() > 80).astype(dtype)
    assert windows(image, ClassPrompts(1, BOX)) == {1: intensity_window(image, 0.5, 99.5)}


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "cases").glob("*.npz")))
def test_challenge_files_are_seen_as_before(path: Path) -> None:
    case = read_case(path)
    full = intensity_window(case.image, 0.5, 99.5)
    assert set(choose_windows(case, prepared(case, Settings())).values()) == {full}


def test_a_named_window_that_shows_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    image, prompts = scan(target=1, organ=0.5, air=0), ClassPrompts(1, BOX)
    windows(image, prompts, settings=Settings(window=IntensityWindow.of_level(40, 400)))
    assert caplog.messages == [
        "case: the window level 40, width 400 shows the whole image, whose values are 0 to 1, in "
        "fewer than 5 of 255 grey levels"
    ]
    caplog.clear()
    windows(scan(), prompts, settings=Settings(window=IntensityWindow.of_level(40, 400)))
    windows(image, prompts)
    assert not caplog.messages

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.io.intensities import intensity_window, normalise


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("shift", [0, -300])
def test_window_is_of_the_foreground_only(dtype: npt.DTypeLike, shift: int) -> None:
    # 101 voxels hold 10, 11 .. 110, one each: percentile p is 10 + p. The 899 voxels of the
    # lowest value do not count; with them, even the median would be theirs.
    image = np.full((10, 5, 20), -5 + shift, dtype)
    image.ravel()[100:201] = np.arange(10, 111) + shift
    assert intensity_window(image, 0.5, 99.5) == pytest.approx((10.5 + shift, 109.5 + shift))


def test_window_between_distant_neighbours_of_a_narrow_type() -> None:
    # A quarter and three quarters of the way from -100 to 100, which lie 200 apart: too far for
    # int8, whose own differences end at 127.
    image = np.array([[[-128, -100, 100]]], np.int8)
    assert intensity_window(image, 25, 75) == (-50, 50)


def test_window_between_values_as_far_apart_as_a_type_goes() -> None:
    # Half way from 1 - 2^63 to 2^63 - 1, whose difference is twice what the type holds.
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    assert intensity_window(np.array([[[least, -most, most]]]), 50, 100) == (0, 2.0**63)


@pytest.mark.parametrize("exponent", [-140, 120])
def test_very_small_and_very_large_floats_are_seen_as_others(exponent: int) -> None:
    image = np.array([[[0, 1, 2, 3, 4]]], np.float32)
    far = np.ldexp(image, exponent)
    window = (np.ldexp(1.0, exponent), np.ldexp(3.0, exponent))
    assert normalise(far, window).tolist() == normalise(image, (1, 3)).tolist()


def test_window_ignores_voxels_that_are_not_finite() -> None:
    # Left are 0, the background, and 2 and 4, whose quarters are 2.5 and 3.5.
    image = np.array([[[np.nan, 0, 2, np.inf, 4, -np.inf]]], np.float32)
    assert intensity_window(image, 25, 75) == (2.5, 3.5)


def test_window_of_a_single_foreground_value_begins_at_the_background() -> None:
    assert intensity_window(np.array([[[3, 3, 8, 8, 8]]], np.uint8), 0.5, 99.5) == (3, 8)


def test_bool_images_become_black_and_white() -> None:
    image = np.array([[[True, False, True]]])
    window = intensity_window(image, 0.5, 99.5)
    assert normalise(image, window).tolist() == [[[255, 0, 255]]]


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 3e38), (np.float64, 1.7e308)])
def test_intensities_whose_difference_is_too_large_for_a_float_are_clipped(
    dtype: npt.DTypeLike, largest: float
) -> None:
    image = np.array([[[-largest, 0, largest]]], dtype)
    assert normalise(image, (0.4 * largest, 0.9 * largest)).tolist() == [[[0, 0, 255]]]


@pytest.mark.parametrize(
    "image",
    [
        np.full((2, 3, 4), 7, np.uint8),
        np.full((2, 3, 4), -7.5, np.float32),
        np.zeros((2, 3, 4), np.bool_),
        np.full((2, 3, 4), np.nan, np.float64),
        np.full((2, 3, 4), np.inf, np.float32),
    ],
    ids=["int", "float", "bool", "NaN", "infinite"],
)
def test_images_without_contrast_become_zero(image: npt.NDArray[Any]) -> None:
    low, high = intensity_window(image, 0.5, 99.5)
    assert low == high
    result = normalise(image, (low, high))
    assert result.dtype == np.uint8
    assert result.shape == image.shape
    assert not result.any()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.int64, np.float16, np.float64])
def test_normalise_is_linear_and_clips(dtype: npt.DTypeLike) -> None:
    # 10 units become 255, so that one unit is 25.5: 2 units are 51 and 6 are 153.
    image = np.array([[[0, 10], [12, 16], [20, 120]]], dtype)
    result = normalise(image, (10.0, 20.0))
    assert result.dtype == np.uint8
    assert result.tolist() == [[[0, 0], [51, 153], [255, 255]]]


def test_normalise_takes_negative_intensities() -> None:
    # -1000 .. 0 becomes 0 .. 255: a fifth of it is 51.
    image = np.array([[[-1024, -1000, -800, 0, 50]]], np.int16)
    assert normalise(image, (-1000.0, 0.0)).tolist() == [[[0, 0, 51, 255, 255]]]


def test_normalise_sends_what_is_not_finite_to_the_ends() -> None:
    image = np.array([[[np.nan, -np.inf, np.inf, 1.0]]], np.float32)
    assert normalise(image, (0.0, 5.0)).tolist() == [[[0, 0, 255, 51]]]


@pytest.mark.parametrize(
    ("image", "window"),
    [
        # Steps of 2 that a 32-bit float, with its 24 bits, could not tell apart.
        (np.array([[[0, 2, 10]]], np.int32) + 2**30, (2.0**30, 2.0**30 + 10)),
        # Beyond what a 32-bit float can hold at all.
        (np.array([[[0, 1e300, 5e300]]]), (0.0, 5e300)),
    ],
    ids=["far from zero", "huge"],
)
def test_normalise_is_exact_for_wide_types(
    image: npt.NDArray[Any], window: tuple[float, float]
) -> None:
    assert normalise(image, window).tolist() == [[[0, 51, 255]]]


# --- the grid -----------------------------------------------------------------------------------

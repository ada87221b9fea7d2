"""Where slices lie in a network's input, in numbers worked out by hand and by the packages."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn import functional
from torchvision.transforms.v2.functional import resize  # type: ignore[import-untyped]

from gamt.segmenters.frames import (
    MASK_LIMIT,
    PADDING_SCORE,
    PIXEL_MEAN,
    PIXEL_STD,
    Frame,
    LongestSide,
    Squash,
    Stretch,
)

SHAPES = [(40, 56), (64, 48), (320, 320), (7, 300), (300, 7), (500, 400), (1, 1), (80, 80)]

FRAMES: list[Frame] = [LongestSide(320), Squash(256)]

sizes = st.tuples(st.integers(1, 700), st.integers(1, 700))


def noise(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_longest_side_is_resized_as_by_the_package(shape: tuple[int, int]) -> None:
    frame, official = LongestSide(320), ResizeLongestSide(320)
    slices = noise((2, *shape))
    resized = frame.resize(slices)
    assert resized.shape == (2, *frame.covered(shape))
    for pixels, found in zip(slices, resized, strict=True):
        colours = official.apply_image(np.repeat(pixels[..., None], 3, axis=-1))
        for channel in range(3):
            np.testing.assert_array_equal(found, colours[..., channel])


@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_scaled_as_by_the_package(shape: tuple[int, int]) -> None:
    points = np.array([[0.0, 0.0], [3.25, 1.5], [shape[1], shape[0]]])
    expected = ResizeLongestSide(320).apply_coords(points, shape)
    np.testing.assert_array_equal(LongestSide(320).scale_points(points, shape), expected)


def test_a_slice_of_any_shape_covers_something() -> None:
    # The package rounds the shorter side of 1 x 3000 to 0.34 and so to none.
    assert LongestSide(1024).covered((1, 3000)) == (1, 1024)
    assert LongestSide(1024).covered((1, 300)) == (3, 1024)
    assert LongestSide(1024).resize(noise((1, 1, 3000))).shape == (1, 1, 1024)
    assert Squash(256).resize(noise((1, 1, 3000))).shape == (1, 256, 256)


def test_no_slices_are_no_slices() -> None:
    for frame in FRAMES:
        empty = frame.resize(np.empty((0, 5, 7), np.uint8))
        assert empty.shape == (0, *frame.covered((5, 7)))


@pytest.mark.parametrize("frame", [*FRAMES, Stretch(64)], ids=repr)
def test_each_of_three_channels_becomes_a_colour(frame: Frame) -> None:
    channels = [noise((2, 40, 56)), noise((3, 40, 56))[1:], noise((4, 40, 56))[2:]]
    images = frame.normalise(torch.from_numpy(frame.resize(np.stack(channels, axis=-1))))
    for colour, grey in enumerate(channels):
        alone = frame.normalise(torch.from_numpy(frame.resize(grey)))
        torch.testing.assert_close(images[:, colour], alone[:, colour], rtol=0, atol=0)


def test_squashing_takes_the_nearest_pixel_rounding_down() -> None:
    # 3 columns to 8: column x shows pixel floor(x * 3 / 8).
    squash = Squash(8)
    slices = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    row = np.array([10, 10, 10, 20, 20, 20, 30, 30])
    np.testing.assert_array_equal(squash.resize(slices)[0], [row] * 4 + [row + 30] * 4)
    # 16 columns to 8: every other one.
    line = np.arange(16, dtype=np.uint8)[None, None]
    np.testing.assert_array_equal(squash.resize(line)[0], [np.arange(0, 16, 2)] * 8)


def test_input_is_normalised_and_padded_with_zeros() -> None:
    pixels = torch.tensor([[[0, 255, 100], [50, 7, 9]]], dtype=torch.uint8)
    images = LongestSide(4).normalise(pixels)
    assert images.shape == (1, 3, 4, 4)
    for channel, (mean, std) in enumerate(zip(PIXEL_MEAN, PIXEL_STD, strict=True)):
        expected = (pixels[0].double() - mean) / std
        torch.testing.assert_close(images[0, channel, :2, :3].double(), expected, rtol=0, atol=1e-6)
    assert (images[:, :, 2:] == 0).all()
    assert (images[:, :, :, 3:] == 0).all()


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
@given(shape=sizes)
def test_logits_come_back_as_by_two_interpolations(frame: Frame, shape: tuple[int, int]) -> None:
    low_res = torch.randn(2, *frame.low_res, generator=torch.Generator().manual_seed(0))
    rows, columns = frame.covered(shape)
    square = functional.interpolate(
        low_res[None], (frame.side, frame.side), mode="bilinear", align_corners=False
    )
    expected = functional.interpolate(
        square[..., :rows, :columns], shape, mode="bilinear", align_corners=False
    )[0]
    found = frame.to_slice(low_res, shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_mask_prompt_of_the_low_res_size_stays_as_it_is() -> None:
    scores = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    np.testing.assert_allclose(Squash(256).to_low_res(scores), scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(LongestSide(256).to_low_res(scores), scores, rtol=0, atol=1e-5)


def test_a_mask_prompt_lies_where_the_slice_does() -> None:
    # 40 x 56 fills 183 x 256 pixels of the square. A low-res pixel is 4 of these, 0.875 of the
    # slice's; those of rows 46 and on, whose centres lie at 186 and on, show no slice.
    frame = LongestSide(256)
    ramp = np.tile(np.arange(56) / 7, (40, 1)).astype(np.float32)
    found = frame.to_low_res(ramp)
    assert found.shape == (64, 64)
    np.testing.assert_array_equal(found[46:], PADDING_SCORE)
    inner = ((np.arange(64) + 0.5) * 0.875 - 0.5)[2:-2] / 7
    np.testing.assert_allclose(found[:46, 2:-2], np.tile(inner, (46, 1)), rtol=0, atol=1e-5)


def test_a_mask_prompt_of_a_large_slice_is_averaged() -> None:
    # 512 pixels to 64: thin stripes of 8 and -8 come to about nothing.
    stripes = np.tile(np.where(np.arange(512) % 2, 8, -8), (512, 1)).astype(np.float32)
    found = Squash(256).to_low_res(stripes)
    assert abs(found[:, 1:-1]).max() < 0.1


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
@given(shape=sizes)
def test_a_mask_prompt_of_one_value_has_it_all_over_the_slice(
    frame: Frame, shape: tuple[int, int]
) -> None:
    found = frame.to_low_res(np.full(shape, 3, np.float32))
    rows, columns = (max(1, round(size / 4)) for size in frame.covered(shape))
    np.testing.assert_allclose(found[: rows - 1, : columns - 1], 3, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found[rows + 1 :], PADDING_SCORE)
    np.testing.assert_array_equal(found[:, columns + 1 :], PADDING_SCORE)


def test_scores_without_bounds_are_bounded() -> None:
    hard = np.tile(np.where(np.arange(56) < 28, np.inf, -np.inf), (40, 1)).astype(np.float32)
    found = LongestSide(256).to_low_res(hard)
    # Interpolation rounds, on some processors past the limit.
    np.testing.assert_allclose((found.min(), found.max()), (-MASK_LIMIT, MASK_LIMIT), rtol=1e-6)
    assert np.isfinite(found).all()


# Stretched, as for SAM 2 and SAM 3


@pytest.mark.parametrize("shape", SHAPES)
def test_stretched_slices_are_resized_as_by_transformers(shape: tuple[int, int]) -> None:
    slices = noise((2, *shape))
    expected = resize(torch.from_numpy(slices)[:, None].expand(-1, 3, -1, -1), [320, 320])
    found = Stretch(320).resize(slices)
    for channel in range(3):
        np.testing.assert_array_equal(found, expected[:, channel])


def test_patches_of_14_pixels_make_a_low_res_mask_of_288() -> None:
    # 1008 = 72 x 14, and a low-res mask has 4 x 4 pixels a patch.
    assert Stretch(1008, 14).low_res == (288, 288)
    assert Stretch(1024).low_res == (256, 256)


@given(shape=sizes)
def test_stretched_logits_come_back_in_one_interpolation(shape: tuple[int, int]) -> None:
    frame = Stretch(112, 14)
    low_res = torch.randn(2, *frame.low_res, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(low_res[:, None], shape, mode="bilinear")[:, 0]
    torch.testing.assert_close(frame.to_slice(low_res, shape), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stretched_mask_prompt_is_resized_as_by_transformers(shape: tuple[int, int]) -> None:
    frame = Stretch(1008, 14)
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = functional.interpolate(
        torch.from_numpy(scores)[None, None], (288, 288), mode="bilinear", antialias=True
    )[0, 0]
    np.testing.assert_allclose(frame.to_low_res(scores), expected, rtol=0, atol=1e-3)


def test_input_is_normalised_by_the_frames_own_colours() -> None:
    # 0 and 255, by a mean and a deviation of 127.5, are -1 and 1.
    frame = Stretch(2, 1, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
    images = frame.normalise(torch.tensor([[[0, 255], [255, 0]]], dtype=torch.uint8))
    expected = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(images, expected, rtol=0, atol=0)

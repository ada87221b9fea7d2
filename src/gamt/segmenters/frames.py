"""How a slice lies in the square input of a network, and the way back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Shape = tuple[int, int]
"""Rows and columns."""

Colour = tuple[float, float, float]
"""Red, green and blue."""

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""Mean of the red, green and blue values 0..255 that SAM was trained on (segment_anything)."""

PIXEL_STD = (58.395, 57.12, 57.375)
"""Their standard deviation (segment_anything)."""

LOW_RES_FACTOR = 4
"""Pixels of a low-res mask to one patch of the input, along an axis."""

MASK_LIMIT = 32.0
"""Earlier scores are clipped to this many log-odds, the range of the scores that SAM was trained
to take as a prompt (docs/constants.md)."""

PADDING_SCORE = -10.0
"""Log-odds of a mask prompt where the input square shows no slice: surely outside, and of the
size of a network's own scores far outside of a target (docs/constants.md)."""


@dataclass(frozen=True)
class Frame(ABC):
    """The place of slices in a square input.

    Attributes:
        side: of the square, in pixels.
        patch: side of the patches of the square that become one token each, in pixels.
        mean: of the red, green and blue values 0..255 that the network was trained on.
        std: their standard deviation.
    """

    side: int
    patch: int = 16
    mean: Colour = PIXEL_MEAN
    std: Colour = PIXEL_STD

    @property
    def low_res(self) -> Shape:
        """Shape of a low-res mask."""
        rows = LOW_RES_FACTOR * self.side // self.patch
        return rows, rows

    @abstractmethod
    def covered(self, shape: Shape) -> Shape:
        """Returns the rows and columns of the square that a slice takes up, from the corner."""

    @abstractmethod
    def resize(self, slices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Brings slices to their size in the square.

        Args:
            slices: (N, rows, columns) or (N, rows, columns, 3) uint8.

        Returns:
            (N, *covered) or (N, *covered, 3) uint8.
        """

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Makes the network's input.

        Args:
            pixels: (N, *covered) or (N, *covered, 3) uint8, from `resize`.

        Returns:
            (N, 3, side, side) float32 on the same device: the grey value, or the three channels, as
            red, green and blue, less the mean, by the standard deviation; zeros where there is no
            slice.
        """
        device = pixels.device
        mean, std = (
            torch.tensor(values, device=device)[:, None, None] for values in (self.mean, self.std)
        )
        rows, columns = pixels.shape[1:3]
        channels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
        colours = (channels - mean) / std
        return functional.pad(colours, (0, self.side - columns, 0, self.side - rows))

    def scale_points(
        self, points: npt.NDArray[np.float64], shape: Shape
    ) -> npt.NDArray[np.float64]:
        """Brings points (N, 2) from pixels (x, y) of a slice to pixels of the square.

        The numbers are scaled and no more, as the official predictors do: pixel 0 keeps its 0, and
        a box that is half-open here has the corners that the same four numbers have there.
        """
        (rows, columns), (new_rows, new_columns) = shape, self.covered(shape)
        return np.asarray(points * np.array([new_columns / columns, new_rows / rows]))

    def to_slice(self, low_res: torch.Tensor, shape: Shape) -> torch.Tensor:
        """Brings low-res logits to a slice's own pixels.

        Args:
            low_res: (N, *low_res) float32.
            shape: of the slice.

        Returns:
            (N, *shape) float32: enlarged to the square, cut to the part that shows the slice and
            resized to it, both linearly. The two steps are one matrix for each axis.
        """
        rows, columns = (
            _enlargement(self.side, self.low_res[0], covered, size, low_res.device)
            for covered, size in zip(self.covered(shape), shape, strict=True)
        )
        return rows @ low_res @ columns.T

    def to_low_res(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Makes a mask prompt of scores in a slice's own pixels.

        Args:
            scores: (rows, columns) log-odds of the slice's pixels.

        Returns:
            The same in the shape `low_res`, within `MASK_LIMIT`; `PADDING_SCORE` where there is no
            slice.
        """
        shape = (scores.shape[0], scores.shape[1])
        rows, columns = (
            _reduction(self.side, self.low_res[0], covered, size)
            for covered, size in zip(self.covered(shape), shape, strict=True)
        )
        above = scores.clip(-MASK_LIMIT, MASK_LIMIT) - np.float32(PADDING_SCORE)
        return np.asarray(rows @ above @ columns.T + np.float32(PADDING_SCORE), np.float32)


@dataclass(frozen=True)
class LongestSide(Frame):
    """SAM: the longest side fills the square, the aspect ratio stays, zeros follow."""

    side: int = 1024

    def covered(self, shape: Shape) -> Shape:
        """Returns the rows and columns of the square that a slice takes up, from the corner."""
        scale = self.side / max(shape)
        rows, columns = (max(1, int(size * scale + 0.5)) for size in shape)
        return rows, columns

    def resize(self, slices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Interpolates linearly, by Pillow, as the official predictor does."""
        from PIL import Image

        rows, columns = self.covered((slices.shape[1], slices.shape[2]))
        resized = np.empty((len(slices), rows, columns, *slices.shape[3:]), np.uint8)
        for pixels, target in zip(slices, resized, strict=True):
            image = Image.fromarray(np.ascontiguousarray(pixels))
            target[:] = np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
        return resized


@dataclass(frozen=True)
class Squash(Frame):
    """SAM-Med2D: the slice fills the square, whatever its aspect ratio."""

    side: int = 256

    def covered(self, shape: Shape) -> Shape:
        """Returns the rows and columns of the square that a slice takes up: all."""
        return self.side, self.side

    def resize(self, slices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Takes the nearest pixel, rounding down as OpenCV does."""
        rows, columns = (
            np.minimum(np.arange(self.side) * (1 / (self.side / size)), size - 1).astype(np.intp)
            for size in slices.shape[1:3]
        )
        return np.asarray(slices[:, rows[:, None], columns])


@dataclass(frozen=True)
class Stretch(Frame):
    """SAM 2, SAM 3, EdgeTAM: the slice, interpolated, fills the square, whatever its shape."""

    side: int = 1024

    def covered(self, shape: Shape) -> Shape:
        """Returns the rows and columns of the square that a slice takes up: all."""
        return self.side, self.side

    def resize(self, slices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Interpolates linearly, over as many pixels as one of the square is wide."""
        channels = slices[:, None] if slices.ndim == 3 else slices.transpose(0, 3, 1, 2)
        pixels = torch.from_numpy(np.ascontiguousarray(channels))
        square = (self.side, self.side)
        resized = functional.interpolate(pixels, square, mode="bilinear", antialias=True).numpy()
        return np.asarray(resized[:, 0] if slices.ndim == 3 else resized.transpose(0, 2, 3, 1))

    def to_slice(self, low_res: torch.Tensor, shape: Shape) -> torch.Tensor:
        """Brings low-res logits to a slice's own pixels, linearly and in one step.

        Args:
            low_res: (N, *low_res) float32.
            shape: of the slice.
        """
        return functional.interpolate(low_res[None], shape, mode="bilinear")[0]


@lru_cache(maxsize=64)
def _enlargement(
    side: int, low_res: int, covered: int, size: int, device: torch.device
) -> torch.Tensor:
    """Returns the (size, low-res) weights that take a low-res axis to a slice's."""
    pixels = torch.eye(low_res, device=device)[None]
    square = functional.interpolate(pixels, side, mode="linear", align_corners=False)
    return functional.interpolate(square[..., :covered], size, mode="linear", align_corners=False)[
        0
    ].T.contiguous()


@lru_cache(maxsize=64)
def _reduction(side: int, low_res: int, covered: int, size: int) -> npt.NDArray[np.float32]:
    """Returns the (low-res, size) weights that take a slice's axis to the low-res one.

    Linear, over as many pixels as a low-res pixel is wide. The rows of low-res pixels whose
    centres lie outside of the slice are zero.
    """
    step = side / low_res * size / covered
    centres = (np.arange(low_res) + 0.5)[:, None] * step - 0.5
    weights = 1 - np.abs(centres - np.arange(size)) / max(1.0, step)
    weights = np.where(centres < size - 0.5, weights.clip(0), 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True).clip(1e-9), np.float32)

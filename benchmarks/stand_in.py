"""A segmenter that is asked like a network and takes its time like one, but needs no checkpoint."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt import segmenters
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, SliceMask

QUICK_SECONDS = 0.002
"""What a slice takes to encode where a server is to have much to do in little time."""


class StandIn:
    """The embedded segmenter with a pause for each slice, whose embeddings can be stored.

    Attributes:
        encoded: number of slices encoded so far.
    """

    def __init__(self, slice_seconds: float) -> None:
        """Starts with nothing encoded; a slice takes that long to encode."""
        self._inner = segmenters.load("statistical")
        self._slice_seconds = slice_seconds
        self.name = self.fingerprint = "stand-in"
        self.traits = replace(self._inner.traits, intensities_alone=False)
        self.encoded = 0

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Encodes slices, slowly."""
        time.sleep(self._slice_seconds * len(slices))
        self.encoded += len(slices)
        return self._inner.encode(slices)

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Hands on."""
        return self._inner.decode(embeddings, prompts, multimask)

    def pack(self, embedding: Embedding) -> npt.NDArray[Any]:
        """Returns the slice, which is all that the embedded segmenter keeps."""
        return np.asarray(embedding)

    def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> Embedding:
        """Returns the slice that `pack` was given.

        Raises:
            ValueError: it is none of that shape.
        """
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"found {array.dtype} of shape {array.shape}, expected a slice")
        return array


def quick() -> StandIn:
    """Returns one for many images in little time; `benchmarks.stand_in:quick` names it."""
    return StandIn(QUICK_SECONDS)

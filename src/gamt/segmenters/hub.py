"""Models of SAM's kind from the Hugging Face hub, as segmenters: ``hf:ORG/NAME``, ``hf:FOLDER``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Memory, SliceMask


@dataclass(frozen=True, slots=True, eq=False)
class HubEmbedding:
    """An encoded slice.

    Attributes:
        features: each (channels, rows, columns) on the model's device, in its encoder's precision.
            The last one is what prompts attend to, with 256 channels in all published models.
            Before it there are: none in SAM; in SAM-HQ, what the encoder's first global block makes
            of the slice; in SAM 2, SAM 3 and EdgeTAM, the two finer levels as the mask decoder
            takes them, after its `conv_s0` and `conv_s1`, finest first. The last one comes without
            the embedding that says that there is no memory.
        shape: rows and columns of the slice itself.
    """

    features: tuple[torch.Tensor, ...]
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """The memory that it takes, on whatever device."""
        return sum(one.nbytes for one in self.features)


class HubSegmenter:
    """A model of the hub as a segmenter."""


class HubTracker(HubSegmenter):
    """A video model of the hub, which follows a target by a memory."""

    def track(
        self,
        embeddings: Sequence[HubEmbedding],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Memory | None],
        positions: Sequence[int],
    ) -> Sequence[SliceMask]:
        """Segments each embedding's slice by what is remembered of a target; see `Tracker`."""
        raise NotImplementedError


def load_model(name: str, weights: Any) -> Any:
    """Loads a model."""
    raise NotImplementedError

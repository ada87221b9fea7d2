"""SAM and the models of its architecture, as segmenters."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gamt.prompts import SlicePrompt
from gamt.segmenters import checkpoints
from gamt.segmenters.base import SliceMask, Traits
from gamt.segmenters.decoder import PromptDecoder
from gamt.segmenters.devices import choose_batch
from gamt.segmenters.encoder import ImageEncoder
from gamt.segmenters.frames import Frame, LongestSide, Shape
from gamt.segmenters.networks import (
    PROMPT_CHANNELS,
    VIT_B,
    VIT_H,
    VIT_L,
    Architecture,
    Network,
    build_network,
    load_checkpoint,
)
from gamt.segmenters.promptable import (
    PromptableSegmenter,
    Question,
    from_bits,
    is_lone_point,
    to_bits,
)

PREPARATION = 1
"""Counts the changes of this package that change embeddings."""

ENCODING_TENSORS = 32
"""Tensors of the size of all its tokens that a slice takes while it is encoded, about
(docs/constants.md)."""

DECODING_TENSORS = 64
"""Tensors of the size of its low-res mask that a prompt takes while it is decoded, about
(docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class SamEmbedding:
    """An encoded slice.

    Attributes:
        features: (channels, rows, columns) on the network's device, in its precision; in memory
            the channels come last.
        shape: rows and columns of the slice itself.
    """

    features: torch.Tensor
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """The memory that it takes, on whatever device."""
        return self.features.nbytes


class SamSegmenter(PromptableSegmenter[SamEmbedding]):
    """A network of SAM's kind as a segmenter."""

    def __init__(
        self,
        name: str,
        network: Network,
        frame: Frame,
        checkpoint: Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        multimask: Callable[[SlicePrompt], bool],
        preparation: str = "",
    ) -> None:
        """Moves the network to its device.

        Args:
            name: of the segmenter.
            network: loaded, on the CPU; taken over.
            frame: the place of slices in its input.
            checkpoint: the file of its weights.
            device: ``auto``, or a name that torch knows, such as ``cpu`` or ``cuda``.
            dtype: precision of the image encoder: ``auto``, ``float32`` or ``bfloat16``.
            multimask: the habit: says of a prompt whether the best of three masks is to be taken.
            preparation: differs wherever embeddings do for reasons besides name, checkpoint and
                precision.

        Raises:
            SegmenterError: the device or the precision is not to be had.
        """
        super().__init__(name, frame, device=device, dtype=dtype, multimask=multimask)
        self._network = network
        self._checkpoint = checkpoint
        self._preparation = preparation
        tokens = network.image_encoder.pos_embed
        self._grid = (int(tokens.shape[1]), int(tokens.shape[2]))
        self._token_bytes = tokens.nbytes
        self._with_room(self._start)

    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        self._network.to(device, torch.float32)
        self._encoder = ImageEncoder(self._network.image_encoder, dtype)
        self._decoder = PromptDecoder(self._network)
        side, low_res = self._frame.side, self._frame.low_res
        batch = choose_batch(device, side, ENCODING_TENSORS * self._token_bytes)
        mask_bytes = 4 * low_res[0] * low_res[1]
        self._prompts_at_once = choose_batch(device, side, DECODING_TENSORS * mask_bytes)
        self._device = device
        self.traits = Traits(batch=batch, device=str(device), three_channels=True)

    @cached_property
    def fingerprint(self) -> str:
        """Differs wherever embeddings of the same slice would; 32 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.name, str(self._dtype), PREPARATION, self._preparation)).encode())
        with self._checkpoint.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

    def _encode_batch(self, slices: Sequence[npt.NDArray[np.uint8]]) -> list[SamEmbedding]:
        images = self._frame.normalise(self._upload(self._frame.resize(np.stack(slices))))
        features = self._encoder(images).permute(0, 2, 3, 1).to(self._dtype)
        shape = (slices[0].shape[0], slices[0].shape[1])
        # Copies, so that no embedding keeps its whole batch in memory.
        return [
            SamEmbedding(one.clone(memory_format=torch.contiguous_format).permute(2, 0, 1), shape)
            for one in features
        ]

    def _kind(self, question: Question[SamEmbedding]) -> int:
        return len(question.kinds)

    def _decode_batch(self, questions: Sequence[Question[SamEmbedding]]) -> list[SliceMask]:
        masks = [one.mask for one in questions if one.mask is not None]
        stacked = np.reshape(masks, (len(masks), 1, *self._frame.low_res))
        low_res, ious = self._decoder(
            # Those from before the network moved are elsewhere.
            [one.embedding.features.to(self._device) for one in questions],
            self._upload(np.stack([one.places for one in questions]).astype(np.float32)),
            self._upload(np.stack([one.kinds for one in questions])),
            self._upload(stacked.astype(np.float32)),
            self._upload(np.array([one.multimask for one in questions])),
        )
        return self._answers(low_res, ious, questions[0].embedding.shape)

    def pack(self, embedding: SamEmbedding) -> npt.NDArray[Any]:
        """Returns an embedding's features (rows, columns, channels).

        They are float32, or the bits of bfloat16, which numpy lacks, as uint16.
        """
        return to_bits(embedding.features.permute(1, 2, 0))

    def unpack(self, array: npt.NDArray[Any], shape: Shape) -> SamEmbedding:
        """Returns the embedding that `pack` was given.

        Args:
            array: from `pack`.
            shape: of the slice (rows, columns).

        Raises:
            ValueError: the array is no embedding of this segmenter.
        """
        features = from_bits(array, (*self._grid, PROMPT_CHANNELS), self._dtype).permute(2, 0, 1)
        return SamEmbedding(self._with_room(lambda: features.to(self._device)), shape)


Weights = str | os.PathLike[str] | None


def sam_vit_b(weights: Weights = None, device: str = "auto", dtype: str = "auto") -> SamSegmenter:
    """Sets up SAM with its smallest encoder; see `_set_up`."""
    return _set_up("sam_vit_b", VIT_B, weights, device, dtype)


def sam_vit_l(weights: Weights = None, device: str = "auto", dtype: str = "auto") -> SamSegmenter:
    """Sets up SAM with its middle encoder; see `_set_up`."""
    return _set_up("sam_vit_l", VIT_L, weights, device, dtype)


def sam_vit_h(weights: Weights = None, device: str = "auto", dtype: str = "auto") -> SamSegmenter:
    """Sets up SAM with its largest encoder; see `_set_up`."""
    return _set_up("sam_vit_h", VIT_H, weights, device, dtype)


def medsam(weights: Weights = None, device: str = "auto", dtype: str = "auto") -> SamSegmenter:
    """Sets up MedSAM, which is SAM's ViT-B trained on medical slices; see `_set_up`."""
    return _set_up("medsam", VIT_B, weights, device, dtype)


def _set_up(
    name: str, architecture: Architecture, weights: Weights, device: str, dtype: str
) -> SamSegmenter:
    """Sets up a segmenter of SAM's own architecture.

    Args:
        name: of the segmenter and of its checkpoint.
        architecture: of its image encoder.
        weights: the checkpoint file; None looks for it (`gamt.segmenters.checkpoints.find`).
        device: ``auto``, or a name that torch knows, such as ``cpu`` or ``cuda``.
        dtype: precision of the image encoder: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        SegmenterError: segment-anything is not installed, the device or precision is not to be
            had, or the checkpoint's weights are not those of this network.
        CheckpointError: there is no checkpoint.
    """
    path = checkpoints.find(name, weights)
    network = build_network(architecture)
    load_checkpoint(network, path)
    return SamSegmenter(
        name,
        network,
        LongestSide(architecture.side),
        path,
        device=device,
        dtype=dtype,
        multimask=is_lone_point,
    )

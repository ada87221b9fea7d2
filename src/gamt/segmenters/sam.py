"""SAM and the models of its architecture, as segmenters."""

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from gamt.prompts import SlicePrompt
from gamt.segmenters import checkpoints
from gamt.segmenters.base import SliceMask, Traits
from gamt.segmenters.decoder import PromptDecoder, prompt_tokens
from gamt.segmenters.devices import (
    choose_batch,
    choose_device,
    choose_dtype,
    in_batches,
    is_out_of_memory,
)
from gamt.segmenters.encoder import ImageEncoder
from gamt.segmenters.frames import Frame, LongestSide
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

logger = logging.getLogger("gamt")

Result = TypeVar("Result")

CPU = torch.device("cpu")
"""Where a network goes on that has no room on its device."""

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


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """A prompt in the network's own terms; see `PromptDecoder`."""

    embedding: SamEmbedding
    places: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]
    mask: npt.NDArray[np.float32] | None
    multimask: bool


class SamSegmenter:
    """A network of SAM's kind as a segmenter.

    The image encoder runs in a precision of choice, and all that depends on the prompt in float32.
    In bfloat16 a prompt at 1024 px took 24 ms rather than 39 (one core with AVX-512), but the IoU
    with masks of float32 fell to 0.994; rounding the embeddings alone left it at 0.9995.

    A GPU without room for a batch gets smaller ones. Without room for a single slice or prompt, or
    for the network itself, the network moves to the CPU and stays there, as memory that others
    hold is seldom given back; the log says so. What it has encoded stays of use.
    """

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
        self.name = name
        self._device = choose_device(device)
        self._dtype = choose_dtype(dtype, self._device)
        self._network = network
        self._frame = frame
        self._checkpoint = checkpoint
        self._habit = multimask
        self._preparation = preparation
        tokens = network.image_encoder.pos_embed
        self._grid = (int(tokens.shape[1]), int(tokens.shape[2]))
        self._token_bytes = tokens.nbytes
        self._with_room(lambda: self._place(self._device, self._dtype))

    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts the network onto a device, where its encoder runs in some precision."""
        self._network.to(device, torch.float32)
        self._encoder = ImageEncoder(self._network.image_encoder, dtype)
        self._decoder = PromptDecoder(self._network)
        side, low_res = self._frame.side, self._frame.low_res
        batch = choose_batch(device, side, ENCODING_TENSORS * self._token_bytes)
        mask_bytes = 4 * low_res[0] * low_res[1]
        self._prompts_at_once = choose_batch(device, side, DECODING_TENSORS * mask_bytes)
        self._device = device
        self.traits = Traits(batch=batch, device=str(device), three_channels=True)

    def _with_room(self, work: Callable[[], Result]) -> Result:
        """Does what needs the device; where that has no room for it, the CPU does it."""
        try:
            return work()
        except RuntimeError as error:
            if self._device == CPU or not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        # Outside of the handler, whose traceback holds on to the device's memory.
        logger.warning("%s: no room on %s, the CPU goes on: %s", self.name, self._device, reason)
        # Embeddings keep their precision, also where the CPU has no units to compute in it.
        cpu_dtype = torch.float32 if self._dtype == torch.float32 else choose_dtype("auto", CPU)
        self._place(CPU, cpu_dtype)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return work()

    @cached_property
    def fingerprint(self) -> str:
        """Differs wherever embeddings of the same slice would; 32 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.name, str(self._dtype), PREPARATION, self._preparation)).encode())
        with self._checkpoint.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[SamEmbedding]:
        """Runs the image encoder.

        Args:
            slices: (N, rows, columns) or (N, rows, columns, 3) uint8, 0..255; N may be 0.

        Returns:
            N embeddings, in order. They stay on the device.
        """
        return self._with_room(partial(self._encode_all, list(slices)))

    @torch.inference_mode()
    def _encode_all(self, slices: Sequence[npt.NDArray[np.uint8]]) -> list[SamEmbedding]:
        return in_batches(self._encode_batch, slices, self.traits.batch)

    def _encode_batch(self, slices: Sequence[npt.NDArray[np.uint8]]) -> list[SamEmbedding]:
        images = self._frame.normalise(self._upload(self._frame.resize(np.stack(slices))))
        features = self._encoder(images).permute(0, 2, 3, 1).to(self._dtype)
        shape = (slices[0].shape[0], slices[0].shape[1])
        # Copies, so that no embedding keeps its whole batch in memory.
        return [
            SamEmbedding(one.clone(memory_format=torch.contiguous_format).permute(2, 0, 1), shape)
            for one in features
        ]

    def _upload(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Copies to the device, to a GPU while it goes on working."""
        tensor = torch.from_numpy(array)
        if self._device.type != "cuda":
            return tensor.to(self._device)
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def decode(
        self,
        embeddings: Sequence[SamEmbedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Segments each slice for the prompt at the same position.

        Of an earlier answer's state, which are SAM's low-res scores, and a mask at the slice's own
        resolution, SAM takes one as mask prompt: the state where there is one. A prompt that holds
        nothing at all is an empty one to SAM too, which then segments what it likes.

        Args:
            embeddings: from `encode`; of slices of any shapes.
            prompts: one per embedding. The numbers of a box are SAM's own for its corners.
            multimask: True takes, of three masks, that of the highest predicted IoU; False takes
                the one meant for unambiguous prompts; None does as SAM's authors advise for the
                model at hand.

        Raises:
            ValueError: a mask prompt has another shape than the slice.
        """
        questions = [
            self._understand(embedding, prompt, multimask)
            for embedding, prompt in zip(embeddings, prompts, strict=True)
        ]
        # Padding a prompt with tokens would change its answer, so one call takes those of one
        # length; and results of one shape come back in one copy.
        groups = defaultdict(list)
        for index, question in enumerate(questions):
            groups[len(question.kinds), question.embedding.shape].append(index)
        answers: dict[int, SliceMask] = {}
        for indices in groups.values():
            indices.sort(key=lambda index: questions[index].mask is None)
            group = [questions[index] for index in indices]
            found = self._with_room(partial(self._decode_all, group))
            answers.update(zip(indices, found, strict=True))
        return [answers[index] for index in range(len(questions))]

    def _understand(
        self, embedding: SamEmbedding, prompt: SlicePrompt, multimask: bool | None
    ) -> _Question:
        places, kinds = prompt_tokens(prompt, self._frame, embedding.shape)
        mask = None
        if prompt.state is not None:
            mask = cast(npt.NDArray[np.float32], prompt.state)
        elif prompt.mask is not None:
            if prompt.mask.shape != embedding.shape:
                raise ValueError(
                    f"found a mask prompt of shape {prompt.mask.shape}, expected the slice's "
                    f"{embedding.shape}"
                )
            mask = self._frame.to_low_res(prompt.mask)
        several = self._habit(prompt) if multimask is None else multimask
        return _Question(embedding, places, kinds, mask, several)

    @torch.inference_mode()
    def _decode_all(self, questions: Sequence[_Question]) -> list[SliceMask]:
        """Answers any number of questions that `_decode_batch` may answer together."""
        return in_batches(self._decode_batch, questions, self._prompts_at_once)

    def _decode_batch(self, questions: Sequence[_Question]) -> list[SliceMask]:
        """Answers questions of as many tokens, on slices of one shape, those with a mask first."""
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
        shape = questions[0].embedding.shape
        logits = self._frame.to_slice(low_res, shape)
        numbers = torch.cat([low_res.flatten(1), logits.flatten(1), ious[:, None]], dim=1).cpu()
        return [
            SliceMask(
                logits=one[low_res[0].numel() : -1].reshape(shape),
                quality=float(one[-1].clip(0, 1)),
                state=one[: low_res[0].numel()].reshape(self._frame.low_res),
            )
            for one in numbers.numpy()
        ]

    def pack(self, embedding: SamEmbedding) -> npt.NDArray[Any]:
        """Returns an embedding's features (rows, columns, channels).

        They are float32, or the bits of bfloat16, which numpy lacks, as uint16.
        """
        features = embedding.features.permute(1, 2, 0).cpu()
        if features.dtype == torch.bfloat16:
            features = features.view(torch.uint16)
        return features.numpy()

    def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> SamEmbedding:
        """Returns the embedding that `pack` was given.

        Args:
            array: from `pack`.
            shape: of the slice (rows, columns).

        Raises:
            ValueError: the array is no embedding of this segmenter.
        """
        packed = torch.uint16 if self._dtype == torch.bfloat16 else torch.float32
        expected = f"{(*self._grid, PROMPT_CHANNELS)} {packed}".replace("torch.", "")
        if f"{array.shape} {array.dtype}" != expected:
            raise ValueError(f"found {array.shape} {array.dtype}, expected {expected}")
        features = torch.tensor(array).view(self._dtype).permute(2, 0, 1)
        return SamEmbedding(self._with_room(lambda: features.to(self._device)), shape)


def is_lone_point(prompt: SlicePrompt) -> bool:
    """Says whether a prompt is so ambiguous that SAM's authors advise to ask for three masks."""
    earlier = prompt.mask is not None or prompt.state is not None
    return len(prompt.points) == 1 and prompt.box is None and not earlier


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

"""What all networks with an image encoder and a prompt decoder have in common as segmenters."""

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask, Traits
from gamt.segmenters.decoder import prompt_tokens
from gamt.segmenters.devices import choose_device, choose_dtype, in_batches, is_out_of_memory
from gamt.segmenters.frames import Frame, Shape

logger = logging.getLogger("gamt")

CPU = torch.device("cpu")
"""Where a network goes on that has no room on its device."""


class EncodedSlice(Protocol):
    """An embedding, as far as all networks share it."""

    @property
    def shape(self) -> Shape:
        """Rows and columns of the slice itself."""


Encoded = TypeVar("Encoded", bound=EncodedSlice)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Question(Generic[Encoded]):
    """A prompt in the network's own terms.

    Attributes:
        embedding: of the slice.
        places: (T, 2), from `prompt_tokens`.
        kinds: (T,), likewise.
        mask: the mask prompt (low-res rows, low-res columns), log-odds; None without.
        multimask: whether the best of several masks is to be taken.
    """

    embedding: Encoded
    places: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]
    mask: npt.NDArray[np.float32] | None
    multimask: bool


class PromptableSegmenter(ABC, Generic[Encoded]):
    """A network with an image encoder and a prompt decoder, on a device.

    The image encoder runs in a precision of choice, and all that depends on the prompt in float32.
    In bfloat16 a prompt at 1024 px took 24 ms rather than 39 (SAM, one core with AVX-512), but the
    IoU with masks of float32 fell to 0.994; rounding the embeddings alone left it at 0.9995.

    A GPU without room for a batch gets smaller ones. Without room for a single slice or prompt, or
    for the network itself, the network moves to the CPU and stays there, as memory that others
    hold is seldom given back; the log says so. What it has encoded stays of use.

    Subclasses call `_with_room(self._start)` at the end of their `__init__`.
    """

    traits: Traits
    _prompts_at_once: int

    def __init__(
        self,
        name: str,
        frame: Frame,
        *,
        device: str,
        dtype: str,
        multimask: Callable[[SlicePrompt], bool],
    ) -> None:
        """Chooses device and precision.

        Args:
            name: of the segmenter.
            frame: the place of slices in the network's input.
            device: ``auto``, or a name that torch knows, such as ``cpu`` or ``cuda``.
            dtype: precision of the image encoder: ``auto``, ``float32`` or ``bfloat16``.
            multimask: the habit: says of a prompt whether the best of several masks is to be taken.

        Raises:
            SegmenterError: the device or the precision is not to be had.
        """
        self.name = name
        self._frame = frame
        self._habit = multimask
        self._device = choose_device(device)
        self._dtype = choose_dtype(dtype, self._device)

    def _start(self) -> None:
        self._place(self._device, self._dtype)

    @abstractmethod
    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts the network onto a device, where its encoder runs in some precision.

        Sets `_device`, `traits` and `_prompts_at_once`.
        """

    @abstractmethod
    def _encode_batch(self, slices: Sequence[npt.NDArray[np.uint8]]) -> list[Encoded]:
        """Encodes slices of one shape, at most as many as fit."""

    @abstractmethod
    def _kind(self, question: Question[Encoded]) -> Hashable:
        """Returns what questions have in common that `_decode_batch` can answer together."""

    @abstractmethod
    def _decode_batch(self, questions: Sequence[Question[Encoded]]) -> list[SliceMask]:
        """Answers questions of one kind, on slices of one shape, those with a mask first."""

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

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Encoded]:
        """Runs the image encoder.

        Args:
            slices: (N, rows, columns) or (N, rows, columns, 3) uint8, 0..255; N may be 0.

        Returns:
            N embeddings, in order. They stay on the device.
        """
        return self._with_room(partial(self._encode_all, list(slices)))

    @torch.inference_mode()
    def _encode_all(self, slices: Sequence[npt.NDArray[np.uint8]]) -> list[Encoded]:
        return in_batches(self._encode_batch, slices, self.traits.batch)

    def _upload(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Copies to the device, to a GPU while it goes on working."""
        tensor = torch.from_numpy(array)
        if self._device.type != "cuda":
            return tensor.to(self._device)
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def decode(
        self,
        embeddings: Sequence[Encoded],
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
        # kind; and results of one shape come back in one copy.
        groups = defaultdict(list)
        for index, question in enumerate(questions):
            groups[self._kind(question), question.embedding.shape].append(index)
        answers: dict[int, SliceMask] = {}
        for indices in groups.values():
            indices.sort(key=lambda index: questions[index].mask is None)
            group = [questions[index] for index in indices]
            found = self._with_room(partial(self._decode_all, group))
            answers.update(zip(indices, found, strict=True))
        return [answers[index] for index in range(len(questions))]

    def _understand(
        self, embedding: Encoded, prompt: SlicePrompt, multimask: bool | None
    ) -> Question[Encoded]:
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
        return Question(embedding, places, kinds, mask, several)

    @torch.inference_mode()
    def _decode_all(self, questions: Sequence[Question[Encoded]]) -> list[SliceMask]:
        """Answers any number of questions of one kind, on slices of one shape."""
        return in_batches(self._decode_batch, questions, self._prompts_at_once)

    def _answers(self, low_res: torch.Tensor, ious: torch.Tensor, shape: Shape) -> list[SliceMask]:
        """Brings answers to the slice's own pixels, and from the device in one copy.

        Args:
            low_res: (B, low-res rows, low-res columns) float32 log-odds.
            ious: (B,) float32, predicted.
            shape: of the slices.
        """
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


def is_lone_point(prompt: SlicePrompt) -> bool:
    """Says whether a prompt is so ambiguous that SAM's authors advise to ask for three masks."""
    earlier = prompt.mask is not None or prompt.state is not None
    return len(prompt.points) == 1 and prompt.box is None and not earlier


def to_bits(features: torch.Tensor) -> npt.NDArray[Any]:
    """Returns float32 as it is, and bfloat16, which numpy lacks, as uint16 of the same bits."""
    features = features.cpu()
    if features.dtype == torch.bfloat16:
        features = features.view(torch.uint16)
    return features.numpy()


def from_bits(array: npt.NDArray[Any], shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Returns the features that `to_bits` was given, on the CPU.

    Raises:
        ValueError: the array is not of this shape and precision.
    """
    packed = torch.uint16 if dtype == torch.bfloat16 else torch.float32
    expected = f"{shape} {packed}".replace("torch.", "")
    if f"{array.shape} {array.dtype}" != expected:
        raise ValueError(f"found {array.shape} {array.dtype}, expected {expected}")
    return torch.tensor(array).view(dtype)

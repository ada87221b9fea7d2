"""Models of SAM's kind from the Hugging Face hub, as segmenters: ``hf:ORG/NAME``, ``hf:FOLDER``.

The networks are those of the package transformers. What goes into them differs by family:

| | input | normalised by | levels seen |
| --- | --- | --- | --- |
| SAM, MedSAM, SlimSAM, SAM-HQ | longest side 1024 px, then zeros | ImageNet's colours | one |
| SAM 2, SAM 2.1, EdgeTAM | squeezed to 1024 x 1024 px | ImageNet's colours | three |
| SAM 3's tracker | squeezed to 1008 x 1008 px, in patches of 14 | 127.5 | three |

The sizes are the published models' own; those of others are read from their configuration.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers.initialization import no_init_weights

from gamt.prompts import SlicePrompt
from gamt.segmenters import INSTALL_HUB, SegmenterError
from gamt.segmenters.base import Memory, SliceMask, Traits
from gamt.segmenters.decoder import CORNERS, PADDING
from gamt.segmenters.devices import choose_batch
from gamt.segmenters.door import describe_exception
from gamt.segmenters.frames import Frame, LongestSide, Shape, Stretch
from gamt.segmenters.hub_config import find_part, read_config, select_settings
from gamt.segmenters.hub_files import find
from gamt.segmenters.networks import Network, fill_network, read_weights
from gamt.segmenters.promptable import (
    PromptableSegmenter,
    Question,
    from_bits,
    is_lone_point,
    to_bits,
)
from gamt.segmenters.tracking import MemoryWalker

PREPARATION = 1
"""Counts the changes of this package that change embeddings."""

ENCODING_BYTES = 4096
"""Bytes for each pixel of its input that a slice takes while it is encoded, about
(docs/constants.md)."""

DECODING_TENSORS = 256
"""Tensors of the size of its low-res mask that a prompt takes while it is decoded, about
(docs/constants.md)."""

HALF = (127.5, 127.5, 127.5)
"""Mean and standard deviation by which SAM 3 normalises."""


@dataclass(frozen=True, slots=True)
class Family:
    """What models of one architecture have in common.

    Attributes:
        image: the class of transformers for single images.
        video: likewise for videos, with a memory; None where there is none.
        vision: the type of its image encoder's configuration.
        frame: makes the place of slices in the input, of its side and its patches' side in pixels.
    """

    image: str
    video: str | None
    vision: str
    frame: Callable[[int, int], Frame]


def _squeezed_by_half(side: int, patch: int) -> Frame:
    return Stretch(side, patch, HALF, HALF)


_SAM2 = Family("Sam2Model", "Sam2VideoModel", "sam2_vision_model", Stretch)
_SAM3 = Family("Sam3TrackerModel", "Sam3TrackerVideoModel", "sam3_vision_model", _squeezed_by_half)
_EDGETAM = Family("EdgeTamModel", "EdgeTamVideoModel", "edgetam_vision_model", Stretch)

FAMILIES: Mapping[str, Family] = {
    "sam": Family("SamModel", None, "sam_vision_model", LongestSide),
    "sam_hq": Family("SamHQModel", None, "sam_hq_vision_model", LongestSide),
    "sam2": _SAM2,
    "sam2_video": _SAM2,
    "sam3_tracker": _SAM3,
    "sam3_tracker_video": _SAM3,
    "sam3_video": _SAM3,
    "edgetam": _EDGETAM,
    "edgetam_video": _EDGETAM,
}
"""By the `model_type` in their configuration."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model with its weights.

    Attributes:
        model: of transformers, on the CPU, in float32.
        frame: the place of slices in its input.
        tracks: whether it is a video model, with its memory's weights.
        weights: the files of its weights.
    """

    model: Network
    frame: Frame
    tracks: bool
    weights: tuple[Path, ...]


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
    shape: Shape

    @property
    def nbytes(self) -> int:
        """The memory that it takes, on whatever device."""
        return sum(one.nbytes for one in self.features)


class HubSegmenter(PromptableSegmenter[HubEmbedding]):
    """A model of the hub as a segmenter."""

    def __init__(
        self, name: str, loaded: LoadedModel, device: str = "auto", dtype: str = "auto"
    ) -> None:
        """Moves the model to its device.

        Args:
            name: of the segmenter.
            loaded: from `load_model`; taken over.
            device: ``auto``, or a name that torch knows, such as ``cpu`` or ``cuda``.
            dtype: precision of the image encoder: ``auto``, ``float32`` or ``bfloat16``.

        Raises:
            SegmenterError: the device or the precision is not to be had.
        """
        super().__init__(name, loaded.frame, device=device, dtype=dtype, multimask=is_lone_point)
        self._loaded = loaded
        self._model = loaded.model
        self._levelled = hasattr(loaded.model, "no_memory_embedding")
        self._shapes = _feature_shapes(loaded.model, loaded.frame)
        self._with_room(self._start)

    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        self._model.to(device, torch.float32)
        _cast_encoder(self._model.vision_encoder, dtype)
        side, low_res = self._frame.side, self._frame.low_res
        batch = choose_batch(device, side, ENCODING_BYTES * side**2)
        mask_bytes = 4 * low_res[0] * low_res[1]
        self._prompts_at_once = choose_batch(device, side, DECODING_TENSORS * mask_bytes)
        self._device = device
        self._encoder_dtype = dtype
        with torch.inference_mode():
            self._image_places = self._model.get_image_wide_positional_embeddings()
        self.traits = Traits(batch=batch, device=str(device), three_channels=True)

    @cached_property
    def fingerprint(self) -> str:
        """Differs wherever embeddings of the same slice would; 32 hexadecimal digits.

        It is the same wherever the model's files lie, and whatever it is called.
        """
        # Another version may compute otherwise; timm has EdgeTAM's encoder.
        versions = (transformers.__version__, version("timm"))
        parts = (str(self._dtype), PREPARATION, *versions, self._model.config.to_dict())
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
        for path in self._loaded.weights:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

    def _encode_batch(self, slices: Sequence[npt.NDArray[np.uint8]]) -> list[HubEmbedding]:
        images = self._frame.normalise(self._upload(self._frame.resize(np.stack(slices))))
        levels = [one.to(self._dtype) for one in self._features(images.to(self._encoder_dtype))]
        shape = (slices[0].shape[0], slices[0].shape[1])
        # Copies, so that no embedding keeps its whole batch in memory.
        return [
            HubEmbedding(tuple(level[index].clone() for level in levels), shape)
            for index in range(len(slices))
        ]

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the levels of `HubEmbedding.features` of several images, (N, ...) float32."""
        model = self._model
        encoded = model.vision_encoder(images)
        if not self._levelled:
            levels = [encoded.last_hidden_state.float()]
            if "intermediate_embeddings" in encoded:
                levels.insert(0, encoded.intermediate_embeddings[0].permute(0, 3, 1, 2).float())
            return levels
        # SAM 3's encoder has a fourth level, the coarsest, for its detector.
        finest, finer, coarsest = (one.float() for one in encoded.fpn_hidden_states[:3])
        return [model.mask_decoder.conv_s0(finest), model.mask_decoder.conv_s1(finer), coarsest]

    def _kind(self, question: Question[HubEmbedding]) -> Hashable:
        boxed = CORNERS[0] in question.kinds
        return len(question.kinds), boxed, question.mask is None, question.multimask

    def _decode_batch(self, questions: Sequence[Question[HubEmbedding]]) -> list[SliceMask]:
        levels = [
            # Those from before the model moved are elsewhere.
            torch.stack([one.to(self._device) for one in level]).float()
            for level in zip(*(one.embedding.features for one in questions), strict=True)
        ]
        sparse, dense = self._model.prompt_encoder(**self._prompts(questions))
        low_res, ious, *_ = self._model.mask_decoder(
            **self._images(levels),
            image_positional_embeddings=self._image_places.expand(len(questions), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=questions[0].multimask,
        )
        # One prompt for each slice, and one or three masks for each prompt.
        best = ious[:, 0].argmax(dim=1)[:, None]
        return self._answers(
            low_res[:, 0].take_along_dim(best[..., None, None], dim=1)[:, 0],
            ious[:, 0].take_along_dim(best, dim=1)[:, 0],
            questions[0].embedding.shape,
        )

    def _prompts(self, questions: Sequence[Question[HubEmbedding]]) -> dict[str, Any]:
        """Returns what the prompt encoder takes, for questions of one kind."""
        kinds = questions[0].kinds
        places = np.stack([one.places for one in questions]).astype(np.float32)[:, None]
        prompts: dict[str, Any] = dict.fromkeys(
            ("input_points", "input_labels", "input_boxes", "input_masks")
        )
        points = (kinds == 0) | (kinds == 1)  # the encoder adds padding by itself
        if points.any():
            labels = np.stack([one.kinds[points] for one in questions])[:, None]
            prompts["input_points"] = self._upload(places[:, :, points])
            prompts["input_labels"] = self._upload(labels)
        if CORNERS[0] in kinds:
            corners = places[:, :, np.isin(kinds, CORNERS)]
            prompts["input_boxes"] = self._upload(corners.reshape(-1, 1, 4))
        elif not len(kinds) and self._levelled:
            # As its own `forward` does without points and boxes.
            count = len(questions)
            prompts["input_points"] = self._upload(np.zeros((count, 1, 1, 2), np.float32))
            prompts["input_labels"] = self._upload(np.full((count, 1, 1), PADDING))
        masks = [one.mask for one in questions if one.mask is not None]
        if masks:
            prompts["input_masks"] = self._upload(np.stack(masks)[:, None].astype(np.float32))
        return prompts

    def _images(self, levels: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Returns what the mask decoder takes of slices.

        Args:
            levels: as in `HubEmbedding.features`, each (N, channels, rows, columns).
        """
        *finer, last = levels
        if self._levelled:
            last = last + self._model.no_memory_embedding.view(1, -1, 1, 1)
            return {"image_embeddings": last, "high_resolution_features": finer}
        if finer:
            blocks = [one.permute(0, 2, 3, 1) for one in finer]
            return {
                "image_embeddings": last,
                "intermediate_embeddings": blocks,
                "hq_token_only": False,
            }
        return {"image_embeddings": last}

    def pack(self, embedding: HubEmbedding) -> npt.NDArray[Any]:
        """Returns an embedding's features one after the other, in one dimension.

        They are float32, or the bits of bfloat16, which numpy lacks, as uint16.
        """
        return to_bits(torch.cat([one.flatten() for one in embedding.features]))

    def unpack(self, array: npt.NDArray[Any], shape: Shape) -> HubEmbedding:
        """Returns the embedding that `pack` was given.

        Args:
            array: from `pack`.
            shape: of the slice (rows, columns).

        Raises:
            ValueError: the array is no embedding of this segmenter.
        """
        sizes = [math.prod(one) for one in self._shapes]
        flat = from_bits(array, (sum(sizes),), self._dtype)
        flat = self._with_room(lambda: flat.to(self._device))
        parts = zip(torch.split(flat, sizes), self._shapes, strict=True)
        return HubEmbedding(tuple(part.view(size) for part, size in parts), shape)


class HubTracker(HubSegmenter):
    """A video model of the hub as a segmenter that follows targets by a memory."""

    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._place(device, dtype)
        self._walker = MemoryWalker(self._model, self._frame)

    def track(
        self,
        embeddings: Sequence[HubEmbedding],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Memory | None],
        positions: Sequence[int],
    ) -> Sequence[SliceMask]:
        """Segments each slice by what is remembered of a target; see `Tracker`."""
        features = [one.features for one in embeddings]
        shapes = [one.shape for one in embeddings]
        return self._with_room(
            lambda: self._walker.track(features, shapes, prompts, memories, positions)
        )


def load_model(name: str, weights: Path | None = None) -> LoadedModel:
    """Loads a model; asks no network.

    Args:
        name: ``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` or ``hf:FOLDER``.
        weights: a file to take in place of the model's own, such as that of a fine-tune; of any
            layout that `gamt.segmenters.layouts` knows.

    Raises:
        CheckpointError: the model has not been fetched, or a file of it is missing.
        SegmenterError: the model is of another kind, its configuration can't be read, or the
            weights are not those of it.
    """
    files = find(name, weights)
    return load_described(read_config(files.config), files.config, files.weights)


def load_described(
    described: Mapping[str, Any], path: Path, weights: tuple[Path, ...]
) -> LoadedModel:
    """Loads a model of a known configuration.

    Args:
        described: its configuration, as transformers writes it.
        path: the file that errors about the configuration name.
        weights: the files of its weights.

    Raises:
        SegmenterError: as in `load_model`.
    """
    kind = described.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise SegmenterError(
            f"{path}: found a model of type {kind!r:.99}, expected one of {', '.join(FAMILIES)}"
        )
    state: dict[Any, Any] = {}
    for file in weights:
        state.update(read_weights(file))
    name = family.image
    if family.video is not None and any("memory_attention." in str(key) for key in state):
        name = family.video
    if kind == "sam3_video":  # its other part is the detector
        described = find_part(described, "tracker_config", path)
    model = _build(name, described, family.vision, path)
    side = int(model.prompt_encoder.input_image_size)
    patch = int(model.config.prompt_encoder_config.patch_size)
    _check_sides(model.config, side, patch, path)
    fill_network(model, state, weights[0] if len(weights) == 1 else weights[0].parent)
    model.float()
    return LoadedModel(
        model=model,
        frame=family.frame(side, patch),
        tracks=name == family.video,
        weights=weights,
    )


def load_segmenter(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> HubSegmenter:
    """Sets up a model of the hub.

    Args:
        name: ``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` or ``hf:FOLDER``.
        weights: a file to take in place of the model's own; None takes these.
        device: ``auto``, or a name that torch knows, such as ``cpu`` or ``cuda``.
        dtype: precision of the image encoder: ``auto``, ``float32`` or ``bfloat16``.

    Returns:
        A `HubTracker` of a video model, if the weights of its memory are there.

    Raises:
        CheckpointError: the model has not been fetched, or a file of it is missing.
        SegmenterError: the model or its weights can't be used, or the device or precision is not
            to be had.
    """
    loaded = load_model(name, None if weights is None else Path(weights))
    return make_segmenter(name, loaded, device, dtype)


def make_segmenter(name: str, loaded: LoadedModel, device: str, dtype: str) -> HubSegmenter:
    """Makes a `HubTracker` of a model with a memory, else a `HubSegmenter`; see there."""
    kind = HubTracker if loaded.tracks else HubSegmenter
    return kind(name, loaded, device, dtype)


def _build(name: str, described: Mapping[str, Any], vision: str, path: Path) -> Network:
    """Builds a model of transformers whose weights are not set yet, in float32.

    Args:
        name: of its class.
        described: its configuration.
        vision: the type of its image encoder's configuration.
        path: the file that errors name.
    """
    cls = getattr(transformers, name)
    try:
        with no_init_weights(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of timm, which EdgeTAM imports
            settings = select_settings(described, cls.config_class, vision, path)
            model = cls(cls.config_class(**settings))
    except SegmenterError:
        raise
    except ImportError as error:  # a package is missing, or too old
        raise SegmenterError(
            f"{path}: no {name} can be made of it: {describe_exception(error)}; {INSTALL_HUB}"
        ) from error
    except Exception as error:  # a configuration can make anything fail in there
        raise SegmenterError(
            f"{path}: no {name} can be made of it: {describe_exception(error)}"
        ) from error
    return model.eval().requires_grad_(False)


def _check_sides(config: Any, side: int, patch: int, path: Path) -> None:
    """Checks that the parts of a model are made for the same input.

    Args:
        config: of the model.
        side: of the input in pixels, as the prompt encoder has it.
        patch: side of the square of pixels that becomes one token, likewise.
        path: the file that errors name.

    Raises:
        SegmenterError: a part isn't.
    """
    grid = side // patch
    if grid < 1 or side != grid * patch:
        raise SegmenterError(
            f"{path}: found image_size {side} and patch_size {patch} in prompt_encoder_config, "
            "expected a number of whole patches"
        )
    vision = config.vision_config
    for part, name, expected in (
        (config, "image_size", side),
        (config, "memory_attention_rope_feat_sizes", [grid, grid]),
        (vision, "image_size", side),
        (vision, "patch_size", patch),
        (vision, "backbone_feature_sizes", [[scale * grid] * 2 for scale in (4, 2, 1)]),
    ):
        found = getattr(part, name, expected)  # no family has all of them
        if found not in (expected, [expected, expected]):
            raise SegmenterError(
                f"{path}: found {name} {found!r:.99}, expected {expected} as image_size is {side} "
                f"and patch_size {patch} in prompt_encoder_config"
            )


def _cast_encoder(encoder: torch.nn.Module, dtype: torch.dtype) -> None:
    """Casts the weights of an image encoder.

    Buffers stay float32, and weights beside them: rotary angles rounded to bfloat16 would move
    SAM 3's tokens, and a batch norm takes its weights in its statistics' precision alone.
    """
    for module in encoder.modules():
        if not any(one.is_floating_point() for one in module.buffers(recurse=False)):
            for weight in module.parameters(recurse=False):
                weight.data = weight.data.to(dtype)


def _feature_shapes(model: Network, frame: Frame) -> tuple[tuple[int, int, int], ...]:
    """Returns the shapes of `HubEmbedding.features`."""
    grid = frame.side // frame.patch
    decoder = model.mask_decoder
    if hasattr(decoder, "conv_s0"):
        channels = (decoder.conv_s0.out_channels, decoder.conv_s1.out_channels)
        sides = (4 * grid, 2 * grid)
        finer = [(count, side, side) for count, side in zip(channels, sides, strict=True)]
    elif hasattr(decoder, "hq_token"):
        finer = [(model.config.vision_config.hidden_size, grid, grid)]
    else:
        finer = []
    return (*finer, (decoder.hidden_size, grid, grid))

"""Walks by memory: the video models of SAM 2, SAM 3 and EdgeTAM, slice by slice.

The modules and weights are transformers'. Its video inference keeps a session: it encodes frames
itself, holds one state that changes, and asks its objects one after the other. Here slices are
encoded already, what is remembered of a target is a value, and many walks share a batch. In float32
the answers are those of its video inference (tests/segmenters/test_tracking.py).

Some methods of the models are private in transformers, and no promise to anyone: pyproject.toml
admits its version 5.24 alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Memory, SliceMask
from gamt.segmenters.decoder import CORNERS, PADDING
from gamt.segmenters.devices import choose_batch, in_batches
from gamt.segmenters.frames import Frame, Shape
from gamt.segmenters.networks import Network

GONE = -1024.0
"""Log-odds of every pixel of a slice where the model says that the target isn't there
(docs/constants.md)."""

ATTENTION_TENSORS = 8
"""Tensors of the size of all that it remembers that a walk takes for a slice, about
(docs/constants.md)."""

Features = Sequence[torch.Tensor]
"""An encoded slice: three levels (channels, rows, columns), finest first, the finer two after the
mask decoder's `conv_s0` and `conv_s1`, the last one without the no-memory embedding."""


@dataclass(frozen=True, slots=True, eq=False)
class ConditioningSlice:
    """A slice that was segmented by a prompt alone.

    Attributes:
        features: (tokens, memory's channels): its image and mask as the memory encoder sees them.
        pointer: (channels,): the target, in the mask decoder's own terms.
        low_res: (low-res rows, low-res columns) log-odds; its answer, should a walk pass by.
        quality: of that answer, 0..1.
    """

    features: torch.Tensor
    pointer: torch.Tensor
    low_res: torch.Tensor
    quality: float


@dataclass(frozen=True, slots=True, eq=False)
class WalkMemory:
    """What is remembered of a target: no more than the model reads for a slice to come.

    Attributes:
        conditioning: the slices segmented by a prompt alone, by position. They are kept for good.
        features: of the last slices that a walk has reached, by position; see `ConditioningSlice`.
        pointers: of the last slices, likewise; there are more of them.
        latest: position of the last answer.
        direction: in which the walk goes, 1 or -1.
    """

    conditioning: Mapping[int, ConditioningSlice] = field(default_factory=dict)
    features: Mapping[int, torch.Tensor] = field(default_factory=dict)
    pointers: Mapping[int, torch.Tensor] = field(default_factory=dict)
    latest: int = 0
    direction: int = 1

    def walked(self, position: int) -> bool:
        """Says whether a walk has reached a slice, not long ago."""
        return position in self.features or position in self.pointers

    def heading(self, position: int) -> int:
        """Returns the direction in which a walk reaches a slice: 1 upwards, -1 downwards.

        It comes from the neighbour that is remembered, or, where both are, from where it was last.
        """
        below, above = (
            self.walked(one) or one in self.conditioning for one in (position - 1, position + 1)
        )
        if below != above:
            return 1 if below else -1
        return int(np.sign(position - self.latest)) or self.direction


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A slice of a walk, in the model's own terms.

    Attributes:
        features: of the slice.
        shape: rows and columns of the slice.
        position: in its memory's order.
        memory: of the target so far; empty at the first slice.
        direction: in which the walk goes.
        prompted: whether a user has said something of this slice.
        begins: whether it is a conditioning slice: what is remembered is of no matter to it.
        places: (T, 2) float32, pixels (x, y) of the model's input: a box's corners and points.
        kinds: (T,) int64: 0, 1 points outside and inside, 2, 3 corners.
        mask: (low-res rows, low-res columns) float32 log-odds beside them, or None.
        drawing: (rows, columns) bool: the mask that the target has, where a prompt is nothing else.
        recalled: distance and features of the slices that the model looks back at.
        pointed: distance and pointer, likewise.
    """

    features: Features
    shape: Shape
    position: int
    memory: WalkMemory
    direction: int
    prompted: bool
    begins: bool
    places: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int64]
    mask: npt.NDArray[np.float32] | None
    drawing: npt.NDArray[np.bool_] | None
    recalled: Sequence[tuple[int, torch.Tensor]]
    pointed: Sequence[tuple[int, torch.Tensor]]

    @property
    def kind(self) -> tuple[object, ...]:
        """The same for steps that one batch may take: padding would change answers."""
        form = (self.shape, self.prompted, self.begins, len(self.kinds), self.mask is None)
        return (*form, self.drawing is None, len(self.recalled), len(self.pointed))


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """What the model makes of B slices.

    Attributes:
        low_res: (B, low-res rows, low-res columns) log-odds.
        high_res: (B, 1, side, side), the same at the size of the model's input.
        qualities: (B,) predicted IoUs.
        presence: (B, 1, 1) log-odds that the target is on the slice at all.
        pointers: (B, channels).
    """

    low_res: torch.Tensor
    high_res: torch.Tensor
    qualities: torch.Tensor
    presence: torch.Tensor
    pointers: torch.Tensor


class MemoryWalker:
    """Follows targets from slice to slice by the memory of a video model.

    A slice that a prompt speaks of, and that the memory hasn't seen, is segmented by the prompt
    alone: a conditioning slice. All others are segmented by what is remembered of all conditioning
    slices and of the last ones walked (`num_maskmem`, `max_object_pointers_in_encoder` of the
    model's configuration). A prompt for a slice that a walk has reached corrects it, with what is
    remembered; where the earlier answer is to count as well, it comes as the prompt's mask. To
    correct a slice, take the memory of its own answer: later ones let go of the slices before it.
    As in transformers, and other than in the authors' code, a corrected slice is remembered as one
    that was walked. A new prompt for a conditioning slice replaces it.

    Where the model says that the target is gone, the slice's log-odds are `GONE` everywhere, so
    that a walk finds an empty mask and ends.

    Distances of object pointers are divided as for a video that is streamed: how many slices there
    are is not known. Of a video known beforehand, transformers divides by the number of frames,
    where these are fewer than `max_object_pointers_in_encoder`.
    """

    def __init__(self, model: Network, frame: Frame) -> None:
        """Takes a loaded model over, on its device, in float32 but for the image encoder.

        Args:
            model: transformers' Sam2VideoModel, Sam3TrackerVideoModel or EdgeTamVideoModel.
            frame: the place of slices in its input.
        """
        self._model = model
        self._frame = frame
        self._config = model.config
        self._device = torch.device(model.device)
        self._resamples = model.config.model_type == "edgetam_video"
        side = int(model.image_size)
        grid = model.backbone_feature_sizes[-1]
        seen_bytes = 4 * int(model.hidden_dim) * model.num_maskmem * grid[0] * grid[1]
        self._batch = choose_batch(self._device, side, ATTENTION_TENSORS * seen_bytes)
        with torch.inference_mode():
            self._image_places = model.get_image_wide_positional_embeddings()
            shape = torch.Size((1, int(model.hidden_dim), *grid))
            places = model.vision_encoder.neck.position_encoding(shape, self._device, torch.float32)
            self._token_places = places.flatten(2).permute(2, 0, 1)

    @torch.inference_mode()
    def track(
        self,
        features: Sequence[Features],
        shapes: Sequence[Shape],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Memory | None],
        positions: Sequence[int],
    ) -> list[SliceMask]:
        """Takes one step of each of several walks; see `gamt.segmenters.base.Tracker`.

        Args:
            features: of the walks' slices, on any device and in any precision.
            shapes: rows and columns of the slices themselves.
            prompts: a box and points, with or without a mask, are segmented; of a mask alone, its
                positive pixels are the answer. None where there is none.
            memories: of each one's target, from earlier answers' `state`; None without.
            positions: of each slice in its memory's order: neighbours in a walk differ by 1.

        Returns:
            One mask per slice, in order; its `state` is the memory, with this slice.

        Raises:
            ValueError: there is neither a prompt nor a memory, or a mask prompt has another shape
                than the slice.
        """
        answers: dict[int, SliceMask] = {}
        groups = defaultdict(list)
        asked = zip(features, shapes, prompts, memories, positions, strict=True)
        for index, (one, shape, prompt, memory, position) in enumerate(asked):
            past = WalkMemory() if memory is None else cast(WalkMemory, memory)
            if prompt is None and position in past.conditioning:
                answers[index] = self._repeat(past, position, shape)
                continue
            step = self._understand(one, shape, prompt, past, position)
            groups[step.kind].append((index, step))
        for group in groups.values():
            found = in_batches(self._take, [step for _, step in group], self._batch)
            answers.update(zip((index for index, _ in group), found, strict=True))
        return [answers[index] for index in range(len(answers))]

    def _repeat(self, memory: WalkMemory, position: int, shape: Shape) -> SliceMask:
        """Answers for a conditioning slice that a walk passes by, as it was answered before."""
        held = memory.conditioning[position]
        direction = memory.heading(position)
        return SliceMask(
            logits=self._frame.to_slice(held.low_res[None].to(self._device), shape)[0]
            .cpu()
            .numpy(),
            quality=held.quality,
            state=replace(memory, latest=position, direction=direction),
        )

    def _understand(
        self,
        features: Features,
        shape: Shape,
        prompt: SlicePrompt | None,
        memory: WalkMemory,
        position: int,
    ) -> _Step:
        """Puts a step into the model's own terms.

        Raises:
            ValueError: there is neither a prompt nor a memory, or a mask prompt has another shape
                than the slice.
        """
        begins = prompt is not None and not memory.walked(position)
        if not begins and not memory.conditioning:
            raise ValueError("found neither a prompt nor a memory of the target, expected either")
        said = SlicePrompt() if prompt is None else prompt
        if said.mask is not None and said.mask.shape != shape:
            raise ValueError(
                f"found a mask prompt of shape {said.mask.shape}, expected the slice's {shape}"
            )
        places, kinds = [said.points], [said.labels]
        if said.box is not None:  # before the points, as video inference has it
            places.insert(0, np.reshape(said.box, (2, 2)))
            kinds.insert(0, np.array(CORNERS))
        alone = not len(said.points) and said.box is None
        # A correction goes on in the direction of the walk that reached the slice.
        direction = memory.direction if prompt is not None else memory.heading(position)
        recalled, pointed = ([], []) if begins else self._look_back(memory, position, direction)
        return _Step(
            features=features,
            shape=shape,
            position=position,
            memory=memory,
            direction=direction,
            prompted=prompt is not None,
            begins=begins,
            places=self._frame.scale_points(np.concatenate(places), shape).astype(np.float32),
            kinds=np.concatenate(kinds).astype(np.int64),
            mask=None if said.mask is None or alone else self._frame.to_low_res(said.mask),
            drawing=said.mask > 0 if said.mask is not None and alone else None,
            recalled=recalled,
            pointed=pointed,
        )

    def _look_back(
        self, memory: WalkMemory, position: int, direction: int
    ) -> tuple[list[tuple[int, torch.Tensor]], list[tuple[int, torch.Tensor]]]:
        """Returns distances and features, and distances and pointers, that the model reads."""
        chosen, others = self._model._select_closest_cond_frames(
            position, memory.conditioning, self._config.max_cond_frame_num
        )
        # To SAM 2, conditioning slices are at no distance, wherever they are.
        recalled = [(0, one.features) for one in chosen.values()]
        for distance in range(self._config.num_maskmem - 1, 0, -1):
            behind = position - direction * distance
            if behind in memory.features:
                recalled.append((distance, memory.features[behind]))
            elif behind in others:
                recalled.append((distance, others[behind].features))
        # No pointers are read of conditioning slices ahead of the walk.
        pointed = [
            (distance, one.pointer)
            for place, one in memory.conditioning.items()
            if (distance := (position - place) * direction) >= 0
        ]
        for distance in range(1, self._config.max_object_pointers_in_encoder):
            behind = position - direction * distance
            if behind in memory.pointers:
                pointed.append((distance, memory.pointers[behind]))
        return recalled, pointed

    def _take(self, steps: Sequence[_Step]) -> list[SliceMask]:
        """Takes steps of one kind at once."""
        finer = [self._stack([step.features[level] for step in steps]) for level in (0, 1)]
        coarsest = self._stack([step.features[2] for step in steps])
        # (tokens, B, channels), the order of video inference.
        tokens = coarsest.flatten(2).permute(2, 0, 1)
        if steps[0].drawing is not None:
            outcome = self._draw(steps, finer, coarsest)
        else:
            outcome = self._segment(steps, finer, self._condition(steps, tokens), coarsest.shape)
        features, _ = self._remember(tokens, outcome.high_res, outcome.presence, steps[0].prompted)
        logits = self._frame.to_slice(outcome.low_res, steps[0].shape).cpu().numpy()
        qualities = outcome.qualities.clip(0, 1).tolist()
        return [
            SliceMask(
                logits=logits[index],
                quality=qualities[index],
                state=self._extend(
                    step,
                    # Copies, so that no memory keeps its whole batch.
                    ConditioningSlice(
                        features[index].clone(),
                        outcome.pointers[index].clone(),
                        outcome.low_res[index].clone(),
                        qualities[index],
                    ),
                ),
            )
            for index, step in enumerate(steps)
        ]

    def _stack(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack([one.to(self._device) for one in tensors]).float()

    def _condition(self, steps: Sequence[_Step], tokens: torch.Tensor) -> torch.Tensor:
        """Adds to slices what is remembered of their targets; (B, tokens, channels)."""
        if steps[0].begins:
            begun: torch.Tensor = tokens + self._model.no_memory_embedding
            return begun.transpose(0, 1)
        memory, places = self._recall(steps)
        pointers, pointer_places = self._point(steps)
        resampled = {"num_spatial_memory_tokens": len(steps[0].recalled)} if self._resamples else {}
        conditioned: torch.Tensor = self._model.memory_attention(
            tokens,
            torch.cat([memory, pointers], dim=1).transpose(0, 1),
            self._token_places,
            torch.cat([places, pointer_places], dim=1).transpose(0, 1),
            num_object_pointer_tokens=pointers.shape[1],
            **resampled,
        )
        return conditioned[0]

    def _recall(self, steps: Sequence[_Step]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the features of slices looked back at, and their places in image and time.

        Both are (B, tokens of all slices, memory's channels).
        """
        features = torch.stack([self._stack([one for _, one in step.recalled]) for step in steps])
        distances = torch.tensor([[far for far, _ in step.recalled] for step in steps])
        times = self._model.memory_temporal_positional_encoding[distances - 1].squeeze(2)
        return features.flatten(1, 2), (self._memory_places + times).flatten(1, 2)

    def _point(self, steps: Sequence[_Step]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the pointers, cut to the memory's channels, and their places in time.

        Both are (B, tokens of all pointers, memory's channels).
        """
        pointed = [one for step in steps for one in step.pointed]
        if not pointed:
            nothing = torch.zeros(len(steps), 0, self._model.mem_dim, device=self._device)
            return nothing, nothing
        found = self._model._process_object_pointers(
            [far for far, _ in pointed],
            [one.to(self._device)[None] for _, one in pointed],
            self._config.max_object_pointers_in_encoder,
            1,
            self._model.hidden_dim,
            self._device,
        )
        pointers, places = (one.view(len(steps), -1, self._model.mem_dim) for one in found)
        return pointers, places

    def _segment(
        self,
        steps: Sequence[_Step],
        finer: Features,
        tokens: torch.Tensor,
        shape: torch.Size,
    ) -> _Outcome:
        """Decodes slices (B, tokens, channels), whose image is of a shape (B, channels, ...)."""
        model, first = self._model, steps[0]
        count = len(steps)
        # Where nothing is said, SAM 2 takes one point that is none.
        places = torch.zeros(count, 1, 1, 2, device=self._device)
        kinds = torch.full((count, 1, 1), PADDING, device=self._device)
        if first.prompted:
            places = torch.from_numpy(np.stack([step.places for step in steps])[:, None])
            kinds = torch.from_numpy(np.stack([step.kinds for step in steps])[:, None])
        masks = None
        if first.mask is not None:
            given = [step.mask for step in steps if step.mask is not None]
            masks = torch.from_numpy(np.stack(given)[:, None]).to(self._device)
        sparse, dense = model.prompt_encoder(
            places.to(self._device), kinds.to(self._device), None, masks
        )
        asked = {"point_labels": kinds} if first.prompted else None
        candidates, ious, answers, presence = model.mask_decoder(
            image_embeddings=tokens.transpose(1, 2).reshape(shape),
            image_positional_embeddings=self._image_places.expand(count, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=model._use_multimask(first.begins, asked),
            high_resolution_features=finer,
        )
        rows, best = torch.arange(count, device=self._device), ious[:, 0].argmax(dim=1)
        here = presence[:, 0] > 0
        low_res = torch.where(here[..., None], candidates[rows, 0, best], GONE)
        pointers = model.object_pointer_proj(answers[rows, 0, best])
        return _Outcome(
            low_res=low_res,
            high_res=functional.interpolate(
                low_res[:, None], model.image_size, mode="bilinear", align_corners=False
            ),
            qualities=ious[rows, 0, best],
            presence=presence,
            pointers=torch.where(here, pointers, model.no_object_pointer),
        )

    def _draw(self, steps: Sequence[_Step], finer: Features, coarsest: torch.Tensor) -> _Outcome:
        """Takes the masks of prompts as the answers."""
        outcomes = []
        for index, step in enumerate(steps):  # the model's own method is right for one at a time
            drawing = torch.tensor(step.drawing, device=self._device)[None, None].float()
            side = self._model.image_size
            drawing = functional.interpolate(
                drawing, (side, side), mode="bilinear", align_corners=False, antialias=True
            )
            one = slice(index, index + 1)
            outcomes.append(
                self._model._use_mask_as_output(
                    coarsest[one], [level[one] for level in finer], (drawing >= 0.5).float()
                )
            )
        return _Outcome(
            low_res=torch.cat([one.pred_masks[0] for one in outcomes]),
            high_res=torch.cat([one.high_res_masks for one in outcomes]),
            qualities=torch.cat([one.iou_scores[0] for one in outcomes]),
            presence=torch.cat([one.object_score_logits.view(1, 1, 1) for one in outcomes]),
            pointers=torch.cat([one.object_pointer.view(1, -1) for one in outcomes]),
        )

    def _remember(
        self,
        tokens: torch.Tensor,
        high_res: torch.Tensor,
        presence: torch.Tensor,
        prompted: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encodes slices (tokens, B, channels) and their masks for slices to come.

        Returns:
            Features and their places in the image, both (B, tokens, memory's channels).
        """
        if not self._resamples:
            found = self._model._encode_new_memory(tokens, high_res, presence, prompted)
            features, places = (one.transpose(0, 1) for one in found)
            return features, places
        # EdgeTAM's resampler takes one slice at a time, and puts the batch first.
        each = [
            self._model._encode_new_memory(
                tokens[:, index : index + 1], mask[None], present[None], prompted
            )
            for index, (mask, present) in enumerate(zip(high_res, presence, strict=True))
        ]
        features, places = (torch.cat(several) for several in zip(*each, strict=True))
        return features, places

    @cached_property
    def _memory_places(self) -> torch.Tensor:
        """Places of a remembered slice's features in the image (tokens, memory's channels).

        The memory encoder returns them with each slice; they are the same for all.
        """
        side = self._model.image_size
        high_res = torch.zeros(1, 1, side, side, device=self._device)
        tokens = torch.zeros_like(self._token_places)
        return self._remember(tokens, high_res, high_res[:, :, :1, 0], True)[1][0]

    def _extend(self, step: _Step, seen: ConditioningSlice) -> WalkMemory:
        """Returns the memory with one more slice, and without what no slice to come reads."""
        memory, position = step.memory, step.position
        if step.begins:
            return replace(
                memory, conditioning={**memory.conditioning, position: seen}, latest=position
            )
        return WalkMemory(
            conditioning=memory.conditioning,
            features=_within(memory.features, position, self._config.num_maskmem)
            | {position: seen.features},
            pointers=_within(memory.pointers, position, self._config.max_object_pointers_in_encoder)
            | {position: seen.pointer},
            latest=position,
            direction=step.direction,
        )


def _within(
    remembered: Mapping[int, torch.Tensor], position: int, reach: int
) -> dict[int, torch.Tensor]:
    """Returns those at less than a distance from a position."""
    return {place: one for place, one in remembered.items() if abs(place - position) < reach}

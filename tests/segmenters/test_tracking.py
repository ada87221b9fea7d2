"""Walks by memory against transformers' own video inference, on the same slices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import (
    Sam2ImageProcessor,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
)

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Memory, SliceMask
from gamt.segmenters.frames import Stretch
from gamt.segmenters.tracking import GONE, MemoryWalker
from tests.small_trackers import FAMILIES

Shape = tuple[int, int]
Logits = npt.NDArray[np.float32]

TOLERANCE = 1e-4
SHAPES: Sequence[Shape] = ((40, 56), (90, 33), (64, 64))
COUNT = 9
"""Slices of a scan: more than a small model remembers."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a machine that does other work as well would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw_slices(shape: Shape, count: int = COUNT) -> npt.NDArray[np.uint8]:
    """Draws an ellipse on noise that moves and shrinks from slice to slice."""
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    noise = np.random.default_rng(0).normal(80, 8, (count, *shape))
    for index, pixels in enumerate(noise):
        part = index / count
        pixels += 60 * ((x - 0.4 * part) ** 2 + (1.5 * y) ** 2 < 0.4 * (1.2 - part))
    return np.asarray(noise.clip(0, 255), np.uint8)


def make_prompts(shape: Shape) -> dict[str, SlicePrompt]:
    rows, columns = shape
    box = (0.2 * columns, 0.25 * rows, 0.75 * columns, 0.7 * rows)
    points = np.array([[columns // 2, rows // 2], [columns // 8, rows // 7]], np.float64)
    labels = np.array([1, 0])
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return {
        "box": SlicePrompt(box),
        "point": SlicePrompt(None, points[:1], labels[:1]),
        "points": SlicePrompt(None, points, labels),
        "box and points": SlicePrompt(box, points, labels),
        "mask": SlicePrompt(mask=(6 - 20 * (x + 0.2) ** 2 - 30 * y**2).astype(np.float32)),
    }


class Video:
    """Slices, and what transformers' own video inference says of them."""

    def __init__(self, model: Any, shape: Shape, count: int = COUNT) -> None:
        side = model.image_size
        size = {"height": side, "width": side}
        self.model = model
        self.shape = shape
        self.processor = Sam2VideoProcessor(
            Sam2ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size), target_size=side
        )
        self.slices = draw_slices(shape, count)

    def session(self) -> Any:
        """Begins a session as transformers advises; its slices are grey values three times."""
        return self.processor.init_video_session(
            video=np.repeat(self.slices[..., None], 3, axis=-1)
        )

    def add(self, session: Any, frame: int, prompts: Mapping[int, SlicePrompt]) -> None:
        """Says something of objects on one frame; all of the same kind of prompt."""
        several = prompts.values()
        arguments: dict[str, Any] = {}
        if all(one.mask is not None for one in several):
            arguments["input_masks"] = [one.mask > 0 for one in several if one.mask is not None]
        if all(len(one.points) for one in several):
            arguments["input_points"] = [[one.points.tolist() for one in several]]
            arguments["input_labels"] = [[one.labels.tolist() for one in several]]
        if all(one.box is not None for one in several):
            arguments["input_boxes"] = [[list(one.box) for one in several if one.box is not None]]
        self.processor.add_inputs_to_inference_session(
            session, frame_idx=frame, obj_ids=list(prompts), **arguments
        )

    def ask(self, session: Any, frame: int, reverse: bool = False) -> Logits:
        """Returns logits (objects, rows, columns) of one frame."""
        return self.read(self.model(session, frame_idx=frame, reverse=reverse))

    def propagate(self, session: Any, start: int, reverse: bool = False) -> dict[int, Logits]:
        """Returns logits (objects, rows, columns) of the frames from one to the end, or to 0."""
        found = self.model.propagate_in_video_iterator(
            session, start_frame_idx=start, reverse=reverse
        )
        return {one.frame_idx: self.read(one) for one in found}

    def read(self, output: Any) -> Logits:
        (masks,) = self.processor.post_process_masks(
            [output.pred_masks], original_sizes=[list(self.shape)], binarize=False
        )
        return np.asarray(masks[:, 0].numpy())

    def features(self, index: int) -> tuple[torch.Tensor, ...]:
        """Returns one slice as it is encoded for a walker."""
        pixels = self.session().get_frame(index)[None]
        with torch.inference_mode():
            levels = self.model.get_image_features(pixels, return_dict=True).fpn_hidden_states
        return tuple(
            level.permute(1, 2, 0).view(-1, *size)
            for level, size in zip(levels, self.model.backbone_feature_sizes, strict=True)
        )


class Walks:
    """Several targets' walks through a video, by a walker."""

    def __init__(self, video: Video, memories: Sequence[Memory | None] = (None,)) -> None:
        self.video = video
        self.walker = make_walker(video.model)
        self.memories = list(memories)

    def step(
        self, index: int, prompts: Sequence[SlicePrompt | None] | None = None, first: int = 0
    ) -> Logits:
        """Takes all walks to a slice; its position in the memory is counted from `first`."""
        count = len(self.memories)
        answers = self.walker.track(
            [encode(self.video, index)] * count,
            [self.video.shape] * count,
            prompts or [None] * count,
            self.memories,
            [index - first] * count,
        )
        self.memories = [one.state for one in answers]
        return np.stack([one.logits for one in answers])


@cache
def make_model(family: str, **memory: Any) -> Any:
    return FAMILIES[family](**memory)


@cache
def make_video(family: str, shape: Shape, **memory: Any) -> Video:
    return Video(make_model(family, **memory), shape)


@cache
def make_walker(model: Any) -> MemoryWalker:
    patch = model.config.prompt_encoder_config.patch_size
    return MemoryWalker(model, Stretch(model.image_size, patch))


@cache
def encode(video: Video, index: int) -> tuple[torch.Tensor, ...]:
    return video.features(index)


def assert_like(found: Logits, expected: Logits, name: object = "") -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=str(name))


KINDS = [*make_prompts((8, 8))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_walks_both_ways_answer_as_video_inference(family: str, kind: str) -> None:
    shape = SHAPES[KINDS.index(kind) % len(SHAPES)]
    video = make_video(family, shape)
    prompt, anchor = make_prompts(shape)[kind], COUNT // 2
    first = Walks(video)
    answer = first.step(anchor, [prompt])
    for reverse in (False, True):
        session = video.session()
        video.add(session, anchor, {1: prompt})
        assert_like(answer, video.ask(session, anchor), anchor)
        walks = Walks(video, first.memories)
        for frame, expected in video.propagate(session, anchor, reverse).items():
            if frame != anchor:
                assert_like(walks.step(frame), expected, frame)

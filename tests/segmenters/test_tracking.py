"""Walks by memory against transformers' own video inference, on the same slices."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2ImageProcessor,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
    Sam2VisionConfig,
    Sam3TrackerVideoModel,
)

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Memory
from gamt.segmenters.frames import Stretch
from gamt.segmenters.hub import HubTracker, load_segmenter
from gamt.segmenters.tracking import GONE, MemoryWalker
from tests.small_trackers import FAMILIES, randomise

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


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps a difference of 1e-7 as small as that, in both implementations.

    Both round what they remember to bfloat16, and cut the mask of a prompted slice at 0 before they
    remember it. Either can make a difference of 1e-2 of it, by one number or one pixel, which is
    seen in the logits of a small model. Here memories are float32, and the cut is a steep slope.
    """
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    for model in (Sam2VideoModel, EdgeTamVideoModel, Sam3TrackerVideoModel):
        monkeypatch.setattr(model, "_encode_new_memory", _slope(model._encode_new_memory))


def _slope(encode: Callable[..., Any]) -> Callable[..., Any]:
    def encode_slope(
        self: Any,
        current_vision_feats: torch.Tensor,
        pred_masks_high_res: torch.Tensor,
        object_score_logits: torch.Tensor,
        is_mask_from_pts: bool,
    ) -> Any:
        # Of the sigmoid, which masks that aren't cut go through.
        masks = pred_masks_high_res * (20 if is_mask_from_pts else 1)
        return encode(self, current_vision_feats, masks, object_score_logits, False)

    return encode_slope


def draw_slices(shape: Shape, count: int = COUNT) -> npt.NDArray[np.uint8]:
    """Draws an ellipse on noise that moves and shrinks from slice to slice."""
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    noise = np.random.default_rng(0).normal(80, 8, (count, *shape))
    for index in range(count):
        part = index / count
        noise[index] += 60 * ((x - 0.4 * part) ** 2 + (1.5 * y) ** 2 < 0.4 * (1.2 - part))
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
        pixels = Sam2VideoVideoProcessor(size=size)
        # SAM 3's colours are brought to -1 to 1, those of the others to ImageNet's mean and spread.
        if isinstance(model, Sam3TrackerVideoModel):
            pixels.image_mean = pixels.image_std = [0.5] * 3
        self.processor: Any = Sam2VideoProcessor(
            Sam2ImageProcessor(size=size), pixels, target_size=side
        )
        grey = draw_slices(shape, count)
        self.pixels = self.processor.init_video_session(
            video=np.repeat(grey[..., None], 3, axis=-1)
        ).processed_frames
        self.encoded: dict[int, tuple[torch.Tensor, ...]] = {}

    def session(self, known: bool = True) -> Any:
        """Begins a session, whose frames are known beforehand or are streamed."""
        session = self.processor.init_video_session()
        session.video_height, session.video_width = self.shape
        session.processed_frames = dict(self.pixels) if known else None
        return session

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

    def propagate(
        self, session: Any, start: int, reverse: bool = False
    ) -> Iterator[tuple[int, Logits]]:
        """Yields frames from one to the end, or to 0, with logits (objects, rows, columns)."""
        found = self.model.propagate_in_video_iterator(
            session, start_frame_idx=start, reverse=reverse
        )
        for one in found:
            yield one.frame_idx, self.read(one)

    def read(self, output: Any) -> Logits:
        (masks,) = self.processor.post_process_masks(
            [output.pred_masks], original_sizes=[list(self.shape)], binarize=False
        )
        return np.asarray(masks[:, 0].numpy())

    def encode(self, index: int) -> tuple[torch.Tensor, ...]:
        """Returns one slice as it is encoded for a walker."""
        if index not in self.encoded:
            with torch.inference_mode():
                found = self.model.get_image_features(self.pixels[index][None], return_dict=True)
            self.keep(index, found.fpn_hidden_states)
        return self.encoded[index]

    def keep(self, index: int, levels: Sequence[torch.Tensor]) -> None:
        """Takes the levels (tokens, 1, channels) of a slice that is encoded already."""
        both = zip(levels, self.model.backbone_feature_sizes, strict=True)
        self.encoded[index] = tuple(one.permute(1, 2, 0).view(-1, *size) for one, size in both)


class Walks:
    """Several targets' walks through a video, by a walker."""

    def __init__(self, video: Video, memories: Sequence[Memory | None] = (None,)) -> None:
        self.video = video
        self.walker = make_walker(video.model)
        self.memories = list(memories)

    def step(self, index: int, *prompts: SlicePrompt | None) -> Logits:
        """Takes all walks to a slice, with a prompt each, or without any."""
        count = len(self.memories)
        answers = self.walker.track(
            [self.video.encode(index)] * count,
            [self.video.shape] * count,
            prompts or [None] * count,
            self.memories,
            # Only differences matter.
            [index - 5] * count,
        )
        self.memories = [one.state for one in answers]
        return np.stack([one.logits for one in answers])


@cache
def make_model(family: str, **memory: Any) -> Any:
    return FAMILIES[family](**memory)


@cache
def make_video(family: str, shape: Shape, **memory: Any) -> Video:
    return Video(make_model(family, **memory), shape)


def make_frame(model: Any) -> Stretch:
    return Stretch(model.image_size, model.config.prompt_encoder_config.patch_size)


@cache
def make_walker(model: Any) -> MemoryWalker:
    return MemoryWalker(model, make_frame(model))


def assert_like(found: Logits, expected: Logits, name: object = "") -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=str(name))


KINDS = [*make_prompts((8, 8))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_walks_both_ways_answer_as_video_inference(family: str, kind: str) -> None:
    shape = SHAPES[KINDS.index(kind) % len(SHAPES)]
    video = make_video(family, shape)
    prompt, anchor = make_prompts(shape)[kind], COUNT // 2
    first = Walks(video)
    answer = first.step(anchor, prompt)
    for reverse in (False, True):
        session = video.session()
        video.add(session, anchor, {1: prompt})
        walks = Walks(video, first.memories)
        for frame, expected in video.propagate(session, anchor, reverse):
            found = answer if frame == anchor else walks.step(frame)
            assert_like(found, expected, frame)
            assert (found != GONE).any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_a_saved_model_follows_a_target_from_pixels_as_video_inference(
    family: str, tmp_path: Path
) -> None:
    shape = SHAPES[1]
    video, prompt = make_video(family, shape), make_prompts(shape)["box"]
    video.model.save_pretrained(tmp_path)
    segmenter = load_segmenter(f"hf:{tmp_path}", device="cpu", dtype="float32")
    assert isinstance(segmenter, HubTracker)
    embeddings = segmenter.encode(draw_slices(shape))
    session = video.session()
    video.add(session, 0, {1: prompt})
    memory: Memory | None = None
    for frame, expected in video.propagate(session, 0):
        (found,) = segmenter.track(
            [embeddings[frame]], [None if frame else prompt], [memory], [frame]
        )
        memory = found.state
        assert_like(found.logits, expected[0], frame)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_several_targets_answer_as_objects_of_one_session(family: str) -> None:
    video = make_video(family, SHAPES[0])
    points = np.array([[[28.0, 20.0]], [[10.0, 30.0]], [[50.0, 5.0]]])
    prompts = [SlicePrompt(None, one, np.array([1])) for one in points]
    session = video.session()
    video.add(session, 0, dict(enumerate(prompts)))
    walks = Walks(video, [None] * len(prompts))
    for frame, expected in video.propagate(session, 0):
        found = walks.step(frame, *prompts) if frame == 0 else walks.step(frame)
        assert_like(found, expected, frame)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_a_correction_on_the_way_answers_as_video_inference(family: str, reverse: bool) -> None:
    video = make_video(family, SHAPES[1])
    prompts = make_prompts(SHAPES[1])
    frames = range(COUNT)[:: -1 if reverse else 1]
    session = video.session()
    video.add(session, frames[0], {1: prompts["box"]})
    video.ask(session, frames[0])
    walks = Walks(video)
    walks.step(frames[0], prompts["box"])
    for frame in frames[1:6]:
        assert_like(walks.step(frame), video.ask(session, frame, reverse), frame)
    video.add(session, frames[5], {1: prompts["points"]})
    corrected = walks.step(frames[5], prompts["points"])
    assert_like(corrected, video.ask(session, frames[5], reverse), "corrected")
    for frame in frames[6:]:
        assert_like(walks.step(frame), video.ask(session, frame, reverse), frame)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_a_corrections_mask_is_the_earlier_answer_to_the_model(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(family, SHAPES[2])
    prompts = make_prompts(SHAPES[2])
    session = video.session()
    video.add(session, 0, {1: prompts["box"]})
    walks = Walks(video)
    for frame, expected in itertools.islice(video.propagate(session, 0), 3):
        assert_like(walks.step(frame, *([prompts["box"]] if not frame else [])), expected, frame)
    mask = prompts["mask"].mask
    assert mask is not None
    low_res = make_frame(video.model).to_low_res(mask)
    infer = partial(
        video.model._run_single_frame_inference,
        prev_sam_mask_logits=torch.from_numpy(low_res)[None, None],
    )
    monkeypatch.setattr(video.model, "_run_single_frame_inference", infer)
    video.add(session, 2, {1: prompts["point"]})
    found = walks.step(2, replace(prompts["point"], mask=mask))
    assert_like(found, video.ask(session, 2))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_a_second_conditioning_slice_answers_as_in_video_inference(
    family: str, reverse: bool
) -> None:
    video = make_video(family, SHAPES[0])
    prompts = make_prompts(SHAPES[0])
    near, far = (6, 3) if reverse else (2, 5)
    session = video.session()
    walks = Walks(video)
    # The walk goes from the one that was said first, away from where the last answer was.
    for frame, kind in ((near, "box"), (far, "point")):
        video.add(session, frame, {1: prompts[kind]})
        assert_like(walks.step(frame, prompts[kind]), video.ask(session, frame), kind)
    for frame, expected in video.propagate(session, near, reverse):
        if frame != near:
            assert_like(walks.step(frame), expected, frame)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_of_many_conditioning_slices_the_closest_count_as_in_video_inference(family: str) -> None:
    video = make_video(family, SHAPES[0], max_cond_frame_num=2)
    prompts = make_prompts(SHAPES[0])
    session = video.session()
    walks = Walks(video)
    for frame, kind in ((7, "box"), (0, "points"), (1, "box"), (2, "point")):
        video.add(session, frame, {1: prompts[kind]})
        assert_like(walks.step(frame, prompts[kind]), video.ask(session, frame), kind)
    for frame, expected in video.propagate(session, 2):
        assert_like(walks.step(frame), expected, frame)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_few_slices_answer_as_those_of_a_stream(family: str) -> None:
    # Of 9 frames known beforehand, distances would be parts of 8, of a stream parts of 15.
    video = make_video(family, SHAPES[0], max_object_pointers_in_encoder=16)
    prompt = make_prompts(SHAPES[0])["box"]
    session = video.session(known=False)
    walks = Walks(video)
    for frame, pixels in video.pixels.items():
        if frame == 0:
            video.add(session, frame, {1: prompt})
        expected = video.read(video.model(session, frame=pixels, frame_idx=frame))
        assert_like(walks.step(frame, *([prompt] if frame == 0 else [])), expected, frame)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_where_the_target_is_gone_answers_are_those_of_video_inference(family: str) -> None:
    model = deepcopy(make_model(family))
    score = model.mask_decoder.pred_obj_score_head.proj_out.bias
    video = Video(model, SHAPES[0])
    prompt = make_prompts(SHAPES[0])["box"]

    def begin() -> Any:
        session = video.session()
        video.add(session, 0, {1: prompt})
        return session

    scores = [
        float(one.object_score_logits)
        for one in model.propagate_in_video_iterator(begin(), start_frame_idx=0)
    ]
    # The target goes where its score falls below a limit, and then what is remembered of it changes
    # the scores that follow, on each kind of processor in another way. So that limit is taken with
    # which it is there on some slices and gone on others.
    as_it_was = score.detach().clone()
    for low, high in pairwise(sorted(scores)):
        score.copy_(as_it_was - (low + high) / 2)
        gone = [np.allclose(answer, GONE) for _, answer in video.propagate(begin(), 0)]
        if any(gone) and not all(gone):
            break
    else:
        pytest.fail(f"the target is gone on all slices or none, whatever the limit: {scores}")
    walks = Walks(video)
    for frame, expected in video.propagate(begin(), 0):
        found = walks.step(frame, *([prompt] if frame == 0 else []))
        assert_like(found, expected, frame)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("unrounded")
def test_walks_in_one_batch_answer_as_each_alone(family: str) -> None:
    shape = SHAPES[0]
    video = make_video(family, shape)
    prompts = make_prompts(shape)
    walker = make_walker(video.model)
    # Walks that have been going on for 0 to 6 slices, and one in the other direction.
    memories: list[Memory | None] = [None, None]
    for length, kind in enumerate(["box", "point", "mask", "box", "points", "point", "box"]):
        walks = Walks(video)
        walks.step(1, prompts[kind])
        for index in range(2, 2 + length):
            walks.step(index)
        memories += walks.memories
    walks = Walks(video)
    walks.step(6, prompts["point"])
    memories += walks.memories
    asked: list[SlicePrompt | None] = [prompts["box"], prompts["mask"], *[None] * 8]
    asked[4] = prompts["points"]  # a correction
    places = [8, 0, 2, 3, 3, 5, 6, 7, 8, 5]
    features = [video.encode(place) for place in places]
    positions = [place - 5 for place in places]
    together = walker.track(features, [shape] * len(places), asked, memories, positions)
    each = zip(features, asked, memories, positions, strict=True)
    for (one, prompt, memory, position), answer in zip(each, together, strict=True):
        (alone,) = walker.track([one], [shape], [prompt], [memory], [position])
        assert_like(answer.logits, alone.logits, position)
        assert answer.quality == pytest.approx(alone.quality, abs=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_memory_stays_as_it_is_while_walks_go_on_from_it(family: str) -> None:
    video = make_video(family, SHAPES[0])
    walks = Walks(video)
    walks.step(4, make_prompts(SHAPES[0])["box"])
    walks.step(5)
    before = walks.memories
    first = walks.step(6)
    walks.step(7)
    walks.step(8, make_prompts(SHAPES[0])["point"])
    np.testing.assert_array_equal(Walks(video, before).step(6), first)


def test_a_memory_holds_what_the_model_reads_and_no_more() -> None:
    # The next slice reads features of 2 slices and pointers of 3, and a correction one slice back.
    video = make_video("sam2", SHAPES[0])
    walks = Walks(video)
    walks.step(0, make_prompts(SHAPES[0])["box"])
    for index in range(1, COUNT):
        walks.step(index)
    (memory,) = walks.memories
    assert memory is not None
    assert [len(one) for one in (memory.conditioning, memory.features, memory.pointers)] == [
        1,
        3,
        4,
    ]
    # SAM 2 keeps 64 channels of a token in two bytes each.
    assert {one.untyped_storage().nbytes() for one in memory.features.values()} == {8 * 8 * 64 * 2}


def test_slices_of_any_precision_give_logits_in_float32() -> None:
    video = make_video("sam2", SHAPES[0])
    prompt = make_prompts(SHAPES[0])["box"]
    features = [level.bfloat16() for level in video.encode(0)]
    rounded = [level.float() for level in features]
    found, expected = (
        make_walker(video.model).track([one], [SHAPES[0]], [prompt], [None], [0])[0].logits
        for one in (features, rounded)
    )
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_walk_without_prompt_and_memory_is_an_error() -> None:
    video = make_video("sam2", SHAPES[0])
    with pytest.raises(ValueError, match="neither a prompt nor a memory"):
        Walks(video).step(0)


def test_a_mask_of_another_shape_than_the_slice_is_an_error() -> None:
    video = make_video("sam2", SHAPES[0])
    with pytest.raises(ValueError, match=re.escape("(64, 64), expected the slice's (40, 56)")):
        Walks(video).step(0, make_prompts((64, 64))["mask"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "config"),
    [
        (Sam2VideoModel, Sam2VideoConfig()),  # the defaults are SAM 2.1's hiera-tiny
        # EdgeTAM's own encoder is of the package timm.
        (EdgeTamVideoModel, EdgeTamVideoConfig(vision_config=Sam2VisionConfig().to_dict())),
    ],
    ids=["sam2.1-hiera-tiny", "edgetam"],
)
def test_walks_at_the_real_size_answer_as_video_inference(model: Any, config: Any) -> None:
    # As many frames as object pointers, of which the first few are walked.
    video = Video(randomise(model(config)), SHAPES[1], config.max_object_pointers_in_encoder)
    prompt = make_prompts(SHAPES[1])["box"]
    session = video.session()
    video.add(session, 0, {1: prompt})
    walks = Walks(video)
    for frame, expected in itertools.islice(video.propagate(session, 0), 3):
        video.keep(frame, session.cache.get_vision_features(frame)["vision_feats"])
        assert_like(walks.step(frame, *([prompt] if frame == 0 else [])), expected, frame)

"""SAM as a segmenter against segment-anything's own predictor, and what it does besides."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything import SamPredictor, sam_model_registry

from gamt.axes import Plane
from gamt.io.case import Case
from gamt.predict import predict_case
from gamt.prompts import Box, ClassPrompts, SlicePrompt
from gamt.segmenters import SegmenterError, load, sam
from gamt.segmenters.base import SliceMask, StorableSegmenter
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.devices import choose_dtype
from gamt.segmenters.encoder import ImageEncoder
from gamt.segmenters.frames import LongestSide, Squash
from gamt.segmenters.networks import Network
from gamt.segmenters.promptable import is_lone_point
from gamt.segmenters.sam import SamEmbedding, SamSegmenter
from gamt.settings import Settings
from gamt.volume.cache import EmbeddingCache
from tests.doubles import lift, make_case
from tests.small_sam import small_network

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, int]

TOLERANCE = 1e-4
SHAPE: Shape = (40, 56)
SMALL = 320


def draw_slice(shape: Shape, seed: int = 0) -> Pixels:
    """Draws a bright ellipse on noise."""
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    noise = np.random.default_rng(seed).normal(80, 8, shape)
    return np.asarray((noise + 60 * (x**2 + (1.5 * y) ** 2 < 0.4)).clip(0, 255), np.uint8)


def draw_mask(side: int) -> npt.NDArray[np.float32]:
    """Draws low-res scores of an ellipse."""
    y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return np.asarray((6 - 20 * (x + 0.2) ** 2 - 30 * y**2).clip(-10), np.float32)


def make_prompts(shape: Shape, low_res: int) -> dict[str, SlicePrompt]:
    rows, columns = shape
    box = (0.2 * columns, 0.25 * rows, 0.75 * columns, 0.7 * rows)
    points = np.array([[columns // 2, rows // 2], [columns // 8, rows // 7]], np.float64)
    labels = np.array([1, 0])
    return {
        "box": SlicePrompt(box),
        "point": SlicePrompt(None, points[:1], labels[:1]),
        "points": SlicePrompt(None, points, labels),
        "box and points": SlicePrompt(box, points, labels),
        "box and state": SlicePrompt(box, state=draw_mask(low_res)),
        "point and state": SlicePrompt(None, points[:1], labels[:1], state=draw_mask(low_res)),
        "state": SlicePrompt(state=draw_mask(low_res)),
        "nothing": SlicePrompt(),
    }


def ask_predictor(predictor: SamPredictor, prompt: SlicePrompt, multimask: bool) -> SliceMask:
    """Returns the official predictor's best answer, its logits upsampled."""
    earlier = prompt.state
    assert earlier is None or isinstance(earlier, np.ndarray)
    logits, ious, low_res = predictor.predict(
        point_coords=prompt.points if len(prompt.points) else None,
        point_labels=prompt.labels if len(prompt.points) else None,
        box=None if prompt.box is None else np.array(prompt.box),
        mask_input=None if earlier is None else earlier[None],
        multimask_output=multimask,
        return_logits=True,
    )
    best = ious.argmax()
    return SliceMask(logits[best], float(ious[best].clip(0, 1)), low_res[best])


def set_image(predictor: SamPredictor, pixels: Pixels) -> None:
    predictor.set_image(np.repeat(pixels[..., None], 3, axis=-1))


def assert_like(found: SliceMask, expected: SliceMask, name: object = "") -> None:
    for attribute in ("logits", "state", "quality"):
        ours, theirs = getattr(found, attribute), getattr(expected, attribute)
        np.testing.assert_allclose(
            ours, theirs, rtol=0, atol=TOLERANCE, err_msg=f"{name} {attribute}"
        )
    assert isinstance(found.state, np.ndarray)
    assert found.logits.dtype == found.state.dtype == np.float32


def assert_answers_like(
    predictor: SamPredictor, segmenter: SamSegmenter, embedding: SamEmbedding, low_res: int
) -> None:
    prompts = make_prompts(embedding.shape, low_res)
    for multimask in (True, False):
        found = segmenter.decode([embedding] * len(prompts), [*prompts.values()], multimask)
        for (name, prompt), answer in zip(prompts.items(), found, strict=True):
            expected = ask_predictor(predictor, prompt, multimask)
            assert_like(answer, expected, (name, multimask))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a machine that does other work as well would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# The real thing: ViT-B at 1024 px, with stand-in weights. Encoding a slice takes seconds, so slices
# of other shapes are left to the small network below.


@pytest.fixture(scope="module")
def vit_b(standin: Callable[[str], Path]) -> SamSegmenter:
    return sam.sam_vit_b(standin("sam_vit_b"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def embedding(vit_b: SamSegmenter) -> SamEmbedding:
    """Embeds one slice."""
    (found,) = vit_b.encode(draw_slice(SHAPE)[None])
    return found


@pytest.fixture(scope="module")
def official(standin: Callable[[str], Path]) -> SamPredictor:
    return SamPredictor(sam_model_registry["vit_b"](standin("sam_vit_b")))


@pytest.mark.slow
def test_vit_b_equals_the_official_predictor(
    vit_b: SamSegmenter, embedding: SamEmbedding, official: SamPredictor
) -> None:
    set_image(official, draw_slice(SHAPE))
    expected = official.get_image_embedding()[0]
    torch.testing.assert_close(embedding.features, expected, rtol=0, atol=TOLERANCE)
    assert_answers_like(official, vit_b, embedding, 256)


@pytest.mark.slow
@pytest.mark.skipif(
    choose_dtype("auto", torch.device("cpu")) != torch.bfloat16,
    reason="without its own arithmetic for bfloat16, a CPU takes minutes for one slice",
)
def test_masks_in_bfloat16_are_those_in_float32(
    standin: Callable[[str], Path], vit_b: SamSegmenter
) -> None:
    narrow = sam.sam_vit_b(standin("sam_vit_b"), device="cpu", dtype="bfloat16")
    assert_masks_like(vit_b, narrow, SHAPE, 256, 0.99)


def assert_masks_like(
    exact: SamSegmenter, narrow: SamSegmenter, shape: Shape, low_res: int, least_iou: float
) -> None:
    prompts = make_prompts(shape, low_res)
    del prompts["nothing"]
    for multimask in (True, False):
        both = []
        for segmenter in (exact, narrow):
            (embedding,) = segmenter.encode(draw_slice(shape)[None])
            embeddings = [embedding] * len(prompts)
            both.append(segmenter.decode(embeddings, [*prompts.values()], multimask))
        for name, one, other in zip(prompts, *both, strict=True):
            shared, either = one.mask & other.mask, one.mask | other.mask
            assert shared.sum() >= least_iou * either.sum() > 0, (name, multimask)


# The same architecture, small enough for many tests.


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network(SMALL)


@pytest.fixture(scope="module")
def predictor(network: Network) -> SamPredictor:
    return SamPredictor(network)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.pth"
    path.write_bytes(b"weights")
    return path


def make(network: Network, checkpoint: Path, **changes: Any) -> SamSegmenter:
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "multimask": is_lone_point}
    return SamSegmenter("small", network, LongestSide(SMALL), checkpoint, **options | changes)


@pytest.fixture(scope="module")
def segmenter(network: Network, checkpoint: Path) -> SamSegmenter:
    return make(network, checkpoint)


def test_masks_of_a_small_network_in_bfloat16_are_those_in_float32(
    segmenter: SamSegmenter, checkpoint: Path
) -> None:
    narrow = make(small_network(SMALL), checkpoint, dtype="bfloat16")
    # Random weights draw long borders, on which rounding moves more pixels than at full size.
    assert_masks_like(segmenter, narrow, (64, 48), SMALL // 4, 0.98)


@pytest.mark.parametrize(
    "shape", [(40, 56), (64, 48), (320, 320), (80, 80), (500, 333), (2, 90), (90, 2), (1, 1)]
)
def test_slices_of_any_shape_are_answered_as_by_the_official_predictor(
    shape: Shape, segmenter: SamSegmenter, predictor: SamPredictor
) -> None:
    pixels = draw_slice(shape)
    (embedding,) = segmenter.encode(pixels[None])
    set_image(predictor, pixels)
    expected = predictor.get_image_embedding()[0]
    torch.testing.assert_close(embedding.features, expected, rtol=0, atol=TOLERANCE)
    assert embedding.shape == shape
    assert_answers_like(predictor, segmenter, embedding, SMALL // 4)


def test_a_slice_too_narrow_for_the_official_predictor_is_answered(
    segmenter: SamSegmenter,
) -> None:
    (embedding,) = segmenter.encode(draw_slice((1, 3000))[None])
    (answer,) = segmenter.decode([embedding], [SlicePrompt((100, 0, 2000, 1))])
    assert answer.logits.shape == (1, 3000)
    assert np.isfinite(answer.logits).all()


def test_prompts_on_different_slices_are_answered_as_if_alone(segmenter: SamSegmenter) -> None:
    prompts, embeddings = [], []
    for seed, shape in enumerate([(40, 56), (64, 48), (40, 56)]):
        (embedding,) = segmenter.encode(draw_slice(shape, seed)[None])
        for prompt in make_prompts(shape, SMALL // 4).values():
            prompts.append(prompt)
            embeddings.append(embedding)
    order = np.random.default_rng(0).permutation(len(prompts))
    together = segmenter.decode([embeddings[i] for i in order], [prompts[i] for i in order])
    for index, answer in zip(order, together, strict=True):
        (alone,) = segmenter.decode([embeddings[index]], [prompts[index]])
        assert answer.logits.shape == embeddings[index].shape
        assert_like(answer, alone, index)


def test_three_channels_are_seen_as_colours_by_the_official_predictor(
    segmenter: SamSegmenter, predictor: SamPredictor
) -> None:
    colours = np.stack([draw_slice((40, 56), seed) for seed in range(3)], axis=-1)
    embeddings = segmenter.encode(np.stack([colours, colours[..., ::-1]]))
    for embedding, pixels in zip(embeddings, (colours, colours[..., ::-1]), strict=True):
        predictor.set_image(np.ascontiguousarray(pixels))
        expected = predictor.get_image_embedding()[0]
        torch.testing.assert_close(embedding.features, expected, rtol=0, atol=TOLERANCE)
        assert embedding.shape == (40, 56)


def test_three_equal_channels_are_the_grey_slice_bit_for_bit(segmenter: SamSegmenter) -> None:
    pixels = draw_slice((64, 48))
    (grey,) = segmenter.encode(pixels[None])
    (colour,) = segmenter.encode(np.stack([pixels] * 3, axis=-1)[None])
    assert torch.equal(grey.features, colour.features)


def test_slices_are_encoded_as_if_alone(segmenter: SamSegmenter) -> None:
    slices = np.stack([draw_slice((40, 56), seed) for seed in range(segmenter.traits.batch + 3)])
    together = segmenter.encode(slices)
    assert len(together) == len(slices)
    for pixels, one in zip(slices, together, strict=True):
        (alone,) = segmenter.encode(pixels[None])
        torch.testing.assert_close(one.features, alone.features, rtol=0, atol=1e-5)


def test_nothing_to_do_is_done(segmenter: SamSegmenter) -> None:
    assert segmenter.encode(np.empty((0, 40, 56), np.uint8)) == []
    assert segmenter.decode([], []) == []


def test_as_many_prompts_as_embeddings_are_expected(segmenter: SamSegmenter) -> None:
    with pytest.raises(ValueError, match="shorter"):
        segmenter.decode(segmenter.encode(draw_slice((8, 8))[None]), [])


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_points_and_box_get_a_mask(segmenter: SamSegmenter, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    numbers = st.floats(-50, 150)
    box = data.draw(st.none() | st.tuples(numbers, numbers, numbers, numbers))
    points = data.draw(st.lists(st.tuples(numbers, numbers), max_size=4))
    labels = [index % 2 for index in range(len(points))]
    prompt = SlicePrompt(box, np.array(points).reshape(-1, 2), np.array(labels, np.int64))
    (embedding,) = segmenter.encode(np.zeros((1, *shape), np.uint8))
    (answer,) = segmenter.decode([embedding], [prompt])
    assert answer.logits.shape == shape
    assert isinstance(answer.state, np.ndarray)
    assert answer.state.shape == (SMALL // 4, SMALL // 4)
    assert np.isfinite(answer.logits).all()
    assert 0 <= answer.quality <= 1


def test_a_lone_point_gets_the_best_of_three_masks(segmenter: SamSegmenter) -> None:
    prompts = make_prompts((40, 56), SMALL // 4)
    assert [name for name, prompt in prompts.items() if is_lone_point(prompt)] == ["point"]
    (embedding,) = segmenter.encode(draw_slice((40, 56))[None])
    embeddings = [embedding] * len(prompts)
    habit, best, single = (
        segmenter.decode(embeddings, [*prompts.values()], multimask)
        for multimask in (None, True, False)
    )
    for name, one, several, alone in zip(prompts, habit, best, single, strict=True):
        assert abs(several.logits - alone.logits).max() > 0.01
        assert_like(one, several if name == "point" else alone, name)


def test_the_habit_is_the_network_s_own(network: Network, checkpoint: Path) -> None:
    always = make(network, checkpoint, multimask=lambda prompt: True)
    (embedding,) = always.encode(draw_slice((40, 56))[None])
    prompt = SlicePrompt((5, 6, 40, 30))
    assert_like(*always.decode([embedding], [prompt]), *always.decode([embedding], [prompt], True))


def test_the_state_serves_as_the_next_mask(
    segmenter: SamSegmenter, predictor: SamPredictor
) -> None:
    pixels = draw_slice((40, 56))
    set_image(predictor, pixels)
    (embedding,) = segmenter.encode(pixels[None])
    (first,) = segmenter.decode([embedding], [SlicePrompt((5, 6, 40, 30))])
    prompt = SlicePrompt((5, 6, 40, 30), state=first.state)
    (second,) = segmenter.decode([embedding], [prompt])
    assert_like(second, ask_predictor(predictor, prompt, multimask=False))
    assert abs(second.logits - first.logits).max() > 0.01


def test_a_mask_of_the_slice_s_shape_is_brought_to_low_res(segmenter: SamSegmenter) -> None:
    shape = (40, 56)
    (embedding,) = segmenter.encode(draw_slice(shape)[None])
    scores = np.where(draw_slice(shape) > 110, np.inf, -3).astype(np.float32)
    small = LongestSide(SMALL).to_low_res(scores)
    (found,) = segmenter.decode([embedding], [SlicePrompt(mask=scores)])
    (expected,) = segmenter.decode([embedding], [SlicePrompt(state=small)])
    assert_like(found, expected)


def test_a_mask_of_another_shape_is_refused(segmenter: SamSegmenter) -> None:
    (embedding,) = segmenter.encode(draw_slice((40, 56))[None])
    prompt = SlicePrompt(mask=np.zeros((56, 40), np.float32))
    with pytest.raises(ValueError, match=r"\(56, 40\), expected the slice's \(40, 56\)"):
        segmenter.decode([embedding], [prompt])


def test_a_mask_of_the_low_res_shape_is_still_one_of_slice_pixels(segmenter: SamSegmenter) -> None:
    # A square slice as large as SAM's low-res scores: the shape says nothing of what a mask is.
    side = SMALL // 4
    (embedding,) = segmenter.encode(draw_slice((side, side))[None])
    scores = np.where(draw_slice((side, side)) > 110, np.inf, -3).astype(np.float32)
    small = LongestSide(SMALL).to_low_res(scores)
    (found,) = segmenter.decode([embedding], [SlicePrompt(mask=scores)])
    (expected,) = segmenter.decode([embedding], [SlicePrompt(state=small)])
    assert_like(found, expected)


@pytest.mark.parametrize("side", [SMALL // 4 - 2, SMALL // 4])
def test_a_walk_hands_sam_its_own_scores_and_nothing_else(
    side: int, segmenter: SamSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The box's shape guides no slice, also where slices are as large as the low-res scores.
    asked: list[SlicePrompt] = []
    answers: list[SliceMask] = []
    decode = segmenter.decode

    def noted(
        embeddings: Sequence[SamEmbedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        asked.extend(prompts)
        answers.extend(decode(embeddings, prompts, multimask))
        return answers[-len(prompts) :]

    monkeypatch.setattr(segmenter, "decode", noted)
    image = np.stack([draw_slice((side, side))] * 5)
    box = Box(0, 5, 2, side // 4, 3 * side // 4, side // 4, 3 * side // 4)
    only_axial = Settings(planes=(Plane.AXIAL,), guide_weight=1, min_quality=0, min_overlap=0)
    lift(make_case(image, ClassPrompts(1, box)), segmenter, only_axial)
    assert len(asked) > 1
    own = [one.state for one in answers]
    for prompt in asked[1:]:
        assert prompt.mask is None
        assert any(prompt.state is one for one in own)


def test_quality_is_a_share(checkpoint: Path) -> None:
    network = small_network(SMALL)
    head = network.mask_decoder.iou_prediction_head.layers[-1]
    segmenter = make(network, checkpoint)
    (embedding,) = segmenter.encode(draw_slice((40, 56))[None])
    for bias, expected in ((1.5, 1), (-0.5, 0), (0.25, 0.25)):
        head.weight.zero_()
        head.bias.fill_(bias)
        (answer,) = segmenter.decode([embedding], [SlicePrompt((5, 6, 40, 30))])
        assert answer.quality == expected


def test_another_frame_lays_slices_elsewhere(network: Network, checkpoint: Path) -> None:
    squash = SamSegmenter(
        "squashed",
        network,
        Squash(SMALL),
        checkpoint,
        device="cpu",
        dtype="float32",
        multimask=is_lone_point,
    )
    (embedding,) = squash.encode(draw_slice((40, 56))[None])
    (answer,) = squash.decode([embedding], [SlicePrompt((0, 0, 56, 40))])
    # A square slice of the same pixels, as the other frame leaves it.
    pixels = Squash(SMALL).resize(draw_slice((40, 56))[None])
    segmenter = make(network, checkpoint)
    (embedding,) = segmenter.encode(pixels)
    (expected,) = segmenter.decode([embedding], [SlicePrompt((0, 0, SMALL, SMALL))])
    ours, theirs = np.asarray(answer.state), np.asarray(expected.state)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


# Memory


def test_batches_shrink_where_memory_does_not_suffice(
    network: Network, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = make(network, checkpoint)
    slices = np.stack([draw_slice((40, 56), seed) for seed in range(5)])
    prompts = [SlicePrompt((5, 6, 40, 30 + index)) for index in range(5)]
    embeddings = segmenter.encode(slices)
    expected = segmenter.decode(embeddings, prompts)
    sizes: list[int] = []
    for part in ("_encoder", "_decoder"):
        monkeypatch.setattr(segmenter, part, Cramped(getattr(segmenter, part), sizes))
    for one, other in zip(segmenter.encode(slices), embeddings, strict=True):
        torch.testing.assert_close(one.features, other.features, rtol=0, atol=1e-5)
    assert sizes == [5, 2, 2, 1]
    for found, before in zip(segmenter.decode(embeddings, prompts), expected, strict=True):
        assert_like(found, before)
    assert sizes[4:] == [5, 2, 2, 1]


class Full:
    """A part of a network whose device has no room for anything."""

    def __call__(self, *arguments: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


# To torch this is the CPU; to the segmenter it is a device beside the CPU.
BESIDE = "cpu:0"


@pytest.mark.parametrize("part", ["_encoder", "_decoder"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_network_without_room_for_one_item_goes_on_on_the_cpu(
    part: str,
    dtype: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prompts = [SlicePrompt((5, 6, 40, 30))]
    slices = draw_slice((40, 56))[None]
    # What the network is to be after the move: on a CPU, in a precision for which it has units.
    precision = "float32" if dtype == "float32" else "auto"
    whole = make(small_network(SMALL), checkpoint, dtype=precision)
    (expected,) = whole.decode(whole.encode(slices), prompts)
    segmenter = make(small_network(SMALL), checkpoint, device=BESIDE, dtype=dtype)
    fingerprint = segmenter.fingerprint
    monkeypatch.setattr(segmenter, part, Full())
    for _ in range(2):
        embeddings = segmenter.encode(slices)
        (found,) = segmenter.decode(embeddings, prompts)
        # Embeddings in bfloat16 have 8 significant bits.
        tolerance = TOLERANCE if dtype == "float32" else 0.5
        np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=tolerance)
    assert segmenter.traits.device == "cpu"
    assert segmenter.fingerprint == fingerprint
    assert segmenter.pack(embeddings[0]).dtype == ("float32" if dtype == "float32" else "uint16")
    expected_line = "small: no room on cpu:0, the CPU goes on: CUDA out of memory."
    assert caplog.messages == [expected_line]  # once, for it stays there


def test_a_network_that_does_not_fit_its_device_begins_on_the_cpu(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def set_up(module: Network, dtype: torch.dtype) -> ImageEncoder:
        if not caplog.messages:  # before the move
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return ImageEncoder(module, dtype)

    monkeypatch.setattr(sam, "ImageEncoder", set_up)
    segmenter = make(small_network(SMALL), checkpoint, device=BESIDE)
    assert segmenter.traits.device == "cpu"
    assert len(segmenter.encode(draw_slice((40, 56))[None])) == 1
    assert "the CPU goes on" in caplog.text


def test_other_errors_do_not_move_the_network(
    network: Network, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Any:
        raise RuntimeError("no kernel image is available")

    segmenter = make(network, checkpoint, device=BESIDE)
    monkeypatch.setattr(segmenter, "_encoder", fail)
    with pytest.raises(RuntimeError, match="no kernel image"):
        segmenter.encode(draw_slice((40, 56))[None])
    assert segmenter.traits.device == BESIDE


@pytest.fixture
def fill_gpu() -> Iterator[Callable[[], None]]:
    """Gives what takes all memory of the GPU that is left, until the test ends."""
    held: list[torch.Tensor] = []

    def fill() -> None:
        torch.cuda.empty_cache()
        # The last are small enough for what torch keeps for small tensors.
        for size in (2**30, 2**26, 2**24, 2**19, 512):
            with suppress(torch.OutOfMemoryError):
                while True:
                    held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))

    yield fill
    held.clear()
    torch.cuda.empty_cache()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("filled", ["before the network", "before the case", "amid the case"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_case_is_done_although_the_gpu_is_full(
    filled: str,
    dtype: str,
    checkpoint: Path,
    fill_gpu: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = np.stack([draw_slice((24, 32), seed) for seed in range(8)])
    prompts = (ClassPrompts(1, Box(1, 7, 4, 6, 18, 8, 24)),)
    case = Case("full", image, (1.0, 1.0, 1.0), prompts, None)
    if filled == "before the network":
        fill_gpu()
    segmenter = make(small_network(SMALL), checkpoint, device="cuda", dtype=dtype)
    if filled == "before the case":
        fill_gpu()
    cache = EmbeddingCache(segmenter, 2**30)
    if filled == "amid the case":
        assert segmenter.traits.device == "cuda"
        predict_case(case, segmenter, Settings(budget=False), cache=cache)
        assert not caplog.messages
        (some,) = segmenter.encode(draw_slice((24, 32))[None])
        assert some.features.device.type == "cuda"
        fill_gpu()
        case = replace(case, prompts=(ClassPrompts(1, Box(2, 7, 4, 7, 18, 8, 20)),))
    prediction = predict_case(case, segmenter, Settings(budget=False), cache=cache)
    assert prediction.complete
    assert prediction.labels.shape == image.shape
    assert segmenter.traits.device == "cpu"
    assert "no room on cuda, the CPU goes on: " in caplog.text
    if filled == "amid the case":  # what was encoded on the GPU is of use to the CPU
        (answer,) = segmenter.decode([some], [SlicePrompt((5, 6, 20, 20))])
        assert np.isfinite(answer.logits).all()


class Cramped:
    """A part of a network that has room for two items at once."""

    def __init__(self, part: Callable[..., Any], sizes: list[int]) -> None:
        self.part = part
        self.sizes = sizes

    def __call__(self, items: Sequence[torch.Tensor], *rest: torch.Tensor) -> Any:
        self.sizes.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("no room")
        return self.part(items, *rest)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_embeddings_say_how_much_memory_they_take(dtype: str, checkpoint: Path) -> None:
    segmenter = make(small_network(SMALL), checkpoint, dtype=dtype)
    for one in segmenter.encode(np.zeros((3, 8, 8), np.uint8)):
        # 256 channels of 20 x 20 tokens, and no more held in memory than that.
        assert one.nbytes == 256 * 20 * 20 * (4 if dtype == "float32" else 2)
        assert one.features.untyped_storage().nbytes() == one.nbytes


# Storage


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_embedding_survives_storage_bit_for_bit(
    dtype: str, checkpoint: Path, tmp_path: Path
) -> None:
    segmenter = make(small_network(SMALL), checkpoint, dtype=dtype)
    assert isinstance(segmenter, StorableSegmenter)
    (embedding,) = segmenter.encode(draw_slice((40, 56))[None])
    np.save(tmp_path / "one.npy", segmenter.pack(embedding), allow_pickle=False)
    stored = np.load(tmp_path / "one.npy", allow_pickle=False)
    assert stored.nbytes == embedding.nbytes
    restored = segmenter.unpack(stored, (40, 56))
    assert restored.features.dtype == embedding.features.dtype
    assert torch.equal(restored.features, embedding.features)
    prompts = [SlicePrompt((5, 6, 40, 30))]
    (before,), (after,) = (segmenter.decode([one], prompts) for one in (embedding, restored))
    np.testing.assert_array_equal(after.logits, before.logits)


def test_what_is_no_embedding_is_not_restored(checkpoint: Path) -> None:
    exact = make(small_network(SMALL), checkpoint)
    narrow = make(small_network(SMALL), checkpoint, dtype="bfloat16")
    (embedding,) = narrow.encode(draw_slice((40, 56))[None])
    packed = narrow.pack(embedding)
    with pytest.raises(ValueError, match=r"found \(20, 20, 256\) uint16, expected .* float32"):
        exact.unpack(packed, (40, 56))
    with pytest.raises(ValueError, match=r"found \(19, 20, 256\) uint16, expected \(20, 20, 256\)"):
        narrow.unpack(packed[1:], (40, 56))


def test_the_fingerprint_tells_apart_what_embeddings_depend_on(
    network: Network, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.pth", "b.pth", "copy.pth")]
    for path, content in zip(
        paths, (b"some weights", b"more weights", b"some weights"), strict=True
    ):
        path.write_bytes(content)
    first = make(network, paths[0])
    assert first.fingerprint == make(network, paths[2]).fingerprint
    others = [
        make(network, paths[1]),
        make(network, paths[0], preparation="other"),
        make(small_network(SMALL), paths[0], dtype="bfloat16"),
        SamSegmenter(
            "other", network, LongestSide(SMALL), paths[0], device="cpu", multimask=is_lone_point
        ),
    ]
    prints = {one.fingerprint for one in (first, *others)}
    assert len(prints) == 5
    assert all(len(one) == 32 and one.isalnum() for one in prints)


# Setting up


@pytest.mark.parametrize(("name", "batch"), [("sam_vit_b", 1), ("medsam", 1), ("sam_med2d", 8)])
def test_small_encoders_are_loaded_by_name(
    name: str, batch: int, standin: Callable[[str], Path]
) -> None:
    segmenter = load(name, str(standin(name)), "cpu", dtype="float32")
    assert isinstance(segmenter, SamSegmenter)
    assert (segmenter.name, segmenter.traits.device, segmenter.traits.batch) == (name, "cpu", batch)


@pytest.mark.parametrize(("name", "blocks"), [("sam_vit_l", 24), ("sam_vit_h", 32)])
def test_larger_encoders_are_loaded_by_name(
    name: str, blocks: int, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Gigabytes of weights: allocated here, and never written or read.
    networks: list[Network] = []

    def allocate(network: Network, path: Path) -> None:
        assert path == checkpoint
        networks.append(network.to_empty(device="cpu"))

    monkeypatch.setattr(sam, "load_checkpoint", allocate)
    segmenter = load(name, str(checkpoint), "cpu", dtype="float32")
    assert segmenter.name == name
    assert len(networks[0].image_encoder.blocks) == blocks


def test_without_a_checkpoint_the_command_that_gets_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAMT_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match="gamt weights fetch sam_vit_h"):
        load("sam_vit_h")


def test_weights_of_another_network_are_refused(standin: Callable[[str], Path]) -> None:
    path = standin("sam_vit_b")
    with pytest.raises(SegmenterError) as caught:
        load("sam_vit_l", str(path))
    assert str(caught.value) == (
        f"{path}: these are the weights of sam_vit_b, expected those of sam_vit_l"
    )


def test_unknown_devices_and_precisions_are_refused(network: Network, checkpoint: Path) -> None:
    with pytest.raises(SegmenterError, match="device 'toaster'"):
        make(network, checkpoint, device="toaster")
    with pytest.raises(SegmenterError, match="precision is named 'half'"):
        make(network, checkpoint, dtype="half")


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_med2d"])
def test_without_torch_the_command_that_gets_it_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in list(sys.modules):
        if module.partition(".")[0] == "torch" or module.startswith("gamt.segmenters."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Absent("torch"), *sys.meta_path])
    commands = "pip install 'gamt[sam]', in a clone make setup-all"
    with pytest.raises(SegmenterError, match=re.escape(f"needs the package torch: {commands}")):
        load(name)


class Absent:
    """An importer to which a package does not exist."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.package)

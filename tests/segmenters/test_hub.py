"""Models of the hub: against transformers' own processors and models, and how they are loaded."""

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    EdgeTamModel,
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    EdgeTamVisionConfig,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3ImageProcessor,
    Sam3TrackerModel,
    Sam3TrackerProcessor,
    SamHQModel,
    SamImageProcessorPil,
    SamModel,
    SamProcessor,
    TimmWrapperConfig,
)

from gamt import Session
from gamt.io.case import read_case
from gamt.prompts import SlicePrompt
from gamt.segmenters import SegmenterError, load
from gamt.segmenters.base import SliceMask, StorableSegmenter, Tracker
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.hub import HubSegmenter, HubTracker, load_model
from tests.segmenters.test_sam import Absent
from tests.small_hub import SMALL
from tests.small_trackers import randomise

Shape = tuple[int, int]
Pixels = npt.NDArray[np.uint8]

SHAPES: Sequence[Shape] = ((45, 101), (300, 170), (77, 77))
"""Wide, tall and larger than the input, and square; none of them whole patches."""

TOLERANCE = 1e-3
"""Largest difference of logits, as a share of the largest one."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads on a machine that does other work as well would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a small model of a kind."""
    folders: dict[str, Path] = {}

    def save(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            torch.manual_seed(0)  # buffers are drawn as a model is built
            SMALL[kind]().save_pretrained(folders[kind])
        return folders[kind]

    return save


@pytest.fixture(params=SMALL)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def segmenter(kind: str, folder: Callable[[str], Path]) -> HubSegmenter:
    return make(folder(kind))


def make(folder: Path, **options: Any) -> HubSegmenter:
    found = load(f"hf:{folder}", device="cpu", **{"dtype": "float32"} | options)
    assert isinstance(found, HubSegmenter)
    return found


def draw_slice(shape: Shape, seed: int = 0) -> Pixels:
    """Draws a bright ellipse on noise."""
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    noise = np.random.default_rng(seed).normal(80, 8, shape)
    return np.asarray((noise + 60 * (x**2 + (1.5 * y) ** 2 < 0.4)).clip(0, 255), np.uint8)


def make_prompts(shape: Shape) -> dict[str, SlicePrompt]:
    rows, columns = shape
    box = (0.2 * columns, 0.25 * rows, 0.75 * columns, 0.7 * rows)
    points = np.array(
        [[columns // 2, rows // 2], [columns // 8, rows // 7], [0.6 * columns, 0.4 * rows]]
    )
    labels = np.array([1, 0, 1])
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    mask = (6 - 20 * (x + 0.2) ** 2 - 30 * y**2).clip(-30).astype(np.float32)
    return {
        "box": SlicePrompt(box),
        "point": SlicePrompt(None, points[:1], labels[:1]),
        "points": SlicePrompt(None, points, labels),
        "box and points": SlicePrompt(box, points, labels),
        "mask": SlicePrompt(mask=mask),
        "box and mask": SlicePrompt(box, mask=mask),
        "points and mask": SlicePrompt(None, points, labels, mask),
        "nothing": SlicePrompt(),
    }


class Reference:
    """What transformers makes of a folder, by its own processor and model for single images."""

    def __init__(self, kind: str, folder: Path, side: int) -> None:
        square = {"height": side, "width": side}
        if kind in ("sam", "sam_hq"):
            # Its default differs from SAM's authors' by a grey level here and there.
            images = SamImageProcessorPil(size={"longest_edge": side}, pad_size=square)
            self.processor: Any = SamProcessor(images)  # type: ignore[no-untyped-call]
            cls: Any = SamModel if kind == "sam" else SamHQModel
        elif kind.startswith("sam3"):
            self.processor = Sam3TrackerProcessor(Sam3ImageProcessor(size=square), side)
            cls = Sam3TrackerModel
        else:
            self.processor = Sam2Processor(Sam2ImageProcessor(size=square), side)
            cls = Sam2Model if kind.startswith("sam2") else EdgeTamModel
        self.model = cls.from_pretrained(folder, dtype=torch.float32).eval()
        self.kind = kind

    @torch.no_grad()
    def answer(
        self, pixels: Pixels, prompt: SlicePrompt, multimask: bool, segmenter: HubSegmenter
    ) -> SliceMask:
        """Returns the best mask that is offered."""
        inputs = self.processor(
            images=pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1),
            input_points=[[prompt.points.tolist()]] if len(prompt.points) else None,
            input_labels=[[prompt.labels.tolist()]] if len(prompt.points) else None,
            input_boxes=[[list(prompt.box)]] if prompt.box is not None else None,
            return_tensors="pt",
        )
        sizes = {
            key: inputs.pop(key)
            for key in ("original_sizes", "reshaped_input_sizes")
            if key in inputs
        }
        if prompt.state is not None:
            inputs["input_masks"] = torch.from_numpy(np.asarray(prompt.state))[None, None]
        elif prompt.mask is not None:
            # SAM's model takes low-res masks alone; the others make these themselves.
            padded = self.kind in ("sam", "sam_hq")
            mask = segmenter._frame.to_low_res(prompt.mask) if padded else prompt.mask
            inputs["input_masks"] = torch.from_numpy(mask)[None, None]
        if self.kind.startswith("sam3"):
            inputs["image_embeddings"] = self.embed(inputs.pop("pixel_values"))
        output = self.model(**inputs, multimask_output=multimask)
        best = output.iou_scores[0, 0].argmax()
        (masks,) = self.processor.post_process_masks(
            output.pred_masks, **sizes, binarize=False, **self.padding()
        )
        return SliceMask(
            masks[0, best].numpy(),
            float(output.iou_scores[0, 0, best].clip(0, 1)),
            output.pred_masks[0, 0, best].numpy(),
        )

    def padding(self) -> dict[str, Any]:
        if self.kind not in ("sam", "sam_hq"):
            return {}
        return {"pad_size": self.processor.image_processor.pad_size}

    def embed(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Embeds for SAM 3 as its authors do, who add the no-memory embedding to the third level.

        transformers 5.24 adds it to the fourth one, which nothing reads; its video model does as
        the authors do (facebookresearch/sam3, sam1_task_predictor.py).
        """
        levels = self.model.get_image_embeddings(pixels)
        assert isinstance(levels, list)
        return [*levels[:2], levels[2] + self.model.no_memory_embedding.view(1, -1, 1, 1)]


def assert_like(found: SliceMask, expected: SliceMask) -> None:
    largest = float(np.abs(expected.logits).max())
    np.testing.assert_allclose(
        found.logits, expected.logits, rtol=0, atol=TOLERANCE * largest, strict=True
    )
    assert math.isclose(found.quality, expected.quality, abs_tol=TOLERANCE)


# Answers


@pytest.mark.parametrize("shape", SHAPES)
def test_slices_are_answered_as_by_transformers(
    kind: str, shape: Shape, segmenter: HubSegmenter, folder: Callable[[str], Path]
) -> None:
    if kind.endswith("video") and shape != SHAPES[0]:
        pytest.skip("as the model for single images")
    reference = Reference(kind, folder(kind), segmenter._frame.side)
    pixels = draw_slice(shape)
    embeddings = segmenter.encode(pixels[None])
    covered = []
    for prompt in make_prompts(shape).values():
        for multimask in (False, True) if shape == SHAPES[0] else (False,):
            (found,) = segmenter.decode(embeddings, [prompt], multimask)
            expected = reference.answer(pixels, prompt, multimask, segmenter)
            assert_like(found, expected)
            covered.append(expected.mask.mean())
    # Masks of all or nothing would say little.
    assert 0.02 < np.mean(covered) < 0.98


def test_an_earlier_answer_comes_back_as_transformers_takes_it(
    kind: str, segmenter: HubSegmenter, folder: Callable[[str], Path]
) -> None:
    reference = Reference(kind, folder(kind), segmenter._frame.side)
    pixels = draw_slice((45, 101))
    embeddings = segmenter.encode(pixels[None])
    box = (20.0, 10.0, 80.0, 35.0)
    (first,) = segmenter.decode(embeddings, [SlicePrompt(box)])
    before = reference.answer(pixels, SlicePrompt(box), False, segmenter)
    (found,) = segmenter.decode(embeddings, [SlicePrompt(box, state=first.state)])
    expected = reference.answer(pixels, SlicePrompt(box, state=before.state), False, segmenter)
    assert_like(found, expected)
    assert np.abs(found.logits - first.logits).max() > 10 * TOLERANCE


def test_prompts_of_all_kinds_on_different_slices_are_answered_as_if_alone(
    segmenter: HubSegmenter,
) -> None:
    shapes: list[Shape] = [(45, 101), (90, 33)]
    embeddings = [segmenter.encode(draw_slice(shape)[None])[0] for shape in shapes]
    asked = [
        (embedding, prompt)
        for embedding, shape in zip(embeddings, shapes, strict=True)
        for prompt in (*make_prompts(shape).values(), SlicePrompt())
    ]
    several = segmenter.decode([one for one, _ in asked], [prompt for _, prompt in asked])
    for (embedding, prompt), found in zip(asked, several, strict=True):
        (alone,) = segmenter.decode([embedding], [prompt])
        assert_like(found, alone)


def test_a_lone_point_gets_the_best_of_three_masks_and_a_box_the_single_one(
    segmenter: HubSegmenter,
) -> None:
    embeddings = segmenter.encode(draw_slice((45, 101))[None])
    prompts = make_prompts((45, 101))
    for name, several in (("point", True), ("box", False)):
        (by_habit,) = segmenter.decode(embeddings, [prompts[name]])
        (asked,) = segmenter.decode(embeddings, [prompts[name]], several)
        np.testing.assert_array_equal(by_habit.logits, asked.logits)


def test_a_mask_prompt_of_another_shape_is_refused(folder: Callable[[str], Path]) -> None:
    segmenter = make(folder("sam2"))
    embeddings = segmenter.encode(draw_slice((45, 101))[None])
    with pytest.raises(ValueError, match=r"found a mask prompt of shape \(4, 5\), expected"):
        segmenter.decode(embeddings, [SlicePrompt(mask=np.zeros((4, 5), np.float32))])


def test_no_slices_and_no_prompts_are_none(segmenter: HubSegmenter) -> None:
    assert list(segmenter.encode(np.empty((0, 45, 101), np.uint8))) == []
    assert list(segmenter.decode([], [])) == []


# Encoding


@pytest.mark.parametrize("kind", ["sam_hq", "sam2_video", "sam3_tracker_video"])
def test_no_slice_is_encoded_twice_over_planes_targets_and_rounds(
    kind: str, segmenter: HubSegmenter
) -> None:
    seen: list[bytes] = []

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.extend(one.numpy().tobytes() for one in inputs[0])

    segmenter._model.vision_encoder.register_forward_pre_hook(note)
    case = read_case(Path("tests/cases/CT_phantom.npz"))
    window = (slice(12, 22), slice(20, 60), slice(20, 64))
    session = Session(segmenter)
    session.set_image(case.image[window][None], {"spacing": case.spacing_mm, "window": (40, 400)})
    target = np.zeros(case.image[window].shape, np.uint8)
    session.set_target_buffer(target)
    for low in (5, 15):
        session.reset_interactions()
        session.add_bbox_interaction([[4, 5], [low, low + 15], [8, 30]], True)
        session.add_point_interaction((5, low + 5, 12), True)
        session.add_point_interaction((5, low + 3, 32), False)
    assert len(seen) > 20
    assert len(set(seen)) == len(seen)


def test_encoded_slices_are_kept_bit_for_bit(
    kind: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    for dtype in ("float32", "bfloat16"):
        segmenter = make(folder(kind), dtype=dtype)
        assert isinstance(segmenter, StorableSegmenter)
        (embedding,) = segmenter.encode(draw_slice((45, 101))[None])
        assert {str(one.dtype) for one in embedding.features} == {f"torch.{dtype}"}
        np.save(tmp_path / "one.npy", segmenter.pack(embedding), allow_pickle=False)
        stored = np.load(tmp_path / "one.npy", allow_pickle=False)
        assert stored.nbytes == embedding.nbytes
        restored = segmenter.unpack(stored, (45, 101))
        assert restored.shape == embedding.shape
        for one, other in zip(restored.features, embedding.features, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_what_is_no_embedding_is_not_restored(folder: Callable[[str], Path]) -> None:
    segmenter = make(folder("sam2"))
    # 16 channels of 32 x 32, 32 of 16 x 16, and 128 of 8 x 8.
    size = 16 * 32**2 + 32 * 16**2 + 128 * 8**2
    for wrong in (np.zeros(size - 1, np.float32), np.zeros(size, np.uint16)):
        with pytest.raises(ValueError, match=rf"found .*, expected \({size},\) float32"):
            segmenter.unpack(wrong, (45, 101))


def test_masks_of_an_encoder_in_bfloat16_are_about_those_in_float32(
    kind: str, segmenter: HubSegmenter, folder: Callable[[str], Path]
) -> None:
    narrow = make(folder(kind), dtype="bfloat16")
    pixels = draw_slice((77, 77))[None]
    prompts = [make_prompts((77, 77))["box"]]
    for one in (segmenter, narrow):
        # An unstable mask gives way to another one, which a rounded slice may tip.
        one._model.mask_decoder.dynamic_multimask_via_stability = False
    (expected,) = segmenter.decode(segmenter.encode(pixels), prompts)
    (found,) = narrow.decode(narrow.encode(pixels), prompts)
    # 8 significant bits through some layers; all that depends on the prompt keeps 24.
    largest = np.abs(expected.logits).max()
    assert 0 < np.abs(found.logits - expected.logits).max() < 0.25 * largest
    buffers = [one for one in narrow._model.vision_encoder.buffers() if one.is_floating_point()]
    assert {one.dtype for one in buffers} <= {torch.float32}
    assert torch.bfloat16 in {one.dtype for one in narrow._model.vision_encoder.parameters()}
    assert {weight.dtype for weight in narrow._model.mask_decoder.parameters()} == {torch.float32}


# Memory


class Cramped:
    """A part of a model that has room for two items at once, or for none."""

    def __init__(self, part: Callable[..., Any], room: int) -> None:
        self.part = part
        self.room = room
        self.sizes: list[int] = []

    def __call__(self, batch: Sequence[Any]) -> Any:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return self.part(batch)


def test_batches_shrink_where_memory_does_not_suffice(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = make(folder("sam2"))
    slices = np.stack([draw_slice((45, 101), seed) for seed in range(5)])
    prompts = [SlicePrompt((5, 6, 40, 30 + index)) for index in range(5)]
    embeddings = segmenter.encode(slices)
    expected = segmenter.decode(embeddings, prompts)
    for part in ("_encode_batch", "_decode_batch"):
        cramped = Cramped(getattr(segmenter, part), 2)
        monkeypatch.setattr(segmenter, part, cramped)
        again = segmenter.decode(segmenter.encode(slices), prompts)
        assert cramped.sizes == [5, 2, 2, 1]
        for found, before in zip(again, expected, strict=True):
            assert_like(found, before)


@pytest.mark.parametrize("kind", ["sam_hq", "sam2_video"])
def test_a_model_without_room_for_one_item_goes_on_on_the_cpu(
    kind: str,
    folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = make(folder(kind))
    # To torch this is the CPU; to the segmenter it is a device beside the CPU.
    segmenter = load(f"hf:{folder(kind)}", device="cpu:0", dtype="float32")
    assert isinstance(segmenter, HubSegmenter)
    prompts = [SlicePrompt((5, 6, 40, 30))]
    pixels = draw_slice((45, 101))[None]
    early = segmenter.encode(pixels)
    (expected,) = whole.decode(whole.encode(pixels), prompts)
    encode = segmenter._encode_batch
    full = Cramped(encode, 0)

    def encode_where_there_is_room(batch: Sequence[Pixels]) -> Any:
        return (encode if segmenter.traits.device == "cpu" else full)(batch)

    monkeypatch.setattr(segmenter, "_encode_batch", encode_where_there_is_room)
    for embeddings in (segmenter.encode(pixels), early):
        (found,) = segmenter.decode(embeddings, prompts)
        assert_like(found, expected)
    assert segmenter.traits.device == "cpu"
    assert [one for one in caplog.messages if "the CPU goes on" in one] == [
        f"{segmenter.name}: no room on cpu:0, the CPU goes on: CUDA out of memory."
    ]


# Following targets


@pytest.mark.parametrize("kind", ["sam2_video", "sam3_tracker_video", "edgetam_video"])
def test_a_video_model_follows_targets(kind: str, segmenter: HubSegmenter) -> None:
    assert isinstance(segmenter, HubTracker)
    assert isinstance(segmenter, Tracker)
    slices = np.stack([draw_slice((45, 101), seed) for seed in range(3)])
    first, second, _ = segmenter.encode(slices)
    prompts = [SlicePrompt((20, 10, 80, 35)), SlicePrompt((5, 6, 40, 30))]
    anchors = segmenter.track([first, first], prompts, [None, None], [0, 0])
    memories = [one.state for one in anchors]
    up = segmenter.track([second, second], [None, None], memories, [1, 1])
    segmenter.track([second, second], [None, None], memories, [-1, -1])
    again = segmenter.track([second, second], [None, None], memories, [1, 1])
    for one, other in zip(up, again, strict=True):
        assert one.logits.shape == (45, 101)
        np.testing.assert_array_equal(one.logits, other.logits)


def test_a_video_model_without_its_memory_is_taken_for_single_images(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    video, own = folder("sam2_video"), SMALL["sam2"]().state_dict()
    state = load_file(video / "model.safetensors")
    state = {key: weight for key, weight in state.items() if key in own}
    save(tmp_path, config_of(video), state)
    found = make(tmp_path)
    assert not isinstance(found, HubTracker | Tracker)
    pixels, prompts = draw_slice((45, 101))[None], [SlicePrompt((20, 10, 80, 35))]
    whole = make(video)
    (expected,) = whole.decode(whole.encode(pixels), prompts)
    (answer,) = found.decode(found.encode(pixels), prompts)
    assert_like(answer, expected)


# Loading


def config_of(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    assert isinstance(config, dict)
    return config


def save(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")


def test_the_tracker_of_a_whole_sam_3_is_taken(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """The published files hold the detector as well; keys as in transformers' own conversion."""
    tracker = folder("sam3_tracker_video")
    state = {
        key.removeprefix("tracker_model.") if "detector" in key or "neck" in key else key: weight
        for key, weight in load_file(tracker / "model.safetensors").items()
    }
    state["detector_model.text_encoder.weight"] = torch.ones(3)
    config = {"model_type": "sam3_video", "tracker_config": config_of(tracker)}
    save(tmp_path, config, state)
    pixels, prompts = draw_slice((45, 101))[None], [SlicePrompt((20, 10, 80, 35))]
    answers: list[SliceMask] = []
    for one in (make(tracker), make(tmp_path)):
        assert isinstance(one, HubTracker)
        answers += one.decode(one.encode(pixels), prompts)
    assert_like(*answers)


def test_weights_may_be_split_up_and_in_half_precision(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    state = load_file(folder("sam") / "model.safetensors")
    files = {key: f"model-0000{index % 2 + 1}.safetensors" for index, key in enumerate(state)}
    for file in set(files.values()):
        part = {key: state[key].bfloat16() for key in state if files[key] == file}
        save_file(part, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (tmp_path / "config.json").write_text(json.dumps(config_of(folder("sam"))))
    loaded = load_model(f"hf:{tmp_path}").model.state_dict()
    for key, weight in state.items():
        assert loaded[key].dtype == torch.float32
        assert torch.equal(loaded[key], weight.bfloat16().float())


def test_another_file_of_weights_takes_the_place_of_the_models_own(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    state = load_file(folder("sam") / "model.safetensors")
    state["mask_decoder.iou_token.weight"] += 1
    torch.save({"model": state, "epoch": 3}, tmp_path / "tuned.pth")
    found = load_model(f"hf:{folder('sam')}", tmp_path / "tuned.pth").model
    tuned = found.mask_decoder.iou_token.weight
    assert torch.equal(tuned, state["mask_decoder.iou_token.weight"])
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such checkpoint file"):
        load_model(f"hf:{folder('sam')}", tmp_path / "nowhere.pth")


def test_the_fingerprint_tells_apart_what_embeddings_depend_on(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    first = make(folder("sam"))
    assert first.fingerprint == make(folder("sam")).fingerprint
    state = load_file(folder("sam") / "model.safetensors")
    state["mask_decoder.iou_token.weight"] += 1
    save(tmp_path, config_of(folder("sam")), state)
    moved = tmp_path / "moved"
    moved.symlink_to(folder("sam"))
    assert make(moved).fingerprint == first.fingerprint
    others = [make(tmp_path), make(folder("sam"), dtype="bfloat16"), make(folder("sam2"))]
    prints = {one.fingerprint for one in (first, *others)}
    assert len(prints) == 4
    assert all(len(one) == 32 and one.isalnum() for one in prints)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "bert"}', "found a model of type 'bert', expected one of sam, sam_hq, "),
        ('{"model_type": ["sam"]}', r"found a model of type \['sam'\], expected one of "),
        ("{}", "found a model of type None, expected one of sam"),
        ("[1]", "found a list, expected an object"),
        ("{", "found no JSON"),
        (" " * (2**20 + 1), "found more than 1048576 bytes"),
        (f'{{"model_type": "{"x" * 5000}"}}', "found a model of type 'xxxx"),
        ('{"model_type": "sam", "vision_config": {"patch_size": 0}}', "no SamModel can be made"),
        ('{"model_type": "sam", "vision_config": 3}', "found a int as vision_config, expected"),
    ],
)
def test_what_is_no_model_of_sams_kind_is_named(config: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    save_file({"weight": torch.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(SegmenterError, match=message) as caught:
        load(f"hf:{tmp_path}")
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("kind", "part", "change", "message"),
    [
        # Small models have 128 px in 8 x 8 patches of 16.
        ("sam", "prompt_encoder_config", {"image_size": 64}, "found image_size 128, expected 64"),
        ("sam", "prompt_encoder_config", {"image_size": 127}, "image_size 127 and patch_size 16"),
        ("sam", "prompt_encoder_config", {"image_size": 0}, "image_size 0 and patch_size 16"),
        ("sam_hq", "vision_config", {"image_size": 64}, "image_size 64, expected 128"),
        ("sam_hq", "vision_config", {"patch_size": 32}, "patch_size 32, expected 16"),
        ("sam2", "prompt_encoder_config", {"patch_size": 32}, r"\[\[32, 32\], .* expected \[\[16,"),
        ("sam2", "vision_config", {"backbone_feature_sizes": [[1, 1]]}, r"found .* \[\[1, 1\]\],"),
        ("sam2", "vision_config", {"backbone_feature_sizes": []}, r"feature_sizes \[\], expected"),
        ("sam2_video", "", {"memory_attention_rope_feat_sizes": [8, 9]}, r"\[8, 9\], expected \[8"),
        ("sam2_video", "", {"image_size": 256}, "image_size 256, expected 128"),
        ("edgetam_video", "prompt_encoder_config", {"image_size": 64}, "expected"),
    ],
)
def test_parts_that_are_made_for_different_inputs_are_refused(
    kind: str,
    part: str,
    change: dict[str, Any],
    message: str,
    folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    config = config_of(folder(kind))
    (config[part] if part else config).update(change)
    save(tmp_path, config, load_file(folder(kind) / "model.safetensors"))
    with pytest.raises(SegmenterError, match=message) as caught:
        load(f"hf:{tmp_path}", device="cpu")
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: found ")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"model_args": {"in_chans": 3, "checkpoint_path": "evil.bin"}},
            "found 'checkpoint_path' in model_args, expected none but in_chans, features_only",
        ),
        ({"architecture": "hf-hub:owner/name"}, "found architecture 'hf-hub:owner/name', expected"),
        ({"architecture": ["repvit_m1"]}, r"found architecture \['repvit_m1'\], expected timm's"),
        (
            {"architecture": "repvit_m1:evil"},
            "found architecture 'repvit_m1:evil', expected timm's",
        ),
    ],
)
def test_a_configuration_that_leads_elsewhere_is_refused(
    part: dict[str, Any], message: str, tmp_path: Path
) -> None:
    backbone = {"model_type": "timm_wrapper"} | part
    config = {"model_type": "edgetam", "vision_config": {"backbone_config": backbone}}
    save(tmp_path, config, {"weight": torch.ones(3)})
    with pytest.raises(SegmenterError, match=message):
        load(f"hf:{tmp_path}")


FOREIGN = {
    "attn_implementation": "owner/kernels",
    "experts_implementation": "owner/kernels",
    "_attn_implementation_internal": "owner/kernels",
    "auto_map": {"AutoModel": "owner/name--code.Model"},
    "backbone": "owner/name",
    "use_pretrained_backbone": True,
    "name_or_path": "owner/name",
    "per_layer_config": {"0": {"hidden_size": 7}},
}
"""Settings that make transformers look for models or code elsewhere, or change what it builds."""


@pytest.mark.parametrize("kind", ["sam", "sam2_video", "sam3_tracker_video", "edgetam"])
def test_settings_that_describe_no_network_are_left_out_at_any_depth(
    kind: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    def spoil(part: dict[str, Any]) -> dict[str, Any]:
        spoiled = {key: spoil(one) if key.endswith("_config") else one for key, one in part.items()}
        return FOREIGN | spoiled

    save(tmp_path, spoil(config_of(folder(kind))), load_file(folder(kind) / "model.safetensors"))
    config = load_model(f"hf:{tmp_path}").model.config.to_dict()
    assert config == load_model(f"hf:{folder(kind)}").model.config.to_dict()


GIANT = {"model_type": "timm_wrapper", "architecture": "vit_giant_patch14_reg4_dinov2"}
"""An image encoder of a billion weights."""


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vision_config": {"num_hidden_layers": 10**8}}, "num_hidden_layers 100000000, .* 100 at"),
        ({"vision_config": {"hidden_size": 10**6}}, "found hidden_size 1000000, expected 10000 at"),
        ({"vision_config": {"image_size": [-(10**6), 1]}}, "found image_size -1000000, expected"),
        ({"vision_config": {"global_attn_indexes": [1] * 101}}, "found 101 in global_attn_indexes"),
        ({"mask_decoder_config": {"num_multimask_outputs": 101}}, "found num_multimask_outputs"),
        ({"vision_config": {"hidden_size": 10**4000}}, "found hidden_size 1000000[0]*, expected"),
        ({"vision_config": {"mlp_ratio": {"\x1b\n": 10**5}}}, r"found \\x1b\\n 100000, expected"),
        ({"mask_decoder_config": {"layer_norm_eps": math.nan}}, "found layer_norm_eps nan"),
        (
            {"model_type": "edgetam", "vision_config": {"backbone_config": GIANT}},
            "found architecture 'vit_giant_patch14_reg4_dinov2', expected timm's repvit_",
        ),
        ({"prompt_encoder_config": []}, "found a list as prompt_encoder_config, expected an obj"),
    ],
)
def test_a_configuration_that_asks_for_more_than_any_model_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save(tmp_path, {"model_type": "sam"} | config, {"weight": torch.ones(3)})
    with pytest.raises(SegmenterError, match=message) as caught:
        load(f"hf:{tmp_path}")
    assert str(tmp_path / "config.json") in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_configuration_may_begin_with_a_byte_order_mark(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    save(tmp_path, config_of(folder("sam")), load_file(folder("sam") / "model.safetensors"))
    config = tmp_path / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    read = load_model(f"hf:{tmp_path}").model.config.to_dict()
    assert read == load_model(f"hf:{folder('sam')}").model.config.to_dict()


def test_the_tracker_of_sam_3_is_an_object(tmp_path: Path) -> None:
    save(tmp_path, {"model_type": "sam3_video", "tracker_config": 3}, {"weight": torch.ones(3)})
    with pytest.raises(SegmenterError, match="found a int as tracker_config, expected an object"):
        load(f"hf:{tmp_path}")


def retype(part: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """Gives the parts that transformers had no type for another one; None leaves them out."""
    told = {} if kind is None else {"model_type": kind}
    return {key: one for key, one in part.items() if key != "model_type"} | told


GENERATION = {
    "_name_or_path": "",
    "architectures": None,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "max_length": 20,
    "num_beams": 1,
    "problem_type": None,
    "pruned_heads": {},
    "return_dict": True,
    "temperature": 1.0,
    "tf_legacy_loss": False,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.29.0.dev0",
    "use_bfloat16": False,
}
"""Some of what transformers 4.29 wrote into every part of a configuration."""

EARLIER_VISION = {"dropout": 0.0, "initializer_factor": 1.0, "intermediate_size": 6144}
"""Settings of SAM's image encoder that are no more."""


@pytest.mark.parametrize(
    ("told", "more"),
    [
        pytest.param("", GENERATION, id="2023, facebook/sam-vit-base"),
        pytest.param("", {}, id="2024, fine-tunes"),
        pytest.param("vit_p77", {}, id="SlimSAM"),
        pytest.param(None, {}, id="no type"),
    ],
)
@pytest.mark.parametrize("kind", ["sam", "sam_hq", "sam2", "sam2_video", "edgetam_video"])
def test_configurations_as_they_are_published_are_read(
    kind: str,
    told: str | None,
    more: dict[str, Any],
    folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    config = config_of(folder(kind))
    parts = ["prompt_encoder_config", "mask_decoder_config"]
    if kind.startswith("sam") and "2" not in kind:
        parts.append("vision_config")
        config["vision_config"] |= EARLIER_VISION
    for part in parts:
        config[part] = {**more, **retype(config[part], told)}
    config |= {"torch_dtype": "float32", "transformers_version": None, "_commit_hash": None}
    if "memory_attention_num_layers" in config:
        config["memory_attention_rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    save(tmp_path, config, load_file(folder(kind) / "model.safetensors"))
    read = load_model(f"hf:{tmp_path}").model.config.to_dict()
    own = load_model(f"hf:{folder(kind)}").model.config.to_dict()
    assert read == own


def test_weights_that_are_not_the_configurations_are_refused(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    state = load_file(folder("sam") / "model.safetensors")
    del state["mask_decoder.iou_token.weight"]
    save(tmp_path, config_of(folder("sam")), state | {"other\x1b": torch.ones(3)})
    expected = r"1 missing: mask_decoder\.iou_token\.weight; 1 unknown: other\\x1b"
    with pytest.raises(SegmenterError, match=expected):
        load(f"hf:{tmp_path}")
    save(tmp_path, config_of(folder("sam2")), load_file(folder("sam") / "model.safetensors"))
    with pytest.raises(SegmenterError, match="not of this network"):
        load(f"hf:{tmp_path}")


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"found no file, expected config\.json"):
        load(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    expected = "found config.json, pytorch_model.bin, expected model.safetensors"
    with pytest.raises(CheckpointError, match=expected):
        load(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "found no JSON"),
        ("[]", "found no list of files of weights"),
        ('{"weight_map": 3}', "found no list of files of weights"),
        ('{"weight_map": {}}', "found no list of files of weights"),
        ('{"weight_map": {"a": 3}}', "found 3, expected files of safetensors"),
        (" " * (10 * 2**20 + 1), "found more than 10485760 bytes"),
    ],
)
def test_a_list_of_files_that_is_none_is_named(index: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=rf"index\.json: {message}"):
        load(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("../elsewhere.safetensors", r"\.\./elsewhere\.safetensors"),
        ("\x1b[2J\n.safetensors", r"\\x1b\[2J\\n\.safetensors"),
        (5000 * "a" + ".safetensors", r"a{200}\.\.\."),
    ],
)
def test_a_list_of_files_leads_to_no_other_folder(file: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    index = json.dumps({"weight_map": {"a": file}})
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=f"found {shown}, expected"):
        load(f"hf:{tmp_path}")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_a_package_the_command_that_gets_it_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in list(sys.modules):
        if module.partition(".")[0] == package or module.startswith("gamt.segmenters."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Absent(package), *sys.meta_path])
    commands = "pip install 'gamt[hub]', in a clone make setup-all"
    with pytest.raises(SegmenterError, match=re.escape(f"package {package}: {commands}")):
        load("hf:owner/name")


# Real sizes


@pytest.mark.slow
def test_sam_2_1_tiny_at_its_real_size_answers_as_by_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    Sam2VideoModel(Sam2VideoConfig()).save_pretrained(tmp_path)
    segmenter = make(tmp_path)
    pixels = draw_slice((250, 401))
    embeddings = segmenter.encode(pixels[None])
    shapes = [tuple(one.shape) for one in embeddings[0].features]
    assert shapes == [(32, 256, 256), (64, 128, 128), (256, 64, 64)]
    prompt = make_prompts((250, 401))["box and mask"]
    (found,) = segmenter.decode(embeddings, [prompt])
    reference = Reference("sam2_video", tmp_path, 1024)
    assert_like(found, reference.answer(pixels, prompt, False, segmenter))


@pytest.mark.slow
def test_edgetam_at_its_real_size_answers_as_by_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = EdgeTamVisionConfig(backbone_config=backbone)
    randomise(EdgeTamVideoModel(EdgeTamVideoConfig(vision_config=vision))).save_pretrained(tmp_path)
    segmenter = make(tmp_path)
    assert isinstance(segmenter, HubTracker)
    pixels = draw_slice((250, 401))
    embeddings = segmenter.encode(pixels[None])
    prompt = make_prompts((250, 401))["box"]
    (found,) = segmenter.decode(embeddings, [prompt], False)
    reference = Reference("edgetam_video", tmp_path, 1024)
    assert_like(found, reference.answer(pixels, prompt, False, segmenter))


@pytest.mark.parametrize("kind", ["sam", "sam_hq", "sam2", "sam3_tracker", "edgetam"])
def test_three_channels_are_seen_as_colours_by_transformers(
    kind: str, folder: Callable[[str], Path]
) -> None:
    segmenter = make(folder(kind))
    reference = Reference(kind, folder(kind), segmenter._frame.side)
    shape = SHAPES[0]
    colours = np.stack([draw_slice(shape, seed) for seed in range(3)], axis=-1)
    colours[..., 2] //= 2  # so that their order counts
    (embedding,) = segmenter.encode(colours[None])
    prompt = make_prompts(shape)["box"]
    (answer,) = segmenter.decode([embedding], [prompt], multimask=False)
    assert_like(answer, reference.answer(colours, prompt, False, segmenter))

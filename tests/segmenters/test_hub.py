"""Models of the hub: against transformers' own processors and models, and how they are loaded."""

import json
import math
import re
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
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam3ImageProcessor,
    Sam3TrackerModel,
    Sam3TrackerProcessor,
    SamHQModel,
    SamImageProcessorPil,
    SamModel,
    SamProcessor,
)

from gamt.predict import predict_case
from gamt.prompts import SlicePrompt
from gamt.segmenters import SegmenterError, load
from gamt.segmenters.base import SliceMask, StorableSegmenter, Tracker
from gamt.segmenters.checkpoints import CheckpointError
from gamt.segmenters.hub import HubSegmenter, HubTracker, load_model
from tests.small_hub import SMALL

Shape = tuple[int, int]
Pixels = npt.NDArray[np.uint8]

SHAPES: Sequence[Shape] = ((45, 101), (90, 33), (77, 77), (300, 170))
"""Wide, tall, square, and larger than the input; none of them whole patches."""

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
            self.processor: Any = SamProcessor(images)
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
            images=np.repeat(pixels[..., None], 3, axis=-1),
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
    union = (found.mask | expected.mask).sum()
    assert union == 0 or (found.mask & expected.mask).sum() / union >= 0.999
    assert math.isclose(found.quality, expected.quality, abs_tol=TOLERANCE)


# Answers


@pytest.mark.parametrize("shape", SHAPES)
def test_slices_are_answered_as_by_transformers(
    kind: str, shape: Shape, segmenter: HubSegmenter, folder: Callable[[str], Path]
) -> None:
    reference = Reference(kind, folder(kind), segmenter._frame.side)
    pixels = draw_slice(shape)
    embeddings = segmenter.encode(pixels[None])
    covered = 0.0
    for prompt in make_prompts(shape).values():
        if not (len(prompt.points) or prompt.box or prompt.mask is not None):
            continue  # the processor takes no such prompt
        for multimask in (False, True):
            (found,) = segmenter.decode(embeddings, [prompt], multimask)
            expected = reference.answer(pixels, prompt, multimask, segmenter)
            assert_like(found, expected)
            covered += float(expected.mask.mean()) / 14
    # Masks of all or nothing would say little.
    assert 0.02 < covered < 0.98

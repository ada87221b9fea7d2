"""SAM-Med2D against golden numbers of its own repository, and its adapters by hand.

`sam_med2d.npz` was made by the code of OpenGVLab/SAM-Med2D, commit
bfd2b93b1158100c8abd81f61766a2de92c1c175, with torch 2.15, OpenCV 5.0 and albumentations 2.0 on a
CPU in float32: `sam_model_registry["vit_b"]` with an image size of 256 and `encoder_adapter=True`
read the stand-in checkpoint of seed 0; `SammedPredictor.set_image` got the slices of `draw_slice`
as three equal channels, `predict` the prompts of `make_prompts` with `return_logits=True`, a mask
prompt as the sigmoid of its log-odds, as that repository's notebook and training have it. Kept are
every eighth channel at every third row and column of the image's embedding, every 101st logit, and
the predicted IoU.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.standins import standin_shapes
from gamt.prompts import SlicePrompt
from gamt.segmenters import SegmenterError
from gamt.segmenters.sam import SamEmbedding, SamSegmenter
from gamt.segmenters.sam_med2d import Adapter, sam_med2d

Standin = Callable[[str], Path]

SHAPES = ((40, 56), (300, 200), (131, 257))
TOLERANCE = 1e-4
GOLDEN = Path(__file__).with_name("sam_med2d.npz")


def draw_slice(rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Draws a bright ellipse on stripes, in integers alone."""
    y, x = np.ogrid[:rows, :columns]
    stripes = (3 * x + 5 * y) % 70 + (7 * x * x + 13 * y) % 31
    distance = ((2 * y - rows) * columns) ** 2 + ((2 * x - columns) * rows) ** 2
    return np.asarray(stripes + 120 * (2 * distance < (rows * columns) ** 2), np.uint8)


def make_prompts(rows: int, columns: int) -> dict[str, SlicePrompt]:
    box = (columns // 5, rows // 4, 3 * columns // 4, 2 * rows // 3)
    points = np.array([[columns // 2, rows // 2], [columns // 8, rows // 7]], np.float64)
    labels = np.array([1, 0])
    y, x = np.mgrid[:64, :64]
    mask = np.where((x - 30) ** 2 + 2 * (y - 34) ** 2 < 400, 3, -5) + (x - y) / 16
    return {
        "box": SlicePrompt(box),
        "point": SlicePrompt(None, points[:1], labels[:1]),
        "box_points": SlicePrompt(box, points, labels),
        "box_mask": SlicePrompt(box, state=mask.astype(np.float32)),
    }


@pytest.fixture(scope="module")
def segmenter(standin: Standin) -> SamSegmenter:
    return sam_med2d(standin("sam_med2d"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def embeddings(segmenter: SamSegmenter) -> Sequence[SamEmbedding]:
    return [segmenter.encode(draw_slice(*shape)[None])[0] for shape in SHAPES]


@pytest.fixture(scope="module")
def golden() -> Mapping[str, npt.NDArray[np.float32]]:
    with np.load(GOLDEN) as file:
        return dict(file)


def sample(features: torch.Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(features[::8, ::3, ::3].float().cpu().numpy())


@pytest.mark.parametrize("index", range(len(SHAPES)), ids=str)
def test_equals_the_official_predictor(
    index: int,
    segmenter: SamSegmenter,
    embeddings: Sequence[SamEmbedding],
    golden: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    embedding = embeddings[index]
    np.testing.assert_allclose(
        sample(embedding.features), golden[f"features{index}"], rtol=0, atol=TOLERANCE
    )
    prompts = make_prompts(*SHAPES[index])
    for multimask, kind in ((True, "best"), (False, "single")):
        answers = segmenter.decode([embedding] * len(prompts), [*prompts.values()], multimask)
        for name, answer in zip(prompts, answers, strict=True):
            key = f"{name}{index}_{kind}"
            assert answer.logits.shape == SHAPES[index]
            np.testing.assert_allclose(
                answer.logits.ravel()[::101], golden[key], rtol=0, atol=TOLERANCE, err_msg=key
            )
            expected = float(golden[f"{key}_quality"])
            assert answer.quality == pytest.approx(expected, rel=0, abs=TOLERANCE), key


def test_takes_the_best_of_several_masks_unless_told_otherwise(
    segmenter: SamSegmenter, embeddings: Sequence[SamEmbedding]
) -> None:
    prompts = [*make_prompts(*SHAPES[0]).values()]
    habit, best, single = (
        segmenter.decode([embeddings[0]] * len(prompts), prompts, multimask)
        for multimask in (None, True, False)
    )
    for one, several, alone in zip(habit, best, single, strict=True):
        np.testing.assert_array_equal(one.logits, several.logits)
        assert one.quality == several.quality
        assert abs(one.logits - alone.logits).max() > 0.1


def test_runs_without_its_adapters(
    standin: Standin, golden: Mapping[str, npt.NDArray[np.float32]]
) -> None:
    without = sam_med2d(standin("sam_med2d"), device="cpu", dtype="float32", adapter=False)
    (embedding,) = without.encode(draw_slice(*SHAPES[0])[None])
    features = sample(embedding.features)
    np.testing.assert_allclose(features, golden["without_adapters"], rtol=0, atol=TOLERANCE)
    assert abs(features - golden["features0"]).max() > 1


def apply_adapter(
    tokens: npt.NDArray[np.float64], weights: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Applies an adapter to the tokens (rows, columns, channels) of one slice, step by step."""
    rows, columns, _ = tokens.shape
    # Channel attention: a gate a channel from the mean over the slice.
    hidden = np.maximum(weights["channel.0.weight"] @ tokens.mean(axis=(0, 1)), 0)
    gated = tokens / (1 + np.exp(-weights["channel.2.weight"] @ hidden))
    # 3 x 3 convolution: pixel (i, j) of the smaller grid is centred on (2i, 2j).
    padded = np.pad(gated, ((1, 1), (1, 1), (0, 0)))
    # 4 x 4 transposed convolution: pixel (i, j) is spread over rows 2i - 1 .. 2i + 2; one more
    # pixel on either side takes what falls off the edges.
    spread = np.zeros((rows + 2, columns + 2, tokens.shape[2]))
    for i in range(rows // 2):
        for j in range(columns // 2):
            patch = padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            small = np.maximum(np.einsum("yxc,ocyx->o", patch, weights["spatial.0.weight"]), 0)
            spread[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum(
                "c,coyx->yxo", small, weights["spatial.2.weight"]
            )
    total = tokens + np.maximum(spread[1:-1, 1:-1], 0)
    centred = total - total.mean(axis=2, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)
    return np.asarray(scaled * weights["norm.weight"] + weights["norm.bias"])


def test_adapter_equals_its_steps_written_out() -> None:
    rng = np.random.default_rng(0)
    adapter = Adapter(8).double()
    weights = {key: rng.normal(size=weight.shape) for key, weight in adapter.state_dict().items()}
    adapter.load_state_dict({key: torch.from_numpy(weight) for key, weight in weights.items()})
    tokens = rng.normal(size=(2, 4, 6, 8))
    with torch.inference_mode():
        found = adapter(torch.from_numpy(tokens)).numpy()
    expected = np.stack([apply_adapter(one, weights) for one in tokens])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def hollow_state() -> dict[str, torch.Tensor]:
    """Returns a state dict of the official keys and shapes that is but a number a key on disk."""
    return {key: torch.zeros(1).expand(shape) for key, shape in standin_shapes("sam_med2d").items()}


def test_embeddings_with_and_without_adapters_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "hollow.pth"
    torch.save({"model": hollow_state()}, path)
    fingerprints = {
        sam_med2d(path, "cpu", "float32", adapter).fingerprint for adapter in (True, False)
    }
    assert len(fingerprints) == 2


def test_lists_missing_unknown_and_misshapen_keys(tmp_path: Path) -> None:
    state = hollow_state()
    del state["image_encoder.blocks.3.Adapter.channel.0.weight"]
    state["image_encoder.blocks.3.Adapter.channel.1.weight"] = torch.zeros(1)
    state["image_encoder.pos_embed"] = torch.zeros(1).expand(1, 64, 64, 768)
    path = tmp_path / "broken.pth"
    torch.save({"model": state}, path)
    with pytest.raises(SegmenterError) as caught:
        sam_med2d(path, device="cpu")
    message = str(caught.value)
    assert str(path) in message
    assert "1 missing: image_encoder.blocks.3.Adapter.channel.0.weight" in message
    assert "1 unknown: image_encoder.blocks.3.Adapter.channel.1.weight" in message
    assert "1 of another shape: image_encoder.pos_embed" in message
    assert "found 1 x 64 x 64 x 768, expected 1 x 16 x 16 x 768" in message


def test_wants_the_adapters_weights_even_to_run_without_them(tmp_path: Path) -> None:
    state = {key: weight for key, weight in hollow_state().items() if "Adapter" not in key}
    path = tmp_path / "sam.pth"
    torch.save({"model": state}, path)
    with pytest.raises(SegmenterError, match=r"72 missing: .*Adapter"):  # 12 blocks, 6 each
        sam_med2d(path, device="cpu", adapter=False)


def test_another_models_weights_are_named(tmp_path: Path) -> None:
    state = {key: weight for key, weight in hollow_state().items() if "Adapter" not in key}
    state["image_encoder.pos_embed"] = torch.zeros(1).expand(1, 64, 64, 768)
    path = tmp_path / "sam.pth"
    torch.save(state, path)
    with pytest.raises(SegmenterError) as caught:
        sam_med2d(path, device="cpu")
    expected = "these are the weights of sam_vit_b, expected those of sam_med2d"
    assert str(caught.value) == f"{path}: {expected}"


class Trap:
    """Unpickled, it copies a file."""

    def __init__(self, source: Path, target: Path) -> None:
        self.paths = source, target

    def __reduce__(self) -> tuple[object, ...]:
        return shutil.copy, (str(self.paths[0]), str(self.paths[1]))


def test_runs_nothing_of_what_lies_beside_the_weights(tmp_path: Path) -> None:
    path, copy = tmp_path / "trap.pth", tmp_path / "copy"
    torch.save({"model": hollow_state(), "optimizer": Trap(Path(__file__), copy)}, path)
    with pytest.raises(SegmenterError, match=r"trap\.pth: .* found 'shutil\.copy' named"):
        sam_med2d(path, device="cpu")
    assert not copy.exists()


def test_takes_the_weights_beside_an_optimiser(tmp_path: Path) -> None:
    # As its training wrote the published file.
    path = tmp_path / "trained.pth"
    optimiser = torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
    torch.save({"model": hollow_state(), "optimizer": optimiser}, path)
    sam_med2d(path, device="cpu")

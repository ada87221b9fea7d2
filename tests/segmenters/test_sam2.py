"""SAM 2.1 from its publisher's files, held to the network that its publisher loads them into."""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.initialization import no_init_weights

from gamt.prompts import SlicePrompt
from gamt.segmenters import SegmenterError, load
from gamt.segmenters.base import Tracker
from gamt.segmenters.hub import load_described, load_model
from gamt.segmenters.sam2 import BASE_PLUS, LARGE, SMALL, TINY, Hiera, describe

REFERENCE = Path(__file__).parents[2] / ".tools" / "sam2-1.1.0"
"""Where `make test` installs the package sam2."""

SIDE = 256
"""Of the input of most tests here, in pixels; SAM 2's own takes 16 times as long."""


@pytest.fixture(scope="module")
def build() -> Iterator[Any]:
    """What builds the publisher's network of a configuration."""
    if not REFERENCE.is_dir() and "CI" not in os.environ:
        pytest.skip("make test installs the package sam2")
    sys.path.insert(0, str(REFERENCE))
    try:
        yield importlib.import_module("sam2.build_sam").build_sam2
    finally:
        sys.path.remove(str(REFERENCE))


def reference(build: Any, config: str, side: int) -> Any:
    """Builds the publisher's network with random weights."""
    with no_init_weights():  # they are set below
        network = build(
            f"configs/sam2.1/{config}.yaml",
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={side}"],
        )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            # As wide as keeps a layer's output at its input's size; norms are about 1.
            fans = weight[0].numel() if weight.ndim > 1 else 25
            weight.normal_(std=fans**-0.5, generator=generator)
            if re.search(r"norm\w*\.weight$|gamma$", name):
                weight.add_(1)
        # There is a target in every image.
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(10)
    return network


def save(network: Any, path: Path) -> Path:
    torch.save({"model": network.state_dict(), "epoch": 3}, path)
    return path


def equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.abs().mean() > 0.01  # of zeros, all would be equal
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "hiera", "side"),
    [
        pytest.param("sam2.1_hiera_t", TINY, SIDE, id="tiny"),
        pytest.param("sam2.1_hiera_s", SMALL, SIDE, id="small", marks=pytest.mark.slow),
        pytest.param("sam2.1_hiera_b+", BASE_PLUS, SIDE, id="base_plus", marks=pytest.mark.slow),
        pytest.param("sam2.1_hiera_l", LARGE, SIDE, id="large", marks=pytest.mark.slow),
        pytest.param("sam2.1_hiera_t", TINY, 512, id="MedSAM2", marks=pytest.mark.slow),
    ],
)
@torch.inference_mode()
def test_both_networks_compute_the_same(
    config: str, hiera: Hiera, side: int, build: Any, tmp_path: Path
) -> None:
    theirs = reference(build, config, side)
    path = save(theirs, tmp_path / "some.pt")
    ours = load_described(describe(hiera, side), path, (path,)).model
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, side, side, generator=generator)

    _, features, positions, sizes = theirs._prepare_backbone_features(theirs.forward_image(images))
    encoded = ours.get_image_features(images)
    for found, expected in zip(encoded.fpn_hidden_states, features, strict=True):
        equal(found, expected)

    # Two corners of a box and a point inside; of the other image two points.
    places = side * torch.tensor(
        [[[0.2, 0.3], [0.8, 0.6], [0.5, 0.4]], [[0.1, 0.9], [0.7, 0.7], [0, 0]]]
    )
    labels = torch.tensor([[2, 3, 1], [1, 0, -1]], dtype=torch.int32)
    levels = [
        one.permute(1, 2, 0).reshape(2, -1, *size)
        for one, size in zip(features, sizes, strict=True)
    ]
    levels[-1] = levels[-1] + theirs.no_mem_embed.view(1, -1, 1, 1)
    masks = 4 * torch.randn(2, 1, side // 4, side // 4, generator=generator)
    for mask in (None, masks):
        for several in (False, True):
            low_res, high_res, ious, _, _, pointer, score = theirs._forward_sam_heads(
                levels[-1],
                {"point_coords": places, "point_labels": labels},
                mask,
                levels[:-1],
                several,
            )
            sparse, dense = ours.prompt_encoder(places[:, None], labels[:, None], None, mask)
            found_low_res, found_ious, tokens, found_score = ours.mask_decoder(
                image_embeddings=levels[-1],
                image_positional_embeddings=ours.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=several,
                high_resolution_features=levels[:-1],
            )
            equal(found_low_res[:, 0], low_res)
            equal(found_ious[:, 0], ious)
            equal(found_score[:, 0], score)
            best = ious.argmax(dim=1) if several else torch.zeros(2, dtype=torch.int64)
            equal(ours.object_pointer_proj(tokens[range(2), 0, best]), pointer)

    seen = theirs.memory_encoder(levels[-1], high_res[:, :1].sigmoid(), skip_mask_sigmoid=True)
    found_seen, found_places = ours.memory_encoder(levels[-1], high_res[:, :1].sigmoid())
    equal(found_seen, seen["vision_features"])
    equal(found_places, seen["vision_pos_enc"][0])

    # Two slices and two pointers, of which four tokens of 64 channels each are made.
    memory = seen["vision_features"].flatten(2).permute(2, 0, 1)
    memory = torch.cat([memory, memory.flip(1), pointer.reshape(2, 4, 64).transpose(0, 1)])
    times = seen["vision_pos_enc"][0].flatten(2).permute(2, 0, 1)
    times = torch.cat([times + theirs.maskmem_tpos_enc[t] for t in (6, 0)])
    pointed = theirs.obj_ptr_tpos_proj(torch.randn(1, 256, generator=generator))
    times = torch.cat([times, pointed.expand(4, 2, 64)])
    equal(ours.memory_temporal_positional_encoding, theirs.maskmem_tpos_enc)
    equal(ours.no_object_pointer, theirs.no_obj_ptr)
    equal(ours.occlusion_spatial_embedding_parameter, theirs.no_obj_embed_spatial)
    expected = theirs.memory_attention(features[-1:], memory, positions[-1:], times, 4)
    found = ours.memory_attention(
        current_vision_features=features[-1],
        current_vision_position_embeddings=positions[-1],
        memory=memory,
        memory_posision_embeddings=times,
        num_object_pointer_tokens=4,
    )
    equal(found[0].transpose(0, 1), expected)


def test_a_model_of_the_hub_takes_its_publishers_file(build: Any, tmp_path: Path) -> None:
    theirs = reference(build, "sam2.1_hiera_t", SIDE)
    path = save(theirs, tmp_path / "some.pt")
    folder = tmp_path / "hub"
    Sam2VideoConfig.from_dict(describe(TINY, SIDE)).save_pretrained(folder)
    loaded = load_model(f"hf:{folder}", path)
    assert loaded.tracks
    pointer = loaded.model.state_dict()["no_object_pointer"]
    torch.testing.assert_close(pointer, theirs.state_dict()["no_obj_ptr"], rtol=0, atol=0)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """All of SAM 2.1 tiny's, random, in transformers' layout."""
    torch.manual_seed(0)
    config = Sam2VideoConfig.from_dict(describe(TINY, 512))
    return Sam2VideoModel(config).state_dict()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        pytest.param("sam2.1_hiera_tiny", 1024, marks=pytest.mark.slow),
        ("medsam2", 512),
    ],
)
def test_a_file_is_all_that_a_name_needs(
    name: str, side: int, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "some.pt"
    torch.save({"model": weights}, path)
    segmenter = load(name, str(path), "cpu", dtype="float32")
    assert segmenter.name == name
    assert isinstance(segmenter, Tracker)
    slices = np.random.default_rng(0).integers(0, 256, (1, 30, 50), dtype=np.uint8)
    (embedding,) = segmenter.encode(slices)
    # 16 x 16 pixels of the square that slices are squeezed into become one token.
    assert embedding.features[-1].shape == (256, side // 16, side // 16)
    (mask,) = segmenter.decode([embedding], [SlicePrompt(box=(10, 5, 40, 25))])
    assert mask.logits.shape == (30, 50)


def test_without_the_weights_of_its_memory_a_model_segments_slices(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "some.pt"
    parts = ("vision_encoder.", "prompt_encoder.", "mask_decoder.", "shared", "no_memory_embedding")
    torch.save({key: one for key, one in weights.items() if key.startswith(parts)}, path)
    assert not isinstance(load("medsam2", str(path), "cpu", dtype="float32"), Tracker)


def test_another_sizes_weights_are_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        small = Sam2VideoModel(Sam2VideoConfig.from_dict(describe(SMALL, 1024))).state_dict()
    path = tmp_path / "some.pt"
    torch.save({key: torch.zeros(1).expand(one.shape) for key, one in small.items()}, path)
    with pytest.raises(SegmenterError) as caught:
        load("medsam2", str(path))
    assert str(caught.value) == (
        f"{path}: these are the weights of sam2.1_hiera_small, expected those of sam2.1_hiera_tiny"
    )


def test_without_transformers_the_command_that_gets_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("gamt.segmenters.hub", "gamt.segmenters.sam2"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SegmenterError) as caught:
        load("medsam2")
    assert str(caught.value) == (
        "segmenter 'medsam2' needs the package transformers: "
        "pip install 'gamt[hub]', in a clone make setup-all"
    )

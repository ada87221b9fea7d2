"""Checkpoints as people have them: what wraps weights, and the layouts that they come in."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3TrackerModel,
    SamConfig,
    SamHQModel,
    SamModel,
    SamVisionConfig,
)

from gamt.segmenters import SegmenterError
from gamt.segmenters.layouts import fit, recognise, to_transformers
from gamt.segmenters.networks import (
    VIT_B,
    VIT_H,
    VIT_L,
    Architecture,
    Network,
    build_network,
    load_checkpoint,
)
from gamt.segmenters.sam2 import BASE_PLUS, LARGE, SMALL, TINY, Hiera, describe
from tests.small_sam import small_network

State = dict[str, torch.Tensor]

SIDE = 320
"""Of the input of `small_network`, in pixels."""


@pytest.fixture(scope="module")
def network() -> Network:
    """A small network of segment-anything, with random weights."""
    return small_network(SIDE)


@pytest.fixture(scope="module")
def state(network: Network) -> State:
    return dict(network.state_dict())


def model_of(architecture: Architecture) -> Any:
    """Builds transformers' network of an architecture."""
    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=architecture.width,
            num_hidden_layers=architecture.depth,
            num_attention_heads=architecture.heads,
            global_attn_indexes=list(architecture.global_blocks),
            image_size=architecture.side,
        ).to_dict(),
        prompt_encoder_config={
            "image_size": architecture.side,
            "image_embedding_size": architecture.side // 16,
        },
    )
    return SamModel(config)


@pytest.fixture(scope="module")
def model() -> Any:
    """The same network of transformers, with weights of its own."""
    return model_of(Architecture(48, 3, 3, (1,), SIDE))


def hollow(weights: State) -> State:
    """Returns weights of the same shapes that take no room, not even in a file."""
    return {key: torch.zeros(1).expand(weight.shape) for key, weight in weights.items()}


def load(path: Path) -> Network:
    network = build_network(Architecture(48, 3, 3, (1,), SIDE))
    load_checkpoint(network, path)
    return network


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for key, weight in found.items():
        torch.testing.assert_close(weight, expected[key], rtol=0, atol=0)


# What wraps weights


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: weight for key, weight in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "optimizer": {"state": {}, "lr": 0.1}, "epoch": 7},
        lambda state: {"state_dict": state, "loss": torch.zeros(1)},
        lambda state: {"model_state_dict": state},
        lambda state: prefixed("module.", state),
        lambda state: {"model": prefixed("module.", state)},
        lambda state: {"state_dict": prefixed("model.", state), "hyper_parameters": {}},
        lambda state: prefixed("_orig_mod.module.", state),
        lambda state: prefixed("module._orig_mod.", state),
        lambda state: {"model": state, "args": argparse.Namespace(out=Path("a/b"), lr=0.1)},
        lambda state: {"model": state, "device": torch.device("cpu"), "dtype": torch.float16},
        lambda state: {"model": {}, "state_dict": state},
        lambda state: {"model": {"state_dict": state, "epoch": 7}},
        lambda state: prefixed("model.module.", state),
        lambda state: {"state_dict": prefixed("model.model._orig_mod.", state)},
    ],
    ids=[
        *("bare", "model", "state_dict", "model_state_dict", "DataParallel", "both"),
        *("Lightning", "compiled DataParallel", "DataParallel compiled"),
        *("arguments", "device"),
        *("empty beside", "two mappings", "DataParallel in Lightning", "Lightning twice"),
    ],
)
def test_weights_are_found_in_what_training_programs_write(
    wrap: Callable[[State], dict[str, Any]], tmp_path: Path, state: State
) -> None:
    path = tmp_path / "some.pth"
    torch.save(wrap(state), path)
    assert_same(load(path).state_dict(), state)


def test_a_prefix_of_some_keys_is_a_part_of_them(tmp_path: Path, state: State) -> None:
    path = tmp_path / "some.pth"
    torch.save({"module.more": torch.zeros(1), **state}, path)
    with pytest.raises(SegmenterError, match=r": 1 unknown: module\.more$"):
        load(path)


def test_a_mapping_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    path = tmp_path / "some.pth"
    torch.save(content, path)
    with pytest.raises(SegmenterError, match=r"some\.pth: .*; 1 unknown: model$"):
        load(path)


# SAM's two layouts


@torch.inference_mode()
def test_sams_weights_make_the_same_network_in_transformers(
    network: Network, state: State, model: Any, tmp_path: Path
) -> None:
    path = tmp_path / "some.pth"
    torch.save({"model": state}, path)
    load_checkpoint(model, path)
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = network.image_encoder(images)
    found = model.get_image_embeddings(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)

    box = torch.tensor([[40.0, 50, 200, 120]])
    masks = torch.randn(1, 1, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(1))
    places, labels = torch.tensor([[[100.0, 70]]]), torch.tensor([[1]])
    sparse, dense = network.prompt_encoder((places, labels), box, masks)
    low_res, ious = network.mask_decoder(
        image_embeddings=expected[:1],
        image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    answer = model(
        image_embeddings=expected[:1],
        input_points=places[None],
        input_labels=labels[None],
        input_boxes=box[None],
        input_masks=masks,
    )
    torch.testing.assert_close(answer.pred_masks[:, 0], low_res, rtol=0, atol=1e-4)
    torch.testing.assert_close(answer.iou_scores[:, 0], ious, rtol=0, atol=1e-4)


def test_transformers_weights_are_those_of_segment_anything_under_other_keys(
    state: State, model: Any, tmp_path: Path
) -> None:
    renamed = dict(fit(state, model.state_dict().keys()))
    assert renamed.keys() == model.state_dict().keys()
    path = tmp_path / "model.safetensors"
    save_file({key: weight.clone() for key, weight in renamed.items()}, path)
    assert_same(load(path).state_dict(), state)


@pytest.mark.parametrize(
    "left_out",
    [
        "shared_image_embedding.positional_embedding",
        "prompt_encoder.shared_embedding.positional_embedding",  # as transformers saves it
    ],
)
def test_a_matrix_that_transformers_has_twice_need_be_there_once(
    left_out: str, state: State, model: Any, tmp_path: Path
) -> None:
    renamed = dict(fit(state, model.state_dict().keys()))
    del renamed[left_out]
    path = tmp_path / "model.safetensors"
    save_file(renamed, path)
    assert_same(load(path).state_dict(), state)
    load_checkpoint(model, path)
    torch.testing.assert_close(
        model.state_dict()[left_out],
        state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"],
        rtol=0,
        atol=0,
    )


def test_what_a_network_lacks_is_named_as_it_has_it(
    state: State, model: Any, tmp_path: Path
) -> None:
    renamed = dict(fit(state, model.state_dict().keys()))
    del renamed["vision_encoder.neck.conv1.weight"]
    path = tmp_path / "model.safetensors"
    del renamed["shared_image_embedding.positional_embedding"]  # no file holds a matrix twice
    save_file({"extra": torch.zeros(1), **renamed}, path)
    with pytest.raises(SegmenterError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: these weights are not of this network: 1 missing: image_encoder.neck.0.weight; "
        "1 unknown: extra"
    )


# SAM 2, whose points are one table in transformers


def points(shape: tuple[int, ...], count: int) -> State:
    names = (f"sam_prompt_encoder.point_embeddings.{kind}.weight" for kind in range(count))
    return {name: torch.full(shape, float(kind)) for kind, name in enumerate(names)}


def test_embeddings_of_points_become_one_table() -> None:
    table = "prompt_encoder.point_embed.weight"
    found = fit(points((1, 256), 4), [table])
    assert set(found) == {table}
    assert found[table].tolist() == [[kind] * 256 for kind in range(4)]


@pytest.mark.parametrize(("shape", "count"), [((1, 256), 3), ((1, 128), 4)])
def test_points_that_make_no_table_are_left_for_the_comparison(
    shape: tuple[int, ...], count: int
) -> None:
    found = fit(points(shape, count), ["prompt_encoder.point_embed.weight"])
    assert set(found) == {f"prompt_encoder.point_embed.{kind}.weight" for kind in range(count)}


# SAM 3, whose files hold a detector too


def test_a_tracker_takes_its_own_of_what_lies_beside_a_detector() -> None:
    weight = torch.zeros(1)
    found = fit(
        {
            "detector_model.vision_encoder.backbone.layers.0.layer_norm1.weight": weight,
            "detector_model.detr_encoder.layers.0.layer_norm1.weight": weight,
            "tracker_neck.fpn_layers.0.proj1.weight": weight,
            "tracker_model.mask_decoder.iou_token.weight": weight,
        },
        ["mask_decoder.iou_token.weight"],
    )
    assert set(found) == {
        "vision_encoder.backbone.layers.0.layer_norm1.weight",
        "detector_model.detr_encoder.layers.0.layer_norm1.weight",  # for its network to ignore
        "vision_encoder.neck.fpn_layers.0.proj1.weight",
        "mask_decoder.iou_token.weight",
    }


def test_keys_that_are_longer_than_any_models_are_left_alone() -> None:
    long = "sam_mask_decoder." + "out_proj." * 100_000
    short = "sam_mask_decoder.iou_token.weight"
    weight = torch.zeros(1)
    found = fit({long: weight, short: weight}, ["mask_decoder.iou_token.weight"])
    assert set(found) == {long, "mask_decoder.iou_token.weight"}


# Whose weights they are


def sam2_model(hiera: Hiera, **parts: bool) -> Any:
    config = Sam2VideoConfig.from_dict({**describe(hiera, 1024), **parts})
    with torch.device("meta"):
        return Sam2VideoModel(config)


@pytest.mark.parametrize(
    ("architecture", "name"), [(VIT_B, "sam_vit_b"), (VIT_L, "sam_vit_l"), (VIT_H, "sam_vit_h")]
)
def test_sams_variants_are_recognised_in_both_layouts(
    architecture: Architecture, name: str
) -> None:
    with torch.device("meta"):
        assert recognise(build_network(architecture).state_dict()) == name
        assert recognise(model_of(architecture).state_dict()) == name


@pytest.mark.parametrize(
    ("hiera", "name"),
    [(TINY, "tiny"), (SMALL, "small"), (BASE_PLUS, "base_plus"), (LARGE, "large")],
)
def test_sam_2s_variants_are_recognised(hiera: Hiera, name: str) -> None:
    assert recognise(sam2_model(hiera).state_dict()) == f"sam2.1_hiera_{name}"
    older = sam2_model(
        hiera,
        enable_temporal_pos_encoding_for_object_pointers=False,
        enable_occlusion_spatial_embedding=False,
    )
    assert recognise(older.state_dict()) == f"sam2_hiera_{name}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(SamHQModel, "SAM-HQ"), (EdgeTamVideoModel, "EdgeTAM"), (Sam3TrackerModel, None)],
)
def test_models_of_other_kinds_are_told_from_them(kind: Any, name: str | None) -> None:
    with torch.device("meta"):
        model = kind(kind.config_class())
    assert recognise(model.state_dict()) == name


def test_sam_3_as_its_authors_publish_it_is_told_from_transformers() -> None:
    weight = torch.zeros(1)
    theirs = {
        "detector.backbone.vision_backbone.trunk.pos_embed": weight,
        "tracker.maskmem_tpos_enc": weight,
    }
    assert recognise(theirs) == "SAM 3 as its authors publish it"


def test_another_variants_weights_are_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        large, small = build_network(VIT_L), build_network(VIT_B)
    path = tmp_path / "some.pth"
    torch.save(hollow(large.state_dict()), path)
    with pytest.raises(SegmenterError) as caught:
        load_checkpoint(small, path)
    assert str(caught.value) == (
        f"{path}: these are the weights of sam_vit_l, expected those of sam_vit_b"
    )


def test_a_known_models_weights_are_named_to_a_network_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    torch.save(hollow(sam2_model(TINY).state_dict()), path)
    with pytest.raises(SegmenterError) as caught:
        load(path)
    assert re.search(
        r"these weights, of sam2\.1_hiera_tiny, are not of this network: \d+ missing",
        str(caught.value),
    )


def test_a_known_variant_that_lacks_a_weight_is_told_which(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = build_network(VIT_B)
    weights = hollow(network.state_dict())
    del weights["mask_decoder.iou_token.weight"]
    path = tmp_path / "some.pth"
    torch.save(weights, path)
    with pytest.raises(
        SegmenterError, match=r"network: 1 missing: mask_decoder\.iou_token\.weight"
    ):
        load_checkpoint(network, path)


def test_a_weight_under_two_names_is_not_lost() -> None:
    twice = {
        "image_encoder.patch_embed.proj.bias": torch.zeros(3),
        "vision_encoder.patch_embed.projection.bias": torch.ones(3),
    }
    assert to_transformers(twice).keys() == twice.keys()

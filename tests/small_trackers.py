"""Video models of SAM's kind that are small enough for many tests, with random weights."""

import re
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    EdgeTamVisionConfig,
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoModel,
    Sam3VisionConfig,
    Sam3ViTConfig,
    TimmWrapperConfig,
)

SIDE = 128
"""Pixels of an input, of 8 x 8 patches."""

WIDTH = 128
"""Channels: two tokens of a memory's 64 for each object pointer."""

MEMORY: dict[str, Any] = {
    "num_maskmem": 3,
    "max_object_pointers_in_encoder": 4,
    "memory_attention_hidden_size": WIDTH,
    "memory_attention_num_layers": 2,
    "memory_attention_rope_feat_sizes": [8, 8],
    "memory_encoder_hidden_size": WIDTH,
    "mask_downsampler_embed_dim": WIDTH,
    "memory_fuser_embed_dim": WIDTH,
    "memory_fuser_intermediate_dim": 64,
}

TABLE = (
    r"embed(dings|ding)?(_window|_parameter)?$|(_embed|_token|_tokens)\.weight$"
    r"|latents|encoding$|pointer$"
)
"""Names of weights that are added or read as they are, by no input of their layer."""

DECODER = {"hidden_size": WIDTH, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32}


def small_sam2(**memory: Any) -> Any:
    """Builds SAM 2's."""
    config = Sam2VideoConfig(
        vision_config=_hiera(),
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE},
        mask_decoder_config=DECODER,
        image_size=SIDE,
        **{**MEMORY, "memory_attention_feed_forward_hidden_size": 64, **memory},
    )
    return randomise(Sam2VideoModel(config))


def small_edgetam(**memory: Any) -> Any:
    """Builds EdgeTAM's, with the smallest image encoder of timm whose norms count batches.

    As in its published configuration, pointers and slices without the target are told by nothing.
    """
    config = EdgeTamVideoConfig(
        vision_config=_timm(),
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE},
        mask_decoder_config=DECODER,
        image_size=SIDE,
        **{
            **MEMORY,
            "memory_attention_mlp_hidden_size": 64,
            "memory_attention_rope_k_sizes": [4, 4],
            "enable_temporal_pos_encoding_for_object_pointers": False,
            "enable_occlusion_spatial_embedding": False,
            "perceiver_resampler_num_latents": 8,
            "perceiver_resampler_num_latents_2d": 16,
            **memory,
        },
    )
    return randomise(EdgeTamVideoModel(config))


def small_sam3(**memory: Any) -> Any:
    """Builds SAM 3's, with patches of 14 pixels."""
    backbone = Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=112,
        pretrain_image_size=56,
        window_size=4,
        global_attn_indexes=[1],
    )
    vision = Sam3VisionConfig(
        backbone_config=backbone.to_dict(),
        fpn_hidden_size=WIDTH,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )
    config = Sam3TrackerVideoConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": 112},
        mask_decoder_config=DECODER,
        **{
            **MEMORY,
            "image_size": 112,
            "memory_attention_feed_forward_hidden_size": 64,
            **memory,
        },
    )
    return randomise(Sam3TrackerVideoModel(config))


FAMILIES: dict[str, Callable[..., Any]] = {
    "sam2": small_sam2,
    "sam3": small_sam3,
    "edgetam": small_edgetam,
}


def _hiera() -> dict[str, Any]:
    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[SIDE, SIDE],
        window_positional_embedding_background_size=[4, 4],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone.to_dict(),
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=WIDTH,
    )
    return dict(vision.to_dict())


def _timm() -> dict[str, Any]:
    backbone = TimmWrapperConfig(
        architecture="test_resnet",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [1, 2, 3, 4]},
    )
    vision = EdgeTamVisionConfig(
        backbone_config=backbone.to_dict(),
        backbone_channel_list=[96, 192, 48, 32],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=WIDTH,
    )
    return dict(vision.to_dict())


def randomise(model: Any, seed: int = 0) -> Any:
    """Gives a model weights that leave nothing at 0, as its own beginning does.

    The score of a video model that says whether a target is there says so.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator) * _spread(name, weight)
        weight.data = drawn + (weight.ndim == 1 and name.endswith("weight"))
        if name.endswith("pred_obj_score_head.proj_out.bias"):
            weight.data = torch.full_like(weight, 10.0)
    return model.eval().requires_grad_(False)


def _spread(name: str, weight: torch.Tensor) -> float:
    """Returns the standard deviation with which a layer's output is of order 1."""
    if weight.ndim == 1:
        return 0.2
    if re.search(TABLE, name):
        return 1.0
    if "upscale_conv" in name:  # transposed convolutions: the input's channels come first
        return float(weight.shape[0] ** -0.5)
    return float(weight[0].numel() ** -0.5)

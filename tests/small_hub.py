"""Models of the hub that are small enough for many tests, with random weights, as folders."""

from collections.abc import Callable
from typing import Any

from transformers import (
    EdgeTamConfig,
    EdgeTamModel,
    Sam2Config,
    Sam2Model,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
)

from tests.small_trackers import randomise, small_edgetam, small_sam2, small_sam3

SIDE = 128
"""Pixels of SAM's input, of 8 x 8 patches."""

VISION = {
    "hidden_size": 32,
    "output_channels": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "mlp_dim": 64,
    "image_size": SIDE,
    "window_size": 3,
    "global_attn_indexes": [1, 3],
    "num_pos_feats": 32,
}

PROMPTS = {"hidden_size": 64, "image_size": SIDE, "image_embedding_size": SIDE // 16}

DECODER = {"hidden_size": 64, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32}


def small_sam() -> Any:
    """Builds SAM's: blocks with windows and without by turns."""
    config = SamConfig(
        vision_config=VISION, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER
    )
    return _tied(randomise(SamModel(config)))


def small_sam_hq() -> Any:
    """Builds SAM-HQ's, likewise."""
    decoder = DECODER | {"vit_dim": VISION["hidden_size"]}
    config = SamHQConfig(
        vision_config=VISION, prompt_encoder_config=PROMPTS, mask_decoder_config=decoder
    )
    return _tied(randomise(SamHQModel(config)))


def small_sam2_image() -> Any:
    """Builds SAM 2's for single images."""
    return randomise(Sam2Model(_of_images(Sam2Config, small_sam2())))


def small_sam3_image() -> Any:
    """Builds SAM 3's tracker for single images."""
    return randomise(Sam3TrackerModel(_of_images(Sam3TrackerConfig, small_sam3())))


def small_edgetam_image() -> Any:
    """Builds EdgeTAM's for single images."""
    return randomise(EdgeTamModel(_of_images(EdgeTamConfig, small_edgetam())))


SMALL: dict[str, Callable[[], Any]] = {
    "sam": small_sam,
    "sam_hq": small_sam_hq,
    "sam2": small_sam2_image,
    "sam2_video": small_sam2,
    "sam3_tracker": small_sam3_image,
    "sam3_tracker_video": small_sam3,
    "edgetam": small_edgetam_image,
    "edgetam_video": small_edgetam,
}
"""By the `model_type` in their configuration."""


def _of_images(config: Any, video: Any) -> Any:
    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    return config(**{part: getattr(video.config, part) for part in parts})


def _tied(model: Any) -> Any:
    model.tie_weights()
    return model

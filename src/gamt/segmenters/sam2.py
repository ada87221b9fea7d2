"""SAM 2.1 and MedSAM2, from the files that their authors publish.

The networks are those of `gamt.segmenters.hub`. Their configuration is known here, so a file of
weights is all that is needed.
"""

import os
from dataclasses import dataclass
from typing import Any

from gamt.segmenters import checkpoints
from gamt.segmenters.hub import HubSegmenter, load_described, make_segmenter

Weights = str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True)
class Hiera:
    """The size of SAM 2's image encoder (the package sam2, ``configs/sam2.1``).

    Each of its four stages halves rows and columns, and doubles channels and heads.

    Attributes:
        channels: of a token in the first stage.
        heads: of the attention in the first stage.
        blocks: number of each stage's.
        global_blocks: the blocks whose attention spans the whole slice.
        positions: side of the learned embedding of positions, which is stretched to the slice.
        windows: side of the square of tokens that attention spans in all other blocks, by stage.
    """

    channels: int
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    positions: int = 7
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)


TINY = Hiera(96, 1, (1, 2, 7, 2), (5, 7, 9))
SMALL = Hiera(96, 1, (1, 2, 11, 2), (7, 10, 13))
BASE_PLUS = Hiera(112, 2, (2, 3, 16, 3), (12, 16, 20), positions=14)
LARGE = Hiera(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8))


def describe(hiera: Hiera, side: int) -> dict[str, Any]:
    """Returns the configuration of a `Sam2VideoModel`, as transformers writes it.

    Args:
        hiera: the size of its image encoder. All else has the same size in all of them.
        side: of the square input, in pixels; a multiple of 32.
    """
    channels = [hiera.channels * 2**stage for stage in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "image_size": [side, side],
        "hidden_size": hiera.channels,
        "num_attention_heads": hiera.heads,
        "embed_dim_per_stage": channels,
        "num_attention_heads_per_stage": [hiera.heads * 2**stage for stage in range(4)],
        "blocks_per_stage": list(hiera.blocks),
        "global_attention_blocks": list(hiera.global_blocks),
        "window_size_per_stage": list(hiera.windows),
        "window_positional_embedding_background_size": [hiera.positions, hiera.positions],
    }
    return {
        "model_type": "sam2_video",
        "image_size": side,
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": channels[::-1],
            "backbone_feature_sizes": [[side // patch, side // patch] for patch in (4, 8, 16)],
        },
        "prompt_encoder_config": {"image_size": side},
        "memory_attention_rope_feat_sizes": [side // 16, side // 16],
    }


def sam2_1_hiera_tiny(
    weights: Weights = None, device: str = "auto", dtype: str = "auto"
) -> HubSegmenter:
    """Sets up SAM 2.1 with its smallest encoder; see `_set_up`."""
    return _set_up("sam2.1_hiera_tiny", TINY, 1024, weights, device, dtype)


def sam2_1_hiera_small(
    weights: Weights = None, device: str = "auto", dtype: str = "auto"
) -> HubSegmenter:
    """Sets up SAM 2.1 with its second smallest encoder; see `_set_up`."""
    return _set_up("sam2.1_hiera_small", SMALL, 1024, weights, device, dtype)


def sam2_1_hiera_base_plus(
    weights: Weights = None, device: str = "auto", dtype: str = "auto"
) -> HubSegmenter:
    """Sets up SAM 2.1 with its second largest encoder; see `_set_up`."""
    return _set_up("sam2.1_hiera_base_plus", BASE_PLUS, 1024, weights, device, dtype)


def sam2_1_hiera_large(
    weights: Weights = None, device: str = "auto", dtype: str = "auto"
) -> HubSegmenter:
    """Sets up SAM 2.1 with its largest encoder; see `_set_up`."""
    return _set_up("sam2.1_hiera_large", LARGE, 1024, weights, device, dtype)


def medsam2(weights: Weights = None, device: str = "auto", dtype: str = "auto") -> HubSegmenter:
    """Sets up MedSAM2, which is SAM 2.1 tiny trained on medical slices of 512 px; see `_set_up`."""
    return _set_up("medsam2", TINY, 512, weights, device, dtype)


def _set_up(
    name: str, hiera: Hiera, side: int, weights: Weights, device: str, dtype: str
) -> HubSegmenter:
    """Sets up a segmenter of SAM 2.1's architecture.

    Args:
        name: of the segmenter and of its checkpoint.
        hiera: the size of its image encoder.
        side: of the square that slices are squeezed into, in pixels.
        weights: the checkpoint file; None looks for it (`gamt.segmenters.checkpoints.find`).
        device: ``auto``, or a name that torch knows, such as ``cpu`` or ``cuda``.
        dtype: precision of the image encoder: ``auto``, ``float32`` or ``bfloat16``.

    Returns:
        A `HubTracker`; a `HubSegmenter` of a file without the weights of the memory.

    Raises:
        SegmenterError: the device or precision is not to be had, or the checkpoint's weights are
            not those of this network.
        CheckpointError: there is no checkpoint.
    """
    path = checkpoints.find(name, weights)
    loaded = load_described(describe(hiera, side), path, (path,))
    return make_segmenter(name, loaded, device, dtype)

"""The layouts of checkpoints: one network's weights have other keys in every package.

There are three layouts: that of segment-anything, for SAM and the models of its architecture; that
of the package sam2, for SAM 2, SAM 2.1 and MedSAM2; and that of transformers, for all models. A
weight is the same in all of them, under another key. Only SAM 2's four embeddings of points are one
table in transformers.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Entries under which training programs save a state dict, beside their optimiser's."""

_PREFIX = re.compile(r"((module|_orig_mod|model)\.)+")
"""What DataParallel, `torch.compile` and Lightning put before every key, in any order."""

LONGEST_KEY = 200
"""The most characters of a key that is renamed, and of what is put before all keys; SAM 2's keys
have 79."""

_SAM = "segment-anything's"
_SAM2 = "sam2's"
_SAM3_VIDEO = "SAM 3's in transformers, with its detector"
_TRANSFORMERS = "transformers'"

_BEGINNINGS = {
    "image_encoder.trunk.": _SAM2,
    "sam_prompt_encoder.": _SAM2,
    "sam_mask_decoder.": _SAM2,
    "image_encoder.": _SAM,
    "detector_model.": _SAM3_VIDEO,
    "tracker_model.": _SAM3_VIDEO,
}
"""How keys begin that only one layout has. The first that fits counts."""

_PERCEPTRON = (
    r"(output_hypernetworks_mlps\.\d|iou_prediction_head|pred_obj_score_head|object_pointer_proj)"
)

_DECODING = (
    (r"\.norm", ".layer_norm"),
    (r"\bpe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"\bpoint_embeddings\.", "point_embed."),
    (r"\bmask_downscaling\.0\.", "mask_embed.conv1."),
    (r"\bmask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"\bmask_downscaling\.3\.", "mask_embed.conv2."),
    (r"\bmask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"\bmask_downscaling\.6\.", "mask_embed.conv3."),
    (r"\boutput_upscaling\.0\.", "upscale_conv1."),
    (r"\boutput_upscaling\.1\.", "upscale_layer_norm."),
    (r"\boutput_upscaling\.3\.", "upscale_conv2."),
    (_PERCEPTRON + r"\.layers\.0\.", r"\1.proj_in."),
    (_PERCEPTRON + r"\.layers\.1\.", r"\1.layers.0."),
    (_PERCEPTRON + r"\.layers\.2\.", r"\1.proj_out."),
)
"""The prompt encoder and the mask decoder, which SAM 2 has from SAM."""

_RENAMINGS = {
    _SAM: (
        (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
        (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
        (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
        (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
        (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
        (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
        (r"^image_encoder\.", "vision_encoder."),
        *_DECODING,
    ),
    _SAM2: (
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (
            r"^image_encoder\.trunk\.patch_embed\.proj\.",
            "vision_encoder.backbone.patch_embed.projection.",
        ),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
        (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
        (r"\.gamma$", ".scale"),
        # Four times a convolution, a norm and an activation, then the last convolution.
        *(
            (
                rf"\bmask_downsampler\.encoder\.{3 * index + offset}\.",
                rf"mask_downsampler.layers.{index}.{part}.",
            )
            for index in range(4)
            for offset, part in enumerate(("conv", "layer_norm"))
        ),
        (r"\bmask_downsampler\.encoder\.12\.", "mask_downsampler.final_conv."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (r"\.out_proj\.", ".o_proj."),
        (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
        (r"^no_obj_ptr$", "no_object_pointer"),
        (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        *_DECODING,
    ),
    # The tracker has its own neck on the encoder of the detector.
    # transformers saves a tracker alone with `tracker_model.` before all keys, these two as well.
    _SAM3_VIDEO: (
        (r"^tracker_model\.", ""),
        (r"^detector_model\.vision_encoder\.backbone\.", "vision_encoder.backbone."),
        (r"^tracker_neck\.", "vision_encoder.neck."),
    ),
    _TRANSFORMERS: (),
}
"""For each layout, what turns its keys into those of transformers: patterns and replacements, one
after the other."""

_COMPILED = {
    layout: [(re.compile(pattern), replacement) for pattern, replacement in renamings]
    for layout, renamings in _RENAMINGS.items()
}

_IMAGE_POSITIONS = "shared_image_embedding.positional_embedding"
_PROMPT_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"
"""One matrix under two keys; files have it under one of them, or under both."""

_POINTS = tuple(f"prompt_encoder.point_embed.{kind}.weight" for kind in range(4))
_POINT_TABLE = "prompt_encoder.point_embed.weight"
_POINT_SHAPE = (1, 256)
"""Of SAM 2's embedding of one kind of point, in all published models."""

_SAM_NAMES = {
    (64, 64, 768, 12): "sam_vit_b",
    (64, 64, 1024, 24): "sam_vit_l",
    (64, 64, 1280, 32): "sam_vit_h",
    (64, 64, 384, 12): "SlimSAM-uniform-50",
    (64, 64, 168, 12): "SlimSAM-uniform-77",
}
"""Names of SAM's variants, by rows, columns and channels of tokens, and the number of blocks."""

_SAM2_NAMES = {
    (96, 7, 7, 12): "hiera_tiny",
    (96, 7, 7, 16): "hiera_small",
    (112, 14, 14, 24): "hiera_base_plus",
    (144, 7, 7, 48): "hiera_large",
}
"""Names of SAM 2's variants, by channels, rows and columns of the embedding of positions, and the
number of blocks."""

_SAM_BLOCK = re.compile(r"vision_encoder\.layers\.(\d{1,3})\.")
_SAM2_BLOCK = re.compile(r"vision_encoder\.backbone\.blocks\.(\d{1,3})\.")


def unwrap(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Returns the state dict in what a file holds, under the network's own keys.

    Args:
        state: a state dict, or a mapping that holds one under a key of `WRAPPERS`, at any depth,
            and the state of a training beside it. All keys may begin with what DataParallel,
            `torch.compile` and Lightning put before them.
    """
    seen: set[int] = set()
    while id(state) not in seen:  # a mapping may hold itself
        seen.add(id(state))
        state = next((inner for key in WRAPPERS if (inner := _mapping(state, key))), state)
    if not all(isinstance(key, str) for key in state):
        return state
    shared = os.path.commonprefix(list(state))  # noqa: RUF071 - of texts, not of paths
    found = _PREFIX.match(shared, 0, LONGEST_KEY)
    return {key[found.end() :]: weight for key, weight in state.items()} if found else state


def _mapping(state: Mapping[Any, Any], key: str) -> Mapping[Any, Any] | None:
    inner = state.get(key)
    return inner if isinstance(inner, Mapping) else None


def to_transformers(weights: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns weights under the keys that transformers has for them.

    Args:
        weights: a state dict from `unwrap`, in any layout. What no layout knows keeps its key.
    """
    layout = _find_layout(weights)
    renamed = {_rename(key, layout): weight for key, weight in weights.items()}
    if len(renamed) < len(weights):  # one weight twice, of which neither may be lost
        return dict(weights)
    if layout == _SAM2:
        points = [renamed[key] for key in _POINTS if _is_point(renamed.get(key))]
        if len(points) == len(_POINTS):
            renamed[_POINT_TABLE] = torch.cat(points)
            for key in _POINTS:
                del renamed[key]
    for key, twin in ((_IMAGE_POSITIONS, _PROMPT_POSITIONS), (_PROMPT_POSITIONS, _IMAGE_POSITIONS)):
        if twin in renamed:
            renamed.setdefault(key, renamed[twin])
    return renamed


def fit(weights: Mapping[Any, Any], keys: Collection[str]) -> Mapping[Any, Any]:
    """Returns weights under a network's own keys.

    Args:
        weights: a state dict from `unwrap`, in any layout.
        keys: all of the network's, in transformers' layout or that of segment-anything.

    Returns:
        The weights, in the network's layout where they were in another; those that the network
        has no place for are there too.
    """
    layout = _find_layout(keys)
    if layout == _TRANSFORMERS:
        return to_transformers(weights)
    if layout == _find_layout(weights):
        return weights
    own = {_rename(key, layout): key for key in keys}
    renamed = to_transformers(weights)
    renamed.pop(_IMAGE_POSITIONS, None)
    return {own.get(key, key): weight for key, weight in renamed.items()}


def recognise(weights: Mapping[Any, Any]) -> str | None:
    """Returns the name of the published model that has weights of these shapes; None if none has.

    Args:
        weights: a state dict from `unwrap`, in any layout.
    """
    if any("Adapter" in key for key in _names(weights)):
        return "sam_med2d"
    if any(key.startswith("detector.backbone.") for key in _names(weights)):
        return "SAM 3 as its authors publish it"  # which no layout here is
    weights = to_transformers(weights)
    if "mask_decoder.hq_token.weight" in weights or "mask_decoder.hf_token.weight" in weights:
        return "SAM-HQ"
    if any(key.startswith("spatial_perceiver.") for key in _names(weights)):
        return "EdgeTAM"
    size = _size(weights, "vision_encoder.pos_embed", _SAM_BLOCK)
    if size in _SAM_NAMES:
        return _SAM_NAMES[size]
    size = _size(weights, "vision_encoder.backbone.pos_embed", _SAM2_BLOCK)
    if size in _SAM2_NAMES:
        version = "sam2.1" if "occlusion_spatial_embedding_parameter" in weights else "sam2"
        return f"{version}_{_SAM2_NAMES[size]}"
    return None


def _find_layout(keys: Iterable[Any]) -> str:
    names = _names(keys)
    for beginning, layout in _BEGINNINGS.items():
        if any(key.startswith(beginning) for key in names):
            return layout
    return _TRANSFORMERS


def _names(keys: Iterable[Any]) -> list[str]:
    return [key for key in keys if isinstance(key, str)]


def _rename(key: Any, layout: str) -> Any:
    if isinstance(key, str) and len(key) <= LONGEST_KEY:
        for pattern, replacement in _COMPILED[layout]:
            key = pattern.sub(replacement, key)
    return key


def _is_point(weight: Any) -> bool:
    return isinstance(weight, torch.Tensor) and weight.shape == _POINT_SHAPE


def _size(weights: Mapping[Any, Any], key: str, block: re.Pattern[str]) -> tuple[int, ...]:
    """Returns the shape of an embedding of positions, less the batch, and the number of blocks."""
    positions = weights.get(key)
    shape = tuple(positions.shape[1:]) if isinstance(positions, torch.Tensor) else ()
    return *shape, len({found.group(1) for found in map(block.match, _names(weights)) if found})

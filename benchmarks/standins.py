"""Stand-in checkpoints: official keys and shapes, seeded numbers for weights.

The keys and shapes are those of segment-anything's own model, and for SAM-Med2D those that its
training writes. The numbers are the same on every machine, and such that the networks behave like
trained ones in what tests look at: activations keep their size from block to block, every bias and
position table matters, mask logits are of order 1 with both signs, and predicted IoUs lie within
0..1 and differ between candidates.
"""

import math
import re
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from segment_anything import sam_model_registry

ARCHITECTURES = {
    "sam_vit_b": "vit_b",
    "sam_vit_l": "vit_l",
    "sam_vit_h": "vit_h",
    "medsam": "vit_b",
    "sam_med2d": "vit_b",
}
"""Checkpoints by name, and segment-anything's name of their architecture."""

GAINS = (
    (r"image_encoder\.pos_embed", 0.5),
    (r"rel_pos", 0.3),
    (r"blocks\..*(attn\.proj|mlp\.lin2)\.weight", 0.7),
    (r"output_hypernetworks_mlps\.\d\.layers\.2\.weight", 2.0),
    (r"iou_prediction_head\.layers\.2\.weight", 0.2),
)
"""Patterns of keys whose numbers spread more or less than `_spread` says otherwise."""

TABLE = r"(pos_embed|rel_pos_[hw]|matrix|(embed|token|tokens|embeddings\.\d)\.weight)$"
"""Pattern of keys whose tensors are looked up in, or added, rather than multiplied."""


def write_standin(name: str, path: Path, seed: int = 0) -> None:
    """Writes the stand-in of a checkpoint.

    Args:
        name: one of `ARCHITECTURES`.
        path: of the new file.
        seed: of the weights; another one is another checkpoint.
    """
    state = standin_state(name, seed)
    torch.save(
        {"model": state, "optimizer": _trained(state)} if name == "sam_med2d" else state, path
    )


def standin_state(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Returns the state dict of a stand-in, float32; see `write_standin`."""
    return {
        key: torch.from_numpy(_weight(key, shape, seed))
        for key, shape in standin_shapes(name).items()
    }


def standin_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Returns the keys of a checkpoint, in order, and the shapes of their tensors."""
    with torch.device("meta"):
        network = sam_model_registry[ARCHITECTURES[name]]()
    shapes = {key: tuple(weight.shape) for key, weight in network.state_dict().items()}
    return _with_adapters(shapes) if name == "sam_med2d" else shapes


def _with_adapters(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Turns SAM's shapes into SAM-Med2D's, at 256 px.

    There are 16 x 16 tokens then, so blocks that attend to all of them know 31 distances rather
    than 127; the others have windows of 14 x 14 as before.
    """
    found: dict[str, tuple[int, ...]] = {}
    for key, shape in shapes.items():
        if key == "image_encoder.pos_embed":
            found[key] = (1, 16, 16, shape[3])
        elif "rel_pos" in key and shape[0] == 127:
            found[key] = (31, shape[1])
        else:
            found[key] = shape
        if re.fullmatch(r"image_encoder\.blocks\.\d+\.mlp\.lin2\.bias", key):  # a block's last
            prefix, (width,) = key.removesuffix("mlp.lin2.bias") + "Adapter.", shape
            found |= {
                f"{prefix}norm.weight": (width,),
                f"{prefix}norm.bias": (width,),
                f"{prefix}channel.0.weight": (width // 4, width),
                f"{prefix}channel.2.weight": (width, width // 4),
                f"{prefix}spatial.0.weight": (width, width, 3, 3),
                f"{prefix}spatial.2.weight": (width, width, 4, 4),
            }
    return found


def _trained(state: dict[str, torch.Tensor]) -> torch.optim.Optimizer:
    """Returns an optimiser after a step, which SAM-Med2D's training saves beside the weights."""
    weight = torch.nn.Parameter(state["prompt_encoder.no_mask_embed.weight"].clone())
    optimizer = torch.optim.Adam([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    return optimizer


def _weight(key: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32]:
    """Draws a tensor: uniform numbers of a spread that suits its place in the network."""
    # Raw bits of a bit generator are the same in all versions of numpy.
    bits = np.random.PCG64([seed, zlib.crc32(key.encode())])
    count = math.prod(shape)
    raw = bits.random_raw(-(-count // 4)).astype("<u8", copy=False).view("<u2")[:count]
    step = _spread(key, shape) * math.sqrt(12) / 2**16
    values: npt.NDArray[np.float32] = np.multiply(raw, np.float32(step), dtype=np.float32)
    values += np.float32(_centre(key, shape) - step * (2**16 - 1) / 2)
    return values.reshape(shape)


def _centre(key: str, shape: tuple[int, ...]) -> float:
    if key == "mask_decoder.iou_prediction_head.layers.2.bias":
        return 0.6
    return 1.0 if len(shape) == 1 and key.endswith("weight") else 0.0


def _spread(key: str, shape: tuple[int, ...]) -> float:
    """Returns the standard deviation of a tensor's numbers."""
    gain = math.prod(factor for pattern, factor in GAINS if re.search(pattern, key))
    if len(shape) == 1:  # biases, and the weights of norms
        return 0.1 * gain
    if re.search(TABLE, key):
        return gain
    if "output_upscaling" in key or "spatial.2" in key:
        # Transposed convolutions: input channels come first, and a step of 2 leaves a pixel of the
        # output a quarter of the kernel.
        return gain / math.sqrt(shape[0] * shape[2] * shape[3] / 4)
    return gain / math.sqrt(math.prod(shape[1:]))

"""segment-anything's networks, built without its start-up costs, and their checkpoints."""

import importlib.util
import pickle
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch.serialization import safe_globals

from gamt.segmenters import INSTALL, SegmenterError
from gamt.segmenters.archives import (
    BUILT,
    check_legacy,
    check_zip,
    check_zipped_pickle,
    is_safetensors,
    is_zip,
)
from gamt.segmenters.layouts import fit, recognise, unwrap
from gamt.text import printable

Network: TypeAlias = Any
"""segment-anything's `Sam` or one of its parts. The package has no types."""

MODELING = "gamt.segmenters._segment_anything_modeling"
"""The name under which the package's networks are loaded."""

PROMPT_CHANNELS = 256
"""Channels of an embedded slice and of a prompt token."""

PATCH = 16
"""Side of the square of pixels that becomes one token."""

LISTED = 4
"""How many keys of each kind an error lists."""

REASON_LENGTH = 200
"""How much of a text that comes from a file an error shows."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The size of SAM's image encoder (Kirillov et al. 2023, appendix A).

    Attributes:
        width: channels of a token.
        depth: number of blocks.
        heads: of the attention.
        global_blocks: the blocks whose attention spans the whole slice; that of all others spans
            windows of 14 x 14 tokens.
        side: of the square input, in pixels.
    """

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    side: int = 1024


VIT_B = Architecture(768, 12, 12, (2, 5, 8, 11))
VIT_L = Architecture(1024, 24, 16, (5, 11, 17, 23))
VIT_H = Architecture(1280, 32, 16, (7, 15, 23, 31))


def build_network(architecture: Architecture) -> Network:
    """Builds a network without weights, for `load_checkpoint` to fill.

    Returns:
        A `Sam` module, its image encoder on the meta device.

    Raises:
        SegmenterError: segment-anything is not installed.
    """
    modeling = _modeling()
    # On the meta device nothing is allocated or initialised. The rest is so small that it needs
    # none of this, and some of its initialisation would import half of torch there.
    with torch.device("meta"):
        image_encoder = modeling.ImageEncoderViT(
            img_size=architecture.side,
            patch_size=PATCH,
            embed_dim=architecture.width,
            depth=architecture.depth,
            num_heads=architecture.heads,
            out_chans=PROMPT_CHANNELS,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=architecture.global_blocks,
        )
    grid = (architecture.side // PATCH, architecture.side // PATCH)
    prompt_encoder = modeling.PromptEncoder(
        embed_dim=PROMPT_CHANNELS,
        image_embedding_size=grid,
        input_image_size=(architecture.side, architecture.side),
        mask_in_chans=16,
    )
    mask_decoder = modeling.MaskDecoder(
        transformer_dim=PROMPT_CHANNELS,
        transformer=modeling.TwoWayTransformer(
            depth=2, embedding_dim=PROMPT_CHANNELS, num_heads=8, mlp_dim=2048
        ),
    )
    return modeling.Sam(image_encoder, prompt_encoder, mask_decoder).eval().requires_grad_(False)


def load_checkpoint(network: torch.nn.Module, path: Path) -> None:
    """Fills a network with the weights of a checkpoint file.

    The file is mapped into memory, so weights are read when they are first used. Nothing in it is
    run.

    Args:
        network: from `build_network`, perhaps with modules added, or of transformers; its
            parameters become the file's, on the CPU.
        path: a file of safetensors, or one written by `torch.save`; of any layout
            (`gamt.segmenters.layouts`), perhaps with the state of a training beside the weights.

    Raises:
        SegmenterError: the file can't be read, or a key is missing, unknown, of another shape, of
            no floating-point type, or holds a value that isn't finite. It names the file, and the
            model whose weights they are where they are another's.
    """
    fill_network(network, read_weights(path), path)


def read_weights(path: Path) -> Mapping[Any, Any]:
    """Reads the state dict of a checkpoint file, without running anything in it.

    Args:
        path: as in `load_checkpoint`.

    Returns:
        The weights by key, in the file's layout, less what wraps them; whatever the file has there,
        for `fill_network` to check.

    Raises:
        SegmenterError: the file can't be read.
    """
    return unwrap(_read(path))


def fill_network(network: torch.nn.Module, weights: Mapping[Any, Any], path: Path) -> None:
    """Fills a network with weights.

    Args:
        network: as in `load_checkpoint`.
        weights: from `read_weights`, perhaps of several files.
        path: the file or folder that errors name.

    Raises:
        SegmenterError: as in `load_checkpoint`, but for files that can't be read.
    """
    expected = network.state_dict()
    state = fit(weights, expected.keys())
    # transformers says which parts of other models are found beside some models' own weights.
    others = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()
    state = {
        key: weight
        for key, weight in state.items()
        if key in expected or not any(re.search(other, str(key)) for other in others)
    }
    problems = _compare(state, expected)
    if problems:
        found, wanted = recognise(weights), recognise(expected)
        if found and wanted and found != wanted:
            raise SegmenterError(
                f"{path}: these are the weights of {found}, expected those of {wanted}"
            )
        whose = f", of {found}," if found and not wanted else ""
        raise SegmenterError(f"{path}: these weights{whose} are not of this network: {problems}")
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False)


def _modeling() -> ModuleType:
    """Loads the package's networks from their files.

    Its `__init__` would import torchvision, which takes as long as torch does and which the
    networks make no use of.
    """
    if MODELING in sys.modules:
        return sys.modules[MODELING]
    package = importlib.util.find_spec("segment_anything")
    if package is None or package.origin is None:
        raise SegmenterError(f"SAM's networks need the package segment-anything: {INSTALL}")
    folder = Path(package.origin).parent / "modeling"
    spec = importlib.util.spec_from_file_location(
        MODELING, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise SegmenterError(f"{folder}: found no networks of segment-anything")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODELING] = module
    spec.loader.exec_module(module)
    return module


class _Skipped:
    """Takes the place of the classes of an optimiser and of options.

    SAM-Med2D's training writes its optimiser beside the weights (train.py of its repository),
    which loading weights alone would refuse the whole file for. Others write their arguments.
    """

    def __new__(cls, *arguments: Any) -> Any:
        # What is called rather than built may be a mapping, whose items come next.
        return {} if arguments else super().__new__(cls)


def _read(path: Path) -> Mapping[Any, Any]:
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        # Files of torch before 1.6 are no zip files and can't be mapped.
        zipped = is_zip(path)
        if zipped:
            check_zip(path)
        names = check_zipped_pickle(path) if zipped else check_legacy(path)
        others: list[Any] = [(_Skipped, name) for name in sorted(names - BUILT)]
        with safe_globals(others), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that are refused below
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:  # torch advises to trust the file
        raise SegmenterError(
            f"{path}: can't be read as a checkpoint: it holds something else than weights"
        ) from error
    except Exception as error:  # a broken file can raise anything in torch's reader
        raise SegmenterError(f"{path}: can't be read as a checkpoint: {_reason(error)}") from error
    if not isinstance(state, Mapping):
        raise SegmenterError(f"{path}: found a {type(state).__name__}, expected a state dict")
    return state


def _reason(error: Exception) -> str:
    """Returns the first sentence of an error; torch adds advice and its own call stack."""
    reason = str(error).strip().partition("\n")[0].partition(". ")[0]
    return printable(shorten(reason, REASON_LENGTH)) or "it ends too early"


def _compare(state: Mapping[Any, Any], expected: Mapping[str, torch.Tensor]) -> str:
    """Says what keeps a state dict from being loaded, or nothing."""
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    misshapen = [
        f"{key} (found {_shape(state[key])}, expected {_shape(weight)})"
        for key, weight in expected.items()
        if key in state and _shape(state[key]) != _shape(weight)
    ]
    mistyped, wrong = [], []
    for key, own in expected.items() if not misshapen else ():
        weight = state.get(key)
        if weight is None:
            continue
        is_right = weight.is_floating_point()
        numbers = "floating-point numbers"
        if not own.is_floating_point():  # a norm counts the batches that it has seen
            is_right, numbers = weight.dtype == own.dtype, _kind(own)
        if not (is_right and _is_plain(weight)):
            mistyped.append(f"{key} (found {_kind(weight)}, expected {numbers})")
        # NaN and infinities stay in a sum, which takes no memory.
        elif not torch.isfinite(weight.sum(dtype=torch.float32)):
            wrong.append(key)
    kinds = (
        ("missing", missing),
        ("unknown", unknown),
        ("of another shape", misshapen),
        ("of another type", mistyped),
        ("not finite", wrong),
    )
    return "; ".join(f"{len(keys)} {kind}: {_list(keys)}" for kind, keys in kinds if keys)


def _is_plain(weight: torch.Tensor) -> bool:
    """Says whether a tensor has its values one by one in the main memory."""
    return (
        weight.layout == torch.strided and weight.device.type == "cpu" and not weight.is_quantized
    )


def _kind(weight: torch.Tensor) -> str:
    dtype, layout = (str(one).removeprefix("torch.") for one in (weight.dtype, weight.layout))
    return f"{layout} {dtype} on {weight.device.type}"


def _shape(weight: Any) -> str:
    if not isinstance(weight, torch.Tensor):
        return type(weight).__name__
    return " x ".join(map(str, weight.shape)) or "a scalar"


def _list(keys: Sequence[Any]) -> str:
    if not keys:
        return "nothing"
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(map(_name, keys[:LISTED])) + more


def _name(key: Any) -> str:
    # A key that is no text may be of any size once it is written out.
    text = key if isinstance(key, str) else f"a {type(key).__name__}"
    return printable(text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]}...")

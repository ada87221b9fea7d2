"""Measures the 2-D models at their real sizes.

    python -m benchmarks.models                                 # all of them
    python -m benchmarks.models medsam2 hf:yonigozlan/EdgeTAM-hf

Prints for each model, device and precision the size of its file, the seconds to encode a slice, to
decode a prompt, and to track into a slice by a full memory; the bytes of an encoded slice; and the
memory that the process needs.

The configurations are those of the published checkpoints, the weights random: masks mean nothing,
times and sizes are true. On a CPU it is the processor time of one core that counts, whatever else
the machine does, and slices are encoded one by one. Each model is measured in a process of its own,
whose memory is all that it held at most, torch included. Times are the least of a few runs. Takes
half an hour on a slow core, and 3 GB of disk at a time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.progress import track

from benchmarks.bench import new_table
from benchmarks.speed import synchronize
from benchmarks.standins import ARCHITECTURES, write_standin
from gamt import segmenters
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Tracker
from gamt.segmenters.devices import choose_dtype
from gamt.segmenters.sam2 import BASE_PLUS, LARGE, SMALL, TINY, Hiera, describe

SHAPE = (256, 256)
"""Of the slices: rows and columns."""

BOX = (60, 70, 160, 150)
"""The prompt."""

REMEMBERED = 7
"""Slices that a tracker has seen: from then on its memory grows no further (`num_maskmem`)."""

WIDTH = 130
"""Characters of the table, so that none of its figures is cut, also in a file."""

RUNS, ENOUGH_SECONDS = 3, 3.0
"""A time is the least of so many runs, or of fewer where these take long."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model takes on a device, in one precision of its encoder.

    Attributes:
        encode_seconds: a slice.
        decode_seconds: a prompt of a box and an earlier answer.
        track_seconds: a slice by a full memory; None of models without one.
        embedding_bytes: of a slice.
        peak_bytes: the most memory that the process held, or on a GPU all tensors together.
    """

    encode_seconds: float
    decode_seconds: float
    track_seconds: float | None
    embedding_bytes: int
    peak_bytes: int


def _sam(kind: str = "Sam", **vision: Any) -> Any:
    described = {"vision_config": vision}
    if kind == "SamHQ":
        described["mask_decoder_config"] = {"vit_dim": vision.get("hidden_size", 768)}
    return getattr(transformers, f"{kind}Config")(**described)


VIT_L = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "global_attn_indexes": [5, 11, 17, 23],
}
VIT_H = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "global_attn_indexes": [7, 15, 23, 31],
}
"""SAM's ViT-L and ViT-H; the defaults of transformers are ViT-B."""


def _sam2(hiera: Hiera, side: int = 1024) -> Any:
    return transformers.Sam2VideoConfig.from_dict(describe(hiera, side))


def _edgetam() -> Any:
    """Returns EdgeTAM's configuration, with the backbone of the package timm."""
    backbone = transformers.TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    return transformers.EdgeTamVideoConfig(
        vision_config=transformers.EdgeTamVisionConfig(backbone_config=backbone),
        enable_temporal_pos_encoding_for_object_pointers=False,
        enable_occlusion_spatial_embedding=False,
    )


CONFIGS: Mapping[str, Callable[[], Any]] = {
    "medsam2": lambda: _sam2(TINY, 512),
    "sam2.1_hiera_tiny": lambda: _sam2(TINY),
    "sam2.1_hiera_small": lambda: _sam2(SMALL),
    "sam2.1_hiera_base_plus": lambda: _sam2(BASE_PLUS),
    "sam2.1_hiera_large": lambda: _sam2(LARGE),
    "hf:yonigozlan/EdgeTAM-hf": _edgetam,
    "hf:Zigeng/SlimSAM-uniform-77": lambda: _sam(hidden_size=168, mlp_dim=696),
    "hf:Zigeng/SlimSAM-uniform-50": lambda: _sam(hidden_size=384, mlp_dim=1536),
    "hf:facebook/sam-vit-base": _sam,
    "hf:syscv-community/sam-hq-vit-base": lambda: _sam("SamHQ"),
    "hf:syscv-community/sam-hq-vit-large": lambda: _sam("SamHQ", **VIT_L),
    "hf:syscv-community/sam-hq-vit-huge": lambda: _sam("SamHQ", **VIT_H),
    "hf:facebook/sam3": transformers.Sam3TrackerVideoConfig,
}
"""Models with networks of transformers, by segmenter. Of SAM 3 it is the tracker; the hub's files
hold a detector beside it."""

MODELS = (*ARCHITECTURES, *CONFIGS)


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"all without; some of {', '.join(MODELS)}"
    )
    parser.add_argument("--work", help=argparse.SUPPRESS)  # what a process of its own measures
    options = parser.parse_args()
    if options.work:
        print(json.dumps(asdict(measure(**json.loads(options.work)))))
        return 0
    if unknown := set(options.names) - set(MODELS):
        parser.error(f"found {', '.join(sorted(unknown))}, expected some of {', '.join(MODELS)}")
    console = Console()
    console.width = max(console.width, WIDTH)
    grid = new_table(
        "2-D models, random weights, slices of 256 x 256",
        "Model",
        "Device",
        "Type",
        "File, MB",
        "Encode, s",
        "Decode, s",
        "Track, s",
        "Slice, MB",
        "Memory, GB",
    )
    for name in track(options.names or MODELS, "Models", console=console, transient=True):
        with tempfile.TemporaryDirectory() as folder:
            files = write_model(name, Path(folder))
            size = sum(one.stat().st_size for one in files)
            for device, dtype in places():
                found = in_process(name, str(files[0]), device, dtype)
                grid.add_row(
                    name,
                    "one core" if device == "cpu" else torch.cuda.get_device_name(),
                    dtype,
                    f"{size / 1e6:.0f}",
                    f"{found.encode_seconds:.3g}",
                    f"{found.decode_seconds:.3f}",
                    "" if found.track_seconds is None else f"{found.track_seconds:.3f}",
                    f"{found.embedding_bytes / 1e6:.2g}",
                    f"{found.peak_bytes / 1e9:.1f}",
                )
    console.print(grid)
    return 0


def places() -> Iterator[tuple[str, str]]:
    """Yields devices, and the precisions that they have units for."""
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        yield device, "float32"
        if choose_dtype("auto", torch.device(device)) == torch.bfloat16:
            yield device, "bfloat16"


def write_model(name: str, folder: Path) -> list[Path]:
    """Writes a checkpoint with random weights.

    Args:
        name: one of `MODELS`.
        folder: an empty one.

    Returns:
        The files of weights.
    """
    if name in ARCHITECTURES:
        path = folder / "checkpoint.pth"
        write_standin(name, path)
        return [path]
    model = build(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:  # of a size at which values neither grow nor vanish
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
    model.save_pretrained(folder)
    return sorted(folder.glob("*.safetensors"))


def build(name: str) -> Any:
    """Builds a model of `CONFIGS`, with the weights that its package begins training with."""
    config = CONFIGS[name]()
    return getattr(transformers, type(config).__name__.replace("Config", "Model"))(config)


def in_process(name: str, weights: str, device: str, dtype: str) -> Measured:
    """Measures a model in a process of its own; on a CPU on one core."""
    work = {"name": name, "weights": weights, "device": device, "dtype": dtype}
    command = [sys.executable, "-m", "benchmarks.models", "--work", json.dumps(work)]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=variables)
    return Measured(**json.loads(done.stdout))


def measure(name: str, weights: str, device: str, dtype: str) -> Measured:
    """Measures a model.

    Args:
        name: one of `MODELS`.
        weights: its file, beside its configuration where it is one of the hub's.
        device: ``cpu`` or ``cuda``.
        dtype: precision of its encoder.
    """
    if name in segmenters.BUILT_IN:
        segmenter = segmenters.load(name, weights, device, dtype=dtype)
    else:
        segmenter = segmenters.load(f"hf:{Path(weights).parent}", None, device, dtype=dtype)
    batch = segmenter.traits.batch if device == "cuda" else 1
    slices = np.random.default_rng(0).integers(0, 256, (batch, *SHAPE), np.uint8)
    embeddings = segmenter.encode(slices)[:1]
    (first,) = segmenter.decode(embeddings, [SlicePrompt(BOX)])
    prompt = SlicePrompt(BOX, state=first.state)
    track_seconds = None
    if isinstance(segmenter, Tracker):
        track_seconds = least_seconds(_tracking(segmenter, embeddings), device)
    return Measured(
        encode_seconds=least_seconds(lambda: segmenter.encode(slices), device) / batch,
        decode_seconds=least_seconds(lambda: segmenter.decode(embeddings, [prompt]), device),
        track_seconds=track_seconds,
        embedding_bytes=embeddings[0].nbytes,
        peak_bytes=torch.cuda.max_memory_allocated() if device == "cuda" else _most_held(),
    )


def _tracking(segmenter: Tracker, embeddings: Sequence[Any]) -> Callable[[], object]:
    """Fills a memory; returns what tracks by it."""
    (answer,) = segmenter.track(embeddings, [SlicePrompt(BOX)], [None], [0])
    for position in range(1, REMEMBERED):
        (answer,) = segmenter.track(embeddings, [None], [answer.state], [position])
    memory = answer.state
    return lambda: segmenter.track(embeddings, [None], [memory], [REMEMBERED])


def least_seconds(work: Callable[[], object], device: str) -> float:
    """Returns the least seconds of a few runs: on a CPU, of its processor time."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < ENOUGH_SECONDS:
        start = clock()
        work()
        synchronize(device)
        seconds.append(clock() - start)
    return min(seconds)


def _most_held() -> int:
    """Returns the most bytes that this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 2**10


if __name__ == "__main__":
    sys.exit(main())

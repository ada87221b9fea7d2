"""Measures the SAM segmenters against the plain way to use SAM: python -m benchmarks.speed.

The checkpoints are stand-ins of the official keys and shapes: masks mean nothing, times are true.
All ratios are between runs of this process and of processes that it starts, on the same weights
and threads. Prints every bar with the figure measured beside it; the exit code is 1 where one is
missed. Takes twenty minutes on two fast cores, and an hour on a slow one.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.bench import Bar, new_table, print_bars
from benchmarks.standins import write_standin
from gamt import Session, segmenters
from gamt.axes import Plane
from gamt.lifting.budget import process_start
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Segmenter, SliceMask
from gamt.segmenters.devices import choose_dtype
from gamt.segmenters.networks import VIT_B, VIT_L, Architecture
from gamt.segmenters.sam_med2d import ARCHITECTURE
from gamt.volume.cache import EmbeddingCache
from gamt.volume.geometry import Grid
from gamt.volume.scan import Scan, SliceRequest

Mask = npt.NDArray[np.bool_]

SHAPE = (32, 48, 40)
CLASSES, INTERACTIONS = 5, 6

SESSION_RATIO = {"float32": 20.0, "bfloat16": 50.0}
"""How many times less a session takes than the plain way."""

RUNS_RATIO = {"float32": 4.5, "bfloat16": 15.0}
"""The same of one process an interaction, each of which begins anew."""

MOST_DIFFERENT = 1e-4
"""Share of pixels that may differ from the plain way's in float32 on a GPU, whose sums depend on
the size of the batch. On a CPU none may."""

START_FACTOR, START_SECONDS = 2.0, 2.0
"""Start to first mask: at most this many times `import torch` alone, and these seconds. Less the
encoding, which on a CPU takes what its cores take for 3 TFLOP; see the throughput."""

ARCHITECTURES = {"sam_vit_b": VIT_B, "sam_med2d": ARCHITECTURE, "sam_vit_l": VIT_L}
"""The encoders whose throughput is measured."""

MATRIX_SIDE = {"cpu": 3072, "cuda": 16384}
"""Side of the matrix product that the encoder's throughput is compared with."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What every way has to do: each slice, class and interaction is one prompt.

    Attributes:
        image: (z, y, x) uint8.
        prompts: of the interactions; each has the classes' requests for all axial slices.
    """

    image: npt.NDArray[np.uint8]
    prompts: Sequence[Sequence[SliceRequest]]


def make_work() -> Work:
    """Draws noise, a box a class and slice, and a click a class and interaction."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, SHAPE, np.uint8)
    low = rng.integers(0, 12, (CLASSES, SHAPE[0], 2))
    side = rng.integers(12, 24, (CLASSES, SHAPE[0], 2))
    clicks = rng.integers((0, 0, 0), SHAPE, (CLASSES, INTERACTIONS - 1, 3))
    signs = rng.integers(0, 2, (CLASSES, INTERACTIONS - 1))
    prompts = []
    for interaction in range(INTERACTIONS):
        requests = []
        for one in range(CLASSES):
            for z in range(SHAPE[0]):
                here = [n for n in range(interaction) if clicks[one, n, 0] == z]
                prompt = SlicePrompt(
                    box=tuple(np.concatenate([low[one, z], low[one, z] + side[one, z]]).tolist()),
                    points=clicks[one, here][:, :0:-1].astype(float),
                    labels=signs[one, here],
                )
                requests.append(SliceRequest(Plane.AXIAL, z, prompt))
        prompts.append(requests)
    return Work(image, prompts)


def run_plainly(
    work: Work, weights: Path, device: str, console: Console
) -> tuple[float, list[list[Mask]]]:
    """Takes segment-anything's predictor: sets the image for every prompt, and predicts.

    Setting an image that was set before is the same work again. It is done and timed once a slice
    and counted once a prompt, which spares hours.

    Returns:
        Seconds, and the masks of every interaction.
    """
    from segment_anything import SamPredictor, sam_model_registry

    predictor = SamPredictor(sam_model_registry["vit_b"](weights).to(device))
    if device == "cuda":  # whose first use takes seconds
        predictor.set_image(np.zeros((*SHAPE[1:], 3), np.uint8))
    seconds = 0.0
    masks: dict[tuple[int, int], Mask] = {}
    for z in track(range(SHAPE[0]), "The plain way", console=console, transient=True):
        start = time.perf_counter()
        predictor.set_image(np.repeat(work.image[z][:, :, None], 3, axis=2))
        synchronize(device)
        seconds += (time.perf_counter() - start) * CLASSES * INTERACTIONS
        start = time.perf_counter()
        for interaction, requests in enumerate(work.prompts):
            for n, request in enumerate(requests):
                if request.index == z:
                    prompt = request.prompt
                    found, _, _ = predictor.predict(
                        prompt.points if len(prompt.points) else None,
                        prompt.labels if len(prompt.points) else None,
                        box=np.array(prompt.box),
                        multimask_output=False,
                    )
                    masks[interaction, n] = found[0]
        seconds += time.perf_counter() - start
    counts = [len(requests) for requests in work.prompts]
    return seconds, [[masks[i, n] for n in range(count)] for i, count in enumerate(counts)]


def run_session(work: Work, segmenter: Segmenter) -> tuple[float, list[list[Mask]]]:
    """Takes what a session holds for as long as it lives: a scan whose embeddings are kept.

    Returns:
        Seconds, and the masks of every interaction.
    """
    start = time.perf_counter()
    scan = Scan(lambda: work.image, Grid((0, 0, 0), SHAPE, SHAPE), EmbeddingCache(segmenter, 2**30))
    masks = []
    for requests in work.prompts:
        answers = scan.decode(requests)
        masks.append([answer.mask for answer in answers if isinstance(answer, SliceMask)])
    return time.perf_counter() - start, masks


def run_process(weights: Path, device: str, dtype: str) -> float:
    """Does one interaction in a process of its own, as a container does; returns its seconds."""
    start = time.perf_counter()
    start_python("interaction", str(weights), device, dtype)
    return time.perf_counter() - start


def start_python(*arguments: str) -> str:
    """Runs this module's part for other processes; returns what it printed."""
    command = [sys.executable, "-m", "benchmarks.speed", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def case_bars(work: Work, weights: Path, device: str, console: Console) -> list[Bar]:
    """Compares a session, and separate processes, with the plain way on the same device."""
    plain, expected = run_plainly(work, weights, device, console)
    prompts = sum(len(requests) for requests in work.prompts)
    console.print(
        f"{SHAPE[0]} slices, {CLASSES} classes, {INTERACTIONS} interactions, ViT-B, {device}, "
        f"{torch.get_num_threads()} threads: {prompts} prompts, plainly {plain:.0f} s"
    )
    found = []
    for dtype, ratio in SESSION_RATIO.items():
        kind = f"ViT-B, {device}, {dtype}"
        names = f"Session, {kind}", f"A process an interaction, {kind}"
        bars = f">= {ratio:g} x", f">= {RUNS_RATIO[dtype]:g} x"
        if dtype != "float32" and choose_dtype("auto", torch.device(device)) == torch.float32:
            reason = "no units for it in this processor"
            found += [Bar(name, reason, bar, None) for name, bar in zip(names, bars, strict=True)]
            continue
        with console.status(names[0]):
            segmenter = segmenters.load("sam_vit_b", str(weights), device, dtype=dtype)
            seconds, masks = run_session(work, segmenter)
        differ = int((np.array(masks) != np.array(expected)).sum())
        pixels = np.array(expected).size
        figure = f"{plain / seconds:.1f} x ({seconds:.1f} s); {differ} of {pixels} pixels differ"
        exact = differ == 0 if device == "cpu" else differ <= MOST_DIFFERENT * pixels
        met = plain / seconds >= ratio and (exact or dtype != "float32")
        found.append(Bar(names[0], figure, bars[0], met))
        with console.status(names[1]):
            seconds = INTERACTIONS * run_process(weights, device, dtype)
        figure = f"{plain / seconds:.1f} x ({seconds:.0f} s: one, times {INTERACTIONS})"
        if device == "cuda":  # what starts torch and CUDA anew is spent on that alone
            found.append(Bar(names[1], figure, "no bar", None))
        else:
            found.append(Bar(names[1], figure, bars[1], plain / seconds >= RUNS_RATIO[dtype]))
    return found


def cache_bar(weights: Path, console: Console) -> Bar:
    """Visits a scan twice with a session that keeps its encoded slices in a folder."""
    seconds, encoded = [], []
    image = np.random.default_rng(1).integers(0, 256, (1, 6, 48, 40), np.uint8)
    with tempfile.TemporaryDirectory() as folder, console.status("Two visits"):
        for _ in range(2):
            session = Session(segmenters.load("sam_med2d", str(weights), "cpu"), cache=Path(folder))
            start = time.perf_counter()
            session.set_image(image)
            session.set_target_buffer(np.zeros(image.shape[1:], np.uint8))
            session.add_bbox_interaction([[1, 5], [10, 30], [8, 32]], include_interaction=True)
            seconds.append(time.perf_counter() - start)
            encoded.append(session.encoded)
    figure = f"{encoded[1]} ({seconds[1]:.1f} s), the first {encoded[0]} ({seconds[0]:.1f} s)"
    return Bar("Slices encoded at a second visit", figure, "0", encoded[1] == 0 < encoded[0])


def print_throughput(weights: dict[str, Path], console: Console) -> None:
    """Prints the encoders' throughput beside that of a large matrix product on the same device."""
    grid = new_table(
        "Encoder throughput", "Device", "Type", "Segmenter", "Batch", "s/slice", "TFLOP/s", "Share"
    )
    places = [("cpu", "float32"), ("cpu", "bfloat16")]
    if torch.cuda.is_available():
        places += [("cuda", "float32"), ("cuda", "bfloat16")]
    for device, dtype in places:
        peak = matrix_rate(device, getattr(torch, dtype))
        grid.add_row(device, dtype, "matrix product", "", "", f"{peak / 1e12:.2f}", "100 %")
        for name, architecture in ARCHITECTURES.items():
            segmenter = segmenters.load(name, str(weights[name]), device, dtype=dtype)
            batch = segmenter.traits.batch
            slices = np.random.default_rng(0).integers(0, 256, (batch, 256, 256), np.uint8)
            seconds = best_time(lambda: segmenter.encode(slices), device) / batch  # noqa: B023
            rate = encoder_operations(architecture, name == "sam_med2d") / seconds
            figures = (f"{seconds:.3f}", f"{rate / 1e12:.2f}", f"{rate / peak:.0%}")
            grid.add_row(device, dtype, name, str(batch), *figures)
    if not torch.cuda.is_available():
        grid.add_row("cuda", "", "not measured: there is no such device here")
    console.print(grid)


def encoder_operations(architecture: Architecture, adapters: bool) -> float:
    """Returns the floating-point operations of encoding a slice, as many as can't be avoided.

    Each token of a block is multiplied with 12 square matrices: queries, keys and values, the
    output of the attention, and 4 + 4 of the MLP. An adapter's convolutions make it 6.25 more. The
    attention's two products take all tokens, or those of a window of 14 x 14.
    """
    tokens, width = (architecture.side // 16) ** 2, architecture.width
    whole = len(architecture.global_blocks)
    per_block = (12 + 6.25 * adapters) * tokens * width**2
    attention = 2 * tokens * width * (whole * tokens + (architecture.depth - whole) * 14**2)
    patches = tokens * width * 3 * 16**2
    neck = tokens * (width * 256 + 9 * 256**2)
    return 2 * (architecture.depth * per_block + attention + patches + neck)


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Returns the floating-point operations a second of a large square matrix product."""
    side = MATRIX_SIDE[device]
    one, other = torch.rand(2, side, side, device=device, dtype=dtype)
    return 2 * side**3 / best_time(lambda: one @ other, device)


def best_time(work: Callable[[], object], device: str, times: int = 3) -> float:
    """Returns the least seconds of a few runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def synchronize(device: str) -> None:
    """Waits for what a GPU has been asked to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def start_bar(weights: Path, console: Console) -> Bar:
    """Times a process from its start to its first mask, beside one that only imports torch."""
    with console.status("Start-up"):
        torch_alone = min(time_import() for _ in range(3))
        laps = min(
            (json.loads(start_python("first-mask", str(weights))) for _ in range(2)), key=sum
        )
    grid = new_table("Start to first mask, ViT-L", "Part", "Seconds")
    for part, seconds in zip(("imports", "checkpoint", "encoding", "decoding"), laps, strict=True):
        grid.add_row(part, f"{seconds:.1f}")
    grid.add_row("import torch alone", f"{torch_alone:.1f}")
    console.print(grid)
    rest, bar = sum(laps) - laps[2], START_FACTOR * torch_alone + START_SECONDS
    figure = f"{rest:.1f} s; {sum(laps):.1f} s with it"
    name = "Start to first mask, ViT-L, less the encoding"
    return Bar(name, figure, f"<= {bar:.1f} s", rest <= bar)


def time_import() -> float:
    """Returns the seconds of a process that imports torch and ends."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - start


def print_first_mask(weights: str) -> None:
    """Makes a first mask, and prints the seconds that each part took since the process began."""
    times = [process_start(), time.monotonic()]
    segmenter = segmenters.load("sam_vit_l", weights, "cpu")
    times.append(time.monotonic())
    embeddings = segmenter.encode(np.zeros((1, 256, 256), np.uint8))
    times.append(time.monotonic())
    segmenter.decode(embeddings, [SlicePrompt(box=(50, 60, 150, 170))])
    times.append(time.monotonic())
    print(json.dumps(np.diff(times).tolist()))


def main(arguments: Sequence[str]) -> int:
    """Runs the command line, or the part that a process of its own is for."""
    if arguments[:1] == ["first-mask"]:
        print_first_mask(arguments[1])
        return 0
    if arguments[:1] == ["interaction"]:
        work = make_work()
        last = Work(work.image, work.prompts[-1:])
        _, weights, device, dtype = arguments
        run_session(last, segmenters.load("sam_vit_b", weights, device, dtype=dtype))
        return 0
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.pth" for name in ARCHITECTURES}
        for name, path in files.items():
            write_standin(name, path)
        found = []
        for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            found += case_bars(make_work(), files["sam_vit_b"], device, console)
        found.append(cache_bar(files["sam_med2d"], console))
        found.append(start_bar(files["sam_vit_l"], console))
        print_throughput(files, console)
    return print_bars("Bars: SAM with stand-in weights", found, console)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

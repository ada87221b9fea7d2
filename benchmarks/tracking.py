"""Times a model of the hub against a plain loop over transformers' own API.

    python -m benchmarks.tracking [--by prompts|memory] [--slices N] [--classes N] [--rounds N]

Each class has a box, and one click more in every round. By prompts, each slice is asked with the
box and the clicks. By memory, the middle slice is asked, and the others are walked to in both
directions. The plain loop does what transformers' documentation shows: by prompts, processor and
model for one slice and class after the other; by memory, a session for each round and direction,
whose objects are the classes. Ours encodes each slice once, and asks many at once. Both are in
float32 on the same device; the weights are random.

By prompts, time goes into encoding, which the plain loop does anew for every class and round; how
much faster this package is, is held to a bar. By memory it is not: both take a step for every
class, round and slice, which costs about as much as to encode a slice.

On a CPU it is the processor time of one core that counts, and the whole takes hours;
`--model medsam2 --slices 16 --classes 2 --rounds 2` takes minutes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from rich.console import Console

from benchmarks.bench import Bar, new_table, print_bars
from benchmarks.models import CONFIGS, SHAPE, write_model
from benchmarks.speed import synchronize
from gamt.prompts import SlicePrompt
from gamt.segmenters.hub import HubTracker, load_model

MODELS = [name for name in CONFIGS if "sam2" in name.lower()]
"""Whose classes the plain loop names."""

MODEL = "sam2.1_hiera_tiny"
SLICES, CLASSES, ROUNDS = 32, 5, 6
"""What the bar is about."""

FEWEST = 16
"""Of fewer slices, SAM 2 sees how many they are, if it sees a whole video
(`max_object_pointers_in_encoder`); walks do not know."""

FASTER = 20.0
"""The bar: how many times faster than the plain loop, by prompts."""

DIFFERENCE = 1e-4
"""The bar: how far log-odds may be apart, as a part of the greatest."""

Logits = npt.NDArray[np.float32]
"""Of all rounds, classes and slices: (rounds, classes, slices, rows, columns)."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What one way of asking took.

    Attributes:
        logits: its answers.
        seconds: for all of them.
        encoded: how many slices went through the encoder.
    """

    logits: Logits
    seconds: float
    encoded: int


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is asked.

    Attributes:
        slices: (N, rows, columns) uint8.
        prompts: by round, then by class.
    """

    slices: npt.NDArray[np.uint8]
    prompts: Sequence[Sequence[SlicePrompt]]

    @property
    def colours(self) -> npt.NDArray[np.uint8]:
        """(N, rows, columns, 3): the slices as transformers' processors take them."""
        return np.repeat(self.slices[..., None], 3, axis=-1)

    def new_logits(self) -> Logits:
        """Returns room for the answers."""
        form = (len(self.prompts), len(self.prompts[0]), *self.slices.shape)
        return np.empty(form, np.float32)


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tracking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=MODELS, default=MODEL, help=f"default: {MODEL}")
    parser.add_argument("--by", choices=("prompts", "memory"), help="one of the two; default: both")
    for name, count in (("slices", SLICES), ("classes", CLASSES), ("rounds", ROUNDS)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"default: {count}")
    options = parser.parse_args()
    if options.slices < FEWEST:
        parser.error(f"--slices: found {options.slices}, expected {FEWEST} or more")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    console = Console()
    task = make_task(options.slices, options.classes, options.rounds)
    asked = (options.model, options.slices, options.classes, options.rounds)
    whole = asked == (MODEL, SLICES, CLASSES, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        write_model(options.model, Path(folder))
        plain, package = PlainLoop(Path(folder), device), Package(Path(folder), device)
        ways = [
            ("prompts", plain.decode, package.decode),
            ("memory", plain.track, package.track),
        ]
        found = []
        for name, theirs, ours in ways:
            if options.by not in (None, name):
                continue
            with console.status(f"Asking by {name}: the plain loop"):
                loop = theirs(task)
            with console.status(f"Asking by {name}: this package"):
                found.append((name, loop, ours(task)))
    grid = new_table(
        f"{options.model}, {options.slices} slices, {options.classes} classes, "
        f"{options.rounds} rounds, {device}",
        "Asked",
        "Plain loop, s",
        "Slices encoded",
        "This package, s",
        "Slices encoded",
        "Times faster",
    )
    bars = []
    for name, loop, mine in found:
        grid.add_row(
            f"by {name}",
            f"{loop.seconds:.1f}",
            str(loop.encoded),
            f"{mine.seconds:.1f}",
            str(mine.encoded),
            f"{loop.seconds / mine.seconds:.1f}",
        )
        bars += hold(name, loop, mine, whole)
    console.print(grid)
    return print_bars("Bars", bars, console)


def hold(name: str, loop: Timed, mine: Timed, whole: bool) -> list[Bar]:
    """Holds what was found to the bars.

    Args:
        name: "prompts" or "memory"; how much faster it is has a bar by prompts alone.
        loop: the plain loop's.
        mine: this package's.
        whole: whether what was asked is what the bar is about.
    """
    faster = loop.seconds / mine.seconds
    apart = float(np.abs(loop.logits - mine.logits).max() / np.abs(loop.logits).max())
    twice = mine.encoded - mine.logits.shape[2]
    bars = [
        Bar(
            f"by {name}, log-odds apart",
            f"{apart:.1e} of the greatest",
            f"<= {DIFFERENCE}",
            apart <= DIFFERENCE,
        ),
        Bar(f"by {name}, slices encoded twice", str(twice), "0", twice == 0),
    ]
    if name == "prompts":
        bars.append(
            Bar(
                "by prompts, against a plain loop",
                f"{faster:.1f} times faster",
                f">= {FASTER:.0f} with {MODEL} and as many as by default",
                faster >= FASTER if whole else None,
            )
        )
    return bars


def make_task(slices: int, classes: int, rounds: int) -> Task:
    """Draws noise, with a box for each class and clicks in it."""
    generator = np.random.default_rng(0)
    boxes = [
        (x, y, x + 60.0, y + 50.0) for x, y in generator.uniform(0, SHAPE[0] - 60, (classes, 2))
    ]
    clicks = generator.uniform(5, 45, (classes, rounds - 1, 2))
    prompts = [
        [
            SlicePrompt(box, box[:2] + clicks[index, :count], (np.arange(count) + 1) % 2)
            for index, box in enumerate(boxes)
        ]
        for count in range(rounds)
    ]
    return Task(generator.integers(0, 256, (slices, *SHAPE), np.uint8), prompts)


class PlainLoop:
    """What transformers' documentation shows for SAM 2."""

    def __init__(self, folder: Path, device: str) -> None:
        """Loads the model of a folder once for images and once for videos."""
        self._device = device
        image: Any = transformers.Sam2Model.from_pretrained(folder)
        video: Any = transformers.Sam2VideoModel.from_pretrained(folder)
        self._image, self._video = image.to(device).eval(), video.to(device).eval()
        side = self._video.image_size
        size = {"height": side, "width": side}
        images = transformers.Sam2ImageProcessor(size=size)
        videos = transformers.Sam2VideoVideoProcessor(size=size)
        self._image_processor: Any = transformers.Sam2Processor(images, target_size=side)
        self._video_processor: Any = transformers.Sam2VideoProcessor(
            images, videos, target_size=side
        )

    def decode(self, task: Task) -> Timed:
        """Asks for each slice, class and round by itself."""
        logits = task.new_logits()
        clock = Clock(self._image, self._device)
        for round_index, prompts in enumerate(task.prompts):
            for class_index, prompt in enumerate(prompts):
                for index, colours in enumerate(task.colours):
                    inputs = self._image_processor(
                        images=colours, return_tensors="pt", **_arguments([prompt])
                    ).to(self._device)
                    with torch.inference_mode():
                        outputs = self._image(**inputs, multimask_output=False)
                    (masks,) = self._image_processor.post_process_masks(
                        outputs.pred_masks.cpu(), inputs["original_sizes"], binarize=False
                    )
                    logits[round_index, class_index, index] = masks[0, 0]
        return clock.stop(logits)

    def track(self, task: Task) -> Timed:
        """Propagates from the middle slice, in a session for each round and direction."""
        logits = task.new_logits()
        middle = len(task.slices) // 2
        clock = Clock(self._video, self._device)
        for round_index, prompts in enumerate(task.prompts):
            for reverse in (False, True):
                session = self._video_processor.init_video_session(
                    video=task.colours, inference_device=self._device
                )
                self._video_processor.add_inputs_to_inference_session(
                    session, middle, list(range(len(prompts))), **_arguments(prompts)
                )
                for output in self._video.propagate_in_video_iterator(
                    session, start_frame_idx=middle, reverse=reverse
                ):
                    (masks,) = self._video_processor.post_process_masks(
                        [output.pred_masks.cpu()], [list(SHAPE)], binarize=False
                    )
                    logits[round_index, :, output.frame_idx] = masks[:, 0]
        return clock.stop(logits)


def _arguments(prompts: Sequence[SlicePrompt]) -> dict[str, Any]:
    """Returns what the processors take of prompts with a box each, and as many clicks."""
    arguments: dict[str, Any] = {
        "input_boxes": [[list(one.box) for one in prompts if one.box is not None]]
    }
    if len(prompts[0].points):
        arguments["input_points"] = [[one.points.tolist() for one in prompts]]
        arguments["input_labels"] = [[one.labels.tolist() for one in prompts]]
    return arguments


class Clock:
    """Counts seconds, and slices that go through a model's encoder."""

    def __init__(self, model: Any, device: str) -> None:
        """Starts."""
        self._device = device
        self._encoded = 0
        self._hook = model.vision_encoder.register_forward_pre_hook(self._count)
        self._read = time.process_time if device == "cpu" else time.perf_counter
        self._start = self._read()

    def _count(self, _module: Any, images: Sequence[torch.Tensor]) -> None:
        self._encoded += len(images[0])

    def stop(self, logits: Logits) -> Timed:
        """Returns what was counted since the start."""
        synchronize(self._device)
        self._hook.remove()
        return Timed(logits, self._read() - self._start, self._encoded)


class Package:
    """This package's way."""

    def __init__(self, folder: Path, device: str) -> None:
        """Loads the model of a folder."""
        loaded = load_model(f"hf:{folder}")
        self._device = device
        self._model = loaded.model
        self._tracker = HubTracker("tracker", loaded, device, "float32")

    def decode(self, task: Task) -> Timed:
        """Asks for all slices and classes of a round at once."""
        logits = task.new_logits()
        clock = Clock(self._model, self._device)
        encoded = self._tracker.encode(task.slices)
        for answers, prompts in zip(logits, task.prompts, strict=True):
            asked = [prompt for prompt in prompts for _ in encoded]
            found = self._tracker.decode([*encoded] * len(prompts), asked, multimask=False)
            answers[:] = np.reshape([one.logits for one in found], answers.shape)
        return clock.stop(logits)

    def track(self, task: Task) -> Timed:
        """Walks all classes of a round in both directions at once."""
        logits = task.new_logits()
        clock = Clock(self._model, self._device)
        encoded = self._tracker.encode(task.slices)
        middle = len(encoded) // 2
        for answers, prompts in zip(logits, task.prompts, strict=True):
            count = len(prompts)
            begun = self._tracker.track(
                [encoded[middle]] * count, prompts, [None] * count, [middle] * count
            )
            answers[:, middle] = [one.logits for one in begun]
            memories = {(n, way): one.state for n, one in enumerate(begun) for way in (1, -1)}
            for distance in range(1, middle + 1):
                places = {
                    key: place
                    for key in memories
                    if 0 <= (place := middle + key[1] * distance) < len(encoded)
                }
                found = self._tracker.track(
                    [encoded[place] for place in places.values()],
                    [None] * len(places),
                    [memories[key] for key in places],
                    [*places.values()],
                )
                for (key, place), one in zip(places.items(), found, strict=True):
                    answers[key[0], place] = one.logits
                    memories[key] = one.state
        return clock.stop(logits)


if __name__ == "__main__":
    sys.exit(main())

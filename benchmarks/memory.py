"""Measures what cases take in memory, beside what was planned: python -m benchmarks.memory.

Every case is segmented by the embedded segmenter in a process of its own, which reports the most
that it held beyond what it had with the scan read. The plan has to be an upper estimate, and not
too high a one. Prints the figures, then the bars; the exit code is 1 where one is missed. Takes two
minutes on two cores, on Linux alone.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.progress import track

from benchmarks.bench import Bar, new_table, print_bars
from gamt.io.case import Case
from gamt.lifting.target import Observer
from gamt.predict import predict_case
from gamt.prompts import ClassPrompts, Click, box_of_mask
from gamt.segmenters.base import Embedding
from gamt.segmenters.statistical import StatisticalSegmenter
from gamt.settings import PRESETS, Channels
from gamt.volume.preparation import PreparedVolume

MOST_SHARE, LEAST_SHARE = 1.0, 0.25
"""Of what was planned, what is taken: no more than the first, and no less than the second where the
target fills the scan."""

SMALL_BYTES = 2**27
"""Below this, the plan's fixed part hides all others."""


@dataclass(frozen=True, slots=True)
class Work:
    """A case to be measured.

    Attributes:
        shape: of the scan (z, y, x).
        spacing_mm: likewise.
        kind: "box", "click", "correction", or "boxes" of three classes.
        share: of the scan's sides, the target's.
        dtype: of the scan.
        channels: what the segmenter is shown.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    kind: str
    share: float = 0.9
    dtype: str = "int16"
    channels: Channels = "same"


SHAPES = (
    ((96, 200, 220), (1.0, 1.0, 1.0)),
    ((160, 256, 256), (1.0, 1.0, 1.0)),
    ((40, 320, 320), (5.0, 1.0, 1.0)),
    ((300, 256, 200), (0.7, 0.7, 3.5)),
    ((1, 3000, 3000), (1.0, 1.0, 1.0)),
)
"""Cubic voxels, slices of either direction that the grid makes more of, and a single slice."""

WORK = (
    *(Work(*one, kind) for kind in ("box", "click", "correction", "boxes") for one in SHAPES),
    Work((300, 400, 400), (1.0, 1.0, 1.0), "box", share=0.2),
    Work((300, 400, 400), (1.0, 1.0, 1.0), "click", share=0.2),
    Work((160, 256, 256), (1.0, 1.0, 1.0), "box", dtype="uint8"),
    Work((160, 256, 256), (1.0, 1.0, 1.0), "box", dtype="float64"),
    *(Work(*one, "box", channels="windows") for one in SHAPES[1:3]),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a case took.

    Attributes:
        bytes: the most that it held beside the scan.
        planned_bytes: what was planned.
    """

    bytes: int
    planned_bytes: int


class OfWindows(StatisticalSegmenter):
    """The embedded segmenter, which takes the middle one of three channels."""

    traits = replace(StatisticalSegmenter.traits, three_channels=True)

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Prepares slices of one channel or three."""
        return super().encode(slices if slices.ndim == 3 else slices[..., 1])


class Planner(Observer):
    """Keeps the volume that a case was segmented in."""

    volume: PreparedVolume

    def begin_case(self, case: Case, volume: PreparedVolume) -> None:
        """Takes the volume."""
        self.volume = volume


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--work", metavar="JSON", help="a case, which is measured in this process")
    options = parser.parse_args()
    if options.work:
        print(json.dumps(asdict(measure(Work(**json.loads(options.work))))))
        return 0
    console = Console()
    found = [
        (one, in_process(one)) for one in track(WORK, "Cases", console=console, transient=True)
    ]
    grid = new_table(
        "Memory beside the scan, in MB", "Scan", "Prompts", "Target", "Measured", "Planned", "Share"
    )
    for work, one in found:
        shape = " x ".join(str(size) for size in work.shape)
        grid.add_row(
            f"{shape} {work.dtype}, {' x '.join(f'{mm:g}' for mm in work.spacing_mm)} mm",
            work.kind if work.channels == "same" else f"{work.kind}, {work.channels}",
            f"{work.share:.0%}",
            f"{one.bytes / 2**20:.0f}",
            f"{one.planned_bytes / 2**20:.0f}",
            f"{one.bytes / one.planned_bytes:.2f}",
        )
    console.print(grid)
    return print_bars("Bars: memory", bars(found), console)


def bars(found: Sequence[tuple[Work, Measured]]) -> list[Bar]:
    """Holds the figures to their bars."""
    most = max(one.bytes / one.planned_bytes for _, one in found)
    least = min(
        one.bytes / one.planned_bytes
        for work, one in found
        if work.kind in ("box", "boxes") and work.share > 0.5 and one.bytes > SMALL_BYTES
    )
    return [
        Bar(
            "Largest share of the plan that a case took",
            f"{most:.2f}",
            f"<= {MOST_SHARE}",
            most <= MOST_SHARE,
        ),
        Bar(
            "Least share that a box or several around most of a scan took",
            f"{least:.2f}",
            f">= {LEAST_SHARE}",
            least >= LEAST_SHARE,
        ),
    ]


def in_process(work: Work) -> Measured:
    """Measures a case in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--work", json.dumps(asdict(work))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout))


def measure(work: Work) -> Measured:
    """Segments a case, and measures what that takes."""
    case = make_case(work)
    segmenter = OfWindows()
    planner = Planner()
    Path("/proc/self/clear_refs").write_text("5")  # the most that was held begins anew
    before = psutil.Process().memory_info().rss
    settings = replace(PRESETS["default"], budget=False, channels=work.channels)
    predict_case(case, segmenter, settings, observer=planner)
    status = Path("/proc/self/status").read_text()
    most_kb = int(status.partition("VmHWM:")[2].split()[0])
    return Measured(most_kb * 2**10 - before, planner.volume.plan.needed_bytes)


def make_case(work: Work) -> Case:
    """Draws an ellipsoid in noise, and what is said about it."""
    generator = np.random.default_rng(0)
    image = np.empty(work.shape, np.uint8)
    for layer in image:
        layer[...] = generator.integers(60, 90, layer.shape)
    middle = [size // 2 for size in work.shape]
    axes = np.ogrid[tuple(slice(size) for size in work.shape)]

    def draw(share: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        away = np.zeros((1, 1, 1), np.float32)
        for place, center, size in zip(axes, middle, work.shape, strict=True):
            away = away + np.float32((place - center) / max(0.6, share * size / 2)) ** 2
        return np.asarray(away <= 1)

    target = draw(work.share)
    image[target] += 80
    box = box_of_mask(target)
    click = Click(middle[0], middle[1], middle[2], positive=True)
    previous = None
    prompts: tuple[ClassPrompts, ...] = (ClassPrompts(1, box),)
    if work.kind == "click":
        prompts = (ClassPrompts(1, clicks=(click,)),)
    if work.kind == "boxes":
        prompts = tuple(ClassPrompts(label, box) for label in (1, 2, 3))
    if work.kind == "correction":
        previous = draw(0.7 * work.share).view(np.uint8)
        missed = replace(click, x=int(middle[2] * (1 + 0.85 * work.share)))
        prompts = (ClassPrompts(1, box, (missed,)),)
    return Case("case", image.astype(work.dtype), work.spacing_mm, prompts, previous)


if __name__ == "__main__":
    sys.exit(main())

"""Measures the container's start-up and rebuild: python -m benchmarks.container.

Builds the image with the engine that answers. Times are the least of several runs, from the
engine's command to its end. Prints every bar with the figure measured beside it; the exit code is
1 where one is missed.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.bench import Bar, new_table, print_bars
from benchmarks.image import IMAGE, ROOT, Image, find_engine
from benchmarks.samples import FOLDER as SAMPLES
from gamt.io.case import read_case, write_case

REPETITIONS = 5
NUMBERS = 'python -c "import numpy, scipy"'

START_FACTOR, START_SECONDS = 2.0, 3.0
"""One class: at most this many times the start of numpy and scipy, and these seconds."""

REBUILD_SECONDS = 10.0
"""After a change of the project's own code."""


def main() -> int:
    """Runs the command; returns the exit code."""
    console = Console()
    engine = find_engine()
    if engine is None:
        console.print("no container engine answers: start docker, or install podman")
        return 1
    image = Image(engine, IMAGE)
    with tempfile.TemporaryDirectory() as name:
        context = copy_context(Path(name) / "context")
        image.build(context)
        folder = one_class_case(Path(name) / "work")
        numbers = least(lambda: image.show("sh", "-c", NUMBERS))
        rows = {
            "the engine alone: true": least(lambda: image.show("true")),
            NUMBERS: numbers,
            "gamt predict, nothing to do": least(lambda: image.show("sh", "-c", start(""))),
            "the same without compiled bytecode": least(
                lambda: image.show("sh", "-c", start("PYTHONPYCACHEPREFIX=/tmp/none"))
            ),
            "the challenge's command, one class": least(lambda: image.predict(folder)),
        }
        with (context / "src" / "gamt" / "predict.py").open("a") as file:
            file.write("# changed\n")
        began = time.perf_counter()
        image.build(context)
        rebuild = time.perf_counter() - began
    image.remove()
    grid = new_table("Start-up, least of several runs", "Container", "Seconds")
    for what, seconds in rows.items():
        grid.add_row(what, f"{seconds:.2f}")
    console.print(grid)
    limit = START_FACTOR * numbers + START_SECONDS
    one = rows["the challenge's command, one class"]
    return print_bars(
        "Bars: container",
        [
            Bar("One class, s", f"{one:.2f}", f"<= {limit:.2f}", one <= limit),
            Bar(
                "Rebuild after a change in src/, s",
                f"{rebuild:.1f}",
                f"<= {REBUILD_SECONDS:g}",
                rebuild <= REBUILD_SECONDS,
            ),
        ],
        console,
    )


def start(variable: str) -> str:
    """Returns a shell command that does all that a run does before its first case."""
    return f"mkdir /tmp/in; {variable} python -P -m gamt predict /tmp/in /tmp/out || true"


def copy_context(context: Path) -> Path:
    """Copies what the image is built from, so that it may be changed."""
    context.mkdir()
    for name in ("Dockerfile", "LICENSE", "README.md", "predict.sh", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(ROOT / "src", context / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (context / "weights").mkdir()
    shutil.copy(ROOT / "weights" / "manifest.toml", context / "weights")
    return context


def one_class_case(folder: Path) -> Path:
    """Makes a folder for a run on the PET sample's first lesion."""
    for name in ("inputs", "outputs"):
        (folder / name).mkdir(parents=True)
    path = SAMPLES / "PET_phantom.npz"
    case = read_case(path)
    with np.load(path) as file:
        gts = (file["gts"] == 1).astype(np.uint8)
    target = folder / "inputs" / "PET_one.npz"
    write_case(target, case.image, case.spacing_mm, case.prompts[:1], gts=gts)
    return folder


def least(run: Callable[[], object]) -> float:
    """Returns the least of several runs' seconds."""
    seconds = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())

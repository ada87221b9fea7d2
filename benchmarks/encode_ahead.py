"""Measures what encoding ahead spares a server's users: python -m benchmarks.encode_ahead.

A segmenter that takes a while to encode a slice, as a network does, stands in for one: it is the
embedded one, with a pause for each slice. A client sends an image, looks at it for some seconds,
and makes a first click, then looks at the result and clicks again. Prints how long the clicks took
and how many slices they had to wait for, with and without encoding ahead: of an image of 8 bits,
and of the same one as a CT is stored, in whose case nothing is known before the first click.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks.bench import new_table
from benchmarks.stand_in import StandIn
from gamt import Session
from gamt.server.engine import Engine, Workspace
from gamt.server.metrics import Metrics
from gamt.settings import PRESETS

SHAPE = (96, 112, 124)
"""Of the image (z, y, x): small enough for one crop, whatever is clicked."""

CENTRE, HALF_AXES = (40, 60, 76), (22, 30, 34)
"""Of the target, an ellipsoid, in voxels (z, y, x)."""

CLICKS = ((40, 60, 76), (40, 60, 112))
"""A first one in the target's middle, and a correcting one near the end of its longest axis."""

SLICE_SECONDS = 0.1
"""What a slice takes to encode: about that of SAM's ViT-B on a small GPU."""


def draw_image() -> npt.NDArray[np.uint8]:
    """Draws a bright ellipsoid in noise, (z, y, x)."""
    places = np.ogrid[tuple(slice(size) for size in SHAPE)]
    squares = (
        ((place - middle) / half) ** 2
        for place, middle, half in zip(places, CENTRE, HALF_AXES, strict=True)
    )
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return np.asarray((np.where(sum(squares) <= 1, 150, 70) + noise).clip(0, 255), np.uint8)


async def click(workspace: Workspace, voxel: Sequence[int]) -> float:
    """Clicks, and returns how many seconds it took."""

    def add(session: Session) -> None:
        session.add_point_interaction(voxel, True, run_prediction=False)

    async def is_gone() -> bool:
        return False

    start = time.monotonic()
    await workspace.predict("point", add, is_gone)
    return time.monotonic() - start


async def measure(image: npt.NDArray[Any], look: float, ahead: bool) -> list[tuple[float, int]]:
    """Returns for each click the seconds it took, and the number of slices encoded meanwhile."""
    segmenter = StandIn(SLICE_SECONDS)
    engine = Engine(segmenter, PRESETS["default"], metrics=Metrics())
    if not ahead:
        engine.ahead.close()
    workspace = engine.open()
    await workspace.change(lambda session: session.set_image(image[None]))
    buffer = np.zeros(image.shape, np.uint8)
    await workspace.change(lambda session: session.set_target_buffer(buffer))
    found = []
    for voxel in CLICKS:
        await asyncio.sleep(look)
        before = segmenter.encoded
        seconds = await click(workspace, voxel)
        found.append((seconds, segmenter.encoded - before))
    await asyncio.to_thread(engine.close)
    return found


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encode_ahead", description=__doc__)
    parser.add_argument(
        "--look", type=float, default=10, help="seconds before each click (%(default)s)"
    )
    options = parser.parse_args(arguments)
    grey = draw_image()
    images: dict[str, npt.NDArray[Any]] = {
        "8 bits": grey,
        "int16": grey.astype(np.int16) * 10 - 1000,
    }
    table = new_table(
        f"{options.look:g} s before each click, {SLICE_SECONDS:g} s a slice",
        "Image",
        "Encoding ahead",
        "first click",
        "slices waited for",
        "second click",
        "slices waited for",
    )
    for name, image in images.items():
        for ahead in (False, True):
            found = asyncio.run(measure(image, options.look, ahead))
            cells = [text for seconds, count in found for text in (f"{seconds:.2f} s", str(count))]
            table.add_row(name, "yes" if ahead else "no", *cells)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

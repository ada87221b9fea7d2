"""Measures scribbles on drawn volumes: python -m benchmarks.scribbles [--kind KIND] [--workers N].

Every volume of `click_volumes` gets one scribble in the target's middle slice of each plane, as the
first prompt of an interactive session, drawn as users draw: a jittered line, some voxels thick,
that may touch the target's border. Prints a row a kind and a plane. Takes minutes.
"""

import argparse
import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from benchmarks.bench import new_table
from benchmarks.click_volumes import COUNT, KINDS, Random, draw_click_volume
from benchmarks.phantoms import Mask, dice
from gamt import segmenters
from gamt.axes import Plane, slice_view
from gamt.io.case import Case
from gamt.lifting.budget import Budget
from gamt.lifting.pipeline import lift
from gamt.prompts import ClassPrompts, Scribble
from gamt.settings import PRESETS
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume

SHARE = (0.3, 0.7)
"""A scribble is this share of its section's extent long."""

THICKNESS = (1, 4)
"""Pixels across a scribble."""

JITTER, BENDS = 1.5, 6
"""Deviation of a hand, in pixels, and points between which a scribble is straight."""


@dataclass(frozen=True, slots=True)
class ScribbleScore:
    """How well one scribble as first prompt went.

    Attributes:
        name: of the volume.
        kind: of the volume.
        plane: of the scribble.
        dice: of the result.
    """

    name: str
    kind: str
    plane: Plane
    dice: float


def draw_stroke(section: Mask, rng: Random) -> Mask:
    """Draws a stroke along the largest piece of a section, (rows, columns) bool; not empty.

    It goes through the piece's thickest place, along its longest direction.
    """
    pieces, _ = ndimage.label(section, np.ones((3, 3)))
    piece = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    pixels = np.argwhere(piece)
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    middle = np.array(np.unravel_index(np.argmax(depth), depth.shape))
    along = np.linalg.eigh(np.cov(pixels.T, bias=True))[1][:, 1]
    places = (pixels - middle) @ along
    length = rng.uniform(*SHARE) * np.ptp(places)
    start = np.clip(-length / 2, places.min(), places.max() - length)
    points = middle + np.linspace(start, start + length, BENDS)[:, None] * along
    points += rng.normal(0, JITTER, points.shape)
    line = np.zeros(section.shape, np.bool_)
    for begin, end in itertools.pairwise(points):
        count = 2 * int(np.ceil(np.abs(end - begin).max())) + 1
        way = np.rint(np.linspace(begin, end, count)).astype(int)
        line[tuple(way.clip(0, np.subtract(section.shape, 1)).T)] = True
    thickness = int(rng.integers(THICKNESS[0], THICKNESS[1] + 1))
    stroke: Mask = ndimage.maximum_filter(line, thickness) & piece
    if not stroke.any():
        stroke[tuple(middle)] = True
    return stroke


def draw_scribble(truth: Mask, plane: Plane, rng: Random) -> Scribble:
    """Draws a scribble in the middle one of the slices of a plane that hold a target.

    Args:
        truth: (z, y, x), the target.
        plane: of the slices.
        rng: moves the hand.
    """
    axes = tuple(axis for axis in range(3) if axis != plane.normal)
    held = np.flatnonzero(truth.any(axis=axes))
    index = int(held[len(held) // 2])
    drawn = np.zeros_like(truth)
    slice_view(drawn, plane, index)[:] = draw_stroke(slice_view(truth, plane, index), rng)
    return Scribble(np.argwhere(drawn), positive=True)


def segment(
    image: npt.NDArray[np.generic],
    spacing_mm: tuple[float, float, float],
    prompts: ClassPrompts,
    previous: Mask | None = None,
) -> Mask:
    """Segments one class with the embedded segmenter and the default preset, (z, y, x) bool."""
    settings = PRESETS["default"]
    cache = EmbeddingCache(segmenters.load(segmenters.DEFAULT), settings.cache_mb * 2**20)
    volume = PreparedVolume(image, spacing_mm, cache, settings)
    before = None if previous is None else previous.astype(np.uint8)
    case = Case("scribble", image, spacing_mm, (prompts,), before)
    found: Mask = lift(case, volume, Budget(0, float("inf"))).labels == prompts.label
    return found


def score_scribbles(kind: str, number: int, seed: int) -> list[ScribbleScore]:
    """Scribbles in one volume, in each plane."""
    volume = draw_click_volume(kind, number, seed)
    scores = []
    for plane in Plane:
        rng = np.random.default_rng([seed, number, plane.normal])
        scribble = draw_scribble(volume.truth, plane, rng)
        prompts = ClassPrompts(1, scribbles=(scribble,))
        found = segment(volume.image, volume.spacing_mm, prompts)
        scores.append(ScribbleScore(volume.name, kind, plane, dice(found, volume.truth)))
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scribbles", description=__doc__)
    parser.add_argument(
        "--kind", action="append", choices=list(KINDS), help="draw these alone; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws other volumes (default 0)")
    parser.add_argument(
        "--count", type=int, default=COUNT, help=f"volumes of a kind (default {COUNT})"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args(arguments)
    for name in ("count", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: found {getattr(options, name)}, expected 1 or more")
    console = Console()
    jobs = [(kind, n) for kind in options.kind or KINDS for n in range(options.count)]
    seeds = [options.seed] * len(jobs)
    with ProcessPoolExecutor(options.workers) as pool:
        results = pool.map(score_scribbles, *zip(*jobs, strict=True), seeds)
        counted = track(results, "Scribbles", total=len(jobs), console=console, transient=True)
        scores = [one for found in counted for one in found]
    print_scores(scores, console)


def print_scores(scores: Sequence[ScribbleScore], console: Console) -> None:
    """Prints a row a kind and a plane, one for all, and the lowest scores."""
    grid = new_table("Drawn volumes: Dice after one scribble", "Kind", "Number", "Mean", "Lowest")
    for kind in dict.fromkeys(one.kind for one in scores):
        grid.add_row(kind, *_cells([one.dice for one in scores if one.kind == kind]))
    grid.add_section()
    for plane in Plane:
        cells = _cells([one.dice for one in scores if one.plane is plane])
        grid.add_row(plane.name.lower(), *cells)
    grid.add_row("all", *_cells([one.dice for one in scores]), style="bold")
    console.print(grid)
    for one in sorted(scores, key=lambda one: one.dice)[:10]:
        console.print(f"{one.name}, {one.plane.name.lower()}: Dice {one.dice:.3f}")


def _cells(values: Sequence[float]) -> tuple[str, str, str]:
    return str(len(values)), f"{np.mean(values):.3f}", f"{min(values):.3f}"


if __name__ == "__main__":
    main()

"""Measures the evaluator's scoring against others': python -m benchmarks.scoring [--official DIR].

DIR is a checkout of the organisers' repository, github.com/JunMa11/CVPR-MedSegFMCompetition, whose
functions are loaded from there and timed as they are; without it, only packages are: cc3d and
scipy for the clicks, DeepMind's surface-distance for the scores. The work is that of one
interaction, a click a class, Dice and surface Dice, on drawn volumes; every result is compared.

Each way works in a process of its own that does nothing else, one after the other. Ours is timed
once it is compiled, which is timed by itself, and of several repetitions the fastest counts, for
each way as many as `Load` says. Memory is what a process takes on top of the libraries and of the
two volumes. Prints every bar with the figure measured beside it; the exit code is 1 where one is
missed. Takes minutes, nearly all of them the others'.
"""

import argparse
import ast
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from scipy import ndimage

from benchmarks.bars import peak_bytes
from benchmarks.bench import Bar, new_table, print_bars

Labels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]

SPACING = (1.5, 0.8, 0.8)
"""Of all volumes, in mm."""

MEMORY_SHARE = 1 / 3
"""Of the official functions' memory that ours may take."""

NSD_TOLERANCE = 1e-12
"""Within which surface Dice is equal, since areas may be summed in another order."""

OFFICIAL_FILES = ("SurfaceDice.py", "CVPR25_iter_eval.py")


@dataclass(frozen=True, slots=True)
class Load:
    """Volumes to score.

    Attributes:
        shape: (z, y, x).
        classes: that are drawn.
        ratio: the bar, how many times less ours takes than the official functions.
        repetitions: of our way and of the others.
    """

    shape: Shape
    classes: int
    ratio: float
    repetitions: tuple[int, int]

    @property
    def name(self) -> str:
        """For people to read."""
        noun = "class" if self.classes == 1 else "classes"
        return f"{self.classes} {noun}, {' × '.join(map(str, self.shape))}"


LOADS = (
    Load((300, 512, 512), 13, 80.0, (5, 1)),
    Load((128, 256, 256), 1, 25.0, (9, 5)),
    Load((128, 256, 256), 5, 40.0, (9, 3)),
    Load((128, 256, 256), 20, 60.0, (9, 3)),
)


@dataclass(frozen=True, slots=True)
class Scoring:
    """What one way makes of a load.

    Attributes:
        seconds: by part and of "all", of the fastest repetition.
        taken_bytes: most memory that was held, less what was held before.
        clicks: by class the label, the kind and the voxel.
        dsc: mean Dice.
        nsd: mean surface Dice.
    """

    seconds: dict[str, float]
    taken_bytes: int
    clicks: list[list[Any]]
    dsc: float
    nsd: float

    @property
    def costs(self) -> dict[str, float]:
        """By name, with its unit."""
        seconds = {f"{part}, s": seconds for part, seconds in self.seconds.items()}
        return seconds | {"memory, MB": self.taken_bytes / 1e6}


Ways = dict[str, Callable[[Labels, Labels], Any]]


def our_ways() -> Ways:
    """Returns the evaluator's functions, by part, compiled."""
    from evaluation.clicks import simulate_clicks
    from evaluation.metrics import multi_class_dsc, multi_class_nsd

    ways: Ways = {
        "clicks": simulate_clicks,
        "DSC": multi_class_dsc,
        "NSD": lambda gts, segs: multi_class_nsd(gts, segs, SPACING),
    }
    gts, segs = draw((20, 30, 40), 2)
    for way in ways.values():
        way(gts, segs)
    return ways


def official_ways(folder: Path) -> Ways:
    """Returns the organisers' functions, by part.

    Their script can't be imported, since it evaluates at once: its functions and the loop that
    places a click a class are picked out of it and compiled on their own.
    """
    import cc3d
    import pandas as pd

    put_names_back()
    names: dict[str, Any] = {
        "np": np,
        "pd": pd,
        "cc3d": cc3d,
        "distance_transform_edt": ndimage.distance_transform_edt,
        "torch": SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)),
        "verbose": False,
    }

    distances, script = (ast.parse((folder / name).read_text()) for name in OFFICIAL_FILES)
    functions = [one for one in script.body if isinstance(one, ast.FunctionDef)]
    loops = [one for one in ast.walk(script) if isinstance(one, ast.For)]
    (loop,) = (one for one in loops if ast.unparse(one.target) == "(ind, cls)")
    exec(compile(distances, "official", "exec"), names)
    exec(compile(ast.Module([*functions], []), "official", "exec"), names)
    place = compile(ast.Module([loop], []), "official", "exec")

    def clicks(gts: Labels, segs: Labels) -> Any:
        # Their script finds the labels once a case, not at every interaction.
        labels = names["unique_gts"]
        placed: list[dict[str, Any]] = [{"fg": [], "bg": []} for _ in labels[1:]]
        order: list[list[Any]] = [[] for _ in labels[1:]]
        names.update(gts=gts, segs=segs, clicks_cls=placed, clicks_order=order)
        exec(place, names)
        return [
            (int(label), kind, kind and [int(index) for index in one[kind][0]])
            for label, one, (kind,) in zip(labels[1:], placed, order, strict=True)
        ]

    return {
        "labels": lambda gts, segs: names.update(unique_gts=np.unique(gts)),
        "clicks": clicks,
        "DSC": names["compute_multi_class_dsc"],
        "NSD": lambda gts, segs: names["compute_multi_class_nsd"](gts, segs, SPACING),
    }


def package_ways() -> Ways:
    """Returns the shortest code on top of cc3d, scipy and surface-distance, by part.

    Its clicks are right where boxes have no more than 60,000,000 voxels (docs/challenge.md, 3).
    """
    import cc3d

    package = importlib.import_module("surface_distance")
    put_names_back()

    def masks(gts: Labels, segs: Labels) -> Iterator[tuple[npt.NDArray[np.bool_], ...]]:
        return ((gts == label, segs == label) for label in np.unique(gts)[1:])

    def clicks(gts: Labels, segs: Labels) -> Any:
        placed: list[list[Any]] = []
        labels = np.unique(gts)[1:].tolist()
        for label, two in zip(labels, masks(gts, segs), strict=True):
            parts = cc3d.connected_components(two[0] != two[1], connectivity=26)
            found = cc3d.statistics(parts)
            if len(found["voxel_counts"]) == 1:
                placed.append([label, None, None])
                continue
            largest = 1 + int(np.argmax(found["voxel_counts"][1:]))
            box = found["bounding_boxes"][largest]
            depths = ndimage.distance_transform_edt(np.pad(parts[box] == largest, 1))
            deepest = np.argwhere(depths == depths.max()) - 1 + [side.start for side in box]
            voxel = deepest[np.random.RandomState(42).choice(len(deepest))].tolist()
            placed.append([label, "fg" if gts[tuple(voxel)] == label else "bg", voxel])
        return placed

    def nsd(gts: Labels, segs: Labels) -> float:
        distances = (package.compute_surface_distances(*two, SPACING) for two in masks(gts, segs))
        scores = [package.compute_surface_dice_at_tolerance(one, 2.0) for one in distances]
        return float(np.mean(scores))

    def dsc(gts: Labels, segs: Labels) -> float:
        return float(np.mean([package.compute_dice_coefficient(*two) for two in masks(gts, segs)]))

    return {"clicks": clicks, "DSC": dsc, "NSD": nsd}


def put_names_back() -> None:
    """Gives numpy and scipy the names that they no longer have and that the others use."""
    for module, name, value in (
        (np, "NaN", np.nan),
        (np, "Inf", np.inf),
        (ndimage, "filters", ndimage),
        (ndimage, "morphology", ndimage),
    ):
        setattr(module, name, value)


def draw(shape: Shape, classes: int, seed: int = 0) -> tuple[Labels, Labels]:
    """Draws organs, and a prediction that errs as predictions do.

    Organs are bumpy ellipsoids, the largest with half-axes of 0.18 of the volume's sides, the
    smallest of 0.03. Each is predicted shifted, too small, too large, cut off at one end or
    leaking, with bumps of its own; and there are a few islands.
    """
    rng = np.random.default_rng(seed)
    gts, segs = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    centres: list[npt.NDArray[np.float64]] = []
    for label, size in enumerate(np.geomspace(0.18, 0.03, classes), start=1):
        # Of some places, the one farthest from the others.
        places = rng.uniform(1.2 * size, 1 - 1.2 * size, (30, 3))
        far = [min((math.dist(one, c) for c in centres), default=0) for one in places]
        centres.append(places[int(np.argmax(far))])
        centre, radii = centres[-1] * shape, size * np.array(shape) * rng.uniform(0.8, 1, 3)
        stamp(gts, label, centre, radii, rng)
        way = label % 5
        shift = rng.uniform(-3, 3, 3) * (way == 0)
        factor = {1: 0.93, 2: 1.07}.get(way, 1.0)
        if way == 4:
            stamp(segs, label, centre + radii * (0, 0.7, 0.7), radii * 0.4, rng)
        stamp(segs, label, centre + shift, radii * factor, rng, cut=0.2 * (way == 3))
    for label in rng.integers(1, classes + 1, 6).tolist():
        stamp(segs, label, rng.uniform(0.1, 0.9, 3) * shape, rng.uniform(2, 6, 3), rng)
    return gts, segs


def stamp(
    volume: Labels,
    label: int,
    centre: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    rng: np.random.Generator,
    cut: float = 0.0,
) -> None:
    """Draws a bumpy ellipsoid (z, y, x) in voxels, without a share of its slices."""
    low = np.maximum(centre - 1.2 * radii, 0).astype(int)
    high = np.minimum(centre + 1.2 * radii + 1, volume.shape).astype(int)
    low[0] += int(cut * (high[0] - low[0]))
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = (
        ((np.arange(a, b) - c) / r).astype(np.float32)
        for a, b, c, r in zip(low, high, centre, radii, strict=True)
    )
    phases = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    waves = [np.sin(5 * axis + phase) for axis, phase in zip((z, y, x), phases, strict=True)]
    bumps = 1 + 0.06 * (waves[0][:, None, None] + waves[1][:, None] + waves[2])
    inside = (z * z)[:, None, None] + (y * y)[:, None] + x * x <= bumps
    volume[box][inside] = label


def save(load: int, file: str) -> None:
    """Draws the volumes of a load, by its index, into a file.

    To be called in a process of its own, since on Linux a process's peak memory begins with that of
    the process that started it.
    """
    gts, segs = draw(LOADS[load].shape, LOADS[load].classes)
    np.savez(file, gts=gts, segs=segs)


def run(way: str, load: int, folder: str | None, file: str) -> dict[str, Any]:
    """Scores the volumes in a file, those of a load by its index; returns a `Scoring`'s fields."""
    ways = {
        "ours": our_ways,
        "official": lambda: official_ways(Path(folder or "")),
        "packages": package_ways,
    }[way]()
    with np.load(file) as volumes:
        gts, segs = volumes["gts"], volumes["segs"]
    if prepare := ways.pop("labels", None):
        prepare(gts, segs)
    before = psutil.Process().memory_info().rss
    times, found = [], {}
    for _ in range(LOADS[load].repetitions[way != "ours"]):
        seconds = {}
        for part, function in ways.items():
            start = time.perf_counter()
            found[part] = function(gts, segs)
            seconds[part] = time.perf_counter() - start
        times.append(seconds | {"all": sum(seconds.values())})
    scoring = Scoring(
        seconds=min(times, key=lambda one: one["all"]),
        taken_bytes=peak_bytes() - before,
        clicks=found["clicks"],
        dsc=float(found["DSC"]),
        nsd=float(found["NSD"]),
    )
    return asdict(scoring)


def compile_seconds() -> float:
    """Returns how long compiling takes in this process, with all imported and nothing kept."""
    from evaluation import clicks, metrics  # noqa: F401

    start = time.perf_counter()
    our_ways()
    return time.perf_counter() - start


def child(call: Sequence[Any], **environment: str) -> Any:
    """Calls a function of this module, given with its arguments, in a process of its own.

    Raises:
        subprocess.CalledProcessError: the process failed, or was killed for its memory.
    """
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.scoring",
        "--call",
        json.dumps(call),
    ]
    folder, variables = Path(__file__).parent.parent, os.environ | environment
    done = subprocess.run(command, cwd=folder, env=variables, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--official", type=Path, help="checkout of the organisers' repository")
    # How the program calls itself.
    parser.add_argument("--call", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.call:
        name, *values = options.call
        print(json.dumps(globals()[name](*values)))
        return 0
    ways, official = ["ours"], options.official and str(options.official.resolve())
    if official:
        for file in OFFICIAL_FILES:
            if not Path(official, file).is_file():
                parser.error(f"--official {official}: found no {file} there")
        ways.append("official")
    ways.append("packages")
    console, found = Console(), []
    with tempfile.TemporaryDirectory() as folder:
        compiling = child(["compile_seconds"], NUMBA_CACHE_DIR=folder)
        console.print(f"Compiling, once per machine: {compiling:.1f} s")
        volumes = Path(folder, "volumes.npz")
        for index, load in enumerate(LOADS):
            child(["save", index, str(volumes)])
            scorings = {}
            for way in ways:
                with console.status(f"{load.name}: {way}"):
                    scorings[way] = Scoring(**child(["run", way, index, official, str(volumes)]))
            print_load(load, scorings, console)
            found += bars_of(load, scorings)
    return print_bars("Bars: scoring one interaction", found, console)


def print_load(load: Load, scorings: dict[str, Scoring], console: Console) -> None:
    """Prints what each way took, and how many times that is ours."""
    ours = scorings["ours"]
    title = f"{load.name}: DSC {ours.dsc:.3f}, NSD {ours.nsd:.3f}"
    grid = new_table(title, "", *scorings)
    for name, mine in ours.costs.items():
        costs = [one.costs.get(name) for one in scorings.values() if one is not ours]
        cells = ["" if cost is None else f"{cost:.4g} ({cost / mine:.1f} ×)" for cost in costs]
        grid.add_row(name, f"{mine:.3g}", *cells)
    console.print(grid)


def bars_of(load: Load, scorings: dict[str, Scoring]) -> list[Bar]:
    """Holds ours to its bars, and what the others found to ours."""
    ours, official = scorings["ours"], scorings.get("official")
    faster, memory = f"{load.name}: times faster", f"{load.name}: share of memory"
    least, most = f">= {load.ratio:g}", f"<= {MEMORY_SHARE:.2f}"
    if official:
        ratio = official.seconds["all"] / ours.seconds["all"]
        share = ours.taken_bytes / official.taken_bytes
        found = [
            Bar(faster, f"{ratio:.1f}", least, ratio >= load.ratio),
            Bar(memory, f"{share:.2f}", most, share <= MEMORY_SHARE),
        ]
    else:
        missing = "no --official"
        found = [Bar(faster, missing, least, None), Bar(memory, missing, most, None)]
    different = [
        way
        for way, one in scorings.items()
        if one.clicks != ours.clicks
        or one.dsc != ours.dsc
        or not abs(one.nsd - ours.nsd) <= NSD_TOLERANCE
    ]
    if len(scorings) > 1:
        figure = f"not {', '.join(different)}'s" if different else "equal"
        found.append(Bar(f"{load.name}: results", figure, "equal", not different))
    return found


if __name__ == "__main__":
    sys.exit(main())

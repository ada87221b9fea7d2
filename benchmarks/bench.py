"""Measures the method against its bars: python -m benchmarks.bench [--cases DIR].

Prints the figures in detail, then every bar with the figure measured beside it; the exit code is 1
where one is missed. Takes minutes: one of the cases is large on purpose.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import bars
from benchmarks.bars import Score
from benchmarks.samples import FOLDER
from gamt import segmenters
from gamt.io.case import read_case
from gamt.lifting.budget import Budget
from gamt.settings import PRESETS

SEEDS = range(3)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar and where the method stands.

    Attributes:
        name: what is measured.
        measured: the figure, for people to read.
        bar: what it is held to.
        met: None where it was not measured.
    """

    name: str
    measured: str
    bar: str
    met: bool | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--cases", type=Path, help="folder of npz files with gts and boxes")
    options = parser.parse_args(arguments)
    paths = [] if options.cases is None else sorted(options.cases.glob("*.npz"))
    if options.cases is not None and not paths:
        parser.error(f"--cases {options.cases}: found no npz files there")

    console = Console()
    found = [
        *phantom_bars(console),
        scan_bar(paths, console),
        *encoding_bars(),
        mirror_bar(console),
        *large_bars(console),
        *sample_bars(console),
    ]
    return print_bars(f"Bars: {segmenters.DEFAULT}, preset default", found, console)


def print_bars(title: str, found: Sequence[Bar], console: Console) -> int:
    """Prints bars and where the method stands; returns the exit code, 1 where one is missed."""
    grid = new_table(title, "Bar", "Measured", "Held to", "")
    for one in found:
        verdict = {True: "[green]met[/]", False: "[bold red]MISSED[/]", None: "not measured"}
        grid.add_row(one.name, one.measured, one.bar, verdict[one.met])
    console.print(grid)
    return int(any(one.met is False for one in found))


def phantom_bars(console: Console) -> list[Bar]:
    """Measures the phantoms over several seeds."""
    flat, vessels = [], []
    for seed in track(SEEDS, "Phantoms", console=console, transient=True):
        flat.append(bars.flat_scores(seed))
        vessels.append(bars.vessel_scores(seed))
    for title, seeds in (("Flat phantoms, boxes", flat), ("Vessels, one click", vessels)):
        heads = [f"Seed {seed}" for seed in SEEDS]
        grid = new_table(f"{title}: Dice per class", "Phantom", *heads)
        for row in zip(*seeds, strict=True):
            grid.add_row(row[0].name, *(listed(one.dice) for one in row))
        console.print(grid)
    found = []
    for seed, scores in zip(SEEDS, flat, strict=True):
        name, mean = f"Flat phantoms, boxes, seed {seed}", float(np.mean(bars.all_dice(scores)))
        found.append(at_least(f"{name}: mean Dice", mean, bars.FLAT_MEAN))
        found.append(least(f"{name}: least Dice", scores, bars.FLAT_LEAST))
    for seed, scores in zip(SEEDS, vessels, strict=True):
        name = f"Vessels, one click, seed {seed}: least Dice"
        found.append(least(name, scores, bars.VESSEL_LEAST))
    return found


def scan_bar(paths: Sequence[Path], console: Console) -> Bar:
    """Measures labelled scans that have boxes; `paths` may be empty."""
    name = "Labelled scans, boxes: above the box's ellipsoid"
    bar = f">= {bars.SCANS_SHARE:.0%} of the scans"
    boxed = [path for path in paths if bars.has_boxes(path)]
    if not boxed:
        reason = "none with boxes there" if paths else "give a folder: make bench CASES=DIR"
        return Bar(name, reason, bar, None)
    scores = [
        bars.scan_score(path)
        for path in track(boxed, "Labelled scans", console=console, transient=True)
    ]
    grid = new_table(
        "Labelled scans, boxes alone: mean Dice",
        "Case",
        "Classes",
        "Ours",
        "Ellipsoid",
        "Above",
        "Seconds",
    )
    for one in scores:
        grid.add_row(
            one.ours.name,
            str(len(one.ours.dice)),
            f"{one.ours.mean:.3f}",
            f"{one.ellipsoid.mean:.3f}",
            "yes" if one.above else "[bold red]no[/]",
            f"{one.ours.seconds:.1f}",
        )
    ours, ellipsoid = (
        float(np.mean([each.mean for each in column]))
        for column in zip(*((one.ours, one.ellipsoid) for one in scores), strict=True)
    )
    above = sum(one.above for one in scores)
    seconds = np.mean([one.ours.seconds for one in scores])
    grid.add_section()
    total = (f"{ours:.3f}", f"{ellipsoid:.3f}", f"{above} of {len(scores)}", f"{seconds:.1f}")
    grid.add_row("mean", "", *total, style="bold")
    console.print(grid)
    figure = f"{above} of {len(scores)}; mean Dice {ours:.3f}, ellipsoid {ellipsoid:.3f}"
    return Bar(name, figure, bar, above >= bars.SCANS_SHARE * len(scores))


def encoding_bars() -> list[Bar]:
    """Counts encodings."""
    found = []
    for case in bars.encoding_cases():
        counter = bars.count_encodings(case)
        figure = f"{counter.repeated} of {counter.encoded}"
        met = counter.repeated == 0 < counter.encoded
        found.append(Bar(f"Slices encoded again: {case.name}", figure, "0", met))
    return found


def mirror_bar(console: Console) -> Bar:
    """Measures how far results depend on the directions of the axes."""
    titles = ("Mirror symmetry: Dice per class", "Phantom", "z", "y", "x")
    grid, worst = new_table(*titles), (2.0, "")
    phantoms = bars.mirror_phantoms()
    for phantom in track(phantoms, "Mirror symmetry", console=console, transient=True):
        along = bars.mirror_dice(bars.phantom_case(phantom))
        grid.add_row(phantom.name, *(listed(values) for values in along))
        for axis, values in zip("zyx", along, strict=True):
            where = f"{phantom.name} class {int(np.argmin(values)) + 1} along {axis}"
            worst = min(worst, (min(values), where))
    console.print(grid)
    name = f"Mirrored along z, y, x, {len(phantoms)} phantoms: least Dice"
    return at_least(name, worst[0], bars.MIRROR_LEAST, worst[1])


def large_bars(console: Console) -> list[Bar]:
    """Measures the large case."""
    size = " × ".join(str(n) for n in bars.LARGE_SHAPE)
    name = f"{size}, {len(bars.LARGE_ELLIPSOIDS)} classes: peak memory"
    bar = f"< {bars.LARGE_GB:g} GB"
    again = "Slices encoded again: the same"
    try:
        with console.status(f"{size} voxels"):
            run = bars.measure_large()
    except subprocess.CalledProcessError as error:
        reason = f"exit status {error.returncode}"
        return [Bar(name, reason, bar, False), Bar(again, reason, "0", False)]
    peak = run.peak_bytes / 1e9
    console.print(f"{size}: Dice per class {listed(run.dice)}")
    figure = f"{peak:.2f} GB; {run.seconds:.0f} s, mean Dice {np.mean(run.dice):.3f}"
    return [
        Bar(name, figure, bar, peak < bars.LARGE_GB),
        Bar(again, f"{run.repeated} of {run.encoded}", "0", run.repeated == 0),
    ]


def sample_bars(console: Console) -> list[Bar]:
    """Measures and times the sample cases, within the time limit of one run."""
    settings = PRESETS["default"]
    grid = new_table("Speed on the sample cases", "Case", "Classes", "Dice", "Seconds", "Limit")
    results: list[Score] = []
    paths = sorted(FOLDER.glob("*.npz"))
    for path in track(paths, "Sample cases", console=console, transient=True):
        case = read_case(path)
        with np.load(path) as file:
            result = bars.score(case, file["gts"], settings)
        has_box = any(one.box is not None for one in case.prompts)
        limit = Budget.for_run(settings, has_box, 0.0).seconds_per_class * len(case.prompts)
        results.append(result)
        grid.add_row(
            result.name,
            str(len(result.dice)),
            f"{result.mean:.3f}",
            f"{result.seconds:.1f}",
            f"{limit:.0f}",
        )
    grid.add_section()
    mean = float(np.mean([result.mean for result in results]))
    seconds = f"{np.mean([result.seconds for result in results]):.1f}"
    grid.add_row("mean", "", f"{mean:.3f}", seconds, "", style="bold")
    console.print(grid)
    (template,) = (one for one in results if one.name == "MR_mni152")
    ventricles = min(template.dice[1:])
    return [
        at_least("Sample cases: mean Dice", mean, bars.SAMPLES_MEAN),
        at_least("MR_mni152, ventricles: least Dice", ventricles, bars.VENTRICLES_LEAST),
    ]


def losing_bars(title: str, losses: Sequence[float]) -> list[Bar]:
    """Holds clicks to how many of them may make a result worse.

    Args:
        title: of what was clicked.
        losses: Dice that each correcting click cost its class; negative where it gained.
    """
    some, many = (sum(loss > least for loss in losses) for least in (bars.LOSS, bars.LARGE_LOSS))
    share = some / max(len(losses), 1)
    return [
        Bar(
            f"{title}: clicks that lose > {bars.LOSS}",
            f"{share:.1%} ({some} of {len(losses)})",
            f"<= {bars.LOSING_SHARE:.0%}",
            share <= bars.LOSING_SHARE,
        ),
        Bar(f"{title}: clicks that lose > {bars.LARGE_LOSS}", str(many), "0", many == 0),
    ]


def least(name: str, scores: Iterable[Score], bar: float) -> Bar:
    """Holds every class of every case to a bar, and says which is the worst."""
    worst = min(
        (value, f"{one.name} class {label}")
        for one in scores
        for label, value in enumerate(one.dice, start=1)
    )
    return at_least(name, worst[0], bar, worst[1])


def at_least(name: str, value: float, bar: float, where: str = "") -> Bar:
    """Holds a figure to a bar; `where` it was measured is shown beside it."""
    measured = f"{value:.3f} ({where})" if where else f"{value:.3f}"
    return Bar(name, measured, f">= {bar:.3g}", bool(value >= bar))


def listed(values: Iterable[float]) -> str:
    """Returns figures for a table."""
    return " ".join(f"{value:.3f}" for value in values)


def new_table(title: str, first: str, *others: str) -> Table:
    """Returns an empty table whose first column is never wrapped."""
    grid = Table(title=title, title_justify="left")
    grid.add_column(first, no_wrap=True)
    for other in others:
        grid.add_column(other)
    return grid


if __name__ == "__main__":
    sys.exit(main())

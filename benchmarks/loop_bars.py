"""Holds the method to its bars in the challenge's loop: python -m benchmarks.loop_bars --cases DIR.

Takes labelled scans through the loop twice: as they are, and with their boxes taken out, so that
the first result comes from a click. There is no time limit, so that a busy machine gets the same
scores. Prints a row a scan, the clicks that made a class worse, then every bar with the figure
measured beside it; the exit code is 1 where one is missed. The bars are meant for the maintainers'
scans.
"""

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.accuracy import CANDIDATES, run_loop, steps, summarise
from benchmarks.bars import LOSS
from benchmarks.bench import Bar, at_least, listed, losing_bars, new_table, print_bars
from evaluation.records import CaseRecord
from gamt.io.npz import CaseError, open_npz

METHOD, ELLIPSOID = "embedded, default", "ellipsoid, balls at clicks"
"""Candidates: what is held to the bars, and what it must not be below on `ROUND_SHAPED`."""

ROUND_SHAPED = ("PET", "US")
"""Modalities on which the ellipsoid in the box is hard to beat."""

BOX_DSC, BOXED_FINAL, BOXED_AREA = 0.735, (0.85, 0.72), 3.25
"""From boxes: DSC without clicks; DSC and NSD after five clicks; area under the curve of DSC."""

CLICK_DSC, CLICKED_FINAL = 0.65, (0.80, 0.62)
"""Boxes taken out: DSC after the first click; DSC and NSD after five."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop_bars", description=__doc__)
    parser.add_argument("--cases", type=Path, required=True, help="folder of npz files with gts")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args(arguments)
    paths = sorted(options.cases.glob("*.npz"))
    if not paths:
        parser.error(f"--cases {options.cases}: found no npz files there")
    if options.workers < 1:
        parser.error(f"--workers: found {options.workers}, expected 1 or more")

    console = Console()
    try:
        with tempfile.TemporaryDirectory() as folder:
            bare = [take_boxes_out(path, Path(folder)) for path in paths]
            runs = [(METHOD, paths), (METHOD, bare), (ELLIPSOID, paths)]
            records = run_all(
                [(name, path) for name, each in runs for path in each], options.workers
            )
    except CaseError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    count = len(paths)
    stored, clicked, drawn = records[:count], records[count : 2 * count], records[2 * count :]
    print_scans("Scans as they are", stored, console)
    print_scans("Boxes taken out", clicked, console)
    found = [*stored_bars(stored, drawn), *clicked_bars(clicked)]
    return print_bars(f"Bars: {METHOD}, the challenge's loop, {count} scans", found, console)


def take_boxes_out(path: Path, folder: Path) -> Path:
    """Copies a case file into a folder, without its boxes.

    Raises:
        CaseError: the file is no npz.
    """
    copy = folder / path.name
    with open_npz(path) as source, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            if name != "boxes.npy":
                target.writestr(name, source.read(name))
    return copy


def run_all(runs: Sequence[tuple[str, Path]], workers: int) -> list[CaseRecord]:
    """Takes candidates, by name, through the loop on case files, in so many processes.

    Raises:
        CaseError: a file is broken.
    """
    names, paths = zip(*runs, strict=True)
    with ProcessPoolExecutor(workers) as pool:
        records = pool.map(_run_named, names, paths)
        console = Console(stderr=True)
        return list(track(records, "Scans", total=len(runs), console=console, transient=True))


def _run_named(name: str, path: Path) -> CaseRecord:
    return run_loop(CANDIDATES[name], path)


def print_scans(title: str, records: Sequence[CaseRecord], console: Console) -> None:
    """Prints a row a scan, and the clicks that made a class worse."""
    grid = new_table(title, "Scan", "DSC by result", "Last NSD")
    for one in records:
        by_result = listed(interaction.dsc for interaction in one.interactions)
        grid.add_row(one.name, by_result, f"{one.interactions[-1].nsd:.3f}")
    console.print(grid)
    for step in (step for one in records for step in steps(one) if step.loss > LOSS):
        where = f"{step.case} class {step.label}, click {step.click}"
        console.print(f"{where}: {step.before:.3f} -> {step.after:.3f}")


def stored_bars(records: Sequence[CaseRecord], ellipsoid: Sequence[CaseRecord]) -> list[Bar]:
    """Holds the results on scans as they are to their bars.

    Args:
        records: of the method, a scan each; those of scans without a box count after clicks alone.
        ellipsoid: of the ellipsoid, on the same scans.
    """
    title, summary = "As they are", summarise(records)
    found = []
    if summary.box is not None:
        found.append(at_least(f"{title}: box alone, DSC", summary.box[0], BOX_DSC))
    found += final_bars(title, summary.final, BOXED_FINAL)
    found.append(at_least(f"{title}: area under DSC", summary.areas[0], BOXED_AREA))
    ours, theirs = box_scores(records), box_scores(ellipsoid)
    for modality in ROUND_SHAPED:
        if modality in ours:
            name = f"{title}: {modality}, box alone, DSC"
            found.append(at_least(name, ours[modality], theirs[modality], "beside the ellipsoid"))
    return [*found, *losing_bars(title, losses(records))]


def clicked_bars(records: Sequence[CaseRecord]) -> list[Bar]:
    """Holds the results on scans whose boxes were taken out to their bars."""
    title = "Boxes taken out"
    first = float(np.mean([one.interactions[0].dsc for one in records]))
    return [
        at_least(f"{title}: first click, DSC", first, CLICK_DSC),
        *final_bars(title, summarise(records).final, CLICKED_FINAL),
        *losing_bars(title, losses(records)),
    ]


def final_bars(title: str, final: tuple[float, float], held_to: tuple[float, float]) -> list[Bar]:
    """Holds DSC and NSD after five clicks to their bars."""
    metrics = zip(("DSC", "NSD"), final, held_to, strict=True)
    return [at_least(f"{title}: five clicks, {name}", value, bar) for name, value, bar in metrics]


def box_scores(records: Sequence[CaseRecord]) -> dict[str, float]:
    """Returns the mean DSC from boxes alone, by modality, over the scans that have boxes."""
    scores: dict[str, list[float]] = {}
    for one in records:
        if one.interactions[0].number == 1:
            scores.setdefault(one.modality, []).append(one.interactions[0].dsc)
    return {modality: float(np.mean(each)) for modality, each in scores.items()}


def losses(records: Sequence[CaseRecord]) -> list[float]:
    """Returns the Dice that each click cost its class; negative where it gained."""
    return [step.loss for one in records for step in steps(one)]


if __name__ == "__main__":
    sys.exit(main())

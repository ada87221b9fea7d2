"""Compares candidates that need no checkpoint: python -m benchmarks.accuracy [--cases DIR].

Every candidate goes through the challenge's loop, a box and five simulated clicks, over the sample
cases and, with --cases, over labelled scans in the challenge's format. None has a time limit, so
that a busy machine gets the same scores. Prints Markdown: a table of means over cases, and how much
the choice of the best candidate depends on single cases. Needs the dependency group `accuracy`,
which `make bench-accuracy` gets.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.bars import LOSS, UNLIMITED
from benchmarks.candidates.candidate import Candidate, InProcess
from benchmarks.candidates.ellipsoid import ellipsoid_with_balls
from benchmarks.candidates.grabcut import grabcut
from benchmarks.candidates.histograms import ellipsoid_with_histograms
from benchmarks.candidates.lifted import lift
from benchmarks.candidates.threshold import threshold
from benchmarks.candidates.walker import random_walker
from benchmarks.samples import FOLDER
from evaluation.loop import CaseFiles, evaluate_case
from evaluation.records import MODALITIES, CaseRecord
from gamt import segmenters
from gamt.axes import Plane
from gamt.io.npz import CaseError

CANDIDATES: Mapping[str, Candidate] = {
    "ellipsoid, balls at clicks": ellipsoid_with_balls,
    "ellipsoid and 3-D histograms": ellipsoid_with_histograms,
    "random walker in 3-D": random_walker,
    "GrabCut, lifted": lift(grabcut),
    "Otsu's threshold, lifted": lift(threshold),
    "embedded, axial plane alone": lift(segmenters.load, replace(UNLIMITED, planes=(Plane.AXIAL,))),
    "embedded, default": lift(segmenters.load),
}

PACKAGES = ("cv2", "skimage")
"""Of the dependency group `accuracy`."""

HEADS = ("DSC / NSD", "box alone", "five clicks", "AUC", "steps that lose")
"""Of the first columns; those of modalities and of the time come after."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a candidate did, as means over cases.

    Attributes:
        box: DSC and NSD from the box alone, over the cases that have one; None without such.
        final: DSC and NSD after five clicks.
        areas: under the curves of DSC and NSD over the clicks, 0..4.
        losing: share of the clicks after which the clicked class had lost more than `LOSS`; the
            first click on a case without a box, which has nothing to lose, doesn't count.
        modalities: DSC after five clicks by modality.
        seconds: for a class, over all runs.
    """

    box: tuple[float, float] | None
    final: tuple[float, float]
    areas: tuple[float, float]
    losing: float
    modalities: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What would have been chosen without a case, and what it does on that case.

    Attributes:
        best: the candidate with the highest mean over the other cases.
        lead: of that mean before the second highest.
        score: of this candidate on the case left out.
        there: the candidate that is best on the case left out.
        most: its score there.
    """

    best: str
    lead: float
    score: float
    there: str
    most: float


@dataclass(frozen=True, slots=True)
class Step:
    """A click on a class that had a result before.

    Attributes:
        case: its name.
        label: of the class.
        click: 1 to 5.
        before: Dice of the class before the click.
        after: and after it.
    """

    case: str
    label: int
    click: int
    before: float
    after: float

    @property
    def loss(self) -> float:
        """Dice that the click cost; negative where it gained."""
        return self.before - self.after


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--cases", type=Path, help="folder of npz files with gts")
    options = parser.parse_args(arguments)
    folders = {"Sample cases": sorted(FOLDER.glob("*.npz"))}
    if options.cases is not None:
        folders["Labelled scans"] = sorted(options.cases.glob("*.npz"))
        if not folders["Labelled scans"]:
            parser.error(f"--cases {options.cases}: found no npz files there")
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        parser.error(f"found no {', '.join(missing)}; 'make bench-accuracy' gets them")
    try:
        for title, paths in folders.items():
            print_comparison(title, compare(CANDIDATES, paths))
    except CaseError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


def compare(
    candidates: Mapping[str, Candidate], paths: Sequence[Path]
) -> dict[str, list[CaseRecord]]:
    """Takes every candidate through the loop on every case.

    Args:
        candidates: by name.
        paths: the case files, with gts.

    Returns:
        By name, a record a case in order.

    Raises:
        CaseError: a file is broken.
    """
    records: dict[str, list[CaseRecord]] = {name: [] for name in candidates}
    runs = [(path, name) for path in paths for name in candidates]
    console = Console(stderr=True)
    for path, name in track(runs, "Cases", console=console, transient=True):
        records[name].append(run_loop(candidates[name], path))
    return records


def run_loop(candidate: Candidate, path: Path) -> CaseRecord:
    """Takes a candidate through the challenge's loop on one case file with gts.

    Raises:
        CaseError: the file is broken.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        places = work / "case", work / "log.txt", work / "prediction.npz"
        return evaluate_case(CaseFiles(path, path), InProcess(candidate), *places)


def summarise(records: Sequence[CaseRecord]) -> Summary:
    """Takes the means over cases of one candidate."""
    rows = [one.row() for one in records]
    boxed = [row for one, row in zip(records, rows, strict=True) if one.interactions[0].number == 1]
    lost = [step.loss > LOSS for one in records for step in steps(one)]
    scores: dict[str, list[float]] = {}
    for one, row in zip(records, rows, strict=True):
        scores.setdefault(one.modality, []).append(row["DSC_Final"])

    def means(rows: Sequence[Mapping[str, float]], column: str) -> tuple[float, float]:
        dsc, nsd = (np.mean([row[f"{name}_{column}"] for row in rows]) for name in ("DSC", "NSD"))
        return float(dsc), float(nsd)

    return Summary(
        box=means(boxed, "1") if boxed else None,
        final=means(rows, "Final"),
        areas=means(rows, "AUC"),
        losing=float(np.mean(lost)) if lost else 0.0,
        modalities={name: float(np.mean(found)) for name, found in scores.items()},
        seconds=float(np.mean([one.seconds / len(one.labels) for one in records])),
    )


def steps(record: CaseRecord) -> list[Step]:
    """Returns what each click did to its class; a first click without a box comes after nothing."""
    found = []
    for before, after in zip(record.interactions, record.interactions[1:], strict=False):
        classes = zip(record.labels, before.class_dsc, after.class_dsc, after.clicks, strict=True)
        for label, old, new, click in classes:
            if click is not None:
                found.append(Step(record.name, int(label), after.number - 1, old, new))
    return found


def choices(scores: Mapping[str, Sequence[float]]) -> list[Choice]:
    """Chooses the best candidate without each case in turn.

    Args:
        scores: by candidate, two at least; one score a case, two cases at least.

    Returns:
        One choice a case, in order.
    """
    names = list(scores)
    table = np.array([scores[name] for name in names])
    found = []
    for case in range(table.shape[1]):
        means = np.delete(table, case, axis=1).mean(axis=1)
        second, best = np.argsort(means)[-2:]
        there = int(np.argmax(table[:, case]))
        found.append(
            Choice(
                names[best],
                float(means[best] - means[second]),
                float(table[best, case]),
                names[there],
                float(table[there, case]),
            )
        )
    return found


def print_comparison(title: str, records: Mapping[str, Sequence[CaseRecord]]) -> None:
    """Prints the table of all candidates, and the choices among them."""
    cases = next(iter(records.values()))
    found = {one.modality for one in cases}
    modalities = sorted(found, key=lambda name: (name not in MODALITIES, name))
    print(f"\n## {title}: {len(cases)}\n")
    print(*table_head(modalities), sep="\n")
    for name, each in records.items():
        print(table_row(name, summarise(each), modalities))
    if len(cases) < 2:
        return  # without the only case there is nothing to choose by
    finals = {
        metric: {
            name: [one.row()[f"{metric}_Final"] for one in each] for name, each in records.items()
        }
        for metric in ("DSC", "NSD")
    }
    print("\n| case left out | best on the others | ahead by | its DSC here | best here |")
    print("| --- |" + " --- |" * 4)
    for record, one in zip(cases, choices(finals["DSC"]), strict=True):
        best = f"{one.there}, {one.most:.3f}"
        print(f"| {record.name} | {one.best} | {one.lead:.3f} | {one.score:.3f} | {best} |")
    print()
    for metric, scores in finals.items():
        print(f"- {metric} after five clicks: {describe(choices(scores), scores)}")


def table_head(modalities: Iterable[str]) -> tuple[str, str]:
    """Returns the two lines above the rows; columns of modalities hold DSC after five clicks."""
    heads = (*HEADS, *modalities, "s a class")
    return "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)


def table_row(name: str, summary: Summary, modalities: Iterable[str]) -> str:
    """Returns a candidate's row."""
    pairs = (summary.box, summary.final, summary.areas)
    cells = ["–" if pair is None else " / ".join(f"{one:.3f}" for one in pair) for pair in pairs]
    cells += [f"{summary.losing:.1%}", *(f"{summary.modalities[one]:.3f}" for one in modalities)]
    return "| " + " | ".join([name, *cells, f"{summary.seconds:.2f}"]) + " |"


def describe(choices: Sequence[Choice], scores: Mapping[str, Sequence[float]]) -> str:
    """Returns in one line how much the choice depends on single cases.

    Args:
        choices: one a case.
        scores: as they were chosen from.
    """
    left_out = [one.score for one in choices]
    spread = f"{np.std(left_out, ddof=1):.3f}, {min(left_out):.3f} to {max(left_out):.3f}"
    leads = [one.lead for one in choices]
    best, mean = max(((name, np.mean(each)) for name, each in scores.items()), key=lambda x: x[1])
    times = ", ".join(
        f"{name} {count} of {len(choices)} times"
        for name, count in Counter(one.best for one in choices).most_common()
    )
    return (
        f"chosen without a case: {times}, ahead by {min(leads):.3f} to {max(leads):.3f}; on the "
        f"cases left out {np.mean(left_out):.3f} (standard deviation {spread}); "
        f"on all cases {best} {mean:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())

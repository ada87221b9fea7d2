"""Prints what walks by memory are worth where errors go on from slice to slice.

python -m benchmarks.walks asks a tracker that sees the truth through such errors
(`benchmarks.oracle.WalkingOracle`) about the flat phantoms, from boxes alone. Three tables, in
Markdown: families of phantoms, kinds of errors, and settings. The last two are about one target of
each family.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import get_args

from rich.console import Console
from rich.progress import track

from benchmarks.ablation import SLICE_DICE, VARIANTS, VIEWS_ALONE, Truth, measure
from benchmarks.bars import UNLIMITED, phantom_case
from benchmarks.oracle import WalkingOracle, oracle_cases
from benchmarks.phantoms import flat_phantoms
from gamt.axes import Plane
from gamt.settings import Propagation, Settings

AXIAL_ALONE = replace(VIEWS_ALONE, planes=(Plane.AXIAL,))

PROPAGATIONS: tuple[Propagation, ...] = get_args(Propagation)

KINDS: Mapping[str, WalkingOracle] = MappingProxyType(
    {
        "0.85 a slice": WalkingOracle(SLICE_DICE),
        "the end is noticed": WalkingOracle(SLICE_DICE, overrun=0),
        "0.90 by memory": WalkingOracle(SLICE_DICE, 0.90),
        "0.95 by memory, less 0.01 a step": WalkingOracle(SLICE_DICE, 0.95, drift=0.01),
    }
)
"""Kinds of errors; each differs from the first in what it is named by."""

ROWS: Mapping[str, Settings] = MappingProxyType(
    {
        "axial plane alone, prompts": AXIAL_ALONE,
        "axial plane alone, memory": replace(AXIAL_ALONE, propagation="memory"),
        **{name: replace(UNLIMITED, propagation=name) for name in PROPAGATIONS},
    }
)

CHANGED = (
    "default",
    "votes as they are",
    "votes smoothed over 1.4 voxels",
    "no vote of the box's ellipsoid",
    "its vote 1",
    "fusion by the median",
    "fusion by STAPLE",
    "range percentile 50",
    "walks end at no overlap",
    "walks end at twice the area",
)
"""Rows of `benchmarks.ablation.VARIANTS` that may matter to walks by memory."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walks", description=__doc__)
    parser.parse_args(arguments)
    of_family = families()
    first = [cases[0] for cases in of_family.values()]
    one = ("axial plane alone, memory", *PROPAGATIONS)
    print_table(
        "mean Dice (lowest target)",
        one,
        {
            family: [partial(measure, cases, WalkingOracle(SLICE_DICE), ROWS[name]) for name in one]
            for family, cases in of_family.items()
        },
    )
    print_table(
        "three planes, unless said",
        KINDS,
        {
            name: [partial(measure, first, kind, settings) for kind in KINDS.values()]
            for name, settings in ROWS.items()
        },
    )
    print_table(
        "0.85 a slice",
        ("memory", "both"),
        {
            name: [
                partial(measure, first, KINDS["0.85 a slice"], replace(settings, propagation=each))
                for each in ("memory", "both")
            ]
            for name, settings in VARIANTS.items()
            if name in CHANGED
        },
    )


def families() -> dict[str, list[Truth]]:
    """Returns the targets of each family of flat phantoms, each as a case of its own."""
    return {one.name: oracle_cases(phantom_case(one), one.truth) for one in flat_phantoms()}


def print_table(
    corner: str, columns: Iterable[str], rows: Mapping[str, Sequence[Callable[[], str]]]
) -> None:
    """Prints a table in Markdown, row by row as it is measured.

    Args:
        corner: the first column's head.
        columns: the heads of the others.
        rows: by name, what measures each of their cells.
    """
    heads = [corner, *columns]
    print("| " + " | ".join(heads) + " |")
    print("| --- |" + " --- |" * (len(heads) - 1))
    console = Console(stderr=True)
    for name, cells in track(rows.items(), corner, console=console, transient=True):
        print(f"| {name} | " + " | ".join(cell() for cell in cells) + " |", flush=True)
    print()


if __name__ == "__main__":
    main()

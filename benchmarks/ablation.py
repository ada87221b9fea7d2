"""Prints what each part of the lifting is worth: python -m benchmarks.ablation [--cases DIR].

Every row changes one setting of the default preset. Columns: the noisy oracle (`benchmarks.oracle`)
on the flat phantoms, which shows what lifting makes of masks that are wrong by a stated amount; the
embedded segmenter on the same phantoms; and, with --cases, both on labelled scans. All from boxes
alone. Prints Markdown.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.bars import UNLIMITED, dice_of, has_boxes, phantom_case
from benchmarks.oracle import NoisyOracle, oracle_cases
from benchmarks.phantoms import Labels, flat_phantoms
from gamt import segmenters
from gamt.axes import Plane
from gamt.io.case import Case, read_case, read_volume
from gamt.predict import predict_case
from gamt.segmenters.base import Segmenter
from gamt.settings import Settings

SLICE_DICE = 0.85
"""Of the oracle's answers with the truth."""

AXIAL = (Plane.AXIAL,)
TWO = (Plane.AXIAL, Plane.CORONAL)

VIEWS_ALONE = replace(UNLIMITED, shape_weight=0.0, guide_weight=0.0, vote_blur=0.0)

VARIANTS: dict[str, Settings] = {
    "default": UNLIMITED,
    "axial plane alone": replace(UNLIMITED, planes=AXIAL),
    "axial and coronal planes": replace(UNLIMITED, planes=TWO),
    "no vote of the box's ellipsoid": replace(UNLIMITED, shape_weight=0.0),
    "its vote 0.3": replace(UNLIMITED, shape_weight=0.3),
    "its vote 1": replace(UNLIMITED, shape_weight=1.0),
    "no ellipsoid in prompts": replace(UNLIMITED, guide_weight=0.0),
    "votes as they are": replace(UNLIMITED, vote_blur=0.0),
    "votes smoothed over 0.7 voxels": replace(UNLIMITED, vote_blur=0.7),
    "votes smoothed over 1.4 voxels": replace(UNLIMITED, vote_blur=1.4),
    "views alone: no ellipsoid, no smoothing": VIEWS_ALONE,
    "the same, axial plane alone": replace(VIEWS_ALONE, planes=AXIAL),
    "range percentile 50": replace(UNLIMITED, range_percentile=50.0),
    "range percentile 90 (paper)": replace(UNLIMITED, range_percentile=90.0),
    "grid of 2 mm": replace(UNLIMITED, voxel_mm=2.0),
    "crop of 64 voxels": replace(UNLIMITED, crop_voxels=64),
    "opening": replace(UNLIMITED, smoothing="opening"),
    "closing": replace(UNLIMITED, smoothing="closing"),
    "largest component": replace(UNLIMITED, largest_component=True),
    "fusion by the median": replace(UNLIMITED, fusion="median"),
    "fusion by STAPLE": replace(UNLIMITED, fusion="staple"),
    "percentiles 0 and 100": replace(UNLIMITED, low_percentile=0.0, high_percentile=100.0),
    "no crop margin": replace(UNLIMITED, crop_margin=0.0),
    "no margin around slices' boxes": replace(UNLIMITED, box_margin=0.0),
    "walks end at no quality": replace(UNLIMITED, min_quality=0.0),
    "walks end at no overlap": replace(UNLIMITED, min_overlap=0.0),
    "walks end at twice the area": replace(UNLIMITED, max_growth=2.0),
}

Truth = tuple[Case, Labels]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--cases", type=Path, help="folder of npz files with gts and boxes")
    options = parser.parse_args(arguments)
    phantoms = flat_phantoms()
    flat = [(phantom_case(one), one.truth) for one in phantoms]
    oracle = [one for case, truth in flat for one in oracle_cases(case, truth)]
    paths = sorted(options.cases.glob("*.npz")) if options.cases else []
    scans = [(read_case(path), read_volume(path, "gts")) for path in paths if has_boxes(path)]
    columns: list[tuple[str, Sequence[Truth], Callable[[], Segmenter]]] = [
        (f"oracle, {SLICE_DICE:g} a slice", oracle, lambda: NoisyOracle(SLICE_DICE)),
        ("embedded, phantoms", flat, segmenters.load),
    ]
    if scans:
        targets = [one for case, truth in scans for one in oracle_cases(case, truth)]
        name = f"oracle, {len(targets)} targets of {len(scans)} scans"
        columns.append((name, targets, lambda: NoisyOracle(SLICE_DICE)))
        columns.append((f"embedded, {len(scans)} scans", scans, segmenters.load))
    print("| mean Dice (lowest class) | " + " | ".join(name for name, _, _ in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name, settings in track(
        VARIANTS.items(), "Variants", console=Console(stderr=True), transient=True
    ):
        cells = [measure(cases, make(), settings) for _, cases, make in columns]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def measure(cases: Sequence[Truth], segmenter: Segmenter, settings: Settings) -> str:
    """Returns the mean over cases of the mean Dice over classes, and the lowest class's."""
    scores = []
    for case, truth in cases:
        labels = [one.label for one in case.prompts]
        scores.append(dice_of(truth, predict_case(case, segmenter, settings).labels, labels))
    mean = np.mean([np.mean(one) for one in scores])
    return f"{mean:.3f} ({min(map(min, scores)):.3f})"


if __name__ == "__main__":
    main()

"""Segments the sample cases and shows the results: python -m tests.cases.run [CASES...].

Prints Dice and time per case, and draws one picture per case into the folder `out`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.phantoms import Labels, dice
from benchmarks.samples import FOLDER
from gamt import segmenters
from gamt.axes import Plane, slice_view
from gamt.io.case import read_case
from gamt.predict import predict_case
from gamt.segmenters.base import Segmenter
from gamt.settings import PRESETS

TRUTH_COLOR: Final = "#25e6f0"
RESULT_COLORS: Final = ("#ff9f2e", "#ff6ad5", "#ffe14d", "#35d07f", "#ff5c5c", "#b39dff", "#c8f169")
"""Of the classes, in turn; cyan, as on the page of `gamt explain`, is the truth alone."""

TRUTH_STYLE: Final = "dashed"
RESULT_STYLE: Final = "solid"

CLASS_NAMES: Final = {
    "CT_phantom": ("liver", "right kidney", "left kidney", "spleen", "aorta"),
    "CT_vessels_phantom": ("portal vein", "hepatic vein"),
    "MR_mni152": ("brain tissue", "right lateral ventricle", "left lateral ventricle"),
    "MR_phantom": ("peripheral zone", "transition zone", "bladder"),
    "US_phantom": ("left ventricle", "its muscle", "left atrium"),
}
"""What the labels 1, 2, ... of the sample cases are, where they have names."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One segmented case, with Dice per class (label 1 first)."""

    name: str
    image: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    truth: Labels
    labels: Labels
    dice: tuple[float, ...]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.cases.run", description=__doc__)
    parser.add_argument("cases", nargs="*", type=Path, help="npz files with gts; default: all here")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    options = parser.parse_args(arguments)

    console = Console()
    segmenter = segmenters.load(segmenters.DEFAULT)
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    paths = options.cases or sorted(FOLDER.glob("*.npz"))
    for path in track(paths, f"Segmenting with {segmenter.name}", console=console):
        result = segment(path, segmenter)
        picture(result).savefig(options.out / f"{result.name}.png")
        results.append(result)
    console.print(table(results))
    console.print(f"Pictures: {options.out}/*.png (cyan and dashed: the truth)")


def segment(path: Path, segmenter: Segmenter) -> Result:
    """Segments the case at `path` and compares it with the file's ground truth."""
    case = read_case(path)
    prediction = predict_case(case, segmenter, PRESETS["default"])
    with np.load(path) as file:
        truth = file["gts"]
    return Result(
        name=case.name,
        image=case.image,
        spacing_mm=case.spacing_mm,
        truth=truth,
        labels=prediction.labels,
        dice=dice_per_class(truth, prediction.labels),
        seconds=prediction.seconds,
    )


def dice_per_class(truth: Labels, labels: Labels) -> tuple[float, ...]:
    """Returns the Dice of labels 1..K of `truth`."""
    return tuple(dice(truth == k, labels == k) for k in range(1, int(truth.max()) + 1))


def table(results: Sequence[Result]) -> Table:
    """Returns the overview that the command prints."""
    grid = Table()
    grid.add_column("Case", no_wrap=True)
    for title in ("Classes", "Mean Dice", "Dice per class", "Seconds"):
        grid.add_column(title, justify="left" if title == "Dice per class" else "right")
    for result in results:
        scores = " ".join(f"{score:.2f}" for score in result.dice)
        mean, seconds = f"{np.mean(result.dice):.3f}", f"{result.seconds:.1f}"
        grid.add_row(result.name, str(len(result.dice)), mean, scores, seconds)
    if len(results) > 1:
        mean = f"{np.mean([np.mean(result.dice) for result in results]):.3f}"
        total = f"{sum(result.seconds for result in results):.1f}"
        grid.add_section()
        grid.add_row("all", "", mean, "", total, style="bold")
    return grid


def picture(result: Result) -> Figure:
    """Returns three orthogonal slices with the contours of truth and prediction."""
    depth, height, width = np.array(result.truth.shape) * result.spacing_mm
    widths = {Plane.AXIAL: width, Plane.CORONAL: width, Plane.SAGITTAL: height}
    ratios = [widths[plane] / max(depth, height) for plane in Plane]
    figure = Figure(figsize=(min(4.2 * sum(ratios), 18) + 0.5, 5.4), dpi=110, layout="constrained")
    for axes, plane in zip(figure.subplots(1, 3, width_ratios=ratios), Plane, strict=True):
        draw_slice(axes, result, plane, best_slice(result.truth, plane))
    figure.suptitle(f"{result.name}: mean Dice {np.mean(result.dice):.3f}")
    handles = [Line2D([], [], color=TRUTH_COLOR, linestyle=TRUTH_STYLE, label="truth")]
    for label, score in enumerate(result.dice, start=1):
        title = f"{name_of(result.name, label)}: {score:.2f}"
        handles.append(Line2D([], [], color=color_of(label), label=title))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return figure


def best_slice(truth: Labels, plane: Plane) -> int:
    """Returns the slice that shows the classes at their largest, all classes weighing the same.

    The slice through the targets' centre would often miss all of them, where there are several.
    """
    shown = np.zeros(truth.shape[plane.normal])
    for label in range(1, int(truth.max()) + 1):
        area = (truth == label).sum(axis=(plane.row_axis, plane.column_axis))
        shown += area / max(int(area.max()), 1)
    return int(shown.argmax())


def draw_slice(axes: Axes, result: Result, plane: Plane, index: int) -> None:
    """Draws one slice; z points upwards, all else as stored, and millimetres are square."""
    spacing = result.spacing_mm
    upwards = plane is not Plane.AXIAL
    axes.imshow(
        slice_view(result.image, plane, index),
        cmap="gray",
        vmin=float(result.image.min()),
        vmax=float(result.image.max()),
        aspect=spacing[plane.row_axis] / spacing[plane.column_axis],
        origin="lower" if upwards else "upper",
    )
    for labels, style in ((result.labels, RESULT_STYLE), (result.truth, TRUTH_STYLE)):
        pixels = slice_view(labels, plane, index)
        for label in range(1, len(result.dice) + 1):
            mask = pixels == label
            if mask.any():
                # A frame of zeros closes the contours of a mask that reaches the edge.
                padded = np.pad(mask.astype(float), 1)
                rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
                axes.contour(
                    columns,
                    rows,
                    padded,
                    levels=[0.5],
                    colors=[TRUTH_COLOR if style == TRUTH_STYLE else color_of(label)],
                    linestyles=style,
                    linewidths=1.1,
                )
    axes.set_title(f"{plane.name.lower()} {index}", fontsize="medium")
    axes.set_axis_off()


def color_of(label: int) -> str:
    """Returns the colour of a class in the result."""
    return RESULT_COLORS[(label - 1) % len(RESULT_COLORS)]


def name_of(case: str, label: int) -> str:
    """Returns what a class of a sample case is called."""
    names = CLASS_NAMES.get(case, ())
    return names[label - 1] if label <= len(names) else f"class {label}"


if __name__ == "__main__":
    main()

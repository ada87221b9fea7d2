"""``gamt explain``: a page that shows how a case is segmented."""

from pathlib import Path
from typing import Annotated

import typer

from gamt.cli.console import UsageError, start_log
from gamt.cli.options import (
    Cache,
    Changes,
    Device,
    Dtype,
    NoBudget,
    Preset,
    SegmenterName,
    Verbose,
    Weights,
    check_output,
    choose_predict_settings,
    load_segmenter,
)

EPILOG = """
For every class the page shows, plane by plane, which slices were planned and visited, where each
walk ended and why, what the plane voted for, and what fusing, corrections and the other classes
made of it. If the file holds the ground truth (gts), every step has its Dice, which tells the
first one that goes wrong.

\b
Examples:
  gamt explain CT_case.npz
  gamt explain CT_case.npz --out why.html --no-budget
  gamt explain CT_case.npz --segmenter sam_vit_b --set max_growth=2

The result is that of 'gamt predict' with the same options. It needs jinja2 and pillow:
pip install 'gamt[explain]', in a clone 'make setup'.

Exit status: 0 if the page was written, 1 if the case can't be read or segmented, 2 for wrong
arguments.
"""


def explain(
    source: Annotated[
        Path, typer.Argument(metavar="CASE", help="One of the challenge's npz files.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The page.  [default: the case's name with .html, in the working directory]",
        ),
    ] = None,
    segmenter: SegmenterName = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    changes: Changes = None,
    cache: Cache = None,
    no_budget: NoBudget = False,
    verbose: Verbose = None,
) -> None:
    """Writes a page that shows how a case is segmented, to see why the result is wrong."""
    start_log(verbose)
    out = Path(f"{source.stem}.html") if out is None else out
    check_output(out, (".html",))
    from gamt.explain.recorder import explain_case
    from gamt.io.case import read_case, read_truth
    from gamt.lifting.budget import process_start
    from gamt.predict import log_prediction

    try:
        from gamt.explain.page import write_page
    except ImportError as error:
        raise UsageError(
            f"gamt explain needs the package {error.name}: "
            "pip install 'gamt[explain]', in a clone make setup"
        ) from error

    settings = choose_predict_settings(preset, changes, no_budget)
    model = load_segmenter(segmenter, preset, weights, device, dtype)
    case = read_case(source)
    truth = read_truth(source, case.image.shape)
    explanation = explain_case(case, model, settings, truth, process_start(), cache)
    write_page(explanation, out)
    log_prediction(case, explanation.prediction, model, explanation.prediction.seconds)
    typer.echo(out)

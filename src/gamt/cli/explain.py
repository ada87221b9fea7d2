"""``gamt explain``: a page that shows how a case is segmented."""

from pathlib import Path
from typing import Annotated

import typer

from gamt.cli.console import UsageError, echo, progress_bar, shows_progress, start_log
from gamt.cli.options import (
    Boxes,
    Cache,
    Changes,
    Clicks,
    Device,
    Dtype,
    ImageOptions,
    LabelNames,
    Negatives,
    NoBudget,
    PredictOptions,
    Preset,
    Previous,
    Prompts,
    PropagationName,
    Ras,
    ResamplePrevious,
    ScaleName,
    SegmenterName,
    Verbose,
    Volume,
    Weights,
    WindowText,
    check_output,
    is_npz,
    refuse_options,
)

EPILOG = """
For every class the page shows, plane by plane, which slices were planned and visited, where each
walk ended and why, what the plane voted for, and what fusing, corrections and the other classes
made of it. With the ground truth, of the file (gts) or of --labels, every step has its Dice, which
tells the first one that goes wrong.

\b
Examples:
  gamt explain CT_case.npz
  gamt explain CT_case.npz --out why.html --no-budget
  gamt explain scan.nii.gz --label liver=1 --box liver:40,60,10,210,190,55 --labels truth.nii.gz
  gamt explain scan.nii.gz --prompts liver.prompts.json
  gamt explain scan.nii.gz --previous liver.nii.gz --negative 90,70,30
  gamt explain CT_case.npz --segmenter sam_vit_b --set max_growth=2

The result is that of 'gamt predict', or for an image that of 'gamt segment', with the same options.
Prompts are for images; a case has its own. It needs jinja2 and pillow:
pip install 'gamt[explain]', in a clone 'make setup'.

\b
Exit status:
  0    the page is written
  3    it is written, and the segmentation is degraded: the segmenter failed
       at some slices, or it was cut short, is coarser for lack of memory, or
       a class is empty
  1    there is none: the case can't be read or segmented, or nothing written
  2    wrong arguments
"""


def explain(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CASE", help="One of the challenge's npz files, or an image as for 'segment'."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The page.  [default: the case's name with .html, in the working directory]",
        ),
    ] = None,
    boxes: Boxes = None,
    clicks: Clicks = None,
    negatives: Negatives = None,
    prompts: Prompts = None,
    ras: Ras = False,
    previous: Previous = None,
    resample_previous: ResamplePrevious = False,
    volume: Volume = None,
    label_names: LabelNames = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The true segmentation of an image."),
    ] = None,
    segmenter: SegmenterName = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    changes: Changes = None,
    window: WindowText = None,
    scale: ScaleName = None,
    propagation: PropagationName = None,
    cache: Cache = None,
    no_budget: NoBudget = False,
    verbose: Verbose = None,
) -> None:
    """Writes a page that shows how a case is segmented, to see why the result is wrong."""
    start_log(verbose)
    is_image = not is_npz(source)
    if not is_image:
        options: dict[str, object] = {
            "--box": boxes,
            "--click": clicks,
            "--negative": negatives,
            "--prompts": prompts,
            "--ras": ras,
            "--previous": previous,
            "--resample-previous": resample_previous,
            "--volume": volume,
            "--labels": labels,
        }
        refuse_options(options, f"only for images; {source} is a case, which has its own prompts")
    from gamt.io.formats import strip_suffix

    out = out or Path(f"{strip_suffix(source) if is_image else source.stem}.html")
    check_output(out, ".html")
    from gamt.cli.label_names import parse_label_names
    from gamt.explain.recorder import explain_case
    from gamt.io.case import read_case, read_truth
    from gamt.io.files import refuse_overwrite, remove_partials
    from gamt.io.labels import warn_of_unused_names
    from gamt.lifting.budget import process_start
    from gamt.plausibility import warn_of_input, warn_of_scale
    from gamt.predict import COMPLETE, log_prediction

    try:
        from gamt.explain.page import write_page
    except ImportError as error:
        raise UsageError(
            f"gamt explain needs the package {error.name}: "
            "pip install 'gamt[explain]', in a clone 'make setup'"
        ) from error

    refuse_overwrite(out, [source, *filter(None, [previous, labels]), *(prompts or [])])
    remove_partials(out.parent)
    # Should a segmenter change the working directory, they are still the same.
    written, cache = out.absolute(), cache and cache.absolute()
    chosen = PredictOptions(
        segmenter=segmenter,
        weights=weights,
        device=device,
        dtype=dtype,
        preset=preset,
        changes=changes,
        window=window,
        scale=scale,
        propagation=propagation,
        cache=cache,
        no_budget=no_budget,
    )
    # As 'gamt segment' does, an image takes the time that it takes.
    settings = chosen.choose_settings(budget=False if is_image else None)
    if is_image:
        from gamt.cli.image_case import read_image_case, read_image_truth

        given = ImageOptions(
            volume=volume,
            boxes=boxes,
            clicks=clicks,
            negatives=negatives,
            prompts=prompts,
            ras=ras,
            previous=previous,
            resample_previous=resample_previous,
            label_names=label_names,
            window=window,
        )
        scan = read_image_case(source, given)
        truth = None if labels is None else read_image_truth(labels, scan)
        case, names = scan.case, scan.class_names
    else:
        case = read_case(source)
        truth = read_truth(source, case.image.shape)
        names = {label: name for name, label in parse_label_names(label_names).items()}
        warn_of_unused_names(names, [one.label for one in case.prompts], source.name)
    model = chosen.load_segmenter(settings)
    warn_of_input(case, names)
    warn_of_scale(case, settings.scale, names)
    with progress_bar(shows_progress(verbose), "Slices") as progress:
        explanation = explain_case(
            case, model, settings, truth, process_start(), cache, names, progress
        )
    write_page(explanation, written)
    prediction = explanation.prediction
    log_prediction(case, prediction, model, prediction.seconds, names)
    echo(out)
    if prediction.status != COMPLETE:
        raise typer.Exit(3)

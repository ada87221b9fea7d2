"""``gamt segment``: one's own scan."""

from pathlib import Path
from typing import Annotated

import typer

from gamt.cli.console import UsageError, start_log
from gamt.cli.options import (
    NIFTI_SUFFIXES,
    Boxes,
    Cache,
    Changes,
    Clicks,
    Device,
    Dtype,
    Negatives,
    Preset,
    Ras,
    SegmenterName,
    Verbose,
    Weights,
    check_output,
    load_segmenter,
)

MAX_LABEL = 255  # segmentations are uint8

EPILOG = """
\b
Prompts are voxel indices I,J,K of the image's array, from 0 on, as viewers
such as ITK-SNAP (less 1) and FSLeyes show them; or, with --ras, millimetres.
  --box 40,60,10,210,190,55    the most information in one prompt
  --click 120,88,30            for targets that no box fits, such as vessels
  --negative 90,70,30          takes away what doesn't belong
Several targets: begin a prompt with the target's label and a colon.

\b
Examples:
  gamt segment scan.nii.gz -o liver.nii.gz --box 40,60,10,210,190,55
  gamt segment scan.nii.gz -o both.nii.gz --box 1:40,60,10,210,190,55 --click 2:99,50,20
  gamt segment scan.nii.gz -o node.nii.gz --ras --click=-31.5,12,-208
  gamt segment scan.nii.gz -o better.nii.gz --previous liver.nii.gz --negative 90,70,30
"""


def segment(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A 3-D NIfTI image, in any orientation.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The segmentation, NIfTI, uint8, voxel by voxel on the image.",
        ),
    ],
    boxes: Boxes = None,
    clicks: Clicks = None,
    negatives: Negatives = None,
    ras: Ras = False,
    previous: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An earlier segmentation to correct. Labels without a prompt stay as they are.",
        ),
    ] = None,
    segmenter: SegmenterName = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    changes: Changes = None,
    cache: Cache = None,
    verbose: Verbose = None,
) -> None:
    """Segments targets in a NIfTI image.

    It takes the time that it takes, unless the setting budget is true.
    """
    start_log(verbose)
    check_output(output, NIFTI_SUFFIXES)
    import numpy as np

    from gamt.cli.environment import choose_settings
    from gamt.cli.prompt_text import parse_prompts
    from gamt.io import nifti
    from gamt.io.case import Case
    from gamt.io.labels import number_labels, number_prompts, restore_labels
    from gamt.predict import log_prediction, predict_case

    settings = choose_settings(preset, changes or [], budget=False)
    scan = nifti.read_image(image)
    prompts = parse_prompts(scan, boxes, clicks, negatives, ras)
    if not prompts:
        raise UsageError("expected at least one --box, --click or --negative")
    if max(prompts) > MAX_LABEL:
        raise UsageError(f"found label {max(prompts)}, expected labels from 1 to {MAX_LABEL}")
    earlier = None if previous is None else nifti.read_labels(previous, scan)
    if earlier is not None and earlier.max() > MAX_LABEL:
        raise UsageError(f"found label {earlier.max()} in {previous}, expected at most {MAX_LABEL}")
    model = load_segmenter(segmenter, preset, weights, device, dtype)
    case = Case(
        scan.name,
        scan.array,
        scan.spacing_mm,
        number_prompts(prompts.values()),
        None if earlier is None else number_labels(earlier, list(prompts)),
    )
    prediction = predict_case(case, model, settings, cache=cache)
    labels = restore_labels(prediction.labels, list(prompts))
    if earlier is not None:
        stays = (labels == 0) & ~np.isin(earlier, list(prompts))
        labels[stays] = earlier[stays]
    nifti.write_image(output, labels, like=scan)
    log_prediction(case, prediction, model, prediction.seconds)

"""``gamt segment``: one's own scan."""

from pathlib import Path
from typing import Annotated

import typer

from gamt.cli.console import UsageError, start_log
from gamt.cli.options import (
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
    Volume,
    Weights,
    check_image_output,
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
        Path,
        typer.Argument(
            metavar="IMAGE",
            help="A 3-D image in any orientation: NIfTI; with the extra 'itk' also NRRD, "
            "MetaImage, or a DICOM series, by its folder or one of its files.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The segmentation, uint8, voxel by voxel on the image, in the format of the "
            "suffix: .nii, .nii.gz; with the extra 'itk' also .nrrd, .seg.nrrd, .mha, .mhd.",
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
    resample_previous: Annotated[
        bool,
        typer.Option(
            "--resample-previous",
            help="The earlier segmentation may lie on another grid: take the nearest voxels.",
        ),
    ] = False,
    volume: Volume = None,
    segmenter: SegmenterName = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    changes: Changes = None,
    cache: Cache = None,
    verbose: Verbose = None,
) -> None:
    """Segments targets in an image.

    It takes the time that it takes, unless the setting budget is true.
    """
    start_log(verbose)
    check_image_output(output)
    import numpy as np

    from gamt.cli.environment import choose_settings
    from gamt.cli.prompt_text import parse_prompts
    from gamt.io.case import Case
    from gamt.io.image import GridError, read_image, read_labels, write_image
    from gamt.io.labels import match_previous, number_labels, number_prompts, restore_labels
    from gamt.predict import log_prediction, predict_case

    settings = choose_settings(preset, changes or [], budget=False)
    scan = read_image(image, volume)
    prompts = parse_prompts(scan, boxes, clicks, negatives, ras)
    if not prompts:
        raise UsageError("expected at least one --box, --click or --negative")
    if max(prompts) > MAX_LABEL:
        raise UsageError(f"found label {max(prompts)}, expected labels from 1 to {MAX_LABEL}")
    earlier = None
    if previous is not None:
        try:
            earlier = read_labels(previous, scan, resample_previous)
        except GridError as error:
            raise UsageError(f"{error}; --resample-previous takes the nearest voxels") from error
        earlier = match_previous(earlier, list(prompts))
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
    write_image(output, labels, like=scan)
    log_prediction(case, prediction, model, prediction.seconds)

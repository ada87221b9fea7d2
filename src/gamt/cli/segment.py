"""``gamt segment``: one's own scan."""

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gamt.cli.console import echo, progress_bar, shows_progress, start_log
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
    check_image_output,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gamt.cli.image_case import ImageCase

EPILOG = """
\b
Prompts are voxel indices I,J,K of the image's array, from 0 on, as viewers
such as ITK-SNAP (less 1) and FSLeyes show them; or, with --ras, millimetres.
  --box 40,60,10,210,190,55    the most information in one prompt
  --click 120,88,30            begins a target, or adds to that of --previous
  --negative 90,70,30          takes away what doesn't belong
Several targets: begin a prompt with the target's label, or its name, and a colon.
Boxes count as said before clicks, and clicks before negative ones, in whatever order they
are typed. Where a first click gives too little or too much: --scale large, or tight, with
--prompts NAME.prompts.json, not with --previous. A box on one slice gives that slice alone.
The result's prompts are kept beside it, in scan_seg.prompts.json for scan_seg.nii.gz, and
--previous goes on from them, in the same window of intensities: a later click can't undo an
earlier one. --prompts begins anew with such a file, or with points and boxes from 3D Slicer
(.mrk.json); there, points outside of the target go into a list that has "negative" in its name.
A box is told as it is understood, such as "x 40-210, y 60-190, z 10-55": x, y, z are the
file's first, second and third axis or, with --ras, the scanner's.

\b
Examples:
  gamt segment scan.nii.gz -o liver.nii.gz --box 40,60,10,210,190,55
  gamt segment scan.nii.gz -o both.nii.gz --box 1:40,60,10,210,190,55 --click 2:99,50,20
  gamt segment scan.nii.gz -o liver.nii.gz --label liver=1 --box liver:40,60,10,210,190,55
  gamt segment scan.nii.gz -o node.nii.gz --ras --click=-31.5,12,-208
  gamt segment ct.nii.gz -o nodule.nii.gz --box 110,80,28,130,96,33 --window lung
  gamt segment ct.nii.gz -o vessel.nii.gz --click 120,88,30
  gamt segment ct.nii.gz -o larger.nii.gz --prompts vessel.prompts.json --scale large
  gamt segment scan.nii.gz -o better.nii.gz --previous liver.nii.gz --negative 90,70,30
  gamt segment scan.nii.gz -o liver.nii.gz --prompts R.mrk.json --prompts F.mrk.json

\b
Exit status:
  0    the segmentation is written
  3    it is written, but degraded: the segmenter failed at some slices, or it
       was cut short, is coarser for lack of memory, or a class is empty
  1    there is none: the image can't be read or segmented, or nothing written
  2    wrong arguments
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
    prompts: Prompts = None,
    ras: Ras = False,
    previous: Previous = None,
    resample_previous: ResamplePrevious = False,
    volume: Volume = None,
    label_names: LabelNames = None,
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
    verbose: Verbose = None,
) -> None:
    """Segments targets in an image.

    It takes the time that it takes, unless the setting budget is true.
    """
    start_log(verbose)
    check_image_output(output)
    from gamt.cli.image_case import read_image_case
    from gamt.io.files import atomic_write, refuse_overwrite, remove_partials
    from gamt.io.image import write_image
    from gamt.io.prompts_file import prompts_path, refuse_other_content, write_prompts
    from gamt.plausibility import warn_of_input, warn_of_scale
    from gamt.predict import COMPLETE, log_prediction, predict_case

    inputs = [image, *(prompts or [])]
    if previous is not None:
        inputs += [previous, prompts_path(previous)]
    refuse_overwrite(output, inputs)
    # What is written later lies where it was asked for, should a segmenter change the working
    # directory.
    written, cache = output.absolute(), cache and cache.absolute()
    prompts_output = prompts_path(written)
    refuse_overwrite(prompts_output, inputs)
    remove_partials(output.parent)
    refuse_other_content(prompts_output)
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
    )
    settings = chosen.choose_settings(budget=False)
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
    scan = read_image_case(image, given)
    model = chosen.load_segmenter(settings)
    warn_of_input(scan.case, scan.class_names)
    warn_of_scale(scan.case, settings.scale, scan.class_names)
    with progress_bar(shows_progress(verbose), "Slices") as progress:
        prediction = predict_case(
            scan.case,
            model,
            settings,
            cache=cache,
            progress=progress,
            names=scan.class_names,
        )
    labels = scan.restore(prediction.labels)
    # Whatever fails, no result lies beside the prompts of another one.
    with atomic_write(prompts_output) as file:
        write_prompts(file, scan.image, scan.remember(prediction.windows), model.name)
        write_image(written, labels, like=scan.image, names=scan.names)
    log_prediction(scan.case, prediction, model, prediction.seconds, scan.class_names)
    if verbose is not False:
        echo(f"{output}: {_describe(scan, labels)}")
    if prediction.status != COMPLETE:
        raise typer.Exit(3)


def _describe(scan: "ImageCase", labels: "npt.NDArray[np.uint8]") -> str:
    """Tells the size of every label that has a prompt, and how many others there are."""
    from gamt.plausibility import count_voxels

    voxels = count_voxels(labels).tolist()
    voxel_ml = prod(scan.image.spacing_mm) / 1000
    parts = [
        f"{scan.name(label)}: {voxels[label]:,} voxels, {voxels[label] * voxel_ml:.4g} ml"
        for label in scan.labels
    ]
    others = sum(map(bool, voxels[1:])) - sum(bool(voxels[label]) for label in scan.labels)
    if others:
        parts.append(f"{others} other {'label' if others == 1 else 'labels'} as before")
    return "; ".join(parts)

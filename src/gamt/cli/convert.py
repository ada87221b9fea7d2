"""``gamt convert``: images to the challenge's files, and back."""

from pathlib import Path
from typing import Annotated

import typer

from gamt.cli.console import UsageError, start_log
from gamt.cli.options import (
    Boxes,
    Clicks,
    LabelNames,
    Negatives,
    Ras,
    Verbose,
    Volume,
    check_image_output,
    check_output,
    is_npz,
    name_volume_option,
    refuse_options,
)

EPILOG = """
\b
Examples:
  gamt convert scan.nii.gz CT_scan.npz --box 40,60,10,210,190,55
  gamt convert scan.nii.gz CT_scan.npz --labels truth.nii.gz
  gamt convert scan.nii.gz CT_scan.npz --labels truth.nii.gz --click 3:99,50,20
  gamt convert dicom_folder CT_scan.npz --labels truth.seg.nrrd
  gamt convert CT_scan.npz scan.nii.gz
  gamt convert outputs/CT_scan.npz labels.nii.gz --key segs --like scan.nii.gz
  gamt convert outputs/CT_scan.npz organs.seg.nrrd --key segs --label liver=1

With --labels and without a prompt, every label gets the box that the challenge would draw, less
its random margin; targets that no box fits, such as vessels, are for --no-boxes.

Intensities stay as they are. The challenge's own files have theirs windowed to 0..255
beforehand; gamt takes any numbers.

An npz file knows the size of its voxels but not where they lie: with --like they are put where
that image's are, and otherwise the first one at the origin, z towards the head, y towards the
back, x towards the patient's left.
"""


def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="An image or an npz file.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The other of the two.")],
    boxes: Boxes = None,
    clicks: Clicks = None,
    negatives: Negatives = None,
    ras: Ras = False,
    label_names: LabelNames = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="To npz: the true segmentation (gts); labels become 1, 2, ... in their order.",
        ),
    ] = None,
    no_boxes: Annotated[
        bool,
        typer.Option("--no-boxes", help="To npz: draw no boxes from --labels; clicks will do."),
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="From npz: the volume to take, such as imgs, gts, segs or prev_pred.  "
            "[default: imgs, or else segs]",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="From npz: the image that the volume was made from."),
    ] = None,
    volume: Volume = None,
    verbose: Verbose = None,
) -> None:
    """Converts an image to the challenge's npz, and back.

    Images are NIfTI; with the extra 'itk' also NRRD, MetaImage and, as a source, a DICOM series.
    """
    start_log(verbose)
    from gamt.cli.label_names import parse_label_names
    from gamt.io.files import refuse_overwrite, remove_partials

    refuse_overwrite(target, [path for path in (source, labels, like) if path is not None])
    remove_partials(target.parent)
    named_labels = parse_label_names(label_names)
    names = {label: name for name, label in named_labels.items()}
    if is_npz(source):
        refuse_options(
            {
                "--box": boxes,
                "--click": clicks,
                "--negative": negatives,
                "--ras": ras,
                "--labels": labels,
                "--no-boxes": no_boxes,
            },
            f"only for an image to npz, and {source} is an npz file",
        )
        if volume is not None and like is None:
            raise UsageError("--volume is for images, and there is none: neither SOURCE nor --like")
        check_image_output(target)
        from gamt.io.convert import npz_to_image

        with name_volume_option():
            npz_to_image(source, target, key, like, volume, names)
    else:
        refuse_options(
            {"--key": key, "--like": like},
            f"only for npz to an image, and {source} is an image",
        )
        if no_boxes and not labels:
            raise UsageError("--no-boxes is for --labels")
        check_output(target, ".npz", f", for {source} is an image")
        if not (labels or boxes or clicks or negatives):
            raise UsageError("expected at least one --box, --click, --negative or --labels")
        from gamt.cli.prompt_text import parse_prompts, settle_prompts
        from gamt.io.convert import image_to_npz
        from gamt.io.image import read_image

        with name_volume_option():
            scan = read_image(source, volume)
        said = parse_prompts(scan, boxes, clicks, negatives, ras, named_labels)
        prompts = settle_prompts(said)
        image_to_npz(scan, target, prompts, labels, draw_boxes=not no_boxes, names=names)

"""The command line; see ``gamt --help``.

The commands import what they need when they run, so that help is quick.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import gamt
from gamt.console import UsageError, download_bar, progress_bar, run_app, start_log

if TYPE_CHECKING:
    from gamt.segmenters import Segmenter
    from gamt.settings import Settings

logger = logging.getLogger("gamt")

NIFTI_SUFFIXES = (".nii", ".nii.gz")

MAX_LABEL = 255  # segmentations are uint8

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
\b
Examples:
  gamt predict inputs/ outputs/
  gamt segment scan.nii.gz -o liver.nii.gz --box 40,60,10,210,190,55
  gamt segment scan.nii.gz -o vessel.nii.gz --click 120,88,30
  gamt convert scan.nii.gz CT_scan.npz --labels truth.nii.gz --box 40,60,10,210,190,55
  gamt explain CT_case.npz
  gamt weights fetch sam_vit_l

'gamt COMMAND --help' says more about each command.
""",
)

weights_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Gets the checkpoints of SAM, MedSAM and SAM-Med2D, and checks them.",
    epilog="""
\b
Examples:
  gamt weights list
  gamt weights fetch sam_vit_l sam_med2d
  gamt weights verify
""",
)
app.add_typer(weights_app, name="weights")

SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        envvar="GAMT_SEGMENTER",
        metavar="NAME",
        help="The 2-D model: a built-in name, a name that an installed package registers, or "
        "package.module:Class.  [default: the preset's, or else the embedded one, which needs no "
        "weights]",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        envvar="GAMT_WEIGHTS",
        metavar="FILE",
        help="The model's checkpoint.  [default: the one that 'gamt weights fetch' gets]",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="GAMT_DEVICE",
        metavar="NAME",
        help="auto, or what the model knows, such as cpu or cuda.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        envvar="GAMT_DTYPE",
        metavar="NAME",
        help="The model's precision: auto, or what the model knows, such as float32 or bfloat16.",
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        envvar="GAMT_PRESET",
        metavar="NAME",
        help="default, or the paper's: all-data, whose model is sam_vit_l, or coreset, whose model "
        "is sam_med2d.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        envvar="GAMT_CACHE",
        metavar="DIR",
        help="Keep encoded slices in this folder, so that a later run on the same scan encodes "
        "nothing.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one of the preset's settings, such as range_percentile=90; repeatable. "
        "The variable GAMT_RANGE_PERCENTILE=90 does the same, unless the setting is given here.",
    ),
]
NoBudget = Annotated[
    bool, typer.Option("--no-budget", help="Take as long as it takes: --set budget=false.")
]
Verbose = Annotated[
    bool | None,
    typer.Option("--verbose/--quiet", "-v/-q", help="Log more, or errors alone."),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="[LABEL:]I,J,K,I,J,K",
        help="Two opposite corners of a box around the target, both inside it: in plane as the "
        "target looks in its middle slice, and from its first slice to its last.",
    ),
]
Clicks = Annotated[
    list[str] | None,
    typer.Option("--click", metavar="[LABEL:]I,J,K", help="A voxel inside the target."),
]
Negatives = Annotated[
    list[str] | None,
    typer.Option("--negative", metavar="[LABEL:]I,J,K", help="A voxel outside of the target."),
]
Ras = Annotated[
    bool,
    typer.Option("--ras", help="Prompts are in the scanner's RAS coordinates, in millimetres."),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gamt {gamt.__version__}")
        raise typer.Exit


@app.callback()
def _gamt(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    """Segments targets in 3-D medical scans with promptable 2-D models, without training.

    A target is named by a box around it, by clicks, or by both. The 2-D model walks from there
    through the slices of the scan, and the views from several sides are fused.
    """


@app.command(
    epilog="""
\b
Examples:
  gamt predict inputs/ outputs/
  gamt predict CT_case.npz outputs/ --no-budget
  gamt predict inputs/ outputs/ --preset coreset --cache encoded/
  gamt predict inputs/ outputs/ --segmenter sam_vit_b --set smoothing=opening
  GAMT_BUDGET=false gamt predict inputs/ outputs/

The command line goes before the environment, and the environment before the preset.

Exit status: 0 if all cases were segmented, 1 if not, 2 for wrong arguments.
"""
)
def predict(
    inputs: Annotated[
        Path,
        typer.Argument(metavar="INPUTS", help="A folder of the challenge's npz files, or a file."),
    ],
    outputs: Annotated[
        Path,
        typer.Argument(metavar="OUTPUTS", help="Gets a file of the same name for each one."),
    ],
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
    """Segments the cases (npz) of a folder.

    They are files of the CVPR 2025 challenge on interactive segmentation of 3-D scans.
    """
    start_log(verbose)
    from gamt.budget import process_start
    from gamt.predict import predict_folder

    settings = choose_predict_settings(preset, changes, no_budget)
    model = load_segmenter(segmenter, preset, weights, device, dtype)
    with progress_bar(shown=verbose is not False and sys.stderr.isatty()) as progress:
        results = predict_folder(inputs, outputs, model, settings, process_start(), progress, cache)
    failed = sum(result.error is not None for result in results)
    if not results:
        logger.error("%s: no npz file in this folder", inputs)
    elif failed:
        logger.error("%d of %d cases failed", failed, len(results))
    if failed or not results:
        raise typer.Exit(1)


@app.command(
    epilog="""
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
pip install 'gamt[explain]'

Exit status: 0 if the page was written, 1 if the case can't be read or segmented, 2 for wrong
arguments.
"""
)
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
    _check_output(out, (".html",))
    from gamt.budget import process_start
    from gamt.case import read_case, read_truth
    from gamt.explain import explain_case
    from gamt.predict import log_prediction

    try:
        from gamt.page import write_page
    except ImportError as error:
        raise UsageError(
            f"gamt explain needs the package {error.name}: pip install 'gamt[explain]'"
        ) from error

    settings = choose_predict_settings(preset, changes, no_budget)
    model = load_segmenter(segmenter, preset, weights, device, dtype)
    case = read_case(source)
    truth = read_truth(source, case.image.shape)
    explanation = explain_case(case, model, settings, truth, process_start(), cache)
    write_page(explanation, out)
    log_prediction(case, explanation.prediction, model, explanation.prediction.seconds)
    typer.echo(out)


@app.command(
    epilog="""
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
)
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
    _check_output(output, NIFTI_SUFFIXES)
    import numpy as np

    from gamt import nifti
    from gamt.case import Case
    from gamt.environment import choose_settings
    from gamt.labels import number_labels, number_prompts, restore_labels
    from gamt.predict import log_prediction, predict_case
    from gamt.prompt_text import parse_prompts

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


@app.command(
    epilog="""
\b
Examples:
  gamt convert scan.nii.gz CT_scan.npz --box 40,60,10,210,190,55
  gamt convert scan.nii.gz CT_scan.npz --labels truth.nii.gz
  gamt convert scan.nii.gz CT_scan.npz --labels truth.nii.gz --click 3:99,50,20
  gamt convert CT_scan.npz scan.nii.gz
  gamt convert outputs/CT_scan.npz labels.nii.gz --key segs --like scan.nii.gz

With --labels and without a prompt, every label gets the box that the challenge would draw, less
its random margin; targets that no box fits, such as vessels, are for --no-boxes.

Intensities stay as they are. The challenge's own files have theirs windowed to 0..255
beforehand; gamt takes any numbers.

An npz file knows the size of its voxels but not where they lie: with --like they are put where
that image's are, and otherwise the first one at the origin, z towards the head, y towards the
back, x towards the patient's left.
"""
)
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="NIfTI or npz.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The other of the two.")],
    boxes: Boxes = None,
    clicks: Clicks = None,
    negatives: Negatives = None,
    ras: Ras = False,
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
        typer.Option(
            metavar="FILE", help="From npz: the image that the volume was made from, as NIfTI."
        ),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Converts NIfTI to the challenge's npz, and back."""
    start_log(verbose)
    if source.suffix == ".npz":
        if boxes or clicks or negatives or ras or labels or no_boxes:
            options = "--box, --click, --negative, --ras, --labels and --no-boxes"
            raise UsageError(f"{options} are for NIfTI to npz")
        _check_output(target, NIFTI_SUFFIXES)
        from gamt.convert import npz_to_nifti

        npz_to_nifti(source, target, key, like)
    else:
        if key or like:
            raise UsageError("--key and --like are for npz to NIfTI")
        if no_boxes and not labels:
            raise UsageError("--no-boxes is for --labels")
        _check_output(target, (".npz",))
        from gamt.convert import nifti_to_npz
        from gamt.nifti import read_image
        from gamt.prompt_text import parse_prompts

        scan = read_image(source)
        prompts = parse_prompts(scan, boxes, clicks, negatives, ras)
        nifti_to_npz(scan, target, prompts, labels, draw_boxes=not no_boxes)


@weights_app.command(
    "list",
    epilog="""
\b
Examples:
  gamt weights list
""",
)
def list_weights() -> None:
    """Shows all checkpoints, and where they lie."""
    from rich.filesize import decimal

    from gamt.checkpoints import locate, read_manifest
    from gamt.settings import PRESET_SEGMENTERS

    rows = [("NAME", "SIZE", "LICENCE", "PRESET", "FILE")]
    for name, checkpoint in read_manifest().items():
        path = locate(checkpoint)
        size = checkpoint.size or (path.stat().st_size if path else None)
        presets = [preset for preset, used in PRESET_SEGMENTERS.items() if used == name]
        rows.append(
            (
                name,
                decimal(size) if size else "unknown",
                checkpoint.licence,
                ", ".join(presets) or "-",
                str(path or "missing"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


@weights_app.command(
    epilog="""
\b
Examples:
  gamt weights fetch sam_vit_l
  gamt weights fetch sam_vit_l sam_med2d --dir /data/weights
  gamt weights fetch sam_med2d --from ~/Downloads/sam-med2d_b.pth

An interrupted download goes on where it was when the command is given again. What is there and
intact is left as it is. GAMT_WEIGHTS_MIRROR=URL takes URL/FILE before the publisher's.
"""
)
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="As 'gamt weights list' shows them.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Where to.  [default: GAMT_WEIGHTS_DIR, or else weights in a checkout of gamt, "
            "or else the user's cache folder]",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Copy this file instead; for one NAME."),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Fetches checkpoints from their publishers, and verifies them."""
    start_log(verbose)
    from gamt import checkpoints, download

    chosen = checkpoints.select(names)
    if source is not None and len(chosen) > 1:
        raise UsageError("--from is for one NAME")
    folder = folder or checkpoints.fetch_folder()
    for checkpoint in chosen:
        shown = verbose is not False and sys.stderr.isatty()
        with download_bar(checkpoint.file, shown) as progress:
            path, verified = download.fetch(checkpoint, folder, source, progress)
        typer.echo(f"{checkpoint.name}: {path.absolute()}: verified: {verified}")


@weights_app.command(
    epilog="""
\b
Examples:
  gamt weights verify
  gamt weights verify sam_med2d

A SHA-256 that isn't published is recorded when the file is first verified.

Exit status: 0 if all are intact, 1 if not.
"""
)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Which.  [default: all that are here]"),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Checks that checkpoints are intact."""
    start_log(verbose)
    from gamt import checkpoints

    known = checkpoints.read_manifest().values()
    chosen = checkpoints.select(names) if names else list(filter(checkpoints.locate, known))
    if not chosen:
        logger.error("no checkpoint is here; 'gamt weights fetch NAME' gets one")
        raise typer.Exit(1)
    paths = [checkpoints.find(checkpoint.name) for checkpoint in chosen]
    failed = 0
    for checkpoint, path in zip(chosen, paths, strict=True):
        try:
            verified = checkpoints.verify(checkpoint, path)
        except checkpoints.CheckpointError as error:
            failed += 1
            command = f"gamt weights fetch {checkpoint.name} --dir {path.parent}"
            logger.error("%s: %s; this replaces it: %s", path, error, command)
        else:
            typer.echo(f"{checkpoint.name}: {path}: verified: {verified}")
    if failed:
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; errors end in one line, not in a traceback.

    Args:
        arguments: those after the program's name; None for the process's own.
    """
    run_app(app, "gamt", _explain, arguments)


def _explain(error: Exception) -> tuple[str, int] | None:
    """Returns what to tell about an error, in one line, and the exit status."""
    from gamt.case import CaseError
    from gamt.checkpoints import CheckpointError
    from gamt.segmenters import SegmenterError
    from gamt.settings import SettingsError

    text = " ".join(str(error).split())
    if isinstance(error, UsageError | SettingsError | SegmenterError | CheckpointError):
        return text, 2
    from gamt.download import DownloadError
    from gamt.nifti import NiftiError
    from gamt.predict import FolderError

    if isinstance(error, CaseError | NiftiError | FolderError | DownloadError):
        return text, 1
    return None


def choose_predict_settings(
    preset: str, changes: Sequence[str] | None, no_budget: bool
) -> "Settings":
    """Returns the settings that the options of ``gamt predict`` choose."""
    from gamt.environment import choose_settings

    return choose_settings(preset, [*(changes or []), *["budget=false"] * no_budget])


def load_segmenter(
    name: str | None, preset: str, weights: str | None, device: str, dtype: str
) -> "Segmenter":
    """Loads the segmenter that the options of those names choose."""
    from gamt import segmenters
    from gamt.settings import PRESET_SEGMENTERS

    name = name or PRESET_SEGMENTERS.get(preset, segmenters.DEFAULT)
    # As for the device, a model that knows no precisions isn't bothered unless one is asked for.
    options = {} if dtype == "auto" else {"dtype": dtype}
    return segmenters.load(name, weights, device, **options)


def _check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    # Found out now rather than after the work.
    if not path.name.endswith(suffixes):
        raise UsageError(f"{path}: expected a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder doesn't exist")

"""The command line; see ``gamt --help``.

The commands import what they need when they run, so that help is quick.
"""

import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gamt

if TYPE_CHECKING:
    import numpy.typing as npt

    from gamt.nifti import NiftiImage
    from gamt.prompts import ClassPrompts
    from gamt.settings import Settings

logger = logging.getLogger("gamt")

VARIABLE_PREFIX = "GAMT_"
NOT_SETTINGS = frozenset(
    VARIABLE_PREFIX + name for name in ("SEGMENTER", "WEIGHTS", "WEIGHTS_DIR", "DEVICE", "PRESET")
)
"""Variables of the environment that are meant for something else than a setting."""

NIFTI_SUFFIXES = (".nii", ".nii.gz")

MAX_LABEL = 255  # segmentations are uint8

Labels = Mapping[int, "ClassPrompts"]
"""The user's labels, in ascending order, and what was said about each."""


class UsageError(ValueError):
    """Arguments that don't make sense."""


class Key(StrEnum):
    """The volumes of the challenge's files."""

    IMGS = "imgs"
    GTS = "gts"
    SEGS = "segs"
    PREV_PRED = "prev_pred"


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

'gamt COMMAND --help' says more about each command.
""",
)

SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        envvar="GAMT_SEGMENTER",
        metavar="NAME",
        help="The 2-D model: a built-in name, a name that an installed package registers, or "
        "package.module:Class.  [default: the embedded one, which needs no weights]",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(envvar="GAMT_WEIGHTS", metavar="FILE", help="The model's checkpoint."),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="GAMT_DEVICE",
        metavar="NAME",
        help="auto, or what the model knows, such as cpu or cuda.",
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        envvar="GAMT_PRESET", metavar="NAME", help="default, or the paper's all-data or coreset."
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
  gamt predict inputs/ outputs/ --preset coreset --set smoothing=opening
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
    preset: Preset = "default",
    changes: Changes = None,
    no_budget: Annotated[
        bool, typer.Option("--no-budget", help="Take as long as it takes: --set budget=false.")
    ] = False,
    verbose: Verbose = None,
) -> None:
    """Segments the cases (npz) of a folder.

    They are files of the CVPR 2025 challenge on interactive segmentation of 3-D scans.
    """
    _start_log(verbose)
    from gamt import segmenters
    from gamt.budget import process_start
    from gamt.predict import predict_folder

    settings = _choose_settings(preset, [*(changes or []), *["budget=false"] * no_budget])
    model = segmenters.load(segmenter or segmenters.DEFAULT, weights, device)
    with _progress_bar(shown=verbose is not False and sys.stderr.isatty()) as progress:
        results = predict_folder(inputs, outputs, model, settings, process_start(), progress)
    failed = sum(result.error is not None for result in results)
    if not results:
        logger.error("%s: no npz file in this folder", inputs)
    elif failed:
        logger.error("%d of %d cases failed", failed, len(results))
    if failed or not results:
        raise typer.Exit(1)


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
    preset: Preset = "default",
    changes: Changes = None,
    verbose: Verbose = None,
) -> None:
    """Segments targets in a NIfTI image.

    It takes the time that it takes, unless the setting budget is true.
    """
    _start_log(verbose)
    _check_output(output, NIFTI_SUFFIXES)
    import numpy as np

    from gamt import nifti, segmenters
    from gamt.case import Case
    from gamt.predict import log_prediction, predict_case

    settings = _choose_settings(preset, changes or [], budget=False)
    scan = nifti.read_image(image)
    prompts = _read_prompts(scan, boxes, clicks, negatives, ras)
    if not prompts:
        raise UsageError("expected at least one --box, --click or --negative")
    if max(prompts) > MAX_LABEL:
        raise UsageError(f"found label {max(prompts)}, expected labels from 1 to {MAX_LABEL}")
    earlier = None if previous is None else nifti.read_labels(previous, scan)
    if earlier is not None and earlier.max() > MAX_LABEL:
        raise UsageError(f"found label {earlier.max()} in {previous}, expected at most {MAX_LABEL}")
    model = segmenters.load(segmenter or segmenters.DEFAULT, weights, device)
    case = Case(
        scan.name,
        scan.array,
        scan.spacing_mm,
        _number(prompts),
        None if earlier is None else _relabel(earlier, list(prompts)),
    )
    prediction = predict_case(case, model, settings)
    labels = np.array([0, *prompts], dtype=np.uint8)[prediction.labels]
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
  gamt convert scan.nii.gz CT_scan.npz --labels truth.nii.gz --click 3:99,50,20
  gamt convert CT_scan.npz scan.nii.gz
  gamt convert outputs/CT_scan.npz labels.nii.gz --key segs --like scan.nii.gz

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
    key: Annotated[
        Key | None,
        typer.Option(help="From npz: the volume to take.  [default: imgs, or else segs]"),
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
    _start_log(verbose)
    if source.suffix == ".npz":
        if boxes or clicks or negatives or ras or labels:
            raise UsageError("--box, --click, --negative, --ras and --labels are for NIfTI to npz")
        _check_output(target, NIFTI_SUFFIXES)
        _to_nifti(source, target, key, like)
    else:
        if key or like:
            raise UsageError("--key and --like are for npz to NIfTI")
        _check_output(target, (".npz",))
        _to_npz(source, target, labels, (boxes, clicks, negatives), ras)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; errors end in one line, not in a traceback.

    Args:
        arguments: those after the program's name; None for the process's own.
    """
    try:
        typer.main.get_command(app).main(args=arguments, prog_name="gamt")
    except Exception as error:
        logger.debug("where it failed", exc_info=True)
        message, status = _explain(error)
        typer.echo(f"gamt: {message}", err=True)
        sys.exit(status)


def _explain(error: Exception) -> tuple[str, int]:
    """Returns what to tell about an error, in one line, and the exit status."""
    from gamt.case import CaseError
    from gamt.segmenters import SegmenterError
    from gamt.settings import SettingsError

    text = " ".join(str(error).split())
    if isinstance(error, UsageError | SettingsError | SegmenterError):
        return text, 2
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename2 or error.filename}: {error.strerror}", 1
    from gamt.nifti import NiftiError
    from gamt.predict import FolderError

    if isinstance(error, CaseError | NiftiError | FolderError):
        return text, 1
    return f"{type(error).__name__}: {text} (--verbose shows where)", 1


class _StderrHandler(logging.Handler):
    """Writes to what is `sys.stderr` at the time; a progress bar replaces that, to stay below."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _start_log(verbose: bool | None) -> None:
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.handlers = [handler]
    logger.setLevel({None: logging.INFO, True: logging.DEBUG, False: logging.ERROR}[verbose])


@contextmanager
def _progress_bar(shown: bool) -> Iterator[Callable[[int, int], None]]:
    if not shown:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Cases", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _choose_settings(preset: str, changes: Sequence[str], budget: bool | None = None) -> "Settings":
    """Returns the preset, changed by the environment, changed by ``KEY=VALUE`` texts.

    Args:
        preset: its name.
        changes: from the command line.
        budget: replaces the preset's; None leaves it.
    """
    from gamt.settings import PRESETS, SettingsError, override

    if preset not in PRESETS:
        raise SettingsError(f"no preset is named {preset!r}; expected one of {', '.join(PRESETS)}")
    settings = PRESETS[preset] if budget is None else replace(PRESETS[preset], budget=budget)
    for variable, value in sorted(os.environ.items()):
        # An empty variable counts as none, as for the options.
        if variable.startswith(VARIABLE_PREFIX) and variable not in NOT_SETTINGS and value:
            name = variable.removeprefix(VARIABLE_PREFIX).lower()
            try:
                settings = override(settings, {name: value})
            except SettingsError as error:
                raise SettingsError(f"variable {variable}: {error}") from error
    for change in changes:
        name, separator, value = change.partition("=")
        if not separator:
            raise UsageError(f"--set {change}: expected KEY=VALUE")
        settings = override(settings, {name.strip(): value.strip()})
    return settings


def _check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    # Found out now rather than after the work.
    if not path.name.endswith(suffixes):
        raise UsageError(f"{path}: expected a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder doesn't exist")


def _read_prompts(
    image: "NiftiImage",
    boxes: Sequence[str] | None,
    clicks: Sequence[str] | None,
    negatives: Sequence[str] | None,
    ras: bool,
) -> Labels:
    """Turns the texts of the options into prompts; positive clicks count as the earlier ones."""
    from gamt.prompts import ClassPrompts, Click

    said: dict[int, ClassPrompts] = {}
    for text in boxes or []:
        label, numbers = _parse_prompt("--box", text, 6)
        if label in said:
            raise UsageError(f"--box {text}: label {label} has a box already")
        box = image.box(numbers[:3], numbers[3:], ras)
        said[label] = ClassPrompts(label, box)
    for option, texts in (("--click", clicks), ("--negative", negatives)):
        for text in texts or []:
            label, numbers = _parse_prompt(option, text, 3)
            click = Click(*image.voxel(numbers, ras), positive=option == "--click")
            before = said.get(label, ClassPrompts(label))
            said[label] = replace(before, clicks=(*before.clicks, click))
    return dict(sorted(said.items()))


def _parse_prompt(option: str, text: str, count: int) -> tuple[int, list[float]]:
    """Returns the label, 1 where none is given, and the numbers of ``[LABEL:]NUMBER,...``."""
    label, _, rest = text.rpartition(":")
    try:
        numbers = [float(part) for part in rest.split(",")]
        if len(numbers) == count and all(map(math.isfinite, numbers)) and int(label or 1) > 0:
            return int(label or 1), numbers
    except ValueError:
        pass
    raise UsageError(f"{option} {text}: expected {count} numbers with commas, as [LABEL:]NUMBERS")


def _number(labels: Labels) -> "tuple[ClassPrompts, ...]":
    """Numbers the labels 1..K, as a case has them."""
    return tuple(replace(one, label=n) for n, one in enumerate(labels.values(), start=1))


def _relabel(volume: "npt.NDArray[Any]", labels: Sequence[int]) -> "npt.NDArray[Any]":
    """Turns each of the ascending `labels` into its place 1..K, and anything else into 0."""
    import numpy as np

    places = np.searchsorted(labels, volume).clip(max=len(labels) - 1)
    return np.where(np.asarray(labels)[places] == volume, places + 1, 0).astype(np.uint8)


def _to_npz(
    source: Path,
    target: Path,
    labels: Path | None,
    prompts: tuple[list[str] | None, list[str] | None, list[str] | None],
    ras: bool,
) -> None:
    import numpy as np

    from gamt.case import MAX_CLASSES, write_case
    from gamt.nifti import read_image, read_labels
    from gamt.prompts import ClassPrompts

    scan = read_image(source)
    said = _read_prompts(scan, *prompts, ras)
    truth = None
    if labels is not None:
        truth = read_labels(labels, scan)
        values = np.unique(truth[truth > 0]).tolist()
        if unknown := sorted(set(said) - set(values)):
            raise UsageError(f"label {unknown[0]} has a prompt, and isn't in {labels}")
        said = {value: said.get(value, ClassPrompts(value)) for value in values}
        truth = _relabel(truth, values) if values else None
    if not 1 <= len(said) <= MAX_CLASSES:
        expected = f"1 to {MAX_CLASSES} of them, from prompts or --labels"
        raise UsageError(f"found {len(said)} labels, expected {expected}")
    write_case(target, scan.array, scan.spacing_mm, _number(said), gts=truth)
    for number, label in enumerate(said, start=1):
        if number != label:
            logger.info("label %d became %d", label, number)


def _to_nifti(source: Path, target: Path, key: Key | None, like: Path | None) -> None:
    from gamt.case import CaseError
    from gamt.nifti import read_image, write_image

    volume, spacing_mm = _read_volume(source, key)
    grid = None if like is None else read_image(like)
    if grid is not None and grid.array.shape != volume.shape:
        expected = f"{grid.array.shape} as in {grid.path.name}"
        raise CaseError(source, None, f"a volume of shape {volume.shape}", expected)
    if grid is None and spacing_mm is None:
        logger.warning("%s: no valid spacing, used 1 mm; --like gives a better one", source.name)
    write_image(target, volume, grid, spacing_mm or (1.0, 1.0, 1.0))


def _read_volume(
    path: Path, key: Key | None
) -> "tuple[npt.NDArray[Any], tuple[float, float, float] | None]":
    """Returns a volume (z, y, x) of an npz file, and the spacing (z, y, x) if there is a valid one.

    `gamt.case.read_case` asks for a complete case; here any volume will do.
    """
    import zipfile

    from gamt.case import CaseError
    from gamt.geometry import order_spacing
    from gamt.pickles import read_array

    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            name = key or (Key.IMGS if f"{Key.IMGS}.npy" in members else Key.SEGS)
            for wanted in (name, "spacing"):
                if f"{wanted}.npy" in members:
                    with archive.open(f"{wanted}.npy") as file:
                        arrays[wanted] = read_array(file)
    except Exception as error:  # zip, zlib and npy each fail in ways of their own
        found = getattr(error, "strerror", None) or str(error)
        raise CaseError(path, None, found, "a readable npz file") from error
    volume, spacing = arrays.get(name), arrays.get("spacing")
    expected = "a (D, H, W) volume of numbers, not empty"
    if volume is None:
        raise CaseError(path, name.value, "no such key", expected)
    if volume.ndim != 3 or volume.size == 0 or volume.dtype.kind not in "biuf":
        raise CaseError(path, name.value, f"{volume.dtype} of shape {volume.shape}", expected)
    if spacing is None or spacing.shape != (3,) or spacing.dtype.kind not in "iuf":
        return volume, None
    numbers = spacing.tolist()
    valid = all(0 < number < math.inf for number in numbers)
    return volume, order_spacing(numbers) if valid else None

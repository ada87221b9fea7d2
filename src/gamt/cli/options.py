"""The options that commands share, and what they choose."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gamt.cli.console import UsageError

if TYPE_CHECKING:
    from gamt.segmenters import Segmenter
    from gamt.settings import Settings

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

Volume = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which volume to take of an image that holds several, such as a 4-D one, from 0 on.",
    ),
]


def choose_predict_settings(
    preset: str, changes: Sequence[str] | None, no_budget: bool
) -> "Settings":
    """Returns the settings that the options of ``gamt predict`` choose."""
    from gamt.cli.environment import choose_settings

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


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuses, before the work rather than after it, an output that can't be written.

    Raises:
        UsageError: the name ends in none of `suffixes`, or the folder doesn't exist.
    """
    if not path.name.endswith(suffixes):
        raise UsageError(f"{path}: expected a name that ends in {' or '.join(suffixes)}")
    _check_folder(path)


def check_image_output(path: Path) -> None:
    """Refuses, before the work rather than after it, an image that can't be written.

    Raises:
        UsageError: the name's suffix is that of no image format that can be written here, or the
            folder doesn't exist.
    """
    from gamt.io.format import ImageError
    from gamt.io.formats import writer_of

    try:
        writer_of(path)
    except ImageError as error:
        raise UsageError(str(error)) from error
    _check_folder(path)


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder doesn't exist")

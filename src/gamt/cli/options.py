"""The options that commands share, and what they choose."""

import logging
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from gamt.cli.console import UsageError

if TYPE_CHECKING:
    from gamt.segmenters import Segmenter
    from gamt.settings import Settings

logger = logging.getLogger("gamt")


def _complete_segmenter() -> list[str]:
    from gamt.segmenters import BUILT_IN

    return list(BUILT_IN)


def _complete_preset() -> list[str]:
    from gamt.settings import PRESETS

    return list(PRESETS)


def _complete_window() -> list[str]:
    from gamt.windows import NAMED_WINDOWS

    return ["auto", "full", *NAMED_WINDOWS]


def _complete_scale() -> list[str]:
    from gamt.settings import Scale

    return list(get_args(Scale))


def _complete_propagation() -> list[str]:
    from gamt.settings import Propagation

    return list(get_args(Propagation))


SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        envvar="GAMT_SEGMENTER",
        metavar="NAME",
        autocompletion=_complete_segmenter,
        help="The 2-D model: a built-in name, a name that an installed package registers, "
        "package.module:Class, or hf:ORG/NAME or hf:FOLDER for a model of the Hugging Face hub.  "
        "[default: the preset's, or else the embedded one, which needs no weights]",
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
        autocompletion=_complete_preset,
        help="default, or the paper's: all-data, whose model is sam_vit_l, or coreset, whose model "
        "is sam_med2d; or cpu, whose model is medsam2; or memory, whose model sam2.1_hiera_large "
        "follows targets by its memory as well. On a CPU, the last two are too slow for the time "
        "limit of 'gamt predict'.",
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
WindowText = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="NAME|LEVEL,WIDTH",
        autocompletion=_complete_window,
        help="The intensities that are told apart: level and width in the image's own units, or a "
        "usual window of CT: soft-tissue, lung, bone, brain. auto finds them around each target's "
        "first prompt, but for 8-bit images, which are windowed already; full takes the whole "
        "image's. A first click alone is not changed by it with the embedded segmenter.  "
        "[default: that of earlier prompts, if any, or else the preset's, auto]",
    ),
]
ScaleName = Annotated[
    str | None,
    typer.Option(
        "--scale",
        metavar="NAME",
        autocompletion=_complete_scale,
        help="How large a target is that begins with a click: tight, medium, which is the "
        "likeliest size, or large.  [default: the preset's, medium]",
    ),
]
PropagationName = Annotated[
    str | None,
    typer.Option(
        "--propagation",
        metavar="NAME",
        autocompletion=_complete_propagation,
        help="How a target is followed from slice to slice: prompts asks about each slice by the "
        "mask before it; memory leaves it to what a model such as SAM 2 remembers; both does "
        "the one and the other in every plane, lets both vote, and takes about as long as memory.  "
        "[default: the preset's, prompts]",
    ),
]
NoBudget = Annotated[
    bool, typer.Option("--no-budget", help="Take as long as it takes: --set budget=false.")
]


def _inherit_verbose(context: typer.Context, value: bool | None) -> bool | None:
    """Takes what was given before the command's name where nothing is after it."""
    if value is None and context.parent is not None:
        before: bool | None = context.parent.params.get("verbose")
        return before
    return value


Verbose = Annotated[
    bool | None,
    typer.Option(
        "--verbose/--quiet",
        "-v/-q",
        callback=_inherit_verbose,
        help="Log more, or errors alone.",
    ),
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
Prompts = Annotated[
    list[Path] | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Prompts from a file: a NAME.prompts.json of 'gamt segment', or points and ROI boxes "
        "of 3D Slicer (.mrk.json). Those of other options come after. Repeatable.",
    ),
]
LabelNames = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="NAME=LABEL",
        help="Names a label, such as liver=1; prompts then take the name too. Repeatable.",
    ),
]
Previous = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="An earlier segmentation to correct. Labels without a prompt stay as they are. The "
        "prompts that it was made with, from its NAME.prompts.json, come before the new ones.",
    ),
]
ResamplePrevious = Annotated[
    bool,
    typer.Option(
        "--resample-previous",
        help="The earlier segmentation may lie on another grid: take the nearest voxels.",
    ),
]
Volume = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which volume to take of an image that holds several, such as a 4-D one, from 0 on.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """The options of ``gamt predict``, most of which other commands take too.

    Attributes:
        segmenter: name of the 2-D model; None for the preset's.
        weights: path of its checkpoint; None for the one that ``gamt weights fetch`` gets.
        device: ``auto``, or a device that the segmenter knows.
        dtype: ``auto``, or a precision that the segmenter knows.
        preset: name of the settings to begin with.
        changes: ``KEY=VALUE`` texts that change settings.
        window: text of the setting of that name; None for the preset's.
        scale: likewise.
        propagation: likewise.
        cache: folder of encoded slices; None keeps none.
        no_budget: whether to lift the time limit.
    """

    segmenter: SegmenterName = None
    weights: Weights = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    preset: Preset = "default"
    changes: Changes = None
    window: WindowText = None
    scale: ScaleName = None
    propagation: PropagationName = None
    cache: Cache = None
    no_budget: NoBudget = False

    @classmethod
    def parse(cls, words: Sequence[str]) -> "PredictOptions":
        """Parses words such as ``["--preset", "coreset"]``; the environment counts as well.

        Raises:
            UsageError: the words are no options of ``gamt predict``.
        """
        parser = typer.Typer(add_completion=False, rich_markup_mode=None)
        parser.command(add_help_option=False)(cls)  # its fields are the command's parameters
        try:
            options = typer.main.get_command(parser).main(
                list(words), "gamt", standalone_mode=False
            )
        except Exception as error:  # typer's own, for which it has no public name
            raise UsageError(str(error)) from error
        assert isinstance(options, cls)
        return options

    def choose_settings(self, budget: bool | None = None) -> "Settings":
        """Returns the preset's settings, changed by the environment and the options.

        Args:
            budget: replaces the preset's, before anything else does; None leaves it.

        Raises:
            SettingsError: no preset or setting has that name, or a setting can't take that value.
            UsageError: one of the changes isn't ``KEY=VALUE``.
        """
        from gamt.cli.environment import choose_settings

        changes = [*(self.changes or []), *["budget=false"] * self.no_budget]
        named = {name: getattr(self, name) for name in ("window", "scale", "propagation")}
        changes += [f"{name}={value}" for name, value in named.items() if value is not None]
        return choose_settings(self.preset, changes, budget)

    def choose_segmenter(self) -> str:
        """Returns the name of the 2-D model: the one that is asked for, or else the preset's."""
        from gamt import segmenters
        from gamt.settings import PRESET_SEGMENTERS

        return self.segmenter or PRESET_SEGMENTERS.get(self.preset, segmenters.DEFAULT)

    def choose_model(self) -> tuple[str, dict[str, str]]:
        """Returns the 2-D model's name, and the other arguments of `gamt.segmenters.load`."""
        from gamt import segmenters

        name = self.choose_segmenter()
        device = self.device
        if name == segmenters.DEFAULT and device != "auto":
            if device != "cpu":
                logger.warning("segmenter %s runs on the CPU alone, not on %s", name, device)
            device = "auto"
        # A model that knows no precisions isn't bothered unless one is asked for.
        arguments = {"device": device} | ({} if self.dtype == "auto" else {"dtype": self.dtype})
        return name, arguments | ({} if self.weights is None else {"weights": self.weights})

    def load_segmenter(self, settings: "Settings") -> "Segmenter":
        """Loads the 2-D model.

        Args:
            settings: from `choose_settings`.

        Raises:
            SegmenterError: there is none of this name, or it can't be set up as asked.
            CheckpointError: its checkpoint is missing or broken.
            SettingsError: it has no memory, and is to walk by one, or can't be shown the channels
                that are asked for.
        """
        from gamt import segmenters
        from gamt.volume.preparation import check_settings

        name, arguments = self.choose_model()
        model = segmenters.load(name, **arguments)
        check_settings(settings, model)
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """The options that say what to take of an image, and where its targets are.

    Attributes:
        volume: which one of an image that holds several, from 0 on; None where it holds one.
        boxes: texts of ``--box``.
        clicks: texts of ``--click``.
        negatives: texts of ``--negative``.
        prompts: paths of files of prompts, or None.
        ras: whether those in texts are in the scanner's RAS coordinates (mm), not in voxels.
        previous: path of an earlier segmentation, or None.
        resample_previous: whether that may lie on another grid.
        label_names: texts of ``--label``.
        window: text of ``--window``; None where those that earlier results were seen in count.
    """

    volume: int | None
    boxes: list[str] | None
    clicks: list[str] | None
    negatives: list[str] | None
    prompts: list[Path] | None
    ras: bool
    previous: Path | None
    resample_previous: bool
    label_names: list[str] | None
    window: str | None


def is_npz(path: Path) -> bool:
    """Says whether a file is one of the challenge's cases, by its name or its content."""
    return path.suffix.lower() == ".npz" or zipfile.is_zipfile(path)


def refuse_options(given: Mapping[str, object], place: str) -> None:
    """Refuses options that don't go with the others.

    Args:
        given: the values by option; None, False and empty lists count as not given.
        place: what the options are for, and what was found instead.

    Raises:
        UsageError: some are given; it names them.
    """
    named = [
        name
        for name, value in given.items()
        if value is not None and value is not False and value != []
    ]
    if named:
        raise UsageError(f"{', '.join(named)}: {place}")


@contextmanager
def name_volume_option() -> Iterator[None]:
    """Adds to the error of an image that holds several volumes the option that chooses one.

    Raises:
        UsageError: in place of VolumeError.
    """
    from gamt.io.format import VolumeError

    try:
        yield
    except VolumeError as error:
        raise UsageError(f"{error} (--volume)") from error


def check_output(path: Path, suffix: str, reason: str = "") -> None:
    """Refuses, before the work rather than after it, an output that can't be written.

    Args:
        path: of the output.
        suffix: of its name, in lower case; the name may have it in upper case.
        reason: why it is expected; ends the error's text.

    Raises:
        UsageError: the name ends otherwise or is a folder's, or its folder doesn't exist or may
            not be written to.
    """
    if not path.name.lower().endswith(suffix):
        raise UsageError(f"{path}: expected a name that ends in {suffix}{reason}")
    _check_place(path)


def check_image_output(path: Path) -> None:
    """Refuses, before the work rather than after it, an image that can't be written.

    Raises:
        UsageError: the name is that of no image format that can be written here, or a folder's,
            or its folder doesn't exist or may not be written to.
    """
    from gamt.io.format import ImageError
    from gamt.io.formats import writer_of

    try:
        writer_of(path)
    except ImageError as error:
        raise UsageError(str(error)) from error
    _check_place(path)


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder doesn't exist")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: found a folder that may not be written to")
    if path.is_dir():
        raise UsageError(f"{path}: found a folder of this name, expected a file's")

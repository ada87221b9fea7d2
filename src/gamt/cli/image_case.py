"""A case made of an image and of what the command line says about it."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamt.cli.console import UsageError
from gamt.cli.label_names import parse_label_names
from gamt.cli.options import ImageOptions, name_volume_option
from gamt.cli.prompt_text import describe_prompts, parse_prompts, settle_prompts
from gamt.io.case import Case
from gamt.io.image import GridError, Image, read_image, read_label_names, read_labels
from gamt.io.json_files import JsonError
from gamt.io.labels import (
    MAX_LABEL,
    default_label,
    number_labels,
    number_prompts,
    restore_labels,
    warn_of_unused_names,
)
from gamt.io.prompts_file import PromptsGridError, SavedPrompts, prompts_path, read_prompts
from gamt.prompts import LabelledPrompt, group_prompts
from gamt.windows import IntensityWindow

logger = logging.getLogger("gamt")

MANY_LABELS = 128
"""No segmentation has more: atlases of the whole body have some hundred, 8-bit images some 200."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageCase:
    """An image, the case made of it, and the way back to the user's labels.

    Attributes:
        image: as it was read.
        case: with the classes 1..K.
        labels: the user's label of each class, ascending.
        names: of the user's labels, as far as they have some.
        previous: (z, y, x) the user's labels in the earlier segmentation, or None.
        said: all prompts so far, in order of time, with the user's labels.
    """

    image: Image
    case: Case
    labels: tuple[int, ...]
    names: Mapping[int, str]
    previous: npt.NDArray[np.int64] | None
    said: tuple[LabelledPrompt, ...]

    def name(self, label: int) -> str:
        """Returns what to call a label of the user's."""
        return self.names.get(label, f"label {label}")

    @property
    def class_names(self) -> dict[int, str]:
        """What to call the classes 1..K of the case."""
        return dict(enumerate(map(self.name, self.labels), start=1))

    def remember(self, windows: Mapping[int, IntensityWindow]) -> SavedPrompts:
        """Returns what is to be written beside the result.

        Args:
            windows: that the classes 1..K were seen in. Those without contrast are left out.
        """
        seen = zip(self.labels, (windows[label] for label in self.class_names), strict=True)
        return SavedPrompts(
            self.said, self.names, {label: one for label, one in seen if one.width > 0}
        )

    def restore(self, classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Turns classes 1..K into the user's labels; labels without a prompt stay as they were.

        Args:
            classes: (z, y, x), a segmentation of `case`.
        """
        labels = restore_labels(classes, self.labels)
        if self.previous is not None:
            stays = (labels == 0) & ~np.isin(self.previous, self.labels)
            labels[stays] = self.previous[stays]
        return labels


def read_image_case(path: Path, options: ImageOptions) -> ImageCase:
    """Reads an image and makes a case of it.

    Args:
        path: of the image.
        options: what to take of it, and where the targets are.

    Raises:
        UsageError: an option can't be understood, there is no prompt, a label is too large, no
            volume is chosen of several, or the earlier segmentation lies on another grid.
        JsonError: a file of prompts is broken, or belongs to another image or segmentation.
        LabelError: a prompt has no label, and the earlier segmentation has several.
        ImageError: a file can't be read, or a prompt is outside of the image.
    """
    named_labels = parse_label_names(options.label_names)
    with name_volume_option():
        image = read_image(path, options.volume)
    earlier: npt.NDArray[np.int64] | None = None
    sources: list[tuple[Path, SavedPrompts]] = []
    if options.previous is not None:
        earlier = _read_previous(options.previous, image, options.resample_previous)
        _inherit_names(read_label_names(options.previous), named_labels)
        remembered = _read_remembered(options.previous, image, earlier, options.resample_previous)
        if remembered is not None:
            sources.append((prompts_path(options.previous), remembered))
            _inherit_names(remembered.names, named_labels)
    unnamed = partial(_default_label, earlier)
    for file in options.prompts or []:
        saved = read_prompts(file, image, named_labels, unnamed)
        if not saved.prompts:
            raise JsonError(file, "found no prompts, expected at least one")
        sources.append((file, saved))
        _inherit_names(saved.names, named_labels)
    said = [prompt for _, saved in sources for prompt in saved.prompts]
    said += parse_prompts(
        image,
        options.boxes,
        options.clicks,
        options.negatives,
        options.ras,
        named_labels,
        unnamed,
    )
    if not (options.boxes or options.clicks or options.negatives or options.prompts):
        hint = "" if options.previous is None else " (that of the earlier result, to begin anew)"
        raise UsageError(f"expected at least one --box, --click, --negative or --prompts{hint}")
    prompts = settle_prompts(said)
    if max(prompts) > MAX_LABEL:
        raise UsageError(f"found label {max(prompts)}, expected labels from 1 to {MAX_LABEL}")
    windows: dict[int, IntensityWindow] = {}
    if options.window is None:
        for _, saved in reversed(sources):  # the first one counts, from which the others went on
            windows.update(saved.windows)
    case = Case(
        image.name,
        image.array,
        image.spacing_mm,
        number_prompts(prompts.values()),
        None if earlier is None else number_labels(earlier, list(prompts)),
        windows={n: windows[one] for n, one in enumerate(prompts, start=1) if one in windows},
    )
    names = {number: name for name, number in named_labels.items()}
    kept = [] if earlier is None else np.unique(earlier).tolist()
    warn_of_unused_names(names, [*prompts, *kept], image.path.name)
    if options.previous is not None and prompts_path(options.previous) not in dict(sources):
        logger.info("%s: the prompts that it was made with aren't known", options.previous)
    for file, saved in sources:
        logger.info("%s: %s", file, describe_prompts(saved.prompts, names))
    return ImageCase(image, case, tuple(prompts), names, earlier, tuple(said))


def read_image_truth(path: Path, scan: ImageCase) -> npt.NDArray[np.uint8]:
    """Reads the true segmentation of an image.

    Returns:
        (z, y, x), the classes 1..K of the case.

    Raises:
        ImageError: the file can't be read, or isn't a segmentation of the image.
    """
    return number_labels(read_labels(path, scan.image), scan.labels)


def _default_label(earlier: npt.NDArray[np.int64] | None) -> int:
    return 1 if earlier is None else default_label(earlier)


def _inherit_names(names: Mapping[int, str], named_labels: dict[str, int]) -> None:
    """Adds the names of labels that have none yet; names that are taken stay as they are."""
    for label, name in names.items():
        if label not in named_labels.values():
            named_labels.setdefault(name, label)


def _read_remembered(
    previous: Path, image: Image, earlier: npt.NDArray[np.int64], resample: bool
) -> SavedPrompts | None:
    """Reads the prompts beside an earlier segmentation; None where there is no such file.

    Args:
        previous: path of the segmentation.
        image: what it is of.
        earlier: (z, y, x), its labels.
        resample: whether it may lie on another grid, whose prompts are not taken up.

    Raises:
        JsonError: the file is broken, or its prompts belong to another image or segmentation.
    """
    path = prompts_path(previous)
    if not path.exists():
        return None
    try:
        saved = read_prompts(path, image, {}, partial(_default_label, earlier))
    except PromptsGridError as error:
        if not resample:
            raise
        logger.warning("%s; they aren't taken up", error)
        return None
    prompts = group_prompts(saved.prompts)
    clicked = {
        label for label, one in prompts.items() if any(click.positive for click in one.clicks)
    }
    found = set(np.unique(earlier[earlier > 0]).tolist())
    # A clicked voxel always has its label; a box alone may give nothing.
    if clicked - found or (found and prompts and found.isdisjoint(prompts)):
        raise JsonError(
            path,
            f"found prompts of {_join(prompts)}, expected those of {previous.name}, which has "
            f"{_join(found)}; remove the file to go on from the segmentation alone",
        )
    return saved


def _join(labels: Collection[int]) -> str:
    """Returns labels as a text, such as "label 3", or "labels 1, 2"; "no label" of none."""
    numbers = ", ".join(map(str, sorted(labels)))
    return f"label{'s' * (len(labels) > 1)} {numbers}" if numbers else "no label"


def _read_previous(path: Path, image: Image, resample: bool) -> npt.NDArray[np.int64]:
    try:
        labels = read_labels(path, image, resample)
    except GridError as error:
        raise UsageError(f"{error}; --resample-previous takes the nearest voxels") from error
    if labels.max() > MAX_LABEL:
        raise UsageError(f"found label {labels.max()} in {path}, expected at most {MAX_LABEL}")
    count = np.count_nonzero(np.bincount(labels.ravel())[1:])
    if np.array_equal(labels, image.array) or count > MANY_LABELS:
        logger.warning(
            "%s: found %d labels, as if it were an image, expected an earlier segmentation",
            path.name,
            count,
        )
    return labels

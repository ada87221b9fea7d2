"""A case made of an image and of what the command line says about it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamt.cli.console import UsageError
from gamt.cli.label_names import MAX_LABEL, parse_label_names
from gamt.cli.options import ImageOptions, name_volume_option
from gamt.cli.prompt_text import parse_prompts
from gamt.io.case import Case
from gamt.io.image import GridError, Image, read_image, read_label_names, read_labels
from gamt.io.labels import (
    default_label,
    number_labels,
    number_prompts,
    restore_labels,
    warn_of_unused_names,
)

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
    """

    image: Image
    case: Case
    labels: tuple[int, ...]
    names: Mapping[int, str]
    previous: npt.NDArray[np.int64] | None

    def name(self, label: int) -> str:
        """Returns what to call a label of the user's."""
        return self.names.get(label, f"label {label}")

    @property
    def class_names(self) -> dict[int, str]:
        """What to call the classes 1..K of the case."""
        return dict(enumerate(map(self.name, self.labels), start=1))

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
        LabelError: a prompt has no label, and the earlier segmentation has several.
        ImageError: a file can't be read, or a prompt is outside of the image.
    """
    named_labels = parse_label_names(options.label_names)
    with name_volume_option():
        image = read_image(path, options.volume)
    earlier = None
    if options.previous is not None:
        earlier = _read_previous(options.previous, image, options.resample_previous)
        named_labels = _inherit_names(options.previous, named_labels)
    prompts = parse_prompts(
        image,
        options.boxes,
        options.clicks,
        options.negatives,
        options.ras,
        named_labels,
        lambda: 1 if earlier is None else default_label(earlier),
    )
    if not prompts:
        raise UsageError("expected at least one --box, --click or --negative")
    if max(prompts) > MAX_LABEL:
        raise UsageError(f"found label {max(prompts)}, expected labels from 1 to {MAX_LABEL}")
    case = Case(
        image.name,
        image.array,
        image.spacing_mm,
        number_prompts(prompts.values()),
        None if earlier is None else number_labels(earlier, list(prompts)),
    )
    names = {number: name for name, number in named_labels.items()}
    kept = [] if earlier is None else np.unique(earlier).tolist()
    warn_of_unused_names(names, [*prompts, *kept], image.path.name)
    return ImageCase(image, case, tuple(prompts), names, earlier)


def read_image_truth(path: Path, scan: ImageCase) -> npt.NDArray[np.uint8]:
    """Reads the true segmentation of an image.

    Returns:
        (z, y, x), the classes 1..K of the case.

    Raises:
        ImageError: the file can't be read, or isn't a segmentation of the image.
    """
    return number_labels(read_labels(path, scan.image), scan.labels)


def _inherit_names(previous: Path, named_labels: Mapping[str, int]) -> dict[str, int]:
    """Returns the labels by name, with those of an earlier segmentation that are not named anew."""
    inherited = {
        name: label
        for label, name in read_label_names(previous).items()
        if label not in named_labels.values()
    }
    return inherited | dict(named_labels)


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

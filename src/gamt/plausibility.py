"""Warnings about cases and results that can't be meant, such as a box of one voxel."""

import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.io.case import Case
from gamt.lifting.pipeline import first_seed
from gamt.prompts import ClassPrompts
from gamt.settings import Scale

logger = logging.getLogger("gamt")

NO_NAMES: Mapping[int, str] = MappingProxyType({})


def warn_of_input(case: Case, names: Mapping[int, str] = NO_NAMES) -> None:
    """Warns in the log of an image without contrast, and of prompts that name no target.

    Args:
        case: the scan and its prompts.
        names: of the classes, by label; those without one are called "class 1" etc.
    """
    for finding in doubt_image(case.image):
        logger.warning("%s: %s", case.name, finding)
    for prompts in case.prompts:
        name = names.get(prompts.label, f"class {prompts.label}")
        for finding in _doubt_prompts(case, prompts):
            logger.warning("%s: %s: %s", case.name, name, finding)


def warn_of_scale(case: Case, scale: Scale, names: Mapping[int, str] = NO_NAMES) -> None:
    """Warns in the log of classes that a scale has no effect on, as no click begins them.

    Args:
        case: the scan and its prompts.
        scale: that was chosen (`Settings.scale`); "medium" is what a target has without.
        names: as for `warn_of_input`.
    """
    for prompts in case.prompts:
        if scale != "medium" and first_seed(case, prompts) is None:
            logger.warning(
                "%s: %s: scale %s has no effect, for it begins with %s, not with a click",
                case.name,
                names.get(prompts.label, f"class {prompts.label}"),
                scale,
                _describe_beginning(case, prompts),
            )


def _describe_beginning(case: Case, prompts: ClassPrompts) -> str:
    """Tells what a class begins with that doesn't begin with a click."""
    if case.previous is not None and (case.previous == prompts.label).any():
        return "an earlier result"
    if prompts.box is not None or prompts.slice_box is not None:
        return "a box"
    return "negative clicks alone"


def warn_of_result(
    case: Case, labels: npt.NDArray[np.uint8], names: Mapping[int, str] = NO_NAMES
) -> None:
    """Warns in the log of classes that no voxel has.

    Args:
        case: the scan and its prompts.
        labels: (z, y, x), the class's label in the case, or 0.
        names: as for `warn_of_input`.
    """
    voxels = count_voxels(labels)
    for prompts in case.prompts:
        name = names.get(prompts.label, f"class {prompts.label}")
        if not voxels[prompts.label]:
            logger.warning("%s: %s: the segmentation is empty", case.name, name)


def count_voxels(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Returns the number of voxels of each label, (256,), of a segmentation (z, y, x)."""
    counts = np.zeros(256, np.int64)
    for layer in labels:  # slice by slice: bincount turns all it is given into large integers
        counts += np.bincount(layer.ravel(), minlength=256)
    return counts


def doubt_image(image: npt.NDArray[Any]) -> Iterator[str]:
    """Yields what is wrong with an image (z, y, x) in which nothing can be found."""
    finite = np.isfinite(image)
    if not finite.any():
        yield "the image holds no finite number"
        return
    first = image.flat[finite.argmax()]
    if image.min(where=finite, initial=first) == image.max(where=finite, initial=first):
        yield f"all voxels of the image are {first:g}: nothing can be told apart"


def _doubt_prompts(case: Case, prompts: ClassPrompts) -> Iterator[str]:
    inside = {click.voxel for click in prompts.clicks if click.positive}
    outside = {click.voxel for click in prompts.clicks if not click.positive}
    if prompts.box is not None and prompts.box.volume == 1:
        yield "the box is a single voxel; expected two opposite corners of a box around the target"
    if inside & outside:
        yield "a voxel is clicked as inside and as outside; the later click counts"
    has_place = inside or prompts.box is not None or prompts.slice_box is not None
    has_previous = case.previous is not None and (case.previous == prompts.label).any()
    if outside and not has_place and not has_previous:
        yield "there are negative clicks alone, and no earlier result to take away from"

"""Labels as a user numbers them, any from 1 on, and as a case does: 1..K in the same order."""

import logging
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.prompts import ClassPrompts

logger = logging.getLogger("gamt")

MAX_LABEL = 255
"""Segmentations are uint8."""


def is_label_name(text: str) -> bool:
    """Says whether a label can be called so: by a text that is no number and has no colon."""
    try:
        float(text)
    except ValueError:
        return bool(text) and ":" not in text
    return False


class LabelError(ValueError):
    """Too many or too few labels, or one that has to be named and isn't."""


def number_prompts(prompts: Iterable[ClassPrompts]) -> tuple[ClassPrompts, ...]:
    """Gives prompts, in ascending order of their labels, the labels 1..K."""
    return tuple(replace(one, label=number) for number, one in enumerate(prompts, start=1))


def number_labels(volume: npt.NDArray[Any], labels: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Turns each of the ascending `labels` (1..255 of them) into its place 1..K, all else into 0.

    Args:
        volume: of any shape, whole numbers.
        labels: the user's.
    """
    places = np.searchsorted(labels, volume).clip(max=len(labels) - 1)
    return np.where(np.asarray(labels)[places] == volume, places + 1, 0).astype(np.uint8)


def restore_labels(volume: npt.NDArray[np.uint8], labels: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Turns 1..K into the user's `labels`, of at most 255."""
    return np.array([0, *labels], dtype=np.uint8)[volume]


def default_label(previous: npt.NDArray[np.int64]) -> int:
    """Returns which target is meant where the user names none: the only one that there is.

    Args:
        previous: an earlier segmentation of any shape, labels, 0 for the background.

    Returns:
        The segmentation's only label, whatever its number; 1 where it is empty.

    Raises:
        LabelError: there are several labels.
    """
    labels = np.unique(previous[previous > 0]).tolist()
    if len(labels) > 1:
        raise LabelError(
            f"found a prompt without a label, and in the earlier segmentation the labels "
            f"{reprlib.repr(labels)[1:-1]}: write LABEL:I,J,K"
        )
    return labels[0] if labels else 1


def warn_of_unused_names(names: Mapping[int, str], labels: Collection[int], where: str) -> None:
    """Warns of names whose labels are not there, for they are likely mistaken.

    Args:
        names: by label.
        labels: those that are there.
        where: what has the labels, for the message.
    """
    for label, name in names.items():
        if label not in labels:
            logger.warning("%s: nothing has the label %d, named %s", where, label, name)

"""Labels as a user numbers them, any from 1 on, and as a case does: 1..K in the same order."""

import logging
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.prompts import ClassPrompts

_log = logging.getLogger("gamt")


class LabelError(ValueError):
    """Labels of prompts that a segmentation doesn't have, or too many or too few labels."""


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


def match_previous(
    previous: npt.NDArray[np.int64], targets: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Gives a previous segmentation the labels that the prompts' targets have.

    A mask of one label, whatever its number, is that of the only target.

    Args:
        previous: of any shape, labels, 0 for the background.
        targets: the labels with prompts.

    Raises:
        LabelError: there are several labels or targets, and a target isn't among the labels.
    """
    labels = np.unique(previous[previous > 0]).tolist()
    missing = sorted(set(targets) - set(labels))
    if not labels or not missing:
        return previous
    if len(labels) == len(targets) == 1:
        _log.info("label %d of the previous segmentation is taken for %d", *labels, *targets)
        return np.where(previous > 0, targets[0], 0)
    raise LabelError(
        f"label {missing[0]} has a prompt, and the previous segmentation has the labels "
        f"{reprlib.repr(labels)[1:-1]}: begin the prompt with one of them and a colon"
    )

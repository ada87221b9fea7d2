"""Labels as a user numbers them, any from 1 on, and as a case does: 1..K in the same order."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.prompts import ClassPrompts


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

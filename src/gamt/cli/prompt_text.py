"""Prompts as a user writes them, ``[LABEL:]I,J,K``, and what they mean on an image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gamt.cli.console import UsageError
from gamt.io.nifti import NiftiImage
from gamt.prompts import ClassPrompts, Click


def parse_prompts(
    image: NiftiImage,
    boxes: Sequence[str] | None,
    clicks: Sequence[str] | None,
    negatives: Sequence[str] | None,
    ras: bool,
    named_labels: Mapping[str, int],
) -> dict[int, ClassPrompts]:
    """Turns the texts of the command line's options into prompts.

    Args:
        image: what the prompts are about.
        boxes: of ``--box``: two opposite corners, both inside.
        clicks: of ``--click``; they count as earlier than the negative ones.
        negatives: of ``--negative``.
        ras: whether all of them are in the scanner's RAS coordinates (mm), not in voxels.
        named_labels: the labels that have names, by name.

    Returns:
        The user's labels in ascending order, and what was said about each.

    Raises:
        UsageError: a text can't be understood, or a label has two boxes.
        NiftiError: a place is outside of the image, or lies between voxels.
    """
    said: dict[int, ClassPrompts] = {}
    for text in boxes or []:
        label, numbers = _parse_prompt("--box", text, 6, named_labels)
        if label in said:
            raise UsageError(f"--box {text}: label {label} has a box already")
        said[label] = ClassPrompts(label, image.box(numbers[:3], numbers[3:], ras))
    for option, texts in (("--click", clicks), ("--negative", negatives)):
        for text in texts or []:
            label, numbers = _parse_prompt(option, text, 3, named_labels)
            click = Click(*image.voxel(numbers, ras), positive=option == "--click")
            before = said.get(label, ClassPrompts(label))
            said[label] = replace(before, clicks=(*before.clicks, click))
    return dict(sorted(said.items()))


def _parse_prompt(
    option: str, text: str, count: int, named_labels: Mapping[str, int]
) -> tuple[int, list[float]]:
    """Returns the label, 1 where none is given, and the numbers of ``[LABEL:]NUMBER,...``."""
    name, _, rest = text.rpartition(":")
    try:
        label = named_labels[name] if name in named_labels else int(name or 1)
        numbers = [float(part) for part in rest.split(",")]
        if len(numbers) == count and all(map(math.isfinite, numbers)) and label > 0:
            return label, numbers
    except ValueError:
        pass
    raise UsageError(
        f"{option} {text}: expected {count} numbers with commas, as [LABEL:]NUMBERS, "
        "where LABEL is a number or a name given by --label"
    )

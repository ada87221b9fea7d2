"""Prompts as a user writes them, ``[LABEL:]I,J,K``, and what they mean on an image."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from gamt.cli.console import UsageError
from gamt.interactions import gather
from gamt.io.format import ImageError
from gamt.io.image import Image
from gamt.prompts import (
    Box,
    ClassPrompts,
    Click,
    LabelledPrompt,
    Lasso,
    Region,
    Scribble,
    SliceBox,
)

logger = logging.getLogger("gamt")


def parse_prompts(
    image: Image,
    boxes: Sequence[str] | None,
    clicks: Sequence[str] | None,
    negatives: Sequence[str] | None,
    ras: bool,
    named_labels: Mapping[str, int] = MappingProxyType({}),
    default_label: Callable[[], int] = lambda: 1,
) -> list[LabelledPrompt]:
    """Turns the texts of the command line's options into prompts, and logs boxes as understood.

    Args:
        image: what the prompts are about.
        boxes: of ``--box``: two opposite corners, both inside.
        clicks: of ``--click``; they count as earlier than the negative ones.
        negatives: of ``--negative``.
        ras: whether all of them are in the scanner's RAS coordinates (mm), not in voxels.
        named_labels: the labels that have names, by name.
        default_label: returns the label of prompts that have none; it may raise an error.

    Returns:
        The prompts in their order: boxes, clicks, negative clicks.

    Raises:
        UsageError: a text can't be understood, a box is given by the first and last of each axis
            instead of by two corners, or a label has two boxes.
        ImageError: a place is outside of the image, or lies between voxels.
    """
    said: list[LabelledPrompt] = []
    names = {label: name for name, label in named_labels.items()}
    understood: list[tuple[str, str]] = []
    for text in boxes or []:
        named, numbers = _parse_prompt("--box", text, 6, named_labels)
        label = named or default_label()
        if any(one.label == label for one in said):
            raise UsageError(f"--box {text}: label {label} has a box already")
        said.append(LabelledPrompt(label, _find_box(image, text, numbers, ras)))
        name = names.get(label, f"label {label}")
        understood.append((name, _describe_box(numbers, ras)))
    for option, texts in (("--click", clicks), ("--negative", negatives)):
        for text in texts or []:
            named, numbers = _parse_prompt(option, text, 3, named_labels)
            label = named or default_label()
            click = Click(*image.voxel(numbers, ras), positive=option == "--click")
            said.append(LabelledPrompt(label, click))
    for entry in understood:
        logger.info("%s: box %s", *entry)
    return said


def settle_prompts(said: Sequence[LabelledPrompt]) -> dict[int, ClassPrompts]:
    """Returns what is in force of all that was said, and warns in the log of what is not.

    Args:
        said: in order of time.

    Returns:
        The user's labels in ascending order, and what counts of each.
    """
    prompts = gather(said)
    for label in prompts:
        drawn = [one for one in said if one.label == label and isinstance(one.prompt, SliceBox)]
        if len(drawn) > 1:
            logger.warning(
                "label %d: found %d boxes and lassos on single slices, used the last one",
                *(label, len(drawn)),
            )
    clicks = sum(isinstance(one.prompt, Click) for one in said)
    if clicks > sum(len(one.clicks) for one in prompts.values()):
        logger.warning(
            "a voxel is clicked as inside and as outside, or for two labels; the later click counts"
        )
    return prompts


def describe_prompts(said: Sequence[LabelledPrompt], names: Mapping[int, str]) -> str:
    """Returns how many prompts each label has, such as "liver: 1 box; label 2: 3 clicks"."""
    parts = []
    for label in sorted({one.label for one in said}):
        prompts = [one.prompt for one in said if one.label == label]
        clicks = [prompt.positive for prompt in prompts if isinstance(prompt, Click)]
        regions = [prompt for prompt in prompts if isinstance(prompt, Region)]
        scribbles = [prompt for prompt in prompts if isinstance(prompt, Scribble)]
        lassos = [prompt for prompt in prompts if isinstance(prompt, Lasso)]
        others = len(clicks) + len(regions) + len(scribbles) + len(lassos)
        counts = {
            ("box", "boxes"): len(prompts) - others,
            ("lasso", "lassos"): len(lassos),
            ("click", "clicks"): sum(clicks),
            ("negative click", "negative clicks"): len(clicks) - sum(clicks),
            ("scribble", "scribbles"): len(scribbles),
            ("negative area", "negative areas"): len(regions),
        }
        texts = [f"{n} {one if n == 1 else several}" for (one, several), n in counts.items() if n]
        parts.append(f"{names.get(label, f'label {label}')}: {', '.join(texts)}")
    return "; ".join(parts)


def _find_box(image: Image, text: str, numbers: Sequence[float], ras: bool) -> Box:
    """Returns the box between two corners; refuses the first and last of each axis."""
    corner, opposite = numbers[:3], numbers[3:]
    first, last = numbers[::2], numbers[1::2]
    if _ascends(image, first, last, ras) and not _ascends(image, corner, opposite, ras):
        corners = ",".join(f"{number:g}" for number in (*first, *last))
        raise UsageError(
            f"--box {text}: found the first and last of each axis, "
            f"expected two corners, lower first: {corners}"
        )
    return image.box(corner, opposite, ras)


def _ascends(image: Image, low: Sequence[float], high: Sequence[float], ras: bool) -> bool:
    """Says whether two places are corners in the image, the one with the lower numbers first."""
    try:
        image.box(low, high, ras)
    except ImageError:
        return False
    return all(a <= b for a, b in zip(low, high, strict=True))


def _describe_box(numbers: Sequence[float], ras: bool) -> str:
    """Returns a box, such as "x 56-143, y 12-145, z 42-57", along the axes of its prompt.

    In voxels, x, y and z are the file's first, second and third axis, not the package's.
    """
    ranges = [sorted(pair) for pair in zip(numbers[:3], numbers[3:], strict=True)]
    between, unit = (" to ", " mm") if ras else ("-", "")
    named = zip("xyz", ranges, strict=True)
    return ", ".join(f"{axis} {low:g}{between}{high:g}" for axis, (low, high) in named) + unit


def _parse_prompt(
    option: str, text: str, count: int, named_labels: Mapping[str, int]
) -> tuple[int | None, list[float]]:
    """Returns the label, None where none is given, and the numbers of ``[LABEL:]NUMBER,...``."""
    name, _, rest = text.rpartition(":")
    label = _find_label(f"{option} {text}", name, named_labels) if name else None
    try:
        numbers = [float(part) for part in rest.split(",")]
        if len(numbers) == count and all(map(math.isfinite, numbers)):
            return label, numbers
    except ValueError:
        pass
    raise UsageError(
        f"{option} {text}: expected {count} numbers with commas, as [LABEL:]NUMBERS, "
        "where LABEL is a number or a name given by --label"
    )


def _find_label(prompt: str, name: str, named_labels: Mapping[str, int]) -> int:
    """Returns the label of a name or a number; errors begin with `prompt`."""
    try:
        label = named_labels.get(name) or int(name)
    except ValueError:
        label = 0
    if label < 1:
        raise UsageError(
            f"{prompt}: found the label {name!r}, expected a whole number from 1 on, "
            "or a name given by --label"
        )
    return label

"""Markups of 3D Slicer (``.mrk.json``): points and boxes, placed in its views, as prompts.

A file holds any number of markups, most often one: a list of points, or a region of interest
(ROI). Lists are of targets:

- A list whose points mark what is outside of the target is negative: its name begins with ``-``, or
  has the word "negative" or "background" in it. So is a single point with such a label.
- What else its name says is its target: a label's number or name. Lists of another name are about
  the label that a prompt without a label is about. Only where a file has several such names do
  these get the first free labels, from 1 on, in the order in which they appear.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, product

import numpy as np
import numpy.typing as npt

from gamt.io.format import ImageError
from gamt.io.image import Image, PlaceError
from gamt.io.json_files import JsonValue
from gamt.io.labels import MAX_LABEL
from gamt.prompts import Box, Click, LabelledPrompt

logger = logging.getLogger("gamt")

_POINTS = "Fiducial"
_ROI = "ROI"

_MOST_MARKUPS = 1000
"""Markups of a file; Slicer itself writes one a file."""

_MOST_POINTS = 100_000
"""Points of a file: far more than are ever placed by hand."""

_NEGATIVE = re.compile(r"^\s*-|(?<![a-z])(?:negative|background)(?![a-z])", re.IGNORECASE)

_TO_RAS = {"LPS": np.array([-1.0, -1.0, 1.0]), "RAS": np.ones(3)}
"""Factors of a file's coordinates (x, y, z) that turn them into RAS coordinates."""


def read_markups(
    root: JsonValue,
    image: Image,
    named_labels: Mapping[str, int],
    default_label: Callable[[], int],
) -> tuple[LabelledPrompt, ...]:
    """Turns the markups of a file into prompts, in their order.

    Points that are not placed yet, or are marked as missing, are left out. Where several labels
    have names, the log warns of a list that is named after none of them.

    Args:
        root: the whole of the file.
        image: what the markups are about; its affine says which voxel is at a place.
        named_labels: the labels that have names, by name.
        default_label: returns the label of markups whose name says none; it may raise an error.

    Raises:
        JsonError: a markup is of another type, in another unit, broken or outside of the image, or
            it doesn't say which of several targets is meant.
    """
    markups = root.member("markups").items()
    if len(markups) > _MOST_MARKUPS:
        root.member("markups").refuse(f"{_MOST_MARKUPS} at most")
    targets = [_NEGATIVE.sub("", _read_name(one)).strip(" _-:") for one in markups]
    labels = _find_labels(targets, named_labels)
    prompts: list[LabelledPrompt] = []
    for markup, target in zip(markups, targets, strict=True):
        if not target and len(set(labels.values())) > 1:
            known = ", ".join(map(repr, labels))
            markup.fail(f"found a name that says no target, expected one of {known} in it")
        label = labels.get(target or next(iter(labels), "")) or default_label()
        if target and target not in labels and len(named_labels) > 1:
            known = ", ".join(map(repr, named_labels))
            logger.warning("list %r names none of %s; label %d is taken", target, known, label)
        prompts += [LabelledPrompt(label, prompt) for prompt in _read_markup(markup, image)]
        if len(prompts) > _MOST_POINTS:
            root.member("markups").fail(f"found over {_MOST_POINTS:,} points, expected fewer")
    return tuple(prompts)


def _find_labels(targets: Sequence[str], named_labels: Mapping[str, int]) -> dict[str, int]:
    """Returns the labels of a file's targets, without one whose label isn't said.

    Args:
        targets: the targets by which the markups are named; empty where the name says none.
        named_labels: the labels that have names, by name.
    """
    labels = dict(named_labels)
    others = []
    for target in targets:
        if re.fullmatch("[0-9]{1,3}", target) and 1 <= int(target) <= MAX_LABEL:
            labels.setdefault(target, int(target))
        elif target and target not in labels and target not in others:
            others.append(target)
    if len(others) > 1:
        taken = set(labels.values())
        free = (label for label in count(1) if label not in taken)
        labels |= {target: next(free) for target in others}
    return {target: labels[target] for target in dict.fromkeys(targets) if target in labels}


def _read_name(markup: JsonValue) -> str:
    return markup.member("name").text() if markup.has("name") else ""


def _read_markup(markup: JsonValue, image: Image) -> Iterator[Box | Click]:
    """Turns one of a file's markups into prompts."""
    kind = markup.member("type").text(_POINTS, _ROI)
    if markup.has("coordinateUnits"):
        _check_unit(markup.member("coordinateUnits"))
    to_ras = _TO_RAS["LPS"]  # Slicer's own default
    if markup.has("coordinateSystem"):
        to_ras = _TO_RAS[markup.member("coordinateSystem").text(*_TO_RAS)]
    negative = _NEGATIVE.search(_read_name(markup)) is not None
    if kind == _ROI:
        if negative:
            markup.fail("found a negative ROI, expected points for what is outside of the target")
        yield _read_box(markup, image, to_ras)
        return
    positions: list[JsonValue] = []
    signs: list[bool] = []
    points = markup.member("controlPoints").items()
    if len(points) > _MOST_POINTS:
        markup.member("controlPoints").refuse(f"{_MOST_POINTS:,} at most")
    for point in points:
        if point.has("positionStatus"):
            status = point.member("positionStatus")
            if status.text("defined", "undefined", "preview", "missing") != "defined":
                continue
        text = point.member("label").text() if point.has("label") else ""
        positions.append(point.member("position"))
        signs.append(not (negative or _NEGATIVE.search(text)))
    places_mm = to_ras * np.reshape([one.numbers(3) for one in positions], (-1, 3))
    try:
        voxels = image.voxels(places_mm, ras=True)
    except PlaceError as error:
        positions[error.index].fail(str(error))
    for (z, y, x), positive in zip(voxels.tolist(), signs, strict=True):
        yield Click(z, y, x, positive=positive)


def _check_unit(unit: JsonValue) -> None:
    """Refuses units other than millimetres: a code, or the code and where it is from."""
    code = unit.items()[:1] if isinstance(unit.value, list) else [unit]
    if [one.value for one in code] != ["mm"]:
        unit.refuse("'mm'")


def _read_box(markup: JsonValue, image: Image, to_ras: npt.NDArray[np.float64]) -> Box:
    center, size = markup.member("center").numbers(3), markup.member("size").numbers(3)
    axes = np.eye(3)
    if markup.has("orientation"):  # row by row; the columns are the box's axes
        axes = np.reshape(markup.member("orientation").numbers(9), (3, 3))
    halves = np.array(list(product((-0.5, 0.5), repeat=3))) * size
    try:
        return image.box_within(to_ras * (halves @ axes.T + center))
    except ImageError as error:
        markup.member("center").fail(str(error))

"""Images to the challenge's npz, and back."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gamt.io.case import MAX_CLASSES, CaseError, read_spacing, read_volume, write_case
from gamt.io.image import Image, read_image, read_labels, write_image
from gamt.io.labels import LabelError, number_labels, number_prompts, warn_of_unused_names
from gamt.prompts import ClassPrompts, box_of_mask

logger = logging.getLogger("gamt")


def image_to_npz(
    scan: Image,
    target: Path,
    prompts: Mapping[int, ClassPrompts],
    labels: Path | None = None,
    draw_boxes: bool = True,
    names: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Writes a scan as a case, whose labels are 1..K in the order of the user's.

    Args:
        scan: the image.
        target: the npz file.
        prompts: of the user's labels, in ascending order.
        labels: the file of the true segmentation, which becomes `gts`; all of its labels are
            classes.
        draw_boxes: whether the labels' own boxes are the prompts where there are no others.
        names: of the user's labels, for the log ("gamt"): the npz file has no place for them.

    Raises:
        LabelError: there is no class, or there are too many, or one isn't in `labels`.
        ImageError: `labels` isn't a segmentation of the scan.
    """
    said, truth = dict(prompts), None
    if labels is not None:
        truth = read_labels(labels, scan)
        values = np.unique(truth[truth > 0]).tolist()
        if unknown := sorted(set(said) - set(values)):
            raise LabelError(f"label {unknown[0]} has a prompt, and isn't in {labels}")
        said = {value: said.get(value, ClassPrompts(value)) for value in values}
    if not 1 <= len(said) <= MAX_CLASSES:
        expected = f"1 to {MAX_CLASSES} of them, from prompts or a true segmentation"
        raise LabelError(f"found {len(said)} labels, expected {expected}")
    warn_of_unused_names(names, said, scan.path.name)
    classes = number_prompts(said.values())
    gts = None if truth is None else number_labels(truth, list(said))
    if gts is not None and draw_boxes and not prompts:
        classes = tuple(replace(one, box=box_of_mask(gts == one.label)) for one in classes)
    write_case(target, scan.array, scan.spacing_mm, classes, gts=gts)
    for number, label in enumerate(said, start=1):
        if number != label:
            logger.info("%s became %d", names.get(label, f"label {label}"), number)


def npz_to_image(
    source: Path,
    target: Path,
    key: str | None = None,
    like: Path | None = None,
    volume: int | None = None,
    names: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Writes a volume of an npz file as an image.

    Args:
        source: the npz file.
        target: as for `gamt.io.image.write_image`.
        key: of the volume; None as for `gamt.io.case.read_volume`.
        like: the file of the image that the volume was made from, which says where it lies.
        volume: which one of `like`, where that holds several.
        names: of the labels in the volume, as for `gamt.io.image.write_image`.

    Raises:
        CaseError: the file has no such volume, or it isn't of the shape of `like`.
        ImageError: `like` can't be read, or `target` can't be written.
    """
    array = read_volume(source, key)
    if names:
        warn_of_unused_names(names, np.unique(array).tolist(), source.name)
    if like is not None:
        grid = read_image(like, volume)
        if grid.array.shape != array.shape:
            expected = f"{grid.array.shape} as in {grid.path.name}"
            raise CaseError(source, key, f"a volume of shape {array.shape}", expected)
        write_image(target, array, grid, names=names)
        return
    spacing_mm = read_spacing(source)
    if spacing_mm is None:
        logger.warning("%s: no spacing, used 1 mm; the image it was made from has it", source.name)
        spacing_mm = (1.0, 1.0, 1.0)
    write_image(target, array, spacing_mm=spacing_mm, names=names)

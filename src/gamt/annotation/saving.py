"""A document's files: the label map, the prompts beside it, the challenge's npz."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gamt.annotation.document import Document
from gamt.annotation.prompts import to_said
from gamt.annotation.steps import Given
from gamt.annotation.targets import Target
from gamt.io.case import write_case
from gamt.io.files import OverwriteError, atomic_write, refuse_overwrite
from gamt.io.format import NamedFormat, WritableFormat
from gamt.io.formats import all_formats, writer_of
from gamt.io.image import write_image
from gamt.io.labels import number_labels
from gamt.io.prompts_file import SavedPrompts, prompts_path, refuse_other_content, write_prompts
from gamt.prompts import Box, ClassPrompts, LabelledPrompt

NIFTI, INPUT, PROMPTS, NPZ = "nifti", "input", "prompts", "npz"

COMPLETE = (NIFTI, INPUT)
"""Formats of which nothing is lost: labels, and beside them prompts and names."""


@dataclass(frozen=True, slots=True)
class SaveFormat:
    """Something that a document can be saved as.

    Attributes:
        id: "nifti", "input", "prompts" or "npz".
        label: for people.
        suffix: of its files.
    """

    id: str
    label: str
    suffix: str


def formats_of(document: Document) -> list[SaveFormat]:
    """Returns what a document can be saved as, the usual one first."""
    formats = [SaveFormat(NIFTI, "NIfTI (.nii.gz)", ".nii.gz")]
    own = own_format(document.image.path)
    if own is not None and own.NAME != "NIfTI":
        named = own.NAMED_SUFFIXES if isinstance(own, NamedFormat) else ()
        suffix = (*named, *own.SUFFIXES)[0]
        formats.append(SaveFormat(INPUT, f"{own.NAME} ({suffix})", suffix))
    formats.append(SaveFormat(PROMPTS, "Prompts (.prompts.json)", ".prompts.json"))
    formats.append(SaveFormat(NPZ, "Challenge (.npz)", ".npz"))
    return formats


def file_name(document: Document, format_id: str) -> str:
    """Returns how a file of that format is called, such as ``scan_seg.nii.gz``.

    Raises:
        ValueError: the document can't be saved so.
    """
    formats = {one.id: one for one in formats_of(document)}
    if format_id not in formats:
        raise ValueError(f"found the format {format_id!r}, expected one of {', '.join(formats)}")
    return f"{document.image.name}_seg{formats[format_id].suffix}"


def own_format(path: Path) -> WritableFormat | None:
    """Returns the format of a scan's file, by its suffix; None if it isn't one to write."""
    suffixes = {suffix: one for one in all_formats() for suffix in one.SUFFIXES}
    fitting = [suffix for suffix in suffixes if path.name.lower().endswith(suffix)]
    one = suffixes[max(fitting, key=len)] if fitting else None
    return one if isinstance(one, WritableFormat) else None


def save(
    document: Document,
    format_id: str,
    folder: Path,
    segmenter: str,
    replaceable: Collection[Path] | None,
) -> list[Path]:
    """Writes a document's files into a folder; all appear at once, or none does.

    Args:
        document: the document.
        format_id: of `formats_of`; what it leaves out, `tell_losses` says.
        folder: where to.
        segmenter: the name of the 2-D model.
        replaceable: files that may be there already, as this run wrote them, and are replaced; None
            for any. The scan itself, and other content where prompts are to be, never are.

    Returns:
        The files written: the label map and the prompts beside it, or the one file.

    Raises:
        OverwriteError: a file is there that isn't to be replaced.
        OSError, ImageError: a file can't be written.
        ValueError: there is no such format, or nothing to save in it.
    """
    path = folder / file_name(document, format_id)
    if not marked(document):
        raise ValueError("there is nothing to save yet: mark a target first")
    is_label_map = format_id in COMPLETE
    files = [path, prompts_path(path)] if is_label_map else [path]
    for file in files:
        refuse_overwrite(file, [document.image.path])
        if replaceable is not None and file.exists() and file not in replaceable:
            raise OverwriteError(f"{file}: is there already, and was written by another run")
    if format_id == NPZ:
        write_npz(document, path)
        return files
    refuse_other_content(files[-1])
    with atomic_write(files[-1]) as prompts:
        write_prompts(prompts, document.image, saved_prompts(document), segmenter)
        if is_label_map:
            write_label_map(document, path)
    return files


def tell_losses(document: Document, format_id: str) -> str | None:
    """Returns what a file of that format doesn't hold of the document; None where it holds all."""
    if format_id != NPZ:
        return None
    targets = marked(document)
    left_out = sum(expressible(1, one)[1] for one in targets)
    notes = []
    if left_out:
        count = "1 prompt is" if left_out == 1 else f"{left_out} prompts are"
        notes.append(f"{count} left out: the file holds points, and one box in 3-D for each target")
    if any(number != one.id for number, one in enumerate(targets, start=1)):
        numbers = ", ".join(f"{one.name}: {n}" for n, one in enumerate(targets, start=1))
        notes.append(f"the labels are numbered anew ({numbers})")
    return "; ".join(notes) or None


def write_label_map(document: Document, path: Path) -> None:
    """Writes the label map in the format of the suffix, with label names where it keeps them."""
    one = writer_of(path)
    kept = one.NAMED_SUFFIXES if isinstance(one, NamedFormat) else ()
    names = {each.id: each.name for each in marked(document)}
    is_kept = path.name.lower().endswith(tuple(kept))
    write_image(path, document.labels, document.image, names=names if is_kept else {})


def saved_prompts(document: Document) -> SavedPrompts:
    """Returns all prompts of a document in order of time, with the targets' names and windows."""
    shape = document.image.array.shape
    given = sorted(
        ((one, each.id) for each in document.targets for one in each.step.prompts),
        key=lambda pair: pair[0].id,
    )
    targets = marked(document)
    return SavedPrompts(
        tuple(
            LabelledPrompt(label, to_said(one.prompt, shape))
            for one, label in given
            if isinstance(one, Given)
        ),
        {each.id: each.name for each in targets},
        {
            each.id: window
            for each in targets
            if (window := each.step.state.windows.get(1)) is not None and window.width > 0
        },
    )


def marked(document: Document) -> list[Target]:
    """Returns the targets that have a prompt or a mask."""
    return [one for one in document.targets if one.step.actions]


def write_npz(document: Document, path: Path) -> None:
    """Writes a case of the challenge, with the label map as the previous prediction.

    Its classes are the targets that have a prompt or a mask, numbered from 1 on.

    Raises:
        ValueError: there is neither a box in 3-D nor a point.
        OSError: the file can't be written.
    """
    targets = marked(document)
    classes = [expressible(number, one)[0] for number, one in enumerate(targets, start=1)]
    if not any(one.box or one.clicks for one in classes):
        raise ValueError("the challenge's files hold boxes in 3-D and points: there are none")
    labels = number_labels(document.labels, [one.id for one in targets])
    image = document.image
    write_case(path, image.array, image.spacing_mm, classes, previous=labels)


def expressible(number: int, target: Target) -> tuple[ClassPrompts, int]:
    """Returns what the challenge can say of a target's prompts, and how many it can't."""
    state = target.step.state
    boxes = [one.drawn for one in state.extents if isinstance(one.drawn, Box)]
    box = boxes[0] if len(boxes) == 1 else None
    marks = state.marks
    lost = len(state.extents) - (box is not None) + len(marks.scribbles) + len(marks.regions)
    return ClassPrompts(number, box, marks.clicks), lost

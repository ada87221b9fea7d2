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


@dataclass(frozen=True, slots=True)
class SaveFormat:
    """Something that a document can be saved as.

    Attributes:
        id: "nifti", "input", "prompts" or "npz".
        label: for people.
        file_name: of the file, such as "scan_seg.nii.gz".
    """

    id: str
    label: str
    file_name: str


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written.

    Attributes:
        files: the label map and the prompts beside it, or the one file.
        note: what of the document the files don't hold, for people; None where they hold all.
    """

    files: tuple[Path, ...]
    note: str | None = None


def formats_of(document: Document) -> list[SaveFormat]:
    """Returns what a document can be saved as, the usual one first."""
    name = f"{document.image.name}_seg"
    formats = [SaveFormat(NIFTI, "NIfTI (.nii.gz)", f"{name}.nii.gz")]
    own = own_format(document.image.path)
    if own is not None and own.NAME != "NIfTI":
        named = own.NAMED_SUFFIXES if isinstance(own, NamedFormat) else ()
        suffix = (*named, *own.SUFFIXES)[0]
        formats.append(SaveFormat(INPUT, f"{own.NAME} ({suffix})", f"{name}{suffix}"))
    formats.append(SaveFormat(PROMPTS, "Prompts (.prompts.json)", f"{name}.prompts.json"))
    formats.append(SaveFormat(NPZ, "Challenge (.npz)", f"{name}.npz"))
    return formats


def own_format(path: Path) -> WritableFormat | None:
    """Returns the format of a scan's file, by its suffix; None if it isn't one to write."""
    suffixes = {suffix: one for one in all_formats() for suffix in one.SUFFIXES}
    fitting = [suffix for suffix in suffixes if path.name.lower().endswith(suffix)]
    one = suffixes[max(fitting, key=len)] if fitting else None
    return one if isinstance(one, WritableFormat) else None


def format_of(document: Document, format_id: str) -> SaveFormat:
    """Returns the format of an id.

    Raises:
        ValueError: the document can't be saved so.
    """
    formats = {one.id: one for one in formats_of(document)}
    if format_id not in formats:
        raise ValueError(f"found the format {format_id!r}, expected one of {', '.join(formats)}")
    return formats[format_id]


def save(
    document: Document,
    path: Path,
    format_id: str,
    segmenter: str,
    replaceable: Collection[Path] | None = (),
) -> Saved:
    """Writes a document's files, which appear at once and whole, or not at all.

    Args:
        document: the document.
        path: of the file; the prompts of a label map lie beside it (`prompts_path`).
        format_id: of `formats_of`.
        segmenter: the name of the 2-D model.
        replaceable: files that are replaced if they are there, as this run wrote them; None for
            any file of the name but the scan, and but for other content than prompts in the place
            of prompts.

    Raises:
        OverwriteError: a file is there that isn't to be replaced.
        OSError, ImageError: a file can't be written.
        ValueError: there is no such format, or nothing to save in it.
    """
    chosen = format_of(document, format_id)
    if not any(one.step.actions for one in document.targets):
        raise ValueError("there is nothing to save yet: mark a target first")
    has_prompts_beside = chosen.id in (NIFTI, INPUT)
    files = (path, prompts_path(path)) if has_prompts_beside else (path,)
    for file in files:
        refuse_overwrite(file, [document.image.path])
        if replaceable is not None and file.exists() and file not in replaceable:
            raise OverwriteError(f"{file}: is there already; replace it, or name another output")
    if chosen.id != NPZ:
        refuse_other_content(files[-1])
    if chosen.id == NPZ:
        return Saved(files, write_npz(document, path))
    with atomic_write(files[-1]) as prompts:
        write_prompts(prompts, document.image, saved_prompts(document), segmenter)
        if has_prompts_beside:
            write_label_map(document, path)
    return Saved(files)


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


def write_npz(document: Document, path: Path) -> str | None:
    """Writes a case of the challenge, with the label map as the previous prediction.

    Its classes are the targets that have a prompt or a mask, numbered from 1 on.

    Returns:
        What the file doesn't hold, for people; None where it holds all.

    Raises:
        ValueError: there is neither a box in 3-D nor a point.
        OSError: the file can't be written.
    """
    targets = marked(document)
    classes, left_out = [], 0
    for number, target in enumerate(targets, start=1):
        prompts, lost = expressible(number, target)
        classes.append(prompts)
        left_out += lost
    if not any(one.box or one.clicks for one in classes):
        raise ValueError("the challenge's files hold boxes and points: there are none to save")
    labels = number_labels(document.labels, [one.id for one in targets])
    image = document.image
    write_case(path, image.array, image.spacing_mm, classes, previous=labels)
    notes = []
    if left_out:
        count = "1 prompt was" if left_out == 1 else f"{left_out} prompts were"
        notes.append(f"{count} left out: the file holds points, and a box in 3-D a target")
    renumbered = [one for number, one in enumerate(targets, start=1) if number != one.id]
    if renumbered:
        numbers = ", ".join(f"{one.name}: {n}" for n, one in enumerate(targets, start=1))
        notes.append(f"labels were numbered anew ({numbers})")
    return "; ".join(notes) or None


def expressible(number: int, target: Target) -> tuple[ClassPrompts, int]:
    """Returns what the challenge can say of a target's prompts, and how many it can't."""
    state = target.step.state
    boxes = [one.drawn for one in state.extents if isinstance(one.drawn, Box)]
    box = boxes[0] if len(boxes) == 1 else None
    marks = state.marks
    lost = len(state.extents) - (box is not None) + len(marks.scribbles) + len(marks.regions)
    return ClassPrompts(number, box, marks.clicks), lost

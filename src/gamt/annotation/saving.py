"""A document's files: the label map, the prompts beside it, the challenge's npz."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gamt.annotation.document import Document


@dataclass(frozen=True, slots=True)
class SaveFormat:
    """Something that a document can be saved as.

    Attributes:
        id: "nifti", "input", "prompts" or "npz".
        label: for people.
    """

    id: str
    label: str


def formats_of(document: Document) -> list[SaveFormat]:
    """Returns what a document can be saved as, the usual one first."""
    raise NotImplementedError


def file_name(document: Document, format_id: str) -> str:
    """Returns how a file of that format is called, such as ``scan_seg.nii.gz``.

    Raises:
        ValueError: there is no such format for this document.
    """
    raise NotImplementedError


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
        format_id: of `formats_of`.
        folder: where to.
        segmenter: the name of the 2-D model.
        replaceable: files that may be there already, and are replaced; None for any that gamt can
            have written.

    Returns:
        The files written: the label map and the prompts beside it, or the one file.

    Raises:
        OverwriteError: a file is there that isn't to be replaced; the scan itself never is.
        OSError, ImageError: a file can't be written.
        ValueError: there is no such format, or nothing to save.
    """
    raise NotImplementedError

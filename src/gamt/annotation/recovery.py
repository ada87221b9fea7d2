"""What of a document was not saved, in a file from which a later run goes on.

There is one file a scan, in the user's state folder, named by what the scan holds and where it
lies. It is replaced at once and whole, so that the last one written is there whenever a run ends.
"""

from dataclasses import dataclass
from pathlib import Path

from gamt.annotation.document import Document
from gamt.io.image import Image
from gamt.session import ArrayBounds, Session


@dataclass(frozen=True, slots=True)
class Recovery:
    """What an earlier run left.

    Attributes:
        path: of the file.
        saved_at: when it was written, ISO 8601 with the time zone.
        targets: how many.
        prompts: how many, of all targets.
    """

    path: Path
    saved_at: str
    targets: int
    prompts: int


def recovery_path(image: Image) -> Path:
    """Returns where the recovery file of a scan is, whether it is there or not."""
    raise NotImplementedError


def write_recovery(path: Path, document: Document) -> None:
    """Writes all targets with their masks and prompts; a document without any removes the file.

    Raises:
        OSError: the file can't be written.
    """
    raise NotImplementedError


def find_recovery(path: Path, document: Document) -> Recovery | None:
    """Returns what a recovery file holds; None where there is none for the document's scan.

    A file that is broken or about another scan is set aside (``.broken`` is added to its name), and
    a warning in the log ("gamt") says so.
    """
    raise NotImplementedError


def restore(path: Path, document: Document, session: Session) -> ArrayBounds | None:
    """Puts what a recovery file holds in place of a document's targets.

    Returns:
        Bounds (z, y, x) of what changed in the labels.

    Raises:
        ValueError: the file is broken, or about another scan.
        OSError: it can't be read.
    """
    raise NotImplementedError


def discard(path: Path) -> None:
    """Removes a recovery file, and the uploaded scan beside it."""
    raise NotImplementedError

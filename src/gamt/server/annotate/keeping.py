"""What is kept of unsaved work: a recovery file for each scan, and what earlier runs have left.

All of it reads and writes files, so it is called in threads; what uses a document, with its lock.
"""

from dataclasses import dataclass, field
from pathlib import Path

from gamt.annotation import recovery
from gamt.annotation.document import Document
from gamt.annotation.recovery import Claim, Recovery
from gamt.server.annotate.scans import Entry
from gamt.server.annotate.uploads import find_image
from gamt.session import ArrayBounds, Session


@dataclass(slots=True, eq=False)
class KeptWork:
    """What is kept of the work on the scan that is open.

    Attributes:
        entry: of the scan's image.
        document: holds the work.
        first: the first of the files where it may be (`recovery.recovery_path`).
        claim: of the file where it goes; None before there is any.
        is_shared: whether another run was at work on the scan when it was opened.
        offered: what earlier runs have left, the newest first.
        is_closed: whether another image has taken the scan's place, or the server ends.
    """

    entry: Entry
    document: Document
    first: Path
    claim: Claim | None = None
    is_shared: bool = False
    offered: list[Recovery] = field(default_factory=list)
    is_closed: bool = False
    _written: tuple[int, bool] = field(init=False)

    def __post_init__(self) -> None:
        """Takes what the document holds now for written."""
        self._written = self._now

    @property
    def _now(self) -> tuple[int, bool]:
        """The document's revision, and whether that is unsaved."""
        return self.document.revision, self.document.is_unsaved

    def go_on(self, session: Session) -> None:
        """Puts back what this run has done before, if anything; see `Keeping.begin`."""
        if self.claim is not None and self.claim.path.exists():
            recovery.restore(self.claim.path, self.document, session)
        self._written = self._now

    def look(self) -> None:
        """Finds what earlier runs have left."""
        self.offered = recovery.find_recoveries(self.first, self.document)

    def write(self) -> None:
        """Writes what was done since the last time.

        Raises:
            OSError: it can't be written.
        """
        if self.is_closed:
            return
        document, entry, now = self.document, self.entry, self._now
        if any(not one.is_untouched for one in document.targets):
            if self.claim is None:
                self.claim = recovery.claim(self.first)
            if now != self._written or not self.claim.path.exists():
                if not document.is_unsaved:  # what was unsaved before isn't any more, at all events
                    self.claim.path.unlink(missing_ok=True)
                recovery.write_recovery(self.claim.path, document)
            if document.is_unsaved and entry.sent is not None:
                entry.path = find_image(recovery.keep_scan(self.first, entry.sent))
                entry.sent = None
        elif self.claim is not None:
            self.claim.path.unlink(missing_ok=True)
        self._written = now

    def restore(self, found: Recovery, session: Session) -> ArrayBounds | None:
        """Puts what an earlier run has left in the targets' place.

        New work that makes way for it is left as by an earlier run, unless it is all saved.

        Returns:
            Bounds (z, y, x) of what changed in the labels; None where nothing did.

        Raises:
            ValueError: it is gone.
            OSError: the new work can't be written.
        """
        self.write()
        try:
            changed = recovery.restore(found.path, self.document, session)
        except FileNotFoundError as error:
            raise ValueError("another run has taken up what was left of this scan") from error
        if self.claim is not None:
            _, was_unsaved = self._written
            if not was_unsaved:
                self.claim.path.unlink(missing_ok=True)
            self.claim.release()
            self.claim = None
        return changed


class Keeping:
    """What this run keeps of all scans that it has opened."""

    def __init__(self) -> None:
        """Has opened none yet."""
        self._claims: dict[Path, tuple[Claim, bool]] = {}
        # Of scans that were open before, and whether what the file holds is unsaved.
        self._opened: set[Path] = set()  # the first recovery paths

    def begin(self, kept: KeptWork) -> None:
        """Gives a scan that is opened what this run had of it, whatever file that was opened from.

        The scan that was open before is closed: it may be the same one.
        """
        self._opened.add(kept.first)
        kept.claim, _ = self._claims.pop(kept.first, (None, False))
        kept.is_shared = recovery.is_at_work(kept.first, kept.claim)

    def end(self, kept: KeptWork) -> None:
        """Takes note that a scan is closed; what was done to it is put back if it is reopened."""
        kept.is_closed = True
        if kept.claim is not None:
            self._claims[kept.first] = kept.claim, kept.document.is_unsaved

    def close(self) -> None:
        """Leaves to the next run what is unsaved, and removes all else."""
        for claim, is_unsaved in self._claims.values():
            if not is_unsaved:
                claim.path.unlink(missing_ok=True)
            claim.release()
        for first in self._opened:
            recovery.discard_scan(first)

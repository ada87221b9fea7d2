"""An index of a team's records, so that a million of them need not be read to go on.

The records are what counts. A line that is missing, torn or of an older file only costs reading the
record again.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self, TextIO

from evaluation.listing import many_objects
from evaluation.records import METRICS, CaseRecord


class Entry(NamedTuple):
    """A line of the index.

    Attributes:
        case: the file's name, with its suffix.
        stamp: of its files when it was evaluated (`evaluation.listing`).
        voxels: of the image.
        classes: how many there are.
        seconds: that the case took on its worker, the evaluator's own work included.
        runs: of the method.
        written: bytes of its prediction.
        predicted: whether the method ever wrote a segmentation of the case.
        scores: in the order of METRICS, without a time limit.
    """

    case: str
    stamp: str
    voxels: int
    classes: int
    seconds: float
    runs: int
    written: int
    predicted: bool
    scores: tuple[float, ...]

    @classmethod
    def of(cls, record: CaseRecord, stamp: str, written: int) -> Self:
        """Makes the line of a record."""
        row = record.row()
        return cls(
            record.case,
            stamp,
            record.voxels,
            len(record.labels),
            record.seconds + record.own_seconds,
            len(record.interactions),
            written,
            record.predicted,
            tuple(float(row[name]) for name in METRICS),
        )


@many_objects()
def read_index(path: Path) -> dict[str, Entry]:
    """Reads an index; empty where there is none. Of several lines of a case the last one counts."""
    entries: dict[str, Entry] = {}
    try:
        file = path.open(encoding="ascii", errors="replace")
    except OSError:
        return entries
    decode = json.JSONDecoder().raw_decode  # of a million lines, `json.loads` takes twice as long
    with file:
        for line in file:
            try:
                (*first, scores), _ = decode(line)
                entry = Entry._make([*first, tuple(scores)])
            except (ValueError, TypeError):
                continue
            entries[entry.case] = entry
    return entries


@contextmanager
def open_index(path: Path) -> Iterator["IndexWriter"]:
    """Opens an index to add lines to it."""
    torn = _is_torn(path)
    with path.open("a", encoding="ascii") as file:
        if torn:
            file.write("\n")
        yield IndexWriter(file)


class IndexWriter:
    """Adds lines to an index; each is on its way to the disk at once."""

    def __init__(self, file: TextIO) -> None:
        """Takes the open file."""
        self._file = file

    def add(self, entry: Entry) -> None:
        """Adds a line."""
        # JSON, whose lines are lines whatever is in the name of a case.
        self._file.write(f"{json.dumps(entry)}\n")
        self._file.flush()


def _is_torn(path: Path) -> bool:
    """Says whether a file ends amid a line."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    except OSError:  # there is none, or it is empty
        return False

"""An index of a team's records, so that a million of them need not be read to go on.

The records are what counts. A line that is missing, torn or of an older file only costs reading the
record again.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, TextIO

from evaluation.listing import many_objects
from evaluation.records import METRICS, CaseRecord

_LINES = 10_000
"""How many are read at a time."""


_TYPES = [str, str, int, int, float, int, int, bool, list]
"""Of a line's parts, as JSON has them."""


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
    with file:
        while lines := list(islice(file, _LINES)):
            for *first, scores in _parse(lines):
                entry = Entry._make((*first, tuple(scores)))
                entries[entry.case] = entry
    return entries


def _parse(lines: Sequence[str]) -> list[list[Any]]:
    """Returns what is in those lines that are whole."""
    try:
        # All at once, which takes half of the time.
        parsed = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        if len(lines) == 1:
            return []
        half = len(lines) // 2
        return _parse(lines[:half]) + _parse(lines[half:])
    return [one for one in parsed if _is_entry(one)]


def _is_entry(content: Any) -> bool:
    return (
        isinstance(content, list)
        and [*map(type, content)] == _TYPES
        and [*map(type, content[-1])] == [float] * len(METRICS)
    )


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

"""An index of a team's records, so that a million of them need not be read to go on.

The records are what counts. A line that is missing, torn or of an older file only costs reading the
record again.
"""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

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


def read_index(path: Path) -> dict[str, Entry]:
    """Reads an index; empty where there is none. Of several lines of a case the last one counts."""
    entries: dict[str, Entry] = {}
    try:
        file = path.open(encoding="utf-8", errors="surrogateescape", newline="")
    except OSError:
        return entries
    with file:
        for words in csv.reader(file):
            if (entry := _parse(words)) is not None:
                entries[entry.case] = entry
    return entries


@contextmanager
def open_index(path: Path) -> Iterator["IndexWriter"]:
    """Opens an index to add lines to it."""
    torn = _is_torn(path)
    with path.open("a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        if torn:
            file.write("\n")
        yield IndexWriter(file)


class IndexWriter:
    """Adds lines to an index; each is on its way to the disk at once."""

    def __init__(self, file: Any) -> None:
        """Takes the open file."""
        self._file = file
        self._csv = csv.writer(file, lineterminator="\n")

    def add(self, entry: Entry) -> None:
        """Adds a line."""
        *first, scores = entry
        self._csv.writerow([*first, *scores])
        self._file.flush()


def _parse(words: list[str]) -> Entry | None:
    try:
        case, stamp, voxels, classes, seconds, runs, written, predicted, *scores = words
        if len(scores) != len(METRICS):
            return None
        return Entry(
            case,
            stamp,
            int(voxels),
            int(classes),
            float(seconds),
            int(runs),
            int(written),
            predicted == "True",
            tuple(map(float, scores)),
        )
    except ValueError:
        return None


def _is_torn(path: Path) -> bool:
    """Says whether a file ends amid a line."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    except OSError:  # there is none, or it is empty
        return False

"""The index of records survives whatever ends its process."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evaluation.index import Entry, open_index, read_index
from tests.evaluation.example import make_record

NAMES = st.text(st.characters(blacklist_characters="\0/"), min_size=1, max_size=8)


def make_entry(case: str, seconds: float = 1.0) -> Entry:
    return Entry(case, "1 2", 840, 2, seconds, 6, 900, True, (3.6, 3.2, 0.9, 0.8))


def write(path: Path, entries: list[Entry]) -> None:
    with open_index(path) as index:
        for entry in entries:
            index.add(entry)


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_index(tmp_path / "index.jsonl") == {}


def test_the_line_of_a_record_has_what_it_takes_to_go_on() -> None:
    # Six runs of a second each and 0.1 s of the evaluator's own; Dice 0.5 five times is an area of
    # four times that.
    entry = Entry.of(make_record("CT_a.npz", [0.5] * 6), "1 2", 900)
    assert (entry.seconds, entry.runs, entry.classes, entry.written) == (6.1, 6, 1, 900)
    assert entry.scores == (2.0, 2.0, 0.5, 0.5)


def test_the_last_line_of_a_case_counts(tmp_path: Path) -> None:
    write(tmp_path / "index.jsonl", [make_entry("CT_a.npz", 1.0), make_entry("CT_a.npz", 2.0)])
    assert read_index(tmp_path / "index.jsonl")["CT_a.npz"].seconds == 2.0


def test_lines_of_something_else_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    write(path, [make_entry("CT_a.npz")])
    with path.open("a") as file:
        file.write('["CT_b.npz", "1 2"]\n7\n\n{"case": "CT_c.npz"}\nCT_d.npz,1 2\n')
        for wrong in ((-1, [0.5] * 3), (-1, ["high"] * 4), (2, "840"), (4, None), (0, 7)):
            place, value = wrong
            line: list[Any] = [*make_entry("CT_e.npz")]
            line[place] = value
            file.write(f"{json.dumps(line)}\n")
    assert list(read_index(path)) == ["CT_a.npz"]


@given(names=st.lists(NAMES, min_size=2, max_size=5, unique=True), data=st.data())
def test_after_a_torn_line_all_others_are_read(names: list[str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.jsonl"
        entries = [make_entry(f"{one}.npz") for one in names]
        write(path, entries[:1])
        whole = path.stat().st_size
        write(path, entries[1:2])
        # Its process was killed amid the second line.
        length = data.draw(st.integers(whole, path.stat().st_size - 1))
        with path.open("r+b") as file:
            file.truncate(length)
        write(path, entries[2:])
        found = read_index(path)
        for entry in (entries[0], *entries[2:]):
            assert found[entry.case] == entry

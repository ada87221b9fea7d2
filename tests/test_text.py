import os
from pathlib import Path

import pytest

from gamt.text import printable

NOT_UTF8 = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Schädel 頭.nii", "Schädel 頭.nii"),
        (r"C:\new", r"C:\new"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("one\nERROR two\r\t", r"one\nERROR two\r\t"),
        ("\x9b2J", r"\x9b2J"),  # ESC [ in one character
        ("a\u202egzn.b", r"a\u202egzn.b"),  # what follows would be shown from right to left
        ("a\u2028b", r"a\u2028b"),
        (f"a{NOT_UTF8}.npz", r"a\xff.npz"),
        ("\ud800", r"\ud800"),  # half a character, as JSON may hold it
        (Path("x\x00y"), r"x\x00y"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_shown_escaped(text: object, shown: str) -> None:
    assert printable(text) == shown

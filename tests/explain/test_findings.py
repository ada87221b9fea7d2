"""What an explanation says in words."""

import pytest

from gamt.explain.findings import spans


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], "none"),
        ([7], "7 (1)"),
        ([3, 2, 4], "2–4 (3)"),
        ([1, 2, 5], "1–2, 5 (3)"),
        ([1, 3, 5, 7], "1–7 (4 of 7)"),
    ],
)
def test_slices_are_told_as_ranges(indices: list[int], text: str) -> None:
    assert spans(indices) == text

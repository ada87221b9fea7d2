"""The sample cases, which lie with the tests that they were drawn for."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "tests" / "cases"
"""Of npz files in the challenge's format, with ground truth."""

"""How tests call the command line, and what they expect of an error."""

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]

Run = Callable[..., tuple[int, str]]
"""Runs a command line; returns the exit status and what it printed."""

THRESHOLD = ("--segmenter", "tests.test_predict:ThresholdSegmenter")
FAILING = ("--segmenter", "tests.test_predict:FailingSegmenter")


def one_line(error: str) -> bool:
    return error.startswith("gamt: ") and error.count("\n") == 1

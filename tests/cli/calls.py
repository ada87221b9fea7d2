"""How tests call the command line, and what they expect of an error."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]

Run = Callable[..., tuple[int, str]]
"""Runs a command line; returns the exit status and what it printed."""

THRESHOLD = ("--segmenter", "tests.test_predict:ThresholdSegmenter")
FAILING = ("--segmenter", "tests.test_predict:FailingSegmenter")


def one_line(error: str) -> bool:
    return error.startswith("gamt: ") and error.count("\n") == 1


def on_terminal(*arguments: str | Path) -> str:
    """Runs a command line as a process; returns what its terminal shows of standard error."""
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "gamt", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm"},
        check=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(ours)
    return shown.decode()

"""What a candidate is, and how the challenge's loop runs one."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.phantoms import Labels
from evaluation.loop import Ended
from gamt.io.case import Case, read_case, write_segmentation

Candidate = Callable[[Case], Labels]
"""Takes a case with all prompts so far, and returns (z, y, x) uint8, 0 or a class's label 1..K."""


@dataclass(frozen=True, slots=True)
class InProcess:
    """A candidate as the loop knows methods.

    Attributes:
        candidate: is called in this process; what it raises ends the loop.
    """

    candidate: Candidate

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`."""
        start = time.perf_counter()
        (path,) = folder.glob("inputs/*.npz")
        write_segmentation(folder / "outputs" / path.name, self.candidate(read_case(path)), "")
        return Ended(None, time.perf_counter() - start)

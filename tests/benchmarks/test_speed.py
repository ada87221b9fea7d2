"""The table of encoders' throughput."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console

from benchmarks import speed
from gamt import segmenters
from gamt.segmenters import Traits


class Encoder:
    """Likes three slices at once, and keeps the shapes of what it encodes."""

    traits = Traits(batch=3)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[None]:
        self.shapes.append(slices.shape)
        return [None] * len(slices)


def test_encoders_are_timed_on_as_many_slices_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder()
    monkeypatch.setattr(segmenters, "load", lambda *_, **__: encoder)
    monkeypatch.setattr(speed, "matrix_rate", lambda *_: 1e12)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    printed = StringIO()
    weights = dict.fromkeys(speed.ARCHITECTURES, Path("none.pth"))
    speed.print_throughput(weights, Console(file=printed, width=120))
    assert set(encoder.shapes) == {(3, 256, 256)}
    rows = [line.split("\u2502") for line in printed.getvalue().splitlines() if "sam_" in line]
    # Device, type, segmenter and batch: three encoders in two precisions.
    assert len(rows) == 6
    assert all("3" in [cell.strip() for cell in row] for row in rows)

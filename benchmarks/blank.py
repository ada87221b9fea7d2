"""A method that finds nothing, for what is measured beside the work of methods."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.loop import Ended
from gamt.io.case import read_volume, write_segmentation


@dataclass(frozen=True, slots=True)
class Blank:
    """A method that finds nothing, after a while.

    Attributes:
        voxel_seconds: how long it takes for a voxel of the image.
    """

    voxel_seconds: float = 0.0

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`."""
        began = time.perf_counter()
        (path,) = (folder / "inputs").iterdir()
        image = read_volume(path)
        time.sleep(image.size * self.voxel_seconds)
        empty = np.zeros(image.shape, np.uint8)
        write_segmentation(folder / "outputs" / path.name, empty, "blank")
        return Ended(None, time.perf_counter() - began)

"""A segmenter for workers, who import little with it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamt.segmenters import Embedding
from tests.test_predict import ThresholdSegmenter

LEDGER = "TESTS_LEDGER"
"""The variable that names the file in which each call is written down."""


class NotedSegmenter(ThresholdSegmenter):
    """Takes its time, and writes down each time that it is asked."""

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        with Path(os.environ[LEDGER]).open("a", encoding="utf-8") as ledger:
            ledger.write("asked\n")
        time.sleep(0.2)
        return super().encode(slices)

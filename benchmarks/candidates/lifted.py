"""A 2-D segmenter, lifted to 3-D by the package."""

from collections.abc import Callable

from benchmarks.bars import UNLIMITED
from benchmarks.candidates.candidate import Candidate
from benchmarks.phantoms import Labels
from gamt.io.case import Case
from gamt.predict import predict_case
from gamt.segmenters.base import Segmenter
from gamt.settings import Settings


def lift(make: Callable[[], Segmenter], settings: Settings = UNLIMITED) -> Candidate:
    """Makes a candidate of a segmenter.

    Args:
        make: the segmenter; called when a case is segmented.
        settings: of the lifting; by default the default preset's without the time limit.
    """

    def segment(case: Case) -> Labels:
        return predict_case(case, make(), settings).labels

    return segment

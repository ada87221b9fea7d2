"""What ignores the image: the ellipsoid inscribed in the box, corrected by balls at the clicks."""

from benchmarks.bars import inscribed_ellipsoid
from benchmarks.candidates.rounds import segment_in_rounds
from benchmarks.phantoms import Labels, Mask
from gamt.io.case import Case
from gamt.prompts import Box, Click


def ellipsoid_with_balls(case: Case) -> Labels:
    """Segments a case; see `benchmarks.candidates.candidate`."""
    return segment_in_rounds(case, _start, _correct)


def _start(case: Case, box: Box) -> Mask:
    return inscribed_ellipsoid(box, case.image.shape)


def _correct(case: Case, mask: Mask, click: Click, ball: Box) -> Mask:
    return inscribed_ellipsoid(ball, case.image.shape)

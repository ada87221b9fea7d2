"""What ignores the image: the ellipsoid inscribed in the box, corrected by balls at the clicks."""

from gamt.case import Case
from gamt.prompts import Box, Click
from tests.bars import inscribed_ellipsoid
from tests.candidates.rounds import segment_in_rounds
from tests.phantoms import Labels, Mask


def ellipsoid_with_balls(case: Case) -> Labels:
    """Segments a case; see `tests.candidates.candidate`."""
    return segment_in_rounds(case, _start, _correct)


def _start(case: Case, box: Box) -> Mask:
    return inscribed_ellipsoid(box, case.image.shape)


def _correct(case: Case, mask: Mask, click: Click, ball: Box) -> Mask:
    return inscribed_ellipsoid(ball, case.image.shape)

"""Charts of what walks saw."""

from gamt.axes import Plane
from gamt.explain.chart import draw_chart
from gamt.explain.record import WalkRecord
from gamt.prompts import Box, ClassPrompts
from tests.doubles import (
    make_case,
    picture,
)
from tests.explain.examples import FROM_4, axial, explain, only


def test_a_chart_spans_what_was_planned_and_marks_ends() -> None:
    box = Box(2, 10, 4, 4, 10, 2, 10)
    walk = axial(only(explain(make_case(picture(FROM_4), ClassPrompts(1, box)))))
    chart = draw_chart([walk])
    assert chart is not None
    assert (chart.first, chart.last, chart.most_mm2) == (2, 9, 48)
    (mark,) = chart.marks
    assert mark.text.startswith("6: the mask vanished")
    assert draw_chart([WalkRecord(Plane.AXIAL, 4, (4,), None)]) is None

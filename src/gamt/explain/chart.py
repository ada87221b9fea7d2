"""A chart of what the walks of one plane saw, slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass

from gamt.explain.findings import ENDS
from gamt.explain.record import WalkRecord

WIDTH, HEIGHT = 300, 90
"""Size of the drawing area, in the SVG's units."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a walk lost its target, on a chart.

    Attributes:
        x: in the chart's units.
        y: as `x`, downwards.
        text: where and why.
    """

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Area and quality of a plane's masks against slices.

    Attributes:
        first: the slice at the left.
        last: the slice at the right.
        most_mm2: the area at the top.
        anchors: where walks began, in the chart's units.
        areas: a walk's points "x,y x,y" each.
        qualities: as `areas`; 1 is at the top.
        marks: where walks lost their target.
    """

    first: int
    last: int
    most_mm2: float
    anchors: tuple[float, ...]
    areas: tuple[str, ...]
    qualities: tuple[str, ...]
    marks: tuple[Mark, ...]


def draw_chart(walks: Sequence[WalkRecord]) -> Chart | None:
    """Draws what walks of one plane saw; None where they saw nothing."""
    visits = [one for walk in walks for one in walk.visits]
    if not visits:
        return None
    seen = [one.index for one in visits]
    # Of what was planned around a mere click, most is far from the target.
    planned = [index for walk in walks for index in walk.planned]
    near = max(seen) - min(seen) + 1
    first = max(min(seen) - near, min([*planned, *seen]))
    last = min(max(seen) + near, max([*planned, *seen]))
    most = max(one.area_mm2 for one in visits) or 1.0

    def place_x(index: int) -> float:
        share = (index - first) / (last - first) if last > first else 0.5
        return round(share * WIDTH, 1)

    def place_y(share: float) -> float:
        return round((1 - min(share, 1.0)) * HEIGHT, 1)

    areas, qualities, marks = [], [], []
    for walk in walks:
        way = sorted(walk.visits, key=lambda one: one.index)
        areas.append(" ".join(f"{place_x(v.index)},{place_y(v.area_mm2 / most)}" for v in way))
        qualities.append(" ".join(f"{place_x(v.index)},{place_y(v.quality)}" for v in way))
        marks += [
            Mark(
                place_x(one.index),
                place_y(one.area_mm2 / most),
                f"{one.index}: {ENDS[one.end]}; {one.area_mm2:.0f} mm², quality {one.quality:.2f}",
            )
            for one in way
            if one.end is not None
        ]
    anchors = sorted({place_x(walk.anchor) for walk in walks if walk.visits})
    return Chart(first, last, most, tuple(anchors), tuple(areas), tuple(qualities), tuple(marks))

"""The page that shows an explanation: one HTML file that needs no network and no other file."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from gamt.explain.chart import HEIGHT, WIDTH, draw_chart
from gamt.explain.findings import LOST, describe_prompts, find_problems, spans, tell_stop
from gamt.explain.html import render_html, write_html
from gamt.explain.montage import COLORS, draw_montage
from gamt.explain.record import ClassRecord, Explanation
from gamt.windows import IntensityWindow

_TEMPLATE = "explain.html"


def write_page(explanation: Explanation, path: Path) -> None:
    """Writes the page, which appears at once and whole.

    Raises:
        OSError: the file can't be written.
    """
    write_html(path, _TEMPLATE, **_fill_in(explanation))


def render_page(explanation: Explanation) -> str:
    """Returns the page as HTML."""
    return render_html(_TEMPLATE, **_fill_in(explanation))


def _fill_in(explanation: Explanation) -> dict[str, Any]:
    """Returns what the template names."""
    return {
        "case": explanation,
        "classes": [_describe_class(record, explanation) for record in explanation.classes],
        "settings": [
            (one.name, _show_setting(getattr(explanation.settings, one.name)))
            for one in fields(explanation.settings)
        ],
        "colors": COLORS,
        "chart_width": WIDTH,
        "chart_height": HEIGHT,
        "spans": spans,
        "tell_stop": tell_stop,
        "is_lost": lambda stop: stop.end in LOST,
        "visited": lambda walk: spans(one.index for one in walk.visits),
    }


def _describe_class(record: ClassRecord, explanation: Explanation) -> dict[str, Any]:
    """Returns what the template shows of one class."""
    spacing_mm, label = explanation.spacing_mm, record.prompts.label
    corrections = []
    for montage in record.correction_montages:
        assert montage.correction is not None  # each is about one
        click = montage.correction.click
        walks = [walk for walk in record.corrections if walk.click == click]
        corrections.append((montage, draw_montage(montage, spacing_mm), walks))
    return {
        "record": record,
        "name": explanation.names.get(label, f"Class {label}"),
        "prompts": list(describe_prompts(record)),
        "dices": {stage.name: stage.dice for stage in record.stages},
        "findings": list(find_problems(record)),
        "rows": draw_montage(record.montage, spacing_mm) if record.montage else (),
        "charts": [draw_chart(plane.walks) for plane in record.planes],
        "corrections": corrections,
    }


def _show_setting(value: object) -> str:
    if isinstance(value, tuple) and not isinstance(value, IntensityWindow):
        return ", ".join(one.name.lower() for one in value)
    return str(value)

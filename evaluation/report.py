"""The report: one HTML file with leaderboard, curves, cases and pictures, readable offline."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import leaderboard
from evaluation.leaderboard import Results
from evaluation.pictures import Step, color_of, draw_case
from evaluation.records import CLICKS, METRICS, CaseRecord, TeamFolder
from gamt.explain.html import write_html
from gamt.io.npz import CaseError

# The drawing area of a chart, in the SVG's units.
_CHART_WIDTH, _CHART_HEIGHT = 220, 140


class ReportError(ValueError):
    """A case that is to be pictured, but that no team has."""


@dataclass(frozen=True, slots=True)
class PicturedCase:
    """A case with its pictures.

    Attributes:
        record: what was measured.
        team: whose result it is.
        team_number: the team's position.
        reason: why it is shown.
        zeroed: whether the time limit makes its scores 0.
        classes: label, colour and final Dice of each class.
        steps: the runs' pictures.
        failure: why there are none; None where there are some.
    """

    record: CaseRecord
    team: str
    team_number: int
    reason: str
    zeroed: bool
    classes: tuple[tuple[int | float, str, float], ...]
    steps: tuple[Step, ...]
    failure: str | None


@dataclass(frozen=True, slots=True)
class Point:
    """A mean score on a chart.

    Attributes:
        x: in the chart's units.
        y: as `x`, downwards.
        clicks: how many there were; 0 for the box.
        mean: 0..1.
        cases: over how many.
    """

    x: float
    y: float
    clicks: int
    mean: float
    cases: int


@dataclass(frozen=True, slots=True)
class Curve:
    """One team's scores on a chart.

    Attributes:
        points: from the box to the last click.
        strokes: `points`, cut where the number of cases changes. Cases without a box join at the
            first click; a line from one mean to the other would show a change that no case had.
        cases: over how many the means are, in words; "" without a case.
    """

    points: tuple[Point, ...]
    strokes: tuple[tuple[Point, ...], ...]
    cases: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The teams' scores against clicks.

    Attributes:
        modality: of the cases.
        metric: "DSC" or "NSD".
        curves: one a team.
    """

    modality: str
    metric: str
    curves: tuple[Curve, ...]


def write_report(
    teams: Sequence[TeamFolder], path: Path, cases: Sequence[str] | None = None
) -> None:
    """Writes the report, which appears at once and whole.

    Args:
        teams: what was evaluated.
        path: the HTML file.
        cases: names of the cases to picture, with or without suffix; None for each team's worst,
            median and best by final Dice.

    Raises:
        RecordError: a team's folder holds no evaluation, or a broken one.
        ReportError: no team has one of the cases.
    """
    results = [Results.read(team) for team in teams]
    chosen = _worst_median_best(results) if cases is None else _named(results, cases)
    pictured = [
        _picture(teams[number], number, record, reason, results[number].strict_time and record.late)
        for number, record, reason in chosen
    ]
    ranked = leaderboard.rank(results)
    modalities = [one for one in dict.fromkeys(ranked["Modality"]) if one != leaderboard.ALL]
    write_html(
        path,
        "report.html",
        Path(__file__).parent / "templates",
        results=results,
        numbers={one.team: number for number, one in enumerate(results)},
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        leaderboard=leaderboard.leaderboard_rows(ranked),
        leaderboard_note=leaderboard.LEADERBOARD_NOTE,
        comparison=leaderboard.comparison_rows(leaderboard.compare_teams(results)),
        comparison_note=leaderboard.COMPARISON_NOTE,
        standings=leaderboard.stand_among_published(ranked),
        published_title=leaderboard.PUBLISHED_TITLE,
        published_note=leaderboard.PUBLISHED_NOTE,
        modalities=modalities,
        charts=_charts(results, modalities),
        chart_width=_CHART_WIDTH,
        chart_height=_CHART_HEIGHT,
        clicks=CLICKS,
        cases=_case_rows(results),
        metrics=METRICS,
        highest=[CLICKS - 1 if metric.endswith("AUC") else 1 for metric in METRICS],
        pictured=pictured,
    )


_Chosen = tuple[int, CaseRecord, str]


def _worst_median_best(results: Sequence[Results]) -> list[_Chosen]:
    chosen = []
    for number, one in enumerate(results):
        scored = [record for record in one.records if record.labels]
        finals = {record.case: record.row(one.strict_time)["DSC_Final"] for record in scored}
        scored.sort(key=lambda record: finals[record.case])
        places = {len(scored) - 1: "best", (len(scored) - 1) // 2: "median", 0: "worst"}
        if scored:
            chosen += [(number, scored[place], places[place]) for place in sorted(places)]
    return chosen


def _named(results: Sequence[Results], cases: Sequence[str]) -> list[_Chosen]:
    chosen = []
    for case in cases:
        name = case.removesuffix(".npz")
        found = [
            (number, record, "chosen")
            for number, one in enumerate(results)
            for record in one.records
            if record.name == name
        ]
        if not found:
            teams = ", ".join(one.team for one in results)
            raise ReportError(f"{case}: found no result of this case, expected one of {teams}'s")
        chosen += found
    return chosen


def _picture(
    folder: TeamFolder, number: int, record: CaseRecord, reason: str, zeroed: bool
) -> PicturedCase:
    steps: list[Step] = []
    failure = None
    if not record.predicted:
        failure = "The method never wrote a segmentation of this case in time."
    else:
        try:
            steps = draw_case(folder, record)
            failure = None if steps else "The ground truth has no class."
        except CaseError as error:
            failure = f"Files of this case are gone, or not what they were: {error}."
    dice = record.interactions[-1].class_dsc
    return PicturedCase(
        record=record,
        team=folder.team,
        team_number=number,
        reason=reason,
        zeroed=zeroed,
        classes=tuple(
            (label, color_of(position), score)
            for position, (label, score) in enumerate(zip(record.labels, dice, strict=True))
        ),
        steps=tuple(steps),
        failure=failure,
    )


def _charts(results: Sequence[Results], modalities: Iterable[str]) -> list[Chart]:
    return [
        Chart(modality, metric, tuple(_curve(one, modality, metric) for one in results))
        for modality in modalities
        for metric in ("DSC", "NSD")
    ]


def _curve(results: Results, modality: str, metric: str) -> Curve:
    points = tuple(_points(results, modality, metric))
    strokes = tuple(tuple(group) for _, group in groupby(points, lambda point: point.cases))
    if len(strokes) > 1:
        cases = f"box n = {points[0].cases}, clicks n = {points[-1].cases}"
    else:
        cases = f"n = {points[0].cases}" if points else ""
    return Curve(points, strokes, cases)


def _points(results: Results, modality: str, metric: str) -> Iterable[Point]:
    records = [one for one in results.records if one.modality == modality and one.labels]
    for clicks in range(CLICKS + 1):
        # Where there is no box, the official row has a zero that no method got.
        scores = [
            float(record.row(results.strict_time)[f"{metric}_{clicks + 1}"])
            for record in records
            if any(one.number == clicks + 1 for one in record.interactions)
        ]
        if scores:
            mean = float(np.mean(scores))
            x, y = clicks / CLICKS * _CHART_WIDTH, (1 - mean) * _CHART_HEIGHT
            yield Point(round(x, 1), round(y, 1), clicks, mean, len(scores))


def _case_rows(results: Iterable[Results]) -> list[dict[str, Any]]:
    rows = []
    for number, one in enumerate(results):
        for record in one.records:
            row = record.row(one.strict_time)
            rows.append(
                {
                    "name": record.name,
                    "modality": record.modality,
                    "team": one.team,
                    "team_number": number,
                    "classes": len(record.labels),
                    # NaN sorts nowhere.
                    "scores": [None if math.isnan(row[name]) else row[name] for name in METRICS],
                    "seconds": record.seconds,
                    "notes": list(_notes(record, one.strict_time)),
                }
            )
    return rows


def _notes(record: CaseRecord, strict_time: bool) -> Iterable[str]:
    outputs = Counter(one.output for one in record.interactions)
    if not record.predicted:
        yield "no prediction"
    if record.late:
        yield f"over {record.limit_seconds} s" + (": zeros" if strict_time else "")
    if record.predicted and (silent := outputs["stale"] + outputs["none"]):
        yield (
            f"{silent} runs wrote nothing in time" if silent > 1 else "1 run wrote nothing in time"
        )
    if broken := outputs["broken"]:
        yield f"{broken} broken output{'s' if broken > 1 else ''}"
    if all(one.number != 1 for one in record.interactions):
        yield "no box"

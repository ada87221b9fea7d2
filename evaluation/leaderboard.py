"""The leaderboard: mean scores by modality and team with intervals, and comparisons of teams.

Its layout is that of the GAMT paper's tables. The paper's numbers were measured on other cases, and
so stand in a table of their own.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.records import COLUMNS, METRICS, MODALITIES, CaseRecord, TeamFolder
from evaluation.statistics import LEAST_CASES, compare, confidence_interval
from gamt.io.files import atomic_write
from gamt.text import printable

ALL = "all"
"""Stands for all modalities."""

PUBLISHED_TITLE = "Published, challenge validation set"
PUBLISHED_NOTE = (
    "From Tables 2 and 3 of the GAMT paper. Measured on other cases than those above, so not "
    "comparable case by case."
)
LEADERBOARD_NOTE = (
    "Means over cases; AUC is in 0..4, Final in 0..1. Below them 95 % bootstrap intervals, from "
    f"{LEAST_CASES} cases on: even the range of all scores is too narrow for fewer. A case without "
    "any prediction counts as zeros, and so does a run whose output is broken. Missing: cases "
    "without a result yet, which no mean includes."
)
COMPARISON_NOTE = (
    "First less second on the cases that both have, in identical files; p is Wilcoxon's "
    "signed-rank test, two-sided, for one metric on its own. Fewer than 6 cases that differ can't "
    "give a p below 0.05."
)


@dataclass(frozen=True, slots=True)
class Results:
    """What one team's folder holds.

    Attributes:
        team: its name.
        method: what was evaluated.
        started: when, as text.
        strict_time: whether cases past the time limit count as zeros.
        records: of the cases evaluated, by name.
        missing: cases that have no record yet.
    """

    team: str
    method: str
    started: str
    strict_time: bool
    records: tuple[CaseRecord, ...]
    missing: tuple[str, ...]

    @classmethod
    def read(cls, folder: TeamFolder) -> Self:
        """Reads a team's folder.

        Raises:
            RecordError: it holds no evaluation, or a broken one.
        """
        settings = folder.settings()
        return cls(
            team=folder.team,
            method=str(settings["method"]),
            started=str(settings["started"]),
            strict_time=bool(settings["strict_time"]),
            records=tuple(folder.records()),
            missing=tuple(folder.missing()),
        )


def tabulate_cases(results: Iterable[Results]) -> pd.DataFrame:
    """Returns a row a team and case: Team, Modality and the official CSV's columns.

    Unlike in the official CSV, a case without any prediction has a row too, with zeros.
    """
    rows = [
        {"Team": one.team, "Modality": record.modality, **record.row(one.strict_time)}
        for one in results
        for record in one.records
    ]
    return pd.DataFrame(rows, columns=["Team", "Modality", *COLUMNS])


def rank(results: Sequence[Results]) -> pd.DataFrame:
    """Returns the leaderboard: a row a modality and team, and one of all cases of a team.

    A case without any prediction has no row in the official CSV, and so no part in means made
    from that; here it counts as zeros. A case without a class has no score, and counts in none.

    Returns:
        Modality (the challenge's in its order, then others, then `ALL` if there are several),
        Team, Method, Cases (with a record), Missing (without one yet); for each of METRICS the
        mean, and the ends of its 95 % interval as METRIC_low and METRIC_high, NaN where there is
        none (see `confidence_interval`); Seconds, the mean time of all runs of a case.
    """
    cases = tabulate_cases(results)
    found = {*cases["Modality"], *(_modality(case) for one in results for case in one.missing)}
    modalities = [one for one in MODALITIES if one in found] + sorted(found - {*MODALITIES})
    rows = []
    for modality in [*modalities, ALL] if len(modalities) > 1 else modalities:
        for one in results:
            there = (cases["Modality"] == modality) | (modality == ALL)
            mine = cases[there & (cases["Team"] == one.team)]
            missing = sum(modality in (ALL, _modality(case)) for case in one.missing)
            if not len(mine) and not missing:
                continue
            row: dict[str, Any] = {"Modality": modality, "Team": one.team, "Method": one.method}
            row |= {"Cases": len(mine), "Missing": missing}
            for metric in METRICS:
                low, high = confidence_interval(mine[metric].tolist()) or (np.nan, np.nan)
                mean = mine[metric].mean()
                row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
            rows.append(row | {"Seconds": mine["TotalRunningTime"].mean()})
    ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    columns = ["Modality", "Team", "Method", "Cases", "Missing", *ends, "Seconds"]
    return pd.DataFrame(rows, columns=columns)


def compare_teams(results: Sequence[Results]) -> pd.DataFrame:
    """Compares every two teams on the cases that both have a record of.

    Cases of one name whose files differ are not the same, and left out.

    Returns:
        First, Second, Metric, Cases, Difference (mean of the first's less the second's), p, NaN
        where there is none, and Note, which says why.
    """
    rows = []
    for first, second in combinations(results, 2):
        others = {record.case: record for record in second.records}
        pairs = [
            (record.row(first.strict_time), others[record.case].row(second.strict_time))
            for record in first.records
            if record.case in others and _same_files(record, others[record.case])
        ]
        for metric in METRICS:
            found = compare([one[metric] for one, _ in pairs], [two[metric] for _, two in pairs])
            rows.append(
                {
                    "First": first.team,
                    "Second": second.team,
                    "Metric": metric,
                    "Cases": found.cases,
                    "Difference": found.difference,
                    "p": np.nan if found.p is None else found.p,
                    "Note": found.reason or "",
                }
            )
    columns = ["First", "Second", "Metric", "Cases", "Difference", "p", "Note"]
    return pd.DataFrame(rows, columns=columns)


def read_published() -> pd.DataFrame:
    """Returns the numbers of the GAMT paper's Tables 2 and 3, on the challenge's validation set.

    Returns:
        modality, method, track ("coreset", "all-data", or both where a method's numbers are the
        same in both) and METRICS.
    """
    table = pd.read_csv(Path(__file__).parent / "published.csv")
    same = ["modality", "method", *METRICS]
    tracks = table.groupby(same, sort=False)["track"].agg(", ".join).reset_index()
    # Both GAMT rows of a modality stand together, after the others.
    order = tracks["modality"].map(MODALITIES.index)
    tracks = tracks.assign(order=order).sort_values("order", kind="stable")
    return tracks[["modality", "method", "track", *METRICS]].reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """One method's mean scores, among those of others.

    Attributes:
        modality: of the cases.
        method: as published, or the team's name.
        track: the challenge's, as `read_published` returns it; None for a team.
        cases: that a team was evaluated on; None for published scores, whose cases are others.
        scores: in the order of METRICS; AUCs are in 0..4, the others in 0..1.
    """

    modality: str
    method: str
    track: str | None
    cases: int | None
    scores: tuple[float, ...]


def stand_among_published(ranked: pd.DataFrame) -> list[Standing]:
    """Puts the teams of a leaderboard among the published methods.

    Args:
        ranked: what `rank` returned. Rows of other modalities than the published ones, of all
            modalities together and without a score are left out.

    Returns:
        By modality, in the challenge's order; within one from the highest DSC Final down.
    """
    standings = [
        Standing(row["modality"], row["method"], row["track"], None, _scores(row))
        for row in _records(read_published())
    ]
    standings += [
        Standing(row["Modality"], row["Team"], None, row["Cases"], _scores(row))
        for row in _records(ranked)
        if row["Modality"] in MODALITIES and not np.isnan(row["DSC_Final"])
    ]
    final = METRICS.index("DSC_Final")
    return sorted(standings, key=lambda one: (MODALITIES.index(one.modality), -one.scores[final]))


def _scores(row: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(float(row[metric]) for metric in METRICS)


def write_leaderboard(teams: Sequence[TeamFolder], folder: Path) -> None:
    """Writes ``leaderboard.csv``, what `rank` returns, and ``leaderboard.md``, all tables.

    Raises:
        RecordError: a team's folder holds no evaluation, or a broken one.
    """
    results = [Results.read(team) for team in teams]
    ranked = rank(results)
    parts = ["# Leaderboard", _to_markdown(leaderboard_rows(ranked)), LEADERBOARD_NOTE]
    if len(results) > 1:
        rows = comparison_rows(compare_teams(results))
        parts += ["## Comparison", _to_markdown(rows), COMPARISON_NOTE]
    parts += [f"## {PUBLISHED_TITLE}", _to_markdown(published_rows()), PUBLISHED_NOTE]
    texts = {"leaderboard.md": "\n\n".join(parts) + "\n"}
    texts["leaderboard.csv"] = ranked.to_csv(index=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text.encode(errors="backslashreplace"))  # names of cases may be no text


def show_leaderboard(teams: Sequence[TeamFolder], console: Console) -> None:
    """Prints all tables.

    Raises:
        RecordError: a team's folder holds no evaluation, or a broken one.
    """
    results = [Results.read(team) for team in teams]
    tables = [("Leaderboard", leaderboard_rows(rank(results)), LEADERBOARD_NOTE)]
    if len(results) > 1:
        rows = comparison_rows(compare_teams(results))
        tables.append(("Comparison", rows, COMPARISON_NOTE))
    tables.append((PUBLISHED_TITLE, published_rows(), PUBLISHED_NOTE))
    for title, rows, note in tables:
        console.print(_to_rich(title, rows, note))
        console.print()


Rows = list[dict[str, str]]
"""A table as texts: by column; a score's second line is its interval."""


def leaderboard_rows(ranked: pd.DataFrame) -> Rows:
    """Returns what `rank` returned as texts; what is missing only where something is."""
    return [
        {
            "Modality": printable(row["Modality"]),
            "Team": printable(row["Team"]),
            "Cases": str(row["Cases"]),
            **({"Missing": str(row["Missing"])} if ranked["Missing"].any() else {}),
            **{_title(metric): _with_interval(row, metric) for metric in METRICS},
            "Seconds": _number(row["Seconds"], 1),
        }
        for row in _records(ranked)
    ]


def comparison_rows(compared: pd.DataFrame) -> Rows:
    """Returns what `compare_teams` returned as texts."""
    return [
        {
            "First": row["First"],
            "Second": row["Second"],
            "Metric": _title(row["Metric"]),
            "Cases": str(row["Cases"]),
            "Difference": _number(row["Difference"], 4, sign="+"),
            "p": row["Note"] or _p_value(row["p"]),
        }
        for row in _records(compared)
    ]


def published_rows() -> Rows:
    """Returns what `read_published` returns as texts."""
    return [
        {
            "Modality": row["modality"],
            "Method": row["method"],
            "Track": row["track"],
            **{_title(metric): _number(row[metric], 4) for metric in METRICS},
        }
        for row in _records(read_published())
    ]


def _records(table: pd.DataFrame) -> Iterable[Mapping[str, Any]]:
    return table.to_dict("records")  # type: ignore[return-value]


def _modality(case: str) -> str:
    return case.removesuffix(".npz").split("_")[0]


def _same_files(first: CaseRecord, second: CaseRecord) -> bool:
    common = first.checksums.keys() & second.checksums.keys()
    return all(first.checksums[key] == second.checksums[key] for key in common)


def _title(metric: str) -> str:
    return metric.replace("_", " ")


def _number(value: float, digits: int, sign: str = "") -> str:
    return "–" if np.isnan(value) else f"{value:{sign}.{digits}f}"


def _with_interval(row: Mapping[str, Any], metric: str) -> str:
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    mean = _number(row[metric], 4)
    return mean if np.isnan(low) else f"{mean}\n{low:.2f}–{high:.2f}"


def _p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


_TEXTS = ("Modality", "Team", "Method", "Track", "First", "Second", "Metric")


def _to_markdown(rows: Rows) -> str:
    columns = list(rows[0]) if rows else []
    lines = [columns, ["---" if column in _TEXTS else "---:" for column in columns]]
    lines += [[_escape(text) for text in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else "No case yet."


def _escape(text: str) -> str:
    mean, _, interval = text.partition("\n")
    if interval:
        return f"{mean} ({interval})"
    return html.escape(text, quote=False).replace("|", "\\|")


def _to_rich(title: str, rows: Rows, note: str) -> Table:
    # A Text is printed as it is; a str would be taken for markup.
    table = Table(
        title=title,
        caption=Text(note),
        title_justify="left",
        caption_justify="left",
        box=box.HORIZONTALS,
        show_edge=False,
        collapse_padding=True,
        pad_edge=False,
    )
    for column in rows[0] if rows else ():
        if column in _TEXTS:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    before: dict[str, str] = {}
    for row in rows:
        first = next(iter(row))
        if before and before[first] != row[first]:
            table.add_section()
        table.add_row(*(Text(text) for text in row.values()))
        before = row
    return table

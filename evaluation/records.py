"""The results of an evaluation: one record a case, and the challenge's CSV made from them.

The folder of a team holds::

    run.json            what was evaluated, and how
    records/CASE.json   everything measured on a case; a case is done once it is there
    index.jsonl         a line a record, with what it takes to go on without reading it
    CASE.npz            `segs`, the last prediction, and `all_segs`, (runs, z, y, x), all of them
    logs/CASE.txt       what the method printed
    TEAM_metrics.csv    a row a case, as the official script writes it
    classes.csv         a row a case, class and interaction
    shards/I-of-N       what isn't merged yet of a part, laid out as this (`evaluation.shards`)

Only the records are read back; the CSVs are made anew from them.
"""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from scipy import integrate

from evaluation.removal import remove_tree
from gamt.io.files import atomic_write, remove_partials

CLICKS = 5
"""The simulated user's, after the prediction from the box."""

SECONDS_PER_CLASS = 90
"""The challenge's limit on the time of all runs of a case.

It judges any method, so it doesn't come from the settings of this one, `gamt.settings`.
"""

MODALITIES = ("CT", "MR", "Microscopy", "PET", "US")
"""The challenge's, as case names begin with them."""

METRICS = ("DSC_AUC", "NSD_AUC", "DSC_Final", "NSD_Final")
"""The leaderboard's columns of the CSV; AUCs are in 0..4, the others in 0..1."""

_NUMBERS = range(1, CLICKS + 2)

COLUMNS = (
    "CaseName",
    "TotalRunningTime",
    *(f"RunningTime_{number}" for number in _NUMBERS),
    *METRICS,
    *(f"DSC_{number}" for number in _NUMBERS),
    *(f"NSD_{number}" for number in _NUMBERS),
    "num_class",
    "runtime_upperbound",
)
"""The official CSV's, in its order."""

Output = Literal["written", "stale", "broken", "none"]
"""What a run has written.

- "written": a segmentation of the case.
- "stale": nothing, or only past the limit, so that the segmentation of an earlier run counts again.
- "broken": what can't be read or is no segmentation of the case, so that zeros count.
- "none": as "stale", but there is no earlier segmentation, or it was removed; zeros count.
"""

_SETTINGS = ("method", "strict_time", "started", "cases")
"""What run.json has at least."""


SETTINGS = ("method", "identity", "cases_folder", "gts_folder", "strict_time", "run_limit")
"""Entries of run.json that must be equal for results to belong together."""


class RecordError(ValueError):
    """A folder that holds no evaluation, or a record that can't be read."""


class BusyError(RecordError):
    """A folder in which another evaluation is at work."""


@dataclass(frozen=True, slots=True)
class ClassClick:
    """A simulated click on one class.

    Attributes:
        kind: "fg" inside of the class, "bg" outside.
        voxel: (z, y, x).
    """

    kind: Literal["fg", "bg"]
    voxel: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One run of the method and what its prediction is worth.

    Attributes:
        number: 1 for the box, 2 to 6 for the clicks: the suffix of the CSV's columns.
        clicks: by class, what was clicked before the run; None where the class was perfect. Empty
            for the box.
        seconds: that the method took.
        output: what the run has written.
        failure: what went wrong with the run, or is wrong with what it wrote, in a line; None where
            nothing is known to.
        dsc: mean Dice, NaN without a class.
        nsd: mean surface Dice; 0 where `dsc` is at most 0.2.
        class_dsc: by class.
        class_nsd: by class; None where it was not computed.
    """

    number: int
    clicks: tuple[ClassClick | None, ...]
    seconds: float
    output: Output
    failure: str | None
    dsc: float
    nsd: float
    class_dsc: tuple[float, ...]
    class_nsd: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """Everything that was measured on one case.

    Attributes:
        case: the file's name, with its suffix.
        image_file: the case.
        gts_file: the file that holds its ground truth, perhaps the same.
        checksums: of the arrays in these files, which tell whether the case is still the same.
        spacing: as in the file, mm along (z, y, x).
        labels: of the classes, ascending.
        interactions: six, or five where there is no box.
        own_seconds: the evaluator's own work.
        voxels: of the image; 0 in the records of earlier versions.
    """

    case: str
    image_file: str
    gts_file: str
    checksums: Mapping[str, int]
    spacing: tuple[float, ...]
    labels: tuple[int | float, ...]
    interactions: tuple[Interaction, ...]
    own_seconds: float
    voxels: int = 0

    @property
    def name(self) -> str:
        """The case's name without its suffix."""
        return self.case.removesuffix(".npz")

    @property
    def modality(self) -> str:
        """The part of the name before the first underscore (docs/challenge.md, 4)."""
        return self.name.split("_")[0]

    @property
    def predicted(self) -> bool:
        """Whether the method ever wrote a segmentation of the case."""
        return any(one.output in ("written", "stale") for one in self.interactions)

    @property
    def seconds(self) -> float:
        """The method's time over all runs."""
        return sum(one.seconds for one in self.interactions)

    @property
    def limit_seconds(self) -> int:
        """The challenge's limit on `seconds`."""
        return SECONDS_PER_CLASS * len(self.labels)

    @property
    def late(self) -> bool:
        """Whether the method took longer than the challenge allows."""
        return self.seconds > self.limit_seconds

    def row(self, strict_time: bool = False) -> dict[str, Any]:
        """Returns the case's row of the official CSV, column by column.

        Args:
            strict_time: whether scores are 0 where the method took longer than allowed, as the
                challenge has it; the official script only warns.
        """
        row: dict[str, Any] = dict.fromkeys(COLUMNS, 0)
        for one in self.interactions:
            row[f"RunningTime_{one.number}"] = one.seconds
            row[f"DSC_{one.number}"], row[f"NSD_{one.number}"] = one.dsc, one.nsd
        for name in ("DSC", "NSD"):
            curve = np.array([row[f"{name}_{number}"] for number in _NUMBERS[-CLICKS:]])
            # The box doesn't count, since it is optional.
            area = integrate.cumulative_trapezoid(curve, np.arange(CLICKS))[-1]
            row[f"{name}_AUC"], row[f"{name}_Final"] = float(area), row[f"{name}_{CLICKS + 1}"]
        if strict_time and self.late:
            row.update(dict.fromkeys((name for name in COLUMNS if name[:3] in ("DSC", "NSD")), 0.0))
        row["CaseName"], row["TotalRunningTime"] = self.case, self.seconds
        row["num_class"], row["runtime_upperbound"] = len(self.labels), self.limit_seconds
        return row

    def write(self, path: Path) -> None:
        """Writes the record, at once and whole."""
        _write_text(path, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a record.

        Raises:
            RecordError: the file is no record.
        """
        try:
            content = json.loads(path.read_text())
            content["interactions"] = tuple(_interaction(one) for one in content["interactions"])
            for name in ("spacing", "labels"):
                content[name] = tuple(content[name])
            return cls(**content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            expected = "remove it, and the case is evaluated again"
            raise RecordError(f"{path}: no record of a case ({error}); {expected}") from error


@dataclass(frozen=True, slots=True)
class TeamFolder:
    """The results of one team.

    Attributes:
        path: the folder, whose name is the team's.
    """

    path: Path

    @property
    def team(self) -> str:
        """The team's name."""
        return self.path.name

    @property
    def run_file(self) -> Path:
        """What was evaluated, and how."""
        return self.path / "run.json"

    @property
    def index_file(self) -> Path:
        """What is known of all records (`evaluation.index`)."""
        return self.path / "index.jsonl"

    @property
    def metrics_file(self) -> Path:
        """The official CSV."""
        return self.path / f"{self.team}_metrics.csv"

    @property
    def classes_file(self) -> Path:
        """The CSV by class and interaction."""
        return self.path / "classes.csv"

    @property
    def records_folder(self) -> Path:
        """Holds the records."""
        return self.path / "records"

    @property
    def logs_folder(self) -> Path:
        """Holds what the method printed."""
        return self.path / "logs"

    def record_file(self, case: str) -> Path:
        """The record of a case, named with its suffix."""
        return self.records_folder / f"{case.removesuffix('.npz')}.json"

    def prediction_file(self, case: str) -> Path:
        """The predictions of a case, named with its suffix."""
        return self.path / case

    def prediction_bytes(self, case: str) -> int:
        """The size of the predictions of a case; 0 where there are none."""
        try:
            return self.prediction_file(case).stat().st_size
        except OSError:
            return 0

    def log_file(self, case: str) -> Path:
        """What the method printed on a case, named with its suffix."""
        return self.logs_folder / f"{case.removesuffix('.npz')}.txt"

    @property
    def work(self) -> Path:
        """Holds what workers write until it has its place; gone in the end."""
        return self.path / "work"

    @property
    def shards(self) -> Path:
        """Holds the folders of shards (`evaluation.shards`)."""
        return self.path / "shards"

    @contextmanager
    def hold(self, seconds: float = 0.0) -> Iterator[None]:
        """Keeps other evaluations from the folder, which is there.

        Args:
            seconds: how long to wait for another one that is at work here.

        Raises:
            BusyError: another one is at work here.
        """
        try:
            lock = FileLock(self.path / ".lock").acquire(timeout=seconds)
        except Timeout as error:
            raise BusyError(f"{self.path}: another evaluation is at work here") from error
        with lock:
            yield

    def settings(self) -> dict[str, Any]:
        """Returns what was evaluated and how: `method`, `strict_time`, `cases` and more.

        Raises:
            RecordError: the folder holds no evaluation, or run.json lacks an entry.
        """
        try:
            settings = json.loads(self.run_file.read_text())
        except (OSError, ValueError) as error:
            raise RecordError(f"{self.path}: no evaluation is here ({error})") from error
        if not isinstance(settings, dict):
            raise RecordError(f"{self.run_file}: found a {type(settings).__name__}")
        for key in _SETTINGS:
            if key not in settings:
                raise RecordError(f"{self.run_file}: found no {key!r}, expected {_SETTINGS}")
        cases = settings["cases"]
        if not isinstance(cases, list) or not all(isinstance(one, str) for one in cases):
            raise RecordError(f"{self.run_file}: found cases {cases!r}, expected a list of names")
        return settings

    def find_difference(self, settings: Mapping[str, Any]) -> str | None:
        """Says which settings the results here have that others don't; None if they are the same.

        Raises:
            RecordError: as `settings`.
        """
        return describe_difference(self.settings(), settings)

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Writes what `settings` returns."""
        _write_text(self.run_file, json.dumps(settings, indent=1))

    def remove_leftovers(self) -> None:
        """Removes what an evaluation that was killed has left."""
        remove_tree(self.work)
        for folder in (self.path, self.records_folder, self.logs_folder):
            remove_partials(folder)

    def remove_results(self) -> None:
        """Removes what an evaluation has written but run.json; files of others stay.

        Raises:
            RecordError: run.json can't be read, which names the cases.
        """
        cases = self.settings()["cases"]
        self.remove_leftovers()
        for folder in (self.records_folder, self.logs_folder):
            if folder.exists():
                shutil.rmtree(folder)
        predictions = [path for path in self.path.glob("*.npz") if path.name in cases]
        for path in (self.metrics_file, self.classes_file, self.index_file, *predictions):
            path.unlink(missing_ok=True)

    def recorded(self) -> set[str]:
        """Returns the names of the cases that have a record, which are not read."""
        try:
            names = os.listdir(self.records_folder)  # noqa: PTH208 - a million paths take their time
        except FileNotFoundError:
            return set()
        return {f"{name.removesuffix('.json')}.npz" for name in names if name.endswith(".json")}

    def iterate_records(self) -> Iterator[CaseRecord]:
        """Yields the records there are, in the order of the cases' names.

        Raises:
            RecordError: one of them can't be read.
        """
        for case in sorted(self.recorded()):
            yield CaseRecord.read(self.record_file(case))

    def records(self) -> list[CaseRecord]:
        """Returns what `iterate_records` yields."""
        return list(self.iterate_records())

    def missing(self) -> list[str]:
        """Returns the cases that were to be evaluated and have no record."""
        cases: Sequence[str] = self.settings()["cases"]
        return [case for case in cases if not self.record_file(case).exists()]

    def write_tables(self, strict_time: bool) -> None:
        """Writes both CSVs anew from the records.

        The official one has no row for a case that was never predicted.

        Raises:
            RecordError: a record can't be read.
        """
        # By column and by part: there may be a million.
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        with atomic_write(self.classes_file) as classes:
            part: list[dict[str, Any]] = []
            _write_part(classes, part, header=True)
            for record in self.iterate_records():
                if record.predicted:
                    for name, value in record.row(strict_time).items():
                        columns[name].append(value)
                part += _class_rows(record)
                if len(part) >= _PART_ROWS:
                    _write_part(classes, part)
                    part = []
            _write_part(classes, part)
        _write_text(self.metrics_file, pd.DataFrame(columns).to_csv(index=False))


def describe_difference(earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """Says which of `SETTINGS` earlier results have otherwise; None if they are the same."""
    for name in SETTINGS:
        if earlier.get(name) != settings.get(name):
            return f"holds results with {name} {earlier.get(name)!r}, found {settings.get(name)!r}"
    return None


def find_teams(paths: Iterable[Path]) -> list[TeamFolder]:
    """Returns the evaluations in folders: a folder is a team's, or holds those of teams.

    Raises:
        RecordError: a folder has none, or two teams have one name.
    """
    teams: dict[str, TeamFolder] = {}
    for path in paths:
        # Resolved, because the name of "." is empty.
        folders = [TeamFolder(path.resolve())]
        if not folders[0].run_file.exists():
            folders = [TeamFolder(one.parent.resolve()) for one in sorted(path.glob("*/run.json"))]
        if not folders:
            raise RecordError(f"{path}: no evaluation is here; 'run --out {path}' makes one")
        for folder in folders:
            if teams.setdefault(folder.team, folder) != folder:
                both = f"{teams[folder.team].path} and {folder.path}"
                raise RecordError(f"two evaluations are named {folder.team}: {both}")
    return list(teams.values())


_PART_ROWS = 100_000
"""Rows of a table that are written at a time."""

_CLASS_COLUMNS = (
    *("CaseName", "Label", "Interaction", "DSC", "NSD"),
    *("Click", "Click_z", "Click_y", "Click_x", "RunningTime", "Output"),
)


def _class_rows(record: CaseRecord) -> Iterator[dict[str, Any]]:
    for one in record.interactions:
        for index, label in enumerate(record.labels):
            click = one.clicks[index] if one.clicks else None
            voxel = click.voxel if click else (math.nan,) * 3
            yield {
                "CaseName": record.case,
                "Label": label,
                "Interaction": one.number,
                "DSC": one.class_dsc[index],
                "NSD": one.class_nsd[index] if one.class_nsd else None,
                "Click": click.kind if click else None,
                **{f"Click_{axis}": float(at) for axis, at in zip("zyx", voxel, strict=True)},
                "RunningTime": one.seconds,
                "Output": one.output,
            }


def _interaction(content: Mapping[str, Any]) -> Interaction:
    clicks = tuple(
        click and ClassClick(click["kind"], tuple(click["voxel"])) for click in content["clicks"]
    )
    class_nsd = content["class_nsd"]
    return Interaction(
        **{
            **content,
            "clicks": clicks,
            "class_dsc": tuple(content["class_dsc"]),
            "class_nsd": None if class_nsd is None else tuple(class_nsd),
        }
    )


def _write_part(file: BinaryIO, rows: Sequence[Mapping[str, Any]], header: bool = False) -> None:
    table = pd.DataFrame(rows, columns=list(_CLASS_COLUMNS))
    file.write(_encode(table.to_csv(index=False, header=header)))


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(_encode(text))


def _encode(text: str) -> bytes:
    # The name of a case may hold bytes that are no text.
    return text.encode(errors="backslashreplace")

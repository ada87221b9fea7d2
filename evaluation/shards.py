"""Parts of an evaluation that run by themselves, for batch systems without Dask.

``OUT/TEAM/shards/I-of-N/`` is laid out as a team's folder (`evaluation.records`), so that no two
processes write to one file. To merge is to move what is done there into ``OUT/TEAM/``.
"""

import errno
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from evaluation.index import open_index, read_index
from evaluation.listing import Listed, ListingError, list_cases
from evaluation.records import SETTINGS, BusyError, TeamFolder, find_teams
from evaluation.removal import remove_tree
from gamt.io.files import atomic_write

_TEXTS = ("cases_folder", "started")
"""Entries of run.json that merging takes for texts."""


class ShardError(ValueError):
    """Shards that can't be merged, or none."""


@dataclass(frozen=True, order=True, slots=True)
class Shard:
    """One part of a folder of cases.

    Attributes:
        number: from 1 on.
        count: how many parts there are.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``I/N``.

        Raises:
            ShardError: it is something else.
        """
        match = re.fullmatch(r"(\d{1,9})[/](\d{1,9})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ShardError(f"found the shard {text!r}, expected I/N, such as 1/8, of 1/8 to 8/8")
        return cls(int(match[1]), int(match[2]))

    def folder(self, team: TeamFolder) -> TeamFolder:
        """Returns the folder of the shard's own results."""
        return TeamFolder(team.shards / f"{self.number}-of-{self.count}")

    def choose(self, listed: Iterable[Listed]) -> list[Listed]:
        """Returns the cases of this part, by their sizes from large to small.

        All parts together have each case once. It is the same on every machine: no file is read.
        """
        ordered = sorted(listed, key=lambda one: (-one.bytes, one.case))
        # As cards are dealt, there and back: parts of N cases each, of which none gets all the
        # largest.
        period = 2 * self.count
        mine = (self.number - 1, period - self.number)
        return [one for place, one in enumerate(ordered) if place % period in mine]


def find_shards(team: TeamFolder) -> list[tuple[Shard, TeamFolder]]:
    """Returns the shards that have begun, in the order of their numbers."""
    found = []
    for path in team.shards.glob("*-of-*/run.json"):
        try:
            shard = Shard.parse(path.parent.name.replace("-of-", "/"))
        except ShardError:  # a folder of somebody else
            continue
        found.append((shard, TeamFolder(path.parent)))
    return sorted(found, key=lambda one: one[0])


def has_shards_alone(team: TeamFolder) -> bool:
    """Says whether the folder of shards is there, and holds nothing but theirs, begun or not."""
    try:
        for path in team.shards.iterdir():
            if not path.name.startswith("."):
                Shard.parse(path.name.replace("-of-", "/"))
    except (OSError, ShardError):
        return False
    return True


def find_done_elsewhere(shard: Shard, team: TeamFolder, settings: Mapping[str, Any]) -> set[str]:
    """Returns the cases that have a record in the team's folder or in another shard's.

    Raises:
        ShardError: one of them holds results of other settings.
        RecordError: one of them has a broken run.json.
    """
    done: set[str] = set()
    # The team's last: a record that is merged meanwhile is seen there.
    for folder in [*(one for other, one in find_shards(team) if other != shard), team]:
        recorded = folder.recorded()
        if recorded and (difference := folder.find_difference(settings)):
            raise ShardError(f"{folder.path}: {difference}; choose another --name or --out")
        done |= recorded
    return done


@dataclass(frozen=True, slots=True)
class Merged:
    """What has come of merging.

    Attributes:
        team: whose shards they are.
        moved: number of cases whose results were moved.
        total: number of cases in the folder of cases.
        missing: names of those without results, by shard; where there are shards of several
            counts, they are in one of each count.
        busy: shards that are at work, of which nothing was moved.
    """

    team: TeamFolder
    moved: int
    total: int
    missing: Mapping[Shard, Sequence[str]]
    busy: Sequence[Shard]

    @property
    def missing_cases(self) -> set[str]:
        """The names of all cases without results."""
        return {case for cases in self.missing.values() for case in cases}


def find_sharded_teams(paths: Sequence[Path]) -> list[TeamFolder]:
    """Returns the teams' folders that have shards, or had them before they were merged.

    Args:
        paths: each a team's folder, or one that holds those of teams.

    Raises:
        RecordError: a folder has no evaluation.
    """
    teams = []
    for path in paths:
        near = [TeamFolder(one.resolve()) for one in (path, *sorted(path.glob("*/")))]
        teams += [one for one in near if find_shards(one)] or find_teams([path])
    return teams


def merge_shards(team: TeamFolder) -> Merged:
    """Moves what shards have done into the team's folder, and writes its index and tables.

    Whenever it is killed, nothing is lost, and it can be repeated. Of a case that was done twice
    the results in the team's folder stay. Once all cases are done, the shards' folders are removed.

    Raises:
        ShardError: shards are of different settings, or their folder of cases can't be read.
        BusyError: an evaluation is at work in the team's folder.
        RecordError: a run.json or a record is broken.
    """
    team.path.mkdir(exist_ok=True)
    with ExitStack() as held:
        held.enter_context(team.hold())
        found, busy = [], []
        for shard, folder in find_shards(team):
            try:
                held.enter_context(folder.hold())
            except BusyError:
                busy.append(shard)
            else:
                found.append((shard, folder))
        settings = _find_settings(team, [folder for _, folder in found])
        try:
            gts = settings["gts_folder"]
            listed = list_cases(Path(settings["cases_folder"]), None if gts is None else Path(gts))
        except ListingError as error:
            raise ShardError(f"{error}; it tells which cases are missing") from error
        cases = sorted({*settings["cases"], *(one.case for one in listed)})
        team.remove_leftovers()
        team.write_settings({**settings, "cases": cases})
        for one in (team.records_folder, team.logs_folder):
            one.mkdir(exist_ok=True)
        moved = sum(_move_results(folder, team) for _, folder in found)
        for _, folder in found:
            for path in (folder.metrics_file, folder.classes_file):  # of what isn't there any more
                path.unlink(missing_ok=True)
        recorded = team.recorded()
        with open_index(team.index_file) as index:
            known = read_index(team.index_file)
            for _, folder in found:
                for entry in read_index(folder.index_file).values():
                    if entry.case in recorded and entry.case not in known:
                        known[entry.case] = entry
                        index.add(entry)
        team.write_tables(settings["strict_time"])
        counts = {shard.count for shard in (*busy, *(shard for shard, _ in found))} or {1}
        missing = {}
        for shard in sorted(Shard(number, n) for n in counts for number in range(1, n + 1)):
            lacking = [one.case for one in shard.choose(listed) if one.case not in recorded]
            if lacking:
                missing[shard] = sorted(lacking)
        if not missing and not busy:
            # At once: half of a shard's folder would be taken for somebody else's.
            try:
                team.shards.replace(team.work)
            except OSError:  # it is a file system of its own
                remove_tree(team.shards)
            remove_tree(team.work)
    return Merged(team, moved, len(listed), missing, busy)


def _find_settings(team: TeamFolder, shards: Sequence[TeamFolder]) -> dict[str, Any]:
    """Returns the settings that all have, with the cases of all, and when the first has started.

    Raises:
        ShardError: they differ.
    """
    folders = [team, *shards] if team.run_file.exists() else [*shards]
    if not folders:
        raise ShardError(f"{team.path}: all of its shards are at work; nothing to merge yet")
    each = [one.settings() for one in folders]
    for folder, one in zip(folders, each, strict=True):
        for key in (*SETTINGS, "started"):
            if key not in one or (key in _TEXTS and not isinstance(one[key], str)):
                found = repr(one[key]) if key in one else "nothing"
                raise ShardError(f"{folder.run_file}: found {found} for {key!r}, expected a text")
    for folder in folders[1:]:
        if difference := folder.find_difference(each[0]):
            raise ShardError(f"{folder.path}: {difference} in {folders[0].path}")
    return {
        **each[0],
        "started": min(one["started"] for one in each),
        "cases": {case for one in each for case in one["cases"]},
    }


def _move_results(shard: TeamFolder, team: TeamFolder) -> int:
    """Moves the results of all cases of a shard; returns of how many."""
    moved = 0
    recorded = team.recorded()
    for case in sorted(shard.recorded()):
        # The record last: until then the case isn't done.
        for source, target in (
            (shard.prediction_file(case), team.prediction_file(case)),
            (shard.log_file(case), team.log_file(case)),
            (shard.record_file(case), team.record_file(case)),
        ):
            if case in recorded:
                source.unlink(missing_ok=True)
            elif source.exists():
                _move(source, target)
        moved += case not in recorded
    return moved


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # not on one file system
            raise
        with source.open("rb") as content, atomic_write(target) as file:
            shutil.copyfileobj(content, file)
        source.unlink()

"""Evaluates a folder of cases on many workers; can be interrupted and resumed at any time."""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.costs import Costs, read_sizes
from evaluation.index import Entry, IndexWriter, open_index, read_index
from evaluation.listing import Listed, ListingError, case_files, list_cases
from evaluation.loop import CaseFiles
from evaluation.methods import ParsedMethod
from evaluation.processes import stop_running
from evaluation.records import METRICS, CaseRecord, TeamFolder, describe_difference
from evaluation.removal import remove_tree
from evaluation.shards import Shard, find_done_elsewhere, find_shards, has_shards_alone
from evaluation.tasks import Done, FailedError, Job, keep_outcome, make_tasks
from gamt.cluster.local import LocalWorkers
from gamt.cluster.tasks import Lost, Task, Workers, run_tasks
from gamt.io.npz import CaseError

logger = logging.getLogger("gamt.evaluation")

_MERGE_SECONDS = 60.0
"""How long a shard waits for its folder, from which results are being moved."""

_TABLES_SECONDS = 60.0
"""How often the tables are written anew at most while cases are being done."""

_TABLES_SHARE = 0.01
"""Of the time, that writing them may take."""


class RunError(ValueError):
    """An evaluation that can't begin: no cases, or a folder in use or of other settings."""


@dataclass(slots=True)
class Progress:
    """Where an evaluation stands.

    Attributes:
        total: number of cases.
        done: number of those that have a record.
        failed: why cases have no record, by their names.
        todo: number of cases to do now.
        ended: number of those that are done or have failed.
        ended_share: of the work on those to do now, as far as it can be expected, in 0..1.
        predicted: whether the method ever wrote a segmentation of any case.
        sums: of METRICS over the cases that are done, in their order.
        seconds: that the method took for the cases that were done now.
        own_seconds: that the evaluator itself took for them.
    """

    total: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    todo: int = 0
    ended: int = 0
    ended_share: float = 0.0
    predicted: bool = False
    sums: list[float] = field(default_factory=lambda: [0.0] * len(METRICS))
    seconds: float = 0.0
    own_seconds: float = 0.0

    def count(self, entries: Sequence[Entry]) -> None:
        """Counts cases that have a record."""
        self.done += len(entries)
        self.predicted |= any(one.predicted for one in entries)
        self.sums = np.sum([self.sums, *(one.scores for one in entries)], axis=0).tolist()


def make_local_workers(count: int) -> Workers:
    """Returns workers on this machine; what methods have started ends with them."""
    return LocalWorkers(count, stop_running)


def evaluate_folder(
    cases: Path,
    gts: Path | None,
    spec: str,
    method: ParsedMethod,
    folder: TeamFolder,
    *,
    make_workers: Callable[[], Workers] = lambda: make_local_workers(1),
    strict_time: bool = False,
    run_limit: float,
    restart: bool = False,
    collect: bool = False,
    elsewhere: bool = False,
    shard: Shard | None = None,
    only: Collection[str] | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[CaseRecord], None] = lambda record: None,
) -> Progress:
    """Evaluates a method on every ``*.npz`` of a folder that has no record yet.

    Args:
        cases: the folder.
        gts: a folder of files of the same names with the ground truth, which the method doesn't
            see then; None where the cases hold it.
        spec: the text that `method` was parsed from.
        method: what is evaluated.
        folder: the team's, for the results.
        make_workers: makes what cases are evaluated on, where there is one to evaluate.
        strict_time: whether scores are 0 where the method took longer than the challenge allows.
        run_limit: seconds after which `method` stops a run; only noted here.
        restart: whether earlier results in `folder` are removed first, whatever their settings.
        collect: whether workers share no storage with this process: cases are sent to them, and
            volumes come back. Without it they find both under the same absolute paths.
        elsewhere: whether workers may be on other machines, which have to show that they have the
            same method (`ParsedMethod.fitness`).
        shard: the part of the cases to do, into a folder of its own below `folder`; None for all.
        only: names of the cases to do now, of all that are to be done; None for all.
        show: called first and whenever a case is done.
        tell: called with the record of each case that is done now.

    Raises:
        RunError: there are no cases, or `folder` holds results of other settings, shards that
            aren't merged or what is no evaluation, or is or contains the folder of the cases or of
            their truth.
        ShardError: other shards hold results of other settings.
        RecordError: run.json or a record in `folder` is broken, or another evaluation is at work.
        ClusterError: the workers are lost, or none of them can run the method.
    """
    # Absolute, since a case is looked for when its turn comes: what is in process may be anywhere.
    cases, gts = cases.absolute(), gts and gts.absolute()
    try:
        listed = list_cases(cases, gts)
    except ListingError as error:
        raise RunError(str(error)) from error
    if gts is not None and not gts.is_dir():
        raise RunError(f"{gts}: no such folder, expected one of the cases' truth")
    _refuse_inputs(folder, cases, gts)
    _refuse_foreign(folder)
    settings = make_settings(cases, gts, spec, method, strict_time, run_limit)
    with ExitStack() as held:
        if shard is None:
            take_shards(folder, restart)
            folder.path.mkdir(parents=True, exist_ok=True)
            held.enter_context(folder.hold())
        else:
            team, folder = folder, shard.folder(folder)
            part = _hold_shard(shard, team, settings, shard.choose(listed))
            listed = held.enter_context(part)
            if not listed:
                return Progress(0)
        _begin(folder, settings, [one.case for one in listed], restart)
        progress = Progress(len(listed))
        place = TeamFolder(folder.path.absolute())
        tables = _Tables(folder, strict_time)
        with open_index(folder.index_file) as index:
            todo, done_before = _resume(listed, cases, gts, folder, progress, index)
            if only is not None:
                todo = [one for one in todo if one.case in only]
            costs = Costs(todo, read_sizes(todo, cases, done_before))
            costs.see(done_before)
            del listed, done_before
            progress.todo = len(todo)
            show(progress)
            jobs = make_tasks(
                costs.longest_first(),
                cases,
                gts,
                method,
                place,
                collect=collect,
                elsewhere=elsewhere,
            )
            stamps = {one.case: one.stamp for one in todo}

            def settle(task: Task[Job, Done], outcome: Done | Lost) -> None:
                try:
                    record = keep_outcome(task.argument, outcome, place)
                    entry = Entry.of(record, stamps[task.name], place.prediction_bytes(task.name))
                except FailedError as error:
                    progress.failed[task.name] = str(error)
                    logger.error("%s", error)
                else:
                    index.add(entry)
                    costs.see([entry])
                    progress.count([entry])
                    progress.seconds += record.seconds
                    progress.own_seconds += record.own_seconds
                    tell(record)
                costs.end(task.name)
                progress.ended += 1
                progress.ended_share = costs.ended_share

            try:
                if todo:
                    # Closed, so that Ctrl-C ends the workers wherever it comes.
                    with closing(run_tasks(jobs, make_workers)) as ended:
                        for task, outcome in ended:
                            settle(task, outcome)
                            show(progress)
                            tables.refresh()
            finally:
                # Here, where no other evaluation is at work in this folder.
                if not remove_tree(folder.work):
                    logger.warning(
                        "%s: what the method left here can't all be removed", folder.work
                    )
                folder.write_tables(strict_time)
        return progress


def make_settings(
    cases: Path,
    gts: Path | None,
    spec: str,
    method: ParsedMethod,
    strict_time: bool,
    run_limit: float,
) -> dict[str, Any]:
    """Returns what has to be equal for a run to go on with the results of another: `SETTINGS`.

    Args: see `evaluate_folder`.
    """
    return {
        "method": spec,
        "identity": method.identity,
        "cases_folder": os.fspath(cases.resolve()),
        "gts_folder": gts and os.fspath(gts.resolve()),
        "strict_time": strict_time,
        "run_limit": run_limit,
    }


class _Tables:
    """Keeps the tables fresh, at little cost: they are written from all records each time."""

    def __init__(self, folder: TeamFolder, strict_time: bool) -> None:
        self._folder = folder
        self._strict_time = strict_time
        self._due = time.monotonic() + _TABLES_SECONDS

    def refresh(self) -> None:
        """Writes the tables where they are due."""
        began = time.monotonic()
        if began < self._due:
            return
        self._folder.write_tables(self._strict_time)
        ended = time.monotonic()
        self._due = ended + max(_TABLES_SECONDS, (ended - began) / _TABLES_SHARE)


def _resume(
    listed: Sequence[Listed],
    cases: Path,
    gts: Path | None,
    folder: TeamFolder,
    progress: Progress,
    index: IndexWriter,
) -> tuple[list[Listed], list[Entry]]:
    """Finds out what is left to do, and counts what is done.

    Only the records of cases whose files look changed, or that aren't in the index, are read; the
    index gets their lines.

    Returns:
        The cases to do; and what is known of those that are done.
    """
    recorded = folder.recorded()
    known = read_index(folder.index_file)
    todo, done = [], []
    for one in listed:
        if one.case not in recorded:
            todo.append(one)
            continue
        entry = known.get(one.case)
        if entry is None or entry.stamp != one.stamp:
            record = CaseRecord.read(folder.record_file(one.case))
            if reason := _find_change(case_files(cases, gts, one.case), record):
                progress.failed[one.case] = reason
                logger.error("%s", reason)
                continue
            entry = Entry.of(record, one.stamp, folder.prediction_bytes(one.case))
            index.add(entry)
        done.append(entry)
    progress.count(done)
    return todo, done


def _find_change(files: CaseFiles, record: CaseRecord) -> str | None:
    """Says why a record isn't one of a case's files; None where it is."""
    try:
        if files.checksums() == record.checksums:
            return None
    except CaseError as error:
        return str(error)
    return (
        f"{files.case}: the case is another than the one that was evaluated; "
        "choose another --name or --out, or remove its record"
    )


def _refuse_inputs(folder: TeamFolder, cases: Path, gts: Path | None) -> None:
    """Refuses a team's folder in which predictions would replace cases, whose names they have.

    Raises:
        RunError: it is the folder of the cases or of their truth, or one of these lies in it.
    """
    for source in (cases, gts):
        if source is not None and source.resolve().is_relative_to(folder.path.resolve()):
            raise RunError(
                f"{folder.path}: {source} is or lies in this folder, which is for results; "
                "choose another --name or --out"
            )


def _refuse_foreign(folder: TeamFolder) -> None:
    """Refuses a folder of something else than an evaluation.

    Raises:
        RunError: it holds files, but no run.json.
    """
    if folder.run_file.exists() or not folder.path.is_dir():
        return
    # Hidden files don't count: one killed before it wrote run.json leaves its lock. Nor do shards,
    # which may have begun a moment ago.
    found = sorted(one.name for one in folder.path.iterdir() if not one.name.startswith("."))
    if folder.shards.name in found and has_shards_alone(folder):
        found.remove(folder.shards.name)
    if found and not find_shards(folder):
        raise RunError(
            f"{folder.path}: found {found[0]} but no {folder.run_file.name}, expected an empty "
            "folder or earlier results; choose another --name or --out"
        )


def take_shards(folder: TeamFolder, restart: bool = False) -> None:
    """Refuses results of shards that aren't merged, or removes them.

    Raises:
        RunError: there are some, and they aren't to be removed.
        BusyError: one is at work.
    """
    for shard, one in find_shards(folder):
        with one.hold():
            if restart:
                remove_tree(one.path)
            elif one.recorded():
                raise RunError(
                    f"{one.path}: shard {shard} holds results that aren't merged; "
                    f"'python -m evaluation merge {folder.path}' does it"
                )


@contextmanager
def _hold_shard(
    shard: Shard, team: TeamFolder, settings: Mapping[str, Any], part: Sequence[Listed]
) -> Iterator[list[Listed]]:
    """Holds a shard's folder while it has something to do; waits for what may be merging it.

    Args:
        shard: which.
        team: the team's folder.
        settings: of this run.
        part: the shard's cases.

    Yields:
        Those of its cases that aren't done elsewhere.
    """

    def find_left() -> list[Listed]:
        done = find_done_elsewhere(shard, team, settings)
        return [one for one in part if one.case not in done]

    folder = shard.folder(team)
    while find_left():
        with ExitStack() as held:
            try:
                _refuse_foreign(folder)
                folder.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(folder.hold(_MERGE_SECONDS))
            except FileNotFoundError:
                continue  # it was merged while this waited for it, and is removed
            left = find_left()  # without what was merged meanwhile
            if not left and not folder.run_file.exists():
                remove_tree(folder.path)  # made again to be held
                with suppress(OSError):  # others are there
                    team.shards.rmdir()
            yield left
            return
    yield []


def _begin(folder: TeamFolder, settings: dict[str, Any], cases: list[str], restart: bool) -> None:
    """Prepares the team's folder for a first run, or for one that resumes or restarts.

    Raises:
        RunError: it holds results of other settings, and it isn't to restart.
        RecordError: run.json is broken.
    """
    started = time.strftime("%Y-%m-%d %H:%M")
    earlier: dict[str, Any] = {"cases": []}
    if folder.run_file.exists() and restart:
        folder.remove_results()
    elif not folder.run_file.exists():
        folder.remove_leftovers()
    else:
        earlier = folder.settings()
        if difference := describe_difference(earlier, settings):
            raise RunError(
                f"{folder.path}: {difference}; choose another --name or --out, or --restart"
            )
        started = earlier["started"]
        folder.remove_leftovers()
    known = set(earlier["cases"])
    if not known.issuperset(cases):
        # First of all, so that whatever else is in the folder is known to be an evaluation's.
        cases = sorted(known.union(cases))
        folder.write_settings({**settings, "started": started, "cases": cases})
    for one in (folder.records_folder, folder.logs_folder):
        one.mkdir(exist_ok=True)

"""Progress and summary of an evaluation, and its plan, on the terminal."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, ProgressColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from evaluation.plan import Plan
from evaluation.records import METRICS, CaseRecord, TeamFolder
from evaluation.run import Progress
from evaluation.shards import Merged

logger = logging.getLogger("gamt.evaluation")

LINE_SECONDS = 300.0
"""How often a line says how far it is where there is no terminal."""

_WIDTH_WITH_MEANS = 140
"""Of a terminal, in columns: on a narrower one, means would cut off the time that is left."""

_MOST_NAMED = 10
"""Cases that one line names."""

_TROUBLES = {
    "none": "wrote nothing in time, so zeros count",
    "stale": "wrote nothing in time, so the last prediction counts again",
    "broken": "wrote no segmentation of the case, so zeros count",
}


def log_record(record: CaseRecord, folder: TeamFolder) -> None:
    """Logs what a user should know of a case that is done, a line a kind."""
    troubles: defaultdict[str, list[int]] = defaultdict(list)
    for one in record.interactions:
        if trouble := ", ".join(filter(None, (_TROUBLES.get(one.output), one.failure))):
            troubles[trouble].append(one.number)
    for trouble, numbers in troubles.items():
        runs = f"run{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        log = folder.log_file(record.case)
        logger.warning("%s: %s: %s; see %s", record.case, runs, trouble, log)
    if record.late:
        logger.warning(
            "%s: took %.0f s, allowed are %d s for %d classes",
            record.case,
            record.seconds,
            record.limit_seconds,
            len(record.labels),
        )


def log_summary(result: Progress) -> None:
    """Logs what the evaluator itself took for the cases that were done now."""
    if result.seconds:
        logger.info(
            "the evaluator's own time: %.1f s, %.1f %% of the method's",
            result.own_seconds,
            result.own_seconds / result.seconds * 100,
        )


@contextmanager
def progress_bar(team: str, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """Gives a function that shows how far an evaluation is.

    Args:
        team: whose it is.
        shown: whether on a bar, with running means; otherwise a line is logged every few minutes.
    """
    pace = _Pace()
    if not shown:
        due = time.monotonic() + LINE_SECONDS

        def log(progress: Progress) -> None:
            nonlocal due
            if time.monotonic() >= due and progress.ended < progress.todo:
                due = time.monotonic() + LINE_SECONDS
                done = f"{progress.done} of {progress.total} cases"
                logger.info("%s: %s%s", team, done, pace.describe(progress))

        yield log
        return
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[cases]}"),
        TextColumn("{task.fields[means]}"),
    )
    console = Console(stderr=True)
    if console.width < _WIDTH_WITH_MEANS:
        columns = columns[:-1]
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(team, total=1.0, cases="", means="")

        def show(progress: Progress) -> None:
            means = "  ".join(
                f"{metric.replace('_', ' ')} {total / progress.done:.3f}"
                for metric, total in zip(METRICS, progress.sums, strict=True)
                if progress.done
            )
            done = progress.done + len(progress.failed)
            cases = f"{done}/{progress.total}{pace.describe(progress)}"
            # By what is to be done now: all of it took its time, or will.
            bar.update(task, completed=progress.ended_share, cases=cases, means=means)

        yield show


class _Pace:
    """How fast cases are done."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def describe(self, progress: Progress) -> str:
        """Returns the rate, and the time left by the work that was expected; empty at first."""
        seconds = time.monotonic() - self._began
        if not progress.ended_share or not seconds:
            return ""
        left = seconds / progress.ended_share * (1 - progress.ended_share)
        rate = progress.ended / seconds * 60
        return f", {rate:.1f} a minute, {describe_seconds(left)} left"


def describe_seconds(seconds: float) -> str:
    """Returns a duration in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def describe_plan(plan: Plan, gpu: bool) -> list[str]:
    """Returns a plan in lines.

    Args:
        plan: what to tell.
        gpu: whether a worker has a GPU.
    """
    pace = f"{plan.seconds_a_case:.3g} s a case, {plan.seconds_an_interaction:.3g} s an interaction"
    rows = [
        ("cases", f"{plan.total:,}: {plan.done:,} done, {plan.todo:,} to do"),
        ("measured", f"{plan.measured:,} cases: {pace}"),
        ("to do", f"{describe_seconds(plan.seconds)} of one {'GPU' if gpu else 'worker'}"),
        *(
            (f"with {number:,} worker{'s' if number > 1 else ''}", describe_seconds(seconds))
            for number, seconds in plan.wall_seconds.items()
        ),
        ("disk", f"{decimal(plan.result_bytes)} for results"),
        ("", f"{decimal(plan.work_bytes)} a worker while it is at work"),
        ("network", f"{decimal(plan.case_bytes)} read, cases"),
        ("", f"{decimal(plan.traffic_bytes)} written, work folders and results"),
        (
            "with --collect",
            f"{decimal(plan.case_bytes)} out, {decimal(plan.result_bytes)} back, through this "
            "machine; nothing else",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {text}" for name, text in rows]


def log_merged(merged: Merged) -> None:
    """Logs which cases are missing, by shard."""
    for shard in merged.busy:
        logger.warning("%s: shard %s is at work: nothing merged", merged.team.path, shard)
    for shard, cases in merged.missing.items():
        named = ", ".join(cases[:_MOST_NAMED])
        more = len(cases) - _MOST_NAMED
        logger.warning(
            "shard %s: %d cases missing: %s%s",
            shard,
            len(cases),
            named,
            f" and {more} more" if more > 0 else "",
        )

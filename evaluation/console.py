"""Progress and summary of an evaluation on the terminal."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from evaluation.records import METRICS, CaseRecord, TeamFolder
from evaluation.run import Progress

logger = logging.getLogger("gamt.evaluation")

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
    """Gives a function that shows how far an evaluation is, with running means."""
    if not shown:
        yield lambda progress: None
        return
    columns = (*Bar.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[means]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(team, total=None, means="")

        def show(progress: Progress) -> None:
            means = "  ".join(
                f"{metric.replace('_', ' ')} {total / progress.done:.3f}"
                for metric, total in zip(METRICS, progress.sums, strict=True)
                if progress.done
            )
            done = progress.done + len(progress.failed)
            bar.update(task, completed=done, total=progress.total, means=means)

        yield show

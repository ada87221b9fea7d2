"""Progress and summary of an evaluation on the terminal."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from evaluation.records import METRICS, TeamFolder
from evaluation.run import Progress

logger = logging.getLogger("gamt.evaluation")

_TROUBLES = {
    "none": "wrote nothing in time, so zeros count",
    "stale": "wrote nothing in time, so the last prediction counts again",
    "broken": "wrote no segmentation of the case, so zeros count",
}


def log_summary(result: Progress, folder: TeamFolder) -> None:
    """Logs what a user should know of a finished evaluation, a line a case and kind."""
    for record in result.records:
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
    for reason in result.failed.values():
        logger.error("%s", reason)
    own = sum(record.own_seconds for record in result.records)
    took = sum(record.seconds for record in result.records)
    if took:
        logger.info(
            "the evaluator's own time: %.1f s, %.1f %% of the method's", own, own / took * 100
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
            rows = [record.row() for record in progress.records]
            means = "  ".join(
                f"{metric.replace('_', ' ')} {np.mean([row[metric] for row in rows]):.3f}"
                for metric in METRICS
                if rows
            )
            done = len(progress.records) + len(progress.failed)
            bar.update(task, completed=done, total=progress.total, means=means)

        yield show

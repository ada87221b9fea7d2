"""What the command line shows of an evaluation: how far it is, and what came of it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from evaluation.records import METRICS
from evaluation.run import Progress

logger = logging.getLogger("gamt.evaluation")


def log_summary(result: Progress) -> None:
    """Logs what a user should know of a finished evaluation."""
    for record in result.records:
        for one in record.interactions:
            if one.failure:
                logger.warning("%s: run %d: %s", record.case, one.number, one.failure)
            if one.output == "none":
                logger.warning("%s: run %d wrote nothing: zeros", record.case, one.number)
            elif one.output == "stale":
                logger.warning(
                    "%s: run %d wrote nothing: the last prediction counts again",
                    record.case,
                    one.number,
                )
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

"""The evaluator's command line; see ``python -m evaluation --help``.

The commands import what they need when they run, so that help is quick.
"""

import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gamt.console import UsageError, start_log

if TYPE_CHECKING:
    from evaluation.run import Progress

logger = logging.getLogger("gamt.evaluation")

RUN_LIMIT = 3600.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
\b
Examples:
  python -m evaluation run --cases tests/cases --method gamt --out results
  python -m evaluation run --cases val --gts val_gt --method docker:team.tar.gz --out results
  python -m evaluation leaderboard results
  python -m evaluation report results

'python -m evaluation COMMAND --help' says more about each command.
""",
)

Verbose = Annotated[
    bool | None,
    typer.Option("--verbose/--quiet", "-v/-q", help="Log more, or errors alone."),
]
Results = Annotated[
    list[Path],
    typer.Argument(metavar="OUT...", help="Folders given to 'run --out', or a team's in them."),
]


@app.callback()
def _evaluation() -> None:
    """Evaluates interactive segmentation of 3-D scans as the CVPR 2025 challenge does.

    A simulated user draws a box and clicks five times where the prediction is most wrong; after
    each, Dice and surface Dice say how good the prediction is. Same clicks, same scores, same
    CSV as the organisers' script, for any method.
    """


@app.command(
    epilog="""
\b
Methods:
  gamt [OPTIONS]       this project, in process; OPTIONS as for 'gamt predict'
  docker:IMAGE         a local image, or a tarball TEAM.tar.gz of 'docker save'
  podman:IMAGE         the same with podman
  apptainer:FILE.sif   the same with apptainer, where there is no docker
  command:CMD          a shell command, run in a folder that holds inputs/ and outputs/

\b
Examples:
  python -m evaluation run --cases tests/cases --method gamt --out results
  python -m evaluation run --cases tests/cases --method "gamt --preset coreset" --name coreset \\
      --out results --workers 2
  python -m evaluation run --cases val --gts val_gt --method docker:team.tar.gz --out results
  python -m evaluation run --cases val --method "command:python my.py inputs outputs" --out results

\b
OUT/TEAM gets:
  TEAM_metrics.csv     the official table, a row a case
  classes.csv          scores and clicks by case, class and interaction
  CASE.npz             segs, the last prediction, and all_segs, all of them
  records/, logs/      what was measured, and what the method printed, by case

The same command again does only what is missing: after Ctrl-C, a crash, or with new cases.
A case that failed is tried again.

Exit status: 0 if all cases were evaluated, 1 if not, 2 for wrong arguments, 130 after Ctrl-C.
"""
)
def run(
    cases: Annotated[
        Path, typer.Option(metavar="DIR", help="A folder of the challenge's npz files.")
    ],
    method: Annotated[str, typer.Option(metavar="SPEC", help="What to evaluate; see below.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder with the results.")],
    gts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of npz files of the same names with the ground truth (gts).  "
            "[default: the cases hold it]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="TEAM", help="The results' name.  [default: after the method]"),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Cases at a time. Running times are fair with 1 alone."
        ),
    ] = 1,
    strict_time: Annotated[
        bool,
        typer.Option(
            "--strict-time",
            help="Scores are 0 where a case took over 90 s a class, as in the challenge; without "
            "it there is a warning, as in the organisers' script.",
        ),
    ] = False,
    run_limit: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.001,
            help="One run of the method is stopped after this time; it counts as one that wrote "
            "nothing.",
        ),
    ] = RUN_LIMIT,
    remove_image: Annotated[
        bool,
        typer.Option("--remove-image", help="Remove the container's image at the end."),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard the team's earlier results first.")
    ] = False,
    verbose: Verbose = None,
) -> None:
    """Evaluates a method on the cases of a folder."""
    start_log(verbose)
    from evaluation.methods import parse_method
    from evaluation.records import TeamFolder
    from evaluation.run import evaluate_folder, stop_workers

    parsed = parse_method(method, run_limit, parallel=workers > 1, remove_image=remove_image)
    team = name or parsed.team
    if not re.fullmatch(r"[\w-][\w.-]*", team):
        raise UsageError(f"--name {team!r}: expected letters, digits, '.', '_' and '-'")
    folder = TeamFolder(out / team)
    if restart and folder.run_file.exists():
        shutil.rmtree(folder.path)
    shown = verbose is not False and sys.stderr.isatty()
    try:
        with _progress_bar(team, shown) as show:
            result = evaluate_folder(
                cases,
                gts,
                method,
                parsed,
                folder,
                workers=workers,
                strict_time=strict_time,
                run_limit=run_limit,
                show=show,
            )
    except KeyboardInterrupt:
        stop_workers()
        typer.echo("interrupted; the same command goes on where it was", err=True)
        raise typer.Exit(130) from None
    parsed.release()
    _summarise(result, folder.metrics_file)
    if result.failed:
        raise typer.Exit(1)


def _summarise(result: "Progress", metrics_file: Path) -> None:
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
    typer.echo(f"{len(result.records)} of {result.total} cases: {metrics_file}")


@contextmanager
def _progress_bar(team: str, shown: bool) -> Iterator[Callable[["Progress"], None]]:
    """Gives a function that shows how far an evaluation is, with running means."""
    if not shown:
        yield lambda progress: None
        return
    import numpy as np
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    from evaluation.records import METRICS

    columns = (*Bar.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[means]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(team, total=None, means="")

        def show(progress: "Progress") -> None:
            rows = [record.row() for record in progress.records]
            means = "  ".join(
                f"{metric.replace('_', ' ')} {np.mean([row[metric] for row in rows]):.3f}"
                for metric in METRICS
                if rows
            )
            done = len(progress.records) + len(progress.failed)
            bar.update(task, completed=done, total=progress.total, means=means)

        yield show


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; errors end in one line, not in a traceback.

    Args:
        arguments: those after the program's name; None for the process's own.
    """
    try:
        typer.main.get_command(app).main(args=arguments, prog_name="python -m evaluation")
    except Exception as error:
        logger.debug("where it failed", exc_info=True)
        message, status = _explain(error)
        typer.echo(f"evaluation: {message}", err=True)
        sys.exit(status)


def _explain(error: Exception) -> tuple[str, int]:
    """Returns what to tell about an error, and the exit status."""
    from evaluation.methods import MethodError
    from evaluation.records import RecordError
    from evaluation.run import RunError
    from gamt.npz import CaseError

    if isinstance(error, UsageError | MethodError | RunError | RecordError):
        return str(error), 2
    if isinstance(error, CaseError):
        return str(error), 1
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 1
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} (--verbose shows where)", 1

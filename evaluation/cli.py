"""The evaluator's command line; see ``gamt-evaluate --help``.

The commands import what they need when they run, so that help is quick.
"""

import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation import METHOD_SPECS, REPOSITORY
from gamt.cli.console import UsageError, echo, run_app, show_help, shows_progress, start_log
from gamt.cli.options import Verbose
from gamt.cli.termination import TERMINATED, Terminated, raise_on_sigterm
from gamt.cli.workers import (
    WORKERS_LIMIT,
    Cluster,
    ClusterOptions,
    Collect,
    Count,
    Dashboard,
    Gpu,
    Scheduler,
    WorkerOptions,
)

if TYPE_CHECKING:
    from evaluation.records import TeamFolder

logger = logging.getLogger("gamt.evaluation")

RUN_LIMIT = 3600.0

SAMPLE = 12
"""Cases that are measured for a plan."""

EXTRA = ("huggingface_hub", "jinja2", "numba", "pandas", "PIL")
"""What the extra ``gamt[evaluation]`` installs, as Python imports it."""

app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
\b
Examples:
  gamt-evaluate run --cases tests/cases --method gamt --out results
  gamt-evaluate run --cases val --gts val_gt --method docker:team.tar.gz --out results
  gamt-evaluate plan --cases val --method gamt --out results
  gamt-evaluate leaderboard results
  gamt-evaluate report results
  gamt-evaluate fetch --to data
  gamt-evaluate prepare images labels cases --modality CT --window -160 240

'gamt-evaluate COMMAND --help' says more about each command.
""",
)

Cases = Annotated[Path, typer.Option(metavar="DIR", help="A folder of the challenge's npz files.")]
Spec = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="SPEC",
        help="What to evaluate; 'gamt-evaluate run --help' ends with a list.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder with the results.")]
Gts = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A folder of npz files of the same names with the ground truth (gts).  "
        "[default: the cases hold it]",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(metavar="TEAM", help="The results' name.  [default: after the method]"),
]
StrictTime = Annotated[
    bool,
    typer.Option(
        "--strict-time",
        help="Scores are 0 where a case took over 90 s a class, as in the challenge; without "
        "it there is a warning, as in the organisers' script.",
    ),
]
RunLimit = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0.001,
        help="One run of the method is stopped after this time; what it wrote is discarded, "
        "and it counts as one that wrote nothing.",
    ),
]
Results = Annotated[
    list[Path],
    typer.Argument(metavar="OUT...", help="Folders given to 'run --out', or a team's in them."),
]


@app.callback(invoke_without_command=True)
def _evaluation(context: typer.Context, verbose: Verbose = None) -> None:
    """Evaluates interactive segmentation of 3-D scans as the CVPR 2025 challenge does.

    A simulated user draws a box and clicks five times where the prediction is most wrong; after
    each, Dice and surface Dice say how good the prediction is. Same clicks, same scores, same
    CSV as the organisers' script, for any method.
    """
    show_help(context)


@app.command(
    epilog=f"""
\b
Methods:
{METHOD_SPECS}

\b
Examples:
  gamt-evaluate run --cases tests/cases --method gamt --out results
  gamt-evaluate run --cases tests/cases --method "gamt --preset coreset" --name coreset \\
      --out results --workers 2
  gamt-evaluate run --cases val --gts val_gt --method docker:team.tar.gz --out results
  gamt-evaluate run --cases val --method "command:python my.py inputs outputs" --out results
  gamt-evaluate run --cases val --method session:evaluation.peers:nninteractive --out results
  gamt-evaluate run --cases val --method gamt --out results --shard 3/8

\b
OUT/TEAM gets:
  TEAM_metrics.csv     the official table, a row a case
  classes.csv          scores and clicks by case, class and interaction
  CASE.npz             segs, the last prediction, and all_segs, all of them
  records/, logs/      what was measured, and what the method printed, by case

The same command again does only what is missing: after Ctrl-C, a crash, or with new cases.
A case that failed is tried again.

Whatever a method does, its case is scored. A run that writes nothing in time counts as the one
before it, and as zeros without one; what is no segmentation of the case counts as zeros. All
processes that a run has started are ended with it.

Exit status: 0 if all cases were evaluated, 1 if not or if nothing was ever predicted, 2 for wrong
arguments, 130 after Ctrl-C, 143 after SIGTERM.
"""
)
def run(
    cases: Cases,
    method: Spec,
    out: Out,
    gts: Gts = None,
    name: Name = None,
    workers: Count = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
    gpu: Gpu = False,
    collect: Collect = False,
    dashboard: Dashboard = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do the part I of N alone, into a folder of its own, for batch systems without "
            "Dask; 'merge' puts the parts together.",
        ),
    ] = None,
    strict_time: StrictTime = False,
    run_limit: RunLimit = RUN_LIMIT,
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
    from evaluation.console import log_record, log_summary, progress_bar
    from evaluation.methods import parse_method
    from evaluation.processes import stop_running
    from evaluation.records import TeamFolder
    from evaluation.run import evaluate_folder
    from evaluation.shards import Shard

    chosen = WorkerOptions.parse(
        workers, scheduler, cluster, cluster_options, gpu, dashboard, collect
    )
    if shard is not None and chosen.elsewhere:
        raise UsageError("found --shard with --scheduler or --cluster, expected one of them")
    if shard is not None and restart:
        raise UsageError(
            "found --shard with --restart, which discards the results of all shards, expected one "
            "of them"
        )
    part = None if shard is None else Shard.parse(shard)
    parallel = chosen.elsewhere or part is not None or (workers or 1) > 1
    parsed = parse_method(method, run_limit, parallel=parallel, remove_image=remove_image)
    team = TeamFolder(out / _check_name(name or parsed.team))
    folder = team if part is None else part.folder(team)
    with _to_go_on(folder), progress_bar(team.team, shows_progress(verbose)) as show:
        result = evaluate_folder(
            cases,
            gts,
            method,
            parsed,
            team,
            make_workers=lambda: chosen.make(stop_running),
            strict_time=strict_time,
            run_limit=run_limit,
            restart=restart,
            collect=collect,
            elsewhere=chosen.elsewhere,
            shard=part,
            show=show,
            tell=lambda record: log_record(record, folder),
        )
    parsed.release()
    log_summary(result)
    if part is not None and not result.total:
        echo(f"{team.path}: all cases of shard {part} are done already")
    else:
        where = folder.metrics_file if part is None else folder.path
        echo(f"{result.done} of {result.total} cases: {where}")
    if result.done and not result.predicted:
        logger.error(
            "%s never wrote a prediction in time; %s says why", method, folder.path / "logs"
        )
        raise typer.Exit(1)
    if result.failed:
        raise typer.Exit(1)


@app.command(
    epilog="""
\b
Examples:
  gamt-evaluate plan --cases val --method gamt --out results
  gamt-evaluate plan --cases val --method gamt --out results --workers 8 --workers 100 \\
      --cluster slurm --cluster-option queue=gpu --gpu

What is measured stays in OUT/TEAM: 'run' doesn't do it again. Times are those of workers as they
are now, one case alone on its machine; starting them isn't counted.
"""
)
def plan(
    cases: Cases,
    method: Spec,
    out: Out,
    gts: Gts = None,
    name: Name = None,
    workers: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            min=1,
            max=WORKERS_LIMIT,
            help="Tell the time for so many workers; repeatable.  [default: 1, 2, 4 up to 64, "
            "or to this machine's cores without --scheduler and --cluster]",
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Evaluate cases, small and large ones, until N are measured.",
        ),
    ] = SAMPLE,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
    gpu: Gpu = False,
    collect: Collect = False,
    strict_time: StrictTime = False,
    run_limit: RunLimit = RUN_LIMIT,
    verbose: Verbose = None,
) -> None:
    """Tells what an evaluation will take: time, disk, network; and the command that runs it.

    It goes by cases that are done, and by a sample of the others that it evaluates first.
    """
    start_log(verbose)
    from evaluation.console import describe_plan, log_record, progress_bar
    from evaluation.methods import parse_method
    from evaluation.plan import MOST_WORKERS, Standing, make_plan
    from evaluation.processes import stop_running
    from evaluation.records import TeamFolder
    from evaluation.run import RunError, evaluate_folder, make_settings, take_shards

    chosen = WorkerOptions.parse(None, scheduler, cluster, cluster_options, gpu, False, collect)
    parsed = parse_method(method, run_limit, parallel=chosen.elsewhere)
    folder = TeamFolder(out / _check_name(name or parsed.team))
    settings = make_settings(cases, gts, method, parsed, strict_time, run_limit)
    if folder.run_file.exists() and (difference := folder.find_difference(settings)):
        raise RunError(f"{folder.path}: {difference}; choose another --name or --out")
    take_shards(folder)
    standing = Standing.read(cases, gts, folder)
    lacking = sample - len(standing.measured)
    if lacking > 0 and standing.todo:
        with _to_go_on(folder), progress_bar(folder.team, shows_progress(verbose)) as show:
            evaluate_folder(
                cases,
                gts,
                method,
                parsed,
                folder,
                make_workers=lambda: chosen.make(stop_running),
                strict_time=strict_time,
                run_limit=run_limit,
                collect=collect,
                elsewhere=chosen.elsewhere,
                only=standing.choose_sample(lacking),
                show=show,
                tell=lambda record: log_record(record, folder),
            )
        standing = Standing.read(cases, gts, folder)
    parsed.release()
    if not standing.todo:
        echo(f"all {len(standing.listed)} cases are done: there is nothing to plan")
        return
    # Of this machine, more than it has cores aren't quicker.
    most = MOST_WORKERS if chosen.elsewhere else min(MOST_WORKERS, os.cpu_count() or 1)
    for line in describe_plan(make_plan(standing, workers or (), most), gpu):
        echo(line)
    echo("(what it takes to start workers isn't counted)")
    words = [sys.executable, "-m", "evaluation", "run", "--cases", cases, "--method", method]
    words += ["--out", out]
    for option, value in (("--gts", gts), ("--name", name)):
        words += [] if value is None else [option, value]
    words += ["--strict-time"] if strict_time else []
    words += [] if run_limit == RUN_LIMIT else ["--run-limit", f"{run_limit:g}"]
    words += [] if scheduler or not workers else ["--workers", max(workers)]
    echo(shlex.join(map(str, [*words, *chosen.words()])))


@app.command(
    epilog="""
\b
Examples:
  gamt-evaluate run --cases val --method gamt --out results --shard 1/2
  gamt-evaluate run --cases val --method gamt --out results --shard 2/2
  gamt-evaluate merge results

A batch system's array of jobs runs the shards, such as Slurm's with 'sbatch --array=1-100' and
--shard $SLURM_ARRAY_TASK_ID/100. Killed at any time, 'merge' can be repeated.

Exit status: 0 if all cases are there, 1 if some are missing, 2 for wrong arguments.
"""
)
def merge(results: Results, verbose: Verbose = None) -> None:
    """Puts what the shards of evaluations have done into one folder, with its tables.

    What is missing is named; the same shard again does that alone, and 'run' without --shard all.
    """
    start_log(verbose)
    from evaluation.console import log_merged
    from evaluation.shards import find_sharded_teams, merge_shards

    complete = True
    for team in find_sharded_teams(results):
        merged = merge_shards(team)
        log_merged(merged)
        done = merged.total - len(merged.missing_cases)
        echo(f"{done} of {merged.total} cases, {merged.moved} moved: {team.metrics_file}")
        complete &= done == merged.total
    if not complete:
        raise typer.Exit(1)


@app.command(
    epilog="""
\b
Examples:
  gamt-evaluate leaderboard results
  gamt-evaluate leaderboard results/gamt results/myteam --to tables
"""
)
def leaderboard(
    results: Results,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Gets leaderboard.md and leaderboard.csv.  [default: the first OUT]",
        ),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Prints and writes the leaderboard: means by modality, with 95 % confidence intervals.

    Beside it stand the numbers that the paper published for the challenge's validation set.
    """
    start_log(verbose)
    from rich.console import Console

    from evaluation.leaderboard import show_leaderboard, write_leaderboard
    from evaluation.records import find_teams

    teams = find_teams(results)
    show_leaderboard(teams, Console())
    folder = to or results[0]
    write_leaderboard(teams, folder)
    echo(f"{folder / 'leaderboard.md'} {folder / 'leaderboard.csv'}")


@app.command(
    epilog="""
\b
Examples:
  gamt-evaluate report results
  gamt-evaluate report results --case CT_phantom --case MR_phantom --to report.html

Without --case, the worst, the median and the best case of each team are shown in pictures.
"""
)
def report(
    results: Results,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page.  [default: report.html in the first OUT]"),
    ] = None,
    cases: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="Show this case in pictures; repeatable."),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Writes one HTML file: leaderboard, curves over clicks, all cases, pictures of some.

    It holds all that it needs, opens from disk and can be sent to others.
    """
    start_log(verbose)
    from evaluation.records import find_teams
    from evaluation.report import write_report
    from gamt.cli.options import check_output

    if to is not None:
        check_output(to, ".html")
    path = to or results[0] / "report.html"
    write_report(find_teams(results), path, cases)
    echo(os.fspath(path))


@app.command(
    epilog="""
\b
Examples:
  gamt-evaluate fetch
  gamt-evaluate fetch --to /data/validation --yes

What is there already isn't fetched again. HF_ENDPOINT names another hub.
"""
)
def fetch(
    repository: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="The data set on the Hugging Face hub.")
    ] = REPOSITORY,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where to.")] = Path("data"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    verbose: Verbose = None,
) -> None:
    """Fetches the challenge's validation set: cases, and ground truth in a folder of its own."""
    start_log(verbose)
    from rich.filesize import decimal

    from evaluation import hub
    from gamt.cli.console import download_bar

    plan = hub.plan(repository)
    missing = plan.missing_bytes(to)
    echo(f"{plan.url}, licence {plan.licence or 'unknown'}")
    echo(f"{len(plan.files) // 2} cases, {decimal(plan.bytes)}; to fetch: {decimal(missing)}")
    if plan.without_gts:
        logger.warning("%d more cases have no ground truth there: left out", len(plan.without_gts))
    if missing and not yes:
        typer.confirm(f"Fetch them into {to}?", abort=True)
    with download_bar(repository, shows_progress(verbose)) as progress:
        fetched = hub.fetch(plan, to, progress)
    echo(f"run --cases {fetched.cases} --gts {fetched.gts}")


@app.command(
    epilog="""
\b
Examples:
  gamt-evaluate prepare images labels cases --modality CT --window -160 240
  gamt-evaluate prepare imagesTr labelsTr cases --modality MR --no-box '*vessel*'

Exit status: 0 if all images became cases, 1 if not, 2 for wrong arguments.
"""
)
def prepare(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images.")],
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="A folder of their segmentations, of the same names, or less nnU-Net's _0000.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Gets MODALITY_NAME.npz.")],
    modality: Annotated[str, typer.Option(metavar="NAME", help="CT, MR, Microscopy, PET or US.")],
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Intensities that become 0 and 255.  [default: each image's percentiles 0.5 and "
            "99.5 of what is above its background]",
        ),
    ] = None,
    no_boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--no-box",
            metavar="PATTERN",
            help="Cases that get no boxes, clicks alone, such as '*vessel*'; repeatable.  "
            "[default: 'Microscopy_*', as in the challenge]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the boxes' margins.")] = 0,
    volume: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Which volume to take of images that hold several, from 0 on."
        ),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Makes cases of images and segmentations, with boxes as the challenge draws them.

    Files are NIfTI; with the extra 'itk' also NRRD, MetaImage, or a DICOM series in a folder.
    """
    start_log(verbose)
    from evaluation.prepare import NO_BOXES, prepare_folder
    from gamt.cli.console import progress_bar

    with progress_bar(shows_progress(verbose)) as progress:
        prepared = prepare_folder(
            images, labels, out, modality, window, no_boxes or NO_BOXES, seed, volume, progress
        )
    failed = [one.error for one in prepared if one.error]
    for error in failed:
        logger.error("%s", error)
    echo(f"{len(prepared) - len(failed)} of {len(prepared)} cases: {out}")
    if failed:
        raise typer.Exit(1)


def _check_name(team: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", team):
        raise UsageError(f"--name {team!r}: expected letters, digits, '.', '_' and '-'")
    return team


@contextmanager
def _to_go_on(folder: "TeamFolder") -> Iterator[None]:
    """Tells, however an evaluation is cut short, that the same command goes on.

    Raises:
        typer.Exit: with 130 after Ctrl-C, 143 after SIGTERM.
        LostError: the workers are lost.
    """
    from gamt.cluster.tasks import LostError

    hint = "the same command goes on where it was"
    try:
        with raise_on_sigterm():
            yield
    except KeyboardInterrupt as interrupt:
        echo(f"interrupted; {hint}", err=True)
        raise typer.Exit(TERMINATED if isinstance(interrupt, Terminated) else 130) from None
    except LostError as error:
        raise LostError(f"{error}; {hint}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; errors end in one line, not in a traceback.

    Args:
        arguments: those after the program's name; None for the process's own.
    """
    run_app(app, "gamt-evaluate", _explain, arguments)


def _explain(error: Exception) -> tuple[str, int] | None:
    """Returns what to tell about an error, and the exit status."""
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRA:
        how = "pip install 'gamt[evaluation]', or '.[evaluation]' in a clone, or 'make setup' there"
        return f"the package {error.name} isn't installed; this installs it: {how}", 1
    from evaluation.hub import HubError
    from evaluation.listing import ListingError
    from evaluation.loop import MethodError
    from evaluation.plan import PlanError
    from evaluation.prepare import PrepareError
    from evaluation.records import RecordError
    from evaluation.report import ReportError
    from evaluation.run import RunError
    from evaluation.shards import ShardError
    from gamt.cluster.tasks import ClusterError
    from gamt.io.npz import CaseError

    wrong = (UsageError, ListingError, MethodError, RunError, ShardError, RecordError, PrepareError)
    if isinstance(error, wrong):
        return str(error), 2
    if isinstance(error, CaseError | ClusterError | HubError | PlanError | ReportError):
        return str(error), 1
    return None

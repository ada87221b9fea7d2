"""``gamt predict``: a folder of the challenge's cases."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gamt.cli.console import progress_bar, shows_progress, start_log
from gamt.cli.options import (
    Cache,
    Changes,
    Device,
    Dtype,
    NoBudget,
    PredictOptions,
    Preset,
    PropagationName,
    ScaleName,
    SegmenterName,
    Verbose,
    Weights,
    WindowText,
)
from gamt.cli.workers import (
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
    from gamt.io.storage import RemotePath
    from gamt.predict import CaseResult

logger = logging.getLogger("gamt")

EPILOG = """
\b
Examples:
  gamt predict inputs/ outputs/
  gamt predict CT_case.npz outputs/ --no-budget
  gamt predict inputs/ outputs/ --preset coreset --cache encoded/
  gamt predict inputs/ outputs/ --segmenter sam_vit_b --set smoothing=opening
  GAMT_BUDGET=false gamt predict inputs/ outputs/
  gamt predict s3://scans/in s3://scans/out --resume
  gamt predict inputs/ outputs/ --workers 4 --gpu
  gamt predict inputs/ outputs/ --scheduler tcp://host:8786
  gamt predict inputs/ outputs/ --cluster slurm --workers 20 \\
      --cluster-option cores=4 --cluster-option memory=16GB

The command line goes before the environment, and the environment before the preset.

With --workers, --scheduler or --cluster, the largest files come first, and a case whose worker is
lost is tried once more. Workers need the same gamt and weights as are here, and, but for --collect,
the same folders. SIGTERM then ends at once, as Ctrl-C does: cases at hand have no output.

URLs need the extra cluster: pip install 'gamt[cluster]'. Endpoint and credentials come from the
usual variables, such as AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, options of
other kinds of storage from fsspec's, FSSPEC_*.

A case whose file can be read always has an output. Where the segmenter fails or the time is up,
it is what the other views say, or the previous prediction, or the shape that the prompts draw; its
'status' says so, and so does the log. After SIGTERM the case at hand is finished at once from what
has been seen, and written; a second one ends at once.

\b
Exit status:
  0    all cases are fine, or kept by --resume
  3    all have an output, but some are degraded: a fault, cut short by the
       time limit, coarser for lack of memory, or a class that is empty
  4    some cases have no output
  1    nothing could begin: no npz file, or a folder, a URL or the segmenter
       can't be used
  2    wrong arguments
  143  ended by SIGTERM
  130  ended by Ctrl-C
"""


def predict(
    inputs: Annotated[
        str,
        typer.Argument(
            metavar="INPUTS",
            help="A folder of the challenge's npz files, or a file; a path, or a URL such as "
            "s3://bucket/folder.",
        ),
    ],
    outputs: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUTS",
            help="Gets a file of the same name for each one; a folder, or a URL.",
        ),
    ],
    segmenter: SegmenterName = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    changes: Changes = None,
    window: WindowText = None,
    scale: ScaleName = None,
    propagation: PropagationName = None,
    cache: Cache = None,
    no_budget: NoBudget = False,
    workers: Count = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
    gpu: Gpu = False,
    dashboard: Dashboard = False,
    collect: Collect = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Leave out cases that have an output already, whatever settings it was made with.",
        ),
    ] = False,
    verbose: Verbose = None,
) -> None:
    """Segments the cases (npz) of a folder.

    They are files of the CVPR 2025 challenge on interactive segmentation of 3-D scans.
    """
    start_log(verbose)
    from gamt.io.storage import locate

    options = PredictOptions(
        segmenter=segmenter,
        weights=weights,
        device=device,
        dtype=dtype,
        preset=preset,
        changes=changes,
        window=window,
        scale=scale,
        propagation=propagation,
        cache=cache and cache.absolute(),
        no_budget=no_budget,
    )
    where = WorkerOptions.parse(
        workers, scheduler, cluster, cluster_options, gpu, dashboard, collect
    )
    # Before the segmenter is there, which may change the working directory.
    source, target = locate(inputs), locate(outputs)
    with progress_bar(shown=shows_progress(verbose)) as progress:
        if where.elsewhere or where.count or where.gpu:
            results = _predict_on_workers(source, target, options, where, progress, resume)
        else:
            results = _predict_here(source, target, options, progress, resume)
    if not results:
        logger.error("%s: no npz file in this folder", source)
        raise typer.Exit(1)
    outcomes = {result.outcome for result in results}
    raise typer.Exit(4 if "failed" in outcomes else 3 if "degraded" in outcomes else 0)


def _predict_here(
    source: "Path | RemotePath",
    target: "Path | RemotePath",
    options: PredictOptions,
    progress: Callable[[int, int], None],
    resume: bool,
) -> "list[CaseResult]":
    from gamt.cli.termination import TERMINATED, finish_on_sigterm
    from gamt.lifting.budget import process_start
    from gamt.predict import predict_folder

    settings = options.choose_settings()
    model = options.load_segmenter(settings)
    with finish_on_sigterm() as finish:
        results = predict_folder(
            source,
            target,
            model,
            settings,
            process_start(),
            progress,
            options.cache,
            finish,
            resume=resume,
        )
        if finish():
            raise typer.Exit(TERMINATED)
    return results


def _predict_on_workers(
    source: "Path | RemotePath",
    target: "Path | RemotePath",
    options: PredictOptions,
    where: WorkerOptions,
    progress: Callable[[int, int], None],
    resume: bool,
) -> "list[CaseResult]":
    from gamt.cli.termination import TERMINATED, Terminated, raise_on_sigterm
    from gamt.cohort import make_method, predict_cohort

    settings = options.choose_settings()
    name, arguments = options.choose_model()
    weights = arguments.get("weights")
    if weights is not None and Path(weights).exists():  # workers have other working directories
        arguments["weights"] = str(Path(weights).absolute())
    method = make_method(name, arguments, settings, options.cache)
    try:
        with raise_on_sigterm():
            return predict_cohort(
                source, target, method, where.make, progress, resume=resume, collect=where.collect
            )
    except Terminated:
        raise typer.Exit(TERMINATED) from None

"""``gamt predict``: a folder of the challenge's cases."""

import logging
from typing import Annotated

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

The command line goes before the environment, and the environment before the preset.

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
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out cases that have an output already.")
    ] = False,
    verbose: Verbose = None,
) -> None:
    """Segments the cases (npz) of a folder.

    They are files of the CVPR 2025 challenge on interactive segmentation of 3-D scans.
    """
    start_log(verbose)
    from gamt.cli.termination import TERMINATED, finish_on_sigterm
    from gamt.io.storage import locate
    from gamt.lifting.budget import process_start
    from gamt.predict import predict_folder

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
        cache=cache,
        no_budget=no_budget,
    )
    settings = options.choose_settings()
    # Before the segmenter is there, which may change the working directory.
    source, target = locate(inputs), locate(outputs)
    cache = cache and cache.absolute()
    model = options.load_segmenter(settings)
    with (
        progress_bar(shown=shows_progress(verbose)) as progress,
        finish_on_sigterm() as finish,
    ):
        results = predict_folder(
            source,
            target,
            model,
            settings,
            process_start(),
            progress,
            cache,
            finish,
            resume=resume,
        )
        terminated = finish()
    if terminated:
        raise typer.Exit(TERMINATED)
    if not results:
        logger.error("%s: no npz file in this folder", source)
        raise typer.Exit(1)
    outcomes = {result.outcome for result in results}
    raise typer.Exit(4 if "failed" in outcomes else 3 if "degraded" in outcomes else 0)

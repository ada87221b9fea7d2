"""The command line; see ``gamt --help``.

The commands import what they need when they run, so that help is quick.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

import gamt
from gamt.cli import annotate, convert, explain, predict, segment, serve, weights
from gamt.cli.console import UsageError, run_app, show_help
from gamt.cli.options import Verbose

app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
\b
Examples:
  gamt annotate scan.nii.gz
  gamt predict inputs/ outputs/
  gamt segment scan.nii.gz -o liver.nii.gz --box 40,60,10,210,190,55
  gamt segment scan.nii.gz -o vessel.nii.gz --click 120,88,30
  gamt convert scan.nii.gz CT_scan.npz --labels truth.nii.gz --box 40,60,10,210,190,55
  gamt explain CT_case.npz
  gamt serve
  gamt weights fetch sam_vit_l

'gamt COMMAND --help' says more about each command.
""",
)
app.command(epilog=annotate.EPILOG)(annotate.annotate)
app.command(epilog=predict.EPILOG)(predict.predict)
app.command(epilog=explain.EPILOG)(explain.explain)
app.command(epilog=segment.EPILOG)(segment.segment)
app.command(epilog=convert.EPILOG)(convert.convert)
app.command(epilog=serve.EPILOG)(serve.serve)
app.add_typer(weights.weights_app, name="weights")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gamt {gamt.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _gamt(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
    verbose: Verbose = None,
) -> None:
    """Segments targets in 3-D medical scans with promptable 2-D models, without training.

    A target is named by a box around it, by clicks, or by both. The 2-D model walks from there
    through the slices of the scan, and the views from several sides are fused.
    """
    show_help(context)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; errors end in one line, not in a traceback.

    Args:
        arguments: those after the program's name; None for the process's own.
    """
    run_app(app, "gamt", _explain, arguments)


def _explain(error: Exception) -> tuple[str, int] | None:
    """Returns what to tell about an error, in one line, and the exit status."""
    from gamt.io.case import CaseError
    from gamt.io.labels import LabelError
    from gamt.segmenters import SegmenterError
    from gamt.segmenters.checkpoints import CheckpointError
    from gamt.settings import SettingsError

    text = " ".join(str(error).split())
    if isinstance(
        error, UsageError | LabelError | SettingsError | SegmenterError | CheckpointError
    ):
        return text, 2
    from gamt.cluster.tasks import ClusterError
    from gamt.io.files import OverwriteError
    from gamt.io.format import ImageError
    from gamt.io.json_files import JsonError
    from gamt.io.storage import StorageError
    from gamt.predict import FolderError
    from gamt.segmenters.download import DownloadError

    if isinstance(
        error,
        CaseError
        | ImageError
        | JsonError
        | OverwriteError
        | FolderError
        | DownloadError
        | StorageError
        | ClusterError,
    ):
        return text, 1
    return None

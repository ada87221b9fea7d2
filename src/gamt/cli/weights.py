"""``gamt weights``: checkpoints, fetched and checked."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from gamt.cli.console import UsageError, download_bar, echo, show_help, shows_progress, start_log
from gamt.cli.options import Verbose

logger = logging.getLogger("gamt")


def _complete_checkpoint() -> list[str]:
    from gamt.segmenters.checkpoints import read_manifest

    return list(read_manifest())


weights_app = typer.Typer(
    rich_markup_mode=None,
    epilog="""
\b
Examples:
  gamt weights list
  gamt weights fetch sam_vit_l sam_med2d
  gamt weights verify
""",
)


@weights_app.callback(invoke_without_command=True)
def _weights(context: typer.Context, verbose: Verbose = None) -> None:
    """Gets the checkpoints of SAM, SAM 2.1 and models trained from them, and checks them."""
    show_help(context)


@weights_app.command(
    "list",
    epilog="""
\b
Examples:
  gamt weights list
""",
)
def list_weights() -> None:
    """Shows all checkpoints, and where they lie."""
    from rich.filesize import decimal

    from gamt.segmenters.checkpoints import locate, read_manifest
    from gamt.settings import PRESET_SEGMENTERS

    rows = [("NAME", "SIZE", "LICENCE", "PRESET", "FILE")]
    for name, checkpoint in read_manifest().items():
        path = locate(checkpoint)
        size = checkpoint.size or (path.stat().st_size if path else checkpoint.approximate_size)
        presets = [preset for preset, used in PRESET_SEGMENTERS.items() if used == name]
        rows.append(
            (
                name,
                decimal(size) if size else "unknown",
                checkpoint.licence,
                ", ".join(presets) or "-",
                str(path or "missing"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        echo("  ".join(cells).rstrip())


@weights_app.command(
    epilog="""
\b
Examples:
  gamt weights fetch sam_vit_l
  gamt weights fetch sam_vit_l sam_med2d --dir /data/weights
  gamt weights fetch sam_med2d --from ~/Downloads/sam-med2d_b.pth

An interrupted download goes on where it was when the command is given again. What is there and
intact is left as it is. GAMT_WEIGHTS_MIRROR=URL takes URL/FILE before the publisher's.

After a failure the others are fetched. Exit status: 0 if all are here, 1 if not.
"""
)
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            autocompletion=_complete_checkpoint,
            help="As 'gamt weights list' shows them.",
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Where to.  [default: GAMT_WEIGHTS_DIR, or else weights in a checkout of gamt, "
            "or else the user's cache folder]",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Copy this file instead; for one NAME."),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Fetches checkpoints from their publishers, and verifies them."""
    start_log(verbose)
    from gamt.segmenters import checkpoints, download

    chosen = checkpoints.select(names)
    if source is not None and len(chosen) > 1:
        raise UsageError("--from is for one NAME")
    folder = folder or checkpoints.fetch_folder()
    failed = 0
    for checkpoint in chosen:
        shown = shows_progress(verbose)
        try:
            with download_bar(checkpoint.file, shown) as progress:
                path, verified = download.fetch(checkpoint, folder, source, progress)
        except download.DownloadError as error:
            if len(chosen) == 1:
                raise
            failed += 1
            logger.error("%s: %s", checkpoint.name, " ".join(str(error).split()))
        else:
            echo(f"{checkpoint.name}: {path.absolute()}: verified: {verified}")
    if failed:
        logger.error("%d of %d checkpoints failed", failed, len(chosen))
        raise typer.Exit(1)


@weights_app.command(
    epilog="""
\b
Examples:
  gamt weights verify
  gamt weights verify sam_med2d

A SHA-256 that isn't published is recorded when the file is first verified.

Exit status: 0 if all are intact, 1 if not.
"""
)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=_complete_checkpoint,
            help="Which.  [default: all that are here]",
        ),
    ] = None,
    verbose: Verbose = None,
) -> None:
    """Checks that checkpoints are intact."""
    start_log(verbose)
    from gamt.segmenters import checkpoints

    known = checkpoints.read_manifest().values()
    chosen = checkpoints.select(names) if names else list(filter(checkpoints.locate, known))
    if not chosen:
        logger.error("no checkpoint is here; 'gamt weights fetch NAME' gets one")
        raise typer.Exit(1)
    paths = [checkpoints.find(checkpoint.name) for checkpoint in chosen]
    failed = 0
    for checkpoint, path in zip(chosen, paths, strict=True):
        try:
            verified = checkpoints.verify(checkpoints.published_as(checkpoint, path), path)
        except checkpoints.CheckpointError as error:
            failed += 1
            command = f"gamt weights fetch {checkpoint.name} --dir {path.parent}"
            logger.error("%s: %s; this replaces it: %s", path, error, command)
        else:
            echo(f"{checkpoint.name}: {path}: verified: {verified}")
    if failed:
        raise typer.Exit(1)

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
    """Gets the checkpoints of SAM, SAM 2.1, models made from them, and models of the hub."""
    show_help(context)


@weights_app.command(
    "list",
    epilog="""
\b
Examples:
  gamt weights list

The models of the hub that are in its cache are listed by its own command, 'hf cache ls', which is
installed beside gamt.
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
  gamt weights fetch hf:facebook/sam2.1-hiera-tiny

hf:ORG/NAME, or hf:ORG/NAME@REVISION, is a model of the Hugging Face hub; docs/hub.md lists some. It
goes into a folder of its name in DIR, from where hf:DIR/ORG/NAME loads it, or without --dir into
the hub's cache. For a gated model, accept its terms on its page, and set HF_TOKEN to your
token.

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
            help="As 'gamt weights list' shows them, or hf:ORG/NAME.",
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Where to.  [default: GAMT_WEIGHTS_DIR, or else weights in a checkout of gamt, "
            "or else the user's cache folder; for hf:ORG/NAME the hub's cache, of HF_HOME]",
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
    from gamt.segmenters import HUB, checkpoints, download, hub_files

    published = checkpoints.select([name for name in names if not name.startswith(HUB)])
    for name in names:
        if name.startswith(HUB):
            hub_files.parse_name(name)
    known = {checkpoint.name: checkpoint for checkpoint in published}
    if source is not None and (len(names) > 1 or not known):
        raise UsageError("--from is for one NAME of the list, not for hf: names")
    failed = 0
    for name in names:
        shown = shows_progress(verbose)
        try:
            if name not in known:
                _fetch_from_hub(name, folder, shown)
                continue
            place = folder or checkpoints.fetch_folder()
            with download_bar(known[name].file, shown) as progress:
                path, verified = download.fetch(known[name], place, source, progress)
        except download.DownloadError as error:
            if len(names) == 1:
                raise
            failed += 1
            logger.error("%s: %s", name, " ".join(str(error).split()))
        else:
            echo(f"{name}: {path.absolute()}: verified: {verified}")
    if failed:
        logger.error("%d of %d checkpoints failed", failed, len(names))
        raise typer.Exit(1)


def _fetch_from_hub(name: str, folder: Path | None, shown: bool) -> None:
    """Fetches a model of the hub, and shows what it is.

    Raises:
        SegmenterError: the package that speaks with the hub isn't installed.
        DownloadError, CheckpointError: as `hub_files.fetch` does.
    """
    from gamt.segmenters import INSTALL_HUB, SegmenterError, hub_files

    try:
        with download_bar(name, shown) as progress:
            fetched = hub_files.fetch(name, folder, progress)
    except ModuleNotFoundError as error:
        raise SegmenterError(f"{name} needs the package {error.name}: {INSTALL_HUB}") from error
    echo(f"{name}: {fetched.folder.absolute()}: verified: hashes as published")
    for file, digest in fetched.sha256.items():
        echo(f"  {file}: SHA-256 {digest}")
    echo(f"  licence: {fetched.licence or 'none stated'}")
    if folder is not None:
        echo(f"  segmenter: {fetched.name}")
    echo(f"  this very revision: {fetched.pinned}")


@weights_app.command(
    epilog="""
\b
Examples:
  gamt weights verify
  gamt weights verify sam_med2d

A SHA-256 that isn't published is recorded when the file is first verified. A model of the hub is
verified by 'gamt weights fetch hf:ORG/NAME', with --dir DIR if it is there, and the hub is asked.

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
    from gamt.segmenters import HUB, checkpoints

    for name in names or ():
        if name.startswith(HUB):
            raise UsageError(
                f"{name} is verified by 'gamt weights fetch hf:ORG/NAME', with --dir DIR if it is "
                "in DIR/ORG/NAME; the hub is asked"
            )
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

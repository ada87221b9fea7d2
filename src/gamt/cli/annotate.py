"""``gamt annotate``: a page to click in, in the browser of this machine."""

import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import gamt
from gamt.cli.console import UsageError, echo, start_log
from gamt.cli.options import (
    Cache,
    Changes,
    Device,
    Dtype,
    PredictOptions,
    Preset,
    PropagationName,
    SegmenterName,
    Verbose,
    Volume,
    Weights,
    WindowText,
    name_volume_option,
)
from gamt.cli.web import WebServer, check_packages, licence_of, listen, start_web_log
from gamt.server.annotate.page import is_built

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gamt.io.image import Image

EPILOG = """
Draw a box around the target or click in it; each prompt is answered with a mask in three planes and
in 3-D. The page's ? shows the keys. Save writes NAME_seg.nii.gz, or the scan's own format, and the
prompts beside it, as 'gamt segment' does.

\b
Examples:
  gamt annotate scan.nii.gz
  gamt annotate scan.nii.gz --previous liver.nii.gz -o results/
  gamt annotate                              # a drawn sample, and a place to drop files on
  gamt annotate --no-browser --port 8000 scan.nii.gz

It listens on this machine alone, and only who knows the key in the address gets in. What is unsaved
when it ends is offered when the scan is opened again.

Exit status: 0 after Ctrl-C, 1 if an image can't be read or the port is taken, 2 for wrong
arguments or where something isn't installed.
"""

HOST = "127.0.0.1"


def annotate(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE",
            show_default=False,
            help="The scans, the first of which is opened: NIfTI; with the extra 'itk' also NRRD, "
            "MetaImage, or a DICOM series, by its folder or one of its files.  [default: a drawn "
            "sample, and a place to drop files on]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The folder that Save writes to.  [default: that of the scan]",
        ),
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An earlier segmentation to go on from; each label is a target."
        ),
    ] = None,
    volume: Volume = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0 takes any that is free.")
    ] = 0,
    browser: Annotated[
        bool,
        typer.Option(
            "--browser/--no-browser", help="Open the page, or only print where it is found."
        ),
    ] = True,
    segmenter: SegmenterName = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    changes: Changes = None,
    window: WindowText = None,
    propagation: PropagationName = None,
    cache: Cache = None,
    verbose: Verbose = None,
) -> None:
    """Opens a page to click in: three planes, a 3-D view, and a mask that follows each click."""
    _start_log(verbose)
    check_packages("gamt annotate")
    if not is_built():
        raise UsageError(
            "gamt annotate needs its page: 'make page' in the clone builds it, "
            "and 'pip install .' takes it along"
        )
    paths = images or []
    _check_arguments(paths, output, previous, volume)
    options = PredictOptions(
        segmenter=segmenter,
        weights=weights,
        device=device,
        dtype=dtype,
        preset=preset,
        changes=changes,
        window=window,
        propagation=propagation,
        cache=cache,
    )
    settings = options.choose_settings()
    read = partial(_read, volume=volume)
    key = secrets.token_urlsafe()
    with listen(HOST, port) as listener:
        first = _begin_reading(lambda: _read_first(read, paths[0], previous)) if paths else None
        model = options.load_segmenter(settings)
        if first is not None and previous is not None:
            first.result()  # whether they belong together is known before there is an address
        kept: list[Path] = []

        def load() -> "FastAPI":
            from gamt.sample import sample_image
            from gamt.server.annotate.app import make_annotate_app
            from gamt.server.engine import Engine
            from gamt.server.memory import limit_arenas
            from gamt.server.metrics import Metrics

            limit_arenas()
            return make_annotate_app(
                Engine(model, settings, metrics=Metrics(), cache=cache),
                key=key,
                licence=licence_of(model.name),
                paths=paths,
                first=first,
                read=read,
                sample=sample_image,
                previous=previous,
                output=output,
                is_stopping=lambda: server.is_stopping,
                tell_kept=kept.append,
            )

        server = WebServer(load)
        if first is not None:  # without its scan there is nothing to show
            first.add_done_callback(lambda one: server.stop() if one.exception() else None)
        server.run(listener, lambda: _introduce(listener, model.name, key, browser))
        if first is not None and first.done():
            first.result()
    for path in kept:
        echo(f"unsaved work is offered when the scan is opened again; it is in {path}")
    echo("stopped")


def _start_log(verbose: bool | None) -> None:
    start_log(verbose)
    start_web_log(logging.getLogger("gamt").level)
    if verbose is None:  # the page shows how each prediction went
        logging.getLogger("gamt.server").setLevel(logging.WARNING)


def _check_arguments(
    images: list[Path], output: Path | None, previous: Path | None, volume: int | None
) -> None:
    """Refuses, before the page is opened, what can't be meant or read.

    Raises:
        UsageError: an option doesn't go with the images, or nothing can be written to `output`.
        ImageError: a file is missing, or of no known format.
    """
    from gamt.io.formats import reader_of

    if not images and (previous is not None or volume is not None):
        raise UsageError("--previous and --volume: expected an image that they are about")
    if output is not None and not output.is_dir():
        raise UsageError(f"--output {output}: expected a folder that exists")
    if output is not None and not os.access(output, os.W_OK | os.X_OK):
        raise UsageError(f"--output {output}: found a folder that may not be written to")
    for path in [*images, *([] if previous is None else [previous])]:
        reader_of(path)


def _read(path: Path, volume: int | None) -> "Image":
    from gamt.io.image import read_image

    with name_volume_option():
        return read_image(path, volume)


def _read_first(read: Callable[[Path], "Image"], path: Path, previous: Path | None) -> "Image":
    """Reads the first scan, and refuses an earlier segmentation that doesn't belong to it."""
    from gamt.io.image import read_labels

    image = read(path)
    if previous is not None:
        read_labels(previous, image)
    return image


def _begin_reading(read: Callable[[], "Image"]) -> "Future[Image]":
    """Reads a scan in a thread that doesn't keep the command from ending, as an executor's would.

    Returns:
        The scan, when it is read; it can't be cancelled.
    """
    future: Future[Image] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="scan", daemon=True).start()
    return future


def _introduce(listener: socket.socket, segmenter: str, key: str, browser: bool) -> None:
    """Says where the page is, and opens it."""
    port = listener.getsockname()[1]
    url = f"http://{HOST}:{port}/annotate/?key={key}"
    echo(f"gamt {gamt.__version__}, segmenter {segmenter}")
    echo(f"Open in a browser on this machine: {url}")
    echo("Ctrl-C ends it; what is unsaved then is kept.")
    if browser and _has_screen():
        # Some browsers return only when they are closed.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _has_screen() -> bool:
    """Whether a browser can show itself, rather than in the terminal that shows the address."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))

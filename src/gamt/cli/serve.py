"""``gamt serve``: 3D Slicer and napari click, this answers."""

import ipaddress
import logging
import os
import socket
from enum import StrEnum
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
    Weights,
    WindowText,
)
from gamt.cli.web import WebServer, check_packages, licence_of, listen, start_web_log

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gamt.segmenters import Segmenter

logger = logging.getLogger("gamt.server")

EPILOG = """
The viewers' extensions for nnInteractive ask for a server's address: paste the one that is printed.
SlicerNNInteractive up to 0.3.2, which speaks an older protocol, is answered on the same port.

\b
Examples:
  gamt serve
  gamt serve --segmenter sam_vit_b --device cuda --cache encoded/
  NN_INTERACTIVE_API_KEY=secret gamt serve --host 0.0.0.0 --max-sessions 8
  gamt serve --port 8000 --window soft-tissue

Without a key, whoever reaches the port may use the server. The key, as all else, travels in the
clear, unless a proxy in front of the server speaks TLS.

Exit status: 0 after Ctrl-C, 1 if the port is taken, 2 for wrong arguments.
"""

KEY_VARIABLE = "NN_INTERACTIVE_API_KEY"
"""Where the key is looked for in the environment, as nnInteractive's server does."""

LEAST_LIVENESS_SECONDS = 10
"""Clients give a sign of life every 5 s at most, and one of them may get lost."""


class LogLevel(StrEnum):
    """How much is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def serve(
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen: 127.0.0.1 is this machine alone, 0.0.0.0 all who reach it.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0 takes any that is free.")
    ] = 1527,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE,
            metavar="KEY",
            help="What clients have to show. Better given by the variable: others on this machine "
            "can see a command line.",
        ),
    ] = None,
    max_sessions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Clients at a time; more are told to wait.")
    ] = 4,
    idle_timeout_seconds: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="A client's place is freed when its user does nothing so long."
        ),
    ] = 600,
    liveness_timeout_seconds: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Its place is freed when nothing is heard of the client itself so long: 10 or "
            "more, or 0 to look at what its user does alone.",
        ),
    ] = 60,
    log_level: Annotated[
        LogLevel, typer.Option(help="debug also logs every request.")
    ] = LogLevel.info,
    segmenter: SegmenterName = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    preset: Preset = "default",
    changes: Changes = None,
    window: WindowText = None,
    propagation: PropagationName = None,
    cache: Cache = None,
) -> None:
    """Serves 3D Slicer and napari: users click there, this answers.

    It speaks the protocol of nnInteractive's server, so that their extensions for nnInteractive
    work with it as they are.
    """
    _start_log(log_level)
    check_packages("gamt serve")
    _check_arguments(host, api_key, liveness_timeout_seconds)
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
    with listen(host, port) as listener:  # before the work of loading the model
        model = options.load_segmenter(settings)
        licence = licence_of(model.name)

        def load() -> "FastAPI":
            from gamt.server.app import make_app
            from gamt.server.engine import Engine
            from gamt.server.memory import limit_arenas
            from gamt.server.metrics import Metrics

            limit_arenas()
            return make_app(
                Engine(model, settings, metrics=Metrics(), cache=cache),
                max_sessions=max_sessions,
                idle_seconds=idle_timeout_seconds,
                liveness_seconds=liveness_timeout_seconds,
                api_key=api_key,
                licence=licence,
                is_stopping=lambda: server.is_stopping,
            )

        server = WebServer(load)
        server.run(
            listener, lambda: _introduce(listener, model, licence, has_key=api_key is not None)
        )
    echo("stopped")


def _start_log(level: LogLevel) -> None:
    start_log(None, "%(asctime)s %(levelname)s %(message)s")
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("gamt").setLevel(number)
    start_web_log(number)


def _check_arguments(host: str, api_key: str | None, liveness_timeout_seconds: int) -> None:
    """Raises UsageError for what can't be meant, such as a key that no header can hold."""
    if not host:
        raise UsageError("--host: expected an address, such as 127.0.0.1 or 0.0.0.0")
    # An empty variable is a mistake, not the wish for no key; typer takes it for none.
    name, key = "--api-key", api_key
    if api_key is None and KEY_VARIABLE in os.environ:
        name, key = KEY_VARIABLE, os.environ[KEY_VARIABLE]
    if key is not None and not (key.isascii() and key.isprintable() and key and key == key.strip()):
        raise UsageError(f"{name}: expected ASCII letters, digits and signs, no space around")
    if 0 < liveness_timeout_seconds < LEAST_LIVENESS_SECONDS:
        raise UsageError(
            f"--liveness-timeout-seconds {liveness_timeout_seconds}: expected 0, or "
            f"{LEAST_LIVENESS_SECONDS} or more, as clients give a sign of life every 5 s at most"
        )


def _introduce(listener: socket.socket, model: "Segmenter", licence: str, *, has_key: bool) -> None:
    """Prints what users need to connect, and what those who run the server should know."""
    address, port = listener.getsockname()[:2]
    ip = ipaddress.ip_address(address)
    host = socket.gethostname() if ip.is_unspecified else address
    if not ip.is_loopback and not has_key:
        logger.warning(
            "it listens beyond this machine without a key: whoever reaches port %d may use it "
            "(--api-key)",
            port,
        )
    echo(f"gamt {gamt.__version__}, segmenter {model.name}, licence {licence}")
    echo(f"Server address for 3D Slicer and napari: http://{_quote(host)}:{port}")
    echo("Ctrl-C ends it.")


def _quote(host: str) -> str:
    return f"[{host}]" if ":" in host else host

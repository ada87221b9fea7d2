"""What the commands that start a server share: its packages, port, log and end."""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

from gamt.cli.console import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

PACKAGES = (
    *("fastapi", "starlette", "pydantic", "uvicorn"),
    *("blosc2", "prometheus_client", "python_multipart"),
)
"""What the extra `server` installs."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection stays open without a request. Clients close theirs after 5 s; were the
server as quick, requests would now and then meet a connection that is just closing."""

SHUTDOWN_SECONDS = 5
"""How long answers that are under way may take after Ctrl-C."""

UNKNOWN_LICENCE = "!!MISSING!!"
"""What clients show as unknown."""


def check_packages(command: str) -> None:
    """Checks that the extra is installed.

    Args:
        command: that needs it, such as ``gamt serve``.

    Raises:
        UsageError: it is not.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"{command} needs {', '.join(missing)}: pip install 'gamt[server]'")


def start_web_log(level: int) -> None:
    """Adds the web server's log to that of the package.

    Args:
        level: of the package's log. What the web server has to tell is of no use to users, but for
            those who look for an error: it is shown at ``logging.DEBUG`` alone.
    """
    web = logging.getLogger("uvicorn")
    web.handlers, web.propagate = logging.getLogger("gamt").handlers, False
    web.setLevel(level if level == logging.DEBUG else logging.CRITICAL)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        UsageError: this machine has no such address.
        OSError: the port is taken, or may not be used; the error names it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--host {host}: found no machine of this name") from error
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host}: found no such address on this machine") from error
        advice = "; choose another by --port" if error.errno == errno.EADDRINUSE else ""
        reason = f"{os.strerror(error.errno or 0).lower()}{advice}"
        raise OSError(error.errno, reason, f"port {port}") from error


def licence_of(segmenter: str) -> str:
    """Returns the licence of a segmenter's weights; gamt's for the embedded one, without any."""
    from gamt import segmenters
    from gamt.segmenters.checkpoints import read_manifest

    if segmenter == segmenters.DEFAULT:
        return "Apache-2.0"
    checkpoint = read_manifest().get(segmenter)
    return UNKNOWN_LICENCE if checkpoint is None else checkpoint.licence


class WebServer:
    """Runs an application until Ctrl-C, or until it is stopped; a second Ctrl-C kills it."""

    def __init__(self, load: Callable[[], "FastAPI"]) -> None:
        """Starts nothing yet.

        Args:
            load: returns the application; called in a thread while the server starts. `/healthz` is
                answered before that is done.
        """
        import uvicorn

        from gamt.server.early import EarlyApp

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                if self.should_exit:  # an end that takes too long, as threads can't be stopped
                    os._exit(128 + sig)
                super().handle_exit(sig, frame)

        self._app = EarlyApp(load, self.stop)
        self._server = Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )

    @property
    def is_stopping(self) -> bool:
        """Whether it is about to end."""
        return self._server.should_exit

    def stop(self) -> None:
        """Ends it, from any thread."""
        self._server.should_exit = True

    def run(self, listener: socket.socket, introduce: Callable[[], None]) -> None:
        """Serves until the end.

        Args:
            listener: where.
            introduce: says where that is; Ctrl-C is the usual end from then on.

        Raises:
            Exception: what `load` raised.
        """
        with contextlib.suppress(KeyboardInterrupt):
            introduce()
            self._server.run([listener])
        if self._app.error is not None:
            raise self._app.error

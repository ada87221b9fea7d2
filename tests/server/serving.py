"""Servers to test: real sockets, in this process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from gamt import segmenters
from gamt.segmenters.base import Segmenter
from gamt.server.app import make_app
from gamt.server.engine import Engine
from gamt.server.metrics import Metrics
from gamt.settings import PRESETS


@contextmanager
def serving(segmenter: Segmenter | None = None, **options: Any) -> Iterator[str]:
    """Runs a server; gives its URL.

    Args:
        segmenter: None for the embedded one.
        options: of `make_app`, where others than those of a test are wanted.
    """
    usual: dict[str, Any] = {
        "max_sessions": 2,
        "idle_seconds": 600,
        "liveness_seconds": 60,
        "licence": "Apache-2.0",
    }
    options = usual | options
    engine = Engine(
        segmenter or segmenters.load(segmenters.DEFAULT),
        PRESETS["default"],
        metrics=Metrics(),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(engine, **options), log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()

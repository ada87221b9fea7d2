"""A server of the page to test: real sockets, in this process, and a browser that is a script."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import uvicorn

from gamt.io.image import Image, read_image, write_image
from gamt.segmenters.base import Segmenter
from gamt.server.annotate.app import make_annotate_app
from gamt.server.engine import Engine
from gamt.server.metrics import Metrics
from tests.doubles import DEFAULTS, Thresholder, block, picture

KEY = "a-key_of-letters"
SECONDS = 60.0
SHAPE = (9, 14, 20)
SPACING_MM = (3.0, 1.0, 0.5)
BODY = block(SHAPE, slice(2, 7), slice(3, 11), slice(4, 15))


@dataclass
class Change:
    """An answer of the server, taken apart."""

    state: dict[str, Any]
    low: list[int] | None
    high: list[int] | None
    labels: npt.NDArray[np.uint8] | None


class Page:
    """What a tab does, without a browser.

    Attributes:
        http: with the cookie.
        labels: (k, j, i) uint8, what the tab shows.
    """

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=f"{url}/annotate/", timeout=SECONDS)
        assert self.http.get("./", params={"key": KEY}).status_code == 303
        self.labels = np.zeros((0, 0, 0), np.uint8)

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.get("state").json()
        return state

    def get(self, path: str) -> httpx.Response:
        return self.http.get(f"api/{path}").raise_for_status()

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self.http.post(f"api/{path}", json=body or {})

    def change(self, path: str, body: object = None) -> Change:
        return self.show(self.post(path, body))

    def prompt(self, target: int = 1, **prompt: object) -> Change:
        return self.change("prompts", {"positive": True, "target": target, **prompt})

    def box(self, target: int = 1) -> Change:
        """Draws a box around `BODY`."""
        low, high = [5, 3, 2], [16, 11, 7]  # i is 19 - x, j is 13 - y, k is z
        return self.prompt(target, kind="box", low=low, high=high, plane=None)

    def show(self, response: httpx.Response) -> Change:
        response.raise_for_status()
        change = parse_change(response.content)
        if change.labels is not None:
            assert change.low is not None
            assert change.high is not None
            if self.labels.size == 0:
                self.labels = np.zeros(change.state["scan"]["shape"][::-1], np.uint8)
            where = tuple(slice(a, b) for a, b in zip(change.low, change.high, strict=True))[::-1]
            self.labels[where] = change.labels
        return change

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """(z, y, x), what the tab shows."""
        return self.labels[:, ::-1, ::-1]


def parse_change(content: bytes) -> Change:
    (length,) = struct.unpack("<I", content[:4])
    head = json.loads(content[4 : 4 + length])
    low, high = head["low"], head["high"]
    labels = None
    if low is not None:
        shape = [b - a for a, b in zip(low, high, strict=True)][::-1]
        labels = np.frombuffer(content[4 + length :], np.uint8).reshape(shape)
    else:
        assert len(content) == 4 + length
    return Change(head["state"], low, high, labels)


def write_scan(folder: Path, name: str = "scan.nii.gz") -> Path:
    path = folder / name
    write_image(path, picture(BODY), spacing_mm=SPACING_MM)
    return path


@contextmanager
def annotating(*paths: Path, segmenter: Segmenter | None = None, **options: Any) -> Iterator[str]:
    """Runs a server; gives its URL.

    Args:
        paths: of images.
        segmenter: None for one that finds what is bright.
        options: of `make_annotate_app`, where others than those of a test are wanted.
    """
    first: Future[Image] | None = None
    if paths:
        first = Future()
        try:
            first.set_result(read_image(paths[0]))
        except ValueError as error:
            first.set_exception(error)
    stopping = threading.Event()
    usual: dict[str, Any] = {
        "key": KEY,
        "licence": "Apache-2.0",
        "paths": paths,
        "first": first,
        "read": read_image,
        "sample": lambda: read_image(paths[0]),
        "is_stopping": stopping.is_set,
    }
    engine = Engine(segmenter or Thresholder(), DEFAULTS, metrics=Metrics())
    listener = socket.create_server(("127.0.0.1", 0))
    app = make_annotate_app(engine, **(usual | options))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        server.should_exit = True
        thread.join()

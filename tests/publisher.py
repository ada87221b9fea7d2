"""A publisher of checkpoints on this machine, with the habits and failures of real ones."""

import io
import re
import socket
import ssl
import sys
import threading
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from gamt.segmenters.checkpoints import Checkpoint


def archive(filling: int = 0) -> bytes:
    """Returns a tiny file in the format of torch's checkpoints: a zip archive without compression.

    Args:
        filling: where the bytes of its one member begin to count; different files of equal size.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        member = zipfile.ZipInfo("archive/data.pkl")  # of a fixed date, so that bytes repeat
        writer.writestr(member, bytes((filling + i) % 251 for i in range(5000)))
    return file.getvalue()


@dataclass
class Offer:
    """What a publisher answers at one path.

    Attributes:
        content: of the file.
        etag: of the file; None gives it none.
        ranges: whether parts of it can be asked for.
        kind: its Content-Type.
        refusals: statuses of the first answers.
        cuts: numbers of bytes after which the next answers are cut off.
        gate: answers wait for it.
        sized: whether it says how many bytes come.
        pause_s: between two bytes; None sends all at once.
        redirect: a URL that is answered instead, with `content` as the page.
        headers: further ones.
    """

    content: bytes
    etag: str | None = '"first"'
    ranges: bool = True
    kind: str = "application/octet-stream"
    refusals: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    sized: bool = True
    pause_s: float | None = None
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate.set()


@dataclass
class Asked:
    """A request: the path with its query, and two of the headers."""

    path: str
    range: str | None
    if_range: str | None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # that of a client that has hung up
            super().handle_error(request, client_address)


class Publisher:
    """A server on 127.0.0.1, while used as a context manager.

    Args:
        certificate: a file of a certificate and its key, for TLS; None speaks without.

    Attributes:
        offers: what is at each path; with the query, or else without it.
        asked: the requests so far.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.offers: dict[str, Offer] = {}
        self.asked: list[Asked] = []
        self.arrived = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._scheme = "http" if certificate is None else "https"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str = "") -> str:
        """Returns the URL of a path."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}{path}"

    def checkpoint(self, path: str = "/model.pth", **changes: Any) -> Checkpoint:
        """Returns a manifest's entry for what is at a path."""
        entry = {
            "name": "model",
            "file": "model.pth",
            "url": self.url(path),
            "licence": "Apache-2.0",
            "citation": "A. Author, A Model, 2025",
            "description": "a model",
        }
        return Checkpoint(**(entry | changes))


def closed_port() -> str:
    """Returns a URL at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def write_manifest(folder: Path, *checkpoints: Checkpoint) -> Path:
    """Writes a manifest."""
    lines = []
    for checkpoint in checkpoints:
        lines.append(f"[{checkpoint.name}]")
        for key in ("file", "url", "licence", "citation", "description", "size", "sha256"):
            value = getattr(checkpoint, key)
            if value is not None:
                lines.append(f"{key} = {value!r}")
    path = folder / "manifest.toml"
    path.write_text("\n".join(lines))
    return path


def _handler(publisher: Publisher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = Asked(self.path, self.headers["Range"], self.headers["If-Range"])
            publisher.asked.append(asked)
            publisher.arrived.set()
            offers = publisher.offers
            offer = offers.get(self.path) or offers.get(self.path.partition("?")[0])
            if offer is None:
                self.send_error(404)
                return
            if offer.refusals:
                self.send_error(offer.refusals.pop(0))
                return
            offer.gate.wait()
            with suppress(ConnectionError):  # a client that has hung up
                self.answer(offer, asked)

        def answer(self, offer: Offer, asked: Asked) -> None:
            start, total = 0, len(offer.content)
            if offer.redirect:
                self.send_response(302)
                self.send_header("Location", offer.redirect)
            elif offer.ranges and asked.range and asked.if_range in (None, offer.etag):
                found = re.fullmatch(r"bytes=(\d+)-", asked.range)
                assert found
                start = int(found[1])
                if start >= total:
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Type", offer.kind)
            if offer.sized:
                self.send_header("Content-Length", str(total - start))
            for name, value in offer.headers.items():
                self.send_header(name, value)
            if offer.etag:
                self.send_header("ETag", offer.etag)
            self.end_headers()
            stop = start + offer.cuts.pop(0) if offer.cuts else total
            if offer.pause_s is None:
                self.wfile.write(offer.content[start:stop])
                return
            for i in range(start, stop):
                self.wfile.write(offer.content[i : i + 1])
                time.sleep(offer.pause_s)

        def log_message(self, *message: object) -> None:
            pass

    return Handler

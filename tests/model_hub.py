"""A Hugging Face hub on this machine, with one model."""

import hashlib
import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"

NAME = "owner/small-model"

SLEEP_S = 20.0
"""How long a hub that isn't awake takes to answer."""


@dataclass
class Published:
    """What the hub has.

    Attributes:
        files: their contents, by name; those of safetensors are in its store for large files.
        commit: the model's state.
        tags: as on its page.
        gated: whether its terms must be accepted before.
        cut: the number of bytes after which the first answer with a large file is cut off.
        hashes: those that the hub tells in place of the right ones, by name of the file.
        told: what else it tells in place of what is right, by name of the file.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    tags: tuple[str, ...] = ("license:apache-2.0", "mask-generation")
    gated: bool = False
    cut: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)


class ModelHub:
    """A server on 127.0.0.1, while used as a context manager.

    Attributes:
        published: what it has.
        asked: the paths of requests so far, each after its method.
        awake: while it isn't set, nothing is answered for a long time.
    """

    def __init__(self, published: Published) -> None:
        self.published = published
        self.asked: list[str] = []
        self.awake = threading.Event()
        self.awake.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def sha256(self, file: str) -> str:
        """Returns the hash of a file that the hub tells."""
        known = hashlib.sha256(self.published.files[file]).hexdigest()
        return self.published.hashes.get(file, known)

    def describe(self) -> dict[str, Any]:
        """Returns what the hub tells of the model."""
        siblings = []
        for file, content in self.published.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            one: dict[str, Any] = {"rfilename": file, "size": len(content)}
            one["blobId"] = self.published.hashes.get(file, blob)
            if file.endswith(".safetensors"):
                one["lfs"] = {"sha256": self.sha256(file), "size": len(content), "pointerSize": 134}
            siblings.append(one | self.published.told.get(file, {}))
        told = {"id": NAME, "sha": self.published.commit, "tags": list(self.published.tags)}
        return {**told, "siblings": siblings}


def _handler(hub: ModelHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            published, path = hub.published, unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            hub.awake.wait(SLEEP_S)
            revisions = ("main", published.commit)
            api = [f"/api/models/{NAME}", *(f"/api/models/{NAME}/revision/{r}" for r in revisions)]
            if not path.startswith((f"/api/models/{NAME}", f"/{NAME}/resolve/")):
                self.refuse(401, "RepoNotFound")  # as the hub answers whom it doesn't know
            elif path in api:
                self.send(json.dumps(hub.describe()).encode(), body)
            elif not path.startswith(tuple(f"/{NAME}/resolve/{r}/" for r in revisions)):
                self.refuse(404, "RevisionNotFound")
            elif published.gated:
                self.refuse(401, "GatedRepo")
            elif (file := path.split("/", 5)[-1]) not in published.files:
                self.refuse(404, "EntryNotFound")
            else:
                self.send_file(file, body)

        def send_file(self, file: str, body: bool) -> None:
            content = hub.published.files[file]
            start = int((self.headers["Range"] or "bytes=0-")[6:].partition("-")[0])
            etag = hub.sha256(file) if file.endswith(".safetensors") else str(hash(content))
            self.send(content, body, start, etag)

        def send(self, content: bytes, body: bool, start: int = 0, etag: str = "") -> None:
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            if etag:
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", hub.published.commit)
            self.end_headers()
            stop = len(content)
            if body and etag and hub.published.cut is not None and len(content) > 10_000:
                stop, hub.published.cut = start + hub.published.cut, None
            if body:
                with suppress(ConnectionError):  # a client that has hung up
                    self.wfile.write(content[start:stop])

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *message: object) -> None:
            pass

    return Handler

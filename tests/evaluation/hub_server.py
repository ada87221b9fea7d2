"""A Hugging Face hub on this machine, with one data set."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Dataset:
    """What the hub has.

    Attributes:
        files: their contents, by their paths.
        name: OWNER/NAME.
        commit: its state.
        tags: as on its page.
        page: how many entries of a folder come with one answer.
        refusals: statuses instead of a file, once each, by the file's path.
        cuts: numbers of bytes after which the next answers are cut off, by the file's path.
        gated: whether its terms must be accepted before.
    """

    files: dict[str, bytes]
    name: str = "owner/validation"
    commit: str = COMMIT
    tags: tuple[str, ...] = ("license:cc-by-nc-sa-4.0", "modality:3d")
    page: int = 3
    refusals: dict[str, list[int]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    gated: bool = False


@dataclass(frozen=True)
class Asked:
    """A request: its method, its path without the query, and one of the headers."""

    method: str
    path: str
    range: str | None


class Hub:
    """A server on 127.0.0.1, while used as a context manager.

    Attributes:
        dataset: what it has.
        asked: the requests so far.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.asked: list[Asked] = []
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

    def downloads(self) -> list[Asked]:
        """Returns the requests for contents of files."""
        return [one for one in self.asked if one.method == "GET" and "/resolve/" in one.path]


def etag(content: bytes) -> str:
    """Returns git's name of a file's content, by which the hub tells one from another."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entries(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Returns what is in a folder ("" for the top), as the hub lists it."""
    found: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        for parent in reversed(PurePosixPath(path).parents[:-1]):
            found[str(parent)] = {"type": "directory", "oid": "0" * 40, "path": str(parent)}
        oid = etag(content)
        found[path] = {"type": "file", "oid": oid, "size": len(content), "path": path}
    inside = PurePosixPath(folder)
    return [
        entry
        for path, entry in sorted(found.items())
        if PurePosixPath(path).parent == inside
        or (recursive and inside in PurePosixPath(path).parents)
    ]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            dataset, url = hub.dataset, urlsplit(self.path)
            path = unquote(url.path)
            hub.asked.append(Asked(self.command, path, self.headers["Range"]))
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            api, files = f"/api/datasets/{dataset.name}", f"/datasets/{dataset.name}/resolve"
            if not path.startswith((f"{api}", f"{files}/")):
                self.refuse(401, "RepoNotFound")  # as the hub answers whom it doesn't know
            elif path in (api, f"{api}/revision/main"):
                told = {"id": dataset.name, "sha": dataset.commit, "tags": list(dataset.tags)}
                self.send_json(told)
            elif dataset.gated:
                self.refuse(401, "GatedRepo")
            elif path.startswith(tree := f"{api}/tree/{dataset.commit}"):
                self.send_entries(path.removeprefix(tree).strip("/"), query)
            elif path.startswith(file := f"{files}/{dataset.commit}/"):
                self.send_file(path.removeprefix(file), body)
            else:
                self.refuse(404, "RevisionNotFound")

        def send_entries(self, folder: str, query: dict[str, str]) -> None:
            dataset, start = hub.dataset, int(query.get("cursor", 0))
            listed = entries(dataset.files, folder, query.get("recursive", "").lower() == "true")
            stop, link = start + dataset.page, None
            if stop < len(listed):
                following = urlencode(query | {"cursor": stop})
                link = f'<{hub.url}{urlsplit(self.path).path}?{following}>; rel="next"'
            self.send_json(listed[start:stop], link)

        def send_json(self, content: object, link: str | None = None) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if link:
                self.send_header("Link", link)
            self.end_headers()
            self.wfile.write(data)

        def send_file(self, path: str, body: bool) -> None:
            dataset = hub.dataset
            if path not in dataset.files:
                self.refuse(404, "EntryNotFound")
                return
            if body and dataset.refusals.get(path):
                self.refuse(dataset.refusals[path].pop(0))
                return
            content = dataset.files[path]
            start, total = 0, len(content)
            if found := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or ""):
                start = int(found[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(total - start))
            self.send_header("ETag", f'"{etag(content)}"')
            self.send_header("X-Repo-Commit", dataset.commit)
            self.end_headers()
            if body:
                cuts = dataset.cuts.get(path)
                stop = start + cuts.pop(0) if cuts else total
                with suppress(ConnectionError):  # a client that has hung up
                    self.wfile.write(content[start:stop])

        def refuse(self, status: int, code: str | None = None) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *message: object) -> None:
            pass

    return Handler

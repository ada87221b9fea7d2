"""What is behind each of the page's paths: a request's parts, checked, and its answer."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.routing import Route

from gamt.annotation.document import Document
from gamt.annotation.prompts import DrawnPrompt, read_prompt
from gamt.io.json_files import JsonValue, parse_json
from gamt.server.annotate import uploads
from gamt.server.annotate.annotator import Annotator, Begin, Move, NoteSent, Saved
from gamt.server.annotate.changes import Change, answer, encode_change
from gamt.server.annotate.volume import CHUNK_BYTES, make_nifti, stream, stream_gzipped
from gamt.server.bodies import BodyLimits, read_body
from gamt.server.clients import watch
from gamt.session import ArrayBounds, Session
from gamt.settings import Scale

PROMPT_BYTES = 2**20
"""Of a request's JSON, at most: enough for a line of some ten thousand points."""

MOST_POINTS = 20_000
"""Of a scribble or a lasso; of a line by mouse there are some hundreds."""

MOST_ID = 2**31
"""That an id may be, to be looked for."""

SCALES: tuple[Scale, ...] = ("tight", "medium", "large")

EXPLANATION_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""For pages that are one file, without scripts."""


def make_routes(
    annotator: Annotator,
    limits: BodyLimits,
    folder: Path,
    is_stopping: Callable[[], bool],
) -> list[Route]:
    """Returns all paths below ``/annotate/api``.

    Args:
        annotator: does the work.
        limits: of requests.
        folder: where images that the page sends are kept.
        is_stopping: says whether the server is.
    """
    one = _Handlers(annotator, limits, folder, is_stopping)
    return [
        Route(path, handler, methods=[method])
        for method, path, handler in (
            ("GET", "/state", one.tell_state),
            ("GET", "/events", one.tell_events),
            ("POST", "/images", one.receive_image),
            ("POST", "/images/sample", one.open_sample),
            ("POST", "/images/{id}/open", one.open_image),
            ("GET", "/images/{id}/volume", one.send_volume),
            ("GET", "/labels", one.send_labels),
            ("POST", "/prompts", one.add_prompt),
            ("DELETE", "/prompts/{id}", one.remove_prompt),
            ("POST", "/undo", one.undo),
            ("POST", "/redo", one.redo),
            ("POST", "/reset", one.reset),
            ("POST", "/scale", one.choose_scale),
            ("POST", "/cancel", one.cancel),
            ("POST", "/targets", one.add_target),
            ("PATCH", "/targets/{id}", one.change_target),
            ("DELETE", "/targets/{id}", one.remove_target),
            ("POST", "/target", one.choose_target),
            ("GET", "/disagreement", one.send_disagreement),
            ("GET", "/explanation", one.send_explanation),
            ("POST", "/mask", one.receive_mask),
            ("POST", "/save", one.save),
            ("GET", "/download", one.download),
            ("POST", "/recovery", one.recover),
        )
    ]


class _Handlers:
    """Answers the page's requests."""

    def __init__(
        self,
        annotator: Annotator,
        limits: BodyLimits,
        folder: Path,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._annotator = annotator
        self._limits = limits
        self._folder = folder
        self._is_stopping = is_stopping

    # What there is.

    async def tell_state(self, request: Request) -> Response:
        return self._state()

    async def tell_events(self, request: Request) -> Response:
        return StreamingResponse(self._annotator.events.listen(), media_type="text/event-stream")

    async def send_labels(self, request: Request) -> Response:
        return await self._answer(await self._annotator.read_labels())

    # Images.

    async def receive_image(self, request: Request) -> Response:
        name = uploads.check_name(request.query_params.get("name", "scan"))
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder))
        try:
            sent = await uploads.receive(request, name, folder)
            state = await self._annotator.open_sent(sent)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        return JSONResponse(state)

    async def open_sample(self, request: Request) -> Response:
        await self._read_json(request)
        return JSONResponse(await self._annotator.open_sample())

    async def open_image(self, request: Request) -> Response:
        await self._read_json(request)
        entry = self._annotator.find_entry(request.path_params["id"])
        if entry is None:
            raise HTTPException(404, f"found no image {request.path_params['id'][:20]!r}")
        return JSONResponse(await self._annotator.open(entry))

    async def send_volume(self, request: Request) -> Response:
        opened = self._annotator.opened
        if request.path_params["id"] != opened.entry.id:
            raise HTTPException(404, "found another image than the one that is open")
        pieces = make_nifti(opened.image, opened.dtype)
        if _accepts_gzip(request.headers.get("accept-encoding", "")):
            return StreamingResponse(
                stream_gzipped(pieces),
                media_type="application/octet-stream",
                headers={"Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
            )
        return StreamingResponse(
            stream(pieces),
            media_type="application/octet-stream",
            headers={"Vary": "Accept-Encoding"},
        )

    # Prompts and steps.

    async def add_prompt(self, request: Request) -> Response:
        body = await self._read_json(request)
        prompt, target = read_prompt(body), _read_target(body)
        if isinstance(prompt, DrawnPrompt) and len(prompt.points) > MOST_POINTS:
            body.member("points").refuse(f"{MOST_POINTS} points at most")
        kind = body.member("kind").text()

        def begin(document: Document, session: Session) -> None:
            document.begin(session, target, prompt)

        return await self._predict(kind, target, begin)

    async def remove_prompt(self, request: Request) -> Response:
        prompt, target = _read_id(request), _query_target(request)

        def begin(document: Document, session: Session) -> None:
            document.begin_removal(session, target, prompt)

        return await self._predict("removal", target, begin)

    async def undo(self, request: Request) -> Response:
        return await self._move(request, "undo", Document.undo)

    async def redo(self, request: Request) -> Response:
        return await self._move(request, "redo", Document.redo)

    async def reset(self, request: Request) -> Response:
        return await self._move(request, "reset", Document.reset)

    async def choose_scale(self, request: Request) -> Response:
        body = await self._read_json(request)
        target, name = _read_target(body), body.member("scale").text(*SCALES)
        scale = next(one for one in SCALES if one == name)
        return await self._step(
            "scale", target, lambda document, session: document.choose_scale(session, target, scale)
        )

    async def cancel(self, request: Request) -> Response:
        await self._read_json(request)
        return JSONResponse(await self._annotator.cancel())

    async def receive_mask(self, request: Request) -> Response:
        name = uploads.check_name(request.query_params.get("name", "mask.nii.gz"))
        target = _query_target(request) if "target" in request.query_params else None
        async with _temporary_folder() as folder:
            sent = await uploads.receive(request, name, folder)
            path = await asyncio.to_thread(uploads.find_image, sent)
            return await self._answer(await self._annotator.load_mask(path, path.name, target))

    async def recover(self, request: Request) -> Response:
        wanted = (await self._read_json(request)).member("restore").boolean()
        return await self._answer(await self._annotator.recover(wanted))

    # Targets.

    async def add_target(self, request: Request) -> Response:
        body = await self._read_json(request)
        name, color = (
            body.member(key).text() if body.has(key) else None for key in ("name", "color")
        )

        def add(document: Document) -> None:
            document.add_target(name, color)

        await self._annotator.change(add)
        return self._state()

    async def change_target(self, request: Request) -> Response:
        target, body = _read_id(request), await self._read_json(request)
        texts = {key: body.member(key).text() for key in ("name", "color") if body.has(key)}
        flags = {key: body.member(key).boolean() for key in ("visible", "locked") if body.has(key)}
        changes: dict[str, Any] = {**texts, **flags}
        if not changes:
            body.refuse("an object with name, color, visible or locked")
        if "locked" in changes:  # a prediction that runs has still to write what it finds

            def lock(document: Document, session: Session) -> None:
                document.change_target(target, **changes)

            await self._annotator.step("lock", target, lock, "lock")
        else:
            await self._annotator.change(lambda document: document.change_target(target, **changes))
        return self._state()

    async def remove_target(self, request: Request) -> Response:
        target = _read_id(request)
        return await self._step(
            "removal", target, lambda document, session: document.remove_target(target)
        )

    async def choose_target(self, request: Request) -> Response:
        target = _read_target(await self._read_json(request))
        await self._annotator.change(lambda document: document.choose_target(target))
        return self._state()

    # What is looked at.

    async def send_disagreement(self, request: Request) -> Response:
        target = _query_target(request)
        found = await self._annotator.use(lambda document: document.disagreement(target))
        bounds, values = found or (None, None)
        return await self._answer(Change(self._annotator.describe(), bounds, values))

    async def send_explanation(self, request: Request) -> Response:
        target = _query_target(request)
        page = await self._annotator.explain(target, watch(request, self._is_stopping))
        return HTMLResponse(page, headers={"Content-Security-Policy": EXPLANATION_POLICY})

    # Files.

    async def save(self, request: Request) -> Response:
        body = await self._read_json(request)
        saved = await self._annotator.save(
            body.member("format").text(), body.member("overwrite").boolean()
        )
        return JSONResponse(
            {
                "state": self._annotator.describe(),
                "files": [str(one) for one in saved.files],
                "note": saved.note,
            }
        )

    async def download(self, request: Request) -> Response:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="gamt-"))
        remove = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        try:
            saved, note_sent = await self._annotator.export(
                request.query_params.get("format", ""), folder
            )
        except BaseException:
            await remove()
            raise
        return StreamingResponse(
            _send_file(saved.files[0], note_sent),
            media_type="application/octet-stream",
            headers=_attachment(saved),
            background=remove,
        )

    # What requests hold, and answers.

    async def _read_json(self, request: Request) -> JsonValue:
        content = await read_body(request, PROMPT_BYTES, self._limits)
        return parse_json(bytes(content) or b"{}", Path("request"))

    async def _predict(self, kind: str, target: int, begin: Begin) -> Response:
        return await self._answer(await self._annotator.predict(kind, target, begin))

    async def _step(self, kind: str, target: int, move: Move) -> Response:
        return await self._answer(await self._annotator.step(kind, target, move))

    async def _move(
        self,
        request: Request,
        kind: str,
        move: Callable[[Document, Session, int], ArrayBounds | None],
    ) -> Response:
        """Does something to the target that the request names."""
        target = _read_target(await self._read_json(request))
        return await self._step(
            kind, target, lambda document, session: move(document, session, target)
        )

    async def _answer(self, change: Change) -> Response:
        shape = self._annotator.opened.image.array.shape
        return answer(await asyncio.to_thread(encode_change, change, shape))

    def _state(self) -> Response:
        return JSONResponse(self._annotator.describe())


def _accepts_gzip(header: str) -> bool:
    """Says whether an Accept-Encoding names gzip, other than to refuse it by a weight of 0."""
    for one in header.split(","):
        name, _, weight = one.replace(" ", "").lower().partition(";q=")
        if name == "gzip":
            return weight == "" or weight.strip("0.") != ""
    return False


async def _send_file(path: Path, note_sent: NoteSent) -> AsyncIterator[bytes]:
    """Gives a file in pieces; whoever takes it and stays to the end has all of it."""
    with path.open("rb") as file:
        async for piece in stream(iter(partial(file.read, CHUNK_BYTES), b"")):
            yield piece
    await note_sent()


def _attachment(saved: Saved) -> dict[str, str]:
    """Returns the headers of a file that a browser writes to a folder of the user's."""
    path, header = saved.files[0], Message()
    header.add_header("Content-Disposition", "attachment", filename=path.name)
    headers = {
        "Content-Disposition": header["Content-Disposition"],
        "Content-Length": str(path.stat().st_size),
    }
    if saved.note is not None:  # headers are ASCII; names of targets needn't be
        headers["Gamt-Note"] = quote(saved.note)
    return headers


@asynccontextmanager
async def _temporary_folder() -> AsyncIterator[Path]:
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="gamt-"))
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _read_target(body: JsonValue) -> int:
    return body.member("target").whole_number(1, MOST_ID)


def _read_id(request: Request) -> int:
    return _whole(request.path_params["id"])


def _query_target(request: Request) -> int:
    return _whole(request.query_params.get("target", ""))


def _whole(text: str) -> int:
    """Returns a number in an address.

    Raises:
        HTTPException: 404, it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(404, f"found {text[:20]!r}, expected a number")
    return int(text)

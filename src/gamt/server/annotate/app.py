"""The server of ``gamt annotate``: that of ``gamt serve``, with the page beside it."""

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles

from gamt.annotation.recovery import kept_scans
from gamt.io.formats import strip_suffix
from gamt.io.image import Image
from gamt.server.annotate.annotator import Annotator, Reader
from gamt.server.annotate.errors import PAGE_ERRORS
from gamt.server.annotate.gate import PageGate
from gamt.server.annotate.page import PAGE
from gamt.server.annotate.routes import make_routes
from gamt.server.annotate.scans import Entry
from gamt.server.annotate.uploads import find_image
from gamt.server.app import make_app
from gamt.server.bodies import DEFAULT_LIMITS, BodyLimits
from gamt.server.engine import Engine

UNBUILT = "the page isn't built: 'make page' builds it"

VIEWERS = 4
"""Places for 3D Slicer and napari, which may work with the same server."""

IDLE_SECONDS, LIVENESS_SECONDS = 600, 60
"""After which such a place is freed, as on `gamt serve`."""


def make_annotate_app(
    engine: Engine,
    *,
    key: str,
    licence: str,
    paths: Sequence[Path],
    first: "Future[Image] | None",
    read: Reader,
    sample: Callable[[], Image],
    previous: Path | None = None,
    output: Path | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
    tell_kept: Callable[[Path], None] = lambda path: None,
    page: Path = PAGE,
    body_limits: BodyLimits = DEFAULT_LIMITS,
) -> FastAPI:
    """Returns the server; the page is at ``/annotate/?key=KEY``.

    Args:
        engine: makes the predictions; closed with the server.
        key: what browsers have to show, and clients of nnInteractive's protocol.
        licence: of the segmenter.
        paths: of images that can be opened.
        first: that of `paths[0]`, which is opened, while it is being read; None if there is none.
        read: reads the others, and what the page sends.
        sample: returns the sample.
        previous: a segmentation of the first image to go on from.
        output: the folder that results are saved in; None for that of each image.
        is_stopping: asked during predictions, which are ended then.
        tell_kept: is given the file, if any, in which unsaved work is when the server has ended.
        page: the folder of the built page.
        body_limits: of requests.
    """
    app = make_app(
        engine,
        max_sessions=VIEWERS,
        idle_seconds=IDLE_SECONDS,
        liveness_seconds=LIVENESS_SECONDS,
        licence=licence,
        api_key=key,
        body_limits=body_limits,
        loads_codec=False,
        is_stopping=is_stopping,
    )
    entries = [
        Entry(str(number), strip_suffix(path) or str(path), path)
        for number, path in enumerate(paths, 1)
    ]
    entries += [
        Entry(str(number), strip_suffix(path), find_image(path), is_sent=True)
        for number, path in enumerate(kept_scans(), 1 + len(paths))
    ]
    annotator = Annotator(engine, entries, read, sample, output, is_stopping)
    sent = tempfile.TemporaryDirectory(prefix="gamt-", ignore_cleanup_errors=True)
    api = make_routes(annotator, body_limits, Path(sent.name), is_stopping)
    behind_gate = Starlette(
        routes=[
            Mount("/api", Router(api, redirect_slashes=False)),
            Mount("/", StaticFiles(directory=page, html=True))
            if (page / "index.html").is_file()
            else Route("/{path:path}", _tell_unbuilt),
        ],
        exception_handlers=PAGE_ERRORS,
    )
    app.add_route("/annotate", _add_slash)
    # As a middleware of the application, the gate wouldn't see its answers to unexpected errors.
    app.mount("/annotate", PageGate(behind_gate, key))
    around = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with around(app):
            await annotator.start(first, previous)
            yield
            if (kept := await annotator.stop()) is not None:
                tell_kept(kept)
            sent.cleanup()

    app.router.lifespan_context = lifespan
    return app


async def _add_slash(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/annotate/{query}", headers={"Cache-Control": "no-store"})


async def _tell_unbuilt(request: Request) -> Response:
    return PlainTextResponse(UNBUILT, 503)

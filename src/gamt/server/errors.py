"""What clients are told of errors: a status and {"detail": text}, never a traceback."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

import gamt
from gamt.lifting.plan import OverLimitError
from gamt.server.bodies import discard_body
from gamt.server.engine import Closed
from gamt.server.frames import FrameError, FrameSizeError
from gamt.server.leases import LeaseError
from gamt.server.memory import TooLarge
from gamt.server.messages import MessageError
from gamt.session import Session

logger = logging.getLogger("gamt.server")

T = TypeVar("T")

ADVICE = (
    "enter nothing but http://HOST:PORT as the server's address, and update the viewer's extension"
)
"""For those who meet an error of paths: mostly an address or an extension that doesn't fit."""


class RefusedError(ValueError):
    """A request that isn't carried out; the text is for the user."""


def refusing(work: Callable[[Session], T]) -> Callable[[Session], T]:
    """Lets what a session says of a user's mistake be told from our own.

    Args:
        work: what a session is given to.

    Returns:
        The same, but that it raises RefusedError instead of ValueError.
    """

    def refuse(session: Session) -> T:
        try:
            return work(session)
        except ValueError as error:
            raise RefusedError(str(error)) from error

    return refuse


def handle_errors(app: FastAPI) -> None:
    """Answers each error as clients of protocol v2 expect it."""
    app.add_exception_handler(StarletteHTTPException, _refuse_http)
    app.add_exception_handler(404, _refuse_path)
    app.add_exception_handler(405, _refuse_method)
    for kind, status in (
        (TooLarge, 413),
        (OverLimitError, 413),
        (FrameSizeError, 413),
        (FrameError, 400),
        (MessageError, 400),
        (RefusedError, 400),
    ):
        app.add_exception_handler(kind, _refuse_with(status))
    app.add_exception_handler(LeaseError, _refuse_lease)
    app.add_exception_handler(Closed, _refuse_lease)  # released while it was at work
    app.add_exception_handler(ClientDisconnect, _note_gone)
    app.add_exception_handler(Exception, _admit)


def _refuse_with(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(request: Request, error: Exception) -> Response:
        await discard_body(request)
        return JSONResponse({"detail": str(error)}, status)

    return refuse


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    await discard_body(request)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _refuse_path(request: Request, error: Exception) -> Response:
    await discard_body(request)
    return JSONResponse({"detail": f"{_describe_path(request)}; {ADVICE}"}, 404)


async def _refuse_method(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    await discard_body(request)
    allowed = (error.headers or {}).get("Allow", "")
    detail = f"{_describe_path(request)} with {request.method}, but with {allowed}; {ADVICE}"
    return JSONResponse({"detail": detail}, 405, error.headers)


def _describe_path(request: Request) -> str:
    return (
        f"this is gamt {gamt.__version__}, which speaks nnInteractive's protocol v2 and the legacy "
        f"one; it has no path {request.scope['path']}"
    )


async def _refuse_lease(request: Request, error: Exception) -> Response:
    await discard_body(request)
    return JSONResponse({"detail": "lease expired or unknown"}, 410)


async def _note_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _admit(request: Request, error: Exception) -> Response:
    incident = uuid.uuid4().hex[:8]
    # Its text may hold the places of prompts, which only those see who look for an error.
    logger.error("%s failed (%s): %s", request.scope["path"], incident, type(error).__name__)
    logger.debug("where %s failed", incident, exc_info=error)
    detail = f"the server failed; its log says more of what happened under {incident}"
    # The connection is closed by whoever catches the error after this; the client is to know.
    return JSONResponse({"detail": detail}, 500, {"Connection": "close"})

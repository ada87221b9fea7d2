"""What the page is told of errors: a status and {"detail": text}."""

import errno
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from gamt.annotation.document import UnknownError
from gamt.io.files import OverwriteError
from gamt.lifting.plan import OverLimitError
from gamt.server.annotate.annotator import NothingOpenError, SupersededError
from gamt.server.bodies import discard_body
from gamt.server.engine import Closed
from gamt.server.memory import TooLarge

logger = logging.getLogger("gamt.server")

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The disk is, or the user's share of it."""

Handler = Callable[[Request, Exception], Awaitable[Response]]


def _refuse_with(status: int) -> Handler:
    async def refuse(request: Request, error: Exception) -> Response:
        await discard_body(request)
        return JSONResponse({"detail": str(error)}, status)

    return refuse


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    await discard_body(request)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _refuse_value(request: Request, error: Exception) -> Response:
    """Refuses what users can't mean, which is a ValueError of Python's or of gamt's kinds."""
    kind = type(error)
    if kind is not ValueError and not kind.__module__.startswith("gamt."):
        return await _admit(request, error)
    logger.debug("%s was refused", request.url.path, exc_info=error)
    return await _refuse_with(400)(request, error)


async def _refuse_file(request: Request, error: Exception) -> Response:
    """Says which file can't be read or written, and why."""
    assert isinstance(error, OSError)
    if error.errno not in FULL and error.filename is None:  # it is of no file
        return await _admit(request, error)
    logger.warning("%s failed: %s", request.url.path, error)
    return await _refuse_with(507 if error.errno in FULL else 500)(request, error)


async def _refuse_closed(request: Request, error: Exception) -> Response:
    detail = "the scan was closed meanwhile, and what was drawn is kept with it"
    return JSONResponse({"detail": detail}, 409)


async def _note_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _admit(request: Request, error: Exception) -> Response:
    incident = uuid.uuid4().hex[:8]
    logger.error("%s failed (%s): %s", request.url.path, incident, type(error).__name__)
    logger.debug("where %s failed", incident, exc_info=error)
    detail = f"the server failed; its log says more of what happened under {incident}"
    return JSONResponse({"detail": detail}, 500, {"Connection": "close"})


PAGE_ERRORS: Mapping[Any, Handler] = {
    HTTPException: _refuse_http,
    UnknownError: _refuse_with(404),
    NothingOpenError: _refuse_with(409),
    SupersededError: _refuse_with(409),
    OverwriteError: _refuse_with(409),
    TooLarge: _refuse_with(413),
    OverLimitError: _refuse_with(413),
    ValueError: _refuse_value,
    OSError: _refuse_file,
    Closed: _refuse_closed,
    ClientDisconnect: _note_gone,
    Exception: _admit,
}
"""By kinds of errors."""

"""Bodies of requests, received within limits of size, time and memory."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from gamt.server.memory import Memory

DISCARD_SECONDS = 10.0
"""How long what is left of a refused body is read, so that its client gets to the answer."""

DISCARD_PAUSE_SECONDS = 0.5
"""The same, while nothing comes."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a request's body may be.

    Attributes:
        json_bytes: of one that is JSON.
        pause_seconds: between two parts of it.
        total_seconds: from its first byte to its last; the clients allow ten minutes for an image.
    """

    json_bytes: int = 65_536
    pause_seconds: float = 20.0
    total_seconds: float = 600.0


DEFAULT_LIMITS = BodyLimits()


@asynccontextmanager
async def receiving(
    request: Request,
    memory: Memory,
    limit_bytes: int,
    limits: BodyLimits,
    look: Callable[[bytearray], None] = lambda begun: None,
) -> AsyncIterator[bytearray]:
    """Gives a request's body; room for it is reserved from before it comes until the block ends.

    Args:
        request: whose body hasn't been read yet.
        memory: where room is reserved.
        limit_bytes: of the body.
        limits: of time.
        look: is given what has come so far, after each part; what it raises ends the reading.

    Raises:
        TooLarge: there is no room for it.
        HTTPException: 411 if the request doesn't say how large it is; see `read_body`.
        ClientDisconnect: the client is gone.
    """
    if "content-length" not in request.headers:
        raise HTTPException(411, "found no Content-Length, expected that of the body")
    with memory.lend("upload", int(request.headers["content-length"])):
        yield await read_body(request, limit_bytes, limits, look)


async def read_body(
    request: Request,
    limit_bytes: int,
    limits: BodyLimits,
    look: Callable[[bytearray], None] = lambda begun: None,
) -> bytearray:
    """Returns a request's body; not more than allowed of it is ever in memory.

    Args:
        request: whose body hasn't been read yet.
        limit_bytes: of the body.
        limits: of time.
        look: is given what has come so far, after each part; what it raises ends the reading.

    Raises:
        HTTPException: 413 if it is larger, 408 if it comes too slowly.
        ClientDisconnect: the client is gone.
    """
    declared = int(request.headers.get("content-length", 0))
    if declared > limit_bytes:
        raise _too_large(f"{declared}", limit_bytes)
    body = bytearray()
    deadline = time.monotonic() + limits.total_seconds
    while True:
        try:
            async with asyncio.timeout(
                min(limits.pause_seconds, max(0, deadline - time.monotonic()))
            ):
                message = await request.receive()
        except TimeoutError:
            request.state.body_read = True  # as far as it is going to be
            raise HTTPException(
                408,
                f"found {len(body)} bytes of the body so far, expected all within "
                f"{limits.total_seconds:g} s and none {limits.pause_seconds:g} s after another",
                {"Connection": "close"},
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(f"more than {limit_bytes}", limit_bytes)
        more = message.get("more_body", False)
        request.state.body_read = not more
        look(body)
        if not more:
            return body


async def discard_body(request: Request) -> None:
    """Reads away what a client still sends with a request that is refused.

    It would not look for the answer before it has sent all, and find the connection closed.
    """
    if getattr(request.state, "body_read", False) or "expect" in request.headers:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            more = True
            while more:
                async with asyncio.timeout(DISCARD_PAUSE_SECONDS):
                    more = (await request.receive()).get("more_body", False)


def _too_large(found: str, limit_bytes: int) -> HTTPException:
    return HTTPException(413, f"found a body of {found} bytes, expected {limit_bytes} at most")

"""A server that says it is alive before it is loaded: its imports take about a second."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

FAILED = b'{"detail":"the server could not be loaded; its log says why"}'

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class EarlyApp:
    """An ASGI application that answers `/healthz` at once; all else waits for the server proper.

    Attributes:
        error: why the server proper could not be loaded; None if it could, or is not yet.
    """

    def __init__(self, load: Callable[[], "FastAPI"], stop: Callable[[], None]) -> None:
        """Loads nothing yet.

        Args:
            load: returns the server proper; called in a thread, when the server starts.
            stop: called if that fails, to end the server.
        """
        self.error: Exception | None = None
        self._load = load
        self._stop = stop
        self._app: FastAPI | None = None
        self._loaded = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request, or starts and ends with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._app is None and scope["path"] == "/healthz":
            await _answer(send, 200, b'{"ok":true}')  # as the server proper does
            return
        await self._loaded.wait()
        if self._app is not None:
            await self._app(scope, receive, send)
        else:
            await _answer(
                send, 503, b'{"detail":"the server could not be loaded; its log says why"}'
            )

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        await send({"type": "lifespan.startup.complete"})
        try:
            app = await loading
        except Exception as error:
            self.error = error
            self._loaded.set()
            self._stop()
            await receive()
        else:
            async with app.router.lifespan_context(app):
                self._app = app
                self._loaded.set()
                await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send, status: int, body: bytes) -> None:
    """Sends an answer in JSON."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

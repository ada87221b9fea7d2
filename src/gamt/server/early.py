"""A server that answers before it is loaded: what it needs takes longer to import than to start."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class EarlyApp:
    """Says at once that the server is alive; all else waits until the server proper is loaded."""

    def __init__(self, load: Callable[[], "FastAPI"]) -> None:
        """Takes what returns the server proper; it is called in a thread, at the start."""
        self._load = load
        self._loading: asyncio.Future[FastAPI]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request, or starts and stops: see ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/healthz" and not self._loading.done():
            await _tell_health(send)
        else:
            app = await asyncio.shield(self._loading)
            await app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # "startup"
        self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        running = asyncio.create_task(self._run(started := asyncio.Event(), stop := asyncio.Event()))
        await send({"type": "lifespan.startup.complete"})
        await receive()  # "shutdown"
        await send({"type": "lifespan.shutdown.complete"})

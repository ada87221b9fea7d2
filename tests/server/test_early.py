import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from gamt.server.early import EarlyApp
from tests.server.test_turns import SECONDS

Events = list[str]


class Life:
    """Starts an application and ends it, as a web server does."""

    def __init__(self, app: EarlyApp) -> None:
        self.sent: Events = []
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbox.put_nowait({"type": "lifespan.startup"})
        self.app = app

    async def __aenter__(self) -> "Life":
        async def send(message: Any) -> None:
            self.sent.append(message["type"])

        self.task = asyncio.ensure_future(self.app({"type": "lifespan"}, self.inbox.get, send))
        while not self.sent:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.inbox.put_nowait({"type": "lifespan.shutdown"})
        await self.task
        assert self.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def get(app: EarlyApp, path: str) -> tuple[int, bytes]:
    """Returns status and body of an answer."""
    status, body = 0, b""

    async def send(message: Any) -> None:
        nonlocal status, body
        status, body = message.get("status", status), body + message.get("body", b"")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return status, body


def proper(events: Events) -> FastAPI:
    """Returns a server proper that notes when it starts and ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        events.append("started")
        yield
        events.append("ended")

    app = FastAPI(lifespan=lifespan)

    @app.get("/{path}")
    async def answer(path: str) -> str:
        return path

    return app


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), SECONDS)

    asyncio.run(limited())


def test_its_health_is_told_before_it_is_loaded_and_all_else_after() -> None:
    events: Events = []
    gate = threading.Event()

    def load() -> FastAPI:
        assert gate.wait(SECONDS)
        return proper(events)

    async def test() -> None:
        app = EarlyApp(load, pytest.fail)
        async with Life(app):
            waiting = asyncio.ensure_future(get(app, "/claim"))
            assert await get(app, "/healthz") == (200, b'{"ok":true}')
            assert not waiting.done()
            gate.set()
            assert await waiting == (200, b'"claim"')
            assert events == ["started"]
            assert await get(app, "/healthz") == (200, b'"healthz"')
        assert events == ["started", "ended"]

    run(test)


def test_a_server_that_can_not_be_loaded_is_ended_and_says_why() -> None:
    stopped = threading.Event()

    def load() -> FastAPI:
        raise OSError("no memory")

    async def test() -> None:
        app = EarlyApp(load, stopped.set)
        async with Life(app):
            status, body = await get(app, "/claim")
            assert status == 503
            assert b"could not be loaded" in body
            assert stopped.is_set()
        assert str(app.error) == "no memory"

    run(test)

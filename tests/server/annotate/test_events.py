"""Every tab hears of a change, whoever made it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gamt.server.annotate import events
from gamt.server.annotate.events import Events
from tests.server.annotate.annotating import SECONDS, Page, annotating, write_scan
from tests.server.test_turns import wait_until


async def hear(listening: AsyncIterator[str]) -> Any:
    async with asyncio.timeout(SECONDS):
        text = await anext(listening)
    return json.loads(text.removeprefix("data: ")) if text.startswith("data: ") else text


def test_who_begins_to_listen_hears_what_there_is() -> None:
    async def test() -> None:
        one = Events(lambda: {"revision": 3}, lambda: False)
        assert await hear(one.listen()) == {"revision": 3}

    asyncio.run(test())


def test_all_who_listen_hear_of_changes_together() -> None:
    now = {"revision": 1}

    async def test() -> None:
        one = Events(lambda: now, lambda: False)
        tabs = [one.listen(), one.listen()]
        for tab in tabs:
            await hear(tab)
        for number in (2, 3, 4):
            now["revision"] = number
            one.notify()
        assert [await hear(tab) for tab in tabs] == [{"revision": 4}] * 2

    asyncio.run(test())


def test_a_silent_server_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SIGN_OF_LIFE_SECONDS", 0.01)
    monkeypatch.setattr(events, "STOP_SECONDS", 0.01)

    async def test() -> None:
        tab = Events(dict, lambda: False).listen()
        await hear(tab)
        assert await hear(tab) == ": alive\n\n"

    asyncio.run(test())


def test_listening_ends_with_the_server() -> None:
    async def test() -> None:
        stopping = threading.Event()
        tab = Events(dict, stopping.is_set).listen()
        await hear(tab)
        stopping.set()
        with pytest.raises(StopAsyncIteration):
            await hear(tab)

    asyncio.run(test())


def test_a_tab_hears_of_another_tabs_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    heard: list[dict[str, Any]] = []

    def listen(page: Page) -> None:
        with page, page.http.stream("GET", "api/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = (one for one in response.iter_lines() if one.startswith("data: "))
            heard.extend(json.loads(one.removeprefix("data: ")) for one in lines)

    with annotating(write_scan(tmp_path)) as url, Page(url) as page:
        wait_until(lambda: page.state()["scan"] is not None)
        thread = threading.Thread(target=listen, args=(Page(url),))
        thread.start()
        wait_until(lambda: bool(heard))
        revision = page.box().state["revision"]
        wait_until(lambda: heard[-1] == {"revision": revision, "busy": None})
    thread.join(SECONDS)  # the server sends its listeners away
    assert not thread.is_alive()

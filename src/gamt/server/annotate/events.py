"""Server-sent events: every tab hears of a change, whoever made it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

SIGN_OF_LIFE_SECONDS = 10.0
"""Between two messages, so that a tab notices when its server is gone, and proxies keep it open."""

LEAST_SECONDS = 0.1
"""Between two messages: a prediction may take hundreds of slices a second."""

STOP_SECONDS = 0.2
"""How soon those who listen are sent away when the server stops."""


class Events:
    """Tells all who listen what there is now; what changes meanwhile is told together."""

    def __init__(
        self, describe: Callable[[], dict[str, Any]], is_stopping: Callable[[], bool]
    ) -> None:
        """Begins with nobody listening.

        Args:
            describe: returns the message, as it is now.
            is_stopping: says whether the server is.
        """
        self._describe = describe
        self._is_stopping = is_stopping
        self._listening: set[asyncio.Event] = set()

    def notify(self) -> None:
        """Lets all who listen hear what there is now; called on the event loop."""
        for one in self._listening:
            one.set()

    async def listen(self) -> AsyncIterator[str]:
        """Gives what there is now, and again after every change, until the server stops."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        self._listening.add(changed)
        try:
            yield self._message()
            told = loop.time()
            while not self._is_stopping():
                if await _is_set(changed, STOP_SECONDS):
                    await asyncio.sleep(max(0.0, told + LEAST_SECONDS - loop.time()))
                    changed.clear()
                    yield self._message()
                elif loop.time() >= told + SIGN_OF_LIFE_SECONDS:
                    yield ": alive\n\n"
                else:
                    continue
                told = loop.time()
        finally:
            self._listening.discard(changed)

    def _message(self) -> str:
        return f"data: {json.dumps(self._describe(), separators=(',', ':'))}\n\n"


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event; returns whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True

"""A stand-in for the engine: one lock, one thread a call."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gamt.axes import bounding_range
from gamt.segmenters.base import Segmenter
from gamt.session import ArrayBounds, Session
from gamt.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    ran: bool
    bounds: ArrayBounds | None
    content: npt.NDArray[np.uint8] | None


class Engine:
    def __init__(
        self,
        segmenter: Segmenter,
        settings: Settings,
        *,
        max_sessions: int,
        metrics: Any = None,
        cache: Path | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.settings = settings
        self.cache = cache
        self.lock = asyncio.Lock()

    def open(self) -> "Workspace":
        return Workspace(self)

    def close(self) -> None: ...


class Workspace:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session = Session(engine.segmenter, engine.settings, engine.cache)

    async def change(self, work: Callable[[Session], T]) -> T:
        async with self._engine.lock:
            return await asyncio.to_thread(work, self._session)

    async def predict(
        self,
        kind: str,
        add: Callable[[Session], object],
        is_gone: Callable[[], Awaitable[bool]],
    ) -> Prediction:
        def run() -> Prediction:
            session = self._session
            before = session.target_buffer.copy() if session.target_buffer is not None else None
            ran = add(session)
            if kind == "undo":
                if not ran:
                    return Prediction(False, None, None)
            else:
                session.run_prediction()
            assert before is not None
            found = bounding_range(before != session.target_buffer)
            if found is None:
                return Prediction(True, None, None)
            bounds = [[a, b] for a, b in zip(*found, strict=True)]
            where = tuple(slice(a, b) for a, b in bounds)
            return Prediction(True, bounds, session.target_buffer[where].copy())

        async with self._engine.lock:
            return await asyncio.to_thread(run)

    async def close(self) -> None: ...

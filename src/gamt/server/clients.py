"""What the server keeps for a client, and what both protocols do with it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt
from fastapi import Request

from gamt.server.engine import Workspace
from gamt.session import Session

UPLOADS = 2
"""Arrays of a client that the server holds at a time, beside the image: a drawing that is predicted
from, and one that is to supersede it."""

DrawingKind = Literal["scribble", "lasso"]


@dataclass(slots=True)
class Client:
    """What the server keeps for a lease.

    Attributes:
        workspace: where its predictions are made.
        uploads: held from when one of its arrays is received until the request is answered: the
            next one waits.
        shape: (z, y, x) of its image; None before there is one.
        dtype: name of its target buffer's; None before there is one.
    """

    workspace: Workspace
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS))
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


def add_drawing(
    session: Session,
    kind: DrawingKind,
    drawn: npt.NDArray[Any],
    positive: bool,
    bounds: list[list[int]] | None,
) -> None:
    """Adds a drawing without a prediction; see `Session.add_scribble_interaction`."""
    add = session.add_scribble_interaction if kind == "scribble" else session.add_lasso_interaction
    add(drawn, positive, run_prediction=False, interaction_bbox=bounds)


def watch(request: Request, is_stopping: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    """Returns what says whether nobody waits for an answer any more.

    Args:
        request: that is to be answered.
        is_stopping: says whether the server is.
    """

    async def is_gone() -> bool:
        return is_stopping() or await request.is_disconnected()

    return is_gone

"""Waiting for what other processes do."""

import time
from collections.abc import Callable

PATIENCE_S = 60


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Waits until something is so.

    Raises:
        TimeoutError: it was not so within a minute; says what was waited for.
    """
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {PATIENCE_S} s for {what}")
        time.sleep(0.05)

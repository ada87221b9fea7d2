"""Ending on request: SIGTERM, as container engines and job schedulers send before they kill."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("gamt")

TERMINATED = 128 + signal.SIGTERM
"""The exit status of a process that SIGTERM ended, as shells tell it."""

END = b"\0"
"""Written where the numbers of signals are, which begin with 1: none is waited for any more."""


@contextmanager
def finish_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether the process has been asked to end.

    A second SIGTERM ends it at once, also amid a long call of a segmenter: Python's own handlers
    wait until such a call is over, but the number of a signal is written to the wakeup descriptor
    as soon as it comes, where a thread waits for it.
    """
    asked = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while (number := os.read(reader, 1)) != END:
            if number[0] != signal.SIGTERM:
                continue
            if asked.is_set():
                os._exit(TERMINATED)
            asked.set()
            logger.warning(
                "asked to end: the case at hand is finished from what has been seen; "
                "another SIGTERM ends at once"
            )

    thread = threading.Thread(target=watch, name="sigterm", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.set_wakeup_fd(before)
        os.write(writer, END)
        thread.join()
        os.close(writer)
        os.close(reader)


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it ends what is at work as Ctrl-C does."""


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raises `Terminated` upon SIGTERM."""

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

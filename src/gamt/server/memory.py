"""How much memory clients' images may take, so that one is refused before memory runs out."""

import ctypes
import sys
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

M_ARENA_MAX, ARENAS = -8, 2
"""The option of glibc's `mallopt`, and how many arenas there are: one computes at a time. By itself
there would be eight a core, and a server that many had used would stay larger by half."""

MB = 2**20


class TooLarge(Exception):  # noqa: N818 - as HTTP calls it
    """What a client wants to send doesn't fit into memory; the message is for its user."""


class Memory:
    """Counts the bytes that are spoken for, by whom and for what."""

    def __init__(self, limit_bytes: int) -> None:
        """Starts with nothing reserved."""
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._reserved: dict[tuple[Hashable, str], int] = {}

    @property
    def reserved_bytes(self) -> int:
        """Bytes that are reserved by all together."""
        with self._lock:
            return sum(self._reserved.values())

    def reserve(self, who: Hashable, what: str, size: int) -> None:
        """Reserves room for somebody, instead of what was reserved for the same purpose.

        Args:
            who: is to have it.
            what: it is for; the message names it.
            size: in bytes.

        Raises:
            TooLarge: there is not enough left; all is as it was.
        """
        with self._lock:
            others = sum(n for key, n in self._reserved.items() if key != (who, what))
            left = self.limit_bytes - others
            if size > left:
                raise TooLarge(
                    f"{what}: found that {size / MB:.0f} MB of memory are needed, expected no more "
                    f"than the {max(0, left) / MB:.0f} MB that the server has left"
                )
            if size:
                self._reserved[who, what] = size
            else:
                self._reserved.pop((who, what), None)

    @contextmanager
    def lend(self, what: str, size: int) -> Iterator[Hashable]:
        """Reserves room for as long as the block lasts, whatever ends meanwhile.

        Args:
            what: it is for; the message names it.
            size: in bytes.

        Yields:
            Who has it, for `hand_over`.

        Raises:
            TooLarge: there is not enough left; all is as it was.
        """
        borrower = object()
        self.reserve(borrower, what, size)
        try:
            yield borrower
        finally:
            self.release(borrower)

    def hand_over(self, borrower: Hashable, who: Hashable, what: str) -> None:
        """Makes what is lent somebody's own, instead of what they reserved for the same purpose."""
        with self._lock:
            self._reserved[who, what] = self._reserved.pop((borrower, what))

    def release(self, who: Hashable) -> None:
        """Gives up all that is reserved for somebody."""
        with self._lock:
            for key in [key for key in self._reserved if key[0] == who]:
                del self._reserved[key]


def give_back() -> None:
    """Gives memory that is free back to the system, of which glibc would keep some hundred MB."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)


def limit_arenas() -> None:
    """Lets the threads of this process share few of glibc's arenas, each of which keeps memory."""
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if set_option is not None:
            set_option(M_ARENA_MAX, ARENAS)

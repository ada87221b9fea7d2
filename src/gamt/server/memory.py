"""How much memory clients' images may take, so that one is refused before memory runs out."""

import math
import threading
from collections.abc import Hashable, Sequence
from pathlib import Path

import psutil

CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Files below /sys/fs/cgroup that say what a container may use: of version 2, and of version 1."""


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

    def reserve(
        self, who: Hashable, what: str, shape: Sequence[int], bytes_per_voxel: float
    ) -> None:
        """Reserves room for an array; it takes the place of what was reserved for the same.

        Args:
            who: is to have it.
            what: it is for; the message names it.
            shape: of the array.
            bytes_per_voxel: that it needs, with all that is made along with it.

        Raises:
            TooLarge: there is not enough left; all is as it was.
        """
        size = math.ceil(math.prod(shape) * bytes_per_voxel)
        with self._lock:
            others = sum(n for key, n in self._reserved.items() if key != (who, what))
            if others + size > self.limit_bytes:
                raise TooLarge(
                    f"found {what} of shape {tuple(shape)}, which needs {size / 1e6:.0f} MB with "
                    f"all that is made of it; expected no more than the "
                    f"{max(0, self.limit_bytes - others) / 1e6:.0f} MB that the server has left"
                )
            self._reserved[who, what] = size

    def release(self, who: Hashable) -> None:
        """Gives up all that is reserved for somebody."""
        with self._lock:
            for key in [key for key in self._reserved if key[0] == who]:
                del self._reserved[key]


def machine_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the memory of this machine, or of the container if that may use less."""
    limits = [int(psutil.virtual_memory().total)]
    for name in CGROUP_LIMITS:
        path = cgroup / name
        text = path.read_text().strip() if path.is_file() else "max"
        if text != "max":
            limits.append(int(text))
    return min(limits)

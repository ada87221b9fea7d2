"""Who holds one of the server's places, and for how long: no HTTP, no waiting, no clock of its own.

A lease ends when its client gives it back, when nothing was heard of the client for a while
(liveness), or when its user did nothing for longer than that (idle).
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

Held = TypeVar("Held")


class FullError(Exception):
    """All places are taken."""


class LeaseError(Exception):
    """A lease that has ended, or never was."""


@dataclass(slots=True)
class Lease(Generic[Held]):
    """A place that is taken.

    Attributes:
        token: what its client is known by.
        held: what the server keeps for it.
        acted: when its user last did something, in the clock's seconds.
        seen: when its client was last heard of; not before `acted`.
        gives_signs: whether its client gives signs of life; if not, it may be silent.
        requests: how many of its requests the server is working on; while there are any, the lease
            doesn't end by itself.
    """

    token: str
    held: Held
    acted: float
    seen: float
    gives_signs: bool = True
    requests: int = 0


class Leases(Generic[Held]):
    """The leases of a server; many threads may use them at once.

    Attributes:
        max_sessions: number of places.
        idle_seconds: a lease ends when its user does nothing for that long; more than 0.
        liveness_seconds: a lease ends when nothing is heard of its client for that long; 0 for
            clients that needn't give signs of life.
    """

    def __init__(
        self,
        max_sessions: int,
        idle_seconds: float,
        liveness_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts with all places free; `clock` tells the time in seconds."""
        self.max_sessions = max_sessions
        self.idle_seconds = idle_seconds
        self.liveness_seconds = liveness_seconds
        self._clock = clock
        self._leases: dict[str, Lease[Held]] = {}
        self._lock = threading.Lock()

    def claim(self, make: Callable[[], Held], gives_signs: bool = True) -> Lease[Held]:
        """Takes a place.

        Args:
            make: makes what the server keeps for the lease; only called if there is a place.
            gives_signs: whether the client gives signs of life.

        Raises:
            FullError: there is none. Leases that have run out still hold theirs, until `expire`.
        """
        with self._lock:
            if len(self._leases) >= self.max_sessions:
                raise FullError
            now = self._clock()
            lease = Lease(uuid.uuid4().hex, make(), now, now, gives_signs)
            self._leases[lease.token] = lease
            return lease

    def touch(self, token: str) -> Lease[Held]:
        """Notes that a client is alive.

        Raises:
            LeaseError: the lease has ended, or never was.
        """
        with self._lock:
            lease = self._get(token)
            lease.seen = self._clock()
            return lease

    @contextmanager
    def act(self, token: str) -> Iterator[Lease[Held]]:
        """Notes that a user does something; the lease doesn't end by itself until it is done.

        Raises:
            LeaseError: the lease has ended, or never was.
        """
        with self._lock:
            lease = self._get(token)
            lease.requests += 1
            lease.acted = lease.seen = self._clock()
        try:
            yield lease
        finally:
            with self._lock:
                lease.requests -= 1
                lease.acted = lease.seen = self._clock()

    def remaining_seconds(self, token: str) -> float:
        """Returns how long a user may still do nothing; asking changes nothing.

        Raises:
            LeaseError: the lease has ended, or never was.
        """
        with self._lock:
            lease = self._get(token)
            if lease.requests:
                return self.idle_seconds
            return lease.acted + self.idle_seconds - self._clock()

    def release(self, token: str) -> Lease[Held] | None:
        """Gives a place back; returns the lease that held it, None if there was none."""
        with self._lock:
            return self._leases.pop(token, None)

    def expire(self) -> list[Lease[Held]]:
        """Frees the places of leases that have run out, and returns those leases."""
        with self._lock:
            ended = [lease for lease in self._leases.values() if self._has_ended(lease)]
            for lease in ended:
                del self._leases[lease.token]
            return ended

    def clear(self) -> list[Lease[Held]]:
        """Ends all leases, and returns them."""
        with self._lock:
            ended = list(self._leases.values())
            self._leases.clear()
            return ended

    def _get(self, token: str) -> Lease[Held]:
        lease = self._leases.get(token)
        if lease is None or self._has_ended(lease):
            raise LeaseError
        return lease

    def _has_ended(self, lease: Lease[Held]) -> bool:
        if lease.requests:
            return False
        now = self._clock()
        silent = 0 < self.liveness_seconds <= now - lease.seen
        return (silent and lease.gives_signs) or self.idle_seconds <= now - lease.acted

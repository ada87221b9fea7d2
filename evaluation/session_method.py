"""Sessions as methods: each lives in a process of its own that stays between runs."""

import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.loop import CancelledError, Ended, LateError, MethodError
from evaluation.processes import ASK_SECONDS, describe_end, end_process, start_process
from evaluation.sessions import LONGEST_MESSAGE
from gamt.text import printable

_MAKE_SECONDS = 3600.0
"""How long a session may take to be made, such as to fetch its model first."""

_ONE_AT_A_TIME = threading.Lock()
"""For the runs of this process's sessions."""

_hosts: dict["SessionMethod", "_Host"] = {}
"""The sessions of this process, which stay between runs."""

_unmade: dict["SessionMethod", str] = {}
"""Why sessions of this process can't be made: to try takes long, and every case would."""


@dataclass(frozen=True, slots=True)
class SessionMethod:
    """A session (`evaluation.sessions`), in a process of its own that stays between runs.

    The process is started by the first run, and anew where it has ended or a run was late. A run's
    time is without that.

    Attributes:
        factory: what makes the session, ``package.module:factory``.
        options: KEY=VALUE, the factory's keyword arguments.
        folder: absolute, that relative paths in `options` start from.
        run_limit: seconds after which a run is stopped.
    """

    factory: str
    options: tuple[str, ...]
    folder: Path
    run_limit: float

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`.

        Raises:
            MethodError: the session can't be made. It is tried once a process.
        """
        with _ONE_AT_A_TIME:
            if self in _unmade:
                raise MethodError(_unmade[self])
            if self in _hosts and _hosts[self].has_ended():
                self._end()
            if self not in _hosts:
                try:
                    _hosts[self] = _Host(self, log)
                except MethodError as error:
                    _unmade[self] = str(error)
                    raise
            start = time.monotonic()
            try:
                failure = _hosts[self].run(folder, log, self.run_limit, cancelled)
            except CancelledError:
                self._end()
                raise
            except LateError:
                _, troubles = self._end()
                raise LateError(self.run_limit, *troubles) from None
            except _AnswerError as error:
                seconds = time.monotonic() - start
                _, troubles = self._end()
                return Ended(", ".join((str(error), *troubles)), seconds)
            except (EOFError, OSError):
                seconds = time.monotonic() - start
                told = describe_end(*self._end())
                failure = ", ".join(filter(None, ("the session's process ended", told)))
                return Ended(failure, seconds)
            return Ended(failure, time.monotonic() - start)

    def close(self) -> None:
        """Ends the session's process, if this process has one."""
        with _ONE_AT_A_TIME:
            _unmade.pop(self, None)
            if self in _hosts:
                self._end()

    def _end(self) -> tuple[dict[str, Any], list[str]]:
        return _hosts.pop(self).end()


class _AnswerError(Exception):
    """The process of a session says something else than what it was asked."""


class _Host:
    """The process that a session lives in.

    What comes from it may be anything: the session's code can write to its socket, or fork.
    """

    def __init__(self, method: SessionMethod, log: Path) -> None:
        """Starts it, and waits until the session is made.

        Raises:
            MethodError: that can't be, or takes too long.
        """
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._asked = 0  # the number of the question that is open; to be made is the first
        # It finds its modules where this process does; its environment, which programs that it
        # starts have too, is the user's.
        program = (
            f"import sys; sys.path[:] = {sys.path}; "
            "from evaluation.sessions import main; main(sys.argv[1:])"
        )
        command = (sys.executable, "-c", program, str(theirs.fileno()), os.fspath(log))
        with theirs:
            self._process = start_process(
                (*command, method.factory, *method.options),
                method.folder,
                log,
                handed_on=[theirs.fileno()],
            )
        try:
            failure = self._hear(_MAKE_SECONDS)
        except (LateError, _AnswerError) as error:
            failure = str(error)
        except (EOFError, OSError):
            failure = "its process ended"
        if failure is not None:
            self.end()
            raise MethodError(f"{method.factory} makes no session: {failure}")

    def run(
        self, folder: Path, log: Path, limit: float, cancelled: Callable[[], bool]
    ) -> str | None:
        """Segments a case, and returns what failed, in a line; None where nothing did.

        Raises:
            LateError: it takes too long.
            CancelledError: `cancelled` said so.
            EOFError, OSError: the process has ended.
            _AnswerError: the process says something else.
        """
        self._asked += 1
        content = {"number": self._asked, "folder": os.fspath(folder), "log": os.fspath(log)}
        self._socket.settimeout(limit)
        try:
            self._socket.sendall(f"{json.dumps(content)}\n".encode())
        except TimeoutError:
            raise LateError(limit) from None
        return self._hear(limit, cancelled)

    def has_ended(self) -> bool:
        """Says whether the process has ended since its last run, or says what nobody asked."""
        ready, _, _ = select.select([self._socket], [], [], 0)
        return bool(ready)

    def end(self) -> tuple[dict[str, Any], list[str]]:
        """Ends the process; returns what `end_process` does."""
        self._socket.close()
        return end_process(self._process)

    def _hear(self, limit: float, cancelled: Callable[[], bool] = lambda: False) -> str | None:
        """Returns the failure that the answer to the open question tells, None for none."""
        deadline = time.monotonic() + limit
        told = bytearray()
        while len(told) < LONGEST_MESSAGE and not told.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise LateError(limit)
            if cancelled():
                raise CancelledError
            self._socket.settimeout(min(left, ASK_SECONDS))
            try:
                part = self._socket.recv(LONGEST_MESSAGE - len(told))
            except TimeoutError:
                continue
            if not part:
                raise EOFError
            told += part
        try:
            answer = json.loads(told)
        except (ValueError, RecursionError):
            answer = None
        match answer:
            case {"number": self._asked, "failure": None | str() as failure}:
                return failure
        found = printable(told[:60].decode(errors="replace").strip())
        raise _AnswerError(
            f"found {found} from the session's process, expected answer {self._asked}"
        )

"""Methods that only tests need; they can be pickled, as worker processes want it."""

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evaluation.loop import Ended
from tests.evaluation import toy_method


@dataclass(frozen=True)
class Toy:
    """The toy method, in the process that runs it."""

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        start = time.perf_counter()
        toy_method.main(folder)
        return Ended(None, time.perf_counter() - start)


@dataclass(frozen=True)
class Nothing:
    """A method that writes nothing."""

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        return Ended(None, 0.0)


@dataclass(frozen=True)
class Full:
    """The toy method, on a disk that is full for one case.

    Attributes:
        case: the name of that case, without its suffix.
    """

    case: str

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        start = time.perf_counter()
        (path,) = folder.glob("inputs/*.npz")
        if path.stem == self.case:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        toy_method.main(folder)
        return Ended(None, time.perf_counter() - start)


@dataclass(frozen=True)
class Deadly:
    """The toy method, but one case kills the process that runs it.

    Attributes:
        case: the name of that case, without its suffix.
    """

    case: str

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        start = time.perf_counter()
        (path,) = folder.glob("inputs/*.npz")
        if path.stem == self.case:
            os.kill(os.getpid(), signal.SIGKILL)
        toy_method.main(folder)
        return Ended(None, time.perf_counter() - start)

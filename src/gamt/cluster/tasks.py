"""The driver: which worker gets which task, and what becomes of a task whose worker is lost.

A worker is a process that does one task at a time, so that a process which ends shows which task
it was that ended it.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

from gamt.text import describe_error, printable

logger = logging.getLogger("gamt")

A = TypeVar("A")
R = TypeVar("R")

MOST_LOSSES = 2
"""After so many workers lost a task is given up."""

_WAIT_SECONDS = 0.5
"""How long to wait before looking for new workers, and for those that are gone."""


class ClusterError(Exception):
    """Workers that can't be had, or none that can do the tasks."""


class LostError(ClusterError):
    """What leads to all workers is lost; what was at work ends."""


class Unfit(Exception):  # noqa: N818 - a state, as it is told
    """Raised by a task: its worker can't do tasks of this kind, which another one may."""


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at a task, as its function sees it.

    Attributes:
        number: 1 for the first attempt.
        cancelled: says whether nobody wants the result any more; the task is to end soon then.
    """

    number: int
    cancelled: Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Task(Generic[A, R]):
    """What a worker is to do.

    Attributes:
        name: for people.
        function: of a module that workers have, too. What it raises costs an attempt, as the loss
            of a worker does; `Unfit` costs the worker.
        argument: can be pickled.
    """

    name: str
    function: Callable[[A, Call], R]
    argument: A


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that does one task at a time.

    Attributes:
        name: no other has, or had, the same.
        host: the machine.
    """

    name: str
    host: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker that ended with its task.

    Attributes:
        reason: what is known of that, in some words.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Raised:
    """That a task's function raised an exception, which itself may be nothing to be sent.

    Attributes:
        reason: the exception, in one line.
        unfit: whether it was `Unfit`.
    """

    reason: str
    unfit: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Describes an exception."""
        if isinstance(error, Unfit):
            return cls(printable(str(error)), unfit=True)
        return cls(describe_error(error))


@dataclass(frozen=True, slots=True)
class Lost:
    """A task that was given up.

    Attributes:
        reasons: how each attempt ended.
    """

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.reasons)


class Workers(Protocol):
    """Processes, on one machine or many, that come and go."""

    def there(self) -> Sequence[Worker]:
        """Returns those that take tasks, whether they have one or not.

        Raises:
            LostError: they can't be reached any more.
        """

    def more_to_come(self) -> bool:
        """Says whether others have been asked for."""

    def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
        """Gives a task to a worker that has none; `number` is that of the attempt."""

    def wait(self, seconds: float) -> Iterable[tuple[Worker, Any]]:
        """Waits until a task has ended, or for so many seconds.

        Returns:
            Workers whose task has ended, each with what its function returned, or `Raised`, or
            `Gone`.

        Raises:
            LostError: they can't be reached any more.
        """

    def close(self) -> None:
        """Ends all tasks, and the workers that were started for them."""


@dataclass(slots=True, eq=False)
class _Attempt:
    task: Task[Any, Any]
    reasons: list[str] = field(default_factory=list)
    worker: Worker | None = None  # that it was lost with

    @property
    def number(self) -> int:
        return len(self.reasons) + 1

    def avoids(self, worker: Worker, fit: Sequence[Worker]) -> bool:
        """Says whether to wait for another host, or at least for another worker."""
        if self.worker is None:
            return False
        if any(one.host != self.worker.host for one in fit):
            return worker.host == self.worker.host
        return worker == self.worker and len(fit) > 1


def run_tasks(
    tasks: Iterable[Task[A, R]], make_workers: Callable[[], Workers]
) -> Generator[tuple[Task[A, R], R | Lost], None, None]:
    """Yields tasks as they are done, each with its result, or why there is none.

    A task whose worker is lost is tried once more, on another host where there is one, or else by
    another worker. One that is `Unfit` gets no other task. However the generator ends, the workers
    are closed.

    Args:
        tasks: taken one by one, when a worker is free for it: those that take longest first.
        make_workers: makes what they run on; called when the first result is asked for.

    Raises:
        ClusterError: the workers are lost, or all of them are unfit.
    """
    workers = make_workers()
    try:
        yield from _Driver(tasks, workers).run()
    finally:
        workers.close()


class _Driver:
    def __init__(self, tasks: Iterable[Task[Any, Any]], workers: Workers) -> None:
        self._tasks = iter(tasks)
        self._again: deque[_Attempt] = deque()
        self._workers = workers
        self._at_work: dict[Worker, _Attempt] = {}
        self._unfit: dict[Worker, str] = {}

    def run(self) -> Iterator[tuple[Task[Any, Any], Any]]:
        while self._hand_out() or self._at_work:
            for worker, outcome in self._workers.wait(_WAIT_SECONDS):
                attempt = self._at_work.pop(worker)
                match outcome:
                    case Raised(reason, unfit=True):
                        self._unfit[worker] = f"{worker.host}: {reason}"
                        logger.warning("worker %s gets no more tasks: %s", worker.name, reason)
                        self._again.append(attempt)
                        continue
                    case Raised(reason) | Gone(reason):
                        pass
                    case _:
                        yield attempt.task, outcome
                        continue
                attempt.reasons.append(f"on {worker.host}: {reason}")
                attempt.worker = worker
                if len(attempt.reasons) < MOST_LOSSES:
                    name = attempt.task.name
                    logger.warning("%s is begun again: on %s: %s", name, worker.host, reason)
                    self._again.append(attempt)
                else:
                    yield attempt.task, Lost(tuple(attempt.reasons))

    def _hand_out(self) -> bool:
        """Gives each free worker a task; returns whether there are others that wait for one."""
        there = self._workers.there()
        fit = [one for one in there if one not in self._unfit]
        for worker in fit:
            if worker not in self._at_work:
                attempt = self._next(worker, fit)
                if attempt is None:
                    continue
                self._at_work[worker] = attempt
                self._workers.start(worker, attempt.task, attempt.number)
        if not self._again:
            self._peek()
        waits = bool(self._again)
        if waits and there and not fit and not self._at_work and not self._workers.more_to_come():
            reasons = "; ".join(dict.fromkeys(self._unfit[one] for one in there))
            raise ClusterError(f"no worker can do this: {reasons}")
        return waits

    def _next(self, worker: Worker, fit: Sequence[Worker]) -> _Attempt | None:
        """Returns what a worker is to do next: first what another one has lost."""
        if not self._again:
            self._peek()
        for attempt in self._again:
            if not attempt.avoids(worker, fit):
                self._again.remove(attempt)
                return attempt
        task = next(self._tasks, None)
        return None if task is None else _Attempt(task)

    def _peek(self) -> None:
        """Takes one task from those that were not tried yet, if there is one."""
        task = next(self._tasks, None)
        if task is not None:
            self._again.append(_Attempt(task))

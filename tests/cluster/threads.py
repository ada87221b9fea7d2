"""Workers that tests steer: threads of this process, which can be lost at will."""

import queue
from collections.abc import Iterable, Sequence
from threading import Event, Thread
from typing import Any

from gamt.cluster.tasks import Call, Gone, Raised, Task, Worker


class Threads:
    """Workers in threads of this process.

    Attributes:
        lost: names of the tasks whose next attempt is lost with its worker, as often as named.
        unfit: hosts whose workers can do nothing.
        failing: names of workers, "0" the first, on which whatever is done fails.
        started: what was started: names of tasks with the worker's host and the attempt's number.
        closed: whether `close` was called.
    """

    def __init__(
        self,
        *hosts: str,
        lost: Sequence[str] = (),
        unfit: Sequence[str] = (),
        failing: Sequence[str] = (),
    ) -> None:
        self.lost = list(lost)
        self.unfit = unfit
        self.failing = failing
        self.started: list[tuple[str, str, int]] = []
        self.closed = False
        self._workers = [Worker(f"{number}", host) for number, host in enumerate(hosts or ("h",))]
        self._ended: queue.SimpleQueue[tuple[Worker, Any]] = queue.SimpleQueue()
        self._cancelled = Event()

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.started]

    def there(self) -> Sequence[Worker]:
        return list(self._workers)

    def more_to_come(self) -> bool:
        return False

    def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
        self.started.append((task.name, worker.host, number))
        if task.name in self.lost:
            self.lost.remove(task.name)
            self._ended.put((worker, Gone("the node is gone")))
            self._workers.remove(worker)
            self._workers.append(Worker(f"after {worker.name}", worker.host))
        elif worker.name in self.failing:
            self._ended.put((worker, Raised("no room")))
        elif worker.host in self.unfit:
            self._ended.put((worker, Raised("no engine", unfit=True)))
        else:
            Thread(target=self._work, args=(worker, task, number)).start()

    def wait(self, seconds: float) -> Iterable[tuple[Worker, Any]]:
        try:
            return [self._ended.get(timeout=seconds)]
        except queue.Empty:
            return []

    def close(self) -> None:
        self._cancelled.set()
        self.closed = True

    def _work(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
        try:
            outcome = task.function(task.argument, Call(number, self._cancelled.is_set))
        except BaseException as error:
            outcome = Raised.of(error)
        self._ended.put((worker, outcome))

"""A worker without a process of its own, for what is quicker than a process starts."""

from collections.abc import Iterator, Sequence
from typing import Any

from gamt.cluster.tasks import Call, Raised, Task, Worker

_WORKER = Worker("this", "here")


class ThisProcess:
    """The one worker that is this process: a task is done when it is given.

    Attributes:
        given: the names of the tasks that were given to it.
        closed: whether it was closed.
    """

    def __init__(self) -> None:
        """Gives it nothing yet."""
        self.given: list[str] = []
        self.closed = False
        self._outcome: Any = None

    def there(self) -> Sequence[Worker]:
        """See `gamt.cluster.tasks.Workers`."""
        return [_WORKER]

    def more_to_come(self) -> bool:
        """See `gamt.cluster.tasks.Workers`."""
        return False

    def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
        """See `gamt.cluster.tasks.Workers`."""
        self.given.append(task.name)
        try:
            self._outcome = task.function(task.argument, Call(number, lambda: False))
        except Exception as error:
            self._outcome = Raised.of(error)

    def wait(self, seconds: float) -> Iterator[tuple[Worker, Any]]:
        """See `gamt.cluster.tasks.Workers`."""
        yield _WORKER, self._outcome

    def close(self) -> None:
        """See `gamt.cluster.tasks.Workers`."""
        self.closed = True

"""Workers that are processes of this machine."""

import multiprocessing as mp
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import takewhile
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from gamt.cluster.tasks import Call, Gone, Raised, Task, Worker

END_SECONDS = 10
"""How long a worker may take to end, and with it what it runs, before it is killed."""


def list_gpus() -> tuple[str, ...]:
    """Returns the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    found = _list_all_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not found or visible is None:
        return found
    named = tuple(one.strip() for one in visible.split(","))
    # As CUDA does: what comes after one that isn't there doesn't count.
    return tuple(takewhile(lambda one: one not in ("", "-1"), named))


@cache
def _list_all_gpus() -> tuple[str, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    found = subprocess.run(("nvidia-smi", "-L"), capture_output=True, text=True, check=False)
    return tuple(re.findall(r"^GPU (\d+):", found.stdout, re.MULTILINE))


class LocalWorkers:
    """So many processes, which are started when there is a task for them.

    They end with this one, however that ends. One that has ended is replaced.
    """

    def __init__(
        self,
        count: int,
        at_end: Callable[[], None] | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        """Starts none yet.

        Args:
            count: how many.
            at_end: a module's function, which a worker calls before it ends; None for nothing.
            gpus: those that workers get in turn, as CUDA_VISIBLE_DEVICES names them; none leaves
                that to the environment.
        """
        # The count of threads is read when libraries load, so it has to be there before.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
        self._at_end = at_end
        self._host = socket.gethostname()
        self._environments: list[dict[str, str]] = [
            {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}
            for place in range(count)
        ]
        self._started = 0
        self._places: dict[Worker, int] = {}
        self._processes: dict[Worker, _Process] = {}
        self._busy: set[Worker] = set()
        for place in range(count):
            self._add(place)

    def there(self) -> Sequence[Worker]:
        """See `gamt.cluster.tasks.Workers`."""
        return list(self._places)

    def more_to_come(self) -> bool:
        """See `gamt.cluster.tasks.Workers`."""
        return False

    def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
        """See `gamt.cluster.tasks.Workers`."""
        if worker not in self._processes:
            environment = self._environments[self._places[worker]]
            self._processes[worker] = _Process(self._at_end, environment)
        self._busy.add(worker)
        # One that has ended meanwhile, `wait` finds.
        with suppress(OSError):
            self._processes[worker].connection.send((task.function, task.argument, number))

    def wait(self, seconds: float) -> Iterator[tuple[Worker, Any]]:
        """See `gamt.cluster.tasks.Workers`."""
        connections = {one: self._processes[one].connection for one in self._busy}
        ready = wait(connections.values(), seconds)
        for worker in [one for one, connection in connections.items() if connection in ready]:
            self._busy.remove(worker)
            try:
                outcome = self._processes[worker].connection.recv()
            except (EOFError, OSError):
                outcome = Gone(self._processes.pop(worker).describe_end())
                self._add(self._places.pop(worker))
            yield worker, outcome

    def close(self) -> None:
        """See `gamt.cluster.tasks.Workers`."""
        processes = [*self._processes.values()]
        self._processes.clear()
        self._busy.clear()
        for one in processes:
            one.process.terminate()
        for one in processes:
            one.process.join(END_SECONDS)
            if one.process.is_alive():
                one.process.kill()  # what it runs ends with it
                one.process.join()
            one.release()

    def _add(self, place: int) -> None:
        self._started += 1
        self._places[Worker(f"process {self._started}", self._host)] = place


class _Process:
    def __init__(self, at_end: Callable[[], None] | None, environment: Mapping[str, str]) -> None:
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # For its temporary files, copies of scans perhaps: they are gone however it ends.
        self._folder = tempfile.mkdtemp(prefix="gamt-")
        arguments = (theirs, at_end, environment, self._folder)
        self.process = context.Process(target=_work, args=arguments)
        try:
            self.process.start()
        except BaseException:
            self.release()
            raise
        finally:
            theirs.close()

    def describe_end(self) -> str:
        """Returns how the process ended."""
        self.connection.close()  # for one that waits for what to do
        self.process.join(END_SECONDS)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
            self.process.join()
        self.release()
        if status is None:
            return "its process closed its connection"
        if status < 0:
            name = signal.Signals(-status).name
            return f"its process was ended by {name}" + (
                " (out of memory?)" if name == "SIGKILL" else ""
            )
        return f"its process ended with exit status {status}"

    def release(self) -> None:
        """Gives back what the process, which has ended, was given."""
        self.connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _work(
    connection: "Connection[Any, Any]",
    at_end: Callable[[], None] | None,
    environment: Mapping[str, str],
    folder: str,
) -> None:
    """Does tasks until the connection ends."""
    os.environ.update(environment)
    tempfile.tempdir = folder
    end = _end_with_parent(at_end, folder)
    while True:
        try:
            function, argument, number = connection.recv()
        except EOFError:
            end()
        try:
            outcome = function(argument, Call(number, lambda: False))
        except BaseException as error:
            outcome = Raised.of(error)
        try:
            connection.send(outcome)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            connection.send(Raised(f"its result can't be sent: {error}"))


def _end_with_parent(at_end: Callable[[], None] | None, folder: str) -> Callable[[], NoReturn]:
    """Makes this process end, with what it runs, on SIGTERM or when its parent has ended.

    SIGINT is ignored: Ctrl-C reaches the parent too, which ends its workers.

    Returns:
        What ends this process.
    """

    def end() -> NoReturn:
        if at_end is not None:
            at_end()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: end())
    parent = mp.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        end()

    threading.Thread(target=watch, daemon=True).start()
    return end

"""Dask as separate processes: `dask scheduler` and `dask worker`, each to be killed by itself."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from tests.cluster.waiting import PATIENCE_S, wait_until

DASK = str(Path(sys.executable).with_name("dask"))


class DaskProcesses:
    """A Dask scheduler and its workers; use it as a context manager, which ends them all.

    A worker is two processes: a nanny, and the one that computes, which the nanny starts again when
    it dies.

    Attributes:
        address: the scheduler's, as `--scheduler` takes it. The same after a restart.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        protocol: Literal["tcp", "tls"] = "tcp",
    ) -> None:
        """Starts the scheduler, and waits until it answers.

        Args:
            folder: for the logs, NAME.log, and for what workers spill.
            host: the scheduler's IP address.
            prefix: words before the scheduler's command line, such as another host's.
            protocol: "tls" with certificates that the environment names.
        """
        self._folder = folder
        port = find_free_port()
        self._options = ("--protocol", protocol, "--host", host, "--port", str(port))
        self._prefix = prefix
        self._running: dict[str, psutil.Popen] = {}
        self.address = f"{protocol}://{host}:{port}"
        self.start_scheduler()

    def start_scheduler(self) -> None:
        """Starts the scheduler again, after `kill_scheduler`, and waits until it answers."""
        words = (*self._prefix, DASK, "scheduler", *self._options, "--no-dashboard")
        self._start("scheduler", words)
        self._wait_for("scheduler", "Scheduler at:")

    def start_worker(self, name: str, *options: str, prefix: Sequence[str] = ()) -> None:
        """Starts a worker with one thread. It takes seconds until the scheduler knows it.

        Args:
            name: its name in the logs and in Dask.
            options: further ones of `dask worker`.
            prefix: words before its command line, such as another host's.
        """
        words = (*prefix, DASK, "worker", self.address, "--name", name, "--nthreads", "1")
        words = (*words, "--no-dashboard", *options)
        self._start(name, words)

    def start_workers(self, *names: str) -> None:
        """Starts workers, and waits until the scheduler knows all of them."""
        for name in names:
            self.start_worker(name)
        for name in names:
            self.wait_for_worker(name)

    def wait_for_worker(self, name: str) -> None:
        """Waits until the scheduler knows a worker."""
        self._wait_for(name, "Registered to:")

    def kill_scheduler(self) -> None:
        """Kills the scheduler with -9."""
        kill(self._running.pop("scheduler"))

    def kill_worker(self, name: str) -> None:
        """Kills a worker with -9, and leaves what it runs; its nanny starts it again."""
        self.wait_for_worker(name)
        kill(find_worker(self._running[name]))

    def kill_nanny(self, name: str) -> None:
        """Kills a worker for good, its nanny first, and leaves what it runs."""
        self.wait_for_worker(name)
        nanny = self._running.pop(name)
        worker = find_worker(nanny)
        kill(nanny)
        kill(worker)

    def stop(self) -> None:
        """Kills all, and what they run."""
        while self._running:
            _, process = self._running.popitem()
            for one in (process, *process.children(recursive=True)):
                kill(one)

    def log(self, name: str) -> str:
        """Returns what the scheduler, or the worker of that name, has logged."""
        return (self._folder / f"{name}.log").read_text()

    def __enter__(self) -> "DaskProcesses":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, name: str, words: Sequence[str]) -> None:
        # Dask's own files, too: of those in /tmp it removes what looks left, to another host all.
        environment = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(self._folder)}
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = psutil.Popen(
                words, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def _wait_for(self, name: str, line: str) -> None:
        """Waits until a process has logged a line; raises an error where it ends before."""

        def is_logged() -> bool:
            if self._running[name].poll() is not None:
                raise ChildProcessError(f"{name} ended: {self.log(name)}")
            return line in self.log(name)

        wait_until(is_logged, f"{line!r} of {name}")


def find_worker(process: psutil.Process) -> psutil.Process:
    """Returns the process that computes, below that of `dask worker`."""
    (found,) = (
        one for one in process.children() if "multiprocessing.spawn" in " ".join(one.cmdline())
    )
    return found


def kill(process: psutil.Process) -> None:
    """Kills a process with -9, if it still is, and waits until it is gone."""
    try:
        process.kill()
        process.wait(PATIENCE_S)
    except psutil.NoSuchProcess:
        pass


def find_free_port() -> int:
    """Returns a TCP port that nothing listens on.

    It is none of those that systems give away themselves, from 32768 on or higher, which others
    may be given until it is used.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("", port)):
            return port

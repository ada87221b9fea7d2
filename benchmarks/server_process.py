"""A server as users start it, in a process of its own, on a free port of this machine."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

START_SECONDS = 60.0
"""A server that doesn't answer by then has failed."""

STOP_SECONDS = 20.0
"""A server that is asked to end, and hasn't by then, is killed."""

POLL_SECONDS = 0.01
"""Between two questions whether the server answers."""


class ServerError(RuntimeError):
    """A server that does not start, or ended by itself."""


class ServerProcess:
    """`gamt serve`, or another server of gamt's, from its start to the end of a `with` block.

    Attributes:
        port: that it listens on, on 127.0.0.1.
        url: the address for clients.
        log: what it prints goes there.
        start_seconds: from its start until /healthz answered.
        start_cpu_seconds: the processor time of that, whatever else the machine does.
    """

    def __init__(self, log: Path, options: Sequence[str] = (), command: str = "serve") -> None:
        """Prepares to start; `options` are those of the command, beside `--port`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.start_seconds = self.start_cpu_seconds = 0.0
        self._command = [sys.executable, "-m", "gamt", command, "--port", str(self.port), *options]

    def __enter__(self) -> "ServerProcess":
        start = time.perf_counter()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        while not self._is_healthy():
            if not self.is_alive or time.perf_counter() - start > START_SECONDS:
                self._stop()
                raise ServerError(f"the server did not start: {self.last_lines()}")
            time.sleep(POLL_SECONDS)
        self.start_seconds = time.perf_counter() - start
        self.start_cpu_seconds = self.cpu_seconds
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has had so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def resident_bytes(self) -> int:
        """Memory that the process holds now.

        Raises:
            ServerError: it has ended.
        """
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            raise ServerError(f"the server has ended: {self.last_lines()}") from None

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process has held so far, as Linux counts it.

        Raises:
            ServerError: it has ended.
        """
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise ServerError(f"the server has ended: {self.last_lines()}")

    def last_lines(self, count: int = 5) -> str:
        """Returns the end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

"""A running `gamt annotate`, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

SECONDS = 60.0
"""What it may take at most until it has printed its address, or until it has ended."""

ADDRESS = re.compile(r"http://\S+/annotate/\?key=\S+")


class AnnotateServer:
    """`gamt annotate`, from its start to the end of a `with` block.

    Attributes:
        url: that it prints, with the key.
        port: that it listens on.
        process: it.
    """

    def __init__(self, scans: Sequence[Path], home: Path, port: int = 0) -> None:
        """Prepares to start.

        Args:
            scans: to open.
            home: where it keeps what it doesn't save.
            port: to listen on; 0 for any.
        """
        command = [sys.executable, "-m", "gamt", "annotate", *map(str, scans)]
        self._command = [*command, "--no-browser", "--port", str(port)]
        self._variables = os.environ | {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
        self.url = ""
        self.port = port

    def __enter__(self) -> "AnnotateServer":
        self.process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._variables,
        )
        printed = ""
        assert self.process.stdout
        while not (found := ADDRESS.search(printed)):
            line = self.process.stdout.readline()
            assert line, f"ended with {self.process.wait()}: {printed}"
            printed += line
        self.url = found.group()
        self.port = urlsplit(self.url).port or 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """Ends it without a warning."""
        self.process.kill()
        self.process.wait(SECONDS)
        if self.process.stdout:
            self.process.stdout.close()

    def stop(self) -> tuple[int, str]:
        """Ends it as Ctrl-C does; returns its exit status, and what it prints then."""
        self.process.send_signal(signal.SIGINT)
        printed, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, printed

"""Watches what code does that reads spoilt files: nothing but read, and write its results."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

FORBIDDEN = (
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "os.startfile",
    ),
    *("subprocess.Popen", "pty.spawn", "ctypes.dlopen", "ctypes.dlsym", "ctypes.string_at"),
    *("ctypes.cdata", "os.chmod", "os.chown", "os.link", "os.symlink", "os.kill"),
    *("code.__new__", "function.__new__", "marshal.loads", "sys.settrace", "sys.setprofile"),
    *("shutil.copyfile", "webbrowser.open", "urllib.Request", "mmap.__new__"),
)
"""Events of `sys.audit` that reading a file has no reason for; those of sockets are too."""

_IMPORTING = "<frozen importlib._bootstrap_external>"
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """An audit hook, which can be put on once and never be taken off.

    Attributes:
        seen: what happened that must not, in a line each, since it was last emptied.
        outputs: the folder that may be written to; None while nobody watches.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.outputs: Path | None = None
        self._packages: frozenset[str] = frozenset()
        sys.addaudithook(self._look)

    def begin(self, outputs: Path) -> None:
        """Watches from now on; whatever honest files need to be imported is imported already."""
        self.seen.clear()
        self._packages = frozenset(name.partition(".")[0] for name in sys.modules)
        self.outputs = outputs

    def end(self) -> list[str]:
        """Watches no more; returns what was seen."""
        self.outputs = None
        return list(self.seen)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.outputs is None:
            return
        if event == "sys.settrace" and threading.gettrace() is not None:
            return  # coverage is measured, in every new thread too
        if event == "marshal.loads" and sys._getframe(1).f_code.co_filename == _IMPORTING:
            return  # a module that nothing has needed so far; where it is from is looked at below
        if event in FORBIDDEN or event.startswith("socket."):
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "import" and arguments[0].partition(".")[0] not in self._packages:
            self.seen.append(f"import of {arguments[0]}")
        elif event == "exec" and arguments[0].co_filename.startswith("<"):
            if not arguments[0].co_filename.startswith("<frozen"):
                self.seen.append(f"exec of {arguments[0].co_filename}")
        elif event in _CHANGES or (event == "open" and arguments[2] & _WRITES):
            self._check_place(event, arguments[0])

    def _check_place(self, event: str, place: object) -> None:
        outputs = os.fspath(self.outputs or "")
        if isinstance(place, int):  # a file that is open already
            return
        path = os.path.abspath(os.fsdecode(place))  # type: ignore[arg-type]  # noqa: PTH100
        if path != outputs and not path.startswith(outputs + os.sep):
            self.seen.append(f"{event} of {path}")

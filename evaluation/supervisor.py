"""Runs one command and ends, with it, every process that it has started.

    python -I -S supervisor.py FOLDER STOP COMMAND...

`evaluation.processes` starts this file as a process of its own for every run of a method; it needs
nothing but the standard library, so that it starts in some hundredths of a second.

- On Linux the process is a *subreaper* (prctl(2)): whatever the command starts stays below it,
  also what is detached by `setsid` or by forking twice, so that all of it can be found and killed.
  Elsewhere that is what is below it at the time, and the command's process group.
- Between it and the command there is another process, the guard, so that a method which kills its
  parent doesn't kill what cleans up.
- It ends everything when the command ends, and when its standard input does: the worker closes
  that at the time limit, and the kernel when the worker dies, however it does.
- What the command prints goes to the standard error, which is the log; what is beyond `LOG_BYTES`
  is read, and dropped.

Its standard output gets three lines of JSON objects: an empty one when the command starts; when it
ends, its exit status, negative for a signal, None where it isn't known, and how many seconds it
ran; and in the end, how many processes could not be ended.

A method is no prisoner: it runs as the user who evaluates it, and can kill this process too. Then
what it has started may go on; its run is told to have failed, and why. Only a container or another
user's account keeps a method in.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

LOG_BYTES = 10_000_000
"""The most of what one run prints that is kept."""

END_SECONDS = 10.0
"""How long to try to end all processes: some may be waiting for a disk, or be another user's."""

STOP_SECONDS = 60.0
"""How long the command STOP may take."""

_SET_CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h


def main(folder: str, stop: list[str], command: list[str]) -> None:
    """Runs a command, ends what is left of it, and prints how it ended.

    Args:
        folder: where to run it.
        stop: another command, which ends what the command has started elsewhere, such as a
            container; called unless the command ends by itself with exit status 0. May be empty.
        command: with its arguments.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    printed, prints = os.pipe()
    told, tells = os.pipe()
    _tell({})
    start = time.monotonic()
    if os.fork() == 0:
        _guard(command, folder, prints, tells)
    os.close(prints)
    os.close(tells)
    log = _Log()
    status = _wait(printed, told, log)
    _tell({"status": status, "seconds": time.monotonic() - start})
    left = _end_all()
    log.drain(printed)
    if stop and status != 0:
        _call(stop)
    _tell({"left": left})


def _tell(content: dict[str, float | None]) -> None:
    # Where the worker has died there is nobody to tell, and all the more to end.
    with suppress(OSError):
        os.write(1, f"{json.dumps(content)}\n".encode())


def _guard(command: list[str], folder: str, prints: int, tells: int) -> None:
    """Runs the command, tells its exit status, and ends this process."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # The supervisor alone is to see that its standard input ends.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    try:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(prints, 1)
            os.dup2(prints, 2)
            try:
                os.chdir(folder)
                os.execvp(command[0], command)
            except OSError as error:
                os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
        os.close(prints)
        _, ended = os.waitpid(pid, 0)
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        os.write(tells, str(os.waitstatus_to_exitcode(ended)).encode())
    finally:
        os._exit(0)


def _wait(printed: int, told: int, log: "_Log") -> int | None:
    """Waits for the command to end; returns its exit status, None where it is to be ended."""
    ready = [0, printed, told]
    while True:
        now, _, _ = select.select(ready, [], [])
        if printed in now and not log.copy(printed):
            ready.remove(printed)  # closed, and nothing more to come
        if told in now:
            status = os.read(told, 100)
            return int(status) if status else None
        if 0 in now and not os.read(0, 100):
            return None


class _Log:
    """The standard error, up to `LOG_BYTES`."""

    def __init__(self) -> None:
        self.left = LOG_BYTES

    def copy(self, source: int) -> bool:
        """Copies what there is to read; returns whether there may be more."""
        content = os.read(source, 1 << 16)
        self._write(content[: max(self.left, 0)])
        if 0 <= self.left < len(content):
            self._write(f"\n[the log ends here: a run may print {LOG_BYTES} bytes]\n".encode())
            self.left = -1
        elif self.left > 0:
            self.left -= len(content)
        return bool(content)

    def drain(self, source: int) -> None:
        """Copies the rest, once nobody writes any more."""
        os.set_blocking(source, False)
        with suppress(BlockingIOError):
            while self.copy(source):
                pass

    def _write(self, content: bytes) -> None:
        # A disk that is full costs the log, not the run.
        with suppress(OSError):
            while content:
                content = content[os.write(2, content) :]


def _end_all() -> int:
    """Kills all that is below this process; returns how many processes are left."""
    deadline = time.monotonic() + END_SECONDS
    # Held first: what runs could start others faster than they are found.
    held: set[int] = set()
    while (found := _descendants() - held) and time.monotonic() < deadline:
        for pid in found:
            _send(pid, signal.SIGSTOP)
        held |= found
    while True:
        left = _descendants()
        for pid in left:
            _send(pid, signal.SIGKILL)
        if _reap() or time.monotonic() > deadline:
            return len(_descendants())
        time.sleep(0.002)


def _send(pid: int, number: int) -> None:
    # It may be gone, or another user's.
    with suppress(OSError):
        os.kill(pid, number)


def _reap() -> bool:
    """Takes note of children that have ended; returns whether there are none any more."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return True
    return False


def _descendants() -> set[int]:
    """Returns all processes below this one that have not ended."""
    children: dict[int, list[int]] = {}
    ended = set()
    for pid, parent, state in _processes():
        children.setdefault(parent, []).append(pid)
        if state.startswith("Z"):
            ended.add(pid)
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        new = [pid for pid in children.get(todo.pop(), []) if pid not in found]
        found.update(new)
        todo += new
    return found - ended


def _processes() -> list[tuple[int, int, str]]:
    """Returns (process, its parent, its state) of all processes."""
    if sys.platform != "linux":
        with os.popen("ps -A -o pid=,ppid=,state=,comm=") as table:
            rows = [line.split(maxsplit=3) for line in table]
        # `ps` itself is new each time.
        return [(int(pid), int(parent), state) for pid, parent, state, name in rows if name != "ps"]
    processes = []
    with os.scandir("/proc") as entries:
        names = [one.name for one in entries if one.name.isdecimal()]
    for name in names:
        # pathlib would double the time that this takes to start.
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
            # The program's name, in brackets, may hold anything.
            state, parent = file.read().rpartition(b")")[2].split()[:2]
            processes.append((int(name), int(parent), state.decode()))
    return processes


def _call(command: list[str]) -> None:
    """Runs a command, which gets `STOP_SECONDS`."""
    import subprocess

    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=STOP_SECONDS,
        )


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:])

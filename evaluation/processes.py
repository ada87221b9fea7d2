"""Commands that are run with a limit, each below a supervisor that ends all that it has started."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluation import supervisor
from evaluation.loop import CancelledError, Ended, LateError

ASK_SECONDS = 0.2
"""How often to ask whether a result is still wanted."""

_WAIT_SECONDS = 10
"""How long ending what runs may take where someone waits for it."""

_START_SECONDS = 60
"""How long a supervisor may take to start, on a machine that has much else to do."""

_LONGEST_END = supervisor.END_SECONDS + supervisor.STOP_SECONDS + 10
"""Seconds after which a supervisor that was told to end is late itself."""

_running: list[subprocess.Popen[bytes]] = []
"""The supervisors of this process."""


def stop_running() -> None:
    """Ends what this process runs; for a process that is about to end.

    Were it not called, the same would happen a moment later: see `evaluation.supervisor`.
    """
    running = _running.copy()
    for process in running:
        _tell_to_end(process)
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_WAIT_SECONDS)


def run_command(
    command: Sequence[str],
    folder: Path,
    log: Path,
    limit: float,
    cancelled: Callable[[], bool],
    stop: Sequence[str] = (),
) -> Ended:
    """Runs a command, and ends all that it has started.

    Args:
        command: with its arguments.
        folder: where to run it.
        log: what it prints is added to this file.
        limit: seconds after which it is stopped. Neither what it takes to start the supervisor nor
            what it takes to end what the command leaves counts.
        cancelled: says whether nobody wants the result any more.
        stop: a command that ends what runs elsewhere, such as a container.

    Raises:
        LateError: it was still running at the limit.
        CancelledError: `cancelled` said so.
        OSError: the log can't be written, or no process started.
    """
    process = start_process(command, folder, log, stop)
    assert process.stdout is not None
    try:
        _hear(process, _START_SECONDS, cancelled)
        start = time.monotonic()
        told = _hear(process, limit, cancelled)
        seconds = time.monotonic() - start
    except BaseException:
        _tell_to_end(process)
        process.stdout.close()
        _running.remove(process)
        raise
    ended, troubles = end_process(process)
    for line in (told or b"").splitlines():
        ended |= json.loads(line)
    if told is None:
        raise LateError(limit, *troubles)
    return Ended(describe_end(ended, troubles), ended.get("seconds", seconds))


def start_process(
    command: Sequence[str],
    folder: Path,
    log: Path,
    stop: Sequence[str] = (),
    handed_on: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a supervisor; see `evaluation.supervisor`.

    Args:
        command: with its arguments.
        folder: where to run it.
        log: what it prints is added to this file.
        stop: a command that ends what runs elsewhere, such as a container.
        handed_on: file descriptors that the command has, too.

    Returns:
        It, to be ended by `end_process`.

    Raises:
        OSError: the log can't be written, or no process started.
    """
    arguments = (os.fspath(folder), json.dumps(stop), *command)
    with log.open("ab") as file:
        process = subprocess.Popen(
            # Neither the folder nor the environment of the method is where it finds its modules.
            (sys.executable, "-I", "-S", supervisor.__file__, *arguments),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
            pass_fds=handed_on,
        )
    _running.append(process)
    return process


def end_process(process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], list[str]]:
    """Ends a supervisor and all that it has started.

    Returns:
        What it has told meanwhile, and what went wrong with ending it, each in some words.
    """
    assert process.stdout is not None
    _tell_to_end(process)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_LONGEST_END)
    process.kill()  # one that hangs itself
    with process.stdout:
        lines = process.stdout.read().splitlines()
    _running.remove(process)
    ended: dict[str, Any] = {}
    for line in lines:
        ended |= json.loads(line)
    if "left" not in ended:
        return ended, [
            "killed the process that it was started by, and what it has started may still run"
        ]
    return ended, [f"left {ended['left']} processes that can't be ended"] if ended["left"] else []


def describe_end(ended: Mapping[str, Any], troubles: Sequence[str]) -> str | None:
    """Returns how a command ended that was not stopped, in a line; None for well."""
    told = []
    if ended.get("status") is None and "left" in ended:
        told = ["killed the process that it was started by"]
    elif ended.get("status"):
        told = [f"exit status {ended['status']}"]
    return ", ".join([*troubles, *told]) or None


def _hear(
    process: subprocess.Popen[bytes], seconds: float, cancelled: Callable[[], bool]
) -> bytes | None:
    """Returns a supervisor's next line, empty where there is none; None if it takes too long.

    Raises:
        CancelledError: `cancelled` said so.
    """
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([process.stdout], [], [], min(left, ASK_SECONDS))
        if ready:
            return process.stdout.readline()
        if cancelled():
            raise CancelledError
    return None


def _tell_to_end(process: subprocess.Popen[bytes]) -> None:
    """Closes a supervisor's standard input, upon which it ends all that it has started."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()

"""What can be evaluated: gamt itself, containers, any command, and sessions.

Methods are small and can be pickled; what is large is loaded where they run, once a process.
"""

import gzip
import hashlib
import json
import logging
import math
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import platformdirs
from filelock import FileLock

from evaluation import METHOD_SPECS, sessions, supervisor
from evaluation.loop import CancelledError, Ended, LateError, Method
from evaluation.sessions import LONGEST_MESSAGE, FactoryError, find_factory, read_options
from gamt.cli.console import LogFormatter, UsageError
from gamt.cli.options import PredictOptions
from gamt.cluster.local import list_gpus
from gamt.identity import hash_files, identify_code, identify_model, list_versions
from gamt.text import printable

if TYPE_CHECKING:
    from gamt.segmenters import Segmenter
    from gamt.settings import Settings

MEMORY = "32G"
"""What a container may use (docs/challenge.md, 1)."""

WAIT_SECONDS = 10
"""How long ending what runs may take where someone waits for it."""

_START_SECONDS = 60
"""How long a supervisor may take to start, on a machine that has much else to do."""

_MAKE_SECONDS = 3600.0
"""How long a session may take to be made, such as to fetch its model first."""

_ASK_SECONDS = 0.2
"""How often to ask whether a result is still wanted."""

_LONGEST_END = supervisor.END_SECONDS + supervisor.STOP_SECONDS + 10
"""Seconds after which a supervisor that was told to end is late itself."""

_ONE_AT_A_TIME = threading.Lock()
"""For runs of gamt in this process, and of its sessions."""

_running: list[subprocess.Popen[bytes]] = []
"""The supervisors of this process."""

_hosts: dict["SessionMethod", "_Host"] = {}
"""The sessions of this process, which stay between runs."""

_unmade: dict["SessionMethod", str] = {}
"""Why sessions of this process can't be made: to try takes long, and every case would."""


class MethodError(ValueError):
    """A method that doesn't exist or can't run here."""


@dataclass(frozen=True, slots=True)
class ParsedMethod:
    """A method, and what goes with it.

    Attributes:
        method: to be run.
        team: the name that goes with it.
        identity: what would give other results if it changed.
        release: to be called when nothing will be run any more.
        fitness: to be checked on other machines before they run it; None where any machine can.
    """

    method: Method
    team: str
    identity: str
    release: Callable[[], None] = lambda: None
    fitness: "Fitness | None" = None


@dataclass(frozen=True, slots=True)
class Fitness:
    """What another machine needs for the same results.

    Attributes:
        spec: the method's text.
        folder: absolute, that relative paths in `spec` start from.
        identity: of the method.
        evaluator: of the code that runs and scores it.
    """

    spec: str
    folder: Path
    identity: str
    evaluator: str

    def check(self) -> None:
        """Makes this machine ready for the method, as `parse_method` does.

        Raises:
            MethodError: it can't run the method, or would run another one.
        """
        parsed = _parse(self.spec, self.folder, math.inf, parallel=True, identity=self.identity)
        for found, expected in (
            (parsed.identity, self.identity),
            (identify_evaluator(), self.evaluator),
        ):
            if found != expected:
                pairs = zip_longest(found.split(), expected.split(), fillvalue="nothing")
                first, other = next((one, two) for one, two in pairs if one != two)
                raise MethodError(
                    f"the method or the evaluator is another one here: found {first}, expected "
                    f"{other}; give workers the same code and files, and start them again"
                )


@cache
def identify_evaluator() -> str:
    """Returns parts of the SHA-256 of all code that scores, as this process first saw it."""
    code = hash_files(sorted(Path(__file__).parent.glob("*.py")))
    return f"evaluation ({code}) {identify_code()}"


def parse_method(
    spec: str, run_limit: float, parallel: bool = False, remove_image: bool = False
) -> ParsedMethod:
    """Makes what a text describes ready to run.

    Args:
        spec: see `METHOD_SPECS`.
        run_limit: seconds after which one run is stopped.
        parallel: whether several cases are run at a time; containers then don't all bear the
            team's name.
        remove_image: whether `release` removes a container's image, as the official script does.

    Raises:
        MethodError: nothing is described, or it can't be run here.
    """
    return _parse(spec, Path.cwd(), run_limit, parallel, remove_image)


@dataclass(frozen=True, slots=True)
class Command:
    """A shell command, run in the case's folder.

    Attributes:
        command: for ``sh -c``.
        run_limit: seconds after which a run is stopped.
    """

    command: str
    run_limit: float

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`."""
        return _run(("sh", "-c", self.command), folder, log, self.run_limit, cancelled)


@dataclass(frozen=True, slots=True)
class Container:
    """An image run by docker or podman with the challenge's command (docs/challenge.md, 1).

    Attributes:
        engine: "docker" or "podman".
        image: its name with the tag.
        name: the container's; several that run at a time have a random number added.
        parallel: whether several run at a time.
        run_limit: seconds after which a run is stopped.
    """

    engine: str
    image: str
    name: str
    parallel: bool
    run_limit: float

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`."""
        name = f"{self.name}_{uuid.uuid4().hex}" if self.parallel else self.name
        stop = (self.engine, "container", "rm", "--force", name)
        return _run(self.command(folder, name), folder, log, self.run_limit, cancelled, stop)

    def command(self, folder: Path, name: str) -> list[str]:
        """Returns the command line."""
        number = choose_gpu()
        gpu = {
            "docker": ["--gpus", f"device={number}"],
            "podman": ["--device", f"nvidia.com/gpu={number}"],
        }
        return [
            *(self.engine, "container", "run"),
            *([] if number is None else gpu[self.engine]),
            *("-m", MEMORY, "--name", name, "--rm"),
            *("-v", f"{folder}/inputs/:/workspace/inputs/"),
            *("-v", f"{folder}/outputs/:/workspace/outputs/"),
            *(self.image, "/bin/bash", "-c", "sh predict.sh"),
        ]


@dataclass(frozen=True, slots=True)
class Apptainer:
    """An image run by apptainer as docker would run it.

    Attributes:
        image: the file.
        run_limit: seconds after which a run is stopped.
    """

    image: str
    run_limit: float

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`."""
        number = choose_gpu()
        command = [
            # Nothing of the user's: no environment, home or temporary files; a container may
            # write to itself.
            *("apptainer", "exec", "--containall", "--cleanenv", "--writable-tmpfs"),
            *([] if number is None else ["--nv", "--env", f"CUDA_VISIBLE_DEVICES={number}"]),
            *("--bind", f"{folder}/inputs/:/workspace/inputs/"),
            *("--bind", f"{folder}/outputs/:/workspace/outputs/"),
            *("--pwd", "/workspace", self.image, "/bin/bash", "-c", "sh predict.sh"),
        ]
        return _run(command, folder, log, self.run_limit, cancelled)


@dataclass(frozen=True, slots=True)
class InProcess:
    """gamt in this process, which spares its start at every run.

    Works in any thread. Threads of one process wait for each other, because they share the
    segmenter and the log; a run's time then includes the waiting.

    Attributes:
        options: of ``gamt predict``.
        folder: absolute, that relative paths in `options` start from; a worker may run in another.
        run_limit: seconds after which a run ends with its next batch of slices, and is late.
    """

    options: tuple[str, ...]
    folder: Path
    run_limit: float

    def load(self) -> "tuple[Segmenter, Settings, Path | None]":
        """Returns the segmenter, loaded once a process, the settings and the cache's folder."""
        return _load_gamt(self.options, self.folder)

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`.

        Raises:
            MethodError: the segmenter can't be loaded.
        """
        from gamt.predict import COMPLETE, predict_folder
        from gamt.segmenters import SegmenterError
        from gamt.segmenters.checkpoints import CheckpointError

        began = time.monotonic()
        (path,) = (folder / "inputs").iterdir()
        with _ONE_AT_A_TIME, _logged(log):
            try:
                segmenter, settings, cache = self.load()
            except (SegmenterError, CheckpointError) as error:
                raise MethodError(f"gamt {shlex.join(self.options)}: {error}") from error
            start = time.monotonic()

            def is_late() -> bool:
                return time.monotonic() - start > self.run_limit

            results = predict_folder(
                path,
                folder / "outputs",
                segmenter,
                settings,
                start,
                cache=cache,
                finish=lambda: is_late() or cancelled(),
            )
            if cancelled():
                raise CancelledError
            if is_late():
                raise LateError(self.run_limit)
        (result,) = results
        trouble = result.error or result.status
        failure = None if trouble in (COMPLETE, None) else printable(trouble)
        return Ended(failure, time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class SessionMethod:
    """A session (`evaluation.sessions`), in a process of its own that stays between runs.

    The process is started by the first run, and anew where it has ended or a run was late. A run's
    time is without that.

    Attributes:
        factory: what makes the session, ``package.module:factory``.
        options: KEY=VALUE, the factory's keyword arguments.
        folder: absolute, that relative paths in `options` start from.
        run_limit: seconds after which a run is stopped.
    """

    factory: str
    options: tuple[str, ...]
    folder: Path
    run_limit: float

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`.

        Raises:
            MethodError: the session can't be made. It is tried once a process.
        """
        with _ONE_AT_A_TIME:
            if self in _unmade:
                raise MethodError(_unmade[self])
            if self in _hosts and _hosts[self].has_ended():
                self._end()
            if self not in _hosts:
                try:
                    _hosts[self] = _Host(self, log)
                except MethodError as error:
                    _unmade[self] = str(error)
                    raise
            start = time.monotonic()
            try:
                failure = _hosts[self].run(folder, log, self.run_limit, cancelled)
            except CancelledError:
                self._end()
                raise
            except LateError:
                _, troubles = self._end()
                raise LateError(self.run_limit, *troubles) from None
            except _AnswerError as error:
                seconds = time.monotonic() - start
                _, troubles = self._end()
                return Ended(", ".join((str(error), *troubles)), seconds)
            except (EOFError, OSError):
                seconds = time.monotonic() - start
                told = _describe_end(*self._end())
                failure = ", ".join(filter(None, ("the session's process ended", told)))
                return Ended(failure, seconds)
            return Ended(failure, time.monotonic() - start)

    def close(self) -> None:
        """Ends the session's process, if this process has one."""
        with _ONE_AT_A_TIME:
            _unmade.pop(self, None)
            if self in _hosts:
                self._end()

    def _end(self) -> tuple[dict[str, Any], list[str]]:
        return _hosts.pop(self).end()


class _AnswerError(Exception):
    """The process of a session says something else than what it was asked."""


class _Host:
    """The process that a session lives in.

    What comes from it may be anything: the session's code can write to its socket, or fork.
    """

    def __init__(self, method: SessionMethod, log: Path) -> None:
        """Starts it, and waits until the session is made.

        Raises:
            MethodError: that can't be, or takes too long.
        """
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._asked = 0  # the number of the question that is open; to be made is the first
        # It finds its modules where this process does; its environment, which programs that it
        # starts have too, is the user's.
        program = (
            f"import sys; sys.path[:] = {sys.path}; "
            "from evaluation.sessions import main; main(sys.argv[1:])"
        )
        command = (sys.executable, "-c", program, str(theirs.fileno()))
        with theirs:
            self._process = _start(
                (*command, method.factory, *method.options),
                method.folder,
                log,
                handed_on=[theirs.fileno()],
            )
        try:
            failure = self._hear(_MAKE_SECONDS)
        except (LateError, _AnswerError) as error:
            failure = str(error)
        except (EOFError, OSError):
            failure = "its process ended"
        if failure is not None:
            self.end()
            raise MethodError(f"{method.factory} makes no session: {failure}")

    def run(
        self, folder: Path, log: Path, limit: float, cancelled: Callable[[], bool]
    ) -> str | None:
        """Segments a case, and returns what failed, in a line; None where nothing did.

        Raises:
            LateError: it takes too long.
            CancelledError: `cancelled` said so.
            EOFError, OSError: the process has ended.
            _AnswerError: the process says something else.
        """
        self._asked += 1
        content = {"number": self._asked, "folder": os.fspath(folder), "log": os.fspath(log)}
        self._socket.settimeout(limit)
        try:
            self._socket.sendall(f"{json.dumps(content)}\n".encode())
        except TimeoutError:
            raise LateError(limit) from None
        return self._hear(limit, cancelled)

    def has_ended(self) -> bool:
        """Says whether the process has ended since its last run, or says what nobody asked."""
        ready, _, _ = select.select([self._socket], [], [], 0)
        return bool(ready)

    def end(self) -> tuple[dict[str, Any], list[str]]:
        """Ends the process; returns what `_end` does."""
        self._socket.close()
        return _end(self._process)

    def _hear(self, limit: float, cancelled: Callable[[], bool] = lambda: False) -> str | None:
        """Returns the failure that the answer to the open question tells, None for none."""
        deadline = time.monotonic() + limit
        told = bytearray()
        while len(told) < LONGEST_MESSAGE and not told.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise LateError(limit)
            if cancelled():
                raise CancelledError
            self._socket.settimeout(min(left, _ASK_SECONDS))
            try:
                part = self._socket.recv(LONGEST_MESSAGE - len(told))
            except TimeoutError:
                continue
            if not part:
                raise EOFError
            told += part
        try:
            answer = json.loads(told)
        except (ValueError, RecursionError):
            answer = None
        match answer:
            case {"number": self._asked, "failure": None | str() as failure}:
                return failure
        found = printable(told[:60].decode(errors="replace").strip())
        raise _AnswerError(
            f"found {found} from the session's process, expected answer {self._asked}"
        )


def choose_gpu() -> str | None:
    """Returns the GPU to give to a container: this process's first; None where there is none."""
    return next(iter(list_gpus()), None)


def stop_running() -> None:
    """Ends what this process runs; for a process that is about to end.

    Were it not called, the same would happen a moment later: see `evaluation.supervisor`.
    """
    running = _running.copy()
    for process in running:
        _tell_to_end(process)
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(WAIT_SECONDS)


def _run(
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
    """
    process = _start(command, folder, log, stop)
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
    ended, troubles = _end(process)
    for line in (told or b"").splitlines():
        ended |= json.loads(line)
    if told is None:
        raise LateError(limit, *troubles)
    return Ended(_describe_end(ended, troubles), ended.get("seconds", seconds))


def _start(
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


def _end(process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], list[str]]:
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


def _describe_end(ended: Mapping[str, Any], troubles: Sequence[str]) -> str | None:
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
        ready, _, _ = select.select([process.stdout], [], [], min(left, _ASK_SECONDS))
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


def _split(text: str) -> list[str]:
    """Returns the words of a method, as a shell would split it.

    Raises:
        MethodError: a quotation has no end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise MethodError(f"found the method {text!r}: {error}") from error


def _parse(
    spec: str,
    folder: Path,
    run_limit: float,
    parallel: bool,
    remove_image: bool = False,
    identity: str | None = None,
) -> ParsedMethod:
    """Does what `parse_method` says, with relative paths in `spec` from an absolute folder on.

    Where the method's identity is known, what is here already need not be loaded.
    """
    kind, _, rest = spec.partition(":")
    if spec.split()[:1] == ["gamt"]:
        options = tuple(_split(spec)[1:])
        in_process = InProcess(options, folder, run_limit)
        parsed = ParsedMethod(in_process, "gamt", _identify_gamt(options, folder))
    elif kind == "command" and rest.strip():
        parsed = ParsedMethod(Command(rest.strip(), run_limit), "command", spec)
    elif kind == "session" and rest.strip():
        parsed = _find_session(_split(rest), folder, run_limit)
    elif kind in ("docker", "podman") and rest:
        parsed = _find_container(kind, rest, folder, run_limit, parallel, remove_image, identity)
    elif kind == "apptainer" and rest:
        _require(kind)
        image = folder / rest
        if not image.is_file():
            raise MethodError(f"{spec}: no such file; 'apptainer build {rest} ...' makes one")
        parsed = _use_apptainer(image, image, run_limit)
    else:
        raise MethodError(f"found the method {spec!r}, expected one of:\n{METHOD_SPECS}")
    return replace(parsed, fitness=Fitness(spec, folder, parsed.identity, identify_evaluator()))


def _find_session(words: Sequence[str], folder: Path, run_limit: float) -> ParsedMethod:
    """Finds a session's factory, which nothing is made with here."""
    name, *options = words
    try:
        factory = find_factory(name)
        read_options(factory, options)
    except FactoryError as error:
        raise MethodError(str(error)) from error
    module, _, attribute = name.partition(":")
    method = SessionMethod(name, tuple(options), folder, run_limit)
    identity = f"{shlex.join(words)} {_identify_adapter(module)}"
    return ParsedMethod(method, attribute, identity, method.close)


def _identify_adapter(name: str) -> str:
    """Returns the SHA-256 of a session's code, and the versions of what it names in `PACKAGES`.

    Args:
        name: of an imported module. Its code is all of its package, or the module alone where that
            is in none; and `evaluation.sessions`, which says what a session is shown.
    """
    module, package = sys.modules[name], sys.modules[name.partition(".")[0]]
    # A folder without an __init__.py may hold anything beside.
    whole = hasattr(package, "__path__") and package.__file__ is not None
    source = getattr(package if whole else module, "__file__", None)
    code = {Path(sessions.__file__)}
    if source is not None:  # as of what is built into Python
        code.update(Path(source).parent.rglob("*.py") if whole else [Path(source)])
    versions = list_versions(getattr(module, "PACKAGES", ()))
    return " ".join([f"({hash_files(sorted(code))})", *versions])


def _find_container(
    engine: str,
    rest: str,
    folder: Path,
    run_limit: float,
    parallel: bool,
    remove_image: bool,
    identity: str | None,
) -> ParsedMethod:
    """Finds an image; a tarball is loaded, and named by the challenge's rule.

    Where the engine isn't installed, but apptainer is, as on clusters, that runs the tarball.
    """
    tarball = folder / rest
    is_file = tarball.is_file()
    if is_file and shutil.which(engine) is None and shutil.which("apptainer") is not None:
        return _use_apptainer(_build_for_apptainer(tarball), tarball, run_limit)
    _require(engine)
    if is_file:
        # CVPR25_iter_eval.py: the team is the file's name up to the first dot, and the image the
        # team up to the first underscore.
        team = tarball.name.split(".")[0].lower()
        image = f"{team.split('_')[0]}:latest"
        if identity is None or _find_image(engine, image) != identity:
            _ask(engine, "image", "load", "-i", os.fspath(tarball))
        hint = f"the challenge runs {image} of a file with the name {tarball.name}"
    else:
        name, _, tag = rest.rpartition("/")[2].partition(":")
        team, image = name.lower(), rest if tag else f"{rest}:latest"
        hint = "expected a local image, or a tarball"
    found = _find_image(engine, image)
    if found is None:
        raise MethodError(f"{engine} has no image {image}; {hint}")
    name = re.sub(r"[^\w.-]", "_", team)
    if not parallel:
        # One that an evaluation which was killed has left behind.
        _ask(engine, "container", "rm", "--force", name)

    def release() -> None:
        if remove_image:
            _ask(engine, "rmi", image)

    return ParsedMethod(Container(engine, image, name, parallel, run_limit), team, found, release)


def _find_image(engine: str, image: str) -> str | None:
    """Returns the identity of a local image; None where there is none."""
    try:
        return _ask(engine, "image", "inspect", "--format", "{{.Id}}", image)
    except MethodError:
        return None


def _use_apptainer(image: Path, source: Path, run_limit: float) -> ParsedMethod:
    """Returns the method that runs an image, whose identity is that of the file it came from."""
    method = Apptainer(os.fspath(image.resolve()), run_limit)
    return ParsedMethod(method, source.name.split(".")[0].lower(), f"{source.stat().st_mtime}")


def _build_for_apptainer(tarball: Path) -> Path:
    """Returns what apptainer makes of a tarball of `docker save`; it is kept in the user's cache.

    Raises:
        MethodError: that can't be.
    """
    status = tarball.stat()
    known = f"{tarball.resolve()} {status.st_size} {status.st_mtime_ns}"
    cache = platformdirs.user_cache_path("gamt") / "images"
    image = cache / f"{hashlib.sha256(os.fsencode(known)).hexdigest()[:16]}.sif"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(image.with_suffix(".lock")):
            if not image.exists():
                with tempfile.TemporaryDirectory(dir=cache) as name:
                    archive, built = Path(name) / "image.tar", Path(name) / "image.sif"
                    with _open_tarball(tarball) as packed, archive.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
                    _ask("apptainer", "build", os.fspath(built), f"docker-archive://{archive}")
                    built.replace(image)
    except OSError as error:
        raise MethodError(f"{tarball}: can't be made an image of apptainer: {error}") from error
    return image


def _open_tarball(tarball: Path) -> IO[bytes]:
    """Opens a tarball, which may be compressed, as the tar that it holds."""
    with tarball.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(tarball) if is_compressed else tarball.open("rb")  # type: ignore[return-value]


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise MethodError(f"{program} isn't installed")


def _ask(*command: str) -> str:
    """Returns what a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise MethodError(f"'{shlex.join(command)}' failed: {said}")
    return done.stdout.strip()


def _identify_gamt(words: Sequence[str], folder: Path) -> str:
    """Returns the version, the code's SHA-256, and what options and environment choose.

    Of a network that is the SHA-256 of its files, too, and the versions of what computes it.
    """
    from gamt.segmenters import SegmenterError
    from gamt.segmenters.checkpoints import CheckpointError
    from gamt.settings import SettingsError

    try:
        options = PredictOptions.parse(words)
        settings = options.choose_settings()
        name = options.choose_segmenter()
        weights = options.weights and os.fspath(folder / options.weights)
        model = identify_model(name, weights)
    except (UsageError, SettingsError, SegmenterError, CheckpointError) as error:
        raise MethodError(f"gamt {shlex.join(words)}: {error}") from error
    chosen = {"segmenter": name}
    chosen |= {name: getattr(options, name) for name in ("weights", "device", "dtype")}
    return " ".join([identify_code(), str(chosen), *model, str(settings)])


@cache
def _load_gamt(words: tuple[str, ...], folder: Path) -> "tuple[Segmenter, Settings, Path | None]":
    options = PredictOptions.parse(words)
    options = replace(
        options,
        weights=options.weights and os.fspath(folder / options.weights),
        cache=options.cache and folder / options.cache,
    )
    settings = options.choose_settings()
    return options.load_segmenter(settings), settings, options.cache


@contextmanager
def _logged(log: Path) -> Iterator[None]:
    """Adds gamt's log to a file."""
    logger = logging.getLogger("gamt")
    handler = logging.FileHandler(log)
    handler.setFormatter(LogFormatter("%(levelname)s %(message)s"))
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, level, logger.propagate = before
        logger.setLevel(level)
        handler.close()

"""What can be evaluated: gamt itself, containers, any command, and sessions.

Methods are small and can be pickled; what is large is loaded where they run, once a process.
"""

import logging
import math
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation import METHOD_SPECS, sessions
from evaluation.containers import Container, find_apptainer_image, find_image
from evaluation.loop import CancelledError, Ended, LateError, Method, MethodError
from evaluation.processes import run_command
from evaluation.session_method import SessionMethod
from evaluation.sessions import FactoryError, find_factory, read_options
from gamt.cli.console import LogFormatter, UsageError
from gamt.cli.options import PredictOptions
from gamt.identity import hash_files, identify_code, identify_model, list_versions
from gamt.text import printable

if TYPE_CHECKING:
    from gamt.segmenters import Segmenter
    from gamt.settings import Settings

_ONE_AT_A_TIME = threading.Lock()
"""For runs of gamt in this process."""


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
        return run_command(("sh", "-c", self.command), folder, log, self.run_limit, cancelled)


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
        image = find_image(kind, rest, folder, run_limit, parallel, identity)
        parsed = ParsedMethod(image.method, image.team, image.identity)
        if remove_image and isinstance(image.method, Container):
            parsed = replace(parsed, release=image.method.remove_image)
    elif kind == "apptainer" and rest:
        image = find_apptainer_image(rest, folder, run_limit)
        parsed = ParsedMethod(image.method, image.team, image.identity)
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

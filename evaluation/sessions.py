"""Sessions as methods: any object with the interface of nnInteractive's, taken through cases.

`evaluation.session_method` starts a process with `main` once a worker, so that a model is loaded
once, and what hangs or crashes takes no worker with it. It makes the session, and then segments
case after case as it is told through a socket.
"""

import importlib
import inspect
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamt.io.case import Case, read_case, write_segmentation
from gamt.prompts import Box, ClassPrompts
from gamt.segmenters.door import describe_exception
from gamt.text import printable

LONGEST_MESSAGE = 1_000_000
"""The most bytes of a message between a worker and a session's process. A failure of each of 255
classes (`gamt.segmenters.door.FAULT_CHARACTERS`) is shorter, however its characters are written."""

Bounds = list[list[int]]
"""Half-open bounds [[a, b], [c, d], [e, f]] in array indices, in the order of the array's axes."""


class FactoryError(ValueError):
    """A factory that can't be found or doesn't take its arguments, or a session it can't make."""


class Session(Protocol):
    """What is taken of nnInteractive's interface; arrays and coordinates are (z, y, x).

    Where it has an attribute `supported_interactions`, as nnInteractive's session does, with False
    under "bbox3d", it takes boxes on one slice alone.
    """

    def set_image(self, image: npt.NDArray[Any], image_properties: dict[str, Any], /) -> object:
        """Takes an image (1, z, y, x), with "spacing" in mm (z, y, x) among its properties."""

    def set_target_buffer(self, target_buffer: npt.NDArray[np.uint8], /) -> object:
        """Takes the array (z, y, x) that predictions are written to, not 0 inside."""

    def reset_interactions(self) -> object:
        """Begins another target: forgets all prompts, and empties the target buffer."""

    def add_initial_seg_interaction(
        self, initial_seg: npt.NDArray[np.uint8], run_prediction: bool = False
    ) -> object:
        """Begins another target with a segmentation (z, y, x), 1 inside."""

    def add_bbox_interaction(
        self, bbox_coords: Bounds, include_interaction: bool, run_prediction: bool = True
    ) -> object:
        """Adds a box; one that is one voxel thick is 2-D."""

    def add_point_interaction(
        self,
        coordinates: tuple[int, int, int],
        include_interaction: bool,
        run_prediction: bool = True,
    ) -> object:
        """Adds a point (z, y, x)."""


class Replay:
    """Gives the prompts of the challenge's cases to a session (docs/peers.md).

    An image is set once for all runs of its case. In each run, class by class, a session begins
    with the class's previous prediction, if that isn't empty, is given the box and all clicks so
    far in their order, and predicts once, with the last of these. Where several classes claim a
    voxel, the one with the highest label has it. nnInteractive's own program for the challenge does
    the same, but that it gives every box as it is in 3-D, and predicts classes without a prompt.
    """

    def __init__(self, session: Session) -> None:
        """Takes the session; nobody else may use it."""
        self._session = session
        self._image: npt.NDArray[Any] | None = None  # the one that is set
        self._spacing_mm: tuple[float, ...] = ()
        self._target = np.zeros((0, 0, 0), np.uint8)

    def segment(self, case: Case) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
        """Segments a case.

        Returns:
            (z, y, x) labels, and why classes failed, by label. The mask of such a class is that of
            the previous round, or empty without one.
        """
        labels = np.zeros(case.image.shape, np.uint8)
        failures = {}
        for prompts in case.prompts:
            previous = None if case.previous is None else case.previous == prompts.label
            try:
                self._set_image(case)
                self._segment_class(prompts, previous)
                mask: npt.NDArray[np.bool_] | None = self._target != 0
            except (Exception, SystemExit) as error:
                traceback.print_exc()
                failures[prompts.label] = describe_exception(error)
                mask = previous
                self._image = None  # whatever state the session is in, it begins anew
            if mask is not None:
                labels[mask] = prompts.label
        return labels, failures

    def _set_image(self, case: Case) -> None:
        before = self._image
        is_set = (
            before is not None
            and before.dtype == case.image.dtype
            and self._spacing_mm == case.spacing_mm
            and (before is case.image or np.array_equal(before, case.image))
        )
        if not is_set:
            self._image = None
            self._session.set_image(case.image[None], {"spacing": case.spacing_mm})
            self._target = np.zeros(case.image.shape, np.uint8)
            self._session.set_target_buffer(self._target)
        # The run's own, so that its further classes don't compare all voxels again.
        self._image, self._spacing_mm = case.image, case.spacing_mm

    def _segment_class(self, prompts: ClassPrompts, previous: npt.NDArray[np.bool_] | None) -> None:
        """Predicts a class into the target buffer."""
        session = self._session
        if previous is not None and previous.any():
            session.add_initial_seg_interaction(previous.astype(np.uint8), run_prediction=False)
        else:
            session.reset_interactions()
        clicks = prompts.clicks
        if prompts.box is not None:
            session.add_bbox_interaction(
                self._bounds(prompts.box), include_interaction=True, run_prediction=not clicks
            )
        for click in clicks:
            session.add_point_interaction(
                click.voxel,
                include_interaction=click.positive,
                run_prediction=click is clicks[-1],
            )

    def _bounds(self, box: Box) -> Bounds:
        supported = getattr(self._session, "supported_interactions", {})
        drawn = box if supported.get("bbox3d", True) else box.section
        return [[low, high] for low, high in zip(drawn.low, drawn.high, strict=True)]


def find_factory(name: str) -> Callable[..., Any]:
    """Imports what makes a session.

    Args:
        name: ``package.module:factory``.

    Raises:
        FactoryError: there is none under this name.
    """
    module, separator, attribute = name.partition(":")
    if not (separator and module and attribute):
        raise FactoryError(f"found the session {name!r}, expected package.module:factory")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise FactoryError(f"{name} can't be imported: {describe_exception(error)}") from error
    if not callable(factory):
        found = type(factory).__name__
        raise FactoryError(f"found {name} of type {found}, expected what makes a session")
    return factory  # type: ignore[no-any-return]


def read_options(factory: Callable[..., Any], words: Sequence[str]) -> dict[str, str]:
    """Returns the keyword arguments for a factory, from words of the form KEY=VALUE.

    Raises:
        FactoryError: a word has another form or comes twice, or the factory doesn't take it, needs
            more or doesn't say what it takes.
    """
    options = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not (separator and key):
            raise FactoryError(f"found {word!r}, expected KEY=VALUE for the session")
        if key in options:
            raise FactoryError(f"found {key}= twice, expected one value for the session")
        options[key] = value
    try:
        inspect.signature(factory).bind(**options)
    except (TypeError, ValueError) as error:  # the latter of some that are written in C
        raise FactoryError(f"the session's factory: {error}") from error
    return options


def make_session(name: str, words: Sequence[str]) -> Session:
    """Makes a session.

    Args:
        name: ``package.module:factory``.
        words: KEY=VALUE, keyword arguments for the factory.

    Raises:
        FactoryError: it can't be made, or lacks a method.
    """
    factory = find_factory(name)
    options = read_options(factory, words)
    try:
        session: Session = factory(**options)
    except FactoryError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise FactoryError(describe_exception(error)) from error
    methods = [one for one in vars(Session) if not one.startswith("_")]
    missing = [one for one in methods if not callable(getattr(session, one, None))]
    if missing:
        found = f"the type {type(session).__name__} without {missing[0]!r}"
        raise FactoryError(f"found {found}, expected nnInteractive's methods")
    return session


def segment_folder(replay: Replay, folder: Path, name: str) -> str | None:
    """Segments the one file in ``inputs/`` into ``outputs/``, unless all classes failed.

    Args:
        replay: of the session.
        folder: holds the two folders.
        name: of the method, for the output.

    Returns:
        What failed, in a line; None where nothing did.
    """
    (path,) = (folder / "inputs").iterdir()
    try:
        case = read_case(path)
        labels, failures = replay.segment(case)
        by_text: dict[str, list[str]] = {}
        for label, text in failures.items():
            by_text.setdefault(text, []).append(str(label))
        failure = "; ".join(f"class {', '.join(by_text[text])}: {text}" for text in by_text) or None
        if len(failures) < len(case.prompts):
            output = folder / "outputs" / path.name
            write_segmentation(output, labels, name, failure or "complete")
    except Exception as error:
        traceback.print_exc()
        return describe_exception(error)
    return failure


def main(arguments: Sequence[str]) -> None:
    """Makes the session, says so, and segments until the socket is closed.

    Args:
        arguments: the socket's file descriptor, the file that what is printed is added to until a
            message names another, ``package.module:factory``, and KEY=VALUE for it.

    Each message is a JSON object in a line. From the worker: `number`, counted from 1; `folder`, of
    the method; and `log`, the file for what the session prints. To the worker: the
    `number` that is answered, 0 when the session is made; and `failure`, a text or None.
    """
    descriptor, log, name, *words = arguments
    _print_to(log)
    connection = socket.socket(fileno=int(descriptor))

    def tell(number: int, failure: str | None) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        content = {"number": number, "failure": failure}
        connection.sendall(f"{json.dumps(content)}\n".encode())

    try:
        replay = Replay(make_session(name, words))
    except FactoryError as error:
        tell(0, printable(str(error)))
        return
    tell(0, None)
    for line in connection.makefile("rb"):
        told = json.loads(line)
        _print_to(told["log"])
        tell(told["number"], segment_folder(replay, Path(told["folder"]), name))


def _print_to(log: str) -> None:
    """Adds what this process prints from now on to a file."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    # Below Python: libraries in C print, too.
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)

"""The one place where a segmenter's answers come in, and where what is wrong with them is found."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, Segmenter, SliceMask, Tracker
from gamt.text import printable

logger = logging.getLogger("gamt")

FAULT_CHARACTERS = 300
"""Length of a fault's text at most: torch tells the state of a whole GPU (docs/constants.md)."""

CERTAIN = 1000.0
"""Log-odds whose probability is 0 or 1 exactly, in float64 as well: the logistic function of -746
is 0. Larger ones say no more (docs/constants.md)."""


Call = Literal["encode", "decode", "track"]
"""A method of a segmenter."""

BeforeCall = Callable[[Call, int], None]
"""Is told, before a segmenter is called, what for and for how many slices; what it raises ends the
work."""


class SegmenterFault(Exception):  # noqa: N818 - it is what came in place of an answer
    """What a segmenter did instead of answering, in one line.

    For example ``RuntimeError: no luck`` or ``found logits of shape (3, 4), expected (5, 6)``.
    """


class Door:
    """Asks a segmenter, and gives for each question an answer to rely on, or a fault.

    Whatever the segmenter raises is a fault, `SystemExit` and lack of memory included; only
    `KeyboardInterrupt`, which is the user's, goes through. A batch that fails is asked again one
    by one, so that only the guilty question remains without an answer.

    Attributes:
        segmenter: the 2-D model.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        """Takes the segmenter."""
        self.segmenter = segmenter
        self._name = segmenter.name

    def encode(
        self,
        slices: npt.NDArray[np.uint8],
        wanted: int,
        before_repeat: BeforeCall = lambda call, slices: None,
    ) -> list[Embedding | SegmenterFault]:
        """Encodes slices.

        An embedding is opaque to everything but its segmenter. What is wrong with one shows when
        it is decoded.

        Args:
            slices: (N, rows, columns) or (N, rows, columns, 3) uint8, 0..255.
            wanted: how many of them, the first, are asked for now. The others are encoded ahead,
                and not asked for again where the batch fails.
            before_repeat: called before each call that repeats a part of a failed one; what it
                raises ends this call.

        Returns:
            An embedding or a fault for each slice, in order.
        """

        def encode(which: Sequence[int]) -> Sequence[Embedding]:
            return self.segmenter.encode(
                slices if len(which) == len(slices) else slices[list(which)]
            )

        return self._ask(
            "encode", range(len(slices)), wanted, encode, lambda one: one, before_repeat
        )

    def decode(
        self,
        embeddings: Sequence[Embedding | SegmenterFault],
        prompts: Sequence[SlicePrompt],
        shape: tuple[int, int],
        multimask: bool | None = None,
        before_repeat: BeforeCall = lambda call, slices: None,
    ) -> list[SliceMask | SegmenterFault]:
        """Segments slices of one shape.

        Infinite logits are no fault: they say that the segmenter is certain. They come back as
        the finite ones that say the same (`CERTAIN`), because two of them can't be added up.

        Args:
            embeddings: from `encode`. Where there is a fault, it is the answer.
            prompts: one per embedding.
            shape: of the slices (rows, columns).
            multimask: as for `Segmenter.decode`.
            before_repeat: as for `encode`.

        Returns:
            A mask or a fault for each prompt, in order. The logits are a plain array of the
            slice's shape without NaN, the quality is a number in 0..1.
        """

        def decode(which: Sequence[int]) -> Sequence[SliceMask]:
            return self.segmenter.decode(
                [embeddings[n] for n in which],
                [_copy(prompts[n]) for n in which],
                multimask=multimask,
            )

        return self._segment(
            "decode", embeddings, decode, lambda one: _check(one, shape), before_repeat
        )

    def track(
        self,
        embeddings: Sequence[Embedding | SegmenterFault],
        prompts: Sequence[SlicePrompt],
        positions: Sequence[int],
        shape: tuple[int, int],
        before_repeat: BeforeCall = lambda call, slices: None,
    ) -> list[SliceMask | SegmenterFault]:
        """Segments slices of one shape by what the segmenter, a tracker, remembers of the targets.

        Args:
            embeddings: as for `decode`.
            prompts: one per embedding. The `state` is the memory, None where there is none so far;
                a prompt that says nothing else leaves the slice to the memory.
            positions: of each slice in its memory's order; see `Tracker.track`.
            shape: of the slices (rows, columns).
            before_repeat: as for `encode`.

        Returns:
            As for `decode`; each mask's `state` is a memory.
        """
        tracker = self.segmenter
        assert isinstance(tracker, Tracker)

        def track(which: Sequence[int]) -> Sequence[SliceMask]:
            return tracker.track(
                [embeddings[n] for n in which],
                [
                    None if prompts[n].is_empty else replace(_copy(prompts[n]), state=None)
                    for n in which
                ],
                [prompts[n].state for n in which],
                [positions[n] for n in which],
            )

        def check(answer: object) -> SliceMask | SegmenterFault:
            checked = _check(answer, shape)
            if isinstance(checked, SliceMask) and checked.state is None:
                return SegmenterFault("an answer without a memory, expected one as its state")
            return checked

        return self._segment("track", embeddings, track, check, before_repeat)

    def _segment(
        self,
        method: Call,
        embeddings: Sequence[Embedding | SegmenterFault],
        ask: Callable[[Sequence[int]], Sequence[SliceMask]],
        check: Callable[[object], SliceMask | SegmenterFault],
        before_repeat: BeforeCall,
    ) -> list[SliceMask | SegmenterFault]:
        """Asks about the slices that have embeddings; the faults of others are their answers."""
        answers: list[SliceMask | SegmenterFault] = list(embeddings)
        encoded = [n for n, one in enumerate(embeddings) if not isinstance(one, SegmenterFault)]
        found = self._ask(method, encoded, len(encoded), ask, check, before_repeat)
        for n, answer in zip(encoded, found, strict=True):
            answers[n] = answer
        return answers

    def _ask(
        self,
        method: Call,
        which: Sequence[int],
        wanted: int,
        ask: Callable[[Sequence[int]], Sequence[Any]],
        check: Callable[[Any], Any],
        before_repeat: BeforeCall,
    ) -> list[Any]:
        """Asks questions, all at once or else one by one.

        Args:
            method: of the segmenter.
            which: the questions.
            wanted: how many of them are asked one by one.
            ask: calls the segmenter for some of them.
            check: returns an answer as it may be used, or the fault that it is.
            before_repeat: see `encode`.

        Returns:
            An answer or a fault for each question, in order.
        """
        if not which:
            return []
        found = self._try(method, which, ask, check)
        if not isinstance(found, SegmenterFault):
            return found
        if len(which) == 1:
            return [found]
        results: list[Any] = []
        for one in which[:wanted]:
            before_repeat(method, 1)
            again = self._try(method, [one], ask, check)
            results += [again] if isinstance(again, SegmenterFault) else again
        return results + [found] * (len(which) - len(results))

    def _try(
        self,
        method: Call,
        which: Sequence[int],
        ask: Callable[[Sequence[int]], Sequence[Any]],
        check: Callable[[Any], Any],
    ) -> list[Any] | SegmenterFault:
        """Asks questions at once; returns the answers, or the one fault of them all."""
        try:
            answers = list(ask(which))
            if len(answers) != len(which):
                return SegmenterFault(f"{len(answers)} answers of {method}, expected {len(which)}")
            return [check(answer) for answer in answers]
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            logger.debug("a fault of the segmenter %s", self._name, exc_info=True)
            return SegmenterFault(describe_exception(error))


def _copy(prompt: SlicePrompt) -> SlicePrompt:
    """Returns a prompt that a segmenter may overwrite without changing what is known of a slice."""
    mask = None if prompt.mask is None else prompt.mask.copy()
    return replace(prompt, points=prompt.points.copy(), labels=prompt.labels.copy(), mask=mask)


def describe_exception(error: BaseException) -> str:
    """Returns an exception in one short line: its type, and its text if it has one."""
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # it can't say what it is
        text = ""
    name = type(error).__name__
    return _shorten(f"{name}: {text}" if text.strip() else name)


def _shorten(text: str) -> str:
    """Returns a text in one short line that moves no cursor."""
    # Cut before anything else is done with it: there are texts of many megabytes.
    line = printable(" ".join(text[:FAULT_CHARACTERS].split()))
    if max(len(text), len(line)) <= FAULT_CHARACTERS:
        return line
    return f"{line[: FAULT_CHARACTERS - 4]} ..."


def _check(answer: object, shape: tuple[int, int]) -> SliceMask | SegmenterFault:
    """Returns a segmenter's answer for a slice of some shape, or what is wrong with it."""
    if not isinstance(answer, SliceMask):
        return SegmenterFault(f"an answer of type {type(answer).__name__}, expected SliceMask")
    logits, quality = answer.logits, answer.quality
    if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f":
        found = getattr(logits, "dtype", type(logits).__name__)
        return SegmenterFault(_shorten(f"logits of type {found}, expected float"))
    if isinstance(logits, np.ma.MaskedArray):  # what a masked number means isn't known
        return SegmenterFault("masked logits, expected a plain array")
    if type(logits) is not np.ndarray:  # such as a matrix, which computes in ways of its own
        logits = np.asarray(logits)
        answer = replace(answer, logits=logits)
    if logits.shape != shape:
        return SegmenterFault(f"logits of shape {logits.shape}, expected {shape}")
    # Two passes without a copy: NaN among the numbers is what both of these are then.
    least, most = logits.min(), logits.max()
    if np.isnan(least):
        return SegmenterFault("NaN among the logits")
    if not isinstance(quality, Real) or not 0 <= quality <= 1:  # nor is NaN
        return SegmenterFault(f"quality {_shorten(str(quality))}, expected a number in 0..1")
    if least < -CERTAIN or most > CERTAIN:
        return replace(answer, logits=logits.clip(-CERTAIN, CERTAIN))
    return answer

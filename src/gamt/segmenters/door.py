"""The one place where a segmenter's answers come in, and where what is wrong with them is found."""

import logging
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, Segmenter, SliceMask

logger = logging.getLogger("gamt")

FAULTS_IN_A_ROW = 4
"""Calls without a usable answer after which a segmenter is not asked any more
(docs/constants.md)."""

FAULT_CHARACTERS = 300
"""Length of a fault's text at most: torch tells the state of a whole GPU (docs/constants.md)."""

CERTAIN = 1000.0
"""Log-odds whose probability is 0 or 1 exactly, in float64 as well: the logistic function of -746
is 0. Larger ones say no more (docs/constants.md)."""


Call = Literal["encode", "decode"]
"""A method of a segmenter."""

BeforeCall = Callable[[Call, int], None]
"""Is told, before a segmenter is called, which method and for how many slices; what it raises ends
the work."""


class SegmenterFault(Exception):  # noqa: N818 - it is what came in place of an answer
    """What a segmenter did instead of answering, in one line.

    For example ``RuntimeError: no luck`` or ``found logits of shape (3, 4), expected (5, 6)``.
    """


class Door:
    """Asks a segmenter, and gives for each question an answer to rely on, or a fault.

    Whatever the segmenter raises is a fault, lack of memory included; only what ends a process,
    such as `KeyboardInterrupt`, goes through. A batch that fails is asked again one by one, so
    that only the guilty question remains without an answer.

    A segmenter that fails `FAULTS_IN_A_ROW` times is not asked any more, until `reopen`: that
    would cost time which another plane needs. This holds for slices of one shape, because another
    plane's shape may be one that it can do; and for encoding and decoding each.

    Attributes:
        segmenter: the 2-D model.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        """Takes the segmenter."""
        self.segmenter = segmenter
        self.reopen()

    def reopen(self) -> None:
        """Forgets the faults so far; to be called when another prediction begins."""
        self._rows: dict[tuple[Call, tuple[int, ...]], list[SegmenterFault]] = {}

    def encode(
        self, slices: npt.NDArray[np.uint8], before_repeat: BeforeCall = lambda call, slices: None
    ) -> list[Embedding | SegmenterFault]:
        """Encodes slices.

        An embedding is opaque to everything but its segmenter. What is wrong with one shows when
        it is decoded.

        Args:
            slices: (N, rows, columns) uint8, 0..255.
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
            ("encode", slices.shape[1:]), range(len(slices)), encode, lambda one: one, before_repeat
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
            A mask or a fault for each prompt, in order. The logits have the slice's shape and no
            NaN, the quality is in 0..1.
        """

        def decode(which: Sequence[int]) -> Sequence[SliceMask]:
            return self.segmenter.decode(
                [embeddings[n] for n in which], [prompts[n] for n in which], multimask=multimask
            )

        answers: list[SliceMask | SegmenterFault] = list(embeddings)
        encoded = [n for n, one in enumerate(embeddings) if not isinstance(one, SegmenterFault)]
        found = self._ask(
            ("decode", shape), encoded, decode, lambda one: _check(one, shape), before_repeat
        )
        for n, answer in zip(encoded, found, strict=True):
            answers[n] = answer
        return answers

    def _ask(
        self,
        kind: tuple[Call, tuple[int, ...]],
        which: Sequence[int],
        ask: Callable[[Sequence[int]], Sequence[Any]],
        check: Callable[[Any], Any],
        before_repeat: BeforeCall,
    ) -> list[Any]:
        """Asks questions, all at once or else one by one.

        Args:
            kind: the method of the segmenter, and the slices' shape.
            which: the questions.
            ask: calls the segmenter for some of them.
            check: returns an answer as it may be used, or the fault that it is.
            before_repeat: see `encode`.

        Returns:
            An answer or a fault for each question, in order.
        """
        row = self._rows.setdefault(kind, [])
        results: list[Any] = []
        size = len(which)
        while len(results) < len(which):
            if len(row) >= FAULTS_IN_A_ROW:
                return results + [row[-1]] * (len(which) - len(results))
            batch = which[len(results) : len(results) + size]
            if size < len(which):
                before_repeat(kind[0], len(batch))
            try:
                answers = list(ask(batch))
                if len(answers) != len(batch):
                    raise SegmenterFault(
                        f"{len(answers)} answers of {kind[0]}, expected {len(batch)}"
                    )
                found = [check(answer) for answer in answers]
            except Exception as error:
                logger.debug("a fault of the segmenter %s", self.segmenter.name, exc_info=True)
                if len(batch) > 1:
                    size = 1
                    continue
                found = [_describe(error)]
            faults = [one for one in found if isinstance(one, SegmenterFault)]
            if len(faults) < len(found):
                row.clear()
            else:
                row.append(faults[-1])
            results += found
        return results


def _describe(error: Exception) -> SegmenterFault:
    """Returns what a segmenter raised as a fault, without the memory that its traceback holds."""
    kind = "" if isinstance(error, SegmenterFault) else f"{type(error).__name__}: "
    return SegmenterFault(textwrap.shorten(f"{kind}{error}", FAULT_CHARACTERS, placeholder=" ..."))


def _check(answer: object, shape: tuple[int, int]) -> SliceMask | SegmenterFault:
    """Returns a segmenter's answer for a slice of some shape, or what is wrong with it."""
    if not isinstance(answer, SliceMask):
        return SegmenterFault(f"an answer of type {type(answer).__name__}, expected SliceMask")
    logits, quality = answer.logits, answer.quality
    if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f":
        found = getattr(logits, "dtype", type(logits).__name__)
        return SegmenterFault(f"logits of type {found}, expected float")
    if logits.shape != shape:
        return SegmenterFault(f"logits of shape {logits.shape}, expected {shape}")
    # Two passes without a copy: NaN among the numbers is what both of these are then.
    least, most = logits.min(), logits.max()
    if np.isnan(least):
        return SegmenterFault("NaN among the logits")
    if not 0 <= quality <= 1:  # nor is NaN
        return SegmenterFault(f"quality {quality}, expected 0..1")
    if least < -CERTAIN or most > CERTAIN:
        return replace(answer, logits=logits.clip(-CERTAIN, CERTAIN))
    return answer

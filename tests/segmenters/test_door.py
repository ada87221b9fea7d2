"""What comes out of the door: answers that can be relied on, and faults that say what happened."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, Memory, SliceMask, Traits
from gamt.segmenters.door import CERTAIN, Door, SegmenterFault
from tests.costs import cost

SHAPE = (3, 5)


def mask(logits: object = None, quality: Any = 0.5) -> SliceMask:
    filled = np.full(SHAPE, 2.0, np.float32) if logits is None else logits
    return SliceMask(filled, quality)  # type: ignore[arg-type]


class Scripted:
    """Embeds a slice as its first pixel; `encoding` and `decoding` say what becomes of each.

    Attributes:
        encoded: the first pixels of the slices of each call.
        decoded: the embeddings of each call.
    """

    name = "scripted"
    traits = Traits()

    def __init__(
        self,
        encoding: Callable[[int], Any] = lambda pixel: pixel,
        decoding: Callable[[int], Any] = lambda pixel: mask(),
    ) -> None:
        self.encoding = encoding
        self.decoding = decoding
        self.encoded: list[list[int]] = []
        self.decoded: list[list[int]] = []

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        pixels = [int(one[0, 0]) for one in slices]
        self.encoded.append(pixels)
        return [self.encoding(pixel) for pixel in pixels]

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        self.decoded.append(list(embeddings))
        return [self.decoding(one) for one in embeddings]


def slices(*pixels: int, shape: tuple[int, int] = SHAPE) -> npt.NDArray[np.uint8]:
    return np.stack([np.full(shape, pixel, np.uint8) for pixel in pixels])


def decode(
    door: Door, embeddings: Sequence[Any], shape: tuple[int, int] = SHAPE
) -> list[SliceMask | SegmenterFault]:
    return door.decode(embeddings, [SlicePrompt()] * len(embeddings), shape)


def encode(door: Door, *pixels: int, shape: tuple[int, int] = SHAPE) -> list[Any]:
    return door.encode(slices(*pixels, shape=shape), wanted=len(pixels))


def texts(results: Sequence[Any]) -> list[str | None]:
    """The faults among results, None where there is an answer."""
    return [str(one) if isinstance(one, SegmenterFault) else None for one in results]


def unlucky(*numbers: int, error: BaseException | None = None) -> Callable[[int], Any]:
    """Raises for some pixels."""

    def answer(pixel: int) -> Any:
        if pixel in numbers:
            raise error if error is not None else RuntimeError("no luck")
        return pixel

    return answer


def test_good_answers_come_through_as_they_are() -> None:
    made = [mask(), mask(quality=0), mask(quality=1)]
    segmenter = Scripted(decoding=lambda n: made[n])
    door = Door(segmenter)
    assert encode(door, 0, 1, 2) == [0, 1, 2]
    assert decode(door, [0, 1, 2]) == made
    assert segmenter.encoded == segmenter.decoded == [[0, 1, 2]]


def test_of_a_batch_that_fails_only_the_guilty_slice_is_a_fault() -> None:
    found = encode(Door(Scripted(unlucky(7))), 5, 7, 9)
    assert [found[0], found[2]] == [5, 9]
    assert texts(found) == [None, "RuntimeError: no luck", None]


def test_of_prompts_that_fail_only_the_guilty_one_is_a_fault() -> None:
    answer = unlucky(7)
    found = decode(Door(Scripted(decoding=lambda n: answer(n) and mask())), [5, 7, 9])
    assert texts(found) == [None, "RuntimeError: no luck", None]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (None, "an answer of type NoneType, expected SliceMask"),
        (mask(np.zeros((5, 3), np.float32)), "logits of shape (5, 3), expected (3, 5)"),
        (mask(np.zeros(SHAPE, np.bool_)), "logits of type bool, expected float"),
        (mask([[0.0] * 5] * 3), "logits of type list, expected float"),
        (mask(np.full(SHAPE, np.nan, np.float32)), "NaN among the logits"),
        (mask(np.where(np.eye(*SHAPE), np.nan, -np.inf)), "NaN among the logits"),
        (mask(quality=float("nan")), "quality nan, expected a number in 0..1"),
        (mask(quality=-0.1), "quality -0.1, expected a number in 0..1"),
        (mask(quality=float("inf")), "quality inf, expected a number in 0..1"),
        (mask(quality="good"), "quality good, expected a number in 0..1"),
        (mask(quality=None), "quality None, expected a number in 0..1"),
        (mask(quality=np.array([0.5])), "quality [0.5], expected a number in 0..1"),
    ],
)
def test_an_answer_that_is_none_is_a_fault_and_its_neighbours_are_answers(
    answer: Any, fault: str
) -> None:
    found = decode(Door(Scripted(decoding=lambda n: answer if n == 1 else mask())), [0, 1, 2])
    assert [one is None for one in texts(found)] == [True, False, True]
    assert str(found[1]).startswith(fault)


@pytest.mark.parametrize("cover", [True, np.eye(*SHAPE), np.ma.nomask])
def test_masked_logits_are_a_fault(cover: Any) -> None:
    logits = np.ma.masked_array(np.full(SHAPE, 2.0, np.float32), mask=cover)
    found = decode(Door(Scripted(decoding=lambda n: mask(logits))), [0])
    assert texts(found) == ["masked logits, expected a plain array"]


def test_logits_of_another_kind_of_array_become_a_plain_one() -> None:
    class Backwards(np.ndarray):  # computes in a way of its own
        def __gt__(self, other: Any) -> Any:
            return np.asarray(self) <= other

    numbers = np.arange(15, dtype=np.float32).reshape(SHAPE)
    given = SliceMask(numbers.view(Backwards), 0.5, state="kept")
    (found,) = decode(Door(Scripted(decoding=lambda n: given)), [0])
    assert isinstance(found, SliceMask)
    assert type(found.logits) is np.ndarray
    assert np.array_equal(found.logits, numbers)
    assert (found.quality, found.state) == (0.5, "kept")


def test_infinite_logits_are_certain_and_the_state_stays() -> None:
    logits = np.array([[np.inf, -np.inf, 3.0, -3.0, 0.0]], np.float32)
    given = SliceMask(logits, 0.5, state="kept")
    (found,) = decode(Door(Scripted(decoding=lambda n: given)), [0], (1, 5))
    assert isinstance(found, SliceMask)
    assert found.logits.tolist() == [[CERTAIN, -CERTAIN, 3.0, -3.0, 0.0]]
    assert found.state == "kept"
    assert np.isinf(given.logits).any()  # what the segmenter may still use is not changed


def test_too_few_answers_are_a_fault_of_every_question() -> None:
    class Forgetful(Scripted):
        def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
            return []

    found = encode(Door(Forgetful()), 1, 2)
    assert texts(found) == ["0 answers of encode, expected 1"] * 2


def test_a_question_whose_slice_has_no_embedding_is_not_asked() -> None:
    segmenter = Scripted()
    fault = SegmenterFault("RuntimeError: no luck")
    found = decode(Door(segmenter), [4, fault, 6])
    assert texts(found) == [None, "RuntimeError: no luck", None]
    assert segmenter.decoded == [[4, 6]]


def test_slices_that_are_encoded_ahead_are_not_asked_for_again() -> None:
    segmenter = Scripted(unlucky(7))
    found = Door(segmenter).encode(slices(5, 7, 9, 11), wanted=2)
    assert texts(found) == [None, *["RuntimeError: no luck"] * 3]
    assert segmenter.encoded == [[5, 7, 9, 11], [5], [7]]


def test_a_fault_is_one_line_of_bounded_length() -> None:
    error = RuntimeError("first\n  second " + "and more " * 1000)
    (found,) = encode(Door(Scripted(unlucky(1, error=error))), 1)
    assert str(found).startswith("RuntimeError: first second and more")
    assert len(str(found)) <= 300


@pytest.mark.parametrize("error", [MemoryError("no room"), RecursionError("too deep")])
def test_lack_of_memory_is_a_fault(error: Exception) -> None:
    (found,) = encode(Door(Scripted(unlucky(1, error=error))), 1)
    assert str(found) == f"{type(error).__name__}: {error}"


def test_a_fault_moves_no_cursor() -> None:
    error = RuntimeError("red \x1b[31m\x00 \udcff")
    (found,) = encode(Door(Scripted(unlucky(1, error=error))), 1)
    assert str(found) == "RuntimeError: red \\x1b[31m\\x00 \\xff"


def test_a_fault_that_holds_a_whole_file_costs_no_time() -> None:
    text = "and more " * 10**7

    def meet() -> None:
        (found,) = encode(Door(Scripted(unlucky(1, error=RuntimeError(text)))), 1)
        assert len(str(found)) <= 300

    assert cost(meet) < cost(text.split)  # that is, less than going through it once


@pytest.mark.parametrize(
    "error", [GeneratorExit(), BaseException(), asyncio.CancelledError(), SystemExit(), OSError("")]
)
def test_whatever_is_raised_is_a_fault_and_without_a_text_it_has_its_name(
    error: BaseException,
) -> None:
    (found,) = encode(Door(Scripted(unlucky(1, error=error))), 1)
    assert str(found) == type(error).__name__


@pytest.mark.parametrize("error", [ValueError("no text"), SystemExit()])
def test_an_exception_that_cannot_say_what_it_is_has_its_name(error: BaseException) -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise error

    (found,) = encode(Door(Scripted(unlucky(1, error=UnprintableError()))), 1)
    assert str(found) == "UnprintableError"


class Tracking(Scripted):
    """Tracks as it decodes; `decoding` makes the answers, memories included."""

    def track(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Memory | None],
        positions: Sequence[int],
    ) -> Sequence[SliceMask]:
        self.asked = list(zip(prompts, memories, positions, strict=True))
        return self.decode(embeddings, [])


def track(door: Door, *embeddings: Any) -> list[SliceMask | SegmenterFault]:
    prompts = [SlicePrompt(state=f"memory {one}") for one in embeddings]
    return door.track(embeddings, prompts, range(len(embeddings)), SHAPE)


def test_a_prompt_that_says_nothing_leaves_the_slice_to_its_memory() -> None:
    segmenter = Tracking(decoding=lambda n: replace(mask(), state=n))
    prompts = [SlicePrompt(state="first"), SlicePrompt(box=(0, 1, 2, 3), state="second")]
    prompts.append(SlicePrompt(points=np.array([[1.0, 2.0]]), labels=np.array([0])))
    found = Door(segmenter).track([7, 8, 9], prompts, [4, -1, 0], SHAPE)
    assert [one.state for one in found if isinstance(one, SliceMask)] == [7, 8, 9]
    (nothing, *first), (box, *second), (point, *third) = segmenter.asked
    assert box is not None
    assert point is not None
    assert (nothing, first, second, third) == (None, ["first", 4], ["second", -1], [None, 0])
    assert (box.box, box.state) == ((0, 1, 2, 3), None)
    assert point.labels.tolist() == [0]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (mask(), "an answer without a memory, expected one as its state"),
        (mask(np.full(SHAPE, np.nan, np.float32)), "NaN among the logits"),
        (None, "an answer of type NoneType, expected SliceMask"),
    ],
)
def test_a_tracked_answer_that_is_none_is_a_fault(answer: Any, fault: str) -> None:
    kept = replace(mask(), state="kept")
    segmenter = Tracking(decoding=lambda n: answer if n == 1 else kept)
    assert texts(track(Door(segmenter), 0, 1, 2)) == [None, fault, None]


def test_of_tracked_slices_that_fail_only_the_guilty_one_is_a_fault() -> None:
    lucky = unlucky(7)
    segmenter = Tracking(decoding=lambda n: replace(mask(), state=lucky(n)))
    fault = SegmenterFault("RuntimeError: not encoded")
    found = track(Door(segmenter), 5, 7, fault, 9)
    assert texts(found) == [None, "RuntimeError: no luck", str(fault), None]
    assert segmenter.decoded == [[5, 7, 9], [5], [7], [9]]
    # Each one comes back with its own memory and place.
    assert segmenter.asked == [(None, "memory 9", 3)]


def test_too_few_tracked_answers_are_a_fault() -> None:
    class Forgetful(Tracking):
        def decode(self, *arguments: Any, **options: Any) -> Sequence[SliceMask]:
            return []

    assert texts(track(Door(Forgetful()), 1)) == ["0 answers of track, expected 1"]


def test_a_repeated_part_of_a_failed_call_to_track_is_timed_as_tracking() -> None:
    calls: list[tuple[str, int]] = []
    door = Door(Tracking(unlucky(), unlucky(0, 1)))
    prompts = [SlicePrompt(state="known")] * 2
    door.track([0, 1], prompts, [1, 2], SHAPE, lambda *call: calls.append(call))
    assert calls == [("track", 1), ("track", 1)]


def test_ctrl_c_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(Door(Scripted(unlucky(1, error=KeyboardInterrupt()))), 1)


def test_the_caller_is_asked_before_a_failed_call_is_repeated() -> None:
    class Up(Exception):  # noqa: N818
        pass

    def stop(call: str, slices: int) -> None:
        raise Up

    segmenter = Scripted(unlucky(1))
    with pytest.raises(Up):
        Door(segmenter).encode(slices(0, 1), 2, stop)
    assert segmenter.encoded == [[0, 1]]


def test_a_segmenter_that_overwrites_its_prompts_changes_no_prompt() -> None:
    class Overwriting(Scripted):
        def decode(
            self,
            embeddings: Sequence[Embedding],
            prompts: Sequence[SlicePrompt],
            multimask: bool | None = None,
        ) -> Sequence[SliceMask]:
            for prompt in prompts:
                prompt.points[:], prompt.labels[:] = 0, 0
                assert prompt.mask is not None
                prompt.mask[:] = 0
            return super().decode(embeddings, prompts, multimask)

    mine = SlicePrompt(
        points=np.ones((1, 2)), labels=np.ones(1, np.int64), mask=np.ones(SHAPE, np.float32)
    )
    Door(Overwriting()).decode([1], [mine], SHAPE)
    assert mine.mask is not None
    assert mine.points.all()
    assert mine.labels.all()
    assert mine.mask.all()

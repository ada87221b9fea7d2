"""Prompts for the next slice, the ends of a walk, and walks that go together."""

import time
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gamt.axes import Plane
from gamt.lifting import budget
from gamt.lifting.budget import Cancelled, OutOfTime, Stopwatch
from gamt.lifting.propagation import (
    MAX_SIDE,
    Appearance,
    End,
    Walk,
    ask,
    check_time,
    interior_point,
    lost,
    next_prompt,
    run,
    tight_box,
    together,
)
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, SliceMask, Traits
from gamt.settings import Settings
from gamt.volume.cache import EmbeddingCache
from gamt.volume.geometry import Grid
from gamt.volume.scan import Scan, SliceRequest
from tests.doubles import Constant, Mask, answer, block, steps

SETTINGS = Settings(min_quality=0.5, min_overlap=0.5, max_growth=2.0)

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)).filter(np.any)


def disk(radius: int, side: int, y: int, x: int) -> Mask:
    rows, columns = np.ogrid[:side, :side]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


# --- the next prompt ----------------------------------------------------------------------------


def test_a_tight_box_is_half_open_and_in_x_and_y() -> None:
    mask = block((6, 9), slice(1, 3), slice(4, 8))  # rows 1..2, columns 4..7
    mask[2, 8] = True
    assert tight_box(mask) == (4, 1, 9, 3)


def test_an_empty_mask_has_no_box() -> None:
    assert tight_box(np.zeros((4, 5), np.bool_)) is None


def test_an_empty_mask_has_no_interior_point() -> None:
    with pytest.raises(ValueError, match="empty"):
        interior_point(np.zeros((4, 5), np.bool_), np.zeros((4, 5), np.uint8))


def test_the_interior_point_of_an_even_disk_is_its_centre() -> None:
    mask = disk(10, side=40, y=12, x=25)
    assert interior_point(mask, np.where(mask, 90, 30).astype(np.uint8)) == (25, 12)


def test_the_interior_point_is_as_usual_as_the_core() -> None:
    # The pixel farthest from the border is bright, and the core around it is dark: a neighbour
    # of the spot is nearly as far from the border, and dark.
    mask = disk(10, side=40, y=12, x=25)
    image = np.full((40, 40), 50, np.uint8)
    image[11:14, 24:27] = 250
    x, y = interior_point(mask, image)
    assert image[y, x] == 50
    assert 1 < np.hypot(x - 25, y - 12) < 4  # right beside the spot


def test_the_interior_point_is_far_from_the_border_too() -> None:
    # The usual intensity is found nearly everywhere, the middle of the bar only in one place.
    mask = block((11, 31), slice(2, 9), slice(1, 30))
    image = np.full((11, 31), 80, np.uint8)
    image[5, :10] = image[5, 16:] = 200
    x, y = interior_point(mask, image)
    assert (y, image[y, x]) == (5, 80)


@given(mask=masks, data=st.data())
def test_the_interior_point_is_inside(mask: Mask, data: st.DataObject) -> None:
    image = data.draw(hnp.arrays(np.uint8, mask.shape))
    x, y = interior_point(mask, image)
    assert mask[y, x]


@given(side=st.integers(MAX_SIDE, 5 * MAX_SIDE), step=st.integers(1, 9), thick=st.integers(1, 3))
@example(side=300, step=1, thick=1)  # an anti-diagonal that thinning to every third pixel misses
def test_the_interior_point_of_a_large_mask_is_inside(side: int, step: int, thick: int) -> None:
    rows, columns = np.ogrid[:side, :side]
    mask = np.asarray((rows + columns - (side - 1)) % (step * side) < thick)
    x, y = interior_point(mask, np.zeros(mask.shape, np.uint8))
    assert mask[y, x]


def test_a_large_mask_is_thinned_out_around_its_middle() -> None:
    # 601 pixels a side thin out to every fifth, and 300 / 5 = 60 hits the centre.
    mask = disk(300, side=700, y=320, x=350)
    assert interior_point(mask, np.zeros(mask.shape, np.uint8)) == (350, 320)


def test_the_next_prompt_is_the_tight_box_a_point_inside_and_the_scores() -> None:
    mask = answer(block((9, 12), slice(2, 7), slice(3, 8)))
    prompt = next_prompt(mask, np.zeros((9, 12), np.uint8))
    assert prompt.box == (3, 2, 8, 7)
    assert prompt.points.tolist() == [[5, 4]]
    assert prompt.labels.tolist() == [1]
    assert prompt.mask is mask.logits
    assert prompt.state is None


def test_a_segmenters_own_state_goes_on_in_place_of_its_scores() -> None:
    state = object()
    mask = SliceMask(answer(np.ones((9, 12), np.bool_)).logits, 1.0, state)
    prompt = next_prompt(mask, np.zeros((9, 12), np.uint8))
    assert prompt.state is state
    assert prompt.mask is None


# --- the end of a walk --------------------------------------------------------------------------

ROW = block((4, 20), slice(1, 2), slice(4, 12))  # eight pixels


def in_row(start: int, stop: int, quality: float = 1.0) -> SliceMask:
    return answer(block((4, 20), slice(1, 2), slice(start, stop)), quality)


@pytest.mark.parametrize(
    ("mask", "end"),
    [
        (in_row(4, 12), None),
        (in_row(4, 4), End.VANISHED),
        (in_row(8, 16), None),  # half of it lies in both
        (in_row(9, 17), End.JUMPED),  # three of eight pixels do
        (in_row(10, 14), None),  # the smaller one has four pixels: half of it
        (in_row(11, 15), End.JUMPED),
        (in_row(2, 18), None),  # twice the area
        (in_row(2, 19), End.GREW),
        (in_row(8, 20), None),  # four of the smaller one's eight pixels lie in both
        (in_row(9, 20), End.JUMPED),
        (in_row(5, 6), None),  # shrinking is no jump
        (in_row(4, 12, quality=0.5), None),
        (in_row(4, 12, quality=0.49), End.UNSURE),
    ],
)
def test_a_walk_ends_when_the_target_vanishes_jumps_grows_or_gets_doubtful(
    mask: SliceMask, end: End | None
) -> None:
    assert lost(answer(ROW), mask, SETTINGS) is end


def test_an_appearance_is_the_median_and_the_median_distance_from_it() -> None:
    # The median of 10, 12, 14 and 200 is 13; they are 3, 1, 1 and 187 away from it.
    assert Appearance.of(np.array([10, 200, 14, 12], np.uint8)) == Appearance(13, deviation=2)


@pytest.mark.parametrize("sign", [-1, 1])
def test_pixels_fit_as_long_as_their_median_is_usual(sign: int) -> None:
    appearance = Appearance(median=100, deviation=4)
    # Three deviations of 4, and ten grey levels, are 22.
    for away, fits in ((0, True), (22, True), (23, False)):
        pixels = np.array([0, 255, 100 + sign * away], np.uint8)
        assert appearance.fits(pixels) is fits


# --- together -----------------------------------------------------------------------------------


def questions(plane: Plane, *batches: Sequence[int]) -> Walk:
    """Asks for some slices, step by step, and checks that the answers are its own."""
    for batch in batches:
        answers = yield [SliceRequest(plane, index, SlicePrompt()) for index in batch]
        masks = [answer for answer in answers if isinstance(answer, SliceMask)]
        assert [mask.quality for mask in masks] == [float(index) for index in batch]


def test_walks_that_go_together_ask_in_one_batch() -> None:
    going = together(
        [
            questions(Plane.AXIAL, [1], [2, 3], [4]),
            questions(Plane.CORONAL),  # never asks
            questions(Plane.CORONAL, [5, 6]),
            questions(Plane.SAGITTAL, [7], [8]),
        ]
    )
    assert steps(going) == [[1, 5, 6, 7], [2, 3, 8], [4]]


def test_walks_go_together_in_groups_of_groups() -> None:
    inner = together([questions(Plane.AXIAL, [1], [2]), questions(Plane.AXIAL, [3])])
    assert steps(together([questions(Plane.CORONAL, [4]), inner])) == [[4, 1, 3], [2]]


@pytest.mark.parametrize("walks", [0, 1, 3])
def test_walks_that_never_ask_are_done_at_once(walks: int) -> None:
    assert steps(together([questions(Plane.AXIAL) for _ in range(walks)])) == []


# --- the clock ----------------------------------------------------------------------------------


class Clock:
    """A clock that moves on by ten seconds with every batch that is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.segmenter = Constant(inside=True)
        self.scan = Scan(
            lambda: np.zeros((6, 4, 5), np.uint8), GRID, EmbeddingCache(self.segmenter, 2**20)
        )
        self.segmenter.segment = self.segment  # type: ignore[method-assign]

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        self.now += 10
        return np.ones(image.shape, np.bool_)


GRID = Grid((0, 0, 0), (6, 4, 5), (6, 4, 5))


def slices(*indices: int) -> Walk:
    for index in indices:
        yield [SliceRequest(Plane.AXIAL, index, SlicePrompt())]


@pytest.mark.parametrize(
    ("deadline", "taken", "complete"),
    [
        (99, 0, False),  # over before it began
        (100, 0, False),  # the same
        (119, 1, False),  # at 110, a second step of ten seconds would end too late
        (120, 2, False),  # at 120 the third one would
        (140, 3, True),  # at 130 there is time left to find out that the walk is done
    ],
)
def test_a_run_takes_the_steps_that_fit_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch, deadline: float, taken: int, complete: bool
) -> None:
    clock = Clock(monkeypatch)
    assert run(slices(0, 1, 2), clock.scan, Stopwatch(deadline)) is complete
    assert len(clock.segmenter.asked) == taken


def test_a_run_answers_a_walk_with_its_own_slices() -> None:
    segmenter = Constant(inside=True)
    scan = Scan(lambda: np.zeros((6, 4, 5), np.uint8), GRID, EmbeddingCache(segmenter, 2**20))

    def one(plane: Plane, shape: tuple[int, int]) -> Walk:
        masks = yield [SliceRequest(plane, n, SlicePrompt()) for n in (2, 0)]
        assert [mask.mask.shape for mask in masks if isinstance(mask, SliceMask)] == [shape, shape]

    for plane, shape in zip(Plane, [(4, 5), (6, 5), (6, 4)], strict=True):
        assert run(one(plane, shape), scan, Stopwatch(float("inf")))


def test_a_walk_that_is_done_is_complete_whatever_it_asked() -> None:
    scan = Scan(
        lambda: np.zeros((6, 4, 5), np.uint8), GRID, EmbeddingCache(Constant(inside=True), 2**20)
    )
    assert run(slices(), scan, Stopwatch(float("inf")))


def test_walks_are_told_when_their_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    told: list[str] = []

    def returning(name: str) -> Walk:
        try:
            yield from slices(0, 1, 2)
        except OutOfTime:
            told.append(name)

    inner = together([returning("a"), slices(0, 1, 2)])
    assert not run(together([inner, returning("b")]), clock.scan, Stopwatch(130))
    assert told == ["a", "b"]


def test_a_cancelled_run_asks_no_further_slice() -> None:
    segmenter = Constant(inside=True)
    scan = Scan(lambda: np.zeros((6, 4, 5), np.uint8), GRID, EmbeddingCache(segmenter, 2**20))
    stopwatch = Stopwatch(float("inf"), lambda: len(segmenter.asked) == 2)
    with pytest.raises(Cancelled):
        run(slices(0, 1, 2, 3), scan, stopwatch)
    assert len(segmenter.asked) == 2


def test_where_there_is_time_for_some_of_a_round_these_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    told: dict[str, list[bool]] = {}

    def asking(name: str, *indices: int) -> Walk:
        answers = yield [SliceRequest(Plane.AXIAL, n, SlicePrompt()) for n in indices]
        told[name] = [isinstance(answer, SliceMask) for answer in answers]
        check_time(answers)
        yield from slices(0)

    # Ten seconds each from 100 on: at 130 a fourth one would end too late.
    walks = together([asking("a", 0, 1), asking("b", 2, 3), asking("c", 4, 5)])
    assert not run(walks, clock.scan, Stopwatch(135))
    assert told == {"a": [True, True], "b": [True, False], "c": [False, False]}
    assert len(clock.segmenter.asked) == 3


def test_the_first_of_several_questions_is_asked_alone_where_time_is_limited() -> None:
    for limit, expected in ((float("inf"), [3]), (1e9, [1, 2])):
        segmenter = Counting(inside=True)
        scan = Scan(lambda: np.zeros((6, 4, 5), np.uint8), GRID, EmbeddingCache(segmenter, 2**20))
        requests = [SliceRequest(Plane.AXIAL, n, SlicePrompt()) for n in range(3)]
        stopwatch = Stopwatch(time.monotonic() + limit)
        answers = ask(scan, requests, stopwatch)
        assert all(isinstance(one, SliceMask) for one in answers)
        assert segmenter.decoded == expected


class Counting(Constant):
    """Counts the slices of every call, and encodes four at once."""

    traits = Traits(batch=4)

    def __init__(self, inside: bool) -> None:
        super().__init__(inside)
        self.encoded: list[int] = []
        self.decoded: list[int] = []

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        self.encoded.append(len(slices))
        return super().encode(slices)

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        self.decoded.append(len(prompts))
        return super().decode(embeddings, prompts, multimask)


def test_near_the_end_questions_by_prompts_are_answered_that_come_before_one_by_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: 0.0))
    image = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
    scan = Scan(lambda: image, GRID, EmbeddingCache(Counting(inside=True), 2**20))
    stopwatch = Stopwatch(3)
    for _ in range(2):
        stopwatch.pace.add("encode", 1, 0)
        stopwatch.pace.add("decode", 1, 1)
        stopwatch.pace.add("track", 1, 10)
    requests = [SliceRequest(Plane.AXIAL, index, SlicePrompt()) for index in (0, 1, 2)]
    requests.insert(2, SliceRequest(Plane.AXIAL, 3, SlicePrompt(state=0), position=1))
    answers = ask(scan, requests, stopwatch)
    assert [isinstance(one, OutOfTime) for one in answers] == [False, False, True, True]


def test_slices_are_encoded_ahead_where_there_is_time_for_whole_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: 0.0))
    image = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
    for left, expected in ((4, [4]), (3, [1])):
        segmenter = Counting(inside=True)
        scan = Scan(lambda: image, GRID, EmbeddingCache(segmenter, 2**20))
        stopwatch = Stopwatch(left)
        for _ in range(2):
            stopwatch.pace.add("encode", 1, 1)  # a second a slice
        stopwatch.pace.add("decode", 1, 0)
        # A whole batch in the one plane that is asked about is four slices.
        ask(scan, [SliceRequest(Plane.AXIAL, 2, SlicePrompt(), ahead=[3, 4, 5])], stopwatch)
        assert segmenter.encoded == expected

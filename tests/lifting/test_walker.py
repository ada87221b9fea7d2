"""One walk through the slices of a plane: its steps, its ends, and what was stepped over."""

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane
from gamt.lifting.budget import OutOfTime
from gamt.lifting.progress import Progress, Report
from gamt.lifting.propagation import Walk
from gamt.lifting.walker import Gap, Walker, walk
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask
from gamt.segmenters.door import SegmenterFault
from gamt.volume.scan import SliceRequest
from tests.doubles import steps, tagged


def request_for(index: int) -> SliceRequest:
    return SliceRequest(Plane.CORONAL, index, SlicePrompt(box=(index, 0, index + 1, 1)))


class Owner(Walker[int]):
    """A walk's owner: notes what it is asked and told, and ends the walk at some slices.

    What it makes of a slice is ten times the slice's index.
    """

    def __init__(self, ends: Iterable[int] = (), fills_in: bool = False) -> None:
        self.ends = set(ends)
        self.fills_in = fills_in
        self.mixed: list[tuple[int, int]] = []
        self.left: list[list[int]] = []
        self.failed: list[tuple[int, str]] = []
        self.asked: list[tuple[int, int]] = []
        self.told: list[tuple[int, int | None, float]] = []

    def ask(self, index: int, before: int) -> SliceRequest:
        self.asked.append((index, before))
        return request_for(index)

    def accept(self, request: SliceRequest, before: int | None, answer: SliceMask) -> int | None:
        index = request.index
        assert request.prompt.box == (index, 0, index + 1, 1)
        self.told.append((index, before, answer.quality))
        return None if index in self.ends else 10 * index

    def start(
        self,
        anchor: int,
        indices: Sequence[int],
        stride: int = 1,
        report: Report = lambda done, planned: None,
    ) -> Walk:
        self.stride = stride
        return walk(request_for(anchor), indices, self, Progress(report))

    def fail(self, index: int, fault: SegmenterFault) -> None:
        self.failed.append((index, str(fault)))

    def mix(self, before: int, after: int) -> None:
        self.mixed.append((before, after))

    def leave(self, gap: Gap[int]) -> None:
        self.left.append(list(gap.skipped))
        super().leave(gap)

    def choose_stride(self, ahead: int) -> int:
        return self.stride

    def has_time(self) -> bool:
        return self.fills_in


def test_a_walk_goes_both_ways_at_once() -> None:
    assert steps(Owner().start(4, range(2, 8))) == [[4], [3, 5], [2, 6], [7]]


def test_a_walk_visits_each_slice_once_in_order_of_distance() -> None:
    assert steps(Owner().start(4, [1, 4, 5, 9])) == [[4], [1, 5], [9]]


def test_a_walk_may_step_over_slices_but_not_over_the_last() -> None:
    assert steps(Owner().start(4, range(12), stride=3)) == [[4], [1, 7], [0, 10], [11]]


def test_an_anchor_outside_of_the_slices_is_visited_too() -> None:
    assert steps(Owner().start(4, [5, 6])) == [[4], [5], [6]]
    assert steps(Owner().start(4, [])) == [[4]]


def test_each_slice_is_asked_and_told_about_with_the_one_before_it() -> None:
    walker = Owner()
    steps(walker.start(4, range(2, 7)))
    assert walker.asked == [(3, 40), (5, 40), (2, 30), (6, 50)]
    assert walker.told == [(4, None, 4), (3, 40, 3), (5, 40, 5), (2, 30, 2), (6, 50, 6)]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([4], [[4]]),  # at the anchor: there is no walk
        ([3], [[4], [3, 5], [6], [7]]),  # on one side: the other goes on
        ([6], [[4], [3, 5], [2, 6], [1], [0]]),
        ([3, 5], [[4], [3, 5]]),
    ],
)
def test_a_side_of_a_walk_ends_where_it_is_not_accepted(
    ends: list[int], expected: list[list[int]]
) -> None:
    assert steps(Owner(ends).start(4, range(8))) == expected


def test_a_walk_asks_for_slices_of_its_plane() -> None:
    going = Owner().start(4, range(8))
    (anchor,) = next(going)
    both = going.send([tagged(4)])
    assert {request.plane for request in [anchor, *both]} == {Plane.CORONAL}


@given(
    anchor=st.integers(0, 9),
    indices=st.sets(st.integers(0, 9)).map(sorted),
    ends=st.sets(st.integers(0, 9)),
)
def test_no_slice_is_visited_twice_and_none_behind_an_end(
    anchor: int, indices: list[int], ends: set[int]
) -> None:
    visited = [index for step in steps(Owner(ends).start(anchor, indices)) for index in step]
    allowed = set(indices) | {anchor}

    def reached(index: int) -> bool:
        low, high = sorted((index, anchor))
        between = set(range(low, high + 1)) - {index}
        return not between & ends & allowed

    assert sorted(visited) == sorted(index for index in allowed if reached(index))


@pytest.mark.parametrize(
    ("ends", "stride", "expected"),
    [
        ([], 1, [0, 1, 2, 3, 4, 5, 6]),
        ([3], 1, [0, 1, 3, 4, 5, 6]),  # with 3, the slice 2 behind it is done with
        ([4], 1, [0, 6]),  # with the anchor, all are
        ([], 2, [0, 1, 3, 5, 6]),  # with 2 and 6, the slices 3 and 5 before them are
    ],
)
def test_slices_that_a_walk_will_not_come_to_are_done_with(
    ends: list[int], stride: int, expected: list[int]
) -> None:
    counted: list[tuple[int, int]] = []
    # 2, 3 | 4 | 5, 6, 7
    steps(Owner(ends).start(4, range(2, 8), stride, lambda *counts: counted.append(counts)))
    assert counted == [(done, 6) for done in expected]


def test_slices_that_were_stepped_over_are_visited_afterwards_in_the_largest_gaps_first() -> None:
    owner = Owner(fills_in=True)
    first, second, third, *rest = steps(owner.start(0, range(13), stride=6))
    assert [first, second, third] == [[0], [6], [12]]
    # Five slices in each gap, then two, then one; two gaps at a time.
    visited = [sorted(one) for one in rest]
    assert visited[0] == [3, 9]
    assert sorted(visited[1] + visited[2]) == [2, 5, 8, 11]
    assert sorted(visited[3] + visited[4]) == [1, 4, 7, 10]
    assert owner.left == []
    assert sorted(owner.mixed) == [(10 * n, 10 * (n + 1)) for n in range(12)]


def test_slices_in_between_are_asked_about_as_the_slice_before_them_was_seen() -> None:
    owner = Owner(fills_in=True)
    steps(owner.start(0, range(5), stride=4))
    assert owner.asked == [(4, 0), (2, 0), (3, 20), (1, 0)]


def test_where_there_is_no_time_for_them_the_slices_on_both_sides_are_mixed() -> None:
    owner = Owner()
    assert steps(owner.start(0, range(8), stride=3)) == [[0], [3], [6], [7]]
    assert owner.left == [[1, 2], [4, 5]]
    assert sorted(owner.mixed) == [(0, 30), (30, 60), (60, 70)]


def test_the_end_of_a_target_that_a_long_step_has_missed_is_looked_for_afterwards() -> None:
    owner = Owner(ends=range(4, 9), fills_in=True)
    # It is lost at 8 and 4, and found at 2 and 3.
    assert steps(owner.start(0, range(9), stride=8)) == [[0], [8], [4], [2], [3, 1]]
    assert sorted(owner.mixed) == [(0, 10), (10, 20), (20, 30)]


def test_a_slice_that_the_segmenter_fails_at_is_stepped_over() -> None:
    owner = Owner()
    fault = SegmenterFault("no luck")
    assert steps(owner.start(2, range(6)), {3: fault}) == [[2], [1, 3], [0, 4], [5]]
    assert owner.failed == [(3, "no luck")]
    assert (4, 20, 4) in owner.told  # as if 2 were the one before it
    assert sorted(owner.mixed) == [(10, 0), (20, 10), (20, 40), (40, 50)]


@pytest.mark.parametrize("stride", [8, 3])
def test_before_an_end_that_the_segmenter_fails_at_all_slices_are_visited(stride: int) -> None:
    owner = Owner(fills_in=True)
    visited = steps(owner.start(0, range(9), stride), {8: SegmenterFault("no luck")})
    assert sorted(index for step in visited for index in step) == [*range(9)]
    assert sorted(owner.mixed) == [(10 * n, 10 * (n + 1)) for n in range(7)]
    assert owner.left == []


def test_before_an_end_that_the_segmenter_fails_at_slices_may_be_left_out() -> None:
    owner = Owner()
    steps(owner.start(0, range(9), stride=8), {8: SegmenterFault("no luck")})
    assert owner.left == [[1, 2, 3, 4, 5, 6, 7]]


def test_a_slice_that_fails_while_gaps_are_filled_is_passed_over() -> None:
    owner = Owner(fills_in=True)
    faults = {8: SegmenterFault("no luck"), 4: SegmenterFault("none here")}
    visited = steps(owner.start(0, range(9), stride=8), faults)
    assert sorted(index for step in visited for index in step) == [*range(9)]
    assert (30, 50) in owner.mixed


def test_the_next_middles_are_likely_to_be_asked_for_next() -> None:
    going = Owner(fills_in=True).start(0, range(9), stride=8)
    asked = next(going)
    for _ in range(2):
        asked = going.send([tagged(request.index) for request in asked])
    (middle,) = asked
    assert middle.index == 4
    assert middle.ahead == [2, 6, 1, 3, 5, 7]


def test_a_walk_ends_at_an_anchor_that_the_segmenter_fails_at() -> None:
    owner = Owner()
    counted: list[tuple[int, int]] = []
    assert steps(
        owner.start(2, range(6), 1, lambda *counts: counted.append(counts)),
        {2: SegmenterFault("no luck")},
    ) == [[2]]
    assert owner.told == []
    assert counted[-1] == (6, 6)


def test_answers_that_came_in_time_count_where_others_did_not() -> None:
    owner = Owner()
    assert steps(owner.start(2, range(6), stride=2), {4: OutOfTime()}) == [[2], [0, 4]]
    assert owner.told == [(2, None, 2), (0, 20, 0)]
    assert owner.mixed == [(20, 0)]
    assert owner.left == [[1]]

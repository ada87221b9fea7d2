"""One computes at a time, the others in the order in which they came."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gamt.server.turns import Turn, Turns

SECONDS = 60
"""A test that waits this long hangs."""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextmanager
def running(*work: Callable[[], object]) -> Iterator[None]:
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def wanted(turns: Turns, *, background: bool = False) -> Turn:
    return Turn(turns, lambda: False, background=background)


def test_those_who_wait_get_the_turn_in_the_order_in_which_they_came() -> None:
    turns = Turns(slice_seconds=0)
    order: list[int] = []
    first = wanted(turns)
    assert first.take()

    def work(n: int) -> None:
        turn = wanted(turns)
        turn.take()
        order.append(n)
        turn.give()

    threads = []
    for n in range(3):
        threads.append(threading.Thread(target=work, args=(n,), daemon=True))
        threads[-1].start()
        wait_until(lambda n=n: turns.waiting == n + 1)  # type: ignore[misc]
    assert order == []
    first.give()
    for thread in threads:
        thread.join(SECONDS)
    assert order == [0, 1, 2]


def test_steps_of_those_who_work_at_once_alternate() -> None:
    turns = Turns(slice_seconds=0)
    steps: list[str] = []
    long = wanted(turns)
    long.take()

    def work_shortly() -> None:
        turn = wanted(turns)
        turn.take()
        for _ in range(2):
            steps.append("short")
            turn.pass_on()
        turn.give()

    with running(work_shortly):
        wait_until(lambda: turns.waiting == 1)
        for _ in range(4):
            steps.append("long")
            assert long.pass_on()
        long.give()
    assert steps == ["long", "short", "long", "short", "long", "long"]


def test_a_slice_of_time_holds_many_short_steps() -> None:
    turns = Turns(slice_seconds=1000)
    mine = wanted(turns)
    mine.take()
    other = threading.Event()

    def work() -> None:
        turn = wanted(turns)
        turn.take()
        other.set()
        turn.give()

    with running(work):
        wait_until(lambda: turns.waiting == 1)
        assert mine.pass_on()
        assert not other.is_set()
        mine.give()
    assert other.is_set()


def test_the_background_comes_last_however_long_it_has_waited() -> None:
    turns = Turns(slice_seconds=0)
    order: list[str] = []
    first = wanted(turns)
    first.take()

    def work(name: str) -> None:
        turn = wanted(turns, background=name == "background")
        turn.take()
        order.append(name)
        turn.give()

    with running(lambda: work("background")):
        wait_until(lambda: len(turns._waiting) == 1)
        assert turns.waiting == 0
        assert first.pass_on()
        assert order == []  # nobody else waited, so it kept the turn
        with running(lambda: work("other")):
            wait_until(lambda: turns.waiting == 1)
            first.give()
    assert order == ["other", "background"]


def test_who_does_not_want_the_turn_any_more_leaves_and_the_next_one_gets_it() -> None:
    turns = Turns(slice_seconds=0)
    stop = threading.Event()
    results: list[tuple[str, bool]] = []
    first = wanted(turns)
    first.take()

    def work(name: str, turn: Turn) -> None:
        results.append((name, turn.take()))
        turn.give()

    with running(
        lambda: work("stopped", Turn(turns, stop.is_set)),
    ):
        wait_until(lambda: turns.waiting == 1)
        with running(lambda: work("next", wanted(turns))):
            wait_until(lambda: turns.waiting == 2)
            stop.set()
            turns.wake()
            wait_until(lambda: results == [("stopped", False)])
            first.give()
    assert results == [("stopped", False), ("next", True)]


@pytest.mark.parametrize("others_wait", [False, True])
def test_a_turn_that_is_not_wanted_any_more_is_not_kept(others_wait: bool) -> None:
    turns = Turns(slice_seconds=0)
    stop = threading.Event()
    turn = Turn(turns, stop.is_set)
    turn.take()
    stop.set()
    other = wanted(turns)
    with running(*([other.take] if others_wait else [])):
        if others_wait:
            wait_until(lambda: turns.waiting == 1)
        assert not turn.pass_on()
        turn.give()  # which it has not
    if others_wait:
        assert turns.waiting == 0
        other.give()
    assert wanted(turns).take()


def test_time_spent_waiting_is_known() -> None:
    turns = Turns(slice_seconds=0)
    first, second = wanted(turns), wanted(turns)
    first.take()
    with running(second.take):
        wait_until(lambda: turns.waiting == 1)
        time.sleep(0.05)
        first.give()
    assert second.waited >= 0.05
    assert first.waited < second.waited

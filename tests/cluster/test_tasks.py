"""Which worker gets which task, and what becomes of tasks whose workers are lost."""

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamt.cluster.tasks import Call, ClusterError, Lost, Task, run_tasks
from tests.cluster.threads import Threads


def double(number: int, call: Call) -> int:
    return 2 * number


def fail(number: int, call: Call) -> int:
    raise ValueError(f"no\nsuch {number}")


def make(count: int) -> Iterator[Task[int, int]]:
    for number in range(count):
        yield Task(f"t{number}", double, number)


def run(tasks: Any, workers: Threads) -> dict[str, Any]:
    ended = list(run_tasks(tasks, lambda: workers))
    assert len({task.name for task, _ in ended}) == len(ended)
    assert workers.closed
    return {task.name: outcome for task, outcome in ended}


def test_each_task_is_done_once_in_the_order_they_come() -> None:
    workers = Threads()
    assert run(make(4), workers) == {"t0": 0, "t1": 2, "t2": 4, "t3": 6}
    assert workers.started == [(f"t{number}", "h", 1) for number in range(4)]


def test_no_task_ends_at_once() -> None:
    assert run(make(0), Threads("a", "b")) == {}


def test_tasks_are_taken_when_a_worker_is_free_for_them() -> None:
    taken = []

    def watched() -> Iterator[Task[int, int]]:
        for task in make(10):
            taken.append(task.name)
            yield task

    with closing(run_tasks(watched(), lambda: Threads("a", "b"))) as ended:
        next(ended)
        # Two at work, and one that is known to be waiting.
        assert len(taken) <= 3


def test_a_lost_task_goes_to_another_host_where_there_is_one() -> None:
    workers = Threads("a", "b", lost=["t0"])
    assert run(make(1), workers) == {"t0": 0}
    assert workers.started == [("t0", "a", 1), ("t0", "b", 2)]


def test_a_lost_task_stays_on_its_host_where_there_is_no_other() -> None:
    workers = Threads("a", lost=["t0"])
    assert run(make(1), workers) == {"t0": 0}
    assert workers.started == [("t0", "a", 1), ("t0", "a", 2)]


def test_a_task_that_failed_is_tried_by_another_worker_where_there_is_one() -> None:
    workers = Threads("a", "a", failing=["0"])
    assert run(make(6), workers) == {f"t{number}": 2 * number for number in range(6)}


def test_a_task_that_is_lost_twice_is_given_up_and_the_others_are_done() -> None:
    workers = Threads("a", lost=["t1", "t1"])
    assert run(make(3), workers) == {
        "t0": 0,
        "t1": Lost(("on a: the node is gone", "on a: the node is gone")),
        "t2": 4,
    }


def test_what_a_task_raises_costs_an_attempt_and_is_told_in_a_line() -> None:
    outcome = run([Task("t", fail, 7)], Threads("a"))["t"]
    assert str(outcome) == "on a: ValueError: no such 7; on a: ValueError: no such 7"


def test_an_unfit_worker_gets_no_more_tasks_and_its_task_no_blame(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers = Threads("bad", "good", unfit=["bad"])
    with caplog.at_level(logging.WARNING):
        assert len(run(make(6), workers)) == 6
    assert [host for _, host, _ in workers.started].count("bad") == 1
    assert {number for _, _, number in workers.started} == {1}
    assert caplog.messages == ["worker 0 gets no more tasks: no engine"]


def test_where_all_workers_are_unfit_that_is_an_error() -> None:
    workers = Threads("a", "b", unfit=["a", "b"])
    with pytest.raises(ClusterError, match="no worker can do this: a: no engine; b: no engine"):
        run(make(6), workers)
    assert workers.closed


def test_workers_are_closed_where_nobody_wants_the_rest() -> None:
    workers = Threads()
    with closing(run_tasks(make(3), lambda: workers)) as ended:
        next(ended)
    assert workers.closed


@settings(max_examples=50, deadline=None)
@given(
    hosts=st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
    losses=st.lists(st.integers(0, 9), max_size=12),
)
def test_whatever_is_lost_each_task_ends_once_and_is_tried_at_most_twice(
    hosts: list[str], losses: list[int]
) -> None:
    workers = Threads(*hosts, lost=[f"t{number}" for number in losses])
    outcomes = run(make(10), workers)
    for number in range(10):
        lost = losses.count(number)
        tried = workers.names.count(f"t{number}")
        assert tried == (2 if lost else 1)
        assert isinstance(outcomes[f"t{number}"], Lost) == (lost >= 2)

"""Dask's processes die as they do on a cluster."""

import os
from collections.abc import Iterator

import pytest
from distributed import Client

from tests.cluster.processes import DaskProcesses
from tests.cluster.waiting import wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture
def client(dask: DaskProcesses) -> Iterator[Client]:
    dask.start_workers("one", "other")
    with Client(dask.address) as connected:
        yield connected


def processes(client: Client) -> set[int]:
    return set(client.run(os.getpid).values())


def test_a_worker_that_was_killed_comes_back_by_its_nanny(
    dask: DaskProcesses, client: Client
) -> None:
    before = processes(client)
    dask.kill_worker("one")
    wait_until(lambda: len(processes(client)) == 2 and processes(client) != before, "another")


def test_a_worker_that_was_killed_with_its_nanny_stays_away(
    dask: DaskProcesses, client: Client
) -> None:
    before = processes(client)
    dask.kill_nanny("one")
    wait_until(lambda: len(processes(client)) == 1, "the end of a worker")
    assert processes(client) < before

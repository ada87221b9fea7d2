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
    dask.start_worker("one")
    with Client(dask.address) as connected:
        yield connected


def test_a_worker_that_was_killed_comes_back_by_its_nanny(
    dask: DaskProcesses, client: Client
) -> None:
    (before,) = client.run(os.getpid).values()
    dask.kill_worker("one")
    wait_until(lambda: list(client.run(os.getpid).values()) not in ([], [before]), "another worker")


def test_a_worker_that_was_killed_with_its_nanny_stays_away(
    dask: DaskProcesses, client: Client
) -> None:
    dask.start_worker("other")
    dask.kill_nanny("one")
    wait_until(lambda: len(client.run(os.getpid)) == 1, "the end of a worker")
    assert client.submit(os.getpid, pure=False).result(60) in client.run(os.getpid).values()

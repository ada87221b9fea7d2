"""What tests of several machines stand on; each is skipped where this machine can't have it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import hosts
from tests.cluster import slurm as slurms
from tests.cluster.processes import DaskProcesses
from tests.cluster.slurm import Slurm


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A Dask scheduler without workers."""
    (tmp_path / "dask").mkdir()
    with DaskProcesses(tmp_path / "dask") as running:
        yield running


@pytest.fixture(scope="session")
def _hosts_possible() -> None:
    obstacle = hosts.find_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)


@pytest.fixture(scope="session")
def _slurm() -> Iterator[Slurm]:
    obstacle = slurms.find_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    with slurms.running_slurm() as running:
        yield running


@pytest.fixture
def slurm(_slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """A running Slurm without jobs, which sbatch finds while the test runs."""
    monkeypatch.setenv("SLURM_CONF", str(_slurm.configuration))
    yield _slurm
    _slurm.end_jobs()

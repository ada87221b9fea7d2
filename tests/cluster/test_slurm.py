"""Slurm with one node, and what runs on it."""

import os
from pathlib import Path

import psutil
import pytest
from dask_jobqueue.slurm import SLURMCluster
from distributed import Client

from tests.cluster.slurm import Slurm, running_slurm
from tests.cluster.waiting import wait_until

pytestmark = pytest.mark.cluster


def test_jobs_wait_run_and_are_cancelled(slurm: Slurm, tmp_path: Path) -> None:
    output = tmp_path / "output"
    slurm.run("sbatch", f"--output={output}", "--wrap", "echo $SLURM_JOB_CPUS_PER_NODE")
    wait_until(lambda: output.exists() and output.read_text() == "1\n", "a job's output")
    for _ in range(2):
        slurm.run("sbatch", "--exclusive", "--output=/dev/null", "--wrap", "sleep 600")
    wait_until(lambda: sorted(slurm.jobs()) == ["PENDING", "RUNNING"], "a job, and one that waits")
    slurm.end_jobs()
    assert not slurm.jobs()


@pytest.mark.slow
def test_dask_jobqueue_starts_workers_and_ends_them(slurm: Slurm, tmp_path: Path) -> None:
    cluster = SLURMCluster(
        cores=1,
        memory="1GB",
        processes=1,
        walltime="00:10:00",
        log_directory=str(tmp_path),
        local_directory=str(tmp_path),
        scheduler_options={"dashboard_address": ":0"},
    )
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=2)
        client.wait_for_workers(2, timeout=60)
        assert slurm.jobs() == ["RUNNING", "RUNNING"]
        assert len(set(client.run(os.getpid).values())) == 2
    wait_until(lambda: not slurm.jobs(), "the end of the jobs")


@pytest.mark.usefixtures("slurm")
def test_nothing_is_left_of_slurm() -> None:
    with running_slurm() as other:
        other.run("sbatch", "--output=/dev/null", "--wrap", "sleep 6011")
        wait_until(lambda: other.jobs() == ["RUNNING"], "a job")
    folder = other.configuration.parent
    assert not folder.exists()
    commands = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
    assert not [one for one in commands if one == "sleep 6011" or str(folder) in one]

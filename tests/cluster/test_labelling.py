"""`gamt predict` on real processes, hosts and a batch system: the outputs of one process."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.hosts import make_hosts
from tests.cluster.processes import DaskProcesses
from tests.cluster.segmenters import LEDGER
from tests.cluster.slurm import Slurm
from tests.cluster.test_evaluation import SAMPLES, slurm_options, start_evaluation, wait_for_end
from tests.cluster.waiting import PATIENCE_S, wait_until
from tests.test_predict import save

pytestmark = pytest.mark.cluster

CASES = 6
NOTED = ("--segmenter", "tests.cluster.segmenters:NotedSegmenter", "--no-budget")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    for number in range(CASES):
        save(tmp_path / "shared" / "in" / f"{number}.npz")
    return tmp_path / "shared" / "in"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which all processes that are started from now on write."""
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    return tmp_path / "ledger"


def command(cases: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "gamt", "predict", str(cases), str(out), *options]


def wait_for_work(ledger: Path, count: int) -> None:
    """Waits until segmenters have been asked so many times."""
    wait_until(
        lambda: ledger.exists() and len(ledger.read_text().splitlines()) >= count,
        f"{count} questions to the segmenter",
    )


def assert_same_outputs(cases: Path, out: Path, folder: Path, *options: str) -> None:
    """Checks that outputs are those of a single process, and that nothing else is there."""
    subprocess.run(command(cases, folder, *options), check=True)
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


def test_a_killed_worker_costs_no_case(
    cases: Path, ledger: Path, dask: DaskProcesses, tmp_path: Path
) -> None:
    """One is started again by its nanny, one is gone for good, and one comes."""
    out, log = tmp_path / "out", tmp_path / "log"
    for name in ("one", "two"):
        dask.start_worker(name)
    words = command(cases, out, *NOTED, "--scheduler", dask.address)
    labelling = start_evaluation(words, log)
    wait_for_work(ledger, 2)
    dask.kill_worker("one")
    dask.start_worker("three")
    wait_for_work(ledger, 6)
    dask.kill_nanny("two")
    wait_for_end(labelling, log)
    assert_same_outputs(cases, out, tmp_path / "single", *NOTED)


@pytest.mark.slow
@pytest.mark.parametrize("collect", [False, True], ids=["shared", "collect"])
@pytest.mark.usefixtures("_hosts_possible")
def test_separate_hosts_write_what_one_machine_does(
    cases: Path, ledger: Path, tmp_path: Path, collect: bool
) -> None:
    """One of them crashes. With `--collect` they share neither the cases nor the outputs."""
    out, log = tmp_path / "shared" / "out", tmp_path / "log"
    (tmp_path / "dask").mkdir()
    with (
        make_hosts(3, hide=tmp_path / "shared" if collect else None) as hosts,
        DaskProcesses(tmp_path / "dask", hosts[0].address, hosts[0].prefix) as dask,
    ):
        for number, host in enumerate(hosts[1:]):
            dask.start_worker(f"worker{number}", prefix=host.prefix)
        options = (*NOTED, "--scheduler", dask.address, *(["--collect"] if collect else []))
        labelling = start_evaluation((*hosts[0].prefix, *command(cases, out, *options)), log)
        wait_for_work(ledger, 4)
        hosts[1].crash()
        wait_for_end(labelling, log)
    assert_same_outputs(cases, out, tmp_path / "single", *NOTED)


@pytest.mark.slow
@pytest.mark.usefixtures("_hosts_possible")
def test_hosts_that_share_nothing_are_refused_without_collect(cases: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "shared" / "out", tmp_path / "log"
    (tmp_path / "dask").mkdir()
    with (
        make_hosts(2, hide=tmp_path / "shared") as hosts,
        DaskProcesses(tmp_path / "dask", hosts[0].address, hosts[0].prefix) as dask,
    ):
        dask.start_worker("worker", prefix=hosts[1].prefix)
        words = command(cases, out, *NOTED, "--scheduler", dask.address)
        labelling = start_evaluation((*hosts[0].prefix, *words), log)
        assert labelling.wait(PATIENCE_S) == 1
    assert "share it, or use --collect" in log.read_text().splitlines()[-1]
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_slurm_writes_what_one_machine_does(slurm: Slurm, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    (tmp_path / "in").mkdir()
    for path in sorted(SAMPLES.glob("*.npz"), key=lambda path: path.stat().st_size)[:3]:
        shutil.copy(path, tmp_path / "in")
    options = ("--cluster", "slurm", "--workers", "2", *slurm_options(tmp_path))
    words = command(tmp_path / "in", out, "--no-budget", *options)
    wait_for_end(start_evaluation(words, log), log)
    wait_until(lambda: not slurm.jobs(), "the end of the jobs")
    assert_same_outputs(tmp_path / "in", out, tmp_path / "single", "--no-budget")


@pytest.mark.slow
def test_ctrl_c_ends_what_workers_do(
    cases: Path, ledger: Path, dask: DaskProcesses, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    for name in ("one", "two"):
        dask.start_worker(name)
    labelling = start_evaluation(command(cases, out, *NOTED, "--scheduler", dask.address), log)
    wait_for_work(ledger, 2)
    os.killpg(labelling.pid, signal.SIGINT)
    assert labelling.wait(PATIENCE_S) == 130
    # The workers are there for the next one, and write nothing more of the last one.
    before = sorted(path.name for path in out.iterdir())
    again = command(cases, tmp_path / "again", *NOTED, "--scheduler", dask.address)
    wait_for_end(start_evaluation(again, log), log)
    assert sorted(path.name for path in out.iterdir()) == before
    assert len(before) < CASES

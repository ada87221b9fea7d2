"""The evaluator on real processes, hosts and a batch system: the same results, whatever dies."""

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.cluster.hosts import make_hosts
from tests.cluster.processes import DaskProcesses
from tests.cluster.slurm import Slurm
from tests.cluster.waiting import PATIENCE_S, wait_until
from tests.evaluation.test_run import command, evaluate, scores, write_case

pytestmark = pytest.mark.cluster

SAMPLES = Path(__file__).parents[1] / "cases"
CASES = 6
# Of a case without boxes there are only those after clicks.
RUNS = 6
# Longer than what else happens in a run, so that a kill comes in the middle of one.
SECONDS = 0.3


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Small cases, of different sizes."""
    folder = tmp_path / "shared" / "cases"
    folder.mkdir(parents=True)
    for number in range(CASES):
        write_case(folder / f"CT_{number}.npz", number)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiles what scores, once for all workers: in a fresh clone that takes a minute."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "cases").mkdir()
    write_case(folder / "cases" / "CT_0.npz", 0)
    evaluate(folder / "cases", folder / "team")


class Counted:
    """A method that writes down each of its runs, and predicts the same in all runs of a case.

    Attributes:
        spec: for `--method`.
    """

    def __init__(self, folder: Path, cases: Path, seconds: float = SECONDS) -> None:
        """Makes the predictions: one slice less of each class than is right.

        Args:
            folder: for files that all hosts have to see.
            cases: a folder of cases with truth.
            seconds: that a run takes.
        """
        self._ledger = folder / "ledger.txt"
        (folder / "segs").mkdir(exist_ok=True)
        for path in cases.iterdir():
            with np.load(path, allow_pickle=True) as case:
                gts = case["gts"]
            segs = np.where(np.roll(gts, 1, axis=0) == gts, gts, 0)
            np.savez_compressed(folder / "segs" / path.name, segs=segs)
        note = f"echo $(ls inputs) $$ >> {self._ledger}"
        self.spec = f"command:{note}; sleep {seconds}; cp {folder}/segs/$(ls inputs) outputs/"

    def runs(self) -> Counter[str]:
        """Returns how many runs have begun, by case."""
        return Counter(case for case, _ in self._lines())

    def wait_for(self, count: int) -> None:
        """Waits until so many runs have begun."""
        wait_until(lambda: len(self._lines()) >= count, f"{count} runs of the method")

    def running(self) -> list[str]:
        """Returns the ids of the processes of runs that have not ended."""
        return [process for _, process in self._lines() if is_running(int(process))]

    def _lines(self) -> list[list[str]]:
        if not self._ledger.exists():
            return []
        return [line.split() for line in self._ledger.read_text().splitlines()]


def is_running(process: int) -> bool:
    """Says whether a process runs; one that has ended and is still listed doesn't."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def start_evaluation(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts the evaluator in a process group of its own; what it prints goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)


def wait_for_end(process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until the evaluator has ended well, and so all that it does."""
    assert process.wait(3 * PATIENCE_S) == 0, log.read_text()


def assert_results(cases: Path, team: Path, folder: Path) -> None:
    """Checks that a team's results are those of one process on this machine, made in a folder."""
    folder.mkdir()
    single = folder / "team"
    assert not evaluate(cases, single, Counted(folder, cases, seconds=0).spec).failed
    assert_same(team, single)


def assert_same(one: Path, other: Path) -> None:
    """Checks that scores and predictions of two teams are the same."""
    pd.testing.assert_frame_equal(scores(one), scores(other), check_exact=True)
    names, others = (sorted(path.name for path in team.glob("*.npz")) for team in (one, other))
    assert names == others != []
    for name in names:
        with np.load(one / name) as first, np.load(other / name) as second:
            np.testing.assert_array_equal(first["all_segs"], second["all_segs"])


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]
)
def test_whatever_dies_no_case_is_lost_and_none_is_done_twice(
    cases: Path, dask: DaskProcesses, tmp_path: Path, seed: int
) -> None:
    """One worker is killed, one comes, the scheduler dies, and the command is repeated."""
    draw = random.Random(seed)
    out = tmp_path / "shared" / "out"
    log = tmp_path / "log"
    method = Counted(tmp_path, cases)
    words = command(cases, out, "--scheduler", dask.address, spec=method.spec)
    dask.start_workers("one", "two")
    # Each at a run of its own, in any order.
    events = [lambda: dask.kill_worker("one"), lambda: dask.kill_nanny("two")]
    events = [draw.choice(events), lambda: dask.start_worker("three")]
    draw.shuffle(events)
    moments = sorted(draw.sample(range(2, CASES * RUNS // 2), 3))

    evaluation = start_evaluation(words, log)
    for moment, event in zip(moments, (*events, dask.kill_scheduler), strict=True):
        method.wait_for(moment)
        event()
    assert evaluation.wait(PATIENCE_S) == 1
    assert dask.address in log.read_text()
    wait_until(lambda: not method.running(), "the end of all runs")

    dask.stop()
    dask.start_scheduler()
    dask.start_workers("four", "five")
    wait_for_end(start_evaluation(words, log), log)
    assert_results(cases, out / "team", tmp_path / "single")
    # Begun again were at most the killed worker's case, and those of all three workers when the
    # scheduler died.
    runs = method.runs()
    again = [case for case in runs if runs[case] != RUNS]
    assert len(runs) == CASES
    assert len(again) <= 1 + 3
    assert all(RUNS < runs[case] <= 3 * RUNS for case in again)
    assert not method.running()
    assert not (out / "team" / "work").exists()


@pytest.mark.parametrize(
    "collect", [pytest.param(False, marks=pytest.mark.slow), True], ids=["shared", "collect"]
)
@pytest.mark.usefixtures("_hosts_possible")
def test_separate_hosts_give_what_one_machine_gives(
    cases: Path, tmp_path: Path, collect: bool
) -> None:
    """One of them crashes. With `--collect` they share neither the cases nor the results."""
    out = tmp_path / "shared" / "out"
    (tmp_path / "dask").mkdir()
    method = Counted(tmp_path, cases)
    log = tmp_path / "log"
    with (
        make_hosts(3, hide=tmp_path / "shared" if collect else None) as hosts,
        DaskProcesses(tmp_path / "dask", hosts[0].address, hosts[0].prefix) as dask,
    ):
        for number, host in enumerate(hosts[1:]):
            dask.start_worker(f"worker{number}", prefix=host.prefix)
        options = ("--scheduler", dask.address, *(("--collect",) if collect else ()))
        words = command(cases, out, *options, spec=method.spec)
        evaluation = start_evaluation((*hosts[0].prefix, *words), log)
        method.wait_for(RUNS + 2)
        hosts[1].crash()
        wait_for_end(evaluation, log)
    assert_results(cases, out / "team", tmp_path / "single")


@pytest.mark.slow
def test_slurm_gives_what_one_machine_gives(slurm: Slurm, tmp_path: Path) -> None:
    """On the sample cases."""
    out = tmp_path / "out"
    log = tmp_path / "log"
    options = ("--cluster", "slurm", "--workers", "2", *slurm_options(tmp_path))
    evaluation = start_evaluation(command(SAMPLES, out, *options), log)
    wait_until(lambda: "RUNNING" in slurm.jobs(), "a job")
    wait_for_end(evaluation, log)
    wait_until(lambda: not slurm.jobs(), "the end of the jobs")
    evaluate(SAMPLES, tmp_path / "single" / "team")
    assert_same(out / "team", tmp_path / "single" / "team")


def slurm_options(folder: Path) -> list[str]:
    """Returns what a job of this Slurm asks for."""
    options = {
        "cores": "1",
        "memory": "2GB",
        "walltime": "00:10:00",
        "log_directory": str(folder),
        "local_directory": str(folder),
    }
    return [f"--cluster-option={key}={value}" for key, value in options.items()]


def test_ctrl_c_ends_what_workers_run(cases: Path, dask: DaskProcesses, tmp_path: Path) -> None:
    method = Counted(tmp_path, cases, seconds=600)
    dask.start_workers("one", "two")
    words = command(cases, tmp_path / "out", "--scheduler", dask.address, spec=method.spec)
    evaluation = start_evaluation(words, tmp_path / "log")
    wait_until(lambda: len(method.running()) == 2, "a run on each worker")
    os.killpg(evaluation.pid, signal.SIGINT)
    assert evaluation.wait(PATIENCE_S) == 130
    wait_until(lambda: not method.running(), "the end of the runs")
    # The workers are there for the next evaluation, and no case of the last one is on them.
    quick = Counted(tmp_path / "out", cases, seconds=0)
    again = command(cases, tmp_path / "again", "--scheduler", dask.address, spec=quick.spec)
    wait_for_end(start_evaluation(again, tmp_path / "log"), tmp_path / "log")
    assert set(quick.runs().values()) == {RUNS}
    assert len(method.runs()) == 2


def test_ctrl_c_ends_jobs_of_slurm(cases: Path, slurm: Slurm, tmp_path: Path) -> None:
    method = Counted(tmp_path, cases, seconds=600)
    options = ("--cluster", "slurm", "--workers", "2", *slurm_options(tmp_path))
    words = command(cases, tmp_path / "out", *options, spec=method.spec)
    evaluation = start_evaluation(words, tmp_path / "log")
    wait_until(lambda: len(method.running()) == 2, "a run on each worker")
    os.killpg(evaluation.pid, signal.SIGINT)
    assert evaluation.wait(PATIENCE_S) == 130
    wait_until(lambda: not slurm.jobs(), "the end of the jobs")
    wait_until(lambda: not method.running(), "the end of the runs")


@pytest.mark.slow
def test_a_job_that_ends_is_replaced_and_its_case_is_begun_again(
    cases: Path, slurm: Slurm, tmp_path: Path
) -> None:
    method = Counted(tmp_path, cases)
    out, log = tmp_path / "out", tmp_path / "log"
    options = ("--cluster", "slurm", *slurm_options(tmp_path))
    evaluation = start_evaluation(command(cases, out, *options, spec=method.spec), log)
    method.wait_for(RUNS + 2)
    slurm.end_jobs()
    wait_for_end(evaluation, log)
    assert_results(cases, out / "team", tmp_path / "single")

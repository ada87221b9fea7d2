"""Workers that Dask reaches: here threads of this process, and others in `make test-cluster`."""

import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from threading import Event, Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster, Status, get_worker

from gamt.cluster.dask import DaskWorkers, connect, start_cluster
from gamt.cluster.tasks import Call, ClusterError, Gone, Raised, Task, Worker, run_tasks
from tests.cluster.processes import find_free_port
from tests.cluster.waiting import wait_until


class Local(LocalCluster):
    """Workers in threads of this process, as dask-jobqueue would start them elsewhere.

    Attributes:
        options: that it was made with.
    """

    def __init__(self, n_workers: int = 0, resources: Any = None, **options: Any) -> None:
        self.options = options
        super().__init__(  # type: ignore[no-untyped-call]
            n_workers=n_workers,
            threads_per_worker=1,
            processes=False,
            memory_limit=0,
            dashboard_address=":0",
            resources=resources,
        )


@pytest.fixture
def cluster() -> Iterator[Local]:
    with Local(n_workers=2) as running:
        yield running


def double(number: int, call: Call) -> int:
    return 2 * number


def tell_size(content: bytes, call: Call) -> int:
    return len(content)


def fail(argument: object, call: Call) -> None:
    raise SystemExit(3)


def tell_worker(argument: object, call: Call) -> str:
    return str(get_worker().address)


_began = Event()
_cancelled = Event()


def wait_to_be_cancelled(argument: object, call: Call) -> None:
    _began.set()
    wait_until(call.cancelled, "the end")
    _cancelled.set()


@pytest.fixture
def watched() -> None:
    _began.clear()
    _cancelled.clear()


def run(workers: DaskWorkers, *tasks: Task[Any, Any]) -> dict[str, Any]:
    return {task.name: outcome for task, outcome in run_tasks(tasks, lambda: workers)}


def test_tasks_are_done_on_the_workers_of_a_scheduler(cluster: Local) -> None:
    tasks = [Task(str(number), double, number) for number in range(20)]
    assert run(connect(cluster.scheduler_address), *tasks) == {
        str(number): 2 * number for number in range(20)
    }


def test_large_arguments_come_whole(cluster: Local) -> None:
    content = bytes(3_000_000)
    assert run(connect(cluster.scheduler_address), Task("t", tell_size, content)) == {
        "t": 3_000_000
    }


def test_a_worker_that_does_not_answer_does_not_hold_up_the_end(
    cluster: Local, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gamt.cluster.dask._END_SECONDS", 0.5)
    ended = Event()
    in_time = []
    monkeypatch.setattr(Client, "run", lambda *a, **options: in_time.append(ended.wait(60)))
    workers = connect(cluster.scheduler_address, at_end=note_end)
    assert run(workers, Task("t", double, 1)) == {"t": 2}  # which closes them
    ended.set()
    assert "no answer from Dask; what workers run may go on for a while" in caplog.messages
    wait_until(lambda: in_time == [True], "the thread that waited")


def test_workers_that_are_silent_are_told_once(
    cluster: Local, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, heard = 1000.0, 5.0
    monkeypatch.setattr("gamt.cluster.dask.time", SimpleNamespace(monotonic=lambda: now))
    ask = Client.scheduler_info

    def tell(self: Client, **options: Any) -> Any:
        found = deepcopy(dict(ask(self, **options)))
        for one in found["workers"].values():
            one["last_seen"] = heard
        return found

    monkeypatch.setattr(Client, "scheduler_info", tell)
    with closing(connect(cluster.scheduler_address)) as workers:
        for seconds, last, told in (
            (0, 5.0, 0),
            (50, 5.0, 0),
            (20, 5.0, 2),  # for 70 s
            (50, 5.0, 2),
            (10, 6.0, 2),
            (70, 6.0, 4),
        ):
            now, heard = now + seconds, last
            workers.there()
            assert len([one for one in caplog.messages if "no sign of worker" in one]) == told


def test_a_scheduler_that_is_silent_is_told_and_waited_for(
    cluster: Local, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gamt.cluster.dask._SILENT_SECONDS", 0.2)
    answers = Event()
    ask = Client.scheduler_info

    def ask_in_time(self: Client, **options: Any) -> Any:
        assert answers.wait(60)
        return ask(self, **options)

    with closing(connect(cluster.scheduler_address)) as workers:
        monkeypatch.setattr(Client, "scheduler_info", ask_in_time)
        found: list[Worker] = []
        looking = Thread(target=lambda: found.extend(workers.there()))
        looking.start()
        expected = f"no answer from the Dask scheduler at {cluster.scheduler_address}"
        wait_until(lambda: any(expected in one for one in caplog.messages), "the warning")
        answers.set()
        looking.join()
        assert len(found) == 2


def test_what_a_task_raises_is_told(cluster: Local) -> None:
    ended = run(connect(cluster.scheduler_address), Task("t", fail, None))
    assert str(ended["t"]).count("SystemExit: 3") == 2


def test_a_task_of_a_module_that_workers_lack_makes_them_unfit(
    cluster: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("elsewhere")
    exec("def work(argument, call): pass", vars(module))
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    task = Task("t", module.work, None)
    workers = connect(cluster.scheduler_address)
    start = workers.start

    def start_without(*arguments: Any) -> None:
        start(*arguments)
        sys.modules.pop("elsewhere", None)

    monkeypatch.setattr(workers, "start", start_without)
    with closing(workers):
        (worker, *_) = workers.there()
        workers.start(worker, task, 1)
        assert wait_for(workers) == (
            worker,
            Raised("ModuleNotFoundError: No module named 'elsewhere'", unfit=True),
        )


def wait_for(workers: DaskWorkers) -> tuple[Worker, Any]:
    ended: list[tuple[Worker, Any]] = []

    def look() -> bool:
        ended.extend(workers.wait(0.1))
        return bool(ended)

    wait_until(look, "a task to end")
    (one,) = ended
    return one


def test_a_task_ends_soon_when_its_workers_are_closed(cluster: Local, watched: None) -> None:
    workers = connect(cluster.scheduler_address)
    workers.start(workers.there()[0], Task("t", wait_to_be_cancelled, None), 1)
    assert _began.wait(60)
    assert not _cancelled.is_set()
    workers.close()
    assert _cancelled.wait(60)


def test_a_worker_that_is_gone_is_told_with_its_task(cluster: Local, watched: None) -> None:
    workers = connect(cluster.scheduler_address)
    with closing(workers):
        (worker, other) = workers.there()
        workers.start(worker, Task("t", wait_to_be_cancelled, None), 1)
        assert _began.wait(60)
        Thread(
            target=lambda: workers._client.retire_workers([worker.name.split()[0]]), daemon=True
        ).start()
        gone, outcome = wait_for(workers)
        assert gone == worker
        assert isinstance(outcome, Gone)
        wait_until(lambda: workers.there() == [other], "the list of workers")


def test_a_worker_that_takes_no_argument_is_told_as_gone(cluster: Local) -> None:
    workers = connect(cluster.scheduler_address)
    with closing(workers):
        worker, _ = workers.there()
        workers._client.retire_workers([worker.name.split()[0]])
        workers.start(worker, Task("t", tell_size, bytes(3_000_000)), 1)
        gone, outcome = wait_for(workers)
        assert gone == worker
        assert isinstance(outcome, Gone)
        assert outcome.reason.startswith("the worker can't be reached: ")


def test_a_worker_that_is_paused_gets_no_task_and_that_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Local(n_workers=1) as cluster, closing(connect(cluster.scheduler_address)) as workers:
        (process,) = cluster.workers.values()
        process.status = Status.paused
        wait_until(lambda: not workers.there(), "the pause")
        told = f"waiting for a worker at {cluster.scheduler_address}; 1 are short of memory, and"
        assert sum(one.startswith(told) for one in caplog.messages) == 1
        process.status = Status.running
        wait_until(lambda: len(workers.there()) == 1, "the end of the pause")


def test_tasks_that_need_a_gpu_go_to_workers_that_have_one() -> None:
    with Local() as cluster:
        for number, resources in enumerate(({}, {"GPU": 1}, {"GPU": 0})):
            add_worker(cluster, str(number), resources)
        wait_until(lambda: len(cluster.scheduler_info["workers"]) == 3, "three workers")
        workers = connect(cluster.scheduler_address, gpu=True)
        told = run(workers, *(Task(str(number), tell_worker, None) for number in range(4)))
        assert len(set(told.values())) == 1


def add_worker(cluster: Any, name: str, resources: Mapping[str, float]) -> None:
    ((_, one),) = cluster.new_worker_spec().items()
    cluster.worker_spec[name] = one | {"options": one["options"] | {"resources": resources}}
    cluster.scale(len(cluster.worker_spec))


def test_that_there_is_no_worker_yet_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with Local() as cluster, closing(connect(cluster.scheduler_address, gpu=True)) as workers:
        for _ in range(3):
            list(workers.wait(0.6))
        told = f"waiting for a worker with the resource GPU at {cluster.scheduler_address}"
        assert caplog.messages.count(told) == 1


def test_a_worker_that_works_for_others_gets_no_task(
    cluster: Local, watched: None, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (connect(cluster.scheduler_address) for _ in range(2))
    with closing(first), closing(second):
        for worker in first.there():
            first.start(worker, Task("t", wait_to_be_cancelled, None), 1)
        assert _began.wait(60)
        wait_until(lambda: not second.there(), "their work to be seen")
        assert len(first.there()) == 2
        assert any("2 are at work for others" in one for one in caplog.messages)
        first.close()
        wait_until(lambda: len(second.there()) == 2, "the end of their work")


def test_where_no_scheduler_answers_that_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gamt.cluster.dask._CONNECT_SECONDS", 0.5)
    address = f"tcp://127.0.0.1:{find_free_port()}"
    with pytest.raises(ClusterError, match=f"^{address}: no Dask scheduler answers"):
        connect(address)


def test_a_lost_scheduler_is_an_error() -> None:
    cluster = Local(n_workers=1)
    workers = connect(cluster.scheduler_address)
    try:
        workers.there()
        cluster.close()
        wait_until(lambda: workers._client.status != "running", "the end of the scheduler")
        with pytest.raises(ClusterError, match=r"^lost the Dask scheduler at inproc://"):
            wait_until(lambda: bool(list(workers.wait(0.6))), "an error")
    finally:
        workers.close()


@pytest.fixture
def jobqueue(monkeypatch: pytest.MonkeyPatch) -> list[Local]:
    """Stands for the classes of dask-jobqueue; keeps what is made of them."""
    made: list[Local] = []

    def make(**options: Any) -> Local:
        made.append(Local(**options))
        return made[-1]

    monkeypatch.setattr("dask_jobqueue.SLURMCluster", make)
    return made


def test_workers_of_a_batch_system_end_with_the_tasks(jobqueue: list[Local]) -> None:
    workers = start_cluster("slurm", 2, {"memory": "1GB"})
    assert workers.more_to_come()
    assert run(workers, Task("t", double, 4)) == {"t": 8}
    (cluster,) = jobqueue
    assert cluster.options == {"cores": 1, "processes": 1, "memory": "1GB"}
    assert cluster.status.name == "closed"


def test_workers_of_a_batch_system_have_the_resource_that_tasks_need(
    jobqueue: list[Local],
) -> None:
    options = {"cores": 4, "worker_extra_args": ["--lifetime", "1h"]}
    start_cluster("slurm", 1, options, gpu=True).close()
    (cluster,) = jobqueue
    assert cluster.options == {
        "cores": 4,
        "processes": 1,
        "worker_extra_args": ["--lifetime", "1h", "--resources", "GPU=1"],
    }


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_what_a_batch_system_lacks_is_told_in_a_line(kind: Any) -> None:
    with pytest.raises(ClusterError, match=f"^no workers by {kind}: ValueError: .*memory") as told:
        start_cluster(kind, 1, {})
    assert "\n" not in str(told.value)


@pytest.mark.filterwarnings("ignore:Exception ignored")  # a cluster of theirs that was half made
def test_what_sbatch_refuses_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    options = {"memory": "1GB", "scheduler_options": {"dashboard_address": ":0"}}
    with pytest.raises(ClusterError, match=r"^no workers by slurm: .*invalid account") as told:
        start_cluster("slurm", 1, options)
    assert "\n" not in str(told.value)
    del told
    gc.collect()


_ends: list[int] = []


def note_end() -> None:
    _ends.append(1)


def test_workers_that_had_tasks_do_what_comes_at_the_end(cluster: Local) -> None:
    _ends.clear()
    workers = connect(cluster.scheduler_address, at_end=note_end)
    run(workers, Task("t", double, 4))
    assert _ends == [1]


@pytest.mark.filterwarnings("ignore:Exception ignored")
def test_kubernetes_that_is_not_there_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match=r"^no workers by kubernetes: ") as told:
        start_cluster("kubernetes", 1, {"name": "gamt", "image": "gamt"})
    assert "\n" not in str(told.value)
    del told
    gc.collect()


def test_a_client_of_another_is_closed_with_the_workers(cluster: Local) -> None:
    client = Client(cluster, set_as_default=False)
    DaskWorkers(client).close()
    assert client.status == "closed"

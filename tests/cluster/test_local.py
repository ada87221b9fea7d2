"""Workers that are processes of this machine."""

import multiprocessing as mp
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from gamt.cluster import local
from gamt.cluster.local import LocalWorkers, list_gpus
from gamt.cluster.tasks import Call, Lost, Task, run_tasks
from tests.cluster.waiting import wait_until


def tell_process(argument: object, call: Call) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def end_process(how: int, call: Call) -> None:
    if how < 0:
        os.kill(os.getpid(), -how)
    os._exit(how)


def return_function(argument: object, call: Call) -> Any:
    return lambda: None


def run(workers: LocalWorkers, *tasks: Task[Any, Any]) -> dict[str, Any]:
    return {task.name: outcome for task, outcome in run_tasks(tasks, lambda: workers)}


def test_a_process_stays_for_all_of_its_tasks_and_ends_with_them() -> None:
    told = run(LocalWorkers(1), *(Task(str(number), tell_process, None) for number in range(3)))
    (process,) = {process for process, _ in told.values()}
    assert process != os.getpid()
    assert not psutil.pid_exists(process)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (-signal.SIGKILL, r"its process was ended by SIGKILL \(out of memory\?\)"),
        (-signal.SIGSEGV, "its process was ended by SIGSEGV"),
        (3, "its process ended with exit status 3"),
    ],
)
def test_a_task_that_ends_its_process_is_tried_once_more_and_costs_no_other(
    how: int, reason: str
) -> None:
    tasks: list[Task[Any, Any]] = [
        Task("deadly", end_process, how),
        Task("well", tell_process, None),
    ]
    ended = run(LocalWorkers(1), *tasks)
    assert isinstance(ended["deadly"], Lost)
    assert len(re.findall(reason, str(ended["deadly"]))) == 2
    assert ended["well"][0] != os.getpid()


def leave_a_file(how: int | None, call: Call) -> str:
    name = tempfile.mkstemp()[1]
    if how is not None:
        Path(os.environ["NOTES"]).write_text(name)
        end_process(how, call)
    return name


@pytest.mark.parametrize("how", [None, -signal.SIGKILL, -signal.SIGTERM])
def test_temporary_files_of_a_process_are_gone_however_it_ends(
    how: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    told = run(LocalWorkers(1), Task("t", leave_a_file, how))["t"]
    path = Path(told if how is None else (tmp_path / "notes").read_text())
    assert path.parent != Path(tempfile.gettempdir())
    assert not path.parent.exists()


@pytest.mark.parametrize("busy", [False, True])
def test_temporary_files_are_gone_when_the_driver_was_killed(
    busy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    script = (
        "import os, signal, time\n"
        "from gamt.cluster.local import LocalWorkers\n"
        "from gamt.cluster.tasks import Task\n"
        "from tests.cluster.test_local import leave_a_file, wait_long\n"
        "if __name__ == '__main__':\n"
        "    workers = LocalWorkers(1)\n"
        "    (one,) = workers.there()\n"
        "    workers.start(one, Task('t', leave_a_file, None), 1)\n"
        "    assert list(workers.wait(60))\n"
        f"    if {busy}: workers.start(one, Task('t', wait_long, None), 1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "driver.py").write_text(script)
    done = subprocess.run([sys.executable, tmp_path / "driver.py"], check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not list((tmp_path / "tmp").glob("gamt-*")), "the end of the worker")


def wait_long(argument: object, call: Call) -> None:
    time.sleep(60)


def test_a_result_that_can_not_be_sent_is_told() -> None:
    ended = run(LocalWorkers(1), Task("t", return_function, None))
    assert "its result can't be sent" in str(ended["t"])


def test_workers_get_a_gpu_each_in_turn() -> None:
    workers = LocalWorkers(3, gpus=["0", "1"])
    with closing(workers):
        for worker in workers.there():
            workers.start(worker, Task("t", tell_process, None), 1)
        told: dict[str, str | None] = {}
        while len(told) < 3:
            told |= {worker.name: gpu for worker, (_, gpu) in workers.wait(60)}
    assert [told[name] for name in sorted(told)] == ["0", "1", "0"]


def test_gpus_are_those_that_nvidia_smi_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local._list_all_gpus.cache_clear()
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert list_gpus() == ()
    script = tmp_path / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-12)'\necho '  MIG 1g: (UUID: MIG-3)'\n"
        "echo 'GPU 1: NVIDIA H100 (UUID: GPU-34)'\n"
    )
    script.chmod(0o755)
    local._list_all_gpus.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list_gpus() == ("0", "1")
    for visible, expected in (("1", ("1",)), ("GPU-34, 0", ("GPU-34", "0")), ("", ()), ("-1", ())):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert list_gpus() == expected
    local._list_all_gpus.cache_clear()


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from gamt.cluster.local import LocalWorkers\n"
        "from gamt.cluster.tasks import Task\n"
        "from tests.cluster.test_local import write_process\n"
        "if __name__ == '__main__':\n"
        "    workers = LocalWorkers(1)\n"
        f"    task = Task('t', write_process, {os.fspath(tmp_path)!r})\n"
        "    workers.start(workers.there()[0], task, 1)\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "driver.py").write_text(program)
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py"], env=_environment())
    told = tmp_path / "process"
    try:
        wait_until(told.exists, "the task to begin")
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not psutil.pid_exists(int(told.read_text())), "the worker to end")


def write_process(folder: str, call: Call) -> None:
    partial = Path(folder) / "partial"
    partial.write_text(str(os.getpid()))
    partial.rename(Path(folder) / "process")
    signal.pause()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "END_SECONDS", 0.5)
    workers = LocalWorkers(1)
    (worker,) = workers.there()
    workers.start(worker, Task("t", ignore_signals, None), 1)
    wait_until(lambda: len(mp.active_children()) == 1, "the worker to start")
    (process,) = mp.active_children()
    workers.close()
    assert not process.is_alive()


def ignore_signals(argument: object, call: Call) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while True:
        signal.pause()

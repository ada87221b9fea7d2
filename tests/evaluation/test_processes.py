"""Commands with a time limit: what they start ends with them, and with what runs them."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from evaluation import supervisor
from evaluation.loop import LateError
from evaluation.methods import parse_method
from evaluation.processes import run_command
from tests.evaluation.runs import run


def test_a_commands_exit_status_is_told(folder: Path) -> None:
    assert run(parse_method("command:exit 3", run_limit=60), folder) == "exit status 3"


def test_a_run_that_hangs_is_stopped_with_all_that_it_started(folder: Path) -> None:
    parsed = parse_method("command:(sleep 47.5; touch outputs/late) & sleep 47.5", run_limit=0.5)
    start = time.monotonic()
    with pytest.raises(LateError, match=r"^stopped after 0\.5 s$"):
        run(parsed, folder)
    assert time.monotonic() - start < 47.5
    assert count("sleep 47.5") == 0


@pytest.mark.parametrize(
    "script",
    [
        "sleep 47.75 &",
        "setsid sleep 47.75 &",
        "(setsid sh -c 'sleep 47.75 & sleep 47.75' &)",
        "(trap '' HUP TERM; sleep 47.75; sleep 47.75) &",
        "(while :; do sleep 47.75 & sleep 0.001; done) & sleep 0.1",
        "kill -9 $PPID; sleep 47.75",
    ],
    ids=["child", "session", "grandchild", "deaf", "many", "parent-killed"],
)
def test_what_a_run_leaves_ends_with_it(folder: Path, script: str) -> None:
    start = time.monotonic()
    run(parse_method(f"command:{script}", run_limit=40), folder)
    assert count("sleep 47.75") == 0
    assert time.monotonic() - start < 47.75


def test_what_it_takes_to_end_a_run_is_not_its_time(folder: Path) -> None:
    # The command that stops what runs elsewhere takes longer than the limit.
    log = folder.parent / "log.txt"
    ended = run_command(("sh", "-c", "exit 7"), folder, log, 10.0, lambda: False, ("sleep", "11"))
    assert ended.failure == "exit status 7"
    assert ended.seconds < 10


@pytest.mark.skipif(sys.platform != "linux", reason="finds its parent's parent in /proc")
def test_a_method_that_kills_what_would_end_it_is_told(folder: Path) -> None:
    script = "read -r _ _ _ parent _ < /proc/$PPID/stat; kill -9 $parent"
    assert run(parse_method(f"command:{script}", run_limit=40), folder) == (
        "killed the process that it was started by, and what it has started may still run"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_runs_ends_with_the_process_that_runs_it(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    script = (
        "from pathlib import Path; from evaluation.methods import parse_method;"
        "method = parse_method('command:touch ready; setsid sleep 48.25', 60).method;"
        f"method.run(Path({str(folder)!r}), Path({str(tmp_path / 'log.txt')!r}), lambda: False)"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    wait_until((folder / "ready").exists)
    process.send_signal(number)
    process.wait()
    wait_until(lambda: count("sleep 48.25") == 0)


def test_stopping_waits_for_what_runs_to_end(folder: Path, tmp_path: Path) -> None:
    # In a process of its own, since all that it runs is stopped.
    script = (
        "import threading, time; from pathlib import Path;"
        "from evaluation.methods import parse_method;"
        "from evaluation.processes import stop_running;"
        "method = parse_method('command:touch ready; sleep 48.75', 60).method;"
        f"folder, log = Path({str(folder)!r}), Path({str(tmp_path / 'log.txt')!r});"
        "threading.Thread(target=method.run, args=(folder, log, lambda: False)).start();"
        "ready = folder / 'ready'\n"
        "while not ready.exists(): time.sleep(0.01)\n"
        "stop_running()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert count("sleep 48.75") == 0


def count(words: str) -> int:
    """Returns how many processes have this command line."""
    return sum(one.info["cmdline"] == words.split() for one in psutil.process_iter(["cmdline"]))


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_log_of_a_run_has_an_end(folder: Path) -> None:
    printed = supervisor.LOG_BYTES + 1_000_000
    parsed = parse_method(f"command:head -c {printed} /dev/zero; cp inputs/* outputs/", 60)
    assert run(parsed, folder) is None
    content = (folder.parent / "log.txt").read_bytes()
    assert content.startswith(bytes(supervisor.LOG_BYTES) + b"\n[the log ends here")
    assert len(content) < supervisor.LOG_BYTES + 100
    assert (folder / "outputs" / "US_phantom.npz").exists()

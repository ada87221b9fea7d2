"""Methods: what a spec stands for, the command lines to the letter, and runs that go wrong."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from benchmarks.samples import FOLDER as SAMPLES
from evaluation import methods, supervisor
from evaluation.loop import LateError
from evaluation.methods import Container, InProcess, MethodError, ParsedMethod, parse_method
from gamt.cli.options import PredictOptions
from gamt.cluster import local
from tests.evaluation.engine import Engine


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(methods, "list_gpus", lambda: ())
    return Engine(tmp_path / "engine", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a run on the ultrasound sample."""
    for name in ("inputs", "outputs"):
        (tmp_path / "work" / name).mkdir(parents=True)
    source = SAMPLES / "US_phantom.npz"
    (tmp_path / "work" / "inputs" / source.name).write_bytes(source.read_bytes())
    return tmp_path / "work"


def run(parsed: ParsedMethod, folder: Path) -> str | None:
    return parsed.method.run(folder, folder.parent / "log.txt", lambda: False).failure


def log(folder: Path) -> str:
    return (folder.parent / "log.txt").read_text()


def test_docker_is_called_by_the_challenges_command(engine: Engine, folder: Path) -> None:
    engine.add("myteam:latest")
    parsed = parse_method("docker:myteam", run_limit=60)
    assert run(parsed, folder) is None
    assert (folder / "outputs" / "US_phantom.npz").exists()
    # docs/challenge.md, 1; the shell has taken the quotes away there.
    assert engine.calls("docker", "container", "run") == [
        [
            *("docker", "container", "run", "-m", "32G", "--name", "myteam", "--rm"),
            *("-v", f"{folder}/inputs/:/workspace/inputs/"),
            *("-v", f"{folder}/outputs/:/workspace/outputs/"),
            *("myteam:latest", "/bin/bash", "-c", "sh predict.sh"),
        ]
    ]


@pytest.mark.parametrize(
    ("visible", "words"),
    [
        (None, ["--gpus", "device=0"]),
        ("2,3", ["--gpus", "device=2"]),
        ("GPU-5ebe9f43", ["--gpus", "device=GPU-5ebe9f43"]),
        ("", ["-m", "32G"]),
    ],
)
def test_a_container_is_given_the_first_gpu_of_its_process(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, words: list[str]
) -> None:
    monkeypatch.setattr(local, "_list_all_gpus", lambda: ("0", "1", "2", "3"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    container = Container("docker", "myteam:latest", "myteam", False, 60)
    command = container.command(Path("/tmp/w"), "myteam")
    assert command[3:5] == words


def test_a_tarball_is_named_by_the_challenges_rule(engine: Engine, tmp_path: Path) -> None:
    # Team: up to the first dot, lower-cased; image: the team up to the first underscore.
    tarball = tmp_path / "MyTeam_Coreset.v2.tar.gz"
    tarball.touch()
    engine.add("myteam:latest")
    parsed = parse_method(f"docker:{tarball}", run_limit=60)
    assert parsed.team == "myteam_coreset"
    assert isinstance(parsed.method, Container)
    assert (parsed.method.image, parsed.method.name) == ("myteam:latest", "myteam_coreset")
    assert engine.calls("docker", "image", "load") == [
        ["docker", "image", "load", "-i", str(tarball)]
    ]


def test_a_tarball_of_another_image_is_refused(engine: Engine, tmp_path: Path) -> None:
    tarball = tmp_path / "other.tar.gz"
    tarball.touch()
    engine.add("myteam:latest")
    with pytest.raises(MethodError, match=r"no image other:latest.*other\.tar\.gz"):
        parse_method(f"docker:{tarball}", run_limit=60)


def test_an_image_keeps_the_tag_that_it_is_given(engine: Engine) -> None:
    engine.add("host:5000/lab/MyTeam:v2")
    parsed = parse_method("podman:host:5000/lab/MyTeam:v2", run_limit=60)
    assert isinstance(parsed.method, Container)
    assert (parsed.method.engine, parsed.method.image) == ("podman", "host:5000/lab/MyTeam:v2")
    assert parsed.team == "myteam"


def test_the_image_is_removed_on_request_alone(engine: Engine) -> None:
    engine.add("myteam:latest")
    parse_method("docker:myteam", run_limit=60).release()
    assert engine.calls("docker", "rmi") == []
    parse_method("docker:myteam", run_limit=60, remove_image=True).release()
    assert engine.calls("docker", "rmi") == [["docker", "rmi", "myteam:latest"]]


def test_containers_at_a_time_have_names_of_their_own(engine: Engine, folder: Path) -> None:
    engine.add("myteam:latest")
    run(parse_method("docker:myteam", run_limit=60, parallel=True), folder)
    (call,) = engine.calls("docker", "container", "run")
    assert call[call.index("--name") + 1].startswith("myteam_")


@pytest.mark.parametrize("packed", [True, False])
def test_where_docker_is_not_installed_apptainer_runs_its_tarball(
    engine: Engine,
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    packed: bool,
) -> None:
    (engine.folder / "docker").unlink()
    monkeypatch.setenv("PATH", os.pathsep.join([os.fspath(engine.folder), "/usr/bin", "/bin"]))
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))
    if shutil.which("docker") is not None:
        pytest.skip("docker is in the system's own folders")
    tarball = tmp_path / "MyTeam_v2.tar.gz"
    tarball.write_bytes(gzip.compress(b"layers") if packed else b"layers")
    parsed = parse_method(f"docker:{tarball}", run_limit=60)
    assert parsed.team == "myteam_v2"
    assert run(parsed, folder) is None
    assert (folder / "outputs" / "US_phantom.npz").exists()
    # It is built once, from the tar that the file holds.
    parse_method(f"docker:{tarball}", run_limit=60)
    (build,) = engine.calls("apptainer", "build")
    assert build[3].startswith("docker-archive:///")
    (image,) = (tmp_path / "cache" / "gamt" / "images").glob("*.sif")
    assert image.read_bytes() == b"layers"


def test_a_machine_that_has_the_image_does_not_load_it_again(
    engine: Engine, tmp_path: Path
) -> None:
    tarball = tmp_path / "myteam.tar"
    tarball.touch()
    engine.add("myteam:latest")
    parsed = parse_method(f"docker:{tarball}", run_limit=60)
    assert parsed.fitness is not None
    parsed.fitness.check()
    assert len(engine.calls("docker", "image", "load")) == 1
    # Nor does it end what another run there has started.
    assert len(engine.calls("docker", "container", "rm")) == 1
    other = replace(parsed.fitness, identity="sha256:5678")
    with pytest.raises(
        MethodError, match=r"found sha256:1234, expected sha256:5678; give workers the same"
    ):
        other.check()
    assert len(engine.calls("docker", "image", "load")) == 2


def test_apptainer_sees_what_docker_would(engine: Engine, tmp_path: Path, folder: Path) -> None:
    image = tmp_path / "Team.sif"
    image.touch()
    parsed = parse_method(f"apptainer:{image}", run_limit=60)
    assert parsed.team == "team"
    assert run(parsed, folder) is None
    assert (folder / "outputs" / "US_phantom.npz").exists()
    (call,) = engine.calls("apptainer")
    assert call[1:5] == ["exec", "--containall", "--cleanenv", "--writable-tmpfs"]
    assert call[-6:] == ["--pwd", "/workspace", str(image), "/bin/bash", "-c", "sh predict.sh"]


def test_what_a_container_prints_is_kept(engine: Engine, folder: Path) -> None:
    engine.add("myteam:latest")
    parsed = parse_method("docker:myteam", run_limit=60)
    run(parsed, folder)
    run(parsed, folder)
    assert log(folder).count("segmenting") == log(folder).count("in vain") == 2


def test_a_command_runs_beside_inputs_and_outputs(folder: Path) -> None:
    parsed = parse_method("command:cp inputs/*.npz outputs/ && echo copied", run_limit=60)
    assert run(parsed, folder) is None
    assert (folder / "outputs" / "US_phantom.npz").exists()
    assert log(folder) == "copied\n"


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
    ended = methods._run(("sh", "-c", "exit 7"), folder, log, 10.0, lambda: False, ("sleep", "11"))
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
        "from evaluation.methods import parse_method, stop_running;"
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


@pytest.mark.parametrize(("script", "removals"), [("exit 0", 0), ("exit 125", 1), ("sleep 60", 1)])
def test_a_container_whose_client_ended_otherwise_than_well_is_removed(
    engine: Engine, folder: Path, script: str, removals: int
) -> None:
    engine.add("myteam:latest")
    parsed = parse_method("docker:myteam", run_limit=2)
    remove = ["docker", "container", "rm", "--force", "myteam"]
    before = engine.calls(*remove[:3])
    client = engine.folder / "docker"
    whole = client.read_text()
    client.write_text(
        f'#!/bin/sh\ncase "$*" in "container run"*) {script};; *) exec "$0.py" "$@";; esac\n'
    )
    (engine.folder / "docker.py").write_text(whole)
    (engine.folder / "docker.py").chmod(0o755)
    with suppress(LateError):
        run(parsed, folder)
    calls = [["docker", *call[1:]] for call in engine.calls("docker.py")]
    assert calls == [remove] * removals
    assert before == [remove]  # of an evaluation that was killed


def test_gamt_is_given_its_options(folder: Path) -> None:
    parsed = parse_method("gamt --set smoothing=opening --no-budget", run_limit=60)
    assert "smoothing='opening'" in parsed.identity
    assert "budget=False" in parsed.identity
    assert run(parsed, folder) is None
    with np.load(folder / "outputs" / "US_phantom.npz") as file:
        assert set(np.unique(file["segs"])) == {0, 1, 2, 3}
    assert "US_phantom: statistical" in log(folder)


def write_model(folder: Path, weights: bytes) -> None:
    """Writes files that nothing but their names makes a model of."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ("--segmenter hf:./net", "net/model.safetensors"),
        ("--segmenter hf:./net", "net/config.json"),
        ("--segmenter hf:./net --weights tuned.pth", "tuned.pth"),
        ("--segmenter medsam2 --weights tuned.pth", "tuned.pth"),
        ("--preset cpu", "weights/MedSAM2_latest.pt"),
        ("--segmenter package.module:Class --weights tuned.pth", "tuned.pth"),
    ],
)
def test_gamt_with_other_weights_is_another_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAMT_WEIGHTS_DIR", raising=False)
    write_model(tmp_path / "net", b"one")
    (tmp_path / "weights").mkdir()
    for name in ("tuned.pth", "weights/MedSAM2_latest.pt"):
        (tmp_path / name).write_bytes(b"one")
    identity = parse_method(f"gamt {options}", run_limit=60).identity
    assert parse_method(f"gamt {options}", run_limit=60).identity == identity
    (tmp_path / file).write_bytes(b"two")
    assert parse_method(f"gamt {options}", run_limit=60).identity != identity


def test_gamt_with_another_version_of_what_computes_its_network_is_another_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "net", b"one")
    spec = f"gamt --segmenter hf:{tmp_path}/net"
    without = parse_method("gamt", run_limit=60).identity
    identity = parse_method(spec, run_limit=60).identity
    monkeypatch.setattr("gamt.identity.version", lambda distribution: "1000.0")
    assert parse_method(spec, run_limit=60).identity != identity
    assert parse_method("gamt", run_limit=60).identity == without


def test_gamt_that_hangs_is_stopped(folder: Path) -> None:
    with pytest.raises(LateError, match=r"stopped after 0\.01 s"):
        run(parse_method("gamt", run_limit=0.01), folder)


def test_gamt_that_is_done_after_its_limit_is_late(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_slowly(path: Path, *arguments: object) -> None:
        time.sleep(1.1)

    parsed = parse_method("gamt", run_limit=60)
    assert isinstance(parsed.method, InProcess)
    parsed.method.load()
    done = SimpleNamespace(labels=None, status="complete")
    monkeypatch.setattr("gamt.predict.write_segmentation", write_slowly)
    monkeypatch.setattr("gamt.predict.predict_case", lambda *arguments, **options: done)
    monkeypatch.setattr("gamt.predict.log_prediction", lambda *arguments: None)
    with pytest.raises(LateError):
        replace(parsed.method, run_limit=1.0).run(folder, folder.parent / "log.txt", lambda: False)


def test_paths_in_gamts_options_start_where_it_was_parsed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "model.pth").touch()
    parsed = parse_method("gamt --cache slices --weights model.pth", run_limit=60)
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded: list[object] = []
    monkeypatch.setattr(
        PredictOptions,
        "load_segmenter",
        lambda options, settings: loaded.append(options.weights),
    )
    assert isinstance(parsed.method, InProcess)
    _, _, cache = parsed.method.load()
    assert cache == tmp_path / "here" / "slices"
    assert loaded == [str(tmp_path / "here" / "model.pth")]


def test_gamt_runs_and_is_stopped_in_any_thread(folder: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(run, parse_method("gamt", run_limit=60), folder).result() is None
        late = threads.submit(run, parse_method("gamt", run_limit=0.01), folder)
    assert isinstance(late.exception(), LateError)


def test_why_gamt_failed_is_told(folder: Path) -> None:
    (folder / "inputs" / "US_phantom.npz").write_bytes(b"no zip")
    failure = run(parse_method("gamt", run_limit=60), folder)
    assert failure is not None
    assert failure.startswith("US_phantom.npz: found no zip archive")


def test_gamt_in_process_has_an_output_where_gamt_predict_has_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no \x1b[2J luck")

    monkeypatch.setattr("gamt.predict.predict_case", fail)
    failure = run(parse_method("gamt", run_limit=60), folder)
    # How it was degraded is told, as a command's exit status would be.
    assert failure == "the prompts' shape alone (RuntimeError: no \\x1b[2J luck)"
    with np.load(folder / "outputs" / "US_phantom.npz") as file:
        assert set(np.unique(file["segs"])) == {0, 1, 2, 3}
    assert "\x1b" not in log(folder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "found the method 'nothing', expected one of"),
        ("command:", "expected one of"),
        ("docker:", "expected one of"),
        ("gamt --preset nothing", "no preset is named 'nothing'"),
        ("gamt --nothing", "--nothing"),
        ("gamt --segmenter hf:./nothing", "found 'hf:./nothing', which is no folder"),
        ("gamt --segmenter medsam2 --weights none.pt", "none.pt: no such checkpoint file"),
        (
            "gamt --preset 'default",
            'found the method "gamt --preset \'default": No closing quotation',
        ),
        ("docker:missing", "docker has no image missing:latest; expected a local image"),
        ("apptainer:missing.sif", "no such file"),
    ],
)
def test_what_can_not_be_run_is_refused_before_the_work(
    engine: Engine, spec: str, message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        parse_method(spec, run_limit=60)


def test_an_engine_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MethodError, match="podman isn't installed"):
        parse_method("podman:team", run_limit=60)

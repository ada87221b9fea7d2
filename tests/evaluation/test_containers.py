"""Containers: the command lines to the letter, and images that are found, loaded and removed."""

import gzip
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.containers import Container
from evaluation.loop import LateError, MethodError
from evaluation.methods import parse_method
from gamt.cluster import local
from tests.evaluation.engine import Engine
from tests.evaluation.runs import log, run


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

"""Images of containers as methods, run by docker, podman or apptainer."""

import gzip
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import platformdirs
from filelock import FileLock

from evaluation.loop import Ended, MethodError
from evaluation.processes import run_command
from gamt.cluster.local import list_gpus

MEMORY = "32G"
"""What a container may use (docs/challenge.md, 1)."""


@dataclass(frozen=True, slots=True)
class Container:
    """An image run by docker or podman with the challenge's command (docs/challenge.md, 1).

    Attributes:
        engine: "docker" or "podman".
        image: its name with the tag.
        name: the container's; several that run at a time have a random number added.
        parallel: whether several run at a time.
        run_limit: seconds after which a run is stopped.
    """

    engine: str
    image: str
    name: str
    parallel: bool
    run_limit: float

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`."""
        name = f"{self.name}_{uuid.uuid4().hex}" if self.parallel else self.name
        stop = (self.engine, "container", "rm", "--force", name)
        return run_command(self.command(folder, name), folder, log, self.run_limit, cancelled, stop)

    def remove_image(self) -> None:
        """Removes the image, as the official script does in the end.

        Raises:
            MethodError: that can't be.
        """
        _ask(self.engine, "rmi", self.image)

    def command(self, folder: Path, name: str) -> list[str]:
        """Returns the command line."""
        number = choose_gpu()
        gpu = {
            "docker": ["--gpus", f"device={number}"],
            "podman": ["--device", f"nvidia.com/gpu={number}"],
        }
        return [
            *(self.engine, "container", "run"),
            *([] if number is None else gpu[self.engine]),
            *("-m", MEMORY, "--name", name, "--rm"),
            *("-v", f"{folder}/inputs/:/workspace/inputs/"),
            *("-v", f"{folder}/outputs/:/workspace/outputs/"),
            *(self.image, "/bin/bash", "-c", "sh predict.sh"),
        ]


@dataclass(frozen=True, slots=True)
class Apptainer:
    """An image run by apptainer as docker would run it.

    Attributes:
        image: the file.
        run_limit: seconds after which a run is stopped.
    """

    image: str
    run_limit: float

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        """See `evaluation.loop.Method`."""
        number = choose_gpu()
        command = [
            # Nothing of the user's: no environment, home or temporary files; a container may
            # write to itself.
            *("apptainer", "exec", "--containall", "--cleanenv", "--writable-tmpfs"),
            *([] if number is None else ["--nv", "--env", f"CUDA_VISIBLE_DEVICES={number}"]),
            *("--bind", f"{folder}/inputs/:/workspace/inputs/"),
            *("--bind", f"{folder}/outputs/:/workspace/outputs/"),
            *("--pwd", "/workspace", self.image, "/bin/bash", "-c", "sh predict.sh"),
        ]
        return run_command(command, folder, log, self.run_limit, cancelled)


def choose_gpu() -> str | None:
    """Returns the GPU to give to a container: this process's first; None where there is none."""
    return next(iter(list_gpus()), None)


class Image(NamedTuple):
    """An image that is here, as a method.

    Attributes:
        method: runs it.
        team: the name that goes with it.
        identity: what would give other results if it changed.
    """

    method: Container | Apptainer
    team: str
    identity: str


def find_image(
    engine: str,
    image: str,
    folder: Path,
    run_limit: float,
    parallel: bool,
    identity: str | None,
) -> Image:
    """Finds an image of docker or podman; a tarball is loaded, and named by the challenge's rule.

    Where the engine isn't installed, but apptainer is, as on clusters, that runs the tarball.

    Args:
        engine: "docker" or "podman".
        image: its name, or the path of a tarball.
        folder: absolute, that a relative path starts from.
        run_limit: seconds after which one run is stopped.
        parallel: whether several run at a time.
        identity: of a tarball's image, where it is known: it isn't loaded again then.

    Raises:
        MethodError: there is none, or nothing that runs it.
    """
    tarball = folder / image
    is_file = tarball.is_file()
    if is_file and shutil.which(engine) is None and shutil.which("apptainer") is not None:
        return _use_apptainer(_build_for_apptainer(tarball), tarball, run_limit)
    _require(engine)
    if is_file:
        # CVPR25_iter_eval.py: the team is the file's name up to the first dot, and the image the
        # team up to the first underscore.
        team = tarball.name.split(".")[0].lower()
        tagged = f"{team.split('_')[0]}:latest"
        if identity is None or _identify(engine, tagged) != identity:
            _ask(engine, "image", "load", "-i", os.fspath(tarball))
        hint = f"the challenge runs {tagged} of a file with the name {tarball.name}"
    else:
        name, _, tag = image.rpartition("/")[2].partition(":")
        team, tagged = name.lower(), image if tag else f"{image}:latest"
        hint = "expected a local image, or a tarball"
    found = _identify(engine, tagged)
    if found is None:
        raise MethodError(f"{engine} has no image {tagged}; {hint}")
    name = re.sub(r"[^\w.-]", "_", team)
    if not parallel:
        # One that an evaluation which was killed has left behind.
        _ask(engine, "container", "rm", "--force", name)
    return Image(Container(engine, tagged, name, parallel, run_limit), team, found)


def find_apptainer_image(image: str, folder: Path, run_limit: float) -> Image:
    """Finds an image of apptainer, a file.

    Args:
        image: its path.
        folder: see `find_image`.
        run_limit: see `find_image`.

    Raises:
        MethodError: there is none, or no apptainer.
    """
    _require("apptainer")
    path = folder / image
    if not path.is_file():
        raise MethodError(f"{path}: no such file; 'apptainer build {image} ...' makes one")
    return _use_apptainer(path, path, run_limit)


def _use_apptainer(image: Path, source: Path, run_limit: float) -> Image:
    """Returns the method that runs an image, whose identity is that of the file it came from."""
    method = Apptainer(os.fspath(image.resolve()), run_limit)
    return Image(method, source.name.split(".")[0].lower(), f"{source.stat().st_mtime}")


def _identify(engine: str, image: str) -> str | None:
    """Returns the identity of a local image; None where there is none."""
    try:
        return _ask(engine, "image", "inspect", "--format", "{{.Id}}", image)
    except MethodError:
        return None


def _build_for_apptainer(tarball: Path) -> Path:
    """Returns what apptainer makes of a tarball of `docker save`; it is kept in the user's cache.

    Raises:
        MethodError: that can't be.
    """
    status = tarball.stat()
    known = f"{tarball.resolve()} {status.st_size} {status.st_mtime_ns}"
    cache = platformdirs.user_cache_path("gamt") / "images"
    image = cache / f"{hashlib.sha256(os.fsencode(known)).hexdigest()[:16]}.sif"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(image.with_suffix(".lock")):
            if not image.exists():
                with tempfile.TemporaryDirectory(dir=cache) as name:
                    archive, built = Path(name) / "image.tar", Path(name) / "image.sif"
                    with _open_tarball(tarball) as packed, archive.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
                    _ask("apptainer", "build", os.fspath(built), f"docker-archive://{archive}")
                    built.replace(image)
    except OSError as error:
        raise MethodError(f"{tarball}: can't be made an image of apptainer: {error}") from error
    return image


def _open_tarball(tarball: Path) -> IO[bytes]:
    """Opens a tarball, which may be compressed, as the tar that it holds."""
    with tarball.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(tarball) if is_compressed else tarball.open("rb")  # type: ignore[return-value]


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise MethodError(f"{program} isn't installed")


def _ask(*command: str) -> str:
    """Returns what a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise MethodError(f"'{shlex.join(command)}' failed: {said}")
    return done.stdout.strip()

"""The image, built by the container engine that answers."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = "gamt-under-test"


@dataclass(frozen=True)
class Image:
    """The image under test.

    Attributes:
        engine: "docker" or "podman".
        name: of the image, without its tag.
    """

    engine: str
    name: str

    def call(self, *words: str, status: int = 0) -> str:
        """Calls the engine; returns all that it prints."""
        done = subprocess.run(
            [self.engine, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def predict(self, folder: Path, *options: str, status: int = 0) -> str:
        """Runs the challenge's command on a folder with inputs/ and outputs/; returns the log."""
        return self.call(
            *("container", "run", "-m", "32G", "--name", f"gamt-{uuid.uuid4().hex}", "--rm"),
            *("-v", f"{folder}/inputs/:/workspace/inputs/"),
            *("-v", f"{folder}/outputs/:/workspace/outputs/"),
            *options,
            *(f"{self.name}:latest", "/bin/bash", "-c", "sh predict.sh"),
            status=status,
        )

    def show(self, *command: str) -> str:
        """Runs a command in the image; returns what it prints."""
        return self.call("container", "run", "--rm", f"{self.name}:latest", *command)


def find_engine() -> str | None:
    """Returns the container engine that answers."""
    for name in ("docker", "podman"):
        try:
            subprocess.run([name, "info"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return name
    return None


@pytest.fixture(scope="session")
def engine() -> str:
    found = find_engine()
    if found is None:
        pytest.exit("no container engine answers: start docker, or install podman", returncode=1)
    return found


@pytest.fixture(scope="session")
def image(engine: str) -> Iterator[Image]:
    built = Image(engine, IMAGE)
    built.call("build", "--network", "host", "--tag", f"{IMAGE}:latest", os.fspath(ROOT))
    yield built
    built.call("rmi", f"{IMAGE}:latest")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with empty inputs/ and outputs/, as the challenge mounts them."""
    for name in ("inputs", "outputs"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    return tmp_path

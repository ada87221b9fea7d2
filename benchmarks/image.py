"""The container's image, built and run by the engine that answers."""

import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGE = "gamt-under-test"


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes:
        engine: "docker" or "podman".
        name: of the image, without its tag.
    """

    engine: str
    name: str

    def build(self, context: Path, *options: str) -> None:
        """Builds the image from a folder like the repository's."""
        tag = f"{self.name}:latest"
        self.call("build", "--network", "host", "--tag", tag, *options, os.fspath(context))

    def remove(self) -> None:
        """Removes the image from the engine."""
        self.call("rmi", f"{self.name}:latest")

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

"""A stand-in for docker, podman and apptainer: notes how it is called, and runs the toy method.

Written to a folder that goes first on the PATH. A real engine is used by the container's own tests.
"""

import json
import os
import sys
from pathlib import Path

import pytest

SCRIPT = """\
#!{python}
import json, pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
with open(here / "calls.jsonl", "a") as file:
    file.write(json.dumps([pathlib.Path(__file__).name, *arguments]) + "\\n")
if arguments[:2] == ["image", "inspect"]:
    known = (here / "images.txt").read_text().split()
    print("sha256:1234")
    sys.exit(0 if arguments[-1] in known else 1)
if arguments[0] == "build":
    archive = arguments[2].removeprefix("docker-archive://")
    pathlib.Path(arguments[1]).write_bytes(pathlib.Path(archive).read_bytes())
if arguments[1] == "run" or arguments[0] == "exec":
    mounts = [one for one in arguments if one.endswith(":/workspace/inputs/")]
    folder = pathlib.Path(mounts[0].removesuffix("/inputs/:/workspace/inputs/"))
    print("segmenting")
    print("in vain", file=sys.stderr)
    sys.exit(subprocess.run([sys.executable, {toy!r}, folder]).returncode)
"""


class Engine:
    """The stand-ins, on the PATH while the test runs.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        toy = os.fspath(Path(__file__).with_name("toy_method.py"))
        for name in ("docker", "podman", "apptainer"):
            script = folder / name
            script.write_text(SCRIPT.format(python=sys.executable, toy=toy))
            script.chmod(0o755)
        (folder / "images.txt").write_text("")
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def add(self, image: str) -> None:
        """Gives the engine an image."""
        (self.folder / "images.txt").write_text(image)

    def calls(self, *words: str) -> list[list[str]]:
        """Returns the calls so far that begin with these words."""
        lines = (self.folder / "calls.jsonl").read_text().splitlines()
        return [call for call in map(json.loads, lines) if call[: len(words)] == list(words)]

"""The image, built by the container engine that answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.image import IMAGE, ROOT, Image, find_engine


@pytest.fixture(scope="session")
def engine() -> str:
    found = find_engine()
    if found is None:
        pytest.exit("no container engine answers: start docker, or install podman", returncode=1)
    return found


@pytest.fixture(scope="session")
def image(engine: str) -> Iterator[Image]:
    built = Image(engine, IMAGE)
    built.build(ROOT)
    yield built
    built.remove()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with empty inputs/ and outputs/, as the challenge mounts them."""
    for name in ("inputs", "outputs"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    return tmp_path

"""Fixtures that tests of several folders share."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.object_storage import ObjectStorage

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("gamt", deadline=None)
settings.load_profile("gamt")


@pytest.fixture(autouse=True)
def _log_restored() -> Iterator[None]:
    """Undoes what a command line does to the log."""
    logger = logging.getLogger("gamt")
    handlers = logger.handlers
    names = ("gamt", "distributed", "distributed.client", "tornado.application", "asyncio")
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    yield
    logger.handlers = handlers
    for one, level in levels:
        one.setLevel(level)


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Returns the path of a stand-in checkpoint by its name; written once, shared by all tests."""
    folder = tmp_path_factory.mktemp("standins")
    written: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in written:
            # Not all tests need torch, which takes long to import.
            from benchmarks.standins import write_standin

            path = folder / f"{name}.pth"
            write_standin(name, path)
            written[name] = path
        return written[name]

    yield find
    for path in written.values():  # pytest keeps its folders, and these files are large
        path.unlink()


@pytest.fixture(scope="session")
def _object_storage() -> "Iterator[ObjectStorage]":
    from tests.object_storage import serve_objects

    with serve_objects() as storage:
        yield storage


@pytest.fixture
def objects(
    _object_storage: "ObjectStorage", monkeypatch: pytest.MonkeyPatch
) -> "Iterator[ObjectStorage]":
    """Gives object storage with an empty bucket, which this process and its children find."""
    from s3fs import S3FileSystem

    _object_storage.reset()
    for name, value in _object_storage.environment.items():
        monkeypatch.setenv(name, value)
    # A file system takes its endpoint and credentials from the environment when it is made.
    S3FileSystem.clear_instance_cache()
    yield _object_storage
    S3FileSystem.clear_instance_cache()

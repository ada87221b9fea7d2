"""Files that are no paths of this machine: object storage and whatever else fsspec reaches.

A file is fetched before it is read, and written whole before it is put: readers and writers only
know paths. fsspec and its packages are optional, and imported when the first URL is used.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gamt.text import hide_login, printable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class StorageError(ValueError):
    """A URL that can't be read or written; the message is one line that names it."""


class MissingError(StorageError):
    """A URL at which there is nothing."""


@dataclass(frozen=True, slots=True, repr=False)
class RemotePath:
    """A file or folder that fsspec reaches.

    Attributes:
        url: such as ``s3://bucket/folder/case.npz``. It may hold a login, which `str` leaves out.
    """

    url: str

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rstrip("/").rpartition("/")[2]

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return printable(hide_login(self.url))

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"


def locate(place: "str | os.PathLike[str] | RemotePath") -> Path | RemotePath:
    """Returns what a URL names, or the absolute path of anything else, ``file://`` included."""
    if isinstance(place, RemotePath):
        return place
    text = os.fspath(place).removeprefix("file://")
    return RemotePath(text) if "://" in text else Path(text).absolute()


def list_files(place: RemotePath) -> list[tuple[RemotePath, int]]:
    """Lists what is in a folder, and nothing of what is in folders below; or the one file given.

    No file is opened for that. What others write meanwhile may be missing.

    Args:
        place: the folder or file.

    Returns:
        Each with its size in bytes, 0 where the storage doesn't tell, in the order of names.

    Raises:
        MissingError: there is neither a file nor a folder.
        StorageError: it can't be listed.
    """
    with _explained(place):
        system, path = _connect(place)
        system.invalidate_cache()
        info = system.info(path)
        if info["type"] == "file":
            return [(place, info["size"] or 0)]
        entries = [
            (place / entry["name"].rstrip("/").rpartition("/")[2], entry["size"] or 0)
            for entry in system.ls(path, detail=True)
            if entry["name"].rstrip("/") != path.rstrip("/")  # an object that stands for the folder
        ]
    return sorted(entries, key=lambda entry: entry[0].url)


def is_within(file: RemotePath, folder: RemotePath) -> bool:
    """Says whether a file lies right in a folder, as far as their URLs tell.

    Raises:
        StorageError: one of them is no URL that fsspec knows.
    """
    with _explained(file):
        system, path = _connect(file)
    with _explained(folder):
        other, parent = _connect(folder)
    return system == other and path.rpartition("/")[0] == parent.rstrip("/")


def check_readable(place: RemotePath) -> None:
    """Looks a folder or file up.

    Raises:
        MissingError: there is neither.
        StorageError: it can't be reached.
    """
    with _explained(place):
        system, path = _connect(place)
        system.invalidate_cache()
        system.info(path)


def check_writable(folder: RemotePath) -> None:
    """Writes a file into a folder and discards it before it appears.

    Raises:
        StorageError: nothing can be written there.
    """
    with _explained(folder):
        system, path = _connect(folder / f".{uuid.uuid4().hex}.partial")
        system.start_transaction()
        transaction = system.transaction
        try:
            with system.open(path, "wb") as file:
                file.write(b"\0")
        finally:
            transaction.complete(commit=False)


@contextmanager
def fetched(file: RemotePath) -> Iterator[Path]:
    """Gives the path of a temporary copy of a file, of the same name.

    Raises:
        MissingError: there is no such file.
        StorageError: it can't be read to its end, or there is no room for it.
    """
    with temporary_file(file.name) as path:
        with _explained(file):
            system, source = _connect(file)
            system.get_file(source, os.fspath(path))
        yield path


@contextmanager
def put_whole(file: RemotePath) -> Iterator[Path]:
    """Gives a temporary path; what is written to it becomes the file when the block ends.

    The file appears at once and whole, in place of an earlier one, or not at all, also where the
    process is killed meanwhile.

    Raises:
        StorageError: it can't be written.
    """
    with temporary_file(file.name) as path:
        yield path
        with _explained(file):
            system, target = _connect(file)
            with (
                system.transaction,
                system.open(target, "wb") as written,
                path.open("rb") as read,
            ):
                shutil.copyfileobj(read, written)


@contextmanager
def temporary_file(name: str) -> Iterator[Path]:
    """Gives the path of a file of this name in a new folder, which goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="gamt-") as folder:
        yield Path(folder, name)


def _connect(place: RemotePath) -> "tuple[AbstractFileSystem, str]":
    """Returns the file system of a URL, and the path there.

    Raises:
        ImportError: a package is missing.
        ValueError: fsspec doesn't know the protocol, or the URL makes no sense to it.
    """
    from fsspec.core import url_to_fs

    system, path = url_to_fs(place.url)
    return system, path


@contextmanager
def _explained(place: RemotePath) -> Iterator[None]:
    """Turns whatever a storage raises, each in its own way, into an error that names the URL."""
    try:
        yield
    except ImportError as error:
        is_ours = error.name == "fsspec" or place.url.startswith("s3://")
        hint = "; pip install 'gamt[cluster]', or '.[cluster]' in a clone" if is_ours else ""
        raise StorageError(f"{place}: {_describe(error)}{hint}") from error
    except FileNotFoundError as error:
        raise MissingError(f"{place}: not found ({_describe(error)})") from error
    except PermissionError as error:
        raise StorageError(f"{place}: access denied ({_describe(error)})") from error
    except Exception as error:
        raise StorageError(f"{place}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    words = " ".join(hide_login(text).split())
    if isinstance(error, OSError | ImportError | ValueError) and words:
        return printable(words)
    return printable(f"{type(error).__name__}: {words}" if words else type(error).__name__)

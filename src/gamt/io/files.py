"""Files that appear at once and whole, or not at all, and never over what they were made from."""

import errno
import fcntl
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import BinaryIO

_HEAD = 1 << 16
"""Bytes of a file in which a header that names its data ends: the data of others follow later."""

_DATA_FILE = re.compile(
    rb"^[ \t]*(?:ElementDataFile\s*[=:]|data ?file:)[ \t]*(.*?)\s*$", re.MULTILINE
)
"""The line by which a header of MetaImage, or of NRRD, names the file of its data."""


_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial")
"""The name of what is being written, or was when its process was killed."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file that becomes `path`, in place of an earlier one, when the block ends.

    If the block raises anything, no file is left behind, and an earlier one stays as it was. What
    a process leaves behind that is killed meanwhile, `remove_partials` removes.

    Raises:
        OSError: the file can't be made or written, or `path` is a folder, a pipe or the like; it
            names `path`. One that the block raises and that names another file goes on as it is.
    """
    partial = None
    try:
        refuse_special(path)
        partial, lock = _make_partial(path, _make_file)
        try:
            with os.fdopen(os.dup(lock), "wb") as file:
                yield file
            partial.replace(path)  # once its last byte is known to be written
        finally:
            os.close(lock)
    except BaseException as error:
        if partial is not None:
            with suppress(OSError):  # it has its name by now, or the folder can't be written to
                partial.unlink()
        if isinstance(error, OSError) and _names_partial(error):
            reason = error.strerror or str(error)
            raise OSError(error.errno, reason, os.fspath(path)) from error
        raise


@contextmanager
def atomic_write_files(path: Path) -> Iterator[Path]:
    """Gives a path of the same name in a new folder, for libraries that write by name.

    When the block ends, what is in the folder moves beside `path`: companions that some formats
    write first, `path` itself last. If the block raises anything, nothing is left behind, and
    earlier files stay as they were; see `atomic_write`.

    Raises:
        OSError: a file can't be made or written, `path` is a folder, a pipe or the like, or a
            companion would replace a file that belongs to another; it names `path`.
    """
    folder = None
    try:
        refuse_special(path)
        folder, lock = _make_partial(path, _make_folder)
        try:
            yield folder / path.name
            companions = [file for file in sorted(folder.iterdir()) if file.name != path.name]
            for file in companions:
                if _is_anothers(path.with_name(file.name), path):
                    raise OSError(errno.EEXIST, f"would replace {file.name}, which isn't its own")
            for file in (*companions, folder / path.name):
                file.replace(path.with_name(file.name))
        finally:
            os.close(lock)
    except OSError as error:
        text = error.strerror or str(error)
        raise OSError(error.errno, text, os.fspath(path)) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held_partial(folder: Path) -> Iterator[Path]:
    """Gives the path of an empty hidden file that is in a folder until the block ends.

    What is left of it by a process that is killed meanwhile, `remove_partials` removes.

    Raises:
        OSError: the file can't be made.
    """
    path, lock = _make_partial(folder / "any", _make_file)
    try:
        yield path
    finally:
        with suppress(OSError):  # gone, or the folder can't be written to any more
            path.unlink()
        os.close(lock)


def remove_partials(folder: Path) -> None:
    """Removes what `atomic_write` has left in a folder where its process was killed.

    What is still being written stays, by whatever process or machine: it is locked. So does what
    can't be locked or removed, because this is only tidying up.
    """
    with suppress(OSError):
        names = os.listdir(folder)  # noqa: PTH208 - a million paths take their time
        for path in [folder / name for name in names if _PARTIAL.fullmatch(name)]:
            with suppress(OSError):
                # For reading alone, some network file systems lock nothing.
                lock = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_NONBLOCK)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                finally:
                    os.close(lock)


def refuse_special(path: Path) -> None:
    """Refuses to replace what is neither a file nor a link, as `atomic_write` does.

    Raises:
        OSError: it is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:  # that there is nothing, or what hinders, shows when it is written
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise OSError(errno.EEXIST, "is no file; name another output", os.fspath(path))


def _make_partial(path: Path, make: Callable[[Path], int | None]) -> tuple[Path, int]:
    """Makes a hidden file or folder beside `path`.

    Not by tempfile, whose files only their owner may read; nor with the suffix of `path`, for
    whoever watches the folder for results.

    Returns:
        The file or folder; and a descriptor of it, which holds a lock until all copies are closed.
    """
    while True:
        partial = path.with_name(f".{uuid.uuid4().hex}.partial")
        lock = make(partial)
        if lock is None:
            continue
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Between being made and being locked it may have been taken for a leftover.
        if partial.exists():
            return partial, lock
        os.close(lock)


def _names_partial(error: OSError) -> bool:
    """Says whether an error names what is hidden from users, or nothing."""
    name = error.filename
    return name is None or _PARTIAL.fullmatch(Path(os.fsdecode(name)).name) is not None


def _make_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def _make_folder(path: Path) -> int | None:
    path.mkdir()
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # taken for a leftover
        return None


class OverwriteError(OSError):
    """An output that would replace one of the inputs, or the data of another file."""


def refuse_overwrite(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses an output that is the same file as an input, under whatever name.

    The data file that is written beside a header counts as output, and that of an input as input.

    Args:
        output: the file to be written; it need not exist.
        inputs: the files to be read.

    Raises:
        OverwriteError: `output` is one of `inputs`, or the data beside it are those of an input or
            of another file; the message names both.
    """
    written = [output]
    if output.suffix.lower() == ".mhd":
        written.append(output.with_suffix(".zraw"))
    for path in inputs:
        read = [path, *filter(None, [_data_file(path)])]
        for new, old in product(written, read):
            if new.exists() and old.exists() and new.samefile(old):
                raise OverwriteError(f"{new}: would replace the input {old}; name another output")
    for companion in written[1:]:
        if _is_anothers(companion, output):
            raise OverwriteError(
                f"{output}: would replace {companion.name}, which isn't its own; "
                "name another output"
            )


def _is_anothers(companion: Path, header: Path) -> bool:
    """Says whether there is a file beside a header that isn't the header's data."""
    if not companion.exists():
        return False
    own = _data_file(header)
    return own is None or not own.exists() or not own.samefile(companion)


def _data_file(header: Path) -> Path | None:
    """Returns the file that a header says its data are in; None of files that name none."""
    if not header.is_file():
        return None
    try:
        with header.open("rb") as file:
            named = _DATA_FILE.search(file.read(_HEAD))
    except OSError:  # left to its reader
        return None
    return header.parent / os.fsdecode(named[1]) if named else None

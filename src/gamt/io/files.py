"""Files that appear at once and whole, or not at all, and never over what they were made from."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file that becomes `path`, in place of an earlier one, when the block ends.

    If the block raises anything, no file is left behind, and an earlier one stays as it was.

    Raises:
        OSError: the file can't be made or written; it names `path`.
    """
    # Not by tempfile, whose files only their owner may read; nor with the suffix of `path`, for
    # whoever watches the folder for results.
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):  # there may be none
            partial.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise OSError(error.errno, reason, os.fspath(path)) from error
        raise


@contextmanager
def atomic_write_files(path: Path) -> Iterator[Path]:
    """Gives a path of the same name in a new folder, for libraries that write by name.

    When the block ends, what is in the folder moves beside `path`: companions that some formats
    write first, `path` itself last. If the block raises anything, nothing is left behind, and
    earlier files stay as they were.

    Raises:
        OSError: a file can't be made or written, or a companion would replace a file that belongs
            to another; it names `path`.
    """
    folder = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        folder.mkdir()
        yield folder / path.name
        companions = [file for file in sorted(folder.iterdir()) if file.name != path.name]
        for file in companions:
            if path.with_name(file.name).exists() and not path.exists():
                raise OSError(errno.EEXIST, f"would replace {file.name}, which isn't its own")
        for file in (*companions, folder / path.name):
            file.replace(path.with_name(file.name))
    except OSError as error:
        text = error.strerror or str(error)
        raise OSError(error.errno, text, os.fspath(path)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class OverwriteError(OSError):
    """An output that would replace one of the inputs."""


def refuse_overwrite(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses an output that is the same file as an input, under whatever name.

    Args:
        output: the file to be written; it need not exist.
        inputs: the files to be read.

    Raises:
        OverwriteError: `output` is one of `inputs`; the message names both.
    """
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise OverwriteError(f"{output}: would replace the input {path}; name another output")

"""Files that appear at once and whole, or not at all, and never over what they were made from."""

import os
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

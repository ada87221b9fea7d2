"""Files that appear at once and whole, or not at all, and never over what they were made from."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
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


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file that becomes `path`, in place of an earlier one, when the block ends.

    If the block raises anything, no file is left behind, and an earlier one stays as it was.

    Raises:
        OSError: the file can't be made or written; it names `path`. One that the block raises and
            that names another file goes on as it is.
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
        if isinstance(error, OSError) and error.filename in (None, partial, os.fspath(partial)):
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
            if _is_anothers(path.with_name(file.name), path):
                raise OSError(errno.EEXIST, f"would replace {file.name}, which isn't its own")
        for file in (*companions, folder / path.name):
            file.replace(path.with_name(file.name))
    except OSError as error:
        text = error.strerror or str(error)
        raise OSError(error.errno, text, os.fspath(path)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    with header.open("rb") as file:
        named = _DATA_FILE.search(file.read(_HEAD))
    return header.parent / os.fsdecode(named[1]) if named else None

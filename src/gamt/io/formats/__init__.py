"""The image formats, a module each; files are recognised by what they hold.

What several formats share is in modules whose names begin with an underscore.
"""

import pkgutil
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from gamt.io.format import Format, ImageError, WritableFormat, reason

_HEAD = 1024
_PAIR = (".hdr", ".img")
"""Suffixes of NIfTI's pairs, which are read but not written."""


@cache
def all_formats() -> tuple[Format, ...]:
    """Returns the formats in the order of their modules' names."""
    names = [one.name for one in pkgutil.iter_modules(__path__) if not one.name.startswith("_")]
    return tuple(cast(Format, import_module(f"{__name__}.{name}")) for name in names)


def recognise(path: Path) -> Format | None:
    """Returns the format of a file or a folder by its content; None if it is no image.

    Raises:
        ImageError: the file is missing, or can't be read.
    """
    head = b""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ImageError(path, "can't be read: found no file, but a pipe or a device")
        if not path.is_dir():
            with path.open("rb") as file:
                head = file.read(_HEAD)
        return next((one for one in all_formats() if one.recognises(path, head)), None)
    except OSError as error:
        raise ImageError(path, f"can't be read: {reason(error)}") from error


def reader_of(path: Path) -> Format:
    """Returns the format of a file or a folder by its content.

    Raises:
        ImageError: the file is missing, of no known format, or of one whose package is missing.
    """
    one = recognise(path)
    if one is None:
        names = ", ".join(known.NAME for known in all_formats())
        raise ImageError(path, f"can't be read: found no known image, expected one of {names}")
    _require_package(path, one)
    return one


def writer_of(path: Path) -> WritableFormat:
    """Returns the format that a name's suffix asks for, in upper or lower case.

    Raises:
        ImageError: there is no such format, it can't be written, its package is missing, or the
            name has something else in it that the format can't have.
    """
    found = ""
    for one in all_formats():
        if path.name.lower().endswith(one.SUFFIXES):
            if isinstance(one, WritableFormat):
                _require_package(path, one)
                one.check_name(path)
                return one
            found = f"{one.NAME} is read but not written, "
    writable = [one for one in all_formats() if isinstance(one, WritableFormat)]
    suffixes = ", ".join(suffix for one in writable for suffix in one.SUFFIXES)
    raise ImageError(path, f"{found}expected a name that ends in one of {suffixes}")


def strip_suffix(path: Path) -> str:
    """Returns a file's name without the suffix of an image format, in upper or lower case."""
    suffixes = [*_PAIR, *(suffix for one in all_formats() for suffix in one.SUFFIXES)]
    found = [suffix for suffix in suffixes if path.name.lower().endswith(suffix)]
    return path.name[: -len(max(found, key=len))] if found else path.name


def _require_package(path: Path, one: Format) -> None:
    if one.PACKAGE is None or find_spec(one.PACKAGE[0]) is not None:
        return
    package, extra = one.PACKAGE
    how = f"pip install 'gamt[{extra}]' (in a clone: make setup)"
    raise ImageError(path, f"{one.NAME} needs the package {package}: {how}")

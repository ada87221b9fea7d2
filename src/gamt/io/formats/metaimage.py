"""MetaImage by SimpleITK: ``.mha``, or ``.mhd`` with its data in a file beside it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from gamt.io.format import MOST_RATIO, ImageError, StoredImage, data_file
from gamt.io.formats._itk import ITK, check_encoding, read_file, write_file
from gamt.text import printable

NAME = "MetaImage"
SUFFIXES = (".mha", ".mhd")
PACKAGE = ITK

_HEAD = 1 << 20
"""Bytes of a file in which its header, whose last line names the file of the data, ends."""

_DATA_FILE = re.compile(rb"^\s*ElementDataFile\s*[=:][ \t]*(.*?)\s*$", re.MULTILINE)


_AXES = re.compile(rb"^\s*NDims(.*)$", re.MULTILINE | re.IGNORECASE)

_COUNT = re.compile(rb"\s*[=:]\s*[1-9]\s*")

_COMPRESSED = re.compile(rb"^\s*CompressedData\s*[=:]\s*T", re.MULTILINE | re.IGNORECASE)


def recognises(path: Path, head: bytes) -> bool:
    """Says whether a file begins with one of the keys that MetaImage's headers begin with."""
    del path
    return re.match(rb"\s*(ObjectType|NDims|Comment|CreationDate)\s*=", head) is not None


def read(path: Path, volume: int | None) -> StoredImage:
    """Reads an image; see `gamt.io.format.Format`."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    named = _DATA_FILE.search(head)
    if named is None:
        raise ImageError(path, "can't be read: found no ElementDataFile in its header")
    # At numbers that aren't of axes, SimpleITK hangs, or ends the whole process.
    for line in _AXES.finditer(head[: named.start()]):
        if not _COUNT.fullmatch(line[1]):
            wrong = printable(os.fsdecode(line[0].strip()[:80]))
            raise ImageError(path, f"can't be read: found {wrong!r}, expected 'NDims = 3'")
    found = os.fsdecode(named[1])
    if "%" in found or found.startswith("LIST"):
        # SimpleITK takes them for patterns and lists, at some of which it ends the whole process.
        raise ImageError(
            path, f"found the ElementDataFile {found!r:.80}, expected one file, or LOCAL"
        )
    data = path if found.upper() == "LOCAL" else data_file(path, found)
    is_packed = _COMPRESSED.search(head[: named.start()]) is not None
    return read_file(path, "MetaImageIO", volume, data, MOST_RATIO if is_packed else 1)


def check_name(path: Path) -> None:
    """Refuses names that a header would mean as something else; see `WritableFormat`."""
    check_encoding(path)
    if path.suffix.lower() != ".mhd":
        return
    if "%" in str(path) or path.name.startswith(("LIST", "LOCAL")):
        raise ImageError(
            path, "expected a name without % that doesn't begin with LIST or LOCAL, or .mha"
        )


def write(path: Path, image: StoredImage, names: Mapping[int, str]) -> None:
    """Writes an image; see `gamt.io.format.WritableFormat`."""
    del names
    write_file(path, image, {})

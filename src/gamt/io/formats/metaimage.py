"""MetaImage by SimpleITK: ``.mha``, or ``.mhd`` with its data in a file beside it."""

import re
from collections.abc import Mapping
from pathlib import Path

from gamt.io.format import StoredImage
from gamt.io.formats._itk import ITK, read_file, write_file

NAME = "MetaImage"
SUFFIXES = (".mha", ".mhd")
PACKAGE = ITK


def recognises(path: Path, head: bytes) -> bool:
    """Says whether a file begins with one of the keys that MetaImage's headers begin with."""
    del path
    return re.match(rb"\s*(ObjectType|NDims|Comment|CreationDate)\s*=", head) is not None


def read(path: Path, volume: int | None) -> StoredImage:
    """Reads an image; see `gamt.io.format.Format`."""
    return read_file(path, "MetaImageIO", volume)


def write(path: Path, image: StoredImage, names: Mapping[int, str]) -> None:
    """Writes an image; see `gamt.io.format.WritableFormat`."""
    del names
    write_file(path, image, {})

"""The npz container: arrays under keys in one file that needs no trust.

Whatever is wrong with a file, or with a value in it, ends in a `CaseError` that says what and
where. What the keys mean is not known here, but in `gamt.io.case`. docs/security.md has the limits.
"""

import logging
import math
import os
import pickle
import reprlib
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from gamt.io.files import atomic_write
from gamt.io.npy import Check, read_array, read_shape
from gamt.io.pickles import NpyError
from gamt.text import printable

logger = logging.getLogger("gamt")

_MOST_CHARACTERS = 200
"""Of what a message says about a value."""

_MOST_DEFLATED = 1032
"""Bytes that one byte of deflated data can become."""

_MOST_LIST_BYTES = 2**20
"""Of a zip archive's list of members; those of 10,000 arrays. Reading it takes time and memory."""

_END_BYTES = 22
"""Of the last record of a zip archive, which a comment may follow."""

_ENCRYPTED = 0x1
"""The flag of a zip archive's member."""

_LOCAL_HEADER_BYTES = 30
"""Before each member's name in a zip archive."""


class CaseError(ValueError):
    """A case file that can't be used.

    Attributes:
        path: the file.
        key: the key of the npz in question; None where the file as a whole is.
        found: what the file holds.
        expected: what it should hold.
    """

    def __init__(self, path: Path, key: str | None, found: str, expected: str) -> None:
        super().__init__(path, key, found, expected)
        self.path = path
        self.key = key
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        key = "" if self.key is None else f" key {self.key!r}:"
        return printable(f"{self.path.name}:{key} found {self.found}, expected {self.expected}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a value stands, for errors and warnings to name.

    Attributes:
        path: the file.
        key: the key of the npz.
        entry: index into the array under the key; None for all of it.
    """

    path: Path
    key: str
    entry: int | None = None

    def error(self, found: str, expected: str) -> CaseError:
        """Returns the error to raise."""
        return CaseError(self.path, self.key, f"{found}{self._where}", expected)

    def warn(self, found: str, used: str) -> None:
        """Logs that something else is used than what the file holds."""
        found = printable(f"{found}{self._where}")
        name = printable(self.path.name)
        logger.warning("%s: key %r: found %s, used %s", name, self.key, found, used)

    @property
    def _where(self) -> str:
        return "" if self.entry is None else f" in entry {self.entry}"


def open_npz(path: Path) -> zipfile.ZipFile:
    """Opens a file for `read_member`; to be closed by the caller.

    Raises:
        CaseError: the file is missing, or no zip archive, or one whose members share a name or
            bytes.
    """
    expected = "a readable npz file"
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise ValueError("neither a file nor a folder")  # such as a pipe, which may never end
        if (listed := _list_bytes(path)) > _MOST_LIST_BYTES:
            raise ValueError(f"a list of arrays of {listed} bytes")
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise CaseError(path, None, "no zip archive, or a damaged one", expected) from error
    except Exception as error:  # zipfile passes on whatever a broken directory leads to
        raise CaseError(path, None, _reason(error), expected) from error
    try:
        _check_members(archive, path)
    except CaseError:
        archive.close()
        raise
    return archive


def _list_bytes(path: Path) -> int:
    """Returns the size of a zip archive's list of members, as zipfile will read it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 4 * _END_BYTES))
        end = file.read()
    at = len(end) - _END_BYTES
    if not end.endswith(b"\0\0") or end[at : at + 4] != b"PK\5\6":  # there is a comment
        at = end.rfind(b"PK\5\6")
    if at < 0:
        return 0
    listed = int.from_bytes(end[at + 12 : at + 16], "little")
    # Two records come before it in large archives: one of 56 bytes, and one of 20 that says so.
    if at >= 76 and end[at - 20 : at - 16] == b"PK\6\7":
        listed = max(listed, int.from_bytes(end[at - 36 : at - 28], "little"))
    return listed


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    members = sorted(archive.infolist(), key=lambda one: one.header_offset)
    names = Counter(one.filename for one in members)
    end = 0
    for one in members:
        key = _shorten(one.filename.removesuffix(".npy"))
        if names[one.filename] > 1:
            raise CaseError(path, key, f"{names[one.filename]} arrays", "one")
        if one.header_offset < end:
            raise CaseError(path, key, "bytes that belong to another array", "an array of its own")
        name_bytes = len(one.orig_filename)  # at least
        end = one.header_offset + _LOCAL_HEADER_BYTES + name_bytes + one.compress_size


def has_member(archive: zipfile.ZipFile, key: str) -> bool:
    """Says whether there is an array under `key`."""
    return f"{key}.npy" in archive.NameToInfo


def read_member(
    archive: zipfile.ZipFile,
    place: Place,
    most_bytes: int | None = None,
    check: Check = lambda dtype, shape: None,
) -> npt.NDArray[Any] | None:
    """Reads the array under the key and nothing else; None if it is absent, or a saved None.

    Args:
        archive: from `open_npz`.
        place: what to read.
        most_bytes: that the array may have, for what is no volume; None for as many as there is
            free memory. A pickled array has limits of its own, see `gamt.io.npy.read_array`.
        check: likewise; it keeps large arrays of a wrong type or shape from being read.

    Raises:
        CaseError: the array is broken, too large, or holds something else than plain values.
    """
    if not has_member(archive, place.key):
        return None
    member = archive.getinfo(f"{place.key}.npy")
    _check_member(member, place)
    try:
        with archive.open(member) as file:
            array = read_array(file, member.file_size, most_bytes, check)
            file.read()  # to the end, where zipfile compares the checksum
    except NpyError as error:
        raise place.error(error.found, error.expected) from error
    except Exception as error:  # zip, zlib and numpy each fail in ways of their own
        raise place.error(_reason(error), "a complete array of plain values") from error
    return None if array.dtype == object and array.ndim == 0 and array.item() is None else array


def read_member_shape(archive: zipfile.ZipFile, place: Place) -> tuple[int, ...] | None:
    """Reads the shape of the array of plain values under the key; None if it is absent.

    It takes no more than the array's first bytes: its data may be broken.

    Args:
        archive: from `open_npz`.
        place: what to read.

    Raises:
        CaseError: the array's header is broken, or there is more or less data than it says.
    """
    if not has_member(archive, place.key):
        return None
    member = archive.getinfo(f"{place.key}.npy")
    _check_member(member, place)
    try:
        with archive.open(member) as file:
            return read_shape(file, member.file_size)
    except NpyError as error:
        raise place.error(error.found, error.expected) from error
    except Exception as error:  # zip, zlib and numpy each fail in ways of their own
        raise place.error(_reason(error), "an array") from error


def _check_member(member: zipfile.ZipInfo, place: Place) -> None:
    expected = "an array stored as it is, or deflated"
    if member.flag_bits & _ENCRYPTED:
        raise place.error("encrypted data", expected)
    if member.compress_type == zipfile.ZIP_DEFLATED:
        most = member.compress_size * _MOST_DEFLATED
    elif member.compress_type == zipfile.ZIP_STORED:
        most = member.compress_size
    else:
        raise place.error(f"the compression method {member.compress_type}", expected)
    if member.file_size > most:
        found = f"{member.compress_size} bytes that are said to become {member.file_size}"
        raise place.error(found, f"at most {most}")


class _NewArchive(zipfile.ZipFile):
    """An archive that is of no use before it is closed, and then forgotten with its file.

    Where Ctrl-C comes amid a write, zipfile's own would try to end the archive when it is
    forgotten, fail, and print that.
    """

    def __del__(self) -> None:
        pass


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes compressed arrays; the file appears at once and whole, or not at all."""
    with atomic_write(Path(path)) as file:
        archive = _NewArchive(file, "w")
        write_members(archive, arrays)
        archive.close()


def write_members(archive: zipfile.ZipFile, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Adds compressed arrays to an npz that is open for writing.

    Pickles name numpy's functions by the place they had before numpy 2. Later versions know it
    too, and the containers made in the challenge's time know no other.
    """
    for key, array in arrays.items():
        member = zipfile.ZipInfo(f"{key}.npy")
        member.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(member, "w", force_zip64=True) as file:
            if array.dtype != object:
                npy.write_array(file, array, allow_pickle=False)
                continue
            npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
            # Protocol 3 writes names as lines of text.
            pickled = pickle.dumps(array, protocol=3)
            file.write(pickled.replace(b"cnumpy._core.", b"cnumpy.core."))


def object_array(entries: Iterable[object]) -> npt.NDArray[np.object_]:
    """Returns a 1-D array of any values, lists among them."""
    listed = list(entries)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def as_sequence(value: object, expected: str, place: Place) -> Sequence[Any]:
    """Returns a list, tuple or array (0-d ones may hold a list) as a sequence of its rows."""
    while isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise place.error(show(value), expected)
    return value


def as_number(value: object) -> float | None:
    """Returns any kind of number, bool excepted, as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        return float(value)
    except OverflowError:  # an int past the range of floats
        return math.inf


def as_integer(value: object) -> int | None:
    """Returns a whole number of any type as an int; None for anything else."""
    if type(value) is int:
        return value
    number = as_number(value)
    if number is None or not number.is_integer():
        return None
    return int(value)  # type: ignore[call-overload, no-any-return]


def describe(array: npt.NDArray[Any]) -> str:
    """Returns an array's type and shape in words."""
    return f"{array.dtype} of shape {array.shape}"


def show(value: object) -> str:
    """Returns a short text of anything a file may hold, arrays by their type and shape alone."""
    try:
        return _shorten(_Preview().repr(value))
    except Exception:  # e.g. an int of more digits than Python prints
        return f"a {type(value).__name__}"


class _Preview(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, np.ndarray):
            return describe(x)
        return super().repr1(x.item() if isinstance(x, np.generic) else x, level)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, zipfile.BadZipFile | zlib.error):
        return "damaged data"
    if type(error) is ValueError:  # our own, or one that says as much
        return _shorten(str(error))
    return _shorten(f"{type(error).__name__}: {error}")


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."

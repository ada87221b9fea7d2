"""The npz container: arrays under keys in one file that needs no trust.

Whatever is wrong with a file, or with a value in it, ends in a `CaseError` that says what and
where. What the keys mean is not known here, but in `gamt.io.case`.
"""

import logging
import math
import os
import pickle
import reprlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from gamt.io.files import atomic_write
from gamt.io.pickles import read_array

logger = logging.getLogger("gamt")


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
        return f"{self.path.name}:{key} found {self.found}, expected {self.expected}"


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
        found = f"{found}{self._where}"
        logger.warning("%s: key %r: found %s, used %s", self.path.name, self.key, found, used)

    @property
    def _where(self) -> str:
        return "" if self.entry is None else f" in entry {self.entry}"


def open_npz(path: Path) -> zipfile.ZipFile:
    """Opens a file for `read_member`; to be closed by the caller.

    Raises:
        CaseError: the file is missing, or no zip archive.
    """
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # zipfile passes on whatever a broken directory leads to
        raise CaseError(path, None, _reason(error), "a readable npz file") from error


def has_member(archive: zipfile.ZipFile, key: str) -> bool:
    """Says whether there is an array under `key`."""
    return f"{key}.npy" in archive.NameToInfo


def read_member(archive: zipfile.ZipFile, place: Place) -> npt.NDArray[Any] | None:
    """Reads the array under the key and nothing else; None if it is absent, or a saved None.

    Raises:
        CaseError: the array is broken, or holds something else than plain values.
    """
    if not has_member(archive, place.key):
        return None
    try:
        with archive.open(f"{place.key}.npy") as file:
            array = read_array(file)
    except Exception as error:  # zip, zlib, npy and pickle each fail in ways of their own
        raise place.error(_reason(error), "a complete array of plain values") from error
    return None if array.dtype == object and array.ndim == 0 and array.item() is None else array


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes compressed arrays; the file appears at once and whole, or not at all."""
    with atomic_write(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        write_members(archive, arrays)


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
    number = as_number(value)
    if number is None or not number.is_integer():
        return None
    return int(value)  # type: ignore[call-overload, no-any-return]


def describe(array: npt.NDArray[Any]) -> str:
    """Returns an array's type and shape in words."""
    return f"{array.dtype} of shape {array.shape}"


def show(value: object) -> str:
    """Returns a short text of anything a file may hold, however long or deep."""
    try:
        return reprlib.repr(value.item() if isinstance(value, np.generic) else value)
    except Exception:  # e.g. an int of more digits than Python prints
        return f"a {type(value).__name__}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"{type(error).__name__}: {error}"

"""What an image format is, and what its files hold.

A format is a module of `gamt.io.formats` with the attributes of `Format`, and of `WritableFormat`
if it writes too. It is found there by itself: a new format is one new file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gamt.memory import available_bytes
from gamt.text import printable

MOST_RATIO = 1032
"""Bytes that deflate makes of one at most; on images no other compression does better."""


class ImageError(ValueError):
    """An image that can't be read or written, or a place that isn't in it."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(printable(f"{path.name or path}: {found}"))


class VolumeError(ImageError):
    """An image of several volumes of which none is chosen, or one that isn't there."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredImage:
    """A 3-D image with its axes as the file has them.

    Attributes:
        array: (i, j, k), values as the file means them, any scaling applied.
        affine: (4, 4), takes voxel indices (i, j, k) to scanner RAS coordinates in mm.
        spacing_mm: the voxel's size along (i, j, k).
        header: what the same format's `write` wants back; None if the above says all.
        second_affine: another place that the header gives for the same voxels, such as NIfTI's
            qform beside the sform; None if there is one alone.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    header: Any = None
    second_affine: npt.NDArray[np.float64] | None = None


class Format(Protocol):
    """A module that reads one format.

    Attributes:
        NAME: for messages, such as "NIfTI".
        SUFFIXES: of the names of its files, in lower case; all of them are written if any is.
        PACKAGE: the package that it imports, and the extra of this project that brings it; None
            if the project always comes with all that it needs.
    """

    NAME: str
    SUFFIXES: tuple[str, ...]
    PACKAGE: tuple[str, str] | None

    def recognises(self, path: Path, head: bytes) -> bool:
        """Says whether a file, or a folder of them, is of this format.

        Args:
            path: the file or folder.
            head: the file's first bytes, at least 512 of them if it has as many; none of a folder.
        """

    def read(self, path: Path, volume: int | None) -> StoredImage:
        """Reads a file that is recognised.

        Args:
            path: the file or folder.
            volume: which one of several volumes, from 0 on; for `choose_volume`.

        Raises:
            ImageError: the file is broken, or holds no such volume.
        """


@runtime_checkable
class WritableFormat(Format, Protocol):
    """A module that reads and writes one format."""

    def check_name(self, path: Path) -> None:
        """Refuses names that a file of this format can't have, before there is anything to write.

        Raises:
            ImageError: it can't have this name.
        """

    def write(self, path: Path, image: StoredImage, names: Mapping[int, str]) -> None:
        """Writes a new file, and any companions beside it.

        Args:
            path: ends in one of `SUFFIXES`, in upper or lower case.
            image: its header may be that of another format, and is ignored then.
            names: of labels; for formats that keep them (`NamedFormat`).

        Raises:
            OSError: the file can't be written.
            ImageError: the format can't hold the image.
        """


@runtime_checkable
class NamedFormat(WritableFormat, Protocol):
    """A module that reads and writes a format some files of which keep label names.

    Attributes:
        NAMED_SUFFIXES: those of `SUFFIXES` whose files do.
    """

    NAMED_SUFFIXES: tuple[str, ...]

    def read_names(self, path: Path) -> dict[int, str]:
        """Reads the names by label, as far as the file has some.

        Raises:
            ImageError: the file is broken.
        """


def choose_volume(path: Path, count: int, volume: int | None) -> int:
    """Returns the number of the volume to read, of `count` in a file.

    Raises:
        VolumeError: there are several and none is chosen, or there is no such volume.
    """
    if volume is None and count != 1:
        choice = f"chosen by its number from 0 to {count - 1}"
        raise VolumeError(path, f"found {count} volumes, expected one, {choice}")
    if volume is not None and not 0 <= volume < count:
        expected = "no number, or 0" if count == 1 else f"a number from 0 to {count - 1}"
        volumes = "1 volume" if count == 1 else f"{count} volumes"
        raise VolumeError(path, f"found {volumes} and the number {volume}, expected {expected}")
    return volume or 0


def check_size(
    path: Path, shape: Sequence[int], voxel_bytes: int, stored_bytes: int, ratio: int = 1
) -> None:
    """Refuses an image that its file can't hold, or the memory, before any is taken.

    Args:
        path: the file, for errors.
        shape: that the header declares, of all volumes.
        voxel_bytes: of a voxel in the file.
        stored_bytes: that the file has for voxels.
        ratio: bytes that a byte of the file becomes at most; 1 where it isn't compressed.

    Raises:
        ImageError: it is too large.
    """
    size = math.prod(shape) * voxel_bytes
    if size > stored_bytes * ratio:
        packed = "" if ratio == 1 else " compressed"
        raise ImageError(
            path,
            f"can't be read to its end: found {stored_bytes}{packed} bytes of voxels, expected "
            f"{size} bytes for {' x '.join(map(str, shape))} voxels",
        )


def check_memory(path: Path, shape: Sequence[int], voxel_bytes: int) -> None:
    """Refuses a volume that would not fit into the memory, before any is taken.

    Args:
        path: the file, for errors.
        shape: of the volume.
        voxel_bytes: that a voxel takes while it is read and turned, all copies together.

    Raises:
        ImageError: it is too large.
    """
    size, free = math.prod(shape) * voxel_bytes, available_bytes()
    if size > free:
        raise ImageError(
            path,
            f"found {' x '.join(map(str, shape))} voxels, which take {size / 2**30:.3g} GiB to "
            f"read, expected {free / 2**30:.3g} GiB at most, the memory that is free",
        )


def data_file(header: Path, name: str) -> Path:
    """Returns the file beside a header that it names for its data.

    Raises:
        ImageError: the name leads out of the header's folder, or to something else than a file.
    """
    found = header.parent / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not found.is_file():
        raise ImageError(header, f"found the data file {name!r:.80}, expected a file beside it")
    return found


def reason(error: Exception) -> str:
    """Returns why a library failed, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__

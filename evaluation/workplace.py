"""The folder in which a method works on a case, and may do whatever it likes to what is there.

The method is a stranger's: it may leave a symbolic link, a pipe or a folder under the name of its
output or of its next input, change rights, or fill the disk. So nothing in the folder is believed:
files are written under new names and put in place, which follows no link; what is read has to be a
regular file of a size that a segmentation of the case can have; what is broken is made anew. No
process of the method is running then (`evaluation.supervisor`), but for that of a session, which
lives on between runs.
"""

import errno
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.records import Output
from evaluation.removal import remove_tree
from gamt.io.case import read_volume
from gamt.io.files import atomic_write_files
from gamt.io.npz import CaseError, open_npz, write_npz
from gamt.text import printable


class Workplace:
    """A folder with ``inputs/`` and ``outputs/``, and the segmentation that counts.

    Attributes:
        folder: for the method; another one once it has made the first unusable.
    """

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...]) -> None:
        """Makes the folder; what an earlier evaluation left there is removed.

        Args:
            folder: to be made.
            name: of the input, and so of the output.
            shape: (D, H, W), of the image and so of the segmentation.

        Raises:
            OSError: it can't be made.
        """
        self._first = folder
        self._name = name
        self._shape = shape
        self._counts: npt.NDArray[Any] | None = None
        self._version: _Version = None
        self._input_bytes = 0
        self.folder = self._make()

    @property
    def segs(self) -> npt.NDArray[Any]:
        """(D, H, W), what counts: what was written last; zeros without or if that is broken."""
        return np.zeros(self._shape, np.uint8) if self._counts is None else self._counts

    def prepare(self, write: Callable[[Path], object]) -> None:
        """Makes the folder ready for a run: a new input, and the output that counts, or none.

        Args:
            write: writes the input to a path.

        Raises:
            OSError: a file can't be written.
        """
        for last in (False, True):
            try:
                self._put(write)
            except OSError:
                if last:
                    raise
            else:
                if self._has_room():
                    return
            # What is there is another user's by now, say, or fills the disk.
            self._make_anew()
        raise self._full()

    def take_output(self, late: bool) -> tuple[Output, str | None]:
        """Makes what a run has written the segmentation that counts.

        Args:
            late: whether the run was past its limit, so that what it wrote doesn't count.

        Returns:
            What the run has written, and what is wrong with that; None if nothing is.

        Raises:
            OSError: it has written none, and there was no room for one.
        """
        output, trouble = self._take_output(late)
        if output != "written" and not late:
            self.make_room()  # the disk is shared: others may have filled it meanwhile
        return output, trouble

    def _take_output(self, late: bool) -> tuple[Output, str | None]:
        found = self._see()
        if late or found == self._version:
            return "none" if self._counts is None else "stale", None
        self._counts, self._version = None, None
        if found is None:
            return "none", None
        try:
            self._counts = self._read()
        except CaseError as error:
            return "broken", printable(str(error))
        self._version = found
        return "written", None

    def make_room(self) -> None:
        """Sees to it that the disk has room for a segmentation.

        Without, a method can't be judged. All that it has left in its folder is removed first.

        Raises:
            OSError: the disk is full all the same.
        """
        if self._has_room():
            return
        self._make_anew()
        # The input's room, free now, was never the method's.
        if not self._has_room(self._input_bytes):
            raise self._full()

    def _has_room(self, beside: int = 0) -> bool:
        """Says whether there is room for a segmentation, and for some bytes beside it."""
        free = shutil.disk_usage(self._first.parent).free
        return free >= math.prod(self._shape) + beside

    def _make_anew(self) -> None:
        remove_tree(self.folder)
        self.folder = self._make()

    def _full(self) -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self._first.parent))

    @property
    def _source(self) -> Path:
        return self.folder / "inputs" / self._name

    @property
    def _output(self) -> Path:
        return self.folder / "outputs" / self._name

    def _make(self) -> Path:
        folder = self._first
        if not remove_tree(folder):
            # Files of another user, say: they stay.
            folder = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        for name in ("inputs", "outputs"):
            (folder / name).mkdir(parents=True)
            # A container may run as any user.
            (folder / name).chmod(0o777)
        return folder

    def _put(self, write: Callable[[Path], object]) -> None:
        """Makes sure that the folders are there and lead nowhere else, and fills them."""
        for one in (self.folder, self._source.parent, self._output.parent):
            if not _is_folder(one):
                one.unlink(missing_ok=True)
                one.mkdir()
            one.chmod(0o777)
        found = self._see()
        if found != self._version or (found is None) != (self._counts is None):
            # The run before was late, or what it wrote is broken, or the folder is a new one.
            _remove(self._output)
            if self._counts is not None:
                write_npz(self._output, {"segs": self._counts})
            self._version = self._see()
        _remove(self._source)
        with atomic_write_files(self._source) as path:
            write(path)
            self._input_bytes = path.stat().st_size

    def _see(self) -> "_Version":
        """Returns which version of an output there is."""
        with suppress(OSError):
            if _is_folder(self._output.parent):
                self._output.parent.chmod(0o777)
        try:
            status = self._output.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return -1, -1, -1  # there may be one, which can't be seen
        # Unlike the time of modification, that of change can't be set.
        return status.st_ino, status.st_size, status.st_ctime_ns

    def _read(self) -> npt.NDArray[Any]:
        """Reads the output, in a time and memory that the shape bounds.

        Returns:
            (D, H, W) of any type of number, as it was written.

        Raises:
            CaseError: it is no segmentation of the case.
        """
        expected = f"a segmentation of shape {self._shape} under the key 'segs'"
        try:
            found = None if _is_folder(self._output.parent) else "no folder 'outputs' around it"
            mode = self._output.lstat().st_mode
            if not stat.S_ISREG(mode):
                found = _KINDS.get(stat.S_IFMT(mode), "no file")
            elif not os.access(self._output, os.R_OK):
                self._output.chmod(0o666)
        except OSError as error:
            found = str(error.strerror).lower()
        if found:
            raise CaseError(self._output, None, found, expected)
        _check_claim(self._output, self._shape, expected)
        segs = read_volume(self._output, "segs")
        if segs.shape != self._shape:
            found = f"a volume of shape {segs.shape} in the method's output"
            raise CaseError(self._output, "segs", found, f"{self._shape}, as the ground truth")
        return segs


_WIDEST = 16
"""Bytes of a voxel of the widest type of number."""

_HEADER = 1 << 16
"""Bytes in which an array's header ends."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_Version = tuple[int, int, int] | None
"""Equal as long as a file is the same: (inode, size, time of change in ns); None without a file."""


def _check_claim(output: Path, shape: tuple[int, ...], expected: str) -> None:
    """Refuses an array that says it is far too large, before it is read.

    With that, reading takes no more than `_WIDEST` bytes a voxel, in this process: another one,
    with limits set by the system, would cost a start at every run.

    Raises:
        CaseError: it does, or there is no array.
    """
    with open_npz(output) as archive:
        member = archive.NameToInfo.get("segs.npy")
    if member is None:
        raise CaseError(output, "segs", "no such key", expected)
    voxels = math.prod(shape)
    if not voxels <= member.file_size <= voxels * _WIDEST + _HEADER:
        raise CaseError(output, "segs", f"an array of {member.file_size} bytes", expected)


def _is_folder(path: Path) -> bool:
    """Says whether there is a folder; a link to one is none."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    """Removes a file or whatever else is there.

    Raises:
        OSError: it stays.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not remove_tree(path):
            raise

"""Which cases there are, quickly also where there are a million.

No file is opened: a folder tells names, sizes and times of change.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from evaluation.loop import CaseFiles


class ListingError(ValueError):
    """A folder that can't be read, or has no cases."""


class Listed(NamedTuple):
    """A case in a folder, as the folder tells it.

    Attributes:
        case: the file's name, with its suffix.
        image_bytes: the size of its file.
        gts_bytes: that of the file with its truth; 0 where it holds that itself.
        stamp: sizes and times of change of its files, which change with them.
    """

    case: str
    image_bytes: int
    gts_bytes: int
    stamp: str

    @property
    def bytes(self) -> int:
        """The size of its files together."""
        return self.image_bytes + self.gts_bytes


@contextmanager
def many_objects() -> Iterator[None]:
    """Lets millions of objects be made without the garbage collector looking through them again.

    None of them is garbage meanwhile. It takes half of the time off.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@many_objects()
def list_cases(cases: Path, gts: Path | None) -> list[Listed]:
    """Returns the cases of a folder in the order of their names.

    Args:
        cases: the folder; what has a name that begins with a dot doesn't count.
        gts: a folder of files of the same names with the ground truth; None where the cases hold
            it. A case that has none there is listed all the same.

    Raises:
        ListingError: a folder can't be read, or there are no cases.
    """
    found = _scan(cases)
    if not found:
        raise ListingError(f"{cases}: no npz file in this folder")
    truths = {} if gts is None or not gts.is_dir() else _scan(gts)
    listed = []
    for case in sorted(found):
        size, changed = found[case]
        gts_bytes, stamp = 0, f"{size} {changed}"
        if case in truths:
            gts_bytes, gts_changed = truths[case]
            stamp = f"{stamp} {gts_bytes} {gts_changed}"
        listed.append(Listed(case, size, gts_bytes, stamp))
    return listed


def case_files(cases: Path, gts: Path | None, case: str) -> CaseFiles:
    """Returns the files of a listed case, as absolute paths."""
    image = cases.absolute() / case
    return CaseFiles(image, image if gts is None else gts.absolute() / case)


def _scan(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    try:
        with os.scandir(folder) as entries:
            for one in entries:
                if one.name.endswith(".npz") and not one.name.startswith("."):
                    try:
                        status = one.stat()
                        found[one.name] = (status.st_size, status.st_mtime_ns)
                    except OSError:  # a link to nowhere: its case fails when it is read
                        found[one.name] = (0, 0)
    except OSError as error:
        raise ListingError(f"{folder}: {error.strerror}, expected a folder of cases") from error
    return found

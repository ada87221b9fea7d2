"""What a checkpoint's file costs to read, told before it is read by torch.

torch runs no code of a file (``weights_only``), but does whatever work a file asks for: decompress
terabytes, or hash a key that is a tuple of tuples of tuples, each holding the one before twice.
"""

import json
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

PICKLE_BYTES = 2**22
"""The largest pickle in a checkpoint that is read."""

PICKLE_OPCODES = 2**18
"""The longest one, in opcodes."""

PICKLE_VALUES = 2**22
"""The largest one once all that it refers to several times is written out each time."""

PICKLE_DEPTH = 100
"""The deepest nesting of its values."""

LEGACY_PICKLES = 5
"""So many begin a file of torch before 1.6: a number, a version, sizes, the object, keys."""

_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


class ArchiveError(ValueError):
    """A file that would take too much to read. The message doesn't name the file."""


def is_safetensors(path: Path) -> bool:
    """Says whether a file begins as one of safetensors: with the size of a header, and that."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def check_safetensors(path: Path) -> None:
    """Checks that all that a header of safetensors lists is in the file, and nothing else.

    Raises:
        ArchiveError: it isn't, or it is no such file.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            data = max((int(weight["data_offsets"][1]) for weight in header.values()), default=0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ArchiveError("no file of safetensors, or a damaged one") from error
    found, expected = path.stat().st_size, 8 + size + data
    if found != expected:
        raise ArchiveError(f"found {found} bytes, expected {expected}, as its header says")


def check_zip(path: Path) -> None:
    """Checks that a zip file of torch's takes no more to read than to store.

    torch compresses nothing, so that weights can be mapped into memory.

    Raises:
        ArchiveError: it does.
        zipfile.BadZipFile: it is no zip file, or a damaged one.
        OSError: it can't be read.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
                raise ArchiveError(
                    f"found {member.filename} of {member.file_size} bytes in "
                    f"{member.compress_size}, expected nothing compressed"
                )


def check_zipped_pickles(path: Path) -> None:
    """Checks the pickles in a zip file of torch's.

    Raises:
        ArchiveError: one of them takes too much to read.
        ValueError, IndexError, KeyError: one of them is broken.
        zipfile.BadZipFile, OSError: the file can't be read.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".pkl"):
                if member.file_size > PICKLE_BYTES:
                    found = f"{member.filename} of {member.file_size} bytes"
                    raise ArchiveError(f"found {found}, expected {PICKLE_BYTES} at most")
                with archive.open(member) as file:
                    check_pickle(file)


def check_legacy(path: Path) -> None:
    """Checks the pickles that begin a file of torch before 1.6.

    Raises:
        ArchiveError: one of them takes too much to read.
        ValueError, IndexError, KeyError: one of them is broken.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        for _ in range(LEGACY_PICKLES):
            check_pickle(file)


def check_pickle(file: IO[bytes]) -> None:
    """Checks how much a pickle builds, without building it.

    Raises:
        ArchiveError: it is too long, too deep, or refers to the same values too often.
        ValueError, IndexError, KeyError: it is broken.
    """
    stack: list[tuple[int, int]] = []  # of each value: how many it is made of, and how deep
    marks: list[int] = []
    remembered: dict[Any, tuple[int, int]] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number > PICKLE_OPCODES:
            raise ArchiveError(f"found a pickle of more than {PICKLE_OPCODES} opcodes")
        if opcode.name in _PUTS:
            remembered[argument] = stack[-1]
        elif opcode.name == "MEMOIZE":
            remembered[len(remembered)] = stack[-1]
        elif opcode.name in _GETS:
            stack.append(remembered[argument])
        elif opcode.name == "MARK":
            marks.append(len(stack))
        else:
            taken = opcode.stack_before
            if pickletools.markobject in taken:
                start = marks.pop() - taken.index(pickletools.markobject)
            else:
                start = len(stack) - len(taken)
            if start < 0:
                raise ArchiveError("found a pickle that takes values where there are none")
            parts = stack[start:]
            del stack[start:]
            # What is filled, such as a list, gets no deeper by being filled.
            filled = taken[:1] == opcode.stack_after
            depths = [depth + (not filled or i > 0) for i, (_, depth) in enumerate(parts)]
            value = (1 + sum(values for values, _ in parts), max(depths, default=1))
            if value[0] > PICKLE_VALUES or value[1] > PICKLE_DEPTH:
                raise ArchiveError("found a pickle that refers to the same values too often")
            stack += [value] * len(opcode.stack_after)

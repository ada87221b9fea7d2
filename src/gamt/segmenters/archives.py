"""What a checkpoint's file costs to read, told before it is read by torch.

torch runs no code of a file (``weights_only``), but does whatever work a file asks for: decompress
terabytes, allocate an array of bytes, or hash a key that is a tuple of tuples of tuples, each
holding the one before twice. And it reads zip files in its own way: from the first byte on, by
names in whatever case. So a file has to be as plain as `torch.save` writes it, and its pickle may
name nothing but what weights are built of, an optimiser, and options of a training.
"""

import json
import pickle
import pickletools
import struct
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import IO, Any

PICKLE_BYTES = 2**22
"""The largest pickle in a checkpoint that is read."""

PICKLE_OPCODES = 2**18
"""The longest one, in opcodes."""

PICKLE_VALUES = 2**22
"""The largest one once a tuple, which may have to be hashed, is written out each time that it is
referred to. Of lists and dicts, which nothing walks through, what is put in after they were
remembered isn't counted again."""

PICKLE_DEPTH = 100
"""The deepest nesting of its tuples, and of lists and dicts by what is in them when they are put
into something else."""

LEGACY_PICKLES = 5
"""So many begin a file of torch before 1.6: a number, a version, sizes, the object, keys."""

BUILT = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        *(
            f"torch.{kind}Storage"
            for kind in (
                *("Double", "Float", "Half", "BFloat16", "ComplexDouble", "ComplexFloat"),
                *("Long", "Int", "Short", "Char", "Byte", "Bool"),
            )
        ),
    }
)
"""What state dicts are built of; torch builds these."""

_OPTIMISERS = "torch.optim."
_OPTIMISER_PARTS = frozenset({"collections.defaultdict", "builtins.dict"})

_OPTIONS = frozenset(
    {
        "argparse.Namespace",
        *(f"pathlib.{kind}Path" for kind in ("Posix", "PurePosix", "Windows", "PureWindows")),
        "torch.device",
        *(f"torch.{kind}" for kind in ("float64", "float32", "float16", "bfloat16")),
    }
)
"""What the options of a training are built of. Sets, sizes, counters and numpy's scalars are left
out: what builds these walks through lists as often as it is told to, or runs any codec."""

_END = struct.Struct("<4s4H2LH")  # of a zip file: APPNOTE.TXT, 4.3.16
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END_64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14

_NAMING = frozenset({"INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
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


def is_zip(path: Path) -> bool:
    """Says whether torch would take a file for a zip file: by its first bytes alone."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def check_zip(path: Path) -> None:
    """Checks that a zip file is as torch writes it, so that every reader finds the same in it.

    Nothing is compressed, so that weights can be mapped into memory. There is one folder, with one
    pickle, ``data.pkl``, and no name is there twice, in whatever case. Nothing is in front of the
    first member, or between the list of members and the end.

    Raises:
        ArchiveError: it is otherwise.
        zipfile.BadZipFile: it is no zip file, or a damaged one.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        _check_end(file)
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    # zipfile takes a name to end at a zero byte, and one in an extra field for the right one.
    names = [member.orig_filename for member in members]
    folder = names[0].partition("/")[0] if names else ""
    for name, member in zip(names, members, strict=True):
        if not (name.isascii() and name.isprintable() and name.startswith(f"{folder}/")):
            raise ArchiveError(f"found a member {name!a:.99}, expected all in one folder")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
            raise ArchiveError(
                f"found {name} of {member.file_size} bytes in {member.compress_size}, "
                "expected nothing compressed"
            )
        if not _has_plain_sizes(member.extra):
            raise ArchiveError(f"found {name} with unknown extra fields, expected none")
    if len({name.lower() for name in names}) < len(names):
        raise ArchiveError("found a member's name twice, expected each once")
    if [name for name in names if name.lower().endswith(".pkl")] != [f"{folder}/data.pkl"]:
        raise ArchiveError("found other pickles, expected data.pkl alone")


def _check_end(file: IO[bytes]) -> None:
    """Checks that a zip file's list of members ends where the end begins, and is the only one."""
    if file.read(4) != b"PK\3\4":
        raise ArchiveError("found no zip file of torch's, or something in front of one")
    end = file.seek(0, 2) - _END.size
    file.seek(max(0, end - _LOCATOR.size - _END_64.size))
    tail = file.read()
    if end < 0 or tail[-_END.size :][:4] != b"PK\5\6":
        raise ArchiveError("found a zip file without an end, or with something behind it")
    *_, size, start, comment = _END.unpack(tail[-_END.size :])
    locator = tail[-_END.size - _LOCATOR.size : -_END.size]
    if locator[:4] == b"PK\6\7":
        _, _, end, _ = _LOCATOR.unpack(locator)
        record = tail[: _END_64.size]
        if len(tail) < _END.size + _LOCATOR.size + _END_64.size or record[:4] != b"PK\6\6":
            raise ArchiveError("found a zip file with a broken end")
        *_, size, start = _END_64.unpack(record)
        if end != file.tell() - len(tail):
            raise ArchiveError("found a zip file with two ends")
    if comment or start + size != end:
        raise ArchiveError("found a zip file with two lists of members, or gaps, expected neither")


def _has_plain_sizes(extra: bytes) -> bool:
    """Says whether a member's extra fields are none, or one with the sizes of a large member."""
    return not extra or (
        extra[:2] == b"\1\0" and int.from_bytes(extra[2:4], "little") == len(extra) - 4
    )


def check_zipped_pickle(path: Path) -> frozenset[str]:
    """Checks the pickle in a zip file of torch's that `check_zip` has found to be plain.

    Returns:
        What it names; see `check_pickle`.

    Raises:
        ArchiveError: it is broken, takes too much to read, or names something else.
        zipfile.BadZipFile, OSError: the file can't be read.
    """
    with zipfile.ZipFile(path) as archive:
        (member,) = (one for one in archive.infolist() if one.filename.endswith(".pkl"))
        if member.file_size > PICKLE_BYTES:
            found = f"{member.filename} of {member.file_size} bytes"
            raise ArchiveError(f"found {found}, expected {PICKLE_BYTES} at most")
        with archive.open(member) as file:
            return check_pickle(file)


def check_legacy(path: Path) -> frozenset[str]:
    """Checks the pickles that begin a file of torch before 1.6.

    Returns:
        What they name; see `check_pickle`.

    Raises:
        ArchiveError: one is broken, takes too much to read or names something else, or there is
            none.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        if file.read(1) != pickle.PROTO:
            raise ArchiveError("found neither a whole zip file nor a pickle")
        file.seek(0)
        return frozenset().union(*(check_pickle(file) for _ in range(LEGACY_PICKLES)))


def check_pickle(file: IO[bytes]) -> frozenset[str]:
    """Checks what a pickle names, and how much it builds, without building it.

    Returns:
        The classes and functions that it names, such as "torch.FloatStorage": some of `BUILT`, of
        an optimiser, and of the options of a training.

    Raises:
        ArchiveError: it is broken, too long, too deep, names something else, or refers to the same
            values too often.
    """
    try:
        return frozenset(_check_opcodes(file))
    except ArchiveError:
        raise
    except (ValueError, LookupError) as error:
        raise ArchiveError("found a broken pickle") from error


def _check_name(argument: str) -> str:
    """Returns what a GLOBAL opcode's argument names, in the words of Python 3."""
    module, _, name = argument.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    full = f"{module}.{name}"
    known = BUILT | _OPTIMISER_PARTS | _OPTIONS
    if full not in known and not full.startswith(_OPTIMISERS):
        raise ArchiveError(
            f"found {full!a:.99} named in a pickle, expected weights, an optimiser and options at "
            "most; save the state dict alone"
        )
    return full


def _check_opcodes(file: IO[bytes]) -> set[str]:
    """Returns what a pickle names, once its values are counted."""
    names = set()
    stack: list[tuple[int, int]] = []  # of each value: how many it is made of, and how deep
    marks: list[int] = []
    remembered: dict[Any, tuple[int, int]] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number > PICKLE_OPCODES:
            raise ArchiveError(f"found a pickle of more than {PICKLE_OPCODES} opcodes")
        if opcode.name == "GLOBAL":
            names.add(_check_name(str(argument)))
        elif opcode.name in _NAMING:
            raise ArchiveError(
                f"found a pickle with {opcode.name}, which torch.save writes nowhere"
            )
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
    return names

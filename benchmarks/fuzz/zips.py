"""Zip archives that say what is not so."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from benchmarks.fuzz.spoiling import spoil_bytes

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")

_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive, and what the archive says of it.

    Attributes:
        name: as it is written.
        data: as they lie in the archive, compressed by `method` if the archive is honest.
        size: that they have when decompressed.
        crc: of the decompressed data.
        method: of compression; 0 stored, 8 deflated.
        flags: the general purpose bits; 1 encrypted, 8 sizes follow the data.
        extra: fields that follow the name.
        compressed: bytes that the data are said to take; None for as many as they do.
    """

    name: bytes
    data: bytes
    size: int
    crc: int
    method: int = _DEFLATED
    flags: int = 0
    extra: bytes = b""
    compressed: int | None = None


def member(name: str, content: bytes, level: int = 6) -> Member:
    """Returns an honest member; level 0 stores it as it is."""
    crc = zlib.crc32(content)
    if level == 0:
        return Member(name.encode(), content, len(content), crc, _STORED)
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return Member(name.encode(), packer.compress(content) + packer.flush(), len(content), crc)


def bomb(name: str, head: bytes, zeros: int) -> Member:
    """Returns an honest member of `head` and `zeros` MiB of zeros, small in the archive."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block, crc_of = _zeros()
    crc = zlib.crc32(head)
    for _ in range(zeros):
        crc = zlib.crc32(crc_of, crc)
    return Member(name.encode(), data + block * zeros + b"\x03\x00", len(head) + (zeros << 20), crc)


def write_zip(members: Sequence[Member], comment: bytes = b"") -> bytes:
    """Returns the archive, in which every member says of itself what it says."""
    body, directory = bytearray(), bytearray()
    for one in members:
        said = len(one.data) if one.compressed is None else one.compressed
        numbers = (one.crc, said & 0xFFFFFFFF, one.size & 0xFFFFFFFF)
        place = len(body)
        lengths = len(one.name), len(one.extra)
        body += _LOCAL.pack(b"PK\3\4", 20, one.flags, one.method, 0, 33, *numbers, *lengths)
        body += one.name + one.extra + one.data
        directory += _CENTRAL.pack(
            *(b"PK\1\2", 20, 20, one.flags, one.method, 0, 33, *numbers, *lengths),
            *(0, 0, 0, 0, place),
        )
        directory += one.name + one.extra
    count = len(members)
    end = (b"PK\5\6", 0, 0, count, count, len(directory), len(body), len(comment))
    return bytes(body + directory) + _END.pack(*end) + comment


def spoil_zip(members: list[Member], rng: np.random.Generator) -> tuple[str, bytes]:
    """Returns what is wrong, and the archive."""
    at = int(rng.integers(len(members)))
    one = members[at]
    kinds = (
        *("crc", "size", "compressed", "method", "encrypted", "flags", "name", "missing", "twice"),
        *("other twice", "data", "overlap", "extra", "zip64", "comment", "directory", "end"),
        *("bomb", "cut", "front", "order", "sizes", "nested", "many"),
    )
    kind = kinds[rng.integers(len(kinds))]
    match kind:
        case "crc":
            members[at] = replace(one, crc=int(rng.integers(2**32)))
        case "size":
            members[at] = replace(one, size=_size(rng))
        case "compressed":
            members[at] = replace(one, compressed=_size(rng))
        case "method":
            members[at] = replace(one, method=int(rng.choice([0, 1, 6, 8, 9, 12, 14, 93, 97, 99])))
        case "encrypted":
            members[at] = replace(one, flags=1)
        case "flags":
            members[at] = replace(one, flags=int(rng.integers(2**16)))
        case "name":
            names = (
                *(b"", b"\0", b"../../" + one.name, b"/etc/" + one.name, b"\xff\xfe.npy"),
                *(b"boxes.npy\0", b"\x1b[31m.npy", one.name + b"/", b"a" * 65_000, b"IMGS.npy"),
                *(b"boxes", b"boxes.npy.npy", b"prev_pred.npy", b"gts.npy", b"spacing.npy"),
            )
            members[at] = replace(one, name=names[rng.integers(len(names))])
        case "missing":
            del members[at]
        case "twice":
            members.append(one)
        case "other twice":
            members.append(replace(members[int(rng.integers(len(members)))], name=one.name))
        case "data":
            members[at] = replace(one, data=spoil_bytes(one.data, rng))
        case "overlap":
            members[at] = replace(one, data=b"", compressed=len(one.data))
        case "extra":
            members[at] = replace(one, extra=rng.bytes(int(rng.integers(1, 60))))
        case "zip64":
            sizes = struct.pack("<HHQQQ", 1, 24, *(_size(rng) for _ in range(3)))
            members[at] = replace(one, extra=sizes, size=0xFFFFFFFF, compressed=0xFFFFFFFF)
        case "order":
            members.reverse()
        case "sizes":
            members[:] = [replace(each, size=_size(rng)) for each in members]
        case "nested":
            members[at] = member(one.name.decode("latin-1"), write_zip(members))
        case "many":
            members += [member(f"k{n}.npy", b"", 0) for n in range(2000)]
        case "bomb":
            heads = (
                *(b"", b"\x93NUMPY\x01\x00", _npy_head("|u1", (1 << 20, 64, 32))),
                *(_npy_head("|O", (1,)), _npy_head("<f8", (64,)), _npy_head("|S1", (1 << 31,))),
            )
            megabytes = int(rng.choice([64, 512, 2100]))
            members[at] = bomb(
                one.name.decode("latin-1"), heads[rng.integers(len(heads))], megabytes
            )
    archive = write_zip(members, rng.bytes(int(rng.integers(65_000))) if kind == "comment" else b"")
    if kind in ("directory", "end"):
        first = archive.find(b"PK\1\2") if kind == "directory" else len(archive) - 22
        archive = archive[:first] + spoil_bytes(archive[first:], rng)
    elif kind == "cut":
        archive = archive[: int(rng.integers(len(archive)))]
    elif kind == "front":
        archive = rng.bytes(int(rng.integers(1, 2000))) + archive
    return f"zip: {kind}", archive


def _size(rng: np.random.Generator) -> int:
    sizes = (0, 1, 100, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
    return sizes[rng.integers(len(sizes))]


def _npy_head(descr: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@cache
def _zeros() -> tuple[bytes, bytes]:
    """Returns a MiB of zeros as a part of any deflated stream, and as it is."""
    content = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH), content

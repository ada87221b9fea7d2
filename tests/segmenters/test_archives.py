"""What takes too much to read is told before it is read, in seconds."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gamt.segmenters.archives import (
    ArchiveError,
    check_legacy,
    check_pickle,
    check_safetensors,
    check_zip,
    check_zipped_pickle,
    is_safetensors,
)


def doubled_tuples(depth: int) -> bytes:
    """Returns a pickle of a dict whose key's hash takes 2^depth steps, in C."""
    text = b"\x80\x02}K\x01"  # a dict, and the number 1
    for i in range(depth):
        text += b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86"  # (x, x)
    return text + b"K\x00s."


def nested_tuples(depth: int) -> bytes:
    """Returns a pickle of a dict whose key's hash recurses so deep that the process dies."""
    return b"\x80\x02}K\x01" + b"\x85" * depth + b"K\x00s."


def many_opcodes() -> bytes:
    return b"\x80\x02" + b"N0" * 2**17 + b"N."


def called(name: str, *arguments: bytes) -> bytes:
    """Returns a pickle of a dict, one value of which is what a function or class returns."""
    module, _, function = name.rpartition(".")
    call = f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"
    return b"\x80\x02}K\x01" + call + b"s."


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content.encode())) + content.encode()


FOUR_GB = b"\x8a\x05" + struct.pack("<q", 2**32)[:5]

HOSTILE = {
    "doubled": doubled_tuples(60),
    "nested": nested_tuples(500_000),
    "long": many_opcodes(),
    "from nothing": b"\x80\x02\x86.",
    "named by a stack": b"\x80\x04" + text("builtins") + text("bytearray") + b"\x93.",
    # Names that torch would call: 4 GB at once, and time that grows as the text's length squared.
    "bytes": called("builtins.bytearray", FOUR_GB),
    "bytes of Python 2": called("__builtin__.bytearray", FOUR_GB),
    "tensor": called("torch.Tensor", FOUR_GB),
    "storage": called("torch.storage.UntypedStorage", FOUR_GB),
    "punycode": called(
        "_codecs.encode", text("".join(map(chr, range(0x4E00, 0x9E00))) * 3), text("punycode")
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_takes_too_much_is_refused(name: str) -> None:
    with pytest.raises(ArchiveError, match=r"found a pickle|found '.*' named in a pickle"):
        check_pickle(io.BytesIO(HOSTILE[name]))


def test_a_name_that_weights_do_not_need_is_told() -> None:
    with pytest.raises(
        ArchiveError,
        match=r"^found '_codecs\.encode' named in a pickle, expected weights, an optim",
    ):
        check_pickle(io.BytesIO(HOSTILE["punycode"]))


def test_a_list_in_itself_is_counted_once() -> None:
    # Nothing hashes it or walks through it.
    endless: list[Any] = []
    endless.append(endless)
    check_pickle(io.BytesIO(pickle.dumps(endless, 2)))


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02", b"\x80\x02h\x05.", b"nonsense", b"\x80\x02q\x00"]
)
def test_a_broken_pickle_is_said_to_be_one(data: bytes) -> None:
    with pytest.raises(ArchiveError, match="found a broken pickle"):
        check_pickle(io.BytesIO(data))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_in_any_protocol_pass(protocol: int) -> None:
    shared = (0.9, 0.999)
    content = {"betas": [shared] * 100, 3: None, "weights": {"x": 1.5}}
    assert check_pickle(io.BytesIO(pickle.dumps(content, protocol))) == frozenset()


@pytest.mark.parametrize("whole", [False, True], ids=["optimiser's state", "optimiser"])
def test_a_training_state_of_torch_passes(whole: bool, tmp_path: Path) -> None:
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(400)))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(2)).sum().backward()
    optimiser.step()
    state: dict[str, Any] = {
        "model": network.state_dict(),
        "optimizer": optimiser if whole else optimiser.state_dict(),
    }
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    check_zip(tmp_path / "new.pth")
    names = check_zipped_pickle(tmp_path / "new.pth")
    assert ("torch.optim.adam.Adam" in names) == whole
    assert check_legacy(tmp_path / "old.pth") == names


def test_a_file_of_something_else_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"<html>Sign in</html>")
    with pytest.raises(ArchiveError, match="found neither a whole zip file nor a pickle"):
        check_legacy(tmp_path / "a.pth")


def write_zip(path: Path, content: bytes, name: str = "a/data.pkl", **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(name, content)
    return path


def test_nothing_compressed_is_read(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "bomb.pth", bytes(2**22), "a/data/0", compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 10_000
    with pytest.raises(ArchiveError, match=r"found a/data/0 of 4194304 bytes in .* compressed"):
        check_zip(path)


def test_a_pickle_of_megabytes_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"found a/data\.pkl of 4194305 bytes, expected 4194304"):
        check_zipped_pickle(write_zip(tmp_path / "a.pth", bytes(2**22 + 1)))


def zip_bytes(members: Sequence[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def two_directories(first: bytes, second: bytes) -> bytes:
    """Returns a zip file that starts as `first`, whose list of members torch reads.

    zipfile takes what is in front of the last list, that of `second`, for a prefix.
    """
    (_, _, _, _, count, size, start, _) = struct.unpack("<4s4H2LH", second[-22:])
    first_start = struct.unpack("<4s4H2LH", first[-22:])[6]
    front = first[:-22] + second[:start]
    directory = bytearray(second[start : start + size])
    # zipfile adds to every offset how far the list is from where the end says that it is.
    added = len(front) - first_start
    place = 0
    while place < size:
        lengths = struct.unpack_from("<3H", directory, place + 28)
        (offset,) = struct.unpack_from("<L", directory, place + 42)
        offset += len(first) - 22 - added
        struct.pack_into("<L", directory, place + 42, offset & 0xFFFFFFFF)
        place += 46 + sum(lengths)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, first_start, 0)
    return front + bytes(directory) + end


PLAIN = [("a/data.pkl", pickle.dumps({}, 2)), ("a/version", b"3\n")]
EVIL = [("a/data.pkl", HOSTILE["doubled"]), ("a/version", b"3\n")]

UNPLAIN = {
    "in front": b"#!/bin/sh\n" + zip_bytes(PLAIN),
    "zip in front": zip_bytes(EVIL) + zip_bytes(PLAIN),
    "behind": zip_bytes(PLAIN) + b"more",
    "comment": zip_bytes(PLAIN)[:-2] + b"\4\0more",
    "two lists": two_directories(zip_bytes(EVIL), zip_bytes(PLAIN)),
    "two ends": zip_bytes(PLAIN)[:-22]
    + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    + zip_bytes(PLAIN)[-22:],
    "upper case": zip_bytes([("a/DATA.PKL", HOSTILE["doubled"]), PLAIN[1]]),
    "both cases": zip_bytes([*PLAIN, ("a/DATA.PKL", HOSTILE["doubled"])]),
    "both cases of another": zip_bytes([*PLAIN, ("a/Version", b"")]),
    "two pickles": zip_bytes([*PLAIN, ("a/code/data.pkl", HOSTILE["doubled"])]),
    "two folders": zip_bytes([("b/version", b""), *PLAIN]),
    "no folder": zip_bytes([("data.pkl", pickle.dumps({}, 2))]),
    "zero byte": zip_bytes([("a/data.pkl/x", HOSTILE["doubled"]), *PLAIN]).replace(
        b"data.pkl/x", b"data.pkl\0x"
    ),
    "other letters": zip_bytes([*PLAIN, ("a/data.p\u212al", b"")]),  # Kelvin's K
    "no pickle": zip_bytes(PLAIN[1:]),
    "no member": zip_bytes([]),
}


@pytest.mark.parametrize("name", UNPLAIN)
def test_a_zip_file_that_readers_may_read_in_several_ways_is_refused(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(UNPLAIN[name])
    with pytest.raises(ArchiveError):
        check_zip(path)


def test_two_lists_of_members_are_what_is_meant(tmp_path: Path) -> None:
    # zipfile reads the harmless one.
    path = tmp_path / "a.pth"
    path.write_bytes(UNPLAIN["two lists"])
    with zipfile.ZipFile(path) as archive:
        assert archive.read("a/data.pkl") == PLAIN[0][1]


def test_a_plain_zip_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(zip_bytes(PLAIN))
    check_zip(path)
    assert check_zipped_pickle(path) == frozenset()


def safetensors(header: object, data: int) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


WEIGHT = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}


def test_a_file_of_safetensors_is_as_long_as_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"__metadata__": {"format": "pt"}, "w": WEIGHT}, 12))
    assert is_safetensors(path)
    check_safetensors(path)
    path.write_bytes(safetensors({"w": WEIGHT}, 11))
    with pytest.raises(ArchiveError, match="as its header says"):
        check_safetensors(path)


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"w": {"dtype": "F32"}}, 0),
        safetensors({"w": 3}, 0),
        safetensors({"w": {"data_offsets": ["a", "b"]}}, 0),
        b"\xff\xff\xff\xff\0\0\0\0{",
        (20_000).to_bytes(8, "little") + b'{"a":' * 4000,
        b"",
    ],
)
def test_a_broken_header_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        check_safetensors(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4" + bytes(9), bytes(8) + b"x", b"\xff" * 8 + b"{"]
)
def test_other_files_are_none_of_safetensors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert not is_safetensors(path)

"""What takes too much to read is told before it is read, in seconds."""

import io
import json
import pickle
import zipfile
from collections import OrderedDict
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
    check_zipped_pickles,
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


HOSTILE = {
    "doubled": doubled_tuples(60),
    "nested": nested_tuples(500_000),
    "long": many_opcodes(),
    "from nothing": b"\x80\x02\x86.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_takes_too_much_is_refused(name: str) -> None:
    with pytest.raises(ArchiveError, match="found a pickle"):
        check_pickle(io.BytesIO(HOSTILE[name]))


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02", b"\x80\x02h\x05.", b"nonsense", b"\x80\x02q\x00"]
)
def test_a_broken_pickle_is_an_error_of_a_known_kind(data: bytes) -> None:
    with pytest.raises((ValueError, LookupError)):
        check_pickle(io.BytesIO(data))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_in_any_protocol_pass(protocol: int) -> None:
    shared = (0.9, 0.999)
    content = {"betas": [shared] * 100, 3: {"a", "b"}, "weights": OrderedDict(x=bytes(9), y=None)}
    check_pickle(io.BytesIO(pickle.dumps(content, protocol)))


def test_a_training_state_of_torch_passes(tmp_path: Path) -> None:
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(400)))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(2)).sum().backward()
    optimiser.step()
    state: dict[str, Any] = {"model": network.state_dict(), "optimizer": optimiser.state_dict()}
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    check_zip(tmp_path / "new.pth")
    check_zipped_pickles(tmp_path / "new.pth")
    check_legacy(tmp_path / "old.pth")


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
        check_zipped_pickles(write_zip(tmp_path / "a.pth", bytes(2**22 + 1)))


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

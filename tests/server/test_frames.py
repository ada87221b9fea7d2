import struct
from collections.abc import Callable
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nnInteractive.inference.remote import serialization as client

from gamt.server import frames
from gamt.server.frames import (
    DTYPES,
    HEADER_BYTES,
    FrameError,
    FrameSizeError,
    pack,
    read_header,
    unpack,
    unpack_mask,
)

LIMIT = 11_000

arrays = st.sampled_from(frames.DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))
)


def frame_of(
    payload: bytes = b"",
    *,
    magic: bytes = b"NNIA",
    version: int = 1,
    codec: int = 1,
    dtype: bytes = b"uint8",
    shape: tuple[int, ...] = (2, 3, 5),
) -> bytes:
    header = struct.pack("<4sBBBB", magic, version, codec, len(shape), len(dtype))
    return header + dtype + struct.pack(f"<{len(shape)}q", *shape) + payload


def chunks_of(*chunks: tuple[int, bytes]) -> bytes:
    """Returns the rest of a frame: chunks, each with the length that is declared for it."""
    parts = [struct.pack("<QQ", length, len(chunk)) + chunk for length, chunk in chunks]
    return struct.pack("<I", len(parts)) + b"".join(parts)


def compress(raw: bytes, **options: Any) -> bytes:
    chunk: bytes = blosc2.compress2(raw, typesize=1, **options)
    return chunk


@given(arrays)
def test_an_array_comes_back_as_it_was_packed(array: npt.NDArray[Any]) -> None:
    back = unpack(pack(array), LIMIT)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(arrays)
def test_the_client_reads_what_is_packed(array: npt.NDArray[Any]) -> None:
    back = client.unpack_array(pack(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(arrays)
def test_what_the_client_packs_is_read(array: npt.NDArray[Any]) -> None:
    back = unpack(client.pack_array(array), array.nbytes)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("codec", [blosc2.Codec.ZSTD, blosc2.Codec.LZ4])
@pytest.mark.parametrize(
    "filters", [blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE]
)
def test_both_codecs_and_the_filters_of_clients_are_read(codec: Any, filters: Any) -> None:
    array = np.arange(2 * 50 * 70, dtype=np.int16).reshape(2, 50, 70)
    frame = client.pack_array(array, codec=codec, filters=[filters])
    np.testing.assert_array_equal(unpack(frame, array.nbytes), array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 5, 7), np.uint8),  # an odd number of zeros, which blosc2 keeps as a header
        np.zeros(707_659, np.uint8),
        np.full((40, 50, 60), 7, np.int16),
        np.full((40, 50, 60), np.nan, np.float32),
    ],
    ids=["odd zeros", "many odd zeros", "one value", "NaN"],
)
def test_arrays_of_one_value_are_packed_and_read(array: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(unpack(client.pack_array(array), array.nbytes), array)
    np.testing.assert_array_equal(client.unpack_array(pack(array)), array)


def test_an_array_may_lie_in_memory_in_any_order() -> None:
    array = np.arange(24, dtype=">i4").reshape(2, 3, 4).transpose(2, 0, 1)[:, ::-1]
    np.testing.assert_array_equal(unpack(pack(array), LIMIT), array)


def test_an_empty_array_is_packed_without_chunks() -> None:
    assert unpack(pack(np.empty((0, 4), np.int16)), LIMIT).shape == (0, 4)


def test_several_chunks_make_one_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "CHUNK_BYTES", 8)
    array = np.arange(15, dtype=np.int16).reshape(3, 5)  # chunks of 8, 8, 8, 6 bytes
    np.testing.assert_array_equal(unpack(pack(array), LIMIT), array)
    np.testing.assert_array_equal(client.unpack_array(pack(array)), array)


def test_bytes_above_one_in_a_bool_array_count_as_true() -> None:
    frame = frame_of(chunks_of((3, compress(b"\x00\x01\x07"))), dtype=b"bool", shape=(3,))
    assert unpack(frame, LIMIT).tobytes() == b"\x00\x01\x01"


GOOD = compress(bytes(range(30)))  # 62 bytes: a header of 32, and 30 that can't be compressed


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "found 0 bytes for the frame's header, expected 8"),
        (b"NNIA\x01\x01\x03", "found 7 bytes for the frame's header"),
        (frame_of(magic=b"NNIB"), "begins with b'NNIB'"),
        (frame_of(version=2), "version 2, expected 1"),
        (frame_of(codec=3), "codec 3"),
        (frame_of(shape=(1,) * 5), "5 dimensions, expected 4"),
        (frame_of(dtype=b"object"), "dtype 'object'"),
        (frame_of(dtype=b"<i2"), "dtype '<i2'"),
        (frame_of(dtype=b"complex64"), "dtype 'complex64'"),
        (frame_of(dtype=b"\xff"), "dtype"),
        (frame_of(shape=(2, -3, 5)), "expected 0 to 2147483647"),
        (frame_of(shape=(0, 2**62)), "expected 0 to 2147483647"),
        (frame_of(), "0 bytes for the number of chunks"),
        (frame_of(chunks_of()), "chunks of 0 bytes, expected 30"),
        (frame_of(chunks_of((30, GOOD))[:-1]), "bytes for a chunk"),
        (frame_of(chunks_of((30, GOOD)) + b"x"), "1 bytes after the last chunk"),
        (frame_of(chunks_of((30, GOOD)), dtype=b"uint16"), "chunks of 30 bytes, expected 60"),
        (frame_of(chunks_of((29, GOOD))), "expected 62 and 29"),
        (frame_of(chunks_of((31, GOOD))), "chunk of 31 bytes"),
        (frame_of(chunks_of((0, GOOD))), "chunk of 0 bytes"),
        (frame_of(chunks_of((2**64 - 1, GOOD))), "chunk of 18446744073709551615 bytes"),
        (frame_of(chunks_of((30, GOOD)), dtype=b"uint32", shape=(10,)), "whole items of 4 bytes"),
        (frame_of(chunks_of((30, GOOD[:31]))), "chunk of 31 bytes, expected 32"),
        (frame_of(chunks_of((30, b""))), "chunk of 0 bytes, expected 32"),
    ],
)
def test_what_is_no_frame_is_refused_with_what_was_found(frame: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        unpack(frame, LIMIT)


def test_a_long_name_of_a_dtype_is_quoted_in_part() -> None:
    with pytest.raises(FrameError) as found:
        unpack(frame_of(dtype=b"\x01" * 255), LIMIT)
    assert len(str(found.value)) < 300


def test_a_frame_of_more_than_2_to_the_32_chunks_is_read_no_further_than_its_bytes() -> None:
    with pytest.raises(FrameError, match="bytes for a chunk's sizes"):
        unpack(frame_of(struct.pack("<I", 2**32 - 1)), LIMIT)


def test_a_shape_above_the_limit_is_refused_before_anything_is_allocated() -> None:
    frame = frame_of(chunks_of((30, GOOD)), shape=(2**31 - 1,) * 4)
    with pytest.raises(FrameSizeError, match="11000 at most"):
        unpack(frame, LIMIT)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8"])
def test_a_mask_is_true_where_there_is_a_number(dtype: str) -> None:
    mask = unpack_mask(pack(np.array([[[0, 1], [0, 1]]], dtype)), 4)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[[False, True], [False, True]]]


def test_a_byte_above_one_is_true_and_nothing_else() -> None:
    mask = unpack_mask(pack(np.array([[[0, 2], [255, 0]]], np.uint8)), 4)
    assert mask.view(np.uint8).tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_a_mask_of_more_than_a_byte_a_voxel_is_refused(dtype: str) -> None:
    with pytest.raises(FrameError, match=f"dtype '{dtype}', expected one of bool, int8, uint8"):
        unpack_mask(pack(np.zeros((1, 2, 2), dtype)), 100)


def test_a_mask_of_more_voxels_than_allowed_is_refused() -> None:
    with pytest.raises(FrameSizeError, match="4 bytes, expected 3 at most"):
        unpack_mask(pack(np.zeros((1, 2, 2), np.uint8)), 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_header_of_any_frame_ends_where_it_is_said_to(dtype: str) -> None:
    frame = pack(np.ones((1, 2, 3, 4), dtype))
    assert read_header(frame[:HEADER_BYTES], LIMIT) == (np.dtype(dtype), (1, 2, 3, 4))


def test_an_array_may_be_as_large_as_the_limit() -> None:
    frame = pack(np.zeros(100, np.int16))
    assert unpack(frame, 200).nbytes == 200
    with pytest.raises(FrameSizeError, match="200 bytes, expected 199 at most"):
        unpack(frame, 199)


def test_a_chunk_that_decompresses_to_more_than_it_says_is_refused() -> None:
    bomb = compress(bytes(2**20))  # 32 bytes
    with pytest.raises(FrameError, match="holds 1048576, expected 32 and 30"):
        unpack(frame_of(chunks_of((30, bomb))), LIMIT)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (2, 0xC5),  # flags: a codec of a plugin
        (2, 0xC7),  # the same, with bytes that are not compressed
        (2, 0x22),  # flags: a header of blosc's first version
        (11, 0x7F),  # the size of a block: 2 GB
        (16, 32),  # a filter of a plugin
        (30, 1),  # flags that are unknown
        (31, 0x40),  # flags: memory as it happens to be
        (31, 0x08),  # flags: a part of a file
    ],
)
def test_kinds_of_chunks_that_no_client_writes_are_refused(offset: int, value: int) -> None:
    chunk = bytearray(GOOD)
    chunk[offset] = value
    with pytest.raises(FrameError, match="chunk"):
        unpack(frame_of(chunks_of((30, bytes(chunk)))), LIMIT)


@given(
    st.sampled_from([pack, client.pack_array]),
    st.data(),
)
def test_a_frame_with_any_changed_bytes_is_an_array_or_refused(
    packing: Callable[[npt.NDArray[Any]], bytes], data: st.DataObject
) -> None:
    frame = bytearray(packing(np.arange(60, dtype=np.int16).reshape(3, 4, 5) // 7))
    places = st.integers(0, len(frame) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        frame[place] = value
    del frame[data.draw(places) :: data.draw(st.integers(1, len(frame)))]
    try:
        array = unpack(frame, LIMIT)
    except FrameError:
        return
    assert array.nbytes <= LIMIT


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        unpack(payload, LIMIT)
    with pytest.raises(FrameError):
        unpack(b"NNIA" + payload, 0)

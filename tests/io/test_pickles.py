"""Pickles that cost more than their size, and honest ones of any kind."""

import pickle
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gamt.io.pickles import MOST_DEPTH, NpyError, load_plain
from tests.costs import cost
from tests.io.test_case import foreign, objects, unfolded

PROTO = b"\x80\x04"
REPEATING = "holds a value that holds itself"
TOO_LONG = "takes more than 6,000,000 steps"
STEPS = 600_000
"""A tenth of those that a pickle may have, so that the tests take a tenth of the time."""

KEY = "a key that is neither text nor a number"
DTYPE = b"cnumpy\ndtype\n(X\x02\0\0\0%stR"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n)R"
SCALAR = b"cnumpy.core.multiarray\nscalar\n"
FROM_BYTES = b"cnumpy.core.numeric\n_frombuffer\n"


def doubled(opener: bytes, closer: bytes, times: int = 60) -> bytes:
    """A container that holds the one before twice: unfolded, it has 2 ** times values."""
    code = b"K\x01\x94"
    for number in range(times):
        code += opener + b"h" + bytes([number]) + b"h" + bytes([number]) + closer + b"\x94"
    return code


def colliding(count: int, after: bytes = b"") -> bytes:
    """Integers that have the same hash, which is the remainder of 2 ** 61 - 1."""
    numbers = (k * (2**61 - 1) for k in range(1, count + 1))
    return b"".join(b"\x8a\x0c" + one.to_bytes(12, "little") + after for one in numbers)


def array(dtype: bytes, shape: bytes, data: bytes) -> bytes:
    return RECONSTRUCT + b"(K\x01" + shape + DTYPE % dtype + b"\x89" + data + b"tb"


HOSTILE = {
    "list in itself": (b"]\x94h\x00a", REPEATING),
    "dict in itself": (b"}\x94X\x01\0\0\0ah\x00s", REPEATING),
    "tuple in itself": (b"](h\x00", "is broken"),
    "list in itself by way of a tuple": (b"]\x94(h\x00ta", REPEATING),
    "array in itself": (
        RECONSTRUCT + b"\x94(K\x01)" + DTYPE % b"O8" + b"\x89](h\x00etb",
        REPEATING,
    ),
    "doubled tuples": (doubled(b"", b"\x86"), TOO_LONG),
    "doubled lists": (doubled(b"](", b"e"), TOO_LONG),
    "doubled tuples as a key": (b"}" + doubled(b"", b"\x86") + b"Ns", TOO_LONG),
    "doubled arrays": (
        doubled(RECONSTRUCT + b"(K\x01K\x02\x85" + DTYPE % b"O8" + b"\x89](", b"etb", 50),
        TOO_LONG,
    ),
    "deep tuples": (b"N" + b"\x85" * 500_000, f"more than {MOST_DEPTH} values within each other"),
    "deep lists": (b"]" * 200_000 + b"a" * 199_999, f"more than {MOST_DEPTH} values"),
    "deep tuples as a key": (b"}N" + b"\x85" * 500_000 + b"Ns", KEY),
    "deep tuples in a set": (b"\x8f(N" + b"\x85" * 500_000 + b"\x90", KEY),
    "bytes as a key": (b"}C\x01aNs", KEY),
    "None as a key": (b"}NNs", KEY),
    "colliding keys": (b"}(" + colliding(60_000, b"N") + b"u", TOO_LONG),
    "colliding members": (b"\x8f(" + colliding(60_000) + b"\x90", TOO_LONG),
    "colliding members of a frozen set": (b"(" + colliding(60_000) + b"\x91", TOO_LONG),
    "colliding members of a set by its name": (
        b"cbuiltins\nset\n](" + colliding(60_000) + b"e\x85R",
        TOO_LONG,
    ),
    "too many opcodes": (b"(" + b"N" * STEPS + b"l", TOO_LONG),
    "long text, used often": (
        b"(X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"\x94" + b"h\x00" * 1000 + b"l",
        TOO_LONG,
    ),
    "long text in a list, used often": (
        b"((X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"l\x94" + b"h\x00" * 1000 + b"l",
        TOO_LONG,
    ),
    "empty list, used often": (b"(]\x94" + b"h\x00" * (STEPS - 10) + b"l", TOO_LONG),
    "deep list, used often": (
        b"(]" + b"\x85" * 90 + b"\x94" + b"h\x00" * (STEPS // 50) + b"l",
        TOO_LONG,
    ),
    "numbers of one kind after another": (
        (b"(" + SCALAR + b"q\x00" + DTYPE % b"U1" + b"q\x01C\x04a\0\0\0q\x02")
        + b"h\x00h\x01h\x02\x86R" * (STEPS // 6)
        + b"l",
        TOO_LONG,
    ),
    "number of numpy's beside colliding keys": (
        (b"(" + SCALAR + DTYPE % b"u8" + b"C\x08" + struct.pack("<Q", 2**61 - 1) + b"\x86R\x94")
        + (b"}(" + colliding(1000, b"N") + b"u(" + b"h\x00N" * 500_000 + b"u")
        + b"l",
        TOO_LONG,
    ),
    "arrays in arrays": (
        (b"(cnumpy.core.multiarray\n_reconstruct\nq\x00" + DTYPE % b"O8" + b"q\x01")
        + b"h\x00)R(K\x01K\x01\x85h\x01\x89]" * 15_000
        + (b"N" + b"atb" * 15_000 + b"l"),
        f"more than {MOST_DEPTH} values within each other",
    ),
    "array of very many axes": (
        array(b"u1", b"(\x8a\xff" + b"\x7f" * 255 + b"q\x00" + b"h\x00" * 200_000 + b"t", b"C\0"),
        "without a shape",
    ),
    "array of an axis too long": (
        array(b"u1", b"\x8a\xff" + b"\x7f" * 255 + b"K\0\x86", b"C\0"),
        "without a shape",
    ),
    "array of many empty rows, whose axes are turned": (
        FROM_BYTES
        + (b"(C\x00" + DTYPE % b"u1" + b"K\x00\x8a\x08" + struct.pack("<q", 2**40) + b"\x86")
        + b"X\x01\0\0\0KK\x01K\x00\x86tR",
        TOO_LONG,
    ),
    "array of many empty rows": (array(b"i8", b"J\xff\xff\xff\x7fK\0\x86", b"C\0"), TOO_LONG),
    "array of a negative shape": (
        array(b"i8", b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"C\x08abcdefgh"),
        "without a shape",
    ),
    "array without its content": (b"(" + RECONSTRUCT + b"l", "something else than plain values"),
    "text of no characters": (
        SCALAR + DTYPE % b"U1" + b"C\x04\xff\xff\xff\xff\x86R",
        "text of characters that don't exist",
    ),
    "array of text of no characters": (
        array(b"U1", b"K\x01\x85", b"C\x04\xff\xff\xff\xff"),
        "text of characters that don't exist",
    ),
    "integer of many digits": (
        b"\x8b" + struct.pack("<I", 10**6) + b"\x01" * 10**6,
        "an integer of 1000000 bytes",
    ),
    "integer of many digits, as text": (b"L" + b"9" * 10**6 + b"L\n", "a line that doesn't end"),
    "text longer than the file": (b"\x8d" + b"\xff" * 8, "ends too early"),
    "frame longer than the file": (b"\x95" + b"\xff" * 8, "ends too early"),
    "more than one value": (b"NN", "is broken"),
    "DUP": (b"N2\x86", "uses DUP"),
    "POP": (b"NN0", "uses POP"),
    "a function as a value": (b"cnumpy\ndtype\n", "something else than plain values"),
    "a value as a function": (b"N)R", "calls what is no function"),
    "another protocol": (b"\x80\x06N", "is of protocol 6"),
    "pop below a mark": (b"N(0N\x86l", "uses POP"),
    "pair across a mark": (b"NN(\x86l", "is broken"),
    "unknown opcode": (b"\xfe", "the unknown opcode 254"),
}


def refuse(code: bytes, reason: str) -> None:
    with pytest.raises(NpyError, match=reason):
        load_plain(PROTO + code + b".")


@pytest.fixture(scope="module")
def plainest() -> float:
    """CPU seconds that all steps take with the plainest opcodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gamt.io.pickles.MOST_STEPS", STEPS)
        return cost(lambda: refuse(b"(" + b"N" * STEPS + b"l", TOO_LONG), times=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickle_is_refused_for_no_more_than_its_steps(
    kind: str, plainest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60,000 keys that collide, in a dict of Python's own, would take a hundred times as long."""
    monkeypatch.setattr("gamt.io.pickles.MOST_STEPS", STEPS)
    assert cost(lambda: refuse(*HOSTILE[kind])) < 10 * plainest


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(NpyError, match="goes on after its end"):
        load_plain(PROTO + b"N.N")


def test_an_empty_pickle_is_refused() -> None:
    with pytest.raises(NpyError, match="ends too early"):
        load_plain(b"")


def test_errors_hold_no_text_of_the_file_but_names() -> None:
    secret = b"a secret of the file"
    with pytest.raises(NpyError) as caught:
        load_plain(PROTO + b"}C" + bytes([len(secret)]) + secret + b"Ns.")
    assert "secret" not in str(caught.value)


def test_a_value_used_twice_is_read_twice() -> None:
    click = [1, 2, 3]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        value = load_plain(pickle.dumps([click, {"fg": click}, (click,)], protocol))
        assert value == [click, {"fg": click}, (click,)]


@pytest.mark.slow
def test_100_000_clicks_of_255_classes_are_read() -> None:
    # As the evaluator stores them: lists of numpy's integers, and all of them in one class.
    voxels = [[np.int64(z), np.int64(z), np.int64(7)] for z in range(100_000)]
    clicks = objects({"fg": voxels, "bg": []}, *[{"fg": [[1, 2, 3]], "bg": []}] * 254)
    read = load_plain(pickle.dumps(clicks, 3))
    assert read[0]["fg"][-1] == [99_999, 99_999, 7]
    assert type(read[0]["fg"][-1][0]) is np.int64
    assert read[254] == {"fg": [[1, 2, 3]], "bg": []}


NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    hnp.from_dtype(np.dtype(np.int64)),
    hnp.from_dtype(np.dtype(">u2")),
    hnp.from_dtype(np.dtype(np.float32), allow_nan=False),
)
TEXTS = st.text() | st.builds(np.str_, st.text())
ARRAYS = hnp.arrays(
    hnp.integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64)) | hnp.boolean_dtypes(),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
    elements={"allow_nan": False},
)
SIMPLE = st.none() | NUMBERS | TEXTS | st.binary() | hnp.arrays("U3", st.integers(0, 3))
VALUES = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda items: objects(*items)),
        st.dictionaries(TEXTS | NUMBERS, inner, max_size=4),
        st.sets(TEXTS | NUMBERS, max_size=4),
        st.frozensets(TEXTS | NUMBERS, max_size=4),
    ),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=VALUES | ARRAYS, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_any_plain_value_is_read_as_it_was_written(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert unfolded(load_plain(data)) == unfolded(pickle.loads(data))


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=VALUES,
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
    data=st.data(),
)
def test_any_changed_pickle_is_refused_or_a_plain_value(
    value: Any, protocol: int, data: st.DataObject
) -> None:
    content = bytearray(pickle.dumps(objects(value, value), protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["change", "remove", "repeat"])):
            case "change":
                content[at] = data.draw(st.integers(0, 255))
            case "remove":
                del content[at : at + data.draw(st.integers(1, 4))]
            case "repeat":
                content[at:at] = content[at : at + data.draw(st.integers(1, 20))]
        if not content:
            return
    try:
        read = load_plain(bytes(content))
    except NpyError:
        return
    repr(read)  # ends, and soon


def test_values_of_both_versions_of_numpy() -> None:
    value: npt.NDArray[Any] = objects({"z_min": np.int64(3), "z_max": np.arange(3)})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(value, protocol)
        assert unfolded(load_plain(foreign(data))) == unfolded(load_plain(data))

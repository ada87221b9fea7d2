"""Headers of npy files that say what is not so."""

import struct

import numpy as np

from benchmarks.fuzz.spoiling import spoil_bytes

CANARY = "/tmp/gamt-fuzz-canary"
"""A file that is there only if a spoilt file has run code."""

_DESCRS = (
    *("'|O'", "'|u1'", "'<f2'", "'<f8'", "'>f8'", "'<f16'", "'<c8'", "'<c16'", "'|b1'", "'<i8'"),
    *(
        "'>i8'",
        "'<u8'",
        "'|V8'",
        "'<M8[s]'",
        "'<m8[ns]'",
        "'|S1000000000'",
        "'<U99999999'",
        "'|S0'",
    ),
    *("[('a', '<f8'), ('b', '|O')]", "[('a', '<f8', (1000, 1000, 1000))]", "'O'", "'object'", "''"),
    *("'f,f,O'", "None", "7", "{'names': ['a'], 'formats': ['O']}", "('<f8', (3,))", "'\\ud800'"),
    *("'<i8' * 10**9", "'numpy.float64'", "'|V2147483647'", "[" * 300 + "]" * 300, "'U'"),
)
_SHAPES = (
    *("()", "(0,)", "(1,)", "(3,)", "(-1,)", "(True,)", "(1.0,)", "3", "None", "(5, 12)", "[5]"),
    *("(5, 12, 10)", "(10, 12, 5)", "(600,)", "(1, 600, 1)", "(1, 1, 1, 600)", "(0, 12, 10)"),
    *("(2**40,)", "(1099511627776, 1099511627776, 9)", "(9223372036854775807,)", f"({10**60},)"),
    *("(65536, 65536, 65536)", "(1,) * 70", str((1,) * 70), "(2147483648,)", "(300000000,)"),
    *("('5', 12, 10)", "((5,), 12)", "(-5, -12, 10)", "(100000, 100000, 0)"),
)
_TEXTS = (
    *("", "{}", "{" * 200, "(" * 9000, "1" * 60_000, "{'descr': 'O'}", "'" * 100, "-" * 3000 + "1"),
    f"__import__('os').system('touch {CANARY}')",
    f"{{'descr': __import__('os').system('touch {CANARY}'), 'fortran_order': False, 'shape': ()}}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'more': 1}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3L,)}",
    "[" * 4000 + "]" * 4000,
    "{'a': " * 1000 + "1" + "}" * 1000,
    "b'\\xff'",
    "\0" * 50,
)


def spoil_npy(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Returns what is wrong, and an npy file made of the right one in `data`."""
    length = struct.unpack_from("<H", data, 8)[0]
    content = data[10 + length :]
    text = data[10 : 10 + length].decode("latin-1").strip()
    descr, order, shape = _parts(text)
    version = (1, 0)
    said: int | None = None
    kinds = ("descr", "shape", "both", "order", "version", "length", "text", "bytes", "cut", "more")
    kind = kinds[rng.integers(len(kinds))]
    if kind in ("descr", "both"):
        descr = _DESCRS[rng.integers(len(_DESCRS))]
    if kind in ("shape", "both"):
        shape = _SHAPES[rng.integers(len(_SHAPES))]
    if kind == "order":
        order = ("True", "None", "1", "'C'", "[]")[rng.integers(5)]
    if kind == "version":
        versions = ((2, 0), (3, 0), (0, 0), (1, 1), (4, 0), (9, 9), (255, 255))
        version = versions[rng.integers(len(versions))]
    if kind == "length":
        said = int(rng.choice([0, 1, 10, 200, 9_999, 10_001, 65_535, 2**31, 2**32 - 1]))
        version = (2, 0) if said > 65_535 or rng.random() < 0.3 else version
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    if kind == "text":
        text = _TEXTS[rng.integers(len(_TEXTS))]
    elif kind == "bytes":
        text = spoil_bytes(text.encode("latin-1"), rng).decode("latin-1")
    elif kind == "cut":
        content = content[: int(rng.integers(len(content) + 1))]
    elif kind == "more":
        content += rng.bytes(int(rng.integers(1, 3000)))
    header = text.encode("latin-1", "replace") + b"\n"
    said = len(header) if said is None else said
    size = struct.pack("<H", said & 0xFFFF) if version == (1, 0) else struct.pack("<I", said)
    return f"npy: {kind}", b"\x93NUMPY" + bytes(version) + size + header + content


def object_header(shape: str = "(1,)") -> bytes:
    """Returns the header of an object array."""
    text = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _parts(text: str) -> tuple[str, str, str]:
    """Returns the descr, order and shape of a header as numpy writes it."""
    rest, _, shape = text.partition("'shape': ")
    descr, _, order = rest.partition("'fortran_order': ")
    return descr.removeprefix("{'descr': ").rstrip(", "), order.rstrip(", "), shape.rstrip(", }")

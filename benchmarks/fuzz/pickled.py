"""Pickles that no evaluator writes: real ones with their opcodes mixed up, and built to do harm."""

import pickle
import pickletools
import struct
from collections.abc import Callable

import numpy as np

from benchmarks.fuzz.arrays import CANARY, object_header
from benchmarks.fuzz.spoiling import INTERESTING, spoil_bytes

_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
_DTYPE_O = (
    b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87R"
    b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
)
_MASK61 = 2**61 - 1
"""Python's hash of a whole number is its rest by this one."""

Build = Callable[[np.random.Generator], bytes]


def spoil_pickle(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Returns what is wrong, and an npy file with a pickle in it.

    Args:
        data: a right npy file of an object array.
        other: another one, parts of which may be taken.
        rng: decides.
    """
    if rng.random() < 0.5:
        kind = list(HARMFUL)[rng.integers(len(HARMFUL))]
        return f"pickle: {kind}", object_header() + HARMFUL[kind](rng)
    start = 10 + struct.unpack_from("<H", data, 8)[0]
    head, code = data[:start], data[start:]
    kind = ("opcodes", "splice", "numbers", "bytes", "protocol")[rng.integers(5)]
    match kind:
        case "opcodes":
            code = _mix(_opcodes(code), rng)
        case "splice":
            other = other[10 + struct.unpack_from("<H", other, 8)[0] :]
            first, second = _opcodes(code), _opcodes(other)
            cut = int(rng.integers(len(first)))
            code = b"".join(first[:cut] + second[int(rng.integers(len(second))) :])
        case "numbers":
            code = _renumber(code, rng)
        case "bytes":
            code = spoil_bytes(code, rng)
        case "protocol":
            array = pickle.loads(code)
            code = _mix(_opcodes(pickle.dumps(array, protocol=int(rng.integers(6)))), rng)
    return f"pickle: {kind}", head + code


def _opcodes(code: bytes) -> list[bytes]:
    """Returns a pickle cut before each of its opcodes."""
    places = [place for _, _, place in pickletools.genops(code) if place is not None]
    return [code[a:b] for a, b in zip(places, [*places[1:], len(code)], strict=True)]


def _mix(opcodes: list[bytes], rng: np.random.Generator) -> bytes:
    for _ in range(int(rng.integers(1, 5))):
        at, other = (int(n) for n in rng.integers(len(opcodes), size=2))
        match int(rng.integers(5)):
            case 0:
                opcodes.insert(at, opcodes[other])
            case 1:
                opcodes[at], opcodes[other] = opcodes[other], opcodes[at]
            case 2:
                opcodes[at] = bytes([int(rng.integers(256))])
            case 3:
                opcodes.insert(at, _PARTS[rng.integers(len(_PARTS))])
            case _:
                if len(opcodes) > 1:
                    del opcodes[at]
    return b"".join(opcodes)


def _renumber(code: bytes, rng: np.random.Generator) -> bytes:
    """Puts another number into a place where there is one."""
    opcodes = _opcodes(code)
    numbered = [
        n for n, one in enumerate(opcodes) if one[:1] in b"KMJqrhjXCTUB\x8a\x8b\x8c\x8d\x8e"
    ]
    if not numbered:
        return code + b"."
    at = numbered[rng.integers(len(numbered))]
    number = INTERESTING[rng.integers(len(INTERESTING))]
    one = opcodes[at]
    width = min(8, len(one) - 1) if one[:1] not in b"XBTrjJ\x8b" else 4
    opcodes[at] = one[:1] + struct.pack("<Q", number)[:width] + one[1 + width :]
    return b"".join(opcodes)


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def array_of(items: bytes, memo: bytes = b"", shape: bytes = b"K\x01\x85") -> bytes:
    """Returns a pickled object array.

    Args:
        items: opcodes that leave a list of its elements.
        memo: opcodes that follow on the empty array, such as to remember it.
        shape: opcodes that leave its shape; one element without.
    """
    state = b"(K\x01" + shape + _DTYPE_O + b"\x89" + items + b"tb"
    return b"\x80\x03" + _RECONSTRUCT + memo + state + b"."


def _entry(value: bytes) -> bytes:
    return array_of(b"](" + value + b"e")


def _under_key(key: bytes) -> bytes:
    return _entry(b"}" + key + b"Ns")


def _doubled(open_first: bytes, close: bytes, times: int) -> bytes:
    """Returns a value that holds the one before twice, so that walking it takes 2**times steps."""
    code = open_first + b"r" + struct.pack("<I", 16)
    for n in range(times):
        get = b"j" + struct.pack("<I", 16 + n)
        code += b"0(" + get + get + close + b"r" + struct.pack("<I", 17 + n)
    return code


def _times(rng: np.random.Generator) -> int:
    return int(rng.integers(4, 64))


def _depth(rng: np.random.Generator) -> int:
    return int(10 ** rng.uniform(1, 5.7))


def _call(module: str, name: str, argument: str) -> list[bytes]:
    """Returns all the ways in which a pickle calls something."""
    named = f"c{module}\n{name}\n".encode()
    stacked = _text(module) + _text(name) + b"\x93"
    return [
        named + _text(argument) + b"\x85R",
        stacked + _text(argument) + b"\x85R",
        b"(" + _text(argument) + f"i{module}\n{name}\n".encode(),
        b"(" + named + _text(argument) + b"o",
        named + _text(argument) + b"\x85\x81",
        named + _text(argument) + b"\x85}\x92",
        named + b")R" + _text(argument) + b"b",
    ]


def _run_code(rng: np.random.Generator) -> bytes:
    code = f"open({CANARY!r}, 'w').close()"
    calls = (
        *_call("os", "system", f"touch {CANARY}"),
        *_call("posix", "system", f"touch {CANARY}"),
        *_call("builtins", "eval", code),
        *_call("builtins", "exec", code),
        *_call("__builtin__", "eval", code),
        *_call("subprocess", "getoutput", f"touch {CANARY}"),
        *_call("builtins", "__import__", "antigravity"),
        *_call("importlib", "import_module", "antigravity"),
        *_call("numpy", "load", CANARY),
        *_call("numpy", "memmap", CANARY),
        *_call("numpy.testing._private.utils", "runstring", code),
        *_call("numpy.core.multiarray", "fromfile", "/dev/zero"),
        *_call("numpy", "ndarray", "7"),
        *_call("builtins", "set.__class__", "7"),
        *_call("collections", "OrderedDict.__init__.__globals__", "7"),
        *_call("builtins", "bytes", "7"),
        *_call("builtins", "getattr", "x"),
        *_call("ctypes", "string_at", "7"),
        *_call("_codecs", "encode", "rot13"),
        *_call("pickle", "loads", "cos\nsystem\n."),
    )
    return _entry(calls[rng.integers(len(calls))])


def _collide(rng: np.random.Generator) -> bytes:
    count = int(10 ** rng.uniform(2, 4.9))
    keys = b"".join(
        b"\x8a" + bytes([len(n)]) + n + b"N"
        for n in (_long(k * _MASK61) for k in range(1, count + 1))
    )
    return _entry(b"}(" + keys + b"u")


def _long(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def _box(**changes: bytes) -> bytes:
    bounds = {"z_min": b"K\x00", "z_max": b"K\x04", "z_mid": b"K\x02", "z_mid_y_min": b"K\x03"}
    bounds |= {"z_mid_y_max": b"K\x09", "z_mid_x_min": b"K\x02", "z_mid_x_max": b"K\x08"}
    return b"}(" + b"".join(_text(k) + v for k, v in (bounds | changes).items()) + b"u"


def _forge_dtype(rng: np.random.Generator) -> bytes:
    states = (
        b"(K\x03X\x01\x00\x00\x00|N(X\x01\x00\x00\x00at}NJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb",
        b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\x7fJ\xff\xff\xff\x7fK?tb",
        b"(K\x04X\x01\x00\x00\x00|(cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87RK\x05tNNK\x28K\x08K?tb",
        b"}b",
        b"Nb",
        b")b",
    )
    codes = (b"O8", b"f8", b"u1", b"V99", b"U9999999", b"f16", b"M8", b"i8,O", b"", b"\xed\xa0\x80")
    code = codes[rng.integers(len(codes))]
    dtype = b"cnumpy\ndtype\nX" + struct.pack("<I", len(code)) + code + b"\x89\x88\x87R"
    dtype += states[rng.integers(len(states))]
    data = (b"](K\x01K\x02e", b"C\x08" + bytes(8), b"N", b"]", b"C\x00", b"}")[rng.integers(6)]
    shape = (b"K\x01\x85", b")", b"J\xff\xff\xff\xff\x85", b"N", b"J\xff\xff\xff\x7f\x85")
    where = b"(K\x01" + shape[rng.integers(len(shape))] + dtype + b"\x89" + data + b"tb"
    return b"\x80\x03" + _RECONSTRUCT + where + b"."


def _set_twice(rng: np.random.Generator) -> bytes:
    del rng
    state = b"(K\x01K\x01\x85" + _DTYPE_O + b"\x89](" + _box() + b"etb"
    return b"\x80\x03" + _RECONSTRUCT + state + state + b"."


_PARTS = (
    *(
        b"(",
        b"0",
        b"1",
        b"2",
        b".",
        b"N",
        b")",
        b"]",
        b"}",
        b"\x8f",
        b"\x85",
        b"\x86",
        b"\x87",
        b"R",
    ),
    *(
        b"b",
        b"a",
        b"s",
        b"e",
        b"u",
        b"\x90",
        b"\x91",
        b"\x94",
        b"Q",
        b"\x81",
        b"\x92",
        b"\x93",
        b"t",
    ),
    *(b"l", b"d", b"o", b"h\x00", b"q\x00", b"r\xff\xff\xff\x7f", b"\x97", b"\x98", b"\x82\x01"),
    *(b"P7\n", b"\x95" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8, b"Inan\n"),
    *(
        b"L1L\n",
        b"Fnan\n",
        b"G\x7f\xf8" + bytes(6),
        b"S'\\xff'\n",
        b"Vx\\ud800\n",
        b"cos\nsystem\n",
    ),
)

HARMFUL: dict[str, Build] = {
    "runs code": _run_code,
    "holds itself": lambda rng: array_of(
        b"](h\x05e", b"q\x05", (b")", b"K\x01\x85")[rng.integers(2)]
    ),
    "list in itself": lambda rng: _entry(b"]q\x05h\x05a"),
    "dict in itself": lambda rng: _entry(b"}q\x05X\x02\x00\x00\x00fgh\x05s"),
    "box in itself": lambda rng: _entry(b"}q\x05" + _text("z_min") + b"h\x05s"),
    "tuple in itself": lambda rng: _entry(b"]q\x05h\x05\x85q\x06ah\x06"),
    "array of itself as key": lambda rng: array_of(b"](}h\x05Nse", b"q\x05"),
    "doubled tuple as key": lambda rng: _under_key(_doubled(b"K\x01K\x01\x86", b"t", _times(rng))),
    "doubled tuple in a set": lambda rng: _entry(
        b"\x8f(" + _doubled(b"K\x01K\x01\x86", b"t", _times(rng)) + b"\x90"
    ),
    "doubled tuple": lambda rng: _entry(_doubled(b"K\x01K\x01\x86", b"t", _times(rng))),
    "doubled list": lambda rng: _entry(_doubled(b"]", b"l", _times(rng))),
    "doubled list as clicks": lambda rng: _entry(
        b"}" + _text("fg") + _doubled(b"]", b"l", _times(rng)) + b"s"
    ),
    "doubled frozensets": lambda rng: _entry(_doubled(b"K\x01K\x01\x86", b"\x91", _times(rng))),
    "deep tuple as key": lambda rng: _under_key(b"N" + b"\x85" * _depth(rng)),
    "deep tuple": lambda rng: _entry(b"N" + b"\x85" * _depth(rng)),
    "deep list": lambda rng: _entry(b"]" * (depth := _depth(rng)) + b"a" * (depth - 1)),
    "deep dict": lambda rng: _entry(b"}K\x01" * (depth := _depth(rng)) + b"N" + b"s" * depth),
    "deep list as clicks": lambda rng: _entry(
        b"}" + _text("fg") + b"]" * (depth := _depth(rng)) + b"a" * (depth - 1) + b"s"
    ),
    "many marks": lambda rng: b"\x80\x03" + b"(" * (10 * _depth(rng)) + b".",
    "many opcodes": lambda rng: b"\x80\x03" + b"N0" * (20 * _depth(rng)) + b"N.",
    "many memos": lambda rng: b"\x80\x04N" + b"\x94" * (10 * _depth(rng)) + b".",
    "many frames": lambda rng: b"\x80\x04" + (b"\x95" + bytes(8)) * _depth(rng) + b"N.",
    "many lists": lambda rng: _entry(b"](" + b"]" * _depth(rng) + b"e"),
    "many doubled texts": lambda rng: _entry(
        b"](" + _text("x" * 10_000) + b"q\x05" + b"h\x05" * _depth(rng) + b"e"
    ),
    "colliding keys": _collide,
    "huge memo": lambda rng: b"\x80\x03Nr" + struct.pack("<I", int(rng.integers(2**32))) + b".",
    "huge text": lambda rng: (
        b"\x80\x04\x8d" + struct.pack("<Q", 2 ** int(rng.integers(20, 63))) + b"x"
    ),
    "huge bytes": lambda rng: b"\x80\x04\x8e" + struct.pack("<Q", 2 ** int(rng.integers(20, 63))),
    "huge bytearray": lambda rng: (
        b"\x80\x05\x96" + struct.pack("<Q", 2 ** int(rng.integers(20, 63)))
    ),
    "huge number": lambda rng: _entry(
        _box(z_min=b"\x8b" + struct.pack("<i", (size := _depth(rng))) + b"\x7f" * size)
    ),
    "digits": lambda rng: _entry(_box(z_min=b"I" + b"9" * _depth(rng) + b"\n")),
    "more digits": lambda rng: _entry(_box(z_min=b"L" + b"9" * _depth(rng) + b"L\n")),
    "float text": lambda rng: _entry(_box(z_min=b"F" + b"9" * _depth(rng) + b"\n")),
    "true text": lambda rng: _entry(_box(z_min=b"I01\n")),
    "lone surrogate": lambda rng: _entry(_text("\ud800")),
    "lone surrogate as key": lambda rng: _under_key(_text("\x1b[2J\ud800\n")),
    "control characters": lambda rng: _entry(_box(z_min=_text("\x1b]0;x\x07\r\n\x9b31m\u202e"))),
    "key of another type": lambda rng: _under_key(
        (b"N", b"\x88", b"G" + bytes(8), b")")[rng.integers(4)]
    ),
    "no hash": lambda rng: _under_key(
        (b"]", b"}", b"\x8f", b"\x80\x05\x96" + bytes(8))[rng.integers(4)]
    ),
    "forged dtype": _forge_dtype,
    "array set twice": _set_twice,
    "shape of nothing": lambda rng: array_of(b"]", shape=b"J\xff\xff\xff\x7fK\x00\x86"),
    "no array": lambda rng: (
        b"\x80\x03" + (b"N", b"]", b"}", _box(), b"K\x01")[rng.integers(5)] + b"."
    ),
    "extension": lambda rng: _entry(
        (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00")[rng.integers(3)]
    ),
    "persistent": lambda rng: _entry((b"P7\n", b"K\x07Q")[rng.integers(2)]),
    "buffer": lambda rng: _entry((b"\x97", b"\x97\x98", b"N\x98")[rng.integers(3)]),
    "unknown protocol": lambda rng: b"\x80" + bytes([int(rng.integers(6, 256))]) + b"N.",
    "nothing": lambda rng: (b"", b".", b"\x80", b"\x80\x03", b"\x80\x03.", b"0.", b"(.")[
        rng.integers(7)
    ],
    "after the end": lambda rng: _entry(_box()) + rng.bytes(int(rng.integers(1, 1000))),
}
"""What does harm, by its kind: returns the pickle."""

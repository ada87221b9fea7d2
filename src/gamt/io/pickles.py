"""Pickled arrays, read without unpickling: no file can run code, or cost more than it may.

numpy stores a list of dicts as an object array, that is: as a pickle, a program for a small machine
that may call whatever it can name. Here the program is read by a machine of our own, which builds
plain values alone. It knows the opcodes that honest files have and the few names that numpy writes,
and takes none of numpy's own functions for them: those trust their input.

What is built is a tree. A value that is used a second time is complete, and counts again with
all that is in it. So nothing holds itself, and walking a value, or printing it, takes no longer
than `MOST_STEPS` allows, however it was written.
"""

import math
import pickle
import pickletools
import re
import reprlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

MOST_STEPS = 6_000_000
"""What a pickle may cost: its opcodes, those that take long several times, and values that come
again where one is used twice.

The evaluator's way to store 100,000 clicks takes 4.7 million; plain numbers take a third of that.
"""

MOST_DEPTH = 100
"""Values within values."""

_NO_CHARACTERS = "text of characters that don't exist"
_TOO_LONG = f"takes more than {MOST_STEPS:,} steps"

_MOST_AXES = 32
_LONGEST_AXIS = 2**62  # the product of as many as there may be is found at once
_MOST_INTEGER_BYTES = 255
_MOST_LINE_BYTES = 700
"""Of a number or a name written as text; those of integers of 255 bytes have 615 digits."""

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}|O8?")

_LEVEL_STEPS = 8
"""What looking through values of a level takes, beside each of them."""

_TEXTS = frozenset({str, bytes, np.str_, np.bytes_})
_NUMBERS = frozenset(
    {bool, int, float, np.bool_, np.float16, np.float32, np.float64}
    | {np.dtype(f"{sign}{size}").type for sign in "iu" for size in (1, 2, 4, 8)}
)
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset, np.ndarray})
_PLAIN = _TEXTS | _NUMBERS | _CONTAINERS | {type(None)}


_BININT1, _SHORT_BINBYTES, _SHORT_BINUNICODE, _EMPTY_LIST, _MARK, _TUPLE2 = chain(
    *(pickle.BININT1, pickle.SHORT_BINBYTES, pickle.SHORT_BINUNICODE),
    *(pickle.EMPTY_LIST, pickle.MARK, pickle.TUPLE2),
)
_MEMOIZE, _LONG_BINPUT, _BINGET, _STOP = chain(
    pickle.MEMOIZE, pickle.LONG_BINPUT, pickle.BINGET, pickle.STOP
)

_OPCODE_NAMES = {one.code: one.name for one in pickletools.opcodes}

_Kind = TypeVar("_Kind", list[Any], dict[Any, Any], set[Any])


class NpyError(ValueError):
    """An array that can't be read.

    Attributes:
        found: what the file holds, in words. It quotes names at most.
        expected: what it should hold.
    """

    def __init__(self, found: str, expected: str = "a complete array of plain values") -> None:
        super().__init__(found, expected)
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"found {self.found}, expected {self.expected}"


def load_plain(data: bytes) -> Any:
    """Reads a pickle of plain values, written by numpy 1 or 2 in any protocol.

    These are numbers, strings, bytes, None, lists, tuples, dicts, sets, and numpy's arrays and
    scalars of these, in any nesting. Keys of dicts and members of sets are strings or numbers.

    Raises:
        NpyError: the pickle is broken, asks for anything else, or for more than it may.
    """
    try:
        return _Machine(data).run()
    except _RefusalError as refusal:
        raise NpyError(f"a pickle that {refusal}") from None
    except NpyError:
        raise
    except UnicodeError as error:
        raise NpyError(_NO_CHARACTERS) from error
    except IndexError:  # past the last byte, or the lowest value
        raise NpyError("a pickle that ends too early") from None
    except Exception as error:  # values of wrong types fail in ways of their own
        raise NpyError(f"a pickle that is broken ({type(error).__name__})") from error


def count_lists(shape: Iterable[int]) -> int:
    """Returns how many lists and elements an array is, written as nested lists."""
    count, lists = 1, 0
    for size in shape:
        count *= size
        lists += count
    return lists


def check_elements(array: npt.NDArray[Any]) -> None:
    """Looks for text that Python has no characters for.

    Raises:
        NpyError: there is some.
    """
    if array.dtype.kind == "U" and array.nbytes:
        codes = np.ascontiguousarray(array).reshape(-1).view(array.dtype.byteorder + "u4")
        if codes.max() > 0x10FFFF:
            raise NpyError(_NO_CHARACTERS)


class _RefusalError(Exception):
    """What is wrong with a pickle, to follow "a pickle that"."""


class _Dtype:
    """Stands for `numpy.dtype`: one plain type, of which a pickle sets the byte order alone."""

    __slots__ = ("real",)

    def __init__(self, code: str) -> None:
        self.real: np.dtype[Any] = np.dtype(code)

    def set_state(self, state: Sequence[Any]) -> None:
        _version, order, *structure = state[:5]
        if order not in ("<", ">", "|", "=") or structure != [None] * 3:
            raise _RefusalError("asks for a structured array")
        self.real = self.real.newbyteorder(order)


class _Unfilled:
    """An array whose shape and content are still to come.

    Attributes:
        places: numbers under which the pickle remembers it.
    """

    __slots__ = ("places",)

    def __init__(self) -> None:
        self.places: list[int] = []


_COUNTED = _TEXTS | _CONTAINERS | {_Unfilled}
"""What counts again, or must not be used, where it is used twice."""


class _Function:
    """What a pickle gets for a name: it can be called, and is no value."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class _Machine:
    """Carries out one pickle; `pickletools` says what its opcodes mean."""

    __slots__ = ("_at", "_data", "_left", "_marks", "_memo", "_shared", "_stack")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._left = MOST_STEPS
        self._stack: list[Any] = []
        # How high the stack was at each mark.
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        # Identities of values that were used twice, and can't change any more.
        self._shared: set[int] = set()

    def run(self) -> Any:
        data, stack, memo, at = self._data, self._stack, self._memo, 0
        while self._left > 0:
            self._left -= 1
            code = data[at]
            at += 1
            # Nine in ten opcodes of clicks are among these; a call for each would double the time.
            if code == _BINGET:
                value = memo[data[at]]
                at += 1
                if type(value) in _COUNTED:
                    self.share(value)
                stack.append(value)
            elif code == _MEMOIZE:
                memo[len(memo)] = value = stack[-1]
                if type(value) is _Unfilled:
                    value.places.append(len(memo) - 1)
            elif code == _LONG_BINPUT:
                self._at = at
                self.put(self.unsigned(4))
                at += 4
            elif code == _BININT1:
                stack.append(data[at])
                at += 1
            elif code == _SHORT_BINBYTES:
                start = at + 1
                at = start + data[at]
                stack.append(data[start:at])
            elif code == _SHORT_BINUNICODE:
                start = at + 1
                at = start + data[at]
                stack.append(data[start:at].decode("utf-8", "surrogatepass"))
            elif code == _EMPTY_LIST:
                stack.append([])
            elif code == _MARK:
                self._marks.append(len(stack))
            elif code == _TUPLE2:
                value = stack.pop()
                stack[-1] = (stack[-1], value)
            elif code == _STOP:
                self._at = at
                return self._result()
            else:
                self._at = at
                _STEPS[code](self)
                at = self._at
        raise _RefusalError(_TOO_LONG)

    def _result(self) -> Any:
        (value,) = self._stack
        if self._marks or self._at != len(self._data):
            raise _RefusalError("goes on after its end")
        self.spend(_measure(value))
        return value

    def spend(self, steps: int) -> None:
        """Counts what a value costs beside its opcode."""
        self._left -= steps
        if self._left < 0:
            raise _RefusalError(_TOO_LONG)

    # Arguments

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise _RefusalError("ends too early")
        self._at += count
        return taken

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def signed(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little", signed=True)

    def counted(self, width: int) -> bytes:
        return self.take(self.unsigned(width))

    def line(self, most: int = _MOST_LINE_BYTES) -> bytes:
        end = self._data.find(b"\n", self._at, self._at + most + 1)
        if end < 0:
            raise _RefusalError("has a line that doesn't end")
        line = self._data[self._at : end]
        self._at = end + 1
        return line

    # Simple values

    def push(self, value: object) -> None:
        self._stack.append(value)

    def push_text(self, width: int) -> None:
        self._stack.append(self.counted(width).decode("utf-8", "surrogatepass"))

    def push_integer(self, width: int) -> None:
        size = self.unsigned(width)
        if size > _MOST_INTEGER_BYTES:
            raise _RefusalError(f"holds an integer of {size} bytes")
        self._stack.append(self.signed(size))

    def push_integer_line(self) -> None:
        line = self.line()
        truth = {b"00": False, b"01": True}.get(line)
        self._stack.append(int(line.removesuffix(b"L")) if truth is None else truth)

    def push_set(self) -> None:
        self.spend(3)  # takes as much memory as four other values
        self._stack.append(set())

    # Marks, and what is remembered

    def pop_mark(self) -> list[Any]:
        stack, start = self._stack, self._marks.pop()
        if start > len(stack):
            raise _RefusalError("is broken")
        items = stack[start:]
        del stack[start:]
        return items

    def put(self, number: int) -> None:
        if not 0 <= number <= len(self._data):
            raise _RefusalError("numbers more values than it holds")
        self._memo[number] = value = self._stack[-1]
        if type(value) is _Unfilled:
            value.places.append(number)

    def get(self, number: int) -> None:
        value = self._memo[number]
        if type(value) in _COUNTED:
            self.share(value)
        self._stack.append(value)

    def share(self, value: Any) -> None:
        """Counts a value that is used again, and keeps it as it is."""
        if type(value) is _Unfilled:
            raise _RefusalError("holds a value that holds itself")
        if type(value) in _TEXTS:
            self.spend(len(value) >> 4)
        else:
            self.spend(_measure(value))
            self._shared.add(id(value))

    # Containers

    def triple(self) -> None:
        third, second = self._stack.pop(), self._stack.pop()
        self._stack[-1] = (self._stack[-1], second, third)

    def extend_list(self, items: list[Any]) -> None:
        self._target(list).extend(items)

    def extend_dict(self, items: list[Any]) -> None:
        target = self._target(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._check_key(key, target)
            target[key] = value

    def extend_set(self, items: Iterable[Any]) -> None:
        target = self._target(set)
        for key in items:
            self._check_key(key, target)
            target.add(key)

    def _target(self, kind: type[_Kind]) -> _Kind:
        """Returns the container at the top, to be filled."""
        target = self._stack[-1]
        if type(target) is not kind:
            raise _RefusalError("is broken")
        if id(target) in self._shared:
            raise _RefusalError("holds a value that holds itself, or changes after its use")
        return target

    def _check_key(self, key: object, others: Mapping[Any, Any] | set[Any]) -> None:
        kind = type(key)
        if kind in _NUMBERS:
            # Numbers can be chosen so that each is compared with all of the others, and comparing
            # one of numpy's with a large one of Python's takes as long as four opcodes or more.
            self.spend(4 * len(others))
        elif kind is not str and kind is not np.str_:
            raise _RefusalError("has a key that is neither text nor a number")

    def push_dict(self, items: list[Any]) -> None:
        self._stack.append({})
        self.extend_dict(items)

    def push_frozen_set(self, items: Iterable[Any]) -> None:
        self.push_set()
        self.extend_set(items)
        self._stack[-1] = frozenset(self._stack[-1])

    # Names and calls

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise _RefusalError("is broken")
        self.spend(3)  # takes as long as four other opcodes
        try:
            self._stack.append(_NAMES[module, name])
        except KeyError:
            raise _RefusalError(f"asks for {reprlib.repr(f'{module}.{name}')}") from None

    def name_line(self) -> None:
        self.name(self.line().decode(), self.line().decode())

    def name_from_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self.name(module, name)

    def call(self) -> None:
        self.spend(3)
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(function) is not _Function or type(arguments) is not tuple:
            raise _RefusalError("calls what is no function")
        self._stack.append(function.call(self, *arguments))

    def build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is _Dtype:
            target.set_state(state)
        elif type(target) is _Unfilled:
            self._stack[-1] = array = self._array(state)
            for number in target.places:
                self._memo[number] = array
        else:
            raise _RefusalError("changes something else than an array")

    def _array(self, state: Any) -> npt.NDArray[Any]:
        _version, shape, dtype, is_fortran, data = state
        real = _real(dtype)
        kind, size = (list, 1) if real.hasobject else (bytes, real.itemsize)
        _check_shape(shape)
        if type(data) is not kind or len(data) != math.prod(shape) * size:
            raise _RefusalError("holds an array whose data do not fit its shape")
        if kind is list:
            # Before it is made: freeing arrays within arrays takes all of the system's stack.
            self.spend(_measure(data))
        array = np.empty(0, np.bool_)
        array.__setstate__((1, shape, real, bool(is_fortran), data))  # type: ignore[arg-type]
        check_elements(array)
        return array

    # What names stand for

    def new_dtype(self, code: object, *_flags: object) -> _Dtype:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _RefusalError(f"asks for the array type {reprlib.repr(code)}")
        return _Dtype(code)

    def new_array(self, *_arguments: object) -> _Unfilled:
        return _Unfilled()

    def new_scalar(self, dtype: object, data: object) -> Any:
        real = _real(dtype)
        if type(data) is not bytes or real.hasobject or len(data) != real.itemsize:
            raise _RefusalError("holds a number whose data do not fit its type")
        if real.kind == "U":
            codec = "utf-32-be" if real.str[0] == ">" else "utf-32-le"
            return np.str_(data.decode(codec, "surrogatepass").rstrip("\0"))
        array: npt.NDArray[Any] = np.ndarray((), real, data)
        return array[()]

    def array_from_bytes(
        self, data: object, dtype: object, shape: Any, order: Any, axes: Any = None
    ) -> npt.NDArray[Any]:
        real = _real(dtype)
        if type(data) is not bytes or real.hasobject or not real.itemsize:
            raise _RefusalError("holds an array without its data")
        _check_shape(shape)
        flat = np.frombuffer(data, dtype=real)
        check_elements(flat)
        # numpy's order K: stored as a C array whose axes are then put in another sequence.
        if order == "K":
            return flat.reshape(shape).transpose(axes)
        return flat.reshape(shape, order=order)

    def encode(self, text: str, encoding: str) -> bytes:
        # Protocols 0 to 2 have no bytes: they write text and this call.
        if encoding != "latin1":
            raise _RefusalError(f"asks for the encoding {reprlib.repr(encoding)}")
        return text.encode("latin1")

    def set_from_list(self, items: object = ()) -> set[Any]:
        if not isinstance(items, list | tuple):
            raise _RefusalError("is broken")
        self.push_set()
        self.extend_set(items)
        found: set[Any] = self._stack.pop()
        return found

    def frozen_set_from_list(self, items: object = ()) -> frozenset[Any]:
        return frozenset(self.set_from_list(items))

    def empty_bytes(self) -> bytes:
        return b""

    def empty_dict(self) -> dict[Any, Any]:
        return {}

    def refuse(self, *_arguments: object) -> NoReturn:
        code = self._data[self._at - 1]
        raise _RefusalError(f"uses {_OPCODE_NAMES.get(chr(code), f'the unknown opcode {code}')}")

    def refuse_array(self, *_arguments: object) -> NoReturn:
        raise _RefusalError("calls numpy.ndarray")

    def protocol(self) -> None:
        if (number := self.unsigned(1)) > 5:
            raise _RefusalError(f"is of protocol {number}")

    def frame(self) -> None:
        if self.unsigned(8) > len(self._data) - self._at:
            raise _RefusalError("ends too early")


def _check_shape(shape: object) -> None:
    if type(shape) is not tuple or len(shape) > _MOST_AXES:
        raise _RefusalError("holds an array without a shape")
    if not all(type(one) is int and 0 <= one <= _LONGEST_AXIS for one in shape):
        raise _RefusalError("holds an array without a shape")


def _real(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise _RefusalError("holds an array without a type")
    return dtype.real


def _measure(value: object) -> int:
    """Returns what a value costs: how many there are in it, sixteenths of their bytes, and depth.

    Raises:
        _RefusalError: there is anything else than plain values, or they lie too deep.
    """
    count, level = 0, [value]
    for _ in range(MOST_DEPTH):
        kinds = set(map(type, level))
        if not kinds <= _PLAIN:
            raise _RefusalError("holds something else than plain values")
        count += _LEVEL_STEPS + len(level)
        if kinds & _TEXTS:
            count += sum(len(one) >> 4 for one in level if isinstance(one, str | bytes))
        if not kinds & _CONTAINERS:
            return count
        inner: list[object] = []
        for one in level:
            if isinstance(one, np.ndarray):
                count += count_lists(one.shape) + (one.nbytes >> 4)
                if one.dtype.hasobject:
                    inner.extend(one.flat)
            elif isinstance(one, dict):
                inner.extend(chain(one, one.values()))
            elif type(one) in _CONTAINERS:
                inner.extend(one)  # type: ignore[arg-type]
        level = inner
    raise _RefusalError(f"holds more than {MOST_DEPTH} values within each other")


# (module, name) as the pickle spells it: numpy 1 and 2, Python 3 and protocols up to 2.
_NAMES: Mapping[tuple[str, str], _Function] = {
    ("collections", "OrderedDict"): _Function(_Machine.empty_dict),
    ("_codecs", "encode"): _Function(_Machine.encode),
    ("numpy", "ndarray"): _Function(_Machine.refuse_array),  # only an argument of _reconstruct
    ("numpy", "dtype"): _Function(_Machine.new_dtype),
    **{
        (module, name): _Function(call)
        for module in ("builtins", "__builtin__")
        for name, call in (
            ("set", _Machine.set_from_list),
            ("frozenset", _Machine.frozen_set_from_list),
            ("bytes", _Machine.empty_bytes),
        )
    },
    **{
        (f"numpy.{core}.{module}", name): _Function(call)
        for core in ("core", "_core")
        for module, name, call in (
            ("multiarray", "_reconstruct", _Machine.new_array),
            ("multiarray", "scalar", _Machine.new_scalar),
            ("numeric", "_frombuffer", _Machine.array_from_bytes),
        )
    },
}


_OPCODES: Mapping[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: _Machine.protocol,
    pickle.FRAME: _Machine.frame,
    # Simple values
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT2: lambda m: m.push(m.unsigned(2)),
    pickle.BININT: lambda m: m.push(m.signed(4)),
    pickle.LONG1: lambda m: m.push_integer(1),
    pickle.LONG4: lambda m: m.push_integer(4),
    pickle.INT: _Machine.push_integer_line,
    pickle.LONG: _Machine.push_integer_line,
    pickle.BINFLOAT: lambda m: m.push(*struct.unpack(">d", m.take(8))),
    pickle.FLOAT: lambda m: m.push(float(m.line())),
    pickle.BINUNICODE: lambda m: m.push_text(4),
    pickle.BINUNICODE8: lambda m: m.push_text(8),
    pickle.UNICODE: lambda m: m.push(m.line(len(m._data)).decode("raw-unicode-escape")),
    pickle.BINBYTES: lambda m: m.push(m.counted(4)),
    pickle.BINBYTES8: lambda m: m.push(m.counted(8)),
    pickle.BYTEARRAY8: lambda m: m.push(m.counted(8)),
    # Python 2's strings
    pickle.SHORT_BINSTRING: lambda m: m.push(m.counted(1).decode("ascii")),
    pickle.BINSTRING: lambda m: m.push(m.counted(4).decode("ascii")),
    # Containers
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.EMPTY_SET: _Machine.push_set,
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE1: lambda m: m.push((m._stack.pop(),)),
    pickle.TUPLE3: _Machine.triple,
    pickle.TUPLE: lambda m: m.push(tuple(m.pop_mark())),
    pickle.LIST: lambda m: m.push(m.pop_mark()),
    pickle.DICT: lambda m: m.push_dict(m.pop_mark()),
    pickle.FROZENSET: lambda m: m.push_frozen_set(m.pop_mark()),
    pickle.APPEND: lambda m: m.extend_list([m._stack.pop()]),
    pickle.APPENDS: lambda m: m.extend_list(m.pop_mark()),
    pickle.SETITEM: lambda m: m.extend_dict([m._stack.pop(), m._stack.pop()][::-1]),
    pickle.SETITEMS: lambda m: m.extend_dict(m.pop_mark()),
    pickle.ADDITEMS: lambda m: m.extend_set(m.pop_mark()),
    # What is remembered
    pickle.BINPUT: lambda m: m.put(m.unsigned(1)),
    pickle.PUT: lambda m: m.put(int(m.line())),
    pickle.LONG_BINGET: lambda m: m.get(m.unsigned(4)),
    pickle.GET: lambda m: m.get(int(m.line())),
    # Names and calls
    pickle.GLOBAL: _Machine.name_line,
    pickle.STACK_GLOBAL: _Machine.name_from_stack,
    pickle.REDUCE: _Machine.call,
    pickle.BUILD: _Machine.build,
}

_STEPS = [_OPCODES.get(bytes([code]), _Machine.refuse) for code in range(256)]

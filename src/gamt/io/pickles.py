"""Arrays from untrusted npy streams, lists and dicts included: no file can run code.

numpy stores a list of dicts as an object array, that is: as a pickle, and a pickle may call
whatever it can name. Here it can name only what builds plain values (`_ADMITTED`). Those names
lead to stand-ins of our own, because numpy's functions trust their input: a forged
``dtype.__setstate__`` or a list shorter than its array's shape reads memory that isn't theirs.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|O8?")
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_array(file: IO[bytes]) -> npt.NDArray[Any]:
    """Reads one array from a seekable npy stream that needs no trust.

    Elements of an object array are numbers, strings, bytes, None, lists, tuples, dicts, sets and
    numpy arrays and scalars of these, in any nesting.

    Raises:
        pickle.UnpicklingError: the stream holds a pickle that is broken or wants something else.
        ValueError, EOFError: the stream isn't a complete npy array.
    """
    # Version 3.0 differs by non-latin field names, which an array of plain objects has none of.
    read_header = _HEADER_READERS.get(npy.read_magic(file))
    if read_header is not None and read_header(file)[2] == np.dtype(object):
        array = load_plain(file.read())
        if not isinstance(array, np.ndarray):
            raise pickle.UnpicklingError(f"holds a {type(array).__name__} and no array")
        return array.view(np.ndarray)
    file.seek(0)
    array = npy.read_array(file, allow_pickle=False)
    assert isinstance(array, np.ndarray)
    return array


def load_plain(data: bytes) -> Any:
    """Unpickles plain values (see `read_array`), written by numpy 1 or 2 in any protocol.

    Raises:
        pickle.UnpicklingError: the pickle is broken, or names anything else.
    """
    try:
        for opcode, argument, _position in pickletools.genops(data):
            # Python makes room for as many remembered values as the highest number says.
            if "PUT" in opcode.name and argument is not None and argument > len(data):
                raise pickle.UnpicklingError("numbers more values than it holds")
        return _PlainUnpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a broken pickle may fail in any way: pickle's documentation
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error


class _Dtype:
    """Stands for `numpy.dtype`: one plain type, of which a pickle sets the byte order alone."""

    __slots__ = ("real",)

    def __init__(self, code: object, *_flags: object) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"asks for the array type {code!r:.40}")
        self.real: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _version, order, *structure = state[:5]
        if order not in ("<", ">", "|", "=") or structure != [None] * 3:
            raise pickle.UnpicklingError("asks for a structured array")
        self.real = self.real.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    """An array as `_reconstruct` makes it, empty, for `__setstate__` to fill once."""

    # Filled again, numpy would free memory that the pickle may still hold a view of.
    _filled = False

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        real = _real(dtype)
        kind, size = (list, 1) if real.hasobject else (bytes, real.itemsize)
        if self._filled or not isinstance(data, kind) or len(data) != math.prod(shape) * size:
            raise pickle.UnpicklingError("holds an array whose data do not fit its shape")
        self._filled = True
        super().__setstate__((1, shape, real, bool(fortran), data))  # type: ignore[arg-type]


def _reconstruct(*_arguments: object) -> _Array:
    return _Array((0,), dtype=np.bool_)


def _frombuffer(
    data: object, dtype: object, shape: Any, order: Any, axes: Any = None
) -> npt.NDArray[Any]:
    real = _real(dtype)
    if not isinstance(data, bytes | bytearray) or real.hasobject:
        raise pickle.UnpicklingError("holds an array without its data")
    flat = np.frombuffer(bytes(data), dtype=real)
    # numpy's order K: stored as a C array whose axes are then put in another sequence.
    if order == "K":
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order=order)


def _scalar(dtype: object, data: object) -> Any:
    real = _real(dtype)
    if not isinstance(data, bytes) or real.hasobject or len(data) != real.itemsize:
        raise pickle.UnpicklingError("holds a number whose data do not fit its type")
    return np.frombuffer(data, dtype=real)[0]


def _real(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("holds an array without a type")
    return dtype.real


def _encode(text: str, encoding: str) -> bytes:
    # Protocols 0 to 2 have no bytes: they write text and this call.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"asks for the encoding {encoding!r:.40}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


def _not_callable(*_arguments: object) -> None:
    raise pickle.UnpicklingError("calls numpy.ndarray")


class _Global:
    """What a pickle gets for an admitted name: it can be called, and not be changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("changes a function")


# (module, name) as the pickle spells it: numpy 1 and 2, Python 3 and protocols up to 2.
_ADMITTED: Mapping[tuple[str, str], _Global] = {
    ("collections", "OrderedDict"): _Global(dict),
    ("_codecs", "encode"): _Global(_encode),
    ("numpy", "ndarray"): _Global(_not_callable),  # only ever an argument of _reconstruct
    ("numpy", "dtype"): _Global(_Dtype),
    **{
        (module, name): _Global(call)
        for module in ("builtins", "__builtin__")
        for name, call in (("set", set), ("frozenset", frozenset), ("bytes", _empty_bytes))
    },
    **{
        (f"numpy.{core}.{module}", name): _Global(call)
        for core in ("core", "_core")
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            name = f"{module_name}.{global_name}"
            raise pickle.UnpicklingError(f"asks for {name!r:.80}") from None

    def persistent_load(self, pid: object, /) -> Any:
        raise pickle.UnpicklingError("refers to an object outside of the file")

"""Values in a case that are well stored and make no sense."""

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fuzz.honest import SHAPE
from gamt.io.npz import object_array

_NUMBERS: tuple[object, ...] = (
    *(0, 1, 2, 3, -1, 4, 5, 9, 10, 12, 255, 256, 2**31, -(2**31), 2**63, 2**64, 10**30, -(10**400)),
    *(
        0.0,
        0.5,
        1e-6,
        1e5,
        1e300,
        -1e300,
        1e-300,
        5e-324,
        float("nan"),
        float("inf"),
        -float("inf"),
    ),
    *(
        True,
        False,
        np.float16(2),
        np.int8(-128),
        np.uint64(2**64 - 1),
        np.longdouble(2),
        np.bool_(1),
    ),
    *(1 + 2j, np.datetime64("2020-01-01"), np.timedelta64(2, "D")),
)
_OTHERS: tuple[object, ...] = (
    *(None, "", "2", "fg", "NaN", "\x1b[31m\r\n", "x" * 5000, "\ud800", b"2", [], (), {}, set()),
    *([2], [2, 6], [2, 6, 5], [2, 6, 5, 0], [[2, 6, 5]], [[[2, 6, 5]]], (2, 6, 5), {"fg": 7}),
    *(
        {2, 6, 5},
        np.array([2, 6, 5]),
        np.array([2.5, 6, 5]),
        np.array([]),
        np.zeros((3, 3)),
        [None] * 3,
    ),
    *({1: 2}, {None: None}, np.array({"fg": [[2, 6, 5]]}), [["fg"]], ["fg", "bg"], [[2, 6, [5]]]),
)
_DTYPES = (
    *("?", "i1", "u1", "i2", ">u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "g", "F", "D"),
    *("S3", "U3", "M8[s]", "m8[D]"),
)


def spoil_values(
    case: dict[str, npt.NDArray[Any]], rng: np.random.Generator
) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """Returns what is wrong, and the case with a value or two changed."""
    keys = [key for key in case if key != "text_prompts"]
    names = rng.choice(keys, size=int(rng.integers(1, 3)), replace=False).tolist()
    for key in names:
        match key:
            case "imgs":
                case[key] = _image(case[key], rng)
            case "spacing":
                case[key] = _spacing(rng)
            case "boxes" | "clicks":
                case[key] = _entries(case[key], rng)
            case "prev_pred" | "window":
                case[key] = _array(case[key], rng)
            case _:
                case[key] = _order(case[key], rng)
        if rng.random() < 0.05:
            case.setdefault("prev_pred", rng.integers(0, 300, SHAPE))
        if rng.random() < 0.05:
            case["window"] = np.array(draw_value(rng, 2), dtype=object)
    return f"value: {' and '.join(names)}", case


def draw_value(rng: np.random.Generator, depth: int) -> object:
    """Returns any value: a number, a text, or a list or dict of such."""
    if depth and rng.random() < 0.3:
        items = [draw_value(rng, depth - 1) for _ in range(int(rng.integers(0, 5)))]
        return {str(n): item for n, item in enumerate(items)} if rng.random() < 0.3 else items
    values = _NUMBERS if rng.random() < 0.6 else _OTHERS
    return values[rng.integers(len(values))]


def _number(rng: np.random.Generator) -> object:
    return _NUMBERS[rng.integers(len(_NUMBERS))]


def _image(image: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    match int(rng.integers(8)):
        case 0:
            return image.astype(_DTYPES[rng.integers(14)])
        case 1:
            shapes = ((1, 24, 25), (600, 1, 1), (1, 600, 1), (2, 2, 150), (5, 1, 120))
            return image.reshape(shapes[rng.integers(len(shapes))])
        case 2:
            shapes_off: tuple[tuple[int, ...], ...] = (
                (600,),
                (5, 120),
                (1, 5, 12, 10),
                (5, 12, 5, 2),
            )
            return image.reshape(shapes_off[rng.integers(len(shapes_off))])
        case 3:
            empty: tuple[tuple[int, ...], ...] = ((0, 12, 10), (5, 0, 10), (0,), (0, 0, 0), ())
            return np.zeros(empty[rng.integers(len(empty))], image.dtype)
        case 4:
            odd = image.astype(np.float64)
            values = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-300, 3.4e38)
            odd.flat[rng.integers(600, size=int(rng.integers(1, 600)))] = values[rng.integers(7)]
            return odd
        case 5:
            return np.full(SHAPE, (0, np.nan, np.inf, 7, -1e308)[rng.integers(5)], np.float64)
        case 6:
            return image.astype(_DTYPES[14 + rng.integers(6)])
        case _:
            limits = np.iinfo(np.int64)
            return rng.integers(limits.min, limits.max, SHAPE)


def _spacing(rng: np.random.Generator) -> npt.NDArray[Any]:
    if rng.random() < 0.3:
        return _any_array(draw_value(rng, 2))
    exponents = rng.uniform(-9, 9, int(rng.choice([3, 3, 3, 3, 2, 4, 0])))
    spacing = (10**exponents).astype(object)
    if spacing.size and rng.random() < 0.5:
        spacing[rng.integers(spacing.size)] = _number(rng)
    return _any_array(spacing.tolist())


def _entries(entries: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    listed = list(entries)
    match int(rng.integers(6)):
        case 0:
            listed = listed * int(rng.choice([0, 2, 3, 130, 300]))
        case 1:
            listed[rng.integers(len(listed))] = draw_value(rng, 2)
        case 2 | 3:
            at = int(rng.integers(len(listed)))
            entry = dict(listed[at])
            name = str(rng.choice(list(entry)))
            if rng.random() < 0.15:
                del entry[name]
            elif name in ("fg", "bg"):
                entry[name] = _clicks(rng)
            else:
                entry[name] = _number(rng) if rng.random() < 0.7 else draw_value(rng, 1)
            listed[at] = entry
        case 4:
            return _any_array(draw_value(rng, 3))
        case _:
            extra = {None: 1, 7: 2, ("a",): 3, "Fg": 4}
            listed[-1] = dict(listed[-1]) | extra
    return object_array(listed)


def _clicks(rng: np.random.Generator) -> object:
    if rng.random() < 0.3:
        return draw_value(rng, 3)
    count = int(rng.choice([0, 1, 2, 3, 40]))
    clicks: list[object] = [[int(rng.integers(size)) for size in SHAPE] for _ in range(count)]
    if clicks and rng.random() < 0.6:
        click = [int(rng.integers(size)) for size in SHAPE]
        clicks[-1] = [_number(rng), *click[1:]] if rng.random() < 0.6 else draw_value(rng, 1)
    return clicks


def _order(order: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    if rng.random() < 0.4:
        return _any_array(draw_value(rng, 3))
    names = ("fg", "bg", "FG", "", None, 7, "\x1b[2J", "fg ", b"fg")
    listed: list[Any] = [
        [names[rng.integers(len(names))] for _ in range(int(rng.integers(0, 5)))] for _ in order
    ]
    return object_array(listed)


def _array(array: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    if array.dtype == object:  # it has been spoilt already
        return array
    match int(rng.integers(4)):
        case 0:
            return array.astype(_DTYPES[rng.integers(14)])
        case 1:
            return array[:-1]
        case 2:
            return np.full_like(array, (0, 1, 2, 3, 254, 255)[rng.integers(6)])
        case _:
            return _any_array(draw_value(rng, 2))


def _any_array(value: object) -> npt.NDArray[Any]:
    """Returns an array of what numpy makes of a value, or an object array that holds it."""
    try:
        array = np.array(value)
    except (ValueError, OverflowError, TypeError):
        array = np.empty((), object)
        array[()] = value
    return array

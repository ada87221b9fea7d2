"""Cases that are odd, but as they may be: what comes after reading has to do with them, too."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.io.npz import object_array
from gamt.windows import NAMED_WINDOWS

_SHAPES = (
    *((5, 12, 10), (1, 24, 25), (24, 1, 25), (24, 25, 1), (600, 1, 1), (1, 600, 1), (1, 1, 600)),
    *((2, 2, 150), (1, 1, 1), (2, 1, 2), (1, 1, 7), (8, 8, 8)),
)
_DTYPES = ("?", "i1", "u1", "i2", ">u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "g")
_STRANGE = (np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300, 1e-300)
_SPACINGS = (0.0, -1.0, 1e-9, 1e-3, 0.2, 1.0, 5.0, 40.0, 1e9, np.nan, np.inf)
_AXES = (("z_min", "z_max"), ("z_mid_y_min", "z_mid_y_max"), ("z_mid_x_min", "z_mid_x_max"))

_Shape = tuple[int, int, int]


def draw_odd(rng: np.random.Generator) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """Returns what a case is about, and its arrays, all of which may be as they are."""
    shape = _SHAPES[rng.integers(len(_SHAPES))]
    classes = int(rng.choice([1, 1, 2, 3, 5, 20]))
    case = {"imgs": _image(shape, rng)}
    if rng.random() < 0.9:
        case["spacing"] = _spacing(rng)
    kind = ("boxes", "clicks", "boxes and clicks")[rng.integers(3)]
    if "boxes" in kind:
        case["boxes"] = object_array([_box(shape, rng) for _ in range(classes)])
    if "clicks" in kind:
        clicks = [_clicks(shape, rng) for _ in range(classes)]
        case["clicks"] = object_array(clicks)
        if rng.random() < 0.7:
            case["clicks_order"] = object_array([_order(one, rng) for one in clicks])
    if rng.random() < 0.5:
        case["prev_pred"] = _previous(shape, classes, rng)
    if rng.random() < 0.3:
        case["window"] = _window(rng)
    return f"odd: {kind}", case


def _image(shape: _Shape, rng: np.random.Generator) -> npt.NDArray[Any]:
    noise = rng.normal(100, 30, shape)
    match int(rng.integers(6)):
        case 0:
            return np.full(shape, _STRANGE[rng.integers(len(_STRANGE))])
        case 1:
            noise.flat[rng.integers(noise.size, size=1 + noise.size // 4)] = _STRANGE[
                rng.integers(len(_STRANGE))
            ]
            return noise
        case 2:
            return np.asfortranarray(noise)
        case _:
            return noise.clip(0, 127).astype(_DTYPES[rng.integers(len(_DTYPES))])


def _spacing(rng: np.random.Generator) -> npt.NDArray[Any]:
    drawn = [_SPACINGS[rng.integers(len(_SPACINGS))] for _ in range(3)]
    spacing = (10 ** rng.uniform(-2, 2, 3)).tolist() if rng.random() < 0.5 else drawn
    return object_array(spacing) if rng.random() < 0.3 else np.array(spacing)


def _box(shape: _Shape, rng: np.random.Generator) -> dict[str, Any] | None:
    """Returns bounds that are a voxel, all there is, along a border or partly outside; or None."""
    if rng.random() < 0.1:
        return None
    whole = (int, np.int64, np.int16, float)[rng.integers(4)]
    box: dict[str, Any] = {}
    for (low_name, high_name), size in zip(_AXES, shape, strict=True):
        low, high = sorted(rng.integers(size, size=2).tolist())
        match int(rng.integers(5)):
            case 0:
                low = high
            case 1:
                low, high = 0, size - 1
            case 2:
                low, high = size - 1, size - 1 + int(rng.integers(30))
            case 3:
                low, high = -int(rng.integers(30)), 0
        box |= {low_name: whole(low), high_name: whole(high)}
    return box | {"z_mid": whole(rng.integers(int(box["z_min"]), int(box["z_max"]) + 1))}


def _clicks(shape: _Shape, rng: np.random.Generator) -> dict[str, Any] | None:
    """Returns few or many clicks, some of which contradict each other; or None."""
    if rng.random() < 0.1:
        return None
    counts = rng.choice([0, 1, 1, 2, 5, 40], size=2)
    clicks = {
        name: (rng.random((count, 3)).round(1) * np.subtract(shape, 1)).astype(int).tolist()
        for name, count in zip(("fg", "bg"), counts, strict=True)
    }
    if clicks["fg"] and rng.random() < 0.3:
        clicks["bg"].append(clicks["fg"][0])
    return clicks


def _order(clicks: dict[str, Any] | None, rng: np.random.Generator) -> list[str | None]:
    names: list[str | None] = [None] * int(rng.integers(3))
    names += [name for name, listed in (clicks or {}).items() for _ in listed]
    return [names[n] for n in rng.permutation(len(names))]


def _previous(shape: _Shape, classes: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    match int(rng.integers(4)):
        case 0:
            labels = np.zeros(shape)
        case 1:
            labels = np.full(shape, rng.integers(1, classes + 1))
        case 2:
            labels = rng.integers(0, classes + 1, shape)
        case _:
            labels = np.zeros(shape)
            labels.flat[rng.integers(labels.size)] = classes
    return labels.astype(("u1", "i8", ">u2", "f4", "f8", "g")[rng.integers(6)])


def _window(rng: np.random.Generator) -> npt.NDArray[Any]:
    windows = ([100.0, 1e-9], [1e6, 1.0], [0.0, 1e30], [100.0, 60.0])
    if rng.random() < 0.3:
        return np.array(str(rng.choice(sorted(NAMED_WINDOWS))))
    return np.array(windows[rng.integers(len(windows))])

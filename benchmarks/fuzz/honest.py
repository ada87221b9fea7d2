"""Small case files as the challenge's evaluator writes them, for spoiling."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from gamt.io.npz import object_array

SHAPE = (5, 12, 10)
"""Of every image: 600 voxels, so that thousands of cases are done in minutes."""

Arrays = Mapping[str, npt.NDArray[Any]]


def draw_case(rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of a case: boxes, clicks or both, of one or two classes, at any round."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((z - 2) / 2) ** 2 + ((y - 6) / 3) ** 2 + ((x - 5) / 3) ** 2 <= 1
    dtype = (np.uint8, np.int16, np.float32, np.float64, np.uint16)[rng.integers(5)]
    case: dict[str, npt.NDArray[Any]] = {
        "imgs": (60 + 90 * body + rng.integers(-8, 9, SHAPE)).astype(dtype),
        "spacing": np.array([2.0, 1.0, 1.0]),
    }
    classes = int(rng.integers(1, 3))
    with_boxes, with_clicks = ((True, False), (False, True), (True, True))[rng.integers(3)]
    if with_boxes:
        box = {"z_min": 0, "z_max": 4, "z_mid": 2, "z_mid_y_min": 3, "z_mid_y_max": 9}
        case["boxes"] = object_array([box | {"z_mid_x_min": 2, "z_mid_x_max": 8}] * classes)
    if with_clicks:
        case["clicks"] = object_array([{"fg": [[2, 6, 5]], "bg": [[0, 1, 1]]}] * classes)
        case["clicks_order"] = np.array([["fg", "bg"]] * classes)
    if rng.random() < 0.3:
        case["prev_pred"] = body.astype(np.uint8)
    if rng.random() < 0.3:
        case["window"] = np.array([100.0, 120.0])
    if rng.random() < 0.3:
        case["text_prompts"] = object_array([{"1": "a ball"}])  # a key that nobody reads
    return case


def companion() -> dict[str, npt.NDArray[Any]]:
    """Returns the one case that lies beside spoilt files and must come out as ever."""
    return draw_case(np.random.default_rng(8))


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """Returns an array as an npy file, lists and dicts by a pickle."""
    file = io.BytesIO()
    npy.write_array(file, array, allow_pickle=True)
    return file.getvalue()

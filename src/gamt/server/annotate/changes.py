"""What changed in the labels, as it goes to the page."""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from gamt.annotation import grid
from gamt.session import ArrayBounds

LEVEL = 1
"""Of zlib: label maps are mostly even, and more effort saves a few per cent for twice the time."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What the page has to know after something was done.

    Attributes:
        state: `State` in types.ts.
        bounds: half-open (z, y, x) of the part of the labels that may have changed; None where
            nothing did.
        labels: uint8, what the labels are there; None without bounds.
    """

    state: dict[str, Any]
    bounds: ArrayBounds | None = None
    labels: npt.NDArray[np.uint8] | None = None


def cut(labels: npt.NDArray[np.uint8], bounds: ArrayBounds | None) -> npt.NDArray[np.uint8] | None:
    """Returns a copy of the part (z, y, x) of a label map that lies within bounds."""
    return None if bounds is None else labels[tuple(slice(a, b) for a, b in bounds)].copy()


def encode_change(change: Change, shape: tuple[int, ...]) -> bytes:
    """Returns a change as it travels, compressed by gzip.

    That is 4 bytes, little-endian, of the length of the JSON text; the text, with the state and
    the bounds on the page; and the labels there, uint8, i running fastest (`grid`).

    Args:
        change: to be told.
        shape: of the scan (z, y, x).
    """
    low = high = None
    labels = b""
    if change.bounds is not None and change.labels is not None:
        low, high = grid.bounds_to_page(change.bounds, shape)
        labels = grid.turn(change.labels).tobytes()
    text = json.dumps(
        {"state": change.state, "low": low, "high": high}, separators=(",", ":"), allow_nan=False
    ).encode()
    packer = zlib.compressobj(LEVEL, wbits=16 + zlib.MAX_WBITS)
    parts = (struct.pack("<I", len(text)), text, labels)
    return b"".join(map(packer.compress, parts)) + packer.flush()


def answer(encoded: bytes) -> Response:
    """Returns the answer that holds an encoded change."""
    headers = {"Content-Encoding": "gzip"}
    return Response(encoded, media_type="application/octet-stream", headers=headers)

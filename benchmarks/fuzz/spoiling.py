"""Random damage to bytes, whatever they mean."""

import struct

import numpy as np

INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
)
"""Whole numbers at the ends of types."""

_FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, -1.0, 1e-300, 1e300, 3.4e38, 1e-45)


def spoil_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns `data` with a few bytes changed, lost, added or put elsewhere."""
    spoilt = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not spoilt:
            break
        at = int(rng.integers(len(spoilt)))
        end = min(len(spoilt), at + int(rng.integers(1, 33)))
        match int(rng.integers(9)):
            case 0:
                spoilt[at] ^= 1 << int(rng.integers(8))
            case 1:
                spoilt[at:end] = rng.bytes(end - at)
            case 2:
                del spoilt[at:end]
            case 3:
                spoilt[at:at] = rng.bytes(end - at)
            case 4:
                spoilt[at:at] = spoilt[at:end]
            case 5:
                spoilt[at:end] = bytes(end - at)
            case 6:
                width = ("<H", "<I", "<Q", ">I")[rng.integers(4)]
                number = INTERESTING[rng.integers(len(INTERESTING))]
                size = struct.calcsize(width)
                spoilt[at : at + size] = struct.pack(width, number & (256**size - 1))
            case 7:
                width = ("<f", "<d")[rng.integers(2)]
                real = _FLOATS[rng.integers(len(_FLOATS))]
                if width == "<f" and abs(real) > 3.4e38:
                    real = float("inf")
                spoilt[at : at + struct.calcsize(width)] = struct.pack(width, real)
            case _:
                del spoilt[at:]
    return bytes(spoilt)

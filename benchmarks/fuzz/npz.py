"""Spoilt npz files, of any kind, by seed and number."""

from dataclasses import dataclass

import numpy as np

from benchmarks.fuzz.arrays import spoil_npy
from benchmarks.fuzz.honest import Arrays, draw_case, npy_bytes
from benchmarks.fuzz.odd import draw_odd
from benchmarks.fuzz.pickled import spoil_pickle
from benchmarks.fuzz.spoiling import spoil_bytes
from benchmarks.fuzz.values import spoil_values
from benchmarks.fuzz.zips import member, spoil_zip, write_zip

_SHARES = {"bytes": 0.08, "zip": 0.1, "npy": 0.14, "pickle": 0.2, "value": 0.18, "odd": 0.3}
"""Of files, by what is spoilt: half of them or so are read, so that the rest of the work is met."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A file.

    Attributes:
        kind: what is wrong with it.
        data: all of it.
    """

    kind: str
    data: bytes


def honest_npz(case: Arrays) -> bytes:
    """Returns a case as a file."""
    return write_zip([member(f"{key}.npy", npy_bytes(array)) for key, array in case.items()])


def draw_npz(seed: int, number: int) -> Spoilt:
    """Returns one of the files of a seed."""
    rng = np.random.default_rng((seed, number))
    case = draw_case(rng)
    level = rng.choice(list(_SHARES), p=list(_SHARES.values()))
    if level == "odd":
        kind, case = draw_odd(rng)
        return Spoilt(kind, honest_npz(case))
    if level == "value":
        kind, case = spoil_values(case, rng)
        return Spoilt(kind, honest_npz(case))
    if level == "bytes":
        return Spoilt("bytes", spoil_bytes(honest_npz(case), rng))
    contents = {key: npy_bytes(array) for key, array in case.items()}
    kind = ""
    if level == "npy":
        key = str(rng.choice(list(contents)))
        kind, contents[key] = spoil_npy(contents[key], rng)
    elif level == "pickle":
        held = [key for key in ("boxes", "clicks") if key in case]
        key, other = (str(rng.choice(held)) for _ in range(2))
        kind, contents[key] = spoil_pickle(contents[key], contents[other], rng)
        if rng.random() < 0.1:  # a pickle where none is expected
            contents[str(rng.choice(list(contents)))] = contents[key]
    members = [member(f"{key}.npy", content) for key, content in contents.items()]
    if level == "zip":
        kind, data = spoil_zip(members, rng)
        return Spoilt(kind, data)
    return Spoilt(kind, write_zip(members))

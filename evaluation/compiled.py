"""Compiling loops over voxels, once per machine where that is possible."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a function at its first call, and keeps the result on disk where it may.

    numba writes beside the source, else into the user's cache folder. It refuses to keep anything
    if neither can be written (a read-only installation): the function is then compiled again in
    every process, which costs seconds, not results.
    """
    try:
        return cast(Callable[P, R], numba.njit(cache=True)(function))
    except RuntimeError:
        return cast(Callable[P, R], numba.njit(function))

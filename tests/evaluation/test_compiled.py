"""Compiling where nothing can be kept."""

from collections.abc import Callable

from evaluation.compiled import compiled


def test_a_function_is_compiled_also_where_nothing_can_be_kept() -> None:
    # numba finds no place to keep a function that comes from no file.
    names: dict[str, Callable[[int], int]] = {}
    exec("def double(n): return 2 * n", {}, names)
    assert compiled(names["double"])(21) == 42

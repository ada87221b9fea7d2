"""Every number of the method has its origin in docs/constants.md."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from numbers import Number
from pathlib import Path

import pytest

import gamt.lifting
import gamt.segmenters

DOCUMENT = Path(__file__).parents[1] / "docs" / "constants.md"

NO_METHOD = {"gamt.segmenters.download"}
"""Modules that fetch files: their pauses and sizes change no result."""


def constants() -> Iterator[tuple[str, str]]:
    """Yields module and name of what is written in capitals and is a number or a tuple of them."""
    for package in (gamt.lifting, gamt.segmenters):
        for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            if found.name in NO_METHOD:
                continue
            module = importlib.import_module(found.name)
            # Names that a module imports are those of another one.
            source = Path(str(module.__file__)).read_text(encoding="utf-8")
            for name, value in vars(module).items():
                parts = value if isinstance(value, tuple) else (value,)
                if (
                    name.isupper()
                    and all(isinstance(one, Number) for one in parts)
                    and re.search(rf"^[A-Z_, ]*\b{name}\b[A-Z_, ]* =", source, re.MULTILINE)
                ):
                    yield found.name.removeprefix("gamt."), name


@pytest.mark.parametrize(("module", "name"), list(constants()))
def test_a_constant_has_its_origin_in_the_document(module: str, name: str) -> None:
    # `NAME`, or `module.NAME` where several modules have one of that name.
    text = DOCUMENT.read_text(encoding="utf-8")
    assert re.search(rf"`(?:\w+\.)?{name}`", text), f"{module}.{name} has no row in {DOCUMENT.name}"

"""JSON files that nobody has to trust: read within limits, and every complaint names its key."""

import json
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gamt.text import printable

_MAX_BYTES = 1 << 24
"""More than any file of prompts has: some ten thousands of points."""

_MAX_ITEMS = 1_000_000
"""Lists and objects of a file, and items of a list: some hundred thousand runs of a drawing. Each
takes far more memory than its bytes."""

_MAX_NUMBER = 1e30
"""No index, no millimetre and no intensity is as large; products of two stay finite."""

_MAX_SHOWN = 40
"""Characters of a value that a message shows, and more digits than any whole number has."""


class JsonError(ValueError):
    """A JSON file that can't be read, or that says something else than expected.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(printable(f"{path.name or path}: {found}"))
        self.path = path


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value in a JSON file, and where it stands.

    Attributes:
        path: the file.
        key: where in the file, such as ``prompts[2].voxel``; empty for the whole of it.
        value: as `json.loads` gives it.
    """

    path: Path
    key: str
    value: object

    def refuse(self, expected: str) -> NoReturn:
        """Raises an error that names file, key, what was found and what was expected.

        Raises:
            JsonError: always.
        """
        self.fail(f"found {_describe(self.value)}, expected {expected}")

    def fail(self, text: str) -> NoReturn:
        """Raises an error that names file and key.

        Raises:
            JsonError: always.
        """
        raise JsonError(self.path, f"{self.key}: {text}" if self.key else text)

    def has(self, name: str) -> bool:
        """Says whether this is an object with a member of that name that isn't null."""
        return isinstance(self.value, dict) and self.value.get(name) is not None

    def member(self, name: str) -> "JsonValue":
        """Returns a member of an object.

        Raises:
            JsonError: this is no object, or has no such member.
        """
        if not isinstance(self.value, dict):
            self.refuse("an object")
        if name not in self.value:
            self.fail(f"found no {name!r}, expected one")
        return JsonValue(self.path, f"{self.key}.{name}" if self.key else name, self.value[name])

    def items(self) -> list["JsonValue"]:
        """Returns the items of a list.

        Raises:
            JsonError: this is no list, or a very long one.
        """
        if not isinstance(self.value, list) or len(self.value) > _MAX_ITEMS:
            self.refuse(f"a list, of {_MAX_ITEMS:,} at most")
        return [
            JsonValue(self.path, f"{self.key}[{index}]", item)
            for index, item in enumerate(self.value)
        ]

    def text(self, *choices: str) -> str:
        """Returns a text of printable characters, one of `choices` if there are any.

        Raises:
            JsonError: this is something else.
        """
        if choices and self.value not in choices:
            self.refuse(" or ".join(map(repr, choices)))
        if not isinstance(self.value, str) or not self.value.isprintable():
            self.refuse("a text of printable characters")
        return self.value

    def boolean(self) -> bool:
        """Returns true or false.

        Raises:
            JsonError: this is something else.
        """
        if not isinstance(self.value, bool):
            self.refuse("true or false")
        return self.value

    def whole_number(self, low: int, high: int) -> int:
        """Returns a whole number from `low` to `high`, both included.

        Raises:
            JsonError: this is something else.
        """
        if type(self.value) is not int or not low <= self.value <= high:
            self.refuse(f"a whole number from {low} to {high}")
        return self.value

    def number(self) -> float:
        """Returns a finite number.

        Raises:
            JsonError: this is something else.
        """
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.refuse("a number")
        if abs(self.value) > _MAX_NUMBER:
            self.refuse(f"a number, of {_MAX_NUMBER:g} at most")
        return float(self.value)

    def numbers(self, count: int) -> tuple[float, ...]:
        """Returns a list of finite numbers.

        Raises:
            JsonError: this is something else, or has not `count` of them.
        """
        if not isinstance(self.value, list) or len(self.value) != count:
            self.refuse(f"a list of {count} numbers")
        # Most files are made of little else, so that an item's place is noted only to complain.
        if all(type(item) in (int, float) and abs(item) <= _MAX_NUMBER for item in self.value):
            return tuple(map(float, self.value))
        return tuple(item.number() for item in self.items())


def read_json(path: Path) -> JsonValue:
    """Reads a JSON file.

    Raises:
        JsonError: it is too large or has too many items, isn't UTF-8 or isn't JSON, has NaN or
            infinity for a number, or has a key twice in an object.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return parse_json(file.read(_MAX_BYTES + 1), path)


def parse_json(content: bytes, path: Path) -> JsonValue:
    """Reads JSON that is in memory.

    Args:
        content: all of it.
        path: the file that it is from, or what else errors are to call it.

    Raises:
        JsonError: as for `read_json`.
    """
    if len(content) > _MAX_BYTES:
        raise JsonError(
            path, f"found a file of over {_MAX_BYTES >> 20} MiB, expected a smaller one"
        )
    if content.count(b"[") + content.count(b"{") > _MAX_ITEMS:
        raise JsonError(path, f"found over {_MAX_ITEMS:,} lists and objects, expected fewer")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonError(path, f"found no text at byte {error.start}, expected JSON") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_read_integer,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise JsonError(path, f"found no JSON at {where}: {error.msg}") from error
    except RecursionError as error:
        raise JsonError(path, "found too many brackets in one another, expected prompts") from error
    except ValueError as error:  # of the functions below
        raise JsonError(path, str(error)) from error
    return JsonValue(path, "", value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"found the key {reprlib.repr(name)} twice in one object")
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}, expected a finite number")


def _read_integer(digits: str) -> int:
    if len(digits) > _MAX_SHOWN:
        raise ValueError(f"found a number of {len(digits)} digits, expected a smaller one")
    return int(digits)


def _describe(value: object) -> str:
    """Returns a value in a few characters of one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."

"""JSON of any origin: what is read, and the one line that says what is wrong."""

from pathlib import Path

import pytest

from gamt.io.json_files import JsonError, JsonValue, parse_json, read_json


def save(folder: Path, content: bytes) -> Path:
    path = folder / "a.json"
    path.write_bytes(content)
    return path


def test_a_value_knows_where_it_stands(tmp_path: Path) -> None:
    root = read_json(save(tmp_path, b'{"lists": [{"at": [1, 2.5, -3e2]}]}'))
    at = root.member("lists").items()[0].member("at")
    assert (at.key, at.numbers(3)) == ("lists[0].at", (1.0, 2.5, -300.0))
    with pytest.raises(JsonError, match=r"^a.json: lists\[0\].at: found a list of 3, expected 2$"):
        at.refuse("2")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read_json(save(tmp_path, b'\xef\xbb\xbf"x"')).value == "x"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "found no JSON at line 1, column 1"),
        (b'{"a": 1,\n "b" 2}', "found no JSON at line 2, column 6"),
        (b'{"a": "\xff"}', "found no text at byte 7, expected JSON"),
        (b"\x1f\x8b\x08\x00", "found no text at byte 1, expected JSON"),
        (b'{"a": 1, "a": 2}', "found the key 'a' twice in one object"),
        (b"[NaN]", "found NaN, expected a finite number"),
        (b"[-Infinity]", "found -Infinity, expected a finite number"),
        (b"[" * 200_000, "found too many brackets in one another"),
        (b'{"a":' * 200_000, "found too many brackets in one another"),
        (b"9" * 5000, "found a number of 5000 digits, expected a smaller one"),
        (b" " * (1 << 24) + b"1", "found a file of over 16 MiB"),
    ],
    ids=range(11),
)
def test_what_is_no_json_is_one_line(content: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(JsonError, match=r"^a.json: ") as error:
        read_json(save(tmp_path, content))
    assert found in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, "found true, expected a number"),
        (None, "found null, expected a number"),
        ("1", 'found "1", expected a number'),
        ({}, "found an object, expected a number"),
        (float("inf"), "found Infinity, expected a number, of 1e+30 at most"),  # 1e999 in a file
        (10**400, "expected a number, of 1e+30 at most"),
        ("\ud800\n" * 99, r'found "\ud800\n\ud800\n\ud800\n\ud800\n\ud800'),
    ],
    ids=range(7),
)
def test_what_is_no_number_is_told_in_one_short_line(value: object, found: str) -> None:
    with pytest.raises(JsonError) as error:
        JsonValue(Path("a.json"), "at", value).number()
    assert found in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 110


def test_a_bool_is_no_whole_number() -> None:
    with pytest.raises(JsonError, match="found true, expected a whole number from 1 to 255"):
        JsonValue(Path("a.json"), "label", True).whole_number(1, 255)
    with pytest.raises(JsonError, match=r"found 1\.0, expected a whole number"):
        JsonValue(Path("a.json"), "label", 1.0).whole_number(1, 255)


def test_json_in_memory_is_read_as_that_of_a_file() -> None:
    assert parse_json(b'{"a": true}', Path("request")).member("a").boolean()
    with pytest.raises(JsonError, match="request: a: found 1, expected true or false"):
        parse_json(b'{"a": 1}', Path("request")).member("a").boolean()
    with pytest.raises(JsonError, match="request: found a file of over 16 MiB"):
        parse_json(b" " * (2**24 + 1), Path("request"))


@pytest.mark.parametrize("item", [b"[],", b"{},"])
def test_more_lists_and_objects_than_any_prompts_have_are_refused_unread(item: bytes) -> None:
    content = b"[" + item * 1_000_000 + b"0]"
    with pytest.raises(JsonError, match="found over 1,000,000 lists and objects, expected fewer"):
        parse_json(content, Path("a.json"))


def test_a_longer_list_than_any_prompts_have_is_refused() -> None:
    value = parse_json(b"[" + b"1," * 1_000_000 + b"1]", Path("a.json"))
    with pytest.raises(JsonError, match="found a list of 1000001, expected a list, of 1,000,000"):
        value.items()


def test_what_a_file_says_moves_no_cursor() -> None:
    with pytest.raises(JsonError) as caught:
        parse_json(b'{"\\u001b[2J": 1}', Path("a\x1b[2J.json")).member("\x1b[31m").boolean()
    assert str(caught.value).isprintable()
    with pytest.raises(JsonError) as caught:
        JsonValue(Path("a.json"), "", {"\x1b[2J": 1}).member("\x1b[2J").boolean()
    assert str(caught.value) == r"a.json: \x1b[2J: found 1, expected true or false"

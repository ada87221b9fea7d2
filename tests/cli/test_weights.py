"""``gamt weights``: checkpoints, listed, fetched and verified."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gamt.segmenters import checkpoints
from gamt.settings import PRESET_SEGMENTERS
from tests.cli.calls import ROOT, Run, one_line
from tests.publisher import Offer, Publisher, archive, write_manifest


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A publisher of the checkpoints `one`, of a published SHA-256, and `sam_med2d`, without."""
    content = archive()
    with Publisher() as server:
        server.offers["/one.pth"] = server.offers["/two.pth"] = Offer(content)
        digest = hashlib.sha256(content).hexdigest()
        manifest = write_manifest(
            tmp_path,
            server.checkpoint(
                "/one.pth", name="one", file="one.pth", size=len(content), sha256=digest
            ),
            server.checkpoint("/two.pth", name="sam_med2d", file="two.pth"),
        )
        monkeypatch.setattr(checkpoints, "manifest", lambda: manifest)
        monkeypatch.setattr(checkpoints, "_cache_folder", lambda: tmp_path / "cache")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.mark.usefixtures("publisher")
def test_checkpoints_are_fetched_listed_and_verified(tmp_path: Path, run: Run, show: Run) -> None:
    one, two = tmp_path / "cache" / "one.pth", tmp_path / "cache" / "two.pth"
    assert [line.split() for line in show("weights", "list")[1].splitlines()] == [
        ["NAME", "SIZE", "LICENCE", "PRESET", "FILE"],
        ["one", "5.1", "kB", "Apache-2.0", "-", "missing"],
        ["sam_med2d", "unknown", "Apache-2.0", "coreset", "missing"],
    ]
    assert run("weights", "verify") == (
        1,
        "ERROR no checkpoint is here; 'gamt weights fetch NAME' gets one\n",
    )
    status, out = show("weights", "fetch", "one", "sam_med2d")
    assert (status, out.splitlines()) == (
        0,
        [
            f"one: {one}: verified: SHA-256 as published",
            f"sam_med2d: {two}: verified: checksums inside the file",
        ],
    )
    lines = show("weights", "list")[1].splitlines()
    assert [line.split()[-1] for line in lines] == ["FILE", str(one), str(two)]
    status, out = show("weights", "verify")
    assert (status, out.splitlines()) == (
        0,
        [
            f"one: {one}: verified: SHA-256 as published",
            f"sam_med2d: {two}: verified: SHA-256 as recorded",
        ],
    )


@pytest.mark.usefixtures("publisher")
def test_verify_finds_a_flipped_byte_and_checks_the_others(tmp_path: Path, show: Run) -> None:
    show("weights", "fetch", "one", "sam_med2d")
    path = tmp_path / "cache" / "one.pth"
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    status, out = show("weights", "verify")
    assert status == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["sam_med2d"]
    assert show("weights", "verify", "sam_med2d")[0] == 0


@pytest.mark.usefixtures("publisher")
def test_verify_says_how_to_replace_a_damaged_file(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "cache" / "one.pth"
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    status, log = run("weights", "verify", "one")
    assert status == 1
    assert log.startswith(f"ERROR {path}: found 7 bytes, expected ")
    command = f"weights fetch one --dir {path.parent}"
    assert log.endswith(f"; this replaces it: gamt {command}\n")
    assert run(*command.split())[0] == 0
    assert run("weights", "verify", "one") == (0, "")


def test_checkpoints_go_where_the_user_says(
    publisher: Publisher, tmp_path: Path, show: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_WEIGHTS_DIR", str(tmp_path / "named"))
    assert str(tmp_path / "named" / "one.pth") in show("weights", "fetch", "one")[1]
    assert str(tmp_path / "told" / "one.pth") in show("weights", "fetch", "one", "--dir=told")[1]
    publisher.asked.clear()
    copy = ("--from", tmp_path / "told" / "one.pth", "--dir", tmp_path / "copy")
    assert show("weights", "fetch", "one", *copy)[0] == 0
    assert (tmp_path / "copy" / "one.pth").is_file()
    assert publisher.asked == []


@pytest.mark.usefixtures("publisher")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["fetch", "nonsense"], 2, "'nonsense'; expected one of one, sam_med2d"),
        (["fetch", "one", "sam_med2d", "--from", "a.pth"], 2, "--from is for one NAME"),
        (["fetch", "one", "--from", "none.pth"], 1, "none.pth: No such file or directory"),
        (["fetch", "one", "--from", "manifest.toml"], 1, "manifest.toml: this isn't one.pth"),
        (["fetch", "one", "--dir", "manifest.toml"], 1, "manifest.toml: File exists"),
        (["verify", "one", "nonsense"], 2, "expected one of"),
        (["verify", "one"], 2, "gamt weights fetch one"),
    ],
)
def test_checkpoints_that_cannot_be_had_are_one_line(
    arguments: Sequence[str], status: int, message: str, run: Run
) -> None:
    found, log = run("weights", *arguments)
    assert (found, one_line(log)) == (status, True)
    assert message in log


def test_a_failed_download_is_one_line_with_the_way_out(publisher: Publisher, run: Run) -> None:
    publisher.offers.clear()
    status, log = run("weights", "fetch", "one")
    assert (status, one_line(log)) == (1, True)
    assert f"Get it by hand from {publisher.url('/one.pth')}" in log
    assert log.endswith("gamt weights fetch one --from FILE\n")


@pytest.mark.usefixtures("publisher")
def test_a_terminal_shows_how_far_a_download_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "5.1/5.1 kB" in run("weights", "fetch", "one")[1]
    assert run("weights", "fetch", "sam_med2d", "--quiet")[1] == ""


def test_the_makefile_fetches_what_the_presets_use() -> None:
    recipe = (
        (ROOT / "Makefile")
        .read_text(encoding="utf-8")
        .partition("\nweights:")[2]
        .partition("\n\n")[0]
    )
    assert recipe.split("weights fetch ")[1].split() == list(PRESET_SEGMENTERS.values())


def test_after_a_failed_download_the_next_is_fetched(
    publisher: Publisher, tmp_path: Path, run: Run
) -> None:
    del publisher.offers["/one.pth"]
    status, log = run("weights", "fetch", "one", "sam_med2d")
    assert status == 1
    assert [line.split(":")[0] for line in log.splitlines()] == [
        "ERROR one",
        "ERROR 1 of 2 checkpoints failed",
    ]
    assert (tmp_path / "cache" / "two.pth").is_file()


def test_the_readme_has_the_sizes_of_the_list(show: Run) -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line.split("  ") for line in show("weights", "list")[1].splitlines()[1:]]
    assert rows
    for name, size, *_ in ([cell for cell in row if cell] for row in rows):
        number, unit = size.split()
        gigabytes = float(number) / (1 if unit == "GB" else 1000)
        (line,) = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"| {gigabytes:.1f} GB |" in line
        assert f"gamt weights fetch {name}" in line

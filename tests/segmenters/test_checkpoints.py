"""Checkpoints: the manifest, where files are looked for, and what is checked."""

import hashlib
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gamt.segmenters import checkpoints
from gamt.segmenters.checkpoints import (
    Checkpoint,
    CheckpointError,
    fetch_folder,
    find,
    locate,
    published_as,
    read_manifest,
    record_path,
    select,
    verify,
)
from gamt.settings import PRESET_SEGMENTERS
from tests.publisher import archive, write_manifest

CONTENT = archive()
DIGEST = hashlib.sha256(CONTENT).hexdigest()

MODEL = Checkpoint(
    name="model",
    file="model.pth",
    url="https://example.org/model.pth",
    licence="Apache-2.0",
    citation="A. Author, A Model, 2025",
    description="a model",
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in an empty folder, with a cache folder and a variable of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(checkpoints, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("GAMT_WEIGHTS_DIR", raising=False)


@pytest.fixture
def _manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_manifest(tmp_path, MODEL, replace(MODEL, name="other", file="other.pth"))
    monkeypatch.setattr(checkpoints, "manifest", lambda: path)


def save(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.pth"
    path.write_bytes(content)
    return path


# The manifest


def test_the_manifest_names_every_checkpoint_with_its_terms() -> None:
    found = read_manifest()
    assert list(found) == [
        *("sam_vit_b", "sam_vit_l", "sam_vit_h", "medsam", "sam_med2d"),
        *(f"sam2.1_hiera_{size}" for size in ("tiny", "small", "base_plus", "large")),
        "medsam2",
    ]
    assert len({checkpoint.file for checkpoint in found.values()}) == len(found)
    for name, checkpoint in found.items():
        assert checkpoint.name == name
        assert urlsplit(checkpoint.url).scheme == "https"
        assert re.fullmatch(r"[\w.-]+\.(pth|pt)", checkpoint.file)
        assert checkpoint.sha256 is None or re.fullmatch("[0-9a-f]{64}", checkpoint.sha256)
        assert (checkpoint.sha256 is None) == (checkpoint.size is None)
        assert checkpoint.licence == ("CC-BY-SA-4.0" if name == "medsam2" else "Apache-2.0")
        assert checkpoint.citation
        assert checkpoint.description


def test_what_the_presets_use_is_in_the_manifest() -> None:
    assert set(PRESET_SEGMENTERS.values()) <= set(read_manifest())


@pytest.mark.usefixtures("_manifest")
def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    assert [checkpoint.name for checkpoint in select(["other", "model"])] == ["other", "model"]
    with pytest.raises(CheckpointError, match="'nonsense'; expected one of model, other"):
        select(["model", "nonsense"])


# Where files lie


@pytest.mark.usefixtures("_manifest")
def test_the_chosen_file_goes_before_all(tmp_path: Path) -> None:
    save(tmp_path / "cache")
    chosen = save(tmp_path / "chosen")
    assert find("model", chosen) == chosen
    assert find("model", str(chosen)) == chosen
    with pytest.raises(CheckpointError, match=r"none\.pth: no such checkpoint file"):
        find("model", "none.pth")


@pytest.mark.usefixtures("_manifest")
def test_files_are_looked_for_in_the_named_folder_then_here_then_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMT_WEIGHTS_DIR", str(tmp_path / "named"))
    with pytest.raises(CheckpointError) as caught:
        find("model")
    places = f"{tmp_path}/named, {tmp_path}/work/weights, {tmp_path}/cache"
    assert f"model.pth, found in none of {places};" in str(caught.value)
    assert str(caught.value).endswith(": gamt weights fetch model")
    for folder in ("cache", "work/weights", "named"):
        path = save(tmp_path / folder)
        assert find("model") == locate(MODEL) == path
    monkeypatch.setenv("GAMT_WEIGHTS_DIR", "")
    assert find("model") == tmp_path / "work/weights/model.pth"


def test_fetched_files_go_to_the_named_folder_or_the_checkouts_or_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "work" / "weights"
    weights.mkdir()
    assert fetch_folder() == tmp_path / "cache"  # this folder of weights isn't the checkout's
    write_manifest(weights, MODEL)
    assert fetch_folder().absolute() == weights
    monkeypatch.setenv("GAMT_WEIGHTS_DIR", str(tmp_path / "named"))
    assert fetch_folder() == tmp_path / "named"


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert checkpoints._cache_folder().is_absolute()
    assert checkpoints._cache_folder().name == "weights"
    assert "gamt" in checkpoints._cache_folder().parts


# What is checked


def flip(content: bytes, position: int, bit: int = 0) -> bytes:
    """Returns the content with one bit changed."""
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


def test_a_published_sha_256_is_what_counts(tmp_path: Path) -> None:
    published = replace(MODEL, size=len(CONTENT), sha256=DIGEST)
    path = save(tmp_path)
    assert verify(published, path) == "SHA-256 as published"
    assert not record_path(path).exists()
    other = flip(CONTENT, 2000)
    with pytest.raises(CheckpointError) as caught:
        verify(published, save(tmp_path, other))
    found = hashlib.sha256(other).hexdigest()
    assert str(caught.value) == f"found SHA-256 {found}, expected {DIGEST}"


def test_a_wrong_size_is_said_as_such(tmp_path: Path) -> None:
    published = replace(MODEL, size=len(CONTENT), sha256=DIGEST)
    with pytest.raises(CheckpointError, match=f"found 100 bytes, expected {len(CONTENT)}"):
        verify(published, save(tmp_path, CONTENT[:100]))


def test_without_a_published_sha_256_the_first_one_is_recorded(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert verify(MODEL, path) == "checksums inside the file"
    assert record_path(path).read_text() == f"{DIGEST}  model.pth\n"  # as sha256sum writes it
    assert verify(MODEL, path) == "SHA-256 as recorded"
    save(tmp_path, archive(filling=1))  # intact, but another one
    with pytest.raises(CheckpointError, match=f"expected {DIGEST}, which .*model.pth.sha256"):
        verify(MODEL, path)


@pytest.mark.parametrize(
    "content",
    [
        flip(CONTENT, 2000),  # in the middle of the member
        CONTENT[:3000],
        b"<!DOCTYPE html><html><body>Sign in</body></html>",
        b"",
    ],
    ids=["flipped", "cut", "page", "empty"],
)
def test_without_a_published_sha_256_a_damaged_file_is_found_and_not_recorded(
    content: bytes, tmp_path: Path
) -> None:
    path = save(tmp_path, content)
    with pytest.raises(CheckpointError, match="damaged"):
        verify(MODEL, path)
    assert not record_path(path).exists()


def test_no_damage_to_the_archives_own_records_is_more_than_a_line(tmp_path: Path) -> None:
    # The member's header is at the start of the file, the list of members at its end.
    places = [*range(60), *range(len(CONTENT) - 160, len(CONTENT))]
    messages = []
    for position, bit in product(places, range(8)):
        path = save(tmp_path, flip(CONTENT, position, bit))
        try:
            verify(MODEL, path)
        except CheckpointError as error:
            messages.append(str(error))
        record_path(path).unlink(missing_ok=True)
    assert len(messages) > 1000  # the others, such as those of the date, harm nothing
    assert all("damaged" in message for message in messages)


def test_a_record_that_says_nothing_is_made_again(tmp_path: Path) -> None:
    path = save(tmp_path)
    record_path(path).write_text("not a digest")
    assert verify(MODEL, path) == "checksums inside the file"
    assert record_path(path).read_text().startswith(DIGEST)


def test_a_record_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path)
    nowhere = tmp_path / "nowhere" / "model.pth.sha256"
    assert verify(MODEL, path, nowhere) == "checksums inside the file"
    assert "nowhere/model.pth.sha256: No such file or directory" in caplog.text


# Files of safetensors


@pytest.mark.usefixtures("_manifest")
def test_weights_alone_go_before_the_pickle_of_the_same_folder(tmp_path: Path) -> None:
    pickled = save(tmp_path / "work" / "weights")
    save(tmp_path / "cache").rename(tmp_path / "cache" / "model.safetensors")
    assert find("model") == pickled  # the folder counts more
    plain = pickled.with_suffix(".safetensors")
    plain.write_bytes(b"")
    assert find("model") == plain


def test_nothing_is_published_of_a_converted_file(tmp_path: Path) -> None:
    published = replace(MODEL, size=len(CONTENT), sha256=DIGEST)
    assert published_as(published, tmp_path / "model.pth") == published
    # A header of 65 bytes, and 12 of data
    header = b'{"weight":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}     '
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    converted = published_as(published, path)
    assert verify(converted, path) == "the header inside the file"
    assert record_path(path).read_text().endswith("  model.safetensors\n")
    assert verify(converted, path) == "SHA-256 as recorded"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"which .*model\.safetensors\.sha256"):
        verify(converted, path)
    record_path(path).unlink()
    with pytest.raises(CheckpointError, match="found 84 bytes, expected 85, as its header says"):
        verify(converted, path)

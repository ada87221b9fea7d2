"""Checkpoints: which there are, where their files lie, and whether a file is intact."""

import hashlib
import logging
import os
import re
import tomllib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from gamt.io.files import atomic_write
from gamt.segmenters.archives import ArchiveError, check_safetensors, check_zip, is_safetensors

logger = logging.getLogger("gamt")

FOLDER = Path("weights")
"""The folder of checkpoints in a source checkout, and in any folder that one works in."""

MANIFEST = "manifest.toml"

SAFETENSORS = ".safetensors"
"""Suffix of files that hold nothing but weights, in place of the publisher's pickles."""


class CheckpointError(ValueError):
    """A checkpoint that doesn't exist, isn't where it is looked for, or isn't intact."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One entry of the manifest.

    Attributes:
        name: the segmenter that loads it.
        file: name of the file.
        url: where its publisher offers it.
        licence: of the weights.
        citation: the publication to cite.
        description: what it is, in one line.
        size: in bytes; None where nobody has published it.
        approximate_size: in bytes, as users tell it; None where the size is known.
        sha256: in lower-case hexadecimal digits; None likewise.
    """

    name: str
    file: str
    url: str
    licence: str
    citation: str
    description: str
    size: int | None = None
    sha256: str | None = None
    approximate_size: int | None = None


def manifest() -> Traversable:
    """Returns the manifest's file: part of an installed package, or of the source checkout."""
    packaged = files("gamt") / MANIFEST
    return packaged if packaged.is_file() else Path(__file__).parents[3] / FOLDER / MANIFEST


def read_manifest() -> dict[str, Checkpoint]:
    """Returns all checkpoints by name."""
    tables = tomllib.loads(manifest().read_text(encoding="utf-8"))
    return {name: Checkpoint(name, **table) for name, table in tables.items()}


def select(names: Sequence[str]) -> list[Checkpoint]:
    """Returns the checkpoints of these names.

    Raises:
        CheckpointError: there is none of that name.
    """
    known = read_manifest()
    for name in names:
        if name not in known:
            raise CheckpointError(
                f"no checkpoint is named {name!r}; expected one of {', '.join(known)}"
            )
    return [known[name] for name in names]


def find(name: str, weights: str | os.PathLike[str] | None = None) -> Path:
    """Returns the file to load.

    Args:
        name: of the checkpoint.
        weights: the file that the user chose; None looks for the manifest's file in the folder of
            the variable GAMT_WEIGHTS_DIR, then in ``weights`` of the working folder, then in the
            user's cache folder. In each of them a file of the same name that ends in
            ``.safetensors`` goes before it.

    Raises:
        CheckpointError: there is no such file; the message has the command that gets it.
    """
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint file")
        return path
    (checkpoint,) = select([name])
    found = locate(checkpoint)
    if found is None:
        places = ", ".join(map(str, _folders()))
        raise CheckpointError(
            f"{name} needs the checkpoint {checkpoint.file}, found in none of {places}; "
            f"this gets it: gamt weights fetch {name}"
        )
    return found


def locate(checkpoint: Checkpoint) -> Path | None:
    """Returns where the file of a checkpoint lies, or None; see `find`."""
    published = [folder / checkpoint.file for folder in _folders()]
    paths = [one for path in published for one in (path.with_suffix(SAFETENSORS), path)]
    return next((path for path in paths if path.is_file()), None)


def published_as(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Returns what is known of a file that `locate` found.

    Size and SHA-256 are those of the publisher's file; of one that was converted from it, nothing
    is published.
    """
    if path.suffix != SAFETENSORS:
        return checkpoint
    return replace(checkpoint, file=path.name, size=None, approximate_size=None, sha256=None)


def fetch_folder() -> Path:
    """Returns where fetched checkpoints go unless the user says otherwise.

    That is the folder of the variable GAMT_WEIGHTS_DIR, or else ``weights`` of a source checkout
    that one works in, or else the user's cache folder.
    """
    named = os.environ.get("GAMT_WEIGHTS_DIR")
    if named:
        return Path(named)
    return FOLDER if (FOLDER / MANIFEST).is_file() else _cache_folder()


def verify(checkpoint: Checkpoint, path: Path, record: Path | None = None) -> str:
    """Checks that a file is what was published.

    Where no SHA-256 is published, the file's own checksums are checked once (torch's checkpoints
    are zip files; those of safetensors have none), and its SHA-256 is recorded; from then on that
    is what it must have.

    Args:
        checkpoint: what the file should be.
        path: the file.
        record: where the SHA-256 is recorded, in the format of ``sha256sum``; None stands for
            `path` with the suffix ``.sha256`` added.

    Returns:
        What vouches for the file, in a few words.

    Raises:
        CheckpointError: it is something else, or damaged. The message doesn't name the file.
        OSError: it can't be read.
    """
    size = path.stat().st_size
    if checkpoint.size not in (None, size):
        raise CheckpointError(f"found {size} bytes, expected {checkpoint.size}")
    record = record or record_path(path)
    recorded = _read_record(record)
    evidence = ""
    if checkpoint.sha256 is None and recorded is None:
        evidence = _check_content(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if checkpoint.sha256 is not None:
        if digest != checkpoint.sha256:
            raise CheckpointError(f"found SHA-256 {digest}, expected {checkpoint.sha256}")
        return "SHA-256 as published"
    if recorded is not None:
        if digest != recorded:
            raise CheckpointError(
                f"found SHA-256 {digest}, expected {recorded}, which {record} says it once had "
                "(remove that file if the publisher has replaced the checkpoint since)"
            )
        return "SHA-256 as recorded"
    _write_record(record, digest, checkpoint.file)
    return evidence


def record_path(path: Path) -> Path:
    """Returns where the SHA-256 of a checkpoint is recorded if its publisher doesn't say it."""
    return path.with_name(f"{path.name}.sha256")


def _folders() -> list[Path]:
    named = os.environ.get("GAMT_WEIGHTS_DIR")
    return [*([Path(named)] if named else []), FOLDER.absolute(), _cache_folder()]


def _cache_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("gamt", appauthor=False) / "weights"


def _read_record(record: Path) -> str | None:
    try:
        found = re.match(r"[0-9a-f]{64}\b", record.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    return found and found.group()


def _write_record(record: Path, digest: str, name: str) -> None:
    try:
        with atomic_write(record) as file:
            file.write(f"{digest}  {name}\n".encode())
    except OSError as error:  # a folder for reading alone; the checkpoint is no worse for it
        logger.warning("%s: %s, so the SHA-256 isn't recorded", record, error.strerror)


def _check_content(path: Path) -> str:
    """Checks a file by what it says of itself; returns what that is."""
    if is_safetensors(path):
        try:
            check_safetensors(path)
        except ArchiveError as error:
            raise CheckpointError(str(error)) from error
        return "the header inside the file"
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        # Which of them depends on the damaged byte.
        raise CheckpointError(f"no torch checkpoint, or a damaged one: {error}") from error
    if damaged is not None:
        raise CheckpointError(f"{damaged} inside the file is damaged")
    return "checksums inside the file"

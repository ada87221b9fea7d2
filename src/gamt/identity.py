"""Which code and which model make a result: for records, and for workers that have to agree."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gamt
from gamt.segmenters import find_files

MODEL_PACKAGES = ("segment-anything", "timm", "torch", "transformers")
"""Distributions that compute gamt's networks, whose versions belong to its identity."""


@cache
def identify_code() -> str:
    """Returns this package's version, and a part of the SHA-256 of its code.

    It is that of the first call: a process goes on with the code that it has loaded, when the files
    are others by now.
    """
    code = hash_files(sorted(Path(gamt.__file__).parent.rglob("*.py")))
    return f"gamt {gamt.__version__} ({code})"


def identify_model(name: str, weights: str | None = None) -> list[str]:
    """Returns a part of the SHA-256 of a network's files, and the versions of what computes it.

    Args:
        name: of the segmenter, as for `gamt.segmenters.load`.
        weights: likewise.

    Returns:
        Nothing of a segmenter that has no files.

    Raises:
        SegmenterError: a package is missing.
        CheckpointError: a file is missing.
    """
    files = find_files(name, weights)
    return [f"({hash_files(files)})", *list_versions(MODEL_PACKAGES)] if files else []


def list_versions(distributions: Iterable[str]) -> list[str]:
    """Returns the names and versions of those that are installed."""
    versions = []
    for distribution in distributions:
        with suppress(PackageNotFoundError):
            versions.append(f"{distribution} {version(distribution)}")
    return versions


def hash_files(paths: Iterable[Path]) -> str:
    """Returns a part of the SHA-256 of files, which may be large, in their order."""
    content = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:12]

"""Runs of a method in the fixture `folder`, and what they print."""

from pathlib import Path

from evaluation.methods import ParsedMethod


def run(parsed: ParsedMethod, folder: Path) -> str | None:
    return parsed.method.run(folder, folder.parent / "log.txt", lambda: False).failure


def log(folder: Path) -> str:
    return (folder.parent / "log.txt").read_text()

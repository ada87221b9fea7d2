"""What the documents promise has the tests that they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

NAMED = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")


def rows(text: str, heading: str) -> list[list[str]]:
    """Returns the cells of all tables below a heading, but for their heads."""
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (lines,) = (part.splitlines() for part in section if part.startswith(f"{heading}\n"))
    tables = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line
    ]
    heads = {i for i, cells in enumerate(tables) if set(cells[0]) == {"-"}}
    return [cells for i, cells in enumerate(tables) if not {i, i + 1} & heads]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    missing = [
        f"{path}::{name}"
        for path, name in NAMED.findall(document.read_text(encoding="utf-8"))
        if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_line_of_what_happens_when_has_its_tests() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    security = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    promised = [cells[0] for cells in rows(readme, "What happens when")]
    shown = {cells[0]: cells[1] for cells in rows(security, "What happens when")}
    assert len(promised) > 15
    assert promised == list(shown)
    assert all(NAMED.search(tests) for tests in shown.values())


def test_every_threat_has_its_tests() -> None:
    security = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    threats = rows(security, "Threats")
    assert len(threats) > 15
    assert all(NAMED.search(cells[-1]) for cells in threats)


@pytest.mark.parametrize("folder", ["src/gamt", "evaluation", "benchmarks"])
def test_the_readme_lists_every_module(folder: str) -> None:
    """A module is listed by its own name, or by that of a folder such as `io/formats/`."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## How it works")[2]
    listed = set(re.findall(r"`(?:\w+/)*(\w+(?:\.py|/))`", section))
    rooms = {"cli", "server", "annotation", "explain", "lifting", "volume", "segmenters"}
    rooms |= {"io", "cluster"}
    folders = listed - {f"{room}/" for room in rooms}
    modules = [path for path in (ROOT / folder).rglob("[!_]*.py") if "page" not in path.parts]
    assert len(modules) > 15
    assert [
        str(path.relative_to(ROOT))
        for path in modules
        if path.name not in listed and f"{path.parent.name}/" not in folders
    ] == []

"""What the Python package contains of the page of `gamt annotate`."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = Path("src/gamt/server/page")


def build_wheel(tree: Path) -> set[str]:
    """Builds the wheel of a source tree; returns the names of the files in it."""
    uv = shutil.which("uv") or shutil.which(ROOT / ".tools" / "bin" / "uv")
    if uv is None:
        pytest.skip("needs uv, as make installs it")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tree / "out", tree], check=True)
    (wheel,) = (tree / "out").glob("gamt-*.whl")
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


@pytest.mark.slow
def test_the_wheel_has_the_page_as_it_is_built_and_nothing_that_it_is_built_from(
    tmp_path: Path,
) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "weights").mkdir()
    shutil.copy(ROOT / "weights" / "manifest.toml", tmp_path / "weights")
    (tmp_path / "evaluation").mkdir()
    unwanted = shutil.ignore_patterns("node_modules", "dist", "__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=unwanted)
    (tmp_path / PAGE / "node_modules" / "some").mkdir(parents=True)
    (tmp_path / PAGE / "node_modules" / "some" / "index.js").touch()

    without = build_wheel(tmp_path)
    assert "gamt/server/app.py" in without
    assert not {name for name in without if name.startswith("gamt/server/page/")}

    (tmp_path / PAGE / "dist").mkdir()
    for name in ("index.html", "main.js", "style.css", "THIRD_PARTY_NOTICES.txt"):
        (tmp_path / PAGE / "dist" / name).touch()
    assert build_wheel(tmp_path) - without == {
        "gamt/server/page/dist/index.html",
        "gamt/server/page/dist/main.js",
        "gamt/server/page/dist/style.css",
        "gamt/server/page/dist/THIRD_PARTY_NOTICES.txt",
    }

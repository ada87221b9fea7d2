"""The command line as a whole: its start, its help, and what it does with errors."""

import subprocess
import sys
from pathlib import Path

import pytest

import gamt
from gamt.cli.app import main
from gamt.settings import PRESETS
from tests.test_predict import save


def python(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import gamt",
        "from gamt.cli.app import main\ntry: main(['predict', '--help'])\nexcept SystemExit: 0",
    ],
    ids=["import", "help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    heavy = ["torch", "numpy", "scipy", "nibabel", "cc3d", "rich", "gamt.lifting.pipeline"]
    heavy += ["filelock", "platformdirs", "http.client", "jinja2", "PIL"]
    check = f"{code}\nimport sys\nprint([name for name in {heavy} if name in sys.modules])"
    assert python(check).splitlines()[-1] == "[]"


def test_a_prediction_with_the_embedded_segmenter_needs_no_torch(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    arguments = ["predict", str(tmp_path / "in"), str(tmp_path / "out")]
    run = f"try: main({arguments})\nexcept SystemExit as end: print(end)"
    code = f"from gamt.cli.app import main\n{run}"
    assert python(f"{code}\nimport sys\nprint('torch' in sys.modules)").split() == ["0", "False"]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"gamt {gamt.__version__}\n"


def test_the_package_has_no_other_attributes_on_demand() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        gamt.nonsense  # noqa: B018


@pytest.mark.parametrize(
    "command",
    [
        *([], ["predict"], ["segment"], ["convert"], ["explain"]),
        *(["weights", "list"], ["weights", "fetch"], ["weights", "verify"]),
    ],
    ids=" ".join,
)
def test_help_shows_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    out = capsys.readouterr().out
    assert f"  gamt {' '.join(command)}" in out
    assert max(map(len, out.splitlines())) <= 100


def test_help_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in PRESETS)


def test_the_module_is_the_command_line_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gamt", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"gamt {gamt.__version__}\n"

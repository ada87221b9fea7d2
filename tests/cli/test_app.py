"""The command line as a whole: its start, its help, and what it does with errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gamt
from gamt.cli.app import main
from gamt.settings import PRESETS
from tests.cli.calls import THRESHOLD, Run
from tests.cli.scans import save_scan
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
    arguments = ["predict", str(tmp_path / "in"), str(tmp_path / "out"), "--no-budget"]
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


@pytest.mark.parametrize("command", [[], ["weights"]], ids=["gamt", "gamt weights"])
def test_a_group_of_commands_alone_shows_its_help(command: list[str], show: Run) -> None:
    status, out = show(*command)
    assert status == 0
    assert out.startswith(f"Usage: {' '.join(['gamt', *command])} [OPTIONS] COMMAND")


def test_quiet_may_stand_before_the_command(tmp_path: Path, run: Run) -> None:
    path = save(tmp_path / "in" / "a.npz")
    assert run("predict", path, tmp_path / "out", *THRESHOLD)[1].startswith("INFO")
    assert run("-q", "predict", path, tmp_path / "out", *THRESHOLD) == (0, "")
    assert run("-q", "weights", "verify", "nonsense")[0] == 2
    # What is said last counts.
    assert run("-q", "predict", path, tmp_path / "out", *THRESHOLD, "-v")[1].startswith("INFO")


def test_ctrl_c_is_one_line_and_status_130(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.test_predict.ThresholdSegmenter.encode", interrupt)
    save(tmp_path / "in" / "a.npz")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert (status, log) == (130, "gamt: interrupted\n")
    assert not list((tmp_path / "out").iterdir())
    arguments = ("segment", save_scan(tmp_path), "-o", tmp_path / "out.nii", "--click", "10,6,5")
    assert run(*arguments, *THRESHOLD) == (130, "gamt: interrupted\n")
    assert not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("gamt wei", "weights"),
        ("gamt predict --preset co", "coreset"),
        ("gamt segment --segmenter sam_m", "sam_med2d"),
        ("gamt weights fetch sam_vit_l", "sam_vit_l"),
    ],
)
def test_a_shell_completes_commands_and_what_has_names(words: str, expected: str) -> None:
    asked = {"_GAMT_COMPLETE": "complete_bash", "COMP_WORDS": words}
    done = subprocess.run(
        [sys.executable, "-c", "from gamt.cli.app import main; main()"],
        env=os.environ | asked | {"COMP_CWORD": str(len(words.split()) - 1)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [expected]


def test_ctrl_c_while_the_module_is_imported_is_one_line_and_status_130(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")  # found before the real one
    done = subprocess.run(
        [sys.executable, "-m", "gamt", "--version"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "gamt: interrupted\n")

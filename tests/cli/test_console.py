"""What goes to the terminal: text of others is shown, never obeyed, and its loss stops nothing."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pytest

from gamt.cli.console import LogFormatter, echo
from gamt.segmenters.base import Embedding
from tests.cli.calls import ROOT, THRESHOLD, Run, one_line
from tests.cli.scans import save_scan
from tests.test_predict import ThresholdSegmenter, save

COLOUR = "\x1b[31m"
NOT_UTF8 = os.fsdecode(b"\xff")


def test_a_line_is_printed_as_it_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"{COLOUR}{NOT_UTF8}")
    echo("wrong\n", err=True)
    assert capsys.readouterr() == ("\\x1b[31m\\xff\n", "wrong\\n\n")


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("gamt", logging.ERROR, "file.py", 1, message, (), info)


def test_a_logged_message_is_one_line_and_its_traceback_harmless() -> None:
    formatter = LogFormatter("%(levelname)s %(message)s")
    assert formatter.format(record("a\nERROR b")) == "ERROR a\\nERROR b"
    error = ValueError(f"{COLOUR}x")
    text = formatter.format(record("failed", error))
    assert text.splitlines() == ["ERROR failed", "ValueError: \\x1b[31mx"]


def test_the_name_of_a_case_never_reaches_the_terminal_raw(tmp_path: Path) -> None:
    save(tmp_path / "in" / f"a{COLOUR}.npz")
    (tmp_path / "in" / f"b{COLOUR}.npz").write_bytes(b"broken")
    shown = subprocess.run(
        [sys.executable, "-m", "gamt", "predict", tmp_path / "in", tmp_path / "out", *THRESHOLD],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "INFO a\\x1b[31m: " in shown.stderr
    assert "ERROR b\\x1b[31m.npz: " in shown.stderr
    assert "\x1b" not in shown.stderr
    assert (tmp_path / "out" / f"a{COLOUR}.npz").is_file()


def test_errors_never_show_a_name_raw(run: Run) -> None:
    status, log = run("predict", f"{COLOUR}none", "out")
    assert status == 1
    assert one_line(log)
    assert "/\\x1b[31mnone: " in log  # the whole path
    for arguments in (["predict", f"--{COLOUR}"], [f"{COLOUR}none"], ["predict", "a", "b", COLOUR]):
        status, log = run(*arguments)
        assert status == 2
        assert "\x1b" not in log


@pytest.mark.parametrize("command", ["predict", "segment", "convert", "explain"])
def test_a_name_that_is_not_utf_8_stops_no_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = f"a{NOT_UTF8}"
    case = save(tmp_path / f"{odd}.npz")
    scan = save_scan(tmp_path).rename(tmp_path / f"{odd}.nii.gz")
    out = tmp_path / "out"
    out.mkdir()
    calls: dict[str, tuple[list[str | Path], list[str]]] = {
        "predict": ([case, out, *THRESHOLD, "--no-budget"], [f"{odd}.npz"]),
        "segment": (
            [scan, "-o", out / f"{odd}.nii", "--click", "10,6,5", *THRESHOLD],
            [f"{odd}.nii", f"{odd}.prompts.json"],
        ),
        "convert": ([scan, out / f"{odd}.npz", "--box", "2,2,2,8,8,8"], [f"{odd}.npz"]),
        "explain": (
            [case, "--out", out / f"{odd}.html", *THRESHOLD, "--no-budget"],
            [f"{odd}.html"],
        ),
    }
    arguments, results = calls[command]
    done = subprocess.run(
        [sys.executable, "-m", "gamt", command, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == results
    assert "Traceback" not in done.stderr


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gamt", "weights", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == "gamt: standard output: No space left on device\n"
    assert done.returncode == 1


@contextmanager
def unread_pipe() -> Iterator[BinaryIO]:
    """Gives the writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    # Unbuffered: closing it writes nothing.
    with open(writer, "wb", buffering=0) as file:  # noqa: PTH123
        yield file


def test_results_that_nobody_reads_end_the_command_without_a_traceback() -> None:
    with unread_pipe() as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "gamt", "weights", "list"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("reader", ["nobody", "a full disk"])
def test_a_log_that_cannot_be_written_costs_no_case(reader: str, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    save(tmp_path / "in" / "b.npz")
    with unread_pipe() if reader == "nobody" else Path("/dev/full").open("wb") as log:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "gamt",
                "predict",
                tmp_path / "in",
                tmp_path / "out",
                *THRESHOLD,
                "--no-budget",
            ],
            cwd=ROOT,
            stderr=log,
            check=False,
        )
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_no_case_and_no_library_prints_into_an_output(
    closed: str, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "a.npz")
    segmenter = "tests.cli.test_console:PrintingSegmenter"
    command = f"{sys.executable} -m gamt predict {tmp_path}/in {tmp_path}/out"
    done = subprocess.run(
        ["sh", "-c", f"{command} --no-budget --segmenter {segmenter} {closed}"],
        cwd=ROOT,
        check=False,
    )
    with np.load(tmp_path / "out" / "a.npz") as output:
        assert (output["status"], done.returncode) == ("complete", 0)
    wrong = subprocess.run(["sh", "-c", f"{command} --nonsense {closed}"], cwd=ROOT, check=False)
    assert wrong.returncode == 2


class PrintingSegmenter(ThresholdSegmenter):
    """Prints as libraries do that are no Python."""

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        os.write(2, b"warning")
        return super().encode(slices)

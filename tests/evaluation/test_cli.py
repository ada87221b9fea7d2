"""The evaluator's command line, as users call it."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from evaluation.cli import main
from tests.evaluation.example import make_record, write_team
from tests.evaluation.hub_server import Dataset, Hub
from tests.evaluation.test_run import TOY, write_case

COMMANDS = ("run", "plan", "merge", "leaderboard", "report", "fetch", "prepare")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Two cases."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for number, name in enumerate(("CT_a", "MR_b")):
        write_case(folder / f"{name}.npz", number)
    return folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub on this machine with a set of one case."""
    content = {
        "3D_val_npz/CT_a.npz": b"case",
        "3D_val_npz/CT_text_only.npz": b"another",
        "3D_val_gt/3D_val_gt_interactive/CT_a.npz": b"truth",
    }
    with Hub(Dataset(content)) as one:
        yield one


def fetch(hub: Hub, to: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Fetches in a process of its own: the library reads the hub's URL when it is imported."""
    words = [sys.executable, "-m", "evaluation", "fetch", "--repository", hub.dataset.name]
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": "none", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [*words, "--to", to, *options],
        env=env,
        input="n\n",
        capture_output=True,
        text=True,
        check=False,
    )


def call(*arguments: object) -> int:
    """Returns the exit status of a command."""
    with pytest.raises(SystemExit) as exit_:
        main([os.fspath(one) if isinstance(one, Path) else str(one) for one in arguments])
    return int(exit_.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    assert command in capsys.readouterr().out
    assert call(command, "--help") == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"gamt-evaluate {command}" in shown


@pytest.mark.slow
def test_a_plan_ends_with_a_command_that_does_what_is_left(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_case(cases / "US c.npz", 3)
    arguments = ("--cases", cases, "--method", TOY, "--out", tmp_path / "out", "--name", "team")
    options = ("--sample", "1", "--workers", "3", "--workers", "2", "--run-limit", "30")
    assert call("plan", *arguments, *options) == 0
    *table, command = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["cases", "3:", "1", "done,", "2", "to", "do"]
    assert [line[:16].strip() for line in table if "worker" in line[:16]] == [
        "with 3 workers",
        "with 2 workers",
    ]
    words = shlex.split(command)
    assert words[1:4] == ["-m", "evaluation", "run"]
    assert words[-2:] == ["--workers", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("3 of 3 cases")


@pytest.mark.slow
def test_a_plan_hands_on_where_to_evaluate(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--cases", cases, "--method", TOY, "--out", tmp_path / "out", "--name", "team")
    assert call("run", *arguments) == 0
    shutil.copy(next(cases.iterdir()), cases / "CT_more.npz")
    capsys.readouterr()
    slurm = ("--cluster", "slurm", "--cluster-option", "queue=long one", "--gpu", "--collect")
    assert call("plan", *arguments, *slurm, "--workers", "4", "--sample", "0") == 0
    shown = capsys.readouterr().out
    assert " s of one GPU" in shown
    expected = "--workers 4 --cluster slurm --cluster-option 'queue=long one' --gpu --collect"
    assert shown.rstrip().endswith(expected)


def test_a_plan_without_a_measured_case_says_what_is_missing(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--cases", cases, "--method", TOY, "--out", tmp_path / "out")
    assert call("plan", *arguments, "--sample", "0") == 1
    assert "no case is measured; --sample N measures N of them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_plan_beside_shards_that_are_not_merged_is_refused(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--cases", cases, "--method", TOY, "--out", tmp_path / "out", "--name", "team")
    assert call("run", *arguments, "--shard", "1/2") == 0
    assert call("plan", *arguments, "--sample", "0") == 2
    assert "shard 1/2 holds results that aren't merged" in capsys.readouterr().err


def test_a_plan_of_another_method_than_the_results_is_refused(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_team(tmp_path / "out" / "team", [make_record("CT_a.npz", [0.5] * 6)], method="other")
    arguments = ("--cases", cases, "--method", TOY, "--out", tmp_path / "out", "--name", "team")
    assert call("plan", *arguments) == 2
    assert "holds results with method 'other'" in capsys.readouterr().err


@pytest.mark.slow
def test_shards_are_merged_and_what_is_missing_is_named(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ("--cases", cases, "--method", TOY, "--out", out, "--name", "team")
    assert call("run", *arguments, "--shard", "1/2") == 0
    assert "1 of 1 cases" in capsys.readouterr().out
    assert call("merge", out) == 1
    shown = capsys.readouterr()
    assert "1 of 2 cases, 1 moved" in shown.out
    assert "WARNING shard 2/2: 1 cases missing" in shown.err
    assert call("run", *arguments, "--shard", "1/2") == 0
    assert "all cases of shard 1/2 are done already" in capsys.readouterr().out
    assert call("run", *arguments, "--shard", "2/2") == 0
    assert call("merge", out) == 0
    assert list(pd.read_csv(out / "team" / "team_metrics.csv")["CaseName"]) == [
        "CT_a.npz",
        "MR_b.npz",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shard", "3/2"), "found the shard '3/2', expected I/N"),
        (("--shard", "1/2", "--scheduler", "tcp://h:1"), "found --shard with --scheduler or"),
        (("--shard", "1/2", "--cluster", "slurm"), "found --shard with --scheduler or --cluster"),
    ],
)
def test_shards_that_make_no_sense_are_refused(
    options: tuple[str, ...],
    message: str,
    cases: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("--cases", cases, "--method", TOY, "--out", tmp_path / "out")
    assert call("run", *arguments, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_merging_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("merge", tmp_path) == 2
    assert "no evaluation is here" in capsys.readouterr().err


def test_the_command_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert capsys.readouterr().out.startswith("Usage: gamt-evaluate [OPTIONS] COMMAND")


def test_quiet_may_stand_before_the_command(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("run", "--cases", cases, "--method", "command:true", "--out", tmp_path / "out")
    assert call("-q", *arguments) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("ERROR command:true never wrote a prediction in time")
    assert "WARNING" not in shown


def test_a_shell_completes_commands() -> None:
    asked = {"_GAMT_EVALUATE_COMPLETE": "complete_bash", "COMP_WORDS": "gamt-evaluate lea"}
    done = subprocess.run(
        [sys.executable, "-c", "from evaluation.cli import main; main()"],
        env=os.environ | asked | {"COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["leaderboard"]


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("pandas", ("run", "--cases", ".", "--method", "gamt", "--out", "out")),
        ("jinja2", ("report", "out")),
        ("huggingface_hub", ("fetch",)),
    ],
)
def test_a_package_that_is_missing_is_an_error_of_one_line_that_names_the_extra(
    package: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    script = (
        f"import sys; sys.modules['{package}'] = None\n"
        f"from evaluation.cli import main; main({arguments})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"gamt-evaluate: the package {package} isn't installed")
    assert "pip install 'gamt[evaluation]'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_from_cases_to_leaderboard_and_report(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call("run", "--cases", cases, "--method", TOY, "--out", out, "--name", "toy") == 0
    assert f"2 of 2 cases: {out / 'toy' / 'toy_metrics.csv'}" in capsys.readouterr().out
    assert call("leaderboard", out) == 0
    shown = capsys.readouterr().out
    assert "ublished, challenge validation set" in shown
    board = pd.read_csv(out / "leaderboard.csv")
    table = pd.read_csv(out / "toy" / "toy_metrics.csv")
    for modality, dsc in zip(("CT", "MR"), table["DSC_Final"], strict=True):
        (row,) = board[board["Modality"] == modality].to_dict("records")
        assert (row["Team"], row["Cases"]) == ("toy", 1)
        assert row["DSC_Final"] == pytest.approx(dsc)
    assert (out / "leaderboard.md").read_text().startswith("# Leaderboard")
    assert call("report", out) == 0
    assert (out / "report.html").read_text().count("CT_a") > 1


@pytest.mark.slow
def test_restart_discards_what_is_there(cases: Path, tmp_path: Path) -> None:
    arguments = ("run", "--cases", cases, "--out", tmp_path / "out", "--name", "toy", "--method")
    assert call(*arguments, "command:true") == 1
    assert call(*arguments, TOY) == 2
    assert call(*arguments, TOY, "--restart") == 0
    assert len(pd.read_csv(tmp_path / "out" / "toy" / "toy_metrics.csv")) == 2


def test_runs_that_wrote_nothing_or_failed_are_told(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--method", "command:exit 7", "--out", tmp_path / "out")
    assert call("run", "--cases", cases, *arguments) == 1
    errors = capsys.readouterr().err
    log = tmp_path / "out" / "command" / "logs" / "CT_a.txt"
    trouble = f"wrote nothing in time, so zeros count, exit status 7; see {log}"
    assert f"WARNING CT_a.npz: runs 1, 2, 3, 4, 5, 6: {trouble}" in errors
    assert "ERROR command:exit 7 never wrote a prediction in time" in errors
    # As the official script: no row.
    assert len(pd.read_csv(tmp_path / "out" / "command" / "command_metrics.csv")) == 0


@pytest.mark.slow
def test_a_bad_case_makes_the_status_1(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cases / "CT_bad.npz").write_bytes(b"no zip")
    assert call("run", "--cases", cases, "--method", TOY, "--out", tmp_path / "out") == 1
    shown = capsys.readouterr()
    assert "ERROR CT_bad.npz: found no zip archive" in shown.err
    assert "2 of 3 cases" in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--cases", "missing", "--method", "gamt", "--out", "out"), "folder of cases"),
        (("run", "--cases", ".", "--method", "gamt", "--out", "out"), "no npz file"),
        (("run", "--cases", ".", "--method", "x", "--out", "out"), "found the method 'x'"),
        (
            ("run", "--cases", ".", "--method", "gamt", "--out", "out", "--name", "../x"),
            "--name '../x'",
        ),
        (("leaderboard", "missing"), "missing: no evaluation is here"),
        (("report", "missing"), "missing: no evaluation is here"),
        (("prepare", "missing", ".", "out", "--modality", "CT"), "expected a folder of images"),
    ],
)
def test_wrong_arguments_are_told_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("keep.npz", "keep.npz: expected a name that ends in .html"),
        ("missing/report.html", "missing"),
    ],
)
def test_a_report_replaces_no_other_file_and_makes_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    write_team(tmp_path / "out" / "team", [make_record("CT_a.npz", (0.5,) * 6)])
    (tmp_path / "keep.npz").write_text("mine")
    assert call("report", tmp_path / "out", "--to", tmp_path / name) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "keep.npz").read_text() == "mine"
    assert not (tmp_path / "missing").exists()


def test_fetch_shows_the_size_and_what_to_do_next(hub: Hub, tmp_path: Path) -> None:
    done = fetch(hub, tmp_path / "data", "--yes")
    assert done.returncode == 0
    assert "1 cases, 9 bytes; to fetch: 9 bytes" in done.stdout
    assert "1 more cases have no ground truth there" in done.stderr
    cases = tmp_path / "data" / "3D_val_npz"
    gts = tmp_path / "data" / "3D_val_gt" / "3D_val_gt_interactive"
    assert f"run --cases {cases} --gts {gts}" in done.stdout
    assert (cases / "CT_a.npz").read_bytes() == b"case"
    assert (gts / "CT_a.npz").read_bytes() == b"truth"


def test_fetch_asks_first(hub: Hub, tmp_path: Path) -> None:
    done = fetch(hub, tmp_path / "data")
    assert done.returncode == 1
    assert "Fetch them into" in done.stdout
    assert not (tmp_path / "data").exists()


def test_prepared_cases_can_be_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((14, 11, 6), np.uint8)
    labels[3:9, 2:8, 1:5] = 4
    for name, array in (("images", labels * 50), ("labels", labels)):
        (tmp_path / name).mkdir()
        image = nib.Nifti1Image(array, np.eye(4))  # type: ignore[no-untyped-call]
        nib.save(image, tmp_path / name / "one.nii.gz")
    (tmp_path / "images" / "two.nii.gz").write_bytes(b"no image")
    out = tmp_path / "cases"
    assert call("prepare", tmp_path / "images", tmp_path / "labels", out, "--modality", "MR") == 1
    shown = capsys.readouterr()
    assert f"1 of 2 cases: {out}" in shown.out
    assert "ERROR two.nii.gz" in shown.err
    assert call("run", "--cases", out, "--method", TOY, "--out", tmp_path / "out") == 0
    (row,) = pd.read_csv(tmp_path / "out" / "command" / "command_metrics.csv").to_dict("records")
    assert row["CaseName"] == "MR_one.npz"
    assert row["DSC_1"] > 0

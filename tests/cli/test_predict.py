"""``gamt predict``: folders of cases."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from gamt.io.case import write_case
from gamt.prompts import ClassPrompts, Click
from gamt.segmenters import Embedding
from tests.cli.calls import FAILING, ROOT, THRESHOLD, Run, on_terminal, one_line
from tests.cli.scans import save_scan
from tests.object_storage import ObjectStorage, proxy
from tests.test_predict import (
    BLOCK,
    SHAPE,
    ThresholdSegmenter,
    bright_block,
    save,
    save_unlucky,
    segmentation,
)


def test_predict_writes_a_segmentation_for_each_case(tmp_path: Path, run: Run) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert status == 0
    assert [line.split(":")[0] for line in log.splitlines()] == ["INFO a", "INFO b", "INFO 2 cases"]
    for name in ("a.npz", "b.npz"):
        labels = segmentation(tmp_path / "out" / name)
        assert labels[BLOCK].all()
        assert labels.sum() == labels[BLOCK].sum()


def test_predict_takes_a_single_file(tmp_path: Path, run: Run) -> None:
    path = save(tmp_path / "in" / "a.npz")
    assert run("predict", path, tmp_path / "out", *THRESHOLD)[0] == 0
    assert (tmp_path / "out" / "a.npz").is_file()


def test_one_case_without_an_output_makes_the_status_4(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "in" / "b.npz").write_bytes(b"no zip file")
    save_unlucky(tmp_path / "in" / "c.npz")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *FAILING)
    assert status == 4
    assert [line.split(":")[0] for line in log.splitlines()] == [
        "INFO a",
        "ERROR b.npz",
        "WARNING c",
        "ERROR 3 cases",
    ]
    assert log.endswith("ERROR 3 cases: 1 fine, 1 degraded, 1 failed\n")
    assert not (tmp_path / "out" / "b.npz").exists()


def test_one_degraded_case_makes_the_status_3(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz")
    save_unlucky(tmp_path / "in" / "c.npz")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *FAILING)
    assert status == 3
    assert "RuntimeError: no luck with this one" in log
    assert log.endswith("INFO 2 cases: 1 fine, 1 degraded, 0 failed\n")
    assert (tmp_path / "out" / "c.npz").is_file()


def test_an_empty_folder_makes_the_status_1(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    status, log = run("predict", tmp_path / "in", tmp_path / "out")
    assert status == 1
    assert "no npz file" in log


def test_missing_inputs_are_one_line(tmp_path: Path, run: Run) -> None:
    status, log = run("predict", tmp_path / "nowhere", tmp_path / "out")
    assert status == 1
    assert one_line(log)
    assert "nowhere" in log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--segmenter", "nonsense"], "nonsense"),
        (["--weights", "file.pth"], "weights"),
        (["--preset", "nonsense"], "default, all-data, coreset"),
        (["--set", "nonsense=1"], "range_percentile"),
        (["--set", "range_percentile=much"], "a number"),
        (["--set", "range_percentile"], "KEY=VALUE"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(
    options: Sequence[str], message: str, tmp_path: Path, run: Run
) -> None:
    save(tmp_path / "in" / "a.npz")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *options)
    assert status == 2
    assert one_line(log)
    assert message in log
    assert not (tmp_path / "out").exists()


def test_missing_arguments_are_status_2(run: Run) -> None:
    status, log = run("predict")
    assert status == 2
    assert "Missing argument 'INPUTS'" in log


def test_quiet_leaves_errors_alone_and_verbose_shows_tracebacks(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz")
    save_unlucky(tmp_path / "in" / "b.npz")
    (tmp_path / "in" / "c.npz").write_bytes(b"no zip file")
    arguments = ("predict", tmp_path / "in", tmp_path / "out", *FAILING)
    assert [line.split()[0] for line in run(*arguments, "--quiet")[1].splitlines()] == [
        "ERROR",
        "ERROR",
    ]
    assert "Traceback" not in run(*arguments)[1]
    assert "Traceback" in run(*arguments, "--verbose")[1]


def test_the_first_clock_begins_with_the_process(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "in" / "a.npz")
    monkeypatch.setattr("gamt.lifting.budget.process_start", lambda: -1e9)
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert status == 3
    assert "; class 1: cut short by the time limit, the prompts alone\n" in log
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD, "--no-budget")
    assert status == 0
    assert " s\n" in log


def test_a_terminal_shows_how_many_cases_are_done(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    shown = on_terminal("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert "1/1" in shown
    assert "INFO a: threshold" in shown


def test_predict_never_replaces_a_case_through_a_link(tmp_path: Path, run: Run) -> None:
    real = save(tmp_path / "real" / "a.npz")
    before = real.read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npz").symlink_to(real)
    status, log = run("predict", tmp_path / "in", tmp_path / "real", *THRESHOLD)
    assert (status, one_line(log)) == (1, True)
    assert "would replace the input" in log
    assert real.read_bytes() == before


def test_predict_warns_of_an_image_without_contrast(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz", np.full(SHAPE, 7, np.uint8))
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert status == 3
    assert "; class 1: nothing found by the segmenter\n" in log
    assert log.startswith("WARNING a: all voxels of the image are 7: nothing can be told apart\n")


def test_predict_warns_of_an_empty_result(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    prompts = ClassPrompts(1, clicks=(Click(1, 1, 1, positive=False),))
    write_case(tmp_path / "in" / "a.npz", bright_block(), (1, 1, 1), [prompts])
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert status == 3
    assert "; class 1: empty\nWARNING a: class 1: the segmentation is empty\n" in log


def test_resume_with_nothing_left_to_do_is_fine(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz")
    arguments = ("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD, "--resume")
    assert run(*arguments)[0] == 0
    assert run(*arguments) == (
        0,
        "INFO 1 of 1 cases have a segmentation already\n"
        "INFO 1 case: 0 fine, 0 degraded, 0 failed, 1 kept\n",
    )


# --- Object storage -------------------------------------------------------------------------------


def test_predict_reads_from_and_writes_to_object_storage(
    tmp_path: Path, run: Run, objects: ObjectStorage
) -> None:
    objects.put("in/a.npz", save(tmp_path / "in" / "a.npz").read_bytes())
    status, log = run("predict", "s3://scans/in", "s3://scans/out", *THRESHOLD)
    assert status == 0
    assert [line.split(":")[0] for line in log.splitlines()] == ["INFO a", "INFO 1 case"]
    (tmp_path / "a.npz").write_bytes(objects.get("out/a.npz"))
    assert segmentation(tmp_path / "a.npz")[BLOCK].all()
    objects.put("in/b.npz", b"no zip file")
    assert run("predict", "s3://scans/in", "s3://scans/out", *THRESHOLD)[0] == 4


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ("s3://elsewhere/in", "s3://scans/out", "s3://elsewhere/in: not found (The specified"),
        ("s3://scans/in", "s3://elsewhere/out", "s3://elsewhere/out: not found (The specified"),
        ("s3://scans/in", "s3://scans/in", "s3://scans/in: the segmentations would replace"),
        ("s3://scans/none", "s3://scans/out", "s3://scans/none: not found"),
        ("foo://scans/in", "s3://scans/out", "foo://scans/in: Protocol not known: foo"),
    ],
)
def test_storage_that_cannot_be_used_is_one_line_and_status_1(
    inputs: str, outputs: str, told: str, run: Run, objects: ObjectStorage
) -> None:
    objects.put("in/a.npz", b"whatever")
    status, log = run("predict", inputs, outputs, *THRESHOLD)
    assert (status, one_line(log)) == (1, True)
    assert log.startswith(f"gamt: {told}")


@pytest.mark.slow
def test_folders_of_this_machine_need_no_fsspec(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    arguments = ["predict", str(tmp_path / "in"), str(tmp_path / "out"), *THRESHOLD]
    code = (
        "import sys; sys.modules['fsspec'] = None\n"  # what can't be imported
        f"from gamt.cli.app import main; main({arguments})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert (tmp_path / "out" / "a.npz").is_file()


@pytest.mark.slow
def test_a_process_that_is_killed_as_it_puts_leaves_no_object(
    tmp_path: Path, objects: ObjectStorage
) -> None:
    save(tmp_path / "in" / "a.npz")
    reached, go_on = threading.Event(), threading.Event()

    def hold_the_end(request: bytes) -> int | None:
        """Holds what would make the segmentation appear, when all of it has been sent."""
        if not (request.startswith(b"POST /scans/out/a.npz") and b"uploadId=" in request):
            return None
        reached.set()
        go_on.wait(60)
        return 0

    with proxy(objects.address, hold_the_end) as address:
        command = ["predict", str(tmp_path / "in"), "s3://scans/out", *THRESHOLD]
        with subprocess.Popen(
            [sys.executable, "-m", "gamt", *command],
            cwd=ROOT,
            env=os.environ | {"AWS_ENDPOINT_URL": address},
        ) as process:
            assert reached.wait(60)
            process.kill()
        go_on.set()
    assert objects.list_keys() == []


# --- Workers --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_of_dask_write_what_one_process_does(tmp_path: Path, run: Run) -> None:
    from distributed import LocalCluster

    for name in ("a.npz", "b.npz", "c.npz"):
        save(tmp_path / "in" / name)
    save_unlucky(tmp_path / "in" / "d.npz")
    assert run("predict", tmp_path / "in", tmp_path / "one", *FAILING, "--no-budget")[0] == 3
    expected = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        for folder, options in (("shared", []), ("collected", ["--collect"])):
            arguments = ("predict", tmp_path / "in", tmp_path / folder, *FAILING, "--no-budget")
            where = ("--scheduler", cluster.scheduler_address, "--dashboard", *options)
            status, log = run(*arguments, *where)
            assert status == 3
            assert log.startswith("INFO Dask's dashboard: http://")
            assert log.endswith("\nINFO 4 cases: 3 fine, 1 degraded, 0 failed\n")
            found = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
            assert found == expected
            assert run(*arguments, *where, "--resume")[0] == 0


@pytest.mark.slow
def test_several_processes_are_a_single_option(tmp_path: Path, run: Run) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "c.npz").write_bytes(b"no zip file")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD, "--workers", "2")
    assert status == 4
    assert sorted(line.split(":")[0] for line in log.splitlines()) == [
        "ERROR 3 cases",
        "ERROR c.npz",
        "INFO a",
        "INFO b",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (["--scheduler", "tcp://127.0.0.1:9", "--cluster", "slurm"], 2, "both --scheduler and"),
        (["--cluster", "nonsense"], 2, "slurm"),
        (["--collect"], 2, "--collect without"),
        (["--workers", "100000000000"], 2, "equal to 10000"),
        (["--workers", "2", "--segmenter", "sam_vit_b", "--weights", "no.pth"], 2, "no.pth"),
    ],
)
def test_workers_that_cannot_be_had_are_one_line(
    options: list[str], status: int, told: str, tmp_path: Path, run: Run
) -> None:
    save(tmp_path / "in" / "a.npz")
    found, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD, *options)
    assert found == status
    assert told in log.splitlines()[-1]
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("missing", "options", "extra"),
    [
        ("distributed", ["--scheduler", "tcp://127.0.0.1:9"], "cluster"),
        ("dask_jobqueue", ["--cluster", "slurm"], "cluster"),
        ("dask_kubernetes", ["--cluster", "kubernetes"], "kubernetes"),
    ],
)
def test_a_package_of_clusters_that_is_missing_is_one_line(
    missing: str,
    options: list[str],
    extra: str,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    save(tmp_path / "in" / "a.npz")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD, *options)
    hint = (
        f"gamt: the package {missing} is missing: pip install 'gamt[{extra}]', "
        f"or '.[{extra}]' in a clone\n"
    )
    assert (status, log) == (1, hint)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "told"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "interrupted")]
)
def test_sigterm_ends_all_workers_with_143(
    number: signal.Signals, status: int, told: str, tmp_path: Path
) -> None:
    """And Ctrl-C with 130."""
    with start_predict(tmp_path, "SlowSegmenter", "--workers", "2") as process:
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    assert process.returncode == status
    assert told in log
    assert "Traceback" not in log
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
    assert not list((tmp_path / "out").iterdir())


# --- SIGTERM ------------------------------------------------------------------------------------


class SlowSegmenter(ThresholdSegmenter):
    """Says when it is asked, and takes a while."""

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        print("encoding", flush=True)
        time.sleep(0.3)
        return super().encode(slices)


class HangingSegmenter(ThresholdSegmenter):
    """Says when it is asked, and then is in one call for long, as of a network that hangs."""

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        print("encoding", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # the most there can be
        raise AssertionError


def start_predict(folder: Path, segmenter: str, *where: str) -> "subprocess.Popen[str]":
    """Starts a run over the cases a and b, and waits until its segmenter is asked."""
    for name in ("a.npz", "b.npz"):
        save(folder / "in" / name)
    options = ("--no-budget", "--segmenter", f"tests.cli.test_predict:{segmenter}", *where)
    process = subprocess.Popen(
        [sys.executable, "-m", "gamt", "predict", folder / "in", folder / "out", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "encoding\n"
    return process


def test_sigterm_finishes_the_case_at_hand_and_ends_with_143(tmp_path: Path) -> None:
    with start_predict(tmp_path, "SlowSegmenter") as process:
        process.terminate()
        asked, log = process.communicate(timeout=60)
    assert process.returncode == 143
    assert asked.count("encoding") <= 1  # of 25 slices that the case has; one may just have begun
    assert "asked to end: the case at hand is finished" in log
    assert "b.npz: 1 cases not begun" in log
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.npz"]
    assert segmentation(tmp_path / "out" / "a.npz")[5, 6, 10] == 1  # the box's middle
    with np.load(tmp_path / "out" / "a.npz") as file:
        assert "cut short" in str(file["status"])


def test_a_second_sigterm_ends_at_once_also_amid_a_call_of_the_segmenter(tmp_path: Path) -> None:
    with start_predict(tmp_path, "HangingSegmenter") as process:
        assert process.stderr is not None
        process.terminate()
        assert "asked to end" in process.stderr.readline()
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert not list((tmp_path / "out").iterdir())


def test_after_a_run_sigterm_means_what_it_did_before(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "in" / "a.npz")
    before = signal.getsignal(signal.SIGTERM)
    run("predict", tmp_path / "in", tmp_path / "out", *THRESHOLD)
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1


class LeavingSegmenter(ThresholdSegmenter):
    """Ends the program at each slice of one plane."""

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        if slices.shape[1:] == (7, 7):
            sys.exit(0)
        return super().encode(slices)


def test_a_segmenter_that_ends_the_program_costs_no_other_case(tmp_path: Path, run: Run) -> None:
    save_unlucky(tmp_path / "in" / "a.npz")
    save(tmp_path / "in" / "b.npz")
    segmenter = ("--segmenter", "tests.cli.test_predict:LeavingSegmenter")
    status, log = run("predict", tmp_path / "in", tmp_path / "out", *segmenter)
    assert status == 3
    assert "SystemExit: 0" in log
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "b.npz"]


class UnreadySegmenter(ThresholdSegmenter):
    """Ends the program when it is set up."""

    def __init__(self) -> None:
        sys.exit(0)


def test_a_segmenter_that_ends_the_program_when_it_is_set_up_is_one_line_and_status_2(
    tmp_path: Path, run: Run
) -> None:
    save(tmp_path / "in" / "a.npz")
    name = "tests.cli.test_predict:UnreadySegmenter"
    status, log = run("predict", tmp_path / "in", tmp_path / "out", "--segmenter", name)
    assert status == 2
    assert one_line(log)
    assert f"{name!r} can't be set up with no arguments: SystemExit: 0" in log


class MovingSegmenter(ThresholdSegmenter):
    """Changes the working directory, when it is set up and whenever it is asked."""

    def __init__(self) -> None:
        os.chdir("/")

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        os.chdir("/tmp")
        return super().encode(slices)


def test_a_segmenter_that_changes_the_working_directory_loses_nothing(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in" / "a.npz")
    segmenter = ("--segmenter", "tests.cli.test_predict:MovingSegmenter")
    status, log = run("predict", "in", "out", "--no-budget", *segmenter)
    assert status == 0, log
    os.chdir(tmp_path)
    assert segmentation(Path("out/a.npz")).any()
    scan = save_scan(tmp_path)
    status, log = run("segment", scan.name, "-o", "seg.nii.gz", "--click", "10,6,5", *segmenter)
    os.chdir(tmp_path)
    assert status in (0, 3), log
    assert sorted(one.name for one in Path().glob("seg.*")) == ["seg.nii.gz", "seg.prompts.json"]
    status, log = run("explain", "in/a.npz", "--out", "a.html", "--no-budget", *segmenter)
    os.chdir(tmp_path)
    assert status == 0, log
    assert Path("a.html").is_file()

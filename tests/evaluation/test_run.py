"""Folders of cases: durable results, resuming, refusing to mix, and being stopped at any moment."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from filelock import FileLock

from evaluation.index import read_index
from evaluation.leaderboard import write_leaderboard
from evaluation.methods import ParsedMethod, parse_method
from evaluation.records import COLUMNS, BusyError, CaseRecord, RecordError, TeamFolder
from evaluation.report import write_report
from evaluation.run import Progress, RunError, evaluate_folder, make_local_workers
from gamt.cluster.tasks import ClusterError, Task, Worker
from gamt.io.files import atomic_write
from tests.cluster.threads import Threads
from tests.evaluation.doubles import Deadly, Full, Nothing, Toy

TOY = f"command:{sys.executable} {Path(__file__).with_name('toy_method.py')}"
KILLS = 20


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Five small cases, one without boxes."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for number, modality in enumerate(("CT", "MR", "PET", "US", "Microscopy")):
        write_case(folder / f"{modality}_{number}.npz", number, boxed=modality != "Microscopy")
    return folder


def write_case(path: Path, number: int, boxed: bool = True) -> None:
    gts = np.zeros((6, 10 + number, 14), np.uint8)
    gts[1:5, 2:8, 3:9] = 1
    gts[2:4, 5:10, 10:13] = 2
    arrays: dict[str, Any] = {"imgs": gts * 100, "gts": gts, "spacing": np.array([2.0, 1.0, 0.8])}
    if boxed:
        keys = (
            "z_min",
            "z_max",
            "z_mid",
            "z_mid_x_min",
            "z_mid_x_max",
            "z_mid_y_min",
            "z_mid_y_max",
        )
        bounds = ((1, 4, 3, 3, 8, 2, 7), (2, 3, 3, 10, 12, 5, 9))
        arrays["boxes"] = np.array([dict(zip(keys, one, strict=True)) for one in bounds])
    np.savez_compressed(path, **arrays)


def evaluate(cases: Path, out: Path, spec: str = TOY, **options: Any) -> Progress:
    options = {"run_limit": 60.0, **options}
    # Threads spare the seconds that processes take to start.
    workers = options.pop("workers", None)
    make = Threads if workers is None else lambda: make_local_workers(workers)
    options.setdefault("make_workers", make)
    # In the worker's own process it gives the same, and spares the start of Python for every run.
    toy = ParsedMethod(Toy(), "toy", TOY)
    method = toy if spec == TOY else parse_method(spec, options["run_limit"])
    return evaluate_folder(
        cases, options.pop("gts", None), spec, method, TeamFolder(out), **options
    )


def scores(out: Path) -> pd.DataFrame:
    """The official table without its times."""
    table = pd.read_csv(out / f"{out.name}_metrics.csv")
    return table.drop(columns=[one for one in COLUMNS if "RunningTime" in one])


def command(cases: Path, out: Path, *options: str, spec: str = TOY) -> list[str]:
    words = ["run", "--cases", str(cases), "--method", spec, "--out", str(out), "--name", "team"]
    return [sys.executable, "-m", "evaluation", *words, *options]


def test_every_case_gets_a_row_in_the_order_of_names(cases: Path, tmp_path: Path) -> None:
    result = evaluate(cases, tmp_path / "team", workers=2)
    assert not result.failed
    names = sorted(path.name for path in cases.iterdir())
    assert [record.case for record in TeamFolder(tmp_path / "team").records()] == names
    table = pd.read_csv(tmp_path / "team" / "team_metrics.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table["CaseName"]) == names
    for name in names:
        with np.load(tmp_path / "team" / name) as file:
            assert set(file.files) == {"segs", "all_segs"}


def test_classes_have_a_row_for_each_interaction(cases: Path, tmp_path: Path) -> None:
    evaluate(cases, tmp_path / "team")
    classes = pd.read_csv(tmp_path / "team" / "classes.csv")
    # Four cases with six interactions and one with five, of two classes each.
    assert len(classes) == (4 * 6 + 5) * 2
    table = pd.read_csv(tmp_path / "team" / "team_metrics.csv").set_index("CaseName")
    means = classes.groupby(["CaseName", "Interaction"], as_index=False)["DSC"].mean()
    for case, number, dsc in means.itertuples(index=False):
        assert dsc == pytest.approx(table.loc[case, f"DSC_{number}"])


def test_the_same_again_does_only_what_is_missing(cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "team"
    evaluate(cases, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "records").iterdir()}
    (out / "records" / "PET_2.json").unlink()
    write_case(cases / "CT_9.npz", 9)
    result = evaluate(cases, out)
    assert result.done == 6
    changed = {
        path.name
        for path in (out / "records").iterdir()
        if path.stat().st_mtime_ns != before.get(path)
    }
    assert changed == {"PET_2.json", "CT_9.json"}
    assert len(scores(out)) == 6


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"spec": "command:true"}, "method"),
        ({"strict_time": True}, "strict_time"),
        ({"run_limit": 5.0}, "run_limit"),
        ({"gts": Path()}, "gts_folder"),
    ],
)
def test_results_of_other_settings_are_not_mixed_in(
    cases: Path, tmp_path: Path, changes: dict[str, Any], name: str
) -> None:
    evaluate(cases, tmp_path / "team")
    before = (tmp_path / "team" / "run.json").read_text()
    with pytest.raises(RunError, match=f"holds results with {name}"):
        evaluate(cases, tmp_path / "team", **changes)
    assert (tmp_path / "team" / "run.json").read_text() == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*.*")}


@pytest.mark.parametrize("below", [".", "cases"])
@pytest.mark.parametrize("restart", [False, True])
def test_predictions_never_replace_the_cases(tmp_path: Path, below: str, restart: bool) -> None:
    sources = tmp_path / "team" / below
    sources.mkdir(parents=True, exist_ok=True)
    write_case(sources / "CT_0.npz", 0)
    (tmp_path / "team" / "run.json").write_text("{}")
    before = contents(tmp_path)
    (tmp_path / "link").symlink_to(sources)
    with pytest.raises(RunError, match=r"link is or lies in this folder.*choose another --name"):
        evaluate(tmp_path / "link", tmp_path / "team", restart=restart)
    (tmp_path / "link").unlink()
    assert contents(tmp_path) == before


def test_predictions_never_replace_the_truth(cases: Path, tmp_path: Path) -> None:
    truth = tmp_path / "team" / "truth"
    truth.mkdir(parents=True)
    with pytest.raises(RunError, match=f"{truth} is or lies in this folder"):
        evaluate(cases, tmp_path / "team", gts=truth)
    assert list((tmp_path / "team").iterdir()) == [truth]


def test_results_may_lie_beside_the_cases(cases: Path) -> None:
    assert evaluate(cases, cases / "team").done == 5


def test_a_folder_of_something_else_is_refused_and_stays_as_it_is(
    cases: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "team" / "work" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(RunError, match=r"team: found work but no run\.json, expected an empty"):
        evaluate(cases, tmp_path / "team", restart=True)
    assert contents(tmp_path / "team") == {"work/thesis.txt": b"mine"}


def test_a_folder_with_nothing_but_a_lock_is_begun_in(cases: Path, tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / ".lock").touch()
    assert evaluate(cases, tmp_path / "team").done == 5


def test_a_run_of_other_settings_leaves_what_an_earlier_one_works_on(
    cases: Path, tmp_path: Path
) -> None:
    evaluate(cases, tmp_path / "team")
    (tmp_path / "team" / "work").mkdir()
    (tmp_path / "team" / "work" / "file.npz").touch()
    before = contents(tmp_path / "team")
    with pytest.raises(RunError, match="strict_time"):
        evaluate(cases, tmp_path / "team", strict_time=True)
    assert contents(tmp_path / "team") == before


def test_a_run_that_resumes_removes_what_a_killed_one_left_and_no_other_file(
    cases: Path, tmp_path: Path
) -> None:
    evaluate(cases, tmp_path / "team")
    left = tmp_path / "team" / "records" / f".{'0123456789abcdef' * 2}.partial"
    other = tmp_path / "team" / ".mine.partial"
    left.touch()
    other.touch()
    with atomic_write(tmp_path / "team" / "mine.txt") as file:  # by another process, say
        file.write(b"mine")
        evaluate(cases, tmp_path / "team")
    assert not left.exists()
    assert other.exists()
    assert (tmp_path / "team" / "mine.txt").exists()


def test_restart_removes_what_the_evaluator_wrote_and_nothing_else(
    cases: Path, tmp_path: Path
) -> None:
    team = tmp_path / "team"
    evaluate(cases, team)
    first = contents(team)
    (team / "notes.txt").write_text("mine")
    (team / "CT_mine.npz").write_bytes(b"mine")
    (cases / "MR_1.npz").unlink()
    evaluate(cases, team, restart=True, strict_time=True)
    assert [record.case for record in TeamFolder(team).records()] == [
        "CT_0.npz",
        "Microscopy_4.npz",
        "PET_2.npz",
        "US_3.npz",
    ]
    gone = {name for name in first if "MR_1" in name}
    assert {"MR_1.npz", "records/MR_1.json"} <= gone
    assert set(contents(team)) == (set(first) - gone) | {"notes.txt", "CT_mine.npz"}
    settings = json.loads((team / "run.json").read_text())
    assert (settings["strict_time"], len(settings["cases"])) == (True, 4)


def test_restart_leaves_the_results_of_a_run_that_is_at_work(cases: Path, tmp_path: Path) -> None:
    evaluate(cases, tmp_path / "team")
    before = contents(tmp_path / "team")
    with (
        FileLock(tmp_path / "team" / ".lock"),
        pytest.raises(BusyError, match="another evaluation is at work here"),
    ):
        evaluate(cases, tmp_path / "team", restart=True)
    assert contents(tmp_path / "team") == before


@pytest.mark.parametrize("key", ["method", "strict_time", "started", "cases"])
@pytest.mark.parametrize("restart", [False, True])
def test_settings_without_an_entry_are_named(
    cases: Path, tmp_path: Path, key: str, restart: bool
) -> None:
    evaluate(cases, tmp_path / "team")
    path = tmp_path / "team" / "run.json"
    settings = json.loads(path.read_text())
    del settings[key]
    path.write_text(json.dumps(settings))
    with pytest.raises(RecordError, match=f"{path}: found no '{key}'"):
        evaluate(cases, tmp_path / "team", restart=restart)


def test_a_case_that_changed_is_not_mixed_in(cases: Path, tmp_path: Path) -> None:
    evaluate(cases, tmp_path / "team")
    write_case(cases / "CT_0.npz", number=3)
    result = evaluate(cases, tmp_path / "team")
    assert list(result.failed) == ["CT_0.npz"]
    assert "another than the one that was evaluated" in result.failed["CT_0.npz"]


def test_a_bad_case_is_reported_and_tried_again_and_the_others_are_done(
    cases: Path, tmp_path: Path
) -> None:
    good = (cases / "CT_0.npz").read_bytes()
    (cases / "CT_0.npz").write_bytes(b"no zip")
    result = evaluate(cases, tmp_path / "team")
    assert list(result.failed) == ["CT_0.npz"]
    assert "CT_0.npz: found no zip archive" in result.failed["CT_0.npz"]
    assert result.done == 4
    assert TeamFolder(tmp_path / "team").missing() == ["CT_0.npz"]
    (cases / "CT_0.npz").write_bytes(good)
    assert evaluate(cases, tmp_path / "team").done == 5


def test_truth_is_found_by_name_in_its_own_folder(cases: Path, tmp_path: Path) -> None:
    evaluate(cases, tmp_path / "together")
    truth = tmp_path / "truth"
    truth.mkdir()
    for path in cases.iterdir():
        with np.load(path, allow_pickle=True) as file:
            arrays = {key: file[key] for key in file.files}
        np.savez_compressed(truth / path.name, gts=arrays.pop("gts"))
        np.savez_compressed(path, **arrays)
    (truth / "US_3.npz").unlink()
    result = evaluate(cases, tmp_path / "apart", gts=truth)
    assert list(result.failed) == ["US_3.npz"]
    pd.testing.assert_frame_equal(
        scores(tmp_path / "apart"),
        scores(tmp_path / "together").drop(index=4).reset_index(drop=True),
        check_exact=True,
    )


def test_a_folder_of_truth_that_is_not_there_is_an_error(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="elsewhere: no such folder, expected one of the cases' tr"):
        evaluate(cases, tmp_path / "team", gts=tmp_path / "elsewhere")
    assert not (tmp_path / "team").exists()


def test_strict_time_takes_the_scores_of_late_cases(cases: Path, tmp_path: Path) -> None:
    evaluate(cases, tmp_path / "team")
    record = TeamFolder(tmp_path / "team").records()[0]
    # Two classes: 180 s are allowed for six runs.
    runs = [replace(one, seconds=30.1) for one in record.interactions]
    late = replace(record, interactions=tuple(runs))
    assert late.late
    assert late.limit_seconds == 180
    assert late.row()["DSC_Final"] == record.row()["DSC_Final"] > 0
    strict = late.row(strict_time=True)
    assert {strict[name] for name in COLUMNS if name[:3] in ("DSC", "NSD")} == {0}
    assert strict["TotalRunningTime"] == late.seconds
    assert record.row(strict_time=True) == record.row()


def test_a_method_that_ends_its_process_fails_its_case_alone(cases: Path, tmp_path: Path) -> None:
    # `parse_method` can't make one: no method of ours does that but by running out of memory.
    method = ParsedMethod(Deadly("MR_1"), "deadly", "deadly")
    result = evaluate_folder(
        cases,
        None,
        "deadly",
        method,
        TeamFolder(tmp_path / "team"),
        make_workers=lambda: make_local_workers(2),
        run_limit=60,
    )
    assert list(result.failed) == ["MR_1.npz"]
    assert result.failed["MR_1.npz"].count("its process was ended by SIGKILL") == 2
    assert result.done == 4


@pytest.fixture
def toy() -> ParsedMethod:
    """The toy method, in the worker's own process."""
    return ParsedMethod(Toy(), "toy", "toy")


def evaluate_on(workers: Threads, cases: Path, out: Path, method: ParsedMethod) -> Progress:
    return evaluate_folder(
        cases, None, "toy", method, TeamFolder(out), run_limit=60, make_workers=lambda: workers
    )


def test_cases_come_largest_first_each_once(cases: Path, tmp_path: Path, toy: ParsedMethod) -> None:
    workers = Threads()
    assert evaluate_on(workers, cases, tmp_path / "team", toy).done == 5
    # 6 x (10 + their number) x 14 voxels of two classes; without boxes of one, as far as is known.
    assert workers.names == ["US_3.npz", "PET_2.npz", "MR_1.npz", "CT_0.npz", "Microscopy_4.npz"]
    assert workers.closed


def test_results_on_threads_are_those_on_processes(
    cases: Path, tmp_path: Path, toy: ParsedMethod
) -> None:
    evaluate(cases, tmp_path / "processes" / "team", workers=2)
    evaluate_on(Threads("a", "b"), cases, tmp_path / "threads" / "team", toy)
    pd.testing.assert_frame_equal(
        scores(tmp_path / "threads" / "team"),
        scores(tmp_path / "processes" / "team"),
        check_exact=True,
    )


def test_a_case_whose_worker_was_lost_is_evaluated_again(
    cases: Path, tmp_path: Path, toy: ParsedMethod
) -> None:
    workers = Threads("a", "b", lost=["MR_1.npz"])
    result = evaluate_on(workers, cases, tmp_path / "team", toy)
    assert not result.failed
    assert result.done == 5
    assert workers.names.count("MR_1.npz") == 2
    assert len(workers.started) == 5 + 1


def test_a_case_whose_worker_is_lost_again_fails_alone_and_its_logs_stay(
    cases: Path, tmp_path: Path, toy: ParsedMethod
) -> None:
    workers = Threads("a", "b", lost=["MR_1.npz", "MR_1.npz"])
    result = evaluate_on(workers, cases, tmp_path / "team", toy)
    assert list(result.failed) == ["MR_1.npz"]
    assert result.failed["MR_1.npz"].startswith("MR_1.npz: given up after 2 attempts: on ")
    assert result.done == 4
    log = (tmp_path / "team" / "logs" / "MR_1.txt").read_text()
    assert re.findall(r"attempt \d, on [ab]: the node is gone", log) == [
        "attempt 1, on a: the node is gone",
        "attempt 2, on b: the node is gone",
    ] or re.findall(r"on ([ab])", log) == ["b", "a"]
    # The next run tries it again.
    assert evaluate_on(Threads(), cases, tmp_path / "team", toy).done == 5


def test_volumes_and_logs_of_a_case_come_from_the_attempt_that_was_done(
    cases: Path, tmp_path: Path
) -> None:
    spec = f"command:echo said; {TOY.partition(':')[2]}"
    method = parse_method(spec, 60)
    workers = Threads("a", lost=["MR_1.npz"])
    result = evaluate_folder(
        cases,
        None,
        spec,
        method,
        TeamFolder(tmp_path / "team"),
        run_limit=60,
        make_workers=lambda: workers,
    )
    assert result.done == 5
    assert (tmp_path / "team" / "logs" / "MR_1.txt").read_text().count("said\n") == 6
    assert not (tmp_path / "team" / "work").exists()


def test_what_is_not_shared_is_sent_and_comes_back(
    cases: Path, tmp_path: Path, toy: ParsedMethod
) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    for path in cases.iterdir():
        shutil.copy(path, truth)
    spec = f"command:echo said; {TOY.partition(':')[2]}"
    for team, collect in (("sent", True), ("shared", False)):
        evaluate(cases, tmp_path / team, spec, gts=truth, collect=collect)
    sent, shared = (TeamFolder(tmp_path / team).records() for team in ("sent", "shared"))
    assert [without_times(one) for one in sent] == [without_times(one) for one in shared]
    for name in (path.name for path in cases.iterdir()):
        with np.load(tmp_path / "sent" / name) as one, np.load(tmp_path / "shared" / name) as two:
            np.testing.assert_array_equal(one["all_segs"], two["all_segs"])
    for path in (tmp_path / "sent" / "logs").iterdir():
        assert path.read_text().count("said\n") == (5 if "Microscopy" in path.name else 6)


def without_times(record: CaseRecord) -> CaseRecord:
    runs = tuple(replace(one, seconds=0.0) for one in record.interactions)
    return replace(record, interactions=runs, own_seconds=0.0)


def test_a_worker_of_another_method_gets_no_case(cases: Path, tmp_path: Path) -> None:
    method = parse_method("gamt", 60)
    assert method.fitness is not None
    other = replace(method.fitness, identity="gamt of yesterday")
    with pytest.raises(
        ClusterError, match=r"no worker can do this: .* found .*, expected .*start them again"
    ):
        evaluate_folder(
            cases,
            None,
            "gamt",
            replace(method, fitness=other),
            TeamFolder(tmp_path / "team"),
            run_limit=60,
            make_workers=lambda: Threads("a", "b"),
            elsewhere=True,
        )


def test_a_worker_that_shares_no_storage_gets_no_case(
    cases: Path, tmp_path: Path, toy: ParsedMethod
) -> None:
    class Elsewhere(Threads):
        """Begins a task only when the driver's folder is out of its sight."""

        def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
            job = replace(task.argument, place=Path("/nowhere/work"))
            super().start(worker, replace(task, argument=job), number)

    with pytest.raises(ClusterError, match=r"/nowhere/work: not there; share it .* or use --coll"):
        evaluate_on(Elsewhere(), cases, tmp_path / "team", toy)


def test_a_changed_file_is_seen_by_its_record_where_the_index_does_not_know_it(
    cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "team"
    evaluate(cases, out)
    lines = (out / "index.jsonl").read_bytes()
    (out / "index.jsonl").write_bytes(lines[: len(lines) // 2])  # torn amid a line
    result = evaluate(cases, out)
    assert (result.done, result.failed) == (5, {})
    assert len(read_index(out / "index.jsonl")) == 5
    # As a copy that is as new, but has another content.
    stamp = (cases / "CT_0.npz").stat()
    write_case(cases / "CT_0.npz", number=3)
    os.utime(cases / "CT_0.npz", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert list(evaluate(cases, out).failed) == ["CT_0.npz"]


def test_workers_may_be_in_another_folder(
    cases: Path, tmp_path: Path, toy: ParsedMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def make() -> Threads:
        monkeypatch.chdir(elsewhere)
        return Threads()

    result = evaluate_folder(
        Path("cases"),
        None,
        "toy",
        toy,
        TeamFolder(tmp_path / "team"),
        run_limit=60,
        make_workers=make,
    )
    assert result.done == 5


def test_a_full_disk_costs_its_case_alone_and_the_same_again_does_it(
    cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "team"
    full = ParsedMethod(Full("MR_1"), "toy", TOY)
    result = evaluate_folder(
        cases, None, TOY, full, TeamFolder(out), run_limit=60.0, make_workers=Threads
    )
    assert list(result.failed) == ["MR_1.npz"]
    assert "No space left on device" in result.failed["MR_1.npz"]
    assert result.done == 4
    assert not (out / "work").exists()
    assert evaluate(cases, out).done == 5


@pytest.mark.parametrize("collects", [False, True])
def test_where_a_run_writes_and_prints_nothing_nothing_of_an_earlier_one_stays(
    cases: Path, tmp_path: Path, collects: bool
) -> None:
    out = tmp_path / "team"
    evaluate(cases, out)
    assert (out / "CT_0.npz").exists()
    (out / "logs" / "CT_0.txt").write_text("earlier")
    (out / "records" / "CT_0.json").unlink()
    evaluate_folder(
        cases,
        None,
        TOY,
        ParsedMethod(Nothing(), "toy", TOY),
        TeamFolder(out),
        run_limit=60.0,
        make_workers=Threads,
        collect=collects,
    )
    assert not (out / "logs" / "CT_0.txt").exists()
    assert CaseRecord.read(out / "records" / "CT_0.json").predicted is False
    assert not (out / "CT_0.npz").exists()
    assert read_index(out / "index.jsonl")["CT_0.npz"].written == 0


def test_what_one_that_was_killed_before_it_began_has_left_is_removed(
    cases: Path, tmp_path: Path
) -> None:
    team = tmp_path / "team"
    team.mkdir()
    partial = team / f".{'0' * 32}.partial"
    partial.touch()
    evaluate(cases, team)
    assert not partial.exists()


def test_a_table_that_can_not_be_written_costs_no_case(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "team"
    with monkeypatch.context() as patch:

        def fail(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "team_metrics.csv")

        patch.setattr(TeamFolder, "write_tables", fail)
        with pytest.raises(OSError, match="No space left"):
            evaluate(cases, out)
    assert len(list((out / "records").iterdir())) == 5
    assert not (out / "work").exists()
    evaluate(cases, out)
    assert len(scores(out)) == 5


def test_a_work_folder_that_can_not_be_removed_costs_a_warning_alone(
    cases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for module in ("run", "records", "tasks", "workplace"):
        monkeypatch.setattr(f"evaluation.{module}.remove_tree", lambda path: not path.exists())
    # The folders of an earlier evaluation lie there, too.
    out = tmp_path / "team"
    (out / "work" / "left").mkdir(parents=True)
    monkeypatch.setattr("evaluation.run._refuse_foreign", lambda folder: None)
    assert evaluate(cases, out).done == 5
    assert "work: what the method left here can't all be removed" in caplog.text


STRANGE = (b"CT_\xff\xfe.npz", b"MR_\x1b[2J\n.npz", b"PET_a..b:c,d.npz")


def test_cases_may_have_names_that_are_no_text(
    cases: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for source, name in zip(sorted(cases.iterdir()), STRANGE, strict=False):
        source.rename(cases / os.fsdecode(name))
    out = tmp_path / "team"
    result = evaluate(cases, out)
    assert result.done == 5
    table = pd.read_csv(out / "team_metrics.csv")
    assert {"CT_\\udcff\\udcfe.npz", "MR_\x1b[2J\n.npz"} < set(table["CaseName"])
    again = evaluate(cases, out)
    assert (again.done, again.failed) == (5, {})
    teams = [TeamFolder(out)]
    write_leaderboard(teams, tmp_path)
    write_report(teams, tmp_path / "report.html", [os.fsdecode(name) for name in STRANGE])
    page = (tmp_path / "report.html").read_text()
    assert "CT_\\udcff\\udcfe" in page
    assert "No pictures" not in page


def test_two_evaluations_do_not_share_a_folder(cases: Path, tmp_path: Path) -> None:
    slow = subprocess.Popen(command(cases, tmp_path, spec="command:sleep 60"))
    try:
        wait_for(tmp_path / "team" / "run.json")
        again = command(cases, tmp_path, spec="command:sleep 60")
        second = subprocess.run(again, check=False, capture_output=True, text=True)
    finally:
        slow.kill()
        slow.wait()
    assert second.returncode == 2
    assert "another evaluation is at work here" in second.stderr


def test_ctrl_c_leaves_what_is_done_and_stops_the_rest(cases: Path, tmp_path: Path) -> None:
    # The smallest cases, which come last, hang.
    spec = f"command:case $(ls inputs) in CT*|Mic*) sleep 61.25;; esac; {TOY.partition(':')[2]}"
    # A terminal sends the signal to all processes of the group.
    process = subprocess.Popen(
        command(cases, tmp_path, "--workers", "2", spec=spec),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    for name in ("US_3", "PET_2", "MR_1"):
        wait_for(tmp_path / "team" / "records" / f"{name}.json")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; the same command goes on where it was\n"
    assert len(scores(tmp_path / "team")) == 3
    wait_until_gone("sleep 61.25")


def test_sigterm_ends_an_evaluation_as_ctrl_c_does(cases: Path, tmp_path: Path) -> None:
    spec = f"command:case $(ls inputs) in CT*) setsid sleep 61.5;; esac; {TOY.partition(':')[2]}"
    process = subprocess.Popen(
        command(cases, tmp_path, spec=spec), stderr=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "team" / "records" / "MR_1.json")
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors == "interrupted; the same command goes on where it was\n"
    wait_until_gone("sleep 61.5")
    assert not (tmp_path / "team" / "work").exists()
    assert list(scores(tmp_path / "team")["CaseName"]) == ["MR_1.npz", "PET_2.npz", "US_3.npz"]


@pytest.mark.slow
def test_killed_at_random_and_taken_up_again_gives_the_same_table(
    cases: Path, tmp_path: Path
) -> None:
    evaluate(cases, tmp_path / "whole" / "team", workers=2)
    draw = random.Random(4)
    slow = f"command:sleep 0.1; {TOY.partition(':')[2]}"
    killed = 0
    while killed < KILLS:
        process = subprocess.Popen(command(cases, tmp_path, "-q", "--workers", "2", spec=slow))
        try:
            process.wait(draw.uniform(0.2, 3.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        else:
            assert process.returncode == 0
            # It was done before the time was up: there has to be something left to be killed at.
            done = sorted((tmp_path / "team" / "records").iterdir())
            for path in draw.sample(done, 3):
                path.unlink()
    subprocess.run(command(cases, tmp_path, "-q", "--workers", "2", spec=slow), check=True)
    pd.testing.assert_frame_equal(
        scores(tmp_path / "team"), scores(tmp_path / "whole" / "team"), check_exact=True
    )
    for name in (path.name for path in cases.iterdir()):
        with (
            np.load(tmp_path / "team" / name) as interrupted,
            np.load(tmp_path / "whole" / "team" / name) as whole,
        ):
            np.testing.assert_array_equal(interrupted["all_segs"], whole["all_segs"])
    left = {path.name for path in (tmp_path / "team").iterdir()}
    assert not any(name.endswith(".partial") or name == "work" for name in left)
    wait_until_gone(os.fspath(tmp_path))


def test_settings_are_written_down(cases: Path, tmp_path: Path) -> None:
    evaluate(cases, tmp_path / "team")
    settings = json.loads((tmp_path / "team" / "run.json").read_text())
    assert settings["method"] == TOY
    assert settings["cases"] == sorted(path.name for path in cases.iterdir())


def test_a_folder_without_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no npz file in this folder"):
        evaluate(tmp_path, tmp_path / "team")
    with pytest.raises(RunError, match="expected a folder of cases"):
        evaluate(tmp_path / "missing", tmp_path / "team")


def wait_for(path: Path) -> None:
    wait_until(path.exists, f"{path} to be there")


def wait_until_gone(words: str) -> None:
    """Waits until no process has these words on its command line."""

    def gone() -> bool:
        return not any(
            words in " ".join(process.info["cmdline"] or [])
            for process in psutil.process_iter(["cmdline"])
        )

    wait_until(gone, f"the processes of {words} to be gone")


def wait_until(met: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)


def test_the_tables_of_a_long_run_are_written_while_it_goes_on(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.run._TABLES_SECONDS", 0.0)
    monkeypatch.setattr("evaluation.run._TABLES_SHARE", 1e9)
    out, rows = tmp_path / "team", []

    def look(progress: Progress) -> None:
        rows.append(len(scores(out)) if progress.ended > 1 else 0)

    evaluate(cases, out, show=look)
    assert rows == [0, 0, 1, 2, 3, 4]


def test_the_tables_are_not_written_again_and_again(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Writing them may take no time at all, so once is the most.
    monkeypatch.setattr("evaluation.run._TABLES_SECONDS", 0.0)
    monkeypatch.setattr("evaluation.run._TABLES_SHARE", 1e-9)
    out, rows = tmp_path / "team", []

    def look(progress: Progress) -> None:
        rows.append(len(scores(out)) if progress.ended > 1 else 0)

    evaluate(cases, out, show=look)
    assert rows == [0, 0, 1, 1, 1, 1]
    assert len(scores(out)) == 5

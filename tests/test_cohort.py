"""Folders of cases on many workers: what is written equals what one process writes."""

import logging
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.this_process import ThisProcess
from gamt.cluster.local import LocalWorkers
from gamt.cluster.tasks import ClusterError, Task, Worker
from gamt.cohort import make_method, predict_cohort
from gamt.io.case import write_case
from gamt.predict import FolderError, predict_folder
from gamt.prompts import ClassPrompts
from gamt.segmenters import Embedding, load
from tests.object_storage import ObjectStorage
from tests.test_predict import (
    BOX,
    UNLIMITED,
    FailingSegmenter,
    ThresholdSegmenter,
    save,
    save_unlucky,
)

THRESHOLD = make_method("tests.test_predict:ThresholdSegmenter", {}, UNLIMITED)
FAILING = make_method("tests.test_predict:FailingSegmenter", {}, UNLIMITED)


class DeadlySegmenter(ThresholdSegmenter):
    """Ends its process at slices of 7 by 7 pixels, as a fault in C code may."""

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        if slices.shape[1:] == (7, 7):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(slices)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def two_processes() -> LocalWorkers:
    return LocalWorkers(2)


@pytest.mark.slow
@pytest.mark.parametrize("collect", [False, True])
def test_outputs_results_and_log_are_those_of_one_process(
    collect: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gamt")
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "c.npz").write_bytes(b"no zip file")
    save_unlucky(tmp_path / "in" / "d.npz")
    (tmp_path / "in" / "e.npz").mkdir()
    expected = predict_folder(tmp_path / "in", tmp_path / "one", FailingSegmenter(), UNLIMITED)
    lines = sorted(without_seconds(caplog.messages))
    caplog.clear()
    shown: list[tuple[int, int]] = []
    results = predict_cohort(
        tmp_path / "in",
        tmp_path / "many",
        FAILING,
        two_processes,
        lambda done, total: shown.append((done, total)),
        collect=collect,
    )
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert [replace(one, seconds=0) for one in results] == [
        replace(one, seconds=0) for one in expected
    ]
    assert sorted(without_seconds(caplog.messages)) == lines
    assert shown == [(done, 5) for done in range(6)]


def without_seconds(lines: Sequence[str]) -> list[str]:
    return [re.sub(r"\d+\.\d s\b", "... s", line) for line in lines]


def test_the_embedded_segmenter_gives_the_same_on_a_worker(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    predict_folder(tmp_path / "in", tmp_path / "one", load(), UNLIMITED)
    method = make_method("statistical", {}, UNLIMITED)
    predict_cohort(tmp_path / "in", tmp_path / "many", method, ThisProcess)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_the_largest_files_come_first(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for name, depth in {"a.npz": 12, "b.npz": 48, "c.npz": 24}.items():
        image = noise.integers(0, 255, (depth, 16, 20), np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        write_case(tmp_path / "in" / name, image, (1, 1, 1), [ClassPrompts(1, BOX)])
    worker = ThisProcess()
    results = predict_cohort(tmp_path / "in", tmp_path / "out", THRESHOLD, lambda: worker)
    assert worker.given == ["b.npz", "c.npz", "a.npz"]
    assert worker.closed
    assert [one.name for one in results] == ["a.npz", "b.npz", "c.npz"]


def test_resume_gives_workers_only_what_is_missing(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npz").write_bytes(b"of an earlier run")
    worker = ThisProcess()
    results = predict_cohort(
        tmp_path / "in", tmp_path / "out", THRESHOLD, lambda: worker, resume=True
    )
    assert worker.given == ["b.npz"]
    assert [one.outcome for one in results] == ["kept", "fine"]


def never() -> LocalWorkers:
    raise AssertionError("no worker is needed")


def test_without_work_no_worker_is_started(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert predict_cohort(tmp_path / "in", tmp_path / "out", THRESHOLD, never) == []
    save(tmp_path / "in" / "a.npz")
    with pytest.raises(FolderError, match="would replace the cases"):
        predict_cohort(tmp_path / "in", tmp_path / "in", THRESHOLD, never)


@pytest.mark.slow
def test_a_case_that_kills_its_worker_twice_fails_and_the_others_are_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.npz", "c.npz"):
        save(tmp_path / "in" / name)
    save_unlucky(tmp_path / "in" / "b.npz")
    method = make_method("tests.test_cohort:DeadlySegmenter", {}, UNLIMITED)
    results = predict_cohort(tmp_path / "in", tmp_path / "out", method, two_processes)
    assert [one.outcome for one in results] == ["fine", "failed", "fine"]
    assert str(results[1].error).startswith("given up after two attempts: on ")
    assert str(results[1].error).count("SIGKILL") == 2
    assert f"b.npz: {results[1].error}" in caplog.messages
    assert sorted(contents(tmp_path / "out")) == ["a.npz", "c.npz"]


def test_a_worker_with_other_code_or_another_model_gets_nothing(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    other = replace(THRESHOLD, identity="gamt 0.0.1 (0123456789ab)")
    with pytest.raises(ClusterError, match=r"expected gamt 0\.0\.1 \(0123456789ab\) as on the"):
        predict_cohort(tmp_path / "in", tmp_path / "out", other, ThisProcess)
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("weights", [b"one", b"other"])
def test_a_method_is_identified_by_what_is_in_its_weights(weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"one")
    arguments = {"weights": str(tmp_path / "weights")}
    first = make_method("tests.test_predict:ThresholdSegmenter", arguments, UNLIMITED)
    (tmp_path / "weights").write_bytes(weights)
    second = make_method("tests.test_predict:ThresholdSegmenter", arguments, UNLIMITED)
    assert (first == second) == (weights == b"one")


def test_a_segmenter_that_cannot_be_loaded_is_told_once(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    method = make_method("tests.test_cohort:no_such_class", {}, UNLIMITED)
    with pytest.raises(ClusterError, match="no_such_class"):
        predict_cohort(tmp_path / "in", tmp_path / "out", method, ThisProcess)


class Moved(ThisProcess):
    """A worker that doesn't find a folder where the driver has it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
        self._folder.rename(self._folder.with_name("moved"))
        if self._folder.name == "out":
            self._folder.mkdir()  # there is one of that name, but another
        super().start(worker, task, number)


@pytest.mark.parametrize("folder", ["in", "out"])
def test_a_worker_that_does_not_share_the_folders_gets_nothing(folder: str, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "out").mkdir()
    with pytest.raises(ClusterError, match="share it, or use --collect"):
        predict_cohort(
            tmp_path / "in", tmp_path / "out", THRESHOLD, lambda: Moved(tmp_path / folder)
        )


def test_an_output_that_cannot_be_written_fails_its_case_alone(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    (tmp_path / "out" / "a.npz").mkdir(parents=True)
    for collect in (False, True):
        results = predict_cohort(
            tmp_path / "in", tmp_path / "out", THRESHOLD, ThisProcess, collect=collect
        )
        assert [one.outcome for one in results] == ["failed", "fine"]


def test_the_log_of_a_worker_comes_with_its_tracebacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gamt")
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "in" / "a.npz").write_bytes(b"no zip file")
    predict_cohort(tmp_path / "in", tmp_path / "out", THRESHOLD, ThisProcess)
    (record,) = [one for one in caplog.records if one.levelno == logging.DEBUG]
    assert str(record.exc_text).startswith("Traceback")


@pytest.mark.slow
def test_cases_of_object_storage_are_read_and_written_by_the_workers(
    tmp_path: Path, objects: ObjectStorage
) -> None:
    for name in ("a.npz", "b.npz"):
        objects.put(f"in/{name}", save(tmp_path / "in" / name).read_bytes())
    predict_folder(tmp_path / "in", tmp_path / "one", ThresholdSegmenter(), UNLIMITED)
    for collect, outputs in ((False, "s3://scans/shared"), (True, "s3://scans/collected")):
        predict_cohort("s3://scans/in", outputs, THRESHOLD, two_processes, collect=collect)
        folder = outputs.rpartition("/")[2]
        for name, content in contents(tmp_path / "one").items():
            assert objects.get(f"{folder}/{name}") == content


def test_a_worker_that_cannot_reach_object_storage_gets_nothing(
    tmp_path: Path, objects: ObjectStorage
) -> None:
    objects.put("in/a.npz", save(tmp_path / "in" / "a.npz").read_bytes())

    class Refused(ThisProcess):
        def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
            objects.refuse_strangers()
            super().start(worker, task, number)

    with pytest.raises(ClusterError, match="s3://scans/in: access denied"):
        predict_cohort("s3://scans/in", tmp_path / "out", THRESHOLD, Refused)


def test_what_a_killed_worker_left_among_the_outputs_is_removed(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")

    class Leaving(ThisProcess):
        def start(self, worker: Worker, task: Task[Any, Any], number: int) -> None:
            super().start(worker, task, number)
            (tmp_path / "out" / f".{'0' * 32}.partial").touch()

    predict_cohort(tmp_path / "in", tmp_path / "out", THRESHOLD, Leaving)
    assert sorted(contents(tmp_path / "out")) == ["a.npz"]


def test_an_interruption_closes_the_workers(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    worker = ThisProcess()

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_cohort(tmp_path / "in", tmp_path / "out", THRESHOLD, lambda: worker, interrupt)
    assert worker.closed
    assert worker.given in (["a.npz"], ["b.npz"])
    assert len(contents(tmp_path / "out")) == 1

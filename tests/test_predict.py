"""Folders of cases: what is written, what is logged, and that one bad case stays alone."""

import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt import predict
from gamt.io.case import Case, read_case, write_case, write_segmentation
from gamt.io.storage import StorageError
from gamt.predict import Cancelled, FolderError, Prediction, predict_case, predict_folder
from gamt.prompts import Box, ClassPrompts, Click, SlicePrompt
from gamt.segmenters import Embedding, SliceMask, Traits, load
from gamt.settings import PRESETS, Settings, SettingsError
from gamt.volume.cache import EmbeddingCache
from gamt.windows import IntensityWindow
from tests.costs import cost

if TYPE_CHECKING:
    from tests.object_storage import ObjectStorage

UNLIMITED = replace(PRESETS["default"], budget=False)
SHAPE = (12, 16, 20)
BLOCK = np.s_[3:9, 4:10, 6:15]
BOX = Box(z_min=3, z_max=9, z_mid=5, y_min=4, y_max=10, x_min=6, x_max=15)


class ThresholdSegmenter:
    """What another package might bring: all that is bright is the target."""

    name = "threshold"
    traits = Traits(device="abacus")

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        return list(slices)

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        masks = []
        for image in embeddings:
            logits = np.where(image > 127, 8.0, -8.0).astype(np.float32)
            masks.append(SliceMask(logits, quality=1.0))
        return masks


class FailingSegmenter(ThresholdSegmenter):
    """Fails at slices of 7 by 7 pixels, and at no others."""

    def __init__(self, error: type[Exception] = RuntimeError) -> None:
        self.error = error

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        if slices.shape[1:] == (7, 7):
            raise self.error("no luck\nwith this one")
        return super().encode(slices)


def bright_block() -> npt.NDArray[np.uint8]:
    image = np.full(SHAPE, 20, np.uint8)
    image[BLOCK] = 200
    return image


def save(path: Path, image: npt.NDArray[np.uint8] | None = None, box: Box = BOX) -> Path:
    path.parent.mkdir(exist_ok=True)
    image = bright_block() if image is None else image
    write_case(path, image, (1.0, 1.0, 1.0), [ClassPrompts(1, box)])
    return path


def save_unlucky(path: Path) -> Path:
    """Saves a case that `FailingSegmenter` fails at."""
    image = np.full((7, 7, 7), 20, np.uint8)
    image[2:5, 2:5, 2:5] = 200
    return save(path, image, Box(2, 5, 3, 2, 5, 2, 5))


def segmentation(path: Path) -> npt.NDArray[np.uint8]:
    with np.load(path) as file:
        labels: npt.NDArray[np.uint8] = file["segs"]
    return labels


def test_every_case_of_the_folder_gets_a_segmentation_of_the_same_name(tmp_path: Path) -> None:
    for name in ("b.npz", "a.npz", "c.npz"):
        save(tmp_path / "in" / name)
    results = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert [result.name for result in results] == ["a.npz", "b.npz", "c.npz"]
    assert all(
        (one.error, one.status, one.outcome) == (None, "complete", "fine") for one in results
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "b.npz", "c.npz"]
    expected = np.zeros(SHAPE, np.uint8)
    expected[BLOCK] = 1
    for path in (tmp_path / "out").iterdir():
        np.testing.assert_array_equal(segmentation(path), expected)


def test_the_output_names_the_segmenter_and_says_that_it_is_complete(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    with np.load(tmp_path / "out" / "a.npz") as file:
        assert file["segmenter"] == "threshold"
        assert file["status"] == "complete"


def test_the_embedded_segmenter_finds_a_bright_block(tmp_path: Path) -> None:
    case = read_case(save(tmp_path / "in" / "a.npz"))
    prediction = predict_case(case, load(), UNLIMITED)
    truth = np.zeros(SHAPE, bool)
    truth[BLOCK] = True
    found = prediction.labels == 1
    assert 2 * (found & truth).sum() > 0.9 * (found.sum() + truth.sum())


def test_a_single_file_can_stand_for_the_folder(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    one = save(tmp_path / "in" / "b.npz")
    results = predict_folder(one, tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert [result.name for result in results] == ["b.npz"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.npz"]


def test_only_npz_files_that_are_not_hidden_are_cases(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    save(tmp_path / "in" / "._a.npz")
    (tmp_path / "in" / "notes.txt").write_text("not a case")
    results = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert [result.name for result in results] == ["a.npz"]


def test_what_is_no_file_is_a_failed_case_and_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "in" / "folder.npz").mkdir()
    (tmp_path / "in" / "lost.npz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in" / "loop.npz").symlink_to(tmp_path / "in" / "loop.npz")
    os.mkfifo(tmp_path / "in" / "pipe.npz")
    (tmp_path / "in" / "zeros.npz").symlink_to("/dev/zero")
    address = socket.socket(socket.AF_UNIX)
    address.bind(str(tmp_path / "in" / "socket.npz"))
    address.close()
    results = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert {one.name: one.outcome for one in results}.pop("a.npz") == "fine"
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert lines[:-1] == [
        "folder.npz: found a folder, expected a file",
        f"loop.npz: {tmp_path}/in/loop.npz: Too many levels of symbolic links",
        "lost.npz: found a link to nowhere, expected a file",
        "pipe.npz: found a pipe, expected a file",
        "socket.npz: found a socket, expected a file",
        "zeros.npz: found a device, expected a file",
    ]
    assert lines[-1] == "7 cases: 1 fine, 0 degraded, 6 failed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.npz"]


def test_a_file_that_vanishes_before_its_turn_is_a_failed_case(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "in" / "a.npz")
    later = save(tmp_path / "in" / "b.npz")
    predict_folder(
        tmp_path / "in",
        tmp_path / "out",
        ThresholdSegmenter(),
        UNLIMITED,
        progress=lambda done, total: later.unlink(missing_ok=True),
    )
    assert "b.npz: found nothing there any more, expected a file" in caplog.messages


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_failed_case(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz").chmod(0)
    save(tmp_path / "in" / "b.npz")
    first, second = predict_folder(
        tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED
    )
    assert "permission denied" in str(first.error)
    assert second.outcome == "fine"


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.npz", b"two\nlines\x1b[31m.npz", b" .npz", b"n" * 251 + b".npz"]
)
def test_odd_names_are_kept(name: bytes, tmp_path: Path) -> None:
    save(tmp_path / "in" / os.fsdecode(name))
    (result,) = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert result.outcome == "fine"
    (output,) = (tmp_path / "out").iterdir()
    assert os.fsencode(output.name) == name


def test_an_empty_folder_gives_no_results(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter()) == []


def test_each_case_is_one_line_in_the_log_and_all_of_them_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gamt")
    save(tmp_path / "in" / "a.npz")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    record, summary = caplog.records
    assert record.name == "gamt"
    assert summary.getMessage() == "1 case: 1 fine, 0 degraded, 0 failed"
    message = record.getMessage()
    assert message.startswith("a: threshold on abacus, 1 class, ")
    assert "slices encoded, " in message
    assert message.endswith(" s")


def test_the_log_says_when_the_time_limit_cut_a_case_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gamt")
    save(tmp_path / "in" / "a.npz")
    hour_ago = time.monotonic() - 3600
    (result,) = predict_folder(
        tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), start=hour_ago
    )
    assert result.outcome == "degraded"
    assert "cut short by the time limit" in str(result.status)
    assert caplog.records[-2].levelno == logging.WARNING
    assert caplog.messages[-2].endswith(f"; {result.status}")
    with np.load(tmp_path / "out" / "a.npz") as file:
        assert file["status"] == result.status
    assert segmentation(tmp_path / "out" / "a.npz").shape == SHAPE


def test_the_first_clock_is_the_callers_and_the_others_begin_when_one_case_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.npz", "b.npz", "c.npz"):
        save(tmp_path / "in" / name)
    starts, ends = [], []

    def recorded(
        case: Case, segmenter: object, settings: object, start: float, cache: object, **_: object
    ) -> Prediction:
        starts.append(start)
        ends.append(time.monotonic())
        return Prediction(np.zeros(case.image.shape, np.uint8), 0, 0.0, complete=True, windows={})

    monkeypatch.setattr(predict, "predict_case", recorded)
    begin = time.monotonic() - 5
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), start=begin)
    assert starts[0] == begin
    assert ends[0] <= starts[1] <= ends[1] <= starts[2] <= ends[2]


def test_a_broken_file_is_reported_and_the_others_are_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "in" / "b.npz").write_bytes(b"no zip file")
    save(tmp_path / "in" / "c.npz")
    results = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert [result.error is None for result in results] == [True, False, True]
    record, summary = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.getMessage().startswith("b.npz: ")
    assert summary.getMessage() == "3 cases: 2 fine, 0 degraded, 1 failed"
    assert record.exc_info is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "c.npz"]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_a_case_that_the_segmenter_fails_at_has_an_output_that_says_so(
    error: type[Exception], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gamt")
    save_unlucky(tmp_path / "in" / "a.npz")
    save(tmp_path / "in" / "b.npz")
    first, second = predict_folder(
        tmp_path / "in", tmp_path / "out", FailingSegmenter(error), UNLIMITED
    )
    assert (first.outcome, second.outcome) == ("degraded", "fine")
    assert f"{error.__name__}: no luck with this one" in str(first.status)
    assert str(first.status) in caplog.messages[0]
    assert all(record.exc_info is None for record in caplog.records)
    with np.load(tmp_path / "out" / "a.npz") as file:
        assert file["status"] == first.status
        assert file["segs"][3, 3, 3] == 1  # the middle of the box
        assert file["segs"].sum() <= 27  # no more than the box


def break_lifting(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object) -> object:
        raise error

    monkeypatch.setattr(predict, "lift_in_memory", fail)


def test_where_lifting_fails_the_previous_prediction_is_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_lifting(monkeypatch, MemoryError("478 GiB"))
    previous = np.zeros(SHAPE, np.uint8)
    previous[BLOCK] = 1
    (tmp_path / "in").mkdir()
    # The click is outside of the earlier segmentation, and obeyed all the same.
    prompts = ClassPrompts(1, BOX, clicks=(Click(0, 0, 0, positive=True),))
    write_case(tmp_path / "in" / "a.npz", bright_block(), (1, 1, 1), [prompts], previous=previous)
    (result,) = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert result.status == "the previous prediction alone (MemoryError: 478 GiB)"
    previous[0, 0, 0] = 1
    np.testing.assert_array_equal(segmentation(tmp_path / "out" / "a.npz"), previous)


def test_where_lifting_fails_without_a_previous_prediction_the_prompts_shape_is_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_lifting(monkeypatch, ZeroDivisionError())
    save(tmp_path / "in" / "a.npz")
    (result,) = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert (result.outcome, result.error) == ("degraded", None)
    assert result.status == "the prompts' shape alone (ZeroDivisionError)"
    labels = segmentation(tmp_path / "out" / "a.npz")
    assert labels[5, 6, 10] == 1  # the box's middle
    assert labels.sum() == labels[BLOCK].sum()  # nothing beyond the box


def test_classes_that_lack_the_same_are_told_together() -> None:
    nothing = (Click(0, 0, 0, positive=False),)
    some, many = (
        Case(
            "a",
            bright_block(),
            (1, 1, 1),
            (ClassPrompts(1, BOX), *(ClassPrompts(n, clicks=nothing) for n in range(2, end))),
            None,
        )
        for end in (9, 200)
    )
    status = predict_case(some, ThresholdSegmenter(), UNLIMITED).status
    assert status == "classes 2, 3, 4, 5, 6, 7, 8: empty"
    assert predict_case(many, ThresholdSegmenter(), UNLIMITED).status == "198 classes: empty"


def test_a_status_calls_classes_by_their_names() -> None:
    nothing = (Click(0, 0, 0, positive=False),)
    prompts = tuple(ClassPrompts(label, clicks=nothing) for label in (1, 2))
    case = Case("a", bright_block(), (1, 1, 1), prompts, None)
    named = predict_case(case, ThresholdSegmenter(), UNLIMITED, names={2: "liver"})
    assert named.status == "class 1, liver: empty"


def test_a_disk_that_is_full_fails_one_case_and_leaves_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write_on_full_disk(path: Path, *arguments: Any) -> None:
        full = path.name == "a.npz"
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]) if full else limits)
        try:
            write_segmentation(path, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(predict, "write_segmentation", write_on_full_disk)
    first, second = predict_folder(
        tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED
    )
    assert first.error == f"{tmp_path}/out/a.npz: File too large"
    assert f"a.npz: {first.error}" in caplog.messages
    assert second.outcome == "fine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.npz"]


def test_an_output_that_is_a_folder_or_a_pipe_fails_its_case_before_any_work(
    tmp_path: Path,
) -> None:
    for name in ("folder.npz", "other.npz", "pipe.npz"):
        save(tmp_path / "in" / name)
    (tmp_path / "out" / "folder.npz").mkdir(parents=True)
    os.mkfifo(tmp_path / "out" / "pipe.npz")
    folder, other, pipe = predict_folder(
        tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED
    )
    assert folder.error == f"{tmp_path}/out/folder.npz: Is a directory"
    assert pipe.error == f"{tmp_path}/out/pipe.npz: is no file; name another output"
    assert other.outcome == "fine"


def test_what_a_killed_run_has_left_among_the_outputs_is_removed(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{'0' * 32}.partial").write_bytes(b"half a segmentation")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.npz"]


def test_a_run_that_is_asked_to_finish_writes_the_case_at_hand_and_begins_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.npz", "b.npz", "c.npz"):
        save(tmp_path / "in" / name)
    asked = threading.Event()

    class Asking(ThresholdSegmenter):
        def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
            asked.set()
            return super().encode(slices)

    (result,) = predict_folder(
        tmp_path / "in", tmp_path / "out", Asking(), UNLIMITED, finish=asked.is_set
    )
    assert (result.name, result.outcome) == ("a.npz", "degraded")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.npz"]
    assert f"stopped before {tmp_path}/in/b.npz: 2 cases not begun" in caplog.messages


@pytest.mark.parametrize("step", ["read_case", "write_segmentation"])
def test_asked_to_finish_while_it_reads_or_writes_a_run_still_writes_that_case(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    asked = threading.Event()
    done = getattr(predict, step)

    def do(*arguments: Any) -> Any:
        asked.set()
        return done(*arguments)

    monkeypatch.setattr(predict, step, do)
    (result,) = predict_folder(
        tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED, finish=asked.is_set
    )
    assert result.outcome == ("degraded" if step == "read_case" else "fine")
    assert segmentation(tmp_path / "out" / "a.npz")[5, 6, 10] == 1  # the box's middle


def test_the_traceback_is_there_at_debug_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gamt")
    save_unlucky(tmp_path / "in" / "a.npz")
    predict_folder(tmp_path / "in", tmp_path / "out", FailingSegmenter(), UNLIMITED)
    records = [record for record in caplog.records if record.exc_info is not None]
    assert records[0].getMessage() == "a fault of the segmenter threshold"
    assert all(record.levelno == logging.DEBUG for record in records)


def test_a_failed_case_leaves_an_earlier_segmentation_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npz").write_bytes(b"no zip file")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npz").write_bytes(b"earlier")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.npz"]
    assert (tmp_path / "out" / "a.npz").read_bytes() == b"earlier"


def test_progress_counts_the_cases(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save(tmp_path / "in" / name)
    counts: list[tuple[int, int]] = []
    predict_folder(
        tmp_path / "in",
        tmp_path / "out",
        ThresholdSegmenter(),
        UNLIMITED,
        progress=lambda done, total: counts.append((done, total)),
    )
    assert counts == [(0, 2), (1, 2), (2, 2)]


def test_folders_on_the_way_to_the_outputs_are_made(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    predict_folder(tmp_path / "in", tmp_path / "new" / "out", ThresholdSegmenter(), UNLIMITED)
    assert (tmp_path / "new" / "out" / "a.npz").is_file()


def test_missing_inputs_are_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="nowhere: No such file"):
        predict_folder(tmp_path / "nowhere", tmp_path / "out", ThresholdSegmenter())


def test_outputs_that_are_a_file_are_an_error_before_any_work(tmp_path: Path) -> None:
    save_unlucky(tmp_path / "in" / "a.npz")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FolderError, match="out: File exists"):
        predict_folder(tmp_path / "in", tmp_path / "out", FailingSegmenter())


def test_outputs_without_permission_are_an_error_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_unlucky(tmp_path / "in" / "a.npz")
    # The mode of a folder doesn't bind the user that containers often run as.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(FolderError, match="no permission"):
        predict_folder(tmp_path / "in", tmp_path / "out", FailingSegmenter())


def test_cases_are_never_replaced_by_their_segmentations(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.npz")
    before = path.read_bytes()
    with pytest.raises(FolderError, match="would replace"):
        predict_folder(tmp_path / "in", tmp_path / "in", ThresholdSegmenter())
    assert path.read_bytes() == before


def two_boxes() -> Case:
    """A case of two classes: the bright block in two halves."""
    left, right = replace(BOX, x_max=10), replace(BOX, x_min=10)
    prompts = ClassPrompts(1, left), ClassPrompts(2, right)
    return Case("a", bright_block(), (1.0, 1.0, 1.0), prompts, None)


def test_a_cancelled_case_has_no_result() -> None:
    reported: list[tuple[int, int]] = []

    def report(done: int, planned: int) -> None:
        reported.append((done, planned))

    with pytest.raises(Cancelled):
        predict_case(
            two_boxes(),
            ThresholdSegmenter(),
            UNLIMITED,
            progress=report,
            cancelled=lambda: len(reported) >= 5,
        )
    assert len(reported) < 10
    assert reported[-1][0] < reported[-1][1]


def test_the_progress_of_a_case_is_that_of_all_its_classes() -> None:
    reported: list[tuple[int, int]] = []
    predict_case(
        two_boxes(),
        ThresholdSegmenter(),
        UNLIMITED,
        progress=lambda *counts: reported.append(counts),
    )
    assert reported == sorted(reported)
    assert (2, 12) in reported  # both anchors of the axial walks, of six slices each
    assert reported[-1][0] == reported[-1][1]


def test_seconds_are_counted_from_the_start_that_the_caller_gives() -> None:
    long_ago = time.monotonic() - 100
    limited = predict_case(two_boxes(), ThresholdSegmenter(), UNLIMITED, long_ago, seconds=99)
    assert not limited.complete
    assert limited.encoded == 0
    assert predict_case(two_boxes(), ThresholdSegmenter(), UNLIMITED, seconds=1e6).complete


def test_seconds_that_are_no_number_are_an_error() -> None:
    with pytest.raises(ValueError, match="found nan for the seconds"):
        predict_case(two_boxes(), ThresholdSegmenter(), UNLIMITED, seconds=float("nan"))


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (replace(UNLIMITED, propagation="memory"), "found 'memory' with the segmenter threshold"),
        (replace(UNLIMITED, channels="windows"), "found 'windows', expected 'same' with the segm"),
    ],
    ids=["propagation", "channels"],
)
def test_a_segmenter_that_cannot_do_what_settings_ask_is_refused_before_any_case(
    settings: Settings, refused: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=refused):
        predict_case(two_boxes(), ThresholdSegmenter(), settings)
    save(tmp_path / "in" / "a.npz")
    with pytest.raises(SettingsError, match=refused):
        predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), settings)
    assert not (tmp_path / "out").exists()


def test_a_click_is_obeyed_without_a_box() -> None:
    prompts = ClassPrompts(1, clicks=(Click(5, 6, 9, positive=True),))
    case = Case("a", bright_block(), (1.0, 1.0, 1.0), (prompts,), None)
    labels = predict_case(case, ThresholdSegmenter(), UNLIMITED).labels
    assert labels[5, 6, 9] == 1


def test_a_case_takes_slices_that_were_encoded_for_another() -> None:
    prompts = ClassPrompts(1, BOX)
    case = Case("a", bright_block(), (1.0, 1.0, 1.0), (prompts,), None)
    cache = EmbeddingCache(ThresholdSegmenter(), 2**28)
    first = predict_case(case, cache.segmenter, UNLIMITED, cache=cache)
    second = predict_case(case, cache.segmenter, UNLIMITED, cache=cache)
    assert first.encoded > 0
    assert second.encoded == 0
    np.testing.assert_array_equal(first.labels, second.labels)


def test_a_cache_that_the_segmenter_cannot_use_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        save(tmp_path / "in" / f"{name}.npz")
    predict_folder(
        tmp_path / "in",
        tmp_path / "out",
        ThresholdSegmenter(),
        UNLIMITED,
        cache=tmp_path / "encoded",
    )
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "encoded slices of the segmenter threshold can't be written" in warnings[0]
    assert not (tmp_path / "encoded").exists()


def scan_of_a_block() -> npt.NDArray[np.float64]:
    image = np.random.default_rng(0).normal(0, 5, SHAPE).round()
    image[BLOCK] += 100
    return image


@pytest.mark.parametrize(
    ("dtype", "exponent"), [(np.float64, 1010), (np.float64, -1050), (np.float32, 115)]
)
@pytest.mark.parametrize(
    "prompts", [ClassPrompts(1, BOX), ClassPrompts(1, None, (Click(5, 6, 10, True),))]
)
def test_very_large_and_very_small_intensities_are_segmented_as_others(
    dtype: npt.DTypeLike, exponent: int, prompts: ClassPrompts
) -> None:
    segmenter = load("statistical")
    image = scan_of_a_block()
    expected = predict_case(Case("case", image, (1, 1, 1), (prompts,), None), segmenter, UNLIMITED)
    assert expected.labels.any()
    far = np.ldexp(image, exponent).astype(dtype)
    found = predict_case(Case("case", far, (1, 1, 1), (prompts,), None), segmenter, UNLIMITED)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert np.ldexp(found.windows[1], -exponent) == pytest.approx(expected.windows[1])


def test_a_window_is_in_the_units_of_very_large_intensities() -> None:
    segmenter, image = load("statistical"), np.ldexp(scan_of_a_block(), 1010)
    window = IntensityWindow(np.ldexp(20, 1010), np.ldexp(80, 1010))
    case = Case("case", image, (1, 1, 1), (ClassPrompts(1, BOX),), None)
    for one, settings in (
        (replace(case, window=window), UNLIMITED),
        (replace(case, windows={1: window}), UNLIMITED),
        (case, replace(UNLIMITED, window=window)),
    ):
        assert predict_case(one, segmenter, settings).windows == {1: window}


def test_many_clicks_on_two_voxels_say_what_two_say_in_little_more_time() -> None:
    # One by one on every slice, they took 40 seconds.
    segmenter, image = load("statistical"), scan_of_a_block()
    two = Click(5, 6, 10, positive=True), Click(1, 1, 1, positive=False)
    case = Case("case", image, (1, 1, 1), (ClassPrompts(1, BOX, two),), None)
    expected = predict_case(case, segmenter, UNLIMITED)

    def click(count: int) -> None:
        many = ClassPrompts(1, BOX, count * two[:1] + count * two[1:])
        found = predict_case(replace(case, prompts=(many,)), segmenter, UNLIMITED)
        np.testing.assert_array_equal(found.labels, expected.labels)

    assert cost(lambda: click(50_000)) < 20 * cost(lambda: click(500), times=2)


def test_a_line_of_voxels_is_not_looked_at_pixel_by_pixel() -> None:
    image = scan_of_a_block()[5:6, 6:7]
    for axes in ((0, 1, 2), (2, 1, 0)):
        turned = image.transpose(axes)
        bounds = [((0, 0, 6)[n], (1, 1, 15)[n]) for n in axes]
        (z_min, z_max), (y_min, y_max), (x_min, x_max) = bounds
        box = Box(z_min, z_max, (z_min + z_max) // 2, y_min, y_max, x_min, x_max)
        case = Case("case", turned, (1, 1, 1), (ClassPrompts(1, box),), None)
        found = predict_case(case, load("statistical"), UNLIMITED)
        assert found.encoded == 1
        assert found.labels[turned > 50].all()


# --- A segmentation that is there, and object storage ---------------------------------------------


def test_resume_leaves_out_what_has_a_segmentation_and_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gamt")
    for name in ("a.npz", "b.npz", "c.npz"):
        save(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.npz").write_bytes(b"of an earlier run")
    shown: list[tuple[int, int]] = []
    results = predict_folder(
        tmp_path / "in",
        tmp_path / "out",
        ThresholdSegmenter(),
        UNLIMITED,
        progress=lambda done, total: shown.append((done, total)),
        resume=True,
    )
    assert [(one.name, one.outcome) for one in results] == [
        ("b.npz", "kept"),
        ("a.npz", "fine"),
        ("c.npz", "fine"),
    ]
    assert shown == [(1, 3), (2, 3), (3, 3)]
    assert (tmp_path / "out" / "b.npz").read_bytes() == b"of an earlier run"
    assert caplog.messages[0] == "1 of 3 cases have a segmentation already"
    assert caplog.messages[-1] == "3 cases: 2 fine, 0 degraded, 0 failed, 1 kept"


def test_without_resume_a_segmentation_is_replaced(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npz").write_bytes(b"of an earlier run")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert segmentation(tmp_path / "out" / "a.npz").any()


def test_cases_of_object_storage_give_what_those_of_a_folder_do(
    tmp_path: Path, objects: "ObjectStorage"
) -> None:
    for name in ("b.npz", "a.npz"):
        content = save(tmp_path / "in" / name).read_bytes()
        objects.put(f"in/{name}", content)
        objects.put(f"in/.{name}", content)
    objects.put("in/notes.txt", b"not a case")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    results = predict_folder("s3://scans/in", "s3://scans/out", ThresholdSegmenter(), UNLIMITED)
    assert [(one.name, one.outcome) for one in results] == [("a.npz", "fine"), ("b.npz", "fine")]
    assert [key for key in objects.list_keys() if key.startswith("out")] == [
        "out/a.npz",
        "out/b.npz",
    ]
    for name in ("a.npz", "b.npz"):
        assert objects.get(f"out/{name}") == (tmp_path / "out" / name).read_bytes()


def test_one_end_may_be_a_folder_and_the_input_a_single_object(
    tmp_path: Path, objects: "ObjectStorage"
) -> None:
    path = save(tmp_path / "in" / "a.npz")
    predict_folder(path, "s3://scans/out", ThresholdSegmenter(), UNLIMITED)
    objects.put("in/b", path.read_bytes())  # a single one may have any name, as a file may
    (result,) = predict_folder(
        "s3://scans/in/b", f"file://{tmp_path}/out", ThresholdSegmenter(), UNLIMITED
    )
    assert result.outcome == "fine"
    assert (tmp_path / "out" / "b").read_bytes() == objects.get("out/a.npz")


def test_an_object_that_vanishes_or_is_broken_costs_no_other_case(
    tmp_path: Path, objects: "ObjectStorage", caplog: pytest.LogCaptureFixture
) -> None:
    content = save(tmp_path / "in" / "a.npz").read_bytes()
    for key in ("a.npz", "b.npz", "d.npz"):
        objects.put(f"in/{key}", content)
    objects.put("in/c.npz", content[:-100])
    objects.put("in/e.npz/below.npz", content)
    results = predict_folder(
        "s3://scans/in",
        "s3://scans/out",
        ThresholdSegmenter(),
        UNLIMITED,
        progress=lambda done, total: objects.delete("in/b.npz"),
    )
    outcomes = ["fine", "failed", "failed", "fine", "failed"]
    assert [one.outcome for one in results] == outcomes
    assert [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR] == [
        "s3://scans/in/b.npz: not found (The specified key does not exist.)",
        "c.npz: found no zip archive, or a damaged one, expected a readable npz file",
        "s3://scans/in/e.npz: not found (The specified key does not exist.)",
        "5 cases: 2 fine, 0 degraded, 3 failed",
    ]


def test_no_name_of_an_object_leads_out_of_the_outputs(
    tmp_path: Path, objects: "ObjectStorage"
) -> None:
    odd = ["../up.npz", "/rooted.npz", "..npz", "..", "two\x1b[31m.npz", f"{'n' * 300}.npz"]
    objects.put_many(f"in/{name}" for name in odd)
    objects.put("in/b\\c d?.npz", save(tmp_path / "in" / "a.npz").read_bytes())
    results = predict_folder(
        "s3://scans/in", tmp_path / "to" / "out", ThresholdSegmenter(), UNLIMITED
    )
    assert {one.name: one.outcome for one in results} == {
        "b\\c d?.npz": "fine",
        "two\x1b[31m.npz": "failed",  # empty
        f"{'n' * 300}.npz": "failed",  # longer than a file's name can be
    }
    assert [path.name for path in (tmp_path / "to").rglob("*")] == ["out", "b\\c d?.npz"]


def test_resume_looks_into_object_storage(tmp_path: Path, objects: "ObjectStorage") -> None:
    content = save(tmp_path / "in" / "a.npz").read_bytes()
    for key in ("in/a.npz", "in/b.npz"):
        objects.put(key, content)

    def run() -> list[str]:
        results = predict_folder(
            "s3://scans/in", "s3://scans/out", ThresholdSegmenter(), UNLIMITED, resume=True
        )
        return [f"{one.name} {one.outcome}" for one in results]

    assert run() == ["a.npz fine", "b.npz fine"]
    objects.delete("out/a.npz")
    assert run() == ["b.npz kept", "a.npz fine"]


def test_segmentations_never_replace_the_objects_they_are_made_from(
    tmp_path: Path, objects: "ObjectStorage"
) -> None:
    content = save(tmp_path / "in" / "a.npz").read_bytes()
    objects.put("in/a.npz", content)
    for inputs in ("s3://scans/in", "s3://scans/in/a.npz"):
        with pytest.raises(FolderError, match="would replace the cases"):
            predict_folder(inputs, "s3://scans/in/", ThresholdSegmenter(), UNLIMITED)
    assert objects.get("in/a.npz") == content


def test_where_nothing_can_be_put_no_case_is_begun(
    tmp_path: Path, objects: "ObjectStorage"
) -> None:
    save(tmp_path / "in" / "a.npz")
    with pytest.raises(StorageError, match="s3://elsewhere/out: not found"):
        predict_folder(tmp_path / "in", "s3://elsewhere/out", ThresholdSegmenter(), UNLIMITED)

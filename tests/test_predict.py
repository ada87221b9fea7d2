"""Folders of cases: what is written, what is logged, and that one bad case stays alone."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gamt import predict
from gamt.io.case import Case, read_case, write_case
from gamt.predict import Cancelled, FolderError, Prediction, predict_case, predict_folder
from gamt.prompts import Box, ClassPrompts, Click, SlicePrompt
from gamt.segmenters import Embedding, SliceMask, Traits, load
from gamt.settings import PRESETS
from gamt.volume.cache import EmbeddingCache

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
    assert all(result.error is None and result.complete for result in results)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "b.npz", "c.npz"]
    expected = np.zeros(SHAPE, np.uint8)
    expected[BLOCK] = 1
    for path in (tmp_path / "out").iterdir():
        np.testing.assert_array_equal(segmentation(path), expected)


def test_the_output_names_the_segmenter(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.npz")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    with np.load(tmp_path / "out" / "a.npz") as file:
        assert file["segmenter"] == "threshold"


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
    (tmp_path / "in" / "folder.npz").mkdir()
    results = predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    assert [result.name for result in results] == ["a.npz"]


def test_an_empty_folder_gives_no_results(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter()) == []


def test_each_case_is_one_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gamt")
    save(tmp_path / "in" / "a.npz")
    predict_folder(tmp_path / "in", tmp_path / "out", ThresholdSegmenter(), UNLIMITED)
    (record,) = caplog.records
    assert record.name == "gamt"
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
    assert not result.complete
    assert result.error is None
    assert caplog.messages[-1].endswith("cut short by the time limit")
    assert segmentation(tmp_path / "out" / "a.npz").shape == SHAPE


def test_the_first_clock_is_the_callers_and_the_others_begin_when_one_case_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.npz", "b.npz", "c.npz"):
        save(tmp_path / "in" / name)
    starts, ends = [], []

    def recorded(
        case: Case, segmenter: object, settings: object, start: float, cache: object
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
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("b.npz: ")
    assert record.exc_info is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "c.npz"]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_a_segmenters_failure_is_reported_in_one_line_and_the_others_are_done(
    error: type[Exception], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gamt")
    save_unlucky(tmp_path / "in" / "a.npz")
    save(tmp_path / "in" / "b.npz")
    first, second = predict_folder(
        tmp_path / "in", tmp_path / "out", FailingSegmenter(error), UNLIMITED
    )
    assert first.error == f"{error.__name__}: no luck with this one"
    assert second.error is None
    assert caplog.messages[0] == f"a.npz: {first.error}"
    assert all(record.exc_info is None for record in caplog.records)


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
    save_unlucky(tmp_path / "in" / "a.npz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npz").write_bytes(b"earlier")
    predict_folder(tmp_path / "in", tmp_path / "out", FailingSegmenter(), UNLIMITED)
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

"""The presets from the command line to the files, with stand-in checkpoints."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import write_model
from benchmarks.samples import FOLDER
from gamt import segmenters
from gamt.cli.app import main
from gamt.io.case import read_case, read_volume, write_case
from gamt.lifting import budget
from gamt.prompts import Box, ClassPrompts
from gamt.segmenters import checkpoints

pytestmark = pytest.mark.slow

Run = Callable[..., str]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    standin: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs `gamt predict` with a checkpoint's stand-in in its place; returns the log."""

    def call(checkpoint: str, *arguments: str | Path) -> str:
        weights = tmp_path / "weights"
        weights.mkdir(exist_ok=True)
        (known,) = checkpoints.select([checkpoint])
        if not (weights / known.file).exists():
            (weights / known.file).symlink_to(standin(checkpoint))
        monkeypatch.setenv("GAMT_WEIGHTS_DIR", str(weights))
        # The clock begins now, not with the process that runs all tests.
        monkeypatch.setattr(budget, "process_start", time.monotonic)
        with pytest.raises(SystemExit) as end:
            main(["predict", *map(str, arguments)])
        log = capsys.readouterr().err
        assert (end.value.code or 0) == (0 if " 0 degraded, 0 failed" in log else 3), log
        return log

    return call


def assert_segmented(inputs: Path, outputs: Path, segmenter: str) -> None:
    for path in inputs.glob("*.npz"):
        labels = read_volume(outputs / path.name, "segs")
        truth = read_volume(path, "gts")
        assert labels.shape == truth.shape
        assert set(np.unique(labels)) == set(np.unique(truth)), path.name
        with np.load(outputs / path.name) as file:
            assert file["segmenter"] == segmenter


def test_coreset_segments_a_boxed_and_a_clicked_case_in_little_time(
    run: Run, tmp_path: Path
) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    for name in ("PET_phantom.npz", "CT_vessels_phantom.npz"):
        (inputs / name).symlink_to(FOLDER / name)
    # A run has 3 / 6 seconds a class, so that every case is cut short; none is lost.
    arguments = ("--preset", "coreset", "--set", "seconds_per_class=3")
    log = run("sam_med2d", inputs, tmp_path / "out", *arguments)
    assert_segmented(inputs, tmp_path / "out", "sam_med2d")
    assert log.count("sam_med2d on cpu") == 2
    assert "cut short" in log


def test_all_data_segments_a_case_in_little_time(run: Run, tmp_path: Path) -> None:
    # One class alone, because encoding one of its slices takes seconds.
    case = read_case(FOLDER / "PET_phantom.npz")
    truth = (read_volume(FOLDER / "PET_phantom.npz", "gts") == 1).astype(np.uint8)
    inputs = tmp_path / "in"
    path = inputs / "PET_one.npz"
    inputs.mkdir()
    write_case(path, case.image, case.spacing_mm, case.prompts[:1], gts=truth)
    arguments = ("--preset", "all-data", "--set", "seconds_per_class=3")
    log = run("sam_vit_l", inputs, tmp_path / "out", *arguments)
    assert_segmented(inputs, tmp_path / "out", "sam_vit_l")
    assert "sam_vit_l on cpu, 1 class" in log


def test_with_a_cache_a_second_run_encodes_nothing(run: Run, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 9, 12), np.uint8)
    prompts = ClassPrompts(1, Box(1, 4, 2, 2, 7, 3, 10))
    write_case(tmp_path / "in.npz", image, (1, 1, 1), [prompts])
    arguments = ("--preset", "coreset", "--no-budget", "--cache", tmp_path / "cache")
    first = run("sam_med2d", tmp_path / "in.npz", tmp_path / "first", *arguments)
    again = run("sam_med2d", tmp_path / "in.npz", tmp_path / "again", *arguments)
    assert " 0 slices encoded" not in first
    assert " 0 slices encoded" in again
    for key in ("segs", "segmenter"):
        one, other = (np.load(tmp_path / run / "in.npz")[key] for run in ("first", "again"))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("preset", "name"), [("cpu", "medsam2"), ("memory", "sam2.1_hiera_large")])
def test_presets_with_a_memory_segment_a_case_in_little_time(
    preset: str, name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The largest SAM 2.1 takes a minute a slice; the smallest network is walked by memory alike.
    monkeypatch.setitem(segmenters.BUILT_IN, name, segmenters.BUILT_IN["medsam2"])
    (file,) = write_model("medsam2", tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "MedSAM2_latest.pt").symlink_to(file)
    (known,) = checkpoints.select([name])
    if known.file != "MedSAM2_latest.pt":
        (tmp_path / "weights" / known.file).symlink_to(file)
    image = np.random.default_rng(0).integers(0, 256, (5, 9, 12), np.uint8)
    prompts = ClassPrompts(1, Box(1, 4, 2, 2, 7, 3, 10))
    write_case(tmp_path / "in.npz", image, (1, 1, 1), [prompts])
    log = run(name, tmp_path / "in.npz", tmp_path / "out", "--preset", preset)
    assert "medsam2 on cpu" in log
    assert read_volume(tmp_path / "out" / "in.npz", "segs").shape == (5, 9, 12)

"""The drawn scan, the session's run on it, and what its figures are held to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import interaction
from benchmarks.interaction import (
    FolderRun,
    SessionRun,
    box_of,
    draw_scan,
    equality_bar,
    run_session,
    session_bars,
)
from benchmarks.samples import FOLDER

MET = SessionRun(
    first_click=1.0,
    box=3.5,
    clicks=(0.1, 0.2, 0.3),
    peak_bytes=2**30,
    dice=(0.5, 0.8, 0.9),
    profile=(),
)


def test_the_target_has_the_volume_of_a_liver() -> None:
    image, target = draw_scan(shrink=4)
    # 1.5 to 2 million voxels, a 64th of them at a quarter of the size.
    assert 1.5e6 < 64 * target.sum() < 2e6
    assert image.shape == target.shape == (75, 128, 128)
    assert image[target].mean() > image[~target].mean()


def test_the_box_has_the_extent_of_the_middle_slice() -> None:
    target = np.zeros((9, 10, 12), np.bool_)
    target[2:7, 4:6, 5:8] = True
    target[6, 1:9, 1:11] = True  # larger than in slice 4
    assert box_of(target) == [[2, 7], [4, 6], [5, 8]]


@pytest.mark.slow
def test_a_session_is_timed_from_its_first_prompts_to_its_last_click() -> None:
    run = run_session(shrink=8)
    assert run.first_click > 0
    assert run.box > 0
    assert 1 <= len(run.clicks) <= interaction.CLICKS
    assert run.dice[2] > 0.7
    assert len(run.profile) == interaction.PROFILE_ROWS
    seconds = [one for _, one in run.profile]
    assert seconds == sorted(seconds, reverse=True)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"first_click": 1.6}, [0]),
        ({"box": 4.1}, [1]),
        ({"clicks": (0.1, 0.31, 0.4)}, [2]),
        ({"clicks": (0.1,) * 10 + (2.0,)}, [3]),  # the 95th percentile lies halfway to the last
        ({"peak_bytes": 2**31}, [4]),
    ],
)
def test_a_figure_above_its_bar_is_missed(changes: dict[str, object], missed: list[int]) -> None:
    found = session_bars(replace(MET, **changes))  # type: ignore[arg-type]
    assert [n for n, one in enumerate(found) if not one.met] == missed


def test_runs_that_differ_are_told_by_case() -> None:
    same, other = FolderRun({"a.npz": "1", "b.npz": "2"}, 0), FolderRun({"a.npz": "1"}, 3)
    assert equality_bar([same, same]).met
    found = equality_bar([same, other])
    assert not found.met
    assert found.measured == "1 of 2 cases differ: b.npz; 3 cut short by the time limit"


def test_runs_without_a_result_are_not_equal() -> None:
    assert not equality_bar([FolderRun({}, 0)]).met


@pytest.mark.slow
def test_a_folder_is_segmented_with_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = FOLDER / "PET_phantom.npz"
    (tmp_path / sample.name).write_bytes(sample.read_bytes())
    run = interaction.run_folder(tmp_path)
    assert list(run.digests) == [sample.name]
    assert run.cut_short == 0
    monkeypatch.setenv("GAMT_SECONDS_PER_CLASS", "0.001")
    hurried = interaction.run_folder(tmp_path)
    assert hurried.cut_short == 1
    assert hurried.digests != run.digests

"""The bars in the challenge's loop."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench import Bar
from benchmarks.loop_bars import (
    box_scores,
    clicked_bars,
    main,
    stored_bars,
    take_boxes_out,
)
from evaluation.records import CaseRecord
from gamt.io.case import read_case, read_volume
from tests.benchmarks.test_accuracy import record
from tests.evaluation.toy_method import write_easy_case


def met(bars: Sequence[Bar]) -> dict[str, bool | None]:
    return {one.name: one.met for one in bars}


def steady(name: str, box: float, last: float, has_box: bool = True) -> CaseRecord:
    """A record of one class that every click but the first leaves as it is."""
    return record(name, [[box]] * has_box + [[last]] * 5, has_box)


def test_a_copy_without_boxes_has_all_else(tmp_path: Path) -> None:
    path, folder = tmp_path / "MR_easy.npz", tmp_path / "bare"
    folder.mkdir()
    write_easy_case(path)
    copy = take_boxes_out(path, folder)
    assert copy == folder / "MR_easy.npz"
    assert all(one.box is not None for one in read_case(path).prompts)
    with np.load(path) as before, np.load(copy) as after:
        assert set(before.files) - set(after.files) == {"boxes"}
    np.testing.assert_array_equal(read_volume(copy, "gts"), read_volume(path, "gts"))


def test_scores_from_boxes_leave_scans_without_a_box_out() -> None:
    records = [steady("CT_a", 0.5, 1), steady("CT_b", 0.7, 1), steady("US_c", 0.9, 0.9, False)]
    assert box_scores(records) == pytest.approx({"CT": 0.6})


def test_bars_of_scans_as_they_are_have_boxes_clicks_and_the_ellipsoid_beside() -> None:
    # NSD is half the DSC there, so that it misses its bar. The area is four times the last DSC.
    ours = [steady("CT_a", 0.74, 0.9), steady("PET_b", 0.80, 0.9), steady("US_c", 0.85, 0.9)]
    ellipsoid = [steady("CT_a", 0.9, 0.9), steady("PET_b", 0.81, 0.9), steady("US_c", 0.84, 0.9)]
    assert met(stored_bars(ours, ellipsoid)) == {
        "As they are: box alone, DSC": True,
        "As they are: five clicks, DSC": True,
        "As they are: five clicks, NSD": False,
        "As they are: area under DSC": True,
        "As they are: PET, box alone, DSC": False,
        "As they are: US, box alone, DSC": True,
        "As they are: clicks that lose > 0.01": True,
        "As they are: clicks that lose > 0.05": True,
    }


def test_scans_without_any_box_have_no_bar_from_boxes() -> None:
    names = met(stored_bars([steady("US_c", 0, 0.9, False)], [steady("US_c", 0, 0.9, False)]))
    assert not any("box alone" in name for name in names)


def test_bars_of_scans_whose_boxes_were_taken_out_begin_with_a_click() -> None:
    # The first scan's third click loses 0.06, one of eight clicks after a first one.
    losing = record("CT_a", [[0.7], [0.8], [0.74], [0.8], [0.8]], has_box=False)
    found = clicked_bars([losing, steady("CT_b", 0, 0.62, False)])
    by_name = {one.name: one for one in found}
    assert by_name["Boxes taken out: first click, DSC"].measured == "0.660"
    assert by_name["Boxes taken out: first click, DSC"].met
    assert by_name["Boxes taken out: five clicks, DSC"].measured == "0.710"
    assert not by_name["Boxes taken out: five clicks, DSC"].met
    assert by_name["Boxes taken out: clicks that lose > 0.01"].measured == "12.5% (1 of 8)"
    assert not by_name["Boxes taken out: clicks that lose > 0.05"].met


@pytest.mark.slow
def test_a_scan_goes_through_the_loop_both_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_easy_case(tmp_path / "PET_easy.npz")
    main(["--cases", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "Scans as they are" in printed
    assert "Boxes taken out" in printed
    assert "As they are: PET, box alone, DSC" in printed


def test_a_folder_without_cases_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--cases", str(tmp_path)])
    assert f"--cases {tmp_path}: found no npz files there" in capsys.readouterr().err


def test_a_broken_case_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "CT_broken.npz").write_bytes(b"no archive")
    assert main(["--cases", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "CT_broken.npz" in line

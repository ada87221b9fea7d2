"""Which cases a folder has."""

import os
from pathlib import Path

import pytest

from evaluation.listing import ListingError, case_files, list_cases


def test_cases_come_in_the_order_of_their_names_with_the_sizes_of_their_files(
    tmp_path: Path,
) -> None:
    truths = tmp_path / "truths"
    truths.mkdir()
    (tmp_path / "CT_b.npz").write_bytes(b"12345")
    (tmp_path / "CT_a.npz").write_bytes(b"123")
    (truths / "CT_b.npz").write_bytes(b"12")
    for other in ("notes.txt", ".CT_c.npz"):
        (tmp_path / other).write_bytes(b"1")
    first, second = list_cases(tmp_path, truths)
    assert (first.case, first.image_bytes, first.gts_bytes) == ("CT_a.npz", 3, 0)
    assert (second.case, second.image_bytes, second.gts_bytes) == ("CT_b.npz", 5, 2)
    assert second.bytes == 7


@pytest.mark.parametrize("changed", ["image", "truth"])
def test_the_stamp_changes_with_the_files(tmp_path: Path, changed: str) -> None:
    paths = {"image": tmp_path / "CT_a.npz", "truth": tmp_path / "truths" / "CT_a.npz"}
    paths["truth"].parent.mkdir()
    for path in paths.values():
        path.write_bytes(b"1")
    (before,) = list_cases(tmp_path, paths["truth"].parent)
    os.utime(paths[changed], ns=(1, 1))
    (after,) = list_cases(tmp_path, paths["truth"].parent)
    assert before.stamp != after.stamp


def test_a_link_to_nowhere_is_a_case_too(tmp_path: Path) -> None:
    (tmp_path / "CT_a.npz").symlink_to("nowhere")
    assert [one.case for one in list_cases(tmp_path, None)] == ["CT_a.npz"]


def test_a_folder_without_cases_or_none_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ListingError, match="no npz file in this folder"):
        list_cases(tmp_path, None)
    with pytest.raises(ListingError, match=r"nowhere: No such file.*expected a folder of cases"):
        list_cases(tmp_path / "nowhere", None)


def test_files_of_a_case_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = case_files(Path("cases"), Path("truths"), "CT_a.npz")
    assert files.image == tmp_path / "cases" / "CT_a.npz"
    assert files.gts == tmp_path / "truths" / "CT_a.npz"
    alone = case_files(Path("cases"), None, "CT_a.npz")
    assert alone.gts == alone.image

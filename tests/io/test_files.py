from pathlib import Path

import pytest

from gamt.io.files import OverwriteError, refuse_overwrite


def test_an_output_beside_the_inputs_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").touch()
    refuse_overwrite(tmp_path / "mask.nii", [tmp_path / "scan.nii"])


def test_an_existing_file_that_is_no_input_may_be_replaced(tmp_path: Path) -> None:
    for name in ("scan.nii", "mask.nii"):
        (tmp_path / name).touch()
    refuse_overwrite(tmp_path / "mask.nii", [tmp_path / "scan.nii"])


def test_a_missing_input_is_left_to_its_reader(tmp_path: Path) -> None:
    refuse_overwrite(tmp_path / "mask.nii", [tmp_path / "missing.nii"])


@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
def test_an_input_under_another_name_is_refused_and_both_are_named(
    tmp_path: Path, link: str
) -> None:
    scan = tmp_path / "scan.nii"
    scan.touch()
    output = {"same": tmp_path / "." / "scan.nii"}.get(link, tmp_path / "link.nii")
    if link == "symbolic":
        output.symlink_to(scan)
    elif link == "hard":
        output.hardlink_to(scan)
    with pytest.raises(OverwriteError, match=rf"{output.name}.*input .*scan\.nii"):
        refuse_overwrite(output, [tmp_path / "other.nii", scan])

from pathlib import Path

import pytest

from gamt.io.files import OverwriteError, atomic_write, atomic_write_files, refuse_overwrite


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


def test_files_written_together_appear_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_write_files(tmp_path / "a.mhd") as partial:
        partial.write_text("header")
        partial.with_name("a.raw").write_text("data")
        assert not (tmp_path / "a.mhd").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.mhd": "header",
        "a.raw": "data",
    }


def test_files_of_a_block_that_fails_leave_the_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("earlier")

    def fail() -> None:
        with atomic_write_files(tmp_path / "a.mhd") as partial:
            partial.write_text("header")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.mhd": "earlier"}


def test_a_folder_that_is_not_there_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.mhd"
    with pytest.raises(OSError, match="No such file") as caught, atomic_write_files(path):
        pass
    assert caught.value.filename == str(path)


def write_header(path: Path, data: str) -> Path:
    path.write_text(f"ObjectType = Image\nElementDataFile = {data}\n")
    path.with_name(data).write_text("voxels")
    return path


@pytest.mark.parametrize("earlier", [True, False])
def test_the_data_file_of_an_input_is_refused(tmp_path: Path, earlier: bool) -> None:
    previous = write_header(tmp_path / "prev.mhd", "m.zraw")
    if earlier:  # two headers may name the same data
        write_header(tmp_path / "m.mhd", "m.zraw")
    with pytest.raises(OverwriteError, match=r"m\.zraw: would replace the input .*m\.zraw"):
        refuse_overwrite(tmp_path / "m.mhd", [previous])


def test_data_beside_an_output_that_no_header_of_its_name_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").touch()
    write_header(tmp_path / "m.mhd", "other.raw")
    (tmp_path / "m.zraw").write_text("of somebody else")
    with pytest.raises(OverwriteError, match=r"m\.mhd: would replace m\.zraw, which isn't its own"):
        refuse_overwrite(tmp_path / "m.mhd", [tmp_path / "scan.nii"])


def test_an_earlier_output_is_replaced_with_its_data(tmp_path: Path) -> None:
    write_header(tmp_path / "m.mhd", "m.zraw")
    refuse_overwrite(tmp_path / "m.mhd", [tmp_path / "scan.nii"])


def test_a_companion_that_the_earlier_header_does_not_name_is_kept(tmp_path: Path) -> None:
    write_header(tmp_path / "m.mhd", "other.raw")
    (tmp_path / "m.zraw").write_text("of somebody else")

    def write() -> None:
        with atomic_write_files(tmp_path / "m.mhd") as partial:
            write_header(partial, "m.zraw")

    with pytest.raises(OSError, match=r"would replace m\.zraw, which isn't its own"):
        write()
    assert (tmp_path / "m.zraw").read_text() == "of somebody else"
    assert "other.raw" in (tmp_path / "m.mhd").read_text()


def test_an_error_of_the_block_about_another_file_still_names_that_file(tmp_path: Path) -> None:
    def fail(error: OSError) -> None:
        with atomic_write(tmp_path / "a.json"):
            raise error

    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(OSError, match=r"No space left on device: 'mask\.nii'"):
        fail(OSError(28, "No space left on device", "mask.nii"))
    assert not list(tmp_path.iterdir())

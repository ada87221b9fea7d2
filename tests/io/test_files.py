import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gamt.io import files
from gamt.io.files import (
    OverwriteError,
    atomic_write,
    atomic_write_files,
    refuse_overwrite,
    remove_partials,
)


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


LEFT = f".{'0123456789abcdef' * 2}.partial"
"""The name of what a killed process has left."""

WRITER = """
import sys
from pathlib import Path
from gamt.io.files import {function}
with {function}(Path(sys.argv[1])):
    print("at work", flush=True)
    sys.stdin.read()
"""


def start_writer(function: str, path: Path) -> "subprocess.Popen[str]":
    """Starts a process that is amid writing a file until its input ends."""
    command = [sys.executable, "-c", WRITER.format(function=function), str(path)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


@pytest.mark.parametrize("function", ["atomic_write", "atomic_write_files"])
def test_what_a_killed_process_left_is_removed_but_nothing_of_a_living_one(
    function: str, tmp_path: Path
) -> None:
    with start_writer(function, tmp_path / "a.nii") as process:
        (left,) = tmp_path.iterdir()
        remove_partials(tmp_path)
        assert [*tmp_path.iterdir()] == [left]
        process.kill()
    assert left.exists()
    remove_partials(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_other_programs_have_hidden_stays(tmp_path: Path) -> None:
    names = {".partial", f"{LEFT}.txt", LEFT[1:], ".0123.partial", "a.npz"}
    for name in {*names, LEFT}:
        (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_leftover_name_that_is_a_pipe_or_a_dangling_link_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LEFT)
    (tmp_path / LEFT.replace("0", "1")).symlink_to(tmp_path / "nowhere")
    remove_partials(tmp_path)


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    remove_partials(tmp_path / "none")


def test_a_file_that_is_taken_for_a_leftover_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    make = files._make_file

    def make_and_lose(path: Path) -> int:
        descriptor = make(path)
        if not made:
            remove_partials(tmp_path)  # as another run does at its start
        made.append(path)
        return descriptor

    monkeypatch.setattr(files, "_make_file", make_and_lose)
    with atomic_write(tmp_path / "a.npz") as file:
        file.write(b"whole")
    assert len(made) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.npz": b"whole"}


@pytest.mark.parametrize("write", [atomic_write, atomic_write_files])
def test_what_is_no_file_is_not_replaced(
    write: Callable[[Path], AbstractContextManager[object]], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "folder.nii").mkdir()
    for name, reason in (("pipe.nii", "is no file"), ("folder.nii", "Is a directory")):
        with pytest.raises(OSError, match=rf"{reason}.*{name}"), write(tmp_path / name):
            pytest.fail("it began to write")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.nii", "pipe.nii"]


def test_a_file_that_does_not_fit_leaves_nothing_and_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"too large: '.*a\.npz'"), atomic_write(path) as file:
            file.write(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.npz": b"earlier"}


def test_a_name_of_255_bytes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".npz")
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"

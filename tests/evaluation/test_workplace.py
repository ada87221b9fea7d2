"""Disks that fill where methods work: who is to blame, and what is removed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluation.loop import Ended, Method
from evaluation.methods import ParsedMethod
from evaluation.records import CaseRecord, TeamFolder
from evaluation.run import Progress, evaluate_folder
from tests.cluster.threads import Threads
from tests.evaluation.doubles import Toy
from tests.evaluation.test_run import TOY, evaluate, write_case


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    folder.mkdir()
    for name in ("CT_0", "MR_1"):
        write_case(folder / f"{name}.npz", 0)
    return folder


class Disk:
    """A small disk below a folder, which others use, too.

    Attributes:
        others: bytes that they take.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self.others = 0

    def usage(self, path: Path) -> SimpleNamespace:
        """Stands for `shutil.disk_usage`."""
        taken = sum(one.lstat().st_size for one in self._folder.rglob("*") if not one.is_dir())
        return SimpleNamespace(free=self._size - self.others - taken)


@dataclass
class Filling:
    """The toy method, but that a disk is filled when it runs.

    Attributes:
        disk: which.
        own: bytes that the method itself takes.
        others: bytes that others take.
        writes: whether it writes a segmentation all the same.
    """

    disk: Disk
    own: int = 0
    others: int = 0
    writes: bool = False

    def run(self, folder: Path, log: Path, cancelled: Callable[[], bool]) -> Ended:
        self.disk.others = self.others
        (folder / "rubbish").write_bytes(bytes(self.own))
        return Toy().run(folder, log, cancelled) if self.writes else Ended("exit status 1", 0.1)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    # Room for an input of some hundred bytes and a segmentation of 6 x 10 x 14 voxels, and more.
    disk = Disk(tmp_path / "team" / "work", 10_000)
    monkeypatch.setattr("evaluation.workplace.shutil.disk_usage", disk.usage)
    return disk


def evaluate_one(cases: Path, out: Path, method: Method) -> Progress:
    return evaluate_folder(
        cases,
        None,
        TOY,
        ParsedMethod(method, "toy", TOY),
        TeamFolder(out),
        run_limit=60.0,
        make_workers=Threads,
        only=["CT_0.npz"],
    )


@pytest.mark.parametrize(
    ("own", "others", "failed"),
    [(0, 9_900, True), (9_900, 0, False), (5_000, 9_500, True)],
    ids=["by-others", "by-itself", "by-both"],
)
def test_a_disk_that_fills_amid_a_run_fails_the_case_unless_the_method_fills_it(
    cases: Path, tmp_path: Path, disk: Disk, own: int, others: int, failed: bool
) -> None:
    result = evaluate_one(cases, tmp_path / "team", Filling(disk, own, others))
    assert (result.done, len(result.failed)) == ((0, 1) if failed else (1, 0))
    if failed:
        assert "No space left on device" in result.failed["CT_0.npz"]


def test_what_a_method_leaves_is_removed_where_the_next_run_would_have_no_room(
    cases: Path, tmp_path: Path, disk: Disk
) -> None:
    # It leaves room for the next input, but not for a segmentation beside it.
    filling = Filling(disk, own=9_000, writes=True)
    assert evaluate_one(cases, tmp_path / "team", filling).done == 1
    record = CaseRecord.read(tmp_path / "team" / "records" / "CT_0.json")
    assert [one.output for one in record.interactions] == ["written"] * 6


def test_no_run_is_begun_on_a_full_disk_where_its_output_could_not_be_written(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr("evaluation.workplace.shutil.disk_usage", lambda path: Usage)
    result = evaluate(cases, tmp_path / "team")
    assert len(result.failed) == 2
    assert "No space left on device" in result.failed["CT_0.npz"]

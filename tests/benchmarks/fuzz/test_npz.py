"""Spoilt case files: always the same ones, and what must come of them."""

import os
import pickle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz.arrays import CANARY
from benchmarks.fuzz.audit import Watch
from benchmarks.fuzz.honest import companion, draw_case
from benchmarks.fuzz.in_process import run_in_process
from benchmarks.fuzz.judging import Run, judge
from benchmarks.fuzz.npz import draw_npz, honest_npz
from benchmarks.fuzz.odd import draw_odd
from benchmarks.fuzz.pickled import HARMFUL
from benchmarks.fuzz.script import run_script
from gamt.io.case import CaseError, read_case

LABELS = np.ones((2, 3, 4), np.uint8)


def test_a_file_of_a_seed_is_always_the_same() -> None:
    assert draw_npz(3, 14) == draw_npz(3, 14)
    assert len({draw_npz(3, number).data for number in range(20)}) > 15


def test_files_of_a_seed_are_spoilt_at_every_level() -> None:
    levels = {draw_npz(0, number).kind.partition(":")[0] for number in range(60)}
    assert levels == {"bytes", "zip", "npy", "pickle", "value", "odd"}


def test_odd_files_are_read(tmp_path: Path) -> None:
    for number in range(60):
        kind, case = draw_odd(np.random.default_rng(number))
        (tmp_path / "a.npz").write_bytes(honest_npz(case))
        try:
            read_case(tmp_path / "a.npz")
        except CaseError as error:
            raise AssertionError(kind) from error


@pytest.mark.parametrize("seed", range(6))
def test_honest_files_are_read(seed: int, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(honest_npz(draw_case(np.random.default_rng(seed))))
    assert read_case(tmp_path / "a.npz").prompts


def test_the_pickles_that_run_code_do_so_where_nobody_is_careful() -> None:
    canary = Path(CANARY)
    canary.unlink(missing_ok=True)
    for number in range(100):
        if canary.exists():
            break
        code = HARMFUL["runs code"](np.random.default_rng(number))
        if b"posix" in code and b"system" in code and b"R" in code:
            pickle.loads(code)
    assert canary.exists()
    canary.unlink()


def judged(folder: Path, status: int, log: str, *outputs: str) -> dict[str, list[str]]:
    """Judges a run on the spoilt f1 and the honest zz."""
    for name in outputs:
        np.savez(folder / f"{name}.npz", segs=LABELS)
    return judge(Run(status, log, folder), ["f1"], {"zz": LABELS})


REFUSED = "ERROR f1.npz: key 'boxes': found 7, expected a dict\n"


@pytest.mark.parametrize("status", [0, 3])
def test_a_file_that_is_segmented_is_no_finding(status: int, tmp_path: Path) -> None:
    assert judged(tmp_path, status, "INFO f1: done\n", "f1", "zz") == {}


def test_a_file_that_is_refused_is_no_finding(tmp_path: Path) -> None:
    assert judged(tmp_path, 4, REFUSED, "zz") == {}


@pytest.mark.parametrize(
    ("status", "log", "outputs", "name"),
    [
        (0, REFUSED, ["zz"], ""),
        (4, REFUSED, ["f1", "zz"], ""),
        (4, "", ["zz"], "f1"),
        (4, "ERROR f1.npz: IndexError: 7\n", ["zz"], "f1"),
        (4, REFUSED, [], ""),
        (0, "", ["f1", "zz", ".0.partial"], ""),
        (0, "Traceback (most recent call last):\n", ["f1", "zz"], ""),
        (0, "/a/b.py:7: RuntimeWarning: overflow\n", ["f1", "zz"], ""),
        (0, "WARNING f1.npz: \x1b[31m\n", ["f1", "zz"], "f1"),
        (0, f"WARNING f1.npz: {'x' * 2000}\n", ["f1", "zz"], "f1"),
    ],
)
def test_what_must_not_be_is_found(
    status: int, log: str, outputs: list[str], name: str, tmp_path: Path
) -> None:
    assert name in judged(tmp_path, status, log, *outputs)


def test_another_result_of_an_honest_file_is_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "f1.npz", segs=LABELS)
    np.savez(tmp_path / "zz.npz", segs=LABELS + 1)
    found = judge(Run(0, "", tmp_path), ["f1"], {"zz": LABELS})
    assert found == {"": ["another result of the honest zz.npz"]}


def _misbehave(folder: Path) -> list[str]:
    watch = Watch()
    watch.begin(folder)
    (folder / "inside").write_bytes(b"")
    (folder.parent / "outside").write_bytes(b"")
    import encodings.cp037  # noqa: F401  # a module of its own site is no finding

    os.system("true")
    exec(compile("1", "<text>", "exec"))
    return [one.partition(" ")[0] for one in watch.end()]


@pytest.mark.slow
def test_the_watch_sees_code_and_writing_outside(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    # In a process of its own, for an audit hook is never taken off.
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_misbehave, (folder,)) == ["open", "os.system", "exec"]


@pytest.mark.slow
def test_spoilt_files_harm_nothing_in_process(tmp_path: Path) -> None:
    tally = run_in_process(1, range(40), tmp_path, workers=1)
    assert tally.files == 40
    assert tally.findings == []


@pytest.mark.slow
def test_spoilt_files_harm_nothing_by_predict_sh(tmp_path: Path) -> None:
    tally = run_script(1, range(100, 110), tmp_path)
    assert tally.files == 10
    assert tally.findings == []


def test_the_honest_file_is_the_same_each_time() -> None:
    assert honest_npz(companion()) == honest_npz(companion())

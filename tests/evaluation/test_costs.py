"""Sizes of cases, what they are expected to cost, and the order in which they are done."""

import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.costs import UNSEEN, Costs, Rates, Sizes, fit_rates, read_sizes
from evaluation.index import Entry
from evaluation.listing import Listed, list_cases

SHAPE = (3, 10, 14)

Size = tuple[float, float, float]
"""Voxels, classes, runs."""


def write_npz(path: Path, boxes: int | None, **arrays: Any) -> None:
    if boxes is not None:
        arrays["boxes"] = np.array([{"z_min": 0}] * boxes, dtype=object)
    np.savez_compressed(path, **{"imgs": np.zeros(SHAPE, np.uint8), **arrays})


def make_entry(case: str, size: Size, seconds: float) -> Entry:
    voxels, classes, runs = map(int, size)
    return Entry(case, "", voxels, classes, seconds, runs, 0, True, (0.0,) * 4)


def make_listed(case: str, image_bytes: int = 1) -> Listed:
    return Listed(case, image_bytes, 0, "")


def read(folder: Path, seen: list[Entry] | None = None, limit: float = 60.0) -> list[list[float]]:
    sizes = read_sizes(list_cases(folder, None), folder, seen or [], limit)
    return [[*map(float, size)] for size in sizes]


def fit(sizes: Sequence[Size], seconds: Sequence[float]) -> Rates:
    seen = zip(sizes, seconds, strict=True)
    return fit_rates([make_entry("", size, one) for size, one in seen])


def make_sizes(*sizes: Size) -> Sizes:
    return np.array(sizes, np.float64)


def test_the_size_of_a_case_is_that_of_its_image_and_its_boxes(tmp_path: Path) -> None:
    write_npz(tmp_path / "CT_a.npz", boxes=3)
    assert read(tmp_path) == [[3 * 10 * 14, 3, 6]]


def test_a_case_without_boxes_has_a_run_less_and_one_class(tmp_path: Path) -> None:
    write_npz(tmp_path / "CT_a.npz", boxes=None)
    assert read(tmp_path) == [[420, 1, 5]]


def test_a_case_without_boxes_has_as_many_classes_as_others_without_that_are_done(
    tmp_path: Path,
) -> None:
    write_npz(tmp_path / "CT_a.npz", boxes=None)
    seen = [make_entry(f"{number}", (1, number, 5), 1.0) for number in (7, 9, 20)]
    boxed = make_entry("boxed", (1, 100, 6), 1.0)
    assert read(tmp_path, [*seen, boxed]) == [[420, 9, 5]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no npz" * 100),
        lambda path: path.unlink() or path.symlink_to("nowhere"),
        lambda path: np.savez(path, spacing=np.ones(3)),
        lambda path: np.savez(path, imgs=np.array([None, "object"])),
    ],
)
def test_a_file_that_cannot_be_read_is_as_large_as_others_for_its_bytes(
    tmp_path: Path, spoil: Any
) -> None:
    write_npz(tmp_path / "CT_a.npz", boxes=2)
    write_npz(tmp_path / "CT_b.npz", boxes=2)
    spoil(tmp_path / "CT_b.npz")
    whole, spoilt = list_cases(tmp_path, None)
    expected = max(1.0, spoilt.image_bytes * 420 / whole.image_bytes)
    sizes = read(tmp_path)
    assert sizes[0] == [420, 2, 6]
    assert sizes[1] == pytest.approx([expected, 2, 6])


def test_a_header_that_claims_more_than_there_is_is_not_believed(tmp_path: Path) -> None:
    write_npz(tmp_path / "CT_a.npz", boxes=1)
    with zipfile.ZipFile(tmp_path / "CT_b.npz", "w") as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99, 99, 99)}\n"
        content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(24)
        archive.writestr("imgs.npy", content)
    _, claimed = read(tmp_path)
    assert claimed[0] < 10_000


def test_past_the_time_limit_sizes_are_taken_from_bytes(tmp_path: Path) -> None:
    write_npz(tmp_path / "CT_a.npz", boxes=5)
    (one,) = list_cases(tmp_path, None)
    # Nothing was read: as many voxels as bytes, and one class.
    assert read(tmp_path, limit=-1.0) == [[one.image_bytes, 1, 6]]


def test_what_is_seen_shows_what_a_run_a_class_and_a_voxel_cost() -> None:
    # A run takes 2 s, 3 s for each class, and 1 s for each 1000 voxels: 6 runs of the first case
    # take 6 * (2 + 3 * 1 + 1) = 36 s, and so on.
    sizes = [(1000, 1, 6), (5000, 1, 6), (1000, 4, 6), (9000, 2, 5), (1, 2, 5)]
    seconds = [36.0, 60.0, 90.0, 85.0, 40.005]
    assert fit(sizes, seconds) == pytest.approx(Rates(2.0, 3.0, 0.001, 0.0), abs=1e-9)


def test_from_few_cases_seconds_are_in_proportion_to_voxels_and_classes() -> None:
    rates = fit([(10, 2, 6), (20, 1, 6)], [30.0, 90.0])
    # 120 s for 240 voxels times classes times runs.
    assert rates.expect(make_sizes((100, 3, 5))).tolist() == pytest.approx([750.0])


sizes = st.tuples(st.integers(1, 10**9), st.integers(1, 200), st.sampled_from((5, 6)))


@given(st.lists(st.tuples(sizes, st.floats(0.001, 1e5)), min_size=1, max_size=12))
def test_all_together_take_as_long_as_they_did_and_none_less_than_nothing(
    seen: list[tuple[Size, float]],
) -> None:
    of, seconds = [one for one, _ in seen], [one for _, one in seen]
    rates = fit(of, seconds)
    assert min(rates) >= 0
    assert math.fsum(rates.expect(make_sizes(*of))) == pytest.approx(sum(seconds))


def test_what_took_no_time_at_all_says_nothing() -> None:
    assert fit([(10, 2, 6)], [0.0]) == UNSEEN


def test_the_longest_come_first_and_of_equal_ones_the_first() -> None:
    todo = [make_listed(name) for name in "abcd"]
    voxels = {"a": 10, "b": 30, "c": 10, "d": 20}
    costs = Costs(todo, make_sizes(*((voxels[one.case], 1, 6) for one in todo)))
    assert [one.case for one in costs.longest_first()] == ["b", "d", "a", "c"]


def test_the_order_follows_what_is_seen_meanwhile() -> None:
    todo = [make_listed(name) for name in "abc"]
    # By voxels times classes b comes before c. But in those that are seen classes cost nothing.
    costs = Costs(todo, make_sizes((100, 9, 6), (10, 9, 6), (50, 1, 6)))
    order = costs.longest_first()
    assert next(order).case == "a"
    seen = [(100, 1, 6), (100, 9, 6), (10, 3, 6), (50, 2, 6)]
    costs.see([make_entry(f"{one}", one, one[0]) for one in seen])
    assert [one.case for one in order] == ["c", "b"]


def test_the_share_that_has_ended_goes_by_the_work() -> None:
    todo = [make_listed(name) for name in "ab"]
    costs = Costs(todo, make_sizes((300, 1, 6), (100, 1, 6)))
    assert costs.ended_share == 0.0
    costs.end("a")
    assert costs.ended_share == pytest.approx(0.75)
    costs.end("b")
    assert costs.ended_share == pytest.approx(1.0)

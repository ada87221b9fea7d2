"""The simulated user, against the organisers' clicks, by hand and against a slow reference.

How `official.json` was made is written in `test_metrics.py`.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from evaluation import clicks
from evaluation.clicks import Click, simulate_clicks
from tests.evaluation.pairs import Pair, block, pairs

Labels = npt.NDArray[np.uint8]
Voxel = tuple[int, int, int]

# A first call compiles, once per type of array.
UNHURRIED = settings(deadline=None)

OFFICIAL = json.loads((Path(__file__).parent / "official.json").read_text())


@st.composite
def small_pairs(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Two volumes of the labels 0, 1, 2, of one shape, in either memory order each."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)))
    volumes = st_numpy.arrays(np.uint8, shape, elements=st.integers(0, 2))
    gts, segs = draw(volumes), draw(volumes)
    return (
        np.asarray(gts, order=draw(st.sampled_from("CF"))),
        np.asarray(segs, order=draw(st.sampled_from("CF"))),
    )


def reference_clicks(gts: Labels, segs: Labels) -> list[Click]:
    """The rules in plain sets of voxels; ties by C order, so for C-ordered volumes."""
    found: list[Click] = []
    for label in np.unique(gts)[1:].tolist():
        errors = {(z, y, x) for z, y, x in np.argwhere((gts == label) != (segs == label)).tolist()}
        components: list[set[Voxel]] = []
        for start in sorted(errors):
            if any(start in component for component in components):
                continue
            component, todo = {start}, [start]
            while todo:
                z, y, x = todo.pop()
                for k, j, i in itertools.product((-1, 0, 1), repeat=3):
                    voxel = (z + k, y + j, x + i)
                    if voxel in errors and voxel not in component:
                        component.add(voxel)
                        todo.append(voxel)
            components.append(component)
        if not components:
            found.append((label, None, None))
            continue
        largest = max(components, key=len)
        outside = [
            voxel
            for voxel in itertools.product(*(range(-1, side + 1) for side in gts.shape))
            if voxel not in largest
        ]
        depths = {
            voxel: min(sum((a - b) ** 2 for a, b in zip(voxel, o, strict=True)) for o in outside)
            for voxel in largest
        }
        deepest = sorted(voxel for voxel in depths if depths[voxel] == max(depths.values()))
        np.random.seed(42)  # noqa: NPY002
        voxel = deepest[np.random.choice(len(deepest))]  # noqa: NPY002
        found.append((label, "fg" if gts[voxel] == label else "bg", voxel))
    return found


@pytest.mark.parametrize("pair", list(pairs()), ids=lambda pair: pair.name)
def test_clicks_equal_the_official_ones(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clicks, "LARGEST_BOX", pair.limit)
    expected = [
        (label, kind, None if voxel is None else tuple(voxel))
        for label, kind, voxel in OFFICIAL[pair.name]["clicks"]
    ]
    assert simulate_clicks(pair.gts, pair.segs.astype(np.uint8)) == expected


@UNHURRIED
@given(volumes=small_pairs())
def test_clicks_equal_those_of_a_slow_reference(volumes: tuple[Labels, Labels]) -> None:
    gts, segs = (np.ascontiguousarray(volume) for volume in volumes)
    assert simulate_clicks(gts, segs) == reference_clicks(gts, segs)


@UNHURRIED
@given(volumes=small_pairs())
def test_a_click_lies_in_an_error_and_tells_its_kind(volumes: tuple[Labels, Labels]) -> None:
    gts, segs = volumes
    placed = simulate_clicks(gts, segs)
    assert [label for label, _, _ in placed] == np.unique(gts)[1:].tolist()
    for label, kind, voxel in placed:
        if kind is None or voxel is None:
            np.testing.assert_array_equal(gts == label, segs == label)
        else:
            assert (gts[voxel] == label) == (kind == "fg")
            assert (segs[voxel] == label) == (kind == "bg")


@UNHURRIED
@given(volumes=small_pairs())
def test_swapping_truth_and_prediction_swaps_the_kinds(volumes: tuple[Labels, Labels]) -> None:
    gts, segs = volumes
    back = {label: (kind, voxel) for label, kind, voxel in simulate_clicks(segs, gts)}
    swapped = {"fg": "bg", "bg": "fg", None: None}
    for label, kind, voxel in simulate_clicks(gts, segs):
        if label in back:
            assert back[label] == (swapped[kind], voxel)


def test_the_click_is_in_the_middle_of_the_largest_error() -> None:
    # A cube of 5 has one deepest voxel, its centre; the error of 4 voxels elsewhere is smaller.
    gts = block((9, 10, 12), (1, 2, 3), (6, 7, 8), label=4)
    segs = block((9, 10, 12), (8, 0, 0), (9, 2, 2), label=4)
    assert simulate_clicks(gts, segs) == [(4, "fg", (3, 4, 5))]
    assert simulate_clicks(segs, gts) == [(4, "bg", (3, 4, 5))]


def test_the_border_of_the_volume_is_an_outside() -> None:
    # All of 3 x 5 x 7 is missed but for a corner of background. The voxels at z = 1, y = 1..3 and
    # x = 1..5 are 2 deep, save (1, 1, 1), at sqrt(3) from the corner: 14, of which the generator
    # draws the seventh, which is the third after the 4 at y = 1.
    gts = np.ones((3, 5, 7), np.uint8)
    gts[0, 0, 0] = 0
    assert np.random.RandomState(42).choice(14) == 6
    assert simulate_clicks(gts, np.zeros_like(gts)) == [(1, "fg", (1, 2, 3))]


def test_voxels_that_touch_at_a_corner_are_one_error() -> None:
    # Three in a diagonal are more than two in a row.
    gts = np.zeros((4, 4, 8), np.uint8)
    gts[[0, 1, 2], [2, 1, 0], [0, 1, 2]] = 1
    gts[0, 0, 6:] = 1
    ((_, kind, voxel),) = simulate_clicks(gts, np.zeros_like(gts))
    assert kind == "fg"
    assert voxel in [(0, 2, 0), (1, 1, 1), (2, 0, 2)]


@pytest.mark.parametrize("following", [((0, 0, 7), (0, 1, 0)), ((0, 2, 7), (1, 0, 0))])
def test_rows_that_follow_each_other_in_memory_do_not_touch(
    following: tuple[Voxel, Voxel],
) -> None:
    # The last voxel of a row, or slice, and the first of the next: if they were one error, it
    # would come before the other error of two voxels.
    gts = block((2, 3, 8), (1, 2, 3), (2, 3, 5))
    for voxel in following:
        gts[voxel] = 1
    assert simulate_clicks(gts, np.zeros_like(gts))[0][2] in [(1, 2, 3), (1, 2, 4)]


def test_two_errors_of_a_class_that_meet_are_one() -> None:
    # One voxel too many beside one missing, along x: an error of 2, more than the one before it.
    gts = np.array([[[1, 0, 0, 1, 0, 0]]], np.uint8)
    segs = np.array([[[0, 0, 0, 0, 1, 0]]], np.uint8)
    assert simulate_clicks(gts, segs)[0][2] in [(0, 0, 3), (0, 0, 4)]


def test_the_callers_random_numbers_are_left_alone() -> None:
    gts = block((3, 4, 5), (1, 1, 1), (2, 2, 2))
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    simulate_clicks(gts, np.zeros_like(gts))
    assert np.random.random() == expected  # noqa: NPY002


def test_no_class_no_click() -> None:
    empty = np.zeros((2, 3, 4), np.uint8)
    assert simulate_clicks(empty, empty) == []


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        simulate_clicks(np.zeros((2, 3, 4), np.uint8), np.zeros((2, 4, 3), np.uint8))

"""Dice and surface Dice, against the organisers' values, by hand and against a slow reference.

`official.json` holds what the organisers' functions returned for the volumes of `pairs.py`:
github.com/JunMa11/CVPR-MedSegFMCompetition at commit 748e862d162e3e3ee8197bd4085b19bbbe0bb8a0,
`compute_multi_class_dsc`, `compute_multi_class_nsd` and, for the clicks, the part "Refinement
clicks" of the loop in `CVPR25_iter_eval.py`, on numpy 2.4.6, scipy 1.17.1 and
connected-components-3d 4.1.1, without a GPU. Patched: names that numpy 2 and scipy removed (np.NaN,
np.Inf, scipy.ndimage.filters and .morphology), and the 60000000 in `compute_edt` by each pair's
limit. `segs` was cast to uint8 for the clicks, as the loop does.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from evaluation import metrics
from evaluation.metrics import class_dsc, class_nsd, multi_class_dsc, multi_class_nsd
from tests.evaluation.pairs import Pair, block, pairs

Labels = npt.NDArray[np.uint8]

# A first call compiles, once per type of array.
UNHURRIED = settings(deadline=None)

OFFICIAL = json.loads((Path(__file__).parent / "official.json").read_text())
PAIRS = list(pairs())

spacings = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 1.3, 3.0])] * 3)


@st.composite
def small_pairs(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Two volumes of the labels 0, 1, 2, of one shape."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)))
    volumes = st_numpy.arrays(np.uint8, shape, elements=st.integers(0, 2))
    return draw(volumes), draw(volumes)


def reference_nsd(
    gts: Labels, segs: Labels, label: int, spacing: tuple[float, float, float], tolerance: float
) -> float:
    """Surface Dice of one class from the distances between all pairs of corners."""
    areas = metrics._areas(np.array(spacing))
    surfaces: list[dict[tuple[int, ...], float]] = []
    for volume in (gts, segs):
        mask = np.pad(volume == label, 1)
        surface = {}
        for corner in itertools.product(*(range(side + 1) for side in volume.shape)):
            around = [
                mask[corner[0] + z, corner[1] + y, corner[2] + x]
                for z, y, x in itertools.product((0, 1), repeat=3)
            ]
            if 0 < sum(around) < 8:
                surface[corner] = areas[int("".join(str(int(one)) for one in around), 2)]
        surfaces.append(surface)
    whole = near = 0.0
    for one, other in (surfaces, surfaces[::-1]):
        for corner, area in one.items():
            whole += area
            squares = [
                sum(((a - b) * s) ** 2 for a, b, s in zip(corner, c, spacing, strict=True))
                for c in other
            ]
            near += area * (min(squares, default=math.inf) <= tolerance**2)
    return near / whole


def test_every_pair_has_official_values() -> None:
    assert list(OFFICIAL) == [pair.name for pair in PAIRS]
    assert len(PAIRS) >= 30


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_dsc_equals_the_official_one(pair: Pair) -> None:
    dsc = multi_class_dsc(pair.gts, pair.segs)
    np.testing.assert_equal(dsc, OFFICIAL[pair.name]["dsc"])


@pytest.mark.parametrize("search", [True, False], ids=["search", "transform"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_nsd_equals_the_official_one(
    pair: Pair, search: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not search:
        monkeypatch.setattr(metrics, "LONGEST_SEARCH", 0)
    nsd = multi_class_nsd(pair.gts, pair.segs, pair.spacing, pair.tolerance)
    assert nsd == pytest.approx(OFFICIAL[pair.name]["nsd"], rel=0, abs=1e-12, nan_ok=True)


@UNHURRIED
@given(volumes=small_pairs(), spacing=spacings, tolerance=st.sampled_from([0.0, 1.1, 2.05]))
def test_nsd_equals_a_search_over_all_corners(
    volumes: tuple[Labels, Labels], spacing: tuple[float, float, float], tolerance: float
) -> None:
    gts, segs = volumes
    for label, nsd in class_nsd(gts, segs, spacing, tolerance).items():
        expected = reference_nsd(gts, segs, int(label), spacing, tolerance)
        assert nsd == pytest.approx(expected, rel=0, abs=1e-12)


def test_dice_of_overlapping_blocks() -> None:
    # 2 x 3 x 4 = 24 voxels each, shifted by one of 4 along x: 2 * 18 / 48.
    gts = block((4, 5, 8), (1, 1, 1), (3, 4, 5), label=3)
    segs = block((4, 5, 8), (1, 1, 2), (3, 4, 6), label=3)
    assert class_dsc(gts, segs) == {3: 0.75}


def test_only_labels_of_the_truth_count_and_its_smallest_is_background() -> None:
    # Label 7: 2 voxels, 1 found, 1 predicted: 2 * 1 / 3. Label 4, missed: 0. Label 2 is the
    # background though it is not 0, and 9 is no class.
    gts = np.array([[[2, 2, 4, 7, 7, 2]]], np.uint8)
    segs = np.array([[[9, 2, 2, 7, 9, 4]]], np.uint8)
    assert class_dsc(gts, segs) == {4: 0.0, 7: 2 / 3}
    assert multi_class_dsc(gts, segs) == (0 + 2 / 3) / 2


@pytest.mark.parametrize(("tolerance", "expected"), [(1.99, 0.0), (2.0, 0.5), (3.0, 1.0)])
def test_surface_dice_of_two_voxels(tolerance: float, expected: float) -> None:
    # Voxels 2 and 5 along x have corners at 2, 3 and at 5, 6: the inner ones, half of the area, are
    # 2 from each other, the outer ones 3 from the nearest.
    gts, segs = np.zeros((2, 1, 3, 9), np.uint8)
    gts[0, 1, 2] = segs[0, 1, 5] = 1
    assert class_nsd(gts, segs, (1, 1, 1), tolerance) == {1: expected}


def test_surface_dice_weighs_corners_by_area() -> None:
    # A corner with one inner neighbour is cut by one triangle of area sqrt(3) / 8, one with two
    # along x by two of sqrt(2) / 4. Bar of two voxels: 8 and 4 of them; one voxel: 8 of the first.
    # At no tolerance, only the bar's 4 far corners don't match.
    gts = block((3, 3, 6), (1, 1, 2), (2, 2, 4))
    segs = block((3, 3, 6), (1, 1, 2), (2, 2, 3))
    whole = 16 * math.sqrt(3) / 8 + 4 * 2 * math.sqrt(2) / 4
    nsd = multi_class_nsd(gts, segs, (1, 1, 1), tolerance=0)
    assert nsd == pytest.approx(1 - 4 * math.sqrt(3) / 8 / whole, rel=1e-14)


def test_spacing_belongs_to_the_axes_as_they_stand() -> None:
    # Shifted by one voxel along y: within 2 mm only if a step along y is not longer.
    gts = block((5, 6, 7), (2, 2, 2), (3, 3, 3))
    segs = np.roll(gts, 1, axis=1)
    assert multi_class_nsd(gts, segs, (9, 2, 9)) == 1.0
    assert multi_class_nsd(gts, segs, (2, 9, 2)) == 0.5


def test_there_is_no_surface_dice_where_the_spacing_leaves_no_area() -> None:
    gts = block((3, 3, 3), (1, 1, 1), (2, 2, 2))
    assert math.isnan(multi_class_nsd(gts, gts, (1, 0, 0)))


@UNHURRIED
@given(volumes=small_pairs())
def test_scores_of_a_class_are_symmetric(volumes: tuple[Labels, Labels]) -> None:
    gts, segs = volumes
    there, back = class_dsc(gts, segs), class_dsc(segs, gts)
    near, far = class_nsd(gts, segs, (1, 2, 1.5)), class_nsd(segs, gts, (1, 2, 1.5))
    for label in there.keys() & back.keys():
        assert there[label] == back[label]
        assert near[label] == pytest.approx(far[label], abs=1e-15)


@UNHURRIED
@given(volumes=small_pairs(), axis=st.integers(0, 2))
def test_dice_does_not_depend_on_direction(volumes: tuple[Labels, Labels], axis: int) -> None:
    gts, segs = volumes
    assert class_dsc(np.flip(gts, axis), np.flip(segs, axis)) == class_dsc(gts, segs)


@UNHURRIED
@given(
    volumes=small_pairs(),
    names=st.permutations([20, 100, 300]),
    dtype=st.sampled_from([np.int16, np.uint16, np.int64, np.float32]),
)
def test_scores_follow_their_labels(
    volumes: tuple[Labels, Labels], names: list[int], dtype: type[np.generic]
) -> None:
    gts, segs = volumes
    # Background stays the smallest; the classes are renamed, so also reordered.
    new = np.array([0, *names[:2]], dtype)
    gts[0, 0, 0] = 0
    for score in (class_dsc, lambda g, s: class_nsd(g, s, (2, 1, 1))):
        before, after = score(gts, segs), score(new[gts], new[segs])
        assert after == {int(new[int(label)]): value for label, value in before.items()}


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.int64, np.float32])
def test_the_type_of_an_array_does_not_matter(dtype: type[np.generic]) -> None:
    gts = block((4, 5, 8), (1, 1, 1), (3, 4, 5))
    segs = block((4, 5, 8), (1, 1, 2), (3, 4, 6)).astype(dtype)
    assert class_dsc(gts, segs) == class_dsc(segs, gts) == {1: 0.75}
    assert class_nsd(gts, segs, (2, 2, 2)) == class_nsd(segs, gts, (2, 2, 2)) == {1: 1.0}


def test_more_classes_than_a_byte_has_codes() -> None:
    # Labels 1..599, each one voxel; the prediction loses every third.
    gts = np.arange(600, dtype=np.int32).reshape(10, 6, 10)
    segs = np.where(gts % 3 == 0, 0, gts)
    expected = {label: float(label % 3 != 0) for label in range(1, 600)}
    assert class_dsc(gts, segs) == expected
    assert class_nsd(gts, segs, (1, 1, 1), tolerance=0) == expected


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3)])
def test_shapes_must_agree_and_be_3d(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="3-D and of one shape"):
        multi_class_dsc(np.zeros((2, 3), np.uint8), np.zeros(shape, np.uint8))

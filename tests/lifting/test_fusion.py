"""Votes count where a view looked, and classes compete by score."""

from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from gamt.axes import Plane, slice_shape
from gamt.lifting.fusion import SURE, Competition, Votes
from gamt.lifting.rules import mean, median
from gamt.prompts import Box
from gamt.segmenters.base import SliceMask
from gamt.volume.geometry import Grid, make_grid

SHAPE = (5, 7, 9)
GRID = Grid((0, 0, 0), SHAPE, SHAPE)  # every raw voxel is a grid voxel
EVERYTHING = ((0, 0, 0), SHAPE)

Claim = tuple[int, npt.NDArray[np.bool_], npt.NDArray[np.float32]]


def answer(grid: Grid, plane: Plane, probability: float, quality: float = 1.0) -> SliceMask:
    """A segmenter's answer that is the same all over the slice."""
    logits = np.full(slice_shape(grid.shape, plane), logit(probability), np.float32)
    return SliceMask(logits, quality)


def whole(grid: Grid, plane: Plane) -> tuple[int, int, int, int]:
    rows, columns = slice_shape(grid.shape, plane)
    return 0, 0, columns, rows


def vote(votes: Votes, plane: Plane, index: int, probability: float, quality: float = 1.0) -> None:
    votes.add(plane, index, whole(GRID, plane), answer(GRID, plane, probability, quality))


# --- votes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [0.1, 1.0])
def test_a_voxel_seen_by_one_view_keeps_that_views_probability(quality: float) -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    # Pixels x 2..5 and y 1..4 of the axial slice 3.
    votes.add(Plane.AXIAL, 3, (2, 1, 6, 5), answer(GRID, Plane.AXIAL, 0.7, quality))
    expected = np.zeros(SHAPE)
    expected[3, 1:5, 2:6] = 0.7
    np.testing.assert_allclose(votes.fuse(), expected, rtol=1e-5)
    np.testing.assert_array_equal(votes.looked(), expected > 0)


def test_the_window_is_in_x_and_y_of_the_plane() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    # In a sagittal slice x runs along the volume's y, and y along its z.
    votes.add(Plane.SAGITTAL, 8, (4, 0, 7, 2), answer(GRID, Plane.SAGITTAL, 0.7))
    expected = np.zeros(SHAPE, np.bool_)
    expected[0:2, 4:7, 8] = True
    np.testing.assert_array_equal(votes.looked(Plane.SAGITTAL), expected)
    assert not votes.looked(Plane.AXIAL).any()
    assert not votes.looked(Plane.CORONAL).any()


def test_a_pixels_vote_goes_to_its_own_voxel() -> None:
    probability = np.linspace(0.1, 0.9, 45).reshape(5, 9)  # rows z, columns x
    logits = logit(probability).astype(np.float32)
    votes = Votes(EVERYTHING, GRID, mean)
    votes.add(Plane.CORONAL, 2, (0, 0, 9, 5), SliceMask(logits, 1.0))
    np.testing.assert_allclose(votes.fuse()[:, 2, :], probability, rtol=1e-5)


def test_views_weigh_their_quality() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.AXIAL, 1, 0.9, quality=1.0)
    vote(votes, Plane.CORONAL, 4, 0.3, quality=0.5)
    fused = votes.fuse()
    # Where they cross, (0.9 x 1 + 0.3 x 0.5) / 1.5; elsewhere each is alone.
    np.testing.assert_allclose(fused[1, 4, :], 0.7, rtol=1e-5)
    np.testing.assert_allclose(fused[1, :4, :], 0.9, rtol=1e-5)
    np.testing.assert_allclose(fused[2:, 4, :], 0.3, rtol=1e-5)
    assert votes.looked().sum() == 7 * 9 + 5 * 9 - 9


def test_votes_of_no_quality_decide_nothing() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.AXIAL, 1, 0.9, quality=0.0)
    assert votes.looked()[1].all()
    assert not votes.fuse().any()


def test_without_votes_nothing_is_inside() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    assert votes.fuse().shape == SHAPE
    assert not votes.fuse().any()
    assert not votes.looked().any()


def test_fusing_does_not_use_votes_up() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.AXIAL, 1, 0.9)
    first = votes.fuse(BOX, shape_weight=1)
    np.testing.assert_array_equal(votes.fuse(BOX, shape_weight=1), first)


def test_a_planes_votes_are_told_without_the_others() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    votes.add(Plane.AXIAL, 1, (2, 1, 6, 5), answer(GRID, Plane.AXIAL, 0.7, 0.5))
    vote(votes, Plane.AXIAL, 3, 0.9)
    vote(votes, Plane.CORONAL, 4, 0.2)
    slices, probability = votes.of_plane(Plane.AXIAL)
    expected = np.full(SHAPE, np.nan)
    expected[1, 1:5, 2:6] = 0.7
    expected[3] = 0.9
    assert slices == 2
    np.testing.assert_allclose(probability, expected, rtol=1e-5)


def test_a_plane_without_votes_says_nothing() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.AXIAL, 3, 0.9)
    slices, probability = votes.of_plane(Plane.SAGITTAL)
    assert slices == 0
    assert np.isnan(probability).all()


def test_planes_disagree_by_the_difference_of_their_probabilities() -> None:
    region = ((1, 2, 3), (5, 7, 9))
    votes = Votes(region, GRID, mean)
    assert votes.disagreement() is None
    vote(votes, Plane.AXIAL, 3, 0.9)
    assert votes.disagreement() is None  # one plane can't disagree with itself
    vote(votes, Plane.CORONAL, 4, 0.2)
    vote(votes, Plane.SAGITTAL, 5, 0.6)
    vote(votes, Plane.SAGITTAL, 6, 0.6, quality=0.0)  # counts nothing
    found = votes.disagreement()
    assert found is not None
    low, amount = found
    whole_scan = np.zeros(SHAPE, np.float32)
    where = tuple(slice(a, a + n) for a, n in zip(low, amount.shape, strict=True))
    whole_scan[where] = amount
    expected = np.zeros(SHAPE)
    expected[3, 4, 3:] = 0.7  # axial and coronal
    expected[3, 2:, 5] = 0.3  # axial and sagittal
    expected[1:, 4, 5] = 0.4  # coronal and sagittal
    expected[3, 4, 5] = 0.7  # all of them: 0.9 less 0.2
    np.testing.assert_allclose(whole_scan, expected, atol=1e-6)


def test_a_copy_of_votes_is_added_to_by_itself() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.AXIAL, 3, 0.9)
    copied = deepcopy(votes)
    vote(copied, Plane.AXIAL, 4, 0.9)
    assert not votes.looked()[4].any()
    assert copied.looked()[4].all()


def test_the_rule_fuses_what_several_planes_say() -> None:
    votes = Votes(EVERYTHING, GRID, median)
    for plane, probability in zip(Plane, (0.1, 0.6, 0.8), strict=True):
        vote(votes, plane, 2, probability)
    fused = votes.fuse()
    assert fused[2, 2, 2] == pytest.approx(0.6, rel=1e-5)
    assert fused[2, 2, 5] == pytest.approx((0.1 + 0.6) / 2, rel=1e-5)  # no sagittal slice
    assert fused[2, 5, 5] == pytest.approx(0.1, rel=1e-5)  # the axial slice alone


# --- grids that are not the raw voxels ----------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "spacing_mm", "voxel_mm", "index", "layers"),
    [
        # Slices 3 mm apart: the raw slices 0, 1, 2 lie at the grid slices 0, 3, 6.
        (3, 3.0, 1.0, 3, [1]),
        (3, 3.0, 1.0, 2, []),
        (3, 3.0, 1.0, 6, [2]),
        # Slices 1 mm apart on a grid of 3 mm: 0, 1/3, 2/3, 1 .. 2 are nearest to 0 0 1 1 1 2 2.
        (7, 1.0, 3.0, 0, [0, 1]),
        (7, 1.0, 3.0, 1, [2, 3, 4]),
        (7, 1.0, 3.0, 2, [5, 6]),
    ],
)
def test_a_vote_lands_on_the_raw_slices_that_map_to_its_slice(
    raw: int, spacing_mm: float, voxel_mm: float, index: int, layers: list[int]
) -> None:
    crop = ((10, 20, 30), (10 + raw, 24, 35))
    grid = make_grid(crop, (spacing_mm, voxel_mm, voxel_mm), voxel_mm)
    votes = Votes(crop, grid, mean)
    votes.add(Plane.AXIAL, index, whole(grid, Plane.AXIAL), answer(grid, Plane.AXIAL, 0.7))
    looked = votes.looked(Plane.AXIAL)
    assert looked.shape == grid.raw_shape
    assert np.flatnonzero(looked.any(axis=(1, 2))).tolist() == layers
    assert looked[layers].all()


def test_a_window_covers_the_raw_pixels_whose_place_is_inside() -> None:
    # Raw z 0, 1, 2 lie at the rows 0, 3, 6 of a coronal slice: rows 1..5 hold the second only.
    crop = ((0, 0, 0), (3, 4, 5))
    grid = make_grid(crop, (3.0, 1.0, 1.0))
    votes = Votes(crop, grid, mean)
    votes.add(Plane.CORONAL, 2, (1, 1, 4, 6), answer(grid, Plane.CORONAL, 0.7))
    expected = np.zeros((3, 4, 5), np.bool_)
    expected[1, 2, 1:4] = True
    np.testing.assert_array_equal(votes.looked(), expected)


def test_votes_outside_of_the_region_are_dropped() -> None:
    votes = Votes(((1, 2, 3), (3, 6, 8)), GRID, mean)
    vote(votes, Plane.AXIAL, 0, 0.9)
    assert not votes.looked().any()
    vote(votes, Plane.AXIAL, 1, 0.9)
    expected = np.zeros((2, 4, 5), np.bool_)
    expected[0] = True
    np.testing.assert_array_equal(votes.looked(), expected)


# --- the box's own vote -------------------------------------------------------------------------

# Half-axes 1.5, 2.5 and 3.5 around the voxel (2, 3, 4).
BOX = Box(z_min=1, z_max=4, z_mid=2, y_min=1, y_max=6, x_min=1, x_max=8)


def test_the_ellipsoid_votes_with_its_weight() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.AXIAL, 2, 0.2, quality=0.5)
    # The view's 0.2 has the weight 0.5, the ellipsoid 0.25. At the centre its log-odds are at
    # their limit, 1.4, which is 0.80218: (0.1 + 0.20055) / 0.75. On x, three of 3.5 voxels away,
    # they are 10 (0.9 - 0.85714) = 0.42857, which is 0.60553: (0.1 + 0.15138) / 0.75.
    fused = votes.fuse(BOX, shape_weight=0.25)
    assert fused[2, 3, 4] == pytest.approx(0.40073, abs=1e-5)
    assert fused[2, 3, 7] == pytest.approx(0.33518, abs=1e-5)


def test_the_ellipsoid_fills_slices_that_no_axial_view_came_to() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    votes.add(Plane.AXIAL, 2, (3, 2, 6, 5), answer(GRID, Plane.AXIAL, 0.9))
    fused = votes.fuse(BOX, shape_weight=1)
    # On the neighbours, one of 1.5 voxels from the centre, 10 (0.9 - 0.667) is above the limit of
    # 1.4, which is 0.80218.
    for z in (1, 3):
        assert fused[z, 3, 4] == pytest.approx(0.80218, abs=1e-5)
    # On the slice that was looked at, it stays out of what was not looked at.
    assert fused[2, 3, 6] == 0
    assert fused[2, 3, 5] > 0


def test_views_of_other_planes_leave_axial_gaps_open_to_the_ellipsoid() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.CORONAL, 3, 0.2)
    fused = votes.fuse(BOX, shape_weight=1)
    # The coronal view's 0.2 and the ellipsoid's 0.80218 at its centre, of equal weight.
    assert fused[2, 3, 4] == pytest.approx(0.50109, abs=1e-5)
    assert fused[2, 2, 4] > 0.5  # beside the coronal slice: the shape alone


def test_without_weight_the_ellipsoid_has_no_say() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    vote(votes, Plane.AXIAL, 2, 0.9)
    fused = votes.fuse(BOX, shape_weight=0)
    np.testing.assert_allclose(fused[2], 0.9, rtol=1e-5)
    assert not fused[[1, 3]].any()


# --- smoothing ----------------------------------------------------------------------------------

LARGE = (48, 48, 24)
LARGE_GRID = Grid((0, 0, 0), LARGE, LARGE)
LARGE_BOX = Box(z_min=0, z_max=48, z_mid=24, y_min=0, y_max=48, x_min=0, x_max=24)


def checked(probability: float, grid: Grid = LARGE_GRID) -> Votes:
    """Votes on a slice of a large volume; its only slice with another answer is 20."""
    votes = Votes(((0, 0, 0), LARGE), grid, mean)
    for index in range(grid.shape[0]):
        shown = probability if index == 20 else 0.1
        votes.add(Plane.AXIAL, index, whole(grid, Plane.AXIAL), answer(grid, Plane.AXIAL, shown))
    return votes


def test_smoothing_averages_the_votes_of_neighbouring_slices() -> None:
    fused = checked(0.9).fuse(LARGE_BOX, blur=1)
    # A discrete Gaussian of one voxel: 0.399 on the voxel itself, 0.242 on each neighbour.
    assert fused[20, 9, 9] == pytest.approx(0.1 + 0.8 * 0.399, abs=1e-3)
    assert fused[21, 9, 9] == pytest.approx(0.1 + 0.8 * 0.242, abs=1e-3)
    np.testing.assert_allclose(fused[:10], 0.1, rtol=1e-3)


def test_smoothing_is_counted_in_voxels_of_the_grid() -> None:
    fine = Grid((0, 0, 0), LARGE, (95, 48, 24))  # two slices a raw one
    votes = Votes(((0, 0, 0), LARGE), fine, mean)
    for index in range(95):
        shown = answer(fine, Plane.AXIAL, 0.9 if index == 40 else 0.1)
        votes.add(Plane.AXIAL, index, whole(fine, Plane.AXIAL), shown)
    # Half a raw voxel: 0.786 on the voxel itself.
    assert votes.fuse(LARGE_BOX, blur=1)[20, 9, 9] == pytest.approx(0.1 + 0.8 * 0.786, abs=3e-3)


def test_smoothing_leaves_what_is_small_and_what_has_no_box() -> None:
    small = Box(z_min=18, z_max=23, z_mid=20, y_min=5, y_max=10, x_min=5, x_max=10)
    fused = checked(0.9).fuse(small, blur=1)
    assert fused[20, 9, 9] == pytest.approx(0.9, rel=1e-3)
    np.testing.assert_array_equal(checked(0.9).fuse(blur=1), checked(0.9).fuse())


def test_smoothing_spreads_no_votes_to_where_no_view_looked() -> None:
    votes = Votes(((0, 0, 0), LARGE), LARGE_GRID, mean)
    votes.add(Plane.AXIAL, 20, (4, 4, 20, 30), answer(LARGE_GRID, Plane.AXIAL, 0.9))
    fused = votes.fuse(LARGE_BOX, blur=1)
    np.testing.assert_array_equal(fused > 0, votes.looked())
    # Nor does what nobody saw count against what was seen.
    np.testing.assert_allclose(fused[votes.looked()], 0.9, rtol=1e-4)


# --- the box's range ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape_weight", [0.0, 1.0])
def test_nothing_is_inside_beyond_the_boxs_slices(shape_weight: float) -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    for z in range(5):
        vote(votes, Plane.AXIAL, z, 0.9)
    fused = votes.fuse(BOX, shape_weight)
    assert not fused[[0, 4]].any()
    assert (fused[1:4] > 0).all()


def test_beyond_a_range_that_is_not_exact_the_views_decide() -> None:
    votes = Votes(EVERYTHING, GRID, mean)
    for z in range(5):
        vote(votes, Plane.AXIAL, z, 0.9)
    fused = votes.fuse(BOX, exact_range=False)
    np.testing.assert_allclose(fused, 0.9, rtol=1e-5)
    # The shape has a say as everywhere: slice 0 is two of 1.5 voxels away, where it is
    # as surely against as ever: -3 is 0.04743.
    fused = votes.fuse(BOX, shape_weight=1, exact_range=False)
    assert fused[0, 3, 4] == pytest.approx((0.9 + 0.04743) / 2, abs=1e-5)


@pytest.mark.parametrize(("first", "inside"), [(0, [1, 2, 3]), (2, [0, 1]), (3, [0]), (4, [])])
def test_the_range_of_slices_is_counted_in_the_volume(first: int, inside: list[int]) -> None:
    votes = Votes(((first, 0, 0), SHAPE), GRID, mean)
    for z in range(5):
        vote(votes, Plane.AXIAL, z, 0.9)
    fused = votes.fuse(BOX)
    assert np.flatnonzero(fused.any(axis=(1, 2))).tolist() == inside


def test_a_part_of_the_volume_is_fused_as_the_whole() -> None:
    rival = Box(z_min=2, z_max=3, z_mid=2, y_min=3, y_max=4, x_min=4, x_max=5)
    everything, part = Votes(EVERYTHING, GRID, mean), Votes(((1, 2, 3), (4, 7, 8)), GRID, mean)
    for votes in (everything, part):
        for z in range(5):
            vote(votes, Plane.AXIAL, z, 0.6)
    expected = everything.fuse(BOX, 1, [rival])[1:4, 2:7, 3:8]
    np.testing.assert_array_equal(part.fuse(BOX, 1, [rival]), expected)


def test_rivals_keep_the_ellipsoid_off_their_own() -> None:
    rival = Box(z_min=2, z_max=3, z_mid=2, y_min=3, y_max=4, x_min=4, x_max=5)
    fused = Votes(EVERYTHING, GRID, mean).fuse(BOX, shape_weight=1, rivals=[rival])
    # The rival's centre: as surely against as the own one would be for it, -1.4.
    assert fused[2, 3, 4] == pytest.approx(0.19782, abs=1e-5)
    assert fused[2, 3, 6] > 0.5


# --- classes against each other -----------------------------------------------------------------


def claim(label: int, score: float, where: Any) -> Claim:
    mask = np.zeros(SHAPE, np.bool_)
    mask[where] = True
    return label, mask, np.full(SHAPE, score, np.float32)


def compete(*claims: Claim) -> npt.NDArray[np.uint8]:
    competition = Competition(SHAPE, classes=2)
    for label, mask, score in claims:
        competition.enter(label, (0, 0, 0), mask, score)
    return competition.labels


def test_the_higher_score_wins() -> None:
    labels = compete(
        claim(1, 0.6, np.s_[0:3]), claim(2, 0.8, np.s_[2:4]), claim(3, 0.7, np.s_[2:5])
    )
    # Slice 2 is everyone's, slice 3 is claimed by 2 and 3: 2 has the highest score on both.
    assert [np.unique(labels[z]).tolist() for z in range(5)] == [[1], [1], [2], [2], [3]]


def test_of_two_that_are_sure_the_smaller_target_wins() -> None:
    # A single voxel in a target of 5 x 7 x 9, which is the surer one of the two.
    large, small = claim(1, 0.99, np.s_[:]), claim(2, 0.91, np.s_[2, 3, 4])
    assert compete(large, small)[2, 3, 4] == 2
    assert compete(small, large)[2, 3, 4] == 2


def test_size_does_not_outweigh_a_clearly_higher_score() -> None:
    # 315 voxels are 2.5 powers of ten more than one: that costs 0.025, less than the 0.2 between
    # the scores.
    labels = compete(claim(1, 0.6, np.s_[2, 3, 4]), claim(2, 0.8, np.s_[:]))
    assert labels[2, 3, 4] == 2


def test_voxels_that_a_class_does_not_claim_are_left_alone() -> None:
    competition = Competition(SHAPE, classes=2)
    label, mask, score = claim(7, 0.2, np.s_[1, 2, 3:5])
    competition.enter(label, (0, 0, 0), mask, score)
    before = competition.labels.copy()
    competition.enter(8, (0, 0, 0), np.zeros(SHAPE, np.bool_), np.ones(SHAPE, np.float32))
    np.testing.assert_array_equal(competition.labels, before)
    assert (before > 0).sum() == 2


def test_a_claim_without_any_probability_still_beats_none() -> None:
    assert (compete(claim(3, 0.0, np.s_[1])) == 3).sum() == 7 * 9


def test_a_claim_lies_where_its_region_begins() -> None:
    competition = Competition(SHAPE, classes=2)
    mask = np.ones((2, 3, 4), np.bool_)
    competition.enter(5, (3, 2, 1), mask, np.ones(mask.shape, np.float32))
    expected = np.zeros(SHAPE)
    expected[3:5, 2:5, 1:5] = 5
    np.testing.assert_array_equal(competition.labels, expected)


def test_a_class_alone_gets_all_that_it_claims() -> None:
    competition = Competition(SHAPE, classes=1)
    label, mask, score = claim(3, 0.0, np.s_[1:3, 2])
    competition.enter(label, (0, 0, 0), mask, score)
    np.testing.assert_array_equal(competition.labels, 3 * mask)


def test_votes_that_leave_the_window_kept_for_them_lose_none() -> None:
    # Slice by slice, in no order; every voxel of the region is voted on once.
    shape = (40, 6, 7)
    grid = Grid((0, 0, 0), shape, shape)
    votes = Votes(((0, 0, 0), shape), grid, mean)
    expected = np.empty(shape)
    for n, index in enumerate(np.random.default_rng(0).permutation(40).tolist()):
        shown = 0.3 + n / 100
        votes.add(Plane.AXIAL, index, whole(grid, Plane.AXIAL), answer(grid, Plane.AXIAL, shown))
        expected[index] = shown
    np.testing.assert_allclose(votes.fuse(), expected, rtol=1e-5)
    assert votes.looked(Plane.AXIAL).all()


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    """Overlapping classes whose scores, and often sizes, are equal in many places."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    scores = np.array([0.0, 0.3, 0.6, SURE, 0.95, 1.0], np.float32)
    listed = []
    for label in range(1, draw(st.integers(2, 5)) + 1):
        mask = np.zeros(SHAPE, np.bool_)
        mask[rng.integers(5) :, rng.integers(3) :] = True
        listed.append((label, mask, rng.choice(scores, SHAPE)))
    return listed


@given(data=st.data(), listed=claims())
def test_the_order_of_entering_has_no_influence(data: st.DataObject, listed: list[Claim]) -> None:
    mixed = data.draw(st.permutations(listed))
    np.testing.assert_array_equal(compete(*mixed), compete(*listed))

"""What a click says falls with distance and depth, and stops at borders."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gamt.lifting.evidence import (
    FAR,
    LAW,
    LEAST_SPREAD,
    REACH,
    SHALLOW,
    Surroundings,
    contrast_feature,
    contrast_on_the_way,
    distances,
    error_odds,
    features,
    likelihood_ratio,
    window_around,
)

SHAPE = (9, 21, 31)


def test_distances_are_counted_in_grid_voxels() -> None:
    away = distances((1, 2, 3), (3.0, 1.0, 2.0), (4, 5, 6))
    assert away.shape == (4, 5, 6)
    assert away[1, 2, 3] == 0
    assert away[2, 2, 3] == 3
    assert away[2, 4, 4] == pytest.approx(np.sqrt(9 + 4 + 4))


def test_a_window_reaches_as_far_on_every_axis_and_ends_at_the_volume() -> None:
    window = window_around((4, 10, 1), 6, (3.0, 1.0, 2.0), SHAPE)
    assert window == (slice(2, 7), slice(4, 17), slice(0, 5))
    assert window_around((8, 20, 30), 1, (1.0, 1.0, 1.0), SHAPE)[2] == slice(29, 31)


def test_the_likelihood_ratio_is_that_of_the_sides_intensities() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[:, :, 15:] = 200
    inside = image > 100
    ratio = likelihood_ratio(image, inside, ~inside)
    assert (ratio[inside] > 1).all()
    assert (ratio[~inside] < -1).all()
    assert not likelihood_ratio(image, inside, inside).any()


def test_the_way_to_a_voxel_is_looked_at() -> None:
    image = np.full(SHAPE, 100, np.float32)
    image[:, :, 8] = 160  # a wall
    voxels = np.array([[4, 10, 6], [4, 10, 12]])
    seen = contrast_on_the_way(image, 100, (4, 10, 4), voxels)
    assert seen.tolist() == [0, 60]


def click_beside(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    size: float = 14.0,
    **more: object,
) -> Surroundings:
    """Clicks two voxels outside of a mask that fills the volume's left half."""
    mask = np.zeros(SHAPE, np.bool_)
    mask[:, :, :15] = True
    return Surroundings(image, mask, (4, 10, 16), 2.0, size, scale, **more)  # type: ignore[arg-type]


def odds_of(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], **more: Any
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return error_odds(click_beside(image, **more))


def test_a_click_speaks_for_its_own_side_within_reach_alone() -> None:
    odds = odds_of(np.full(SHAPE, 90, np.uint8))
    assert np.isneginf(odds[:, :, :15]).all()
    away = distances((4, 10, 16), (1.0, 1.0, 1.0), SHAPE)
    assert np.isneginf(odds[away > REACH * 2]).all()
    assert np.isfinite(odds[:, :, 15:][away[:, :, 15:] <= REACH * 2]).all()


def test_a_click_says_less_farther_away_and_deeper() -> None:
    odds = odds_of(np.full(SHAPE, 90, np.uint8))
    along, across = odds[4, 10:, 15], odds[4, 10, 15:26]
    assert (np.diff(along[np.isfinite(along)]) <= 0).all()
    assert (np.diff(across[1:][np.isfinite(across[1:])]) < 0).all()
    assert odds[4, 10, 16] > 0 > across[9]


def test_what_lies_behind_a_border_is_less_likely() -> None:
    plain = np.full(SHAPE, 90, np.uint8)
    walled = plain.copy()
    walled[:, 13] = 180
    before, after = odds_of(plain), odds_of(walled)
    assert before[4, 15, 15] > 0
    assert after[4, 15, 15] < before[4, 15, 15] - 1


def test_an_opposite_click_and_another_class_hold_a_correction_back() -> None:
    image = np.full(SHAPE, 90, np.uint8)
    free, taken = odds_of(image), np.zeros(SHAPE, np.bool_)
    taken[4, 12, 15] = True
    held = odds_of(image, taken=taken)
    assert held[4, 12, 15] < free[4, 12, 15] - 0.5
    assert held[4, 8, 15] == free[4, 8, 15]
    rivalled = odds_of(image, opposite=[(4, 14, 16)])
    assert rivalled[4, 13, 16] < free[4, 13, 16] - 1
    assert rivalled[4, 10, 16] == free[4, 10, 16]


def test_a_click_that_is_deep_for_its_target_reaches_fewer_depths() -> None:
    image = np.full(SHAPE, 90, np.uint8)
    shell, bulk = odds_of(image, size=20.0), odds_of(image, size=2.0)
    seen = np.isfinite(shell)
    assert (bulk[seen] < shell[seen]).all()


def test_what_looks_like_the_rest_rather_than_like_the_click_is_less_likely() -> None:
    # Beyond row 14, more than two depths away, all is darker, but for one voxel.
    image = np.full(SHAPE, 90, np.uint8)
    image[:, 15:] = 60
    patched = image.copy()
    patched[4, 9, 15] = 60
    assert odds_of(patched)[4, 9, 15] < odds_of(image)[4, 9, 15] - 1


def test_a_border_of_the_image_is_where_masks_are_wrong() -> None:
    # The whole way is as grey as the click; only past the voxel does the image change.
    plain = np.full(SHAPE, 90, np.uint8)
    edged = plain.copy()
    edged[:, 15:] = 130
    before, after = odds_of(plain), odds_of(edged)
    assert after[4, 13, 16] > before[4, 13, 16]


@pytest.mark.parametrize("kind", [True, False])
def test_without_a_surface_nothing_is_known(kind: bool) -> None:
    mask = np.full(SHAPE, kind)
    image = np.zeros(SHAPE, np.uint8)
    odds = error_odds(Surroundings(image, mask, (4, 10, 16), 31.0, 1.0, (1.0, 1.0, 1.0)))
    assert not odds.any()


def test_features_are_counted_in_depths_and_larger_where_an_error_is_likelier() -> None:
    taken = np.zeros(SHAPE, np.bool_)
    taken[4, 10, 20] = True
    rival = (4, 10, 22)
    around = click_beside(np.full(SHAPE, 90, np.uint8), opposite=[rival], taken=taken)
    seen = dict(features(around))
    here = np.flatnonzero((np.argwhere(around.candidate) == (4, 10, 20)).all(axis=1)).item()
    values = {name: float(values[here]) for name, values in seen.items()}
    # Four voxels from a click of depth two, six from the mask, two from the rival; all is of one
    # grey.
    assert values == pytest.approx(
        {
            "TO_ADD": 1,
            "ADD_PER_SIZE": np.log(14 / 2),
            "PER_DISTANCE": -np.log(4 / 2),
            "PER_DEPTH": -np.log(6 / 2 + SHALLOW),
            "PER_RATIO": 0,
            "PER_SLOPE": 0,
            "TAKEN": -1,
            "PER_RIVAL": 2 / 4 - FAR,
        },
        abs=1e-6,
    )


def test_the_contrast_on_the_way_is_counted_in_the_clicks_spreads() -> None:
    image = np.full(SHAPE, 90, np.uint8)
    image[:, :, 18:] = 120
    name, (near, far) = contrast_feature(click_beside(image), np.array([[4, 10, 15], [4, 10, 22]]))
    assert name == "ADD_PER_CONTRAST"
    assert near > -0.2  # three voxels from the border, which is smoothed
    assert far == pytest.approx(-np.log1p(30 / LEAST_SPREAD), abs=0.1)


@pytest.mark.parametrize("adding", [True, False])
def test_the_odds_are_the_weighted_sum_of_the_features(adding: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(80, 100, SHAPE).astype(np.uint8)
    around = click_beside(image, opposite=[(4, 14, 18)], taken=np.zeros(SHAPE, np.bool_))
    if not adding:
        around = replace(around, mask=~around.mask, taken=None)
    voxels = np.argwhere(around.candidate)
    every = dict([*features(around), contrast_feature(around, voxels)])
    summed = np.sum([LAW[name] * feature for name, feature in every.items()], axis=0)
    odds = error_odds(around)[around.candidate]
    # The contrast is not looked at where it could change nothing.
    assert (odds > 0).tolist() == (summed > 0).tolist()
    assert odds[odds > 0] == pytest.approx(summed[summed > 0], abs=1e-5)

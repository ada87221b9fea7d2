"""What a click says: figures worked out by hand, and what makes a voxel more or less likely."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.lifting.evidence import (
    Surroundings,
    contrast_feature,
    contrast_on_line,
    distances,
    error_odds,
    image_features,
    intensity_ratio,
    place_features,
    region_around,
)
from tests.costs import cost

Image = npt.NDArray[np.uint8]

SHAPE = (9, 21, 31)
CLICK = (4, 10, 16)
GREY = np.full(SHAPE, 90, np.uint8)


def click_beside(image: Image = GREY, size: float = 14.0, **more: Any) -> Surroundings:
    """Clicks two voxels outside of a mask that ends at x = 14: a click of depth 2."""
    mask = np.zeros(SHAPE, np.bool_)
    mask[:, :, :15] = True
    return Surroundings(image, mask, CLICK, 2.0, size, (1.0, 1.0, 1.0), **more)


def flat(*voxels: tuple[int, int, int]) -> npt.NDArray[np.intp]:
    return np.array([np.ravel_multi_index(voxel, SHAPE) for voxel in voxels], np.intp)


def odds_of(image: Image = GREY, **more: Any) -> npt.NDArray[np.float32]:
    return error_odds(click_beside(image, **more))


def test_distances_are_counted_in_grid_voxels() -> None:
    away = distances((1, 2, 3), (3.0, 1.0, 2.0), (4, 5, 6))
    assert away.shape == (4, 5, 6)
    assert away[1, 2, 3] == 0
    assert away[2, 2, 3] == 3
    assert away[2, 4, 4] == pytest.approx(np.sqrt(9 + 4 + 4))


def test_a_region_reaches_as_far_on_every_axis_and_ends_at_the_volume() -> None:
    region = region_around(np.array([[4, 10, 1]]), 6, (3.0, 1.0, 2.0), SHAPE)
    assert region == (slice(2, 7), slice(4, 17), slice(0, 5))
    assert region_around(np.array([[8, 20, 30]]), 1, (1.0, 1.0, 1.0), SHAPE)[2] == slice(29, 31)


def test_an_intensity_speaks_for_the_side_on_which_it_is_found() -> None:
    # 0 is bin 0 of 48, 200 is bin 37. A normal distribution of 1.5 bins has 0.266 in its middle
    # bin and 0.213 in the next, which bin 0 is handed back by the end of the range: 0.479.
    # ln((0.266 + 0.014) / 0.014) = 2.996; ln((0.479 + 0.014) / 0.014) = 3.56, cut to 3.
    image = np.zeros(SHAPE, np.float32)
    image[:, :, 15:] = 200
    inside = image > 100
    ratio = intensity_ratio(image, inside, ~inside)
    assert ratio[inside] == pytest.approx(2.996, abs=1e-3)
    assert ratio[~inside] == pytest.approx(-3)


def test_an_intensity_found_alike_on_both_sides_says_nothing() -> None:
    inside = np.zeros(SHAPE, np.bool_)
    inside[:4] = True
    assert not intensity_ratio(GREY.astype(np.float32), inside, inside).any()


def test_the_contrast_of_a_voxel_is_the_largest_on_the_line_to_it() -> None:
    image = np.full(SHAPE, 100, np.float32)
    image[:, :, 8] = 160  # a wall
    voxels = flat((4, 10, 6), (4, 10, 12))
    assert contrast_on_line(image, 100, (4, 10, 4), voxels).tolist() == [0, 60]


def test_only_voxels_on_the_clicks_side_within_seven_depths_can_be_wrong() -> None:
    odds = odds_of()
    assert np.isneginf(odds[:, :, :15]).all()
    assert np.isfinite(odds[4, 10, 15:]).all()  # the volume ends 14 voxels from the click
    assert np.isfinite(odds[0, 20, 24])  # sqrt(4^2 + 10^2 + 8^2) = 13.4
    assert np.isneginf(odds[0, 20, 26])  # sqrt(4^2 + 10^2 + 10^2) = 14.7


def test_features_are_counted_in_depths() -> None:
    taken = np.zeros(SHAPE, np.bool_)
    taken[4, 10, 20] = True
    around = click_beside(opposite=[(4, 10, 22)], taken=taken)
    voxel = flat((4, 10, 20))
    seen = [*place_features(around, voxel), *image_features(around, voxel)]
    values = {name: value.item() for name, value in seen}
    assert values == pytest.approx(
        {
            "intercept_add": 1,
            "log_size_add": 1.9459,  # ln 7: a side of 14 voxels is 7 depths
            "log_distance": 0.6931,  # ln 2: 4 voxels from the click
            "log_depth": 1.1314,  # ln(3 + 0.1): 6 voxels from the mask
            "intensity_ratio": 0,
            "log_gradient": 0,
            "other_class": 1,
            "opposite_click": 1.5,  # 2 - 2/4: 2 voxels from the opposite click, 4 from this one
        },
        abs=1e-4,
    )


def test_distances_below_a_fifth_of_a_depth_count_as_one_fifth() -> None:
    around = click_beside()
    values = dict(place_features(around, flat(CLICK)))
    assert values["log_distance"].item() == pytest.approx(-1.609, abs=1e-3)  # ln 0.2


def test_the_contrast_is_counted_in_spreads_of_the_clicks_intensity() -> None:
    # The intensity rises by 30 behind x = 17. Around the click it has no spread but the noise of
    # 1.5: 30 / 1.5 = 20, and ln 21 = 3.045. Smoothing over 0.7 voxels raises the click's by 0.3.
    image = GREY.copy()
    image[:, :, 18:] = 120
    name, (near, far) = contrast_feature(click_beside(image), flat((4, 10, 15), (4, 10, 22)))
    assert name == "log_contrast_add"
    assert near == pytest.approx(0.18, abs=0.02)  # ln(1 + 0.3 / 1.5), three voxels from the border
    assert far == pytest.approx(3.04, abs=0.02)


def test_the_odds_of_adding_are_a_sum_over_features() -> None:
    # In an image of one grey, size, distance and depth alone speak:
    # at x = 15, half a depth from click and mask,
    #   -0.15 + 0.7 ln 7 - 1.2 ln 0.5 - 1.75 ln 0.6 = -0.15 + 1.3621 + 0.8318 + 0.8939 = 2.9378;
    # at x = 20, two depths from the click and three from the mask,
    #   -0.15 + 0.7 ln 7 - 1.2 ln 2 - 1.75 ln 3.1 = -0.15 + 1.3621 - 0.8318 - 1.9800 = -1.5997.
    odds = odds_of()
    assert odds[4, 10, 15] == pytest.approx(2.9378, abs=1e-3)
    assert odds[4, 10, 20] == pytest.approx(-1.5997, abs=1e-3)


def test_the_odds_of_removing_have_weights_of_their_own() -> None:
    # As for adding at x = 15, but 0.3 + 0.4 ln 7 + 0.8318 + 0.8939 = 2.8041.
    around = click_beside()
    odds = error_odds(replace(around, mask=~around.mask))
    assert odds[4, 10, 15] == pytest.approx(2.8041, abs=1e-3)


def test_a_voxel_is_less_likely_the_farther_from_the_click_and_the_deeper() -> None:
    odds = odds_of()
    along, across = odds[4, 10:, 15], odds[4, 10, 16:]
    assert (np.diff(along[np.isfinite(along)]) <= 0).all()
    assert (np.diff(across) < 0).all()


def test_what_lies_behind_a_border_is_less_likely() -> None:
    walled = GREY.copy()
    walled[:, 13] = 180
    before, after = odds_of(), odds_of(walled)
    assert before[4, 15, 15] > 0
    assert after[4, 15, 15] < before[4, 15, 15] - 1


def test_another_classs_voxel_is_less_likely() -> None:
    taken = np.zeros(SHAPE, np.bool_)
    taken[4, 12, 15] = True
    free, held = odds_of(), odds_of(taken=taken)
    assert held[4, 12, 15] == pytest.approx(free[4, 12, 15] - 1)
    assert held[4, 8, 15] == free[4, 8, 15]


def test_an_opposite_click_holds_back_what_is_near_it() -> None:
    # The voxel is 3 from the click and 1 from the opposite one: 0.9 (2 - 1/3) = 1.5 is lost.
    free, held = odds_of(), odds_of(opposite=[(4, 14, 16)])
    assert held[4, 13, 16] == pytest.approx(free[4, 13, 16] - 1.5)
    assert held[CLICK] == free[CLICK]


def test_the_nearest_of_several_opposite_clicks_counts() -> None:
    one, several = odds_of(opposite=[(4, 14, 16)]), odds_of(opposite=[(4, 20, 30), (4, 14, 16)])
    assert several[4, 13, 16] == one[4, 13, 16]


def test_a_click_that_is_deep_for_its_target_reaches_fewer_depths() -> None:
    # A tenth of the side: 0.7 ln 10 = 1.612 less, everywhere in an image of one grey.
    shell, bulk = odds_of(size=20.0), odds_of(size=2.0)
    seen = np.isfinite(shell)
    assert shell[seen] - bulk[seen] == pytest.approx(1.612, abs=1e-3)


def test_what_looks_like_the_rest_rather_than_like_the_click_is_less_likely() -> None:
    # Beyond row 14, more than two depths away, all is darker, but for one voxel.
    image = GREY.copy()
    image[:, 15:] = 60
    patched = image.copy()
    patched[4, 9, 15] = 60
    assert odds_of(patched)[4, 9, 15] < odds_of(image)[4, 9, 15] - 1


def test_a_border_of_the_image_is_where_masks_are_wrong() -> None:
    # The whole line is as grey as the click; only past the voxel does the image change.
    edged = GREY.copy()
    edged[:, 15:] = 130
    assert odds_of(edged)[4, 13, 16] > odds_of()[4, 13, 16]


@pytest.mark.parametrize("kind", [True, False])
def test_without_a_surface_nothing_is_known(kind: bool) -> None:
    mask = np.full(SHAPE, kind)
    odds = error_odds(Surroundings(GREY, mask, CLICK, 31.0, 1.0, (1.0, 1.0, 1.0)))
    assert not odds.any()


# --- lines of voxels ----------------------------------------------------------------------------

LINE = np.array([(4, y, 16) for y in range(4, 17)])
"""Two voxels outside of the mask that `click_beside` makes, as the click in its middle."""


def test_distances_from_a_line_are_those_from_its_nearest_voxel() -> None:
    around = replace(click_beside(line=LINE), scale=(2.0, 1.0, 1.0))
    assert around.distance[4, 4:17, 16].tolist() == [0] * 13
    assert around.distance[5, 10, 16] == 2
    assert around.distance[4, 19, 20] == pytest.approx(5)  # 3 and 4 from the end


def test_along_a_line_voxels_are_as_likely_as_around_its_middle() -> None:
    # In an image of one grey, all at the same distance from line and mask are alike.
    lined = odds_of(line=LINE)
    assert lined[4, 6, 17] == pytest.approx(lined[4, 10, 17], abs=1e-4)
    clicked = odds_of()
    assert clicked[4, 6, 17] < clicked[4, 10, 17] - 0.5
    # Distances count half as much again: 1.2 ln 1.5 = 0.487 less.
    assert clicked[4, 10, 17] - lined[4, 10, 17] == pytest.approx(0.487, abs=1e-3)


def test_all_of_a_line_says_what_its_side_looks_like() -> None:
    # Half of the line lies in what is brighter by 50; the click alone doesn't know of it.
    image = GREY.copy()
    image[:, 12:] = 140
    assert odds_of(image, line=LINE)[4, 15, 20] > odds_of(image)[4, 15, 20] + 1


def test_the_contrast_to_a_voxel_is_that_on_the_way_from_the_lines_nearest_part() -> None:
    # A wall between the click and the voxel, which the line goes around.
    image = GREY.copy()
    image[:, 13, 15:] = 200
    around = click_beside(image, line=LINE[LINE[:, 1] != 13])
    name, (walled,) = contrast_feature(click_beside(image), flat((4, 16, 20)))
    assert name == "log_contrast_add"
    assert contrast_feature(around, flat((4, 16, 20)))[1][0] < walled - 1


def test_a_line_reaches_less_far_than_a_click_and_least_where_it_asks_for_less() -> None:
    # The voxel is 6 away, three depths: that counts as 4.5, and as 12 where it asks for less.
    more = click_beside(line=LINE)
    less = replace(more, mask=~more.mask)
    for around, depths in ((more, 4.5), (less, 12)):
        features = dict(place_features(around, flat((4, 10, 22))))
        assert features["log_distance"][0] == pytest.approx(np.log(depths))


def test_an_opposite_line_holds_back_as_the_nearest_opposite_click_does() -> None:
    clicks = [(4, 14, x) for x in (14, 16, 25)]
    held = odds_of(opposite_line=np.array(clicks))
    np.testing.assert_allclose(held, odds_of(opposite=clicks), atol=1e-4)


def test_a_line_of_thousands_of_voxels_takes_little_more_time_than_one_of_ten() -> None:
    z, y, x = np.ogrid[:40, :120, :120]
    mask = x + 0 * y + 0 * z < 60
    plane = np.argwhere((z == 20) & (x >= 62) & (x < 118) & (y >= 0))
    assert len(plane) == 56 * 120

    def weigh(step: int) -> None:
        around = Surroundings(
            np.full(mask.shape, 90, np.uint8),
            mask,
            (20, 60, 62),
            3.0,
            60.0,
            (1.0, 1.0, 1.0),
            line=plane[::step],
            opposite_line=plane[::step] - (5, 0, 0),
        )
        assert np.isfinite(error_odds(around)[20, 60, 62])

    # With a distance transform for each voxel, hundreds of times.
    assert cost(lambda: weigh(1)) < 20 * cost(lambda: weigh(600), times=2)

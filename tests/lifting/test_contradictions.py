"""What of scribbles and regions a mask contradicts, which pieces matter, and where to correct."""

import numpy as np
import pytest

from gamt.axes import Plane
from gamt.lifting.contradictions import Contradiction, at_click, in_region, obey, on_scribble
from gamt.lifting.target import Target
from gamt.prompts import ClassPrompts, Click, Region, Scribble
from tests.doubles import Mask, Thresholder, block, make_case, make_target, picture

SHAPE = (12, 20, 26)
BODY = block(SHAPE, slice(3, 9), slice(5, 15), slice(4, 16))
THICK = (2.0, 1.0, 1.0)


def target_of(prompts: ClassPrompts) -> Target:
    case = make_case(picture(BODY), prompts, spacing_mm=THICK, previous=BODY.astype(np.uint8))
    return make_target(case, Thresholder())


def scribble_of(drawn: Mask, positive: bool) -> Scribble:
    return Scribble(np.argwhere(drawn), positive)


def contradiction_of(scribble: Scribble) -> Contradiction | None:
    return on_scribble(target_of(ClassPrompts(1, scribbles=(scribble,))), BODY, scribble)


def cut(drawn: Mask, positive: bool) -> Region:
    """Returns a region within tight bounds."""
    places = np.argwhere(drawn)
    (z0, y0, x0), (z1, y1, x1) = places.min(axis=0).tolist(), (places.max(axis=0) + 1).tolist()
    return Region((z0, y0, x0), drawn[z0:z1, y0:y1, x0:x1], positive)


# --- scribbles ----------------------------------------------------------------------------------


def test_a_scribble_on_its_side_of_the_mask_contradicts_nothing() -> None:
    inside = block(SHAPE, slice(5, 6), slice(8, 10), slice(6, 14))
    assert contradiction_of(scribble_of(inside, positive=True)) is None
    outside = block(SHAPE, slice(5, 6), slice(1, 3), slice(6, 14))
    assert contradiction_of(scribble_of(outside, positive=False)) is None


def test_the_part_outside_of_the_mask_contradicts_at_its_deepest_voxel() -> None:
    # Along x from 10 to 23 at z = 5, y = 10; the body ends before 16, so that 23 is 8 voxels away.
    found = contradiction_of(scribble_of(block(SHAPE, *np.s_[5:6, 10:11, 10:24]), positive=True))
    assert found is not None
    assert found.click == Click(5, 10, 23, positive=True)
    assert found.radius == pytest.approx(8)
    assert found.voxels.tolist() == [[5, 10, x] for x in range(16, 24)]


def test_of_several_pieces_the_deepest_one_comes_first() -> None:
    # Both ends stick out: by 3 voxels before x = 4, by 6 from x = 16 on.
    found = contradiction_of(scribble_of(block(SHAPE, *np.s_[5:6, 10:11, 1:22]), positive=True))
    assert found is not None
    assert found.voxels[:, 2].tolist() == list(range(16, 22))


def test_where_a_piece_is_equally_deep_its_middle_is_clicked() -> None:
    # In row 17, 3 voxels beyond the body's last one, from x = 6 to 14.
    found = contradiction_of(scribble_of(block(SHAPE, *np.s_[5:6, 17:18, 6:15]), positive=True))
    assert found is not None
    assert found.click == Click(5, 17, 10, positive=True)
    assert found.radius == pytest.approx(3)


def test_voxels_beside_the_mask_are_what_a_hand_is_inexact_by() -> None:
    # Three rows of ten voxels; one row of two voxels sticks out by a voxel: 2 of 22.
    drawn = block(SHAPE, *np.s_[5:6, 13:15, 5:15]) | block(SHAPE, *np.s_[5:6, 15:16, 5:7])
    assert contradiction_of(scribble_of(drawn, positive=True)) is None


def test_a_hand_is_inexact_by_pixels_however_long_they_are() -> None:
    # As above, beside the body's last column; pixels are twice as long along x, two grid voxels.
    drawn = block(SHAPE, *np.s_[5:6, 5:15, 14:16]) | block(SHAPE, *np.s_[5:6, 5:7, 16:17])
    scribble = scribble_of(drawn, positive=True)
    case = make_case(
        picture(BODY),
        ClassPrompts(1, scribbles=(scribble,)),
        spacing_mm=(1.0, 1.0, 2.0),
        previous=BODY.astype(np.uint8),
    )
    assert on_scribble(make_target(case, Thresholder()), BODY, scribble) is None


def test_an_error_on_a_thin_slice_is_as_deep_as_it_is_on_the_slice() -> None:
    # Missing on one slice alone, five columns wide; 3 of 23 voxels lie there.
    mask = BODY & ~block(SHAPE, *np.s_[5:6, 5:15, 8:13])
    drawn = block(SHAPE, *np.s_[5:6, 5:15, 4:6]) | block(SHAPE, *np.s_[5:6, 9:10, 9:12])
    scribble = scribble_of(drawn, positive=True)
    case = make_case(
        picture(BODY), ClassPrompts(1, scribbles=(scribble,)), previous=BODY.astype(np.uint8)
    )
    found = on_scribble(make_target(case, Thresholder()), mask, scribble)
    assert found is not None
    assert len(found.voxels) == 3


def test_a_good_part_of_a_scribble_is_no_error_of_the_hand_however_shallow() -> None:
    # Half of it lies in the row beside the body.
    found = contradiction_of(scribble_of(block(SHAPE, *np.s_[5:6, 14:16, 5:15]), positive=True))
    assert found is not None
    assert found.radius == pytest.approx(1)


def test_a_mask_is_put_on_a_scribbles_side_there_and_nowhere_else() -> None:
    drawn = block(SHAPE, *np.s_[5:6, 13:18, 5:15])
    scribble = scribble_of(drawn, positive=True)
    target = target_of(ClassPrompts(1, scribbles=(scribble,)))
    np.testing.assert_array_equal(obey(target, BODY, scribble), BODY | drawn)
    scribble = scribble_of(drawn, positive=False)
    np.testing.assert_array_equal(obey(target, BODY, scribble), BODY & ~drawn)


def test_voxels_are_counted_from_the_targets_region() -> None:
    drawn = block(SHAPE, *np.s_[5:6, 10:11, 10:22])
    scribble = scribble_of(drawn, positive=True)
    case = make_case(picture(BODY), ClassPrompts(1, scribbles=(scribble,)), spacing_mm=THICK)
    target = make_target(case, Thresholder(), region=((2, 4, 3), (10, 18, 25)))
    mask = BODY[2:10, 4:18, 3:25]
    found = on_scribble(target, mask, scribble)
    assert found is not None
    assert found.click == Click(5, 10, 21, positive=True)
    assert found.voxels[-1].tolist() == [3, 6, 18]
    np.testing.assert_array_equal(obey(target, mask, scribble), (BODY | drawn)[2:10, 4:18, 3:25])


# --- regions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
def test_an_area_contradicts_where_it_is_on_the_wrong_side(plane: Plane) -> None:
    # From within the body to 6 voxels beyond its last slice, row or column; 3 beyond is the middle.
    where = [slice(4, 8), slice(6, 14), slice(5, 15)]
    long = 2 if plane is not Plane.SAGITTAL else 1
    last = (9, 15, 16)[long]
    where[long] = slice(last - 3, last + 5)
    where[plane.normal] = slice(7, 8)
    drawn = block(SHAPE, *where)
    region = cut(drawn, positive=True)
    found = in_region(target_of(ClassPrompts(1, regions=(region,))), BODY, region)
    assert found is not None
    wrong = np.zeros(SHAPE, np.bool_)
    wrong[tuple(found.voxels.T)] = True
    np.testing.assert_array_equal(wrong, drawn & ~BODY)
    assert found.click.positive
    assert wrong[found.click.voxel]
    # Five deep, the middle ones are 2 or 3 voxels from the body.
    assert found.radius in (pytest.approx(2), pytest.approx(3))
    # On its slice, more than a voxel and a half beside it, nothing else is missing.
    beside = np.zeros(SHAPE, np.bool_)
    beside[tuple(found.beside.T)] = True
    assert not (beside & (drawn | BODY)).any()
    assert np.flatnonzero(beside.any(tuple({0, 1, 2} - {plane.normal}))).tolist() == [7]


def test_an_areas_rim_is_what_a_hand_is_inexact_by() -> None:
    # A voxel wider than the body on every side, and a little of noise within it.
    region = cut(block(SHAPE, *np.s_[5:6, 4:16, 3:17]), positive=True)
    mask = BODY.copy()
    mask[5, 9, 9] = mask[5, 11, 6:8] = False
    target = target_of(ClassPrompts(1, regions=(region,)))
    assert in_region(target, mask, region) is None
    expected = mask | block(SHAPE, *np.s_[5:6, 4:16, 3:17])
    np.testing.assert_array_equal(obey(target, mask, region), expected)


def test_an_area_without_an_inside_matters_as_a_whole() -> None:
    region = cut(block(SHAPE, *np.s_[5:6, 8:10, 6:9]), positive=False)
    found = in_region(target_of(ClassPrompts(1, regions=(region,))), BODY, region)
    assert found is not None
    assert len(found.voxels) == 6


def test_a_block_is_obeyed_and_not_followed() -> None:
    drawn = block(SHAPE, *np.s_[5:8, 8:18, 10:22])
    region = cut(drawn, positive=False)
    target = target_of(ClassPrompts(1, regions=(region,)))
    assert in_region(target, BODY, region) is None
    np.testing.assert_array_equal(obey(target, BODY, region), BODY & ~drawn)


def taken_back(by: str, anew: bool) -> tuple[Mask, Region, Target]:
    """Returns a mask with a gap at x = 9, an area to take away on both sides of it, and a target.

    On the far side of the gap a positive mark lies in the area.
    """
    mask = BODY & ~block(SHAPE, *np.s_[:, :, 9:10])
    region = cut(block(SHAPE, *np.s_[5:6, 7:13, 5:16]), positive=False)
    prompts = (
        ClassPrompts(1, clicks=(Click(5, 9, 13, True),), regions=(region,), anew=anew)
        if by == "click"
        else ClassPrompts(
            1,
            scribbles=(Scribble(np.array([[5, 9, 13]]), True),),
            regions=(region,),
            anew=anew,
        )
    )
    return mask, region, target_of(prompts)


@pytest.mark.parametrize("by", ["click", "scribble"])
def test_what_came_of_a_mark_in_a_region_stays_in_a_mask_that_has_obeyed_both(by: str) -> None:
    mask, region, target = taken_back(by, anew=False)
    found = in_region(target, mask, region)
    assert found is not None
    assert found.voxels[:, 2].max() == 8
    expected = mask & ~block(SHAPE, *np.s_[5:6, 7:13, 5:9])
    np.testing.assert_array_equal(obey(target, mask, region), expected)


@pytest.mark.parametrize("by", ["click", "scribble"])
def test_all_of_a_region_counts_in_a_mask_that_has_not_obeyed_it_yet(by: str) -> None:
    mask, region, target = taken_back(by, anew=True)
    found = in_region(target, mask, region)
    assert found is not None
    assert found.voxels[:, 2].min() == 10  # the larger of both pieces
    expected = mask & ~block(SHAPE, *np.s_[5:6, 7:13, 5:16])
    np.testing.assert_array_equal(obey(target, mask, region), expected)


# --- clicks -------------------------------------------------------------------------------------


def test_a_click_is_a_contradiction_of_one_voxel() -> None:
    click = Click(5, 10, 20, positive=True)
    found = at_click(target_of(ClassPrompts(1, clicks=(click,))), BODY, click)
    assert found.voxels.tolist() == [[5, 10, 20]]
    assert found.radius == pytest.approx(5)  # the body's last column is 15
    assert len(found.beside) == 0

"""What users of interactive tools draw, as prompts; and what counts where it contradicts."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane
from gamt.interactions import (
    add_click,
    add_region,
    add_scribble,
    gather,
    read_lasso,
    read_scribble,
    region_of,
    take_back,
)
from gamt.prompts import (
    Box,
    ClassPrompts,
    Click,
    LabelledPrompt,
    Lasso,
    Region,
    Scribble,
    SliceBox,
)

SHAPE = (6, 7, 9)


def drawing(*voxels: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """An array as large as the image, with a few voxels drawn."""
    image = np.zeros(SHAPE, np.uint8)
    image[tuple(np.array(voxels).T)] = 1
    return image


def line(positive: bool, *voxels: tuple[int, int, int]) -> Scribble:
    return Scribble(np.array(voxels), positive)


def voxels_of(scribbles: tuple[Scribble, ...]) -> list[list[list[int]]]:
    return [one.voxels.tolist() for one in scribbles]


# --- drawings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
def test_a_lasso_lies_on_the_only_slice_of_its_crop(plane: Plane) -> None:
    # A bar of two by one pixels: alone, it might lie on slices of two planes.
    bounds = [[1, 4], [2, 6], [3, 8]]
    bounds[plane.normal] = [bounds[plane.normal][0], bounds[plane.normal][0] + 1]
    crop = np.zeros([b - a for a, b in bounds], np.uint8)
    crop[0, 0, 0] = 1
    lasso = read_lasso(crop, bounds, SHAPE)
    assert lasso.plane is plane
    assert (lasso.low, lasso.high) == ((1, 2, 3), (2, 3, 4))


def test_a_lasso_is_cut_to_its_area() -> None:
    image = drawing((2, 1, 4), (2, 1, 5), (2, 3, 5))
    lasso = read_lasso(image, None, SHAPE)
    assert lasso.plane is Plane.AXIAL
    assert (lasso.low, lasso.high) == ((2, 1, 4), (3, 4, 6))
    np.testing.assert_array_equal(lasso.mask, [[1, 1], [0, 0], [0, 1]])


def test_a_crop_is_the_same_as_all_of_the_image() -> None:
    image = drawing((2, 1, 4), (3, 3, 5), (5, 6, 8))
    whole = read_scribble(image, None, True, SHAPE)
    crop = read_scribble(image[2:, 1:, 4:], [[2, 6], [1, 7], [4, 9]], True, SHAPE)
    np.testing.assert_array_equal(whole.voxels, crop.voxels)
    np.testing.assert_array_equal(whole.voxels, [[2, 1, 4], [3, 3, 5], [5, 6, 8]])


@pytest.mark.parametrize(
    ("image", "bounds", "message"),
    [
        (np.zeros(SHAPE), None, "found an empty lasso, expected some voxels"),
        (np.ones((6, 7, 8)), None, r"shape \(6, 7, 8\), expected \(6, 7, 9\)"),
        (np.ones((1, 2, 2)), [[2, 3], [1, 3], [4, 7]], r"\(1, 2, 2\), expected \(1, 2, 3\)"),
        (np.ones((1, 2, 2)), [[2, 3], [1, 3], [8, 10]], r"inside of \(6, 7, 9\)"),
        (np.ones((1, 2, 2)), [[-1, 0], [1, 3], [4, 6]], r"inside of \(6, 7, 9\)"),
        (np.ones((1, 2, 2)), [[2.5, 3], [1, 3], [4, 6]], "expected whole numbers.*first"),
        (np.ones((1, 2, 2)), [[3, 2], [1, 3], [4, 6]], r"\[first, past the last\] inside"),
        (np.ones((1, 2, 2)), [[2, 3], [1, 3]], "expected 3 x 2 numbers"),
        (np.ones((2, 2)), [[2, 3], [1, 3], [4, 6]], r"shape \(2, 2\), expected numbers"),
        (np.full((1, 2, 2), "x"), [[2, 3], [1, 3], [4, 6]], "expected numbers"),
        (np.full((1, 2, 2), np.nan), [[2, 3], [1, 3], [4, 6]], "found NaN in the lasso"),
        (drawing((0, 0, 0), (1, 2, 3)), None, "2 x 3 x 4 voxels, expected one on a single slice"),
    ],
)
def test_a_drawing_that_does_not_fit_is_refused(image: Any, bounds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_lasso(image, bounds, SHAPE)


def test_a_scribble_that_fills_a_volume_is_refused_with_what_to_use_instead() -> None:
    size = (3, 400, 400)  # 480 000 voxels
    message = "480000 voxels, expected a line of 262144 at most; lassos .* initial segmentations"
    with pytest.raises(ValueError, match=message):
        read_scribble(np.ones(size, np.uint8), None, True, size)
    assert (
        len(
            read_scribble(
                np.ones(size, np.uint8)[:1], [[1, 2], [0, 400], [0, 400]], True, size
            ).voxels
        )
        == 160_000
    )


def test_a_negative_lasso_marks_its_area_alone() -> None:
    lasso = Lasso(Plane.CORONAL, (1, 2, 3), (3, 3, 5), np.array([[True, False], [True, True]]))
    region = region_of(lasso, positive=False)
    assert (region.low, region.positive) == ((1, 2, 3), False)
    np.testing.assert_array_equal(np.argwhere(region.mask), [[0, 0, 0], [1, 0, 0], [1, 0, 1]])


# --- contradictions -----------------------------------------------------------------------------


def test_a_later_click_takes_its_voxel_out_of_an_opposite_scribble() -> None:
    prompts = add_scribble(ClassPrompts(1), line(True, (1, 1, 1), (1, 1, 2)))
    prompts = add_scribble(prompts, line(False, (3, 3, 3)))
    prompts = add_click(prompts, Click(1, 1, 2, positive=False))
    assert voxels_of(prompts.scribbles) == [[[1, 1, 1]], [[3, 3, 3]]]
    prompts = add_click(prompts, Click(3, 3, 3, positive=True))
    assert voxels_of(prompts.scribbles) == [[[1, 1, 1]]]  # nothing is left of the other one


def test_a_later_scribble_takes_opposite_clicks_and_voxels_back() -> None:
    same, opposite = Click(1, 1, 1, positive=True), Click(1, 1, 2, positive=False)
    prompts = ClassPrompts(1, clicks=(same, opposite))
    prompts = add_scribble(prompts, line(False, (1, 1, 3), (2, 2, 2)))
    prompts = add_scribble(prompts, line(True, (1, 1, 1), (1, 1, 2), (1, 1, 3)))
    assert prompts.clicks == (same,)
    assert voxels_of(prompts.scribbles) == [[[2, 2, 2]], [[1, 1, 1], [1, 1, 2], [1, 1, 3]]]


def test_a_later_negative_region_takes_what_is_positive_inside_back() -> None:
    inside, beside, negative = (
        Click(2, 2, 2, positive=True),
        Click(0, 0, 0, positive=True),
        Click(2, 2, 3, positive=False),
    )
    prompts = ClassPrompts(1, clicks=(inside, beside, negative))
    prompts = add_scribble(prompts, line(True, (0, 0, 1), (3, 3, 3)))
    prompts = add_region(prompts, Region((2, 2, 2), np.ones((2, 2, 2), np.bool_), positive=False))
    assert prompts.clicks == (beside, negative)
    assert voxels_of(prompts.scribbles) == [[[0, 0, 1]]]


@pytest.mark.parametrize(
    ("drawn", "taken"),
    [
        (Box(0, 3, 1, 0, 7, 0, 9), [[2, 2, 2], [2, 2, 3], [2, 3, 2], [2, 3, 3]]),
        (Box(4, 6, 5, 0, 7, 0, 9), []),  # beside the region
        (SliceBox(Plane.AXIAL, (3, 3, 0), (4, 7, 9)), [[3, 3, 2], [3, 3, 3]]),
        (Lasso(Plane.AXIAL, (2, 2, 2), (3, 3, 4), np.array([[True, False]])), [[2, 2, 2]]),
    ],
)
def test_a_later_extent_takes_the_voxels_of_a_negative_region_back(
    drawn: Box | SliceBox, taken: list[list[int]]
) -> None:
    block = np.ones((2, 2, 2), np.bool_)
    said = add_region(ClassPrompts(1), Region((2, 2, 2), block, positive=False))
    (region,) = take_back(said, drawn).regions
    left = (np.argwhere(region.mask) + 2).tolist()
    everything = (np.argwhere(block) + 2).tolist()
    assert left == [voxel for voxel in everything if voxel not in taken]
    assert said.regions[0].mask.all()  # earlier states have it as it was


def test_nothing_is_left_of_a_region_in_a_later_box() -> None:
    region = Region((2, 2, 2), np.ones((2, 2, 2), np.bool_), positive=False)
    prompts = take_back(add_region(ClassPrompts(1), region), Box(0, 6, 3, 0, 7, 0, 9))
    assert prompts.regions == ()


def test_a_region_that_a_later_box_does_not_touch_stays_the_same_one() -> None:
    region = Region((1, 1, 1), np.array([[[True, False, True]]]), positive=False)
    prompts = add_region(ClassPrompts(1), region)
    assert take_back(prompts, Box(2, 6, 3, 2, 7, 2, 9)).regions[0] is region
    # The voxel (1, 1, 2), which is within the box, isn't the region's.
    assert take_back(prompts, SliceBox(Plane.AXIAL, (1, 1, 2), (2, 3, 3))).regions[0] is region


# --- all that was said --------------------------------------------------------------------------


def test_what_is_drawn_counts_beside_boxes_and_clicks() -> None:
    box = Box(1, 4, 2, 1, 4, 1, 4)
    inside = Click(2, 2, 2, positive=True)
    drawn = line(False, (3, 3, 3), (2, 2, 2))
    corner = region_of(SliceBox(Plane.AXIAL, (1, 1, 1), (2, 2, 2)), positive=False)
    about_2 = [LabelledPrompt(2, one) for one in (box, inside, drawn, corner)]
    found = gather([*about_2, LabelledPrompt(5, inside)])
    assert list(found) == [2, 5]
    assert found[2].box == box
    assert found[2].clicks == ()  # the line came later
    assert voxels_of(found[2].scribbles) == [[[3, 3, 3], [2, 2, 2]]]
    assert found[2].regions == (corner,)
    assert found[5] == ClassPrompts(5, clicks=(inside,))


def test_a_box_that_comes_later_takes_back_what_was_taken_away_there() -> None:
    box = Box(1, 4, 2, 1, 4, 1, 4)
    corner = region_of(SliceBox(Plane.AXIAL, (1, 1, 1), (2, 2, 2)), positive=False)
    assert gather([LabelledPrompt(1, corner), LabelledPrompt(1, box)])[1].regions == ()

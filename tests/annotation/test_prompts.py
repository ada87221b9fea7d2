"""What is drawn on a page: read, told, and turned into voxels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.annotation.grid import to_page
from gamt.annotation.prompts import (
    BoxPrompt,
    DrawnPrompt,
    MaskPrompt,
    PointPrompt,
    describe_prompt,
    draw_line,
    fill_outline,
    rasterise,
    read_prompt,
    to_said,
)
from gamt.axes import Plane
from gamt.io.json_files import JsonError, JsonValue
from gamt.prompts import Box, Click, Lasso, Region, Scribble, SliceBox

SHAPE = (4, 5, 6)  # z, y, x


def rows(area: npt.NDArray[np.bool_]) -> list[str]:
    return ["".join(".#"[int(one)] for one in row) for row in area]


def line(*points: tuple[float, float], radius: float = 0.0) -> list[str]:
    return rows(draw_line(np.array(points), radius, (4, 6)))


def outline(*points: tuple[float, float]) -> list[str]:
    return rows(fill_outline(np.array(points), (5, 6)))


def drawn(kind: Any, plane: Plane, index: int, *points: tuple[float, float]) -> DrawnPrompt:
    return DrawnPrompt(kind, plane, index, points, 0.0, positive=True)


# --- lines --------------------------------------------------------------------------------------


def test_a_line_holds_the_pixels_that_it_crosses() -> None:
    # From the centre of pixel (0, 0) to that of (4, 2): it is at y = x / 2, and leaves row 0 at
    # x = 1 and row 1 at x = 3, each in the middle of a pixel.
    assert line((0, 0), (4, 2)) == ["##....", ".###..", "...##.", "......"]


def test_a_diagonal_line_does_not_hold_pixels_that_it_touches_at_a_corner() -> None:
    assert line((0, 0), (3, 3)) == ["#.....", ".#....", "..#...", "...#.."]


def test_a_single_place_is_the_pixel_around_it() -> None:
    assert line((2.4, 1.6)) == ["......", "......", "..#...", "......"]


def test_a_thick_line_holds_the_pixels_whose_centres_are_near() -> None:
    # Distances from the line between (2, 1) and (3, 1): 1 above, below and beside; 1.41 at corners.
    expected = ["..##..", ".####.", "..##..", "......"]
    assert line((2, 1), (3, 1), radius=1.0) == expected


def test_what_of_a_line_is_beside_the_picture_is_left_out() -> None:
    assert line((-9, 2), (1, 2)) == ["......", "......", "##....", "......"]
    assert line((-9, -9), (-5, -5)) == ["......"] * 4


# --- outlines -----------------------------------------------------------------------------------


def test_an_outline_holds_the_pixels_whose_centres_are_inside() -> None:
    assert outline((0.5, 0.5), (4.4, 0.5), (4.4, 2.5), (0.5, 2.5)) == [
        "......",
        ".####.",
        ".####.",
        "......",
        "......",
    ]


def test_an_outline_may_be_drawn_in_either_direction_and_leave_the_picture() -> None:
    corners = [(-3.0, 1.5), (1.5, 1.5), (1.5, 9.0), (-3.0, 9.0)]
    expected = ["......", "......", "##....", "##....", "##...."]
    assert outline(*corners) == outline(*reversed(corners)) == expected


def test_what_an_outline_goes_around_twice_is_inside() -> None:
    corners = [(0.5, 0.5), (3.5, 0.5), (3.5, 3.5), (0.5, 3.5)]
    assert outline(*corners, *corners) == outline(*corners)


# --- voxels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("kind", ["scribble", "lasso"])
def test_a_drawing_marks_the_voxel_that_is_drawn_on(kind: str, plane: Plane) -> None:
    voxel = (2, 1, 4)  # z, y, x
    place = to_page(voxel, SHAPE)  # i, j, k
    index = place[2 - plane.normal]
    a, b = (n for axis, n in enumerate(place) if axis != 2 - plane.normal)
    around = [(a - 0.4, b - 0.4), (a + 0.4, b - 0.4), (a + 0.4, b + 0.4), (a - 0.4, b + 0.4)]
    points = around if kind == "lasso" else [(a, b)]
    mask, bounds = rasterise(drawn(kind, plane, index, *points), SHAPE)
    marked = np.argwhere(mask) + [first for first, _ in bounds]
    assert marked.tolist() == [[*voxel]]
    assert bounds[plane.normal] == [voxel[plane.normal], voxel[plane.normal] + 1]


def test_a_lasso_without_a_voxel_is_refused() -> None:
    speck = drawn("lasso", Plane.AXIAL, 1, (1.1, 1.1), (1.3, 1.1), (1.2, 1.3))
    with pytest.raises(ValueError, match="the lasso holds no voxel of the image"):
        rasterise(speck, SHAPE)


def test_a_slice_beside_the_image_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"scribble on the coronal slice 5, expected one of 0 to 4"
    ):
        rasterise(drawn("scribble", Plane.CORONAL, 5, (1, 1)), SHAPE)


def test_prompts_say_what_sessions_understand() -> None:
    # In an array of (4, 5, 6), page voxel (i, j, k) is (k, 4 - j, 5 - i).
    assert to_said(PointPrompt((1, 2, 3), False), SHAPE) == Click(3, 2, 4, positive=False)
    box = to_said(BoxPrompt((0, 0, 1), (2, 3, 4), True), SHAPE)
    assert box == Box(1, 4, 2, 2, 5, 4, 6)
    thin = to_said(BoxPrompt((0, 0, 1), (2, 3, 2), True, Plane.AXIAL), SHAPE)
    assert thin == SliceBox(Plane.AXIAL, (1, 2, 4), (2, 5, 6))
    negative = to_said(BoxPrompt((0, 0, 1), (2, 3, 4), False), SHAPE)
    assert isinstance(negative, Region)
    assert (negative.low, negative.high, negative.positive) == ((1, 2, 4), (4, 5, 6), False)
    square = [(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)]
    lasso = to_said(drawn("lasso", Plane.AXIAL, 3, *square), SHAPE)
    assert isinstance(lasso, Lasso)
    assert (lasso.low, lasso.high) == ((3, 2, 3), (4, 4, 5))
    scribble = to_said(drawn("scribble", Plane.AXIAL, 3, (1, 1), (2, 1)), SHAPE)
    assert isinstance(scribble, Scribble)
    assert scribble.voxels.tolist() == [[3, 3, 3], [3, 3, 4]]


# --- JSON ---------------------------------------------------------------------------------------

PROMPTS = (
    PointPrompt((1, 2, 3), True),
    BoxPrompt((0, 0, 1), (2, 3, 4), False),
    BoxPrompt((0, 0, 1), (2, 3, 2), True, Plane.AXIAL),
    DrawnPrompt("lasso", Plane.SAGITTAL, 2, ((0.25, -1.5), (3.0, 2.0)), 0.0, True),
    DrawnPrompt("scribble", Plane.CORONAL, 0, ((0.25, 1.5),), 2.5, False),
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_is_told_of_a_prompt_is_read_as_the_same(prompt: Any) -> None:
    assert read_prompt(JsonValue(Path("request"), "", describe_prompt(prompt))) == prompt


def test_a_mask_is_told_by_its_name() -> None:
    expected = {"kind": "mask", "name": "liver.nii.gz", "positive": True}
    assert describe_prompt(MaskPrompt("liver.nii.gz")) == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "circle", "kind: found \"circle\", expected 'point' or 'box' or"),
        ("positive", 1, "positive: found 1, expected true or false"),
        ("plane", "oblique", "plane: found \"oblique\", expected 'axial' or 'coronal' or"),
        ("index", -1, "index: found -1, expected a whole number from 0"),
        ("points", [[1, 2, 3]], "points[0]: found a list of 3, expected a list of 2 numbers"),
        ("points", [[1, None]], "points[0][1]: found null, expected a number"),
        ("radius", -0.5, "radius: found -0.5, expected 0 to 32"),
        ("radius", 300, "radius: found 300, expected 0 to 32"),
    ],
)
def test_a_broken_prompt_is_one_line_that_names_the_member(
    key: str, value: object, message: str
) -> None:
    described = {**describe_prompt(PROMPTS[-1]), key: value}
    with pytest.raises(JsonError) as caught:
        read_prompt(JsonValue(Path("request"), "", described))
    assert message in str(caught.value)


def test_a_voxel_is_three_whole_numbers() -> None:
    for voxel in ([1, 2], [1.5, 2, 3], "center"):
        entry = {"kind": "point", "positive": True, "voxel": voxel}
        with pytest.raises(JsonError, match="voxel"):
            read_prompt(JsonValue(Path("request"), "", entry))

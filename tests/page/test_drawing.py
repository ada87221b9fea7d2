"""Prompts drawn by mouse: what the server gets of them, and what comes of it."""

import math
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.actions.mouse_button import MouseButton
from selenium.webdriver.common.keys import Keys

from benchmarks.browser.driver import Page, read_labels
from benchmarks.browser.scans import AXES, LARGE, SMALL, Point
from tests.page.replay import segment


def corners(plane: str, margin: int = 1) -> tuple[Point, Point]:
    """Returns opposite corners of a box around the large body's section in a plane."""
    (a, b, _), (centre, radii) = AXES[plane], LARGE
    low = (centre[a] - radii[a] - margin, centre[b] - radii[b] - margin)
    high = (centre[a] + radii[a] + margin, centre[b] + radii[b] + margin)
    return low, high


def outline(plane: str, scale: float = 1.0) -> list[Point]:
    """Returns points around the large body's section in a plane."""
    (a, b, _), (centre, radii) = AXES[plane], LARGE
    angles = np.linspace(0, 2 * math.pi, 24)
    return [
        (
            centre[a] + scale * radii[a] * math.cos(angle),
            centre[b] + scale * radii[b] * math.sin(angle),
        )
        for angle in angles
    ]


@pytest.mark.parametrize(
    "plane",
    [
        "coronal",
        pytest.param("axial", marks=pytest.mark.slow),
        pytest.param("sagittal", marks=pytest.mark.slow),
    ],
)
def test_a_box_on_a_slice_is_segmented_as_by_a_session(page: Page, scan: Path, plane: str) -> None:
    page.press("b")
    low, high = corners(plane)
    page.drag(plane, [low, high])
    (box,) = page.wait_for_prompts(1)
    a, b, across = AXES[plane]
    assert (box["kind"], box["plane"], box["positive"]) == ("box", plane, True)
    assert [box["low"][a], box["low"][b]] == [*low]
    assert [box["high"][a] - 1, box["high"][b] - 1] == [*high]
    assert box["high"][across] - box["low"][across] == 1
    result = page.result()
    # The body goes beyond the slice.
    assert np.ptp(np.nonzero(result)[across]) > LARGE[1][across]
    assert np.array_equal(result, segment(scan, [box]))


@pytest.mark.slow
def test_scrolling_during_a_drag_makes_a_box_of_several_slices(page: Page, scan: Path) -> None:
    page.press("b")
    low, high = corners("axial")
    page.drag("axial", [low, high], scroll=4)
    (box,) = page.wait_for_prompts(1)
    assert box["plane"] is None
    assert box["high"][2] - box["low"][2] == 5
    result = page.result()
    # Nothing is found outside of its slices.
    slices = np.nonzero(result)[2]
    assert (slices.min(), slices.max() + 1) == (box["low"][2], box["high"][2])
    assert np.array_equal(result, segment(scan, [box]))


def test_each_kind_of_prompt_adds_and_takes_away_as_in_a_session(page: Page, scan: Path) -> None:
    page.click("axial", (34, 14))
    page.wait_for_prompts(1)
    page.press("s")
    page.drag("coronal", [(14, 13), (20, 10), (27, 13)])
    page.wait_for_prompts(2)
    page.press("l")
    page.drag("sagittal", outline("sagittal"))
    page.wait_for_prompts(3)
    page.press("p")
    page.click("axial", (34, 14), MouseButton.RIGHT)
    prompts = page.wait_for_prompts(4)
    said = [(one["kind"], one["positive"]) for one in prompts]
    assert said == [("point", True), ("scribble", True), ("lasso", True), ("point", False)]
    result = page.result()
    assert not result[tuple(prompts[3]["voxel"])]
    assert np.array_equal(result, segment(scan, prompts))


@pytest.mark.slow
def test_the_right_button_and_t_draw_what_is_taken_away(page: Page) -> None:
    page.press("b")
    page.drag("axial", [*corners("axial")], MouseButton.RIGHT)
    page.wait_for_prompts(1)
    page.press("t", "s")
    page.drag("axial", [(10, 20), (20, 20)])
    page.wait_for_prompts(2)
    page.press("t")
    page.drag("axial", [(10, 30), (20, 30)])
    prompts = page.wait_for_prompts(3)
    assert [one["positive"] for one in prompts] == [False, False, True]


@pytest.mark.slow
def test_a_lasso_can_be_clicked_corner_by_corner(page: Page, scan: Path) -> None:
    page.press("l")
    for corner in ((10, 18), (30, 18), (30, 38), (10, 38)):
        page.click("axial", corner)
    assert page.prompts == []
    page.click("axial", (10, 18))
    (lasso,) = page.wait_for_prompts(1)
    assert np.round(lasso["points"]).tolist() == [[10, 18], [30, 18], [30, 38], [10, 38]]
    assert np.array_equal(page.result(), segment(scan, [lasso]))


@pytest.mark.slow
def test_escape_drops_what_is_being_drawn(page: Page) -> None:
    page.press("l")
    page.click("axial", (10, 18))
    page.click("axial", (30, 18))
    assert page.browser.find_elements("css selector", "#overlay .edge")
    page.press(Keys.ESCAPE)
    assert not page.browser.find_elements("css selector", "#overlay .edge")
    page.press("p")
    page.click("axial", (20, 28))
    assert [one["kind"] for one in page.wait_for_prompts(1)] == ["point"]


@pytest.mark.slow
def test_undo_and_redo_go_back_and_forth_voxel_by_voxel(page: Page, scan: Path) -> None:
    page.click("axial", (20, 28))
    page.wait_for_prompts(1)
    first = page.result()
    page.click("axial", (34, 14))
    prompts = page.wait_for_prompts(2)
    both = page.result()
    assert not np.array_equal(first, both)
    page.press("^z")
    assert page.wait_for_prompts(1) == prompts[:1]
    assert np.array_equal(page.result(), first)
    page.press("^Z")
    assert page.wait_for_prompts(2) == prompts
    assert np.array_equal(page.result(), both)


@pytest.mark.slow
def test_a_prompt_pointed_at_is_removed_as_if_it_had_never_been(page: Page, scan: Path) -> None:
    page.click("axial", (20, 28))
    page.wait_for_prompts(1)
    page.click("axial", (34, 14))
    page.wait_for_prompts(2)
    page.click("axial", (15, 24), MouseButton.RIGHT)
    prompts = page.wait_for_prompts(3)
    page.hover("axial", (34, 14))
    page.press(Keys.DELETE)
    assert page.wait_for_prompts(2) == [prompts[0], prompts[2]]
    assert np.array_equal(page.result(), segment(scan, [prompts[0], prompts[2]]))


@pytest.mark.slow
def test_a_prompt_is_drawn_where_it_was_clicked_and_fades_with_the_slices(page: Page) -> None:
    page.click("axial", (20, 28))
    page.wait_for_prompts(1)
    (mark,) = page.find_marks("axial")
    box = mark.rect
    x, y = page.slices["axial"].pixel((20, 28))
    assert abs(box["x"] + box["width"] / 2 - x) <= 1.5
    assert abs(box["y"] + box["height"] / 2 - y) <= 1.5
    assert mark.get_attribute("opacity") == "1"
    page.scroll("axial", (30, 28), 2)
    (mark,) = page.find_marks("axial")
    assert float(mark.get_attribute("opacity") or 1) < 0.5
    page.scroll("axial", (30, 28), 2)
    assert not page.find_marks("axial")


@pytest.mark.slow
def test_a_tap_is_a_click_and_two_fingers_zoom_without_drawing(page: Page) -> None:
    x, y = page.slices["axial"].pixel((20, 28))
    page.touch([(x, y)])
    (point,) = page.wait_for_prompts(1)
    assert point["voxel"][:2] == [20, 28]
    before = page.find_marks("axial")[0].rect["x"]
    # Two fingers to the left of it, from 20 to 60 pixels apart.
    page.touch([(x - 60, y), (x - 80, y)], [(x - 40, y), (x - 20, y)])
    page.let_it_draw()
    # The middle of the fingers stays, and 50 pixels from it become three times as many.
    assert abs(page.find_marks("axial")[0].rect["x"] - (before + 100)) < 3
    assert len(page.prompts) == 1


@pytest.mark.slow
def test_a_click_while_the_server_predicts_loses_no_prompt(page: Page, scan: Path) -> None:
    page.press("b")
    page.drag("axial", [*corners("axial")])
    page.press("p")
    page.click("axial", (34, 14))
    page.click("axial", (15, 24), MouseButton.RIGHT)
    prompts = page.wait_for_prompts(3)
    assert [one["kind"] for one in prompts] == ["box", "point", "point"]
    assert np.array_equal(page.result(), segment(scan, prompts))


def test_saving_writes_what_is_shown(page: Page, scan: Path) -> None:
    page.click("axial", (int(SMALL[0][0]), int(SMALL[0][1])))
    page.wait_for_prompts(1)
    shown = page.labels()
    (path,) = (file for file in page.save() if file.suffixes[-2:] == [".nii", ".gz"])
    assert path.parent == scan.parent
    assert np.array_equal(read_labels(path.read_bytes()), shown)
    assert page.state["unsaved"] is False


def test_nothing_goes_anywhere_but_to_its_own_server_and_nothing_is_complained_about(
    page: Page,
) -> None:
    """Of all tests of this file: it is the last one."""
    own = f"http://127.0.0.1:{page.port}/"
    schemes = ("data:", "blob:")
    elsewhere = [
        url for url in page.requests() if not url.startswith(own) and not url.startswith(schemes)
    ]
    assert elsewhere == []
    assert page.errors() == []

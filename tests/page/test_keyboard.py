"""Keys alone are enough."""

from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from benchmarks.browser.driver import Page, read_labels, wait_until
from tests.page.replay import segment


def step(page: Page, key: str, times: int) -> None:
    page.press(*[key] * times)


def test_a_box_a_click_and_a_file_by_keys_alone(page: Page, scan: Path) -> None:
    i, j, k = page.cross
    page.press("b")
    # The patient's right is to the left of the screen, and the front is up.
    step(page, Keys.ARROW_RIGHT, i - 8)
    step(page, Keys.ARROW_UP, 41 - j)
    page.press(Keys.ENTER)
    step(page, Keys.ARROW_LEFT, 32 - 8)
    step(page, Keys.ARROW_DOWN, 41 - 15)
    page.press(Keys.ENTER)
    (box,) = page.wait_for_prompts(1)
    assert (box["low"], box["high"]) == ([8, 15, k], [33, 42, k + 1])
    page.press("p", "t")
    step(page, Keys.ARROW_UP, 8)
    page.press(Keys.ENTER)
    prompts = page.wait_for_prompts(2)
    # A box leaves the cross in its middle: (20, 28).
    assert (prompts[1]["voxel"], prompts[1]["positive"]) == ([20, 36, k], False)
    page.press("t")
    result = page.result()
    assert np.array_equal(result, segment(scan, prompts))

    shown = page.labels()
    page.press("^s")
    tab_to(page, "Save")
    page.press(Keys.ENTER)
    wait_until(lambda: page.find_buttons("Done") or page.find_buttons("Replace"), "an answer")
    if page.find_buttons("Replace"):
        tab_to(page, "Replace")
        page.press(Keys.ENTER)
    wait_until(lambda: page.find_buttons("Done"), "the names of the files")
    files = page.saved_files()
    tab_to(page, "Done")
    page.press(Keys.ENTER)
    assert not page.find_buttons("Done")
    assert np.array_equal(read_labels(files[0].read_bytes()), shown)


@pytest.mark.slow
def test_corners_on_different_slices_make_a_box_in_3d(page: Page) -> None:
    i, j, k = page.cross
    page.press("b", Keys.ENTER)
    step(page, Keys.ARROW_UP, 6)
    step(page, Keys.ARROW_LEFT, 5)
    step(page, Keys.PAGE_UP, 3)
    page.press(Keys.ENTER)
    (box,) = page.wait_for_prompts(1)
    assert box["plane"] is None
    assert (box["low"], box["high"]) == ([i, j, k], [i + 6, j + 7, k + 4])


@pytest.mark.slow
def test_backspace_takes_a_corner_back(page: Page) -> None:
    i, j, k = page.cross
    page.press("s", Keys.ENTER)
    step(page, Keys.ARROW_UP, 4)
    page.press(Keys.ENTER, Keys.BACKSPACE)
    step(page, Keys.ARROW_LEFT, 4)
    page.press(Keys.ENTER, Keys.ENTER)
    (scribble,) = page.wait_for_prompts(1)
    assert scribble["index"] == k
    assert scribble["points"] == [[i, j], [i + 4, j + 4]]


@pytest.mark.slow
def test_x_takes_the_next_plane(page: Page) -> None:
    i, j, k = page.cross
    page.press("p", "x")
    # On the coronal plane, up is towards the head.
    step(page, Keys.ARROW_UP, 3)
    # Past the sagittal plane and the 3-D view, back to the axial one.
    page.press(Keys.PAGE_DOWN, "x", "x", "x", Keys.ENTER)
    (point,) = page.wait_for_prompts(1)
    assert point["voxel"] == [i, j - 1, k + 3]


@pytest.mark.slow
def test_the_focus_goes_on_to_the_next_prompt_once_one_is_removed(page: Page) -> None:
    page.click("axial", (20, 28))
    page.wait_for_prompts(1)
    page.click("axial", (22, 30))
    page.wait_for_prompts(2)
    wait_for_rows(page, 2)
    first, _ = page.browser.find_elements(By.CSS_SELECTOR, "#prompts button")
    page.browser.execute_script("arguments[0].focus()", first)
    page.press(Keys.ENTER)
    wait_for_rows(page, 1)
    second = page.browser.find_element(By.CSS_SELECTOR, "#prompts button")
    focused = page.browser.switch_to.active_element
    assert focused == second, focused.get_attribute("outerHTML")
    page.press(Keys.ENTER)
    wait_for_rows(page, 0)
    assert page.browser.switch_to.active_element.get_attribute("id") == "overlay"


@pytest.mark.slow
def test_plus_zooms_a_slice_around_the_crosshair_and_0_shows_all_of_it(page: Page) -> None:
    page.press("b")
    page.drag("axial", [(12, 18), (30, 40)])
    page.wait_for_prompts(1)

    def width() -> float:
        ink = page.browser.find_element(By.CSS_SELECTOR, "#overlay [data-plane=axial] .ink")
        return float(ink.rect["width"])

    before = width()
    page.press("+", "+")
    page.let_it_draw()
    assert width() == pytest.approx(1.25**2 * before, rel=0.02)
    page.press("0")
    page.let_it_draw()
    assert width() == pytest.approx(before, rel=0.001)


@pytest.mark.slow
def test_a_key_held_down_adds_one_target(page: Page) -> None:
    before = len(page.state["targets"])
    press = {"key": "a", "code": "KeyA", "text": "a", "windowsVirtualKeyCode": 65}
    for is_repeat in (False, True, True, True):
        down = {"type": "keyDown", "autoRepeat": is_repeat, **press}
        page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", down)
    page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **press})
    wait_until(lambda: len(page.state["targets"]) > before, "another target")
    page.let_it_draw()
    assert len(page.state["targets"]) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 600), (640, 450)])
def test_tab_and_arrows_bring_every_tool_into_sight(page: Page, size: tuple[int, int]) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        tools = page.browser.find_elements(By.CSS_SELECTOR, "#rail button")
        page.browser.execute_script("arguments[0].focus()", tools[0])
        for tool in tools:
            assert page.browser.switch_to.active_element == tool
            top, bottom = page.browser.execute_script(
                "const box = arguments[0].getBoundingClientRect(); return [box.top, box.bottom];",
                tool,
            )
            assert 0 <= top < bottom <= height
            page.press(Keys.ARROW_DOWN)
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def wait_for_rows(page: Page, number: int) -> None:
    """Waits until so many prompts are in the list."""
    rows = "#prompts .given"
    wait_until(
        lambda: len(page.browser.find_elements(By.CSS_SELECTOR, rows)) == number,
        f"{number} prompts in the list",
    )


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until the button of that name has the focus."""
    for _ in range(20):
        if page.browser.switch_to.active_element.text == name:
            return
        page.press(Keys.TAB)
    raise AssertionError(f"Tab does not come to {name}")

"""Whatever happens between the page and its server, nothing is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from benchmarks.browser.driver import Page, wait_until
from benchmarks.browser.server import AnnotateServer
from tests.page.replay import segment


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def own_server(scan: Path, home: Path) -> Iterator[AnnotateServer]:
    """A server that can be killed."""
    with AnnotateServer([scan], home) as started:
        yield started


@pytest.fixture
def own_page(browser: webdriver.Chrome, own_server: AnnotateServer) -> Iterator[Page]:
    page = Page(browser)
    page.open(own_server.url)
    page.find_voxels()
    page.press("p")
    yield page
    page.go_offline(False)


def shown_prompts(page: Page) -> int:
    """Returns how many prompts the list shows."""
    return len(page.browser.find_elements(By.CSS_SELECTOR, "#prompts > li"))


def test_a_click_without_a_connection_arrives_when_it_is_back(own_page: Page, scan: Path) -> None:
    page = own_page
    page.go_offline(True)
    page.click("axial", (20, 28))
    wait_until(lambda: "doesn't answer" in page.banner, "the page says that it is cut off")
    assert page.prompts == []
    assert shown_prompts(page) == 1
    page.go_offline(False)
    (prompt,) = page.wait_for_prompts(1)
    wait_until(lambda: page.banner == "", "the page says that it is connected")
    assert np.array_equal(page.result(), segment(scan, [prompt]))
    assert shown_prompts(page) == 1


@pytest.mark.slow
def test_a_killed_server_has_kept_the_work_for_the_next_one(
    own_page: Page, own_server: AnnotateServer, scan: Path, home: Path
) -> None:
    page = own_page
    page.click("axial", (20, 28))
    page.wait_for_prompts(1)
    page.click("axial", (34, 14))
    prompts = page.wait_for_prompts(2)
    result, target = page.result(), page.target
    wait_until(lambda: any(one.is_file() for one in home.rglob("*")), "a recovery file")
    time.sleep(2.0)  # It is written a second after the last change at the latest.
    own_server.kill()
    wait_until(lambda: "doesn't answer" in page.banner, "the page says that it is cut off")
    with AnnotateServer([scan], home, own_server.port) as again:
        wait_until(lambda: "earlier start" in page.banner, "the page says where to go on")
        page.browser.get(again.url)
        wait_until(lambda: page.find_buttons("Restore"), "what was not saved is offered")
        page.push("Restore")
        restored = page.wait_for_prompts(2)
        assert [without_id(one) for one in restored] == [without_id(one) for one in prompts]
        assert page.target["name"] == target["name"]
        assert np.array_equal(page.result(), result)
        page.press("p")
        page.click("axial", (15, 24))
        page.wait_for_prompts(3)


@pytest.mark.slow
def test_a_tab_closed_during_a_prediction_and_opened_again_has_it(
    own_page: Page, own_server: AnnotateServer, scan: Path
) -> None:
    page = own_page
    page.press("b")
    page.drag("axial", [(8, 15), (32, 41)])
    wait_until(lambda: page.prompts, "the server has the box")
    old = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    new = page.browser.current_window_handle
    page.browser.switch_to.window(old)
    page.browser.close()
    page.browser.switch_to.window(new)
    page.open(own_server.url)
    (box,) = page.wait_for_prompts(1)
    assert shown_prompts(page) == 1
    assert np.array_equal(page.result(), segment(scan, [box]))


@pytest.mark.slow
def test_two_tabs_show_the_same(own_page: Page, own_server: AnnotateServer) -> None:
    page = own_page
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    second = page.browser.current_window_handle
    try:
        page.open(own_server.url)
        page.press("p")
        page.click("axial", (20, 28))
        page.wait_for_prompts(1)
        page.browser.switch_to.window(first)
        wait_until(lambda: shown_prompts(page) == 1, "the first tab shows the second's prompt")
        page.press("^z")
        page.wait_for_prompts(0)
        page.browser.switch_to.window(second)
        wait_until(lambda: shown_prompts(page) == 0, "the second tab shows the first's undo")
        page.browser.close()
    finally:
        page.browser.switch_to.window(first)


def without_id(prompt: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in prompt.items() if key != "id"}

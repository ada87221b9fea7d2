"""What is asked, and what becomes of the answer."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from benchmarks.browser.driver import Page, wait_until
from benchmarks.browser.server import AnnotateServer

DROP = """
const dropped = new DataTransfer();
dropped.items.add(new File(["nothing"], "mask.nii.gz"));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true}));
"""


@pytest.fixture
def reconnected_page(page: Page) -> Iterator[Page]:
    """A page whose connection may be slowed down or cut: afterwards, it is as before."""
    yield page
    page.browser.set_network_conditions(offline=False, latency=0, throughput=-1)


def shown_text(page: Page) -> str:
    """Returns what the open dialog says; empty where none is open."""
    return " ".join(one.text for one in page.browser.find_elements(By.CSS_SELECTOR, "dialog[open]"))


def choose(page: Page, label: str) -> None:
    """Chooses a format by its label."""
    page.browser.find_element(By.XPATH, f"//dialog[@open]//label[contains(., '{label}')]").click()


def test_a_box_and_two_clicks_are_a_box_and_two_points(page: Page) -> None:
    page.press("b")
    page.drag("axial", [(8, 15), (32, 41)])
    page.click("axial", (20, 28))
    page.click("axial", (34, 14))
    assert [one["kind"] for one in page.wait_for_prompts(3)] == ["box", "point", "point"]


def test_each_format_says_what_its_file_will_be_called(page: Page, scan: Path) -> None:
    page.press("^s")
    assert f"Will be saved as {scan.parent}/scan_seg.nii.gz" in shown_text(page)
    choose(page, "Challenge")
    assert f"Will be saved as {scan.parent}/scan_seg.npz" in shown_text(page)
    page.press(Keys.ESCAPE)


def test_what_a_file_leaves_out_is_said_when_it_is_saved(page: Page) -> None:
    page.click("axial", (20, 28))
    page.press("s")
    page.drag("axial", [(14, 20), (20, 28), (26, 30)])
    page.wait_for_prompts(2)
    page.press("^s")
    choose(page, "Challenge")
    page.push("Save")
    wait_until(lambda: page.find_buttons("Done") or page.find_buttons("Replace"), "an answer")
    if page.find_buttons("Replace"):
        page.push("Replace")
        wait_until(lambda: page.find_buttons("Done"), "the names of the files")
    # A case of the challenge knows no scribbles; other tests' targets may have some, too.
    assert "left out: the file holds points" in shown_text(page)
    page.push("Done")


def test_a_download_from_a_server_that_is_gone_says_so(reconnected_page: Page) -> None:
    page = reconnected_page
    page.press("^s")
    page.go_offline(True)
    page.push("Download")
    toasts = page.browser.find_element(By.ID, "toasts")
    wait_until(lambda: "Downloading may not have been done" in toasts.text, "what failed")
    assert not shown_text(page)


def test_a_file_in_the_way_is_asked_about_though_the_dialog_was_closed(
    reconnected_page: Page, scan: Path
) -> None:
    page = reconnected_page
    (scan.parent / "scan_seg.prompts.json").write_text("{}")
    page.click("axial", (20, 28))
    page.wait_for_prompts(1)
    page.press("^s")
    choose(page, "Prompts")
    page.browser.set_network_conditions(offline=False, latency=1500, throughput=-1)
    page.push("Save")
    page.press(Keys.ESCAPE)
    assert not shown_text(page)
    wait_until(lambda: page.find_buttons("Replace"), "the question")
    page.press(Keys.ESCAPE)


@pytest.mark.slow
def test_a_file_dropped_on_the_question_what_to_restore_discards_nothing(
    browser: webdriver.Chrome, scan: Path, tmp_path: Path
) -> None:
    page, home = Page(browser), tmp_path / "home"
    with AnnotateServer([scan], home) as server:
        page.open(server.url)
        page.find_voxels()
        page.press("p")
        page.click("axial", (20, 28))
        page.wait_for_prompts(1)
        wait_until(lambda: any(one.is_file() for one in home.rglob("*")), "a recovery file")
        time.sleep(2.0)  # It is written a second after the last change at the latest.
    # The page that still looks for its server must not answer.
    browser.get("about:blank")
    with AnnotateServer([scan], home) as server:
        page.open(server.url)
        wait_until(lambda: page.find_buttons("Restore"), "what was not saved is offered")
        browser.execute_script(DROP)
        page.push("Discard")
        wait_until(lambda: page.find_buttons("Discard for good"), "it is asked again")
        page.push("Back")
        wait_until(lambda: page.find_buttons("Restore"), "it is offered again")
        page.push("Restore")
        page.wait_for_prompts(1)

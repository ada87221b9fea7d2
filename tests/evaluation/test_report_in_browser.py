"""The report as a reader uses it, in headless Chromium."""

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from evaluation.report import write_report
from tests.evaluation.example import make_record, write_drawn_team, write_team

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "needs chromium and chromedriver (apt install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver's path is given, or selenium would look for one in the network.
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Writes a report of two teams; returns its address."""
    folder = tmp_path_factory.mktemp("report")
    one = write_drawn_team(folder / "one", ["CT_drawn.npz", "MR_drawn.npz"], folder / "cases")
    finals = {
        "CT_a": 0.5,
        "MR_with_a_name_that_is_longer_than_a_telephone_is_wide": 0.9,
        "US_c": 0.1,
    }
    records = [make_record(f"{name}.npz", (dsc,) * 6) for name, dsc in finals.items()]
    records.append(make_record("US_none.npz", (0.0,) * 6, output="none"))
    two = write_team(folder / "two", records, method="command:" + "long" * 40)
    write_report([one, two], folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser: webdriver.Chrome, report: str) -> webdriver.Chrome:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    log(browser, "performance")
    log(browser, "browser")
    browser.get(report)
    return browser


def log(page: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    """Returns what was logged since the last call."""
    return list(page.get_log(kind))  # type: ignore[no-untyped-call]


def rows(page: webdriver.Chrome) -> list[list[str]]:
    """Returns the cells' texts of the table of cases, as far as its rows are shown."""
    found = page.find_elements(By.CSS_SELECTOR, "#case-table tbody tr")
    return [
        [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in found
        if row.is_displayed()
    ]


def header(page: webdriver.Chrome, title: str) -> WebElement:
    return page.find_element(By.XPATH, f"//table[@id='case-table']//button[text()='{title}']")


def test_it_opens_without_errors_and_without_the_network(page: webdriver.Chrome) -> None:
    messages = [json.loads(one["message"])["message"] for one in log(page, "performance")]
    requests = [
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
    ]
    assert log(page, "browser") == []
    assert page.current_url in requests
    assert {url for url in requests if not url.startswith("data:")} == {page.current_url}


def test_its_pictures_load(page: webdriver.Chrome) -> None:
    widths = page.execute_script(
        "return Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    )
    # Two cases of six runs, three planes of two images.
    assert len(widths) == 2 * 6 * 3 * 2
    assert min(widths) > 0


def test_a_header_sorts_up_and_then_down(page: webdriver.Chrome) -> None:
    header(page, "DSC Final").click()
    rising = [float(row[6]) for row in rows(page)]
    header(page, "DSC Final").click()
    falling = [float(row[6]) for row in rows(page)]
    assert rising == sorted(rising)
    assert falling == rising[::-1]
    assert rising[0] != rising[-1]


def test_a_header_sorts_names_by_the_keyboard(page: webdriver.Chrome) -> None:
    # From the order of teams to that of names.
    before = [row[0] for row in rows(page)]
    header(page, "Case").send_keys(Keys.ENTER)
    after = [row[0] for row in rows(page)]
    assert before != after
    assert after[:3] == ["CT_a", "CT_drawn", "MR_drawn"]
    column = header(page, "Case").find_element(By.XPATH, "./..")
    assert column.get_attribute("aria-sort") == "ascending"


def test_text_and_modality_filter_rows(page: webdriver.Chrome) -> None:
    Select(page.find_element(By.ID, "filter-modality")).select_by_visible_text("US")
    assert [row[0] for row in rows(page)] == ["US_c", "US_none"]
    page.find_element(By.ID, "filter-text").send_keys("NO PREDICTION")
    assert [row[0] for row in rows(page)] == ["US_none"]
    assert page.find_element(By.ID, "filter-count").text == "1 of 6"


def shown_picture(article: WebElement) -> str:
    images = article.find_elements(By.CSS_SELECTOR, ".step:not([hidden]) img.overlay")
    assert [image.is_displayed() for image in images] == [True] * 3
    return str(images[0].get_attribute("src"))


def test_a_button_for_each_run_shows_its_pictures(page: webdriver.Chrome) -> None:
    article = page.find_element(By.CSS_SELECTOR, "[data-name='CT_drawn']")
    buttons = article.find_elements(By.CSS_SELECTOR, ".steps label")
    assert [button.text for button in buttons] == ["Box", "1", "2", "3", "4", "5"]
    last = shown_picture(article)
    buttons[0].click()
    assert shown_picture(article) != last
    assert "From the box" in article.text
    # The other case stays as it was.
    other = page.find_element(By.CSS_SELECTOR, "[data-name='MR_drawn']")
    assert "After click 5" in other.text


def test_arrow_keys_move_from_run_to_run(page: webdriver.Chrome) -> None:
    article = page.find_element(By.CSS_SELECTOR, "[data-name='CT_drawn']")
    article.find_elements(By.CSS_SELECTOR, ".steps input")[5].send_keys(Keys.ARROW_LEFT)
    assert "After click 4" in article.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page_in_light_and_dark(
    page: webdriver.Chrome, scheme: str
) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    style = "const style = getComputedStyle(document.body); return style."
    text, ground = (
        sum(int(part) for part in page.execute_script(style + name)[4:-1].split(","))
        for name in ("color", "backgroundColor")
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    # Sums of red, green and blue, 0..765.
    assert (ground - text > 500) if scheme == "light" else (text - ground > 500)


def test_nothing_is_wider_than_a_telephone(page: webdriver.Chrome) -> None:
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert page.execute_script("return innerWidth") == 390
    assert page.execute_script("return document.documentElement.scrollWidth") == 390
    outside = page.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll table')"
        " && e.getBoundingClientRect().right > 390).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []

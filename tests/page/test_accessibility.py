"""What Lighthouse, and axe in it, find wrong for users who see, hear or move otherwise."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from benchmarks.browser.browsers import FLAGS
from benchmarks.browser.driver import Page, wait_until
from benchmarks.browser.server import AnnotateServer

PACKAGES = Path(__file__).parent / "node_modules"
"""What `make test-page` fetches."""

AXE = """
const done = arguments[arguments.length - 1];
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
axe.run(document, {runOnly: tags}).then(({violations}) => done(violations));
"""


def package_file(path: str) -> Path:
    """Returns a file of what is fetched; skips the test where it isn't, but on CI."""
    file = PACKAGES / path
    if not file.exists():
        reason = "needs npm's packages for the tests: make test-page"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return file


@pytest.mark.parametrize("form", ["desktop", pytest.param("mobile", marks=pytest.mark.slow)])
def test_lighthouse_gives_the_page_95_or_more(
    server: AnnotateServer, tmp_path: Path, form: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    node = shutil.which("node")
    assert node is not None, "needs Node"
    report = tmp_path / "report.json"
    size = ["--preset=desktop"] if form == "desktop" else []
    subprocess.run(
        [
            *(node, str(package_file("lighthouse/cli/index.js")), server.url, "--quiet", *size),
            *("--only-categories=accessibility", "--output=json", f"--output-path={report}"),
            f"--chrome-flags={' '.join(FLAGS)} --user-data-dir={tmp_path / 'profile'}",
        ],
        check=True,
        timeout=180,
        env=os.environ | {"CHROME_PATH": chromium or ""},
    )
    found = json.loads(report.read_text())
    assert found["finalDisplayedUrl"].endswith("/annotate/")  # and not the page of an error
    failed = [
        f"{one['title']}: {[item['node']['snippet'] for item in one['details']['items']]}"
        for one in found["audits"].values()
        if one["score"] is not None and one["score"] < 1
    ]
    assert found["categories"]["accessibility"]["score"] >= 0.95, failed


def show_nothing_more(page: Page) -> None:
    """Leaves the page as it opens."""


def show_a_result(page: Page) -> None:
    page.press("b")
    page.drag("axial", [(12, 18), (30, 40)])
    page.wait_for_prompts(1)


def show_help(page: Page) -> None:
    page.press("?")
    wait_until(lambda: page.find_buttons("Close"), "the help")


def show_save(page: Page) -> None:
    show_a_result(page)
    page.press("^s")
    wait_until(lambda: page.find_buttons("Save"), "the dialog that saves")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("show", [show_nothing_more, show_a_result, show_help, show_save])
def test_axe_finds_nothing_wrong(page: Page, show: Callable[[Page], None], theme: str) -> None:
    if theme == "light":
        page.browser.find_element(By.ID, "theme").click()
    show(page)
    page.browser.execute_script(package_file("axe-core/axe.min.js").read_text("utf-8"))
    found: list[dict[str, Any]] = page.browser.execute_async_script(AXE)
    page.press("\ue00c")  # Escape closes the dialog
    if theme == "light":
        page.browser.find_element(By.ID, "theme").click()
    assert [f"{one['help']}: {[node['html'] for node in one['nodes']]}" for one in found] == []

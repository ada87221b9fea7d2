from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.page.browsers import open_browser
from tests.page.driver import Page
from tests.page.scans import draw_scan
from tests.page.server import AnnotateServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder: they need the built page and a browser."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.page)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scans") / "scan.nii.gz"
    draw_scan(path)
    return path


@pytest.fixture(scope="module")
def server(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnnotateServer]:
    with AnnotateServer([scan], tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture(scope="module")
def found(browser: webdriver.Chrome, server: AnnotateServer) -> Page:
    """Opens the page, and finds the scan's voxels on the screen."""
    page = Page(browser)
    # A page of another file's server, which has gone, would still look for it.
    browser.get("about:blank")
    page.forget_logs()
    page.open(server.url)
    page.find_voxels()
    return page


@pytest.fixture
def page(found: Page, server: AnnotateServer) -> Page:
    """Begins anew: an empty target, the tool for points, and the slices of the beginning."""
    found.ask("targets", {})
    found.open(server.url)
    found.press("p")
    return found

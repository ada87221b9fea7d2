"""Headless Chromium, which draws by software."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1280,900",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def open_browser(folder: Path) -> Iterator[webdriver.Chrome]:
    """Opens a browser that keeps its profile in a folder.

    Raises:
        FileNotFoundError: there is none on this machine.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise FileNotFoundError(
            "needs chromium and chromedriver (apt install chromium chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver's path is given, or selenium would look for one in the network.
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_script_timeout(60)
    try:
        yield browser
    finally:
        browser.quit()

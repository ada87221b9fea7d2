"""A page of the viewer alone."""

import io
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from selenium import webdriver

from gamt.server.annotate.gate import CONTENT_SECURITY_POLICY

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "src" / "gamt" / "server" / "page"

HTML = """<!doctype html><title>Viewer</title><link rel="stylesheet" href="style.css">
<link rel="icon" href="data:,"><main><canvas></canvas></main>
<script type="module" src="main.js"></script>"""
STYLE = """body { margin: 0 } main { position: relative; width: 800px; height: 600px }
canvas { display: block; width: 100%; height: 100% }"""


class ViewerPage:
    """The viewer in a browser.

    Args:
        driver: The browser.
        url: Address of a server, with a slash at the end, which sends `volume`.
        sent: What that server sends: path without the slash to type and body. Can be changed.
    """

    def __init__(
        self, driver: webdriver.Chrome, url: str, sent: dict[str, tuple[str, bytes]]
    ) -> None:
        self.driver = driver
        self.sent = sent
        self.url = url

    def begin(self, device_pixel_ratio: float = 1) -> None:
        """Opens the page anew, with a viewer in it."""
        size = {"width": 900, "height": 700, "mobile": False}
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": device_pixel_ratio}
        )
        self.errors()
        self.driver.get(self.url)
        self.run("begin()")

    def load(
        self,
        array: np.ndarray[Any, Any],
        spacing_mm: tuple[float, float, float] = (1, 1, 1),
        window: tuple[float, float] = (500, 1000),
    ) -> None:
        """Shows an array [i, j, k] in a window of level and width, and waits for the picture."""
        image = nib.nifti1.Nifti1Image(array, np.diag([*spacing_mm, 1]))  # type: ignore[no-untyped-call]
        self.sent["volume"] = ("application/octet-stream", image.to_bytes())
        scan = {
            "name": "scan.nii",
            "shape": array.shape,
            "spacing_mm": spacing_mm,
            "window": {"level": window[0], "width": window[1]},
        }
        self.run("return viewer.load('volume', arguments[0])", scan)
        self.wait_for_frame()

    def patch(self, low: tuple[int, int, int], labels: np.ndarray[Any, Any]) -> None:
        """Changes the labels [i, j, k] from `low` on."""
        self.run("viewer.applyPatch(" + _PATCH + ")", *self._patch(low, labels))
        self.wait_for_frame()

    def show_disagreement(self, low: tuple[int, int, int], values: np.ndarray[Any, Any]) -> None:
        """Lays values [i, j, k] from 0 to 255 over the slices from `low` on."""
        self.run("viewer.showDisagreement(" + _PATCH + ")", *self._patch(low, values))
        self.wait_for_frame()

    def _patch(self, low: tuple[int, int, int], labels: np.ndarray[Any, Any]) -> list[Any]:
        high = [start + size for start, size in zip(low, labels.shape, strict=True)]
        return [low, high, labels.ravel(order="F").tolist()]

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs JavaScript, and returns what it returns, awaited."""
        return self.driver.execute_script(script, *arguments)

    def wait_for_frame(self) -> None:
        """Waits until what was changed is on the screen."""
        self.run("return new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def picture(self) -> np.ndarray[Any, Any]:
        """The screen, (height, width, 3) in device pixels, 0 to 255."""
        picture = Image.open(io.BytesIO(self.driver.get_screenshot_as_png()))
        return np.asarray(picture.convert("RGB"))

    def wait_until(
        self, is_reached: Callable[[np.ndarray[Any, Any]], bool], seconds: float = 30
    ) -> bool:
        """Looks at the screen until a condition holds; returns whether it came to hold."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if is_reached(self.picture()):
                return True
            time.sleep(0.2)
        return False

    def errors(self) -> list[str]:
        """What the browser has complained about since `begin`, such as breaches of the policy."""
        log = cast("list[dict[str, Any]]", self.driver.get_log("browser"))  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]


_PATCH = "{low: arguments[0], high: arguments[1], labels: Uint8Array.from(arguments[2])}"


@contextmanager
def viewer_page(browser: webdriver.Chrome, folder: Path) -> Iterator[ViewerPage]:
    """Builds the page, and serves it to a browser; skips without the page's packages."""
    esbuild = PAGE / "node_modules" / ".bin" / "esbuild"
    if not esbuild.exists():
        pytest.skip("needs the page's packages: make page")
    script = folder / "main.js"
    source = Path(__file__).with_name("viewing.ts")
    options = ["--bundle", "--format=esm", "--log-level=error", f"--outfile={script}"]
    subprocess.run([esbuild, source, *options], check=True)
    sent = {
        "": ("text/html", HTML.encode()),
        "style.css": ("text/css", STYLE.encode()),
        "main.js": ("text/javascript", script.read_bytes()),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = sent.get(self.path[1:], ("text/plain", b""))
            self.send_response(200 if self.path[1:] in sent else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Keeps quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ViewerPage(browser, f"http://127.0.0.1:{server.server_port}/", sent)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        server.shutdown()
        server.server_close()

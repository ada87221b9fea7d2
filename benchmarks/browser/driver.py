"""The page of `gamt annotate` in the hands of a user with a mouse and a keyboard."""

import gzip
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.mouse_button import MouseButton
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from benchmarks.browser.scans import BRIGHTNESS, MARKERS, Point

PATIENCE_SECONDS = 30.0

REACH = 30
"""A marker and its rim, in pixels around its middle."""

TILE = """
const tile = document.querySelector(`#overlay .tile[data-plane="${arguments[0]}"]`);
const {left, top} = document.querySelector('#overlay').getBoundingClientRect();
const [x, y, width, height] = ['x', 'y', 'width', 'height'].map((n) => +tile.getAttribute(n));
return [left + x, top + y, width, height];
"""

TWO_FRAMES = """
const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)));
"""

IS_SETTLED = """
return document.querySelector('#loading').hidden
    && document.querySelectorAll('#prompts .waiting').length === 0;
"""


def wait_until(is_so: Callable[[], object], what: str) -> None:
    """Waits for something; fails with its name where it does not come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Slice:
    """Where the voxels of a plane's tile are on the screen, as its markers show.

    Attributes:
        matrix: (2, 3), takes (a, b, 1), voxels along the plane's two axes, to pixels (x, y).
    """

    matrix: npt.NDArray[np.float64]

    def pixel(self, point: Point) -> tuple[int, int]:
        """Returns the pixel in the middle of a voxel."""
        x, y = self.matrix @ (*point, 1)
        return round(x), round(y)


class Page:
    """The page in one tab of a browser.

    Attributes:
        browser: it.
        slices: by plane, once `find_voxels` has been called.
    """

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser
        self.slices: Mapping[str, Slice] = {}

    def open(self, url: str) -> None:
        """Opens an address, and waits for the scan's picture."""
        self.browser.get(url)
        self.wait_for_scan()

    def wait_for_scan(self) -> None:
        """Waits until the scan is on the screen."""
        wait_until(
            lambda: (
                self.browser.find_elements(By.CSS_SELECTOR, "#overlay .tile") and self.is_idle()
            ),
            "a picture of the scan",
        )
        self.let_it_draw()

    def wait_for_scan_named(self, name: str) -> None:
        """Waits until a scan of that name is on the screen."""
        wait_until(lambda: self.state["scan"]["name"] in name, f"the scan {name}")
        self.wait_for_scan()

    def let_it_draw(self) -> None:
        """Waits until the page has drawn what it was told before."""
        self.browser.execute_async_script(TWO_FRAMES)

    # What is there

    def ask(self, path: str, body: object = None) -> Any:
        """Asks the server what the page may ask; returns the answer's JSON."""
        return self._fetch("GET" if body is None else "POST", path, json=body).json()

    def _fetch(self, method: str, path: str, **what: Any) -> httpx.Response:
        """Asks the server as the page does, but past the browser."""
        cookies = {one["name"]: one["value"] for one in self.browser.get_cookies()}
        url = f"http://127.0.0.1:{self.port}/annotate/api/{path}"
        answer = httpx.request(method, url, cookies=cookies, timeout=PATIENCE_SECONDS, **what)
        return answer.raise_for_status()

    @property
    def port(self) -> int:
        """Of its server."""
        return urlsplit(self.browser.current_url).port or 0

    @property
    def state(self) -> Any:
        """What the server tells the page (`State` in types.ts)."""
        return self.ask("state")

    @property
    def target(self) -> Any:
        """The current target."""
        state = self.state
        return next(one for one in state["targets"] if one["id"] == state["target"])

    @property
    def prompts(self) -> list[Any]:
        """Those of the current target."""
        return list(self.target["prompts"])

    @property
    def cross(self) -> list[int]:
        """The voxel [i, j, k] where the planes meet."""
        to_file = np.vstack([self.state["scan"]["file_voxel"], (0, 0, 0, 1)])
        found = np.linalg.solve(to_file, [*self.place, 1])
        return [round(n) for n in found[:3].tolist()]

    @property
    def place(self) -> list[int]:
        """The voxel of the scan's file where the planes meet, as the page says it."""
        return [int(n) for n in self.browser.find_element(By.ID, "place").text.split(",")]

    @property
    def banner(self) -> str:
        """What the page says of its server; empty where all is well."""
        return self.browser.find_element(By.ID, "banner").text

    def go_offline(self, offline: bool) -> None:
        """Cuts the browser off from all servers, or connects it again."""
        self.browser.set_network_conditions(offline=offline, latency=0, throughput=-1)

    def is_idle(self) -> bool:
        """Whether the page has the answer to all that it sent."""
        return bool(self.browser.execute_script(IS_SETTLED)) and self.state["busy"] is None

    def wait_for_prompts(self, number: int) -> list[Any]:
        """Waits until the current target has so many prompts, all predicted from; returns them."""
        wait_until(lambda: len(self.prompts) == number and self.is_idle(), f"{number} prompts")
        self.let_it_draw()
        return self.prompts

    def result(self) -> npt.NDArray[np.bool_]:
        """Returns the current target's voxels, (i, j, k) towards right, front and head."""
        mine: npt.NDArray[np.bool_] = self.labels() == self.state["target"]
        return mine

    def labels(self) -> npt.NDArray[np.uint8]:
        """Returns all targets as they would be saved, (i, j, k) towards right, front and head."""
        return read_labels(self._fetch("GET", "download?format=nifti").content)

    def forget_logs(self) -> None:
        """Forgets the errors and requests so far."""
        self.errors()
        self.requests()

    def errors(self) -> list[str]:
        """Returns what the console has said since the last call."""
        return [one["message"] for one in self.browser.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """Returns the addresses that were asked for since the last call."""
        log = self.browser.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(one["message"])["message"] for one in log]
        return [
            one["params"]["request"]["url"]
            for one in messages
            if one["method"] == "Network.requestWillBeSent"
        ]

    # Where voxels are

    def screenshot(self) -> npt.NDArray[np.int16]:
        """Returns what is seen: (rows, columns, 3), red, green and blue from 0 to 255."""
        self.let_it_draw()
        picture = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        pixels: npt.NDArray[np.int16] = np.asarray(picture).astype(np.int16)
        return pixels

    def greys(self) -> npt.NDArray[np.int16]:
        """Returns how bright each pixel is, (rows, columns), 0 to 255."""
        levels: npt.NDArray[np.int16] = self.screenshot().min(2)
        return levels

    def colours(self) -> npt.NDArray[np.int16]:
        """Returns how far each pixel is from grey, (rows, columns), 0 to 255."""
        distances: npt.NDArray[np.int16] = np.ptp(self.screenshot(), 2)
        return distances

    def set_window(self, level: float, width: float) -> None:
        """Types a window of intensities, and leaves the fields."""
        for name, value in (("level", level), ("width", width)):
            field = self.browser.find_element(By.ID, name)
            field.send_keys(Keys.CONTROL, "a")
            field.send_keys(f"{value}", Keys.ENTER)
        self.browser.execute_script("document.activeElement.blur()")

    def find_voxels(self) -> None:
        """Finds the markers on the screen; the slices shown must be those at first."""
        self.set_window(10000, 10)
        seen = self.greys()
        found: dict[str, list[Point]] = {plane: [] for plane in MARKERS}
        for brightness in BRIGHTNESS:
            self.set_window(brightness * 0.55, 10)
            lit = self.greys() - seen > 100
            for plane, places in found.items():
                x, y, width, height = (round(n) for n in self.browser.execute_script(TILE, plane))
                rows, columns = np.nonzero(lit[y : y + height, x : x + width])
                assert len(rows), f"found no marker of {brightness} on the {plane} slice"
                assert max(np.ptp(rows), np.ptp(columns)) < REACH, f"found several on {plane}"
                # Centres of pixels are half a pixel from their corners.
                across, down = x + columns.mean() + 0.5, y + rows.mean() + 0.5
                places.append((across, down))
                # Its rim is lit as well when darker ones are.
                top, left = round(down) - REACH, round(across) - REACH
                seen[top : top + 2 * REACH, left : left + 2 * REACH] = 255
        self.slices = {plane: _solve(MARKERS[plane], places) for plane, places in found.items()}

    # What a user does

    def press(self, *keys: str) -> None:
        """Presses keys one after the other on what has the focus; "^z" is Ctrl and Z."""
        chain = ActionChains(self.browser)
        for key in keys:
            if len(key) == 2 and key[0] == "^":
                chain.key_down(Keys.CONTROL).send_keys(key[1]).key_up(Keys.CONTROL)
            else:
                chain.send_keys(key)
        chain.perform()

    def click(self, plane: str, point: Point, button: int = MouseButton.LEFT) -> None:
        """Clicks on a voxel of a plane's slice."""
        self.drag(plane, [point], button)

    def drag(
        self,
        plane: str,
        points: Sequence[Point],
        button: int = MouseButton.LEFT,
        scroll: int = 0,
    ) -> None:
        """Presses a button on the first voxel, moves over all, and lets it go on the last.

        Args:
            plane: of the slice.
            points: voxels along the plane's two axes.
            button: to press.
            scroll: slices to scroll by before the button is let go.
        """
        actions = ActionBuilder(self.browser, duration=30)
        mouse, wheel = untyped(actions.pointer_action), untyped(actions.wheel_action)
        first, *others = (self.slices[plane].pixel(point) for point in points)
        mouse.move_to_location(*first).pointer_down(button)
        for other in others:
            mouse.move_to_location(*other)
        # All devices take the same number of steps.
        for _ in range(len(others) + 2):
            wheel.pause(0)
        for _ in range(abs(scroll)):
            x, y = self.slices[plane].pixel(points[-1])
            wheel.scroll(x, y, 0, -100 if scroll > 0 else 100)
            mouse.pause(0)
        mouse.pointer_up(button)
        actions.perform()

    def scroll(self, plane: str, point: Point, slices: int) -> None:
        """Turns the wheel over a voxel, away from the user for more than 0."""
        self.hover(plane, point)
        actions = ActionBuilder(self.browser)
        x, y = self.slices[plane].pixel(point)
        for _ in range(abs(slices)):
            untyped(actions.wheel_action).scroll(x, y, 0, -100 if slices > 0 else 100)
        actions.perform()
        self.let_it_draw()

    def save(self) -> list[Path]:
        """Saves by the dialog, over what is there; returns the files that it names."""
        self.press("^s")
        self.push("Save")
        wait_until(lambda: self.find_buttons("Done") or self.find_buttons("Replace"), "an answer")
        if self.find_buttons("Replace"):
            self.push("Replace")
        wait_until(lambda: self.find_buttons("Done"), "the names of the files")
        files = self.saved_files()
        self.push("Done")
        return files

    def saved_files(self) -> list[Path]:
        """Returns the files that the open dialog says were saved."""
        names = self.browser.find_elements(By.CSS_SELECTOR, "dialog[open] .files code")
        return [Path(one.text) for one in names]

    def find_buttons(self, name: str) -> list[WebElement]:
        """Returns the buttons of that name in the open dialog."""
        # In one question: between two, the page may replace them.
        find = f"//dialog[@open]//button[normalize-space() = '{name}']"
        return self.browser.find_elements(By.XPATH, find)

    def push(self, name: str) -> None:
        """Pushes the one button of a name."""
        (button,) = self.find_buttons(name)
        button.click()

    def touch(self, *ways: Sequence[tuple[int, int]]) -> None:
        """Touches the screen with a finger for each way, and lifts all of them at their ends.

        Args:
            ways: the pixels that each finger moves over, as many for each.
        """
        for number, places in enumerate(zip(*ways, strict=True)):
            points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(places)]
            self._send_touch("touchMove" if number else "touchStart", points)
        self._send_touch("touchEnd", [])

    def _send_touch(self, kind: str, points: list[dict[str, int]]) -> None:
        what = {"type": kind, "touchPoints": points}
        self.browser.execute_cdp_cmd("Input.dispatchTouchEvent", what)

    def find_marks(self, plane: str) -> list[WebElement]:
        """Returns the points that are drawn on a plane's slice."""
        find = f"#overlay .tile[data-plane={plane}] .point"
        return self.browser.find_elements(By.CSS_SELECTOR, find)

    def hover(self, plane: str, point: Point) -> None:
        """Moves the mouse to a place in a plane, in voxels."""
        actions = ActionBuilder(self.browser, duration=30)
        untyped(actions.pointer_action).move_to_location(*self.slices[plane].pixel(point))
        actions.perform()


def untyped(device: object) -> Any:
    """Returns one of selenium's devices, most methods of which have no types."""
    return device


def read_labels(content: bytes) -> npt.NDArray[np.uint8]:
    """Returns a NIfTI file's labels as (i, j, k) towards right, front and head."""
    opener = nib.Nifti1Image.from_stream
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    image = nib.as_closest_canonical(opener(io.BytesIO(content)))  # type: ignore[no-untyped-call]
    return np.asarray(image.dataobj).astype(np.uint8)


def _solve(points: Sequence[Point], pixels: Sequence[Point]) -> Slice:
    """Returns the affine map that takes three points to three pixels."""
    system = np.array([(*point, 1) for point in points])
    return Slice(np.linalg.solve(system, np.array(pixels)).T)

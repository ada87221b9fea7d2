"""Measures how fast `gamt annotate`'s page is, in a browser without a graphics processor.

    make page && python -m benchmarks.page

Headless Chromium, which computes WebGL on the processor, opens the page with a drawn CT: one of 256
voxels along each axis, for the seconds from the start of `gamt annotate` to the first picture, and
one of 300 x 512 x 512 for the rest. There it turns the wheel over a slice, alone and with Ctrl, for
the time from one frame to the next while slices change and while they are enlarged; clicks, for the
time from the server's answer until the mask is drawn, and takes that back and does it again; and
adds up the memory of the browser's processes. Prints every bar with the figure measured beside it;
the exit code is 1 where one is missed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.progress import track
from selenium import webdriver
from selenium.webdriver.common.actions.action_builder import ActionBuilder

from benchmarks.bench import Bar, print_bars
from benchmarks.browser.browsers import open_browser
from benchmarks.browser.driver import TILE, Page, wait_until
from benchmarks.browser.server import AnnotateServer
from benchmarks.interaction import LOBES, SPACING_MM, at_most, describe_machine, draw_scan

START_SECONDS = 3.0
"""Most seconds from the start of `gamt annotate` to the first picture, of 256 voxels per axis."""

MASK_SECONDS = 0.15
"""Most seconds from the server's answer until the mask is drawn, the median."""

BROWSER_GB = 2.0
"""Most memory of all of the browser's processes, in 1e9 bytes."""

STARTS, FRAMES, MASKS = 3, 60, 5
"""So many of each are measured."""

WATCH = """
window.drawn = [];
window.filled = [];
const prototype = WebGL2RenderingContext.prototype;
const {drawArrays, texSubImage3D} = prototype;
const pixel = new Uint8Array(4);
let isDrawing = false;
prototype.drawArrays = function (...parameters) {
  drawArrays.apply(this, parameters);
  if (this.canvas.id !== "canvas" || isDrawing) return;
  isDrawing = true;
  // Once all slices are on their way: reading a pixel waits for them.
  queueMicrotask(() => {
    isDrawing = false;
    this.readPixels(0, 0, 1, 1, this.RGBA, this.UNSIGNED_BYTE, pixel);
    drawn.push(performance.now());
  });
};
prototype.texSubImage3D = function (...parameters) {
  texSubImage3D.apply(this, parameters);
  if (this.canvas.id === "canvas") filled.push(performance.now());
};
"""
"""Notes when the slices were drawn, and when voxels went to the graphics side, in milliseconds."""

TURN = """
const [count, ctrlKey, done] = arguments;
const overlay = document.querySelector("#overlay");
const {x, y, width, height} = overlay.getBoundingClientRect();
const place = {clientX: x + width / 4, clientY: y + height / 4, bubbles: true, ctrlKey};
drawn.length = 0;
let turn = 0;
requestAnimationFrame(function next() {
  if (turn === count) return done(drawn);
  turn += 1;
  const deltaY = turn % 20 < 10 ? 100 : -100;
  overlay.dispatchEvent(new WheelEvent("wheel", {...place, deltaY}));
  requestAnimationFrame(next);
});
"""
"""Turns the wheel in every frame, over the upper left slice; returns when frames were drawn."""

ANSWER = """
const path = /(prompts|undo|redo)$/;
const answers = performance.getEntriesByType("resource").filter((one) => path.test(one.name));
if (answers.length <= arguments[0]) return null;
const {responseEnd} = answers[arguments[0]];
const uploaded = filled.find((at) => at > responseEnd);
const shown = drawn.find((at) => at > uploaded);
return shown === undefined ? null : shown - responseEnd;
"""
"""Returns the milliseconds from an answer until its mask was drawn; null before."""


@dataclass(frozen=True, slots=True)
class PageRun:
    """What a user waits for, at a scan of 300 x 512 x 512 voxels.

    Attributes:
        scrolling: milliseconds from one frame to the next, of every frame.
        enlarging: likewise.
        masks: seconds from the server's answer until the mask is drawn, of a click, and of taking
            it back and doing it again.
        browser_gb: 1e9 bytes of all of the browser's processes, at the end.
    """

    scrolling: list[float]
    enlarging: list[float]
    masks: list[float]
    browser_gb: float


def write_scan(array: npt.NDArray[np.int16], path: Path) -> None:
    """Writes an array (z, y, x) towards head, back and left."""
    affine = np.diag([*(-SPACING_MM[axis] for axis in (2, 1)), SPACING_MM[0], 1])
    nib.save(nib.Nifti1Image(array.T, affine), path)  # type: ignore[no-untyped-call]


def measure_start(browser: webdriver.Chrome, scan: Path, home: Path) -> float:
    """Returns the seconds from the start of `gamt annotate` until its picture is on the screen."""
    start = time.time()
    with AnnotateServer([scan], home) as server:
        browser.get(server.url)
        while not (drawn := browser.execute_script(FIRST)):
            time.sleep(0.05)
    return float(drawn) / 1000 - start


FIRST = "return drawn.length ? performance.timeOrigin + drawn[0] : 0"
"""Returns when the first picture was drawn, in milliseconds since 1970; 0 before."""


def measure_page(browser: webdriver.Chrome, scan: Path, home: Path) -> PageRun:
    """Measures what a user waits for."""
    with AnnotateServer([scan], home) as server:
        page = Page(browser)
        page.open(server.url)
        scrolling = measure_frames(browser, is_ctrl=False)
        page.press("p")
        click_body(page)
        masks = [measure_mask(page, 0)]
        # The whole body comes and goes, as much as any click changes.
        for number in range(1, MASKS):
            page.press("^y" if number % 2 == 0 else "^z")
            masks.append(measure_mask(page, number))
        enlarging = measure_frames(browser, is_ctrl=True)
        return PageRun(scrolling, enlarging, masks, memory_of(browser) / 1e9)


def measure_frames(browser: webdriver.Chrome, is_ctrl: bool) -> list[float]:
    """Returns the milliseconds from one frame to the next while the wheel turns."""
    drawn: list[float] = browser.execute_async_script(TURN, FRAMES, is_ctrl)
    return [later - earlier for earlier, later in pairwise(drawn)]


def click_body(page: Page) -> None:
    """Clicks on the target, in the axial slice."""
    (_, y, x), _ = LOBES[0]
    left, top, width, height = page.browser.execute_script(TILE, "axial")
    # All of the slice is in sight, and lies in the middle.
    pixels_per_voxel = min(width, height) / 512
    place = (
        left + width / 2 + pixels_per_voxel * (x - 256),
        top + height / 2 + pixels_per_voxel * (y - 256),
    )
    actions = ActionBuilder(page.browser, duration=30)
    actions.pointer_action.move_to_location(*map(round, place)).click()  # type: ignore[no-untyped-call]
    actions.perform()


def measure_mask(page: Page, number: int) -> float:
    """Returns the seconds from an answer of the server until its mask is drawn."""
    found: list[float] = []

    def is_drawn() -> bool:
        milliseconds = page.browser.execute_script(ANSWER, number)
        if milliseconds is not None:
            found.append(float(milliseconds) / 1000)
        return bool(found)

    wait_until(is_drawn, f"mask {number + 1} of {MASKS}")
    return found[0]


def memory_of(browser: webdriver.Chrome) -> int:
    """Returns the bytes of the browser's processes; what several share counts once."""
    processes = psutil.Process(browser.service.process.pid).children(recursive=True)
    return sum(
        one.memory_full_info().pss for one in processes if one.status() != psutil.STATUS_ZOMBIE
    )


def page_bars(starts: Sequence[float], run: PageRun) -> list[Bar]:
    """Holds what was measured to the bars."""
    remark = f"of {STARTS}"
    return [
        at_most("Start to first picture, 256^3", float(np.median(starts)), START_SECONDS, remark),
        Bar("Frames while scrolling", describe_frames(run.scrolling), "", None),
        Bar("Frames while enlarging", describe_frames(run.enlarging), "", None),
        at_most("Answer to mask", float(np.median(run.masks)), MASK_SECONDS, f"of {MASKS}"),
        Bar(
            "Memory of the browser",
            f"{run.browser_gb:.2f} GB",
            f"< {BROWSER_GB:g} GB",
            run.browser_gb < BROWSER_GB,
        ),
    ]


def describe_frames(milliseconds: Sequence[float]) -> str:
    """Returns the median and the 95th percentile."""
    median, late = np.percentile(milliseconds, [50, 95])
    return f"{median:.0f} ms, 95 % within {late:.0f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    console = Console()
    console.print(describe_machine())
    with tempfile.TemporaryDirectory() as name, open_browser(Path(name) / "profile") as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        with console.status("A scan is drawn"):
            image, _ = draw_scan()
            cube, large = Path(name) / "cube.nii.gz", Path(name) / "large.nii.gz"
            write_scan(image[:256, 128:384, 128:384], cube)
            write_scan(image, large)
        home = Path(name) / "home"
        turns = track(range(STARTS), "Starts", console=console, transient=True)
        starts = [measure_start(browser, cube, home) for _ in turns]
        with console.status("A user"):
            run = measure_page(browser, large, home)
    return print_bars(
        "Bars: the page, without a graphics processor", page_bars(starts, run), console
    )


if __name__ == "__main__":
    sys.exit(main())

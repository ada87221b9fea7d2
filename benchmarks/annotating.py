"""Measures how fast `gamt annotate` answers its page, without the browser.

    python -m benchmarks.annotating

Servers are started with a drawn CT of 256 x 256 x 256 voxels, as users have one (`.nii.gz`), and
timed until the page can show it: the state that names the scan, and the whole of its volume. Then a
user segments a drawn CT of 300 x 512 x 512 voxels, with the prompts of `benchmarks.serving`; a
session in this process gets them too, and what a click takes longer on the page is the server's
share. Needs the built page (`make page`). Prints every bar with the figure measured beside it; the
exit code is 1 where one is missed.
"""

import argparse
import json
import re
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from benchmarks.bench import Bar, print_bars
from benchmarks.interaction import SHAPE, SPACING_MM, at_most, describe_machine, draw_scan
from benchmarks.server_process import ServerProcess
from benchmarks.serving import CLICKS, ServingRun, median, print_shares, run_prompts
from gamt import Session
from gamt.io.image import write_image

VOLUME_SIDE = 256
"""Voxels along each axis of the scan that servers are started with."""

PICTURE_SECONDS = 2.5
"""Most seconds from a server's start until the page has the scan, the median: of the 3 s until
there is a picture, the browser has the rest."""

VOLUME_CPU_SECONDS = 0.5
"""Most processor time of the server to send the volume, the median."""

SHARE_SECONDS = 0.02
"""Most seconds that a correcting click takes longer than in process, the difference of medians."""

STARTS = 5
"""Servers that are started."""

POLL_SECONDS = 0.01
"""Between two questions whether the scan is open."""

OPEN_SECONDS = 60.0
"""A scan that isn't open by then could not be read."""


class PageSession:
    """The page's side of a server, with the methods of `gamt.Session`.

    Attributes:
        volume_bytes: of the scan as it came; 0 before `set_image`.
    """

    def __init__(self, server: ServerProcess) -> None:
        """Shows the key that the server has printed."""
        self._http = httpx.Client(base_url=f"{server.url}/annotate/", timeout=OPEN_SECONDS)
        found = None
        while found is None:
            found = re.search(r"\?key=(\S+)", server.log.read_text())
            time.sleep(POLL_SECONDS)
        self._http.get("./", params={"key": found[1]})
        self._buffer: npt.NDArray[Any] = np.zeros((0, 0, 0), np.uint8)
        self.volume_bytes = 0

    def __enter__(self) -> "PageSession":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def set_image(
        self, image: npt.NDArray[Any] | None = None, image_properties: dict[str, Any] | None = None
    ) -> None:
        """Waits until the server has opened its scan, whatever `image` is, and gets the volume."""
        deadline = time.monotonic() + OPEN_SECONDS
        while (scan := self.get("state").json()["scan"]) is None:
            if time.monotonic() > deadline:
                raise RuntimeError("the server has not opened its scan")
            time.sleep(POLL_SECONDS)
        self.get_volume(scan["id"])

    def get_volume(self, scan: str) -> None:
        """Gets a scan's volume."""
        self.volume_bytes = len(self.get(f"images/{scan}/volume").content)

    def set_target_buffer(self, target_buffer: npt.NDArray[Any]) -> None:
        """Takes what the page's labels are written to."""
        self._buffer = target_buffer

    def add_bbox_interaction(self, bbox_coords: Any, include_interaction: bool) -> None:
        """Adds a box, [[a, b], [c, d], [e, f]] along (z, y, x)."""
        (z0, z1), (y0, y1), (x0, x1) = bbox_coords
        _, rows, columns = self._buffer.shape
        low, high = [columns - x1, rows - y1, z0], [columns - x0, rows - y0, z1]
        self._prompt(include_interaction, kind="box", low=low, high=high, plane=None)

    def add_point_interaction(self, coordinates: Any, include_interaction: bool) -> None:
        """Adds a point (z, y, x)."""
        z, y, x = (int(one) for one in coordinates)
        _, rows, columns = self._buffer.shape
        self._prompt(include_interaction, kind="point", voxel=[columns - 1 - x, rows - 1 - y, z])

    def reset_interactions(self) -> None:
        """Begins anew."""
        self._post("reset", {"target": 1})

    def _prompt(self, positive: bool, **prompt: object) -> None:
        self._post("prompts", {"target": 1, "positive": positive, **prompt})

    def get(self, path: str) -> httpx.Response:
        """Asks for something below the API."""
        return self._http.get(f"api/{path}").raise_for_status()

    def _post(self, path: str, body: dict[str, object]) -> None:
        """Does what changes labels, and takes over what has changed."""
        content = self._http.post(f"api/{path}", json=body).raise_for_status().content
        (length,) = struct.unpack("<I", content[:4])
        head = json.loads(content[4 : 4 + length])
        if head["low"] is not None:
            where = tuple(map(slice, head["low"], head["high"]))[::-1]
            part = np.frombuffer(content, np.uint8, offset=4 + length)
            turned = self._buffer[:, ::-1, ::-1][where]
            turned[...] = part.reshape(turned.shape)


@dataclass(frozen=True, slots=True)
class Start:
    """What the start of a server took.

    Attributes:
        state_seconds: until the state named the scan.
        picture_seconds: until the volume was there.
        volume_seconds: of that, for the volume alone.
        volume_cpu_seconds: the server's processor time for it.
        volume_bytes: of it.
    """

    state_seconds: float
    picture_seconds: float
    volume_seconds: float
    volume_cpu_seconds: float
    volume_bytes: int


def write_cube(path: Path, side: int = VOLUME_SIDE) -> None:
    """Writes the middle of the drawn CT, `side` voxels along each axis."""
    image, _ = draw_scan()
    first = [(size - side) // 2 for size in SHAPE]
    z, y, x = (slice(a, a + side) for a in first)
    write_image(path, image[z, y, x], spacing_mm=SPACING_MM)


def measure_start(scan: Path) -> Start:
    """Starts a server with a scan, and ends it when the page has the volume."""
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(
            Path(folder) / "server.log", [str(scan), "--no-browser"], "annotate"
        ) as server,
        PageSession(server) as page,
    ):
        while (found := page.get("state").json()["scan"]) is None:
            time.sleep(POLL_SECONDS)
        state, cpu = time.perf_counter() - start, server.cpu_seconds
        page.get_volume(found["id"])
        picture = time.perf_counter() - start
        return Start(state, picture, picture - state, server.cpu_seconds - cpu, page.volume_bytes)


def measure(shrink: int = 1, clicks: int = CLICKS) -> tuple[ServingRun, ServingRun]:
    """Returns what the prompts took on the page, and in a session in this process.

    Args:
        shrink: divides the scan's sizes, for trials.
        clicks: that correct the box.
    """
    image, target = draw_scan(shrink)
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.nii"
        write_image(scan, image, spacing_mm=SPACING_MM)
        with (
            ServerProcess(
                Path(folder) / "server.log", [str(scan), "--no-browser"], "annotate"
            ) as server,
            PageSession(server) as page,
        ):
            remote = run_prompts(page, image, target, clicks)
    return remote, run_prompts(Session(), image, target, clicks)


def annotating_bars(remote: ServingRun, local: ServingRun, starts: Sequence[Start]) -> list[Bar]:
    """Holds the figures to the bars."""
    picture = median([one.picture_seconds for one in starts])
    state = median([one.state_seconds for one in starts])
    volume = median([one.volume_seconds for one in starts])
    cpu = median([one.volume_cpu_seconds for one in starts])
    size = f"{starts[0].volume_bytes / 2**20:.0f} MiB in {volume:.2f} s"
    share = median(remote.clicks) - median(local.clicks)
    clicks = f"{len(remote.clicks)} clicks of {median(remote.clicks):.3f} s"
    differ = int((remote.found != local.found).sum())
    return [
        at_most(
            "Start to the whole scan, median", picture, PICTURE_SECONDS, f"state {state:.2f} s"
        ),
        at_most("Processor time of the volume", cpu, VOLUME_CPU_SECONDS, size),
        Bar(
            "The server's share of a click",
            f"{share * 1000:.0f} ms ({clicks})",
            f"<= {SHARE_SECONDS * 1000:.0f} ms",
            share <= SHARE_SECONDS,
        ),
        Bar("Voxels that differ from those in process", str(differ), "0", differ == 0),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.annotating",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    console = Console()
    console.print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "cube.nii.gz"
        write_cube(scan)
        turns = track(range(STARTS), "Starts", console=console, transient=True)
        starts = [measure_start(scan) for _ in turns]
    with console.status("A user"):
        remote, local = measure()
    print_shares(remote, local, console)
    size = " x ".join(str(n) for n in SHAPE)
    return print_bars(f"Bars: the page, {size}", annotating_bars(remote, local, starts), console)


if __name__ == "__main__":
    sys.exit(main())

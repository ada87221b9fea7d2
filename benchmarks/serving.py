"""Measures how fast `gamt serve` is for its users.

    python -m benchmarks.serving

The client of 3D Slicer and napari (`nninteractive-client`) segments a drawn CT of 300 x 512 x 512
voxels: a first click, a box, and the clicks that correct it, which the challenge's simulated user
places. A session in this process gets the same prompts; what a click takes longer at the client is
the wire's share. Then servers are started, and timed until they answer /healthz, and until /claim,
which waits for all that is loaded after that. Prints every bar with the
figure measured beside it; the exit code is 1 where one is missed.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import numpy.typing as npt
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession
from rich.console import Console
from rich.progress import track

from benchmarks.bench import Bar, new_table, print_bars
from benchmarks.interaction import (
    SHAPE,
    SPACING_MM,
    at_most,
    box_of,
    describe_machine,
    draw_scan,
    seconds_of,
)
from benchmarks.phantoms import Mask, dice
from benchmarks.server_process import ServerProcess
from evaluation.clicks import simulate_clicks
from gamt import Session

CLICK_MEDIAN_SECONDS, CLICK_P95_SECONDS = 0.35, 1.0
"""Most seconds of a correcting click at the client: the median, and the 95th percentile."""

HEALTHZ_SECONDS = 1.5
"""Most seconds from a server's start until /healthz answers, the median."""

CLICKS = 30
"""Correcting clicks after the box."""

STARTS = 5
"""Servers that are started."""


class AnySession(Protocol):
    """What `gamt.Session` and its clients have in common."""

    def set_image(self, image: npt.NDArray[Any], image_properties: dict[str, Any]) -> object:
        """Takes (1, z, y, x)."""

    def set_target_buffer(self, target_buffer: npt.NDArray[Any]) -> object:
        """Takes what masks are written to."""

    def add_bbox_interaction(self, bbox_coords: Any, include_interaction: bool) -> object:
        """Adds a box."""

    def add_point_interaction(self, coordinates: Any, include_interaction: bool) -> object:
        """Adds a point."""

    def reset_interactions(self) -> object:
        """Begins anew."""


@dataclass(frozen=True, slots=True)
class ServingRun:
    """What prompts took in a session.

    Attributes:
        set_image: seconds until the image was taken.
        first_click: of a prediction from one click alone.
        box: of a prediction from a box alone.
        clicks: of each click that corrected the box's prediction.
        dice: after the last of them.
        found: (z, y, x) uint8, the last mask.
    """

    set_image: float
    first_click: float
    box: float
    clicks: tuple[float, ...]
    dice: float
    found: npt.NDArray[np.uint8]


def run_prompts(
    session: AnySession, image: npt.NDArray[np.int16], target: Mask, clicks: int = CLICKS
) -> ServingRun:
    """Times the prompts of one user.

    Args:
        session: a new one.
        image: (z, y, x) Hounsfield units.
        target: what the user looks for.
        clicks: how many correct the box, or fewer if nothing is left to correct.
    """
    found = np.zeros(target.shape, np.uint8)
    set_image = seconds_of(lambda: session.set_image(image[None], {"spacing": SPACING_MM}))
    session.set_target_buffer(found)
    first_click = click_seconds(session, target, found)
    assert first_click is not None  # nothing is found yet
    session.reset_interactions()
    box = seconds_of(lambda: session.add_bbox_interaction(box_of(target), include_interaction=True))
    seconds: list[float] = []
    while len(seconds) < clicks and (one := click_seconds(session, target, found)) is not None:
        seconds.append(one)
    return ServingRun(set_image, first_click, box, tuple(seconds), dice(target, found > 0), found)


def click_seconds(session: AnySession, target: Mask, found: npt.NDArray[np.uint8]) -> float | None:
    """Times the simulated user's next click; None where there is nothing to correct."""
    ((_, kind, voxel),) = simulate_clicks(target.view(np.uint8), found)
    if voxel is None:
        return None
    return seconds_of(
        lambda: session.add_point_interaction(voxel, include_interaction=kind == "fg")
    )


def measure(shrink: int = 1, clicks: int = CLICKS) -> tuple[ServingRun, ServingRun]:
    """Returns what the prompts took at the client, and in a session in this process.

    Args:
        shrink: divides the scan's sizes, for trials.
        clicks: that correct the box.
    """
    image, target = draw_scan(shrink)
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "server.log") as server,
        nnInteractiveRemoteInferenceSession(server.url) as session,
    ):
        remote = run_prompts(session, image, target, clicks)
    return remote, run_prompts(Session(), image, target, clicks)


@dataclass(frozen=True, slots=True)
class Start:
    """What the start of a server took.

    Attributes:
        healthz_seconds: until /healthz answered.
        healthz_cpu_seconds: the processor time of that, whatever else the machine does.
        claim_seconds: until /claim answered, for which all of the server has to be loaded.
    """

    healthz_seconds: float
    healthz_cpu_seconds: float
    claim_seconds: float


def measure_start() -> Start:
    """Starts a server, and ends it when it has given a place away."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "server.log") as server,
    ):
        claim = seconds_of(lambda: httpx.post(f"{server.url}/claim").raise_for_status())
        return Start(server.start_seconds, server.start_cpu_seconds, server.start_seconds + claim)


def print_shares(remote: ServingRun, local: ServingRun, console: Console) -> None:
    """Prints what the wire adds to each prompt."""
    grid = new_table("Seconds of one user", "Prompt", "At the client", "In process", "The wire's")
    rows = [
        ("image", remote.set_image, local.set_image),
        ("first click", remote.first_click, local.first_click),
        ("box", remote.box, local.box),
        ("correcting click, median", median(remote.clicks), median(local.clicks)),
    ]
    for name, there, here in rows:
        share = (there - here) / there
        grid.add_row(name, f"{there:.3f}", f"{here:.3f}", f"{there - here:+.3f} ({share:.0%})")
    console.print(grid)


def serving_bars(remote: ServingRun, local: ServingRun, starts: Sequence[Start]) -> list[Bar]:
    """Holds the figures to the bars."""
    p95 = float(np.percentile(remote.clicks, 95))
    count, quality = f"{len(remote.clicks)} clicks", f"Dice {remote.dice:.3f}"
    differ = int((remote.found != local.found).sum())
    start = median([one.healthz_seconds for one in starts])
    cpu = median([one.healthz_cpu_seconds for one in starts])
    claim = median([one.claim_seconds for one in starts])
    starting = f"{len(starts)} starts; {cpu:.2f} s on a processor; to /claim {claim:.2f} s"
    return [
        at_most("Correcting click, median", median(remote.clicks), CLICK_MEDIAN_SECONDS, count),
        at_most("Correcting click, 95 %", p95, CLICK_P95_SECONDS, quality),
        Bar("Voxels that differ from those in process", str(differ), "0", differ == 0),
        at_most("Start to /healthz, median", start, HEALTHZ_SECONDS, starting),
    ]


def median(values: Sequence[float]) -> float:
    """Returns the median."""
    return float(np.median(values))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    console = Console()
    console.print(describe_machine())
    with console.status("A user"):
        remote, local = measure()
    print_shares(remote, local, console)
    turns = track(range(STARTS), "Starts", console=console, transient=True)
    starts = [measure_start() for _ in turns]
    size = " x ".join(str(n) for n in SHAPE)
    return print_bars(f"Bars: at the client, {size}", serving_bars(remote, local, starts), console)


if __name__ == "__main__":
    sys.exit(main())

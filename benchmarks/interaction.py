"""Measures a session's speed and memory, and whether a busy machine changes results.

    python -m benchmarks.interaction [--runs N]

A session is timed on a drawn CT of 300 x 512 x 512 voxels, in a process of its own: a first click,
a box, and the clicks that correct it, which the challenge's simulated user places. Then the sample
cases are segmented over and over, within the challenge's time limit, while other processes keep
all cores busy. Prints where the time goes, and every bar with the figure measured beside it; the
exit code is 1 where one is missed. The runs on busy cores take half an hour on two of them.
"""

import argparse
import cProfile
import hashlib
import json
import os
import platform
import pstats
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from benchmarks.bars import peak_bytes
from benchmarks.bench import Bar, new_table, print_bars
from benchmarks.phantoms import Mask, dice
from benchmarks.samples import FOLDER
from evaluation.clicks import simulate_clicks
from gamt import Session
from gamt.axes import bounding_range

FIRST_CLICK_SECONDS, BOX_SECONDS = 1.5, 4.0
"""Most seconds of the first prediction of a target."""

CLICK_MEDIAN_SECONDS, CLICK_P95_SECONDS = 0.3, 0.8
"""Most seconds of a click that corrects a prediction: the median, and the 95th percentile."""

SESSION_GIB = 1.5
"""Peak memory of the session's process, the image and Python included, in GiB (2^30 bytes)."""

CLICKS = 10
"""Correcting clicks after the box."""

RUNS = 20
"""Runs of the sample cases on a busy machine."""

PROFILE_ROWS = 12
"""Functions that the profile lists, those with the most time of their own."""

SHAPE, SPACING_MM = (300, 512, 512), (1.0, 0.8, 0.8)

# Centres and half-axes (z, y, x) in voxels. The target has two lobes, 1.9 million voxels together;
# a darker body touches it, and all lie in a body of fat and muscle.
LOBES = (((150, 250, 200), (70, 72, 80)), ((165, 262, 268), (42, 50, 60)))
NEIGHBOUR = ((140, 325, 190), (50, 42, 40))
BODY = ((150, 256, 256), (400, 200, 230))
AIR, FLESH, TARGET, TOUCHING = -900, 30, 110, 70
"""Hounsfield units of what is drawn."""

NOISE = 25.0
"""Standard deviation of the noise in Hounsfield units, whose grain is about two voxels wide."""


@dataclass(frozen=True, slots=True)
class SessionRun:
    """What a session took.

    Attributes:
        first_click: seconds of a prediction from one click alone.
        box: seconds of a prediction from a box alone.
        clicks: seconds of each click that corrected the box's prediction.
        peak_bytes: most memory that the process held, the image included.
        dice: after the first click, the box, and the last correcting click.
        profile: functions, and the seconds that the box spent in each of them alone.
    """

    first_click: float
    box: float
    clicks: tuple[float, ...]
    peak_bytes: int
    dice: tuple[float, float, float]
    profile: tuple[tuple[str, float], ...]


def draw_scan(shrink: int = 1) -> tuple[npt.NDArray[np.int16], Mask]:
    """Draws the CT, slice by slice.

    Args:
        shrink: divides all sizes, for trials.

    Returns:
        (z, y, x) Hounsfield units, and bool, the target.
    """
    rng = np.random.default_rng(0)
    depth, rows, columns = (size // shrink for size in SHAPE)
    image, target = (
        np.empty((depth, rows, columns), np.int16),
        np.zeros((depth, rows, columns), bool),
    )
    y, x = np.ogrid[:rows, :columns]

    def section(z: int, ellipsoid: tuple[tuple[int, int, int], tuple[int, int, int]]) -> Mask:
        centre, half = (np.array(numbers) / shrink for numbers in ellipsoid)
        away = [((v - c) / h) ** 2 for v, c, h in zip((z, y, x), centre, half, strict=True)]
        inside: Mask = sum(away) < 1
        return inside

    for z in range(depth):
        for lobe in LOBES:
            target[z] |= section(z, lobe)
        grain = ndimage.gaussian_filter(rng.normal(0, 1, (rows, columns)), 1.0)
        layer = np.where(section(z, BODY), FLESH, AIR)
        layer = np.where(section(z, NEIGHBOUR), TOUCHING, layer)
        layer = np.where(target[z], TARGET, layer)
        image[z] = layer + NOISE / grain.std() * grain
    return image, target


def box_of(target: Mask) -> list[list[int]]:
    """Returns the target's half-open box: its slices, and its extent in the middle one."""
    everywhere = bounding_range(target)
    if everywhere is None:
        raise ValueError("an empty target has no box")
    (first, *_), (past, *_) = everywhere
    middle = bounding_range(target[(first + past) // 2])
    if middle is None:
        raise ValueError("the target is not there in its middle slice")
    return [[first, past], *([a, b] for a, b in zip(*middle, strict=True))]


def run_session(shrink: int = 1) -> SessionRun:
    """Times a session in this process; the peak is that of all it ever did."""
    image, target = draw_scan(shrink)
    found = np.zeros(target.shape, np.uint8)

    def begin() -> Session:
        session = Session()
        session.set_image(image[None], {"spacing": SPACING_MM})
        found[:] = 0
        session.set_target_buffer(found)
        return session

    def user_click(session: Session) -> Callable[[], object] | None:
        ((_, kind, voxel),) = simulate_clicks(target.view(np.uint8), found)
        if voxel is None:
            return None
        return lambda: session.add_point_interaction(voxel, include_interaction=kind == "fg")

    scores = []
    session = begin()
    click = user_click(session)
    assert click is not None  # nothing is found yet
    first_click = seconds_of(click)
    scores.append(dice(target, found > 0))
    session = begin()
    box = seconds_of(lambda: session.add_bbox_interaction(box_of(target), include_interaction=True))
    scores.append(dice(target, found > 0))
    clicks: list[float] = []
    while len(clicks) < CLICKS and (click := user_click(session)) is not None:
        clicks.append(seconds_of(click))
    scores.append(dice(target, found > 0))
    peak = peak_bytes()
    session = begin()
    profile = cProfile.Profile()
    profile.runcall(session.add_bbox_interaction, box_of(target), include_interaction=True)
    return SessionRun(
        first_click, box, tuple(clicks), peak, (scores[0], scores[1], scores[2]), top_of(profile)
    )


def seconds_of(work: Callable[[], object]) -> float:
    """Returns the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def top_of(profile: cProfile.Profile) -> tuple[tuple[str, float], ...]:
    """Returns the functions that took the most time of their own, with its seconds."""
    rows = []
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]]
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, line, name), (_, calls, own, _, _) in stats.items():
        place = f"{Path(file).name}:{line} " if line else ""
        rows.append((f"{place}{name}, {calls} calls", own))
    return tuple(sorted(rows, key=lambda row: -row[1])[:PROFILE_ROWS])


def measure_session(shrink: int = 1) -> SessionRun:
    """Times a session in a process of its own.

    Raises:
        subprocess.CalledProcessError: the process failed, or was killed for its memory.
    """
    command = [sys.executable, "-m", "benchmarks.interaction", "session", str(shrink)]
    folder = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    pairs = {name: tuple(found[name]) for name in ("clicks", "dice")}
    profile = tuple((name, seconds) for name, seconds in found["profile"])
    return SessionRun(**found | pairs | {"profile": profile})


def session_bars(run: SessionRun) -> list[Bar]:
    """Holds a session's figures to the bars."""
    gib = run.peak_bytes / 2**30
    median, p95 = np.percentile(run.clicks, (50, 95)).tolist()
    count = f"{len(run.clicks)} clicks"
    first, box, last = (f"Dice {value:.3f}" for value in run.dice)
    size = " x ".join(str(n) for n in SHAPE)
    return [
        at_most(f"{size}: first click", run.first_click, FIRST_CLICK_SECONDS, first),
        at_most(f"{size}: box", run.box, BOX_SECONDS, box),
        at_most(f"{size}: correcting click, median", median, CLICK_MEDIAN_SECONDS, count),
        at_most(f"{size}: correcting click, 95 %", p95, CLICK_P95_SECONDS, last),
        Bar(
            f"{size}: peak memory",
            f"{gib:.2f} GiB",
            f"<= {SESSION_GIB:g} GiB",
            gib <= SESSION_GIB,
        ),
    ]


def at_most(name: str, seconds: float, bar: float, remark: str) -> Bar:
    """Holds seconds to a bar."""
    return Bar(name, f"{seconds:.2f} s ({remark})", f"<= {bar:g} s", seconds <= bar)


def print_profile(run: SessionRun, console: Console) -> None:
    """Prints where the time of the box went."""
    grid = new_table("The box, profiled: most time of their own", "Function", "Seconds")
    for name, seconds in run.profile:
        grid.add_row(name, f"{seconds:.2f}")
    console.print(grid)


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keeps every core busy with a process."""
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


@dataclass(frozen=True, slots=True)
class FolderRun:
    """What a run of a folder of cases came to.

    Attributes:
        digests: of the segmentations, by file.
        cut_short: how many cases the time limit cut short.
    """

    digests: dict[str, str]
    cut_short: int


def run_folder(cases: Path) -> FolderRun:
    """Segments a folder as the challenge's container does: a process, its time limit on.

    Raises:
        subprocess.CalledProcessError: a case failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gamt", "predict", str(cases), folder]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode != 3:  # a case that was cut short counts in the figure
            done.check_returncode()
        digests = {}
        for path in sorted(Path(folder).glob("*.npz")):
            with np.load(path) as file:
                digests[path.name] = hashlib.sha256(file["segs"].tobytes()).hexdigest()
    return FolderRun(digests, len(re.findall("cut short", done.stderr)))


def equality_bar(runs: Sequence[FolderRun]) -> Bar:
    """Says which cases did not come out the same in all runs."""
    names = sorted({name for run in runs for name in run.digests})
    differ = [name for name in names if len({run.digests.get(name) for run in runs}) > 1]
    figure = f"{len(differ)} of {len(names)} cases differ"
    if differ:
        figure += f": {', '.join(differ)}"
    cut_short = sum(run.cut_short for run in runs)
    if cut_short:
        figure += f"; {cut_short} cut short by the time limit"
    return Bar(
        f"Sample cases, {len(runs)} runs on busy cores", figure, "0", bool(names) and not differ
    )


def describe_machine() -> str:
    """Returns the processor, as far as the system tells, and the number of cores."""
    processor = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        processor = found[1] if found else processor
    except OSError:
        pass  # not on Linux
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main(arguments: Sequence[str]) -> int:
    """Runs the command line, or the part that a process of its own is for."""
    if arguments[:1] == ["session"]:
        print(json.dumps(asdict(run_session(int(arguments[1])))))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interaction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="runs on busy cores (%(default)s)")
    options = parser.parse_args(arguments)
    console = Console()
    console.print(describe_machine())
    with console.status("A session"):
        run = measure_session()
    print_profile(run, console)
    with busy_cores():
        turns = track(range(options.runs), "Busy cores", console=console, transient=True)
        runs = [run_folder(FOLDER) for _ in turns]
    found = [*session_bars(run), equality_bar(runs)]
    return print_bars("Bars: interaction", found, console)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

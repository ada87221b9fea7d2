"""Runs of `predict_folder` with a segmenter that takes its time: how late, and how good they are.

A run is drawn by its number: the scan and its prompts, the time allowed, how the segmenter's calls
take time (`LAWS`), how slow reading and the start were. Half of the runs have flat phantoms, boxes
and a steady segmenter; they show what Dice a share of the time needed buys.

The bar on being late is held against the deadline that the method plans with, four fifths of the
time allowed. The clock stops when the output is written.
"""

import logging
import multiprocessing as mp
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.progress import track

from benchmarks import bars
from benchmarks.bench import Bar, listed, new_table
from benchmarks.phantoms import (
    Phantom,
    bent_tubes,
    dice,
    ellipsoids,
    empty_shell,
    filled_shell,
    first_click,
    low_range,
    reversed_spacing,
    thick_slices,
    touching_four,
    touching_pair,
    two_lobes,
    vessel_bend,
    vessel_helix,
    vessel_tree,
)
from gamt import segmenters
from gamt.axes import Plane
from gamt.io.case import Case, read_case, write_case
from gamt.predict import predict_case, predict_folder
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, SliceMask
from gamt.settings import PRESETS

RUNS = 200

AT_ONCE = 2
"""Runs at a time: most of their time they sleep, but deadlines are by the clock on the wall."""

SECONDS = (3.0, 8.0)
"""Least and most time planned with for all classes of a run."""

SHARES = (1 / 50, 2.0)
"""Least and most of the time planned with, as a share of what a whole run needs."""

LONGEST_CALL = 5.0
"""Seconds; no call sleeps longer, so that no run does."""

SHORT_LATE = 0.5
"""Seconds that a run may be late where calls are short."""

BANDS = (1.0, 0.5, 0.25, 0.12, 0.06, 0.0)
"""Lower ends of the ranges of shares in which Dice is averaged."""

GRACE = 0.03
"""Mean Dice by which a range of shares may do better than one with more time, or worse than the
ellipsoids of the boxes."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A call about to be made, and those before it.

    Attributes:
        kind: "encode" or "decode".
        items: slices or prompts in it.
        calls: of the same kind before it.
        before: slices or prompts in them.
        unit: seconds that a slice, and also a prompt, takes on average.
    """

    kind: str
    items: int
    calls: int
    before: int
    unit: float


Law = Callable[[Moment, np.random.Generator], float]
"""Returns the seconds that a call takes."""


def steady(call: Moment, rng: np.random.Generator) -> float:
    """Every slice and every prompt takes the same time."""
    return call.unit * call.items


def slowing(call: Moment, rng: np.random.Generator) -> float:
    """Fast for the first slices, and then slow, as a processor that gets too hot."""
    return call.unit * call.items * (0.1 if call.before < 20 else 2)


def compiling(call: Moment, rng: np.random.Generator) -> float:
    """The first call of either kind takes seconds, as compilation does."""
    return call.unit * call.items + (2.0 if call.calls == 0 else 0.0)


def stumbling(call: Moment, rng: np.random.Generator) -> float:
    """Now and then a call takes a second to three more."""
    hiccup = rng.uniform(1, 3) if rng.random() < 0.02 else 0.0
    return call.unit * call.items + hiccup


def batching(call: Moment, rng: np.random.Generator) -> float:
    """A call costs much by itself, and little more with every slice in it."""
    return call.unit * (0.8 + 0.2 * call.items)


def crowding(call: Moment, rng: np.random.Generator) -> float:
    """The more there is in a call, the longer each takes."""
    return float(call.unit * call.items**1.5)


def slow_encoding(call: Moment, rng: np.random.Generator) -> float:
    """Slices take long, prompts hardly any time."""
    return call.unit * call.items * (2 if call.kind == "encode" else 0.01)


def slow_decoding(call: Moment, rng: np.random.Generator) -> float:
    """Prompts take long, slices hardly any time."""
    return call.unit * call.items * (2 if call.kind == "decode" else 0.01)


def growing(call: Moment, rng: np.random.Generator) -> float:
    """Every call takes longer than the one before, as with memory that leaks."""
    return call.unit * call.items * (0.2 + call.before / 60)


def scattered(call: Moment, rng: np.random.Generator) -> float:
    """No call says anything about the next."""
    return call.unit * call.items * float(rng.lognormal(0, 1))


LAWS: tuple[Law, ...] = (
    *(steady, slowing, compiling, stumbling, batching, crowding),
    *(slow_encoding, slow_decoding, growing, scattered),
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made.

    Attributes:
        begun: on the clock of `time.monotonic`.
        seconds: that it took.
    """

    begun: float
    seconds: float


class SlowSegmenter:
    """The embedded segmenter, asked like a network, whose calls take as long as a law says.

    Attributes:
        calls: those made so far.
        items: slices encoded and prompts decoded so far, by the kind of call.
    """

    name = "slow"

    def __init__(self, law: Law, unit: float, rng: np.random.Generator, batch: int = 1) -> None:
        """Takes the law, its unit in seconds, and how many slices are best encoded at once."""
        self._inner = segmenters.load("statistical")
        self.traits = replace(self._inner.traits, intensities_alone=False, batch=batch)
        self._law, self._unit, self._rng = law, unit, rng
        self.calls: list[Call] = []
        self.items: dict[str, int] = {"encode": 0, "decode": 0}
        self._made = {"encode": 0, "decode": 0}

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Encodes slices, slowly."""
        begun = self._sleep("encode", len(slices))
        embeddings = self._inner.encode(slices)
        self._end(begun)
        return embeddings

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Answers, slowly."""
        begun = self._sleep("decode", len(prompts))
        answers = self._inner.decode(embeddings, prompts, multimask)
        self._end(begun)
        return answers

    def _sleep(self, kind: str, items: int) -> float:
        begun = time.monotonic()
        moment = Moment(kind, items, self._made[kind], self.items[kind], self._unit)
        self._made[kind] += 1
        self.items[kind] += items
        time.sleep(min(self._law(moment, self._rng), LONGEST_CALL))
        return begun

    def _end(self, begun: float) -> None:
        self.calls.append(Call(begun, time.monotonic() - begun))


@dataclass(frozen=True, slots=True)
class Scene:
    """A phantom and what is said about it.

    Attributes:
        phantom: with the prompts of the round.
        case: to be segmented.
        floor: Dice, per class, of the ellipsoid in the box; empty without boxes.
    """

    phantom: Phantom
    case: Case
    floor: tuple[float, ...] = ()


def many(seed: int) -> Phantom:
    """Ten ellipsoids of very different sizes; always the same."""
    return bars.draw_large_phantom(8)


def boxed(phantom: Phantom) -> Scene:
    """Says what a flat phantom's boxes say."""
    floor = []
    for one in phantom.prompts:
        assert one.box is not None, "flat phantoms have boxes"
        drawn = bars.inscribed_ellipsoid(one.box, phantom.truth.shape)
        floor.append(dice(drawn, phantom.truth == one.label))
    return Scene(phantom, bars.phantom_case(phantom), tuple(floor))


def clicked(phantom: Phantom) -> Scene:
    """Says what a vessel's clicks say."""
    return Scene(phantom, bars.phantom_case(phantom))


def second_round(phantom: Phantom) -> Scene:
    """Adds a previous prediction that is off by a few voxels, and a click that says so."""
    previous = np.roll(phantom.truth, (1, 3, 3), axis=(0, 1, 2))
    prompts = []
    for one in phantom.prompts:
        missing = (phantom.truth == one.label) & (previous != one.label)
        click = first_click(missing.astype(np.uint8), 1)
        prompts.append(replace(one, clicks=(click,)))
    case = bars.phantom_case(phantom)
    name = f"{phantom.name}_round_2"
    return Scene(phantom, replace(case, name=name, prompts=tuple(prompts), previous=previous))


FLAT = (
    *(ellipsoids, bent_tubes, two_lobes, empty_shell, filled_shell),
    *(touching_pair, touching_four, thick_slices, reversed_spacing, low_range),
)

SCENES: tuple[tuple[Callable[[int], Phantom], Callable[[Phantom], Scene]], ...] = (
    *((draw, boxed) for draw in FLAT),
    *((draw, clicked) for draw in (vessel_tree, vessel_bend, vessel_helix)),
    *((draw, second_round) for draw in (ellipsoids, empty_shell, touching_four, low_range, many)),
    (many, boxed),
)
"""What phantoms are drawn, and what is said about each; the flat ones with boxes first."""


@cache
def draw_scene(number: int) -> Scene:
    """Draws one of `SCENES`."""
    draw, say = SCENES[number]
    return say(draw(0))


@dataclass(frozen=True, slots=True)
class Need:
    """What a whole run takes without any waiting.

    Attributes:
        items: slices to encode and prompts to decode.
        seconds: of computing.
    """

    items: int
    seconds: float


def measure_need(scene: int) -> Need:
    """Segments one of `SCENES` without a limit and without waiting."""
    segmenter = SlowSegmenter(steady, 0.0, np.random.default_rng(0))
    prediction = predict_case(draw_scene(scene).case, segmenter, bars.UNLIMITED)
    return Need(sum(segmenter.items.values()), prediction.seconds)


@dataclass(frozen=True, slots=True)
class Plan:
    """A run to be made.

    Attributes:
        number: that it is drawn by.
        scene: index among `SCENES`.
        law: index among `LAWS`.
        share: of the time planned with, in what a whole run needs.
        seconds: planned with for all classes.
        batch: see `Traits.batch`.
        planes: number of views, 1 to 3.
        reading: seconds that reading takes.
        starting: seconds that had passed before the case was read.
        steady: whether it counts for the table of Dice by share.
    """

    number: int
    scene: int
    law: int
    share: float
    seconds: float
    batch: int = 1
    planes: int = 3
    reading: float = 0.0
    starting: float = 0.0
    steady: bool = False


def draw_plan(seed: int, number: int) -> Plan:
    """Draws a run; every second one is a flat phantom with a steady segmenter."""
    rng = np.random.default_rng([seed, number])
    seconds = float(rng.uniform(*SECONDS))
    share = float(np.exp(rng.uniform(*np.log(SHARES))))
    if number % 2 == 0:
        # All phantoms for one range of shares, then for the next: all means are of the same ones.
        row, scene = divmod(number // 2, len(FLAT))
        ends = [SHARES[1], *BANDS[:-1], SHARES[0]]
        upper, lower = ends[row % len(BANDS)], ends[row % len(BANDS) + 1]
        share = float(rng.uniform(lower, upper))
        return Plan(number, scene, LAWS.index(steady), share, seconds, steady=True)
    return Plan(
        number,
        scene=int(rng.integers(len(SCENES))),
        law=number // 2 % len(LAWS),
        share=share,
        seconds=seconds,
        batch=int(rng.choice([1, 4, 16])),
        planes=int(rng.choice([1, 2, 3], p=[0.2, 0.2, 0.6])),
        reading=seconds * float(rng.choice([0, rng.uniform(0, 0.4)])),
        starting=seconds * float(rng.choice([0, rng.uniform(0, 0.4)])),
    )


@dataclass(frozen=True, slots=True)
class TimedRun:
    """What came of a run.

    Attributes:
        plan: what was run.
        late: seconds from the deadline until the output was written; negative before it.
        call: length in seconds of the call that was at work at the deadline; 0 if none was.
        begun_late: calls that were begun after the deadline.
        longest: seconds of the longest call.
        dice: per class.
        status: of the output.
        problems: what is wrong with the output.
        load: of the machine, at the end.
    """

    plan: Plan
    late: float
    call: float
    begun_late: int
    longest: float
    dice: tuple[float, ...]
    status: str
    problems: tuple[str, ...] = field(default=())
    load: float = 0.0

    @property
    def is_late(self) -> bool:
        """Whether it was later than the call at work explains, or than `SHORT_LATE`."""
        return self.late > max(SHORT_LATE, self.call)

    @property
    def wrong(self) -> list[str]:
        """What should not be so, for people."""
        wrong = [*self.problems]
        if self.is_late:
            wrong.append(f"late by {self.late:.2f} s, its call {self.call:.2f} s")
        if self.begun_late:
            wrong.append(f"{self.begun_late} calls begun after the deadline")
        return wrong


def run_plan(plan: Plan, need: Need) -> TimedRun:
    """Makes a run, from a file to a file; what it logs is not shown."""
    logging.getLogger("gamt").handlers = [logging.NullHandler()]
    scene = draw_scene(plan.scene)
    case = scene.case
    settings = replace(
        PRESETS["default"], runs=1, runs_without_box=1, planes=tuple(Plane)[: plan.planes]
    )
    allowed = plan.seconds / (1 - settings.safety)
    settings = replace(settings, seconds_per_class=allowed / len(case.prompts))
    unit = max(0.0, plan.seconds / plan.share - need.seconds) / need.items
    rng = np.random.default_rng(plan.number)
    segmenter = SlowSegmenter(LAWS[plan.law], unit, rng, plan.batch)

    def read_slowly(path: Path) -> Case:
        time.sleep(plan.reading)
        return read_case(path)

    with TemporaryDirectory() as name:
        folder = Path(name)
        source, output = folder / "in" / "case.npz", folder / "out" / "case.npz"
        source.parent.mkdir()
        write_case(source, case.image, case.spacing_mm, case.prompts, previous=case.previous)
        with patch("gamt.predict.read_case", read_slowly):
            start = time.monotonic() - plan.starting
            predict_folder(source.parent, output.parent, segmenter, settings, start)
            end = time.monotonic()
        problems, status, scores = check_output(output, scene.phantom)
    deadline = start + plan.seconds
    at_work = [one for one in segmenter.calls if one.begun <= deadline < one.begun + one.seconds]
    return TimedRun(
        plan,
        late=end - deadline,
        call=max((one.seconds for one in at_work), default=0.0),
        begun_late=sum(one.begun > deadline for one in segmenter.calls),
        longest=max((one.seconds for one in segmenter.calls), default=0.0),
        dice=scores,
        status=status,
        problems=tuple(problems),
        load=psutil.getloadavg()[0],
    )


def check_output(output: Path, phantom: Phantom) -> tuple[list[str], str, tuple[float, ...]]:
    """Reads an output.

    Returns:
        What is wrong with it, its status, and Dice per class; zeros where it can't be read.
    """
    labels = [one.label for one in phantom.prompts]
    nothing = (0.0,) * len(labels)
    if not output.is_file():
        return ["no output"], "", nothing
    with np.load(output) as file:
        segs = file["segs"]
        status = str(file["status"]) if "status" in file else ""
    problems = [] if status else ["no status"]
    if segs.shape != phantom.truth.shape or segs.dtype != np.uint8:
        return [*problems, f"{segs.dtype} of shape {segs.shape}"], status, nothing
    found = set(np.unique(segs).tolist()) - {0}
    problems += [f"class {label} is empty" for label in labels if label not in found]
    problems += [f"label {label} is no class" for label in sorted(found - set(labels))]
    if len(status.splitlines()) > 1 or not (status.isprintable()):
        problems.append("a status of several lines")
    return problems, status, bars.dice_of(phantom.truth, segs, labels)


def run_plans(plans: Sequence[Plan], console: Console) -> list[TimedRun]:
    """Makes runs, a few at a time, and prints those that something is wrong with."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    numbers = sorted({plan.scene for plan in plans})
    pool = ProcessPoolExecutor(AT_ONCE, mp.get_context("spawn"))
    with pool:
        found = pool.map(measure_need, numbers)
        title = "What runs need"
        listed_needs = list(track(found, title, len(numbers), console=console, transient=True))
        needs = dict(zip(numbers, listed_needs, strict=True))
        runs = pool.map(run_plan, plans, [needs[plan.scene] for plan in plans])
        done = []
        for run in track(runs, "Runs in time", len(plans), console=console, transient=True):
            done.append(run)
            if wrong := run.wrong:
                console.print(f"{describe(run)}: {'; '.join(wrong)}", markup=False)
        return done


def print_times(runs: Sequence[TimedRun], console: Console) -> None:
    """Prints the runs by law, and by share of the time."""
    grid = new_table(
        "Late by, in seconds", "Calls", "Runs", "Latest", "Its call", "Longest call", "Mean Dice"
    )
    for law, members in group(runs, lambda one: LAWS[one.plan.law].__name__).items():
        latest = max(members, key=lambda one: one.late - one.call)
        grid.add_row(
            law.replace("_", " "),
            str(len(members)),
            f"{latest.late:+.2f}",
            f"{latest.call:.2f}",
            f"{max(one.longest for one in members):.2f}",
            f"{np.mean([np.mean(one.dice) for one in members]):.3f}",
        )
    console.print(grid)
    grid = new_table("Flat phantoms, boxes, by time", "Share", "Runs", "Mean Dice", "Ellipsoids")
    for band, mean, floor, count in dice_by_share(runs):
        grid.add_row(f">= {band:.0%}", str(count), f"{mean:.3f}", f"{floor:.3f}")
    console.print(grid)
    grid = new_table(
        "Classes that begin with a click, by time", "Share", "Runs", "Mean Dice", "Least"
    )
    for band, scores in clicks_by_share(runs):
        grid.add_row(
            f">= {band:.0%}", str(len(scores)), f"{np.mean(scores):.3f}", f"{min(scores):.3f}"
        )
    console.print(grid)
    loads = [one.load for one in runs]
    console.print(f"Load of the machine: {np.mean(loads):.1f}, at most {max(loads):.1f}")


def describe(run: TimedRun) -> str:
    """Names a run for people."""
    plan = run.plan
    scene = draw_scene(plan.scene).case.name
    return (
        f"run {plan.number} ({scene}, {LAWS[plan.law].__name__}, share {plan.share:.2f}, "
        f"{plan.seconds:.1f} s, load {run.load:.1f})"
    )


def group(runs: Iterable[TimedRun], key: Callable[[TimedRun], str]) -> Mapping[str, list[TimedRun]]:
    """Groups runs by what `key` returns."""
    groups: dict[str, list[TimedRun]] = defaultdict(list)
    for one in runs:
        groups[key(one)].append(one)
    return groups


def dice_by_share(runs: Sequence[TimedRun]) -> list[tuple[float, float, float, int]]:
    """Averages Dice over the runs that count for it, by the share of the time that they had.

    Returns:
        The lower end of each range of shares, most time first, that has any runs; mean Dice; mean
        Dice of the ellipsoids in the same boxes; the number of runs.
    """
    rows, upper = [], np.inf
    for band in BANDS:
        members = [one for one in runs if one.plan.steady and band <= one.plan.share < upper]
        if members:
            mean = float(np.mean([np.mean(one.dice) for one in members]))
            floor = float(np.mean([np.mean(draw_scene(one.plan.scene).floor) for one in members]))
            rows.append((band, mean, floor, len(members)))
        upper = band
    return rows


def clicks_by_share(runs: Sequence[TimedRun]) -> list[tuple[float, list[float]]]:
    """Gathers the runs whose classes begin with clicks, by the share of the time that they had.

    Returns:
        The lower end of each range of shares, most time first, that has any runs; their mean Dice.
    """
    rows, upper = [], np.inf
    for band in BANDS:
        scores = [
            float(np.mean(one.dice))
            for one in runs
            if SCENES[one.plan.scene][1] is clicked and band <= one.plan.share < upper
        ]
        if scores:
            rows.append((band, scores))
        upper = band
    return rows


def time_bars(runs: Sequence[TimedRun]) -> list[Bar]:
    """Holds the runs to the bars."""
    late = [one for one in runs if one.is_late]
    worst = max(runs, key=lambda one: one.late - max(SHORT_LATE, one.call))
    broken = [one for one in runs if one.problems]
    begun = sum(one.begun_late for one in runs)
    rows = dice_by_share(runs)
    means = [row[1] for row in rows]
    rises = max((b - a for a, b in pairwise(means)), default=0.0)
    below = max((floor - one for _, one, floor, _ in rows), default=0.0)
    return [
        Bar(
            f"Runs late by more than the call at work, or {SHORT_LATE} s",
            f"{len(late)} of {len(runs)} (latest {worst.late:+.2f} s, its call {worst.call:.2f} s)",
            "0",
            not late,
        ),
        Bar("Calls begun after the deadline", str(begun), "0", begun == 0),
        Bar("Invalid outputs", f"{len(broken)} of {len(runs)}", "0", not broken),
        Bar(
            "Mean Dice of flat phantoms, most time first",
            listed(means),
            f"rises <= {GRACE}",
            rises <= GRACE,
        ),
        Bar(
            "Mean Dice below that of the boxes' ellipsoids",
            f"{max(below, 0):.3f}",
            f"<= {GRACE}",
            below <= GRACE,
        ),
    ]

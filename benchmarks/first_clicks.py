"""Measures clicks on drawn volumes: python -m benchmarks.first_clicks [--kind KIND] [--workers N].

Every volume of `click_volumes` gets one click, as in an interactive session. Some of each kind are
also corrected by the challenge's simulated user, clicked at other deep places of the target
instead, and their true mask gets a wrong click. Prints a row a kind, what went wrong, then every
bar with the figure measured beside it; the exit code is 1 where one is missed. Takes minutes.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from benchmarks.bars import LOSS
from benchmarks.bench import Bar, at_least, losing_bars, new_table, print_bars
from benchmarks.click_volumes import (
    COUNT,
    KINDS,
    ClickVolume,
    Voxel,
    deep_places,
    draw_click_volume,
    pick_voxel,
)
from benchmarks.phantoms import dice
from evaluation.clicks import simulate_clicks
from evaluation.records import CLICKS
from gamt import Session, segmenters

MEAN, LEAST = 0.95, 0.80
"""Dice after the first click: mean over all volumes, and of every one."""

FOLLOWED = 2
"""Volumes of a kind, the first ones, that are corrected and clicked elsewhere too."""

ELSEWHERE = 3
"""Other places at which these are clicked."""

LEAST_KEPT, MOST_GROWN = 0.5, 2.0
"""A wrong click on a right mask must not leave less of its volume, or make it more."""

SMALL = 100
"""Targets of fewer voxels get no wrong click: a click is a large part of them."""

BESIDE = 3
"""Voxels from the target, at which a wrong positive click is."""

DISC_SHAPE, DISC_RADIUS = (64, 64, 64), 12
"""Of the volume with a disc that is one slice thick, and of the disc, in voxels."""


@dataclass(frozen=True, slots=True)
class ClickScore:
    """How well clicks on one volume went.

    Attributes:
        name: of the volume.
        kind: of the volume.
        found: voxels after the first click.
        voxels: of the target.
        dice: after the first click and, where they were made, each of the simulated user's.
        elsewhere: Dice after one click at other deep places instead; may be empty.
        wrong: volumes that a right mask has after a negative click inside, and after a positive
            one beside it instead, as shares of its own; None where they were not made.
    """

    name: str
    kind: str
    found: int
    voxels: int
    dice: tuple[float, ...]
    elsewhere: tuple[float, ...]
    wrong: tuple[float, float] | None

    @property
    def losses(self) -> list[float]:
        """Dice that each correcting click cost; negative where it gained."""
        return [before - after for before, after in zip(self.dice, self.dice[1:], strict=False)]


class Clicker:
    """A session on one volume, and what it has found."""

    def __init__(self, volume: ClickVolume) -> None:
        """Opens the volume with the embedded segmenter and the default preset."""
        self.truth = volume.truth
        self.found: npt.NDArray[np.uint8] = np.zeros(volume.truth.shape, np.uint8)
        self._session = Session()
        self._session.set_image(volume.image[None], {"spacing": volume.spacing_mm})
        self._session.set_target_buffer(self.found)

    def begin(self, click: Voxel) -> float:
        """Clicks a new target; returns the Dice."""
        self._session.reset_interactions()
        return self.add(click, positive=True)

    def add(self, click: Voxel, positive: bool) -> float:
        """Adds a click; returns the Dice."""
        self._session.add_point_interaction(click, positive)
        return dice(self.found > 0, self.truth)

    def spoil(self, click: Voxel, positive: bool) -> float:
        """Gives the true mask a click; returns the volume then, as a share of the mask's."""
        self._session.add_initial_seg_interaction(self.truth)
        self._session.add_point_interaction(click, positive)
        return float(self.found.sum() / self.truth.sum())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_clicks", description=__doc__)
    parser.add_argument(
        "--kind", action="append", choices=list(KINDS), help="draw these alone; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws other volumes (default 0)")
    parser.add_argument(
        "--count", type=int, default=COUNT, help=f"volumes of a kind (default {COUNT})"
    )
    parser.add_argument(
        "--followed",
        type=int,
        default=FOLLOWED,
        help=f"volumes of a kind that are also corrected (default {FOLLOWED})",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args(arguments)
    for name, lowest in (("count", 1), ("followed", 0), ("workers", 1)):
        if getattr(options, name) < lowest:
            parser.error(f"--{name}: found {getattr(options, name)}, expected {lowest} or more")

    console = Console()
    kinds = options.kind or list(KINDS)
    jobs = [(kind, number) for kind in kinds for number in range(options.count)]
    measure = partial(score_clicks, seed=options.seed, followed=options.followed)
    with ProcessPoolExecutor(options.workers) as pool:
        results = pool.map(measure, *zip(*jobs, strict=True))
        scores = list(track(results, "Clicks", total=len(jobs), console=console, transient=True))
    print_kinds(scores, console)
    print_failures(scores, console)
    found = [*click_bars(scores), *disc_bars()]
    return print_bars(f"Bars: {segmenters.DEFAULT}, preset default, drawn volumes", found, console)


def score_clicks(kind: str, number: int, seed: int, followed: int) -> ClickScore:
    """Clicks one volume; those of a kind before number `followed` more than once."""
    volume = draw_click_volume(kind, number, seed)
    clicker = Clicker(volume)
    scores = [clicker.begin(volume.click)]
    found = int(clicker.found.sum())
    elsewhere, wrong = [], None
    if number < followed:
        scores += correct(clicker)
        rng = np.random.default_rng([seed, number])
        places = deep_places(volume.truth)
        elsewhere = [clicker.begin(pick_voxel(places, rng)) for _ in range(ELSEWHERE)]
        if volume.truth.sum() >= SMALL:
            distance = ndimage.distance_transform_edt(~volume.truth)
            beside = pick_voxel((distance >= BESIDE) & (distance < BESIDE + 1), rng)
            inside = pick_voxel(places, rng)
            wrong = clicker.spoil(inside, positive=False), clicker.spoil(beside, positive=True)
    voxels = int(volume.truth.sum())
    return ClickScore(volume.name, kind, found, voxels, tuple(scores), tuple(elsewhere), wrong)


def correct(clicker: Clicker) -> list[float]:
    """Lets the challenge's simulated user correct a result, until it is right or after five clicks.

    Returns:
        Dice after each of the clicks.
    """
    scores = []
    for _ in range(CLICKS):
        ((_, kind, voxel),) = simulate_clicks(clicker.truth.astype(np.uint8), clicker.found)
        if voxel is None:
            break
        scores.append(clicker.add(voxel, positive=kind == "fg"))
    return scores


def print_kinds(scores: Sequence[ClickScore], console: Console) -> None:
    """Prints a row a kind."""
    heads = ("Number", "Mean", "Lowest", "Corrected, before", "after", "Spread")
    grid = new_table("Drawn volumes: Dice after one click", "Kind", *heads)
    for kind in dict.fromkeys(one.kind for one in scores):
        grid.add_row(kind, *_cells([one for one in scores if one.kind == kind]))
    grid.add_section()
    grid.add_row("all", *_cells(scores), style="bold")
    console.print(grid)
    console.print(
        f"Corrected: the mean over some of a kind, before and after up to {CLICKS} simulated "
        f"clicks. Spread: the largest difference in Dice between first clicks at {ELSEWHERE + 1} "
        "places of one target."
    )


def _cells(scores: Sequence[ClickScore]) -> tuple[str, ...]:
    first = [one.dice[0] for one in scores]
    cells = (str(len(scores)), f"{np.mean(first):.3f}", f"{min(first):.3f}")
    followed = [one for one in scores if one.elsewhere]
    if not followed:
        return *cells, "–", "–", "–"
    before, after = (np.mean([one.dice[at] for one in followed]) for at in (0, -1))
    spread = max(np.ptp([one.dice[0], *one.elsewhere]) for one in followed)
    return *cells, f"{before:.3f}", f"{after:.3f}", f"{spread:.3f}"


def print_failures(scores: Iterable[ClickScore], console: Console) -> None:
    """Prints the volumes on which the first click or a later one went wrong."""
    for one in scores:
        if one.dice[0] < LEAST:
            console.print(f"{one.name}: Dice {one.dice[0]:.3f}, {one.found} voxels of {one.voxels}")
        for number, loss in enumerate(one.losses, start=2):
            if loss > LOSS:
                before, after = one.dice[number - 2 : number]
                console.print(f"{one.name}, click {number}: Dice {before:.3f} -> {after:.3f}")
        if one.wrong is not None and one.wrong[0] < LEAST_KEPT:
            console.print(f"{one.name}, wrong click inside: {one.wrong[0]:.2f} of the volume left")
        if one.wrong is not None and one.wrong[1] > MOST_GROWN:
            console.print(f"{one.name}, wrong click beside: {one.wrong[1]:.2f} times the volume")


def click_bars(scores: Sequence[ClickScore]) -> list[Bar]:
    """Holds the first clicks, and those that correct, to their bars."""
    first = [one.dice[0] for one in scores]
    worst = scores[int(np.argmin(first))]
    losses = [loss for one in scores for loss in one.losses]
    title = f"First click, {len(scores)} volumes"
    return [
        at_least(f"{title}: mean Dice", float(np.mean(first)), MEAN),
        at_least(f"{title}: least Dice", worst.dice[0], LEAST, worst.name),
        *(losing_bars("Drawn volumes", losses) if losses else ()),
        *wrong_bars(scores),
    ]


def wrong_bars(scores: Sequence[ClickScore]) -> list[Bar]:
    """Holds what wrong clicks do to right masks to bars; none without such clicks."""
    made = [(one.wrong, one.name) for one in scores if one.wrong is not None]
    if not made:
        return []
    kept, where_kept = min((wrong[0], name) for wrong, name in made)
    grown, where_grown = max((wrong[1], name) for wrong, name in made)
    return [
        at_least("Wrong click in a right mask: least left", kept, LEAST_KEPT, where_kept),
        Bar(
            "Wrong click beside a right mask: most growth",
            f"{grown:.3f} ({where_grown})",
            f"<= {MOST_GROWN:.3g}",
            grown <= MOST_GROWN,
        ),
    ]


def disc_bars() -> list[Bar]:
    """Measures a 2-D box on a disc one slice thick, and a negative click one slice beside it."""
    z, y, x = np.ogrid[tuple(slice(n) for n in DISC_SHAPE)]
    middle, around = DISC_SHAPE[0] // 2, (y - 32) ** 2 + (x - 32) ** 2 <= DISC_RADIUS**2
    disc = (z == middle) & around
    image = np.where(disc, 150, 60) + np.random.default_rng(0).normal(0, 8, DISC_SHAPE)
    found = np.zeros(DISC_SHAPE, np.uint8)
    session = Session()
    session.set_image(image[None])
    session.set_target_buffer(found)
    side = [32 - DISC_RADIUS, 32 + DISC_RADIUS + 1]
    session.add_bbox_interaction([[middle, middle + 1], side, side], True)
    boxed = dice(found > 0, disc)
    session.add_point_interaction((middle + 1, 32, 32), False)
    return [
        at_least("2-D box on a disc one slice thick: Dice", boxed, LEAST),
        at_least("The same, and a click beside it: Dice", dice(found > 0, disc), LEAST),
    ]


if __name__ == "__main__":
    sys.exit(main())

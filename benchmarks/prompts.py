"""Measures one prompt of each kind on drawn volumes: python -m benchmarks.prompts [--kind KIND].

Every volume gets a box, a lasso and a scribble on the middle slice of each plane, drawn as a hand
draws them, and a box in 3-D, each by itself; then several prompts together, in
several orders. Two bodies that are given as one segmentation get a negative click on the second.
Prints a row a prompt, what went wrong, then every bar with the figure measured beside it; the exit
code is 1 where one is missed. Takes minutes.

Where a prompt on a slice can't tell what the target is, it is left out: targets that the border of
the volume cuts off, which may go on anywhere, and sections in several pieces, of which nothing
tells that they belong together.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from benchmarks.bench import Bar, at_least, new_table, print_bars
from benchmarks.click_volumes import KINDS, deep_places, draw_click_volume, pick_voxel
from benchmarks.hands import draw_area, draw_stroke
from benchmarks.phantoms import Mask, Triple, dice, draw_slice_box, random_rotation, shade
from gamt import Session, segmenters
from gamt.axes import Plane, slice_view
from gamt.prompts import box_of_mask
from gamt.sample import Canvas

MEAN = 0.93
"""Dice after one prompt: mean over all volumes, for each kind of prompt and each plane."""

BODIES_LEAST = 0.90
"""Dice, with the first of two bodies, after a negative click on the second, of every pair."""

ORDERS_MEAN = 0.93
"""Dice between the results of the same prompts in another order, the mean."""

AGREED_MEAN = 0.99
"""Dice of the target, given as an initial segmentation, after a lasso by hand that agrees."""

COUNT = 4
"""Volumes of a kind."""

BESIDE = 3
"""Voxels from the target, at which a negative click is."""

ORDERS = ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1))
"""Orders of the box, the lasso, the scribble and the negative click."""

Add = Callable[[Session], object]
"""Gives a session a prompt."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A drawn volume with one target.

    Attributes:
        name: the kind and a number.
        image: (z, y, x), of any dtype and range.
        truth: (z, y, x) bool, the target.
        spacing_mm: (z, y, x).
    """

    name: str
    image: npt.NDArray[Any]
    truth: Mask
    spacing_mm: Triple


@dataclass(frozen=True, slots=True)
class Score:
    """How well a prompt went.

    Attributes:
        volume: its name.
        prompt: the kind of prompt, with its plane.
        dice: with the target; between results, for prompts in several orders.
    """

    volume: str
    prompt: str
    dice: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompts", description=__doc__)
    parser.add_argument(
        "--kind", action="append", choices=list(VOLUMES), help="draw these alone; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws other volumes (default 0)")
    parser.add_argument(
        "--count", type=int, default=COUNT, help=f"volumes of a kind (default {COUNT})"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args(arguments)
    for name in ("count", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: found {getattr(options, name)}, expected 1 or more")

    console = Console()
    kinds = options.kind or list(VOLUMES)
    jobs = [(kind, number) for kind in kinds for number in range(options.count)]
    with ProcessPoolExecutor(options.workers) as pool:
        results = pool.map(partial(score_prompts, seed=options.seed), *zip(*jobs, strict=True))
        scores = [
            one
            for some in track(results, "Prompts", len(jobs), console=console, transient=True)
            for one in some
        ]
    print_scores(scores, console)
    title = f"Bars: {segmenters.DEFAULT}, preset default, one prompt each"
    return print_bars(title, prompt_bars(scores), console)


def score_prompts(kind: str, number: int, seed: int) -> list[Score]:
    """Gives each prompt to one volume; those that can't tell its target are left out."""
    if kind == TWO_BODIES:
        return [score_two_bodies(number, seed)]
    volume = draw_volume(kind, number, seed)
    if is_cut_off(volume.truth):
        return []
    rng = np.random.default_rng([seed, number])
    scores = [
        Score(volume.name, prompt, dice(segment(volume, [add]), volume.truth))
        for prompt, add in single_prompts(volume.truth, rng)
    ]
    together = prompts_together(volume.truth, rng)
    if together:
        first, *others = (segment(volume, [together[n] for n in order]) for order in ORDERS)
        scores += [Score(volume.name, "another order", dice(first, one)) for one in others]
    scores += [
        Score(volume.name, AGREED, dice(segment(volume, [give(volume.truth), add]), volume.truth))
        for prompt, add in single_prompts(volume.truth, rng)
        if prompt.startswith("lasso")
    ]
    return scores


def segment(volume: Volume, prompts: Sequence[Add]) -> Mask:
    """Gives a new session the prompts, one after the other; returns what it has found."""
    session, found = Session(), np.zeros(volume.truth.shape, np.uint8)
    session.set_image(volume.image[None], {"spacing": volume.spacing_mm})
    session.set_target_buffer(found)
    for add in prompts:
        add(session)
    mask: Mask = found > 0
    return mask


def single_prompts(truth: Mask, rng: np.random.Generator) -> Iterator[tuple[str, Add]]:
    """Yields, by its name, each prompt that tells the target by itself."""
    for plane in Plane:
        if is_one_piece(middle_section(truth, plane)):
            name = plane.name.lower()
            yield f"2-D box, {name}", box_on(truth, plane)
            yield f"lasso, {name}", lasso_on(truth, plane, rng)
        yield f"scribble, {plane.name.lower()}", scribble_on(truth, plane, rng)
    yield "3-D box", box_around(truth)


def prompts_together(truth: Mask, rng: np.random.Generator) -> list[Add]:
    """Returns a box, a lasso on another plane, a scribble and a negative click beside the target.

    Without two planes whose middle sections are one piece, there are none.
    """
    planes = [plane for plane in Plane if is_one_piece(middle_section(truth, plane))]
    if len(planes) < 2:
        return []
    away = ndimage.distance_transform_edt(~truth)
    voxel = pick_voxel((away >= BESIDE) & (away < BESIDE + 1), rng)
    return [
        box_on(truth, planes[0]),
        lasso_on(truth, planes[1], rng),
        scribble_on(truth, planes[0], rng),
        lambda session: session.add_point_interaction(voxel, include_interaction=False),
    ]


def is_cut_off(truth: Mask) -> bool:
    """Says whether a target reaches the border of its volume."""
    return any(truth.take([0, -1], axis=axis).any() for axis in range(3))


def middle_section(truth: Mask, plane: Plane) -> Mask:
    """Returns (rows, columns) bool, what the middle slice holds of a target."""
    section: Mask = slice_view(truth, plane, draw_slice_box(truth, plane).index)
    return section


def is_one_piece(section: Mask) -> bool:
    """Says whether a section hangs together, at corners too."""
    return bool(ndimage.label(section, np.ones((3, 3)))[1] == 1)


def box_on(truth: Mask, plane: Plane) -> Add:
    """Draws the tight box on the middle slice."""
    box = draw_slice_box(truth, plane)
    bounds = [[a, b] for a, b in zip(box.low, box.high, strict=True)]
    return lambda session: session.add_bbox_interaction(bounds, include_interaction=True)


def box_around(truth: Mask) -> Add:
    """Draws the box of the target's slices, as wide as the target is on the middle one."""
    box = box_of_mask(truth)
    bounds = [[a, b] for a, b in zip(box.low, box.high, strict=True)]
    return lambda session: session.add_bbox_interaction(bounds, include_interaction=True)


def lasso_on(truth: Mask, plane: Plane, rng: np.random.Generator) -> Add:
    """Draws a lasso around the section of the middle slice."""
    drawing = np.zeros(truth.shape, np.uint8)
    index = draw_slice_box(truth, plane).index
    slice_view(drawing, plane, index)[:] = draw_area(middle_section(truth, plane), rng)
    return lambda session: session.add_lasso_interaction(drawing, include_interaction=True)


def give(truth: Mask) -> Add:
    """Gives the target as an initial segmentation."""
    return lambda session: session.add_initial_seg_interaction(truth)


def scribble_on(truth: Mask, plane: Plane, rng: np.random.Generator) -> Add:
    """Draws a scribble on the middle slice."""
    drawing = np.zeros(truth.shape, np.uint8)
    index = draw_slice_box(truth, plane).index
    slice_view(drawing, plane, index)[:] = draw_stroke(middle_section(truth, plane), rng)
    return lambda session: session.add_scribble_interaction(drawing, include_interaction=True)


def draw_volume(kind: str, number: int, seed: int) -> Volume:
    """Draws a volume of a kind; other numbers give other sizes, places and greys."""
    if kind in KINDS:
        drawn = draw_click_volume(kind, number, seed)
        return Volume(drawn.name, drawn.image, drawn.truth, drawn.spacing_mm)
    rng = np.random.default_rng([seed, list(VOLUMES).index(kind), number])
    canvas = plain_canvas(rng)
    truth = PLAIN[kind](canvas, rng)
    image = shade(truth.astype(np.uint8), [150], rng)
    return Volume(f"{kind} {number}", image, truth, canvas.spacing_mm)


def plain_canvas(rng: np.random.Generator) -> Canvas:
    """Returns a grid of 40 to 80 voxels a side, of which no two are alike, 1 to 3 mm apart."""
    z, y, x = rng.choice(np.arange(40, 81), 3, replace=False).tolist()
    first, second, third = rng.permutation([rng.uniform(1.5, 3.0), 1.0, rng.uniform(1.0, 1.5)])
    return Canvas((z, y, x), (float(first), float(second), float(third)))


def half_sides(canvas: Canvas, rng: np.random.Generator) -> Triple:
    """Returns half of a body's sides in mm: 0.2 to 0.35 of the grid's."""
    z, y, x = rng.uniform(0.2, 0.35, 3) * canvas.shape * np.array(canvas.spacing_mm)
    return float(z), float(y), float(x)


def cuboid(canvas: Canvas, rng: np.random.Generator) -> Mask:
    """A block along the axes."""
    inside: Mask = (np.abs(canvas.mm) <= half_sides(canvas, rng)).all(axis=-1)
    return inside


def cylinder(canvas: Canvas, rng: np.random.Generator) -> Mask:
    """A cylinder along one axis."""
    scaled = canvas.mm / np.array(half_sides(canvas, rng))
    along = int(rng.integers(3))
    around = np.delete(scaled, along, axis=-1)
    inside: Mask = (np.abs(scaled[..., along]) <= 1) & ((around**2).sum(axis=-1) <= 1)
    return inside


def tilted(canvas: Canvas, rng: np.random.Generator) -> Mask:
    """An ellipsoid, a little tilted."""
    return canvas.ellipsoid((0, 0, 0), half_sides(canvas, rng), random_rotation(rng, 0.2))


PLAIN: Mapping[str, Callable[[Canvas, np.random.Generator], Mask]] = {
    one.__name__: one for one in (cuboid, cylinder, tilted)
}
"""What draws the plain shapes, flat and with little noise."""

TWO_BODIES, AGREED = "two bodies", "lasso, after the target"

VOLUMES: Sequence[str] = (*KINDS, *PLAIN, TWO_BODIES)
"""The kinds of volumes: those of `click_volumes`, the plain shapes, and two bodies."""


def score_two_bodies(number: int, seed: int) -> Score:
    """Clicks away the second of two bodies that are given as one segmentation.

    The second has 0.5 to 1 times the radii of the first; nothing of them touches.
    """
    rng = np.random.default_rng([seed, number])
    canvas = Canvas((48, 72, 96), (float(rng.uniform(1, 2.5)), 1.0, 1.2))
    radii = rng.uniform(0.15, 0.22, 3) * canvas.shape * np.array(canvas.spacing_mm)
    away = 0.25 * canvas.shape[2] * canvas.spacing_mm[2]
    (z, y, x), (w, v, u) = radii, radii * rng.uniform(0.5, 1)
    first = canvas.ellipsoid((0, 0, -away), (z, y, x), random_rotation(rng, 0.2))
    second = canvas.ellipsoid((0, 0, away), (w, v, u), random_rotation(rng, 0.2))
    image = shade((first | second).astype(np.uint8), [150], rng)
    volume = Volume(f"{TWO_BODIES} {number}", image, first, canvas.spacing_mm)
    click = pick_voxel(deep_places(second), rng)
    found = segment(
        volume,
        [
            lambda session: session.add_initial_seg_interaction(first | second),
            lambda session: session.add_point_interaction(click, include_interaction=False),
        ],
    )
    return Score(volume.name, TWO_BODIES, dice(found, first))


def print_scores(scores: Sequence[Score], console: Console) -> None:
    """Prints a row a prompt, and the volumes on which one went wrong."""
    grid = new_table("Drawn volumes: Dice after one prompt", "Prompt", "Number", "Mean", "Lowest")
    for prompt, some in by_prompt(scores).items():
        values = [one.dice for one in some]
        grid.add_row(prompt, str(len(values)), f"{np.mean(values):.3f}", f"{min(values):.3f}")
    console.print(grid)
    for one in scores:
        if one.dice < MEAN:
            console.print(f"{one.volume}, {one.prompt}: Dice {one.dice:.3f}")


def by_prompt(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Returns the scores by kind of prompt."""
    found: dict[str, list[Score]] = {}
    for one in scores:
        found.setdefault(one.prompt, []).append(one)
    return found


def prompt_bars(scores: Sequence[Score]) -> list[Bar]:
    """Holds every kind of prompt to its bar."""
    bars = []
    for prompt, some in by_prompt(scores).items():
        worst = min(some, key=lambda one: one.dice)
        mean = float(np.mean([one.dice for one in some]))
        if prompt == TWO_BODIES:
            name = "Negative click on the second of two bodies: least Dice"
            bars.append(at_least(name, worst.dice, BODIES_LEAST, worst.volume))
        elif prompt == "another order":
            bars.append(at_least("The same prompts in another order: mean Dice", mean, ORDERS_MEAN))
        elif prompt == AGREED:
            name = "A lasso that agrees with an initial segmentation: mean Dice"
            bars.append(at_least(name, mean, AGREED_MEAN, worst.volume))
        else:
            bars.append(at_least(f"{prompt}: mean Dice", mean, MEAN, f"{len(some)} volumes"))
    return bars


if __name__ == "__main__":
    sys.exit(main())

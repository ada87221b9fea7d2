"""A target of a document: its name and colour, its steps, and the voxels that it claims."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gamt.annotation.steps import Step
from gamt.annotation.views import Disagreement
from gamt.history import History, PackedMask
from gamt.io.labels import is_label_name

COLORS = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#88CCEE",
    "#DDCC77",
    "#44AA99",
    "#AA4499",
    "#999933",
    "#882255",
    "#BBBBBB",
    "#EE8866",
    "#77AADD",
)
"""Colours of targets in the order of their ids: those of Okabe and Ito, and then of Paul Tol's
schemes "muted" and "light", which people who see no red or no green tell apart as well."""

MOST_NAME = 100
"""Characters of a target's name."""


@dataclass(slots=True, eq=False)
class Target:
    """One target.

    Attributes:
        id: 1 to 255, its value in the label map.
        name: for people; `gamt.io.labels.is_label_name` says what is one.
        color: #rrggbb.
        visible: whether the page shows it.
        locked: whether nothing changes it.
        history: its steps.
        claim: (z, y, x), the voxels that it has, but for those that others have; None before any.
        rank: of two claims, the one with the higher rank has the voxel.
        disagreement: of the views of its last prediction; None once something else was done.
    """

    id: int
    name: str
    color: str
    visible: bool = True
    locked: bool = False
    history: History[Step] = field(default_factory=lambda: History(Step()))
    claim: PackedMask | None = None
    rank: int = 0
    disagreement: Disagreement | None = None

    @property
    def step(self) -> Step:
        """The last one."""
        return self.history.state

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was ever done to it, and it has no name of its own."""
        is_empty = not self.step.actions and len(self.history.states) == 1
        return is_empty and self.name == default_name(self.id)


def default_name(number: int) -> str:
    """Returns the name of a target for which none was chosen."""
    return f"Target {number}"


def default_color(target_id: int) -> str:
    """Returns the colour of a target for which none was chosen."""
    return COLORS[(target_id - 1) % len(COLORS)]


def read_name(text: str) -> str:
    """Returns a target's name, without spaces around it.

    Raises:
        ValueError: files of prompts and the command line couldn't keep it.
    """
    name = text.strip()
    if not is_label_name(name) or not name.isprintable() or len(name) > MOST_NAME:
        expected = f"some, {MOST_NAME} characters at most, that are no number and have no colon"
        raise ValueError(f"found the name {text[:MOST_NAME]!r}, expected {expected}")
    return name


def read_color(text: str) -> str:
    """Returns a colour, #rrggbb.

    Raises:
        ValueError: it is none.
    """
    digits = text.removeprefix("#")
    if len(text) != 7 or len(digits) != 6 or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise ValueError(f"found the colour {text[:20]!r}, expected one like #e69f00")
    return text.upper()


def paint(claim: PackedMask, value: int, onto: npt.NDArray[np.uint8], low: list[int]) -> None:
    """Writes a value to the voxels of a claim.

    Args:
        claim: (z, y, x).
        value: to be written.
        onto: (z, y, x), a part of the scan; is changed.
        low: its first voxel.
    """
    here, there = [], []
    for one, first, size in zip(claim.where, low, onto.shape, strict=True):
        start, stop = max(one.start, first), min(one.stop, first + size)
        if start >= stop:
            return
        here.append(slice(start - first, stop - first))
        there.append(slice(start - one.start, stop - one.start))
    onto[tuple(here)][claim.part()[tuple(there)]] = value

"""What users draw on a page, and how a session is told of it.

Voxels are the page's (i, j, k), bounds half-open (`gamt.annotation.grid`). The page's types.ts has
the same kinds, with the same members.
"""

from dataclasses import dataclass
from typing import Any, Literal

from gamt.annotation.grid import Voxel
from gamt.axes import Plane
from gamt.io.json_files import JsonValue
from gamt.session import Session


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A voxel.

    Attributes:
        voxel: (i, j, k).
        positive: whether it is inside of the target.
    """

    voxel: Voxel
    positive: bool


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """A box in 3-D, or on one slice.

    Attributes:
        low: the first voxel (i, j, k) inside.
        high: the voxel just past the last one inside, on every axis.
        positive: whether it is around the target or a part of it; else around what isn't.
        plane: of the slice that it was drawn on; None for a box in 3-D.
    """

    low: Voxel
    high: Voxel
    positive: bool
    plane: Plane | None = None


@dataclass(frozen=True, slots=True)
class DrawnPrompt:
    """A line that was drawn on a slice: a scribble, or a lasso around an area.

    Attributes:
        kind: which of the two.
        plane: of the slice.
        index: of the slice, along the page's axis that the plane's slices follow each other on.
        points: of the line, in voxels along the two other axes, in the order i, j, k; the centre
            of voxel 3 is at 3.0.
        radius: of a scribble's pen, in voxels; of no meaning for a lasso.
        positive: whether what is drawn is inside of the target.
    """

    kind: Literal["scribble", "lasso"]
    plane: Plane
    index: int
    points: tuple[tuple[float, float], ...]
    radius: float
    positive: bool


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """A segmentation that the target began with.

    Attributes:
        name: of the file.
    """

    name: str


NewPrompt = PointPrompt | BoxPrompt | DrawnPrompt


def read_prompt(entry: JsonValue) -> NewPrompt:
    """Reads a prompt as the page sends it (`NewPrompt` in types.ts).

    Raises:
        JsonError: it is none; where it lies in the image is not looked at.
    """
    raise NotImplementedError


def describe_prompt(prompt: NewPrompt | MaskPrompt) -> dict[str, Any]:
    """Returns a prompt as the page gets it, but for its number (`Prompt` in types.ts)."""
    raise NotImplementedError


def add_prompt(session: Session, prompt: NewPrompt) -> None:
    """Adds a prompt to a session, without a prediction.

    Raises:
        ValueError: it holds no voxel of the image.
    """
    raise NotImplementedError

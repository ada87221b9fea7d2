"""One target out of several boxes and lassos, each of which was lifted by itself.

Sections that the user drew on several slices of one body are several looks at it, each of which is
most to be trusted near its own slice: they vote, but for those that another one betters on every
slice drawn on. On a slice with a drawn section, nothing of the same piece is inside beside it. What
was drawn for the most part beside what the others found is another part of the target, and takes
nothing of it away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import Plane, slice_view
from gamt.lifting.bodies import Part
from gamt.lifting.postprocess import keep_pieces
from gamt.lifting.sections import SLACK, holds_most_of, misfit, section_of, size_of
from gamt.prompts import Box, SliceBox

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Extent:
    """What a user drew around a target or a part of it, and what was found in it.

    Attributes:
        drawn: the box or lasso.
        found: when it was lifted by itself; None if that was nothing.
    """

    drawn: Box | SliceBox
    found: Part | None


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What was found from a section that was drawn on one slice."""

    section: SliceBox
    found: Part


def compose(extents: Sequence[Extent], initial: Mask, spacing_mm: Sequence[float]) -> Mask:
    """Makes one target of several extents.

    Args:
        extents: in any order.
        initial: (z, y, x) bool, what is inside in any case, such as an initial segmentation.
        spacing_mm: the voxel's size (z, y, x).

    Returns:
        (z, y, x) bool, the target.
    """
    target, certain = initial.copy(), initial.copy()
    looks = []
    for one in extents:
        if one.found is None:
            continue
        if isinstance(one.drawn, SliceBox):
            looks.append(Look(one.drawn, one.found))
        else:
            add(target, one.found)
            add(certain, one.found)
    for body in bodies_of(looks):
        add(target, vote(unbettered(body), spacing_mm))
    sections = [one.drawn for one in extents if isinstance(one.drawn, SliceBox)]
    cut_leaks(target, sections, initial)
    for section in sections:
        area = section_of(section, (0, 0, 0), target.shape)
        slice_view(certain, section.plane, section.index)[area] = True
    return keep_pieces(target, certain)


def is_another_part(drawn: SliceBox, found: Part) -> bool:
    """Says whether what is drawn is for the most part beside what was found before it was drawn.

    It is a look at the same thing where most of the section drawn was found already, or where most
    of what was found is in front of the section or behind it.

    Args:
        drawn: a box or lasso.
        found: not empty.
    """
    area = section_of(drawn, found.low, found.mask.shape)
    around = np.count_nonzero(found.mask & np.expand_dims(area, drawn.plane.normal))
    is_around = 2 * around > np.count_nonzero(found.mask)
    return not is_around and not holds_most_of(drawn, found)


def add(target: Mask, part: Part) -> None:
    """Adds a part to a target (z, y, x)."""
    low, high = part.bounds
    target[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] |= part.mask


def bodies_of(looks: Sequence[Look]) -> list[list[Look]]:
    """Groups looks at the same body: each of two found most of the other's section."""
    bodies: list[list[Look]] = []
    for one in looks:
        same = [body for body in bodies if any(are_alike(one, other) for other in body)]
        bodies = [body for body in bodies if body not in same]
        bodies.append([one, *(other for body in same for other in body)])
    return bodies


def are_alike(one: Look, other: Look) -> bool:
    """Says whether each of two looks found most of the other's section."""
    return holds_most_of(one.section, other.found) and holds_most_of(other.section, one.found)


def unbettered(body: Sequence[Look]) -> list[Look]:
    """Returns the looks at a body but for those that another one betters.

    That one has every section that was drawn of the body as exactly, and one more exactly.
    """
    missed = np.array([[misfit(one.section, look.found) for one in body] for look in body])
    return [
        look
        for look, mine in zip(body, missed, strict=True)
        if not ((missed <= mine).all(axis=1) & (missed < mine).any(axis=1)).any()
    ]


def vote(body: Sequence[Look], spacing_mm: Sequence[float]) -> Part:
    """Lets looks at one body vote, with weights that fall with the distance from their slices.

    Args:
        body: the looks; one at least.
        spacing_mm: the voxel's size (z, y, x).

    Returns:
        What has half of the weight at least; of a single look, what it found.
    """
    if len(body) == 1:
        return body[0].found
    bounds = np.array([one.found.bounds for one in body])
    (z0, y0, x0), (z1, y1, x1) = (
        bounds[:, 0].min(axis=0).tolist(),
        bounds[:, 1].max(axis=0).tolist(),
    )
    low, high = (z0, y0, x0), (z1, y1, x1)
    inside = np.zeros(np.subtract(high, low), np.bool_)
    masks = [one.found.within((low, high)) for one in body]
    weights = []
    for one in body:
        normal = one.section.plane.normal
        away = np.abs(np.arange(low[normal], high[normal]) - one.section.index)
        across = [axis for axis in range(3) if axis != normal]
        weight = 1 / (spacing_mm[normal] * (away + 1.0))
        weights.append(np.broadcast_to(np.expand_dims(weight, across), inside.shape))
    for z in range(len(inside)):  # by slice, so that what is in between stays small
        half = sum(weight[z] for weight in weights) / 2
        inside[z] = sum(w[z] * mask[z] for w, mask in zip(weights, masks, strict=True)) >= half
    return Part(low, inside)


def cut_leaks(target: Mask, sections: Sequence[SliceBox], initial: Mask) -> None:
    """Takes away, on the slices drawn on, what is in one piece with a section but beside it.

    Args:
        target: (z, y, x) bool; is changed.
        sections: all that were drawn.
        initial: (z, y, x) bool, what stays in any case.
    """
    slices: dict[tuple[Plane, int], list[SliceBox]] = {}
    for one in sections:
        slices.setdefault((one.plane, one.index), []).append(one)
    leaks = {
        (plane, index): beside(slice_view(target, plane, index), drawn, target.shape)
        & ~slice_view(initial, plane, index)
        for (plane, index), drawn in slices.items()
    }
    for (plane, index), leak in leaks.items():
        slice_view(target, plane, index)[leak] = False


def beside(found: Mask, sections: Sequence[SliceBox], shape: Sequence[int]) -> Mask:
    """Returns (rows, columns) bool, the pieces of a slice that are sections' but beside them all.

    Args:
        found: (rows, columns) bool, what a target has on the slice.
        sections: drawn on the slice. A piece is one's that has most of its area.
        shape: of the scan (z, y, x).
    """
    pieces, _ = ndimage.label(found, np.ones((3, 3)))
    leak, inside = np.zeros_like(found), np.zeros_like(found)
    for section in sections:
        inside |= section_of(section, (0, 0, 0), shape, SLACK)
        sizes = np.bincount(pieces[section_of(section, (0, 0, 0), shape)], minlength=2)
        sizes[0] = 0
        if 2 * sizes.max() > size_of(section):
            leak |= pieces == np.argmax(sizes)
    return leak & ~inside

"""One target out of several boxes and lassos, each of which was lifted by itself.

A target is what any of them found. Where one found a section that the user drew himself on another
slice, the drawn one counts:

- of sections on parallel slices, each is followed as far as half way to the next;
- beside a section, on its slice, nothing of the same piece is inside: it has leaked.

What was drawn for the most part beside what the others found is another part of the target, and
takes nothing of it away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import Plane, bounding_range, slice_view, to_volume
from gamt.lifting.bodies import Part
from gamt.lifting.postprocess import label_components
from gamt.lifting.sections import SLACK, found_on, holds_most_of, section_of, size_of
from gamt.prompts import Box, Region, SliceBox

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


def compose(extents: Sequence[Extent], initial: Mask) -> tuple[Mask, tuple[Region, ...]]:
    """Makes one target of several extents.

    Args:
        extents: in any order.
        initial: (z, y, x) bool, what is inside in any case, such as an initial segmentation.

    Returns:
        (z, y, x) bool, the target; and what of it has leaked beside the sections that were drawn,
        to be taken away on their slices and around them.
    """
    kept = [Extent(one.drawn, end_at_sections(one, extents)) for one in extents]
    target = initial.copy()
    for one in kept:
        if one.found is not None:
            low, high = one.found.bounds
            target[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] |= one.found.mask
    return target, tuple(find_leaks(kept, initial))


def end_at_sections(extent: Extent, extents: Sequence[Extent]) -> Part | None:
    """Returns what of an extent is nearer to its own slice than to another one that it comes to.

    From half way to a parallel slice with a drawn section on, what hangs together with that section
    is left to the extent that was drawn there; between the slices, as far as that one goes.
    """
    drawn, found = extent.drawn, extent.found
    if found is None or not isinstance(drawn, SliceBox):
        return found
    mask = found.mask.copy()
    for other in extents:
        section = other.drawn
        if (
            other.found is not None
            and isinstance(section, SliceBox)
            and section.plane is drawn.plane
            and section.index != drawn.index
            and holds_most_of(section, found)
        ):
            mask &= ~beyond(drawn, found, section, other.found)
    return Part.tight(found.low, mask) if mask.any() else None


def beyond(drawn: SliceBox, found: Part, section: SliceBox, other: Part) -> Mask:
    """Returns (z, y, x) bool over what was found, the part that another section is nearer to.

    Args:
        drawn: what it was found from.
        found: comes to `section`.
        section: drawn on a parallel slice.
        other: what was found from `section`.
    """
    normal = drawn.plane.normal
    across = tuple(axis for axis in range(3) if axis != normal)
    layers = found.low[normal] + np.arange(found.mask.shape[normal])
    way = np.sign(section.index - drawn.index)
    nearer = way * (2 * layers - drawn.index - section.index) > 0
    other_layers = other.low[normal] + np.flatnonzero(other.mask.any(axis=across))
    left_to_other = (way * (layers - section.index) >= 0) | np.isin(layers, other_layers)
    pieces = label_components(found.mask & np.expand_dims(nearer, across))
    here = slice_view(pieces, drawn.plane, section.index - found.low[normal])
    reached = np.unique(here[section_of(section, found.low, found.mask.shape)])
    same = np.isin(pieces, reached[reached > 0])
    passed_on: Mask = same & np.expand_dims(left_to_other, across)
    return passed_on


def find_leaks(extents: Sequence[Extent], initial: Mask) -> list[Region]:
    """Returns, slice by slice, what was found in one piece with a drawn section but beside it.

    Args:
        extents: those on the slice itself, and others that come to it.
        initial: (z, y, x) bool, what has not leaked.
    """
    slices: dict[tuple[Plane, int], list[SliceBox]] = {}
    for one in extents:
        if isinstance(one.drawn, SliceBox):
            slices.setdefault((one.drawn.plane, one.drawn.index), []).append(one.drawn)
    leaks = []
    for (plane, index), sections in slices.items():
        leak = np.zeros_like(slice_view(initial, plane, index))
        for one in extents:
            if one.drawn not in sections and one.found is not None:
                whole = found_on(sections[0], one.found)
                if whole is not None:
                    leak[_in_slice(plane, one.found)] |= beside(whole, one.found, sections)
        leak &= ~slice_view(initial, plane, index)
        bounds = bounding_range(leak)
        if bounds is not None:
            (row, column), _ = bounds
            part = leak[tuple(slice(a, b) for a, b in zip(*bounds, strict=True))]
            leaks.append(
                Region(
                    to_volume(plane, index, (column, row)),
                    np.expand_dims(part, plane.normal),
                    positive=False,
                )
            )
    return leaks


def beside(found: Mask, part: Part, sections: Sequence[SliceBox]) -> Mask:
    """Returns (rows, columns) bool, the pieces of a slice that are sections' but beside them all.

    Args:
        found: (rows, columns) bool, what the part has on the slice.
        part: of the scan.
        sections: drawn on the slice. A piece is one's that has most of its area.
    """
    pieces, _ = ndimage.label(found, np.ones((3, 3)))
    leak, inside = np.zeros_like(found), np.zeros_like(found)
    for section in sections:
        area = section_of(section, part.low, part.mask.shape)
        inside |= section_of(section, part.low, part.mask.shape, SLACK)
        sizes = np.bincount(pieces[area], minlength=2)
        sizes[0] = 0
        if 2 * sizes.max() > size_of(section):
            leak |= pieces == np.argmax(sizes)
    return leak & ~inside


def _in_slice(plane: Plane, part: Part) -> tuple[slice, slice]:
    """Returns the rows and columns that a part of the scan has in its slices of a plane."""
    low, high = part.bounds
    return (
        slice(low[plane.row_axis], high[plane.row_axis]),
        slice(low[plane.column_axis], high[plane.column_axis]),
    )

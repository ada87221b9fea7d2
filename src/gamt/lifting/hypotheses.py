"""What a box contradicts: other masks for its slice where the segmenter's answer is plainly wrong.

A target touches all four sides of the box that is drawn around it, and ends there. So where the
pixels darker or brighter than some threshold, in the slice of the box, touch all of its sides and
don't go on beyond, this is hardly by chance: that may be the target. An answer whose border shows
no edge is given up for such a mask with a clear one. A segmenter that knows more than intensities
is given up only where its mask misses the box itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.axes import bounding_range
from gamt.lifting.propagation import tight_box
from gamt.lifting.views import widen
from gamt.prompts import PixelBox
from gamt.segmenters.borders import border_contrast

Mask = npt.NDArray[np.bool_]

SURROUNDINGS = 0.5
"""Share of the box's sides that is looked at around it (docs/constants.md)."""

LEAST_SURROUNDINGS = 4
"""Pixels that are looked at around the box at least (docs/constants.md)."""

WORKING_SIDE = 96
"""Pixels to which a longer side of a box is thinned out (docs/constants.md)."""

THRESHOLDS = 24
"""Thresholds that are tried: quantiles of the intensities in the box (docs/constants.md)."""

MARGIN, MARGIN_OF_BOX = 5 / 256, 0.2
"""Room that a box may leave between its side and the target: a share of the slice's side
(docs/challenge.md, 2), and the most as a share of the box's own (docs/constants.md)."""

LEAST_OVERLAP = 0.25
"""A mask whose bounds overlap its box less than this (intersection over union) misses the box
(docs/constants.md)."""

OPEN_BORDER = 0.1
"""Share of a body's border, and of the box's, at which it may go on beyond (docs/constants.md)."""

LOOSE_BOX = 1
"""Pixels by which a body may stick out of its box (docs/constants.md)."""

LEAST_BODY = 0.1
"""A body counts from this share of the largest one's size (docs/constants.md)."""

MOST_BODIES = 3
"""More bodies than that are noise (docs/constants.md)."""

MOST_INSIDE = 0.75
"""Of all pixels of its intensity in the box, a target has this share at least: in noise and
textures, what goes on beyond the box has more of them (docs/constants.md)."""

MOST_HOLE = 0.03
"""Holes up to this share of the mask are filled (docs/constants.md)."""

LEAST_FILL = 0.1
"""A target fills this share of its box at least (docs/constants.md)."""

MOST_GROWTH = 2.0
"""A body that is followed grows by this factor at most from one slice to the next
(docs/constants.md)."""

KEPT_CONTRAST = 0.5
"""A body that is followed keeps this share of its border's contrast (docs/constants.md)."""

NEARLY_BEST = 0.9
"""Of masks with this share of the best contrast, the largest is taken: a core has an edge, too
(docs/constants.md)."""

CLEARER, CLEAR = 2.0, 1.5
"""A hypothesis replaces an answer if its border's contrast is this many times the answer's, and
this much at least (docs/constants.md)."""

ELLIPSE_AS_CLEAR, ELLIPSE_CLEAR = 0.5, 0.4
"""The ellipse replaces an answer if its border's contrast is this share of the answer's, and this
much at least (docs/constants.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """What a target may be in the slice of its box.

    Attributes:
        mask: (rows, columns) bool, of the slice.
        contrast: of its border, see `gamt.segmenters.borders`.
        interval: bounds of the intensities inside, both inclusive; None for a drawn shape.
    """

    mask: Mask
    contrast: float
    interval: tuple[float, float] | None


def find_bodies(
    image: npt.NDArray[np.uint8], box: PixelBox, margin: tuple[float, float]
) -> list[Hypothesis]:
    """Finds what is darker or brighter than some threshold, fills the box and ends in it.

    Args:
        image: (rows, columns), 0..255.
        box: half-open pixels (x0, y0, x1, y1), not empty.
        margin: by how many pixels (rows, columns) the target may miss a side of the box.

    Returns:
        The hypotheses whose border's contrast is nearly the best, the largest first.
    """
    (x0, y0, x1, y1), shape = box, image.shape
    sides = x1 - x0, y1 - y0
    step = min(-(-max(sides) // WORKING_SIDE), *sides)
    room_y = max(LEAST_SURROUNDINGS * step, round(SURROUNDINGS * (y1 - y0)))
    room_x = max(LEAST_SURROUNDINGS * step, round(SURROUNDINGS * (x1 - x0)))
    rows = slice(max(0, y0 - room_y), min(shape[0], y1 + room_y))
    columns = slice(max(0, x0 - room_x), min(shape[1], x1 + room_x))
    pixels = image[rows, columns][::step, ::step].astype(np.float32)
    inside = np.zeros(shape, np.bool_)
    inside[y0:y1, x0:x1] = True
    inside = inside[rows, columns][::step, ::step]
    room = [
        max(1.0, min(one + 0.5, MARGIN_OF_BOX * side) / step)
        for one, side in zip(margin, (y1 - y0, x1 - x0), strict=True)
    ]
    found = []
    for low, high in intervals(pixels[inside]):
        mask = bodies((pixels >= low) & (pixels <= high), inside)
        if mask is not None and touches(mask, inside, room):
            contrast = border_contrast(pixels, mask)
            found.append(Hypothesis(mask, contrast, (low, high)))
    if not found:
        return []
    best = max(one.contrast for one in found)
    close = [one for one in found if one.contrast >= NEARLY_BEST * best]
    close.sort(key=lambda one: -int(one.mask.sum()))
    full = []
    for one in close:
        mask = np.zeros(shape, np.bool_)
        large = one.mask.repeat(step, axis=0).repeat(step, axis=1)
        part = mask[rows, columns]
        part[:] = large[: part.shape[0], : part.shape[1]]
        full.append(Hypothesis(mask, one.contrast, one.interval))
    return full


def intervals(intensities: npt.NDArray[np.float32]) -> Iterator[tuple[float, float]]:
    """Yields the bounds of all that is darker, or brighter, than each threshold."""
    shares = np.arange(1, THRESHOLDS + 1) / (THRESHOLDS + 1)
    for threshold in np.unique(np.quantile(intensities, shares, method="lower")).tolist():
        yield -np.inf, threshold
        yield threshold + 1, np.inf


def bodies(mask: Mask, inside: Mask) -> Mask | None:
    """Keeps the bodies that end in a box, and fills their small holes.

    Args:
        mask: (rows, columns) bool, of some intensity; it reaches beyond the box.
        inside: (rows, columns) bool, the box.

    Returns:
        (rows, columns) bool, inside the box; None if there are none, too many, or too little.
    """
    near = ndimage.binary_dilation(inside, np.ones((3, 3), np.bool_), iterations=LOOSE_BOX)
    parts = cc3d.connected_components(mask, connectivity=4)
    cut = np.where(near, parts, 0)
    sizes = np.bincount(cut.ravel(), minlength=int(parts.max()) + 1)
    sizes[0] = 0
    border = (cut > 0) & ~ndimage.binary_erosion(cut > 0)
    beyond = ndimage.binary_dilation(mask & ~near)
    length = np.bincount(cut[border], minlength=len(sizes))
    crossing = np.bincount(cut[border & beyond], minlength=len(sizes))
    sides = inside.any(axis=0).sum() + inside.any(axis=1).sum()
    whole = (sizes > 0) & (crossing <= OPEN_BORDER * np.minimum(length, 2 * sides))
    if not whole.any():
        return None
    whole &= sizes >= LEAST_BODY * sizes[whole].max()
    kept = whole[cut] & inside
    least = max(LEAST_FILL * inside.sum(), MOST_INSIDE * (mask & inside).sum())
    if whole.sum() > MOST_BODIES or kept.sum() < least:
        return None
    holes = cc3d.connected_components(ndimage.binary_fill_holes(kept) & ~kept, connectivity=4)
    small = np.bincount(holes.ravel()) <= max(1, MOST_HOLE * kept.sum())
    small[0] = False
    return np.asarray(kept | small[holes], np.bool_)


def touches(mask: Mask, inside: Mask, margin: Sequence[float]) -> bool:
    """Says whether a mask touches all sides of a box, but for a margin (rows, columns)."""
    found, drawn = bounding_range(mask), bounding_range(inside)
    if found is None or drawn is None:
        return False
    gaps = np.abs(np.subtract(found, drawn))
    return bool((gaps <= margin).all())


def follow(
    slices: Sequence[npt.NDArray[np.uint8]],
    start: Hypothesis,
    box: PixelBox,
) -> list[Mask]:
    """Follows a hypothesis from slice to slice, as long as it is a body of its own.

    Args:
        slices: each (rows, columns), 0..255, in the order in which they lie beside the box's slice.
        start: in the box's slice; it has an interval.
        box: half-open pixels (x0, y0, x1, y1); beside its slice the target may be wider.

    Returns:
        (rows, columns) bool for each slice, up to where the body vanishes or merges with others.
    """
    shape = start.mask.shape
    x0, y0, x1, y1 = widen(box, SURROUNDINGS, shape)
    part = slice(y0, y1), slice(x0, x1)
    before = start.mask[part]
    found: list[Mask] = []
    if start.interval is None:
        return found
    darkest, brightest = start.interval
    for pixels in slices:
        like = (pixels[part] >= darkest) & (pixels[part] <= brightest)
        components = cc3d.connected_components(like, connectivity=4)
        touched = np.zeros(int(components.max()) + 1, np.bool_)
        touched[components[before]] = True
        touched[0] = False
        here = touched[components]
        area = here.sum()
        if area == 0 or area > MOST_GROWTH * before.sum():
            break
        if border_contrast(pixels[part].astype(np.float32), here) < KEPT_CONTRAST * start.contrast:
            break
        border = here & ~ndimage.binary_erosion(here)
        leaving = np.concatenate([here[0, :], here[-1, :], here[:, 0], here[:, -1]])
        if leaving.sum() > OPEN_BORDER * border.sum():
            break
        mask = np.zeros(shape, np.bool_)
        mask[part] = here
        found.append(mask)
        before = here
    return found


def misses(mask: Mask, box: PixelBox) -> bool:
    """Says whether a mask and a box, half-open pixels (x0, y0, x1, y1), hardly overlap."""
    found = tight_box(mask)
    if found is None:
        return True
    (a, b), (c, d) = (
        (np.subtract(one[:2], LOOSE_BOX), np.add(one[2:], LOOSE_BOX)) for one in (found, box)
    )
    both = np.prod((np.minimum(b, d) - np.maximum(a, c)).clip(0))
    return bool(both < LEAST_OVERLAP * (np.prod(b - a) + np.prod(d - c) - both))


def contradict(
    image: npt.NDArray[np.uint8],
    box: PixelBox,
    margin: tuple[float, float],
    answer: Mask,
    intensities_alone: bool,
) -> Hypothesis | None:
    """Returns what the target is rather than a segmenter's answer; None if the answer stands.

    Args:
        image: (rows, columns), 0..255, the slice that the box is drawn on.
        box: half-open pixels (x0, y0, x1, y1), not empty.
        margin: by how many pixels (rows, columns) the target may miss a side of the box.
        answer: (rows, columns) bool.
        intensities_alone: whether the segmenter knows nothing else. What it sees has an edge; one
            that knows shapes is given up only if its mask misses the box.
    """
    rejected = misses(answer, box)
    if not rejected and not intensities_alone:
        return None
    pixels = image.astype(np.float32)
    contrast = 0.0 if rejected else border_contrast(pixels, answer)
    drawn = ellipse(box, image.shape)
    shape = Hypothesis(drawn, border_contrast(pixels, drawn), None)
    enough = max(ELLIPSE_CLEAR, ELLIPSE_AS_CLEAR * contrast)
    unclear = not rejected and contrast < CLEAR and shape.contrast >= enough
    # Where the ellipse will do, a body has to be beyond doubt.
    least = CLEARER * (CLEAR if unclear else contrast)
    for body in find_bodies(image, box, margin)[:1]:
        if body.contrast >= max(CLEAR, least):
            return body
    return shape if rejected or unclear else None


def ellipse(box: PixelBox, shape: tuple[int, ...]) -> Mask:
    """Draws the ellipse inscribed in a box (x0, y0, x1, y1) into a slice (rows, columns)."""
    x0, y0, x1, y1 = box
    y, x = np.ogrid[: shape[0], : shape[1]]
    away_y = (y - (y0 + y1 - 1) / 2) / ((y1 - y0) / 2)
    away_x = (x - (x0 + x1 - 1) / 2) / ((x1 - x0) / 2)
    return np.asarray(away_y**2 + away_x**2 <= 1, np.bool_)

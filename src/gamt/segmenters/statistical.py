"""The embedded default: a promptable segmenter made of image statistics alone.

It needs no checkpoint and no GPU. It is Bayes' rule on the pixels of a window around the prompt:

* the prompt gives every pixel prior log-odds (a soft ellipse in the box, or the earlier mask);
* histograms of the intensities inside and outside, weighted by what is known so far, give a
  likelihood ratio; posterior and histograms improve each other in a few rounds;
* a Potts model whose bonds break at edges lets neighbours agree (mean-field inference);
* with a box alone, the threshold moves until the mask fills the box.

The numbers were chosen on slices and walks of 16 public labelled scans (CT, MR, PET, microscopy)
and on flat-shaded phantoms, together, by random search and by hand, for the mean Dice. That search
is not in the repository; docs/constants.md lists what it chose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit, logit

from gamt.prompts import SlicePrompt
from gamt.segmenters import histograms
from gamt.segmenters.base import SliceMask, Traits
from gamt.segmenters.borders import border_contrast
from gamt.segmenters.window import (
    LIMIT,
    WORKING_SIDE,
    Array,
    SubpixelBox,
    Window,
    make_window,
)

Image = npt.NDArray[np.uint8]

MARGIN_SHARE, MARGIN_PIXELS = 0.21, 6.0
"""Room around the prompt: a share of its longer side, and pixels on top."""

HISTOGRAM_BLUR, LEAST_RANGE = 1.56, 90.0
"""Smoothing of the intensity histograms, in bins of the window's range, and the least range that
the bins span, in grey levels: a flat window's noise is not taken for contrast."""

RANGE_PERCENTILES, RANGE_ROOM = (1, 99), 1.05
"""The percentiles of the window's intensities that the bins span, and the factor by which they span
more than that."""

LEAST_PURE = 0.02
"""Share of the foreground's density that is left of it at least when the background's is taken
out."""

FINE_WEIGHT, SMOOTH_WEIGHT, SMOOTH_SIGMA = 0.87, 0.48, 1.0
"""Weights of the likelihood ratio of the pixel's own intensity and of the smoothed one, and the
standard deviation of that smoothing, in pixels of the window's grid."""


@dataclass(frozen=True, slots=True)
class _Tuning:
    """Numbers that differ between a prompt with an earlier mask and one without.

    Attributes:
        rounds: of histograms and posterior.
        evidence: weight of the likelihood ratio beside the prior.
        cap: the most that the likelihood ratio of one intensity says, as log-odds.
        impurity: share of the background's density that is taken out of the foreground's.
        caution: exponent of the densities' separation, 0..1, by which the ratio is multiplied: the
            more they overlap, the less the intensities say.
        bond: strength of the Potts model's bonds in flat regions, as log-odds.
    """

    rounds: int
    evidence: float
    cap: float
    impurity: float
    caution: float
    bond: float


FROM_BOX = _Tuning(rounds=4, evidence=1.3, cap=2.95, impurity=0.54, caution=1.0, bond=1.17)
FROM_MASK = _Tuning(rounds=3, evidence=2.4, cap=4.0, impurity=0.7, caution=3.0, bond=0.4)

BOX_POWER, BOX_STEEPNESS, BOX_EDGE, BOX_CAP, BOX_FLOOR = 1.76, 8.2, 0.975, 2.5, -3.0
"""The box's superellipse: its exponent, the slope of the log-odds per half-axis, the half-axes at
which they are zero, the most and the least that they are."""

BOX_SLACK, BOX_OUTSIDE = 0.8, 3.5
"""Pixels that a box is taken to be too large on every side, and log-odds lost per pixel outside."""

MASK_BLUR, MASK_INSIDE, MASK_OUTSIDE = 2.0, 2.5, 4.0
"""Standard deviation of the smoothing of an earlier mask, in pixels, as targets move from slice to
slice, and the most that the mask says inside and outside, as log-odds."""

MASK_BEYOND, MASK_BEYOND_SLACK = 0.5, 3.0
"""Log-odds lost per pixel outside of a box that comes with a mask, from this many pixels on."""

EDGE_CONTRAST, EDGE_SIGMA, POTTS_STEPS, FINAL_BLUR = 10.8, 0.5, 5, 0.45
"""Difference of intensity at which a bond weakens, the smoothing at which it is taken, the steps of
mean-field inference, and the final smoothing of the log-odds; both in pixels of the grid."""

FIT_BIAS, FIT_BOX = 0.15, 0.82
"""Costs of moving the threshold by a log-odd and of missing the box's sides."""

FIT_RANGE, FIT_STEPS, FIT_SLACK = 2.0, 17, 1.5
"""The largest shift of the threshold either way, as log-odds, and how many shifts are tried. A mask
costs nothing that ends inside of the box by at most twice the third number, in pixels of the grid.
"""

CLICK_WEIGHT, CLICK_REACH, CLICK_CONTRAST = 14.0, 0.15, 15.0
"""Log-odds at a click, and the standard deviations by which they fall: with the distance, as a
share of the box's shorter side, and with the difference of intensity."""

OBEYED = 2.0
"""Least log-odds of the clicked pixels themselves, on the click's side."""

DRIFT = 1.1
"""Log-odds taken from every step of a walk: what leaks a little leaks far in the end."""

LEAST_TRUST, CLEAR_CONTRAST = 0.4, 4.0
"""Neighbouring pixels err together, so that the log-odds are too sure. They are multiplied by the
border's contrast over the second number, at least by the first, and at most by one."""

DOUBT = 0.35
"""Share of the quality that a border without contrast costs."""

SPECK = 0.15
"""A component with less than this share of the largest one's prior mass is rejected."""

CLICK_ROOM = 4
"""Pixels to each side of a lone click without a region around it: the box that stands for it."""

CLICK_REGIONS = 3
"""Regions around a lone click that are segmented, those with the clearest borders."""

FLOOD_RADII = (48, 192)
FLOOD_TOLERANCES = (4, 6, 8, 11, 14, 18, 23, 29, 36, 45, 56, 70, 88)
"""Windows, in pixels to each side of a lone click, and differences of intensity up to which pixels
belong to the click's region."""

FLOOD_GROWTH, FLOOD_LIMIT, FLOOD_PENALTY = 1.05, 0.6, 0.5
"""The factor by which a region has to grow to count as another one, the share of its window above
which it is none, and the weight of the logarithm of the growth against the border's gradient."""


def box_prior(window: Window, box: SubpixelBox) -> Array:
    """Returns the log-odds that a box gives: a superellipse, and steeply less outside."""
    half_x, half_y = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    half_x, half_y = max(half_x - BOX_SLACK, half_x / 2), max(half_y - BOX_SLACK, half_y / 2)
    away_x = np.abs(window.x - (box[0] + box[2]) / 2)
    away_y = np.abs(window.y - (box[1] + box[3]) / 2)
    powers = (away_x / half_x) ** BOX_POWER + (away_y / half_y) ** BOX_POWER
    inside = BOX_STEEPNESS * (BOX_EDGE - powers ** (1 / BOX_POWER))
    beyond = (np.maximum(away_x - half_x, away_y - half_y) - BOX_SLACK).clip(0)
    logits = inside.clip(BOX_FLOOR, BOX_CAP) - BOX_OUTSIDE * beyond
    return np.asarray(logits.clip(-LIMIT, None), np.float32)


def mask_prior(window: Window, mask: Array, box: SubpixelBox) -> Array:
    """Returns the log-odds that an earlier mask gives: its own, blurred because targets move."""
    earlier = ndimage.gaussian_filter(expit(mask), MASK_BLUR / window.step, mode="nearest")
    away_x = np.abs(window.x - (box[0] + box[2]) / 2) - (box[2] - box[0]) / 2
    away_y = np.abs(window.y - (box[1] + box[3]) / 2) - (box[3] - box[1]) / 2
    beyond = (np.maximum(away_x, away_y) - MASK_BEYOND_SLACK).clip(0)
    logits = logit(earlier.clip(expit(-MASK_OUTSIDE), expit(MASK_INSIDE)))
    return np.asarray(logits - MASK_BEYOND * beyond, np.float32)


def click_evidence(window: Window, smooth: Array, prompt: SlicePrompt, reach: float) -> Array:
    """Returns the log-odds that clicks add: around them, where the smoothed intensity is theirs."""
    evidence = np.zeros_like(smooth)
    for (x, y), label in zip(prompt.points, prompt.labels, strict=True):
        squared = (window.y - y - 0.5) ** 2 + (window.x - x - 0.5) ** 2
        place = np.unravel_index(np.argmin(squared), squared.shape)
        alike = np.exp(-np.square((smooth - smooth[place]) / CLICK_CONTRAST) / 2)
        near = np.exp(-squared / (2 * reach**2)) * alike + np.exp(-squared / 2)
        evidence += near * np.float32(CLICK_WEIGHT if label else -CLICK_WEIGHT)
    return evidence


def histogram_index(feature: Array) -> npt.NDArray[np.intp]:
    """Returns every pixel's histogram bin; the bins span the window's intensities."""
    low, high = np.percentile(feature, RANGE_PERCENTILES)
    span = max(float(high - low), LEAST_RANGE) * RANGE_ROOM
    scaled = (feature - (low + high) / 2) / span + 0.5
    return np.asarray((scaled * histograms.BINS).clip(0, histograms.BINS - 1), np.intp)


def intensity_ratios(
    indices: Sequence[npt.NDArray[np.intp]], inside: Array, tuning: _Tuning
) -> list[Array]:
    """Returns the log of how much likelier every pixel's features are inside than outside.

    Args:
        indices: of each feature, (rows, columns) bins.
        inside: (rows, columns) probability of being inside, as far as known.
        tuning: the numbers to use.

    Returns:
        For each feature (rows, columns) log-odds.
    """
    weights = inside.ravel(), 1 - inside.ravel()
    counts = [[np.bincount(one.ravel(), w, histograms.BINS) for one in indices] for w in weights]
    mixed, outside = histograms.density(np.array(counts), HISTOGRAM_BLUR)
    # What looks inside is partly background, most of all in a box that the target hardly fills.
    pure = np.maximum(mixed - tuning.impurity * outside, LEAST_PURE * mixed)
    pure /= pure.sum(axis=-1, keepdims=True).clip(1e-9)
    separation = np.abs(pure - outside).sum(axis=-1, keepdims=True) / 2
    ratio = histograms.log_likelihood_ratio(pure, outside, histograms.FLOOR, tuning.cap)
    tables = np.asarray(separation**tuning.caution * ratio, np.float32)
    return [table[index] for table, index in zip(tables, indices, strict=True)]


class PottsModel:
    """Bonds between neighbouring pixels that make them agree unless an edge lies between.

    Images are worked on as rows joined to one line, with a pixel between them that has no bonds:
    then a neighbour is a fixed number of pixels away, and sums over the line are fast.
    """

    def __init__(self, image: Array, bond: float) -> None:
        every, first, last = slice(None), slice(None, -1), slice(1, None)
        pairs = (
            ((first, every), (last, every), 1.0),
            ((every, first), (every, last), 1.0),
            ((first, first), (last, last), 0.7),
            ((first, last), (last, first), 0.7),
        )
        width = image.shape[1] + 1
        self._bonds = []
        for (here, there, weight), offset in zip(
            pairs, (width, 1, width + 1, width - 1), strict=True
        ):
            contrast = np.square((image[here] - image[there]) / EDGE_CONTRAST)
            bonds = np.zeros((image.shape[0], width), np.float32)
            bonds[:, :-1][here] = np.float32(bond * weight) * np.exp(-contrast / 2)
            self._bonds.append((offset, bonds.ravel()[:-offset]))

    def agree(self, logits: Array) -> Array:
        """Returns the log-odds after mean-field inference."""
        rows, columns = logits.shape
        padded = np.zeros((rows, columns + 1), np.float32)
        padded[:, :-1] = logits
        line = padded.ravel()
        result, product = line, np.empty_like(line)
        for _ in range(POTTS_STEPS):
            spin = np.tanh(result / 2)
            result = line.copy()
            for offset, bond in self._bonds:
                part = product[offset:]
                result[:-offset] += np.multiply(bond, spin[offset:], out=part)
                result[offset:] += np.multiply(bond, spin[:-offset], out=part)
        return np.ascontiguousarray(result.reshape(rows, columns + 1)[:, :-1])


def infer(image: Array, edges: Array, prior: Array, tuning: _Tuning) -> Array:
    """Returns every pixel's posterior log-odds.

    Args:
        image: (rows, columns), 0..255.
        edges: the same, smoothed by `EDGE_SIGMA`, from which bonds are taken.
        prior: (rows, columns) log-odds.
        tuning: the numbers to use.
    """
    smooth = ndimage.gaussian_filter(image, SMOOTH_SIGMA, mode="nearest")
    fine, coarse = histogram_index(image), histogram_index(smooth)
    potts = PottsModel(edges, tuning.bond)
    logits = prior
    for _ in range(tuning.rounds):
        own, around = intensity_ratios((fine, coarse), expit(logits), tuning)
        ratio = np.asarray(FINE_WEIGHT * own + SMOOTH_WEIGHT * around, np.float32)
        logits = potts.agree(prior + np.float32(tuning.evidence) * ratio)
    return ndimage.gaussian_filter(logits, FINAL_BLUR, mode="nearest")


def fit_box(logits: Array, window: Window, box: SubpixelBox) -> Array:
    """Moves the threshold so that the mask comes close to the box's sides."""
    size = max(box[2] - box[0], box[3] - box[1]) / window.step
    best, shift = np.inf, 0.0
    for bias in np.linspace(-FIT_RANGE, FIT_RANGE, FIT_STEPS):
        rows, columns = (np.flatnonzero((logits > bias).any(axis)) for axis in (1, 0))
        if rows.size == 0:
            continue
        x, y, half = window.x[0, columns], window.y[rows, 0], window.step / 2
        gaps = np.array([x[0] - half - box[0], box[2] - x[-1] - half])
        gaps = np.append(gaps, [y[0] - half - box[1], box[3] - y[-1] - half]) / window.step
        missed = (np.abs(gaps - FIT_SLACK) - FIT_SLACK).clip(0).mean() / max(2.0, 0.1 * size)
        cost = FIT_BIAS * abs(bias) + FIT_BOX * missed
        if cost < best:
            best, shift = cost, bias
    return logits - np.float32(shift)


def drop_specks(logits: Array, prior: Array, clicks: Array) -> Array:
    """Rejects components that hold no click and, by the prior, little beside the largest."""
    labels, count = ndimage.label(logits > 0)
    if count < 2:
        return logits
    mass = np.bincount(labels.ravel(), expit(prior).ravel())
    mass[0] = 0
    rejected = mass < SPECK * mass.max()
    rejected[labels[clicks > 1.5 * CLICK_WEIGHT]] = False
    rejected[0] = False
    return np.where(rejected[labels], np.float32(-1), logits)


def obey_clicks(logits: Array, prompt: SlicePrompt) -> Array:
    """Puts the clicked pixels themselves on their side."""
    rows, columns = logits.shape
    for (x, y), label in zip(prompt.points, prompt.labels, strict=True):
        place = int(np.clip(y, 0, rows - 1)), int(np.clip(x, 0, columns - 1))
        logits[place] = max(logits[place], OBEYED) if label else min(logits[place], -OBEYED)
    return logits


def expected_iou(logits: Array) -> float:
    """Returns the IoU to expect of the mask if the log-odds are true."""
    probability = expit(logits[logits > -LIMIT])
    inside = probability > 0.5
    if not inside.any():
        return 0.0
    return float(probability[inside].sum() / (inside.sum() + probability[~inside].sum()))


def extent(mask: npt.NDArray[np.bool_]) -> SubpixelBox:
    """Returns the half-open bounds (x0, y0, x1, y1) of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def regions_at(image: Image, x: float, y: float) -> list[tuple[float, Array]]:
    """Finds nested regions of like intensity around a pixel.

    Args:
        image: (rows, columns), 0..255.
        x: of the pixel.
        y: of the pixel.

    Returns:
        Pairs, from small to large: how clear the region's border is, and the region as log-odds,
        (rows, columns). A border is clear where the mean gradient on it is high, and less so the
        more the region has grown since the tolerance before.
    """
    shape = (image.shape[0], image.shape[1])
    found: list[tuple[float, Array]] = []
    area = 3.0
    for radius in FLOOD_RADII:
        window = make_window(shape, (x, y, x + 1, y + 1), radius)
        smooth = ndimage.gaussian_filter(window.shrink(image), 1.0, mode="nearest")
        slope = np.hypot(*(ndimage.sobel(smooth, axis, mode="nearest") / 8 for axis in (0, 1)))
        row = int(np.argmin(np.abs(window.y - y - 0.5)))
        column = int(np.argmin(np.abs(window.x - x - 0.5)))
        for tolerance in FLOOD_TOLERANCES:
            labels, _ = ndimage.label(np.abs(smooth - smooth[row, column]) <= tolerance)
            region = labels == labels[row, column]
            size = float(region.sum()) * window.step**2
            if size <= FLOOD_GROWTH * area:
                continue
            if region.mean() > FLOOD_LIMIT or _spills(region, window, shape):
                break
            border = ndimage.binary_dilation(region) ^ region
            growth = np.log(size / area)
            area = size
            logits = window.enlarge(np.where(region, np.float32(4), np.float32(-4)), shape)
            found.append((float(slope[border].mean()) / (1 + FLOOD_PENALTY * growth), logits))
    return found


def _spills(region: npt.NDArray[np.bool_], window: Window, shape: tuple[int, int]) -> bool:
    """Says whether a region leaves its window through a side that isn't the slice's own."""
    sides = (
        (region[0], window.rows.start > 0),
        (region[-1], window.rows.stop < shape[0]),
        (region[:, 0], window.columns.start > 0),
        (region[:, -1], window.columns.stop < shape[1]),
    )
    return any(open_ and bool(side.any()) for side, open_ in sides)


def merge_state(prompt: SlicePrompt) -> SlicePrompt:
    """Adds a prompt's state, which are earlier log-odds of the slice's pixels, to its mask."""
    if prompt.state is None:
        return prompt
    earlier = cast(Array, prompt.state)
    mask = earlier if prompt.mask is None else earlier + prompt.mask
    return replace(prompt, mask=mask, state=None)


class StatisticalSegmenter:
    """A promptable 2-D segmenter that needs nothing but the slice itself."""

    name = "statistical"
    traits = Traits(
        intensities_alone=True,
        guided=True,
        resolution=round((WORKING_SIDE - 2 * MARGIN_PIXELS) / (1 + 2 * MARGIN_SHARE)),
    )

    def encode(self, slices: Image) -> Sequence[Image]:
        """Keeps the slices: everything else depends on the prompt's window."""
        return list(slices)

    def decode(
        self,
        embeddings: Sequence[Image],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Segments each slice for the prompt at the same position.

        Args:
            embeddings: from `encode`.
            prompts: one per embedding.
            multimask: matters for clicks without box and mask: True takes the best of regions of
                several scales, False the middle one; None is True for a single click.
        """
        pairs = zip(embeddings, map(merge_state, prompts), strict=True)
        return [self._segment(image, prompt, multimask) for image, prompt in pairs]

    def _segment(self, image: Image, prompt: SlicePrompt, multimask: bool | None) -> SliceMask:
        if prompt.box is not None:
            return self._in_window(image, prompt, prompt.box)
        if prompt.mask is not None and (prompt.mask > 0).any():
            return self._in_window(image, prompt, extent(prompt.mask > 0))
        positive = prompt.points[prompt.labels == 1]
        if len(positive) == 0:
            nothing = np.full(image.shape, -LIMIT, np.float32)
            return SliceMask(nothing, 0.0, nothing)
        return self._at_click(image, prompt, positive[0], multimask)

    def _at_click(
        self,
        image: Image,
        prompt: SlicePrompt,
        click: npt.NDArray[np.float64],
        multimask: bool | None,
    ) -> SliceMask:
        x, y = click.tolist()
        regions = sorted(regions_at(image, x, y), key=lambda found: -found[0])[:CLICK_REGIONS]
        if not regions:
            near = (
                x - CLICK_ROOM,
                y - CLICK_ROOM,
                x + CLICK_ROOM + 1,
                y + CLICK_ROOM + 1,
            )
            return self._in_window(image, replace(prompt, mask=None), near)
        masks = [
            self._in_window(image, replace(prompt, mask=region), extent(region > 0))
            for _, region in regions
        ]
        if multimask is False or (multimask is None and len(prompt.points) > 1):
            return sorted(masks, key=lambda one: int(one.mask.sum()))[len(masks) // 2]
        return masks[0]

    def _in_window(self, image: Image, prompt: SlicePrompt, box: SubpixelBox) -> SliceMask:
        shape = (image.shape[0], image.shape[1])
        box = _inside_slice(box, shape)
        bounds = np.array([box, *([x, y, x + 1, y + 1] for x, y in prompt.points)])
        x0, y0 = bounds[:, :2].min(axis=0).tolist()
        x1, y1 = bounds[:, 2:].max(axis=0).tolist()
        margin = MARGIN_PIXELS + MARGIN_SHARE * max(x1 - x0, y1 - y0)
        window = make_window(shape, (x0, y0, x1, y1), margin)
        small = window.shrink(image)
        reach = max(1.0, window.step, CLICK_REACH * min(box[2] - box[0], box[3] - box[1]))
        edges = ndimage.gaussian_filter(small, EDGE_SIGMA, mode="nearest")
        clicks = click_evidence(window, edges, prompt, reach)
        if prompt.mask is None:
            prior = box_prior(window, box) + clicks
            logits = fit_box(infer(small, edges, prior, FROM_BOX), window, box)
        else:
            prior = mask_prior(window, window.shrink(prompt.mask), box) + clicks
            logits = infer(small, edges, prior, FROM_MASK) - np.float32(DRIFT)
        logits = drop_specks(logits, prior, clicks)
        scores = obey_clicks(window.enlarge(logits, shape), prompt)
        contrast = border_contrast(small, logits > 0)
        trust = np.float32(np.clip(contrast / CLEAR_CONTRAST, LEAST_TRUST, 1))
        calibrated = np.where(scores > -LIMIT, trust * scores, scores)
        certainty = 1 - DOUBT * float(np.exp(-contrast))
        return SliceMask(calibrated, certainty * expected_iou(calibrated), scores)


def _inside_slice(box: SubpixelBox, shape: tuple[int, int]) -> SubpixelBox:
    """Cuts a box to the slice, and makes it a pixel wide at least."""
    x0, y0 = float(np.clip(box[0], 0, shape[1] - 1)), float(np.clip(box[1], 0, shape[0] - 1))
    x1, y1 = float(np.clip(box[2], x0 + 1, shape[1])), float(np.clip(box[3], y0 + 1, shape[0]))
    return x0, y0, x1, y1

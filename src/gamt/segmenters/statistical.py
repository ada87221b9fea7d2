"""The embedded default: a promptable segmenter made of image statistics alone.

It needs no checkpoint and no GPU. The prompt becomes a spatial prior, intensity histograms
weighted by that prior become a likelihood, and an edge-aware smoothing joins the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import SliceMask

Array = npt.NDArray[np.float64]

LIMIT = 8.0
"""Log-odds are clipped to +-LIMIT, and are -LIMIT outside of the window."""

WORKING_SIDE = 112
MARGIN = 0.35
BINS = 64
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class _Window:
    """A rectangle of the slice and the smaller grid on which the work is done."""

    rows: slice
    columns: slice
    down: tuple[Array, Array]
    up: tuple[Array, Array]

    def shrink(self, values: npt.NDArray[np.generic]) -> Array:
        part = values[self.rows, self.columns].astype(np.float64)
        return self.down[0] @ part @ self.down[1].T

    def grow(self, values: Array, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        full = np.full(shape, -LIMIT, dtype=np.float32)
        full[self.rows, self.columns] = self.up[0] @ values @ self.up[1].T
        return full


def _resampling(size: int, new: int) -> tuple[Array, Array]:
    """Matrices that average `size` pixels into `new` ones, and interpolate them back."""
    if size == new:
        return np.eye(size), np.eye(size)
    step = size / new
    low = np.arange(new)[:, None] * step
    pixel = np.arange(size)[None, :]
    down = np.clip(np.minimum(low + step, pixel + 1) - np.maximum(low, pixel), 0, None) / step
    centre = np.clip((np.arange(size) + 0.5) / step - 0.5, 0, new - 1)
    up = np.clip(1 - np.abs(centre[:, None] - np.arange(new)[None, :]), 0, None)
    return down, up


def _window(shape: tuple[int, int], box: tuple[float, float, float, float]) -> _Window:
    x0, y0, x1, y1 = box
    margin = 6 + MARGIN * max(x1 - x0, y1 - y0)
    spans, down, up = [], [], []
    bounds = []
    for low, high, size in ((y0, y1, shape[0]), (x0, x1, shape[1])):
        first = int(np.clip(np.floor(low - margin), 0, size - 1))
        last = int(np.clip(np.ceil(high + margin), first + 1, size))
        bounds.append((first, last))
    factor = max(1.0, max(b - a for a, b in bounds) / WORKING_SIDE)
    for first, last in bounds:
        spans.append(slice(first, last))
        matrices = _resampling(last - first, max(1, round((last - first) / factor)))
        down.append(matrices[0])
        up.append(matrices[1])
    return _Window(spans[0], spans[1], (down[0], down[1]), (up[0], up[1]))


def _sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def _logit(p: Array) -> Array:
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


def _grid(window: _Window) -> tuple[Array, Array, float]:
    rows, columns = window.rows, window.columns
    n, m = window.down[0].shape[0], window.down[1].shape[0]
    sy, sx = (rows.stop - rows.start) / n, (columns.stop - columns.start) / m
    y = rows.start + (np.arange(n)[:, None] + 0.5) * sy
    x = columns.start + (np.arange(m)[None, :] + 0.5) * sx
    return y, x, max(sx, sy)


def _box_prior(y: Array, x: Array, box: tuple[float, float, float, float]) -> Array:
    x0, y0, x1, y1 = box
    u = np.abs(x - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    v = np.abs(y - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    radius = (u**2.5 + v**2.5) ** (1 / 2.5)
    inside = 5.0 * (1.0 - radius)
    over = np.maximum(np.maximum(u, v) - 1, 0) * max(x1 - x0, y1 - y0) / 2
    return np.clip(np.clip(inside, -2.5, 2.5) - 1.5 * over, -LIMIT, 2.5)


def _likelihood(image: Array, smooth: Array, weight: Array) -> Array:
    """Log-likelihood ratio of inside against outside from weighted histograms."""
    total = np.zeros_like(image)
    for feature in (image, smooth):
        low, high = np.percentile(feature, (0.5, 99.5))
        scale = (BINS - 1) / max(high - low, 1e-6 + 16)
        index = np.clip((feature - low) * scale, 0, BINS - 1).astype(np.intp)
        inside = np.bincount(index.ravel(), weight.ravel(), BINS)
        outside = np.bincount(index.ravel(), (1 - weight).ravel(), BINS)
        inside = ndimage.gaussian_filter1d(inside, 1.5, mode="constant")
        outside = ndimage.gaussian_filter1d(outside, 1.5, mode="constant")
        inside = inside / max(inside.sum(), 1e-9)
        outside = outside / max(outside.sum(), 1e-9)
        pure = np.maximum(inside - 0.5 * outside, 0.02 * inside)
        pure /= max(pure.sum(), 1e-9)
        ratio = np.log((pure + 0.002) / (outside + 0.002))
        total += np.clip(ratio, -4, 4)[index]
    return total / 2


def _smooth(p: Array, guide: Array, radius: int) -> Array:
    """Guided filter of `p` along the edges of `guide`."""
    size = 2 * radius + 1

    def mean(a: Array) -> Array:
        return ndimage.uniform_filter(a, size, mode="nearest")

    m_i, m_p = mean(guide), mean(p)
    variance = mean(guide * guide) - m_i * m_i
    slope = (mean(guide * p) - m_i * m_p) / (variance + 36.0)
    return mean(slope) * guide + mean(m_p - slope * m_i)


def _segment(image: Array, prior: Array) -> Array:
    smooth = ndimage.gaussian_filter(image, 1.0, mode="nearest")
    logits = prior
    for _ in range(ROUNDS):
        ratio = _likelihood(image, smooth, _sigmoid(logits))
        p = _smooth(_sigmoid(prior + 1.5 * ratio), smooth, 2)
        logits = _logit(p)
    return np.clip(logits * 1.5, -LIMIT, LIMIT)


def _click_prior(
    image: Array, y: Array, x: Array, prompt: SlicePrompt, reach: float
) -> tuple[Array, Array]:
    """Log-odds to add around clicks: near in space and alike in intensity."""
    add = np.zeros_like(image)
    smooth = ndimage.gaussian_filter(image, 0.7, mode="nearest")
    for (px, py), label in zip(prompt.points, prompt.labels, strict=True):
        d2 = (y - (py + 0.5)) ** 2 + (x - (px + 0.5)) ** 2
        here = smooth.ravel()[int(np.argmin(d2))]
        alike = np.exp(-((smooth - here) ** 2) / (2 * 12.0**2))
        near = np.exp(-d2 / (2 * reach**2))
        core = np.exp(-d2 / (2 * 1.0**2))
        add += (1.0 if label else -1.0) * (8 * near * alike + 8 * core)
    return add, add


def _components(logits: Array, keep: Array) -> Array:
    """Rejects specks: components that are small beside the largest and hold no click."""
    labels, count = ndimage.label(logits > 0)
    if count < 2:
        return logits
    mass = ndimage.sum_labels(_sigmoid(keep), labels, np.arange(1, count + 1))
    peak = ndimage.maximum(keep, labels, np.arange(1, count + 1))
    bad = (mass < 0.15 * mass.max()) & (np.asarray(peak) < 5)
    drop = np.concatenate([[False], bad])[labels]
    return np.where(drop, -1.0, logits)


def _quality(logits: npt.NDArray[np.float32]) -> float:
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    inside = logits > 0
    if not inside.any():
        return 0.0
    return float(p[inside].sum() / (inside.sum() + p[~inside & (logits > -7)].sum()))


def _extent(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _flood_boxes(
    image: npt.NDArray[np.uint8], point: npt.NDArray[np.float64]
) -> list[tuple[float, npt.NDArray[np.float32]]]:
    """Nested regions around a click, each with its boundary contrast."""
    height, width = image.shape
    cx, cy = int(np.clip(point[0], 0, width - 1)), int(np.clip(point[1], 0, height - 1))
    y0, y1, x0, x1 = max(cy - 80, 0), cy + 81, max(cx - 80, 0), cx + 81
    smooth = ndimage.gaussian_filter(image[y0:y1, x0:x1].astype(np.float64), 1.0, mode="nearest")
    gradient = ndimage.gaussian_gradient_magnitude(
        image[y0:y1, x0:x1].astype(np.float64), 1.0, mode="nearest"
    )
    here = smooth[cy - y0, cx - x0]
    found: list[tuple[float, npt.NDArray[np.float32]]] = []
    previous = 0
    for tolerance in (4, 6, 8, 11, 14, 18, 23, 29, 36, 45, 56, 70, 88):
        labels, _ = ndimage.label(np.abs(smooth - here) <= tolerance)
        region = ndimage.binary_fill_holes(labels == labels[cy - y0, cx - x0])
        area = int(region.sum())
        if area < 4 or area == previous or area > 0.6 * region.size:
            continue
        edge = region ^ ndimage.binary_dilation(region)
        growth = area / max(previous, 1)
        score = float(gradient[edge].mean()) / (1 + 0.5 * np.log(growth))
        previous = area
        full = np.full(image.shape, -4.0, dtype=np.float32)
        full[y0:y1, x0:x1][region] = 4.0
        found.append((score, full))
    return found


class StatisticalSegmenter:
    """A promptable 2-D segmenter from spatial prior, intensity histograms and smoothing."""

    name = "statistical"
    device = "cpu"

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[np.uint8]]:
        """Keeps the slices; all work depends on the prompt and is done in its window."""
        return list(slices)

    def decode(
        self,
        embeddings: Sequence[npt.NDArray[np.uint8]],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Segments each slice for the prompt at the same position."""
        return [
            self._one(image, prompt, multimask)
            for image, prompt in zip(embeddings, prompts, strict=True)
        ]

    def _one(
        self, image: npt.NDArray[np.uint8], prompt: SlicePrompt, multimask: bool | None
    ) -> SliceMask:
        mask = prompt.mask
        if mask is not None and (mask.shape != image.shape or not (mask > 0).any()):
            mask = None
        positive = prompt.points[prompt.labels == 1] if len(prompt.points) else prompt.points
        if prompt.box is not None or mask is not None:
            return self._solve(image, prompt, mask)
        if len(positive) == 0:
            return self._empty(image.shape)
        candidates = [
            (score, self._solve(image, prompt, flood))
            for score, flood in sorted(_flood_boxes(image, positive[0]), key=lambda c: -c[0])[:3]
        ]
        if not candidates:
            x, y = positive[0]
            box = (x - 4, y - 4, x + 5, y + 5)
            lone = SlicePrompt(box, prompt.points, prompt.labels)
            return self._solve(image, lone, None)
        return candidates[0][1]

    def _empty(self, shape: tuple[int, ...]) -> SliceMask:
        logits = np.full(shape, -LIMIT, dtype=np.float32)
        return SliceMask(logits, 0.0, logits)

    def _solve(
        self,
        image: npt.NDArray[np.uint8],
        prompt: SlicePrompt,
        mask: npt.NDArray[np.float32] | None,
    ) -> SliceMask:
        box = prompt.box
        if box is None:
            assert mask is not None
            box = _extent(mask > 0)
            assert box is not None
            box = (box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2)
        height, width = image.shape
        x0, x1 = np.clip((box[0], box[2]), 0, width)
        y0, y1 = np.clip((box[1], box[3]), 0, height)
        reach = [x0, y0, x1, y1]
        for px, py in prompt.points:
            reach = [min(reach[0], px), min(reach[1], py), max(reach[2], px), max(reach[3], py)]
        window = _window((height, width), (reach[0], reach[1], reach[2], reach[3]))
        small = window.shrink(image)
        y, x, step = _grid(window)
        prior = _box_prior(y, x, (x0, y0, x1, y1))
        if mask is not None:
            earlier = window.shrink(1 / (1 + np.exp(-mask.astype(np.float64))))
            blurred = ndimage.gaussian_filter(earlier, 2.0 / step, mode="nearest")
            prior = np.clip(0.3 * np.minimum(prior, 1.0) + np.clip(_logit(blurred), -4, 3), -8, 8)
        size = max(2.0, 0.15 * min(x1 - x0, y1 - y0))
        clicks, _ = _click_prior(small, y, x, prompt, max(size, step))
        logits = _components(_segment(small, prior + clicks), prior + clicks)
        full = np.clip(window.grow(logits, (height, width)), -LIMIT, LIMIT)
        for (px, py), label in zip(prompt.points, prompt.labels, strict=True):
            c = int(np.clip(px, 0, width - 1)), int(np.clip(py, 0, height - 1))
            value = full[c[1], c[0]]
            full[c[1], c[0]] = max(value, 2.0) if label else min(value, -2.0)
        return SliceMask(full, _quality(full), full)

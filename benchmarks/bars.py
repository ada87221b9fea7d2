"""What the method is held to: the bars, and the functions that measure where it stands.

Everything is measured with the embedded segmenter and the default preset, but without the time
limit, so that a busy machine gets the same figures. `tests.test_bars` asserts what needs no data
from elsewhere, `benchmarks.bench` prints everything.

Run as a program, this module does the large case and prints what it took, as JSON: peak memory
can only be measured in a process that did nothing else.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.phantoms import (
    Labels,
    Mask,
    Phantom,
    bent_tubes,
    box_prompts,
    dice,
    ellipsoids,
    first_click,
    flat_phantoms,
    low_range,
    reversed_spacing,
    shade,
    thick_slices,
    touching_four,
    vessel_bend,
    vessel_helix,
    vessel_phantoms,
)
from gamt import segmenters
from gamt.io.case import Case, guess_spacing_order, read_case, read_volume
from gamt.predict import predict_case
from gamt.prompts import Box, ClassPrompts, Click, SlicePrompt
from gamt.segmenters.base import Embedding, Segmenter, SliceMask
from gamt.settings import PRESETS, Settings

UNLIMITED = replace(PRESETS["default"], budget=False)

FLAT_MEAN, FLAT_LEAST = 0.97, 0.90
"""Dice on flat-shaded phantoms from boxes alone: mean over all classes, and of the worst one."""

VESSEL_LEAST = 0.90
"""Dice on every vessel phantom from one click."""

LOSS, LARGE_LOSS = 0.01, 0.05
"""A click that costs its class more Dice than this has made it worse, or much worse."""

LOSING_SHARE = 0.02
"""Of the correcting clicks, at most this share may lose more than `LOSS`; none `LARGE_LOSS`."""

SAMPLES_MEAN, VENTRICLES_LEAST = 0.82, 0.75
"""Dice on the sample cases, as `make run` prints it: the mean; each ventricle of `MR_mni152`."""

SCANS_SHARE = 0.75
"""Share of the labelled scans on which the method beats the ellipsoid inscribed in the box."""

MIRROR_LEAST = 0.99
"""Dice, of every class, between a result and that of the mirrored scan and prompts."""

LARGE_GB = 6.0
"""Peak memory on the large case, in GB (10^9 bytes)."""

LARGE_SHAPE, LARGE_SPACING_MM = (600, 512, 512), (1.0, 0.7, 0.7)

# Centres and half-axes (z, y, x) in voxels; none touches another.
LARGE_ELLIPSOIDS = (
    ((150, 140, 140), (130, 110, 110)),
    ((150, 380, 150), (120, 105, 110)),
    ((440, 150, 380), (130, 110, 105)),
    ((450, 390, 370), (60, 50, 70)),
    ((150, 150, 390), (80, 60, 60)),
    ((130, 390, 400), (30, 25, 40)),
    ((440, 120, 120), (40, 40, 30)),
    ((420, 370, 120), (90, 70, 80)),
    ((300, 256, 256), (20, 15, 18)),
    ((560, 280, 260), (12, 10, 14)),
)
LARGE_GREYS = (110, 150, 190, 230, 120, 160, 200, 240, 140, 180)


@dataclass(frozen=True, slots=True)
class Score:
    """How well one case was segmented.

    Attributes:
        name: of the case.
        dice: per class.
        seconds: that the prediction took.
    """

    name: str
    dice: tuple[float, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """Dice, the mean over the classes."""
        return float(np.mean(self.dice))


@dataclass(frozen=True, slots=True)
class ScanScore:
    """A labelled scan: the method beside the ellipsoids inscribed in the same boxes."""

    ours: Score
    ellipsoid: Score

    @property
    def above(self) -> bool:
        """Whether the method is the better one, in the mean over the classes."""
        return self.ours.mean > self.ellipsoid.mean


@dataclass(frozen=True, slots=True)
class LargeRun:
    """What the large case took.

    Attributes:
        peak_bytes: most memory that the process held, the case itself included.
        seconds: that the prediction took.
        dice: per class.
        encoded: number of slices encoded.
        repeated: how many of them had been encoded before.
    """

    peak_bytes: int
    seconds: float
    dice: tuple[float, ...]
    encoded: int
    repeated: int


class CountingSegmenter:
    """The embedded segmenter, which also counts how often it encodes each slice.

    Slices are told apart by shape and content, so that the scan must not hold two equal ones.
    """

    def __init__(self) -> None:
        """Starts with nothing encoded."""
        self._inner = segmenters.load()
        self._times: Counter[tuple[tuple[int, ...], bytes]] = Counter()
        self.name = self._inner.name
        # Asked for corrections too, like a network, so that their slices count.
        self.traits = replace(self._inner.traits, intensities_alone=False)

    @property
    def encoded(self) -> int:
        """Number of slices encoded so far."""
        return self._times.total()

    @property
    def repeated(self) -> int:
        """How many of them had been encoded before."""
        return self.encoded - len(self._times)

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Counts the slices, and encodes them."""
        self._times.update((one.shape, _digest(one)) for one in slices)
        return self._inner.encode(slices)

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Hands on."""
        return self._inner.decode(embeddings, prompts, multimask)


def phantom_case(phantom: Phantom) -> Case:
    """Returns a phantom without its truth, with its spacing as a file's would be read."""
    spacing_mm = guess_spacing_order(*phantom.spacing_mm)
    return Case(phantom.name, phantom.image, spacing_mm, phantom.prompts, None)


def segment(case: Case, segmenter: Segmenter | None = None) -> Labels:
    """Segments a case by the default preset, with the embedded segmenter if none is given."""
    return predict_case(case, segmenter or segmenters.load(), UNLIMITED).labels


def dice_of(one: Labels, other: Labels, labels: Iterable[int]) -> tuple[float, ...]:
    """Returns the Dice between two label maps, per label."""
    return tuple(dice(one == label, other == label) for label in labels)


def score(case: Case, truth: Labels, settings: Settings = UNLIMITED) -> Score:
    """Segments a case and compares it with the truth, on the classes that have prompts."""
    labels = [one.label for one in case.prompts]
    prediction = predict_case(case, segmenters.load(), settings)
    return Score(case.name, dice_of(truth, prediction.labels, labels), prediction.seconds)


def flat_scores(seed: int = 0) -> list[Score]:
    """Measures the flat-shaded phantoms, from boxes alone."""
    return [score(phantom_case(one), one.truth) for one in flat_phantoms(seed)]


def vessel_scores(seed: int = 0) -> list[Score]:
    """Measures the vessel phantoms, from one click each."""
    return [score(phantom_case(one), one.truth) for one in vessel_phantoms(seed)]


def all_dice(scores: Iterable[Score]) -> list[float]:
    """Returns the Dice of all classes of all cases."""
    return [value for one in scores for value in one.dice]


def inscribed_ellipsoid(box: Box, shape: Sequence[int]) -> Mask:
    """Draws what ignores the image: the ellipsoid in the in-plane box and the range of slices.

    Args:
        box: in voxels.
        shape: of the result (z, y, x). A voxel is inside where its centre is.
    """
    distance = np.zeros((1, 1, 1))
    bounds = zip(box.low, box.high, np.ogrid[tuple(slice(n) for n in shape)], strict=True)
    for low, high, voxel in bounds:
        centre, half = (low + high - 1) / 2, (high - low) / 2
        distance = distance + ((voxel - centre) / half) ** 2
    inside: Mask = distance < 1
    return inside


def has_boxes(path: Path) -> bool:
    """Says whether a case file has boxes; the challenge's vessels and microscopy have none."""
    with np.load(path) as file:
        return "boxes" in file.files


def scan_score(path: Path) -> ScanScore:
    """Measures a labelled scan from boxes alone, and the boxes' ellipsoids, each by itself.

    Args:
        path: a case file with `boxes` and `gts`; classes without a box don't count.
    """
    case = read_case(path)
    truth: Labels = read_volume(path, "gts")
    boxes = {one.label: one.box for one in case.prompts if one.box is not None}
    prompts = tuple(ClassPrompts(label, box) for label, box in boxes.items())
    ours = score(replace(case, prompts=prompts, previous=None), truth)
    start = time.perf_counter()
    drawn = [inscribed_ellipsoid(box, truth.shape) for box in boxes.values()]
    seconds = time.perf_counter() - start
    scores = tuple(dice(truth == label, mask) for label, mask in zip(boxes, drawn, strict=True))
    return ScanScore(ours, Score(case.name, scores, seconds))


def flip_box(box: Box, shape: Sequence[int], axis: int) -> Box:
    """Returns the box in a volume of `shape` (z, y, x) that was mirrored along `axis`."""
    low, high, z_mid = list(box.low), list(box.high), box.z_mid
    low[axis], high[axis] = shape[axis] - box.high[axis], shape[axis] - box.low[axis]
    if axis == 0:
        z_mid = shape[0] - 1 - z_mid
    return Box(low[0], high[0], z_mid, low[1], high[1], low[2], high[2])


def flip_click(click: Click, shape: Sequence[int], axis: int) -> Click:
    """Returns the click in a volume of `shape` (z, y, x) that was mirrored along `axis`."""
    voxel = list(click.voxel)
    voxel[axis] = shape[axis] - 1 - voxel[axis]
    return Click(voxel[0], voxel[1], voxel[2], click.positive)


def flip_case(case: Case, axis: int) -> Case:
    """Mirrors a case and all that the user said about it along an axis (0 is z)."""
    shape = case.image.shape

    def flip(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(np.flip(volume, axis))

    prompts = tuple(
        ClassPrompts(
            one.label,
            one.box and flip_box(one.box, shape, axis),
            tuple(flip_click(click, shape, axis) for click in one.clicks),
        )
        for one in case.prompts
    )
    previous = None if case.previous is None else flip(case.previous)
    return replace(case, image=flip(case.image), prompts=prompts, previous=previous)


def mirror_dice(case: Case) -> tuple[tuple[float, ...], ...]:
    """Measures how far a result depends on the direction of an axis.

    Returns:
        For the axes z, y, x: the Dice per class between the case's result and the mirrored case's.
    """
    labels = [one.label for one in case.prompts]
    straight = segment(case)
    return tuple(
        dice_of(straight, np.flip(segment(flip_case(case, axis)), axis), labels)
        for axis in range(3)
    )


def mirror_phantoms(seed: int = 0) -> list[Phantom]:
    """Returns what mirror symmetry is measured on, most with oblong voxels: boxes, then clicks."""
    boxed = [ellipsoids, bent_tubes, touching_four, thick_slices, reversed_spacing, low_range]
    return [draw(seed) for draw in (*boxed, vessel_bend, vessel_helix)]


def encoding_cases() -> list[Case]:
    """Returns the cases on which encodings are counted: first round, and one with clicks.

    In the second one the previous prediction is off by a few voxels, so that each class has a
    click inside and one outside.
    """
    phantom = touching_four(0)
    first = phantom_case(phantom)
    previous = np.roll(phantom.truth, (2, 5, 5), axis=(0, 1, 2))
    prompts = []
    for one in first.prompts:
        here, there = phantom.truth == one.label, previous == one.label
        missing = first_click((here & ~there).astype(np.uint8), 1)
        surplus = first_click((there & ~here).astype(np.uint8), 1)
        clicks = missing, replace(surplus, positive=False)
        prompts.append(replace(one, clicks=clicks))
    second = replace(first, name=f"{first.name}, clicks", prompts=tuple(prompts), previous=previous)
    return [first, second]


def count_encodings(case: Case) -> CountingSegmenter:
    """Segments a case and returns the segmenter that did it, with its counts."""
    counter = CountingSegmenter()
    segment(case, counter)
    return counter


def draw_large_phantom(shrink: int = 1) -> Phantom:
    """Draws ten ellipsoids, 20 to 260 voxels long, part by part to save memory.

    Args:
        shrink: divides all sizes, for trials.
    """
    rng = np.random.default_rng(0)
    truth: Labels = np.zeros([size // shrink for size in LARGE_SHAPE], np.uint8)
    for label, (centre, radii) in enumerate(LARGE_ELLIPSOIDS, start=1):
        low, size = (np.subtract(centre, radii) // shrink).tolist(), np.array(radii) * 2 // shrink
        depth, height, width = size.tolist()
        part = truth[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))]
        box = Box(0, depth, depth // 2, 0, height, 0, width)
        part[inscribed_ellipsoid(box, part.shape)] = label
    image = np.stack([shade(layer, LARGE_GREYS, rng) for layer in truth])
    return Phantom("large", image, truth, LARGE_SPACING_MM, box_prompts(truth, rng))


def run_large(shrink: int = 1) -> LargeRun:
    """Segments the large case in this process; the peak is that of all it ever did."""
    phantom, counter = draw_large_phantom(shrink), CountingSegmenter()
    prediction = predict_case(phantom_case(phantom), counter, UNLIMITED)
    labels = range(1, len(phantom.prompts) + 1)
    return LargeRun(
        peak_bytes=peak_bytes(),
        seconds=prediction.seconds,
        dice=dice_of(phantom.truth, prediction.labels, labels),
        encoded=counter.encoded,
        repeated=counter.repeated,
    )


def measure_large() -> LargeRun:
    """Segments the large case in a process of its own.

    Raises:
        subprocess.CalledProcessError: the process failed, or was killed for its memory.
    """
    command = [sys.executable, "-m", __name__]
    folder = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    return LargeRun(**found | {"dice": tuple(found["dice"])})


def peak_bytes() -> int:
    """Returns the most memory that this process ever held (resident set size)."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _digest(one: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(one.tobytes(), digest_size=16).digest()


if __name__ == "__main__":
    print(json.dumps(asdict(run_large())))

"""What cases cost: how long they are expected to take, from their sizes and from those seen.

A run of a method is taken to last a + b * classes + c * voxels + d * voxels * classes seconds, and
a case as many such runs as it has. The four are fitted to the cases that are done.
"""

import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from evaluation.index import Entry
from evaluation.listing import Listed
from evaluation.records import CLICKS
from gamt.io.case import MOST_BOXES_BYTES
from gamt.io.npz import CaseError, Place, open_npz, read_member, read_member_shape

Floats = npt.NDArray[np.float64]

Sizes = npt.NDArray[np.float64]
"""(cases, 3): voxels of the image, number of classes, and of runs: six, or five without a box."""

READ_SECONDS = 2.0
"""How long to read sizes from files; those of the others are estimated from what was read."""

_LEAST_SEEN = 4
"""Cases from which on all four numbers are fitted; from fewer, d alone."""

_MOST_SEEN = 10_000
"""Cases after which nothing more is learnt."""


class Rates(NamedTuple):
    """Seconds of one run of a method, none of them negative.

    Attributes:
        run: whatever the case.
        classes: for each class.
        voxels: for each voxel.
        both: for each voxel and class.
    """

    run: float
    classes: float
    voxels: float
    both: float

    def expect(self, sizes: Sizes) -> Floats:
        """Returns the seconds that cases are expected to take, (cases,)."""
        return np.asarray(_features(sizes) @ np.array(self), np.float64)


UNSEEN = Rates(0.0, 0.0, 0.0, 1.0)
"""Where nothing is known: what it expects isn't in seconds, but in proportion to them."""


def fit_rates(seen: Sequence[Entry]) -> Rates:
    """Returns what explains best how long cases took, relative to each of them.

    All together the cases are expected to take as long as they did.

    Args:
        seen: cases that are done.
    """
    took = np.array([one.seconds for one in seen], np.float64)
    if took.sum() <= 0:
        return UNSEEN
    found = np.array(UNSEEN)
    features = _features(sizes_of(seen))
    if len(seen) >= _LEAST_SEEN:
        # Scaled, because a voxel takes a billionth of what a run does.
        scales = np.maximum(features.max(axis=0), 1.0)
        found, _ = nnls(features / scales / np.maximum(took, 1e-9)[:, None], np.ones(len(took)))
        found /= scales
    expected = float((features @ found).sum())
    # Records of earlier versions don't tell how many voxels there are.
    return Rates(*(found * (took.sum() / expected)).tolist()) if expected > 0 else UNSEEN


class Costs:
    """How long the cases that are to be done will take, as far as it is known by now."""

    def __init__(self, todo: Sequence[Listed], sizes: Sizes) -> None:
        """Takes the cases, and their sizes."""
        self._todo = todo
        self._sizes = sizes
        self._places = {one.case: place for place, one in enumerate(todo)}
        self._seen: list[Entry] = []
        self._rates = UNSEEN
        self._expected = self._rates.expect(sizes)
        self._all_seconds = float(self._expected.sum())
        self._ended: list[int] = []
        self._ended_seconds = 0.0

    def see(self, entries: Sequence[Entry]) -> None:
        """Learns from cases that are done. It fits all anew whenever twice as many are known."""
        before = len(self._seen)
        room = _MOST_SEEN - before
        if len(entries) > room:
            entries = random.Random(0).sample(entries, room)
        self._seen += entries
        if len(self._seen).bit_length() > before.bit_length():
            self._rates = fit_rates(self._seen)
            self._expected = self._rates.expect(self._sizes)
            self._all_seconds = float(self._expected.sum())
            self._ended_seconds = float(self._expected[self._ended].sum())

    def end(self, case: str) -> None:
        """Notes that a case need not be done any more."""
        self._ended.append(self._places[case])
        self._ended_seconds += float(self._expected[self._ended[-1]])

    @property
    def ended_share(self) -> float:
        """The share of the work that need not be done any more, in 0..1."""
        return self._ended_seconds / self._all_seconds if self._all_seconds else 1.0

    def longest_first(self) -> Iterator[Listed]:
        """Yields the cases; each time that of those left which is expected to take longest.

        Of equal ones the first.
        """
        left = np.arange(len(self._todo))[::-1]
        rates = None
        while len(left):
            if rates != self._rates:
                rates = self._rates
                left = left[np.argsort(self._expected[left], kind="stable")]
            longest, left = left[-1], left[:-1]
            yield self._todo[longest]


def sizes_of(seen: Sequence[Entry]) -> Sizes:
    """Returns the sizes of cases that are done."""
    sizes = [(one.voxels, one.classes, one.runs) for one in seen]
    return np.array(sizes, np.float64).reshape(-1, 3)


def read_sizes(
    listed: Sequence[Listed], cases: Path, seen: Sequence[Entry], limit: float = READ_SECONDS
) -> Sizes:
    """Returns the sizes of cases, in their order.

    They are read from the files' headers: no volume is decompressed. The number of classes is that
    of the boxes; the truth would tell it better, but is a volume. A case without boxes is taken to
    have as many classes as others without, of those that are done; and one where there are none.

    Where the limit is over, the sizes of the files that are left, and of those that can't be read,
    are taken to be in proportion to their bytes. Which files these are is left to chance.

    Args:
        listed: the cases.
        cases: their folder.
        seen: what is known of cases that are done.
        limit: in seconds.
    """
    unboxed = [one.classes for one in seen if one.runs <= CLICKS]
    classes = float(np.median(unboxed)) if unboxed else 1.0
    sizes = np.zeros((len(listed), 3))
    deadline = time.monotonic() + limit
    for place in np.random.default_rng(0).permutation(len(listed)):
        if time.monotonic() > deadline:
            break
        sizes[place] = _read_size(cases / listed[place].case, classes)
    found = sizes[:, 0] > 0
    if found.all():
        return sizes
    image_bytes = np.array([one.image_bytes for one in listed], np.float64)
    # Where none could be read, only which is larger is known.
    ratio, typical = 1.0, np.array([1.0, CLICKS + 1])
    if found.any():
        ratio = sizes[found, 0].sum() / max(1.0, image_bytes[found].sum())
        typical = sizes[found, 1:].mean(axis=0)
    sizes[~found, 0] = np.maximum(1.0, image_bytes[~found] * ratio)
    sizes[~found, 1:] = typical
    return sizes


def _read_size(path: Path, unboxed_classes: float) -> tuple[float, float, float]:
    """Reads the size of a case; zeros where that fails, as the case then will."""
    try:
        with open_npz(path) as archive:
            shape = read_member_shape(archive, Place(path, "imgs"))
            boxes = read_member(archive, Place(path, "boxes"), MOST_BOXES_BYTES)
    except CaseError:
        return 0.0, 0.0, 0.0
    voxels = float(math.prod(shape or (0,)))
    if boxes is None:
        return voxels, unboxed_classes, CLICKS
    return voxels, max(1.0, float(boxes.size)), CLICKS + 1


def _features(sizes: Sizes) -> Floats:
    voxels, classes, runs = sizes.T
    return np.stack((runs, runs * classes, runs * voxels, runs * voxels * classes), axis=1)

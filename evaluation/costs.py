"""What cases cost: how long they are expected to take, from their sizes and from those seen.

A run of a method is taken to last a + b * classes + c * voxels + d * voxels * classes seconds, and
a case as many such runs as it has. The four are fitted to the cases that are done.
"""

import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from evaluation.index import Entry
from evaluation.listing import Listed
from evaluation.records import CLICKS
from gamt.io.case import MOST_BOXES_BYTES
from gamt.io.npz import CaseError, Place, open_npz, read_member, read_member_shape

Floats = npt.NDArray[np.float64]

READ_SECONDS = 5.0
"""How long to read sizes from files; those of the others are estimated from what was read."""

_LEAST_SEEN = 4
"""Cases from which on all four numbers are fitted; from fewer, d alone."""

_MOST_SEEN = 10_000
"""Cases after which nothing more is learnt."""

_ASSUMED_VOXELS_PER_BYTE = 4.0
"""Of a file, where none could be read: what CT in eight bits is compressed to."""


class Size(NamedTuple):
    """What the time of a case depends on.

    Attributes:
        voxels: of the image.
        classes: how many there are.
        runs: of the method: six, or five where there is no box.
    """

    voxels: float
    classes: float
    runs: float


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

    def expect(self, sizes: Sequence[Size]) -> Floats:
        """Returns the seconds that cases are expected to take."""
        return np.asarray(_features(sizes) @ np.array(self), np.float64)


UNSEEN = Rates(0.0, 0.0, 0.0, 1.0)
"""Where nothing is known: what it expects isn't in seconds, but in proportion to them."""


def fit_rates(sizes: Sequence[Size], seconds: Sequence[float]) -> Rates:
    """Returns what explains best how long cases took, relative to each of them.

    All together the cases are expected to take as long as they did.

    Args:
        sizes: of the cases.
        seconds: that each of them took.
    """
    if sum(seconds) <= 0:
        return UNSEEN
    found = np.array(UNSEEN)
    features, took = _features(sizes), np.maximum(seconds, 1e-9)
    if len(sizes) >= _LEAST_SEEN:
        # Scaled, because a voxel takes a billionth of what a run does.
        scales = np.maximum(features.max(axis=0), 1.0)
        found, _ = nnls(features / scales / took[:, None], np.ones(len(took)))
        found /= scales
    return Rates(*(found * (took.sum() / (features @ found).sum())).tolist())


class Costs:
    """How long the cases that are to be done will take, as far as it is known by now."""

    def __init__(self, todo: Sequence[Listed], sizes: Sequence[Size]) -> None:
        """Takes the cases, and their sizes."""
        self._todo = todo
        self._sizes = dict(zip((one.case for one in todo), sizes, strict=True))
        self._seen: list[tuple[Size, float]] = []
        self._rates = UNSEEN
        self._ended: list[str] = []
        self._all_seconds = float(self._rates.expect(sizes).sum())
        self._ended_seconds = 0.0

    def see(self, entries: Sequence[Entry]) -> None:
        """Learns from cases that are done. It fits all anew whenever twice as many are known."""
        before = len(self._seen)
        room = _MOST_SEEN - before
        if len(entries) > room:
            entries = random.Random(0).sample(entries, room)
        self._seen += [(size_of(one), one.seconds) for one in entries]
        if len(self._seen).bit_length() > before.bit_length():
            self._rates = fit_rates(*zip(*self._seen, strict=True))
            self._all_seconds = self._expect(self._sizes)
            self._ended_seconds = self._expect(self._ended)

    def end(self, case: str) -> None:
        """Notes that a case need not be done any more."""
        self._ended.append(case)
        self._ended_seconds += self._expect([case])

    @property
    def ended_share(self) -> float:
        """The share of the work that need not be done any more, in 0..1."""
        return self._ended_seconds / self._all_seconds if self._all_seconds else 1.0

    def longest_first(self) -> Iterator[Listed]:
        """Yields the cases; each time that of those left which is expected to take longest.

        Of equal ones the first.
        """
        left = [*reversed(self._todo)]
        rates = None
        while left:
            if rates != self._rates:
                rates = self._rates
                expected = rates.expect([self._sizes[one.case] for one in left])
                left = [left[place] for place in np.argsort(expected, kind="stable")]
            yield left.pop()

    def _expect(self, cases: Iterable[str]) -> float:
        return float(self._rates.expect([self._sizes[one] for one in cases]).sum())


def size_of(entry: Entry) -> Size:
    """Returns the size of a case that is done."""
    return Size(entry.voxels, entry.classes, entry.runs)


def read_sizes(
    listed: Sequence[Listed], cases: Path, seen: Sequence[Entry], limit: float = READ_SECONDS
) -> list[Size]:
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
    found: dict[int, Size] = {}
    deadline = time.monotonic() + limit
    places = list(range(len(listed)))
    random.Random(0).shuffle(places)
    for place in places:
        if time.monotonic() > deadline:
            break
        size = _read_size(cases / listed[place].case, classes)
        if size is not None:
            found[place] = size
    if len(found) == len(listed):
        return [found[place] for place in range(len(listed))]
    ratio, typical = _ASSUMED_VOXELS_PER_BYTE, (1.0, float(CLICKS + 1))
    if found:
        table = np.array(list(found.values()))
        ratio = table[:, 0].sum() / max(1, sum(listed[place].image_bytes for place in found))
        typical = (table[:, 1].mean(), table[:, 2].mean())
    return [
        found.get(place) or Size(max(1.0, one.image_bytes * ratio), *typical)
        for place, one in enumerate(listed)
    ]


def _read_size(path: Path, unboxed_classes: float) -> Size | None:
    """Reads the size of a case; None where that fails, as the case then will."""
    try:
        with open_npz(path) as archive:
            shape = read_member_shape(archive, Place(path, "imgs"))
            boxes = read_member(archive, Place(path, "boxes"), MOST_BOXES_BYTES)
    except CaseError:
        return None
    if shape is None:
        return None
    voxels = float(max(1, math.prod(shape)))
    if boxes is None:
        return Size(voxels, unboxed_classes, CLICKS)
    return Size(voxels, max(1.0, float(boxes.size)), CLICKS + 1)


def _features(sizes: Sequence[Size]) -> npt.NDArray[Any]:
    table = np.array(sizes, np.float64).reshape(-1, 3)
    voxels, classes, runs = table.T
    return np.stack((runs, runs * classes, runs * voxels, runs * voxels * classes), axis=1)

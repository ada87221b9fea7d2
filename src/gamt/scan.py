"""One crop of a volume, prepared for one segmenter: slices of any plane, encoded once."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, slice_view
from gamt.geometry import Grid
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, Segmenter, SliceMask


@dataclass(frozen=True, slots=True, eq=False)
class SliceRequest:
    """A question about one slice of a scan.

    Attributes:
        plane: the plane of the slice.
        index: the slice, as a grid index along the plane's normal.
        prompt: in the slice's grid pixels.
        multimask: as for `Segmenter.decode`.
    """

    plane: Plane
    index: int
    prompt: SlicePrompt
    multimask: bool | None = None


class Scan:
    """A resampled crop and the embeddings of its slices.

    Encoding does not depend on prompts, so that every class, view, direction and round that comes
    to a slice uses the same embedding. The least recently used ones go when memory is short.

    Attributes:
        grid: how the crop lies in the raw volume.
        image: (z, y, x) uint8, 0..255, on the grid.
        encoded: number of slices encoded so far.
    """

    def __init__(
        self, image: npt.NDArray[np.uint8], grid: Grid, segmenter: Segmenter, cache_bytes: int
    ) -> None:
        """Takes an image of the grid's shape; encodes nothing yet."""
        self.grid = grid
        self.image = image
        self.encoded = 0
        self._segmenter = segmenter
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._cache: OrderedDict[tuple[Plane, int], Embedding] = OrderedDict()

    def decode(self, requests: Sequence[SliceRequest]) -> Sequence[SliceMask]:
        """Answers requests for slices of one plane or several, in as few calls as possible."""
        answers: dict[int, SliceMask] = {}
        for key in dict.fromkeys((request.plane, request.multimask) for request in requests):
            same = [n for n, r in enumerate(requests) if (r.plane, r.multimask) == key]
            embeddings = self._embed(key[0], [requests[n].index for n in same])
            prompts = [requests[n].prompt for n in same]
            masks = self._segmenter.decode(embeddings, prompts, multimask=key[1])
            answers.update(zip(same, masks, strict=True))
        return [answers[n] for n in range(len(requests))]

    def _embed(self, plane: Plane, indices: Sequence[int]) -> list[Embedding]:
        missing = sorted({i for i in indices if (plane, i) not in self._cache})
        if missing:
            slices = np.stack([slice_view(self.image, plane, i) for i in missing])
            for index, embedding in zip(missing, self._segmenter.encode(slices), strict=True):
                self._cache[plane, index] = embedding
                self._cached_bytes += _size(embedding)
            self.encoded += len(missing)
        for index in indices:
            self._cache.move_to_end((plane, index))
        embeddings = [self._cache[plane, index] for index in indices]
        while self._cached_bytes > self._cache_bytes and self._cache:
            self._cached_bytes -= _size(self._cache.popitem(last=False)[1])
        return embeddings


def _size(embedding: Embedding) -> int:
    """Bytes of an array or tensor; embeddings of other kinds are taken to be small."""
    return int(getattr(embedding, "nbytes", 0))

"""One crop of a volume, prepared for one segmenter: slices of any plane, encoded once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
import numpy.typing as npt

from gamt.axes import Plane, slice_shape, slice_view
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, Segmenter, SliceMask
from gamt.segmenters.door import BeforeCall, SegmenterFault
from gamt.volume.cache import EmbeddingCache, KeyedSlice
from gamt.volume.geometry import Grid


@dataclass(frozen=True, slots=True, eq=False)
class SliceRequest:
    """A question about one slice of a scan.

    Attributes:
        plane: the plane of the slice.
        index: the slice, as a grid index along the plane's normal.
        prompt: in the slice's grid pixels. Where a tracker is asked, its `state` is the memory, and
            one that says nothing else leaves the slice to it.
        multimask: as for `Segmenter.decode`.
        position: of the slice in a tracker's memory (`Tracker.track`); None asks the segmenter by
            the prompt (`Segmenter.decode`).
        ahead: the slices that are likely to be asked for next, the likeliest first. They fill up a
            batch that is encoded anyway; no more of them than a batch has are looked at.
    """

    plane: Plane
    index: int
    prompt: SlicePrompt
    multimask: bool | None = None
    position: int | None = None
    ahead: Sequence[int] = ()


class Scan:
    """A resampled crop whose slices are encoded when they are asked for.

    Encoding does not depend on prompts, so that every class, view, direction and round that comes
    to a slice uses the same embedding.

    Attributes:
        grid: how the crop lies in the raw volume.
        anchors: in each plane, the slice that the target at hand asked for first.
    """

    def __init__(
        self,
        make_image: Callable[[], npt.NDArray[np.uint8]],
        grid: Grid,
        embeddings: EmbeddingCache,
    ) -> None:
        """Takes what makes an image of the grid's shape; makes and encodes nothing yet."""
        self.grid = grid
        self.anchors: dict[Plane, int] = {}
        self._make_image = make_image
        self._image: npt.NDArray[np.uint8] | None = None
        self._lock = threading.Lock()
        self._embeddings = embeddings
        self._slices: dict[tuple[Plane, int], KeyedSlice] = {}

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """(z, y, x) uint8, 0..255, on the grid; made once, and not every target needs it."""
        with self._lock:  # it may be made ahead, by another thread
            if self._image is None:
                self._image = self._make_image()
            return self._image

    @property
    def nbytes(self) -> int:
        """Bytes of the image; 0 before it is made."""
        return 0 if self._image is None else self._image.nbytes

    @property
    def segmenter(self) -> Segmenter:
        """The 2-D model that it is prepared for."""
        return self._embeddings.segmenter

    def decode(
        self,
        requests: Sequence[SliceRequest],
        before_call: BeforeCall = lambda call, slices: None,
    ) -> Sequence[SliceMask | SegmenterFault]:
        """Answers requests for slices of one plane or several, in as few calls as possible.

        Requests with a position are left to the tracker that the segmenter then is.

        A request has a fault for an answer where the segmenter had none, neither alone nor with
        others, or where it couldn't encode the slice.

        Args:
            requests: the questions.
            before_call: called before each batch of slices is encoded, before slices are decoded,
                and before each part of a failed call is tried again; what it raises ends all of it,
                and what was encoded until then is kept.
        """
        for request in requests:
            self.anchors.setdefault(request.plane, request.index)
        answers: dict[int, SliceMask | SegmenterFault] = {}
        keys = [(one.plane, one.multimask, one.position is None) for one in requests]
        for key in dict.fromkeys(keys):
            same = [n for n, one in enumerate(keys) if one == key]
            asked = [requests[n] for n in same]
            embeddings = self._embed(key[0], asked, before_call)
            prompts = [request.prompt for request in asked]
            positions = [one.position for one in asked if one.position is not None]
            shape = slice_shape(self.grid.shape, key[0])
            before_call("decode", len(asked))
            masks = (
                self._embeddings.door.track(embeddings, prompts, positions, shape, before_call)
                if positions
                else self._embeddings.door.decode(embeddings, prompts, shape, key[1], before_call)
            )
            answers.update(zip(same, masks, strict=True))
        return [answers[n] for n in range(len(requests))]

    def count_unseen(self, requests: Sequence[SliceRequest]) -> int:
        """Returns how many slices have to be encoded before requests can be answered."""
        asked = dict.fromkeys((request.plane, request.index) for request in requests)
        return sum(not self._embeddings.has(self._slice(*one)) for one in asked)

    def ahead(self, planes: Sequence[Plane]) -> Iterator[KeyedSlice]:
        """Yields all slices of some planes in turn, the likeliest to be asked for first.

        These are the nearest to the plane's anchor, or to its middle slice where it has none.
        """
        ways = []
        for plane in planes:
            size = self.grid.shape[plane.normal]
            away = np.abs(np.arange(size) - self.anchors.get(plane, size // 2))
            ways.append([(plane, int(index)) for index in np.argsort(away, kind="stable")])
        for step in zip_longest(*ways):
            yield from (self._slice(*one) for one in step if one is not None)

    def _embed(
        self, plane: Plane, requests: Sequence[SliceRequest], before_call: BeforeCall
    ) -> list[Embedding | SegmenterFault]:
        batch = self.segmenter.traits.batch
        steps = zip_longest(*(request.ahead[:batch] for request in requests))
        ahead = dict.fromkeys(index for index in chain(*steps) if index is not None)
        return self._embeddings.embed(
            [self._slice(plane, request.index) for request in requests],
            (self._slice(plane, index) for index in ahead),
            before_call,
        )

    def _slice(self, plane: Plane, index: int) -> KeyedSlice:
        if (plane, index) not in self._slices:
            self._slices[plane, index] = KeyedSlice.of(slice_view(self.image, plane, index))
        return self._slices[plane, index]

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

    A segmenter is shown grey slices, or such of three channels: of three windows of intensities, or
    each slice between its neighbours.

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
        neighbours: bool = False,
    ) -> None:
        """Makes and encodes nothing yet.

        Args:
            make_image: makes an image of the grid's shape (z, y, x) uint8, or one of three channels
                (z, y, x, 3), the middle one of which is `image`.
            grid: how the crop lies in the raw volume.
            embeddings: of the segmenter.
            neighbours: whether a segmenter is shown the slices one before and one after beside each
                slice, as three channels. Beyond its first and last slice, an image goes on with
                these. The image then has one channel.
        """
        self.grid = grid
        self.anchors: dict[Plane, int] = {}
        self._make_image = make_image
        self._neighbours = neighbours
        self._channels: npt.NDArray[np.uint8] | None = None
        self._lock = threading.Lock()
        self._embeddings = embeddings
        self._slices: dict[tuple[Plane, int], KeyedSlice] = {}

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """(z, y, x) uint8, 0..255, on the grid; made once, and not every target needs it."""
        channels = self._made()
        return channels if channels.ndim == 3 else channels[..., 1]

    @property
    def nbytes(self) -> int:
        """Bytes of the image, all channels of it; 0 before it is made."""
        return 0 if self._channels is None else self._channels.nbytes

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
        planes = [one.plane for one in requests]
        for plane in dict.fromkeys(planes):
            here = [n for n, one in enumerate(planes) if one is plane]
            # All at once: the cache may be too small to hold them until they are asked for again.
            embedded = self._embed(plane, [requests[n] for n in here], before_call)
            embeddings = dict(zip(here, embedded, strict=True))
            kinds = {n: (requests[n].multimask, requests[n].position is None) for n in here}
            for kind in dict.fromkeys(kinds.values()):
                same = [n for n in here if kinds[n] == kind]
                asked = [requests[n] for n in same]
                masks = self._ask(plane, asked, [embeddings[n] for n in same], before_call)
                answers.update(zip(same, masks, strict=True))
        return [answers[n] for n in range(len(requests))]

    def _ask(
        self,
        plane: Plane,
        requests: Sequence[SliceRequest],
        embeddings: Sequence[Embedding | SegmenterFault],
        before_call: BeforeCall,
    ) -> list[SliceMask | SegmenterFault]:
        """Answers requests for slices of one plane by one call of one kind."""
        door, shape = self._embeddings.door, slice_shape(self.grid.shape, plane)
        prompts = [one.prompt for one in requests]
        positions = [one.position for one in requests if one.position is not None]
        before_call("track" if positions else "decode", len(requests))
        if positions:
            return door.track(embeddings, prompts, positions, shape, before_call)
        return door.decode(embeddings, prompts, shape, requests[0].multimask, before_call)

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
            self._slices[plane, index] = KeyedSlice.of(self._pixels(plane, index))
        return self._slices[plane, index]

    def _pixels(self, plane: Plane, index: int) -> npt.NDArray[np.uint8]:
        """Returns what the segmenter is shown of a slice: (rows, columns) or (rows, columns, 3)."""
        if not self._neighbours:
            return slice_view(self._made(), plane, index)
        last = self.grid.shape[plane.normal] - 1
        around: slice | npt.NDArray[np.intp] = slice(index - 1, index + 2)  # takes no memory
        if index in (0, last):
            around = np.clip(np.arange(index - 1, index + 2), 0, last)
        where = (*[slice(None)] * plane.normal, around)
        return np.moveaxis(self.image[where], plane.normal, -1)

    def _made(self) -> npt.NDArray[np.uint8]:
        """Returns the image, (z, y, x) or (z, y, x, 3)."""
        with self._lock:  # it may be made ahead, by another thread
            if self._channels is None:
                self._channels = self._make_image()
            return self._channels

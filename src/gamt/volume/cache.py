"""Embeddings of slices, kept by what the slices show, so that none is encoded twice."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamt.io.files import atomic_write
from gamt.segmenters.base import Embedding, Segmenter, StorableSegmenter

logger = logging.getLogger("gamt")


@dataclass(frozen=True, slots=True, eq=False)
class KeyedSlice:
    """A slice, and what it is found again by.

    Attributes:
        pixels: (rows, columns) uint8.
        key: the digest of shape and pixels.
    """

    pixels: npt.NDArray[np.uint8]
    key: str

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> "KeyedSlice":
        """Digests a slice (rows, columns)."""
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(pixels.tobytes())
        return cls(pixels, digest.hexdigest())


class EmbeddingCache:
    """One segmenter's embeddings of all slices that were asked for.

    A slice is known by its content: classes, directions, rounds and crops that come to the same
    pixels share its embedding, and so do later processes where there is a folder. The least
    recently used embeddings leave the memory when it is full.

    Attributes:
        segmenter: makes the embeddings.
        encoded: number of slices that it has encoded so far.
    """

    def __init__(self, segmenter: Segmenter, limit_bytes: int, folder: Path | None = None) -> None:
        """Starts empty.

        Args:
            segmenter: makes the embeddings.
            limit_bytes: of memory; embeddings without an attribute `nbytes` count as nothing.
            folder: where embeddings outlive the process, shared with others; made where there is
                none. With a segmenter whose embeddings can't be written (`StorableSegmenter`) it
                stays as it is, and the log says so.
        """
        self.segmenter = segmenter
        self.encoded = 0
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._memory: OrderedDict[str, Embedding] = OrderedDict()
        self._store: EmbeddingStore | None = None
        if folder is not None:
            self._store = open_store(segmenter, folder)

    def embed(
        self,
        slices: Sequence[KeyedSlice],
        ahead: Iterable[KeyedSlice] = (),
        before_batch: Callable[[], None] = lambda: None,
    ) -> list[Embedding]:
        """Returns the embeddings of slices, encoding those that are missing.

        Args:
            slices: of one plane.
            ahead: slices of the same plane that are likely to be asked for next, the likeliest
                first; they fill up a batch that is encoded anyway.
            before_batch: called before each batch is encoded; what it raises ends the call, and
                what was encoded until then is kept.
        """
        wanted = {one.key: one for one in slices}
        missing = {one.key: one for one in wanted.values() if not self._find(one)}
        size = self.segmenter.traits.batch
        room = -len(missing) % size
        likely = iter(ahead)
        while room and (one := next(likely, None)) is not None:
            if one.key not in missing and not self._find(one):
                missing[one.key] = one
                room -= 1
        for start in range(0, len(missing), size):
            before_batch()
            self._encode(list(missing.values())[start : start + size])
        for one in slices:
            self._memory.move_to_end(one.key)
        embeddings = [self._memory[one.key] for one in slices]
        while self._used_bytes > self._limit_bytes and self._memory:
            self._used_bytes -= _size(self._memory.popitem(last=False)[1])
        return embeddings

    def _encode(self, batch: Sequence[KeyedSlice]) -> None:
        made = self.segmenter.encode(np.stack([one.pixels for one in batch]))
        self.encoded += len(batch)
        for one, embedding in zip(batch, made, strict=True):
            self._keep(one, embedding)
            if self._store is not None:
                self._store.write(one, embedding)

    def _find(self, one: KeyedSlice) -> bool:
        """Says whether a slice's embedding is in memory, after a look into the folder."""
        if one.key in self._memory:
            return True
        embedding = None if self._store is None else self._store.read(one)
        if embedding is None:
            return False
        self._keep(one, embedding)
        return True

    def _keep(self, one: KeyedSlice, embedding: Embedding) -> None:
        self._memory[one.key] = embedding
        self._used_bytes += _size(embedding)


class EmbeddingStore:
    """A folder of embeddings, one file a slice, which many processes may use at once.

    The files of one checkpoint, precision and preparation lie in a folder of their own, named
    after the segmenter's fingerprint. A file appears whole or not at all.
    """

    def __init__(self, segmenter: StorableSegmenter, folder: Path) -> None:
        """Takes the cache's folder."""
        self._segmenter = segmenter
        self._folder = folder / f"{segmenter.name}-{segmenter.fingerprint}"

    def read(self, one: KeyedSlice) -> Embedding | None:
        """Returns a slice's embedding, or None where there is none that can be read."""
        path = self._path(one)
        try:
            array = np.load(path, allow_pickle=False)
            return self._segmenter.unpack(array, (one.pixels.shape[0], one.pixels.shape[1]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            logger.warning("%s: not a readable embedding, made anew: %s", path, error)
            return None

    def write(self, one: KeyedSlice, embedding: Embedding) -> None:
        """Writes a slice's embedding.

        Raises:
            OSError: the file can't be written; it names the path.
        """
        path = self._path(one)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.save(file, self._segmenter.pack(embedding), allow_pickle=False)

    def _path(self, one: KeyedSlice) -> Path:
        return self._folder / one.key[:2] / f"{one.key}.npy"


def open_store(segmenter: Segmenter, folder: Path) -> EmbeddingStore | None:
    """Returns a folder's store; None, and a warning in the log, if nothing can be kept there."""
    if isinstance(segmenter, StorableSegmenter):
        return EmbeddingStore(segmenter, folder)
    logger.warning(
        "%s: encoded slices of the segmenter %s can't be written, none are kept",
        folder,
        segmenter.name,
    )
    return None


def _size(embedding: Embedding) -> int:
    return int(getattr(embedding, "nbytes", 0))

"""Embeddings of slices, kept by what the slices show, so that none is encoded twice."""

import copy
import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamt.io.files import atomic_write, remove_partials
from gamt.segmenters.base import Embedding, Segmenter, StorableSegmenter
from gamt.segmenters.door import BeforeCall, Door, SegmenterFault, describe_exception

logger = logging.getLogger("gamt")


@dataclass(frozen=True, slots=True, eq=False)
class KeyedSlice:
    """A slice, and what it is found again by.

    Attributes:
        pixels: (rows, columns) uint8, or (rows, columns, 3) where the channels differ.
        key: the digest of shape and pixels.
    """

    pixels: npt.NDArray[np.uint8]
    key: str

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> "KeyedSlice":
        """Digests a slice, all channels of it."""
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(pixels.tobytes())
        return cls(pixels, digest.hexdigest())


class EmbeddingCache:
    """One segmenter's embeddings of all slices that were asked for.

    A slice is known by its content: classes, directions, rounds and crops that come to the same
    pixels share its embedding, and so do later processes where there is a folder. The least
    recently used embeddings leave the memory when it is full.

    Several users share embeddings, and the limit, by a cache each (`join`). An embedding counts for
    the cache that used it last. When the memory is full, what left caches had used goes first, then
    what the cache with the most bytes used least recently: what a cache has within its share, the
    limit over the number of caches, stays whatever the others do. Only one of them may be in use at
    a time, but that `before_call` may let others go on.

    Attributes:
        door: asks the segmenter, which makes the embeddings.
        encoded: number of slices that it has encoded for this cache so far.
        found: number of times that a slice asked for was there already.
    """

    def __init__(self, segmenter: Segmenter, limit_bytes: int, folder: Path | None = None) -> None:
        """Starts empty.

        Args:
            segmenter: makes the embeddings.
            limit_bytes: of memory; embeddings whose attribute `nbytes` is missing, or no whole
                number from 0 on, count as nothing.
            folder: where embeddings outlive the process, shared with others; made where there is
                none. With a segmenter whose embeddings can't be written (`StorableSegmenter`) it
                stays as it is, and the log says so. So it does from when it can't be written to.
        """
        self.door = Door(segmenter)
        self.encoded = 0
        self.found = 0
        self._shelf = _Shelf()
        self._memory = _Shelves(limit_bytes)
        self._memory.join(self._shelf)
        self._store: EmbeddingStore | None = None
        if folder is not None:
            self._store = open_store(segmenter, folder)

    def join(self) -> "EmbeddingCache":
        """Returns a cache for another user, which shares this one's embeddings and limit."""
        other = copy.copy(self)
        other.door = Door(self.segmenter)
        other.encoded = other.found = 0
        other._shelf = _Shelf()
        self._memory.join(other._shelf)
        return other

    def leave(self) -> None:
        """Gives up the cache's share; its embeddings stay until others need the room."""
        self._memory.leave(self._shelf)

    @property
    def segmenter(self) -> Segmenter:
        """The 2-D model that makes the embeddings."""
        return self.door.segmenter

    @property
    def used_bytes(self) -> int:
        """Bytes in memory that count for this cache."""
        return self._shelf.used_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes in memory of all caches that share the limit."""
        return self._memory.used_bytes

    def has_room(self, slices: int) -> bool:
        """Says whether more embeddings, as large as the latest one, fit into the cache's share."""
        return self._memory.has_room(self._shelf, slices)

    def embed(
        self,
        slices: Sequence[KeyedSlice],
        ahead: Iterable[KeyedSlice] = (),
        before_call: BeforeCall = lambda call, slices: None,
    ) -> list[Embedding | SegmenterFault]:
        """Returns the embeddings of slices, or faults, encoding those that are missing.

        Args:
            slices: of one plane.
            ahead: slices of the same plane that are likely to be asked for next, the likeliest
                first; they fill up a batch that is encoded anyway.
            before_call: called before each batch is encoded; what it raises ends the call, and
                what was encoded until then is kept.
        """
        wanted = {one.key: one for one in slices}
        known: dict[str, Embedding | SegmenterFault]
        known = {key: made for key, one in wanted.items() if (made := self.find(one)) is not None}
        self.found += len(known)
        missing = {key: one for key, one in wanted.items() if key not in known}
        size, asked = self.segmenter.traits.batch, len(missing)
        room = -asked % size
        likely = iter(ahead)
        while room and (one := next(likely, None)) is not None:
            if one.key not in missing and self.find(one) is None:
                missing[one.key] = one
                room -= 1
        for start in range(0, len(missing), size):
            batch = list(missing.values())[start : start + size]
            before_call("encode", len(batch))
            known |= encode_together([(self, one) for one in batch], asked - start, before_call)
        for one in slices:  # the latest used; while others went on, they may have pushed it out
            if not isinstance(known[one.key], SegmenterFault):
                self._memory.put(one.key, known[one.key], self._shelf)
        self._memory.trim()
        return [known[one.key] for one in slices]

    def has(self, one: KeyedSlice) -> bool:
        """Says whether there is a slice's embedding in memory or in the folder; reads none."""
        known = self._memory.get(one.key) is not None
        return known or (self._store is not None and self._store.has(one))

    def find(self, one: KeyedSlice) -> Embedding | None:
        """Returns a slice's embedding from memory or from the folder; None where there is none."""
        embedding = self._memory.get(one.key)
        if embedding is None and self._store is not None:
            embedding = self._store.read(one)
        if embedding is not None:
            self._memory.put(one.key, embedding, self._shelf)
        return embedding

    def _keep(self, one: KeyedSlice, embedding: Embedding) -> None:
        """Keeps an embedding that was just made for this cache."""
        self.encoded += 1
        self._memory.put(one.key, embedding, self._shelf)
        if self._store is not None and not self._store.write(one, embedding):
            self._store = None


def encode_together(
    slices: Sequence[tuple[EmbeddingCache, KeyedSlice]],
    wanted: int,
    before_repeat: BeforeCall = lambda call, slices: None,
) -> dict[str, Embedding | SegmenterFault]:
    """Encodes a batch of slices for caches that share their memory, but for what is in it already.

    Args:
        slices: with the cache of each, one at least; all slices of one shape.
        wanted: how many of them, the first, are asked for now, or more; see `Door.encode`.
        before_repeat: as for `Door.encode`.

    Returns:
        The embeddings by key, or faults, which are not kept.
    """
    door, memory = slices[0][0].door, slices[0][0]._memory
    known = {one.key: memory.get(one.key) for _, one in slices}
    wanted = sum(known[one.key] is None for _, one in slices[:wanted])
    missing = {one.key: (cache, one) for cache, one in slices if known[one.key] is None}
    if missing:
        pixels = np.stack([one.pixels for _, one in missing.values()])
        made = door.encode(pixels, wanted, before_repeat)
        for (cache, one), embedding in zip(missing.values(), made, strict=True):
            if not isinstance(embedding, SegmenterFault):
                cache._keep(one, embedding)
            known[one.key] = embedding
        memory.trim()
    return known


class _Shelf:
    """Embeddings that count for one cache, the least recently used first."""

    def __init__(self) -> None:
        self.embeddings: OrderedDict[str, Embedding] = OrderedDict()
        self.sizes: dict[str, int] = {}  # as they were when added: what is lazy may grow
        self.used_bytes = 0

    def add(self, key: str, embedding: Embedding) -> None:
        self.embeddings[key] = embedding
        self.sizes[key] = _size(embedding)
        self.used_bytes += self.sizes[key]

    def remove(self, key: str) -> None:
        del self.embeddings[key]
        self.used_bytes -= self.sizes.pop(key)


class _Shelves:
    """Embeddings under one limit, each on the shelf of the cache that used it last.

    Attributes:
        limit_bytes: of all shelves together.
        latest_bytes: size of the embedding that was used last.
        shelves: of the caches that share the limit.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.latest_bytes = 0
        self.shelves: list[_Shelf] = []
        self._left = _Shelf()
        self._places: dict[str, _Shelf] = {}
        self._lock = threading.RLock()  # caches join and leave while others are in use

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return self._left.used_bytes + sum(shelf.used_bytes for shelf in self.shelves)

    def get(self, key: str) -> Embedding | None:
        with self._lock:
            shelf = self._places.get(key)
            return None if shelf is None else shelf.embeddings[key]

    def join(self, shelf: _Shelf) -> None:
        """Adds a shelf."""
        with self._lock:
            self.shelves.append(shelf)

    def has_room(self, shelf: _Shelf, embeddings: int) -> bool:
        """Says whether more embeddings, as large as the latest, fit into a shelf's share."""
        with self._lock:
            share = self.limit_bytes / max(1, len(self.shelves))
            return shelf.used_bytes + embeddings * self.latest_bytes <= share

    def put(self, key: str, embedding: Embedding, shelf: _Shelf) -> None:
        """Puts an embedding onto a shelf, as the latest used; it is on no other one then."""
        with self._lock:
            if key in self._places:
                self._places[key].remove(key)
            if shelf not in self.shelves:
                shelf = self._left
            shelf.add(key, embedding)
            self._places[key] = shelf
            self.latest_bytes = shelf.sizes[key]

    def leave(self, shelf: _Shelf) -> None:
        """Takes a shelf away; what is on it stays until others need the room."""
        with self._lock:
            self.shelves.remove(shelf)
            for key, embedding in list(shelf.embeddings.items()):
                self.put(key, embedding, self._left)

    def trim(self) -> None:
        """Keeps to the limit."""
        with self._lock:
            while self._places and self.used_bytes > self.limit_bytes:
                fullest = max(self.shelves, key=lambda one: one.used_bytes, default=self._left)
                shelf = self._left if self._left.embeddings else fullest
                key = next(iter(shelf.embeddings))
                shelf.remove(key)
                del self._places[key]


class EmbeddingStore:
    """A folder of embeddings, one file a slice, which many processes may use at once.

    The files of one class, checkpoint, precision and preparation lie in a folder of their own,
    whatever name the segmenter was loaded by. A file appears whole or not at all; what a process
    has left that was killed amid one is removed when the next file is written beside it.
    """

    def __init__(self, segmenter: StorableSegmenter, folder: Path) -> None:
        """Takes the cache's folder."""
        # A digest, as what a segmenter says may be a path; and by class, as two packages'
        # segmenters may both call themselves "1".
        kind = type(segmenter)
        identity = (kind.__module__, kind.__qualname__, segmenter.fingerprint)
        digest = hashlib.blake2b(repr(identity).encode(), digest_size=16)
        self._segmenter = segmenter
        self._folder = folder / digest.hexdigest()
        self._tidied: set[Path] = set()

    def read(self, one: KeyedSlice) -> Embedding | None:
        """Returns a slice's embedding, or None where there is none that can be read."""
        path = self._path(one)
        try:
            array = np.load(path, allow_pickle=False)
            return self._segmenter.unpack(array, (one.pixels.shape[0], one.pixels.shape[1]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of the file, or of a segmenter that unpacks it
            reason = describe_exception(error)
            logger.warning("%s: not a readable embedding, made anew: %s", path, reason)
            return None

    def has(self, one: KeyedSlice) -> bool:
        """Says whether there is a file of a slice's embedding, readable or not."""
        return self._path(one).is_file()

    def write(self, one: KeyedSlice, embedding: Embedding) -> bool:
        """Writes a slice's embedding.

        Returns:
            Whether it could be written; if not, the log says why.
        """
        path = self._path(one)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent not in self._tidied:
                remove_partials(path.parent)
                self._tidied.add(path.parent)
            with atomic_write(path) as file:
                np.save(file, self._segmenter.pack(embedding), allow_pickle=False)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of the disk, or of a segmenter that packs it
            reason = describe_exception(error)
            logger.warning("%s: no embedding can be kept: %s", self._folder, reason)
            return False
        return True

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
    """Returns how many bytes an embedding says it takes; 0 where it says nothing of use."""
    try:
        size = getattr(embedding, "nbytes", 0)
    except KeyboardInterrupt:
        raise
    except BaseException:  # it is the segmenter's, and may compute its size
        return 0
    return max(0, int(size)) if isinstance(size, Integral) else 0

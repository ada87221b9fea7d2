"""Slices are encoded ahead while nobody computes, and for nobody at the cost of others."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.axes import Plane, slice_view
from gamt.segmenters.base import Embedding, Traits
from gamt.server.ahead import EncodeAhead
from gamt.server.metrics import Metrics
from gamt.server.turns import Turn, Turns
from gamt.settings import Settings
from gamt.volume.cache import EmbeddingCache
from gamt.volume.preparation import PreparedVolume
from gamt.volume.scan import Scan
from gamt.windows import IntensityWindow
from tests.doubles import Storable, Thresholder
from tests.server.test_metrics import read
from tests.server.test_turns import SECONDS, wait_until

SHAPE = (3, 4, 5)
SETTINGS = Settings(
    crop_voxels=16, planes=(Plane.AXIAL, Plane.CORONAL), window=IntensityWindow(0, 255)
)
"""All crops are the whole image, which is seen as it is."""

SLICE_BYTES = 20
"""Of an axial slice, which is its own embedding."""


class Encoder(Thresholder):
    """Keeps the slices by batch; may stop before one, or fail at one.

    Attributes:
        batches: the slices of each batch.
        stops: whether it is to stop at the next batch.
        reached: is set while it has stopped.
        through: lets it go on.
        fails: whether it fails.
    """

    def __init__(self, traits: Traits = Traits()) -> None:  # noqa: B008 - it can't be changed
        super().__init__()
        self.traits = traits
        self.batches: list[list[npt.NDArray[np.uint8]]] = []
        self.stops = self.fails = False
        self.reached, self.through = threading.Event(), threading.Event()

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        if self.stops:
            self.stops = False
            self.reached.set()
            assert self.through.wait(SECONDS)
        if self.fails:
            raise MemoryError("no room")
        self.batches.append([one.copy() for one in slices])
        return super().encode(slices)


class StorableEncoder(Encoder, Storable):
    """One whose embeddings can be written."""


def draw(seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draws an image of which no two slices are equal."""
    return np.random.default_rng(seed).permutation(240).astype(np.uint8)[:60].reshape(SHAPE)


def prepare(cache: EmbeddingCache, image: npt.NDArray[Any], **changes: Any) -> PreparedVolume:
    return PreparedVolume(image, (1, 1, 1), cache, replace(SETTINGS, **changes))


def places(image: npt.NDArray[np.uint8], encoder: Encoder) -> list[list[tuple[Plane, int]]]:
    """Returns which slices of an image the batches were."""
    known = {
        slice_view(image, plane, index).tobytes(): (plane, index)
        for plane in Plane
        for index in range(SHAPE[plane.normal])
    }
    return [[known[one.tobytes()] for one in batch] for batch in encoder.batches]


@contextmanager
def working(
    encoder: Encoder, turns: Turns, metrics: Metrics | None = None
) -> Iterator[EncodeAhead]:
    ahead = EncodeAhead(encoder, turns, metrics or Metrics())
    try:
        yield ahead
    finally:
        encoder.through.set()
        ahead.close()


def test_slices_are_encoded_outwards_from_the_middle_in_all_planes_at_once() -> None:
    encoder, image, metrics = Encoder(), draw(), Metrics()
    cache = EmbeddingCache(encoder, 2**20)
    with working(encoder, Turns(), metrics) as ahead:
        ahead.plan(cache, prepare(cache, image))
        wait_until(lambda: ahead.planned == 0)
    assert places(image, encoder) == [  # 3 axial and 4 coronal slices
        [(Plane.AXIAL, 1)],
        [(Plane.CORONAL, 2)],
        [(Plane.AXIAL, 0)],
        [(Plane.CORONAL, 1)],
        [(Plane.AXIAL, 2)],
        [(Plane.CORONAL, 3)],
        [(Plane.CORONAL, 0)],
    ]
    assert cache.encoded == 7
    assert read(metrics)["gamt_slices_encoded_total", "ahead"] == 7


def test_batches_are_of_one_shape() -> None:
    encoder, image = Encoder(Traits(batch=2)), draw()
    cache = EmbeddingCache(encoder, 2**20)
    with working(encoder, Turns()) as ahead:
        ahead.plan(cache, prepare(cache, image))
        wait_until(lambda: ahead.planned == 0)
    assert places(image, encoder) == [
        [(Plane.AXIAL, 1), (Plane.AXIAL, 0)],
        [(Plane.CORONAL, 2), (Plane.CORONAL, 1)],
        [(Plane.AXIAL, 2)],
        [(Plane.CORONAL, 3), (Plane.CORONAL, 0)],
    ]


def test_batches_are_filled_up_with_the_slices_of_other_sessions() -> None:
    encoder = Encoder(Traits(batch=8))
    first = EmbeddingCache(encoder, 2**20)
    caches = [first, first.join()]
    turns = Turns()
    held = Turn(turns, lambda: False)
    held.take()
    with working(encoder, turns) as ahead:
        for seed, cache in enumerate(caches):
            volume = prepare(cache, draw(seed), planes=(Plane.AXIAL,))
            ahead.plan(cache, volume)
        held.give()
        wait_until(lambda: ahead.planned == 0)
    assert [len(batch) for batch in encoder.batches] == [6]  # three of each
    assert [cache.encoded for cache in caches] == [3, 3]


def test_sessions_take_turns() -> None:
    encoder = Encoder()
    first = EmbeddingCache(encoder, 2**20)
    caches = [first, first.join()]
    turns = Turns()
    held = Turn(turns, lambda: False)
    held.take()
    with working(encoder, turns) as ahead:
        for seed, cache in enumerate(caches):
            volume = prepare(cache, draw(seed), planes=(Plane.AXIAL,))
            ahead.plan(cache, volume)
        held.give()
        wait_until(lambda: ahead.planned == 0)
    whose = [0 if batch[0].tobytes() in draw(0).tobytes() else 1 for batch in encoder.batches]
    assert sorted(whose[:2]) == sorted(whose[2:4]) == sorted(whose[4:]) == [0, 1]


def test_it_stops_when_the_sessions_share_is_full() -> None:
    encoder = Encoder()
    cache = EmbeddingCache(encoder, 4 * SLICE_BYTES)
    cache.join()  # so that a share is two slices
    with working(encoder, Turns()) as ahead:
        ahead.plan(cache, prepare(cache, draw(), planes=(Plane.AXIAL,)))
        wait_until(lambda: ahead.planned == 0)
    assert cache.encoded == 2
    assert cache.used_bytes == 2 * SLICE_BYTES


def test_it_stops_after_the_first_slice_where_a_share_holds_none() -> None:
    encoder = Encoder()
    cache = EmbeddingCache(encoder, SLICE_BYTES - 1)
    with working(encoder, Turns()) as ahead:
        ahead.plan(cache, prepare(cache, draw()))
        wait_until(lambda: ahead.planned == 0)
    assert cache.encoded == 1  # before it, nobody knows how large an embedding is
    assert cache.total_bytes == 0


def test_slices_in_a_folder_are_not_loaded_ahead(tmp_path: Path) -> None:
    encoder = StorableEncoder()
    image, volumes = draw(), []
    for limit_bytes in (2**20, 2 * SLICE_BYTES):
        cache = EmbeddingCache(encoder, limit_bytes, tmp_path)
        volumes.append(prepare(cache, image))
        with working(encoder, Turns()) as ahead:
            ahead.plan(cache, volumes[-1])
            wait_until(lambda: ahead.planned == 0)
    assert len(encoder.batches) == 7  # all, the first time
    assert volumes[-1].embeddings.total_bytes == 0


def test_nothing_is_encoded_while_somebody_computes_or_wants_to() -> None:
    encoder, turns = Encoder(), Turns()
    cache = EmbeddingCache(encoder, 2**20)
    encoder.stops = True
    with working(encoder, turns) as ahead:
        ahead.plan(cache, prepare(cache, draw()))
        assert encoder.reached.wait(SECONDS)
        turn = Turn(turns, lambda: False)
        taking = threading.Thread(target=turn.take)
        taking.start()
        wait_until(lambda: turns.waiting == 1)
        encoder.through.set()
        taking.join(SECONDS)
        assert len(encoder.batches) == 1  # the one that had begun
        for _ in range(10):
            assert turn.pass_on()
        assert len(encoder.batches) == 1
        turn.give()
        wait_until(lambda: ahead.planned == 0)
    assert cache.encoded == 7


def test_what_is_dropped_is_not_gone_on_with() -> None:
    encoder = Encoder()
    cache = EmbeddingCache(encoder, 2**20)
    encoder.stops = True
    with working(encoder, Turns()) as ahead:
        ahead.plan(cache, prepare(cache, draw()))
        assert encoder.reached.wait(SECONDS)
        ahead.drop(cache)
        assert ahead.planned == 0
        encoder.through.set()
    assert cache.encoded == 1


def test_another_plan_takes_the_place_of_a_sessions_plan() -> None:
    encoder, other = Encoder(), draw(1)
    cache = EmbeddingCache(encoder, 2**20)
    encoder.stops = True
    with working(encoder, Turns()) as ahead:
        ahead.plan(cache, prepare(cache, draw()))
        assert encoder.reached.wait(SECONDS)
        ahead.plan(cache, prepare(cache, other))
        assert ahead.planned == 1
        encoder.through.set()
        wait_until(lambda: ahead.planned == 0)
    encoder.batches.pop(0)
    assert places(other, encoder)[0] == [(Plane.AXIAL, 1)]
    assert cache.encoded == 8


def test_a_failure_ends_the_plan_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    encoder = Encoder()
    cache = EmbeddingCache(encoder, 2**20)
    encoder.fails = True
    with working(encoder, Turns()) as ahead:
        ahead.plan(cache, prepare(cache, draw()))
        wait_until(lambda: ahead.planned == 0)
        assert "encoding ahead failed" in caplog.text
        encoder.fails = False
        ahead.plan(cache, prepare(cache, draw()))
        wait_until(lambda: ahead.planned == 0)
    assert cache.encoded == 7


def test_a_segmenter_that_keeps_slices_as_they_are_gets_the_window_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Encoder(Traits(intensities_alone=True))
    cache = EmbeddingCache(encoder, 2**20)
    volume = prepare(cache, draw(), window="auto")
    with working(encoder, Turns()) as ahead:
        ahead.plan(cache, volume)
        wait_until(lambda: ahead.planned == 0)
    assert encoder.batches == []
    monkeypatch.setattr("gamt.volume.preparation.intensity_window", pytest.fail)
    assert volume.full_window.width > 0  # it is there already


def test_others_compute_while_a_sessions_image_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    reached, through = threading.Event(), threading.Event()
    whole = PreparedVolume.scan

    def scan(volume: PreparedVolume, *arguments: Any) -> Scan:
        made = whole(volume, *arguments)
        make = made._make_image

        def make_slowly() -> npt.NDArray[np.uint8]:
            reached.set()
            assert through.wait(SECONDS)
            return make()

        made._make_image = make_slowly
        return made

    monkeypatch.setattr(PreparedVolume, "scan", scan)
    encoder, turns = Encoder(), Turns()
    cache = EmbeddingCache(encoder, 2**20)
    with working(encoder, turns) as ahead:
        ahead.plan(cache, prepare(cache, draw()))
        assert reached.wait(SECONDS)
        turn = Turn(turns, lambda: False)
        taking = threading.Thread(target=turn.take)
        taking.start()
        taking.join(SECONDS / 2)
        has_it = not taking.is_alive()
        through.set()
        taking.join(SECONDS)
        turn.give()
        wait_until(lambda: ahead.planned == 0)
    assert has_it
    assert cache.encoded == 7

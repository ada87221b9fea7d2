"""Embeddings are found again by what a slice shows: in memory, and in a folder."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, SliceMask, Traits
from gamt.segmenters.door import BeforeCall, SegmenterFault
from gamt.volume.cache import EmbeddingCache, KeyedSlice, encode_together

AMPLE = 2**20
IMAGE = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


@dataclass
class Halves:
    """An embedding: half of every pixel."""

    values: npt.NDArray[np.float32]
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


class Halver:
    """Makes an embedding of 4 bytes a pixel, and keeps count."""

    def __init__(self, fingerprint: str = "a", batch: int = 1) -> None:
        self.name = "halver"
        self.fingerprint = fingerprint
        self.traits = Traits(batch=batch)
        self.encoded: list[npt.NDArray[np.uint8]] = []

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        self.encoded += [one.copy() for one in slices]
        return [Halves(one.ravel() / np.float32(2), one.shape) for one in slices]

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        raise NotImplementedError

    def pack(self, embedding: Embedding) -> npt.NDArray[Any]:
        return np.asarray(embedding.values)

    def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> Embedding:
        if array.size != shape[0] * shape[1]:
            raise ValueError("not of this slice")
        return Halves(array, shape)


def embed(
    cache: EmbeddingCache,
    *images: npt.NDArray[np.uint8],
    before_call: BeforeCall = lambda call, slices: None,
) -> list[Embedding]:
    found = cache.embed([KeyedSlice.of(image) for image in images], before_call=before_call)
    for image, embedding in zip(images, found, strict=True):
        assert isinstance(embedding, Halves)
        assert embedding.shape == image.shape
        np.testing.assert_array_equal(embedding.values, image.ravel() / 2)
    return found


# --- keys ---------------------------------------------------------------------------------------


def test_equal_slices_have_one_key_however_they_lie_in_memory() -> None:
    columns = np.asfortranarray(IMAGE[0])
    assert KeyedSlice.of(columns).key == KeyedSlice.of(IMAGE[0].copy()).key


def test_other_pixels_and_other_shapes_have_other_keys() -> None:
    keys = {KeyedSlice.of(one).key for one in (*IMAGE, IMAGE[0].T, IMAGE[0].reshape(5, 4))}
    assert len(keys) == 5


# --- memory -------------------------------------------------------------------------------------


def test_equal_slices_are_encoded_once() -> None:
    segmenter = Halver()
    cache = EmbeddingCache(segmenter, AMPLE)
    embed(cache, IMAGE[0], IMAGE[1], IMAGE[0].copy())
    embed(cache, IMAGE[1].copy())
    assert len(segmenter.encoded) == cache.encoded == 2


def test_the_least_recently_used_embedding_is_forgotten() -> None:
    segmenter = Halver()
    cache = EmbeddingCache(segmenter, limit_bytes=2 * IMAGE[0].size * 4)
    for n in (0, 1, 0, 2):  # 2 is one too many, and 1 was used longest ago
        embed(cache, IMAGE[n])
    assert cache.encoded == 3
    embed(cache, IMAGE[0])
    embed(cache, IMAGE[2])
    assert cache.encoded == 3
    embed(cache, IMAGE[1])
    assert cache.encoded == len(segmenter.encoded) == 4


@pytest.mark.parametrize(("limit_bytes", "encoded"), [(139, 3), (140, 2)])
def test_the_limit_counts_the_bytes_of_all_shapes(limit_bytes: int, encoded: int) -> None:
    # 20 pixels and 15 pixels of 4 bytes each: 140 bytes hold both.
    cache = EmbeddingCache(Halver(), limit_bytes)
    for image in (IMAGE[0], IMAGE[:, 0], IMAGE[0]):
        embed(cache, image)
    assert cache.encoded == encoded


def test_a_call_that_is_larger_than_the_limit_is_encoded_once() -> None:
    cache = EmbeddingCache(Halver(), limit_bytes=0)
    embed(cache, IMAGE[2], IMAGE[0], IMAGE[1], IMAGE[2])
    assert cache.encoded == 3
    embed(cache, IMAGE[2])
    assert cache.encoded == 4


def test_embeddings_of_unknown_size_are_kept() -> None:
    class Opaque(Halver):
        def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
            return [object() for _ in super().encode(slices)]

    cache = EmbeddingCache(Opaque(), limit_bytes=0)
    first = cache.embed([KeyedSlice.of(IMAGE[0])])
    assert cache.embed([KeyedSlice.of(IMAGE[0])])[0] is first[0]


def test_batches_are_as_large_as_the_segmenter_likes() -> None:
    sizes = []

    class Batches(Halver):
        def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
            sizes.append(len(slices))
            return super().encode(slices)

    embed(EmbeddingCache(Batches(batch=2), AMPLE), *IMAGE)
    assert sizes == [2, 1]


def test_equal_slices_ahead_take_one_place_in_a_batch() -> None:
    segmenter = Halver(batch=3)
    cache = EmbeddingCache(segmenter, AMPLE)
    ahead = [KeyedSlice.of(one) for one in (IMAGE[0], IMAGE[1], IMAGE[1].copy(), IMAGE[2])]
    cache.embed([KeyedSlice.of(IMAGE[0])], ahead)
    np.testing.assert_array_equal(segmenter.encoded, IMAGE)


# --- several users ------------------------------------------------------------------------------

SLICE_BYTES = IMAGE[0].size * 4
"""Of an embedding that `Halver` makes of a slice of 4 x 5 pixels."""


def draw(seed: int, slices: int) -> npt.NDArray[np.uint8]:
    """Draws different slices for every seed."""
    return np.random.default_rng(seed).integers(0, 256, (slices, 4, 5), np.uint8)


def users_of(slices: int, users: int = 2) -> list[EmbeddingCache]:
    """Returns caches that share a memory for a number of slices."""
    first = EmbeddingCache(Halver(), slices * SLICE_BYTES)
    return [first, *(first.join() for _ in range(users - 1))]


def test_users_share_embeddings_and_each_counts_what_was_encoded_for_it() -> None:
    one, other = users_of(8)
    embed(one, *IMAGE)
    embed(other, *IMAGE, draw(1, 1)[0])
    assert (one.encoded, one.found) == (3, 0)
    assert (other.encoded, other.found) == (1, 3)


def test_a_user_that_takes_more_than_its_share_pushes_out_its_own_slices() -> None:
    one, other = users_of(8)
    embed(one, *draw(1, 4))  # its share
    for image in draw(2, 20):
        embed(other, image)
    embed(one, *draw(1, 4))
    assert one.encoded == 4
    assert other.used_bytes == 4 * SLICE_BYTES
    embed(other, *draw(2, 20)[-4:])  # the last four are left
    assert other.encoded == 20


def test_a_share_that_others_leave_unused_can_be_used_until_they_need_it() -> None:
    one, other = users_of(8)
    embed(one, *draw(1, 7))
    assert one.used_bytes == 7 * SLICE_BYTES
    embed(other, *draw(2, 4))  # there is room for one: three of the first user's go
    assert one.used_bytes == other.used_bytes == 4 * SLICE_BYTES
    embed(one, *draw(1, 7)[3:])
    assert one.encoded == 7


def test_an_embedding_counts_for_the_user_that_used_it_last() -> None:
    one, other = users_of(8)
    embed(one, *IMAGE)
    embed(other, IMAGE[0], IMAGE[1])
    assert one.used_bytes == SLICE_BYTES
    assert other.used_bytes == 2 * SLICE_BYTES
    assert one.total_bytes == 3 * SLICE_BYTES


def test_the_slices_of_a_user_that_has_left_stay_until_there_is_no_room() -> None:
    one, other, third = users_of(6, users=3)
    embed(one, *draw(1, 4))
    one.leave()
    embed(other, draw(1, 4)[0])
    assert other.encoded == 0
    embed(third, *draw(3, 3))  # one too many: of those that were left, the oldest goes
    embed(other, *draw(1, 4)[2:])
    assert other.encoded == 0
    embed(other, draw(1, 4)[1])
    assert other.encoded == 1


def test_with_fewer_users_shares_are_larger() -> None:
    one, other = users_of(8)
    embed(one, *draw(1, 4))
    assert not one.has_room(1)
    other.leave()
    assert one.has_room(4)
    assert not one.has_room(5)


def test_what_another_user_encodes_meanwhile_is_not_encoded_again() -> None:
    one, other = users_of(8)
    embed(one, IMAGE[0], before_call=lambda call, slices: _use(other, IMAGE[:1]))
    assert (one.encoded, other.encoded) == (0, 1)


def test_what_another_user_pushes_out_meanwhile_is_still_answered() -> None:
    one, other = users_of(2)
    embed(one, IMAGE[0])
    embed(one, *IMAGE[:2], before_call=lambda call, slices: _use(other, draw(2, 9)))


def _use(cache: EmbeddingCache, images: npt.NDArray[np.uint8]) -> None:
    embed(cache, *images)


def test_a_batch_for_several_users_counts_for_each() -> None:
    segmenter = Halver()
    one = EmbeddingCache(segmenter, AMPLE)
    other = one.join()
    pairs = [(one, IMAGE[0]), (other, IMAGE[1]), (other, IMAGE[0].copy()), (one, IMAGE[2])]
    found = encode_together([(cache, KeyedSlice.of(image)) for cache, image in pairs], len(pairs))
    assert len(found) == len(segmenter.encoded) == 3  # the first slice is in it twice
    assert one.encoded + other.encoded == 3
    embed(one, *IMAGE)
    assert len(segmenter.encoded) == 3


@pytest.mark.parametrize(
    "size", ["many", None, -(10**12), float("nan"), 1e300, RuntimeError("freed"), SystemExit(0)]
)
def test_an_embedding_that_says_no_size_counts_as_nothing(size: object) -> None:
    class Odd(Halves):
        @property
        def nbytes(self) -> Any:
            if isinstance(size, BaseException):
                raise size
            return size

    class OddHalver(Halver):
        def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
            return [Odd(one.values, one.shape) for one in super().encode(slices)]

    cache = EmbeddingCache(OddHalver(), limit_bytes=IMAGE[0].size * 4)
    for n in (0, 1, 2, 0, 1, 2):
        embed(cache, IMAGE[n])
    assert cache.encoded == 3
    assert cache.total_bytes == 0


def test_an_embedding_that_grows_counts_as_what_it_was_when_it_came() -> None:
    segmenter = Halver()
    cache = EmbeddingCache(segmenter, limit_bytes=2 * IMAGE[0].size * 4)
    (first,) = embed(cache, IMAGE[0])
    first.values = np.zeros(10 * IMAGE[0].size, np.float32)
    cache.embed([KeyedSlice.of(IMAGE[1])])
    cache.embed([KeyedSlice.of(IMAGE[2])])  # the first goes, with what it counted for
    assert cache.total_bytes == 2 * IMAGE[0].size * 4


# --- the folder ---------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    embed(EmbeddingCache(Halver(), AMPLE, tmp_path), *IMAGE)
    folders = [one.parent for one in tmp_path.rglob("*.npy")]
    left = [one / f".{'0123456789abcdef' * 2}.partial" for one in folders]
    for path in left:
        path.touch()
    for path in tmp_path.rglob("*.npy"):
        path.unlink()
    embed(EmbeddingCache(Halver(), AMPLE, tmp_path), *IMAGE)
    assert not any(path.exists() for path in left)


def test_a_later_visit_encodes_nothing(tmp_path: Path) -> None:
    embed(EmbeddingCache(Halver(), AMPLE, tmp_path / "new" / "cache"), *IMAGE)
    later = EmbeddingCache(Halver(), AMPLE, tmp_path / "new" / "cache")
    embed(later, *IMAGE[::-1])
    assert later.encoded == 0


def test_what_left_the_memory_is_read_again(tmp_path: Path) -> None:
    cache = EmbeddingCache(Halver(), 0, tmp_path)
    embed(cache, *IMAGE)
    embed(cache, *IMAGE)
    assert cache.encoded == 3


def test_another_fingerprint_has_embeddings_of_its_own(tmp_path: Path) -> None:
    embed(EmbeddingCache(Halver("a"), AMPLE, tmp_path), IMAGE[0])
    other = EmbeddingCache(Halver("b"), AMPLE, tmp_path)
    embed(other, IMAGE[0])
    assert other.encoded == 1


def test_another_kind_of_segmenter_has_embeddings_of_its_own(tmp_path: Path) -> None:
    class Quarterer(Halver):
        pass

    embed(EmbeddingCache(Halver("1"), AMPLE, tmp_path), IMAGE[0])
    other = EmbeddingCache(Quarterer("1"), AMPLE, tmp_path)
    embed(other, IMAGE[0])
    assert other.encoded == 1


@pytest.mark.parametrize(
    "text", ["../../out", "/tmp/out", "a/b", "..", "", "a\0b", "\udcff", 300 * "a"]
)
def test_whatever_a_segmenter_is_called_its_folder_lies_in_the_caches(
    text: str, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "cache"
    segmenter = Halver(text)
    segmenter.name = f"hf:{text}"
    embed(EmbeddingCache(segmenter, AMPLE, folder), *IMAGE)
    written = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert len(written) == 3
    assert len({one.relative_to(folder).parts[0] for one in written}) == 1
    later = EmbeddingCache(Halver(text), AMPLE, folder)
    embed(later, *IMAGE)
    assert later.encoded == 0


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\x93NUMPY\x01\x00", "of another slice", "of objects"]
)
def test_a_broken_file_is_reported_and_made_anew(
    tmp_path: Path, content: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    embed(EmbeddingCache(Halver(), AMPLE, tmp_path), IMAGE[0])
    (path,) = tmp_path.rglob("*.npy")
    if content == "of another slice":
        np.save(path, np.zeros(7, np.float32))
    elif content == "of objects":
        np.save(path, np.array([{}]), allow_pickle=True)
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    cache = EmbeddingCache(Halver(), AMPLE, tmp_path)
    embed(cache, IMAGE[0])
    assert cache.encoded == 1
    assert str(path) in caplog.text
    again = EmbeddingCache(Halver(), AMPLE, tmp_path)
    embed(again, IMAGE[0])
    assert again.encoded == 0


def test_a_folder_that_cannot_be_written_to_is_warned_of_once_and_costs_no_slice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cache = EmbeddingCache(Halver(), AMPLE, tmp_path / "file")
    embed(cache, *IMAGE[:3])
    assert cache.encoded == 3
    (message,) = caplog.messages
    assert str(tmp_path / "file") in message
    assert "no embedding can be kept" in message


def test_a_segmenter_that_cannot_unpack_what_it_has_packed_encodes_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(Halver):
        def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> Embedding:
            raise RuntimeError("what was that?")

    embed(EmbeddingCache(Forgetful(), AMPLE, tmp_path), IMAGE[0])
    cache = EmbeddingCache(Forgetful(), AMPLE, tmp_path)
    embed(cache, IMAGE[0])
    assert cache.encoded == 1
    assert "what was that?" in caplog.text


def test_a_slice_that_the_segmenter_fails_at_is_a_fault_and_tried_again_later() -> None:
    class Unlucky(Halver):
        fails = True

        def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
            if self.fails:
                raise RuntimeError("no luck")
            return super().encode(slices)

    segmenter = Unlucky()
    cache = EmbeddingCache(segmenter, AMPLE)
    (fault,) = cache.embed([KeyedSlice.of(IMAGE[0])])
    assert isinstance(fault, SegmenterFault)
    assert (cache.encoded, cache.used_bytes) == (0, 0)
    segmenter.fails = False
    assert not isinstance(cache.embed([KeyedSlice.of(IMAGE[0])])[0], SegmenterFault)
    assert cache.encoded == 1


def test_segmenters_whose_embeddings_cannot_be_written_leave_the_folder_alone_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fleeting:
        name = "fleeting"
        traits = Traits()
        encode = Halver.encode
        decode = Halver.decode
        encoded: list[npt.NDArray[np.uint8]] = []  # noqa: RUF012

    embed(EmbeddingCache(Fleeting(), AMPLE, tmp_path), IMAGE[0])
    assert not any(tmp_path.iterdir())
    assert caplog.messages == [
        f"{tmp_path}: encoded slices of the segmenter fleeting can't be written, none are kept"
    ]


def visit(folder: Path) -> int:
    images = np.random.default_rng(0).integers(0, 256, (40, 30, 20), np.uint8)
    cache = EmbeddingCache(Halver(), AMPLE, folder)
    for image in images:
        embed(cache, image)
    return cache.encoded


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        assert all(0 <= encoded <= 40 for encoded in pool.map(visit, [tmp_path] * 3))
    assert visit(tmp_path) == 0
    assert {one.suffix for one in tmp_path.rglob("*") if one.is_file()} == {".npy"}

"""Slices are encoded once, and answers come in the order of the requests."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane, slice_shape, slice_view
from gamt.geometry import Grid
from gamt.prompts import SlicePrompt
from gamt.scan import Scan, SliceRequest
from gamt.segmenters.base import Embedding, SliceMask

SHAPE = (3, 4, 5)
IMAGE = np.arange(60, dtype=np.uint8).reshape(SHAPE)
GRID = Grid((0, 0, 0), SHAPE, SHAPE)
AMPLE = 2**20


class CountingSegmenter:
    """Answers with the slice itself, shifted by the prompt's point, and keeps count."""

    name = "counting"

    def __init__(self) -> None:
        self.encoded: list[npt.NDArray[np.uint8]] = []
        self.calls: list[tuple[int, bool | None]] = []

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        self.encoded.append(slices.copy())
        return [one.copy() for one in slices]

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        self.calls.append((len(prompts), multimask))
        masks = []
        for image, prompt in zip(embeddings, prompts, strict=True):
            logits = image + np.float32(prompt.points[0, 0])
            masks.append(SliceMask(logits, 1.0, logits))
        return masks

    @property
    def slices(self) -> int:
        return sum(len(batch) for batch in self.encoded)


class Opaque:
    """An embedding that has no bytes to tell of."""

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self._image = image

    def __add__(self, other: np.float32) -> npt.NDArray[np.float32]:
        return np.asarray(self._image + other, np.float32)


def request(plane: Plane, index: int, tag: int = 0, multimask: bool | None = None) -> SliceRequest:
    prompt = SlicePrompt(points=np.array([[tag, 0.0]]), labels=np.array([1]))
    return SliceRequest(plane, index, prompt, multimask)


def prepare(cache_bytes: int = AMPLE) -> tuple[Scan, CountingSegmenter]:
    segmenter = CountingSegmenter()
    return Scan(IMAGE, GRID, segmenter, cache_bytes), segmenter


def size(plane: Plane) -> int:
    """Bytes of one slice, a byte a pixel."""
    rows, columns = slice_shape(SHAPE, plane)
    return rows * columns


@st.composite
def requests(draw: st.DrawFn) -> SliceRequest:
    plane = draw(st.sampled_from(Plane))
    index = draw(st.integers(0, SHAPE[plane.normal] - 1))
    tag = draw(st.integers(0, 9)) * 100
    return request(plane, index, tag, draw(st.sampled_from([None, True, False])))


rounds = st.lists(st.lists(requests(), max_size=6), max_size=4)


@given(rounds=rounds, cache_bytes=st.sampled_from([0, 50, AMPLE]))
def test_every_request_is_answered_in_its_place(
    rounds: list[list[SliceRequest]], cache_bytes: int
) -> None:
    scan, _ = prepare(cache_bytes)
    for asked in rounds:
        answers = scan.decode(asked)
        assert len(answers) == len(asked)
        for one, mask in zip(asked, answers, strict=True):
            expected = slice_view(IMAGE, one.plane, one.index) + one.prompt.points[0, 0]
            np.testing.assert_array_equal(mask.logits, expected)


@given(rounds=rounds)
def test_no_slice_is_encoded_twice(rounds: list[list[SliceRequest]]) -> None:
    scan, segmenter = prepare()
    for asked in rounds:
        scan.decode(asked)
    wanted = {(one.plane, one.index) for asked in rounds for one in asked}
    assert segmenter.slices == scan.encoded == len(wanted)


def test_nothing_is_encoded_before_it_is_asked_for() -> None:
    scan, segmenter = prepare()
    assert segmenter.slices == scan.encoded == 0
    assert scan.decode([]) == []
    assert segmenter.encoded == []
    assert segmenter.calls == []


def test_slices_of_one_plane_are_encoded_in_one_batch() -> None:
    scan, segmenter = prepare()
    asked = [(Plane.SAGITTAL, 4), (Plane.AXIAL, 1), (Plane.SAGITTAL, 0), (Plane.SAGITTAL, 4)]
    scan.decode([request(plane, index) for plane, index in asked])
    assert sorted(batch.shape for batch in segmenter.encoded) == [(1, 4, 5), (2, 3, 4)]


def test_requests_of_one_kind_are_decoded_in_one_batch() -> None:
    scan, segmenter = prepare()
    scan.decode(
        [
            request(Plane.AXIAL, 0, multimask=True),
            request(Plane.AXIAL, 1, multimask=False),
            request(Plane.CORONAL, 0, multimask=True),
            request(Plane.AXIAL, 0, multimask=True),
            request(Plane.AXIAL, 2, multimask=None),
        ]
    )
    assert sorted(segmenter.calls, key=str) == [(1, False), (1, None), (1, True), (2, True)]
    # The two axial batches and the third share what was encoded for them.
    assert segmenter.slices == 4


def test_the_least_recently_used_slice_is_forgotten() -> None:
    scan, segmenter = prepare(cache_bytes=2 * size(Plane.AXIAL))
    for index in (0, 1, 0, 2):  # 2 is one too many, and 1 was used longest ago
        scan.decode([request(Plane.AXIAL, index)])
    assert scan.encoded == 3
    scan.decode([request(Plane.AXIAL, 0), request(Plane.AXIAL, 2)])
    assert scan.encoded == 3
    scan.decode([request(Plane.AXIAL, 1)])
    assert scan.encoded == segmenter.slices == 4


def test_the_limit_counts_the_bytes_of_all_planes() -> None:
    # An axial slice has 20 bytes, a coronal one 15: both together are one too many.
    scan, _ = prepare(cache_bytes=34)
    for plane in (Plane.AXIAL, Plane.CORONAL, Plane.AXIAL):
        scan.decode([request(plane, 0)])
    assert scan.encoded == 3
    scan, _ = prepare(cache_bytes=35)
    for plane in (Plane.AXIAL, Plane.CORONAL, Plane.AXIAL):
        scan.decode([request(plane, 0)])
    assert scan.encoded == 2


def test_a_batch_larger_than_the_cache_is_encoded_once() -> None:
    scan, segmenter = prepare(cache_bytes=0)
    scan.decode([request(Plane.AXIAL, n) for n in (2, 0, 1, 2)])
    assert segmenter.slices == 3
    scan.decode([request(Plane.AXIAL, 2)])
    assert segmenter.slices == 4


def test_embeddings_of_unknown_size_are_kept() -> None:
    class OpaqueSegmenter(CountingSegmenter):
        def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
            return [Opaque(one) for one in super().encode(slices)]

    segmenter = OpaqueSegmenter()
    scan = Scan(IMAGE, GRID, segmenter, cache_bytes=0)
    for _ in range(2):
        (mask,) = scan.decode([request(Plane.CORONAL, 3)])
        np.testing.assert_array_equal(mask.logits, IMAGE[:, 3])
    assert segmenter.slices == 1

"""Slices are encoded once, in batches, and answers come in the order of the requests."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamt.axes import Plane, slice_view
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, Memory, SliceMask, Traits
from gamt.segmenters.door import SegmenterFault
from gamt.volume.cache import EmbeddingCache, KeyedSlice
from gamt.volume.geometry import Grid
from gamt.volume.scan import Scan, SliceRequest

SHAPE = (3, 4, 5)
IMAGE = np.arange(60, dtype=np.uint8).reshape(SHAPE)
GRID = Grid((0, 0, 0), SHAPE, SHAPE)
AMPLE = 2**20
POINT = np.array([[0.0, 0.0]])


class CountingSegmenter:
    """Answers with the slice itself, shifted by the prompt's point, and keeps count."""

    name = "counting"

    def __init__(self, batch: int) -> None:
        self.traits = Traits(batch=batch)
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
            masks.append(SliceMask(logits, 1.0))
        return masks

    @property
    def slices(self) -> int:
        return sum(len(batch) for batch in self.encoded)


class EchoSegmenter(CountingSegmenter):
    """Answers with nothing, and keeps what it is shown, of one channel or three."""

    def __init__(self) -> None:
        super().__init__(batch=1)

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        return [SliceMask(np.zeros(one.shape[:2], np.float32), 1.0) for one in embeddings]


def request(plane: Plane, index: int, tag: int = 0, multimask: bool | None = None) -> SliceRequest:
    prompt = SlicePrompt(points=np.array([[tag, 0.0]]), labels=np.array([1]))
    return SliceRequest(plane, index, prompt, multimask)


def prepare(batch: int = 1) -> tuple[Scan, CountingSegmenter]:
    segmenter = CountingSegmenter(batch)
    return Scan(lambda: IMAGE, GRID, EmbeddingCache(segmenter, AMPLE)), segmenter


@st.composite
def requests(draw: st.DrawFn) -> SliceRequest:
    plane = draw(st.sampled_from(Plane))
    index = draw(st.integers(0, SHAPE[plane.normal] - 1))
    tag = draw(st.integers(0, 9)) * 100
    return request(plane, index, tag, draw(st.sampled_from([None, True, False])))


rounds = st.lists(st.lists(requests(), max_size=6), max_size=4)


@given(rounds=rounds, batch=st.integers(1, 4))
def test_every_request_is_answered_in_its_place(
    rounds: list[list[SliceRequest]], batch: int
) -> None:
    scan, _ = prepare(batch)
    for asked in rounds:
        answers = scan.decode(asked)
        assert len(answers) == len(asked)
        for one, mask in zip(asked, answers, strict=True):
            expected = slice_view(IMAGE, one.plane, one.index) + one.prompt.points[0, 0]
            assert isinstance(mask, SliceMask)
            np.testing.assert_array_equal(mask.logits, expected)


@given(rounds=rounds)
def test_no_slice_is_encoded_twice(rounds: list[list[SliceRequest]]) -> None:
    scan, segmenter = prepare()
    for asked in rounds:
        scan.decode(asked)
    wanted = {(one.plane, one.index) for asked in rounds for one in asked}
    assert segmenter.slices == len(wanted)


def test_nothing_is_encoded_before_it_is_asked_for() -> None:
    scan, segmenter = prepare()
    assert segmenter.slices == 0
    assert scan.decode([]) == []
    assert segmenter.encoded == []
    assert segmenter.calls == []


def test_slices_of_one_plane_are_encoded_in_one_batch() -> None:
    scan, segmenter = prepare(batch=2)
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


class TrackingSegmenter(CountingSegmenter):
    """Also tracks: answers with the slice, shifted by its position, and remembers positions."""

    def track(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Memory | None],
        positions: Sequence[int],
    ) -> Sequence[SliceMask]:
        self.asked = list(zip(prompts, memories, positions, strict=True))
        return [
            SliceMask(image + np.float32(position), 1.0, state=(memory, position))
            for image, memory, position in zip(embeddings, memories, positions, strict=True)
        ]


def test_requests_with_a_position_are_tracked_and_the_others_decoded() -> None:
    segmenter = TrackingSegmenter(batch=4)
    scan = Scan(lambda: IMAGE, GRID, EmbeddingCache(segmenter, AMPLE))
    box = SlicePrompt(box=(0, 0, 2, 2))
    asked = [
        SliceRequest(Plane.CORONAL, 2, box, position=0),
        request(Plane.CORONAL, 2, tag=100),
        SliceRequest(Plane.CORONAL, 1, SlicePrompt(state="known"), position=-7),
    ]
    calls: list[tuple[str, int]] = []
    first, second, third = scan.decode(asked, lambda *call: calls.append(call))
    for answer, index, shift in ((first, 2, 0), (second, 2, 100), (third, 1, -7)):
        assert isinstance(answer, SliceMask)
        np.testing.assert_array_equal(answer.logits, IMAGE[:, index] + np.float32(shift))
    assert segmenter.slices == 2
    (prompt, memory, position), left_to_memory = segmenter.asked
    assert prompt is not None
    assert (prompt.box, memory, position) == ((0, 0, 2, 2), None, 0)
    assert left_to_memory == (None, "known", -7)
    assert calls == [("encode", 2), ("track", 2), ("decode", 1)]


def test_a_slice_that_is_asked_about_in_several_ways_is_encoded_once_without_any_cache() -> None:
    segmenter = TrackingSegmenter(batch=2)
    scan = Scan(lambda: IMAGE, GRID, EmbeddingCache(segmenter, limit_bytes=0))
    for plane in (Plane.AXIAL, Plane.CORONAL):
        scan.decode(
            [
                request(plane, 0),
                SliceRequest(plane, 0, SlicePrompt(state="known"), position=1),
                request(plane, 1, multimask=True),
                request(plane, 0, multimask=True),
                SliceRequest(plane, 1, SlicePrompt(state="known"), position=2),
                request(plane, 1),
            ]
        )
    assert segmenter.slices == 4


def test_a_batch_that_is_not_full_takes_in_what_is_announced() -> None:
    # Of each request the next slice first: 2 and 0 are asked for, then 3 and 1 are the likeliest.
    scan, segmenter = prepare(batch=4)
    up = SliceRequest(Plane.SAGITTAL, 2, SlicePrompt(points=POINT), ahead=(3, 4))
    down = SliceRequest(Plane.SAGITTAL, 1, SlicePrompt(points=POINT), ahead=(0,))
    scan.decode([up, down])
    (batch,) = segmenter.encoded
    np.testing.assert_array_equal(batch, np.moveaxis(IMAGE, 2, 0)[[2, 1, 3, 0]])


def test_nothing_is_encoded_for_what_is_announced_alone() -> None:
    scan, segmenter = prepare(batch=4)
    scan.decode([request(Plane.AXIAL, n) for n in range(3)])
    scan.decode([SliceRequest(Plane.AXIAL, 1, SlicePrompt(points=POINT), ahead=(0, 2))])
    assert segmenter.slices == 3


def test_a_call_can_be_ended_before_each_batch() -> None:
    class Enough(Exception):  # noqa: N818
        pass

    def allow_two(call: str, slices: int) -> None:
        if segmenter.slices == 2:
            raise Enough

    scan, segmenter = prepare()
    with pytest.raises(Enough):
        scan.decode([request(Plane.AXIAL, n) for n in range(3)], allow_two)
    assert segmenter.slices == 2
    scan.decode([request(Plane.AXIAL, n) for n in range(3)])  # what was encoded is kept
    assert segmenter.slices == 3


def test_what_the_segmenter_fails_at_is_a_fault_and_the_others_are_answered() -> None:
    scan, segmenter = prepare(batch=4)
    encode = segmenter.encode

    def fail_at_the_second(slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        second = slice_view(IMAGE, Plane.AXIAL, 1)
        if any(np.array_equal(one, second) for one in slices):
            raise RuntimeError("no luck")
        return encode(slices)

    segmenter.encode = fail_at_the_second  # type: ignore[method-assign]
    answers = scan.decode([request(Plane.AXIAL, n) for n in range(3)])
    faults = [str(one) if isinstance(one, SegmenterFault) else None for one in answers]
    assert faults == [None, "RuntimeError: no luck", None]


# --- slices ahead -------------------------------------------------------------------------------


def ahead_of(scan: Scan, *planes: Plane) -> list[tuple[Plane, int]]:
    """Returns which slices of `IMAGE` are yielded."""
    places = {
        KeyedSlice.of(slice_view(IMAGE, plane, index)).key: (plane, index)
        for plane in Plane
        for index in range(SHAPE[plane.normal])
    }
    return [places[one.key] for one in scan.ahead(planes)]


def test_slices_ahead_go_outwards_from_the_middle_in_all_planes_at_once() -> None:
    scan, segmenter = prepare()
    assert ahead_of(scan, Plane.AXIAL, Plane.SAGITTAL) == [  # of 3 and of 5 slices
        (Plane.AXIAL, 1),
        (Plane.SAGITTAL, 2),
        (Plane.AXIAL, 0),
        (Plane.SAGITTAL, 1),
        (Plane.AXIAL, 2),
        (Plane.SAGITTAL, 3),
        (Plane.SAGITTAL, 0),
        (Plane.SAGITTAL, 4),
    ]
    assert segmenter.slices == 0


def test_slices_ahead_go_outwards_from_what_was_asked_for_first() -> None:
    scan, _ = prepare()
    scan.decode([request(Plane.SAGITTAL, 4), request(Plane.CORONAL, 0)])
    scan.decode([request(Plane.SAGITTAL, 0)])
    assert [index for _, index in ahead_of(scan, Plane.SAGITTAL)] == [4, 3, 2, 1, 0]
    assert [index for _, index in ahead_of(scan, Plane.CORONAL)] == [0, 1, 2, 3]


# --- three channels -----------------------------------------------------------------------------


@pytest.mark.parametrize("plane", Plane)
def test_neighbours_are_the_channels_beside_a_slice_and_end_where_the_image_does(
    plane: Plane,
) -> None:
    segmenter = EchoSegmenter()
    scan = Scan(lambda: IMAGE, GRID, EmbeddingCache(segmenter, AMPLE), neighbours=True)
    size = SHAPE[plane.normal]
    scan.decode([request(plane, index) for index in range(size)])
    assert segmenter.slices == size
    last = size - 1
    for index, (pixels,) in enumerate(segmenter.encoded):
        for channel, of in enumerate((max(index - 1, 0), index, min(index + 1, last))):
            np.testing.assert_array_equal(pixels[..., channel], slice_view(IMAGE, plane, of))


def test_a_slice_alone_on_its_axis_is_its_own_neighbour() -> None:
    flat = IMAGE[:1]
    grid = Grid((0, 0, 0), flat.shape, flat.shape)
    segmenter = EchoSegmenter()
    scan = Scan(lambda: flat, grid, EmbeddingCache(segmenter, AMPLE), neighbours=True)
    scan.decode([request(Plane.AXIAL, 0)])
    (shown,) = segmenter.encoded
    np.testing.assert_array_equal(shown[0], np.stack([flat[0]] * 3, axis=-1))


@pytest.mark.parametrize("plane", Plane)
def test_an_image_of_three_channels_is_shown_with_all_of_them(plane: Plane) -> None:
    channels = np.stack([IMAGE, IMAGE + np.uint8(60), IMAGE + np.uint8(120)], axis=-1)
    segmenter = EchoSegmenter()
    scan = Scan(lambda: channels, GRID, EmbeddingCache(segmenter, AMPLE))
    scan.decode([request(plane, 2)])
    (shown,) = segmenter.encoded
    expected = [slice_view(channels[..., channel], plane, 2) for channel in range(3)]
    np.testing.assert_array_equal(shown[0], np.stack(expected, axis=-1))
    np.testing.assert_array_equal(scan.image, IMAGE + np.uint8(60))
    assert scan.nbytes == 3 * IMAGE.size


def test_a_slice_among_other_neighbours_is_another_one_to_the_cache() -> None:
    # Slices 1 and 4 show the same, and so do those before them; only what is after them differs.
    image = np.zeros((6, 4, 5), np.uint8)
    image[[1, 4]] = 7
    image[5] = 9
    grid = Grid((0, 0, 0), image.shape, image.shape)
    for neighbours, encoded in ((False, 1), (True, 2)):
        segmenter = EchoSegmenter()
        scan = Scan(lambda: image, grid, EmbeddingCache(segmenter, AMPLE), neighbours=neighbours)
        for index in (1, 4, 1):
            scan.decode([request(Plane.AXIAL, index)])
        assert segmenter.slices == encoded

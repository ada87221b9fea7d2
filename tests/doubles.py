"""Stand-ins for a 2-D model, simple enough that their answers can be told in advance."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gamt.io.case import Case
from gamt.lifting import pipeline
from gamt.lifting.budget import Budget, OutOfTime, Stopwatch
from gamt.lifting.progress import Progress
from gamt.lifting.propagation import Answer, Seeking, T, Walk, run
from gamt.lifting.shortfall import Shortfall
from gamt.lifting.target import Observer, Target
from gamt.prompts import ClassPrompts, SlicePrompt
from gamt.segmenters.base import Embedding, Memory, Segmenter, SliceMask, Traits
from gamt.segmenters.door import SegmenterFault
from gamt.settings import Settings
from gamt.volume.cache import EmbeddingCache
from gamt.volume.geometry import Range, make_grid
from gamt.volume.preparation import PreparedVolume
from gamt.volume.scan import Scan

Mask = npt.NDArray[np.bool_]

BRIGHT = 255
"""The grey value of a target; everything else is 0 in these tests' images."""

LEVEL = 128
"""The grey value from which on a pixel is taken to be bright."""

SURE = np.float32(20)
"""Log-odds of the answers: as good as certain."""


DEFAULTS = Settings(vote_blur=0)
"""The doubles err nowhere, and smoothing rounds the corners of their blocks."""

UNLIMITED = Budget(0, float("inf"))

NO_FAULTS: Mapping[int, SegmenterFault | OutOfTime] = MappingProxyType({})


def answer(mask: Mask, quality: float = 1.0) -> SliceMask:
    """Returns a sure answer, positive exactly in `mask`."""
    return SliceMask(np.where(mask, SURE, -SURE), quality)


class Double(ABC):
    """Keeps account of what it is asked; what it answers is left to `segment`."""

    name = "double"
    traits = Traits()

    def __init__(self, quality: float = 1.0) -> None:
        """Makes a segmenter that claims `quality` for all its answers."""
        self.quality = quality
        self.slices: list[npt.NDArray[np.uint8]] = []
        self.asked: list[tuple[tuple[int, ...], SlicePrompt]] = []

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Keeps the slices, which are their own embeddings."""
        self.slices += [one.copy() for one in slices]
        return [one.copy() for one in slices]

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Keeps the slices' shapes and the prompts, and answers."""
        self.asked += [(image.shape, one) for image, one in zip(embeddings, prompts, strict=True)]
        masks = [self.segment(image, one) for image, one in zip(embeddings, prompts, strict=True)]
        return [answer(mask, self.quality) for mask in masks]

    @abstractmethod
    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""


class Thresholder(Double):
    """Answers with the bright pieces that the box or a positive point touches.

    Pieces hang together at corners too; one that holds a negative point is left out.
    """

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        pieces, _ = ndimage.label(image >= LEVEL, np.ones((3, 3)))
        wanted: set[int] = set()
        if prompt.box is not None:
            x0, y0, x1, y1 = (round(bound) for bound in prompt.box)
            wanted |= set(pieces[y0:y1, x0:x1].ravel().tolist())
        at = [int(pieces[int(y), int(x)]) for x, y in prompt.points]
        wanted |= {piece for piece, label in zip(at, prompt.labels, strict=True) if label}
        wanted -= {piece for piece, label in zip(at, prompt.labels, strict=True) if not label}
        return np.isin(pieces, list(wanted - {0}))


class Storable(Thresholder):
    """A thresholder whose embeddings, the slices themselves, can be written."""

    fingerprint = "slices"

    def pack(self, embedding: Embedding) -> npt.NDArray[Any]:
        """Returns the slice."""
        return np.asarray(embedding)

    def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> Embedding:
        """Returns the slice that `pack` was given."""
        return array.reshape(shape)


class Viewer(Thresholder):
    """A thresholder of slices of one channel or three, of which it takes the middle one."""

    traits = Traits(three_channels=True)

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        return super().segment(image if image.ndim == 2 else image[..., 1], prompt)


class TruthTeller(Double):
    """Answers with all that is bright, whatever it is asked."""

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        return np.asarray(image >= LEVEL)


class BoxFiller(Double):
    """Answers with the prompt's box, whatever the image shows; with nothing where there is none."""

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        mask = np.zeros(image.shape, np.bool_)
        if prompt.box is not None:
            x0, y0, x1, y1 = (round(bound) for bound in prompt.box)
            mask[y0:y1, x0:x1] = True
        return mask


class Constant(Double):
    """Answers with everything or with nothing."""

    def __init__(self, inside: bool, quality: float = 1.0) -> None:
        """Makes a segmenter to which all pixels are `inside`, or none."""
        super().__init__(quality)
        self.inside = inside

    def segment(self, image: npt.NDArray[np.uint8], prompt: SlicePrompt) -> Mask:
        """Returns the mask of one slice."""
        return np.full(image.shape, self.inside)


class Remembering(Thresholder):
    """A thresholder with a memory: it checks that only its own comes back to it, and unharmed.

    The memory is no array, and nothing that could be added to or compared with one.

    Attributes:
        remembered: for every prompt, the slices that had been seen on the way there, by content;
            None where the prompt came without a memory.
        looked: for every prompt, its slice, by content.
    """

    def __init__(self) -> None:
        """Remembers nothing yet."""
        super().__init__()
        self.remembered: list[tuple[bytes, ...] | None] = []
        self.looked: list[bytes] = []
        self._given: list[_Memory] = []

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Answers, and adds each slice to the memory that its prompt brought along."""
        answers = []
        plain = super().decode(embeddings, prompts, multimask)
        for image, prompt, one in zip(embeddings, prompts, plain, strict=True):
            earlier: tuple[bytes, ...] = ()
            if prompt.state is not None:
                assert any(prompt.state is own for own in self._given)
                assert isinstance(prompt.state, _Memory)
                assert prompt.state.shape == image.shape  # of the same plane
                earlier = prompt.state.slices
            self.remembered.append(None if prompt.state is None else earlier)
            self.looked.append(image.tobytes())
            memory = _Memory((*earlier, image.tobytes()), image.shape)
            self._given.append(memory)
            answers.append(SliceMask(one.logits, one.quality, memory))
        return answers


class _Memory:
    """Slices of one shape by their content, the first one first."""

    def __init__(self, slices: tuple[bytes, ...], shape: tuple[int, ...]) -> None:
        """Takes them."""
        self.slices = slices
        self.shape = shape


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What a `Follower` remembers of a target; its masks are of one shape, that of a plane.

    Attributes:
        positions: of the slices that it has seen, in their order.
        mask: (rows, columns), the last answer that was not empty.
    """

    positions: tuple[int, ...]
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """A slice that a `Follower` was asked to track.

    Attributes:
        prompt: None where it was left to the memory.
        memory: the positions that were remembered; None without a memory.
        position: of the slice.
        content: of the slice.
    """

    prompt: SlicePrompt | None
    memory: tuple[int, ...] | None
    position: int
    content: bytes


class Follower(Thresholder):
    """A thresholder that tracks: left to its memory, it takes what touches the last mask.

    It checks that memories come back unharmed, in their plane, to a neighbour of their last slice.

    Attributes:
        tracked: all slices that it was asked to track.
        calls: the number of slices of each call.
    """

    def __init__(self, overruns: bool = False) -> None:
        """Remembers nothing yet.

        Args:
            overruns: whether it goes on with the last mask where there is none any more.
        """
        super().__init__()
        self.overruns = overruns
        self.tracked: list[Tracked] = []
        self.calls: list[int] = []
        self._given: list[Steps] = []

    def track(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Memory | None],
        positions: Sequence[int],
    ) -> Sequence[SliceMask]:
        """Keeps the questions, and answers."""
        self.calls.append(len(embeddings))
        answers = []
        for image, prompt, memory, position in zip(
            embeddings, prompts, memories, positions, strict=True
        ):
            known: tuple[int, ...] = ()
            if memory is not None:
                assert any(memory is one for one in self._given)
                assert memory.mask.shape == image.shape
                assert abs(memory.positions[-1] - position) == 1
                known = memory.positions
            remembered = None if memory is None else known
            self.tracked.append(Tracked(prompt, remembered, position, image.tobytes()))
            if prompt is not None:
                mask = self.segment(image, prompt)
            else:
                assert memory is not None
                mask = self._touching(image, memory)
            last = mask if memory is None or mask.any() else memory.mask
            if self.overruns and not mask.any():
                mask = last
            state = Steps((*known, position), last)
            self._given.append(state)
            answers.append(replace(answer(mask, self.quality), state=state))
        return answers

    def _touching(self, image: npt.NDArray[np.uint8], memory: Steps) -> Mask:
        pieces, _ = ndimage.label(image >= LEVEL, np.ones((3, 3)))
        return np.isin(pieces, list(set(pieces[memory.mask].tolist()) - {0}))


def picture(truth: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns the image of a truth: bright inside, 0 outside."""
    return np.where(truth, np.uint8(BRIGHT), np.uint8(0))


def block(shape: tuple[int, ...], *where: slice) -> Mask:
    """Returns a mask of `shape` that is True in a cuboid."""
    mask = np.zeros(shape, np.bool_)
    mask[where] = True
    return mask


def make_case(
    image: npt.NDArray[Any],
    *prompts: ClassPrompts,
    spacing_mm: tuple[float, float, float] = (1, 1, 1),
    previous: npt.NDArray[np.uint8] | None = None,
) -> Case:
    """Returns a case as if it had been read from a file."""
    return Case("case", image, spacing_mm, prompts, previous)


def make_target(
    case: Case,
    segmenter: Segmenter,
    settings: Settings = DEFAULTS,
    *,
    region: Range | None = None,
    crop: Range | None = None,
    voxel_mm: float | None = None,
) -> Target:
    """Prepares the first class of a case, in all of the volume unless told otherwise."""
    z, y, x = case.image.shape
    crop = crop or ((0, 0, 0), (z, y, x))
    grid = make_grid(crop, case.spacing_mm, voxel_mm)
    scan = Scan(
        lambda: grid.resample(grid.crop(case.image)), grid, EmbeddingCache(segmenter, 2**28)
    )
    where = region or crop
    return pipeline.make_target(
        case, case.prompts[0], where, scan, settings, Observer(), Progress(), Shortfall(), {}
    )


def lift(
    case: Case, segmenter: Segmenter, settings: Settings = DEFAULTS, limit: Budget = UNLIMITED
) -> pipeline.Lifted:
    """Lifts a case by a segmenter that has seen nothing yet."""
    embeddings = EmbeddingCache(segmenter, 2**28)
    volume = PreparedVolume(case.image, case.spacing_mm, embeddings, settings)
    return pipeline.lift(case, volume, limit)


def drive(seeking: Seeking[T], target: Target) -> T:
    """Runs a walk of a target to its end, and returns what came of it."""
    result: list[T] = []

    def keep() -> Walk:
        result.append((yield from seeking))

    assert run(keep(), target.scan, Stopwatch(float("inf")))
    return result[0]


def tagged(tag: int) -> SliceMask:
    """An answer that can be told apart by its quality."""
    return answer(np.ones((3, 4), np.bool_), quality=float(tag))


def steps(
    going: Walk, bad: Mapping[int, SegmenterFault | OutOfTime] = MappingProxyType({})
) -> list[list[int]]:
    """Drives a walk, each slice's mask tagged with its index; returns the slices of each step.

    The slices of `bad` are answered with something else; out of time, the walk is over.
    """
    taken: list[list[int]] = []
    answers: Sequence[Answer] | None = None
    while True:
        try:
            requests = next(going) if answers is None else going.send(answers)
        except (StopIteration, OutOfTime):
            return taken
        taken.append([request.index for request in requests])
        answers = [bad.get(request.index) or tagged(request.index) for request in requests]

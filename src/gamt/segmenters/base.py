"""The protocol between the lifting and a promptable 2-D model."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gamt.prompts import SlicePrompt

Embedding = Any
"""What a segmenter makes of one slice; opaque to everything but that segmenter."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceMask:
    """A segmenter's answer for one slice and prompt.

    Attributes:
        logits: (rows, columns) float, log-odds at the slice's own resolution; positive inside.
            Not masked (`numpy.ma`); other kinds of arrays are taken as plain ones.
        quality: the IoU with the true mask that the segmenter expects, 0..1: a number, no array.
        state: whatever the segmenter wants back as `SlicePrompt.state` when a walk goes on from
            this answer (see `Segmenter`); opaque to everything else. None where `logits` say it
            all: then they come back as `SlicePrompt.mask`.
    """

    logits: npt.NDArray[np.float32]
    quality: float
    state: object | None = None

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(rows, columns) bool, True inside the target."""
        return self.logits > 0


@dataclass(frozen=True, slots=True)
class Traits:
    """What the lifting has to know of a segmenter.

    Attributes:
        batch: the number of slices that it encodes best at once, 1 or more.
        device: where it runs, for the log.
        intensities_alone: whether it knows nothing but a slice's intensities, and no shapes. Then
            its slices err alike, and it is not asked for corrections, for which intensities are
            weighed in 3-D.
        guided: whether the log-odds of the box's ellipsoid are added to the mask prompts of walks
            for a target. In corrections, every segmenter's mask prompt is merged with the ball that
            the click draws.
        resolution: how many pixels of a target's side it tells apart; longer targets it sees on a
            coarser grid. They are walked as coarsely across the slices, and the slices between are
            interpolated. None visits every slice; otherwise 1 or more.
        three_channels: whether `Segmenter.encode` takes slices of three channels as well as grey
            ones, for the setting `channels`.

    Raises:
        ValueError: one of them is of another type, or less than 1.
    """

    batch: int = 1
    device: str = "cpu"
    intensities_alone: bool = False
    guided: bool = False
    resolution: int | None = None
    three_channels: bool = False

    def __post_init__(self) -> None:
        """Checks them, because the lifting relies on them."""
        for name in ("batch", "resolution"):
            size = getattr(self, name)
            if name == "resolution" and size is None:
                continue
            if not isinstance(size, Integral) or size < 1:
                raise ValueError(
                    f"found {size!r} as the trait {name!r}, expected a whole number, 1 or more"
                )
        kinds = {"intensities_alone": bool, "guided": bool, "three_channels": bool, "device": str}
        for name, kind in kinds.items():
            if not isinstance(found := getattr(self, name), kind):
                raise ValueError(f"found {found!r} as the trait {name!r}, expected {kind.__name__}")


class Segmenter(Protocol):
    """A promptable 2-D model, split into its costly half and its prompt-dependent half.

    The `SliceMask.state` of an answer comes back in two cases, always in the same plane:

    - in a walk for a target, with the prompt of the next slice in the same direction;
    - where a walk begins at a click or from a box on another plane's slice: the chosen answer's
      state, with the prompt of the same slice, which is asked about once more.

    It never comes back in corrections, whose prompts carry no state. It is the place for
    low-resolution scores, and for the memory of a model that tracks a target from slice to slice;
    as a walk goes in two directions from its first slice, that slice's state comes back twice and
    is not to be changed.

    Attributes:
        name: as it appears in logs and outputs.
        traits: what the lifting has to know of it.
    """

    name: str
    traits: Traits

    def encode(self, slices: npt.NDArray[np.uint8]) -> Sequence[Embedding]:
        """Prepares slices for any number of prompts.

        Args:
            slices: (N, rows, columns) uint8, 0..255, all of one plane. Where the traits say
                `three_channels`, also (N, rows, columns, 3): what the three colours of a network's
                input show instead of one grey value.

        Returns:
            N embeddings, in order.
        """
        ...

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        """Segments each embedding's slice for the prompt at the same position.

        Args:
            embeddings: from `encode`; the same one may occur several times.
            prompts: one per embedding.
            multimask: True takes the best of several candidate masks, False the single-mask
                output, None the model's own habit.

        Returns:
            One mask per prompt, in order.
        """
        ...


@runtime_checkable
class StorableSegmenter(Segmenter, Protocol):
    """A segmenter whose embeddings can outlive the process.

    Attributes:
        fingerprint: differs wherever embeddings of the same slice would, of any two segmenters of
            its class: by checkpoint, precision and preparation.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def pack(self, embedding: Embedding) -> npt.NDArray[Any]:
        """Returns all that an embedding holds, bit for bit, but for the slice's shape."""
        ...

    def unpack(self, array: npt.NDArray[Any], shape: tuple[int, int]) -> Embedding:
        """Returns the embedding that `pack` was given.

        Args:
            array: from `pack`, perhaps of another process.
            shape: of the slice (rows, columns).

        Raises:
            ValueError: the array is not one of this segmenter's.
        """
        ...


Memory = Any
"""What a tracker remembers of a target; never changed, and opaque to everything but its tracker."""


@runtime_checkable
class Tracker(Segmenter, Protocol):
    """A segmenter that follows a target from slice to slice by a memory of those it has seen.

    A walk begins at its anchor with a prompt and without a memory. Each answer's `SliceMask.state`
    is the memory for the slices after it. As a walk goes in two directions from its anchor, that
    memory is used twice: memories are values that never change.
    """

    def track(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt | None],
        memories: Sequence[Memory | None],
        positions: Sequence[int],
    ) -> Sequence[SliceMask]:
        """Segments each embedding's slice by what is remembered of a target.

        Args:
            embeddings: from `encode`, of slices of one shape; the same one may occur several times.
            prompts: what a user says of the slice; None leaves it to the memory. A slice that the
                memory hasn't seen, or by a prompt alone, is segmented by the prompt alone, and
                remembered for good. One that a walk has reached is corrected by the prompt, and
                remembered as any slice that was walked.
            memories: of each one's target; None where there is none so far, which needs a prompt.
            positions: of each slice in its memory's order: neighbours in a walk differ by 1.

        Returns:
            One mask per slice, in order, with the memory, the slice included, as its `state`. The
            logits are negative everywhere where the target is said to be gone.
        """
        ...

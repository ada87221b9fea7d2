"""Steps that can be taken back and done again, and masks in little memory to keep in them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gamt.axes import bounding_range

MOST_BYTES = 256 * 2**20
"""Memory for the masks and prompts of all steps. Beyond it the oldest ones are forgotten: of masks
that fill a scan of 300 x 512 x 512 voxels it holds 27, of an organ's in it several hundred."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedMask:
    """A mask in an eighth of its bounds' memory.

    Attributes:
        shape: of the mask (z, y, x).
        where: the part of the mask that holds all of it that is True.
        bits: of that part, in C order, eight to a byte.
    """

    shape: tuple[int, ...]
    where: tuple[slice, ...]
    bits: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_]) -> "PackedMask":
        """Packs a mask (z, y, x)."""
        return cls.of_part(mask, (0, 0, 0), mask.shape)

    @classmethod
    def of_part(
        cls, part: npt.NDArray[np.bool_], low: Sequence[int], shape: tuple[int, ...]
    ) -> "PackedMask":
        """Packs a mask of a shape (z, y, x) that is False but for a part, which begins at `low`."""
        first, last = bounding_range(part) or ([0, 0, 0], [0, 0, 0])
        inner = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        where = tuple(slice(n + one.start, n + one.stop) for n, one in zip(low, inner, strict=True))
        return cls(shape, where, np.packbits(part[inner]))

    def part(self) -> npt.NDArray[np.bool_]:
        """Returns the mask `where` it is not empty."""
        size = [one.stop - one.start for one in self.where]
        bits = np.unpackbits(self.bits, count=int(np.prod(size)))
        return bits.reshape(size).view(np.bool_)

    def unpack(self) -> npt.NDArray[np.bool_]:
        """Returns the mask (z, y, x)."""
        mask = np.zeros(self.shape, np.bool_)
        mask[self.where] = self.part()
        return mask


class Step(Protocol):
    """A state that a history keeps."""

    @property
    def arrays(self) -> Iterable[npt.NDArray[Any]]:
        """What takes memory in it; states may have some in common."""


S = TypeVar("S", bound=Step)


def count_bytes(arrays: Iterable[npt.NDArray[Any]]) -> int:
    """Returns the memory of some arrays; one value that is repeated all over takes none."""
    return sum(one.nbytes for one in arrays if any(one.strides))


class History(Generic[S]):
    """A state, those before it, and those that were taken back.

    The states before it are forgotten, from the oldest on, where all take more than `MOST_BYTES`.
    """

    def __init__(self, first: S) -> None:
        """Begins with a state, before which there is none."""
        self._past: list[S] = []
        self._future: list[S] = []
        self.state = first

    def copy(self) -> "History[S]":
        """Returns a history of the same states, which goes its own way from here."""
        other = History(self.state)
        other._past, other._future = self._past.copy(), self._future.copy()
        return other

    def advance(self, state: S) -> None:
        """Goes on to another state; what was taken back can't be done again any more."""
        self._past.append(self.state)
        self._future.clear()
        self.state = state
        held = {id(one): one for one in state.arrays}
        for index in reversed(range(len(self._past))):
            held.update((id(one), one) for one in self._past[index].arrays)
            if count_bytes(held.values()) > MOST_BYTES:
                del self._past[: index + 1]
                break

    @property
    def past(self) -> tuple[S, ...]:
        """The states before it that can be gone back to, the oldest first."""
        return tuple(self._past)

    @property
    def states(self) -> tuple[S, ...]:
        """All states: the past ones, it, and those that were taken back."""
        return (*self._past, self.state, *self._future)

    def forget_oldest(self) -> None:
        """Forgets the oldest of the past states, to which there is no way back then."""
        del self._past[0]

    @property
    def before(self) -> S | None:
        """The state before; None where there is none."""
        return self._past[-1] if self._past else None

    @property
    def after(self) -> S | None:
        """The state that was taken back last; None where there is none."""
        return self._future[-1] if self._future else None

    def back(self) -> None:
        """Goes back to the state before."""
        self._future.append(self.state)
        self.state = self._past.pop()

    def forward(self) -> None:
        """Goes on to the state that was taken back last."""
        self._past.append(self.state)
        self.state = self._future.pop()

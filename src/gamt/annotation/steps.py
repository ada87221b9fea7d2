"""What is done to a target step by step, so that every step can be taken back and done again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from gamt.annotation.prompts import MaskPrompt, NewPrompt, add_prompt, describe_prompt
from gamt.history import History, PackedMask
from gamt.session import Session, State
from gamt.settings import Scale


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A prompt was given.

    Attributes:
        id: its number in the document.
        prompt: as the page sent it.
    """

    id: int
    prompt: NewPrompt

    @property
    def kind(self) -> str:
        """What it is: "point", "box", "scribble" or "lasso"."""
        return str(describe_prompt(self.prompt)["kind"])

    def apply(self, session: Session) -> bool:
        """Does it; returns whether a prediction is due."""
        add_prompt(session, self.prompt)
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A mask was loaded, with which the target begins anew.

    Attributes:
        id: its number in the document.
        prompt: its name.
        mask: (z, y, x).
        left_out: voxels of the file's that belonged to other targets, and aren't in `mask`.
    """

    id: int
    prompt: MaskPrompt
    mask: PackedMask
    left_out: int

    def apply(self, session: Session) -> bool:
        """Does it; returns whether a prediction is due."""
        session.add_initial_seg_interaction(self.mask.unpack())
        return False


@dataclass(frozen=True, slots=True)
class Scaled:
    """A scale was chosen."""

    scale: Scale

    def apply(self, session: Session) -> bool:
        """Does it, unless there is no such choice any more; returns whether a prediction is due."""
        if self.scale in session.scales:
            session.choose_scale(self.scale)
        return False


Action = Given | Loaded | Scaled


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A target after something was done to it; never changed, but replaced by the next one.

    Its state follows from what was done alone, however fast it was done: every prompt is predicted
    by itself, in the order in which they were given.

    Attributes:
        done: what led to `state`, in order of time.
        state: the session's.
        waiting: what is still to be done, as the prediction isn't finished or was superseded.
        stamp: when it was made: it is larger than that of earlier steps, of any target.
    """

    done: tuple[Action, ...] = ()
    state: State = field(default_factory=State)
    waiting: tuple[Action, ...] = ()
    stamp: int = 0

    @property
    def actions(self) -> tuple[Action, ...]:
        """All that was done or is waiting."""
        return self.done + self.waiting

    @property
    def prompts(self) -> Iterator[Given | Loaded]:
        """Yields the prompts among that."""
        return (one for one in self.actions if not isinstance(one, Scaled))

    @property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """What takes memory in it; see `History`."""
        masks = [one.mask.bits for one in self.actions if isinstance(one, Loaded)]
        return [*self.state.arrays, *masks]


def show(session: Session, state: State) -> None:
    """Makes a session that of a target, without a way back."""
    session.restore(History(state))


def state_of(session: Session) -> State:
    """Returns what a session knows of its target."""
    return session.snapshot().state

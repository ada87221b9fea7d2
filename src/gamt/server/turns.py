"""Whose turn it is to compute: one at a time, first come first served, in slices of time."""

import threading
import time
from collections.abc import Callable

SLICE_SECONDS = 0.05
"""Who has had the turn for less keeps it. Steps take from a millisecond to a second: were it handed
on at every one, what has many short steps would wait for the long ones of all others."""


class Turns:
    """Hands one turn around among threads.

    Those who wait get it in the order in which they came. Who has it passes it on at the end of a
    step, once a slice of time is over, so that all get on at one pace, and what takes little time
    is soon done. Those in the background get it only when nobody else wants it.
    """

    def __init__(self, slice_seconds: float = SLICE_SECONDS) -> None:
        """Begins with nobody's turn."""
        self.slice_seconds = slice_seconds
        self._changed = threading.Condition()
        self._holder: Turn | None = None
        self._waiting: list[Turn] = []

    @property
    def waiting(self) -> int:
        """Number of those who wait for the turn, but for the background."""
        with self._changed:
            return sum(not one.background for one in self._waiting)

    def wake(self) -> None:
        """Lets all who wait ask again whether they still want the turn."""
        with self._changed:
            self._changed.notify_all()

    def _take(self, turn: "Turn") -> bool:
        with self._changed:
            self._waiting.append(turn)
            self._changed.wait_for(lambda: turn.is_unwanted() or self._is_next(turn))
            self._waiting.remove(turn)
            if turn.is_unwanted():
                self._changed.notify_all()  # it may have been the next one's
                return False
            self._holder = turn
            return True

    def _is_next(self, turn: "Turn") -> bool:
        first = next((one for one in self._waiting if not one.background), self._waiting[0])
        return self._holder is None and first is turn

    def _give(self) -> None:
        with self._changed:
            self._holder = None
            self._changed.notify_all()


class Turn:
    """One thread's place among those who take turns.

    Attributes:
        background: whether all others come first.
        waited: seconds that it has waited for the turn so far.
    """

    def __init__(
        self, turns: Turns, is_unwanted: Callable[[], bool], *, background: bool = False
    ) -> None:
        """Doesn't wait yet.

        Args:
            turns: whose.
            is_unwanted: says whether the turn isn't wanted any more; `Turns.wake` lets those who
                wait ask again. It must not use the turns itself.
            background: whether all others come first.
        """
        self.is_unwanted = is_unwanted
        self.background = background
        self.waited = 0.0
        self._turns = turns
        self._has_it = False
        self._since = 0.0

    def take(self) -> bool:
        """Waits for the turn.

        Returns:
            Whether it has the turn: False where that isn't wanted any more.
        """
        before = time.monotonic()
        self._has_it = self._turns._take(self)
        self._since = time.monotonic()
        self.waited += self._since - before
        return self._has_it

    def give(self) -> None:
        """Gives the turn back, if it has it."""
        if self._has_it:
            self._has_it = False
            self._turns._give()

    def pass_on(self) -> bool:
        """Ends a step: lets those who wait go first, unless its slice of time has just begun.

        Returns:
            Whether it has the turn again: False where that isn't wanted any more.
        """
        if self.is_unwanted():
            self.give()
            return False
        held = time.monotonic() - self._since
        if held < self._turns.slice_seconds or self._turns.waiting == 0:
            return True
        self.give()
        return self.take()

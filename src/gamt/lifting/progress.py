"""How far walks have come, for those who wait for them."""

from collections.abc import Callable

Report = Callable[[int, int], None]
"""Is called with the slices that are done with, and those planned so far; neither ever falls."""


class Progress:
    """Counts the slices that walks are done with, of those that they have planned so far.

    Every stage plans its walks only when it begins, so that the number planned grows. A slice is
    done with when it was segmented, stepped over, or left out because its walk has ended.
    """

    def __init__(self, report: Report = lambda done, planned: None) -> None:
        """Starts with nothing planned; `report` is called after every change."""
        self._report = report
        self._done = 0
        self._planned = 0

    @property
    def left(self) -> int:
        """The slices that were planned so far and are not done with."""
        return self._planned - self._done

    def plan(self, slices: int) -> None:
        """Announces slices."""
        self._planned += slices
        self._report(self._done, self._planned)

    def finish(self, slices: int) -> None:
        """Counts slices that were planned as done with."""
        self._done += slices
        self._report(self._done, self._planned)

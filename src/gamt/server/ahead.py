"""Encodes slices that are likely to be asked for next, while nobody computes."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from gamt.axes import Plane
from gamt.segmenters.base import Segmenter
from gamt.segmenters.door import SegmenterFault
from gamt.server.metrics import Metrics
from gamt.server.turns import Turn, Turns
from gamt.volume.ahead import likely_scan
from gamt.volume.cache import EmbeddingCache, KeyedSlice, encode_together
from gamt.volume.preparation import PreparedVolume
from gamt.volume.windowing import common_window

logger = logging.getLogger("gamt.server")


@dataclass(slots=True, eq=False)
class Plan:
    """The slices that one session is likely to ask for.

    Attributes:
        cache: of the session.
        volume: of the session.
        slices: not looked at yet, the likeliest first; None until their scan's image is made.
        missing: looked at and found to have no embedding.
    """

    cache: EmbeddingCache
    volume: PreparedVolume
    slices: Iterator[KeyedSlice] | None = None
    missing: list[KeyedSlice] = field(default_factory=list)

    def look(self, most: int) -> None:
        """Looks for slices that have no embedding, until that many are missing."""
        assert self.slices is not None
        self.missing = [one for one in self.missing if not self.cache.has(one)]
        while len(self.missing) < most and (one := next(self.slices, None)) is not None:
            if not self.cache.has(one):
                self.missing.append(one)

    def take(self, shape: tuple[int, ...] | None) -> KeyedSlice | None:
        """Takes the likeliest of the missing slices that has a shape, or any if that is None."""
        for one in self.missing:
            if shape in (None, one.pixels.shape):
                self.missing.remove(one)
                return one
        return None


class EncodeAhead:
    """A thread that works for all sessions in turn, a batch at a time, when nobody else computes.

    What a session needs of its image before any slice, it makes first.
    """

    def __init__(self, segmenter: Segmenter, turns: Turns, metrics: Metrics) -> None:
        """Starts with nothing to do."""
        self._batch = segmenter.traits.batch
        # A segmenter that knows intensities alone keeps its slices as they are.
        self._encodes = not segmenter.traits.intensities_alone
        self._turns = turns
        self._metrics = metrics
        self._changed = threading.Condition()
        self._plans: list[Plan] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="encode-ahead", daemon=True)
        self._thread.start()

    @property
    def planned(self) -> int:
        """Number of sessions for which there is something left to do."""
        with self._changed:
            return len(self._plans)

    def plan(self, cache: EmbeddingCache, volume: PreparedVolume) -> None:
        """Plans for a session, instead of what was planned for it before.

        Args:
            cache: of the session; the plan ends when its share is full.
            volume: the session's image.
        """
        self.drop(cache)
        with self._changed:
            self._plans.append(Plan(cache, volume))
            self._changed.notify()

    def drop(self, cache: EmbeddingCache) -> None:
        """Forgets what was planned for a session."""
        with self._changed:
            self._plans = [one for one in self._plans if one.cache is not cache]

    def close(self) -> None:
        """Stops the thread, and waits for that."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._turns.wake()
        self._thread.join()

    def _run(self) -> None:
        while self._work_on_next():
            pass

    def _work_on_next(self) -> bool:
        """Does a step for the plan whose turn it is, and says whether to go on.

        While it waits, nothing of an earlier plan, such as a closed session's image, is held on to.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._plans or self._closed)
            if self._closed:
                return False
            plan = self._plans[0]
        try:
            goes_on = self._work(plan)
        except Exception:
            logger.exception("encoding ahead failed")
            goes_on = False
        with self._changed:
            if plan in self._plans:  # it wasn't dropped meanwhile
                self._plans.remove(plan)
                self._plans += [plan] if goes_on else []
        return True

    def _work(self, plan: Plan) -> bool:
        """Does a step for a plan, and says whether there is more to do.

        Others go on meanwhile, but for what needs the segmenter or a volume's scans.
        """
        if plan.slices is None:
            return self._prepare(plan)
        with self._changed:
            plans = [one for one in self._plans if one.slices is not None]
        for one in plans:
            one.look(len(Plane) * self._batch)
        turn = self._take_turn()
        if turn is None:
            return False
        try:
            batch = self._fill(plan)
            if batch:
                made = encode_together(batch, len(batch)).values()
                faults = [one for one in made if isinstance(one, SegmenterFault)]
                self._metrics.encoded.labels("ahead").inc(len(batch) - len(faults))
                if faults:
                    raise faults[0]
        finally:
            turn.give()
        return bool(batch)

    def _prepare(self, plan: Plan) -> bool:
        """Makes what a plan's slices are cut from, and says whether there are any."""
        common_window(plan.volume)
        turn = self._take_turn() if self._encodes else None
        if turn is None:
            return False
        try:
            scan = likely_scan(plan.volume)
        finally:
            turn.give()
        if scan is None:
            return False
        scan.image  # noqa: B018 - it is made now, and kept
        plan.slices = scan.ahead(plan.volume.settings.planes)
        return True

    def _take_turn(self) -> Turn | None:
        """Waits until nobody computes; returns None where there is no time left for that."""
        turn = Turn(self._turns, lambda: self._closed, background=True)
        return turn if turn.take() else None

    def _fill(self, plan: Plan) -> list[tuple[EmbeddingCache, KeyedSlice]]:
        """Gathers a batch of one shape, first of a plan and then of the others'."""
        batch: dict[str, tuple[EmbeddingCache, KeyedSlice]] = {}
        shape: tuple[int, ...] | None = None
        with self._changed:  # what was dropped while this waited for its turn is not gone on with
            plans = sorted(self._plans, key=lambda one: one is not plan)
        for one in plans:
            mine = 0
            while len(batch) < self._batch and one.cache.has_room(mine + 1):
                found = one.take(shape)
                if found is None:
                    break
                batch.setdefault(found.key, (one.cache, found))
                shape = found.pixels.shape
                mine += 1
            if not batch:
                break
        return list(batch.values())

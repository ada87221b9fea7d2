"""One loaded segmenter for many clients: whose prediction runs, and what becomes of it."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from gamt.lifting.fusion import Votes
from gamt.lifting.progress import Report
from gamt.lifting.target import Observer
from gamt.memory import machine_bytes
from gamt.segmenters.base import Segmenter
from gamt.server.ahead import EncodeAhead
from gamt.server.memory import MB, Memory, TooLarge, give_back
from gamt.server.metrics import Metrics
from gamt.server.turns import Turn, Turns
from gamt.session import ArrayBounds, Cancelled, Session
from gamt.settings import Settings, SettingsError
from gamt.volume.cache import EmbeddingCache

logger = logging.getLogger("gamt.server")

T = TypeVar("T")

IsGone = Callable[[], Awaitable[bool]]
"""Says whether the client that waits for an answer has hung up."""

WhyCancelled = Literal["superseded", "gone", "closed"]
"""A later call wants another prediction, nobody wants this one any more, or the workspace ends."""

Reserved = Literal["image", "target buffer"]
"""What of a workspace memory is reserved for."""

POLL_SECONDS = 0.2
"""How often a prediction's client is asked for, whether it is still there (docs/constants.md)."""

ANSWER_SECONDS = 45.0
"""Allowed for a prediction, with what it waits for others meanwhile: nnInteractive's client gives
up after 60, and the last step may take a while (docs/constants.md)."""

MEMORY_SHARE = 0.8
"""Share of the machine's memory, or the container's, that is used (docs/constants.md)."""

RESULT_BYTES = 8
"""Bytes for each voxel of an image beside the image itself: the labels and scores of a prediction,
and the masks of earlier ones (docs/constants.md)."""


class Closed(Exception):  # noqa: N818 - it is no error of the engine's
    """The workspace was closed."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What came of a prompt, or of a step back or forth.

    Attributes:
        ran: False where a later call superseded it, or there was nothing to predict or take back.
        bounds: half-open [[a, b], [c, d], [e, f]] (z, y, x) of what changed in the target buffer
            since a client last got an answer; None where nothing did.
        content: uint8, what the target buffer holds within these bounds; None without bounds.
        complete: whether there was time for all of it (`ANSWER_SECONDS`).
    """

    ran: bool
    bounds: ArrayBounds | None = None
    content: npt.NDArray[np.uint8] | None = None
    complete: bool = True


class Engine:
    """Lends one segmenter to many workspaces.

    One of them computes at a time, for a step of the method: then the next one goes on. Nobody uses
    the segmenter but in its turn. When nobody wants it, slices are encoded that are likely to be
    asked for next.

    Attributes:
        segmenter: the 2-D model that is lifted.
        settings: how the method works.
        turns: whose turn it is.
        memory: what of it is spoken for.
        ahead: encodes slices when nobody computes.
        metrics: what is counted goes there.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        settings: Settings,
        *,
        metrics: Metrics,
        cache: Path | None = None,
    ) -> None:
        """Starts without any workspace.

        Args:
            segmenter: the 2-D model to lift.
            settings: how the method works; `cache_mb` in it is for all workspaces together.
            metrics: what is counted goes there.
            cache: a folder where encoded slices are kept; None keeps none.

        Raises:
            SettingsError: `cache_mb` leaves no memory for images.
        """
        self.segmenter = segmenter
        self.settings = settings
        self.metrics = metrics
        self.turns = Turns()
        cache_bytes, most_bytes = settings.cache_mb * MB, int(MEMORY_SHARE * machine_bytes())
        if cache_bytes >= most_bytes:
            raise SettingsError(
                f"cache_mb: found {settings.cache_mb}, expected less than the {most_bytes // MB} "
                "MB of memory that the server may use, to have some left for images"
            )
        self.memory = Memory(most_bytes - cache_bytes)
        self.ahead = EncodeAhead(segmenter, self.turns, metrics)
        self._embeddings = EmbeddingCache(segmenter, cache_bytes, cache)
        self._embeddings.leave()  # the workspaces share all of it
        self._lock = threading.Lock()
        self._workspaces: set[Workspace] = set()
        metrics.max_reserved_bytes.set(self.memory.limit_bytes)
        metrics.sessions.set_function(lambda: len(self._workspaces))
        metrics.waiting.set_function(lambda: self.turns.waiting)
        metrics.reserved_bytes.set_function(lambda: self.memory.reserved_bytes)
        metrics.cache_bytes.set_function(lambda: self._embeddings.total_bytes)

    def open(
        self,
        observer: Observer | None = None,
        progress: Report = lambda done, planned: None,
    ) -> "Workspace":
        """Returns a workspace for another client.

        Args:
            observer: is told how every prediction goes, in the workspace's thread; None for nobody.
            progress: called there with the slices that are done and those planned so far.
        """
        with self._lock:
            workspace = Workspace(self, self._embeddings.join(), observer, progress)
            self._workspaces.add(workspace)
        return workspace

    def close(self) -> None:
        """Cancels all predictions and stops all threads, which may take as long as a step does."""
        with self._lock:
            workspaces = list(self._workspaces)
        for workspace in workspaces:
            workspace.close()
        for workspace in workspaces:
            workspace.join()
        self.ahead.close()

    def forget(self, workspace: "Workspace") -> None:
        """Gives up what a workspace has reserved."""
        with self._lock:
            self._workspaces.discard(workspace)
        self.memory.release(workspace)


@dataclass(slots=True, eq=False)
class Call:
    """Something that a client asked of its workspace and waits for.

    Attributes:
        number: of the workspace's calls, this is the one.
        topic: only later calls on the same topic supersede it.
        is_gone: asks whether the client has hung up.
        since: when it came, on the clock of `time.monotonic`.
        gone: whether it had when it was last asked.
        heard: whether it was still there when the answer was ready.
    """

    number: int
    topic: Hashable
    is_gone: IsGone
    since: float
    gone: bool = False
    heard: bool = False


class Run:
    """A piece of work while the workspace's thread does it.

    Attributes:
        session: the workspace's.
    """

    def __init__(self, workspace: "Workspace", call: Call, turn: Turn) -> None:
        """Hasn't got the turn yet; see `Workspace.run`."""
        self.session = workspace._session
        self._workspace = workspace
        self._call = call
        self._turn = turn

    @property
    def why_cancelled(self) -> WhyCancelled | None:
        """Why a prediction is to stop; None as long as it is wanted."""
        return self._workspace._why_cancelled(self._call)

    def predict(self, work: Callable[[Session], T]) -> T:
        """Lets the session predict, in turns with other clients.

        Args:
            work: is given the session, and predicts.

        Returns:
            What `work` returned.

        Raises:
            Cancelled: it isn't wanted any more; the prompts are as they were.
            Exception: what `work` raised.
        """
        if not self._turn.take():
            raise Cancelled
        self._workspace._turn = self._turn
        result = work(self.session)
        self._turn.give()
        return result

    def is_cancelled(self) -> bool:
        """Ends a step of a prediction that isn't the session's, within `predict`.

        Returns:
            Whether it isn't wanted any more; else it is its turn again.
        """
        return self._workspace._is_cancelled()


class Workspace:
    """One client's session and target buffer.

    Calls are awaited while a thread does the work, one after the other, in the order in which they
    came. A call supersedes the predictions that came before it: those stop at their next step, and
    their prompts stay for the next prediction.
    """

    def __init__(
        self,
        engine: Engine,
        cache: EmbeddingCache,
        observer: Observer | None,
        progress: Report,
    ) -> None:
        """Begins without an image; see `Engine.open`."""
        self._engine = engine
        self._cache = cache
        self._observer = observer
        self._progress = progress
        self._session = self._begin()
        self._thread = ThreadPoolExecutor(1, "workspace")
        self._turn: Turn | None = None  # of the prediction that runs
        self._calls = 0
        self._latest: dict[Hashable, int] = {}  # numbers of calls by their topics
        self._predictions: set[Call] = set()  # that are not finished
        self._answered: Call | None = None  # the call before, if it told what changed
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether no call is taken any more."""
        return self._closed

    def reserve(self, what: Reserved, shape: Sequence[int], itemsize: int) -> None:
        """Reserves memory for an array before it is made, and for what predictions make of it.

        Args:
            what: it is; another one of the same takes its place.
            shape: of the array, as the client declares it.
            itemsize: bytes of a voxel.

        Raises:
            TooLarge: the server has not that much left; what was reserved before still is.
            Closed: the workspace is closed.
        """
        if self._closed:
            raise Closed
        self._engine.memory.reserve(self, what, self._size_of(what, shape, itemsize))

    @contextmanager
    def lend(
        self, what: Reserved, shape: Sequence[int], itemsize: int
    ) -> Iterator[Callable[[], None]]:
        """Reserves memory for an array that is to take another's place, beside what that one has.

        It is given up at the end of the block, unless it has been kept until then.

        Args:
            what: it is.
            shape: of the array, as the client declares it.
            itemsize: bytes of a voxel.

        Yields:
            What keeps it, and gives up what the other one had; called within `change`.

        Raises:
            TooLarge: the server has not that much left.
        """
        memory = self._engine.memory
        with memory.lend(what, self._size_of(what, shape, itemsize)) as borrower:
            yield lambda: memory.hand_over(borrower, self, what)

    def _size_of(self, what: Reserved, shape: Sequence[int], itemsize: int) -> int:
        """Returns the bytes of an array, and of what predictions make of it."""
        voxels, settings = math.prod(shape), self._engine.settings
        if what != "image":
            return voxels * itemsize
        seen = min(voxels, settings.crop_voxels**3)
        results = voxels * RESULT_BYTES + seen * len(settings.planes) * Votes.BYTES_PER_VOXEL
        return voxels * itemsize + results

    async def change(self, work: Callable[[Session], T]) -> T:
        """Does something with the session that is no prediction.

        Args:
            work: is given the session. It doesn't predict: it adds prompts without a prediction,
                takes an image, or begins anew.

        Returns:
            What `work` returned.

        Raises:
            Closed: the workspace is closed.
            Exception: what `work` raised.
        """
        await self._ask_running()
        return await self._submit(lambda: self._try(work))

    async def read(self, work: Callable[[Session], T]) -> T:
        """Looks at the session as earlier calls left it, without being in any prediction's way.

        Args:
            work: is given the session, which it doesn't change.

        Returns:
            What `work` returned.

        Raises:
            Closed: the workspace is closed.
            Exception: what `work` raised.
        """
        if self._closed:
            raise Closed
        return await asyncio.wrap_future(self._thread.submit(work, self._session))

    async def predict(
        self, kind: str, add: Callable[[Session], object], is_gone: IsGone
    ) -> Prediction:
        """Adds a prompt, and predicts.

        If that fails, or the client hangs up, the session is as it was before the prompt.

        Args:
            kind: of the prompt, for the metrics and the log.
            add: is given the session. It adds the prompt without a prediction; where it returns
                False, there is nothing to predict.
            is_gone: says whether the client has hung up.

        Raises:
            Closed: the workspace is closed.
            Exception: what `add` raised, or the prediction.
        """
        return await self._call(kind, is_gone, lambda call, turn: self._predict(call, turn, add))

    async def step(self, kind: str, move: Callable[[Session], bool], is_gone: IsGone) -> Prediction:
        """Goes back or forth among the session's steps; nothing is predicted.

        Args:
            kind: "undo" or "redo", for the metrics and the log.
            move: is given the session. It goes a step, and returns whether there was one.
            is_gone: says whether the client has hung up.

        Raises:
            Closed: the workspace is closed.
            Exception: what `move` raised.
        """
        return await self._call(kind, is_gone, lambda call, turn: self._move(call, move))

    async def run(
        self, kind: str, work: Callable[[Run], Prediction], is_gone: IsGone, topic: Hashable
    ) -> Prediction:
        """Does work that may predict, and looks itself after what is to become of the session.

        Args:
            kind: of the work, for the metrics and the log.
            work: is given the session, and how to predict; it lets `Cancelled` through.
            is_gone: says whether nobody wants the work any more.
            topic: later work on the same topic supersedes its prediction. Of another one, it waits.

        Returns:
            What `work` did; a prediction that didn't run, if it was cancelled.

        Raises:
            Closed: the workspace is closed.
            Exception: what `work` raised.
        """

        def measured(call: Call, turn: Turn) -> Prediction:
            return self._try(lambda _: work(Run(self, call, turn)))

        return await self._call(kind, is_gone, measured, topic)

    def cancel(self, topic: Hashable) -> None:
        """Stops the predictions on a topic that run or wait, as if their clients had hung up."""
        for call in self._predictions:
            call.gone |= call.topic == topic
        self._engine.turns.wake()

    def close(self) -> None:
        """Cancels what runs, and takes no call any more; when it has ended, the memory is freed."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._end)
            self._thread.shutdown(wait=False)
            self._engine.turns.wake()

    def join(self) -> None:
        """Waits until a closed workspace's memory is freed."""
        self._thread.shutdown()

    def _begin(self) -> Session:
        engine = self._engine
        return Session(
            engine.segmenter,
            engine.settings,
            self._cache,
            seconds=ANSWER_SECONDS,
            observer=self._observer,
            progress=self._progress,
            cancelled=self._is_cancelled,
        )

    async def _ask_running(self) -> None:
        """Asks whether the clients are still there whose predictions are about to be superseded."""
        for call in list(self._predictions):
            await self._ask(call)

    async def _ask(self, call: Call) -> None:
        if not call.gone and await call.is_gone():
            call.gone = True
            self._engine.turns.wake()

    async def _call(
        self,
        kind: str,
        is_gone: IsGone,
        work: Callable[[Call, Turn], Prediction],
        topic: Hashable = None,
    ) -> Prediction:
        """Does work whose client may hang up; `_predictions` has it meanwhile."""
        await self._ask_running()
        call = Call(self._calls + 1, topic, is_gone, time.monotonic())
        future = self._submit(lambda: self._measure(call, kind, work), topic)
        self._predictions.add(call)
        try:
            while not (await asyncio.wait([future], timeout=POLL_SECONDS))[0]:
                await self._ask(call)
            answer = future.result()
            await self._ask(call)
            call.heard = not call.gone
            return answer
        except asyncio.CancelledError:
            call.gone = True
            self._engine.turns.wake()
            raise
        finally:
            self._predictions.discard(call)

    def _submit(self, work: Callable[[], T], topic: Hashable = None) -> "asyncio.Future[T]":
        if self._closed:
            raise Closed
        self._calls += 1
        self._latest[topic] = self._calls
        self._engine.turns.wake()
        return asyncio.wrap_future(self._thread.submit(self._do, work))

    # What follows runs in the workspace's thread.

    def _do(self, work: Callable[[], T]) -> T:
        self._engine.ahead.drop(self._cache)
        if self._answered is not None and self._answered.heard:
            self._session.forget_changes()
        self._answered = None
        try:
            return work()
        finally:
            if self._session.volume is not None:
                self._engine.ahead.plan(self._cache, self._session.volume)

    def _end(self) -> None:
        """Frees the memory, and only then what was reserved of it."""
        self._engine.ahead.drop(self._cache)
        self._cache.leave()
        self._session = self._begin()
        give_back()
        self._engine.forget(self)

    def _try(self, work: Callable[[Session], T]) -> T:
        """Does what a client asked for.

        What was wrong with that, or that nobody wants it any more, is no error of the server's.
        """
        try:
            return work(self._session)
        except (ValueError, TooLarge, Cancelled):
            raise
        except Exception as error:
            self._count(error)
            raise

    def _count(self, error: Exception) -> None:
        self._engine.metrics.errors.labels(type(error).__name__).inc()

    def _measure(
        self, call: Call, kind: str, work: Callable[[Call, Turn], Prediction]
    ) -> Prediction:
        """Does some work, unless it isn't wanted any more, and takes note of how that went."""
        encoded, found = self._cache.encoded, self._cache.found
        turn = Turn(self._engine.turns, lambda: self._why_cancelled(call) is not None)
        queued = time.monotonic() - call.since
        outcome = "failed"
        try:
            if self._closed or call.gone:
                raise Cancelled
            result = work(call, turn)
            outcome = "idle" if not result.ran else "ran" if result.complete else "cut"
            if not result.complete:
                self._engine.metrics.cut.inc()
        except Cancelled:
            outcome = self._why_cancelled(call) or "cancelled"
            self._engine.metrics.cancelled.labels(outcome).inc()
            result = Prediction(ran=False)
        finally:
            turn.give()
            self._turn = None
            waited = queued + turn.waited
            computed = time.monotonic() - call.since - waited
            encoded, found = self._cache.encoded - encoded, self._cache.found - found
            self._engine.metrics.count_prediction(kind, waited, computed, encoded, found)
            logger.info(
                "prediction kind=%s outcome=%s waited=%.3f computed=%.3f encoded=%d",
                *(kind, outcome, waited, computed, encoded),
            )
        return result

    def _predict(self, call: Call, turn: Turn, add: Callable[[Session], object]) -> Prediction:
        """Adds a prompt and predicts.

        Raises:
            Cancelled: it isn't wanted any more. The prompt is still there if it was superseded.
            Exception: it failed; the prompt is not there any more.
        """
        session = self._session
        before = session.snapshot()
        if self._try(add) is False:
            return Prediction(ran=False)
        run = Run(self, call, turn)
        try:
            run.predict(Session.run_prediction)
        except Cancelled:
            if run.why_cancelled != "superseded":
                session.restore(before)
            raise
        except Exception as error:
            self._count(error)
            session.restore(before)
            raise
        return replace(self._answer(call), complete=session.is_complete)

    def _move(self, call: Call, move: Callable[[Session], bool]) -> Prediction:
        return self._answer(call) if self._try(move) else Prediction(ran=False)

    def _answer(self, call: Call) -> Prediction:
        """Tells a client what changed, and what earlier ones did not get to hear of that."""
        self._answered = call
        bounds = self._session.changes
        if bounds is None:
            return Prediction(ran=True)
        part = self._session.target_buffer[tuple(slice(a, b) for a, b in bounds)]
        return Prediction(True, bounds, part.astype(np.uint8))

    def _is_cancelled(self) -> bool:
        """Lets others take their turn before every step of a prediction."""
        return self._turn is not None and not self._turn.pass_on()

    def _why_cancelled(self, call: Call) -> WhyCancelled | None:
        if self._closed:
            return "closed"
        if call.gone:
            return "gone"
        return "superseded" if self._latest[call.topic] > call.number else None

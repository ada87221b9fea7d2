"""What all tabs of the page share: the images, the one that is open, and what is done to it."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import gamt
from gamt.annotation import recovery, saving
from gamt.annotation.document import Document, join
from gamt.io.formats import strip_suffix
from gamt.io.image import Image
from gamt.server.annotate.changes import Change, cut
from gamt.server.annotate.events import Events
from gamt.server.annotate.keeping import Keeping, KeptWork
from gamt.server.annotate.scans import Entry, describe_scan
from gamt.server.annotate.uploads import find_image
from gamt.server.annotate.volume import choose_dtype
from gamt.server.engine import Engine, IsGone, Prediction, Run, Workspace
from gamt.server.memory import TooLarge
from gamt.session import ArrayBounds, Cancelled, Session

logger = logging.getLogger("gamt.server")

T = TypeVar("T")

RECOVERY_SECONDS = 1.0
"""After a change its recovery is written, with all that changes meanwhile."""

STOP_SECONDS = 0.2
"""How soon a prediction hears that the server stops."""

EXPLANATION = "explanation"
"""The topic of predictions that are made anew to be explained."""

SHARED = "Another run is at work on this scan; each keeps what is unsaved for itself."
"""The note of a scan that was opened twice."""

Reader = Callable[[Path], Image]
"""Reads an image; raises ImageError."""

Sample = Callable[[], Image]
"""Draws the sample."""

Begin = Callable[[Document, Session], object]
"""Begins what is to be predicted."""

NoteSent = Callable[[], Awaitable[None]]
"""Takes note that a file was sent whole."""

Move = Callable[[Document, Session], ArrayBounds | None]
"""Changes labels; returns the bounds (z, y, x) of what changed."""


class NothingOpenError(ValueError):
    """There is no scan that anything could be done to."""


class SupersededError(ValueError):
    """A prompt came between; what was asked for has to be asked for again."""


class UnkeptError(ValueError):
    """Unsaved work would be lost, since it can't be kept for later."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved.

    Attributes:
        files: that were written, the one that was asked for first.
        note: what of the document they don't hold, for people; None where they hold all.
    """

    files: tuple[Path, ...]
    note: str | None


@dataclass(slots=True, eq=False)
class Opened:
    """The scan that is open.

    Attributes:
        entry: of its image.
        image: the scan.
        described: as the page gets it (`Scan` in types.ts).
        dtype: of the volume that the page gets.
        document: its targets.
        workspace: where its predictions are made.
        lock: held by whoever uses the document, but for the thread of a prediction that runs.
        kept: what is kept of the work on it.
    """

    entry: Entry
    image: Image
    described: dict[str, Any]
    dtype: np.dtype[Any]
    document: Document
    workspace: Workspace
    kept: KeptWork
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Busy:
    """What is being done.

    Attributes:
        kind: such as "point", "undo" or "open".
        target: its id; 0 where it is about none.
        since: when it began, on the clock of `time.monotonic`.
        done: slices that are done with.
        planned: slices so far; 0 where none are.
    """

    kind: str
    target: int
    since: float
    done: int = 0
    planned: int = 0

    def describe(self) -> dict[str, Any]:
        """Returns it as the page gets it (`Busy` in types.ts)."""
        return {
            "kind": self.kind,
            "target": self.target,
            "done": self.done,
            "planned": self.planned,
            "seconds": round(time.monotonic() - self.since, 3),
        }


class Annotator:
    """Opens one image at a time, and does what the tabs of the page ask for.

    Its methods run on the event loop. What they do to the document is done in threads, that of the
    workspace wherever the session is needed. Whoever asks may hang up: it is done all the same, and
    the other tabs hear of it by `events`.

    Errors of users are ValueErrors with a text for them.
    """

    def __init__(
        self,
        engine: Engine,
        entries: Sequence[Entry],
        read: Reader,
        sample: Sample,
        output: Path | None,
        is_stopping: Callable[[], bool],
    ) -> None:
        """Opens nothing yet.

        Args:
            engine: makes the predictions.
            entries: images that can be opened from the start.
            read: reads an image.
            sample: draws the sample, which is the image without a path.
            output: the folder that results are saved in; None for that of each image.
            is_stopping: says whether the server is.
        """
        self.events = Events(self._message, is_stopping)
        self._engine = engine
        self._entries = list(entries)
        self._read = read
        self._sample = sample
        self._output = output
        self._is_stopping = is_stopping
        self._opened: Opened | None = None
        self._opening = asyncio.Lock()
        self._revision = 1
        self._counting = threading.Lock()
        self._busy: Busy | None = None  # set by the thread of the open workspace alone
        self._reading: Busy | None = None  # an image that is being opened meanwhile
        self._keeping = Keeping()
        self._trouble: str | None = None
        self._has_changed = asyncio.Event()
        self._written: set[Path] = set()  # by this run, for the user
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    # What there is.

    @property
    def opened(self) -> Opened:
        """The scan that is open.

        Raises:
            NothingOpenError: there is none.
        """
        if self._opened is None:
            raise NothingOpenError("there is no scan yet: open one first")
        return self._opened

    def describe(self) -> dict[str, Any]:
        """Returns all that the page shows (`State` in types.ts); any thread may ask."""
        opened = self._opened
        document = None if opened is None else opened.document
        found = None if opened is None else next(iter(opened.kept.offered), None)
        busy, last = self._busy or self._reading, None if document is None else document.last
        targets = [] if document is None else document.describe()
        for one in targets:
            if opened is not None and one["id"] == opened.document.current:
                shared = SHARED if opened.kept.is_shared else None
                one["note"] = " ".join(filter(None, [one["note"], self._trouble, shared])) or None
        return {
            "revision": self._revision,
            "version": gamt.__version__,
            "segmenter": self._engine.segmenter.name,
            "images": [
                {
                    "id": one.id,
                    "name": one.name,
                    "is_open": opened is not None and one is opened.entry,
                }
                for one in self._entries
            ],
            "scan": None if opened is None else opened.described,
            "targets": targets,
            "target": None if document is None else document.current,
            "busy": None if busy is None else busy.describe(),
            "last": None
            if last is None
            else {
                "kind": last.kind,
                "target": last.target,
                "seconds": round(last.seconds, 3),
                "planes": [plane.name.lower() for plane in last.planes],
                "slices": last.slices,
                "complete": last.complete,
            },
            "unsaved": document is not None and document.is_unsaved,
            "recovery": None
            if found is None
            else {"saved_at": found.saved_at, "targets": found.targets, "prompts": found.prompts},
        }

    def _message(self) -> dict[str, Any]:
        busy = self._busy or self._reading
        return {
            "revision": self._revision,
            "busy": None if busy is None else busy.describe(),
        }

    # The begin and the end.

    async def start(self, first: "Future[Image] | None", previous: Path | None) -> None:
        """Begins to open the first image, and to write what is not saved.

        Args:
            first: the first entry's image, which is being read; None if there is none.
            previous: a segmentation of it to go on from.
        """
        self._loop = asyncio.get_running_loop()
        self._begin(self._keep_recovery())
        self._begin(self._watch_stop())
        if first is not None:
            self._begin(self._open_first(first, previous))

    async def stop(self) -> Path | None:
        """Writes what is not saved.

        Returns:
            The file that holds it; None where all is saved, or it can't be written.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        opened, kept = self._opened, None
        if opened is not None:
            await self._close(opened)
            if opened.document.is_unsaved and self._trouble is not None:
                logger.error("%s: unsaved work is lost", opened.image.name)
            elif opened.document.is_unsaved and opened.kept.claim is not None:
                kept = opened.kept.claim.path
        self._keeping.close()
        return kept

    async def _open_first(self, first: "Future[Image]", previous: Path | None) -> None:
        async with self._opening:
            try:
                # Not waited for in one of the loop's threads: the server's end would wait for that.
                await self._open(self._entries[0], lambda: asyncio.wrap_future(first))
            except (ValueError, TooLarge) as error:
                logger.error("%s", error)
                return
        if previous is not None:
            try:
                await self._load_previous(previous)
            except ValueError as error:
                logger.error("%s", error)

    async def _load_previous(self, path: Path) -> None:
        """Lets targets begin with a segmentation that is there, and so isn't unsaved work."""

        def load(document: Document, session: Session) -> ArrayBounds | None:
            was_saved = not document.is_unsaved
            changed = document.load_mask(session, path, path.name)
            if was_saved:
                document.note_saved()
            return changed

        await self.step("mask", self.opened.document.current, load)

    async def _watch_stop(self) -> None:
        """Ends the prediction that runs when the server stops; its prompt is kept."""
        while not self._is_stopping():
            await asyncio.sleep(STOP_SECONDS)
        if self._opened is not None:
            self._opened.workspace.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Images.

    def find_entry(self, entry_id: str) -> Entry | None:
        """Returns the image of an id; None where there is none."""
        return next((one for one in self._entries if one.id == entry_id), None)

    async def open(self, entry: Entry) -> dict[str, Any]:
        """Opens an image, unless it is open; what is unsaved of the one before is kept.

        Returns:
            The state.

        Raises:
            ImageError: it can't be read.
            TooLarge: it doesn't fit into memory.
            UnkeptError: what is unsaved can't be kept; it stays open.
        """

        async def work() -> dict[str, Any]:
            async with self._opening:
                if self._opened is None or self._opened.entry is not entry:
                    await self._open(entry, lambda: asyncio.to_thread(self._read_entry, entry))
            return self.describe()

        return await self._finish(work())

    async def open_sent(self, sent: Path) -> dict[str, Any]:
        """Opens an image that the page has sent; it can be opened again if that succeeds.

        Args:
            sent: the file, or the folder of the files.
        """
        name = strip_suffix(sent)
        path = await asyncio.to_thread(find_image, sent)
        return await self.open(Entry(self._new_id(), name, path, is_sent=True, sent=sent))

    async def open_sample(self) -> dict[str, Any]:
        """Opens the sample."""
        known = (one for one in self._entries if one.path is None)
        return await self.open(next(known, Entry(self._new_id(), "sample", None, is_sent=True)))

    def _new_id(self) -> str:
        return str(max((int(one.id) for one in self._entries), default=0) + 1)

    def _read_entry(self, entry: Entry) -> Image:
        return self._sample() if entry.path is None else self._read(entry.path)

    async def _open(self, entry: Entry, read: Callable[[], Awaitable[Image]]) -> None:
        self._reading = Busy("open", 0, time.monotonic())
        self.events.notify()
        try:
            if self._opened is not None:
                await self._write_recovery(self._opened)
                if self._trouble is not None:
                    raise UnkeptError(self._trouble)
            opened = await self._load(entry, read)
            if self._opened is not None:
                await self._close(self._opened)
            if entry not in self._entries:
                self._entries.append(entry)
            await self._go_on(opened)
            self._opened = opened
        finally:
            self._reading = None
            self.events.notify()
        self._note_change()

    async def _load(self, entry: Entry, read: Callable[[], Awaitable[Image]]) -> Opened:
        image = await read()

        def prepare() -> tuple[dict[str, Any], np.dtype[Any], Document, Path]:
            described = describe_scan(entry, image, self._engine.settings.window)
            document = Document(image)
            formats = saving.formats_of(document)
            folder = self._folder_of(entry)
            described["output"] = None if folder is None else str(folder)
            described["formats"] = [
                {
                    "id": one.id,
                    "label": one.label,
                    "file": saving.file_name(document, one.id),
                }
                for one in formats
            ]
            path = recovery.recovery_path(image)
            return described, choose_dtype(image.array), document, path

        described, dtype, document, path = await asyncio.to_thread(prepare)
        workspace = self._engine.open(document.observer, self._report)
        try:
            shape = image.array.shape
            workspace.reserve("image", shape, image.array.itemsize)
            workspace.reserve("target buffer", shape, 2)  # and the labels
            await workspace.change(document.attach)
        except BaseException:
            workspace.close()
            raise
        kept = KeptWork(entry, document, path)
        return Opened(entry, image, described, dtype, document, workspace, kept)

    async def _go_on(self, opened: Opened) -> None:
        """Puts back what this run has done to a scan before, whatever file it was opened from.

        What earlier runs left of it is offered.
        """
        kept = opened.kept
        await asyncio.to_thread(self._keeping.begin, kept)
        await opened.workspace.change(kept.go_on)
        await asyncio.to_thread(kept.look)

    async def _close(self, opened: Opened) -> None:
        """Frees what the open scan takes, and keeps what was done to it."""
        opened.workspace.close()
        await asyncio.to_thread(opened.workspace.join)
        await self._write_recovery(opened)
        with opened.lock:
            self._keeping.end(opened.kept)

    def _folder_of(self, entry: Entry) -> Path | None:
        """Returns where results of an image are saved; None where there is no such place."""
        if self._output is not None or entry.path is None or entry.is_sent:
            return self._output
        return entry.path.absolute().parent

    # Predictions, and all else that needs the session.

    async def predict(self, kind: str, target: int, begin: Begin) -> Change:
        """Begins something to predict, and predicts; a prediction for the same target gives way.

        Args:
            kind: of the prompt, or "removal".
            target: its id.
            begin: is given the document and the session, and begins.
        """

        def work(document: Document, session: Session) -> tuple[bool, None]:
            begin(document, session)
            return True, None

        return await self._work(kind, target, work, target)

    async def step(self, kind: str, target: int, move: Move, topic: Hashable = None) -> Change:
        """Does something to a target that changes its labels by itself.

        What is predicted afterwards are prompts that have been waiting since another one
        superseded theirs.

        Args:
            kind: of the step, such as "undo".
            target: its id.
            move: is given the document and the session; returns bounds (z, y, x) of what changed in
                the labels.
            topic: predictions on it give way; None for those of the target.
        """

        def work(document: Document, session: Session) -> tuple[bool, ArrayBounds | None]:
            changed = move(document, session)
            return _begin_waiting(document, session, target), changed

        return await self._work(kind, target, work, topic or target)

    async def _work(
        self,
        kind: str,
        target: int,
        begin: Callable[[Document, Session], tuple[bool, ArrayBounds | None]],
        topic: Hashable,
    ) -> Change:
        opened = self.opened
        document, lock = opened.document, opened.lock
        changes: list[Change] = []

        def work(run: Run) -> Prediction:
            start = time.monotonic()
            self._set_busy(Busy(kind, target, start))
            try:
                try:
                    with lock:
                        wanted, changed = begin(document, run.session)
                except Exception:
                    # This is refused, but what gave way to it goes on.
                    with lock:
                        wanted = _begin_waiting(document, run.session, target)
                    with contextlib.suppress(Cancelled):
                        complete(run, start, wanted, None)
                    raise
                complete(run, start, wanted, changed)
            finally:
                self._set_busy(None)
            return Prediction(ran=True, complete=run.session.is_complete)

        def complete(run: Run, start: float, wanted: bool, changed: ArrayBounds | None) -> None:
            if wanted:
                predict(run)
            with lock:
                found = document.finish(time.monotonic() - start) if wanted else None
                changes.append(self._change(opened, join(changed, found)))

        def predict(run: Run) -> None:
            try:
                run.predict(document.predict)
            except BaseException as error:
                # Where it was superseded, or the server stops, the prompt waits for the next one.
                if not isinstance(error, Cancelled) or run.why_cancelled == "gone":
                    with lock:
                        document.take_back(run.session)
                if isinstance(error, ValueError):  # not the user's: prompts were checked before
                    raise RuntimeError(f"a prediction failed: {error}") from error
                raise

        async def whole() -> Change:
            opened.workspace.cancel(EXPLANATION)
            await opened.workspace.run(kind, work, _is_never_gone, topic)
            self.events.notify()
            if changes and opened is self._opened:
                return changes[0]
            return self._change(opened, None)  # another image was opened meanwhile

        return await self._finish(whole())

    async def cancel(self) -> dict[str, Any]:
        """Stops the prediction that runs, and takes its prompt back; those before it go on."""
        busy, opened = self._busy, self._opened
        if busy is not None and busy.target and opened is not None:
            opened.workspace.cancel(busy.target)
            await self.step("waiting", busy.target, lambda document, session: None)
        return self.describe()

    async def explain(self, target: int, is_gone: IsGone) -> str:
        """Returns an HTML page that explains a target's mask.

        Args:
            target: its id.
            is_gone: says whether nobody waits for it any more.

        Raises:
            SupersededError: it was given up for a prompt.
        """
        opened = self.opened
        pages: list[str] = []

        def work(run: Run) -> Prediction:
            self._set_busy(Busy(EXPLANATION, target, time.monotonic()))
            try:
                pages.append(
                    run.predict(
                        lambda session: opened.document.explain(
                            session, target, progress=self._report, cancelled=run.is_cancelled
                        )
                    )
                )
            finally:
                self._set_busy(None)
            return Prediction(ran=True)

        await opened.workspace.run(EXPLANATION, work, is_gone, EXPLANATION)
        if not pages:
            raise SupersededError("the explanation made way for a prompt: ask for it again")
        return pages[0]

    async def load_mask(self, path: Path, name: str, target: int | None) -> Change:
        """Lets targets begin with the labels of a segmentation; see `Document.load_mask`."""
        return await self.step(
            "mask",
            target or self.opened.document.current,
            lambda document, session: document.load_mask(session, path, name, target),
        )

    async def recover(self, wanted: bool) -> Change:
        """Puts what an earlier run didn't save in the targets' place, or discards it."""
        opened = self.opened
        found = next(iter(opened.kept.offered), None)
        if found is None:
            raise ValueError("an earlier run has left nothing of this scan")
        is_done = not wanted
        change: Change | None = None

        def put_back(document: Document, session: Session) -> ArrayBounds | None:
            nonlocal is_done
            changed = opened.kept.restore(found, session)
            is_done = True
            return changed

        try:
            if wanted:
                change = await self.step("recovery", opened.document.current, put_back)
                await self._write_recovery(opened)
                is_done = is_done and self._trouble is None
            if is_done:
                found.path.unlink(missing_ok=True)
        finally:
            await asyncio.to_thread(opened.kept.look)
        told = await self.tell()
        return told if change is None else replace(change, state=told.state)

    # What needs the document alone.

    async def use(self, work: Callable[[Document], T]) -> T:
        """Uses the document in a thread; a prediction that runs goes on meanwhile.

        Args:
            work: is given the document, and doesn't need the session.
        """
        return await self._finish(asyncio.to_thread(self._use, self.opened, work))

    async def change(self, work: Callable[[Document], ArrayBounds | None]) -> Change:
        """Changes what the document says of its targets; see `use`.

        Args:
            work: is given the document; returns bounds (z, y, x) of what changed in the labels.
        """
        opened = self.opened

        def locked(document: Document) -> Change:
            return self._change(opened, work(document))

        change = await self.use(locked)
        self.events.notify()
        return change

    async def tell(self) -> Change:
        """Tells all tabs of a change of the state."""
        return await self.change(lambda document: None)

    async def read_labels(self) -> Change:
        """Returns all labels."""
        bounds = [[0, size] for size in self.opened.image.array.shape]

        def read(document: Document) -> Change:
            return Change(self.describe(), bounds, cut(document.labels, bounds))

        return await self.use(read)

    async def save(self, format_id: str, overwrite: bool) -> Saved:
        """Writes the labels to the user's folder.

        Args:
            format_id: of `saving.formats_of`.
            overwrite: whether files that this run hasn't written may be replaced.

        Raises:
            OverwriteError: there is such a file.
            OSError: a file can't be written.
            ValueError: there is no folder, no such format, or nothing to save.
        """
        opened = self.opened
        folder = self._folder_of(opened.entry)
        if folder is None:
            raise ValueError("the scan has no folder on this machine: download the file instead")
        replaceable: Collection[Path] | None = None if overwrite else self._written
        saved = await self._write_files(format_id, folder, replaceable)
        self._written.update(saved.files)
        return saved

    async def export(self, format_id: str, folder: Path) -> tuple[Saved, NoteSent]:
        """Writes the labels to an empty folder, for the page to download; see `save`.

        Returns:
            What was written, and what takes note that the page has got all of it.
        """
        opened, segmenter = self.opened, self._engine.segmenter.name

        def write(document: Document) -> tuple[Saved, int]:
            files = saving.save(document, format_id, folder, segmenter, ())
            return Saved(tuple(files), saving.tell_losses(document, format_id)), document.revision

        saved, revision = await self.use(write)

        async def note_sent() -> None:
            if format_id in saving.COMPLETE and opened is self._opened:
                await self.change(lambda document: document.note_saved(revision))

        return saved, note_sent

    async def _write_files(
        self, format_id: str, folder: Path, replaceable: Collection[Path] | None
    ) -> Saved:
        segmenter = self._engine.segmenter.name

        def write(document: Document) -> Saved:
            files = saving.save(document, format_id, folder, segmenter, replaceable)
            if format_id in saving.COMPLETE:
                document.note_saved()
            return Saved(tuple(files), saving.tell_losses(document, format_id))

        saved = await self.use(write)
        await self.tell()
        return saved

    def _use(self, opened: Opened, work: Callable[[Document], T]) -> T:
        with opened.lock:
            return work(opened.document)

    # Who is told.

    def _change(self, opened: Opened, bounds: ArrayBounds | None) -> Change:
        """Counts a change; any thread may, but where labels changed only with the lock."""
        self._count()
        self._call_soon(self._has_changed.set)
        return Change(self.describe(), bounds, cut(opened.document.labels, bounds))

    def _count(self) -> None:
        with self._counting:
            self._revision += 1

    def _note_change(self) -> None:
        self._count()
        self.events.notify()

    def _set_busy(self, busy: Busy | None) -> None:
        self._busy = busy
        self._call_soon(self.events.notify)

    def _report(self, done: int, planned: int) -> None:
        """Takes note of a prediction's progress, in the workspace's thread."""
        if self._busy is not None:
            self._set_busy(replace(self._busy, done=done, planned=planned))

    def _call_soon(self, work: Callable[[], None]) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody listens
            self._loop.call_soon_threadsafe(work)

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Does work to its end, whatever becomes of who asked for it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    # What is not saved.

    async def _keep_recovery(self) -> None:
        """Writes the recovery of the open scan soon after each change."""
        while True:
            await self._has_changed.wait()
            await asyncio.sleep(RECOVERY_SECONDS)
            self._has_changed.clear()
            if self._opened is not None:
                await self._write_recovery(self._opened)

    async def _write_recovery(self, opened: Opened) -> None:
        """Writes what is not saved of a scan; where that fails, users are told once."""

        def write() -> None:
            with opened.lock:
                opened.kept.write()

        trouble: str | None = None
        try:
            await asyncio.to_thread(write)
        except Exception as error:  # whatever it is, the next change is a reason to try again
            if opened.document.is_unsaved:
                trouble = f"Unsaved work can't be kept for later: {error}. Save it soon."
            if self._trouble is None:
                is_usual = isinstance(error, OSError)
                logger.warning(
                    "work can't be kept for later: %s", error, exc_info=None if is_usual else error
                )
        if (trouble is None) != (self._trouble is None):
            self._trouble = trouble
            self._note_change()


async def _is_never_gone() -> bool:
    return False


def _begin_waiting(document: Document, session: Session, target_id: int) -> bool:
    """Begins the prediction of what waits for a target, if that is still there and not locked."""
    found = [one for one in document.targets if one.id == target_id and not one.locked]
    return bool(found) and document.begin_waiting(session, target_id)

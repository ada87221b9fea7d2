"""Many clients share one segmenter: nobody waits long, and nobody notices the others."""

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gamt import Session
from gamt.io.case import Case
from gamt.lifting.target import Observer
from gamt.prompts import SlicePrompt
from gamt.segmenters.base import Embedding, SliceMask
from gamt.segmenters.door import SegmenterFault
from gamt.server.engine import Closed, Engine, Prediction, Run, Workspace
from gamt.server.memory import MB, TooLarge
from gamt.server.metrics import Metrics
from gamt.session import Cancelled
from gamt.settings import SettingsError
from gamt.volume.preparation import PreparedVolume
from tests.doubles import DEFAULTS, Thresholder, block, picture
from tests.server.test_metrics import read
from tests.server.test_turns import SECONDS, wait_until

SHAPE = (20, 26, 30)
BODY = block(SHAPE, slice(4, 15), slice(6, 19), slice(5, 22))
BOX = [[4, 15], [6, 19], [5, 22]]
INSIDE, OUTSIDE = [9, 12, 13], [17, 23, 27]
SMALL = block((6, 8, 10), slice(2, 4), slice(2, 5), slice(4, 7))
SMALL_BOX = [[2, 4], [2, 5], [4, 7]]

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


class Gated(Thresholder):
    """Stops before an answer until it is let through, where it is told to; and may fail.

    Attributes:
        stops: whether it is to stop at the next answer.
        reached: is set while it has stopped.
        through: lets it go on.
        error: is raised instead of an answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stops = False
        self.reached, self.through = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def decode(
        self,
        embeddings: Sequence[Embedding],
        prompts: Sequence[SlicePrompt],
        multimask: bool | None = None,
    ) -> Sequence[SliceMask]:
        if self.stops:
            self.stops = False
            self.reached.set()
            assert self.through.wait(SECONDS)
        if self.error is not None:
            raise self.error
        return super().decode(embeddings, prompts, multimask)


class Client:
    """A client that may hang up.

    Attributes:
        hung_up: whether it has.
        missed: is set when somebody has noticed.
    """

    def __init__(self) -> None:
        self.hung_up = False
        self.missed = asyncio.Event()

    async def is_gone(self) -> bool:
        if self.hung_up:
            self.missed.set()
        return self.hung_up


@asynccontextmanager
async def engine_of(
    segmenter: Thresholder, metrics: Metrics | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    engine = Engine(segmenter, replace(DEFAULTS, **settings), metrics=metrics or Metrics())
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


async def begin(engine: Engine, truth: npt.NDArray[np.bool_] = BODY) -> Workspace:
    """Opens a workspace with an image of the truth, and a target buffer."""
    workspace = engine.open()
    await workspace.change(lambda session: session.set_image(picture(truth)[None]))
    await workspace.change(lambda session: session.set_target_buffer(np.zeros(truth.shape, "u1")))
    return workspace


def box(bounds: list[list[int]]) -> Callable[[Session], object]:
    return lambda session: session.add_bbox_interaction(bounds, True, run_prediction=False)


def point(voxel: list[int], positive: bool = True) -> Callable[[Session], object]:
    return lambda session: session.add_point_interaction(voxel, positive, run_prediction=False)


def predict(
    workspace: Workspace, add: Callable[[Session], object], kind: str = "box"
) -> Awaitable[Prediction]:
    return asyncio.ensure_future(workspace.predict(kind, add, Client().is_gone))


def undo(workspace: Workspace) -> Awaitable[Prediction]:
    return workspace.step("undo", lambda session: session.undo(), Client().is_gone)


def redo(workspace: Workspace) -> Awaitable[Prediction]:
    return workspace.step("redo", lambda session: session.redo(), Client().is_gone)


async def reach(segmenter: Gated) -> None:
    """Waits until the segmenter has stopped."""
    assert await asyncio.to_thread(segmenter.reached.wait, SECONDS)


async def buffer_of(workspace: Workspace) -> npt.NDArray[np.uint8]:
    content: npt.NDArray[np.uint8] = await workspace.read(lambda one: one.target_buffer.copy())
    return content


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Runs an asynchronous test, which hangs for no longer than `SECONDS`."""

    async def limited() -> None:
        await asyncio.wait_for(test(), SECONDS)

    asyncio.run(limited())


# --- predictions --------------------------------------------------------------------------------


def test_a_prediction_tells_what_changed_and_the_content_there() -> None:
    async def test() -> None:
        async with engine_of(Gated()) as engine:
            workspace = await begin(engine)
            answer = await predict(workspace, box(BOX))
            assert answer.ran
            assert answer.bounds == BOX
            assert answer.content is not None
            assert answer.content.dtype == np.uint8
            assert answer.content.shape == (11, 13, 17)  # of the box
            assert answer.content.all()

            again = await predict(workspace, lambda _: None, "predict")
            assert (again.ran, again.bounds, again.content) == (True, None, None)

    run(test)


def test_a_prediction_that_would_take_too_long_is_finished_from_what_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def count() -> tuple[int, bool, float]:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            answer = await predict(await begin(engine), box(BOX))
            assert answer.bounds
            cut = engine.metrics.cut._value.get()
        return len(segmenter.asked), answer.complete, cut

    async def test() -> None:
        whole, complete, cut = await count()
        assert (complete, cut) == (True, 0)
        monkeypatch.setattr("gamt.server.engine.ANSWER_SECONDS", 1e-9)
        asked, complete, cut = await count()
        assert asked < whole
        assert (complete, cut) == (False, 1)

    run(test)


def test_where_there_is_nothing_to_add_nothing_is_predicted() -> None:
    async def test() -> None:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            answer = await undo(workspace)
            assert not answer.ran
            answer = await predict(workspace, lambda _: False, "predict")
            assert not answer.ran
            assert segmenter.asked == []

    run(test)


def test_undo_tells_what_it_turned_off() -> None:
    async def test() -> None:
        async with engine_of(Gated()) as engine:
            workspace = await begin(engine)
            await predict(workspace, box(BOX))
            answer = await undo(workspace)
            assert answer.ran
            assert answer.bounds == BOX
            assert answer.content is not None
            assert not answer.content.any()

    run(test)


def test_steps_are_counted_by_their_own_kinds() -> None:
    async def test() -> None:
        metrics = Metrics()
        async with engine_of(Gated(), metrics) as engine:
            workspace = await begin(engine)
            await predict(workspace, box(BOX))
            await undo(workspace)
            assert (await redo(workspace)).bounds == BOX
            for kind in ("box", "undo", "redo"):
                assert read(metrics)["gamt_prediction_computed_seconds_count", kind] == 1

    run(test)


def test_an_initial_segmentation_tells_all_that_it_changed() -> None:
    async def test() -> None:
        async with engine_of(Gated()) as engine:
            workspace = await begin(engine)
            await predict(workspace, box(BOX))
            other = block(SHAPE, slice(4, 15), slice(6, 19), slice(10, 28))
            answer = await predict(
                workspace, lambda one: one.add_initial_seg_interaction(other * 1), "initial"
            )
            # It is polished; whatever of the box's mask that turned off is told, too.
            shown = BODY.copy()
            assert answer.bounds is not None
            shown[tuple(slice(a, b) for a, b in answer.bounds)] = answer.content
            held = await workspace.read(lambda session: session.target_buffer > 0)
            np.testing.assert_array_equal(shown, held)
            assert not np.array_equal(held, BODY)

    run(test)


def test_the_same_prompts_give_the_same_masks_as_in_process_whatever_others_do() -> None:
    truths = [np.roll(BODY, shift, axis=(0, 1, 2)) for shift in (-2, 0, 3)]
    bounds = [[[a + n, b + n] for a, b in BOX] for n in (-2, 0, 3)]
    extra = [4, 4, 4]

    alone = []
    for truth, drawn in zip(truths, bounds, strict=True):
        session = Session(Thresholder(), DEFAULTS)
        session.set_image(picture(truth)[None])
        session.set_target_buffer(np.zeros(SHAPE, np.uint8))
        session.add_bbox_interaction(drawn, True)
        session.add_point_interaction(extra, True)
        alone.append(session.target_buffer)

    async def test() -> None:
        async with engine_of(Thresholder()) as engine:

            async def work(truth: npt.NDArray[np.bool_], drawn: list[list[int]]) -> Any:
                workspace = await begin(engine, truth)
                await predict(workspace, box(drawn))
                await predict(workspace, point(extra))
                return await buffer_of(workspace)

            together = await asyncio.gather(*map(work, truths, bounds))
        np.testing.assert_array_equal(together, alone)

    run(test)


def test_clients_with_one_image_have_its_slices_encoded_once() -> None:
    async def test() -> None:
        segmenter = Thresholder()
        async with engine_of(segmenter) as engine:
            one, other = await begin(engine), await begin(engine)
            await asyncio.gather(predict(one, box(BOX)), predict(other, box(BOX)))
            await asyncio.to_thread(wait_until, lambda: engine.ahead.planned == 0)
            counts = [await each.change(lambda session: session.encoded) for each in (one, other)]
        seen = {(each.shape, each.tobytes()) for each in segmenter.slices}
        assert len(segmenter.slices) == len(seen) == sum(counts)

    run(test)


def test_an_answer_that_was_lost_is_told_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr("gamt.server.engine.POLL_SECONDS", SECONDS)  # nobody asks meanwhile
        client = Client()
        two = BODY | block(SHAPE, slice(17, 19), slice(1, 4), slice(24, 28))
        async with engine_of(Gated()) as engine:
            workspace = await begin(engine, two)
            client.hung_up = True
            await workspace.predict("box", box(BOX), client.is_gone)
            answer = await predict(workspace, point([18, 2, 26]), "point")
            # The bounds of both bodies: the client knows neither.
            assert answer.bounds == [[4, 19], [1, 19], [5, 28]]
            np.testing.assert_array_equal(answer.content, two[4:19, 1:19, 5:28])
            # What was heard is not told again.
            assert (await undo(workspace)).bounds == [[17, 19], [1, 4], [24, 28]]

    run(test)


def test_what_a_lost_answer_told_of_another_image_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        monkeypatch.setattr("gamt.server.engine.POLL_SECONDS", SECONDS)
        client = Client()
        async with engine_of(Gated()) as engine:
            workspace = await begin(engine)
            client.hung_up = True
            await workspace.predict("box", box(BOX), client.is_gone)

            def begin_anew(session: Session) -> None:
                session.set_image(picture(SMALL)[None])
                session.set_target_buffer(np.zeros(SMALL.shape, np.uint8))

            await workspace.change(begin_anew)
            assert (await predict(workspace, box(SMALL_BOX))).bounds == SMALL_BOX

    run(test)


def test_reading_neither_stops_a_prediction_nor_changes_what_is_encoded_ahead() -> None:
    async def test() -> None:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            engine.ahead.close()
            segmenter.stops = True
            running = predict(workspace, box(BOX))
            await reach(segmenter)
            reading = asyncio.ensure_future(workspace.read(lambda one: one.target_buffer.sum()))
            await asyncio.sleep(0)
            segmenter.through.set()
            assert (await running).ran
            assert await reading == BODY.sum()
            planned = engine.ahead._plans
            await workspace.read(lambda one: one.target_buffer.sum())
            assert engine.ahead._plans is planned

    run(test)


# --- fairness -----------------------------------------------------------------------------------


def test_a_long_prediction_does_not_hold_up_a_short_one() -> None:
    async def test() -> None:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            engine.turns.slice_seconds = 0  # so small a prediction is done within one
            one, other = await begin(engine), await begin(engine, SMALL)
            order: list[str] = []

            async def work(name: str, workspace: Workspace, drawn: list[list[int]]) -> None:
                await predict(workspace, box(drawn))
                order.append(name)

            segmenter.stops = True
            long = asyncio.create_task(work("long", one, BOX))  # 11 slices, and 13 and 17 across
            await reach(segmenter)
            short = asyncio.create_task(work("short", other, SMALL_BOX))  # 2, 3 and 3
            await asyncio.to_thread(wait_until, lambda: engine.turns.waiting == 1)
            segmenter.through.set()
            await asyncio.gather(long, short)
            assert order == ["short", "long"]

    run(test)


def test_changes_do_not_wait_for_other_clients_predictions() -> None:
    async def test() -> None:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            one = await begin(engine)
            segmenter.stops = True
            running = predict(one, box(BOX))
            await reach(segmenter)
            other = await begin(engine)
            await other.change(lambda session: session.reset_interactions())
            segmenter.through.set()
            assert (await running).ran

    run(test)


# --- what is not wanted any more ----------------------------------------------------------------


def test_a_later_prompt_supersedes_a_prediction_and_includes_its_prompt() -> None:
    async def test() -> None:
        segmenter, metrics = Gated(), Metrics()
        two = BODY | block(SHAPE, slice(17, 19), slice(1, 4), slice(24, 28))
        async with engine_of(segmenter, metrics) as engine:
            workspace = await begin(engine, two)
            segmenter.stops = True
            first = predict(workspace, box(BOX))
            await reach(segmenter)
            second = predict(workspace, point([18, 2, 26]), "point")
            await asyncio.sleep(0)  # it is asked for
            segmenter.through.set()
            assert not (await first).ran
            answer = await second
            assert answer.ran
            np.testing.assert_array_equal(await buffer_of(workspace), two)
            assert read(metrics)["gamt_predictions_cancelled_total", "superseded"] == 1

    run(test)


def test_a_change_stops_a_prediction_first() -> None:
    async def test() -> None:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            segmenter.stops = True
            running = predict(workspace, box(BOX))
            await reach(segmenter)
            reset = asyncio.ensure_future(workspace.change(lambda one: one.reset_interactions()))
            await asyncio.sleep(0)
            segmenter.through.set()
            await reset
            assert not (await running).ran
            assert not (await buffer_of(workspace)).any()
            assert not (await undo(workspace)).ran

    run(test)


def test_the_prompt_of_a_client_that_has_hung_up_is_taken_back() -> None:
    async def test() -> None:
        segmenter, metrics, client = Gated(), Metrics(), Client()
        async with engine_of(segmenter, metrics) as engine:
            workspace = await begin(engine)
            segmenter.stops = True
            running = asyncio.create_task(workspace.predict("box", box(BOX), client.is_gone))
            await reach(segmenter)
            client.hung_up = True
            await client.missed.wait()
            segmenter.through.set()
            assert not (await running).ran
            assert read(metrics)["gamt_predictions_cancelled_total", "gone"] == 1
            assert not (await undo(workspace)).ran
            assert not (await redo(workspace)).ran

    run(test)


def test_where_the_client_of_a_superseded_prediction_has_hung_up_its_prompt_goes_too() -> None:
    async def test() -> None:
        segmenter, client = Gated(), Client()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            segmenter.stops = True
            first = asyncio.create_task(
                workspace.predict("point", point([18, 2, 26]), client.is_gone)
            )
            await reach(segmenter)
            client.hung_up = True
            second = predict(workspace, box(BOX))
            await asyncio.sleep(0)
            segmenter.through.set()
            assert not (await first).ran
            assert (await second).ran
            np.testing.assert_array_equal(await buffer_of(workspace), BODY)

    run(test)


def test_a_call_whose_client_has_hung_up_before_it_began_adds_nothing() -> None:
    async def test() -> None:
        segmenter, client = Gated(), Client()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            await predict(workspace, box(BOX))
            held = threading.Event()
            holding = asyncio.ensure_future(workspace.change(lambda _: held.wait(SECONDS)))
            await asyncio.sleep(0)
            waiting = asyncio.create_task(
                workspace.predict("point", point(OUTSIDE), client.is_gone)
            )
            client.hung_up = True
            await client.missed.wait()
            held.set()
            await holding
            assert not (await waiting).ran
            # What is undone is the box, not a point.
            answer = await undo(workspace)
            assert answer.bounds == BOX

    run(test)


def test_what_could_be_done_again_still_can_be_after_a_prompt_that_was_taken_back() -> None:
    async def test() -> None:
        segmenter, client = Gated(), Client()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            await predict(workspace, box(BOX))
            await undo(workspace)
            segmenter.stops = True
            running = asyncio.create_task(
                workspace.predict("point", point(OUTSIDE), client.is_gone)
            )
            await reach(segmenter)
            client.hung_up = True
            await client.missed.wait()
            segmenter.through.set()
            await running
            assert (await redo(workspace)).bounds == BOX

    run(test)


def test_a_request_that_is_cancelled_cancels_its_prediction() -> None:
    async def test() -> None:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            segmenter.stops = True
            running = asyncio.ensure_future(workspace.predict("box", box(BOX), Client().is_gone))
            await reach(segmenter)
            running.cancel()
            segmenter.through.set()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert not (await undo(workspace)).ran

    run(test)


# --- failures -----------------------------------------------------------------------------------


def test_a_failed_prediction_leaves_the_workspace_as_it_was_and_usable() -> None:
    async def test() -> None:
        segmenter, metrics = Gated(), Metrics()
        async with engine_of(segmenter, metrics) as engine:
            workspace, other = await begin(engine), await begin(engine)
            segmenter.error = MemoryError("no room")
            with pytest.raises(SegmenterFault, match="MemoryError: no room"):
                await predict(workspace, box(BOX))
            assert read(metrics)["gamt_errors_total", "SegmenterFault"] == 1
            segmenter.error = None
            assert not (await undo(workspace)).ran
            for each in (workspace, other):
                assert (await predict(each, box(BOX))).bounds == BOX

    run(test)


def test_what_the_session_refuses_is_raised_and_changes_nothing() -> None:
    async def test() -> None:
        metrics = Metrics()
        async with engine_of(Gated(), metrics) as engine:
            workspace = await begin(engine)
            await predict(workspace, box(BOX))
            with pytest.raises(ValueError, match="inside of"):
                await predict(workspace, point([9, 26, 13]), "point")
            with pytest.raises(ValueError, match="expected"):
                await workspace.change(lambda session: session.set_image(np.zeros((2, 3))))
            # These are the client's errors, not the server's.
            assert not [name for name, _ in read(metrics) if name.startswith("gamt_errors")]
            answer = await undo(workspace)
            assert answer.bounds == BOX

    run(test)


def test_without_a_target_buffer_a_prompt_is_refused_and_not_kept() -> None:
    async def test() -> None:
        async with engine_of(Gated()) as engine:
            workspace = engine.open()
            with pytest.raises(RuntimeError, match="no image"):
                await predict(workspace, box(BOX))
            await workspace.change(lambda session: session.set_image(picture(BODY)[None]))
            with pytest.raises(RuntimeError, match="no target buffer"):
                await predict(workspace, box(BOX))
            assert not (await undo(workspace)).ran

    run(test)


def test_a_value_error_within_a_prediction_is_the_servers() -> None:
    async def test() -> None:
        segmenter, metrics = Gated(), Metrics()
        async with engine_of(segmenter, metrics) as engine:
            workspace = await begin(engine)
            segmenter.error = ValueError("shapes differ")
            with pytest.raises(SegmenterFault, match="ValueError: shapes differ"):
                await predict(workspace, box(BOX))
            assert read(metrics)["gamt_errors_total", "SegmenterFault"] == 1

    run(test)


# --- closing ------------------------------------------------------------------------------------


def test_a_workspace_closed_during_a_prediction_cancels_it_and_takes_no_more_calls() -> None:
    async def test() -> None:
        segmenter, metrics = Gated(), Metrics()
        async with engine_of(segmenter, metrics) as engine:
            workspace, other = await begin(engine), await begin(engine)
            segmenter.stops = True
            running = predict(workspace, box(BOX))
            await reach(segmenter)
            workspace.reserve("image", SHAPE, 1)
            workspace.close()  # at once, though a step runs
            assert engine.memory.reserved_bytes > 0  # as long as it does
            segmenter.through.set()
            assert not (await running).ran
            with pytest.raises(Closed):
                await workspace.change(lambda session: session.undo())
            with pytest.raises(Closed):
                await predict(workspace, box(BOX))
            with pytest.raises(Closed):
                workspace.reserve("image", (100,), 1)
            workspace.close()  # once more does nothing
            assert (await predict(other, box(BOX))).ran
            await asyncio.to_thread(workspace.join)
            assert engine.memory.reserved_bytes == 0
            assert read(metrics)["gamt_sessions", ""] == 1

    run(test)


def test_a_prediction_that_waits_for_its_turn_is_closed_at_once() -> None:
    async def test() -> None:
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            one, other = await begin(engine), await begin(engine)
            segmenter.stops = True
            running = predict(one, box(BOX))
            await reach(segmenter)
            waiting = predict(other, box(BOX))
            await asyncio.to_thread(wait_until, lambda: engine.turns.waiting == 1)
            other.close()  # while the first one still computes
            assert not (await waiting).ran
            segmenter.through.set()
            assert (await running).ran

    run(test)


def test_closing_a_workspace_frees_its_memory() -> None:
    async def test() -> None:
        async with engine_of(Gated()) as engine:
            workspace = engine.open()
            workspace.reserve("image", SHAPE, 1)

            def set_image(session: Session) -> "weakref.ref[npt.NDArray[np.uint8]]":
                image = picture(BODY)
                session.set_image(image[None])
                return weakref.ref(image)

            freed = await workspace.change(set_image)
            await workspace.change(
                lambda session: session.set_target_buffer(np.zeros(SHAPE, np.uint8))
            )
            await predict(workspace, box(BOX))
            workspace.close()
            await asyncio.to_thread(workspace.join)
            # The thread that encodes ahead may still be at a step for it.
            end = time.monotonic() + SECONDS / 2
            while freed() is not None and time.monotonic() < end:
                await asyncio.sleep(0.01)
                gc.collect()
            assert freed() is None
            assert engine.memory.reserved_bytes == 0

    run(test)


def test_closing_the_engine_stops_its_threads() -> None:
    async def test() -> None:
        before = threading.active_count()
        segmenter = Gated()
        async with engine_of(segmenter) as engine:
            running = [predict(await begin(engine), box(BOX)) for _ in range(2)]
            await asyncio.gather(*running)
        names = {thread.name for thread in threading.enumerate()}
        assert not any(name.startswith(("workspace", "encode-ahead")) for name in names)
        assert threading.active_count() <= before + 2  # the event loop's own for closing

    run(test)


# --- memory and metrics -------------------------------------------------------------------------


def test_a_cache_that_leaves_no_memory_for_images_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gamt.server.engine.machine_bytes", lambda: 1000 * MB)  # it uses 800
    with pytest.raises(SettingsError, match="cache_mb: found 800, expected less than the 800 MB"):
        Engine(Gated(), replace(DEFAULTS, cache_mb=800), metrics=Metrics())


def test_what_does_not_fit_into_memory_is_refused() -> None:
    async def test() -> None:
        async with engine_of(Gated()) as engine:
            engine.memory.limit_bytes = 100 * MB
            one, other = engine.open(), engine.open()
            # Per voxel 2 bytes, 8 for results, and 9 of votes for each of three planes: 37.
            one.reserve("image", (100, 100, 200), 2)
            assert engine.memory.reserved_bytes == 37 * 2_000_000
            one.reserve("target buffer", (100, 100, 200), 1)
            with pytest.raises(TooLarge, match="image: found"):
                other.reserve("image", (1000, 1000, 1000), 1)
            with pytest.raises(TooLarge):
                other.reserve("image", (100, 100, 200), 2)
            one.close()
            await asyncio.to_thread(one.join)
            other.reserve("image", (100, 100, 200), 2)

    run(test)


def test_predictions_are_counted_and_logged_without_their_places(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        metrics = Metrics()
        async with engine_of(Thresholder(), metrics) as engine:
            workspace = await begin(engine)
            with caplog.at_level(logging.INFO, "gamt.server"):
                await predict(workspace, box(BOX))
            values = read(metrics)
            for name in ("waited", "computed"):
                assert values[f"gamt_prediction_{name}_seconds_count", "box"] == 1
            # Whatever was encoded ahead or not, a slice that was asked for was there or wasn't.
            assert values["gamt_cache_hits_total", ""] + values["gamt_cache_misses_total", ""] > 0
            assert values["gamt_sessions", ""] == 1
            assert values["gamt_cache_bytes", ""] > 0
        (message,) = [one.getMessage() for one in caplog.records if one.name == "gamt.server"]
        assert message.startswith("prediction kind=box outcome=ran waited=")

    run(test)


# --- work that predicts in steps of its own -----------------------------------------------------


async def never_gone() -> bool:
    return False


def work_of(add: Callable[[Session], object], whys: list[object]) -> Callable[[Run], Prediction]:
    """Returns work that notes why it was cancelled, if it was."""

    def work(run: Run) -> Prediction:
        add(run.session)
        try:
            run.predict(Session.run_prediction)
        except Cancelled:
            whys.append(run.why_cancelled)
            raise
        return Prediction(ran=True)

    return work


def test_work_on_another_topic_waits_and_on_the_same_one_supersedes() -> None:
    async def test(topics: tuple[int, int]) -> tuple[list[object], bool, bool]:
        segmenter, whys = Gated(), list[object]()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            segmenter.stops = True
            works = [work_of(box(BOX), whys), work_of(point(INSIDE), whys)]
            first = asyncio.ensure_future(workspace.run("box", works[0], never_gone, topics[0]))
            await reach(segmenter)
            second = asyncio.ensure_future(workspace.run("point", works[1], never_gone, topics[1]))
            await asyncio.sleep(0.05)  # it is asked for
            segmenter.through.set()
            return whys, (await first).ran, (await second).ran

    async def tests() -> None:
        assert await test((1, 1)) == (["superseded"], False, True)
        assert await test((1, 2)) == ([], True, True)

    run(tests)


def test_work_is_cancelled_by_its_topic() -> None:
    async def test(topic: int) -> tuple[list[object], bool]:
        segmenter, whys = Gated(), list[object]()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            segmenter.stops = True
            running = asyncio.ensure_future(
                workspace.run("box", work_of(box(BOX), whys), never_gone, 1)
            )
            await reach(segmenter)
            workspace.cancel(topic)
            segmenter.through.set()
            ran = (await running).ran
            # That nobody wants it any more is no error.
            assert not [name for name, _ in read(engine.metrics) if name.startswith("gamt_errors")]
            return whys, ran

    async def tests() -> None:
        assert await test(1) == (["gone"], False)
        assert await test(2) == ([], True)

    run(tests)


def test_a_workspace_that_is_closed_says_so_to_its_work() -> None:
    async def test() -> None:
        segmenter, whys = Gated(), list[object]()
        async with engine_of(segmenter) as engine:
            workspace = await begin(engine)
            segmenter.stops = True
            running = asyncio.ensure_future(
                workspace.run("box", work_of(box(BOX), whys), never_gone, 1)
            )
            await reach(segmenter)
            workspace.close()
            segmenter.through.set()
            assert not (await running).ran
        assert whys == ["closed"]

    run(test)


def test_a_workspace_tells_how_its_predictions_go() -> None:
    class Watching(Observer):
        cases = 0

        def begin_case(self, case: Case, volume: PreparedVolume) -> None:
            self.cases += 1

    async def test() -> None:
        watching, told = Watching(), list[tuple[int, int]]()
        async with engine_of(Gated()) as engine:
            workspace = engine.open(watching, lambda done, planned: told.append((done, planned)))
            await workspace.change(lambda session: session.set_image(picture(BODY)[None]))
            await workspace.change(lambda one: one.set_target_buffer(np.zeros(SHAPE, "u1")))
            await predict(workspace, box(BOX))
        assert watching.cases == 1
        assert told[-1][0] == told[-1][1] > 0

    run(test)

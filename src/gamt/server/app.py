"""The server's paths: protocol v2 of nnInteractive, as 3D Slicer and napari speak it.

A client claims a place and gets a token, which it sends with all that follows. It sends an image,
declares the array that it wants results written to, and adds prompts; each answer holds the part of
that array that changed. Requests without a token on paths that the legacy protocol has too are the
legacy protocol's.
"""

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from gamt.memory import machine_bytes
from gamt.server import frames
from gamt.server.bodies import DEFAULT_LIMITS, BodyLimits, read_body, receiving
from gamt.server.clients import Client, DrawingKind, add_drawing, watch
from gamt.server.engine import Closed, Engine, Prediction
from gamt.server.errors import RefusedError, handle_errors, refusing
from gamt.server.gate import LEASE_HEADER, Gate, token_of
from gamt.server.leases import FullError, Lease, Leases
from gamt.server.legacy import Legacy
from gamt.server.memory import TooLarge
from gamt.server.messages import (
    AutoZoom,
    BoxPrompt,
    DrawnPrompt,
    Image,
    InitialSegmentation,
    PointPrompt,
    TargetBuffer,
    parse_message,
    parse_meta,
)
from gamt.session import Session

logger = logging.getLogger("gamt.server")

T = TypeVar("T")

PROTOCOL_VERSION = "2.6.0"
"""Of nnInteractive's session, whose interface this is."""

META_HEADER = "X-Meta"

RETRY_SECONDS = 10
"""After which a client that found no place may ask again."""

ARRAY_SHARE = 0.25
"""The share of the machine's memory that one array may take, as on nnInteractive's own server."""


def make_app(
    engine: Engine,
    *,
    max_sessions: int,
    idle_seconds: float,
    liveness_seconds: float,
    licence: str,
    api_key: str | None = None,
    body_limits: BodyLimits = DEFAULT_LIMITS,
    sweep_seconds: float = 15.0,
    loads_codec: bool = True,
    is_stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Returns the server.

    Args:
        engine: makes the predictions; closed with the server.
        max_sessions: clients at a time.
        idle_seconds: a client's place is freed when its user does nothing for that long.
        liveness_seconds: likewise, when nothing is heard of the client; 0 for never.
        licence: of the segmenter, as clients show it.
        api_key: what clients have to show; None for nothing.
        body_limits: of requests.
        sweep_seconds: between two looks at whose time has run out.
        loads_codec: whether what images are packed with is loaded with the server, which takes
            part of a second, or with the first image.
        is_stopping: asked during predictions, which are cancelled then.
        clock: tells the time of leases, in seconds.
    """
    engine.metrics.max_sessions.set(max_sessions)
    leases: Leases[Client] = Leases(max_sessions, idle_seconds, liveness_seconds, clock)
    service = _Service(engine, leases, licence, body_limits, is_stopping)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        load = frames.load_blosc2 if loads_codec else lambda: None
        loading = asyncio.create_task(asyncio.to_thread(load))
        sweeping = asyncio.create_task(service.sweep(sweep_seconds))
        yield
        sweeping.cancel()
        service.close(leases.clear())
        await asyncio.to_thread(engine.close)
        await loading  # last, as it may have failed

    # The documentation that FastAPI makes of types would know nothing of these requests.
    app = FastAPI(
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    legacy = Legacy(
        leases,
        service.make_client,
        engine.memory,
        needs_key=api_key is not None,
        image_bytes=service.array_bytes,
        limits=body_limits,
        is_stopping=is_stopping,
    )
    gate = Gate(api_key)
    app.add_route("/healthz", service.tell_health, ["GET"])
    app.add_route("/", gate.guard_legacy(legacy.introduce), ["GET"])
    app.add_route("/upload_image", gate.guard_legacy(legacy.upload_image), ["POST"])
    app.add_route("/upload_segment", gate.guard_legacy(legacy.upload_segment), ["POST"])
    for method, path, handler in (
        ("POST", "/claim", service.claim),
        ("GET", "/capabilities", service.tell_capabilities),
        ("GET", "/metrics", service.tell_metrics),
        ("POST", "/release", service.release),
        ("POST", "/heartbeat", service.hear_heartbeat),
        ("GET", "/lease_status", service.tell_lease),
        ("POST", "/set_image", service.set_image),
        ("POST", "/set_target_buffer", service.set_target_buffer),
        ("POST", "/set_do_autozoom", service.set_do_autozoom),
        ("POST", "/reset_interactions", service.reset_interactions),
        ("POST", "/undo", service.undo),
        ("POST", "/redo", service.redo),
        ("POST", "/predict", service.predict),
        ("POST", "/add_point_interaction", service.add_point),
        ("POST", "/add_bbox_interaction", service.add_box),
        ("POST", "/add_scribble_interaction", service.add_scribble),
        ("POST", "/add_lasso_interaction", service.add_lasso),
        ("POST", "/add_initial_seg_interaction", service.add_initial_segmentation),
    ):
        app.add_route(path, gate.guard(handler, legacy.prompts.get(path)), [method])
    handle_errors(app)
    return app


class _Service:
    """The handlers of protocol v2."""

    def __init__(
        self,
        engine: Engine,
        leases: Leases[Client],
        licence: str,
        body_limits: BodyLimits,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._leases = leases
        self._licence = licence
        self._limits = body_limits
        self._is_stopping = is_stopping
        self.array_bytes = int(ARRAY_SHARE * machine_bytes())

    # Places

    def make_client(self) -> Client:
        """Returns what is kept for a new lease."""
        return Client(self._engine.open())

    async def tell_health(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def claim(self, request: Request) -> Response:
        await self._read_json(request)
        self.close(self._leases.expire())
        try:
            lease = self._leases.claim(self.make_client)
        except FullError:
            raise HTTPException(
                503,
                f"all {self._leases.max_sessions} places of this server are taken; "
                "try again when someone has closed a session, or raise --max-sessions",
                {"Retry-After": str(RETRY_SECONDS)},
            ) from None
        return JSONResponse(
            {
                "lease_token": lease.token,
                "idle_timeout_seconds": float(self._leases.idle_seconds),
                "liveness_timeout_seconds": float(self._leases.liveness_seconds),
                "max_sessions": self._leases.max_sessions,
            }
        )

    async def tell_capabilities(self, request: Request) -> Response:
        return JSONResponse(
            {
                "supported_interactions": {
                    "points": True,
                    "bbox2d": True,
                    "bbox3d": True,
                    "scribble": True,
                    "lasso": True,
                },
                # There are no channels here; clients look them up all the same.
                "channel_mapping": {
                    "prev_seg": 0,
                    "bbox2d": [1, 2],
                    "bbox3d": [1, 2],
                    "lasso": [1, 2],
                    "points": [3, 4],
                    "scribble": [5, 6],
                },
                "num_interaction_channels": 7,
                "supports_initial_label": True,
                "supports_zero_shot_label_refinement": True,
                "preferred_scribble_thickness": [2, 2, 2],
                "interaction_decay": 1.0,
                "do_autozoom": True,
                "inference_session_version": PROTOCOL_VERSION,
                "license": self._licence,
                "supports_undo": True,
            }
        )

    async def tell_metrics(self, request: Request) -> Response:
        text, content_type = self._engine.metrics.render()
        return Response(text, headers={"Content-Type": content_type})

    async def release(self, request: Request) -> Response:
        await self._read_json(request)
        lease = self._leases.release(request.headers.get(LEASE_HEADER, ""))
        self.close([] if lease is None else [lease])
        return JSONResponse({"released": True})

    async def hear_heartbeat(self, request: Request) -> Response:
        token = token_of(request)
        await self._read_json(request)
        self._leases.touch(token)
        return JSONResponse({"remaining_seconds": self._leases.remaining_seconds(token)})

    async def tell_lease(self, request: Request) -> Response:
        return JSONResponse(
            {
                "remaining_seconds": self._leases.remaining_seconds(token_of(request)),
                "idle_timeout_seconds": float(self._leases.idle_seconds),
            }
        )

    async def sweep(self, seconds: float) -> None:
        """Closes the workspaces of leases that run out, until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                self.close(self._leases.expire())
            except Exception:  # places have to be freed again, whatever became of these
                logger.exception("a session that has run out could not be closed")

    def close(self, ended: list[Lease[Client]]) -> None:
        """Closes the workspaces of leases that have ended."""
        for lease in ended:
            lease.held.workspace.close()

    # The image, and the array that results are written to

    async def set_image(self, request: Request) -> Response:
        with self._leases.act(token_of(request)) as lease:
            client = lease.held
            properties = parse_meta(Image, request.headers.get(META_HEADER)).image_properties

            def reserve(begun: bytearray) -> AbstractContextManager[Callable[[], None]]:
                dtype, shape = frames.read_header(begun, self.array_bytes)
                if len(shape) != 4 or shape[0] != 1 or 0 in shape:
                    raise RefusedError(f"found an image of shape {shape}, expected (1, z, y, x)")
                return client.workspace.lend("image", shape, dtype.itemsize)

            async with self._receive(request, client, self.array_bytes, reserve) as (frame, keep):
                image = await asyncio.to_thread(frames.unpack, frame, self.array_bytes)

                def work(session: Session) -> None:
                    session.set_image(image, properties.model_dump(exclude_none=True))
                    keep()
                    client.shape, client.dtype = image.shape[1:], None

                await client.workspace.change(refusing(work))
            return JSONResponse({"original_image_shape": list(image.shape)})

    async def set_target_buffer(self, request: Request) -> Response:
        with self._leases.act(token_of(request)) as lease:
            client = lease.held
            buffer = parse_message(TargetBuffer, await self._read_json(request), "body")
            item_bytes = np.dtype(buffer.dtype).itemsize
            size_bytes = math.prod(buffer.shape) * item_bytes
            if size_bytes > self.array_bytes:
                raise TooLarge(
                    f"found a target buffer of shape {buffer.shape} and {buffer.dtype}, "
                    f"{size_bytes} bytes, expected {self.array_bytes} at most"
                )

            def work(session: Session) -> None:
                if client.shape is None:
                    raise RefusedError("there is no image yet: set_image has to come first")
                if tuple(buffer.shape) != client.shape:
                    raise RefusedError(
                        f"found a target buffer of shape {buffer.shape}, expected that of the "
                        f"image, {list(client.shape)}"
                    )
                client.workspace.reserve("target buffer", buffer.shape, item_bytes)
                session.set_target_buffer(np.zeros(buffer.shape, np.uint8))
                client.dtype = buffer.dtype

            await client.workspace.change(work)
            return JSONResponse({})

    async def set_do_autozoom(self, request: Request) -> Response:
        with self._leases.act(token_of(request)):
            parse_message(AutoZoom, await self._read_json(request), "body")
            return JSONResponse({})

    # Prompts

    async def reset_interactions(self, request: Request) -> Response:
        with self._leases.act(token_of(request)) as lease:
            await self._read_json(request)
            await lease.held.workspace.change(lambda session: session.reset_interactions())
            return JSONResponse({})

    async def undo(self, request: Request) -> Response:
        return await self._step(request, "undo", lambda session: session.undo())

    async def redo(self, request: Request) -> Response:
        """Goes forth again after `undo`; nnInteractive's own server has no such path."""
        return await self._step(request, "redo", lambda session: session.redo())

    async def predict(self, request: Request) -> Response:
        with self._leases.act(token_of(request)) as lease:
            await self._read_json(request)
            return await self._predict(
                request, lease.held, "predict", lambda session: session.is_behind
            )

    async def add_point(self, request: Request) -> Response:
        with self._leases.act(token_of(request)) as lease:
            prompt = parse_message(PointPrompt, await self._read_json(request), "body")

            def add(session: Session) -> None:
                session.add_point_interaction(
                    prompt.coordinates, prompt.include_interaction, run_prediction=False
                )

            return await self._add(request, lease.held, "point", add, prompt.run_prediction)

    async def add_box(self, request: Request) -> Response:
        with self._leases.act(token_of(request)) as lease:
            prompt = parse_message(BoxPrompt, await self._read_json(request), "body")

            def add(session: Session) -> None:
                session.add_bbox_interaction(
                    prompt.bbox_coords, prompt.include_interaction, run_prediction=False
                )

            return await self._add(request, lease.held, "box", add, prompt.run_prediction)

    async def add_scribble(self, request: Request) -> Response:
        return await self._add_drawing(request, "scribble")

    async def add_lasso(self, request: Request) -> Response:
        return await self._add_drawing(request, "lasso")

    async def _add_drawing(self, request: Request, kind: DrawingKind) -> Response:
        with self._leases.act(token_of(request)) as lease:
            prompt = parse_meta(DrawnPrompt, request.headers.get(META_HEADER))
            positive, bounds = prompt.include_interaction, prompt.interaction_bbox
            async with self._receive_mask(request, lease.held) as drawn:

                def add(session: Session) -> None:
                    add_drawing(session, kind, drawn, positive, bounds)

                return await self._add(request, lease.held, kind, add, prompt.run_prediction)

    async def add_initial_segmentation(self, request: Request) -> Response:
        with self._leases.act(token_of(request)) as lease:
            meta = parse_meta(InitialSegmentation, request.headers.get(META_HEADER))
            async with self._receive_mask(request, lease.held) as mask:

                def add(session: Session) -> None:
                    session.add_initial_seg_interaction(mask, run_prediction=False)

                return await self._add(request, lease.held, "initial", add, meta.run_prediction)

    async def _add(
        self,
        request: Request,
        client: Client,
        kind: str,
        add: Callable[[Session], None],
        run_prediction: bool,
    ) -> Response:
        """Adds a prompt, and predicts if that is wanted."""

        def work(session: Session) -> None:
            _check_ready(client)
            add(session)

        if run_prediction:
            return await self._predict(request, client, kind, refusing(work))
        await client.workspace.change(refusing(work))
        return _answer(Prediction(ran=False), "uint8")

    async def _step(self, request: Request, kind: str, move: Callable[[Session], bool]) -> Response:
        """Goes back or forth among the states of a target."""
        with self._leases.act(token_of(request)) as lease:
            await self._read_json(request)
            if lease.held.dtype is None:
                return _answer(Prediction(ran=False), "uint8")
            is_gone = watch(request, self._is_stopping)
            change = await lease.held.workspace.step(kind, move, is_gone)
            return await asyncio.to_thread(_answer, change, lease.held.dtype)

    async def _predict(
        self, request: Request, client: Client, kind: str, add: Callable[[Session], object]
    ) -> Response:
        is_gone = watch(request, self._is_stopping)
        prediction = await client.workspace.predict(kind, add, is_gone)
        if self._is_stopping():
            raise HTTPException(503, "the server is stopping")
        return await asyncio.to_thread(_answer, prediction, client.dtype or "uint8")

    # What requests hold

    async def _read_json(self, request: Request) -> bytes:
        return bytes(await read_body(request, self._limits.json_bytes, self._limits))

    @asynccontextmanager
    async def _receive(
        self,
        request: Request,
        client: Client,
        limit_bytes: int,
        reserve: Callable[[bytearray], AbstractContextManager[T]],
    ) -> AsyncIterator[tuple[bytearray, T]]:
        """Gives the frame in a request's body, with what is reserved for its array.

        Args:
            request: whose body is a frame.
            client: that sends it.
            limit_bytes: of the array.
            reserve: is given the begin of the frame as soon as its header has come, and reserves
                room for the array until the end of the block.

        Raises:
            Closed: the workspace was closed meanwhile.
        """
        with contextlib.ExitStack() as stack:
            reserved: list[T] = []

            def look(begun: bytearray) -> None:
                if client.workspace.is_closed:
                    raise Closed
                if not reserved and len(begun) >= frames.HEADER_BYTES:
                    reserved.append(stack.enter_context(reserve(begun)))

            # What can't be compressed takes a little more room than the array itself.
            most, memory = limit_bytes + self._limits.json_bytes, self._engine.memory
            async with (
                client.uploads,
                receiving(request, memory, most, self._limits, look) as frame,
            ):
                if not reserved:
                    reserved.append(stack.enter_context(reserve(frame)))
                yield frame, reserved[0]

    @asynccontextmanager
    async def _receive_mask(
        self, request: Request, client: Client
    ) -> AsyncIterator[npt.NDArray[np.bool_]]:
        """Gives the drawing or segmentation in a request's frame."""
        _check_ready(client)
        assert client.shape is not None
        voxels = math.prod(client.shape)

        def reserve(begun: bytearray) -> AbstractContextManager[object]:
            dtype, shape = frames.read_header(begun, voxels, frames.MASK_DTYPES)
            return self._engine.memory.lend("mask", math.prod(shape) * dtype.itemsize)

        async with self._receive(request, client, voxels, reserve) as (frame, _):
            yield await asyncio.to_thread(frames.unpack_mask, frame, voxels)


def _check_ready(client: Client) -> None:
    """Refuses prompts that nothing could come of.

    Raises:
        RefusedError: image or target buffer are missing.
    """
    if client.shape is None:
        raise RefusedError("there is no image yet: set_image has to come before prompts")
    if client.dtype is None:
        raise RefusedError("there is no target buffer yet: set_target_buffer has to come first")


def _answer(prediction: Prediction, dtype: str) -> Response:
    """Returns the answer to a prompt, in the target buffer's dtype."""
    meta: dict[str, object] = {"ran_prediction": prediction.ran, "bbox": prediction.bounds}
    frame = b""
    if prediction.content is not None:
        meta |= {"dtype": dtype, "shape": prediction.content.shape}
        frame = frames.pack(prediction.content.astype(dtype, copy=False))
    return Response(
        frame,
        media_type="application/octet-stream",
        headers={META_HEADER: json.dumps(meta, separators=(",", ":"))},
    )

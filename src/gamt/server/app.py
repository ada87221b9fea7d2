"""The server's paths: protocol v2 of nnInteractive, as 3D Slicer and napari speak it.

A client claims a place and gets a token, which it sends with all that follows. It sends an image,
declares the array that it wants results written to, and adds prompts; each answer holds the part of
that array that changed. Requests without a token on paths that the legacy protocol has too are the
legacy protocol's.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

import gamt
from gamt.server import frames
from gamt.server.bodies import DEFAULT_LIMITS, BodyLimits, discard_body, read_body
from gamt.server.engine import Closed, Engine, Prediction, Workspace
from gamt.server.leases import FullError, Lease, LeaseError, Leases
from gamt.server.legacy import Legacy
from gamt.server.memory import TooLarge, machine_bytes
from gamt.server.messages import (
    AutoZoom,
    BoxPrompt,
    DrawnPrompt,
    Image,
    InitialSegmentation,
    MessageError,
    PointPrompt,
    TargetBuffer,
    parse_message,
    parse_meta,
)
from gamt.session import Session

logger = logging.getLogger("gamt.server")

PROTOCOL_VERSION = "2.6.0"
"""Of nnInteractive's session, whose interface this is."""

LEASE_HEADER = "X-Lease-Token"
META_HEADER = "X-Meta"

RETRY_SECONDS = 10
"""After which a client that found no place may ask again."""

ARRAY_SHARE = 0.25
"""The share of the machine's memory that one array may take."""

MASK_BYTES = 8
"""Bytes a voxel that drawings and segmentations may have: those of the largest dtype."""

ADVICE = (
    "enter nothing but http://HOST:PORT as the server's address, and update the viewer's extension"
)
"""For those who meet an error of paths: mostly an address or an extension that doesn't fit."""

LEGACY_ALONE = frozenset({"/", "/upload_image", "/upload_segment"})
"""Paths that protocol v2 has not."""

Handler = Callable[[Request], Awaitable[Response]]

LegacyHandler = Callable[[Request], Awaitable[Response | None]]
"""Answers a request without a token; None if it isn't the legacy protocol's."""


class PromptError(ValueError):
    """A prompt that can't be taken; the text says what was found."""


@dataclass(slots=True)
class Client:
    """What the server keeps for a lease.

    Attributes:
        workspace: where its predictions are made.
        uploading: held while one of its arrays is read: the next one waits.
        shape: (z, y, x) of its image; None before there is one.
        dtype: name of its target buffer's; None before there is one.
        has_queued: whether prompts wait for a prediction.
    """

    workspace: Workspace
    uploading: asyncio.Lock
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    has_queued: bool = False


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
        is_stopping: asked during predictions, which are cancelled then.
        clock: tells the time of leases, in seconds.
    """
    engine.metrics.max_sessions.set(max_sessions)
    leases: Leases[Client] = Leases(max_sessions, idle_seconds, liveness_seconds, clock)
    service = _Service(engine, leases, licence, body_limits, is_stopping)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(frames.load_blosc2))
        sweeping = asyncio.create_task(service.sweep(sweep_seconds))
        yield
        sweeping.cancel()
        await loading
        await service.close(leases.clear())
        await asyncio.to_thread(engine.close)

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
        needs_key=api_key is not None,
        image_bytes=service.array_bytes,
        limits=body_limits,
        is_stopping=is_stopping,
    )
    gate = _Gate(api_key, legacy.handlers)
    app.add_route("/healthz", service.tell_health, ["GET"])
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
        app.add_route(path, gate.guard(handler), [method])
    for path in LEGACY_ALONE:
        app.add_route(path, gate.guard(_deny), ["GET" if path == "/" else "POST"])
    _handle_errors(app)
    return app


class _Gate:
    """Decides who gets to a path's handler."""

    def __init__(self, api_key: str | None, legacy: Mapping[str, LegacyHandler]) -> None:
        self._expected = None if api_key is None else api_key.encode()
        self._legacy = legacy

    def guard(self, handler: Handler) -> Handler:
        """Returns what answers in place of a handler of protocol v2."""

        async def pass_on(request: Request) -> Response:
            logger.debug("%s %s", request.method, request.scope["path"])
            legacy = self._legacy.get(request.scope["path"])
            headers = request.headers
            if legacy and LEASE_HEADER not in headers and "authorization" not in headers:
                answer = await legacy(request)
                if answer is not None:
                    return answer
            self._check_key(headers.get("authorization"))
            return await handler(request)

        return pass_on

    def _check_key(self, authorization: str | None) -> None:
        if self._expected is None:
            return
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise HTTPException(401, "Missing bearer token", {"WWW-Authenticate": "Bearer"})
        if not hmac.compare_digest(key.strip().encode("latin-1"), self._expected):
            raise HTTPException(401, "Invalid bearer token", {"WWW-Authenticate": "Bearer"})


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
        return Client(self._engine.open(), asyncio.Lock())

    async def tell_health(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def claim(self, request: Request) -> Response:
        await self._read_json(request)
        await self.close(self._leases.expire())
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
        await self.close([] if lease is None else [lease])
        return JSONResponse({"released": True})

    async def hear_heartbeat(self, request: Request) -> Response:
        token = _token(request)
        await self._read_json(request)
        self._leases.touch(token)
        return JSONResponse({"remaining_seconds": self._leases.remaining_seconds(token)})

    async def tell_lease(self, request: Request) -> Response:
        return JSONResponse(
            {
                "remaining_seconds": self._leases.remaining_seconds(_token(request)),
                "idle_timeout_seconds": float(self._leases.idle_seconds),
            }
        )

    async def sweep(self, seconds: float) -> None:
        """Closes the workspaces of leases that run out, until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self.close(self._leases.expire())

    async def close(self, ended: list[Lease[Client]]) -> None:
        """Closes the workspaces of leases that have ended."""
        for lease in ended:
            lease.held.workspace.close()

    # The image, and the array that results are written to

    async def set_image(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            client = lease.held
            properties = parse_meta(Image, request.headers.get(META_HEADER)).image_properties

            def prepare(shape: tuple[int, ...], item_bytes: int) -> None:
                if len(shape) != 4 or shape[0] != 1 or 0 in shape:
                    raise PromptError(f"found an image of shape {shape}, expected (1, z, y, x)")
                client.workspace.reserve("image", shape, item_bytes)

            image = await self._read_array(request, client, self.array_bytes, prepare)

            def work(session: Session) -> None:
                session.set_image(image, properties.model_dump(exclude_none=True))
                client.shape, client.dtype, client.has_queued = image.shape[1:], None, False

            await client.workspace.change(work)
            return JSONResponse({"original_image_shape": list(image.shape)})

    async def set_target_buffer(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
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
                    raise PromptError("there is no image yet: set_image has to come first")
                if tuple(buffer.shape) != client.shape:
                    raise PromptError(
                        f"found a target buffer of shape {buffer.shape}, expected that of the "
                        f"image, {list(client.shape)}"
                    )
                client.workspace.reserve("target buffer", buffer.shape, item_bytes)
                session.set_target_buffer(np.zeros(buffer.shape, np.uint8))
                client.dtype = buffer.dtype

            await client.workspace.change(work)
            return JSONResponse({})

    async def set_do_autozoom(self, request: Request) -> Response:
        with self._leases.act(_token(request)):
            parse_message(AutoZoom, await self._read_json(request), "body")
            return JSONResponse({})

    # Prompts

    async def reset_interactions(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            client = lease.held
            await self._read_json(request)

            def work(session: Session) -> None:
                session.reset_interactions()
                client.has_queued = False

            await client.workspace.change(work)
            return JSONResponse({})

    async def undo(self, request: Request) -> Response:
        return await self._step(request, "undo", lambda session: session.undo())

    async def redo(self, request: Request) -> Response:
        """Goes forth again after `undo`; nnInteractive's own server has no such path."""
        return await self._step(request, "redo", lambda session: session.redo())

    async def predict(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            await self._read_json(request)
            if not lease.held.has_queued:
                return _answer(Prediction(ran=False), "uint8")
            return await self._predict(request, lease.held, "predict", lambda session: None)

    async def add_point(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            prompt = parse_message(PointPrompt, await self._read_json(request), "body")

            def add(session: Session) -> None:
                session.add_point_interaction(
                    prompt.coordinates, prompt.include_interaction, run_prediction=False
                )

            return await self._add(request, lease.held, "point", add, prompt.run_prediction)

    async def add_box(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            prompt = parse_message(BoxPrompt, await self._read_json(request), "body")

            def add(session: Session) -> None:
                session.add_bbox_interaction(
                    prompt.bbox_coords, prompt.include_interaction, run_prediction=False
                )

            return await self._add(request, lease.held, "box", add, prompt.run_prediction)

    async def add_scribble(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            prompt, drawn = await self._read_drawing(request, lease.held)

            def add(session: Session) -> None:
                session.add_scribble_interaction(
                    drawn,
                    prompt.include_interaction,
                    run_prediction=False,
                    interaction_bbox=prompt.interaction_bbox,
                )

            return await self._add(request, lease.held, "scribble", add, prompt.run_prediction)

    async def add_lasso(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            prompt, drawn = await self._read_drawing(request, lease.held)

            def add(session: Session) -> None:
                session.add_lasso_interaction(
                    drawn,
                    prompt.include_interaction,
                    run_prediction=False,
                    interaction_bbox=prompt.interaction_bbox,
                )

            return await self._add(request, lease.held, "lasso", add, prompt.run_prediction)

    async def add_initial_segmentation(self, request: Request) -> Response:
        with self._leases.act(_token(request)) as lease:
            meta = parse_meta(InitialSegmentation, request.headers.get(META_HEADER))
            mask = await self._read_mask(request, lease.held)

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
            # An initial segmentation that asks for no prediction leaves nothing to predict.
            client.has_queued = run_prediction or kind != "initial"

        if run_prediction:
            return await self._predict(request, client, kind, _named(work))
        await client.workspace.change(_named(work))
        return _answer(Prediction(ran=False), "uint8")

    async def _step(self, request: Request, kind: str, move: Callable[[Session], bool]) -> Response:
        """Goes back or forth among the states of a target."""
        with self._leases.act(_token(request)) as lease:
            await self._read_json(request)
            if lease.held.dtype is None:
                return _answer(Prediction(ran=False), "uint8")

            async def is_gone() -> bool:
                return self._is_stopping() or await request.is_disconnected()

            change = await lease.held.workspace.step(kind, move, is_gone)
            return await asyncio.to_thread(_answer, change, lease.held.dtype)

    async def _predict(
        self, request: Request, client: Client, kind: str, add: Callable[[Session], object]
    ) -> Response:
        async def is_gone() -> bool:
            return self._is_stopping() or await request.is_disconnected()

        prediction = await client.workspace.predict(kind, add, is_gone)
        if self._is_stopping():
            raise HTTPException(503, "the server is stopping")
        if prediction.ran:
            client.has_queued = False
        return await asyncio.to_thread(_answer, prediction, client.dtype or "uint8")

    # What requests hold

    async def _read_json(self, request: Request) -> bytes:
        return bytes(await read_body(request, self._limits.json_bytes, self._limits))

    async def _read_array(
        self,
        request: Request,
        client: Client,
        limit_bytes: int,
        prepare: Callable[[tuple[int, ...], int], None] = lambda shape, item_bytes: None,
    ) -> npt.NDArray[Any]:
        """Returns the array in a request's frame.

        Args:
            request: whose body is a frame.
            client: that sent it.
            limit_bytes: of the array.
            prepare: is told the array's shape and bytes a voxel before there is room made for it.
        """
        if "content-length" not in request.headers:
            raise HTTPException(411, "found no Content-Length, expected that of the frame")
        length = int(request.headers["content-length"])
        async with client.uploading:
            client.workspace.reserve("frame", (length,), 1)
            try:
                # What can't be compressed takes a little more room than the array itself.
                most = limit_bytes + self._limits.json_bytes
                frame = await read_body(request, most, self._limits)
                dtype, shape = frames.read_header(frame)
                prepare(shape, dtype.itemsize)
                return await asyncio.to_thread(frames.unpack, frame, limit_bytes)
            finally:
                with contextlib.suppress(Closed):
                    client.workspace.reserve("frame", (0,), 1)

    async def _read_mask(self, request: Request, client: Client) -> npt.NDArray[Any]:
        _check_ready(client)
        assert client.shape is not None
        return await self._read_array(request, client, math.prod(client.shape) * MASK_BYTES)

    async def _read_drawing(
        self, request: Request, client: Client
    ) -> tuple[DrawnPrompt, npt.NDArray[Any]]:
        prompt = parse_meta(DrawnPrompt, request.headers.get(META_HEADER))
        return prompt, await self._read_mask(request, client)


async def _deny(request: Request) -> Response:
    raise HTTPException(404)


def _check_ready(client: Client) -> None:
    """Refuses prompts that nothing could come of.

    Raises:
        PromptError: image or target buffer are missing.
    """
    if client.shape is None:
        raise PromptError("there is no image yet: set_image has to come before prompts")
    if client.dtype is None:
        raise PromptError("there is no target buffer yet: set_target_buffer has to come first")


def _named(work: Callable[[Session], None]) -> Callable[[Session], None]:
    """Lets what a session says of a client's mistake be told from our own."""

    def named(session: Session) -> None:
        try:
            work(session)
        except ValueError as error:
            raise PromptError(str(error)) from error

    return named


def _token(request: Request) -> str:
    """Returns a request's token.

    Raises:
        HTTPException: 410; there is none.
    """
    token: str | None = request.headers.get(LEASE_HEADER)
    if token is None:
        raise HTTPException(410, "lease token missing")
    return token


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


def _handle_errors(app: FastAPI) -> None:
    """Answers each error as clients expect it: a status and {"detail": text}, no traceback."""

    def refuse_with(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def refuse(request: Request, error: Exception) -> Response:
            await discard_body(request)
            return JSONResponse({"detail": str(error)}, status)

        return refuse

    async def refuse_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        await discard_body(request)
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    async def refuse_path(request: Request, error: Exception) -> Response:
        await discard_body(request)
        return JSONResponse({"detail": f"{_describe_path(request)}; {ADVICE}"}, 404)

    async def refuse_method(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        await discard_body(request)
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{_describe_path(request)} with {request.method}, but with {allowed}; {ADVICE}"
        return JSONResponse({"detail": detail}, 405, error.headers)

    async def refuse_lease(request: Request, error: Exception) -> Response:
        await discard_body(request)
        return JSONResponse({"detail": "lease expired or unknown"}, 410)

    async def note_gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    async def admit(request: Request, error: Exception) -> Response:
        incident = uuid.uuid4().hex[:8]
        logger.error("%s failed (%s): %r", request.scope["path"], incident, error)
        logger.debug("where %s failed", incident, exc_info=error)
        detail = f"the server failed; its log says more of what happened under {incident}"
        return JSONResponse({"detail": detail}, 500)

    app.add_exception_handler(StarletteHTTPException, refuse_http)
    app.add_exception_handler(404, refuse_path)
    app.add_exception_handler(405, refuse_method)
    for kind, status in (
        (TooLarge, 413),
        (frames.FrameSizeError, 413),
        (frames.FrameError, 400),
        (MessageError, 400),
        (PromptError, 400),
    ):
        app.add_exception_handler(kind, refuse_with(status))
    app.add_exception_handler(LeaseError, refuse_lease)
    app.add_exception_handler(Closed, refuse_lease)  # released while it was at work
    app.add_exception_handler(ClientDisconnect, note_gone)
    app.add_exception_handler(Exception, admit)


def _describe_path(request: Request) -> str:
    return (
        f"this is gamt {gamt.__version__}, which speaks nnInteractive's protocol v2 and the legacy "
        f"one; it has no path {request.scope['path']}"
    )

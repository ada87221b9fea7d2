"""The protocol of SlicerNNInteractive up to 0.3.2, which knows neither sessions nor keys.

All its clients share one image and one segment, as on the server that it was made for: the last
upload counts, whoever it comes from. Images are sent as npy files, masks as compressed ones, points
and boxes as JSON. Every prompt is answered by the whole mask, a bit a voxel.

The client shows an error's text only if the status is 200. Where the text has "No image uploaded"
in it, the client sends the image, the segment and the prompt once more, however often that happens.
So this is said where there is no image, but not to the prompt that follows a refused one.
"""

import asyncio
import gzip
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

import gamt
from gamt.axes import bounding_range
from gamt.server.bodies import BodyLimits, discard_body, read_body
from gamt.server.engine import Closed, Workspace
from gamt.server.leases import FullError, LeaseError, Leases
from gamt.server.memory import TooLarge
from gamt.server.messages import Message, MessageError, Voxel, parse_message
from gamt.server.uploads import UploadError, read_compressed_npy, read_form, read_npy
from gamt.session import Session

logger = logging.getLogger("gamt.server")

T = TypeVar("T")

NO_IMAGE = "No image uploaded"
"""What makes the client send everything again."""

UPDATE = (
    "This server needs an API key, which this version of the extension can't send. Update "
    "SlicerNNInteractive to 1.0.0 or later in Slicer's Extensions Manager, and enter the key there."
)
"""What clients are told by a server with a key."""

COMPRESSION = 1
"""Level of gzip for masks, which have long runs: higher levels are slower and save little."""

LEGACY_JSON = re.compile(rb'"(voxel_coord|outer_point_one|outer_point_two)"')
"""What tells this protocol's JSON bodies from others on the same paths."""


class PointBody(Message):
    """The body of `/add_point_interaction`.

    Attributes:
        voxel_coord: where.
        positive_click: whether it is inside of the target.
    """

    voxel_coord: Voxel
    positive_click: bool


class BoxBody(Message):
    """The body of `/add_bbox_interaction`.

    Attributes:
        outer_point_one: a corner voxel, inside of the box.
        outer_point_two: the one across from it.
        positive_click: whether the box is around the target.
    """

    outer_point_one: Voxel
    outer_point_two: Voxel
    positive_click: bool


class RefusedError(ValueError):
    """A request that isn't carried out; the text is for the user."""


_REFUSALS = (RefusedError, UploadError, MessageError, TooLarge)


class Client(Protocol):
    """What the server keeps for a lease, as far as this protocol needs it."""

    workspace: Workspace


AnyClient = TypeVar("AnyClient", bound=Client)


class Legacy(Generic[AnyClient]):
    """What all legacy clients share: an image and a segment, from the first upload on.

    They take one of the server's places until none of them has done anything for as long as a user
    of one of their own may do nothing.

    Attributes:
        handlers: by path, what answers a request without a token, or gives None if the request is
            not of this protocol.
    """

    def __init__(
        self,
        leases: Leases[AnyClient],
        make_client: Callable[[], AnyClient],
        *,
        needs_key: bool,
        image_bytes: int,
        limits: BodyLimits,
        is_stopping: Callable[[], bool],
    ) -> None:
        """Starts without an image.

        Args:
            leases: the server's places.
            make_client: makes what the server keeps for one of them.
            needs_key: whether the server has a key, so that legacy clients are turned away.
            image_bytes: that an image may have.
            limits: of requests' bodies.
            is_stopping: asked during predictions, which are cancelled then.
        """
        self.handlers: Mapping[str, Callable[[Request], Awaitable[Response | None]]] = {
            "/": self._introduce,
            "/upload_image": self._upload_image,
            "/upload_segment": self._upload_segment,
            "/add_point_interaction": self._add_point,
            "/add_bbox_interaction": self._add_bbox,
            "/add_scribble_interaction": self._add_scribble,
            "/add_lasso_interaction": self._add_lasso,
        }
        self._leases = leases
        self._make_client = make_client
        self._needs_key = needs_key
        self._image_bytes = image_bytes
        self._limits = limits
        self._is_stopping = is_stopping
        self._turn = asyncio.Lock()  # one request after the other, as they share all there is
        self._token: str | None = None
        self._shape: tuple[int, ...] = ()
        self._uploader: str | None = None
        self._refusal: str | None = None

    async def _introduce(self, request: Request) -> Response:
        url = str(request.base_url).rstrip("/")
        key = "the API key" if self._needs_key else "no API key"
        return PlainTextResponse(
            f"This is gamt {gamt.__version__}, a server for interactive segmentation.\n\n"
            "3D Slicer (SlicerNNInteractive) and napari (napari-nninteractive): enter\n"
            f"{url} as the server's address, and {key}.\n\n"
            "Protocols: nnInteractive v2, and that of SlicerNNInteractive up to 0.3.2"
            f"{', which has no key and is turned away' if self._needs_key else ''}.\n"
        )

    async def _upload_image(self, request: Request) -> Response | None:
        async def work() -> Response:
            try:
                await self._take_image(request)
            except Exception as error:
                # Nobody may go on with the image before, thinking it is this one.
                await self._leave()
                if isinstance(error, (*_REFUSALS, HTTPException)):
                    self._refusal = _text_of(error)
                raise
            return JSONResponse({"status": "ok"})

        return await self._answer_form(request, work)

    async def _take_image(self, request: Request) -> None:
        uploader = request.client.host if request.client else None
        with self._place() as workspace:
            async with self._form(request, workspace, self._image_bytes) as form:
                image = read_npy(_file_of(form), self._image_bytes)
                workspace.reserve("image", image.shape, image.itemsize)
                workspace.reserve("target buffer", image.shape, 1)
            if self._uploader not in (None, uploader):
                logger.warning(
                    "a second machine replaces the image of the first, as they share one: "
                    "SlicerNNInteractive up to 0.3.2; users of later ones have their own"
                )

            def begin(session: Session) -> None:
                session.set_image(image[None])
                session.set_target_buffer(np.zeros(image.shape, np.uint8))

            await workspace.change(_refusing(begin))
            self._shape, self._uploader, self._refusal = image.shape, uploader, None

    @contextmanager
    def _place(self) -> Iterator[Workspace]:
        """Gives the workspace of the place that is taken; takes one if there is none.

        Raises:
            RefusedError: all are taken.
        """
        try:
            self._leases.touch(self._token or "")
        except LeaseError:
            try:
                lease = self._leases.claim(self._make_client, gives_signs=False)
            except FullError:
                raise RefusedError(
                    f"all {self._leases.max_sessions} places of this server are taken; try again "
                    "when someone has closed a session"
                ) from None
            self._token, self._uploader = lease.token, None
            logger.info("SlicerNNInteractive up to 0.3.2 sends no voxel sizes: taken to be 1 mm")
        with self._image() as workspace:
            yield workspace

    @contextmanager
    def _image(self) -> Iterator[Workspace]:
        """Gives the workspace with the image.

        Raises:
            RefusedError: there is none. Why the last one was refused is told once; to the prompt
                after that, the client sends it again.
        """
        try:
            with self._leases.act(self._token or "") as lease:
                yield lease.held.workspace
        except LeaseError:
            refusal, self._refusal = self._refusal, None
            raise RefusedError(refusal or NO_IMAGE) from None

    async def _leave(self) -> None:
        """Gives the place back."""
        lease = self._leases.release(self._token or "")
        self._token = self._uploader = None
        if lease is not None:
            lease.held.workspace.close()

    async def _upload_segment(self, request: Request) -> Response | None:
        async def work() -> Response:
            with self._image() as workspace:
                async with self._form(request, workspace, math.prod(self._shape)) as form:
                    mask = await asyncio.to_thread(read_compressed_npy, _file_of(form), self._shape)

                def begin(session: Session) -> None:
                    session.reset_interactions()
                    if mask.any():
                        session.add_initial_seg_interaction(mask)

                await workspace.change(_refusing(begin))
            return JSONResponse({"status": "ok"})

        return await self._answer_form(request, work)

    async def _add_point(self, request: Request) -> Response | None:
        def parse(body: bytes | bytearray) -> Callable[[Session], object]:
            point = parse_message(PointBody, body, "body")
            return lambda session: session.add_point_interaction(
                point.voxel_coord, point.positive_click, run_prediction=False
            )

        return await self._answer_json(request, "point", parse)

    async def _add_bbox(self, request: Request) -> Response | None:
        def parse(body: bytes | bytearray) -> Callable[[Session], object]:
            box = parse_message(BoxBody, body, "body")
            corners = zip(box.outer_point_one, box.outer_point_two, strict=True)
            bounds = [[min(pair), max(pair) + 1] for pair in corners]
            return lambda session: session.add_bbox_interaction(
                bounds, box.positive_click, run_prediction=False
            )

        return await self._answer_json(request, "box", parse)

    async def _add_scribble(self, request: Request) -> Response | None:
        return await self._add_drawing(request, "scribble")

    async def _add_lasso(self, request: Request) -> Response | None:
        return await self._add_drawing(request, "lasso")

    async def _add_drawing(
        self, request: Request, kind: Literal["scribble", "lasso"]
    ) -> Response | None:
        async def work() -> Response:
            with self._image() as workspace:
                async with self._form(request, workspace, math.prod(self._shape)) as form:
                    mask = await asyncio.to_thread(read_compressed_npy, _file_of(form), self._shape)
                    sign = bytes(form.get("positive_click", b"")).lower()
                add = _draw(mask, kind, positive=sign in (b"true", b"1", b"yes"))
                return await self._predict(request, workspace, kind, add)

        return await self._answer_form(request, work)

    async def _answer_json(
        self,
        request: Request,
        kind: str,
        parse: Callable[[bytes | bytearray], Callable[[Session], object]],
    ) -> Response | None:
        """Answers a prompt in JSON; `parse` returns what adds it to a session."""
        body = await read_body(request, self._limits.json_bytes, self._limits)
        if not LEGACY_JSON.search(body):
            return None

        async def work() -> Response:
            with self._image() as workspace:
                return await self._predict(request, workspace, kind, parse(body))

        return await self._answer(request, work)

    async def _answer_form(
        self, request: Request, work: Callable[[], Awaitable[Response]]
    ) -> Response | None:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return None
        return await self._answer(request, work)

    async def _answer(self, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
        """Does some work, after that of earlier requests; tells the user why if it is refused."""
        try:
            if self._needs_key:
                raise RefusedError(UPDATE)
            async with self._turn:
                return await work()
        except (*_REFUSALS, HTTPException) as error:
            await discard_body(request)
            headers = error.headers if isinstance(error, HTTPException) else None
            message = _text_of(error)
            return JSONResponse({"status": "error", "message": message}, headers=headers)

    async def _predict(
        self,
        request: Request,
        workspace: Workspace,
        kind: str,
        add: Callable[[Session], object],
    ) -> Response:
        async def is_gone() -> bool:
            return self._is_stopping() or await request.is_disconnected()

        await workspace.predict(kind, _refusing(add), is_gone)
        mask = await workspace.read(lambda session: pack_mask(session.target_buffer))
        return Response(
            mask,
            media_type="application/octet-stream",
            headers={"Content-Encoding": "gzip"},
        )

    @asynccontextmanager
    async def _form(
        self, request: Request, workspace: Workspace, file_bytes: int
    ) -> AsyncIterator[Mapping[str, memoryview]]:
        """Gives the parts of a form, whose file has about as many bytes at most.

        Raises:
            RefusedError: the form doesn't say how large it is.
            TooLarge: the server has no memory left for it.
        """
        if "content-length" not in request.headers:
            raise RefusedError("found no Content-Length, expected that of the form")
        workspace.reserve("form", (int(request.headers["content-length"]),), 1)
        try:
            body = await read_body(request, file_bytes + self._limits.json_bytes, self._limits)
            content_type = request.headers.get("content-type", "")
            yield await asyncio.to_thread(read_form, content_type, body)
        finally:
            with suppress(Closed):
                workspace.reserve("form", (0,), 1)


def pack_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """Returns a mask as clients expect it: bits in C order, first bits highest, within gzip.

    Args:
        mask: (z, y, x), not 0 inside of the target.
    """
    return gzip.compress(np.packbits(mask).tobytes(), COMPRESSION)


def _draw(
    mask: npt.NDArray[Any], kind: Literal["scribble", "lasso"], positive: bool
) -> Callable[[Session], object]:
    """Returns what adds a drawing to a session."""
    # Where the user took away from an earlier drawing, the client's 0 - 1 has become 255.
    drawn = mask == 1
    extent = bounding_range(drawn)
    if extent is None:
        raise RefusedError(f"found an empty {kind}, please draw it again")
    bounds = [[a, b] for a, b in zip(*extent, strict=True)]
    crop = drawn[tuple(slice(a, b) for a, b in bounds)]
    if kind == "scribble":
        return lambda session: session.add_scribble_interaction(
            crop, positive, run_prediction=False, interaction_bbox=bounds
        )
    return lambda session: session.add_lasso_interaction(
        crop, positive, run_prediction=False, interaction_bbox=bounds
    )


def _file_of(form: Mapping[str, memoryview]) -> memoryview:
    """Returns a form's file.

    A client that sends a prompt again may have read its drawing to the end already.
    """
    file = form.get("file")
    if not file:
        raise RefusedError("the request did not arrive whole, please try again")
    return file


def _refusing(work: Callable[[Session], T]) -> Callable[[Session], T]:
    """Lets what a session says of a user's mistake be told from our own."""

    def refusing(session: Session) -> T:
        try:
            return work(session)
        except ValueError as error:
            raise RefusedError(str(error)) from error

    return refusing


def _text_of(error: Exception) -> str:
    return error.detail if isinstance(error, HTTPException) else str(error)

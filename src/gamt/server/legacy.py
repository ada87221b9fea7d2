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
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

import gamt
from gamt.axes import bounding_range
from gamt.lifting.plan import OverLimitError
from gamt.server.bodies import BodyLimits, discard_body, read_body, receiving
from gamt.server.clients import Client, DrawingKind, add_drawing, watch
from gamt.server.engine import Workspace
from gamt.server.errors import RefusedError, refusing
from gamt.server.gate import LegacyHandler
from gamt.server.leases import FullError, LeaseError, Leases
from gamt.server.memory import Memory, TooLarge
from gamt.server.messages import Message, MessageError, Voxel, parse_message
from gamt.server.uploads import UploadError, read_compressed_npy, read_form, read_npy
from gamt.session import Session

logger = logging.getLogger("gamt.server")

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


_REFUSALS = (RefusedError, UploadError, MessageError, TooLarge, OverLimitError)


class Legacy:
    """What all legacy clients share: an image and a segment, from the first upload on.

    They take one of the server's places until none of them has done anything for as long as a user
    of one of their own may do nothing.

    Attributes:
        prompts: what answers prompts, by path, or gives None if a request is not of this protocol.
    """

    def __init__(
        self,
        leases: Leases[Client],
        make_client: Callable[[], Client],
        memory: Memory,
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
            memory: where room is reserved for what is received.
            needs_key: whether the server has a key, so that clients without one are turned away.
            image_bytes: that an image may have.
            limits: of requests' bodies.
            is_stopping: asked during predictions, which are cancelled then.
        """
        self.prompts: Mapping[str, LegacyHandler] = {
            "/add_point_interaction": self._add_point,
            "/add_bbox_interaction": self._add_bbox,
            "/add_scribble_interaction": self._add_scribble,
            "/add_lasso_interaction": self._add_lasso,
        }
        self._leases = leases
        self._make_client = make_client
        self._memory = memory
        self._needs_key = needs_key
        self._image_bytes = image_bytes
        self._limits = limits
        self._is_stopping = is_stopping
        self._turn = asyncio.Lock()  # one request after the other, as they share all there is
        self._token: str | None = None
        self._shape: tuple[int, ...] = ()
        self._uploader: str | None = None
        self._refusal: str | None = None

    async def introduce(self, request: Request) -> Response:
        """Tells who looks at the address itself how to connect."""
        url = str(request.base_url).rstrip("/")
        key = "the API key" if self._needs_key else "no API key"
        return PlainTextResponse(
            f"This is gamt {gamt.__version__}, a server for interactive segmentation.\n\n"
            "3D Slicer (SlicerNNInteractive) and napari (napari-nninteractive): enter\n"
            f"{url} as the server's address, and {key}.\n\n"
            "Protocols: nnInteractive v2, and that of SlicerNNInteractive up to 0.3.2"
            f"{', which has no key and is turned away' if self._needs_key else ''}.\n"
        )

    async def upload_image(self, request: Request) -> Response:
        """Takes an image in place of the one before."""

        async def work() -> Response:
            try:
                async with self._form(request, self._image_bytes) as form:
                    image = read_npy(_file_of(form), self._image_bytes)
                    async with self._turn:
                        await self._take_image(request, image)
            except Exception as error:
                # Nobody may go on with the image before, thinking it is this one.
                async with self._turn:
                    await self._leave()
                    if isinstance(error, (*_REFUSALS, HTTPException)):
                        self._refusal = _text_of(error)
                raise
            return JSONResponse({"status": "ok"})

        return await self._answer(request, work)

    async def _take_image(self, request: Request, image: npt.NDArray[Any]) -> None:
        uploader = request.client.host if request.client else None
        with self._place() as workspace:
            if self._uploader not in (None, uploader):
                logger.warning(
                    "a second machine replaces the image of the first, as they share one: "
                    "SlicerNNInteractive up to 0.3.2; users of later ones have their own"
                )
            with (
                workspace.lend("image", image.shape, image.itemsize) as keep_image,
                workspace.lend("target buffer", image.shape, 1) as keep_buffer,
            ):

                def begin(session: Session) -> None:
                    session.set_image(image[None])
                    session.set_target_buffer(np.zeros(image.shape, np.uint8))
                    keep_image()
                    keep_buffer()

                await workspace.change(refusing(begin))
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

    async def upload_segment(self, request: Request) -> Response:
        """Begins a target, with a segmentation if there is something in it."""

        async def work() -> Response:
            async with self._mask_form(request) as form, self._turn:
                with self._image() as workspace, self._memory.lend("mask", math.prod(self._shape)):
                    mask = await asyncio.to_thread(read_compressed_npy, _file_of(form), self._shape)

                    def begin(session: Session) -> None:
                        session.reset_interactions()
                        if mask.any():
                            session.add_initial_seg_interaction(mask)

                    await workspace.change(refusing(begin))
            return JSONResponse({"status": "ok"})

        return await self._answer(request, work)

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

    async def _add_drawing(self, request: Request, kind: DrawingKind) -> Response | None:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return None

        async def work() -> Response:
            async with self._mask_form(request) as form, self._turn:
                room = 2 * math.prod(self._shape)  # the mask as it came, and what is drawn in it
                with self._image() as workspace, self._memory.lend("mask", room):
                    sign = bytes(form.get("positive_click", b"")).lower()
                    positive = sign in (b"true", b"1", b"yes")
                    crop, bounds = await asyncio.to_thread(
                        _read_drawing, _file_of(form), self._shape, kind
                    )

                    def add(session: Session) -> None:
                        add_drawing(session, kind, crop, positive, bounds)

                    return await self._predict(request, workspace, kind, add)

        return await self._answer(request, work)

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
            async with self._turn:
                with self._image() as workspace:
                    return await self._predict(request, workspace, kind, parse(body))

        return await self._answer(request, work)

    async def _answer(self, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
        """Does some work; tells the user why if it is refused."""
        try:
            if self._needs_key and "authorization" not in request.headers:
                raise RefusedError(UPDATE)
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
        await workspace.predict(kind, refusing(add), watch(request, self._is_stopping))
        mask = await workspace.read(lambda session: pack_mask(session.target_buffer))
        return Response(
            mask,
            media_type="application/octet-stream",
            headers={"Content-Encoding": "gzip"},
        )

    @asynccontextmanager
    async def _form(
        self, request: Request, file_bytes: int
    ) -> AsyncIterator[Mapping[str, memoryview]]:
        """Gives the parts of a form, whose file has about as many bytes at most.

        It is received before its turn comes, so that a slow client holds up nobody.
        """
        most = file_bytes + self._limits.json_bytes
        async with receiving(request, self._memory, most, self._limits) as body:
            content_type = request.headers.get("content-type", "")
            yield await asyncio.to_thread(read_form, content_type, body)

    @asynccontextmanager
    async def _mask_form(self, request: Request) -> AsyncIterator[Mapping[str, memoryview]]:
        """Gives the parts of a form with a mask of the image's shape, which takes a byte a voxel.

        Raises:
            RefusedError: there is no image.
        """
        with self._image():
            voxels = math.prod(self._shape)
        async with self._form(request, voxels) as form:
            yield form


def pack_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """Returns a mask as clients expect it: bits in C order, first bits highest, within gzip.

    Args:
        mask: (z, y, x), not 0 inside of the target.
    """
    return gzip.compress(np.packbits(mask).tobytes(), COMPRESSION)


def _read_drawing(
    file: memoryview, shape: tuple[int, ...], kind: DrawingKind
) -> tuple[npt.NDArray[np.bool_], list[list[int]]]:
    """Returns a drawing, and where it lies in an image of a shape."""
    # Where the user took away from an earlier drawing, the client's 0 - 1 has become 255.
    drawn = read_compressed_npy(file, shape) == 1
    extent = bounding_range(drawn)
    if extent is None:
        raise RefusedError(f"found an empty {kind}, please draw it again")
    bounds = [[a, b] for a, b in zip(*extent, strict=True)]
    return drawn[tuple(slice(a, b) for a, b in bounds)], bounds


def _file_of(form: Mapping[str, memoryview]) -> memoryview:
    """Returns a form's file.

    A client that sends a prompt again may have read its drawing to the end already.
    """
    file = form.get("file")
    if not file:
        raise RefusedError("the request did not arrive whole, please try again")
    return file


def _text_of(error: Exception) -> str:
    return error.detail if isinstance(error, HTTPException) else str(error)

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
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from gamt.axes import bounding_range
from gamt.server.engine import Engine, Workspace
from gamt.server.messages import Message, Voxel, parse_message
from gamt.server.uploads import read_compressed_npy, read_form, read_npy
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


class RefusedError(ValueError):
    """A request that isn't carried out; the text is for the user."""


class Legacy:
    """What all legacy clients share: an image and a segment, from the first upload on.

    Args:
        engine: does the work.
        needs_key: whether the server has a key, so that these clients are turned away.
        most_bytes: that an image may have.
    """

    def __init__(self, engine: Engine, *, needs_key: bool, most_bytes: int) -> None:
        self._engine = engine
        self._needs_key = needs_key
        self._most_bytes = most_bytes
        self._handlers: Mapping[str, Callable[[Request, bytes], Awaitable[Response]]] = {
            "/upload_image": self._upload_image,
            "/upload_segment": self._upload_segment,
            "/add_point_interaction": self._add_point,
            "/add_bbox_interaction": self._add_bbox,
            "/add_scribble_interaction": self._add_scribble,
            "/add_lasso_interaction": self._add_lasso,
        }
        self._turn = asyncio.Lock()  # one request after the other, as they share all there is
        self._workspace: Workspace | None = None
        self._target: npt.NDArray[np.uint8] = np.empty((0, 0, 0), np.uint8)
        self._uploader: str | None = None
        self._refusal: str | None = None

    async def answer(self, request: Request, body: bytes) -> Response | None:
        """Answers a request that has no lease.

        Args:
            request: to a path of this protocol.
            body: all of its body.

        Returns:
            The answer; None if the request is not of this protocol.
        """
        is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
        if not is_form and not LEGACY_JSON.search(body):
            return None
        if self._needs_key:
            return _refuse(UPDATE)
        try:
            async with self._turn:
                return await self._handlers[request.url.path](request, body)
        except ValueError as error:
            return _refuse(str(error))

    async def close(self) -> None:
        """Frees the image; clients are asked for it again when they send their next prompt."""
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        if self._workspace is not None:
            await self._workspace.close()
        self._workspace = self._uploader = None
        self._target = np.empty((0, 0, 0), np.uint8)

    async def _upload_image(self, request: Request, body: bytes) -> Response:
        try:
            await self._take_image(request, body)
        except ValueError as error:
            self._refusal = str(error)
            raise
        return _accept()

    async def _take_image(self, request: Request, body: bytes) -> None:
        image = read_npy(_file_of(_read_form(request, body)), self._most_bytes)
        uploader = request.client.host if request.client else None
        if self._uploader not in (None, uploader):
            logger.warning(
                "a second user of an old SlicerNNInteractive replaces the image of the first; "
                "from version 1.0.0 on, users don't share one"
            )
        await self._close()
        workspace = self._engine.open()
        target = np.zeros(image.shape, np.uint8)

        def begin(session: Session) -> None:
            session.set_image(image[None])
            session.set_target_buffer(target)

        try:
            await workspace.change(begin)
        except BaseException:
            await workspace.close()
            raise
        logger.info("an image without its voxels' size, as old SlicerNNInteractive sends it: 1 mm")
        self._workspace, self._target, self._uploader = workspace, target, uploader
        self._refusal = None

    def _find_workspace(self) -> Workspace:
        """Returns where the image is.

        Raises:
            RefusedError: there is none. Why one was refused is told once, so that the prompt after
                that makes the client send it again.
        """
        if self._workspace is None:
            refusal, self._refusal = self._refusal, None
            raise RefusedError(refusal or NO_IMAGE)
        return self._workspace

    async def _upload_segment(self, request: Request, body: bytes) -> Response:
        workspace = self._find_workspace()
        file = _file_of(_read_form(request, body))
        mask = await asyncio.to_thread(read_compressed_npy, file, self._target.shape)

        def begin(session: Session) -> None:
            session.reset_interactions()
            if mask.any():
                session.add_initial_seg_interaction(mask)

        await workspace.change(begin)
        return _accept()

    async def _add_point(self, request: Request, body: bytes) -> Response:
        point = parse_message(PointBody, body, "the point")
        return await self._predict(
            request,
            "point",
            lambda session: session.add_point_interaction(
                point.voxel_coord, point.positive_click, run_prediction=False
            ),
        )

    async def _add_bbox(self, request: Request, body: bytes) -> Response:
        box = parse_message(BoxBody, body, "the box")
        corners = zip(box.outer_point_one, box.outer_point_two, strict=True)
        bounds = [[min(pair), max(pair) + 1] for pair in corners]
        return await self._predict(
            request,
            "box",
            lambda session: session.add_bbox_interaction(
                bounds, box.positive_click, run_prediction=False
            ),
        )

    async def _add_scribble(self, request: Request, body: bytes) -> Response:
        return await self._add_drawing(request, body, "scribble")

    async def _add_lasso(self, request: Request, body: bytes) -> Response:
        return await self._add_drawing(request, body, "lasso")

    async def _add_drawing(
        self, request: Request, body: bytes, kind: Literal["scribble", "lasso"]
    ) -> Response:
        self._find_workspace()  # without an image, nothing is said of the drawing
        form = _read_form(request, body)
        is_positive = bytes(form.get("positive_click", b"")).lower() in (b"true", b"1", b"yes")
        mask = await asyncio.to_thread(read_compressed_npy, _file_of(form), self._target.shape)
        # Where a client takes voxels away from an earlier drawing, 0 - 1 has become 255.
        drawn = mask == 1
        extent = bounding_range(drawn)
        if extent is None:
            raise RefusedError(f"found an empty {kind}, expected a drawn one")
        bounds = [[a, b] for a, b in zip(*extent, strict=True)]
        crop = drawn[tuple(slice(a, b) for a, b in bounds)]

        def add(session: Session) -> None:
            add_drawing = getattr(session, f"add_{kind}_interaction")
            add_drawing(crop, is_positive, run_prediction=False, interaction_bbox=bounds)

        return await self._predict(request, kind, add)

    async def _predict(
        self, request: Request, kind: str, add: Callable[[Session], object]
    ) -> Response:
        workspace = self._find_workspace()
        await workspace.predict(kind, add, request.is_disconnected)
        return Response(
            await asyncio.to_thread(pack_mask, self._target),
            media_type="application/octet-stream",
            headers={"Content-Encoding": "gzip"},
        )


def pack_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """Returns a mask as clients expect it: bits in C order, first bits highest, within gzip.

    Args:
        mask: (z, y, x), not 0 inside of the target.
    """
    return gzip.compress(np.packbits(mask).tobytes(), COMPRESSION)


def _read_form(request: Request, body: bytes) -> Mapping[str, memoryview]:
    return read_form(request.headers.get("content-type", ""), body)


def _file_of(form: Mapping[str, memoryview]) -> memoryview:
    """Returns a form's file.

    Clients that send a prompt again may send a drawing that they have read to its end already.
    """
    file = form.get("file")
    if not file:
        raise RefusedError("the request did not arrive whole, please try again")
    return file


def _accept() -> Response:
    return JSONResponse({"status": "ok"})


def _refuse(message: str) -> Response:
    return JSONResponse({"status": "error", "message": message})

"""Files that the page sends, written to disk as they come."""

import shutil
from pathlib import Path

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from gamt.io.formats import recognise

MOST_FILES = 5000
"""Of a DICOM series, at most; one of whole-body CT has some 1500."""

MOST_NAME_BYTES = 200
"""Of a file's name: file systems take 255, and results get longer names."""

FREE_BYTES = 2**30
"""That an upload leaves free on the disk."""


def check_name(name: str) -> str:
    """Returns a file's name without folders.

    Raises:
        HTTPException: 400, it is none.
    """
    plain = name.replace("\\", "/").rpartition("/")[2]
    if (
        plain in ("", ".", "..")
        or not plain.isprintable()
        or len(plain.encode(errors="replace")) > MOST_NAME_BYTES
    ):
        raise HTTPException(400, f"found the file name {name[:80]!r}, expected a plain one")
    return plain


async def receive(request: Request, name: str, folder: Path) -> Path:
    """Writes what a request holds, one file or the several of a form, into a folder.

    Args:
        request: whose body hasn't been read yet.
        name: of the one file, or of the folder for those of a form, which have their own.
        folder: an empty one.

    Returns:
        The file, or the folder of the files; for `find_image`.

    Raises:
        HTTPException: the body's length is not known (411), it doesn't fit on the disk (413), it is
            a form without files, or one with too many, or a file's name is none (400).
        ClientDisconnect: the page is gone.
    """
    if "content-length" not in request.headers:
        raise HTTPException(411, "found no Content-Length, expected that of the body")
    size, free = int(request.headers["content-length"]), shutil.disk_usage(folder).free
    if size > free - FREE_BYTES:
        raise HTTPException(
            413, f"found {size} bytes to keep, expected {max(0, free - FREE_BYTES)} at most"
        )
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        path = folder / check_name(name)
        with path.open("xb") as file:
            async for part in request.stream():
                await run_in_threadpool(file.write, part)
        request.state.body_read = True
        return path
    async with request.form(max_files=MOST_FILES, max_fields=0) as form:
        request.state.body_read = True
        files = [one for one in form.getlist("files") if isinstance(one, UploadFile)]
        if not files:
            raise HTTPException(400, "found a form without 'files', expected those of a series")
        series = folder / check_name(name)
        series.mkdir()
        for number, one in enumerate(files):
            path = series / check_name(one.filename or "")
            if path.exists():  # in another folder of the same series
                path = series / f"{number}_{path.name}"
            with path.open("xb") as file:
                await run_in_threadpool(shutil.copyfileobj, one.file, file)
    return series


def find_image(sent: Path) -> Path:
    """Returns what of a file, or of a folder of files, is to be read as an image.

    Of a folder, that is itself if it holds a series, else the file that is an image, such as the
    header of one that names the file of its data.
    """
    if not sent.is_dir() or recognise(sent) is not None:
        return sent
    return next((one for one in sorted(sent.iterdir()) if recognise(one) is not None), sent)

"""Downloads checkpoints: resumed where they were cut, verified before they get their names.

Servers aren't trusted: no more is written than the checkpoint's size, no address is followed but
those of the web, and none without TLS from one with it, and one that stalls is given up.

Why not gdown (6.5.1): a later call resumes a partial file without knowing of which version it is,
and joined the first 1 MB of one file with the rest of the file that replaced it; where no SHA-256
is published nothing would tell. It stores a login page as the checkpoint, and gives up at the first
HTTP 503. `test_download.py` has a test for each of these. Of this file, it would replace `_Page`.
"""

import errno
import http.client
import json
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from textwrap import shorten
from typing import IO, Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from filelock import FileLock, Timeout

import gamt
from gamt.io.files import atomic_write
from gamt.segmenters.checkpoints import Checkpoint, CheckpointError, record_path, verify

logger = logging.getLogger("gamt")

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in all; the latter None where they aren't known."""

PAUSES_S = (1.0, 2.0, 4.0)
"""Before each further attempt that follows one without progress."""

ATTEMPTS = 50
"""At most so many for a source, however much each of them brings."""

TIMEOUT_S = 30.0
"""Longest silence of a server."""

STALL_S = 60.0
STALL_BYTES = 2**16
"""A server that sends less than these in this time is as good as silent."""

LARGEST_EXCESS = 2
"""How many times its approximate size a checkpoint may have whose exact size nobody published."""

BLOCK_BYTES = 2**18
PAGE_BYTES = 2**16  # web pages are read no further
TITLE_LENGTH = 80

PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be another one a little later."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DownloadError(ValueError):
    """A checkpoint that can't be downloaded or copied."""


class _SourceError(Exception):
    """A source that doesn't have the file, and why."""


class _PassingError(Exception):
    """A failed attempt that is worth another, and why it failed."""


class _ChangedError(_PassingError):
    """The partial file is not the beginning of the source's file."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """The file that a partial file is the beginning of; kept beside it, to join no other's rest.

    Attributes:
        url: the source.
        validator: the server's ETag or date of change; None if it gave none.
        total: size of the whole file in bytes; None if the server didn't say.
    """

    url: str
    validator: str | None
    total: int | None


def fetch(
    checkpoint: Checkpoint,
    folder: Path,
    source: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Path, str]:
    """Puts a checkpoint's file into a folder, unless it is there already.

    What was fetched before an interruption is kept beside it, with the suffix ``.part``, and the
    next call goes on from there. Processes that fetch the same file wait for each other.

    Args:
        checkpoint: what to fetch.
        folder: where to; made where there is none.
        source: a file to copy instead; None fetches it from the mirror at the URL in the variable
            GAMT_WEIGHTS_MIRROR, where the file must have the manifest's name, or else from its
            publisher.
        progress: called while it is fetched.

    Returns:
        The file, and what vouches for it, in a few words.

    Raises:
        DownloadError: no source has the file, or what came is another file than the manifest's.
        OSError: `folder` can't be written to, or its disk is full; then nothing of the file is
            left there. It names the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / checkpoint.file
    with _alone(target):
        if target.is_file():
            try:
                return target, verify(checkpoint, target)
            except CheckpointError as error:
                logger.warning("%s: %s; it is replaced", target, error)
        if source is None:
            return target, _download(checkpoint, target, progress)
        return target, _copy(checkpoint, source, target)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: another process fetches it; waiting for that", target)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _copy(checkpoint: Checkpoint, source: Path, target: Path) -> str:
    try:
        verified = verify(checkpoint, source, record_path(target))
        _check_space(target.parent, source.stat().st_size)
        with source.open("rb") as original, atomic_write(target) as file:
            shutil.copyfileobj(original, file, BLOCK_BYTES)
    except CheckpointError as error:
        raise DownloadError(f"{source}: this isn't {checkpoint.file}: {error}") from error
    except _SourceError as error:
        raise DownloadError(f"{source}: {error}") from error
    return verified


def _download(checkpoint: Checkpoint, target: Path, progress: Progress) -> str:
    part = target.with_name(f"{target.name}.part")
    reasons = []
    for url in _sources(checkpoint):
        try:
            _download_from(url, part, checkpoint, progress)
            verified = verify(checkpoint, part, record_path(target))
            part.replace(target)
            _discard(part)
            return verified
        except _SourceError as error:
            reasons.append(f"{url}: {error}")
        except CheckpointError as error:
            _discard(part)
            reasons.append(f"{url}: this isn't {checkpoint.file}: {error}")
        if url != checkpoint.url:
            logger.warning("%s; going on with the publisher", reasons[-1])
    raise DownloadError(
        f"{'; '.join(reasons)}. Get it by hand from {checkpoint.url} and then: "
        f"gamt weights fetch {checkpoint.name} --from FILE"
    )


def _sources(checkpoint: Checkpoint) -> list[str]:
    mirror = os.environ.get("GAMT_WEIGHTS_MIRROR")
    mirrored = f"{mirror.rstrip('/')}/{quote(checkpoint.file)}" if mirror else None
    return [*([mirrored] if mirrored else []), checkpoint.url]


def _download_from(url: str, part: Path, checkpoint: Checkpoint, progress: Progress) -> None:
    """Makes attempts until all of the file is in `part`, or nothing more comes."""
    pauses, attempts = iter(PAUSES_S), 0
    while True:
        attempts += 1
        before = _size(part)
        try:
            return _attempt(url, part, checkpoint, progress)
        except _PassingError as error:
            if isinstance(error, _ChangedError):
                _discard(part)
            if _size(part) > before:
                pauses = iter(PAUSES_S)
            pause = next(pauses, None)
            if pause is None or attempts == ATTEMPTS:
                raise _SourceError(str(error)) from error
            logger.warning("%s: %s; trying again in %g s", url, error, pause)
            time.sleep(pause)


def _attempt(url: str, part: Path, checkpoint: Checkpoint, progress: Progress) -> None:
    """Adds to `part` what it lacks, as far as the server gets."""
    origin = _read_origin(part)
    done = _size(part) if origin and origin.url == url else 0
    headers = {}
    if origin and done:
        if done == origin.total:
            return
        headers["Range"] = f"bytes={done}-"
        if origin.validator:
            headers["If-Range"] = origin.validator  # another file by now comes whole
    with _open(url, headers) as response:
        if done and response.status == http.client.PARTIAL_CONTENT:
            start, total = _content_range(response)
            if start != done or (origin and origin.total != total):
                raise _ChangedError("the file has changed there")
        elif response.status == http.client.OK:
            done, total = 0, _content_length(response)
        else:
            raise _SourceError(f"found HTTP {response.status}, expected {http.client.OK}")
        most = _most_bytes(checkpoint, total)
        _check_space(part.parent, (total or 0) - done)
        with _naming_full_disk(part):
            if not done:
                part.unlink(missing_ok=True)  # before it is described as another file's
                _write_origin(part, _Origin(url, _validator(response), total))
            with part.open("ab") as file:
                progress(done, total)
                for block in _blocks(response):
                    done += len(block)
                    if most is not None and done > most:
                        raise CheckpointError(f"found more than {most} bytes")
                    file.write(block)
                    progress(done, total)
    expected = checkpoint.size if total is None else total
    if expected is not None and done < expected:
        raise _PassingError(f"the connection was cut after {done} of {expected} bytes")


def _most_bytes(checkpoint: Checkpoint, total: int | None) -> int | None:
    """Returns at how many bytes an answer is cut off, or None if nothing is known of its size.

    Args:
        checkpoint: what is asked for.
        total: the size of the whole file in bytes, as the server says it; None if it doesn't.
    """
    most = checkpoint.size
    if most is None and checkpoint.approximate_size is not None:
        most = LARGEST_EXCESS * checkpoint.approximate_size
    if total is None:
        return most
    if checkpoint.size not in (None, total):
        raise _SourceError(f"found {total} bytes, expected {checkpoint.size}")
    if most is not None and total > most:
        raise _SourceError(f"found {total} bytes, expected {most} at most")
    return total


@contextmanager
def _naming_full_disk(part: Path) -> Iterator[None]:
    """Removes a partial file for which the disk is too small, so that it has room for others."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            _discard(part)
        raise OSError(error.errno, error.strerror, os.fspath(part)) from error


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    since, came = time.monotonic(), 0
    while True:
        try:
            # Not `read`, which in some versions of Python keeps what came before a cut to itself.
            block = response.read1(BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _PassingError(_reason(error)) from error
        if not block:
            return
        yield block
        came += len(block)
        seconds = time.monotonic() - since
        if seconds >= STALL_S:
            if came < STALL_BYTES:
                raise _PassingError(f"no more than {came} bytes came in {seconds:.0f} s")
            since, came = time.monotonic(), 0


@contextmanager
def _open(url: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    """Opens a URL, and what is behind the page that Google Drive shows before large files."""
    schemes = ("https",) if _scheme(url) == "https" else ("https", "http")
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(), _RedirectHandler(schemes)
    )
    headers = {"User-Agent": f"gamt/{gamt.__version__}"} | headers
    _check_scheme(url, schemes)
    with _request(opener, url, headers) as response:
        if response.headers.get_content_type() != "text/html":
            yield response
            return
        page = _Page()
        page.feed(_first_bytes(response).decode(errors="replace"))
        address = page.download_url(response.geturl())
    if address is not None:
        _check_scheme(address, schemes)
        with _request(opener, address, headers) as response:
            if response.headers.get_content_type() != "text/html":
                yield response
                return
    title = shorten(page.title, TITLE_LENGTH) or "without a title"
    raise _SourceError(f"a web page came instead of the file: {title}")


def _first_bytes(response: http.client.HTTPResponse) -> bytes:
    text = b""
    for block in _blocks(response):
        text += block
        if len(text) >= PAGE_BYTES:
            break
    return text[:PAGE_BYTES]


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise _SourceError(str(error)) from error


def _check_scheme(url: str, schemes: Sequence[str]) -> None:
    scheme = _scheme(url)
    if scheme not in schemes:
        raise _SourceError(
            f"found an address of {scheme or 'no'} scheme, expected {' or '.join(schemes)}"
        )


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows a server to addresses of some schemes alone, and reads nothing on the way."""

    def __init__(self, schemes: Sequence[str]) -> None:
        self._schemes = schemes

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        fp.close()  # or the base class reads all of what may never end
        _check_scheme(newurl, self._schemes)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(
    opener: urllib.request.OpenerDirector, url: str, headers: dict[str, str]
) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(url, headers=headers)
        response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        why = " ".join(f"HTTP {error.code} {error.reason}".split())
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _ChangedError(why) from error
        if error.code in PASSING_STATUS:
            raise _PassingError(why) from error
        raise _SourceError(why) from error
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(_reason(error)) from error
    except ValueError as error:
        raise _SourceError(str(error)) from error
    return response


class _Page(HTMLParser):
    """The title of a web page, and the form of Google Drive's question on it, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._in_title = False
        self._in_form = False
        self._action: str | None = None
        self._fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found: dict[str, Any] = dict(attrs)
        self._in_title = tag == "title"
        if tag == "form" and found.get("id") == "download-form":
            self._in_form, self._action = True, found.get("action")
        if tag == "input" and self._in_form and found.get("type") == "hidden":
            self._fields[found.get("name") or ""] = found.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title = " ".join(f"{self.title} {data}".split())

    def download_url(self, page: str) -> str | None:
        """Returns what sending the form asks for; None without a form.

        Args:
            page: the page's own URL.

        Raises:
            _SourceError: the form's address is none.
        """
        if self._action is None:
            return None
        try:
            address = urljoin(page, self._action)
        except ValueError as error:
            raise _SourceError(f"found a form without a valid address: {error}") from error
        return f"{address.partition('?')[0]}?{urlencode(self._fields)}"


def _content_range(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Returns the first byte that is sent, and the size of the whole file."""
    text = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", text.strip())
    if not found:
        raise _SourceError(f"found Content-Range {text!r}, expected bytes FIRST-LAST/TOTAL")
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _content_length(response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    tag = response.headers.get("ETag")
    # A weak tag says that two files mean the same, not that their bytes are the same.
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return (isinstance(cause, OSError) and cause.strerror) or str(cause) or type(cause).__name__


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _SourceError(f"{needed} bytes don't fit into {folder}, where {free} are free")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _origin_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_origin(part: Path) -> _Origin | None:
    try:
        return _Origin(**json.loads(_origin_path(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # or cut short; then it is of no use
        return None


def _write_origin(part: Path, origin: _Origin) -> None:
    _origin_path(part).write_text(json.dumps(asdict(origin)), encoding="utf-8")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)

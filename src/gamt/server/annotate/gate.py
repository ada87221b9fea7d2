"""Who gets to the page: browsers on this machine that have shown the key, and no other site's page.

The server listens on this machine alone, where any program and any site that the user visits may
knock. A browser shows the key once, in the address, and has a cookie from then on.
"""

import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
"""What this machine is called in addresses; under any other name it is asked by a site that has
pointed its own name here."""

API = "/api/"
"""The paths below that are asked by the page's script, not opened by the browser."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer that says nothing else about it."""

NO_COOKIE = "this page needs the address that gamt annotate has printed, with the key in it"


class PageGate:
    """ASGI middleware: lets the requests of the page's own browser through, with strict headers."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        """Takes what a browser has to show, in the address or as the cookie that it gets for it."""
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        request = Request(scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_api = path.startswith(API)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store" if is_api else "no-cache")
            await send(message)

        answer = self._check_asker(request, is_api)
        if answer is None and path == "/" and "key" in request.query_params:
            answer = self._exchange_key(request)
        elif answer is None:
            answer = self._check_cookie(request, is_api)
        await (answer or self._app)(scope, receive, send_guarded)

    def _check_asker(self, request: Request, is_api: bool) -> Response | None:
        """Returns the answer to those who ask from elsewhere; None for all others."""
        host = _split_host(request.headers)
        if host is None or host[0] not in LOCAL_NAMES:
            found = request.headers.get("host", "")[:80]
            return _deny(421, f"found the host {found!r}, expected 127.0.0.1 or localhost", is_api)
        if not _is_own(request, is_api):
            return _deny(403, "found a request of another site's page", is_api)
        return None

    def _check_cookie(self, request: Request, is_api: bool) -> Response | None:
        """Returns the answer to those without the cookie; None for all others."""
        shown = _cookies(request.headers).get(_cookie_name(request), "")
        return None if self._fits(shown) else _deny(401, NO_COOKIE, is_api)

    def _exchange_key(self, request: Request) -> Response:
        """Gives a cookie for the key, and takes the key out of the address."""
        if not self._fits(request.query_params["key"]):
            return _deny(401, "found another key than that of this run of gamt annotate", False)
        root = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{root}/", 303)
        answer.set_cookie(
            _cookie_name(request),
            self._key.decode(),
            path=root or "/",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _fits(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode(), self._key)


def _is_own(request: Request, is_api: bool) -> bool:
    """Whether no other site's page has made the browser ask this.

    A browser may open the page itself from anywhere: it shows nothing without the cookie.
    """
    headers = request.headers
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return False
    site = headers.get("sec-fetch-site")
    return not is_api or site in (None, "same-origin") or (site, request.method) == ("none", "GET")


def _split_host(headers: Headers) -> tuple[str, int] | None:
    """Returns name and port that the browser knows the server by; None if there are none."""
    try:
        parts = urlsplit("//" + headers.get("host", ""))
        return parts.hostname or "", parts.port or 80
    except ValueError:
        return None


def _cookie_name(request: Request) -> str:
    """Returns a name of its own for each server: cookies don't tell ports apart."""
    host = _split_host(request.headers)
    assert host is not None  # it was checked
    return f"gamt-{host[1]}"


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        return {name: one.value for name, one in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def _deny(status: int, detail: str, is_api: bool) -> Response:
    if is_api:
        return JSONResponse({"detail": detail}, status)
    # Nothing in it comes from the request but the host's name, as Python's repr shows it.
    text = detail.replace("&", "&amp;").replace("<", "&lt;")
    return HTMLResponse(f"<!doctype html><title>gamt annotate</title><p>{text}", status)

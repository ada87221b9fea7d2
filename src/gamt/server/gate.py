"""Who gets to a path's handler: those with the key, and each protocol's clients to its own."""

import hmac
import logging
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request, Response

logger = logging.getLogger("gamt.server")

LEASE_HEADER = "X-Lease-Token"
"""Holds the token of protocol v2, which clients of the legacy one never send."""

Handler = Callable[[Request], Awaitable[Response]]

LegacyHandler = Callable[[Request], Awaitable[Response | None]]
"""Answers a request without a token; None if it isn't the legacy protocol's."""


class Gate:
    """Lets requests through to the handlers of both protocols.

    Clients of the legacy protocol have no field for a key. Without one they are let through all the
    same: their handlers tell them what to do.
    """

    def __init__(self, api_key: str | None) -> None:
        """Takes what clients have to show; None for nothing."""
        self._expected = None if api_key is None else api_key.encode()

    def guard(self, handler: Handler, legacy: LegacyHandler | None = None) -> Handler:
        """Returns what answers in place of a handler of protocol v2.

        Args:
            handler: of protocol v2.
            legacy: answers requests without a token to the same path.
        """

        async def pass_on(request: Request) -> Response:
            logger.debug("%s %s", request.method, request.scope["path"])
            if legacy is not None and LEASE_HEADER not in request.headers:
                self._check_shown(request)
                answer = await legacy(request)
                if answer is not None:
                    return answer
            self._check(request)
            return await handler(request)

        return pass_on

    def guard_legacy(self, handler: Handler) -> Handler:
        """Returns what answers in place of a handler that the legacy protocol alone has."""

        async def pass_on(request: Request) -> Response:
            logger.debug("%s %s", request.method, request.scope["path"])
            self._check_shown(request)
            return await handler(request)

        return pass_on

    def _check_shown(self, request: Request) -> None:
        """Refuses a wrong key, but not a missing one."""
        if "authorization" in request.headers:
            self._check(request)

    def _check(self, request: Request) -> None:
        if self._expected is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise HTTPException(401, "Missing bearer token", {"WWW-Authenticate": "Bearer"})
        if not hmac.compare_digest(key.strip().encode("latin-1"), self._expected):
            raise HTTPException(401, "Invalid bearer token", {"WWW-Authenticate": "Bearer"})


def token_of(request: Request) -> str:
    """Returns a request's token.

    Raises:
        HTTPException: 410; there is none.
    """
    token: str | None = request.headers.get(LEASE_HEADER)
    if token is None:
        raise HTTPException(410, "lease token missing")
    return token

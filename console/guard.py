"""Who may come in, and what they may do: before any page is asked for.

A request that changes something has to come from our own pages. Browsers say so in `Sec-Fetch-Site`, on https and on
this machine; elsewhere they send `Origin`, which must be the address that was asked. What says neither is no browser
that somebody else could have sent, and yet it is refused: a script says `Origin` too.
"""

import base64
import binascii
import hmac
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from console.settings import Settings, is_loopback
from console.throttle import Throttle

USER = "admin"
NOBODY = "local"
"""Who acts where nobody has to sign in: whoever has an account on this machine."""

_OPEN = {"/healthz"}
_SAFE = {"GET", "HEAD", "OPTIONS"}
_MOST_WHO = 200

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

Receiving = Callable[[], Awaitable[Any]]


class Guard:
    """Around the application. `scope["state"]["who"]` is who acts."""

    def __init__(self, app: ASGIApp, settings: Settings, host: str) -> None:
        self._app = app
        self._settings = settings
        self._only_here = is_loopback(host) and not settings.signs_in
        self._throttle = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        headers = Headers(scope=scope)
        refusal = None
        if scope["path"] not in _OPEN:
            refusal = (
                self._wrong_host(headers)
                or self._not_signed_in(scope, headers)
                or self._may_not_change(scope, headers)
            )
        await (refusal or self._app)(scope, receive, send_guarded)

    def _wrong_host(self, headers: Headers) -> Response | None:
        """A page of somebody else whose name leads to this machine (DNS rebinding) asks under that name."""
        if self._only_here and not is_loopback(_host_name(headers.get("host", ""))):
            return _said("Ask for this page as localhost or 127.0.0.1.", 421)
        return None

    def _not_signed_in(self, scope: Scope, headers: Headers) -> Response | None:
        state = scope.setdefault("state", {})
        if not self._settings.signs_in:
            state["who"] = NOBODY
            return None
        named = headers.getlist(self._settings.user_header) if self._settings.user_header else []
        # Two of them: one may be the client's own, which the proxy did not take away.
        if len(named) == 1 and named[0].strip():
            state["who"] = named[0].strip()[:_MOST_WHO]
            return None
        if self._settings.password is None:
            return _said("The proxy did not say who you are.", 401)
        address = (scope.get("client") or ("",))[0]
        wait = self._throttle.wait(address)
        if wait:
            return _said(
                "Too many failed logins: wait a moment.", 429, {"retry-after": str(max(1, math.ceil(wait)))}
            )
        given = headers.get("authorization")
        if given is not None and self._is_right(given):
            state["who"] = USER
            return None
        if given is not None:
            self._throttle.failed(address)
        return _said(
            "Sign in as admin with the console's password.",
            401,
            {"www-authenticate": 'Basic realm="batch-receiver", charset="UTF-8"'},
        )

    def _is_right(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        password = self._settings.password
        wanted = f"{USER}:{password.reveal() if password else ''}".encode()
        # Both in full, so that the time it takes says nothing about where they differ.
        return scheme.lower() == "basic" and hmac.compare_digest(given, wanted)

    def _may_not_change(self, scope: Scope, headers: Headers) -> Response | None:
        if scope["method"] in _SAFE:
            return None
        if not _is_from_our_pages(headers):
            return _said("What changes something has to come from the console's own pages.", 403)
        if self._settings.read_only:
            return _said("This console only shows: CONSOLE_READ_ONLY is on.", 403)
        return None


def _is_from_our_pages(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        return False
    host = headers.get("host", "")
    return bool(host) and origin.scheme in {"http", "https"} and origin.netloc.lower() == host.lower()


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _said(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{sentence}\n", status, headers=dict(headers or {}))


def _add_headers(message: Any) -> None:
    present = {name for name, _ in message["headers"]}
    more = [
        (name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in present
    ]
    if b"cache-control" not in present:
        more.append((b"cache-control", b"no-store"))
    message["headers"] = [*message["headers"], *more]

"""What keeps readers safe: headers, cookies, forms that only our own pages can send, sizes, limits.

A form carries a signed text that is bound to a secret in the browser's cookies: the session's, or for those who are not
signed in a visitor's. No other site can read or guess it. As a second wall the browser's own word on where a request
comes from (`Sec-Fetch-Site`, `Origin`) must not name another site.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from encore.hub import accounts
from encore.hub.accounts import Reader
from encore.hub.settings import HubSettings
from encore.hub.tokens import digest_of, new_secret, sign, unsign
from encore.hub.web.hub import Hub, hub_of, reader_of

LARGEST_BODY = 64 * 1024
"""Bytes of a form."""

FORM_LIFE = 12 * 3600
"""Seconds for which a form can be sent."""

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
"""Of a run's report, which is a file of its own with its style and pictures inside, and no scripts."""

_log = logging.getLogger(__name__)

_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), interest-cohort=()",
}


class Guard:
    """ASGI middleware: finds out who is signed in, bounds bodies, refuses uploads, sets headers.

    Args:
        app: what is guarded.
        hub: the web process's own things.
        fault: makes the answer to a fault of ours.
    """

    def __init__(self, app: ASGIApp, hub: Hub, fault: Callable[[Request], Response]) -> None:
        self.app, self.hub, self.fault = app, hub, fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["reader"] = await self._reader(headers)
        refused = _refused(scope, headers)

        # what is asked for without its body is made like the rest, but for streams, which have no end
        asked_for_head = scope["method"] == "HEAD" and not scope["path"].endswith("/events")
        if asked_for_head:
            scope["method"] = "GET"
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.body" and asked_for_head:
                message = {**message, "body": b""}
            if message["type"] == "http.response.start":
                started = True
                set_headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    set_headers.setdefault(name, value)
                if self.hub.settings.https:
                    set_headers.setdefault("strict-transport-security", "max-age=31536000")
                if state["reader"] is not None:
                    set_headers["cache-control"] = "private, no-store"
                elif scope["method"] in {"GET", "HEAD"}:
                    set_headers.setdefault("cache-control", "no-cache")
                    set_headers.add_vary_header("Cookie, HX-Request")
            await send(message)

        if refused is not None:
            await Response(refused[1] + "\n", status_code=refused[0], media_type="text/plain")(scope, receive, guarded)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_BODY:
                raise HTTPException(413, "the form is too large")
            return message

        try:
            await self.app(scope, bounded, guarded)
        except Exception:
            _log.exception("%s %s", scope["method"], scope["path"])
            if started:
                raise
            await self.fault(Request(scope))(scope, receive, guarded)

    async def _reader(self, headers: Headers) -> Reader | None:
        secret = cookie_parser(headers.get("cookie", "")).get(session_cookie(self.hub.settings))
        if not secret:
            return None
        return await run_in_threadpool(accounts.reader_of, self.hub.database, secret)


def _refused(scope: Scope, headers: Headers) -> tuple[int, str] | None:
    path, query = scope["path"], scope["query_string"]
    if "\x00" in path or b"%00" in query or b"\x00" in query:
        return 400, "an address has no NUL"
    # mail programs may send their one click as a form with parts (RFC 8058); nobody reads it
    if headers.get("content-type", "").startswith("multipart/") and not path.startswith("/unsubscribe/"):
        return 415, "files are not taken here"
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > LARGEST_BODY:
        return 413, "the form is too large"
    return None


# cookies


def session_cookie(settings: HubSettings) -> str:
    """What the session's cookie is called; by https a name that other hosts of the domain cannot set."""
    return "__Host-session" if settings.https else "session"


def visitor_cookie(settings: HubSettings) -> str:
    """What the cookie is called that binds forms to browsers that are not signed in."""
    return "__Host-visitor" if settings.https else "visitor"


def set_session(response: Response, settings: HubSettings, secret: str) -> None:
    """Keep a session's secret in the browser, out of reach of scripts and other sites."""
    _set_cookie(response, settings, session_cookie(settings), secret, int(accounts.SESSION_LIFE.total_seconds()))


def _set_cookie(response: Response, settings: HubSettings, name: str, value: str, seconds: int | None) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", secure=settings.https, httponly=True, samesite="lax")


# forms


def form_token(request: Request) -> str:
    """What a form carries; on pages for those who are not signed in `with_visitor` has to set the cookie."""
    hub = hub_of(request)
    return sign(hub.settings, "form", digest_of(_binding(request)))


def _binding(request: Request) -> str:
    reader = reader_of(request)
    if reader is not None:
        return reader.secret
    if getattr(request.state, "visitor", None) is None:
        cookie = request.cookies.get(visitor_cookie(hub_of(request).settings))
        request.state.visitor = cookie or new_secret()
        request.state.new_visitor = not cookie
    visitor: str = request.state.visitor
    return visitor


def with_visitor(request: Request, response: Response) -> Response:
    """Set the visitor's cookie where a form was bound to a new one."""
    if getattr(request.state, "new_visitor", False):
        settings = hub_of(request).settings
        _set_cookie(response, settings, visitor_cookie(settings), request.state.visitor, None)
        response.headers["cache-control"] = "private, no-store"
    return response


async def checked_form(request: Request) -> dict[str, str]:
    """The fields of a form that one of our own pages sent.

    Raises:
        HTTPException: 403, it is of another site, another browser, or too old.
    """
    settings = hub_of(request).settings
    if not _comes_from_here(request):
        raise HTTPException(403, "the form was sent from another site")
    fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    token = request.headers.get("x-form-token") or fields.pop("form_token", "")
    bound = unsign(settings, "form", token, FORM_LIFE) if token else None
    if bound is None or bound != digest_of(_binding(request)):
        raise HTTPException(
            403, "the form is too old or of another browser: go back, reload the page, and send it again"
        )
    return fields


def _comes_from_here(request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("origin")
    if origin is None or origin == "null":
        return origin is None
    # a proxy may have put another Host, but the browser says by what address it came
    return urlsplit(origin).netloc in {request.headers.get("host"), urlsplit(hub_of(request).settings.base_url).netloc}


Form = Annotated[dict[str, str], Depends(checked_form)]
"""The checked fields of a form."""


def require_reader(request: Request) -> Reader:
    """Who is signed in.

    Raises:
        HTTPException: 401, nobody is.
    """
    reader = reader_of(request)
    if reader is None:
        raise HTTPException(401, "sign in first")
    return reader


SignedIn = Annotated[Reader, Depends(require_reader)]


def client_address(request: Request) -> str:
    """Whom limits count: the address that the request came from, or that a trusted proxy names.

    Of an IPv6 address the first 64 bits, which one household holds.
    """
    address = request.client.host if request.client else "unknown"
    proxies = hub_of(request).settings.trusted_proxies
    if address in proxies:
        named = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        address = next((one for one in map(_without_port, reversed(named)) if one and one not in proxies), address)
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:60]
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped  # what an IPv4 address is called on a socket for both
        return str(mapped or ipaddress.ip_network(f"{parsed}/64", strict=False))
    return str(parsed)


def _without_port(named: str) -> str:
    """`192.0.2.1` of `192.0.2.1:4711`, `2001:db8::1` of `[2001:db8::1]:4711`."""
    named = named.strip()
    if named.startswith("["):
        return named[1:].partition("]")[0]
    host, colon, port = named.partition(":")
    return host if colon and port.isdigit() else named

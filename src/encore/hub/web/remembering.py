"""Pages as they were a few seconds ago, for readers who are not signed in: many of them see the same.

Only what is the same for everybody is kept: answers to GET with status 200 that set no cookie and do not stream, asked
for without any cookie of ours.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 2**20
"""Of all pages together."""

LARGEST = 512 * 1024
"""Bytes of a page that is kept."""

_NEVER = ("/static/", "/runs", "/submitted/", "/healthz")
"""What is kept already, or changes while it is watched."""

_KINDS = ("text/html", "application/json", "application/atom+xml", "application/rss+xml", "application/feed+json")


@dataclass
class _Kept:
    until: float
    start: Message
    body: bytes


class Remembering:
    """ASGI middleware, inside of `Guard`.

    Args:
        app: what makes the pages.
        seconds: how old a page may be; 0 keeps none.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app, self.seconds = app, seconds
        self._pages: OrderedDict[tuple[str, bytes, bool], _Kept] = OrderedDict()  # the oldest first
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "GET" or not self.seconds:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "cookie" in headers or scope["path"].startswith(_NEVER):
            await self.app(scope, receive, send)
            return
        key = (scope["path"], scope["query_string"], headers.get("hx-request") == "true")
        kept = self._pages.get(key)
        if kept is not None and kept.until > time.monotonic():
            await send({**kept.start, "headers": list(kept.start["headers"])})
            await send({"type": "http.response.body", "body": kept.body})
            return
        started: Message | None = None

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = {**message, "headers": list(message["headers"])} if _is_for_all(message) else None
            elif message["type"] == "http.response.body" and started is not None and not message.get("more_body"):
                self._keep(key, started, message.get("body", b""))
            else:
                started = None  # it streams
            await send(message)

        await self.app(scope, receive, watched)

    def _keep(self, key: tuple[str, bytes, bool], start: Message, body: bytes) -> None:
        if len(body) > LARGEST:
            return
        self._drop(key)
        self._pages[key] = _Kept(time.monotonic() + self.seconds, start, body)
        self._bytes += len(body)
        while self._pages:
            oldest, kept = next(iter(self._pages.items()))
            if kept.until > time.monotonic() and self._bytes <= MOST_BYTES:
                break
            self._drop(oldest)

    def _drop(self, key: tuple[str, bytes, bool]) -> None:
        kept = self._pages.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.body)


def _is_for_all(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return (
        start["status"] == 200
        and headers.get("content-type", "").startswith(_KINDS)
        and "set-cookie" not in headers
        and "no-store" not in headers.get("cache-control", "")
    )

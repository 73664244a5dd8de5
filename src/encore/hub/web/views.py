"""The lists of the feed, the same for pages, feeds and the API."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, HTTPException, Query, Request
from pydantic import BeforeValidator, Field

from encore.hub import papers
from encore.hub.database import Paper
from encore.hub.papers import Filters, Period, Span
from encore.hub.search import recommendation
from encore.hub.tokens import sign, unsign
from encore.hub.web.hub import hub_of, reader_of
from encore.hub.web.security import client_address

MOST_PAGES = 200
"""Of a list; who looks for more should search."""


@dataclass
class View:
    """One page of a list.

    Attributes:
        title: what it shows.
        address: without format, filters and page.
        kind: `trending`, `new`, `day`, `week`, `month`, `search` or `recommended`.
        papers: on this page.
        page: its number, from 1.
        more: whether another follows.
        filters: what was left out.
        text: what was searched for.
        span, earlier, later: of a day, week or month.
        by_meaning: whether a search looked for meaning too.
        total: of a search.
        token: lets a feed reader see a list that is one reader's own.
    """

    title: str
    address: str
    kind: str
    papers: list[Paper]
    page: int
    more: bool
    filters: Filters = field(default_factory=Filters)
    text: str = ""
    span: Span | None = None
    earlier: Span | None = None
    later: Span | None = None
    by_meaning: bool = False
    total: int | None = None
    token: str = ""

    def link(self, *, format: str = "", page: int = 1, **changes: str | None) -> str:
        """The address of this list in another format, on another page, or with other filters."""
        values: dict[str, str | None] = {
            "q": self.text or None,
            "task": self.filters.task,
            "year": str(self.filters.year) if self.filters.year else None,
            "performed": "1" if self.filters.performed else None,
            "code": "1" if self.filters.code else None,
            "tag": self.filters.tag,
            "page": str(page) if page > 1 else None,
            "token": self.token if format else None,
            **changes,
        }
        query = urlencode({name: value for name, value in values.items() if value})
        address = self.address if self.address != "/" or not format else "/trending"
        return f"{address}{'.' + format if format else ''}{'?' + query if query else ''}"


@dataclass
class Wanted:
    """What a list's address asks for beside its path."""

    request: Request
    filters: Filters
    page: int


def _none_if_empty(value: object) -> object:
    """A field of a form that was left empty."""
    return None if value == "" else value


async def wanted(  # no thread is needed for it
    request: Request,
    task: Annotated[str | None, Query(max_length=80, description="papers of this task")] = None,
    year: Annotated[
        Annotated[int, Field(ge=1900, le=2200)] | None,
        BeforeValidator(_none_if_empty),
        Query(description="papers of this year"),
    ] = None,
    performed: Annotated[bool, Query(description="papers that Encore performs")] = False,
    code: Annotated[bool, Query(description="papers with public code")] = False,
    tag: Annotated[str | None, Query(max_length=40, description="papers to which you gave this tag")] = None,
    page: Annotated[int, Query(ge=1, le=MOST_PAGES, description="from 1")] = 1,
    token: Annotated[
        str | None, Query(max_length=300, description="of your own feeds, as your pages link them")
    ] = None,
) -> Wanted:
    """Filters and page of a list.

    Raises:
        HTTPException: 401, a tag is asked for and nobody says whose.
    """
    reader = reader_of(request)
    user_id = reader.id if reader else unsign(hub_of(request).settings, "feed", token, None) if token else None
    if tag and user_id is None:
        raise HTTPException(401, "tags are a reader's own: sign in to see yours")
    return Wanted(request, Filters(task or None, year, performed, code, tag or None, user_id), page)


def _own_token(asked: Wanted) -> str:
    """For feeds of a list that is one reader's own."""
    user_id = asked.filters.user_id
    return sign(hub_of(asked.request).settings, "feed", user_id) if user_id is not None else ""


List = Annotated[Wanted, Depends(wanted)]

Made = Callable[[], View]
"""Makes a list."""


def _later(make: Callable[..., View]) -> Callable[..., Any]:
    """A dependency with the parameters of `make`, whose answer makes the list in the thread of whoever asks for it.

    A list and its page are made in one thread then, where each would wait for a thread of its own.
    """

    async def dependency(**given: Any) -> Made:
        return partial(make, **given)

    dependency.__signature__ = inspect.signature(make, eval_str=True)  # type: ignore[attr-defined]
    return dependency


def _view(asked: Wanted, title: str, address: str, kind: str, span: Span | None = None, **options: bool) -> View:
    hub = hub_of(asked.request)
    size = hub.settings.page_size
    with hub.database.reading() as transaction:
        found = papers.listed(
            transaction,
            span=span,
            filters=asked.filters,
            performed_slugs=hub.catalogue.performed,
            offset=(asked.page - 1) * size,
            limit=size + 1,
            **options,
        )
        earlier, later = papers.neighbours(transaction, span) if span is not None else (None, None)
    more = len(found) > size and asked.page < MOST_PAGES
    token = _own_token(asked) if asked.filters.tag else ""
    return View(
        title, address, kind, found[:size], asked.page, more, asked.filters, "", span, earlier, later, token=token
    )


@_later
def trending(asked: List) -> View:
    """All papers, those with the most votes of late first."""
    return _view(asked, "Performed by Encore" if asked.filters.performed else "Trending", "/", "trending")


@_later
def new(asked: List) -> View:
    """All papers, the newest first."""
    return _view(asked, "New", "/new", "new", newest_first=True)


def of_span(period: Period) -> Callable[..., Any]:
    """The list of a day, week or month."""

    @_later
    def view(asked: List, text: str) -> View:
        try:
            span = Span.parse(period, text)
        except (ValueError, OverflowError):
            raise HTTPException(404, f"There is no {period} '{text[:20]}'.") from None
        return _view(asked, span_title(span), f"/{period}/{span.text}", period, span)

    return view


def span_title(span: Span) -> str:
    """`27 November 2026`, `Week 48, 2026` or `November 2026`."""
    if span.period == "day":
        return f"{span.first.day} {span.first:%B %Y}"
    if span.period == "week":
        year, week, _ = span.first.isocalendar()
        return f"Week {week}, {year}"
    return f"{span.first:%B %Y}"


@_later
def search(
    asked: List, q: Annotated[str, Query(max_length=500, description="words, or what it is about")] = ""
) -> View:
    """Papers that have the words, or mean the same."""
    hub = hub_of(asked.request)
    text = q.replace("\x00", "").strip()
    if text and reader_of(asked.request) is None:
        hub.limiter.count("search_client", client_address(asked.request))
    size = hub.settings.page_size
    found = hub.finder.find(text, asked.filters, hub.catalogue.performed, offset=(asked.page - 1) * size, limit=size)
    more = found.total > asked.page * size and asked.page < MOST_PAGES
    title = f"Search: {text}" if text else "Search"
    return View(
        title, "/search", "search", found.papers, asked.page, more, asked.filters, text,
        by_meaning=found.by_meaning, total=found.total,
    )  # fmt: skip


@_later
def recommended(asked: List) -> View:
    """What a reader may like, from their votes and tags.

    Raises:
        HTTPException: 401, nobody is signed in.
    """
    hub, user_id = hub_of(asked.request), asked.filters.user_id
    if user_id is None:
        raise HTTPException(401, "sign in to see what your votes and tags recommend")
    size = hub.settings.page_size
    with hub.database.reading() as transaction:
        found = recommendation.for_user(transaction, user_id, limit=size + 1, offset=(asked.page - 1) * size)
    more = len(found) > size
    return View(
        "For you", "/for-you", "recommended", found[:size], asked.page, more, asked.filters, token=_own_token(asked)
    )


def today() -> datetime.date:
    """In UTC, as days of the feed are."""
    return datetime.datetime.now(datetime.UTC).date()

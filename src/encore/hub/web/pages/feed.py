"""The feed: trending, new, by day, week and month, found by search, recommended; each as a page and as feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select

from encore.hub import papers
from encore.hub.database import Paper
from encore.hub.papers import Span
from encore.hub.web import views
from encore.hub.web.answers import is_partial, page
from encore.hub.web.hub import hub_of, reader_of
from encore.hub.web.syndication import atom, json_feed, rss
from encore.hub.web.views import Made, View

router = APIRouter(include_in_schema=False)


def _page(request: Request, view: View) -> Response:
    hub, reader = hub_of(request), reader_of(request)
    voted: set[int] = set()
    if reader is not None:
        with hub.database.reading() as transaction:
            voted = papers.voted(transaction, reader.id, view.papers)
    tasks = [] if is_partial(request) else hub.tasks()
    name = "papers.html" if is_partial(request) else "feed.html"
    return page(request, name, view=view, voted=voted, tasks=tasks)


def _add(path: str, view: Callable[..., Any]) -> None:
    """A list at `path` as a page, and at `path.atom`, `path.rss` and `path.json` as feeds."""
    feeds = path if path != "/" else "/trending"

    @router.get(feeds + ".atom")
    def as_atom(request: Request, view: Made = Depends(view)) -> Response:
        return atom(request, view())

    @router.get(feeds + ".rss")
    def as_rss(request: Request, view: Made = Depends(view)) -> Response:
        return rss(request, view())

    @router.get(feeds + ".json")
    def as_json(request: Request, view: Made = Depends(view)) -> Response:
        return json_feed(request, view())

    @router.get(path)  # last: its text would take a feed's ending too
    def as_page(request: Request, view: Made = Depends(view)) -> Response:
        return _page(request, view())


_add("/", views.trending)
_add("/new", views.new)
_add("/day/{text}", views.of_span("day"))
_add("/week/{text}", views.of_span("week"))
_add("/month/{text}", views.of_span("month"))
_add("/search", views.search)
_add("/for-you", views.recommended)


def _add_newest(period: papers.Period) -> None:
    """`/day` and the like lead to the newest that has papers; so do their feeds."""

    @router.get(f"/{period}")
    @router.get(f"/{period}.{{format}}")
    def newest(request: Request, format: Literal["atom", "rss", "json", ""] = "") -> Response:
        with hub_of(request).database.reading() as transaction:
            day = transaction.scalar(select(func.max(Paper.listed_on)).where(Paper.listed_on <= views.today()))
        span = Span.around(period, day or views.today())
        return RedirectResponse(f"/{period}/{span.text}{'.' + format if format else ''}", status_code=307)


_add_newest("day")
_add_newest("week")
_add_newest("month")


@router.get("/about")
def about(request: Request) -> Response:
    """How lists are made."""
    by_meaning = hub_of(request).settings.embedding_model is not None
    return page(request, "about.html", half_life=papers.HALF_LIFE.days, by_meaning=by_meaning)

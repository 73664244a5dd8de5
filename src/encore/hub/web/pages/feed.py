"""The feed: trending, new, by day, week and month, found by search, recommended; each as a page and as feeds."""

from __future__ import annotations

from collections.abc import Callable

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
from encore.hub.web.views import View

router = APIRouter(include_in_schema=False)


def _page(request: Request, view: View) -> Response:
    hub, reader = hub_of(request), reader_of(request)
    voted: set[int] = set()
    if reader is not None:
        with hub.database.reading() as transaction:
            voted = papers.voted(transaction, reader.id, view.papers)
    tasks = [] if is_partial(request) else hub.tasks()
    name = "papers.html" if is_partial(request) else "feed.html"
    return page(request, name, view=view, voted=voted, tasks=tasks, today=views.today())


def _add(path: str, view: Callable[..., View]) -> None:
    """A list at `path` as a page, and at `path.atom`, `path.rss` and `path.json` as feeds."""
    feeds = path if path != "/" else "/trending"

    @router.get(feeds + ".atom")
    def as_atom(request: Request, view: View = Depends(view)) -> Response:
        return atom(request, view)

    @router.get(feeds + ".rss")
    def as_rss(request: Request, view: View = Depends(view)) -> Response:
        return rss(request, view)

    @router.get(feeds + ".json")
    def as_json(request: Request, view: View = Depends(view)) -> Response:
        return json_feed(request, view)

    @router.get(path)  # last: its text would take a feed's ending too
    def as_page(request: Request, view: View = Depends(view)) -> Response:
        return _page(request, view)


_add("/", views.trending)
_add("/new", views.new)
_add("/day/{text}", views.of_span("day"))
_add("/week/{text}", views.of_span("week"))
_add("/month/{text}", views.of_span("month"))
_add("/search", views.search)


@router.get("/for-you")
def for_you(request: Request, view: View = Depends(views.recommended)) -> Response:
    """What a reader's votes and tags recommend."""
    return _page(request, view)


def _newest(request: Request, period: papers.Period) -> Response:
    with hub_of(request).database.reading() as transaction:
        newest = transaction.scalar(select(func.max(Paper.listed_on)).where(Paper.listed_on <= views.today()))
    span = Span.around(period, newest or views.today())
    return RedirectResponse(f"/{period}/{span.text}", status_code=307)


@router.get("/day")
def newest_day(request: Request) -> Response:
    """To the newest day that has papers."""
    return _newest(request, "day")


@router.get("/week")
def newest_week(request: Request) -> Response:
    """To the newest week that has papers."""
    return _newest(request, "week")


@router.get("/month")
def newest_month(request: Request) -> Response:
    """To the newest month that has papers."""
    return _newest(request, "month")


@router.get("/about")
def about(request: Request) -> Response:
    """How lists are made."""
    by_meaning = hub_of(request).settings.embedding_model is not None
    return page(request, "about.html", half_life=papers.HALF_LIFE.days, by_meaning=by_meaning)

"""A list as Atom, RSS and JSON Feed."""

from __future__ import annotations

import datetime
from typing import Any

import feedgenerator
from fastapi import Request
from fastapi.responses import JSONResponse, Response

from encore.hub.database import Paper
from encore.hub.web.hub import hub_of
from encore.hub.web.views import View


def atom(request: Request, view: View) -> Response:
    """Atom 1.0."""
    return Response(_feed(request, view, feedgenerator.Atom1Feed, "atom"), media_type="application/atom+xml")


def rss(request: Request, view: View) -> Response:
    """RSS 2.0."""
    return Response(_feed(request, view, feedgenerator.Rss201rev2Feed, "rss"), media_type="application/rss+xml")


def json_feed(request: Request, view: View) -> Response:
    """JSON Feed 1.1; `_encore` has what the format has no place for."""
    settings = hub_of(request).settings
    return JSONResponse(
        {
            "version": "https://jsonfeed.org/version/1.1",
            "title": f"{settings.site_name}: {view.title}",
            "home_page_url": settings.base_url + view.link(),
            "feed_url": settings.base_url + view.link(format="json", page=view.page),
            **({"next_url": settings.base_url + view.link(format="json", page=view.page + 1)} if view.more else {}),
            "items": [_item(request, paper) for paper in view.papers],
        },
        media_type="application/feed+json",
    )


def _item(request: Request, paper: Paper) -> dict[str, Any]:
    hub = hub_of(request)
    found = hub.catalogue.verdicts.get(paper.slug or "")
    return {
        "id": f"{hub.settings.base_url}/papers/{paper.key}",
        "url": f"{hub.settings.base_url}/papers/{paper.key}",
        **({"external_url": paper.url} if paper.url else {}),
        "title": paper.title,
        "content_text": paper.abstract,
        "date_published": _midnight(paper).isoformat(),
        "authors": [{"name": name} for name in paper.authors],
        "tags": paper.tasks,
        "_encore": {
            "votes": paper.votes,
            "comments": paper.comments,
            "code_url": paper.code_url,
            "slug": paper.slug,
            "performed": paper.slug in hub.catalogue.performed,
            "verdicts": {"hold": found.hold, "broken": found.broken, "open": found.open} if found else None,
        },
    }


def _feed(request: Request, view: View, kind: Any, format: str) -> str:
    settings = hub_of(request).settings
    feed = kind(
        title=_printable(f"{settings.site_name}: {view.title}"),
        link=settings.base_url + view.link(),
        feed_url=settings.base_url + view.link(format=format),
        description=_printable(f"{view.title}, from {settings.site_name}"),
        language="en",
    )
    for paper in view.papers:
        address = f"{settings.base_url}/papers/{paper.key}"
        feed.add_item(
            title=_printable(paper.title),
            link=address,
            unique_id=address,
            description=_printable(paper.abstract),
            author_name=_printable(", ".join(paper.authors)) or None,
            pubdate=_midnight(paper),
            updateddate=_midnight(paper),
            categories=[_printable(task) for task in paper.tasks],
        )
    text: str = feed.writeString("utf-8")
    return text


def _midnight(paper: Paper) -> datetime.datetime:
    return datetime.datetime.combine(paper.listed_on, datetime.time(), datetime.UTC)


def _printable(text: str) -> str:
    """Without the control characters that XML forbids."""
    return "".join(one for one in text if one >= " " or one in "\t\n")

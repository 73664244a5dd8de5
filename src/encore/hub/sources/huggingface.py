"""Hugging Face's daily papers, by day."""

from __future__ import annotations

import datetime
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from encore.hub.database.tables import now
from encore.hub.entries import Entry, address_of, arxiv_identifier, cleaned
from encore.hub.sources.client import Outside, SourceError, UnreadableError
from encore.hub.sources.reading import Reading

NOT_YET = 400
"""What is answered for a day whose list is not open."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Author(_Part):
    name: str
    hidden: bool = False


class _Organisation(_Part):
    name: str = ""
    fullname: str | None = None


class _Paper(_Part):
    id: str
    title: str = Field(min_length=1)
    summary: str | None = None
    authors: list[_Author] = []
    upvotes: int = Field(default=0, ge=0, le=1_000_000)
    publishedAt: datetime.datetime | None = None  # noqa: N815
    githubRepo: str | None = None  # noqa: N815
    organization: _Organisation | None = None


class _Item(_Part):
    paper: _Paper
    publishedAt: datetime.datetime | None = None  # noqa: N815


def daily(outside: Outside, day: datetime.date) -> Reading:
    """The papers that were listed on a day; none for one that has not begun.

    Args:
        outside: the way there.
        day: of the list.

    Raises:
        SourceError: Hugging Face does not answer.
    """
    today = now().date()
    if day > today:
        return Reading([], [])
    try:
        items = outside.get(f"{outside.settings.huggingface_url}/api/daily_papers", {"date": day.isoformat()}, _items)
    except SourceError as error:
        if error.status == NOT_YET and day >= today - datetime.timedelta(days=1):
            return Reading([], [])
        raise
    entries, refused = [], []
    for number, item in enumerate(items, 1):
        try:
            entries.append(_entry(_Item.model_validate(item), day))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            refused.append(f"Hugging Face {day}, paper {number} ({_name(item)}): {where}: {first['msg']}")
        except ValueError as error:
            refused.append(f"Hugging Face {day}, paper {number} ({_name(item)}): {error}")
    return Reading(entries, refused)


def _items(content: bytes) -> list[Any]:
    try:
        items = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableError("answers something that is no JSON") from None
    if not isinstance(items, list):
        raise UnreadableError("answers JSON that is no list of papers")
    return items


def _entry(item: _Item, day: datetime.date) -> Entry:
    paper, published = item.paper, item.paper.publishedAt or item.publishedAt
    identifier = arxiv_identifier(paper.id)
    if identifier is None:
        raise ValueError(f"'{paper.id[:40]}' is no arXiv identifier")
    organisation = paper.organization
    return Entry(
        title=cleaned(paper.title),
        source="huggingface",
        abstract=cleaned(paper.summary or ""),
        authors=[cleaned(author.name) for author in paper.authors if not author.hidden],
        arxiv=identifier[0],
        url=f"https://arxiv.org/abs/{identifier[0]}",
        code_url=address_of(paper.githubRepo),
        organisation=cleaned(organisation.fullname or organisation.name) if organisation else None,
        listed_on=day,
        published=published.date() if published else None,
        outside_votes=paper.upvotes,
    )


def _name(item: Any) -> str:
    paper = item.get("paper") if isinstance(item, dict) else None
    found = (paper.get("id") or paper.get("title")) if isinstance(paper, dict) else None
    return cleaned(str(found))[:80] if found else "nameless"

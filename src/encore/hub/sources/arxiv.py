"""arXiv, by its API: Atom, a hundred papers a page."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from time import struct_time
from typing import Any

import feedparser

from encore.base.errors import DataError
from encore.hub.entries import Entry, address_of, arxiv_identifier, cleaned, doi_of
from encore.hub.sources.client import Outside, SourceError, UnreadableError

PAGE = 100
"""Papers that one request asks for."""

DEEPEST = 9_000
"""How far one search is followed. Beyond, it begins anew with what is older: arXiv answers deep pages badly."""

TASKS = {
    "cs.CV": "computer-vision",
    "eess.IV": "image-processing",
    "cs.CL": "natural-language",
    "cs.LG": "machine-learning",
    "stat.ML": "machine-learning",
    "cs.NE": "neural-networks",
    "cs.AI": "artificial-intelligence",
    "cs.RO": "robotics",
    "cs.IR": "information-retrieval",
    "cs.SD": "audio",
    "eess.AS": "audio",
    "cs.GR": "computer-graphics",
    "cs.MM": "multimedia",
    "cs.HC": "human-computer-interaction",
    "cs.CR": "security",
}
"""Words for categories that readers of the feed look for."""

_CATEGORY = re.compile(r"[a-z-]{2,10}(\.([A-Za-z]{2}|[a-z-]{2,10}|\*))?", re.ASCII)
_CODE = re.compile(
    r"(?:https?://)?(?:www\.)?((?:github|gitlab)\.com/[\w.-]+/[\w.-]+"
    r"|huggingface\.co/(?!papers/|blog/|docs/)(?:datasets/|spaces/)?[\w.-]+/[\w.-]+)",
    re.IGNORECASE | re.ASCII,
)
_TAKEN_BACK = r"(?:paper|article|manuscript|submission|preprint|work) (?:has been|had been|was|is|is being) withdrawn\b"
_COMMENT_OF_WITHDRAWN = re.compile(rf"^withdrawn\b|\b{_TAKEN_BACK}|\bwithdrawn by (?:the )?authors?\b", re.IGNORECASE)
_ABSTRACT_OF_WITHDRAWN = re.compile(rf"^(?:withdrawn\b|(?:this|the) {_TAKEN_BACK})", re.IGNORECASE)


@dataclass(frozen=True)
class Position:
    """Where a search is.

    Attributes:
        start: papers that were passed.
        until: only what was submitted until then, as arXiv writes it (`202611271530`).
    """

    start: int = 0
    until: str | None = None


@dataclass
class Page:
    """What one request brought.

    Attributes:
        entries, refused: see `Reading`.
        after: where the search goes on; None at its end.
        total: papers that it finds in all.
        oldest: day of the last paper.
    """

    entries: list[Entry] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    after: Position | None = None
    total: int | None = None
    oldest: datetime.date | None = None


def fetch(outside: Outside, identifiers: Iterable[str]) -> list[Entry]:
    """The papers of some identifiers, in their newest version; those that arXiv does not know are missing.

    Args:
        outside: the way there.
        identifiers: or addresses.

    Raises:
        DataError: one is no identifier.
        SourceError: arXiv does not answer.
    """
    names = []
    for text in identifiers:
        found = arxiv_identifier(text)
        if found is None:
            raise DataError(f"'{text[:100]}' is no arXiv identifier", "give one such as 2111.11632, or its address")
        names.append(found[0])
    entries = []
    for first in range(0, len(names), PAGE):
        some = names[first : first + PAGE]
        parameters = {"id_list": ",".join(some), "max_results": str(len(some))}
        entries += outside.get(outside.settings.arxiv_url, parameters, _page).entries
    return [entry for entry in entries if entry.arxiv in names]


def search(outside: Outside, categories: Iterable[str], begin: Position | None = None) -> Iterator[Page]:
    """Pages of the papers in some categories, those submitted last first.

    Args:
        outside: the way there.
        categories: such as `cs.CV`.
        begin: where an earlier search stopped.

    Raises:
        DataError: a category is written in another way.
        SourceError: arXiv does not answer.
    """
    words = [_category(one) for one in categories]
    if not words:
        raise DataError("no arXiv category is given", "name some, such as cs.CV,cs.LG")
    position: Position | None = begin or Position()
    while position is not None:
        read = partial(_page, position=position)
        page = outside.get(outside.settings.arxiv_url, _query(words, position), read)
        yield page
        position = page.after


def _category(text: str) -> str:
    if not _CATEGORY.fullmatch(text):
        raise DataError(f"'{text[:40]}' is no arXiv category", "name some such as cs.CV,cs.LG")
    return text


def _query(categories: list[str], position: Position) -> dict[str, str]:
    query = " OR ".join(f"cat:{one}" for one in categories)
    if position.until:
        query = f"({query}) AND submittedDate:[199001010000 TO {position.until}]"
    return {
        "search_query": query,
        "start": str(position.start),
        "max_results": str(PAGE),
        "sortBy": "submittedDate",
        "sortOrder": "descending",
    }


def _page(content: bytes, position: Position | None = None) -> Page:
    """Read one answer.

    Raises:
        UnreadableError: it is no Atom, was cut off, or is empty though there is more.
        SourceError: it says that the question was wrong.
    """
    if content.strip()[:20].lower().startswith(b"rate exceeded"):
        raise UnreadableError("is asked too often")
    feed = feedparser.parse(io.BytesIO(content), sanitize_html=False, resolve_relative_uris=False)
    if not feed.version.startswith("atom"):
        raise UnreadableError("answers something that is no Atom feed")
    if feed.bozo and not isinstance(feed.bozo_exception, feedparser.CharacterEncodingOverride):
        raise UnreadableError(f"answers Atom that is broken ({feed.bozo_exception})")
    position = position or Position()
    page = Page(total=_whole(feed.feed.get("opensearch_totalresults")))
    for number, found in enumerate(feed.entries, position.start + 1):
        _read(found, number, page)
    count = len(feed.entries)
    if count == 0 and page.total is not None and page.total > position.start:
        raise UnreadableError("answers an empty page where there are papers")
    last = _moment(feed.entries[-1].get("published_parsed")) if count else None
    page.oldest = last.date() if last else None
    if count and (page.total is None or position.start + count < page.total):
        page.after = Position(position.start + count, position.until)
        if page.after.start >= DEEPEST and last is not None:
            page.after = Position(0, last.strftime("%Y%m%d%H%M"))
    return page


def _read(found: Any, number: int, page: Page) -> None:
    if "/api/errors" in found.get("id", ""):
        raise SourceError(
            f"arXiv refuses: {cleaned(found.get('summary', '')) or 'no reason given'}", "check the request"
        )
    name = cleaned(found.get("title", "")) or found.get("id", "")
    try:
        page.entries.append(_entry(found))
    except ValueError as error:
        page.refused.append(f"arXiv, paper {number} ({name[:80] or 'nameless'}): {error}")


def _entry(found: Any) -> Entry:
    identifier = arxiv_identifier(found.get("id", ""))
    published, updated = _moment(found.get("published_parsed")), _moment(found.get("updated_parsed"))
    title = cleaned(found.get("title", ""))
    if identifier is None:
        raise ValueError("it has no arXiv identifier")
    if not title or published is None:
        raise ValueError("it has no title" if not title else "it has no date")
    name, version = identifier
    comment, abstract = cleaned(found.get("arxiv_comment", "")), cleaned(found.get("summary", ""))
    says_so = bool(_ABSTRACT_OF_WITHDRAWN.search(abstract))
    withdrawn = says_so or bool(_COMMENT_OF_WITHDRAWN.search(comment))
    if withdrawn and not says_so:
        abstract = f"Withdrawn. {comment} {abstract}"
    return Entry(
        title=title,
        source="arxiv",
        abstract=abstract,
        authors=[cleaned(author["name"]) for author in found.get("authors", []) if author.get("name")],
        arxiv=name,
        doi=doi_of(found.get("arxiv_doi")),
        url=f"https://arxiv.org/abs/{name}",
        code_url=code_in(comment) or code_in(abstract),
        listed_on=published.date(),
        published=published.date(),
        updated=updated.date() if updated else None,
        version=version,
        tasks=list(dict.fromkeys(TASKS[tag["term"]] for tag in found.get("tags", []) if tag.get("term") in TASKS)),
        withdrawn=withdrawn,
    )


def code_in(text: str) -> str | None:
    """The first address of public code in a text."""
    found = _CODE.search(text)
    return address_of("https://" + re.sub(r"(\.git)?[.-]*$", "", found[1])) if found else None


def _moment(parsed: struct_time | None) -> datetime.datetime | None:
    return datetime.datetime(*parsed[:6], tzinfo=datetime.UTC) if parsed else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None

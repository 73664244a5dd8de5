"""Papers as the hub keeps them: found again whatever source tells of them, voted for, and listed.

**Trending.** A vote counts 1 when it is given and half as much after every `HALF_LIFE`; being published counts as one
vote of that day, as do the votes that the source counted. At time t a paper has

    score(t) = (1 + outside votes) · 2^(-(t - listed on) / h) + Σ_votes 2^(-(t - given) / h)

As t goes on all scores shrink by one factor, so their order never changes without a vote. What is kept is
log₂ score(0), which needs no clock and has an index.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.orm import Session as Transaction

from encore.base.cards import Card
from encore.hub.database import Database, Paper, PaperTask, Tag, Vote
from encore.hub.database.tables import now

HALF_LIFE = datetime.timedelta(days=2)
"""After which a vote counts half."""

Period = Literal["day", "week", "month"]

RANKS = {"csv": 0, "bibtex": 1, "ris": 1, "json": 2, "huggingface": 3, "arxiv": 4, "cards": 5}
"""Whose word counts more where two sources describe one paper. Of equals the later one is believed."""

_ARXIV = re.compile(
    r"(?:^|/|arxiv:)\s*(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v(\d+))?(?:\.pdf)?/?$", re.IGNORECASE
)


@dataclass
class Entry:
    """What a source says of a paper; whatever it does not say is empty.

    Attributes:
        title: the only thing that must be there, with a date or a year.
        source: a key of `RANKS`.
        listed_on: the day of the feed; the day of `published` where it is not said.
        authors: names as published.
        num_authors: where it is known and the names are not.
        slug: the paper's room in Encore.
    """

    title: str
    source: str
    abstract: str = ""
    authors: list[str] = field(default_factory=list)
    num_authors: int | None = None
    arxiv: str | None = None
    doi: str | None = None
    url: str | None = None
    code_url: str | None = None
    organisation: str | None = None
    listed_on: datetime.date | None = None
    published: datetime.date | None = None
    updated: datetime.date | None = None
    version: int | None = None
    tasks: list[str] = field(default_factory=list)
    outside_votes: int = 0
    slug: str | None = None


def arxiv_identifier(text: str) -> tuple[str, int | None] | None:
    """The arXiv identifier and version in an identifier or an address of arxiv.org; None if it is none.

    Example:
        >>> arxiv_identifier("https://arxiv.org/abs/2111.11632v2")
        ('2111.11632', 2)
    """
    text = text.strip()
    if "://" in text and not re.match(r"https?://(?:www\.|export\.)?arxiv\.org/", text, re.IGNORECASE):
        return None
    found = _ARXIV.search(text)
    return (
        (found[1].lower() if "/" not in found[1] else found[1], int(found[2]) if found[2] else None) if found else None
    )


def key_of(entry: Entry) -> str:
    """What names a paper in addresses: the arXiv identifier, else a hash of its title and first author."""
    if entry.arxiv:
        return entry.arxiv.replace("/", "-")
    first = entry.authors[0].split()[-1] if entry.authors else ""
    return "p" + hashlib.sha256(f"{plain(entry.title)}|{plain(first)}".encode()).hexdigest()[:15]


def plain(text: str) -> str:
    """Letters and digits alone, without accents, in lower case."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(one for one in decomposed.casefold() if one.isalnum())


def put(transaction: Transaction, entry: Entry) -> tuple[Paper, bool]:
    """Add a paper, or what an entry adds to one that is there.

    A paper is found again by arXiv identifier, DOI, or title and first author. Fields of a source that is believed as
    much as the earlier one or more (`RANKS`) replace what is there; a lesser one fills what is empty. Telling the same
    twice changes nothing.

    Returns:
        The paper, and whether it is new.

    Raises:
        ValueError: there is no title, or neither date nor year.
    """
    title = " ".join(entry.title.split())
    day = entry.listed_on or entry.published
    if not title or day is None:
        raise ValueError("an entry has a title and a date")
    key = key_of(entry)
    paper = _known(transaction, entry, key)
    new = paper is None
    if paper is None:
        paper = Paper(key=key, title=title, listed_on=day, year=(entry.published or day).year, source=entry.source)
        paper.votes = paper.comments = paper.outside_votes = paper.rank = 0
        paper.abstract, paper.authors, paper.tasks = "", [], []
        transaction.add(paper)
    rank = RANKS[entry.source]
    believed = new or rank >= paper.rank
    before = (paper.listed_on, paper.outside_votes)
    for name, value in _fields(entry, title).items():
        there = getattr(paper, name)
        if value not in (None, "", []) and value != there and (believed or there in (None, "", [])):
            setattr(paper, name, value)
    if entry.listed_on and (believed or entry.source == "huggingface"):
        paper.listed_on = entry.listed_on
    if believed:
        paper.rank, paper.source = rank, entry.source
        if entry.published:
            paper.year = entry.published.year
    paper.outside_votes = max(paper.outside_votes, entry.outside_votes)
    if paper.num_authors is None and paper.authors:
        paper.num_authors = len(paper.authors)
    transaction.flush()
    _keep_tasks(transaction, paper)
    if new or before != (paper.listed_on, paper.outside_votes):
        refresh_trend(transaction, paper)
    return paper, new


_COPIED = (
    "arxiv",
    "doi",
    "slug",
    "authors",
    "organisation",
    "url",
    "code_url",
    "published",
    "updated",
    "version",
    "tasks",
)


def _fields(entry: Entry, title: str) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(entry, name) for name in _COPIED}
    fields["abstract"] = " ".join(entry.abstract.split())
    fields["title"] = title
    fields["num_authors"] = len(entry.authors) or entry.num_authors
    return fields


def _known(transaction: Transaction, entry: Entry, key: str) -> Paper | None:
    ways = [Paper.key == key]
    if entry.arxiv:
        ways.append(Paper.arxiv == entry.arxiv)
    if entry.doi:
        ways.append(Paper.doi == entry.doi)
    if entry.slug:
        ways.append(Paper.slug == entry.slug)
    found = transaction.scalars(select(Paper).where(or_(*ways)).order_by(Paper.rank.desc(), Paper.id)).first()
    if found is None and entry.arxiv:  # a bibliography may have told of it without its identifier
        without = Entry(entry.title, entry.source, authors=entry.authors)
        found = transaction.scalars(select(Paper).where(Paper.key == key_of(without), Paper.arxiv.is_(None))).first()
    return found


def _keep_tasks(transaction: Transaction, paper: Paper) -> None:
    wanted = {task.strip().lower()[:80] for task in paper.tasks if task.strip()}
    there = set(transaction.scalars(select(PaperTask.task).where(PaperTask.paper_id == paper.id)))
    transaction.add_all(PaperTask(task=task, paper_id=paper.id) for task in sorted(wanted - there))
    if there - wanted:
        transaction.execute(delete(PaperTask).where(PaperTask.paper_id == paper.id, PaperTask.task.in_(there - wanted)))
    transaction.flush()


def entries_of_cards(cards: Iterable[Card]) -> list[Entry]:
    """The papers of Encore's own cards: what a fresh hub shows."""
    return [
        Entry(
            title=card.title,
            source="cards",
            abstract=card.summary,
            authors=list(card.authors),
            num_authors=card.num_authors,
            arxiv=card.arxiv,
            url=f"https://arxiv.org/abs/{card.arxiv}",
            code_url=next((link.url for link in card.links if "code" in link.label or "github" in link.url), None),
            listed_on=card.date,
            published=card.date,
            tasks=list(card.tasks),
            slug=card.slug,
        )
        for card in cards
    ]


# votes


def vote(database: Database, user_id: int, paper_id: int, *, wanted: bool) -> int:
    """Give or take back a vote; doing so twice changes nothing.

    Returns:
        The paper's votes.
    """
    with database.writing() as transaction:
        paper = transaction.scalars(select(Paper).where(Paper.id == paper_id).with_for_update()).one()
        there = transaction.get(Vote, (user_id, paper_id))
        if wanted and there is None:
            transaction.add(Vote(user_id=user_id, paper_id=paper_id))
        elif not wanted and there is not None:
            transaction.delete(there)
        transaction.flush()
        paper.votes = transaction.scalar(select(func.count()).where(Vote.paper_id == paper_id)) or 0
        refresh_trend(transaction, paper)
        return paper.votes


def refresh_trend(transaction: Transaction, paper: Paper) -> None:
    """Compute `trend` from the votes that there are."""
    given = transaction.scalars(select(Vote.created).where(Vote.paper_id == paper.id)).all()
    trend = trend_of(paper.listed_on, paper.outside_votes, given)
    transaction.execute(update(Paper).where(Paper.id == paper.id).values(trend=trend))


def trend_of(
    listed_on: datetime.date,
    outside_votes: int,
    given: Sequence[datetime.datetime],
    half_life: datetime.timedelta = HALF_LIFE,
) -> float:
    """log₂ of a paper's score at the beginning of 1970; see this module's head for the formula.

    Args:
        listed_on: its day in the feed, taken from midnight UTC.
        outside_votes: counted as votes of that day.
        given: when each vote was given here.
        half_life: h.
    """
    start = datetime.datetime.combine(listed_on, datetime.time(), datetime.UTC).timestamp()
    h = half_life.total_seconds()
    exponents = [start / h + math.log2(1 + outside_votes), *(one.timestamp() / h for one in given)]
    largest = max(exponents)
    return largest + math.log2(math.fsum(2 ** (one - largest) for one in exponents))


def decayed_votes(
    trend: float, at: datetime.datetime | None = None, half_life: datetime.timedelta = HALF_LIFE
) -> float:
    """The score at a moment, from `trend`."""
    return 2 ** min(trend - (at or now()).timestamp() / half_life.total_seconds(), 1000.0)


# lists


@dataclass(frozen=True)
class Filters:
    """What a list leaves out.

    Attributes:
        task: papers of this task only.
        year: of this year only.
        performed: those that Encore performs.
        code: those whose code is public.
        tag: those that `user_id` gave this tag.
    """

    task: str | None = None
    year: int | None = None
    performed: bool = False
    code: bool = False
    tag: str | None = None
    user_id: int | None = None

    def applied(self, query: Select[Any], performed_slugs: Sequence[str]) -> Select[Any]:
        """A query over `Paper` that keeps to them."""
        if self.task:
            query = query.join(PaperTask, PaperTask.paper_id == Paper.id).where(PaperTask.task == self.task.lower())
        if self.year:
            query = query.where(Paper.year == self.year)
        if self.performed:
            query = query.where(Paper.slug.in_(performed_slugs))
        if self.code:
            query = query.where(Paper.code_url.is_not(None))
        if self.tag and self.user_id:
            query = query.join(Tag, Tag.paper_id == Paper.id).where(Tag.user_id == self.user_id, Tag.tag == self.tag)
        return query

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return self != Filters(user_id=self.user_id)


@dataclass(frozen=True)
class Span:
    """A day, an ISO week or a month.

    Attributes:
        period: which of them.
        first, last: its days.
    """

    period: Period
    first: datetime.date
    last: datetime.date

    @classmethod
    def parse(cls, period: Period, text: str) -> Span:
        """`2026-11-27` for a day, `2026-W48` for a week, `2026-11` for a month.

        Raises:
            ValueError: it is written in another way.
        """
        if period == "day" and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return cls.around(period, datetime.date.fromisoformat(text))
        if period == "week" and re.fullmatch(r"\d{4}-W\d\d", text):
            return cls.around(period, datetime.date.fromisocalendar(int(text[:4]), int(text[6:]), 1))
        if period == "month" and re.fullmatch(r"\d{4}-\d\d", text):
            return cls.around(period, datetime.date.fromisoformat(text + "-01"))
        raise ValueError(f"'{text}' is no {period}")

    @classmethod
    def around(cls, period: Period, day: datetime.date) -> Span:
        """The one that holds `day`."""
        if period == "day":
            return cls(period, day, day)
        if period == "week":
            monday = day - datetime.timedelta(days=day.weekday())
            return cls(period, monday, monday + datetime.timedelta(days=6))
        first = day.replace(day=1)
        after = (first + datetime.timedelta(days=31)).replace(day=1)
        return cls(period, first, after - datetime.timedelta(days=1))

    @property
    def text(self) -> str:
        """As addresses write it."""
        if self.period == "day":
            return self.first.isoformat()
        if self.period == "week":
            year, week, _ = self.first.isocalendar()
            return f"{year}-W{week:02}"
        return self.first.strftime("%Y-%m")


def listed(
    transaction: Transaction,
    *,
    span: Span | None = None,
    filters: Filters | None = None,
    performed_slugs: Sequence[str] = (),
    newest_first: bool = False,
    offset: int = 0,
    limit: int = 30,
) -> list[Paper]:
    """Papers of a span (null: of all time), those that trend first, or the newest first."""
    query = (filters or Filters()).applied(select(Paper), performed_slugs)
    if span is not None:
        query = query.where(Paper.listed_on.between(span.first, span.last))
    order = (Paper.listed_on.desc(), Paper.id.desc()) if newest_first else (Paper.trend.desc(), Paper.id.desc())
    return list(transaction.scalars(query.order_by(*order).offset(offset).limit(limit)))


def neighbours(transaction: Transaction, span: Span) -> tuple[Span | None, Span | None]:
    """The nearest earlier and later span in which there are papers."""
    before = transaction.scalar(select(func.max(Paper.listed_on)).where(Paper.listed_on < span.first))
    after = transaction.scalar(select(func.min(Paper.listed_on)).where(Paper.listed_on > span.last))
    return (
        Span.around(span.period, before) if before else None,
        Span.around(span.period, after) if after else None,
    )


def paper_of(transaction: Transaction, key: str) -> Paper | None:
    """The paper that an address names: by key, or by Encore's slug."""
    return transaction.scalars(select(Paper).where(or_(Paper.key == key, Paper.slug == key))).first()


def voted(transaction: Transaction, user_id: int, papers: Iterable[Paper]) -> set[int]:
    """Those of some papers that a reader has voted for."""
    ids = [paper.id for paper in papers]
    if not ids:
        return set()
    return set(transaction.scalars(select(Vote.paper_id).where(Vote.user_id == user_id, Vote.paper_id.in_(ids))))

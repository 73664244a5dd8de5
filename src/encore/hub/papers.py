"""Papers as the hub keeps them: voted for, and listed.

What sources say of them is in `entries`, how that is put together in `merging`, how votes order them in `trending`;
the names of all three are handed on here.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, exists, func, or_, select
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Database, Paper, PaperTask, Tag, User, Vote
from encore.hub.entries import RANKS as RANKS
from encore.hub.entries import Entry as Entry
from encore.hub.entries import arxiv_identifier as arxiv_identifier
from encore.hub.entries import entries_of_cards as entries_of_cards
from encore.hub.entries import key_of as key_of
from encore.hub.entries import plain as plain
from encore.hub.merging import put as put
from encore.hub.trending import HALF_LIFE as HALF_LIFE
from encore.hub.trending import decayed_votes as decayed_votes
from encore.hub.trending import held
from encore.hub.trending import refresh_counts as refresh_counts
from encore.hub.trending import refresh_trend as refresh_trend
from encore.hub.trending import trend_of as trend_of

Period = Literal["day", "week", "month"]

_SPANS = {"day": r"\d{4}-\d\d-\d\d", "week": r"\d{4}-W\d\d", "month": r"\d{4}-\d\d"}

# votes


def vote(database: Database, user_id: int, paper_id: int, *, wanted: bool) -> int:
    """Give or take back a vote; doing so twice changes nothing.

    Returns:
        The paper's votes.
    """
    with database.writing() as transaction:
        transaction.execute(select(User.id).where(User.id == user_id).with_for_update(read=True, key_share=True))
        (paper,) = held(transaction, [paper_id])  # after the reader, as where a reader is forgotten
        there = transaction.get(Vote, (user_id, paper_id))
        if wanted and there is None:
            transaction.add(Vote(user_id=user_id, paper_id=paper_id))
        elif not wanted and there is not None:
            transaction.delete(there)
        transaction.flush()
        paper.votes = transaction.scalar(select(func.count()).where(Vote.paper_id == paper_id)) or 0
        refresh_trend(transaction, paper)
        return paper.votes


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
            # not a join: in the order of an index a page is full after a few of the task's papers
            query = query.where(exists().where(PaperTask.paper_id == Paper.id, PaperTask.task == self.task.lower()))
        if self.year:
            query = query.where(Paper.year == self.year)
        if self.performed:
            query = query.where(Paper.slug.in_(performed_slugs))
        if self.code:
            query = query.where(Paper.code_url.is_not(None))
        if self.tag and self.user_id:
            own = exists().where(Tag.paper_id == Paper.id, Tag.user_id == self.user_id, Tag.tag == self.tag)
            query = query.where(own)
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
        if not re.fullmatch(_SPANS[period], text, re.ASCII) or not 1 < int(text[:4]) < 9999:
            raise ValueError(f"'{text}' is no {period}")
        if period == "week":
            return cls.around(period, datetime.date.fromisocalendar(int(text[:4]), int(text[6:]), 1))
        return cls.around(period, datetime.date.fromisoformat(text if period == "day" else text + "-01"))

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
            return f"{year:04}-W{week:02}"
        return self.first.isoformat()[:7]


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
    """The paper that an address names: by key, by Encore's slug, or by arXiv identifier."""
    ways = or_(Paper.key == key, Paper.slug == key, Paper.arxiv == key)
    return transaction.scalars(select(Paper).where(ways).order_by(Paper.rank.desc())).first()


def voted(transaction: Transaction, user_id: int, papers: Iterable[Paper]) -> set[int]:
    """Those of some papers that a reader has voted for."""
    ids = [paper.id for paper in papers]
    if not ids:
        return set()
    return set(transaction.scalars(select(Vote.paper_id).where(Vote.user_id == user_id, Vote.paper_id.in_(ids))))

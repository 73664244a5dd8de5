"""How papers are ordered by their votes.

**Trending.** A vote counts 1 when it is given and half as much after every `HALF_LIFE`; being published counts as one
vote of that day, as do the votes that the source counted. At time t a paper has

    score(t) = (1 + outside votes) · 2^(-(t - listed on) / h) + Σ_votes 2^(-(t - given) / h)

As t goes on all scores shrink by one factor, so their order never changes without a vote. What is kept is
log₂ score(0), which needs no clock and has an index.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Comment, Paper, Vote
from encore.hub.database.tables import now

HALF_LIFE = datetime.timedelta(days=2)
"""After which a vote counts half."""


def held(transaction: Transaction, paper_ids: Iterable[int]) -> list[Paper]:
    """Some papers as they are now, whose counts nobody else changes before this transaction ends.

    Everybody takes them in the same order, so that two who need several wait and do not block each other.
    """
    query = select(Paper).where(Paper.id.in_(list(paper_ids))).order_by(Paper.id)
    query = query.with_for_update(key_share=True)  # who adds a row that names the paper need not wait
    return list(transaction.scalars(query.execution_options(populate_existing=True)))


def refresh_counts(transaction: Transaction, paper_ids: Iterable[int]) -> None:
    """Count votes and comments of some papers anew, one transaction after the other."""
    for paper in held(transaction, paper_ids):
        paper.votes = transaction.scalar(select(func.count()).where(Vote.paper_id == paper.id)) or 0
        paper.comments = (
            transaction.scalar(select(func.count()).where(Comment.paper_id == paper.id, Comment.deleted.is_(None))) or 0
        )
        refresh_trend(transaction, paper)


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

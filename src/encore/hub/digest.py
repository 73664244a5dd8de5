"""Digests: who is due, what is new for them, and a mail of it in the queue, once a day at most.

A digest of day D tells of the days since the last one up to D - 1; if there was none, of the day (daily) or the seven
days (weekly) before D. The mail and the note that it is queued (`Subscription.last_day`) are one transaction. A digest
that still waits when the next one is queued has failed, and the next one tells of its days too.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import DataError
from encore.hub.database import Database, Mail, Paper, Run, Subscription, Tag, Vector
from encore.hub.database.tables import now
from encore.hub.mail import messages, queue
from encore.hub.mail.messages import Days, Item, Links, NewVerdicts, Rendered, shortened
from encore.hub.papers import Span
from encore.hub.settings import HubSettings
from encore.hub.subscriptions import headers, unsubscribe_link
from encore.hub.verdicts import Catalogue, Verdicts
from encore.results.record import ResultRecord

log = logging.getLogger(__name__)

Find = Callable[[str, datetime.date, datetime.date], list[Paper]]
"""Papers that match a search and were listed between two days, both included, the best first."""

MOST_PAPERS = 20
"""In a digest."""

MOST_SIMILAR = 5
"""Papers that a digest by tag adds because they are like the tagged ones."""

NEAR = 0.5
"""Cosine to the mean of the tagged papers from which a paper is like them."""

LONGEST_SPAN = datetime.timedelta(days=14)
"""What a digest tells of at most, if a hub stood still."""

SUMMARY = 230
"""Characters: two or three lines at 600 pixels."""


@dataclass(frozen=True)
class DigestReport:
    """What came of one round.

    Attributes:
        due: subscriptions whose day it was.
        queued: mails for them.
        empty: those for whom nothing was new.
    """

    due: int
    queued: int
    empty: int


@dataclass
class _News:
    """What one round has looked up; subscribers with the same wish and days share it."""

    database: Database
    find: Find | None
    base_url: str
    catalogue: Catalogue = field(default_factory=Catalogue)
    found: dict[tuple[str, str, int | None, Days], tuple[list[Item], list[NewVerdicts]]] = field(default_factory=dict)

    def of(self, subscription: Subscription, days: Days) -> tuple[list[Item], list[NewVerdicts]]:
        key = (subscription.kind, subscription.value, subscription.user_id, days)
        if key not in self.found:
            searched = None
            if subscription.kind == "search" and self.find is not None:
                searched = self.find(subscription.value, days.first, days.last)[:MOST_PAPERS]
            with self.database.reading() as transaction:
                papers, similar = _papers(transaction, subscription, days, searched)
                runs = _finished_runs(transaction, subscription, days)
                measured = _measured(transaction, [paper.slug for paper in papers if paper.slug])
            items = [
                self._item(paper, measured, "like what you tagged" if paper.id in similar else "") for paper in papers
            ]
            self.found[key] = (items, [self._verdicts(run, paper, verdicts) for run, paper, verdicts in runs])
        return self.found[key]

    def _item(self, paper: Paper, measured: dict[str, Verdicts], why: str) -> Item:
        slug = paper.slug if paper.slug in self.catalogue.performed else None
        return Item(
            title=paper.title,
            url=paper_link(self.base_url, paper),
            byline=_byline(paper),
            summary=shortened(paper.abstract, SUMMARY),
            votes=paper.votes,
            elsewhere=paper.outside_votes,
            verdicts=(measured.get(slug) or self.catalogue.verdicts.get(slug)) if slug else None,
            performed=slug is not None,
            why=why,
        )

    def _verdicts(self, run: Run, paper: Paper, verdicts: Verdicts) -> NewVerdicts:
        return NewVerdicts(paper.title, paper_link(self.base_url, paper), run.scale, verdicts)


def paper_link(base_url: str, paper: Paper) -> str:
    """A paper's page in the hub."""
    return f"{base_url}/papers/{paper.key}"


def day_due(settings: HubSettings, at: datetime.datetime) -> datetime.date | None:
    """The day whose digests may go out at a moment; None before `digest_hour` UTC."""
    at = at.astimezone(datetime.UTC)
    return at.date() if at.hour >= settings.digest_hour else None


def queue_digests(
    database: Database,
    settings: HubSettings,
    day: datetime.date,
    *,
    find: Find | None = None,
    today: datetime.date | None = None,
) -> DigestReport:
    """Queue a digest for every subscription that is due; a second round of the day queues nothing.

    Args:
        database: the hub's.
        settings: the hub's.
        day: of the digest; the caller looks at the hour (`day_due`).
        find: search by the hub's index; null matches papers that have every word.
        today: what is taken for today.

    Raises:
        DataError: the day is still to come. Subscribers would get nothing until then.
    """
    today = today or now().date()
    if day > today:
        raise DataError(f"{day} is still to come", f"name {today} or a day before")
    news = _News(database, find, settings.base_url)
    with database.reading() as transaction:
        confirmed = select(Subscription).where(Subscription.confirmed.is_not(None), Subscription.ended.is_(None))
        not_that_day = or_(Subscription.last_day.is_(None), Subscription.last_day < day)
        everyone = transaction.scalars(confirmed.where(not_that_day).order_by(Subscription.id)).all()
        waiting = _waiting(transaction, day)
    due = [one for one in everyone if is_due(one, day)]
    queued = empty = 0
    for subscription in due:
        days = days_of(subscription, day)
        if subscription.id in waiting:
            days = Days(min(days.first, waiting[subscription.id]), days.last)
        items, verdicts = news.of(subscription, days)
        if _queue(database, settings, subscription, day, days, items, verdicts):
            queued += 1
        elif not items and not verdicts:
            empty += 1
    return DigestReport(len(due), queued, empty)


def is_due(subscription: Subscription, today: datetime.date) -> bool:
    """Whether a confirmed subscription gets a digest today.

    A weekly one does on Mondays, or on the first day after one on which the hub runs again.
    """
    if subscription.frequency == "daily":
        return subscription.last_day is None or subscription.last_day < today
    monday = today - datetime.timedelta(days=today.weekday())
    if subscription.last_day is not None:
        return subscription.last_day < monday
    assert subscription.confirmed is not None
    return today == monday or subscription.confirmed.date() < monday


def _usual(subscription: Subscription) -> datetime.timedelta:
    """What a digest tells of, where none was missed."""
    return datetime.timedelta(days=1 if subscription.frequency == "daily" else 7)


def days_of(subscription: Subscription, today: datetime.date) -> Days:
    """The days that a digest of today tells of."""
    first = (
        today - _usual(subscription)
        if subscription.last_day is None
        else max(subscription.last_day, today - LONGEST_SPAN)
    )
    return Days(min(first, today - datetime.timedelta(days=1)), today - datetime.timedelta(days=1))


def _waiting(transaction: Transaction, day: datetime.date) -> dict[int, datetime.date]:
    """Subscriptions whose last digests have not left, and the first day of which those tell."""
    ids = select(Mail.subscription_id).where(Mail.state == "queued", Mail.kind == "digest")
    query = (
        select(Mail.state, Mail.error, Mail.once, Subscription)
        .join(Subscription, Subscription.id == Mail.subscription_id)
        .where(Mail.kind == "digest", Mail.subscription_id.in_(ids), Mail.once.is_not(None))
        .order_by(Mail.id.desc())
    )
    first: dict[int, datetime.date] = {}
    known: set[int] = set()
    for state, error, once, subscription in transaction.execute(query):
        if state == "queued" or error == queue.REPLACED:
            if subscription.id not in known:
                assert once is not None
                of_mail = datetime.date.fromisoformat(once.rpartition(":")[2])
                first[subscription.id] = max(of_mail - _usual(subscription), day - LONGEST_SPAN)
        else:
            known.add(subscription.id)
    return first


def _queue(
    database: Database,
    settings: HubSettings,
    subscription: Subscription,
    today: datetime.date,
    days: Days,
    items: Sequence[Item],
    verdicts: Sequence[NewVerdicts],
) -> bool:
    link = unsubscribe_link(settings, subscription)
    earlier = (Mail.subscription_id == subscription.id, Mail.kind == "digest", Mail.state == "queued")
    rendered = _render(settings, subscription, days, items, verdicts, link) if items or verdicts else None
    with database.writing() as transaction:
        replaced = transaction.scalars(select(Mail).where(*earlier).order_by(Mail.id).with_for_update()).all()
        still = (
            Subscription.id == subscription.id,
            Subscription.ended.is_(None),
            or_(Subscription.last_day.is_(None), Subscription.last_day < today),
        )
        moved = update(Subscription).where(*still).values(last_day=today).returning(Subscription.id)
        if transaction.execute(moved).first() is None or rendered is None:
            return False
        for mail in replaced:
            for name, value in {"state": "failed", "error": queue.REPLACED, "finished": now(), **queue.BLANK}.items():
                setattr(mail, name, value)
        return queue.put(
            transaction,
            kind="digest",
            recipient=subscription.email,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            headers=headers(settings, subscription, link),
            once=f"digest:{subscription.id}:{today}",
            subscription_id=subscription.id,
        )


def _render(
    settings: HubSettings,
    subscription: Subscription,
    days: Days,
    items: Sequence[Item],
    verdicts: Sequence[NewVerdicts],
    link: str,
) -> Rendered:
    span = Span.around("day" if days.first == days.last else "week", days.last)
    feed = f"{settings.base_url}/{span.period}/{span.text}"
    return messages.digest(settings, subscription, items, verdicts, days, Links(feed, link))


def preview(
    database: Database,
    settings: HubSettings,
    today: datetime.date,
    *,
    frequency: str = "daily",
    kind: str = "all",
    value: str = "",
    user_id: int | None = None,
    find: Find | None = None,
) -> Rendered | None:
    """The digest that a new subscriber would get today; None if nothing is new. Nothing is queued."""
    subscription = Subscription(
        id=0, email="reader@example.org", frequency=frequency, kind=kind, value=value, user_id=user_id
    )
    days = days_of(subscription, today)
    items, verdicts = _News(database, find, settings.base_url).of(subscription, days)
    if not items and not verdicts:
        return None
    return _render(settings, subscription, days, items, verdicts, f"{settings.base_url}/unsubscribe/preview")


# what is new


def _papers(
    transaction: Transaction, subscription: Subscription, days: Days, searched: list[Paper] | None
) -> tuple[list[Paper], set[int]]:
    """Papers of the days for a subscription, and which of them are there for being like others."""
    if searched is not None:
        return searched, set()
    listed = select(Paper).where(Paper.listed_on.between(*days))
    query = listed.where(_matches(subscription)).order_by(Paper.trend.desc(), Paper.id.desc()).limit(MOST_PAPERS)
    papers = list(transaction.scalars(query))
    if subscription.kind != "tag":
        return papers, set()
    similar = _similar(transaction, subscription, days)
    return [*papers, *similar][:MOST_PAPERS], {paper.id for paper in similar}


def _matches(subscription: Subscription) -> ColumnElement[bool]:
    """Whether a paper is of the kind that a subscription wants."""
    if subscription.kind == "tag":
        return Paper.id.in_(_tagged(subscription))
    if subscription.kind == "search":
        text = func.lower(Paper.title + " " + Paper.abstract)
        return and_(*(text.contains(word, autoescape=True) for word in subscription.value.lower().split()))
    return Paper.id.is_not(None)


def _tagged(subscription: Subscription) -> Select[Any]:
    return select(Tag.paper_id).where(Tag.user_id == subscription.user_id, Tag.tag == subscription.value)


def _similar(transaction: Transaction, subscription: Subscription, days: Days) -> list[Paper]:
    """Papers of the days that are near the mean of the tagged ones, the nearest first."""
    tagged = transaction.execute(
        select(Vector.paper_id, Vector.model, Vector.content).where(Vector.paper_id.in_(_tagged(subscription)))
    ).all()
    if not tagged:
        return []
    model = tagged[0].model
    centre = np.mean([_numbers(one.content) for one in tagged if one.model == model], axis=0)
    centre /= np.linalg.norm(centre) or 1.0
    query = (
        select(Paper, Vector.content)
        .join(Vector, Vector.paper_id == Paper.id)
        .where(Paper.listed_on.between(*days), Vector.model == model, ~_matches(subscription))
    )
    near = [(float(_numbers(content) @ centre), paper) for paper, content in transaction.execute(query)]
    near.sort(key=lambda one: (-one[0], one[1].id))
    return [paper for cosine, paper in near[:MOST_SIMILAR] if cosine >= NEAR]


def _numbers(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.float16).astype(np.float32)


def _finished_runs(
    transaction: Transaction, subscription: Subscription, days: Days
) -> list[tuple[Run, Paper, Verdicts]]:
    """The newest run of each paper and scale that was finished on the days."""
    begin = datetime.datetime.combine(days.first, datetime.time(), datetime.UTC)
    end = datetime.datetime.combine(days.last + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
    query = (
        select(Run, Paper)
        .join(Paper, Paper.slug == Run.slug)
        .where(Run.state == "done", Run.finished >= begin, Run.finished < end, _matches(subscription))
        .order_by(Run.finished.desc(), Run.id.desc())
    )
    newest: dict[tuple[str, str], tuple[Run, Paper, Verdicts]] = {}
    for run, paper in transaction.execute(query):
        verdicts = _verdicts_of(run)
        if verdicts is not None:
            newest.setdefault((run.slug, run.scale), (run, paper, verdicts))
    return list(newest.values())[:MOST_PAPERS]


def _measured(transaction: Transaction, slugs: Sequence[str]) -> dict[str, Verdicts]:
    """Verdicts of the newest laptop-scale run of some papers, where one was done here."""
    query = select(Run).where(Run.slug.in_(slugs), Run.state == "done", Run.scale != "smoke").order_by(Run.finished)
    found = {run.slug: _verdicts_of(run) for run in transaction.scalars(query)} if slugs else {}
    return {slug: verdicts for slug, verdicts in found.items() if verdicts is not None}


def _verdicts_of(run: Run) -> Verdicts | None:
    if run.record is None:
        return None
    try:
        return Verdicts.of(ResultRecord.model_validate(run.record).claims)
    except ValidationError as error:
        log.warning("run %d has a record that this Encore cannot read: %s", run.id, str(error).splitlines()[0])
        return None


def _byline(paper: Paper) -> str:
    """`Ada Lovelace, Charles Babbage and 3 more · University of London`."""
    names = paper.authors if len(paper.authors) <= 3 else paper.authors[:2]
    count = paper.num_authors or len(paper.authors)
    authors = ", ".join(names) + (f" and {count - len(names)} more" if names and count > len(names) else "")
    if not names and count:
        authors = f"{count} author{'s' if count > 1 else ''}"
    return " · ".join(part for part in (authors, paper.organisation or "") if part)

"""The tables, as SQLAlchemy maps them. `migrations/` makes them, and a test holds both against each other."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def now() -> datetime.datetime:
    """This moment, in UTC, with its zone."""
    return datetime.datetime.now(datetime.UTC)


class Moment(TypeDecorator[datetime.datetime]):
    """A moment in UTC. SQLite keeps no zone, so that it is taken off there and put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, dialect: Dialect) -> datetime.datetime | None:
        """Into the database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        value = value.astimezone(datetime.UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime.datetime | None, dialect: Dialect) -> datetime.datetime | None:
        """Out of the database."""
        if value is None:
            return None
        return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)


class Base(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {  # noqa: RUF012
        datetime.datetime: Moment,
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


class Paper(Base):
    """A paper of the feed.

    Attributes:
        key: names it in addresses: the arXiv identifier without version, else a hash of title and first author.
        slug: its room, where Encore has one.
        title_hash: of the title's letters alone, by which it is found again.
        listed_on: the day under which the feed shows it.
        published, updated: of the first and the newest version, as far as known.
        version: the newest version's number.
        tasks: what it is about, words that readers filter by.
        outside_votes: votes that an imported source counted.
        votes, comments: how many there are here.
        trend: log₂ of its decayed votes, see `trending.trend_of`.
        source: which import told of it first; `rank` says how much its fields are believed.
    """

    __tablename__ = "papers"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(40), unique=True)
    arxiv: Mapped[str | None] = mapped_column(String(20), unique=True)
    doi: Mapped[str | None] = mapped_column(String(200), unique=True)
    slug: Mapped[str | None] = mapped_column(String(60), unique=True)
    title: Mapped[str] = mapped_column(Text)
    title_hash: Mapped[str | None] = mapped_column(String(16), index=True)
    abstract: Mapped[str] = mapped_column(Text, default="")
    authors: Mapped[list[str]] = mapped_column(default=list)
    num_authors: Mapped[int | None]
    organisation: Mapped[str | None] = mapped_column(String(200))
    url: Mapped[str | None] = mapped_column(Text)
    code_url: Mapped[str | None] = mapped_column(Text)
    listed_on: Mapped[datetime.date] = mapped_column(Date)
    published: Mapped[datetime.date | None] = mapped_column(Date)
    updated: Mapped[datetime.date | None] = mapped_column(Date)
    version: Mapped[int | None]
    year: Mapped[int] = mapped_column(Integer, index=True)
    tasks: Mapped[list[str]] = mapped_column(default=list)
    outside_votes: Mapped[int] = mapped_column(default=0)
    votes: Mapped[int] = mapped_column(default=0)
    comments: Mapped[int] = mapped_column(default=0)
    trend: Mapped[float] = mapped_column(Float, default=0.0)
    source: Mapped[str] = mapped_column(String(20))
    rank: Mapped[int] = mapped_column(default=0)
    added: Mapped[datetime.datetime] = mapped_column(default=now)

    __table_args__ = (
        Index("ix_papers_trend", "trend", "id"),
        Index("ix_papers_listed_on_trend", "listed_on", "trend", "id"),
        Index("ix_papers_slug_trend", "slug", "trend"),
    )


class PaperTask(Base):
    """One task of a paper, so that a filter finds it by an index."""

    __tablename__ = "paper_tasks"

    task: Mapped[str] = mapped_column(String(80), primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("papers.id", ondelete="CASCADE"), primary_key=True, index=True)


class User(Base):
    """A reader who has signed in. An address is kept in lower case; `name` is what others see."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(40))
    banned: Mapped[bool] = mapped_column(Boolean, default=False)
    created: Mapped[datetime.datetime] = mapped_column(default=now)
    interests_changed: Mapped[datetime.datetime | None]


class Session(Base):
    """A browser that is signed in, or a link that was mailed and may be used once.

    Attributes:
        digest: SHA-256 of the secret that the browser or the link holds.
        kind: `session` or `link`.
        email: of a link: who may use it.
        user_id: of a session.
    """

    __tablename__ = "sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    email: Mapped[str | None] = mapped_column(String(254))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created: Mapped[datetime.datetime] = mapped_column(default=now)
    expires: Mapped[datetime.datetime] = mapped_column(index=True)


class Vote(Base):
    """A reader's vote for a paper."""

    __tablename__ = "votes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("papers.id", ondelete="CASCADE"), primary_key=True, index=True)
    created: Mapped[datetime.datetime] = mapped_column(default=now)


class Tag(Base):
    """A reader's own word on a paper; seen by that reader alone."""

    __tablename__ = "tags"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("papers.id", ondelete="CASCADE"), primary_key=True, index=True)
    tag: Mapped[str] = mapped_column(String(40), primary_key=True)
    created: Mapped[datetime.datetime] = mapped_column(default=now)


class Comment(Base):
    """A comment, in Markdown; `deleted` keeps its place and hides its text."""

    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("papers.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    body: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime.datetime] = mapped_column(default=now)
    deleted: Mapped[datetime.datetime | None]


class Subscription(Base):
    """Who gets a digest; one row an address.

    Attributes:
        frequency: `daily` or `weekly` (on Mondays).
        kind: `all`, `tag` (papers that `user_id` tagged with `value`, and ones like them) or `search`.
        value: the tag or the search.
        confirmed: when the mailed link was followed; nothing is sent before.
        ended: when it was unsubscribed, or stopped after too many bounces.
        bounces: refusals in a row.
        last_day: of the last digest that was queued.
    """

    __tablename__ = "subscriptions"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    frequency: Mapped[str] = mapped_column(String(10), default="daily")
    kind: Mapped[str] = mapped_column(String(10), default="all")
    value: Mapped[str] = mapped_column(String(200), default="")
    created: Mapped[datetime.datetime] = mapped_column(default=now)
    confirmed: Mapped[datetime.datetime | None]
    ended: Mapped[datetime.datetime | None]
    bounces: Mapped[int] = mapped_column(default=0)
    last_day: Mapped[datetime.date | None] = mapped_column(Date)


class Mail(Base):
    """A mail on its way.

    Attributes:
        kind: `sign_in`, `confirm` or `digest`.
        once: what may exist once only, such as `digest:12:2026-11-27`; null where that does not matter.
        state: `queued` → `sending` (written before the mail leaves) → `sent` or `failed`; `uncertain` where a worker
            died while sending, which nobody sends again by itself.
        text, html, headers: empty once it is `sent` or `failed`.
        not_before: when it may be tried next.
        worker: who is sending it.
    """

    __tablename__ = "mails"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    once: Mapped[str | None] = mapped_column(String(80), unique=True)
    recipient: Mapped[str] = mapped_column(String(254))
    subject: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    html: Mapped[str | None] = mapped_column(Text)
    headers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    subscription_id: Mapped[int | None] = mapped_column(ForeignKey("subscriptions.id", ondelete="SET NULL"), index=True)
    state: Mapped[str] = mapped_column(String(10), default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime.datetime] = mapped_column(default=now)
    created: Mapped[datetime.datetime] = mapped_column(default=now)
    finished: Mapped[datetime.datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(String(60))

    __table_args__ = (Index("ix_mails_state", "state", "not_before"),)


class Job(Base):
    """Other work that waits for a worker: `submit` (fetch a paper), `import`, `index`, `recommend`, `digest`.

    Attributes:
        once: what need not wait twice, such as `index`.
        state: `queued`, `running`, `done` or `failed`.
    """

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    once: Mapped[str | None] = mapped_column(String(80), unique=True)
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(10), default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime.datetime] = mapped_column(default=now)
    created: Mapped[datetime.datetime] = mapped_column(default=now)
    finished: Mapped[datetime.datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(String(60))

    __table_args__ = (Index("ix_jobs_state", "state", "not_before"),)


class Run(Base):
    """A performance that somebody asked for.

    Attributes:
        slug, scale: of `encore run`.
        state: `queued`, `running`, `done`, `failed` or `cancelled`.
        cancel: somebody asked for its end.
        pid, pid_started: the process, and when it began, so that another one with its number is not taken for it.
        host: where the process runs.
        worker: who minds it.
        heartbeat: when the worker last looked after it.
        exit_code: of the process.
        error: why it failed, in one line.
        record: `result.json`, where it has come.
    """

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(60), index=True)
    scale: Mapped[str] = mapped_column(String(10))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    state: Mapped[str] = mapped_column(String(10), default="queued", index=True)
    cancel: Mapped[bool] = mapped_column(Boolean, default=False)
    created: Mapped[datetime.datetime] = mapped_column(default=now)
    started: Mapped[datetime.datetime | None]
    finished: Mapped[datetime.datetime | None]
    host: Mapped[str | None] = mapped_column(String(100))
    pid: Mapped[int | None]
    pid_started: Mapped[float | None]
    worker: Mapped[str | None] = mapped_column(String(60))
    heartbeat: Mapped[datetime.datetime | None]
    exit_code: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    record: Mapped[dict[str, Any] | None]


class RunEvent(Base):
    """What a run said: one line of its progress.

    Attributes:
        seq: counts a run's events from 1; a browser that comes back asks for those after the last it saw.
        kind: `progress` (`stage`, `step`, `total`, `metrics`), `message` (`text`), `picture` (`stage`, `name`) or
            `state` (`state`).
    """

    __tablename__ = "run_events"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    body: Mapped[dict[str, Any]]
    created: Mapped[datetime.datetime] = mapped_column(default=now)


class Vector(Base):
    """A paper as a vector of length 1, float16 as bytes, for search by meaning, similar papers and recommendations.

    Attributes:
        model: what made it: a sentence-transformers model, or `lsa-…` (of the words alone) with the name of its fit.
        digest: of the text that it was made of, so that a text that changes is found.
    """

    __tablename__ = "vectors"

    paper_id: Mapped[int] = mapped_column(ForeignKey("papers.id", ondelete="CASCADE"), primary_key=True)
    model: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(16))
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Recommendation(Base):
    """What a reader may like, made anew after votes and tags change."""

    __tablename__ = "recommendations"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("papers.id", ondelete="CASCADE"), index=True)
    score: Mapped[float]


class SourceState(Base):
    """How far an import is, or any other small thing that is remembered by name."""

    __tablename__ = "source_states"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    content: Mapped[dict[str, Any]]
    changed: Mapped[datetime.datetime] = mapped_column(default=now, onupdate=now)


class WorkerRow(Base):
    """A worker that is alive, as long as it says so."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    started: Mapped[datetime.datetime] = mapped_column(default=now)
    heartbeat: Mapped[datetime.datetime] = mapped_column(default=now)


class RateLimit(Base):
    """How often something was done within a window of time."""

    __tablename__ = "rate_limits"

    key: Mapped[str] = mapped_column(String(300), primary_key=True)
    count: Mapped[int]
    expires: Mapped[float] = mapped_column(index=True)

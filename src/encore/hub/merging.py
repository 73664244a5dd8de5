"""Putting together what several sources say of one paper."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.orm import aliased

from encore.hub.database import Comment, Database, Paper, PaperTask, Tag, Vote
from encore.hub.database.tables import now
from encore.hub.entries import EARLIEST, RANKS, Entry, address_of, cleaned, first_author, key_of, title_hash
from encore.hub.trending import refresh_counts, refresh_trend, trend_of

Outcome = Literal["new", "changed", "same"]

FUTURE = datetime.timedelta(days=366)
"""How far ahead of today a paper may be dated. It is listed today at the latest."""

LOCK = 2_111_116_322
"""Of PostgreSQL's advisory locks: two that find a paper unknown at the same time would both add it."""

_NAMES = ("arxiv", "doi", "slug")  # unique, each
_COPIED = (
    *_NAMES,
    "authors",
    "organisation",
    "url",
    "code_url",
    "published",
    "updated",
    "version",
    "tasks",
)
_ARXIV_KNOWS = {"abstract", "updated", "version"}
_EMPTY: tuple[Any, ...] = (None, "", [])


@contextmanager
def telling(database: Database) -> Iterator[Transaction]:
    """A writing transaction to tell of papers in; there is one at a time, in whatever process."""
    with database.writing() as transaction:
        if not database.is_sqlite:
            transaction.execute(select(func.pg_advisory_xact_lock(LOCK)))
        yield transaction


def put(transaction: Transaction, entry: Entry) -> tuple[Paper, bool]:
    """Add a paper, or what an entry adds to one that is there; see `told`.

    Returns:
        The paper, and whether it is new.
    """
    paper, outcome = told(transaction, entry)
    return paper, outcome == "new"


def told(transaction: Transaction, entry: Entry, settled: Collection[int] = ()) -> tuple[Paper, Outcome]:
    """Add a paper, or what an entry adds to one that is there.

    A paper is found again by its room, arXiv identifier, DOI, or title and first author; two that an entry shows to be
    one become one. Fields of a source that is believed as much as the earlier one or more (`RANKS`) replace what is
    there; a lesser one fills what is empty. Of abstract and versions arXiv knows best, unless it tells of an older
    version. The day of the feed is Hugging Face's, else the day of publication. Telling the same twice changes nothing.

    Args:
        transaction: a writing one.
        entry: what the source says.
        settled: numbers of papers of which an entry of any rank only fills what is empty.

    Raises:
        ValueError: there is no title or no date, the date is impossible, or the paper was withdrawn and is not known.
    """
    title, day = cleaned(entry.title), _day(entry)
    if not title:
        raise ValueError("it has no title")
    found = _candidates(transaction, entry, title)
    same = [paper for paper in found if _is_one(paper, entry, title, day)]
    _leave_room(transaction, [paper for paper in found if paper not in same], entry)
    if not same:
        if entry.withdrawn:
            raise ValueError("it was withdrawn by its authors")
        return _added(transaction, entry, title, day, found), "new"
    paper = same[0]
    absorbed = []
    for other in same[1:]:
        if not (other.arxiv and paper.arxiv):
            _absorb(transaction, paper, other)
            absorbed.append(other)
    others = [other for other in found if other is not paper and other not in absorbed]
    fields = _fields(entry, title, others)
    changed = _change(transaction, paper, entry, fields, day, fill_only=paper.id in settled)
    return paper, "changed" if changed or absorbed else "same"


def _change(
    transaction: Transaction,
    paper: Paper,
    entry: Entry,
    fields: dict[str, Any],
    day: datetime.date,
    *,
    fill_only: bool,
) -> bool:
    """Bring a paper up to date; returns whether anything changed."""
    before = (paper.listed_on, paper.outside_votes)
    day = paper.listed_on if fill_only else _moved(paper, entry, day)
    _merge(paper, entry, fields, fill_only=fill_only)
    if day != paper.listed_on:
        paper.listed_on = day
    changed = transaction.is_modified(paper)
    if changed:
        transaction.flush()
        _keep_tasks(transaction, paper)
        if before != (paper.listed_on, paper.outside_votes):
            refresh_trend(transaction, paper)
    return changed


def _day(entry: Entry) -> datetime.date:
    day = entry.listed_on or entry.published
    if day is None:
        raise ValueError("it has neither date nor year")
    for one in (day, entry.published or day):
        if not EARLIEST <= one <= now().date() + FUTURE:
            raise ValueError(f"it is dated {one.isoformat()}")
    return min(day, now().date())


def _candidates(transaction: Transaction, entry: Entry, title: str) -> Sequence[Paper]:
    ways = [Paper.key == key_of(entry), Paper.title_hash == title_hash(title)]
    ways += [getattr(Paper, name) == getattr(entry, name) for name in _NAMES if getattr(entry, name)]
    return transaction.scalars(select(Paper).where(or_(*ways)).order_by(Paper.rank.desc(), Paper.id)).all()


def _is_one(paper: Paper, entry: Entry, title: str, day: datetime.date) -> bool:
    if entry.arxiv and paper.arxiv:  # a DOI that two preprints claim, or an equal title, does not make them one
        return entry.arxiv == paper.arxiv
    if paper.key == key_of(entry) or any(
        getattr(entry, name) and getattr(paper, name) == getattr(entry, name) for name in _NAMES
    ):
        return True
    if paper.title_hash != title_hash(title):
        return False
    there, here = first_author(paper.authors), first_author(entry.authors)
    unknown = not there or not here
    return there == here or (unknown and abs(paper.year - (entry.published or day).year) <= 1)


def _leave_room(transaction: Transaction, others: Sequence[Paper], entry: Entry) -> None:
    """Take Encore's room from papers that it does not belong to, after a card has been corrected."""
    for other in others:
        if entry.slug and other.slug == entry.slug:
            other.slug = None
            transaction.flush()


def _added(transaction: Transaction, entry: Entry, title: str, day: datetime.date, found: Sequence[Paper]) -> Paper:
    paper = Paper(key=key_of(entry), title=title, listed_on=day, year=(entry.published or day).year)
    paper.votes = paper.comments = paper.outside_votes = paper.rank = 0
    paper.abstract, paper.authors, paper.tasks, paper.source = "", [], [], entry.source
    _merge(paper, entry, _fields(entry, title, found))
    paper.trend = trend_of(day, paper.outside_votes, ())
    transaction.add(paper)
    transaction.flush()
    transaction.add_all(PaperTask(task=task, paper_id=paper.id) for task in sorted(_tasks(paper)))
    return paper


def _fields(entry: Entry, title: str, others: Sequence[Paper]) -> dict[str, Any]:
    """What an entry says; without a DOI or the like that another paper has."""
    fields: dict[str, Any] = {name: getattr(entry, name) for name in _COPIED}
    for name in _NAMES:
        if any(getattr(other, name) == fields[name] for other in others):
            fields[name] = None
    fields["title"], fields["abstract"] = title, cleaned(entry.abstract)
    fields["url"], fields["code_url"] = address_of(entry.url), address_of(entry.code_url)
    fields["authors"] = [name for name in map(cleaned, entry.authors) if name]
    fields["tasks"] = [task for task in map(cleaned, entry.tasks) if task]
    fields["num_authors"] = len(fields["authors"]) or entry.num_authors
    fields["organisation"] = cleaned(entry.organisation or "")[:200]
    return fields


def _merge(paper: Paper, entry: Entry, fields: dict[str, Any], *, fill_only: bool = False) -> None:
    older = bool(entry.version and paper.version and entry.version < paper.version)
    rank = RANKS[entry.source]
    believed = rank >= paper.rank and not older and not fill_only
    for name, value in fields.items():
        there = getattr(paper, name)
        replaces = believed and not (name == "abstract" and entry.source == "cards")  # a card's is our own sentence
        if name in _ARXIV_KNOWS and entry.source == "arxiv":
            replaces = not older and not fill_only
        if value not in _EMPTY and value != there and (replaces or there in _EMPTY):
            setattr(paper, name, value)
    if paper.title_hash != title_hash(paper.title):
        paper.title_hash = title_hash(paper.title)
    if believed:
        if (paper.rank, paper.source) != (rank, entry.source):
            paper.rank, paper.source = rank, entry.source
        if entry.published and paper.year != entry.published.year:
            paper.year = entry.published.year
    if entry.outside_votes > paper.outside_votes:
        paper.outside_votes = entry.outside_votes


def _moved(paper: Paper, entry: Entry, day: datetime.date) -> datetime.date:
    """The day on which Hugging Face had a paper first, else that of its publication as now known."""
    by_publication = paper.listed_on == paper.published or (paper.published is None and paper.source != "huggingface")
    if entry.source == "huggingface":
        return day if by_publication else min(day, paper.listed_on)
    if RANKS[entry.source] < paper.rank:
        return paper.listed_on
    by_itself = entry.source == paper.source and entry.listed_on not in (None, entry.published)
    return day if by_publication or by_itself else paper.listed_on


def _keep_tasks(transaction: Transaction, paper: Paper) -> None:
    wanted = _tasks(paper)
    there = set(transaction.scalars(select(PaperTask.task).where(PaperTask.paper_id == paper.id)))
    transaction.add_all(PaperTask(task=task, paper_id=paper.id) for task in sorted(wanted - there))
    if there - wanted:
        transaction.execute(delete(PaperTask).where(PaperTask.paper_id == paper.id, PaperTask.task.in_(there - wanted)))
    transaction.flush()


def _tasks(paper: Paper) -> set[str]:
    return {task.strip().lower()[:80] for task in paper.tasks if task.strip()}


def _absorb(transaction: Transaction, paper: Paper, other: Paper) -> None:
    """Make two papers one: what readers gave to `other` goes to `paper`, and so do fields that it lacks.

    Both are held first, so that what readers are just giving is waited for, and nothing more comes.
    """
    both = select(Paper).where(Paper.id.in_((paper.id, other.id))).order_by(Paper.id).with_for_update()
    transaction.scalars(both.execution_options(populate_existing=True)).all()
    vote, tag = aliased(Vote), aliased(Tag)  # those that `paper` has already
    voted = exists().where(vote.paper_id == paper.id, vote.user_id == Vote.user_id)
    tagged = exists().where(tag.paper_id == paper.id, tag.user_id == Tag.user_id, tag.tag == Tag.tag)
    for moved in (
        update(Vote).where(Vote.paper_id == other.id, ~voted),
        update(Tag).where(Tag.paper_id == other.id, ~tagged),
        update(Comment).where(Comment.paper_id == other.id),
    ):
        transaction.execute(moved.values(paper_id=paper.id).execution_options(synchronize_session=False))
    transaction.execute(delete(Paper).where(Paper.id == other.id))
    transaction.expunge(other)
    for name in (*_COPIED, "abstract", "num_authors"):
        if getattr(paper, name) in _EMPTY and getattr(other, name) not in _EMPTY:
            setattr(paper, name, getattr(other, name))
    paper.outside_votes = max(paper.outside_votes, other.outside_votes)
    transaction.flush()
    refresh_counts(transaction, [paper.id])

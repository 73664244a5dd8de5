"""Counts of votes and comments stay right whatever happens at the same time, and a reader can be forgotten."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from encore.hub import accounts, comments, papers
from encore.hub.database import Comment, Database, Mail, Paper, Subscription, Tag, User, Vote
from encore.hub.database.tables import now
from encore.hub.mail import queue
from encore.hub.papers import Entry, refresh_counts

DAY = datetime.date(2026, 11, 20)


@pytest.fixture
def database(emptied_database: Database) -> Database:
    return emptied_database


def _paper(database: Database, title: str, **given: object) -> int:
    with database.writing() as transaction:
        return papers.put(transaction, Entry(title, source="bibtex", published=DAY, **given))[0].id  # type: ignore[arg-type]


def _readers(database: Database, number: int) -> list[int]:
    with database.writing() as transaction:
        users = [User(email=f"reader{one}@example.org", name="reader") for one in range(number)]
        transaction.add_all(users)
        transaction.flush()
        return [user.id for user in users]


def _at_once(doings: Iterable[Callable[[], object]]) -> None:
    doings = list(doings)
    with ThreadPoolExecutor(len(doings)) as pool:
        for done in [pool.submit(doing) for doing in doings]:
            done.result(30)


def _counts(database: Database, paper_id: int) -> tuple[int, int]:
    with database.reading() as transaction:
        paper = transaction.get_one(Paper, paper_id)
        return paper.votes, paper.comments


def test_comments_that_come_at_once_are_all_counted(database: Database) -> None:
    paper, readers = _paper(database, "One"), _readers(database, 12)
    _at_once(lambda reader=reader: comments.add(database, reader, paper, "Good") for reader in readers)  # type: ignore[misc]
    assert _counts(database, paper) == (0, 12)
    with database.reading() as transaction:
        numbers = transaction.scalars(select(Comment.id)).all()
    _at_once(lambda number=number: comments.remove(database, number) for number in numbers)  # type: ignore[misc]
    assert _counts(database, paper) == (0, 0)


def test_readers_who_are_forgotten_while_they_vote_and_comment_leave_right_counts(database: Database) -> None:
    one, two = _paper(database, "One"), _paper(database, "Two")
    readers = _readers(database, 8)
    for reader in readers:
        for paper in (one, two):
            papers.vote(database, reader, paper, wanted=True)
            comments.add(database, reader, paper, "Good")
    going, staying = readers[:4], readers[4:]
    doings: list[Callable[[], object]] = [lambda reader=reader: accounts.forget(database, reader) for reader in going]  # type: ignore[misc]
    for reader in staying:
        doings.append(lambda reader=reader: comments.add(database, reader, two, "Better"))  # type: ignore[misc]
        doings.append(lambda reader=reader: papers.vote(database, reader, one, wanted=False))  # type: ignore[misc]
    _at_once(doings)
    assert (_counts(database, one), _counts(database, two)) == ((0, 4), (4, 8))


def test_what_readers_are_just_giving_is_not_lost_when_two_papers_become_one(database: Database) -> None:
    first = _paper(database, "One", doi="10.1/x", authors=["Ada Lovelace"])
    second = _paper(database, "Another", arxiv="2611.00001", authors=["Ada Lovelace"])
    readers = _readers(database, 3)
    papers.vote(database, readers[0], first, wanted=True)
    papers.vote(database, readers[0], second, wanted=True)
    with database.writing() as transaction:
        transaction.add_all(Tag(user_id=readers[0], paper_id=one, tag="mine") for one in (first, second))

    def become_one() -> None:
        with database.writing() as transaction:
            both = Entry("One", source="bibtex", published=DAY, doi="10.1/x", arxiv="2611.00001")
            papers.put(transaction, both)

    merging = threading.Thread(target=become_one)
    with database.writing() as transaction:
        held = select(Paper).where(Paper.id.in_((first, second))).order_by(Paper.id).with_for_update(key_share=True)
        transaction.scalars(held).all()
        for paper, reader in ((first, readers[1]), (second, readers[2])):
            transaction.add(Vote(user_id=reader, paper_id=paper))
            transaction.add(Comment(user_id=reader, paper_id=paper, body="Good"))
            transaction.add(Tag(user_id=reader, paper_id=paper, tag="mine"))
        transaction.flush()
        merging.start()
        time.sleep(0.3)
        refresh_counts(transaction, [first, second])
    merging.join(20)
    with database.reading() as transaction:
        paper = transaction.scalars(select(Paper)).one()
        assert (paper.votes, paper.comments) == (3, 2)
        assert transaction.scalar(select(func.count()).select_from(Vote)) == 3
        assert sorted(transaction.scalars(select(Tag.user_id).where(Tag.paper_id == paper.id))) == readers


def test_papers_that_become_one_while_readers_do_everything_end_with_right_counts(database: Database) -> None:
    pairs = [
        (_paper(database, f"One {n}", doi=f"10.1/{n}"), _paper(database, f"Other {n}", arxiv=f"2611.0000{n}"))
        for n in range(4)
    ]
    readers = _readers(database, 4)
    for pair in pairs:
        for reader, paper in zip(readers, pair * 2, strict=True):
            papers.vote(database, reader, paper, wanted=True)

    def become_one(n: int) -> None:
        with database.writing() as transaction:
            papers.put(
                transaction, Entry(f"One {n}", source="bibtex", published=DAY, doi=f"10.1/{n}", arxiv=f"2611.0000{n}")
            )

    doings: list[Callable[[], object]] = [lambda n=n: become_one(n) for n in range(4)]  # type: ignore[misc]
    doings += [lambda reader=reader: accounts.forget(database, reader) for reader in readers[:2]]  # type: ignore[misc]
    _at_once(doings)
    with database.reading() as transaction:
        for paper in transaction.scalars(select(Paper)):
            assert paper.votes == transaction.scalar(select(func.count()).where(Vote.paper_id == paper.id)) == 2


def test_who_is_forgotten_gets_no_more_mail(database: Database) -> None:
    ada, bob = _readers(database, 2)
    with database.writing() as transaction:
        for user in (ada, bob):
            email = transaction.get_one(User, user).email
            subscription = Subscription(email=email, user_id=user, confirmed=now())
            transaction.add(subscription)
            transaction.flush()
            for once, state in ((None, "queued"), (f"digest:{subscription.id}:2026-11-27", "sent")):
                mail = {"kind": "digest", "recipient": email, "subject": "s", "text": "t", "once": once}
                queue.put(transaction, subscription_id=subscription.id, **mail)  # type: ignore[arg-type]
                last = transaction.scalars(select(Mail).order_by(Mail.id.desc()).limit(1)).one()
                last.state = state
    accounts.forget(database, ada)
    with database.reading() as transaction:
        assert [mail.state for mail in transaction.scalars(select(Mail).order_by(Mail.id))] == [
            "sent",
            "queued",
            "sent",
        ]
        ended = {one.email: one.ended is not None for one in transaction.scalars(select(Subscription))}
    assert ended == {"reader0@example.org": True, "reader1@example.org": False}

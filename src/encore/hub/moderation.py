"""What whoever runs a hub may do, by command line alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select

from encore.base.errors import InputError
from encore.hub import comments as said
from encore.hub import runs as performances
from encore.hub.database import Comment, Database, Job, Mail, Paper, Run, Session, Subscription, User, Vote, WorkerRow


def moderate(
    database: Database,
    *,
    comments: Sequence[int] = (),
    ban: Sequence[str] = (),
    unban: Sequence[str] = (),
    runs: Sequence[int] = (),
) -> list[str]:
    """Take comments out, ban readers and let them in again, end runs.

    Returns:
        What was done, in lines.

    Raises:
        InputError: there is no such comment, reader or run.
    """
    done = []
    for number in comments:
        _remove_comment(database, number)
        done.append(f"comment {number} is deleted")
    for address, banned in [*((one, True) for one in ban), *((one, False) for one in unban)]:
        _set_banned(database, address, banned)
        done.append(f"{address} is {'banned' if banned else 'let in again'}")
    for number in runs:
        _cancel(database, number)
        done.append(f"run {number} ends")
    return done


def _remove_comment(database: Database, number: int) -> None:
    if not said.remove(database, number):
        raise InputError(f"there is no comment {number}", "its number stands in the link to it")


def _set_banned(database: Database, address: str, banned: bool) -> None:
    with database.writing() as transaction:
        user = transaction.scalars(select(User).where(User.email == address.strip().lower())).first()
        if user is None:
            raise InputError(f"nobody has signed in as {address}", "give the address as it was signed in with")
        user.banned = banned
        if banned:
            transaction.execute(delete(Session).where(Session.user_id == user.id))


def _cancel(database: Database, number: int) -> None:
    with database.reading() as transaction:
        there = transaction.get(Run, number) is not None
    if not there:
        raise InputError(f"there is no run {number}", "see /runs for their numbers")
    performances.cancel(database, number)


def status(database: Database) -> dict[str, Any]:
    """What there is, by state where things have one."""
    with database.reading() as transaction:
        counts: dict[str, Any] = {
            name: transaction.scalar(select(func.count()).select_from(table)) or 0
            for name, table in (("papers", Paper), ("readers", User), ("votes", Vote), ("comments", Comment))
        }
        counts["subscriptions"] = (
            transaction.scalar(
                select(func.count()).where(Subscription.confirmed.is_not(None), Subscription.ended.is_(None))
            )
            or 0
        )
        for name, table in (("runs", Run), ("jobs", Job), ("mails", Mail)):
            rows = transaction.execute(select(table.state, func.count()).group_by(table.state))
            counts[name] = {row[0]: row[1] for row in rows}
        counts["workers"] = {
            one.name: one.heartbeat.isoformat(timespec="seconds") for one in transaction.scalars(select(WorkerRow))
        }
    return counts

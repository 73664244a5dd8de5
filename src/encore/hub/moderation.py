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
        InputError: there is no such comment, reader or run; then nothing is done.
    """
    _check(database, comments, [*ban, *unban], runs)
    done = []
    for number in comments:
        said.remove(database, number)
        done.append(f"comment {number} is deleted")
    for address, banned in [*((one, True) for one in ban), *((one, False) for one in unban)]:
        _set_banned(database, address, banned)
        done.append(f"{address} is {'banned' if banned else 'let in'}")
    for number in runs:
        performances.cancel(database, number)
        done.append(f"run {number} ends")
    return done


def _check(database: Database, comments: Sequence[int], addresses: Sequence[str], runs: Sequence[int]) -> None:
    """Refuse everything if something of it cannot be done."""
    with database.reading() as transaction:
        for number in comments:
            comment = transaction.get(Comment, number)
            if comment is None or comment.deleted:
                raise InputError(f"there is no comment {number}", "its number stands in the link to it")
        for address in addresses:
            if transaction.scalars(select(User).where(User.email == address.strip().lower())).first() is None:
                raise InputError(f"nobody has signed in as {address}", "give the address as it was signed in with")
        for number in runs:
            run = transaction.get(Run, number)
            if run is None or run.state not in {"queued", "running"}:
                raise InputError(f"no run {number} waits or goes on", "see /runs for their numbers")


def _set_banned(database: Database, address: str, banned: bool) -> None:
    with database.writing() as transaction:
        user = transaction.scalars(select(User).where(User.email == address.strip().lower())).one()
        user.banned = banned
        if banned:
            transaction.execute(delete(Session).where(Session.user_id == user.id))


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
        troubled = select(Mail.error).where(Mail.state == "queued", Mail.error.is_not(None)).order_by(Mail.id.desc())
        counts["mail_trouble"] = transaction.scalars(troubled.limit(1)).first()
        counts["workers"] = {
            one.name: one.heartbeat.isoformat(timespec="seconds") for one in transaction.scalars(select(WorkerRow))
        }
    return counts

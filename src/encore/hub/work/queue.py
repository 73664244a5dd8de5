"""The rows of runs, as workers take them, mind them and settle them.

A run is minded by one worker. Whatever is written of it is written in one transaction that holds its row and finds
that worker in it, together with how far its log has been read: so a worker that was taken for dead can add nothing,
and no line of the log is kept twice or lost.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Database, Run, SourceState
from encore.hub.database.tables import now
from encore.hub.runs import Event, account_name, append_events
from encore.hub.work.presence import living_in
from encore.hub.work.process import RunProcess, machine
from encore.hub.work.progress import Position

STARTS = 5
"""How often a run is begun or continued before it has failed."""

OTHER_MACHINE = datetime.timedelta(minutes=2)
"""How long a run whose worker died waits for another worker on its machine, which may find it alive."""


@dataclass(frozen=True)
class Account:
    """What a worker remembers of a run from one look to the next.

    Attributes:
        position: how far its log has been read.
        starts: how often it has been started.
        kept: number of its events.
    """

    position: Position = field(default_factory=Position)
    starts: int = 0
    kept: int = 0


class LostRunError(Exception):
    """Another worker minds the run by now."""


def claim(database: Database, worker: str) -> Run | None:
    """Take the run that has waited longest; None if none waits."""
    first = select(Run).where(Run.state == "queued").order_by(Run.id).limit(1)
    with database.reading() as transaction:
        if transaction.scalars(first).first() is None:
            return None
    with database.writing() as transaction:
        run = transaction.scalars(database.claimed(first)).first()
        if run is not None:
            moment = now()
            run.state, run.worker, run.heartbeat, run.started = "running", worker, moment, run.started or moment
            run.pid = run.pid_started = run.host = None
        return run


def adopt(database: Database, worker: str, living: Collection[str], minded: Collection[int]) -> Run | None:
    """Take over a run that nobody minds; None if there is none.

    Args:
        database: the hub's.
        worker: who takes it.
        living: workers that are alive, `worker` among them.
        minded: the runs that `worker` looks after.
    """
    here = or_(Run.host.is_(None), Run.host == machine(), Run.heartbeat < now() - OTHER_MACHINE)
    forgotten = and_(Run.worker == worker, Run.id.not_in(minded))
    query = select(Run).where(Run.state == "running", or_(Run.worker.is_(None), Run.worker.not_in(living), forgotten))
    query = query.where(here).order_by(Run.id).limit(1)
    with database.reading() as transaction:
        if transaction.scalars(query).first() is None:
            return None
    with database.writing() as transaction:
        run = transaction.scalars(database.claimed(query)).first()
        if run is None or (run.worker != worker and run.worker in living_in(transaction)):
            return None  # its worker began after `living` was read
        run.worker, run.heartbeat = worker, now()
        return run


def account_of(database: Database, run_id: int) -> Account:
    """What the last worker remembered."""
    with database.reading() as transaction:
        row = transaction.get(SourceState, account_name(run_id))
        if row is None:
            return Account()
        content = row.content
    return Account(Position(content["offset"], content["pending"]), content["starts"], content["kept"])


def begin(database: Database, run: Run, process: RunProcess, account: Account) -> Account:
    """Write down the process of a run that is about to go.

    Raises:
        LostRunError: another worker minds it.
    """
    with database.writing() as transaction:
        row = _held(transaction, run)
        row.pid, row.pid_started, row.host, row.heartbeat = process.pid, process.started, machine(), now()
        event: Event = ("state", {"state": "running", "continued": account.starts > 0})
        return _write(transaction, run.id, Account(account.position, account.starts + 1), [event])


def keep(database: Database, run: Run, events: Sequence[Event], account: Account) -> tuple[Account, bool]:
    """Write down what a run has said, how far that was, and that somebody minds it.

    Returns:
        The account, and whether somebody asked for the run's end.

    Raises:
        LostRunError: another worker minds it.
    """
    with database.writing() as transaction:
        row = _held(transaction, run)
        row.heartbeat = now()
        return _write(transaction, run.id, account, events), row.cancel


def is_cancelled(database: Database, run: Run) -> bool:
    """Whether somebody asked for the run's end."""
    with database.reading() as transaction:
        return bool(transaction.scalar(select(Run.cancel).where(Run.id == run.id)))


def settle(
    database: Database,
    run: Run,
    state: str,
    *,
    exit_code: int | None = None,
    error: str | None = None,
    record: dict[str, Any] | None = None,
) -> None:
    """Write down how a run ended.

    Raises:
        LostRunError: another worker minds it.
    """
    with database.writing() as transaction:
        row = _held(transaction, run)
        row.state, row.exit_code, row.error, row.record, row.finished = state, exit_code, error, record, now()
        append_events(transaction, run.id, [("state", {"state": state, "error": error})])
        remembered = transaction.get(SourceState, account_name(run.id))
        if remembered is not None:
            transaction.delete(remembered)


def queue_again(database: Database, run: Run) -> None:
    """Let a run wait for a worker that continues it.

    Raises:
        LostRunError: another worker minds it.
    """
    with database.writing() as transaction:
        row = _held(transaction, run)
        row.state, row.worker, row.pid, row.pid_started, row.host = "queued", None, None, None, None
        append_events(transaction, run.id, [("state", {"state": "queued", "continued": True})])


def _held(transaction: Transaction, run: Run) -> Run:
    own = select(Run).where(Run.id == run.id, Run.state == "running", Run.worker == run.worker)
    row = transaction.scalars(own.with_for_update()).first()
    if row is None:
        raise LostRunError(f"run {run.id} is minded by another worker")
    return row


def _write(transaction: Transaction, run_id: int, account: Account, events: Sequence[Event]) -> Account:
    kept = append_events(transaction, run_id, events)
    content = {
        "offset": account.position.offset,
        "pending": dict(account.position.pending),
        "starts": account.starts,
        "kept": kept,
    }
    transaction.merge(SourceState(name=account_name(run_id), content=content, changed=now()))
    return Account(account.position, account.starts, kept)

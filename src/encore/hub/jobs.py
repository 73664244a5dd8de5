"""Work that waits for a worker: put down once, taken by one, tried again when it fails.

**Once.** Of the jobs that share a name (`once`) at most one waits and at most one runs. A job that is put down while
another of its name runs does wait, since what is running may have begun before there was anything new to see. While a
job runs its name carries a mark, so that the plain name is free for the next; a job that has ended has none.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.orm import aliased

from encore.hub.database import Database, Job, insert_into
from encore.hub.database.tables import now

TRIES = 5
"""After which a job has failed."""

FIRST_WAIT = datetime.timedelta(seconds=10)
"""Before the second try; each further one waits five times as long."""

_RUNNING = "@"


def put(
    transaction: Transaction,
    kind: str,
    payload: dict[str, Any] | None = None,
    *,
    once: str | None = None,
    user_id: int | None = None,
    delay: datetime.timedelta | None = None,
) -> bool:
    """Leave a job for a worker.

    Args:
        transaction: the job is there when it is committed.
        kind: a key of `encore.hub.work.handlers.HANDLERS`.
        payload: what the handler is given.
        once: a name; where a job of that name waits already, nothing is added.
        user_id: who asked for it.
        delay: before it may be taken.

    Returns:
        Whether it was added.
    """
    created = now()
    values = {
        "kind": kind,
        "once": once,
        "payload": payload or {},
        "user_id": user_id,
        "state": "queued",
        "attempts": 0,
        "not_before": created + (delay or datetime.timedelta()),
        "created": created,
    }
    added = insert_into(transaction, Job).values(values).on_conflict_do_nothing(index_elements=["once"])
    return transaction.scalar(added.returning(Job.id)) is not None


def claim(database: Database, worker: str, kinds: Collection[str] | None = None) -> Job | None:
    """Take the job that has waited longest; None if there is none.

    Args:
        database: the hub's.
        worker: who takes it.
        kinds: only jobs of these; None takes any.
    """
    other = aliased(Job)
    waiting = select(Job).where(
        Job.state == "queued", Job.not_before <= now(), ~exists().where(other.once == Job.once + _RUNNING)
    )
    if kinds is not None:
        waiting = waiting.where(Job.kind.in_(kinds))
    first = waiting.order_by(Job.not_before, Job.id).limit(1)
    with database.reading() as transaction:  # most often there is none, and looking disturbs no writer
        if transaction.scalars(first).first() is None:
            return None
    with database.writing() as transaction:
        job = transaction.scalars(database.claimed(first)).first()
        if job is not None:
            job.state, job.worker, job.attempts = "running", worker, job.attempts + 1
            job.once = None if job.once is None else job.once + _RUNNING
        return job


def finish(database: Database, job: Job) -> None:
    """Write down that a claimed job is done; nothing happens where another worker has it by now."""
    with database.writing() as transaction:
        own = _own(transaction, job)
        if own is not None:
            own.state, own.once, own.finished, own.error = "done", None, now(), None


def fail(database: Database, job: Job, error: str, *, for_good: bool = False) -> None:
    """Write down that a claimed job went wrong: it waits for its next try, or has failed for good.

    Args:
        database: the hub's.
        job: as `claim` gave it.
        error: why; kept as one line.
        for_good: no other try would do better.
    """
    with database.writing() as transaction:
        own = _own(transaction, job)
        if own is not None:
            wait = FIRST_WAIT * 5 ** (own.attempts - 1)
            _queue_again(transaction, own, " ".join(error.split())[:500], wait, for_good=for_good)


def newest(transaction: Transaction, kind: str, payload: dict[str, Any]) -> Job | None:
    """The job of a kind and payload that was put last, whatever its state."""
    found = transaction.scalars(select(Job).where(Job.kind == kind).order_by(Job.id.desc()).limit(1000))
    return next((job for job in found if job.payload == payload), None)


def release(database: Database, dead: Collection[str]) -> int:
    """Let jobs of dead workers wait again.

    Returns:
        How many there were.
    """
    with database.reading() as transaction:
        held = transaction.scalars(select(Job.id).where(Job.state == "running", Job.worker.in_(dead))).all()
    for job_id in held:
        with database.writing() as transaction:
            query = select(Job).where(Job.id == job_id, Job.state == "running", Job.worker.in_(dead))
            job = transaction.scalars(database.claimed(query)).first()
            if job is not None:
                _queue_again(transaction, job, "its worker died", datetime.timedelta())
    return len(held)


def _own(transaction: Transaction, job: Job) -> Job | None:
    own = select(Job).where(Job.id == job.id, Job.state == "running", Job.worker == job.worker)
    return transaction.scalars(own.with_for_update()).first()


def _queue_again(
    transaction: Transaction, job: Job, error: str, wait: datetime.timedelta, *, for_good: bool = False
) -> None:
    job.error, job.worker = error, None
    name = None if job.once is None else job.once.removesuffix(_RUNNING)
    if for_good or job.attempts >= TRIES:
        job.state, job.once, job.finished = "failed", None, now()
        return
    try:
        with transaction.begin_nested():
            job.state, job.once, job.not_before = "queued", name, now() + wait
            transaction.flush()
    except IntegrityError:  # another one of its name waits already, and will do
        job.state, job.once, job.finished = "failed", None, now()
        job.error, job.worker = f"{error}; another one waits", None

"""Who is alive: processes that take mails, jobs and runs say so in the database, under a name that tells where."""

from __future__ import annotations

import datetime
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Database, Job, Mail, WorkerRow
from encore.hub.database.tables import now
from encore.hub.work.process import machine, process_lives

HEARTBEAT_SECONDS = 5.0

DEAD_AFTER = datetime.timedelta(seconds=30)
"""Without a heartbeat."""

_logger = logging.getLogger(__name__)


def process_name() -> str:
    """Names this process, unlike any other on any machine: machine, number and start."""
    return f"{machine()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


@contextmanager
def present(database: Database) -> Iterator[str]:
    """Alive under this process's name while a `with` lasts, for a command that does a worker's work.

    Yields:
        The name, under which mails may be sent.
    """
    name, over = process_name(), threading.Event()
    beat(database, name)
    thread = threading.Thread(target=_keep_beating, args=(database, name, over), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield name
    finally:
        over.set()
        thread.join()
        leave(database, name)


def _keep_beating(database: Database, name: str, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT_SECONDS):
        try:
            beat(database, name)
        except SQLAlchemyError:  # a database that is away for a moment; the next beat may reach it
            _logger.exception("no heartbeat")


def beat(database: Database, name: str) -> None:
    """Say that somebody is alive."""
    with database.writing() as transaction:
        own = update(WorkerRow).where(WorkerRow.name == name).values(heartbeat=now()).returning(WorkerRow.name)
        if transaction.scalar(own) is None:
            transaction.add(WorkerRow(name=name))


def leave(database: Database, name: str) -> None:
    """Say that somebody has gone."""
    with database.writing() as transaction:
        transaction.execute(delete(WorkerRow).where(WorkerRow.name == name))


def living(database: Database) -> list[str]:
    """Workers that are alive."""
    with database.reading() as transaction:
        return living_in(transaction)


def living_in(transaction: Transaction) -> list[str]:
    """Workers that are alive, as a transaction sees it."""
    rows = transaction.scalars(select(WorkerRow.name).where(WorkerRow.heartbeat >= now() - DEAD_AFTER))
    return [name for name in rows if not _is_known_dead(name)]


def gone(database: Database) -> list[str]:
    """Workers that are dead and have left a row, a mail or a job."""
    with database.reading() as transaction:
        named = {
            *transaction.scalars(select(WorkerRow.name)),
            *transaction.scalars(select(Mail.worker).where(Mail.state == "sending").distinct()),
            *transaction.scalars(select(Job.worker).where(Job.state == "running").distinct()),
        }
    alive = living(database)  # afterwards: whoever began in between has said so before taking anything
    return sorted(name for name in named if name is not None and name not in alive)


def _is_known_dead(name: str) -> bool:
    """Whether a worker's process was on this machine and is gone, so that nobody need wait for its heartbeat."""
    place, _, rest = name.partition(":")
    pid, _, started = rest.partition(":")
    return place == machine() and pid.isdigit() and started.isdigit() and not process_lives(int(pid), float(started))

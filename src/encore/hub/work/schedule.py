"""What happens by the clock: imports and digests once a day, and the removal of what has expired.

Every worker has this schedule. What is due is put into the queue of jobs together with a note of its day, so that it
is queued once whatever number of workers there is; a worker that starts late in the day catches up.
"""

from __future__ import annotations

import datetime
import time

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Transaction

from encore.hub import jobs
from encore.hub.database import Database, Job, Mail, RateLimit, Session, SourceState, insert_into
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings

JOBS_KEPT = datetime.timedelta(days=14)
"""How long jobs that have ended can be looked up."""

MAILS_KEPT = datetime.timedelta(days=60)
"""How long it is known to whom a mail was sent. By then nobody asks for a digest of its day any more."""

AFTER_IMPORTS = datetime.timedelta(minutes=15)
"""How long digests wait for imports that were queued with them."""


def start_schedule(database: Database, settings: HubSettings) -> BackgroundScheduler:
    """Catch up with the day, and do the rest when it is due, in threads of the scheduler."""
    scheduler = BackgroundScheduler(timezone=datetime.UTC, job_defaults={"coalesce": True, "misfire_grace_time": None})
    scheduler.add_job(queue_due, "cron", args=(database, settings), minute="0,20,40", next_run_time=now())
    scheduler.add_job(tidy, "cron", args=(database,), minute=7, next_run_time=now())
    scheduler.start()
    return scheduler


def queue_due(database: Database, settings: HubSettings, moment: datetime.datetime | None = None) -> list[str]:
    """Queue what is due today by now and is not queued yet: imports an hour before `digest_hour`, then digests.

    Args:
        database, settings: the hub's.
        moment: taken for now.

    Returns:
        What was queued: `import:arxiv`, `digest` …
    """
    moment = moment or now()
    day = moment.date().isoformat()
    queued = []
    with database.writing() as transaction:
        if moment.hour >= (settings.digest_hour - 1) % 24:
            for source in settings.daily_imports:
                if _is_first(transaction, f"daily:import:{source}", day):
                    jobs.put(transaction, "import", {"source": source}, once=f"import:{source}")
                    queued.append(f"import:{source}")
        if moment.hour >= settings.digest_hour and _is_first(transaction, "daily:digest", day):
            delay = AFTER_IMPORTS if queued else None
            jobs.put(transaction, "digest", {"day": day}, once=f"digest:{day}", delay=delay)
            queued.append("digest")
    return queued


def tidy(database: Database) -> None:
    """Remove sessions, rate limits, jobs and mails whose time is over."""
    moment = now()
    with database.writing() as transaction:
        transaction.execute(delete(Session).where(Session.expires < moment))
    with database.writing() as transaction:
        transaction.execute(delete(RateLimit).where(RateLimit.expires < time.time()))
    with database.writing() as transaction:
        transaction.execute(delete(Job).where(Job.finished < moment - JOBS_KEPT, Job.state.in_(("done", "failed"))))
    with database.writing() as transaction:
        transaction.execute(delete(Mail).where(Mail.finished < moment - MAILS_KEPT, Mail.state.in_(("sent", "failed"))))


def _is_first(transaction: Transaction, name: str, day: str) -> bool:
    """Note `day` under `name`; False if it was noted already."""
    none = insert_into(transaction, SourceState).values(name=name, content={"day": ""}, changed=now())
    transaction.execute(none.on_conflict_do_nothing(index_elements=["name"]))
    row = transaction.scalars(select(SourceState).where(SourceState.name == name).with_for_update()).one()
    if row.content["day"] >= day:
        return False
    row.content = {"day": day}
    return True

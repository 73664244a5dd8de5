"""What is due is queued once a day by whatever number of workers, and what has expired goes."""

from __future__ import annotations

import datetime
import threading
import time

import pytest
from sqlalchemy import select

from encore.hub.database import Database, Job, Mail, RateLimit, Session
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings
from encore.hub.work.schedule import queue_due, start_schedule, tidy


def _at(hour: int, day: int = 27) -> datetime.datetime:
    return datetime.datetime(2026, 11, day, hour, 10, tzinfo=datetime.UTC)


@pytest.fixture
def importing(settings: HubSettings) -> HubSettings:
    """Of a hub that reads two sources every morning."""
    return settings.model_copy(update={"daily_imports": ("arxiv", "huggingface")})


def _jobs(database: Database) -> list[Job]:
    with database.reading() as transaction:
        return list(transaction.scalars(select(Job).order_by(Job.id)))


def test_imports_come_an_hour_before_digests_and_each_once_a_day(database: Database, importing: HubSettings) -> None:
    assert queue_due(database, importing, _at(4)) == []
    assert queue_due(database, importing, _at(5)) == ["import:arxiv", "import:huggingface"]
    assert queue_due(database, importing, _at(5)) == []
    assert queue_due(database, importing, _at(6)) == ["digest"]
    assert queue_due(database, importing, _at(23)) == []
    assert queue_due(database, importing, _at(5, day=28)) == ["import:arxiv", "import:huggingface"]
    assert [job.payload for job in _jobs(database)] == [  # yesterday's imports still wait, and will do
        {"source": "arxiv"},
        {"source": "huggingface"},
        {"day": "2026-11-27"},
    ]


def test_a_worker_that_starts_late_catches_up_and_lets_digests_wait_for_imports(
    database: Database, importing: HubSettings
) -> None:
    assert queue_due(database, importing, _at(15)) == ["import:arxiv", "import:huggingface", "digest"]
    digest = _jobs(database)[-1]
    assert (digest.not_before - digest.created).total_seconds() == pytest.approx(900)


def test_several_workers_queue_what_is_due_once(database: Database, importing: HubSettings) -> None:
    queued: list[str] = []
    threads = [threading.Thread(target=lambda: queued.extend(queue_due(database, importing, _at(7)))) for _ in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(queued) == ["digest", "import:arxiv", "import:huggingface"]


def test_what_has_expired_goes_and_the_rest_stays(database: Database) -> None:
    old, soon = now() - datetime.timedelta(days=20), now() + datetime.timedelta(hours=1)
    with database.writing() as transaction:
        transaction.add_all(Session(digest=name, kind="link", expires=at) for name, at in (("old", old), ("new", soon)))
        transaction.add_all(
            RateLimit(key=name, count=1, expires=time.time() + seconds) for name, seconds in (("old", -1), ("new", 60))
        )
        transaction.add_all(
            Job(kind=state, state=state, finished=at)
            for state, at in (("done", old), ("failed", now()), ("queued", None))
        )
        older = now() - datetime.timedelta(days=61)
        transaction.add_all(
            Mail(kind="digest", recipient="a@x.org", subject="", text="", once=once, state=state, finished=at)
            for once, state, at in (
                ("gone", "sent", older),
                ("gone too", "failed", older),
                ("sent", "sent", old),
                ("uncertain", "uncertain", older),
                ("queued", "queued", None),
            )
        )
    for _ in range(2):
        tidy(database)
    with database.reading() as transaction:
        assert list(transaction.scalars(select(Session.digest))) == ["new"]
        assert list(transaction.scalars(select(RateLimit.key))) == ["new"]
        assert sorted(transaction.scalars(select(Job.state))) == ["failed", "queued"]
        assert sorted(filter(None, transaction.scalars(select(Mail.once)))) == ["queued", "sent", "uncertain"]


def test_the_schedule_looks_at_once_when_it_starts(database: Database, settings: HubSettings) -> None:
    settings = settings.model_copy(update={"digest_hour": 0})
    scheduler = start_schedule(database, settings)
    deadline = time.monotonic() + 5
    while not _jobs(database) and time.monotonic() < deadline:
        time.sleep(0.02)
    scheduler.shutdown()
    assert [job.kind for job in _jobs(database)] == ["digest"]

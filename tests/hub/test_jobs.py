"""Jobs are done once by one worker, wait once under a name, and are tried again."""

from __future__ import annotations

import datetime
import threading
from collections import Counter

import pytest
from sqlalchemy import select

from encore.hub import jobs
from encore.hub.database import Database, Job
from encore.hub.database.tables import now


def _put(database: Database, kind: str = "index", *, once: str | None = None) -> bool:
    with database.writing() as transaction:
        return jobs.put(transaction, kind, {"key": "é"}, once=once)


def _states(database: Database) -> Counter[str]:
    with database.reading() as transaction:
        return Counter(transaction.scalars(select(Job.state)))


def _let_it_be_due(database: Database) -> None:
    with database.writing() as transaction:
        for job in transaction.scalars(select(Job)):
            job.not_before = now() - datetime.timedelta(seconds=1)


def test_a_job_is_claimed_once_with_its_payload_and_then_done(database: Database) -> None:
    assert _put(database)
    job = jobs.claim(database, "a")
    assert job is not None
    assert (job.kind, job.payload, job.worker, job.attempts) == ("index", {"key": "é"}, "a", 1)
    assert jobs.claim(database, "b") is None
    jobs.finish(database, job)
    assert _states(database) == {"done": 1}


def test_a_name_waits_once(database: Database) -> None:
    assert [_put(database, once="index") for _ in range(3)] == [True, False, False]
    assert [_put(database) for _ in range(2)] == [True, True]


def test_what_is_put_while_its_namesake_runs_waits_until_that_one_is_done(database: Database) -> None:
    _put(database, once="index")
    first = jobs.claim(database, "a")
    assert first is not None
    assert [_put(database, once="index") for _ in range(2)] == [True, False]
    assert jobs.claim(database, "b") is None
    jobs.finish(database, first)
    second = jobs.claim(database, "b")
    assert second is not None
    assert second.id != first.id
    jobs.finish(database, second)
    assert _put(database, once="index")


def test_a_failing_job_is_tried_five_times_with_growing_waits(database: Database) -> None:
    _put(database, once="index")
    waits = []
    for _ in range(jobs.TRIES):
        job = jobs.claim(database, "a")
        assert job is not None
        jobs.fail(database, job, "the server\nis away")
        assert jobs.claim(database, "a") is None
        with database.reading() as transaction:
            kept = transaction.get_one(Job, job.id)
        waits.append((kept.not_before - now()).total_seconds())
        _let_it_be_due(database)
    assert waits[:4] == pytest.approx([10, 50, 250, 1250], abs=5)
    assert (kept.state, kept.error, kept.once) == ("failed", "the server is away", None)
    assert _put(database, once="index")


def test_a_failed_try_gives_way_to_a_namesake_that_waits(database: Database) -> None:
    _put(database, once="index")
    job = jobs.claim(database, "a")
    assert job is not None
    _put(database, once="index")
    jobs.fail(database, job, "no room")
    with database.reading() as transaction:
        kept = transaction.get_one(Job, job.id)
    assert (kept.state, kept.error) == ("failed", "no room; another one waits")
    assert jobs.claim(database, "a") is not None


def test_a_job_is_not_taken_before_its_delay_is_over(database: Database) -> None:
    with database.writing() as transaction:
        jobs.put(transaction, "index", delay=datetime.timedelta(seconds=0.3))
    assert jobs.claim(database, "a") is None
    _let_it_be_due(database)
    assert jobs.claim(database, "a") is not None


def test_a_worker_takes_only_the_kinds_it_asks_for(database: Database) -> None:
    _put(database, "index")
    assert jobs.claim(database, "a", ("submit",)) is None
    assert jobs.claim(database, "a", ("submit", "index")) is not None


def test_jobs_of_the_dead_wait_again_and_what_the_dead_say_of_them_is_not_heard(database: Database) -> None:
    _put(database, once="index")
    job = jobs.claim(database, "dead")
    assert job is not None
    assert jobs.release(database, ["someone else"]) == 0
    assert jobs.release(database, ["dead"]) == 1
    again = jobs.claim(database, "alive")
    assert again is not None
    assert again.id == job.id
    jobs.finish(database, job)
    assert _states(database) == {"running": 1}


def test_many_workers_take_every_job_once(database: Database) -> None:
    for _ in range(24):
        _put(database)
    taken: list[int] = []

    def work(name: str) -> None:
        while (job := jobs.claim(database, name)) is not None:
            taken.append(job.id)
            jobs.finish(database, job)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(taken) == len(set(taken))
    while (left := jobs.claim(database, "last")) is not None:  # passed over while somebody else held it
        taken.append(left.id)
    assert len(taken) == 24


def test_a_name_put_down_by_many_at_once_waits_once(database: Database) -> None:
    added: list[bool] = []
    threads = [threading.Thread(target=lambda: added.append(_put(database, once="index"))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(added) == [False] * 7 + [True]

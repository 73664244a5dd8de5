"""Workers: every kind of work gets done, once, whatever dies."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from encore.base.errors import ConfigurationError, DataError, UnknownNameError
from encore.hub import jobs, runs
from encore.hub.database import Database, Job, Mail, Run, WorkerRow
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings
from encore.hub.sources.client import SourceError
from encore.hub.work import presence, queue, worker
from encore.hub.work.handlers import Handler
from encore.hub.work.runner import Runner
from encore.hub.work.worker import Worker
from tests.hub.work import stand_in
from tests.hub.work.conftest import Wait, Watch, processes_of

pytestmark = pytest.mark.usefixtures("no_run_is_left", "quick_looks")

ROOT = Path(__file__).parents[3]

Working = Callable[..., Any]


@pytest.fixture
def working(database: Database, settings: HubSettings) -> Working:
    """Workers in threads of this process, while a `with` lasts."""

    @contextmanager
    def work(*names: str, handlers: Mapping[str, Handler] | None = None) -> Iterator[None]:
        stop = threading.Event()
        runner = Runner(database, settings, stand_in.command)
        workers = [Worker(database, settings, name, runner=runner, handlers=handlers or {}) for name in names]
        threads = [threading.Thread(target=one.run, args=(stop,)) for one in workers]
        for one in threads:
            one.start()
        try:
            yield
        finally:
            stop.set()
            for one in threads:
                one.join(15)
            assert not any(one.is_alive() for one in threads)

    return work


class Program:
    """A worker as a process."""

    def __init__(self, settings: HubSettings) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.work.worker_program"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(settings.model_dump_json())
        self.process.stdin.close()

    def end(self, number: signal.Signals) -> str:
        """Send a signal, wait, and return what it logged."""
        assert self.process.stderr is not None
        self.process.send_signal(number)
        said = self.process.stderr.read()
        self.process.wait(15)
        self.process.stderr.close()
        return said


@pytest.fixture
def program(settings: HubSettings, database: Database) -> Iterator[Callable[[], Program]]:
    """Starts workers as processes."""
    started: list[Program] = []

    def start() -> Program:
        started.append(Program(settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def _count(database: Database, table: type, *conditions: Any) -> int:
    with database.reading() as transaction:
        return transaction.scalar(select(func.count()).select_from(table).where(*conditions)) or 0


def test_two_workers_take_every_run_once(
    working: Working,
    queued: Callable[[str], Run],
    watch: Watch,
    wait_for: Wait,
    database: Database,
    settings: HubSettings,
) -> None:
    asked = [queued("quick") for _ in range(8)]
    with working("a", "b"):
        wait_for(lambda: _count(database, Run, Run.state == "done") == len(asked))
    for run in asked:
        assert len(processes_of(runs.folder_of(settings, run.id))) == 1
        assert watch.steps(run.id) == list(range(40))
        assert watch.states(run.id) == ["queued", "running", "done"]
    assert {watch.run(run.id).worker for run in asked} == {"a", "b"}


def test_a_worker_performs_no_more_runs_at_once_than_it_may(
    working: Working, queued: Callable[[str], Run], wait_for: Wait, database: Database
) -> None:
    first, second = queued("waits"), queued("waits")
    with working("a"):
        wait_for(lambda: _count(database, Run, Run.state == "running") == 1)
        runs.cancel(database, first.id)
        wait_for(lambda: _count(database, Run, Run.state == "running", Run.id == second.id) == 1)
        runs.cancel(database, second.id)
        wait_for(lambda: _count(database, Run, Run.state == "cancelled") == 2)


def test_a_worker_that_is_killed_leaves_its_run_running_and_the_next_one_misses_nothing(
    program: Callable[[], Program], queued: Callable[[str], Run], watch: Watch, wait_for: Wait, settings: HubSettings
) -> None:
    run = queued("slow")
    first = program()
    wait_for(lambda: len(watch.steps(run.id)) > 2)
    first.end(signal.SIGKILL)
    assert watch.run(run.id).state == "running"
    assert watch.lives(run.id)
    second = program()
    wait_for(lambda: watch.run(run.id).state == "done")
    assert "is adopted" in second.end(signal.SIGTERM)
    assert watch.steps(run.id) == list(range(40))
    assert watch.states(run.id) == ["queued", "running", "done"]
    assert len(processes_of(runs.folder_of(settings, run.id))) == 1


def test_a_worker_that_is_told_to_stop_leaves_its_run_running_and_says_so(
    program: Callable[[], Program], queued: Callable[[str], Run], watch: Watch, wait_for: Wait, database: Database
) -> None:
    run = queued("waits")
    one = program()
    wait_for(lambda: watch.events(run.id, "message"))
    said = one.end(signal.SIGTERM)
    assert "runs that go on without it: 1" in said
    assert one.process.returncode == 0
    assert watch.lives(run.id)
    assert _count(database, WorkerRow) == 0


def test_a_run_whose_thread_broke_is_taken_up_again(
    working: Working,
    queued: Callable[[str], Run],
    watch: Watch,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "TROUBLE_SECONDS", 0.1)
    keep, calls = queue.keep, []

    def away(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise OperationalError("UPDATE", {}, Exception("the database is away"))
        return keep(*given)

    monkeypatch.setattr(queue, "keep", away)
    run = queued("slow")
    with working("a"):
        wait_for(lambda: watch.run(run.id).state == "done")
    assert watch.steps(run.id) == list(range(40))
    assert watch.states(run.id) == ["queued", "running", "done"]


def test_a_long_job_holds_up_nothing_else(
    working: Working, queued: Callable[[str], Run], watch: Watch, wait_for: Wait, database: Database
) -> None:
    release, done = threading.Event(), threading.Event()
    handlers: dict[str, Handler] = {
        "index": lambda *_: release.wait(20) and None,
        "submit": lambda _database, _settings, payload: done.set() if payload == {"arxiv": "1511.00561"} else None,
    }
    with database.writing() as transaction:
        jobs.put(transaction, "index", once="index")
        jobs.put(transaction, "submit", {"arxiv": "1511.00561"})
        transaction.add(Mail(kind="sign_in", recipient="a@example.org", subject="Sign in", text="link"))
    run = queued("quick")
    with working("a", handlers=handlers):
        wait_for(lambda: watch.run(run.id).state == "done")
        wait_for(lambda: _count(database, Mail, Mail.state == "sent") == 1)
        wait_for(lambda: _count(database, Job, Job.kind == "submit", Job.state == "done") == 1)
        assert _count(database, Job, Job.kind == "index", Job.state == "running") == 1
        release.set()
        wait_for(lambda: _count(database, Job, Job.kind == "index", Job.state == "done") == 1)


def test_a_job_that_goes_wrong_waits_for_its_next_try_with_the_reason(
    working: Working, wait_for: Wait, database: Database
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("arxiv")

    with database.writing() as transaction:
        jobs.put(transaction, "submit")
    with working("a", handlers={"submit": fail}):
        wait_for(lambda: _count(database, Job, Job.error == "'arxiv'", Job.state == "queued", Job.attempts == 1) == 1)


@pytest.mark.parametrize(
    "fault",
    [DataError("no such paper", "check"), ConfigurationError("no way", "set"), UnknownNameError("source", "x", ["a"])],
)
def test_a_job_that_no_time_mends_has_failed_at_once(
    working: Working, wait_for: Wait, database: Database, fault: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    with database.writing() as transaction:
        jobs.put(transaction, "submit", once="submit:1")
    with working("a", handlers={"submit": fail}):
        wait_for(lambda: _count(database, Job, Job.state == "failed", Job.attempts == 1, Job.once.is_(None)) == 1)
    with database.reading() as transaction:
        assert transaction.scalars(select(Job.error).where(Job.kind == "submit")).one() == str(fault)


def test_a_host_that_does_not_answer_is_asked_again(working: Working, wait_for: Wait, database: Database) -> None:
    def fail(*_: Any) -> None:
        raise SourceError("arXiv answers 503", "wait")

    with database.writing() as transaction:
        jobs.put(transaction, "import")
    with working("a", handlers={"import": fail}):
        wait_for(lambda: _count(database, Job, Job.state == "queued", Job.attempts == 1) == 1)


def test_a_command_that_sends_mails_is_not_taken_for_dead(
    working: Working, wait_for: Wait, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "HEARTBEAT_SECONDS", 0.1)
    with presence.present(database) as name, working("a"):
        with database.writing() as transaction:
            transaction.add(Mail(kind="digest", recipient="a@x.org", subject="", text="", state="sending", worker=name))
            began = transaction.get_one(WorkerRow, name).heartbeat
        wait_for(lambda: _count(database, WorkerRow, WorkerRow.name == name, WorkerRow.heartbeat > began) == 1)
        with database.writing() as transaction:
            transaction.add(WorkerRow(name="dead", heartbeat=now() - datetime.timedelta(minutes=1)))
        wait_for(lambda: _count(database, WorkerRow, WorkerRow.name == "dead") == 0)
        assert name == presence.process_name()
        assert _count(database, Mail, Mail.state == "sending") == 1
    assert _count(database, WorkerRow) == 0
    assert presence.gone(database) == [name]


def test_what_a_dead_worker_left_is_taken_over_and_its_mail_is_uncertain(
    working: Working, queued: Callable[[str], Run], watch: Watch, wait_for: Wait, database: Database
) -> None:
    run = queued("quick")
    queue.claim(database, "dead")
    with database.writing() as transaction:
        transaction.add(WorkerRow(name="dead", heartbeat=now() - datetime.timedelta(minutes=1)))
        transaction.add(Mail(kind="digest", recipient="a@x.org", subject="", text="", state="sending", worker="dead"))
        jobs.put(transaction, "submit")
    jobs.claim(database, "dead")
    with working("a", handlers={"submit": lambda *_: None}):
        wait_for(lambda: watch.run(run.id).state == "done")
        wait_for(lambda: _count(database, Job, Job.state == "done", Job.kind == "submit") == 1)
        wait_for(lambda: _count(database, Mail, Mail.state == "uncertain") == 1)
        wait_for(lambda: _count(database, WorkerRow, WorkerRow.name == "dead") == 0)


def test_a_worker_of_this_machine_whose_process_is_gone_is_dead_at_once(database: Database) -> None:
    mine = Worker(database, HubSettings(folder=Path(), secret="s" * 40)).name
    with database.writing() as transaction:
        transaction.add_all(WorkerRow(name=name) for name in (mine, mine.rpartition(":")[0] + ":1", "elsewhere:1:1"))
    assert sorted(presence.living(database)) == sorted([mine, "elsewhere:1:1"])
    assert presence.gone(database) == [mine.rpartition(":")[0] + ":1"]

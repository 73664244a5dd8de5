"""One run: started, followed, settled as it ended; adopted after its worker; ended when somebody asks for it."""

from __future__ import annotations

import datetime
import os
import signal
import threading
from collections.abc import Callable

import psutil
import pytest

from encore.hub import runs
from encore.hub.database import Database, Run
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings
from encore.hub.work import queue, runner
from encore.hub.work.process import RunProcess, machine, process_lives
from encore.hub.work.runner import Runner
from tests.hub.work import stand_in
from tests.hub.work.conftest import Wait, Watch, processes_of

pytestmark = pytest.mark.usefixtures("no_run_is_left", "quick_looks")


@pytest.fixture
def performer(database: Database, settings: HubSettings) -> Runner:
    """A runner of stand-ins."""
    return Runner(database, settings, stand_in.command)


@pytest.fixture
def claimed(database: Database, queued: Callable[[str], Run]) -> Callable[[str], Run]:
    """A run that worker `a` has taken."""

    def claim(slug: str) -> Run:
        queued(slug)
        run = queue.claim(database, "a")
        assert run is not None
        return run

    return claim


class Minding:
    """A thread that minds a run until it is told to leave."""

    def __init__(self, way: Callable[[Run, threading.Event], None], run: Run) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=way, args=(run, self.stop))
        self.thread.start()

    def leave(self) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


def _adopt(database: Database, worker: str) -> Run:
    run = queue.adopt(database, worker, [worker], [])
    assert run is not None
    return run


def test_a_run_is_performed_and_its_record_kept(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, settings: HubSettings
) -> None:
    run = claimed("quick")
    performer.perform(run, threading.Event())
    row = watch.run(run.id)
    assert (row.state, row.exit_code, row.error) == ("done", 0, None)
    assert row.record is not None
    assert row.record["paper"] == "hornet"
    assert row.finished is not None
    assert row.host == machine()
    assert watch.states(run.id) == ["queued", "running", "done"]
    assert watch.steps(run.id) == list(range(40))
    assert watch.events(run.id, "progress")[-1].body["step"] == 40
    assert [event.body["name"] for event in watch.events(run.id, "picture")] == ["sheets~one.png"]
    assert watch.events(run.id, "message")[-1].body["text"] == "a warning of a library in red"
    assert [event.seq for event in watch.events(run.id)] == list(range(1, len(watch.events(run.id)) + 1))
    assert runs.picture_path(settings, run.id, "sheets~one.png") is not None
    assert runs.report_path(settings, run.id) is not None


def test_a_run_is_nicer_than_its_worker_and_leads_a_session_without_the_secrets_of_the_hub(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, monkeypatch: pytest.MonkeyPatch, wait_for: Wait
) -> None:
    monkeypatch.setenv("ENCORE_HUB_SECRET", "s" * 40)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = claimed("waits")
    minding = Minding(performer.perform, run)
    wait_for(lambda: watch.events(run.id, "message"))
    process = psutil.Process(watch.run(run.id).pid)
    assert process.nice() == min(psutil.Process().nice() + 5, 19)
    assert os.getsid(process.pid) == process.pid
    assert "ENCORE_HUB_SECRET" not in process.environ()
    assert process.environ()["OMP_NUM_THREADS"] == "1"
    minding.leave()


@pytest.mark.parametrize(
    ("slug", "code", "error"),
    [
        ("refused", 2, "run cannot be used: name another"),
        ("broken", 1, "ValueError: a fault"),
        ("killed", -9, "it was ended by SIGKILL"),
        ("empty", 0, "it left no result"),
    ],
)
def test_a_run_that_fails_says_why_in_one_line(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, slug: str, code: int, error: str
) -> None:
    run = claimed(slug)
    performer.perform(run, threading.Event())
    row = watch.run(run.id)
    assert (row.state, row.exit_code, row.error, row.record) == ("failed", code, error, None)
    assert watch.events(run.id, "state")[-1].body == {"state": "failed", "error": error}


def test_a_record_that_is_none_is_a_failure_and_a_claim_that_does_not_hold_is_not(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch
) -> None:
    damaged, strict = claimed("damaged"), claimed("strict")
    for run in (damaged, strict):
        performer.perform(run, threading.Event())
    assert watch.run(damaged.id).state == "failed"
    assert "is no record" in (watch.run(damaged.id).error or "")
    assert (watch.run(strict.id).state, watch.run(strict.id).exit_code) == ("done", 3)


def test_what_cannot_be_started_has_failed(
    database: Database, settings: HubSettings, claimed: Callable[[str], Run], watch: Watch
) -> None:
    settings.runs_folder.write_text("in the way")
    run = claimed("quick")
    Runner(database, settings, stand_in.command).perform(run, threading.Event())
    assert watch.run(run.id).state == "failed"
    assert "cannot be started" in (watch.run(run.id).error or "")


def test_a_run_goes_on_without_its_worker_and_is_followed_by_the_next(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database, wait_for: Wait
) -> None:
    run = claimed("slow")
    first = Minding(performer.perform, run)
    wait_for(lambda: len(watch.steps(run.id)) > 3)
    first.leave()
    assert watch.run(run.id).state == "running"
    performer.adopt(_adopt(database, "b"), threading.Event())
    row = watch.run(run.id)
    assert (row.state, row.exit_code, row.worker) == ("done", None, "b")
    assert watch.steps(run.id) == list(range(40))


def test_a_run_that_ended_while_nobody_minded_it_is_settled(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database, wait_for: Wait
) -> None:
    run = claimed("slow")
    first = Minding(performer.perform, run)
    wait_for(lambda: watch.steps(run.id))
    first.leave()
    wait_for(lambda: not watch.lives(run.id))
    performer.adopt(_adopt(database, "b"), threading.Event())
    assert watch.run(run.id).state == "done"
    assert watch.steps(run.id) == list(range(40))


def test_a_run_that_was_killed_with_its_worker_is_continued(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database, wait_for: Wait
) -> None:
    run = claimed("slow")
    first = Minding(performer.perform, run)
    wait_for(lambda: len(watch.steps(run.id)) > 3)
    first.leave()
    os.killpg(watch.pid(run.id), signal.SIGKILL)
    performer.adopt(_adopt(database, "b"), threading.Event())
    assert watch.run(run.id).state == "queued"
    again = queue.claim(database, "b")
    assert again is not None
    performer.perform(again, threading.Event())
    assert watch.run(run.id).state == "done"
    assert watch.states(run.id) == ["queued", "running", "queued", "running", "done"]
    steps = watch.steps(run.id)
    assert sorted(set(steps)) == list(range(40))
    assert len(steps) <= 41  # the one at which it was killed may be said again


def test_a_run_that_is_interrupted_again_and_again_has_failed(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database, wait_for: Wait
) -> None:
    run: Run | None = claimed("waits")

    def is_interrupted(run: Run, start: int) -> None:
        minding = Minding(performer.perform, run)
        wait_for(lambda: len(watch.events(run.id, "message")) == start)
        os.kill(watch.pid(run.id), signal.SIGTERM)
        minding.thread.join(10)

    for start in range(1, queue.STARTS + 1):
        assert run is not None
        is_interrupted(run, start)
        last, run = run, queue.claim(database, "a")
    assert run is None
    assert (watch.run(last.id).state, watch.run(last.id).error) == ("failed", "it was interrupted 5 times")


def test_a_worker_that_died_before_its_run_began_leaves_no_process(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database, settings: HubSettings
) -> None:
    run = claimed("quick")
    folder = runs.folder_of(settings, run.id)
    folder.mkdir(parents=True)
    process = RunProcess.start(stand_in.command(run, folder / "run"), folder)
    queue.begin(database, run, process, queue.Account())
    process.give_up()  # as the end of the worker would
    assert not process_lives(process.pid, process.started)
    assert processes_of(folder) == []
    performer.adopt(_adopt(database, "b"), threading.Event())
    assert watch.run(run.id).state == "queued"


def test_another_process_with_the_number_of_a_run_is_not_taken_for_it(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database
) -> None:
    run = claimed("quick")
    with database.writing() as transaction:
        row = transaction.get_one(Run, run.id)
        row.pid, row.pid_started, row.host = os.getpid(), psutil.Process().create_time() - 100, machine()
    performer.adopt(_adopt(database, "b"), threading.Event())
    assert watch.run(run.id).state == "queued"


def test_a_run_of_another_machine_waits_a_while_for_a_worker_there(
    claimed: Callable[[str], Run], database: Database
) -> None:
    run = claimed("quick")
    with database.writing() as transaction:
        transaction.get_one(Run, run.id).host = "elsewhere"
    assert queue.adopt(database, "b", ["b"], []) is None
    with database.writing() as transaction:
        transaction.get_one(Run, run.id).heartbeat = now() - datetime.timedelta(minutes=3)
    assert _adopt(database, "b").id == run.id


def test_a_run_is_adopted_by_one_of_many(claimed: Callable[[str], Run], database: Database) -> None:
    claimed("quick")
    living = [f"w{number}" for number in range(6)]
    adopted: list[Run | None] = []
    threads = [
        threading.Thread(target=lambda name=name: adopted.append(queue.adopt(database, name, living, [])))
        for name in living
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len([run for run in adopted if run is not None]) == 1


def test_a_run_of_a_living_worker_is_not_adopted_unless_it_forgot_it(
    claimed: Callable[[str], Run], database: Database
) -> None:
    run = claimed("quick")
    assert queue.adopt(database, "b", ["a", "b"], []) is None
    assert queue.adopt(database, "a", ["a", "b"], [run.id]) is None
    assert queue.adopt(database, "a", ["a", "b"], []) is not None


def test_a_worker_that_was_taken_for_dead_adds_nothing(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database, wait_for: Wait
) -> None:
    run = claimed("slow")
    late = Minding(performer.perform, run)
    wait_for(lambda: len(watch.steps(run.id)) > 3)
    performer.adopt(_adopt(database, "b"), threading.Event())
    late.thread.join(10)
    assert not late.thread.is_alive()
    assert watch.run(run.id).state == "done"
    assert watch.steps(run.id) == list(range(40))
    assert watch.states(run.id) == ["queued", "running", "done"]


def test_a_run_is_cancelled_while_it_is_running(
    performer: Runner, claimed: Callable[[str], Run], watch: Watch, database: Database, wait_for: Wait
) -> None:
    run = claimed("waits")
    minding = Minding(performer.perform, run)
    wait_for(lambda: watch.events(run.id, "message"))
    runs.cancel(database, run.id)
    minding.thread.join(10)
    assert (watch.run(run.id).state, watch.run(run.id).exit_code) == ("cancelled", 130)
    assert watch.states(run.id)[-1] == "cancelled"
    assert not watch.lives(run.id)


def test_a_run_that_does_not_leave_is_killed_also_by_the_worker_that_adopted_it(
    performer: Runner,
    claimed: Callable[[str], Run],
    watch: Watch,
    database: Database,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "PATIENCE_SECONDS", 0.5)
    run = claimed("stubborn")
    first = Minding(performer.perform, run)
    wait_for(lambda: watch.events(run.id, "message"))
    first.leave()
    runs.cancel(database, run.id)
    performer.adopt(_adopt(database, "b"), threading.Event())
    assert watch.run(run.id).state == "cancelled"


@pytest.fixture
def real(database: Database, settings: HubSettings) -> Runner:
    """A runner of `encore run`."""
    return Runner(database, settings)


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_segnet_is_performed_at_smoke_scale(real: Runner, claimed: Callable[[str], Run], watch: Watch) -> None:
    run = claimed("segnet")
    real.perform(run, threading.Event())
    row = watch.run(run.id)
    assert (row.state, row.error) == ("done", None)
    assert row.record is not None
    assert row.record["paper"] == "segnet"
    assert watch.events(run.id, "progress")
    assert watch.events(run.id, "picture")
    assert watch.events(run.id, "message")[0].body == {"text": "run folder: run"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_refusal_of_the_command_line_is_the_reason(real: Runner, claimed: Callable[[str], Run], watch: Watch) -> None:
    run = claimed("segnett")
    real.perform(run, threading.Event())
    assert (watch.run(run.id).state, watch.run(run.id).exit_code) == ("failed", 2)
    assert (watch.run(run.id).error or "").startswith("unknown paper 'segnett': did you mean 'segnet'?")

"""A worker: performs runs, does jobs, sends mails, and looks after what dead workers have left.

Each kind of work has threads of its own, so that a long one holds up no other. All that a worker holds is in the
database under its name; a worker whose heartbeat has stopped is dead, and others take over.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable, Mapping

from sqlalchemy import delete, func, select

from encore.base.errors import ConfigurationError, DataError, UnknownNameError
from encore.hub import jobs
from encore.hub.database import Database, Job, Run, WorkerRow
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings
from encore.hub.work import queue
from encore.hub.work.handlers import HANDLERS, Handler
from encore.hub.work.presence import HEARTBEAT_SECONDS, beat, gone, living, process_name
from encore.hub.work.runner import Runner
from encore.hub.work.schedule import start_schedule

LOOK_SECONDS = 1.0
"""Between two looks for work, where there was none."""

TROUBLE_SECONDS = 5.0
"""Before work goes on after something unexpected."""

MAILS_AT_ONCE = 10

MAIL_TROUBLE_SECONDS = 15.0
"""Before a server that takes no mail is asked again."""

PATIENCE_SECONDS = 8.0
"""For work at hand to end when the worker stops."""

LASTING = (ConfigurationError, DataError, UnknownNameError)
"""Faults of a job that no time mends; it is not tried again."""

_logger = logging.getLogger(__name__)


class Worker:
    """One worker; several may share a database.

    Args:
        database, settings: the hub's.
        name: unlike that of any other worker, at most 60 characters; by default machine, process and its start.
        runner: performs the runs.
        handlers: what is done with each kind of job.
    """

    def __init__(
        self,
        database: Database,
        settings: HubSettings,
        name: str | None = None,
        *,
        runner: Runner | None = None,
        handlers: Mapping[str, Handler] = HANDLERS,
    ) -> None:
        self.name = name or process_name()
        self._database, self._settings, self._handlers = database, settings, handlers
        self._runner = runner or Runner(database, settings)
        self._minded: dict[int, threading.Thread] = {}
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Runs go on then, and the next worker adopts them."""
        self._stop = stop
        self._beat()
        loops: dict[str, tuple[Callable[[], bool], float]] = {
            "heartbeat": (self._beat, HEARTBEAT_SECONDS),
            "dead": (self._bury, HEARTBEAT_SECONDS),
            "runs": (self._mind_another, LOOK_SECONDS),
            "mails": (self._send, LOOK_SECONDS),
        }
        loops |= {f"jobs-{kind}": (self._doing(kind), LOOK_SECONDS) for kind in self._handlers}
        threads = [
            threading.Thread(target=self._loop, args=loop, name=name, daemon=True) for name, loop in loops.items()
        ]
        for thread in threads:
            thread.start()
        scheduler = start_schedule(self._database, self._settings)
        _logger.info("worker %s works", self.name)
        stop.wait()
        scheduler.shutdown(wait=False)
        self._leave(threads)

    def _leave(self, threads: list[threading.Thread]) -> None:
        """Wait a little for what is at hand; what is not done then is taken over by others."""
        deadline = now() + datetime.timedelta(seconds=PATIENCE_SECONDS)
        for thread in [*self._minded.values(), *threads]:
            thread.join(max((deadline - now()).total_seconds(), 0.1))
        busy = [thread.name for thread in threads if thread.is_alive()]
        with self._database.writing() as transaction:
            running = select(func.count()).select_from(Run).where(Run.state == "running", Run.worker == self.name)
            left = transaction.scalar(running)
            if "mails" not in busy:  # a mail that may be leaving must not be taken for left
                transaction.execute(delete(WorkerRow).where(WorkerRow.name == self.name))
        _logger.info(
            "worker %s stops%s%s",
            self.name,
            f"; runs that go on without it: {left}" if left else "",
            f"; unfinished: {', '.join(busy)}" if busy else "",
        )

    def _loop(self, step: Callable[[], bool], seconds: float) -> None:
        """Repeat a step, at once as long as there is work."""
        while not self._stop.is_set():
            try:
                wait = 0.0 if step() else seconds
            except Exception:  # a fault in one kind of work, or a database that is away, ends no worker
                _logger.exception("%s: goes on in %.0f s", threading.current_thread().name, TROUBLE_SECONDS)
                wait = TROUBLE_SECONDS
            self._stop.wait(wait)

    def _beat(self) -> bool:
        beat(self._database, self.name)
        return False

    # runs

    def _mind_another(self) -> bool:
        """Adopt a run that nobody minds, or claim the next one if there is room."""
        self._minded = {number: thread for number, thread in self._minded.items() if thread.is_alive()}
        run = queue.adopt(self._database, self.name, living(self._database), self._minded)
        if run is not None:
            self._mind(run, self._runner.adopt)
            return True
        if len(self._minded) < self._settings.runs_at_once:
            run = queue.claim(self._database, self.name)
            if run is not None:
                self._mind(run, self._runner.perform)
        return run is not None

    def _mind(self, run: Run, way: Callable[[Run, threading.Event], None]) -> None:
        def mind() -> None:
            try:
                way(run, self._stop)
            except Exception:  # this worker adopts the run again as soon as the thread has ended
                _logger.exception("run %d: goes on in %.0f s", run.id, TROUBLE_SECONDS)
                self._stop.wait(TROUBLE_SECONDS)

        thread = threading.Thread(target=mind, name=f"run-{run.id}", daemon=True)
        self._minded[run.id] = thread
        thread.start()

    # jobs and mails

    def _doing(self, kind: str) -> Callable[[], bool]:
        def step() -> bool:
            job = jobs.claim(self._database, self.name, (kind,))
            if job is not None:
                self._do(job)
            return job is not None

        return step

    def _do(self, job: Job) -> None:
        try:
            self._handlers[job.kind](self._database, self._settings, job.payload)
        except LASTING as error:
            _logger.warning("job %d (%s): %s", job.id, job.kind, error)
            jobs.fail(self._database, job, str(error), for_good=True)
        except Exception as error:
            _logger.exception("job %d (%s), try %d", job.id, job.kind, job.attempts)
            jobs.fail(self._database, job, str(error) or type(error).__name__)
        else:
            jobs.finish(self._database, job)

    def _send(self) -> bool:
        from encore.hub.mail.sending import send_waiting

        report = send_waiting(self._database, self._settings, self.name, limit=MAILS_AT_ONCE)
        if report.trouble:
            _logger.warning("mail: %s", report.trouble)
            self._stop.wait(MAIL_TROUBLE_SECONDS)
        elif report.sent or report.failed or report.uncertain:
            _logger.info("mail: %d sent, %d failed, %d uncertain", report.sent, report.failed, report.uncertain)
        return report.sent == MAILS_AT_ONCE

    # the dead

    def _bury(self) -> bool:
        """Take over from workers that are dead: their mails are uncertain, their jobs wait again."""
        from encore.hub.mail.sending import mark_uncertain

        dead = gone(self._database)
        if dead:
            mark_uncertain(self._database, dead)
            jobs.release(self._database, dead)
            with self._database.writing() as transaction:
                transaction.execute(delete(WorkerRow).where(WorkerRow.name.in_(dead)))
        return False

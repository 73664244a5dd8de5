"""Performs one run: starts `encore run` as a process of its own, follows what it says, settles how it ended.

The process does not depend on its worker. Where the worker stops or dies, the run goes on, and the next worker adopts
it: it follows a process that lives, settles one that has left its result, and lets any other wait in the queue again,
where it is continued.
"""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from encore.base.errors import RunFolderError
from encore.base.runs import REQUEST
from encore.hub.database import Database, Run
from encore.hub.runs import RESULT, folder_of, output_of
from encore.hub.settings import HubSettings
from encore.hub.work import queue
from encore.hub.work.process import RunProcess, machine, process_lives
from encore.hub.work.progress import ProgressLog, error_line, without_places
from encore.hub.work.queue import Account, LostRunError

LOOK_SECONDS = 0.3
"""Between two looks at what a run says."""

HEARTBEAT_SECONDS = 5.0
"""At most between two signs that somebody minds a run."""

PATIENCE_SECONDS = 15.0
"""For a run to leave when it is interrupted."""

_ENDED_FROM_OUTSIDE = {130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP}
"""Exit codes of a run that somebody else ended, such as a machine that shuts down."""

Command = Callable[[Run, Path], list[str]]
"""What performs a run, and the folder it is to write."""

_logger = logging.getLogger(__name__)


def encore_command(run: Run, output: Path) -> list[str]:
    """`encore run`, continuing what lies in `output`."""
    command = [sys.executable, "-m", "encore.cli", "run", run.slug, "--scale", run.scale]
    command += ["--progress", "json", "--json", "--out", str(output)]
    if (output / REQUEST).is_file():
        return [*command, "--resume"]
    shutil.rmtree(output, ignore_errors=True)  # it was ended before it had begun
    return command


class Runner:
    """Minds runs, each in the thread that calls.

    Args:
        database, settings: the hub's.
        command: stands in for `encore_command` in tests.
    """

    def __init__(self, database: Database, settings: HubSettings, command: Command = encore_command) -> None:
        self._database, self._settings, self._command = database, settings, command

    def perform(self, run: Run, stop: threading.Event) -> None:
        """Start a run that was claimed, and mind it until it ends, or leave it running on `stop`."""
        with _unless_lost():
            account = queue.account_of(self._database, run.id)
            if self._has_result(run):
                self._settle(run, None, account)
                return
            if account.starts >= queue.STARTS:
                queue.settle(self._database, run, "failed", error=f"it was interrupted {queue.STARTS} times")
                return
            try:
                process = self._started(run)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                queue.settle(self._database, run, "failed", error=f"it cannot be started ({reason.lower()})")
                return
            try:
                account = queue.begin(self._database, run, process, account)
            except BaseException:
                process.give_up()
                raise
            process.go()
            self._follow(run, process, account, stop)

    def adopt(self, run: Run, stop: threading.Event) -> None:
        """Mind a run whose worker is gone."""
        with _unless_lost():
            account = queue.account_of(self._database, run.id)
            _logger.info("run %d (%s, %s) is adopted", run.id, run.slug, run.scale)
            if run.pid and run.pid_started and run.host == machine() and process_lives(run.pid, run.pid_started):
                self._follow(run, RunProcess(run.pid, run.pid_started), account, stop)
                return
            account = self._read_to_end(run, account)
            self._settle(run, None, account)

    def _started(self, run: Run) -> RunProcess:
        folder = folder_of(self._settings, run.id)
        folder.mkdir(parents=True, exist_ok=True)
        _logger.info("run %d: %s at %s scale", run.id, run.slug, run.scale)
        return RunProcess.start(self._command(run, output_of(self._settings, run.id)), folder)

    def _log(self, run: Run) -> ProgressLog:
        return ProgressLog(folder_of(self._settings, run.id), output_of(self._settings, run.id))

    def _follow(self, run: Run, process: RunProcess, account: Account, stop: threading.Event) -> None:
        log = self._log(run)
        end = _Ending(process)
        written = 0.0
        while True:
            ended = process.has_ended()  # before the log is read, so that its last line is
            position, events = log.read(account.position, account.kept, ended=ended)
            if position != account.position or time.monotonic() - written > HEARTBEAT_SECONDS:
                unread = Account(position, account.starts, account.kept)
                ended = ended and position == account.position
                account, cancelled = queue.keep(self._database, run, events, unread)
                written = time.monotonic()
            else:
                cancelled = queue.is_cancelled(self._database, run)
            if ended:
                self._settle(run, process.exit_code, account)
                return
            if cancelled:
                end.hasten()
            if not process.has_ended() and stop.wait(LOOK_SECONDS):
                _logger.info("run %d goes on without this worker", run.id)
                return

    def _read_to_end(self, run: Run, account: Account) -> Account:
        log = self._log(run)
        while True:
            position, events = log.read(account.position, account.kept, ended=True)
            if position == account.position:
                return account
            account, _ = queue.keep(self._database, run, events, Account(position, account.starts, account.kept))

    def _has_result(self, run: Run) -> bool:
        return (output_of(self._settings, run.id) / RESULT).is_file()

    def _settle(self, run: Run, code: int | None, account: Account) -> None:
        """Decide how a run ended whose process is gone; `code` is None where nobody saw it go."""
        if self._has_result(run) and code in (0, 3, None):
            self._settle_result(run, code)
        elif queue.is_cancelled(self._database, run):
            queue.settle(self._database, run, "cancelled", exit_code=code)
        elif code is None or code in _ENDED_FROM_OUTSIDE:
            if account.starts < queue.STARTS:
                queue.queue_again(self._database, run)
            else:
                queue.settle(self._database, run, "failed", error=f"it was interrupted {queue.STARTS} times")
        else:
            queue.settle(self._database, run, "failed", exit_code=code, error=self._reason(run, code))
        _logger.info("run %d has ended (exit code %s)", run.id, "unknown" if code is None else code)

    def _settle_result(self, run: Run, code: int | None) -> None:
        from encore.results.record import read_record  # late: SciPy takes a second to load

        try:
            record = read_record(output_of(self._settings, run.id)).model_dump(mode="json")
        except RunFolderError as error:
            queue.settle(self._database, run, "failed", exit_code=code, error=self._own_words(run, error.problem))
        else:
            queue.settle(self._database, run, "done", exit_code=code, record=record)

    def _reason(self, run: Run, code: int) -> str:
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        if code in (0, 3):
            return "it left no result"
        said = error_line(folder_of(self._settings, run.id) / "progress.jsonl")
        return self._own_words(run, said) if said else f"it ended with exit code {code}"

    def _own_words(self, run: Run, text: str) -> str:
        """Without paths of this machine."""
        return without_places(text, output_of(self._settings, run.id))


class _Ending:
    """Interrupts a process once, and kills it when it does not leave."""

    def __init__(self, process: RunProcess) -> None:
        self._process = process
        self._since: float | None = None

    def hasten(self) -> None:
        """Called at every look at a run that is to end."""
        if self._since is None:
            self._since = time.monotonic()
            self._process.send(signal.SIGINT)
        elif time.monotonic() - self._since > PATIENCE_SECONDS:
            self._process.send(signal.SIGKILL)


@contextmanager
def _unless_lost() -> Iterator[None]:
    """Ends quietly where another worker minds the run by now."""
    try:
        yield
    except LostRunError as error:
        _logger.warning("%s", error)

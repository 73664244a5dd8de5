"""Runs in the queue, and waiting for what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from encore.hub.database import Database, Run, RunEvent
from encore.hub.runs import append_events, events_after
from encore.hub.settings import HubSettings
from encore.hub.work import runner, worker
from encore.hub.work.process import process_lives

Wait = Callable[..., None]
"""Called with a condition, waits until it holds."""


@pytest.fixture
def wait_for() -> Wait:
    """Waits until a condition holds, at most `seconds`."""

    def wait(condition: Callable[[], object], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.02)

    return wait


@pytest.fixture
def queued(database: Database) -> Callable[[str], Run]:
    """Puts a run into the queue; its slug is what `stand_in` does."""

    def put(slug: str) -> Run:
        with database.writing() as transaction:
            run = Run(slug=slug, scale="smoke")
            transaction.add(run)
            transaction.flush()
            append_events(transaction, run.id, [("state", {"state": "queued"})])
            return run

    return put


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this process look for work, and at it, more often than they would."""
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.3)


class Watch:
    """Looks at runs in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def run(self, run_id: int) -> Run:
        """As it is now."""
        with self._database.reading() as transaction:
            return transaction.get_one(Run, run_id)

    def pid(self, run_id: int) -> int:
        """Of its process."""
        pid = self.run(run_id).pid
        assert pid is not None
        return pid

    def lives(self, run_id: int) -> bool:
        """Whether its process does."""
        started = self.run(run_id).pid_started
        return started is not None and process_lives(self.pid(run_id), started)

    def events(self, run_id: int, kind: str | None = None) -> list[RunEvent]:
        """What it has said."""
        with self._database.reading() as transaction:
            events = events_after(transaction, run_id, 0, limit=10_000)
        return [event for event in events if kind is None or event.kind == kind]

    def steps(self, run_id: int) -> list[int]:
        """The numbers in its messages."""
        texts = [event.body["text"] for event in self.events(run_id, "message")]
        return [int(text.removeprefix("step ")) for text in texts if text.startswith("step ")]

    def states(self, run_id: int) -> list[str]:
        """It went through."""
        return [event.body["state"] for event in self.events(run_id, "state")]


@pytest.fixture
def watch(database: Database) -> Watch:
    """See `Watch`."""
    return Watch(database)


@pytest.fixture
def no_run_is_left(settings: HubSettings) -> Iterator[None]:
    """Ends what a test leaves running."""
    yield
    for starts in settings.runs_folder.glob("*/starts"):
        for pid in processes_of(starts.parent):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if str(starts.parent) in " ".join(process.cmdline()):
                    process.kill()


def processes_of(folder: Path) -> list[int]:
    """Every process that performed the run of a folder."""
    starts = folder / "starts"
    return [int(line.split()[0]) for line in starts.read_text().splitlines()] if starts.exists() else []

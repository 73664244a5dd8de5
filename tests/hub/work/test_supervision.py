"""A worker as the child of the web process: kept alive, and gone when that one is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
from sqlalchemy import select

from encore.hub.database import Database, WorkerRow
from encore.hub.settings import HubSettings
from encore.hub.work import WorkerProcess
from encore.hub.work.handlers import HANDLERS
from tests.hub.work.conftest import Wait

PARENT = """
import sys, time
from encore.hub.settings import HubSettings
from encore.hub.work import WorkerProcess
from encore.hub.work.handlers import HANDLERS
with WorkerProcess(HubSettings.model_validate_json(sys.stdin.readline())):
    time.sleep(60)
"""


@pytest.fixture
def settings(settings: HubSettings) -> HubSettings:
    """Of a hub with nothing to do."""
    return settings.model_copy(update={"digest_hour": 23})


def _workers(database: Database) -> list[str]:
    with database.reading() as transaction:
        return list(transaction.scalars(select(WorkerRow.name)))


def _pids(database: Database) -> Callable[[], list[int]]:
    return lambda: [int(name.split(":")[1]) for name in _workers(database)]


def test_a_worker_that_dies_is_started_again_and_one_that_is_stopped_is_not(
    database: Database, settings: HubSettings, wait_for: Wait
) -> None:
    pids = _pids(database)
    with WorkerProcess(settings) as process:
        wait_for(lambda: process.pid in pids())
        first = process.pid
        assert first is not None
        assert settings.secret not in " ".join(psutil.Process(first).cmdline())
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: process.pid != first and process.pid in pids())
        last = process.pid
    assert process.exit_code == 0
    assert last is not None
    assert not psutil.pid_exists(last)
    assert last not in pids()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_ends_when_the_web_process_is_killed(
    database: Database, settings: HubSettings, wait_for: Wait
) -> None:
    pids = _pids(database)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stderr is not None
    parent.stdin.write(settings.model_dump_json() + "\n")
    parent.stdin.flush()
    wait_for(lambda: pids())
    (worker,) = pids()
    parent.kill()
    said = parent.stderr.read()  # ends with the worker, which shares it
    parent.wait()
    for stream in (parent.stdin, parent.stderr):
        stream.close()
    assert "the web process is gone" in said
    wait_for(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE)
    assert _workers(database) == []


def test_there_is_a_handler_for_every_kind_of_job() -> None:
    assert set(HANDLERS) == {"submit", "index", "recommend", "import", "digest"}


def test_workers_never_load_torch() -> None:
    code = (
        "import sys, encore.hub.work, encore.hub.work.worker, encore.results.record; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""A worker as a process: on its own (`encore hub worker`), or as the child of `encore serve`, which keeps it alive."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

from encore.hub.database import open_database
from encore.hub.settings import HubSettings

LONGEST_WAIT = 60.0
"""Seconds before a worker that keeps dying is started again."""

STEADY_SECONDS = 60.0
"""A worker that lived so long was well, and is started again at once."""

PATIENCE_SECONDS = 15.0
"""For a worker to stop by itself."""

_logger = logging.getLogger(__name__)


def run_worker(settings: HubSettings, *, parent: int | None = None) -> int:
    """Work until SIGTERM or SIGINT, or until the parent is gone. Runs go on, and the next worker adopts them.

    Args:
        settings: the hub's.
        parent: file number of a pipe that ends when the parent does.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: the database cannot be opened.
    """
    from encore.hub.work.worker import Worker

    log_to_stderr()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = open_database(settings.database_url)
    if parent is not None:
        threading.Thread(target=_wait_for_end, args=(parent, stop), daemon=True).start()
    try:
        Worker(database, settings).run(stop)
    finally:
        database.close()
    return 0


def _wait_for_end(parent: int, stop: threading.Event) -> None:
    while os.read(parent, 1024):  # not by a file object, whose lock would be held when Python ends
        pass
    if not stop.is_set():
        _logger.info("the web process is gone")
        stop.set()


def log_to_stderr() -> None:
    """One line an event on standard error, errors too."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("encore")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False


class _OneLine(logging.Formatter):
    """Errors as what they are and where they came from."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(super().format(record).split())

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- logging's name
        kind, error, trace = ei
        frames = traceback.extract_tb(trace)
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        return f"{kind.__name__}: {str(error)[:500]}{where}"


class WorkerProcess:
    """A worker in a process of its own, started again when it dies.

    It ends with the process that made it, also where that one is killed, since a pipe between them ends. Used in a
    `with`, or by `start` and `stop`.

    Args:
        settings: the hub's; they go through the pipe, where nobody else can read them.
    """

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._leaving = threading.Event()
        self._changing = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Of the worker as it is now."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """Of the last worker, once it has ended."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Start it, and watch over it in a thread."""
        self._launch()
        self._thread = threading.Thread(target=self._watch, name="worker-process", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; its runs go on."""
        self._leaving.set()
        with self._changing:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if self._thread is not None:
            self._thread.join(1)

    def __enter__(self) -> WorkerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> subprocess.Popen[str] | None:
        with self._changing:
            if self._leaving.is_set():
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "encore.hub.work"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
            self._process = process
        assert process.stdin is not None
        try:
            process.stdin.write(self._settings.model_dump_json() + "\n")
            process.stdin.flush()
        except BrokenPipeError:  # it died at once, which the watch sees
            _logger.warning("the worker died before it began")
        return process

    def _watch(self) -> None:
        wait = 1.0
        process = self._process
        while process is not None:
            started = time.monotonic()
            code = process.wait()
            if self._leaving.is_set():
                return
            wait = 1.0 if time.monotonic() - started > STEADY_SECONDS else min(wait * 2, LONGEST_WAIT)
            _logger.warning("the worker ended with code %d; another one starts in %.0f s", code, wait)
            if self._leaving.wait(wait):
                return
            process = self._launch()

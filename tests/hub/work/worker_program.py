"""A worker with stand-ins for its runs, as a program that tests may kill. Settings come on standard input."""

from __future__ import annotations

import signal
import sys
import threading

from encore.hub.database import open_database
from encore.hub.settings import HubSettings
from encore.hub.work.runner import Runner
from encore.hub.work.supervision import log_to_stderr
from encore.hub.work.worker import Worker
from tests.hub.work import stand_in

if __name__ == "__main__":
    settings = HubSettings.model_validate_json(sys.stdin.read())
    log_to_stderr()
    database = open_database(settings.database_url)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    Worker(database, settings, runner=Runner(database, settings, stand_in.command), handlers={}).run(stop)
    database.close()

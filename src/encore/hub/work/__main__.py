"""`python -m encore.hub.work`: the worker that `encore serve` keeps. Its settings come on standard input.

Standard input stays open as long as the parent lives; when it ends, so does the worker.
"""

import sys

from encore.hub.settings import HubSettings
from encore.hub.work.supervision import run_worker

if __name__ == "__main__":
    settings = HubSettings.model_validate_json(sys.stdin.readline())
    sys.exit(run_worker(settings, parent=sys.stdin.fileno()))

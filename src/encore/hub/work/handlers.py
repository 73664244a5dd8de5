"""What a worker does with each kind of job."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from encore.base.progress import SilentProgress
from encore.hub.database import Database
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings

Handler = Callable[[Database, HubSettings, dict[str, Any]], None]
"""Called with a job's payload. Whatever it raises sends the job back for its next try."""


def _submit(database: Database, settings: HubSettings, payload: dict[str, Any]) -> None:
    from encore.hub.sources.importing import import_submission

    import_submission(database, settings, payload["arxiv"])


def _index(database: Database, settings: HubSettings, payload: dict[str, Any]) -> None:
    from encore.hub.search.vectors import build

    build(database, settings, payload)


def _recommend(database: Database, settings: HubSettings, payload: dict[str, Any]) -> None:
    from encore.hub.search.recommendation import refresh

    refresh(database, settings, payload)


def _import(database: Database, settings: HubSettings, payload: dict[str, Any]) -> None:
    from encore.hub.sources.importing import import_papers

    import_papers(database, settings, payload["source"], progress=SilentProgress())


def _digest(database: Database, settings: HubSettings, payload: dict[str, Any]) -> None:
    from encore.hub.digest import day_due, queue_digests
    from encore.hub.search.finding import Finder

    day = datetime.date.fromisoformat(payload["day"])
    due = day_due(settings, now())
    if due is not None and due > day:  # a newer digest is queued or will be, and tells of these days too
        return
    today = max(day, now().date())  # the day was somebody's clock's, which may be a little fast
    with closing(Finder(database, settings)) as finder:
        queue_digests(database, settings, day, find=finder.among_days, today=today)


HANDLERS: Mapping[str, Handler] = {
    "submit": _submit,
    "index": _index,
    "recommend": _recommend,
    "import": _import,
    "digest": _digest,
}
"""By the kind of job. A worker has a thread for each, so that none waits for another."""

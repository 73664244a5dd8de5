"""Runs that readers ask for: limits, the queue, what they have said so far, and the files they leave."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session as Transaction

from encore.base import registry
from encore.base.errors import InputError, UnknownNameError
from encore.hub.database import Database, Run, RunEvent, SourceState, User
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings

Event = tuple[str, dict[str, Any]]
"""Kind and body of a `RunEvent`."""

ENDED = ("done", "failed", "cancelled")
"""States that do not change any more."""

RESULT, REPORT = "result.json", "report.html"
"""What a run leaves, as `encore.results` calls it, which takes a second to load."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class RunLimitError(InputError):
    """A reader has as many runs as one reader may have."""


def ask(database: Database, settings: HubSettings, user_id: int, slug: str, scale: str) -> Run:
    """Put a run into the queue.

    Args:
        database, settings: the hub's.
        user_id: who asks.
        slug: of a paper that Encore performs.
        scale: one of the settings' `run_scales`.

    Raises:
        UnknownNameError: no such paper or scale.
        InputError: the paper is not performed yet.
        RunLimitError: the reader has too many runs waiting, or had too many within 24 hours.
    """
    registry.require_verb(registry.card(slug), "run")
    if scale not in settings.run_scales:
        raise UnknownNameError("scale", scale, settings.run_scales)
    with database.writing() as transaction:
        # one request of a reader at a time, or two at once would both find room for one more
        transaction.scalars(select(User.id).where(User.id == user_id).with_for_update()).one()
        _check_limits(transaction, settings, user_id)
        run = Run(slug=slug, scale=scale, user_id=user_id, state="queued")
        transaction.add(run)
        transaction.flush()
        append_events(transaction, run.id, [("state", {"state": "queued"})])
        return run


def _check_limits(transaction: Transaction, settings: HubSettings, user_id: int) -> None:
    own = select(func.count()).select_from(Run).where(Run.user_id == user_id)
    if (transaction.scalar(own.where(Run.state.in_(("queued", "running")))) or 0) >= settings.runs_per_user:
        raise RunLimitError(
            f"you have {settings.runs_per_user} runs waiting or running", "wait for one to end, or cancel one"
        )
    day_ago = now() - datetime.timedelta(days=1)
    if (transaction.scalar(own.where(Run.created > day_ago)) or 0) >= settings.runs_per_day:
        raise RunLimitError(f"you have asked for {settings.runs_per_day} runs within 24 hours", "come back tomorrow")


def cancel(database: Database, run_id: int) -> Run | None:
    """End a run: one that waits at once, one that is running as soon as its worker sees it.

    Returns:
        The run as it is now; None if there is none.
    """
    with database.writing() as transaction:
        run = transaction.scalars(select(Run).where(Run.id == run_id).with_for_update()).first()
        if run is not None and run.state == "queued":
            run.state, run.cancel, run.finished = "cancelled", True, now()
            append_events(transaction, run_id, [("state", {"state": "cancelled", "error": None})])
            transaction.execute(delete(SourceState).where(SourceState.name == account_name(run_id)))
        elif run is not None and run.state == "running":
            run.cancel = True
        return run


def account_name(run_id: int) -> str:
    """The `SourceState` in which workers remember how far they have followed a run."""
    return f"run:{run_id}"


def append_events(transaction: Transaction, run_id: int, events: Sequence[Event]) -> int:
    """Add to what a run has said. The caller holds the run's row.

    Returns:
        The number of the last event.
    """
    last = transaction.scalar(select(func.max(RunEvent.seq)).where(RunEvent.run_id == run_id)) or 0
    transaction.add_all(
        RunEvent(run_id=run_id, seq=last + place, kind=kind, body=body)
        for place, (kind, body) in enumerate(events, start=1)
    )
    transaction.flush()
    return last + len(events)


def events_after(transaction: Transaction, run_id: int, seq: int, limit: int = 500) -> list[RunEvent]:
    """The next events of a run after the one numbered `seq` (0: from the first)."""
    later = select(RunEvent).where(RunEvent.run_id == run_id, RunEvent.seq > seq)
    return list(transaction.scalars(later.order_by(RunEvent.seq).limit(limit)))


def latest(transaction: Transaction, slug: str, scale: str | None = None) -> Run | None:
    """The last run of a paper that has a record; of one scale, or of any."""
    done = select(Run).where(Run.slug == slug, Run.state == "done")
    if scale is not None:
        done = done.where(Run.scale == scale)
    return transaction.scalars(done.order_by(Run.finished.desc(), Run.id.desc()).limit(1)).first()


def of_paper(transaction: Transaction, slug: str, limit: int = 20) -> list[Run]:
    """Runs of a paper in any state, the newest first."""
    return list(transaction.scalars(select(Run).where(Run.slug == slug).order_by(Run.id.desc()).limit(limit)))


def newest(transaction: Transaction, limit: int = 50) -> list[Run]:
    """Runs of all papers in any state, the newest first."""
    return list(transaction.scalars(select(Run).order_by(Run.id.desc()).limit(limit)))


def position_in_queue(transaction: Transaction, run: Run) -> int | None:
    """How many runs are taken before this one, 0 for the next; None for one that does not wait."""
    if run.state != "queued":
        return None
    before = select(func.count()).select_from(Run).where(Run.state == "queued", Run.id < run.id)
    return transaction.scalar(before) or 0


# files


def folder_of(settings: HubSettings, run_id: int) -> Path:
    """Where everything of a run lies: what it printed, and below `run` what `encore run` wrote."""
    return settings.runs_folder.resolve() / str(run_id)


def output_of(settings: HubSettings, run_id: int) -> Path:
    """The folder that `encore run` writes."""
    return folder_of(settings, run_id) / "run"


def picture_name(output: Path, path: Path) -> str | None:
    """What names a picture in events and addresses: its path below `output`, with `~` between folders.

    Returns:
        None if it is no PNG below `output`, or has a name that does not fit into an address.
    """
    output, path = output.resolve(), (output / path).resolve()
    if not path.is_relative_to(output) or path.suffix != ".png":
        return None
    parts = path.relative_to(output).parts
    return "~".join(parts) if all(_PART.fullmatch(part) for part in parts) else None


def picture_path(settings: HubSettings, run_id: int, name: str) -> Path | None:
    """The picture that an event calls `name`, or that a record names by its path.

    Returns:
        None if that is no picture in the run's folder.
    """
    output = output_of(settings, run_id)
    parts = re.split("[~/]", name)
    if not all(_PART.fullmatch(part) for part in parts) or not name.endswith(".png"):
        return None
    path = output.joinpath(*parts).resolve()
    return path if path.is_relative_to(output) and path.is_file() else None


def report_path(settings: HubSettings, run_id: int) -> Path | None:
    """The report of a run; None where it has not come."""
    path = output_of(settings, run_id) / REPORT
    return path if path.is_file() else None

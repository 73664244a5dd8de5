"""What every page needs, kept in one place for the life of the web process."""

from __future__ import annotations

import datetime
import hashlib
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy import func, select

from encore.hub import comments
from encore.hub.accounts import Reader
from encore.hub.database import Database, PaperTask
from encore.hub.limiting import Limiter
from encore.hub.search.finding import Finder
from encore.hub.settings import HubSettings
from encore.hub.verdicts import Catalogue
from encore.results import table

WEB = Path(str(resources.files("encore.hub"))) / "web"


@dataclass
class Hub:
    """The web process's own things.

    Attributes:
        settings: of the hub.
        database: open.
        finder: search.
        catalogue: cards and published records.
        limiter: counts what is limited.
        pages: the templates.
        streams: runs that are being watched.
    """

    settings: HubSettings
    database: Database
    finder: Finder
    catalogue: Catalogue = field(default_factory=Catalogue)
    limiter: Limiter = field(init=False)
    pages: Environment = field(init=False)
    streams: int = field(init=False, default=0)
    _tasks: list[str] = field(init=False, default_factory=list)
    _tasks_counted: float = field(init=False, default=-1e9)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.database)
        self.pages = Environment(
            loader=FileSystemLoader(WEB / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.pages.globals.update(
            site=self.settings.site_name,
            by_meaning=self.settings.embedding_model is not None,
            sends_mail=not self.settings.mail_url.startswith("outbox:"),
            sources=SOURCES,
            static=static_address,
            figure=table.figure,
            spread=table.spread,
            verdicts=self.catalogue.verdicts,
            performed=frozenset(self.catalogue.performed),
        )
        self.pages.filters.update(
            markdown=lambda text: Markup(comments.rendered(text)),
            day=lambda day: f"{day.day} {day:%B %Y}",
            ago=ago,
            names=names,
        )

    def tasks(self) -> list[str]:
        """The tasks that most papers have, in alphabetical order; counted once a minute."""
        if time.monotonic() - self._tasks_counted > 60:
            most = select(PaperTask.task).group_by(PaperTask.task).order_by(func.count().desc(), PaperTask.task)
            with self.database.reading() as transaction:
                self._tasks = sorted(transaction.scalars(most.limit(40)))
            self._tasks_counted = time.monotonic()
        return self._tasks

    def render(self, name: str, **values: Any) -> str:
        """A template as text."""
        return self.pages.get_template(name).render(**values)


SOURCES = {
    "code": "from the official code",
    "secondary": "from another paper",
    "recalled": "from memory",
}
"""Where a paper's figure was read, if not in the paper."""

_versions: dict[str, str] = {}


def static_address(name: str) -> str:
    """The address of a file that comes with the hub; it changes with its content, so that browsers may keep it."""
    if name not in _versions:
        _versions[name] = hashlib.sha256((WEB / "static" / name).read_bytes()).hexdigest()[:10]
    return f"/static/{name}?v={_versions[name]}"


def ago(moment: datetime.datetime) -> str:
    """How long ago something was, in words."""
    seconds = (datetime.datetime.now(datetime.UTC) - moment).total_seconds()
    for size, unit in ((86400 * 365, "year"), (86400 * 30, "month"), (86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def names(authors: list[str], most: int = 3) -> str:
    """The first authors, and how many more there are."""
    if len(authors) <= most + 1:
        return ", ".join(authors)
    return f"{', '.join(authors[:most])} and {len(authors) - most} more"


def hub_of(request: Request) -> Hub:
    """The web process's own things."""
    hub: Hub = request.app.state.hub
    return hub


def reader_of(request: Request) -> Reader | None:
    """Who is signed in, if anybody."""
    reader: Reader | None = request.state.reader
    return reader

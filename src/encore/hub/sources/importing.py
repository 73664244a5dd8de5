"""Imports: what a source says goes into the database, in batches that may be interrupted and repeated."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import ConfigurationError, DataError, UnknownNameError
from encore.base.progress import ProgressReporter
from encore.base.registry import list_papers
from encore.hub import jobs
from encore.hub.database import Database, Paper, SourceState
from encore.hub.database.tables import now
from encore.hub.entries import RANKS, Entry, arxiv_identifier, entries_of_cards
from encore.hub.merging import Outcome, telling, told
from encore.hub.settings import HubSettings
from encore.hub.sources import arxiv, bibliography, huggingface, json_folder
from encore.hub.sources.client import Outside, Patience
from encore.hub.sources.reading import Reading

SOURCES = ("auto", "cards", "arxiv", "huggingface", "bibtex", "ris", "csv", "json")

BATCH = 200
"""Entries of one transaction."""

FIRST_DAYS = 7
"""How far back an import from arXiv goes that knows of no earlier one."""

VOTING_DAYS = 3
"""How many days of Hugging Face's lists are read again for their votes."""

GOES_ON = datetime.timedelta(days=1)
"""How long an import of so many papers that was interrupted is continued. Later, other papers are the newest."""

_SUFFIXES = {".bib": "bibtex", ".ris": "ris", ".csv": "csv", ".tsv": "csv", ".json": "json"}


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        source: one of `SOURCES`, but not `auto`.
        seen: entries that were read and fit.
        new, changed: papers that were added, and those of which something changed.
        refused: one line for each entry that does not fit.
    """

    source: str
    seen: int
    new: int
    changed: int
    refused: tuple[str, ...]


def import_papers(
    database: Database,
    settings: HubSettings,
    source: str,
    argument: str | None = None,
    *,
    progress: ProgressReporter,
    limit: int | None = None,
    since: datetime.date | None = None,
    patience: Patience | None = None,
) -> ImportReport:
    """Import papers; doing so twice changes nothing.

    Args:
        database: the hub's.
        settings: hosts, and categories where no argument names them.
        source: one of `SOURCES`; `auto` goes by what the argument is.
        argument: a file or folder; of `arxiv` categories (`cs.CV,cs.LG`); of `huggingface` a day.
        progress: told after each batch.
        limit: entries to read at most.
        since: of `arxiv` and `huggingface`: the earliest day. By default arXiv is read until what is known is met,
            and Hugging Face for the last days.
        patience: with hosts that do not answer.

    Raises:
        ConfigurationError: there is no such source, or its argument is missing.
        DataError: a file cannot be read, or an argument does not fit.
        SourceError: a host does not answer; what came before is kept.
    """
    source = _kind(source, argument)
    work = _Import(database, source, progress, limit)
    if source == "cards":
        work.take_all(Reading(entries_of_cards(list_papers()), []))
    elif source in {"arxiv", "huggingface"}:
        with Outside(settings, patience) as outside:
            if source == "arxiv":
                _import_arxiv(work, outside, _categories(settings, argument), since)
            else:
                _import_huggingface(work, outside, argument, since)
    elif argument is None:
        raise ConfigurationError(f"importing {source} needs a file", "name it after the source")
    else:
        work.take_all(json_folder.read(Path(argument)) if source == "json" else bibliography.read(Path(argument)))
    return work.report()


def import_submission(
    database: Database, settings: HubSettings, identifier: str, *, patience: Patience | None = None
) -> str:
    """Fetch the paper that a reader named, from arXiv, unless it is there.

    Args:
        database: the hub's.
        settings: where arXiv is.
        identifier: an arXiv identifier or address.
        patience: with arXiv.

    Returns:
        Its key.

    Raises:
        DataError: it is no identifier, arXiv has no such paper, or the paper was withdrawn.
        SourceError: arXiv does not answer.
    """
    found = arxiv_identifier(identifier)
    if found is None:
        raise DataError(f"'{identifier[:100]}' is no arXiv identifier", "give one such as 2111.11632, or its address")
    with database.reading() as transaction:
        paper = transaction.scalars(select(Paper).where(Paper.arxiv == found[0])).first()
    if paper is not None and paper.rank >= RANKS["arxiv"] and (found[1] or 0) <= (paper.version or found[1] or 0):
        return paper.key
    with Outside(settings, patience) as outside:
        entries = arxiv.fetch(outside, [found[0]])
    if not entries:
        raise DataError(f"arXiv has no paper {found[0]}", "check the identifier")
    with telling(database) as transaction:
        try:
            paper, outcome = told(transaction, entries[0])
        except ValueError as error:
            raise DataError(f"arXiv's paper {found[0]} is refused: {error}", "submit another") from error
        if outcome != "same":
            jobs.put(transaction, "index", once="index")
        return paper.key


class _Import:
    """Puts entries into the database, and counts what becomes of them."""

    def __init__(self, database: Database, source: str, progress: ProgressReporter, limit: int | None) -> None:
        self.database, self.limit = database, limit
        self._source, self._progress = source, progress
        self._seen = self._before = 0
        self._papers: dict[Outcome, set[int]] = {"new": set(), "changed": set(), "same": set()}
        self._settled: set[int] = set()
        self._refused: list[str] = []

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.left == 0

    @property
    def left(self) -> int | None:
        """Entries that may still be read; None if there is no limit."""
        return None if self.limit is None else max(0, self.limit - self._before - self._seen)

    def go_on(self, seen: int) -> None:
        """Count what an import had seen that was interrupted towards the limit."""
        self._before = seen

    def take_all(self, reading: Reading) -> None:
        """Put what was read into the database, a batch at a time."""
        self._refused += reading.refused
        entries = reading.entries[: self.left]
        total = self._seen + len(entries)
        for first in range(0, len(entries), BATCH):
            self.take(Reading(entries[first : first + BATCH], []), total=total)

    def take(
        self, reading: Reading, *, total: int | None = None, remembered: tuple[str, dict[str, Any] | None] | None = None
    ) -> set[Outcome]:
        """Put one batch into the database.

        Args:
            reading: of the batch; entries beyond the limit are left.
            total: entries to come in all, where it is known.
            remembered: name and content of a `SourceState` that is written in the same transaction, with what the
                import has seen so far; without content it is deleted.

        Returns:
            What became of them.
        """
        entries = reading.entries[: self.left]
        self._refused += reading.refused
        outcomes: set[Outcome] = set()
        with telling(self.database) as transaction:
            for entry in entries:
                outcomes |= self._take_one(transaction, entry)
            if outcomes - {"same"}:
                jobs.put(transaction, "index", once="index")
            if remembered is not None:
                name, content = remembered
                _remember(transaction, name, content and {**content, "seen": self._before + self._seen})
        self._progress.update(self._source, self._seen, total)
        return outcomes

    def _take_one(self, transaction: Transaction, entry: Entry) -> set[Outcome]:
        # what one source says twice of a paper would otherwise change it back and forth at each import
        try:
            paper, outcome = told(transaction, entry, self._settled)
        except ValueError as error:
            self._refused.append(f"{self._source}, '{entry.arxiv or entry.doi or entry.title[:80]}': {error}")
            return set()
        self._seen += 1
        self._papers[outcome].add(paper.id)
        self._settled.add(paper.id)
        return {outcome}

    def report(self) -> ImportReport:
        """What was done."""
        new = self._papers["new"]
        changed = self._papers["changed"] - new
        return ImportReport(self._source, self._seen, len(new), len(changed), tuple(self._refused))


def _import_arxiv(work: _Import, outside: Outside, categories: Sequence[str], since: datetime.date | None) -> None:
    """Read on where an import was interrupted, down to the earliest day; then what is newer, from the top.

    Papers are announced days after they were submitted. So what is read anew reaches back behind the last import. An
    import of so many papers has a position of its own, and is at its end when it has read as many.
    """
    words = f"{','.join(sorted(categories))} {since or ''}"
    name = f"arxiv {hashlib.sha256(words.encode()).hexdigest()[:16]}"
    of_limit = f"{name} {work.limit}"
    with work.database.reading() as transaction:
        row, begun = transaction.get(SourceState, name), transaction.get(SourceState, of_limit)
    state: dict[str, Any] = dict(row.content) if row else {}
    today = now().date()
    finished = datetime.date.fromisoformat(state["finished"]) if "finished" in state else None
    earliest = since or (finished or today) - datetime.timedelta(days=FIRST_DAYS)
    kept_as, kept = (name, state) if work.limit is None else (of_limit, {})
    if begun is not None and begun.changed > now() - GOES_ON:
        kept = begun.content
    position = arxiv.Position(**kept["position"]) if kept.get("position") else None
    if position is not None and work.limit is not None:
        work.go_on(kept["seen"])
    for begin in (position, None) if position else (None,):
        known_from = None if begin or since else finished
        for page in arxiv.search(outside, categories, begin):
            after = None if page.after is None else asdict(page.after)
            content = {**(state if work.limit is None else {}), "query": words, "position": after}
            outcomes = work.take(Reading(page.entries, page.refused), total=page.total, remembered=(kept_as, content))
            if work.full:
                break
            known = outcomes == {"same"} and known_from is not None and (page.oldest or today) < known_from
            if known or (page.oldest is not None and page.oldest < earliest):
                break
        if work.full:
            break
    finished_now = {"query": words, "finished": today.isoformat()} if work.limit is None else None
    work.take(Reading([], []), remembered=(kept_as, finished_now))


def _import_huggingface(work: _Import, outside: Outside, argument: str | None, since: datetime.date | None) -> None:
    today = now().date()
    try:
        first = datetime.date.fromisoformat(argument) if argument else None
    except ValueError:
        raise DataError(f"'{argument}' is no day", f"write it as {today.isoformat()}") from None
    last = first or today
    day = first or since or today - datetime.timedelta(days=VOTING_DAYS - 1)
    while day <= last and not work.full:
        work.take_all(huggingface.daily(outside, day))
        day += datetime.timedelta(days=1)


def _kind(source: str, argument: str | None) -> str:
    if source not in SOURCES:
        raise UnknownNameError("source", source, SOURCES)
    if source != "auto":
        return source
    path = Path(argument or "")
    kind = "json" if argument and path.is_dir() else _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ConfigurationError(
            f"'{argument or ''}' is no bibliography and no folder",
            f"name a folder, a file that ends in {', '.join(_SUFFIXES)}, or a source: {', '.join(SOURCES[1:])}",
        )
    return kind


def _categories(settings: HubSettings, argument: str | None) -> tuple[str, ...]:
    return tuple(argument.replace(",", " ").split()) if argument else settings.arxiv_categories


def _remember(transaction: Transaction, name: str, content: dict[str, Any] | None) -> None:
    row = transaction.get(SourceState, name)
    if content is None:
        transaction.execute(delete(SourceState).where(SourceState.name == name))
    elif row is None:
        transaction.add(SourceState(name=name, content=content))
    else:
        row.content = content
